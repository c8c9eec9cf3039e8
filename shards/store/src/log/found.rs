//! A file of a segment as recovery finds it.

use super::header::{DATA_START, Header, SLOT_BYTES, SLOT_OFFSETS, Slot, SlotState};
use super::record::Head;

/// The slots in the start of a segment, and how many of them hold with one bit turned back only.
pub(super) fn slots_of(start: &[u8]) -> ([SlotState; 2], u32) {
    let mut mended_slots = 0;
    let slots = SLOT_OFFSETS.map(|offset| {
        let at = offset as usize;
        let bytes = start.get(at..at + SLOT_BYTES).unwrap_or_default();
        let state = SlotState::parse(bytes);
        let mended = (state == SlotState::Torn).then(|| SlotState::mend(bytes)).flatten();
        mended_slots += u32::from(mended.is_some());
        mended.map_or(state, SlotState::Valid)
    });
    (slots, mended_slots)
}

/// A file of a segment, as found.
pub(super) struct FoundSegment {
    pub(super) number: u32,
    pub(super) header: Header,
    pub(super) file_len: u32,
    pub(super) slots: [SlotState; 2],
    pub(super) header_is_whole: bool,
    /// Slots that hold only because one of their bits was turned back.
    pub(super) mended_slots: u32,
}

impl FoundSegment {
    /// Something was committed to it.
    pub(super) fn is_used(&self, start: &[u8]) -> bool {
        let identity = self.header.identity;
        let first = start.get(DATA_START as usize..).unwrap_or_default();
        Head::parse(first, identity.binding(), DATA_START).is_some()
            || self.slots.iter().any(|slot| match slot {
                SlotState::Valid(slot) => slot.head.generation > 1,
                SlotState::Torn => true,
                SlotState::Blank => false,
            })
    }

    pub(super) fn valid_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter_map(|slot| slot.of(self.header.identity))
    }

    pub(super) fn newest(&self) -> Option<&Slot> {
        self.valid_slots().max_by_key(|slot| slot.head.generation)
    }

    /// The generation behind which a start counts on, which decides the slot it writes first. If
    /// the newest slot is of a commit that tore, its place is the one: the older slot is right as
    /// long as nothing else is whole, and a torn slot beside it tells no start that the commit
    /// before it was complete.
    pub(super) fn generation_before_mending(&self, end: u32) -> u64 {
        let Some(newest) = self.newest() else { return 0 };
        let generation = newest.head.generation;
        let is_older = |slot: &&Slot| slot.head.generation < generation && slot.end() <= end;
        let tore = newest.end() > end && self.valid_slots().any(|slot| is_older(&slot));
        generation + u64::from(tore)
    }

    /// The bytes of the slots, in the order in which they count.
    pub(super) fn overlays(&self) -> Vec<(u32, Vec<u8>)> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let mut slots: Vec<&Slot> =
            self.valid_slots().filter(|slot| slot.end() <= newest.end()).collect();
        slots.sort_unstable_by_key(|slot| slot.head.generation);
        slots.iter().map(|slot| (slot.head.block, slot.bytes.clone())).collect()
    }
}
