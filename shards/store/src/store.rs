//! One stream's messages, in order, and everything that is asked about them.
//!
//! ```text
//!  append, remove, purge ─► index (in memory) ─┬─► bytes in memory
//!  get, next, pending    ◄─                    └─► records in the log ─► commit ─► disk
//! ```
//!
//! A store has one owner, which passes time in. What a store in memory does at once, a store in
//! files does at once too, as far as anybody can ask; but an append, removal or note is safe only
//! when [`Store::is_durable`] says so of the [`Position`] after it.

use crate::cache::Cache;
use crate::disk::{DiskDone, DiskError, DiskQueue};
use crate::index::chunk::{HAS_EXPIRY, HAS_HEADERS, HAS_MSG_ID};
use crate::index::filters::FilterId;
use crate::index::subjects::{NAME_BYTES_MAX, SubjectState};
use crate::index::{Index, NewEntry, Overhead};
use crate::memory::MemoryLog;
use crate::message::{AppendError, Message, NewMessage, Read, Removed, State};
use crate::notes::{Note, Notes};

/// Subject, headers and payload of a message have at most this many bytes together.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// A place in the log: everything done before it was taken is safe once it is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What became of operations of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The durable position rose: see [`Store::durable_seq`] and [`Store::is_durable`].
    pub is_more_durable: bool,
    /// Reads that were [`Read::Pending`] may be tried again.
    pub are_reads_ready: bool,
    /// Something failed.
    pub failed: Option<DiskError>,
}

/// How a stream in memory begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryOptions {
    /// A random number, from which tables hash.
    pub seed: u64,
    /// The first message gets this number; 0 and 1 are the same but for what an empty stream says.
    pub first_seq: u64,
}

#[derive(Debug)]
struct Memory {
    log: MemoryLog,
    notes: Notes,
}

/// The messages of a stream.
#[derive(Debug)]
pub struct Store {
    index: Index,
    memory: Memory,
    last_position: u64,
}

impl Store {
    /// A stream that lives in memory.
    #[must_use]
    pub fn memory(options: MemoryOptions) -> Self {
        let overhead = Overhead { message: 16, headers: 0 };
        Self {
            index: Index::new(options.seed, overhead, options.first_seq),
            memory: Memory { log: MemoryLog::new(), notes: Notes::default() },
            last_position: 0,
        }
    }

    /// Stores a message behind all others; its sequence number.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was stored then.
    pub fn append(&mut self, message: &NewMessage<'_>) -> Result<u64, AppendError> {
        let seq = self.index.last_seq().checked_add(1).ok_or(AppendError::Sequence)?;
        self.append_at(seq, message)?;
        Ok(seq)
    }

    /// Stores a message under a number above the last; numbers between have no messages.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was stored then.
    pub fn append_at(&mut self, seq: u64, message: &NewMessage<'_>) -> Result<(), AppendError> {
        if seq <= self.index.last_seq() || seq == u64::MAX {
            return Err(AppendError::Sequence);
        }
        if message.subject.len() > NAME_BYTES_MAX {
            return Err(AppendError::SubjectTooLong);
        }
        let size = message.subject.len() + message.headers.len() + message.payload.len();
        if size > MESSAGE_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let location = self.memory.log.append(seq, message.headers, message.payload);
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        self.last_position += 1;
        self.index.add(&NewEntry {
            seq,
            subject: message.subject,
            location,
            ts_ns: message.ts_ns,
            size: size as u32,
            flags: flag(!message.headers.is_empty(), HAS_HEADERS)
                | flag(message.has_msg_id, HAS_MSG_ID)
                | flag(message.expires_ns.is_some(), HAS_EXPIRY),
            expires_ns: message.expires_ns,
        });
        Ok(())
    }

    /// Numbers up to `seq` will have no messages.
    pub fn skip_to(&mut self, seq: u64) {
        self.index.skip_to(seq);
    }

    /// Removes a message. With `erase` its bytes are overwritten.
    pub fn remove(&mut self, seq: u64, erase: bool) -> Option<Removed> {
        let _ = erase;
        self.take_out(seq)
    }

    fn take_out(&mut self, seq: u64) -> Option<Removed> {
        let (entry, bytes) = self.index.remove(seq)?;
        self.memory.log.free(entry.location, self.index.seqs_mut());
        Some(Removed { bytes })
    }

    /// Removes all messages up to `seq`; how many. The next message comes after `seq`.
    pub fn remove_up_to(&mut self, seq: u64) -> u64 {
        let mut count = 0;
        if seq >= self.index.last_seq() {
            count = self.index.seqs().len();
            self.memory.log.clear();
            self.index.clear(seq);
            return count;
        }
        while let Some(first) = self.index.seqs().next(0).filter(|&first| first <= seq) {
            self.take_out(first);
            count += 1;
        }
        count
    }

    /// Removes the messages whose subject matches `filter` (or all), below `below_seq` (or all),
    /// but not the newest `keep` of them; how many.
    pub fn purge(&mut self, filter: Option<&[u8]>, below_seq: Option<u64>, keep: u64) -> u64 {
        let filter = filter.filter(|&f| f != b">" && !f.is_empty());
        let Some(pattern) = filter else {
            let seqs = self.index.seqs();
            let to = match below_seq {
                Some(below) => below.checked_sub(1),
                None if keep == 0 => Some(self.index.last_seq()),
                None if keep >= seqs.len() => None,
                None => self.index.last_seq().checked_sub(keep),
            };
            return to.map_or(0, |to| self.remove_up_to(to));
        };
        let to = below_seq.unwrap_or(u64::MAX).saturating_sub(1);
        let mut doomed = self.index.matching_seqs(pattern, to);
        doomed.truncate(doomed.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX)));
        let mut count = 0;
        for seq in doomed {
            count += u64::from(self.take_out(seq).is_some());
        }
        count
    }

    /// A message. Pending reads are queued on `disk`.
    pub fn get<'a>(&'a mut self, seq: u64, cache: &'a mut Cache, disk: &mut DiskQueue) -> Read<'a> {
        let _ = (cache, disk);
        let Some(entry) = self.index.seqs().entry(seq) else { return Read::Missing };
        let Some((headers, payload)) = self.memory.log.get(entry.location) else {
            return Read::Damaged;
        };
        let subject = self.index.subjects().name(entry.subject);
        Read::Message(Message { seq, ts_ns: entry.ts_ns, subject, headers, payload })
    }

    /// Figures.
    #[must_use]
    pub fn state(&self) -> State {
        self.index.state()
    }

    /// The number given last.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.index.last_seq()
    }

    /// Whether there is such a message.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        self.index.seqs().contains(seq)
    }

    /// Ranges of numbers, both ends included, between first and last without message.
    pub fn deleted(&self) -> impl Iterator<Item = (u64, u64)> {
        self.index.gaps()
    }

    /// The newest message of a subject.
    #[must_use]
    pub fn last_for(&self, subject: &[u8]) -> Option<u64> {
        self.index.subject(subject).map(|s| s.last)
    }

    /// The oldest message of a subject.
    #[must_use]
    pub fn first_for(&self, subject: &[u8]) -> Option<u64> {
        self.index.subject(subject).map(|s| s.first)
    }

    /// How many messages a subject has.
    #[must_use]
    pub fn count_for(&self, subject: &[u8]) -> u64 {
        self.index.subject(subject).map_or(0, |s| s.count)
    }

    /// Subjects that match a pattern, with their facts, in no order.
    pub fn subjects<'a>(
        &'a self,
        pattern: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], SubjectState)> + use<'a> {
        self.index.matching_subjects(pattern)
    }

    /// Registers a filter: messages whose subject matches one of the patterns. Without patterns,
    /// all. Equal filters cost once.
    pub fn add_filter(&mut self, patterns: &[&[u8]]) -> FilterId {
        self.index.add_filter(patterns)
    }

    /// Ends what [`Self::add_filter`] began.
    pub fn remove_filter(&mut self, filter: FilterId) {
        self.index.remove_filter(filter);
    }

    /// Whether the filter matches a subject.
    #[must_use]
    pub fn matches(&self, filter: FilterId, subject: &[u8]) -> bool {
        self.index.filters().matches(filter, subject)
    }

    /// The first message at or after `from` that the filter matches.
    pub fn next(&mut self, filter: FilterId, from: u64) -> Option<u64> {
        self.index.next(filter, from)
    }

    /// The last message at or before `to` that the filter matches.
    pub fn previous(&mut self, filter: FilterId, to: u64) -> Option<u64> {
        self.index.previous(filter, to)
    }

    /// How many messages at or after `from` the filter matches.
    pub fn pending(&mut self, filter: FilterId, from: u64) -> u64 {
        self.index.pending(filter, from)
    }

    /// The first message at or after `from` whose subject matches a pattern.
    #[must_use]
    pub fn next_matching(&self, pattern: &[u8], from: u64) -> Option<u64> {
        self.index.next_matching(pattern, from)
    }

    /// The last message at or before `to` whose subject matches a pattern.
    #[must_use]
    pub fn last_matching(&self, pattern: &[u8], to: u64) -> Option<u64> {
        self.index.last_matching(pattern, to)
    }

    /// The newest message at or before `to` of every subject that matches one of the patterns
    /// (all without patterns), ascending.
    #[must_use]
    pub fn last_per_subject(&self, patterns: &[&[u8]], to: u64) -> Vec<u64> {
        self.index.last_per_subject(patterns, to)
    }

    /// The first message stored at or after a time, ns since 1970; the next number if none was.
    #[must_use]
    pub fn seq_at_time(&self, ts_ns: i64) -> u64 {
        let next = self.index.last_seq().saturating_add(1);
        self.index.seqs().at_time(ts_ns).unwrap_or(next)
    }

    /// The subject of a message.
    #[must_use]
    pub fn subject_of(&self, seq: u64) -> Option<&[u8]> {
        self.index.subject_of(seq)
    }

    /// What a message adds to [`State::bytes`].
    #[must_use]
    pub fn size_of(&self, seq: u64) -> Option<u64> {
        self.index.cost_of(seq)
    }

    /// When a message was stored, ns since 1970.
    #[must_use]
    pub fn time_of(&self, seq: u64) -> Option<i64> {
        self.index.seqs().time(seq)
    }

    /// What a message with these parts would add to [`State::bytes`].
    #[must_use]
    pub const fn cost(&self, subject: usize, headers: usize, payload: usize) -> u64 {
        self.index.cost_of_parts(subject, headers, payload)
    }

    /// When to ask [`Self::take_expired`] next, ns since 1970.
    #[must_use]
    pub fn next_expiry_ns(&self) -> Option<i64> {
        self.index.next_expiry_ns()
    }

    /// Messages that have ended by themselves, each given once and still there: the owner
    /// removes them. They are added to `due`, ascending.
    pub fn take_expired(&mut self, now_unix_ns: i64, due: &mut Vec<u64>) {
        self.index.take_expired(now_unix_ns, due);
    }

    /// Keeps a small fact under a key, instead of what was there.
    pub fn put_note(&mut self, key: &[u8], bytes: &[u8]) -> Position {
        self.memory.notes.put(key, bytes);
        self.position()
    }

    /// Adds a change to a fact.
    pub fn add_delta(&mut self, key: &[u8], bytes: &[u8]) -> Position {
        self.memory.notes.add_delta(key, bytes);
        self.position()
    }

    /// Forgets a fact.
    pub fn remove_note(&mut self, key: &[u8]) -> Position {
        self.memory.notes.remove(key);
        self.position()
    }

    /// A fact, of a stream in memory.
    #[must_use]
    pub fn note(&self, key: &[u8]) -> Option<&Note> {
        self.memory.notes.get(key)
    }

    /// The place behind everything done so far.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position(self.last_position)
    }

    /// Whether everything done before `position` was taken is safe.
    #[must_use]
    pub const fn is_durable(&self, position: Position) -> bool {
        position.0 <= self.last_position
    }

    /// Messages up to this number are safe.
    #[must_use]
    pub const fn durable_seq(&self) -> u64 {
        self.index.last_seq()
    }

    /// Begins to make safe what was done since; whether anything was begun.
    pub fn commit(&mut self, disk: &mut DiskQueue) -> bool {
        let _ = disk;
        false
    }

    /// An operation of this store has ended.
    pub fn handle_disk_done(
        &mut self,
        done: DiskDone,
        disk: &mut DiskQueue,
        cache: &mut Cache,
    ) -> Progress {
        let _ = (done, disk, cache);
        Progress::default()
    }

    /// When to call [`Self::handle_timers`], monotonic ns.
    #[must_use]
    pub const fn next_deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Does what is due.
    pub fn handle_timers(&mut self, mono_ns: u64, disk: &mut DiskQueue) {
        let _ = (mono_ns, disk);
    }

    /// Bytes of memory that the index takes.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.index.heap_bytes()
    }

    /// Bytes of memory that the store takes, messages of streams in memory included.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.index.heap_bytes() + self.memory.log.heap_bytes()
    }
}
