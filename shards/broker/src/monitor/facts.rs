//! What shard 0 knows about the server as a whole when it renders a monitoring reply: identity,
//! limits, echoes of the configuration, figures of the process.

use std::collections::BTreeMap;

use super::jetstream::JetStreamFacts;
use super::request::RequestCounts;

/// The server, as the replies show it. Times are wall clock nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerFacts {
    /// The server's public nkey.
    pub server_id: String,
    /// The configured name, or the id.
    pub server_name: String,
    /// The NATS version spoken, as in INFO.
    pub version: String,
    /// The client protocol number, as in INFO.
    pub proto: u32,
    /// The commit of the build; empty for none.
    pub git_commit: String,
    /// The compiler of the build (the field is called `go` in replies).
    pub runtime: String,
    /// The version of this program, for `/metrics` and the index page.
    pub build_version: String,
    /// The host clients are told, after `client_advertise`.
    pub host: String,
    /// The port clients are told, after `client_advertise`.
    pub port: u16,
    /// Whether the configuration names users, accounts or a token.
    pub auth_required: bool,
    /// Whether clients need TLS.
    pub tls_required: bool,
    /// Whether clients need a certificate.
    pub tls_verify: bool,
    /// Other addresses clients are told.
    pub connect_urls: Vec<String>,
    /// Most clients.
    pub max_connections: i64,
    /// Most subscriptions of one client; 0 for no limit.
    pub max_subscriptions: u64,
    /// Time between pings.
    pub ping_interval_ns: u64,
    /// Pings that may go unanswered.
    pub ping_max: u64,
    /// Where monitoring listens.
    pub http_host: String,
    /// The configured monitoring port (-1 for a random one).
    pub http_port: i32,
    /// The configured base path; empty for none.
    pub http_base_path: String,
    /// The configured monitoring port with TLS; 0 for none.
    pub https_port: i32,
    /// Time for a login, in seconds.
    pub auth_timeout_s: f64,
    /// Longest control line, in bytes.
    pub max_control_line: u64,
    /// Largest payload, in bytes.
    pub max_payload: u64,
    /// Most bytes waiting for one connection.
    pub max_pending: u64,
    /// Time for a TLS handshake, in seconds.
    pub tls_timeout_s: f64,
    /// Time for a write.
    pub write_deadline_ns: u64,
    /// What happens at a write's deadline; empty if not configured.
    pub write_timeout: String,
    /// When the server started.
    pub start_ns: u64,
    /// Now; the time given to [`GatherNeeds`](super::GatherNeeds), so that orders agree.
    pub now_ns: u64,
    /// Memory in use by the process, in bytes.
    pub mem_bytes: u64,
    /// Processors of the machine.
    pub cores: u32,
    /// Processors the server uses: the number of shards.
    pub max_procs: u32,
    /// Processor time in use, in percent of one processor.
    pub cpu_percent: f64,
    /// How often each endpoint was asked.
    pub http_requests: RequestCounts,
    /// When the configuration was loaded.
    pub config_load_ns: u64,
    /// The digest of the configuration, such as `sha256:…`; empty without a file.
    pub config_digest: String,
    /// The configured tags, in lower case.
    pub tags: Vec<String>,
    /// The configured metadata.
    pub metadata: BTreeMap<String, String>,
    /// The feature flags and their states.
    pub feature_flags: BTreeMap<String, bool>,
    /// The system account's name; empty for none.
    pub system_account: String,
    /// When the certificate for clients ends, in seconds since 1970.
    pub tls_cert_not_after_s: Option<u64>,
    /// JetStream; `None` when it is off.
    pub jetstream: Option<JetStreamFacts>,
    /// The accounts.
    pub accounts: Vec<AccountFacts>,
    /// The part that keeps the server from taking connections now (nats-server says `server`);
    /// `None` when it takes them.
    pub not_ready: Option<String>,
    /// The command line. Values of flags that hold secrets are hidden when it is shown.
    pub command_line: Vec<String>,
}

impl ServerFacts {
    /// The facts of one account.
    pub(crate) fn account(&self, name: &str) -> Option<&AccountFacts> {
        self.accounts.iter().find(|account| account.name == name)
    }
}

/// The name of the account of connections that belong to no other. `/connz` does not name it.
pub const GLOBAL_ACCOUNT: &str = "$G";

/// An account, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountFacts {
    /// The name.
    pub name: String,
    /// When it was last configured.
    pub updated_ns: u64,
    /// Whether it may use JetStream.
    pub jetstream: bool,
    /// Weighted mappings, by source subject.
    pub mappings: BTreeMap<String, Vec<MappingFacts>>,
    /// What it offers to others.
    pub exports: Vec<ExportFacts>,
    /// What it takes from others.
    pub imports: Vec<ImportFacts>,
}

/// One destination of a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingFacts {
    /// The destination subject.
    pub subject: String,
    /// Its share, in percent.
    pub weight: u8,
    /// The cluster it is limited to; empty for any.
    pub cluster: String,
}

/// An export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportFacts {
    /// The subject.
    pub subject: String,
    /// Whether it is a service (else a stream).
    pub is_service: bool,
    /// `Singleton`, `Streamed` or `Chunked`; empty for streams.
    pub response_type: String,
    /// The accounts that may import it; empty for all.
    pub approved_accounts: Vec<String>,
}

/// An import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportFacts {
    /// The exported subject.
    pub subject: String,
    /// The exporting account.
    pub account: String,
    /// The subject it is mapped to; empty for the same.
    pub to: String,
    /// The subject used by this account.
    pub local_subject: String,
    /// Whether it is a service (else a stream).
    pub is_service: bool,
    /// Whether it cannot be used.
    pub is_invalid: bool,
    /// Whether the exporter learns who asks.
    pub shares_client: bool,
}
