//! What a shard's disk tells about itself.

use broker::monitor::TurnHistogram;

/// Counters since the start, and what is under way now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskFigures {
    /// Commits that succeeded.
    pub commits: u64,
    /// Flushes asked for alone that succeeded.
    pub syncs: u64,
    /// Reads that succeeded.
    pub reads: u64,
    /// Operations on names that succeeded: create, open, close, replace, rename, remove.
    pub names: u64,
    /// Bytes of commits that succeeded.
    pub written_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Operations that failed for want of space.
    pub no_space: u64,
    /// Operations that failed otherwise, without files that do not exist.
    pub errors: u64,
    /// Operations under way or waiting for others.
    pub in_flight: u64,
    /// Age of the oldest of them, ns; 0 without one. Much above a second: the disk is stuck.
    pub oldest_ns: u64,
    /// From submission of a commit or flush to its end.
    pub commit_times: TurnHistogram,
    /// From submission of a read to its end.
    pub read_times: TurnHistogram,
    /// From submission of an operation on names to its end.
    pub name_times: TurnHistogram,
    /// Segments ready for use: recycled, or filled ahead.
    pub spare_segments: u64,
    /// Files that are open.
    pub open_files: u64,
}
