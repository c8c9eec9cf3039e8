//! Starting the shards of a process, and the handle by which the process steers them.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use broker::mesh::Batch;
use broker::settings::Settings;
use rustix::event::{EventfdFlags, eventfd};
use shard::{Effects, Now, Shard};
use slab::Slab;

use crate::accept::Listeners;
use crate::bus::{Bus, BusEnd};
use crate::clock::Clock;
use crate::control::{Control, ControlReceiver, Door, FileBudget, Shared};
use crate::disk::{Disk, DiskSettings};
use crate::entropy;
use crate::gather::{FactsSource, Gathering};
use crate::runtime::{ExecutorOptions, ShardThread, spawn_shard};
use crate::spin::{SpinMode, Spinner};
use crate::tls::TlsContext;
use crate::turn::{HelperSubmit, Reactor};
use crate::uring::Ring;
use crate::wake::WakeCounter;

/// Everything the shards are started with.
pub struct Plan {
    /// Limits, users, accounts.
    pub settings: Arc<Settings>,
    /// The CPU of each shard; the length is the number of shards. `None` does not pin.
    pub cpus: Vec<Option<usize>>,
    /// How a shard waits for work.
    pub spin: SpinMode,
    /// Memory each executor registers for files, bytes.
    pub io_memory_bytes: usize,
    /// Entries of each of the executor's rings.
    pub ring_depth: usize,
    /// Batches in the ring from one shard to another.
    pub ring_batches: usize,
    /// Size of a shard's read buffer, bytes.
    pub read_buffer_bytes: usize,
    /// Descriptors of connections and storage.
    pub files: FileBudget,
    /// Where clients connect; bound and listening, in non-blocking mode.
    pub clients: Option<TcpListener>,
    /// Where monitoring is asked; bound and listening, in non-blocking mode.
    pub monitor: Option<TcpListener>,
    /// `http_base_path`.
    pub monitor_base_path: String,
    /// What the process tells about itself.
    pub facts: FactsSource,
    /// TLS of clients.
    pub tls: Option<TlsContext>,
    /// Streams and consumers, when they are served.
    pub jetstream: Option<JetStreamPlan>,
    /// The way to the helper threads.
    pub helper: HelperSubmit,
    /// Debug lines are wanted.
    pub debug: bool,
    /// Protocol trace lines are wanted.
    pub trace: bool,
}

/// What JetStream is started with.
#[derive(Clone, Debug)]
pub struct JetStreamPlan {
    /// Limits, durability, accounts.
    pub settings: Arc<jetstream::settings::Settings>,
    /// The disk of each shard; number and count are filled in.
    pub disk: DiskSettings,
}

/// The running shards.
#[derive(Debug)]
pub struct Running {
    /// The way to the shards.
    pub shared: Arc<Shared>,
    threads: Vec<ShardThread<io::Result<()>>>,
}

impl Running {
    /// Waits until every shard has ended.
    ///
    /// # Errors
    /// The first shard's failure: io_uring or memlock refused, or its ring broke.
    pub fn join(self) -> io::Result<()> {
        let mut outcome = Ok(());
        for thread in self.threads {
            let ended = thread.join().and_then(|inner| inner);
            if outcome.is_ok() {
                outcome = ended;
            }
        }
        outcome
    }
}

/// What moves to a shard's thread.
struct Seed {
    id: usize,
    shards: usize,
    settings: Arc<Settings>,
    random: u64,
    bus: BusEnd<Batch>,
    wake: OwnedFd,
    ring_wake: OwnedFd,
    control: ControlReceiver,
    shared: Arc<Shared>,
    listeners: Listeners,
    tls: Option<TlsContext>,
    jetstream: Option<JetStreamPlan>,
    helper: HelperSubmit,
    facts: FactsSource,
    base_path: String,
    spin: SpinMode,
    read_buffer_bytes: usize,
    clock: Clock,
    debug: bool,
    trace: bool,
}

impl Seed {
    fn grow(self) -> io::Result<Reactor> {
        let fx = Effects { debug: self.debug, trace: self.trace, ..Effects::default() };
        let disk = match &self.jetstream {
            Some(plan) => Some(Disk::open(plan.disk.clone(), self.wake.try_clone()?)?),
            None => None,
        };
        Ok(Reactor {
            id: self.id,
            shard: Shard::new(self.id as u16, self.shards, self.settings, self.random),
            fx,
            ring: Ring::new(std::os::fd::AsFd::as_fd(&self.ring_wake))?,
            clock: self.clock,
            socks: Slab::new(),
            sock_of: Vec::new(),
            generation: 0,
            ready: std::collections::VecDeque::new(),
            events: Vec::new(),
            read_buffer: vec![0; self.read_buffer_bytes],
            plain_buffer: Vec::new(),
            bus: self.bus,
            control: self.control,
            shared: self.shared,
            listeners: self.listeners,
            tls: self.tls,
            jetstream: self.jetstream,
            seed: self.random,
            disk,
            disk_done: Vec::new(),
            has_more: false,
            helper: self.helper,
            gathering: Gathering::new(self.facts, self.base_path),
            spinner: Spinner::new(self.spin),
            wake: WakeCounter::new(self.wake),
            turns: broker::monitor::TurnStats::default(),
            timer_ns: 0,
            sock_deadline_ns: u64::MAX,
            woken: false,
            stopping: false,
            is_leaving: false,
            now: Now::default(),
        })
    }
}

/// Starts every shard. They serve once [`Shared::is_ready`] says so.
///
/// # Errors
/// When a thread, a descriptor or randomness is not to be had. What the kernel refuses inside a
/// shard shows in [`Shared::is_failed`] and is returned by [`Running::join`].
pub fn start(plan: Plan) -> io::Result<Running> {
    let shards = plan.cpus.len();
    let clock = Clock::start();
    let mut wakes = Vec::new();
    let mut doors = Vec::new();
    let mut receivers = Vec::new();
    for _ in 0..shards {
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        let (sender, receiver) = crossbeam_channel::unbounded::<Control>();
        doors.push(Door { sender, bell: wake.try_clone()? });
        wakes.push(wake);
        receivers.push(receiver);
    }
    let ends = Bus::new::<Batch>(shards, plan.ring_batches);
    let shared = Arc::new(Shared::new(doors, plan.files));
    let clients = plan.clients.map(Arc::new);
    let monitor = plan.monitor.map(Arc::new);
    let mut threads = Vec::new();
    let parts = ends.into_iter().zip(wakes).zip(receivers).zip(&plan.cpus);
    for (id, (((bus, wake), control), cpu)) in parts.enumerate() {
        let seed = Seed {
            id,
            shards,
            settings: Arc::clone(&plan.settings),
            random: entropy::seed_u64().map_err(io::Error::other)?,
            bus,
            ring_wake: wake.try_clone()?,
            wake,
            control,
            shared: Arc::clone(&shared),
            listeners: Listeners {
                clients: clients.clone(),
                monitor: if id == 0 { monitor.clone() } else { None },
                retry_ns: 0,
            },
            tls: plan.tls.clone(),
            jetstream: plan.jetstream.clone().map(|mut plan| {
                (plan.disk.shard, plan.disk.shards) = (id, shards);
                plan
            }),
            helper: Arc::clone(&plan.helper),
            facts: Arc::clone(&plan.facts),
            base_path: plan.monitor_base_path.clone(),
            spin: plan.spin,
            read_buffer_bytes: plan.read_buffer_bytes,
            clock,
            debug: plan.debug,
            trace: plan.trace,
        };
        let options = ExecutorOptions {
            cpu: *cpu,
            name: format!("shard-{id}"),
            io_memory_bytes: plan.io_memory_bytes,
            ring_depth: plan.ring_depth,
        };
        threads.push(spawn_shard(&options, move || async { serve(seed) })?);
    }
    Ok(Running { shared, threads })
}

fn serve(seed: Seed) -> io::Result<()> {
    let shared = Arc::clone(&seed.shared);
    let outcome = match seed.grow() {
        Ok(reactor) => reactor.run(),
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        shared.failed.store(true, std::sync::atomic::Ordering::Release);
    }
    outcome
}
