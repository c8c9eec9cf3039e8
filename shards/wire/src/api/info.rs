//! What streams and consumers say about themselves.

use std::collections::BTreeMap;

use super::config::{ExternalStream, Placement, StreamConfig, SubjectTransform};
use super::consumer_config::ConsumerConfig;
use super::errors::ApiError;
use super::policy::Retention;
use super::timestamp::Timestamp;
use super::value::{Bytes, object};

object! {
    /// A stream.
    StreamInfo = "server.StreamInfo" {
        /// Its configuration with all defaults filled in.
        config: StreamConfig ["config"],
        /// When it was made.
        created: Timestamp ["created"],
        /// What it holds.
        state: StreamState ["state"],
        /// JetStream domain of the server.
        domain: String ["domain", omitempty],
        /// Where its copies are.
        cluster: Option<ClusterInfo> ["cluster", omitempty],
        /// How the copying of its origin goes.
        mirror: Option<SourceInfo> ["mirror", omitempty],
        /// How the copying of its sources goes.
        sources: Vec<SourceInfo> ["sources", "[]*server.StreamSourceInfo", omitempty],
        /// Streams that hold the same, nearest first.
        alternates: Vec<StreamAlternate>
            ["alternates", "[]server.StreamAlternate", omitempty],
        /// When this was written.
        ts: Timestamp ["ts"],
    }

    /// What a stream holds.
    StreamState = "server.StreamState" {
        /// Messages.
        messages: u64 ["messages"],
        /// Their bytes.
        bytes: u64 ["bytes"],
        /// Sequence of the first message, or behind the last one if there is none.
        first_seq: u64 ["first_seq"],
        /// Time of the first message.
        first_ts: Timestamp ["first_ts"],
        /// Last sequence given.
        last_seq: u64 ["last_seq"],
        /// Time of the last message.
        last_ts: Timestamp ["last_ts"],
        /// Different subjects.
        num_subjects: i64 ["num_subjects", "int", omitempty],
        /// Messages of each subject, if they were asked for.
        subjects: BTreeMap<String, u64> ["subjects", omitempty],
        /// Sequences missing between the first and the last.
        num_deleted: i64 ["num_deleted", "int", omitempty],
        /// Those sequences, if they were asked for.
        deleted: Vec<u64> ["deleted", omitempty],
        /// What was found to be damaged.
        lost: Option<LostData> ["lost", omitempty],
        /// Consumers.
        consumer_count: i64 ["consumer_count", "int"],
    }

    /// Messages that were lost.
    LostData = "server.LostStreamData" {
        /// Their sequences.
        msgs: Vec<u64> ["msgs"],
        /// Their bytes.
        bytes: u64 ["bytes"],
    }

    /// How the copying of another stream goes.
    SourceInfo = "server.StreamSourceInfo" {
        /// Name of the other stream.
        name: String ["name"],
        /// Where it is.
        external: Option<ExternalStream> ["external", omitempty],
        /// Messages that are still to come.
        lag: u64 ["lag"],
        /// Sequence in the other stream of the last message that came; of sources only.
        seq: u64 ["seq", omitempty],
        /// Time since something was heard, in nanoseconds; -1 is never.
        active_ns: i64 ["active", "time.Duration"],
        /// Why it does not go.
        error: Option<ApiError> ["error", omitempty],
        /// Pattern of what is taken.
        filter_subject: String ["filter_subject", omitempty],
        /// Patterns and changes.
        subject_transforms: Vec<SubjectTransform>
            ["subject_transforms", "[]server.SubjectTransformConfig", omitempty],
    }

    /// A stream that holds the same.
    StreamAlternate = "server.StreamAlternate" {
        /// Name.
        name: String ["name"],
        /// JetStream domain.
        domain: String ["domain", omitempty],
        /// Cluster.
        cluster: String ["cluster"],
    }

    /// Where copies are. A single server fills in the leader alone.
    ClusterInfo = "server.ClusterInfo" {
        /// Name of the cluster.
        name: String ["name", omitempty],
        /// Name of the group of copies.
        raft_group: String ["raft_group", omitempty],
        /// Name of the server that leads.
        leader: String ["leader", omitempty],
        /// Since when.
        leader_since: Option<Timestamp> ["leader_since", omitempty],
        /// Traffic of the group is in the system account.
        system_account: bool ["system_account", omitempty],
        /// The account with the traffic of the group.
        traffic_account: String ["traffic_account", omitempty],
        /// The other servers.
        replicas: Vec<PeerInfo> ["replicas", "[]*server.PeerInfo", omitempty],
        /// What the cluster is on the way to.
        desired: Option<DesiredClusterInfo> ["desired", omitempty],
    }

    /// A server with a copy.
    PeerInfo = "server.PeerInfo" {
        /// Name of the server.
        name: String ["name"],
        /// It has everything.
        current: bool ["current"],
        /// It is not there.
        offline: bool ["offline", omitempty],
        /// Time since it was heard, in nanoseconds.
        active_ns: i64 ["active", "time.Duration"],
        /// Operations that it lacks.
        lag: u64 ["lag", omitempty],
        /// Id of the server.
        peer: String ["peer"],
        /// It is coming or going.
        pending: bool ["pending", omitempty],
    }

    /// What the placement of a stream is on the way to.
    DesiredClusterInfo = "server.DesiredClusterInfo" {
        /// Name of the cluster.
        name: String ["name", omitempty],
        /// The servers.
        replicas: Vec<PeerInfo> ["replicas", "[]*server.PeerInfo", omitempty],
        /// Where it comes from.
        origin: Option<DesiredOrigin> ["origin", omitempty],
        /// How it goes.
        status: Option<DesiredStatus> ["status", omitempty],
    }

    /// Where a stream comes from that is on the way to somewhere else.
    DesiredOrigin = "server.DesiredClusterInfoOrigin" {
        /// Copies.
        replicas: i64 ["replicas", "int"],
        /// Place.
        placement: Option<Placement> ["placement", omitempty],
        /// Retention.
        retention: Option<Retention> ["retention", omitempty],
    }

    /// How a move goes.
    DesiredStatus = "server.DesiredClusterInfoStatus" {
        /// For people.
        description: String ["description"],
        /// `meta`, `membership`, `snapshot`, `catchup`, `quorum`, `blocked` or `unavailable`.
        kind: String ["type"],
        /// Why it does not go.
        err: String ["err", omitempty],
    }

    /// A consumer.
    ConsumerInfo = "server.ConsumerInfo" {
        /// Name of the stream.
        stream_name: String ["stream_name"],
        /// Name.
        name: String ["name"],
        /// When it was made.
        created: Timestamp ["created"],
        /// Its configuration with all defaults filled in.
        config: Option<Box<ConsumerConfig>> ["config", omitempty],
        /// The last message that was delivered.
        delivered: SequenceInfo ["delivered"],
        /// Up to where all is acknowledged.
        ack_floor: SequenceInfo ["ack_floor"],
        /// Messages that wait for an acknowledgement.
        num_ack_pending: i64 ["num_ack_pending", "int"],
        /// Messages that were delivered more than once and wait for an acknowledgement.
        num_redelivered: i64 ["num_redelivered", "int"],
        /// Pull requests that wait.
        num_waiting: i64 ["num_waiting", "int"],
        /// Messages that have not been delivered yet.
        num_pending: u64 ["num_pending"],
        /// Where its copies are.
        cluster: Option<ClusterInfo> ["cluster", omitempty],
        /// Somebody listens at the deliver subject.
        push_bound: bool ["push_bound", omitempty],
        /// Nothing is delivered for now.
        paused: bool ["paused", omitempty],
        /// For how long, in nanoseconds.
        pause_remaining_ns: i64 ["pause_remaining", "time.Duration", omitempty],
        /// When this was written.
        ts: Timestamp ["ts"],
        /// Groups of pulling clients.
        priority_groups: Vec<PriorityGroupState>
            ["priority_groups", "[]server.PriorityGroupState", omitempty],
    }

    /// A position in the consumer's and the stream's sequence.
    SequenceInfo = "server.SequenceInfo" {
        /// Of deliveries.
        consumer_seq: u64 ["consumer_seq"],
        /// Of messages.
        stream_seq: u64 ["stream_seq"],
        /// When it last moved.
        last_active: Option<Timestamp> ["last_active", omitempty],
    }

    /// A group of pulling clients.
    PriorityGroupState = "server.PriorityGroupState" {
        /// Name.
        group: String ["group"],
        /// The pinned client.
        pinned_client_id: String ["pinned_client_id", omitempty],
        /// Since when; always written.
        pinned_ts: Timestamp ["pinned_ts"],
    }

    /// A message out of a stream.
    StoredMessage = "server.StoredMsg" {
        /// Its subject.
        subject: String ["subject"],
        /// Its sequence.
        seq: u64 ["seq"],
        /// Its header block.
        hdrs: Bytes ["hdrs", omitempty],
        /// Its body.
        data: Bytes ["data", omitempty],
        /// When it was stored.
        time: Timestamp ["time"],
    }
}
