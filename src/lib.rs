//! The process around the shards.
