//! Tests of the consumer engine with a stream in memory, a clock that stands still unless told,
//! and clients whose listening is a list.

mod acking;
mod groups;
mod life;
mod model;
mod pulling;
mod pushing;

use std::collections::BTreeSet;

use store::cache::Cache;
use store::{MemoryOptions, NewMessage, Store};
use wire::api::config::StreamConfig;
use wire::api::consumer_config::ConsumerConfig;
use wire::api::policy::AckPolicy;
use wire::api::pull::{Ack, PullRequest};
use wire::nuid::Nuid;

use super::ack::Named;
use super::config::{Ceilings, check};
use super::config_defaults::{set_defaults, set_inactive_default};
use super::journal::Entry;
use super::{Budget, Consumer, Cx, Progress, Verdict, start};
use crate::context::{Context, Interest};
use crate::effect::{Effects, Outgoing};
use crate::removed::Removed;

const SECOND_NS: u64 = 1_000_000_000;
const START_UNIX_NS: i64 = 1_700_000_000_000_000_000;

/// The subjects that somebody listens to; `*` is every one.
#[derive(Debug, Default)]
struct Listeners(BTreeSet<String>);

impl Interest for Listeners {
    fn has_interest(&self, _: u32, subject: &[u8]) -> bool {
        let subject = std::str::from_utf8(subject).unwrap();
        // Advisories are published when asked for by name.
        (self.0.contains("*") && !subject.starts_with("$JS.EVENT")) || self.0.contains(subject)
    }
}

/// What went out: where to, and what; see [`text_of`].
type Sent = (String, String);

/// A consumer and its surroundings.
struct Bench {
    store: Store,
    cache: Cache,
    removed: Removed,
    fx: Effects,
    ids: Nuid,
    listeners: Listeners,
    consumer: Option<Consumer>,
    config: ConsumerConfig,
    mono_ns: u64,
    unix_ns: i64,
    watch_ns: u64,
    created_unix_ns: i64,
    /// Messages that the consumer needs no longer.
    settled: Vec<u64>,
    /// What the log says: a whole state and the events since.
    log: (Vec<u8>, Vec<Vec<u8>>),
    /// Entries written to the log so far.
    written: usize,
    /// Confirmations that wait for no disk.
    confirmed: Vec<String>,
}

fn stream_config() -> StreamConfig {
    StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s.>".to_owned()],
        ..StreamConfig::default()
    }
}

/// A durable pull consumer with explicit acknowledgements.
fn pulling() -> ConsumerConfig {
    ConsumerConfig {
        durable_name: "C".to_owned(),
        ack_policy: AckPolicy::Explicit,
        ..ConsumerConfig::default()
    }
}

/// A push consumer to `to` without acknowledgements.
fn pushing() -> ConsumerConfig {
    ConsumerConfig {
        durable_name: "C".to_owned(),
        deliver_subject: "to".to_owned(),
        ..ConsumerConfig::default()
    }
}

/// A status as its line, anything else as `sequence/deliveries+pending`.
fn text_of(m: &Outgoing<'_>) -> String {
    if !m.reply.starts_with(b"$JS.ACK.") {
        let line = m.headers.split(|byte| *byte == b'\r').next().unwrap();
        return std::str::from_utf8(line).unwrap().trim_start_matches("NATS/1.0 ").to_owned();
    }
    let tokens: Vec<&str> = std::str::from_utf8(m.reply).unwrap().split('.').collect();
    format!("{}/{}+{}", tokens[5], tokens[4], tokens[8])
}

impl Bench {
    /// A stream with these messages, and no consumer yet.
    fn with_messages(subjects: &[&str]) -> Self {
        let mut bench = Self {
            store: Store::memory(MemoryOptions { seed: 1, first_seq: 1 }),
            cache: Cache::new(1 << 20),
            removed: Removed::default(),
            fx: Effects::default(),
            ids: Nuid::new([7; 32]),
            listeners: Listeners(BTreeSet::from(["*".to_owned()])),
            consumer: None,
            config: ConsumerConfig::default(),
            mono_ns: 1000 * SECOND_NS,
            unix_ns: START_UNIX_NS,
            watch_ns: 0,
            created_unix_ns: 0,
            settled: Vec::new(),
            log: (Vec::new(), Vec::new()),
            written: 0,
            confirmed: Vec::new(),
        };
        for subject in subjects {
            bench.publish(subject);
        }
        bench
    }

    /// The same with a consumer.
    fn new(subjects: &[&str], config: ConsumerConfig) -> Self {
        let mut bench = Self::with_messages(subjects);
        bench.create(config);
        bench
    }

    fn create(&mut self, mut config: ConsumerConfig) {
        let stream = stream_config();
        set_defaults(&mut config, &stream, &Ceilings::default(), false).unwrap();
        set_inactive_default(&config.durable_name.clone(), &mut config);
        check(&config, &stream, &Ceilings::default()).unwrap();
        self.config = config.clone();
        self.created_unix_ns = self.unix_ns;
        self.make(|named, filter, cx| Some(Consumer::create(named, config, filter, cx)));
    }

    /// The server stops without notice and starts again: only what was written counts.
    fn crash(&mut self) {
        self.consumer = None;
        let (whole, events) = self.log.clone();
        let config = self.config.clone();
        let created_unix_ns = self.created_unix_ns;
        self.make(|named, filter, cx| {
            let mut consumer =
                Consumer::recover(named, config, filter, &whole, &events, cx).unwrap();
            consumer.created_unix_ns = created_unix_ns;
            Some(consumer)
        });
    }

    fn make(
        &mut self,
        make: impl FnOnce(start::Named<'_>, store::FilterId, &mut Cx<'_, '_>) -> Option<Consumer>,
    ) {
        let config = self.config.clone();
        let filters: Vec<&[u8]> = super::config::filters_of(&config).map(str::as_bytes).collect();
        let filter = self.store.add_filter(&filters);
        let named = start::Named { account: 1, stream: "S", name: "C" };
        let made = self.with_cx(|_, cx| make(named, filter, cx));
        self.consumer = made;
        self.keep();
    }

    fn with_cx<T>(&mut self, call: impl FnOnce(&mut Option<Consumer>, &mut Cx<'_, '_>) -> T) -> T {
        let ctx =
            Context { mono_ns: self.mono_ns, unix_ns: self.unix_ns, interest: &self.listeners };
        let mut cx = Cx {
            ctx: &ctx,
            fx: &mut self.fx,
            store: &mut self.store,
            cache: &mut self.cache,
            removed: &self.removed,
            settled: &mut self.settled,
            ids: &mut self.ids,
            domain: "",
            account_name: "A",
            watch_ns: self.watch_ns,
        };
        call(&mut self.consumer, &mut cx)
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut Consumer, &mut Cx<'_, '_>) -> T) -> T {
        let result = self.with_cx(|consumer, cx| call(consumer.as_mut().unwrap(), cx));
        self.keep();
        result
    }

    fn consumer(&self) -> &Consumer {
        self.consumer.as_ref().unwrap()
    }

    /// Writes what is to be written, as the consumer's owner does after each call.
    fn keep(&mut self) {
        let now_ns = self.mono_ns;
        let Some(consumer) = &mut self.consumer else { return };
        if let Some(entry) = consumer.take_entry(now_ns) {
            match entry {
                Entry::Whole(bytes) => self.log = (bytes, Vec::new()),
                Entry::Events(bytes) => self.log.1.push(bytes),
            }
            self.written += 1;
        }
        let replies = consumer.take_confirmations();
        self.confirmed.extend(replies.iter().map(|to| String::from_utf8_lossy(to).into_owned()));
    }

    /// Lets the consumer deliver as long as it wants to; what it said last.
    fn serve(&mut self) -> Progress {
        loop {
            let mut budget = Budget { messages: 256, bytes: 1 << 20 };
            let progress = self.with(|consumer, cx| consumer.deliver(cx, &mut budget));
            if progress != Progress::More {
                return progress;
            }
        }
    }

    /// Sends the dead letters that are due.
    fn send_letters(&mut self) {
        let now_ns = self.mono_ns;
        let consumer = self.consumer.as_mut().unwrap();
        if consumer.take_fresh_letters() || consumer.has_due_letters(now_ns) {
            self.with(|consumer, cx| consumer.send_letters(b"_INBOX.x.", cx));
        }
    }

    /// Stores a message of ten bytes, ten milliseconds after the one before.
    fn store(&mut self, subject: &str) -> u64 {
        self.mono_ns += 10_000_000;
        self.unix_ns += 10_000_000;
        let message = NewMessage {
            subject: subject.as_bytes(),
            payload: b"0123456789",
            ts_ns: self.unix_ns,
            ..NewMessage::default()
        };
        self.store.append(&message).unwrap()
    }

    /// The same, and what follows.
    fn publish(&mut self, subject: &str) {
        self.store(subject);
        if self.consumer.is_some() {
            self.serve();
        }
    }

    /// Takes a message out of the stream.
    fn remove(&mut self, seq: u64) {
        if self.store.remove(seq, false).is_some() {
            self.removed.note(seq);
        }
    }

    /// A pull request with a JSON body, and what follows.
    fn pull(&mut self, reply: &str, body: &str) {
        let parsed = PullRequest::parse(body.as_bytes());
        self.with(|consumer, cx| consumer.handle_pull(reply.as_bytes(), parsed, cx));
        self.serve();
    }

    /// An acknowledgement of a sequence whose delivery had the same number.
    fn ack(&mut self, seq: u64, body: &str) {
        self.ack_with(seq, seq, body, "");
    }

    fn ack_with(&mut self, stream: u64, consumer: u64, body: &str, reply: &str) {
        let named = Named { stream, consumer, count: 1 };
        let body = Ack::parse(body.as_bytes()).unwrap();
        self.with(|engine, cx| engine.handle_ack(named, &body, reply.as_bytes(), cx));
        self.serve();
    }

    /// Lets time pass, stopping at every deadline; whether the consumer wants to stay.
    fn pass(&mut self, ns: u64) -> Verdict {
        let end_ns = self.mono_ns + ns;
        for _ in 0..10_000 {
            let at_ns = self.consumer().next_deadline_ns();
            if at_ns > end_ns {
                self.jump(end_ns.saturating_sub(self.mono_ns));
                return Verdict::Keep;
            }
            self.jump(at_ns.saturating_sub(self.mono_ns));
            let verdict = self.with(|consumer, cx| consumer.handle_deadline(cx));
            if verdict == Verdict::Delete {
                return verdict;
            }
            self.send_letters();
            self.serve();
        }
        panic!("the consumer is never done with its deadlines");
    }

    fn jump(&mut self, ns: u64) {
        self.mono_ns += ns;
        self.unix_ns += ns as i64;
    }

    /// What has gone out since the last time.
    fn sent(&mut self) -> Vec<Sent> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let sent = (0..self.fx.sends())
            .filter_map(|at| self.fx.outgoing(at))
            .map(|m| (text(m.to), text_of(&m)))
            .collect();
        self.fx.clear_sends();
        sent
    }

    /// What has gone out to one subject since the last time; the rest is forgotten.
    fn sent_to(&mut self, to: &str) -> Vec<String> {
        self.sent().into_iter().filter(|sent| sent.0 == to).map(|sent| sent.1).collect()
    }

    /// Header blocks that went out since the last time.
    fn headers(&mut self) -> Vec<String> {
        let text = |m: Outgoing<'_>| String::from_utf8(m.headers.to_vec()).unwrap();
        let all = (0..self.fx.sends()).filter_map(|at| self.fx.outgoing(at)).map(text).collect();
        self.fx.clear_sends();
        all
    }

    /// Sequences up to which everything is settled: of deliveries and of the stream.
    fn floor(&self) -> (u64, u64) {
        let floor = self.consumer().state.floor;
        (floor.consumer, floor.stream)
    }

    fn num_pending(&mut self) -> u64 {
        self.with(|consumer, cx| consumer.num_pending(cx))
    }
}
