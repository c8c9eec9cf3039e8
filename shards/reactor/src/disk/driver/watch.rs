//! Tells in the log when the disk is stuck, when it no longer is, and what failed.

use store::disk::DiskError;

use super::Disk;
use crate::disk::STUCK_NS;

/// Between two looks while something is under way, ns.
const LOOK_NS: u64 = 1_000_000_000;
/// Between two errors that are told, ns.
const TELL_NS: u64 = 10_000_000_000;

/// When to look, and what the log says so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// 0 while there is no need.
    look_at_ns: u64,
    is_told: bool,
    /// When the next error is told again.
    tell_at_ns: u64,
    /// Errors since the last one that was told.
    untold: u64,
}

impl Watch {
    /// An operation on a file has failed. A file that is not there is no error of the disk.
    pub(super) fn tell_error(&mut self, what: &str, path: &str, error: DiskError, now_ns: u64) {
        if error == DiskError::NotFound {
            return;
        }
        if now_ns < self.tell_at_ns {
            self.untold += 1;
            return;
        }
        self.tell_at_ns = now_ns + TELL_NS;
        let more = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            count => format!(", after {count} more errors"),
        };
        tracing::warn!("JetStream disk: {what} of {path}: {error}{more}");
    }
}

impl Disk {
    /// When [`Disk::take_done`] is to be called although nothing has ended; `u64::MAX` while
    /// nothing is under way.
    #[must_use]
    pub fn next_look_ns(&mut self, now_ns: u64) -> u64 {
        let is_idle = self.jobs.is_empty() && self.names.is_empty() && self.hung.is_empty();
        if is_idle && self.stalls.is_none() && !self.watch.is_told {
            return u64::MAX;
        }
        if self.watch.look_at_ns == 0 {
            self.watch.look_at_ns = now_ns + LOOK_NS;
        }
        self.watch.look_at_ns
    }

    /// Looks whether something does not end, when it is time.
    pub(super) fn watch(&mut self, now_ns: u64) {
        if self.watch.look_at_ns == 0 || now_ns < self.watch.look_at_ns {
            return;
        }
        self.watch.look_at_ns = 0;
        let oldest_ns = self.oldest_ns(now_ns);
        let is_stuck = oldest_ns >= STUCK_NS;
        if is_stuck && !self.watch.is_told {
            let (shard, seconds) = (self.shard, oldest_ns / 1_000_000_000);
            tracing::warn!(
                "JetStream disk operation has been under way for {seconds}s on shard {shard}; \
                what waits for it is not acknowledged"
            );
        } else if !is_stuck && self.watch.is_told {
            tracing::info!("JetStream disk operations of shard {} end again", self.shard);
        }
        self.watch.is_told = is_stuck;
    }

    /// Age of the oldest operation, ns; 0 without one.
    pub(super) fn oldest_ns(&self, now_ns: u64) -> u64 {
        let begun = self.jobs.iter().map(|(_, job)| job.since_ns);
        let named = self.names.values().map(|named| named.since_ns);
        let queued = self.files.values().flat_map(|file| &file.waiting).map(|w| w.since_ns);
        let held_back = self.backlog.iter().map(|(_, waiting)| waiting.since_ns);
        let hung = self.hung.iter().copied().chain(self.stalled().map(|w| w.since_ns));
        let oldest = begun.chain(named).chain(queued).chain(held_back).chain(hung).min();
        oldest.map_or(0, |since_ns| now_ns.saturating_sub(since_ns))
    }
}
