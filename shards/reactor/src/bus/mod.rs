//! The bus between shards: one bounded channel for every ordered pair, carrying batches.
//!
//! ```text
//!              from 0   from 1   from 2          A turn sends its batches and wakes each
//!   to 0         -      ▤▤▤      ▤               peer once, if it sleeps (wake.rs).
//!   to 1         ▤       -       ▤▤              A full channel gives the batch back: the
//!   to 2         ▤▤      ▤        -              sender keeps it and stops reading.
//! ```
//!
//! Batches of one pair arrive in the order in which they were sent. Nothing here blocks.

#[cfg(test)]
mod tests;
mod wake;

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use thiserror::Error;

pub use wake::{RoomFlag, SleepFlag};

/// Why a batch was not taken; it comes back with its batch.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SendRefused<T> {
    /// The channel is full. The peer will wake this shard when there is room.
    #[error("the channel to the shard is full")]
    Full(T),
    /// The peer has stopped, or there is no such peer.
    #[error("the shard is gone")]
    Gone(T),
}

/// The flags all shards share.
#[derive(Debug)]
struct Flags {
    sleep: Vec<SleepFlag>,
    /// Row by sender, column by receiver.
    room: Vec<RoomFlag>,
}

impl Flags {
    fn room(&self, from: usize, to: usize) -> Option<&RoomFlag> {
        let shards = self.sleep.len();
        self.room.get(from * shards + to)
    }
}

/// Builds the bus.
#[derive(Debug)]
pub struct Bus;

impl Bus {
    /// All ends, in the order of the shards, each to be moved to its shard. `capacity` is in
    /// batches per channel and at least one.
    ///
    /// Memory is taken at once: `shards * (shards - 1) * capacity` places for a `T`.
    #[expect(clippy::new_ret_no_self, reason = "a bus is nothing but its ends")]
    pub fn new<T: Send>(shards: usize, capacity: usize) -> Vec<BusEnd<T>> {
        let flags = Arc::new(Flags {
            sleep: (0..shards).map(|_| SleepFlag::new()).collect(),
            room: (0..shards * shards).map(|_| RoomFlag::new()).collect(),
        });
        let mut ends: Vec<BusEnd<T>> = (0..shards)
            .map(|me| BusEnd {
                me,
                peers: Vec::with_capacity(shards),
                next: 0,
                flags: Arc::clone(&flags),
            })
            .collect();
        // Column by column: for each pair of shards both directions, one for each end.
        for from in 0..shards {
            for to in 0..shards {
                let channel = (from != to).then(|| bounded(capacity.max(1)));
                let (sender, receiver) = channel.unzip();
                if let Some(end) = ends.get_mut(from) {
                    end.peer_mut(to).outbox = sender;
                }
                if let Some(end) = ends.get_mut(to) {
                    end.peer_mut(from).inbox = receiver;
                }
            }
        }
        ends
    }
}

/// The two channels between this shard and a peer; both absent for the shard itself.
#[derive(Debug)]
struct Peer<T> {
    outbox: Option<Sender<T>>,
    inbox: Option<Receiver<T>>,
    /// The last batch for this peer was given back: there is something to send.
    is_starved: bool,
}

/// One shard's end of the bus.
///
/// Lives on: the shard; the flags behind it are shared.
#[derive(Debug)]
pub struct BusEnd<T> {
    me: usize,
    peers: Vec<Peer<T>>,
    /// The peer whose inbox is looked at first: the one after the last that had something.
    next: usize,
    flags: Arc<Flags>,
}

impl<T: Send> BusEnd<T> {
    /// The index of this shard.
    pub fn shard(&self) -> usize {
        self.me
    }

    /// Number of shards, this one included.
    pub fn shards(&self) -> usize {
        self.peers.len()
    }

    /// Hands a batch to a peer without waking it; see [`BusEnd::wake`].
    ///
    /// # Errors
    /// The batch comes back when the channel is full or the peer is gone. After `Full` the
    /// shard may sleep: it is woken when the peer has made room.
    pub fn try_send(&mut self, peer: usize, batch: T) -> Result<(), SendRefused<T>> {
        let me = self.me;
        let Some(slot) = self.peers.get_mut(peer) else {
            return Err(SendRefused::Gone(batch));
        };
        let Some(outbox) = &slot.outbox else {
            return Err(SendRefused::Gone(batch));
        };
        match outbox.try_send(batch) {
            Ok(()) => {
                slot.is_starved = false;
                Ok(())
            }
            Err(TrySendError::Full(batch)) => {
                slot.is_starved = true;
                if let Some(room) = self.flags.room(me, peer) {
                    room.want();
                }
                Err(SendRefused::Full(batch))
            }
            Err(TrySendError::Disconnected(batch)) => {
                slot.is_starved = false;
                Err(SendRefused::Gone(batch))
            }
        }
    }

    /// After one or more batches were sent to `peer`: calls `wake` if it sleeps and nobody else
    /// has woken it. Says whether it did. `wake` has to end the peer's blocking call, now or
    /// the next one: writing to its eventfd does.
    pub fn wake(&self, peer: usize, wake: impl FnOnce()) -> bool {
        let flag = self.flags.sleep.get(peer);
        flag.is_some_and(|flag| flag.wake(wake))
    }

    /// The next batch and who sent it. Peers take turns, each one batch. After this the caller
    /// owes [`BusEnd::wake_starved`] to that peer.
    pub fn try_recv(&mut self) -> Option<(usize, T)> {
        let shards = self.peers.len();
        for step in 0..shards {
            let from = (self.next + step) % shards;
            let inbox = self.peers.get(from).and_then(|peer| peer.inbox.as_ref());
            // An empty inbox is far cheaper to look at than to receive from.
            let Some(inbox) = inbox.filter(|inbox| !inbox.is_empty()) else {
                continue;
            };
            if let Ok(batch) = inbox.try_recv() {
                self.next = (from + 1) % shards;
                return Some((from, batch));
            }
        }
        None
    }

    /// After a batch of `peer` was received: calls `wake` if the peer found the channel full
    /// and sleeps. Says whether it did.
    pub fn wake_starved(&self, peer: usize, wake: impl FnOnce()) -> bool {
        let room = self.flags.room(peer, self.me);
        room.is_some_and(RoomFlag::take) && self.wake(peer, wake)
    }

    /// Whether this shard may block now. On true it counts as asleep until
    /// [`BusEnd::finish_sleep`]; on false there is a batch to receive, or room for one that
    /// was given back.
    pub fn prepare_sleep(&self) -> bool {
        let flag = self.flags.sleep.get(self.me);
        flag.is_some_and(|flag| flag.prepare(|| self.is_idle()))
    }

    /// This shard is awake, whatever woke it.
    pub fn finish_sleep(&self) {
        if let Some(flag) = self.flags.sleep.get(self.me) {
            flag.finish();
        }
    }

    /// Batches on the way to `peer`.
    pub fn depth(&self, peer: usize) -> usize {
        let outbox = self.peers.get(peer).and_then(|peer| peer.outbox.as_ref());
        outbox.map_or(0, Sender::len)
    }

    /// Batches waiting to be received.
    pub fn inbox_depth(&self) -> usize {
        let inboxes = self.peers.iter().filter_map(|peer| peer.inbox.as_ref());
        inboxes.map(Receiver::len).sum()
    }

    /// No batch to receive, and no room for any that was given back.
    fn is_idle(&self) -> bool {
        self.peers.iter().all(|peer| {
            let has_batch = peer.inbox.as_ref().is_some_and(|inbox| !inbox.is_empty());
            let is_full = peer.outbox.as_ref().is_some_and(Sender::is_full);
            !has_batch && (!peer.is_starved || is_full)
        })
    }

    /// The entry of a peer while the bus is built; entries are made in order.
    fn peer_mut(&mut self, peer: usize) -> &mut Peer<T> {
        while self.peers.len() <= peer {
            self.peers.push(Peer { outbox: None, inbox: None, is_starved: false });
        }
        &mut self.peers[peer]
    }
}
