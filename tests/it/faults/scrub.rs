//! The scrub of a running server: bytes that rot in a sealed segment are named in the log, on
//! `/metrics` and in the stream's info, although nobody reads them and nothing is started anew.

use std::path::PathBuf;

use super::client::Client;
use super::segment::Segment;
use super::{Dice, api};
use crate::support::server::{Options, Server};
use crate::support::{http, poll};

/// The message whose bytes rot; it lies in the first segment, as it has 256 KiB.
const VICTIM: u64 = 7;

fn server(more: &str) -> Server {
    let config = format!(
        "http: \"127.0.0.1:-1\"\n\
         jetstream {{ store_dir: \"{{dir}}/js\", scrub_interval: \"250ms\", \
         scrub_rate: 64M{more} }}"
    );
    Options::new().config(config).shards(2).start()
}

/// 16 KiB, of which a quarter can be compressed.
fn payload(seq: u64) -> Vec<u8> {
    let mut dice = Dice(seq);
    let random = std::iter::repeat_with(|| dice.next().to_le_bytes()).flatten();
    let mut payload: Vec<u8> = random.take(12 << 10).collect();
    payload.resize(16 << 10, b'x');
    payload
}

fn store(client: &mut Client, stream: &str, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        let answer = client.try_request(&format!("{stream}.x"), &[], &payload(seq)).unwrap();
        assert_eq!(answer.json()["seq"], seq, "{answer:?}");
    }
}

fn dir_of(server: &Server, stream: &str) -> PathBuf {
    server.dir().join(format!("js/jetstream/$G/streams/{stream}"))
}

/// The sum of a figure over its labels.
fn figure(server: &Server, name: &str) -> f64 {
    let page = http::get(server, "/metrics").body;
    let lines = page.lines().filter(|line| line.starts_with(&format!("shearwater_{name}")));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until every stream was gone through so many times more.
fn wait_passes(server: &Server, more: f64) {
    let before = figure(server, "jetstream_scrub_passes_total");
    poll("the scrub to come round", || {
        (figure(server, "jetstream_scrub_passes_total") >= before + more).then_some(())
    });
}

fn examine(server_more: &str, stream_more: &str) {
    let server = server(server_more);
    let mut client = Client::new(server.port);
    for name in ["S", "T"] {
        let body = format!(r#"{{"name":"{name}","subjects":["{name}.*"]{stream_more}}}"#);
        api(&mut client, &format!("STREAM.CREATE.{name}"), &body);
        store(&mut client, name, 1..=40);
    }
    wait_passes(&server, 2.0);
    assert!(figure(&server, "jetstream_scrub_bytes_total") > 0.0);
    assert!(figure(&server, "jetstream_scrub_damaged_total") < 1.0);
    // The page cache of the file is written back before the server's direct reads.
    let first = Segment::all(&dir_of(&server, "S")).remove(0);
    let record = first.message(VICTIM).at.clone();
    let place = (record.start + record.end) / 2;
    let file = std::fs::File::options().write(true).open(&first.path).unwrap();
    let flipped = [first.bytes[place] ^ 0x10];
    std::os::unix::fs::FileExt::write_all_at(&file, &flipped, place as u64).unwrap();
    let line = server.wait_log("is damaged: sequences lost: ");
    let told = format!(
        "JetStream stream '$G > S' is damaged: sequences lost: [{VICTIM}]; segment 1, bytes \
         [{}-{}]",
        record.start, record.end
    );
    assert!(line.contains("[ERR]") && line.ends_with(&told), "{line}");
    poll("the figure", || (figure(&server, "jetstream_scrub_damaged_total") >= 1.0).then_some(()));
    assert!((figure(&server, "jetstream_stream_lost{") - 1.0).abs() < 1e-9);
    let info = api(&mut client, "STREAM.INFO.S", "");
    assert_eq!(info["state"]["lost"]["msgs"], serde_json::json!([VICTIM]), "{info}");
    assert_eq!(info["state"]["messages"], 40, "nothing else is taken: {info}");
    assert_served(&mut client, 40);
    // Damage is told once, however often it is found.
    wait_passes(&server, 4.0);
    assert_eq!(server.log_text().matches("is damaged").count(), 1);
    assert!(figure(&server, "jetstream_scrub_damaged_total") < 2.0);
}

/// Every message is what was stored. The victim may still be in memory; otherwise it is an error,
/// and never "not found".
fn assert_served(client: &mut Client, last: u64) {
    for seq in 1..=last {
        let body = format!("{{\"seq\":{seq}}}");
        let answer = client.ask_json("$JS.API.STREAM.MSG.GET.S", &body);
        if seq == VICTIM && !answer["error"].is_null() {
            assert_eq!(answer["error"]["err_code"], 10_077, "{answer}");
            continue;
        }
        assert!(answer["error"].is_null(), "{seq}: {answer}");
        assert_eq!(answer["message"]["seq"], seq);
    }
}

#[test]
fn rotten_bytes_are_named_without_a_read_and_without_a_restart() {
    examine("", "");
}

#[test]
fn rotten_bytes_of_encrypted_and_compressed_streams_are_named_too() {
    examine(", key: \"a key of some length\", cipher: aes", r#","compression":"s2""#);
}

/// A message that memory had when its bytes were found damaged is an error once it is read from
/// the disk; what lies around it is served, over a restart as well.
#[test]
fn what_rotted_is_an_error_and_its_neighbours_are_served() {
    let mut server = server("");
    let mut client = Client::new(server.port);
    api(&mut client, "STREAM.CREATE.S", r#"{"name":"S","subjects":["S.*"]}"#);
    store(&mut client, "S", 1..=40);
    let first = Segment::all(&dir_of(&server, "S")).remove(0);
    let place = first.message(VICTIM).at.start + 1000;
    let file = std::fs::File::options().write(true).open(&first.path).unwrap();
    let flipped = [first.bytes[place] ^ 0x10];
    std::os::unix::fs::FileExt::write_all_at(&file, &flipped, place as u64).unwrap();
    server.wait_log("is damaged: sequences lost: [7]");
    // More than what the server keeps of the end in memory.
    store(&mut client, "S", 41..=200);
    let body = format!("{{\"seq\":{VICTIM}}}");
    let answer = client.ask_json("$JS.API.STREAM.MSG.GET.S", &body);
    assert_eq!(answer["error"]["err_code"], 10_077, "{answer}");
    assert_served(&mut client, 200);
    server.crash();
    server.start_again();
    let mut client = Client::new(server.port);
    // The log of the new process.
    server.wait_log("is damaged: sequences lost: [7]");
    assert_served(&mut client, 200);
}
