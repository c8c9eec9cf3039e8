//! Which sequences are there at all: `index.db` for all blocks since 2.10, `<n>.idx` for each
//! block before.
//!
//! ```text
//!   0b hex, version 1..4, varints: messages, bytes, first sequence, first time, last sequence,
//!   last time, subjects: for each its length, text, total, first block, last block (from version
//!   4 on always, before for totals above one); blocks: for each its number, bytes, first
//!   sequence, time, last sequence, time, deletions, ttls (from 2), schedules (from 3), and a set
//!   of deleted sequences if there are any; then what ties it to the last block; checksum u64
//!
//!   <n>.idx = 16 hex, version 1 or 2, varints: messages, bytes, first sequence, first time, last
//!   sequence, last time, deletions; checksum of the last record u64; then the set of deleted
//!   sequences, in version 1 as varints above the first sequence
//!
//!   set = 16 hex, version 1 or 2, nodes u32, size u32, for each node: base u64, 64 or 32 words of
//!   bits, height u16
//! ```

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use crate::backup::hash::HashKey;
use crate::backup::{ArchiveError, varint};

const MAGIC: u8 = 0x0b;
const VERSION_MAX: u8 = 4;
const SET_MAGIC: u8 = 0x16;
const BLOCK_MAGIC: u8 = 0x16;
const CHECKSUM_LEN: usize = 8;
/// Sequences from here on are used by nobody; higher bits are flags in records.
const SEQUENCE_END: u64 = 1 << 62;

const MALFORMED: ArchiveError = ArchiveError::Malformed("index");

/// An index whose start is read; its deletions are taken one range at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    bytes: Vec<u8>,
    /// What stands before it is read.
    at: usize,
    version: u8,
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    blocks_left: u64,
    /// First and last sequence of the block that is being read.
    block: (u64, u64),
    nodes_left: u32,
    /// Words of bits in each node.
    words: u32,
    ranges: VecDeque<(u64, u64)>,
}

impl Index {
    /// Reads up to the list of blocks and verifies the checksum.
    pub(super) fn parse(mut bytes: Vec<u8>, key: &HashKey) -> Result<Self, ArchiveError> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(MALFORMED)?;
        if key.sum(&[body]) != *checksum {
            return Err(ArchiveError::Checksum("index"));
        }
        let [MAGIC, version @ 1..=VERSION_MAX, rest @ ..] = body else { return Err(MALFORMED) };
        let version = *version;
        let mut rest = rest;
        let head = parse_head(&mut rest, version).ok_or(MALFORMED)?;
        let body_len = body.len();
        let at = body_len.saturating_sub(rest.len());
        bytes.truncate(body_len);
        let (first_sequence, last_sequence, blocks_left) = head;
        if first_sequence >= SEQUENCE_END || last_sequence >= SEQUENCE_END {
            return Err(MALFORMED);
        }
        let mut ranges = VecDeque::new();
        if first_sequence > 1 {
            ranges.push_back((1, first_sequence.saturating_sub(1)));
        }
        Ok(Self {
            bytes,
            at,
            version,
            first_sequence,
            last_sequence,
            blocks_left,
            block: (0, first_sequence.saturating_sub(1)),
            nodes_left: 0,
            words: 0,
            ranges,
        })
    }

    /// Reads the index of one block. `None` for one that contradicts itself, which nats-server
    /// passes over too.
    pub(super) fn parse_block(bytes: Vec<u8>) -> Result<Option<Self>, ArchiveError> {
        let [BLOCK_MAGIC, version @ (1 | 2), rest @ ..] = bytes.as_slice() else {
            return Err(MALFORMED);
        };
        let (version, mut rest) = (*version, rest);
        let head = parse_block_head(&mut rest).ok_or(MALFORMED)?;
        let (messages, first, last, deleted) = head;
        let spanned = last.checked_add(1).and_then(|end| end.checked_sub(first));
        if first >= SEQUENCE_END
            || last >= SEQUENCE_END
            || spanned.and_then(|count| count.checked_sub(deleted)) != Some(messages)
        {
            return Ok(None);
        }
        let mut ranges = VecDeque::new();
        let set = match version {
            _ if deleted == 0 => (0, 0),
            1 => {
                for _ in 0..deleted {
                    let offset = varint::take(&mut rest).ok_or(MALFORMED)?;
                    let at = first.checked_add(offset & !(1 << 63)).ok_or(MALFORMED)?;
                    if offset > 0 && at <= last {
                        ranges.push_back((at, at));
                    }
                }
                (0, 0)
            }
            _ => read_set_head(&mut rest).ok_or(MALFORMED)?,
        };
        let at = bytes.len().saturating_sub(rest.len());
        Ok(Some(Self {
            at,
            version,
            first_sequence: first,
            last_sequence: last,
            blocks_left: 0,
            block: (first, last),
            nodes_left: set.0,
            words: set.1,
            ranges,
            bytes,
        }))
    }

    /// The next range of sequences, both ends included, that are not there. Ranges come in no
    /// order and may be parts of a longer one.
    pub(super) fn next_deleted(&mut self) -> Result<Option<(u64, u64)>, ArchiveError> {
        while self.ranges.is_empty() {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let mut left = rest;
            if self.nodes_left > 0 {
                let words = self.words;
                read_node(&mut left, words, self.block, &mut self.ranges).ok_or(MALFORMED)?;
                self.nodes_left = self.nodes_left.saturating_sub(1);
            } else if self.blocks_left > 0 {
                let (block, set) = read_block(&mut left, self.version).ok_or(MALFORMED)?;
                // Between two blocks nothing is there.
                if let (Some(first), Some(last)) =
                    (self.block.1.checked_add(1), block.0.checked_sub(1))
                    && first <= last
                {
                    self.ranges.push_back((first, last));
                }
                self.block = (block.0, block.1.max(self.block.1));
                (self.nodes_left, self.words) = set;
                self.blocks_left = self.blocks_left.saturating_sub(1);
            } else {
                return Ok(None);
            }
            self.at = self.at.saturating_add(rest.len().saturating_sub(left.len()));
        }
        Ok(self.ranges.pop_front())
    }
}

/// Everything before the blocks: first and last sequence, and the number of blocks.
fn parse_head(rest: &mut &[u8], version: u8) -> Option<(u64, u64, u64)> {
    let _messages = varint::take(rest)?;
    let _bytes = varint::take(rest)?;
    let first = varint::take(rest)?;
    let _first_time = varint::take_signed(rest)?;
    let last = varint::take(rest)?;
    let _last_time = varint::take_signed(rest)?;
    for _ in 0..varint::take(rest)? {
        let len = usize::try_from(varint::take(rest)?).ok()?;
        if len == 0 {
            continue;
        }
        *rest = rest.get(len..)?;
        let total = varint::take(rest)?;
        let _first_block = varint::take(rest)?;
        if total > 1 || version >= 4 {
            let _last_block = varint::take(rest)?;
        }
    }
    Some((first, last, varint::take(rest)?))
}

/// The entry of a block: its first and last sequence, and the nodes of its set and their words.
fn read_block(rest: &mut &[u8], version: u8) -> Option<((u64, u64), (u32, u32))> {
    let _number = varint::take(rest)?;
    let _bytes = varint::take(rest)?;
    let first = varint::take(rest)?;
    let _first_time = varint::take_signed(rest)?;
    let last = varint::take(rest)?;
    let _last_time = varint::take_signed(rest)?;
    let deleted = varint::take(rest)?;
    for _ in 1..version.min(3) {
        let _ttls_or_schedules = varint::take(rest)?;
    }
    if deleted == 0 {
        return Some(((first, last), (0, 0)));
    }
    Some(((first, last), read_set_head(rest)?))
}

/// The head of a set: its nodes, and the words in each.
fn read_set_head(rest: &mut &[u8]) -> Option<(u32, u32)> {
    let (&[SET_MAGIC, version, n0, n1, n2, n3, _, _, _, _], tail) =
        rest.split_first_chunk::<10>()?
    else {
        return None;
    };
    let words = match version {
        1 => 64,
        2 => 32,
        _ => return None,
    };
    *rest = tail;
    Some((u32::from_le_bytes([n0, n1, n2, n3]), words))
}

/// Of the index of one block: messages, first and last sequence, deletions.
fn parse_block_head(rest: &mut &[u8]) -> Option<(u64, u64, u64, u64)> {
    let messages = varint::take(rest)?;
    let _bytes = varint::take(rest)?;
    let first = varint::take(rest)?;
    let _first_time = varint::take_signed(rest)?;
    let last = varint::take(rest)?;
    let _last_time = varint::take_signed(rest)?;
    let deleted = varint::take(rest)?;
    *rest = rest.get(CHECKSUM_LEN..)?;
    Some((messages, first, last, deleted))
}

/// One node of a set: the runs of its bits, as far as they are within the block.
fn read_node(
    rest: &mut &[u8],
    words: u32,
    block: (u64, u64),
    ranges: &mut VecDeque<(u64, u64)>,
) -> Option<()> {
    let mut take_word = || {
        let (word, tail) = rest.split_first_chunk::<8>()?;
        *rest = tail;
        Some(u64::from_le_bytes(*word))
    };
    let mut base = take_word()?;
    for _ in 0..words {
        let mut bits = take_word()?;
        let mut at = base;
        while bits != 0 {
            let gap = bits.trailing_zeros();
            bits = bits.checked_shr(gap)?;
            let run = bits.trailing_ones();
            bits = bits.checked_shr(run).unwrap_or(0);
            let first = at.checked_add(gap.into())?;
            at = first.checked_add(run.into())?;
            let last = at.checked_sub(1)?;
            let clamped = (first.max(block.0).max(1), last.min(block.1));
            if clamped.0 <= clamped.1 {
                ranges.push_back(clamped);
            }
        }
        base = base.checked_add(64)?;
    }
    *rest = rest.get(2..)?;
    Some(())
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> HashKey {
        HashKey::of_stream("S")
    }

    /// An index of version 4 with one subject and the blocks given as first, last and deletions.
    fn index(first: u64, last: u64, blocks: &[(u64, u64, &[u64])]) -> Vec<u8> {
        let mut out = vec![MAGIC, 4];
        for number in [9, 99, first, 0, last, 0, 1, 3] {
            varint::push(&mut out, number);
        }
        out.extend_from_slice(b"a.b\x09\x01\x02");
        varint::push(&mut out, blocks.len() as u64);
        for (number, (first, last, deleted)) in blocks.iter().enumerate() {
            for value in [number as u64, 99, *first, 0, *last, 0, deleted.len() as u64, 0, 0] {
                varint::push(&mut out, value);
            }
            if deleted.is_empty() {
                continue;
            }
            out.extend_from_slice(&[SET_MAGIC, 2, 1, 0, 0, 0, 0, 0, 0, 0]);
            let base = first / 2048 * 2048;
            let mut words = [0_u64; 32];
            for sequence in *deleted {
                words[((sequence - base) / 64) as usize] |= 1 << ((sequence - base) % 64);
            }
            out.extend_from_slice(&base.to_le_bytes());
            out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            out.extend_from_slice(&[1, 0]);
        }
        out.extend_from_slice(&[1; 9]);
        let sum = key().sum(&[&out]);
        out.extend_from_slice(&sum);
        out
    }

    fn deleted(bytes: Vec<u8>) -> Result<Vec<(u64, u64)>, ArchiveError> {
        let mut index = Index::parse(bytes, &key())?;
        let mut out = Vec::new();
        while let Some(range) = index.next_deleted()? {
            out.push(range);
        }
        Ok(out)
    }

    #[test]
    fn deletions_are_heads_gaps_and_sets() {
        let blocks: [(u64, u64, &[u64]); 3] =
            [(5, 70, &[6, 7, 63, 64, 65]), (71, 80, &[]), (90, 99, &[90, 99])];
        let ranges = deleted(index(5, 99, &blocks)).unwrap();
        assert_eq!(ranges, [(1, 4), (6, 7), (63, 63), (64, 65), (81, 89), (90, 90), (99, 99)]);
        assert_eq!(deleted(index(0, 0, &[])).unwrap(), []);
        assert_eq!(deleted(index(51, 50, &[])).unwrap(), [(1, 50)]);
    }

    #[test]
    fn blocks_have_indexes_of_their_own_in_old_archives() {
        // 7 messages from 5 to 14, of which 6, 7 and 12 are deleted.
        let head = [BLOCK_MAGIC, 1, 7, 99, 5, 0, 14, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
        let parse = |bytes: &[u8]| Index::parse_block(bytes.to_vec());
        let mut found = parse(&[&head[..], &[1, 2, 7]].concat()).unwrap().unwrap();
        assert_eq!((found.first_sequence, found.last_sequence), (5, 14));
        for wanted in [Some((6, 6)), Some((7, 7)), Some((12, 12)), None] {
            assert_eq!(found.next_deleted().unwrap(), wanted);
        }
        let mut set = vec![SET_MAGIC, 2, 1, 0, 0, 0, 3, 0, 0, 0];
        set.extend_from_slice(&0_u64.to_le_bytes());
        set.extend_from_slice(&(1_u64 << 6 | 1 << 7 | 1 << 12 | 1 << 20).to_le_bytes());
        set.extend_from_slice(&[0; 31 * 8 + 2]);
        let second = [&[BLOCK_MAGIC, 2], &head[2..], &set].concat();
        let mut found = parse(&second).unwrap().unwrap();
        for wanted in [Some((6, 7)), Some((12, 12)), None] {
            assert_eq!(found.next_deleted().unwrap(), wanted);
        }
        let mut contradicting = head;
        contradicting[2] = 8;
        assert_eq!(parse(&contradicting), Ok(None));
        for len in 0..head.len() {
            assert_eq!(parse(&head[..len]), Err(MALFORMED), "{len} bytes");
        }
        assert_eq!(parse(&[&head[..], &[1, 2]].concat()), Err(MALFORMED));
    }

    #[test]
    fn damage_is_refused() {
        let good = index(5, 70, &[(5, 70, &[6])]);
        let mut bad = good.clone();
        bad[4] ^= 1;
        assert_eq!(deleted(bad), Err(ArchiveError::Checksum("index")));
        let resealed = |body: &[u8]| deleted([body, &key().sum(&[body])[..]].concat());
        for len in 0..good.len() - 17 {
            assert!(resealed(&good[..len]).is_err(), "{len} bytes");
        }
        assert!(resealed(&[&[MAGIC, 5], &good[2..good.len() - 8]].concat()).is_err());
        assert!(deleted(index(1 << 62, 5, &[])).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(
            version in 1_u8..5,
            body in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let block = [vec![BLOCK_MAGIC, version, 2, 1, 1, 0, 5, 0, 3], body.clone()].concat();
            let body = [vec![MAGIC, version, 1, 1, 1, 0, 5, 0, 0], body].concat();
            let bytes = [&body[..], &key().sum(&[&body])[..]].concat();
            let of_block = Index::parse_block(block).ok().flatten();
            let found = [Index::parse(bytes, &key()).ok(), of_block];
            for mut index in found.into_iter().flatten() {
                for _ in 0..10_000 {
                    match index.next_deleted() {
                        Ok(Some((first, last))) => prop_assert!(first <= last),
                        Ok(None) | Err(_) => break,
                    }
                }
            }
        }
    }
}
