//! Reload: which changes are taken over, with their log lines, and which are refused.

use super::options_of;
use crate::config::reload::{Change, diff, removed_accounts};

fn changes(old: &str, new: &str) -> Result<Vec<Change>, String> {
    diff(&options_of(old), &options_of(new))
}

#[test]
fn every_change_that_is_taken_over_logs_its_line() {
    let cases = [
        ("debug: true", "Reloaded: debug = true"),
        ("trace: true", "Reloaded: trace = true"),
        ("logtime: false", "Reloaded: logtime = false"),
        ("logtime_utc: true", "Reloaded: logtime_utc = true"),
        ("log_file: \"x.log\"", "Reloaded: log_file = x.log"),
        ("syslog: true", "Reloaded: syslog = true"),
        ("remote_syslog: \"udp://h:1\"", "Reloaded: remote_syslog = udp://h:1"),
        ("client_advertise: \"a:1\"", "Reload: client_advertise = a:1"),
        ("max_connections: 10", "Reloaded: max_connections = 10"),
        ("max_control_line: 1024", "Reloaded: max_control_line = 1024"),
        ("max_payload: 5000", "Reloaded: max_payload = 5000"),
        ("ping_interval: 10s", "Reloaded: ping_interval = 10s"),
        ("ping_max: 5", "Reloaded: ping_max = 5"),
        ("write_deadline: 3s", "Reloaded: write_deadline = 3s"),
        ("server_tags: x", "Reloaded: tags"),
        ("server_metadata: {a: b}", "Reloaded: metadata"),
        ("pid_file: \"r.pid\"", "Reloaded: pid_file = r.pid"),
        ("ports_file_dir: \".\"", "Reloaded: ports_file_dir = ."),
        ("max_traced_msg_len: 5", "Reloaded: max_traced_msg_len = 5"),
        ("connect_error_reports: 3", "Reloaded: connect_error_reports = 3"),
        ("reconnect_error_reports: 4", "Reloaded: reconnect_error_reports = 4"),
        ("no_fast_producer_stall: true", "Reloaded: fast producers will not be stalled"),
        ("authorization { token: x }", "Reloaded: authorization token"),
        ("authorization { timeout: 3 }", "Reloaded: authorization timeout = 3"),
        ("authorization { timeout: \"1500ms\" }", "Reloaded: authorization timeout = 1.5"),
        ("tls { timeout: 3 }", "Reloaded: tls = enabled"),
        ("tls { handshake_first: auto }", "Reloaded: Client TLS handshake first: true"),
    ];
    for (text, wanted) in cases {
        let changes = changes("port: -1", &format!("port: -1\n{text}")).unwrap();
        let lines: Vec<String> = changes.iter().map(Change::log_line).collect();
        assert!(lines.iter().any(|line| line == wanted), "{text}: {lines:?}");
    }
}

#[test]
fn lines_come_in_the_order_of_nats_server() {
    let new = "port: -1\nping_max: 5\nserver_tags: x\ndebug: true\nmax_connections: 10\n\
               write_deadline: 3s\nmax_payload: 5000\nclient_advertise: \"a:1\"\n\
               trace_verbose: true\n";
    let changes = changes("port: -1", new).unwrap();
    let lines: Vec<String> = changes.iter().map(Change::log_line).collect();
    assert_eq!(
        lines,
        [
            "Reload: client_advertise = a:1",
            "Reloaded: trace = true",
            "Reloaded: debug = true",
            "Reloaded: trace_verbose = true",
            "Reloaded: max_connections = 10",
            "Reloaded: authorization users",
            "Reloaded: accounts",
            "Reloaded: ping_max = 5",
            "Reloaded: max_payload = 5000",
            "Reloaded: write_deadline = 3s",
            "Reloaded: tags",
        ]
    );
}

#[test]
fn without_a_change_users_and_accounts_are_looked_at_again() {
    assert_eq!(changes("port: -1", "port: -1"), Ok(vec![Change::Users, Change::Accounts]));
}

#[test]
fn a_single_user_changes_name_and_password() {
    let old = "authorization { user: a, pass: b }";
    let lines: Vec<String> =
        changes(old, "authorization { token: c }").unwrap().iter().map(Change::log_line).collect();
    assert_eq!(
        lines,
        [
            "Reloaded: authorization users",
            "Reloaded: accounts",
            "Reloaded: authorization username",
            "Reloaded: authorization password",
            "Reloaded: authorization token",
        ]
    );
}

#[test]
fn what_can_not_change_is_refused_by_its_field() {
    let cases = [
        ("port: 4223", "Port: old=4222, new=4223"),
        ("host: 127.0.0.1", "Host: old=0.0.0.0, new=127.0.0.1"),
        ("server_name: x", "ServerName: old=, new=x"),
        ("max_pending: 70MB", "MaxPending: old=67108864, new=73400320"),
        ("http: 8222", "HTTPPort: old=0, new=8222"),
        ("http_base_path: foo", "HTTPBasePath: old=, new=/foo"),
        ("max_subs: 5", "MaxSubs: old=0, new=5"),
        ("max_sub_tokens: 5", "MaxSubTokens: old=0, new=5"),
        ("log_size_limit: 5", "LogSizeLimit: old=0, new=5"),
        ("log_max_num: 5", "LogMaxFiles: old=0, new=5"),
        ("no_header_support: true", "NoHeaderSupport: old=false, new=true"),
        ("write_timeout: close", "WriteTimeout: old=, new=close"),
        ("max_closed_clients: 4", "MaxClosedClients: old=10000, new=4"),
        ("lame_duck_grace_period: 5s", "LameDuckGracePeriod: old=10s, new=5s"),
        ("lame_duck_duration: 60s", "LameDuckDuration: old=2m0s, new=1m0s"),
        ("feature_flags: {a: true}", "FeatureFlags: old=map[], new=map[a:true]"),
        ("no_system_account: true", "NoSystemAccount: old=false, new=true"),
        ("system_account: A\naccounts { A {} }", "SystemAccount: old=, new=A"),
        ("allow_non_tls: true", "AllowNonTLS: old=false, new=true"),
        ("disable_sublist_cache: true", "NoSublistCache: old=false, new=true"),
        ("proxy_protocol: true", "ProxyProtocol: old=false, new=true"),
        ("no_auth_user: a\nauthorization { users: [{user: a}] }", "NoAuthUser: old=, new=a"),
    ];
    for (text, wanted) in cases {
        let refusal = changes("debug: false", text).unwrap_err();
        assert_eq!(refusal, format!("config reload not supported for {wanted}"), "{text}");
    }
}

#[test]
fn a_random_port_is_no_change() {
    assert!(changes("port: 4222", "port: -1").is_ok());
    assert!(changes("port: -1", "port: -1").is_ok());
}

#[test]
fn no_auth_user_may_only_go_with_its_user() {
    let old = "authorization { users: [{user: a}, {user: b}] }\nno_auth_user: a";
    let refusal = changes(old, "authorization { users: [{user: a}] }").unwrap_err();
    assert_eq!(refusal, "config reload not supported for NoAuthUser: old=a, new=");
    assert!(changes(old, "authorization { users: [{user: b}] }").is_ok());
}

#[test]
fn the_first_refusal_is_reported_and_nothing_else() {
    let refusal = changes("port: 1", "max_subs: 5\nlame_duck_duration: 60s\nport: 1\ndebug: true");
    assert_eq!(refusal.unwrap_err(), "config reload not supported for MaxSubs: old=0, new=5");
}

#[test]
fn jetstream_limits_may_only_grow() {
    let js = |limit: &str| format!("jetstream {{ store_dir: a, max_mem: {limit} }}");
    assert!(changes(&js("1G"), &js("2G")).is_ok());
    let refusal = changes(&js("2G"), &js("1G")).unwrap_err();
    let text = "config reload not supported for decreasing jetstream max memory and store";
    assert_eq!(refusal, text);
    let moved = changes("jetstream { store_dir: a }", "jetstream { store_dir: b }");
    let text = "config reload not supported for jetstream storage directory";
    assert_eq!(moved.unwrap_err(), text);
}

#[test]
fn what_jetstream_shares_out_at_its_start_does_not_change() {
    for (more, wanted) in [
        ("max_concurrent_io: 64", "JetStreamConcurrentIOs: old=4096, new=64"),
        ("max_buffered_msgs: 5", "StreamMaxBufferedMsgs: old=0, new=5"),
        ("reserved_files: 5", "JetStreamReservedFiles: old=0, new=5"),
    ] {
        let text = format!("jetstream {{ store_dir: a, {more} }}");
        let refusal = changes("jetstream { store_dir: a }", &text).unwrap_err();
        assert_eq!(refusal, format!("config reload not supported for {wanted}"));
    }
    let text = "jetstream { store_dir: a, restore_timeout: 5s }";
    assert!(changes("jetstream { store_dir: a }", text).is_ok());
}

#[test]
fn shards_need_a_restart() {
    let refusal = changes("port: 1", "port: 1\nshards { spin: always }").unwrap_err();
    assert!(refusal.starts_with("config reload not supported for Shards"), "{refusal}");
}

#[test]
fn renewed_certificates_are_a_change_and_the_same_ones_are_not() {
    let text = "tls { cert_file: c.pem, key_file: k.pem }";
    let with = |cert: &str| {
        let world = super::World::default().file("c.pem", cert).file("k.pem", "key");
        super::load_in(text, &world).unwrap().options
    };
    assert_eq!(diff(&with("1"), &with("1")), Ok(vec![Change::Users, Change::Accounts]));
    assert!(diff(&with("1"), &with("2")).unwrap().contains(&Change::Tls(true)));
    let off = options_of("port: 4222");
    assert!(diff(&with("1"), &off).unwrap().contains(&Change::Tls(false)));
    assert!(diff(&off, &with("1")).unwrap().contains(&Change::Tls(true)));
}

#[test]
fn a_fallback_delay_changes_on_its_own() {
    let text = |first: &str| format!("tls {{ handshake_first: {first} }}");
    assert_eq!(
        changes(&text("auto"), &text("true")).unwrap().split_off(2),
        [Change::TlsHandshakeFallback(std::time::Duration::ZERO)]
    );
    let lines: Vec<String> =
        changes(&text("off"), &text("auto")).unwrap().iter().map(Change::log_line).collect();
    assert_eq!(
        lines.get(2..),
        Some(
            &[
                "Reloaded: Client TLS handshake first: true".to_string(),
                "Reloaded: Client TLS handshake first fallback delay: 50ms".to_string(),
            ][..]
        )
    );
}

#[test]
fn removed_accounts_are_known() {
    let old = options_of("accounts { A {}, B {} }");
    let new = options_of("accounts { B {} }");
    let names: Vec<&str> = removed_accounts(&old, &new).iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["A"]);
}
