//! Holding publishers for a receiver that is behind: the good half of back-pressure without the
//! bad. Decision record 0004.
//!
//! A receiver is *behind* when its socket has refused bytes and more than the soft limit waits.
//! Its publisher's reads are held
//! - as long as the receiver makes progress, when everybody the publisher feeds is behind too:
//!   a burst is slowed and nobody is hurt;
//! - otherwise only above the hard limit, and only until the receiver has used up its budget of
//!   contested time. After that it runs on its own pending bytes until it catches up or is closed.

use crate::broker::Broker;
use crate::clock::Now;
use crate::conn::{Conn, Phase, paused};
use crate::effect::Effects;
use crate::index::ShardId;
use crate::mesh::{Hold, Origin};
use crate::settings::HoldSettings;
use crate::timers::TimerKind;

/// A publisher counts as feeding somebody who keeps up for this many slices.
const CONTESTED_SLICES: u64 = 4;

/// How a receiver's state lets it hold its publishers.
fn wanted_hold(receiver: &Conn, settings: &HoldSettings) -> Option<Hold> {
    if !settings.enabled || !receiver.blocked || receiver.phase == Phase::Closing {
        return None;
    }
    let pending = receiver.outbox.pending_bytes();
    let stuck = receiver.hold.stuck_at_sent == Some(receiver.sent_bytes);
    if pending > settings.hard_pending_bytes {
        Some(Hold::Hard)
    } else if pending > settings.soft_pending_bytes && !stuck {
        Some(Hold::Soft)
    } else {
        None
    }
}

impl Broker {
    /// A publisher of this shard has just fed a receiver of this shard that is behind.
    pub(crate) fn consider_hold(&mut self, publisher: u32, receiver: u32, now: Now) {
        if publisher == receiver {
            return;
        }
        let settings = &self.settings.hold;
        let Some(behind) = self.conns.get(receiver as usize) else { return };
        let Some(wanted) = wanted_hold(behind, settings) else { return };
        let (generation, sent) = (behind.generation, behind.sent_bytes);
        let used = behind.hold.contested_used_ns;
        let slice_ns = settings.slice_ns;
        let Some(conn) = self.conns.get_mut(publisher as usize) else { return };
        let contested = conn.hold.fed.is_contested(receiver, now, slice_ns);
        if contested && (wanted == Hold::Soft || used >= settings.contested_ns_max) {
            return;
        }
        if conn.paused & paused::HOLD != 0 {
            return;
        }
        conn.paused |= paused::HOLD;
        conn.traffic.stalls += 1;
        conn.hold.until_ns = now.mono_ns + slice_ns;
        conn.hold.held_by = Some((receiver, generation, sent));
        let waiter = (publisher, conn.generation);
        self.stats.stalls += 1;
        self.timers.arm(now.mono_ns + slice_ns, publisher, waiter.1, TimerKind::Hold);
        if let Some(behind) = self.conns.get_mut(receiver as usize) {
            if contested {
                behind.hold.contested_used_ns += slice_ns;
            }
            behind.hold.waiters.push(waiter);
        }
    }

    /// A publisher of another shard has just fed a receiver of this shard that is behind.
    /// `contested` when the same message also went to somebody who keeps up.
    pub(crate) fn consider_remote_hold(
        &mut self,
        from: ShardId,
        origin: Origin,
        receiver: u32,
        contested: bool,
    ) {
        let settings = &self.settings.hold;
        let Some(behind) = self.conns.get_mut(receiver as usize) else { return };
        let Some(wanted) = wanted_hold(behind, settings) else { return };
        if wanted == Hold::Soft && contested {
            return;
        }
        if wanted == Hold::Hard {
            if behind.hold.contested_used_ns >= settings.contested_ns_max {
                return;
            }
            behind.hold.contested_used_ns += settings.slice_ns;
        }
        if behind.hold.remote_waiters.contains(&(from, origin)) {
            return;
        }
        behind.hold.remote_waiters.push((from, origin));
        self.mesh.push_hold(from, origin, wanted);
    }

    /// Another shard asks to hold or release one of this shard's publishers.
    pub(crate) fn handle_hold(
        &mut self,
        from: ShardId,
        origin: Origin,
        hold: Hold,
        now: Now,
        fx: &mut Effects,
    ) {
        let slice_ns = self.settings.hold.slice_ns;
        let Some(conn) = self.conns.get_mut(origin.slot as usize) else { return };
        if conn.generation != origin.generation {
            return;
        }
        match hold {
            Hold::Release => self.unpause(origin.slot, origin.generation, paused::HOLD, fx),
            Hold::Soft if conn.hold.fed.is_contested(peer_place(from), now, slice_ns) => {}
            Hold::Soft | Hold::Hard => {
                if conn.paused & paused::HOLD == 0 {
                    conn.paused |= paused::HOLD;
                    conn.traffic.stalls += 1;
                    self.stats.stalls += 1;
                }
                conn.hold.held_by = None;
                conn.hold.until_ns = now.mono_ns + slice_ns;
                let at = conn.hold.until_ns;
                self.timers.arm(at, origin.slot, origin.generation, TimerKind::Hold);
            }
        }
    }

    /// A slice of holding is over: go on holding while the receiver makes progress.
    pub(crate) fn handle_hold_due(&mut self, slot: u32, now: Now, fx: &mut Effects) {
        let slice_ns = self.settings.hold.slice_ns;
        let Some(conn) = self.conns.get(slot as usize) else { return };
        if conn.paused & paused::HOLD == 0 || now.mono_ns < conn.hold.until_ns {
            return;
        }
        let generation = conn.generation;
        let held_by = conn.hold.held_by;
        let contested = held_by
            .is_none_or(|(receiver, ..)| conn.hold.fed.is_contested(receiver, now, slice_ns));
        if let Some((receiver, of, sent)) = held_by
            && let Some(behind) = self.conns.get_mut(receiver as usize)
            && behind.generation == of
        {
            let progress = behind.sent_bytes != sent;
            let sent = behind.sent_bytes;
            if progress && !contested && wanted_hold(behind, &self.settings.hold).is_some() {
                if let Some(conn) = self.conns.get_mut(slot as usize) {
                    conn.hold.until_ns = now.mono_ns + slice_ns;
                    conn.hold.held_by = Some((receiver, of, sent));
                }
                return self.timers.arm(now.mono_ns + slice_ns, slot, generation, TimerKind::Hold);
            }
            if !progress {
                behind.hold.stuck_at_sent = Some(sent);
            }
            behind.hold.waiters.retain(|waiter| *waiter != (slot, generation));
        }
        self.unpause(slot, generation, paused::HOLD, fx);
    }

    /// A receiver's socket took bytes: below half of the soft limit its publishers go on.
    pub(crate) fn release_waiters(&mut self, receiver: u32, fx: &mut Effects) {
        let low = self.settings.hold.soft_pending_bytes / 2;
        let Some(conn) = self.conns.get_mut(receiver as usize) else { return };
        if conn.blocked && conn.outbox.pending_bytes() > low {
            return;
        }
        self.release_all_waiters(receiver, fx);
    }

    /// Lets everybody go on who waits for this receiver.
    pub(crate) fn release_all_waiters(&mut self, receiver: u32, fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(receiver as usize) else { return };
        let local = std::mem::take(&mut conn.hold.waiters);
        let remote = std::mem::take(&mut conn.hold.remote_waiters);
        for (slot, generation) in local {
            self.unpause(slot, generation, paused::HOLD, fx);
        }
        for (shard, origin) in remote {
            self.mesh.push_hold(shard, origin, Hold::Release);
        }
    }

    /// A receiver that has sent everything gets its budget back, not too often.
    #[inline]
    pub(crate) fn refill_hold_budget(&mut self, slot: u32, now: Now) {
        let refill_ns = self.settings.hold.refill_ns;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.hold.contested_used_ns != 0
            && conn.outbox.pending_bytes() == 0
            && now.mono_ns >= conn.hold.refilled_ns + refill_ns
        {
            conn.hold.contested_used_ns = 0;
            conn.hold.refilled_ns = now.mono_ns;
        }
    }
}

/// The last two different receivers that kept up when a publisher fed them, and when that was.
/// A receiver on another shard is known by its shard, see [`peer_place`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fed {
    last: (u32, u64),
    other: (u32, u64),
}

/// Stands for all receivers of a shard among the slots of this one.
pub(crate) fn peer_place(shard: ShardId) -> u32 {
    u32::MAX - u32::from(shard)
}

impl Fed {
    /// Notes a receiver that keeps up.
    #[inline]
    pub(crate) fn note(&mut self, receiver: u32, now_ns: u64) {
        if self.last.0 != receiver {
            self.other = self.last;
        }
        self.last = (receiver, now_ns);
    }

    /// Whether holding the publisher for `receiver` would hurt another one that keeps up.
    fn is_contested(&self, receiver: u32, now: Now, slice_ns: u64) -> bool {
        [self.last, self.other].iter().any(|(slot, at)| {
            *at != 0
                && *slot != receiver
                && now.mono_ns.saturating_sub(*at) < CONTESTED_SLICES * slice_ns
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_receiver_that_keeps_up_contests_a_hold() {
        let now = |mono_ns| Now { mono_ns, wall_ns: 0 };
        let mut fed = Fed::default();
        assert!(!fed.is_contested(1, now(100), 5));
        fed.note(1, 100);
        assert!(!fed.is_contested(1, now(101), 5));
        fed.note(2, 101);
        fed.note(1, 102);
        assert!(fed.is_contested(1, now(103), 5));
        assert!(!fed.is_contested(1, now(200), 5));
    }
}
