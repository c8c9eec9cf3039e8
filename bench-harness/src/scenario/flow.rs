//! The engine of all throughput scenarios: publishers that keep the pipe full within a window,
//! subscribers that count, one thread, one epoll.
//!
//! ```text
//!   turn:  each publisher not blocked: one large write, as far as its group's window allows
//!          epoll (waits only when nobody can publish)
//!          each readable subscriber: large read, jump from frame to frame
//! ```

use std::time::{Duration, Instant};

use crate::client::conn::Conn;
use crate::client::cycle::Cycle;
use crate::client::exchange;
use crate::client::outbuf::OutBuf;
use crate::client::poll::{Poll, Ready, Watch};
use crate::client::scan::Scanner;
use crate::error::{HarnessError, Result};

/// How long the last messages may take after the publishers stopped.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);

/// Who gets a message of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Nobody: publish only.
    Nobody,
    /// Every subscriber.
    Everyone,
    /// One of the subscribers: a queue group, or distinct subjects.
    One,
}

/// Publishers and subscribers that belong together and share a window.
pub struct Group {
    share: Share,
    /// Messages that may be under way to the slowest subscriber.
    window: u64,
    /// Stop after so many messages.
    limit: Option<u64>,
    published: u64,
    delivered: u64,
    /// The smallest count of a subscriber when it was last looked up.
    floor: u64,
    subs: Vec<usize>,
}

struct Publisher {
    conn: Conn,
    cycle: Cycle,
    at: usize,
    full: bool,
    /// PING or PONG lines that go out at the next frame boundary.
    urgent: OutBuf,
    control: Scanner,
    group: usize,
}

struct Subscriber {
    conn: Conn,
    scanner: Scanner,
    out: OutBuf,
    group: usize,
}

/// Sizes and rates of the engine.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Most bytes of one write.
    pub write_bytes: usize,
    /// Size of the read buffer, beyond one frame.
    pub read_bytes: usize,
    /// Messages a second and group; `None` is as fast as possible.
    pub rate: Option<f64>,
}

/// The counters of all groups at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages written in full.
    pub published: u64,
    /// Messages that subscribers received.
    pub delivered: u64,
    /// Payload bytes that subscribers received.
    pub payload_bytes: u64,
}

/// One thread's connections and their loop.
pub struct Engine {
    poll: Poll,
    pubs: Vec<Publisher>,
    subs: Vec<Subscriber>,
    groups: Vec<Group>,
    tuning: Tuning,
    buffer: Vec<u8>,
    ready: Vec<Ready>,
    pace_from: Option<Instant>,
}

impl Engine {
    /// An engine without connections, for frames of at most `frame_max` bytes.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new(tuning: Tuning, frame_max: usize) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            pubs: Vec::new(),
            subs: Vec::new(),
            groups: Vec::new(),
            tuning,
            buffer: vec![0; tuning.read_bytes + frame_max],
            ready: Vec::new(),
            pace_from: None,
        })
    }

    /// Adds a group and returns its number.
    pub fn add_group(&mut self, share: Share, window: u64, limit: Option<u64>) -> usize {
        self.groups.push(Group {
            share,
            window: window.max(1),
            limit,
            published: 0,
            delivered: 0,
            floor: 0,
            subs: Vec::new(),
        });
        self.groups.len() - 1
    }

    /// Adds a connection whose subscriptions are in place.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn add_subscriber(&mut self, conn: Conn, scanner: Scanner, group: usize) -> Result<()> {
        let token = self.subs.len() * 2;
        self.poll.add(&conn, token, Watch::Read)?;
        if let Some(g) = self.groups.get_mut(group) {
            g.subs.push(self.subs.len());
        }
        self.subs.push(Subscriber { conn, scanner, out: OutBuf::default(), group });
        Ok(())
    }

    /// Adds a publishing connection.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn add_publisher(&mut self, conn: Conn, cycle: Cycle, group: usize) -> Result<()> {
        let token = self.pubs.len() * 2 + 1;
        self.poll.add(&conn, token, Watch::Edges)?;
        self.pubs.push(Publisher {
            conn,
            cycle,
            at: 0,
            full: false,
            urgent: OutBuf::default(),
            control: Scanner::new(None),
            group,
        });
        Ok(())
    }

    /// The sums over all groups.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            published: self.groups.iter().map(|g| g.published).sum(),
            delivered: self.groups.iter().map(|g| g.delivered).sum(),
            payload_bytes: self.subs.iter().map(|s| s.scanner.payload_bytes).sum(),
        }
    }

    /// True when every group reached its limit and all of it was delivered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.groups.iter().all(|g| g.limit == Some(g.published) && g.delivered == g.expected())
    }

    /// Turns until `until`, or until all groups are complete.
    ///
    /// # Errors
    /// A connection was closed, or the server sent what it must not.
    pub fn run(&mut self, until: Instant) -> Result<()> {
        self.pace_from.get_or_insert_with(Instant::now);
        loop {
            let now = Instant::now();
            if now >= until || self.is_complete() {
                return Ok(());
            }
            self.turn(true, until - now)?;
        }
    }

    /// One turn; waits at most `patience` when nobody can publish.
    fn turn(&mut self, publish: bool, patience: Duration) -> Result<()> {
        let mut hungry = false;
        for index in 0..self.pubs.len() {
            hungry |= self.push(index, publish)?;
        }
        let patience = match (hungry, self.tuning.rate) {
            (true, _) => Duration::ZERO,
            _ if self.is_complete() => Duration::ZERO,
            // With a rate, come back soon enough to keep it even.
            (false, Some(_)) if publish => patience.min(Duration::from_micros(100)),
            (false, _) => patience,
        };
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        self.poll.wait(patience, &mut ready)?;
        for event in &ready {
            if event.token % 2 == 0 {
                self.receive(event.token / 2)?;
            } else {
                self.answer(event.token / 2, event.readable, event.writable)?;
            }
        }
        self.ready = ready;
        Ok(())
    }

    /// Writes once for one publisher; true when it could write more at once.
    fn push(&mut self, index: usize, publish: bool) -> Result<bool> {
        let Some(publisher) = self.pubs.get_mut(index) else {
            return Ok(false);
        };
        let Some(group) = self.groups.get_mut(publisher.group) else {
            return Ok(false);
        };
        if publisher.full {
            return Ok(false);
        }
        let frame_len = publisher.cycle.frame_len();
        let partial = publisher.at % frame_len;
        if partial == 0 && !publisher.urgent.is_empty() {
            publisher.full = !publisher.urgent.flush(&mut publisher.conn)?;
            if publisher.full {
                return Ok(false);
            }
        }
        let mut budget = 0;
        if publish && publisher.urgent.is_empty() {
            budget = group.budget(&self.subs);
            if let (Some(rate), Some(from)) = (self.tuning.rate, self.pace_from) {
                let due = (from.elapsed().as_secs_f64() * rate) as u64;
                budget = budget.min(due.saturating_sub(group.published));
            } else if group.is_trickle(budget, frame_len, self.tuning.write_bytes) {
                budget = 0;
            }
        }
        if partial > 0 {
            // A frame once begun is always finished.
            budget = budget.max(1);
        }
        let allowed = usize::try_from(budget).unwrap_or(usize::MAX).saturating_mul(frame_len);
        let limit = allowed.saturating_sub(partial).min(self.tuning.write_bytes);
        if limit == 0 {
            return Ok(false);
        }
        let piece = publisher.cycle.slice(publisher.at, limit);
        let sent = publisher.conn.try_send(piece).map_err(|e| named(e, "publisher", index))?;
        publisher.full = sent.full;
        group.published += ((partial + sent.taken) / frame_len) as u64;
        publisher.at += sent.taken;
        if publisher.at >= publisher.cycle.len() {
            publisher.at = 0;
        }
        let more = allowed - partial > sent.taken || !publisher.urgent.is_empty();
        Ok(more && !sent.full)
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let Some(sub) = self.subs.get_mut(index) else {
            return Ok(());
        };
        let before = sub.scanner.frames;
        exchange::drain(&mut sub.conn, &mut sub.scanner, &mut self.buffer)
            .map_err(|e| named(e, "subscriber", index))?;
        if let Some(group) = self.groups.get_mut(sub.group) {
            group.delivered += sub.scanner.frames - before;
        }
        for _ in 0..std::mem::take(&mut sub.scanner.pings_due) {
            sub.out.tail().extend_from_slice(b"PONG\r\n");
        }
        if !sub.out.is_empty() {
            sub.out.flush(&mut sub.conn)?;
        }
        Ok(())
    }

    fn answer(&mut self, index: usize, readable: bool, writable: bool) -> Result<()> {
        let Some(publisher) = self.pubs.get_mut(index) else {
            return Ok(());
        };
        if readable {
            exchange::drain(&mut publisher.conn, &mut publisher.control, &mut self.buffer)
                .map_err(|e| named(e, "publisher", index))?;
            for _ in 0..std::mem::take(&mut publisher.control.pings_due) {
                publisher.urgent.tail().extend_from_slice(b"PONG\r\n");
            }
        }
        if writable {
            publisher.full = !publisher.conn.flush()?;
        }
        Ok(())
    }

    /// Stops publishing and waits until the server has taken every message.
    ///
    /// # Errors
    /// No PONG within a minute.
    pub fn settle_publishers(&mut self) -> Result<()> {
        let goals: Vec<u64> = self.pubs.iter().map(|p| p.control.pongs + 1).collect();
        for publisher in &mut self.pubs {
            publisher.urgent.tail().extend_from_slice(b"PING\r\n");
        }
        let deadline = Instant::now() + DRAIN_PATIENCE;
        while self.pubs.iter().zip(&goals).any(|(p, goal)| p.control.pongs < *goal) {
            self.turn_before(deadline, "PONG after the last PUB")?;
        }
        Ok(())
    }

    /// Waits until every subscriber has had everything, then checks all counts strictly.
    ///
    /// # Errors
    /// A message is missing or came twice; no PONG within a minute.
    pub fn settle(&mut self) -> Result<()> {
        self.settle_publishers()?;
        let goals: Vec<u64> = self.subs.iter().map(|s| s.scanner.pongs + 1).collect();
        for sub in &mut self.subs {
            sub.out.tail().extend_from_slice(b"PING\r\n");
            sub.out.flush(&mut sub.conn)?;
        }
        let deadline = Instant::now() + DRAIN_PATIENCE;
        while self.subs.iter().zip(&goals).any(|(s, goal)| s.scanner.pongs < *goal) {
            self.turn_before(deadline, "PONG at the subscribers")?;
        }
        self.groups.iter().try_for_each(|group| group.check(&self.subs))
    }

    fn turn_before(&mut self, deadline: Instant, what: &str) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let counts = self.counts();
            return Err(HarnessError::Timeout(format!("{what}; {counts:?}")));
        }
        self.turn(false, left)
    }
}

impl Group {
    /// Deliveries that `published` messages must cause.
    fn expected(&self) -> u64 {
        match self.share {
            Share::Nobody => 0,
            Share::Everyone => self.published * self.subs.len() as u64,
            Share::One => self.published,
        }
    }

    /// Messages that may be published now.
    fn budget(&mut self, subs: &[Subscriber]) -> u64 {
        let reached = match self.share {
            Share::Nobody => self.published,
            Share::One => self.delivered,
            Share::Everyone => {
                // Looking up the slowest costs a walk, so it is done when the window seems used.
                if self.published - self.floor >= self.window / 2 {
                    let frames = self.subs.iter().filter_map(|s| subs.get(*s));
                    self.floor = frames.map(|s| s.scanner.frames).min().unwrap_or(0);
                }
                self.floor
            }
        };
        let room = self.window.saturating_sub(self.published.saturating_sub(reached));
        let left = self.limit.map_or(u64::MAX, |l| l.saturating_sub(self.published));
        room.min(left)
    }

    /// True when so little may be written that it pays to wait for more.
    fn is_trickle(&self, budget: u64, frame_len: usize, write_bytes: usize) -> bool {
        let piece = (write_bytes / frame_len) as u64;
        let last = self.limit.is_some_and(|l| l.saturating_sub(self.published) <= budget);
        budget < piece.min(self.window / 4) && !last
    }

    fn check(&self, subs: &[Subscriber]) -> Result<()> {
        let wrong = |got: u64, want: u64| {
            HarnessError::Count(format!("{got} messages received where {want} were due"))
        };
        if self.delivered != self.expected() {
            return Err(wrong(self.delivered, self.expected()));
        }
        if self.share == Share::Everyone {
            for sub in self.subs.iter().filter_map(|s| subs.get(*s)) {
                if sub.scanner.frames != self.published {
                    return Err(wrong(sub.scanner.frames, self.published));
                }
            }
        }
        Ok(())
    }
}

fn named(error: HarnessError, role: &str, index: usize) -> HarnessError {
    match error {
        HarnessError::Closed(why) => HarnessError::Closed(format!("{role} {index}: {why}")),
        HarnessError::Refused(why) => HarnessError::Refused(format!("{role} {index}: {why}")),
        HarnessError::Count(why) => HarnessError::Count(format!("{role} {index}: {why}")),
        HarnessError::Protocol(why) => HarnessError::Protocol(format!("{role} {index}: {why}")),
        other => other,
    }
}
