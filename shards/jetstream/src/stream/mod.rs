//! One stream at its home shard.

pub mod config;
mod config_sources;
#[cfg(test)]
mod config_tests;
pub mod config_update;
pub mod counter;
pub mod dedup;
pub mod index_name;
pub mod level;
pub mod ttl;
