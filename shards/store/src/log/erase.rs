//! Secure erase: the bytes of a message are overwritten where they lie, and what lies beside them
//! in the same blocks is safe whatever tears.
//!
//! ```text
//!  tombstone durable ─► its blocks in their place ─► read ─► Journal (new image of the blocks at
//!  its edges) durable ─► overwrite, flush ─► gone
//! ```
//!
//! In its place comes an Erased record of the same length, so that what follows is found as
//! before. A start does again what a durable Journal says.

use super::cache::Cache;
use super::files::{Job, push};
use super::header::{DATA_START, SLOT_OFFSETS};
use super::record::{HEAD_BYTES, Head, Kind, OVERHEAD_BYTES, Record, claimed_len};
use super::{AppendError, Location, Log, Position};
use crate::disk::{AlignedBuffer, BLOCK_BYTES, DiskData, DiskError, DiskOp, DiskQueue, Extent};

const BLOCK: u32 = BLOCK_BYTES as u32;
/// The mark that fills a block so that it goes to its place.
const FILLING: u64 = u64::MAX;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The tombstone, and the blocks of the message, are on their way.
    Waiting,
    /// The blocks are read; an operation is under way or not.
    Reading(bool),
    /// The Journal ends here.
    Journaling(Position),
    /// The blocks are overwritten.
    Overwriting,
    /// There was no space for that; it is done again later.
    Refused,
    /// There was no space for the Journal; the blocks are read again later.
    Deferred,
    /// The tail slots may have a copy; they are written anew.
    Slots,
    /// Nothing is left of it.
    Done,
}

/// A message that is being erased.
#[derive(Debug)]
pub(super) struct Erasing {
    place: Location,
    seq: u64,
    ts_ns: i64,
    /// The tombstone ends here.
    after: Position,
    stage: Stage,
    /// The blocks as they are to be.
    image: Vec<u8>,
}

impl Erasing {
    /// Its blocks are being changed, or an image of them is at hand.
    const fn holds_blocks(&self) -> bool {
        matches!(
            self.stage,
            Stage::Reading(true) | Stage::Journaling(_) | Stage::Overwriting | Stage::Refused
        )
    }

    /// Whether the records have a block in common, as far as their lengths are known.
    const fn shares_blocks(&self, other: &Self) -> bool {
        let (from, to) = blocks_of(self.place.offset, self.place.len);
        let (other_from, other_to) = blocks_of(other.place.offset, other.place.len);
        self.place.segment == other.place.segment && from < other_to && other_from < to
    }
}

/// The blocks in which a record lies: from, to.
const fn blocks_of(offset: u32, len: u32) -> (u32, u32) {
    (offset - offset % BLOCK, (offset + len).next_multiple_of(BLOCK))
}

/// The part of the blocks that a Journal has: two at each end, or all. What lies between is
/// nothing but the erased message.
pub(super) fn edges_of(image: &[u8]) -> Vec<u8> {
    match (image.get(..2 * BLOCK_BYTES), image.len().checked_sub(2 * BLOCK_BYTES)) {
        (Some(front), Some(at)) if image.len() > 4 * BLOCK_BYTES => {
            [front, image.get(at..).unwrap_or_default()].concat()
        }
        _ => image.to_vec(),
    }
}

/// Position and bytes of the blocks that a Journal is about; none when it is not one.
pub(super) fn blocks_from(offset: u32, len: u32, edges: &[u8]) -> Option<(u32, Vec<u8>)> {
    if offset < DATA_START || offset.checked_add(len)? > u32::MAX - BLOCK {
        return None;
    }
    let (from, to) = blocks_of(offset, len);
    let size = (to - from) as usize;
    if edges.len() == size {
        return Some((from, edges.to_vec()));
    }
    if size <= 4 * BLOCK_BYTES || edges.len() != 4 * BLOCK_BYTES {
        return None;
    }
    let (front, back) = edges.split_at(2 * BLOCK_BYTES);
    let mut image = vec![0; size];
    image.get_mut(..front.len())?.copy_from_slice(front);
    image.get_mut(size - back.len()..)?.copy_from_slice(back);
    Some((from, image))
}

impl Log {
    /// Overwrites a message of which a Delete record was appended last. Its place must not be read
    /// any more. [`Self::is_erasing`] says when all is done.
    pub fn erase(&mut self, place: Location, seq: u64, ts_ns: i64) {
        self.unsettle_scrub(place.segment);
        let after = self.end();
        let stage = Stage::Waiting;
        let here = self.tail.find(place.segment, place.offset);
        let len = here.and_then(claimed_len).map_or(0, |len| len as u32);
        let place = Location { len, ..place };
        self.erasing.push(Erasing { place, seq, ts_ns, after, stage, image: Vec::new() });
    }

    /// True while messages are being erased.
    #[must_use]
    pub fn is_erasing(&self) -> bool {
        !self.erasing.is_empty()
    }

    /// How many messages are being erased.
    #[must_use]
    pub fn erasing_count(&self) -> usize {
        self.erasing.len()
    }

    /// Erases a message whose removal was found by a start, unless it turns out to be done.
    pub fn resume_erasing(&mut self, place: Location, seq: u64, ts_ns: i64) {
        if self.segment(place.segment).is_some() {
            self.erase(place, seq, ts_ns);
            self.erase_at_ns = Some(0);
        }
    }

    /// True when a message of the segment is being erased.
    pub(crate) fn has_erasing_in(&self, segment: u32) -> bool {
        self.erasing.iter().any(|erasing| erasing.place.segment == segment)
    }

    /// The segment is gone, with all its bytes overwritten.
    pub(super) fn forget_erasing_in(&mut self, segment: u32) {
        self.erasing.retain(|erasing| erasing.place.segment != segment);
    }

    /// A segment lies in another file: where messages that are to be erased were, and are.
    pub(super) fn move_erasing(&mut self, moved: &super::Moved) -> Vec<(u32, usize)> {
        let mut old_places = Vec::new();
        for erasing in self.erasing.iter_mut().filter(|e| e.place.segment == moved.segment) {
            let (from, to) = blocks_of(erasing.place.offset, erasing.place.len);
            old_places.push((from, (to - from) as usize));
            let new = moved.messages.iter().find(|message| message.0 == erasing.seq);
            erasing.place.offset = new.map_or(0, |message| message.2);
            // It may be packed another way.
            erasing.place.len = 0;
        }
        self.erasing.retain(|erasing| erasing.place.offset > 0);
        old_places
    }

    /// Takes every erasure as far as it can go, what found no space too when it is time.
    pub fn go_on_erasing(&mut self, now_ns: u64, cache: &mut Cache, queue: &mut DiskQueue) {
        self.retry_erasing(now_ns);
        self.drive_erasing(cache, queue);
    }

    /// Takes every erasure as far as it can go.
    pub(super) fn drive_erasing(&mut self, cache: &mut Cache, queue: &mut DiskQueue) {
        if self.erasing.is_empty() || self.fenced.is_some() {
            return;
        }
        let mut erasing = std::mem::take(&mut self.erasing);
        let mut is_filled = false;
        for at in 0..erasing.len() {
            // The image of a block that another one is about to change would bring back what that
            // one overwrites.
            let has_neighbour = erasing.get(at).is_some_and(|one| {
                let others = erasing.iter().filter(|other| other.seq != one.seq);
                others.clone().any(|other| other.holds_blocks() && other.shares_blocks(one))
            });
            if let Some(one) = erasing.get_mut(at) {
                self.drive_one(one, has_neighbour, &mut is_filled, cache, queue);
            }
        }
        erasing.append(&mut self.erasing);
        erasing.retain(|one| one.stage != Stage::Done);
        self.erasing = erasing;
    }

    fn drive_one(
        &mut self,
        one: &mut Erasing,
        has_neighbour: bool,
        is_filled: &mut bool,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) {
        let number = one.place.segment;
        if self.compacting() == Some(number) {
            if !self.is_moving(number) {
                // The copy would have the message.
                self.give_up(false, queue);
            }
            return;
        }
        if self.is_going(number) {
            return;
        }
        match one.stage {
            Stage::Waiting => {
                if !self.is_in_place(one.place) {
                    if !std::mem::replace(is_filled, true) {
                        self.fill_block(one.place);
                    }
                } else if self.flushed() >= one.after {
                    one.stage = Stage::Reading(false);
                    if !has_neighbour {
                        self.read_blocks(one, queue);
                    }
                }
            }
            Stage::Reading(false) if !has_neighbour => self.read_blocks(one, queue),
            Stage::Journaling(end) if self.flushed() >= end => {
                self.overwrite_blocks(one, cache, queue);
            }
            Stage::Slots if number < self.commit.done.segment => {
                if let Some(file) = self.file_for_reading(number, queue) {
                    one.stage = Stage::Overwriting;
                    let op = DiskOp::Commit { file, extents: vec![blank_slots()], sync: true };
                    push(self, queue, op, Job::EraseWrite(number, one.seq));
                }
            }
            Stage::Slots if self.commit.slots_to_clear == 0 => one.stage = Stage::Done,
            _ => {}
        }
    }

    /// True when no block of the record is written again by commits, and all are.
    fn is_in_place(&self, place: Location) -> bool {
        let done = self.commit.done;
        let (_, to) = blocks_of(place.offset, place.len);
        place.segment < done.segment
            || place.segment == done.segment && to <= done.offset - done.offset % BLOCK
    }

    /// Appends what completes the last block of a record, if nothing else does.
    pub(super) fn fill_block(&mut self, place: Location) {
        let end = self.end();
        let (_, to) = blocks_of(place.offset, place.len);
        if end.segment != place.segment || end.offset >= to {
            return;
        }
        let mut len = (to - end.offset) as usize;
        if len < OVERHEAD_BYTES + super::pack::SEAL_BYTES {
            len += OVERHEAD_BYTES + super::pack::SEAL_BYTES;
        }
        let bytes = vec![0; len];
        // A log that is full or busy is tried again at the next completion.
        let _ = self.append(&Record::Mark { number: FILLING, bytes: &bytes });
    }

    fn read_blocks(&mut self, one: &mut Erasing, queue: &mut DiskQueue) {
        let number = one.place.segment;
        if self.segment(number).is_none() {
            return;
        }
        let Some(file) = self.file_for_reading(number, queue) else { return };
        let Some(segment) = self.segment_mut(number) else { return };
        // Without its length, its head is read first.
        let (from, to) = blocks_of(one.place.offset, one.place.len.max(HEAD_BYTES as u32));
        let to = to.min(segment.file_len);
        segment.reads += 1;
        one.stage = Stage::Reading(true);
        let op = DiskOp::Read { file, offset: u64::from(from), len: (to - from) as usize };
        push(self, queue, op, Job::EraseRead(number, one.seq));
    }

    pub(super) fn handle_erase_read(
        &mut self,
        seq: u64,
        result: &Result<DiskData, DiskError>,
        now_ns: u64,
    ) {
        let Some(at) = self.erasing.iter().position(|erasing| erasing.seq == seq) else { return };
        let mut one = self.erasing.swap_remove(at);
        if let Some(segment) = self.segment_mut(one.place.segment) {
            segment.reads = segment.reads.saturating_sub(1);
        }
        let (from, to) = blocks_of(one.place.offset, one.place.len);
        one.stage = Stage::Reading(false);
        match result {
            Ok(DiskData::Bytes(bytes)) if one.place.len == 0 => {
                let at = (one.place.offset - from) as usize;
                let binding = self.segment(one.place.segment).map(|segment| segment.binding);
                let head = bytes.as_slice().get(at..).zip(binding);
                let head = head.and_then(|(b, of)| Head::parse(b, of, one.place.offset));
                match head.filter(|head| head.kind == Kind::Message && head.number == one.seq) {
                    Some(head) => one.place.len = head.len as u32,
                    // Damaged, or erased before: its length is not known.
                    None => return,
                }
            }
            Ok(DiskData::Bytes(bytes)) if bytes.len() >= (to - from) as usize => {
                one.stage = if self.journal(&mut one, bytes.as_slice(), from).is_ok() {
                    Stage::Journaling(self.end())
                } else {
                    self.erase_at_ns = Some(now_ns + self.options.retry_ns);
                    Stage::Deferred
                };
            }
            // What cannot be read cannot be put beside what is erased.
            _ => return,
        }
        self.erasing.push(one);
    }

    /// Makes the new image of the blocks and appends what a start needs of it.
    fn journal(&mut self, one: &mut Erasing, bytes: &[u8], from: u32) -> Result<(), AppendError> {
        let Some(segment) = self.segment(one.place.segment) else { return Ok(()) };
        let (binding, incarnation) = (segment.binding, segment.identity.incarnation);
        let mut erased = Vec::with_capacity(one.place.len as usize);
        let record = Record::Erased { seq: one.seq, ts_ns: one.ts_ns, len: one.place.len };
        record.encode(&mut erased, binding, one.place.offset);
        let mut image = bytes.to_vec();
        let at = (one.place.offset - from) as usize;
        if let Some(place) = image.get_mut(at..at + erased.len()) {
            place.copy_from_slice(&erased);
        }
        let edges = edges_of(&image);
        let Location { segment, offset, len } = one.place;
        let record = Record::Journal { segment, incarnation, offset, len, image: &edges };
        self.append(&record)?;
        one.image = image;
        Ok(())
    }

    fn overwrite_blocks(&mut self, one: &mut Erasing, cache: &mut Cache, queue: &mut DiskQueue) {
        let number = one.place.segment;
        let Some(file) = self.file_for_reading(number, queue) else { return };
        let (from, to) = blocks_of(one.place.offset, one.place.len);
        let mut bytes = AlignedBuffer::new((to - from) as usize);
        bytes.as_mut_slice().copy_from_slice(&one.image);
        let mut extents = vec![Extent { offset: u64::from(from), bytes }];
        let at = (one.place.offset - from) as usize;
        if let Some(erased) = one.image.get(at..at + one.place.len as usize) {
            self.tail.overwrite(number, one.place.offset, erased);
        }
        let Some(segment) = self.segment_mut(number) else { return };
        cache.forget(segment.identity, from, to - from);
        if number < self.commit.done.segment {
            // Its slots do not count any more, but may have the message.
            extents.push(blank_slots());
        }
        if let Some(segment) = self.segment_mut(number) {
            segment.reads += 1;
        }
        one.stage = Stage::Overwriting;
        let op = DiskOp::Commit { file, extents, sync: true };
        push(self, queue, op, Job::EraseWrite(number, one.seq));
    }

    /// Does again what found no space. To overwrite, nothing but the Journal has to be durable.
    pub(super) fn retry_erasing(&mut self, now_ns: u64) {
        if self.erase_at_ns.is_none_or(|at| at > now_ns) {
            return;
        }
        self.erase_at_ns = None;
        for one in &mut self.erasing {
            one.stage = match one.stage {
                Stage::Refused => Stage::Journaling(Position::default()),
                Stage::Deferred => Stage::Reading(false),
                stage => stage,
            };
        }
    }

    pub(super) fn handle_erase_write(
        &mut self,
        seq: u64,
        result: &Result<DiskData, DiskError>,
        (now_ns, cache): (u64, &mut Cache),
        progress: &mut super::Progress,
    ) {
        let Some(at) = self.erasing.iter().position(|erasing| erasing.seq == seq) else { return };
        let mut one = self.erasing.swap_remove(at);
        let number = one.place.segment;
        let (from, to) = blocks_of(one.place.offset, one.place.len);
        if let Some(segment) = self.segment_mut(one.place.segment) {
            segment.reads = segment.reads.saturating_sub(1);
            let identity = segment.identity;
            cache.forget(identity, from, to - from);
        }
        if matches!(result, Err(DiskError::NoSpace)) {
            self.erase_at_ns = Some(now_ns + self.options.retry_ns);
            one.stage = Stage::Refused;
            self.erasing.push(one);
        } else if let Err(error) = result {
            // The next start does it again; until then it is not known what is there.
            self.fence(*error, progress);
        } else if number >= self.commit.done.segment {
            self.clear_slots();
            one.stage = Stage::Slots;
            self.erasing.push(one);
        }
    }
}

/// Bytes over both tail slots.
fn blank_slots() -> Extent {
    let bytes = AlignedBuffer::new((DATA_START - SLOT_OFFSETS[0]) as usize);
    Extent { offset: u64::from(SLOT_OFFSETS[0]), bytes }
}
