//! Places in a log: where a record lies, and what lies between two records.

/// Where a record lies. Ordered as appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Number of the segment.
    pub segment: u32,
    /// First byte in its file.
    pub offset: u32,
    /// Bytes; 0 when not known.
    pub len: u32,
}

impl Location {
    /// The position behind the record.
    #[must_use]
    pub const fn end(&self) -> Position {
        Position { segment: self.segment, offset: self.offset.saturating_add(self.len) }
    }
}

/// A place between two records of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Number of the segment.
    pub segment: u32,
    /// Bytes from the beginning of its file.
    pub offset: u32,
}
