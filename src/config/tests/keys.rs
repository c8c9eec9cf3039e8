//! Which keys are served, which only warn and which are refused.

use super::{World, errors_of, load_in, warnings_of};
use crate::config::{Kind, check_only};

const KEY: &str = "UCNGL4W5QX66CFX6A6DCBVDH5VOHMI7B2UZZU7TXAUQQSI2JPHULCKBR";

#[test]
fn a_key_that_is_not_served_gives_one_warning_with_its_name_and_place() {
    let cases = [
        ("cluster { port: 6222, name: c, tls { timeout: 3 } }", "cluster"),
        ("gateway { name: g, port: 7222 }", "gateway"),
        ("leaf { port: 7422, tls { verify: true } }", "leafnodes"),
        ("ws { port: 8080, no_tls: true }", "websocket"),
        ("mqtt { port: 1883 }", "mqtt"),
        ("default_js_domain { A: d }", "default_js_domain"),
        ("feature_flags { x: true }", "feature_flags"),
        ("mappings { a: b }", "mappings"),
        ("ocsp: true", "ocsp"),
        ("ocsp_cache: true", "ocsp_cache"),
        ("proxies { trusted: [] }", "proxies"),
        ("proxy_protocol: true", "proxy_protocol"),
        ("prof_port: 6060", "prof_port"),
        ("trace_headers: true", "trace_headers"),
        ("max_traced_msg_len: 10", "max_traced_msg_len"),
        ("write_timeout: retry", "write_timeout"),
        ("disable_sublist_cache: true", "disable_sublist_cache"),
        ("no_sublist_cache: true", "disable_sublist_cache"),
    ];
    for (text, name) in cases {
        let line = format!("t.conf:1:0: {name:?} is not served yet and has no effect");
        assert_eq!(warnings_of(text), [line], "{text}");
    }
}

#[test]
fn monitoring_over_https_warns_once() {
    let world = World::default().file("c.pem", "x").file("k.pem", "y");
    for key in ["https_port: -1", "https: \"127.0.0.1:-1\""] {
        let text = format!("{key}\ntls {{ cert_file: c.pem, key_file: k.pem }}\n");
        let warnings = load_in(&text, &world).unwrap().warnings;
        let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["t.conf:1:0: \"https\" is not served yet and has no effect"], "{key}");
    }
}

#[test]
fn what_is_off_anyway_gives_no_warning() {
    for text in ["jetstream: false", "jetstream { enabled: false }", "ocsp: false"] {
        assert_eq!(warnings_of(text), [""; 0], "{text}");
    }
    for text in ["proxy_protocol: false", "store_dir: x", "prof_port: 0"] {
        assert_eq!(warnings_of(text), [""; 0], "{text}");
    }
    for text in ["https_port: 0", "trace_headers: false", "max_traced_msg_len: 0"] {
        assert_eq!(warnings_of(text), [""; 0], "{text}");
    }
    for text in ["write_timeout: close", "write_timeout: default", "no_sublist_cache: false"] {
        assert_eq!(warnings_of(text), [""; 0], "{text}");
    }
}

#[test]
fn keys_of_jetstream_give_one_warning_each_or_none() {
    let served = "jetstream {
 store_dir: d
 max_mem: 1G
 max_file: 1G
 sync_interval: \"1m\"
 stuck_consumer: \"30s\"
 scrub_interval: \"12h\"
 scrub_rate: 32M
 read_cache: 16M
 restore_timeout: \"1m\"
 reserved_files: 100
 max_buffered_msgs: 10
 max_concurrent_io: 10
 domain: hub
 strict: false
 max_buffered_size: 1M
 limits {
  max_ack_pending: 5
  max_request_batch: 5
  duplicate_window: \"1m\"
  default_max_consumers: 5
  batch { max_inflight_per_stream: 5, max_msgs: 5, timeout: \"1s\" }
 }
}
";
    assert_eq!(warnings_of(served), [""; 0]);
    for (text, name) in [
        ("extension_hint: no_extend", "extension_hint"),
        ("unique_tag: \"az:\"", "unique_tag"),
        ("max_outstanding_catchup: 1M", "max_outstanding_catchup"),
        ("request_queue_limit: 10", "request_queue_limit"),
        ("info_queue_limit: 10", "info_queue_limit"),
        ("meta_compact: 10", "meta_compact"),
        ("meta_compact_size: 10", "meta_compact_size"),
        ("meta_compact_sync: true", "meta_compact_sync"),
    ] {
        let line = format!("t.conf:2:2: \"jetstream.{name}\" is not served yet and has no effect");
        let text = format!("jetstream {{\n {text}\n domain: hub\n}}\n");
        assert_eq!(warnings_of(&text), [line], "{text}");
    }
}

#[test]
fn a_key_in_a_tpm_is_refused_and_one_in_the_file_is_taken() {
    for text in ["key: secret", "ek: secret, cipher: aes", "encryption_key: s, prev_key: t"] {
        assert_eq!(warnings_of(&format!("jetstream {{ store_dir: d, {text} }}\n")), [""; 0]);
    }
    let errors = errors_of("jetstream {\n tpm { keys_file: k, encryption_password: p }\n}\n");
    let start = "\"jetstream.tpm\" is not served yet and can not be ignored";
    assert!(errors.iter().any(|line| line.contains(start)), "{errors:?}");
    assert!(errors.iter().all(|line| !line.contains("secret")), "{errors:?}");
}

#[test]
fn account_keys_that_are_not_served_give_one_warning_each() {
    let text = concat!(
        "accounts {\n A {\n  exports: [{stream: a}, {service: b, latency: c}]\n",
        "  jetstream: enabled\n  mappings { a: b }\n  msg_trace: x\n }\n",
        " B { imports: [{stream: {account: A, subject: a}, allow_trace: true}] }\n}\n"
    );
    assert_eq!(
        warnings_of(text),
        [
            "t.conf:3:39: \"account.exports.latency\" is not served yet and has no effect",
            "t.conf:5:3: \"account.mappings\" is not served yet and has no effect",
            "t.conf:6:3: \"account.msg_trace\" is not served yet and has no effect",
            "t.conf:8:51: \"account.allow_trace\" is not served yet and has no effect",
        ]
    );
}

#[test]
fn what_would_be_unsafe_to_ignore_is_an_error() {
    let issuer = "AAAZR2WDWBXTGYLSXRQDLS3JIJ2E6FOTD3VU22RGSWXRYZDXZGFCQVQB";
    let cases = [
        ("operator: \"op.jwt\"".to_string(), "operator"),
        ("resolver: MEMORY".to_string(), "resolver"),
        ("resolver_preload { }".to_string(), "resolver_preload"),
        ("resolver_pinned_accounts: [A ]".to_string(), "resolver_pinned_accounts"),
        ("tls { verify_and_map: true }".to_string(), "tls.verify_and_map"),
        ("tls { ocsp_peer: true }".to_string(), "tls.ocsp_peer"),
        ("authorization { proxy_required: true }".to_string(), "proxy_required"),
        (
            "authorization { users: [{user: a, proxy_required: true}] }".to_string(),
            "proxy_required",
        ),
        (
            format!("authorization {{ auth_callout {{ issuer: {issuer}, auth_users: [a ] }} }}"),
            "auth_callout",
        ),
        ("trusted_keys: x".to_string(), "trusted_keys"),
    ];
    for (text, name) in cases {
        let errors = errors_of(&text);
        let start = format!("{name:?} is not served yet and can not be ignored: ");
        assert!(errors.iter().any(|line| line.contains(&start)), "{text}: {errors:?}");
    }
}

#[test]
fn unsafe_keys_inside_a_block_without_effect_do_not_matter() {
    let text = "leafnodes { port: 7422, tls { verify_and_map: true } }";
    assert_eq!(warnings_of(text).len(), 1);
}

#[test]
fn an_nkey_user_is_accepted() {
    let text = format!("authorization {{ users: [{{nkey: {KEY}}}] }}");
    let options = super::options_of(&text);
    assert!(options.auth.users[0].is_nkey);
    assert_eq!(options.auth.users[0].name, KEY);
}

#[test]
fn all_errors_are_reported_at_once_with_their_places() {
    let text = "foo: 1\nport: x\nmax_payload: 3GB\nauthorization {\n users: [\n  {user: a, \
                permissions: {publish: \"a..b\"}}\n  {pass: x}\n ]\n bar: 1\n}\nping_interval: y\n";
    let errors = errors_of(text);
    assert_eq!(
        errors,
        [
            "t.conf:1:0: unknown field \"foo\"",
            "t.conf:2:1: interface conversion: interface {} is string, not int64",
            "t.conf:3:1: max_payload value is too big",
            "t.conf:6:27: subject \"a..b\" is not a valid subject",
            "t.conf:7:4: User entry requires a user",
            "t.conf:9:2: unknown field \"bar\"",
            "t.conf:11:1: error parsing ping_interval: time: invalid duration \"y\"",
        ]
    );
}

#[test]
fn a_check_fails_on_what_nats_server_warns_about() {
    let world = World::default()
        .file("ok.conf", "port: 4222\n")
        .file("seconds.conf", "ping_interval: 5\n")
        .file("empty.conf", "")
        .file("ocsp.conf", "ocsp: true\n");
    assert!(check_only("ok.conf", &world).is_ok());
    let errors = check_only("seconds.conf", &world).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "seconds.conf:1:0: invalid use of field \"ping_interval\": ping_interval should be \
         converted to a duration"
    );
    let errors = check_only("empty.conf", &world).unwrap_err();
    assert_eq!(errors.to_string(), "empty.conf: config has no values or is empty");
    let errors = check_only("none.conf", &world).unwrap_err();
    assert_eq!(errors.to_string(), "open none.conf: no such file or directory");
    let loaded = check_only("ocsp.conf", &world).unwrap();
    assert_eq!(loaded.warnings[0].kind, Kind::NotServed);
}

#[test]
fn certificates_must_be_there() {
    let text = "tls { cert_file: a.pem, key_file: b.pem }\n";
    let world = World::default().file("a.pem", "x");
    let errors = load_in(text, &world).unwrap_err().to_string();
    let wanted = "t.conf:1:0: error parsing X509 certificate/key pair: open b.pem: no such file or \
                  directory";
    assert_eq!(errors, wanted);
    assert!(load_in(text, &world.file("b.pem", "y")).is_ok());
}

#[test]
fn secrets_do_not_print() {
    let text = "authorization { users: [{user: a, password: hunter2}] }\n";
    let options = super::options_of(text);
    assert!(!format!("{options:?}").contains("hunter2"));
    let text = "authorization { user: a, password: hunter2 }\nfoo: 1\n";
    assert!(!errors_of(text).concat().contains("hunter2"));
}
