//! The other endpoints: names, order and types of every field, and the sums over shards.

use std::collections::BTreeMap;

use super::*;

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
    assert!(text.ends_with("\"tls_cert_not_after\": \"2027-03-04T08:20:38Z\"\n}"), "{text}");
}

#[test]
fn varz_adds_up_the_shards() {
    let traffic = Traffic { in_msgs: 1, in_bytes: 2, out_msgs: 3, out_bytes: 4 };
    let kinds = KindCounts { clients: 1, routes: 2, gateways: 3, leafs: 4 };
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
        assert!(text.contains(&format!("\n  \"{name}\": {value},")), "{name} in {text}");
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
    let account = AccountSnapshot { name: "A".into(), index: stats, ..Default::default() };
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
    for line in ["\"cache_hit_rate\": 0.40625,", "\"avg_fanout\": 0.8888888888888888,"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("\"num_subscriptions\": 4,") && text.contains("\"total\": 0,"));
    let text = ask("/subsz?subs=1&offset=1&limit=2", &shards);
    let list = "subscriptions_list:l ..account:s ..account_tag:s ..subject:s ..sid:s ..msgs:n \
                ..cid:n";
    assert!(shape(&text).contains(list), "{text}");
    assert!(text.contains("\"total\": 4,") && text.matches("\"cid\"").count() == 2);
    let (one, two) = (text.find("\"cid\": 1").unwrap(), text.find("\"cid\": 2").unwrap());
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
    assert_eq!((raftz.status, raftz.body), (404, b"No Raft nodes registered".to_vec()));
}

#[test]
fn accountz_lists_and_details() {
    let text = ask("/accountz", &[]);
    assert_eq!(shape(&text), "server_id:s now:s system_account:s accounts:l");
    assert!(text.contains("[\n    \"$G\",\n    \"A\",\n    \"SYS\"\n  ]"), "{text}");
    let part = AccountSnapshot {
        name: "A".into(),
        connections: 2,
        index: IndexStats { subs: 3, ..Default::default() },
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
    assert_eq!((unknown.status, unknown.body), (400, b"Account A < does not exist".to_vec()));
}

#[test]
fn accountz_shows_sharing() {
    let mut facts = facts();
    let account = &mut facts.accounts[2];
    let to = MappingFacts { subject: "m.out".into(), weight: 100, cluster: String::new() };
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
        traffic: Traffic { in_msgs: 1, in_bytes: 2, out_msgs: 3, out_bytes: 4 },
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
    assert!(text.contains("\"sent\": {\n        \"msgs\": 6,\n        \"bytes\": 8,"), "{text}");
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
    assert_eq!((leader.status, leader.body), (400, b"filtered response: not leader".to_vec()));
}

#[test]
fn healthz_judges_requests_and_readiness() {
    let cases = [
        ("/healthz?details=1", 200, r#"{"status":"ok"}"#),
        ("/healthz?account=NOPE&stream=S&consumer=C", 200, r#"{"status":"ok"}"#),
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
    starting.not_ready = Some("server".into());
    let text = "failed to be ready for connections after 1ms: server";
    let response = ask_of("/healthz", &starting, &[]);
    assert_eq!(response.status, 500);
    let body = format!(r#"{{"status":"error","error":"{text}"}}"#);
    assert_eq!(String::from_utf8(response.body).unwrap(), body);
    let response = ask_of("/healthz?details=true", &starting, &[]);
    let error = format!(r#"{{"type":"CONNECTION","error":"{text}"}}"#);
    let body = format!(r#"{{"status":"error","errors":[{error}]}}"#);
    assert_eq!(String::from_utf8(response.body).unwrap(), body);
}

#[test]
fn ipqueuesz_filters() {
    let mut shards = [shard(0, vec![], vec![]), shard(1, vec![], vec![])];
    shards[1].peers[0].msgs = 0;
    let busy = "{\n   \"Shard 0 to shard 1\": {\n      \"pending\": 3\n   }\n}";
    assert_eq!(ask("/ipqueuesz", &shards), busy);
    assert_eq!(ask("/ipqueuesz?all=1", &shards).matches("pending").count(), 2);
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
    assert!(text.contains("shard 0\n") && text.contains("to shard 1: 3 messages"), "{text}");
    let vars = ask("/debug/vars", &[]);
    assert!(vars.contains("\"cmdline\": []") && vars.contains("\"Sys\": 0"), "{vars}");
}
