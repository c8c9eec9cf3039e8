//! Turns: what reaches a shard, what it does then, and what becomes of its effects, as in the
//! reactor, with everything that the reactor leaves to chance drawn from the seed.

use broker::conn::Progress;
use shard::Shard;

use super::world::World;
use crate::oracle::Failure;

/// The longest that nothing is looked at, ns.
const JUMP_NS_MAX: u64 = 200_000_000;
/// Batches that a link holds.
const LINK_BATCHES_MAX: usize = 3;

impl World {
    /// Something happens that the seed chooses.
    ///
    /// # Errors
    /// A broken rule.
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        self.step_count += 1;
        if self.one_in(20) {
            self.pass_time();
            return Ok(());
        }
        let choice = self.below(12);
        let did = match choice {
            0..=3 => self.carry_up(),
            4..=6 => self.carry_batch(),
            7..=9 => self.land_disk(),
            _ => self.read_down()?,
        };
        if !did {
            // Whatever there is to do, before time passes.
            let did = self.carry_up() || self.carry_batch() || self.land_disk();
            if !did && !self.read_down()? && !self.end_turns() {
                self.jump();
            }
        }
        Ok(())
    }

    pub(super) fn end_turns(&mut self) -> bool {
        let mut did = false;
        for shard in 0..self.shards.len() {
            did |= self.has_more[shard];
            self.end_turn(shard);
        }
        did || self.clients.iter().any(|client| !client.inbox.is_empty())
    }

    /// Some bytes of a client reach its shard. They are cut anywhere.
    pub(super) fn carry_up(&mut self) -> bool {
        let ready: Vec<usize> = (0..self.clients.len())
            .filter(|at| {
                let client = &self.clients[*at];
                client.open
                    && !client.upstream.is_empty()
                    && !self.shards[client.shard].broker.is_paused(client.slot)
            })
            .collect();
        if ready.is_empty() {
            return false;
        }
        let at = ready[self.below(ready.len())];
        let (shard, slot) = (self.clients[at].shard, self.clients[at].slot);
        let room = self.shards[shard].broker.read_bytes_max(slot);
        let room = room.min(self.clients[at].upstream.len());
        let count = if self.one_in(3) { 1 + self.below(room) } else { room };
        let bytes: Vec<u8> = self.clients[at].upstream.drain(..count).collect();
        let mut rest = bytes.as_slice();
        loop {
            let broker = &mut self.shards[shard].broker;
            let progress = broker.handle_input(slot, rest, self.now, &mut self.effects[shard]);
            let Progress::More(taken) = progress else { break };
            rest = &rest[taken..];
            self.flush(shard);
        }
        self.may_end_turn(shard);
        true
    }

    pub(super) fn carry_batch(&mut self) -> bool {
        let count = self.shards.len();
        let now_ns = self.now.mono_ns;
        let ready: Vec<(usize, usize)> = (0..count)
            .flat_map(|from| (0..count).map(move |to| (from, to)))
            .filter(|(from, to)| {
                self.links[*from][*to].front().is_some_and(|(at, _)| *at <= now_ns)
            })
            .collect();
        if ready.is_empty() {
            return false;
        }
        let (from, to) = ready[self.below(ready.len())];
        if let Some((_, batch)) = self.links[from][to].pop_front() {
            self.shards[to].broker.handle_batch(batch, self.now, &mut self.effects[to]);
        }
        self.may_end_turn(to);
        self.may_end_turn(from);
        true
    }

    pub(super) fn land_disk(&mut self) -> bool {
        self.disk.work(self.now.mono_ns);
        let Some(landed) = self.disk.take_done(self.now.mono_ns) else { return false };
        if let Some(path) = landed.failed {
            self.note(format!("{path} fails: {:?}", landed.done.result));
            self.model.handle_log_failed(&path);
        }
        self.shards[landed.shard].handle_disk_done(landed.done, self.now);
        self.may_end_turn(landed.shard);
        true
    }

    /// Time passes, up to 2 ms.
    pub(super) fn pass_time(&mut self) {
        let by = 1 + u64::from(self.random.below(2_000_000));
        self.pass(by);
    }

    /// Time passes up to the next thing that is due.
    pub(super) fn jump(&mut self) {
        let now_ns = self.now.mono_ns;
        let shards = self.shards.iter().filter_map(Shard::next_deadline_ns);
        let links = self.links.iter().flatten().filter_map(|link| link.front().map(|(at, _)| *at));
        let next = shards.chain(links).chain(self.disk.next_ns(now_ns)).min();
        let next = next.unwrap_or(now_ns + 1_000_000).clamp(now_ns + 1, now_ns + JUMP_NS_MAX);
        self.pass(next - now_ns);
    }

    pub(crate) fn pass(&mut self, by: u64) {
        for shard in 0..self.shards.len() {
            self.end_turn(shard);
        }
        self.now.mono_ns += by;
        self.now.wall_ns += by as i64;
        self.model.see_time(self.now);
        for shard in 0..self.shards.len() {
            if self.shards[shard].next_deadline_ns().is_some_and(|at| at <= self.now.mono_ns) {
                self.shards[shard].handle_timers(self.now, &mut self.effects[shard]);
                self.end_turn(shard);
            }
        }
    }

    pub(super) fn may_end_turn(&mut self, shard: usize) {
        if !self.one_in(3) {
            self.end_turn(shard);
        }
    }

    /// Carries out a shard's effects as the reactor does at the end of a turn.
    pub(super) fn end_turn(&mut self, shard: usize) {
        loop {
            let fx = &mut self.effects[shard];
            self.has_more[shard] = self.shards[shard].handle_services(self.now, fx);
            self.flush(shard);
            self.close_all(shard);
            self.send_batches(shard);
            self.shards[shard].broker.handle_mesh_drained(&mut self.effects[shard]);
            if self.effects[shard].resumed.is_empty() {
                break;
            }
            self.resume_all(shard);
        }
        self.take_logs(shard);
        let ops = self.shards[shard].take_disk_ops();
        self.disk.submit(shard, ops, self.now.mono_ns);
    }

    /// Reads what a shard says in the log.
    pub(super) fn take_logs(&mut self, shard: usize) {
        let logs = std::mem::take(&mut self.effects[shard].logs);
        for (level, text) in logs {
            if matches!(level, shard::Level::Error | shard::Level::Warn) {
                self.note(format!("log: {text}"));
            }
            if matches!(level, shard::Level::Error) {
                self.counts.log_errors += 1;
                self.errors.push(text);
            }
        }
    }

    pub(super) fn resume_all(&mut self, shard: usize) {
        while let Some(slot) = self.effects[shard].resumed.pop() {
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

    pub(super) fn flush(&mut self, shard: usize) {
        self.effects[shard].output_bytes = 0;
        for slot in std::mem::take(&mut self.effects[shard].dirty) {
            self.shards[shard].broker.take_dirty(slot);
            self.flush_slot(shard, slot);
        }
    }

    pub(super) fn flush_slot(&mut self, shard: usize, slot: u32) {
        let Some(client) =
            self.clients.iter_mut().find(|c| c.open && c.shard == shard && c.slot == slot)
        else {
            return;
        };
        let broker = &mut self.shards[shard].broker;
        loop {
            let Some(outbox) = broker.outbox(slot) else { return };
            if outbox.pending_bytes() == 0 {
                return;
            }
            let mut taken = 0;
            for slice in outbox.slices(64) {
                client.inbox.extend_from_slice(slice);
                taken += slice.len();
            }
            broker.handle_sent(slot, taken, false, self.now, &mut self.effects[shard]);
        }
    }

    pub(super) fn close_all(&mut self, shard: usize) {
        while let Some(close) = self.effects[shard].closes.pop() {
            let broker = &mut self.shards[shard].broker;
            broker.handle_closed(close.slot, self.now, &mut self.effects[shard]);
            let reason = close.reason.as_str();
            self.errors.push(format!("client closed: {reason}"));
            if let Some(client) =
                self.clients.iter_mut().find(|c| c.open && c.shard == shard && c.slot == close.slot)
            {
                client.open = false;
            }
        }
    }

    pub(super) fn send_batches(&mut self, shard: usize) {
        let mesh = self.shards[shard].broker.mesh();
        mesh.seal();
        for peer in mesh.peer_ids() {
            let link = &mut self.links[shard][usize::from(peer)];
            while let Some(batch) = mesh.pop(peer) {
                if link.len() >= LINK_BATCHES_MAX {
                    mesh.unpop(peer, batch);
                    break;
                }
                let delay = u64::from(self.random.below(300_000));
                let after = link.back().map_or(0, |(at, _)| *at);
                link.push_back(((self.now.mono_ns + delay).max(after), batch));
            }
        }
    }
}
