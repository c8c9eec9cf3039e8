//! Idle connections: memory of each, and the CPU that many of them cost when nothing happens.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Params, Subject, or};
use crate::client::exchange;
use crate::error::{HarnessError, Result};
use crate::measure::memory;
use crate::report::Outcome;

/// Rest after connecting, so that the server's start-up work for connections is over.
const REST: Duration = Duration::from_millis(2500);
/// Connections from one source address.
const PER_ADDRESS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the scenario.
///
/// # Errors
/// Too few file descriptors, a connection that is refused or closed.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let wanted = or(params.connections, 1000);
    memory::raise_file_limit(wanted as u64 + 100)?;
    let loopback = subject.target.addr.ip().is_loopback() && subject.target.addr.is_ipv4();
    // One connection first, so that one-time allocations are not counted as its price.
    let probe = subject.target.connect()?;
    sleep(REST / 5);
    let before = subject.memory()?;
    let started = Instant::now();
    let mut conns = Vec::with_capacity(wanted);
    for index in 0..wanted {
        let source = (loopback && wanted > PER_ADDRESS)
            .then(|| crate::client::handshake::loopback_source(index, PER_ADDRESS));
        conns.push(subject.target.connect_from(source)?);
    }
    let connect_s = started.elapsed().as_secs_f64();
    sleep(REST);
    let after = subject.memory()?;
    let (cpu_from, from) = (subject.cpu()?, Instant::now());
    sleep(params.duration);
    let (cpu_to, seconds) = (subject.cpu()?, from.elapsed().as_secs_f64());
    for (index, conn) in conns.iter_mut().enumerate() {
        exchange::apply(conn, b"", PATIENCE).map_err(|error| match error {
            HarnessError::Closed(why) => HarnessError::Closed(format!("idle {index}: {why}")),
            other => other,
        })?;
    }
    let mut outcome = Outcome::new(params);
    if let (Some(before), Some(after)) = (before, after) {
        let grown = after.rss_bytes.saturating_sub(before.rss_bytes) as f64;
        outcome.put("rss_kib_per_connection", grown / 1024.0 / wanted as f64, "KiB");
    }
    if let (Some(a), Some(b)) = (cpu_from, cpu_to) {
        outcome.put("idle_cpu_percent", b.since(a) as f64 / seconds / 1e7, "%");
    }
    outcome.put("connections", wanted as f64, "");
    outcome.put("connects_per_s", wanted as f64 / connect_s, "/s");
    outcome.put_memory(subject.memory()?);
    drop(probe);
    Ok(outcome)
}
