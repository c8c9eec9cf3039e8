//! Archives of streams, as `$JS.API.STREAM.SNAPSHOT` sends and `$JS.API.STREAM.RESTORE` takes
//! them. Both formats are S2 streams; what they hold differs:
//!
//! ```text
//!   v2, nats-server 2.15 and later            v1, before 2.15: a tar file
//!   "NATSARC1"                                meta.inf, meta.sum      configuration
//!   state.json       the stream's state       msgs/<n>.blk            records, tombstones
//!   consumers/<name> configuration, state     msgs/index.db           what limits removed
//!   messages         in order                 obs/<name>/meta.inf, meta.sum, o.dat
//!   an empty entry   the end
//! ```
//!
//! [`ArchiveReader`] takes chunks as they come and yields [`Event`]s, one message at a time.
//! [`ArchiveWriter`] writes the second format, [`v1::Writer`] the first for servers before 2.15.
//! All of them need the memory of a few blocks, whatever the size of the archive.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::{Map, Value};
use thiserror::Error;

use crate::s2::S2Error;

mod consumer;
mod hash;
mod inflow;
mod reader;
mod tar;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
pub mod v1;
mod v2;
mod varint;

pub use consumer::{ConsumerState, Pending, SequencePair, StateError};
pub use reader::ArchiveReader;
pub use v2::{ArchiveWriter, StreamState, WriteError};

/// The most that a configuration or the state of a stream may take, in bytes.
pub const CONFIG_BYTES_MAX: usize = 8 << 20;
/// The most that the configuration and state of one consumer may take, in bytes.
pub const CONSUMER_BYTES_MAX: usize = 128 << 20;
/// The most that the index of a first-format archive may take, in bytes.
pub const INDEX_BYTES_MAX: usize = 256 << 20;
/// The longest name of an entry, in bytes; a subject is one.
pub const NAME_BYTES_MAX: usize = 64 << 10;
/// What a record of a first-format archive may take at most, in bytes.
pub const RECORD_BYTES_MAX: usize = 32 << 20;

/// What an archive may hold. Exceeding it is an error of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Headers and payload of one message, in bytes.
    pub message_bytes_max: usize,
    /// The archive after decompression, in bytes.
    pub total_bytes_max: u64,
}

impl Default for Limits {
    /// Messages of 64 MiB, and no limit on their number.
    fn default() -> Self {
        Self { message_bytes_max: 64 << 20, total_bytes_max: u64::MAX }
    }
}

/// A message of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub time_ns: i64,
    /// Its subject. Not empty, without bytes that end a token on the wire.
    pub subject: &'a [u8],
    /// Its header block; empty without headers. Not looked into.
    pub headers: &'a [u8],
    /// The rest.
    pub payload: &'a [u8],
}

/// The configuration of the stream in a first-format archive.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamBackup {
    /// The stream's name.
    pub name: String,
    /// Its configuration, as a JSON object.
    pub config: Map<String, Value>,
    /// When it was created, in nanoseconds since 1970.
    pub created_ns: Option<i64>,
}

/// A consumer of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerBackup {
    /// The consumer's name. One token without path separators.
    pub name: String,
    /// Its configuration, as a JSON object.
    pub config: Map<String, Value>,
    /// How far it was.
    pub state: ConsumerState,
    /// When it was created, in nanoseconds since 1970; only the first format says it.
    pub created_ns: Option<i64>,
}

/// What an archive said in all, once it was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Messages that were yielded.
    pub messages: u64,
    /// Consumers that were yielded.
    pub consumers: u64,
    /// The first sequence of the stream. Messages below it are gone.
    pub first_sequence: u64,
    /// The last sequence of the stream, whether its message is there or not.
    pub last_sequence: u64,
}

/// What an [`ArchiveReader`] yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// The first event of a first-format archive.
    Stream(StreamBackup),
    /// The first event of a second-format archive.
    State(StreamState),
    /// A consumer: before all messages in the second format, behind them in the first.
    Consumer(ConsumerBackup),
    /// A message. Sequences increase; those between are deleted.
    Message(Message<'a>),
    /// The messages from `first` to `last`, both included, that were yielded so far are gone.
    /// Only in the first format, which learns of deletions late.
    Deleted {
        /// The first sequence of the range.
        first: u64,
        /// The last sequence of the range; never above the last message yielded.
        last: u64,
    },
    /// Everything was read, and the archive is complete.
    End(Summary),
}

/// Why an archive is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArchiveError {
    /// The compression is damaged.
    #[error(transparent)]
    S2(#[from] S2Error),
    /// The archive ends before its end marker.
    #[error("backup was truncated")]
    Truncated,
    /// Neither format.
    #[error("invalid archive stream")]
    NotAnArchive,
    /// An entry that may not be there, or not at this place.
    #[error("unexpected entry {0:?}")]
    UnexpectedEntry(String),
    /// The name of an entry leaves the archive, or is not a name at all.
    #[error("bad name of an entry: {0:?}")]
    BadName(String),
    /// An entry, or the archive, is larger than it may be.
    #[error("{0} exceeds its limit")]
    TooLarge(&'static str),
    /// A checksum does not fit.
    #[error("checksum mismatch in {0}")]
    Checksum(&'static str),
    /// Something that does not decode.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The sequence is not larger than the one before it.
    #[error("message sequence {0} out of order")]
    OutOfOrder(u64),
    /// The subject of the message is empty or has bytes that end a token on the wire.
    #[error("message sequence {0} has a bad subject")]
    BadSubject(u64),
    /// The server that made the archive failed at it, and says why.
    #[error("backup reports: {0}")]
    Reported(String),
}

/// A name of a stream or consumer that can stand in a subject and in a path.
fn is_asset_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name
            .bytes()
            .any(|byte| byte <= b' ' || matches!(byte, 0x7f | b'.' | b'*' | b'>' | b'/' | b'\\'))
}

/// Whether a stored message may have this subject: it can be sent to a client as it is.
fn is_storable_subject(subject: &[u8]) -> bool {
    !subject.is_empty() && !subject.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// A JSON object, and nothing else.
fn parse_object(text: &[u8], what: &'static str) -> Result<Map<String, Value>, ArchiveError> {
    serde_json::from_slice(text).map_err(|_| ArchiveError::Malformed(what))
}
