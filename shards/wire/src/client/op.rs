//! What a client can say: one [`Op`] for each verb, borrowed from the input, and the [`Step`]
//! that the parser takes.

/// One complete operation. All slices point into the parsed input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// `CONNECT {json}`. The document is not looked into; see `Connect::parse`.
    Connect {
        /// The argument as it came, without surrounding blanks.
        json: &'a [u8],
    },
    /// `PING`, whatever follows it on the line.
    Ping,
    /// `PONG`, whatever follows it on the line.
    Pong,
    /// `+OK` from a client: accepted and without meaning.
    Ok,
    /// `-ERR ...` from a client. nats-server closes such a connection, without a word, with the
    /// reason "Parse Error".
    Err,
    /// `INFO {json}` from a client: accepted and without meaning.
    Info,
    /// `SUB <subject> [queue] <sid>`. The subject is not validated here.
    Sub {
        /// The pattern to subscribe to.
        subject: &'a [u8],
        /// The queue group, if there is one.
        queue: Option<&'a [u8]>,
        /// The client's name for the subscription; opaque bytes without blanks.
        sid: &'a [u8],
    },
    /// `UNSUB <sid> [max]`.
    Unsub {
        /// The subscription to end.
        sid: &'a [u8],
        /// Total deliveries since SUB after which it ends, always above zero. `None` means at
        /// once: no number was given, or it was zero, or it was not a number of up to 9 digits.
        max: Option<u64>,
    },
    /// `PUB <subject> [reply] <size>` or `HPUB <subject> [reply] <header size> <total size>`.
    Pub {
        /// Where to. Not validated here.
        subject: &'a [u8],
        /// Where answers go.
        reply: Option<&'a [u8]>,
        /// Bytes of `body` that are the header block; 0 for `PUB`.
        header_len: usize,
        /// The header block followed by the payload, without the closing CR LF.
        body: &'a [u8],
    },
}

/// The outcome of one look at the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole operation stands at the start of the input.
    Op {
        /// The operation.
        op: Op<'a>,
        /// Bytes it took, line end included.
        consumed: usize,
    },
    /// The input ends inside an operation.
    Incomplete {
        /// Bytes that must be buffered from the start of the operation before another look can
        /// get further; always more than were given. Exactly the operation's length once the
        /// control line of a publish is complete; a look one byte earlier can only find that the
        /// payload ends wrongly, say with a bare LF.
        need: usize,
    },
}
