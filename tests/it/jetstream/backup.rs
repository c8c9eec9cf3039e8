//! Backup and restore over the API: what comes back is what was there, and what is damaged is
//! refused as a whole.

use serde_json::Value;

use super::{Asker, JETSTREAM, shapes};
use crate::support::server::Server;
use crate::support::{Conn, DEADLINE};
use crate::transcripts::messages::{Mail, Message};

/// The advisories of a backup and of a restore.
const ADVISORIES: [&str; 4] = [
    "io.nats.jetstream.advisory.v1.snapshot_create",
    "io.nats.jetstream.advisory.v1.snapshot_complete",
    "io.nats.jetstream.advisory.v1.restore_create",
    "io.nats.jetstream.advisory.v1.restore_complete",
];

/// A backup: what the server said of it, and its bytes.
struct Archive {
    about: Value,
    chunks: Vec<Vec<u8>>,
}

/// A stream of a hundred messages, some deleted, with a consumer that has got ten.
fn filled() -> (Server, Asker) {
    let server = Server::with_config(JETSTREAM);
    let mut asker = Asker::new(&server);
    asker.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#);
    for number in 0..100 {
        asker.ask(&format!("s.{}", number % 7), format!("message {number}"));
    }
    for seq in [20, 21, 60] {
        asker.ask("$JS.API.STREAM.MSG.DELETE.S", format!("{{\"seq\":{seq}}}"));
    }
    let config = r#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"all"}}"#;
    asker.ask("$JS.API.CONSUMER.CREATE.S.c", config);
    let mut puller = Asker::new(&server);
    puller.request("$JS.API.CONSUMER.MSG.NEXT.S.c", b"10");
    let mut mail = Mail::default();
    for _ in 0..10 {
        take(&mut mail, &mut puller.conn, "0");
    }
    (server, asker)
}

/// Takes a backup, acknowledging each chunk that asks for it.
fn backup(server: &Server, options: &str) -> Archive {
    let mut asker = Asker::new(server);
    let mut mail = Mail::default();
    asker.conn.send("SUB chunks chunks\r\n");
    asker.conn.sync();
    let body = format!("{{\"deliver_subject\":\"chunks\"{options}}}");
    asker.request("$JS.API.STREAM.SNAPSHOT.S", body.as_bytes());
    let about = take(&mut mail, &mut asker.conn, "0").body;
    shapes::check(&about).unwrap();
    let about = serde_json::from_slice(&about).unwrap();
    let mut chunks = Vec::new();
    loop {
        let chunk = take(&mut mail, &mut asker.conn, "chunks");
        if chunk.body.is_empty() {
            return Archive { about, chunks };
        }
        if !chunk.reply.is_empty() {
            asker.conn.send(format!("PUB {} 0\r\n\r\n", chunk.reply));
        }
        chunks.push(chunk.body);
    }
}

fn take(mail: &mut Mail, conn: &mut Conn, sid: &str) -> Message {
    mail.next(conn, sid, DEADLINE).unwrap()
}

/// Sends the archive to be restored; gives the final answer.
fn restore(asker: &mut Asker, archive: &Archive) -> String {
    let about = &archive.about;
    let body = format!("{{\"config\":{},\"state\":{}}}", about["config"], about["state"]);
    let answer: Value =
        serde_json::from_str(&asker.ask("$JS.API.STREAM.RESTORE.S", &body)).unwrap();
    let subject = answer["deliver_subject"].as_str().unwrap();
    for chunk in &archive.chunks {
        let answer = asker.ask_anyhow(subject, chunk);
        if !answer.is_empty() {
            return answer;
        }
    }
    asker.ask_anyhow(subject, "")
}

/// What is in the stream, as clients see it.
fn contents(asker: &mut Asker) -> Vec<String> {
    let info = asker.ask("$JS.API.STREAM.INFO.S", r#"{"deleted_details":true}"#);
    let info: Value = serde_json::from_str(&info).unwrap();
    let mut all = vec![info["state"].to_string()];
    for seq in 1..=100 {
        all.push(asker.ask_anyhow("$JS.API.STREAM.MSG.GET.S", format!("{{\"seq\":{seq}}}")));
    }
    all
}

#[test]
fn what_is_restored_is_what_was_there() {
    let (server, mut asker) = filled();
    let before = contents(&mut asker);
    let mut heard = Asker::new(&server);
    heard.conn.send("SUB $JS.EVENT.ADVISORY.STREAM.*.S advisories\r\n");
    heard.conn.sync();
    let archive = backup(&server, "");
    asker.ask("$JS.API.STREAM.DELETE.S", "");
    let answer = restore(&mut asker, &archive);
    assert!(answer.contains("stream_create_response"), "{answer}");
    shapes::check(answer.as_bytes()).unwrap();
    assert_eq!(contents(&mut asker), before);
    let consumer = asker.ask("$JS.API.CONSUMER.INFO.S.c", "");
    let consumer: Value = serde_json::from_str(&consumer).unwrap();
    assert_eq!(consumer["delivered"]["stream_seq"], 10, "{consumer}");
    let mut mail = Mail::default();
    let mut missing: Vec<&str> = ADVISORIES.to_vec();
    while !missing.is_empty() {
        let advisory = take(&mut mail, &mut heard.conn, "advisories").body;
        shapes::check(&advisory).unwrap();
        let advisory = String::from_utf8(advisory).unwrap();
        missing.retain(|kind| !advisory.contains(&format!("\"{kind}\"")));
    }
}

#[test]
fn a_backup_without_consumers_restores_none() {
    let (server, mut asker) = filled();
    let before = contents(&mut asker);
    let archive = backup(&server, ",\"no_consumers\":true");
    asker.ask("$JS.API.STREAM.DELETE.S", "");
    let answer = restore(&mut asker, &archive);
    assert!(!answer.contains("\"error\""), "{answer}");
    let count = |all: &[String]| -> Value { serde_json::from_str::<Value>(&all[0]).unwrap() };
    let after = contents(&mut asker);
    assert_eq!(after[1..], before[1..]);
    assert_eq!(count(&after)["consumer_count"], 0);
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let (server, mut asker) = filled();
    let archive = backup(&server, "");
    asker.ask("$JS.API.STREAM.DELETE.S", "");
    let all = archive.chunks.concat();
    let middle = all.len() / 2;
    let mut flipped = all.clone();
    flipped[middle] ^= 0x55;
    let damages =
        [flipped, all[..middle].to_vec(), all[10..].to_vec(), vec![0; 1000], b"text".to_vec()];
    for bytes in damages {
        let damaged = Archive { about: archive.about.clone(), chunks: vec![bytes] };
        let answer = restore(&mut asker, &damaged);
        assert!(answer.contains("\"error\""), "{answer}");
        let names = asker.ask("$JS.API.STREAM.NAMES", "");
        assert!(names.contains("\"total\":0"), "{names}");
    }
    let answer = restore(&mut asker, &archive);
    assert!(!answer.contains("\"error\""), "{answer}");
}
