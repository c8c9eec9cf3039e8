//! `/connz`: every field in its place, identity, subscriptions, and pages cut from several
//! shards against a naive list.

use proptest::prelude::*;

use super::*;

#[test]
fn connz_is_byte_for_byte_as_expected() {
    let mut one = conn(7, "A");
    one.name = "n<1>&é".into();
    one.lang = "go".into();
    one.version = "1.2.3".into();
    let expected = r#"{
  "server_id": "NID",
  "now": "2026-11-24T08:19:49.716Z",
  "num_connections": 1,
  "total": 1,
  "offset": 0,
  "limit": 1024,
  "connections": [
    {
      "cid": 7,
      "kind": "Client",
      "type": "nats",
      "ip": "127.0.0.1",
      "port": 5000,
      "start": "2026-11-24T08:19:29.716Z",
      "last_activity": "2026-11-24T08:19:46.716Z",
      "rtt": "506µs",
      "uptime": "20s",
      "idle": "3s",
      "pending_bytes": 0,
      "in_msgs": 0,
      "out_msgs": 0,
      "in_bytes": 0,
      "out_bytes": 0,
      "subscriptions": 1,
      "name": "n\u003c1\u003e\u0026é",
      "lang": "go",
      "version": "1.2.3"
    }
  ]
}"#;
    assert_eq!(ask("/connz", &[shard(0, vec![one], vec![])]), expected);
}

#[test]
fn connz_shows_everything_in_its_place() {
    let mut full = closed(7, "A");
    full.figures.stalls = 1;
    full.name = "n".into();
    full.lang = "go".into();
    full.version = "1".into();
    full.client_type = ClientType::Mqtt;
    full.mqtt_client = "m".into();
    full.issuer_key = "AKEY".into();
    full.tags = vec!["t".into()];
    full.tls = Some(TlsSnapshot {
        version: "1.3",
        cipher_suite: "TLS_AES_128_GCM_SHA256".into(),
        peer_certs: vec![PeerCert {
            subject: "CN=x".into(),
            spki_sha256: "aa".into(),
            cert_sha256: "bb".into(),
        }],
        first: true,
    });
    let text = ask("/connz?state=closed&auth=1&subs=detail", &[shard(0, vec![], vec![full])]);
    let expected = "server_id:s now:s num_connections:n total:n offset:n limit:n connections:l \
        ..cid:n ..kind:s ..type:s ..ip:s ..port:n ..start:s ..last_activity:s ..stop:s \
        ..reason:s ..rtt:s ..uptime:s ..idle:s ..pending_bytes:n ..in_msgs:n ..out_msgs:n \
        ..in_bytes:n ..out_bytes:n ..stalls:n ..subscriptions:n ..name:s ..lang:s ..version:s \
        ..tls_version:s ..tls_cipher_suite:s ..tls_peer_certs:l ....subject:s \
        ....spki_sha256:s ....cert_sha256:s ..tls_first:b ..authorized_user:s ..account:s \
        ..subscriptions_list_detail:l ....account:s ....account_tag:s ....subject:s \
        ....qgroup:s ....sid:s ....msgs:n ....max:n ....cid:n ..issuer_key:s ..name_tag:s \
        ..tags:l ..mqtt_client:s";
    assert_eq!(shape(&text), expected);
    assert!(text.contains("\"uptime\": \"19s\",\n      \"idle\": \"2s\""), "{text}");
}

#[test]
fn connz_shows_identity_only_when_asked_and_as_nats_server_does() {
    let shards = [shard(0, vec![conn(1, "A"), conn(2, "$G")], vec![closed(3, "$G")])];
    let plain = ask("/connz?state=any", &shards);
    assert!(!plain.contains("user1") && !plain.contains("account") && !plain.contains("name_tag"));
    let text = ask("/connz?state=any&auth=1", &shards);
    let rows: Vec<&str> = text.split("\"cid\"").skip(1).collect();
    assert!(rows[0].contains("\"account\": \"A\",\n      \"name_tag\": \"A\""));
    // The global account is only a tag, and not even that once the connection is closed.
    assert!(!rows[1].contains("\"account\"") && rows[1].contains("\"name_tag\": \"$G\""));
    assert!(rows[2].contains("user3") && !rows[2].contains("name_tag"));
    let mut failed = closed(4, "A");
    failed.account = None;
    let text = ask("/connz?state=closed&auth=1", &[shard(0, vec![], vec![failed])]);
    assert!(text.contains("\"authorized_user\": \"user4\"") && !text.contains("name_tag"));
}

#[test]
fn connz_lists_subscriptions_as_asked() {
    let shards = [shard(0, vec![conn(1, "A")], vec![])];
    assert!(!ask("/connz", &shards).contains("subscriptions_list"));
    let list = ask("/connz?subs=1", &shards);
    assert!(list.contains("\"subscriptions_list\": [\n        \"x.\\u003e\"\n      ]"), "{list}");
    let detail = ask("/connz?subs=detail", &shards);
    assert!(detail.contains("\"subscriptions_list_detail\": [\n        {\n          \"subject\""));
}

#[test]
fn connz_of_an_unknown_account_is_null() {
    let text = ask("/connz?acc=NOPE&offset=4&cid=3", &[]);
    assert_eq!(
        text,
        "{\n  \"server_id\": \"\",\n  \"now\": \"2026-11-24T08:19:49.716Z\",\n  \
         \"num_connections\": 0,\n  \"total\": 0,\n  \"offset\": 4,\n  \"limit\": 1,\n  \
         \"connections\": null\n}"
    );
    assert!(ask("/connz?acc=A", &[]).ends_with("\"connections\": []\n}"));
}

/// Gathers from naive shards as the driver would, and gives the ids of the page and the total.
fn page_over_shards(address: &str, shards: &[Vec<ConnSnapshot>]) -> (Vec<u64>, u64) {
    let (path, query) = address.split_once('?').unwrap();
    let request = parse_request("", path.as_bytes(), query.as_bytes()).outcome.unwrap();
    let needs = request.needs(NOW);
    let pick = |need: &Option<ConnsNeed>, conns: Vec<&ConnSnapshot>| match need {
        None => (0, vec![]),
        Some(need) => {
            let (total, rows) = need.pick(conns.into_iter(), |conn| ConnLook {
                figures: conn.figures,
                account: conn.account.as_deref(),
                user: &conn.user,
                mqtt_client: &conn.mqtt_client,
            });
            assert!(rows.len() <= need.rows_max);
            (total, rows.into_iter().cloned().collect())
        }
    };
    let snapshots: Vec<ShardSnapshot> = shards
        .iter()
        .map(|conns| {
            let (gone, here): (Vec<_>, Vec<_>) =
                conns.iter().partition(|conn| conn.figures.stop_ns.is_some());
            let (conns_total, conns) = pick(&needs.conns, here);
            let (closed_total, closed) = pick(&needs.closed, gone);
            ShardSnapshot { conns_total, conns, closed_total, closed, ..Default::default() }
        })
        .collect();
    let response = render(&request, &facts(), &snapshots);
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let rows = json["connections"].as_array().unwrap();
    assert_eq!(json["num_connections"].as_u64().unwrap(), rows.len() as u64);
    let ids = rows.iter().map(|row| row["cid"].as_u64().unwrap()).collect();
    (ids, json["total"].as_u64().unwrap())
}

proptest! {
    #[test]
    fn pages_over_shards_equal_the_naive_list(
        rows in prop::collection::vec((0_usize..3, 0_u64..5, 0_u64..5, any::<bool>()), 0..50),
        key in 0_usize..14,
        state in 0_usize..3,
        account in any::<bool>(),
        user in any::<bool>(),
        offset in 0_usize..30,
        limit in 1_usize..20,
    ) {
        let sort = SortKey::ALL[key];
        let state = if sort.needs_closed() { "closed" } else { ["open", "closed", "any"][state] };
        let mut shards = vec![vec![]; 3];
        let mut all = vec![];
        for (cid, (home, figure, kind, is_closed)) in (1..).zip(rows) {
            let account = if kind < 3 { "A" } else { "$G" };
            let mut one = if is_closed { closed(cid, account) } else { conn(cid, account) };
            one.user = format!("u{}", figure % 2);
            one.figures.subs = figure;
            one.figures.in_msgs = kind;
            one.figures.rtt_ns = figure + kind;
            one.figures.start_ns = NOW - figure * SECOND;
            shards[home].push(one.clone());
            all.push(one);
        }
        let mut address =
            format!("/connz?sort={}&state={state}&offset={offset}&limit={limit}", sort.name());
        if account { address.push_str("&acc=A"); }
        if user { address.push_str("&user=u1"); }
        let (ids, total) = page_over_shards(&address, &shards);
        all.retain(|one| match state {
            "open" => one.figures.stop_ns.is_none(),
            "closed" => one.figures.stop_ns.is_some(),
            _ => true,
        });
        all.retain(|one| !account || one.account.as_deref() == Some("A"));
        prop_assert_eq!(total, all.len() as u64);
        all.retain(|one| !user || one.user == "u1");
        all.sort_by(|one, other| sort.compare(NOW, &one.figures, &other.figures));
        let naive: Vec<u64> =
            all.iter().skip(offset).take(limit).map(|one| one.figures.cid).collect();
        prop_assert_eq!(ids, naive);
    }
}
