//! Checkpoints are derived: without them, with damaged ones and with those of another time, a
//! server finds the same, only more slowly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::client::Client;
use super::{api, server};
use crate::support::poll;
use crate::support::server::Server;

/// Enough that the checkpoint of the whole is written.
const MESSAGES: u64 = 150;
const PAYLOAD_BYTES: usize = 1_000_000;

fn payload(seq: u64) -> Vec<u8> {
    let mut payload = format!("{seq}:").into_bytes();
    payload.resize(PAYLOAD_BYTES, b'a' + (seq % 26) as u8);
    payload
}

fn fill(client: &mut Client, last: u64) -> u64 {
    for seq in last + 1..=last + MESSAGES {
        let answer = client.try_request(&format!("s.{}", seq % 5), &[], &payload(seq)).unwrap();
        assert_eq!(answer.json()["seq"], seq, "{answer:?}");
    }
    last + MESSAGES
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let checkpoints = paths.filter(|path| path.extension().is_some_and(|name| name == "chk"));
    checkpoints.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// What the stream holds, as far as its clients can tell.
fn state(server: &Server, last: u64) -> Value {
    let mut client = Client::new(server.port);
    let info =
        api(&mut client, "STREAM.INFO.S", r#"{"deleted_details":true,"subjects_filter":">"}"#);
    for seq in (1..=last).step_by(17) {
        let body = format!("{{\"seq\":{seq}}}");
        let answer = client.try_request("$JS.API.DIRECT.GET.S", &[], body.as_bytes()).unwrap();
        let is_deleted = seq % 10 == 0;
        assert_eq!(answer.status() == 404, is_deleted, "{seq}: {:?}", answer.headers);
        assert!(is_deleted || answer.payload == payload(seq), "{seq} is not what was written");
    }
    info["state"].clone()
}

/// Starts the server, compares, kills it.
fn compare(server: &mut Server, wanted: &Value, last: u64, what: &str) {
    server.start_again();
    assert_eq!(&state(server, last), wanted, "{what}");
    assert!(!server.log_text().contains("is damaged"), "{what}: {}", server.log_text());
    server.crash();
}

#[test]
fn checkpoints_that_are_gone_damaged_or_old_cost_nothing() {
    let mut server = server(1);
    let dir = server.dir().join("js/jetstream/$G/streams/S");
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"],"allow_direct":true}"#);
    let middle = fill(&mut client, 0);
    let index = dir.join("index.chk");
    let old = poll("the checkpoint", || std::fs::read(&index).ok());
    let last = fill(&mut client, middle);
    for seq in (10..=last).step_by(10) {
        api(&mut client, "STREAM.MSG.DELETE.S", &format!("{{\"seq\":{seq}}}"));
    }
    let new = poll("a newer checkpoint", || std::fs::read(&index).ok().filter(|new| *new != old));
    let wanted = state(&server, last);
    server.crash();
    compare(&mut server, &wanted, last, "as it is");
    let segment = files(&dir).into_keys().find(|path| *path != index).expect("a sealed segment");
    for (path, name) in [(&index, "index"), (&segment, "segment")] {
        let bytes = std::fs::read(path).unwrap();
        for place in [0, 8, 16, 30, 50, 70, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x20;
            std::fs::write(path, &flipped).unwrap();
            compare(&mut server, &wanted, last, &format!("{name}: byte {place} flipped"));
        }
        for len in [0, 7, 40, bytes.len() - 1] {
            std::fs::write(path, &bytes[..len]).unwrap();
            compare(&mut server, &wanted, last, &format!("{name}: cut to {len}"));
        }
        std::fs::write(path, vec![0; bytes.len()]).unwrap();
        compare(&mut server, &wanted, last, &format!("{name}: zeroes"));
        drop(std::fs::remove_file(path));
        compare(&mut server, &wanted, last, &format!("{name}: gone"));
        std::fs::write(path, &bytes).unwrap();
    }
    std::fs::write(&index, &old).unwrap();
    compare(&mut server, &wanted, last, "an older one");
    std::fs::write(&index, &new).unwrap();
    compare(&mut server, &wanted, last, "the newer one again");
    std::fs::write(&index, std::fs::read(&segment).unwrap_or_default()).unwrap();
    compare(&mut server, &wanted, last, "the wrong one");
    files(&dir).into_keys().for_each(|path| std::fs::remove_file(path).unwrap());
    compare(&mut server, &wanted, last, "none at all");
    server.start_again();
}
