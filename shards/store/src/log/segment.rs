//! One segment file as the log sees it while it runs.

use std::sync::Arc;

use super::bind::Binding;
use super::header::{DATA_START, Header, Identity};
use super::keys::{Encryption, SegmentKey};
use super::record::OVERHEAD_BYTES;
use super::{Location, Options};
use crate::disk::{BLOCK_BYTES, FileId};

/// How far the file of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileState {
    /// To be created.
    Absent,
    /// Being created.
    Making(FileId),
    /// Created; its header is not written yet.
    Bare(FileId),
    /// Its header is being written.
    Heading(FileId),
    /// There, not open.
    Closed,
    /// Being opened.
    Opening(FileId),
    /// Ready.
    Open(FileId),
}

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) identity: Identity,
    pub(super) binding: Binding,
    pub(super) header: Header,
    /// Bytes that the file has or is to have, a multiple of the block size.
    pub(super) file_len: u32,
    /// Bytes of the file that was made; differs from `file_len` when that was too short.
    pub(super) made_len: u32,
    /// Where the next record goes.
    pub(super) end: u32,
    /// Where the record begins that reaches into the last block; never behind that block.
    pub(super) anchor: u32,
    /// The End record is appended.
    pub(super) sealed: bool,
    pub(super) state: FileState,
    /// Of the newest slot on disk.
    pub(super) generation: u64,
    pub(super) epoch: u32,
    /// What its records are sealed with.
    pub(super) key: Option<Arc<SegmentKey>>,
    /// Reads under way.
    pub(super) reads: u32,
    /// When it was last read, in reads of the log.
    pub(super) used_at: u64,
}

impl Segment {
    /// A segment that does not exist yet, the `count`th that is made.
    pub(super) fn new(options: &Options, number: u32, file_len: u32, count: u32) -> Self {
        let identity = Identity { uid: options.uid, segment: number, incarnation: 1 };
        let mut header = Header {
            identity,
            file_len: u64::from(file_len),
            cipher: 0,
            key_mark: 0,
            salt: [0; 32],
            account: options.account.clone(),
            stream: options.stream.clone(),
        };
        let encryption = options.encryption.as_deref();
        if let Some(encryption) = encryption {
            encryption.head(&mut header);
        }
        let mut segment = Self::found(header, file_len, DATA_START, FileState::Absent, encryption);
        segment.epoch = encryption.map_or(0, |encryption| encryption.first_epoch(count));
        segment
    }

    /// Makes do with a quarter of the length, but not less than `least` and what is to be written
    /// already; false when that is no shorter.
    pub(super) fn shrink(&mut self, least: u32) -> bool {
        let block = BLOCK_BYTES as u32;
        let used = self.end.saturating_add(OVERHEAD_BYTES as u32);
        let file_len = (self.file_len / 4).max(used).next_multiple_of(block).max(least);
        let is_shorter = file_len < self.file_len;
        if is_shorter {
            self.file_len = file_len;
            self.header.file_len = u64::from(file_len);
        }
        is_shorter
    }

    /// A segment whose file exists.
    /// A key that is not there was found out before.
    pub(super) fn found(
        header: Header,
        file_len: u32,
        end: u32,
        state: FileState,
        encryption: Option<&Encryption>,
    ) -> Self {
        let identity = header.identity;
        let key = SegmentKey::of(&header, encryption).unwrap_or_default();
        Self {
            identity,
            binding: identity.binding(),
            header,
            file_len,
            made_len: file_len,
            end,
            anchor: end,
            sealed: false,
            state,
            generation: 0,
            epoch: 0,
            key,
            reads: 0,
            used_at: 0,
        }
    }

    pub(super) const fn number(&self) -> u32 {
        self.identity.segment
    }

    /// A record of `len` bytes was put at the end.
    pub(super) const fn grow(&mut self, len: u32) {
        let end = self.end + len;
        if anchors(self.end, end) {
            self.anchor = self.end;
        }
        self.end = end;
    }

    /// Bytes for records that are left.
    pub(super) const fn room(&self) -> u32 {
        self.file_len.saturating_sub(self.end)
    }

    /// The file, when it is open and as long as it has to be.
    pub(super) const fn open_file(&self) -> Option<FileId> {
        match self.state {
            FileState::Open(file) if self.made_len == self.file_len => Some(file),
            _ => None,
        }
    }

    pub(super) const fn location(&self, len: usize) -> Location {
        Location { segment: self.identity.segment, offset: self.end, len: len as u32 }
    }
}

/// Whether a record from `start` to `end` holds the first byte of the block that `end` is in.
pub(super) const fn anchors(start: u32, end: u32) -> bool {
    let block = BLOCK_BYTES as u32;
    start.is_multiple_of(block) || start / block != end / block
}

/// The path of a segment.
pub(super) fn segment_path(dir: &str, number: u32) -> String {
    format!("{dir}/{number:020}.seg")
}

/// The path of the checkpoint of a segment.
pub(super) fn segment_checkpoint_path(dir: &str, number: u32) -> String {
    format!("{dir}/{number:020}.chk")
}

/// The path of a segment that is being written anew.
pub(super) fn compacted_path(dir: &str, number: u32) -> String {
    format!("{dir}/{number:020}.cmp")
}

/// The path of a dropped segment that is being overwritten.
pub(super) fn doomed_path(dir: &str, number: u32) -> String {
    format!("{dir}/{number:020}.del")
}

/// The number in the name of a segment, or of its checkpoint with the other `suffix`.
pub(super) fn number_of(name: &str, suffix: &str) -> Option<u32> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0)
}
