//! The options that concern other servers, other protocols and streams.

use std::collections::BTreeMap;
use std::time::Duration;

use super::options::{Listen, Permissions, SubjectRule, WriteTimeout};
use super::options_trust::TlsOptions;
use super::secret::Secret;

/// `cluster`
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterOptions {
    /// `name`
    pub name: String,
    /// `listen`; the port is off when there is no cluster.
    pub listen: Listen,
    /// `authorization`
    pub auth: PeerAuth,
    /// `routes`: URLs to connect to.
    pub routes: Vec<String>,
    /// `tls`
    pub tls: Option<TlsOptions>,
    /// `advertise`
    pub advertise: String,
    /// `no_advertise`
    pub no_advertise: bool,
    /// `connect_retries`
    pub connect_retries: i64,
    /// `connect_backoff`
    pub connect_backoff: bool,
    /// `permissions`: `publish` is what is imported, `subscribe` what is exported.
    pub permissions: Option<Permissions>,
    /// `pool_size`, 3; negative disables the pool.
    pub pool_size: i64,
    /// `accounts` that have a route of their own.
    pub pinned_accounts: Vec<String>,
    /// `compression`
    pub compression: Compression,
    /// `ping_interval`
    pub ping_interval: Option<Duration>,
    /// `ping_max`
    pub pings_out_max: i64,
    /// `write_deadline`
    pub write_deadline: Option<Duration>,
    /// `write_timeout`
    pub write_timeout: WriteTimeout,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: Listen::default(),
            auth: PeerAuth::default(),
            routes: Vec::new(),
            tls: None,
            advertise: String::new(),
            no_advertise: false,
            connect_retries: 0,
            connect_backoff: false,
            permissions: None,
            pool_size: 3,
            pinned_accounts: Vec::new(),
            compression: Compression { mode: "accept".into(), rtt_thresholds: Vec::new() },
            ping_interval: None,
            pings_out_max: 0,
            write_deadline: None,
            write_timeout: WriteTimeout::Default,
        }
    }
}

/// The login of another server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerAuth {
    /// `user`
    pub user: String,
    /// `password`
    pub password: Secret,
    /// `timeout`
    pub timeout: Option<Duration>,
}

/// `compression`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// One of `off accept s2_auto s2_uncompressed s2_fast s2_better s2_best not supported`.
    pub mode: String,
    /// `rtt_thresholds` of `s2_auto`
    pub rtt_thresholds: Vec<Duration>,
}

/// `gateway`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayOptions {
    /// `name`
    pub name: String,
    /// `listen`
    pub listen: Listen,
    /// `authorization`
    pub auth: PeerAuth,
    /// `tls`
    pub tls: Option<TlsOptions>,
    /// `advertise`
    pub advertise: String,
    /// `connect_retries`
    pub connect_retries: i64,
    /// `connect_backoff`
    pub connect_backoff: bool,
    /// `reject_unknown_cluster`
    pub reject_unknown: bool,
    /// `gateways`
    pub gateways: Vec<RemoteGateway>,
    /// `write_deadline`
    pub write_deadline: Option<Duration>,
    /// `write_timeout`
    pub write_timeout: WriteTimeout,
}

/// One of `gateway { gateways }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemoteGateway {
    /// `name`
    pub name: String,
    /// `url`, `urls`
    pub urls: Vec<String>,
    /// `tls`
    pub tls: Option<TlsOptions>,
}

/// `leafnodes`
#[derive(Clone, Debug, PartialEq)]
pub struct LeafNodeOptions {
    /// `listen`
    pub listen: Listen,
    /// `authorization`
    pub auth: LeafAuth,
    /// `tls`
    pub tls: Option<TlsOptions>,
    /// `advertise`
    pub advertise: String,
    /// `no_advertise`
    pub no_advertise: bool,
    /// `min_version`
    pub min_version: String,
    /// `compression`
    pub compression: Compression,
    /// `isolate_leafnode_interest`
    pub isolate: bool,
    /// `reconnect`, 1 second
    pub reconnect: Duration,
    /// `dial_timeout`, 1 second
    pub dial_timeout: Duration,
    /// `write_deadline`
    pub write_deadline: Option<Duration>,
    /// `write_timeout`
    pub write_timeout: WriteTimeout,
    /// `remotes`
    pub remotes: Vec<RemoteLeaf>,
}

impl Default for LeafNodeOptions {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            auth: LeafAuth::default(),
            tls: None,
            advertise: String::new(),
            no_advertise: false,
            min_version: String::new(),
            compression: Compression { mode: "s2_auto".into(), rtt_thresholds: Vec::new() },
            isolate: false,
            reconnect: Duration::from_secs(1),
            dial_timeout: Duration::from_secs(1),
            write_deadline: None,
            write_timeout: WriteTimeout::Default,
            remotes: Vec::new(),
        }
    }
}

/// `leafnodes { authorization }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeafAuth {
    /// `user`
    pub user: String,
    /// `password`
    pub password: Secret,
    /// `nkey`
    pub nkey: String,
    /// `account`
    pub account: String,
    /// `timeout`
    pub timeout: Option<Duration>,
    /// `proxy_required`
    pub proxy_required: bool,
    /// `users`
    pub users: Vec<LeafUser>,
}

/// One of `leafnodes { authorization { users } }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeafUser {
    /// `user`
    pub name: String,
    /// `password`
    pub password: Secret,
    /// `account`
    pub account: String,
    /// `proxy_required`
    pub proxy_required: bool,
}

/// One of `leafnodes { remotes }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemoteLeaf {
    /// `url`, `urls`
    pub urls: Vec<String>,
    /// `account`; empty means `$G`.
    pub account: String,
    /// `credentials`
    pub credentials: String,
    /// `nkey`, a seed
    pub seed: Secret,
    /// `tls`
    pub tls: Option<TlsOptions>,
    /// `hub`
    pub hub: bool,
    /// `deny_imports`
    pub deny_imports: Vec<SubjectRule>,
    /// `deny_exports`
    pub deny_exports: Vec<SubjectRule>,
    /// `no_randomize`
    pub no_randomize: bool,
    /// `ws_compression`
    pub ws_compression: bool,
    /// `ws_no_masking`
    pub ws_no_masking: bool,
    /// `jetstream_cluster_migrate`
    pub cluster_migrate: bool,
    /// `jetstream_cluster_migrate { leader_migrate_delay }`
    pub cluster_migrate_delay: Option<Duration>,
    /// `isolate_leafnode_interest`
    pub isolate: bool,
    /// `request_isolation`
    pub request_isolation: bool,
    /// `compression`
    pub compression: Compression,
    /// `first_info_timeout`, 1 second when not set
    pub first_info_timeout: Option<Duration>,
    /// `dial_timeout`
    pub dial_timeout: Option<Duration>,
    /// `disabled`
    pub disabled: bool,
    /// `proxy { url }`
    pub proxy_url: String,
    /// `proxy { username }`
    pub proxy_user: String,
    /// `proxy { password }`
    pub proxy_password: Secret,
    /// `proxy { timeout }`
    pub proxy_timeout: Option<Duration>,
    /// `ignore_discovered_servers`
    pub ignore_discovered_servers: bool,
}

/// The login of a WebSocket or MQTT listener, which has no users of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimpleAuth {
    /// `user`
    pub user: String,
    /// `password`
    pub password: Secret,
    /// `token`
    pub token: Secret,
    /// `timeout`
    pub timeout: Option<Duration>,
}

/// `websocket`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WebsocketOptions {
    /// `listen`
    pub listen: Listen,
    /// `advertise`
    pub advertise: String,
    /// `tls`
    pub tls: Option<TlsOptions>,
    /// `no_tls`
    pub no_tls: bool,
    /// `same_origin`
    pub same_origin: bool,
    /// `allowed_origins`
    pub allowed_origins: Vec<String>,
    /// `handshake_timeout`
    pub handshake_timeout: Option<Duration>,
    /// `compression`
    pub compression: bool,
    /// `authorization`
    pub auth: SimpleAuth,
    /// `no_auth_user`
    pub no_auth_user: String,
    /// `jwt_cookie`
    pub jwt_cookie: String,
    /// `user_cookie`
    pub user_cookie: String,
    /// `pass_cookie`
    pub pass_cookie: String,
    /// `token_cookie`
    pub token_cookie: String,
    /// `headers`
    pub headers: BTreeMap<String, String>,
    /// `ping_interval`
    pub ping_interval: Option<Duration>,
}

/// `mqtt`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MqttOptions {
    /// `listen`
    pub listen: Listen,
    /// `tls`
    pub tls: Option<TlsOptions>,
    /// `authorization`
    pub auth: SimpleAuth,
    /// `no_auth_user`
    pub no_auth_user: String,
    /// `ack_wait`, 30 seconds when not set
    pub ack_wait: Option<Duration>,
    /// `js_api_timeout`, 5 seconds when not set
    pub js_api_timeout: Option<Duration>,
    /// `max_ack_pending`, 1024 when not set
    pub ack_pending_max: Option<u16>,
    /// `js_domain`
    pub js_domain: String,
    /// `stream_replicas`
    pub stream_replicas: i64,
    /// `consumer_memory_storage`
    pub consumer_memory_storage: bool,
    /// `consumer_inactive_threshold`
    pub consumer_inactive_threshold: Option<Duration>,
    /// `reject_qos2_publish`
    pub reject_qos2_publish: bool,
    /// `downgrade_qos2_subscribe`
    pub downgrade_qos2_subscribe: bool,
}

/// `jetstream`
#[derive(Clone, Debug, PartialEq)]
pub struct JetStreamOptions {
    /// Whether it is on.
    pub enabled: bool,
    /// `store_dir`, here or at the top level; `$TMPDIR/nats` when empty.
    pub store_dir: String,
    /// `max_memory_store` in bytes; -1 means 75 % of the machine's.
    pub memory_bytes_max: i64,
    /// `max_file_store` in bytes; -1 means 75 % of what is free.
    pub file_bytes_max: i64,
    /// `sync_interval`, 2 minutes
    pub sync_interval: Duration,
    /// `sync_interval: always`
    pub sync_always: bool,
    /// `sync_interval` is a time: acknowledgements do not wait for a flush.
    pub lazy: bool,
    /// `stuck_consumer`, 60 s: a consumer for whose clients nothing moves for so long is reported;
    /// 0 is never. nats-server has no such key.
    pub stuck_consumer: Duration,
    /// `scrub_interval`, 24 h: every sealed segment is verified once in this time; 0 is never.
    /// nats-server has no such key, nor the next.
    pub scrub_interval: Duration,
    /// `scrub_rate`, 16 MiB: bytes a second that are read for it.
    pub scrub_bytes_per_second: i64,
    /// `read_cache`, 32 MiB: bytes of what was read from disk that each shard keeps in memory.
    /// nats-server has no such key.
    pub read_cache_bytes_max: i64,
    /// `restore_timeout`, 30 s: a restore without a chunk for so long is given up; 0 is never.
    /// nats-server has no such key.
    pub restore_timeout: Duration,
    /// `reserved_files`: descriptors that connections leave to the store; 0 means a quarter of
    /// what there are for both. nats-server has no such key.
    pub files_reserved: u64,
    /// `domain`
    pub domain: String,
    /// `strict`
    pub strict: bool,
    /// `key`
    pub key: Secret,
    /// `prev_key`
    pub prev_key: Secret,
    /// `cipher`
    pub cipher: StoreCipher,
    /// `extension_hint`
    pub extension_hint: String,
    /// `unique_tag`
    pub unique_tag: String,
    /// `max_outstanding_catchup` in bytes; 0 means 64 MB.
    pub catchup_bytes_max: i64,
    /// `max_buffered_size` in bytes; 0 means 128 MB.
    pub buffered_bytes_max: i64,
    /// `max_buffered_msgs`; 0 means 100,000.
    pub buffered_msgs_max: i64,
    /// `request_queue_limit`, 10,000
    pub request_queue_max: i64,
    /// `info_queue_limit`, as `request_queue_limit`
    pub info_queue_max: i64,
    /// `meta_compact`
    pub meta_compact: u64,
    /// `meta_compact_size` in bytes
    pub meta_compact_bytes: u64,
    /// `meta_compact_sync`
    pub meta_compact_sync: bool,
    /// `max_concurrent_io`, 4096
    pub concurrent_io_max: i64,
    /// `limits`
    pub limits: JetStreamLimits,
    /// `tpm`
    pub tpm: Option<TpmOptions>,
}

impl Default for JetStreamOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            store_dir: String::new(),
            memory_bytes_max: -1,
            file_bytes_max: -1,
            sync_interval: Duration::from_secs(120),
            sync_always: false,
            lazy: false,
            stuck_consumer: Duration::from_secs(60),
            scrub_interval: Duration::from_secs(24 * 3600),
            scrub_bytes_per_second: 16 << 20,
            read_cache_bytes_max: 32 << 20,
            restore_timeout: Duration::from_secs(30),
            files_reserved: 0,
            domain: String::new(),
            strict: true,
            key: Secret::default(),
            prev_key: Secret::default(),
            cipher: StoreCipher::ChaCha,
            extension_hint: String::new(),
            unique_tag: String::new(),
            catchup_bytes_max: 0,
            buffered_bytes_max: 0,
            buffered_msgs_max: 0,
            request_queue_max: 10_000,
            info_queue_max: 10_000,
            meta_compact: 0,
            meta_compact_bytes: 0,
            meta_compact_sync: false,
            concurrent_io_max: 4096,
            limits: JetStreamLimits::default(),
            tpm: None,
        }
    }
}

/// The cipher of stored messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreCipher {
    /// ChaCha20-Poly1305
    #[default]
    ChaCha,
    /// AES-256-GCM
    Aes,
}

/// `jetstream { limits }`; 0 means not set, except where said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStreamLimits {
    /// `max_ack_pending`
    pub ack_pending_max: i64,
    /// `max_ha_assets`
    pub ha_assets_max: i64,
    /// `max_request_batch`
    pub request_batch_max: i64,
    /// `duplicate_window`
    pub duplicate_window: Option<Duration>,
    /// `default_max_consumers`, 1000
    pub default_consumers_max: i64,
    /// `batch { max_inflight_per_stream }`, 50
    pub batch_inflight_per_stream_max: i64,
    /// `batch { max_inflight_total }`, 1000
    pub batch_inflight_total_max: i64,
    /// `batch { max_msgs }`, 1000
    pub batch_msgs_max: i64,
    /// `batch { timeout }`, 10 seconds
    pub batch_timeout: Duration,
}

impl Default for JetStreamLimits {
    fn default() -> Self {
        Self {
            ack_pending_max: 0,
            ha_assets_max: 0,
            request_batch_max: 0,
            duplicate_window: None,
            default_consumers_max: 1000,
            batch_inflight_per_stream_max: 50,
            batch_inflight_total_max: 1000,
            batch_msgs_max: 1000,
            batch_timeout: Duration::from_secs(10),
        }
    }
}

/// `jetstream { tpm }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TpmOptions {
    /// `keys_file`
    pub keys_file: String,
    /// `encryption_password`
    pub key_password: Secret,
    /// `srk_password`
    pub srk_password: Secret,
    /// `pcr`
    pub pcr: i64,
}
