//! The log at start: what is there, what of it is whole, and where it goes on.
//! The rules are in `docs/STORAGE.md`, section Recovery.

use std::collections::{BTreeMap, VecDeque};

use super::checkpoint::{Checkpoint, index_path};
use super::follow::Follower;
use super::found::{FoundSegment, slots_of};
use super::header::{DATA_START, Header, Identity, SLOT_BYTES, SLOT_OFFSETS, Slot, SlotState};
use super::keys::{SegmentKey, open_checkpoint};
use super::record::{Record, u64_at};
use super::report::{CheckpointUse, Report};
use super::scan::{Extent, Found, ScanEnd, Scanner};
use super::segment::{FileState, Segment, number_of, segment_checkpoint_path, segment_path};
use super::{Location, Log, Options};
use crate::disk::{BLOCK_BYTES, BootDisk, DiskError};

pub(super) const BLOCK: u32 = BLOCK_BYTES as u32;
/// Incarnations that are tried when neither header nor slots tell.
const INCARNATIONS_TRIED: u32 = 64;

/// Why there is no log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The directory holds nothing of a log.
    #[error("no log there")]
    Empty,
    /// A segment is encrypted, and with no key that is configured. Nothing was changed.
    #[error("stream {stream:?} of account {account:?} is encrypted with another key")]
    Key {
        /// As the header of the segment has it.
        account: String,
        /// As the header of the segment has it.
        stream: String,
    },
    /// The disk does not answer as it must.
    #[error("{0}")]
    Disk(#[from] DiskError),
}

/// The owner of the log while it is recovered. Calls come in this order: the checkpoint of the
/// whole, then segments from the oldest on, each with its checkpoint or its records, then notes.
pub trait Recovery {
    /// What the owner gave to [`Log::write_checkpoint`]. False when it is of no use: then
    /// everything is replayed.
    fn handle_checkpoint(&mut self, payload: &[u8]) -> bool;

    /// What the owner gave to [`Log::write_segment_checkpoint`], after `handle_checkpoint` was
    /// true. False when it is of no use: then the records of the segment follow.
    fn handle_segment_checkpoint(&mut self, segment: u32, payload: &[u8]) -> bool;

    /// A record of the log. `is_covered` for records that the checkpoint of the whole knows: the
    /// place of a message is new, but what deletes did is not.
    fn handle_record(&mut self, location: Location, record: &Record<'_>, is_covered: bool);

    /// Whether a message lies in a segment that was removed and that is to be overwritten, if that
    /// was not done. Asked when all records were given.
    fn is_to_be_erased(&self, segment: u32) -> bool;

    /// The segment was written anew after the checkpoint of the whole, and all its records were
    /// given: what the checkpoint has in it beside them had been removed by then.
    fn handle_rewritten(&mut self, segment: u32);

    /// A note and the changes after it. Without a value when that could not be read.
    fn handle_note(&mut self, key: &[u8], value: Option<&[u8]>, deltas: &[Vec<u8>]);
}

/// What the checkpoint of the whole covers.
#[derive(Clone, Copy)]
struct Covered {
    segment: u32,
    offset: u32,
    anchor: u32,
}

/// Recovery under way.
pub(super) struct Recoverer<'a> {
    pub(super) options: Options,
    pub(super) boot: &'a mut dyn BootDisk,
    pub(super) report: Report,
    pub(super) follower: Follower<'a>,
    pub(super) names: Vec<String>,
    /// Of the segments, when the checkpoint was written.
    incarnations: BTreeMap<u32, u32>,
}

impl Log {
    /// What the headers in `dir` say about the stream there: uid, account, name. When no header
    /// is readable, the slots know the uid, and the directory has the names if they are plain.
    ///
    /// # Errors
    /// `Empty` when neither is there, or what the disk says when it does not give them.
    pub fn identify(
        dir: &str,
        boot: &mut dyn BootDisk,
    ) -> Result<(u64, Vec<u8>, Vec<u8>), RecoverError> {
        let mut names = boot.list(dir)?;
        names.retain(|name| number_of(name, ".seg").is_some());
        let mut failed = None;
        for name in &names {
            let block = boot.read(&format!("{dir}/{name}"), 0, BLOCK_BYTES);
            failed = failed.or(block.as_ref().err().copied());
            if let Some(header) = block.ok().and_then(|block| Header::decode(&block)) {
                return Ok((header.identity.uid, header.account, header.stream));
            }
        }
        for name in &names {
            let uid = SLOT_OFFSETS.into_iter().find_map(|offset| {
                let path = format!("{dir}/{name}");
                let slot = boot.read(&path, u64::from(offset), SLOT_BYTES).ok()?;
                match SlotState::parse(&slot) {
                    SlotState::Valid(slot) => Some(slot.head.identity.uid),
                    _ => None,
                }
            });
            if let (Some(uid), Some((account, stream))) = (uid, names_in(dir)) {
                return Ok((uid, account.into(), stream.into()));
            }
        }
        // What cannot be read may be there.
        Err(failed.map_or(RecoverError::Empty, RecoverError::Disk))
    }

    /// Opens the log in the directory of `options`, whose `uid` must be that of the stream.
    /// Damage is no error: it is in the report.
    ///
    /// # Errors
    /// `Empty` when there is nothing that was ever used, or what the disk says.
    pub fn recover(
        options: Options,
        boot: &mut dyn BootDisk,
        owner: &mut dyn Recovery,
    ) -> Result<(Self, Report), RecoverError> {
        let names = boot.list(&options.dir)?;
        let recoverer = Recoverer {
            options,
            boot,
            report: Report::default(),
            follower: Follower::new(owner),
            names,
            incarnations: BTreeMap::new(),
        };
        recoverer.run()
    }
}

/// The account and the stream of `<account>/streams/<stream>`, unless they are written as hashes.
fn names_in(dir: &str) -> Option<(&str, &str)> {
    let (account, stream) = dir.split_once("/streams/")?;
    (!account.starts_with('%') && !stream.starts_with('%')).then_some((account, stream))
}

impl Recoverer<'_> {
    fn run(mut self) -> Result<(Log, Report), RecoverError> {
        self.check_keys()?;
        let found = self.find_segments()?;
        let last_number = found.last().map(|last| last.number).ok_or(RecoverError::Empty)?;
        let index = self.read_index(&found);
        let mut segments = VecDeque::new();
        let (mut tail_at, mut tail) = (0, Vec::new());
        for segment in &found {
            if self.follower.is_left_over(segment.number) {
                self.follower.dropped.insert(segment.number);
                continue;
            }
            self.follower.enter(segment.number);
            let recovered = if segment.number == last_number {
                let (recovered, start, bytes) = self.recover_last(segment, index)?;
                (tail_at, tail) = (start, bytes);
                recovered
            } else {
                self.recover_sealed(segment, index)
            };
            segments.push_back(recovered);
        }
        self.follower.finish();
        for segment in &segments {
            if self.follower.is_left_over(segment.number()) {
                self.follower.dropped.insert(segment.number());
            }
        }
        segments.retain(|segment| !self.follower.dropped.contains(&segment.number()));
        self.forget_dropped();
        self.finish_drops();
        self.redo_journals(&segments)?;
        for damage in std::mem::take(&mut self.follower.damage) {
            self.keep_copy(damage);
            self.follower.damage.push(damage);
        }
        self.report.missing_segments = self.follower.missing(&segments);
        self.hand_out_notes(&segments, (last_number, tail_at, &tail));
        let single = self.single_notes();
        self.report.damage = std::mem::take(&mut self.follower.damage);
        let unknown_epoch = self.report.tail_unknown && self.options.encryption.is_some();
        let ends_sealed = segments.back().is_none_or(|segment| segment.sealed);
        let is_bare = segments.back().is_some_and(|segment| segment.end == DATA_START);
        let mut log =
            Log::assemble(self.options, segments, self.follower.next_seq, self.follower.notes);
        log.has_files = true;
        if ends_sealed {
            log.begin_after(last_number);
        } else {
            log.tail.load(last_number, tail_at, &tail);
        }
        log.want_twins(single);
        if is_bare {
            log.append_manifest();
        }
        let is_current = match (&log.options.encryption, &log.last().header) {
            (Some(encryption), header) => encryption.is_current(header),
            (None, header) => header.cipher == 0,
        };
        if !is_current || unknown_epoch {
            // What comes is written with the key of now, and never twice with one nonce.
            log.roll(0);
        }
        Ok((log, self.report))
    }

    /// Before anything is changed: every segment whose header is readable can be opened.
    fn check_keys(&mut self) -> Result<(), RecoverError> {
        let numbers = self.names.iter().filter_map(|name| number_of(name, ".seg"));
        for number in numbers {
            let path = segment_path(&self.options.dir, number);
            let block = self.boot.read(&path, 0, BLOCK_BYTES).unwrap_or_default();
            let Some(header) = Header::decode(&block) else { continue };
            let is_ours = header.identity.uid == self.options.uid;
            let encryption = self.options.encryption.as_deref();
            if is_ours && SegmentKey::of(&header, encryption).is_err() {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (account, stream) = (text(&header.account), text(&header.stream));
                return Err(RecoverError::Key { account, stream });
            }
        }
        Ok(())
    }

    /// Reads header and slots of every segment that was used.
    fn find_segments(&mut self) -> Result<Vec<FoundSegment>, RecoverError> {
        let mut numbers: Vec<u32> =
            self.names.iter().filter_map(|name| number_of(name, ".seg")).collect();
        numbers.sort_unstable();
        for name in self.names.iter().filter(|name| number_of(name, ".cmp").is_some()) {
            // A segment that was being written anew; the old one is there.
            self.boot.remove(&format!("{}/{name}", self.options.dir))?;
        }
        self.finish_erasing();
        let mut found = Vec::new();
        let mut unused = Vec::new();
        let mut failed = None;
        for number in numbers {
            let path = segment_path(&self.options.dir, number);
            let file_len = self.whole_len(&path)?;
            let (start, error) = self.read_start(&path, file_len.min(DATA_START + BLOCK));
            match self.look_at(number, file_len, &start) {
                Some(segment) if segment.is_used(&start) || self.hides_records(&segment) => {
                    if !segment.header_is_whole {
                        self.report.damaged_headers.push(number);
                    }
                    found.push(segment);
                    failed = error;
                }
                Some(_) if error.is_none() => unused.push(number),
                None if error.is_none() && start.iter().all(|byte| *byte == 0) => {
                    unused.push(number)
                }
                // Zeroes in place of what the disk does not give are no proof of anything.
                _ => match error {
                    Some(error) => return Err(error.into()),
                    None => self.quarantine_file(&path)?,
                },
            }
        }
        if let Some(error) = failed {
            // The end of the log cannot be told: a disk that answers tells it.
            return Err(error.into());
        }
        let last = found.last().ok_or(RecoverError::Empty)?.number;
        for number in unused {
            let path = segment_path(&self.options.dir, number);
            if number < last {
                // A blank file among used ones was not blank.
                self.quarantine_file(&path)?;
            } else {
                self.boot.remove(&path)?;
            }
        }
        Ok(found)
    }

    /// Whether a file that seems never to have been used has records all the same. One that is
    /// as it was prepared has none.
    fn hides_records(&mut self, found: &FoundSegment) -> bool {
        let is_as_prepared =
            found.header_is_whole && found.newest().is_some() && found.valid_slots().count() == 1;
        if is_as_prepared {
            return false;
        }
        let path = segment_path(&self.options.dir, found.number);
        let mut scanner = Scanner::new(self.boot, &path, found.file_len, Vec::new());
        scanner.has_records(found.header.identity.binding(), DATA_START)
    }

    /// The length of a file. One that was cut becomes as long again as its header says, so that
    /// blocks are whole and there is a place to go on; what was cut off is damage, found later.
    fn whole_len(&mut self, path: &str) -> Result<u32, RecoverError> {
        let len = self.boot.len(path)?;
        let block = self.boot.read(path, 0, BLOCK_BYTES).unwrap_or_default();
        let made = Header::decode(&block).map_or(0, |header| header.file_len);
        let last = made.saturating_sub(u64::from(BLOCK)).max(len);
        let lacks = made.saturating_sub(last).min(u64::from(BLOCK)) as usize;
        let is_whole = lacks == 0 || self.boot.overwrite(path, last, &vec![0; lacks]).is_ok();
        let len = if is_whole { len.max(made) } else { len };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Ok(len - len % BLOCK)
    }

    /// Header, slots and first block, and why not all of it could be read.
    fn read_start(&mut self, path: &str, len: u32) -> (Vec<u8>, Option<DiskError>) {
        let mut scanner = Scanner::new(self.boot, path, len, Vec::new());
        let start = scanner.bytes(0, len as usize).to_vec();
        self.report.unreadable_blocks += scanner.unreadable;
        self.report.read_error = self.report.read_error.or(scanner.read_error);
        (start, scanner.read_error)
    }

    /// Whose file it is, from its header, a slot, or the first record.
    fn look_at(&mut self, number: u32, file_len: u32, start: &[u8]) -> Option<FoundSegment> {
        let (slots, mended_slots) = slots_of(start);
        let block = start.get(..BLOCK_BYTES).unwrap_or_default();
        let header = Header::decode(block);
        let header_is_whole = Header::is_whole(block);
        let uid = self.options.uid;
        let is_ours = |identity: &Identity| identity.uid == uid && identity.segment == number;
        let from_slots = || {
            slots.iter().find_map(|slot| match slot {
                SlotState::Valid(slot) => Some(slot.head.identity),
                _ => None,
            })
        };
        let from_record = || {
            let first = start.get(DATA_START as usize..)?;
            (1..=INCARNATIONS_TRIED)
                .map(|incarnation| Identity { uid, segment: number, incarnation })
                .find(|identity| {
                    super::Head::parse(first, identity.binding(), DATA_START).is_some()
                })
        };
        let identity = header.as_ref().map(|header| header.identity);
        let identity = identity.or_else(from_slots).or_else(from_record).filter(is_ours)?;
        let header = header.unwrap_or_else(|| {
            let mut header = Header {
                identity,
                file_len: u64::from(file_len),
                cipher: 0,
                key_mark: 0,
                salt: [0; 32],
                account: self.options.account.clone(),
                stream: self.options.stream.clone(),
            };
            if let Some(encryption) = &self.options.encryption {
                // Of segments that were written with the key of now the salt can be told.
                encryption.head(&mut header);
            }
            header
        });
        Some(FoundSegment { number, header, file_len, slots, header_is_whole, mended_slots })
    }

    /// The position that the checkpoint of the whole covers and its anchor, if it is of use.
    fn read_index(&mut self, found: &[FoundSegment]) -> Option<Covered> {
        let path = index_path(&self.options.dir);
        if !self.names.iter().any(|name| name == "index.chk") {
            return None;
        }
        let len = self.boot.len(&path).ok().and_then(|len| usize::try_from(len).ok());
        let bytes = len.and_then(|len| self.boot.read(&path, 0, len).ok()).unwrap_or_default();
        self.report.checkpoint = CheckpointUse::Damaged;
        let taken = self.take_index(&bytes, found);
        if taken.is_some() {
            self.report.checkpoint = CheckpointUse::Used;
        } else {
            // Later records could make it look right again.
            let _ = self.boot.remove(&path);
        }
        taken
    }

    fn take_index(&mut self, bytes: &[u8], found: &[FoundSegment]) -> Option<Covered> {
        let encryption = self.options.encryption.as_deref();
        let opened = open_checkpoint(encryption, self.options.uid, bytes);
        let checkpoint = Checkpoint::decode(opened.as_deref().unwrap_or(bytes), self.options.uid)?;
        let notes = checkpoint.notes()?;
        self.report.checkpoint = CheckpointUse::Stale;
        let segment = found.iter().find(|segment| segment.number == checkpoint.segment)?;
        let (offset, anchor) = (checkpoint.extra, checkpoint.anchor);
        if offset > segment.file_len || offset < DATA_START + 8 || anchor > offset {
            return None;
        }
        let path = segment_path(&self.options.dir, segment.number);
        let overlays = segment.overlays();
        let mut scanner = Scanner::new(self.boot, &path, segment.file_len, overlays);
        if u64_at(scanner.bytes(offset - 8, 8), 0)? != checkpoint.last_sum {
            return None;
        }
        if !self.follower.owner.handle_checkpoint(checkpoint.payload) {
            return None;
        }
        self.follower.notes = notes;
        self.follower.next_seq = checkpoint.next_seq;
        self.incarnations = checkpoint.incarnations().collect();
        self.follower.expect(checkpoint.segment, self.incarnations.keys().copied().collect());
        Some(Covered { segment: segment.number, offset, anchor })
    }

    fn recover_sealed(&mut self, found: &FoundSegment, index: Option<Covered>) -> Segment {
        let is_covered = index.is_some_and(|index| found.number < index.segment);
        let mut segment = self.segment_of(found, found.file_len);
        segment.sealed = true;
        let incarnation = found.header.identity.incarnation;
        let is_as_it_was = self.incarnations.get(&found.number) == Some(&incarnation);
        if is_covered && is_as_it_was && self.take_segment_checkpoint(found) {
            self.report.segments_skipped += 1;
            return segment;
        }
        let from = match index {
            Some(index) if index.segment == found.number => index.offset,
            _ => DATA_START,
        };
        let end = self.scan(found, (from, from), Extent::Sealed, is_covered);
        if is_covered && !is_as_it_was {
            self.follower.relocate_notes(found.number);
            self.follower.owner.handle_rewritten(found.number);
        }
        self.follower.moved_notes.clear();
        segment.end = end.end;
        segment
    }

    fn segment_of(&self, found: &FoundSegment, end: u32) -> Segment {
        let header = found.header.clone();
        let encryption = self.options.encryption.as_deref();
        Segment::found(header, found.file_len, end, FileState::Closed, encryption)
    }

    fn take_segment_checkpoint(&mut self, found: &FoundSegment) -> bool {
        let path = segment_checkpoint_path(&self.options.dir, found.number);
        let len = self.boot.len(&path).ok().and_then(|len| usize::try_from(len).ok());
        let Some(bytes) = len.and_then(|len| self.boot.read(&path, 0, len).ok()) else {
            return false;
        };
        let Some(checkpoint) = Checkpoint::decode(&bytes, self.options.uid) else { return false };
        checkpoint.segment == found.number
            && checkpoint.extra == found.header.identity.incarnation
            && self.follower.owner.handle_segment_checkpoint(found.number, checkpoint.payload)
    }

    /// Goes through the records of one segment.
    fn scan(
        &mut self,
        found: &FoundSegment,
        from: (u32, u32),
        extent: Extent,
        is_covered: bool,
    ) -> ScanEnd {
        let path = segment_path(&self.options.dir, found.number);
        let overlays = if extent == Extent::Sealed { Vec::new() } else { found.overlays() };
        let binding = found.header.identity.binding();
        let mut scanner = Scanner::new(self.boot, &path, found.file_len, overlays);
        let follower = &mut self.follower;
        let key = SegmentKey::of(&found.header, self.options.encryption.as_deref());
        let key = key.unwrap_or_default();
        let mut sink =
            |item: Found<'_>| follower.handle(found.number, key.as_deref(), is_covered, &item);
        let end = scanner.scan(binding, from, extent, &mut sink);
        self.report.unreadable_blocks += scanner.unreadable;
        self.report.read_error = self.report.read_error.or(scanner.read_error);
        self.report.records += end.records;
        self.report.bytes += end.bytes;
        end
    }

    /// Finds the end of the log and makes it a place where it can go on.
    fn recover_last(
        &mut self,
        found: &FoundSegment,
        index: Option<Covered>,
    ) -> Result<(Segment, u32, Vec<u8>), RecoverError> {
        let identity = found.header.identity;
        let (extent, window_end) = self.extent_of_last(found);
        let from = match index {
            Some(index) if index.segment == found.number => (index.offset, index.anchor),
            _ => (DATA_START, DATA_START),
        };
        let scanned = self.scan(found, from, extent, false);
        let end = scanned.end;
        // A sealed segment says itself where it ends; an erase takes its slots away.
        if extent == Extent::Unknown && !scanned.sealed {
            self.report.tail_unknown = true;
            self.follower.lose_tail(found.number, end);
        }
        let newest = found.newest();
        let mut segment = self.segment_of(found, end);
        segment.sealed = scanned.sealed;
        segment.anchor = scanned.anchor.min(end - end % BLOCK);
        let step = self.options.encryption.as_ref().map_or(1, |of| of.epoch_step());
        let epoch = newest.map_or(0, |slot| slot.head.epoch);
        segment.epoch = epoch.saturating_add(step);
        segment.generation = found.generation_before_mending(end);
        let path = segment_path(&self.options.dir, found.number);
        let start = segment.anchor;
        let mut scanner = Scanner::new(self.boot, &path, found.file_len, found.overlays());
        let tail = scanner.bytes(start, (end - start) as usize).to_vec();
        self.put_in_place(&path, found, &segment)?;
        if !found.header_is_whole || segment.sealed {
            // This flushes what a process that was killed had not.
            self.boot.overwrite(&path, 0, &found.header.encode())?;
        }
        if segment.sealed {
            return Ok((segment, start, tail));
        }
        let block = end - end % BLOCK;
        let partial = tail.get((block - start) as usize..).unwrap_or_default().to_vec();
        let window_end = window_end.min(found.file_len);
        let torn = self.clear_behind(&path, identity.binding(), end, &partial, window_end)?;
        let slot_end = newest.map_or(end, Slot::end);
        self.report.truncated_bytes += u64::from(torn.max(slot_end).saturating_sub(end));
        let is_settled = found.slots.iter().all(|slot| {
            slot.of(identity).is_some_and(|slot| slot.end() == end && slot.head.epoch > 0)
        });
        let is_settled = is_settled && newest.is_some_and(|slot| slot.head.durable_to == end);
        // Torn bytes were sealed with the epoch before and may have been seen.
        let is_settled = is_settled && found.mended_slots == 0;
        if is_settled && torn <= end && segment.key.is_none() {
            segment.epoch = epoch;
            return Ok((segment, start, tail));
        }
        self.write_slots(&path, &mut segment, &partial)?;
        Ok((segment, start, tail))
    }
}
