//! The `shearwater` binary.

fn main() {}
