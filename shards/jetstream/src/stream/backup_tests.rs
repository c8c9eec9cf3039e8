//! A stream goes out as an archive and comes in again.

use wire::api::config::StreamConfig;
use wire::api::requests::{PurgeRequest, SnapshotRequest};
use wire::backup::Limits;

use super::durable_tests::Disk;
use super::replay_tests::{Bench, NOW_NS, Nobody};
use super::restore::{Restore, Taken};
use super::{Identity, Stream};
use crate::context::{Context, Interest as Listeners};
use crate::effect::Interest;
use store::cache::Cache;
use store::disk::DiskDone;
use store::{MemoryOptions, Store};

/// Somebody listens everywhere.
struct Everybody;

impl Listeners for Everybody {
    fn has_interest(&self, _: u32, _: &[u8]) -> bool {
        true
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
        num_replicas: 1,
        allow_msg_ttl: true,
        ..StreamConfig::default()
    }
}

impl Bench {
    /// As [`Bench::with`], with listeners.
    fn heard<T>(
        &mut self,
        listeners: &dyn Listeners,
        call: impl FnOnce(&mut Stream, &mut super::Cx<'_, '_>) -> T,
    ) -> T {
        let ctx = Context { mono_ns: self.mono_ns, unix_ns: self.unix_ns, interest: listeners };
        let Self { streams, fx, cache, ids, .. } = self;
        let room = super::Room::default();
        call(streams.get_mut("s").unwrap(), &mut super::Cx { ctx: &ctx, fx, cache, ids, room })
    }

    /// The messages that went to a subject: reply, status, payload.
    fn taken(&mut self, to: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let all = (0..self.fx.sends())
            .filter_map(|at| self.fx.outgoing(at))
            .filter(|m| m.to == to)
            .map(|m| (m.reply.to_vec(), m.headers.to_vec(), m.payload.to_vec()))
            .collect();
        self.fx.clear_sends();
        all
    }

    /// The number of the backup under way.
    fn snapshot_number(&self) -> u32 {
        let last = self.fx.interests.iter().rev().find_map(|change| match change {
            Interest::Subscribe { endpoint: crate::effect::Endpoint::Reply(_, n), .. } => Some(*n),
            _ => None,
        });
        last.unwrap()
    }
}

fn begin(bench: &mut Bench, chunk_size: i64, window_size: i64) {
    let request = SnapshotRequest {
        deliver_subject: "out".to_owned(),
        chunk_size,
        window_size,
        ..SnapshotRequest::default()
    };
    let started = bench
        .heard(&Everybody, |stream, cx| stream.begin_snapshot(&request, &[], &[], None, cx))
        .unwrap();
    assert_eq!(started.config.unwrap().name, "s");
}

fn fresh() -> Restore {
    let id = Identity { account: 1, account_name: "A".into(), slot: 9, domain: "".into() };
    let store = Store::memory(MemoryOptions { seed: 2, first_seq: 0 });
    Restore::new(Stream::new(id, config(), NOW_NS, store), Limits::default())
}

#[test]
fn what_goes_out_comes_in() {
    let mut bench = Bench::new();
    bench.add(config());
    for n in 0..300 {
        let body = format!("{n}").repeat(30);
        bench.publish(&format!("s.{}", n % 7), "", "NATS/1.0\r\nNats-TTL: 1h\r\n\r\n", &body);
    }
    bench.with("s", |stream, _| {
        stream.handle_delete(1, true).unwrap();
        stream.handle_delete(100, true).unwrap();
        stream.handle_delete(300, true).unwrap();
    });
    begin(&mut bench, 1024, 4096);
    let mut chunks = Vec::new();
    let mut end = None;
    let number = bench.snapshot_number();
    for _ in 0..1000 {
        bench.heard(&Everybody, |stream, cx| stream.handle_reads(cx));
        let got = bench.taken(b"out");
        assert!(got.len() <= 6, "the window holds four chunks");
        for (reply, status, payload) in got {
            if !status.is_empty() {
                end = Some(status);
            } else if reply.is_empty() {
                chunks.push(payload);
            } else {
                assert_eq!(payload.len(), 1024);
                chunks.push(payload);
                bench.heard(&Everybody, |stream, cx| stream.handle_snapshot_ack(number, cx));
            }
        }
        if end.is_some() {
            break;
        }
    }
    assert_eq!(end.as_deref(), Some(&b"NATS/1.0 204\r\n\r\n"[..]));
    assert!(chunks.len() > 4);
    let ctx = Context { mono_ns: 0, unix_ns: NOW_NS, interest: &Nobody };
    let mut restore = fresh();
    for chunk in &chunks {
        assert_eq!(restore.handle_chunk(chunk, &ctx), Ok(Taken::Chunk));
    }
    assert_eq!(restore.handle_chunk(b"", &ctx), Ok(Taken::All));
    let (restored, consumers) = restore.into_parts();
    assert!(consumers.is_empty());
    let (there, here) = (bench.streams["s"].store.state(), restored.store.state());
    assert_eq!((there.messages, there.bytes), (here.messages, here.bytes));
    assert_eq!((there.first_seq, there.last_seq), (here.first_seq, here.last_seq));
    assert_eq!(there.first_ts_ns, here.first_ts_ns);
    assert!(restored.store.next_expiry_ns().is_some(), "lives go on");
    assert!(!restored.store.contains(100) && restored.store.contains(101));
}

#[test]
fn a_damaged_archive_is_refused() {
    let mut bench = Bench::new();
    bench.add(config());
    bench.publish("s.a", "", "", "x");
    begin(&mut bench, 0, 0);
    bench.heard(&Everybody, |stream, cx| stream.handle_reads(cx));
    let archive: Vec<u8> = bench.taken(b"out").into_iter().flat_map(|(.., part)| part).collect();
    let ctx = Context { mono_ns: 0, unix_ns: NOW_NS, interest: &Nobody };
    let mut cut = fresh();
    let half = archive.get(..archive.len() / 2).unwrap();
    let outcome = cut.handle_chunk(half, &ctx).and_then(|_| cut.handle_chunk(b"", &ctx));
    assert_eq!(outcome.map_err(|error| error.err_code), Err(10_062));
    let outcome = fresh().handle_chunk(&[7; 64], &ctx);
    assert_eq!(outcome.map_err(|error| error.err_code), Err(10_062));
    let mut whole = fresh();
    assert_eq!(whole.handle_chunk(&archive, &ctx), Ok(Taken::Chunk));
    assert_eq!(whole.handle_chunk(b"", &ctx), Ok(Taken::All));
}

#[test]
fn a_receiver_that_goes_or_sleeps_ends_the_backup() {
    let mut bench = Bench::new();
    bench.add(config());
    bench.publish("s.a", "", "", "x");
    begin(&mut bench, 0, 0);
    bench.heard(&Nobody, |stream, cx| stream.handle_timers(cx));
    assert!(bench.taken(b"out").is_empty(), "it may come yet");
    bench.mono_ns += 3_000_000_000;
    bench.heard(&Nobody, |stream, cx| stream.handle_timers(cx));
    let got = bench.taken(b"out");
    assert_eq!(got[0].1, b"NATS/1.0 408 No Interest\r\n\r\n");
    for n in 0_u64..200 {
        let body = wire::nuid::Nuid::new([n as u8; 32]).next_text().repeat(60);
        bench.publish("s.a", "", "", &body);
    }
    begin(&mut bench, 1024, 1024);
    bench.heard(&Everybody, |stream, cx| stream.handle_timers(cx));
    assert_eq!(bench.taken(b"out").len(), 1);
    bench.mono_ns += 5_000_000_000;
    bench.heard(&Everybody, |stream, cx| stream.handle_timers(cx));
    let got = bench.taken(b"out");
    assert_eq!(got[0].1, b"NATS/1.0 408 No Flow Response\r\n\r\n");
    let bad = SnapshotRequest { deliver_subject: "a.*".to_owned(), ..Default::default() };
    let refused =
        bench.heard(&Everybody, |stream, cx| stream.begin_snapshot(&bad, &[], &[], None, cx));
    assert_eq!(refused.map_err(|error| error.err_code), Err(10_015));
}

#[test]
fn a_message_that_cannot_go_ends_the_backup_without_an_end() {
    let mut bench = Bench::new();
    bench.add(config());
    bench.publish("s.a", "", "", "x");
    // No client can publish this; a stream that comes from elsewhere may have it.
    bench.with("s", |stream, _| {
        let message = store::NewMessage {
            subject: b"s.a b",
            headers: b"",
            payload: b"y",
            ts_ns: NOW_NS,
            expires_ns: None,
            has_msg_id: false,
        };
        stream.store.append(&message).unwrap();
    });
    bench.publish("s.a", "", "", "z");
    begin(&mut bench, 0, 0);
    bench.heard(&Everybody, |stream, cx| stream.handle_reads(cx));
    let got = bench.taken(b"out");
    let end = b"NATS/1.0 500 message 2 does not fit into an archive\r\n\r\n";
    assert_eq!(got.last().unwrap().1, end);
    let archive: Vec<u8> = got.into_iter().flat_map(|(.., part)| part).collect();
    let ctx = Context { mono_ns: 0, unix_ns: NOW_NS, interest: &Nobody };
    let mut restore = fresh();
    let outcome =
        restore.handle_chunk(&archive, &ctx).and_then(|_| restore.handle_chunk(b"", &ctx));
    assert_eq!(outcome.map_err(|error| error.err_code), Err(10_062));
    assert!(bench.fx.logs.iter().any(|(_, line)| line.contains("message 2 does not fit")));
}

/// Lets a backup of a stream in files go on until it has sent its end, which is returned.
fn run_to_end(bench: &mut Bench, disk: &mut Disk) -> Vec<u8> {
    for _ in 0..1000 {
        bench.heard(&Everybody, |stream, cx| stream.handle_reads(cx));
        let sent = bench.taken(b"out");
        if let Some((_, status, _)) = sent.into_iter().find(|(_, status, _)| !status.is_empty()) {
            return status;
        }
        for (ticket, op) in std::mem::take(&mut bench.fx.disk.ops) {
            let done = DiskDone { ticket, result: disk.carry_out(op) };
            bench.heard(&Everybody, |stream, cx| {
                stream.store.handle_disk_done(done, 0, &mut cx.fx.disk, cx.cache);
            });
        }
    }
    panic!("the backup does not end");
}

#[test]
fn a_damaged_message_ends_the_backup_until_it_is_deleted() {
    let (mut bench, mut disk) = (Bench::new(), Disk::default());
    bench.add_file(config());
    let mut nuid = wire::nuid::Nuid::new([3; 32]);
    for number in 0..40 {
        // Compression finds nothing in it, so that there is more than one chunk.
        let filler: String = (0..50).map(|_| nuid.next_text().to_string()).collect();
        bench.publish("s.a", "", "", &format!("message {number} {filler}"));
    }
    bench.end_turn(&mut disk);
    begin(&mut bench, 1024, 1 << 20);
    assert_eq!(run_to_end(&mut bench, &mut disk), b"NATS/1.0 204\r\n\r\n");
    bench.cache = Cache::new(1 << 20);
    let place = |bytes: &Vec<u8>| bytes.windows(10).position(|part| part == b"message 4 ");
    let (bytes, at) = disk.files.values_mut().find_map(|b| place(b).map(|at| (b, at))).unwrap();
    bytes[at] ^= 1;
    begin(&mut bench, 1024, 1 << 20);
    let end = run_to_end(&mut bench, &mut disk);
    assert_eq!(String::from_utf8(end).unwrap(), "NATS/1.0 500 message 5 is unreadable\r\n\r\n");
    assert!(bench.fx.logs.iter().any(|(_, line)| line.contains("'A > s' failed: message 5 is")));
    bench.with("s", |stream, _| stream.handle_delete(5, true).unwrap());
    begin(&mut bench, 1024, 1 << 20);
    assert_eq!(run_to_end(&mut bench, &mut disk), b"NATS/1.0 204\r\n\r\n");
}

#[test]
fn a_backup_names_what_damage_took_and_a_checked_one_is_refused() {
    let mut bench = Bench::new();
    bench.add(config());
    for body in ["a", "b", "c"] {
        bench.publish("s.a", "", "", body);
    }
    let lost = [(2, 2)];
    let begin = |bench: &mut Bench, jsck: bool| {
        let request =
            SnapshotRequest { deliver_subject: "out".to_owned(), jsck, ..Default::default() };
        bench.heard(&Everybody, |stream, cx| stream.begin_snapshot(&request, &[], &lost, None, cx))
    };
    let state = begin(&mut bench, false).unwrap().state.unwrap();
    assert_eq!(state.lost.unwrap().msgs, [2]);
    let refused = begin(&mut bench, true).unwrap_err();
    assert_eq!(refused.err_code, 10_064);
    assert_eq!(refused.description, "snapshot failed: messages are lost, first 2 to 2");
    bench
        .with("s", |stream, _| stream.handle_purge(&PurgeRequest { seq: 3, ..Default::default() }))
        .unwrap();
    begin(&mut bench, true).unwrap();
}
