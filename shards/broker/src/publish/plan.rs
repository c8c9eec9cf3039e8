//! The plan of a subject: everybody who gets a message published to it. Plans are cached per
//! shard and dropped when interest changes, so a message to a known subject matches nothing. A
//! subject is known from its second message on: replies to inboxes have a subject each, and would
//! only push out what is used again.
//! Lives on: every shard.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use slab::Slab;

use crate::index::{Matches, ShardId, SubId};

/// Short pieces of a frame are copied as one block of this size, which needs no call; the bytes
/// behind the piece are cut off again.
pub(crate) const BLOCK: usize = 32;

/// One local subscription that gets the message.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Slot of the connection.
    pub conn: u32,
    /// The subscription.
    pub sub: SubId,
    /// Where its `HMSG subject sid ` starts in [`Plan::prefixes`].
    pub prefix_at: u32,
    /// Length of that prefix.
    pub prefix_len: u32,
}

/// One queue group: a member of it gets the message.
#[derive(Clone, Debug, Default)]
pub struct PlanQueue {
    /// Group name.
    pub name: Box<[u8]>,
    /// Members on this shard.
    pub local: Vec<Target>,
    /// Members elsewhere: shard and how many.
    pub remote: Vec<(ShardId, u32)>,
    /// Sum of `remote`'s members.
    pub remote_weight: u32,
}

/// Who gets a message.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Unique for every plan that was ever made on this shard.
    pub stamp: u64,
    /// Account id.
    pub account: u32,
    /// The subject.
    pub subject: Vec<u8>,
    /// Plain subscriptions of this shard.
    pub targets: Vec<Target>,
    /// Queue groups.
    pub queues: Vec<PlanQueue>,
    /// Shards with plain interest.
    pub remote: Vec<ShardId>,
    /// Most targets have the same `HMSG subject sid ` as the one before.
    pub alike: bool,
    /// Services of other accounts that take the message: places in the account's list.
    pub services: Vec<u32>,
    /// The targets' `HMSG subject sid ` one after the other.
    pub prefixes: Vec<u8>,
}

impl Plan {
    /// A target's `HMSG subject sid ` (the frame of a message without headers is the same less
    /// its first byte).
    #[inline]
    #[must_use]
    pub fn prefix(&self, target: &Target) -> &[u8] {
        let at = target.prefix_at as usize;
        self.prefixes.get(at..at + target.prefix_len as usize).unwrap_or_default()
    }

    /// The block that a target's `MSG subject sid ` begins, and the length of that.
    #[inline]
    pub(crate) fn plain_prefix(&self, target: &Target) -> (&[u8], usize) {
        let at = target.prefix_at as usize + 1;
        (self.prefixes.get(at..).unwrap_or_default(), target.prefix_len as usize - 1)
    }

    /// The subject under which a target gets the message.
    #[must_use]
    pub fn subject_for(&self, target: &Target) -> &[u8] {
        let subject = self.prefix(target).get(b"HMSG ".len()..).unwrap_or_default();
        let end = memchr::memchr(b' ', subject).unwrap_or(subject.len());
        subject.get(..end).unwrap_or_default()
    }

    /// Adds who was found for a subject.
    fn add(
        &mut self,
        subject: &[u8],
        matches: &Matches,
        describe: &mut dyn FnMut(SubId, &mut Vec<u8>) -> Option<u32>,
    ) {
        // The room behind the prefixes that are there already.
        self.prefixes.truncate(self.prefixes.len().saturating_sub(BLOCK));
        push_targets(&mut self.targets, &mut self.prefixes, &matches.plain, subject, describe);
        self.alike = is_alike(self);
        for queue in &matches.queues {
            // A group is one by its name, in whichever accounts its members are.
            let at = self.queues.iter().position(|known| *known.name == *queue.name);
            let at = at.unwrap_or_else(|| {
                let name = queue.name.as_slice().into();
                self.queues.push(PlanQueue { name, ..PlanQueue::default() });
                self.queues.len() - 1
            });
            let Some(known) = self.queues.get_mut(at) else { continue };
            push_targets(&mut known.local, &mut self.prefixes, &queue.local, subject, describe);
            for (shard, weight) in &queue.remote {
                known.remote_weight += weight;
                match known.remote.iter_mut().find(|(id, _)| id == shard) {
                    Some((_, known)) => *known += weight,
                    None => known.remote.push((*shard, *weight)),
                }
            }
        }
        // Room behind the last prefix, so that every prefix can be copied as a whole block.
        self.prefixes.resize(self.prefixes.len() + BLOCK, 0);
        for shard in &matches.remote {
            if !self.remote.contains(shard) {
                self.remote.push(*shard);
            }
        }
    }

    /// Becomes the plan of a subject; only the stamp is left to its owner.
    fn fill(
        &mut self,
        account: u32,
        subject: &[u8],
        matches: &Matches,
        mut describe: impl FnMut(SubId, &mut Vec<u8>) -> Option<u32>,
    ) {
        self.account = account;
        self.subject.clear();
        self.subject.extend_from_slice(subject);
        self.prefixes.clear();
        self.queues.clear();
        self.targets.clear();
        self.remote.clear();
        self.services.clear();
        self.add(subject, matches, &mut describe);
    }

    /// True when nobody gets the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
            && self.queues.is_empty()
            && self.remote.is_empty()
            && self.services.is_empty()
    }
}

/// Adds subscriptions with their `HMSG subject sid `.
fn push_targets(
    list: &mut Vec<Target>,
    prefixes: &mut Vec<u8>,
    subs: &[SubId],
    subject: &[u8],
    describe: &mut dyn FnMut(SubId, &mut Vec<u8>) -> Option<u32>,
) {
    list.reserve(subs.len());
    for sub in subs {
        let at = prefixes.len();
        prefixes.extend_from_slice(b"HMSG ");
        prefixes.extend_from_slice(subject);
        prefixes.push(b' ');
        let Some(conn) = describe(*sub, prefixes) else {
            prefixes.truncate(at);
            continue;
        };
        prefixes.push(b' ');
        let prefix_len = (prefixes.len() - at) as u32;
        list.push(Target { conn, sub: *sub, prefix_at: at as u32, prefix_len });
    }
}

/// Whether three of four targets have the prefix of the target before them.
fn is_alike(plan: &Plan) -> bool {
    let pairs = plan.targets.windows(2);
    let same = pairs.filter(|pair| match pair {
        [one, other] => plan.prefix(one) == plan.prefix(other),
        _ => false,
    });
    plan.targets.len() > 1 && same.count() * 4 >= plan.targets.len() * 3
}

/// The slot of the plan that is not in the cache.
const SCRATCH_SLOT: u32 = u32::MAX;
/// Subjects seen once that are remembered, by a piece of their hash.
const SEEN_MAX: usize = 8192;

/// Names a plan; stale once the stamp differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanKey {
    /// Position in the cache.
    pub slot: u32,
    /// Stamp of the plan that was meant; 0 is none.
    pub stamp: u64,
}

/// The shard's cache of plans, bounded by `plans_max`; a full cache is emptied.
#[derive(Debug)]
pub struct Plans {
    plans: Slab<Plan>,
    by_subject: HashTable<u32>,
    hasher: FixedState,
    next_stamp: u64,
    plans_max: usize,
    /// The plan of a subject that is not known yet, kept for its buffers.
    scratch: Plan,
    /// Marks of subjects that had a message; each at the place its hash gives.
    seen: Box<[u32]>,
    /// Look-ups that found a plan.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
}

impl Plans {
    /// An empty cache; `seed` keys the hash, so that clients cannot aim for collisions.
    #[must_use]
    pub fn new(seed: u64, plans_max: usize) -> Self {
        Self {
            plans: Slab::new(),
            by_subject: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            next_stamp: 0,
            plans_max: plans_max.max(1),
            scratch: Plan::default(),
            seen: vec![0; SEEN_MAX].into_boxed_slice(),
            hits: 0,
            misses: 0,
        }
    }

    fn hash(&self, account: u32, subject: &[u8]) -> u64 {
        self.hasher.hash_one((account, subject))
    }

    /// The plan behind a key, if it is still that plan.
    #[inline]
    #[must_use]
    pub fn get(&self, key: PlanKey) -> Option<&Plan> {
        if key.slot == SCRATCH_SLOT {
            return Some(&self.scratch).filter(|plan| plan.stamp == key.stamp && key.stamp != 0);
        }
        self.plans.get(key.slot as usize).filter(|plan| plan.stamp == key.stamp)
    }

    /// Finds the plan of a subject.
    pub fn find(&mut self, account: u32, subject: &[u8]) -> Option<PlanKey> {
        let hash = self.hash(account, subject);
        let plans = &self.plans;
        let found = self.by_subject.find(hash, |slot| {
            plans.get(*slot as usize).is_some_and(|p| p.account == account && p.subject == subject)
        });
        let key = found.and_then(|slot| {
            let plan = plans.get(*slot as usize)?;
            Some(PlanKey { slot: *slot, stamp: plan.stamp })
        });
        match key {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        key
    }

    /// Makes the plan of a subject that [`Self::find`] did not find, and caches it when the
    /// subject was seen before. Else the key is good until the next plan is made. `describe`
    /// gives a subscription's connection and appends its sid.
    pub fn make(
        &mut self,
        account: u32,
        subject: &[u8],
        matches: &Matches,
        describe: impl FnMut(SubId, &mut Vec<u8>) -> Option<u32>,
    ) -> PlanKey {
        let hash = self.hash(account, subject);
        if self.saw(hash) {
            return self.insert(hash, account, subject, matches, describe);
        }
        self.next_stamp += 1;
        self.scratch.fill(account, subject, matches, describe);
        self.scratch.stamp = self.next_stamp;
        PlanKey { slot: SCRATCH_SLOT, stamp: self.next_stamp }
    }

    /// Whether a subject of this hash was seen lately; from now on it was.
    fn saw(&mut self, hash: u64) -> bool {
        let mark = (hash >> 32) as u32;
        let place = self.seen.get_mut(hash as usize % SEEN_MAX);
        place.is_some_and(|place| std::mem::replace(place, mark) == mark)
    }

    /// Makes and caches the plan of a subject that has none, whose hash is given.
    fn insert(
        &mut self,
        hash: u64,
        account: u32,
        subject: &[u8],
        matches: &Matches,
        describe: impl FnMut(SubId, &mut Vec<u8>) -> Option<u32>,
    ) -> PlanKey {
        if self.plans.len() >= self.plans_max {
            self.clear();
        }
        let mut plan = Plan::default();
        plan.fill(account, subject, matches, describe);
        self.next_stamp += 1;
        plan.stamp = self.next_stamp;
        let stamp = plan.stamp;
        let slot = self.plans.insert(plan) as u32;
        let (plans, hasher) = (&self.plans, &self.hasher);
        self.by_subject.insert_unique(hash, slot, |slot| {
            let plan = plans.get(*slot as usize);
            plan.map_or(0, |p| hasher.hash_one((p.account, p.subject.as_slice())))
        });
        PlanKey { slot, stamp }
    }

    /// Adds who gets the message under another subject in another account to a plan just made.
    pub fn extend(
        &mut self,
        key: PlanKey,
        subject: &[u8],
        matches: &Matches,
        mut describe: impl FnMut(SubId, &mut Vec<u8>) -> Option<u32>,
    ) {
        if let Some(plan) = self.fresh(key) {
            plan.add(subject, matches, &mut describe);
        }
    }

    /// Adds a service of another account to a plan just made.
    pub fn add_service(&mut self, key: PlanKey, service: u32) {
        if let Some(plan) = self.fresh(key) {
            plan.services.push(service);
        }
    }

    /// A plan just made.
    fn fresh(&mut self, key: PlanKey) -> Option<&mut Plan> {
        if key.slot == SCRATCH_SLOT {
            return Some(&mut self.scratch);
        }
        self.plans.get_mut(key.slot as usize)
    }

    /// Drops the plan of a literal subject.
    pub fn forget(&mut self, account: u32, subject: &[u8]) {
        self.scratch.stamp = 0;
        let hash = self.hash(account, subject);
        let plans = &self.plans;
        let entry = self.by_subject.find_entry(hash, |slot| {
            plans.get(*slot as usize).is_some_and(|p| p.account == account && p.subject == subject)
        });
        if let Ok(entry) = entry {
            let (slot, _) = entry.remove();
            self.plans.try_remove(slot as usize);
        }
    }

    /// Drops every plan that `is_touched` says a change of interest touches.
    pub fn forget_matching(&mut self, account: u32, is_touched: impl Fn(&[u8]) -> bool) {
        self.scratch.stamp = 0;
        let plans = &mut self.plans;
        self.by_subject.retain(|slot| {
            let touched = plans
                .get(*slot as usize)
                .is_none_or(|p| p.account == account && is_touched(&p.subject));
            if touched {
                plans.try_remove(*slot as usize);
            }
            !touched
        });
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.scratch.stamp = 0;
        self.plans.clear();
        self.by_subject.clear();
    }

    /// Local receivers of each cached subject.
    pub fn fanouts(&self) -> impl Iterator<Item = u64> {
        self.plans.iter().map(|(_, plan)| {
            plan.targets.len() as u64
                + plan.queues.iter().filter(|q| !q.local.is_empty()).count() as u64
        })
    }

    /// Plans held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    /// True when nothing is cached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_forgotten_by_subject() {
        let mut plans = Plans::new(1, 4);
        plans.make(0, b"a", &Matches::default(), |_, _| None);
        let key = plans.make(0, b"a", &Matches::default(), |_, _| None);
        assert!(plans.get(key).is_some());
        plans.forget(1, b"a");
        assert!(plans.get(key).is_some());
        plans.forget(0, b"a");
        assert!(plans.get(key).is_none());
    }

    #[test]
    fn a_subject_is_known_from_its_second_message_on() {
        let mut plans = Plans::new(1, 4);
        let none = Matches::default();
        let first = plans.make(0, b"a", &none, |_, _| None);
        assert!(plans.get(first).is_some() && plans.find(0, b"a").is_none());
        let other = plans.make(0, b"b", &none, |_, _| None);
        assert!(plans.get(first).is_none() && plans.get(other).is_some());
        let second = plans.make(0, b"a", &none, |_, _| None);
        assert_eq!(plans.find(0, b"a"), Some(second));
        assert!(plans.get(other).is_some());
        plans.forget(0, b"c");
        assert!(plans.get(other).is_none() && plans.get(second).is_some());
    }
}
