//! The client protocol: verbs in (`parse`), frames out (`encode`), the two JSON documents
//! (`connect`, `info`) and the table of error texts (`errors`).

pub mod connect;
pub mod encode;
pub mod errors;
mod fast;
pub mod info;
pub mod op;
pub mod parse;

pub use connect::{Connect, ConnectError};
pub use errors::{ClientError, ClosedReason};
pub use fast::again as parse_again;
pub use info::Info;
pub use op::{Op, Step};
pub use parse::{ParseError, ParseLimits, parse};
