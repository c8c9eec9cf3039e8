//! Replies as a whole: names, order and types of every field, merging and paging over shards,
//! hostile queries, and that `/metrics` can be read.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::settings::{METRICS_ACCOUNTS_MAX, PAGE_REACH_MAX};
use super::*;

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_795_508_389 * SECOND + 716_000_000;

fn facts() -> ServerFacts {
    ServerFacts {
        server_id: "NID".into(),
        server_name: "orc".into(),
        version: "2.15.1".into(),
        proto: 1,
        runtime: "rustc".into(),
        build_version: "0.1.0".into(),
        host: "127.0.0.1".into(),
        port: 4222,
        auth_required: true,
        max_connections: 65_536,
        ping_interval_ns: 120 * SECOND,
        ping_max: 2,
        auth_timeout_s: 2.0,
        tls_timeout_s: 3.5,
        start_ns: NOW - 90 * SECOND,
        now_ns: NOW,
        cores: 2,
        max_procs: 2,
        config_load_ns: NOW - 90 * SECOND,
        system_account: "SYS".into(),
        accounts: ["SYS", "$G", "A"]
            .map(|name| AccountFacts {
                name: name.into(),
                ..Default::default()
            })
            .into(),
        ..Default::default()
    }
}

fn conn(cid: u64, account: &str) -> ConnSnapshot {
    ConnSnapshot {
        figures: ConnFigures {
            cid,
            start_ns: NOW - 20 * SECOND,
            last_activity_ns: NOW - 3 * SECOND,
            rtt_ns: 506_789,
            subs: 1,
            ..Default::default()
        },
        ip: "127.0.0.1".into(),
        port: 5000,
        user: format!("user{cid}"),
        account: Some(account.into()),
        subs: vec![SubSnapshot {
            account: account.into(),
            subject: "x.>".into(),
            queue: "q".into(),
            sid: "1".into(),
            msgs: 2,
            max: 5,
            cid,
        }],
        ..Default::default()
    }
}

fn closed(cid: u64, account: &str) -> ConnSnapshot {
    let mut conn = conn(cid, account);
    conn.figures.stop_ns = Some(NOW - SECOND);
    conn.figures.reason = "Client Closed";
    conn
}

fn shard(number: u16, conns: Vec<ConnSnapshot>, closed: Vec<ConnSnapshot>) -> ShardSnapshot {
    ShardSnapshot {
        shard: number,
        connections: conns.len() as u64,
        conns_total: conns.len() as u64,
        closed_total: closed.len() as u64,
        conns,
        closed,
        peers: vec![PeerQueue {
            peer: 1 - number,
            msgs: 3,
            bytes: 40,
            batches: 1,
        }],
        ..Default::default()
    }
}

fn ask_of(address: &str, facts: &ServerFacts, shards: &[ShardSnapshot]) -> Response {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    match parse_request("", path.as_bytes(), query.as_bytes()).outcome {
        Ok(request) => render(&request, facts, shards),
        Err(response) => response,
    }
}

fn ask(address: &str, shards: &[ShardSnapshot]) -> String {
    let response = ask_of(address, &facts(), shards);
    assert_eq!(response.status, 200, "{address}");
    String::from_utf8(response.body).unwrap()
}

/// The keys of indented JSON in their order, one word each: dots for the depth, then the name,
/// then a letter for the type (string, number, boolean, null, list, object).
fn shape(json: &str) -> String {
    let mut words = Vec::new();
    for line in json.lines() {
        let trimmed = line.trim_start();
        let Some((key, value)) = trimmed
            .strip_prefix('"')
            .and_then(|rest| rest.split_once("\": "))
        else {
            continue;
        };
        let kind = match value.as_bytes()[0] {
            b'"' => 's',
            b't' | b'f' => 'b',
            b'n' => '0',
            b'[' => 'l',
            b'{' => 'o',
            _ => 'n',
        };
        let depth = ".".repeat((line.len() - trimmed.len()) / 2 - 1);
        words.push(format!("{depth}{key}:{kind}"));
    }
    words.join(" ")
}

#[test]
fn varz_has_the_fields_of_nats_server() {
    let expected = "server_id:s server_name:s version:s proto:n go:s host:s port:n \
        auth_required:b max_connections:n ping_interval:n ping_max:n http_host:s http_port:n \
        http_base_path:s https_port:n auth_timeout:n max_control_line:n max_payload:n \
        max_pending:n cluster:o gateway:o leaf:o mqtt:o websocket:o jetstream:o tls_timeout:n \
        write_deadline:n start:s now:s uptime:s mem:n cores:n gomaxprocs:n cpu:n connections:n \
        total_connections:n routes:n remotes:n leafnodes:n in_msgs:n in_bytes:n \
        in_client_msgs:n in_client_bytes:n out_msgs:n out_bytes:n out_client_msgs:n \
        out_client_bytes:n slow_consumers:n stale_connections:n stalled_clients:n \
        subscriptions:n http_req_stats:o config_load_time:s config_digest:s system_account:s \
        slow_consumer_stats:o .clients:n .routes:n .gateways:n .leafs:n \
        stale_connection_stats:o .clients:n .routes:n .gateways:n .leafs:n \
        disk_io_wait_stats:o .waiters:n .waits:n .wait_time:n .max_wait_time:n";
    let text = ask("/varz", &[]);
    assert_eq!(shape(&text), expected);
    for line in [
        "  \"auth_timeout\": 2,",
        "  \"tls_timeout\": 3.5,",
        "  \"ping_interval\": 120000000000,",
        "  \"uptime\": \"1m30s\",",
        "  \"now\": \"2026-11-24T08:19:49.716Z\",",
        "  \"cluster\": {},",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn varz_shows_what_is_configured_in_its_place() {
    let mut full = facts();
    full.git_commit = "abc".into();
    full.tls_required = true;
    full.tls_verify = true;
    full.connect_urls = vec!["h:1".into()];
    full.max_subscriptions = 100;
    full.write_timeout = "close".into();
    full.http_requests.record(Endpoint::Varz);
    full.tags = vec!["az:1".into()];
    full.metadata = BTreeMap::from([("a".into(), "b".into())]);
    full.feature_flags = BTreeMap::from([("js_x".into(), false)]);
    full.tls_cert_not_after_s = Some(1_804_148_438);
    let response = ask_of("/varz", &full, &[]);
    let text = String::from_utf8(response.body).unwrap();
    let shape = shape(&text);
    for part in [
        "proto:n git_commit:s go:s",
        "auth_required:b tls_required:b tls_verify:b connect_urls:l max_connections:n \
         max_subscriptions:n ping_interval:n",
        "write_deadline:n write_timeout:s start:s",
        "http_req_stats:o ./varz:n config_load_time:s",
        "config_digest:s tags:l metadata:o .a:s feature_flags:o .js_x:b system_account:s",
        ".max_wait_time:n tls_cert_not_after:s",
    ] {
        assert!(shape.contains(part), "{part} in {shape}");
    }
    assert!(
        text.ends_with("\"tls_cert_not_after\": \"2027-03-04T08:20:38Z\"\n}"),
        "{text}"
    );
}

#[test]
fn varz_adds_up_the_shards() {
    let traffic = Traffic {
        in_msgs: 1,
        in_bytes: 2,
        out_msgs: 3,
        out_bytes: 4,
    };
    let kinds = KindCounts {
        clients: 1,
        routes: 2,
        gateways: 3,
        leafs: 4,
    };
    let one = ShardSnapshot {
        traffic,
        slow_consumers: kinds,
        stale: kinds,
        stalls: 5,
        connections: 6,
        total_connections: 7,
        subscriptions: 8,
        ..Default::default()
    };
    let text = ask("/varz", &[one.clone(), one]);
    for (name, value) in [
        ("in_msgs", 2),
        ("out_bytes", 8),
        ("in_client_msgs", 0),
        ("slow_consumers", 20),
        ("stale_connections", 20),
        ("stalled_clients", 10),
        ("connections", 12),
        ("total_connections", 14),
        ("subscriptions", 16),
    ] {
        assert!(
            text.contains(&format!("\n  \"{name}\": {value},")),
            "{name} in {text}"
        );
    }
}

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
    let text = ask(
        "/connz?state=closed&auth=1&subs=detail",
        &[shard(0, vec![], vec![full])],
    );
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
    assert!(
        text.contains("\"uptime\": \"19s\",\n      \"idle\": \"2s\""),
        "{text}"
    );
}

#[test]
fn connz_shows_identity_only_when_asked_and_as_nats_server_does() {
    let shards = [shard(
        0,
        vec![conn(1, "A"), conn(2, "$G")],
        vec![closed(3, "$G")],
    )];
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
    let text = ask(
        "/connz?state=closed&auth=1",
        &[shard(0, vec![], vec![failed])],
    );
    assert!(text.contains("\"authorized_user\": \"user4\"") && !text.contains("name_tag"));
}

#[test]
fn connz_lists_subscriptions_as_asked() {
    let shards = [shard(0, vec![conn(1, "A")], vec![])];
    assert!(!ask("/connz", &shards).contains("subscriptions_list"));
    let list = ask("/connz?subs=1", &shards);
    assert!(
        list.contains("\"subscriptions_list\": [\n        \"x.\\u003e\"\n      ]"),
        "{list}"
    );
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
    let request = parse_request("", path.as_bytes(), query.as_bytes())
        .outcome
        .unwrap();
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
            let (gone, here): (Vec<_>, Vec<_>) = conns
                .iter()
                .partition(|conn| conn.figures.stop_ns.is_some());
            let (conns_total, conns) = pick(&needs.conns, here);
            let (closed_total, closed) = pick(&needs.closed, gone);
            ShardSnapshot {
                conns_total,
                conns,
                closed_total,
                closed,
                ..Default::default()
            }
        })
        .collect();
    let response = render(&request, &facts(), &snapshots);
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let rows = json["connections"].as_array().unwrap();
    assert_eq!(json["num_connections"].as_u64().unwrap(), rows.len() as u64);
    let ids = rows
        .iter()
        .map(|row| row["cid"].as_u64().unwrap())
        .collect();
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

    #[test]
    fn hostile_queries_are_answered(
        path in prop::sample::select(Endpoint::ALL.map(Endpoint::path).to_vec()),
        names in prop::collection::vec(
            prop::sample::select(vec![
                "sort", "auth", "subs", "offset", "limit", "cid", "state", "user", "acc", "test",
                "mqtt_client", "unused", "all", "queues", "details", "stream", "raft",
            ]),
            0..5,
        ),
        values in prop::collection::vec(
            prop_oneof![
                Just("9223372036854775807".to_owned()),
                Just("-9223372036854775808".to_owned()),
                Just("18446744073709551615".to_owned()),
                Just("18446744073709551616".to_owned()),
                Just("1".to_owned()),
                Just("any".to_owned()),
                Just("%00%ff<\"".to_owned()),
                ".{0,12}",
            ],
            5,
        ),
    ) {
        let pairs: Vec<String> =
            names.iter().zip(&values).map(|(name, value)| format!("{name}={value}")).collect();
        let address = format!("{path}?{}", pairs.join("&"));
        let (_, query) = address.split_once('?').unwrap();
        let parsed = parse_request("", path.as_bytes(), query.as_bytes());
        if let Ok(request) = &parsed.outcome {
            let needs = request.needs(NOW);
            for rows in [&needs.conns, &needs.closed].into_iter().flatten() {
                prop_assert!(rows.rows_max <= PAGE_REACH_MAX);
            }
            prop_assert!(needs.subs.is_none_or(|subs| subs.rows_max <= PAGE_REACH_MAX));
        }
        let shards = [shard(0, vec![conn(1, "A")], vec![closed(2, "A")])];
        let response = ask_of(&address, &facts(), &shards);
        prop_assert!([200, 400, 404].contains(&response.status));
        if response.status == 200 && response.content_type == "application/json"
            && path != "/stacksz"
        {
            let read: Result<serde_json::Value, _> = serde_json::from_slice(&response.body);
            prop_assert!(read.is_ok());
        }
    }
}

#[test]
fn subsz_has_figures_and_pages() {
    let stats = IndexStats {
        subs: 2,
        cache_entries: 9,
        inserts: 3,
        removes: 1,
        matches: 32,
        cache_hits: 13,
        fanout_max: 4,
        fanout_sum: 8,
    };
    let account = AccountSnapshot {
        name: "A".into(),
        index: stats,
        ..Default::default()
    };
    let sub = |cid, subject: &str| SubSnapshot {
        account: "A".into(),
        subject: subject.into(),
        sid: "1".into(),
        cid,
        ..Default::default()
    };
    let shards = [1, 2].map(|number| ShardSnapshot {
        index: stats,
        accounts: vec![account.clone()],
        subs_total: 2,
        subs: vec![sub(number, "x"), sub(number, "y")],
        ..Default::default()
    });
    let text = ask("/subsz", &shards);
    assert_eq!(
        shape(&text),
        "server_id:s now:s num_subscriptions:n num_cache:n num_inserts:n num_removes:n \
         num_matches:n cache_hit_rate:n max_fanout:n avg_fanout:n total:n offset:n limit:n"
    );
    for line in [
        "\"cache_hit_rate\": 0.40625,",
        "\"avg_fanout\": 0.8888888888888888,",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("\"num_subscriptions\": 4,") && text.contains("\"total\": 0,"));
    let text = ask("/subsz?subs=1&offset=1&limit=2", &shards);
    let list = "subscriptions_list:l ..account:s ..account_tag:s ..subject:s ..sid:s ..msgs:n \
                ..cid:n";
    assert!(shape(&text).contains(list), "{text}");
    assert!(text.contains("\"total\": 4,") && text.matches("\"cid\"").count() == 2);
    let (one, two) = (
        text.find("\"cid\": 1").unwrap(),
        text.find("\"cid\": 2").unwrap(),
    );
    assert!(one < two);
    let text = ask("/subsz?acc=NOPE", &shards);
    assert!(text.contains("\"server_id\": \"NID\"") && text.contains("\"num_matches\": 0,"));
    let beyond = ask("/subsz?subs=1&offset=9223372036854775807", &shards);
    assert!(!beyond.contains("subscriptions_list"));
}

#[test]
fn links_are_empty_but_well_formed() {
    assert_eq!(
        ask("/routez?subs=detail", &[]),
        "{\n  \"server_id\": \"NID\",\n  \"server_name\": \"orc\",\n  \
         \"now\": \"2026-11-24T08:19:49.716Z\",\n  \"num_routes\": 0,\n  \"routes\": []\n}"
    );
    assert_eq!(
        ask("/gatewayz", &[]),
        "{\n  \"server_id\": \"NID\",\n  \"now\": \"2026-11-24T08:19:49.716Z\",\n  \
         \"outbound_gateways\": {},\n  \"inbound_gateways\": {}\n}"
    );
    assert_eq!(
        ask("/leafz", &[]),
        "{\n  \"server_id\": \"NID\",\n  \"now\": \"2026-11-24T08:19:49.716Z\",\n  \
         \"leafnodes\": 0,\n  \"leafs\": []\n}"
    );
    let raftz = ask_of("/raftz", &facts(), &[]);
    assert_eq!(
        (raftz.status, raftz.body),
        (404, b"No Raft nodes registered".to_vec())
    );
}

#[test]
fn accountz_lists_and_details() {
    let text = ask("/accountz", &[]);
    assert_eq!(
        shape(&text),
        "server_id:s now:s system_account:s accounts:l"
    );
    assert!(
        text.contains("[\n    \"$G\",\n    \"A\",\n    \"SYS\"\n  ]"),
        "{text}"
    );
    let part = AccountSnapshot {
        name: "A".into(),
        connections: 2,
        index: IndexStats {
            subs: 3,
            ..Default::default()
        },
        ..Default::default()
    };
    let shards = [0, 1].map(|number| ShardSnapshot {
        shard: number,
        accounts: vec![part.clone()],
        ..Default::default()
    });
    let text = ask("/accountz?acc=A", &shards);
    let plain = "server_id:s now:s system_account:s account_detail:o .account_name:s \
        .update_time:s .expired:b .complete:b .jetstream_enabled:b .leafnode_connections:n \
        .client_connections:n .subscriptions:n .name_tag:s .sublist_stats:o \
        ..num_subscriptions:n ..num_cache:n ..num_inserts:n ..num_removes:n ..num_matches:n \
        ..cache_hit_rate:n ..max_fanout:n ..avg_fanout:n";
    assert_eq!(shape(&text), plain);
    assert!(text.contains("\"client_connections\": 4,\n    \"subscriptions\": 6,"));
    assert!(shape(&ask("/accountz?acc=SYS", &[])).contains(".update_time:s .is_system:b"));
    let unknown = ask_of("/accountz?acc=A%20%3c", &facts(), &[]);
    assert_eq!(
        (unknown.status, unknown.body),
        (400, b"Account A < does not exist".to_vec())
    );
}

#[test]
fn accountz_shows_sharing() {
    let mut facts = facts();
    let account = &mut facts.accounts[2];
    let to = MappingFacts {
        subject: "m.out".into(),
        weight: 100,
        cluster: String::new(),
    };
    account.mappings.insert("m.in".into(), vec![to]);
    account.exports.push(ExportFacts {
        subject: "svc.>".into(),
        is_service: true,
        response_type: "Singleton".into(),
        approved_accounts: vec![],
    });
    account.imports.push(ImportFacts {
        subject: "svc.q".into(),
        account: "B".into(),
        to: "q".into(),
        local_subject: "q".into(),
        is_service: true,
        is_invalid: false,
        shares_client: false,
    });
    let text = String::from_utf8(ask_of("/accountz?acc=A", &facts, &[]).body).unwrap();
    let expected = ".mappings:o ..m.in:l ....subject:s ....weight:n .exports:l ...subject:s \
        ...type:s ...response_type:s .imports:l ...subject:s ...account:s ...to:s \
        ...local_subject:s ...type:s ...invalid:b ...share:b ...tracking:b .name_tag:s";
    assert!(shape(&text).contains(expected), "{}", shape(&text));
}

#[test]
fn accstatz_shows_used_accounts_or_all() {
    let part = AccountSnapshot {
        name: "A".into(),
        connections: 1,
        traffic: Traffic {
            in_msgs: 1,
            in_bytes: 2,
            out_msgs: 3,
            out_bytes: 4,
        },
        ..Default::default()
    };
    let shards = [0, 1].map(|number| ShardSnapshot {
        shard: number,
        accounts: vec![part.clone()],
        ..Default::default()
    });
    let links = "....gateways:o .....msgs:n .....bytes:n ....routes:o .....msgs:n .....bytes:n \
                 ....leafs:o .....msgs:n .....bytes:n";
    let links = links.replace("....", "...").replace(".....", "....");
    let data = format!("...msgs:n ...bytes:n {links}");
    let text = ask("/accstatz", &shards);
    assert_eq!(
        shape(&text),
        format!(
            "server_id:s now:s account_statz:l ..acc:s ..name:s ..conns:n ..leafnodes:n \
             ..total_conns:n ..num_subscriptions:n ..sent:o {data} ..received:o {data} \
             ..slow_consumers:n"
        )
    );
    assert!(
        text.contains("\"sent\": {\n        \"msgs\": 6,\n        \"bytes\": 8,"),
        "{text}"
    );
    let text = ask("/accstatz?unused=1", &shards);
    let names: Vec<usize> = ["\"acc\": \"$G\"", "\"acc\": \"A\"", "\"acc\": \"SYS\""]
        .map(|it| text.find(it).unwrap())
        .into();
    assert!(names.is_sorted());
}

#[test]
fn jsz_tells_that_it_is_off() {
    assert_eq!(
        shape(&ask("/jsz?consumers=1&config=1", &[])),
        "memory:n storage:n reserved_memory:n reserved_storage:n accounts:n ha_assets:n api:o \
         .level:n .total:n .errors:n server_id:s now:s disabled:b config:o .max_memory:n \
         .max_storage:n streams:n consumers:n messages:n bytes:n total:n"
    );
    let leader = ask_of("/jsz?leader-only=1", &facts(), &[]);
    assert_eq!(
        (leader.status, leader.body),
        (400, b"filtered response: not leader".to_vec())
    );
}

#[test]
fn healthz_judges_requests_and_readiness() {
    let cases = [
        ("/healthz?details=1", 200, r#"{"status":"ok"}"#),
        (
            "/healthz?account=NOPE&stream=S&consumer=C",
            200,
            r#"{"status":"ok"}"#,
        ),
        (
            "/healthz?stream=S",
            400,
            r#"{"status":"error","error":"\"account\" must not be empty when checking stream health"}"#,
        ),
        (
            "/healthz?consumer=c",
            400,
            r#"{"status":"error","error":"\"stream\" must not be empty when checking consumer health"}"#,
        ),
        (
            "/healthz?stream=S&consumer=C&details=1",
            400,
            r#"{"status":"error","errors":[{"type":"BAD_REQUEST","error":"\"account\" must not be empty when checking stream health"}]}"#,
        ),
    ];
    for (address, status, body) in cases {
        let response = ask_of(address, &facts(), &[]);
        assert_eq!(response.status, status, "{address}");
        assert_eq!(String::from_utf8(response.body).unwrap(), body);
        assert!(response.cors);
    }
    let mut starting = facts();
    starting.not_ready = Some("not listening".into());
    let response = ask_of("/healthz", &starting, &[]);
    assert_eq!(response.status, 503);
    assert_eq!(
        response.body,
        br#"{"status":"unavailable","error":"not listening"}"#
    );
}

#[test]
fn ipqueuesz_filters() {
    let mut shards = [shard(0, vec![], vec![]), shard(1, vec![], vec![])];
    shards[1].peers[0].msgs = 0;
    let busy = "{\n   \"Shard 0 to shard 1\": {\n      \"pending\": 3\n   }\n}";
    assert_eq!(ask("/ipqueuesz", &shards), busy);
    assert_eq!(
        ask("/ipqueuesz?all=1", &shards).matches("pending").count(),
        2
    );
    assert_eq!(ask("/ipqueuesz?all=1&queues=0+to", &shards), busy);
    assert_eq!(ask("/ipqueuesz?queues=foo", &shards), "{}");
}

#[test]
fn pages_for_people_are_served() {
    let mut facts = facts();
    facts.server_name = "<script>".into();
    facts.http_base_path = "/nats".into();
    let response = render(&MonitorRequest::Root, &facts, &[]);
    let page = String::from_utf8(response.body).unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
    assert!(page.contains("href=\"/nats/varz\""));
    assert_eq!(response.content_type, "text/html; charset=utf-8");
    let mut busy = shard(0, vec![], vec![]);
    busy.turns.times.record(1500);
    busy.turns.times.record(u64::MAX);
    let text = ask("/stacksz", &[busy]);
    assert!(
        text.contains("shard 0\n") && text.contains("to shard 1: 3 messages"),
        "{text}"
    );
    let vars = ask("/debug/vars", &[]);
    assert!(
        vars.contains("\"cmdline\": []") && vars.contains("\"Sys\": 0"),
        "{vars}"
    );
}

/// Reads Prometheus text strictly enough to notice what a server would reject: the type before
/// the samples, families in one piece, names and labels of legal form, no series twice,
/// cumulative buckets that end in `+Inf` and agree with the count. Gives all series.
fn read_metrics(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut family = String::new();
    let mut buckets: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty());
            family = name.to_owned();
            assert!(!families.contains_key(name), "{name} twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            families.insert(name.to_owned(), kind.to_owned());
            continue;
        }
        let (id, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (name, labels) = id.split_once('{').unwrap_or((id, "}"));
        assert!(name.starts_with("shearwater_"));
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        match families[&family].as_str() {
            "counter" => assert!(name == family && name.ends_with("_total"), "{name}"),
            "gauge" => assert!(name == family && !name.ends_with("_total"), "{name}"),
            "histogram" => {
                let part = name.strip_prefix(&family).unwrap();
                assert!(["_bucket", "_sum", "_count"].contains(&part));
            }
            other => panic!("{other}"),
        }
        let labels = read_labels(labels);
        if let Some((_, bound)) = labels.iter().find(|(label, _)| label == "le") {
            let bound: f64 = bound.replace("+Inf", "inf").parse().unwrap();
            let last = buckets.entry(labels[0].1.clone()).or_insert((0.0, 0.0));
            assert!(bound > last.0 && value >= last.1, "{line}");
            *last = (bound, value);
        }
        if name.ends_with("_count") {
            assert_eq!(buckets[&labels[0].1], (f64::INFINITY, value));
        }
        assert!(series.insert(id.to_owned(), value).is_none(), "{id} twice");
    }
    series
}

fn read_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((label, tail)) = rest.split_once("=\"") {
        let label = label.trim_start_matches(',');
        assert!(
            label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{label}"
        );
        let (mut value, mut letters, mut ended) = (String::new(), tail.chars(), false);
        while let Some(letter) = letters.next() {
            match letter {
                '"' => {
                    ended = true;
                    break;
                }
                '\\' => match letters.next().unwrap() {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    other => panic!("\\{other}"),
                },
                other => value.push(other),
            }
        }
        assert!(ended, "{text}");
        labels.push((label.to_owned(), value));
        rest = letters.as_str();
    }
    assert_eq!(rest, "}", "{text}");
    let names: BTreeSet<_> = labels.iter().map(|(label, _)| label).collect();
    assert_eq!(names.len(), labels.len());
    labels
}

#[test]
fn metrics_can_be_read() {
    let mut shards = [
        shard(0, vec![conn(1, "A")], vec![]),
        shard(1, vec![], vec![]),
    ];
    shards[0].slow_by_write_deadline = 4;
    shards[0].turns.times.record(1_500);
    shards[0].turns.times.record(2 * SECOND);
    shards[0].turns.times.record(20 * SECOND);
    shards[1].turns.times.record(1);
    let account = |name: &str| AccountSnapshot {
        name: name.into(),
        ..Default::default()
    };
    shards[1].accounts = vec![
        account("q\"\\\n}é"),
        account("A"),
        account(&"l".repeat(5000)),
    ];
    shards[1]
        .accounts
        .push(account(&format!("{}x", "l".repeat(4999))));
    let mut facts = facts();
    facts.http_requests.record(Endpoint::Varz);
    facts.cpu_percent = 1.5;
    let response = ask_of("/metrics", &facts, &shards);
    assert_eq!(
        response.content_type,
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let series = read_metrics(&String::from_utf8(response.body).unwrap());
    for (id, value) in [
        (
            "build_info{version=\"0.1.0\",nats_version=\"2.15.1\",commit=\"\",compiler=\"rustc\"}",
            1.0,
        ),
        ("connections{shard=\"0\"}", 1.0),
        (
            "slow_consumers_total{shard=\"0\",cause=\"write_deadline\"}",
            4.0,
        ),
        ("peer_queue_messages{shard=\"0\",peer=\"1\"}", 3.0),
        ("turn_seconds_bucket{shard=\"0\",le=\"0.000001024\"}", 0.0),
        ("turn_seconds_bucket{shard=\"0\",le=\"0.000002048\"}", 1.0),
        ("turn_seconds_bucket{shard=\"0\",le=\"+Inf\"}", 3.0),
        ("turn_seconds_sum{shard=\"0\"}", 22.000_001_5),
        ("turn_seconds_count{shard=\"1\"}", 1.0),
        ("http_requests_total{path=\"/varz\"}", 1.0),
        ("account_connections{account=\"q\\\"\\\\\\n}é\"}", 0.0),
        ("accounts_unlisted", 1.0),
        ("cpu_percent", 1.5),
        ("ready", 1.0),
        ("uptime_seconds", 90.0),
    ] {
        let found = series.get(&format!("shearwater_{id}")).copied();
        assert!(
            found.is_some_and(|found| (found - value).abs() < 1e-9),
            "{id}: {found:?}"
        );
    }
}

#[test]
fn metrics_of_many_accounts_are_bounded() {
    let accounts = |from: usize| -> Vec<AccountSnapshot> {
        let names = from..from + METRICS_ACCOUNTS_MAX;
        names
            .map(|number| AccountSnapshot {
                name: format!("acc{number:04}"),
                connections: number as u64,
                ..Default::default()
            })
            .collect()
    };
    let mut shards = [shard(0, vec![], vec![]), shard(1, vec![], vec![])];
    shards[0].accounts = accounts(0);
    shards[1].accounts = accounts(METRICS_ACCOUNTS_MAX);
    let text = ask("/metrics", &shards);
    read_metrics(&text);
    let listed = text.matches("shearwater_account_connections{").count();
    assert_eq!(listed, METRICS_ACCOUNTS_MAX);
    // The busiest stay; the three configured accounts are idle.
    assert!(text.contains("acc0399") && !text.contains("acc0199"));
    assert!(text.contains("\nshearwater_accounts_unlisted 203\n"));
}
