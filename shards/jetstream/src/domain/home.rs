//! A stream at its home shard, with its consumers: what comes for them, what they do at the end
//! of a turn.

use std::collections::VecDeque;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use slab::Slab;
use store::Position;
use store::disk::DiskDone;
use wire::api::errors;
use wire::api::subjects::parse as parse_api;
use wire::api::types::ResponseType;
use wire::subject;

use super::parcel::Request;
use super::{Shop, api_stream, dead_letters};
use crate::consumer::journal::Entry;
use crate::consumer::pull::Ending;
use crate::consumer::{self, Budget, Consumer, Progress, Verdict};
use crate::context::Context;
use crate::effect::Endpoint;
use crate::stream::{self, Stream};

/// Messages looked at in one step when a consumer has gone.
const RELEASE_STEP: usize = 4096;
/// What the consumers of a stream may deliver in one turn.
const TURN_BUDGET: Budget = Budget { messages: 4096, bytes: 1 << 20 };
/// What one consumer may deliver before the next one's turn comes.
const CONSUMER_BUDGET: Budget = Budget { messages: 512, bytes: 256 << 10 };

/// An answer that waits for something to be durable.
#[derive(Debug)]
pub(crate) enum Answer {
    /// An acknowledgement counts.
    Confirmed(Box<[u8]>),
    /// Dead letters of a consumer are kept, and may go.
    Letters(u32),
    /// A consumer's maker knows of it: it may deliver.
    Start(u32),
    /// A request is carried out; the headers and the JSON that say so.
    Done(Parked, Vec<u8>, Vec<u8>),
}

/// A copy of a request.
#[derive(Debug)]
pub struct Parked {
    pub(crate) account: u32,
    pub(crate) origin: u16,
    pub(crate) subject: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    pub(crate) headers: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) client: Vec<u8>,
}

impl Parked {
    /// A copy of a request.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        Self {
            account: request.account,
            origin: request.origin,
            subject: request.subject.to_vec(),
            reply: request.reply.to_vec(),
            headers: request.headers.to_vec(),
            body: request.body.to_vec(),
            client: request.client.to_vec(),
        }
    }

    /// The request again.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            account: self.account,
            origin: self.origin,
            subject: &self.subject,
            reply: &self.reply,
            headers: &self.headers,
            body: &self.body,
            client: &self.client,
        }
    }
}

/// See the module. Lives on: the stream's home shard.
#[derive(Debug)]
pub struct Home {
    /// The stream.
    pub stream: Stream,
    pub(crate) consumers: Slab<Box<Consumer>>,
    pub(crate) by_name: HashMap<Box<str>, u32, FxBuildHasher>,
    /// Consumers that wait for the stream's next message.
    hungry: Vec<u32>,
    /// Consumers to be served, in order.
    queue: VecDeque<u32>,
    /// The last sequence when the hungry were last looked at.
    fed_up_to: u64,
    settled: Vec<u64>,
    /// Consumers that read from the disk.
    reading: Vec<u32>,
    /// Answers, and what must be durable first.
    answers: VecDeque<(Position, Answer)>,
    /// Something since the last answer could not be written.
    pub(super) unwritten: bool,
    /// The stream could not be made durable when it was made.
    pub(crate) doomed: bool,
    /// The log says what a stop leaves to the next start.
    pub(super) told_unfinished: bool,
    /// Consumers that push.
    pub(crate) pushing: usize,
    /// Consumers of mirrors and sources, which are not shown.
    pub(crate) feeding: usize,
    /// Messages whose ids have to be learned after a start.
    pub(crate) flagged: Vec<u64>,
    /// Publishes that came before those ids are known: of other streams, since no client is
    /// served yet.
    early: Vec<Parked>,
    /// Messages that damage took, ranges of sequences.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Where answers to dead letters come to, once there was one.
    pub(crate) letter_inbox: Option<Box<[u8]>>,
    /// Bytes that the account's use has from this stream.
    pub(crate) counted_bytes: i64,
    /// The open batches, atomic and fast, that are in the settings' total.
    pub(super) counted_batches: [i64; 2],
    pub(crate) touched: bool,
    pub(crate) armed_ns: u64,
    /// Deadlines of consumers: time and slot, stale ones are passed over.
    deadlines: super::clock::Clock,
    armed: Vec<u64>,
}

impl Shop<'_, '_> {
    /// What a stream works with.
    pub(super) fn stream_cx(&mut self, room: stream::Room) -> stream::Cx<'_, '_> {
        stream::Cx { ctx: self.ctx, fx: self.fx, cache: self.cache, ids: self.ids, room }
    }
}

impl Home {
    /// A stream without consumers.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self {
            fed_up_to: stream.store.durable_seq(),
            stream,
            consumers: Slab::new(),
            by_name: HashMap::default(),
            hungry: Vec::new(),
            queue: VecDeque::new(),
            settled: Vec::new(),
            reading: Vec::new(),
            answers: VecDeque::new(),
            unwritten: false,
            doomed: false,
            told_unfinished: false,
            pushing: 0,
            feeding: 0,
            flagged: Vec::new(),
            early: Vec::new(),
            lost: Vec::new(),
            letter_inbox: None,
            counted_bytes: 0,
            counted_batches: [0; 2],
            touched: false,
            armed_ns: u64::MAX,
            deadlines: super::clock::Clock::default(),
            armed: Vec::new(),
        }
    }

    /// Works with one consumer; what it settles is taken from the stream afterwards.
    pub(crate) fn with<T>(
        &mut self,
        slot: u32,
        shop: &mut Shop<'_, '_>,
        work: impl FnOnce(&mut Consumer, &mut consumer::Cx<'_, '_>) -> T,
    ) -> Option<T> {
        let consumer = self.consumers.get_mut(slot as usize)?;
        let mut cx = consumer::Cx {
            ctx: shop.ctx,
            fx: shop.fx,
            store: &mut self.stream.store,
            cache: shop.cache,
            removed: &self.stream.removed,
            settled: &mut self.settled,
            ids: shop.ids,
            domain: &shop.settings.domain,
            account_name: &self.stream.id.account_name,
            watch_ns: shop.settings.stuck_consumer_ns,
        };
        let result = work(consumer, &mut cx);
        self.write_state(slot, shop.ctx.mono_ns);
        self.retire();
        Some(result)
    }

    /// Writes what a consumer wants kept.
    pub(super) fn write_state(&mut self, slot: u32, now_ns: u64) {
        let Some(consumer) = self.consumers.get_mut(slot as usize) else { return };
        if let Some(entry) = consumer.take_entry(now_ns) {
            let key = state_key(&consumer.name);
            let position = match entry {
                Entry::Whole(bytes) => self.stream.store.put_note(&key, &bytes),
                Entry::Events(bytes) => self.stream.store.add_delta(&key, &bytes),
            };
            if position == Position::NEVER {
                self.unwritten = true;
                consumer.note_unwritten(now_ns);
            }
        }
        let fresh = consumer.take_fresh_letters();
        let confirms = consumer.has_confirmations();
        if !fresh && !confirms {
            return;
        }
        let position = self.position();
        if fresh {
            self.answers.push_back((position, Answer::Letters(slot)));
        }
        if let Some(consumer) = self.consumers.get_mut(slot as usize)
            && confirms
        {
            let waiting = consumer.take_confirmations();
            let answers = waiting.into_iter().map(|reply| (position, Answer::Confirmed(reply)));
            self.answers.extend(answers);
        }
    }

    /// An answer that goes once everything so far is durable.
    pub(crate) fn answer_later(&mut self, request: &Request<'_>, json: Vec<u8>) {
        self.answer_later_with(request, Vec::new(), json);
    }

    /// A consumer delivers once its maker has been answered.
    pub(crate) fn start_later(&mut self, slot: u32) {
        self.answers.push_back((Position::default(), Answer::Start(slot)));
    }

    /// The same, with a header block.
    pub(crate) fn answer_later_with(
        &mut self,
        request: &Request<'_>,
        headers: Vec<u8>,
        json: Vec<u8>,
    ) {
        let position = self.position();
        self.answers.push_back((position, Answer::Done(Parked::of(request), headers, json)));
    }

    /// Sends the answers to what is durable.
    fn confirm(&mut self, shop: &mut Shop<'_, '_>) {
        while let Some((position, _)) = self.answers.front() {
            if !self.stream.store.is_durable(*position) {
                if *position != Position::NEVER && self.stream.store.fenced().is_none() {
                    return;
                }
                self.refuse_first(shop);
                continue;
            }
            match self.answers.pop_front() {
                Some((_, Answer::Confirmed(reply))) => {
                    shop.fx.publish(self.stream.id.account, &reply, b"", b"", b"");
                }
                Some((_, Answer::Letters(slot))) => self.send_letters(slot, shop),
                Some((_, Answer::Start(slot))) => self.enqueue(slot),
                Some((_, Answer::Done(parked, headers, json))) => {
                    shop.send_with(&parked.request(), &headers, &json, false);
                }
                None => return,
            }
        }
    }

    /// What the first answer is about cannot become durable: the client is told.
    fn refuse_first(&mut self, shop: &mut Shop<'_, '_>) {
        let Some((_, Answer::Done(parked, ..))) = self.answers.pop_front() else { return };
        let request = parked.request();
        let kind = parse_api(request.subject).and_then(|(_, call)| ResponseType::of(&call));
        if let Some(kind) = kind {
            self.doomed |= matches!(kind, ResponseType::StreamCreate);
            shop.refuse(&request, kind, &errors::INSUFFICIENT_RESOURCES);
        }
    }

    /// Takes settled messages out of the stream, where its retention says so.
    fn retire(&mut self) {
        if !self.settled.is_empty() {
            let consumers = &self.consumers;
            self.stream.handle_settled(&self.settled, |store, seq| {
                consumers.iter().any(|(_, other)| other.needs(store, seq))
            });
            self.settled.clear();
        }
    }

    /// After a consumer is gone or wants less: what nobody needs any more leaves.
    pub(crate) fn release(&mut self) {
        let consumers = &self.consumers;
        let mut from = Some(1);
        while let Some(at) = from {
            from = self.stream.handle_interest_lost(at, RELEASE_STEP, |store, seq| {
                consumers.iter().any(|(_, other)| other.needs(store, seq))
            });
        }
    }

    /// A message for one of the stream's subscriptions.
    pub(crate) fn handle_message(
        &mut self,
        endpoint: Endpoint,
        m: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) {
        if matches!(endpoint, Endpoint::Reply(_, dead_letters::NUMBER)) {
            return self.handle_letter_answer(m, shop);
        }
        if matches!(endpoint, Endpoint::Stream(_)) && !self.flagged.is_empty() {
            return self.early.push(Parked::of(m));
        }
        self.note_usage(shop.settings);
        let room = api_stream::room_of(&self.stream, shop);
        let mut cx = shop.stream_cx(room);
        match endpoint {
            Endpoint::Stream(_) => {
                let publish = stream::Publish {
                    subject: m.subject,
                    reply: m.reply,
                    headers: m.headers,
                    payload: m.body,
                    is_sourced: false,
                };
                self.stream.handle_publish(&publish, &mut cx);
            }
            Endpoint::Source(_, number) => {
                let publish = stream::Publish {
                    subject: m.subject,
                    reply: m.reply,
                    headers: m.headers,
                    payload: m.body,
                    is_sourced: true,
                };
                self.stream.handle_feed_message(number, &publish, &mut cx);
            }
            Endpoint::Reply(_, number) => {
                self.stream.handle_reply(number, m.headers, m.body, &mut cx);
            }
            Endpoint::Restore(_) => {}
        }
    }

    /// Takes the publishes that waited for the ids of what is stored.
    fn take_early(&mut self, shop: &mut Shop<'_, '_>) {
        if self.flagged.is_empty() {
            let endpoint = Endpoint::Stream(self.stream.id.slot);
            for parked in std::mem::take(&mut self.early) {
                self.handle_message(endpoint, &parked.request(), shop);
            }
        }
    }

    /// A consumer has something to do.
    pub(crate) fn enqueue(&mut self, slot: u32) {
        if let Some(consumer) = self.consumers.get_mut(slot as usize)
            && !std::mem::replace(&mut consumer.is_queued, true)
        {
            self.queue.push_back(slot);
        }
    }

    /// Somebody began or ended to listen. True when a consumer cares.
    pub(crate) fn handle_interest_changed(
        &mut self,
        pattern: &[u8],
        shop: &mut Shop<'_, '_>,
    ) -> bool {
        let concerned: Vec<u32> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| {
                consumer.settings.is_push()
                    && subject::matches(pattern, &consumer.settings.deliver_subject)
            })
            .map(|(slot, _)| slot as u32)
            .collect();
        for slot in &concerned {
            self.with(*slot, shop, |consumer, cx| consumer.check_interest(cx));
            self.enqueue(*slot);
        }
        !concerned.is_empty()
    }

    /// A disk operation of the stream's store has ended.
    pub(crate) fn handle_disk_done(&mut self, done: DiskDone, shop: &mut Shop<'_, '_>) {
        let progress = self.stream.store.handle_disk_done(
            done,
            shop.ctx.mono_ns,
            &mut shop.fx.disk,
            shop.cache,
        );
        self.tell_findings(shop);
        if progress.is_more_durable {
            self.stream.handle_durable(shop.fx);
            self.confirm(shop);
        }
        if let Some(error) = progress.failed {
            self.handle_store_failed(error, shop);
        }
        if progress.are_reads_ready {
            self.learn_ids(shop);
            self.take_early(shop);
            for slot in std::mem::take(&mut self.reading) {
                if let Some(consumer) = self.consumers.get_mut(slot as usize) {
                    consumer.handle_read_ready();
                    self.enqueue(slot);
                }
            }
            let room = api_stream::room_of(&self.stream, shop);
            self.stream.handle_read_ready(&mut shop.stream_cx(room), &mut |_| {});
            self.stream.handle_reads(&mut shop.stream_cx(room));
        }
    }

    fn handle_store_failed(&mut self, error: store::disk::DiskError, shop: &mut Shop<'_, '_>) {
        let account = shop.settings.account(self.stream.id.account);
        let account = account.map_or("", |account| account.name.as_str());
        let name = self.stream.name();
        let text = format!("JetStream stream '{account} > {name}': {error}");
        shop.fx.log(crate::effect::Level::Error, text);
        self.stream.handle_store_failed(shop.fx);
        self.confirm(shop);
    }

    /// What is due.
    pub(crate) fn handle_timers(&mut self, shop: &mut Shop<'_, '_>) {
        let now_ns = shop.ctx.mono_ns;
        self.stream.store.handle_timers(now_ns, &mut shop.fx.disk, shop.cache);
        self.tell_findings(shop);
        let room = api_stream::room_of(&self.stream, shop);
        self.stream.handle_timers(&mut shop.stream_cx(room));
        while let Some((slot, at_ns)) = self.deadlines.take_due(now_ns) {
            if self.armed.get(slot as usize) != Some(&at_ns) {
                continue;
            }
            if let Some(armed) = self.armed.get_mut(slot as usize) {
                *armed = u64::MAX;
            }
            let verdict = self.with(slot, shop, |consumer, cx| consumer.handle_deadline(cx));
            match verdict {
                Some(Verdict::Delete) => {
                    self.delete_consumer(slot, shop);
                }
                Some(Verdict::Keep) => {
                    self.send_due_letters(slot, shop);
                    self.enqueue(slot);
                }
                None => {}
            }
        }
    }

    /// Notes when a consumer has something to do next.
    pub(crate) fn arm(&mut self, slot: u32) {
        let Some(consumer) = self.consumers.get(slot as usize) else { return };
        let at = slot as usize;
        if self.armed.len() <= at {
            self.armed.resize(at + 1, u64::MAX);
        }
        if let Some(armed) = self.armed.get_mut(at) {
            self.deadlines.arm(slot, consumer.next_deadline_ns(), armed);
        }
    }

    /// When [`Self::handle_timers`] has something to do, monotonic ns.
    pub(crate) fn next_deadline_ns(&self, ctx: &Context<'_>) -> u64 {
        let store = self.stream.store.next_deadline_ns().unwrap_or(u64::MAX);
        store.min(self.stream.next_deadline_ns(ctx)).min(self.deadlines.next_ns())
    }

    /// The end of a turn. True when there is more to deliver.
    pub(crate) fn finish(&mut self, shop: &mut Shop<'_, '_>) -> bool {
        // Consumers get what is durable and nothing else.
        let last = self.stream.store.durable_seq();
        if last != self.fed_up_to {
            self.fed_up_to = last;
            for slot in std::mem::take(&mut self.hungry) {
                if let Some(consumer) = self.consumers.get_mut(slot as usize) {
                    consumer.is_hungry = false;
                    self.enqueue(slot);
                }
            }
        }
        let mut more = self.serve(shop);
        if self.stream.has_reads() {
            let room = api_stream::room_of(&self.stream, shop);
            more |= self.stream.handle_reads(&mut shop.stream_cx(room));
        }
        self.note_usage(shop.settings);
        self.stream.store.commit(shop.ctx.mono_ns, &mut shop.fx.disk);
        // A store in memory is durable at once.
        self.stream.handle_durable(shop.fx);
        self.confirm(shop);
        // An answer may have started a consumer.
        more || !self.queue.is_empty()
    }

    /// Lets the consumers that have something to do deliver. True when some have more.
    fn serve(&mut self, shop: &mut Shop<'_, '_>) -> bool {
        let mut left = TURN_BUDGET;
        while let Some(slot) = self.queue.pop_front() {
            let mut budget = Budget {
                messages: CONSUMER_BUDGET.messages.min(left.messages),
                bytes: CONSUMER_BUDGET.bytes.min(left.bytes),
            };
            let given = budget;
            if let Some(consumer) = self.consumers.get_mut(slot as usize) {
                consumer.is_queued = false;
            }
            let progress = self.with(slot, shop, |consumer, cx| consumer.deliver(cx, &mut budget));
            left.messages = left.messages.saturating_sub(given.messages - budget.messages);
            left.bytes = left.bytes.saturating_sub(given.bytes - budget.bytes);
            match progress {
                Some(Progress::Hungry) => self.note_hungry(slot),
                Some(Progress::Reading) => self.reading.push(slot),
                Some(Progress::More) => self.enqueue(slot),
                Some(Progress::Idle) | None => {}
            }
            self.arm(slot);
            if left.messages == 0 || left.bytes == 0 {
                return !self.queue.is_empty();
            }
        }
        false
    }

    /// A consumer is looked at again with the stream's next message.
    fn note_hungry(&mut self, slot: u32) {
        if let Some(consumer) = self.consumers.get_mut(slot as usize)
            && !std::mem::replace(&mut consumer.is_hungry, true)
        {
            self.hungry.push(slot);
        }
    }

    /// The server stops. True when the store has nothing more to write.
    pub(crate) fn handle_stop(&mut self, shop: &mut Shop<'_, '_>) -> bool {
        let slots: Vec<u32> = self.consumers.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.with(slot, shop, |consumer, cx| {
                consumer.end_all_requests(cx, Ending::Shutdown);
                consumer.write_at_once();
            });
        }
        let store = &mut self.stream.store;
        let is_done = store.stop(shop.ctx.mono_ns, &mut shop.fx.disk, shop.cache);
        // What was acknowledged already is tried as long as there is time.
        let is_done = is_done && !self.stream.owes_acknowledged();
        if is_done {
            self.tell_unfinished(shop);
        }
        is_done
    }

    /// Forgets a consumer in the lists.
    pub(crate) fn unlist(&mut self, slot: u32) {
        let Some(consumer) = self.consumers.get(slot as usize) else { return };
        if consumer.is_hungry {
            self.hungry.retain(|other| *other != slot);
        }
        if consumer.is_queued {
            self.queue.retain(|other| *other != slot);
        }
        if consumer.is_reading() {
            self.reading.retain(|other| *other != slot);
        }
        if let Some(armed) = self.armed.get_mut(slot as usize) {
            *armed = u64::MAX;
        }
    }
}

/// The key of a consumer's state among the stream's notes.
pub(crate) fn state_key(consumer: &str) -> Vec<u8> {
    [b"s/", consumer.as_bytes()].concat()
}

/// The key of a consumer's configuration among the stream's notes.
pub(crate) fn config_key(consumer: &str) -> Vec<u8> {
    [b"c/", consumer.as_bytes()].concat()
}

/// The key of the stream's configuration among its notes.
pub(crate) const STREAM_KEY: &[u8] = b"stream";
