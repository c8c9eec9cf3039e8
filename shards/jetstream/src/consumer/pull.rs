//! Pull requests: whether one is taken, which one gets a message, how each ends.
//! Behaviour: ADR-13, ADR-42 and the server's own texts.

use wire::api::pull::PullRequest;
use wire::api::status::{self, Left};

use super::group::{self, Pin};
use super::settings::{Priority, Settings};
use super::waiting::{Request, Waiting};
use super::{Consumer, Cx};
use crate::context::Context;
use crate::effect::Effects;

/// Sends a client a message that is only a status.
pub(crate) fn send_status(
    fx: &mut Effects,
    account: u32,
    reply: &[u8],
    write: impl FnOnce(&mut Vec<u8>),
) {
    if !reply.is_empty() {
        let mut headers = Vec::with_capacity(96);
        write(&mut headers);
        fx.publish(account, reply, b"", &headers, b"");
    }
}

/// What a request still wants, as its end tells it.
pub(super) fn rest(request: &Request) -> Left {
    Left { messages: i64::from(request.left), bytes: request.bytes_left.unwrap_or(0) as i64 }
}

/// A client's subscription may become known to this shard later than its request: for so long
/// nobody is taken for gone, ns.
const GRACE_NS: u64 = 20_000_000;
/// Time between two looks for such a subscription, ns.
const LOOK_NS: u64 = 1_000_000;
/// Shortest distance of heartbeats, ns: a client that asks for less costs no more than this.
const HEARTBEAT_MIN_NS: u64 = 1_000_000;

/// What a request is chosen by.
pub(super) struct Choice<'a, 'c> {
    pub ctx: &'a Context<'c>,
    pub account: u32,
    pub settings: &'a Settings,
    pub pin: Option<&'a Pin>,
    /// What the message counts against the bytes of a request.
    pub bytes: usize,
    /// Messages that wait for delivery, and for acknowledgement.
    pub backlog: (u64, usize),
}

/// Whether a request's client listens.
enum Client {
    Listens,
    Gone,
    /// Its subscription may be on the way.
    Unseen,
}

/// Looks for the client of a request, once a turn.
fn look(request: &mut Request, ctx: &Context<'_>, account: u32) -> Client {
    let now_ns = ctx.mono_ns;
    if request.seen_ns == now_ns {
        return Client::Listens;
    }
    if ctx.interest.has_interest(account, &request.reply) {
        request.seen_ns = now_ns;
        request.look_at_ns = 0;
        return Client::Listens;
    }
    if request.seen_ns == 0 && now_ns < request.received_ns.saturating_add(GRACE_NS) {
        request.look_at_ns = now_ns.saturating_add(LOOK_NS);
        return Client::Unseen;
    }
    Client::Gone
}

/// The request that gets a message. Requests that cannot take so much end, and those whose
/// clients are gone.
pub(super) fn choose(
    waiting: &mut Waiting,
    choice: &Choice<'_, '_>,
    fx: &mut Effects,
) -> Option<usize> {
    let mut at = 0;
    while let Some(request) = waiting.get_mut(at) {
        if !group::may_take(request, choice.pin, choice.settings, choice.backlog) {
            at += 1;
            continue;
        }
        match look(request, choice.ctx, choice.account) {
            Client::Listens => {}
            Client::Unseen => {
                at += 1;
                continue;
            }
            Client::Gone => {
                waiting.remove(at);
                continue;
            }
        }
        let bytes = choice.bytes;
        if request.bytes_left.is_none_or(|left| bytes <= left) {
            return Some(at);
        }
        let left = rest(request);
        send_status(fx, choice.account, &request.reply, |out| {
            status::message_size_exceeds_max_bytes(out, left);
        });
        waiting.remove(at);
    }
    None
}

impl Consumer {
    /// A client asks for messages.
    pub fn handle_pull(
        &mut self,
        reply: &[u8],
        parsed: Result<PullRequest, String>,
        cx: &mut Cx<'_, '_>,
    ) {
        let account = self.account;
        self.last_used_ns = cx.ctx.mono_ns;
        if reply.is_empty() {
            return;
        }
        if self.settings.is_push() {
            return send_status(cx.fx, account, reply, status::consumer_is_push_based);
        }
        let refused = match parsed {
            Ok(request) => match self.refusal(&request) {
                None => return self.take_pull(reply, &request, cx),
                Some(refused) => refused,
            },
            Err(text) => Refusal::Bad(text),
        };
        send_status(cx.fx, account, reply, |out| match refused {
            Refusal::Bad(text) => status::bad_request(out, &text),
            Refusal::Batch(max) => status::exceeded_max_batch(out, i64::from(max)),
            Refusal::Expires(max) => status::exceeded_max_expires(out, max as i64),
            Refusal::Bytes(max) => status::exceeded_max_bytes(out, max as i64),
        });
    }

    fn refusal(&self, request: &PullRequest) -> Option<Refusal> {
        let settings = &self.settings;
        if settings.batch_max > 0 && batch_of(request) > settings.batch_max {
            return Some(Refusal::Batch(settings.batch_max));
        }
        let expires_ns = request.expires_ns.max(0) as u64;
        if settings.expires_max_ns > 0 && expires_ns > settings.expires_max_ns {
            return Some(Refusal::Expires(settings.expires_max_ns));
        }
        let bytes = usize::try_from(request.max_bytes).unwrap_or(0);
        if settings.request_bytes_max > 0 && bytes > settings.request_bytes_max {
            return Some(Refusal::Bytes(settings.request_bytes_max));
        }
        group::refusal(request, settings).map(|text| Refusal::Bad(text.to_owned()))
    }

    fn take_pull(&mut self, reply: &[u8], request: &PullRequest, cx: &mut Cx<'_, '_>) {
        let now_ns = cx.ctx.mono_ns;
        self.end_expired(cx);
        let mut expires_ns = match request.expires_ns {
            0 => 0,
            wait => now_ns.saturating_add(wait.max(0) as u64).max(1),
        };
        if expires_ns == 0 && self.settings.expires_max_ns > 0 && !request.no_wait {
            expires_ns = now_ns.saturating_add(self.settings.expires_max_ns);
        }
        if request.expires_ns < 0 {
            let left = Left { messages: request.batch.max(0), bytes: request.max_bytes.max(0) };
            return send_status(cx.fx, self.account, reply, |out| {
                status::request_timeout(out, left);
            });
        }
        if request.no_wait && expires_ns == 0 && !self.may_not_wait(reply, request, cx) {
            return;
        }
        if self.waiting.len() >= self.settings.waiting_max {
            self.end_uninterested(cx);
        }
        if self.waiting.len() >= self.settings.waiting_max {
            if request.idle_heartbeat_ns == 0 {
                send_status(cx.fx, self.account, reply, status::exceeded_max_waiting);
            }
            return;
        }
        if !group::take_pin(self, reply, request, cx) {
            return;
        }
        let heartbeat_ns = match request.idle_heartbeat_ns {
            ..=0 => 0,
            wanted => (wanted as u64).max(HEARTBEAT_MIN_NS),
        };
        let bytes = usize::try_from(request.max_bytes).unwrap_or(0);
        if self.waiting.is_empty() {
            self.note_progress(now_ns);
        }
        self.waiting.push(Request {
            reply: reply.into(),
            left: batch_of(request),
            delivered: 0,
            bytes_left: (bytes > 0).then_some(bytes),
            expires_ns,
            no_wait: request.no_wait,
            heartbeat_ns,
            heartbeat_at_ns: now_ns.saturating_add(heartbeat_ns),
            received_ns: now_ns,
            seen_ns: 0,
            look_at_ns: 0,
            group: (!request.group.group.is_empty()).then(|| request.group.group.as_str().into()),
            pending_min: request.group.min_pending.max(0) as u64,
            ack_pending_min: request.group.min_ack_pending.max(0) as u64,
            pin: (!request.group.id.is_empty()).then(|| request.group.id.as_str().into()),
            priority: if self.settings.priority == Priority::Prioritized {
                request.group.priority as u8
            } else {
                0
            },
        });
    }

    /// A request that does not wait: whether there is something for it.
    fn may_not_wait(&mut self, reply: &[u8], request: &PullRequest, cx: &mut Cx<'_, '_>) -> bool {
        let pending = self.num_pending(cx) + self.due.len() as u64;
        if pending == 0 || self.is_full() {
            send_status(cx.fx, self.account, reply, status::no_messages);
            return false;
        }
        let wanted: u64 = self.waiting.iter().map(|other| u64::from(other.left.max(1))).sum();
        if wanted >= pending && request.no_wait && !self.waiting.is_empty() {
            send_status(cx.fx, self.account, reply, status::requests_pending);
            return false;
        }
        true
    }

    fn is_full(&self) -> bool {
        let max = self.settings.ack_pending_max;
        max > 0 && self.state.pending.len() >= max && self.due.is_empty()
    }

    /// A request got a message.
    pub(super) fn settle_request(&mut self, at: usize, bytes: usize, cx: &mut Cx<'_, '_>) {
        let Some(request) = self.waiting.get_mut(at) else { return };
        request.left = request.left.saturating_sub(1);
        request.delivered += 1;
        request.heartbeat_at_ns = cx.ctx.mono_ns.saturating_add(request.heartbeat_ns);
        if let Some(left) = &mut request.bytes_left {
            *left = left.saturating_sub(bytes);
        }
        let done = request.left == 0 || request.bytes_left == Some(0);
        if !done {
            return self.waiting.rotate(at);
        }
        let Some(request) = self.waiting.remove(at) else { return };
        // Who counts bytes is told what is left of them.
        if request.bytes_left.is_some() {
            let left = rest(&request);
            send_status(cx.fx, self.account, &request.reply, |out| {
                status::batch_completed(out, left);
            });
        }
        if self.waiting.is_empty() {
            self.last_used_ns = cx.ctx.mono_ns;
        }
    }

    /// There is nothing for anybody now: requests that do not wait end.
    pub(super) fn end_no_waits(&mut self, cx: &mut Cx<'_, '_>) {
        let mut at = 0;
        while let Some(request) = self.waiting.get(at) {
            let one_shot = request.no_wait && (request.delivered > 0 || request.expires_ns == 0);
            if !one_shot {
                at += 1;
                continue;
            }
            send_status(cx.fx, self.account, &request.reply, status::no_messages);
            self.waiting.remove(at);
        }
    }

    /// Ends the requests whose time is over.
    pub(super) fn end_expired(&mut self, cx: &mut Cx<'_, '_>) {
        let now_ns = cx.ctx.mono_ns;
        let mut at = 0;
        while let Some(request) = self.waiting.get(at) {
            if request.expires_ns == 0 || request.expires_ns > now_ns {
                at += 1;
                continue;
            }
            let left = rest(request);
            send_status(cx.fx, self.account, &request.reply, |out| {
                status::request_timeout(out, left);
            });
            self.waiting.remove(at);
            self.last_used_ns = now_ns;
        }
    }

    /// Ends the requests whose clients listen no longer.
    pub(super) fn end_uninterested(&mut self, cx: &mut Cx<'_, '_>) {
        let mut at = 0;
        while let Some(request) = self.waiting.get_mut(at) {
            match look(request, cx.ctx, self.account) {
                Client::Gone => {
                    self.waiting.remove(at);
                }
                Client::Listens | Client::Unseen => at += 1,
            }
        }
    }

    /// Heartbeats of requests that have been idle for long enough. One that does not wait and has
    /// got something ends instead.
    pub(super) fn beat_requests(&mut self, cx: &mut Cx<'_, '_>) {
        let (now_ns, delivered) = (cx.ctx.mono_ns, self.passed());
        let mut at = 0;
        while let Some(request) = self.waiting.get_mut(at) {
            if request.heartbeat_ns == 0 || request.heartbeat_at_ns > now_ns {
                at += 1;
                continue;
            }
            if request.no_wait && request.delivered > 0 {
                send_status(cx.fx, self.account, &request.reply, status::no_messages);
                self.waiting.remove(at);
                continue;
            }
            at += 1;
            request.heartbeat_at_ns = now_ns.saturating_add(request.heartbeat_ns);
            send_status(cx.fx, self.account, &request.reply, |out| {
                status::idle_heartbeat(out, delivered.consumer, delivered.stream, None);
            });
        }
    }

    /// Ends every request, with what each still wanted.
    pub fn end_all_requests(&mut self, cx: &mut Cx<'_, '_>, why: Ending) {
        for request in self.waiting.take_all() {
            let left = rest(&request);
            send_status(cx.fx, self.account, &request.reply, |out| match why {
                Ending::Deleted => status::consumer_deleted(out),
                Ending::Shutdown => status::server_shutdown(out, left),
            });
        }
    }
}

/// Why all requests end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The consumer is deleted.
    Deleted,
    /// The server stops.
    Shutdown,
}

/// Why a request is not taken.
enum Refusal {
    Bad(String),
    Batch(u32),
    Expires(u64),
    Bytes(usize),
}

/// Messages that a request asks for. One that names none gets one, and says 0 when it ends.
fn batch_of(request: &PullRequest) -> u32 {
    u32::try_from(request.batch.max(0)).unwrap_or(u32::MAX)
}
