//! What a stream keeps: its messages, their index, and the small facts beside them, in memory or
//! in a log of segments. Pure: it asks a disk driver for what it needs.

pub mod check;
mod compact;
pub mod disk;
mod file;
mod index;
pub mod log;
mod memory;
mod message;
mod notes;
mod recover;
mod scrub;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;

/// Where the cache of a shard is found.
pub mod cache {
    pub use crate::log::{Cache, ScrubFigures};
}

pub use index::filters::{ALL, FilterId};
pub use index::subjects::SubjectState;
pub use message::{AppendError, Message, NewMessage, Read, Removed, State};
pub use notes::Note;
pub use recover::{Recovered, RecoveredNote};
pub use scrub::{Finding, ScrubPace};
pub use store::{MESSAGE_BYTES_MAX, MemoryOptions, Position, Progress, Store};
