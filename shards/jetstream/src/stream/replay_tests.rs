//! What nats-server 2.15.1 answered to publishes and requests, against what a stream in memory
//! answers to the same: `testdata/*.jsonl`, one step a line. Times are masked.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use store::cache::Cache;
use store::{MemoryOptions, Store};
use wire::api::config::StreamConfig;
use wire::api::decode::decode_document;
use wire::api::errors::ApiError;
use wire::api::requests::{MsgGetRequest, PurgeRequest, StreamInfoRequest};
use wire::api::responses;
use wire::api::types::{ResponseType, encode_error, encode_response};
use wire::nuid::Nuid;
use wire::subject;

use super::info::InfoFacts;
use super::{Cx, Got, Identity, Publish, Room, Stream};
use crate::context::{Context, Interest};
use crate::effect::Effects;

pub(super) struct Nobody;

impl Interest for Nobody {
    fn has_interest(&self, _: u32, _: &[u8]) -> bool {
        false
    }
}

/// 2024-05-06T07:08:09.123456789Z
pub(super) const NOW_NS: i64 = 1_714_979_289_123_456_789;

/// A message as it goes out: subject, header block, payload.
pub(super) type Sent = (String, String, String);

/// Streams and what they work with.
pub(super) struct Bench {
    pub(super) streams: BTreeMap<String, Stream>,
    pub(super) fx: Effects,
    pub(super) cache: Cache,
    pub(super) ids: Nuid,
    pub(super) mono_ns: u64,
    pub(super) unix_ns: i64,
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            streams: BTreeMap::new(),
            fx: Effects::default(),
            cache: Cache::new(1 << 20),
            ids: Nuid::new([7; 32]),
            mono_ns: 1,
            unix_ns: NOW_NS,
        }
    }

    /// Adds a stream with a configuration that is complete.
    pub(super) fn add(&mut self, config: StreamConfig) {
        let id = Identity {
            account: 1,
            account_name: "A".into(),
            slot: self.streams.len() as u32,
            domain: "".into(),
        };
        let store = Store::memory(MemoryOptions { seed: 1, first_seq: config.first_seq });
        let name = config.name.clone();
        self.streams.insert(name, Stream::new(id, config, NOW_NS, store));
    }

    /// Calls a stream with what it needs.
    pub(super) fn with<T>(
        &mut self,
        name: &str,
        call: impl FnOnce(&mut Stream, &mut Cx<'_, '_>) -> T,
    ) -> T {
        let ctx = Context { mono_ns: self.mono_ns, unix_ns: self.unix_ns, interest: &Nobody };
        let room = Room { payload_bytes_max: 1 << 20, ..Room::default() };
        let Self { streams, fx, cache, ids, .. } = self;
        call(streams.get_mut(name).unwrap(), &mut Cx { ctx: &ctx, fx, cache, ids, room })
    }

    /// What has gone out since the last time.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        let all = (0..self.fx.sends())
            .filter_map(|at| self.fx.outgoing(at))
            .map(|m| (text(m.subject), text(m.headers), text(m.payload)))
            .collect();
        self.fx.clear_sends();
        all
    }

    /// Publishes to whichever stream has the subject.
    pub(super) fn publish(
        &mut self,
        to: &str,
        reply: &str,
        headers: &str,
        data: &str,
    ) -> Vec<Sent> {
        self.unix_ns += 1_000_000;
        self.mono_ns += 1_000_000;
        let has = |stream: &Stream| {
            let mut subjects = stream.config().subjects.iter();
            subjects.any(|own| subject::matches(own.as_bytes(), to.as_bytes()))
        };
        let (name, _) = self.streams.iter().find(|(_, stream)| has(stream)).unwrap();
        let name = name.clone();
        self.with(&name, |stream, cx| {
            let publish = Publish {
                subject: to.as_bytes(),
                reply: reply.as_bytes(),
                headers: headers.as_bytes(),
                payload: data.as_bytes(),
                is_sourced: false,
            };
            stream.handle_publish(&publish, cx);
            while stream.has_reads() {
                stream.handle_reads(cx);
            }
        });
        self.sent()
    }
}

/// Replaces times of our clock.
fn mask(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("2024-05-06T") {
        out.push_str(&rest[..at]);
        out.push_str("TIME");
        let end = rest[at..].find('Z').unwrap();
        rest = &rest[at + end + 1..];
    }
    out + rest
}

fn api<T: wire::api::value::Fields>(kind: ResponseType, answer: Result<T, ApiError>) -> String {
    text(&match answer {
        Ok(body) => encode_response(kind, &body),
        Err(error) => encode_error(kind, &error),
    })
}

fn request<T: wire::api::value::Value>(step: &Value) -> T {
    match &step["request"] {
        Value::Null => T::default(),
        body => decode_document(body.to_string().as_bytes()).unwrap(),
    }
}

fn answer_of(bench: &mut Bench, step: &Value) -> String {
    let name = step["stream"].as_str().unwrap();
    match step["op"].as_str().unwrap() {
        "get" => {
            let body: MsgGetRequest = request(step);
            let got = bench.with(name, |stream, cx| stream.handle_get(&body, b"R", cx));
            match got {
                Got::Refused(error) => api::<responses::Empty>(ResponseType::MsgGet, Err(error)),
                Got::Answered => bench.sent().pop().unwrap().2,
            }
        }
        "purge" => {
            let body: PurgeRequest = request(step);
            let purged = bench.with(name, |stream, _| stream.handle_purge(&body));
            let purged =
                purged.map(|purged| responses::Purged { success: true, purged: purged.count });
            api(ResponseType::StreamPurge, purged)
        }
        "delete" => {
            let body: wire::api::requests::MsgDeleteRequest = request(step);
            let deleted =
                bench.with(name, |stream, _| stream.handle_delete(body.seq, body.no_erase));
            let deleted = deleted.map(|_| responses::Success { success: true });
            api(ResponseType::MsgDelete, deleted)
        }
        "info" => {
            let body: StreamInfoRequest = request(step);
            let facts = InfoFacts { version: "2.15.1", ..InfoFacts::default() };
            let info = bench.with(name, |stream, cx| stream.info_page(&body, &facts, cx.ctx));
            api(ResponseType::StreamInfo, info).replace(
                r#","ts""#, // A single server leads itself, which is the owner's to say.
                r#","cluster":{"leader":"o"},"ts""#,
            )
        }
        other => panic!("{other}"),
    }
}

/// Advisories have ids of their own.
fn without_id(text: &str) -> String {
    match text.split_once("\"id\":\"") {
        Some((head, tail)) if head.contains("advisory") => {
            format!("{head}\"id\":\"{}", &tail[tail.find('"').unwrap()..])
        }
        _ => text.to_owned(),
    }
}

fn sents(all: &[Sent]) -> Value {
    json!(all.iter().map(|(a, b, c)| json!([a, mask(b), without_id(&mask(c))])).collect::<Vec<_>>())
}

fn play(steps: &str) {
    let mut bench = Bench::new();
    for (at, line) in steps.lines().enumerate() {
        let step: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| step[name].as_str().unwrap();
        let told = format!("step {}: {line}", at + 1);
        match field("op") {
            "create" => {
                let config = step["config"].to_string();
                bench.add(decode_document(config.as_bytes()).unwrap());
            }
            "update" => {
                let config: StreamConfig =
                    decode_document(step["config"].to_string().as_bytes()).unwrap();
                let name = config.name.clone();
                bench.with(&name, |stream, cx| stream.handle_update(config, cx));
            }
            "pub" => {
                let reply = if field("reply").is_empty() { "R" } else { field("reply") };
                let sent = bench.publish(field("subject"), reply, field("headers"), field("data"));
                let sent: Vec<Sent> = sent
                    .into_iter()
                    .map(|(to, b, c)| (if to == reply { "R".to_owned() } else { to }, b, c))
                    .collect();
                let mut wanted = step["answers"].clone();
                for message in wanted.as_array_mut().unwrap() {
                    message[2] = json!(without_id(message[2].as_str().unwrap()));
                }
                // The real server answers and publishes again in either order.
                let mut sent = sents(&sent);
                for list in [&mut wanted, &mut sent] {
                    list.as_array_mut().unwrap().sort_by_key(Value::to_string);
                }
                assert_eq!(sent, wanted, "{told}");
            }
            "state" => {
                let name = field("stream");
                let state = bench.with(name, |stream, cx| {
                    let facts = InfoFacts::default();
                    let request = StreamInfoRequest { deleted_details: true, ..Default::default() };
                    stream.info_page(&request, &facts, cx.ctx).unwrap().info.state
                });
                let mut state: Value =
                    serde_json::from_str(&mask(&wire::json::to_go_string(&state))).unwrap();
                let mut wanted = step["state"].clone();
                if name == "I" {
                    // The store keeps no time of a message that was only counted.
                    for state in [&mut state, &mut wanted] {
                        state.as_object_mut().unwrap().remove("last_ts");
                    }
                }
                assert_eq!(state, wanted, "{told}");
            }
            "direct" => {
                let key = Some(field("key").as_bytes()).filter(|key| !key.is_empty());
                bench.with(field("stream"), |stream, cx| {
                    let (headers, body) = (field("headers"), field("body"));
                    stream.handle_direct_get(key, b"R", headers.as_bytes(), body.as_bytes(), cx);
                    while stream.has_reads() {
                        stream.handle_reads(cx);
                    }
                });
                assert_eq!(sents(&bench.sent()), step["answers"], "{told}");
            }
            _ => assert_eq!(mask(&answer_of(&mut bench, &step)), field("answer"), "{told}"),
        }
    }
}

#[test]
fn publishes() {
    play(include_str!("testdata/ingest.jsonl"));
}

#[test]
fn reads_purges_and_deletes() {
    play(include_str!("testdata/reads.jsonl"));
}

#[test]
fn atomic_batches() {
    play(include_str!("testdata/batch.jsonl"));
}

#[test]
fn fast_batches() {
    play(include_str!("testdata/fast.jsonl"));
}
