//! Acknowledgements and what follows when there are none.

use wire::api::consumer_config::ConsumerConfig;
use wire::api::policy::AckPolicy;

use super::{Bench, SECOND_NS, pulling};

const WAIT_NS: u64 = 30 * SECOND_NS;

#[test]
fn what_is_not_acknowledged_comes_again_in_order() {
    let mut bench = Bench::new(&["s.x"; 4], pulling());
    bench.pull("a", "100");
    bench.sent();
    bench.ack(2, "");
    bench.pass(WAIT_NS - 1);
    assert!(bench.sent().is_empty());
    bench.publish("s.x");
    bench.pass(1);
    assert_eq!(bench.sent_to("a"), ["5/1+0", "1/2+0", "3/2+0", "4/2+0"]);
    bench.ack(1, "");
    bench.ack(5, "");
    bench.pass(WAIT_NS);
    assert_eq!(bench.sent_to("a"), ["3/3+0", "4/3+0"]);
}

#[test]
fn a_message_due_again_goes_before_new_ones() {
    let mut bench = Bench::new(&["s.x"; 4], pulling());
    bench.pull("a", "2");
    bench.ack(2, "-NAK");
    bench.ack(1, "-NAK");
    bench.sent();
    bench.pull("a", "3");
    assert_eq!(bench.sent_to("a"), ["2/2+2", "1/2+2", "3/1+1"]);
    assert_eq!(bench.consumer().state.delivered.consumer, 5);
}

#[test]
fn a_refusal_with_a_delay_is_heard() {
    let mut bench = Bench::new(&["s.x"; 2], pulling());
    bench.pull("a", "100");
    bench.sent();
    bench.ack(1, "-NAK 5s");
    bench.ack(2, r#"-NAK {"delay": 7000000000}"#);
    bench.pass(5 * SECOND_NS - 1);
    assert!(bench.sent().is_empty());
    bench.pass(1);
    assert_eq!(bench.sent_to("a"), ["1/2+0"]);
    bench.pass(2 * SECOND_NS);
    assert_eq!(bench.sent_to("a"), ["2/2+0"]);
}

#[test]
fn the_steps_of_a_backoff_are_taken_one_by_one() {
    let mut bench = Bench::new(
        &["s.x"],
        ConsumerConfig {
            backoff_ns: [1, 3, 5].map(|seconds| seconds * SECOND_NS as i64).to_vec(),
            max_deliver: 5,
            ..pulling()
        },
    );
    bench.pull("a", "100");
    let mut waits = Vec::new();
    let mut since_ns = bench.mono_ns;
    while waits.len() < 5 {
        bench.sent();
        let mut waited = 0;
        while bench.sent().is_empty() && waited < 20 {
            bench.pass(SECOND_NS);
            waited += 1;
        }
        waits.push((bench.mono_ns - since_ns) / SECOND_NS);
        since_ns = bench.mono_ns;
    }
    assert_eq!(waits, [1, 3, 5, 5, 20], "the last one is never");
    assert!(bench.consumer().state.pending.is_empty());
}

#[test]
fn work_in_progress_gets_more_time() {
    let mut bench = Bench::new(&["s.x"], pulling());
    bench.pull("a", "100");
    bench.sent();
    for _ in 0..3 {
        bench.pass(WAIT_NS - SECOND_NS);
        bench.ack(1, "+WPI");
    }
    bench.pass(WAIT_NS - 1);
    assert!(bench.sent().is_empty());
    bench.pass(1);
    assert_eq!(bench.sent_to("a"), ["1/2+0"]);
}

#[test]
fn after_the_last_delivery_a_message_is_given_up() {
    let mut bench = Bench::new(&["s.x"; 2], ConsumerConfig { max_deliver: 2, ..pulling() });
    bench.listeners.0.insert("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C".to_owned());
    bench.pull("a", "100");
    bench.ack(2, "-NAK");
    assert_eq!(bench.sent_to("a"), ["1/1+1", "2/1+0", "2/2+0"]);
    bench.ack(2, "-NAK");
    assert_eq!(bench.sent().len(), 1, "the advisory");
    bench.pass(WAIT_NS);
    assert_eq!(bench.sent_to("a"), ["1/2+0"]);
    bench.pass(WAIT_NS);
    assert_eq!(bench.sent().len(), 1, "the other advisory");
    bench.pass(10 * WAIT_NS);
    assert!(bench.sent().is_empty());
    // A late acknowledgement lets the stream go of it.
    assert!(bench.settled.is_empty());
    bench.ack(1, "");
    assert_eq!(bench.settled, [1]);
}

#[test]
fn a_message_can_be_terminated() {
    let mut bench = Bench::new(&["s.x"; 2], pulling());
    bench.listeners.0.insert("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C".to_owned());
    bench.pull("a", "100");
    bench.sent();
    bench.ack(1, "+TERM it is broken");
    let body = String::from_utf8(bench.fx.outgoing(0).unwrap().payload.to_vec()).unwrap();
    assert!(body.contains(r#""reason":"it is broken""#), "{body}");
    bench.sent();
    assert_eq!((bench.floor(), bench.settled.clone()), ((1, 1), vec![1]));
    bench.pass(WAIT_NS);
    assert_eq!(bench.sent_to("a"), ["2/2+0"]);
}

#[test]
fn one_acknowledgement_settles_all_before_it() {
    let config = ConsumerConfig { ack_policy: AckPolicy::All, ..pulling() };
    let mut bench = Bench::new(&["s.x"; 5], config);
    bench.pull("a", "100");
    bench.sent();
    bench.ack(3, "");
    assert_eq!((bench.floor(), bench.settled.clone()), ((3, 3), vec![1, 2, 3]));
    bench.ack(2, "");
    assert_eq!(bench.floor(), (3, 3));
    bench.pass(WAIT_NS);
    assert_eq!(bench.sent_to("a"), ["4/2+0", "5/2+0"]);
    bench.ack_with(5, 7, "", "");
    assert_eq!((bench.floor(), bench.consumer().state.pending.len()), ((7, 5), 0));
}

#[test]
fn the_floor_rises_over_what_is_settled_and_what_is_gone() {
    let mut bench = Bench::new(&["s.x"; 5], pulling());
    bench.pull("a", "4");
    bench.ack(2, "");
    bench.ack(3, "");
    assert_eq!(bench.floor(), (0, 0));
    bench.remove(1);
    assert_eq!(bench.num_pending(), 1);
    assert_eq!(bench.floor(), (3, 3));
    bench.ack(4, "");
    assert_eq!(bench.floor(), (4, 4));
    // What was never delivered cannot be acknowledged.
    bench.ack(5, "");
    assert_eq!((bench.floor(), bench.num_pending()), ((4, 4), 1));
    assert_eq!(bench.settled, [2, 3, 4]);
}

#[test]
fn the_next_message_can_be_asked_for_with_the_acknowledgement() {
    let mut bench = Bench::new(&["s.x"; 4], pulling());
    bench.pull("a", "1");
    bench.sent();
    bench.ack_with(1, 1, "+NXT", "b");
    assert_eq!(bench.sent_to("b"), ["2/1+2"]);
    bench.ack_with(2, 2, r#"+NXT {"batch":2}"#, "b");
    assert_eq!(bench.sent_to("b"), ["3/1+1", "4/1+0"]);
    bench.ack_with(3, 3, r#"+NXT {"batch":2,"no_wait":true}"#, "b");
    assert_eq!(bench.sent_to("b"), ["404 No Messages"]);
    assert_eq!(bench.floor(), (3, 3));
}

#[test]
fn a_confirmation_goes_when_the_acknowledgement_is_written() {
    let mut bench = Bench::new(&["s.x"; 2], pulling());
    bench.pull("a", "2");
    bench.pass(SECOND_NS);
    let written = bench.written;
    bench.ack(1, "");
    assert_eq!(bench.written, written, "nobody waits for it");
    bench.ack_with(2, 2, "", "r");
    assert_eq!((bench.written, bench.confirmed.clone()), (written + 1, vec!["r".to_owned()]));
    bench.crash();
    assert_eq!((bench.floor(), bench.consumer().state.pending.len()), ((2, 2), 0));
}

#[test]
fn a_restart_knows_deliveries_and_times() {
    let mut bench = Bench::new(&["s.x"; 3], pulling());
    bench.pull("a", "2");
    bench.pass(WAIT_NS - SECOND_NS);
    bench.ack(2, "-NAK");
    bench.pull("a", "1");
    bench.pass(SECOND_NS / 2);
    bench.sent();
    bench.crash();
    bench.pull("b", "100");
    assert_eq!(bench.sent_to("b"), ["3/1+0"]);
    bench.pass(SECOND_NS / 2);
    assert_eq!(bench.sent_to("b"), ["1/2+0"]);
    bench.pass(WAIT_NS);
    assert_eq!(bench.sent_to("b"), ["2/3+0", "3/2+0", "1/3+0"]);
}

#[test]
fn a_share_of_the_acknowledgements_is_measured() {
    let count = |sample_freq: &str| {
        let config = ConsumerConfig { sample_freq: sample_freq.to_owned(), ..pulling() };
        let mut bench = Bench::new(&["s.x"; 400], config);
        bench.listeners.0.insert("$JS.EVENT.METRIC.CONSUMER.ACK.S.C".to_owned());
        bench.pull("a", "400");
        bench.sent();
        for seq in 1..=400 {
            bench.ack(seq, "");
        }
        bench.sent().len()
    };
    assert_eq!((count(""), count("100")), (0, 400));
    assert!((60..=140).contains(&count("25%")));
}
