//! Churn: connect, subscribe, ping, close, again and again, several at a time.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Params, Subject, or};
use crate::client::conn::{Conn, Recv};
use crate::client::handshake::loopback_source;
use crate::client::op::{self, Op};
use crate::client::outbuf::OutBuf;
use crate::client::poll::{Poll, Ready, Watch};
use crate::error::{During, HarnessError, Result};
use crate::measure::cpu;
use crate::measure::histogram::Latencies;
use crate::report::Outcome;

/// How long one connection's life may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Closed connections leave their port unusable for a minute, so every address serves few.
const PER_ADDRESS: usize = 100;

/// One connection on its way from SYN to PONG.
struct Life {
    conn: Conn,
    out: OutBuf,
    unread: Vec<u8>,
    greeted: bool,
    born: Instant,
}

struct Churn<'a> {
    subject: &'a Subject,
    poll: Poll,
    lives: Vec<Option<Life>>,
    born: usize,
    done: u64,
    latencies: Latencies,
    buffer: Vec<u8>,
    hello: Vec<u8>,
}

/// Runs the scenario.
///
/// # Errors
/// A connection is refused or closed early; TLS is not supported here.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    if subject.target.tls.is_some() || !subject.target.addr.is_ipv4() {
        return Err(HarnessError::Usage("churn runs over plain IPv4 only".into()));
    }
    let together = or(params.connections, 8);
    let hello = format!("{}SUB bench.churn 1\r\nPING\r\n", subject.target.connect_line());
    let mut churn = Churn {
        subject,
        poll: Poll::new()?,
        lives: (0..together).map(|_| None).collect(),
        born: 0,
        done: 0,
        latencies: Latencies::new()?,
        buffer: vec![0; 16 << 10],
        hello: hello.into_bytes(),
    };
    let memory_before = subject.memory()?;
    churn.run(Instant::now() + params.warmup)?;
    churn.latencies = Latencies::new()?;
    let from = (Instant::now(), churn.done, subject.cpu()?, cpu::thread_ns());
    churn.run(from.0 + params.duration)?;
    let to = (Instant::now(), churn.done, subject.cpu()?, cpu::thread_ns());
    let lives = (to.1 - from.1) as f64;
    let seconds = (to.0 - from.0).as_secs_f64();
    if lives == 0.0 {
        return Err(HarnessError::Timeout("not one connection within the window".into()));
    }
    let mut outcome = Outcome::new(params);
    outcome.put("connections_per_s", lives / seconds, "/s");
    if let (Some(a), Some(b)) = (from.2, to.2) {
        outcome.put("server_cpu_us_per_connection", b.since(a) as f64 / 1000.0 / lives, "us");
    }
    outcome.put_latency(churn.latencies.summary());
    let own = (to.3 - from.3) as f64;
    outcome.put("harness_cpu_us_per_connection", own / 1000.0 / lives, "us");
    outcome.put("harness_cpu_percent", own / seconds / 1e7, "%");
    if let (Some(a), Some(b)) = (memory_before, subject.memory()?) {
        let grown = b.rss_bytes as f64 - a.rss_bytes as f64;
        outcome.put("rss_growth_mib", grown / 1_048_576.0, "MiB");
    }
    outcome.put_memory(subject.memory()?);
    Ok(outcome)
}

impl Churn<'_> {
    fn run(&mut self, until: Instant) -> Result<()> {
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            for slot in 0..self.lives.len() {
                if self.lives.get(slot).is_some_and(Option::is_none) {
                    self.begin(slot)?;
                }
            }
            ready.clear();
            self.poll.wait((until - now).min(PATIENCE), &mut ready)?;
            for event in &ready {
                self.advance(event.token)?;
            }
            let late = |l: &Life| l.born.elapsed() > PATIENCE;
            if ready.is_empty() && self.lives.iter().flatten().any(late) {
                return Err(HarnessError::Timeout("a connection got no PONG".into()));
            }
        }
    }

    fn begin(&mut self, slot: usize) -> Result<()> {
        let born = Instant::now();
        let loopback = self.subject.target.addr.ip().is_loopback();
        let socket =
            start_connect(self.subject, loopback.then(|| loopback_source(self.born, PER_ADDRESS)))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).during("set TCP_NODELAY")?;
        let conn = Conn::new(stream, None);
        self.poll.add(&conn, slot, Watch::Edges)?;
        let (out, unread) = (OutBuf::default(), Vec::new());
        self.born += 1;
        if let Some(place) = self.lives.get_mut(slot) {
            *place = Some(Life { conn, out, unread, greeted: false, born });
        }
        Ok(())
    }

    /// Reads what came; INFO is answered with CONNECT, SUB and PING, and PONG ends the life.
    fn advance(&mut self, slot: usize) -> Result<()> {
        let Some(place) = self.lives.get_mut(slot) else {
            return Ok(());
        };
        let Some(life) = place.as_mut() else {
            return Ok(());
        };
        let n = match life.conn.try_recv(&mut self.buffer) {
            Ok(Recv::Data(n) | Recv::Last(n)) => n,
            Ok(Recv::Empty) => 0,
            Ok(Recv::Closed) => return Err(HarnessError::Closed("before its PONG".into())),
            // A connect that is still under way.
            Err(HarnessError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotConnected =>
            {
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        life.unread.extend_from_slice(self.buffer.get(..n).unwrap_or_default());
        let mut at = 0;
        let mut over = false;
        while let Some((op, used)) = op::parse(life.unread.get(at..).unwrap_or_default())? {
            match op {
                Op::Info(_) if !life.greeted => {
                    life.greeted = true;
                    life.out.tail().extend_from_slice(&self.hello);
                }
                Op::Pong => over = true,
                Op::Ping => life.out.tail().extend_from_slice(b"PONG\r\n"),
                Op::Err(text) => return Err(HarnessError::Refused(text.to_owned())),
                _ => {}
            }
            at += used;
        }
        life.unread.drain(..at);
        if over {
            self.latencies.record(life.born.elapsed());
            self.done += 1;
            *place = None;
            return Ok(());
        }
        if !life.out.is_empty() {
            life.out.flush(&mut life.conn)?;
        }
        Ok(())
    }
}

/// A socket whose connect has begun.
fn start_connect(subject: &Subject, source: Option<std::net::Ipv4Addr>) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
        .during("socket")?;
    if let Some(source) = source {
        let local = std::net::SocketAddr::new(source.into(), 0);
        rustix::net::bind(&socket, &local).during(format!("bind {source}"))?;
    }
    match rustix::net::connect(&socket, &subject.target.addr) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error).during("connect"),
    }
}
