//! Plain counters of one shard. Lives on: every shard; gathered for monitoring.

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Messages from clients.
    pub in_msgs: u64,
    /// Their headers and payloads, bytes.
    pub in_bytes: u64,
    /// Messages to clients.
    pub out_msgs: u64,
    /// Their headers and payloads, bytes.
    pub out_bytes: u64,
    /// Connections accepted.
    pub total_connections: u64,
    /// Receivers closed for too many pending bytes.
    pub slow_pending: u64,
    /// Receivers closed for not accepting bytes in time.
    pub slow_deadline: u64,
    /// Connections closed because pings were not answered.
    pub stale: u64,
    /// Times a publisher was held for a receiver.
    pub stalls: u64,
}
