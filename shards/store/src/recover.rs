//! A store in files at start: the index from its checkpoint and from the records behind it.

use crate::disk::BootDisk;
use crate::file::{FileLog, LAST_TIME, LOST_KEY, SegmentUse, enter, leave, location, pack};
use crate::index::chunk::{HAS_EXPIRY, HAS_HEADERS, HAS_MSG_ID};
use crate::index::image::{Reader, put_u32, put_u64};
use crate::index::{Index, NewEntry, Overhead};
use crate::log::{self, CheckpointUse, Location, Log, Record, RecoverError, Recovery, Report};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// As nats-server counts in files.
pub(crate) const FILE_OVERHEAD: Overhead = Overhead { message: 30, headers: 4 };

/// The mark that a message has a `Nats-Msg-Id`.
pub(crate) const MARK_MSG_ID: u8 = 1;

/// A fact that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredNote {
    /// Its key.
    pub key: Vec<u8>,
    /// The value that was put last; none when it could not be read.
    pub value: Option<Vec<u8>>,
    /// What was added since, in order.
    pub deltas: Vec<Vec<u8>>,
}

/// What was found at start.
#[derive(Debug)]
pub struct Recovered {
    /// The store, ready.
    pub store: Store,
    /// Facts, in no order.
    pub notes: Vec<RecoveredNote>,
    /// What was damaged or missing, and how it was read.
    pub report: Report,
    /// Messages that damage took or may have taken: first and last number of each range, without
    /// those that are known to be readable.
    pub lost: Vec<(u64, u64)>,
}

/// Follows the log.
#[derive(Debug)]
struct Follower {
    seed: u64,
    index: Index,
    uses: BTreeMap<u32, SegmentUse>,
    lost: Vec<(u64, u64)>,
    notes: Vec<RecoveredNote>,
    is_dirty: bool,
    mark_segment: Option<u32>,
    /// Messages in the covered segment on the way.
    seen: Vec<u64>,
    /// Everything below was purged behind the checkpoint.
    purged_below: u64,
    /// Messages that were there when a record said that they are to be overwritten: place, number
    /// and time. Those that were have no record any more.
    erasing: Vec<(u64, u64, i64)>,
}

impl Follower {
    /// Takes out what the index has in a segment, except what was seen there.
    fn forget_unseen(&mut self, segment: u32) {
        let seen = std::mem::take(&mut self.seen);
        let Some(used) = self.uses.get(&segment) else { return };
        let (mut at, last) = (used.first_seq, used.last_seq);
        while let Some(seq) = self.index.seqs().next(at).filter(|&seq| seq <= last) {
            let place = self.index.seqs().entry(seq).map(|entry| location(entry.location));
            let is_there = place.is_some_and(|place| place.segment == segment);
            if is_there && seen.binary_search(&seq).is_err() {
                self.take_out(seq, seq, &mut BTreeSet::new());
            }
            at = seq.saturating_add(1);
        }
    }

    fn take_message(&mut self, place: Location, message: &log::Message<'_>, is_covered: bool) {
        let packed = pack(place.segment, place.offset);
        if is_covered {
            self.seen.push(message.seq);
            let old = self.index.seqs().entry(message.seq);
            if let Some(old) = old.filter(|old| old.location != packed) {
                self.index.set_location(message.seq, packed);
                let segment = location(old.location).segment;
                leave(&mut self.uses, segment, old.size, &mut self.is_dirty);
                enter(&mut self.uses, place, message.seq, u64::from(old.size));
            }
            return;
        }
        if message.seq <= self.index.last_seq() {
            return;
        }
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let size = message.subject.len() + message.headers.len() + message.payload.len();
        enter(&mut self.uses, place, message.seq, size as u64);
        self.index.add(&NewEntry {
            seq: message.seq,
            subject: message.subject,
            location: packed,
            ts_ns: message.ts_ns,
            size: size as u32,
            flags: flag(!message.headers.is_empty(), HAS_HEADERS)
                | flag(message.marks & MARK_MSG_ID != 0, HAS_MSG_ID)
                | flag(message.expires_ns.is_some(), HAS_EXPIRY),
            expires_ns: message.expires_ns,
        });
    }

    /// Takes out the messages of a range; in which segments they lay is added to `from`.
    fn take_out(&mut self, first: u64, last: u64, from: &mut BTreeSet<u32>) {
        let mut at = first;
        while let Some(seq) = self.index.seqs().next(at).filter(|&seq| seq <= last) {
            if let Some((entry, _)) = self.index.remove(seq) {
                let segment = location(entry.location).segment;
                leave(&mut self.uses, segment, entry.size, &mut self.is_dirty);
                from.insert(segment);
            }
            at = seq.saturating_add(1);
        }
    }

    fn remove(&mut self, place: Location, ranges: impl Iterator<Item = (u64, u64)>) {
        let mut from = BTreeSet::new();
        for (first, last) in ranges {
            self.take_out(first, last, &mut from);
        }
        from.remove(&place.segment);
        if !from.is_empty() {
            self.uses.entry(place.segment).or_default().removes_from.extend(from);
        }
    }

    /// Notes what is to be overwritten; it is still in the index.
    fn note_erased(&mut self, ranges: impl Iterator<Item = (u64, u64)>) {
        for (first, last) in ranges {
            let mut at = first;
            while let Some(seq) = self.index.seqs().next(at).filter(|&seq| seq <= last) {
                if let Some(entry) = self.index.seqs().entry(seq) {
                    self.erasing.push((entry.location, seq, entry.ts_ns));
                }
                at = seq.saturating_add(1);
            }
        }
    }

    fn decode(&mut self, image: &[u8]) -> Option<()> {
        let mut reader = Reader(image);
        let index = Index::decode(&mut reader, self.seed, FILE_OVERHEAD)?;
        let mut uses = BTreeMap::new();
        for _ in 0..reader.count(60)? {
            let number = reader.u32()?;
            let mut used = SegmentUse {
                live: reader.u64()?,
                live_bytes: reader.u64()?,
                all_bytes: reader.u64()?,
                record_bytes: reader.u64()?,
                first_seq: reader.u64()?,
                last_seq: reader.u64()?,
                removes_from: BTreeSet::new(),
            };
            for _ in 0..reader.count(4)? {
                used.removes_from.insert(reader.u32()?);
            }
            uses.insert(number, used);
        }
        let mut lost = Vec::new();
        for _ in 0..reader.count(16)? {
            lost.push((reader.u64()?, reader.u64()?));
        }
        self.mark_segment = Some(reader.u32()?).filter(|&segment| segment > 0);
        (self.index, self.uses, self.lost) = (index, uses, lost);
        Some(())
    }
}

/// Writes down what [`Follower::decode`] reads.
pub(crate) fn encode(index: &mut Index, file: &FileLog) -> Vec<u8> {
    let mut out = Vec::with_capacity(index.heap_bytes());
    index.encode(&mut out);
    put_u64(&mut out, file.uses.len() as u64);
    for (&number, used) in &file.uses {
        put_u32(&mut out, number);
        for value in [
            used.live,
            used.live_bytes,
            used.all_bytes,
            used.record_bytes,
            used.first_seq,
            used.last_seq,
            used.removes_from.len() as u64,
        ] {
            put_u64(&mut out, value);
        }
        for &older in &used.removes_from {
            put_u32(&mut out, older);
        }
    }
    put_u64(&mut out, file.lost.len() as u64);
    for &(first, last) in &file.lost {
        put_u64(&mut out, first);
        put_u64(&mut out, last);
    }
    put_u32(&mut out, file.mark_segment.unwrap_or(0));
    out
}

impl Recovery for Follower {
    fn handle_checkpoint(&mut self, payload: &[u8]) -> bool {
        self.decode(payload).is_some()
    }

    fn handle_segment_checkpoint(&mut self, _: u32, _: &[u8]) -> bool {
        self.seen.clear();
        true
    }

    fn handle_record(&mut self, place: Location, record: &Record<'_>, is_covered: bool) {
        match record {
            Record::Message(message) => self.take_message(place, message, is_covered),
            // The first record of a segment.
            Record::Manifest { .. } if is_covered => self.seen.clear(),
            _ if is_covered => {}
            Record::Delete { ranges, erased } => {
                if *erased {
                    self.note_erased(ranges.iter());
                }
                self.remove(place, ranges.iter());
            }
            Record::Purge { below_seq } => {
                let last = below_seq.saturating_sub(1);
                self.purged_below = self.purged_below.max(*below_seq);
                self.remove(place, std::iter::once((0, last)));
                self.index.purged_to(last);
            }
            Record::Erased { seq, ts_ns, .. } if *seq > self.index.last_seq() => {
                self.index.skip_to(*seq);
                self.index.set_last_ts(*ts_ns);
            }
            Record::Skip { last_seq, .. } | Record::End { last_seq } => {
                self.index.skip_to(*last_seq);
            }
            Record::Manifest { next_seq, .. } => self.index.skip_to(next_seq.saturating_sub(1)),
            Record::Mark { number: LAST_TIME, bytes } => {
                if let Some(bytes) = bytes.first_chunk() {
                    self.index.set_last_ts(i64::from_le_bytes(*bytes));
                    self.mark_segment = Some(place.segment);
                }
            }
            _ => {}
        }
    }

    fn is_to_be_erased(&self, segment: u32) -> bool {
        self.erasing.iter().any(|&(packed, ..)| location(packed).segment == segment)
    }

    fn handle_rewritten(&mut self, segment: u32) {
        self.forget_unseen(segment);
    }

    fn handle_note(&mut self, key: &[u8], value: Option<&[u8]>, deltas: &[Vec<u8>]) {
        let value = value.map(<[u8]>::to_vec);
        self.notes.push(RecoveredNote { key: key.to_vec(), value, deltas: deltas.to_vec() });
    }
}

impl Store {
    /// Opens the stream in the directory of `options`. Damage is no error: it is in the report.
    ///
    /// # Errors
    /// When nothing of a stream is there, or when the disk does not answer.
    pub fn recover(
        options: log::Options,
        boot: &mut dyn BootDisk,
    ) -> Result<Recovered, RecoverError> {
        let found = Self::recover_once(options.clone(), boot)?;
        let is_lost = found.report.damaged_notes.iter().any(|key| (options.is_vital)(key));
        if !is_lost || found.report.checkpoint != CheckpointUse::Used {
            return Ok(found);
        }
        // The checkpoint points to the newest value; the records may have an older one.
        boot.remove(&format!("{}/index.chk", options.dir))?;
        Self::recover_once(options, boot)
    }

    fn recover_once(
        options: log::Options,
        boot: &mut dyn BootDisk,
    ) -> Result<Recovered, RecoverError> {
        let seed = options.uid;
        let mut follower = Follower {
            seed,
            index: Index::new(seed, FILE_OVERHEAD, 0),
            uses: BTreeMap::new(),
            lost: Vec::new(),
            notes: Vec::new(),
            is_dirty: false,
            mark_segment: None,
            seen: Vec::new(),
            purged_below: 0,
            erasing: Vec::new(),
        };
        let (mut log, report) = Log::recover(options, boot, &mut follower)?;
        // Segments that went after the checkpoint, with the records that say what was removed.
        let present: BTreeSet<u32> = log.segments().map(|(number, ..)| number).collect();
        let is_gone =
            |number: &&u32| !present.contains(number) && !report.missing_segments.contains(number);
        let gone: Vec<u32> = follower.uses.keys().filter(is_gone).copied().collect();
        for number in gone {
            follower.seen.clear();
            follower.forget_unseen(number);
            follower.uses.remove(&number);
        }
        for &(packed, seq, ts_ns) in &follower.erasing {
            log.resume_erasing(location(packed), seq, ts_ns);
        }
        let Follower { mut index, uses, mut lost, mut notes, mark_segment, .. } = follower;
        let noted = take_lost(&mut notes);
        lost.extend(noted.iter().flatten());
        lost.retain(|&(_, last)| last >= follower.purged_below);
        index.skip_to(log.next_seq().saturating_sub(1));
        for damage in &report.damage {
            if damage.first_seq <= damage.last_seq {
                lost.push((damage.first_seq, damage.last_seq));
            }
        }
        let mut file = FileLog::new(log, index.last_seq());
        file.uses = uses;
        file.mark_segment = mark_segment;
        file.lost = without_readable(lost, &index);
        file.set_bytes_since_checkpoint(report.bytes);
        file.lost_noted = noted.unwrap_or_default();
        file.note_lost();
        let lost = file.lost.clone();
        Ok(Recovered { store: Self::from_file(index, file), notes, report, lost })
    }
}

/// Takes what an earlier start found lost out of the facts.
fn take_lost(notes: &mut Vec<RecoveredNote>) -> Option<Vec<(u64, u64)>> {
    let at = notes.iter().position(|note| note.key == LOST_KEY)?;
    let bytes = notes.swap_remove(at).value?;
    let mut reader = Reader(&bytes);
    let mut lost = Vec::new();
    for _ in 0..reader.count(16)? {
        lost.push((reader.u64()?, reader.u64()?));
    }
    Some(lost)
}

/// The ranges without the messages that the index found elsewhere, joined.
fn without_readable(mut lost: Vec<(u64, u64)>, index: &Index) -> Vec<(u64, u64)> {
    lost.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::new();
    let mut from = 0;
    for (first, last) in lost {
        let last = last.min(index.last_seq());
        let mut at = first.max(from);
        while at <= last {
            let live = index.seqs().next(at).filter(|&live| live <= last);
            let end = live.unwrap_or(last + 1);
            if at < end {
                match out.last_mut() {
                    Some((_, before)) if *before + 1 == at => *before = end - 1,
                    _ => out.push((at, end - 1)),
                }
            }
            at = end + 1;
        }
        from = from.max(last + 1);
    }
    out
}
