//! Priority groups (ADR-42).

use wire::api::consumer_config::ConsumerConfig;
use wire::api::policy::PriorityPolicy;

use super::super::group::Unpinned;
use super::{Bench, SECOND_NS, pulling};

fn grouped(priority_policy: PriorityPolicy) -> ConsumerConfig {
    ConsumerConfig {
        priority_groups: vec!["g".to_owned()],
        priority_policy,
        max_ack_pending: 100,
        ..pulling()
    }
}

#[test]
fn requests_name_a_group_that_exists() {
    let mut bench = Bench::new(&["s.x"], grouped(PriorityPolicy::Overflow));
    for (body, text) in [
        ("1", "400 Bad Request - Priority Group missing"),
        (r#"{"batch":1,"group":"h"}"#, "400 Bad Request - Invalid Priority Group"),
        (r#"{"batch":1,"group":"g","priority":10}"#, "400 Bad Request"),
        (r#"{"batch":1,"group":"g","id":"x"}"#, "400 Bad Request"),
    ] {
        bench.pull("a", body);
        let sent = bench.sent_to("a");
        assert!(sent.len() == 1 && sent[0].starts_with(text), "{body}: {sent:?}");
    }
    bench.pull("a", r#"{"batch":1,"group":"g"}"#);
    assert_eq!(bench.sent_to("a"), ["1/1+0"]);
}

#[test]
fn overflow_requests_wait_for_a_backlog() {
    let mut bench = Bench::new(&[], grouped(PriorityPolicy::Overflow));
    bench.pull("over", r#"{"batch":9,"group":"g","min_pending":3}"#);
    bench.publish("s.x");
    bench.publish("s.x");
    assert!(bench.sent().is_empty());
    bench.publish("s.x");
    assert_eq!(bench.sent_to("over"), ["1/1+2"]);
    bench.pull("unsettled", r#"{"batch":9,"group":"g","min_ack_pending":1}"#);
    assert_eq!(bench.sent_to("unsettled"), ["2/1+1", "3/1+0"]);
}

#[test]
fn lower_priorities_are_served_first() {
    let mut bench = Bench::new(&[], grouped(PriorityPolicy::Prioritized));
    bench.pull("low", r#"{"batch":2,"group":"g","priority":5}"#);
    bench.pull("high", r#"{"batch":2,"group":"g","priority":1}"#);
    for _ in 0..4 {
        bench.publish("s.x");
    }
    let to: Vec<String> = bench.sent().into_iter().map(|sent| sent.0).collect();
    assert_eq!(to, ["high", "high", "low", "low"]);
}

/// The pin of the message that went out last.
fn pin_of(bench: &mut Bench) -> String {
    let headers = bench.headers().pop().unwrap();
    let (_, rest) = headers.split_once("Nats-Pin-Id: ").unwrap();
    rest.split_once("\r\n").unwrap().0.to_owned()
}

#[test]
fn one_client_gets_everything_until_it_is_silent() {
    let mut bench = Bench::new(
        &["s.x"],
        ConsumerConfig {
            priority_timeout_ns: 10 * SECOND_NS as i64,
            ..grouped(PriorityPolicy::PinnedClient)
        },
    );
    bench.listeners.0.extend(
        ["PINNED", "UNPINNED"].map(|kind| format!("$JS.EVENT.ADVISORY.CONSUMER.{kind}.S.C")),
    );
    bench.pull("a", r#"{"batch":2,"group":"g"}"#);
    let pin = pin_of(&mut bench);
    bench.pull("b", r#"{"batch":9,"group":"g"}"#);
    bench.publish("s.x");
    bench.publish("s.x");
    assert_eq!(bench.sent(), [("a".to_owned(), "2/1+0".to_owned())]);
    bench.pull("c", r#"{"batch":1,"group":"g","id":"other"}"#);
    assert_eq!(bench.sent_to("c"), ["423 Nats-Pin-Id mismatch"]);
    bench.pass(9 * SECOND_NS);
    bench.pull("a", &format!(r#"{{"batch":1,"group":"g","id":"{pin}"}}"#));
    assert_eq!(bench.sent(), [("a".to_owned(), "3/1+0".to_owned())]);
    bench.pass(10 * SECOND_NS - 1);
    bench.publish("s.x");
    bench.sent();
    bench.pass(1);
    let to: Vec<String> = bench.sent().into_iter().map(|sent| sent.0).collect();
    assert_eq!(to.last().map(String::as_str), Some("b"), "{to:?}");
    // The pin is over for who had it.
    bench.pull("a", &format!(r#"{{"batch":1,"group":"g","id":"{pin}"}}"#));
    assert_eq!(bench.sent_to("a"), ["423 Nats-Pin-Id mismatch"]);
}

#[test]
fn a_client_can_be_unpinned() {
    let mut bench = Bench::new(&["s.x"], grouped(PriorityPolicy::PinnedClient));
    bench.pull("a", r#"{"batch":5,"group":"g"}"#);
    bench.pull("b", r#"{"batch":5,"group":"g"}"#);
    pin_of(&mut bench);
    let unpin = |bench: &mut Bench, group: &str| {
        bench.with(|consumer, cx| consumer.unpin(group, Unpinned::Admin, cx))
    };
    assert!(!unpin(&mut bench, "h"));
    assert!(unpin(&mut bench, "g"));
    assert_eq!(bench.sent_to("a"), ["423 Nats-Wrong-Pin-Id"]);
    bench.publish("s.x");
    assert_eq!(bench.sent_to("b"), ["2/1+0"]);
}
