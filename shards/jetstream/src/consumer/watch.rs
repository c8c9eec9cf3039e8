//! The watchdog: messages wait, clients wait for them, and nothing moves (an extension, see
//! `docs/JETSTREAM.md`). It tells once, and again only after something has moved.

use wire::api::advisory::ConsumerStuck;

use super::{Consumer, Cx, Verdict};
use crate::context::Context;
use crate::effect::Level;

impl Consumer {
    /// Something moved.
    pub(super) fn note_progress(&mut self, now_ns: u64) {
        self.progress_ns = now_ns;
        self.is_stuck = false;
    }

    /// Clients and messages have waited for each other for too long.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Since when nothing was delivered or settled while somebody waited, ns ago.
    #[must_use]
    pub fn idle_ns(&self, ctx: &Context<'_>) -> u64 {
        ctx.mono_ns.saturating_sub(self.progress_ns)
    }

    /// When the watchdog looks, monotonic ns.
    pub(super) fn watch_at_ns(&self) -> u64 {
        let is_full = self.settings.ack_pending_max > 0
            && self.state.pending.len() >= self.settings.ack_pending_max;
        let may_hang = is_full || self.counted.count > 0 || !self.state.ahead.is_empty();
        if self.watch_ns == 0 || self.is_stuck || !may_hang || !self.is_active() {
            return u64::MAX;
        }
        self.progress_ns.saturating_add(self.watch_ns)
    }

    /// Looks whether the consumer hangs, when it is time to.
    pub(super) fn watch(&mut self, cx: &mut Cx<'_, '_>) {
        if self.watch_at_ns() > cx.ctx.mono_ns {
            return;
        }
        self.end_uninterested(cx);
        let pending = self.num_pending(cx);
        if pending == 0 || !self.is_active() || self.is_paused(cx.ctx) || self.is_reading() {
            self.progress_ns = cx.ctx.mono_ns;
            return;
        }
        self.is_stuck = true;
        let oldest = self.state.pending.first_key_value().map(|(seq, _)| *seq);
        let oldest = oldest.or_else(|| cx.store.next(self.filter, self.state.looked_at + 1));
        let event = ConsumerStuck {
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            num_pending: pending,
            num_ack_pending: self.state.pending.len() as i64,
            num_waiting: self.waiting.len() as i64,
            oldest_stream_seq: oldest.unwrap_or(0),
            idle_ns: i64::try_from(self.idle_ns(cx.ctx)).unwrap_or(i64::MAX),
            domain: cx.domain.to_owned(),
        };
        let text = format!(
            "JetStream consumer '{} > {} > {}' is stuck: {pending} messages and {} requests wait, \
             {} deliveries are not acknowledged, the oldest of sequence {}, and nothing has moved \
             for {}",
            cx.account_name,
            self.stream,
            self.name,
            self.waiting.len(),
            self.state.pending.len(),
            event.oldest_stream_seq,
            wire::time::format_go_duration(event.idle_ns),
        );
        cx.fx.log(Level::Warn, text);
        self.advise(&event, cx);
    }

    /// The deadline's last word, once everything due is done.
    pub(super) fn finish_deadline(&mut self, cx: &mut Cx<'_, '_>) -> Verdict {
        self.watch(cx);
        Verdict::Keep
    }
}
