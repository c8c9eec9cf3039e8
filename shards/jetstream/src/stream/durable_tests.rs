//! Streams in files: nobody is told that a message is stored before it is on the disk, and what
//! must be read from there first keeps the order.

use std::collections::BTreeMap;

use store::disk::{AlignedBuffer, DiskData, DiskDone, DiskError, DiskOp, FileId};
use store::log::Options;
use store::{Position, Progress, Store};
use wire::api::config::StreamConfig;
use wire::api::policy::PersistMode;

use super::replay_tests::Bench;
use super::{Identity, Ingest, Publish, Stream};

/// Files that are bytes in memory.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<FileId, Vec<u8>>,
    error: Option<DiskError>,
}

impl Disk {
    pub(super) fn carry_out(&mut self, op: DiskOp) -> Result<DiskData, DiskError> {
        if let (Some(error), DiskOp::Commit { .. }) = (self.error, &op) {
            return Err(error);
        }
        match op {
            DiskOp::Create { file, len, .. } => {
                self.files.insert(file, vec![0; len as usize]);
            }
            DiskOp::Commit { file, extents, .. } => {
                let bytes = self.files.get_mut(&file).ok_or(DiskError::NotFound)?;
                for extent in extents {
                    let at = extent.offset as usize;
                    let end = at + extent.bytes.len();
                    bytes[at..end].copy_from_slice(extent.bytes.as_slice());
                }
            }
            DiskOp::Read { file, offset, len } => {
                let bytes = self.files.get(&file).ok_or(DiskError::NotFound)?;
                let at = (offset as usize).min(bytes.len());
                let end = (at + len).min(bytes.len());
                let mut buffer = AlignedBuffer::new(len);
                buffer.as_mut_slice()[..end - at].copy_from_slice(&bytes[at..end]);
                buffer.truncate(end - at);
                return Ok(DiskData::Bytes(buffer));
            }
            _ => {}
        }
        Ok(DiskData::None)
    }
}

fn config() -> StreamConfig {
    StreamConfig {
        name: "s".to_owned(),
        subjects: vec!["s.>".to_owned()],
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        max_msg_size: -1,
        duplicate_window_ns: 120_000_000_000,
        num_replicas: 1,
        ..StreamConfig::default()
    }
}

impl Bench {
    pub(super) fn add_file(&mut self, config: StreamConfig) {
        let id = Identity { account: 1, account_name: "A".into(), slot: 0, domain: "".into() };
        let options =
            Options { tail_bytes_max: 8192, segment_bytes_min: 64 << 10, ..Options::new("d", 7) };
        let store = Store::file(options, config.first_seq, &mut self.fx.disk);
        self.streams.insert("s".to_owned(), Stream::new(id, config, 0, store));
    }

    /// Ends the turn: commits, carries operations out and tells the stream, until all is quiet.
    pub(super) fn end_turn(&mut self, disk: &mut Disk) {
        let now_ns = self.mono_ns;
        self.with("s", |stream, cx| stream.store.commit(now_ns, &mut cx.fx.disk));
        while let Some((ticket, op)) =
            (!self.fx.disk.ops.is_empty()).then(|| self.fx.disk.ops.remove(0))
        {
            let done = DiskDone { ticket, result: disk.carry_out(op) };
            self.with("s", |stream, cx| {
                let progress =
                    stream.store.handle_disk_done(done, now_ns, &mut cx.fx.disk, cx.cache);
                let Progress { is_more_durable, are_reads_ready, failed, .. } = progress;
                if is_more_durable {
                    stream.handle_durable(cx.fx);
                }
                if failed.is_some() {
                    stream.handle_store_failed(cx.fx);
                }
                if are_reads_ready {
                    stream.handle_read_ready(cx, &mut |_| {});
                    stream.handle_reads(cx);
                }
                stream.store.commit(now_ns, &mut cx.fx.disk);
            });
        }
    }

    fn answers(&mut self) -> Vec<(String, String)> {
        self.sent().into_iter().map(|(to, _, body)| (to, body)).collect()
    }
}

#[test]
fn an_answer_waits_for_the_disk() {
    let (mut bench, mut disk) = (Bench::new(), Disk::default());
    bench.add_file(config());
    let id = "NATS/1.0\r\nNats-Msg-Id: a\r\n\r\n";
    assert!(bench.publish("s.a", "R1", id, "x").is_empty());
    assert!(bench.publish("s.a", "R2", id, "x").is_empty(), "the first may still be lost");
    let wrong = "NATS/1.0\r\nNats-Expected-Stream: t\r\n\r\n";
    assert_eq!(bench.publish("s.a", "R3", wrong, "x").len(), 1, "an error promises nothing");
    bench.end_turn(&mut disk);
    let ack = |to: &str, body: &str| (to.to_owned(), body.to_owned());
    assert_eq!(
        bench.answers(),
        [
            ack("R1", r#"{"stream":"s","seq":1}"#),
            ack("R2", r#"{"stream":"s","seq":1,"duplicate": true}"#),
        ]
    );
    let again = bench.publish("s.a", "R4", id, "x");
    assert_eq!(again[0].2, r#"{"stream":"s","seq":1,"duplicate": true}"#);
}

#[test]
fn no_more_messages_wait_for_the_disk_than_may() {
    let (mut bench, mut disk) = (Bench::new(), Disk::default());
    bench.add_file(config());
    bench.with("s", |stream, _| stream.buffered_messages_max = 3);
    for reply in ["R1", "R2", "R3"] {
        assert!(bench.publish("s.a", reply, "", "x").is_empty());
    }
    let refused = bench.publish("s.a", "R4", "", "x");
    assert!(refused[0].1.starts_with("NATS/1.0 429"), "{refused:?}");
    bench.end_turn(&mut disk);
    assert_eq!(bench.answers().len(), 3);
    assert!(bench.publish("s.a", "R5", "", "x").is_empty());
    bench.end_turn(&mut disk);
    assert_eq!(bench.answers(), [("R5".to_owned(), r#"{"stream":"s","seq":4}"#.to_owned())]);
}

#[test]
fn an_async_stream_answers_at_once() {
    let mut bench = Bench::new();
    bench.add_file(StreamConfig { persist_mode: PersistMode::Async, ..config() });
    assert_eq!(bench.publish("s.a", "R", "", "x")[0].2, r#"{"stream":"s","seq":1}"#);
}

#[test]
fn a_disk_that_fails_is_told_to_publishers() {
    let (mut bench, mut disk) = (Bench::new(), Disk::default());
    bench.add_file(config());
    bench.publish("s.a", "R1", "", "x");
    bench.end_turn(&mut disk);
    bench.sent();
    disk.error = Some(DiskError::Os(5));
    assert!(bench.publish("s.a", "R2", "", "x").is_empty());
    bench.end_turn(&mut disk);
    let told = bench.answers();
    assert_eq!((told.len(), told[0].0.as_str()), (1, "R2"));
    assert!(told[0].1.contains(r#""err_code":10023"#), "{told:?}");
    // Never as if nothing had happened.
    let next = bench.publish("s.a", "R3", "", "x");
    assert!(next[0].2.contains(r#""err_code":10023"#), "{next:?}");
}

#[test]
fn publishes_behind_a_cold_counter_keep_their_order() {
    let (mut bench, mut disk) = (Bench::new(), Disk::default());
    bench.cache = store::cache::Cache::new(1);
    bench.add_file(StreamConfig { allow_msg_counter: true, ..config() });
    let incr = "NATS/1.0\r\nNats-Incr: 1\r\n\r\n";
    let padded = format!("NATS/1.0\r\nNats-Incr: 1\r\nPad: {}\r\n\r\n", "x".repeat(2000));
    bench.publish("s.cold", "", incr, "");
    for n in 0..100 {
        bench.publish(&format!("s.{n}"), "", &padded, "");
        bench.end_turn(&mut disk);
    }
    bench.sent();
    let outcome = bench.with("s", |stream, cx| {
        let publish = Publish {
            subject: b"s.cold",
            reply: b"R1",
            headers: incr.as_bytes(),
            ..Publish::default()
        };
        stream.handle_publish(&publish, cx)
    });
    assert_eq!(outcome, Ingest::Waiting, "the counter's message is on the disk");
    bench.publish("s.new", "R2", incr, "");
    bench.publish("s.cold", "R3", incr, "");
    assert!(bench.answers().is_empty());
    bench.end_turn(&mut disk);
    let ack = |to: &str, seq: u64, value: u64| {
        (to.to_owned(), format!(r#"{{"stream":"s","seq":{seq},"val":"{value}"}}"#))
    };
    assert_eq!(bench.answers(), [ack("R1", 102, 2), ack("R2", 103, 1), ack("R3", 104, 3)]);
}

#[test]
fn cold_messages_are_read_for_direct_gets() {
    let (mut bench, mut disk) = (Bench::new(), Disk::default());
    bench.cache = store::cache::Cache::new(1);
    bench.add_file(StreamConfig { allow_direct: true, ..config() });
    for n in 0..100 {
        bench.publish("s.a", "", "", &format!("{n}-{}", "x".repeat(2000)));
        bench.end_turn(&mut disk);
    }
    bench.sent();
    bench.with("s", |stream, cx| {
        stream.handle_direct_get(None, b"R", b"", br#"{"seq":1,"batch":100}"#, cx);
    });
    assert!(bench.sent().len() < 100);
    for _ in 0..200 {
        bench.end_turn(&mut disk);
        bench.with("s", |stream, cx| stream.handle_reads(cx));
    }
    let got = bench.sent();
    let status = got.last().map(|(_, status, _)| status.clone()).unwrap();
    assert!(status.starts_with("NATS/1.0 204 EOB"), "{status}");
    assert!(!bench.streams["s"].has_reads());
}

#[test]
fn a_batch_is_answered_when_all_of_it_is_on_the_disk() {
    let (mut bench, mut disk) = (Bench::new(), Disk::default());
    bench.add_file(StreamConfig { allow_atomic: true, ..config() });
    let block = |seq: u64, commit: &str| {
        format!("NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: {seq}\r\n{commit}\r\n")
    };
    assert_eq!(bench.publish("s.a", "R1", &block(1, ""), "1")[0].2, "");
    assert!(bench.publish("s.b", "R2", &block(2, "Nats-Batch-Commit: 1\r\n"), "2").is_empty());
    bench.end_turn(&mut disk);
    assert_eq!(bench.answers()[0].1, r#"{"stream":"s","seq":2,"batch":"b","count":2}"#);
}

#[test]
fn a_status_is_not_stored() {
    let mut bench = Bench::new();
    bench.add(config());
    bench.publish("s.a", "", "NATS/1.0 503 Gone\r\n\r\n", "x");
    bench.publish("s.a", "", "NATS/1.0 503\r\nA: b\r\n\r\n", "x");
    let block = |bench: &mut Bench, seq: u64| {
        bench.with("s", |stream, cx| match stream.store.get(seq, cx.cache, &mut cx.fx.disk) {
            store::Read::Message(m) => m.headers.to_vec(),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(block(&mut bench, 1), b"");
    assert_eq!(block(&mut bench, 2), b"NATS/1.0\r\nA: b\r\n\r\n");
}

#[test]
fn a_delete_that_finds_nothing_says_where_it_looked() {
    let mut bench = Bench::new();
    bench.add_file(config());
    for _ in 0..5 {
        bench.publish("s.a", "", "", "x");
    }
    let purge = wire::api::requests::PurgeRequest { seq: 3, ..Default::default() };
    bench.with("s", |stream, _| stream.handle_purge(&purge)).unwrap();
    let delete = |bench: &mut Bench, seq: u64| {
        let outcome = bench.with("s", |stream, _| stream.handle_delete(seq, true));
        outcome.map(|_| ()).map_err(|error| format!("{} {}", error.err_code, error.description))
    };
    assert_eq!(delete(&mut bench, 5), Ok(()));
    let cases = [
        (0, "10057 no message found"),
        (2, "10057 no message found"),
        (5, "10043 sequence 5 not found"),
        (6, "10057 stream store EOF"),
    ];
    for (seq, error) in cases {
        assert_eq!(delete(&mut bench, seq), Err(error.to_owned()), "{seq}");
    }
}

#[test]
fn what_a_full_disk_refuses_changes_nothing() {
    let (mut bench, mut disk) = (Bench::new(), Disk::default());
    bench.add_file(config());
    for _ in 0..3 {
        bench.publish("s.a", "", "", "x");
    }
    bench.end_turn(&mut disk);
    disk.error = Some(DiskError::NoSpace);
    bench.publish("s.b", "", "", "x");
    bench.end_turn(&mut disk);
    let code = |outcome: Result<(), wire::api::errors::ApiError>| outcome.map_err(|e| e.err_code);
    let delete = |bench: &mut Bench, seq: u64| {
        code(bench.with("s", |stream, _| stream.handle_delete(seq, false)).map(drop))
    };
    assert_eq!(delete(&mut bench, 1), Ok(()), "the log has a reserve");
    bench.with("s", |stream, _| while stream.store.put_note(b"k", &[7; 200]) != Position::NEVER {});
    assert_eq!(delete(&mut bench, 2), Err(10_023));
    for filter in ["", "s.a"] {
        let purge =
            wire::api::requests::PurgeRequest { filter: filter.into(), ..Default::default() };
        let outcome = bench.with("s", |stream, _| stream.handle_purge(&purge));
        assert_eq!(code(outcome.map(drop)), Err(10_023));
    }
    assert_eq!(bench.streams["s"].store.state().messages, 3);
    assert!(bench.streams["s"].store.contains(2));
}
