//! Streams and their stores: making one, finding those that the disk holds, and what they use.
//!
//! ```text
//!  <account>/streams/<stream>/     one log: messages, configuration, consumers
//!  quarantine/<stream>-<time>/     what could not be understood; nothing is ever deleted for that
//! ```

use store::disk::{BootDisk, DiskError, Ticket};
use store::log::{self, Log, Options, RecoverError};
use store::{MemoryOptions, Recovered, RecoveredNote, Store};
use wire::api::config::StreamConfig;
use wire::api::consumer_config::ConsumerConfig;
use wire::api::decode::decode_document;
use wire::api::errors::ApiError;
use wire::api::policy::{PersistMode, Retention, Storage};

use super::configs;
use super::home::{Home, STREAM_KEY};
use super::parcel::Parcel;
use super::{JetStream, Shop, home_of};
use crate::consumer::Consumer;
use crate::context::Context;
use crate::effect::{Effects, Level};
use crate::settings::{Durability, Settings, Usage};
use crate::stream::{Identity, Stream};

/// Longest name that a directory has as it is; longer ones are hashed.
const PLAIN_NAME_MAX: usize = 200;
/// Directory for what could not be understood.
pub(super) const QUARANTINE: &str = "quarantine";
/// How lazily a stream with `persist_mode: async` is flushed when everything else is flushed
/// before its acknowledgement, ns.
const ASYNC_INTERVAL_NS: u64 = 1_000_000_000;

/// The name of a directory for an account or a stream. What is served is in the files, so it
/// need not be read back.
fn dir_name(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_$=+@~".contains(&byte);
    if !name.is_empty() && name.len() <= PLAIN_NAME_MAX && name.bytes().all(plain) {
        return name.to_owned();
    }
    // FNV-1a twice, from both ends: names that are not plain are rare.
    let hash = |bytes: &mut dyn Iterator<Item = u8>| {
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let (one, other) = (hash(&mut name.bytes()), hash(&mut name.bytes().rev()));
    format!("%{one:016x}{other:016x}")
}

/// The directory of a stream.
fn stream_dir(account: &str, stream: &str) -> String {
    format!("{}/streams/{}", dir_name(account), dir_name(stream))
}

fn log_options(settings: &Settings, config: &StreamConfig, dir: &str, uid: u64) -> Options {
    let is_async = config.persist_mode == PersistMode::Async;
    Options {
        durability: match settings.durability {
            Durability::Lazy { interval_ns } => log::Durability::Lazy { interval_ns },
            Durability::Flushed if is_async => {
                log::Durability::Lazy { interval_ns: ASYNC_INTERVAL_NS }
            }
            Durability::Flushed => log::Durability::Flushed,
        },
        stream: config.name.clone().into_bytes(),
        encryption: settings.encryption.clone(),
        waiting_bytes_max: settings.buffered_bytes_max,
        is_vital: configs::is_vital_note,
        ..Options::new(dir, uid)
    }
}

impl JetStream {
    fn account_name(&self, account: u32) -> String {
        let account = self.tools.settings.account(account);
        account.map_or_else(String::new, |account| account.name.clone())
    }

    /// Whether the place of a new stream is free; if not, shard 0 learns that it is not made.
    ///
    /// # Errors
    /// A stream that is not served has it.
    pub(super) fn admit_place(
        &mut self,
        account: u32,
        config: &StreamConfig,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let dir = stream_dir(&self.account_name(account), &config.name);
        let admitted = self.unserved.admit(&dir);
        if admitted.is_err() {
            self.disown(account, config, ctx, fx);
        }
        admitted
    }

    /// A new stream: its slot.
    pub(super) fn put_stream(
        &mut self,
        account: u32,
        config: StreamConfig,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> u32 {
        let stream = self.new_stream(account, config, ctx, fx);
        self.seat(stream, ctx)
    }

    /// A new stream that is not served yet.
    pub(super) fn new_stream(
        &mut self,
        account: u32,
        config: StreamConfig,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Stream {
        let id = self.tools.ids.next_id();
        let uid = id.iter().fold(ctx.unix_ns as u64, |uid, byte| {
            (uid ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let store = match config.storage {
            Storage::Memory => {
                Store::memory(MemoryOptions { seed: uid, first_seq: config.first_seq })
            }
            Storage::File => {
                let account = self.account_name(account);
                let dir = stream_dir(&account, &config.name);
                self.clear_place(&dir, ctx, fx);
                let options = log_options(&self.tools.settings, &config, &dir, uid);
                let options = Options { account: account.into_bytes(), ..options };
                Store::file(options, config.first_seq, &mut fx.disk)
            }
        };
        self.stream_of(account, config, ctx.unix_ns, store)
    }

    fn stream_of(
        &self,
        account: u32,
        config: StreamConfig,
        created_unix_ns: i64,
        store: Store,
    ) -> Stream {
        let account_name = self.account_name(account);
        let settings = &self.tools.settings;
        let slot = self.homes.vacant_key() as u32;
        let id = Identity {
            account,
            account_name: account_name.into(),
            slot,
            domain: settings.domain.as_str().into(),
        };
        let mut stream = Stream::new(id, config, created_unix_ns, store);
        stream.batch_limits.atomic_max = settings.batches_per_stream_max;
        stream.batch_limits.messages_max = settings.batch_messages_max as u64;
        stream.batch_limits.quiet_ns = settings.batch_timeout_ns;
        stream.buffered_messages_max = settings.buffered_messages_max;
        stream
    }

    /// Serves a stream from now on: its slot.
    fn seat(&mut self, mut stream: Stream, ctx: &Context<'_>) -> u32 {
        let slot = self.homes.vacant_key() as u32;
        stream.id.slot = slot;
        let pace = self.tools.settings.scrub_pace(self.tools.shards);
        stream.store.set_scrub(pace, Some((ctx.mono_ns, ctx.unix_ns)));
        let key = (stream.id.account, stream.name().into());
        self.homes.insert(Box::new(Home::new(stream)));
        self.names.insert(key, slot);
        slot
    }

    /// Finds the streams that the disk holds and that are at home here.
    pub fn recover(&mut self, boot: &mut dyn BootDisk, ctx: &Context<'_>, fx: &mut Effects) {
        if let Err(error) = self.recover_all(boot, ctx, fx) {
            fx.log(Level::Error, format!("JetStream cannot read its store: {error}"));
            self.unserved.note_unknown(None, &error);
        }
        if self.meta.is_some() {
            self.note_recovered(ctx, fx);
        } else {
            self.tools.open(ctx, fx).post(0, &Parcel::Recovered);
        }
    }

    fn recover_all(
        &mut self,
        boot: &mut dyn BootDisk,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<(), DiskError> {
        let accounts = boot.list("")?;
        for account in accounts.iter().filter_map(|name| name.strip_suffix('/')) {
            if account == QUARANTINE {
                continue;
            }
            let streams = match boot.list(&format!("{account}/streams")) {
                Ok(streams) => streams,
                Err(error) => {
                    let text = format!("JetStream store {account}/streams: {error}");
                    fx.log(Level::Error, text);
                    self.unserved.note_unknown(Some(account), &error);
                    continue;
                }
            };
            for stream in streams.iter().filter_map(|name| name.strip_suffix('/')) {
                let dir = format!("{account}/streams/{stream}");
                self.recover_dir(&dir, boot, ctx, fx);
            }
        }
        Ok(())
    }

    fn recover_dir(
        &mut self,
        dir: &str,
        boot: &mut dyn BootDisk,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let (uid, account, stream) = match Log::identify(dir, boot) {
            Ok(identity) => identity,
            // Every shard sees it; one speaks, and puts aside what has no log.
            Err(RecoverError::Empty | RecoverError::Disk(DiskError::NotFound))
                if self.tools.me != 0 =>
            {
                return self.unserved.note_foreign(dir, boot);
            }
            // A new stream of that name may be at home on any shard.
            Err(_) if self.tools.me != 0 => return self.unserved.keep(dir),
            Err(error) => return self.pass_over(dir, &error, boot, ctx, fx),
        };
        let account = String::from_utf8_lossy(&account).into_owned();
        let stream = String::from_utf8_lossy(&stream).into_owned();
        if home_of(&account, &stream, self.tools.shards) != self.tools.me {
            return;
        }
        let Some(id) = self.tools.settings.account_id(&account) else {
            let text = format!(
                "JetStream store {dir}: account {account:?} is not configured; \
                its stream {stream:?} is kept and not served"
            );
            self.unserved.keep(dir);
            return fx.log(Level::Warn, text);
        };
        let named = StreamConfig { name: stream.clone(), ..StreamConfig::default() };
        let options = log_options(&self.tools.settings, &named, dir, uid);
        let options = Options { account: account.clone().into_bytes(), ..options };
        match Store::recover(options, boot) {
            Ok(recovered) => self.bring_back(id, dir, recovered, boot, ctx, fx),
            Err(error) => self.pass_over(dir, &error, boot, ctx, fx),
        }
    }

    /// A stream whose log has been read.
    fn bring_back(
        &mut self,
        account: u32,
        dir: &str,
        recovered: Recovered,
        boot: &mut dyn BootDisk,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        tell_damage(dir, &recovered, fx);
        let Recovered { store, notes, lost, report } = recovered;
        let known = notes.iter().find(|note| note.key == STREAM_KEY).and_then(read_note);
        let known = known.and_then(|(created, json)| Some((created, configs::decode(&json)?)));
        if known.is_none()
            && let Some(error) = report.read_error
        {
            return self.pass_over(dir, &error.into(), boot, ctx, fx);
        }
        let mut is_changed = known.is_none();
        let Some((created, mut config)) = known.or_else(|| configs::given(dir, boot, ctx, fx))
        else {
            return self.set_aside(dir, "its configuration cannot be read", boot, ctx, fx);
        };
        is_changed |= configs::lift_limits(&mut config, &report);
        let json = wire::json::to_go_string(&config);
        let stream = self.stream_of(account, config.clone(), created, store);
        let slot = self.seat(stream, ctx);
        let mut shop = self.tools.open(ctx, fx);
        shop.reserve(account, &config, 1);
        if let Some(home) = self.homes.get_mut(slot as usize) {
            home.lost = lost;
            if is_changed {
                home.write_config();
            }
            home.bring_back(&notes, &mut shop);
            home.note_usage(shop.settings);
            self.push_consumers += home.push_consumers();
            self.note_ops(slot, fx);
        }
        self.report_present(account, json.as_bytes(), ctx, fx);
        self.touch(slot);
    }

    /// Every stream is ready to take messages.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.homes.iter().all(|(_, home)| home.flagged.is_empty())
    }

    /// Removes what the disk holds of a stream. The operation after which it is gone for good;
    /// none for a stream in memory.
    pub(super) fn remove_files(&mut self, home: Home, fx: &mut Effects) -> Option<Ticket> {
        let last = home.stream.store.delete(&mut fx.disk, &mut self.tools.cache);
        self.skip_ops(fx);
        last
    }

    /// A directory in which no stream can be read.
    fn pass_over(
        &mut self,
        dir: &str,
        error: &RecoverError,
        boot: &mut dyn BootDisk,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let names = boot.list(dir);
        if names.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        self.unserved.note_foreign(dir, boot);
        let text = if self.unserved.is_foreign(dir) {
            format!(
                "JetStream store {dir} is of nats-server: it is left alone; bring its stream \
                over with `nats stream backup` and `nats stream restore`"
            )
        } else {
            match error {
                // The right key or a disk that answers bring it back at the next start.
                RecoverError::Key { .. } | RecoverError::Disk(_) => {
                    self.unserved.note_failed(dir, error);
                    format!("JetStream store {dir}: {error}; it is left as it is and not served")
                }
                // Out of the way of a new stream of that name.
                RecoverError::Empty => {
                    return self.set_aside(dir, &error.to_string(), boot, ctx, fx);
                }
            }
        };
        fx.log(Level::Error, text);
    }

    fn set_aside(
        &mut self,
        dir: &str,
        why: &str,
        boot: &mut dyn BootDisk,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let name = dir.rsplit('/').next().unwrap_or(dir);
        let to = format!("{QUARANTINE}/{name}-{}", ctx.unix_ns);
        let outcome = match boot.rename(dir, &to) {
            Ok(()) => format!("it is kept in {to}"),
            Err(error) => {
                self.unserved.note_failed(dir, &error);
                format!("it is left where it is ({error})")
            }
        };
        let text = format!("JetStream store {dir}: {why}; {outcome}");
        fx.log(Level::Error, text);
    }
}

/// A time and a document, as notes about streams and consumers have them.
fn read_note(note: &RecoveredNote) -> Option<(i64, Vec<u8>)> {
    let (time, json) = note.value.as_deref()?.split_first_chunk::<8>()?;
    Some((i64::from_le_bytes(*time), json.to_vec()))
}

fn tell_damage(dir: &str, recovered: &Recovered, fx: &mut Effects) {
    let report = &recovered.report;
    if report.truncated_bytes > 0 {
        let bytes = report.truncated_bytes;
        let whose = if report.tail_unknown {
            "may have been acknowledged, for both copies of the tail are damaged; they"
        } else {
            "had not been acknowledged and"
        };
        let text = format!("JetStream store {dir}: {bytes} bytes at its end {whose} are dropped");
        fx.log(Level::Warn, text);
    }
    if !report.damaged_headers.is_empty() || report.damaged_slots > 0 {
        let text = format!(
            "JetStream store {dir}: damaged places that have a second copy: headers of segments \
            {:?}, {} tail slots",
            report.damaged_headers, report.damaged_slots
        );
        fx.log(Level::Warn, text);
    }
    configs::tell_notes(dir, recovered, fx);
    if report.is_clean() && recovered.lost.is_empty() {
        return;
    }
    let lost: Vec<String> = recovered
        .lost
        .iter()
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    let text = format!(
        "JetStream store {dir} is damaged: sequences lost: [{}]; damaged places: {}; missing \
         segments: {:?}; kept in quarantine: {:?}",
        lost.join(", "),
        report.damage.len(),
        report.missing_segments,
        report.quarantined,
    );
    fx.log(Level::Error, text);
}

impl Home {
    /// Takes on what the log says beside the messages.
    fn bring_back(&mut self, notes: &[RecoveredNote], shop: &mut Shop<'_, '_>) {
        for note in notes {
            if let Some(value) = &note.value {
                self.stream.handle_recovered_note(&note.key, value);
            }
        }
        for note in notes {
            let Some(name) = note.key.strip_prefix(b"c/") else { continue };
            let name = String::from_utf8_lossy(name).into_owned();
            self.bring_back_consumer(&name, note, notes, shop);
        }
        self.reconcile();
        self.stream.enforce_all_limits();
        self.subscribe(shop.fx);
        let window_ns = self.stream.config().duplicate_window_ns.max(0);
        let from = self.stream.store.seq_at_time(shop.ctx.unix_ns.saturating_sub(window_ns));
        let mut at = from.min(self.stream.store.last_seq());
        while let Some(seq) = self.stream.store.next_with_msg_id(at) {
            self.flagged.push(seq);
            at = seq.saturating_add(1);
        }
        self.learn_ids(shop);
    }

    /// Learns the message ids of the duplicate window; goes on when reads are ready.
    pub(super) fn learn_ids(&mut self, shop: &mut Shop<'_, '_>) {
        if self.flagged.is_empty() {
            return;
        }
        let room = super::api_stream::room_of(&self.stream, shop);
        let flagged = std::mem::take(&mut self.flagged);
        if !self.stream.handle_recovered(&flagged, &mut shop.stream_cx(room)) {
            self.flagged = flagged;
        }
    }

    fn bring_back_consumer(
        &mut self,
        name: &str,
        note: &RecoveredNote,
        notes: &[RecoveredNote],
        shop: &mut Shop<'_, '_>,
    ) {
        let stream = self.stream.name().to_owned();
        let account = self.stream.id.account_name.clone();
        let found = read_note(note).and_then(|(created, json)| {
            Some((created, decode_document::<ConsumerConfig>(&json).ok()?))
        });
        let Some((created, config)) = found else {
            let text = format!(
                "JetStream consumer '{account} > {stream} > {name}': its \
                configuration cannot be read; it is not served"
            );
            return shop.fx.log(Level::Error, text);
        };
        let key = super::home::state_key(name);
        let state = notes.iter().find(|note| note.key == key);
        let slot = self.put_consumer(name, config, shop, |named, config, filter, cx| {
            let whole = state.and_then(|state| state.value.as_deref());
            let deltas = state.map_or(&[][..], |state| state.deltas.as_slice());
            let known = whole.and_then(|whole| {
                Consumer::recover(named, config.clone(), filter, whole, deltas, cx)
            });
            if known.is_none() && state.is_some() {
                let text = format!(
                    "JetStream consumer '{account} > {stream} > {name}': its \
                    state cannot be read; it starts again"
                );
                cx.fx.log(Level::Error, text);
            }
            Some(known.unwrap_or_else(|| Consumer::create(named, config, filter, cx)))
        });
        if let Some(consumer) = slot.and_then(|slot| self.consumers.get_mut(slot as usize)) {
            consumer.created_unix_ns = created;
        }
    }

    /// After a start: what the consumers had settled leaves, even if that had not been written.
    /// What had all its deliveries was settled by nobody.
    fn reconcile(&mut self) {
        let holds = |c: &Consumer, store: &_, seq| c.needs(store, seq) || c.state.is_exhausted(seq);
        match self.stream.config().retention {
            Retention::Limits => {}
            Retention::Interest => {
                let consumers = &self.consumers;
                self.stream.handle_interest_lost(1, usize::MAX, |store, seq| {
                    consumers.iter().any(|(_, consumer)| holds(consumer, store, seq))
                });
            }
            Retention::WorkQueue => {
                let mut settled = Vec::new();
                let mut at = 1;
                while let Some(seq) = self.stream.store.next(store::ALL, at) {
                    let store = &self.stream.store;
                    let wanted = |consumer: &Consumer| {
                        store.subject_of(seq).is_some_and(|s| store.matches(consumer.filter, s))
                    };
                    let consumers = || self.consumers.iter().map(|(_, consumer)| &**consumer);
                    if consumers().any(wanted) && !consumers().any(|c| holds(c, store, seq)) {
                        settled.push(seq);
                    }
                    at = seq + 1;
                }
                self.stream.handle_settled(&settled, |_, _| false);
            }
        }
    }

    /// Brings the use of the account and of all together up to date with the stream's.
    pub(super) fn note_usage(&mut self, settings: &Settings) {
        let bytes = i64::try_from(self.stream.store.state().bytes).unwrap_or(i64::MAX);
        let change = bytes - self.counted_bytes;
        if change != 0 {
            self.counted_bytes = bytes;
            self.add_usage(settings, change);
        }
        let open = [self.stream.atomic_batches() as i64, self.stream.fast_batches() as i64];
        if open != self.counted_batches {
            let [atomic, fast] = self.counted_batches;
            Usage::add(&settings.total.atomic_batches, open[0] - atomic);
            Usage::add(&settings.total.fast_batches, open[1] - fast);
            self.counted_batches = open;
        }
    }

    /// The stream is gone: it uses nothing.
    pub(super) fn note_usage_gone(&self, settings: &Settings) {
        self.add_usage(settings, -self.counted_bytes);
        let [atomic, fast] = self.counted_batches;
        Usage::add(&settings.total.atomic_batches, -atomic);
        Usage::add(&settings.total.fast_batches, -fast);
    }

    fn add_usage(&self, settings: &Settings, change: i64) {
        let Some(account) = settings.account(self.stream.id.account) else { return };
        for usage in [&settings.total, &account.usage] {
            match self.stream.config().storage {
                Storage::File => Usage::add(&usage.file_bytes, change),
                Storage::Memory => Usage::add(&usage.memory_bytes, change),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_never_leave_the_store() {
        assert_eq!(stream_dir("$G", "ORDERS"), "$G/streams/ORDERS");
        let long = "x".repeat(255);
        for name in ["..", ".", "a/b", "a\\b", "", "a\0b", "é", long.as_str()] {
            let dir = dir_name(name);
            assert!(dir.starts_with('%') && dir.len() == 33, "{dir}");
        }
        assert_ne!(dir_name("a/b"), dir_name("b/a"));
    }
}
