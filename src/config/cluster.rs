//! `cluster`, and what it shares with other links between servers.

use std::time::Duration;

use super::auth::read_peer_auth;
use super::duration::parse_ns;
use super::options::Permissions;
use super::options_peers::{ClusterOptions, Compression};
use super::permissions::read_permissions;
use super::reader::{Reader, put};
use super::tls::{Side, read_tls};
use super::value::{Node, Value};

/// The longest ping interval between servers of a cluster.
const PING_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Reads the `cluster` block.
pub(super) fn read_cluster(r: &mut Reader, node: &Node, out: &mut ClusterOptions) {
    let Some(map) = r.map(node, "Expected map to define cluster") else {
        return;
    };
    // Permissions of the block itself win over those inside its authorization.
    let mut own_permissions = None;
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "name" => put(&mut out.name, read_name(r, node, "cluster")),
            "listen" => put(&mut out.listen, r.listen(node)),
            "port" => put(&mut out.listen.port, r.port(node)),
            "host" | "net" => put(&mut out.listen.host, r.text(node)),
            "authorization" => {
                let auth = read_peer_auth(r, node, "Cluster");
                if let Some((auth, permissions)) = auth {
                    out.auth = auth;
                    if permissions.is_some() {
                        let reason = "setting \"permissions\" within cluster authorization block \
                                      is deprecated";
                        r.misuse(node, key, reason);
                        out.permissions = permissions;
                    }
                }
            }
            "routes" => match &node.value {
                Value::List(items) => out.routes = r.urls(items, "route"),
                _ => r.wrong_type(node, "[]interface {}"),
            },
            "tls" => out.tls = read_tls(r, node, Side::Peer),
            "cluster_advertise" | "advertise" => put(&mut out.advertise, r.text(node)),
            "no_advertise" => put(&mut out.no_advertise, r.flag(node)),
            "connect_retries" => put(&mut out.connect_retries, r.int(node)),
            "connect_backoff" => put(&mut out.connect_backoff, r.flag(node)),
            "permissions" => own_permissions = read_route_permissions(r, node),
            "pool_size" => {
                r.place("cluster.pool_size", node);
                put(&mut out.pool_size, r.int(node).filter(|size| *size != 0));
            }
            "accounts" => {
                r.place("cluster.accounts", node);
                put(&mut out.pinned_accounts, r.texts(node, "accounts"));
            }
            "compression" => put(&mut out.compression, read_compression(r, key, node, "s2_fast")),
            "ping_interval" => {
                out.ping_interval = r.duration(node, key);
                if out.ping_interval.is_some_and(|interval| interval > PING_INTERVAL_MAX) {
                    let text = "Cluster 'ping_interval' will reset to 30s which is the max for \
                                routes";
                    r.warning(node, text);
                }
            }
            "ping_max" => put(&mut out.pings_out_max, r.int(node)),
            "write_deadline" => out.write_deadline = r.duration(node, key),
            "write_timeout" => put(&mut out.write_timeout, r.write_timeout(node)),
            _ => r.unknown(key, node),
        }
    }
    if own_permissions.is_some() {
        out.permissions = own_permissions;
    }
}

/// The name of a cluster or gateway, which has no blanks.
pub(super) fn read_name(r: &mut Reader, node: &Node, what: &str) -> Option<String> {
    let name = r.text(node)?;
    if name.contains(' ') {
        r.error(node, format!("{what} name cannot contain spaces"));
        return None;
    }
    Some(name)
}

fn read_route_permissions(r: &mut Reader, node: &Node) -> Option<Permissions> {
    let permissions = read_permissions(r, node)?;
    if permissions.responses.is_some() {
        r.error(node, "Cluster permissions do not support dynamic responses");
        return None;
    }
    let exports = permissions.subscribe.iter().flat_map(|rules| {
        rules.allow.iter().flatten().chain(&rules.deny).filter(|rule| rule.queue.is_some())
    });
    let queued: Vec<String> = exports.map(|rule| rule.subject.clone()).collect();
    for subject in queued {
        let text = format!("cluster export allow: subject {subject:?} is not a valid subject");
        r.error(node, text);
    }
    Some(permissions)
}

/// Reads `compression`: a mode, a boolean, or a map with `mode` and `rtt_thresholds`. The mode
/// `on` means another one for each kind of link.
pub(super) fn read_compression(
    r: &mut Reader,
    key: &str,
    node: &Node,
    on: &str,
) -> Option<Compression> {
    let mut out = Compression::default();
    match &node.value {
        Value::Text(mode) => out.mode = read_mode(r, node, mode, on)?,
        Value::Bool(true) => out.mode = on.to_string(),
        Value::Bool(false) => out.mode = "off".to_string(),
        Value::Map(map) => {
            for (inner, node) in map.in_order() {
                match inner.to_ascii_lowercase().as_str() {
                    "mode" => {
                        if let Some(mode) = r.text(node) {
                            put(&mut out.mode, read_mode(r, node, &mode, on));
                        }
                    }
                    "rtt_thresholds" | "thresholds" | "rtts" | "rtt" => {
                        out.rtt_thresholds = read_thresholds(r, node);
                    }
                    _ => r.unknown(inner, node),
                }
            }
        }
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            r.error(node, format!("field {key:?} should be a boolean or a structure, got {is}"));
            return None;
        }
    }
    Some(out)
}

fn read_mode(r: &mut Reader, node: &Node, mode: &str, on: &str) -> Option<String> {
    let name = match mode.to_ascii_lowercase().as_str() {
        "on" | "enabled" | "true" => on,
        "not supported" | "not_supported" => "not supported",
        "disabled" | "off" | "false" => "off",
        "accept" => "accept",
        "auto" | "s2_auto" => "s2_auto",
        "s2_uncompressed" => "s2_uncompressed",
        "fast" | "s2_fast" => "s2_fast",
        "better" | "s2_better" => "s2_better",
        "best" | "s2_best" => "s2_best",
        _ => {
            r.error(node, format!("unsupported compression mode {mode:?}"));
            return None;
        }
    };
    Some(name.to_string())
}

fn read_thresholds(r: &mut Reader, node: &Node) -> Vec<Duration> {
    let Value::List(items) = &node.value else {
        r.wrong_type(node, "[]interface {}");
        return Vec::new();
    };
    let mut out: Vec<Duration> = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = r.text(item) else { continue };
        match parse_ns(&text) {
            Ok(ns) => out.push(Duration::from_nanos(u64::try_from(ns).unwrap_or(0))),
            Err(err) => r.error(item, err),
        }
    }
    let set: Vec<Duration> = out.iter().copied().filter(|rtt| !rtt.is_zero()).collect();
    if !set.is_sorted() {
        r.error(node, "RTT threshold values should be in ascending order");
    }
    if out.len() > 4 {
        r.error(node, "compression mode \"s2_auto\" should have no more than 4 RTT thresholds");
    }
    out
}
