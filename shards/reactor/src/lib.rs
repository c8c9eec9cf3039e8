//! The reactor crate.
