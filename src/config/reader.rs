//! Reads typed values out of the tree and collects everything found wrong on the way, so that a
//! file is judged as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use super::duration;
use super::error::{Finding, Kind, Pos};
use super::options::{Listen, Port, WriteTimeout};
use super::secret::Secret;
use super::served::{Served, served};
use super::value::{Map, Node, Value};

/// The places of the keys that rules between keys speak about, by their path.
pub type Places = BTreeMap<&'static str, Pos>;

/// What is collected while the options are filled.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) findings: Vec<Finding>,
    pub(super) places: Places,
    /// Files that must be readable: where they are named, the path, and what to say before it.
    pub(super) files: Vec<(Pos, String, &'static str)>,
    /// Set inside a block that has no effect as a whole, so that its parts are not named again.
    inside_unserved: bool,
}

/// Puts a value into its field when it could be read.
pub(super) fn put<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

impl Reader {
    /// Notes an error at a value.
    pub(super) fn error(&mut self, node: &Node, text: impl Into<String>) {
        self.findings.push(Finding::error(&node.pos, text));
    }

    /// Notes a warning at a value.
    pub(super) fn warning(&mut self, node: &Node, text: impl Into<String>) {
        self.findings.push(Finding::warning(&node.pos, text));
    }

    /// Notes a warning about the use of a field, in nats-server's form.
    pub(super) fn misuse(&mut self, node: &Node, field: &str, reason: &str) {
        self.warning(node, format!("invalid use of field {field:?}: {reason}"));
    }

    /// Notes a key that this block does not know, unless it only served as a variable.
    pub(super) fn unknown(&mut self, key: &str, node: &Node) {
        if !node.used {
            self.error(node, format!("unknown field {key:?}"));
        }
    }

    /// Remembers where a key stands.
    pub(super) fn place(&mut self, path: &'static str, node: &Node) {
        self.places.insert(path, node.pos.clone());
    }

    /// Says once what a key that is known but not served means, and reads its block in silence.
    pub(super) fn known(&mut self, path: &str, node: &Node, read: impl FnOnce(&mut Self)) {
        let before = self.inside_unserved;
        match served(path) {
            _ if before => {}
            Served::Yes => {}
            Served::NoEffect => {
                let text = format!("{path:?} is not served yet and has no effect");
                self.findings
                    .push(Finding { kind: Kind::NotServed, ..Finding::error(&node.pos, text) });
                self.inside_unserved = true;
            }
            Served::Refused(why) => {
                let text = format!("{path:?} is not served yet and can not be ignored: {why}");
                self.error(node, text);
                self.inside_unserved = true;
            }
        }
        read(self);
        self.inside_unserved = before;
    }

    /// Notes a value of the wrong type, in the words of Go's type assertions.
    pub(super) fn wrong_type(&mut self, node: &Node, want: &str) {
        if node.value != Value::Missing {
            let is = node.value.type_name();
            self.error(node, format!("interface conversion: interface {{}} is {is}, not {want}"));
        }
    }

    /// A text.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_type(node, "string");
                None
            }
        }
    }

    /// A text that may be left out; an empty one counts as such.
    pub(super) fn some_text(&mut self, node: &Node) -> Option<Option<String>> {
        self.text(node).map(|text| Some(text).filter(|t| !t.is_empty()))
    }

    /// A secret.
    pub(super) fn secret(&mut self, node: &Node) -> Option<Secret> {
        self.text(node).map(Secret::new)
    }

    /// An integer.
    pub(super) fn int(&mut self, node: &Node) -> Option<i64> {
        match node.value {
            Value::Int(i) => Some(i),
            _ => {
                self.wrong_type(node, "int64");
                None
            }
        }
    }

    /// An integer that is a count or a size: a negative one means none, as 0 does.
    pub(super) fn count(&mut self, node: &Node) -> Option<u64> {
        self.int(node).map(|i| u64::try_from(i).unwrap_or(0))
    }

    /// A boolean.
    pub(super) fn flag(&mut self, node: &Node) -> Option<bool> {
        match node.value {
            Value::Bool(b) => Some(b),
            _ => {
                self.wrong_type(node, "bool");
                None
            }
        }
    }

    /// A map, or the error `text` followed by the type.
    pub(super) fn map<'n>(&mut self, node: &'n Node, text: &str) -> Option<&'n Map> {
        match &node.value {
            Value::Map(map) => Some(map),
            Value::Missing => None,
            other => {
                self.error(node, format!("{text}, got {}", other.type_name()));
                None
            }
        }
    }

    /// A list, or the error `text` followed by the type.
    pub(super) fn list<'n>(&mut self, node: &'n Node, text: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Missing => None,
            other => {
                self.error(node, format!("{text}, got {}", other.type_name()));
                None
            }
        }
    }

    /// One text, or a list of texts.
    pub(super) fn texts(&mut self, node: &Node, field: &str) -> Option<Vec<String>> {
        match &node.value {
            Value::Text(text) => Some(vec![text.clone()]),
            Value::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match &item.value {
                        Value::Text(text) => texts.push(text.clone()),
                        Value::Missing => {}
                        other => {
                            let is = other.type_name();
                            self.error(
                                item,
                                format!("error parsing {field}: unsupported type in array {is}"),
                            );
                        }
                    }
                }
                Some(texts)
            }
            Value::Missing => None,
            other => {
                let is = other.type_name();
                self.error(node, format!("error parsing {field}: unsupported type {is}"));
                None
            }
        }
    }

    /// A map from names to texts, or the error `text` followed by the type.
    pub(super) fn text_map(&mut self, node: &Node, text: &str) -> Option<BTreeMap<String, String>> {
        let map = match &node.value {
            Value::Map(map) => map,
            Value::Missing => return None,
            other => {
                let is = other.type_name();
                self.error(node, format!("{text} {is}"));
                return None;
            }
        };
        let mut out = BTreeMap::new();
        for (key, node) in map.in_order() {
            if let Some(value) = self.text(node) {
                out.insert(key.to_string(), value);
            }
        }
        Some(out)
    }

    /// A duration: a text with units, or seconds as an integer, which is deprecated.
    pub(super) fn duration(&mut self, node: &Node, field: &str) -> Option<Duration> {
        let ns = match &node.value {
            Value::Text(text) => match duration::parse_ns(text) {
                Ok(ns) => ns,
                Err(err) => {
                    self.error(node, format!("error parsing {field}: {err}"));
                    return None;
                }
            },
            Value::Int(seconds) => {
                self.misuse(node, field, &format!("{field} should be converted to a duration"));
                seconds.saturating_mul(1_000_000_000)
            }
            _ => {
                self.wrong_type(node, "int64");
                return None;
            }
        };
        self.not_negative(node, field, ns)
    }

    /// A duration given as a text only.
    pub(super) fn duration_text(&mut self, node: &Node, field: &str) -> Option<Duration> {
        let text = self.text(node)?;
        match duration::parse_ns(&text) {
            Ok(ns) => self.not_negative(node, field, ns),
            Err(err) => {
                self.error(node, format!("error parsing {field}: {err}"));
                None
            }
        }
    }

    fn not_negative(&mut self, node: &Node, field: &str, ns: i64) -> Option<Duration> {
        let ns = u64::try_from(ns).ok();
        if ns.is_none() {
            self.error(node, format!("invalid {field}, needs to be positive"));
        }
        ns.map(Duration::from_nanos)
    }

    /// A timeout in seconds, with or without a fraction, or as a duration. 0 means not set.
    pub(super) fn timeout(&mut self, node: &Node, block: &str) -> Option<Option<Duration>> {
        let seconds = match &node.value {
            Value::Int(i) => *i as f64,
            Value::Float(x) => *x,
            Value::Text(text) => match duration::parse_ns(text) {
                Ok(ns) => ns as f64 / 1e9,
                Err(err) => {
                    self.error(node, format!("error parsing {block} config, 'timeout' {err}"));
                    return None;
                }
            },
            Value::Missing => return None,
            _ => {
                self.error(node, format!("error parsing {block} config, 'timeout' wrong type"));
                return None;
            }
        };
        match Duration::try_from_secs_f64(seconds) {
            Ok(timeout) => Some(Some(timeout).filter(|t| !t.is_zero())),
            Err(_) => {
                self.error(node, format!("error parsing {block} config, 'timeout' out of range"));
                None
            }
        }
    }

    /// A login timeout, which should not be over a minute.
    pub(super) fn auth_timeout(
        &mut self,
        key: &str,
        node: &Node,
        block: &str,
    ) -> Option<Option<Duration>> {
        let timeout = self.timeout(node, block)?;
        let seconds = timeout.unwrap_or_default().as_secs_f64();
        if seconds > 60.0 {
            let shown = node.value.shown();
            let reason = format!(
                "timeout of {shown} ({seconds:.6} seconds) is high, consider keeping it under 60 \
                 seconds. possibly caused by unquoted duration; use '1m' instead of 1m, for example"
            );
            self.misuse(node, key, &reason);
        }
        Some(timeout)
    }

    /// A port: -1 lets the system choose, 0 means none.
    pub(super) fn port(&mut self, node: &Node) -> Option<Port> {
        let number = self.int(node)?;
        match number {
            -1 => Some(Port::Random),
            0 => Some(Port::Off),
            _ => match u16::try_from(number) {
                Ok(port) => Some(Port::Fixed(port)),
                Err(_) => {
                    self.error(node, format!("port {number} is not between -1 and 65535"));
                    None
                }
            },
        }
    }

    /// `listen`: a port, or `host:port`.
    pub(super) fn listen(&mut self, node: &Node) -> Option<Listen> {
        match &node.value {
            Value::Int(_) => {
                let port = self.port(node)?;
                Some(Listen { host: String::new(), port })
            }
            Value::Text(text) => {
                let Some((host, port)) = split_host_port(text) else {
                    self.error(node, format!("could not parse address string {text:?}"));
                    return None;
                };
                let Ok(number) = port.parse::<i64>() else {
                    self.error(node, format!("could not parse port {port:?}"));
                    return None;
                };
                let number = Node::new(Value::Int(number), node.pos.clone());
                Some(Listen { host: host.to_string(), port: self.port(&number)? })
            }
            Value::Missing => None,
            other => {
                let is = other.type_name();
                self.error(node, format!("expected port or host:port, got {is}"));
                None
            }
        }
    }

    /// `write_timeout`
    pub(super) fn write_timeout(&mut self, node: &Node) -> Option<WriteTimeout> {
        match self.text(node)?.as_str() {
            "default" => Some(WriteTimeout::Default),
            "close" => Some(WriteTimeout::Close),
            "retry" => Some(WriteTimeout::Retry),
            _ => {
                self.error(node, "write_timeout must be 'default', 'close' or 'retry'");
                None
            }
        }
    }

    /// A size in bytes: an integer, or a text that ends in `K`, `M`, `G` or `T` of 1024.
    pub(super) fn storage_size(&mut self, node: &Node, field: &str) -> Option<i64> {
        let text = match &node.value {
            Value::Int(size) => return Some(*size),
            Value::Text(text) if text.is_empty() => return Some(0),
            Value::Text(text) => text,
            Value::Missing => return None,
            _ => {
                self.error(node, format!("{field} must be int64 or string"));
                return None;
            }
        };
        let split = text.char_indices().next_back().map_or(0, |(at, _)| at);
        let (digits, suffix) = text.split_at(split);
        let Ok(number) = digits.parse::<i64>() else {
            let reason = format!("strconv.ParseInt: parsing {digits:?}: invalid syntax");
            self.error(node, format!("{field} {reason}"));
            return None;
        };
        let shift = match suffix {
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => {
                let text = format!("{field} sizes defined as strings must end in K, M, G, T");
                self.error(node, text);
                return None;
            }
        };
        let size = number.checked_mul(1i64 << shift);
        if size.is_none() {
            self.error(node, format!("{field} {text:?} is out of the range"));
        }
        size
    }

    /// Texts that are URLs; one given twice is left out with a warning.
    pub(super) fn urls(&mut self, items: &[Node], kind: &str) -> Vec<String> {
        let mut urls: Vec<String> = Vec::with_capacity(items.len());
        for item in items {
            let Some(url) = self.url(item, kind) else {
                continue;
            };
            if urls.contains(&url) {
                let reason = format!("Duplicate {kind} entry detected");
                self.misuse(item, &redacted(&url), &reason);
            } else {
                urls.push(url);
            }
        }
        urls
    }

    /// A text that is a URL with a scheme and a host.
    pub(super) fn url(&mut self, node: &Node, kind: &str) -> Option<String> {
        let url = self.text(node)?.trim().to_string();
        let bad = url.bytes().any(|c| c.is_ascii_control() || c == b' ')
            || !url.split_once(':').is_none_or(|(scheme, _)| {
                scheme.bytes().next().is_some_and(|c| c.is_ascii_alphabetic())
            });
        if bad {
            self.error(node, format!("error parsing {kind} url [{:?}]", redacted(&url)));
            return None;
        }
        Some(url)
    }
}

/// A URL without the password in it.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_string();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:xxxxx@{host}{path}")
        }
        None => url.to_string(),
    }
}

/// Splits `host:port`; the host may stand in brackets, and must when it has colons itself.
pub(super) fn split_host_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = after.strip_prefix(':')?;
        return (!port.contains(':')).then_some((host, port));
    }
    let (host, port) = text.split_once(':')?;
    (!port.contains(':') && !host.contains(']')).then_some((host, port))
}
