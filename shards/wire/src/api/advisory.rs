//! Advisories and metrics: what a server tells everybody about its streams and consumers.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::info::{PeerInfo, StreamState};
pub use super::policy::{AbandonReason, Action};
use super::timestamp::Timestamp;
use super::value::{Fields, object};
use crate::json;

/// What subjects of advisories begin with.
pub const ADVISORY_PREFIX: &str = "$JS.EVENT.ADVISORY";
/// What subjects of metrics begin with.
pub const METRIC_PREFIX: &str = "$JS.EVENT.METRIC";

/// An advisory or metric.
pub trait Event: Fields {
    /// The value of `type`.
    fn event_type(&self) -> &'static str;

    /// Where it is published.
    fn subject(&self) -> String;
}

/// An event behind the three fields that all have in common.
struct Typed<'a, T> {
    id: &'a str,
    time: Timestamp,
    event: &'a T,
}

impl<T: Event> Serialize for Typed<'_, T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut out = out.serialize_struct("Typed", 1)?;
        out.serialize_field("type", self.event.event_type())?;
        out.serialize_field("id", self.id)?;
        out.serialize_field("timestamp", &self.time)?;
        self.event.write(&mut out)?;
        out.end()
    }
}

/// The body of an event. `id` is a fresh NUID, `time` is now.
pub fn encode_event<T: Event>(id: &str, time: Timestamp, event: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    json::push(&mut out, &Typed { id, time, event });
    out
}

object! {
    /// Who sent a request. Everything that is not known is left out.
    ClientInfo = "server.ClientInfo" {
        /// When the connection began.
        start: Option<Timestamp> ["start", omitempty],
        /// Its address.
        host: String ["host", omitempty],
        /// Its number.
        id: u64 ["id", omitempty],
        /// Its account.
        acc: String ["acc", omitempty],
        /// The account through whose service import the request came.
        svc: String ["svc", omitempty],
        /// Its user.
        user: String ["user", omitempty],
        /// Its name.
        name: String ["name", omitempty],
        /// Its library's language.
        lang: String ["lang", omitempty],
        /// Its library's version.
        ver: String ["ver", omitempty],
        /// Its round trip time in nanoseconds.
        rtt_ns: i64 ["rtt", "time.Duration", omitempty],
        /// The server's name.
        server: String ["server", omitempty],
        /// The server's cluster.
        cluster: String ["cluster", omitempty],
        /// Other clusters.
        alts: Vec<String> ["alts", omitempty],
        /// When the connection ended.
        stop: Option<Timestamp> ["stop", omitempty],
        /// The user's JWT.
        jwt: String ["jwt", omitempty],
        /// The key that signed it.
        issuer_key: String ["issuer_key", omitempty],
        /// The name in it.
        name_tag: String ["name_tag", omitempty],
        /// The tags in it.
        tags: Vec<String> ["tags", "jwt.TagList", omitempty],
        /// `Client`, `Leafnode` and so on.
        kind: String ["kind", omitempty],
        /// `nats`, `websocket`, `mqtt`.
        client_type: String ["client_type", omitempty],
        /// MQTT's client id.
        client_id: String ["client_id", omitempty],
        /// The connection's nonce.
        nonce: String ["nonce", omitempty],
        /// The reply subject before a service import changed it.
        reply: String ["reply", omitempty],
    }

    /// A request and its answer.
    ApiAudit = "server.JSAPIAudit" {
        /// The server.
        server: String ["server"],
        /// Who asked.
        client: Option<Box<ClientInfo>> ["client"],
        /// The request's subject.
        subject: String ["subject"],
        /// Its body.
        request: String ["request", omitempty],
        /// The answer's body.
        response: String ["response"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// Requests were dropped because too many were waiting.
    ApiLimitReached = "server.JSAPILimitReachedAdvisory" {
        /// The server.
        server: String ["server"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
        /// How many.
        dropped: i64 ["dropped"],
    }

    /// A stream was made, changed or deleted.
    StreamActed = "server.JSStreamActionAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// What was done.
        action: Action ["action"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A consumer was made or deleted.
    ConsumerActed = "server.JSConsumerActionAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// What was done.
        action: Action ["action"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A consumer was paused or goes on.
    ConsumerPaused = "server.JSConsumerPauseAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// Which of both.
        paused: bool ["paused"],
        /// Until when; always written.
        pause_until: Timestamp ["pause_until"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A client was pinned.
    GroupPinned = "server.JSConsumerGroupPinnedAdvisory" {
        /// The account.
        account: String ["account", omitempty],
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
        /// The group.
        group: String ["group"],
        /// The pin's id.
        pinned_id: String ["pinned_id"],
    }

    /// A client is pinned no longer.
    GroupUnpinned = "server.JSConsumerGroupUnpinnedAdvisory" {
        /// The account.
        account: String ["account", omitempty],
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
        /// The group.
        group: String ["group"],
        /// `admin` or `timeout`.
        reason: String ["reason"],
    }

    /// A message was delivered as often as allowed.
    MaxDeliveries = "server.JSConsumerDeliveryExceededAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// The message.
        stream_seq: u64 ["stream_seq"],
        /// How often.
        deliveries: u64 ["deliveries"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A client refused a message for now.
    MsgNaked = "server.JSConsumerDeliveryNakAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// The delivery.
        consumer_seq: u64 ["consumer_seq"],
        /// The message.
        stream_seq: u64 ["stream_seq"],
        /// How often it was delivered.
        deliveries: u64 ["deliveries"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A client refused a message for good.
    MsgTerminated = "server.JSConsumerDeliveryTerminatedAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// The delivery.
        consumer_seq: u64 ["consumer_seq"],
        /// The message.
        stream_seq: u64 ["stream_seq"],
        /// How often it was delivered.
        deliveries: u64 ["deliveries"],
        /// Why.
        reason: String ["reason", omitempty],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// Messages and clients of a consumer have waited for each other for too long. An extension.
    ConsumerStuck = "server.JSConsumerStuckAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// Messages that wait for delivery.
        num_pending: u64 ["num_pending"],
        /// Deliveries that wait for an acknowledgement.
        num_ack_pending: i64 ["num_ack_pending"],
        /// Requests that wait.
        num_waiting: i64 ["num_waiting"],
        /// The oldest message that waits.
        oldest_stream_seq: u64 ["oldest_stream_seq"],
        /// Nanoseconds since something moved.
        idle_ns: i64 ["idle"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// An acknowledgement that was measured.
    AckMetric = "server.JSConsumerAckMetric" {
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// The delivery.
        consumer_seq: u64 ["consumer_seq"],
        /// The message.
        stream_seq: u64 ["stream_seq"],
        /// Nanoseconds since the delivery.
        ack_time_ns: i64 ["ack_time"],
        /// How often it was delivered.
        deliveries: u64 ["deliveries"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A snapshot begins.
    SnapshotCreate = "server.JSSnapshotCreateAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// What it holds.
        state: StreamState ["state"],
        /// Who asked for it.
        client: Option<Box<ClientInfo>> ["client"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A snapshot has ended.
    SnapshotComplete = "server.JSSnapshotCompleteAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// When it began.
        start: Timestamp ["start"],
        /// When it ended.
        end: Timestamp ["end"],
        /// Who asked for it.
        client: Option<Box<ClientInfo>> ["client"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
        /// Why it is not whole.
        error: String ["error", omitempty],
    }

    /// A restore begins.
    RestoreCreate = "server.JSRestoreCreateAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// Who asked for it.
        client: Option<Box<ClientInfo>> ["client"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A restore has ended.
    RestoreComplete = "server.JSRestoreCompleteAdvisory" {
        /// The stream.
        stream: String ["stream"],
        /// When it began.
        start: Timestamp ["start"],
        /// When it ended.
        end: Timestamp ["end"],
        /// Bytes that came.
        bytes: i64 ["bytes"],
        /// Who asked for it.
        client: Option<Box<ClientInfo>> ["client"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// An atomic batch was given up.
    BatchAbandoned = "server.JSStreamBatchAbandonedAdvisory" {
        /// The account.
        account: String ["account", omitempty],
        /// The stream.
        stream: String ["stream"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
        /// The batch's id.
        batch: String ["batch"],
        /// Why.
        reason: AbandonReason ["reason"],
    }

    /// A stream has a leader.
    StreamLeaderElected = "server.JSStreamLeaderElectedAdvisory" {
        /// The account.
        account: String ["account", omitempty],
        /// The stream.
        stream: String ["stream"],
        /// The server.
        leader: String ["leader"],
        /// All servers with a copy.
        replicas: Vec<PeerInfo> ["replicas", "[]*server.PeerInfo"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A stream cannot have a leader.
    StreamQuorumLost = "server.JSStreamQuorumLostAdvisory" {
        /// The account.
        account: String ["account", omitempty],
        /// The stream.
        stream: String ["stream"],
        /// All servers with a copy.
        replicas: Vec<PeerInfo> ["replicas", "[]*server.PeerInfo"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A consumer has a leader.
    ConsumerLeaderElected = "server.JSConsumerLeaderElectedAdvisory" {
        /// The account.
        account: String ["account", omitempty],
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// The server.
        leader: String ["leader"],
        /// All servers with a copy.
        replicas: Vec<PeerInfo> ["replicas", "[]*server.PeerInfo"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A consumer cannot have a leader.
    ConsumerQuorumLost = "server.JSConsumerQuorumLostAdvisory" {
        /// The account.
        account: String ["account", omitempty],
        /// The stream.
        stream: String ["stream"],
        /// The consumer.
        consumer: String ["consumer"],
        /// All servers with a copy.
        replicas: Vec<PeerInfo> ["replicas", "[]*server.PeerInfo"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A domain has a leader.
    DomainLeaderElected = "server.JSDomainLeaderElectedAdvisory" {
        /// The server.
        leader: String ["leader"],
        /// All servers.
        replicas: Vec<PeerInfo> ["replicas", "[]*server.PeerInfo"],
        /// The cluster.
        cluster: String ["cluster"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A disk is full.
    OutOfStorage = "server.JSServerOutOfSpaceAdvisory" {
        /// Name of the server.
        server: String ["server"],
        /// Id of the server.
        server_id: String ["server_id"],
        /// The stream that noticed.
        stream: String ["stream", omitempty],
        /// The cluster.
        cluster: String ["cluster"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// A server was taken out of the cluster.
    ServerRemoved = "server.JSServerRemovedAdvisory" {
        /// Name of the server.
        server: String ["server"],
        /// Id of the server.
        server_id: String ["server_id"],
        /// The cluster.
        cluster: String ["cluster"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }

    /// The votes needed for a leader were set by hand.
    MetaRescue = "server.JSMetaRescueAdvisory" {
        /// Name of the server.
        server: String ["server"],
        /// Id of the server.
        server_id: String ["server_id"],
        /// Votes that were needed.
        prev_quorum: i64 ["prev_quorum", "int"],
        /// Votes that are needed now.
        new_quorum: i64 ["new_quorum", "int"],
        /// The cluster.
        cluster: String ["cluster"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
    }
}

/// Gives each event its type and its subject. Behind the fixed part of the subject come the
/// fields that are its last tokens.
macro_rules! events {
    ($($name:ident: $kind:literal, $prefix:literal $(, $token:ident)*;)*) => {
        $(impl Event for $name {
            fn event_type(&self) -> &'static str {
                $kind
            }

            fn subject(&self) -> String {
                let tokens: &[&str] = &[$prefix $(, self.$token.as_ref())*];
                tokens.join(".")
            }
        })*
    };
}

events! {
    ApiAudit: "io.nats.jetstream.advisory.v1.api_audit", "$JS.EVENT.ADVISORY.API";
    ApiLimitReached: "io.nats.jetstream.advisory.v1.api_limit_reached",
        "$JS.EVENT.ADVISORY.API.LIMIT_REACHED";
    ConsumerPaused: "io.nats.jetstream.advisory.v1.consumer_pause",
        "$JS.EVENT.ADVISORY.CONSUMER.PAUSE", stream, consumer;
    GroupPinned: "io.nats.jetstream.advisory.v1.consumer_group_pinned",
        "$JS.EVENT.ADVISORY.CONSUMER.PINNED", stream, consumer;
    GroupUnpinned: "io.nats.jetstream.advisory.v1.consumer_group_unpinned",
        "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED", stream, consumer;
    MaxDeliveries: "io.nats.jetstream.advisory.v1.max_deliver",
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES", stream, consumer;
    MsgNaked: "io.nats.jetstream.advisory.v1.nak",
        "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED", stream, consumer;
    MsgTerminated: "io.nats.jetstream.advisory.v1.terminated",
        "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED", stream, consumer;
    ConsumerStuck: "io.shearwater.jetstream.advisory.v1.consumer_stuck",
        "$JS.EVENT.ADVISORY.CONSUMER.STUCK", stream, consumer;
    AckMetric: "io.nats.jetstream.metric.v1.consumer_ack",
        "$JS.EVENT.METRIC.CONSUMER.ACK", stream, consumer;
    SnapshotCreate: "io.nats.jetstream.advisory.v1.snapshot_create",
        "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_CREATE", stream;
    SnapshotComplete: "io.nats.jetstream.advisory.v1.snapshot_complete",
        "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE", stream;
    RestoreCreate: "io.nats.jetstream.advisory.v1.restore_create",
        "$JS.EVENT.ADVISORY.STREAM.RESTORE_CREATE", stream;
    RestoreComplete: "io.nats.jetstream.advisory.v1.restore_complete",
        "$JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE", stream;
    BatchAbandoned: "io.nats.jetstream.advisory.v1.stream_batch_abandoned",
        "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED", stream;
    StreamLeaderElected: "io.nats.jetstream.advisory.v1.stream_leader_elected",
        "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED", stream;
    StreamQuorumLost: "io.nats.jetstream.advisory.v1.stream_quorum_lost",
        "$JS.EVENT.ADVISORY.STREAM.QUORUM_LOST", stream;
    ConsumerLeaderElected: "io.nats.jetstream.advisory.v1.consumer_leader_elected",
        "$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED", stream, consumer;
    ConsumerQuorumLost: "io.nats.jetstream.advisory.v1.consumer_quorum_lost",
        "$JS.EVENT.ADVISORY.CONSUMER.QUORUM_LOST", stream, consumer;
    DomainLeaderElected: "io.nats.jetstream.advisory.v1.domain_leader_elected",
        "$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED";
    OutOfStorage: "io.nats.jetstream.advisory.v1.server_out_of_space",
        "$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE";
    ServerRemoved: "io.nats.jetstream.advisory.v1.server_removed",
        "$JS.EVENT.ADVISORY.SERVER.REMOVED";
    MetaRescue: "io.nats.jetstream.advisory.v1.meta_rescue",
        "$JS.EVENT.ADVISORY.SERVER.META_RESCUE";
}

/// The word in the subjects of what was done.
const fn past(action: Action) -> &'static str {
    match action {
        Action::Create => "CREATED",
        Action::Delete => "DELETED",
        Action::Modify => "UPDATED",
    }
}

impl Event for StreamActed {
    fn event_type(&self) -> &'static str {
        "io.nats.jetstream.advisory.v1.stream_action"
    }

    fn subject(&self) -> String {
        format!("{ADVISORY_PREFIX}.STREAM.{}.{}", past(self.action), self.stream)
    }
}

impl Event for ConsumerActed {
    fn event_type(&self) -> &'static str {
        "io.nats.jetstream.advisory.v1.consumer_action"
    }

    fn subject(&self) -> String {
        let (action, stream) = (past(self.action), &self.stream);
        format!("{ADVISORY_PREFIX}.CONSUMER.{action}.{stream}.{}", self.consumer)
    }
}
