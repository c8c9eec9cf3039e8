//! The three layouts of JSON that the monitoring endpoints use, over Go's spelling of values.

use serde::Serialize;

/// Renders `value` with an indent of two blanks, as most endpoints do.
pub(crate) fn indented<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = Vec::with_capacity(1024);
    wire::json::push_pretty(&mut text, value);
    text
}

/// Renders `value` with an indent of three blanks, as `/ipqueuesz` does.
pub(crate) fn indented_by_three<T: Serialize>(value: &T) -> Vec<u8> {
    let narrow = indented(value);
    let mut text = Vec::with_capacity(narrow.len());
    // JSON text has no line breaks inside strings, so the blanks of a line are its indent.
    for (at, line) in narrow.split(|byte| *byte == b'\n').enumerate() {
        if at > 0 {
            text.push(b'\n');
        }
        let words = line.trim_ascii_start();
        let depth = (line.len() - words.len()) / 2;
        text.extend(std::iter::repeat_n(b' ', depth * 3));
        text.extend_from_slice(words);
    }
    text
}

/// Renders `value` without any white space, as `/healthz` does.
pub(crate) fn compact<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = Vec::new();
    wire::json::push(&mut text, value);
    text
}

/// For `skip_serializing_if`: a value that Go would leave out.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn layouts_match_go() {
        let mut map: BTreeMap<&str, BTreeMap<&str, u8>> = BTreeMap::new();
        assert_eq!(indented(&map), b"{}");
        assert_eq!(indented_by_three(&map), b"{}");
        map.insert("a  <", BTreeMap::from([("pending", 0)]));
        let two = "{\n  \"a  \\u003c\": {\n    \"pending\": 0\n  }\n}";
        assert_eq!(String::from_utf8(indented(&map)).unwrap(), two);
        let three = "{\n   \"a  \\u003c\": {\n      \"pending\": 0\n   }\n}";
        assert_eq!(String::from_utf8(indented_by_three(&map)).unwrap(), three);
        assert_eq!(compact(&1.0), b"1");
    }
}
