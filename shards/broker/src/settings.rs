//! The limits and switches a shard obeys. Lives on: every shard, replaced whole on reload.

use std::sync::Arc;

use crate::account::share::Shares;
use crate::auth::{AuthSettings, AuthTable};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLI_NS: u64 = 1_000_000;

/// Everything about the server that the broker needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who the server says it is in INFO.
    pub identity: Identity,
    /// Limits a client can run into.
    pub limits: Limits,
    /// When publishers are held back for a receiver that is behind.
    pub hold: HoldSettings,
    /// Bounds of the traffic between shards.
    pub mesh: MeshSettings,
    /// Users, passwords, permissions and the account each user belongs to.
    pub auth: AuthSettings,
    /// The same, compiled.
    pub auth_table: Arc<AuthTable>,
    /// Every account of the process; the position is the account's id on every shard.
    pub accounts: Vec<AccountSettings>,
    /// What INFO says about TLS.
    pub tls: TlsAnnouncement,
    /// JetStream domain, may be empty.
    pub jetstream_domain: String,
    /// Whether clients may use headers (`no_header_support` turns this off).
    pub headers: bool,
    /// Whether login and traffic are traced to the log.
    pub trace: bool,
}

/// What INFO tells about the server itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Public server nkey, `N` and 55 more characters.
    pub server_id: String,
    /// Configured name, or the id.
    pub server_name: String,
    /// Version of NATS whose behaviour is served.
    pub version: String,
    /// Seven characters of the build's commit, or empty.
    pub git_commit: String,
    /// Runtime text of INFO's `go` field.
    pub runtime: String,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Cluster name when clustering is configured.
    pub cluster: Option<String>,
    /// JetStream is on.
    pub jetstream: bool,
    /// JetStream domain, may be empty.
    pub domain: String,
    /// Level of the JetStream API, which INFO tells whether JetStream is on or not.
    pub api_level: u64,
    /// Curve public key `X...`.
    pub xkey: Option<String>,
}

/// TLS as INFO announces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsAnnouncement {
    /// Clients must use TLS.
    pub required: bool,
    /// Clients must present a certificate.
    pub verify: bool,
    /// TLS is offered beside plain connections (`allow_non_tls`).
    pub available: bool,
}

/// Limits of one client connection. Source: wire.md section 6.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest message, headers included, bytes.
    pub max_payload: usize,
    /// Most bytes waiting to be sent to one connection.
    pub max_pending_bytes: usize,
    /// Longest argument line, bytes.
    pub max_control_line: usize,
    /// Most connections of the process; `None` is unlimited.
    pub max_connections: Option<usize>,
    /// Most subscriptions of one connection; `None` is unlimited.
    pub max_subscriptions: Option<usize>,
    /// Most tokens in a subscription's subject; 0 is unlimited.
    pub max_sub_tokens: usize,
    /// Time between server pings, ns.
    pub ping_interval_ns: u64,
    /// Pings that may be unanswered before a connection is stale.
    pub ping_max: u32,
    /// Longest time a connection may accept no byte that waits for it, ns.
    pub write_deadline_ns: u64,
    /// Time from accept to a valid CONNECT when login is required, ns.
    pub auth_timeout_ns: u64,
    /// Closed connections remembered by one shard.
    pub closed_connections_max: usize,
    /// Bytes of output one turn may gather before it is flushed, however few connections have any.
    pub turn_output_bytes_min: usize,
    /// The same, however many connections have any.
    pub turn_output_bytes_max: usize,
    /// Match plans one shard may cache.
    pub plans_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: 1 << 20,
            max_pending_bytes: 64 << 20,
            max_control_line: 4096,
            max_connections: Some(65_536),
            max_subscriptions: None,
            max_sub_tokens: 0,
            ping_interval_ns: 120 * SECOND_NS,
            ping_max: 2,
            write_deadline_ns: 10 * SECOND_NS,
            auth_timeout_ns: 2 * SECOND_NS,
            closed_connections_max: 10_000,
            turn_output_bytes_min: 256 << 10,
            turn_output_bytes_max: 4 << 20,
            plans_max: 8192,
        }
    }
}

/// When a publisher waits for a receiver that is behind. Decision record 0004.
#[derive(Clone, Debug)]
pub struct HoldSettings {
    /// Holding is on (`no_fast_producer_stall` turns it off).
    pub enabled: bool,
    /// Pending bytes of a receiver from which its publishers wait, while nobody else suffers.
    pub soft_pending_bytes: usize,
    /// Pending bytes from which a receiver may hold publishers that also feed others.
    pub hard_pending_bytes: usize,
    /// Longest single hold without progress of the receiver, ns.
    pub slice_ns: u64,
    /// Time one receiver may hold publishers that feed others, ns.
    pub contested_ns_max: u64,
    /// Least time between two refills of that budget, ns.
    pub refill_ns: u64,
}

impl HoldSettings {
    /// The defaults for a pending limit.
    #[must_use]
    pub fn for_pending(max_pending_bytes: usize) -> Self {
        Self {
            enabled: true,
            soft_pending_bytes: (1 << 20).min(max_pending_bytes / 4),
            hard_pending_bytes: max_pending_bytes / 4 * 3,
            slice_ns: 5 * MILLI_NS,
            contested_ns_max: 50 * MILLI_NS,
            refill_ns: 10 * SECOND_NS,
        }
    }
}

/// Bounds of what travels between two shards.
#[derive(Clone, Debug)]
pub struct MeshSettings {
    /// Bytes in one batch before the next is begun.
    pub batch_bytes_max: usize,
    /// Bytes waiting for one peer from which publishers to it are held.
    pub backlog_bytes_max: usize,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self { batch_bytes_max: 128 << 10, backlog_bytes_max: 512 << 10 }
    }
}

/// One account.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Name, `$G` and `$SYS` included.
    pub name: String,
    /// This is the system account.
    pub is_system: bool,
    /// Most client connections of the account in the process.
    pub max_connections: Option<usize>,
    /// Most subscriptions of one connection of the account.
    pub max_subscriptions: Option<usize>,
    /// Largest message, bytes.
    pub max_payload: Option<usize>,
    /// The account may use JetStream.
    pub jetstream: bool,
    /// JetStream takes requests of this account, if only to refuse them.
    pub asks_jetstream: bool,
    /// Connections of the account in the whole process. The one count that shards share, so that
    /// the limit is exact.
    pub connections: Arc<std::sync::atomic::AtomicUsize>,
    /// What it shares with other accounts; `None` when nothing.
    pub shares: Option<Arc<Shares>>,
}

impl AccountSettings {
    /// An account without limits.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_system: false,
            max_connections: None,
            max_subscriptions: None,
            max_payload: None,
            jetstream: false,
            asks_jetstream: false,
            connections: Arc::default(),
            shares: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            identity: Identity::default(),
            hold: HoldSettings::for_pending(limits.max_pending_bytes),
            limits,
            mesh: MeshSettings::default(),
            auth: AuthSettings::default(),
            auth_table: Arc::new(AuthTable::open()),
            accounts: vec![
                AccountSettings::new("$G"),
                AccountSettings { is_system: true, ..AccountSettings::new("$SYS") },
            ],
            tls: TlsAnnouncement::default(),
            jetstream_domain: String::new(),
            headers: true,
            trace: false,
        }
    }
}
