//! `connection_rate_limit`: how many TLS connections a listener takes on in a second.

/// The window in which connections are counted, in nanoseconds.
const WINDOW_NS: u64 = 1_000_000_000;

/// Counts connections per second. Those above the limit are told
/// `Connection throttling is active. Please try again later.` and closed.
///
/// Lives on: each accepting shard, with its share of the listener's limit.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRate {
    /// Connections per window; 0 is no limit.
    limit: u64,
    count: u64,
    window_start_ns: u64,
}

impl ConnectionRate {
    /// A counter for `limit` connections per second, 0 for no limit.
    pub fn new(limit: u64) -> Self {
        Self { limit, count: 0, window_start_ns: 0 }
    }

    /// The share of shard `shard` of `shards` in a listener's limit. The shares add up to the
    /// limit, but no shard gets less than one connection per second.
    pub fn share(limit: u64, shard: u64, shards: u64) -> Self {
        if limit == 0 || shards == 0 {
            return Self::new(limit);
        }
        let extra = u64::from(shard < limit % shards);
        Self::new((limit / shards + extra).max(1))
    }

    /// Whether one more connection may start now; `now_ns` is monotonic.
    pub fn allow(&mut self, now_ns: u64) -> bool {
        if self.limit == 0 {
            return true;
        }
        if now_ns.saturating_sub(self.window_start_ns) >= WINDOW_NS {
            self.count = 0;
            self.window_start_ns = now_ns;
        }
        let allowed = self.count < self.limit;
        self.count += u64::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_no_more_than_the_limit() {
        let mut rate = ConnectionRate::new(2);
        let taken =
            |rate: &mut ConnectionRate, now_ns| (0..9).filter(|_| rate.allow(now_ns)).count();
        assert_eq!(taken(&mut rate, 5), 2);
        assert_eq!(taken(&mut rate, WINDOW_NS - 1), 0);
        assert_eq!(taken(&mut rate, WINDOW_NS + 7), 2);
        assert_eq!(taken(&mut rate, 2 * WINDOW_NS + 6), 0);
        assert_eq!(taken(&mut rate, 2 * WINDOW_NS + 7), 2);
        assert_eq!(taken(&mut rate, u64::MAX), 2);
        assert_eq!(taken(&mut ConnectionRate::new(0), 5), 9);
    }

    #[test]
    fn shares_add_up() {
        for (limit, shards) in [(0, 4), (4, 4), (10, 4), (1_000, 7)] {
            let shares = (0..shards).map(|shard| ConnectionRate::share(limit, shard, shards).limit);
            assert_eq!(shares.sum::<u64>(), limit);
        }
        assert_eq!(ConnectionRate::share(1, 3, 4).limit, 1);
    }
}
