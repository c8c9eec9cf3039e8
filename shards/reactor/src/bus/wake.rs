//! Who wakes whom: the handshakes between a shard that falls asleep and a shard that has
//! something for it.
//!
//! Both follow one pattern. The one side announces, then looks once more; the other side acts,
//! then looks for an announcement. A fence between the two steps on each side makes it
//! impossible that both look too early:
//!
//! ```text
//!   sleeper                          sender
//!     asleep = true                    push
//!     fence                            fence
//!     inbox empty? yes: block          asleep? yes, and I was the one to clear it: wake
//! ```
//!
//! Every change of a flag is a swap, so that all shards agree on one order of changes.
//!
//! The file names no channel and no file descriptor, so that loom can try all interleavings
//! (`tests/loom`).

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Whether one shard sleeps.
///
/// Lives on: one per shard, shared by all; the shard itself announces, any peer may clear.
/// It has cache lines of its own (two, as processors fetch pairs).
#[derive(Debug)]
#[repr(align(128))]
pub struct SleepFlag {
    asleep: AtomicBool,
}

impl SleepFlag {
    /// The flag of a shard that is awake.
    pub fn new() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }

    /// Announces that this shard is about to block, then asks `is_idle` once more.
    ///
    /// On true the shard may block: whoever sends from now on will wake it. On false there is
    /// work and the shard counts as awake again; a peer may have been quick enough to send a
    /// wake all the same, so the blocking call has to bear one that comes for nothing.
    pub fn prepare(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.asleep.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let idle = is_idle();
        if !idle {
            self.finish();
        }
        idle
    }

    /// The shard is awake again, for whatever reason: from here on nobody wakes it.
    pub fn finish(&self) {
        self.asleep.swap(false, Ordering::Relaxed);
    }

    /// To be called after something was made visible to the shard, say a batch was pushed.
    /// Calls `wake` when the shard sleeps and no other peer has taken on to wake it; says
    /// whether it did.
    pub fn wake(&self, wake: impl FnOnce()) -> bool {
        fence(Ordering::SeqCst);
        // The load spares the swap, which would pull the cache line away from an awake shard.
        let won = self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed);
        if won {
            wake();
        }
        won
    }
}

impl Default for SleepFlag {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the sender of one channel waits for room in it.
///
/// Lives on: one per ordered pair of shards; the sender announces, the receiver clears.
#[derive(Debug)]
#[repr(align(128))]
pub struct RoomFlag {
    wanted: AtomicBool,
}

impl RoomFlag {
    /// The flag of a channel that nobody waits for.
    pub fn new() -> Self {
        Self { wanted: AtomicBool::new(false) }
    }

    /// The sender found the channel full. It has to look once more before it blocks, which the
    /// `is_idle` of [`SleepFlag::prepare`] does.
    pub fn want(&self) {
        self.wanted.swap(true, Ordering::Relaxed);
    }

    /// The receiver took something out: says whether the sender waits for that, once.
    pub fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed)
    }
}

impl Default for RoomFlag {
    fn default() -> Self {
        Self::new()
    }
}
