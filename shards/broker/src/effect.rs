//! What must happen in the world because of an input. The reactor hands the same sink to every
//! call of a turn and carries it out at the turn's end.

use wire::client::errors::ClosedReason;

/// A connection that the reactor must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Slot of the connection.
    pub slot: u32,
    /// Why.
    pub reason: ClosedReason,
    /// Send what is in the outbox first, as far as the socket takes it at once.
    pub flush: bool,
}

/// How loud a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `[ERR]`
    Error,
    /// `[WRN]`
    Warn,
    /// `[INF]`
    Info,
    /// `[DBG]`
    Debug,
    /// `[TRC]`
    Trace,
}

/// A password to verify off the shard.
#[derive(Debug)]
pub struct HelperJob {
    /// Connection that waits.
    pub slot: u32,
    /// Generation of its slot.
    pub generation: u32,
    /// What to verify.
    pub check: crate::auth::PasswordCheck,
}

/// The reusable sink of effects.
#[derive(Debug, Default)]
pub struct Effects {
    /// Connections with output, each once.
    pub dirty: Vec<u32>,
    /// Connections to close.
    pub closes: Vec<Close>,
    /// Connections that may read again and whose kept input must be looked at.
    pub resumed: Vec<u32>,
    /// Passwords to verify.
    pub helpers: Vec<HelperJob>,
    /// Lines for the log.
    pub logs: Vec<(Level, String)>,
    /// Bytes put into outboxes since the last flush.
    pub output_bytes: usize,
    /// Trace and debug lines are wanted.
    pub debug: bool,
    /// Protocol trace lines are wanted.
    pub trace: bool,
    /// Deliveries to be traced: the connection and its control line.
    pub traced: Vec<(u32, Vec<u8>)>,
}

impl Effects {
    /// Output that the turn may gather before it is flushed: so much for each connection with
    /// output, since a write costs as much as copying some thousand bytes, within the limits of
    /// the cache and of a turn's length.
    #[inline]
    #[must_use]
    pub fn output_budget(&self, limits: &crate::settings::Limits) -> usize {
        let wanted = self.dirty.len() * crate::conn::outbox::CHUNK_BYTES;
        wanted.clamp(limits.turn_output_bytes_min, limits.turn_output_bytes_max)
    }

    /// Notes a line for the log.
    pub fn log(&mut self, level: Level, text: String) {
        self.logs.push((level, text));
    }
}
