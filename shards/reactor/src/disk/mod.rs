//! The disk of a shard: carries out the store's operations and never lets the shard wait.
//!
//! ```text
//!            submit(ops)                                    take_done
//!  store ──────────────► Disk ── Commit, Sync, Read ──► ring ──► land ──► store
//!                          │                             ▲ the shard's own io_uring
//!                          └──── Create, Open, Rename… ──► helper ──► results + bell
//!                                                          one thread, one operation at a time
//! ```
//!
//! Operations on data go to the shard's io_uring, many files at once. Operations on names may
//! block in the kernel for long and go to one helper thread, in order. Of one file, commits and
//! flushes run one after the other, in the order of the queue; reads may overtake them; everything
//! waits for the file's opening, and its closing waits for everything.
//!
//! Before anything is served, [`BootFs`] answers recovery with plain blocking calls.

mod boot;
mod driver;
mod faults;
mod figures;
mod files;
mod fill;
mod helper;
mod jobs;
mod names;
mod pool;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use store::disk::DiskError;

pub use boot::{BootFs, StoreLock};
pub use driver::Disk;
pub use faults::{FAULTS_VARIABLE, FaultError, Faults};
pub use figures::DiskFigures;

/// What a shard's disk is opened with.
#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// The directory of the store; made when it is missing.
    pub store_dir: PathBuf,
    /// Number of the shard.
    pub shard: usize,
    /// How many shards there are. Spare files of shards beyond are removed by shard 0.
    pub shards: usize,
    /// Size of a full segment, bytes: files of this size are recycled.
    pub segment_bytes: u64,
    /// Removed segments kept for new use, of each shard.
    pub recycled_max: usize,
    /// Segments filled with zeroes ahead of need, of each shard, once a full one was asked for.
    pub spare_min: usize,
    /// Requests in the kernel at once, of all shards together; each has its part of it, at least
    /// one and at most 1024.
    pub requests_max: usize,
    /// Past the page cache where the file system allows it.
    pub direct: bool,
    /// Errors to make, for tests.
    pub faults: Option<Faults>,
}

impl DiskSettings {
    /// The usual settings for one shard of one.
    #[must_use]
    pub fn new(store_dir: PathBuf) -> Self {
        Self {
            store_dir,
            shard: 0,
            shards: 1,
            segment_bytes: 64 << 20,
            recycled_max: 4,
            spare_min: 1,
            requests_max: 4096,
            direct: true,
            faults: None,
        }
    }
}

/// How files with [`Access::Direct`](store::disk::Access::Direct) are really opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectMode {
    /// With `O_DIRECT`; positions and lengths must be multiples of so many bytes.
    Direct {
        /// Bytes.
        align: u32,
    },
    /// Through the page cache, because the file system refuses `O_DIRECT` or wants an alignment
    /// above [`BLOCK_BYTES`](store::disk::BLOCK_BYTES). Commits are as durable: they flush.
    Refused,
    /// Through the page cache, because the settings say so.
    Off,
}

/// An operation that is under way for so long is told in the log and by health probes, ns.
pub const STUCK_NS: u64 = 5_000_000_000;

/// How long the end of a shard waits for what the disk has under way.
pub const FINISH_LIMIT: Duration = Duration::from_secs(10);

/// What the operating system says, as the store knows it.
fn to_disk_error(error: Errno) -> DiskError {
    match error {
        Errno::NOSPC | Errno::DQUOT => DiskError::NoSpace,
        Errno::NOENT => DiskError::NotFound,
        other => DiskError::Os(other.raw_os_error()),
    }
}

/// The same for errors of the standard library.
#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn from_io(error: std::io::Error) -> DiskError {
    let number = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    to_disk_error(Errno::from_raw_os_error(number))
}
