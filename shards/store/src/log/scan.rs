//! Reading a segment from one end to the other at start, past damage.

use super::bind::Binding;
use super::record::{self, HEAD_BYTES, Head, Kind, OVERHEAD_BYTES, RawRecord, RecordError};
use super::segment::anchors;
use crate::disk::{BLOCK_BYTES, BootDisk, DiskError};

/// Read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// So far a file was zeroes when its segment began, whether it was new or is used again.
pub(super) const CLEARED_BYTES: u32 = 1 << 20;
/// The smallest piece of which a write that tears leaves all or nothing.
const SECTOR_BYTES: u32 = 512;

/// The bytes of a segment, through a window that moves forward.
pub(super) struct Scanner<'a> {
    boot: &'a mut dyn BootDisk,
    path: &'a str,
    file_len: u32,
    window: Vec<u8>,
    window_at: u32,
    /// Bytes that count instead of those on disk, later ones over earlier ones.
    overlays: Vec<(u32, Vec<u8>)>,
    /// Blocks that could not be read, and why.
    pub(super) unreadable: u64,
    pub(super) read_error: Option<DiskError>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(
        boot: &'a mut dyn BootDisk,
        path: &'a str,
        file_len: u32,
        overlays: Vec<(u32, Vec<u8>)>,
    ) -> Self {
        Self {
            boot,
            path,
            file_len,
            window: Vec::new(),
            window_at: 0,
            overlays,
            unreadable: 0,
            read_error: None,
        }
    }

    /// Up to `len` bytes from `offset`; fewer at the end of the file.
    pub(super) fn bytes(&mut self, offset: u32, len: usize) -> &[u8] {
        let len = len.min(self.file_len.saturating_sub(offset) as usize);
        let window_end = self.window_at as usize + self.window.len();
        if offset < self.window_at || (offset as usize) > window_end {
            self.window.clear();
            self.window_at = offset - offset % BLOCK_BYTES as u32;
        }
        if offset as usize + len > self.window_at as usize + self.window.len() {
            self.fill(offset, len);
        }
        let at = (offset - self.window_at) as usize;
        let end = (at + len).min(self.window.len());
        self.window.get(at..end).unwrap_or_default()
    }

    /// All that the window holds from `offset` on, at least 16 bytes where the file has them.
    fn at_hand(&mut self, offset: u32) -> &[u8] {
        self.bytes(offset, HEAD_BYTES);
        self.window.get((offset - self.window_at) as usize..).unwrap_or_default()
    }

    fn fill(&mut self, offset: u32, len: usize) {
        let done = (offset - self.window_at) as usize;
        let done = done.min(self.window.len());
        let done = done - done % BLOCK_BYTES;
        self.window.drain(..done);
        self.window_at += done as u32;
        let needed = (offset - self.window_at) as usize + len;
        while self.window.len() < needed {
            let at = self.window_at + self.window.len() as u32;
            let left = self.file_len.saturating_sub(at) as usize;
            let part = CHUNK_BYTES.max(needed - self.window.len()).min(left);
            let bytes = self.read(at, part);
            if bytes.is_empty() {
                return;
            }
            let start = self.window.len();
            self.window.extend_from_slice(&bytes);
            self.overlay(at, start);
        }
    }

    fn read(&mut self, at: u32, len: usize) -> Vec<u8> {
        if let Ok(bytes) = self.boot.read(self.path, u64::from(at), len) {
            return bytes;
        }
        // What the disk does not give counts as zeroes, which are never a record.
        let mut all = Vec::with_capacity(len);
        while all.len() < len {
            let part = BLOCK_BYTES.min(len - all.len());
            match self.boot.read(self.path, u64::from(at) + all.len() as u64, part) {
                Ok(bytes) if bytes.len() == part => all.extend_from_slice(&bytes),
                Ok(_) => return all,
                Err(error) => {
                    self.unreadable += 1;
                    self.read_error = Some(error);
                    all.resize(all.len() + part, 0);
                }
            }
        }
        all
    }

    /// Lays what counts over the bytes of the window from `start` on, which lie at `at`.
    fn overlay(&mut self, at: u32, start: usize) {
        let end = u64::from(at) + (self.window.len() - start) as u64;
        for (place, bytes) in &self.overlays {
            let from = u64::from(*place).max(u64::from(at));
            let to = (u64::from(*place) + bytes.len() as u64).min(end);
            if from >= to {
                continue;
            }
            let source = (from - u64::from(*place)) as usize..(to - u64::from(*place)) as usize;
            let target = start + (from - u64::from(at)) as usize;
            let target = target..target + source.len();
            if let (Some(target), Some(source)) = (self.window.get_mut(target), bytes.get(source)) {
                target.copy_from_slice(source);
            }
        }
    }

    /// Verifies the record at `offset`.
    pub(super) fn record(
        &mut self,
        binding: Binding,
        offset: u32,
    ) -> Result<RawRecord<'_>, RecordError> {
        let len = match Head::parse(self.at_hand(offset), binding, offset) {
            Some(head) => head.len,
            None => return Err(RecordError::Head),
        };
        if len as u64 > u64::from(self.file_len.saturating_sub(offset)) {
            return Err(RecordError::Body);
        }
        record::verify(self.bytes(offset, len), binding, offset)
    }

    /// True when any record of the segment can be found.
    pub(super) fn has_records(&mut self, binding: Binding, from: u32) -> bool {
        self.record(binding, from).is_ok() || self.resync(binding, from, self.file_len).is_some()
    }

    /// The next place behind `from` and before `limit` where a record validates.
    fn resync(&mut self, binding: Binding, from: u32, limit: u32) -> Option<u32> {
        if let Some(head) = Head::parse(self.at_hand(from), binding, from) {
            let next = from.checked_add(u32::try_from(head.len).ok()?);
            match next {
                Some(next) if next == limit => return Some(next),
                Some(next) if next < limit && self.record(binding, next).is_ok() => {
                    return Some(next);
                }
                _ => {}
            }
        }
        let mut at = from + 1;
        while let Some(head) = self.find_head(binding, at, limit) {
            if self.record(binding, head).is_ok() {
                return Some(head);
            }
            at = head + 1;
        }
        None
    }

    /// The first place from `at` on and before `limit` where the head of a record holds.
    fn find_head(&mut self, binding: Binding, at: u32, limit: u32) -> Option<u32> {
        let mut at = at;
        while at < limit {
            let hand = self.at_hand(at);
            let step = hand.len().saturating_sub(HEAD_BYTES);
            let found = (0..=step).find(|step| {
                let offset = at + *step as u32;
                hand.get(*step..).is_some_and(|bytes| {
                    bytes.get(4).is_some_and(|kind| Kind::from_byte(*kind).is_some())
                        && Head::parse(bytes, binding, offset).is_some()
                })
            });
            match found {
                Some(step) => return Some(at + step as u32).filter(|at| *at < limit),
                None => at += step as u32 + 1,
            }
        }
        None
    }

    /// Where the last record ends that validates and begins in `[from, limit)`; `from` without
    /// one.
    pub(super) fn last_end(&mut self, binding: Binding, from: u32, limit: u32) -> u32 {
        let (mut at, mut end) = (from, from);
        while let Some(head) = self.find_head(binding, at, limit) {
            at = match self.record(binding, head) {
                Ok(raw) => {
                    end = head + raw.bytes.len() as u32;
                    end
                }
                Err(_) => head + 1,
            };
        }
        end
    }

    /// Whether all of these bytes were written, whatever became of them since. Blocks are zeroes
    /// before, and a write that tears leaves out whole sectors. False when nobody can tell.
    fn was_written(&mut self, from: u32, to: u32) -> bool {
        if from >= to || to > CLEARED_BYTES {
            return false;
        }
        let mut at = from;
        while at < to {
            let next = (at - at % SECTOR_BYTES + SECTOR_BYTES).min(to);
            if self.bytes(at, (next - at) as usize).iter().all(|byte| *byte == 0) {
                return false;
            }
            at = next;
        }
        true
    }

    /// Where what does not validate at `offset` ends, before the end that a slot tells, if it is
    /// damage for certain and not what a commit left that tore.
    fn damaged_to(&mut self, binding: Binding, offset: u32, limit: u32) -> Option<u32> {
        if offset >= limit {
            return None;
        }
        let next = self.resync(binding, offset, limit).unwrap_or(limit);
        self.was_written(offset, next).then_some(next)
    }

    /// Where the atomic group that begins at `offset` breaks off; none when it is whole.
    fn group_breaks_at(&mut self, binding: Binding, offset: u32) -> Option<u32> {
        let mut at = offset;
        while let Ok(raw) = self.record(binding, at) {
            if !raw.more() {
                return None;
            }
            at += raw.bytes.len() as u32;
        }
        Some(at)
    }
}

/// What is known about where the records of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// With an End record.
    Sealed,
    /// Everything before the frontier was acknowledged; the slot ends at `end`.
    Open { frontier: u32, end: u32 },
    /// Nobody knows.
    Unknown,
}

/// Something on the way through a segment.
pub(super) enum Found<'a> {
    Record(u32, RawRecord<'a>),
    /// Bytes from, to; the sequence of the message they hold, when that is known.
    Damage(u32, u32, Option<u64>),
}

/// How the way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScanEnd {
    pub(super) end: u32,
    pub(super) sealed: bool,
    /// See `Segment::anchor`.
    pub(super) anchor: u32,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Scanner<'_> {
    /// Goes through the records from `from`, whose anchor is given.
    pub(super) fn scan(
        &mut self,
        binding: Binding,
        (from, anchor): (u32, u32),
        extent: Extent,
        sink: &mut dyn FnMut(Found<'_>),
    ) -> ScanEnd {
        let mut at = from;
        let mut anchor = anchor;
        let mut in_group = false;
        let (mut records, mut bytes) = (0, 0);
        let (frontier, limit) = match extent {
            Extent::Open { frontier, end } => (frontier, end),
            Extent::Unknown => (0, self.file_len),
            Extent::Sealed => (u32::MAX, self.file_len),
        };
        loop {
            if at >= frontier
                && extent != Extent::Unknown
                && self.record(binding, at).is_err()
                && self.damaged_to(binding, at, limit).is_none()
            {
                return ScanEnd { end: at, sealed: false, anchor, records, bytes };
            }
            let (len, kind, more) = match self.record(binding, at) {
                Ok(raw) => {
                    // The first of a group waits until the group is known to be whole.
                    if in_group || !raw.more() {
                        sink(Found::Record(at, raw));
                    }
                    (raw.bytes.len() as u32, raw.kind, raw.more())
                }
                Err(_) => {
                    let next = self.resync(binding, at, limit);
                    if next.is_none() && extent == Extent::Unknown {
                        return ScanEnd { end: at, sealed: false, anchor, records, bytes };
                    }
                    let next = next.unwrap_or(limit);
                    let named = self.named(binding, at, next);
                    sink(Found::Damage(at, next, named));
                    if anchors(at, next) {
                        anchor = at;
                    }
                    at = next;
                    if extent == Extent::Sealed && at >= limit {
                        return ScanEnd { end: at, sealed: true, anchor, records, bytes };
                    }
                    continue;
                }
            };
            if more && !in_group {
                let breaks_at = self.group_breaks_at(binding, at);
                let is_end = breaks_at.is_some_and(|breaks_at| {
                    breaks_at >= frontier && self.damaged_to(binding, breaks_at, limit).is_none()
                });
                if is_end {
                    return ScanEnd { end: at, sealed: false, anchor, records, bytes };
                }
                if let Ok(raw) = self.record(binding, at) {
                    sink(Found::Record(at, raw));
                }
            }
            in_group = more;
            records += 1;
            bytes += u64::from(len);
            if anchors(at, at + len) {
                anchor = at;
            }
            at += len;
            if kind == Kind::End {
                return ScanEnd { end: at, sealed: true, anchor, records, bytes };
            }
        }
    }

    /// The sequence of the damaged message at `offset`, when nothing else is damaged.
    fn named(&mut self, binding: Binding, offset: u32, next: u32) -> Option<u64> {
        let head = Head::parse(self.at_hand(offset), binding, offset)?;
        let is_alone = (next - offset) as usize == head.len && head.len >= OVERHEAD_BYTES;
        (head.kind == Kind::Message && is_alone).then_some(head.number)
    }
}
