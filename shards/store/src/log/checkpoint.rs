//! Checkpoints: what the owner wants to find again at the next start instead of reading records.
//! They are derived, so losing one costs time only. The layout is in `docs/STORAGE.md`.

use super::bind::plain_checksum;
use super::files::{Job, push};
use super::keys::seal_checkpoint;
use super::notes::{Note, Notes};
use super::record::{u32_at, u64_at};
use super::segment::segment_checkpoint_path;
use super::{Location, Log, Position};
use crate::disk::{DiskOp, DiskQueue};

const MAGIC: &[u8; 8] = b"SHWRCHK3";
const HEAD_BYTES: usize = 72;

/// Checkpoints on their way to disk.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Of the whole, and the position that has to be durable before.
    index: Option<(Position, Vec<u8>)>,
    pub(super) index_under_way: bool,
    /// Of sealed segments.
    segments: Vec<(u32, Vec<u8>)>,
}

/// A checkpoint that was read.
#[derive(Debug)]
pub(super) struct Checkpoint<'a> {
    pub(super) uid: u64,
    /// The segment that it is of, or in which the position lies that it covers.
    pub(super) segment: u32,
    /// Incarnation of a segment, or the offset of the position.
    pub(super) extra: u32,
    /// The sequence to come.
    pub(super) next_seq: u64,
    /// The last eight bytes before the position.
    pub(super) last_sum: u64,
    /// Where the record begins that reaches into the last block before the position.
    pub(super) anchor: u32,
    /// Number and incarnation of the segments that there were, u32 each.
    pub(super) present: &'a [u8],
    notes: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// Path of the checkpoint of the whole.
pub(super) fn index_path(dir: &str) -> String {
    format!("{dir}/index.chk")
}

impl<'a> Checkpoint<'a> {
    fn encode(&self) -> Vec<u8> {
        let parts = [self.present, self.notes, self.payload];
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut out = Vec::with_capacity(HEAD_BYTES + len + 8);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.extra.to_le_bytes());
        out.extend_from_slice(&self.next_seq.to_le_bytes());
        out.extend_from_slice(&self.last_sum.to_le_bytes());
        out.extend_from_slice(&u64::from(self.anchor).to_le_bytes());
        for part in parts {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        }
        for part in parts {
            out.extend_from_slice(part);
        }
        let sum = plain_checksum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a checkpoint of the stream.
    pub(super) fn decode(bytes: &'a [u8], uid: u64) -> Option<Self> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        if body.get(..8)? != MAGIC || u64_at(sum, 0)? != plain_checksum(body) {
            return None;
        }
        let mut rest = body.get(HEAD_BYTES..)?;
        let mut parts = [rest; 3];
        for (at, part) in parts.iter_mut().enumerate() {
            let len = usize::try_from(u64_at(body, 48 + 8 * at)?).ok()?;
            (*part, rest) = rest.split_at_checked(len)?;
        }
        let checkpoint = Self {
            uid: u64_at(body, 8)?,
            segment: u32_at(body, 16)?,
            extra: u32_at(body, 20)?,
            next_seq: u64_at(body, 24)?,
            last_sum: u64_at(body, 32)?,
            anchor: u32_at(body, 40)?,
            present: parts[0],
            notes: parts[1],
            payload: parts[2],
        };
        (rest.is_empty() && checkpoint.uid == uid).then_some(checkpoint)
    }

    /// Number and incarnation of each segment.
    pub(super) fn incarnations(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let pairs = self.present.chunks_exact(8);
        pairs.filter_map(|pair| Some((u32_at(pair, 0)?, u32_at(pair, 4)?)))
    }

    /// The table of notes.
    pub(super) fn notes(&self) -> Option<Notes> {
        let mut notes = Notes::default();
        let mut rest = self.notes;
        while !rest.is_empty() {
            let key_len = u32_at(rest, 0)? as usize;
            let counts = u32_at(rest, 4)?;
            let (has_put, removed, deltas) = (counts & 1, counts & 2 != 0, counts >> 3);
            let since = u32_at(rest, 8)?;
            let mut at = 12;
            let mut next = || {
                let location = Location {
                    segment: u32_at(rest, at)?,
                    offset: u32_at(rest, at + 4)?,
                    len: u32_at(rest, at + 8)?,
                };
                at += 12;
                Some(location)
            };
            let put = if has_put == 1 { Some(next()?) } else { None };
            let mut note = Note { put, since, removed, ..Note::default() };
            for _ in 0..deltas {
                note.deltas.push(next()?);
            }
            if counts & 4 != 0 {
                note.twin = Some(next()?);
            }
            notes.insert(rest.get(at..at + key_len)?, note);
            rest = rest.get(at + key_len..)?;
        }
        Some(notes)
    }
}

fn encode_notes(notes: &Notes) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, note) in notes.iter() {
        let twin = u32::from(note.twin.is_some()) << 2;
        let flags = twin | u32::from(note.removed) << 1 | u32::from(note.put.is_some());
        let counts = (note.deltas.len() as u32) << 3 | flags;
        for number in [key.len() as u32, counts, note.since] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for location in note.locations().chain(&note.twin) {
            for number in [location.segment, location.offset, location.len] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out.extend_from_slice(key);
    }
    out
}

impl Log {
    /// Keeps the owner's state as of now; at the next start only what comes after is replayed.
    /// For segments that are sealed by now, see [`Self::write_segment_checkpoint`]. Written when
    /// everything appended before is durable; a newer one takes the place of one that waits.
    pub fn write_checkpoint(&mut self, payload: &[u8], queue: &mut DiskQueue) {
        let end = self.end();
        let last = self.last();
        let mut sum = [0; 8];
        if !self.tail.copy(end.segment, end.offset.saturating_sub(8), &mut sum) {
            return;
        }
        let checkpoint = Checkpoint {
            uid: self.options.uid,
            segment: end.segment,
            extra: end.offset,
            next_seq: self.next_seq,
            last_sum: u64::from_le_bytes(sum),
            anchor: last.anchor,
            present: &self.incarnations(),
            notes: &encode_notes(&self.notes),
            payload,
        };
        let mut bytes = checkpoint.encode();
        if let Some(encryption) = &self.options.encryption {
            bytes = seal_checkpoint(encryption, self.options.uid, bytes);
        }
        self.checkpoints.index = Some((end, bytes));
        self.drive_checkpoints(queue);
    }

    /// Number and incarnation of the segments that there are.
    fn incarnations(&self) -> Vec<u8> {
        let here = self.segments.iter().filter(|segment| !self.is_dropped(segment.number()));
        let pairs = here.flat_map(|segment| [segment.number(), segment.identity.incarnation]);
        pairs.flat_map(u32::to_le_bytes).collect()
    }

    /// Keeps what the owner knows of a sealed segment, for the next start.
    pub fn write_segment_checkpoint(
        &mut self,
        segment: u32,
        payload: &[u8],
        queue: &mut DiskQueue,
    ) {
        let Some(found) = self.segment(segment).filter(|segment| segment.sealed) else { return };
        let checkpoint = Checkpoint {
            uid: self.options.uid,
            segment,
            extra: found.identity.incarnation,
            next_seq: 0,
            last_sum: 0,
            anchor: 0,
            present: &[],
            notes: &[],
            payload,
        };
        self.checkpoints.segments.push((segment, checkpoint.encode()));
        self.drive_checkpoints(queue);
    }

    /// Writes the checkpoints whose time has come.
    pub(super) fn drive_checkpoints(&mut self, queue: &mut DiskQueue) {
        let durable = self.durable();
        let mut at = 0;
        while let Some((number, _)) = self.checkpoints.segments.get(at) {
            let number = *number;
            if number >= durable.segment {
                at += 1;
                continue;
            }
            let (_, bytes) = self.checkpoints.segments.swap_remove(at);
            if self.segment(number).is_some() && !self.is_dropped(number) {
                let path = segment_checkpoint_path(&self.options.dir, number);
                push(self, queue, DiskOp::Replace { path, bytes }, Job::SegmentCheckpoint);
            }
        }
        if self.checkpoints.index_under_way {
            return;
        }
        let is_due = |(covers, _): &mut (Position, Vec<u8>)| *covers <= durable;
        if let Some((_, bytes)) = self.checkpoints.index.take_if(is_due) {
            let path = index_path(&self.options.dir);
            self.checkpoints.index_under_way = true;
            push(self, queue, DiskOp::Replace { path, bytes }, Job::IndexCheckpoint);
        }
    }
}
