//! A disk that fails, is full or hangs, by `SHEARWATER_DISK_FAULTS`: no acknowledgement is given
//! that does not hold, and everything else goes on.

use serde_json::Value;

use super::client::Client;
use super::content::{BRIEF, Origin};
use super::{JETSTREAM, api};
use crate::support::http;
use crate::support::server::{Options, Server};

/// A server whose disk can be made to fail: while the file `gate` exists in its folder.
pub(super) struct Failing {
    pub(super) server: Server,
}

impl Failing {
    pub(super) fn new(shards: usize, rules: &[&str]) -> Self {
        Self::with(JETSTREAM, shards, rules)
    }

    pub(super) fn with(config: &str, shards: usize, rules: &[&str]) -> Self {
        let rules: Vec<String> = rules.iter().map(|rule| format!("{rule}?{{dir}}/gate")).collect();
        let options = Options::new().config(config).shards(shards).flags(["-m", "-1"]);
        let options = options.variable("SHEARWATER_DISK_FAULTS", &rules.join(","));
        Self { server: options.start() }
    }

    pub(super) fn fail(&self) {
        std::fs::write(self.server.dir().join("gate"), "").unwrap();
    }

    pub(super) fn heal(&self) {
        std::fs::remove_file(self.server.dir().join("gate")).unwrap();
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.server.port)
    }

    /// The status of a health probe, and what is wrong.
    pub(super) fn health(&self, query: &str) -> (u16, String) {
        let page = http::get(&self.server, &format!("/healthz{query}"));
        (page.status, page.json()["error"].as_str().unwrap_or_default().to_owned())
    }
}

pub(super) fn message(number: u64) -> Vec<u8> {
    Origin { writer: BRIEF, number }.payload()
}

pub(super) fn create(client: &mut Client, name: &str, more: &str) {
    let body = format!(r#"{{"name":"{name}","subjects":["{name}.*"],"allow_direct":true{more}}}"#);
    api(client, &format!("STREAM.CREATE.{name}"), &body);
}

/// Publishes a message; gives the answer.
pub(super) fn publish(client: &mut Client, stream: &str, number: u64) -> Value {
    let subject = format!("{stream}.x");
    client.try_request(&subject, &[], &message(number)).unwrap().json()
}

pub(super) fn store(client: &mut Client, stream: &str, number: u64) {
    let answer = publish(client, stream, number);
    assert_eq!(answer["seq"], number, "{stream}: {answer}");
}

/// The answer is one of the errors for a store that cannot take a message.
pub(super) fn assert_refused(answer: &Value) {
    let code = answer["error"]["err_code"].as_u64();
    assert!(matches!(code, Some(10_023 | 10_077)), "{answer}");
    assert!(answer["seq"].is_null() || answer["seq"] == 0, "{answer}");
}

/// The messages 1 to `last` are there.
pub(super) fn assert_readable(client: &mut Client, stream: &str, last: u64) {
    for seq in 1..=last {
        let body = format!("{{\"seq\":{seq}}}");
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let answer = client.try_request(&subject, &[], body.as_bytes()).unwrap();
        assert_eq!(answer.status(), 0, "{stream} {seq}: {answer:?}");
        assert_eq!(Origin::of(&answer.payload), Origin { writer: BRIEF, number: seq });
    }
}

/// A stream whose write or flush failed takes nothing any more, until a restart; other streams
/// of the same shard do.
fn fences(rule: &str) {
    let mut failing = Failing::new(1, &[rule]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    (1..=5).for_each(|number| store(&mut client, "A", number));
    failing.fail();
    // The first write is that of this message, or that of the second copy of the tail.
    assert_refused(&publish(&mut client, "A", 6));
    assert_refused(&publish(&mut client, "A", 7));
    create(&mut client, "B", "");
    (1..=5).for_each(|number| store(&mut client, "B", number));
    failing.heal();
    // The disk is well again, but what it had said it has is not known to be there.
    assert_refused(&publish(&mut client, "A", 8));
    (6..=9).for_each(|number| store(&mut client, "B", number));
    assert_readable(&mut client, "A", 5);
    assert_readable(&mut client, "B", 9);
    let line = failing.server.wait_log("JetStream stream '$G > A'");
    assert!(line.contains("error 5"), "{line}");
    create(&mut client, "C", "");
    store(&mut client, "C", 1);
    failing.server.crash();
    failing.server.start_again();
    let mut client = failing.client();
    assert_readable(&mut client, "A", 5);
    assert_readable(&mut client, "B", 9);
    let answer = publish(&mut client, "A", 10);
    // What was refused may have been written all the same.
    let seq = answer["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"));
    assert!((6..=8).contains(&seq), "{answer}");
}

#[test]
fn a_failed_write_fences_its_stream() {
    fences("write:1=eio");
}

#[test]
fn a_failed_flush_fences_its_stream() {
    fences("sync:1=eio");
}

/// A read that fails is an error and no more: what is there comes when the disk gives it again,
/// and no consumer goes past it.
#[test]
fn a_failed_read_loses_nothing() {
    let mut failing = Failing::new(1, &["read:1+=eio"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    // More than the blocks that the server keeps of the end.
    (1..=60).for_each(|number| store(&mut client, "A", number));
    let config = r#"{"durable_name":"c","ack_policy":"explicit"}"#;
    let body = format!(r#"{{"stream_name":"A","config":{config}}}"#);
    api(&mut client, "CONSUMER.CREATE.A.c", &body);
    failing.server.crash();
    failing.server.start_again();
    let mut client = failing.client();
    failing.fail();
    let answer = client.ask_json("$JS.API.STREAM.MSG.GET.A", r#"{"seq":1}"#);
    assert_eq!(answer["error"]["err_code"], 10_077, "it is there, but unreadable: {answer}");
    failing.server.wait_log("JetStream disk: read of $G/streams/A/");
    let mut consumer = failing.client();
    let pull = r#"{"batch":60,"expires":5000000000}"#;
    let reply = format!("{}.p", consumer.inbox);
    consumer.publish("$JS.API.CONSUMER.MSG.NEXT.A.c", &reply, &[], pull.as_bytes()).unwrap();
    consumer.conn.sync();
    store(&mut client, "A", 61);
    failing.heal();
    store(&mut client, "A", 62);
    let mut next = 1;
    while next <= 60 {
        let delivery = consumer.message().unwrap();
        assert_eq!(delivery.status(), 0, "{next} did not come: {delivery:?}");
        assert_eq!(Origin::of(&delivery.payload).number, next, "{}", delivery.reply);
        next += 1;
    }
    assert_readable(&mut client, "A", 62);
}

/// While no segment can be made, publishes are refused in the end; reads, acknowledgements,
/// deletes and purges go on, and publishing does as soon as there is space again.
#[test]
fn a_full_disk_refuses_messages_only() {
    let mut failing = Failing::new(1, &["create:1+=enospc"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    create(&mut client, "M", r#","storage":"memory""#);
    let config = r#"{"durable_name":"c","ack_policy":"explicit"}"#;
    let body = format!(r#"{{"stream_name":"A","config":{config}}}"#);
    api(&mut client, "CONSUMER.CREATE.A.c", &body);
    failing.fail();
    let mut last = 0;
    let refused = loop {
        let answer = publish(&mut client, "A", last + 1);
        if answer["seq"] != last + 1 {
            break answer;
        }
        last += 1;
    };
    assert_refused(&refused);
    assert!(last > 100, "only {last} messages found a place");
    let line = failing.server.wait_log("JetStream disk: change of $G/streams/A/");
    assert!(line.contains("no space left on device"), "{line}");
    assert_readable(&mut client, "A", last);
    let reply = format!("{}.p", client.inbox);
    client.publish("$JS.API.CONSUMER.MSG.NEXT.A.c", &reply, &[], br#"{"batch":50}"#).unwrap();
    let deliveries: Vec<_> = (0..50).map(|_| client.message().unwrap()).collect();
    for delivery in deliveries {
        assert_eq!(client.ask(&delivery.reply, "+ACK"), b"");
    }
    api(&mut client, "STREAM.MSG.DELETE.A", &format!("{{\"seq\":{last}}}"));
    api(&mut client, "STREAM.PURGE.A", r#"{"seq":40}"#);
    store(&mut client, "M", 1);
    assert_refused(&publish(&mut client, "A", last + 1));
    failing.heal();
    let seq = crate::support::poll("the stream to take messages again", || {
        publish(&mut client, "A", last + 1)["seq"].as_u64().filter(|seq| *seq > 0)
    });
    assert_eq!(seq, last + 1);
    failing.server.crash();
    failing.server.start_again();
    let mut client = failing.client();
    let info = api(&mut client, "STREAM.INFO.A", "");
    let state = &info["state"];
    assert_eq!((&state["first_seq"], &state["last_seq"]), (&40.into(), &(last + 1).into()));
    assert_eq!(state["messages"], last + 1 - 40, "{info}");
    let info = api(&mut client, "CONSUMER.INFO.A.c", "");
    assert_eq!(info["ack_floor"]["stream_seq"], 50, "{info}");
}

/// A write that never ends holds up its own stream, for a bounded number of bytes, and no other.
#[test]
fn a_stuck_write_holds_up_its_stream_only() {
    let mut failing = Failing::new(2, &["write:1=hang"]);
    let mut client = failing.client();
    for at in 0..8 {
        create(&mut client, &format!("F{at}"), "");
        store(&mut client, &format!("F{at}"), 1);
        create(&mut client, &format!("M{at}"), r#","storage":"memory""#);
    }
    failing.fail();
    // The first write of each shard gets stuck.
    for at in 0..8 {
        let reply = format!("{}.{at}", client.inbox);
        client.publish(&format!("F{at}.x"), &reply, &[], &message(2)).unwrap();
    }
    let mut other = failing.client();
    let mut moving = answered(&mut client, 6);
    (0..50).for_each(|number| store(&mut other, "M0", number + 1));
    client.conn.send("PING\r\n");
    moving.extend(answered(&mut client, 0));
    let stuck: Vec<u64> = (0..8).filter(|at| !moving.contains(at)).collect();
    assert!(!stuck.is_empty(), "no stream is stuck");
    for number in 3..50 {
        moving.iter().for_each(|at| store(&mut client, &format!("F{at}"), number));
        (1..8).for_each(|at| store(&mut client, &format!("M{at}"), number - 2));
    }
    let before = failing.server.resident_bytes();
    for at in &stuck {
        flood(&failing, *at);
    }
    let grown = failing.server.resident_bytes().saturating_sub(before);
    assert!(grown < 600 << 20, "{grown} bytes are held for two streams that are stuck");
    moving.iter().for_each(|at| store(&mut client, &format!("F{at}"), 50));
    failing.server.crash();
    failing.server.start_again();
    let mut client = failing.client();
    stuck.iter().for_each(|at| assert_readable(&mut client, &format!("F{at}"), 1));
    moving.iter().for_each(|at| assert_readable(&mut client, &format!("F{at}"), 50));
}

/// Which streams have taken their second message: as many as `count`, or, for 0, all until PONG.
fn answered(client: &mut Client, count: usize) -> Vec<u64> {
    let mut streams = Vec::new();
    while count == 0 || streams.len() < count {
        let line = String::from_utf8(client.conn.line().unwrap()).unwrap();
        if line == "PONG" {
            break;
        }
        let fields: Vec<&str> = line.split(' ').collect();
        let answer = String::from_utf8(client.conn.line().unwrap()).unwrap();
        assert!(answer.contains(r#""seq":2"#), "{line} {answer}");
        streams.push(fields[1].rsplit('.').next().unwrap().parse().unwrap());
    }
    streams
}

/// Publishes to a stuck stream until it refuses, which it has to; no other answer may come.
fn flood(failing: &Failing, at: u64) {
    let mut client = failing.client();
    let payload = vec![b'x'; 1 << 20];
    let mut sent = 0;
    loop {
        let reply = format!("{}.f", client.inbox);
        client.publish(&format!("F{at}.x"), &reply, &[], &payload).unwrap();
        client.conn.send("PING\r\n");
        sent += 1;
        let line = client.conn.line().unwrap();
        if line == b"PONG" {
            assert!(sent < 400, "{sent} MiB are taken by a stream that is stuck");
            continue;
        }
        let line = String::from_utf8(line).unwrap();
        assert!(line.starts_with("HMSG "), "{line}");
        let block = client.conn.lines_until("");
        assert!(block[0].starts_with("NATS/1.0 429"), "{block:?}");
        return;
    }
}
