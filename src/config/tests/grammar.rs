//! The grammar: includes, variables, bounds, and the places of values.

use super::{World, errors_of, load_in, options_of};
use crate::config::{Map, Value, parse_text};

fn tree(text: &str) -> Map {
    parse_text(text.as_bytes(), "t.conf", &World::default()).unwrap()
}

fn grammar_error(text: &str) -> String {
    let result = parse_text(text.as_bytes(), "t.conf", &World::default());
    result.err().map_or_else(|| panic!("accepted: {text:?}"), |errors| errors.to_string())
}

#[test]
fn values_know_their_place() {
    let map = tree("a: 1\n  b { c: x\n d = [ 5, \"q\" ] }\n");
    let place = |map: &Map, key: &str| {
        let pos = &map.get(key).unwrap().pos;
        (pos.line, pos.column)
    };
    assert_eq!(place(&map, "a"), (1, 0));
    assert_eq!(place(&map, "b"), (2, 3));
    let Value::Map(inner) = &map.get("b").unwrap().value else { panic!() };
    assert_eq!(place(inner, "c"), (2, 7));
    assert_eq!(place(inner, "d"), (3, 2));
    let Value::List(items) = &inner.get("d").unwrap().value else { panic!() };
    assert_eq!((items[0].pos.line, items[0].pos.column), (3, 8));
    assert_eq!((items[1].pos.line, items[1].pos.column), (3, 12));
}

#[test]
fn scalars_have_their_types() {
    let cases: [(&str, Value); 14] = [
        ("5", Value::Int(5)),
        ("-5", Value::Int(-5)),
        ("1m", Value::Int(1_000_000)),
        ("1mb", Value::Int(1024 * 1024)),
        ("2Kib", Value::Int(2048)),
        ("1.5", Value::Float(1.5)),
        ("Yes", Value::Bool(true)),
        ("off", Value::Bool(false)),
        ("2s", Value::Text("2s".into())),
        ("1h30m", Value::Text("1h30m".into())),
        ("127.0.0.1:4222", Value::Text("127.0.0.1:4222".into())),
        ("$2a$11$abc", Value::Text("$2a$11$abc".into())),
        ("\"a\\x41\\n\"", Value::Text("aA\n".into())),
        ("2016-05-04T18:53:41Z", Value::Date("2016-05-04T18:53:41Z".into())),
    ];
    for (text, value) in cases {
        assert_eq!(tree(&format!("x: {text}\n")).get("x").unwrap().value, value, "{text}");
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    assert!(grammar_error("a: 10e\n").starts_with("integer '10e' is out of the range"));
    assert!(grammar_error("a: 9223372036854775808\n").contains("is out of the range"));
    assert_eq!(tree("a: 7eib\n").get("a").unwrap().value, Value::Int(7 << 60));
}

#[test]
fn the_last_of_two_equal_keys_counts() {
    assert_eq!(tree("a: 1\na: 2\n").get("a").unwrap().value, Value::Int(2));
}

#[test]
fn includes_are_relative_to_the_file_they_stand_in() {
    let world = World::default()
        .file("sub/a.conf", "include b.conf\nserver_name: a\n")
        .file("sub/b.conf", "port: 5000\n")
        .file("users.conf", "users: [ {user: u, password: p} ]\n");
    let text = "include \"./sub/a.conf\"\nauthorization { include users.conf }\n";
    let options = load_in(text, &world).unwrap().options;
    assert_eq!(options.listen.port.to_string(), "5000");
    assert_eq!(options.server_name, "a");
    assert_eq!(options.auth.users[0].name, "u");
}

#[test]
fn errors_in_an_included_file_name_that_file() {
    let world = World::default().file("sub/a.conf", "port: 1\nfoo: 2\n");
    let errors = load_in("include sub/a.conf\nbar: 1\n", &world).unwrap_err().to_string();
    assert!(errors.contains("sub/a.conf:2:1: unknown field \"foo\""), "{errors}");
    assert!(errors.contains("t.conf:2:1: unknown field \"bar\""), "{errors}");
}

#[test]
fn an_absolute_include_that_is_only_there_is_found() {
    let world = World::default().file("/etc/x.conf", "port: 5000\n");
    let loaded = load_in("include /etc/x.conf\n", &world).unwrap();
    assert_eq!(loaded.options.listen.port.to_string(), "5000");
}

#[test]
fn files_that_include_each_other_are_refused() {
    let world = World::default().file("a.conf", "include b.conf").file("b.conf", "include a.conf");
    let errors = load_in("include a.conf\n", &world).unwrap_err().to_string();
    assert!(errors.contains("a.conf includes itself"), "{errors}");
    let world = World::default().file("t.conf", "include t.conf");
    let errors = load_in("include t.conf\n", &world).unwrap_err().to_string();
    assert!(errors.contains("t.conf includes itself"), "{errors}");
}

#[test]
fn a_missing_include_does_not_hide_other_errors() {
    let errors = errors_of("include none.conf\nfoo: 1\n");
    assert_eq!(
        errors,
        [
            "error parsing include file 'none.conf', open none.conf: no such file or directory \
             (t.conf:1:7)",
            "t.conf:2:1: unknown field \"foo\"",
        ]
    );
}

#[test]
fn variables_come_from_enclosing_blocks_then_the_environment() {
    let world = World::default().variable("PORT", "5000").variable("PASS", "\"1 2\"");
    let text = "outer: x\nauthorization {\n inner: $PASS\n users: [\n  {user: $outer, \
                password: $inner}\n ]\n}\nport: $PORT\n";
    let options = load_in(text, &world).unwrap().options;
    assert_eq!(options.listen.port.to_string(), "5000");
    assert_eq!(options.auth.users[0].name, "x");
    assert_eq!(options.auth.users[0].password.expose(), "1 2");
}

#[test]
fn a_definition_must_come_before_its_use() {
    let errors = errors_of("server_name: $name\nname: x\n");
    let text = "variable reference for 'name' on line 1 can not be found (t.conf:1:14)";
    assert_eq!(errors, [text]);
}

#[test]
fn a_variable_that_is_missing_does_not_hide_other_errors() {
    let errors = errors_of("port: $a\nhost: $b\nfoo: 1\n");
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn variables_that_multiply_are_bounded() {
    let mut text = "a0: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1 ]\n".to_string();
    for n in 1..12 {
        let before = format!("$a{}", n - 1);
        text.push_str(&format!("a{n}: [{} ]\n", vec![before; 10].join(" , ")));
    }
    assert!(grammar_error(&text).contains("More than 4000000 values"));
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep = |n: usize| format!("x: {}{}\n", open.repeat(n), close.repeat(n));
        assert!(grammar_error(&deep(5000)).contains("Nested deeper than 100 levels"));
    }
    assert!(grammar_error(&"{".repeat(5000)).contains("Nested deeper than 100 levels"));
    assert!(
        parse_text(
            format!("x: {}{}\n", "[".repeat(100), "]".repeat(100)).as_bytes(),
            "t.conf",
            &World::default()
        )
        .is_ok()
    );
}

#[test]
fn depth_is_bounded_through_variables_and_includes() {
    let mut text = "a0: 1\n".to_string();
    for n in 1..2000 {
        text.push_str(&format!("a{n}: [[[[[ $a{} ]]]]]\n", n - 1));
    }
    assert!(grammar_error(&text).contains("Nested deeper than 100 levels"));
    let deep = format!("{}include b.conf{}", "a: {".repeat(60), "\n}".repeat(60));
    let world = World::default().file("b.conf", deep.replace("b.conf", "c.conf"));
    let world = world.file("c.conf", "x: 1\n");
    let error = load_in(&deep, &world).unwrap_err().to_string();
    assert!(error.contains("Nested deeper than 100 levels"), "{error}");
}

#[test]
fn unfinished_texts_are_errors_with_a_place() {
    for text in ["x: [", "x: {", "x: {a", "x: \"a", "x: 'a", "x: (a", "x: [a", "{ a: 1", "'a"] {
        let error = grammar_error(text);
        assert!(error.contains("(t.conf:1:"), "{text}: {error}");
    }
}

#[test]
fn nul_bytes_are_refused() {
    assert!(grammar_error("port: 1\n\0").starts_with("Parse error on line 2"));
}

#[test]
fn numbers_in_arrays_may_stand_before_the_bracket() {
    // nats-server takes the bracket into a word here.
    assert_eq!(options_of("shards { cpus: [0, 2, 4] }\n").shards.cpus, [0, 2, 4]);
}

#[test]
fn bytes_that_are_not_text_become_the_replacement_character() {
    let map = parse_text(b"a: \xff\xfe\n", "t.conf", &World::default()).unwrap();
    assert_eq!(map.get("a").unwrap().value, Value::Text("\u{fffd}\u{fffd}".into()));
}

#[test]
fn an_empty_file_is_a_warning() {
    for text in ["", "\n", "# x\n", "{}"] {
        let loaded = load_in(text, &World::default()).unwrap();
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["t.conf: config has no values or is empty"], "{text:?}");
    }
}
