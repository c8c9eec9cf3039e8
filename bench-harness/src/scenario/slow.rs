//! Trouble by slow readers.
//!
//! `slow-subscriber`: messages at a fixed rate to a fast and a slow subscriber of one subject.
//! What counts is the fast one's latency, from when each message was due. `burst`: as many
//! messages as fast as they go to one reader of bounded speed. What counts is whether the
//! server keeps the reader.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::{Params, Subject, Wait, or};
use crate::client::conn::{Conn, Recv};
use crate::client::cycle::Cycle;
use crate::client::exchange;
use crate::client::op::{self, Op};
use crate::client::outbuf::OutBuf;
use crate::client::poll::{Poll, Watch};
use crate::error::{HarnessError, Result};
use crate::measure::cpu;
use crate::measure::histogram::Latencies;
use crate::report::Outcome;

/// How long a set-up step may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the fast reader may lag after the last message was due.
const LAG_MAX: Duration = Duration::from_secs(60);
/// Messages a second of `slow-subscriber` when no rate is given.
const RATE_DEFAULT: f64 = 20_000.0;
/// How often a paced reader reads.
const READ_EVERY: Duration = Duration::from_millis(2);
const MIB: f64 = 1_048_576.0;

/// A subscriber that reads no faster than its rate.
struct PacedReader {
    conn: Conn,
    bytes_per_s: f64,
    start: Instant,
    read: u64,
    next_read: Instant,
    closed_at: Option<Instant>,
    last: Vec<u8>,
}

impl PacedReader {
    fn new(conn: Conn, bytes_per_s: f64) -> Self {
        let now = Instant::now();
        let (closed_at, last) = (None, Vec::new());
        Self { conn, bytes_per_s, start: now, read: 0, next_read: now, closed_at, last }
    }

    /// Reads what its rate allows by now.
    fn turn(&mut self, now: Instant, buffer: &mut [u8]) -> Result<()> {
        if self.closed_at.is_some() || now < self.next_read {
            return Ok(());
        }
        self.next_read = now + READ_EVERY;
        let allowed = ((now - self.start).as_secs_f64() * self.bytes_per_s) as u64;
        loop {
            let room = usize::try_from(allowed.saturating_sub(self.read)).unwrap_or(usize::MAX);
            let room = room.min(buffer.len());
            if room == 0 {
                return Ok(());
            }
            match self.conn.try_recv(buffer.get_mut(..room).unwrap_or_default())? {
                Recv::Data(n) | Recv::Last(n) => {
                    self.read += n as u64;
                    let tail = buffer.get(n.saturating_sub(64)..n).unwrap_or_default();
                    self.last.clear();
                    self.last.extend_from_slice(tail);
                }
                Recv::Empty => return Ok(()),
                Recv::Closed => {
                    self.closed_at = Some(now);
                    return Ok(());
                }
            }
        }
    }

    /// The `-ERR` line that came last, if any.
    fn farewell(&self) -> Option<String> {
        let at = memchr::memmem::find(&self.last, b"-ERR")?;
        let text = String::from_utf8_lossy(self.last.get(at..)?);
        Some(text.trim().to_owned())
    }
}

/// The fast subscriber: sequence numbers in, latencies out.
struct FastReader {
    conn: Conn,
    out: OutBuf,
    unread: Vec<u8>,
    received: u64,
}

/// The publisher of the open loop.
struct OpenPublisher {
    conn: Conn,
    out: OutBuf,
    payload: Vec<u8>,
    unread: Vec<u8>,
    made: u64,
    start: Instant,
    period_ns: u128,
}

impl OpenPublisher {
    fn due(&self, n: u64) -> Instant {
        let ns = u64::try_from(u128::from(n) * self.period_ns).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(ns)
    }

    /// Makes what is due; what the socket does not take waits in order.
    fn turn(&mut self, now: Instant, total: u64) -> Result<()> {
        while self.made < total && self.due(self.made) <= now {
            if let Some(stamp) = self.payload.first_chunk_mut::<8>() {
                *stamp = self.made.to_le_bytes();
            }
            let out = self.out.tail();
            // Writing into a Vec cannot fail.
            let _ = write!(out, "PUB bench.slow {}\r\n", self.payload.len());
            out.extend_from_slice(&self.payload);
            out.extend_from_slice(b"\r\n");
            self.made += 1;
        }
        self.out.flush(&mut self.conn)?;
        Ok(())
    }
}

fn subscribed(subject: &Subject) -> Result<Conn> {
    let mut conn = subject.target.connect()?;
    exchange::apply(&mut conn, b"SUB bench.slow 1\r\n", PATIENCE)?;
    Ok(conn)
}

/// Runs `slow-subscriber`.
///
/// # Errors
/// The fast subscriber or the publisher is closed, or the fast one misses a message.
pub fn run_slow(subject: &Subject, params: &Params) -> Result<Outcome> {
    let rate = if params.rate > 0.0 { params.rate } else { RATE_DEFAULT };
    let size = params.size.max(8);
    let slow_mib = if params.reader_mib > 0.0 { params.reader_mib } else { 2.0 };
    let slow = PacedReader::new(subscribed(subject)?, slow_mib * MIB);
    let (out, unread) = (OutBuf::default(), Vec::new());
    let fast = FastReader { conn: subscribed(subject)?, out, unread, received: 0 };
    let publisher = OpenPublisher {
        conn: subject.target.connect()?,
        out: OutBuf::default(),
        payload: vec![b'x'; size],
        unread: Vec::new(),
        made: 0,
        start: Instant::now(),
        period_ns: Duration::from_secs_f64(1.0 / rate).as_nanos(),
    };
    let poll = Poll::new()?;
    poll.add(&fast.conn, 0, Watch::Read)?;
    poll.add(&publisher.conn, 1, Watch::Edges)?;
    let total = ((params.warmup + params.duration).as_secs_f64() * rate) as u64;
    let mut work = SlowRun {
        poll,
        slow,
        fast,
        publisher,
        latencies: Latencies::new()?,
        record_from: (params.warmup.as_secs_f64() * rate) as u64,
        buffer: vec![0; 256 << 10],
        wait: params.wait,
    };
    let (cpu_from, own_from, from) = (subject.cpu()?, cpu::thread_ns(), Instant::now());
    let late = work.run(total)?;
    let (cpu_to, own_to) = (subject.cpu()?, cpu::thread_ns());
    let seconds = from.elapsed().as_secs_f64();
    let mut outcome = Outcome::new(params);
    outcome.put_latency(work.latencies.summary());
    outcome.put("messages", total as f64, "");
    outcome.put("fast_end_lag_ms", late.as_secs_f64() * 1e3, "ms");
    if let (Some(a), Some(b)) = (cpu_from, cpu_to) {
        outcome.put("server_cpu_us_per_msg", b.since(a) as f64 / 1000.0 / total as f64, "us");
    }
    outcome.put("harness_cpu_percent", (own_to - own_from) as f64 / seconds / 1e7, "%");
    report_reader(&mut outcome, &work.slow, work.publisher.start);
    outcome.put_memory(subject.memory()?);
    Ok(outcome)
}

struct SlowRun {
    poll: Poll,
    slow: PacedReader,
    fast: FastReader,
    publisher: OpenPublisher,
    latencies: Latencies,
    /// Messages before this number warm up.
    record_from: u64,
    buffer: Vec<u8>,
    wait: Wait,
}

impl SlowRun {
    /// Runs until the fast reader has all; returns how late its last message was.
    fn run(&mut self, total: u64) -> Result<Duration> {
        self.publisher.start = Instant::now();
        self.slow.start = self.publisher.start;
        let last_due = self.publisher.due(total.saturating_sub(1));
        let mut ready = Vec::new();
        while self.fast.received < total {
            let now = Instant::now();
            self.publisher.turn(now, total)?;
            self.slow.turn(now, &mut self.buffer)?;
            if now > last_due + LAG_MAX {
                let got = self.fast.received;
                return Err(HarnessError::Count(format!("fast reader: {got} of {total}")));
            }
            let next = self.publisher.due(self.publisher.made).min(now + READ_EVERY);
            let patience = match self.wait {
                Wait::Spin => Duration::ZERO,
                Wait::Block => next.saturating_duration_since(Instant::now()),
            };
            ready.clear();
            self.poll.wait(patience, &mut ready)?;
            for event in &ready {
                if event.token == 0 {
                    self.read_fast()?;
                } else if event.readable {
                    let publisher = &mut self.publisher;
                    read_ops(
                        &mut publisher.conn,
                        &mut publisher.unread,
                        publisher.out.tail(),
                        &mut self.buffer,
                        |_| Ok(()),
                    )?;
                }
            }
        }
        Ok(Instant::now().saturating_duration_since(last_due))
    }

    fn read_fast(&mut self) -> Result<()> {
        let Self { fast, publisher, latencies, record_from, buffer, .. } = self;
        let received = &mut fast.received;
        let mut first = None;
        read_ops(&mut fast.conn, &mut fast.unread, fast.out.tail(), buffer, |payload| {
            let stamp = payload.first_chunk::<8>().map(|c| u64::from_le_bytes(*c));
            if stamp != Some(*received) {
                let why = format!("fast reader: message {stamp:?} where {received} was due");
                return Err(HarnessError::Count(why));
            }
            first.get_or_insert(*received);
            *received += 1;
            Ok(())
        })?;
        let now = Instant::now();
        for n in first.unwrap_or(*received).max(*record_from)..*received {
            latencies.record(now.saturating_duration_since(publisher.due(n)));
        }
        fast.out.flush(&mut fast.conn)?;
        Ok(())
    }
}

/// Reads one buffer of operations; payloads go to `take`, PINGs are answered into `out`.
fn read_ops(
    conn: &mut Conn,
    unread: &mut Vec<u8>,
    out: &mut Vec<u8>,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    loop {
        let outcome = conn.try_recv(buffer)?;
        let n = match outcome {
            Recv::Data(n) | Recv::Last(n) => n,
            Recv::Empty => return Ok(()),
            Recv::Closed => return Err(HarnessError::Closed("a healthy connection".into())),
        };
        unread.extend_from_slice(buffer.get(..n).unwrap_or_default());
        let mut at = 0;
        while let Some((op, used)) = op::parse(unread.get(at..).unwrap_or_default())? {
            match op {
                Op::Msg { payload, .. } => take(payload)?,
                Op::Ping => out.extend_from_slice(b"PONG\r\n"),
                Op::Err(text) => return Err(HarnessError::Refused(text.to_owned())),
                _ => {}
            }
            at += used;
        }
        unread.drain(..at);
        // The socket reports again when more is there; TLS must be emptied here.
        if !conn.is_tls() || matches!(outcome, Recv::Last(_)) {
            return Ok(());
        }
    }
}

fn report_reader(outcome: &mut Outcome, reader: &PacedReader, start: Instant) {
    outcome.put("slow_read_mib", reader.read as f64 / MIB, "MiB");
    outcome.put("slow_closed", f64::from(u8::from(reader.closed_at.is_some())), "");
    match reader.closed_at {
        Some(at) => {
            let seconds = (at - start).as_secs_f64();
            outcome.put("slow_closed_after_s", seconds, "s");
            let why = reader.farewell().unwrap_or_else(|| "without -ERR".into());
            outcome.notes.push(format!("the slow reader was closed after {seconds:.2} s: {why}"));
        }
        None => outcome.notes.push("the slow reader was kept".into()),
    }
}

/// Runs `burst`.
///
/// # Errors
/// The publisher is closed, or a kept reader makes no progress.
pub fn run_burst(subject: &Subject, params: &Params) -> Result<Outcome> {
    let total = params.msgs.unwrap_or(200_000);
    let mib = if params.reader_mib > 0.0 { params.reader_mib } else { 50.0 };
    let mut conn = subject.target.connect()?;
    exchange::apply(&mut conn, b"SUB bench.burst 1\r\n", PATIENCE)?;
    let mut reader = PacedReader::new(conn, mib * MIB);
    let mut publisher = subject.target.connect()?;
    let cycle = Cycle::fixed("bench.burst", params.size, 0, 256 << 10);
    let frame = format!("MSG bench.burst 1 {}\r\n", params.size).len() + params.size + 2;
    let goal = total * frame as u64;
    let mut buffer = vec![0; or(params.read_bytes, 256 << 10)];
    let start = Instant::now();
    reader.start = start;
    let (mut left, mut at, mut sent_after) = (total * cycle.frame_len() as u64, 0, None);
    let mut progress = (0, start);
    // PINGs of the server may add a few bytes; the reader is done when the messages fit.
    while reader.read < goal && reader.closed_at.is_none() {
        let now = Instant::now();
        if left > 0 {
            let limit = usize::try_from(left).unwrap_or(usize::MAX).min(params.write_bytes);
            let sent = publisher.try_send(cycle.slice(at, limit))?;
            at = if at + sent.taken >= cycle.len() { 0 } else { at + sent.taken };
            left -= sent.taken as u64;
        }
        if left == 0 && sent_after.is_none() && publisher.flush()? {
            sent_after = Some(start.elapsed());
        }
        reader.turn(now, &mut buffer)?;
        if reader.read > progress.0 {
            progress = (reader.read, now);
        } else if now - progress.1 > PATIENCE {
            return Err(HarnessError::Timeout("the burst's reader gets nothing".into()));
        }
        if left == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let mut outcome = Outcome::new(params);
    let kept = reader.closed_at.is_none();
    outcome.put("reader_kept", f64::from(u8::from(kept)), "");
    outcome.put("messages", total as f64, "");
    outcome.put("delivered_fraction", reader.read.min(goal) as f64 / goal as f64, "");
    outcome.put("burst_taken_s", sent_after.unwrap_or_default().as_secs_f64(), "s");
    outcome.put("all_read_s", start.elapsed().as_secs_f64(), "s");
    report_reader(&mut outcome, &reader, start);
    outcome.put_memory(subject.memory()?);
    Ok(outcome)
}
