//! The server is killed while it purges, deletes, updates, creates, restores and takes batches.
//! Each of these is done or not done afterwards, never half; and done, if it was answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use super::content::{BRIEF, Origin};
use super::{Dice, api, number_from_env, server};
use crate::support::server::Server;

/// Messages of each stream.
const MESSAGES: u64 = 60;
/// Messages of an atomic batch.
const BATCH: u64 = 20;

/// Something the server is asked to do, and what it must have done afterwards.
struct Deed {
    /// The stream it is about, which exists before with its messages and a consumer.
    stream: String,
    /// What is sent; the last of it is answered when it is done.
    parts: Vec<Part>,
    /// Looks at the stream afterwards; gives whether it was done.
    check: fn(&mut Client, &str) -> bool,
}

/// A message to the server.
struct Part {
    subject: String,
    headers: Vec<String>,
    payload: Vec<u8>,
}

fn create(client: &mut Client, stream: &str) {
    let body = json!({ "name": stream, "subjects": [format!("{stream}.*")], "allow_direct": true,
        "allow_atomic": true });
    api(client, &format!("STREAM.CREATE.{stream}"), &body.to_string());
    let config = json!({ "durable_name": "c", "ack_policy": "explicit" });
    let body = json!({ "stream_name": stream, "config": config });
    api(client, &format!("CONSUMER.CREATE.{stream}.c"), &body.to_string());
    for number in 1..=MESSAGES {
        let payload = Origin { writer: BRIEF, number }.payload();
        let reply = format!("{}.{number}", client.inbox);
        client.publish(&format!("{stream}.{}", number % 2), &reply, &[], &payload).unwrap();
    }
    (0..MESSAGES).for_each(|_| assert!(client.message().unwrap().json()["seq"].is_u64()));
}

/// The state of a stream, if it exists; every message that it has is what was written.
fn state(client: &mut Client, stream: &str) -> Option<Value> {
    let info = client.ask_json(&format!("$JS.API.STREAM.INFO.{stream}"), "");
    if info["error"]["err_code"] == 10_059 {
        return None;
    }
    assert!(info["error"].is_null(), "{info}");
    let mut count = 0;
    for seq in 1..=info["state"]["last_seq"].as_u64().unwrap() {
        let body = format!("{{\"seq\":{seq}}}");
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let answer = client.try_request(&subject, &[], body.as_bytes()).unwrap();
        if answer.status() == 0 {
            assert_eq!(Origin::of(&answer.payload).number, seq, "{stream}");
            count += 1;
        }
    }
    assert_eq!(info["state"]["messages"], count, "{info}");
    Some(info)
}

/// Whether a stream that still has to exist has one of two numbers of messages: the second, when
/// it was done.
fn has(client: &mut Client, stream: &str, before: u64, after: u64) -> bool {
    let info = state(client, stream).expect("it exists");
    assert_eq!(info["state"]["last_seq"], MESSAGES.max(after), "{info}");
    let messages = info["state"]["messages"].as_u64().unwrap();
    assert!([before, after].contains(&messages), "{stream}: done by half: {info}");
    messages == after
}

fn was_purged(client: &mut Client, stream: &str) -> bool {
    has(client, stream, MESSAGES, 0)
}

fn was_purged_by_subject(client: &mut Client, stream: &str) -> bool {
    has(client, stream, MESSAGES, MESSAGES / 2)
}

fn was_purged_below(client: &mut Client, stream: &str) -> bool {
    has(client, stream, MESSAGES, MESSAGES - 29)
}

fn message_was_erased(client: &mut Client, stream: &str) -> bool {
    has(client, stream, MESSAGES, MESSAGES - 1)
}

fn was_deleted(client: &mut Client, stream: &str) -> bool {
    let Some(info) = state(client, stream) else { return true };
    assert_eq!(info["state"]["messages"], MESSAGES, "{info}");
    assert_eq!(info["state"]["consumer_count"], 1, "{info}");
    false
}

fn was_updated(client: &mut Client, stream: &str) -> bool {
    let is_small = has(client, stream, MESSAGES, 20);
    let info = api(client, &format!("STREAM.INFO.{stream}"), "");
    // The new limit may be known before it is in force; it is in force before it is answered.
    let (limit, text) = (&info["config"]["max_msgs"], &info["config"]["description"]);
    let is_known = *limit == 20 && *text == "smaller";
    assert!(is_known || (*limit == -1 && text.is_null()), "{info}");
    assert!(is_known || !is_small, "{info}");
    is_known && is_small
}

fn consumer_was_made(client: &mut Client, stream: &str) -> bool {
    let info = client.ask_json(&format!("$JS.API.CONSUMER.INFO.{stream}.new"), "");
    if info["error"]["err_code"] == 10_014 {
        return false;
    }
    assert_eq!(info["config"]["description"], "whole", "{info}");
    assert_eq!(info["num_pending"], MESSAGES, "{info}");
    true
}

fn consumer_was_deleted(client: &mut Client, stream: &str) -> bool {
    let info = client.ask_json(&format!("$JS.API.CONSUMER.INFO.{stream}.c"), "");
    assert!(info["error"].is_null() || info["error"]["err_code"] == 10_014, "{info}");
    !info["error"].is_null()
}

fn stream_was_made(client: &mut Client, stream: &str) -> bool {
    let info = client.ask_json(&format!("$JS.API.STREAM.INFO.{stream}X"), "");
    assert!(info["error"].is_null() || info["error"]["err_code"] == 10_059, "{info}");
    info["error"].is_null()
}

fn batch_was_stored(client: &mut Client, stream: &str) -> bool {
    let info = state(client, stream).expect("it exists");
    let last = info["state"]["last_seq"].as_u64().unwrap();
    assert!([MESSAGES, MESSAGES + BATCH].contains(&last), "{stream}: half of a batch: {info}");
    assert_eq!(info["state"]["messages"], last, "{info}");
    last > MESSAGES
}

fn was_restored(client: &mut Client, stream: &str) -> bool {
    let Some(info) = state(client, stream) else { return false };
    assert_eq!(info["state"]["messages"], MESSAGES, "{stream}: restored by half: {info}");
    assert_eq!(info["state"]["consumer_count"], 1, "{info}");
    true
}

/// An atomic batch, all of it but its answer.
fn batch(round: u64) -> Deed {
    let stream = format!("BATCH{round}");
    let part = |at: u64| {
        let mut headers =
            vec![String::from("Nats-Batch-Id: b"), format!("Nats-Batch-Sequence: {at}")];
        headers.extend((at == BATCH).then(|| String::from("Nats-Batch-Commit: 1")));
        let payload = Origin { writer: BRIEF, number: MESSAGES + at }.payload();
        Part { subject: format!("{stream}.0"), headers, payload }
    };
    Deed { parts: (1..=BATCH).map(part).collect(), stream, check: batch_was_stored }
}

/// Backs the stream up, deletes it, and begins to restore it: gives what is left to be sent.
fn restoring(client: &mut Client, stream: &str) -> Vec<Part> {
    let chunks = format!("{}.chunks", client.inbox);
    let subject = format!("$JS.API.STREAM.SNAPSHOT.{stream}");
    let body = format!("{{\"deliver_subject\":\"{chunks}\"}}");
    let reply = format!("{}.about", client.inbox);
    client.publish(&subject, &reply, &[], body.as_bytes()).unwrap();
    let about = client.message().unwrap().json();
    let mut parts = Vec::new();
    loop {
        let chunk = client.message().unwrap();
        let is_last = chunk.payload.is_empty();
        if !is_last && !chunk.reply.is_empty() {
            client.conn.send(format!("PUB {} 0\r\n\r\n", chunk.reply));
        }
        parts.push(Part { subject: String::new(), headers: Vec::new(), payload: chunk.payload });
        if is_last {
            break;
        }
    }
    api(client, &format!("STREAM.DELETE.{stream}"), "");
    let body = json!({ "config": about["config"], "state": about["state"] });
    let answer = api(client, &format!("STREAM.RESTORE.{stream}"), &body.to_string());
    let subject = answer["deliver_subject"].as_str().unwrap();
    parts.iter_mut().for_each(|part| subject.clone_into(&mut part.subject));
    parts
}

/// What is done in each round, each to a stream of its own.
fn deeds(round: u64) -> Vec<Deed> {
    let api = |name: &str, call: &str, more: &str, body: Value, check| {
        let stream = format!("{name}{round}");
        let subject = format!("$JS.API.{call}.{stream}{more}");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let payload = String::from_utf8(body).unwrap().replace("NAME", &stream).into_bytes();
        Deed { stream, parts: vec![Part { subject, headers: Vec::new(), payload }], check }
    };
    let update = json!({ "name": "NAME", "subjects": ["NAME.*"], "allow_direct": true,
        "allow_atomic": true, "max_msgs": 20, "description": "smaller" });
    let consumer = json!({ "stream_name": "NAME", "config": { "durable_name": "new",
        "ack_policy": "explicit", "description": "whole" } });
    let stream = json!({ "name": "NAMEX", "subjects": ["NAMEX.*"] });
    vec![
        api("PURGE", "STREAM.PURGE", "", Value::Null, was_purged),
        api("FILTER", "STREAM.PURGE", "", json!({ "filter": "NAME.0" }), was_purged_by_subject),
        api("BELOW", "STREAM.PURGE", "", json!({ "seq": 30 }), was_purged_below),
        api("ERASE", "STREAM.MSG.DELETE", "", json!({ "seq": 7 }), message_was_erased),
        api("DELETE", "STREAM.DELETE", "", Value::Null, was_deleted),
        api("UPDATE", "STREAM.UPDATE", "", update, was_updated),
        api("MAKE", "CONSUMER.CREATE", ".new", consumer, consumer_was_made),
        api("UNMAKE", "CONSUMER.DELETE", ".c", Value::Null, consumer_was_deleted),
        api("STREAM", "STREAM.CREATE", "X", stream, stream_was_made),
        batch(round),
        Deed { stream: format!("RESTORE{round}"), parts: Vec::new(), check: was_restored },
    ]
}

/// Sends everything, kills the server a little later and gives which deeds were answered.
fn interrupt(server: &mut Server, deeds: &[Deed], dice: &mut Dice) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..deeds.len()).collect();
    order.sort_by_key(|_| dice.next());
    let mut client = Client::new(server.port);
    let short = dice.next() % (1 << dice.below(15));
    let micros = if dice.one_in(2) { short } else { dice.below(20_000) };
    let until = Instant::now() + Duration::from_micros(micros);
    for at in order {
        for (left, part) in deeds[at].parts.iter().rev().enumerate().rev() {
            let name = if left == 0 { "done" } else { "part" };
            let reply = format!("{}.{name}.{at}", client.inbox);
            client.publish(&part.subject, &reply, &part.headers, &part.payload).unwrap();
        }
    }
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    server.crash();
    let mut answered = BTreeSet::new();
    while let Some(message) = client.message() {
        if message.subject.contains(".part.") {
            assert_eq!(message.payload, b"", "{message:?}");
            continue;
        }
        let answer = message.json();
        assert!(answer["error"].is_null(), "{}: {answer}", message.subject);
        answered.insert(message.subject.rsplit('.').next().unwrap().parse().unwrap());
    }
    answered
}

/// `SHEARWATER_KILLS` asks for more rounds.
#[test]
fn what_is_interrupted_is_done_or_not_done() {
    let mut dice = Dice(number_from_env("SHEARWATER_SEED", 0x1DEA));
    let mut server = server(2);
    let (mut done, mut all) = (0, 0);
    for round in 0..number_from_env("SHEARWATER_KILLS", 8) {
        let mut deeds = deeds(round);
        let mut client = Client::new(server.port);
        for deed in &mut deeds {
            create(&mut client, &deed.stream);
            if deed.parts.is_empty() {
                deed.parts = restoring(&mut client, &deed.stream);
            }
        }
        let answered = interrupt(&mut server, &deeds, &mut dice);
        server.start_again();
        let mut client = Client::new(server.port);
        for (at, deed) in deeds.iter().enumerate() {
            let is_done = (deed.check)(&mut client, &deed.stream);
            assert!(is_done || !answered.contains(&at), "{}: answered, not done", deed.stream);
            done += u64::from(is_done);
            all += 1;
            // Some streams are not there any more.
            client.ask_json(&format!("$JS.API.STREAM.DELETE.{}", deed.stream), "");
        }
    }
    println!("{done} of {all} deeds were done");
}

/// A power cut may leave the directory of a stream that nobody was told of, with a file of any
/// length in it that says nothing. It does not stand in the way of the name.
#[test]
fn half_made_streams_are_put_aside() {
    let mut server = server(2);
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.CREATE.A", r#"{"name":"A","subjects":["a"]}"#);
    let streams = server.dir().join("js/jetstream/$G/streams");
    let made =
        std::fs::read_dir(streams.join("A")).unwrap().map(|entry| entry.unwrap().file_name());
    let segment = made.into_iter().find(|name| name.to_string_lossy().ends_with(".seg")).unwrap();
    server.stop();
    let lengths = [0_usize, 1, 4096, 20_480, 262_144];
    for len in lengths {
        let dir = streams.join(format!("B{len}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(&segment), vec![0; len]).unwrap();
    }
    server.start_again();
    let mut client = Client::new(server.port);
    let names = api(&mut client, "STREAM.NAMES", "");
    assert_eq!(names["streams"], serde_json::json!(["A"]));
    for len in lengths {
        let body = format!(r#"{{"name":"B{len}","subjects":["b.{len}"]}}"#);
        api(&mut client, &format!("STREAM.CREATE.B{len}"), &body);
        let answer = client.try_request(&format!("b.{len}"), &[], b"x").unwrap().json();
        assert_eq!(answer["seq"], 1, "{answer}");
    }
}
