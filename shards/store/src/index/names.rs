//! From the hash of a name to its number. Everything that is needed to look at a subject lies in
//! one place, so that a look costs two waits for memory and not four: with a million subjects
//! each of them is one.

const EMPTY: u32 = u32::MAX;
const SLOTS_MIN: usize = 16;

/// A name that is known.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Half of the hash; its low bits say where the slot should be.
    tag: u32,
    id: u32,
    /// Where the name is.
    name: u32,
}

const FREE: Slot = Slot { tag: 0, id: EMPTY, name: 0 };

/// The names: open addressing, each in the first free slot after its place.
#[derive(Debug, Default)]
pub(crate) struct Names {
    slots: Vec<Slot>,
    len: usize,
}

const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Names {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    const fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// The name with this hash for which `is_same` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut at = tag as usize & self.mask();
        loop {
            let slot = self.slots.get(at)?;
            if slot.id == EMPTY {
                return None;
            }
            if slot.tag == tag && is_same(slot.name) {
                return Some(slot.id);
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Adds a name that is not there.
    pub(crate) fn insert(&mut self, hash: u64, id: u32, name: u32) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.rebuild((self.slots.len() * 2).max(SLOTS_MIN));
        }
        self.len += 1;
        self.place(Slot { tag: tag(hash), id, name });
    }

    fn place(&mut self, new: Slot) {
        let mask = self.mask();
        let mut at = new.tag as usize & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.id == EMPTY {
                *slot = new;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn rebuild(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![FREE; slots]);
        for slot in old.into_iter().filter(|slot| slot.id != EMPTY) {
            self.place(slot);
        }
    }

    /// Makes room for `count` names.
    pub(crate) fn reserve(&mut self, count: usize) {
        let slots = (count * 4 / 3 + 1).next_power_of_two().max(SLOTS_MIN);
        if slots > self.slots.len() {
            self.rebuild(slots);
        }
    }

    /// Takes a name out, and moves those behind it closer to their places.
    pub(crate) fn remove(&mut self, hash: u64, id: u32) {
        let mask = self.mask();
        let mut hole = tag(hash) as usize & mask;
        loop {
            match self.slots.get(hole) {
                Some(slot) if slot.id == id => break,
                Some(slot) if slot.id != EMPTY => hole = (hole + 1) & mask,
                _ => return,
            }
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(&slot) = self.slots.get(at).filter(|slot| slot.id != EMPTY) else { break };
            let home = slot.tag as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                if let Some(place) = self.slots.get_mut(hole) {
                    *place = slot;
                }
                hole = at;
            }
        }
        if let Some(place) = self.slots.get_mut(hole) {
            *place = FREE;
        }
        self.len -= 1;
        if self.slots.len() > SLOTS_MIN && self.len * 8 < self.slots.len() {
            self.rebuild(self.slots.len() / 2);
        }
    }

    /// Every name's number and place, the place to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut u32)> {
        let known = self.slots.iter_mut().filter(|slot| slot.id != EMPTY);
        known.map(|slot| (slot.id, &mut slot.name))
    }

    /// Bytes of memory.
    pub(crate) const fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Few different tags, so that names get into each other's way.
        #[test]
        fn names_are_found_after_others_went(
            ops in prop::collection::vec((any::<bool>(), 0u32..200, 0u64..40), 0..600),
        ) {
            let mut names = Names::default();
            let mut model = BTreeMap::new();
            let hash_of = |id: u32, spread: u64| (u64::from(id) % 7 + spread) << 32;
            for (is_insert, id, spread) in ops {
                if is_insert && !model.contains_key(&id) {
                    names.insert(hash_of(id, spread), id, id + 1000);
                    model.insert(id, spread);
                } else if let Some(spread) = model.remove(&id) {
                    names.remove(hash_of(id, spread), id);
                }
                prop_assert_eq!(names.len(), model.len());
            }
            for id in 0..200u32 {
                let spread = model.get(&id).copied();
                let hash = hash_of(id, spread.unwrap_or(0));
                let found = names.find(hash, |name| name == id + 1000);
                prop_assert_eq!(found, spread.map(|_| id));
            }
        }
    }
}
