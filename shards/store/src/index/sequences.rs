//! Sequence numbers and what lies behind each: chunks of 256, in groups of 256 chunks, in a list
//! that is dense where the stream is and skips what it does not have.
//!
//! ```text
//!  groups (65,536 numbers each) ─► chunks (256 each, packed when full) ─► rows
//! ```

use super::chunk::{CHUNK_SEQS, Chunk, Entry, NO_LINK};
use super::image::{Reader, put_u64};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::ops::ControlFlow;

const GROUP_CHUNKS: usize = 256;
const GROUP_SEQS: u64 = CHUNK_SEQS * GROUP_CHUNKS as u64;
/// Wider links are kept in a table of their own.
const LINK_BITS_MAX: u8 = 32;

#[derive(Debug)]
struct Group {
    key: u64,
    live: u32,
    chunk_live: [u16; GROUP_CHUNKS],
    chunks: [Option<Box<Chunk>>; GROUP_CHUNKS],
    used: u16,
}

impl Group {
    fn new(key: u64) -> Box<Self> {
        let chunks = [const { None }; GROUP_CHUNKS];
        Box::new(Self { key, live: 0, chunk_live: [0; GROUP_CHUNKS], chunks, used: 0 })
    }
}

const fn split(seq: u64) -> (u64, usize, u8) {
    (seq / GROUP_SEQS, (seq / CHUNK_SEQS) as usize % GROUP_CHUNKS, (seq % CHUNK_SEQS) as u8)
}

const fn join(key: u64, chunk: usize, at: u8) -> u64 {
    key * GROUP_SEQS + chunk as u64 * CHUNK_SEQS + at as u64
}

/// Every message of a stream by its sequence number.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    groups: VecDeque<Box<Group>>,
    live: u64,
    /// Links that did not fit: sequence number to that of the next message of the subject.
    far: FxHashMap<u64, u64>,
    /// Where the newest message is.
    newest: Option<u64>,
    /// Links that are not in their place yet. Placing many at once lets the processor fetch
    /// several of the places, which are far apart, at the same time.
    waiting: Vec<(u64, u64)>,
    /// The room that the newest chunk's list had before it was packed.
    spare: Vec<Entry>,
}

/// So many links are placed at once.
const WAITING_MAX: usize = 256;

const fn far_mark(width: u8) -> u64 {
    (1 << width) - 1
}

impl Sequences {
    fn group_at(&self, key: u64) -> Result<usize, usize> {
        let Some(first) = self.groups.front() else { return Err(0) };
        // Dense streams are found at once.
        if let Some(guess) = key.checked_sub(first.key)
            && self.groups.get(guess as usize).is_some_and(|g| g.key == key)
        {
            return Ok(guess as usize);
        }
        self.groups.binary_search_by_key(&key, |g| g.key)
    }

    fn chunk(&self, key: u64, chunk: usize) -> Option<&Chunk> {
        self.groups.get(self.group_at(key).ok()?)?.chunks[chunk].as_deref()
    }

    /// Live messages.
    pub(crate) const fn len(&self) -> u64 {
        self.live
    }

    /// Adds a message behind all others. `subjects` is how many subjects there are, from which
    /// the room for links is guessed.
    pub(crate) fn push(&mut self, seq: u64, entry: Entry, subjects: u64) {
        let (key, chunk, at) = split(seq);
        if let Some(newest) = self.newest
            && newest / CHUNK_SEQS != seq / CHUNK_SEQS
        {
            self.seal(newest, subjects);
        }
        if self.groups.back().is_none_or(|g| g.key < key) {
            self.groups.push_back(Group::new(key));
        }
        self.newest = Some(seq);
        let Some(group) = self.groups.back_mut() else { return };
        group.live += 1;
        group.chunk_live[chunk] += 1;
        if group.chunks[chunk].is_none() {
            group.used += 1;
        }
        let spare = &mut self.spare;
        let chunk = group.chunks[chunk]
            .get_or_insert_with(|| Box::new(Chunk::with_room(std::mem::take(spare))));
        if let Some(width) = chunk.link_width() {
            let far = &self.far;
            let base = seq - u64::from(at);
            chunk.thaw(|at, link| decode(far, base + u64::from(at), link, width));
        }
        chunk.push(at, entry);
        self.live += 1;
    }

    fn link_bits(&self, subjects: u64) -> u8 {
        let wider = if self.far.len() as u64 > self.live / 16 { 3 } else { 0 };
        (super::bits::width_of(subjects) + 4 + wider).clamp(4, LINK_BITS_MAX)
    }

    fn seal(&mut self, seq: u64, subjects: u64) {
        let width = self.link_bits(subjects);
        let (key, chunk, at) = split(seq);
        let Ok(group) = self.group_at(key) else { return };
        let Some(group) = self.groups.get_mut(group) else { return };
        let Some(chunk) = group.chunks[chunk].as_deref_mut() else { return };
        self.spare = repack(chunk, seq - u64::from(at), width, &mut self.far);
    }

    /// What is known of a message.
    pub(crate) fn entry(&self, seq: u64) -> Option<Entry> {
        let (key, chunk, at) = split(seq);
        self.chunk(key, chunk)?.entry(at)
    }

    /// Whether there is such a message.
    pub(crate) fn contains(&self, seq: u64) -> bool {
        let (key, chunk, at) = split(seq);
        self.chunk(key, chunk).is_some_and(|c| c.live().contains(at))
    }

    /// The subject of a message.
    pub(crate) fn subject(&self, seq: u64) -> Option<u32> {
        let (key, chunk, at) = split(seq);
        self.chunk(key, chunk)?.subject(at)
    }

    /// The time of a message.
    pub(crate) fn time(&self, seq: u64) -> Option<i64> {
        let (key, chunk, at) = split(seq);
        self.chunk(key, chunk)?.time(at)
    }

    /// The sequence number of what follows a message or hole in the chain of its subject.
    pub(crate) fn link(&self, seq: u64) -> Option<u64> {
        let (key, chunk, at) = split(seq);
        let chunk = self.chunk(key, chunk)?;
        let raw = chunk.link(at)?;
        let delta = match chunk.link_width() {
            Some(width) => decode(&self.far, seq, raw, width),
            None => raw,
        };
        if delta == NO_LINK {
            let waiting = self.waiting.iter().rev().find(|w| w.0 == seq);
            return waiting.map(|w| w.1);
        }
        seq.checked_add(delta)
    }

    /// Makes `next` follow `seq` in the chain of its subject, in which nothing follows it so far.
    pub(crate) fn set_link(&mut self, seq: u64, next: u64) {
        self.waiting.push((seq, next));
        if self.waiting.len() >= WAITING_MAX {
            self.place_links();
        }
    }

    fn place_links(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for (seq, next) in waiting.drain(..) {
            self.place_link(seq, next - seq);
        }
        self.waiting = waiting;
    }

    /// Nothing follows `seq` in the chain of its subject any more.
    pub(crate) fn cut_link(&mut self, seq: u64) {
        self.waiting.retain(|w| w.0 != seq);
        self.place_link(seq, NO_LINK);
    }

    fn place_link(&mut self, seq: u64, delta: u64) {
        let (key, chunk, at) = split(seq);
        let Ok(group) = self.group_at(key) else { return };
        let Some(group) = self.groups.get_mut(group) else { return };
        let Some(chunk) = group.chunks[chunk].as_deref_mut() else { return };
        if !chunk.is_linked(at) {
            return;
        }
        let raw = match chunk.link_width() {
            Some(width) => encode(&mut self.far, seq, delta, width),
            None => delta,
        };
        chunk.set_link(at, raw);
    }

    /// Ends a message. With `is_hole` the chain of its subject leads on through it.
    pub(crate) fn kill(&mut self, seq: u64, is_hole: bool) {
        let (key, chunk, at) = split(seq);
        let Ok(place) = self.group_at(key) else { return };
        let Some(group) = self.groups.get_mut(place) else { return };
        let Some(body) = group.chunks[chunk].as_deref_mut() else { return };
        if !body.live().contains(at) {
            return;
        }
        body.kill(at, is_hole);
        group.live -= 1;
        group.chunk_live[chunk] -= 1;
        self.live -= 1;
        if !is_hole && !self.far.is_empty() {
            self.far.remove(&seq);
        }
        self.tidy(place, chunk);
    }

    /// The chain of its subject leads through a hole no longer.
    pub(crate) fn close_hole(&mut self, seq: u64) {
        let (key, chunk, at) = split(seq);
        let Ok(place) = self.group_at(key) else { return };
        let Some(group) = self.groups.get_mut(place) else { return };
        let Some(body) = group.chunks[chunk].as_deref_mut() else { return };
        body.close_hole(at);
        self.far.remove(&seq);
        self.tidy(place, chunk);
    }

    /// Gives back what a chunk no longer needs.
    fn tidy(&mut self, place: usize, chunk: usize) {
        let newest = self.newest.unwrap_or(0) / CHUNK_SEQS;
        let Some(group) = self.groups.get_mut(place) else { return };
        let Some(body) = group.chunks[chunk].as_deref_mut() else { return };
        let base = join(group.key, chunk, 0);
        if body.is_useless() && (base / CHUNK_SEQS != newest || self.live == 0) {
            group.chunks[chunk] = None;
            group.used -= 1;
            if group.used == 0 {
                self.groups.remove(place);
            }
        } else if body.is_wasteful()
            && let Some(width) = body.link_width()
        {
            repack(body, base, width, &mut self.far);
        }
    }

    /// The first message at or after `from`.
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        let (key, chunk, at) = split(from);
        let place = match self.group_at(key) {
            Ok(place) => {
                let group = self.groups.get(place)?;
                if let Some(found) = next_in_group(group, chunk, at) {
                    return Some(found);
                }
                place + 1
            }
            Err(place) => place,
        };
        self.groups.range(place..).find_map(|group| next_in_group(group, 0, 0))
    }

    /// The last message at or before `to`.
    pub(crate) fn previous(&self, to: u64) -> Option<u64> {
        let (key, chunk, at) = split(to);
        let place = match self.group_at(key) {
            Ok(place) => {
                let group = self.groups.get(place)?;
                if let Some(found) = previous_in_group(group, chunk, at) {
                    return Some(found);
                }
                place
            }
            Err(place) => place,
        };
        self.groups
            .range(..place)
            .rev()
            .find_map(|group| previous_in_group(group, GROUP_CHUNKS - 1, u8::MAX))
    }

    /// How many messages there are at or after `from`.
    pub(crate) fn count_from(&self, from: u64) -> u64 {
        let (key, chunk, at) = split(from);
        let (mut count, place) = match self.group_at(key) {
            Ok(place) => {
                let Some(group) = self.groups.get(place) else { return 0 };
                let later: u64 = group.chunk_live[chunk + 1..].iter().map(|&n| u64::from(n)).sum();
                let here = group.chunks[chunk]
                    .as_deref()
                    .map_or(0, |c| u64::from(c.live().len() - c.live().rank(at)));
                (later + here, place + 1)
            }
            Err(place) => (0, place),
        };
        count += self.groups.range(place..).map(|g| u64::from(g.live)).sum::<u64>();
        count
    }

    /// The message that has `rank` others before it.
    pub(crate) fn select(&self, mut rank: u64) -> Option<u64> {
        for group in &self.groups {
            if rank >= u64::from(group.live) {
                rank -= u64::from(group.live);
                continue;
            }
            for (at, chunk) in group.chunks.iter().enumerate() {
                let Some(chunk) = chunk else { continue };
                let live = u64::from(chunk.live().len());
                if rank >= live {
                    rank -= live;
                    continue;
                }
                return chunk
                    .live()
                    .iter()
                    .nth(rank as usize)
                    .map(|here| join(group.key, at, here));
            }
        }
        None
    }

    /// Calls `f` with every message from `from` on, and its subject, until it says to stop.
    pub(crate) fn scan(&self, from: u64, mut f: impl FnMut(u64, u32) -> ControlFlow<()>) {
        let mut next = self.next(from);
        while let Some(seq) = next {
            let (key, chunk, at) = split(seq);
            let Some(body) = self.chunk(key, chunk) else { return };
            for here in body.live().iter().skip_while(|&here| here < at) {
                let Some(subject) = body.subject(here) else { continue };
                if f(join(key, chunk, here), subject).is_break() {
                    return;
                }
            }
            next = join(key, chunk, u8::MAX).checked_add(1).and_then(|from| self.next(from));
        }
    }

    /// The first message whose time is at or after `ts_ns`, times taken to rise.
    pub(crate) fn at_time(&self, ts_ns: i64) -> Option<u64> {
        let early = |seq: Option<u64>| seq.and_then(|s| self.time(s)).is_none_or(|t| t < ts_ns);
        let groups: Vec<&Group> = self.groups.iter().map(|g| &**g).filter(|g| g.live > 0).collect();
        let place =
            groups.partition_point(|g| early(previous_in_group(g, GROUP_CHUNKS - 1, u8::MAX)));
        let group = groups.get(place)?;
        let used: Vec<usize> = (0..GROUP_CHUNKS)
            .filter(|&c| group.chunk_live.get(c).is_some_and(|&n| n > 0))
            .collect();
        let last_of = |c: usize| {
            let at = group.chunks[c].as_deref()?.live().previous(255)?;
            Some(join(group.key, c, at))
        };
        let chunk = *used.get(used.partition_point(|&c| early(last_of(c))))?;
        let body = group.chunks[chunk].as_deref()?;
        let all: Vec<u8> = body.live().iter().collect();
        let at = *all.get(all.partition_point(|&at| body.time(at).is_some_and(|t| t < ts_ns)))?;
        Some(join(group.key, chunk, at))
    }

    /// Gives the messages of a range new locations.
    pub(crate) fn relocate(&mut self, from: u64, to: u64, mut f: impl FnMut(u64, u64) -> u64) {
        let mut base = from - from % CHUNK_SEQS;
        while let Some(seq) = self.next(base.max(from)).filter(|&seq| seq <= to) {
            let (key, chunk, at) = split(seq);
            base = seq - u64::from(at);
            if let Ok(group) = self.group_at(key)
                && let Some(group) = self.groups.get_mut(group)
                && let Some(body) = group.chunks[chunk].as_deref_mut()
            {
                body.relocate(|at, location| {
                    let seq = base + u64::from(at);
                    if (from..=to).contains(&seq) { f(seq, location) } else { location }
                });
            }
            let Some(after) = base.checked_add(CHUNK_SEQS) else { return };
            base = after;
        }
    }

    /// Packs the newest chunk too.
    pub(crate) fn seal_newest(&mut self, subjects: u64) {
        self.place_links();
        if let Some(newest) = self.newest {
            self.seal(newest, subjects);
            self.spare = Vec::new();
        }
    }

    /// Writes everything down, after [`Self::seal_newest`].
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.newest.map_or(0, |newest| newest + 1));
        put_u64(out, self.far.len() as u64);
        for (seq, next) in &self.far {
            put_u64(out, *seq);
            put_u64(out, *next);
        }
        put_u64(out, self.groups.iter().map(|g| u64::from(g.used)).sum());
        for group in &self.groups {
            for (at, chunk) in group.chunks.iter().enumerate() {
                if let Some(chunk) = chunk {
                    put_u64(out, join(group.key, at, 0) / CHUNK_SEQS);
                    chunk.encode(out);
                }
            }
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut all = Self { newest: reader.u64()?.checked_sub(1), ..Self::default() };
        for _ in 0..reader.count(16)? {
            all.far.insert(reader.u64()?, reader.u64()?);
        }
        for _ in 0..reader.count(8)? {
            let (key, at, _) = split(reader.u64()?.checked_mul(CHUNK_SEQS)?);
            if all.groups.back().is_none_or(|g| g.key < key) {
                all.groups.push_back(Group::new(key));
            }
            let chunk = Chunk::decode(reader)?;
            let group = all.groups.back_mut().filter(|g| g.key == key)?;
            let live = chunk.live().len();
            group.live += live;
            group.chunk_live[at] = live as u16;
            group.chunks[at] = Some(Box::new(chunk));
            group.used += 1;
            all.live += u64::from(live);
        }
        Some(all)
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        let far = self.far.capacity() * 18;
        let groups = self.groups.len() * size_of::<Group>();
        let chunks = self.groups.iter().flat_map(|g| g.chunks.iter().flatten());
        far + groups + chunks.map(|c| size_of::<Chunk>() + c.heap_bytes()).sum::<usize>()
    }
}

fn next_in_group(group: &Group, chunk: usize, at: u8) -> Option<u64> {
    if group.chunk_live[chunk] > 0
        && let Some(at) = group.chunks[chunk].as_deref().and_then(|c| c.live().next(at))
    {
        return Some(join(group.key, chunk, at));
    }
    let later = chunk + 1 + group.chunk_live[chunk + 1..].iter().position(|&n| n > 0)?;
    let at = group.chunks[later].as_deref()?.live().next(0)?;
    Some(join(group.key, later, at))
}

fn previous_in_group(group: &Group, chunk: usize, at: u8) -> Option<u64> {
    if group.chunk_live[chunk] > 0
        && let Some(at) = group.chunks[chunk].as_deref().and_then(|c| c.live().previous(at))
    {
        return Some(join(group.key, chunk, at));
    }
    let earlier = group.chunk_live[..chunk].iter().rposition(|&n| n > 0)?;
    let at = group.chunks[earlier].as_deref()?.live().previous(u8::MAX)?;
    Some(join(group.key, earlier, at))
}

fn decode(far: &FxHashMap<u64, u64>, seq: u64, raw: u64, width: u8) -> u64 {
    if raw == far_mark(width) { far.get(&seq).map_or(NO_LINK, |next| next - seq) } else { raw }
}

fn encode(far: &mut FxHashMap<u64, u64>, seq: u64, delta: u64, width: u8) -> u64 {
    if delta >= far_mark(width) {
        far.insert(seq, seq + delta);
        return far_mark(width);
    }
    if !far.is_empty() {
        far.remove(&seq);
    }
    delta
}

fn repack(chunk: &mut Chunk, base: u64, width: u8, far: &mut FxHashMap<u64, u64>) -> Vec<Entry> {
    let old = chunk.link_width();
    chunk.pack(width, |at, raw| {
        let seq = base + u64::from(at);
        let delta = old.map_or(raw, |old| decode(far, seq, raw, old));
        encode(far, seq, delta, width)
    })
}
