//! What a stream knows of its messages without reading one: order, subjects, times, sizes,
//! filters and ends. Derived from the log, and rebuilt from it.
//!
//! ```text
//!  sequences: seq ─► location, time, size, subject id, distance to the subject's next message
//!  subjects:  name ─► id ─► count, first, last        filters: patterns ─► subject ids, seqs
//!  expiry:    moment ─► seqs
//! ```

mod bits;
pub(crate) mod chunk;
mod expiry;
pub(crate) mod filters;
pub(crate) mod image;
mod names;
mod queries;
pub(crate) mod sequences;
pub(crate) mod subjects;

use crate::message::State;
use chunk::{Entry, HAS_EXPIRY, HAS_HEADERS, NO_LINK};
use expiry::Expiry;
use filters::Filters;
use sequences::Sequences;
use subjects::Subjects;

/// How far back the newest message of a subject is sought before its chain is walked.
const LOOK_BACK: u64 = 1024;

/// What a message costs beside its subject, headers and payload in the figure `bytes`; as
/// nats-server counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overhead {
    pub(crate) message: u64,
    pub(crate) headers: u64,
}

/// A message to be entered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewEntry<'a> {
    pub(crate) seq: u64,
    pub(crate) subject: &'a [u8],
    pub(crate) location: u64,
    pub(crate) ts_ns: i64,
    pub(crate) size: u32,
    pub(crate) flags: u8,
    pub(crate) expires_ns: Option<i64>,
}

/// The index of a stream.
#[derive(Debug)]
pub(crate) struct Index {
    seqs: Sequences,
    subjects: Subjects,
    filters: Filters,
    expiry: Expiry,
    overhead: Overhead,
    first_seq: u64,
    last_seq: u64,
    last_ts_ns: Option<i64>,
    bytes: u64,
    expiring: usize,
}

impl Index {
    pub(crate) fn new(seed: u64, overhead: Overhead, first_seq: u64) -> Self {
        Self {
            seqs: Sequences::default(),
            subjects: Subjects::new(seed),
            filters: Filters::default(),
            expiry: Expiry::default(),
            overhead,
            first_seq,
            last_seq: first_seq.saturating_sub(1),
            last_ts_ns: None,
            bytes: 0,
            expiring: 0,
        }
    }

    pub(crate) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    fn cost(&self, entry: &Entry) -> u64 {
        let headers = if entry.flags & HAS_HEADERS != 0 { self.overhead.headers } else { 0 };
        u64::from(entry.size) + self.overhead.message + headers
    }

    /// What a message with parts of these lengths would cost.
    pub(crate) const fn cost_of_parts(
        &self,
        subject: usize,
        headers: usize,
        payload: usize,
    ) -> u64 {
        let more = if headers > 0 { self.overhead.headers } else { 0 };
        (subject + headers + payload) as u64 + self.overhead.message + more
    }

    /// Enters a message behind all others. The caller has checked that `seq` is above the last
    /// and that the name is not too long.
    pub(crate) fn add(&mut self, new: &NewEntry<'_>) {
        let (subject, before) = self.subjects.add(new.subject, new.seq);
        let entry = Entry {
            location: new.location,
            ts_ns: new.ts_ns,
            subject,
            size: new.size,
            flags: new.flags,
            link: NO_LINK,
        };
        if self.seqs.len() == 0 {
            self.first_seq = new.seq;
        }
        self.seqs.push(new.seq, entry, self.subjects.len() as u64);
        match before {
            Some(before) => self.seqs.set_link(before, new.seq),
            None => self.filters.subject_added(subject, new.subject),
        }
        self.filters.message_added(subject, new.seq);
        if let Some(expires_ns) = new.expires_ns {
            self.expiry.insert(expires_ns, new.seq);
            self.expiring += 1;
        }
        self.last_seq = new.seq;
        self.last_ts_ns = Some(new.ts_ns);
        self.bytes += self.cost(&entry);
    }

    /// Sequence numbers up to `seq` will have no messages.
    pub(crate) fn skip_to(&mut self, seq: u64) {
        if seq <= self.last_seq {
            return;
        }
        self.last_seq = seq;
        if self.seqs.len() == 0 {
            self.first_seq = seq.saturating_add(1);
        }
    }

    /// When the last message was stored, which is gone.
    pub(crate) const fn set_last_ts(&mut self, ts_ns: i64) {
        self.last_ts_ns = Some(ts_ns);
    }

    /// A message lies elsewhere from now on.
    pub(crate) fn set_location(&mut self, seq: u64, location: u64) {
        self.seqs.relocate(seq, seq, |_, _| location);
    }

    /// Everything up to `seq` was purged: an empty stream says so.
    pub(crate) fn purged_to(&mut self, seq: u64) {
        self.skip_to(seq);
        if self.seqs.len() == 0 {
            self.first_seq = self.last_seq.saturating_add(1);
        }
    }

    /// Takes a message out: its entry and its cost in `bytes`.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<(Entry, u64)> {
        let entry = self.seqs.entry(seq)?;
        let cost = self.cost(&entry);
        self.bytes = self.bytes.saturating_sub(cost);
        if entry.flags & HAS_EXPIRY != 0 {
            self.expiring = self.expiring.saturating_sub(1);
            self.sweep_expiry();
        }
        self.filters.message_gone(entry.subject, seq);
        self.unlink(entry.subject, seq);
        if self.subjects.take(entry.subject) == 0 {
            self.filters.subject_gone(entry.subject);
        }
        if seq == self.first_seq {
            let next = self.seqs.next(seq);
            self.first_seq = next.unwrap_or_else(|| self.last_seq.saturating_add(1));
        }
        Some((entry, cost))
    }

    fn unlink(&mut self, subject: u32, seq: u64) {
        let Some(state) = self.subjects.state(subject) else { return };
        if state.count == 1 {
            self.seqs.kill(seq, false);
        } else if seq == state.first {
            let first = self.follow(seq, state.last);
            self.seqs.kill(seq, false);
            self.subjects.set_first(subject, first);
        } else if seq == state.last {
            let last = self.before(subject, seq, state.first);
            self.follow(last, seq);
            self.seqs.cut_link(last);
            self.seqs.kill(seq, false);
            self.subjects.set_last(subject, last);
        } else {
            self.seqs.kill(seq, true);
        }
    }

    /// The message that follows in the chain of a subject; holes between the two are closed.
    fn follow(&mut self, seq: u64, last: u64) -> u64 {
        let mut next = self.seqs.link(seq).unwrap_or(last);
        while next < last && !self.seqs.contains(next) {
            let after = self.seqs.link(next).unwrap_or(last);
            self.seqs.close_hole(next);
            next = after;
        }
        next
    }

    /// The message of a subject before `seq`.
    fn before(&self, subject: u32, seq: u64, first: u64) -> u64 {
        let mut at = seq;
        for _ in 0..LOOK_BACK {
            let Some(here) = at.checked_sub(1).and_then(|to| self.seqs.previous(to)) else { break };
            if here <= first {
                return first;
            }
            if self.seqs.subject(here) == Some(subject) {
                return here;
            }
            at = here;
        }
        let (mut found, mut at) = (first, first);
        while let Some(next) = self.seqs.link(at).filter(|&next| next < seq) {
            if self.seqs.contains(next) {
                found = next;
            }
            at = next;
        }
        found
    }

    /// Takes everything out. The next message comes after `last_seq`.
    pub(crate) fn clear(&mut self, last_seq: u64) {
        self.seqs = Sequences::default();
        self.subjects.clear();
        self.filters.clear();
        self.expiry.clear();
        self.expiring = 0;
        self.bytes = 0;
        self.last_seq = self.last_seq.max(last_seq);
        self.first_seq = self.last_seq.saturating_add(1);
    }

    fn sweep_expiry(&mut self) {
        if self.expiry.len() > 2 * self.expiring + 1024 {
            let seqs = &self.seqs;
            self.expiry.retain(|seq| seqs.contains(seq));
        }
    }

    /// When the next message ends, ns since 1970; sometimes earlier, never later.
    pub(crate) fn next_expiry_ns(&self) -> Option<i64> {
        if self.expiring == 0 { None } else { self.expiry.next_ns() }
    }

    /// Messages that have ended by now and are still there.
    pub(crate) fn take_expired(&mut self, now_ns: i64, due: &mut Vec<u64>) {
        let from = due.len();
        self.expiry.take_due(now_ns, due);
        let mut kept = from;
        for at in from..due.len() {
            let Some(&seq) = due.get(at) else { break };
            if self.seqs.contains(seq) {
                due.swap(kept, at);
                kept += 1;
            }
        }
        due.truncate(kept);
        if let Some(due) = due.get_mut(from..) {
            due.sort_unstable();
        }
    }

    pub(crate) fn state(&self) -> State {
        let messages = self.seqs.len();
        let span = (self.last_seq + 1).saturating_sub(self.first_seq);
        State {
            messages,
            bytes: self.bytes,
            first_seq: self.first_seq,
            first_ts_ns: if messages == 0 { None } else { self.seqs.time(self.first_seq) },
            last_seq: self.last_seq,
            last_ts_ns: self.last_ts_ns,
            subjects: self.subjects.len() as u64,
            deleted: if messages == 0 { 0 } else { span - messages },
        }
    }

    pub(crate) const fn seqs(&self) -> &Sequences {
        &self.seqs
    }

    pub(crate) const fn seqs_mut(&mut self) -> &mut Sequences {
        &mut self.seqs
    }

    pub(crate) const fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    pub(crate) const fn filters(&self) -> &Filters {
        &self.filters
    }

    /// The name of a message's subject.
    pub(crate) fn subject_of(&self, seq: u64) -> Option<&[u8]> {
        Some(self.subjects.name(self.seqs.subject(seq)?))
    }

    /// What a message costs in the figure `bytes`.
    pub(crate) fn cost_of(&self, seq: u64) -> Option<u64> {
        Some(self.cost(&self.seqs.entry(seq)?))
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.seqs.heap_bytes() + self.subjects.heap_bytes() + self.expiry.heap_bytes()
    }
}
