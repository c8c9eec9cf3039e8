//! Every scenario against a small server inside the test process: honest, and misbehaving in
//! the ways the harness must notice.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod support;

use std::time::Duration;

use bench_harness::client::handshake::Target;
use bench_harness::error::HarnessError;
use bench_harness::report::Outcome;
use bench_harness::scenario::{Kind, Params, Subject, Wait, run};
use support::{Manner, start};

fn subject(manner: Manner) -> Subject {
    let addr = start(manner);
    let target = Target {
        addr,
        host: "localhost".into(),
        login: String::new(),
        tls: None,
        no_responders: false,
    };
    // The server lives in this process, so its figures are ours: good enough to be there.
    Subject { target, pid: Some(std::process::id()), host: None }
}

fn params(kind: Kind) -> Params {
    Params {
        duration: Duration::from_millis(150),
        warmup: Duration::from_millis(30),
        window_bytes: 64 << 10,
        ..Params::new(kind)
    }
}

fn honest(params: &Params) -> Outcome {
    run(&subject(Manner::Honest), params).unwrap()
}

fn positive(outcome: &Outcome, names: &[&str]) {
    for name in names {
        let value = outcome.get(name);
        assert!(value.is_some_and(|v| v > 0.0), "{name} is {value:?}: {:?}", outcome.metrics);
    }
}

#[test]
fn throughput_scenarios_count_every_message() {
    let kinds = [Kind::PubOnly, Kind::OneToOne, Kind::NToN, Kind::Fanout, Kind::Fanin, Kind::Queue];
    for kind in kinds {
        let small = Params { connections: 3, pubs: 2, subs: 3, ..params(kind) };
        let outcome = honest(&small);
        positive(&outcome, &["server_cpu_us_per_msg", "msgs_per_s", "harness_cpu_us_per_msg"]);
        positive(&outcome, &["payload_mib_per_s", "rss_mib", "rss_peak_mib"]);
    }
}

#[test]
fn a_number_of_messages_and_several_threads() {
    for kind in [Kind::PubOnly, Kind::OneToOne, Kind::Fanout, Kind::NToN] {
        let some = Params { msgs: Some(4000), connections: 4, subs: 2, size: 200, ..params(kind) };
        positive(&honest(&some), &["msgs_per_s"]);
    }
}

#[test]
fn a_rate_is_kept() {
    let slow =
        Params { rate: 2000.0, duration: Duration::from_millis(500), ..params(Kind::OneToOne) };
    let rate = honest(&slow).get("published_per_s").unwrap();
    assert!((1500.0..2500.0).contains(&rate), "{rate}");
}

#[test]
fn requests_are_answered_and_timed() {
    let closed = Params { connections: 3, ..params(Kind::Reqrep) };
    let spinning = Params { wait: Wait::Spin, ..params(Kind::Reqrep) };
    let open = Params { rate: 1000.0, connections: 2, ..params(Kind::ReqrepOpen) };
    for params in [closed, spinning, open] {
        let outcome = honest(&params);
        positive(&outcome, &["p50_us", "p99_us", "max_us", "requests_per_s"]);
        let latency = outcome.latency.unwrap();
        assert!(latency.p50_us <= latency.p99_us && latency.p99_us <= latency.max_us);
    }
}

#[test]
fn the_open_loop_counts_from_when_a_request_was_due() {
    // However the server copes, there is a latency for each request that was due.
    let open = Params { rate: 5000.0, ..params(Kind::ReqrepOpen) };
    let latency = honest(&open).latency.unwrap();
    let due = 5000.0 * 0.15;
    assert!((latency.count as f64) >= due * 0.9, "{} of {due}", latency.count);
}

#[test]
fn slow_readers_are_reported() {
    let slow = Params {
        rate: 2000.0,
        size: 512,
        reader_mib: 0.1,
        duration: Duration::from_millis(300),
        ..params(Kind::SlowSubscriber)
    };
    let outcome = honest(&slow);
    positive(&outcome, &["p50_us", "messages", "slow_read_mib"]);
    assert_eq!(outcome.get("slow_closed"), Some(0.0));
    let burst = Params { msgs: Some(2000), size: 1024, reader_mib: 20.0, ..params(Kind::Burst) };
    let outcome = honest(&burst);
    assert_eq!(outcome.get("reader_kept"), Some(1.0));
    assert_eq!(outcome.get("delivered_fraction"), Some(1.0));
    let outcome = run(&subject(Manner::Closes(500)), &burst).unwrap();
    assert_eq!(outcome.get("reader_kept"), Some(0.0));
}

#[test]
fn many_connections_and_subscriptions() {
    let idle = honest(&Params { connections: 20, ..params(Kind::Idle) });
    assert_eq!(idle.get("connections"), Some(20.0));
    assert!(idle.get("idle_cpu_percent").is_some());
    let million = honest(&Params { subs: 300, ..params(Kind::SubsMillion) });
    positive(&million, &["match_cpu_ns_per_msg", "subscribes_per_s"]);
    let churn = honest(&params(Kind::Churn));
    positive(&churn, &["connections_per_s", "server_cpu_us_per_connection", "p50_us"]);
}

#[test]
fn lost_and_doubled_messages_are_noticed() {
    for kind in [Kind::OneToOne, Kind::Queue, Kind::Fanout] {
        for manner in [Manner::Loses(1000), Manner::Doubles(1000)] {
            // Without stamps only the strict count at the end can tell.
            for size in [4, 16] {
                let small = Params { size, ..params(kind) };
                let error = run(&subject(manner), &small).unwrap_err();
                assert!(matches!(error, HarnessError::Count(_)), "{kind:?} {manner:?}: {error}");
            }
        }
    }
}

#[test]
fn closed_and_refused_connections_end_the_run() {
    let error = run(&subject(Manner::Closes(1000)), &params(Kind::OneToOne)).unwrap_err();
    assert!(matches!(error, HarnessError::Closed(_)), "{error}");
    let error = run(&subject(Manner::Refuses), &params(Kind::OneToOne)).unwrap_err();
    assert!(matches!(error, HarnessError::Refused(_)), "{error}");
}
