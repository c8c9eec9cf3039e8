//! Every subject that a stream has messages of: its name, how many, the first and the last.

use super::image::{Reader, put_u32, put_u64};
use super::names::Names;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// A page of names takes this many bytes, unless one name needs more.
const PAGE_BYTES: usize = 1 << 16;
/// Names are kept with a length of two bytes.
pub(crate) const NAME_BYTES_MAX: usize = u16::MAX as usize;
/// Below this much waste, names are not moved together.
const WASTE_BYTES_MIN: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Page in the upper half, place in the page in the lower.
    name: u32,
    count: u32,
    first: u64,
    last: u64,
}

/// Facts of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectState {
    /// Messages.
    pub count: u64,
    /// Sequence number of the oldest.
    pub first: u64,
    /// Sequence number of the newest.
    pub last: u64,
}

/// The table of subjects.
#[derive(Debug)]
pub(crate) struct Subjects {
    hasher: FixedState,
    by_name: Names,
    rows: Vec<Row>,
    free: Vec<u32>,
    pages: Vec<Vec<u8>>,
    name_bytes: usize,
    waste_bytes: usize,
}

fn name_at(pages: &[Vec<u8>], name: u32) -> &[u8] {
    let page = pages.get((name >> 16) as usize).map_or(&[][..], Vec::as_slice);
    let rest = page.get((name & 0xffff) as usize..).unwrap_or_default();
    match rest.split_first_chunk::<2>() {
        Some((len, rest)) => rest.get(..usize::from(u16::from_le_bytes(*len))).unwrap_or_default(),
        None => &[],
    }
}

impl Subjects {
    /// A table that hashes with a seed, so that nobody outside can make names collide.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            by_name: Names::default(),
            rows: Vec::new(),
            free: Vec::new(),
            pages: Vec::new(),
            name_bytes: 0,
            waste_bytes: 0,
        }
    }

    /// Subjects with messages.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The number of a subject.
    pub(crate) fn find(&self, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.by_name.find(hash, |place| name_at(&self.pages, place) == name)
    }

    /// The name of a subject that has messages.
    pub(crate) fn name(&self, id: u32) -> &[u8] {
        self.rows.get(id as usize).map_or(&[], |row| name_at(&self.pages, row.name))
    }

    /// Facts of a subject.
    pub(crate) fn state(&self, id: u32) -> Option<SubjectState> {
        let row = self.rows.get(id as usize).filter(|row| row.count > 0)?;
        Some(SubjectState { count: u64::from(row.count), first: row.first, last: row.last })
    }

    /// Numbers of all subjects, in no order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().enumerate().filter(|(_, row)| row.count > 0).map(|(id, _)| id as u32)
    }

    /// Notes a message: the subject's number and the message before it, if the subject is known.
    pub(crate) fn add(&mut self, name: &[u8], seq: u64) -> (u32, Option<u64>) {
        let hash = self.hasher.hash_one(name);
        let found = self.by_name.find(hash, |place| name_at(&self.pages, place) == name);
        if let Some(id) = found
            && let Some(row) = self.rows.get_mut(id as usize)
        {
            row.count += 1;
            return (id, Some(std::mem::replace(&mut row.last, seq)));
        }
        let name = self.keep(name);
        let row = Row { name, count: 1, first: seq, last: seq };
        let id = self.free.pop().unwrap_or(self.rows.len() as u32);
        match self.rows.get_mut(id as usize) {
            Some(place) => *place = row,
            None => self.rows.push(row),
        }
        self.by_name.insert(hash, id, name);
        (id, None)
    }

    fn keep(&mut self, name: &[u8]) -> u32 {
        let need = name.len() + 2;
        let fits = |page: &Vec<u8>| page.len() + need <= PAGE_BYTES;
        if !self.pages.last().is_some_and(fits) {
            self.pages.push(Vec::with_capacity(PAGE_BYTES.max(need)));
        }
        self.name_bytes += need;
        let number = self.pages.len() as u32 - 1;
        let Some(page) = self.pages.last_mut() else { return 0 };
        let at = page.len() as u32;
        page.extend_from_slice(&(name.len() as u16).to_le_bytes());
        page.extend_from_slice(name);
        number << 16 | at
    }

    /// One message less; how many there are left. With none left the subject is forgotten, and
    /// its number may come again for another.
    pub(crate) fn take(&mut self, id: u32) -> u64 {
        let Some(row) = self.rows.get_mut(id as usize) else { return 0 };
        row.count = row.count.saturating_sub(1);
        if row.count > 0 {
            return u64::from(row.count);
        }
        let name = row.name;
        let hash = self.hasher.hash_one(name_at(&self.pages, name));
        self.by_name.remove(hash, id);
        self.waste_bytes += name_at(&self.pages, name).len() + 2;
        self.free.push(id);
        self.move_together();
        0
    }

    fn move_together(&mut self) {
        if self.waste_bytes < WASTE_BYTES_MIN || self.waste_bytes * 2 < self.name_bytes {
            return;
        }
        let old = std::mem::take(&mut self.pages);
        self.name_bytes = 0;
        self.waste_bytes = 0;
        let mut known = std::mem::take(&mut self.by_name);
        for (id, place) in known.iter_mut() {
            *place = self.keep(name_at(&old, *place));
            if let Some(row) = self.rows.get_mut(id as usize) {
                row.name = *place;
            }
        }
        self.by_name = known;
    }

    /// Forgets all subjects.
    pub(crate) fn clear(&mut self) {
        self.by_name = Names::default();
        self.rows = Vec::new();
        self.free = Vec::new();
        self.pages = Vec::new();
        self.name_bytes = 0;
        self.waste_bytes = 0;
    }

    /// Moves the first message of a subject.
    pub(crate) fn set_first(&mut self, id: u32, seq: u64) {
        if let Some(row) = self.rows.get_mut(id as usize) {
            row.first = seq;
        }
    }

    /// Moves the last message of a subject.
    pub(crate) fn set_last(&mut self, id: u32, seq: u64) {
        if let Some(row) = self.rows.get_mut(id as usize) {
            row.last = seq;
        }
    }

    /// Writes the table down.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.rows.len() as u64);
        for row in &self.rows {
            put_u32(out, row.count);
            if row.count > 0 {
                put_u64(out, row.first);
                put_u64(out, row.last);
                let name = name_at(&self.pages, row.name);
                put_u32(out, name.len() as u32);
                out.extend_from_slice(name);
            }
        }
    }

    /// Reads a table.
    pub(crate) fn decode(reader: &mut Reader<'_>, seed: u64) -> Option<Self> {
        let count = reader.count(4)?;
        let mut table = Self::new(seed);
        table.rows.reserve_exact(count);
        table.by_name.reserve(count);
        for id in 0..count as u32 {
            let count = reader.u32()?;
            if count == 0 {
                table.rows.push(Row { name: 0, count: 0, first: 0, last: 0 });
                table.free.push(id);
                continue;
            }
            let (first, last) = (reader.u64()?, reader.u64()?);
            let len = reader.u32()? as usize;
            let name = reader.bytes(len).filter(|_| len <= NAME_BYTES_MAX)?;
            let hash = table.hasher.hash_one(name);
            let name = table.keep(name);
            table.by_name.insert(hash, id, name);
            table.rows.push(Row { name, count, first, last });
        }
        Some(table)
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + self.free.capacity() * 4
            + self.by_name.heap_bytes()
            + self.pages.iter().map(Vec::capacity).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_come_and_go() {
        let mut table = Subjects::new(7);
        assert_eq!(table.add(b"a.b", 1), (0, None));
        assert_eq!(table.add(b"a.c", 2), (1, None));
        assert_eq!(table.add(b"a.b", 3), (0, Some(1)));
        assert_eq!(table.state(0), Some(SubjectState { count: 2, first: 1, last: 3 }));
        assert_eq!(table.take(1), 0);
        assert_eq!(table.find(b"a.c"), None);
        assert_eq!(table.add(b"a.d", 4), (1, None));
        assert_eq!(table.name(1), b"a.d");
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn names_of_forgotten_subjects_are_given_back() {
        let mut table = Subjects::new(7);
        for i in 0..200_000u64 {
            let name = format!("device.{i}.temperature.of.the.engine");
            let (id, _) = table.add(name.as_bytes(), i + 1);
            if i % 10 != 0 {
                table.take(id);
            }
        }
        assert_eq!(table.len(), 20_000);
        assert!(table.heap_bytes() < 6 << 20, "{}", table.heap_bytes());
        for i in (0..200_000u64).step_by(10) {
            let name = format!("device.{i}.temperature.of.the.engine");
            assert!(table.find(name.as_bytes()).is_some());
        }
    }
}
