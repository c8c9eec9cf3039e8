//! Push consumers: listeners, flow control, heartbeats, pace.

use wire::api::consumer_config::ConsumerConfig;
use wire::api::policy::{AckPolicy, ReplayPolicy};

use super::{Bench, SECOND_NS, pushing};

/// Bytes of one message on its way, roughly.
const MESSAGE_BYTES: usize = 3 + 45 + 10;

#[test]
fn messages_go_while_somebody_listens() {
    let mut bench = Bench::with_messages(&["s.x"; 2]);
    bench.listeners.0.clear();
    bench.create(pushing());
    bench.serve();
    assert!(bench.sent().is_empty());
    bench.listeners.0.insert("to".to_owned());
    assert!(bench.with(|consumer, cx| consumer.check_interest(cx)));
    bench.serve();
    assert_eq!(bench.sent_to("to"), ["1/1+1", "2/1+0"]);
    bench.listeners.0.clear();
    assert!(bench.with(|consumer, cx| consumer.check_interest(cx)));
    bench.publish("s.x");
    assert!(bench.sent().is_empty());
}

#[test]
fn idle_listeners_get_heartbeats() {
    let beat = ConsumerConfig { idle_heartbeat_ns: SECOND_NS as i64, ..pushing() };
    let mut bench = Bench::new(&["s.x"], beat);
    bench.serve();
    bench.sent();
    bench.pass(SECOND_NS / 2);
    bench.publish("s.x");
    bench.pass(SECOND_NS - 1);
    assert_eq!(bench.sent_to("to"), ["2/1+0"]);
    bench.pass(1);
    let expected = "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 2\r\n\
                    Nats-Last-Stream: 2\r\n\r\n";
    assert_eq!(bench.headers(), [expected]);
    bench.pass(3 * SECOND_NS);
    assert_eq!(bench.sent().len(), 3);
    bench.listeners.0.clear();
    bench.with(|consumer, cx| consumer.check_interest(cx));
    bench.pass(3 * SECOND_NS);
    assert!(bench.sent().is_empty());
}

fn flowing(ack_policy: AckPolicy) -> ConsumerConfig {
    ConsumerConfig {
        flow_control: true,
        idle_heartbeat_ns: SECOND_NS as i64,
        ack_policy,
        ..pushing()
    }
}

/// A bench with more messages than may be on their way at the start.
fn flood(ack_policy: AckPolicy) -> (Bench, usize) {
    let count = (2 << 20) / MESSAGE_BYTES + 5000;
    let mut bench = Bench::with_messages(&["s.x"]);
    for _ in 1..count {
        bench.publish("s.x");
    }
    bench.create(flowing(ack_policy));
    bench.serve();
    (bench, count)
}

#[test]
fn the_receiver_says_how_far_it_is() {
    let (mut bench, count) = flood(AckPolicy::None);
    let sent = bench.sent_to("to");
    let asked: Vec<usize> =
        (0..sent.len()).filter(|at| sent[*at] == "100 FlowControl Request").collect();
    assert_eq!(asked.len(), 1, "one question at a time");
    assert!((sent.len() / 2).abs_diff(asked[0]) < 1000, "half way");
    assert!(sent.len() < count, "the window is closed");
    // The heartbeat names the question that is not answered.
    bench.pass(SECOND_NS);
    assert!(bench.headers()[0].contains("Nats-Consumer-Stalled: $JS.FC.S.C.1\r\n"));
    bench.with(|consumer, cx| consumer.handle_flow_answer(b"7", b"", cx));
    bench.serve();
    assert!(bench.sent().is_empty(), "not the question that is out");
    bench.with(|consumer, cx| consumer.handle_flow_answer(b"1", b"", cx));
    bench.serve();
    let rest = bench.sent_to("to").into_iter().filter(|text| text.contains('/')).count();
    assert_eq!(rest + sent.len() - 1, count);
}

/// The receiver answers the question that went out last.
fn answer(bench: &mut Bench, number: &str, headers: &str) {
    bench.with(|consumer, cx| {
        consumer.handle_flow_answer(number.as_bytes(), headers.as_bytes(), cx);
    });
    bench.serve();
}

fn place(consumer: u64, stream: u64) -> String {
    format!("NATS/1.0\r\nNats-Last-Consumer: {consumer}\r\nNats-Last-Stream: {stream}\r\n\r\n")
}

#[test]
fn answers_acknowledge_what_they_name() {
    let config = ConsumerConfig { max_ack_pending: 10, ..flowing(AckPolicy::FlowControl) };
    let mut bench = Bench::new(&["s.x"; 25], config);
    bench.serve();
    let sent = bench.sent_to("to");
    // No more may be out: the receiver is asked although the window is open.
    assert_eq!((sent.len(), sent[10].as_str()), (11, "100 FlowControl Request"));
    answer(&mut bench, "1", "");
    answer(&mut bench, "1", &place(4, 4));
    assert_eq!(bench.floor(), (0, 0), "nothing named, and not asked again");
    bench.pass(SECOND_NS);
    assert_eq!(bench.sent_to("to"), ["100 Idle Heartbeat", "100 FlowControl Request"]);
    answer(&mut bench, "2", &place(6, 6));
    assert_eq!((bench.floor(), bench.settled.len()), ((6, 6), 6));
    let sent = bench.sent_to("to");
    assert_eq!((sent[0].as_str(), sent.len()), ("11/1+14", 7));
    answer(&mut bench, "3", &place(900, 900));
    assert_eq!(bench.floor(), (16, 16), "not more than was delivered");
    bench.sent();
    bench.pass(100 * SECOND_NS);
    assert!(bench.sent_to("to").iter().all(|text| !text.contains('/')), "nothing comes twice");
}

#[test]
fn a_new_receiver_starts_with_an_open_window() {
    let (mut bench, count) = flood(AckPolicy::None);
    let before = bench.sent_to("to").len() - 1;
    assert!(before < count);
    for listens in [false, true] {
        bench.listeners.0.clear();
        bench.listeners.0.extend(listens.then(|| "to".to_owned()));
        bench.with(|consumer, cx| consumer.check_interest(cx));
    }
    bench.serve();
    let rest = bench.sent_to("to").into_iter().filter(|text| text.contains('/')).count();
    assert_eq!(before + rest, count);
}

#[test]
fn a_rate_is_kept() {
    let rate = (MESSAGE_BYTES * 8 * 10) as u64;
    let mut bench = Bench::new(&["s.x"; 100], ConsumerConfig { rate_limit_bps: rate, ..pushing() });
    bench.serve();
    bench.pass(5 * SECOND_NS);
    let count = bench.sent().len();
    assert!((40..=60).contains(&count), "{count}");
}

#[test]
fn the_pace_of_the_original_is_kept() {
    let mut bench = Bench::with_messages(&["s.x"; 2]);
    bench.jump(3 * SECOND_NS);
    bench.publish("s.x");
    bench.create(ConsumerConfig { replay_policy: ReplayPolicy::Original, ..pushing() });
    bench.serve();
    assert_eq!(bench.sent_to("to"), ["1/1+2"]);
    bench.pass(9_999_999);
    assert!(bench.sent().is_empty());
    bench.pass(1);
    assert_eq!(bench.sent_to("to"), ["2/1+1"]);
    bench.pass(3 * SECOND_NS);
    assert!(bench.sent().is_empty());
    bench.pass(10_000_000);
    assert_eq!(bench.sent_to("to"), ["3/1+0"]);
}
