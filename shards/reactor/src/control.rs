//! What the process and the shards tell each other beside the batches of the bus: commands,
//! sockets handed over, gathered figures. Rare, so plain channels do.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use broker::auth::PasswordCheck;
use broker::monitor::{GatherNeeds, ShardSnapshot};
use crossbeam_channel::{Receiver, Sender};
use shard::Command;

use crate::tls::TlsContext;

/// A message to one shard.
pub enum Control {
    /// A command of the process.
    Command(Command),
    /// New certificates and TLS settings.
    Tls(Option<TlsContext>),
    /// The log's levels.
    LogLevels {
        /// Debug lines are wanted.
        debug: bool,
        /// Protocol trace lines are wanted.
        trace: bool,
    },
    /// A socket that another shard accepted for this one.
    Socket(OwnedFd, SocketAddr),
    /// A helper's answer about a password.
    HelperDone {
        /// Connection.
        slot: u32,
        /// Generation of its slot.
        generation: u32,
        /// What was checked.
        check: PasswordCheck,
        /// It is the password.
        verified: bool,
    },
    /// Shard 0 wants this shard's figures.
    Gather {
        /// Number of the request.
        id: u64,
        /// What is wanted.
        needs: Arc<GatherNeeds>,
    },
    /// A shard's figures, for shard 0.
    Gathered {
        /// Number of the request.
        id: u64,
        /// The figures.
        snapshot: Box<ShardSnapshot>,
    },
    /// Stop accepting clients.
    StopAccepting,
    /// The end is near: clients of consumers are told.
    Farewell,
    /// End the shard after closing everything.
    Stop,
}

/// How descriptors are shared by connections and storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBudget {
    /// What both have together.
    pub room: usize,
    /// Kept for storage, however many connections want in.
    pub storage_min: usize,
    /// Kept for connections, however many files storage opens.
    pub connections_min: usize,
}

impl FileBudget {
    /// Connections there may be while storage has so many files open.
    #[must_use]
    pub fn connections_max(&self, storage_files: usize) -> usize {
        let left = self.room.saturating_sub(storage_files.max(self.storage_min));
        left.max(self.connections_min.min(self.room))
    }
}

/// What all shards and the process share: a few counters, and the way to every shard.
#[derive(Debug)]
pub struct Shared {
    /// The last connection id given out.
    cid: AtomicU64,
    /// Client connections of each shard.
    loads: Vec<AtomicUsize>,
    /// Shards that serve.
    ready: AtomicUsize,
    /// TLS connections of the running second: the second, and how many.
    tls_rate: AtomicU64,
    /// Shards that accept clients.
    pub(crate) accepting: AtomicUsize,
    /// Shards that have told the clients of their consumers that the end is near.
    pub(crate) farewells: AtomicUsize,
    /// A shard has failed; the process must end.
    pub(crate) failed: AtomicBool,
    /// Files that each shard's storage has open.
    storage_files: Vec<AtomicUsize>,
    files: FileBudget,
    /// The log has said that connections are refused for want of descriptors.
    pub(crate) is_short_told: AtomicBool,
    doors: Vec<Door>,
}

/// How to reach one shard.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) sender: Sender<Control>,
    /// Counted up to end the shard's sleep.
    pub(crate) bell: OwnedFd,
}

impl Shared {
    pub(crate) fn new(doors: Vec<Door>, files: FileBudget) -> Self {
        Self {
            cid: AtomicU64::new(FIRST_CID - 1),
            loads: doors.iter().map(|_| AtomicUsize::new(0)).collect(),
            ready: AtomicUsize::new(0),
            tls_rate: AtomicU64::new(0),
            accepting: AtomicUsize::new(0),
            farewells: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            storage_files: doors.iter().map(|_| AtomicUsize::new(0)).collect(),
            files,
            is_short_told: AtomicBool::new(false),
            doors,
        }
    }

    pub(crate) fn next_cid(&self) -> u64 {
        self.cid.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Client connections of the process.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// Connections that the descriptors allow now.
    pub(crate) fn connections_max(&self) -> usize {
        let open = self.storage_files.iter().map(|files| files.load(Ordering::Relaxed)).sum();
        self.files.connections_max(open)
    }

    /// A shard's storage has so many files open.
    pub(crate) fn note_storage_files(&self, shard: usize, count: usize) {
        if let Some(files) = self.storage_files.get(shard) {
            files.store(count, Ordering::Relaxed);
        }
    }

    /// Whether one more TLS connection may begin in this second, of `limit`; 0 is no limit.
    pub(crate) fn allow_tls(&self, limit: u64, now_ns: u64) -> bool {
        let second = now_ns / 1_000_000_000;
        let count =
            |state: u64| if state >> 32 == second { state & u64::from(u32::MAX) } else { 0 };
        let next = |state| {
            let taken = count(state);
            (taken < limit).then_some(second << 32 | (taken + 1))
        };
        limit == 0 || self.tls_rate.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Client connections of each shard.
    #[must_use]
    pub fn loads(&self) -> Vec<usize> {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).collect()
    }

    /// True while any shard accepts clients.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire) > 0
    }

    /// True once every shard has carried out [`Control::Farewell`] and sent what followed.
    #[must_use]
    pub fn has_said_farewell(&self) -> bool {
        self.farewells.load(Ordering::Acquire) >= self.doors.len()
    }

    pub(crate) fn add_load(&self, shard: usize) {
        if let Some(load) = self.loads.get(shard) {
            load.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn drop_load(&self, shard: usize) {
        if let Some(load) = self.loads.get(shard) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The shard with the fewest connections, `here` when it is one of them.
    pub(crate) fn least_loaded(&self, here: usize) -> usize {
        let load = |shard: usize| self.loads.get(shard).map_or(0, |l| l.load(Ordering::Relaxed));
        let least = (0..self.loads.len()).min_by_key(|shard| load(*shard)).unwrap_or(here);
        if load(here) <= load(least) { here } else { least }
    }

    /// Sends a message to a shard and wakes it. False when the shard is gone.
    pub fn send(&self, shard: usize, control: Control) -> bool {
        let Some(door) = self.doors.get(shard) else { return false };
        let sent = door.sender.send(control).is_ok();
        self.ring_bell(shard);
        sent
    }

    /// Ends a shard's sleep, or its next one.
    pub(crate) fn ring_bell(&self, shard: usize) {
        if let Some(door) = self.doors.get(shard) {
            // The counter cannot overflow: the shard resets it whenever it sleeps.
            let _ = rustix::io::write(&door.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Sends a message to every shard.
    pub fn send_all(&self, mut make: impl FnMut() -> Control) {
        for shard in 0..self.doors.len() {
            self.send(shard, make());
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.doors.len()
    }

    pub(crate) fn note_ready(&self) {
        self.ready.fetch_add(1, Ordering::Release);
    }

    /// True when every shard serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) == self.doors.len()
    }

    /// True when a shard could not start or has failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// Numbers below belong to the server itself, as clients of nats-server expect.
const FIRST_CID: u64 = 4;

/// A shard's end of its control channel.
pub(crate) type ControlReceiver = Receiver<Control>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_takes_no_more_tls_connections_than_the_limit() {
        let files = FileBudget { room: 0, storage_min: 0, connections_min: 0 };
        let shared = Shared::new(Vec::new(), files);
        let taken = |now_ns| (0..9).filter(|_| shared.allow_tls(2, now_ns)).count();
        assert_eq!(taken(5), 2);
        assert_eq!(taken(999_999_999), 0);
        assert_eq!(taken(1_000_000_000), 2);
        assert!((0..9).all(|_| shared.allow_tls(0, 5)));
    }

    #[test]
    fn connections_and_storage_leave_each_other_something() {
        let files = FileBudget { room: 100, storage_min: 30, connections_min: 25 };
        let allowed = [0, 30, 31, 70, 75, 76, 500].map(|open| files.connections_max(open));
        assert_eq!(allowed, [70, 70, 69, 30, 25, 25, 25]);
    }
}
