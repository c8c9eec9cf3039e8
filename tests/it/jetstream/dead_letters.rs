//! Dead letters through kills: what a consumer gives up is stored elsewhere once, whenever the
//! process dies, and leaves its own stream only then.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Asker, JETSTREAM, text};
use crate::support::poll;
use crate::support::raw::Conn;
use crate::support::server::{Options, Server};

const ROUND_MESSAGES: u64 = 12;

const CONSUMER: &str = concat!(
    r#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"explicit","max_deliver":1,"#,
    r#""ack_wait":1000000000,"max_ack_pending":10000,"#,
    r#""metadata":{"shearwater.dead_letter":"dead"}}}"#
);

fn state(asker: &mut Asker, stream: &str) -> Value {
    let info = asker.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "");
    serde_json::from_str::<Value>(&info).unwrap()["state"].clone()
}

fn count(asker: &mut Asker, stream: &str) -> u64 {
    state(asker, stream)["messages"].as_u64().unwrap()
}

/// Pulls everything there is; the subjects on which each is acknowledged.
fn pull_all(server: &Server) -> Vec<String> {
    let mut conn = Conn::login(server.port, r#"{"verbose":false,"headers":true}"#);
    conn.send("SUB all 1\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.c all 30\r\n");
    conn.send("{\"batch\":1000, \"no_wait\":true}\r\n");
    let mut acks = Vec::new();
    loop {
        let head = text(&mut conn);
        let fields: Vec<&str> = head.split(' ').collect();
        if fields[0] != "MSG" {
            return acks;
        }
        acks.push(fields[3].to_owned());
        conn.line().unwrap();
    }
}

/// What the stream of dead letters says of where each comes from, and how often it has it.
fn letters(asker: &mut Asker) -> BTreeMap<u64, u32> {
    let mut found = BTreeMap::new();
    let last = state(asker, "D")["last_seq"].as_u64().unwrap();
    for seq in 1..=last {
        asker.request("$JS.API.DIRECT.GET.D", format!("{{\"seq\":{seq}}}").as_bytes());
        let head = text(&mut asker.conn);
        assert!(head.starts_with("HMSG"), "{head}");
        let block = asker.conn.lines_until("");
        let body = text(&mut asker.conn);
        let value = |key: &str| {
            let line = block.iter().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {block:?}")).to_owned()
        };
        let origin: u64 = value("Shearwater-Dead-Letter-Sequence: ").parse().unwrap();
        assert_eq!(value("Shearwater-Dead-Letter-Subject: "), "s");
        assert_eq!(body, format!("body {origin}"));
        *found.entry(origin).or_default() += 1;
    }
    found
}

/// One round: messages are published, delivered and given up, and the process dies at a moment
/// that the round's number chooses. Messages published so far.
fn round(server: &mut Server, number: u64, published: u64) -> u64 {
    let mut asker = Asker::new(server);
    for at in 1..=ROUND_MESSAGES {
        asker.ask("s", format!("body {}", published + at));
    }
    let acks = pull_all(server);
    let before = count(&mut asker, "D");
    for ack in &acks {
        asker.request(ack, b"+TERM");
    }
    // Some confirmations, or the first letters, or nothing at all is waited for.
    match number % 4 {
        0 => {}
        1 => assert_eq!(asker.answer(), ""),
        2 => (0..acks.len()).for_each(|_| assert_eq!(asker.answer(), "")),
        _ => {
            let mut other = Asker::new(server);
            poll("a dead letter", || (count(&mut other, "D") > before).then_some(()));
        }
    }
    server.crash();
    server.start_again();
    published + ROUND_MESSAGES
}

#[test]
fn each_is_stored_once_through_kills() {
    let mut server = Options::new().config(JETSTREAM).shards(2).start();
    let mut asker = Asker::new(&server);
    let source = r#"{"name":"S","subjects":["s"],"retention":"workqueue"}"#;
    asker.ask("$JS.API.STREAM.CREATE.S", source);
    let target = r#"{"name":"D","subjects":["dead"],"allow_direct":true}"#;
    asker.ask("$JS.API.STREAM.CREATE.D", target);
    asker.ask("$JS.API.CONSUMER.DURABLE.CREATE.S.c", CONSUMER);
    let mut published = 0;
    for number in 0..8 {
        published = round(&mut server, number, published);
    }
    // What was delivered again because its delivery was not on disk is given up now.
    let mut asker = Asker::new(&server);
    poll("everything to be given up", || {
        for ack in pull_all(&server) {
            asker.ask_anyhow(&ack, "+TERM");
        }
        (count(&mut asker, "D") >= published).then_some(())
    });
    poll("the stream to be empty", || (count(&mut asker, "S") == 0).then_some(()));
    let expected: BTreeMap<u64, u32> = (1..=published).map(|seq| (seq, 1)).collect();
    assert_eq!(letters(&mut asker), expected);
    // Nothing is left to be sent again.
    server.restart();
    let mut asker = Asker::new(&server);
    assert_eq!((count(&mut asker, "S"), count(&mut asker, "D")), (0, published));
}

#[test]
fn a_letter_waits_for_its_stream() {
    let server = Server::with_config(JETSTREAM);
    let mut asker = Asker::new(&server);
    let source = r#"{"name":"S","subjects":["s"],"retention":"workqueue"}"#;
    asker.ask("$JS.API.STREAM.CREATE.S", source);
    asker.ask("$JS.API.CONSUMER.DURABLE.CREATE.S.c", CONSUMER);
    asker.ask("s", "body 1");
    let acks = pull_all(&server);
    assert_eq!(acks.len(), 1);
    assert_eq!(asker.ask_anyhow(&acks[0], "+TERM it is broken"), "");
    assert_eq!(count(&mut asker, "S"), 1, "there is nothing that could keep it");
    let target = r#"{"name":"D","subjects":["dead"],"allow_direct":true}"#;
    asker.ask("$JS.API.STREAM.CREATE.D", target);
    poll("the letter", || (count(&mut asker, "D") == 1).then_some(()));
    poll("the message to leave", || (count(&mut asker, "S") == 0).then_some(()));
    assert_eq!(letters(&mut asker), BTreeMap::from([(1, 1)]));
}
