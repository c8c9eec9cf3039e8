//! When which stream has something to do. Each stream has at most one entry that counts; the
//! others are passed over when their time comes. Lives on: every shard.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module.
#[derive(Debug, Default)]
pub struct Clock {
    due: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Clock {
    /// Makes sure that a stream's time is noted; `armed_ns` is what was noted for it last.
    pub fn arm(&mut self, slot: u32, at_ns: u64, armed_ns: &mut u64) {
        if at_ns < *armed_ns {
            *armed_ns = at_ns;
            self.due.push(Reverse((at_ns, slot)));
        }
    }

    /// The earliest time, monotonic ns.
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        self.due.peek().map_or(u64::MAX, |Reverse((at_ns, _))| *at_ns)
    }

    /// A stream whose time has come, with the time that was noted.
    pub fn take_due(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let Reverse((at_ns, slot)) = *self.due.peek()?;
        if at_ns > now_ns {
            return None;
        }
        self.due.pop();
        Some((slot, at_ns))
    }
}

impl super::JetStream {
    /// The earliest moment at which [`Self::handle_timers`] has something to do, monotonic ns.
    #[must_use]
    pub fn next_deadline_ns(&self) -> u64 {
        self.clock.next_ns().min(self.next_restore_ns())
    }

    /// Carries out what is due.
    pub fn handle_timers(
        &mut self,
        ctx: &crate::context::Context<'_>,
        fx: &mut crate::effect::Effects,
    ) {
        if self.next_restore_ns() <= ctx.mono_ns {
            self.expire_restores(ctx, fx);
        }
        while let Some((slot, at_ns)) = self.clock.take_due(ctx.mono_ns) {
            let Some(home) = self.homes.get_mut(slot as usize) else { continue };
            if home.armed_ns != at_ns {
                continue;
            }
            home.armed_ns = u64::MAX;
            let mut shop = self.tools.open(ctx, fx);
            home.handle_timers(&mut shop);
            self.note_ops(slot, fx);
            self.touch(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earlier_times_are_noted() {
        let mut clock = Clock::default();
        let mut armed = u64::MAX;
        clock.arm(1, 50, &mut armed);
        clock.arm(1, 70, &mut armed);
        clock.arm(1, 40, &mut armed);
        assert_eq!((clock.next_ns(), armed), (40, 40));
        assert_eq!(clock.take_due(39), None);
        assert_eq!(clock.take_due(60), Some((1, 40)));
        assert_eq!(clock.take_due(60), Some((1, 50)));
        assert_eq!(clock.take_due(60), None);
    }
}
