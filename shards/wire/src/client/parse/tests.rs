//! The parser's grammar, case by case, as nats-server 2.15.1 was seen to behave.

use super::*;

const LIMITS: ParseLimits =
    ParseLimits { max_control_line: 32, max_payload: 1000, headers: true, connect_only: false };

/// The operation at the start of the text, which must be one.
fn op(text: &str) -> Op<'_> {
    match parse(text.as_bytes(), &LIMITS) {
        Ok(Step::Op { op, .. }) => op,
        other => panic!("{other:?} for {text:?}"),
    }
}

fn error(text: &str) -> ParseError {
    parse(text.as_bytes(), &LIMITS).unwrap_err()
}

#[test]
fn any_spelling_of_a_publish() {
    let plain = Op::Pub { subject: b"foo", reply: None, header_len: 0, body: b"ab" };
    for text in [
        "PUB foo 2\r\nab\r\n",
        "pub foo 2\r\nab\r\n",
        "pUb foo 2\nab\r\n",
        "PUB  \t foo\t2 \t\r\nab\r\n",
        "PUB foo 000000002\r\nab\r\n",
    ] {
        assert_eq!(op(text), plain, "{text:?}");
    }
    let reply = Op::Pub { subject: b"foo", reply: Some(b"r"), header_len: 0, body: b"" };
    assert_eq!(op("PUB foo r 0\r\n\r\n"), reply);
    let block = b"NATS/1.0\r\n\r\nx";
    let headers = Op::Pub { subject: b"foo", reply: None, header_len: 12, body: block };
    assert_eq!(op("HPUB foo 12 13\r\nNATS/1.0\r\n\r\nx\r\n"), headers);
    let headers = Op::Pub { subject: b"foo", reply: Some(b"r"), header_len: 12, body: block };
    assert_eq!(op("hpub foo r  12 13\r\nNATS/1.0\r\n\r\nx\r\n"), headers);
    // Without a header byte it is delivered as a plain message.
    let none = Op::Pub { subject: b"foo", reply: None, header_len: 0, body: b"ab" };
    assert_eq!(op("HPUB foo 0 2\r\nab\r\n"), none);
}

#[test]
fn the_other_verbs() {
    let sub = Op::Sub { subject: b"a.*", queue: None, sid: b"x1" };
    assert_eq!(op("SUB a.* x1\r\n"), sub);
    let sub = Op::Sub { subject: b"a", queue: Some(b"q"), sid: b"1" };
    assert_eq!(op("sub \t a \t q  1 \t\r\n"), sub);
    assert_eq!(op("UNSUB 1\r\n"), Op::Unsub { sid: b"1", max: None });
    assert_eq!(op("UNSUB 1 5\r\n"), Op::Unsub { sid: b"1", max: Some(5) });
    for text in ["UNSUB 1 0\r\n", "UNSUB 1 x\r\n", "UNSUB 1 9999999999\r\n"] {
        assert_eq!(op(text), Op::Unsub { sid: b"1", max: None }, "{text:?}");
    }
    for text in ["PING\r\n", "ping\n", "PING xyz\r\n", "PINGxyz\r\n"] {
        assert_eq!(op(text), Op::Ping, "{text:?}");
    }
    assert_eq!(op("Pong \r\n"), Op::Pong);
    assert_eq!(op("+OK\r\n"), Op::Ok);
    assert_eq!(op("-ERR 'x'\r\n"), Op::Err);
    for text in ["INFO {}\r\n", "INFO{\"a\":[1]}\r\n", "info null\r\n"] {
        assert_eq!(op(text), Op::Info, "{text:?}");
    }
    for text in ["CONNECT {}\r\n", "CONNECT{}\n", "cOnNeCt\t {}\r\n"] {
        assert_eq!(op(text), Op::Connect { json: b"{}" }, "{text:?}");
    }
    assert_eq!(op("CONNECT\r\n"), Op::Connect { json: b"" });
}

#[test]
fn what_is_told_and_what_closes_silently() {
    for text in [
        "FOO\r\n",
        "\r\n",
        "PUB\r\n",
        "SUB\r\n",
        "UNSUB\r\n",
        "-ERR\r\n",
        "PI NG\r\n",
        "PUX",
        "MSG foo 1 2\r\n",
        "HMSG",
        "RS+ a b\r\n",
        "A",
        "L",
        "\0",
        " PING\r\n",
    ] {
        assert_eq!(error(text), ParseError::UnknownOperation, "{text:?}");
    }
    for text in [
        "PUB \r\n",
        "PUB foo\r\n",
        "PUB a b c 1\r\n",
        "PUB foo x\r\n",
        "PUB foo -1\r\n",
        "PUB foo 0000000002\r\n",
        "HPUB foo 12\r\n",
        "HPUB a b c 1 1\r\n",
        "HPUB a x 1\r\n",
        "SUB foo\r\n",
        "SUB a b c d\r\n",
        "UNSUB \r\n",
        "UNSUB 1 2 3\r\n",
        "INFO x\r\n",
        "INFO\r\n",
        "INFO []\r\n",
        "PUB foo 1\r\r\n",
    ] {
        assert_eq!(error(text), ParseError::Malformed, "{text:?}");
        assert_eq!(error(text).client_text(), None);
    }
    for text in ["PUB foo 2\r\nabX", "PUB foo 2\r\nab\rX", "PUB foo 2\r\nab\n", "PUB a 0\r\n\n"] {
        assert_eq!(error(text), ParseError::BadPayloadEnd, "{text:?}");
        assert_eq!(error(text).client_text(), Some("Unknown Protocol Operation"));
    }
    // The header size is looked at before the limit, the limit before the payload.
    assert_eq!(error("HPUB foo 12 11\r\n"), ParseError::BadHeaderSize);
    assert_eq!(error("HPUB foo 1200 1100\r\n"), ParseError::BadHeaderSize);
    assert_eq!(error("PUB foo 1001\r\n"), ParseError::PayloadTooLarge { size: 1001 });
    let plain = ParseLimits { headers: false, ..LIMITS };
    for text in ["HPUB foo 12 12\r\n", "HPUB foo\r\n"] {
        assert_eq!(parse(text.as_bytes(), &plain), Err(ParseError::HeadersNotSupported));
    }
}

#[test]
fn control_line_limit_counts_the_argument() {
    let long = |len: usize| "a".repeat(len);
    for text in [
        format!("SUB {} 1\r\n", long(30)),
        format!("SUB {} 1\n", long(30)),
        format!("SUB {}{} 1\r\n", " ".repeat(60), long(30)),
        format!("PUB {} 0\r\n\r\n", long(30)),
    ] {
        op(&text);
    }
    for text in [
        format!("SUB {} 1\r\n", long(31)),
        format!("SUB {} 1 \r\n", long(30)),
        format!("SUB {}", long(33)),
        format!("PUB {} 0\r\n\r\n", long(31)),
        format!("PUB {}\r\n", "a ".repeat(17)),
        format!("-ERR {}\r\n", long(33)),
        format!("CONNECT {}", long(33)),
    ] {
        assert_eq!(error(&text), ParseError::ControlLineTooLong, "{text:?}");
    }
    for text in [format!("SUB {}", long(32)), format!("SUB {}\r", long(32))] {
        let need = text.len() + 1;
        assert_eq!(parse(text.as_bytes(), &LIMITS), Ok(Step::Incomplete { need }));
    }
}

#[test]
fn before_login_only_connect_is_looked_at() {
    let closed = ParseLimits { connect_only: true, ..LIMITS };
    for text in ["P", "PING\r\n", "Z", "\n", "PUB foo 2\r\nab\r\n"] {
        assert_eq!(parse(text.as_bytes(), &closed), Err(ParseError::NotConnected));
    }
    assert_eq!(parse(b"c", &closed), Ok(Step::Incomplete { need: 2 }));
    assert_eq!(parse(b"CX", &closed), Err(ParseError::UnknownOperation));
    let text = ParseError::NotConnected.client_text();
    assert_eq!(text, Some("Authorization Violation"));
}

#[test]
fn only_what_was_used_is_consumed() {
    let input = b"PING\r\nPUB a 1\r\nx\r\nPO";
    assert_eq!(parse(input, &LIMITS), Ok(Step::Op { op: Op::Ping, consumed: 6 }));
    let op = Op::Pub { subject: b"a", reply: None, header_len: 0, body: b"x" };
    assert_eq!(parse(&input[6..], &LIMITS), Ok(Step::Op { op, consumed: 12 }));
    assert_eq!(parse(&input[18..], &LIMITS), Ok(Step::Incomplete { need: 3 }));
    assert_eq!(parse(b"", &LIMITS), Ok(Step::Incomplete { need: 1 }));
}
