//! Core NATS as decisions: bytes and batches in, effects out. No I/O, no clock, no lock.
//!
//! ```text
//!  conn/     one connection: input, login, subscriptions, pings, outbox
//!  index/    the subject index: local subscriptions, other shards' interest
//!  publish/  who gets a message, and the copies
//!  mesh/     shard to shard: batches, backlog, flush barrier
//!  hold      when a publisher waits for a receiver
//!  auth/     who a client is and what it may do
//!  monitor/  what the monitoring port shows
//! ```

pub mod account;
pub mod auth;
pub mod broker;
pub mod clock;
pub mod conn;
pub mod effect;
mod hold;
pub mod index;
pub mod mesh;
mod mesh_input;
pub mod monitor;
mod monitor_ring;
pub mod publish;
pub mod random;
mod reload;
pub mod service;
pub mod settings;
mod snapshot;
pub mod stats;
pub mod timers;
mod trace;
