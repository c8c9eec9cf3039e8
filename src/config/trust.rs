//! Keys that say which JWTs to trust: `operator`, `trusted_keys`, `resolver` and what belongs to
//! them.

use std::time::Duration;

use super::duration::parse_ns;
use super::nkey::{self, KeyKind};
use super::options_trust::{Resolver, ResolverDirectory, TrustOptions};
use super::reader::{Reader, put};
use super::tls::{Side, read_tls};
use super::value::{Map, Node, Value};

/// Reads a top-level key about trust; false when it is another one.
pub(super) fn read_trust_key(
    r: &mut Reader,
    lower: &str,
    node: &Node,
    out: &mut TrustOptions,
) -> bool {
    match lower {
        "operator" | "operators" | "roots" | "root" | "root_operators" | "root_operator" => {
            r.known("operator", node, |r| {
                put(&mut out.operators, r.texts(node, "operators"));
            });
        }
        "trusted" | "trusted_keys" => r.known("trusted_keys", node, |r| {
            put(&mut out.trusted_keys, r.texts(node, "trusted"));
            for key in out.trusted_keys.iter().filter(|k| !nkey::is_public(k, KeyKind::Operator)) {
                let text = format!("trust key {key:?} required to be a valid public operator nkey");
                r.error(node, text);
            }
        }),
        "resolver" | "account_resolver" | "accounts_resolver" => {
            r.known("resolver", node, |r| out.resolver = read_resolver(r, node));
        }
        "resolver_tls" => r.known("resolver_tls", node, |r| {
            out.resolver_tls = read_tls(r, node, Side::Client);
        }),
        "resolver_preload" => r.known("resolver_preload", node, |r| {
            let text = "preload should be a map of account_public_key:account_jwt, got";
            put(&mut out.resolver_preload, r.text_map(node, text));
        }),
        "resolver_pinned_accounts" => r.known("resolver_pinned_accounts", node, |r| {
            put(&mut out.resolver_pinned_accounts, r.texts(node, "resolver_pinned_accounts"));
        }),
        "default_sentinel" => {
            r.place("default_sentinel", node);
            put(&mut out.default_sentinel, r.text(node));
        }
        _ => return false,
    }
    true
}

fn read_resolver(r: &mut Reader, node: &Node) -> Option<Resolver> {
    let found = match &node.value {
        Value::Text(text) => read_resolver_text(text),
        Value::Map(map) => return read_resolver_map(r, node, map),
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            r.error(node, format!("error parsing operator resolver, wrong type {is}"));
            return None;
        }
    };
    if found.is_none() {
        no_resolver(r, node);
    }
    found
}

fn no_resolver(r: &mut Reader, node: &Node) {
    r.error(
        node,
        "error parsing account resolver, should be MEM or  URL(\"url\") or a map containing dir \
         and type state=[FULL|CACHE])",
    );
}

/// `MEM`, `MEMORY` or `URL("...")`, in any case.
fn read_resolver_text(text: &str) -> Option<Resolver> {
    let upper = text.to_ascii_uppercase();
    if upper.contains("MEM") {
        return Some(Resolver::Memory);
    }
    let inside = text.get(upper.find("URL(")? + 4..)?.split(')').next()?;
    let url = inside.trim().trim_matches('"');
    (!url.is_empty()).then(|| Resolver::Url(url.to_string()))
}

fn read_resolver_map(r: &mut Reader, node: &Node, map: &Map) -> Option<Resolver> {
    let mut out = ResolverDirectory::default();
    let mut kind = String::new();
    for (key, node) in map.in_order() {
        match key {
            "type" => put(&mut kind, r.text(node)),
            "dir" => put(&mut out.dir, r.text(node)),
            "allow_delete" => put(&mut out.allow_delete, r.flag(node)),
            "hard_delete" => put(&mut out.hard_delete, r.flag(node)),
            "limit" => put(&mut out.limit, r.int(node)),
            "ttl" => out.ttl = read_span(r, node),
            "interval" => out.interval = read_span(r, node),
            "timeout" => out.timeout = read_span(r, node),
            _ => r.unknown(key, node),
        }
    }
    let mut refuse = |is_wrong: bool, text: &str| {
        if is_wrong {
            r.error(node, text);
        }
    };
    let no_dir = "dir has no value and needs to point to a directory";
    match kind.to_ascii_uppercase().as_str() {
        "MEM" | "MEMORY" => return Some(Resolver::Memory),
        "CACHE" => {
            refuse(out.dir.is_empty(), no_dir);
            refuse(out.interval.is_some(), "CACHE does not accept sync");
            refuse(out.allow_delete, "CACHE does not accept allow_delete");
            refuse(map.get("hard_delete").is_some(), "CACHE does not accept hard_delete");
        }
        "FULL" => {
            out.full = true;
            refuse(out.dir.is_empty(), no_dir);
            refuse(out.ttl.is_some(), "FULL does not accept ttl");
            let no_delete = map.get("hard_delete").is_some() && !out.allow_delete;
            refuse(no_delete, "hard_delete has no effect without delete");
        }
        _ => {
            no_resolver(r, node);
            return None;
        }
    }
    Some(Resolver::Directory(out))
}

fn read_span(r: &mut Reader, node: &Node) -> Option<Duration> {
    let text = r.text(node)?;
    match parse_ns(&text) {
        Ok(ns) => Some(Duration::from_nanos(u64::try_from(ns).unwrap_or(0))),
        Err(err) => {
            r.error(node, err);
            None
        }
    }
}
