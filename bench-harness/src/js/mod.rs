//! The part of JetStream that load needs: requests with checked replies, stream and consumer
//! settings, publish frames, acknowledgements.
//!
//! ```text
//!   config ──► api ──► server            one request at a time: set-up and checks
//!   frame ───► publish ──► server        many messages outstanding
//!                 ▲
//!                ack (PubAck, delivery place, status headers)
//! ```

pub mod ack;
pub mod api;
pub mod config;
pub mod frame;
pub mod publish;
