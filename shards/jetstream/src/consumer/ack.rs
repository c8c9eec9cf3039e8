//! Acknowledgements: what each form does to the message, and when the client is told.

use std::cmp::Reverse;

use wire::api::advisory::{AckMetric, MaxDeliveries, MsgNaked, MsgTerminated};
use wire::api::pull::{Ack as Body, PullRequest};

use super::settings::Ack;
use super::state::{Event, Pending, Place};
use super::{Consumer, Cx};

/// The delivery that an acknowledgement names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Sequence of the stream.
    pub stream: u64,
    /// Sequence of the delivery.
    pub consumer: u64,
    /// Deliveries at that time.
    pub count: u64,
}

impl Consumer {
    /// A client acknowledges. `reply` is where it wants that confirmed, or where messages go
    /// that it asks for at the same time.
    pub fn handle_ack(&mut self, named: Named, body: &Body<'_>, reply: &[u8], cx: &mut Cx<'_, '_>) {
        self.sync(cx);
        self.last_used_ns = cx.ctx.mono_ns;
        let known = named.stream <= self.state.delivered.stream && self.settings.tracks();
        if known {
            match *body {
                Body::Ack | Body::Next { .. } => self.acknowledge(named, cx),
                Body::Nak { delay_ns } => self.handle_nak(named, delay_ns, cx),
                Body::Progress => self.handle_progress(named, cx),
                Body::Term { reason } => self.handle_term(named, reason, cx),
            }
        }
        match *body {
            Body::Next { request } => self.handle_pull(reply, PullRequest::parse(request), cx),
            _ => self.confirm(reply, cx),
        }
    }

    /// Tells the client that its acknowledgement counts, once that is kept.
    fn confirm(&mut self, reply: &[u8], cx: &mut Cx<'_, '_>) {
        if reply.is_empty() {
            return;
        }
        if self.journal.off {
            return cx.fx.publish(self.account, reply, b"", b"", b"");
        }
        self.journal.confirmations.push(reply.into());
        self.journal.note_confirmation(cx.ctx.mono_ns);
    }

    fn acknowledge(&mut self, named: Named, cx: &mut Cx<'_, '_>) {
        match self.settings.ack {
            Ack::Explicit | Ack::FlowControl => {
                let count = self.state.deliveries(named.stream);
                let Some(pending) = self.state.settle(named.stream) else {
                    return self.settle_late(named.stream, cx);
                };
                self.journal.note(&Event::Settled { stream: named.stream }, cx.ctx.mono_ns);
                cx.settled.push(named.stream);
                self.sample(named.stream, &pending, count, cx);
            }
            Ack::All => {
                let place = Place { consumer: named.consumer, stream: named.stream };
                let settled = &mut *cx.settled;
                self.state.settle_all(place, |seq| settled.push(seq));
                self.journal.note(&Event::SettledAll { place }, cx.ctx.mono_ns);
            }
            Ack::None => return,
        }
        self.last_acked_unix_ns = cx.ctx.unix_ns;
        self.note_progress(cx.ctx.mono_ns);
    }

    /// A message that waits no longer, because it had all its deliveries, may leave the stream
    /// after all.
    fn settle_late(&mut self, seq: u64, cx: &mut Cx<'_, '_>) {
        if self.state.letters.contains_key(&seq) {
            return;
        }
        let subject = cx.store.subject_of(seq);
        if subject.is_some_and(|subject| cx.store.matches(self.filter, subject)) {
            self.state.redelivered.remove(&seq);
            self.journal.note(&Event::Settled { stream: seq }, cx.ctx.mono_ns);
            cx.settled.push(seq);
        }
    }

    /// Reports how long a message took, for one of so many.
    fn sample(&mut self, seq: u64, pending: &Pending, count: u32, cx: &mut Cx<'_, '_>) {
        let percent = self.settings.sample_percent;
        // A fixed spread over the sequences: every run of the same messages samples the same.
        let draw = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100;
        if draw >= u64::from(percent) {
            return;
        }
        let event = AckMetric {
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            consumer_seq: pending.consumer,
            stream_seq: seq,
            ack_time_ns: cx.ctx.unix_ns.saturating_sub(pending.at_unix_ns).max(0),
            deliveries: u64::from(count),
            domain: cx.domain.to_owned(),
        };
        self.advise(&event, cx);
    }

    /// A message has left the stream. If it was on its way, it is told of as given up.
    pub(super) fn advise_deleted(&self, seq: u64, cx: &mut Cx<'_, '_>) {
        let Some(pending) = self.state.pending.get(&seq) else { return };
        let event = MsgTerminated {
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            consumer_seq: pending.consumer,
            stream_seq: seq,
            deliveries: u64::from(self.state.deliveries(seq)),
            reason: "Unacknowledged message was deleted".to_owned(),
            domain: cx.domain.to_owned(),
        };
        self.advise(&event, cx);
    }

    fn handle_nak(&mut self, named: Named, delay_ns: Option<i64>, cx: &mut Cx<'_, '_>) {
        let count = self.state.deliveries(named.stream);
        if !self.state.pending.contains_key(&named.stream) {
            return;
        }
        let seq = named.stream;
        let event = MsgNaked {
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            consumer_seq: named.consumer,
            stream_seq: seq,
            deliveries: u64::from(count),
            domain: cx.domain.to_owned(),
        };
        self.advise(&event, cx);
        match delay_ns {
            Some(delay) if delay > 0 => {
                // It may have been due already, its time having passed. That is rare.
                if self.due_set.remove(&seq) {
                    self.due.retain(|other| *other != seq);
                }
                let at_ns = cx.ctx.mono_ns.saturating_add(delay as u64);
                self.arm(seq, at_ns);
            }
            _ => self.make_due(seq),
        }
    }

    fn handle_progress(&mut self, named: Named, cx: &mut Cx<'_, '_>) {
        let count = self.state.deliveries(named.stream);
        let at_ns = cx.ctx.mono_ns.saturating_add(self.settings.wait_ns(count));
        if let Some(pending) = self.state.pending.get_mut(&named.stream) {
            pending.at_unix_ns = cx.ctx.unix_ns;
            self.arm(named.stream, at_ns);
        }
    }

    fn handle_term(&mut self, named: Named, reason: &[u8], cx: &mut Cx<'_, '_>) {
        let count = self.state.deliveries(named.stream);
        if !self.state.pending.contains_key(&named.stream) {
            return;
        }
        let seq = named.stream;
        let event = MsgTerminated {
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            consumer_seq: named.consumer,
            stream_seq: seq,
            deliveries: u64::from(count),
            reason: String::from_utf8_lossy(reason).into_owned(),
            domain: cx.domain.to_owned(),
        };
        self.advise(&event, cx);
        if self.state.settle(seq).is_some() {
            self.journal.note(&Event::Settled { stream: seq }, cx.ctx.mono_ns);
            if !self.make_letter(seq, count, Some(reason), cx) {
                cx.settled.push(seq);
            }
            self.last_acked_unix_ns = cx.ctx.unix_ns;
            self.note_progress(cx.ctx.mono_ns);
        }
    }

    /// A message is delivered again at a time unless it is settled before.
    pub(super) fn arm(&mut self, seq: u64, at_ns: u64) {
        if let Some(pending) = self.state.pending.get_mut(&seq) {
            pending.deadline_ns = at_ns;
            self.deadlines.push(Reverse((at_ns, seq)));
        }
        // Entries of settled messages are swept out before they outgrow the others.
        if self.deadlines.len() > 2 * self.state.pending.len() + 1024 {
            let pending = &self.state.pending;
            let live = pending.iter().filter(|(_, pending)| pending.deadline_ns > 0);
            self.deadlines =
                live.map(|(seq, pending)| Reverse((pending.deadline_ns, *seq))).collect();
        }
    }

    /// A message is delivered again as soon as possible.
    pub(super) fn make_due(&mut self, seq: u64) {
        if let Some(pending) = self.state.pending.get_mut(&seq) {
            pending.deadline_ns = 0;
            if self.due_set.insert(seq) {
                self.due.push_back(seq);
            }
        }
    }

    /// Gives a message up that has had all its deliveries. False when it has not.
    pub(super) fn give_up(&mut self, seq: u64, cx: &mut Cx<'_, '_>) -> bool {
        let count = self.state.deliveries(seq);
        let is_last = self.settings.deliver_max > 0 && count >= self.settings.deliver_max;
        if is_last {
            self.exhaust(seq, count, cx);
        }
        is_last
    }

    /// A message has had all its deliveries.
    pub(super) fn exhaust(&mut self, seq: u64, count: u32, cx: &mut Cx<'_, '_>) {
        let event = Event::Exhausted { stream: seq, count };
        self.state.apply(event);
        self.journal.note(&event, cx.ctx.mono_ns);
        self.make_letter(seq, count, None, cx);
        let event = MaxDeliveries {
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            stream_seq: seq,
            deliveries: u64::from(count),
            domain: cx.domain.to_owned(),
        };
        self.advise(&event, cx);
    }
}
