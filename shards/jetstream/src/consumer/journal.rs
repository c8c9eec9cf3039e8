//! What of a consumer's state is not in the stream's log yet, and who waits for it to be there.
//! Events gather for a short while; a confirmation that a client asked for does not wait.

use super::state::{Event, State};

/// Longest time that events gather, ns.
pub const GATHER_NS: u64 = 50_000_000;
/// When a state that could not be written is tried again, ns.
const RETRY_NS: u64 = 1_000_000_000;
/// Bytes of events in the log from which the whole state is written in their place.
const EVENT_BYTES_MAX: usize = 64 << 10;

/// What is written to the log next.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// The whole state.
    Whole(Vec<u8>),
    /// Events since the last entry.
    Events(Vec<u8>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Journal {
    events: Vec<u8>,
    /// Bytes of events written since the last whole state.
    written: usize,
    whole: bool,
    due_ns: u64,
    /// Replies to be sent once everything so far is durable.
    pub confirmations: Vec<Box<[u8]>>,
    /// Nothing is kept.
    pub off: bool,
}

impl Journal {
    /// An empty one; `off` keeps nothing.
    #[must_use]
    pub fn new(off: bool) -> Self {
        Self { off, ..Self::default() }
    }

    /// Notes an event.
    pub fn note(&mut self, event: &Event, now_ns: u64) {
        if self.off {
            return;
        }
        event.encode(&mut self.events);
        self.arm(now_ns + GATHER_NS);
    }

    /// The state changed in a way that no event describes.
    pub fn note_whole(&mut self, now_ns: u64) {
        if !self.off {
            self.whole = true;
            self.arm(now_ns + GATHER_NS);
        }
    }

    /// What was taken last could not be written: the whole state is, as soon as there is space.
    pub fn note_unwritten(&mut self, now_ns: u64) {
        self.whole = true;
        self.arm(now_ns + RETRY_NS);
    }

    /// Somebody waits for everything so far to be durable: it is written at once.
    pub fn note_confirmation(&mut self, now_ns: u64) {
        self.due_ns = now_ns.max(1);
    }

    fn arm(&mut self, at_ns: u64) {
        if self.due_ns == 0 {
            self.due_ns = at_ns;
        }
    }

    /// What waits is written at the next occasion.
    pub fn hurry(&mut self) {
        if self.due_ns != 0 {
            self.due_ns = 1;
        }
    }

    /// When something is to be written, monotonic ns.
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        if self.due_ns == 0 { u64::MAX } else { self.due_ns }
    }

    /// What is to be written now.
    pub fn take(&mut self, state: &State) -> Option<Entry> {
        self.due_ns = 0;
        if !self.whole && self.events.is_empty() {
            return None;
        }
        let whole = self.whole
            || self.written + self.events.len() > EVENT_BYTES_MAX.max(whole_bytes(state));
        self.whole = false;
        if whole {
            self.events.clear();
            self.written = 0;
            return Some(Entry::Whole(state.encode()));
        }
        self.written += self.events.len();
        Some(Entry::Events(std::mem::take(&mut self.events)))
    }
}

/// Bytes of a whole state, roughly.
fn whole_bytes(state: &State) -> usize {
    64 + 12 * state.pending.len() + 8 * state.redelivered.len()
}

#[cfg(test)]
mod tests {
    use super::super::state::Place;
    use super::*;

    #[test]
    fn events_gather_until_a_whole_state_is_shorter() {
        let mut journal = Journal::default();
        let mut state = State::default();
        assert_eq!((journal.due_ns(), journal.take(&state)), (u64::MAX, None));
        let mut wholes = 0;
        for seq in 1..40_000 {
            let place = Place { consumer: seq, stream: seq };
            let event = Event::Delivered { place, count: 1, at_unix_ns: 1, tracked: false };
            state.apply(event);
            journal.note(&event, 7);
            assert_eq!(journal.due_ns(), 7 + GATHER_NS);
            if seq % 100 == 0 {
                wholes += usize::from(matches!(journal.take(&state), Some(Entry::Whole(_))));
            }
        }
        assert!((1..10).contains(&wholes), "{wholes}");
        journal.note_whole(9);
        assert!(matches!(journal.take(&state), Some(Entry::Whole(_))));
        journal.off = true;
        journal.note_whole(9);
        assert_eq!(journal.take(&state), None);
    }
}
