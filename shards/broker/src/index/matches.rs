//! The result of one look-up in the index, reused from call to call.

use super::queue::QueueId;
use super::{ShardId, SubId};

/// Who receives a message on one subject.
#[derive(Debug, Default)]
pub struct Matches {
    /// Plain local subscriptions; each gets a copy.
    pub plain: Vec<SubId>,
    /// Other shards with plain interest; sorted, each once.
    pub remote: Vec<ShardId>,
    /// One entry for each queue group name; each group gets one copy.
    pub queues: Vec<QueueMatch>,
    /// Emptied queue entries, kept for their buffers.
    spare: Vec<QueueMatch>,
}

/// One queue group that matches, with its members on all matching patterns together, as
/// nats-server groups them: by name, whatever pattern a member subscribed to.
#[derive(Debug, Default)]
pub struct QueueMatch {
    /// The group's name.
    pub name: Vec<u8>,
    /// The name's number inside the index that answered.
    pub id: QueueId,
    /// Members on this shard.
    pub local: Vec<SubId>,
    /// Members elsewhere: the shard and how many it has; each shard once.
    pub remote: Vec<(ShardId, u32)>,
}

impl QueueMatch {
    /// All members, here and on other shards; the total of the weights of the draw.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let remote: u64 = self.remote.iter().map(|&(_, weight)| u64::from(weight)).sum();
        self.local.len() as u64 + remote
    }
}

impl Matches {
    /// An empty result.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties the result and keeps every buffer.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.remote.clear();
        self.spare.append(&mut self.queues);
    }

    /// True when nobody is interested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.remote.is_empty() && self.queues.is_empty()
    }

    /// A new, empty queue entry at the end.
    pub(super) fn push_queue(&mut self, id: QueueId, name: &[u8]) {
        let mut entry = self.spare.pop().unwrap_or_default();
        entry.name.clear();
        entry.name.extend_from_slice(name);
        entry.id = id;
        entry.local.clear();
        entry.remote.clear();
        self.queues.push(entry);
    }

    /// Brings the shards into order, each once.
    pub(super) fn finish(&mut self) {
        if self.remote.len() > 1 {
            self.remote.sort_unstable();
            self.remote.dedup();
        }
    }
}
