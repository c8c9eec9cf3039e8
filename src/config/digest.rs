//! The digest of a configuration: SHA-256 over the JSON text of its tree, byte for byte what
//! nats-server hashes, so that both print the same digest for the same file.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::value::{Map, Value};

/// `sha256:<hex>` over the JSON text of `map` and a line feed.
pub fn digest(map: &Map) -> String {
    let mut text = String::new();
    write_map(map, &mut text);
    text.push('\n');
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(text.as_bytes())))
}

/// The JSON text that is hashed, without the line feed; also of use to show a parsed file.
pub fn json(map: &Map) -> String {
    let mut text = String::new();
    write_map(map, &mut text);
    text
}

fn write_map(map: &Map, out: &mut String) {
    out.push('{');
    for (index, (key, node)) in map.sorted().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(key, out);
        out.push(':');
        write_value(&node.value, out);
    }
    out.push('}');
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Float(x) => out.push_str(&float_text(*x)),
        Value::Text(s) | Value::Date(s) => write_text(s, out),
        Value::List(items) => {
            out.push('[');
            for (index, node) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(&node.value, out);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(map, out),
        Value::Missing => out.push_str("null"),
    }
}

/// A float as Go's JSON encoder writes it: shortest digits, an exponent only when very small or
/// very large.
pub(super) fn float_text(x: f64) -> String {
    let size = x.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{x:e}");
        return match text.split_once('e') {
            Some((digits, exp)) if !exp.starts_with('-') => format!("{digits}e+{exp}"),
            _ => text,
        };
    }
    format!("{x}")
}

/// A string as Go's JSON encoder writes it, which also escapes what is special in HTML.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
