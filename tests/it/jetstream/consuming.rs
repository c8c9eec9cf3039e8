//! A pull consumer against a model of one: random pulls, acknowledgements of all kinds, publishes;
//! every delivery and every count must be what the model says.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::storages::Choices;
use super::{Asker, JETSTREAM, text};
use crate::support::poll;
use crate::support::server::Server;

/// What a consumer with explicit acknowledgements has done so far.
#[derive(Default)]
struct Model {
    /// The last sequence of the stream.
    last: u64,
    /// The highest stream sequence that was delivered.
    delivered: u64,
    /// How many deliveries there were.
    deliveries: u64,
    /// Unsettled messages: by stream sequence, the consumer sequence of the first delivery.
    pending: BTreeMap<u64, u64>,
    /// Messages to deliver again, in order.
    again: VecDeque<u64>,
    /// How often each unsettled message was delivered.
    counts: BTreeMap<u64, u64>,
}

/// One delivery, as its acknowledgement subject tells it.
#[derive(Debug, PartialEq)]
struct Delivery {
    count: u64,
    stream_seq: u64,
    consumer_seq: u64,
    left: u64,
}

impl Model {
    /// The next delivery, if there is one.
    fn next(&mut self) -> Option<Delivery> {
        let seq = if let Some(seq) = self.again.pop_front() {
            seq
        } else if self.delivered < self.last {
            self.delivered += 1;
            self.delivered
        } else {
            return None;
        };
        self.deliveries += 1;
        let count = self.counts.entry(seq).or_default();
        *count += 1;
        self.pending.entry(seq).or_insert(self.deliveries);
        let left = self.last - self.delivered;
        Some(Delivery { count: *count, stream_seq: seq, consumer_seq: self.deliveries, left })
    }

    fn settle(&mut self, seq: u64) {
        self.pending.remove(&seq);
        self.counts.remove(&seq);
        self.again.retain(|other| *other != seq);
    }

    /// The stream sequence up to which everything is settled.
    fn floor(&self) -> u64 {
        self.pending.keys().next().map_or(self.delivered, |first| first - 1)
    }

    fn redelivered(&self) -> usize {
        self.counts.values().filter(|count| **count > 1).count()
    }
}

/// The fields of `$JS.ACK.S.c.<count>.<stream seq>.<consumer seq>.<time>.<left>`.
fn delivery(reply: &str) -> Delivery {
    let fields: Vec<u64> = reply.split('.').skip(4).map(|field| field.parse().unwrap()).collect();
    assert_eq!(fields.len(), 5, "{reply}");
    Delivery { count: fields[0], stream_seq: fields[1], consumer_seq: fields[2], left: fields[4] }
}

struct Run {
    _server: Server,
    asker: Asker,
    model: Model,
}

impl Run {
    fn new(storage: &str) -> Self {
        let server = Server::with_config(JETSTREAM);
        let mut asker = Asker::new(&server);
        let stream = format!(r#"{{"name":"S","subjects":["s"],"storage":"{storage}"}}"#);
        asker.ask("$JS.API.STREAM.CREATE.S", stream);
        let consumer = r#"{"stream_name":"S","config":{"durable_name":"c",
            "ack_policy":"explicit","ack_wait":600000000000}}"#;
        asker.ask("$JS.API.CONSUMER.CREATE.S.c", consumer.replace('\n', ""));
        Self { _server: server, asker, model: Model::default() }
    }

    fn publish(&mut self) {
        self.asker.ask("s", "x");
        self.model.last += 1;
        // The consumer hears of a message a little later than its publisher.
        let wanted = self.model.last - self.model.delivered;
        poll("the message to be pending", || (self.info()["num_pending"] == wanted).then_some(()));
    }

    fn info(&mut self) -> Value {
        serde_json::from_str(&self.asker.ask("$JS.API.CONSUMER.INFO.S.c", "")).unwrap()
    }

    /// Pulls without waiting; everything there is must come, in order, and then the status.
    fn pull(&mut self, batch: u64) {
        let body = format!("{{\"batch\":{batch},\"no_wait\":true}}");
        self.asker.request("$JS.API.CONSUMER.MSG.NEXT.S.c", body.as_bytes());
        for _ in 0..batch {
            let head = text(&mut self.asker.conn);
            let fields: Vec<&str> = head.split(' ').collect();
            let Some(wanted) = self.model.next() else {
                assert_eq!(fields[0], "HMSG", "more than there is: {head}");
                let block = self.asker.conn.lines_until("");
                assert_eq!(block, ["NATS/1.0 404 No Messages"]);
                assert_eq!(text(&mut self.asker.conn), "");
                return;
            };
            assert_eq!(fields[0], "MSG", "{wanted:?} did not come but {head}");
            assert_eq!(delivery(fields[3]), wanted);
            assert_eq!(text(&mut self.asker.conn), "x");
        }
    }

    /// Answers an unsettled message and waits until the answer is in force.
    fn answer(&mut self, choices: &mut Choices) {
        let waiting: Vec<u64> = self
            .model
            .pending
            .keys()
            .copied()
            .filter(|seq| !self.model.again.contains(seq))
            .collect();
        if waiting.is_empty() {
            return;
        }
        let seq = waiting[usize::try_from(choices.below(waiting.len() as u64)).unwrap()];
        let (count, first) = (self.model.counts[&seq], self.model.pending[&seq]);
        let subject = format!("$JS.ACK.S.c.{count}.{seq}.{first}.0.0");
        let word = ["+ACK", "", "+TERM", "-NAK", "+WPI", "+OK"]
            [usize::try_from(choices.below(6)).unwrap()];
        assert_eq!(self.asker.ask_anyhow(&subject, word), "");
        match word {
            "-NAK" => self.model.again.push_back(seq),
            "+WPI" => {}
            _ => self.model.settle(seq),
        }
    }

    fn compare_counts(&mut self) {
        let info = self.info();
        let model = &self.model;
        assert_eq!(info["delivered"]["stream_seq"], model.delivered, "{info}");
        assert_eq!(info["delivered"]["consumer_seq"], model.deliveries, "{info}");
        assert_eq!(info["ack_floor"]["stream_seq"], model.floor(), "{info}");
        assert_eq!(info["num_ack_pending"], model.pending.len(), "{info}");
        assert_eq!(info["num_redelivered"], model.redelivered(), "{info}");
        assert_eq!(info["num_pending"], model.last - model.delivered, "{info}");
        assert_eq!(info["num_waiting"], 0, "{info}");
    }
}

fn follow_the_model(seed: u64, storage: &str) {
    let (mut run, mut choices) = (Run::new(storage), Choices(seed));
    for _ in 0..400 {
        match choices.below(10) {
            0..=2 => run.publish(),
            3 | 4 => run.pull(1 + choices.below(5)),
            5..=8 => run.answer(&mut choices),
            _ => run.compare_counts(),
        }
    }
    run.compare_counts();
    assert!(run.model.deliveries > 50, "only {} deliveries", run.model.deliveries);
}

#[test]
fn on_a_file_stream() {
    follow_the_model(0x9E37_79B9_7F4A_7C15, "file");
}

#[test]
fn on_a_memory_stream() {
    follow_the_model(0x94D0_49BB_1331_11EB, "memory");
}
