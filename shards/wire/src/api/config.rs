//! What a stream is: its configuration and the parts of it.

use std::collections::BTreeMap;

use super::policy::{Compression, Discard, PersistMode, Retention, Storage};
use super::timestamp::Timestamp;
use super::value::object;

object! {
    /// The configuration of a stream. Limits of -1 are no limits.
    StreamConfig = "server.StreamConfig" {
        /// Name, which is a token of API subjects.
        name: String ["name"],
        /// For people.
        description: String ["description", omitempty],
        /// Patterns of the subjects whose messages are stored.
        subjects: Vec<String> ["subjects", omitempty],
        /// When messages leave.
        retention: Retention ["retention"],
        /// Consumers at most.
        max_consumers: i64 ["max_consumers", "int"],
        /// Messages at most.
        max_msgs: i64 ["max_msgs"],
        /// Bytes at most.
        max_bytes: i64 ["max_bytes"],
        /// Age at most, in nanoseconds; 0 is no limit.
        max_age_ns: i64 ["max_age", "time.Duration"],
        /// Messages of one subject at most.
        max_msgs_per_subject: i64 ["max_msgs_per_subject"],
        /// Bytes of one message at most, headers included.
        max_msg_size: i32 ["max_msg_size", omitempty],
        /// What gives way at a limit.
        discard: Discard ["discard"],
        /// Where messages are kept.
        storage: Storage ["storage"],
        /// Copies in a cluster.
        num_replicas: i64 ["num_replicas", "int"],
        /// Publishers get no acknowledgement.
        no_ack: bool ["no_ack", omitempty],
        /// How long message ids are remembered, in nanoseconds.
        duplicate_window_ns: i64 ["duplicate_window", "time.Duration", omitempty],
        /// Where in a cluster.
        placement: Option<Placement> ["placement", omitempty],
        /// The stream of which this one is a copy.
        mirror: Option<StreamSource> ["mirror", omitempty],
        /// The streams whose messages come in here too.
        sources: Vec<StreamSource> ["sources", "[]*server.StreamSource", omitempty],
        /// Compression on disk.
        compression: Compression ["compression"],
        /// Sequence of the first message of a new stream; 0 is 1.
        first_seq: u64 ["first_seq", omitempty],
        /// Changes subjects of messages as they come in.
        subject_transform: Option<SubjectTransform> ["subject_transform", omitempty],
        /// Publishes stored messages again.
        republish: Option<Republish> ["republish", omitempty],
        /// Messages may be read without asking the leader.
        allow_direct: bool ["allow_direct"],
        /// This mirror answers such reads of its origin.
        mirror_direct: bool ["mirror_direct"],
        /// `discard: new` counts for each subject as well.
        discard_new_per_subject: bool ["discard_new_per_subject", omitempty],
        /// Nothing can be added or taken away.
        sealed: bool ["sealed"],
        /// Single messages cannot be deleted by the API.
        deny_delete: bool ["deny_delete"],
        /// The stream cannot be purged.
        deny_purge: bool ["deny_purge"],
        /// `Nats-Rollup` is allowed.
        allow_rollup_hdrs: bool ["allow_rollup_hdrs"],
        /// Ceilings for consumers.
        consumer_limits: ConsumerLimits ["consumer_limits"],
        /// `Nats-TTL` is allowed.
        allow_msg_ttl: bool ["allow_msg_ttl"],
        /// How long delete markers stay, in nanoseconds; 0 is that there are none.
        subject_delete_marker_ttl_ns: i64 ["subject_delete_marker_ttl", "time.Duration", omitempty],
        /// Messages are counters.
        allow_msg_counter: bool ["allow_msg_counter", omitempty],
        /// Atomic batches are allowed.
        allow_atomic: bool ["allow_atomic", omitempty],
        /// Schedules are allowed.
        allow_msg_schedules: bool ["allow_msg_schedules", omitempty],
        /// When messages are safe.
        persist_mode: PersistMode ["persist_mode", omitempty],
        /// Fast ingest is allowed.
        allow_batched: bool ["allow_batched", omitempty],
        /// Free pairs; keys that begin with `_nats.` are the server's.
        metadata: BTreeMap<String, String> ["metadata", omitempty],
    }

    /// The body of requests that make or change a stream.
    StreamConfigRequest = "server.StreamConfigRequest" {
        /// The configuration, whose fields stand in the request itself.
        config: StreamConfig [flatten],
        /// Refuse what would otherwise be corrected.
        pedantic: bool ["pedantic", omitempty],
    }

    /// Where in a cluster a stream shall be.
    Placement = "server.Placement" {
        /// Name of the cluster.
        cluster: String ["cluster", omitempty],
        /// Tags the servers must have.
        tags: Vec<String> ["tags", omitempty],
        /// Server that shall lead.
        preferred: String ["preferred", omitempty],
    }

    /// Another stream whose messages come in.
    StreamSource = "server.StreamSource" {
        /// Name of the stream.
        name: String ["name"],
        /// First sequence to take.
        opt_start_seq: u64 ["opt_start_seq", omitempty],
        /// Time of the first message to take.
        opt_start_time: Option<Timestamp> ["opt_start_time", omitempty],
        /// Pattern of the subjects to take.
        filter_subject: String ["filter_subject", omitempty],
        /// Patterns of the subjects to take, and what becomes of them.
        subject_transforms: Vec<SubjectTransform>
            ["subject_transforms", "[]server.SubjectTransformConfig", omitempty],
        /// Where the stream is, if not in this account and domain.
        external: Option<ExternalStream> ["external", omitempty],
        /// The durable consumer to use.
        consumer: Option<SourceConsumer> ["consumer", omitempty],
    }

    /// The durable consumer through which a source is read.
    SourceConsumer = "server.StreamConsumerSource" {
        /// Name of the consumer.
        name: String ["name", omitempty],
        /// Subject to which it delivers.
        deliver_subject: String ["deliver_subject", omitempty],
    }

    /// How to reach a stream of another account or domain.
    ExternalStream = "server.ExternalStream" {
        /// Prefix in place of `$JS.API`.
        api: String ["api"],
        /// Prefix of the subject to which messages are delivered.
        deliver: String ["deliver"],
    }

    /// A change of subjects.
    SubjectTransform = "server.SubjectTransformConfig" {
        /// Pattern.
        src: String ["src"],
        /// What becomes of it.
        dest: String ["dest"],
    }

    /// Stored messages are published again.
    Republish = "server.RePublish" {
        /// Pattern of the subjects that are.
        src: String ["src", omitempty],
        /// What becomes of the subject.
        dest: String ["dest"],
        /// Only the headers and the size.
        headers_only: bool ["headers_only", omitempty],
    }

    /// Ceilings and defaults for the consumers of a stream.
    ConsumerLimits = "server.StreamConsumerLimits" {
        /// `inactive_threshold` at most, in nanoseconds.
        inactive_threshold_ns: i64 ["inactive_threshold", "time.Duration", omitempty],
        /// `max_ack_pending` at most.
        max_ack_pending: i64 ["max_ack_pending", "int", omitempty],
    }
}
