//! Backups of streams and streams made from them: what a request for either begins, and the
//! chunks of a restore until the stream is whole.

use std::collections::VecDeque;

use store::disk::{DiskDone, Ticket};
use wire::api::ack::restore_subject;
use wire::api::advisory::{ClientInfo, RestoreComplete, RestoreCreate};
use wire::api::config::StreamConfig;
use wire::api::consumer_config::ConsumerConfig;
use wire::api::decode::decode_document;
use wire::api::errors::{self, ApiError};
use wire::api::requests::SnapshotRequest;
use wire::api::responses::{RestoreStarted, StreamCreated};
use wire::api::timestamp::Timestamp;
use wire::api::types::{ResponseType, encode_error, encode_response};
use wire::backup::{ConsumerBackup, ConsumerState, Limits, Pending as BackupPending, SequencePair};

use super::home::{Home, Parked};
use super::parcel::Request;
use super::{JetStream, Shop};
use crate::consumer::Consumer;
use crate::consumer::state::{Pending, Place, State};
use crate::context::Context;
use crate::effect::{Effects, Endpoint, Interest, Level};
use crate::stream::restore::{Restore, Taken};

/// Marks the number of a restore where a stream's slot is expected.
pub(super) const RESTORE_BIT: u32 = 1 << 31;

/// A restore under way.
#[derive(Debug)]
pub(crate) struct Job {
    restore: Restore,
    account: u32,
    /// Where the chunks come in.
    subject: Box<[u8]>,
    request: Parked,
    started_unix_ns: i64,
    /// What went wrong. It is told at the end; what comes until then is taken for nothing.
    failure: Option<ApiError>,
    /// Chunks that the store could not take yet, with their replies. The first one has begun.
    waiting: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// When something of the client or the disk was seen last, monotonic ns.
    seen_ns: u64,
}

impl Job {
    /// When the client is taken for gone, monotonic ns. While chunks wait for the disk, it is not
    /// the client that lets wait.
    fn deadline_ns(&self, idle_ns: u64) -> Option<u64> {
        (idle_ns > 0 && self.waiting.is_empty()).then(|| self.seen_ns.saturating_add(idle_ns))
    }
}

fn client_of(request: &Request<'_>) -> Option<Box<ClientInfo>> {
    decode_document::<ClientInfo>(request.client).ok().map(Box::new)
}

/// How far a consumer is, as archives say it.
fn to_backup(state: &State) -> ConsumerState {
    let pair = |place: Place| SequencePair { consumer: place.consumer, stream: place.stream };
    ConsumerState {
        delivered: pair(state.delivered),
        ack_floor: pair(state.floor),
        pending: state
            .pending
            .iter()
            .map(|(seq, pending)| {
                let time_ns = pending.at_unix_ns;
                (*seq, BackupPending { consumer_sequence: pending.consumer, time_ns })
            })
            .collect(),
        redelivered: state
            .redelivered
            .iter()
            .map(|(seq, count)| (*seq, u64::from(*count)))
            .collect(),
    }
}

fn from_backup(backup: &ConsumerState) -> State {
    let place = |pair: SequencePair| Place { consumer: pair.consumer, stream: pair.stream };
    let mut state = State {
        delivered: place(backup.delivered),
        floor: place(backup.ack_floor),
        looked_at: backup.delivered.stream,
        ..State::default()
    };
    for (seq, pending) in &backup.pending {
        let consumer = pending.consumer_sequence;
        let at_unix_ns = pending.time_ns;
        state.pending.insert(*seq, Pending { consumer, at_unix_ns, deadline_ns: 0 });
    }
    for (seq, count) in &backup.redelivered {
        state.redelivered.insert(*seq, u32::try_from(*count).unwrap_or(u32::MAX));
    }
    state
}

impl Home {
    /// Begins a backup.
    pub(super) fn begin_snapshot(
        &mut self,
        request: &Request<'_>,
        shop: &mut Shop<'_, '_>,
    ) -> Result<(), ApiError> {
        let body: SnapshotRequest = shop.read(request)?;
        let mut consumers = Vec::new();
        if !body.no_consumers {
            for (_, consumer) in self.consumers.iter().filter(|(_, one)| !one.config.direct) {
                let json = wire::json::to_go_string(&*consumer.config);
                consumers.push(ConsumerBackup {
                    name: consumer.name.to_string(),
                    config: serde_json::from_str(&json).unwrap_or_default(),
                    state: to_backup(&consumer.state),
                    created_ns: Some(consumer.created_unix_ns),
                });
            }
        }
        let room = super::api_stream::room_of(&self.stream, shop);
        let client = client_of(request);
        let mut cx = shop.stream_cx(room);
        let started = self.stream.begin_snapshot(&body, &consumers, &self.lost, client, &mut cx)?;
        shop.answer(request, ResponseType::StreamSnapshot, &started);
        Ok(())
    }

    /// Consumers of a backup.
    fn put_backups(&mut self, backups: Vec<ConsumerBackup>, shop: &mut Shop<'_, '_>) {
        for backup in backups {
            let json = serde_json::to_vec(&backup.config).unwrap_or_default();
            let Ok(config) = decode_document::<ConsumerConfig>(&json) else {
                let text = format!("restore: consumer {:?} cannot be understood", backup.name);
                shop.fx.log(Level::Error, text);
                continue;
            };
            let whole = from_backup(&backup.state).encode();
            let slot =
                self.put_consumer(&backup.name, config, shop, |named, config, filter, cx| {
                    let known = Consumer::recover(named, config.clone(), filter, &whole, &[], cx);
                    Some(known.unwrap_or_else(|| Consumer::create(named, config, filter, cx)))
                });
            let Some(slot) = slot else { continue };
            if let Some(consumer) = self.consumers.get_mut(slot as usize) {
                if let Some(created) = backup.created_ns {
                    consumer.created_unix_ns = created;
                }
                consumer.mark_changed(shop.ctx.mono_ns);
                consumer.write_at_once();
            }
            self.write_consumer(slot);
            self.write_state(slot, shop.ctx.mono_ns);
        }
    }
}

impl JetStream {
    /// Shard 0 lets this shard make a stream from a backup.
    pub(super) fn begin_restore(
        &mut self,
        request: &Request<'_>,
        config: &[u8],
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let config: StreamConfig =
            decode_document(config).map_err(|error| errors::STREAM_RESTORE.with(error))?;
        self.admit_place(request.account, &config, ctx, fx)?;
        let name = config.name.clone();
        let entry = self.restores.vacant_key() as u32;
        let stream = self.new_stream(request.account, config, ctx, fx);
        self.note_ops(RESTORE_BIT | entry, fx);
        let id = self.tools.ids.next_text();
        let subject: Box<[u8]> = restore_subject(&name, &id).into_bytes().into();
        fx.interests.push(Interest::Subscribe {
            account: request.account,
            subject: subject.clone(),
            endpoint: Endpoint::Restore(entry),
        });
        self.restores.insert(Job {
            restore: Restore::new(stream, Limits::default()),
            account: request.account,
            subject: subject.clone(),
            request: Parked::of(request),
            started_unix_ns: ctx.unix_ns,
            failure: None,
            waiting: VecDeque::new(),
            seen_ns: ctx.mono_ns,
        });
        let mut shop = self.tools.open(ctx, fx);
        let event = RestoreCreate {
            stream: name,
            client: client_of(request),
            domain: shop.settings.domain.clone(),
        };
        shop.advise(request.account, &event);
        let deliver_subject = String::from_utf8_lossy(&subject).into_owned();
        let body = RestoreStarted { deliver_subject };
        shop.answer(request, ResponseType::StreamRestore, &body);
        Ok(())
    }

    /// A chunk of a restore.
    pub(super) fn handle_restore_chunk(
        &mut self,
        number: u32,
        m: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let Some(job) = self.restores.get_mut(number as usize) else { return };
        job.seen_ns = ctx.mono_ns;
        if m.reply.is_empty() && !m.body.is_empty() {
            let error = errors::STREAM_RESTORE.with("chunk without reply");
            return self.fail_restore(number, &error, b"", ctx, fx);
        }
        if let Some(error) = &job.failure {
            if m.body.is_empty() {
                let error = error.clone();
                self.fail_restore(number, &error, m.reply, ctx, fx);
            } else {
                fx.publish(job.account, m.reply, b"", b"", b"");
            }
            return;
        }
        job.waiting.push_back((m.reply.to_vec(), m.body.to_vec()));
        if job.waiting.len() == 1 {
            let outcome = job.restore.handle_chunk(m.body, ctx);
            self.settle_chunk(number, outcome, ctx, fx);
        }
    }

    /// Goes on with a restore after what came of a chunk.
    fn settle_chunk(
        &mut self,
        number: u32,
        mut outcome: Result<Taken, ApiError>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        loop {
            let Some(job) = self.restores.get_mut(number as usize) else { return };
            let reply = job.waiting.front().map(|(reply, _)| reply.clone()).unwrap_or_default();
            match outcome {
                Ok(Taken::Busy) => break,
                Ok(Taken::All) => return self.end_restore(number, &reply, ctx, fx),
                Err(error) => return self.note_failure(number, error, ctx, fx),
                Ok(Taken::Chunk) => {
                    if !reply.is_empty() {
                        fx.publish(job.account, &reply, b"", b"", b"");
                    }
                    job.waiting.pop_front();
                    let Some((_, chunk)) = job.waiting.front() else { break };
                    outcome = job.restore.handle_chunk(chunk, ctx);
                }
            }
        }
        if let Some(job) = self.restores.get_mut(number as usize) {
            job.restore.stream_mut().store.commit(ctx.mono_ns, &mut fx.disk);
            self.note_ops(RESTORE_BIT | number, fx);
        }
    }

    /// A restore cannot succeed any more. Chunks are acknowledged all the same, for clients look
    /// for an error only in the answer to the last one.
    fn note_failure(&mut self, number: u32, error: ApiError, ctx: &Context<'_>, fx: &mut Effects) {
        let Some(job) = self.restores.get_mut(number as usize) else { return };
        for (reply, chunk) in std::mem::take(&mut job.waiting) {
            if chunk.is_empty() {
                return self.fail_restore(number, &error, &reply, ctx, fx);
            }
            fx.publish(job.account, &reply, b"", b"", b"");
        }
        job.failure = Some(error);
    }

    /// A disk operation of a restore has ended.
    pub(super) fn handle_restore_done(
        &mut self,
        number: u32,
        done: DiskDone,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let Some(job) = self.restores.get_mut(number as usize) else { return };
        let store = &mut job.restore.stream_mut().store;
        let progress =
            store.handle_disk_done(done, ctx.mono_ns, &mut fx.disk, &mut self.tools.cache);
        store.commit(ctx.mono_ns, &mut fx.disk);
        self.note_ops(RESTORE_BIT | number, fx);
        if let Some(error) = progress.failed {
            return self.note_failure(number, errors::STREAM_RESTORE.with(error), ctx, fx);
        }
        let Some(job) = self.restores.get_mut(number as usize) else { return };
        job.seen_ns = ctx.mono_ns;
        if !job.waiting.is_empty() {
            let outcome = job.restore.go_on(ctx);
            self.settle_chunk(number, outcome, ctx, fx);
        }
    }

    /// When a restore is given up next for want of chunks, monotonic ns.
    pub(super) fn next_restore_ns(&self) -> u64 {
        let idle_ns = self.tools.settings.restore_idle_ns;
        let all = self.restores.iter().filter_map(|(_, job)| job.deadline_ns(idle_ns));
        all.min().unwrap_or(u64::MAX)
    }

    /// Gives up the restores whose clients have gone: what they made is removed, and the name and
    /// what was reserved are free again.
    pub(super) fn expire_restores(&mut self, ctx: &Context<'_>, fx: &mut Effects) {
        let idle_ns = self.tools.settings.restore_idle_ns;
        let is_due = |job: &Job| job.deadline_ns(idle_ns).is_some_and(|at| at <= ctx.mono_ns);
        let due: Vec<u32> = self
            .restores
            .iter()
            .filter(|(_, job)| is_due(job))
            .map(|(number, _)| number as u32)
            .collect();
        for number in due {
            let Some(job) = self.restores.get(number as usize) else { continue };
            let stream = job.restore.stream();
            let text = format!(
                "restore of stream '{} > {}' is given up: no chunk for {} s",
                stream.id.account_name,
                stream.name(),
                idle_ns / 1_000_000_000
            );
            fx.log(Level::Warn, text);
            let error = errors::STREAM_RESTORE.with("no chunks");
            self.fail_restore(number, &error, b"", ctx, fx);
        }
    }

    fn take_restore(&mut self, number: u32, fx: &mut Effects) -> Option<Job> {
        let job = self.restores.try_remove(number as usize)?;
        fx.interests.push(Interest::Unsubscribe {
            account: job.account,
            subject: job.subject.clone(),
            endpoint: Endpoint::Restore(number),
        });
        Some(job)
    }

    fn end_restore(&mut self, number: u32, reply: &[u8], ctx: &Context<'_>, fx: &mut Effects) {
        let Some(job) = self.take_restore(number, fx) else { return };
        let bytes = i64::try_from(job.restore.bytes).unwrap_or(i64::MAX);
        let (mut stream, consumers) = job.restore.into_parts();
        let slot = self.homes.vacant_key() as u32;
        stream.id.slot = slot;
        let name: Box<str> = stream.name().into();
        for owner in self.tickets.values_mut().filter(|owner| **owner == RESTORE_BIT | number) {
            *owner = slot;
        }
        self.homes.insert(Box::new(Home::new(stream)));
        self.names.insert((job.account, name.clone()), slot);
        let mut shop = self.tools.open(ctx, fx);
        let Some(home) = self.homes.get_mut(slot as usize) else { return };
        home.write_config();
        home.put_backups(consumers, &mut shop);
        self.push_consumers += home.push_consumers();
        home.subscribe(shop.fx);
        let request = job.request.request();
        let event = RestoreComplete {
            stream: name.to_string(),
            start: Timestamp(job.started_unix_ns),
            end: Timestamp(ctx.unix_ns),
            bytes,
            client: client_of(&request),
            domain: shop.settings.domain.clone(),
        };
        shop.advise(job.account, &event);
        let info = home.stream.info(&home.facts(), ctx);
        let body = StreamCreated { info, did_create: false };
        let answer = Request { reply, ..request };
        home.answer_later(&answer, encode_response(ResponseType::StreamCreate, &body));
        self.note_ops(slot, fx);
        self.touch(slot);
    }

    fn fail_restore(
        &mut self,
        number: u32,
        error: &ApiError,
        reply: &[u8],
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let Some(mut job) = self.take_restore(number, fx) else { return };
        let json = encode_error(ResponseType::StreamCreate, error);
        let mut shop = self.tools.open(ctx, fx);
        let answer = Request { reply, ..job.request.request() };
        shop.send_answer(&answer, &json, true);
        let config = job.restore.stream_mut().config().clone();
        self.disown(job.account, &config, ctx, fx);
        let _ = self.remove_restored(number, job, fx);
    }

    /// The restore under way of a stream, if there is one.
    pub(super) fn restore_of(&self, account: u32, name: &str) -> Option<u32> {
        let mut all = self.restores.iter();
        let own =
            all.find(|(_, job)| job.account == account && job.restore.stream().name() == name);
        own.map(|(number, _)| number as u32)
    }

    /// The stream of a restore is deleted, which shard 0 knows already.
    pub(super) fn cancel_restore(&mut self, number: u32, fx: &mut Effects) -> Option<Ticket> {
        let job = self.take_restore(number, fx)?;
        self.remove_restored(number, job, fx)
    }

    /// Removes what a restore has made. The operation after which it is gone, if it has files.
    fn remove_restored(&mut self, number: u32, job: Job, fx: &mut Effects) -> Option<Ticket> {
        let (stream, _) = job.restore.into_parts();
        self.tickets.retain(|_, owner| *owner != RESTORE_BIT | number);
        self.remove_files(Home::new(stream), fx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::settings::{AccountLimits, AccountSettings, Settings, Usage};

    #[test]
    fn states_go_into_archives_and_back() {
        let mut state = State {
            delivered: Place { consumer: 5, stream: 9 },
            floor: Place { consumer: 2, stream: 3 },
            looked_at: 9,
            ..State::default()
        };
        state.pending.insert(7, Pending { consumer: 4, at_unix_ns: 77, deadline_ns: 0 });
        state.redelivered.insert(7, 2);
        let again = from_backup(&to_backup(&state));
        assert_eq!(again.pending, state.pending);
        assert_eq!(again.redelivered, state.redelivered);
        assert_eq!((again.delivered, again.floor), (state.delivered, state.floor));
    }

    struct Nobody;

    impl crate::context::Interest for Nobody {
        fn has_interest(&self, _: u32, _: &[u8]) -> bool {
            false
        }
    }

    const fn at(mono_ns: u64) -> Context<'static> {
        Context { mono_ns, unix_ns: 1, interest: &Nobody }
    }

    /// One shard, one account.
    struct Bench {
        jetstream: JetStream,
        fx: Effects,
        usage: Arc<Usage>,
    }

    impl Bench {
        fn new(restore_idle_ns: u64) -> Self {
            let usage = Arc::<Usage>::default();
            let account = AccountSettings {
                name: "A".to_owned(),
                limits: Some(AccountLimits::default()),
                usage: Arc::clone(&usage),
            };
            let settings =
                Settings { restore_idle_ns, accounts: vec![account], ..Settings::default() };
            let mut jetstream = JetStream::new(0, 1, Arc::new(settings), 7);
            let mut fx = Effects::default();
            jetstream.note_recovered(&at(0), &mut fx);
            Self { jetstream, fx, usage }
        }

        fn reserved(&self) -> (u64, u64) {
            (Usage::get(&self.usage.memory_reserved), Usage::get(&self.usage.streams))
        }

        fn publish(&mut self, subject: &[u8], body: &[u8], now_ns: u64) {
            let request = Request {
                account: 0,
                origin: 0,
                subject,
                reply: b"reply",
                headers: b"",
                body,
                client: b"",
            };
            match self.jetstream.restores.iter().next() {
                Some((number, job)) if *job.subject == *subject => {
                    let endpoint = Endpoint::Restore(number as u32);
                    self.jetstream.handle_message(endpoint, &request, &at(now_ns), &mut self.fx);
                }
                _ => self.jetstream.handle_request(&request, &at(now_ns), &mut self.fx),
            }
            self.jetstream.finish(&at(now_ns), &mut self.fx);
        }

        fn answer(&mut self) -> Value {
            let last = self.fx.outgoing(self.fx.sends() - 1).unwrap();
            let answer = serde_json::from_slice(last.payload).unwrap();
            self.fx.clear_sends();
            answer
        }

        /// Begins a restore; gives the subject for the chunks.
        fn restore(&mut self, now_ns: u64) -> String {
            let body = format!("{{\"config\":{CONFIG},\"state\":{{}}}}");
            self.publish(b"$JS.API.STREAM.RESTORE.S", body.as_bytes(), now_ns);
            let answer = self.answer();
            answer["deliver_subject"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
        }
    }

    const CONFIG: &str = r#"{"name":"S","subjects":["s"],"storage":"memory","max_bytes":5000}"#;

    #[test]
    fn a_restore_whose_client_is_gone_is_given_up() {
        let mut bench = Bench::new(1000);
        let chunks = bench.restore(10);
        assert_eq!(bench.reserved(), (5000, 1));
        assert_eq!(bench.jetstream.next_deadline_ns(), 1010);
        // The beginning of an archive; it is not the last chunk, so nothing is wrong with it.
        bench.publish(chunks.as_bytes(), b"\xff\x06\x00", 900);
        assert!(bench.fx.outgoing(0).unwrap().payload.is_empty(), "the chunk is acknowledged");
        bench.jetstream.handle_timers(&at(1899), &mut bench.fx);
        assert_eq!((bench.jetstream.next_deadline_ns(), bench.reserved()), (1900, (5000, 1)));
        bench.publish(b"$JS.API.STREAM.CREATE.S", CONFIG.as_bytes(), 1899);
        assert_eq!(bench.answer()["error"]["err_code"], 10_058, "the name is taken");
        bench.fx.interests.clear();
        bench.jetstream.handle_timers(&at(1900), &mut bench.fx);
        assert_eq!((bench.jetstream.next_deadline_ns(), bench.reserved()), (u64::MAX, (0, 0)));
        let gone = Interest::Unsubscribe {
            account: 0,
            subject: chunks.as_bytes().into(),
            endpoint: Endpoint::Restore(0),
        };
        assert_eq!(bench.fx.interests, [gone]);
        assert!(bench.fx.logs.iter().any(|(_, line)| line.contains("'A > S' is given up")));
        // The name may be used again, by another restore too.
        bench.restore(2000);
        bench.jetstream.handle_timers(&at(3000), &mut bench.fx);
        bench.publish(b"$JS.API.STREAM.CREATE.S", CONFIG.as_bytes(), 3001);
        assert_eq!(bench.answer()["config"]["name"], "S");
        assert_eq!(bench.reserved(), (5000, 1));
    }

    #[test]
    fn without_a_limit_restores_wait_for_ever() {
        let mut bench = Bench::new(0);
        bench.restore(10);
        assert_eq!(bench.jetstream.next_deadline_ns(), u64::MAX);
        bench.jetstream.handle_timers(&at(u64::MAX), &mut bench.fx);
        assert_eq!(bench.reserved(), (5000, 1));
    }

    #[test]
    fn a_stream_that_is_deleted_while_it_is_restored_is_gone() {
        let mut bench = Bench::new(1000);
        let chunks = bench.restore(10);
        bench.publish(b"$JS.API.STREAM.DELETE.S", b"", 20);
        assert_eq!(bench.answer()["success"], true);
        assert_eq!((bench.jetstream.next_deadline_ns(), bench.reserved()), (u64::MAX, (0, 0)));
        bench.publish(b"$JS.API.STREAM.CREATE.S", CONFIG.as_bytes(), 30);
        assert_eq!(bench.answer()["config"]["name"], "S");
        bench.publish(chunks.as_bytes(), b"", 40);
        assert_eq!(bench.reserved(), (5000, 1));
        bench.publish(b"$JS.API.STREAM.INFO.S", b"", 50);
        assert_eq!(bench.answer()["config"]["name"], "S");
    }
}
