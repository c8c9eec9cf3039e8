//! The broker crate.

pub mod monitor;
