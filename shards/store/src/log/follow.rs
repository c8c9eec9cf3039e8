//! What recovery gathers from the records on its way: notes, sequences, what is damaged and what
//! is missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::keys::SegmentKey;
use super::notes::Notes;
use super::pack::{self, Scratch};
use super::record::{Kind, Record, u32_at};
use super::report::Damage;
use super::scan::Found;
use super::segment::Segment;
use super::{Location, Recovery};
use crate::disk::BLOCK_BYTES;

/// Bytes of the shortest message: how many sequences damage may hide.
const MESSAGE_BYTES_MIN: u32 = 34;

/// Follows the records of all segments.
pub(super) struct Follower<'a> {
    pub(super) owner: &'a mut dyn Recovery,
    pub(super) notes: Notes,
    /// The sequence to come.
    pub(super) next_seq: u64,
    /// The sequence that follows the place where the way through the segments is.
    here_seq: u64,
    pub(super) damage: Vec<Damage>,
    /// Damage whose last sequence is not known yet.
    open: Vec<usize>,
    /// The segments that should be there, as far as known.
    expected: Option<BTreeSet<u32>>,
    /// In this segment it was said which are expected: those before it are known for certain.
    expected_at: u32,
    pub(super) dropped: BTreeSet<u32>,
    /// Segment numbers that were jumped over: from, to, and the sequence before.
    jumps: Vec<Jump>,
    last_number: u32,
    scratch: Scratch,
    /// What may have to be done again: segment, incarnation, place, length, edges.
    pub(super) journals: Vec<(u32, u32, u32, u32, Vec<u8>)>,
    /// Records of notes in the covered segment on the way.
    pub(super) moved_notes: BTreeMap<Vec<u8>, Vec<Location>>,
}

/// Numbers of segments that do not exist.
#[derive(Clone, Copy, Debug)]
struct Jump {
    first: u32,
    last: u32,
    first_seq: u64,
    /// Known when the next segment says.
    last_seq: Option<u64>,
}

/// The numbers in a Manifest.
fn numbers_of(ranges: &[u8]) -> BTreeSet<u32> {
    let pairs = ranges.chunks_exact(8);
    pairs
        .filter_map(|pair| Some(u32_at(pair, 0)?..=u32_at(pair, 4)?))
        // A segment has 64 KiB at least; more numbers than that are damage.
        .filter(|range| range.end().saturating_sub(*range.start()) < 1 << 26)
        .flatten()
        .collect()
}

impl<'a> Follower<'a> {
    pub(super) fn new(owner: &'a mut dyn Recovery) -> Self {
        Self {
            owner,
            notes: Notes::default(),
            next_seq: 1,
            here_seq: 1,
            damage: Vec::new(),
            open: Vec::new(),
            expected: None,
            expected_at: 0,
            dropped: BTreeSet::new(),
            jumps: Vec::new(),
            last_number: 0,
            scratch: Scratch::default(),
            journals: Vec::new(),
            moved_notes: BTreeMap::new(),
        }
    }

    /// The records of this segment follow.
    pub(super) fn enter(&mut self, number: u32) {
        if number > self.last_number + 1 {
            self.jumps.push(Jump {
                first: self.last_number + 1,
                last: number - 1,
                first_seq: self.here_seq,
                last_seq: None,
            });
        }
        self.last_number = number;
    }

    pub(super) fn handle(
        &mut self,
        segment: u32,
        key: Option<&SegmentKey>,
        is_covered: bool,
        item: &Found<'_>,
    ) {
        match item {
            Found::Damage(from, to, named) => self.handle_damage(segment, *from, *to, *named),
            Found::Record(offset, raw) => {
                let len = raw.bytes.len() as u32;
                let mut scratch = std::mem::take(&mut self.scratch);
                match pack::decode(raw, *offset, key, &mut scratch) {
                    Ok(record) => {
                        let location = Location { segment, offset: *offset, len };
                        self.handle_record(location, &record, is_covered);
                    }
                    // Whole, and yet not to be understood.
                    Err(_) => {
                        let named = (raw.kind == Kind::Message).then_some(raw.number);
                        self.handle_damage(segment, *offset, *offset + len, named);
                    }
                }
                self.scratch = scratch;
            }
        }
    }

    fn handle_damage(&mut self, segment: u32, offset: u32, to: u32, named: Option<u64>) {
        let len = to - offset;
        let (first_seq, last_seq) = match named {
            Some(seq) => {
                self.close(seq.saturating_sub(1));
                self.pass(seq.saturating_add(1));
                (seq, seq)
            }
            None => {
                self.open.push(self.damage.len());
                (self.here_seq, self.here_seq.saturating_add(u64::from(len / MESSAGE_BYTES_MIN)))
            }
        };
        self.damage.push(Damage { segment, offset, len, first_seq, last_seq });
    }

    fn handle_record(&mut self, location: Location, record: &Record<'_>, is_covered: bool) {
        match record {
            Record::Message(message) => {
                self.close(message.seq.saturating_sub(1));
                self.pass(message.seq.saturating_add(1));
            }
            Record::Erased { seq, .. } => {
                self.close(seq.saturating_sub(1));
                self.pass(seq.saturating_add(1));
            }
            Record::Journal { segment, incarnation, offset, len, image } => {
                let edges = image.to_vec();
                self.journals.push((*segment, *incarnation, *offset, *len, edges));
            }
            Record::Skip { first_seq, last_seq } => {
                self.close(first_seq.saturating_sub(1));
                self.pass(last_seq.saturating_add(1));
            }
            Record::End { last_seq } => {
                self.close(*last_seq);
                self.pass(last_seq.saturating_add(1));
            }
            Record::Manifest { next_seq, ranges } => {
                self.close(next_seq.saturating_sub(1));
                self.pass(*next_seq);
                if !is_covered {
                    self.expect(location.segment, numbers_of(ranges));
                }
            }
            Record::Drop { segment } => {
                self.dropped.insert(*segment);
                self.notes.forget_twins(|_, twin| twin.segment == *segment);
            }
            other if !is_covered => self.notes.apply(other, location),
            Record::NotePut { key, .. }
            | Record::NoteDelta { key, .. }
            | Record::NoteCopy { key, .. }
            | Record::NoteRemove { key } => {
                self.moved_notes.entry((*key).to_vec()).or_default().push(location);
            }
            _ => {}
        }
        self.owner.handle_record(location, record, is_covered);
    }

    /// In `segment` it is said that these are the segments that there are.
    pub(super) fn expect(&mut self, segment: u32, numbers: BTreeSet<u32>) {
        self.expected = Some(numbers);
        self.expected_at = segment;
    }

    /// A segment was written anew after the checkpoint: the places of its notes are others. Notes
    /// that count have all their records in it, in order; of others it has none.
    pub(super) fn relocate_notes(&mut self, segment: u32) {
        for (key, places) in std::mem::take(&mut self.moved_notes) {
            self.notes.relocate_all(&key, segment, &places);
        }
    }

    /// True for a segment that was dropped, although its file is still there.
    pub(super) fn is_left_over(&self, number: u32) -> bool {
        let is_expected = |expected: &BTreeSet<u32>| expected.contains(&number);
        number < self.expected_at && !self.expected.as_ref().is_none_or(is_expected)
    }

    /// The way through the segments has come to before this sequence.
    fn pass(&mut self, seq: u64) {
        self.here_seq = seq;
        self.next_seq = self.next_seq.max(seq);
    }

    /// The sequence up to which messages may have been in damage that was met is known now.
    fn close(&mut self, last_seq: u64) {
        for at in self.open.drain(..) {
            if let Some(damage) = self.damage.get_mut(at) {
                damage.last_seq = last_seq;
            }
        }
        for jump in self.jumps.iter_mut().filter(|jump| jump.last_seq.is_none()) {
            jump.last_seq = Some(last_seq);
        }
    }

    /// Up to a block at the end of the log may be gone, with what it held.
    pub(super) fn lose_tail(&mut self, segment: u32, end: u32) {
        let len = (BLOCK_BYTES - 1) as u32;
        self.handle_damage(segment, end, end.saturating_add(len), None);
    }

    /// There are no more records. Sequences that may have been given out are not given again.
    pub(super) fn finish(&mut self) {
        for at in self.open.drain(..) {
            if let Some(damage) = self.damage.get(at) {
                self.next_seq = self.next_seq.max(damage.last_seq.saturating_add(1));
            }
        }
    }

    /// Segments that should be there and are not; what they held becomes damage.
    pub(super) fn missing(&mut self, present: &VecDeque<Segment>) -> Vec<u32> {
        let jumped = || self.jumps.iter().flat_map(|jump| jump.first..=jump.last);
        let expected: Vec<u32> = match &self.expected {
            Some(expected) => expected.iter().copied().collect(),
            // Segments before the first may have been dropped long ago.
            None => jumped()
                .filter(|number| present.front().is_some_and(|first| first.number() < *number))
                .collect(),
        };
        let is_there = |number: u32| present.binary_search_by_key(&number, Segment::number).is_ok();
        let missing: Vec<u32> = expected
            .into_iter()
            .filter(|number| !self.dropped.contains(number) && !is_there(*number))
            .collect();
        for number in &missing {
            let jump = self.jumps.iter().find(|jump| (jump.first..=jump.last).contains(number));
            let Some(jump) = jump else { continue };
            let (first_seq, last_seq) = (jump.first_seq, jump.last_seq.unwrap_or(jump.first_seq));
            self.damage.push(Damage { segment: *number, offset: 0, len: 0, first_seq, last_seq });
        }
        missing
    }
}
