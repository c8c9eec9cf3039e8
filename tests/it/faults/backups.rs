//! Backups of streams of which not everything can be read, and restores that nobody ends.

use serde_json::Value;

use super::client::Client;
use super::content::{BRIEF, Origin};
use super::segment::Segment;
use super::{JETSTREAM, api, server};
use crate::support::poll;
use crate::support::server::{Options, Server};

/// Messages of the stream, more than the blocks that a server reads at its start.
const MESSAGES: u64 = 60;

fn message(number: u64) -> Vec<u8> {
    Origin { writer: BRIEF, number }.payload()
}

fn fill(server: &Server) {
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    for number in 1..=MESSAGES {
        let answer = client.try_request("s", &[], &message(number)).unwrap().json();
        assert_eq!(answer["seq"], number, "{answer}");
    }
}

/// A backup: the answer to its request, its chunks, and the status at its end.
struct Backup {
    answer: Value,
    chunks: Vec<Vec<u8>>,
    end: String,
}

fn backup(server: &Server, jsck: bool) -> Backup {
    let mut client = Client::new(server.port);
    let deliver = format!("{}.chunks", client.inbox);
    let body = format!(
        r#"{{"deliver_subject":"{deliver}","chunk_size":1024,"no_consumers":true,"jsck":{jsck}}}"#
    );
    let answer = client.ask_json("$JS.API.STREAM.SNAPSHOT.S", &body);
    let (mut chunks, mut end) = (Vec::new(), String::new());
    while answer["error"].is_null() {
        let chunk = client.message().unwrap();
        assert_eq!(chunk.subject, deliver);
        if chunk.payload.is_empty() {
            end = chunk.headers.concat();
            break;
        }
        if !chunk.reply.is_empty() {
            client.publish(&chunk.reply, "", &[], b"").unwrap();
        }
        chunks.push(chunk.payload);
    }
    Backup { answer, chunks, end }
}

/// Sends a backup to be restored; the final answer.
fn restore(server: &Server, backup: &Backup) -> Value {
    let mut client = Client::new(server.port);
    let config = &backup.answer["config"];
    let body = format!("{{\"config\":{config},\"state\":{}}}", backup.answer["state"]);
    let answer = client.ask_json("$JS.API.STREAM.RESTORE.S", &body);
    let subject = answer["deliver_subject"].as_str().unwrap_or_else(|| panic!("{answer}"));
    for chunk in &backup.chunks {
        let answer = client.try_request(subject, &[], chunk).unwrap();
        assert!(answer.payload.is_empty(), "{answer:?}");
    }
    client.ask_json(subject, "")
}

/// A read that fails fails the backup, and what it sent is not taken for a whole archive.
#[test]
fn a_backup_fails_on_what_the_disk_does_not_give() {
    let options = Options::new().config(JETSTREAM).shards(1);
    let mut server = options.variable("SHEARWATER_DISK_FAULTS", "read:1+=eio?{dir}/gate").start();
    fill(&server);
    server.crash();
    server.start_again();
    let gate = server.dir().join("gate");
    std::fs::write(&gate, "").unwrap();
    let failed = backup(&server, false);
    assert_eq!(failed.end, "NATS/1.0 500 message 1 is unreadable");
    let line = server.wait_log("backup of stream '$G > S' failed");
    assert!(line.contains("message 1 is unreadable"), "{line}");
    std::fs::remove_file(&gate).unwrap();
    let whole = backup(&server, true);
    assert_eq!(whole.end, "NATS/1.0 204");
    api(&mut Client::new(server.port), "STREAM.DELETE.S", "");
    assert_eq!(restore(&server, &failed)["error"]["err_code"], 10_062);
    let restored = restore(&server, &whole);
    assert_eq!(restored["state"]["messages"], MESSAGES, "{restored}");
}

/// What damage took before the start is no part of the stream: the backup names it and has the
/// rest, and one that is to check the messages is refused.
#[test]
fn a_backup_names_what_damage_took() {
    let mut server = server(1);
    fill(&server);
    server.stop();
    let dir = server.dir().join("js/jetstream/$G/streams/S");
    let mut segment = Segment::all(&dir).pop().unwrap();
    let record = segment.message(5).at.clone();
    segment.flip_everywhere(record.end - 20);
    segment.write();
    server.start_again();
    let refused = backup(&server, true).answer;
    assert_eq!(refused["error"]["err_code"], 10_064, "{refused}");
    let text = refused["error"]["description"].as_str().unwrap();
    assert_eq!(text, "snapshot failed: messages are lost, first 5 to 5");
    let taken = backup(&server, false);
    assert_eq!(taken.answer["state"]["lost"]["msgs"], serde_json::json!([5]));
    assert_eq!(taken.end, "NATS/1.0 204");
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.DELETE.S", "");
    let restored = restore(&server, &taken);
    assert_eq!(restored["state"]["messages"], MESSAGES - 1, "{restored}");
    for number in (1..=MESSAGES).filter(|number| *number != 5) {
        let body = format!("{{\"seq\":{number}}}");
        let answer = client.ask_json("$JS.API.STREAM.MSG.GET.S", &body);
        assert_eq!(answer["message"]["seq"], number, "{answer}");
    }
}

/// A client that begins a restore and goes leaves nothing.
#[test]
fn a_restore_that_nobody_ends_is_given_up() {
    let config = "jetstream { store_dir: \"{dir}/js\", restore_timeout: \"300ms\" }";
    let mut server = Options::new().config(config).shards(2).start();
    let stream = r#"{"name":"S","subjects":["s"],"max_bytes":1000000}"#;
    let mut gone = Client::new(server.port);
    api(&mut gone, "STREAM.RESTORE.S", &format!("{{\"config\":{stream},\"state\":{{}}}}"));
    drop(gone);
    let mut client = Client::new(server.port);
    server.wait_log("restore of stream '$G > S' is given up");
    let reserved = |client: &mut Client| {
        let info = api(client, "INFO", "");
        (info["reserved_storage"].clone(), info["streams"].clone())
    };
    assert_eq!(reserved(&mut client), (0.into(), 0.into()));
    let dir = server.dir().join("js/jetstream/$G/streams/S");
    poll("its files to be gone", || (!dir.exists()).then_some(()));
    api(&mut client, "STREAM.CREATE.S", stream);
    assert_eq!(client.try_request("s", &[], b"x").unwrap().json()["seq"], 1);
    assert_eq!(reserved(&mut client), (1_000_000.into(), 1.into()));
    server.crash();
    server.start_again();
    let info = api(&mut Client::new(server.port), "STREAM.INFO.S", "");
    assert_eq!(info["state"]["messages"], 1, "{info}");
}
