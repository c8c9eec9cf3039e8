//! The shard crate.
