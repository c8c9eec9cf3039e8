//! Messages that leave on request: purges and single deletes.

use store::Position;
use wire::api::errors::{self, ApiError};
use wire::api::policy::Storage;
use wire::api::requests::PurgeRequest;

use super::Stream;

/// Most that the records of one request take beside the facts in them.
const REQUEST_OVERHEAD_BYTES: usize = 1024;

/// What a purge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Messages that have left.
    pub count: u64,
    /// The answer may go once the store is durable up to here.
    pub position: Position,
}

/// Whether a purge says in one way how far it goes.
///
/// # Errors
/// `bad request`.
pub fn check_purge(request: &PurgeRequest) -> Result<(), ApiError> {
    if request.seq > 0 && request.keep > 0 { Err(errors::BAD_REQUEST) } else { Ok(()) }
}

impl Stream {
    /// `STREAM.PURGE`
    ///
    /// # Errors
    ///
    /// The error for the client.
    pub fn handle_purge(&mut self, request: &PurgeRequest) -> Result<Purged, ApiError> {
        check_purge(request)?;
        if self.config.sealed {
            return Err(errors::STREAM_SEALED);
        }
        if self.config.deny_purge {
            return Err(errors::STREAM_PURGE_FAILED.with("stream purge not permitted"));
        }
        if !self.admits_purge(request) {
            return Err(errors::INSUFFICIENT_RESOURCES);
        }
        // What says where sources go on may be about to leave.
        self.note_feeds();
        let count = self.purge(request.filter.as_bytes(), request.seq, request.keep);
        Ok(Purged { count, position: self.store.position() })
    }

    /// Whether a purge can be written; otherwise nothing must leave.
    fn admits_purge(&self, request: &PurgeRequest) -> bool {
        let filter = request.filter.as_bytes();
        if filter.is_empty() || filter == b">" {
            return self.admits(0);
        }
        let below = Some(request.seq).filter(|&below| below > 0);
        self.admits(0) && self.store.admits_purge(filter, below)
    }

    /// Whether what a request changes can be written: `bytes` of facts, and what goes with them.
    #[must_use]
    pub fn admits(&self, bytes: usize) -> bool {
        self.store.admits(bytes + REQUEST_OVERHEAD_BYTES + self.feed_note_bytes())
    }

    /// Removes the messages whose subject matches `filter` (all if empty), below `below` (all if
    /// 0), but the newest `keep`.
    fn purge(&mut self, filter: &[u8], below: u64, keep: u64) -> u64 {
        let is_all = filter.is_empty() || filter == b">";
        if below == 1 {
            return 0;
        }
        let count = if is_all {
            let from = match (below, keep) {
                (0, 0) => Some(u64::MAX),
                (0, keep) => self.seq_of_newest(keep),
                (below, _) => Some(below),
            };
            let last = self.store.last_seq();
            match from {
                None => 0,
                Some(from) if from > last && below == 0 => self.store.remove_up_to(last),
                Some(from) => self.store.remove_up_to(from - 1),
            }
        } else {
            self.store.purge(Some(filter), Some(below).filter(|&below| below > 0), keep)
        };
        if count > 0 {
            self.removed.note_many();
        }
        count
    }

    /// `STREAM.MSG.DELETE`: the answer may go once the store is durable up to the position.
    ///
    /// # Errors
    ///
    /// The error for the client.
    pub fn handle_delete(&mut self, seq: u64, no_erase: bool) -> Result<Position, ApiError> {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED);
        }
        if self.config.deny_delete {
            return Err(errors::STREAM_MSG_DELETE_FAILED.with("message delete not permitted"));
        }
        if !self.store.contains(seq) {
            return Err(self.missing_error(seq));
        }
        if !self.admits(0) {
            return Err(errors::INSUFFICIENT_RESOURCES);
        }
        if self.store.remove(seq, !no_erase).is_none() {
            return Err(self.missing_error(seq));
        }
        self.removed.note(seq);
        Ok(self.store.position())
    }

    /// Why there is no message to delete. With files nats-server tells the ends of a stream from
    /// the gaps in it; in memory it does not.
    fn missing_error(&self, seq: u64) -> ApiError {
        let state = self.store.state();
        if self.config.storage == Storage::Memory {
            errors::SEQUENCE_NOT_FOUND.with(seq)
        } else if seq > state.last_seq {
            errors::STREAM_MSG_DELETE_FAILED.with("stream store EOF")
        } else if seq == 0 || seq < state.first_seq {
            errors::STREAM_MSG_DELETE_FAILED.with("no message found")
        } else {
            errors::SEQUENCE_NOT_FOUND.with(seq)
        }
    }
}
