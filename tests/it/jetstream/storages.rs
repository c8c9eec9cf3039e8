//! File and memory storage behave alike: the same operations, drawn at random, on a stream of
//! each, with every answer compared.

use serde_json::{Value, json};

use super::{Asker, JETSTREAM};
use crate::support::server::Server;

/// A reproducible source of choices (xorshift64*).
pub(super) struct Choices(pub(super) u64);

impl Choices {
    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// One operation: a request with `NAME` where the stream's name belongs.
struct Operation {
    subject: String,
    headers: String,
    body: String,
}

fn api(call: &str, body: &Value) -> Operation {
    let subject = format!("$JS.API.STREAM.{call}.NAME");
    Operation { subject, headers: String::new(), body: body.to_string() }
}

/// A publish with some of the headers that a stream looks at.
fn publish(choices: &mut Choices, last: u64) -> Operation {
    let near = |choices: &mut Choices| last.saturating_sub(choices.below(3));
    let mut headers = String::new();
    match choices.below(12) {
        0 => headers = format!("Nats-Msg-Id: {}\r\n", choices.below(20)),
        1 => headers = format!("Nats-Expected-Last-Sequence: {}\r\n", near(choices)),
        2 => headers = format!("Nats-Expected-Last-Subject-Sequence: {}\r\n", near(choices)),
        3 => headers = String::from("Nats-Rollup: sub\r\n"),
        4 if choices.below(10) == 0 => headers = String::from("Nats-Rollup: all\r\n"),
        5 => headers = String::from("Some: header\r\n"),
        6 => headers = String::from("Nats-TTL: 1h\r\n"),
        _ => {}
    }
    let subject = format!("NAME.{}.{}", choices.below(3), choices.below(4));
    let body = "x".repeat(usize::try_from(choices.below(200)).unwrap());
    Operation { subject, headers, body }
}

fn operation(choices: &mut Choices, last: u64) -> Operation {
    let seq = choices.below(last + 3);
    let filter = ["NAME.>", "NAME.1.*", "NAME.*.2", "NAME.0.0", "NAME.9"];
    let filter = filter[usize::try_from(choices.below(5)).unwrap()];
    match choices.below(20) {
        0 | 1 => api("MSG.DELETE", &json!({ "seq": seq })),
        2 => api("MSG.GET", &json!({ "seq": seq })),
        3 => api("MSG.GET", &json!({ "last_by_subj": filter })),
        4 => api("MSG.GET", &json!({ "next_by_subj": filter, "seq": seq })),
        5 => api("INFO", &json!({ "subjects_filter": filter, "deleted_details": true })),
        6 if choices.below(3) == 0 => api("PURGE", &json!({ "filter": filter })),
        7 if choices.below(3) == 0 => api("PURGE", &json!({ "keep": 1 + choices.below(20) })),
        8 if choices.below(3) == 0 => api("PURGE", &json!({ "seq": seq.saturating_sub(20) })),
        9 if choices.below(3) == 0 => api("PURGE", &json!({ "filter": filter, "keep": 2 })),
        _ => publish(choices, last),
    }
}

/// The answer without what may differ: the stream's name, times, sizes.
fn comparable(answer: &str, name: &str) -> Value {
    let mut value: Value = serde_json::from_str(&answer.replace(name, "NAME")).unwrap();
    if value["type"] == "io.nats.jetstream.api.v1.stream_info_response" {
        let state = value["state"].as_object_mut().unwrap();
        ["bytes", "first_ts", "last_ts"].iter().for_each(|key| {
            state.remove(*key);
        });
        return value["state"].take();
    }
    if let Some(message) = value.get_mut("message").and_then(Value::as_object_mut) {
        message.remove("time");
    }
    if value["type"] == "io.nats.jetstream.api.v1.stream_msg_delete_response" {
        // The two storages of nats-server call a missing message by different codes.
        return Value::from(value["success"] == true);
    }
    value
}

/// Asks the same of both streams and gives the answer, which must be the same.
fn ask_both(asker: &mut Asker, operation: &Operation) -> Value {
    let mut answers = ["FILE", "MEMORY"].map(|name| {
        let put = |text: &str| text.replace("NAME", name);
        let answer = asker.ask_with_headers(
            &put(&operation.subject),
            &operation.headers,
            &put(&operation.body),
        );
        comparable(&answer, name)
    });
    let said = format!("{} {:?} {}", operation.subject, operation.headers, operation.body);
    assert_eq!(answers[0], answers[1], "file and memory differ after {said}");
    answers[0].take()
}

fn compare(seed: u64, limits: &str) {
    let server = Server::with_config(JETSTREAM);
    let mut asker = Asker::new(&server);
    for (name, storage) in [("FILE", "file"), ("MEMORY", "memory")] {
        let config = format!(
            r#"{{"name":"{name}","subjects":["{name}.>"],"storage":"{storage}",
            "allow_rollup_hdrs":true,"allow_msg_ttl":true{limits}}}"#
        );
        asker.ask(&format!("$JS.API.STREAM.CREATE.{name}"), config);
    }
    let (mut choices, mut last) = (Choices(seed), 0);
    for _ in 0..600 {
        let operation = operation(&mut choices, last);
        let answer = ask_both(&mut asker, &operation);
        if let Some(seq) = answer["seq"].as_u64() {
            last = last.max(seq);
        }
    }
    let end = ask_both(&mut asker, &api("INFO", &json!({ "deleted_details": true })));
    assert!(end["last_seq"].as_u64().unwrap() > 100, "{end}");
}

#[test]
fn without_limits() {
    compare(0x9E37_79B9_7F4A_7C15, "");
}

#[test]
fn with_a_limit_of_messages() {
    compare(0xD1B5_4A32_D192_ED03, r#","max_msgs":50"#);
}

#[test]
fn with_a_limit_of_messages_that_refuses() {
    compare(0x94D0_49BB_1331_11EB, r#","max_msgs":200,"discard":"new""#);
}

#[test]
fn with_a_limit_of_each_subject() {
    compare(0xBF58_476D_1CE4_E5B9, r#","max_msgs_per_subject":3"#);
}
