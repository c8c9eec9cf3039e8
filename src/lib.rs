//! The process around the shards: command line, configuration, logs, signals, start and stop.

pub mod cli;
pub mod config;
pub mod error;
pub mod helpers;
pub mod logging;
pub mod notify;
pub mod pidfile;
pub mod portsfile;
pub mod probe;
pub mod signal_command;
pub mod signals;
