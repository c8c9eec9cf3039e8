//! Imports and exports that do not go together, with nats-server's texts.

use super::{errors_of, options_of};

fn two(exports: &str, imports: &str) -> String {
    format!(
        "\naccounts {{\n A {{ exports: [{exports}] }}\n B {{ imports: [{imports}] }}\n C {{ }}\n}}\n"
    )
}

#[test]
fn an_import_needs_an_export_that_covers_it() {
    for (exports, imports) in [
        ("{stream: \"x.>\"}", "{stream: {account: A, subject: \"x.*.y\"}, to: \"z.*\"}"),
        (
            "{stream: \"x.>\", accounts: [B]}",
            "{stream: {account: A, subject: x.a}, prefix: \"p.\"}",
        ),
        (
            "{service: \"x.*.z\", account_token_position: 2}",
            "{service: {account: A, subject: x.B.z}}",
        ),
        ("{service: x}, {stream: x}", "{service: {account: A, subject: x}}"),
    ] {
        options_of(&two(exports, imports));
    }
    for (exports, imports, wanted) in [
        ("", "{stream: {account: A, subject: x}}", "stream import \"x\": stream import"),
        (
            "{stream: x}",
            "{service: {account: A, subject: x}}",
            "service import \"x\": service import",
        ),
        (
            "{stream: \"x.*\"}",
            "{stream: {account: A, subject: \"x.>\"}}",
            "stream import \"x.>\": stream import",
        ),
        (
            "{stream: x, accounts: [C]}",
            "{stream: {account: A, subject: x}}",
            "stream import \"x\": stream import",
        ),
        (
            "{stream: \">\"}, {stream: x, accounts: [C]}",
            "{stream: {account: A, subject: x}}",
            "stream import \"x\": stream import",
        ),
        (
            "{service: \"x.*\", account_token_position: 2}",
            "{service: {account: A, subject: x.C}}",
            "service import \"x.C\": service import",
        ),
        (
            "{service: \"x.*\", account_token_position: 2}",
            "{service: {account: A, subject: \"x.*\"}}",
            "service import \"x.*\": service import",
        ),
    ] {
        let text = format!("t.conf:2:1: Error adding {wanted} not authorized");
        assert_eq!(errors_of(&two(exports, imports)), [text], "{exports} {imports}");
    }
}

#[test]
fn mappings_are_checked() {
    let import =
        |kind: &str, rest: &str| format!("{{{kind}: {{account: A, subject: \"x.*.*\"}}, {rest}}}");
    for (kind, rest, wanted) in [
        (
            "stream",
            "to: \"y.$1\"",
            "Error adding stream import \"x.*.*\": failed to create mapping transform for stream import subject from \"x.*.*\" to \"y.$1\": invalid mapping destination: not using all of the token wildcard(s) in y.$1",
        ),
        (
            "service",
            "to: \"y.$1\"",
            "Error adding service import \"x.*.*\": failed to create mapping transform for service import subject from \"y.$1\" to \"x.*.*\": invalid mapping destination: not using all of the token wildcard(s) in y.$1",
        ),
        (
            "stream",
            "prefix: \"p.*\"",
            "Error adding stream import \"x.*.*\": stream import prefix can not contain wildcard tokens",
        ),
    ] {
        let export = format!("{{{kind}: \"x.>\"}}");
        let errors = errors_of(&two(&export, &import(kind, rest)));
        assert_eq!(errors, [format!("t.conf:2:1: {wanted}")]);
    }
    let twice = "{stream: {account: A, subject: x}}, {stream: {account: A, subject: x}, to: y}";
    let wanted = "t.conf:2:1: Error adding stream import \"x\": stream import already exists";
    assert_eq!(errors_of(&two("{stream: x}", twice)), [wanted]);
    let position = "{service: \"x.*\", account_token_position: 1}";
    let wanted = "t.conf:2:1: Error adding service export \"x.*\": sublist: invalid subject";
    assert_eq!(errors_of(&two(position, "")), [wanted]);
}

/// Rings of accounts of every length, with and without wildcards.
#[test]
fn cycles_are_refused() {
    for kind in ["service", "stream"] {
        for length in 2..=8 {
            for (subject, to) in [("x", "x"), ("s.*", "s.$1"), ("s.>", "s.>")] {
                let ring = |closed: bool| {
                    let accounts = (0..length).map(|n| {
                        let from = (n + 1) % length;
                        let import = format!(
                            "imports: [{{{kind}: {{account: N{from}, subject: \"{subject}\"}}, to: \"{to}\"}}]"
                        );
                        let import = if closed || from != 0 { import } else { String::new() };
                        format!(" N{n} {{ exports: [{{{kind}: \"{subject}\"}}]\n {import} }}\n")
                    });
                    format!("\naccounts {{\n{}}}\n", accounts.collect::<String>())
                };
                options_of(&ring(false));
                let errors = errors_of(&ring(true));
                let wanted = format!(
                    "t.conf:2:1: Error adding {kind} import {subject:?}: import forms a cycle"
                );
                assert_eq!(errors, [wanted]);
            }
        }
    }
    // An account may use its own service under another name.
    options_of(
        "\naccounts { A { exports: [{service: x}]\n imports: [{service: {account: A, subject: x}, to: y}] } }\n",
    );
}
