//! The process around the shards.

pub mod config;
