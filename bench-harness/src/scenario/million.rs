//! Very many subscriptions on distinct subjects: memory of each, then the CPU of a message to
//! one of them chosen at random, which shows whether matching gets dearer with their number.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::flow::{Engine, Share, Tuning};
use super::{Params, Subject, or};
use crate::client::cycle::Cycle;
use crate::client::exchange;
use crate::client::scan::{Expect, Scanner};
use crate::error::{HarnessError, Result};
use crate::measure::cpu;
use crate::report::Outcome;

/// Subscriptions that are sent before the server is asked whether it took them.
const PIECE: usize = 20_000;
/// Rest before memory is read.
const REST: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages that may be under way.
const WINDOW: u64 = 100_000;
/// Most subjects in the prepared ring of messages.
const RING_MAX: usize = 1_000_000;

/// The subject of a subscription: three tokens, all subjects equally long.
fn name(n: usize) -> String {
    format!("dev.{:05}.{:03}", n / 1000, n % 1000)
}

/// Runs the scenario.
///
/// # Errors
/// A subscription is refused, a message lost, a connection closed.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let wanted = or(params.subs, 1_000_000);
    let holders = or(params.connections, 4);
    if wanted > 100_000_000 {
        return Err(HarnessError::Usage("at most 100,000,000 subscriptions".into()));
    }
    let tuning =
        Tuning { write_bytes: params.write_bytes, read_bytes: params.read_bytes, rate: None };
    let mut engine = Engine::new(tuning, params.size + 128)?;
    let group = engine.add_group(Share::One, WINDOW, None);
    let mut conns = Vec::new();
    for _ in 0..holders {
        conns.push(subject.target.connect()?);
    }
    sleep(REST / 3);
    let before = subject.memory()?;
    let (cpu_from, from) = (subject.cpu()?, Instant::now());
    let mut lines = String::new();
    for first in (0..wanted).step_by(PIECE) {
        let holder = (first / PIECE) % holders;
        lines.clear();
        for n in first..(first + PIECE).min(wanted) {
            // All ids have the same length, so that all frames have.
            let _ = write!(lines, "SUB {} {}\r\n", name(n), 1_000_000_000 + n);
        }
        if let Some(conn) = conns.get_mut(holder) {
            exchange::apply(conn, lines.as_bytes(), PATIENCE)?;
        }
    }
    let subscribe_s = from.elapsed().as_secs_f64();
    let cpu_to = subject.cpu()?;
    sleep(REST);
    let after = subject.memory()?;

    let mut outcome = Outcome::new(params);
    outcome.put("subscriptions", wanted as f64, "");
    if let (Some(a), Some(b)) = (before, after) {
        let grown = b.rss_bytes.saturating_sub(a.rss_bytes) as f64;
        outcome.put("rss_bytes_per_subscription", grown / wanted as f64, "B");
    }
    if let (Some(a), Some(b)) = (cpu_from, cpu_to) {
        outcome.put("subscribe_cpu_us", b.since(a) as f64 / 1000.0 / wanted as f64, "us");
    }
    outcome.put("subscribes_per_s", wanted as f64 / subscribe_s, "/s");
    for conn in conns {
        let expect = Expect { size: params.size, subject: None, order_cycle: None, sources: 0 };
        engine.add_subscriber(conn, Scanner::new(Some(expect)), group)?;
    }
    let cycle = Cycle::over(&draw(wanted, params.seed), params.size);
    engine.add_publisher(subject.target.connect()?, cycle, group)?;
    match_cost(subject, params, &mut engine, &mut outcome)?;
    outcome.put_memory(subject.memory()?);
    Ok(outcome)
}

/// Publishes to random subjects and reports the CPU of a message.
fn match_cost(
    subject: &Subject,
    params: &Params,
    engine: &mut Engine,
    outcome: &mut Outcome,
) -> Result<()> {
    engine.run(Instant::now() + params.warmup)?;
    let from = (Instant::now(), engine.counts(), subject.cpu()?, cpu::thread_ns());
    engine.run(from.0 + params.duration)?;
    let to = (Instant::now(), engine.counts(), subject.cpu()?, cpu::thread_ns());
    engine.settle()?;
    let delivered = (to.1.delivered - from.1.delivered) as f64;
    let seconds = (to.0 - from.0).as_secs_f64();
    if delivered == 0.0 {
        return Err(HarnessError::Timeout("not one message within the window".into()));
    }
    if let (Some(a), Some(b)) = (from.2, to.2) {
        outcome.put("match_cpu_ns_per_msg", b.since(a) as f64 / delivered, "ns");
    }
    outcome.put("msgs_per_s", delivered / seconds, "/s");
    outcome.put("harness_cpu_percent", (to.3 - from.3) as f64 / seconds / 1e7, "%");
    Ok(())
}

/// Subjects in random order, each at most once.
fn draw(wanted: usize, seed: u64) -> Vec<String> {
    let mut numbers: Vec<usize> = (0..wanted).collect();
    let mut state = seed | 1;
    let count = wanted.min(RING_MAX);
    for at in 0..count {
        // xorshift64 star is even enough for a shuffle.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let random = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
        let other = at + usize::try_from(random).unwrap_or(0) % (wanted - at);
        numbers.swap(at, other);
    }
    numbers.truncate(count);
    numbers.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_each_subject_once() {
        let mut drawn = draw(5000, 7);
        assert_ne!(drawn, (0..5000).map(name).collect::<Vec<_>>());
        drawn.sort();
        assert_eq!(drawn, (0..5000).map(name).collect::<Vec<_>>());
        assert!(drawn.iter().all(|s| s.len() == drawn[0].len()));
    }
}
