//! The subject index of one account on one shard: who wants a message on a subject, here and on
//! other shards.
//!
//! ```text
//!                    ┌─ literal pattern: one slot in the table (inline when one party only)
//!   (subject) ─hash─►│
//!                    └─ wildcard pattern: a group, which the trie points to as well
//!   publish "a.b" = table["a.b"] (if literal) + every group the trie walk of a, b reaches
//! ```
//! Every pattern lives in one hash table keyed by its full text; the trie holds wildcard patterns
//! only. A publish is one look-up and, where wildcards exist, one walk. Interest of other shards
//! lies in the same places as local subscriptions, so one walk answers both.
//!
//! Lives on: every shard. The local part is written by the shard's own connections, the remote
//! part by what the other shards announce.

pub(crate) mod hash;
mod matches;
mod members;
mod pool;
mod queue;
mod table;
pub(crate) mod trie;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;

pub use matches::{Matches, QueueMatch};
pub use queue::QueueId;

use hash::HashSeed;
use members::{Group, QueueMembers, Slot, SubList};
use pool::Pool;
use queue::QueueNames;
use table::Table;
use trie::{Trie, Walk};

/// A subscription of this shard, as its owner numbers it.
pub type SubId = u32;
/// A shard of this process.
pub type ShardId = u16;

/// What other shards must be told about a (subject, queue) after a local change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Nothing.
    None,
    /// The number of local members is now `weight`. Plain interest changes between 0 and 1 only;
    /// a queue group reports every change of its member count.
    Changed {
        /// Local members from now on; 0 ends the interest.
        weight: u32,
    },
}

/// A subject and a queue, copied out of the index.
type OwnedInterest = (Box<[u8]>, Option<Box<[u8]>>);

/// Counters and sizes of one index.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IndexStats {
    /// Local subscriptions now.
    pub subscriptions: usize,
    /// Distinct patterns now, local and remote together.
    pub patterns: usize,
    /// Distinct wildcard patterns now.
    pub wildcard_patterns: usize,
    /// Local subscriptions ever inserted.
    pub inserts: u64,
    /// Local subscriptions ever removed.
    pub removes: u64,
    /// Look-ups ever made.
    pub matches: u64,
    /// The most local receivers a look-up has found: plain subscriptions plus queue groups.
    pub fanout_max: u32,
    /// Local receivers of all look-ups together; divided by `matches` it is the mean fan-out.
    pub fanout_sum: u64,
    /// Bytes held by tables, arenas and trie; members beyond the first two of a pattern not
    /// counted.
    pub bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    seed: HashSeed,
    table: Table<Slot>,
    groups: Pool<Group>,
    trie: Trie,
    walk: Walk,
    queues: QueueNames,
    stats: IndexStats,
    /// Rises with every change, local or remote.
    generation: u64,
    /// The number of the running match, by which queue names find their place in its result.
    match_number: u64,
}

impl Index {
    /// An empty index; the seed keys its hashing and must not be known to clients.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed: HashSeed::new(seed),
            table: Table::new(),
            groups: Pool::new(),
            trie: Trie::new(),
            walk: Walk::default(),
            queues: QueueNames::default(),
            stats: IndexStats::default(),
            generation: 0,
            match_number: 0,
        }
    }

    /// Local subscriptions now.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.stats.subscriptions
    }

    /// True without local subscriptions; remote interest does not count.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.stats.subscriptions == 0
    }

    /// Rises with every change of the index: a result may be kept while this stays the same.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        IndexStats {
            patterns: self.table.len(),
            wildcard_patterns: self.trie.len(),
            bytes: self.table.allocated_bytes()
                + self.groups.allocated_bytes()
                + self.trie.allocated_bytes(),
            ..self.stats
        }
    }

    /// Adds a local subscription. The subject must be valid for a subscription. Inserting the
    /// same (subject, queue, sub) twice changes nothing.
    pub fn insert(&mut self, subject: &[u8], queue: Option<&[u8]>, sub: SubId) -> Interest {
        let hash = self.seed.of(subject);
        let slot = self.table.find(hash, |key| key == subject);
        let change = match (slot, queue) {
            (None, None) if !trie::has_wildcard(subject) => {
                self.add_pattern(hash, subject, Slot::Local(sub));
                Some(1)
            }
            (Some(Slot::Local(other)), None) if other == sub => None,
            _ => self.insert_into_group(hash, subject, slot, queue, sub),
        };
        let Some(weight) = change else {
            return Interest::None;
        };
        self.stats.subscriptions += 1;
        self.stats.inserts += 1;
        self.generation += 1;
        if queue.is_none() && weight > 1 { Interest::None } else { Interest::Changed { weight } }
    }

    /// Removes a local subscription; one that is not there changes nothing.
    pub fn remove(&mut self, subject: &[u8], queue: Option<&[u8]>, sub: SubId) -> Interest {
        let hash = self.seed.of(subject);
        let change = match self.table.find(hash, |key| key == subject) {
            Some(Slot::Local(other)) if queue.is_none() && other == sub => {
                self.drop_pattern(hash, subject);
                Some(0)
            }
            Some(Slot::Group(group)) => self.remove_from_group(hash, subject, group, queue, sub),
            _ => None,
        };
        let Some(weight) = change else {
            return Interest::None;
        };
        self.stats.subscriptions -= 1;
        self.stats.removes += 1;
        self.generation += 1;
        if queue.is_none() && weight > 0 { Interest::None } else { Interest::Changed { weight } }
    }

    /// Notes how many members another shard has for (subject, queue); 0 removes its interest.
    pub fn set_remote(
        &mut self,
        shard: ShardId,
        subject: &[u8],
        queue: Option<&[u8]>,
        weight: u32,
    ) {
        let hash = self.seed.of(subject);
        self.generation += 1;
        match (self.table.find(hash, |key| key == subject), queue, weight) {
            (None, _, 0) => {}
            (None, None, _) if !trie::has_wildcard(subject) => {
                self.add_pattern(hash, subject, Slot::Remote(shard));
            }
            (Some(Slot::Remote(other)), None, 0) if other == shard => {
                self.drop_pattern(hash, subject);
            }
            (Some(Slot::Local(_) | Slot::Remote(_)), _, 0) => {}
            (slot, _, _) => {
                let id = self.group_for(hash, subject, slot);
                match queue {
                    None => {
                        if let Some(group) = self.groups.get_mut(id) {
                            group.set_remote_plain(shard, weight > 0);
                        }
                    }
                    Some(queue) => self.set_remote_queue(id, queue, shard, weight),
                }
                self.settle(hash, subject, id);
            }
        }
    }

    /// Forgets all interest of another shard. Walks the whole index.
    pub fn clear_remote(&mut self, shard: ShardId) {
        let mut gone: Vec<OwnedInterest> = Vec::new();
        for (subject, slot) in self.table.iter() {
            match slot {
                Slot::Remote(other) if other == shard => gone.push((subject.into(), None)),
                Slot::Group(id) => {
                    let Some(group) = self.groups.get(id) else {
                        continue;
                    };
                    if group.remote.contains(&shard) {
                        gone.push((subject.into(), None));
                    }
                    for members in &group.queues {
                        if members.remote.iter().any(|&(other, _)| other == shard) {
                            let name = self.queues.get(members.queue);
                            gone.push((subject.into(), Some(name.into())));
                        }
                    }
                }
                _ => {}
            }
        }
        for (subject, queue) in gone {
            self.set_remote(shard, &subject, queue.as_deref(), 0);
        }
    }

    /// Everybody who wants a message on `subject`, local and remote, into a result that is
    /// emptied first. Wildcard characters in the subject are taken literally; a subject with an
    /// empty token matches nothing, as in nats-server.
    pub fn match_into(&mut self, subject: &[u8], out: &mut Matches) {
        out.clear();
        self.match_number += 1;
        let number = self.match_number;
        let Self { groups, queues, walk, .. } = self;
        match self.table.find(self.seed.of(subject), |key| key == subject) {
            Some(Slot::Local(sub)) => out.plain.push(sub),
            Some(Slot::Remote(shard)) => out.remote.push(shard),
            Some(Slot::Group(id)) => {
                if let Some(group) = groups.get(id).filter(|group| !group.is_wildcard) {
                    collect(group, queues, number, out);
                }
            }
            None => {}
        }
        if self.trie.len() > 0 && !has_empty_token(subject) {
            self.trie.walk(&self.seed, subject, walk, |id| {
                if let Some(group) = groups.get(id) {
                    collect(group, queues, number, out);
                }
                true
            });
        }
        out.finish();
        self.note_fanout(out.plain.len() + out.queues.len());
    }

    /// True when anybody, here or on another shard, wants a message on `subject`.
    pub fn has_interest(&mut self, subject: &[u8]) -> bool {
        let found = match self.table.find(self.seed.of(subject), |key| key == subject) {
            Some(Slot::Group(id)) => self.groups.get(id).is_some_and(|group| !group.is_wildcard),
            Some(_) => true,
            None => false,
        };
        if found || self.trie.len() == 0 || has_empty_token(subject) {
            return found;
        }
        let mut found = false;
        self.trie.walk(&self.seed, subject, &mut self.walk, |_| {
            found = true;
            false
        });
        found
    }

    /// True when anybody, here or on another shard, has subscribed to this very subject: without a
    /// queue, or as a member of `queue`. Patterns that match it do not count.
    pub fn has_own_interest(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let group = match self.table.find(self.seed.of(subject), |key| key == subject) {
            Some(Slot::Group(id)) => self.groups.get(id).filter(|group| !group.is_wildcard),
            Some(_) => return queue.is_none(),
            None => None,
        };
        let Some(group) = group else { return false };
        let Some(queue) = queue else {
            return !group.plain.is_empty() || !group.remote.is_empty();
        };
        let wanted = self.queues.find(queue, &self.seed);
        wanted.is_some_and(|wanted| group.queues.iter().any(|members| members.queue == wanted))
    }

    /// Calls `f` with every local subscription: subject, queue, number; in no particular order.
    pub fn for_each_local(&self, mut f: impl FnMut(&[u8], Option<&[u8]>, SubId)) {
        for (subject, slot) in self.table.iter() {
            match slot {
                Slot::Local(sub) => f(subject, None, sub),
                Slot::Remote(_) => {}
                Slot::Group(id) => {
                    let Some(group) = self.groups.get(id) else {
                        continue;
                    };
                    for &sub in group.plain.as_slice() {
                        f(subject, None, sub);
                    }
                    for members in &group.queues {
                        for &sub in members.local.as_slice() {
                            f(subject, Some(self.queues.get(members.queue)), sub);
                        }
                    }
                }
            }
        }
    }

    /// Calls `f` with every local interest: subject, queue and the weight other shards must know;
    /// what a new peer is seeded with.
    pub fn for_each_interest(&self, mut f: impl FnMut(&[u8], Option<&[u8]>, u32)) {
        for (subject, slot) in self.table.iter() {
            match slot {
                Slot::Local(_) => f(subject, None, 1),
                Slot::Remote(_) => {}
                Slot::Group(id) => {
                    let Some(group) = self.groups.get(id) else {
                        continue;
                    };
                    if !group.plain.is_empty() {
                        f(subject, None, 1);
                    }
                    for members in group.queues.iter().filter(|queue| !queue.local.is_empty()) {
                        let name = self.queues.get(members.queue);
                        f(subject, Some(name), members.local.len() as u32);
                    }
                }
            }
        }
    }

    fn note_fanout(&mut self, receivers: usize) {
        self.stats.matches += 1;
        self.stats.fanout_sum += receivers as u64;
        self.stats.fanout_max = self.stats.fanout_max.max(receivers as u32);
    }

    /// The subscription's members after the insert, or nothing when it was there already.
    fn insert_into_group(
        &mut self,
        hash: u64,
        subject: &[u8],
        slot: Option<Slot>,
        queue: Option<&[u8]>,
        sub: SubId,
    ) -> Option<u32> {
        let id = self.group_for(hash, subject, slot);
        let list = match queue {
            None => &mut self.groups.get_mut(id)?.plain,
            Some(queue) => &mut self.queue_members(id, queue)?.local,
        };
        list.insert(sub).then(|| list.len() as u32)
    }

    /// The members left after the removal, or nothing when the subscription was not there.
    fn remove_from_group(
        &mut self,
        hash: u64,
        subject: &[u8],
        id: u32,
        queue: Option<&[u8]>,
        sub: SubId,
    ) -> Option<u32> {
        let group = self.groups.get_mut(id)?;
        let left = match queue {
            None => group.plain.remove(sub).then(|| group.plain.len() as u32)?,
            Some(queue) => {
                let queue = self.queues.find(queue, &self.seed)?;
                let position = group.queues.iter().position(|other| other.queue == queue)?;
                let members = group.queues.get_mut(position)?;
                let left = members.local.remove(sub).then(|| members.local.len() as u32)?;
                if members.is_empty() {
                    group.queues.swap_remove(position);
                    self.queues.release(queue, &self.seed);
                }
                left
            }
        };
        self.settle(hash, subject, id);
        Some(left)
    }

    fn set_remote_queue(&mut self, id: u32, queue: &[u8], shard: ShardId, weight: u32) {
        if weight > 0 {
            let Some(members) = self.queue_members(id, queue) else {
                return;
            };
            match members.remote.binary_search_by_key(&shard, |&(other, _)| other) {
                Ok(position) => {
                    if let Some(entry) = members.remote.get_mut(position) {
                        entry.1 = weight;
                    }
                }
                Err(position) => members.remote.insert(position, (shard, weight)),
            }
            return;
        }
        let Some(queue) = self.queues.find(queue, &self.seed) else {
            return;
        };
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let Some(position) = group.queues.iter().position(|other| other.queue == queue) else {
            return;
        };
        let Some(members) = group.queues.get_mut(position) else {
            return;
        };
        members.remote.retain(|&mut (other, _)| other != shard);
        if members.is_empty() {
            group.queues.swap_remove(position);
            self.queues.release(queue, &self.seed);
        }
    }

    /// The members of a queue group in a pattern's group, made when absent.
    fn queue_members(&mut self, id: u32, queue: &[u8]) -> Option<&mut QueueMembers> {
        let known = self.queues.find(queue, &self.seed);
        let group = self.groups.get_mut(id)?;
        let position = group.queues.iter().position(|other| Some(other.queue) == known);
        let position = position.unwrap_or_else(|| {
            let queue = self.queues.acquire(queue, &self.seed);
            let local = SubList::default();
            if group.queues.is_empty() {
                group.queues.reserve_exact(1);
            }
            group.queues.push(QueueMembers { queue, local, remote: Default::default() });
            group.queues.len() - 1
        });
        group.queues.get_mut(position)
    }

    /// The group of a pattern; an inline slot is turned into one, a new pattern is added.
    fn group_for(&mut self, hash: u64, subject: &[u8], slot: Option<Slot>) -> u32 {
        match slot {
            Some(Slot::Group(id)) => id,
            Some(inline) => {
                let id = self.groups.insert(Group::of_slot(inline));
                if let Some(slot) = self.table.find_mut(hash, |key| key == subject) {
                    *slot = Slot::Group(id);
                }
                id
            }
            None => {
                let is_wildcard = trie::has_wildcard(subject);
                let id = self.groups.insert(Group { is_wildcard, ..Group::default() });
                self.add_pattern(hash, subject, Slot::Group(id));
                if is_wildcard {
                    self.trie.insert(&self.seed, subject, id);
                }
                id
            }
        }
    }

    /// After a change of a group: drops an empty one, and makes a literal pattern with a single
    /// party inline again.
    fn settle(&mut self, hash: u64, subject: &[u8], id: u32) {
        let Some(group) = self.groups.get(id) else {
            return;
        };
        if group.is_empty() {
            if group.is_wildcard {
                self.trie.remove(&self.seed, subject);
            }
            self.drop_pattern(hash, subject);
        } else if let Some(inline) = group.as_inline() {
            if let Some(slot) = self.table.find_mut(hash, |key| key == subject) {
                *slot = inline;
            }
        } else {
            return;
        }
        self.groups.remove(id);
    }

    fn add_pattern(&mut self, hash: u64, subject: &[u8], slot: Slot) {
        let seed = &self.seed;
        self.table.insert_unique(hash, subject, slot, |key| seed.of(key));
    }

    fn drop_pattern(&mut self, hash: u64, subject: &[u8]) {
        let seed = &self.seed;
        self.table.remove(hash, |key| key == subject, |key| seed.of(key));
    }
}

/// True for a subject that is empty or has two dots in a row or one at an end. No pattern has an
/// empty token, so only the trie's wildcards could match one.
fn has_empty_token(subject: &[u8]) -> bool {
    let mut after_dot = true;
    for &byte in subject {
        let is_dot = byte == b'.';
        if is_dot && after_dot {
            return true;
        }
        after_dot = is_dot;
    }
    after_dot
}

/// Adds one group's members to a result.
fn collect(group: &Group, queues: &mut QueueNames, number: u64, out: &mut Matches) {
    out.plain.extend_from_slice(group.plain.as_slice());
    out.remote.extend_from_slice(&group.remote);
    for members in &group.queues {
        let next = out.queues.len();
        let position = queues.place(members.queue, number, next).unwrap_or_else(|| {
            out.push_queue(members.queue, queues.get(members.queue));
            next
        });
        let Some(entry) = out.queues.get_mut(position) else {
            continue;
        };
        entry.local.extend_from_slice(members.local.as_slice());
        for &(shard, weight) in &members.remote {
            match entry.remote.iter_mut().find(|(other, _)| *other == shard) {
                Some((_, sum)) => *sum = sum.saturating_add(weight),
                None => entry.remote.push((shard, weight)),
            }
        }
    }
}
