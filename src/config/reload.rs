//! Reload: what changed between two sets of options, or the first thing that can not change while
//! the server runs. Nothing is applied when there is such a thing.
//!
//! Names of fields and the texts of the log are nats-server's, whose order of fields is kept too.

use std::time::Duration;

use super::duration::go_duration;
use super::options::{
    AccountOptions, AuthOptions, LimitOptions, LogOptions, Options, Port, WriteTimeout,
};
use super::options_trust::{HandshakeFirst, TlsOptions};

/// A change that the running server can take over.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Change {
    ClientAdvertise(String),
    Trace(bool),
    Debug(bool),
    TraceVerbose(bool),
    TraceHeaders(bool),
    Logtime(bool),
    LogtimeUtc(bool),
    MaxConnections(i64),
    /// The nkey users; clients of users that changed are to be closed.
    NkeyUsers,
    /// The users, which are always looked at again, as in nats-server.
    Users,
    /// The accounts, which are always looked at again too.
    Accounts,
    NoAuthUser(String),
    Username,
    Password,
    Token,
    AuthTimeout(Duration),
    PingInterval(Duration),
    PingMax(u32),
    MaxControlLine(u32),
    MaxPayload(u32),
    NoFastProducerStall(bool),
    Cluster,
    Routes,
    JetStream(bool),
    JetStreamMemory(i64),
    JetStreamFile(i64),
    ProfBlockRate(i64),
    PidFile(String),
    PortsFileDir(String),
    LogFile(String),
    Syslog(bool),
    RemoteSyslog(String),
    /// The certificates and everything else about TLS but what follows; also when only what the
    /// files hold has changed.
    Tls(bool),
    TlsTimeout(Duration),
    TlsPinnedCerts(usize),
    TlsHandshakeFirst(bool),
    TlsHandshakeFallback(Duration),
    WriteDeadline(Duration),
    MaxTracedMsgLen(u64),
    ConnectErrorReports(i64),
    ReconnectErrorReports(i64),
    Tags,
    Metadata,
    Ocsp,
    Proxies,
}

impl Change {
    /// The line for the log when the change is applied.
    pub fn log_line(&self) -> String {
        let (name, value) = match self {
            Self::ClientAdvertise(v) => return format!("Reload: client_advertise = {v}"),
            Self::NoFastProducerStall(on) => {
                let not = if *on { "not " } else { "" };
                return format!("Reloaded: fast producers will {not}be stalled");
            }
            Self::TlsPinnedCerts(count) => return format!("Reloaded: {count} pinned_certs"),
            Self::TlsHandshakeFirst(on) => {
                return format!("Reloaded: Client TLS handshake first: {on}");
            }
            Self::TlsHandshakeFallback(delay) => {
                let delay = go_duration(*delay);
                return format!("Reloaded: Client TLS handshake first fallback delay: {delay}");
            }
            Self::Trace(v) => ("trace", v.to_string()),
            Self::Debug(v) => ("debug", v.to_string()),
            Self::TraceVerbose(v) => ("trace_verbose", v.to_string()),
            Self::TraceHeaders(v) => ("trace_headers", v.to_string()),
            Self::Logtime(v) => ("logtime", v.to_string()),
            Self::LogtimeUtc(v) => ("logtime_utc", v.to_string()),
            Self::MaxConnections(v) => ("max_connections", v.to_string()),
            Self::NoAuthUser(v) => ("no_auth_user", v.clone()),
            Self::AuthTimeout(v) => ("authorization timeout", v.as_secs_f64().to_string()),
            Self::PingInterval(v) => ("ping_interval", go_duration(*v)),
            Self::PingMax(v) => ("ping_max", v.to_string()),
            Self::MaxControlLine(v) => ("max_control_line", v.to_string()),
            Self::MaxPayload(v) => ("max_payload", v.to_string()),
            Self::ProfBlockRate(v) => ("prof_block_rate", v.to_string()),
            Self::JetStreamMemory(v) => ("JetStream max_mem_store", v.to_string()),
            Self::JetStreamFile(v) => ("JetStream max_file_store", v.to_string()),
            Self::PidFile(v) => ("pid_file", v.clone()),
            Self::PortsFileDir(v) => ("ports_file_dir", v.clone()),
            Self::LogFile(v) => ("log_file", v.clone()),
            Self::Syslog(v) => ("syslog", v.to_string()),
            Self::RemoteSyslog(v) => ("remote_syslog", v.clone()),
            Self::Tls(on) => ("tls", if *on { "enabled" } else { "disabled" }.to_string()),
            Self::TlsTimeout(v) => ("tls timeout", v.as_secs_f64().to_string()),
            Self::WriteDeadline(v) => ("write_deadline", go_duration(*v)),
            Self::MaxTracedMsgLen(v) => ("max_traced_msg_len", v.to_string()),
            Self::ConnectErrorReports(v) => ("connect_error_reports", v.to_string()),
            Self::ReconnectErrorReports(v) => ("reconnect_error_reports", v.to_string()),
            other => return format!("Reloaded: {}", other.bare_name()),
        };
        format!("Reloaded: {name} = {value}")
    }

    /// The name of a change whose value is not shown.
    fn bare_name(&self) -> &'static str {
        match self {
            Self::NkeyUsers => "authorization nkey users",
            Self::Users => "authorization users",
            Self::Accounts => "accounts",
            Self::Username => "authorization username",
            Self::Password => "authorization password",
            Self::Token => "authorization token",
            Self::Cluster => "cluster",
            Self::Routes => "cluster routes",
            Self::JetStream(_) => "JetStream",
            Self::Tags => "tags",
            Self::Metadata => "metadata",
            Self::Ocsp => "OCSP",
            Self::Proxies => "proxies trusted keys",
            _ => "",
        }
    }
}

/// What the running server has to take over to go from `old` to `new`, in the order in which
/// nats-server logs it. `old` should hold the port that was really opened.
///
/// # Errors
/// The first field that can not change, as nats-server words it. Nothing must be applied then.
pub fn diff(old: &Options, new: &Options) -> Result<Vec<Change>, String> {
    let mut d = Diff { changes: Vec::new(), refusal: None };
    d.identity(old, new);
    d.log_flags(&old.log, &new.log);
    d.clients(old, new);
    d.login(old, new);
    d.limits(&old.limits, &new.limits);
    d.cluster(old, new);
    d.peers(old, new);
    d.jetstream(old, new);
    d.files(old, new);
    d.tls(old, new);
    d.rest(old, new);
    match d.refusal {
        Some(refusal) => Err(refusal),
        None => Ok(d.changes),
    }
}

/// Collects changes and the first refusal.
struct Diff {
    changes: Vec<Change>,
    refusal: Option<String>,
}

/// What a field that was never set prints as.
fn unset(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

impl Diff {
    /// A field that can change.
    fn change<T: PartialEq>(&mut self, old: &T, new: &T, change: Change) {
        if old != new {
            self.changes.push(change);
        }
    }

    /// A field that can not change.
    fn fixed<T: PartialEq + std::fmt::Display>(&mut self, field: &str, old: &T, new: &T) {
        if old != new {
            self.refuse(field, old, new);
        }
    }

    fn refuse(&mut self, field: &str, old: impl std::fmt::Display, new: impl std::fmt::Display) {
        self.refuse_with(format!("config reload not supported for {field}: old={old}, new={new}"));
    }

    fn refuse_with(&mut self, text: String) {
        self.refusal.get_or_insert(text);
    }

    fn identity(&mut self, old: &Options, new: &Options) {
        self.fixed("ServerName", &old.server_name, &new.server_name);
        self.fixed("Host", &old.listen.host, &new.listen.host);
        if new.listen.port != Port::Random {
            self.fixed("Port", &old.listen.port, &new.listen.port);
        }
        let advertise = Change::ClientAdvertise(new.client_advertise.clone());
        self.change(&old.client_advertise, &new.client_advertise, advertise);
    }

    fn log_flags(&mut self, old: &LogOptions, new: &LogOptions) {
        self.change(&old.trace, &new.trace, Change::Trace(new.trace));
        self.change(&old.debug, &new.debug, Change::Debug(new.debug));
        let verbose = Change::TraceVerbose(new.trace_verbose);
        self.change(&old.trace_verbose, &new.trace_verbose, verbose);
        let headers = Change::TraceHeaders(new.trace_headers);
        self.change(&old.trace_headers, &new.trace_headers, headers);
    }

    fn clients(&mut self, old: &Options, new: &Options) {
        self.fixed("NoSublistCache", &old.no_sublist_cache, &new.no_sublist_cache);
        self.fixed("NoHeaderSupport", &old.no_header_support, &new.no_header_support);
        self.change(&old.log.time, &new.log.time, Change::Logtime(new.log.time));
        self.change(&old.log.time_utc, &new.log.time_utc, Change::LogtimeUtc(new.log.time_utc));
        let (was, now) = (&old.limits, &new.limits);
        let connections = Change::MaxConnections(now.connections_max);
        self.change(&was.connections_max, &now.connections_max, connections);
        self.fixed("MaxSubs", &was.subscriptions_max, &now.subscriptions_max);
        self.fixed("MaxSubTokens", &was.subject_tokens_max, &now.subject_tokens_max);
    }

    fn login(&mut self, old: &Options, new: &Options) {
        let (was, now) = (&old.auth, &new.auth);
        let nkeys = |auth: &AuthOptions| {
            auth.users.iter().filter(|user| user.is_nkey).cloned().collect::<Vec<_>>()
        };
        self.change(&nkeys(was), &nkeys(now), Change::NkeyUsers);
        self.changes.push(Change::Users);
        self.changes.push(Change::Accounts);
        if was.no_auth_user != now.no_auth_user {
            // It may only be taken away, and only together with the user.
            let old_user_stays = now.users.iter().any(|user| user.name == was.no_auth_user);
            if !now.no_auth_user.is_empty() || old_user_stays {
                self.refuse("NoAuthUser", &was.no_auth_user, &now.no_auth_user);
            }
            self.changes.push(Change::NoAuthUser(now.no_auth_user.clone()));
        }
        if old.system_account != new.system_account {
            let was_default = old.system_account == "$SYS" && new.system_account.is_empty();
            if !was_default {
                self.refuse("SystemAccount", &old.system_account, &new.system_account);
            }
        }
        self.fixed("NoSystemAccount", &old.no_system_account, &new.no_system_account);
        self.change(&was.user, &now.user, Change::Username);
        self.change(&was.password, &now.password, Change::Password);
        self.fixed("ProxyRequired", &was.proxy_required, &now.proxy_required);
        self.fixed("ProxyProtocol", &old.proxy_protocol, &new.proxy_protocol);
        self.change(&was.token, &now.token, Change::Token);
        let timeout = (old.auth_timeout(), new.auth_timeout());
        self.pings(&old.limits, &new.limits);
        self.monitoring(old, new);
        self.change(&timeout.0, &timeout.1, Change::AuthTimeout(timeout.1));
    }

    fn pings(&mut self, old: &LimitOptions, new: &LimitOptions) {
        let interval = Change::PingInterval(new.ping_interval);
        self.change(&old.ping_interval, &new.ping_interval, interval);
        self.change(&old.pings_out_max, &new.pings_out_max, Change::PingMax(new.pings_out_max));
    }

    fn monitoring(&mut self, old: &Options, new: &Options) {
        let host = |o: &Options| {
            let own = &o.monitor.host;
            if own.is_empty() { o.listen.host.clone() } else { own.clone() }
        };
        self.fixed("HTTPHost", &host(old), &host(new));
        let (was, now) = (&old.monitor, &new.monitor);
        self.fixed("HTTPPort", &was.http, &now.http);
        let path = |path: &str| {
            if path == "/" { String::new() } else { path.to_string() }
        };
        self.fixed("HTTPBasePath", &path(&was.base_path), &path(&now.base_path));
        self.fixed("HTTPSPort", &was.https, &now.https);
    }

    fn limits(&mut self, old: &LimitOptions, new: &LimitOptions) {
        let line = Change::MaxControlLine(new.control_line_bytes_max);
        self.change(&old.control_line_bytes_max, &new.control_line_bytes_max, line);
        let payload = Change::MaxPayload(new.payload_bytes_max);
        self.change(&old.payload_bytes_max, &new.payload_bytes_max, payload);
        self.fixed("MaxPending", &old.pending_bytes_max, &new.pending_bytes_max);
    }

    fn cluster(&mut self, old: &Options, new: &Options) {
        let stall = Change::NoFastProducerStall(new.no_fast_producer_stall);
        self.change(&old.no_fast_producer_stall, &new.no_fast_producer_stall, stall);
        let (mut was, mut now) = (old.cluster.clone(), new.cluster.clone());
        self.fixed("cluster host", &was.listen.host, &now.listen.host);
        self.fixed("cluster port", &was.listen.port, &now.listen.port);
        self.fixed("cluster name", &was.name, &now.name);
        let routes = (std::mem::take(&mut was.routes), std::mem::take(&mut now.routes));
        self.change(&was, &now, Change::Cluster);
        self.change(&routes.0, &routes.1, Change::Routes);
    }

    /// Blocks of which only the TLS part can change.
    fn peers(&mut self, old: &Options, new: &Options) {
        let mut was = old.gateway.clone();
        was.tls.clone_from(&new.gateway.tls);
        if was != new.gateway {
            self.refuse("Gateway", &old.gateway.name, &new.gateway.name);
        }
        let (mut was, now) = (old.leafnodes.clone(), &new.leafnodes);
        was.tls.clone_from(&now.tls);
        was.remotes.clone_from(&now.remotes);
        was.compression.clone_from(&now.compression);
        if was != *now {
            self.refuse("LeafNode", was.listen.port, now.listen.port);
        }
        let (mut was, now) = (old.websocket.clone(), &new.websocket);
        was.tls.clone_from(&now.tls);
        if was != *now {
            self.refuse("Websocket", was.listen.port, now.listen.port);
        }
        let (mut was, now) = (old.mqtt.clone(), &new.mqtt);
        was.tls.clone_from(&now.tls);
        was.ack_wait = now.ack_wait;
        was.ack_pending_max = now.ack_pending_max;
        was.stream_replicas = now.stream_replicas;
        was.consumer_memory_storage = now.consumer_memory_storage;
        was.consumer_inactive_threshold = now.consumer_inactive_threshold;
        if was != *now {
            self.refuse("MQTT", was.listen.port, now.listen.port);
        }
    }

    fn jetstream(&mut self, old: &Options, new: &Options) {
        let (was, now) = (&old.jetstream, &new.jetstream);
        self.change(&was.enabled, &now.enabled, Change::JetStream(now.enabled));
        if was.enabled && now.enabled {
            let memory = Change::JetStreamMemory(now.memory_bytes_max);
            self.store_limit(was.memory_bytes_max, now.memory_bytes_max, memory);
            let file = Change::JetStreamFile(now.file_bytes_max);
            self.store_limit(was.file_bytes_max, now.file_bytes_max, file);
            if was.store_dir != now.store_dir {
                let text = "config reload not supported for jetstream storage directory";
                self.refuse_with(text.to_string());
            }
        }
        self.fixed("JetStreamDomain", &was.domain, &now.domain);
        self.fixed("JetStreamExtHint", &was.extension_hint, &now.extension_hint);
        if was.key != now.key {
            self.refuse("JetStreamKey", &was.key, &now.key);
        }
        if was.prev_key != now.prev_key {
            self.refuse("JetStreamOldKey", &was.prev_key, &now.prev_key);
        }
        self.fixed("JetStreamUniqueTag", &was.unique_tag, &now.unique_tag);
        self.fixed("JetStreamMaxCatchup", &was.catchup_bytes_max, &now.catchup_bytes_max);
        let (old_queue, new_queue) = (was.request_queue_max, now.request_queue_max);
        self.fixed("JetStreamRequestQueueLimit", &old_queue, &new_queue);
        self.fixed("JetStreamInfoQueueLimit", &was.info_queue_max, &now.info_queue_max);
        let (old_ios, new_ios) = (was.concurrent_io_max, now.concurrent_io_max);
        self.fixed("JetStreamConcurrentIOs", &old_ios, &new_ios);
        self.fixed("JetStreamReservedFiles", &was.files_reserved, &now.files_reserved);
        self.fixed("StreamMaxBufferedMsgs", &was.buffered_msgs_max, &now.buffered_msgs_max);
        self.fixed("StreamMaxBufferedSize", &was.buffered_bytes_max, &now.buffered_bytes_max);
        let (old_sync, new_sync) = (was.sync_interval, now.sync_interval);
        self.fixed("SyncInterval", &go_duration(old_sync), &go_duration(new_sync));
        self.fixed("SyncAlways", &was.sync_always, &now.sync_always);
        if (&was.limits, &was.tpm, was.cipher) != (&now.limits, &now.tpm, now.cipher) {
            self.refuse("JetStreamLimits", "...", "...");
        }
    }

    /// A limit of the store may only grow, and not from or to what the machine has.
    fn store_limit(&mut self, old: i64, new: i64, change: Change) {
        let reason = match (old, new) {
            _ if old == new => return,
            (-1, _) => "jetstream dynamic max memory and store",
            (_, -1) => "jetstream max memory and max store",
            _ if new < old => "decreasing jetstream max memory and store",
            _ => {
                self.changes.push(change);
                return;
            }
        };
        self.refuse_with(format!("config reload not supported for {reason}"));
    }

    fn files(&mut self, old: &Options, new: &Options) {
        self.fixed("ProfPort", &old.profile_port, &new.profile_port);
        let rate = Change::ProfBlockRate(new.profile_block_rate);
        self.change(&old.profile_block_rate, &new.profile_block_rate, rate);
        self.change(&old.pid_file, &new.pid_file, Change::PidFile(unset(&new.pid_file)));
        let ports = Change::PortsFileDir(unset(&new.ports_file_dir));
        self.change(&old.ports_file_dir, &new.ports_file_dir, ports);
        let (was, now) = (&old.log, &new.log);
        self.change(&was.file, &now.file, Change::LogFile(unset(&now.file)));
        self.fixed("LogSizeLimit", &was.file_bytes_max, &now.file_bytes_max);
        self.fixed("LogMaxFiles", &was.files_max, &now.files_max);
        self.change(&was.syslog, &now.syslog, Change::Syslog(now.syslog));
        let remote = Change::RemoteSyslog(unset(&now.remote_syslog));
        self.change(&was.remote_syslog, &now.remote_syslog, remote);
    }

    fn tls(&mut self, old: &Options, new: &Options) {
        let default = TlsOptions::default();
        let (was, now) =
            (old.tls.as_ref().unwrap_or(&default), new.tls.as_ref().unwrap_or(&default));
        self.change(&was.timeout, &now.timeout, Change::TlsTimeout(now.timeout));
        self.fixed("TLSMap", &was.verify_and_map, &now.verify_and_map);
        let rest = |tls: &Option<TlsOptions>| {
            tls.clone().map(|tls| TlsOptions {
                timeout: Duration::ZERO,
                verify_and_map: false,
                pinned_certs: Vec::new(),
                rate_max: 0,
                handshake_first: HandshakeFirst::No,
                ..tls
            })
        };
        self.change(&rest(&old.tls), &rest(&new.tls), Change::Tls(new.tls.is_some()));
        let pinned = Change::TlsPinnedCerts(now.pinned_certs.len());
        self.change(&was.pinned_certs, &now.pinned_certs, pinned);
        self.fixed("TLSRateLimit", &was.rate_max, &now.rate_max);
        let split = |first: HandshakeFirst| match first {
            HandshakeFirst::No => (false, Duration::ZERO),
            HandshakeFirst::Yes => (true, Duration::ZERO),
            HandshakeFirst::Within(delay) => (true, delay),
        };
        let (was, now) = (split(was.handshake_first), split(now.handshake_first));
        self.change(&was.0, &now.0, Change::TlsHandshakeFirst(now.0));
        self.change(&was.1, &now.1, Change::TlsHandshakeFallback(now.1));
        self.fixed("AllowNonTLS", &old.allow_non_tls, &new.allow_non_tls);
    }

    fn rest(&mut self, old: &Options, new: &Options) {
        let (was, now) = (&old.limits, &new.limits);
        let deadline = Change::WriteDeadline(now.write_deadline);
        self.change(&was.write_deadline, &now.write_deadline, deadline);
        let policy = |timeout: WriteTimeout| match timeout {
            WriteTimeout::Default => "",
            WriteTimeout::Close => "close",
            WriteTimeout::Retry => "retry",
        };
        self.fixed("WriteTimeout", &policy(was.write_timeout), &policy(now.write_timeout));
        self.fixed("MaxClosedClients", &was.closed_clients_max, &now.closed_clients_max);
        let ducks = (go_duration(old.lame_duck_duration), go_duration(new.lame_duck_duration));
        self.fixed("LameDuckDuration", &ducks.0, &ducks.1);
        let graces =
            (go_duration(old.lame_duck_grace_period), go_duration(new.lame_duck_grace_period));
        self.fixed("LameDuckGracePeriod", &graces.0, &graces.1);
        let traced = Change::MaxTracedMsgLen(new.log.traced_bytes_max);
        self.change(&old.log.traced_bytes_max, &new.log.traced_bytes_max, traced);
        if old.trust != new.trust {
            self.refuse("TrustedOperators", "...", "...");
        }
        let connects = Change::ConnectErrorReports(new.connect_error_reports);
        self.change(&old.connect_error_reports, &new.connect_error_reports, connects);
        let reconnects = Change::ReconnectErrorReports(new.reconnect_error_reports);
        self.change(&old.reconnect_error_reports, &new.reconnect_error_reports, reconnects);
        self.change(&old.server_tags, &new.server_tags, Change::Tags);
        self.change(&old.server_metadata, &new.server_metadata, Change::Metadata);
        if old.feature_flags != new.feature_flags {
            let shown = |o: &Options| {
                let flags: Vec<String> =
                    o.feature_flags.iter().map(|(name, on)| format!("{name}:{on}")).collect();
                format!("map[{}]", flags.join(" "))
            };
            self.refuse("FeatureFlags", shown(old), shown(new));
        }
        self.change(&old.ocsp, &new.ocsp, Change::Ocsp);
        self.change(&old.trusted_proxies, &new.trusted_proxies, Change::Proxies);
        if old.default_js_domain != new.default_js_domain {
            self.refuse("JsAccDefaultDomain", "...", "...");
        }
        if old.shards != new.shards {
            self.refuse_with(
                "config reload not supported for Shards: a change of shards needs a restart"
                    .to_string(),
            );
        }
    }
}

/// The accounts that were removed, whose clients are to be closed.
pub fn removed_accounts<'o>(old: &'o Options, new: &Options) -> Vec<&'o AccountOptions> {
    let stays = |account: &&AccountOptions| new.accounts.iter().any(|a| a.name == account.name);
    old.accounts.iter().filter(|account| !stays(account)).collect()
}
