//! Feeds against another side that the tests play.

use serde_json::{Value, json};
use wire::api::config::SubjectTransform;
use wire::api::config::{ExternalStream, SourceConsumer, StreamConfig, StreamSource};

use super::replay_tests::{Bench, Nobody};
use super::{Ingest, Publish, Stream};
use crate::context::Context;
use crate::effect::{Endpoint, Interest};

const SECOND_NS: u64 = 1_000_000_000;

fn source(name: &str) -> StreamSource {
    StreamSource { name: name.to_owned(), ..StreamSource::default() }
}

fn config(name: &str) -> StreamConfig {
    StreamConfig {
        name: name.to_owned(),
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        max_msg_size: -1,
        num_replicas: 1,
        ..StreamConfig::default()
    }
}

/// A request that the stream has sent: where, its reply, its body.
struct Asked {
    subject: String,
    reply: String,
    headers: String,
    body: Value,
}

impl Bench {
    fn tick(&mut self, ns: u64) {
        self.mono_ns += ns;
        self.unix_ns += ns as i64;
        self.with("s", |stream, cx| stream.handle_timers(cx));
    }

    fn tick_to_deadline(&mut self) {
        let ctx = Context { mono_ns: self.mono_ns, unix_ns: self.unix_ns, interest: &Nobody };
        let at_ns = self.streams["s"].next_deadline_ns(&ctx);
        assert_ne!(at_ns, u64::MAX);
        self.tick(at_ns.saturating_sub(self.mono_ns));
    }

    fn asked(&mut self) -> Option<Asked> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let all: Vec<Asked> = (0..self.fx.sends())
            .filter_map(|at| self.fx.outgoing(at))
            .filter(|m| !m.reply.is_empty())
            .map(|m| Asked {
                subject: text(m.subject),
                reply: text(m.reply),
                headers: text(m.headers),
                body: serde_json::from_slice(m.payload).unwrap_or_default(),
            })
            .collect();
        self.fx.clear_sends();
        all.into_iter().next()
    }

    /// The subscriptions that the stream has begun and not ended.
    fn subscriptions(&mut self) -> Vec<(String, Endpoint)> {
        let mut open = Vec::new();
        for change in &self.fx.interests {
            match change {
                Interest::Subscribe { subject, endpoint, .. } => {
                    open.push((String::from_utf8(subject.to_vec()).unwrap(), *endpoint));
                }
                Interest::Unsubscribe { subject, .. } => {
                    open.retain(|(other, _)| other.as_bytes() != &subject[..]);
                }
            }
        }
        open
    }

    fn answer(&mut self, number: u32, body: &Value) {
        let body = body.to_string();
        self.with("s", |stream, cx| {
            stream.handle_feed_reply(number, b"", body.as_bytes(), cx);
        });
    }

    /// Answers the request as a server that has made the consumer.
    fn accept(&mut self, number: u32, asked: &Asked, delivered: u64) -> String {
        let config = asked.body["config"].clone();
        let name = config["name"].as_str().unwrap().to_owned();
        self.answer(
            number,
            &json!({"name": name, "config": config, "delivered": {"stream_seq": delivered}}),
        );
        name
    }

    fn deliver(
        &mut self,
        number: u32,
        subject: &str,
        reply: &str,
        headers: &str,
        data: &str,
    ) -> Ingest {
        self.unix_ns += 1_000_000;
        self.with("s", |stream, cx| {
            let publish = Publish {
                subject: subject.as_bytes(),
                reply: reply.as_bytes(),
                headers: headers.as_bytes(),
                payload: data.as_bytes(),
                is_sourced: false,
            };
            stream.handle_feed_message(number, &publish, cx)
        })
    }

    fn messages(&mut self) -> Vec<(u64, i64, String, String)> {
        let last = self.streams["s"].store.last_seq();
        let mut all = Vec::new();
        for seq in 1..=last {
            self.with("s", |stream, cx| {
                if let store::Read::Message(m) = stream.store.get(seq, cx.cache, &mut cx.fx.disk) {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let body = text(m.headers) + &text(m.payload);
                    all.push((seq, m.ts_ns, text(m.subject), body));
                }
            });
        }
        all
    }

    fn restart(&mut self) {
        let stream = self.streams.remove("s").unwrap();
        let note = stream.store.note(b"o").map(|note| note.put.clone());
        let (id, config, store) = (stream.id.clone(), stream.config().clone(), stream.store);
        let mut again = Stream::new(id, config, 0, store);
        if let Some(note) = note {
            assert!(again.handle_recovered_note(b"o", &note));
        }
        self.streams.insert("s".to_owned(), again);
    }
}

#[test]
fn a_mirror_keeps_sequences_and_times() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { mirror: Some(source("O")), ..config("s") });
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    assert_eq!(asked.subject, "$JS.API.CONSUMER.CREATE.O");
    assert_eq!(asked.headers, "NATS/1.0\r\nNats-Required-Api-Level: 5\r\n\r\n");
    let config = &asked.body["config"];
    assert_eq!(asked.body["stream_name"], "O");
    assert_eq!(config["deliver_policy"], "all");
    assert_eq!(config["ack_policy"], "none");
    assert_eq!(config["flow_control"], true);
    assert_eq!(config["idle_heartbeat"], 1_000_000_000);
    assert_eq!(config["direct"], true);
    assert_eq!(config["sourcing"], true);
    assert_eq!(config["metadata"]["_nats.mirror.stream"], "s");
    assert!(config["name"].as_str().unwrap().starts_with("JS_MIRROR_"));
    let open = bench.subscriptions();
    assert_eq!(open, [(asked.reply.clone(), Endpoint::Reply(0, 1))]);
    let name = bench.accept(1, &asked, 0);
    let inbox = config["deliver_subject"].as_str().unwrap().to_owned();
    assert_eq!(bench.subscriptions(), [(inbox, Endpoint::Source(0, 1))]);
    let ack = |seq: u64, consumer_seq: u64, pending: u64| {
        format!("$JS.ACK.O.{name}.1.{seq}.{consumer_seq}.{}.{pending}", seq * 100)
    };
    let headers = "NATS/1.0\r\nNats-Expected-Stream: O\r\nA: b\r\n\r\n";
    assert_eq!(bench.deliver(1, "o.a", &ack(1, 1, 2), headers, "1"), Ingest::Stored(1));
    // The origin has lost the second and third message.
    assert_eq!(bench.deliver(1, "o.b", &ack(4, 2, 1), "", "4"), Ingest::Stored(4));
    assert_eq!(bench.deliver(1, "o.b", &ack(4, 2, 1), "", "4"), Ingest::Waiting);
    assert_eq!(bench.deliver(1, "o.b", &ack(5, 3, 0), "", "5"), Ingest::Stored(5));
    assert_eq!(
        bench.messages(),
        [
            (1, 100, "o.a".to_owned(), "NATS/1.0\r\nA: b\r\n\r\n1".to_owned()),
            (4, 400, "o.b".to_owned(), "4".to_owned()),
            (5, 500, "o.b".to_owned(), "5".to_owned()),
        ]
    );
    let info = bench.streams["s"].mirror_info(bench.mono_ns).unwrap();
    assert_eq!((info.name.as_str(), info.lag, info.error), ("O", 0, None));
    assert!(info.active_ns >= 0 && bench.streams["s"].is_mirror_caught_up());
    // A delivery is missing: from a new consumer, behind what is here.
    bench.fx.clear_sends();
    assert_eq!(bench.deliver(1, "o.b", &ack(9, 5, 0), "", "9"), Ingest::Waiting);
    assert!(bench.subscriptions().is_empty());
    assert!(bench.asked().is_none());
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    assert_eq!(asked.body["config"]["deliver_policy"], "by_start_sequence");
    assert_eq!(asked.body["config"]["opt_start_seq"], 6);
    // Deliveries of the old consumer are not taken.
    bench.accept(1, &asked, 5);
    assert_eq!(bench.deliver(1, "o.b", &ack(6, 1, 0), "", "6"), Ingest::Waiting);
}

#[test]
fn a_mirror_may_start_late() {
    let mut bench = Bench::new();
    let mirror = StreamSource { opt_start_seq: 50, ..source("O") };
    bench.add(StreamConfig { mirror: Some(mirror), ..config("s") });
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    assert_eq!(asked.body["config"]["opt_start_seq"], 50);
    let name = bench.accept(1, &asked, 49);
    assert_eq!(bench.streams["s"].store.state().first_seq, 50);
    let ack = format!("$JS.ACK.O.{name}.1.50.1.7.0");
    assert_eq!(bench.deliver(1, "o.a", &ack, "", "x"), Ingest::Stored(50));
}

#[test]
fn sources_say_where_messages_came_from_and_go_on_after_a_start() {
    let mut bench = Bench::new();
    let changed = StreamSource {
        subject_transforms: vec![SubjectTransform {
            src: "p.*".to_owned(),
            dest: "q.$1".to_owned(),
        }],
        ..source("P")
    };
    bench.add(StreamConfig { sources: vec![source("O"), changed], ..config("s") });
    bench.tick_to_deadline();
    let text = |m: crate::effect::Outgoing<'_>| String::from_utf8(m.subject.to_vec()).unwrap();
    let subjects: Vec<String> =
        (0..bench.fx.sends()).filter_map(|at| bench.fx.outgoing(at)).map(text).collect();
    assert_eq!(subjects[0], "$JS.API.CONSUMER.CREATE.O");
    assert!(subjects[1].starts_with("$JS.API.CONSUMER.CREATE.P.JS_SRC_"));
    assert!(subjects[1].ends_with(".p.*"));
    bench.fx.clear_sends();
    let accept = |bench: &mut Bench, number: u32, name: &str| {
        let config = json!({"deliver_subject": format!("in.{name}"), "ack_policy": "none"});
        bench.answer(
            number,
            &json!({"name": name, "config": config, "delivered": {"stream_seq": 0}}),
        );
    };
    accept(&mut bench, 1, "c1");
    accept(&mut bench, 2, "c2");
    bench.deliver(1, "o.a", "$JS.ACK.O.c1.1.3.1.9.7", "NATS/1.0\r\nA: b\r\n\r\n", "x");
    bench.deliver(2, "p.x", "$JS.ACK.P.c2.1.8.1.9.0", "", "y");
    let bodies: Vec<(String, String)> =
        bench.messages().into_iter().map(|(_, _, subject, body)| (subject, body)).collect();
    assert_eq!(
        bodies,
        [
            (
                "o.a".to_owned(),
                "NATS/1.0\r\nA: b\r\nNats-Stream-Source: O 3 > > o.a\r\n\r\nx".to_owned()
            ),
            (
                "q.x".to_owned(),
                "NATS/1.0\r\nNats-Stream-Source: P 8 p.* q.$1 p.x\r\n\r\ny".to_owned()
            ),
        ]
    );
    let infos = bench.streams["s"].sources_info(bench.mono_ns);
    assert_eq!(infos.iter().map(|info| info.lag).collect::<Vec<_>>(), [6, 0]);
    assert_eq!(infos[1].subject_transforms[0].dest, "q.$1");
    // After a start the messages say where to go on,
    bench.restart();
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    assert_eq!(asked.body["config"]["deliver_policy"], "by_start_sequence");
    assert_eq!(asked.body["config"]["opt_start_seq"], 4);
    // and the note does so when they have left.
    accept(&mut bench, 1, "c3");
    bench.deliver(1, "o.a", "$JS.ACK.O.c3.1.5.1.9.7", "", "x");
    bench.tick(SECOND_NS);
    bench.with("s", |stream, _| stream.handle_purge(&Default::default())).unwrap();
    bench.restart();
    bench.fx.clear_sends();
    bench.tick_to_deadline();
    assert_eq!(bench.asked().unwrap().body["config"]["opt_start_seq"], 6);
}

#[test]
fn other_accounts_are_reached_by_prefixes() {
    let mut bench = Bench::new();
    let external = ExternalStream { api: "$JS.hub.API".to_owned(), deliver: "d.x".to_owned() };
    let far = StreamSource { external: Some(external), ..source("O") };
    bench.add(StreamConfig { sources: vec![far], ..config("s") });
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    assert_eq!(asked.subject, "$JS.hub.API.CONSUMER.CREATE.O");
    let inbox = asked.body["config"]["deliver_subject"].as_str().unwrap().to_owned();
    assert!(inbox.starts_with("d.x.S."));
    bench.accept(1, &asked, 0);
    let name = asked.body["config"]["name"].as_str().unwrap();
    bench.deliver(1, "o.a", &format!("$JS.ACK.O.{name}.1.3.1.9.0"), "", "x");
    let body = bench.messages().pop().unwrap().3;
    let hash = super::index_name::short_hash("$JS.hub.API");
    assert!(body.contains(&format!("Nats-Stream-Source: O:{hash} 3 > > o.a")), "{body}");
}

#[test]
fn errors_and_silence_lead_to_later_attempts() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { mirror: Some(source("O")), ..config("s") });
    bench.tick_to_deadline();
    assert!(bench.asked().is_some());
    let error =
        json!({"error": {"code": 404, "err_code": 10059, "description": "stream not found"}});
    bench.answer(1, &error);
    let info = bench.streams["s"].mirror_info(bench.mono_ns).unwrap();
    assert_eq!(info.error.map(|error| error.err_code), Some(10_059));
    assert_eq!(info.active_ns, -1);
    bench.tick(10 * SECOND_NS);
    assert!(bench.asked().is_none(), "not before two seconds and ten more");
    bench.tick(3 * SECOND_NS);
    let asked = bench.asked().unwrap();
    // An older server does not know some of it.
    let old = json!({"error": {"code": 412, "err_code": 10185, "description": "level"}});
    bench.answer(1, &old);
    assert!(bench.asked().unwrap().headers.contains("Nats-Required-Api-Level: 4"));
    bench.answer(1, &old);
    let plain = bench.asked().unwrap();
    assert_eq!((plain.headers.as_str(), plain.body["config"].get("sourcing")), ("", None));
    drop(asked);
    bench.accept(1, &plain, 0);
    bench.tick(9 * SECOND_NS);
    assert!(bench.asked().is_none());
    bench.tick(2 * SECOND_NS);
    bench.tick(SECOND_NS);
    assert!(bench.asked().is_some(), "no heartbeat for ten seconds");
}

#[test]
fn heartbeats_show_what_is_missing_and_flow_control_is_answered() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { mirror: Some(source("O")), ..config("s") });
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    let name = bench.accept(1, &asked, 0);
    bench.deliver(1, "o.a", &format!("$JS.ACK.O.{name}.1.3.1.9.0"), "", "x");
    bench.deliver(1, "in", "$JS.FC.O.c.abcd", "NATS/1.0 100 FlowControl Request\r\n\r\n", "");
    assert_eq!(
        bench.sent(),
        [(
            "$JS.FC.O.c.abcd".to_owned(),
            "NATS/1.0\r\nNats-Last-Consumer: 1\r\nNats-Last-Stream: 3\r\n\r\n".to_owned(),
            String::new()
        )]
    );
    let beat = |n: u64| format!("NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {n}\r\n\r\n");
    bench.deliver(1, "in", "", &beat(1), "");
    assert_eq!(bench.subscriptions().len(), 1);
    bench.deliver(1, "in", "", &beat(2), "");
    assert!(bench.subscriptions().is_empty(), "a delivery is missing");
}

#[test]
fn durable_consumers_are_reset_and_must_have_flow_acks() {
    let mut bench = Bench::new();
    let consumer = SourceConsumer { name: "D".to_owned(), deliver_subject: "to.me".to_owned() };
    let far = StreamSource { consumer: Some(consumer), ..source("O") };
    bench.add(StreamConfig { sources: vec![far], ..config("s") });
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    assert_eq!(asked.subject, "$JS.API.CONSUMER.RESET.O.D");
    assert_eq!(asked.body, Value::Null);
    let answer = |policy: &str| json!({"name": "D", "config": {"ack_policy": policy}, "delivered": {"stream_seq": 4}});
    bench.answer(1, &answer("explicit"));
    let info = bench.streams["s"].sources_info(bench.mono_ns).remove(0);
    assert_eq!(info.error.map(|error| error.err_code), Some(10_217));
    bench.tick(13 * SECOND_NS);
    assert!(bench.asked().is_some());
    bench.answer(1, &answer("flow_control"));
    assert_eq!(bench.subscriptions(), [("to.me".to_owned(), Endpoint::Source(0, 1))]);
    assert_eq!(bench.deliver(1, "o.a", "$JS.ACK.O.D.1.5.1.9.0", "", "x"), Ingest::Stored(1));
}

#[test]
fn a_promoted_mirror_takes_publishes_and_nothing_from_its_origin() {
    let mut bench = Bench::new();
    bench.add(StreamConfig { mirror: Some(source("O")), ..config("s") });
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    let name = bench.accept(1, &asked, 0);
    bench.deliver(1, "o.a", &format!("$JS.ACK.O.{name}.1.3.1.9.0"), "", "x");
    let promoted = StreamConfig { subjects: vec!["s.>".to_owned()], ..config("s") };
    bench.with("s", |stream, cx| stream.handle_update(promoted, cx));
    assert!(bench.subscriptions().is_empty());
    let gone = bench.sent();
    assert_eq!(gone[0].0, format!("$JS.API.CONSUMER.DELETE.O.{name}"));
    assert!(bench.streams["s"].mirror_info(0).is_none());
    assert_eq!(bench.publish("s.a", "R", "", "y")[0].2, r#"{"stream":"s","seq":4}"#);
}

#[test]
fn counters_add_up_what_sources_have_counted() {
    let mut bench = Bench::new();
    bench.add(StreamConfig {
        sources: vec![source("O")],
        subjects: vec!["s.>".to_owned()],
        allow_msg_counter: true,
        ..config("s")
    });
    bench.tick_to_deadline();
    let asked = bench.asked().unwrap();
    let name = bench.accept(1, &asked, 0);
    let incr = "NATS/1.0\r\nNats-Incr: 5\r\n\r\n";
    bench.publish("s.a", "R", "NATS/1.0\r\nNats-Incr: 2\r\n\r\n", "");
    let body = r#"{"val":"5"}"#;
    bench.deliver(1, "s.a", &format!("$JS.ACK.O.{name}.1.3.1.9.0"), incr, body);
    let stored = bench.messages().pop().unwrap().3;
    assert!(stored.ends_with(r#"{"val":"7"}"#), "{stored}");
    assert!(stored.contains(r#"Nats-Counter-Sources: {"O":{"s.a":"5"}}"#), "{stored}");
}
