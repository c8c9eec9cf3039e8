//! Sockets and links: what the reactor does with effects, with everything that it leaves to
//! chance drawn from the seed. A turn of a shard may take several inputs before it ends.

use std::collections::VecDeque;

use broker::mesh::Batch;
use shard::Progress;
use wire::client::errors::ClosedReason;

use crate::world::World;

/// Batches that a link holds.
const LINK_BATCHES_MAX: usize = 3;
/// Pieces of an outbox in one write.
const SLICES_MAX: usize = 64;
/// Most bytes that a client's socket takes before it is full.
const WINDOW_BYTES_MAX: usize = 20_000;

/// Batches on their way from one shard to another, with the times at which they arrive, ns.
pub(crate) type Link = VecDeque<(u64, Batch)>;

impl World {
    /// Some bytes of a client reach its shard. They are cut anywhere.
    pub(crate) fn carry_up(&mut self, at: usize) {
        let Some(client) = self.clients.get(at) else { return };
        let (shard, slot) = (client.shard, client.slot);
        let broker = &self.shards[shard].broker;
        if !client.open || client.upstream.is_empty() || broker.is_paused(slot) {
            return;
        }
        let room = broker.read_bytes_max(slot).min(client.upstream.len());
        let most = if self.below(3) == 0 { room } else { room.min(3000) };
        let count = 1 + self.below(most);
        let bytes: Vec<u8> = self.clients[at].upstream.drain(..count).collect();
        let mut rest = bytes.as_slice();
        loop {
            let broker = &mut self.shards[shard].broker;
            let progress = broker.handle_input(slot, rest, self.now, &mut self.effects[shard]);
            let Progress::More(taken) = progress else { break };
            rest = &rest[taken..];
            self.flush(shard);
        }
        self.flush_when_full(shard);
        self.may_end_turn(shard);
    }

    /// A client takes bytes out of its socket; a shard that had been refused writes again.
    pub(crate) fn open_window(&mut self, at: usize) {
        let more = 1 + self.below(6000);
        let client = &mut self.clients[at];
        client.window = (client.window + more).min(WINDOW_BYTES_MAX);
        if client.open && !client.writable {
            client.writable = true;
            let (shard, slot) = (client.shard, client.slot);
            self.flush_slot(shard, slot);
            self.may_end_turn(shard);
        }
    }

    /// A batch arrives on a link.
    pub(crate) fn carry_batch(&mut self) {
        let count = self.shards.len();
        let (from, to) = (self.below(count), self.below(count));
        let link = &mut self.links[from][to];
        if link.front().is_none_or(|(at, _)| *at > self.now.mono_ns) {
            return;
        }
        let Some((_, batch)) = link.pop_front() else { return };
        self.shards[to].broker.handle_batch(batch, self.now, &mut self.effects[to]);
        self.flush_when_full(to);
        self.may_end_turn(to);
        // The sender is woken, since there is room on the link again.
        self.may_end_turn(from);
    }

    /// Time passes between turns, up to 2 ms.
    pub(crate) fn pass_time(&mut self) {
        let by = 1 + u64::from(self.random.below(2_000_000));
        for shard in 0..self.shards.len() {
            self.end_turn(shard);
        }
        self.now.mono_ns += by;
        self.now.wall_ns += by as i64;
        for shard in 0..self.shards.len() {
            let broker = &mut self.shards[shard].broker;
            if broker.next_deadline_ns().is_some_and(|at| at <= self.now.mono_ns) {
                broker.handle_timers(self.now, &mut self.effects[shard]);
                // In a turn the events of sockets come before the timers, never after.
                self.end_turn(shard);
            }
        }
    }

    fn may_end_turn(&mut self, shard: usize) {
        if self.below(3) > 0 {
            self.end_turn(shard);
        }
    }

    /// Carries out a shard's effects as the reactor does at the end of a turn.
    pub(crate) fn end_turn(&mut self, shard: usize) {
        loop {
            self.flush(shard);
            self.close_all(shard);
            self.send_batches(shard);
            self.shards[shard].broker.handle_mesh_drained(&mut self.effects[shard]);
            if self.effects[shard].resumed.is_empty() {
                break;
            }
            self.resume_all(shard);
        }
        self.effects[shard].logs.clear();
    }

    fn resume_all(&mut self, shard: usize) {
        while let Some(slot) = self.effects[shard].resumed.pop() {
            self.resumes += 1;
            loop {
                let fx = &mut self.effects[shard];
                let progress = self.shards[shard].broker.handle_resume(slot, self.now, fx);
                if progress == Progress::Done {
                    break;
                }
                self.flush(shard);
            }
        }
    }

    fn flush_when_full(&mut self, shard: usize) {
        let limits = &self.shards[shard].broker.settings().limits;
        if self.effects[shard].output_bytes > self.effects[shard].output_budget(limits) {
            self.flush(shard);
        }
    }

    fn flush(&mut self, shard: usize) {
        self.effects[shard].output_bytes = 0;
        for slot in std::mem::take(&mut self.effects[shard].dirty) {
            self.shards[shard].broker.take_dirty(slot);
            self.flush_slot(shard, slot);
        }
    }

    fn owner(&self, shard: usize, slot: u32) -> Option<usize> {
        self.clients.iter().position(|c| c.open && c.shard == shard && c.slot == slot)
    }

    /// Writes what a connection has, unless its socket is known to be full.
    fn flush_slot(&mut self, shard: usize, slot: u32) {
        let Some(at) = self.owner(shard, slot) else { return };
        loop {
            let client = &mut self.clients[at];
            let broker = &mut self.shards[shard].broker;
            let Some(outbox) = broker.outbox(slot) else { return };
            if !client.writable || outbox.pending_bytes() == 0 {
                return;
            }
            let mut offered = 0;
            let mut taken = 0;
            for slice in outbox.slices(SLICES_MAX) {
                offered += slice.len();
                let part = slice.len().min(client.window);
                client.inbox.extend_from_slice(&slice[..part]);
                client.window -= part;
                taken += part;
            }
            client.writable = taken == offered;
            if taken > 0 {
                client.took_ns = self.now.mono_ns;
            }
            self.refused_writes += usize::from(!client.writable);
            let fx = &mut self.effects[shard];
            broker.handle_sent(slot, taken, taken < offered, self.now, fx);
        }
    }

    fn close_all(&mut self, shard: usize) {
        while let Some(close) = self.effects[shard].closes.pop() {
            if close.flush {
                self.flush_slot(shard, close.slot);
            }
            let broker = &mut self.shards[shard].broker;
            broker.handle_closed(close.slot, self.now, &mut self.effects[shard]);
            let Some(at) = self.owner(shard, close.slot) else { continue };
            self.note(format!("client {at} is closed: {}", close.reason.as_str()));
            if !self.may_close(at, close.reason) {
                let reason = close.reason.as_str();
                self.broken
                    .get_or_insert(format!("client {at} was closed without cause: {reason}"));
            }
            self.closed += usize::from(!self.clients[at].leaving);
            let client = &mut self.clients[at];
            client.open = false;
            client.closed_at = Some(self.step_count);
            client.upstream.clear();
        }
    }

    /// Whether a client has given cause for being closed.
    fn may_close(&self, at: usize, reason: ClosedReason) -> bool {
        let client = &self.clients[at];
        let limits = &self.shards[client.shard].broker.settings().limits;
        match reason {
            ClosedReason::ClientClosed => client.leaving,
            ClosedReason::ProtocolViolation | ClosedReason::AuthenticationFailure => {
                client.spoiled.is_some()
            }
            ClosedReason::SlowConsumerPendingBytes => self.has_small_pending,
            ClosedReason::SlowConsumerWriteDeadline => {
                self.now.mono_ns - client.took_ns >= limits.write_deadline_ns
            }
            ClosedReason::StaleConnection => self.has_short_pings,
            _ => false,
        }
    }

    fn send_batches(&mut self, shard: usize) {
        let mesh = self.shards[shard].broker.mesh();
        mesh.seal();
        for peer in mesh.peer_ids() {
            let link = &mut self.links[shard][usize::from(peer)];
            while let Some(batch) = mesh.pop(peer) {
                if link.len() >= LINK_BATCHES_MAX {
                    mesh.unpop(peer, batch);
                    self.refused_batches += 1;
                    break;
                }
                let delay = u64::from(self.random.below(300_000));
                let after = link.back().map_or(0, |(at, _)| *at);
                link.push_back(((self.now.mono_ns + delay).max(after), batch));
            }
        }
    }

    /// A client goes away without a word.
    pub(crate) fn disconnect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.open && !client.leaving {
            client.leaving = true;
            client.inbox.clear();
            client.upstream.clear();
            let (shard, slot) = (client.shard, client.slot);
            let broker = &mut self.shards[shard].broker;
            broker.handle_disconnect(slot, ClosedReason::ClientClosed, &mut self.effects[shard]);
            self.may_end_turn(shard);
        }
    }
}
