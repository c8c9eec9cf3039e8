//! `tls` blocks, which are the same for every listener and every outgoing connection.

use std::time::Duration;

use super::duration;
use super::options_trust::{
    CertPair, HandshakeFirst, OcspCacheOptions, OcspOptions, OcspPeer, TlsOptions, TlsVersion,
};
use super::reader::{Reader, put};
use super::value::{Map, Node, Value};

/// How long `handshake_first: auto` waits for a client to begin.
const AUTO_FALLBACK: Duration = Duration::from_millis(50);

/// The cipher suites that can be named, those first that need no further permission.
const CIPHERS: [&str; 13] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];

const INSECURE_CIPHERS: [&str; 12] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

const CURVES: [&str; 7] = [
    "X25519",
    "CurveP256",
    "CurveP384",
    "CurveP521",
    "SecP384r1MLKEM1024",
    "SecP256r1MLKEM768",
    "X25519MLKEM768",
];

/// Who a `tls` block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Clients, and leaf nodes.
    Client,
    /// Clusters and gateways, which may check the URLs of one another.
    Peer,
}

/// Reads a `tls` block.
pub(super) fn read_tls(r: &mut Reader, node: &Node, side: Side) -> Option<TlsOptions> {
    let Value::Map(map) = &node.value else {
        r.wrong_type(node, "map[string]interface {}");
        return None;
    };
    let mut out = TlsOptions::default();
    for (key, node) in map.in_order() {
        let lower = key.to_ascii_lowercase();
        let known = read_file_key(r, &lower, node, &mut out)
            || read_verify_key(r, &lower, node, side, &mut out)
            || read_choice_key(r, &lower, key, node, &mut out);
        if !known && !node.used {
            r.error(node, format!("error parsing tls config, unknown field {key:?}"));
        }
    }
    check_files(r, node, &out);
    check_ciphers(r, map, &out);
    Some(out)
}

/// Keys that name files.
fn read_file_key(r: &mut Reader, key: &str, node: &Node, out: &mut TlsOptions) -> bool {
    match key {
        "cert_file" => put(&mut out.cert_file, read_filename(r, node, key)),
        "key_file" => put(&mut out.key_file, read_filename(r, node, key)),
        "ca_file" => put(&mut out.ca_file, read_filename(r, node, key)),
        "certs" | "certificates" => out.certs = read_certs(r, node),
        "cert_store"
        | "cert_match_by"
        | "cert_match"
        | "ca_certs_match"
        | "cert_match_skip_invalid" => {
            r.error(node, format!("{key:?} is for the certificate store of Windows only"));
        }
        _ => return false,
    }
    true
}

fn read_filename(r: &mut Reader, node: &Node, key: &str) -> Option<Option<String>> {
    match &node.value {
        Value::Text(path) => Some(Some(path.clone()).filter(|p| !p.is_empty())),
        Value::Missing => None,
        _ => {
            r.error(node, format!("error parsing tls config, expected '{key}' to be filename"));
            None
        }
    }
}

fn read_tls_flag(r: &mut Reader, node: &Node, key: &str) -> Option<bool> {
    match node.value {
        Value::Bool(on) => Some(on),
        Value::Missing => None,
        _ => {
            r.error(node, format!("error parsing tls config, expected '{key}' to be a boolean"));
            None
        }
    }
}

/// Keys that say who must show what.
fn read_verify_key(
    r: &mut Reader,
    key: &str,
    node: &Node,
    side: Side,
    out: &mut TlsOptions,
) -> bool {
    match key {
        "insecure" => put(&mut out.insecure, read_tls_flag(r, node, key)),
        "verify" => out.verify |= read_tls_flag(r, node, key).unwrap_or(false),
        "verify_and_map" => {
            out.verify_and_map = read_tls_flag(r, node, key).unwrap_or(false);
            out.verify |= out.verify_and_map;
            if out.verify_and_map {
                r.known("tls.verify_and_map", node, |_| {});
            }
        }
        "verify_cert_and_check_known_urls" => {
            out.check_known_urls = read_tls_flag(r, node, key).unwrap_or(false);
            out.verify |= out.check_known_urls;
            if out.check_known_urls && side == Side::Client {
                r.error(node, "verify_cert_and_check_known_urls not supported in this context");
            }
        }
        "pinned_certs" => {
            out.pinned_certs = read_pinned_certs(r, node);
            if !out.pinned_certs.is_empty() {
                r.known("tls.pinned_certs", node, |_| {});
            }
        }
        "ocsp_peer" => {
            out.ocsp_peer = read_ocsp_peer(r, node);
            if out.ocsp_peer.as_ref().is_some_and(|peer| peer.verify) {
                r.known("tls.ocsp_peer", node, |_| {});
            }
        }
        _ => return false,
    }
    true
}

/// Keys that choose algorithms and times.
fn read_choice_key(
    r: &mut Reader,
    lower: &str,
    key: &str,
    node: &Node,
    out: &mut TlsOptions,
) -> bool {
    match lower {
        "allow_insecure_cipher_suites" => {
            put(&mut out.allow_insecure_cipher_suites, read_tls_flag(r, node, lower));
        }
        "cipher_suites" => out.cipher_suites = read_ciphers(r, node),
        "curve_preferences" => {
            out.curve_preferences =
                read_names(r, node, lower, "curve preference", |name| CURVES.contains(&name));
        }
        "min_version" => put(&mut out.min_version, read_version(r, node)),
        "timeout" => put(&mut out.timeout, r.timeout(node, "tls").flatten()),
        "connection_rate_limit" => match node.value {
            Value::Int(rate) => out.rate_max = u64::try_from(rate).unwrap_or(0),
            Value::Missing => {}
            _ => r.error(node, "error parsing tls config, 'connection_rate_limit' wrong type"),
        },
        "handshake_first" | "first" | "immediate" => {
            put(&mut out.handshake_first, read_handshake_first(r, key, node));
        }
        _ => return false,
    }
    true
}

fn read_ciphers(r: &mut Reader, node: &Node) -> Vec<String> {
    read_names(r, node, "cipher_suites", "cipher", |name| {
        CIPHERS.contains(&name) || INSECURE_CIPHERS.contains(&name)
    })
}

/// A list of names that must be known and not be empty.
fn read_names(
    r: &mut Reader,
    node: &Node,
    key: &str,
    kind: &str,
    is_known: impl Fn(&str) -> bool,
) -> Vec<String> {
    let Value::List(items) = &node.value else {
        r.wrong_type(node, "[]interface {}");
        return Vec::new();
    };
    if items.is_empty() {
        r.error(node, format!("error parsing tls config, '{key}' cannot be empty"));
    }
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match r.text(item) {
            Some(name) if is_known(&name) => out.push(name),
            Some(name) => r.error(item, format!("unrecognized {kind} {name}")),
            None => {}
        }
    }
    out
}

fn read_version(r: &mut Reader, node: &Node) -> Option<TlsVersion> {
    let reason = match &node.value {
        Value::Text(version) => match version.as_str() {
            "1.2" => return Some(TlsVersion::V12),
            "1.3" => return Some(TlsVersion::V13),
            "1.0" | "1.1" => format!("unsupported TLS version: TLS {version}"),
            _ => format!("unknown version: {version}"),
        },
        Value::Missing => return None,
        other => format!("'min_version' wrong type: {}", other.shown()),
    };
    r.error(node, format!("error parsing tls config: {reason}"));
    None
}

fn read_handshake_first(r: &mut Reader, key: &str, node: &Node) -> Option<HandshakeFirst> {
    let text = match &node.value {
        Value::Bool(true) => return Some(HandshakeFirst::Yes),
        Value::Bool(false) => return Some(HandshakeFirst::No),
        Value::Text(text) => text,
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            r.error(node, format!("field {key:?} should be a boolean or a string, got {is}"));
            return None;
        }
    };
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" => return Some(HandshakeFirst::Yes),
        "false" | "off" => return Some(HandshakeFirst::No),
        "auto" | "auto_fallback" => return Some(HandshakeFirst::Within(AUTO_FALLBACK)),
        _ => {}
    }
    match duration::parse_ns(text).ok().and_then(|ns| u64::try_from(ns).ok()) {
        Some(0) => Some(HandshakeFirst::Yes),
        Some(ns) => Some(HandshakeFirst::Within(Duration::from_nanos(ns))),
        None => {
            r.error(node, format!("field {key:?}'s value {text:?} is invalid"));
            None
        }
    }
}

fn read_pinned_certs(r: &mut Reader, node: &Node) -> Vec<String> {
    let Value::List(items) = &node.value else {
        if node.value != Value::Missing {
            r.error(
                node,
                "error parsing tls config, expected 'pinned_certs' to be a list of hex-encoded \
                 sha256 of DER encoded SubjectPublicKeyInfo",
            );
        }
        return Vec::new();
    };
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let Some(hash) = r.text(item).map(|hash| hash.to_ascii_lowercase()) else {
            continue;
        };
        if hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit()) {
            out.push(hash);
        } else {
            let text = format!(
                "error parsing tls config, 'pinned_certs' key {hash} does not look like \
                 hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"
            );
            r.error(item, text);
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

fn read_certs(r: &mut Reader, node: &Node) -> Vec<CertPair> {
    let wrong = "error parsing certificates config: unsupported type";
    let Value::List(items) = &node.value else {
        r.error(node, format!("{wrong} {}", node.value.type_name()));
        return Vec::new();
    };
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let Value::Map(map) = &item.value else {
            r.error(item, format!("{wrong} {}", item.value.type_name()));
            continue;
        };
        let mut pair = CertPair::default();
        for (key, node) in map.in_order() {
            let Value::Text(path) = &node.value else {
                r.error(node, format!("{wrong} {}", node.value.type_name()));
                continue;
            };
            match key {
                "cert_file" => pair.cert_file.clone_from(path),
                "key_file" => pair.key_file.clone_from(path),
                _ => {
                    r.error(node, format!("error parsing tls certs config, unknown field {key:?}"));
                }
            }
        }
        if pair.cert_file.is_empty() || pair.key_file.is_empty() {
            r.error(
                item,
                "error parsing certificates config: both 'cert_file' and 'cert_key' options are \
                 required",
            );
        } else {
            out.push(pair);
        }
    }
    out
}

/// A certificate needs its key, and all files that are named must be there.
fn check_files(r: &mut Reader, node: &Node, tls: &TlsOptions) {
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => r.error(node, "missing 'key_file' in TLS configuration"),
        (None, Some(_)) => r.error(node, "missing 'cert_file' in TLS configuration"),
        _ => {}
    }
    if tls.cert_file.is_some() && !tls.certs.is_empty() {
        let text =
            "error parsing tls config, cannot combine 'cert_file' option with 'certs' option";
        r.error(node, text);
    }
    let pair = "error parsing X509 certificate/key pair: ";
    let pairs = tls.certs.iter().flat_map(|pair| [&pair.cert_file, &pair.key_file]);
    for path in tls.cert_file.iter().chain(&tls.key_file).chain(pairs) {
        r.files.push((node.pos.clone(), path.clone(), pair));
    }
    if let Some(path) = &tls.ca_file {
        r.files.push((node.pos.clone(), path.clone(), ""));
    }
}

fn check_ciphers(r: &mut Reader, map: &Map, tls: &TlsOptions) {
    let insecure: Vec<&str> = tls
        .cipher_suites
        .iter()
        .map(String::as_str)
        .filter(|name| INSECURE_CIPHERS.contains(name))
        .collect();
    if insecure.is_empty() || tls.allow_insecure_cipher_suites {
        return;
    }
    if let Some(node) = map.get("cipher_suites") {
        let names = insecure.join(", ");
        let text = format!(
            "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: \
             {names}"
        );
        r.error(node, text);
    }
}

/// A number of seconds, or a duration.
fn read_seconds(r: &mut Reader, node: &Node, block: &str) -> Option<Duration> {
    r.timeout(node, block).map(Option::unwrap_or_default)
}

fn read_ocsp_peer(r: &mut Reader, node: &Node) -> Option<OcspPeer> {
    let mut out = OcspPeer::default();
    let map = match &node.value {
        Value::Bool(on) => {
            out.verify = *on;
            return Some(out);
        }
        Value::Map(map) => map,
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            r.error(node, format!("error parsing ocsp peer config: unsupported type {is}"));
            return None;
        }
    };
    let block = "ocsp peer";
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "verify" => put(&mut out.verify, r.flag(node)),
            "ca_timeout" => put(&mut out.ca_timeout, read_seconds(r, node, block)),
            "allowed_clockskew" => {
                put(&mut out.allowed_clockskew, read_seconds(r, node, block));
            }
            "warn_only" => put(&mut out.warn_only, r.flag(node)),
            "unknown_is_good" => put(&mut out.unknown_is_good, r.flag(node)),
            "allow_when_ca_unreachable" => put(&mut out.allow_when_ca_unreachable, r.flag(node)),
            "cache_ttl_when_next_update_unset" => {
                put(&mut out.ttl_unset_next_update, read_seconds(r, node, block));
            }
            _ => r.unknown(key, node),
        }
    }
    Some(out)
}

/// Reads `ocsp`: a boolean, or a map with `mode` and `url`.
pub(super) fn read_ocsp(r: &mut Reader, node: &Node) -> Option<OcspOptions> {
    let mut out = OcspOptions { mode: "auto".into(), url: None };
    let map = match &node.value {
        Value::Bool(on) => {
            out.mode = if *on { "auto" } else { "never" }.into();
            return Some(out);
        }
        Value::Map(map) => map,
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            r.error(node, format!("error parsing ocsp config: unsupported type {is}"));
            return None;
        }
    };
    for (key, node) in map.in_order() {
        match key {
            "mode" => match r.text(node).map(|mode| mode.to_ascii_lowercase()) {
                Some(mode) if ["always", "must", "never", "auto"].contains(&mode.as_str()) => {
                    out.mode = mode;
                }
                Some(_) => {
                    r.error(node, "error parsing ocsp config: unsupported ocsp mode string");
                }
                None => {}
            },
            "url" => out.url = r.text(node),
            // nats-server never accepts this one either.
            "urls" => r.wrong_type(node, "[]string"),
            _ => r.unknown(key, node),
        }
    }
    Some(out)
}

/// Reads `ocsp_cache`: a boolean or a map.
pub(super) fn read_ocsp_cache(r: &mut Reader, node: &Node) -> OcspCacheOptions {
    let mut out = OcspCacheOptions::default();
    let map = match &node.value {
        Value::Bool(on) => {
            out.kind = if *on { "local" } else { "none" }.into();
            return out;
        }
        Value::Map(map) => map,
        Value::Missing => return out,
        other => {
            let is = other.type_name();
            r.error(node, format!("error parsing ocsp cache config: unsupported type {is}"));
            return out;
        }
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "type" => match r.text(node).map(|kind| kind.to_ascii_lowercase()) {
                Some(kind) if kind == "none" || kind == "local" => out.kind = kind,
                Some(kind) => r.error(node, format!("error parsing ocsp cache type {kind:?}")),
                None => {}
            },
            "local_store" => put(&mut out.local_store, r.text(node)),
            "preserve_revoked" => put(&mut out.preserve_revoked, r.flag(node)),
            "save_interval" => put(&mut out.save_interval, read_seconds(r, node, "ocsp cache")),
            _ => r.unknown(key, node),
        }
    }
    out
}
