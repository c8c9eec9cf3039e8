//! The push side of a consumer: whether somebody listens, how much may be on its way, heartbeats.

use wire::api::status;
use wire::headers;

use super::flow::{Rate, Window};
use super::settings::Ack;
use super::state::{Event, Place};
use super::{Consumer, Cx};

/// See the module.
#[derive(Debug)]
pub struct Push {
    /// Somebody listens to the delivery subject.
    pub active: bool,
    window: Option<Window>,
    rate: Option<Rate>,
    heartbeat_ns: u64,
    heartbeat_at_ns: u64,
}

impl Push {
    /// The push side for a configuration.
    #[must_use]
    pub fn new(settings: &super::settings::Settings) -> Self {
        Self {
            active: false,
            window: settings.flow_control.then(Window::default),
            rate: (settings.rate_bytes > 0).then(|| Rate::new(settings.rate_bytes)),
            heartbeat_ns: settings.heartbeat_ns,
            heartbeat_at_ns: 0,
        }
    }

    /// A message went to the receiver.
    pub(super) fn note_sent(&mut self, bytes: usize, now_ns: u64) {
        if let Some(window) = &mut self.window {
            window.note_sent(bytes);
        }
        if let Some(rate) = &mut self.rate {
            rate.note_sent(bytes, now_ns);
        }
        self.heartbeat_at_ns = now_ns.saturating_add(self.heartbeat_ns);
    }

    /// When the next heartbeat is due, monotonic ns.
    pub(super) fn next_deadline_ns(&self) -> u64 {
        if self.active && self.heartbeat_ns > 0 { self.heartbeat_at_ns } else { u64::MAX }
    }
}

impl Consumer {
    /// Looks whether somebody listens to the delivery subject. True when that changed. Who listens
    /// to a pattern that matches it, as for watching, does not count.
    pub fn check_interest(&mut self, cx: &mut Cx<'_, '_>) -> bool {
        let Some(push) = &mut self.push else { return false };
        let queue = Some(self.config.deliver_group.as_bytes()).filter(|queue| !queue.is_empty());
        let to = &self.settings.deliver_subject;
        let active = cx.ctx.interest.has_own_interest(self.account, to, queue);
        if active == push.active {
            return false;
        }
        push.active = active;
        self.last_used_ns = cx.ctx.mono_ns;
        self.progress_ns = cx.ctx.mono_ns;
        if active {
            push.heartbeat_at_ns = cx.ctx.mono_ns.saturating_add(push.heartbeat_ns);
            // What the last receiver did not confirm is not on its way any more.
            if push.window.is_some() {
                push.window = Some(Window::default());
            }
        }
        true
    }

    /// Whether the receiver may get a message now.
    pub(super) fn push_is_open(&mut self, cx: &Cx<'_, '_>) -> bool {
        let Some(push) = &self.push else { return false };
        if !push.active || push.window.as_ref().is_some_and(|window| !window.is_open()) {
            return false;
        }
        if let Some(rate) = &push.rate
            && rate.free_at_ns() > cx.ctx.mono_ns
        {
            self.not_before_ns = rate.free_at_ns();
            return false;
        }
        true
    }

    fn flow_subject(&self, number: u64) -> Vec<u8> {
        let mut subject = b"$JS.FC.".to_vec();
        subject.extend_from_slice(self.stream.as_bytes());
        subject.push(b'.');
        subject.extend_from_slice(self.name.as_bytes());
        subject.push(b'.');
        wire::client::encode::push_u64(&mut subject, number);
        subject
    }

    /// Asks the receiver how far it is, when enough is on its way, or when its answer settles
    /// messages and no more may be out.
    pub(super) fn ask_receiver(&mut self, cx: &mut Cx<'_, '_>) {
        let max = self.settings.ack_pending_max;
        let settles = self.settings.ack == Ack::FlowControl;
        self.ask(settles && max > 0 && self.state.pending.len() >= max, cx);
    }

    fn ask(&mut self, at_once: bool, cx: &mut Cx<'_, '_>) {
        let Some(push) = &mut self.push else { return };
        let Some(number) = push.window.as_mut().and_then(|window| window.ask(at_once)) else {
            return;
        };
        let subject = self.flow_subject(number);
        let mut headers = Vec::new();
        status::flow_control_request(&mut headers);
        cx.fx.publish(self.account, &self.settings.deliver_subject, &subject, &headers, b"");
    }

    /// The receiver answers; `number` is the last token of the subject. If answers settle
    /// messages, the headers say up to where: without both of them nothing is settled.
    pub fn handle_flow_answer(&mut self, number: &[u8], headers: &[u8], cx: &mut Cx<'_, '_>) {
        let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
        let (Some(number), Some(push)) = (number, &mut self.push) else { return };
        let Some(window) = &mut push.window else { return };
        if !window.handle_answer(number) || self.settings.ack != Ack::FlowControl {
            return;
        }
        let delivered = self.state.delivered;
        let place = Place {
            consumer: number_of(headers, b"Nats-Last-Consumer").min(delivered.consumer),
            stream: number_of(headers, b"Nats-Last-Stream").min(delivered.stream),
        };
        if place.consumer == 0 || place.stream == 0 {
            return;
        }
        self.sync(cx);
        let settled = &mut *cx.settled;
        self.state.settle_all(place, |seq| settled.push(seq));
        self.journal.note(&Event::SettledAll { place }, cx.ctx.mono_ns);
        self.last_acked_unix_ns = cx.ctx.unix_ns;
        self.note_progress(cx.ctx.mono_ns);
    }

    /// Sends the heartbeat that is due.
    pub(super) fn beat_push(&mut self, cx: &mut Cx<'_, '_>) {
        let delivered = self.passed();
        let Some(push) = &mut self.push else { return };
        if push.next_deadline_ns() > cx.ctx.mono_ns {
            return;
        }
        push.heartbeat_at_ns = cx.ctx.mono_ns.saturating_add(push.heartbeat_ns);
        let asked = push.window.as_ref().and_then(Window::asked);
        let stalled = asked.map(|number| self.flow_subject(number));
        let mut headers = Vec::new();
        status::idle_heartbeat(
            &mut headers,
            delivered.consumer,
            delivered.stream,
            stalled.as_deref(),
        );
        cx.fx.publish(self.account, &self.settings.deliver_subject, b"", &headers, b"");
        // An idle receiver has to be asked, or the last messages would never be settled.
        if self.settings.ack == Ack::FlowControl && !self.state.pending.is_empty() {
            self.ask(true, cx);
        }
    }
}

/// The number in a header; 0 without one.
fn number_of(block: &[u8], key: &[u8]) -> u64 {
    let value = headers::get(block, key).and_then(|value| std::str::from_utf8(value).ok());
    value.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
