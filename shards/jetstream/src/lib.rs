//! Streams and consumers as decisions: publishes, requests and acknowledgements in, effects out.
//! No I/O, no clock, no lock.
//!
//! ```text
//!  domain/    this shard's streams, the catalog on shard 0, the API
//!  stream/    one stream: ingest, limits, reads, mirrors and sources
//!  consumer/  one consumer: delivery, acknowledgement, state
//! ```

pub mod consumer;
pub mod context;
pub mod domain;
pub mod effect;
pub mod removed;
pub mod settings;
pub mod stream;
