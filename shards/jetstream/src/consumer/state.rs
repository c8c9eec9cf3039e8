//! How far a consumer has come: what was delivered, what is settled, what waits for its
//! acknowledgement. The same changes that are made in memory are kept as events in the stream's
//! log, so a restart applies them again. Lives on: the stream's home shard.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// A position, counted in deliveries and in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Delivery sequence of the consumer.
    pub consumer: u64,
    /// Sequence of the stream.
    pub stream: u64,
}

/// A delivered message that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its first delivery's sequence.
    pub consumer: u64,
    /// When it was last delivered, or its time was last renewed; unix ns.
    pub at_unix_ns: i64,
    /// When it is delivered again; monotonic ns. Not kept over restarts.
    pub deadline_ns: u64,
}

/// A message that is to be stored elsewhere, because it was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Deliveries.
    pub count: u32,
    /// A client gave it up.
    pub is_terminated: bool,
    /// Why, as the client says.
    pub reason: Box<[u8]>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The last delivery.
    pub delivered: Place,
    /// Everything up to here is settled.
    pub floor: Place,
    /// Delivered and not settled, by sequence of the stream.
    pub pending: BTreeMap<u64, Pending>,
    /// Deliveries beyond the first, by sequence of the stream; of what had all its deliveries, even
    /// if there was only one.
    pub redelivered: HashMap<u64, u32, FxBuildHasher>,
    /// The next sequence of the stream to look at, less one.
    pub looked_at: u64,
    /// Messages before `looked_at` that are delivered first, rising: the last ones of their
    /// subjects.
    pub ahead: VecDeque<u64>,
    /// Dead letters that are not stored yet, by sequence of the stream.
    pub letters: BTreeMap<u64, Letter>,
}

/// A change of the state that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message was delivered, and waits for its acknowledgement if `tracked`.
    Delivered {
        /// Where.
        place: Place,
        /// Deliveries so far, this one included.
        count: u32,
        /// When, unix ns.
        at_unix_ns: i64,
        /// Waits for its acknowledgement.
        tracked: bool,
    },
    /// A message is settled.
    Settled {
        /// Sequence of the stream.
        stream: u64,
    },
    /// A message and all before it are settled.
    SettledAll {
        /// Where.
        place: Place,
    },
    /// A message has had all its deliveries and waits no longer.
    Exhausted {
        /// Sequence of the stream.
        stream: u64,
        /// Deliveries.
        count: u32,
    },
    /// A message is to be stored elsewhere.
    LetterMade {
        /// Sequence of the stream.
        stream: u64,
        /// Deliveries.
        count: u32,
        /// A client gave it up.
        is_terminated: bool,
    },
    /// It is stored there.
    LetterDone {
        /// Sequence of the stream.
        stream: u64,
    },
}

impl State {
    /// Deliveries of a message so far, at least one if it was delivered.
    #[must_use]
    pub fn deliveries(&self, stream: u64) -> u32 {
        self.redelivered.get(&stream).map_or(1, |count| count + 1)
    }

    /// Applies a change.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Delivered { place, count, at_unix_ns, tracked } => {
                self.note_delivered(place, count, at_unix_ns, tracked);
            }
            Event::Settled { stream } => {
                self.settle(stream);
            }
            Event::SettledAll { place } => {
                self.settle_all(place, |_| {});
            }
            Event::Exhausted { stream, count } => self.exhaust(stream, count),
            Event::LetterMade { stream, count, is_terminated } => {
                let letter = Letter { count, is_terminated, reason: Box::default() };
                self.letters.insert(stream, letter);
            }
            Event::LetterDone { stream } => {
                self.letters.remove(&stream);
                self.redelivered.remove(&stream);
            }
        }
    }

    fn note_delivered(&mut self, place: Place, count: u32, at_unix_ns: i64, tracked: bool) {
        self.delivered.consumer = self.delivered.consumer.max(place.consumer);
        self.delivered.stream = self.delivered.stream.max(place.stream);
        if self.ahead.front() == Some(&place.stream) {
            self.ahead.pop_front();
        } else {
            self.looked_at = self.looked_at.max(place.stream);
        }
        if count > 1 {
            self.redelivered.insert(place.stream, count - 1);
        }
        if !tracked {
            self.floor = self.delivered;
            return;
        }
        let pending = Pending { consumer: place.consumer, at_unix_ns, deadline_ns: 0 };
        self.pending
            .entry(place.stream)
            .and_modify(|known| known.at_unix_ns = at_unix_ns)
            .or_insert(pending);
    }

    /// Settles one message. `None` when it did not wait.
    pub fn settle(&mut self, stream: u64) -> Option<Pending> {
        self.redelivered.remove(&stream);
        let pending = self.pending.remove(&stream)?;
        self.raise_floor(Place { consumer: pending.consumer, stream });
        Some(pending)
    }

    /// After something that waited has gone: the floor may rise.
    fn raise_floor(&mut self, gone: Place) {
        let Some((stream, first)) = self.pending.first_key_value() else {
            self.floor.consumer = self.floor.consumer.max(self.delivered.consumer);
            self.floor.stream = self.floor.stream.max(self.delivered.stream);
            return;
        };
        if gone.consumer == self.floor.consumer + 1 || *stream > gone.stream {
            let to = Place { consumer: first.consumer.saturating_sub(1), stream: *stream - 1 };
            if to.consumer >= self.floor.consumer && to.stream >= self.floor.stream {
                self.floor = to;
            }
        }
    }

    /// Settles a message and all before it; tells each.
    pub fn settle_all(&mut self, place: Place, mut settled: impl FnMut(u64)) {
        while let Some((stream, _)) = self.pending.first_key_value() {
            let stream = *stream;
            if stream > place.stream {
                break;
            }
            self.pending.remove(&stream);
            self.redelivered.remove(&stream);
            settled(stream);
        }
        self.settle_exhausted(place.stream, settled);
        if place.consumer > self.floor.consumer {
            self.floor.consumer = place.consumer;
        }
        if place.stream > self.floor.stream {
            self.floor.stream = place.stream;
        }
    }

    /// Settles what had all its deliveries, up to a sequence; tells each.
    fn settle_exhausted(&mut self, up_to: u64, settled: impl FnMut(u64)) {
        let (pending, letters) = (&self.pending, &self.letters);
        let is_one =
            |seq: &u64| *seq <= up_to && !pending.contains_key(seq) && !letters.contains_key(seq);
        let mut seqs: Vec<u64> = self.redelivered.keys().copied().filter(is_one).collect();
        seqs.sort_unstable();
        self.redelivered.retain(|seq, _| seqs.binary_search(seq).is_err());
        seqs.into_iter().for_each(settled);
    }

    /// A message has had all its deliveries.
    fn exhaust(&mut self, stream: u64, count: u32) {
        self.pending.remove(&stream);
        self.redelivered.insert(stream, count.saturating_sub(1));
    }

    /// A message has had all its deliveries, and nobody has settled it since.
    #[must_use]
    pub fn is_exhausted(&self, stream: u64) -> bool {
        self.redelivered.contains_key(&stream) && !self.pending.contains_key(&stream)
    }

    /// Forgets a message that the stream no longer has. True when it waited.
    pub fn forget(&mut self, stream: u64) -> bool {
        self.redelivered.remove(&stream);
        let Some(pending) = self.pending.remove(&stream) else { return false };
        self.raise_floor(Place { consumer: pending.consumer, stream });
        true
    }

    /// After a purge: everything below a sequence has gone, and counts as delivered.
    pub fn pass_purged(&mut self, first: u64) {
        self.forget_below(first);
        while self.ahead.front().is_some_and(|seq| *seq < first) {
            self.ahead.pop_front();
        }
        let before = first.saturating_sub(1);
        self.looked_at = self.looked_at.max(before);
        if self.ahead.is_empty() && before > self.delivered.stream {
            self.delivered.stream = self.delivered.stream.max(before);
            if self.pending.is_empty() {
                self.floor = self.delivered;
            }
        }
    }

    /// Forgets everything below a sequence, which the stream no longer has.
    pub fn forget_below(&mut self, first: u64) {
        while let Some((stream, _)) = self.pending.first_key_value() {
            let stream = *stream;
            if stream >= first {
                break;
            }
            self.forget(stream);
        }
        if !self.redelivered.is_empty() {
            self.redelivered.retain(|stream, _| *stream >= first);
        }
    }
}

/// Appends a number, seven bits a byte, the last one without its high bit.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_letter(bytes: &mut &[u8]) -> Option<(u64, Letter)> {
    let stream = take_number(bytes)?;
    let count = u32::try_from(take_number(bytes)?).ok()?;
    let (is_terminated, rest) = bytes.split_first()?;
    *bytes = rest;
    let len = usize::try_from(take_number(bytes)?).ok()?;
    let (reason, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some((stream, Letter { count, is_terminated: *is_terminated != 0, reason: reason.into() }))
}

const DELIVERED: u8 = 1;
const TRACKED: u8 = 2;
const SETTLED: u8 = 3;
const SETTLED_ALL: u8 = 4;
const EXHAUSTED: u8 = 5;
const LETTER_MAX_DELIVER: u8 = 6;
const LETTER_TERMINATED: u8 = 7;
const LETTER_DONE: u8 = 8;

impl Event {
    /// Appends the event.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Delivered { place, count, at_unix_ns, tracked } => {
                out.push(if tracked { TRACKED } else { DELIVERED });
                push_number(out, place.consumer);
                push_number(out, place.stream);
                push_number(out, u64::from(count));
                push_number(out, at_unix_ns as u64);
            }
            Self::Settled { stream } => {
                out.push(SETTLED);
                push_number(out, stream);
            }
            Self::SettledAll { place } => {
                out.push(SETTLED_ALL);
                push_number(out, place.consumer);
                push_number(out, place.stream);
            }
            Self::Exhausted { stream, count } => {
                out.push(EXHAUSTED);
                push_number(out, stream);
                push_number(out, u64::from(count));
            }
            Self::LetterMade { stream, count, is_terminated } => {
                out.push(if is_terminated { LETTER_TERMINATED } else { LETTER_MAX_DELIVER });
                push_number(out, stream);
                push_number(out, u64::from(count));
            }
            Self::LetterDone { stream } => {
                out.push(LETTER_DONE);
                push_number(out, stream);
            }
        }
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        *bytes = rest;
        let count = |number: u64| u32::try_from(number).ok();
        Some(match *kind {
            kind @ (DELIVERED | TRACKED) => Self::Delivered {
                place: Place { consumer: take_number(bytes)?, stream: take_number(bytes)? },
                count: count(take_number(bytes)?)?,
                at_unix_ns: take_number(bytes)? as i64,
                tracked: kind == TRACKED,
            },
            SETTLED => Self::Settled { stream: take_number(bytes)? },
            SETTLED_ALL => Self::SettledAll {
                place: Place { consumer: take_number(bytes)?, stream: take_number(bytes)? },
            },
            EXHAUSTED => {
                Self::Exhausted { stream: take_number(bytes)?, count: count(take_number(bytes)?)? }
            }
            kind @ (LETTER_MAX_DELIVER | LETTER_TERMINATED) => Self::LetterMade {
                stream: take_number(bytes)?,
                count: count(take_number(bytes)?)?,
                is_terminated: kind == LETTER_TERMINATED,
            },
            LETTER_DONE => Self::LetterDone { stream: take_number(bytes)? },
            _ => return None,
        })
    }
}

/// First byte of a whole state.
const WHOLE: u8 = 1;

impl State {
    /// The whole state as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 12 * self.pending.len());
        out.push(WHOLE);
        for place in [self.delivered, self.floor] {
            push_number(&mut out, place.consumer);
            push_number(&mut out, place.stream);
        }
        push_number(&mut out, self.looked_at);
        push_number(&mut out, self.pending.len() as u64);
        let (mut before, mut before_at) = (0, 0);
        for (stream, pending) in &self.pending {
            push_number(&mut out, stream - before);
            push_number(&mut out, pending.consumer);
            // The difference of two times, folded so that small ones of both signs are short.
            let difference = pending.at_unix_ns.wrapping_sub(before_at);
            push_number(&mut out, (difference.wrapping_shl(1) ^ (difference >> 63)) as u64);
            (before, before_at) = (*stream, pending.at_unix_ns);
        }
        push_number(&mut out, self.redelivered.len() as u64);
        for (stream, count) in &self.redelivered {
            push_number(&mut out, *stream);
            push_number(&mut out, u64::from(*count));
        }
        push_number(&mut out, self.ahead.len() as u64);
        let mut before = 0;
        for stream in &self.ahead {
            push_number(&mut out, stream - before);
            before = *stream;
        }
        push_number(&mut out, self.letters.len() as u64);
        for (stream, letter) in &self.letters {
            push_number(&mut out, *stream);
            push_number(&mut out, u64::from(letter.count));
            out.push(u8::from(letter.is_terminated));
            push_number(&mut out, letter.reason.len() as u64);
            out.extend_from_slice(&letter.reason);
        }
        out
    }

    /// Reads a whole state. `None` when the bytes are none.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        bytes = rest;
        if *kind != WHOLE {
            return None;
        }
        let mut place =
            || Some(Place { consumer: take_number(&mut bytes)?, stream: take_number(&mut bytes)? });
        let mut state = Self { delivered: place()?, floor: place()?, ..Self::default() };
        state.looked_at = take_number(&mut bytes)?;
        let (mut stream, mut at) = (0_u64, 0_i64);
        for _ in 0..take_number(&mut bytes)? {
            stream = stream.checked_add(take_number(&mut bytes)?)?;
            let consumer = take_number(&mut bytes)?;
            let folded = take_number(&mut bytes)?;
            let difference = (folded >> 1) as i64 ^ -((folded & 1) as i64);
            at = at.wrapping_add(difference);
            state.pending.insert(stream, Pending { consumer, at_unix_ns: at, deadline_ns: 0 });
        }
        for _ in 0..take_number(&mut bytes)? {
            let stream = take_number(&mut bytes)?;
            let count = u32::try_from(take_number(&mut bytes)?).ok()?;
            state.redelivered.insert(stream, count);
        }
        let mut stream = 0_u64;
        for _ in 0..take_number(&mut bytes)? {
            stream = stream.checked_add(take_number(&mut bytes)?)?;
            state.ahead.push_back(stream);
        }
        for _ in 0..take_number(&mut bytes)? {
            let (stream, letter) = take_letter(&mut bytes)?;
            state.letters.insert(stream, letter);
        }
        bytes.is_empty().then_some(state)
    }

    /// Applies events as [`Event::encode`] wrote them. False when the bytes are not events; what
    /// came before the fault has been applied.
    pub fn replay(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Some(event) = Event::decode(&mut bytes) else { return false };
            self.apply(event);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deliver(state: &mut State, consumer: u64, stream: u64) {
        let place = Place { consumer, stream };
        state.apply(Event::Delivered { place, count: 1, at_unix_ns: 5, tracked: true });
    }

    #[test]
    fn the_floor_follows_the_first_that_waits() {
        let mut state = State::default();
        for seq in 1..=5 {
            deliver(&mut state, seq, seq * 10);
        }
        assert!(state.settle(20).is_some());
        assert_eq!(state.floor, Place::default());
        assert!(state.settle(10).is_some());
        assert_eq!(state.floor, Place { consumer: 2, stream: 29 });
        assert!(state.settle(10).is_none());
        state.settle_all(Place { consumer: 4, stream: 40 }, |_| {});
        assert_eq!(state.floor, Place { consumer: 4, stream: 40 });
        assert!(state.settle(50).is_some());
        assert_eq!(state.floor, Place { consumer: 5, stream: 50 });
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut state = State::default();
        deliver(&mut state, 1, 7);
        let whole = state.encode();
        for len in 0..whole.len() {
            assert!(State::decode(&whole[..len]).is_none());
        }
        assert!(!State::default().replay(&[9]));
        assert!(State::decode(&[WHOLE, 255, 255, 255]).is_none());
    }

    proptest! {
        #[test]
        fn events_and_snapshots_say_the_same(
            steps in proptest::collection::vec((0_u8..4, 1_u64..40), 0..200)
        ) {
            let mut state = State::default();
            let mut log = Vec::new();
            let mut consumer = 0;
            for (kind, number) in steps {
                let event = match kind {
                    0 => {
                        consumer += 1;
                        let stream = state.looked_at + number % 3 + 1;
                        Event::Delivered {
                            place: Place { consumer, stream },
                            count: 1,
                            at_unix_ns: number as i64,
                            tracked: true,
                        }
                    }
                    1 => Event::Settled { stream: number },
                    2 => {
                        let Some(pending) = state.pending.get(&number) else { continue };
                        Event::SettledAll {
                            place: Place { consumer: pending.consumer, stream: number },
                        }
                    }
                    _ => Event::Exhausted { stream: number, count: 3 },
                };
                event.encode(&mut log);
                state.apply(event);
                prop_assert!(state.floor.stream <= state.looked_at);
                if let Some((first, _)) = state.pending.first_key_value() {
                    prop_assert!(state.floor.stream < *first);
                }
            }
            let mut again = State::default();
            prop_assert!(again.replay(&log));
            let read = State::decode(&state.encode());
            for other in [Some(again), read] {
                let other = other.unwrap();
                prop_assert_eq!(&other.pending, &state.pending);
                prop_assert_eq!(&other.redelivered, &state.redelivered);
                prop_assert_eq!(other.floor, state.floor);
                prop_assert_eq!(other.delivered, state.delivered);
            }
        }
    }
}
