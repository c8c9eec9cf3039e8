//! The reactor crate.

pub mod bus;
pub mod entropy;
pub mod tls;
