//! Messages on their way into and out of a store, and the figures of a stream.

/// A message to be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewMessage<'a> {
    /// Its subject, literal.
    pub subject: &'a [u8],
    /// A header block with `NATS/1.0` line and empty last line, or empty.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// When it is stored, ns since 1970.
    pub ts_ns: i64,
    /// When it ends by itself, ns since 1970.
    pub expires_ns: Option<i64>,
    /// Whether the headers have a `Nats-Msg-Id`: such messages are found again at start.
    pub has_msg_id: bool,
}

/// A message that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Sequence number.
    pub seq: u64,
    /// When it was stored, ns since 1970.
    pub ts_ns: i64,
    /// Subject.
    pub subject: &'a [u8],
    /// Header block, or empty.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// What asking for a message brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// Here it is.
    Message(Message<'a>),
    /// It must be read from disk first; ask again when the store says that reads are ready.
    Pending,
    /// There is no such message.
    Missing,
    /// There is one, but its bytes are damaged on disk.
    Damaged,
    /// There is one, but the disk does not give it now. The next try asks the disk again.
    Failed,
}

/// Figures of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Messages.
    pub messages: u64,
    /// Their cost as nats-server counts: subject, headers and payload, and for each message 16
    /// in memory, or 30 (34 with headers) in a file.
    pub bytes: u64,
    /// Sequence number of the first message. Without messages the next one; 0 in a new stream.
    pub first_seq: u64,
    /// Time of the first message, ns since 1970; none without messages.
    pub first_ts_ns: Option<i64>,
    /// Sequence number that was given last.
    pub last_seq: u64,
    /// When that was, ns since 1970; stays when the message goes.
    pub last_ts_ns: Option<i64>,
    /// Different subjects.
    pub subjects: u64,
    /// Sequence numbers between first and last without message.
    pub deleted: u64,
}

/// A message that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// By how much [`State::bytes`] sank.
    pub bytes: u64,
}

/// Why a message was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The subject has more than 65,535 bytes.
    #[error("subject too long")]
    SubjectTooLong,
    /// Subject, headers and payload together are more than a record can hold.
    #[error("message too large")]
    TooLarge,
    /// The sequence number is not above the last, or there are none left.
    #[error("sequence number not above the last")]
    Sequence,
    /// The device is full. Later appends may succeed.
    #[error("no space left on device")]
    NoSpace,
    /// Too many bytes wait for the disk. Later appends may succeed.
    #[error("too many bytes wait for the disk")]
    Busy,
    /// A write or flush failed before: nothing is stored any more.
    #[error("store fenced after a failed write")]
    Fenced,
}
