//! The scrub of one sealed segment: it is read from one end to the other, slowly and past the
//! cache, and everything in it is verified. Nothing is changed, whatever is found.
//!
//! ```text
//!  scrub(number) ─► a piece is read ─► Walk: checksums, contents ─► wait ─► the next piece ...
//!                                                        └─► Scrubbed, at the End record
//! ```
//!
//! A segment that goes or is written anew ends its scrub. Blocks that an erasure overwrites while
//! they are read are read again.

use super::Log;
use super::files::{Job, push};
use super::header::{DATA_START, Header, Identity};
use super::pack;
use super::record::RawRecord;
use super::segment::FileState;
use super::walk::{Step, Walk};
use crate::disk::{BLOCK_BYTES, DiskData, DiskError, DiskOp, DiskQueue};

const BLOCK: u32 = BLOCK_BYTES as u32;
/// Read at once.
pub(crate) const PIECE_BYTES: u32 = 256 << 10;
/// How long an erasure in the segment is waited for, ns.
const ERASE_WAIT_NS: u64 = 1_000_000_000;
/// Damaged places of one segment that are told apart; what comes later widens the last.
const PLACES_MAX: usize = 1024;

/// What the scrubs of a shard did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubFigures {
    /// Bytes that were read and looked at.
    pub bytes: u64,
    /// Segments that were gone through as a whole.
    pub segments: u64,
    /// Times that a stream's scrub has come round.
    pub passes: u64,
    /// Damaged places that were found, each counted once.
    pub damaged: u64,
}

/// What came of the scrub of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scrubbed {
    pub(crate) segment: u32,
    pub(crate) incarnation: u32,
    /// Bytes that were looked at.
    pub(crate) bytes: u64,
    /// It was gone through up to its end; otherwise it went, was written anew, or see `error`.
    pub(crate) is_whole: bool,
    /// One copy of its header, or both.
    pub(crate) is_header_damaged: bool,
    /// Damaged bytes: from, to; ascending.
    pub(crate) places: Vec<(u32, u32)>,
    /// Blocks that the disk did not give.
    pub(crate) unreadable_blocks: u64,
    /// The last reason why.
    pub(crate) error: Option<DiskError>,
    /// What was read is within the rate from then on, monotonic ns.
    pub(crate) paid_ns: u64,
}

/// A scrub under way.
#[derive(Debug)]
pub(super) struct Scrub {
    identity: Identity,
    walk: Walk,
    bytes_per_second: u64,
    /// The next piece is not read before, monotonic ns.
    next_ns: u64,
    is_reading: bool,
    /// What is at hand, or under way, may have been overwritten since.
    is_stale: bool,
    /// Less than usual where the disk fails.
    piece_bytes: u32,
    has_header: bool,
    /// The file was opened for this; what the segment's `used_at` was then.
    opened_at: Option<u64>,
    found: Scrubbed,
}

/// A read of a scrub.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScrubRead {
    pub(super) segment: u32,
    offset: u32,
    len: u32,
}

impl Log {
    /// Begins to go through a segment at no more than `bytes_per_second`, from `from_ns` on,
    /// monotonic. False when that cannot be done now. [`Self::take_scrubbed`] says when it has
    /// come to an end.
    pub(crate) fn scrub(&mut self, number: u32, bytes_per_second: u64, from_ns: u64) -> bool {
        if self.scrub.is_some() || !self.is_cold(number) {
            return false;
        }
        let Some(segment) = self.segment(number) else { return false };
        let identity = segment.identity;
        self.scrub = Some(Box::new(Scrub {
            identity,
            walk: Walk::new(segment.binding, segment.file_len),
            bytes_per_second: bytes_per_second.max(u64::from(PIECE_BYTES)),
            next_ns: from_ns,
            is_reading: false,
            is_stale: false,
            piece_bytes: PIECE_BYTES,
            has_header: false,
            opened_at: None,
            found: Scrubbed {
                segment: number,
                incarnation: identity.incarnation,
                ..Scrubbed::default()
            },
        }));
        true
    }

    /// True when nothing is written to a segment any more, and nothing takes its place.
    pub(crate) fn is_cold(&self, number: u32) -> bool {
        self.segment(number).is_some_and(|segment| segment.sealed)
            && number < self.durable().segment
            && !self.is_going(number)
            && self.compacting() != Some(number)
    }

    /// True when there is such a segment, and it is not on its way out.
    pub(crate) fn is_present(&self, number: u32) -> bool {
        self.segment(number).is_some() && !self.is_going(number)
    }

    /// True while a segment is gone through.
    pub(crate) const fn is_scrubbing(&self) -> bool {
        self.scrub.is_some()
    }

    /// When the scrub goes on by itself, monotonic ns.
    pub(crate) fn scrub_deadline(&self) -> Option<u64> {
        self.scrub.as_ref().filter(|scrub| !scrub.is_reading).map(|scrub| scrub.next_ns)
    }

    /// About how long the scrub takes at most from now on, ns.
    pub(crate) fn scrub_left_ns(&self) -> u64 {
        let Some(scrub) = &self.scrub else { return 0 };
        let file_len = self.segment(scrub.identity.segment).map_or(0, |segment| segment.file_len);
        time_for(file_len.saturating_sub(scrub.walk.wants()), scrub.bytes_per_second)
    }

    /// What came of a scrub that has ended since the last call.
    pub(crate) const fn take_scrubbed(&mut self) -> Option<Scrubbed> {
        self.scrubbed.take()
    }

    /// A sealed segment in which something else met damage since the last call.
    pub(crate) fn take_met_damage(&mut self) -> Option<u32> {
        self.met_damage.pop()
    }

    /// True when [`Self::take_met_damage`] has something.
    pub(crate) const fn has_met_damage(&self) -> bool {
        !self.met_damage.is_empty()
    }

    /// Somebody met damage in a sealed segment: it is to be gone through as a whole, once.
    pub(super) fn meet_damage(&mut self, number: u32) {
        let is_sealed = self.segment(number).is_some_and(|segment| segment.sealed);
        if is_sealed && !self.damaged_segments.contains(&number) {
            self.damaged_segments.push(number);
            self.met_damage.push(number);
        }
    }

    /// Bytes of a segment are going to be overwritten.
    pub(super) fn unsettle_scrub(&mut self, number: u32) {
        if let Some(scrub) = &mut self.scrub {
            scrub.is_stale |= scrub.identity.segment == number;
        }
    }

    /// Reads on, when it is time.
    pub(crate) fn drive_scrub(&mut self, now_ns: u64, queue: &mut DiskQueue) {
        let Some(scrub) = &mut self.scrub else { return };
        if scrub.is_reading {
            return;
        }
        if std::mem::take(&mut scrub.is_stale) {
            scrub.walk.forget();
        }
        let (identity, next_ns) = (scrub.identity, scrub.next_ns);
        let number = identity.segment;
        let is_same = self.segment(number).is_some_and(|segment| segment.identity == identity);
        if !is_same || !self.is_cold(number) {
            return self.end_scrub(false, queue);
        }
        if now_ns < next_ns {
            return;
        }
        if self.has_erasing_in(number) {
            if let Some(scrub) = &mut self.scrub {
                scrub.next_ns = now_ns + ERASE_WAIT_NS;
            }
            return;
        }
        if let Some((_, error)) = self.reads.open_failed.take_if(|(failed, _)| *failed == number) {
            return self.give_up_scrub(error, queue);
        }
        self.read_scrub_piece(number, now_ns, queue);
    }

    fn read_scrub_piece(&mut self, number: u32, now_ns: u64, queue: &mut DiskQueue) {
        let was_closed = self.segment(number).filter(|of| of.state == FileState::Closed);
        if let (Some(used_at), Some(scrub)) = (was_closed.map(|of| of.used_at), &mut self.scrub) {
            scrub.opened_at = Some(used_at);
        }
        let file = self.file_for_reading(number, queue);
        let file_len = self.segment(number).map_or(0, |segment| segment.file_len);
        let (Some(file), Some(scrub)) = (file, &mut self.scrub) else { return };
        let from = if scrub.has_header { scrub.walk.wants() } else { 0 };
        let offset = from - from % BLOCK;
        let len = scrub.piece_bytes.min(file_len.saturating_sub(offset));
        scrub.is_reading = true;
        scrub.next_ns = now_ns + time_for(len, scrub.bytes_per_second);
        if let Some(segment) = self.segment_mut(number) {
            segment.reads += 1;
        }
        let op = DiskOp::Read { file, offset: u64::from(offset), len: len as usize };
        push(self, queue, op, Job::Scrub(ScrubRead { segment: number, offset, len }));
    }

    /// A piece has come.
    pub(super) fn handle_scrub_read(
        &mut self,
        read: ScrubRead,
        result: Result<DiskData, DiskError>,
        queue: &mut DiskQueue,
    ) {
        if let Some(segment) = self.segment_mut(read.segment) {
            segment.reads = segment.reads.saturating_sub(1);
        }
        let Some(mut scrub) = self.scrub.take() else { return };
        scrub.is_reading = false;
        if scrub.is_stale {
            // It is read again when what overwrites it has come to its end.
            self.scrub = Some(scrub);
            return;
        }
        match result {
            Ok(DiskData::Bytes(bytes)) => {
                scrub.piece_bytes = (scrub.piece_bytes * 2).min(PIECE_BYTES);
                scrub.take(read, bytes.as_slice());
            }
            Err(error) if read.len > BLOCK => {
                // The blocks that do come are found by smaller reads.
                scrub.found.error = Some(error);
                scrub.piece_bytes = (read.len / 8).next_multiple_of(BLOCK);
                self.scrub = Some(scrub);
                return;
            }
            Ok(DiskData::None) => scrub.take(read, &[]),
            Err(error) => {
                scrub.found.error = Some(error);
                scrub.take(read, &[]);
            }
        }
        let is_at_end = self.walk_on(&mut scrub);
        self.scrub = Some(scrub);
        if is_at_end {
            self.end_scrub(true, queue);
        }
    }

    /// Verifies what is at hand. True at the end of the segment.
    fn walk_on(&mut self, scrub: &mut Scrub) -> bool {
        let key = self.segment(scrub.identity.segment).and_then(|segment| segment.key.clone());
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut check = |offset: u32, raw: &RawRecord<'_>| {
            pack::decode(raw, offset, key.as_deref(), &mut scratch).is_ok()
        };
        let is_at_end = loop {
            match scrub.walk.step(&mut check) {
                Step::More => break false,
                Step::End => break true,
                Step::Damage(from, to) => add_place(&mut scrub.found.places, from, to),
            }
        };
        self.scratch = scratch;
        is_at_end
    }

    /// The segment's file cannot be opened.
    fn give_up_scrub(&mut self, error: DiskError, queue: &mut DiskQueue) {
        let Some(scrub) = &mut self.scrub else { return };
        let number = scrub.identity.segment;
        scrub.found.error = Some(error);
        let is_gone = error == DiskError::NotFound;
        let file_len = self.segment(number).map_or(DATA_START, |segment| segment.file_len);
        if let (true, Some(scrub)) = (is_gone, &mut self.scrub) {
            scrub.found.is_header_damaged = true;
            scrub.found.places = vec![(DATA_START, file_len)];
        }
        self.end_scrub(is_gone, queue);
    }

    fn end_scrub(&mut self, is_whole: bool, queue: &mut DiskQueue) {
        let Some(scrub) = self.scrub.take() else { return };
        let number = scrub.identity.segment;
        let mut found = scrub.found;
        (found.is_whole, found.paid_ns) = (is_whole, scrub.next_ns);
        if is_whole {
            let is_damaged = !found.places.is_empty();
            self.damaged_segments.retain(|segment| *segment != number || is_damaged);
            if is_damaged && !self.damaged_segments.contains(&number) {
                self.damaged_segments.push(number);
            }
        }
        self.scrubbed = Some(found);
        let is_busy = self.is_busy(number);
        let Some(segment) = self.segment_mut(number) else { return };
        let is_unused = scrub.opened_at == Some(segment.used_at) && !is_busy;
        if let (true, true, FileState::Open(file)) =
            (is_unused, segment.identity == scrub.identity, segment.state)
        {
            segment.state = FileState::Closed;
            push(self, queue, DiskOp::Close { file }, Job::Other);
        }
    }
}

impl Scrub {
    /// Takes what came of a read; what is missing of it the disk did not give.
    fn take(&mut self, read: ScrubRead, bytes: &[u8]) {
        let len = read.len as usize;
        let bytes = bytes.get(..len).unwrap_or(bytes);
        self.found.bytes += bytes.len() as u64;
        let missing = len - bytes.len();
        self.found.unreadable_blocks += missing.div_ceil(BLOCK_BYTES) as u64;
        if missing > 0 && self.found.error.is_none() {
            // The file ends where it should not.
            self.found.error = Some(DiskError::NotFound);
        }
        if !self.has_header {
            let block = bytes.get(..BLOCK_BYTES).unwrap_or_default();
            let is_its = Header::decode(block).is_some_and(|of| of.identity == self.identity);
            self.found.is_header_damaged = !is_its || !Header::is_whole(block);
            self.has_header = true;
        }
        if read.offset + read.len > self.walk.wants() {
            self.walk.feed(read.offset, bytes);
            // Zeroes are never a record.
            self.walk.feed_zeroes(read.offset + read.len);
        }
    }
}

fn add_place(places: &mut Vec<(u32, u32)>, from: u32, to: u32) {
    let is_full = places.len() >= PLACES_MAX;
    match places.last_mut() {
        Some(last) if is_full => last.1 = to,
        _ => places.push((from, to)),
    }
}

/// How long so many bytes take, ns.
fn time_for(bytes: u32, bytes_per_second: u64) -> u64 {
    u64::from(bytes) * 1_000_000_000 / bytes_per_second.max(1)
}

/// Whose turn it is to scrub on a shard, and what was done: one segment at a time, so that the
/// rate holds for all streams of the shard together.
#[derive(Debug, Default)]
pub(crate) struct ScrubTurn {
    holder: Option<u64>,
    /// When the holder is done, about, monotonic ns.
    until_ns: u64,
    /// What was read is within the rate from then on, monotonic ns.
    paid_ns: u64,
    /// Another log was refused since the holder took the turn.
    is_wanted: bool,
    /// The log that had the turn last and lets others go first.
    last: Option<u64>,
    pub(crate) figures: ScrubFigures,
}

impl ScrubTurn {
    /// Gives a log the turn: when it may read, monotonic ns.
    ///
    /// # Errors
    /// Another log has it or goes first: when to try again, in `wait_ns` at the earliest.
    pub(crate) fn claim(&mut self, uid: u64, now_ns: u64, wait_ns: u64) -> Result<u64, u64> {
        let has_other = self.holder.is_some_and(|holder| holder != uid);
        if has_other || self.last.take_if(|last| *last == uid).is_some() {
            self.is_wanted |= has_other;
            return Err(self.until_ns.max(now_ns + wait_ns));
        }
        self.holder = Some(uid);
        self.is_wanted = false;
        self.until_ns = now_ns;
        Ok(now_ns.max(self.paid_ns))
    }

    /// Says when the holder will be done, about.
    pub(crate) const fn expect(&mut self, until_ns: u64) {
        self.until_ns = until_ns;
    }

    /// Ends what [`Self::claim`] began; what was read is paid for at `paid_ns`.
    pub(crate) fn release(&mut self, uid: u64, paid_ns: u64) {
        if self.holder.take_if(|holder| *holder == uid).is_some() {
            self.paid_ns = self.paid_ns.max(paid_ns);
            self.last = self.is_wanted.then_some(uid);
        }
    }
}
