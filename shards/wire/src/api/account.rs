//! What an account may use of JetStream and what it uses.

use std::collections::BTreeMap;

use super::value::object;

object! {
    /// The answer to `INFO`, and the figures of an account elsewhere.
    AccountStats = "server.JetStreamAccountStats" {
        /// Use and limits over all tiers.
        total: Tier [flatten],
        /// JetStream domain of the server.
        domain: String ["domain", omitempty],
        /// Requests.
        api: ApiStats ["api"],
        /// Use and limits of each tier, `R1` and so on, for accounts with tiers.
        tiers: BTreeMap<String, Tier> ["tiers", omitempty],
    }

    /// Use and limits.
    Tier = "server.JetStreamTier" {
        /// Bytes used in memory.
        memory: u64 ["memory"],
        /// Bytes used on disk.
        storage: u64 ["storage"],
        /// Bytes promised to streams in memory.
        reserved_memory: u64 ["reserved_memory"],
        /// Bytes promised to streams on disk.
        reserved_storage: u64 ["reserved_storage"],
        /// Streams.
        streams: i64 ["streams", "int"],
        /// Consumers.
        consumers: i64 ["consumers", "int"],
        /// Limits.
        limits: AccountLimits ["limits"],
    }

    /// Limits of an account or tier; -1 is no limit.
    AccountLimits = "server.JetStreamAccountLimits" {
        /// Bytes in memory.
        max_memory: i64 ["max_memory"],
        /// Bytes on disk.
        max_storage: i64 ["max_storage"],
        /// Streams.
        max_streams: i64 ["max_streams", "int"],
        /// Consumers.
        max_consumers: i64 ["max_consumers", "int"],
        /// `max_ack_pending` of a consumer.
        max_ack_pending: i64 ["max_ack_pending", "int"],
        /// Bytes of one stream in memory.
        memory_max_stream_bytes: i64 ["memory_max_stream_bytes"],
        /// Bytes of one stream on disk.
        storage_max_stream_bytes: i64 ["storage_max_stream_bytes"],
        /// Streams must have `max_bytes`.
        max_bytes_required: bool ["max_bytes_required"],
    }

    /// Requests since the server started.
    ApiStats = "server.JetStreamAPIStats" {
        /// API level of the server.
        level: i64 ["level", "int"],
        /// All.
        total: u64 ["total"],
        /// Those answered with an error.
        errors: u64 ["errors"],
        /// Those in work.
        inflight: u64 ["inflight", omitempty],
    }
}
