//! Flags over file over defaults.

use super::accounts::GLOBAL;
use super::error::{Finding, Kind};
use super::options::{Listen, Options, Port};
use super::options_trust::TlsOptions;
use super::reader::split_host_port;
use super::secret::Secret;
use super::served::{Served, served};

/// What the command line says; a flag that was not given is `None`.
///
/// Flags of one meaning (`-a`, `--addr`, `--net`) are one field, set by the last one given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlagOverrides {
    /// `-c`, `--config`
    pub config: Option<String>,
    /// `-a`, `--addr`, `--net`
    pub host: Option<String>,
    /// `-p`, `--port`; -1 lets the system choose.
    pub port: Option<i64>,
    /// `-n`, `--name`, `--server_name`
    pub server_name: Option<String>,
    /// `-P`, `--pid`
    pub pid_file: Option<String>,
    /// `-m`, `--http_port`
    pub http_port: Option<i64>,
    /// `-ms`, `--https_port`
    pub https_port: Option<i64>,
    /// `--client_advertise`
    pub client_advertise: Option<String>,
    /// `--ports_file_dir`
    pub ports_file_dir: Option<String>,
    /// `-l`, `--log`
    pub log_file: Option<String>,
    /// `-T`, `--logtime`
    pub logtime: Option<bool>,
    /// `--logtime_utc`
    pub logtime_utc: Option<bool>,
    /// `-s`, `--syslog`
    pub syslog: Option<bool>,
    /// `-r`, `--remote_syslog`
    pub remote_syslog: Option<String>,
    /// `-D`, `--debug`
    pub debug: Option<bool>,
    /// `-V`, `--trace`
    pub trace: Option<bool>,
    /// `-VV`: trace and trace_verbose.
    pub trace_verbose: Option<bool>,
    /// `-DV`: debug and trace.
    pub debug_trace: Option<bool>,
    /// `-DVV`: debug, trace and trace_verbose.
    pub debug_trace_verbose: Option<bool>,
    /// `--log_size_limit` in bytes
    pub log_size_limit: Option<i64>,
    /// `--max_traced_msg_len` in bytes
    pub max_traced_msg_len: Option<i64>,
    /// `-js`, `--jetstream`
    pub jetstream: Option<bool>,
    /// `-sd`, `--store_dir`
    pub store_dir: Option<String>,
    /// `--user`
    pub user: Option<String>,
    /// `--pass`
    pub pass: Option<Secret>,
    /// `--auth`
    pub auth: Option<Secret>,
    /// `--tls`
    pub tls: Option<bool>,
    /// `--tlsverify`
    pub tls_verify: Option<bool>,
    /// `--tlscert`
    pub tls_cert: Option<String>,
    /// `--tlskey`
    pub tls_key: Option<String>,
    /// `--tlscacert`
    pub tls_ca_cert: Option<String>,
    /// `--routes`, separated by commas
    pub routes: Option<String>,
    /// `--cluster`, `--cluster_listen`
    pub cluster: Option<String>,
    /// `--cluster_name`
    pub cluster_name: Option<String>,
    /// `--no_advertise`
    pub no_advertise: Option<bool>,
    /// `--cluster_advertise`
    pub cluster_advertise: Option<String>,
    /// `--connect_retries`
    pub connect_retries: Option<i64>,
    /// `--profile`
    pub profile: Option<i64>,
}

/// Applies the flags to options that came from a file, or to the defaults. Gives what is wrong
/// with the flags, and warnings for those that are not served yet.
pub fn overlay(options: &mut Options, flags: &FlagOverrides) -> Vec<Finding> {
    let mut findings = Vec::new();
    overlay_listeners(options, flags, &mut findings);
    overlay_log(options, flags, &mut findings);
    overlay_login(options, flags, &mut findings);
    overlay_tls(options, flags, &mut findings);
    overlay_cluster(options, flags, &mut findings);
    if let Some(on) = flags.jetstream {
        options.jetstream.enabled = on;
        not_served(on, "jetstream", "--jetstream", &mut findings);
    }
    set(&mut options.jetstream.store_dir, flags.store_dir.as_ref());
    findings
}

fn set<T: Clone>(field: &mut T, flag: Option<&T>) {
    if let Some(value) = flag {
        field.clone_from(value);
    }
}

/// Sets a text that an empty flag clears.
fn set_some(field: &mut Option<String>, flag: Option<&String>) {
    if let Some(value) = flag {
        *field = Some(value.clone()).filter(|value| !value.is_empty());
    }
}

fn not_served(is_asked: bool, path: &str, flag: &str, findings: &mut Vec<Finding>) {
    if is_asked && served(path) != Served::Yes {
        let text = format!("{flag:?} is not served yet and has no effect");
        findings.push(Finding { kind: Kind::NotServed, ..Finding::bare(text) });
    }
}

fn port(flag: Option<i64>, name: &str, findings: &mut Vec<Finding>) -> Option<Port> {
    let number = flag?;
    match (number, u16::try_from(number)) {
        (-1, _) => Some(Port::Random),
        (0, _) => Some(Port::Off),
        (_, Ok(port)) => Some(Port::Fixed(port)),
        _ => {
            let text = format!("{name}: port {number} is not between -1 and 65535");
            findings.push(Finding::bare(text));
            None
        }
    }
}

fn overlay_listeners(o: &mut Options, flags: &FlagOverrides, findings: &mut Vec<Finding>) {
    if let Some(host) = flags.host.as_ref().filter(|host| !host.is_empty()) {
        o.listen.host.clone_from(host);
    }
    if let Some(number) = port(flags.port, "--port", findings) {
        // 0 stands for the usual port, as without the flag.
        o.listen.port = if number.is_off() { Port::Fixed(4222) } else { number };
    }
    set(&mut o.client_advertise, flags.client_advertise.as_ref());
    set(&mut o.server_name, flags.server_name.as_ref());
    set_some(&mut o.pid_file, flags.pid_file.as_ref());
    set_some(&mut o.ports_file_dir, flags.ports_file_dir.as_ref());
    super::reader::put(&mut o.monitor.http, port(flags.http_port, "--http_port", findings));
    if let Some(number) = port(flags.https_port, "--https_port", findings) {
        o.monitor.https = number;
        not_served(!number.is_off(), "https", "--https_port", findings);
    }
    if let Some(number) = port(flags.profile, "--profile", findings) {
        o.profile_port = number;
        not_served(!number.is_off(), "prof_port", "--profile", findings);
    }
}

fn overlay_log(o: &mut Options, flags: &FlagOverrides, findings: &mut Vec<Finding>) {
    let log = &mut o.log;
    set_some(&mut log.file, flags.log_file.as_ref());
    set(&mut log.time, flags.logtime.as_ref());
    set(&mut log.time_utc, flags.logtime_utc.as_ref());
    set(&mut log.syslog, flags.syslog.as_ref());
    set_some(&mut log.remote_syslog, flags.remote_syslog.as_ref());
    set(&mut log.debug, flags.debug.as_ref());
    set(&mut log.trace, flags.trace.as_ref());
    if let Some(on) = flags.trace_verbose {
        (log.trace, log.trace_verbose) = (on, on);
    }
    if let Some(on) = flags.debug_trace {
        (log.debug, log.trace) = (on, on);
    }
    if let Some(on) = flags.debug_trace_verbose {
        (log.debug, log.trace, log.trace_verbose) = (on, on, on);
    }
    if let Some(limit) = flags.log_size_limit {
        log.file_bytes_max = u64::try_from(limit).unwrap_or(0);
    }
    if let Some(length) = flags.max_traced_msg_len {
        log.traced_bytes_max = u64::try_from(length).unwrap_or(0);
        let is_asked = log.traced_bytes_max > 0;
        not_served(is_asked, "max_traced_msg_len", "--max_traced_msg_len", findings);
    }
}

/// A single user or token; users of the `authorization` block win over it, as in nats-server,
/// and with users of accounts the check refuses it.
fn overlay_login(o: &mut Options, flags: &FlagOverrides, findings: &mut Vec<Finding>) {
    let has_users = !o.auth.users.is_empty();
    if has_users && o.auth.users.iter().all(|user| user.account == GLOBAL) {
        let given = [
            ("--user", flags.user.is_some()),
            ("--pass", flags.pass.is_some()),
            ("--auth", flags.auth.is_some()),
        ];
        for (flag, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            let text = format!("{flag} has no effect, since the configuration file has users");
            findings.push(Finding { kind: Kind::Warning, ..Finding::bare(text) });
        }
        return;
    }
    set(&mut o.auth.user, flags.user.as_ref());
    set(&mut o.auth.password, flags.pass.as_ref());
    set(&mut o.auth.token, flags.auth.as_ref());
}

/// `--tls=false` turns TLS off; any other of its flags asks for a certificate and a key and
/// replaces what the file says.
fn overlay_tls(o: &mut Options, flags: &FlagOverrides, findings: &mut Vec<Finding>) {
    if flags.tls == Some(false) {
        o.tls = None;
        return;
    }
    let files = [&flags.tls_cert, &flags.tls_key, &flags.tls_ca_cert];
    let asked = flags.tls.is_some()
        || flags.tls_verify.is_some()
        || files.iter().any(|file| file.is_some());
    if !asked {
        return;
    }
    let given = |flag: &Option<String>| flag.clone().filter(|path| !path.is_empty());
    let tls = TlsOptions {
        cert_file: given(&flags.tls_cert),
        key_file: given(&flags.tls_key),
        ca_file: given(&flags.tls_ca_cert),
        verify: flags.tls_verify.unwrap_or(false),
        timeout: o.tls.as_ref().map_or(TlsOptions::default().timeout, |tls| tls.timeout),
        ..TlsOptions::default()
    };
    if tls.cert_file.is_none() {
        findings.push(Finding::bare("TLS Server certificate must be present and valid"));
    } else if tls.key_file.is_none() {
        findings.push(Finding::bare("TLS Server private key must be present and valid"));
    } else {
        o.tls = Some(tls);
    }
}

fn overlay_cluster(o: &mut Options, flags: &FlagOverrides, findings: &mut Vec<Finding>) {
    let cluster = &mut o.cluster;
    set(&mut cluster.name, flags.cluster_name.as_ref());
    set(&mut cluster.no_advertise, flags.no_advertise.as_ref());
    set(&mut cluster.advertise, flags.cluster_advertise.as_ref());
    set(&mut cluster.connect_retries, flags.connect_retries.as_ref());
    match flags.cluster.as_deref() {
        None => {}
        // An empty listen address turns a configured cluster off.
        Some("") => cluster.listen.port = Port::Off,
        Some(url) => match parse_cluster_url(url) {
            Ok((listen, user, password)) => {
                cluster.listen = listen;
                cluster.auth.user = user;
                cluster.auth.password = password;
                not_served(true, "cluster", "--cluster", findings);
            }
            Err(text) => findings.push(Finding::bare(text)),
        },
    }
    if let Some(routes) = &flags.routes {
        let routes = routes.split(',').map(str::trim).filter(|route| !route.is_empty());
        cluster.routes = routes.map(str::to_string).collect();
        let has_cluster = !cluster.listen.port.is_off() || !cluster.listen.host.is_empty();
        if !cluster.routes.is_empty() && !has_cluster {
            let text = "solicited routes require cluster capabilities, e.g. --cluster";
            findings.push(Finding::bare(text));
        }
    }
}

/// `nats://[user:pass@]host:port`, where port -1 lets the system choose.
fn parse_cluster_url(url: &str) -> Result<(Listen, String, Secret), String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (login, address) = match rest.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, rest),
    };
    let address = address.trim_end_matches('/');
    let Some((host, text)) = split_host_port(address) else {
        return Err(format!("address {address}: missing port in address"));
    };
    let port = match text {
        "-1" => Port::Random,
        text => match text.parse::<u16>() {
            Ok(0) => Port::Off,
            Ok(port) => Port::Fixed(port),
            Err(_) => return Err(format!("address {address}: invalid port {text:?}")),
        },
    };
    let (user, password) = match login.map(|login| login.split_once(':')) {
        None => (String::new(), Secret::default()),
        Some(Some((user, password))) => (user.to_string(), Secret::new(password)),
        Some(None) => return Err("expected cluster password to be set".to_string()),
    };
    Ok((Listen { host: host.to_string(), port }, user, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(file: &str, flags: &FlagOverrides) -> (Options, Vec<String>) {
        let loaded = super::super::load_text(file.as_bytes(), "t.conf", &super::super::System);
        let mut options = loaded.unwrap().options;
        let findings = overlay(&mut options, flags);
        (options, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = FlagOverrides {
            port: Some(-1),
            debug: Some(false),
            log_file: Some("x.log".into()),
            ..FlagOverrides::default()
        };
        let (options, findings) = laid("port: 5000\ndebug: true\nhost: localhost\n", &flags);
        assert_eq!(options.listen, Listen { host: "localhost".into(), port: Port::Random });
        assert!(!options.log.debug);
        assert_eq!(options.log.file.as_deref(), Some("x.log"));
        assert_eq!(findings, [""; 0]);
    }

    #[test]
    fn flags_that_are_not_served_warn_unless_they_are_off() {
        let asked = FlagOverrides {
            https_port: Some(-1),
            profile: Some(-1),
            max_traced_msg_len: Some(5),
            ..FlagOverrides::default()
        };
        let warning = |flag| format!("{flag:?} is not served yet and has no effect");
        let wanted = ["--https_port", "--profile", "--max_traced_msg_len"].map(warning);
        let (_, findings) = laid("port: 1\n", &asked);
        assert_eq!(findings, wanted);
        let off = FlagOverrides {
            https_port: Some(0),
            profile: Some(0),
            max_traced_msg_len: Some(0),
            ..asked
        };
        assert_eq!(laid("port: 1\n", &off).1, [""; 0]);
    }

    #[test]
    fn joined_debug_and_trace_flags_set_what_they_join() {
        let flags = FlagOverrides { debug_trace_verbose: Some(true), ..FlagOverrides::default() };
        let (options, _) = laid("port: 5000\n", &flags);
        assert!(options.log.debug && options.log.trace && options.log.trace_verbose);
    }

    #[test]
    fn tls_flags_need_a_certificate_and_a_key() {
        let asked = FlagOverrides { tls: Some(true), ..FlagOverrides::default() };
        let (_, findings) = laid("port: 1\n", &asked);
        assert_eq!(findings, ["TLS Server certificate must be present and valid"]);
        let cert = FlagOverrides { tls_cert: Some("c".into()), ..FlagOverrides::default() };
        let (_, findings) = laid("port: 1\n", &cert);
        assert_eq!(findings, ["TLS Server private key must be present and valid"]);
        let off = FlagOverrides { tls: Some(false), ..cert };
        let (options, findings) = laid("tls { timeout: 3 }\n", &off);
        assert_eq!((options.tls, findings), (None, Vec::new()));
    }

    #[test]
    fn routes_need_a_cluster() {
        let routes = Some("nats://a:1, nats://b:2".to_string());
        let flags = FlagOverrides { routes, ..FlagOverrides::default() };
        let (_, findings) = laid("port: 1\n", &flags);
        let text = "solicited routes require cluster capabilities, e.g. --cluster";
        assert_eq!(findings, [text]);
        let cluster = Some("nats://u:p@127.0.0.1:-1".to_string());
        let flags = FlagOverrides { cluster, ..flags };
        let (options, _) = laid("port: 1\n", &flags);
        assert_eq!(options.cluster.routes, ["nats://a:1", "nats://b:2"]);
        assert_eq!(options.cluster.listen.port, Port::Random);
        assert_eq!(options.cluster.auth.user, "u");
        assert_eq!(options.cluster.auth.password.expose(), "p");
    }

    #[test]
    fn a_cluster_url_may_be_wrong() {
        for (url, text) in [
            ("nats://u@h:1", "expected cluster password to be set"),
            ("nats://h", "address h: missing port in address"),
            ("nats://h:x", "address h:x: invalid port \"x\""),
        ] {
            let cluster = Some(url.to_string());
            let flags = FlagOverrides { cluster, ..FlagOverrides::default() };
            assert_eq!(laid("port: 1\n", &flags).1, [text]);
        }
    }
}
