//! Properties over generated values: subjects against a slow model, operations through every cut
//! of the stream, CONNECT and INFO documents, times and durations.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on has failed

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wire::client::{Connect, Info, Op, ParseLimits, Step, encode, parse};
use wire::{subject, time};

/// Patterns of one to four tokens of a tiny alphabet, so that relations come true often.
fn pattern() -> impl Strategy<Value = String> {
    (vec(select(vec!["a", "b", "*"]), 0..4), select(vec!["a", "b", "*", ">"])).prop_map(
        |(mut tokens, last)| {
            tokens.push(last);
            tokens.join(".")
        },
    )
}

/// Every literal of one to five tokens of `a`, `b` and `c`; the `c` stands for any other token.
fn literals() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut level = all.clone();
    for _ in 0..5 {
        level = level
            .iter()
            .flat_map(|head| {
                ["a", "b", "c"].map(|token| {
                    if head.is_empty() { token.to_owned() } else { format!("{head}.{token}") }
                })
            })
            .collect();
        all.extend(level.iter().cloned());
    }
    all.remove(0);
    all
}

/// Matching as the documentation tells it, token by token.
fn model_matches(pattern: &[&str], literal: &[&str]) -> bool {
    match (pattern, literal) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, literal @ ..]) => model_matches(pattern, literal),
        ([x, pattern @ ..], [y, literal @ ..]) => x == y && model_matches(pattern, literal),
        _ => false,
    }
}

fn model(pattern: &str, literal: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let literal: Vec<&str> = literal.split('.').collect();
    model_matches(&pattern, &literal)
}

/// A token that is safe on the wire.
fn token() -> impl Strategy<Value = Vec<u8>> {
    vec(select((0x21..=0xff_u8).filter(|&b| b != 0x7f).collect::<Vec<_>>()), 1..24)
}

fn limits() -> ParseLimits {
    ParseLimits { max_control_line: 256, max_payload: 64, headers: true, connect_only: false }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn subject_relations_follow_the_model(a in pattern(), b in pattern()) {
        let all = literals();
        let (mut common, mut contained) = (false, true);
        for literal in &all {
            let (in_a, in_b) = (model(&a, literal), model(&b, literal));
            prop_assert_eq!(subject::matches(a.as_bytes(), literal.as_bytes()), in_a);
            common |= in_a && in_b;
            contained &= !in_a || in_b;
        }
        prop_assert_eq!(subject::overlaps(a.as_bytes(), b.as_bytes()), common, "{} {}", a, b);
        prop_assert_eq!(subject::is_subset(a.as_bytes(), b.as_bytes()), contained, "{} {}", a, b);
        prop_assert!(subject::is_valid_subscribe(a.as_bytes()));
        prop_assert_eq!(
            subject::is_valid_publish(a.as_bytes()),
            !a.split('.').any(|token| token == "*" || token == ">")
        );
    }

    #[test]
    fn a_publish_is_found_at_any_cut(
        subject in token(),
        reply in proptest::option::of(token()),
        header in proptest::option::of(vec(any::<u8>(), 0..20)),
        payload in vec(any::<u8>(), 0..40),
        blanks in select(vec![" ", "  ", "\t", " \t "]),
        line_end in select(vec!["\r\n", "\n", " \r\n"]),
        verb_case in any::<bool>(),
        tail in vec(any::<u8>(), 0..6),
    ) {
        let header_len = header.as_ref().map(Vec::len);
        let mut body = header.unwrap_or_default();
        body.extend_from_slice(&payload);
        let verb = if header_len.is_some() { "HPUB" } else { "PUB" };
        let mut input = if verb_case { verb.to_lowercase() } else { verb.to_owned() }.into_bytes();
        let mut fields = vec![subject.clone()];
        fields.extend(reply.clone());
        fields.extend(header_len.map(|len| len.to_string().into_bytes()));
        fields.push(body.len().to_string().into_bytes());
        for field in fields {
            input.extend_from_slice(blanks.as_bytes());
            input.extend_from_slice(&field);
        }
        input.extend_from_slice(line_end.as_bytes());
        let line_len = input.len();
        input.extend_from_slice(&body);
        input.extend_from_slice(b"\r\n");
        let total = input.len();
        for len in 0..total {
            match parse(&input[..len], &limits()) {
                Ok(Step::Incomplete { need }) if len < line_len => {
                    prop_assert!(need > len && need <= total);
                }
                Ok(Step::Incomplete { need }) => prop_assert_eq!(need, total),
                other => prop_assert!(false, "{:?} at {}", other, len),
            }
        }
        input.extend_from_slice(&tail);
        let op = Op::Pub {
            subject: &subject,
            reply: reply.as_deref(),
            header_len: header_len.unwrap_or(0),
            body: &body,
        };
        prop_assert_eq!(parse(&input, &limits()), Ok(Step::Op { op, consumed: total }));
    }

    #[test]
    fn subs_and_unsubs_are_found_at_any_cut(
        subject in token(),
        queue in proptest::option::of(token()),
        sid in token(),
        max in proptest::option::of(0..2_000_000_000_u64),
    ) {
        let mut sub = [b"SUB ", subject.as_slice()].concat();
        if let Some(queue) = &queue {
            sub.extend_from_slice(&[b" ", queue.as_slice()].concat());
        }
        sub.extend_from_slice(&[b" ", sid.as_slice(), b"\r\n"].concat());
        let mut unsub = [b"UNSUB ", sid.as_slice()].concat();
        if let Some(max) = max {
            unsub.extend_from_slice(format!(" {max}").as_bytes());
        }
        unsub.extend_from_slice(b"\n");
        let max = max.filter(|&max| max > 0 && max <= 999_999_999);
        let ops = [
            (sub, Op::Sub { subject: &subject, queue: queue.as_deref(), sid: &sid }),
            (unsub, Op::Unsub { sid: &sid, max }),
        ];
        for (input, op) in ops {
            for len in 0..input.len() {
                prop_assert_eq!(
                    parse(&input[..len], &limits()),
                    Ok(Step::Incomplete { need: len + 1 })
                );
            }
            prop_assert_eq!(parse(&input, &limits()), Ok(Step::Op { op, consumed: input.len() }));
        }
    }

    #[test]
    fn any_text_survives_connect_and_info(name in any::<String>(), flag in any::<bool>()) {
        let json = serde_json::json!({"name": name, "echo": flag, "x": [name.clone(), {"y": 1}]});
        let connect = Connect::parse(json.to_string().as_bytes());
        let kept = (!name.is_empty()).then_some(name.clone());
        let expected = Connect { name: kept, echo: flag, ..Connect::default() };
        prop_assert_eq!(connect, Ok(expected));

        let mut out = Vec::new();
        encode::push_info(&mut out, &Info { server_name: name.clone(), ..Info::default() });
        let text = String::from_utf8(out).unwrap();
        let json = text.strip_prefix("INFO ").unwrap().strip_suffix(" \r\n").unwrap();
        prop_assert!(!json.contains(['<', '>', '&', '\n', '\r']));
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        prop_assert_eq!(value["server_name"].as_str(), Some(name.as_str()));
    }

    #[test]
    fn durations_read_back(nanos in any::<i64>(), shift in 0..63_u32) {
        for nanos in [nanos, nanos >> shift] {
            prop_assert_eq!(time::parse_go_duration(&time::format_go_duration(nanos)), Ok(nanos));
        }
    }

    #[test]
    fn duration_text_never_panics(text in "[-+0-9.hmsuµn ]{0,24}") {
        let _ = time::parse_go_duration(&text);
    }

    #[test]
    fn times_are_ordered_like_their_text(a in 0..253_402_300_799_i64, b in 0..253_402_300_799_i64) {
        let (x, y) = (time::format_rfc3339(a, 0), time::format_rfc3339(b, 0));
        prop_assert_eq!(a.cmp(&b), x.cmp(&y));
        prop_assert_eq!(x.len(), 20);
    }

    #[test]
    fn errors_stay_on_their_line(text in any::<String>()) {
        let mut out = Vec::new();
        encode::push_err(&mut out, &text);
        prop_assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 1);
        prop_assert!(out.ends_with(b"'\r\n") && out.starts_with(b"-ERR '"));
    }
}
