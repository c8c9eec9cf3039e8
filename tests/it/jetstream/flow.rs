//! Flow control of push consumers, whose windows depend on what was sent before.

use std::time::Duration;

use super::{Asker, JETSTREAM, text};
use crate::support::raw::Conn;
use crate::support::server::Server;

const CONSUMER: &str = concat!(
    r#"{"stream_name":"S","config":{"name":"c","ack_policy":"none","deliver_subject":"dlv","#,
    r#""flow_control":true,"idle_heartbeat":500000000}}"#
);
/// 60 of these are more than the first windows of flow control.
const BODY_BYTES: usize = 100_000;
const MESSAGES: usize = 60;

/// A server with a stream `S` of `count` large messages, and a connection to ask it with.
fn filled(count: usize) -> (Server, Asker) {
    let server = Server::with_config(JETSTREAM);
    let mut asker = Asker::new(&server);
    asker.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    let body = "x".repeat(BODY_BYTES);
    for _ in 0..count {
        asker.ask("s", &body);
    }
    (server, asker)
}

/// A connection that listens on the deliver subject of a consumer made on another one, so that
/// what is delivered does not mix with the answer.
fn consuming(server: &Server, asker: &mut Asker) -> Conn {
    let mut conn = Conn::login(server.port, r#"{"verbose":false,"headers":true}"#);
    conn.send("SUB dlv 1\r\n");
    conn.sync();
    asker.ask("$JS.API.CONSUMER.CREATE.S.c", CONSUMER);
    conn
}

/// What came on the deliver subject.
#[derive(Debug, PartialEq)]
enum Came {
    Message,
    /// A request for flow control, with the subject to answer on.
    Request(String),
    /// A heartbeat, with the subject to answer on if the consumer is stalled.
    Heartbeat(Option<String>),
    Nothing,
}

fn next(conn: &mut Conn, limit: Duration) -> Came {
    let Ok(line) = conn.line_within(limit) else {
        return Came::Nothing;
    };
    let head = String::from_utf8(line).unwrap();
    let fields: Vec<&str> = head.split(' ').collect();
    if fields[0] == "MSG" {
        assert_eq!(text(conn).len(), BODY_BYTES);
        return Came::Message;
    }
    assert_eq!(fields[0], "HMSG", "{head}");
    // The block of headers, its empty line, and the end of the payload.
    let block = conn.lines_until("");
    assert_eq!(text(conn), "");
    match block[0].as_str() {
        "NATS/1.0 100 FlowControl Request" => Came::Request(String::from(fields[3])),
        "NATS/1.0 100 Idle Heartbeat" => {
            let stalled =
                block.iter().find_map(|line| line.strip_prefix("Nats-Consumer-Stalled: "));
            Came::Heartbeat(stalled.map(String::from))
        }
        other => panic!("unknown status {other}"),
    }
}

#[test]
fn everything_comes_to_one_who_answers() {
    let (server, mut asker) = filled(MESSAGES);
    let mut conn = consuming(&server, &mut asker);
    let (mut messages, mut requests) = (0, 0);
    while messages < MESSAGES {
        match next(&mut conn, Duration::from_secs(5)) {
            Came::Message => messages += 1,
            Came::Request(subject) => {
                requests += 1;
                assert!(subject.starts_with("$JS.FC.S.c."), "{subject}");
                conn.send(format!("PUB {subject} 0\r\n\r\n"));
            }
            Came::Heartbeat(_) => {}
            Came::Nothing => panic!("{messages} messages, {requests} requests"),
        }
    }
    assert!(requests > 0, "6 MB came without a request for flow control");
}

#[test]
fn one_who_does_not_answer_gets_a_window_and_is_told() {
    let (server, mut asker) = filled(MESSAGES);
    let mut conn = consuming(&server, &mut asker);
    let mut messages = 0;
    // A stalled consumer says in its heartbeats on which subject it waits.
    let stalled = loop {
        match next(&mut conn, Duration::from_secs(5)) {
            Came::Message => messages += 1,
            Came::Request(_) | Came::Heartbeat(None) => {}
            Came::Heartbeat(Some(subject)) => break subject,
            Came::Nothing => panic!("no heartbeat after {messages} messages"),
        }
    };
    assert!(messages < MESSAGES, "all messages came without an answer");
    conn.send(format!("PUB {stalled} 0\r\n\r\n"));
    let mut more = 0;
    while more == 0 {
        match next(&mut conn, Duration::from_secs(5)) {
            Came::Message => more += 1,
            Came::Request(_) | Came::Heartbeat(_) => {}
            Came::Nothing => panic!("nothing came after the answer"),
        }
    }
}
