//! From configured options to what the shards, TLS and the log take. Pure, so that a reload and a
//! start cannot differ.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::auth::{self, AuthSettings, AuthTable, ConnectionKind, Credential};
use broker::settings as shard_settings;
use broker::settings::{HoldSettings, Identity, Limits, Settings, TlsAnnouncement};
use reactor::SpinMode;
use reactor::tls::{HandshakeFirst, IdentityFiles, TlsSettings, TlsVersion};

use crate::cli::{self, Flags};
use crate::config as options;
use crate::config::FlagOverrides;
use crate::config::Secret;
use crate::config::Spin;
use crate::config::{ConnectionType, Options, Permissions, SubjectRule};
use crate::logging::{LogLevels, LogSettings, LogTarget, LogTime};

/// The version of NATS whose behaviour is served; clients switch features on by it.
pub const NATS_VERSION: &str = "2.15.1";

/// The accounts of the process by name; an account keeps its place, which is its id on every
/// shard, and its count of connections, for as long as the process lives.
#[derive(Debug)]
pub struct AccountRegistry(Vec<shard_settings::AccountSettings>);

impl Default for AccountRegistry {
    fn default() -> Self {
        Self(vec![shard_settings::AccountSettings::new(auth::GLOBAL_ACCOUNT)])
    }
}

impl AccountRegistry {
    /// The accounts under these options, old ones included.
    fn update(&mut self, options: &Options) -> Vec<shard_settings::AccountSettings> {
        for entry in &mut self.0 {
            *entry = shard_settings::AccountSettings {
                connections: Arc::clone(&entry.connections),
                ..shard_settings::AccountSettings::new(&entry.name)
            };
        }
        if let Some(system) = options.system_account_name() {
            self.entry(system).is_system = true;
        }
        for account in &options.accounts {
            let limit = |max: Option<u32>| max.map(|max| max as usize);
            let entry = self.entry(&account.name);
            entry.max_connections = limit(account.limits.connections_max);
            entry.max_subscriptions = limit(account.limits.subscriptions_max);
            entry.max_payload = limit(account.limits.payload_bytes_max);
        }
        self.0.clone()
    }

    fn entry(&mut self, name: &str) -> &mut shard_settings::AccountSettings {
        let at = self.0.iter().position(|entry| entry.name == name).unwrap_or(self.0.len());
        if at == self.0.len() {
            self.0.push(shard_settings::AccountSettings::new(name));
        }
        &mut self.0[at]
    }
}

/// What the shards obey.
///
/// # Errors
/// The first user or permission that cannot be used.
pub fn shard_settings(
    options: &Options,
    identity: Identity,
    accounts: &mut AccountRegistry,
) -> Result<Settings, String> {
    let limits = limits(options);
    let auth = auth_settings(options);
    let table = AuthTable::new(&auth).map_err(|error| error.to_string())?;
    let hold = HoldSettings {
        enabled: !options.no_fast_producer_stall,
        ..HoldSettings::for_pending(limits.max_pending_bytes)
    };
    let tls = options.tls.as_ref();
    Ok(Settings {
        identity,
        hold,
        limits,
        auth,
        auth_table: Arc::new(table),
        accounts: {
            let mut accounts = accounts.update(options);
            crate::shares::set_shares(options, &mut accounts);
            crate::streams::mark_accounts(options, &mut accounts);
            accounts
        },
        tls: TlsAnnouncement {
            required: tls.is_some() && !options.allow_non_tls,
            verify: tls.is_some_and(|tls| tls.verify || tls.verify_and_map),
            available: tls.is_some() && options.allow_non_tls,
        },
        jetstream_domain: options.jetstream.domain.clone(),
        headers: !options.no_header_support,
        trace: options.log.trace,
        ..Settings::default()
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn limits(options: &Options) -> Limits {
    let limits = &options.limits;
    Limits {
        max_payload: limits.payload_bytes_max as usize,
        max_pending_bytes: usize::try_from(limits.pending_bytes_max).unwrap_or(usize::MAX),
        max_control_line: limits.control_line_bytes_max as usize,
        max_connections: usize::try_from(limits.connections_max).ok(),
        max_subscriptions: match limits.subscriptions_max {
            0 => None,
            max => usize::try_from(max).ok(),
        },
        max_sub_tokens: usize::from(limits.subject_tokens_max),
        ping_interval_ns: nanos(limits.ping_interval),
        ping_max: limits.pings_out_max,
        write_deadline_ns: nanos(limits.write_deadline),
        auth_timeout_ns: nanos(options.auth_timeout()),
        closed_connections_max: usize::try_from(limits.closed_clients_max).unwrap_or(usize::MAX),
        ..Limits::default()
    }
}

fn filled(secret: &Secret) -> Option<wire::secret::Secret> {
    (!secret.is_empty()).then(|| secret.expose().into())
}

fn auth_settings(options: &Options) -> AuthSettings {
    let auth = &options.auth;
    let of_account = |name: &str| -> Vec<auth::UserSettings> {
        auth.users.iter().filter(|user| user.account == name).map(user_settings).collect()
    };
    let optional = |text: &String| (!text.is_empty()).then(|| text.clone());
    let users = of_account(auth::GLOBAL_ACCOUNT);
    AuthSettings {
        authorization_present: auth.timeout.is_some() || auth.default_permissions.is_some(),
        user: optional(&auth.user),
        password: filled(&auth.password),
        token: filled(&auth.token),
        users,
        default_permissions: auth.default_permissions.as_ref().map(permission_settings),
        accounts: options
            .accounts
            .iter()
            .map(|account| auth::AccountSettings {
                name: account.name.clone(),
                users: of_account(&account.name),
                default_permissions: account.default_permissions.as_ref().map(permission_settings),
            })
            .collect(),
        system_account: options.system_account_name().map(str::to_owned),
        no_auth_user: optional(&auth.no_auth_user),
        timeout_ns: Some(nanos(options.auth_timeout())),
    }
}

fn user_settings(user: &options::UserOptions) -> auth::UserSettings {
    let credential = if user.is_nkey {
        Credential::Nkey(user.name.clone())
    } else {
        Credential::Password { user: user.name.clone(), password: user.password.expose().into() }
    };
    auth::UserSettings {
        credential,
        permissions: user.permissions.as_ref().map(permission_settings),
        connection_kinds: user.connection_types.iter().map(|kind| connection_kind(*kind)).collect(),
    }
}

fn connection_kind(kind: ConnectionType) -> ConnectionKind {
    match kind {
        ConnectionType::Standard => ConnectionKind::Standard,
        ConnectionType::Websocket => ConnectionKind::Websocket,
        ConnectionType::Leafnode => ConnectionKind::Leafnode,
        ConnectionType::LeafnodeWs => ConnectionKind::LeafnodeWs,
        ConnectionType::Mqtt => ConnectionKind::Mqtt,
        ConnectionType::MqttWs => ConnectionKind::MqttWs,
        ConnectionType::InProcess => ConnectionKind::InProcess,
    }
}

fn permission_settings(permissions: &Permissions) -> auth::PermissionSettings {
    let entry = |rule: &SubjectRule| match &rule.queue {
        Some(queue) => format!("{} {queue}", rule.subject),
        None => rule.subject.clone(),
    };
    let rules = |rules: &Option<options::SubjectRules>| {
        rules.as_ref().map_or_else(auth::RuleSettings::default, |rules| auth::RuleSettings {
            allow: rules.allow.as_ref().map(|list| list.iter().map(entry).collect()),
            deny: rules.deny.iter().map(entry).collect(),
        })
    };
    auth::PermissionSettings {
        publish: rules(&permissions.publish),
        subscribe: rules(&permissions.subscribe),
        allow_responses: permissions.responses.as_ref().map(|rule| auth::ResponseSettings {
            max: rule.responses_max.map_or(0, |max| i64::try_from(max).unwrap_or(i64::MAX)),
            expires_ns: rule.expires.map_or(0, nanos),
        }),
    }
}

/// The client listener's TLS; `None` without a `tls` block.
#[must_use]
pub fn tls_settings(options: &Options) -> Option<TlsSettings> {
    let tls = options.tls.as_ref()?;
    let path = |file: &Option<String>| file.as_ref().map(PathBuf::from);
    let certs = tls.certs.iter().map(|pair| IdentityFiles {
        cert_file: PathBuf::from(&pair.cert_file),
        key_file: PathBuf::from(&pair.key_file),
    });
    Some(TlsSettings {
        cert_file: path(&tls.cert_file),
        key_file: path(&tls.key_file),
        ca_file: path(&tls.ca_file),
        certs: certs.collect(),
        verify: tls.verify,
        verify_and_map: tls.verify_and_map,
        min_version: match tls.min_version {
            options::TlsVersion::V12 => TlsVersion::V1_2,
            options::TlsVersion::V13 => TlsVersion::V1_3,
        },
        cipher_suites: tls.cipher_suites.clone(),
        curve_preferences: tls.curve_preferences.clone(),
        insecure: tls.insecure,
        timeout_ns: nanos(tls.timeout),
        handshake_first: match tls.handshake_first {
            options::HandshakeFirst::No => HandshakeFirst::Off,
            options::HandshakeFirst::Yes => HandshakeFirst::On,
            options::HandshakeFirst::Within(delay) => {
                HandshakeFirst::Auto { delay_ns: nanos(delay) }
            }
        },
        allow_non_tls: options.allow_non_tls,
        pinned_certs: tls.pinned_certs.clone(),
        connection_rate_limit: tls.rate_max,
    })
}

/// Where log lines go and which there are.
#[must_use]
pub fn log_settings(options: &Options) -> LogSettings {
    let log = &options.log;
    let file = log.file.as_ref().map(PathBuf::from);
    LogSettings {
        target: LogTarget::choose(
            file.as_deref(),
            log.file_bytes_max,
            usize::try_from(log.files_max).unwrap_or(usize::MAX),
            log.remote_syslog.as_deref(),
            log.syslog,
        ),
        time: LogTime::from_options(log.time, log.time_utc),
        levels: LogLevels { debug: log.debug, trace: log.trace || log.trace_verbose },
        ..LogSettings::default()
    }
}

/// How shards wait.
#[must_use]
pub fn spin_mode(options: &Options) -> SpinMode {
    let shards = &options.shards;
    match shards.spin {
        Spin::Off => SpinMode::Off,
        Spin::Adaptive => SpinMode::Adaptive { max_ns: nanos(shards.spin_max) },
        Spin::Always => SpinMode::Always,
        Spin::For(time) => SpinMode::Fixed { ns: nanos(time) },
    }
}

/// The command line's flags as the configuration takes them.
#[must_use]
pub fn flag_overrides(flags: &Flags) -> FlagOverrides {
    let text = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
    let secret = |given: &Option<cli::Secret>| given.as_ref().map(|s| Secret::new(s.as_str()));
    let plain = |given: &Option<cli::Secret>| given.as_ref().map(|s| s.as_str().to_owned());
    FlagOverrides {
        config: flags.config.clone(),
        host: flags.host.clone(),
        port: flags.port,
        server_name: flags.server_name.clone(),
        pid_file: text(&flags.pid_file),
        http_port: flags.http_port,
        https_port: flags.https_port,
        client_advertise: flags.client_advertise.clone(),
        ports_file_dir: text(&flags.ports_file_dir),
        log_file: text(&flags.log_file),
        logtime: flags.logtime,
        logtime_utc: flags.logtime_utc,
        syslog: flags.syslog,
        remote_syslog: flags.remote_syslog.clone(),
        debug: flags.debug,
        trace: flags.trace,
        trace_verbose: flags.trace_verbose,
        debug_trace: flags.debug_trace,
        debug_trace_verbose: flags.debug_trace_verbose,
        log_size_limit: flags.log_size_limit,
        max_traced_msg_len: flags.max_traced_msg_len,
        jetstream: flags.jetstream,
        store_dir: text(&flags.store_dir),
        user: flags.user.clone(),
        pass: secret(&flags.pass),
        auth: secret(&flags.auth),
        tls: flags.tls,
        tls_verify: flags.tlsverify,
        tls_cert: text(&flags.tlscert),
        tls_key: text(&flags.tlskey),
        tls_ca_cert: text(&flags.tlscacert),
        routes: plain(&flags.routes),
        cluster: plain(&flags.cluster),
        cluster_name: flags.cluster_name.clone(),
        no_advertise: flags.no_advertise,
        cluster_advertise: flags.cluster_advertise.clone(),
        connect_retries: flags.connect_retries,
        profile: flags.profile,
    }
}
