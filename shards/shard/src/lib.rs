//! One whole shard as one value: the reactor and the simulator drive the same one.
//!
//! ```text
//!  input ──► Shard { broker ◄──► jetstream } ──► Effects, disk operations
//! ```

mod service;

use std::sync::Arc;

pub use broker::broker::Broker;
pub use broker::clock::Now;
pub use broker::conn::{Accepted, Progress};
pub use broker::effect::{Close, Effects, HelperJob, Level};
use broker::index::ShardId;
use broker::settings::Settings;
use jetstream::domain::JetStream;
use jetstream::domain::monitor::{StreamFigures, Wanted};
use service::{Carrier, Subscriptions};
use store::disk::{BootDisk, DiskDone, DiskOp, Ticket};

/// One shard.
#[derive(Debug)]
pub struct Shard {
    /// Core NATS.
    pub broker: Broker,
    /// Streams and consumers, when they are served.
    pub jetstream: Option<Box<JetStream>>,
    subscriptions: Subscriptions,
    js_fx: jetstream::effect::Effects,
}

/// A command from the process, the same for every shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// New settings.
    Reload(Arc<Settings>),
    /// New settings of JetStream.
    ReloadJetStream(Arc<jetstream::settings::Settings>),
    /// Close the youngest clients until so many are left on this shard.
    CloseExcess {
        /// Connections that stay.
        keep: usize,
    },
    /// Tell the clients to go elsewhere.
    LameDuck,
    /// Close the clients one after the other.
    LameDuckClose {
        /// Over this time, ns.
        duration_ns: u64,
    },
    /// Close every client now.
    CloseAll,
}

impl Shard {
    /// Shard `me` of `shards`; `seed` drives every random choice.
    #[must_use]
    pub fn new(me: ShardId, shards: usize, settings: Arc<Settings>, seed: u64) -> Self {
        Self {
            broker: Broker::new(me, shards, settings, seed),
            jetstream: None,
            subscriptions: Subscriptions::default(),
            js_fx: jetstream::effect::Effects::default(),
        }
    }

    /// Serves JetStream from now on, with what the disk holds of it.
    pub fn start_jetstream(
        &mut self,
        settings: Arc<jetstream::settings::Settings>,
        seed: u64,
        boot: &mut dyn BootDisk,
        now: Now,
        fx: &mut Effects,
    ) {
        let me = self.broker.mesh().me();
        let shards = self.broker.mesh().peer_ids().count() as u16 + 1;
        self.jetstream = Some(Box::new(JetStream::new(me, shards, settings, seed)));
        if let Some(mut carrier) = self.carrier() {
            carrier.work(now, |jetstream, ctx, fx| jetstream.recover(boot, ctx, fx));
            carrier.run(now, fx);
        }
    }

    fn carrier(&mut self) -> Option<Carrier<'_>> {
        let jetstream = self.jetstream.as_deref_mut()?;
        Some(Carrier {
            broker: &mut self.broker,
            jetstream,
            subscriptions: &mut self.subscriptions,
            js_fx: &mut self.js_fx,
        })
    }

    /// Lets JetStream work on what came in this turn. True when it has more to do than one turn
    /// takes: the next turn comes without sleep.
    pub fn handle_services(&mut self, now: Now, fx: &mut Effects) -> bool {
        self.carrier().is_some_and(|mut carrier| carrier.run(now, fx))
    }

    /// The end is near: clients that wait for messages of consumers are told.
    pub fn say_farewell(&mut self, now: Now) {
        if let Some(mut carrier) = self.carrier() {
            carrier.work(now, |jetstream, ctx, fx| jetstream.say_farewell(ctx, fx));
        }
    }

    /// The end: clients of consumers are told, and what is kept in memory is written. To be
    /// called again after each completion of the disk until it is true.
    pub fn stop_jetstream(&mut self, now: Now, fx: &mut Effects) -> bool {
        self.carrier().is_none_or(|mut carrier| {
            let is_done = carrier.work(now, |jetstream, ctx, fx| jetstream.handle_stop(ctx, fx));
            carrier.give_logs(fx);
            is_done
        })
    }

    /// The streams that monitoring wants.
    pub fn stream_figures(&mut self, wanted: &Wanted<'_>, now: Now) -> Vec<StreamFigures> {
        self.carrier().map_or_else(Vec::new, |mut carrier| {
            carrier.work(now, |jetstream, ctx, fx| jetstream.stream_figures(wanted, ctx, fx))
        })
    }

    /// Everything that the disk holds has been found and can take messages.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.jetstream.as_ref().is_none_or(|jetstream| jetstream.is_ready())
    }

    /// Disk operations to be carried out, in order.
    pub fn take_disk_ops(&mut self) -> Vec<(Ticket, DiskOp)> {
        std::mem::take(&mut self.js_fx.disk.ops)
    }

    /// A disk operation has ended.
    pub fn handle_disk_done(&mut self, done: DiskDone, now: Now) {
        if let Some(mut carrier) = self.carrier() {
            carrier.work(now, |jetstream, ctx, fx| jetstream.handle_disk_done(done, ctx, fx));
        }
    }

    /// The earliest moment at which [`Self::handle_timers`] has something to do.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let jetstream = self.jetstream.as_ref().map_or(u64::MAX, |js| js.next_deadline_ns());
        let earliest = self.broker.next_deadline_ns().unwrap_or(u64::MAX).min(jetstream);
        (earliest != u64::MAX).then_some(earliest)
    }

    /// Carries out what is due.
    pub fn handle_timers(&mut self, now: Now, fx: &mut Effects) {
        if self.broker.next_deadline_ns().is_some_and(|at| at <= now.mono_ns) {
            self.broker.handle_timers(now, fx);
        }
        if let Some(mut carrier) = self.carrier()
            && carrier.jetstream.next_deadline_ns() <= now.mono_ns
        {
            carrier.work(now, |jetstream, ctx, fx| jetstream.handle_timers(ctx, fx));
        }
    }

    /// Carries out a command of the process.
    pub fn handle_command(&mut self, command: Command, now: Now, fx: &mut Effects) {
        match command {
            Command::Reload(settings) => self.broker.handle_reload(settings, now, fx),
            Command::ReloadJetStream(settings) => {
                if let Some(jetstream) = &mut self.jetstream {
                    jetstream.handle_reload(settings);
                }
            }
            Command::CloseExcess { keep } => self.broker.close_excess(keep, fx),
            Command::LameDuck => self.broker.handle_lame_duck(fx),
            Command::LameDuckClose { duration_ns } => {
                self.broker.handle_lame_duck_close(duration_ns, now);
            }
            Command::CloseAll => self.broker.close_all(fx),
        }
    }
}
