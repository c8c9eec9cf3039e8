//! Pull requests: who gets what, and how each request ends.

use wire::api::consumer_config::ConsumerConfig;
use wire::api::policy::{AckPolicy, DeliverPolicy};
use wire::api::timestamp::Timestamp;

use super::super::pull::Ending;
use super::{Bench, SECOND_NS, START_UNIX_NS, pulling, pushing};

fn sent(to: &str, text: &str) -> (String, String) {
    (to.to_owned(), text.to_owned())
}

#[test]
fn each_deliver_policy_has_its_start() {
    let subjects = ["s.a", "s.b", "s.a", "s.b", "s.c"];
    let time = |steps: i64| Some(Timestamp(START_UNIX_NS + steps * 10_000_000));
    let base = pulling();
    let start = |deliver_policy| ConsumerConfig { deliver_policy, ..base.clone() };
    let filtered =
        |config: ConsumerConfig| ConsumerConfig { filter_subject: "s.a".to_owned(), ..config };
    let at =
        |opt_start_seq| ConsumerConfig { opt_start_seq, ..start(DeliverPolicy::ByStartSequence) };
    let since =
        |opt_start_time| ConsumerConfig { opt_start_time, ..start(DeliverPolicy::ByStartTime) };
    let cases: Vec<(ConsumerConfig, &[&str])> = vec![
        (start(DeliverPolicy::All), &["1/1+4", "2/1+3", "3/1+2", "4/1+1", "5/1+0"]),
        (filtered(start(DeliverPolicy::All)), &["1/1+1", "3/1+0"]),
        (start(DeliverPolicy::New), &[]),
        (start(DeliverPolicy::Last), &["5/1+0"]),
        (filtered(start(DeliverPolicy::Last)), &["3/1+0"]),
        (
            ConsumerConfig {
                filter_subject: "s.*".to_owned(),
                ..start(DeliverPolicy::LastPerSubject)
            },
            &["3/1+2", "4/1+1", "5/1+0"],
        ),
        (at(4), &["4/1+1", "5/1+0"]),
        (filtered(at(2)), &["3/1+0"]),
        (at(9), &[]),
        (since(time(4)), &["4/1+1", "5/1+0"]),
        (since(time(900)), &[]),
    ];
    for (config, expected) in cases {
        let mut bench = Bench::new(&subjects, config.clone());
        bench.pull("r", "10");
        assert_eq!(bench.sent_to("r"), expected, "{config:?}");
    }
}

#[test]
fn a_start_behind_the_end_waits_for_its_sequence() {
    let mut bench = Bench::new(
        &["s.a"],
        ConsumerConfig {
            deliver_policy: DeliverPolicy::ByStartSequence,
            opt_start_seq: 4,
            ..pulling()
        },
    );
    bench.pull("r", "10");
    bench.publish("s.a");
    bench.publish("s.a");
    assert_eq!((bench.sent_to("r").len(), bench.num_pending()), (0, 0));
    bench.publish("s.a");
    assert_eq!(bench.sent_to("r"), ["4/1+0"]);
}

#[test]
fn requests_take_turns() {
    let mut bench = Bench::new(&[], pulling());
    bench.pull("a", "2");
    bench.pull("b", "3");
    for _ in 0..6 {
        bench.publish("s.x");
    }
    let to: String = bench.sent().into_iter().map(|sent| sent.0).collect();
    assert_eq!(to, "ababb");
    assert_eq!(bench.num_pending(), 1);
}

#[test]
fn a_request_that_does_not_wait_says_so() {
    let mut bench = Bench::new(&[], pulling());
    bench.pull("a", r#"{"batch":3,"no_wait":true}"#);
    assert_eq!(bench.sent(), [sent("a", "404 No Messages")]);
    bench.publish("s.x");
    bench.pull("a", r#"{"batch":3,"no_wait":true}"#);
    assert_eq!(bench.sent(), [sent("a", "1/1+0"), sent("a", "404 No Messages")]);
    // With a time it waits for the first message, and ends after it.
    bench.pull("a", r#"{"batch":3,"no_wait":true,"expires":5000000000}"#);
    assert_eq!(bench.sent(), []);
    bench.publish("s.x");
    assert_eq!(bench.sent(), [sent("a", "2/1+0"), sent("a", "404 No Messages")]);
    assert!(bench.consumer().waiting.is_empty());
}

#[test]
fn a_request_ends_with_its_time() {
    let mut bench = Bench::new(&["s.x"], pulling());
    bench.pull("a", r#"{"batch":3,"expires":2000000000}"#);
    bench.sent();
    bench.pass(2 * SECOND_NS - 1);
    assert!(bench.sent().is_empty());
    bench.pass(1);
    let headers = bench.headers();
    let expected = "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 2\r\n\
                    Nats-Pending-Bytes: 0\r\n\r\n";
    assert_eq!(headers, [expected]);
    bench.publish("s.x");
    assert!(bench.sent().is_empty());
}

#[test]
fn bytes_bound_a_request() {
    let mut bench = Bench::new(&["s.x", "s.x", "s.x"], pulling());
    bench.pull("a", r#"{"batch":10,"max_bytes":20}"#);
    assert_eq!(bench.sent(), [sent("a", "409 Message Size Exceeds MaxBytes")]);
    let seq = bench.consumer().state.looked_at;
    assert_eq!(seq, 0, "nothing is lost for others");
    bench.pull("a", r#"{"batch":10,"max_bytes":120}"#);
    let all = bench.sent();
    assert_eq!(all[0], sent("a", "1/1+2"));
    assert_eq!(all.last(), Some(&sent("a", "409 Message Size Exceeds MaxBytes")));
    bench.pull("a", "10");
    let rest = bench.sent_to("a");
    assert_eq!(all.len() - 1 + rest.len(), 3);
}

#[test]
fn a_request_beyond_the_limits_is_refused() {
    let mut bench = Bench::new(
        &["s.x"],
        ConsumerConfig {
            max_batch: 5,
            max_expires_ns: SECOND_NS as i64,
            max_bytes: 100,
            max_waiting: 2,
            deliver_policy: DeliverPolicy::New,
            ..pulling()
        },
    );
    for (body, text) in [
        ("6", "409 Exceeded MaxRequestBatch of 5"),
        (r#"{"batch":1,"expires":2000000000}"#, "409 Exceeded MaxRequestExpires of 1s"),
        (r#"{"batch":1,"max_bytes":101}"#, "409 Exceeded MaxRequestMaxBytes of 100"),
        ("{", "400 Bad Request - unexpected end of JSON input"),
        (r#"{"batch":1,"idle_heartbeat":9}"#, "400 Bad Request - heartbeat value too large"),
    ] {
        bench.pull("r", body);
        assert_eq!(bench.sent(), [sent("r", text)], "{body}");
    }
    for reply in ["a", "b", "c"] {
        bench.pull(reply, "1");
    }
    assert_eq!(bench.sent(), [sent("c", "409 Exceeded MaxWaiting")]);
    // Requests of clients that have gone make room. Nobody is taken for gone at once.
    bench.listeners.0 = ["b", "c"].map(str::to_owned).into();
    bench.jump(SECOND_NS / 2);
    bench.pull("c", "1");
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.consumer().waiting.len(), 2);
    // Without a time of their own they have the longest that is allowed.
    bench.pass(2 * SECOND_NS);
    assert_eq!(bench.consumer().waiting.len(), 0);
}

#[test]
fn a_push_consumer_takes_no_requests() {
    let mut bench = Bench::new(&[], pushing());
    bench.pull("r", "1");
    assert_eq!(bench.sent_to("r"), ["409 Consumer is push based"]);
}

#[test]
fn messages_go_past_clients_that_are_gone() {
    let mut bench = Bench::new(&[], pulling());
    bench.pull("a", "2");
    bench.pull("b", "2");
    bench.listeners.0 = ["b".to_owned()].into();
    bench.jump(SECOND_NS);
    bench.publish("s.x");
    bench.publish("s.x");
    assert_eq!(bench.sent(), [sent("b", "1/1+0"), sent("b", "2/1+0")]);
    assert_eq!(bench.consumer().state.delivered.consumer, 2);
}

#[test]
fn a_client_whose_subscription_is_on_its_way_is_waited_for() {
    let mut bench = Bench::new(&["s.x"], pulling());
    bench.listeners.0.clear();
    bench.pull("a", "1");
    bench.pass(5_000_000);
    assert_eq!((bench.sent().len(), bench.consumer().waiting.len()), (0, 1));
    bench.listeners.0 = ["a".to_owned()].into();
    bench.pass(2_000_000);
    assert_eq!(bench.sent(), [sent("a", "1/1+0")]);
}

#[test]
fn an_idle_request_gets_heartbeats() {
    let mut bench = Bench::new(&[], pulling());
    bench.pull("a", r#"{"batch":2,"expires":5000000000,"idle_heartbeat":1000000000}"#);
    bench.pass(2 * SECOND_NS + SECOND_NS / 2);
    assert_eq!(bench.sent_to("a"), ["100 Idle Heartbeat"; 2]);
    bench.publish("s.x");
    bench.pass(SECOND_NS - 1);
    assert_eq!(bench.sent_to("a"), ["1/1+0"]);
    bench.pass(1);
    let expected = "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\
                    Nats-Last-Stream: 1\r\n\r\n";
    assert_eq!(bench.headers(), [expected]);
}

#[test]
fn no_more_is_out_than_may_be_out() {
    let mut bench = Bench::new(&["s.x"; 5], ConsumerConfig { max_ack_pending: 2, ..pulling() });
    bench.pull("a", "9");
    assert_eq!(bench.sent_to("a"), ["1/1+4", "2/1+3"]);
    bench.ack(2, "");
    assert_eq!(bench.sent_to("a"), ["3/1+2"]);
    // What is due again goes all the same.
    bench.ack(1, "-NAK");
    assert_eq!(bench.sent_to("a"), ["1/2+2"]);
    bench.pull("b", r#"{"batch":1,"no_wait":true}"#);
    assert_eq!(bench.sent_to("b"), ["404 No Messages"]);
}

#[test]
fn without_payloads_there_is_their_size() {
    let mut bench = Bench::new(&["s.x"], ConsumerConfig { headers_only: true, ..pulling() });
    bench.pull("a", "1");
    let (payload, headers) = {
        let m = bench.fx.outgoing(0).unwrap();
        (m.payload.len(), m.headers.to_vec())
    };
    assert_eq!((payload, headers), (0, b"NATS/1.0\r\nNats-Msg-Size: 10\r\n\r\n".to_vec()));
}

#[test]
fn messages_that_leave_are_neither_counted_nor_delivered() {
    let mut bench = Bench::new(&["s.x"; 6], pulling());
    assert_eq!(bench.num_pending(), 6);
    bench.remove(2);
    bench.remove(6);
    assert_eq!(bench.num_pending(), 4);
    bench.pull("a", "2");
    assert_eq!(bench.sent_to("a"), ["1/1+3", "3/1+2"]);
    bench.remove(3);
    assert_eq!(bench.num_pending(), 2);
    assert_eq!(bench.consumer().state.pending.len(), 1);
    // More than is remembered one by one.
    bench.store.purge(None, Some(5), 0);
    bench.removed.note_many();
    assert_eq!(bench.num_pending(), 1);
    assert_eq!(bench.consumer().state.pending.len(), 0);
    bench.pull("a", "2");
    assert_eq!(bench.sent_to("a"), ["5/1+0"]);
}

#[test]
fn all_requests_end_with_the_consumer_or_the_server() {
    for (why, text) in
        [(Ending::Deleted, "409 Consumer Deleted"), (Ending::Shutdown, "409 Server Shutdown")]
    {
        let mut bench = Bench::new(&[], pulling());
        bench.pull("a", "1");
        bench.pull("b", "1");
        bench.with(|consumer, cx| consumer.end_all_requests(cx, why));
        assert_eq!(bench.sent(), [sent("a", text), sent("b", text)]);
    }
}

#[test]
fn without_acknowledgements_nothing_waits() {
    let mut bench =
        Bench::new(&["s.x"; 3], ConsumerConfig { ack_policy: AckPolicy::None, ..pulling() });
    bench.pull("a", "2");
    assert_eq!(bench.consumer().state.pending.len(), 0);
    assert_eq!((bench.floor(), bench.settled.clone()), ((2, 2), vec![1, 2]));
    bench.pass(100 * SECOND_NS);
    bench.sent();
    bench.crash();
    bench.pull("a", "2");
    assert_eq!(bench.sent_to("a"), ["3/1+0"]);
}
