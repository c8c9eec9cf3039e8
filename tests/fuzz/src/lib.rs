//! The bodies of the fuzz targets, one module for each crate under test.

pub mod wire;
