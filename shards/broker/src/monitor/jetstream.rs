//! JetStream in the snapshots of the shards: what is asked of them, what they send, and what the
//! configuration says of it.

use serde::Serialize;
use wire::api::config::StreamConfig;
use wire::api::info::{ConsumerInfo, SourceInfo, StreamState};
use wire::api::timestamp::Timestamp;

use super::json::is_zero;
use super::request::{HealthzOptions, JszOptions, MonitorRequest, Page};
use super::settings::{
    JSZ_CONSUMERS_MAX, JSZ_STREAMS_MAX, METRICS_CONSUMERS_MAX, METRICS_STREAMS_MAX,
};
use super::snapshot::{ShardSnapshot, TurnHistogram};

/// JetStream as the configuration has it: `config` and `limits` of `/varz` and `/jsz`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JetStreamFacts {
    /// Level of the API.
    pub api_level: u64,
    /// The block `config`.
    pub config: JetStreamConfigFacts,
    /// The block `limits`.
    pub limits: JetStreamLimitFacts,
    /// A disk operation under way for longer is a stuck disk, ns.
    pub disk_stuck_ns: u64,
}

/// The order of the fields is that of nats-server's reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JetStreamConfigFacts {
    /// Bytes of messages in memory.
    pub max_memory: i64,
    /// Bytes of messages in files.
    pub max_storage: i64,
    /// Directory of the store.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub store_dir: String,
    /// Time between flushes, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub sync_interval: u64,
    /// Acknowledgements wait for the flush.
    #[serde(skip_serializing_if = "is_zero")]
    pub sync_always: bool,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Catch-up may be compressed.
    #[serde(skip_serializing_if = "is_zero")]
    pub compress_ok: bool,
    /// Prefix of the tag that differs among the servers of a stream.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unique_tag: String,
    /// Unknown keys in requests are errors.
    #[serde(skip_serializing_if = "is_zero")]
    pub strict: bool,
}

/// The order of the fields is that of nats-server's reply; 0 is not configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JetStreamLimitFacts {
    /// Messages of one pull request.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_request_batch: i64,
    /// Messages of a consumer that wait for acknowledgement.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ack_pending: i64,
    /// Streams and consumers with several copies.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ha_assets: i64,
    /// Longest duplicate window, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_duplicate_window: u64,
    /// Open batches of one stream.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_batch_inflight_per_stream: i64,
    /// Open batches of all streams.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_batch_inflight_total: i64,
    /// Messages of one batch.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_batch_size: i64,
    /// Silence after which a batch is given up, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_batch_timeout: u64,
    /// Consumers of a stream that says nothing about it.
    #[serde(skip_serializing_if = "is_zero")]
    pub default_max_consumers: i64,
    /// Ours: every sealed segment is verified once in this time, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub scrub_interval: u64,
    /// Ours: bytes a second that are read for it.
    #[serde(skip_serializing_if = "is_zero")]
    pub scrub_rate: i64,
    /// Ours: bytes of what was read from disk that each shard keeps in memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_cache: i64,
}

/// What the shards have to send of JetStream beyond the sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JetStreamNeed {
    /// Rows of streams.
    pub streams: Option<StreamsNeed>,
}

/// Which accounts' streams are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccountsNeed {
    /// Those of all.
    #[default]
    All,
    /// Those of one.
    One(String),
    /// Those of a part of the accounts that may use JetStream, by name.
    Part(Page),
}

impl AccountsNeed {
    /// Picks from names that are in order.
    pub fn pick<'a, T>(&self, accounts: &'a [T], name: impl Fn(&T) -> &str) -> Vec<&'a T> {
        match self {
            Self::All => accounts.iter().collect(),
            Self::One(one) => accounts.iter().filter(|account| name(account) == one).collect(),
            Self::Part(page) => accounts.iter().skip(page.skip()).take(page.take()).collect(),
        }
    }
}

/// Which streams are wanted, and what of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsNeed {
    /// Whose.
    pub accounts: AccountsNeed,
    /// Only this one.
    pub stream: Option<String>,
    /// Only this consumer.
    pub consumer: Option<String>,
    /// With configurations.
    pub config: bool,
    /// With the consumers of clients.
    pub consumers: bool,
    /// With the consumers of mirrors and sources.
    pub direct_consumers: bool,
    /// Most streams of one shard.
    pub streams_max: usize,
    /// Most consumers of one shard.
    pub consumers_max: usize,
}

impl JetStreamNeed {
    /// What a request needs; `None` when it shows nothing of JetStream.
    pub(super) fn of(request: &MonitorRequest) -> Option<Self> {
        match request {
            MonitorRequest::Varz => Some(Self::default()),
            MonitorRequest::Jsz(options) => Some(Self::of_jsz(options)),
            MonitorRequest::Healthz(options) => Some(Self::of_healthz(options)),
            MonitorRequest::Metrics => Some(Self {
                streams: Some(StreamsNeed {
                    consumers: true,
                    streams_max: METRICS_STREAMS_MAX,
                    consumers_max: METRICS_CONSUMERS_MAX,
                    ..StreamsNeed::default()
                }),
            }),
            _ => None,
        }
    }

    fn of_jsz(options: &JszOptions) -> Self {
        let streams = options.shows_streams().then(|| StreamsNeed {
            accounts: options.accounts_need(),
            config: options.config,
            consumers: options.consumers,
            direct_consumers: options.consumers && options.direct_consumers,
            streams_max: JSZ_STREAMS_MAX,
            consumers_max: JSZ_CONSUMERS_MAX,
            ..StreamsNeed::default()
        });
        Self { streams }
    }

    fn of_healthz(options: &HealthzOptions) -> Self {
        let (Some(account), Some(stream)) = (&options.account, &options.stream) else {
            return Self::default();
        };
        let streams = StreamsNeed {
            accounts: AccountsNeed::One(account.clone()),
            stream: Some(stream.clone()),
            consumer: options.consumer.clone(),
            consumers: options.consumer.is_some(),
            direct_consumers: options.consumer.is_some(),
            streams_max: 1,
            consumers_max: 1,
            ..StreamsNeed::default()
        };
        Self { streams: Some(streams) }
    }
}

/// What a shard sends of JetStream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JetStreamSnapshot {
    /// The accounts that may use it, by name. Their figures are those of the whole process, and
    /// every shard sends the same.
    pub accounts: Vec<JetStreamAccount>,
    /// Streams of this shard.
    pub streams: u64,
    /// Their consumers.
    pub consumers: u64,
    /// Their messages.
    pub messages: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// Bytes from disk that are kept in memory.
    pub cache_bytes: u64,
    /// What the scrub of stored segments did.
    pub scrub: ScrubSnapshot,
    /// Streams that store nothing, the first of them.
    pub failed: Vec<FailedStream>,
    /// What the disk did; `None` without one.
    pub disk: Option<Box<DiskSnapshot>>,
    /// The streams asked for.
    pub rows: Vec<StreamSnapshot>,
}

/// What the scrub of a shard's stored segments did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubSnapshot {
    /// Bytes that were read and verified.
    pub bytes: u64,
    /// Segments that were gone through.
    pub segments: u64,
    /// Times that a stream's scrub has come round.
    pub passes: u64,
    /// Damaged places that were found.
    pub damaged: u64,
}

/// An account that may use JetStream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JetStreamAccount {
    /// Name.
    pub name: String,
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes in files.
    pub storage: u64,
    /// Bytes promised to its memory streams.
    pub streams_memory: u64,
    /// Bytes promised to its file streams.
    pub streams_storage: u64,
    /// Its limit of memory; negative is none.
    pub memory_max: i64,
    /// Its limit of files; negative is none.
    pub storage_max: i64,
    /// Requests to the API.
    pub api_total: u64,
    /// Those answered with an error.
    pub api_errors: u64,
}

/// A stream that stores nothing, or is not served at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedStream {
    /// The account's name.
    pub account: String,
    /// The stream's name.
    pub stream: String,
    /// What is said of it behind its name.
    pub problem: String,
}

/// One stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamSnapshot {
    /// The account's name.
    pub account: String,
    /// Name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its configuration, if asked for.
    pub config: Option<Box<StreamConfig>>,
    /// What it holds.
    pub state: StreamState,
    /// How the copying of its origin goes.
    pub mirror: Option<SourceInfo>,
    /// How the copying of its sources goes.
    pub sources: Vec<SourceInfo>,
    /// Messages that damage took.
    pub lost: u64,
    /// It stores nothing any more.
    pub is_failed: bool,
    /// Consumers of clients, by name, if asked for.
    pub consumers: Vec<ConsumerSnapshot>,
    /// Consumers of mirrors and sources, by name, if asked for.
    pub direct_consumers: Vec<ConsumerSnapshot>,
}

/// One consumer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerSnapshot {
    /// What the API says of it.
    pub info: ConsumerInfo,
    /// Messages and clients wait for each other, and nothing has moved for too long.
    pub is_stuck: bool,
}

/// What a shard's disk did since the start, and does now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskSnapshot {
    /// Operations that succeeded, by their kind.
    pub operations: Vec<(&'static str, u64)>,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Operations that failed for want of space.
    pub no_space: u64,
    /// Operations that failed otherwise.
    pub errors: u64,
    /// Operations under way or waiting.
    pub in_flight: u64,
    /// Age of the oldest of them, ns.
    pub oldest_ns: u64,
    /// How long operations took, by their kind.
    pub times: Vec<(&'static str, TurnHistogram)>,
    /// Segments ready for use.
    pub spare_segments: u64,
    /// Open files.
    pub open_files: u64,
}

/// `stats` of `/varz`, and the head of `/jsz`.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Stats {
    pub(super) memory: u64,
    pub(super) storage: u64,
    pub(super) reserved_memory: u64,
    pub(super) reserved_storage: u64,
    pub(super) accounts: u64,
    pub(super) ha_assets: u64,
    pub(super) api: ApiStats,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ApiStats {
    pub(super) level: u64,
    pub(super) total: u64,
    pub(super) errors: u64,
}

impl Stats {
    /// The sums over the accounts.
    pub(super) fn of(api_level: u64, accounts: &[JetStreamAccount]) -> Self {
        let sum = |figure: fn(&JetStreamAccount) -> u64| {
            accounts.iter().map(figure).fold(0, u64::saturating_add)
        };
        Self {
            memory: sum(|account| account.memory),
            storage: sum(|account| account.storage),
            reserved_memory: sum(|account| account.streams_memory),
            reserved_storage: sum(|account| account.streams_storage),
            accounts: accounts.len() as u64,
            ha_assets: 0,
            api: ApiStats {
                level: api_level,
                total: sum(|account| account.api_total),
                errors: sum(|account| account.api_errors),
            },
        }
    }

    /// One account. Reserved is what its limits give it; without a limit, the largest number,
    /// as nats-server says.
    pub(super) fn of_account(account: &JetStreamAccount) -> Self {
        let limit = |bytes: i64| u64::try_from(bytes).unwrap_or(u64::MAX);
        Self {
            memory: account.memory,
            storage: account.storage,
            reserved_memory: limit(account.memory_max),
            reserved_storage: limit(account.storage_max),
            api: ApiStats { level: 0, total: account.api_total, errors: account.api_errors },
            ..Self::default()
        }
    }
}

/// The JetStream parts of all shards.
pub(super) fn parts(shards: &[ShardSnapshot]) -> impl Iterator<Item = &JetStreamSnapshot> {
    shards.iter().filter_map(|shard| shard.jetstream.as_deref())
}

/// The accounts, from whichever shard; all say the same.
pub(super) fn accounts(shards: &[ShardSnapshot]) -> &[JetStreamAccount] {
    parts(shards).next().map_or(&[], |part| &part.accounts)
}
