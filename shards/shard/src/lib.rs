//! One whole shard as one value: the reactor and the simulator drive the same one.
//!
//! ```text
//!  input ──► Shard { broker } ──► Effects
//! ```
//!
//! Streams and consensus will stand beside the broker here, and this crate will carry inputs and
//! effects across between them.

use std::sync::Arc;

pub use broker::broker::Broker;
pub use broker::clock::Now;
pub use broker::conn::{Accepted, Progress};
pub use broker::effect::{Close, Effects, HelperJob, Level};
use broker::index::ShardId;
use broker::settings::Settings;

/// One shard.
#[derive(Debug)]
pub struct Shard {
    /// Core NATS.
    pub broker: Broker,
}

/// A command from the process, the same for every shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// New settings.
    Reload(Arc<Settings>),
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
        Self { broker: Broker::new(me, shards, settings, seed) }
    }

    /// Carries out a command of the process.
    pub fn handle_command(&mut self, command: Command, now: Now, fx: &mut Effects) {
        match command {
            Command::Reload(settings) => self.broker.handle_reload(settings, now, fx),
            Command::CloseExcess { keep } => self.broker.close_excess(keep, fx),
            Command::LameDuck => self.broker.handle_lame_duck(fx),
            Command::LameDuckClose { duration_ns } => {
                self.broker.handle_lame_duck_close(duration_ns, now);
            }
            Command::CloseAll => self.broker.close_all(fx),
        }
    }
}
