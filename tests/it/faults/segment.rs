//! Reads segment files as `docs/STORAGE.md` describes them, to know which byte is which. Written
//! from the document alone: that it finds the records is a test of the document, too.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where the slots begin, and the records.
pub(super) const SLOTS: [usize; 2] = [4096, 12_288];
const RECORDS: usize = 20_480;
/// Bytes of a slot before the bytes of the tail.
const SLOT_HEAD: usize = 64;

/// A record of a segment.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) kind: u8,
    /// The sequence of a message, the length of the key of a note.
    pub(super) number: u64,
    /// Where it lies, in bytes from the start of the segment.
    pub(super) at: Range<usize>,
}

/// A segment file of a stopped server.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    /// The same as the slots say it is.
    pub(super) log: Vec<u8>,
    pub(super) records: Vec<Record>,
    /// Where the unfinished block begins: from here on, the slots have the bytes.
    pub(super) block: usize,
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

impl Segment {
    /// The segment files of a stream, oldest first; files that were prepared and not used are
    /// left out.
    pub(super) fn all(dir: &Path) -> Vec<Self> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        paths.sort();
        paths.into_iter().filter_map(Self::read).collect()
    }

    fn read(path: PathBuf) -> Option<Self> {
        let bytes = std::fs::read(&path).unwrap();
        if !bytes.starts_with(b"SHWRSEG1") {
            return None;
        }
        let mut log = bytes.clone();
        let generation = |slot: usize| -> u64 {
            u64::from_le_bytes(bytes[slot + 24..slot + 32].try_into().unwrap())
        };
        let used = SLOTS.into_iter().filter(|slot| bytes[*slot..].starts_with(b"SHWRTAIL"));
        let newest = used.max_by_key(|slot| generation(*slot))?;
        let (mut block, len) = (number(&bytes, newest + 32), number(&bytes, newest + 36));
        let tail = newest + SLOT_HEAD..newest + SLOT_HEAD + len;
        log[block..block + len].copy_from_slice(&bytes[tail]);
        let mut segment = Self { path, bytes, log: Vec::new(), records: Vec::new(), block };
        let mut at = RECORDS;
        while at + 24 <= log.len() && number(&log, at) >= 24 {
            let len = number(&log, at);
            let number = u64::from_le_bytes(log[at + 8..at + 16].try_into().unwrap());
            segment.records.push(Record { kind: log[at + 4], number, at: at..at + len });
            at += len;
        }
        // A sealed segment has all of its bytes in their place.
        if segment.records.last().is_some_and(|record| record.kind == 11) {
            block = log.len();
        }
        (segment.block, segment.log) = (block, log);
        Some(segment)
    }

    /// The record of a message.
    pub(super) fn message(&self, seq: u64) -> &Record {
        let mut records = self.records.iter();
        records.find(|record| record.kind == 1 && record.number == seq).expect("it is there")
    }

    /// Sequences of the messages that lie, in part, in these bytes.
    pub(super) fn messages_in(&self, bytes: &Range<usize>) -> Vec<u64> {
        let touched = |record: &&Record| record.at.start < bytes.end && bytes.start < record.at.end;
        let messages = self.records.iter().filter(|record| record.kind == 1);
        messages.filter(touched).map(|record| record.number).collect()
    }

    /// Where the end of the log is.
    pub(super) fn end(&self) -> usize {
        self.records.last().map_or(RECORDS, |record| record.at.end)
    }

    /// Where the last two messages begin, and where the log ends.
    pub(super) fn last_two(&self) -> (usize, usize) {
        let messages = self.records.iter().filter(|record| record.kind == 1);
        let begin: Vec<usize> = messages.map(|record| record.at.start).collect();
        (begin[begin.len() - 2], self.end())
    }

    /// The positions in the file of a byte of the log: its own, or one in each slot.
    pub(super) fn places(&self, at: usize) -> Vec<usize> {
        if at < self.block {
            return vec![at];
        }
        let holds = |slot: &usize| number(&self.bytes, slot + 32) == self.block;
        let slots = SLOTS.into_iter().filter(holds);
        slots.map(|slot| slot + SLOT_HEAD + at - self.block).collect()
    }

    /// Flips bits of the byte at a position of the file.
    pub(super) fn flip(&mut self, place: usize) {
        self.bytes[place] ^= 0x41;
    }

    /// Flips bits of a byte of the log, wherever it is kept.
    pub(super) fn flip_everywhere(&mut self, at: usize) {
        self.places(at).into_iter().for_each(|place| self.flip(place));
    }

    /// Puts the bytes back into the file.
    pub(super) fn write(&self) {
        std::fs::write(&self.path, &self.bytes).unwrap();
    }
}
