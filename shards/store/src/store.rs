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

use crate::disk::{DiskError, DiskQueue};
use crate::file::{self, FileLog};
use crate::index::chunk::{HAS_EXPIRY, HAS_HEADERS, HAS_MSG_ID};
use crate::index::filters::FilterId;
use crate::index::subjects::{NAME_BYTES_MAX, SubjectState};
use crate::index::{Index, NewEntry, Overhead};
use crate::log::{self, Cache, Log, Record};
use crate::memory::MemoryLog;
use crate::message::{AppendError, Message, NewMessage, Read, Removed, State};
use crate::notes::Notes;
use crate::recover::{FILE_OVERHEAD, MARK_MSG_ID};

/// Subject, headers and payload of a message have at most this many bytes together.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Most that a record of a message takes beside subject, headers and payload.
const RECORD_OVERHEAD_BYTES: usize = log::OVERHEAD_BYTES + 56;

/// A place in the log: everything done before it was taken is safe once it is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// What could not be written never is durable.
    pub const NEVER: Self = Self(u64::MAX);
}

/// What became of operations of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The durable position rose: see [`Store::durable_seq`] and [`Store::is_durable`].
    pub is_more_durable: bool,
    /// Reads that were [`Read::Pending`] may be tried again.
    pub are_reads_ready: bool,
    /// Appends that were refused with [`AppendError::NoSpace`] may succeed again.
    pub has_space_again: bool,
    /// The store has been fenced just now, because of this: nothing is stored any more.
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

/// Where the bytes are.
#[derive(Debug)]
pub(crate) enum Backing {
    Memory(MemoryLog, Notes),
    File(Box<FileLog>),
}

/// The messages of a stream.
#[derive(Debug)]
pub struct Store {
    pub(crate) index: Index,
    pub(crate) backing: Backing,
}

impl Store {
    /// A stream that lives in memory.
    #[must_use]
    pub fn memory(options: MemoryOptions) -> Self {
        let overhead = Overhead { message: 16, headers: 0 };
        Self {
            index: Index::new(options.seed, overhead, options.first_seq),
            backing: Backing::Memory(MemoryLog::new(), Notes::default()),
        }
    }

    /// A new stream in files. Its directory must not hold another one. The first message gets
    /// the number `first_seq`; 0 is as good as 1.
    #[must_use]
    pub fn file(options: log::Options, first_seq: u64, disk: &mut DiskQueue) -> Self {
        let index = Index::new(options.uid, FILE_OVERHEAD, first_seq);
        let mut file = FileLog::new(Log::create(options, disk), index.last_seq());
        if index.last_seq() > 0 {
            // An empty log takes it: there is room, and nothing failed yet.
            let taken = file.append_skip(1, index.last_seq());
            debug_assert!(taken.is_ok());
        }
        Self { index, backing: Backing::File(Box::new(file)) }
    }

    pub(crate) fn from_file(index: Index, file: FileLog) -> Self {
        Self { index, backing: Backing::File(Box::new(file)) }
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
        self.append_part(seq, message, false)
    }

    /// Makes sure that a group of messages can be stored as a whole: to be called before the
    /// first of them, with the sum of their subjects, headers and payloads, and how many.
    pub fn reserve_group(&mut self, bytes: usize, count: usize) {
        if let Backing::File(file) = &mut self.backing {
            file.reserve(bytes + count * RECORD_OVERHEAD_BYTES);
        }
    }

    /// Stores a message of a group that is kept or lost as a whole by a crash. With `more`, the
    /// next append is the next of the group. Its sequence number.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was stored then.
    pub fn append_grouped(
        &mut self,
        message: &NewMessage<'_>,
        more: bool,
    ) -> Result<u64, AppendError> {
        let seq = self.index.last_seq().checked_add(1).ok_or(AppendError::Sequence)?;
        self.append_part(seq, message, more)?;
        Ok(seq)
    }

    fn append_part(
        &mut self,
        seq: u64,
        message: &NewMessage<'_>,
        more: bool,
    ) -> Result<(), AppendError> {
        let last = self.index.last_seq();
        if seq <= last || seq == u64::MAX {
            return Err(AppendError::Sequence);
        }
        if message.subject.len() > NAME_BYTES_MAX {
            return Err(AppendError::SubjectTooLong);
        }
        let size = message.subject.len() + message.headers.len() + message.payload.len();
        if size > MESSAGE_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let NewMessage { subject, headers, payload, ts_ns, expires_ns, has_msg_id } = *message;
        let location = match &mut self.backing {
            Backing::Memory(log, _) => log.append(seq, headers, payload),
            Backing::File(file) => {
                if seq > last + 1 {
                    file.append_skip(last + 1, seq - 1)?;
                    self.index.skip_to(seq - 1);
                }
                let marks = if has_msg_id { MARK_MSG_ID } else { 0 };
                file.append_message(log::Message {
                    seq,
                    ts_ns,
                    expires_ns,
                    subject,
                    headers,
                    payload,
                    marks,
                    more,
                })?
            }
        };
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        self.index.add(&NewEntry {
            seq,
            subject,
            location,
            ts_ns,
            size: size as u32,
            flags: flag(!headers.is_empty(), HAS_HEADERS)
                | flag(has_msg_id, HAS_MSG_ID)
                | flag(expires_ns.is_some(), HAS_EXPIRY),
            expires_ns,
        });
        Ok(())
    }

    /// Numbers up to `seq` will have no messages.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has changed then.
    pub fn skip_to(&mut self, seq: u64) -> Result<(), AppendError> {
        let last = self.index.last_seq();
        if seq <= last {
            return Ok(());
        }
        if let Backing::File(file) = &mut self.backing {
            file.append_skip(last + 1, seq)?;
        }
        self.index.skip_to(seq);
        Ok(())
    }

    /// Gives the next number to a message that is not kept. That it came at `ts_ns` is known until
    /// the server ends.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has changed then.
    pub fn skip_at(&mut self, seq: u64, ts_ns: i64) -> Result<(), AppendError> {
        self.skip_to(seq)?;
        self.index.set_last_ts(ts_ns);
        Ok(())
    }

    /// Removes a message. With `erase` that is written at once, and then its bytes are overwritten
    /// in memory and where they lie on disk.
    pub fn remove(&mut self, seq: u64, erase: bool) -> Option<Removed> {
        let mut is_written = false;
        if let (true, Backing::File(file)) = (erase, &mut self.backing) {
            let entry = self.index.seqs().entry(seq)?;
            is_written = file.append_erased(seq, entry.ts_ns, entry.location).is_ok();
        }
        self.take_out(seq, is_written)
    }

    fn take_out(&mut self, seq: u64, is_written: bool) -> Option<Removed> {
        let (entry, bytes) = self.index.remove(seq)?;
        match &mut self.backing {
            Backing::Memory(log, _) => log.free(entry.location, self.index.seqs_mut()),
            Backing::File(file) => {
                file.handle_removed(seq, entry.location, entry.size, is_written);
            }
        }
        Some(Removed { bytes })
    }

    /// Removes all messages up to `seq`; how many. The next message comes after `seq`.
    pub fn remove_up_to(&mut self, seq: u64) -> u64 {
        let _ = self.skip_to(seq);
        let is_all = seq >= self.index.last_seq();
        let mut is_written = false;
        match &mut self.backing {
            Backing::Memory(log, _) if is_all => {
                let count = self.index.seqs().len();
                log.clear();
                self.index.clear(seq);
                return count;
            }
            Backing::Memory(..) => {}
            Backing::File(file) => is_written = file.append_purge(seq.saturating_add(1)).is_ok(),
        }
        if is_all && is_written {
            let count = self.index.seqs().len();
            self.index.clear(seq);
            if let Backing::File(file) = &mut self.backing {
                file.handle_cleared();
            }
            return count;
        }
        let mut count = 0;
        while let Some(first) = self.index.seqs().next(0).filter(|&first| first <= seq) {
            self.take_out(first, is_written);
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
                None => {
                    let first_kept = seqs.len().checked_sub(keep).filter(|&gone| gone > 0);
                    first_kept.and_then(|gone| seqs.select(gone)).map(|first| first - 1)
                }
            };
            return to.map_or(0, |to| self.remove_up_to(to));
        };
        let to = below_seq.unwrap_or(u64::MAX).saturating_sub(1);
        let mut doomed = self.index.matching_seqs(pattern, to);
        doomed.truncate(doomed.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX)));
        let mut count = 0;
        for seq in doomed {
            count += u64::from(self.take_out(seq, false).is_some());
        }
        count
    }

    /// Whether damage took, or may have taken, the message of this number.
    #[must_use]
    pub fn is_lost(&self, seq: u64) -> bool {
        matches!(&self.backing, Backing::File(file) if file.is_lost(seq))
    }

    /// A message. Pending reads are queued on `disk`.
    pub fn get<'a>(&'a mut self, seq: u64, cache: &'a mut Cache, disk: &mut DiskQueue) -> Read<'a> {
        let file = match &mut self.backing {
            Backing::Memory(log, _) => {
                let Some(entry) = self.index.seqs().entry(seq) else { return Read::Missing };
                let Some((headers, payload)) = log.get(entry.location) else {
                    return Read::Damaged;
                };
                let subject = self.index.subjects().name(entry.subject);
                return Read::Message(Message {
                    seq,
                    ts_ns: entry.ts_ns,
                    subject,
                    headers,
                    payload,
                });
            }
            Backing::File(file) => file,
        };
        let Some(entry) = self.index.seqs().entry(seq) else {
            return if file.is_lost(seq) { Read::Damaged } else { Read::Missing };
        };
        match file.log.read(file::location(entry.location), cache, disk) {
            log::Read::Record(Record::Message(m)) if m.seq == seq => Read::Message(Message {
                seq,
                ts_ns: m.ts_ns,
                subject: m.subject,
                headers: m.headers,
                payload: m.payload,
            }),
            log::Read::Pending => Read::Pending,
            log::Read::Failed(_) => Read::Failed,
            _ => Read::Damaged,
        }
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

    /// The first message at or after `from` that was stored with [`NewMessage::has_msg_id`].
    #[must_use]
    pub fn next_with_msg_id(&self, from: u64) -> Option<u64> {
        self.index.next_flagged(HAS_MSG_ID, from)
    }
}
