//! The store against a plain list of messages that knows the rules and nothing else.

mod compaction;
#[path = "../log/tests/disk.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "the tests of the log have it for themselves")]
pub(crate) mod disk;
mod erase;
mod faults;
mod figures;
mod file;
mod files;
mod model;
mod random;
mod rules;
mod scrub;

use crate::log::Options;

/// A log whose segments are small, so that there are soon many.
fn small_options(dir: &str, uid: u64) -> Options {
    let mut options = Options::new(dir, uid);
    options.segment_bytes_min = 64 << 10;
    options.segment_bytes_max = 64 << 10;
    options.tail_bytes_max = 16 << 10;
    options
}
