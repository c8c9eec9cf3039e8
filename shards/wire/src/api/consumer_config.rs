//! What a consumer is: its configuration and the request that makes it.

use std::collections::BTreeMap;

use super::policy::{AckPolicy, ConsumerAction, DeliverPolicy, PriorityPolicy, ReplayPolicy};
use super::timestamp::Timestamp;
use super::value::object;

object! {
    /// The configuration of a consumer.
    ConsumerConfig = "server.ConsumerConfig" {
        /// Name of a consumer that outlives its clients.
        durable_name: String ["durable_name", omitempty],
        /// Name.
        name: String ["name", omitempty],
        /// For people.
        description: String ["description", omitempty],
        /// Where it starts.
        deliver_policy: DeliverPolicy ["deliver_policy"],
        /// Sequence for `by_start_sequence`.
        opt_start_seq: u64 ["opt_start_seq", omitempty],
        /// Time for `by_start_time`.
        opt_start_time: Option<Timestamp> ["opt_start_time", omitempty],
        /// What must be acknowledged.
        ack_policy: AckPolicy ["ack_policy"],
        /// Time for an acknowledgement, in nanoseconds.
        ack_wait_ns: i64 ["ack_wait", "time.Duration", omitempty],
        /// Deliveries of one message at most.
        max_deliver: i64 ["max_deliver", "int", omitempty],
        /// Times for the acknowledgements of repeated deliveries, in nanoseconds.
        backoff_ns: Vec<i64> ["backoff", "[]time.Duration", omitempty],
        /// Pattern of the subjects that are delivered.
        filter_subject: String ["filter_subject", omitempty],
        /// Patterns, if there are several.
        filter_subjects: Vec<String> ["filter_subjects", omitempty],
        /// How fast stored messages come.
        replay_policy: ReplayPolicy ["replay_policy"],
        /// Bits in a second at most.
        rate_limit_bps: u64 ["rate_limit_bps", omitempty],
        /// Percentage of acknowledgements that are measured.
        sample_freq: String ["sample_freq", omitempty],
        /// Pull requests that may wait.
        max_waiting: i64 ["max_waiting", "int", omitempty],
        /// Messages that may wait for an acknowledgement.
        max_ack_pending: i64 ["max_ack_pending", "int", omitempty],
        /// The client confirms what it has received.
        flow_control: bool ["flow_control", omitempty],
        /// Only headers and the size are delivered.
        headers_only: bool ["headers_only", omitempty],
        /// Messages in one pull request at most.
        max_batch: i64 ["max_batch", "int", omitempty],
        /// How long a pull request may wait, in nanoseconds.
        max_expires_ns: i64 ["max_expires", "time.Duration", omitempty],
        /// Bytes in one pull request at most.
        max_bytes: i64 ["max_bytes", "int", omitempty],
        /// Subject to which messages are pushed.
        deliver_subject: String ["deliver_subject", omitempty],
        /// Queue group at that subject.
        deliver_group: String ["deliver_group", omitempty],
        /// Distance of heartbeats, in nanoseconds.
        idle_heartbeat_ns: i64 ["idle_heartbeat", "time.Duration", omitempty],
        /// Idle time after which the consumer goes, in nanoseconds.
        inactive_threshold_ns: i64 ["inactive_threshold", "time.Duration", omitempty],
        /// Copies in a cluster; 0 is as many as the stream has.
        num_replicas: i64 ["num_replicas", "int"],
        /// State is kept in memory.
        mem_storage: bool ["mem_storage", omitempty],
        /// Internal: the consumer of a mirror or source.
        direct: bool ["direct", omitempty],
        /// A durable consumer of a mirror or source.
        sourcing: bool ["sourcing", omitempty],
        /// Free pairs; keys that begin with `_nats.` are the server's.
        metadata: BTreeMap<String, String> ["metadata", omitempty],
        /// Nothing is delivered until then.
        pause_until: Option<Timestamp> ["pause_until", omitempty],
        /// Names of groups of pulling clients.
        priority_groups: Vec<String> ["priority_groups", omitempty],
        /// Which of them gets messages.
        priority_policy: PriorityPolicy ["priority_policy", omitempty],
        /// How long a silent client stays pinned, in nanoseconds.
        priority_timeout_ns: i64 ["priority_timeout", "time.Duration", omitempty],
    }

    /// The body of requests that make or change a consumer.
    CreateConsumerRequest = "server.CreateConsumerRequest" {
        /// Name of the stream.
        stream_name: String ["stream_name"],
        /// The consumer.
        config: ConsumerConfig ["config"],
        /// Make, change, or both.
        action: ConsumerAction ["action"],
        /// Refuse what would otherwise be corrected.
        pedantic: bool ["pedantic", omitempty],
    }
}
