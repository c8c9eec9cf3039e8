//! The loop of a shard: gather what the world has, let the shard decide, carry out the effects,
//! and sleep when there is nothing.
//!
//! ```text
//!  gather   ring events │ batches from peers │ control messages │ timers
//!  decide   shard.handle_*(…, &mut effects)
//!  apply    one write per dirty connection │ closes │ one ring send per peer, wake if it sleeps
//! ```

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::mesh::Batch;
use broker::monitor::TurnStats;
use shard::{Effects, HelperJob, Level, Now, Progress, Shard};
use slab::Slab;
use store::disk::DiskDone;

use crate::accept::Listeners;
use crate::bus::{BusEnd, SendRefused};
use crate::clock::Clock;
use crate::conn::{Role, Sock};
use crate::control::{Control, ControlReceiver, Shared};
use crate::disk::Disk;
use crate::gather::Gathering;
use crate::socket::{self, Read};
use crate::spin::Spinner;
use crate::start::JetStreamPlan;
use crate::tls::TlsContext;
use crate::uring::{Event, Ring};
use crate::wake::WakeCounter;

/// Sockets read in one turn.
const READS_PER_TURN_MAX: usize = 64;
/// A turn that has lasted this long reads no further socket, ns.
const TURN_NS_MAX: u64 = 500_000;
/// Batches applied in one turn.
const BATCHES_PER_TURN_MAX: usize = 64;

/// Passes a password to the helper threads; hands the job back when they have too much to do.
pub type HelperSubmit = Arc<dyn Fn(usize, HelperJob) -> Result<(), HelperJob> + Send + Sync>;

/// One shard at work.
pub(crate) struct Reactor {
    pub(crate) id: usize,
    pub(crate) shard: Shard,
    pub(crate) fx: Effects,
    pub(crate) ring: Ring,
    pub(crate) clock: Clock,
    pub(crate) socks: Slab<Sock>,
    /// From a connection's slot to its socket.
    pub(crate) sock_of: Vec<u32>,
    pub(crate) generation: u32,
    pub(crate) ready: std::collections::VecDeque<u32>,
    pub(crate) events: Vec<Event>,
    pub(crate) read_buffer: Vec<u8>,
    pub(crate) plain_buffer: Vec<u8>,
    pub(crate) bus: BusEnd<Batch>,
    pub(crate) control: ControlReceiver,
    pub(crate) shared: Arc<Shared>,
    pub(crate) listeners: Listeners,
    pub(crate) tls: Option<TlsContext>,
    pub(crate) jetstream: Option<JetStreamPlan>,
    pub(crate) seed: u64,
    pub(crate) disk: Option<Disk>,
    pub(crate) disk_done: Vec<DiskDone>,
    /// JetStream has more to deliver: the next turn comes without sleep.
    pub(crate) has_more: bool,
    pub(crate) helper: HelperSubmit,
    pub(crate) gathering: Gathering,
    pub(crate) spinner: Spinner,
    pub(crate) wake: WakeCounter,
    pub(crate) turns: TurnStats,
    pub(crate) timer_ns: u64,
    pub(crate) sock_deadline_ns: u64,
    /// The shard has just slept, or tried to.
    pub(crate) woken: bool,
    pub(crate) stopping: bool,
    /// Clients of consumers have been told of the end in this turn.
    pub(crate) is_leaving: bool,
    pub(crate) now: Now,
}

impl Reactor {
    /// Serves until told to stop.
    pub(crate) fn run(mut self) -> io::Result<()> {
        self.recover()?;
        while !self.shard.is_recovered() {
            if !self.turn()? {
                self.sleep()?;
            }
        }
        self.listen()?;
        self.shared.note_ready();
        loop {
            if self.turn()? {
                self.spinner.note_work(self.now.mono_ns);
                continue;
            }
            if self.stopping && self.socks.iter().all(|(_, s)| !matches!(s.role, Role::Client(_))) {
                return self.finish_disk();
            }
            if self.spinner.may_spin(self.clock.mono_ns()) && !self.stopping {
                std::hint::spin_loop();
                continue;
            }
            self.sleep()?;
        }
    }

    /// One turn. False when there was nothing to do.
    fn turn(&mut self) -> io::Result<bool> {
        self.ring.enter()?;
        let mut events = std::mem::take(&mut self.events);
        self.ring.drain(|event| events.push(event));
        let has_control = !self.control.is_empty();
        let mut batch = self.bus.try_recv();
        let has_work = !events.is_empty()
            || has_control
            || batch.is_some()
            || !self.ready.is_empty()
            || self.has_disk_work();
        // After a sleep there may be room for batches that a ring had refused.
        let woken = std::mem::take(&mut self.woken);
        if !has_work && !woken && !self.is_due() {
            self.events = events;
            return Ok(false);
        }
        self.now = self.clock.now();
        let start_ns = self.now.mono_ns;
        for event in events.drain(..) {
            self.handle_event(event);
        }
        self.events = events;
        self.handle_disk()?;
        for _ in 0..BATCHES_PER_TURN_MAX {
            let Some((from, parcel)) = batch.take() else { break };
            self.bus.wake_starved(from, || self.shared.ring_bell(from));
            self.shard.broker.handle_batch(parcel, self.now, &mut self.fx);
            self.flush_when_full();
            batch = self.bus.try_recv();
        }
        if let Some((from, parcel)) = batch.take() {
            self.bus.wake_starved(from, || self.shared.ring_bell(from));
            self.shard.broker.handle_batch(parcel, self.now, &mut self.fx);
        }
        // After the batches: what other shards sent before the end still goes to the clients.
        if has_control {
            self.handle_controls();
        }
        self.handle_due();
        for _ in 0..READS_PER_TURN_MAX.min(self.ready.len()) {
            let Some(at) = self.ready.pop_front() else { break };
            self.read_one(at);
            // The rest keeps its place; peers, timers and commands come in between.
            if self.clock.mono_ns().saturating_sub(start_ns) > TURN_NS_MAX {
                break;
            }
        }
        self.apply();
        self.submit_disk()?;
        if std::mem::take(&mut self.is_leaving) {
            self.shared.farewells.fetch_add(1, Ordering::Release);
        }
        self.turns.times.record(self.clock.mono_ns().saturating_sub(start_ns));
        Ok(true)
    }

    fn is_due(&self) -> bool {
        let deadline = self.shard.next_deadline_ns();
        let deadline = deadline.unwrap_or(u64::MAX).min(self.sock_deadline_ns);
        deadline != u64::MAX && deadline <= self.clock.mono_ns()
    }

    fn handle_due(&mut self) {
        if self.shard.next_deadline_ns().is_some_and(|at| at <= self.now.mono_ns) {
            self.shard.handle_timers(self.now, &mut self.fx);
        }
        if self.sock_deadline_ns <= self.now.mono_ns {
            self.handle_sock_deadlines();
        }
    }

    /// Puts a socket on the list of those to read, once.
    pub(crate) fn queue_read(&mut self, at: u32) {
        if let Some(sock) = self.socks.get_mut(at as usize)
            && !sock.queued
        {
            sock.queued = true;
            self.ready.push_back(at);
        }
    }

    /// Reads once from a socket and lets the shard carry out what came.
    fn read_one(&mut self, at: u32) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        sock.queued = false;
        if let Role::Client(slot) = sock.role
            && self.shard.broker.is_paused(slot)
        {
            return;
        }
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        let bytes_max = match sock.role {
            Role::Client(slot) => self.shard.broker.read_bytes_max(slot),
            _ => usize::MAX,
        };
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let room = bytes_max.min(buffer.len());
        self.turns.reads += 1;
        match socket::read(sock.fd.as_fd(), buffer.get_mut(..room).unwrap_or_default()) {
            Read::Bytes(bytes) => {
                sock.readable = bytes == room || sock.hung_up;
                if sock.readable {
                    self.queue_read(at);
                }
                let data = buffer.get(..bytes).unwrap_or_default();
                self.handle_bytes(at, data);
            }
            Read::Empty => sock.readable = false,
            Read::Closed => self.handle_hang_up(at),
        }
        self.read_buffer = buffer;
    }

    /// Protocol bytes of a client, decrypted if need be.
    pub(crate) fn feed(&mut self, slot: u32, data: &[u8]) {
        let mut rest = data;
        while let Progress::More(taken) =
            self.shard.broker.handle_input(slot, rest, self.now, &mut self.fx)
        {
            rest = rest.get(taken..).unwrap_or_default();
            self.flush();
        }
        self.flush_when_full();
    }

    fn flush_when_full(&mut self) {
        if self.fx.output_bytes > self.fx.output_budget(&self.shard.broker.settings().limits) {
            self.flush();
        }
    }

    /// Connections that may go on: what they had sent before, then what waits in their sockets.
    fn resume_all(&mut self) {
        while let Some(slot) = self.fx.resumed.pop() {
            while let Progress::More(_) =
                self.shard.broker.handle_resume(slot, self.now, &mut self.fx)
            {
                self.flush();
            }
            let at = self.sock_of.get(slot as usize).copied().unwrap_or(u32::MAX);
            if self.socks.get(at as usize).is_some_and(|sock| sock.readable) {
                self.queue_read(at);
            }
        }
    }

    /// Carries out the effects of the turn.
    pub(crate) fn apply(&mut self) {
        loop {
            self.has_more = self.shard.handle_services(self.now, &mut self.fx);
            self.flush();
            self.close_all();
            self.shard.broker.mesh().seal();
            self.send_batches();
            self.shard.broker.handle_mesh_drained(&mut self.fx);
            if self.fx.resumed.is_empty() {
                break;
            }
            self.resume_all();
        }
        self.submit_helpers();
        self.write_logs();
    }

    /// Writes what the shard wants in the log.
    pub(crate) fn write_logs(&mut self) {
        for (level, text) in self.fx.logs.drain(..) {
            match level {
                Level::Error => tracing::error!("{text}"),
                Level::Warn => tracing::warn!("{text}"),
                Level::Info => tracing::info!("{text}"),
                Level::Debug => tracing::debug!("{text}"),
                Level::Trace => tracing::trace!("{text}"),
            }
        }
    }

    fn submit_helpers(&mut self) {
        let jobs = std::mem::take(&mut self.fx.helpers);
        for job in jobs {
            // A full queue of helpers refuses the login; the client may try again.
            if let Err(job) = (self.helper)(self.id, job) {
                self.shard.broker.handle_helper_done(
                    job.slot,
                    job.generation,
                    job.check,
                    false,
                    self.now,
                    &mut self.fx,
                );
            }
        }
    }

    fn send_batches(&mut self) {
        let mesh = self.shard.broker.mesh();
        for peer in mesh.peer_ids() {
            let mut sent = false;
            while let Some(batch) = mesh.pop(peer) {
                match self.bus.try_send(usize::from(peer), batch) {
                    Ok(()) => sent = true,
                    Err(SendRefused::Full(batch)) => {
                        mesh.unpop(peer, batch);
                        break;
                    }
                    // A shard that has ended, at shutdown, needs nothing more.
                    Err(SendRefused::Gone(_)) => {}
                }
            }
            if sent {
                let peer = usize::from(peer);
                self.bus.wake(peer, || self.shared.ring_bell(peer));
            }
        }
    }

    fn handle_controls(&mut self) {
        while let Ok(control) = self.control.try_recv() {
            self.handle_control(control);
        }
    }

    fn handle_control(&mut self, control: Control) {
        match control {
            Control::Command(command) => {
                self.shard.handle_command(command, self.now, &mut self.fx);
            }
            Control::Tls(tls) => self.tls = tls,
            Control::LogLevels { debug, trace } => {
                self.fx.debug = debug;
                self.fx.trace = trace;
            }
            Control::Socket(fd, address) => self.open_client(fd, address),
            Control::HelperDone { slot, generation, check, verified } => {
                self.shard.broker.handle_helper_done(
                    slot,
                    generation,
                    check,
                    verified,
                    self.now,
                    &mut self.fx,
                );
            }
            Control::Gather { id, needs } => {
                let snapshot = Box::new(self.snapshot(&needs));
                self.shared.send(0, Control::Gathered { id, snapshot });
            }
            Control::Gathered { id, snapshot } => self.handle_gathered(id, *snapshot),
            Control::StopAccepting => self.stop_accepting(),
            Control::Farewell => {
                self.shard.say_farewell(self.now);
                self.is_leaving = true;
            }
            Control::Stop => {
                self.stopping = true;
                self.shard.broker.close_all(&mut self.fx);
            }
        }
    }

    /// Sleeps until something happens or a deadline comes.
    fn sleep(&mut self) -> io::Result<()> {
        self.ring.set_wakes(true);
        self.ring.enter()?;
        let idle = self.bus.prepare_sleep()
            && !self.ring.has_events()
            && self.control.is_empty()
            && !self.has_disk_work()
            && self.ready.is_empty();
        if idle {
            let deadline = self.shard.next_deadline_ns().unwrap_or(u64::MAX);
            let look_ns = self.disk.as_mut().map(|disk| disk.next_look_ns(self.now.mono_ns));
            let deadline = deadline.min(look_ns.unwrap_or(u64::MAX));
            self.arm_timer(deadline.min(self.sock_deadline_ns))?;
            self.turns.sleeps += 1;
            self.wake.wait()?;
            self.turns.wakes += 1;
        }
        self.woken = true;
        self.ring.set_wakes(false);
        self.bus.finish_sleep();
        self.spinner.note_woken(self.clock.mono_ns());
        Ok(())
    }

    fn arm_timer(&mut self, deadline_ns: u64) -> io::Result<()> {
        let now_ns = self.clock.mono_ns();
        let armed = self.timer_ns > now_ns && self.timer_ns <= deadline_ns;
        if deadline_ns == u64::MAX || armed {
            return Ok(());
        }
        self.timer_ns = deadline_ns.max(now_ns + 1);
        self.ring.arm_timer(self.timer_ns - now_ns, crate::accept::TIMER_TOKEN)
    }
}
