//! The options of the server: every configuration key as a typed field, with nats-server's
//! default. TLS and trust are in `options_trust`, other servers and protocols in `options_peers`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::options_peers::{
    ClusterOptions, GatewayOptions, JetStreamOptions, LeafNodeOptions, MqttOptions,
    WebsocketOptions,
};
use super::options_trust::{OcspCacheOptions, OcspOptions, TlsOptions, TrustOptions};
use super::secret::Secret;
use super::shards::ShardOptions;

/// Everything that can be configured. `Default` is what an empty file means.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The file that the options came from, as it was named.
    pub config_file: Option<String>,
    /// Where clients connect: `host`, `port`, `listen`.
    pub listen: Listen,
    /// `client_advertise`: the `host[:port]` told to clients; empty when not set.
    pub client_advertise: String,
    /// `server_name`; empty means the server's id.
    pub server_name: String,
    /// `server_tags`
    pub server_tags: Vec<String>,
    /// `server_metadata`
    pub server_metadata: BTreeMap<String, String>,
    /// `feature_flags`
    pub feature_flags: BTreeMap<String, bool>,
    /// Logging and tracing.
    pub log: LogOptions,
    /// `pid_file`
    pub pid_file: Option<String>,
    /// `ports_file_dir`
    pub ports_file_dir: Option<String>,
    /// The monitoring endpoints.
    pub monitor: MonitorOptions,
    /// `prof_port`; a Go profiler, which this server has not.
    pub profile_port: Port,
    /// `prof_block_rate`
    pub profile_block_rate: i64,
    /// What a client, or all clients together, may use.
    pub limits: LimitOptions,
    /// Login: single user, token, users, `no_auth_user`.
    pub auth: AuthOptions,
    /// `accounts`, in the order of the file, with `$G` first when it has mappings.
    pub accounts: Vec<AccountOptions>,
    /// `system_account`; empty means `$SYS`.
    pub system_account: String,
    /// `no_system_account`
    pub no_system_account: bool,
    /// Trust in JWTs: operators and resolvers.
    pub trust: TrustOptions,
    /// `tls` for clients.
    pub tls: Option<TlsOptions>,
    /// `allow_non_tls`: also serve clients that do not begin TLS.
    pub allow_non_tls: bool,
    /// `ocsp`
    pub ocsp: Option<OcspOptions>,
    /// `ocsp_cache`
    pub ocsp_cache: OcspCacheOptions,
    /// `lame_duck_duration`, 2 minutes; at least 30 seconds.
    pub lame_duck_duration: Duration,
    /// `lame_duck_grace_period`, 10 seconds.
    pub lame_duck_grace_period: Duration,
    /// `no_header_support`
    pub no_header_support: bool,
    /// `no_fast_producer_stall`
    pub no_fast_producer_stall: bool,
    /// `disable_sublist_cache`
    pub no_sublist_cache: bool,
    /// `proxy_protocol`
    pub proxy_protocol: bool,
    /// `proxies { trusted }`: public keys of trusted proxies.
    pub trusted_proxies: Vec<String>,
    /// `connect_error_reports`, 3600
    pub connect_error_reports: i64,
    /// `reconnect_error_reports`, 1
    pub reconnect_error_reports: i64,
    /// The shards of this process.
    pub shards: ShardOptions,
    /// `cluster`
    pub cluster: ClusterOptions,
    /// `gateway`
    pub gateway: GatewayOptions,
    /// `leafnodes`
    pub leafnodes: LeafNodeOptions,
    /// `websocket`
    pub websocket: WebsocketOptions,
    /// `mqtt`
    pub mqtt: MqttOptions,
    /// `jetstream` and `store_dir`
    pub jetstream: JetStreamOptions,
    /// `default_js_domain`: account to domain.
    pub default_js_domain: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config_file: None,
            listen: Listen { host: "0.0.0.0".into(), port: Port::Fixed(4222) },
            client_advertise: String::new(),
            server_name: String::new(),
            server_tags: Vec::new(),
            server_metadata: BTreeMap::new(),
            feature_flags: BTreeMap::new(),
            log: LogOptions::default(),
            pid_file: None,
            ports_file_dir: None,
            monitor: MonitorOptions::default(),
            profile_port: Port::Off,
            profile_block_rate: 0,
            limits: LimitOptions::default(),
            auth: AuthOptions::default(),
            accounts: Vec::new(),
            system_account: String::new(),
            no_system_account: false,
            trust: TrustOptions::default(),
            tls: None,
            allow_non_tls: false,
            ocsp: None,
            ocsp_cache: OcspCacheOptions::default(),
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            no_header_support: false,
            no_fast_producer_stall: false,
            no_sublist_cache: false,
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            shards: ShardOptions::default(),
            cluster: ClusterOptions::default(),
            gateway: GatewayOptions::default(),
            leafnodes: LeafNodeOptions::default(),
            websocket: WebsocketOptions::default(),
            mqtt: MqttOptions::default(),
            jetstream: JetStreamOptions::default(),
            default_js_domain: BTreeMap::new(),
        }
    }
}

impl Options {
    /// How long a client may take to log in: what was configured, or 2 seconds, or with TLS the
    /// TLS timeout and a second.
    pub fn auth_timeout(&self) -> Duration {
        match (self.auth.timeout, &self.tls) {
            (Some(timeout), _) => timeout,
            (None, Some(tls)) => tls.timeout + Duration::from_secs(1),
            (None, None) => Duration::from_secs(2),
        }
    }

    /// Whether a client must log in.
    pub fn auth_required(&self) -> bool {
        let auth = &self.auth;
        !(auth.user.is_empty()
            && auth.password.is_empty()
            && auth.token.is_empty()
            && auth.users.is_empty())
    }

    /// The name of the system account, unless there is none.
    pub fn system_account_name(&self) -> Option<&str> {
        match (self.system_account.is_empty(), self.no_system_account) {
            (false, _) => Some(&self.system_account),
            (true, false) => Some("$SYS"),
            (true, true) => None,
        }
    }
}

/// A port to listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Port {
    /// Do not listen: 0, or not configured.
    #[default]
    Off,
    /// Let the system choose: -1.
    Random,
    /// This one.
    Fixed(u16),
}

impl Port {
    /// The number to bind to, when listening at all; 0 lets the system choose.
    pub fn bind(self) -> Option<u16> {
        match self {
            Self::Off => None,
            Self::Random => Some(0),
            Self::Fixed(port) => Some(port),
        }
    }

    /// Whether nothing is listened on.
    pub fn is_off(self) -> bool {
        self == Self::Off
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("0"),
            Self::Random => f.write_str("-1"),
            Self::Fixed(port) => write!(f, "{port}"),
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// A name or address; empty stands for that of the client listener or any address.
    pub host: String,
    /// The port.
    pub port: Port,
}

/// Logging and tracing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// `debug`
    pub debug: bool,
    /// `trace`, also set by `trace_verbose` and `trace_headers`.
    pub trace: bool,
    /// `trace_verbose`: also the system account.
    pub trace_verbose: bool,
    /// `trace_headers`: headers only.
    pub trace_headers: bool,
    /// `logtime`: a time in front of each line.
    pub time: bool,
    /// `logtime_utc`
    pub time_utc: bool,
    /// `log_file`; standard error when not set.
    pub file: Option<String>,
    /// `log_size_limit` in bytes; 0 means no rotation.
    pub file_bytes_max: u64,
    /// `log_max_num`: rotated files kept; 0 means all.
    pub files_max: u64,
    /// `syslog`
    pub syslog: bool,
    /// `remote_syslog`: `udp://host:port` and the like.
    pub remote_syslog: Option<String>,
    /// `max_traced_msg_len` in bytes; 0 means all of the payload.
    pub traced_bytes_max: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            time: true,
            time_utc: false,
            file: None,
            file_bytes_max: 0,
            files_max: 0,
            syslog: false,
            remote_syslog: None,
            traced_bytes_max: 0,
        }
    }
}

/// The monitoring endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorOptions {
    /// The host of `http` or `https`; empty means that of the client listener.
    pub host: String,
    /// `http`, `http_port`, `monitor_port`
    pub http: Port,
    /// `https`, `https_port`
    pub https: Port,
    /// `http_base_path`, always beginning with a slash.
    pub base_path: String,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self { host: String::new(), http: Port::Off, https: Port::Off, base_path: "/".into() }
    }
}

/// What a client, or all clients together, may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOptions {
    /// `max_connections`, 65536; -1 when configured as 0 or less: none is let in.
    pub connections_max: i64,
    /// `max_subscriptions` of a connection; 0 means no limit.
    pub subscriptions_max: u64,
    /// `max_sub_tokens` of a subscribed subject; 0 means no limit.
    pub subject_tokens_max: u8,
    /// `max_control_line` in bytes, 4096.
    pub control_line_bytes_max: u32,
    /// `max_payload` in bytes, 1 MiB.
    pub payload_bytes_max: u32,
    /// `max_pending` in bytes, 64 MiB.
    pub pending_bytes_max: u64,
    /// `max_closed_clients` remembered, 10000.
    pub closed_clients_max: u64,
    /// `ping_interval`, 2 minutes.
    pub ping_interval: Duration,
    /// `ping_max`, 2.
    pub pings_out_max: u32,
    /// `write_deadline`, 10 seconds.
    pub write_deadline: Duration,
    /// `write_timeout`
    pub write_timeout: WriteTimeout,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            subscriptions_max: 0,
            subject_tokens_max: 0,
            control_line_bytes_max: 4096,
            payload_bytes_max: 1024 * 1024,
            pending_bytes_max: 64 * 1024 * 1024,
            closed_clients_max: 10_000,
            ping_interval: Duration::from_secs(120),
            pings_out_max: 2,
            write_deadline: Duration::from_secs(10),
            write_timeout: WriteTimeout::Default,
        }
    }
}

/// What happens when the write deadline passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteTimeout {
    /// Close clients, retry other servers.
    #[default]
    Default,
    /// Close the connection.
    Close,
    /// Try again.
    Retry,
}

/// Login.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthOptions {
    /// `authorization { user }`: the single user; empty when not set.
    pub user: String,
    /// `authorization { pass }`: plain, or a bcrypt hash.
    pub password: Secret,
    /// `authorization { token }`: plain, or a bcrypt hash.
    pub token: Secret,
    /// `authorization { timeout }`; see [`Options::auth_timeout`].
    pub timeout: Option<Duration>,
    /// `authorization { default_permissions }`; already given to the users that had none. A
    /// single user and a token are not limited by it, as in nats-server.
    pub default_permissions: Option<Permissions>,
    /// `authorization { proxy_required }`
    pub proxy_required: bool,
    /// All users, of the `authorization` block and of the accounts, names unique.
    pub users: Vec<UserOptions>,
    /// `no_auth_user`: who a client is that gives no credentials; empty when not set.
    pub no_auth_user: String,
}

/// A user that may log in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserOptions {
    /// The name, or the public key for an nkey user.
    pub name: String,
    /// The password, plain or as a bcrypt hash; empty for an nkey user.
    pub password: Secret,
    /// Whether `name` is a public key that the user must prove to hold.
    pub is_nkey: bool,
    /// The account, `$G` when the user is in the `authorization` block.
    pub account: String,
    /// What the user may do; everything when not set.
    pub permissions: Option<Permissions>,
    /// `allowed_connection_types`; any when empty.
    pub connection_types: Vec<ConnectionType>,
    /// `proxy_required`
    pub proxy_required: bool,
}

/// How a client can be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ConnectionType {
    Standard,
    Websocket,
    Leafnode,
    LeafnodeWs,
    Mqtt,
    MqttWs,
    InProcess,
}

/// What a user may publish and subscribe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// `publish`; everything when not set.
    pub publish: Option<SubjectRules>,
    /// `subscribe`; everything when not set.
    pub subscribe: Option<SubjectRules>,
    /// `allow_responses`
    pub responses: Option<ResponseRule>,
}

/// Subjects that are allowed and denied; what is denied wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectRules {
    /// `allow`; everything when not set, nothing when empty.
    pub allow: Option<Vec<SubjectRule>>,
    /// `deny`
    pub deny: Vec<SubjectRule>,
}

/// A subject, wildcards allowed, and in `subscribe` perhaps the queue it is limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectRule {
    /// The subject.
    pub subject: String,
    /// The queue group, wildcards allowed.
    pub queue: Option<String>,
}

/// `allow_responses`: publishing to the reply subjects of received messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseRule {
    /// Responses to one message; no limit when not set.
    pub responses_max: Option<u64>,
    /// How long after it; no limit when not set.
    pub expires: Option<Duration>,
}

impl Default for ResponseRule {
    fn default() -> Self {
        Self { responses_max: Some(1), expires: Some(Duration::from_secs(120)) }
    }
}

/// One of `accounts`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountOptions {
    /// The name.
    pub name: String,
    /// `nkey`: the public key that goes with the name.
    pub nkey: Option<String>,
    /// `default_permissions`; already given to the users that had none.
    pub default_permissions: Option<Permissions>,
    /// `limits`
    pub limits: AccountLimits,
    /// `exports`
    pub exports: Vec<super::exchange::Export>,
    /// `imports`
    pub imports: Vec<super::exchange::Import>,
    /// `mappings`: source subject to destinations, in the order of the file.
    pub mappings: Vec<(String, Vec<super::exchange::MapDestination>)>,
    /// `jetstream`
    pub jetstream: Option<AccountJetStream>,
    /// `msg_trace`
    pub msg_trace: Option<super::exchange::MsgTrace>,
}

/// `limits` of an account; no limit when not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// `max_connections`
    pub connections_max: Option<u32>,
    /// `max_subscriptions`
    pub subscriptions_max: Option<u32>,
    /// `max_payload` in bytes
    pub payload_bytes_max: Option<u32>,
    /// `max_leafnodes`
    pub leafnodes_max: Option<u32>,
}

/// `jetstream` of an account; -1 means no limit of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountJetStream {
    /// `max_memory` in bytes
    pub memory_bytes_max: i64,
    /// `max_file` in bytes
    pub file_bytes_max: i64,
    /// `max_streams`
    pub streams_max: i64,
    /// `max_consumers`
    pub consumers_max: i64,
    /// `max_bytes_required`
    pub max_bytes_required: bool,
    /// `mem_max_stream_bytes`
    pub memory_stream_bytes_max: i64,
    /// `disk_max_stream_bytes`
    pub file_stream_bytes_max: i64,
    /// `max_ack_pending`
    pub ack_pending_max: i64,
    /// `cluster_traffic: owner` rather than `system`
    pub owner_traffic: bool,
}

impl Default for AccountJetStream {
    fn default() -> Self {
        Self {
            memory_bytes_max: -1,
            file_bytes_max: -1,
            streams_max: -1,
            consumers_max: -1,
            max_bytes_required: false,
            memory_stream_bytes_max: -1,
            file_stream_bytes_max: -1,
            ack_pending_max: -1,
            owner_traffic: false,
        }
    }
}
