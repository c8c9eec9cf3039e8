//! The reactor crate.

pub mod entropy;
pub mod tls;
