//! The store against a plain list of messages that knows the rules and nothing else.

#[path = "../log/tests/disk.rs"]
#[allow(dead_code, reason = "the log's tests use the rest of it")]
pub(crate) mod disk;
mod figures;
mod file;
mod files;
mod model;
mod random;
mod rules;
