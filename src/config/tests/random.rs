//! Properties that hold for any text.

use proptest::prelude::*;

use super::World;
use crate::config::{Map, Value, fuzz, parse_text};

/// Bytes that look like a configuration more often than not.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "port",
        "authorization",
        "users",
        "user",
        "a",
        "b",
        "permissions",
        "publish",
        "allow",
        "accounts",
        "jetstream",
        "tls",
        "cluster",
        "include",
        "$a",
        "$2a$x",
        "{",
        "}",
        "[",
        "]",
        "(\n",
        "\n)\n",
        ":",
        "=",
        ",",
        ";",
        "\n",
        " ",
        "#",
        "//",
        "\"",
        "'",
        "\\",
        "\\x4",
        "1",
        "1k",
        "1.5",
        "1.2.3.4:5",
        "-",
        "2016-05-04T18:53:41Z",
        "true",
        "2s",
        "a.>",
        "\u{e9}",
        "\t",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.concat().into_bytes())
}

/// A value tree as it can come out of a text.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1_000_000i64..1_000_000).prop_map(|n| Value::Float(n as f64 / 64.0)),
        any::<String>().prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| { Value::List(items.into_iter().map(node).collect()) }),
            prop::collection::vec(("[a-zA-Z_.*>$]{1,8}", inner), 0..5).prop_map(|entries| {
                let mut map = Map::default();
                for (key, value) in entries {
                    map.insert(key, node(value));
                }
                Value::Map(map)
            }),
        ]
    })
}

fn node(value: Value) -> crate::config::Node {
    let file = std::sync::Arc::from("");
    crate::config::Node::new(value, crate::config::Pos::new(&file, 0, 0))
}

/// Writes a value as text that means the same.
fn print(value: &Value, out: &mut String) {
    match value {
        Value::Bool(b) => out.push_str(&b.to_string()),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Float(x) => out.push_str(&format!("{x:.6}")),
        Value::Text(text) => {
            out.push('"');
            for byte in text.bytes() {
                match byte {
                    b' '..=b'!' | b'#'..=b'[' | b']'..=b'~' => out.push(char::from(byte)),
                    _ => out.push_str(&format!("\\x{byte:02x}")),
                }
            }
            out.push('"');
        }
        Value::List(items) => {
            out.push('[');
            for item in items {
                print(&item.value, out);
                out.push_str(" ,");
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (key, node) in map.sorted() {
                out.push_str(&format!("\"{key}\": "));
                print(&node.value, out);
                out.push('\n');
            }
            out.push('}');
        }
        Value::Date(_) | Value::Missing => {}
    }
}

/// Whether two values mean the same, wherever they stand.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.value, &b.value))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.sorted()
                    .zip(b.sorted())
                    .all(|((k, a), (l, b))| k == l && same(&a.value, &b.value))
        }
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::config(&bytes);
    }

    #[test]
    fn anything_like_a_configuration_is_read_without_a_panic(bytes in soup()) {
        fuzz::config(&bytes);
    }

    #[test]
    fn a_printed_tree_is_read_back(value in tree()) {
        let mut text = "x: ".to_string();
        print(&value, &mut text);
        text.push('\n');
        let map = parse_text(text.as_bytes(), "t.conf", &World::default());
        let map = map.map_err(|errors| TestCaseError::fail(format!("{text}: {errors}")))?;
        let read = &map.get("x").unwrap().value;
        prop_assert!(same(read, &value), "{text}\n{read:?}");
    }
}
