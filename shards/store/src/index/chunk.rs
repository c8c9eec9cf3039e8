//! What is known of 256 consecutive sequence numbers: where each message lies, its time, subject,
//! size and the next message of its subject. The newest chunk is a plain list; a full one is
//! packed, each number in just as many bits as the chunk needs.

use super::bits;
use super::image::{Reader, put_u64};

/// Sequence numbers in a chunk.
pub(crate) const CHUNK_SEQS: u64 = 256;

/// The subject's next message is not known to exist.
pub(crate) const NO_LINK: u64 = 0;

/// What the index keeps of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    /// Where the record lies, as the storage behind numbers its places.
    pub(crate) location: u64,
    /// When it was stored, ns since 1970.
    pub(crate) ts_ns: i64,
    /// Subject, as the subject table numbers it.
    pub(crate) subject: u32,
    /// Bytes of subject, headers and payload.
    pub(crate) size: u32,
    /// See [`HAS_HEADERS`] and those after it.
    pub(crate) flags: u8,
    /// How far on the next message of this subject is; [`NO_LINK`] when there is none.
    pub(crate) link: u64,
}

/// The message has a header block.
pub(crate) const HAS_HEADERS: u8 = 1;
/// The message has a `Nats-Msg-Id`.
pub(crate) const HAS_MSG_ID: u8 = 2;
/// The message ends by itself.
pub(crate) const HAS_EXPIRY: u8 = 4;

/// A set of positions in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Mask([u64; 4]);

impl Mask {
    pub(crate) fn contains(&self, at: u8) -> bool {
        self.0[usize::from(at >> 6)] >> (at & 63) & 1 == 1
    }

    pub(crate) fn insert(&mut self, at: u8) {
        self.0[usize::from(at >> 6)] |= 1 << (at & 63);
    }

    pub(crate) fn remove(&mut self, at: u8) {
        self.0[usize::from(at >> 6)] &= !(1 << (at & 63));
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// How many members lie below `at`.
    pub(crate) fn rank(&self, at: u8) -> u32 {
        let word = usize::from(at >> 6);
        let below: u32 = self.0[..word].iter().map(|w| w.count_ones()).sum();
        below + (self.0[word] & ((1 << (at & 63)) - 1)).count_ones()
    }

    /// The first member at or after `at`.
    pub(crate) fn next(&self, at: u8) -> Option<u8> {
        let mut word = usize::from(at >> 6);
        let mut bits = self.0[word] & u64::MAX << (at & 63);
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some((word as u32 * 64 + bits.trailing_zeros()) as u8)
    }

    /// The last member at or before `at`.
    pub(crate) fn previous(&self, at: u8) -> Option<u8> {
        let mut word = usize::from(at >> 6);
        let mut bits = self.0[word] & u64::MAX >> (63 - (at & 63));
        while bits == 0 {
            word = word.checked_sub(1)?;
            bits = self.0[word];
        }
        Some((word as u32 * 64 + 63 - bits.leading_zeros()) as u8)
    }

    fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u8> {
        let mask = *self;
        let mut from = Some(0);
        std::iter::from_fn(move || {
            let at = mask.next(from?)?;
            from = at.checked_add(1);
            Some(at)
        })
    }
}

/// How a column is written: `base + slope * position + the bits`.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    base: u64,
    slope: u64,
    width: u8,
}

impl Column {
    fn fit(values: impl Iterator<Item = u64> + Clone) -> Self {
        let base = values.clone().min().unwrap_or(0);
        let width = values.map(|v| bits::width_of(v - base)).max().unwrap_or(0);
        Self { base, slope: 0, width }
    }

    /// Takes out what grows steadily, where that leaves fewer bits.
    fn fit_line(values: &[u64]) -> Self {
        let flat = Self::fit(values.iter().copied());
        let (Some(&first), Some(&last)) = (values.first(), values.last()) else { return flat };
        let Some(rise) = last.checked_sub(first) else { return flat };
        let slope = rise / (values.len() as u64 - 1).max(1);
        let line = |i: usize| slope.wrapping_mul(i as u64);
        let rests = values.iter().enumerate().map(|(i, &v)| v.wrapping_sub(line(i)) as i64);
        let Some(low) = rests.clone().min() else { return flat };
        let width = rests.map(|r| bits::width_of(r.wrapping_sub(low) as u64)).max().unwrap_or(64);
        if width < flat.width { Self { base: low as u64, slope, width } } else { flat }
    }

    fn rest(&self, at: usize, value: u64) -> u64 {
        value.wrapping_sub(self.base).wrapping_sub(self.slope.wrapping_mul(at as u64))
    }

    fn value(&self, at: usize, rest: u64) -> u64 {
        self.base.wrapping_add(self.slope.wrapping_mul(at as u64)).wrapping_add(rest)
    }
}

#[derive(Debug)]
struct Packed {
    location: Column,
    time: Column,
    subject: Column,
    size: Column,
    flags_width: u8,
    link_width: u8,
    row_bits: u16,
    data: Box<[u8]>,
}

impl Packed {
    fn new(entries: &[Entry], link_width: u8) -> Self {
        let line = |f: fn(&Entry) -> u64| {
            let mut values = [0; CHUNK_SEQS as usize];
            for (value, entry) in values.iter_mut().zip(entries) {
                *value = f(entry);
            }
            Column::fit_line(&values[..entries.len().min(values.len())])
        };
        let location = line(|e| e.location);
        let time = line(|e| e.ts_ns as u64);
        let subject = Column::fit(entries.iter().map(|e| u64::from(e.subject)));
        let size = Column::fit(entries.iter().map(|e| u64::from(e.size)));
        let flags = entries.iter().fold(0, |all, e| all | e.flags);
        let flags_width = bits::width_of(u64::from(flags));
        let row_bits = u16::from(location.width)
            + u16::from(time.width)
            + u16::from(subject.width)
            + u16::from(size.width)
            + u16::from(flags_width)
            + u16::from(link_width);
        let data = bits::buffer(usize::from(row_bits) * entries.len());
        let mut packed =
            Self { location, time, subject, size, flags_width, link_width, row_bits, data };
        for (row, entry) in entries.iter().enumerate() {
            packed.write_row(row, entry);
        }
        packed
    }

    fn write_row(&mut self, row: usize, entry: &Entry) {
        let mut at = row * usize::from(self.row_bits);
        for (width, value) in [
            (self.subject.width, self.subject.rest(row, u64::from(entry.subject))),
            (self.flags_width, u64::from(entry.flags)),
            (self.size.width, self.size.rest(row, u64::from(entry.size))),
            (self.location.width, self.location.rest(row, entry.location)),
            (self.time.width, self.time.rest(row, entry.ts_ns as u64)),
            (self.link_width, entry.link),
        ] {
            bits::write(&mut self.data, at, width, value);
            at += usize::from(width);
        }
    }

    fn subject(&self, row: usize) -> u32 {
        let rest = bits::read(&self.data, row * usize::from(self.row_bits), self.subject.width);
        self.subject.value(row, rest) as u32
    }

    fn time(&self, row: usize) -> i64 {
        let at = row * usize::from(self.row_bits)
            + usize::from(self.row_bits - u16::from(self.time.width) - u16::from(self.link_width));
        self.time.value(row, bits::read(&self.data, at, self.time.width)) as i64
    }

    fn link_at(&self, row: usize) -> usize {
        (row + 1) * usize::from(self.row_bits) - usize::from(self.link_width)
    }

    fn link(&self, row: usize) -> u64 {
        bits::read(&self.data, self.link_at(row), self.link_width)
    }

    fn entry(&self, row: usize) -> Entry {
        let mut at = row * usize::from(self.row_bits);
        let mut take = |width: u8| {
            let value = bits::read(&self.data, at, width);
            at += usize::from(width);
            value
        };
        Entry {
            subject: self.subject.value(row, take(self.subject.width)) as u32,
            flags: take(self.flags_width) as u8,
            size: self.size.value(row, take(self.size.width)) as u32,
            location: self.location.value(row, take(self.location.width)),
            ts_ns: self.time.value(row, take(self.time.width)) as i64,
            link: take(self.link_width),
        }
    }
}

#[derive(Debug)]
enum Rows {
    Plain(Vec<Entry>),
    Packed(Packed),
}

/// 256 sequence numbers.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Has a row.
    present: Mask,
    /// Is a message.
    live: Mask,
    /// Was a message, and the chain of its subject leads through it.
    holes: Option<Box<Mask>>,
    rows: Rows,
}

impl Chunk {
    pub(crate) const fn new() -> Self {
        let none = Mask([0; 4]);
        Self { present: none, live: none, holes: None, rows: Rows::Plain(Vec::new()) }
    }

    pub(crate) const fn live(&self) -> &Mask {
        &self.live
    }

    /// Whether a chain leads through a place: a message or a hole.
    pub(crate) fn is_linked(&self, at: u8) -> bool {
        self.live.contains(at) || self.holes.as_ref().is_some_and(|h| h.contains(at))
    }

    /// Whether neither a message nor a chain needs it.
    pub(crate) fn is_useless(&self) -> bool {
        self.live.is_empty() && self.holes.is_none()
    }

    /// One that begins with a list's room.
    pub(crate) fn with_room(rows: Vec<Entry>) -> Self {
        Self { rows: Rows::Plain(rows), ..Self::new() }
    }

    /// Adds a message after all that are there. The chunk is not packed.
    pub(crate) fn push(&mut self, at: u8, entry: Entry) {
        if let Rows::Plain(rows) = &mut self.rows {
            self.present.insert(at);
            self.live.insert(at);
            rows.push(entry);
        }
    }

    /// Makes a packed chunk one that can grow. `link` turns a link as it was packed into one that
    /// is not.
    pub(crate) fn thaw(&mut self, mut link: impl FnMut(u8, u64) -> u64) {
        if let Rows::Packed(packed) = &self.rows {
            let mut rows = Vec::with_capacity(CHUNK_SEQS as usize);
            for (row, at) in self.present.iter().enumerate() {
                let entry = packed.entry(row);
                rows.push(Entry { link: link(at, entry.link), ..entry });
            }
            self.rows = Rows::Plain(rows);
        }
    }

    /// Packs what is needed of it. `link` turns a link into one of `link_width` bits. Gives the
    /// list back, empty, for the next chunk to grow in.
    pub(crate) fn pack(
        &mut self,
        link_width: u8,
        mut link: impl FnMut(u8, u64) -> u64,
    ) -> Vec<Entry> {
        let keep = self.holes.as_ref().map_or(self.live, |holes| self.live.union(holes));
        let mut entries = match &mut self.rows {
            Rows::Plain(rows) => std::mem::take(rows),
            Rows::Packed(packed) => {
                let rows = 0..self.present.len() as usize;
                rows.map(|row| packed.entry(row)).collect()
            }
        };
        let present = self.present;
        let mut present = present.iter();
        entries.retain_mut(|entry| {
            let Some(at) = present.next().filter(|at| keep.contains(*at)) else { return false };
            entry.link = link(at, entry.link);
            true
        });
        self.rows = Rows::Packed(Packed::new(&entries, link_width));
        self.present = keep;
        entries.clear();
        entries
    }

    /// The bits of a link in the packed form.
    pub(crate) const fn link_width(&self) -> Option<u8> {
        match &self.rows {
            Rows::Plain(_) => None,
            Rows::Packed(packed) => Some(packed.link_width),
        }
    }

    /// Whether packing again would give back half of it.
    pub(crate) fn is_wasteful(&self) -> bool {
        let holes = self.holes.as_ref().map_or(0, |h| h.len());
        let present = self.present.len();
        matches!(self.rows, Rows::Packed(_))
            && present >= 16
            && (self.live.len() + holes) * 2 <= present
    }

    fn row(&self, at: u8) -> Option<Entry> {
        if !self.present.contains(at) {
            return None;
        }
        let row = self.present.rank(at) as usize;
        match &self.rows {
            Rows::Plain(rows) => rows.get(row).copied(),
            Rows::Packed(packed) => Some(packed.entry(row)),
        }
    }

    /// What is known of a live message.
    pub(crate) fn entry(&self, at: u8) -> Option<Entry> {
        if self.live.contains(at) { self.row(at) } else { None }
    }

    /// The subject of a live message.
    pub(crate) fn subject(&self, at: u8) -> Option<u32> {
        if !self.live.contains(at) {
            return None;
        }
        let row = self.present.rank(at) as usize;
        match &self.rows {
            Rows::Plain(rows) => rows.get(row).map(|e| e.subject),
            Rows::Packed(packed) => Some(packed.subject(row)),
        }
    }

    /// The time of a live message.
    pub(crate) fn time(&self, at: u8) -> Option<i64> {
        if !self.live.contains(at) {
            return None;
        }
        let row = self.present.rank(at) as usize;
        match &self.rows {
            Rows::Plain(rows) => rows.get(row).map(|e| e.ts_ns),
            Rows::Packed(packed) => Some(packed.time(row)),
        }
    }

    /// The link of a message or a hole.
    pub(crate) fn link(&self, at: u8) -> Option<u64> {
        if !self.present.contains(at) {
            return None;
        }
        let row = self.present.rank(at) as usize;
        match &self.rows {
            Rows::Plain(rows) => rows.get(row).map(|e| e.link),
            Rows::Packed(packed) => Some(packed.link(row)),
        }
    }

    /// Changes the link of a message or a hole.
    pub(crate) fn set_link(&mut self, at: u8, link: u64) {
        if !self.present.contains(at) {
            return;
        }
        let row = self.present.rank(at) as usize;
        match &mut self.rows {
            Rows::Plain(rows) => {
                if let Some(entry) = rows.get_mut(row) {
                    entry.link = link;
                }
            }
            Rows::Packed(packed) => {
                let place = packed.link_at(row);
                bits::write(&mut packed.data, place, packed.link_width, link);
            }
        }
    }

    /// Gives every message a new location.
    pub(crate) fn relocate(&mut self, mut f: impl FnMut(u8, u64) -> u64) {
        let width = self.link_width();
        self.thaw(|_, link| link);
        if let Rows::Plain(rows) = &mut self.rows {
            for (at, entry) in self.present.iter().zip(rows.iter_mut()) {
                if self.live.contains(at) {
                    entry.location = f(at, entry.location);
                }
            }
        }
        if let Some(width) = width {
            self.pack(width, |_, link| link);
        }
    }

    /// The message is gone; `is_hole` when a chain leads through it.
    pub(crate) fn kill(&mut self, at: u8, is_hole: bool) {
        self.live.remove(at);
        if is_hole {
            self.holes.get_or_insert_default().insert(at);
        }
    }

    /// No chain leads through it any more.
    pub(crate) fn close_hole(&mut self, at: u8) {
        if let Some(holes) = &mut self.holes {
            holes.remove(at);
            if holes.is_empty() {
                self.holes = None;
            }
        }
    }

    /// Writes a packed chunk down; one that is not packed has nothing to say.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Rows::Packed(packed) = &self.rows else { return };
        let holes = self.holes.as_deref().copied().unwrap_or_default();
        for word in self.present.0.iter().chain(&self.live.0).chain(&holes.0) {
            put_u64(out, *word);
        }
        out.extend_from_slice(&[packed.flags_width, packed.link_width]);
        for column in [&packed.location, &packed.time, &packed.subject, &packed.size] {
            put_u64(out, column.base);
            put_u64(out, column.slope);
            out.push(column.width);
        }
        let bytes = packed.data.len() - bits::SLACK_BYTES;
        out.extend_from_slice(packed.data.get(..bytes).unwrap_or_default());
    }

    /// Reads a chunk.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut masks = [Mask::default(); 3];
        for mask in &mut masks {
            for word in &mut mask.0 {
                *word = reader.u64()?;
            }
        }
        let (flags_width, link_width) = (reader.u8()?, reader.u8()?);
        let mut columns = [Column::default(); 4];
        for column in &mut columns {
            *column = Column { base: reader.u64()?, slope: reader.u64()?, width: reader.u8()? };
        }
        let widths = columns.map(|c| c.width);
        if widths.iter().any(|&w| w > 64) || flags_width > 8 || !(1..=63).contains(&link_width) {
            return None;
        }
        let row_bits =
            widths.iter().chain([&flags_width, &link_width]).map(|&w| u16::from(w)).sum::<u16>();
        let bits = usize::from(row_bits) * masks[0].len() as usize;
        let mut data = bits::buffer(bits);
        let bytes = bits.div_ceil(8);
        data.get_mut(..bytes)?.copy_from_slice(reader.bytes(bytes)?);
        let [location, time, subject, size] = columns;
        let packed =
            Packed { location, time, subject, size, flags_width, link_width, row_bits, data };
        Some(Self {
            present: masks[0],
            live: masks[1],
            holes: (!masks[2].is_empty()).then(|| Box::new(masks[2])),
            rows: Rows::Packed(packed),
        })
    }

    /// Bytes of memory beside the chunk itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.rows {
            Rows::Plain(rows) => rows.capacity() * size_of::<Entry>(),
            Rows::Packed(packed) => packed.data.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<(u8, Entry)>> {
        let one = (any::<u64>(), any::<i64>(), any::<u32>(), any::<u32>(), 0u8..8, 0u64..16);
        prop::collection::btree_map(any::<u8>(), one, 0..256).prop_map(|map| {
            map.into_iter()
                .map(|(at, (location, ts_ns, subject, size, flags, link))| {
                    (at, Entry { location, ts_ns, subject, size, flags, link })
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(
            list in entries(),
            dead in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut chunk = Chunk::new();
            for (at, entry) in &list {
                chunk.push(*at, *entry);
            }
            chunk.pack(4, |_, link| link);
            for at in &dead {
                chunk.kill(*at, false);
            }
            for again in 0..2 {
                for (at, entry) in &list {
                    let expected = (!dead.contains(at)).then_some(*entry);
                    prop_assert_eq!(chunk.entry(*at), expected);
                    prop_assert_eq!(chunk.subject(*at), expected.map(|e| e.subject));
                    prop_assert_eq!(chunk.time(*at), expected.map(|e| e.ts_ns));
                    if expected.is_some() {
                        prop_assert_eq!(chunk.link(*at), Some(entry.link));
                    }
                }
                if again == 0 {
                    chunk.pack(4, |_, link| link);
                }
            }
        }
    }

    #[test]
    fn masks_count_and_find() {
        let mut mask = Mask::default();
        for at in [0, 63, 64, 200, 255] {
            mask.insert(at);
        }
        assert_eq!(mask.len(), 5);
        assert_eq!(mask.rank(64), 2);
        assert_eq!(mask.next(65), Some(200));
        assert_eq!(mask.previous(199), Some(64));
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 63, 64, 200, 255]);
        mask.remove(255);
        assert_eq!(mask.next(201), None);
    }

    #[test]
    fn a_steady_stream_takes_few_bytes() {
        let mut chunk = Chunk::new();
        for at in 0..=255u8 {
            let i = u64::from(at);
            let entry = Entry {
                location: (1 << 40) + i * 180,
                ts_ns: 1_700_000_000_000_000_000 + i as i64 * 1000 + (i as i64 * 7919 % 800),
                subject: (i * 2_654_435_761 % 1_000_000) as u32,
                size: 148,
                flags: 0,
                link: 0,
            };
            chunk.push(at, entry);
        }
        chunk.pack(24, |_, link| link);
        assert!(chunk.heap_bytes() < 256 * 8, "{}", chunk.heap_bytes());
    }
}
