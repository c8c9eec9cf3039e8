//! Bytes to values and back: the NATS wire formats as pure functions.
//!
//! ```text
//!   bytes ──▶ client::parse ──▶ Op ──▶ (broker decides) ──▶ client::encode ──▶ bytes
//!                 │                                              ▲
//!              subject, headers, client::connect        client::info, client::errors
//! ```
//!
//! Nothing here reads a clock, does I/O, logs, or keeps global state. Every decoder takes bytes
//! from anybody and answers with a value or a small error; none may panic.

#![forbid(unsafe_code)]

pub mod api;
pub mod backup;
pub mod client;
pub mod cron;
pub mod headers;
pub mod json;
pub mod nkey;
pub mod nuid;
pub mod s2;
pub mod schedule;
pub mod secret;
pub mod subject;
pub mod time;
pub mod transform;
