//! The broker crate.

pub mod index;
