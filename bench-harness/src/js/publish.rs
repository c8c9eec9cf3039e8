//! Publishing with a number of messages outstanding, each acknowledgement checked.
//!
//! A lane is one connection. It keeps its window full: as soon as acknowledgements are read, as
//! many messages follow with one write, as a pipelining client does. With a rate the messages
//! have a timetable, and a latency counts from when a message was due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::ack::{self, Ingest, PubAck};
use super::api;
use super::frame::{self, Names, Operation};
use crate::client::exchange;
use crate::client::handshake::Target;
use crate::client::op::Op;
use crate::client::peer::Peer;
use crate::client::poll::{Poll, Ready, Watch};
use crate::error::{HarnessError, Result};
use crate::measure::histogram::Latencies;
use crate::scenario::Wait;

/// How long nothing may be acknowledged before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes waiting for a full socket after which no more are made.
const UNSENT_MAX: usize = 512 << 10;
/// Messages outstanding while a stream is filled before a measurement.
const FILL_OUTSTANDING: usize = 4096;

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Each by itself with its own acknowledgement.
    Plain,
    /// In atomic batches of so many; the window counts batches.
    Atomic(usize),
    /// In one fast-ingest batch.
    Ingest,
}

/// What is published.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Subjects.
    pub names: Names,
    /// Payload size in bytes.
    pub size: usize,
    /// Messages, or atomic batches, outstanding over all lanes.
    pub outstanding: usize,
    /// Lanes.
    pub connections: usize,
    /// How they travel.
    pub style: Style,
    /// Messages a second; 0 for as many as the window lets through.
    pub rate: f64,
    /// How the load thread waits.
    pub wait: Wait,
}

/// Something sent that waits for its acknowledgement.
struct Waiting {
    since: Instant,
    /// Number of its last message.
    last: u64,
    /// Messages in it.
    count: u64,
    done: bool,
}

/// What a lane knows of its messages.
struct State {
    inbox: String,
    waiting: VecDeque<Waiting>,
    /// Token of the front of `waiting`.
    first_token: u32,
    next_token: u32,
    /// Most entries of `waiting`.
    window: usize,
    last_seq: u64,
    /// Messages of the fast-ingest batch so far.
    placed: u64,
    /// Messages for each word on the fast-ingest batch; 0 before the first word.
    granted: u64,
    closed: bool,
    /// The only lane on an empty stream: sequence numbers are known beforehand.
    alone: bool,
}

struct Lane {
    peer: Peer,
    state: State,
}

/// Publishers on one thread.
pub struct Flow {
    spec: Spec,
    poll: Poll,
    lanes: Vec<Lane>,
    buffer: Vec<u8>,
    filling: Vec<u8>,
    scratch: Vec<u8>,
    ready: Vec<Ready>,
    /// Latencies of messages sent, or due, after `record_from`.
    pub latencies: Latencies,
    /// From when latencies are kept.
    pub record_from: Instant,
    start: Instant,
    period: Option<Duration>,
    /// Messages sent.
    pub made: u64,
    /// Messages acknowledged.
    pub acked: u64,
    limit: u64,
}

impl Flow {
    /// Connects the lanes; nothing is published yet.
    ///
    /// # Errors
    /// The server is not reachable or refuses an inbox.
    pub fn connect(target: &Target, spec: &Spec) -> Result<Self> {
        let poll = Poll::new()?;
        let count = spec.connections.clamp(1, spec.outstanding.max(1));
        let mut lanes = Vec::new();
        for index in 0..count {
            let mut conn = api::connect(target)?;
            let inbox = format!("_INBOX.bench{index}");
            exchange::apply(&mut conn, format!("SUB {inbox}.> 1\r\n").as_bytes(), PATIENCE)?;
            poll.add(&conn, index, Watch::Edges)?;
            let extra = usize::from(index < spec.outstanding % count);
            let window = spec.outstanding / count + extra;
            lanes
                .push(Lane { peer: Peer::new(conn), state: State::new(inbox, window, count == 1) });
        }
        let now = Instant::now();
        let period = (spec.rate > 0.0).then(|| Duration::from_secs_f64(1.0 / spec.rate));
        Ok(Self {
            filling: vec![b'x'; spec.size],
            spec: spec.clone(),
            poll,
            lanes,
            buffer: vec![0; 256 << 10],
            scratch: Vec::new(),
            ready: Vec::new(),
            latencies: Latencies::new()?,
            record_from: now,
            start: now,
            period,
            made: 0,
            acked: 0,
            limit: u64::MAX,
        })
    }

    /// Starts the timetable, for flows with a rate.
    pub fn begin(&mut self) {
        self.start = Instant::now();
    }

    /// Publishes until `until`.
    ///
    /// # Errors
    /// An error instead of an acknowledgement, a wrong sequence number, silence.
    pub fn run_until(&mut self, until: Instant) -> Result<()> {
        let mut progress = (self.acked, Instant::now());
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            self.turn(now, until)?;
            if self.acked > progress.0 {
                progress = (self.acked, now);
            } else if now - progress.1 > PATIENCE {
                return Err(HarnessError::Timeout("no acknowledgement any more".into()));
            }
        }
    }

    /// Publishes until `limit` messages are sent in all, then as [`Flow::finish`].
    ///
    /// # Errors
    /// As [`Flow::run_until`].
    pub fn run_count(&mut self, limit: u64) -> Result<()> {
        self.limit = limit;
        while self.made < limit {
            // In slices, so that silence is noticed.
            let before = self.acked;
            self.run_slice()?;
            if self.acked == before && self.made < limit {
                return Err(HarnessError::Timeout("no acknowledgement any more".into()));
            }
        }
        self.finish()
    }

    fn run_slice(&mut self) -> Result<()> {
        let (before, until) = (self.acked, Instant::now() + PATIENCE);
        while self.made < self.limit && Instant::now() < until {
            self.turn(Instant::now(), until)?;
            if self.acked > before + 100_000 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes nothing more and waits for what is outstanding.
    ///
    /// # Errors
    /// As [`Flow::run_until`].
    pub fn finish(&mut self) -> Result<()> {
        self.limit = 0;
        if self.spec.style == Style::Ingest {
            self.commit_ingest()?;
        }
        let mut deadline = Instant::now() + PATIENCE;
        while self.lanes.iter().any(|l| !l.state.waiting.is_empty()) {
            let (now, before) = (Instant::now(), self.acked);
            if now >= deadline {
                let missing = self.made - self.acked;
                return Err(HarnessError::Count(format!("{missing} messages never acknowledged")));
            }
            self.turn(now, deadline)?;
            if self.acked > before {
                deadline = now + PATIENCE;
            }
        }
        if self.acked != self.made {
            let why = format!("{} messages sent, {} acknowledged", self.made, self.acked);
            return Err(HarnessError::Count(why));
        }
        Ok(())
    }

    fn commit_ingest(&mut self) -> Result<()> {
        let now = Instant::now();
        for lane in &mut self.lanes {
            let state = &mut lane.state;
            state.closed = true;
            let flow = state.window.div_ceil(2);
            let place = (state.placed + 1, Operation::Commit);
            let inbox = format!("{}.f", state.inbox);
            let out = lane.peer.out.tail();
            frame::put_ingest(&self.spec.names, self.made, &inbox, flow, place, &self.filling, out);
            state.placed += 1;
            state.waiting.push_back(Waiting { since: now, last: self.made, count: 1, done: false });
            self.made += 1;
            lane.peer.flush()?;
        }
        Ok(())
    }

    fn due(&self, n: u64) -> Option<Instant> {
        let ns = u128::from(n) * self.period?.as_nanos();
        Some(self.start + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
    }

    fn turn(&mut self, now: Instant, until: Instant) -> Result<()> {
        for index in 0..self.lanes.len() {
            self.refill(index, now)?;
        }
        let mut patience = until.saturating_duration_since(Instant::now());
        let room = self.lanes.iter().any(|l| l.state.waiting.len() < l.state.window);
        if let (Some(due), true) = (self.due(self.made), room && self.made < self.limit) {
            patience = patience.min(due.saturating_duration_since(Instant::now()));
        }
        if self.spec.wait == Wait::Spin {
            patience = Duration::ZERO;
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        self.poll.wait(patience, &mut ready)?;
        for event in &ready {
            if event.readable {
                self.collect(event.token)?;
            }
        }
        self.ready = ready;
        Ok(())
    }

    /// Sends what the window, the timetable and the limit allow.
    fn refill(&mut self, index: usize, now: Instant) -> Result<()> {
        let (period, lanes) = (self.period, self.lanes.len() as u64);
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let Lane { peer, state } = lane;
        while self.made < self.limit && state.has_room(self.spec.style) {
            let mut since = now;
            if let Some(period) = period {
                let ns = u128::from(self.made) * period.as_nanos();
                since = self.start + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
                // With several lanes each takes its turn, so that none gets everything.
                if since > now || self.made % lanes != index as u64 {
                    break;
                }
            }
            if peer.out.len() > UNSENT_MAX {
                break;
            }
            let out = peer.out.tail();
            self.made +=
                state.put(&self.spec, (self.made, since), &self.filling, &mut self.scratch, out);
        }
        if !peer.out.is_empty() {
            peer.flush()?;
        }
        Ok(())
    }

    /// Takes the acknowledgements of one lane.
    fn collect(&mut self, index: usize) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(());
        };
        let Lane { peer, state } = lane;
        let (style, now) = (self.spec.style, Instant::now());
        let (latencies, record_from, acked) =
            (&mut self.latencies, self.record_from, &mut self.acked);
        peer.read_ops(&mut self.buffer, |op, _| {
            let Op::Msg { subject, headers, payload, .. } = op else {
                return Ok(());
            };
            if style == Style::Ingest {
                state.take_ingest(ack::ingest(headers, payload)?)?;
            } else {
                state.take_ack(subject, &ack::pub_ack(headers, payload)?)?;
            }
            while let Some(front) = state.waiting.front().filter(|w| w.done) {
                *acked += front.count;
                if front.since >= record_from {
                    latencies.record(now.saturating_duration_since(front.since));
                }
                state.waiting.pop_front();
                state.first_token = state.first_token.wrapping_add(1);
            }
            Ok(())
        })
    }
}

impl State {
    fn new(inbox: String, window: usize, alone: bool) -> Self {
        Self {
            inbox,
            waiting: VecDeque::with_capacity(window + 1),
            first_token: 0,
            next_token: 0,
            window,
            last_seq: 0,
            placed: 0,
            granted: 0,
            closed: false,
            alone,
        }
    }

    fn has_room(&self, style: Style) -> bool {
        // Two words of a fast-ingest batch may be due at a time, as its clients have it.
        let granted = usize::try_from(self.granted * 2).unwrap_or(usize::MAX).max(1);
        match style {
            Style::Ingest => !self.closed && self.waiting.len() < granted.min(self.window),
            Style::Plain | Style::Atomic(_) => self.waiting.len() < self.window,
        }
    }

    /// Appends the next message or batch, from number `n`; returns how many messages it was.
    fn put(
        &mut self,
        spec: &Spec,
        (n, since): (u64, Instant),
        filling: &[u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> u64 {
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        let mut count = 1;
        match spec.style {
            Style::Plain => {
                frame::put_plain(&spec.names, n, &self.inbox, token, filling, out);
            }
            Style::Atomic(size) => {
                let size = size.max(1);
                count = size as u64;
                for place in 1..=size {
                    let commit = (place == size).then_some(self.inbox.as_str());
                    let n = n + place as u64 - 1;
                    frame::put_atomic(&spec.names, n, token, place, commit, filling, scratch, out);
                }
            }
            Style::Ingest => {
                let first = self.placed == 0;
                let operation = if first { Operation::Start } else { Operation::Append };
                self.placed += 1;
                let (flow, inbox) = (self.window.div_ceil(2), format!("{}.f", self.inbox));
                let place = (self.placed, operation);
                frame::put_ingest(&spec.names, n, &inbox, flow, place, filling, out);
            }
        }
        self.waiting.push_back(Waiting { since, last: n + count - 1, count, done: false });
        count
    }

    /// Marks what an acknowledgement is for.
    fn take_ack(&mut self, subject: &[u8], ack: &PubAck) -> Result<()> {
        let token = frame::token_of(subject).unwrap_or(u32::MAX);
        let place = token.wrapping_sub(self.first_token) as usize;
        let wrong = |why: String| Err(HarnessError::Count(why));
        let Some(waiting) = self.waiting.get_mut(place).filter(|w| !w.done) else {
            let subject = String::from_utf8_lossy(subject);
            return wrong(format!("an acknowledgement nobody waits for, at {subject}"));
        };
        if ack.duplicate {
            return wrong(format!("message {} is said to be a duplicate", waiting.last));
        }
        if self.alone && ack.seq != waiting.last + 1 {
            return wrong(format!("message {} got sequence {}", waiting.last, ack.seq));
        }
        if waiting.count > 1 && (ack.count != waiting.count || ack.batch.is_none()) {
            return wrong(format!("a batch of {} was taken as {}", waiting.count, ack.count));
        }
        if !self.alone && ack.seq <= self.last_seq {
            return wrong(format!("sequence {} after {}", ack.seq, self.last_seq));
        }
        self.last_seq = ack.seq;
        waiting.done = true;
        Ok(())
    }

    /// Marks what a word on the fast-ingest batch covers.
    fn take_ingest(&mut self, word: Ingest) -> Result<()> {
        let upto = match word {
            Ingest::Ack { seq, msgs } => {
                self.granted = msgs.max(1);
                seq
            }
            Ingest::Done(ack) if self.closed && ack.count == self.placed => {
                if self.alone && ack.seq != self.placed {
                    let why = format!("{} messages end at sequence {}", self.placed, ack.seq);
                    return Err(HarnessError::Count(why));
                }
                ack.count
            }
            Ingest::Done(ack) => {
                let why = format!("a batch of {} was ended as {}", self.placed, ack.count);
                return Err(HarnessError::Count(why));
            }
        };
        // The end of the batch is known only from its own word.
        let last = if self.closed && upto < self.placed { self.placed - 1 } else { self.placed };
        let front = self.placed - self.waiting.len() as u64;
        let covered = upto.min(last).saturating_sub(front);
        let covered = usize::try_from(covered).unwrap_or(usize::MAX);
        self.waiting.iter_mut().take(covered).for_each(|w| w.done = true);
        Ok(())
    }
}

/// Fills a stream with `count` messages; returns the seconds it took.
///
/// # Errors
/// As of the flow.
pub fn fill(target: &Target, names: Names, size: usize, count: u64) -> Result<f64> {
    let spec = Spec {
        names,
        size,
        outstanding: FILL_OUTSTANDING,
        connections: 1,
        style: Style::Plain,
        rate: 0.0,
        wait: Wait::Block,
    };
    let mut flow = Flow::connect(target, &spec)?;
    flow.record_from = Instant::now() + Duration::from_secs(86_400);
    let started = Instant::now();
    flow.run_count(count)?;
    Ok(started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(style: Style, messages: u64) -> State {
        let mut state = State::new("_IN".into(), 8, true);
        let spec = Spec {
            names: Names::One("s".into()),
            size: 8,
            outstanding: 8,
            connections: 1,
            style,
            rate: 0.0,
            wait: Wait::Block,
        };
        let (mut scratch, mut out, mut n) = (Vec::new(), Vec::new(), 0);
        while n < messages {
            n += state.put(&spec, (n, Instant::now()), &[0; 8], &mut scratch, &mut out);
        }
        state
    }

    fn plain(seq: u64) -> PubAck {
        PubAck { seq, ..PubAck::default() }
    }

    #[test]
    fn acknowledgements_must_fit_their_messages() {
        let mut state = state(Style::Plain, 3);
        state.take_ack(b"_IN.00000001", &plain(2)).unwrap();
        assert!(!state.waiting[0].done && state.waiting[1].done);
        // Twice, of a message never sent, with a wrong number, as a duplicate.
        assert!(state.take_ack(b"_IN.00000001", &plain(2)).is_err());
        assert!(state.take_ack(b"_IN.00000003", &plain(4)).is_err());
        assert!(state.take_ack(b"_IN.00000002", &plain(4)).is_err());
        let twice = PubAck { duplicate: true, ..plain(1) };
        assert!(state.take_ack(b"_IN.00000000", &twice).is_err());
        state.take_ack(b"_IN.00000000", &plain(1)).unwrap();
    }

    #[test]
    fn a_batch_must_be_taken_whole() {
        let mut state = state(Style::Atomic(3), 6);
        let done = |seq, count| PubAck { batch: Some("b".into()), count, ..plain(seq) };
        assert!(state.take_ack(b"_IN.00000000", &done(3, 2)).is_err());
        assert!(state.take_ack(b"_IN.00000000", &plain(3)).is_err());
        state.take_ack(b"_IN.00000000", &done(3, 3)).unwrap();
        state.take_ack(b"_IN.00000001", &done(6, 3)).unwrap();
        assert!(state.waiting.iter().all(|w| w.done));
    }

    #[test]
    fn words_on_fast_ingest_cover_what_they_say() {
        let mut state = state(Style::Ingest, 5);
        let done = |state: &State| state.waiting.iter().filter(|w| w.done).count();
        state.take_ingest(Ingest::Ack { seq: 0, msgs: 4 }).unwrap();
        assert_eq!((done(&state), state.granted), (0, 4));
        state.take_ingest(Ingest::Ack { seq: 4, msgs: 4 }).unwrap();
        assert_eq!(done(&state), 4);
        let end = |count| Ingest::Done(PubAck { count, ..plain(5) });
        // An end nobody asked for, then one that lost a message.
        assert!(state.take_ingest(end(5)).is_err());
        state.closed = true;
        assert!(state.take_ingest(end(4)).is_err());
        state.take_ingest(end(5)).unwrap();
        assert_eq!(done(&state), 5);
    }
}
