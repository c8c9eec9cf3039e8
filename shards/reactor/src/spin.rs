//! Busy-polling before sleep: whether a shard that has nothing to do should look again instead.

/// How a shard waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpinMode {
    /// Sleep at once.
    Off,
    /// Look again for up to `max_ns` after work, when looking has paid lately.
    Adaptive {
        /// Longest look, ns.
        max_ns: u64,
    },
    /// Look again for this long after work, always.
    Fixed {
        /// How long, ns.
        ns: u64,
    },
    /// Never sleep.
    Always,
}

/// Looks that did not pay before adaptive mode stops looking.
const MISSES_MAX: u32 = 4;
/// While it does not look, this often it tries whether looking pays again.
const TRY_EVERY: u32 = 16;

/// The state of waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spinner {
    mode: SpinMode,
    last_work_ns: u64,
    slept_ns: u64,
    looked: bool,
    misses: u32,
    sleeps: u32,
}

impl Spinner {
    /// A spinner in a mode.
    #[must_use]
    pub(crate) fn new(mode: SpinMode) -> Self {
        Self { mode, last_work_ns: 0, slept_ns: 0, looked: false, misses: 0, sleeps: 0 }
    }

    /// There was work at this time.
    #[inline]
    pub(crate) fn note_work(&mut self, now_ns: u64) {
        if self.looked {
            self.misses = 0;
            self.looked = false;
        }
        self.last_work_ns = now_ns;
    }

    /// Whether to look again instead of sleeping.
    #[inline]
    pub(crate) fn may_spin(&mut self, now_ns: u64) -> bool {
        let since_ns = now_ns.saturating_sub(self.last_work_ns);
        let spin = match self.mode {
            SpinMode::Off => false,
            SpinMode::Always => true,
            SpinMode::Fixed { ns } => since_ns < ns,
            SpinMode::Adaptive { max_ns } => {
                let pays = self.misses < MISSES_MAX || self.sleeps.is_multiple_of(TRY_EVERY);
                pays && since_ns < max_ns
            }
        };
        if spin {
            self.looked = true;
        } else {
            self.slept_ns = now_ns;
        }
        spin
    }

    /// Woken from sleep at this time: a short sleep means that a longer look would have paid.
    pub(crate) fn note_woken(&mut self, now_ns: u64) {
        self.sleeps = self.sleeps.wrapping_add(1);
        self.looked = false;
        if let SpinMode::Adaptive { max_ns } = self.mode {
            let slept_ns = now_ns.saturating_sub(self.slept_ns);
            if slept_ns > max_ns {
                self.misses = self.misses.saturating_add(1);
            }
        }
        self.last_work_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_mode_stops_looking_when_nothing_comes() {
        let mut spinner = Spinner::new(SpinMode::Adaptive { max_ns: 100 });
        let mut now = 0;
        let mut looks = 0;
        for _ in 0..64 {
            spinner.note_work(now);
            if spinner.may_spin(now + 50) {
                looks += 1;
            }
            assert!(!spinner.may_spin(now + 100));
            now += 1_000_000;
            spinner.note_woken(now);
        }
        assert!((4..16).contains(&looks), "{looks}");
        // Short sleeps are no misses: it goes on looking.
        let mut spinner = Spinner::new(SpinMode::Adaptive { max_ns: 100 });
        for _ in 0..64 {
            spinner.note_work(now);
            assert!(spinner.may_spin(now + 50));
            assert!(!spinner.may_spin(now + 100));
            now += 150;
            spinner.note_woken(now);
        }
    }
}
