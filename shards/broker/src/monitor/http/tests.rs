//! The HTTP machine: dialogues, limits, and independence of how bytes are split.

use proptest::prelude::*;

use super::*;

const OK: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

/// Feeds chunks and answers every request with its own address; gives what was sent, with `|`
/// for the close.
fn talk<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut conn = HttpConn::new();
    let mut sent = Vec::new();
    for chunk in chunks {
        let mut steps = conn.handle_bytes(chunk);
        while !steps.is_empty() {
            let mut next = Vec::new();
            for step in steps {
                match step {
                    Step::Request(request) => {
                        assert!(!conn.wants_input());
                        let body = [request.path, b"?".to_vec(), request.query].concat();
                        next = conn.handle_response(&Response::json(200, body));
                    }
                    Step::Send(bytes) => sent.extend(bytes),
                    Step::Close => sent.push(b'|'),
                }
            }
            steps = next;
        }
    }
    String::from_utf8_lossy(&sent).into_owned()
}

fn once(text: &str) -> String {
    talk([text.as_bytes()])
}

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    assert_eq!(
        once(OK),
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n\
         Content-Type: application/json\r\nContent-Length: 9\r\n\r\n/healthz?"
    );
    let mut conn = HttpConn::new();
    assert!(conn.is_idle());
    conn.handle_bytes(b"GE");
    assert!(!conn.is_idle() && conn.wants_input());
}

#[test]
fn versions_and_connection_headers_decide_over_keeping_open() {
    let close = once("GET /a HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n");
    assert!(close.contains("\r\nConnection: close\r\n") && close.ends_with("/a?|"));
    let old = once("GET /a HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("/a?|"));
    assert!(!old.contains("Connection"));
    let kept = once("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(kept.contains("\r\nConnection: keep-alive\r\n") && kept.ends_with("/a?"));
}

#[test]
fn targets_are_taken_apart() {
    for (target, expected) in [
        ("/x?y=1?2", "/x?y=1?2"),
        ("http://h:1/x?y", "/x?y"),
        ("HTTP://h?y", "/?y"),
        ("/%68?%zz", "/%68?%zz"),
        ("//x", "//x?"),
    ] {
        let reply = once(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(reply.ends_with(&format!("\r\n\r\n{expected}")), "{target}: {reply}");
    }
    for target in ["x", "*", "/%zz", "/%4", "ftp://h/x"] {
        let reply = once(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(reply.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{target}: {reply}");
        assert!(reply.ends_with("400 Bad Request|"));
    }
    let options = once("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(options.starts_with("HTTP/1.1 200 OK\r\n") && options.ends_with("\r\n\r\n"));
}

#[test]
fn methods_are_served_alike_but_head_has_no_body() {
    for method in ["POST", "PUT", "DELETE", "FOO", "get"] {
        let reply = once(&format!("{method} /a HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(reply.ends_with("Content-Length: 3\r\n\r\n/a?"), "{reply}");
    }
    let head = once("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.ends_with("Content-Length: 3\r\n\r\n"), "{head}");
}

#[test]
fn what_is_not_a_request_is_refused_and_closed() {
    for (text, status) in [
        ("GET /a HTTP/1.1\r\n\r\n", "400 Bad Request: missing required Host header"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
        ("GET /a\r\n\r\n", "400 Bad Request"),
        ("junk\r\n\r\n", "400 Bad Request"),
        ("GE T /a HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        ("CONNECT {}\r\nPING\r\n", "400 Bad Request"),
        ("\x16\x03\x01\0\x05hello", "400 Bad Request"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n", "400 Bad Request"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "400 Bad Request"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", "400 Bad Request"),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "GET /a HTTP/2.0\r\nHost: a\r\n\r\n",
            "505 HTTP Version Not Supported: unsupported protocol version",
        ),
    ] {
        let reply = once(text);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{text}: {reply}");
        assert!(reply.contains("\r\nConnection: close\r\n"));
        assert!(reply.ends_with(&format!("\r\n\r\n{status}|")), "{reply}");
    }
}

#[test]
fn long_heads_and_many_fields_are_refused() {
    let head = |bytes: usize| {
        let frame = "GET /a HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
        frame.replace("X: ", &format!("X: {}", "a".repeat(bytes - frame.len())))
    };
    assert!(once(&head(HEAD_BYTES_MAX)).starts_with("HTTP/1.1 200 OK\r\n"));
    for bytes in [HEAD_BYTES_MAX + 1, 1_000_000] {
        let reply = once(&head(bytes));
        assert!(reply.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        assert!(reply.ends_with('|'));
    }
    let many = "X: y\r\n".repeat(HEADERS_MAX);
    let reply = once(&format!("GET /a HTTP/1.1\r\nHost: a\r\n{many}\r\n"));
    assert!(reply.starts_with("HTTP/1.1 431 "));
}

#[test]
fn bodies_are_thrown_away_within_the_limit() {
    let body = "x".repeat(1000);
    let text = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{body}{OK}");
    assert_eq!(once(&text).matches("200 OK").count(), 2);
    for field in [
        "Content-Length: 65537",
        "Content-Length: 18446744073709551615",
        "Transfer-Encoding: chunked",
        "Content-Length: 1\r\nExpect: 100-continue",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
    ] {
        let reply = once(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{OK}"));
        assert!(reply.ends_with("Connection: close\r\n\r\n/a?|"), "{field}: {reply}");
    }
}

#[test]
fn pipelined_requests_wait_within_the_limit() {
    for requests in [5, 1000] {
        assert_eq!(once(&OK.repeat(requests)).matches("/healthz?").count(), requests);
    }
    let mut conn = HttpConn::new();
    let steps = conn.handle_bytes(OK.as_bytes());
    assert!(matches!(steps.as_slice(), [Step::Request(_)]));
    assert!(conn.handle_bytes(&vec![b'a'; PIPELINE_BYTES_MAX]).is_empty());
    assert_eq!(conn.handle_bytes(b"a"), [Step::Close]);
    assert!(conn.handle_response(&Response::not_found()).is_empty());
    assert!(conn.handle_bytes(OK.as_bytes()).is_empty());
    assert!(!conn.wants_input());
}

#[test]
fn an_answer_without_a_request_is_ignored() {
    let mut conn = HttpConn::new();
    assert!(conn.handle_response(&Response::not_found()).is_empty());
    assert!(conn.is_idle());
}

#[test]
fn a_connection_does_not_live_forever() {
    let mut conn = HttpConn { answered: REQUESTS_PER_CONNECTION_MAX - 1, ..Default::default() };
    conn.handle_bytes(OK.as_bytes());
    let steps = conn.handle_response(&Response::not_found());
    assert!(matches!(steps.as_slice(), [Step::Send(_), Step::Close]));
}

#[test]
fn errors_carry_their_headers() {
    let mut conn = HttpConn::new();
    conn.handle_bytes(OK.as_bytes());
    let steps = conn.handle_response(&Response::not_found());
    let [Step::Send(bytes)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(
        String::from_utf8_lossy(bytes),
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Length: 19\r\n\r\n404 page not found\n"
    );
    conn.handle_bytes(OK.as_bytes());
    let steps = conn.handle_response(&Response::redirect(b"/varz", b"x"));
    let [Step::Send(bytes)] = steps.as_slice() else { panic!("{steps:?}") };
    let text = String::from_utf8_lossy(bytes);
    assert!(text.starts_with("HTTP/1.1 307 Temporary Redirect\r\n"), "{text}");
    assert!(text.contains("\r\nLocation: /varz?x\r\n"), "{text}");
}

/// A piece of a conversation, well formed or not.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(OK.as_bytes().to_vec()),
        2 => (0_usize..40).prop_map(|size| {
            let head = format!("POST /b?c HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
            [head.into_bytes(), vec![b'G'; size]].concat()
        }),
        1 => Just(b"HEAD /x HTTP/1.1\nHost: a\n\n".to_vec()),
        1 => Just(b"GET /x HTTP/1.0\r\n\r\n".to_vec()),
        1 => Just(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (8100_usize..8300).prop_map(|size| {
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(size)).into_bytes()
        }),
    ]
}

proptest! {
    #[test]
    fn splits_do_not_matter(
        pieces in prop::collection::vec(piece(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream = pieces.concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let chunks = at.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
        prop_assert_eq!(talk(chunks), talk([stream.as_slice()]));
    }

    #[test]
    fn single_bytes_do_not_matter(pieces in prop::collection::vec(piece(), 0..3)) {
        let stream = pieces.concat();
        prop_assert_eq!(talk(stream.chunks(1)), talk([stream.as_slice()]));
    }

    #[test]
    fn hostile_bytes_never_panic(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6),
    ) {
        talk(chunks.iter().map(Vec::as_slice));
    }
}
