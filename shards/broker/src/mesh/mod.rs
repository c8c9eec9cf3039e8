//! Shard to shard: what a process's shards tell each other, and the flush barrier over it.
//!
//! ```text
//!  shard A  publish / SUB ──► Outgoing[B]: open batch ──seal at turn's end──► ring ──► shard B
//!           barrier waits ◄── acks (in B's next batch) ◄── applied ◄──────────────────────┘
//! ```

mod batch;
mod outgoing;

pub use batch::{Batch, Entry, Hold, Message, Origin, decode};
pub use outgoing::{Mesh, Peer};
