//! What accounts share and rewrite: `exports`, `imports`, `mappings` and `msg_trace`.

use std::time::Duration;

use super::permissions::{subject_is_literal, subject_is_valid};
use super::reader::{Reader, put};
use super::value::{Map, Node, Value};

/// Whether messages flow one way, or requests and their answers both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareKind {
    /// `stream`
    Stream,
    /// `service`
    Service,
}

/// One of `exports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// `stream` or `service`
    pub kind: ShareKind,
    /// The subject
    pub subject: String,
    /// `accounts` that may import it; all when empty.
    pub accounts: Vec<String>,
    /// `response_type`
    pub response: ResponseType,
    /// `response_threshold`, 2 minutes when not set
    pub threshold: Option<Duration>,
    /// `latency`
    pub latency: Option<Latency>,
    /// `account_token_position`; 0 means none.
    pub token_position: u64,
    /// `allow_trace`
    pub allow_trace: bool,
}

/// How many answers a service gives to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseType {
    /// One.
    #[default]
    Singleton,
    /// Any number.
    Stream,
    /// Parts of one.
    Chunked,
}

/// `latency` of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// `subject` of the measurements
    pub subject: String,
    /// `sampling` in percent, 100; 0 means that headers decide.
    pub sampling: u8,
}

/// One of `imports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// `stream` or `service`
    pub kind: ShareKind,
    /// The account it comes from.
    pub account: String,
    /// The subject there.
    pub subject: String,
    /// `prefix` here, for a stream
    pub prefix: String,
    /// `to`: the subject here; that of the other account when empty.
    pub to: String,
    /// `share` who asks, for a service
    pub share: bool,
    /// `allow_trace`, for a stream
    pub allow_trace: bool,
}

/// One destination of a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapDestination {
    /// `destination`
    pub subject: String,
    /// `weight` in percent
    pub weight: u8,
    /// `cluster`; any when empty.
    pub cluster: String,
}

/// `msg_trace`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MsgTrace {
    /// `dest`
    pub dest: String,
    /// `sampling` in percent, 100
    pub sampling: u8,
}

/// Reads a list of exports.
pub(super) fn read_exports(r: &mut Reader, node: &Node) -> Vec<Export> {
    let items = r.list(node, "Exports should be an array").unwrap_or_default();
    items.iter().filter_map(|item| read_export(r, item)).collect()
}

fn read_export(r: &mut Reader, node: &Node) -> Option<Export> {
    let map = r.map(node, "Export Items should be a map with type entry")?;
    let mut out = Export {
        kind: ShareKind::Stream,
        subject: String::new(),
        accounts: Vec::new(),
        response: ResponseType::Singleton,
        threshold: None,
        latency: None,
        token_position: 0,
        allow_trace: false,
    };
    let mut service_only: Vec<(&Node, &str)> = Vec::new();
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "stream" => put(&mut out.subject, r.text(node)),
            "service" => {
                out.kind = ShareKind::Service;
                put(&mut out.subject, r.text(node));
            }
            "response" | "response_type" => {
                service_only.push((node, "response"));
                put(&mut out.response, read_response_type(r, node));
            }
            "threshold" | "response_threshold" | "response_max_time" | "response_time" => {
                service_only.push((node, "response"));
                out.threshold = r.duration_text(node, key);
            }
            "accounts" => put(&mut out.accounts, r.texts(node, "accounts")),
            "latency" => {
                service_only.push((node, "latency"));
                r.known("account.exports.latency", node, |r| {
                    out.latency = read_latency(r, node);
                });
            }
            "account_token_position" => put(&mut out.token_position, r.count(node)),
            "allow_trace" => {
                service_only.push((node, "allow_trace"));
                r.known("account.allow_trace", node, |r| {
                    put(&mut out.allow_trace, r.flag(node));
                });
            }
            _ => r.unknown(key, node),
        }
    }
    if let (Some(_), Some(service)) = (map.get("stream"), map.get("service")) {
        let text = format!("Detected service {:?} but already saw a stream", out.subject);
        r.error(service, text);
    }
    if out.kind == ShareKind::Stream {
        for (node, what) in service_only {
            r.error(node, format!("Detected {what} directive on non-service"));
        }
    }
    let is_valid = subject_is_valid(&out.subject);
    if !is_valid {
        r.error(node, format!("export subject {:?} is not a valid subject", out.subject));
    }
    is_valid.then_some(out)
}

fn read_response_type(r: &mut Reader, node: &Node) -> Option<ResponseType> {
    let text = r.text(node)?;
    match text.to_ascii_lowercase().as_str() {
        "single" | "singleton" => Some(ResponseType::Singleton),
        "stream" => Some(ResponseType::Stream),
        "chunk" | "chunked" => Some(ResponseType::Chunked),
        _ => {
            r.error(node, format!("Unknown response type: {text:?}"));
            None
        }
    }
}

fn read_latency(r: &mut Reader, node: &Node) -> Option<Latency> {
    let map = match &node.value {
        Value::Text(subject) => {
            return Some(Latency { subject: subject.clone(), sampling: 100 });
        }
        Value::Map(map) => map,
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            r.error(node, format!("Expected latency entry to be a map/struct or string, got {is}"));
            return None;
        }
    };
    let mut out = Latency { subject: String::new(), sampling: 100 };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "subject" => put(&mut out.subject, r.text(node)),
            "sampling" => match &node.value {
                Value::Text(text) if text.trim().eq_ignore_ascii_case("headers") => {
                    out.sampling = 0;
                }
                _ => match percent(node) {
                    Some(n @ 1..=100) => out.sampling = n,
                    _ => r.error(node, "bad sampling percentage, should be 1-100"),
                },
            },
            _ => r.unknown(key, node),
        }
    }
    if out.subject.is_empty() {
        r.error(node, "Latency subject required, but missing");
        return None;
    }
    Some(out)
}

/// A number from 0 to 100, or a text of one that may end in `%`.
fn percent(node: &Node) -> Option<u8> {
    let number = match &node.value {
        Value::Int(i) => u8::try_from(*i).ok()?,
        Value::Text(text) => text.strip_suffix('%').unwrap_or(text).parse().ok()?,
        _ => return None,
    };
    (number <= 100).then_some(number)
}

/// Reads a list of imports.
pub(super) fn read_imports(r: &mut Reader, node: &Node) -> Vec<Import> {
    let items = r.list(node, "Imports should be an array").unwrap_or_default();
    let mut out: Vec<Import> = Vec::with_capacity(items.len());
    for item in items {
        let Some(import) = read_import(r, item) else {
            continue;
        };
        let twin = out.iter().find(|other| {
            (other.kind, import.kind) == (ShareKind::Service, ShareKind::Service)
                && other.to == import.to
                && other.account == import.account
        });
        match twin {
            Some(twin) => {
                let text = format!(
                    "Duplicate service import subject {:?}, previously used in import for account \
                     {:?}, subject {:?}",
                    import.to, twin.account, twin.subject
                );
                r.error(item, text);
            }
            None => out.push(import),
        }
    }
    out
}

fn read_import(r: &mut Reader, node: &Node) -> Option<Import> {
    let map = r.map(node, "Import Items should be a map with type entry")?;
    let mut out = Import {
        kind: ShareKind::Stream,
        account: String::new(),
        subject: String::new(),
        prefix: String::new(),
        to: String::new(),
        share: false,
        allow_trace: false,
    };
    let mut trace = None;
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "stream" => read_origin(r, node, "Stream", &mut out),
            "service" => {
                out.kind = ShareKind::Service;
                read_origin(r, node, "Service", &mut out);
            }
            "prefix" => put(&mut out.prefix, r.text(node)),
            "to" => put(&mut out.to, r.text(node)),
            "share" => put(&mut out.share, r.flag(node)),
            "allow_trace" => {
                trace = Some(node);
                r.known("account.allow_trace", node, |r| {
                    put(&mut out.allow_trace, r.flag(node));
                });
            }
            _ => r.unknown(key, node),
        }
    }
    check_import(r, node, map, &out, trace);
    if out.kind == ShareKind::Service && out.to.is_empty() {
        out.to.clone_from(&out.subject);
    }
    (!out.account.is_empty() && !out.subject.is_empty()).then_some(out)
}

fn check_import(r: &mut Reader, node: &Node, map: &Map, import: &Import, trace: Option<&Node>) {
    match (map.get("stream"), map.get("service")) {
        (Some(_), Some(service)) => {
            r.error(service, "Detected service but already saw a stream");
        }
        (None, None) => r.error(node, "Import Items should be a map with type entry"),
        _ => {}
    }
    if import.kind == ShareKind::Service
        && let Some(trace) = trace
    {
        r.error(trace, "Detected allow_trace directive on a non-stream");
    }
    if import.kind == ShareKind::Stream && !import.prefix.is_empty() && !import.to.is_empty() {
        r.error(node, "Stream import can not have a 'prefix' and a 'to' property");
    }
}

fn read_origin(r: &mut Reader, node: &Node, what: &str, out: &mut Import) {
    let Some(map) = r.map(node, &format!("{what} entry should be an account map")) else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "account" => put(&mut out.account, r.text(node)),
            "subject" => put(&mut out.subject, r.text(node)),
            _ => r.unknown(key, node),
        }
    }
    if out.account.is_empty() || out.subject.is_empty() {
        r.error(node, "Expect an account name and a subject");
    }
}

/// Reads a `mappings` block.
pub(super) fn read_mappings(r: &mut Reader, node: &Node) -> Vec<(String, Vec<MapDestination>)> {
    let Value::Map(map) = &node.value else {
        r.wrong_type(node, "map[string]interface {}");
        return Vec::new();
    };
    let mut out = Vec::with_capacity(map.len());
    for (subject, node) in map.in_order() {
        if !subject_is_valid(subject) {
            r.error(node, format!("Subject {subject:?} is not a valid subject"));
            continue;
        }
        let destinations = match &node.value {
            Value::Text(to) => {
                vec![MapDestination { subject: to.clone(), weight: 100, cluster: String::new() }]
            }
            Value::List(items) => {
                items.iter().filter_map(|item| read_destination(r, item)).collect()
            }
            Value::Missing => continue,
            _ => read_destination(r, node).into_iter().collect(),
        };
        check_weights(r, node, subject, &destinations);
        out.push((subject.to_string(), destinations));
    }
    out
}

fn check_weights(r: &mut Reader, node: &Node, subject: &str, destinations: &[MapDestination]) {
    for destination in destinations {
        let same = destinations.iter().filter(|d| d.cluster == destination.cluster);
        if same.map(|d| u32::from(d.weight)).sum::<u32>() > 100 {
            let text =
                format!("Error adding mapping for {subject:?} : total weight needs to be <= 100");
            r.error(node, text);
            return;
        }
    }
}

fn read_destination(r: &mut Reader, node: &Node) -> Option<MapDestination> {
    let Value::Map(map) = &node.value else {
        r.error(node, "Expected an entry for the mapping destination");
        return None;
    };
    let mut out = MapDestination::default();
    let mut has_weight = false;
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "dest" | "destination" => put(&mut out.subject, r.text(node)),
            "weight" => {
                has_weight = true;
                match percent(node) {
                    Some(weight) => out.weight = weight,
                    None => {
                        let shown = node.value.shown();
                        let text = format!("Invalid weight {shown} for mapping destination");
                        r.error(node, text);
                    }
                }
            }
            "cluster" => put(&mut out.cluster, r.text(node)),
            _ => r.error(node, format!("Unknown field {key:?} for mapping destination")),
        }
    }
    if !has_weight {
        let text = format!("Missing weight for mapping destination {:?}", out.subject);
        r.error(node, text);
        return None;
    }
    Some(out)
}

/// Reads `msg_trace`: a subject, or a map with `dest` and `sampling`.
pub(super) fn read_msg_trace(r: &mut Reader, key: &str, node: &Node) -> Option<MsgTrace> {
    let mut out = MsgTrace { dest: String::new(), sampling: 100 };
    match &node.value {
        Value::Text(_) => put(&mut out.dest, read_trace_dest(r, node)),
        Value::Map(map) => {
            for (inner, node) in map.in_order() {
                match inner.to_ascii_lowercase().as_str() {
                    "dest" => put(&mut out.dest, read_trace_dest(r, node)),
                    "sampling" => match percent(node) {
                        Some(n @ 1..=100) => out.sampling = n,
                        _ => {
                            let shown = node.value.shown();
                            let text = format!(
                                "Ttrace destination sampling value {shown} is invalid, needs to \
                                 be [1..100]"
                            );
                            r.error(node, text);
                        }
                    },
                    _ => r.unknown(inner, node),
                }
            }
            if out.dest.is_empty() {
                r.warning(node, "Trace destination sampling ignored since no destination was set");
                return None;
            }
        }
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            let text = format!(
                "Expected account message trace {key:?} to be a string or a map/struct, got {is}"
            );
            r.error(node, text);
            return None;
        }
    }
    Some(out)
}

fn read_trace_dest(r: &mut Reader, node: &Node) -> Option<String> {
    let dest = r.text(node)?;
    if !subject_is_literal(&dest) {
        r.error(node, format!("Trace destination {dest:?} is not valid"));
        return None;
    }
    Some(dest)
}
