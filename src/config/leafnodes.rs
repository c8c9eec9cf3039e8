//! `leafnodes`: servers that connect like clients, and servers to connect to in that way.

use super::cluster::read_compression;
use super::nkey;
use super::options_peers::{LeafAuth, LeafNodeOptions, LeafUser, RemoteLeaf};
use super::permissions::read_subjects;
use super::reader::{Reader, put, redacted};
use super::tls::{Side, read_tls};
use super::value::{Map, Node, Value};

/// Reads the `leafnodes` block.
pub(super) fn read_leafnodes(r: &mut Reader, node: &Node, out: &mut LeafNodeOptions) {
    let Some(map) = r.map(node, "Expected map to define a leafnode") else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "listen" => put(&mut out.listen, r.listen(node)),
            "port" => put(&mut out.listen.port, r.port(node)),
            "host" | "net" => put(&mut out.listen.host, r.text(node)),
            "authorization" => {
                r.place("leafnodes.authorization", node);
                put(&mut out.auth, read_auth(r, node));
            }
            "remotes" => {
                r.place("leafnodes.remotes", node);
                out.remotes = read_remotes(r, node);
            }
            "reconnect" | "reconnect_delay" | "reconnect_interval" => {
                put(&mut out.reconnect, r.duration(node, "reconnect").filter(|d| !d.is_zero()));
            }
            "dial_timeout" => put(&mut out.dial_timeout, r.duration(node, key)),
            "tls" => out.tls = read_tls(r, node, Side::Client),
            "leafnode_advertise" | "advertise" => put(&mut out.advertise, r.text(node)),
            "no_advertise" => put(&mut out.no_advertise, r.flag(node)),
            "min_version" | "minimum_version" => put(&mut out.min_version, read_version(r, node)),
            "compression" => put(&mut out.compression, read_compression(r, key, node, "s2_auto")),
            "isolate_leafnode_interest" | "isolate" => put(&mut out.isolate, r.flag(node)),
            "write_deadline" => out.write_deadline = r.duration(node, key),
            "write_timeout" => put(&mut out.write_timeout, r.write_timeout(node)),
            _ => r.unknown(key, node),
        }
    }
}

fn read_version(r: &mut Reader, node: &Node) -> Option<String> {
    let version = r.text(node)?;
    let bare = version.strip_prefix('v').unwrap_or(&version);
    let bare = bare.split('-').next().unwrap_or_default();
    let parts: Vec<Option<u32>> = bare.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_slice() {
        [Some(major), Some(minor), Some(_)] if (*major, *minor) >= (2, 8) => Some(version),
        [Some(_), Some(_), Some(_)] => {
            r.error(node, "the minimum version should be at least 2.8.0");
            None
        }
        _ => {
            r.error(node, "invalid leafnode's minimum version: invalid semver");
            None
        }
    }
}

fn read_auth(r: &mut Reader, node: &Node) -> Option<LeafAuth> {
    let Value::Map(map) = &node.value else {
        r.wrong_type(node, "map[string]interface {}");
        return None;
    };
    let mut out = LeafAuth::default();
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "user" | "username" => put(&mut out.user, r.text(node)),
            "pass" | "password" => put(&mut out.password, r.secret(node)),
            "nkey" => {
                put(&mut out.nkey, r.text(node));
                if !nkey::is_public(&out.nkey, nkey::KeyKind::User) {
                    r.error(node, "Not a valid public nkey for leafnode authorization");
                }
            }
            "timeout" => {
                put(&mut out.timeout, r.auth_timeout(key, node, "leafnode authorization"));
            }
            "users" => out.users = read_users(r, node),
            "account" => put(&mut out.account, r.text(node)),
            "proxy_required" => put(&mut out.proxy_required, r.flag(node)),
            _ => r.unknown(key, node),
        }
    }
    if !out.users.is_empty() {
        if !out.user.is_empty() {
            r.error(node, "can not have a single user/pass and a users array");
        }
        if !out.nkey.is_empty() {
            r.error(node, "can not have a single nkey and a users array");
        }
    }
    for (index, user) in out.users.iter().enumerate() {
        if out.users.iter().take(index).any(|other| other.name == user.name) {
            let name = &user.name;
            let text = format!("duplicate user {name:?} detected in leafnode authorization");
            r.error(node, text);
        }
    }
    Some(out)
}

fn read_users(r: &mut Reader, node: &Node) -> Vec<LeafUser> {
    let items = r.list(node, "Expected users field to be an array").unwrap_or_default();
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let Some(map) = r.map(item, "Expected user entry to be a map/struct") else {
            continue;
        };
        let mut user = LeafUser::default();
        for (key, node) in map.in_order() {
            match key.to_ascii_lowercase().as_str() {
                "user" | "username" => put(&mut user.name, r.text(node)),
                "pass" | "password" => put(&mut user.password, r.secret(node)),
                "account" => put(&mut user.account, r.text(node)),
                "proxy_required" => put(&mut user.proxy_required, r.flag(node)),
                _ => r.unknown(key, node),
            }
        }
        out.push(user);
    }
    out
}

fn read_remotes(r: &mut Reader, node: &Node) -> Vec<RemoteLeaf> {
    let items = r.list(node, "Expected remotes field to be an array").unwrap_or_default();
    let mut out: Vec<RemoteLeaf> = Vec::with_capacity(items.len());
    for item in items {
        let Value::Map(map) = &item.value else {
            let shown = item.value.shown();
            let text = format!("Expected remote leafnode entry to be a map/struct, got {shown}");
            r.error(item, text);
            continue;
        };
        let remote = read_remote(r, item, map);
        let twin = out.iter().any(|other| {
            (&other.urls, &other.account, &other.credentials)
                == (&remote.urls, &remote.account, &remote.credentials)
        });
        if twin {
            let url = remote.urls.first().map(|url| redacted(url)).unwrap_or_default();
            r.error(item, format!("duplicate remote {url}"));
        } else {
            out.push(remote);
        }
    }
    out
}

fn read_remote(r: &mut Reader, node: &Node, map: &Map) -> RemoteLeaf {
    let mut out = RemoteLeaf::default();
    for (key, node) in map.in_order() {
        let lower = key.to_ascii_lowercase();
        let known = read_remote_link(r, &lower, key, node, &mut out)
            || read_remote_rules(r, &lower, key, node, &mut out);
        if !known {
            r.unknown(key, node);
        }
    }
    if !out.credentials.is_empty() && !out.seed.is_empty() {
        r.error(node, "Remote leafnode can not have both creds and nkey defined");
    }
    check_urls(r, node, &out);
    out
}

/// Keys about how to reach the remote and who to be there.
fn read_remote_link(
    r: &mut Reader,
    lower: &str,
    key: &str,
    node: &Node,
    out: &mut RemoteLeaf,
) -> bool {
    match lower {
        "url" | "urls" => match &node.value {
            Value::List(items) => out.urls = r.urls(items, "leafnode"),
            Value::Text(_) => out.urls.extend(r.url(node, "leafnode")),
            Value::Missing => {}
            other => {
                let shown = other.shown();
                let want = "Expected remote leafnode url to be an array or string";
                r.error(node, format!("{want}, got {shown}"));
            }
        },
        "account" | "local" => put(&mut out.account, r.text(node)),
        "creds" | "credentials" => put(&mut out.credentials, r.text(node)),
        "nkey" | "seed" => {
            put(&mut out.seed, r.secret(node));
            if !nkey::is_user_seed(out.seed.expose()) {
                r.error(node, "Remote leafnode nkey is not a valid seed");
            }
        }
        "tls" => out.tls = read_tls(r, node, Side::Client),
        "no_randomize" | "dont_randomize" => put(&mut out.no_randomize, r.flag(node)),
        "ws_compress" | "ws_compression" | "websocket_compress" | "websocket_compression" => {
            put(&mut out.ws_compression, r.flag(node));
        }
        "ws_no_masking" | "websocket_no_masking" => put(&mut out.ws_no_masking, r.flag(node)),
        "compression" => put(&mut out.compression, read_compression(r, key, node, "s2_auto")),
        "first_info_timeout" => out.first_info_timeout = r.duration(node, key),
        "dial_timeout" => out.dial_timeout = r.duration(node, key),
        "disabled" => put(&mut out.disabled, r.flag(node)),
        "proxy" => read_proxy(r, node, out),
        "ignore_discovered_servers" => put(&mut out.ignore_discovered_servers, r.flag(node)),
        _ => return false,
    }
    true
}

/// Keys about what passes.
fn read_remote_rules(
    r: &mut Reader,
    lower: &str,
    key: &str,
    node: &Node,
    out: &mut RemoteLeaf,
) -> bool {
    match lower {
        "hub" => put(&mut out.hub, r.flag(node)),
        "deny_imports" | "deny_import" => put(&mut out.deny_imports, read_subjects(r, node, false)),
        "deny_exports" | "deny_export" => put(&mut out.deny_exports, read_subjects(r, node, false)),
        "jetstream_cluster_migrate" | "js_cluster_migrate" => match &node.value {
            Value::Bool(on) => out.cluster_migrate = *on,
            Value::Map(map) => {
                out.cluster_migrate = true;
                if let Some(delay) = map.get("leader_migrate_delay") {
                    out.cluster_migrate_delay = r.duration(delay, "leader_migrate_delay");
                }
            }
            Value::Missing => {}
            other => {
                let is = other.type_name();
                r.error(node, format!("Expected boolean or map for {key}, got {is}"));
            }
        },
        "isolate_leafnode_interest" | "isolate" => put(&mut out.isolate, r.flag(node)),
        "request_isolation" => put(&mut out.request_isolation, r.flag(node)),
        _ => return false,
    }
    true
}

fn read_proxy(r: &mut Reader, node: &Node, out: &mut RemoteLeaf) {
    let Some(map) = r.map(node, "Expected proxy to be a map") else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "url" => put(&mut out.proxy_url, r.text(node)),
            "username" => put(&mut out.proxy_user, r.text(node)),
            "password" => put(&mut out.proxy_password, r.secret(node)),
            "timeout" => out.proxy_timeout = r.duration(node, "proxy timeout"),
            _ => r.unknown(key, node),
        }
    }
    if out.proxy_url.is_empty() {
        return;
    }
    match out.proxy_url.split_once("://") {
        Some(("http" | "https", host)) if !host.is_empty() => {}
        Some(("http" | "https", _)) => r.error(node, "proxy URL must specify a host"),
        other => {
            let scheme = other.map_or("", |(scheme, _)| scheme);
            r.error(node, format!("proxy URL scheme must be http or https, got: {scheme}"));
        }
    }
    if out.proxy_user.is_empty() != out.proxy_password.is_empty() {
        r.error(node, "proxy username and password must both be specified or both be empty");
    }
}

fn check_urls(r: &mut Reader, node: &Node, remote: &RemoteLeaf) {
    let is_ws = |url: &&String| url.starts_with("ws://") || url.starts_with("wss://");
    let ws = remote.urls.iter().filter(is_ws).count();
    if ws != 0 && ws != remote.urls.len() {
        let urls: Vec<String> = remote.urls.iter().map(|url| redacted(url)).collect();
        let text = format!(
            "remote leaf node configuration cannot have a mix of websocket and non-websocket \
             urls: {urls:?}"
        );
        r.error(node, text);
    }
}
