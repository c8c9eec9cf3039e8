//! Regression tests for published weaknesses of NATS servers, named after their ids. Each holds
//! for any input, not only for the one that was published.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on has failed

use wire::client::{
    ClientError, ClosedReason, Connect, Op, ParseError, ParseLimits, Step, encode, parse,
};
use wire::nkey::{self, KeyError, KeyKind};
use wire::{headers, subject};

fn limits() -> ParseLimits {
    ParseLimits { max_control_line: 4096, max_payload: 1 << 20, headers: true, connect_only: false }
}

/// CVE-2019-13126: a size that overflows an integer.
#[test]
fn cve_2019_13126_sizes_of_any_length() {
    let sizes = [
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999999",
        "-1",
        "-9223372036854775808",
        "+1",
        "0x10",
        "1e3",
        "1.0",
        "1_0",
        "١",
        "",
    ];
    for size in sizes {
        for line in [
            format!("PUB foo {size}\r\n"),
            format!("PUB foo bar {size}\r\n"),
            format!("pub foo bar {size}\n"),
            format!("HPUB foo {size} 12\r\n"),
            format!("HPUB foo 12 {size}\r\n"),
            format!("HPUB foo bar {size} {size}\r\n"),
        ] {
            let found = parse(line.as_bytes(), &limits());
            // Without its last field `PUB foo bar` still is no publish.
            assert_eq!(found, Err(ParseError::Malformed), "{line:?}");
        }
        let line = format!("UNSUB 1 {size}\r\n");
        let op = Op::Unsub { sid: b"1", max: None };
        assert_eq!(parse(line.as_bytes(), &limits()), Ok(Step::Op { op, consumed: line.len() }));
    }
    for digits in 1..=64 {
        for digit in ["0", "1", "9"] {
            let line = format!("PUB foo {}\r\n", digit.repeat(digits));
            match parse(line.as_bytes(), &limits()) {
                Ok(Step::Incomplete { need }) => assert!(need <= line.len() + (1 << 20) + 2),
                Err(ParseError::PayloadTooLarge { size }) => assert!(size > 1 << 20),
                Err(ParseError::Malformed) => assert!(digits > 9),
                other => panic!("{other:?} for {line:?}"),
            }
        }
    }
}

/// A publish that is too large is refused by its size field, before the payload arrives.
#[test]
fn payload_limit_counts_before_the_payload() {
    let small = ParseLimits { max_payload: 1000, ..limits() };
    for line in ["PUB foo 1001\r\n", "HPUB foo 12 1001\r\n", "PUB  foo 999999999\n"] {
        let error = parse(line.as_bytes(), &small).unwrap_err();
        assert_eq!(error.client_text(), Some("Maximum Payload Violation"));
        assert_eq!(error.reason(), ClosedReason::MaxPayloadExceeded);
    }
    let line = "PUB foo 1000\r\n";
    let need = line.len() + 1002;
    assert_eq!(parse(line.as_bytes(), &small), Ok(Step::Incomplete { need }));
}

/// Before the login nothing but CONNECT may make the server hold bytes.
#[test]
fn memory_before_login_is_one_control_line() {
    let closed = ParseLimits { connect_only: true, ..limits() };
    for input in ["PUB foo 1000000\r\n", "P", "\r\n", "SUB a 1\r\n", "\0", "+OK\r\n"] {
        assert_eq!(parse(input.as_bytes(), &closed), Err(ParseError::NotConnected));
    }
    for filler in ["a", " ", "\t", "{", "\"", "\r"] {
        let input = format!("CONNECT {}", filler.repeat(4400));
        assert_eq!(parse(input.as_bytes(), &closed), Err(ParseError::ControlLineTooLong));
    }
    for verb in ["PING", "PONG", "+OK", "SUB ", "PUB ", "INFO ", "-ERR ", "UNSUB ", "HPUB "] {
        let input = format!("{verb}{}", "a".repeat(4400));
        assert_eq!(parse(input.as_bytes(), &limits()), Err(ParseError::ControlLineTooLong));
    }
}

/// CVE-2020-26149: clients sent secrets in fields nobody asked for; nothing may show them.
#[test]
fn cve_2020_26149_unknown_and_secret_fields_are_never_shown() {
    let json = br#"{"user":"ann","pass":"S1","auth_token":"S2","jwt":"S3","sig":"S4",
        "proxy_sig":"S5","tls":{"key":"S6","keyFile":"S7"},"S8":"S9"}"#;
    let connect = Connect::parse(json).unwrap();
    assert!(connect.has_credentials());
    let shown = format!("{connect:?}");
    assert!(shown.contains("ann"));
    for number in 1..=9 {
        assert!(!shown.contains(&format!("S{number}")), "S{number} in {shown}");
    }
    let error = Connect::parse(br#"{"pass":"S1","verbose":"S2"}"#).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("S1") && !shown.contains("S2"), "{shown}");
}

/// CVE-2022-24450: `account` in CONNECT let a client into any account. The fields are kept apart
/// so that a server can refuse them; they are no credentials.
#[test]
fn cve_2022_24450_account_fields_are_visible_and_no_credentials() {
    let connect = Connect::parse(br#"{"account":"$SYS","new_account":true}"#).unwrap();
    assert_eq!(connect.account.as_deref(), Some("$SYS"));
    assert!(connect.new_account && !connect.has_credentials());
}

/// CVE-2026-58213: a name with line breaks became a protocol line for somebody else.
#[test]
fn cve_2026_58213_names_cannot_carry_protocol_lines() {
    for byte in (0..=b' ').chain([0x7f]) {
        let name = [b"a", [byte].as_slice(), b"b"].concat();
        assert!(!subject::is_wire_safe(&name));
        let mut block = Vec::new();
        assert!(!headers::set(&mut block, &name, b"x") && block.is_empty());
    }
    for text in [b"a\r\nPING".as_slice(), b"a\nb", b"a b", b"a\tb", b"a\rb"] {
        assert!(!subject::is_valid_publish(text) && !subject::is_valid_subscribe(text));
        let mut block = b"NATS/1.0\r\n\r\n".to_vec();
        let before = block.clone();
        if text.contains(&b'\r') || text.contains(&b'\n') {
            assert!(!headers::set(&mut block, b"Key", text));
            assert_eq!(block, before);
        }
    }
    // nats-server passes a lone CR on inside a published subject; here it ends the connection.
    for line in ["PUB a\rb 0\r\n\r\n", "PUB a b\rc 0\r\n\r\n", "HPUB a\rb 0 0\r\n\r\n"] {
        assert_eq!(parse(line.as_bytes(), &limits()), Err(ParseError::Malformed));
    }
    let op = Op::Sub { subject: b"a", queue: Some(b"b"), sid: b"1" };
    assert_eq!(parse(b"SUB a\rb 1\r\n", &limits()), Ok(Step::Op { op, consumed: 11 }));
    let mut out = Vec::new();
    let evil = ClientError::PublishDenied { subject: b"a'\r\nPUB b 0\r\n" };
    encode::push_err(&mut out, &evil.text());
    assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 1);
}

/// Security note 2026-23: keys shorter than expected reached the signature code.
#[test]
fn note_2026_23_nkeys_of_every_length() {
    let good = nkey::encode_public(KeyKind::Account, &[7; 32]);
    for len in 0..=128 {
        let text: String = good.chars().cycle().take(len).collect();
        let found = nkey::decode_public(&text);
        if len == nkey::TEXT_LEN {
            assert_eq!(found, Ok((KeyKind::Account, [7; 32])));
        } else {
            assert_eq!(found, Err(KeyError::Length));
        }
        assert!(nkey::decode_seed(&text).is_err());
    }
    for at in 0..nkey::TEXT_LEN {
        for letter in ["A", "7", "0", "a", "=", " "] {
            let mut text = good.clone();
            text.replace_range(at..=at, letter);
            if text != good {
                assert!(nkey::decode_public(&text).is_err(), "{text}");
            }
        }
    }
    for kind in KeyKind::ALL {
        assert_eq!(nkey::is_public(kind, &good), kind == KeyKind::Account);
    }
    // Not ASCII, but as many bytes as a key has.
    assert_eq!(nkey::decode_public(&"é".repeat(28)), Err(KeyError::Encoding));
}

/// Deeply nested JSON must not exhaust the stack, known field or not.
#[test]
fn nested_connect_documents_are_harmless() {
    let deep = "[".repeat(100_000);
    for key in ["x", "user", "verbose", "import"] {
        assert!(Connect::parse(format!("{{\"{key}\":{deep}").as_bytes()).is_err());
    }
    let closed = format!("{{\"x\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    assert!(Connect::parse(closed.as_bytes()).is_ok());
}
