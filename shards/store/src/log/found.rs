//! A file of a segment as recovery finds it.

use super::header::{DATA_START, Header, Slot, SlotState};
use super::record::Head;

/// A file of a segment, as found.
pub(super) struct FoundSegment {
    pub(super) number: u32,
    pub(super) header: Header,
    pub(super) file_len: u32,
    pub(super) slots: [SlotState; 2],
    pub(super) header_is_whole: bool,
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

    /// The bytes of the slots, in the order in which they count.
    pub(super) fn overlays(&self) -> Vec<(u32, Vec<u8>)> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let mut slots: Vec<&Slot> =
            self.valid_slots().filter(|slot| slot.end() <= newest.end()).collect();
        slots.sort_unstable_by_key(|slot| slot.head.generation);
        slots.iter().map(|slot| (slot.head.block, slot.bytes.clone())).collect()
    }
}
