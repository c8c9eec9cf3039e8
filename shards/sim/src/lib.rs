//! The same shard in a seeded world: see docs/TESTING.md.
