//! Facts of a stream and its consumers: whether they can be written, and when they are safe.
//! A request first asks for admission, then changes something: one that is refused changes nothing.

use store::Position;
use wire::api::errors::{self, ApiError};

use super::home::Home;

impl Home {
    /// Whether what a request changes can be written, with `bytes` of configuration in it.
    ///
    /// # Errors
    /// The stream's disk has failed, or is full and the reserve of its log is used up.
    pub(super) fn admit(&self, bytes: usize) -> Result<(), ApiError> {
        if self.stream.admits(bytes) { Ok(()) } else { Err(errors::INSUFFICIENT_RESOURCES) }
    }

    /// The place behind everything so far; never durable if a fact could not be written. What left
    /// by retention may be written later: a start takes it out again.
    pub(super) fn position(&mut self) -> Position {
        let store = &mut self.stream.store;
        let position = store.position();
        if std::mem::take(&mut self.unwritten) || store.fenced().is_some() {
            return Position::NEVER;
        }
        if position == Position::NEVER { store.facts_position() } else { position }
    }

    /// Keeps a fact among the stream's notes.
    pub(crate) fn put_note(&mut self, key: &[u8], bytes: &[u8]) {
        self.unwritten |= self.stream.store.put_note(key, bytes) == Position::NEVER;
    }

    /// Forgets a fact.
    pub(crate) fn remove_note(&mut self, key: &[u8]) {
        self.unwritten |= self.stream.store.remove_note(key) == Position::NEVER;
    }
}
