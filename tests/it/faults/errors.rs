//! Errors of the disk that hit some files only, or the start of a server: what they concern is
//! named and refused, and everything else goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::api;
use super::client::Client;
use super::content::Origin;
use super::failing::{Failing, assert_readable, assert_refused, create, message, publish, store};
use crate::support::{http, poll};

const CONSUMER: &str = r#"{"durable_name":"c","ack_policy":"explicit"}"#;

fn add_consumer(client: &mut Client, stream: &str) {
    let body = format!(r#"{{"stream_name":"{stream}","config":{CONSUMER}}}"#);
    api(client, &format!("CONSUMER.CREATE.{stream}.c"), &body);
}

fn pull(client: &mut Client, stream: &str, batch: usize) {
    let body = format!(r#"{{"batch":{batch},"expires":9000000000}}"#);
    let reply = format!("{}.pull", client.inbox);
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.c");
    client.publish(&subject, &reply, &[], body.as_bytes()).unwrap();
}

/// Every file below a folder with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// What would change a stream is refused, whatever it is.
fn assert_frozen(client: &mut Client, stream: &str) {
    assert_refused(&publish(client, stream, 99));
    let config = format!(r#"{{"name":"{stream}","subjects":["{stream}.*"],"max_msgs":9}}"#);
    let made = format!(r#"{{"stream_name":"{stream}","config":{{"durable_name":"d"}}}}"#);
    for (call, body) in [
        ("STREAM.PURGE", ""),
        ("STREAM.MSG.DELETE", r#"{"seq":1}"#),
        ("STREAM.UPDATE", config.as_str()),
        ("CONSUMER.DURABLE.CREATE", made.as_str()),
    ] {
        let end = if call.starts_with("CONSUMER") { ".d" } else { "" };
        let answer = client.ask_json(&format!("$JS.API.{call}.{stream}{end}"), body);
        assert_eq!(answer["error"]["err_code"], 10_023, "{call}: {answer}");
    }
}

/// The files of one stream fail. It is fenced, says so, and can be read; others and the rest of
/// the server go on; it can be removed and made again without a restart.
fn one_stream_fails(rule: &str) {
    let mut failing = Failing::new(1, &[rule]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    create(&mut client, "B", "");
    create(&mut client, "M", r#","storage":"memory""#);
    add_consumer(&mut client, "A");
    (1..=5).for_each(|number| store(&mut client, "A", number));
    assert_eq!(failing.health("").0, 200);
    failing.fail();
    assert_refused(&publish(&mut client, "A", 6));
    assert_frozen(&mut client, "A");
    let text = "JetStream stream '$G > A' has failed: input/output error 5";
    assert_eq!(failing.health(""), (503, text.to_owned()));
    assert_eq!(failing.health("?account=$G&stream=A"), (503, text.to_owned()));
    assert_eq!(failing.health("?account=$G&stream=B").0, 200);
    assert_eq!(failing.health("?js-server-only=true").0, 200);
    let details = http::get(&failing.server, "/healthz?details=1").json();
    assert_eq!(details["errors"][0]["stream"], "A", "{details}");
    let line = failing.server.wait_log("JetStream stream '$G > A': input/output error 5");
    assert!(line.contains("[ERR]"), "{line}");
    // Reading goes on: directly, by consumers, and what the stream says of itself.
    assert_readable(&mut client, "A", 5);
    pull(&mut client, "A", 5);
    for number in 1..=5 {
        let delivery = client.message().unwrap();
        assert_eq!(Origin::of(&delivery.payload).number, number, "{delivery:?}");
    }
    let info = api(&mut client, "STREAM.INFO.A", "");
    assert_eq!(info["state"]["first_seq"], 1, "{info}");
    (1..=50).for_each(|number| {
        store(&mut client, "B", number);
        store(&mut client, "M", number);
        echo(&mut client);
    });
    api(&mut client, "STREAM.DELETE.A", "");
    assert_eq!(failing.health("").0, 200);
    failing.heal();
    create(&mut client, "A", "");
    (1..=5).for_each(|number| store(&mut client, "A", number));
    failing.server.crash();
    failing.server.start_again();
    let mut client = failing.client();
    assert_readable(&mut client, "A", 5);
    assert_readable(&mut client, "B", 50);
}

#[test]
fn one_stream_cannot_be_written() {
    one_stream_fails("write@/A/:1+=eio");
}

#[test]
fn one_stream_cannot_be_flushed() {
    one_stream_fails("sync@/A/:1+=eio");
}

/// A message of Core NATS goes its way.
fn echo(client: &mut Client) {
    let subject = format!("{}.echo", client.inbox);
    client.publish(&subject, "", &[], b"x").unwrap();
    assert_eq!(client.message().unwrap().subject, subject);
}

/// There is no space for what was written, and then there is: what waited is answered and kept,
/// new messages are refused meanwhile, and nothing is red.
#[test]
fn a_commit_without_space_is_written_when_there_is_some() {
    let mut failing = Failing::new(1, &["write@/A/:1+=enospc"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    create(&mut client, "B", "");
    (1..=5).for_each(|number| store(&mut client, "A", number));
    // Nothing else is to be written when the disk is full.
    failing.server.restart();
    let mut client = failing.client();
    failing.fail();
    let mut waiting = failing.client();
    let reply = format!("{}.late", waiting.inbox);
    waiting.publish("A.x", &reply, &[], &message(6)).unwrap();
    poll("the disk to refuse it", || {
        let page = http::get(&failing.server, "/metrics").body;
        let mut lines = page.lines().filter(|line| line.contains("disk_errors_total{"));
        let line = lines.find(|line| line.contains("no_space")).unwrap();
        (!line.ends_with(" 0")).then_some(())
    });
    let line = failing.server.wait_log("JetStream disk: write of $G/streams/A/");
    assert!(line.contains("no space left on device"), "{line}");
    assert_refused(&publish(&mut client, "A", 7));
    assert_readable(&mut client, "A", 5);
    (1..=20).for_each(|number| store(&mut client, "B", number));
    echo(&mut waiting);
    assert_eq!(failing.health("").0, 200);
    failing.heal();
    assert_eq!(waiting.message().unwrap().json()["seq"], 6);
    poll("the stream to take messages again", || {
        publish(&mut client, "A", 7)["seq"].as_u64().filter(|seq| *seq == 7)
    });
    failing.server.crash();
    failing.server.start_again();
    let mut client = failing.client();
    assert_readable(&mut client, "A", 7);
    store(&mut client, "A", 8);
}

/// A stream whose files cannot be made is not there, and its name can be used again.
#[test]
fn a_stream_that_cannot_be_made_is_not_there() {
    for rule in ["create@/A/:1+=eio", "write@/A/:1+=eio", "sync@/A/:1+=eio"] {
        let mut failing = Failing::new(2, &[rule]);
        let mut client = failing.client();
        create(&mut client, "B", "");
        failing.fail();
        let body = r#"{"name":"A","subjects":["A.*"],"allow_direct":true}"#;
        let answer = client.ask_json("$JS.API.STREAM.CREATE.A", body);
        assert_eq!(answer["error"]["err_code"], 10_023, "{rule}: {answer}");
        let answer = client.ask_json("$JS.API.STREAM.INFO.A", "");
        assert_eq!(answer["error"]["err_code"], 10_059, "{rule}: {answer}");
        assert_eq!(failing.health("").0, 200, "{rule}");
        store(&mut client, "B", 1);
        failing.heal();
        create(&mut client, "A", "");
        store(&mut client, "A", 1);
        failing.server.crash();
        failing.server.start_again();
        let mut client = failing.client();
        assert_readable(&mut client, "A", 1);
        assert_readable(&mut client, "B", 1);
    }
}

/// A folder that is put into the store while the server runs is none of a new stream's, and stays.
#[test]
fn a_folder_that_appears_is_left_alone() {
    let failing = Failing::new(1, &["read:1+=eio"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    let dir = failing.server.dir().join("js/jetstream/$G/streams/Z");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("00000000000000000001.seg"), vec![7; 256 << 10]).unwrap();
    let before = files(&dir);
    let body = r#"{"name":"Z","subjects":["Z.*"]}"#;
    let answer = client.ask_json("$JS.API.STREAM.CREATE.Z", body);
    assert_eq!(answer["error"]["err_code"], 10_023, "{answer}");
    // Whatever follows from that comes before this.
    create(&mut client, "B", "");
    api(&mut client, "STREAM.DELETE.B", "");
    assert!(files(&dir) == before, "the files were changed");
}

/// Messages of which two of three are deleted, so that their segments are written anew.
fn store_sparse(client: &mut Client, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        store(client, "A", number);
        if number % 3 != 0 {
            let body = format!(r#"{{"seq":{number},"no_erase":true}}"#);
            api(client, "STREAM.MSG.DELETE.A", &body);
        }
    }
}

/// Of those messages, the ones that are kept.
fn assert_sparse(client: &mut Client, from: u64, to: u64) {
    for seq in (from..=to).step_by(3) {
        let body = format!("{{\"seq\":{seq}}}");
        let answer = client.try_request("$JS.API.DIRECT.GET.A", &[], body.as_bytes()).unwrap();
        assert_eq!(answer.status(), 0, "{seq}: {answer:?}");
        assert_eq!(Origin::of(&answer.payload).number, seq, "{answer:?}");
    }
}

/// What is derived or done with may fail: nothing is refused for that, and nothing is lost.
/// The log names the first file, which tells that the rule has struck.
fn costs_nothing(rule: &str, told: &str) {
    let mut failing = Failing::new(1, &[rule]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    failing.fail();
    let count = 1800;
    store_sparse(&mut client, 1..=count);
    api(&mut client, "STREAM.PURGE.A", r#"{"seq":900}"#);
    store(&mut client, "A", count + 1);
    assert_eq!(failing.health("").0, 200);
    failing.server.stop();
    let line = failing.server.wait_log("JetStream disk: ");
    assert!(line.contains(told), "{line}");
    failing.heal();
    failing.server.start_again();
    let mut client = failing.client();
    let info = api(&mut client, "STREAM.INFO.A", "");
    assert_eq!(info["state"]["first_seq"], 900, "{info}");
    assert_eq!(info["state"]["messages"], (count - 900) / 3 + 2, "{info}");
    assert_sparse(&mut client, 900, count);
    store(&mut client, "A", count + 2);
}

/// A stream that is large enough for checkpoints, and gets none, neither meanwhile nor at the end.
#[test]
fn checkpoints_that_cannot_be_written_cost_nothing() {
    let mut failing = Failing::new(1, &["replace:1+=eio"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    failing.fail();
    let payload = vec![b'x'; 1_000_000];
    let put = |client: &mut Client, seq: u64| {
        let answer = client.try_request("A.x", &[], &payload).unwrap().json();
        assert_eq!(answer["seq"], seq, "{answer}");
    };
    (1..=145).for_each(|seq| put(&mut client, seq));
    let line = failing.server.wait_log("JetStream disk: change of $G/streams/A/");
    assert!(line.contains(".chk"), "{line}");
    (146..=150).for_each(|seq| put(&mut client, seq));
    assert_eq!(failing.health("").0, 200);
    failing.server.stop();
    let dir = failing.server.dir().join("js/jetstream/$G/streams/A");
    let is_checkpoint = |path: &PathBuf| path.extension().is_some_and(|name| name == "chk");
    assert!(!files(&dir).into_keys().any(|path| is_checkpoint(&path)));
    failing.heal();
    failing.server.start_again();
    let mut client = failing.client();
    let info = api(&mut client, "STREAM.INFO.A", "");
    assert_eq!(info["state"]["messages"], 150, "{info}");
    put(&mut client, 151);
}

#[test]
fn segments_that_cannot_be_written_anew_cost_nothing() {
    costs_nothing("write@.cmp:1+=eio", "write of $G/streams/A/");
}

#[test]
fn segments_that_cannot_be_removed_cost_nothing() {
    costs_nothing("remove@.seg:1+=eio", ".seg");
}

/// A segment that was written anew, and cannot take the place of the old one: which of the two
/// has the name is not known, so the stream is fenced, and read from the old one.
#[test]
fn a_segment_that_cannot_be_replaced_fences_its_stream() {
    let mut failing = Failing::new(1, &["rename@.cmp:1+=eio"]);
    let mut client = failing.client();
    create(&mut client, "A", "");
    failing.fail();
    let mut last = 0;
    let refused = loop {
        let answer = publish(&mut client, "A", last + 1);
        if answer["seq"] != last + 1 {
            break answer;
        }
        last += 1;
        if last % 3 != 0 {
            let body = format!(r#"{{"seq":{last},"no_erase":true}}"#);
            client.ask("$JS.API.STREAM.MSG.DELETE.A", &body);
        }
    };
    assert_refused(&refused);
    failing.server.wait_log("JetStream stream '$G > A': input/output error 5");
    assert_eq!(failing.health("").0, 503);
    assert_sparse(&mut client, 3, last - 3);
    failing.server.stop();
    failing.heal();
    failing.server.start_again();
    let mut client = failing.client();
    assert_sparse(&mut client, 3, last - 3);
    assert!(publish(&mut client, "A", last + 1)["error"].is_null());
}

/// A start that cannot read or mend a stream leaves it as it is and serves the others; the next
/// one serves it. Nothing that bears its name takes its place meanwhile.
fn start_fails(rule: &str) {
    let mut failing = Failing::new(1, &[rule]);
    let mut client = failing.client();
    for stream in ["A", "B"] {
        create(&mut client, stream, "");
        (1..=50).for_each(|number| store(&mut client, stream, number));
        add_consumer(&mut client, stream);
    }
    let dir = failing.server.dir().join("js/jetstream/$G/streams/A");
    // Its first file goes, so that another first one would find the place free.
    let first = dir.join("00000000000000000001.seg");
    (51..=1500).for_each(|number| store(&mut client, "A", number));
    api(&mut client, "STREAM.PURGE.A", r#"{"seq":1451}"#);
    poll("the first file to go", || (!first.exists()).then_some(()));
    failing.server.crash();
    let before = files(&dir);
    failing.fail();
    failing.server.start_again();
    let mut client = failing.client();
    assert_readable(&mut client, "B", 50);
    store(&mut client, "B", 51);
    let line = failing.server.wait_log("streams/A: ");
    assert!(line.contains("[ERR]") && line.contains("error 5"), "{line}");
    let text = "JetStream stream '$G > A' could not be recovered: input/output error 5";
    assert_eq!(failing.health(""), (503, text.to_owned()));
    assert_eq!(failing.health("?account=$G&stream=B").0, 200);
    let body = r#"{"name":"A","subjects":["A.*"],"allow_direct":true}"#;
    let answer = client.ask_json("$JS.API.STREAM.CREATE.A", body);
    assert_eq!(answer["error"]["err_code"], 10_077, "{answer}");
    let body = format!(r#"{{"config":{body},"state":{{}}}}"#);
    let answer = client.ask_json("$JS.API.STREAM.RESTORE.A", &body);
    assert_eq!(answer["error"]["err_code"], 10_077, "{answer}");
    create(&mut client, "A2", "");
    assert!(files(&dir) == before, "the files were changed");
    failing.heal();
    failing.server.restart();
    assert_eq!(failing.health("").0, 200);
    let mut client = failing.client();
    assert_readable(&mut client, "B", 51);
    store(&mut client, "A", 1501);
    pull(&mut client, "A", 51);
    for number in 1451..=1501 {
        assert_eq!(Origin::of(&client.message().unwrap().payload).number, number);
    }
}

#[test]
fn a_start_that_cannot_read_a_stream() {
    start_fails("start-read@/A/:1+=eio");
}

#[test]
fn a_start_that_cannot_look_into_a_folder() {
    start_fails("start-read@streams/A:1+=eio");
}

#[test]
fn a_start_that_cannot_mend_a_stream() {
    start_fails("start-write@/A/:1+=eio");
}
