//! The process around the shards.

pub mod cli;
pub mod error;
pub mod logging;
pub mod signal_command;
