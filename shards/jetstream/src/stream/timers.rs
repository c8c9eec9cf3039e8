//! What becomes due by itself: messages that are too old or have lived as long as they may,
//! schedules, batches that are quiet, forgotten message ids.

use store::{ALL, Read};
use wire::headers;
use wire::time::format_go_duration;

use super::draft::{Draft, Refusal, Rollup};
use super::ingest::Publish;
use super::{Cx, Stream};
use crate::context::Context;

/// Messages that one call looks at.
const STEP: usize = 4096;
const SECOND_NS: i64 = 1_000_000_000;

/// What came of letting a message go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Yes,
    /// It is never too old.
    Exempt,
    /// It comes from the disk first.
    Reading,
}

/// Whether a message stands for one that was deleted.
fn is_marker(block: &[u8]) -> bool {
    headers::get(block, b"Nats-Marker-Reason").is_some_and(|reason| !reason.is_empty())
        || headers::get(block, b"KV-Operation") == Some(b"PURGE")
}

fn never_ends(block: &[u8]) -> bool {
    headers::get(block, b"Nats-TTL").is_some_and(|ttl| ttl.eq_ignore_ascii_case(b"never"))
}

impl Stream {
    /// When [`Self::handle_timers`] has something to do, monotonic ns; `u64::MAX` is never.
    #[must_use]
    pub fn next_deadline_ns(&self, ctx: &Context<'_>) -> u64 {
        let wall = [
            self.next_age_ns(),
            self.store.next_expiry_ns(),
            self.schedules.next_ns(),
            self.next_window_ns(),
            if self.overdue.is_empty() { None } else { Some(ctx.unix_ns) },
        ];
        let wall = wall.into_iter().flatten().min().map(|at_ns| {
            let wait_ns = u64::try_from(at_ns.saturating_sub(ctx.unix_ns)).unwrap_or(0);
            ctx.mono_ns.saturating_add(wait_ns)
        });
        // What waits for the disk goes on when it has read, not by time.
        let wall = if self.is_reading { None } else { wall };
        let quiet = self.atomic.next_deadline_ns();
        let fast = self.fast.next_deadline_ns();
        let feeds = self.next_feed_ns();
        let snapshots = self.next_snapshot_ns(ctx.mono_ns);
        [wall, quiet, fast, feeds, snapshots].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn next_age_ns(&self) -> Option<i64> {
        if self.config.max_age_ns <= 0 {
            return None;
        }
        let oldest = self.store.next_matching(b">", self.age_cursor)?;
        Some(self.store.time_of(oldest)?.saturating_add(self.config.max_age_ns))
    }

    fn next_window_ns(&self) -> Option<i64> {
        Some(self.window.oldest_ns()?.saturating_add(self.config.duplicate_window_ns))
    }

    /// Does what is due.
    pub fn handle_timers(&mut self, cx: &mut Cx<'_, '_>) {
        self.is_reading = false;
        self.window.expire(cx.ctx.unix_ns.saturating_sub(self.config.duplicate_window_ns));
        self.expire_batches(cx);
        self.expire_fast_batches(cx);
        self.expire_aged(cx);
        self.expire_ended(cx);
        self.run_schedules(cx);
        self.handle_feed_timers(cx);
        self.run_snapshots(cx);
    }

    /// `max_age`
    fn expire_aged(&mut self, cx: &mut Cx<'_, '_>) {
        if self.config.max_age_ns <= 0 {
            return;
        }
        let oldest_ns = cx.ctx.unix_ns.saturating_sub(self.config.max_age_ns);
        if !self.config.allow_msg_ttl {
            // No message can say otherwise: all at once.
            let keep_from = self.store.seq_at_time(oldest_ns.saturating_add(1));
            self.purge_below(keep_from);
            return;
        }
        for _ in 0..STEP {
            let Some(seq) = self.store.next(ALL, self.age_cursor) else { return };
            if self.store.time_of(seq).is_none_or(|stored_ns| stored_ns > oldest_ns) {
                return;
            }
            if self.let_go(seq, true, cx) == Gone::Reading {
                self.is_reading = true;
                return;
            }
            self.age_cursor = seq.saturating_add(1);
        }
    }

    /// `Nats-TTL`
    fn expire_ended(&mut self, cx: &mut Cx<'_, '_>) {
        if !self.config.allow_msg_ttl {
            return;
        }
        if self.store.next_expiry_ns().is_some_and(|at_ns| at_ns <= cx.ctx.unix_ns) {
            let mut due = Vec::new();
            self.store.take_expired(cx.ctx.unix_ns, &mut due);
            self.overdue.extend(due);
        }
        for _ in 0..STEP {
            let Some(seq) = self.overdue.front().copied() else { return };
            if self.let_go(seq, false, cx) == Gone::Reading {
                self.is_reading = true;
                return;
            }
            self.overdue.pop_front();
        }
    }

    /// Lets a message go whose time has come, leaving a marker if the stream has markers and the
    /// subject would be left without any message.
    fn let_go(&mut self, seq: u64, is_aged: bool, cx: &mut Cx<'_, '_>) -> Gone {
        let leaves_marker = self.config.subject_delete_marker_ttl_ns > 0;
        if !is_aged && !leaves_marker {
            self.take_out(seq);
            return Gone::Yes;
        }
        let subject = match self.store.get(seq, cx.cache, &mut cx.fx.disk) {
            Read::Pending => return Gone::Reading,
            Read::Message(message) => {
                if is_aged && never_ends(message.headers) {
                    return Gone::Exempt;
                }
                (leaves_marker && !is_marker(message.headers)).then(|| message.subject.to_vec())
            }
            Read::Missing => return Gone::Yes,
            Read::Damaged | Read::Failed => None,
        };
        if let Some(subject) = subject
            && self.store.count_for(&subject) == 1
        {
            // The marker takes the message's place if it can be stored.
            let _ = self.place_marker(&subject, "MaxAge", cx);
        }
        self.take_out(seq);
        Gone::Yes
    }

    fn place_marker(
        &mut self,
        subject: &[u8],
        reason: &str,
        cx: &mut Cx<'_, '_>,
    ) -> Result<(), Refusal> {
        let whole = self.config.subject_delete_marker_ttl_ns / SECOND_NS * SECOND_NS;
        let ttl = format_go_duration(whole);
        let block = format!(
            "NATS/1.0\r\nNats-Marker-Reason: {reason}\r\nNats-TTL: {ttl}\r\nNats-Rollup: sub\r\n\r\n"
        );
        let publish = Publish { subject, headers: block.as_bytes(), ..Publish::default() };
        let mut draft = Draft::new(&publish, subject);
        draft.rollup = Some(Rollup::Subject);
        self.place(&mut draft, cx).map(|_| ())
    }
}
