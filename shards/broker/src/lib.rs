//! The broker crate.

pub mod auth;
pub mod index;
