//! Where the notes of a log lie: the latest value of each and the changes after it.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::record::{add_part, parts_of};
use super::{AppendError, Location, Log, Record};

/// One note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Its value, or a copy with changes in it; none when only changes were found.
    pub(super) put: Option<Location>,
    /// What came after, in order.
    pub(super) deltas: Vec<Location>,
    /// An older record that says the same as `put`, as long as nothing came after.
    pub(super) twin: Option<Location>,
    /// The first segment in which anything of it may lie.
    pub(super) since: u32,
    /// It ended, which `put` says; something older of it lies in an earlier segment.
    pub(super) removed: bool,
}

impl Note {
    pub(super) fn lies_in(&self, segment: u32) -> bool {
        self.locations().any(|location| location.segment == segment)
    }

    /// The second copy, if it lies in another segment. One in the same segment is not kept when
    /// the segment is written anew, for the two could become neighbours.
    pub(super) fn far_twin(&self) -> Option<Location> {
        let put = self.put?;
        self.twin.filter(|twin| twin.segment != put.segment)
    }

    /// The records that say what it is; the second copy is not among them.
    pub(super) fn locations(&self) -> impl Iterator<Item = &Location> {
        self.put.iter().chain(&self.deltas)
    }
}

/// The bytes of a note, gathered from its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NoteParts {
    pub(super) value: Option<Vec<u8>>,
    pub(super) deltas: Vec<Vec<u8>>,
}

impl NoteParts {
    /// What a note is after a further record of it; false when the record is no note's.
    pub(super) fn apply(&mut self, record: &Record<'_>) -> bool {
        match record {
            Record::NotePut { value, .. } => {
                *self = Self { value: Some(value.to_vec()), deltas: Vec::new() };
            }
            Record::NoteDelta { delta, .. } => self.deltas.push(delta.to_vec()),
            Record::NoteCopy { has_value, parts, .. } => {
                let mut parts = parts_of(parts).map(<[u8]>::to_vec);
                let value = if *has_value { parts.next() } else { None };
                *self = Self { value, deltas: parts.collect() };
            }
            Record::NoteRemove { .. } => *self = Self::default(),
            _ => return false,
        }
        true
    }

    /// The parts of a `NoteCopy`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut parts = Vec::new();
        for part in self.value.iter().chain(&self.deltas) {
            add_part(&mut parts, part);
        }
        parts
    }
}

/// All notes of a log.
#[derive(Debug, Default)]
pub(super) struct Notes {
    map: HashMap<Box<[u8]>, Note, RandomState>,
}

impl Notes {
    /// Follows a record that was appended or found.
    pub(super) fn apply(&mut self, record: &Record<'_>, location: Location) {
        match record {
            Record::NotePut { key, .. } => self.put(key, location, None),
            Record::NoteCopy { key, .. } => {
                let same = self.map.get(*key).filter(|old| !old.removed && old.deltas.is_empty());
                let twin = same.and_then(|old| old.put);
                self.put(key, location, twin);
            }
            Record::NoteDelta { key, .. } => self.add(key, location),
            Record::NoteRemove { key } => self.remove(key, location),
            _ => {}
        }
    }

    fn put(&mut self, key: &[u8], location: Location, twin: Option<Location>) {
        let since = self.map.get(key).map_or(location.segment, |old| old.since);
        let note = Note { put: Some(location), twin, since, ..Note::default() };
        match self.map.get_mut(key) {
            Some(old) => *old = note,
            None => drop(self.map.insert(key.into(), note)),
        }
    }

    /// What lies in earlier segments must not come back when the segment of this record goes.
    fn remove(&mut self, key: &[u8], location: Location) {
        match self.map.get_mut(key) {
            Some(note) if note.since < location.segment => {
                let since = note.since;
                *note = Note { put: Some(location), since, removed: true, ..Note::default() };
            }
            _ => drop(self.map.remove(key)),
        }
    }

    pub(super) fn forget(&mut self, key: &[u8]) {
        self.map.remove(key);
    }

    /// True when the record at `location` counts.
    pub(super) fn has(&self, key: &[u8], location: Location) -> bool {
        self.map.get(key).is_some_and(|note| {
            note.locations().any(|at| *at == location) || note.far_twin() == Some(location)
        })
    }

    /// A record of a note lies elsewhere from now on.
    pub(super) fn relocate(&mut self, key: &[u8], old: Location, new: Location) {
        let Some(note) = self.map.get_mut(key) else { return };
        let places = note.put.iter_mut().chain(&mut note.deltas).chain(&mut note.twin);
        places.filter(|place| **place == old).for_each(|place| *place = new);
    }

    fn add(&mut self, key: &[u8], location: Location) {
        match self.map.get_mut(key) {
            Some(note) if !note.removed => {
                note.twin = None;
                note.deltas.push(location);
            }
            Some(note) => {
                // A change of nothing; as before, it is a note without value.
                let since = note.since;
                *note = Note { deltas: vec![location], since, ..Note::default() };
            }
            None => {
                let since = location.segment;
                let note = Note { deltas: vec![location], since, ..Note::default() };
                self.map.insert(key.into(), note);
            }
        }
    }

    pub(super) fn insert(&mut self, key: &[u8], note: Note) {
        self.map.insert(key.into(), note);
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Note> {
        self.map.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Note)> {
        self.map.iter().map(|(key, note)| (&**key, note))
    }

    /// The records that a note has in a segment lie in these places, in order, if there are as
    /// many of them.
    pub(super) fn relocate_all(&mut self, key: &[u8], segment: u32, places: &[Location]) {
        let Some(note) = self.map.get_mut(key) else { return };
        note.twin = note.far_twin().or(note.twin.filter(|twin| twin.segment != segment));
        let own = note.put.iter_mut().chain(&mut note.deltas).chain(&mut note.twin);
        let own: Vec<_> = own.filter(|place| place.segment == segment).collect();
        if own.len() == places.len() {
            own.into_iter().zip(places).for_each(|(own, place)| *own = *place);
        }
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Note> {
        self.map.get_mut(key)
    }

    /// Forgets the second copies for which this is true: the keys.
    pub(super) fn forget_twins(
        &mut self,
        goes: impl Fn(&Note, &Location) -> bool,
    ) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        for (key, note) in &mut self.map {
            if note.twin.is_some_and(|twin| goes(note, &twin)) {
                note.twin = None;
                keys.push(key.clone());
            }
        }
        keys
    }

    /// Notes that have not ended.
    pub(super) fn live(&self) -> impl Iterator<Item = (&[u8], &Note)> {
        self.iter().filter(|(_, note)| !note.removed)
    }

    /// Keys of the notes of which something lies in a segment.
    pub(super) fn keys_in(&self, segment: u32) -> Vec<Box<[u8]>> {
        let lies_there = self.map.iter().filter(|(_, note)| note.lies_in(segment));
        lies_there.map(|(key, _)| key.clone()).collect()
    }
}

impl Log {
    /// Gives a note a value, in place of what it had.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn put_note(&mut self, key: &[u8], value: &[u8]) -> Result<Location, AppendError> {
        self.append(&Record::NotePut { key, value })
    }

    /// Adds a change to a note. Many changes make restarts slow: put the value again then.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn add_delta(&mut self, key: &[u8], delta: &[u8]) -> Result<Location, AppendError> {
        self.append(&Record::NoteDelta { key, delta })
    }

    /// Ends a note.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn remove_note(&mut self, key: &[u8]) -> Result<Location, AppendError> {
        self.append(&Record::NoteRemove { key })
    }

    /// How many changes a note has since its value was put.
    #[must_use]
    pub fn deltas_of(&self, key: &[u8]) -> usize {
        self.notes.get(key).map_or(0, |note| note.deltas.len())
    }

    /// Bytes of records in a segment that notes still need: what dropping it would copy.
    #[must_use]
    pub fn note_bytes_in(&self, segment: u32) -> u64 {
        let all = self.notes.iter().flat_map(|(_, note)| note.locations());
        all.filter(|place| place.segment == segment).map(|place| u64::from(place.len)).sum()
    }
}
