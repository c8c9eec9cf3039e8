//! JetStream in the replies: names, order and types of fields as recorded from nats-server, and
//! what makes the server unwell.

use wire::api::config::StreamConfig;
use wire::api::info::{ConsumerInfo, SourceInfo, StreamState};

use super::super::settings::{METRICS_CONSUMERS_MAX, METRICS_STREAMS_MAX};
use super::metrics::read_metrics;
use super::*;

fn served() -> ServerFacts {
    let jetstream = JetStreamFacts {
        api_level: 5,
        config: JetStreamConfigFacts {
            max_memory: 1000,
            max_storage: 2000,
            store_dir: "/js/jetstream".into(),
            sync_interval: 120 * SECOND,
            domain: "hub".into(),
            compress_ok: true,
            strict: true,
            ..Default::default()
        },
        limits: JetStreamLimitFacts { default_max_consumers: 1000, ..Default::default() },
        disk_stuck_ns: 5 * SECOND,
    };
    ServerFacts { jetstream: Some(jetstream), ..facts() }
}

fn account(name: &str, memory_max: i64) -> JetStreamAccount {
    JetStreamAccount {
        name: name.into(),
        memory: 10,
        storage: 20,
        streams_memory: 30,
        streams_storage: 40,
        memory_max,
        storage_max: -1,
        api_total: 5,
        api_errors: 1,
    }
}

fn consumer(name: &str) -> ConsumerSnapshot {
    let info = ConsumerInfo {
        stream_name: "S".into(),
        name: name.into(),
        num_pending: 4,
        num_waiting: 1,
        ..Default::default()
    };
    ConsumerSnapshot { info, is_stuck: true }
}

fn stream(account: &str, name: &str) -> StreamSnapshot {
    StreamSnapshot {
        account: account.into(),
        name: name.into(),
        state: StreamState { messages: 3, bytes: 90, last_seq: 7, ..Default::default() },
        config: Some(Box::new(StreamConfig { name: name.into(), ..Default::default() })),
        consumers: vec![consumer("C")],
        direct_consumers: vec![consumer("D")],
        sources: vec![SourceInfo { name: "O".into(), lag: 2, ..Default::default() }],
        lost: 1,
        ..Default::default()
    }
}

/// Two shards with a stream of account A each; the second's name comes first.
fn shards() -> [ShardSnapshot; 2] {
    let mut shards = [shard(0, vec![], vec![]), shard(1, vec![], vec![])];
    for (at, name) in ["T", "S"].into_iter().enumerate() {
        shards[at].jetstream = Some(Box::new(JetStreamSnapshot {
            accounts: vec![account("$G", -1), account("A", 500)],
            streams: 1,
            consumers: 1,
            messages: 3,
            bytes: 90,
            cache_bytes: 7,
            scrub: ScrubSnapshot { bytes: 900, segments: 3, passes: 2, damaged: 1 },
            rows: vec![stream("A", name)],
            disk: Some(Box::default()),
            ..Default::default()
        }));
    }
    shards
}

const HEAD: &str = "memory:n storage:n reserved_memory:n reserved_storage:n accounts:n ha_assets:n \
                    api:o .level:n .total:n .errors:n server_id:s now:s config:o .max_memory:n \
                    .max_storage:n .store_dir:s .sync_interval:n .domain:s .compress_ok:b \
                    .strict:b limits:o .default_max_consumers:n streams:n";
const DETAIL: &str = "account_details:l ..name:s ..id:s ..memory:n ..storage:n \
                      ..reserved_memory:n ..reserved_storage:n ..accounts:n ..ha_assets:n ..api:o \
                      ...level:n ...total:n ...errors:n";

fn page(address: &str) -> String {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let request = parse_request("", path.as_bytes(), query.as_bytes()).outcome.unwrap();
    let mut shards = shards();
    // Shards send rows only to those who asked for them.
    if request.needs(NOW).jetstream.is_none_or(|need| need.streams.is_none()) {
        for shard in &mut shards {
            shard.jetstream.as_mut().unwrap().rows.clear();
        }
    }
    let response = render(&request, &served(), &shards);
    assert_eq!(response.status, 200, "{address}");
    String::from_utf8(response.body).unwrap()
}

#[test]
fn jsz_sums_up() {
    let text = page("/jsz?leader-only=1");
    assert_eq!(shape(&text), format!("{HEAD} consumers:n messages:n bytes:n total:n"));
    for line in [
        "  \"memory\": 20,\n  \"storage\": 40,\n  \"reserved_memory\": 60,",
        "    \"level\": 5,\n    \"total\": 10,\n    \"errors\": 2\n",
        "  \"streams\": 2,\n  \"consumers\": 2,\n  \"messages\": 6,\n  \"bytes\": 180,\n",
        "  \"total\": 2\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let led = shape(&page("/jsz?raft=1"));
    assert!(led.contains("streams:n streams_leader:n consumers:n consumers_leader:n messages:n"));
}

#[test]
fn jsz_pages_accounts_by_name() {
    let text = page("/jsz?accounts=1&offset=1");
    let tail = "consumers:n messages:n bytes:n";
    assert_eq!(shape(&text), format!("{HEAD} {tail} {DETAIL} total:n"));
    assert!(text.contains("\"name\": \"A\"") && !text.contains("$G"), "{text}");
    // A limit is what the account reserves; none is the largest number.
    assert!(text.contains("\"reserved_memory\": 500,"));
    assert!(text.contains("\"reserved_storage\": 18446744073709551615,"));
    assert!(page("/jsz?accounts=1&limit=1").contains("\"name\": \"$G\""));
    assert!(!page("/jsz?accounts=1&offset=2").contains("account_details"));
    assert!(page("/jsz?acc=A&offset=7").contains("\"name\": \"A\""));
    assert!(!page("/jsz?acc=NOPE&streams=1").contains("account_details"));
}

#[test]
fn jsz_lists_streams_and_consumers() {
    let text = page("/jsz?acc=A&consumers=1&config=1&direct-consumers=1");
    let shown = shape(&text);
    let stream = "....name:s ....created:s ....cluster:o .....leader:s ....config:o .....name:s";
    assert!(shown.contains(&format!("{DETAIL} ..stream_detail:l {stream}")), "{shown}");
    let (state, consumers) = (text.find("\"state\""), text.find("\"consumer_detail\""));
    let (direct, sources) = (text.find("\"direct_consumer_detail\""), text.find("\"sources\""));
    assert!(state < consumers && consumers < direct && direct < sources, "{text}");
    assert!(text.find("\"name\": \"S\"") < text.find("\"name\": \"T\""));
    assert_eq!(text.matches("\"leader\": \"orc\"").count(), 2);
}

#[test]
fn shards_send_what_is_shown() {
    let need = |address: &str| {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let parsed = parse_request("", path.as_bytes(), query.as_bytes());
        parsed.outcome.unwrap().needs(1).jetstream
    };
    assert_eq!(need("/connz"), None);
    for address in ["/varz", "/jsz", "/jsz?accounts=1&config=1&direct-consumers=1", "/healthz"] {
        assert_eq!(need(address), Some(JetStreamNeed::default()), "{address}");
    }
    let streams = |address: &str| need(address).unwrap().streams.unwrap();
    let asked = streams("/jsz?streams=1&direct-consumers=1&offset=3");
    assert_eq!(asked.accounts, AccountsNeed::Part(Page { offset: 3, limit: 1024 }));
    assert!(!asked.consumers && !asked.direct_consumers && !asked.config);
    let asked = streams("/jsz?consumers=1&acc=A&config=1");
    assert_eq!(asked.accounts, AccountsNeed::One("A".into()));
    assert!(asked.consumers && asked.config && !asked.direct_consumers);
    let asked = streams("/healthz?account=A&stream=S&consumer=C");
    assert_eq!((asked.stream.as_deref(), asked.consumer.as_deref()), (Some("S"), Some("C")));
    assert_eq!((asked.streams_max, asked.consumers_max), (1, 1));
}

#[test]
fn varz_and_accountz_show_jetstream() {
    let varz = shape(&page("/varz"));
    assert!(
        varz.contains(
            "jetstream:o .config:o ..max_memory:n ..max_storage:n ..store_dir:s ..sync_interval:n \
             ..domain:s ..compress_ok:b ..strict:b .stats:o ..memory:n ..storage:n \
             ..reserved_memory:n ..reserved_storage:n ..accounts:n ..ha_assets:n ..api:o \
             ...level:n ...total:n ...errors:n .limits:o ..default_max_consumers:n tls_timeout:n"
        ),
        "{varz}"
    );
    let mut facts = served();
    facts.accounts[2].jetstream = true;
    for (name, on) in [("A", true), ("$G", false)] {
        let body = ask_of(&format!("/accountz?acc={name}"), &facts, &[]).body;
        let line = format!("\"jetstream_enabled\": {on},");
        assert!(String::from_utf8(body).unwrap().contains(&line), "{name}");
    }
}

fn health(query: &str, shards: &[ShardSnapshot]) -> (u16, String) {
    let response = ask_of(&format!("/healthz?{query}"), &served(), shards);
    (response.status, String::from_utf8(response.body).unwrap())
}

#[test]
fn healthz_finds_what_is_named() {
    let ok = (200, r#"{"status":"ok"}"#.to_owned());
    let missing = |text: &str| {
        let text = text.replace('\'', "\\\"");
        (404, format!(r#"{{"status":"unavailable","error":"{text}"}}"#))
    };
    for (query, answer) in [
        ("", ok.clone()),
        ("account=A&stream=S&consumer=C", ok.clone()),
        ("account=A&stream=S&consumer=D", ok.clone()),
        ("js-server-only=1&account=N", ok.clone()),
        ("js-enabled-only=1&account=N", ok),
        ("js-meta-only=1&account=N", missing("JetStream account 'N' not found")),
        ("account=A&stream=N", missing("JetStream stream 'N' not found on account 'A'")),
        (
            "account=A&stream=S&consumer=N",
            missing("JetStream consumer 'N' not found for stream 'S' on account 'A'"),
        ),
    ] {
        assert_eq!(health(query, &shards()), answer, "{query}");
    }
    let details = concat!(
        r#"{"type":"CONSUMER","account":"A","stream":"S","consumer":"N","error":"JetStream "#,
        r#"consumer \"N\" not found for stream \"S\" on account \"A\""}"#,
    );
    let body = format!(r#"{{"status":"error","errors":[{details}]}}"#);
    assert_eq!(health("details=1&account=A&stream=S&consumer=N", &shards()), (404, body));
}

#[test]
fn a_stuck_disk_or_a_failed_stream_is_unwell() {
    let mut stuck = shards();
    let part = stuck[1].jetstream.as_mut().unwrap();
    part.disk.as_mut().unwrap().oldest_ns = 5 * SECOND;
    let text =
        r#"{"status":"unavailable","error":"JetStream disk operation has been under way for 5s"}"#;
    assert_eq!(health("js-server-only=1", &stuck), (503, text.to_owned()));
    assert_eq!(health("js-enabled-only=1", &stuck).0, 200);
    stuck[1].jetstream.as_mut().unwrap().disk.as_mut().unwrap().oldest_ns -= 1;
    assert_eq!(health("", &stuck).0, 200);

    let mut failed = shards();
    let problem = String::from("has failed: no space");
    failed[0].jetstream.as_mut().unwrap().failed =
        vec![FailedStream { account: "A".into(), stream: "T".into(), problem }];
    let text =
        r#"{"status":"unavailable","error":"JetStream stream 'A \u003e T' has failed: no space"}"#;
    assert_eq!(health("", &failed), (503, text.to_owned()));
    assert_eq!(health("account=A&stream=T", &failed).0, 503);
    for query in ["account=A&stream=S", "account=$G", "js-server-only=1"] {
        assert_eq!(health(query, &failed).0, 200, "{query}");
    }
}

#[test]
fn metrics_show_streams_consumers_and_disks() {
    let mut shards = shards();
    let disk = shards[0].jetstream.as_mut().unwrap().disk.as_mut().unwrap();
    disk.operations = vec![("commit", 9)];
    disk.oldest_ns = SECOND / 2;
    let mut times = TurnHistogram::default();
    times.record(1_500);
    disk.times = vec![("commit", times), ("read", TurnHistogram::default())];
    let body = ask_of("/metrics", &served(), &shards).body;
    let series = read_metrics(&String::from_utf8(body).unwrap());
    for (id, value) in [
        ("jetstream_api_requests_total", 10.0),
        ("jetstream_memory_limit_bytes", 1000.0),
        ("jetstream_account_storage_bytes{account=\"A\"}", 20.0),
        ("jetstream_cache_bytes{shard=\"1\"}", 7.0),
        ("jetstream_scrub_bytes_total{shard=\"0\"}", 900.0),
        ("jetstream_scrub_segments_total{shard=\"0\"}", 3.0),
        ("jetstream_scrub_passes_total{shard=\"1\"}", 2.0),
        ("jetstream_scrub_damaged_total{shard=\"1\"}", 1.0),
        ("jetstream_stream_messages{account=\"A\",stream=\"S\"}", 3.0),
        ("jetstream_stream_lost{account=\"A\",stream=\"T\"}", 1.0),
        ("jetstream_stream_source_lag{account=\"A\",stream=\"T\"}", 2.0),
        ("jetstream_consumer_stuck{account=\"A\",stream=\"T\",consumer=\"C\"}", 1.0),
        ("jetstream_consumer_pending{account=\"A\",stream=\"S\",consumer=\"C\"}", 4.0),
        ("disk_operations_total{shard=\"0\",kind=\"commit\"}", 9.0),
        ("disk_oldest_operation_seconds{shard=\"0\"}", 0.5),
        ("disk_operation_seconds_count{shard=\"0\",kind=\"commit\"}", 1.0),
        ("jetstream_streams_unlisted", 0.0),
        ("jetstream_consumers_unlisted", 0.0),
    ] {
        let found = series.get(&format!("shearwater_{id}")).copied();
        assert!(found.is_some_and(|found| (found - value).abs() < 1e-9), "{id}: {found:?}");
    }
    let off = ask("/metrics", &shards);
    assert!(!off.contains("jetstream") && !off.contains("disk_"));
}

#[test]
fn metrics_of_many_streams_are_bounded() {
    let mut shards = shards();
    for (at, shard) in shards.iter_mut().enumerate() {
        let part = shard.jetstream.as_mut().unwrap();
        let names = (0..METRICS_STREAMS_MAX).map(|number| format!("S{at}_{number}"));
        part.rows = names.map(|name| stream("A", &name)).collect();
        let consumers = (0..METRICS_CONSUMERS_MAX).map(|number| consumer(&format!("C{number}")));
        part.rows[0].consumers = consumers.collect();
        part.streams = 5000;
        part.consumers = 6000;
    }
    let body = ask_of("/metrics", &served(), &shards).body;
    let text = String::from_utf8(body).unwrap();
    read_metrics(&text);
    let count = |name: &str| text.matches(&format!("\nshearwater_{name}{{")).count();
    assert_eq!(count("jetstream_stream_bytes"), METRICS_STREAMS_MAX);
    assert_eq!(count("jetstream_consumer_waiting"), METRICS_CONSUMERS_MAX);
    assert!(text.contains("\nshearwater_jetstream_streams_unlisted 9000\n"));
    assert!(text.contains("\nshearwater_jetstream_consumers_unlisted 10000\n"));
}
