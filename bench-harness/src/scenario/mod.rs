//! The scenarios: what load is made and what is reported of it.
//!
//! ```text
//!   throughput: pub-only 1to1 n-to-n fanout fanin queue     flow (engine) + throughput
//!   latency:    reqrep reqrep-open                          reqrep
//!   trouble:    slow-subscriber burst                       slow
//!   scale:      idle subs-million churn                     idle, million, churn
//! ```

pub mod churn;
pub mod flow;
pub mod idle;
pub mod million;
pub mod reqrep;
pub mod slow;
pub mod throughput;

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::client::handshake::Target;
use crate::error::Result;
use crate::measure::cpu::{self, ProcessCpu};
use crate::measure::memory;
use crate::report::Outcome;

/// The name of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One or more publishers, nobody listens.
    PubOnly,
    /// One publisher, one subscriber.
    #[value(name = "1to1")]
    #[serde(rename = "1to1")]
    OneToOne,
    /// Pairs of publisher and subscriber, each on its own subject.
    NToN,
    /// One publisher, many subscribers of the same subject.
    Fanout,
    /// Many publishers, one subscriber.
    Fanin,
    /// One publisher, the members of one queue group.
    Queue,
    /// Request and reply, one request outstanding for each client.
    Reqrep,
    /// Requests at a fixed rate, counted from when each was due.
    ReqrepOpen,
    /// A fast and a slow subscriber of the same subject, messages at a fixed rate.
    SlowSubscriber,
    /// A burst to one slow reader: is the reader kept?
    Burst,
    /// Connections that do nothing.
    Idle,
    /// Many subscriptions on distinct subjects, then messages to random ones.
    SubsMillion,
    /// Connect, subscribe, ping, close, again and again.
    Churn,
}

impl Kind {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }
}

/// How the load thread waits for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// Sleep in the kernel, as real clients do.
    Block,
    /// Ask again and again, so that our own wake-up is not part of a latency.
    Spin,
}

/// Everything that shapes a run. Counts of 0 mean the scenario's default.
#[derive(Clone, Debug, Serialize)]
pub struct Params {
    /// The scenario.
    pub kind: Kind,
    /// Payload size in bytes.
    pub size: usize,
    /// Length of the measured window.
    pub duration: Duration,
    /// Load before the window that is not measured.
    pub warmup: Duration,
    /// Stop after so many messages instead of after `duration`.
    pub msgs: Option<u64>,
    /// Connections (idle, churn, reqrep) or pairs (n-to-n).
    pub connections: usize,
    /// Publishers (fanin, pub-only).
    pub pubs: usize,
    /// Subscribers (fanout, queue), or subscriptions (subs-million).
    pub subs: usize,
    /// Messages or requests a second; 0 is the scenario's default.
    pub rate: f64,
    /// How fast the slow reader reads, in MiB a second.
    pub reader_mib: f64,
    /// Bytes that may be under way to one subscriber.
    pub window_bytes: u64,
    /// Most bytes of one write.
    pub write_bytes: usize,
    /// Most bytes of one read.
    pub read_bytes: usize,
    /// How latency scenarios wait.
    pub wait: Wait,
    /// One load thread for each of these CPUs; one thread, not pinned, when empty.
    pub cpus: Vec<usize>,
    /// Seed of random choices.
    pub seed: u64,
}

impl Params {
    /// The defaults for a scenario.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            size: 16,
            duration: Duration::from_secs(2),
            warmup: Duration::from_millis(300),
            msgs: None,
            connections: 0,
            pubs: 0,
            subs: 0,
            rate: 0.0,
            reader_mib: 0.0,
            window_bytes: 8 << 20,
            write_bytes: 128 << 10,
            read_bytes: 256 << 10,
            wait: Wait::Block,
            cpus: Vec::new(),
            seed: 1,
        }
    }
}

/// `value`, or `default` when it is 0.
pub(crate) fn or(value: usize, default: usize) -> usize {
    if value == 0 { default } else { value }
}

/// The server under test.
#[derive(Clone)]
pub struct Subject {
    /// How to connect.
    pub target: Target,
    /// Its process, when CPU and memory are to be measured.
    pub pid: Option<u32>,
}

impl Subject {
    /// CPU of the server so far, if its process is known.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu(&self) -> Result<Option<ProcessCpu>> {
        self.pid.map(cpu::process).transpose()
    }

    /// Memory of the server, if it is known.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory(&self) -> Result<Option<memory::Memory>> {
        self.pid.map(memory::of).transpose()
    }
}

/// Runs one scenario to its end.
///
/// # Errors
/// Anything that makes the figures worthless: lost messages, closed connections, timeouts.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    match params.kind {
        Kind::PubOnly | Kind::OneToOne | Kind::NToN | Kind::Fanout | Kind::Fanin | Kind::Queue => {
            throughput::run(subject, params)
        }
        Kind::Reqrep | Kind::ReqrepOpen => on_cpu(params, || reqrep::run(subject, params)),
        Kind::SlowSubscriber => on_cpu(params, || slow::run_slow(subject, params)),
        Kind::Burst => on_cpu(params, || slow::run_burst(subject, params)),
        Kind::Idle => on_cpu(params, || idle::run(subject, params)),
        Kind::SubsMillion => on_cpu(params, || million::run(subject, params)),
        Kind::Churn => on_cpu(params, || churn::run(subject, params)),
    }
}

/// Runs a single-threaded scenario on a thread of its own, pinned to the first load CPU.
fn on_cpu<F>(params: &Params, work: F) -> Result<Outcome>
where
    F: FnOnce() -> Result<Outcome> + Send,
{
    use crate::error::HarnessError;
    use crate::measure::affinity;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(cpu) = params.cpus.first() {
                affinity::pin_to(*cpu)?;
            }
            work()
        });
        thread.join().unwrap_or_else(|_| Err(HarnessError::Usage("a load thread died".into())))
    })
}
