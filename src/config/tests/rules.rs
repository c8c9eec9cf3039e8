//! Rules between keys, with nats-server's texts.

use super::{World, load_in};
use crate::config::{FlagOverrides, check, configure};

fn broken(text: &str) -> Vec<String> {
    let world = World::default().file("c", "x").file("k", "x");
    let loaded = load_in(text, &world).unwrap_or_else(|e| panic!("{text}\n{e}"));
    check(&loaded.options, &loaded.places).iter().map(ToString::to_string).collect()
}

/// Texts that break one rule each, and what is said about them.
const BROKEN: [(&str, &str); 24] = [
    (
        "lame_duck_duration: 30s\nlame_duck_grace_period: 30s",
        "t.conf:2:1: lame duck grace period (30s) should be strictly lower than lame duck \
             duration (30s)",
    ),
    (
        "debug: true\nmax_payload: 2MB\nmax_pending: 1MB",
        "t.conf:2:1: max_payload (2097152) cannot be higher than max_pending (1048576)",
    ),
    ("no_auth_user: x", "t.conf:1:0: no_auth_user: \"x\" present, but users/nkeys are not defined"),
    (
        "authorization { users: [{user: a}] }\nno_auth_user: x",
        "t.conf:2:1: no_auth_user: \"x\" not present as user or nkey in authorization block \
             or account configuration",
    ),
    ("default_sentinel: x", "t.conf:1:0: default sentinel requires operators and accounts"),
    ("https: 8443", "t.conf:1:0: TLS cert and key required for HTTPS"),
    (
        "http: 8222\nhttps: 8443\ntls { certs: [{cert_file: c, key_file: k}] }",
        "t.conf:1:0: can't specify both HTTP (8222) and HTTPs (8443) ports",
    ),
    (
        "cluster { name: a, port: 1 }\ngateway { name: b, port: 2 }",
        "t.conf:2:11: cluster name conflicts between cluster and gateway definitions",
    ),
    (
        "cluster { port: 1, pool_size: -1, accounts: [A ] }",
        "t.conf:1:19: pool_size cannot be negative if pinned accounts are specified",
    ),
    (
        "cluster { port: 1, accounts: [A , A ] }",
        "t.conf:1:19: found duplicate account name \"A\" in pinned accounts list [\"A\" \"A\"]",
    ),
    ("websocket { port: 1 }", "t.conf:1:0: websocket requires TLS configuration"),
    (
        "websocket { port: 1, no_tls: true, authorization { user: x } }\nauthorization { \
             users: [{user: a}] }",
        "t.conf:1:0: websocket authentication username not compatible with presence of \
             users/nkeys",
    ),
    (
        "leafnodes { port: 1, authorization { account: A } }",
        "t.conf:1:21: cannot find local account \"A\" specified in leafnode authorization",
    ),
    (
        "leafnodes { port: 1 }\ngateway { name: g, port: 2 }",
        "t.conf:1:0: leaf nodes and gateways (both being defined) require a system account \
             to also be configured",
    ),
    (
        "gateway { name: g }",
        "t.conf:1:10: gateway \"g\" has no port specified (select -1 for random port)",
    ),
    (
        "jetstream { domain: \"a.b\" }",
        "t.conf:1:12: invalid domain name: may not contain ., * or >",
    ),
    (
        "jetstream: true\ncluster { port: 1, name: c }",
        "t.conf:1:0: jetstream cluster requires `server_name` to be set",
    ),
    (
        "jetstream: true\nserver_name: s\ncluster { port: 1 }",
        "t.conf:1:0: jetstream cluster requires `cluster.name` to be set",
    ),
    (
        "jetstream { extension_hint: x }\nserver_name: s\ncluster { port: 1, name: c }",
        "t.conf:1:12: expected 'no_extend' for string value, got 'x'",
    ),
    (
        "default_js_domain { A: d }",
        "t.conf:1:0: in non operator mode, `default_js_domain` references non existing \
             account \"A\"",
    ),
    (
        "shards { count: 4, cpus: \"0-1\" }",
        "t.conf:1:9: shards.count (4) is more than the 2 cpus to pin them to",
    ),
    ("system_account: A", "t.conf:1:0: error resolving system account: account missing"),
    (
        "tls { timeout: 1 }",
        "t.conf:1:0: TLS configuration has no certificate: cert_file and key_file, or certs, are \
         needed",
    ),
    (
        "mqtt { port: 1 }",
        "t.conf:1:0: mqtt requires JetStream to be enabled if running in standalone mode",
    ),
];

#[test]
fn each_rule_names_its_place() {
    for (text, wanted) in BROKEN {
        assert_eq!(broken(text), [wanted], "{text}");
    }
}

#[test]
fn a_file_that_breaks_no_rule_is_silent() {
    let text = "port: -1\nhttp: -1\nauthorization { users: [{user: a}] }\nno_auth_user: a\n\
                shards { count: 2, cpus: \"0-3\" }\n";
    assert_eq!(broken(text), [""; 0]);
}

#[test]
fn everything_wrong_with_file_flags_and_rules_is_told_at_once() {
    let world = World::default().file("x.conf", "foo: 1\nmax_payload: 2MB\nmax_pending: 1MB\n");
    let flags = FlagOverrides {
        config: Some("x.conf".into()),
        port: Some(70_000),
        ..FlagOverrides::default()
    };
    assert_eq!(
        configure(&flags, &world).unwrap_err().to_string(),
        "x.conf:1:0: unknown field \"foo\"\n\
         --port: port 70000 is not between -1 and 65535\n\
         x.conf:2:1: max_payload (2097152) cannot be higher than max_pending (1048576)"
    );
}

#[test]
fn without_a_file_there_are_flags_and_defaults() {
    let flags = FlagOverrides { user: Some("u".into()), ..FlagOverrides::default() };
    let configured = configure(&flags, &World::default()).unwrap();
    assert_eq!(configured.digest, None);
    assert_eq!(configured.options.auth.user, "u");
    assert_eq!(configured.options.listen.port.to_string(), "4222");
}

#[test]
fn a_single_user_by_flag_loses_to_users_and_excludes_those_of_accounts() {
    let world = World::default()
        .file("users.conf", "authorization { users: [{user: a}] }\n")
        .file("accounts.conf", "accounts { A { users: [{user: a}] } }\n");
    let flags = |path: &str| FlagOverrides {
        config: Some(path.into()),
        user: Some("u".into()),
        ..FlagOverrides::default()
    };
    let configured = configure(&flags("users.conf"), &world).unwrap();
    assert_eq!(configured.options.auth.user, "");
    assert_eq!(
        configured.warnings[0].to_string(),
        "--user has no effect, since the configuration file has users"
    );
    assert_eq!(
        configure(&flags("accounts.conf"), &world).unwrap_err().to_string(),
        "accounts.conf:1:15: Can not have a single user/pass and accounts"
    );
}

#[test]
fn certificates_named_by_flags_must_be_there() {
    let flags = FlagOverrides {
        tls_cert: Some("c.pem".into()),
        tls_key: Some("k.pem".into()),
        ..FlagOverrides::default()
    };
    let world = World::default().file("c.pem", "x");
    let errors = configure(&flags, &world).unwrap_err().to_string();
    assert_eq!(errors, "open k.pem: no such file or directory");
    let options = configure(&flags, &world.file("k.pem", "y")).unwrap().options;
    assert!(!options.tls.unwrap().files_digest.is_empty());
}
