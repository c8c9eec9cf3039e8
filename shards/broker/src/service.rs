//! What the broker hands to the services of the shard itself (JetStream) and takes from them.
//! A service subscribes like a client, but its messages go into the inbox here instead of a
//! socket. Lives on: every shard.

use wire::api::advisory::ClientInfo;
use wire::api::timestamp::Timestamp;

use crate::account::CLIENT_HEADER;
use crate::broker::Broker;
use crate::clock::Now;
use crate::conn::Sub;
use crate::effect::Effects;
use crate::index::{ShardId, SubId};
use crate::mesh::Origin;
use crate::publish::Published;

/// The slot that stands for the services of the shard where a connection's slot is expected.
pub const SERVICE_SLOT: u32 = u32::MAX;
/// Subjects that begin so are requests to JetStream.
const REQUEST_PREFIX: &[u8] = b"$JS.";
/// Events are published below this prefix; they are messages like any other.
const EVENT_PREFIX: &[u8] = b"$JS.EVENT.";

/// What came for the services, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// For a subscription: its tag.
    Message(u64),
    /// A request of a client of this shard, or of a service (`SERVICE_SLOT`).
    Request(Origin),
    /// From the services of another shard.
    Peer(ShardId),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    account: u32,
    at: usize,
    subject_len: u32,
    reply_len: u32,
    header_len: u32,
    payload_len: u32,
}

/// A message of the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceMessage<'a> {
    /// Account id.
    pub account: u32,
    /// Subject.
    pub subject: &'a [u8],
    /// May be empty.
    pub reply: &'a [u8],
    /// Header block, may be empty.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// One thing for the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceInput<'a> {
    /// A message to a subscription, by its tag.
    Message(u64, ServiceMessage<'a>),
    /// A request; the client that made it.
    Request(Origin, ServiceMessage<'a>),
    /// Bytes from the services of another shard.
    Peer(ShardId, &'a [u8]),
}

/// What waits for the services.
#[derive(Debug, Default)]
pub struct ServiceInbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Subjects whose interest changed, as (account, subject or pattern); kept while
    /// [`Self::watching`].
    pub changed: Vec<(u32, Box<[u8]>)>,
    /// A service wants to hear of changes of interest.
    pub watching: bool,
}

impl ServiceInbox {
    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.changed.is_empty()
    }

    /// Things that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn push(&mut self, kind: Kind, m: &ServiceMessage<'_>) {
        self.entries.push(Entry {
            kind,
            account: m.account,
            at: self.bytes.len(),
            subject_len: m.subject.len() as u32,
            reply_len: m.reply.len() as u32,
            header_len: m.headers.len() as u32,
            payload_len: m.payload.len() as u32,
        });
        for piece in [m.subject, m.reply, m.headers, m.payload] {
            self.bytes.extend_from_slice(piece);
        }
    }

    /// The thing at a position.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<ServiceInput<'_>> {
        let entry = self.entries.get(at)?;
        let mut rest = self.bytes.get(entry.at..)?;
        let mut piece = |len: u32| {
            let (piece, after) = rest.split_at_checked(len as usize)?;
            rest = after;
            Some(piece)
        };
        let message = ServiceMessage {
            account: entry.account,
            subject: piece(entry.subject_len)?,
            reply: piece(entry.reply_len)?,
            headers: piece(entry.header_len)?,
            payload: piece(entry.payload_len)?,
        };
        Some(match entry.kind {
            Kind::Message(tag) => ServiceInput::Message(tag, message),
            Kind::Request(client) => ServiceInput::Request(client, message),
            Kind::Peer(from) => ServiceInput::Peer(from, message.payload),
        })
    }

    /// Forgets everything that was looked at.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.changed.clear();
        self.bytes.clear();
        self.bytes.shrink_to(4 << 20);
    }

    /// Keeps a published message for a subscription.
    pub(crate) fn push_message(&mut self, tag: u64, m: &Published<'_>) {
        let message = parts(m);
        if m.imported && !message.headers.is_empty() {
            return self.push_imported(tag, &message);
        }
        self.push(Kind::Message(tag), &message);
    }

    /// Keeps a message that came through a service import; who sent it is not stored with it.
    #[cold]
    fn push_imported(&mut self, tag: u64, m: &ServiceMessage<'_>) {
        let mut block = m.headers.to_vec();
        wire::headers::remove(&mut block, CLIENT_HEADER);
        self.push(Kind::Message(tag), &ServiceMessage { headers: &block, ..*m });
    }

    /// Keeps what the services of another shard sent.
    pub(crate) fn push_peer(&mut self, from: ShardId, payload: &[u8]) {
        let empty = ServiceMessage { account: 0, subject: b"", reply: b"", headers: b"", payload };
        self.push(Kind::Peer(from), &empty);
    }
}

/// Whether a subject below `$JS.` is one that JetStream answers or takes.
fn is_request(subject: &[u8], domain: &[u8]) -> bool {
    let rest = subject.get(REQUEST_PREFIX.len()..).unwrap_or_default();
    let own = [&b"API."[..], b"ACK.", b"FC.", b"SNAPSHOT."];
    let of_domain = || {
        let rest = rest.strip_prefix(domain)?.strip_prefix(b".")?;
        (!domain.is_empty() && rest.starts_with(b"API.")).then_some(())
    };
    let known = own.iter().any(|prefix| rest.starts_with(prefix)) || of_domain().is_some();
    known && wire::subject::tokens(subject).all(|token| !token.is_empty())
}

/// Whether a subject below `$JS.` is one of the API.
fn subject_is_api(subject: &[u8]) -> bool {
    subject.starts_with(b"$JS.API.")
}

/// A message as the services see it, without its closing CRLF.
fn parts<'a>(m: &Published<'a>) -> ServiceMessage<'a> {
    let end = m.body.len().saturating_sub(2);
    let body = m.body.get(..end).unwrap_or_default();
    let (headers, payload) = body.split_at_checked(m.header_len).unwrap_or((&[], body));
    let subject = if m.shown.is_empty() { m.subject } else { m.shown };
    ServiceMessage { account: m.account, subject, reply: m.reply, headers, payload }
}

/// A message that a service publishes.
#[derive(Clone, Copy, Debug)]
pub struct ServicePublish<'a> {
    /// Account id.
    pub account: u32,
    /// Who is subscribed to this gets it.
    pub to: &'a [u8],
    /// The subject that receivers see.
    pub subject: &'a [u8],
    /// May be empty.
    pub reply: &'a [u8],
    /// Header block or nothing.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

impl Broker {
    /// What waits for the services; they give it back when they have looked.
    pub fn take_service_inbox(&mut self) -> ServiceInbox {
        let watching = self.service.watching;
        std::mem::replace(&mut self.service, ServiceInbox { watching, ..ServiceInbox::default() })
    }

    /// Takes the looked-at inbox back; what came meanwhile stays.
    pub fn give_service_inbox(&mut self, mut inbox: ServiceInbox) {
        inbox.clear();
        if self.service.is_empty() {
            inbox.watching = self.service.watching;
            self.service = inbox;
        }
    }

    /// Whether something waits for the services.
    #[must_use]
    pub fn has_service_input(&self) -> bool {
        !self.service.is_empty()
    }

    /// Turns the list of changes of interest on or off.
    pub fn watch_interest(&mut self, on: bool) {
        self.service.watching = on;
        if !on {
            self.service.changed.clear();
        }
    }

    /// Subscribes a service; `tag` comes with every message. Returns the subscription.
    pub fn subscribe_service(&mut self, account: u32, subject: &[u8], tag: u64) -> SubId {
        let id = self.subs.insert(Sub {
            conn: SERVICE_SLOT,
            account,
            sid: tag,
            max: 0,
            delivered: 0,
            filtered: false,
            subject: subject.into(),
            queue: None,
        }) as SubId;
        self.add_interest(account, SERVICE_SLOT, subject, None, id);
        id
    }

    /// Ends a service's subscription.
    pub fn unsubscribe_service(&mut self, id: SubId) {
        self.remove_sub(id);
    }

    /// Appends what is known of the client behind a request, as JSON.
    pub fn describe_client(&self, client: Origin, out: &mut Vec<u8>) {
        let Some(conn) = self.conns.get(client.slot as usize) else { return };
        if conn.generation != client.generation {
            return;
        }
        let account = self.accounts.get(conn.account as usize);
        let info = ClientInfo {
            start: Some(Timestamp(conn.start_wall_ns)),
            host: conn.ip.to_canonical().to_string(),
            id: conn.cid,
            acc: account.map(|account| account.name.clone()).unwrap_or_default(),
            user: conn.described.user.clone(),
            name: conn.described.name.clone(),
            lang: conn.described.lang.clone(),
            ver: conn.described.version.clone(),
            rtt_ns: i64::try_from(conn.rtt_ns).unwrap_or(0),
            server: self.settings.identity.server_name.clone(),
            kind: "Client".to_owned(),
            client_type: "nats".to_owned(),
            ..ClientInfo::default()
        };
        wire::json::push(out, &info);
    }

    /// Whether anybody would get a message.
    pub fn has_interest(&mut self, account: u32, subject: &[u8]) -> bool {
        let Some(known) = self.accounts.get_mut(account as usize) else { return false };
        if known.index.has_interest(subject) {
            return true;
        }
        self.has_interest_elsewhere(account, subject)
    }

    /// Whether anybody has subscribed to this very subject, without a queue or as a member of it.
    pub fn has_own_interest(&mut self, account: u32, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let Some(known) = self.accounts.get(account as usize) else { return false };
        if known.index.has_own_interest(subject, queue) {
            return true;
        }
        self.has_own_interest_elsewhere(account, subject, queue)
    }

    /// Publishes a message of a service. True when somebody gets it.
    pub fn publish_service(&mut self, m: &ServicePublish<'_>, now: Now, fx: &mut Effects) -> bool {
        let mut body = std::mem::take(&mut self.service_body);
        body.clear();
        body.extend_from_slice(m.headers);
        body.extend_from_slice(m.payload);
        body.extend_from_slice(b"\r\n");
        let published = Published {
            account: m.account,
            subject: m.to,
            shown: if m.subject == m.to { &[] } else { m.subject },
            reply: m.reply,
            header_len: m.headers.len(),
            body: &body,
            mute: None,
            origin: Origin { slot: SERVICE_SLOT, generation: 0 },
            home: self.mesh.me(),
            report: false,
            imported: false,
            now_ns: now.mono_ns,
        };
        let taken = self.offer_request(&published);
        let key = self.plan(m.account, m.to);
        let mut outcome = self.fan_out(key, &published, fx);
        self.answer_across(&published, &mut outcome, fx);
        self.service_body = body;
        taken || outcome.deliveries > 0
    }

    /// Hands a request to JetStream to the services. True when it was one.
    #[inline]
    pub(crate) fn offer_request(&mut self, m: &Published<'_>) -> bool {
        if !m.subject.starts_with(REQUEST_PREFIX) || m.subject.starts_with(EVENT_PREFIX) {
            return false;
        }
        let account = self.accounts.get(m.account as usize);
        // An API that was imported takes the place of the account's own.
        let is_elsewhere = subject_is_api(m.subject)
            && account
                .and_then(|account| account.settings.shares.as_ref())
                .is_some_and(|shares| shares.has_service(m.subject));
        let serves = account.is_some_and(|account| account.settings.asks_jetstream)
            && !is_elsewhere
            && is_request(m.subject, self.settings.jetstream_domain.as_bytes());
        if serves {
            // Who asks from another account is known by the header only.
            let stranger = Origin { slot: SERVICE_SLOT, generation: 0 };
            let client = if m.imported { stranger } else { m.origin };
            self.service.push(Kind::Request(client), &parts(m));
        }
        serves
    }

    /// Sends bytes to the services of another shard.
    pub fn push_service_peer(&mut self, to: ShardId, bytes: &[u8]) {
        self.mesh.push_service(to, bytes);
    }

    /// The sequence that peers acknowledge once they know all interest announced so far; see
    /// [`Self::is_interest_known`].
    pub fn announce_barrier(&mut self) -> Vec<(ShardId, u64)> {
        let seq = self.mesh.interest_seq();
        self.mesh.barrier(seq)
    }

    /// Whether every peer has acknowledged a barrier.
    #[must_use]
    pub fn is_interest_known(&self, barrier: &[(ShardId, u64)]) -> bool {
        self.mesh.is_passed(barrier)
    }
}
