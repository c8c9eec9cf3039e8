//! The shard's clock: read once a turn.

use broker::clock::Now;
use rustix::time::{ClockId, clock_gettime};

/// Both clocks, monotonic time counted from when this was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start_ns: u64,
}

fn read(id: ClockId) -> i64 {
    let time = clock_gettime(id);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

impl Clock {
    /// A clock whose monotonic time starts near zero; zero itself never appears.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { start_ns: (read(ClockId::Monotonic) as u64).saturating_sub(1) }
    }

    /// Both clocks now.
    #[inline]
    #[must_use]
    pub(crate) fn now(&self) -> Now {
        Now { mono_ns: self.mono_ns(), wall_ns: read(ClockId::Realtime) }
    }

    /// Monotonic nanoseconds since the start.
    #[inline]
    #[must_use]
    pub(crate) fn mono_ns(&self) -> u64 {
        (read(ClockId::Monotonic) as u64).saturating_sub(self.start_ns)
    }
}
