//! The limits of a stream: what is refused because of them, and what leaves.

use store::ALL;
use wire::api::errors;
use wire::api::policy::Discard;
use wire::subject;

use super::Stream;
use super::draft::{Draft, Refusal};

/// Messages that limits take out without a purge being more to the point.
const FOLLOWED_MAX: u64 = 1024;

/// A limit, if it limits.
pub(super) fn limit(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|&limit| limit > 0)
}

impl Stream {
    /// `discard: new`: whether there is room for a message that costs this much.
    pub(super) fn check_limits(&self, draft: &Draft<'_>, cost: u64) -> Result<(), Refusal> {
        if self.config.discard != Discard::New {
            return Ok(());
        }
        let refuse = |text: &str| Err(errors::STREAM_STORE_FAILED.with(text).into());
        // A message of a subject that has all it may have takes the place of another.
        let replaces = limit(self.config.max_msgs_per_subject)
            .is_some_and(|most| self.store.count_for(draft.subject) >= most);
        if replaces && self.config.discard_new_per_subject && draft.found.rollup.is_none() {
            return refuse("maximum messages per subject exceeded");
        }
        let state = self.store.state();
        if !replaces && limit(self.config.max_msgs).is_some_and(|most| state.messages >= most) {
            return refuse("maximum messages exceeded");
        }
        if limit(self.config.max_bytes).is_some_and(|most| state.bytes + cost > most) {
            let freed = self
                .store
                .first_for(draft.subject)
                .filter(|_| replaces)
                .and_then(|first| self.store.size_of(first));
            if freed.is_none_or(|freed| freed < cost) {
                return refuse("maximum bytes exceeded");
            }
        }
        Ok(())
    }

    /// Takes out what is over the limits after a message of this subject came in.
    pub(super) fn enforce_limits_for(&mut self, subject: &[u8]) {
        if let Some(most) = limit(self.config.max_msgs_per_subject) {
            while self.store.count_for(subject) > most {
                let Some(first) = self.store.first_for(subject) else { break };
                self.take_out(first);
            }
        }
        self.enforce_totals();
    }

    /// `max_msgs` and `max_bytes`. A stream that refuses new messages keeps what it has, even when
    /// an update makes that too much.
    pub(super) fn enforce_totals(&mut self) {
        if self.config.discard == Discard::New {
            return;
        }
        let (messages_max, bytes_max) = (limit(self.config.max_msgs), limit(self.config.max_bytes));
        if messages_max.is_none() && bytes_max.is_none() {
            return;
        }
        loop {
            let state = self.store.state();
            let is_over = messages_max.is_some_and(|most| state.messages > most)
                || bytes_max.is_some_and(|most| state.bytes > most);
            if !is_over || state.messages == 0 {
                return;
            }
            let surplus = messages_max.map_or(0, |most| state.messages.saturating_sub(most));
            if surplus > FOLLOWED_MAX
                && let Some(keep_from) = self.seq_of_newest(state.messages - surplus)
            {
                self.purge_below(keep_from);
                continue;
            }
            self.take_out(state.first_seq);
        }
    }

    /// Every limit, after they have changed.
    pub(crate) fn enforce_all_limits(&mut self) {
        if self.store.state().messages == 0 {
            return;
        }
        if let Some(most) = limit(self.config.max_msgs_per_subject) {
            let over: Vec<(Box<[u8]>, u64)> = self
                .store
                .subjects(b">")
                .filter(|(_, state)| state.count > most)
                .map(|(subject, state)| (subject.into(), state.count - most))
                .collect();
            for (subject, surplus) in over {
                for _ in 0..surplus {
                    let Some(first) = self.store.first_for(&subject) else { break };
                    self.take_out(first);
                }
            }
        }
        self.enforce_totals();
    }

    /// The sequence from which on there are exactly `count` messages.
    pub(super) fn seq_of_newest(&mut self, count: u64) -> Option<u64> {
        let state = self.store.state();
        if count == 0 {
            return Some(state.last_seq.saturating_add(1));
        }
        if state.messages < count {
            return None;
        }
        let (mut low, mut high) = (state.first_seq, state.last_seq);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.store.pending(ALL, middle) >= count {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Some(low)
    }

    /// Takes one message out and tells the consumers' memory.
    pub(super) fn take_out(&mut self, seq: u64) -> bool {
        let is_there = self.store.remove(seq, false).is_some();
        if is_there {
            self.removed.note(seq);
        }
        is_there
    }

    /// Removes all messages below a sequence.
    pub(super) fn purge_below(&mut self, seq: u64) {
        let state = self.store.state();
        if state.messages == 0 || seq <= state.first_seq {
            return;
        }
        let to = seq - 1;
        if self.store.remove_up_to(to) > 0 {
            self.removed.note_many();
        }
    }

    /// Removes the messages of one subject below a sequence. A publisher may send to a pattern,
    /// as key-value clients do to purge many keys: that means all that it matches.
    pub(super) fn purge_subject_below(&mut self, subject: &[u8], seq: u64) {
        if !subject::is_literal(subject) {
            if self.store.purge(Some(subject), Some(seq), 0) > 0 {
                self.removed.note_many();
            }
            return;
        }
        while let Some(first) = self.store.first_for(subject).filter(|&first| first < seq) {
            if !self.take_out(first) {
                return;
            }
        }
    }
}
