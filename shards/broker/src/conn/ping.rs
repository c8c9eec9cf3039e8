//! PING and PONG: liveness, round-trip time, and the flush barrier behind a client's PING.

use wire::client::encode::{PING, PONG};
use wire::client::errors::ClientError;

use super::{Conn, Phase, paused};
use crate::broker::Broker;
use crate::clock::Now;
use crate::effect::Effects;
use crate::settings::SECOND_NS;
use crate::timers::TimerKind;

/// Time from accept to the server's first ping, which measures the round trip.
const FIRST_PING_NS: u64 = 2 * SECOND_NS;
/// The first ping is put off by up to this, so that a crowd of clients is not pinged at once.
const FIRST_PING_JITTER_MS: u32 = 400;
/// Pings are due at multiples of this, so that an idle shard wakes once for many.
const PING_GRID_NS: u64 = SECOND_NS / 10;
/// A round trip that has been measured is good for this long.
const RTT_VALID_NS: u64 = 3600 * SECOND_NS;

impl Broker {
    /// A client's PING: answered when its earlier SUBs are known to, and its earlier PUBs queued
    /// on, every shard.
    pub(crate) fn handle_ping(&mut self, slot: u32, fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.last_emit != 0 {
            let targets = self.mesh.barrier(conn.last_emit);
            if targets.is_empty() {
                conn.last_emit = 0;
            } else {
                conn.barrier = targets;
                conn.paused |= paused::BARRIER;
                let waiter = (slot, conn.generation);
                self.barriers.push(waiter);
                return;
            }
        }
        self.send_pong(slot, fx);
    }

    fn send_pong(&mut self, slot: u32, fx: &mut Effects) {
        self.send(slot, PONG, fx);
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.connected && !conn.first_pong_sent {
            conn.first_pong_sent = true;
            if conn.protocol >= 1 {
                self.send_info(slot, true, fx);
            }
        }
    }

    /// Answers the PINGs whose barrier has been passed.
    pub(crate) fn handle_acknowledged(&mut self, fx: &mut Effects) {
        if self.barriers.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.barriers);
        for (slot, generation) in waiting {
            let Some(conn) = self.conns.get_mut(slot as usize) else { continue };
            if conn.generation != generation {
                continue;
            }
            if self.mesh.is_passed(&conn.barrier) {
                conn.barrier.clear();
                self.send_pong(slot, fx);
                self.unpause(slot, generation, paused::BARRIER, fx);
            } else {
                self.barriers.push((slot, generation));
            }
        }
    }

    pub(crate) fn handle_pong(&mut self, slot: u32, now: Now) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.ping_sent_ns != 0 && conn.pings_out > 0 {
            conn.rtt_ns = now.mono_ns.saturating_sub(conn.ping_sent_ns).max(1);
        }
        conn.pings_out = 0;
    }

    /// Arms the first ping of a new connection.
    pub(crate) fn arm_first_ping(&mut self, slot: u32, generation: u32, now: Now) {
        let jitter = u64::from(self.random.below(FIRST_PING_JITTER_MS)) * 1_000_000;
        let interval = self.settings.limits.ping_interval_ns;
        let at = now.mono_ns + (FIRST_PING_NS + jitter).min(interval);
        self.timers.arm(on_grid(at, interval), slot, generation, TimerKind::Ping);
    }

    /// A ping is due: skipped after recent traffic, unless no round trip has been measured.
    pub(crate) fn handle_ping_due(&mut self, slot: u32, now: Now, fx: &mut Effects) {
        let (interval, max) = {
            let limits = &self.settings.limits;
            (limits.ping_interval_ns, limits.ping_max)
        };
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let generation = conn.generation;
        let mut next = now.mono_ns + interval;
        if conn.phase == Phase::Ready && conn.connected {
            let idle = now.mono_ns.saturating_sub(conn.last_input_ns);
            let measured =
                conn.rtt_ns != 0 && now.mono_ns.saturating_sub(conn.ping_sent_ns) < RTT_VALID_NS;
            if idle < interval && measured && conn.pings_out == 0 {
                next = conn.last_input_ns + interval;
            } else if conn.pings_out + 1 > max && idle >= interval {
                self.stats.stale += 1;
                self.log_conn(
                    slot,
                    crate::effect::Level::Debug,
                    "Stale Client Connection - Closing",
                    fx,
                );
                return self.send_error(slot, &ClientError::StaleConnection, fx);
            } else {
                note_ping(conn, now);
                self.send(slot, PING, fx);
            }
        }
        self.timers.arm(on_grid(next, interval), slot, generation, TimerKind::Ping);
    }
}

/// The next point of the grid, unless pings come so often that it would matter.
fn on_grid(at_ns: u64, interval_ns: u64) -> u64 {
    if interval_ns < 20 * PING_GRID_NS { at_ns } else { at_ns.next_multiple_of(PING_GRID_NS) }
}

fn note_ping(conn: &mut Conn, now: Now) {
    conn.pings_out += 1;
    conn.ping_sent_ns = now.mono_ns;
}
