//! Transforms against what nats-server 2.15.1 answered for the same source and destination.

use proptest::prelude::*;

use super::*;

fn applied(source: &str, destination: &str, subject: &str) -> Option<String> {
    let transform = Transform::new(source.as_bytes(), destination.as_bytes()).unwrap();
    let mut out = Vec::new();
    transform.apply(subject.as_bytes(), &mut out, 7 << 33).then(|| String::from_utf8(out).unwrap())
}

fn refusal(source: &str, destination: &str) -> String {
    Transform::for_stream(source.as_bytes(), destination.as_bytes()).unwrap_err().to_string()
}

#[test]
fn functions_yield_what_nats_server_yields() {
    let cases = [
        ("foo.*", "bar.$1", "foo.a", "bar.a"),
        ("foo.*.*", "bar.{{wildcard(2)}}.{{ Wildcard( 1 ) }}", "foo.a.b", "bar.b.a"),
        ("foo.>", "bar.>", "foo.a.b", "bar.a.b"),
        ("foo.>", ">", "foo.a.b", "a.b"),
        (">", "x.>", "foo.a", "x.foo.a"),
        ("", "x.>", "foo.a", "x.foo.a"),
        ("*.>", "$1.x.>", "a.b.c", "a.x.b.c"),
        ("foo.*", "bar.{{splitfromleft(1,3)}}", "foo.abcdef", "bar.abc.def"),
        ("foo.*", "bar.{{splitFromRight(1,2)}}", "foo.abcdef", "bar.abcd.ef"),
        ("foo.*", "bar.{{SplitFromLeft(1,6)}}", "foo.abcdef", "bar.abcdef"),
        ("foo.*", "bar.{{sliceFromLeft(1,3)}}", "foo.1234567890", "bar.123.456.789.0"),
        ("foo.*", "bar.{{SliceFromRight(1,3)}}", "foo.1234567890", "bar.1.234.567.890"),
        ("foo.*", "bar.{{sliceFromLeft(1,2)}}", "foo.123456", "bar.12.34.56"),
        ("foo.*", "bar.{{split(1,-)}}", "foo.-a-b-", "bar.a.b"),
        ("foo.*", "bar.{{split(1,--)}}", "foo.a--b---c", "bar.a.b.-c"),
        ("foo.*", "bar.{{split(1,)}}", "foo.aöc", "bar.a.ö.c"),
        ("foo.*", "bar.{{left(1,2)}}.{{right(1,2)}}", "foo.abcd", "bar.ab.cd"),
        ("foo.*", "bar.{{left(1,0)}}.{{right(1,9)}}", "foo.abcd", "bar.abcd.abcd"),
        ("foo.*", "bar.$0", "foo.a", "bar.foo"),
        ("foo.*", "bar.$x.$", "foo.a", "bar.$x.$"),
        ("foo", "bar.{{partition(10)}}", "foo", "bar.3"),
        ("*", "bar.{{partition(10,1)}}", "foo", "bar.3"),
        ("foo.*.*", "bar.{{partition(7,1,2)}}.$1", "foo.abc.--a", "bar.5.abc"),
        ("foo.*", "x.{{partition(0,1)}}", "foo.a", "x.0"),
        ("foo.*.*", "bar.{{partition(9)}}.{{split(2,)}}.$0", "foo.a--.a--", "bar.7.a.-.-.foo"),
        ("foo.*.*", "bar.{{split(1,-)}}.{{right(2,2)}}", "foo.-a-b--c.abc", "bar.a.b.c.bc"),
        ("foo.*.*", "bar.{{right(2,2)}}.{{split(1,--)}}", "foo.--.ab", "bar.ab."),
        ("foo.*", "bar.{{partition(-3,1)}}", "foo.a", "bar.3826002220"),
        ("foo", "bar.{{random(4)}}", "foo", "bar.3"),
        ("foo", "bar.{{random(0)}}", "foo", "bar.0"),
    ];
    for (source, destination, subject, wanted) in cases {
        let got = applied(source, destination, subject);
        assert_eq!(got.as_deref(), Some(wanted), "{source} -> {destination} for {subject}");
    }
}

#[test]
fn subjects_outside_of_the_source_are_left_alone() {
    assert_eq!(applied("foo.*", "bar.$1", "foo.a.b"), None);
    assert_eq!(applied("foo.*", "bar.$1", "foo."), None);
    assert_eq!(applied(">", "x.>", "foo.*"), None);
    assert_eq!(applied("foo.*", "", "foo.a").as_deref(), Some("foo.a"));
    let transform = Transform::new(b"foo.*", b"bar.$1").unwrap();
    assert_eq!(apply_or_keep(&transform, b"other", 0).as_ref(), b"other");
    assert_eq!(apply_or_keep(&transform, b"foo.1", 0).as_ref(), b"bar.1");
}

#[test]
fn refusals_have_the_texts_of_nats_server() {
    const BAD: &str = "invalid mapping destination: ";
    let cases = [
        ("foo.*", "bar.*", "invalid subject".to_owned()),
        ("foo.>", "bar", "invalid subject".to_owned()),
        ("foo", "bar.>", "invalid subject".to_owned()),
        ("foo..a", "bar", "invalid subject".to_owned()),
        ("foo", "bar..a", format!("{BAD}invalid transform")),
        ("foo.>", "bar.>.a", format!("{BAD}invalid transform in a")),
        ("foo", "b ar", format!("{BAD}invalid transform")),
        ("foo.*", "b.{{zip(1)}}", format!("{BAD}unknown function in {{{{zip(1)}}}}")),
        ("foo.*", "b.$2", format!("{BAD}wildcard index out of range in $2: [2]")),
        ("foo", "b.$1", format!("{BAD}wildcard index out of range in $1")),
        (
            "foo.*",
            "b.{{wildcard()}}",
            format!("{BAD}not enough arguments passed to the function in {{{{wildcard()}}}}"),
        ),
        (
            "foo.*",
            "b.{{wildcard(1,2)}}",
            format!("{BAD}too many arguments passed to the function in {{{{wildcard(1,2)}}}}"),
        ),
        (
            "foo.*",
            "b.{{split(1)}}",
            format!("{BAD}not enough arguments passed to the function in {{{{split(1)}}}}"),
        ),
        (
            "foo.*",
            "b.{{partition(x,1)}}",
            format!(
                "{BAD}function argument is invalid or in the wrong format in {{{{partition(x,1)}}}}"
            ),
        ),
        (
            "foo.*",
            "b.{{random(2147483648)}}",
            format!(
                "{BAD}function argument is invalid or in the wrong format in \
                 {{{{random(2147483648)}}}}"
            ),
        ),
    ];
    for (source, destination, wanted) in cases {
        assert_eq!(refusal(source, destination), wanted, "{source} -> {destination}");
    }
}

#[test]
fn imports_need_every_wildcard_and_nothing_else() {
    let error = Transform::reversible(b"a.*.*", b"b.$1").unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid mapping destination: not using all of the token wildcard(s) in b.$1"
    );
    let error = Transform::reversible(b"a.*", b"b.{{partition(2,1)}}").unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid mapping destination: the only mapping function allowed for import transforms \
         is {{Wildcard()}} in {{partition(2,1)}}"
    );
}

#[test]
fn a_reversible_transform_leads_back() {
    for destination in ["x.$2.{{wildcard(1)}}.$3.>", "x.$3.$1.$2.>"] {
        let forth = Transform::reversible(b"a.*.b.*.*.>", destination.as_bytes()).unwrap();
        let back = forth.reverse().unwrap();
        let (mut there, mut home) = (Vec::new(), Vec::new());
        assert!(forth.apply(b"a.1.b.2.3.c.d", &mut there, 0));
        assert!(back.apply(&there, &mut home, 0));
        assert_eq!(home, b"a.1.b.2.3.c.d");
    }
    assert_eq!(placeholders_for(b"foo.*.*.>"), b"foo.$1.$2.>");
    assert_eq!(pattern_of(b"foo.$2.{{wildcard(1)}}.$x").0, b"foo.*.*.$x");
    assert!(Transform::new(b"a.*", b"b.{{left(1,1)}}").unwrap().reverse().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_judged_without_a_panic(
        source in "[a-c*>. $]{0,12}",
        destination in "[a-c$1-3.>{}(),lLrR -]{0,24}|(\\{\\{(split|left|SliceFromLeft|partition|\
                        wildcard|random)\\([0-9,\\- ]{0,6}\\)\\}\\}\\.?){1,3}",
        subject in "[a-c.]{0,16}",
        random: u64,
    ) {
        for build in [Transform::new, Transform::reversible, Transform::for_stream] {
            if let Ok(transform) = build(source.as_bytes(), destination.as_bytes()) {
                let mut out = b"kept".to_vec();
                let matched = transform.apply(subject.as_bytes(), &mut out, random);
                prop_assert!(out.starts_with(b"kept"));
                prop_assert_eq!(matched || out.len() == 4, true);
                let _ = transform.reverse();
            }
        }
    }

    #[test]
    fn reversible_transforms_of_ordered_wildcards_come_home(
        tokens in proptest::collection::vec("[a-z0-9]{1,4}", 1..6),
    ) {
        let source = format!("from{}", ".*".repeat(tokens.len()));
        let destination: String =
            (1..=tokens.len()).map(|n| format!("${n}.")).collect::<String>() + "to";
        let subject = format!("from.{}", tokens.join("."));
        let forth = Transform::reversible(source.as_bytes(), destination.as_bytes()).unwrap();
        let back = forth.reverse().unwrap();
        let (mut there, mut home) = (Vec::new(), Vec::new());
        prop_assert!(forth.apply(subject.as_bytes(), &mut there, 0));
        prop_assert!(back.apply(&there, &mut home, 0));
        prop_assert_eq!(home, subject.into_bytes());
    }
}
