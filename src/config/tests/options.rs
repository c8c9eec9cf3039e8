//! What keys become: each in its field, users and permissions complete.

use std::time::Duration;

use super::{options_of, warnings_of};
use crate::config::{
    ConnectionType, HandshakeFirst, Options, Port, ResponseRule, ShardOptions, Spin, SubjectRule,
    TlsVersion, WriteTimeout,
};

fn rule(subject: &str) -> SubjectRule {
    SubjectRule { subject: subject.into(), queue: None }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let mut options = options_of("# nothing\n");
    options.config_file = None;
    assert_eq!(options, Options::default());
}

#[test]
fn defaults_are_those_of_nats_server() {
    let o = Options::default();
    assert_eq!((o.listen.host.as_str(), o.listen.port), ("0.0.0.0", Port::Fixed(4222)));
    assert_eq!(o.limits.connections_max, 65_536);
    assert_eq!(o.limits.control_line_bytes_max, 4096);
    assert_eq!(o.limits.payload_bytes_max, 1_048_576);
    assert_eq!(o.limits.pending_bytes_max, 67_108_864);
    assert_eq!((o.limits.ping_interval, o.limits.pings_out_max), (secs(120), 2));
    assert_eq!(o.limits.write_deadline, secs(10));
    assert_eq!((o.lame_duck_duration, o.lame_duck_grace_period), (secs(120), secs(10)));
    assert_eq!(o.auth_timeout(), secs(2));
    assert_eq!(o.system_account_name(), Some("$SYS"));
    assert!(o.log.time && !o.auth_required());
}

#[test]
fn zero_stands_for_the_default_where_nats_server_has_it_so() {
    let text = "port: 0\nmax_payload: 0\nmax_pending: 0\nmax_control_line: 0\nping_interval: 0s\n\
                ping_max: 0\nwrite_deadline: 0s\nmax_closed_clients: 0\n\
                lame_duck_grace_period: 0s\n\
                connect_error_reports: 0\nreconnect_error_reports: 0\nhost: \"\"\n";
    let mut options = options_of(text);
    options.config_file = None;
    assert_eq!(options, Options::default());
}

#[test]
fn top_level_keys_reach_their_fields() {
    let o = options_of(
        "listen: \"localhost:-1\"\nclient_advertise: \"a:1\"\nserver_name: n\nserver_tags: \
         [\"A:b\", \
         c, C]\nserver_metadata { r: eu }\ntrace_headers: true\nlogtime: off\nlogtime_utc: on\n\
         logfile: x.log\nlogfile_size_limit: 1MB\nlog_max_num: 3\nremote_syslog: \"udp://h:514\"\n\
         pidfile: p.pid\nports_file_dir: d\nhttp: \"127.0.0.1:8222\"\nhttp_base_path: \
         \"a//b/\"\nmax_conn: 0\nmax_subs: 7\nmax_subscription_tokens: 8\nmax_traced_msg_len: 9\n\
         write_timeout: retry\nlame_duck_duration: 45s\nno_header_support: true\nno_sublist_cache: \
         true\nallow_non_tls: true\nno_system: true\n",
    );
    assert_eq!((o.listen.host.as_str(), o.listen.port), ("localhost", Port::Random));
    assert_eq!(o.client_advertise, "a:1");
    assert_eq!(o.server_name, "n");
    assert_eq!(o.server_tags, ["a:b", "c"]);
    assert_eq!(o.server_metadata["r"], "eu");
    assert!(o.log.trace && o.log.trace_headers && !o.log.time && o.log.time_utc);
    assert_eq!(o.log.file.as_deref(), Some("x.log"));
    assert_eq!((o.log.file_bytes_max, o.log.files_max), (1 << 20, 3));
    assert_eq!(o.log.traced_bytes_max, 9);
    assert_eq!(o.pid_file.as_deref(), Some("p.pid"));
    assert_eq!((o.monitor.host.as_str(), o.monitor.http), ("127.0.0.1", Port::Fixed(8222)));
    assert_eq!(o.monitor.base_path, "/a/b");
    assert_eq!(o.limits.connections_max, -1);
    assert_eq!((o.limits.subscriptions_max, o.limits.subject_tokens_max), (7, 8));
    assert_eq!(o.limits.write_timeout, WriteTimeout::Retry);
    assert_eq!(o.lame_duck_duration, secs(45));
    assert_eq!(o.system_account_name(), None);
}

#[test]
fn users_come_from_both_places_with_their_accounts() {
    let o = options_of(
        "authorization {\n users: [ {user: a, password: x}, {username: b, pass: y, \
         connection_types: [mqtt, standard, MQTT]} ]\n}\naccounts {\n A { users: [{user: c}] }\n \
         B {}\n}\n",
    );
    let users: Vec<(&str, &str)> =
        o.auth.users.iter().map(|u| (u.name.as_str(), u.account.as_str())).collect();
    assert_eq!(users, [("c", "A"), ("a", "$G"), ("b", "$G")]);
    assert_eq!(o.auth.users[1].password.expose(), "x");
    let types = &o.auth.users[2].connection_types;
    assert_eq!(types, &[ConnectionType::Standard, ConnectionType::Mqtt]);
    let names: Vec<&str> = o.accounts.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["A", "B"]);
    assert!(o.auth_required());
}

#[test]
fn permissions_have_three_forms() {
    let o = options_of(
        "authorization { users: [ {user: a, permissions { publish: \"p.>\", subscribe: [\"s\", \
         \"q workers\"] }}, {user: b, permission { pub { allow: [x], deny: y }, sub { deny: \
         \"z v.*\" } }} ] }\n",
    );
    let a = o.auth.users[0].permissions.as_ref().unwrap();
    assert_eq!(a.publish.as_ref().unwrap().allow, Some(vec![rule("p.>")]));
    let queued = SubjectRule { subject: "q".into(), queue: Some("workers".into()) };
    assert_eq!(a.subscribe.as_ref().unwrap().allow, Some(vec![rule("s"), queued]));
    let b = o.auth.users[1].permissions.as_ref().unwrap();
    let publish = b.publish.as_ref().unwrap();
    assert_eq!((&publish.allow, &publish.deny), (&Some(vec![rule("x")]), &vec![rule("y")]));
    let subscribe = b.subscribe.as_ref().unwrap();
    assert_eq!(subscribe.allow, None);
    assert_eq!(subscribe.deny[0].queue.as_deref(), Some("v.*"));
}

#[test]
fn an_empty_list_of_subjects_allows_everything() {
    let o = options_of("authorization { users: [{user: a, permissions { publish: [] }}] }\n");
    let rules = o.auth.users[0].permissions.as_ref().unwrap().publish.as_ref().unwrap();
    assert_eq!(rules.allow, None);
}

#[test]
fn allow_responses_denies_other_publishes_in_any_order() {
    for text in [
        "allow_responses: true",
        "allow_responses: { max: 0, expires: \"0s\" }",
        "publish_allow_responses: true",
    ] {
        let o = options_of(&format!(
            "authorization {{ users: [{{user: a, permissions {{ {text} }}}}] }}"
        ));
        let permissions = o.auth.users[0].permissions.as_ref().unwrap();
        assert_eq!(permissions.responses, Some(ResponseRule::default()));
        assert_eq!(permissions.publish.as_ref().unwrap().allow, Some(Vec::new()));
    }
    for order in ["publish: x, allow_responses: true", "allow_responses: true, publish: x"] {
        let o = options_of(&format!(
            "authorization {{ users: [{{user: a, permissions {{ {order} }}}}] }}"
        ));
        let permissions = o.auth.users[0].permissions.as_ref().unwrap();
        assert_eq!(permissions.publish.as_ref().unwrap().allow, Some(vec![rule("x")]));
    }
    let o = options_of(
        "authorization { users: [{user: a, permissions { allow_responses \
         { max: -1, ttl: \"-1s\" } }}] }",
    );
    let unlimited = ResponseRule { responses_max: None, expires: None };
    assert_eq!(o.auth.users[0].permissions.as_ref().unwrap().responses, Some(unlimited));
    let o =
        options_of("authorization { users: [{user: a, permissions { allow_responses: false }}] }");
    assert_eq!(o.auth.users[0].permissions.as_ref().unwrap().publish, None);
}

#[test]
fn default_permissions_are_for_users_without_their_own() {
    let o = options_of(
        "authorization {\n default_permissions { publish: d }\n users: [{user: a}, {user: b, \
         permissions { publish: e }}]\n}\naccounts { A { users: [{user: c}], default_permissions { \
         subscribe: f } }, B { users: [{user: d}] } }\n",
    );
    let publish = |name: &str| {
        let user = o.auth.users.iter().find(|u| u.name == name).unwrap();
        let permissions = user.permissions.as_ref();
        permissions.and_then(|p| p.publish.clone()).and_then(|rules| rules.allow)
    };
    assert_eq!(publish("a"), Some(vec![rule("d")]));
    assert_eq!(publish("b"), Some(vec![rule("e")]));
    assert_eq!(publish("c"), None);
    let c = o.auth.users.iter().find(|u| u.name == "c").unwrap();
    assert!(c.permissions.as_ref().unwrap().subscribe.is_some());
    assert!(o.auth.users.iter().find(|u| u.name == "d").unwrap().permissions.is_none());
}

#[test]
fn account_limits_are_read() {
    let o = options_of(
        "accounts { A { limits { max_conn: 5, max_subs: -1, max_pay: 1kb, max_leafs: 0 } } }\n",
    );
    let limits = &o.accounts[0].limits;
    assert_eq!(limits.connections_max, Some(5));
    assert_eq!(limits.subscriptions_max, None);
    assert_eq!(limits.payload_bytes_max, Some(1024));
    assert_eq!(limits.leafnodes_max, Some(0));
}

#[test]
fn tls_is_read() {
    let o = options_of(
        "tls { verify: true, timeout: \"1500ms\", min_version: \"1.3\", handshake_first: 200ms, \
         cipher_suites: [\"TLS_AES_128_GCM_SHA256\"], curve_preferences: [X25519 ], \
         connection_rate_limit: 5 }\n",
    );
    let tls = o.tls.as_ref().unwrap();
    assert!(tls.verify);
    assert_eq!(tls.timeout, Duration::from_millis(1500));
    assert_eq!(o.auth_timeout(), Duration::from_millis(2500));
    assert_eq!(tls.min_version, TlsVersion::V13);
    assert_eq!(tls.handshake_first, HandshakeFirst::Within(Duration::from_millis(200)));
    assert_eq!(tls.cipher_suites, ["TLS_AES_128_GCM_SHA256"]);
    assert_eq!(tls.rate_max, 5);
    for (text, wanted) in [
        ("true", HandshakeFirst::Yes),
        ("\"off\"", HandshakeFirst::No),
        ("auto", HandshakeFirst::Within(Duration::from_millis(50))),
    ] {
        let tls = options_of(&format!("tls {{ first: {text} }}\n")).tls.unwrap();
        assert_eq!(tls.handshake_first, wanted);
    }
}

#[test]
fn shards_are_read() {
    let o = options_of(
        "shards {\n count: 4\n cpus: \"0-3,8\"\n pin: false\n spin: adaptive\n spin_max: 20us\n \
         io_memory: 2MB\n ring_depth: 512\n queue_depth: 64\n read_buffer: 128KB\n}\n",
    );
    let wanted = ShardOptions {
        count: Some(4),
        cpus: vec![0, 1, 2, 3, 8],
        pin: false,
        spin: Spin::Adaptive,
        spin_max: Duration::from_micros(20),
        io_memory_bytes: 2 << 20,
        ring_depth: 512,
        queue_depth: 64,
        read_buffer_bytes: 128 << 10,
    };
    assert_eq!(o.shards, wanted);
    for (text, spin) in [
        ("off", Spin::Off),
        ("always", Spin::Always),
        ("30us", Spin::For(Duration::from_micros(30))),
    ] {
        assert_eq!(options_of(&format!("shards {{ spin: {text} }}\n")).shards.spin, spin);
    }
    assert_eq!(options_of("shards: 2\n").shards.count, Some(2));
}

#[test]
fn shards_that_make_no_sense_are_errors() {
    for text in [
        "count: 0",
        "count: 2000",
        "cpus: \"3-1\"",
        "cpus: \"0,0\"",
        "cpus: x",
        "spin: fast",
        "ring_depth: 100",
        "io_memory: 5",
        "foo: 1",
    ] {
        assert_eq!(super::errors_of(&format!("shards {{ {text} }}\n")).len(), 1, "{text}");
    }
}

#[test]
fn blocks_that_are_not_served_are_still_read() {
    let o = options_of(
        "server_name: s\ncluster { name: c, listen: \"h:6222\", routes: [\"nats://u:p@a:1\"], \
         authorization { user: u, password: p }, compression: on }\ngateway { name: c, port: 7222, \
         gateways: [{name: d, url: \"nats://d:1\"}] }\nleafnodes { port: 7422, remotes: [{url: \
         \"nats-leaf://x:1\", account: A}] }\nwebsocket { port: 8080, no_tls: true, compression: \
         true }\nmqtt { port: 1883, ack_wait: 5s }\njetstream { store_dir: d, max_mem: 1G, \
         max_file: \"10G\", sync: always }\n",
    );
    assert_eq!(o.cluster.listen.port, Port::Fixed(6222));
    assert_eq!(o.cluster.routes, ["nats://u:p@a:1"]);
    assert_eq!(o.cluster.compression.mode, "s2_fast");
    assert_eq!(o.gateway.gateways[0].urls, ["nats://d:1"]);
    assert_eq!(o.leafnodes.remotes[0].account, "A");
    assert!(o.websocket.compression);
    assert_eq!(o.mqtt.ack_wait, Some(secs(5)));
    assert!(o.jetstream.enabled && o.jetstream.sync_always);
    assert_eq!(o.jetstream.memory_bytes_max, 1_000_000_000);
    assert_eq!(o.jetstream.file_bytes_max, 10 << 30);
}

#[test]
fn exports_imports_and_mappings_are_read() {
    let o = options_of(
        "accounts {\n A { exports: [ {service: \"a.*\", response: stream, threshold: 5s, accounts: \
         [B ]} ] }\n B { imports: [ {service: {account: A, subject: \"a.x\"}, to: y} ], mappings { \
         m: [ {dest: n, weight: 30%}, {dest: o, weight: 70} ] } }\n}\n",
    );
    let export = &o.accounts[0].exports[0];
    assert_eq!((export.subject.as_str(), export.threshold), ("a.*", Some(secs(5))));
    let import = &o.accounts[1].imports[0];
    assert_eq!((import.account.as_str(), import.to.as_str()), ("A", "y"));
    let (source, destinations) = &o.accounts[1].mappings[0];
    assert_eq!((source.as_str(), destinations[0].weight, destinations[1].weight), ("m", 30, 70));
}

/// A commented key, `#key: value`, without its sign; a comment has a blank after it.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().strip_prefix('#') {
            Some(key)
                if key.starts_with(|c: char| c.is_ascii_alphabetic() || "{}]".contains(c)) =>
            {
                format!("{}{key}", " ".repeat(indent))
            }
            _ => line.to_string(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_server_conf_is_the_defaults() {
    let text = include_str!("../../../configs/server.conf");
    let mut options = options_of(text);
    options.config_file = None;
    assert_eq!(options, Options::default());
    assert_eq!(warnings_of(text), [""; 0]);
}

#[test]
fn the_shipped_server_conf_knows_every_key_in_it() {
    let text = uncommented(include_str!("../../../configs/server.conf"));
    let errors = super::errors_of(&text);
    let unknown: Vec<&String> = errors.iter().filter(|e| !e.contains("not served yet")).collect();
    assert_eq!(unknown, Vec::<&String>::new());
}

#[test]
fn the_watchdog_of_consumers_has_a_time() {
    let options = options_of("jetstream { store_dir: d, stuck_consumer: \"30s\" }");
    assert_eq!(options.jetstream.stuck_consumer, Duration::from_secs(30));
    let options = options_of("jetstream { store_dir: d, stuck_consumer: 0 }");
    assert!(options.jetstream.stuck_consumer.is_zero());
}

#[test]
fn the_scrub_has_an_interval_and_a_rate() {
    let options = options_of("jetstream { store_dir: d }").jetstream;
    assert_eq!(options.scrub_interval, Duration::from_secs(86_400));
    assert_eq!(options.scrub_bytes_per_second, 16 << 20);
    let options =
        options_of("jetstream { store_dir: d, scrub_interval: \"12h\", scrub_rate: 1MiB }");
    assert_eq!(options.jetstream.scrub_interval, Duration::from_secs(43_200));
    assert_eq!(options.jetstream.scrub_bytes_per_second, 1 << 20);
    let options = options_of("jetstream { store_dir: d, scrub_interval: 0 }");
    assert!(options.jetstream.scrub_interval.is_zero());
}

#[test]
fn what_was_read_is_kept_up_to_a_size() {
    let options = options_of("jetstream { store_dir: d }");
    assert_eq!(options.jetstream.read_cache_bytes_max, 32 << 20);
    let options = options_of("jetstream { store_dir: d, read_cache: 4MiB }");
    assert_eq!(options.jetstream.read_cache_bytes_max, 4 << 20);
}

#[test]
fn restores_have_a_time_and_the_store_has_its_files() {
    let options = options_of("jetstream { store_dir: d }");
    assert_eq!(options.jetstream.restore_timeout, Duration::from_secs(30));
    assert_eq!(options.jetstream.files_reserved, 0);
    let options = options_of("jetstream { restore_timeout: \"2m\", reserved_files: 500 }");
    assert_eq!(options.jetstream.restore_timeout, Duration::from_secs(120));
    assert_eq!(options.jetstream.files_reserved, 500);
}

#[test]
fn the_other_shipped_files_are_right() {
    let dev = options_of(include_str!("../../../configs/dev.conf"));
    assert!(dev.log.debug);
    let pinned = options_of(include_str!("../../../configs/pinned-16.conf"));
    assert_eq!((pinned.shards.count, pinned.shards.cpus.len()), (Some(16), 16));
    let world = super::World::default()
        .file("server-cert.pem", "x")
        .file("server-key.pem", "x")
        .file("ca.pem", "x");
    let tls = super::load_in(include_str!("../../../configs/tls.conf"), &world).unwrap().options;
    assert!(tls.tls.unwrap().verify);
}
