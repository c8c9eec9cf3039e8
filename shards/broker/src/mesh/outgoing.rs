//! What a shard has to send to each peer: the open batch, sealed batches that wait for the ring,
//! and how far the peer has acknowledged. Lives on: every shard.

use std::collections::VecDeque;

use super::batch::{Batch, Hold, Message, Origin};
use crate::index::ShardId;
use crate::settings::MeshSettings;

/// One peer shard.
#[derive(Debug, Default)]
pub struct Peer {
    open: Option<Batch>,
    sealed: VecDeque<Batch>,
    sealed_bytes: usize,
    /// Highest sequence opened for this peer.
    last_seq: u64,
    /// Highest sequence the peer has acknowledged.
    acked: u64,
    /// Highest sequence of the peer's batches applied here.
    applied: u64,
    /// The peer wants to hear of `applied`.
    ack_owed: bool,
    /// Spare buffer of an earlier batch.
    spare: Vec<u8>,
    /// Publishers held until the backlog shrinks.
    pub(crate) waiting: Vec<Origin>,
}

/// All peers of a shard.
#[derive(Debug)]
pub struct Mesh {
    me: ShardId,
    peers: Vec<Peer>,
    seq: u64,
    /// Sequence up to which batches carry changes of interest.
    interest_seq: u64,
    settings: MeshSettings,
    /// Messages handed to peers since the start.
    pub messages_out: u64,
    /// Messages taken from peers since the start.
    pub messages_in: u64,
}

impl Mesh {
    /// The mesh of shard `me` among `shards`.
    #[must_use]
    pub fn new(me: ShardId, shards: usize, settings: MeshSettings) -> Self {
        let peers = (0..shards).map(|_| Peer::default()).collect();
        Self { me, peers, seq: 0, interest_seq: 0, settings, messages_out: 0, messages_in: 0 }
    }

    /// This shard.
    #[must_use]
    pub fn me(&self) -> ShardId {
        self.me
    }

    /// The other shards.
    pub fn peer_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        let me = self.me;
        (0..self.peers.len() as ShardId).filter(move |id| *id != me)
    }

    fn open(&mut self, to: ShardId) -> Option<&mut Batch> {
        let peer = self.peers.get_mut(usize::from(to))?;
        if peer.open.as_ref().is_some_and(|b| b.bytes.len() >= self.settings.batch_bytes_max) {
            peer.seal();
        }
        if peer.open.is_none() {
            self.seq += 1;
            peer.last_seq = self.seq;
            let bytes = std::mem::take(&mut peer.spare);
            peer.open = Some(Batch { from: self.me, seq: self.seq, bytes, ..Batch::default() });
        }
        peer.open.as_mut()
    }

    /// Queues a message for a peer and returns the sequence of the batch that carries it.
    pub fn push_message(&mut self, to: ShardId, message: &Message<'_>) -> u64 {
        self.messages_out += 1;
        let Some(batch) = self.open(to) else { return 0 };
        batch.push_message(message);
        batch.seq
    }

    /// Queues a change of interest for every peer and returns the last batch's sequence.
    pub fn push_interest(
        &mut self,
        account: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        weight: u32,
    ) -> u64 {
        for to in self.peer_ids() {
            if let Some(batch) = self.open(to) {
                batch.push_interest(account, subject, queue, weight);
            }
        }
        self.interest_seq = self.seq;
        self.seq
    }

    /// Sequence that covers every change of interest queued so far.
    #[must_use]
    pub fn interest_seq(&self) -> u64 {
        self.interest_seq
    }

    /// Tells a publisher's shard that nobody took its message.
    pub fn push_undelivered(&mut self, to: ShardId, origin: Origin, subject: &[u8], reply: &[u8]) {
        if let Some(batch) = self.open(to) {
            batch.push_undelivered(origin, subject, reply);
        }
    }

    /// Sends bytes from the services of this shard to those of another.
    pub fn push_service(&mut self, to: ShardId, bytes: &[u8]) {
        if let Some(batch) = self.open(to) {
            batch.push_service(bytes);
        }
    }

    /// Queues a hold or release of a publisher.
    pub fn push_hold(&mut self, to: ShardId, origin: Origin, hold: Hold) {
        if let Some(batch) = self.open(to) {
            batch.push_hold(origin, hold);
        }
    }

    /// True when so much waits for the peer that publishers to it must be held.
    #[must_use]
    pub fn is_backed_up(&self, to: ShardId) -> bool {
        self.peers
            .get(usize::from(to))
            .is_some_and(|p| p.sealed_bytes >= self.settings.backlog_bytes_max)
    }

    /// Remembers a publisher to be released when the peer's backlog shrinks.
    pub fn wait_for(&mut self, to: ShardId, origin: Origin) {
        if let Some(peer) = self.peers.get_mut(usize::from(to)) {
            peer.waiting.push(origin);
        }
    }

    /// For each peer the sequence that it has to acknowledge before everything queued so far,
    /// by a connection whose last parcel went out with `last_seq`, is known to be applied.
    /// Empty when that is already so. Acknowledgements are asked for.
    pub fn barrier(&mut self, last_seq: u64) -> Vec<(ShardId, u64)> {
        let mut targets = Vec::new();
        for to in self.peer_ids() {
            let Some(peer) = self.peers.get_mut(usize::from(to)) else { continue };
            if peer.acked >= peer.last_seq.min(last_seq) {
                continue;
            }
            targets.push((to, peer.last_seq));
            if let Some(open) = peer.open.as_mut() {
                open.ack_wanted = true;
            } else if let Some(sealed) = peer.sealed.back_mut() {
                sealed.ack_wanted = true;
            } else if let Some(batch) = self.open(to) {
                batch.ack_wanted = true;
            }
        }
        targets
    }

    /// True when every target of [`Self::barrier`] has been acknowledged.
    #[must_use]
    pub fn is_passed(&self, targets: &[(ShardId, u64)]) -> bool {
        targets
            .iter()
            .all(|(id, seq)| self.peers.get(usize::from(*id)).is_none_or(|peer| peer.acked >= *seq))
    }

    /// Notes the frame of a batch that was applied here. True when acknowledgements moved.
    pub fn handle_applied(&mut self, batch: &Batch) -> bool {
        self.messages_in += u64::from(batch.messages);
        let Some(peer) = self.peers.get_mut(usize::from(batch.from)) else { return false };
        peer.applied = peer.applied.max(batch.seq);
        peer.ack_owed |= batch.ack_wanted;
        let moved = batch.acked > peer.acked;
        peer.acked = peer.acked.max(batch.acked);
        moved
    }

    /// Gives a batch's buffer back for reuse towards its sender.
    pub fn recycle(&mut self, from: ShardId, mut bytes: Vec<u8>) {
        if let Some(peer) = self.peers.get_mut(usize::from(from))
            && bytes.capacity() <= 2 * self.settings.batch_bytes_max
        {
            bytes.clear();
            peer.spare = bytes;
        }
    }

    /// Closes the open batches at the end of a turn.
    pub fn seal(&mut self) {
        for to in self.peer_ids() {
            let owed = self.peers.get(usize::from(to)).is_some_and(|p| p.ack_owed);
            if owed {
                let _ = self.open(to);
            }
            if let Some(peer) = self.peers.get_mut(usize::from(to)) {
                peer.ack_owed = false;
                peer.seal();
            }
        }
    }

    /// The next batch for a peer, with the newest acknowledgement in it.
    pub fn pop(&mut self, to: ShardId) -> Option<Batch> {
        let peer = self.peers.get_mut(usize::from(to))?;
        let mut batch = peer.sealed.pop_front()?;
        peer.sealed_bytes -= batch.bytes.len();
        batch.acked = peer.applied;
        Some(batch)
    }

    /// Puts back a batch that the ring refused.
    pub fn unpop(&mut self, to: ShardId, batch: Batch) {
        if let Some(peer) = self.peers.get_mut(usize::from(to)) {
            peer.sealed_bytes += batch.bytes.len();
            peer.sealed.push_front(batch);
        }
    }

    /// True when sealed batches wait for any peer's ring.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.peers.iter().any(|p| !p.sealed.is_empty())
    }

    /// Publishers that may go on because the peer's backlog is below half of its limit.
    pub fn take_released(&mut self) -> Vec<Origin> {
        let half = self.settings.backlog_bytes_max / 2;
        let mut released = Vec::new();
        for peer in &mut self.peers {
            if !peer.waiting.is_empty() && peer.sealed_bytes <= half {
                released.append(&mut peer.waiting);
            }
        }
        released
    }

    /// Messages that wait for a peer's ring.
    #[must_use]
    pub fn waiting_messages(&self, to: ShardId) -> u64 {
        self.peers
            .get(usize::from(to))
            .map_or(0, |p| p.sealed.iter().map(|batch| u64::from(batch.messages)).sum())
    }

    /// Bytes and batches that wait for a peer's ring.
    #[must_use]
    pub fn depth(&self, to: ShardId) -> (usize, usize) {
        self.peers.get(usize::from(to)).map_or((0, 0), |p| (p.sealed_bytes, p.sealed.len()))
    }
}

impl Peer {
    fn seal(&mut self) {
        if let Some(batch) = self.open.take() {
            self.sealed_bytes += batch.bytes.len();
            self.sealed.push_back(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carry(from: &mut Mesh, to: &mut Mesh) {
        from.seal();
        while let Some(batch) = from.pop(to.me()) {
            to.handle_applied(&batch);
        }
    }

    #[test]
    fn a_barrier_passes_only_when_every_peer_has_applied() {
        let mut a = Mesh::new(0, 3, MeshSettings::default());
        let mut b = Mesh::new(1, 3, MeshSettings::default());
        let mut c = Mesh::new(2, 3, MeshSettings::default());
        assert!(a.barrier(0).is_empty());
        let seq = a.push_interest(0, b"x", None, 1);
        let targets = a.barrier(seq);
        assert_eq!(targets.len(), 2);
        carry(&mut a, &mut b);
        carry(&mut b, &mut a);
        assert!(!a.is_passed(&targets));
        carry(&mut a, &mut c);
        carry(&mut c, &mut a);
        assert!(a.is_passed(&targets));
        assert!(a.barrier(seq).is_empty());
    }

    #[test]
    fn a_barrier_after_the_batch_left_asks_again() {
        let mut a = Mesh::new(0, 2, MeshSettings::default());
        let mut b = Mesh::new(1, 2, MeshSettings::default());
        let seq = a.push_interest(0, b"x", None, 1);
        carry(&mut a, &mut b);
        let targets = a.barrier(seq);
        assert!(!a.is_passed(&targets));
        carry(&mut a, &mut b);
        carry(&mut b, &mut a);
        assert!(a.is_passed(&targets));
    }
}
