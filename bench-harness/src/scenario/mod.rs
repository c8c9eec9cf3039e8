//! The scenarios: what load is made and what is reported of it.
//!
//! ```text
//!   throughput: pub-only 1to1 n-to-n fanout fanin queue     flow (engine) + throughput
//!   latency:    reqrep reqrep-open                          reqrep
//!   trouble:    slow-subscriber burst                       slow
//!   scale:      idle subs-million churn                     idle, million, churn
//!   JetStream:  js-publish js-publish-open js-batch js-fast js_publish
//!               js-ordered js-push js-pull                  js_consume, js_pull
//!               js-direct kv-get kv-put kv-watch            js_reads, js_watch
//!               js-consumers js-big                         js_scale
//! ```

pub mod churn;
pub mod flow;
pub mod idle;
pub mod js_consume;
pub mod js_publish;
pub mod js_pull;
pub mod js_reads;
pub mod js_scale;
pub mod js_watch;
pub mod million;
pub mod reqrep;
pub mod slow;
pub mod throughput;
pub mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::client::handshake::Target;
use crate::error::{HarnessError, Result};
use crate::js::config::Storage;
use crate::measure::affinity;
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
    /// JetStream publishes, `--outstanding` at a time; 1 is a synchronous publisher.
    JsPublish,
    /// JetStream publishes at a fixed rate, counted from when each was due.
    JsPublishOpen,
    /// Atomic batches of `--batch` messages.
    JsBatch,
    /// One fast-ingest batch.
    JsFast,
    /// Replay of a stream by an ordered push consumer.
    JsOrdered,
    /// A push consumer with explicit acknowledgement.
    JsPush,
    /// `--workers` that share a pull consumer, `--batch` at a time, explicit acknowledgement.
    JsPull,
    /// Direct get of the last message of random subjects.
    JsDirect,
    /// Direct get of random keys of a bucket.
    KvGet,
    /// Puts to the keys of a bucket, one at a time.
    KvPut,
    /// A watcher of a whole bucket: its first values, then how fast puts reach it.
    KvWatch,
    /// Many idle consumers of one stream.
    JsConsumers,
    /// A large stream: memory, and how long a restart takes.
    JsBig,
}

impl Kind {
    /// Whether it needs JetStream.
    #[must_use]
    pub fn is_jetstream(self) -> bool {
        // The core scenarios come first.
        self as u8 >= Self::JsPublish as u8
    }

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
    /// The JetStream scenarios' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub js: Option<Js>,
}

/// What shapes a JetStream scenario further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Js {
    /// Where the stream is kept.
    pub storage: Storage,
    /// When the server flushes, in words.
    pub durability: String,
    /// Messages, or batches, outstanding.
    pub outstanding: usize,
    /// Subjects or keys.
    pub subjects: u64,
    /// Messages of a batch or a pull.
    pub batch: usize,
    /// Clients that share a consumer.
    pub workers: usize,
    /// Consumers.
    pub consumers: u64,
}

impl Js {
    /// The defaults for a scenario.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            storage: Storage::File,
            durability: "as the server is configured".into(),
            outstanding: match kind {
                Kind::JsPublish => 256,
                Kind::JsPublishOpen => 8000,
                Kind::JsBatch => 2,
                Kind::JsFast => 1000,
                Kind::JsConsumers => 64,
                _ => 1,
            },
            subjects: if kind == Kind::JsBig { 1_000_000 } else { 100_000 },
            batch: if kind == Kind::JsPull { 500 } else { 100 },
            workers: 4,
            consumers: 100_000,
        }
    }
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
            js: kind.is_jetstream().then(|| Js::new(kind)),
        }
    }
}

impl Params {
    /// The JetStream part.
    ///
    /// # Errors
    /// The scenario needs none.
    pub fn js(&self) -> Result<&Js> {
        self.js.as_ref().ok_or_else(|| HarnessError::Usage("no JetStream parameters".into()))
    }

    /// Messages of a scenario that works on a known number of them.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.msgs.unwrap_or(match self.kind {
            Kind::JsOrdered | Kind::JsBig => 10_000_000,
            Kind::JsPush | Kind::JsPull => 1_000_000,
            _ => self.js.as_ref().map_or(0, |js| js.subjects),
        })
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
    /// Set when the server is ours to restart.
    pub host: Option<Arc<dyn Host>>,
}

/// A server that can be started again on its store.
pub trait Host: Send + Sync {
    /// Ends the server, with SIGTERM or at once, and starts it again.
    ///
    /// # Errors
    /// It does not stop, start or listen in time.
    fn restart(&self, how: End) -> Result<Restarted>;
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With SIGTERM, and the time it needs.
    Asked,
    /// With SIGKILL.
    Killed,
}

/// A server that was started again.
#[derive(Clone)]
pub struct Restarted {
    /// How to connect now.
    pub target: Target,
    /// Its process.
    pub pid: u32,
    /// When it was executed.
    pub exec_at: Instant,
    /// How long its predecessor took to end.
    pub stop: Duration,
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
        Kind::JsPublish | Kind::JsPublishOpen | Kind::JsBatch | Kind::JsFast | Kind::KvPut => {
            on_cpu(params, || js_publish::run(subject, params))
        }
        Kind::JsOrdered | Kind::JsPush => on_cpu(params, || js_consume::run(subject, params)),
        Kind::JsPull => on_cpu(params, || js_pull::run(subject, params)),
        Kind::JsDirect | Kind::KvGet => on_cpu(params, || js_reads::run(subject, params)),
        Kind::KvWatch => on_cpu(params, || js_watch::run(subject, params)),
        Kind::JsConsumers => on_cpu(params, || js_scale::run_consumers(subject, params)),
        Kind::JsBig => on_cpu(params, || js_scale::run_big(subject, params)),
    }
}

/// Runs a single-threaded scenario on a thread of its own, pinned to the first load CPU.
fn on_cpu<F>(params: &Params, work: F) -> Result<Outcome>
where
    F: FnOnce() -> Result<Outcome> + Send,
{
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
