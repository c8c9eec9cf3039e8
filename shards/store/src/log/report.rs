//! What recovery found.

use crate::disk::DiskError;

/// Bytes of a segment that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u32,
    /// First damaged byte.
    pub offset: u32,
    /// Damaged bytes.
    pub len: u32,
    /// The first sequence that may have been there.
    pub first_seq: u64,
    /// The last one; below `first_seq` when no message was there. Sequences that had been deleted
    /// or skipped before may be among them.
    pub last_seq: u64,
}

/// What became of the checkpoint of the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointUse {
    /// There was none.
    #[default]
    Absent,
    /// It did not validate.
    Damaged,
    /// It does not belong to this state of the log, or the owner did not take it.
    Stale,
    /// Everything before its position was taken from it.
    Used,
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Damage in what should be whole.
    pub damage: Vec<Damage>,
    /// Numbers of segments that should be there and are not.
    pub missing_segments: Vec<u32>,
    /// Files that were put into quarantine, and copies of damaged bytes.
    pub quarantined: Vec<String>,
    /// Bytes at the end of the log that no acknowledgement covered and that were dropped.
    pub truncated_bytes: u64,
    /// No tail slot was readable: acknowledged records at the end may be missing.
    pub tail_unknown: bool,
    /// Segments one or both copies of whose header were damaged.
    pub damaged_headers: Vec<u32>,
    /// Tail slots that do not hold although one should.
    pub damaged_slots: u32,
    /// Blocks that the disk did not give, and the last reason.
    pub unreadable_blocks: u64,
    /// See `unreadable_blocks`.
    pub read_error: Option<DiskError>,
    /// The checkpoint of the whole.
    pub checkpoint: CheckpointUse,
    /// Segments whose records were not read because of their checkpoint.
    pub segments_skipped: u32,
    /// Records that were read.
    pub records: u64,
    /// Bytes of records that were read.
    pub bytes: u64,
    /// Notes of which a part is damaged or missing.
    pub damaged_notes: Vec<Vec<u8>>,
    /// Vital notes of which one copy is damaged, and the other was read.
    pub damaged_copies: Vec<Vec<u8>>,
    /// Vital notes that were read, but damage behind them may have held both copies of a newer
    /// value.
    pub doubtful_notes: Vec<Vec<u8>>,
}

impl Report {
    /// True when nothing that was acknowledged is damaged or missing.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.damage.is_empty()
            && self.missing_segments.is_empty()
            && self.damaged_notes.is_empty()
            && !self.tail_unknown
    }
}
