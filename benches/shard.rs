//! What a whole shard costs without a kernel: messages in, frames in the outboxes, for one, ten and
//! a hundred receivers, and for subjects that change with every message.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use broker::settings::Settings;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shard::{Accepted, Effects, Now, Progress, Shard};

/// Messages in one piece of input.
const MESSAGES: usize = 512;

/// A shard with one publisher and some receivers, which are drained after every piece of input.
struct Bed {
    shard: Shard,
    fx: Effects,
    publisher: u32,
}

impl Bed {
    fn new(receivers: usize, pattern: &str) -> Self {
        let shard = Shard::new(0, 1, Arc::new(Settings::default()), 7);
        let mut bed = Self { shard, fx: Effects::default(), publisher: 0 };
        bed.publisher = bed.connect();
        for _ in 0..receivers {
            let slot = bed.connect();
            bed.feed(slot, format!("SUB {pattern} 1\r\n").as_bytes());
        }
        bed
    }

    fn connect(&mut self) -> u32 {
        let accepted = Accepted {
            cid: 1,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 1,
            nonce: String::new(),
            over_limit: false,
            tls_first: false,
        };
        let slot = self.shard.broker.handle_accept(accepted, Now::default(), &mut self.fx);
        self.feed(slot, b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
        slot
    }

    fn feed(&mut self, slot: u32, mut data: &[u8]) {
        loop {
            let progress = self.shard.broker.handle_input(slot, data, Now::default(), &mut self.fx);
            self.drain();
            match progress {
                Progress::Done => return,
                Progress::More(taken) => data = &data[taken..],
            }
        }
    }

    fn drain(&mut self) {
        self.fx.output_bytes = 0;
        for slot in std::mem::take(&mut self.fx.dirty) {
            self.shard.broker.take_dirty(slot);
            let bytes = self.shard.broker.outbox(slot).map_or(0, |outbox| outbox.pending_bytes());
            black_box(self.shard.broker.outbox(slot));
            let now = Now::default();
            self.shard.broker.handle_sent(slot, bytes, false, now, &mut self.fx);
        }
    }
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    let input = "PUB foo.bar 16\r\n0123456789abcdef\r\n".repeat(MESSAGES);
    for receivers in [0, 1, 10, 100] {
        let mut bed = Bed::new(receivers, "foo.bar");
        let publisher = bed.publisher;
        group.throughput(Throughput::Elements((MESSAGES * receivers.max(1)) as u64));
        group.bench_function(format!("{receivers}"), |b| {
            b.iter(|| bed.feed(publisher, black_box(input.as_bytes())));
        });
    }
    group.finish();
}

fn changing_subjects(c: &mut Criterion) {
    let mut group = c.benchmark_group("changing_subjects");
    let input: String =
        (0..MESSAGES).map(|n| format!("PUB foo.{n} 16\r\n0123456789abcdef\r\n")).collect();
    let mut bed = Bed::new(1, "foo.*");
    let publisher = bed.publisher;
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("one wildcard receiver", |b| {
        b.iter(|| bed.feed(publisher, black_box(input.as_bytes())));
    });
    group.finish();
}

criterion_group!(benches, fan_out, changing_subjects);
criterion_main!(benches);
