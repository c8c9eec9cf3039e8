//! A load generator for NATS servers.
//!
//! It speaks just enough of the protocol to make load and to count what comes back, costs a
//! fraction of the server's CPU, and says how much. See `docs/PERFORMANCE.md` for the method.
//!
//! ```text
//!   cli ──► scenario (what load) ──► client (bytes) ──► server under test
//!    │          │  └──► js (JetStream requests and replies)
//!    │          └──► measure (CPU, memory, latency)
//!    ▼                     │
//!   compare (two servers,  ▼
//!   rounds in turn) ──► report (table, JSON, Markdown, SVG)
//! ```

pub mod cli;
pub mod client;
pub mod compare;
pub mod error;
pub mod js;
pub mod measure;
pub mod report;
pub mod scenario;
