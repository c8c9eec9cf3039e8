//! Notes at start: read from where they lie and given to the owner. Of a note that is kept twice,
//! the copy that can be read counts.

use std::collections::VecDeque;

use super::notes::NoteParts;
use super::pack::{self, Scratch};
use super::record::HEAD_BYTES;
use super::recover::Recoverer;
use super::scan::Scanner;
use super::segment::{Segment, segment_path};
use super::{Head, Kind, Location};

/// A note as it was read.
#[derive(Clone, Debug, Default)]
struct FoundNote {
    parts: NoteParts,
    /// A part of it was not read.
    is_lost: bool,
    has_twin: bool,
    twin: Option<NoteParts>,
}

impl FoundNote {
    fn is_whole(&self) -> bool {
        !self.is_lost && self.parts.value.is_some()
    }
}

/// Damaged bytes, and kind and number of the record that they were, as far as known.
type Hit = (Location, Option<(Kind, u64)>);

/// A record of a note: where it lies, whose it is, and whether it is the second copy.
type Place = (Location, usize, bool);

impl Recoverer<'_> {
    /// Reads the notes from where they lie and gives them to the owner.
    pub(super) fn hand_out_notes(&mut self, segments: &VecDeque<Segment>, tail: (u32, u32, &[u8])) {
        let mut places: Vec<Place> = Vec::new();
        let keys: Vec<Box<[u8]>> = self.follower.notes.live().map(|(key, _)| key.into()).collect();
        let mut found = vec![FoundNote::default(); keys.len()];
        for (at, (_, note)) in self.follower.notes.live().enumerate() {
            places.extend(note.locations().map(|location| (*location, at, false)));
            places.extend(note.twin.map(|location| (location, at, true)));
            if let Some(found) = found.get_mut(at) {
                found.has_twin = note.twin.is_some();
            }
        }
        places.sort_unstable();
        for run in places.chunk_by(|a, b| a.0.segment == b.0.segment) {
            self.read_notes(segments, tail, run, &mut found);
        }
        for (key, found) in keys.iter().zip(&found) {
            let parts = self.choose(key, found);
            self.follower.owner.handle_note(key, parts.value.as_deref(), &parts.deltas);
        }
        self.doubt_notes(segments);
    }

    /// Reads what notes have in one segment.
    fn read_notes(
        &mut self,
        segments: &VecDeque<Segment>,
        tail: (u32, u32, &[u8]),
        run: &[Place],
        found: &mut [FoundNote],
    ) {
        let Some((first, ..)) = run.first() else { return };
        let segment = segments.iter().find(|segment| segment.number() == first.segment);
        let mut scratch = Scratch::default();
        let path = segment_path(&self.options.dir, first.segment);
        let (tail_segment, tail_at, bytes) = tail;
        let is_last = tail_segment == first.segment;
        let overlays = if is_last { vec![(tail_at, bytes.to_vec())] } else { Vec::new() };
        let file_len = segment.map_or(0, |segment| segment.file_len);
        let mut scanner = Scanner::new(self.boot, &path, file_len, overlays);
        for (location, at, is_twin) in run {
            let Some(found) = found.get_mut(*at) else { continue };
            let raw =
                segment.and_then(|segment| scanner.record(segment.binding, location.offset).ok());
            let key = segment.and_then(|segment| segment.key.as_deref());
            let record =
                raw.and_then(|raw| pack::decode(&raw, location.offset, key, &mut scratch).ok());
            let mut twin = NoteParts::default();
            let parts = if *is_twin { &mut twin } else { &mut found.parts };
            let is_read = record.is_some_and(|record| parts.apply(&record));
            if !*is_twin {
                found.is_lost |= !is_read;
            } else if is_read {
                found.twin = Some(twin);
            }
        }
        self.report.read_error = self.report.read_error.or(scanner.read_error);
    }

    /// What counts of a note; a copy that does not hold is forgotten, and told.
    fn choose(&mut self, key: &[u8], found: &FoundNote) -> NoteParts {
        let note = self.follower.notes.get_mut(key);
        if found.is_whole() {
            if found.has_twin && found.twin.as_ref() != Some(&found.parts) {
                if let Some(note) = note {
                    note.twin = None;
                }
                self.report.damaged_copies.push(key.to_vec());
            }
            return found.parts.clone();
        }
        if let Some(twin) = found.twin.as_ref().filter(|twin| twin.value.is_some()) {
            if let Some(note) = note {
                note.put = note.twin.take();
            }
            self.report.damaged_copies.push(key.to_vec());
            return twin.clone();
        }
        self.report.damaged_notes.push(key.to_vec());
        found.parts.clone()
    }

    /// Compares damaged places with the vital notes that have one copy: it may have been the
    /// other, or, behind the one there is, a newer value.
    fn doubt_notes(&mut self, segments: &VecDeque<Segment>) {
        let mut regions: Vec<Vec<Hit>> = Vec::new();
        for damage in &self.follower.damage {
            let segment = segments.iter().find(|segment| segment.number() == damage.segment);
            let Some(segment) = segment else { continue };
            let path = segment_path(&self.options.dir, damage.segment);
            let mut scanner = Scanner::new(self.boot, &path, segment.file_len, Vec::new());
            // As long as heads hold, it is known what was there.
            let (mut at, end) = (damage.offset, damage.offset.saturating_add(damage.len));
            let mut places = Vec::new();
            while at < end {
                let bytes = scanner.bytes(at, HEAD_BYTES);
                let head = Head::parse(bytes, segment.binding, at);
                let head = head.filter(|head| head.len <= (end - at) as usize);
                let len = head.as_ref().map_or(end - at, |head| head.len as u32);
                let place = Location { segment: damage.segment, offset: at, len };
                places.push((place, head.map(|head| (head.kind, head.number))));
                at += len;
            }
            regions.push(places);
        }
        if regions.is_empty() {
            return;
        }
        let vital = self.follower.notes.live().filter(|(key, _)| (self.options.is_vital)(key));
        for (key, note) in vital {
            let Some(put) = note.put else { continue };
            let may_be_its = |named: &Option<(Kind, u64)>| {
                named.is_none_or(|(kind, number)| {
                    let is_note = matches!(kind, Kind::NotePut | Kind::NoteCopy);
                    is_note && number == key.len() as u64
                })
            };
            let has_its = |from: Location, region: &[Hit]| {
                region.iter().any(|(at, named)| *at > from && may_be_its(named))
            };
            // A newer value had two copies that no single place has both of.
            let hits = regions.iter().filter(|region| has_its(put, region)).count();
            let is_hit = regions.iter().any(|region| has_its(Location::default(), region));
            let is_known = self.report.damaged_copies.iter().any(|known| **known == *key);
            if hits > 1 {
                self.report.doubtful_notes.push(key.to_vec());
            } else if note.twin.is_none() && !is_known && is_hit {
                self.report.damaged_copies.push(key.to_vec());
            }
        }
    }

    /// Keys of the vital notes of which there is one copy, in the order in which they lie.
    pub(super) fn single_notes(&self) -> Vec<Box<[u8]>> {
        let live = self.follower.notes.live();
        let single = live.filter(|(key, note)| {
            note.twin.is_none() && note.deltas.is_empty() && (self.options.is_vital)(key)
        });
        let mut places: Vec<_> = single.filter_map(|(key, note)| Some((note.put?, key))).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, key)| key.into()).collect()
    }
}
