//! `permissions` blocks: what a user, or another server, may publish and subscribe.

use super::options::{Permissions, ResponseRule, SubjectRule, SubjectRules};
use super::reader::Reader;
use super::value::{Node, Value};

/// Whether `subject` may be subscribed: tokens between dots, none of them empty, no blanks, and
/// `>` only as the last.
pub(super) fn subject_is_valid(subject: &str) -> bool {
    if subject.is_empty() || subject.contains([' ', '\t', '\n', '\x0c', '\r']) {
        return false;
    }
    let mut tokens = subject.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || (token == ">" && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// Whether `subject` has no wildcards, so that a message can be sent to it.
pub(super) fn subject_is_literal(subject: &str) -> bool {
    subject_is_valid(subject) && !subject.split('.').any(|token| token == "*" || token == ">")
}

/// Reads a `permissions` block.
pub(super) fn read_permissions(r: &mut Reader, node: &Node) -> Option<Permissions> {
    let Value::Map(map) = &node.value else {
        if node.value != Value::Missing {
            let is = node.value.shown();
            r.error(node, format!("Expected permissions to be a map/struct, got {is}"));
        }
        return None;
    };
    let mut out = Permissions::default();
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "pub" | "publish" | "import" => out.publish = read_rules(r, node, false),
            "sub" | "subscribe" | "export" => out.subscribe = read_rules(r, node, true),
            "publish_allow_responses" | "allow_responses" => {
                out.responses = read_responses(r, node);
            }
            _ if node.used => {}
            _ => r.error(node, format!("Unknown field {key:?} parsing permissions")),
        }
    }
    // Who may answer but has no list of what to publish may publish answers only.
    if out.responses.is_some() {
        let publish = out.publish.get_or_insert_default();
        publish.allow.get_or_insert_default();
    }
    Some(out)
}

/// One subject, a list of them, or a map with `allow` and `deny`.
fn read_rules(r: &mut Reader, node: &Node, queues: bool) -> Option<SubjectRules> {
    let Value::Map(map) = &node.value else {
        let allow = read_subjects(r, node, queues)?;
        return Some(SubjectRules { allow: not_empty(allow), deny: Vec::new() });
    };
    let mut out = SubjectRules::default();
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "allow" => out.allow = read_subjects(r, node, queues).and_then(not_empty),
            "deny" => out.deny = read_subjects(r, node, queues).unwrap_or_default(),
            _ if node.used => {}
            _ => r.error(
                node,
                format!(
                    "Unknown field name {key:?} parsing subject permissions, only 'allow' or \
                     'deny' are permitted"
                ),
            ),
        }
    }
    (!map.is_empty()).then_some(out)
}

/// An empty list allows everything, as nats-server has it; it is not a list of nothing.
fn not_empty(rules: Vec<SubjectRule>) -> Option<Vec<SubjectRule>> {
    (!rules.is_empty()).then_some(rules)
}

/// One subject or a list of them; with `queues`, each may be followed by a queue.
pub(super) fn read_subjects(r: &mut Reader, node: &Node, queues: bool) -> Option<Vec<SubjectRule>> {
    let items = match &node.value {
        Value::Text(_) => std::slice::from_ref(node),
        Value::List(items) => items.as_slice(),
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            let want = "Expected subject permissions to be a subject, or array of subjects";
            r.error(node, format!("{want}, got {is}"));
            return None;
        }
    };
    let mut rules = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            Value::Text(text) => match read_rule(text, queues) {
                Ok(rule) => rules.push(rule),
                Err(text) => r.error(item, text),
            },
            Value::Missing => {}
            _ => r.error(item, "Subject in permissions array cannot be cast to string"),
        }
    }
    Some(rules)
}

fn read_rule(text: &str, queues: bool) -> Result<SubjectRule, String> {
    if subject_is_valid(text) {
        return Ok(SubjectRule { subject: text.to_string(), queue: None });
    }
    let mut words = text.split_whitespace();
    let (Some(subject), Some(queue), None, true) =
        (words.next(), words.next(), words.next(), queues)
    else {
        return Err(format!("subject {text:?} is not a valid subject"));
    };
    if !subject_is_valid(subject) {
        return Err(format!("subject {subject:?} is not a valid subject"));
    }
    if !subject_is_valid(queue) {
        return Err(format!("queue {queue:?} is not a valid queue"));
    }
    Ok(SubjectRule { subject: subject.to_string(), queue: Some(queue.to_string()) })
}

/// `allow_responses`: a boolean, or a map with limits.
fn read_responses(r: &mut Reader, node: &Node) -> Option<ResponseRule> {
    let map = match &node.value {
        Value::Bool(on) => return on.then(ResponseRule::default),
        Value::Map(map) => map,
        Value::Missing => return None,
        _ => {
            r.error(node, "error parsing response permissions, expected a boolean or a map");
            return None;
        }
    };
    let mut out = ResponseRule::default();
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            // A negative value means no limit, 0 the default.
            "max" | "max_msgs" | "max_messages" | "max_responses" => match r.int(node) {
                Some(0) | None => {}
                Some(max) => out.responses_max = u64::try_from(max).ok(),
            },
            "expires" | "expiration" | "ttl" => {
                let Value::Text(text) = &node.value else {
                    r.error(node, "error parsing expires, not a duration string");
                    continue;
                };
                match super::duration::parse_ns(text) {
                    Ok(0) => {}
                    Ok(ns) => {
                        out.expires = u64::try_from(ns).ok().map(std::time::Duration::from_nanos);
                    }
                    Err(err) => r.error(node, format!("error parsing expires: {err}")),
                }
            }
            _ if node.used => {}
            _ => r.error(node, format!("Unknown field {key:?} parsing permissions")),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_judged_as_the_server_does() {
        for good in ["a", "a.b", "*", ">", "a.*.>", "a>", "foo*", "$SYS.x"] {
            assert!(subject_is_valid(good), "{good}");
        }
        for bad in ["", ".", "a..b", "a.", ".a", ">.a", "a.>.b", "a b", "a.\t"] {
            assert!(!subject_is_valid(bad), "{bad}");
        }
        assert!(subject_is_literal("a.b>"));
        assert!(!subject_is_literal("a.*"));
    }
}
