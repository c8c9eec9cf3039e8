//! A disk that is stuck and comes back: nothing is promised meanwhile, the rest of the server goes
//! on, `/healthz` says what is wrong, and everything that waited is answered and there afterwards.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::api;
use super::client::{Client, Message};
use super::content::Origin;
use super::failing::{Failing, assert_readable, assert_refused, create, message, publish, store};
use crate::support::poll;

const CONSUMER: &str = r#"{"durable_name":"c","ack_policy":"explicit"}"#;

/// Requests for a message that a test has written as its sixth.
const READS: [(&str, &str); 3] = [
    ("$JS.API.DIRECT.GET.A", r#"{"seq":6}"#),
    ("$JS.API.DIRECT.GET.A", r#"{"next_by_subj":"A.x","seq":6}"#),
    ("$JS.API.STREAM.MSG.GET.A", r#"{"seq":6}"#),
];

/// What has come to a client up to now: everything before a message of its own to itself.
fn arrived(client: &mut Client) -> Vec<Message> {
    let mark = format!("{}.mark", client.inbox);
    client.publish(&mark, "", &[], b"").unwrap();
    let mut messages = Vec::new();
    loop {
        let message = client.message().unwrap();
        if message.subject == mark {
            return messages;
        }
        messages.push(message);
    }
}

/// Publishes with a message id and does not wait for the answer.
fn begin(client: &mut Client, stream: &str, number: u64) {
    let reply = format!("{}.{stream}.{number}", client.inbox);
    let id = [format!("Nats-Msg-Id: {number}")];
    client.publish(&format!("{stream}.x"), &reply, &id, &message(number)).unwrap();
}

fn add_consumer(client: &mut Client, stream: &str) {
    let body = format!(r#"{{"stream_name":"{stream}","config":{CONSUMER}}}"#);
    api(client, &format!("CONSUMER.CREATE.{stream}.c"), &body);
}

fn pull(client: &mut Client, stream: &str, batch: usize) {
    let body = format!(r#"{{"batch":{batch}}}"#);
    let reply = format!("{}.pull", client.inbox);
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.c");
    client.publish(&subject, &reply, &[], body.as_bytes()).unwrap();
}

fn await_ill(failing: &Failing) {
    let text = poll("a probe that says that the disk is stuck", || {
        let (status, text) = failing.health("");
        (status == 503).then_some(text)
    });
    assert!(text.starts_with("JetStream disk operation has been under way for "), "{text}");
    assert_eq!(failing.health("?js-server-only=true").0, 503);
    assert_eq!(failing.health("?js-enabled-only=true").0, 200);
    let line = failing.server.wait_log("JetStream disk operation has been under way for ");
    assert!(line.contains("[WRN]") && line.contains("on shard 0"), "{line}");
}

fn await_well(failing: &Failing) {
    poll("a probe that finds all well", || (failing.health("").0 == 200).then_some(()));
    failing.server.wait_log("JetStream disk operations of shard 0 end again");
}

/// All writes, or all flushes, are stuck; then they are not.
fn is_stuck_and_comes_back(rule: &str) {
    let mut failing = Failing::new(1, &[rule]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    create(&mut client, "M", r#","storage":"memory""#);
    add_consumer(&mut client, "A");
    (1..=5).for_each(|number| begin(&mut client, "A", number));
    let mut answers: Vec<Message> = (0..5).map(|_| client.message().unwrap()).collect();
    let mut consumer = failing.client();
    pull(&mut consumer, "A", 20);
    let deliveries: Vec<Message> = (0..5).map(|_| consumer.message().unwrap()).collect();
    failing.fail();
    (6..=15).for_each(|number| begin(&mut client, "A", number));
    // Again, as a client does that has waited long enough.
    begin(&mut client, "A", 6);
    let settle = format!("{}.settled", consumer.inbox);
    consumer.publish(&deliveries[0].reply, &settle, &[], b"+ACK").unwrap();
    let mut maker = failing.client();
    let made = format!("{}.made", maker.inbox);
    maker.publish("$JS.API.STREAM.CREATE.N", &made, &[], br#"{"name":"N"}"#).unwrap();
    let mut reader = failing.client();
    for (number, (subject, body)) in READS.iter().enumerate() {
        let reply = format!("{}.{number}", reader.inbox);
        reader.publish(subject, &reply, &[], body.as_bytes()).unwrap();
    }
    await_ill(&failing);
    // The rest of the server goes on, and nothing of this was promised, or shown.
    let mut other = failing.client();
    (1..=20).for_each(|number| store(&mut other, "M", number));
    for waiting in [&mut client, &mut consumer, &mut maker, &mut reader] {
        let early = arrived(waiting);
        assert!(early.is_empty(), "promised by a disk that is stuck: {early:?}");
    }
    failing.heal();
    answers.extend((0..11).map(|_| client.message().unwrap()));
    for (at, answer) in (1..).zip(&answers) {
        let (seq, is_again) = if at == 16 { (6, true) } else { (at, false) };
        let json = answer.json();
        assert_eq!(json["seq"], seq, "answer {at}: {answer:?}");
        assert_eq!(json["duplicate"] == true, is_again, "answer {at}: {answer:?}");
    }
    assert!(maker.message().unwrap().json()["error"].is_null());
    for _ in READS {
        let answer = reader.message().unwrap();
        if answer.headers.is_empty() {
            assert_eq!(answer.json()["message"]["seq"], 6, "{answer:?}");
        } else {
            assert_eq!(answer.header("Nats-Sequence"), Some("6"), "{answer:?}");
        }
    }
    let mut later: Vec<Message> = (0..11).map(|_| consumer.message().unwrap()).collect();
    later.retain(|message| message.subject != settle);
    let numbers: Vec<u64> =
        later.iter().map(|message| Origin::of(&message.payload).number).collect();
    assert_eq!(numbers, (6..=15).collect::<Vec<u64>>());
    await_well(&failing);
    failing.server.crash();
    failing.server.start_again();
    let mut client = failing.client();
    assert_readable(&mut client, "A", 15);
    let info = api(&mut client, "CONSUMER.INFO.A.c", "");
    assert_eq!(info["ack_floor"]["stream_seq"], 1, "{info}");
    api(&mut client, "STREAM.INFO.N", "");
    store(&mut client, "A", 16);
}

#[test]
fn stuck_writes_come_back() {
    is_stuck_and_comes_back("write:1+=stall");
}

#[test]
fn stuck_flushes_come_back() {
    is_stuck_and_comes_back("sync:1+=stall");
}

/// The server dies while its disk is stuck. What it had promised is there, what it had not is
/// stored by publishers that send it again, once.
#[test]
fn killed_while_the_disk_is_stuck() {
    let mut failing = Failing::new(1, &["write@/A/:1+=stall", "sync@/B/:1+=stall"]);
    let mut client = failing.client();
    for stream in ["A", "B"] {
        create(&mut client, stream, "");
        (1..=5).for_each(|number| store(&mut client, stream, number));
    }
    failing.fail();
    for stream in ["A", "B"] {
        (6..=20).for_each(|number| begin(&mut client, stream, number));
    }
    assert!(arrived(&mut client).is_empty());
    failing.server.crash();
    failing.heal();
    failing.server.start_again();
    let mut client = failing.client();
    for stream in ["A", "B"] {
        assert_readable(&mut client, stream, 5);
        for number in 6..=20 {
            begin(&mut client, stream, number);
            let answer = client.message().unwrap().json();
            assert_eq!(answer["seq"], number, "{stream}: {answer}");
        }
        let info = api(&mut client, &format!("STREAM.INFO.{stream}"), "");
        assert_eq!(info["state"]["messages"], 20, "{info}");
        assert_readable(&mut client, stream, 20);
    }
}

/// What is stuck fails in the end, as it does where the system gives a device up.
fn is_stuck_and_fails(rule: &str) {
    let mut failing = Failing::new(1, &[rule]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    create(&mut client, "B", "");
    (1..=5).for_each(|number| store(&mut client, "A", number));
    failing.fail();
    (6..=10).for_each(|number| begin(&mut client, "A", number));
    (1..=5).for_each(|number| store(&mut client, "B", number));
    assert!(arrived(&mut client).is_empty());
    failing.heal();
    (6..=10).for_each(|_| assert_refused(&client.message().unwrap().json()));
    assert_refused(&publish(&mut client, "A", 11));
    assert_readable(&mut client, "A", 5);
    // It is not known whether what was refused is there.
    let answer = client.try_request("$JS.API.DIRECT.GET.A", &[], br#"{"seq":6}"#).unwrap();
    assert_eq!(answer.status(), 500, "{answer:?}");
    let answer = client.ask_json("$JS.API.STREAM.MSG.GET.A", r#"{"seq":6}"#);
    assert_eq!(answer["error"]["err_code"], 10_077, "{answer}");
    store(&mut client, "B", 6);
    failing.server.wait_log("JetStream stream '$G > A': input/output error 5");
    let ill = (503, String::from("JetStream stream '$G > A' has failed: input/output error 5"));
    assert_eq!(failing.health(""), ill);
    assert_eq!(failing.health("?account=$G&stream=B").0, 200);
    failing.server.restart();
    assert_eq!(failing.health("").0, 200);
    let mut client = failing.client();
    assert_readable(&mut client, "A", 5);
    assert_readable(&mut client, "B", 6);
    let answer = publish(&mut client, "A", 12);
    // What was refused may have been written all the same.
    assert!((6..=11).contains(&answer["seq"].as_u64().unwrap()), "{answer}");
}

#[test]
fn stuck_writes_fail_in_the_end() {
    is_stuck_and_fails("write@/A/:1+=stall-eio");
}

#[test]
fn stuck_flushes_fail_in_the_end() {
    is_stuck_and_fails("sync@/A/:1+=stall-eio");
}

/// Reads that are stuck hold up who wants to read there, and nobody else.
#[test]
fn stuck_reads_come_back() {
    let mut failing = Failing::new(1, &["read@/A/:1+=stall"]);
    let mut client = failing.client();
    for stream in ["A", "B"] {
        create(&mut client, stream, "");
        (1..=60).for_each(|number| store(&mut client, stream, number));
        add_consumer(&mut client, stream);
    }
    // What was written last is in memory.
    failing.server.restart();
    let mut client = failing.client();
    let mut consumer = failing.client();
    failing.fail();
    let reply = format!("{}.read", client.inbox);
    client.publish("$JS.API.DIRECT.GET.A", &reply, &[], br#"{"seq":1}"#).unwrap();
    pull(&mut consumer, "A", 60);
    let mut other = failing.client();
    assert_readable(&mut other, "B", 60);
    pull(&mut other, "B", 60);
    for number in 1..=60 {
        assert_eq!(Origin::of(&other.message().unwrap().payload).number, number);
    }
    store(&mut other, "A", 61);
    store(&mut other, "B", 61);
    await_ill(&failing);
    assert!(arrived(&mut client).is_empty() && arrived(&mut consumer).is_empty());
    failing.heal();
    assert_eq!(Origin::of(&client.message().unwrap().payload).number, 1);
    for number in 1..=60 {
        assert_eq!(Origin::of(&consumer.message().unwrap().payload).number, number);
    }
    await_well(&failing);
}

/// Making and removing files is stuck. Streams that have files go on until they need another;
/// what waits for that is answered when it is there.
#[test]
fn stuck_names_come_back() {
    let mut failing = Failing::new(1, &["create:1+=stall", "remove:1+=stall"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    create(&mut client, "D", "");
    store(&mut client, "A", 1);
    store(&mut client, "D", 1);
    failing.fail();
    let mut maker = failing.client();
    for (call, body) in [("STREAM.CREATE.N", r#"{"name":"N"}"#), ("STREAM.DELETE.D", "")] {
        let reply = format!("{}.{call}", maker.inbox);
        maker.publish(&format!("$JS.API.{call}"), &reply, &[], body.as_bytes()).unwrap();
    }
    (2..=10).for_each(|number| store(&mut client, "A", number));
    // More than the first segment holds, which has 256 KiB.
    let count = 1200_u64;
    (11..=count).for_each(|number| begin(&mut client, "A", number));
    await_ill(&failing);
    let early = arrived(&mut client);
    assert!(!early.is_empty() && early.len() < 1100, "{} of them were answered", early.len());
    assert!(arrived(&mut maker).is_empty());
    failing.heal();
    let late = (early.len() as u64 + 11..=count).map(|_| client.message().unwrap());
    for (seq, answer) in (11..).zip(early.into_iter().chain(late)) {
        assert_eq!(answer.json()["seq"], seq, "{answer:?}");
    }
    for _ in 0..2 {
        let answer = maker.message().unwrap();
        assert!(answer.json()["error"].is_null(), "{answer:?}");
    }
    await_well(&failing);
    failing.server.crash();
    failing.server.start_again();
    let mut client = failing.client();
    assert_readable(&mut client, "A", count);
    api(&mut client, "STREAM.INFO.N", "");
    let gone = client.ask_json("$JS.API.STREAM.INFO.D", "");
    assert_eq!(gone["error"]["err_code"], 10_059, "{gone}");
}

/// A server that is to end while its disk is stuck does so, after it has waited for a bounded
/// time, and has promised nothing that is not there.
#[test]
fn a_stop_does_not_wait_for_ever() {
    let mut failing = Failing::new(2, &["write:1+=stall"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    (1..=5).for_each(|number| store(&mut client, "A", number));
    failing.fail();
    begin(&mut client, "A", 6);
    assert!(arrived(&mut client).is_empty());
    let begun = Instant::now();
    failing.server.signal(Signal::TERM);
    while failing.server.is_running() {
        assert!(begun.elapsed() < Duration::from_secs(15), "it waits for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    let line = failing.server.wait_log("JetStream ends without ");
    assert!(line.contains("nothing of them was acknowledged"), "{line}");
    assert!(client.message().is_none(), "an answer came from a disk that is stuck");
    failing.heal();
    failing.server.start_again();
    let mut client = failing.client();
    assert_readable(&mut client, "A", 5);
    store(&mut client, "A", 6);
}

/// In the lazy mode an acknowledgement waits for the write and not for the flush.
#[test]
fn a_lazy_server_waits_for_writes_only() {
    let config = "jetstream { store_dir: \"{dir}/js\", sync_interval: 50ms }";
    let failing = Failing::with(config, 1, &["write@/A/:1+=stall", "sync@/B/:1+=stall"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    create(&mut client, "B", "");
    store(&mut client, "A", 1);
    store(&mut client, "B", 1);
    failing.fail();
    (2..=20).for_each(|number| begin(&mut client, "A", number));
    let mut other = failing.client();
    (2..=20).for_each(|number| store(&mut other, "B", number));
    await_ill(&failing);
    assert!(arrived(&mut client).is_empty());
    failing.heal();
    for seq in 2..=20 {
        assert_eq!(client.message().unwrap().json()["seq"], seq);
    }
    await_well(&failing);
}
