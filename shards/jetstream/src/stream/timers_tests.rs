//! What becomes due by itself, and what a stream knows again after a start.

use wire::api::config::{StreamConfig, SubjectTransform};
use wire::api::policy::{Discard, Retention};

use super::Ingest;
use super::replay_tests::{Bench, Nobody};
use crate::context::Context;

const SECOND_NS: i64 = 1_000_000_000;

fn config(name: &str) -> StreamConfig {
    StreamConfig {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        max_msg_size: -1,
        duplicate_window_ns: 120 * SECOND_NS,
        num_replicas: 1,
        ..StreamConfig::default()
    }
}

impl Bench {
    /// Lets time pass and does what is due, once.
    fn pass(&mut self, name: &str, ns: i64) {
        self.unix_ns += ns;
        self.mono_ns += ns as u64;
        self.with(name, |stream, cx| stream.handle_timers(cx));
    }

    /// Time until the stream wants to be called, ns.
    fn wait_ns(&self, name: &str) -> Option<u64> {
        let ctx = Context { mono_ns: self.mono_ns, unix_ns: self.unix_ns, interest: &Nobody };
        let at_ns = self.streams[name].next_deadline_ns(&ctx);
        (at_ns != u64::MAX).then(|| at_ns - self.mono_ns)
    }

    /// Sequences, subjects and bodies of what is there.
    fn all(&mut self, name: &str) -> Vec<(u64, String, String)> {
        let last = self.streams[name].store.last_seq();
        let mut all = Vec::new();
        for seq in 1..=last {
            self.with(name, |stream, cx| {
                if let store::Read::Message(m) = stream.store.get(seq, cx.cache, &mut cx.fx.disk) {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    all.push((seq, text(m.subject), text(m.headers) + &text(m.payload)));
                }
            });
        }
        all
    }

    fn seqs(&mut self, name: &str) -> Vec<u64> {
        self.all(name).into_iter().map(|(seq, ..)| seq).collect()
    }
}

fn ttl(value: &str) -> String {
    format!("NATS/1.0\r\nNats-TTL: {value}\r\n\r\n")
}

#[test]
fn messages_go_by_age() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { max_age_ns: 10 * SECOND_NS, ..config("s") });
    bench.publish("s.a", "R", "", "1");
    bench.pass("s", 4 * SECOND_NS);
    bench.publish("s.b", "R", "", "2");
    assert_eq!(bench.seqs("s"), [1, 2]);
    let wait_ns = bench.wait_ns("s").unwrap();
    bench.pass("s", wait_ns as i64 - 1);
    assert_eq!(bench.seqs("s"), [1, 2]);
    bench.pass("s", 1);
    assert_eq!(bench.seqs("s"), [2]);
    assert_eq!(bench.streams["s"].store.state().first_seq, 2);
    bench.pass("s", 5 * SECOND_NS);
    assert!(bench.seqs("s").is_empty());
    assert_eq!(bench.streams["s"].store.state().first_seq, 3);
}

#[test]
fn messages_go_when_their_life_ends_and_stay_if_it_never_does() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { max_age_ns: 60 * SECOND_NS, allow_msg_ttl: true, ..config("s") });
    bench.publish("s.a", "R", &ttl("never"), "1");
    bench.publish("s.b", "R", &ttl("5"), "2");
    bench.publish("s.c", "R", &ttl("10m"), "3");
    bench.publish("s.d", "R", "", "4");
    // The store rounds moments up to about an eighth of a second.
    bench.pass("s", 5 * SECOND_NS + SECOND_NS / 4);
    assert_eq!(bench.seqs("s"), [1, 3, 4]);
    bench.pass("s", 60 * SECOND_NS);
    assert_eq!(bench.seqs("s"), [1]);
    bench.publish("s.e", "R", "", "5");
    bench.pass("s", 61 * SECOND_NS);
    assert_eq!(bench.seqs("s"), [1]);
}

#[test]
fn the_last_message_of_a_subject_leaves_a_marker() {
    let mut bench = Bench::new();
    bench.add(StreamConfig {
        allow_msg_ttl: true,
        allow_rollup_hdrs: true,
        subject_delete_marker_ttl_ns: 90 * SECOND_NS,
        max_msgs_per_subject: 1,
        ..config("s")
    });
    bench.publish("s.a", "R", &ttl("5"), "1");
    bench.publish("s.kv", "R", "NATS/1.0\r\nNats-TTL: 5\r\nKV-Operation: PURGE\r\n\r\n", "");
    bench.pass("s", 6 * SECOND_NS);
    let marker = "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 1m30s\r\n\
        Nats-Rollup: sub\r\n\r\n";
    assert_eq!(bench.all("s"), [(3, "s.a".to_owned(), marker.to_owned())]);
    bench.pass("s", 91 * SECOND_NS);
    assert!(bench.all("s").is_empty(), "a marker leaves nothing");
}

#[test]
fn a_life_shorter_than_that_of_markers_is_made_longer() {
    let mut bench = Bench::new();
    bench.add(StreamConfig {
        allow_msg_ttl: true,
        allow_rollup_hdrs: true,
        subject_delete_marker_ttl_ns: 90 * SECOND_NS,
        ..config("s")
    });
    bench.publish("s.a", "R", "NATS/1.0\r\nNats-TTL: 5\r\nA: b\r\n\r\n", "1");
    let stored = "NATS/1.0\r\nA: b\r\nNats-TTL: 90\r\n\r\n1";
    assert_eq!(bench.all("s"), [(1, "s.a".to_owned(), stored.to_owned())]);
}

#[test]
fn schedules_fire_once_or_again_and_again() {
    let mut bench = Bench::new();
    bench.unix_ns = 1_714_979_289_000_000_000;
    bench.add(StreamConfig {
        allow_msg_schedules: true,
        allow_msg_ttl: true,
        allow_rollup_hdrs: true,
        ..config("s")
    });
    bench.publish("s.src", "R", "NATS/1.0\r\nA: src\r\nNats-Msg-Id: m\r\n\r\n", "SRC");
    let at = "NATS/1.0\r\nX: y\r\nNats-Schedule: @at 2024-05-06T07:08:19Z\r\n\
        Nats-Schedule-Target: s.t\r\nNats-Schedule-TTL: 5m\r\nNats-Msg-Id: q\r\n\
        Nats-Expected-Stream: s\r\n\r\n";
    bench.publish("s.at", "R", at, "body");
    let every = "NATS/1.0\r\nNats-Schedule: @every 4s\r\nNats-Schedule-Target: s.u\r\n\
        Nats-Schedule-Rollup: sub\r\nNats-Schedule-Source: s.src\r\n\r\n";
    bench.publish("s.ev", "R", every, "own");
    let wait_ns = bench.wait_ns("s").unwrap();
    assert_eq!(wait_ns, 3_997_000_000, "the interval counts from the whole second");
    bench.pass("s", wait_ns as i64);
    let fired = |seq: u64, second: u32| {
        let block = format!(
            "NATS/1.0\r\nA: src\r\nNats-Scheduler: s.ev\r\n\
             Nats-Schedule-Next: 2024-05-06T07:08:{second}Z\r\nNats-Rollup: sub\r\n\r\nSRC"
        );
        (seq, "s.u".to_owned(), block)
    };
    assert_eq!(bench.all("s").pop(), Some(fired(4, 17)));
    bench.pass("s", 4 * SECOND_NS);
    assert_eq!(bench.seqs("s"), [1, 2, 3, 5]);
    assert_eq!(bench.all("s").pop(), Some(fired(5, 21)));
    bench.pass("s", 2 * SECOND_NS);
    let once = "NATS/1.0\r\nX: y\r\nNats-Scheduler: s.at\r\nNats-Schedule-Next: purge\r\n\
        Nats-TTL: 5m\r\n\r\nbody";
    assert_eq!(bench.all("s").pop(), Some((6, "s.t".to_owned(), once.to_owned())));
    assert_eq!(bench.seqs("s"), [1, 3, 5, 6], "what was once is gone");
    // A stream that slept fires once and not for every time it missed.
    bench.pass("s", 60 * SECOND_NS);
    assert_eq!(bench.streams["s"].store.last_seq(), 7);
    // A plain message on its subject ends a schedule.
    bench.publish("s.ev", "R", "", "stop");
    bench.pass("s", 60 * SECOND_NS);
    assert_eq!(bench.streams["s"].store.last_seq(), 8);
}

#[test]
fn schedules_are_known_again_by_their_notes() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { allow_msg_schedules: true, allow_rollup_hdrs: true, ..config("s") });
    let every = "NATS/1.0\r\nNats-Schedule: @every 4s\r\nNats-Schedule-Target: s.u\r\n\r\n";
    bench.publish("s.ev", "R", every, "own");
    let note = bench.streams["s"].store.note(b"t/s.ev").unwrap().put.clone();
    let stream = bench.streams.remove("s").unwrap();
    let (id, config, store) = (stream.id.clone(), stream.config().clone(), stream.store);
    let mut again = super::Stream::new(id, config, 0, store);
    assert!(!again.handle_recovered_note(b"c/x", &note));
    assert!(again.handle_recovered_note(b"t/s.ev", &note));
    bench.streams.insert("s".to_owned(), again);
    bench.pass("s", 5 * SECOND_NS);
    assert_eq!(bench.streams["s"].store.last_seq(), 2);
}

#[test]
fn ids_are_forgotten_after_the_window_and_known_again_after_a_start() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { duplicate_window_ns: 10 * SECOND_NS, ..config("s") });
    let id = |id: &str| format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
    let ack = |bench: &mut Bench, block: &str| bench.publish("s.a", "R", block, "x")[0].2.clone();
    assert_eq!(ack(&mut bench, &id("a")), r#"{"stream":"s","seq":1}"#);
    bench.pass("s", 9 * SECOND_NS);
    assert_eq!(ack(&mut bench, &id("b")), r#"{"stream":"s","seq":2}"#);
    assert_eq!(ack(&mut bench, &id("a")), r#"{"stream":"s","seq":1,"duplicate": true}"#);
    let stream = bench.streams.remove("s").unwrap();
    let (identity, config, store) = (stream.id.clone(), stream.config().clone(), stream.store);
    let again = super::Stream::new(identity, config, 0, store);
    bench.streams.insert("s".to_owned(), again);
    assert!(bench.with("s", |stream, cx| stream.handle_recovered(&[1, 2], cx)));
    assert_eq!(ack(&mut bench, &id("a")), r#"{"stream":"s","seq":1,"duplicate": true}"#);
    let last = "NATS/1.0\r\nNats-Expected-Last-Msg-Id: b\r\n\r\n";
    assert_eq!(ack(&mut bench, last), r#"{"stream":"s","seq":3}"#);
    bench.pass("s", SECOND_NS);
    assert_eq!(ack(&mut bench, &id("a")), r#"{"stream":"s","seq":4}"#);
    assert_eq!(ack(&mut bench, &id("b")), r#"{"stream":"s","seq":2,"duplicate": true}"#);
}

#[test]
fn quiet_batches_are_given_up() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { allow_atomic: true, allow_batched: true, ..config("s") });
    let first = "NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: 1\r\n\r\n";
    bench.publish("s.a", "R", first, "x");
    bench.publish("s.a", "I.f.10.ok.1.0.$FI", "", "x");
    assert_eq!(bench.streams["s"].atomic_batches(), 1);
    assert_eq!(bench.streams["s"].fast_batches(), 1);
    assert_eq!(bench.wait_ns("s"), Some(9_999_000_000));
    bench.pass("s", 10 * SECOND_NS);
    let told = bench.sent();
    assert_eq!(told[0].0, "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.s");
    assert!(told[0].2.ends_with(r#""stream":"s","batch":"b","reason":"timeout"}"#));
    assert_eq!(bench.streams["s"].atomic_batches(), 0);
    assert_eq!(bench.streams["s"].fast_batches(), 0);
    let second = "NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: 2\r\n\r\n";
    assert!(bench.publish("s.a", "R", second, "x")[0].2.contains("10176"));
}

#[test]
fn stricter_limits_hold_at_once() {
    let mut bench = Bench::new();
    bench.add(config("s"));
    for n in 0..10 {
        bench.publish(["s.a", "s.b"][n % 2], "R", "", "x");
    }
    let update = |bench: &mut Bench, config: StreamConfig| {
        bench.with("s", |stream, cx| stream.handle_update(config, cx));
    };
    update(&mut bench, StreamConfig { max_msgs_per_subject: 3, ..config("s") });
    assert_eq!(bench.seqs("s"), [5, 6, 7, 8, 9, 10]);
    update(&mut bench, StreamConfig { max_msgs: 2, ..config("s") });
    assert_eq!(bench.seqs("s"), [9, 10]);
    update(&mut bench, StreamConfig { max_bytes: 25, ..config("s") });
    assert_eq!(bench.seqs("s"), [10]);
    let change = SubjectTransform { src: "s.*".to_owned(), dest: "t.$1".to_owned() };
    update(&mut bench, StreamConfig { subject_transform: Some(change), ..config("s") });
    bench.publish("s.a", "R", "", "x");
    assert_eq!(bench.all("s")[1].1, "t.a");
}

#[test]
fn interest_keeps_what_is_wanted_until_it_is_settled() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { retention: Retention::Interest, ..config("s") });
    bench.with("s", |stream, _| stream.set_consumer_filters(1, &[b"s.a"]));
    bench.publish("s.a", "R", "", "1");
    bench.publish("s.b", "R", "", "2");
    assert_eq!(bench.seqs("s"), [1]);
    bench.with("s", |stream, _| stream.set_consumer_filters(2, &[]));
    bench.publish("s.b", "R", "", "3");
    bench.publish("s.a", "R", "", "4");
    assert_eq!(bench.seqs("s"), [1, 3, 4]);
    // Consumer 2 still needs the fourth message.
    let settled =
        bench.with("s", |stream, _| stream.handle_settled(&[1, 4, 99], |_, seq| seq == 4));
    assert_eq!(settled, 1);
    assert_eq!(bench.seqs("s"), [3, 4]);
    bench.with("s", |stream, _| {
        stream.remove_consumer_filters(2);
        let mut from = Some(1);
        while let Some(at) = from {
            from = stream
                .handle_interest_lost(at, 1, |store, seq| store.subject_of(seq) == Some(b"s.a"));
        }
    });
    assert_eq!(bench.seqs("s"), [4]);
}

#[test]
fn work_is_gone_once_it_is_settled() {
    let mut bench = Bench::new();
    bench.add(StreamConfig {
        retention: Retention::WorkQueue,
        discard: Discard::New,
        max_msgs: 1,
        ..config("s")
    });
    bench.publish("s.a", "R", "", "1");
    assert!(bench.publish("s.a", "R", "", "2")[0].2.contains("maximum messages exceeded"));
    assert_eq!(bench.with("s", |stream, _| stream.handle_settled(&[1], |_, _| true)), 1);
    assert_eq!(bench.publish("s.a", "R", "", "2")[0].2, r#"{"stream":"s","seq":2}"#);
}

#[test]
fn a_publisher_without_reply_is_not_answered() {
    let mut bench = Bench::new();
    bench.add(config("s"));
    assert!(bench.publish("s.a", "", "", "1").is_empty());
    let outcome = bench.with("s", |stream, cx| {
        let publish = super::Publish { subject: b"s.a", payload: b"2", ..Default::default() };
        stream.handle_publish(&publish, cx)
    });
    assert_eq!(outcome, Ingest::Stored(2));
}
