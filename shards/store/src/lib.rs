//! What a stream keeps: its messages, their index, and the small facts beside them, in memory or
//! in a log of segments. Pure: it asks a disk driver for what it needs.

pub mod disk;
pub mod log;
