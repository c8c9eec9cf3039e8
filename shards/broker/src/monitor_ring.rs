//! The last closed connections of a shard, for `/connz?state=closed`. Lives on: every shard.

use std::collections::VecDeque;

use wire::client::errors::ClosedReason;

use crate::clock::Now;
use crate::monitor::{ConnSnapshot, SubsDetail};

/// How much of its subscriptions a closed connection keeps.
pub(crate) const SUBS_OF_CLOSED: SubsDetail = SubsDetail::None;

/// The ring.
#[derive(Debug)]
pub(crate) struct ClosedRing {
    entries: VecDeque<ConnSnapshot>,
    entries_max: usize,
}

impl ClosedRing {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries: VecDeque::new(), entries_max }
    }

    pub(crate) fn push(&mut self, mut conn: ConnSnapshot, reason: ClosedReason, now: Now) {
        conn.figures.stop_ns = Some(now.wall_ns.max(0) as u64);
        conn.figures.reason = reason.as_str();
        if self.entries.len() >= self.entries_max {
            self.entries.pop_front();
        }
        if self.entries_max > 0 {
            self.entries.push_back(conn);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ConnSnapshot> {
        self.entries.iter()
    }

    pub(crate) fn resize(&mut self, entries_max: usize) {
        self.entries_max = entries_max;
        while self.entries.len() > entries_max {
            self.entries.pop_front();
        }
    }
}
