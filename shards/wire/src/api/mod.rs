//! The JetStream API as values: requests, responses, errors, advisories, and the subjects and
//! small bodies around them.
//!
//! ```text
//!   subject ──▶ subjects::parse ──▶ Request ─┐
//!                                            ├─▶ (a stream decides) ─▶ types::encode_response
//!   body ────▶ decode::decode_request ───────┘                     └─▶ types::encode_error
//! ```
//!
//! Documents have the key order, the left-out fields and the spelling of times, numbers and texts
//! of nats-server 2.15.1, and mistakes in requests get its words.

pub mod account;
pub mod ack;
pub mod advisory;
pub mod config;
pub mod consumer_config;
pub mod decode;
mod error_table;
pub mod errors;
pub mod info;
pub mod ingest;
pub mod policy;
pub mod publish;
pub mod pull;
mod quote;
pub mod reader;
pub mod requests;
pub mod responses;
mod scan;
pub mod status;
pub mod subjects;
pub mod timestamp;
pub mod types;
pub mod value;
