//! A client that does only what load needs: large writes of prepared bytes, and reads that
//! count frames by jumping over them.
//!
//! ```text
//!   cycle (prepared PUBs) ──► conn ──► server ──► conn ──► scan (jumps, counts, checks order)
//!                              │                    │
//!                             tls?                 op (full parse: first frame, PING, -ERR)
//! ```

pub mod conn;
pub mod cycle;
pub mod exchange;
pub mod handshake;
pub mod op;
pub mod outbuf;
pub mod peer;
pub mod poll;
pub mod scan;
pub mod tls;
