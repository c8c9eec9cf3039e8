//! Black-box tests over real sockets, in one binary.
//!
//! Each test starts its own server process on random ports and speaks to it as a user would:
//! with the official client library, with raw bytes, with signals and files. `docs/TESTING.md`
//! tells how to run them against another binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, and that is its whole purpose"
)]

mod core;
mod encrypted;
mod faults;
mod hostile;
mod jetstream;
mod lifecycle;
mod login;
mod monitor;
mod process;
mod shares;
mod support;
mod tidy;
mod transcripts;
