//! Priority groups: which of the waiting requests may take a message (ADR-42).

use wire::api::advisory::{GroupPinned, GroupUnpinned};
use wire::api::pull::PullRequest;
use wire::api::status::{self, Left, detail};

use super::pull::{rest, send_status};
use super::settings::{Priority, Settings};
use super::waiting::Request;
use super::{Consumer, Cx};

/// The client that gets everything.
#[derive(Clone, Debug)]
pub struct Pin {
    /// What it is called.
    pub id: Box<str>,
    /// Its group.
    pub group: Box<str>,
    /// Since when, unix ns.
    pub since_unix_ns: i64,
    /// Until when it may be silent, monotonic ns.
    pub until_ns: u64,
}

/// Why a pin ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpinned {
    /// By the API.
    Admin,
    /// The client was silent for too long.
    Timeout,
}

/// Whether a request may take a message; `backlog` is what waits for delivery and for
/// acknowledgement.
pub(super) fn may_take(
    request: &Request,
    pin: Option<&Pin>,
    settings: &Settings,
    backlog: (u64, usize),
) -> bool {
    match settings.priority {
        Priority::None | Priority::Prioritized => true,
        Priority::Pinned => pin.is_some_and(|pin| request.pin.as_deref() == Some(&*pin.id)),
        Priority::Overflow => {
            let (pending, ack_pending) = (backlog.0, backlog.1 as u64);
            if request.pending_min == 0 && request.ack_pending_min == 0 {
                return true;
            }
            (request.pending_min > 0 && pending >= request.pending_min)
                || (request.ack_pending_min > 0 && ack_pending >= request.ack_pending_min)
        }
    }
}

/// Why the consumer does not take a request with these fields.
pub(super) fn refusal(request: &PullRequest, settings: &Settings) -> Option<&'static str> {
    let group = &request.group;
    if settings.priority != Priority::Overflow
        && (group.min_pending != 0 || group.min_ack_pending != 0)
    {
        return Some(detail::NOT_OVERFLOW);
    }
    if settings.priority != Priority::Pinned && !group.id.is_empty() {
        return Some(detail::NOT_PINNED_CLIENT);
    }
    if !(0..=9).contains(&group.priority) {
        return Some(detail::PRIORITY_RANGE);
    }
    if settings.priority == Priority::None || settings.groups.is_empty() {
        return None;
    }
    if group.group.is_empty() {
        return Some(detail::GROUP_MISSING);
    }
    let known = settings.groups.iter().any(|name| **name == *group.group);
    (!known).then_some(detail::GROUP_INVALID)
}

/// For a consumer with a pinned client: whether the request may wait, and whether its client is
/// pinned from now on.
pub(super) fn take_pin(
    consumer: &mut Consumer,
    reply: &[u8],
    request: &PullRequest,
    cx: &mut Cx<'_, '_>,
) -> bool {
    if consumer.settings.priority != Priority::Pinned || request.group.id.is_empty() {
        return true;
    }
    let until_ns = cx.ctx.mono_ns.saturating_add(consumer.settings.pinned_ns);
    match &mut consumer.pin {
        Some(pin) if *pin.id == *request.group.id => {
            pin.until_ns = until_ns;
            true
        }
        Some(_) => {
            send_status(cx.fx, consumer.account, reply, status::pin_id_mismatch);
            false
        }
        None => {
            let left = Left { messages: request.batch.max(0), bytes: request.max_bytes.max(0) };
            send_status(cx.fx, consumer.account, reply, |out| {
                status::wrong_pin_id(out, left);
            });
            false
        }
    }
}

/// Adds the pin's id to a header block.
pub(super) fn push_pin_header(block: &mut Vec<u8>, id: &str) {
    if block.is_empty() {
        block.extend_from_slice(b"NATS/1.0\r\n");
    } else {
        block.truncate(block.len().saturating_sub(2));
    }
    block.extend_from_slice(b"Nats-Pin-Id: ");
    block.extend_from_slice(id.as_bytes());
    block.extend_from_slice(b"\r\n\r\n");
}

impl Consumer {
    /// Pins the first waiting client that may be pinned, if nobody is.
    pub(super) fn pin_somebody(&mut self, cx: &mut Cx<'_, '_>) {
        if self.settings.priority != Priority::Pinned || self.pin.is_some() {
            return;
        }
        let Some(at) = (0..self.waiting.len())
            .find(|at| self.waiting.get(*at).is_some_and(|request| request.pin.is_none()))
        else {
            return;
        };
        let id: Box<str> = String::from_utf8_lossy(&cx.ids.next_id()).into();
        let Some(request) = self.waiting.get_mut(at) else { return };
        request.pin = Some(id.clone());
        let group = request.group.clone().unwrap_or_default();
        let pin = Pin {
            id,
            group,
            since_unix_ns: cx.ctx.unix_ns,
            until_ns: cx.ctx.mono_ns.saturating_add(self.settings.pinned_ns),
        };
        let event = GroupPinned {
            account: cx.account_name.to_owned(),
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            domain: cx.domain.to_owned(),
            group: pin.group.to_string(),
            pinned_id: pin.id.to_string(),
        };
        self.advise(&event, cx);
        self.pin = Some(Box::new(pin));
    }

    /// Ends the pin. False when nobody was pinned in the group.
    pub fn unpin(&mut self, group: &str, why: Unpinned, cx: &mut Cx<'_, '_>) -> bool {
        let Some(pin) = self.pin.take_if(|pin| *pin.group == *group) else { return false };
        let reason = match why {
            Unpinned::Admin => "admin",
            Unpinned::Timeout => "timeout",
        };
        let event = GroupUnpinned {
            account: cx.account_name.to_owned(),
            stream: self.stream.to_string(),
            consumer: self.name.to_string(),
            domain: cx.domain.to_owned(),
            group: pin.group.to_string(),
            reason: reason.to_owned(),
        };
        self.advise(&event, cx);
        // The client is told that its next request has the wrong pin.
        let mut at = 0;
        while let Some(request) = self.waiting.get(at) {
            if request.pin.as_deref() != Some(&*pin.id) {
                at += 1;
                continue;
            }
            let left = rest(request);
            send_status(cx.fx, self.account, &request.reply, |out| {
                status::wrong_pin_id(out, left);
            });
            self.waiting.remove(at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_joins_the_headers() {
        let mut block = Vec::new();
        push_pin_header(&mut block, "x");
        assert_eq!(block, b"NATS/1.0\r\nNats-Pin-Id: x\r\n\r\n");
        push_pin_header(&mut block, "y");
        assert_eq!(block, b"NATS/1.0\r\nNats-Pin-Id: x\r\nNats-Pin-Id: y\r\n\r\n");
    }
}
