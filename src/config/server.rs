//! The top level of a configuration file: every key there, and the blocks handed on to others.

use std::time::Duration;

use super::accounts::{global_with, join_users, read_accounts};
use super::auth::{Authorization, read_authorization};
use super::cluster::read_cluster;
use super::duration::{go_duration, parse_ns};
use super::edge::{read_mqtt, read_websocket};
use super::exchange::read_mappings;
use super::gateway::read_gateway;
use super::jetstream::read_jetstream;
use super::leafnodes::read_leafnodes;
use super::options::{LogOptions, Options, UserOptions};
use super::reader::{Reader, put};
use super::shards::read_shards;
use super::tls::{Side, read_ocsp, read_ocsp_cache, read_tls};
use super::trust::read_trust_key;
use super::value::{Map, Node, Value};

/// The shortest `lame_duck_duration`.
const LAME_DUCK_MIN: Duration = Duration::from_secs(30);

/// Users of all blocks, with the place to name when one is there twice.
type Users = Vec<(UserOptions, Node)>;

/// Fills options from the tree of a file.
pub(super) fn fill(r: &mut Reader, map: &Map) -> Options {
    let mut out = Options::default();
    let mut users = Users::new();
    let mut authorization = None;
    for (key, node) in map.in_order() {
        let lower = key.to_ascii_lowercase();
        let known = match lower.as_str() {
            "authorization" => {
                authorization = read_authorization(r, node).map(|auth| (auth, node));
                true
            }
            "accounts" => {
                let read = read_accounts(r, node);
                out.accounts.extend(read.accounts);
                users.extend(read.users);
                true
            }
            _ => read_key(r, &lower, key, node, &mut out),
        };
        if !known {
            r.unknown(key, node);
        }
    }
    if let Some((auth, node)) = authorization {
        set_authorization(r, auth, node, users, &mut out);
    } else {
        out.auth.users = join_users(r, users);
    }
    out
}

/// Joins the users of the `authorization` block with those of the accounts.
fn set_authorization(
    r: &mut Reader,
    auth: Authorization,
    node: &Node,
    account_users: Users,
    out: &mut Options,
) {
    r.place("authorization", node);
    let has_user = !auth.user.is_empty() || !auth.password.is_empty();
    if has_user && !auth.token.is_empty() {
        r.error(node, "Cannot have a user/pass and token");
    } else if auth.users.is_some() || !account_users.is_empty() {
        if !auth.user.is_empty() {
            r.error(node, "Can not have a single user/pass and a users array");
        }
        if !auth.token.is_empty() {
            r.error(node, "Can not have a token and a users array");
        }
    }
    let place = Node::new(Value::Missing, node.pos.clone());
    let own = auth.users.unwrap_or_default().into_iter().map(|mut user| {
        user.account = super::accounts::GLOBAL.to_string();
        (user, place.clone())
    });
    let mut all = account_users;
    all.extend(own);
    out.auth.users = join_users(r, all);
    out.auth.user = auth.user;
    out.auth.password = auth.password;
    out.auth.token = auth.token;
    out.auth.timeout = auth.timeout;
    out.auth.default_permissions = auth.default_permissions;
    out.auth.proxy_required = auth.proxy_required;
    out.trust.callout = auth.callout;
}

fn read_key(r: &mut Reader, lower: &str, key: &str, node: &Node, out: &mut Options) -> bool {
    read_identity_key(r, lower, node, out)
        || read_log_key(r, lower, node, &mut out.log)
        || read_monitor_key(r, lower, node, out)
        || read_limit_key(r, lower, key, node, out)
        || read_client_key(r, lower, node, out)
        || read_account_key(r, lower, node, out)
        || read_trust_key(r, lower, node, &mut out.trust)
        || read_time_key(r, lower, node, out)
        || read_peer_block(r, lower, node, out)
}

/// Keys about who the server is and where it is found.
fn read_identity_key(r: &mut Reader, lower: &str, node: &Node, out: &mut Options) -> bool {
    match lower {
        "listen" => {
            if let Some(listen) = r.listen(node) {
                if !listen.host.is_empty() {
                    out.listen.host = listen.host;
                }
                if !listen.port.is_off() {
                    out.listen.port = listen.port;
                }
            }
        }
        // Port 0 is not "off" here but the usual one, as in nats-server.
        "port" => put(&mut out.listen.port, r.port(node).filter(|port| !port.is_off())),
        "host" | "net" => put(&mut out.listen.host, r.text(node).filter(|host| !host.is_empty())),
        "client_advertise" => {
            r.place("client_advertise", node);
            put(&mut out.client_advertise, r.text(node));
        }
        "server_name" => match r.text(node) {
            Some(name) if name.contains(' ') => {
                r.error(node, "server name cannot contain spaces");
            }
            name => put(&mut out.server_name, name),
        },
        "server_tags" => put(&mut out.server_tags, read_tags(r, node)),
        "server_metadata" => {
            let text = "error parsing metadata: unsupported type";
            put(&mut out.server_metadata, r.text_map(node, text));
        }
        "feature_flags" => r.known(lower, node, |r| read_feature_flags(r, node, out)),
        "pidfile" | "pid_file" => put(&mut out.pid_file, r.some_text(node)),
        "ports_file_dir" => put(&mut out.ports_file_dir, r.some_text(node)),
        _ => return false,
    }
    true
}

/// Tags are compared without regard to case, so they are kept in lower case, each once.
fn read_tags(r: &mut Reader, node: &Node) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    for tag in r.texts(node, "tags")? {
        let tag = tag.trim().to_lowercase();
        if !tag.is_empty() && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Some(tags)
}

fn read_feature_flags(r: &mut Reader, node: &Node, out: &mut Options) {
    let Value::Map(map) = &node.value else {
        let is = node.value.type_name();
        r.error(node, format!("error parsing feature flags: unsupported type {is}"));
        return;
    };
    for (name, node) in map.in_order() {
        match node.value {
            Value::Bool(on) => {
                out.feature_flags.insert(name.to_string(), on);
            }
            Value::Missing => {}
            _ => {
                let is = node.value.type_name();
                let text = format!("error parsing feature flag {name:?}: expected bool, got {is}");
                r.error(node, text);
            }
        }
    }
}

/// Keys about logging and tracing.
fn read_log_key(r: &mut Reader, lower: &str, node: &Node, out: &mut LogOptions) -> bool {
    match lower {
        "debug" => put(&mut out.debug, r.flag(node)),
        "trace" => put(&mut out.trace, r.flag(node)),
        "trace_verbose" => {
            put(&mut out.trace_verbose, r.flag(node));
            out.trace = out.trace_verbose;
        }
        "trace_headers" => {
            put(&mut out.trace_headers, r.flag(node));
            out.trace = out.trace_headers;
            if out.trace_headers {
                r.known("trace_headers", node, |_| {});
            }
        }
        "logtime" => put(&mut out.time, r.flag(node)),
        "logtime_utc" => put(&mut out.time_utc, r.flag(node)),
        "logfile" | "log_file" => put(&mut out.file, r.some_text(node)),
        "logfile_size_limit" | "log_size_limit" => put(&mut out.file_bytes_max, r.count(node)),
        "logfile_max_num" | "log_max_num" => put(&mut out.files_max, r.count(node)),
        "syslog" => put(&mut out.syslog, r.flag(node)),
        "remote_syslog" => put(&mut out.remote_syslog, r.some_text(node)),
        "max_traced_msg_len" => {
            put(&mut out.traced_bytes_max, r.count(node));
            if out.traced_bytes_max > 0 {
                r.known("max_traced_msg_len", node, |_| {});
            }
        }
        _ => return false,
    }
    true
}

/// Keys about looking into the server.
fn read_monitor_key(r: &mut Reader, lower: &str, node: &Node, out: &mut Options) -> bool {
    match lower {
        "http" | "https" => {
            r.place(if lower == "http" { "http" } else { "https" }, node);
            let Some(listen) = r.listen(node) else {
                return true;
            };
            out.monitor.host = listen.host;
            if lower == "http" {
                out.monitor.http = listen.port;
            } else {
                out.monitor.https = listen.port;
                if !listen.port.is_off() {
                    r.known("https", node, |_| {});
                }
            }
        }
        "http_port" | "monitor_port" => {
            r.place("http", node);
            put(&mut out.monitor.http, r.port(node));
        }
        "https_port" => {
            r.place("https", node);
            put(&mut out.monitor.https, r.port(node));
            if !out.monitor.https.is_off() {
                r.known("https", node, |_| {});
            }
        }
        "http_base_path" => put(&mut out.monitor.base_path, r.text(node).map(|p| base_path(&p))),
        "prof_port" => {
            put(&mut out.profile_port, r.port(node));
            if !out.profile_port.is_off() {
                r.known(lower, node, |_| {});
            }
        }
        "prof_block_rate" => {
            r.known(lower, node, |r| put(&mut out.profile_block_rate, r.int(node)));
        }
        _ => return false,
    }
    true
}

/// A path with one slash in front, none at the end and no empty parts.
fn base_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Keys that limit what clients use. A value of 0 stands for the default.
fn read_limit_key(r: &mut Reader, lower: &str, key: &str, node: &Node, out: &mut Options) -> bool {
    let limits = &mut out.limits;
    match lower {
        "max_control_line" => put(&mut limits.control_line_bytes_max, read_bytes(r, key, node)),
        "max_payload" => {
            r.place("max_payload", node);
            put(&mut limits.payload_bytes_max, read_bytes(r, key, node));
        }
        "max_pending" => {
            r.place("max_pending", node);
            put(&mut limits.pending_bytes_max, r.count(node).filter(|n| *n != 0));
        }
        "max_connections" | "max_conn" => {
            put(&mut limits.connections_max, r.int(node).map(|n| if n > 0 { n } else { -1 }));
        }
        "max_subscriptions" | "max_subs" => put(&mut limits.subscriptions_max, r.count(node)),
        "max_sub_tokens" | "max_subscription_tokens" => match r.int(node) {
            Some(n) if n > 255 => r.error(node, format!("{key} value is too big")),
            Some(n) if n <= 0 => r.error(node, format!("{key} value can not be negative")),
            Some(n) => limits.subject_tokens_max = u8::try_from(n).unwrap_or(u8::MAX),
            None => {}
        },
        "max_closed_clients" => {
            put(&mut limits.closed_clients_max, r.count(node).filter(|n| *n != 0));
        }
        "ping_interval" => {
            put(&mut limits.ping_interval, r.duration(node, lower).filter(|d| !d.is_zero()));
        }
        "ping_max" => {
            let max = r.count(node).filter(|n| *n != 0);
            put(&mut limits.pings_out_max, max.map(|n| u32::try_from(n).unwrap_or(u32::MAX)));
        }
        "write_deadline" => {
            put(&mut limits.write_deadline, r.duration(node, lower).filter(|d| !d.is_zero()));
        }
        "write_timeout" => {
            put(&mut limits.write_timeout, r.write_timeout(node));
            if limits.write_timeout == super::options::WriteTimeout::Retry {
                r.known("write_timeout", node, |_| {});
            }
        }
        _ => return false,
    }
    true
}

fn read_bytes(r: &mut Reader, key: &str, node: &Node) -> Option<u32> {
    let bytes = r.int(node)?;
    if bytes > i64::from(i32::MAX) {
        r.error(node, format!("{key} value is too big"));
        return None;
    }
    u32::try_from(bytes).ok().filter(|bytes| *bytes != 0)
}

/// Keys about how clients connect.
fn read_client_key(r: &mut Reader, lower: &str, node: &Node, out: &mut Options) -> bool {
    match lower {
        "tls" => {
            r.place("tls", node);
            out.tls = read_tls(r, node, Side::Client);
        }
        "allow_non_tls" => put(&mut out.allow_non_tls, r.flag(node)),
        "ocsp" => {
            out.ocsp = read_ocsp(r, node);
            if out.ocsp.as_ref().is_some_and(|ocsp| ocsp.mode != "never") {
                r.known(lower, node, |_| {});
            }
        }
        "ocsp_cache" => r.known(lower, node, |r| out.ocsp_cache = read_ocsp_cache(r, node)),
        "no_header_support" => put(&mut out.no_header_support, r.flag(node)),
        "no_fast_producer_stall" => put(&mut out.no_fast_producer_stall, r.flag(node)),
        "disable_sublist_cache" | "no_sublist_cache" => {
            put(&mut out.no_sublist_cache, r.flag(node));
            if out.no_sublist_cache {
                r.known("disable_sublist_cache", node, |_| {});
            }
        }
        "proxy_protocol" => {
            put(&mut out.proxy_protocol, r.flag(node));
            if out.proxy_protocol {
                r.known(lower, node, |_| {});
            }
        }
        "proxies" => r.known(lower, node, |r| out.trusted_proxies = read_proxies(r, node)),
        "connect_error_reports" => {
            put(&mut out.connect_error_reports, r.int(node).filter(|n| *n != 0));
        }
        "reconnect_error_reports" => {
            put(&mut out.reconnect_error_reports, r.int(node).filter(|n| *n != 0));
        }
        _ => return false,
    }
    true
}

fn read_proxies(r: &mut Reader, node: &Node) -> Vec<String> {
    let mut keys = Vec::new();
    let Some(map) = r.map(node, "expected proxies to be a map/struct") else {
        return keys;
    };
    for (key, node) in map.in_order() {
        if !key.eq_ignore_ascii_case("trusted") {
            r.unknown(key, node);
            continue;
        }
        let text = "expected proxies' trusted field to be an array";
        for item in r.list(node, text).unwrap_or_default() {
            let text = "expected proxies' trusted entry to be a map/struct";
            let Some(map) = r.map(item, text) else {
                continue;
            };
            for (key, node) in map.in_order() {
                match key.to_ascii_lowercase().as_str() {
                    "key" | "public_key" => match r.text(node) {
                        Some(key) if super::nkey::is_any_public(&key) => keys.push(key),
                        Some(key) => r.error(node, format!("invalid proxy key {key:?}")),
                        None => {}
                    },
                    _ => r.unknown(key, node),
                }
            }
        }
    }
    keys
}

/// Keys about accounts, beside the blocks that hold them.
fn read_account_key(r: &mut Reader, lower: &str, node: &Node, out: &mut Options) -> bool {
    match lower {
        "no_auth_user" => {
            r.place("no_auth_user", node);
            put(&mut out.auth.no_auth_user, r.text(node));
        }
        "system_account" | "system" => {
            r.place("system_account", node);
            match &node.value {
                Value::Text(name) => out.system_account.clone_from(name),
                Value::Missing => {}
                _ => r.error(node, "system account name must be a string"),
            }
        }
        "no_system_account" | "no_system" | "no_sys_acc" => {
            put(&mut out.no_system_account, r.flag(node));
        }
        "mappings" | "maps" => r.known("mappings", node, |r| {
            out.accounts.insert(0, global_with(read_mappings(r, node)));
        }),
        "default_js_domain" => r.known(lower, node, |r| {
            r.place("default_js_domain", node);
            let text = "error default_js_domain config: unsupported type";
            put(&mut out.default_js_domain, r.text_map(node, text));
        }),
        _ => return false,
    }
    true
}

/// Keys about lame duck mode, which are texts only.
fn read_time_key(r: &mut Reader, lower: &str, node: &Node, out: &mut Options) -> bool {
    if lower != "lame_duck_duration" && lower != "lame_duck_grace_period" {
        return false;
    }
    let is_duration = lower == "lame_duck_duration";
    r.place(if is_duration { "lame_duck_duration" } else { "lame_duck_grace_period" }, node);
    let Some(text) = r.text(node) else {
        return true;
    };
    let ns = match parse_ns(&text) {
        Ok(ns) => ns,
        Err(err) => {
            r.error(node, format!("error parsing {lower}: {err}"));
            return true;
        }
    };
    let span = u64::try_from(ns).ok().map(Duration::from_nanos);
    match span {
        Some(span) if is_duration && span >= LAME_DUCK_MIN => out.lame_duck_duration = span,
        Some(span) if !is_duration => {
            put(&mut out.lame_duck_grace_period, Some(span).filter(|span| !span.is_zero()));
        }
        _ if is_duration => {
            let shown = go_duration(Duration::from_nanos(ns.unsigned_abs()));
            let sign = if ns < 0 { "-" } else { "" };
            let text =
                format!("invalid lame_duck_duration of {sign}{shown}, minimum is 30 seconds");
            r.error(node, text);
        }
        _ => r.error(node, "invalid lame_duck_grace_period, needs to be positive"),
    }
    true
}

/// Blocks about other servers, other protocols, streams and shards.
fn read_peer_block(r: &mut Reader, lower: &str, node: &Node, out: &mut Options) -> bool {
    match lower {
        "cluster" => r.known("cluster", node, |r| {
            r.place("cluster", node);
            read_cluster(r, node, &mut out.cluster);
        }),
        "gateway" => r.known("gateway", node, |r| {
            r.place("gateway", node);
            read_gateway(r, node, &mut out.gateway);
        }),
        "leaf" | "leafnodes" => r.known("leafnodes", node, |r| {
            r.place("leafnodes", node);
            read_leafnodes(r, node, &mut out.leafnodes);
        }),
        "websocket" | "ws" => r.known("websocket", node, |r| {
            r.place("websocket", node);
            read_websocket(r, node, &mut out.websocket);
        }),
        "mqtt" => r.known("mqtt", node, |r| {
            r.place("mqtt", node);
            read_mqtt(r, node, &mut out.mqtt);
        }),
        "jetstream" => {
            r.place("jetstream", node);
            read_jetstream(r, node, &mut out.jetstream);
            if out.jetstream.enabled {
                r.known("jetstream", node, |_| {});
            }
        }
        "store_dir" | "storedir" => {
            if out.jetstream.store_dir.is_empty() {
                put(&mut out.jetstream.store_dir, r.text(node));
            } else {
                r.error(node, "Duplicate 'store_dir' configuration");
            }
        }
        "shards" => read_shards(r, node, &mut out.shards),
        _ => return false,
    }
    true
}
