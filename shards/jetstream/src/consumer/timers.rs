//! What time does to a consumer: redelivery, ends of requests, heartbeats, pause, inactivity, and
//! the writing of its state.

use std::cmp::Reverse;

use super::group::Unpinned;
use super::journal::Entry;
use super::{Consumer, Cx, Verdict};

/// A push consumer that nobody listens to is looked after once in so long, ns.
const RECHECK_NS: u64 = 1_000_000_000;

impl Consumer {
    /// Carries out what is due. Afterwards [`Self::deliver`] may have something to do.
    pub fn handle_deadline(&mut self, cx: &mut Cx<'_, '_>) -> Verdict {
        let now_ns = cx.ctx.mono_ns;
        self.sync(cx);
        self.collect_due(cx);
        self.end_expired(cx);
        self.beat_requests(cx);
        self.beat_push(cx);
        if let Some(pin) = &self.pin
            && pin.until_ns <= now_ns
        {
            let group = pin.group.clone();
            self.unpin(&group, Unpinned::Timeout, cx);
        }
        if self.not_before_ns <= now_ns {
            self.not_before_ns = 0;
        }
        if self.inactive_at_ns() <= now_ns {
            // A request may wait whose client is gone, and the other way round.
            self.check_interest(cx);
            if self.inactive_at_ns() <= now_ns {
                return Verdict::Delete;
            }
        }
        if self.settings.inactive_ns > 0 && !self.waiting.is_empty() {
            self.end_uninterested(cx);
        }
        self.finish_deadline(cx)
    }

    /// Messages whose time for an acknowledgement is over are due again, in order of sequence.
    fn collect_due(&mut self, cx: &mut Cx<'_, '_>) {
        let now_ns = cx.ctx.mono_ns;
        let from = self.due.len();
        while let Some(Reverse((at_ns, seq))) = self.deadlines.peek().copied() {
            if at_ns > now_ns {
                break;
            }
            self.deadlines.pop();
            let current =
                self.state.pending.get(&seq).is_some_and(|pending| pending.deadline_ns == at_ns);
            if current && !self.give_up(seq, cx) {
                self.make_due(seq);
            }
        }
        if self.due.len() > from + 1 {
            self.due.make_contiguous().get_mut(from..).unwrap_or_default().sort_unstable();
        }
    }

    /// When the owner should look again although nothing is due.
    #[must_use]
    pub fn recheck_ns() -> u64 {
        RECHECK_NS
    }

    /// What of the state is to be written to the log now.
    pub fn take_entry(&mut self, now_ns: u64) -> Option<Entry> {
        if self.journal.due_ns() > now_ns {
            return None;
        }
        self.journal.take(&self.state)
    }

    /// What was taken could not be written.
    pub fn note_unwritten(&mut self, now_ns: u64) {
        self.journal.note_unwritten(now_ns);
    }

    /// Confirmations that wait for the state to be durable; the owner sends them when what it has
    /// written so far is.
    pub fn take_confirmations(&mut self) -> Vec<Box<[u8]>> {
        std::mem::take(&mut self.journal.confirmations)
    }

    /// The state is written whole at the next occasion.
    pub fn mark_changed(&mut self, now_ns: u64) {
        self.journal.note_whole(now_ns);
    }
}
