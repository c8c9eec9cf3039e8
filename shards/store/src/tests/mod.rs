//! The store against a plain list of messages that knows the rules and nothing else.

mod compaction;
#[path = "../log/tests/disk.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "the tests of the log have it for themselves")]
pub(crate) mod disk;
mod faults;
mod figures;
mod file;
mod files;
mod model;
mod random;
mod rules;
mod scrub;
