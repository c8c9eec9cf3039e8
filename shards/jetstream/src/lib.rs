//! Streams and consumers as decisions: publishes, requests and acknowledgements in, effects out.
//! No I/O, no clock, no lock.

pub mod consumer;
pub mod context;
pub mod effect;
pub mod removed;
pub mod stream;
