//! What one shard tells shard 0 about itself when a monitoring request is answered: plain
//! copies of figures, with nothing shared and nothing secret.
//!
//! All times are wall clock nanoseconds since 1970; all counters run from the start of the
//! server.

use super::jetstream::JetStreamSnapshot;
use super::settings::{TURN_BUCKET_FIRST_LOG2, TURN_BUCKETS};

/// One shard's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardSnapshot {
    /// The shard's number.
    pub shard: u16,
    /// Messages and bytes of all kinds of connections.
    pub traffic: Traffic,
    /// Messages and bytes of clients alone.
    pub client_traffic: Traffic,
    /// Connections closed as slow consumers, by kind.
    pub slow_consumers: KindCounts,
    /// The same (all kinds together) because too many bytes were waiting.
    pub slow_by_pending_bytes: u64,
    /// The same because a write did not finish in time.
    pub slow_by_write_deadline: u64,
    /// Connections closed because they no longer answered pings, by kind.
    pub stale: KindCounts,
    /// How often a publisher was held up for a receiver.
    pub stalls: u64,
    /// Clients ever accepted.
    pub total_connections: u64,
    /// Clients connected now, with or without a finished login.
    pub connections: u64,
    /// The shard's own subscriptions (not the interest of other shards), all accounts together.
    pub subscriptions: u64,
    /// The shard's subject index, all accounts together.
    pub index: IndexStats,
    /// What waits for each other shard.
    pub peers: Vec<PeerQueue>,
    /// What the shard's loop did.
    pub turns: TurnStats,
    /// Figures for each account the shard knows. One entry for an account; order is free.
    pub accounts: Vec<AccountSnapshot>,
    /// Connections that pass the account filter of the request, however many rows are sent.
    pub conns_total: u64,
    /// The first rows of those that pass every filter, if asked for.
    pub conns: Vec<ConnSnapshot>,
    /// Closed connections remembered that pass the account filter of the request.
    pub closed_total: u64,
    /// The first rows of those that pass every filter, if asked for.
    pub closed: Vec<ConnSnapshot>,
    /// Subscriptions that pass the filters of the request, however many rows are sent.
    pub subs_total: u64,
    /// The first of them in the shard's own order, if asked for.
    pub subs: Vec<SubSnapshot>,
    /// JetStream, if asked for and served.
    pub jetstream: Option<Box<JetStreamSnapshot>>,
}

/// Messages and bytes in both directions. In is what the server received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages received.
    pub in_msgs: u64,
    /// Payload bytes received.
    pub in_bytes: u64,
    /// Messages sent.
    pub out_msgs: u64,
    /// Payload bytes sent.
    pub out_bytes: u64,
}

impl Traffic {
    /// Adds another's figures.
    pub fn add(&mut self, other: &Self) {
        self.in_msgs = self.in_msgs.wrapping_add(other.in_msgs);
        self.in_bytes = self.in_bytes.wrapping_add(other.in_bytes);
        self.out_msgs = self.out_msgs.wrapping_add(other.out_msgs);
        self.out_bytes = self.out_bytes.wrapping_add(other.out_bytes);
    }
}

/// A counter for each kind of connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounts {
    /// Client connections.
    pub clients: u64,
    /// Routes.
    pub routes: u64,
    /// Gateways.
    pub gateways: u64,
    /// Leaf nodes.
    pub leafs: u64,
}

impl KindCounts {
    /// Adds another's figures.
    pub fn add(&mut self, other: &Self) {
        self.clients = self.clients.wrapping_add(other.clients);
        self.routes = self.routes.wrapping_add(other.routes);
        self.gateways = self.gateways.wrapping_add(other.gateways);
        self.leafs = self.leafs.wrapping_add(other.leafs);
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.clients.wrapping_add(self.routes).wrapping_add(self.gateways).wrapping_add(self.leafs)
    }
}

/// Figures of a subject index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Subscriptions in the index.
    pub subs: u64,
    /// Entries in its cache.
    pub cache_entries: u64,
    /// Subscriptions ever added.
    pub inserts: u64,
    /// Subscriptions ever removed.
    pub removes: u64,
    /// Lookups.
    pub matches: u64,
    /// Lookups that the cache answered.
    pub cache_hits: u64,
    /// Most receivers of any cached subject.
    pub fanout_max: u64,
    /// Receivers of all cached subjects together; divided by `cache_entries` for the mean.
    pub fanout_sum: u64,
}

impl IndexStats {
    /// Adds another index's figures.
    pub fn add(&mut self, other: &Self) {
        self.subs = self.subs.wrapping_add(other.subs);
        self.cache_entries = self.cache_entries.wrapping_add(other.cache_entries);
        self.inserts = self.inserts.wrapping_add(other.inserts);
        self.removes = self.removes.wrapping_add(other.removes);
        self.matches = self.matches.wrapping_add(other.matches);
        self.cache_hits = self.cache_hits.wrapping_add(other.cache_hits);
        self.fanout_max = self.fanout_max.max(other.fanout_max);
        self.fanout_sum = self.fanout_sum.wrapping_add(other.fanout_sum);
    }
}

/// What waits in one shard for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerQueue {
    /// The other shard's number.
    pub peer: u16,
    /// Messages not yet taken over.
    pub msgs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches in the channel.
    pub batches: u64,
}

/// Counters of a shard's loop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TurnStats {
    /// How long turns took; its count is the number of turns.
    pub times: TurnHistogram,
    /// How often the shard was woken, by a socket, a deadline or another shard.
    pub wakes: u64,
    /// How often it went to sleep.
    pub sleeps: u64,
    /// Reads from sockets.
    pub reads: u64,
    /// Writes to sockets.
    pub writes: u64,
}

/// A histogram with one bucket for each power of two, without allocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TurnHistogram {
    buckets: [u64; TURN_BUCKETS],
    sum_ns: u64,
}

impl TurnHistogram {
    /// Counts one duration.
    pub fn record(&mut self, duration_ns: u64) {
        // The number of bits of one less is the power of two that holds the duration.
        let log2 = u64::BITS - duration_ns.saturating_sub(1).leading_zeros();
        let at = log2.saturating_sub(TURN_BUCKET_FIRST_LOG2) as usize;
        if let Some(bucket) = self.buckets.get_mut(at.min(TURN_BUCKETS - 1)) {
            *bucket = bucket.wrapping_add(1);
        }
        self.sum_ns = self.sum_ns.wrapping_add(duration_ns);
    }

    /// The buckets with their inclusive upper bounds in nanoseconds; the last has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        self.buckets.iter().enumerate().map(|(at, count)| {
            let is_last = at + 1 == TURN_BUCKETS;
            ((!is_last).then(|| 1_u64 << (TURN_BUCKET_FIRST_LOG2 as usize + at)), *count)
        })
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// All durations together, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }
}

/// One account's share of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountSnapshot {
    /// The account's name.
    pub name: String,
    /// Clients connected now.
    pub connections: u64,
    /// Leaf nodes connected now.
    pub leafnodes: u64,
    /// Its part of the shard's own subject index.
    pub index: IndexStats,
    /// Messages and bytes.
    pub traffic: Traffic,
    /// Connections closed as slow consumers.
    pub slow_consumers: u64,
}

/// What a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnKind {
    /// A client.
    #[default]
    Client,
    /// A route to a server of the cluster.
    Router,
    /// A gateway to another cluster.
    Gateway,
    /// A leaf node.
    Leafnode,
}

impl ConnKind {
    /// The `kind` of `/connz`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Client => "Client",
            Self::Router => "Router",
            Self::Gateway => "Gateway",
            Self::Leafnode => "Leafnode",
        }
    }
}

/// Which protocol a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientType {
    /// NATS over TCP or TLS.
    #[default]
    Nats,
    /// NATS over WebSocket.
    Websocket,
    /// MQTT.
    Mqtt,
}

impl ClientType {
    /// The `type` of `/connz`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Websocket => "websocket",
            Self::Mqtt => "mqtt",
        }
    }
}

/// The numbers of a connection: all that sorting needs, cheap to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnFigures {
    /// The connection id.
    pub cid: u64,
    /// When it was accepted.
    pub start_ns: u64,
    /// When it last sent or received a message or subscribed.
    pub last_activity_ns: u64,
    /// When it was closed.
    pub stop_ns: Option<u64>,
    /// Why it was closed, in nats-server's words; empty while open.
    pub reason: &'static str,
    /// The last measured round trip; 0 before the first.
    pub rtt_ns: u64,
    /// Bytes waiting to be sent.
    pub pending_bytes: u64,
    /// Messages from it.
    pub in_msgs: u64,
    /// Messages to it.
    pub out_msgs: u64,
    /// Payload bytes from it.
    pub in_bytes: u64,
    /// Payload bytes to it.
    pub out_bytes: u64,
    /// How often a publisher was held up for it.
    pub stalls: u64,
    /// Its subscriptions.
    pub subs: u64,
}

/// What is shown as the user of a connection that logged in with a token.
pub const REDACTED_USER: &str = "[REDACTED]";

/// A connection, open or closed, with everything `/connz` shows. It has no field for a password,
/// token, signature or JWT, so none can be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnSnapshot {
    /// The numbers.
    pub figures: ConnFigures,
    /// What it is.
    pub kind: ConnKind,
    /// Which protocol it speaks.
    pub client_type: ClientType,
    /// The peer's address.
    pub ip: String,
    /// The peer's port.
    pub port: u16,
    /// The name from CONNECT.
    pub name: String,
    /// The language from CONNECT.
    pub lang: String,
    /// The library version from CONNECT.
    pub version: String,
    /// The TLS session, if there is one.
    pub tls: Option<TlsSnapshot>,
    /// The user name or public nkey, [`REDACTED_USER`] for a token, empty for none. It is kept
    /// after a failed login too.
    pub user: String,
    /// The account; `None` after a failed login. Before the login it is the global account.
    pub account: Option<String>,
    /// The signer of the account's JWT; for an nkey of the configuration the account's name, as
    /// nats-server shows it; empty for other logins.
    pub issuer_key: String,
    /// Tags of the user's JWT.
    pub tags: Vec<String>,
    /// The MQTT client id.
    pub mqtt_client: String,
    /// Its subscriptions, if the request lists them. Their `account` need not be filled.
    pub subs: Vec<SubSnapshot>,
}

/// What `/connz` shows of a TLS session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSnapshot {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The IANA name of the cipher suite.
    pub cipher_suite: String,
    /// The certificates the peer showed.
    pub peer_certs: Vec<PeerCert>,
    /// Whether TLS came before INFO.
    pub first: bool,
}

/// A peer's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCert {
    /// The subject's distinguished name (RFC 2253 order).
    pub subject: String,
    /// SHA-256 of the public key info, in hexadecimal.
    pub spki_sha256: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub cert_sha256: String,
}

/// One subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubSnapshot {
    /// The account's name.
    pub account: String,
    /// The subject.
    pub subject: String,
    /// The queue group; empty for none.
    pub queue: String,
    /// The client's subscription id.
    pub sid: String,
    /// Messages delivered to it.
    pub msgs: u64,
    /// Deliveries after which it ends; 0 for no end.
    pub max: u64,
    /// The connection.
    pub cid: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_fall_into_powers_of_two() {
        let mut times = TurnHistogram::default();
        for ns in [0, 1, 1024, 1025, 2048, 2049, 250_000, u64::MAX] {
            times.record(ns);
        }
        let filled: Vec<_> = times.buckets().filter(|(_, count)| *count > 0).collect();
        let expected =
            [(Some(1024), 3), (Some(2048), 2), (Some(4096), 1), (Some(262_144), 1), (None, 1)];
        assert_eq!(filled, expected);
        assert_eq!(times.count(), 8);
        assert_eq!(times.sum_ns(), 256_147_u64.wrapping_add(u64::MAX));
        for (bound, _) in times.buckets() {
            let Some(bound) = bound else { continue };
            let mut one = TurnHistogram::default();
            one.record(bound);
            assert_eq!(one.buckets().find(|(_, count)| *count > 0), Some((Some(bound), 1)));
        }
    }

    #[test]
    fn sums_never_overflow() {
        let full = Traffic { in_msgs: u64::MAX, in_bytes: 1, out_msgs: 2, out_bytes: 3 };
        let mut sum = full;
        sum.add(&full);
        assert_eq!(sum.in_msgs, u64::MAX - 1);
        let kinds = KindCounts { clients: u64::MAX, routes: 2, gateways: 0, leafs: 0 };
        assert_eq!(kinds.total(), 1);
    }
}
