//! What a consumer says about itself, and its advisories.

use wire::api::advisory::{self, Event, Scope};
use wire::api::timestamp::Timestamp;
use wire::api::{ConsumerInfo, PriorityGroupState, SequenceInfo};

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
        let num_pending = self.num_pending(cx);
        let paused = self.is_paused(cx.ctx);
        let left_ns = self.paused_until_unix_ns.saturating_sub(cx.ctx.unix_ns);
        ConsumerInfo {
            stream_name: self.stream.to_string(),
            name: self.name.to_string(),
            created: Timestamp(self.created_unix_ns),
            config: Some((*self.config).clone()),
            delivered: sequence(self.state.delivered, self.last_delivered_unix_ns),
            ack_floor: sequence(self.state.floor, self.last_acked_unix_ns),
            num_ack_pending: self.state.pending.len() as i64,
            num_redelivered: self.state.redelivered.len() as i64,
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

    fn group_states(&self) -> Vec<PriorityGroupState> {
        let state = |group: &Box<str>| {
            let pin = self.pin.as_ref().filter(|pin| pin.group == *group);
            PriorityGroupState {
                group: group.to_string(),
                pinned_client_id: pin.map_or_else(String::new, |pin| pin.id.to_string()),
                pinned_ts: pin.map(|pin| Timestamp(pin.since_unix_ns)),
            }
        };
        self.settings.groups.iter().map(state).collect()
    }

    /// The head of an advisory.
    pub(super) fn event(&self, cx: &mut Cx<'_, '_>) -> Event {
        Event {
            id: String::from_utf8_lossy(&cx.ids.next_id()).into_owned(),
            timestamp: Timestamp(cx.ctx.unix_ns),
        }
    }

    /// Whom an advisory is about.
    pub(super) fn scope<'a>(&'a self, domain: &'a str) -> Scope<'a> {
        Scope { stream: &self.stream, consumer: &self.name, domain }
    }

    /// Tells that the consumer was made or deleted.
    pub fn advise_action(&self, action: advisory::Action, cx: &mut Cx<'_, '_>) {
        let event = self.event(cx);
        let (subject, body) = advisory::consumer_action(event, self.scope(cx.domain), action);
        cx.fx.publish(self.account, subject.as_bytes(), b"", b"", body.as_bytes());
    }

    /// Pauses until a time, or goes on when that is in the past.
    pub fn pause(&mut self, until: Option<Timestamp>, cx: &mut Cx<'_, '_>) -> bool {
        let until = until.filter(|until| !until.is_zero() && until.0 > cx.ctx.unix_ns);
        self.config.pause_until = until;
        self.apply_pause();
        let paused = until.is_some();
        let event = self.event(cx);
        let (subject, body) =
            advisory::consumer_pause(event, self.scope(cx.domain), paused, until);
        cx.fx.publish(self.account, subject.as_bytes(), b"", b"", body.as_bytes());
        paused
    }
}
