//! What requests that change something cost: flushes of the disk before their answer, and after.

use std::sync::Arc;

use store::disk::{AlignedBuffer, DiskData, DiskDone, DiskOp};

use super::JetStream;
use super::parcel::Request;
use crate::context::{Context, Interest};
use crate::effect::Effects;
use crate::settings::{AccountLimits, AccountSettings, Settings, Usage};

const MS_NS: u64 = 1_000_000;
/// Longer than events of consumers gather, and than a log waits before it writes its end again.
const QUIET_NS: u64 = 200 * MS_NS;

struct Nobody;

impl Interest for Nobody {
    fn has_interest(&self, _: u32, _: &[u8]) -> bool {
        false
    }
}

/// One shard, whose disk does everything at once.
struct Bench {
    jetstream: JetStream,
    fx: Effects,
    now_ns: u64,
    flushes: usize,
}

impl Bench {
    fn new() -> Self {
        let account = AccountSettings {
            name: "A".to_owned(),
            limits: Some(AccountLimits::default()),
            usage: Arc::<Usage>::default(),
        };
        let settings = Settings { accounts: vec![account], ..Settings::default() };
        let mut jetstream = JetStream::new(0, 1, Arc::new(settings), 7);
        let mut fx = Effects::default();
        jetstream.note_recovered(&Self::at(0), &mut fx);
        Self { jetstream, fx, now_ns: 1, flushes: 0 }
    }

    const fn at(mono_ns: u64) -> Context<'static> {
        Context { mono_ns, unix_ns: 1_700_000_000_000_000_000, interest: &Nobody }
    }

    /// Ends the turn and carries out what the disk is to do.
    fn end_turn(&mut self) {
        let now = Self::at(self.now_ns);
        self.jetstream.finish(&now, &mut self.fx);
        let ops = std::mem::take(&mut self.fx.disk.ops);
        for (ticket, op) in ops {
            let data = match op {
                DiskOp::Read { len, .. } => DiskData::Bytes(AlignedBuffer::new(len)),
                DiskOp::Commit { sync, .. } => {
                    self.flushes += usize::from(sync);
                    DiskData::None
                }
                _ => DiskData::None,
            };
            let done = DiskDone { ticket, result: Ok(data) };
            self.jetstream.handle_disk_done(done, &now, &mut self.fx);
        }
    }

    /// How many flushes a request takes until it is answered without an error.
    fn ask(&mut self, subject: &str, body: &str) -> usize {
        let request = Request {
            account: 0,
            origin: 0,
            subject: subject.as_bytes(),
            reply: b"reply",
            headers: b"",
            body: body.as_bytes(),
            client: b"",
        };
        self.fx.clear_sends();
        self.flushes = 0;
        self.jetstream.handle_request(&request, &Self::at(self.now_ns), &mut self.fx);
        for _ in 0..100 {
            if let Some(answer) = self.fx.outgoing(0) {
                let text = String::from_utf8_lossy(answer.payload);
                assert!(!text.contains("\"error\""), "{text}");
                return self.flushes;
            }
            self.end_turn();
        }
        panic!("{subject} has no answer");
    }

    /// How many flushes follow by themselves.
    fn rest(&mut self) -> usize {
        self.flushes = 0;
        let until_ns = self.now_ns + QUIET_NS;
        while self.now_ns < until_ns {
            self.now_ns += MS_NS;
            self.jetstream.handle_timers(&Self::at(self.now_ns), &mut self.fx);
            self.end_turn();
        }
        self.flushes
    }
}

#[test]
fn what_changes_something_is_flushed_once() {
    let mut bench = Bench::new();
    // The header of a log is safe before anything is written behind it. After each of the others
    // the log writes once, when it is quiet, that all is flushed.
    assert_eq!(bench.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#), 2);
    assert_eq!(bench.rest(), 1);
    let changed = r#"{"name":"S","subjects":["s"],"description":"changed"}"#;
    assert_eq!(bench.ask("$JS.API.STREAM.UPDATE.S", changed), 1);
    assert_eq!(bench.rest(), 1);
    let config = r#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"explicit"}}"#;
    assert_eq!(bench.ask("$JS.API.CONSUMER.CREATE.S.c", config), 1);
    assert_eq!(bench.rest(), 1);
    assert_eq!(bench.ask("$JS.API.CONSUMER.DELETE.S.c", ""), 1);
    assert_eq!(bench.rest(), 1);
    assert_eq!(bench.ask("$JS.API.STREAM.DELETE.S", ""), 0);
    assert_eq!(bench.rest(), 0);
}

#[test]
fn many_consumers_one_after_the_other_are_flushed_once_each() {
    let mut bench = Bench::new();
    bench.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#);
    bench.rest();
    let mut flushes = 0;
    for number in 0..100 {
        let config = format!("{{\"durable_name\":\"c{number}\",\"ack_policy\":\"explicit\"}}");
        let body = format!("{{\"stream_name\":\"S\",\"config\":{config}}}");
        flushes += bench.ask(&format!("$JS.API.CONSUMER.CREATE.S.c{number}"), &body);
        bench.now_ns += MS_NS;
        bench.jetstream.handle_timers(&Bench::at(bench.now_ns), &mut bench.fx);
        bench.end_turn();
        flushes += bench.flushes - 1;
    }
    assert_eq!(flushes, 100);
}
