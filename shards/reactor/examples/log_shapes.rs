//! Measures the two shapes of a store's log on a real disk, through the shard's own driver: one
//! log for all streams of a shard, and one log for each stream (docs/adr/0011).
//!
//! ```text
//! cargo run --release -p reactor --example log_shapes -- DIR [rounds] [seconds] [direct|cached]
//! ```
//!
//! Publishers wait for their acknowledgement and publish again at once, so that `outstanding`
//! messages are always under way, spread evenly over the streams. Each log has one commit under
//! way, and the next collects meanwhile. As in the store, a commit writes its full blocks to their
//! place, the rest to one of two slots, and flushes. The shapes take turns; the figures are
//! medians of the rounds. DIR must be on the disk that is to be measured; the files are removed.

#![allow(clippy::print_stdout, reason = "a program")]

use std::collections::HashMap;
use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use reactor::Ring;
use reactor::disk::{Disk, DiskSettings};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::{ClockId, clock_gettime};
use store::disk::{
    Access, AlignedBuffer, BLOCK_BYTES, DiskDone, DiskOp, DiskQueue, Extent, FileId, Ticket,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the store adds to a message, bytes.
const RECORD_EXTRA_BYTES: usize = 48;
/// Where records begin, behind the header and two slots.
const DATA_START: u64 = 20480;
const SLOTS: [u64; 2] = [4096, 12288];
const SLOT_HEAD_BYTES: usize = 64;
/// Space of all logs of a run together, used again and again, bytes.
const SPACE_BYTES: u64 = 64 << 20;

/// Streams and outstanding messages of a row.
const ROWS: [(usize, usize); 8] =
    [(1, 1), (1, 16), (16, 16), (1, 256), (16, 256), (256, 256), (16, 4096), (256, 4096)];
const PAYLOADS: [usize; 2] = [128, 1024];

/// One log.
struct Log {
    file: FileId,
    position: u64,
    rest_bytes: usize,
    slot: usize,
    /// Messages that came since the last commit.
    collected: u64,
    /// Messages of the commit under way.
    committing: u64,
    since: Instant,
}

/// A disk with what a shard has around it.
struct Bench {
    disk: Disk,
    ring: Ring,
    bell: OwnedFd,
    queue: DiskQueue,
    done: Vec<DiskDone>,
    start: Instant,
}

/// What one run gave.
struct Figures {
    messages_per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Bench {
    fn open(dir: PathBuf) -> Outcome<Self> {
        let mut settings = DiskSettings::new(dir);
        settings.spare_min = 0;
        let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
        let mut ring = Ring::new(bell.as_fd())?;
        ring.set_wakes(true);
        let disk = Disk::open(settings, bell.try_clone()?)?;
        let (queue, done) = (DiskQueue::default(), Vec::new());
        Ok(Self { disk, ring, bell, queue, done, start: Instant::now() })
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// One turn: submits, sleeps until there is something, takes it.
    fn turn(&mut self) -> Outcome<()> {
        let now_ns = self.now_ns();
        self.disk.submit(self.queue.ops.drain(..), &mut self.ring, now_ns)?;
        if !self.disk.has_done() && !self.ring.has_events() {
            poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], None)?;
            rustix::io::read(&self.bell, &mut [0_u8; 8])?;
        }
        self.ring.enter()?;
        let mut events = Vec::new();
        self.ring.drain(|event| events.push(event));
        let now_ns = self.now_ns();
        for event in events {
            self.disk.land(event, &mut self.ring, now_ns)?;
        }
        self.disk.take_done(&mut self.done, &mut self.ring, now_ns)?;
        Ok(())
    }

    /// Carries out operations and waits for them.
    fn run(&mut self, ops: Vec<DiskOp>) -> Outcome<()> {
        let mut left = ops.len();
        for op in ops {
            self.queue.push(op);
        }
        while left > 0 {
            self.turn()?;
            for done in self.done.drain(..) {
                done.result?;
                left -= 1;
            }
        }
        Ok(())
    }

    fn measure(
        &mut self,
        access: Access,
        logs: usize,
        outstanding: usize,
        payload: usize,
        length: Duration,
    ) -> Outcome<Figures> {
        let bytes = SPACE_BYTES / logs as u64;
        let mut all = Vec::new();
        let mut creates = Vec::new();
        for n in 0..logs {
            let file = self.queue.name_file();
            let path = format!("logs/{n}");
            creates.push(DiskOp::Create { file, path, len: bytes, access });
            let collected = (n..outstanding).step_by(logs).count() as u64;
            all.push(Log {
                file,
                position: DATA_START,
                rest_bytes: 0,
                slot: 0,
                collected,
                committing: 0,
                since: Instant::now(),
            });
        }
        self.run(creates)?;
        let figures = self.publish(&mut all, bytes, payload, access, length)?;
        self.run(all.iter().map(|log| DiskOp::Close { file: log.file }).collect())?;
        self.run(vec![DiskOp::RemoveTree { path: "logs".into() }])?;
        Ok(figures)
    }

    fn publish(
        &mut self,
        logs: &mut [Log],
        bytes: u64,
        payload: usize,
        access: Access,
        length: Duration,
    ) -> Outcome<Figures> {
        let mut of_ticket: HashMap<Ticket, usize> = HashMap::new();
        let mut times: Histogram<u64> = Histogram::new(3)?;
        let (start, cpu_start_ns) = (Instant::now(), cpu_ns());
        let mut messages = 0;
        loop {
            let is_over = start.elapsed() >= length;
            for (at, log) in logs.iter_mut().enumerate() {
                if !is_over && log.committing == 0 && log.collected > 0 {
                    let op = log.commit(bytes, payload, access == Access::Direct);
                    of_ticket.insert(self.queue.push(op), at);
                }
            }
            if of_ticket.is_empty() {
                break;
            }
            self.turn()?;
            for done in self.done.drain(..) {
                done.result?;
                let at = of_ticket.remove(&done.ticket).ok_or("an unknown ticket")?;
                let Some(log) = logs.get_mut(at) else { continue };
                let count = std::mem::take(&mut log.committing);
                times.record_n(log.since.elapsed().as_nanos() as u64, count)?;
                messages += count;
                log.collected += count;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(Figures {
            messages_per_second: messages as f64 / seconds,
            cpu_us: (cpu_ns() - cpu_start_ns) as f64 / 1e3 / messages.max(1) as f64,
            p50_us: times.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: times.value_at_quantile(0.99) as f64 / 1e3,
        })
    }
}

impl Log {
    /// The commit of everything collected.
    fn commit(&mut self, file_bytes: u64, payload: usize, sync: bool) -> DiskOp {
        self.committing = std::mem::take(&mut self.collected);
        self.since = Instant::now();
        let bytes = self.rest_bytes + self.committing as usize * (payload + RECORD_EXTRA_BYTES);
        let full = bytes / BLOCK_BYTES * BLOCK_BYTES;
        self.rest_bytes = bytes - full;
        let mut extents = Vec::new();
        if full > 0 {
            if self.position + full as u64 > file_bytes {
                self.position = DATA_START;
            }
            extents.push(Extent { offset: self.position, bytes: AlignedBuffer::new(full) });
            self.position += full as u64;
        }
        let len = (SLOT_HEAD_BYTES + self.rest_bytes).next_multiple_of(BLOCK_BYTES);
        let offset = SLOTS[self.slot];
        self.slot ^= 1;
        extents.push(Extent { offset, bytes: AlignedBuffer::new(len) });
        DiskOp::Commit { file: self.file, extents, sync }
    }
}

/// CPU that the process has used, with the kernel's threads that work for it.
fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn print_row(payload: usize, outstanding: usize, shape: &str, rounds: &[Figures]) {
    println!(
        "| {payload} | {outstanding} | {shape} | {:.0} | {:.0} | {:.0} | {:.2} |",
        median(rounds.iter().map(|figures| figures.messages_per_second)),
        median(rounds.iter().map(|figures| figures.p50_us)),
        median(rounds.iter().map(|figures| figures.p99_us)),
        median(rounds.iter().map(|figures| figures.cpu_us)),
    );
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = arguments.get(1).ok_or("log_shapes DIR [rounds] [seconds] [direct|cached]")?;
    let rounds: usize = arguments.get(2).map_or(Ok(5), |text| text.parse())?;
    let seconds: f64 = arguments.get(3).map_or(Ok(1.0), |text| text.parse())?;
    let is_cached = arguments.get(4).is_some_and(|text| text == "cached");
    let access = if is_cached { Access::Cached } else { Access::Direct };
    let dir = Path::new(dir).join("log_shapes");
    let mut bench = Bench::open(dir.clone())?;
    println!("{:?}, {access:?}\n", bench.disk.mode());
    println!("| payload | outstanding | logs | messages/s | p50 µs | p99 µs | CPU µs/message |");
    println!("|---|---|---|---|---|---|---|");
    for payload in PAYLOADS {
        for outstanding in [1, 16, 256, 4096] {
            let shapes = ROWS.iter().filter(|(_, out)| *out == outstanding);
            let mut logs: Vec<usize> = shapes.map(|(streams, _)| *streams).collect();
            if !logs.contains(&1) {
                logs.insert(0, 1);
            }
            let mut all: Vec<Vec<Figures>> = logs.iter().map(|_| Vec::new()).collect();
            for _ in 0..rounds {
                for (count, figures) in logs.iter().zip(&mut all) {
                    let length = Duration::from_secs_f64(seconds);
                    figures.push(bench.measure(access, *count, outstanding, payload, length)?);
                }
            }
            for (count, figures) in logs.iter().zip(&all) {
                print_row(payload, outstanding, &count.to_string(), figures);
            }
        }
    }
    bench.disk.finish(&mut bench.ring, Duration::from_secs(10), |_| {})?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
