//! The broker of one shard: its connections, its replica of the subject index, and the decisions
//! of core NATS. Everything comes in through `handle_*` and leaves through [`Effects`].

use std::sync::Arc;

use slab::Slab;

use crate::account::Account;
use crate::account::answers::Answers;
use crate::auth::AuthTable;
use crate::clock::Now;
use crate::conn::outbox::{ChunkPool, Outbox};
use crate::conn::{Conn, Sub};
use crate::effect::{Close, Effects};
use crate::index::{Matches, ShardId, SubId};
use crate::mesh::Mesh;
use crate::monitor_ring::ClosedRing;
use crate::publish::{Plans, Run};
use crate::random::Random;
use crate::settings::Settings;
use crate::stats::Stats;
use crate::timers::Timers;
use wire::client::errors::ClosedReason;

/// One shard's part of core NATS.
#[derive(Debug)]
pub struct Broker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) auth: Arc<AuthTable>,
    pub(crate) conns: Slab<Conn>,
    pub(crate) generation: u32,
    pub(crate) subs: Slab<Sub>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) plans: Plans,
    pub(crate) pool: ChunkPool,
    pub(crate) mesh: Mesh,
    pub(crate) timers: Timers,
    pub(crate) random: Random,
    /// Counters of the shard.
    pub stats: Stats,
    pub(crate) closed: ClosedRing,
    pub(crate) barriers: Vec<(u32, u32)>,
    pub(crate) matches: Matches,
    pub(crate) head: Vec<u8>,
    pub(crate) expired: Vec<SubId>,
    pub(crate) run: Run,
    pub(crate) lame_duck: bool,
    pub(crate) index_seed: u64,
    pub(crate) service: crate::service::ServiceInbox,
    pub(crate) service_body: Vec<u8>,
    /// Requests across accounts that wait for answers.
    pub(crate) answers: Answers,
    /// How many accounts the message that is being delivered has come through.
    pub(crate) hops: u32,
}

impl Broker {
    /// The broker of shard `me` of `shards`; `seed` drives every random choice.
    #[must_use]
    pub fn new(me: ShardId, shards: usize, settings: Arc<Settings>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let index_seed = random.next_u64();
        let plans = Plans::new(random.next_u64(), settings.limits.plans_max);
        let closed = ClosedRing::new(settings.limits.closed_connections_max);
        let accounts =
            settings.accounts.iter().map(|account| Account::new(account, index_seed)).collect();
        Self {
            auth: Arc::clone(&settings.auth_table),
            conns: Slab::new(),
            generation: 0,
            subs: Slab::new(),
            accounts,
            plans,
            pool: ChunkPool::default(),
            mesh: Mesh::new(me, shards, settings.mesh.clone()),
            timers: Timers::default(),
            random,
            stats: Stats::default(),
            closed,
            barriers: Vec::new(),
            matches: Matches::default(),
            head: Vec::new(),
            expired: Vec::new(),
            run: Run::default(),
            lame_duck: false,
            index_seed,
            service: crate::service::ServiceInbox::default(),
            service_body: Vec::new(),
            answers: Answers::new(me, seed),
            hops: 0,
            settings,
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// What waits to be sent to a connection.
    #[must_use]
    pub fn outbox(&self, slot: u32) -> Option<&Outbox> {
        self.conns.get(slot as usize).map(|conn| &conn.outbox)
    }

    /// A connection.
    #[must_use]
    pub fn conn(&self, slot: u32) -> Option<&Conn> {
        self.conns.get(slot as usize)
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// The mesh, for the driver to carry its batches.
    pub fn mesh(&mut self) -> &mut Mesh {
        &mut self.mesh
    }

    /// The earliest moment at which [`Self::handle_timers`] has something to do.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.timers.next_ns()
    }

    /// Begins a new turn's flush: connections may be marked dirty again.
    pub fn take_dirty(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.dirty = false;
        }
    }

    /// The socket took `bytes` of the outbox; `blocked` when it took less than was offered.
    pub fn handle_sent(
        &mut self,
        slot: u32,
        bytes: usize,
        blocked: bool,
        now: Now,
        fx: &mut Effects,
    ) {
        let deadline_ns = self.settings.limits.write_deadline_ns;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.outbox.handle_sent(bytes, &mut self.pool);
        conn.sent_bytes += bytes as u64;
        if bytes > 0 || !conn.blocked {
            conn.blocked_since_ns = now.mono_ns;
        }
        conn.blocked = blocked;
        if blocked && !conn.write_timer {
            conn.write_timer = true;
            let generation = conn.generation;
            self.timers.arm_write(now.mono_ns + deadline_ns, slot, generation);
        }
        if !conn.hold.waiters.is_empty() || !conn.hold.remote_waiters.is_empty() {
            self.release_waiters(slot, fx);
        }
        self.refill_hold_budget(slot, now);
    }

    /// Marks a connection for closing at the end of the turn. Only the first reason counts.
    pub(crate) fn close(&mut self, slot: u32, reason: ClosedReason, flush: bool, fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.phase == crate::conn::Phase::Closing {
            return;
        }
        conn.phase = crate::conn::Phase::Closing;
        conn.close_reason = Some(reason);
        fx.closes.push(Close { slot, reason, flush });
    }

    /// Appends protocol bytes to a connection's outbox.
    pub(crate) fn send(&mut self, slot: u32, bytes: &[u8], fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.outbox.push(bytes, &mut self.pool);
        let trace = fx.trace;
        fx.output_bytes += bytes.len();
        mark_dirty(conn, slot, fx);
        if trace {
            self.trace_out(slot, bytes, fx);
        }
    }
}

/// Puts a connection on the list of those to be flushed, once.
#[inline]
pub(crate) fn mark_dirty(conn: &mut Conn, slot: u32, fx: &mut Effects) {
    if !conn.dirty {
        conn.dirty = true;
        fx.dirty.push(slot);
    }
}
