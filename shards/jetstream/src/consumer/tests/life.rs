//! Pause, reset, disuse, the watchdog and dead letters.

use wire::api::consumer_config::ConsumerConfig;
use wire::api::policy::DeliverPolicy;
use wire::api::timestamp::Timestamp;

use super::super::config::DEAD_LETTER_KEY;
use super::{Bench, SECOND_NS, Verdict, pulling, pushing};

#[test]
fn a_paused_consumer_rests_but_shows_itself() {
    let beat = ConsumerConfig { idle_heartbeat_ns: SECOND_NS as i64, ..pushing() };
    let mut bench = Bench::new(&[], beat);
    let until = Timestamp(bench.unix_ns + 10 * SECOND_NS as i64);
    assert!(bench.with(|consumer, cx| consumer.pause(until, cx)));
    bench.publish("s.x");
    bench.pass(9 * SECOND_NS);
    let sent = bench.sent_to("to");
    assert!(sent.len() >= 8 && sent.iter().all(|text| text == "100 Idle Heartbeat"), "{sent:?}");
    let info = bench.with(|consumer, cx| consumer.info(cx));
    assert!(info.paused && info.pause_remaining_ns > 0 && info.num_pending == 1);
    bench.pass(SECOND_NS + SECOND_NS / 100);
    assert!(bench.sent_to("to").contains(&"1/1+0".to_owned()));
}

#[test]
fn a_pause_can_be_ended() {
    let mut bench = Bench::new(&["s.x"], pulling());
    let until = Timestamp(bench.unix_ns + 10 * SECOND_NS as i64);
    bench.with(|consumer, cx| consumer.pause(until, cx));
    bench.pull("a", "1");
    assert!(bench.sent().is_empty());
    assert!(!bench.with(|consumer, cx| consumer.pause(Timestamp::ZERO, cx)));
    bench.serve();
    assert_eq!(bench.sent_to("a"), ["1/1+0"]);
}

#[test]
fn a_reset_starts_again() {
    let mut bench = Bench::new(&["s.x"; 5], pulling());
    bench.pull("a", "4");
    bench.ack(1, "");
    bench.ack(2, "");
    bench.sent();
    // Behind what is settled.
    assert_eq!(bench.with(|consumer, cx| consumer.reset(0, cx)).unwrap(), 3);
    bench.pull("a", "3");
    assert_eq!(bench.sent_to("a"), ["3/1+2", "4/1+1", "5/1+0"]);
    assert_eq!(bench.consumer().state.delivered.consumer, 3);
    assert_eq!(bench.with(|consumer, cx| consumer.reset(2, cx)).unwrap(), 2);
    bench.keep();
    bench.pass(SECOND_NS);
    bench.sent();
    bench.crash();
    bench.pull("b", "1");
    assert_eq!(bench.sent_to("b"), ["2/1+3"]);
    let config = ConsumerConfig { deliver_policy: DeliverPolicy::New, ..pulling() };
    let mut bench = Bench::new(&["s.x"; 2], config);
    assert!(bench.with(|consumer, cx| consumer.reset(1, cx)).is_err());
    let config = ConsumerConfig {
        deliver_policy: DeliverPolicy::ByStartSequence,
        opt_start_seq: 2,
        ..pulling()
    };
    let mut bench = Bench::new(&["s.x"; 3], config);
    assert!(bench.with(|consumer, cx| consumer.reset(1, cx)).is_err());
    assert_eq!(bench.with(|consumer, cx| consumer.reset(3, cx)).unwrap(), 3);
}

#[test]
fn a_consumer_in_disuse_goes() {
    let config = ConsumerConfig { inactive_threshold_ns: 5 * SECOND_NS as i64, ..pulling() };
    let mut bench = Bench::new(&[], config);
    assert_eq!(bench.pass(4 * SECOND_NS), Verdict::Keep);
    bench.pull("a", r#"{"batch":1,"expires":20000000000}"#);
    assert_eq!(bench.pass(20 * SECOND_NS), Verdict::Keep, "a request waits");
    assert_eq!(bench.pass(5 * SECOND_NS - 1), Verdict::Keep);
    assert_eq!(bench.pass(1), Verdict::Delete);
    let config = ConsumerConfig { inactive_threshold_ns: 5 * SECOND_NS as i64, ..pushing() };
    let mut bench = Bench::new(&[], config);
    assert_eq!(bench.pass(60 * SECOND_NS), Verdict::Keep, "somebody listens");
    bench.listeners.0.clear();
    bench.with(|consumer, cx| consumer.check_interest(cx));
    assert_eq!(bench.pass(5 * SECOND_NS), Verdict::Delete);
    let mut bench = Bench::new(&[], pulling());
    assert_eq!(bench.pass(3600 * SECOND_NS), Verdict::Keep, "it has a durable name");
}

const STUCK: &str = "$JS.EVENT.ADVISORY.CONSUMER.STUCK.S.C";

#[test]
fn the_watchdog_tells_once_of_a_consumer_that_hangs() {
    let mut bench = Bench::with_messages(&["s.x"; 3]);
    bench.watch_ns = 60 * SECOND_NS;
    bench.listeners.0.insert(STUCK.to_owned());
    bench.create(ConsumerConfig {
        max_ack_pending: 1,
        ack_wait_ns: 3600 * SECOND_NS as i64,
        ..pulling()
    });
    bench.pull("a", "9");
    bench.pass(60 * SECOND_NS - 1);
    assert!(!bench.consumer().is_stuck());
    bench.pass(1);
    assert!(bench.consumer().is_stuck());
    assert_eq!(bench.sent().last().map(|sent| sent.0.as_str()), Some(STUCK));
    assert_eq!(bench.fx.logs.len(), 1);
    let line = &bench.fx.logs[0].1;
    assert!(line.contains("'A > S > C' is stuck: 2 messages and 1 requests wait"), "{line}");
    bench.pass(600 * SECOND_NS);
    assert_eq!(bench.fx.logs.len(), 1);
    bench.ack(1, "");
    assert!(!bench.consumer().is_stuck());
    bench.pass(60 * SECOND_NS);
    assert_eq!(bench.fx.logs.len(), 2, "it hangs again");
}

#[test]
fn the_watchdog_is_silent_when_nobody_or_nothing_waits() {
    for (messages, pulls, watch_ns) in [(0, 1, 1), (3, 0, 1), (3, 1, 0)] {
        let mut bench = Bench::with_messages(&["s.x"; 3][..messages]);
        bench.watch_ns = watch_ns * SECOND_NS;
        bench.create(ConsumerConfig { max_ack_pending: 1, ..pulling() });
        for _ in 0..pulls {
            bench.pull("a", "9");
        }
        bench.pass(20 * SECOND_NS);
        assert!(bench.fx.logs.is_empty(), "{messages} {pulls} {watch_ns}");
    }
}

fn lettered() -> ConsumerConfig {
    ConsumerConfig {
        max_deliver: 1,
        metadata: [(DEAD_LETTER_KEY.to_owned(), "dead".to_owned())].into(),
        ..pulling()
    }
}

impl Bench {
    /// Sends the dead letters that are due; the id and reason of each.
    fn letters(&mut self) -> Vec<(String, String)> {
        self.send_letters();
        let value = |headers: &str, key: &str| {
            let line = headers.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_default().to_owned()
        };
        let ids = self.headers().into_iter().map(|headers| {
            (value(&headers, "Nats-Msg-Id: "), value(&headers, "Shearwater-Dead-Letter-Reason: "))
        });
        ids.filter(|(id, _)| !id.is_empty()).collect()
    }
}

#[test]
fn what_is_given_up_is_sent_until_it_is_stored() {
    let mut bench = Bench::new(&["s.x"; 2], lettered());
    bench.pull("a", "9");
    bench.ack(1, "+TERM no");
    let first = bench.letters();
    assert_eq!((first.len(), first[0].1.as_str()), (1, "terminated"));
    assert!(bench.settled.is_empty(), "the stream keeps it");
    // Nobody answers: the same again.
    bench.pass(2 * SECOND_NS - 1);
    assert!(bench.letters().is_empty());
    bench.pass(1);
    assert_eq!(bench.letters(), first);
    bench.with(|consumer, cx| consumer.handle_letter_answer(1, Some("full"), cx));
    assert!(bench.settled.is_empty());
    // Nor after a restart is it forgotten, and it has the same name.
    bench.crash();
    assert_eq!(bench.letters(), first);
    bench.with(|consumer, cx| consumer.handle_letter_answer(1, None, cx));
    assert_eq!(bench.settled, [1]);
    bench.pass(30 * SECOND_NS);
    let mut second = bench.letters();
    second.dedup();
    assert_eq!((second.len(), second[0].1.as_str()), (1, "max_deliver"));
    bench.with(|consumer, cx| consumer.handle_letter_answer(2, None, cx));
    bench.with(|consumer, cx| consumer.handle_letter_answer(2, None, cx));
    assert_eq!(bench.settled, [1, 2]);
    bench.pass(SECOND_NS);
    bench.crash();
    bench.pass(100 * SECOND_NS);
    assert!(bench.letters().is_empty());
}
