//! The end of a log at start: what the slots say about it, and making it a place where the log can
//! go on. The rules are in `docs/STORAGE.md`, section Recovery.

use std::collections::VecDeque;

use super::bind::Binding;
use super::erase::blocks_from;
use super::found::FoundSegment;
use super::header::{SLOT_BYTES, SLOT_OFFSETS, SlotHead, SlotState};
use super::recover::{BLOCK, RecoverError, Recoverer};
use super::report::Damage;
use super::scan::{CLEARED_BYTES, Extent, Scanner};
use super::segment::{Segment, doomed_path, number_of, segment_checkpoint_path, segment_path};
use super::{COMMIT_BYTES_MAX, Durability};
use crate::disk::{BLOCK_BYTES, BootDisk, DiskError};

/// Written at once behind the end.
const CLEAR_BYTES: u32 = 256 << 10;
/// Most bytes of one damaged place that are copied.
const COPY_BYTES_MAX: usize = 64 << 20;

/// Overwrites a file, and then removes it.
fn erase(boot: &mut dyn BootDisk, path: &str) -> Result<(), DiskError> {
    let (mut at, len) = (0, boot.len(path)?);
    while at < len {
        let zeroes = vec![0; (len - at).min(u64::from(CLEAR_BYTES)) as usize];
        boot.overwrite(path, at, &zeroes)?;
        at += zeroes.len() as u64;
    }
    boot.remove(path)
}

impl Recoverer<'_> {
    /// Writes what only slots have to its place, where the slots will not have it any more.
    pub(super) fn put_in_place(
        &mut self,
        path: &str,
        found: &FoundSegment,
        segment: &Segment,
    ) -> Result<(), RecoverError> {
        let block_of_end = segment.end - segment.end % BLOCK;
        for (block, _) in found.overlays() {
            let is_left = segment.sealed && block <= block_of_end;
            if block >= block_of_end && !is_left {
                continue;
            }
            let mut scanner = Scanner::new(self.boot, path, found.file_len, found.overlays());
            let mut bytes = scanner.bytes(block, BLOCK_BYTES).to_vec();
            let end = segment.end.saturating_sub(block) as usize;
            bytes.iter_mut().skip(end).for_each(|byte| *byte = 0);
            if self.boot.read(path, u64::from(block), BLOCK_BYTES)? != bytes {
                self.boot.overwrite(path, u64::from(block), &bytes)?;
            }
        }
        self.flush_again(path, found, block_of_end)
    }

    /// A lazy log may show what is only in the cache of the disk, and what a failed flush took is
    /// in it like the rest. It is written again, so that the slots do not say too much.
    fn flush_again(
        &mut self,
        path: &str,
        found: &FoundSegment,
        block_of_end: u32,
    ) -> Result<(), RecoverError> {
        let Some(head) = found.newest().map(|slot| &slot.head).filter(|head| head.lazy) else {
            return Ok(());
        };
        let mut at = head.durable_to - head.durable_to % BLOCK;
        while at < block_of_end {
            let len = CLEAR_BYTES.min(block_of_end - at);
            let bytes = self.boot.read(path, u64::from(at), len as usize)?;
            self.boot.overwrite(path, u64::from(at), &bytes)?;
            at += len;
        }
        // The slot itself too: the other one is written next, and may tear.
        let slot = SLOT_OFFSETS[(head.generation & 1) as usize];
        let bytes = self.boot.read(path, u64::from(slot), SLOT_BYTES)?;
        self.boot.overwrite(path, u64::from(slot), &bytes)?;
        Ok(())
    }

    /// What the slots say about the end, and how far behind it something may lie.
    pub(super) fn extent_of_last(&mut self, found: &FoundSegment) -> (Extent, u32) {
        let identity = found.header.identity;
        let valid = found.slots.iter().filter(|slot| slot.of(identity).is_some()).count();
        let blank = found.slots.iter().filter(|slot| **slot == SlotState::Blank).count();
        self.report.damaged_slots += (2 - valid - blank) as u32 + found.mended_slots;
        let Some(newest) = found.newest() else {
            return (Extent::Unknown, found.file_len);
        };
        let head = &newest.head;
        // A slot that does not hold was being written by a later commit.
        let frontier = if valid + blank < 2 { head.boundary } else { head.durable_to };
        let window = newest.head.block.saturating_add(COMMIT_BYTES_MAX + BLOCK);
        let window_end = if head.lazy { found.file_len } else { window };
        (Extent::Open { frontier, end: newest.end() }, window_end)
    }

    /// Overwrites the records that a commit which tore left behind the end, and what it left of
    /// records in the part of the file that was made of zeroes: the next start tells by zeroes what
    /// was not written. Returns where records that validate ended.
    pub(super) fn clear_behind(
        &mut self,
        path: &str,
        binding: Binding,
        end: u32,
        partial: &[u8],
        window_end: u32,
    ) -> Result<u32, RecoverError> {
        let mut scanner = Scanner::new(self.boot, path, window_end, Vec::new());
        let torn = scanner.last_end(binding, end, window_end);
        let mut at = end - end % BLOCK;
        let whole = window_end.min(CLEARED_BYTES).saturating_sub(end) as usize;
        let rest = scanner.bytes(end, whole);
        let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let used_to = torn.max(end + used as u32);
        let clear_to = if used_to > end { used_to.next_multiple_of(BLOCK) } else { at };
        while at < clear_to {
            let mut clear = vec![0; CLEAR_BYTES.min(clear_to - at) as usize];
            let kept = end.saturating_sub(at) as usize;
            if let Some(place) = clear.get_mut(..kept) {
                place.copy_from_slice(partial.get(..kept).unwrap_or_default());
            }
            self.boot.overwrite(path, u64::from(at), &clear)?;
            at += clear.len() as u32;
        }
        Ok(torn)
    }

    /// What is damaged in a segment that was dropped is needed by nobody.
    pub(super) fn forget_dropped(&mut self) {
        let dropped = &self.follower.dropped;
        self.follower.damage.retain(|damage| !dropped.contains(&damage.segment));
        self.report.damaged_headers.retain(|number| !dropped.contains(number));
    }

    /// Removes the files that Drop records name. What cannot be removed now is tried again at the
    /// next start.
    pub(super) fn finish_drops(&mut self) {
        for number in &self.follower.dropped {
            let _ = self.boot.remove(&segment_checkpoint_path(&self.options.dir, *number));
            let path = segment_path(&self.options.dir, *number);
            if self.follower.owner.is_to_be_erased(*number) {
                let doomed = doomed_path(&self.options.dir, *number);
                let _ = self.boot.rename(&path, &doomed).and_then(|()| erase(self.boot, &doomed));
            } else {
                let _ = self.boot.remove(&path);
            }
        }
    }

    /// Goes on with dropped segments that were being overwritten.
    pub(super) fn finish_erasing(&mut self) {
        for number in self.names.iter().filter_map(|name| number_of(name, ".del")) {
            let _ = erase(self.boot, &doomed_path(&self.options.dir, number));
        }
    }

    /// Moves a file out of the way, never away.
    pub(super) fn quarantine_file(&mut self, path: &str) -> Result<(), RecoverError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let target = format!("{}/quarantine/{name}", self.options.dir);
        self.boot.rename(path, &target)?;
        self.report.quarantined.push(target);
        Ok(())
    }

    /// Copies damaged bytes to where nothing changes them.
    pub(super) fn keep_copy(&mut self, damage: Damage) {
        let path = &segment_path(&self.options.dir, damage.segment);
        let dir = format!("{}/quarantine", self.options.dir);
        let name = format!("{}-{}.bin", damage.segment, damage.offset);
        let target = format!("{dir}/{name}");
        let is_kept = self.boot.list(&dir).is_ok_and(|names| names.contains(&name));
        let len = (damage.len as usize).min(COPY_BYTES_MAX);
        let bytes = self.boot.read(path, u64::from(damage.offset), len).unwrap_or_default();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let bytes = bytes.get(..end).unwrap_or_default();
        if is_kept || bytes.is_empty() || self.boot.replace(&target, bytes).is_err() {
            return;
        }
        self.report.quarantined.push(target);
    }

    /// Says in both slots where the log ends.
    pub(super) fn write_slots(
        &mut self,
        path: &str,
        segment: &mut Segment,
        partial: &[u8],
    ) -> Result<(), RecoverError> {
        let block = segment.end - segment.end % BLOCK;
        // The slot that is written first may be the only one that has the bytes of this block, and
        // the power may go in the middle of it.
        if !partial.is_empty() {
            let mut bytes = vec![0; BLOCK_BYTES];
            if let Some(place) = bytes.get_mut(..partial.len()) {
                place.copy_from_slice(partial);
            }
            if self.boot.read(path, u64::from(block), BLOCK_BYTES)? != bytes {
                self.boot.overwrite(path, u64::from(block), &bytes)?;
            }
        }
        for _ in 0..2 {
            segment.generation += 1;
            let head = SlotHead {
                identity: segment.identity,
                generation: segment.generation,
                block,
                durable_to: segment.end,
                boundary: segment.end,
                epoch: segment.epoch,
                lazy: self.options.durability != Durability::Flushed,
            };
            let mut bytes = vec![0; SLOT_BYTES];
            if let Some(place) = SlotHead::body_mut(&mut bytes).get_mut(..partial.len()) {
                place.copy_from_slice(partial);
            }
            head.encode(&mut bytes, partial.len());
            let offset = SLOT_OFFSETS[(segment.generation & 1) as usize];
            self.boot.overwrite(path, u64::from(offset), &bytes)?;
        }
        Ok(())
    }

    /// Overwrites again what was being erased when the end came. What is damaged there was no
    /// message any more.
    pub(super) fn redo_journals(
        &mut self,
        segments: &VecDeque<Segment>,
    ) -> Result<(), RecoverError> {
        for (number, incarnation, offset, len, edges) in std::mem::take(&mut self.follower.journals)
        {
            let is_its = |segment: &&Segment| {
                segment.number() == number && segment.identity.incarnation == incarnation
            };
            let Some(segment) = segments.iter().find(is_its) else { continue };
            let Some((from, image)) = blocks_from(offset, len, &edges) else { continue };
            if from as usize + image.len() > segment.file_len as usize {
                continue;
            }
            let path = segment_path(&self.options.dir, number);
            if self.boot.read(&path, u64::from(from), image.len())? != image {
                self.boot.overwrite(&path, u64::from(from), &image)?;
            }
            let is_erased = |damage: &Damage| {
                damage.segment == number
                    && damage.offset >= offset
                    && damage.offset + damage.len <= offset + len
            };
            self.follower.damage.retain(|damage| !is_erased(damage));
        }
        Ok(())
    }
}
