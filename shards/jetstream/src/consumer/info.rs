//! What a consumer says about itself, and its advisories.

use wire::api::advisory::{Action, ConsumerActed, ConsumerPaused, Event, encode_event};
use wire::api::info::{ConsumerInfo, PriorityGroupState, SequenceInfo};
use wire::api::timestamp::Timestamp;

use super::state::Place;
use super::{Consumer, Cx};

fn sequence(place: Place, last_active_unix_ns: i64) -> SequenceInfo {
    SequenceInfo {
        consumer_seq: place.consumer,
        stream_seq: place.stream,
        last_active: (last_active_unix_ns != 0).then_some(Timestamp(last_active_unix_ns)),
    }
}

impl Consumer {
    /// The consumer as the API shows it.
    pub fn info(&mut self, cx: &mut Cx<'_, '_>) -> ConsumerInfo {
        self.end_uninterested(cx);
        let num_pending = self.num_pending(cx);
        let paused = self.is_paused(cx.ctx);
        let left_ns = self.paused_until_unix_ns.saturating_sub(cx.ctx.unix_ns);
        ConsumerInfo {
            stream_name: self.stream.to_string(),
            name: self.name.to_string(),
            created: Timestamp(self.created_unix_ns),
            config: Some(self.config.clone()),
            delivered: sequence(self.passed(), self.last_delivered_unix_ns),
            ack_floor: sequence(self.state.floor, self.last_acked_unix_ns),
            num_ack_pending: self.state.pending.len() as i64,
            num_redelivered: self.state.redelivered.values().filter(|more| **more > 0).count()
                as i64,
            num_waiting: self.waiting.len() as i64,
            num_pending,
            push_bound: self.push.as_ref().is_some_and(|push| push.active),
            paused,
            pause_remaining_ns: if paused { left_ns } else { 0 },
            ts: Timestamp(cx.ctx.unix_ns),
            priority_groups: self.group_states(),
            ..ConsumerInfo::default()
        }
    }

    /// How far it has come in the stream, messages that are not for it included.
    pub(super) fn passed(&self) -> Place {
        let mut passed = self.state.delivered;
        if self.state.ahead.is_empty() {
            passed.stream = passed.stream.max(self.state.looked_at);
        }
        passed
    }

    fn group_states(&self) -> Vec<PriorityGroupState> {
        let state = |group: &str| {
            let pin = self.pin.as_ref().filter(|pin| *pin.group == *group);
            PriorityGroupState {
                group: group.to_owned(),
                pinned_client_id: pin.map_or_else(String::new, |pin| pin.id.to_string()),
                pinned_ts: pin.map_or(Timestamp::ZERO, |pin| Timestamp(pin.since_unix_ns)),
            }
        };
        // nats-server tells of the first group only.
        self.settings.groups.iter().take(1).map(|group| state(group)).collect()
    }

    /// Publishes an advisory, if somebody listens.
    pub(super) fn advise(&self, event: &impl Event, cx: &mut Cx<'_, '_>) {
        let subject = event.subject();
        if cx.ctx.interest.has_interest(self.account, subject.as_bytes()) {
            let id = cx.ids.next_id();
            let id = std::str::from_utf8(&id).unwrap_or_default();
            let body = encode_event(id, Timestamp(cx.ctx.unix_ns), event);
            cx.fx.publish(self.account, subject.as_bytes(), b"", b"", &body);
        }
    }

    /// Tells that the consumer was made or deleted.
    pub fn advise_action(&self, action: Action, cx: &mut Cx<'_, '_>) {
        let event = ConsumerActed {
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            action,
            domain: cx.domain.to_owned(),
        };
        self.advise(&event, cx);
    }

    /// Pauses until a time, or goes on when that is in the past. True when it is paused now.
    pub fn pause(&mut self, until: Timestamp, cx: &mut Cx<'_, '_>) -> bool {
        let paused = !until.is_zero() && until.0 > cx.ctx.unix_ns;
        let until_or_none = Some(until).filter(|until| !until.is_zero());
        let before = std::mem::replace(&mut self.config.pause_until, until_or_none);
        self.apply_pause();
        if before.filter(|until| !until.is_zero()) == until_or_none {
            return paused;
        }
        self.advise_pause(paused, until, cx);
        paused
    }

    /// Tells of the pause of a consumer that was made or changed.
    pub(crate) fn advise_if_paused(&self, cx: &mut Cx<'_, '_>) {
        if let Some(until) = self.config.pause_until.filter(|_| self.is_paused(cx.ctx)) {
            self.advise_pause(true, until, cx);
        }
    }

    fn advise_pause(&self, paused: bool, pause_until: Timestamp, cx: &mut Cx<'_, '_>) {
        let event = ConsumerPaused {
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            paused,
            pause_until,
            domain: cx.domain.to_owned(),
        };
        self.advise(&event, cx);
    }
}
