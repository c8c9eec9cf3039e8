//! The throughput scenarios: lays out groups over load threads, runs the engines, and turns
//! two readings of the counters into messages and CPU a message.

use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use super::flow::{Counts, Engine, Share, Tuning};
use super::{Kind, Params, Subject, or};
use crate::client::cycle::Cycle;
use crate::client::exchange;
use crate::client::scan::{Expect, Scanner, can_check_order};
use crate::error::{HarnessError, Result};
use crate::measure::affinity;
use crate::measure::cpu::{self, ProcessCpu};
use crate::report::Outcome;

/// Bytes of prepared frames for all publishers of a thread together: they must stay in cache.
const CYCLE_BYTES: usize = 256 << 10;
/// Bytes that may be under way to all subscribers of a group together.
const GROUP_WINDOW_BYTES: u64 = 128 << 20;
/// How long `--msgs` may take.
const MSGS_PATIENCE: Duration = Duration::from_secs(600);

/// Publishers and subscribers of one subject.
#[derive(Clone, Debug)]
struct Layout {
    subject: String,
    pubs: usize,
    subs: usize,
    share: Share,
}

/// All counters at one moment of one thread.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    counts: Counts,
    server: Option<ProcessCpu>,
    own_ns: u64,
}

/// The two ends of a thread's measured window.
struct Window {
    from: Reading,
    to: Reading,
}

fn layouts(params: &Params) -> Vec<Layout> {
    let group =
        |n: usize, pubs, subs, share| Layout { subject: format!("bench.{n}"), pubs, subs, share };
    match params.kind {
        Kind::PubOnly => (0..or(params.pubs, 1)).map(|n| group(n, 1, 0, Share::Nobody)).collect(),
        Kind::NToN => {
            let pairs = or(params.connections, 16);
            (0..pairs).map(|n| group(n, 1, 1, Share::Everyone)).collect()
        }
        Kind::Fanout => vec![group(0, 1, or(params.subs, 10), Share::Everyone)],
        Kind::Fanin => vec![group(0, or(params.pubs, 10), 1, Share::Everyone)],
        Kind::Queue => vec![group(0, or(params.pubs, 1), or(params.subs, 4), Share::One)],
        _ => vec![group(0, 1, 1, Share::Everyone)],
    }
}

/// Runs the scenario.
///
/// # Errors
/// Lost, doubled or disordered messages, closed connections, timeouts.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let plans = layouts(params);
    let threads = params.cpus.len().clamp(1, plans.len());
    let barrier = Barrier::new(threads);
    let start = OnceLock::new();
    let windows: Vec<Result<Window>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|index| {
                let mine: Vec<Layout> =
                    plans.iter().skip(index).step_by(threads).cloned().collect();
                let (barrier, start) = (&barrier, &start);
                scope.spawn(move || work(subject, params, &mine, index, barrier, start))
            })
            .collect();
        let died = || HarnessError::Usage("a load thread died".into());
        workers.into_iter().map(|w| w.join().unwrap_or_else(|_| Err(died()))).collect()
    });
    let windows: Vec<Window> = windows.into_iter().collect::<Result<_>>()?;
    report(subject, params, &windows)
}

/// One load thread from its connections to its window.
fn work(
    subject: &Subject,
    params: &Params,
    layouts: &[Layout],
    index: usize,
    barrier: &Barrier,
    start: &OnceLock<Instant>,
) -> Result<Window> {
    let built = build(subject, params, layouts, index);
    // Everybody must reach the barrier, also a thread that failed.
    barrier.wait();
    let mut engine = built?;
    let start = *start.get_or_init(Instant::now);
    let subject = Subject { pid: subject.pid.filter(|_| index == 0), ..subject.clone() };
    let window = measure(&subject, params, &mut engine, start)?;
    engine.settle()?;
    Ok(window)
}

fn build(subject: &Subject, params: &Params, layouts: &[Layout], index: usize) -> Result<Engine> {
    if let Some(cpu) = params.cpus.get(index) {
        affinity::pin_to(*cpu)?;
    }
    let frame_max = params.size + 128;
    let groups = layouts.len().max(1) as f64;
    let rate = (params.rate > 0.0).then_some(params.rate / groups);
    let tuning = Tuning { write_bytes: params.write_bytes, read_bytes: params.read_bytes, rate };
    let mut engine = Engine::new(tuning, frame_max)?;
    let publishers: usize = layouts.iter().map(|l| l.pubs).sum();
    let cycle_bytes = (CYCLE_BYTES / publishers.max(1)).clamp(16 << 10, 128 << 10);
    for layout in layouts {
        add_group(&mut engine, subject, params, layout, layouts.len(), cycle_bytes)?;
    }
    Ok(engine)
}

fn add_group(
    engine: &mut Engine,
    subject: &Subject,
    params: &Params,
    layout: &Layout,
    groups: usize,
    cycle_bytes: usize,
) -> Result<()> {
    let name = &layout.subject;
    let probe = Cycle::fixed(name, params.size, 0, cycle_bytes);
    let each = params.window_bytes.min(GROUP_WINDOW_BYTES / layout.subs.max(1) as u64);
    let window = each / probe.frame_len() as u64;
    let limit = params.msgs.map(|m| m / groups as u64);
    let window = if layout.share == Share::Nobody { u64::MAX } else { window };
    let group = engine.add_group(layout.share, window, limit);
    let ordered = can_check_order(params.size) && layout.share == Share::Everyone;
    for _ in 0..layout.subs {
        let expect = Expect {
            size: params.size,
            subject: Some(name.clone()),
            order_cycle: ordered.then(|| u32::try_from(probe.count()).unwrap_or(u32::MAX)),
            sources: layout.pubs,
        };
        let mut conn = subject.target.connect()?;
        let queue = if layout.share == Share::One { " workers" } else { "" };
        let line = format!("SUB {name}{queue} 1\r\n");
        exchange::apply(&mut conn, line.as_bytes(), Duration::from_secs(10))?;
        engine.add_subscriber(conn, Scanner::new(Some(expect)), group)?;
    }
    for source in 0..layout.pubs {
        let source = u32::try_from(source).unwrap_or(u32::MAX);
        let cycle = Cycle::fixed(name, params.size, source, cycle_bytes);
        engine.add_publisher(subject.target.connect()?, cycle, group)?;
    }
    Ok(())
}

fn read(subject: &Subject, engine: &Engine) -> Result<Reading> {
    Ok(Reading {
        at: Instant::now(),
        counts: engine.counts(),
        server: subject.cpu()?,
        own_ns: cpu::thread_ns(),
    })
}

/// Warms up, then runs between two readings.
fn measure(
    subject: &Subject,
    params: &Params,
    engine: &mut Engine,
    start: Instant,
) -> Result<Window> {
    if params.msgs.is_some() {
        let from = read(subject, engine)?;
        engine.run(start + MSGS_PATIENCE)?;
        if params.kind == Kind::PubOnly {
            engine.settle_publishers()?;
        } else if !engine.is_complete() {
            let what = format!("{:?} after ten minutes", engine.counts());
            return Err(HarnessError::Timeout(what));
        }
        return Ok(Window { from, to: read(subject, engine)? });
    }
    engine.run(start + params.warmup)?;
    if params.kind == Kind::PubOnly {
        // Nobody receives, so the PONG behind the last PUB is what confirms the messages.
        engine.settle_publishers()?;
        let from = read(subject, engine)?;
        engine.run(Instant::now() + params.duration)?;
        engine.settle_publishers()?;
        return Ok(Window { from, to: read(subject, engine)? });
    }
    let from = read(subject, engine)?;
    engine.run(start + params.warmup + params.duration)?;
    let to = read(subject, engine)?;
    Ok(Window { from, to })
}

fn report(subject: &Subject, params: &Params, windows: &[Window]) -> Result<Outcome> {
    let mut outcome = Outcome::new(params);
    let sum = |f: &dyn Fn(&Window) -> u64| windows.iter().map(f).sum::<u64>() as f64;
    let published = sum(&|w| w.to.counts.published - w.from.counts.published);
    let delivered = sum(&|w| w.to.counts.delivered - w.from.counts.delivered);
    let payload = sum(&|w| w.to.counts.payload_bytes - w.from.counts.payload_bytes);
    let own_ns = sum(&|w| w.to.own_ns - w.from.own_ns);
    let seconds = windows.iter().map(|w| (w.to.at - w.from.at).as_secs_f64()).fold(0.0, f64::max);
    let only = params.kind == Kind::PubOnly;
    let confirmed = if only { published } else { delivered };
    if confirmed == 0.0 || seconds == 0.0 {
        return Err(HarnessError::Timeout("not one message within the window".into()));
    }
    let server_ns =
        windows.iter().find_map(|w| Some(w.to.server?.since(w.from.server?))).map(|n| n as f64);
    if let Some(ns) = server_ns {
        outcome.put("server_cpu_us_per_msg", ns / 1000.0 / confirmed, "us");
    }
    outcome.put("msgs_per_s", confirmed / seconds, "/s");
    outcome.put("published_per_s", published / seconds, "/s");
    let payload = if only { published * params.size as f64 } else { payload };
    outcome.put("payload_mib_per_s", payload / seconds / 1_048_576.0, "MiB/s");
    if let Some(ns) = server_ns {
        outcome.put("server_cpu_percent", ns / seconds / 1e7, "%");
    }
    outcome.put("harness_cpu_us_per_msg", own_ns / 1000.0 / confirmed, "us");
    outcome.put("harness_cpu_percent", own_ns / seconds / 1e7, "%");
    outcome.put_memory(subject.memory()?);
    Ok(outcome)
}
