//! A measured window: time, the server's CPU and our own between two moments.

use std::time::Instant;

use super::Subject;
use crate::error::Result;
use crate::measure::cpu::{self, ProcessCpu};
use crate::report::Outcome;

/// One moment.
#[derive(Clone, Copy)]
pub struct Mark {
    at: Instant,
    server: Option<ProcessCpu>,
    own_ns: u64,
}

impl Mark {
    /// This moment, seen from the load thread.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn now(subject: &Subject) -> Result<Self> {
        Ok(Self { at: Instant::now(), server: subject.cpu()?, own_ns: cpu::thread_ns() })
    }

    /// Puts the figures of `count` messages between `self` and `to`.
    pub fn put(&self, to: &Self, count: u64, outcome: &mut Outcome) {
        let seconds = (to.at - self.at).as_secs_f64();
        let count = count as f64;
        outcome.put("msgs_per_s", count / seconds, "/s");
        if let (Some(from), Some(to)) = (self.server, to.server) {
            let ns = to.since(from) as f64;
            outcome.put("server_cpu_us_per_msg", ns / 1000.0 / count, "us");
            outcome.put("server_cpu_percent", ns / seconds / 1e7, "%");
        }
        let own = to.own_ns.saturating_sub(self.own_ns) as f64;
        outcome.put("harness_cpu_percent", own / seconds / 1e7, "%");
    }
}
