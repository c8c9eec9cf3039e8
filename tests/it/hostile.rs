//! What strangers may send before they log in: no harm, no growth, no hold on others.
//!
//! The numbers in the comments are the rows of nats-server's published advisories whose class
//! of mistake each test stands for.

use std::time::Duration;

use crate::support::server::Options;
use crate::support::{Conn, Server, http};

/// A simple seeded generator, so that a failing run can be played again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// The server still serves: a publish reaches its subscriber.
fn expect_service(port: u16, connect: &str) {
    let mut conn = Conn::login(port, connect);
    conn.send("SUB alive 1\r\nPUB alive 2\r\nok\r\n");
    conn.expect("MSG alive 1 2");
    conn.expect("ok");
}

const OPEN: &str = r#"{"verbose":false}"#;

#[test]
fn random_bytes_end_in_an_error_or_a_close() {
    let server = Server::plain();
    let mut random = Random(0x5eed_0001);
    for _ in 0..300 {
        let mut conn = Conn::open(server.port);
        let count = 1 + (random.next() % 600) as usize;
        // The server may close in the middle, which is its right.
        drop(conn.try_send(random.bytes(count)));
        drop(conn.try_send("\r\n\r\n"));
    }
    expect_service(server.port, OPEN);
}

#[test]
fn mutated_frames_end_in_an_error_or_a_close() {
    let server = Server::plain();
    let mut random = Random(0x5eed_0002);
    let good = b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB a.* q 1\r\n\
        HPUB a.b r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB a.b 2\r\nhi\r\nUNSUB 1 5\r\nPING\r\n";
    for _ in 0..500 {
        let mut bytes = good.to_vec();
        for _ in 0..1 + random.next() % 4 {
            let at = (random.next() % bytes.len() as u64) as usize;
            match random.next() % 3 {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.next() as u8),
            }
        }
        let mut conn = Conn::open(server.port);
        drop(conn.try_send(bytes));
    }
    expect_service(server.port, OPEN);
}

/// Row 1: sizes at and beyond the borders of integers.
#[test]
fn sizes_at_the_borders_of_integers() {
    let server = Server::plain();
    let sizes = [
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-1",
        "-9223372036854775808",
        "99999999999999999999999999999999",
        "1e3",
        "",
    ];
    for size in sizes {
        for frame in [
            format!("PUB a {size}\r\n"),
            format!("PUB a b {size}\r\n"),
            format!("HPUB a {size} {size}\r\n"),
            format!("HPUB a 12 {size}\r\n"),
            format!("HPUB a {size} 12\r\n"),
            format!("UNSUB 1 {size}\r\n"),
        ] {
            let mut conn = Conn::login(server.port, r#"{"verbose":false,"headers":true}"#);
            drop(conn.try_send(&frame));
            drop(conn.try_send("x\r\n"));
        }
    }
    expect_service(server.port, OPEN);
}

/// Rows 25, 27 and 41: ten thousand strangers, each with the beginning of a CONNECT.
#[test]
fn partial_connects_hold_little_memory() {
    const STRANGERS: u64 = 10_000;
    let config = "authorization { user: u, password: p, timeout: 60 }\n";
    let server = Server::monitored(config);
    raise_file_limit();
    let before = server.resident_bytes();
    let mut held = Vec::new();
    let beginning = format!("CONNECT {{\"name\":\"{}", "n".repeat(1000));
    for _ in 0..STRANGERS {
        let mut conn = Conn::greeted(server.port);
        conn.send(&beginning);
        held.push(conn);
    }
    expect_service(server.port, r#"{"verbose":false,"user":"u","pass":"p"}"#);
    let grown = server.resident_bytes().saturating_sub(before);
    let bound = if crate::support::server::oracle().is_some() { 100_000 } else { 8 * 1024 };
    assert!(grown / STRANGERS <= bound, "{} bytes a connection", grown / STRANGERS);
}

fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Row 27: a stream of bytes without a line end does not pile up.
#[test]
fn endless_lines_before_login_are_cut_off() {
    let server = Server::with_config("authorization { user: u, password: p, timeout: 60 }");
    let before = server.resident_bytes();
    for verb in ["CONNECT {\"a\":\"", "CONNECT ", "C"] {
        let mut conn = Conn::greeted(server.port);
        drop(conn.try_send(verb));
        for _ in 0..2000 {
            if conn.try_send([b'a'; 16 * 1024]).is_err() {
                break;
            }
        }
        conn.read_to_close();
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "grown by {grown} bytes");
}

/// A login sent byte by byte, slower than the time allowed, is ended and holds up nobody.
#[test]
fn slow_logins_end_at_the_timeout() {
    let server = Server::with_config("authorization { user: u, password: p, timeout: 1 }");
    let mut slow: Vec<Conn> = (0..50).map(|_| Conn::greeted(server.port)).collect();
    let text = br#"CONNECT {"verbose":false,"user":"u","pass":"p","name":"very slow indeed"}"#;
    let start = std::time::Instant::now();
    'sending: for byte in text {
        for conn in &mut slow {
            if conn.try_send([*byte]).is_err() {
                break 'sending;
            }
        }
        // The pace of the attack itself; nothing is synchronised by it.
        std::thread::sleep(Duration::from_millis(25));
    }
    expect_service(server.port, r#"{"verbose":false,"user":"u","pass":"p"}"#);
    for conn in &mut slow {
        conn.read_to_close();
    }
    assert!(start.elapsed() < Duration::from_secs(8));
}

/// Rows 2 and 21: secrets of a login stand on no page and in no log.
#[test]
fn secrets_are_shown_nowhere() {
    let hash = bcrypt::hash("hashed-s3cret", 4).unwrap();
    let server = Options::new()
        .config(format!(
            "authorization {{ users = [ {{ user: u, password: plain-s3cret }}, \
             {{ user: h, password: \"{hash}\" }} ] }}"
        ))
        .flags(["-m", "-1", "-DV"])
        .start();
    let with = |user: &str, pass: &str| {
        format!(
            r#"{{"verbose":false,"user":"{user}","pass":"{pass}","tls":{{"key":"own-s3cret"}},"jwt":"","auth_token":"token-s3cret"}}"#
        )
    };
    let _one = Conn::login(server.port, &with("u", "plain-s3cret"));
    let _two = Conn::login(server.port, &with("h", "hashed-s3cret"));
    let mut wrong = Conn::greeted(server.port);
    wrong.send(format!("CONNECT {}\r\n", with("u", "guess-s3cret")));
    wrong.read_to_close();
    let pages = [
        "/varz",
        "/connz?auth=1&subs=detail",
        "/connz?state=closed&auth=1",
        "/accountz?acc=$G",
        "/subsz?subs=1",
        "/accstatz",
    ];
    for path in pages {
        let body = http::get(&server, path).body;
        assert!(!body.contains("s3cret") && !body.contains(&hash), "{path}: {body}");
    }
    let log = server.log_text();
    for secret in ["plain-s3cret", "hashed-s3cret", "guess-s3cret", &hash] {
        assert!(!log.contains(secret), "{secret} stands in the log:\n{log}");
    }
}

/// Row 44: paging parameters at the borders of integers.
#[test]
fn monitoring_parameters_at_the_borders_of_integers() {
    let server = Server::monitored("");
    let _conn = Conn::quiet(server.port);
    for value in [
        "9223372036854775807",
        "-1",
        "-9223372036854775808",
        "18446744073709551615",
        "0",
        "1e9",
        "x",
    ] {
        for path in ["/connz", "/subsz", "/jsz", "/accstatz", "/routez", "/leafz", "/gatewayz"] {
            for parameter in ["offset", "limit", "cid"] {
                let page = http::get(&server, &format!("{path}?{parameter}={value}&subs=1"));
                assert!(
                    matches!(page.status, 200 | 400),
                    "{path} {parameter}={value}: {}",
                    page.status
                );
            }
            let both = format!("{path}?offset={value}&limit={value}");
            assert!(matches!(http::get(&server, &both).status, 200 | 400));
        }
    }
    assert_eq!(http::get(&server, "/healthz").status, 200);
}

/// Strangers on the monitoring port.
#[test]
fn random_bytes_on_the_monitoring_port() {
    let server = Server::monitored("");
    let port = server.monitor_port.unwrap();
    let mut random = Random(0x5eed_0003);
    for _ in 0..100 {
        let mut conn = Conn::open(port);
        let count = 1 + (random.next() % 3000) as usize;
        drop(conn.try_send(random.bytes(count)));
    }
    let mut long = Conn::open(port);
    drop(long.try_send(format!("GET /{} HTTP/1.1\r\n", "a".repeat(200_000))));
    drop(long.try_send("X: y\r\n".repeat(20_000)));
    assert_eq!(http::get(&server, "/healthz").status, 200);
}

/// Rows 32 and 40: a user without credentials obeys every restriction of that user, whichever
/// verb comes first.
#[test]
fn no_auth_user_is_bound_like_any_other() {
    let server = Server::with_config(
        "accounts { A { users = [ { user: anon, password: x, permissions: { publish: { deny: \">\" }, \
         subscribe: { allow: \"open\" } } } ] } }\nno_auth_user: anon",
    );
    for first in [
        "PUB shut 0\r\n\r\n",
        "PING\r\nPUB shut 0\r\n\r\n",
        "CONNECT {\"verbose\":false}\r\nPUB shut 0\r\n\r\n",
    ] {
        let mut conn = Conn::greeted(server.port);
        conn.send(first);
        conn.send("PING\r\n");
        let lines = conn.lines_until("PONG");
        let mut all = lines.join("\n");
        if first.starts_with("PING") {
            all = conn.lines_until("PONG").join("\n");
        }
        assert!(all.contains(r#"Permissions Violation for Publish to "shut""#), "{first}: {all}");
    }
    let mut conn = Conn::greeted(server.port);
    conn.send("SUB shut 1\r\nPING\r\n");
    let said = conn.lines_until("PONG").join("\n");
    assert!(said.contains(r#"Permissions Violation for Subscription to "shut""#), "{said}");
}

/// Verbs between servers, from a client.
#[test]
fn verbs_between_servers_are_unknown() {
    let server = Server::plain();
    for frame in [
        "RS+ $G foo\r\n",
        "RMSG $G foo 0\r\n\r\n",
        "LS+ foo\r\n",
        "LMSG foo 0\r\n\r\n",
        "A+ X\r\n",
        "A- X\r\n",
    ] {
        let mut conn = Conn::login(server.port, OPEN);
        drop(conn.try_send(frame));
        assert!(conn.read_to_close().contains("Unknown Protocol Operation"), "{frame}");
    }
}

/// JSON of any depth and length in CONNECT.
#[test]
fn deep_json_does_no_harm() {
    let server = Server::plain();
    for text in [
        "[".repeat(2000),
        "{\"a\":".repeat(700),
        format!("{{\"a\":{}1{}}}", "[".repeat(1500), "]".repeat(1500)),
    ] {
        let mut conn = Conn::greeted(server.port);
        drop(conn.try_send(format!("CONNECT {text}\r\n")));
    }
    expect_service(server.port, OPEN);
}
