//! What JetStream may use and how durable it is. Lives on: every shard, replaced whole on reload;
//! the usage counts are shared by all shards of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;

/// When an acknowledged message is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Flushed to the device before the acknowledgement.
    Flushed,
    /// Written before the acknowledgement, flushed at least once in so many ns.
    Lazy {
        /// The interval.
        interval_ns: u64,
    },
}

/// Limits of one account; negative is without limit. Names as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLimits {
    /// `max_memory`, bytes.
    pub memory_bytes_max: i64,
    /// `max_file`, bytes.
    pub file_bytes_max: i64,
    /// `max_streams`
    pub streams_max: i64,
    /// `max_consumers` of one stream.
    pub consumers_max: i64,
    /// `max_ack_pending`
    pub ack_pending_max: i64,
    /// `mem_max_stream_bytes`
    pub memory_stream_bytes_max: i64,
    /// `disk_max_stream_bytes`
    pub file_stream_bytes_max: i64,
    /// `max_bytes_required`
    pub max_bytes_required: bool,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: -1,
            file_bytes_max: -1,
            streams_max: -1,
            consumers_max: -1,
            ack_pending_max: -1,
            memory_stream_bytes_max: -1,
            file_stream_bytes_max: -1,
            max_bytes_required: false,
        }
    }
}

/// What one account, or all of them together, use and have asked for in the whole process.
#[derive(Debug, Default)]
pub struct Usage {
    /// Bytes of messages in memory.
    pub memory_bytes: AtomicI64,
    /// Bytes of messages in files.
    pub file_bytes: AtomicI64,
    /// Bytes promised by `max_bytes` of memory streams.
    pub memory_reserved: AtomicI64,
    /// Bytes promised by `max_bytes` of file streams.
    pub file_reserved: AtomicI64,
    /// Streams.
    pub streams: AtomicI64,
    /// Consumers.
    pub consumers: AtomicI64,
    /// Open atomic batches; counted for all accounts together only.
    pub atomic_batches: AtomicI64,
    /// Open fast-ingest batches; counted for all accounts together only.
    pub fast_batches: AtomicI64,
    /// Requests to the API.
    pub api_total: AtomicU64,
    /// Those answered with an error.
    pub api_errors: AtomicU64,
}

impl Usage {
    /// Adds to a count, or takes away; the new value.
    pub fn add(count: &AtomicI64, amount: i64) -> i64 {
        count.fetch_add(amount, Ordering::Relaxed) + amount
    }

    /// A count as the API shows it.
    #[must_use]
    pub fn get(count: &AtomicI64) -> u64 {
        u64::try_from(count.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// One account.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Name.
    pub name: String,
    /// What it may use; `None` without JetStream.
    pub limits: Option<AccountLimits>,
    /// What it uses.
    pub usage: Arc<Usage>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the server.
    pub server_name: String,
    /// Id of the server.
    pub server_id: String,
    /// Name of the cluster, may be empty.
    pub cluster: String,
    /// Domain, may be empty.
    pub domain: String,
    /// Unknown keys in requests are errors.
    pub strict: bool,
    /// When acknowledged messages are on disk.
    pub durability: Durability,
    /// How files are encrypted.
    pub encryption: Option<Arc<store::log::Encryption>>,
    /// `max_memory_store`, bytes.
    pub memory_bytes_max: i64,
    /// `max_file_store`, bytes.
    pub file_bytes_max: i64,
    /// Messages of one stream that may wait for the disk, bytes.
    pub buffered_bytes_max: usize,
    /// The same, messages.
    pub buffered_messages_max: usize,
    /// `limits { max_ack_pending }`; 0 is without limit.
    pub ack_pending_max: i64,
    /// `limits { max_request_batch }`; 0 is without limit.
    pub request_batch_max: i64,
    /// `limits { duplicate_window }`, ns; 0 is without limit.
    pub duplicate_window_ns: i64,
    /// Consumers of a stream that says nothing about it.
    pub consumers_default_max: i64,
    /// Atomic batches of one stream that may be open.
    pub batches_per_stream_max: usize,
    /// Batches of either kind of all streams that may be open.
    pub batches_total_max: usize,
    /// Messages in an atomic batch.
    pub batch_messages_max: usize,
    /// Time without message after which a batch is given up, ns.
    pub batch_timeout_ns: u64,
    /// Bytes of messages from disk that a shard keeps.
    pub cache_bytes_max: usize,
    /// A consumer with messages and clients but no progress for so long is reported, ns; 0 never.
    pub stuck_consumer_ns: u64,
    /// Every sealed segment is verified once in this time, ns; 0 never.
    pub scrub_interval_ns: u64,
    /// Bytes a second that all shards together read for it.
    pub scrub_bytes_per_second: u64,
    /// A restore without a chunk for so long is given up, ns; 0 never.
    pub restore_idle_ns: u64,
    /// What all accounts use together.
    pub total: Arc<Usage>,
    /// Every account of the process; the position is the account's id.
    pub accounts: Vec<AccountSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_name: String::new(),
            server_id: String::new(),
            cluster: String::new(),
            domain: String::new(),
            strict: true,
            durability: Durability::Flushed,
            encryption: None,
            memory_bytes_max: i64::MAX,
            file_bytes_max: i64::MAX,
            buffered_bytes_max: 128 << 20,
            buffered_messages_max: 100_000,
            ack_pending_max: 0,
            request_batch_max: 0,
            duplicate_window_ns: 0,
            consumers_default_max: 1000,
            batches_per_stream_max: 50,
            batches_total_max: 1000,
            batch_messages_max: 1000,
            batch_timeout_ns: 10 * SECOND_NS,
            cache_bytes_max: 32 << 20,
            stuck_consumer_ns: 60 * SECOND_NS,
            scrub_interval_ns: 24 * 3600 * SECOND_NS,
            scrub_bytes_per_second: 16 << 20,
            restore_idle_ns: 30 * SECOND_NS,
            total: Arc::default(),
            accounts: Vec::new(),
        }
    }
}

impl Settings {
    /// An account by its id.
    #[must_use]
    pub fn account(&self, id: u32) -> Option<&AccountSettings> {
        self.accounts.get(id as usize)
    }

    /// An account's limits, when it may use JetStream.
    #[must_use]
    pub fn limits(&self, id: u32) -> Option<&AccountLimits> {
        self.account(id)?.limits.as_ref()
    }

    /// How one of `shards` verifies what it has stored.
    #[must_use]
    pub fn scrub_pace(&self, shards: u16) -> store::ScrubPace {
        store::ScrubPace {
            interval_ns: self.scrub_interval_ns,
            bytes_per_second: self.scrub_bytes_per_second / u64::from(shards.max(1)),
        }
    }

    /// The id of an account.
    #[must_use]
    pub fn account_id(&self, name: &str) -> Option<u32> {
        self.accounts.iter().position(|account| account.name == name).map(|at| at as u32)
    }
}
