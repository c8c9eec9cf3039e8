//! The broker and JetStream of one shard, side by side: what came for JetStream goes there, and
//! what it wants to publish goes back, until nothing is left to carry.
//!
//! ```text
//!  broker ──ServiceInbox──► jetstream ──Effects──► broker, other shards, disk
//!     ▲                                               │
//!     └───────────── again, while something came ─────┘
//! ```

use std::cell::RefCell;
use std::collections::VecDeque;

use broker::account::CLIENT_HEADER;
use broker::broker::Broker;
use broker::clock::Now;
use broker::effect::{Effects, Level};
use broker::index::{ShardId, SubId};
use broker::service::{SERVICE_SLOT, ServiceInput, ServicePublish};
use hashbrown::HashMap;
use jetstream::context::{Context, Interest as Listeners};
use jetstream::domain::JetStream;
use jetstream::domain::parcel::{Parcel, Request};
use jetstream::effect::{AfterInterest, Endpoint, Interest, Level as JsLevel};
use rustc_hash::FxBuildHasher;

/// Rounds in which messages of JetStream may lead to others before other work gets its turn.
const ROUNDS_MAX: usize = 64;

/// The broker, as JetStream looks at it.
struct View<'a>(RefCell<&'a mut Broker>);

impl Listeners for View<'_> {
    fn has_interest(&self, account: u32, subject: &[u8]) -> bool {
        self.0.borrow_mut().has_interest(account, subject)
    }

    fn has_own_interest(&self, account: u32, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.0.borrow_mut().has_own_interest(account, subject, queue)
    }
}

/// The subscriptions of JetStream in the broker.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    ids: HashMap<(Endpoint, Box<[u8]>), SubId, FxBuildHasher>,
    /// What waits until the other shards know the interest before it.
    held: VecDeque<(Vec<(ShardId, u64)>, AfterInterest)>,
}

/// An endpoint as the broker's tag.
fn tag_of(endpoint: Endpoint) -> u64 {
    let (kind, slot, part) = match endpoint {
        Endpoint::Stream(slot) => (0, slot, 0),
        Endpoint::Source(slot, part) => (1, slot, part),
        Endpoint::Restore(slot) => (2, slot, 0),
        Endpoint::Reply(slot, part) => (3, slot, part),
    };
    kind << 60 | u64::from(slot & 0xfff_ffff) << 32 | u64::from(part)
}

fn endpoint_of(tag: u64) -> Endpoint {
    let slot = (tag >> 32) as u32 & 0xfff_ffff;
    let part = tag as u32;
    match tag >> 60 {
        0 => Endpoint::Stream(slot),
        1 => Endpoint::Source(slot, part),
        2 => Endpoint::Restore(slot),
        _ => Endpoint::Reply(slot, part),
    }
}

/// The two sides while something is carried between them.
pub(crate) struct Carrier<'a> {
    pub(crate) broker: &'a mut Broker,
    pub(crate) jetstream: &'a mut JetStream,
    pub(crate) subscriptions: &'a mut Subscriptions,
    pub(crate) js_fx: &'a mut jetstream::effect::Effects,
}

impl Carrier<'_> {
    /// Carries everything that waits. True when JetStream has more to deliver than one turn takes.
    pub(crate) fn run(&mut self, now: Now, fx: &mut Effects) -> bool {
        let mut more = false;
        for _ in 0..ROUNDS_MAX {
            self.bring(now);
            more = self.work(now, |jetstream, ctx, fx| jetstream.finish(ctx, fx));
            self.fetch(now, fx);
            if !self.broker.has_service_input() {
                return more;
            }
        }
        more || self.broker.has_service_input()
    }

    /// Lets JetStream do something that needs no message.
    pub(crate) fn work<T>(
        &mut self,
        now: Now,
        work: impl FnOnce(&mut JetStream, &Context<'_>, &mut jetstream::effect::Effects) -> T,
    ) -> T {
        let view = View(RefCell::new(self.broker));
        let ctx = Context { mono_ns: now.mono_ns, unix_ns: now.wall_ns, interest: &view };
        work(self.jetstream, &ctx, self.js_fx)
    }

    /// Brings what waits in the broker to JetStream.
    fn bring(&mut self, now: Now) {
        if !self.broker.has_service_input() {
            return;
        }
        let inbox = self.broker.take_service_inbox();
        for at in 0..inbox.len() {
            let Some(input) = inbox.get(at) else { continue };
            self.bring_one(&input, now);
        }
        if !inbox.changed.is_empty() {
            self.work(now, |jetstream, ctx, fx| {
                for (account, subject) in &inbox.changed {
                    jetstream.handle_interest_changed(*account, subject, ctx, fx);
                }
            });
        }
        self.broker.give_service_inbox(inbox);
    }

    fn bring_one(&mut self, input: &ServiceInput<'_>, now: Now) {
        let mut client = Vec::new();
        let origin_shard = self.broker.mesh().me();
        if let ServiceInput::Request(origin, m) = input
            && jetstream::domain::wants_client(m.subject)
        {
            if origin.slot != SERVICE_SLOT {
                self.broker.describe_client(*origin, &mut client);
            } else if let Some(told) = wire::headers::get(m.headers, CLIENT_HEADER) {
                // From another account: no more is known than that lets on.
                client.extend_from_slice(told);
            }
        }
        self.work(now, |jetstream, ctx, fx| match *input {
            ServiceInput::Message(tag, m) => {
                let request = Request {
                    account: m.account,
                    origin: origin_shard,
                    subject: m.subject,
                    reply: m.reply,
                    headers: m.headers,
                    body: m.payload,
                    client: &[],
                };
                jetstream.handle_message(endpoint_of(tag), &request, ctx, fx);
            }
            ServiceInput::Request(_, m) => {
                let request = Request {
                    account: m.account,
                    origin: origin_shard,
                    subject: m.subject,
                    reply: m.reply,
                    headers: m.headers,
                    body: m.payload,
                    client: &client,
                };
                jetstream.handle_request(&request, ctx, fx);
            }
            ServiceInput::Peer(from, bytes) => jetstream.handle_peer(from, bytes, ctx, fx),
        });
    }

    /// Sends what waited for interest that every shard knows by now.
    fn send_held(&mut self, now: Now, fx: &mut Effects) {
        for held in self.js_fx.after_interest.drain(..) {
            let waits = !matches!(held, AfterInterest::Request { leads_on: false, .. });
            let barrier = if waits { self.broker.announce_barrier() } else { Vec::new() };
            self.subscriptions.held.push_back((barrier, held));
        }
        while let Some((barrier, _)) = self.subscriptions.held.front() {
            if !self.broker.is_interest_known(barrier) {
                return;
            }
            let Some((_, held)) = self.subscriptions.held.pop_front() else { return };
            match held {
                AfterInterest::Request { bytes, .. } => self.broker.push_service_peer(0, &bytes),
                AfterInterest::Answer { account, origin, subject, payload } => {
                    self.send_answer((account, origin), &subject, &payload, now, fx);
                }
            }
        }
    }

    /// Sends an answer from the shard of its client.
    fn send_answer(
        &mut self,
        (account, origin): (u32, ShardId),
        subject: &[u8],
        payload: &[u8],
        now: Now,
        fx: &mut Effects,
    ) {
        if origin != self.broker.mesh().me() {
            let mut bytes = Vec::new();
            Parcel::Answer { account, subject, payload }.encode(&mut bytes);
            self.broker.push_service_peer(origin, &bytes);
            return;
        }
        let publish =
            ServicePublish { account, to: subject, subject, reply: b"", headers: b"", payload };
        self.broker.publish_service(&publish, now, fx);
    }

    /// Fetches what JetStream wants done in the broker.
    fn fetch(&mut self, now: Now, fx: &mut Effects) {
        for change in self.js_fx.interests.drain(..) {
            match change {
                Interest::Subscribe { account, subject, endpoint } => {
                    let id = self.broker.subscribe_service(account, &subject, tag_of(endpoint));
                    self.subscriptions.ids.insert((endpoint, subject), id);
                }
                Interest::Unsubscribe { subject, endpoint, .. } => {
                    if let Some(id) = self.subscriptions.ids.remove(&(endpoint, subject)) {
                        self.broker.unsubscribe_service(id);
                    }
                }
            }
        }
        self.broker.watch_interest(self.jetstream.watches_interest());
        for (to, bytes) in self.jetstream.take_parcels() {
            self.broker.push_service_peer(to, &bytes);
        }
        for at in 0..self.js_fx.sends() {
            let Some(m) = self.js_fx.outgoing(at) else { continue };
            let publish = ServicePublish {
                account: m.account,
                to: m.to,
                subject: m.subject,
                reply: m.reply,
                headers: m.headers,
                payload: m.payload,
            };
            self.broker.publish_service(&publish, now, fx);
        }
        self.js_fx.clear_sends();
        self.send_held(now, fx);
        self.give_logs(fx);
    }

    /// Hands on what JetStream wants in the log.
    pub(crate) fn give_logs(&mut self, fx: &mut Effects) {
        for (level, text) in self.js_fx.logs.drain(..) {
            let level = match level {
                JsLevel::Error => Level::Error,
                JsLevel::Warn => Level::Warn,
                JsLevel::Info => Level::Info,
                JsLevel::Debug => Level::Debug,
            };
            fx.log(level, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_tags_and_back() {
        for endpoint in [
            Endpoint::Stream(0),
            Endpoint::Stream(0xfff_ffff),
            Endpoint::Source(7, 3),
            Endpoint::Restore(9),
            Endpoint::Reply(1, u32::MAX),
        ] {
            assert_eq!(endpoint_of(tag_of(endpoint)), endpoint);
        }
    }
}
