//! Who is interested in one subject pattern: local subscriptions, queue groups, other shards.
//!
//! Most patterns have exactly one interested party, which fits in the table's entry itself
//! ([`Slot`]); everything else is a [`Group`] in a slab.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::queue::QueueId;
use super::{ShardId, SubId};

/// From this many members on, a list also keeps a position per member, so that removal stays
/// cheap when a hundred thousand subscribers of one subject leave.
const INDEXED_FROM: usize = 64;

/// What the table holds for one subject pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// One plain local subscription and nothing else.
    Local(SubId),
    /// Plain interest of one other shard and nothing else.
    Remote(ShardId),
    /// The number of a [`Group`]; always used for wildcard patterns, which the trie points to.
    Group(u32),
}

/// A set of subscriptions that can be walked as a slice.
#[derive(Debug, Default)]
pub(super) struct SubList {
    subs: SmallVec<[SubId; 2]>,
    positions: Option<Box<HashMap<SubId, u32, FxBuildHasher>>>,
}

impl SubList {
    pub(super) fn as_slice(&self) -> &[SubId] {
        &self.subs
    }

    pub(super) fn len(&self) -> usize {
        self.subs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subs.is_empty()
    }

    fn position(&self, sub: SubId) -> Option<usize> {
        match &self.positions {
            Some(positions) => positions.get(&sub).map(|&position| position as usize),
            None => self.subs.iter().position(|&other| other == sub),
        }
    }

    /// False when the subscription was there already.
    pub(super) fn insert(&mut self, sub: SubId) -> bool {
        if self.position(sub).is_some() {
            return false;
        }
        self.subs.push(sub);
        let last = self.subs.len() as u32 - 1;
        match &mut self.positions {
            Some(positions) => {
                positions.insert(sub, last);
            }
            None if self.subs.len() >= INDEXED_FROM => {
                self.positions = Some(Box::new(self.subs.iter().copied().zip(0..).collect()));
            }
            None => {}
        }
        true
    }

    /// False when the subscription was not there.
    pub(super) fn remove(&mut self, sub: SubId) -> bool {
        let Some(position) = self.position(sub) else {
            return false;
        };
        self.subs.swap_remove(position);
        if let Some(positions) = &mut self.positions {
            positions.remove(&sub);
            if let Some(&moved) = self.subs.get(position) {
                positions.insert(moved, position as u32);
            }
            if self.subs.len() < INDEXED_FROM / 2 {
                self.positions = None;
                self.subs.shrink_to_fit();
            }
        }
        true
    }
}

/// The members of one queue group on one pattern.
#[derive(Debug)]
pub(super) struct QueueMembers {
    pub(super) queue: QueueId,
    pub(super) local: SubList,
    /// Other shards with members, and how many each has; sorted by shard.
    pub(super) remote: SmallVec<[(ShardId, u32); 1]>,
}

impl QueueMembers {
    pub(super) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty()
    }
}

/// Everybody interested in one subject pattern.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) plain: SubList,
    /// Other shards with plain interest, sorted.
    pub(super) remote: SmallVec<[ShardId; 4]>,
    pub(super) queues: Vec<QueueMembers>,
    /// True when the pattern has wildcards: then it is found through the trie, and a publish whose
    /// subject spells the pattern itself must not find it a second time through the table.
    pub(super) is_wildcard: bool,
}

impl Group {
    /// The group that says the same as an inline slot.
    pub(super) fn of_slot(slot: Slot) -> Self {
        let mut group = Self::default();
        match slot {
            Slot::Local(sub) => {
                group.plain.insert(sub);
            }
            Slot::Remote(shard) => group.remote.push(shard),
            Slot::Group(_) => {}
        }
        group
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.remote.is_empty() && self.queues.is_empty()
    }

    /// The inline slot that says the same, if there is one.
    pub(super) fn as_inline(&self) -> Option<Slot> {
        if self.is_wildcard || !self.queues.is_empty() {
            return None;
        }
        match (self.plain.as_slice(), self.remote.as_slice()) {
            ([sub], []) => Some(Slot::Local(*sub)),
            ([], [shard]) => Some(Slot::Remote(*shard)),
            _ => None,
        }
    }

    pub(super) fn set_remote_plain(&mut self, shard: ShardId, present: bool) {
        match (self.remote.binary_search(&shard), present) {
            (Err(position), true) => self.remote.insert(position, shard),
            (Ok(position), false) => {
                self.remote.remove(position);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_eight_bytes() {
        assert_eq!(size_of::<Slot>(), 8);
    }

    #[test]
    fn a_large_list_removes_in_any_order() {
        let mut list = SubList::default();
        for sub in 0..1000 {
            assert!(list.insert(sub));
            assert!(!list.insert(sub));
        }
        for sub in (0..1000).filter(|sub| sub % 3 != 0) {
            assert!(list.remove(sub));
            assert!(!list.remove(sub));
        }
        let mut left = list.as_slice().to_vec();
        left.sort_unstable();
        assert_eq!(left, (0..1000).filter(|sub| sub % 3 == 0).collect::<Vec<_>>());
        for sub in left {
            assert!(list.remove(sub));
        }
        assert!(list.is_empty() && list.positions.is_none());
    }
}
