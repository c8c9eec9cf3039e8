//! Request and reply through the server, measured at the requester.
//!
//! Closed loop: each client has one request outstanding. Open loop: requests are due at a fixed
//! rate and a latency counts from the moment the request was *due*, so that a server that stalls
//! cannot hide the requests that should have been made meanwhile.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::{Kind, Params, Subject, Wait, or};
use crate::client::conn::Conn;
use crate::client::exchange;
use crate::client::op::{self, Op};
use crate::client::peer;
use crate::client::poll::{Poll, Ready, Watch};
use crate::error::{HarnessError, Result};
use crate::measure::cpu;
use crate::measure::histogram::Latencies;
use crate::report::Outcome;

/// How long an answer may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// The open loop's rate when none is given, in requests a second.
const RATE_DEFAULT: f64 = 20_000.0;

/// A connection of the loop.
struct Peer {
    base: peer::Peer,
    /// The next sequence number that must come back, for requesters.
    next: u64,
    /// When the outstanding request was sent, for the closed loop.
    sent_at: Instant,
}

impl Peer {
    fn new(conn: Conn) -> Self {
        Self { base: peer::Peer::new(conn), next: 0, sent_at: Instant::now() }
    }
}

/// Which requests are made, and when.
#[derive(Clone, Copy)]
enum Pace {
    /// The next one when the last one was answered.
    Closed,
    /// Number `n` at `n` times `period` after the start.
    Open { period: Duration },
}

/// Requesters, one responder, and what was measured.
struct Loop {
    poll: Poll,
    responder: Peer,
    clients: Vec<Peer>,
    payload: Vec<u8>,
    buffer: Vec<u8>,
    latencies: Latencies,
    pace: Pace,
    start: Instant,
    /// Answers before this are not recorded.
    record_from: Instant,
    made: u64,
    answered: u64,
    open: bool,
}

/// Token of the responder; clients have their index.
const RESPONDER: usize = usize::MAX >> 1;

/// Runs the closed or the open loop.
///
/// # Errors
/// A request that is lost or answered out of order, closed connections, timeouts.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let mut work = Loop::connect(subject, params)?;
    work.start = Instant::now();
    work.record_from = work.start + params.warmup;
    let end = work.record_from + params.duration;
    if matches!(work.pace, Pace::Closed) {
        for index in 0..work.clients.len() {
            work.request(index, Instant::now())?;
        }
    }
    work.turn_until(work.record_from, params.wait)?;
    let from = (Instant::now(), work.answered, subject.cpu()?, cpu::thread_ns());
    work.turn_until(end, params.wait)?;
    let to = (Instant::now(), work.answered, subject.cpu()?, cpu::thread_ns());
    work.finish(params.wait)?;

    let mut outcome = Outcome::new(params);
    let seconds = (to.0 - from.0).as_secs_f64();
    let count = (to.1 - from.1) as f64;
    if count == 0.0 {
        return Err(HarnessError::Timeout("not one answer within the window".into()));
    }
    outcome.put_latency(work.latencies.summary());
    outcome.put("requests_per_s", count / seconds, "/s");
    if let (Some(a), Some(b)) = (from.2, to.2) {
        outcome.put("server_cpu_us_per_request", b.since(a) as f64 / 1000.0 / count, "us");
        outcome.put("server_cpu_percent", b.since(a) as f64 / seconds / 1e7, "%");
    }
    outcome.put("harness_cpu_percent", (to.3 - from.3) as f64 / seconds / 1e7, "%");
    outcome.put_memory(subject.memory()?);
    Ok(outcome)
}

impl Loop {
    fn connect(subject: &Subject, params: &Params) -> Result<Self> {
        let poll = Poll::new()?;
        let mut responder = subject.target.connect()?;
        exchange::apply(&mut responder, b"SUB bench.service 1\r\n", PATIENCE)?;
        poll.add(&responder, RESPONDER, Watch::Edges)?;
        let mut clients = Vec::new();
        for index in 0..or(params.connections, 1) {
            let mut conn = subject.target.connect()?;
            let line = format!("SUB _INBOX.bench.{index}.* 1\r\n");
            exchange::apply(&mut conn, line.as_bytes(), PATIENCE)?;
            poll.add(&conn, index, Watch::Edges)?;
            clients.push(Peer::new(conn));
        }
        let rate = if params.rate > 0.0 { params.rate } else { RATE_DEFAULT };
        let open = params.kind == Kind::ReqrepOpen;
        let period = Duration::from_secs_f64(1.0 / rate);
        let now = Instant::now();
        Ok(Self {
            poll,
            responder: Peer::new(responder),
            clients,
            payload: vec![b'x'; params.size],
            buffer: vec![0; 128 << 10],
            latencies: Latencies::new()?,
            pace: if open { Pace::Open { period } } else { Pace::Closed },
            start: now,
            record_from: now,
            made: 0,
            answered: 0,
            open: true,
        })
    }

    /// When request `n` of the open loop is due.
    fn due(&self, n: u64, period: Duration) -> Instant {
        let ns = u128::from(n) * period.as_nanos();
        self.start + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Queues one request of a client and sends it.
    fn request(&mut self, index: usize, now: Instant) -> Result<()> {
        let size = self.payload.len();
        let made = self.made;
        let Some(client) = self.clients.get_mut(index) else {
            return Ok(());
        };
        let out = client.base.out.tail();
        // Writing into a Vec cannot fail.
        let _ = write!(out, "PUB bench.service _INBOX.bench.{index}.{made:012} {size}\r\n");
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b"\r\n");
        client.sent_at = now;
        if matches!(self.pace, Pace::Closed) {
            client.next = made;
        }
        self.made += 1;
        client.base.flush()?;
        Ok(())
    }

    /// Makes all requests of the open loop that are due.
    fn catch_up(&mut self, now: Instant) -> Result<()> {
        let Pace::Open { period } = self.pace else {
            return Ok(());
        };
        while self.open && self.due(self.made, period) <= now {
            let index = usize::try_from(self.made).unwrap_or(0) % self.clients.len().max(1);
            self.request(index, now)?;
        }
        Ok(())
    }

    fn turn_until(&mut self, until: Instant, wait: Wait) -> Result<()> {
        let mut ready = Vec::new();
        let mut progress = (self.answered, Instant::now());
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            self.turn(now, until, wait, &mut ready)?;
            if self.answered > progress.0 {
                progress = (self.answered, now);
            } else if now - progress.1 > PATIENCE {
                return Err(HarnessError::Timeout("no answer any more".into()));
            }
        }
    }

    fn turn(
        &mut self,
        now: Instant,
        until: Instant,
        wait: Wait,
        ready: &mut Vec<Ready>,
    ) -> Result<()> {
        self.catch_up(now)?;
        let mut patience = until.saturating_duration_since(Instant::now());
        if let (Pace::Open { period }, true) = (self.pace, self.open) {
            let due = self.due(self.made, period);
            patience = patience.min(due.saturating_duration_since(Instant::now()));
        }
        if wait == Wait::Spin {
            patience = Duration::ZERO;
        }
        ready.clear();
        self.poll.wait(patience, ready)?;
        for event in ready.iter() {
            if event.token == RESPONDER {
                self.respond()?;
            } else {
                self.collect(event.token)?;
            }
        }
        Ok(())
    }

    /// Answers all requests that came in, with one write.
    fn respond(&mut self) -> Result<()> {
        let Self { responder, buffer, payload, .. } = self;
        responder.base.read_ops(buffer, |op, out| {
            let Op::Msg { reply: Some(reply), .. } = op else {
                return Err(HarnessError::Protocol("a request without reply subject".into()));
            };
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(reply);
            let _ = write!(out, " {}\r\n", payload.len());
            out.extend_from_slice(payload);
            out.extend_from_slice(b"\r\n");
            Ok(())
        })?;
        responder.base.flush()?;
        Ok(())
    }

    /// Takes the answers of one client, and asks again in the closed loop.
    fn collect(&mut self, index: usize) -> Result<()> {
        let step = match self.pace {
            Pace::Closed => 0,
            Pace::Open { .. } => self.clients.len() as u64,
        };
        let Some(client) = self.clients.get_mut(index) else {
            return Ok(());
        };
        let (sent_at, mut next) = (client.sent_at, client.next);
        if step > 0 && next == 0 {
            next = index as u64;
        }
        let first = next;
        let mut answers = 0_u64;
        client.base.read_ops(&mut self.buffer, |op, _| {
            let Op::Msg { subject, .. } = op else {
                return Ok(());
            };
            let number = subject.rsplit(|b| *b == b'.').next().and_then(op::number);
            if number != Some(next) {
                let why = format!("client {index}: answer {number:?} where {next} was due");
                return Err(HarnessError::Count(why));
            }
            next += step;
            answers += 1;
            Ok(())
        })?;
        client.next = next;
        client.base.flush()?;
        if step == 0 && answers > 1 {
            return Err(HarnessError::Count("one request was answered twice".into()));
        }
        let now = Instant::now();
        for n in 0..answers {
            let since = match self.pace {
                Pace::Closed => sent_at,
                Pace::Open { period } => self.due(first + n * step, period),
            };
            if since >= self.record_from {
                self.latencies.record(now.saturating_duration_since(since));
            }
        }
        self.answered += answers;
        if step == 0 && answers == 1 && self.open {
            self.request(index, now)?;
        }
        Ok(())
    }

    /// Makes no more requests and waits for the answers that are still due.
    fn finish(&mut self, wait: Wait) -> Result<()> {
        self.open = false;
        let deadline = Instant::now() + PATIENCE;
        let mut ready = Vec::new();
        while self.answered < self.made {
            let now = Instant::now();
            if now >= deadline {
                let missing = self.made - self.answered;
                return Err(HarnessError::Count(format!("{missing} requests never answered")));
            }
            self.turn(now, deadline, wait, &mut ready)?;
        }
        Ok(())
    }
}
