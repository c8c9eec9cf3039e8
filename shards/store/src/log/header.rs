//! The beginning of a segment file: its header, in two copies, and the two tail slots.
//! The layout is in `docs/STORAGE.md`.

use super::bind::{Binding, plain_checksum};
use super::record::{u32_at, u64_at};
use crate::disk::BLOCK_BYTES;

const HEADER_MAGIC: &[u8; 8] = b"SHWRSEG1";
const SLOT_MAGIC: &[u8; 8] = b"SHWRTAIL";
const VERSION: u16 = 1;
/// Bytes of one copy of the header, its checksum included.
const HEADER_BYTES: usize = 2048;
/// Longest part of a name that the header keeps.
const NAME_BYTES_MAX: usize = 900;
/// Bytes of a slot before the bytes of the block.
const SLOT_HEAD_BYTES: usize = 64;
/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 2 * BLOCK_BYTES;
/// Where the slots begin.
pub(super) const SLOT_OFFSETS: [u32; 2] = [BLOCK_BYTES as u32, (BLOCK_BYTES + SLOT_BYTES) as u32];
/// Where records begin.
pub const DATA_START: u32 = (BLOCK_BYTES + 2 * SLOT_BYTES) as u32;

/// Slot flag: bytes behind the end may be in their place.
const SLOT_LAZY: u8 = 1;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The stream.
    pub uid: u64,
    /// The segment.
    pub segment: u32,
    /// How many times the segment was written.
    pub incarnation: u32,
}

impl Identity {
    /// What checksums in it are bound to.
    #[must_use]
    pub(super) fn binding(self) -> Binding {
        Binding::new(self.uid, self.segment, self.incarnation)
    }
}

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whose file it is.
    pub identity: Identity,
    /// Bytes of the file.
    pub file_len: u64,
    /// How records are encrypted: 0 not, 1 ChaCha20-Poly1305, 2 AES-256-GCM.
    pub cipher: u8,
    /// Names the key.
    pub key_mark: u64,
    /// Goes into the key of the segment.
    pub salt: [u8; 32],
    /// Account and stream, possibly cut: for people.
    pub account: Vec<u8>,
    /// See `account`.
    pub stream: Vec<u8>,
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

impl Header {
    /// The first block of the file.
    #[must_use]
    pub(super) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut copy = [0; HEADER_BYTES];
        put(&mut copy, 0, HEADER_MAGIC);
        put(&mut copy, 8, &VERSION.to_le_bytes());
        put(&mut copy, 10, &[self.cipher]);
        put(&mut copy, 12, &self.identity.incarnation.to_le_bytes());
        put(&mut copy, 16, &self.identity.uid.to_le_bytes());
        put(&mut copy, 24, &self.identity.segment.to_le_bytes());
        put(&mut copy, 32, &self.file_len.to_le_bytes());
        put(&mut copy, 40, &self.key_mark.to_le_bytes());
        put(&mut copy, 48, &self.salt);
        let account = self.account.get(..NAME_BYTES_MAX).unwrap_or(&self.account);
        let stream = self.stream.get(..NAME_BYTES_MAX).unwrap_or(&self.stream);
        put(&mut copy, 80, &(account.len() as u16).to_le_bytes());
        put(&mut copy, 82, &(stream.len() as u16).to_le_bytes());
        put(&mut copy, 84, account);
        put(&mut copy, 84 + account.len(), stream);
        let sum = plain_checksum(&copy[..HEADER_BYTES - 8]);
        put(&mut copy, HEADER_BYTES - 8, &sum.to_le_bytes());
        let mut block = [0; BLOCK_BYTES];
        put(&mut block, 0, &copy);
        put(&mut block, HEADER_BYTES, &copy);
        block
    }

    /// Reads either copy of the first block of a file.
    #[must_use]
    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        Self::decode_copy(block.get(..HEADER_BYTES)?)
            .or_else(|| Self::decode_copy(block.get(HEADER_BYTES..2 * HEADER_BYTES)?))
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let sum = u64_at(copy, HEADER_BYTES - 8)?;
        let version = u16::from_le_bytes([*copy.get(8)?, *copy.get(9)?]);
        if copy.get(..8)? != HEADER_MAGIC
            || version != VERSION
            || plain_checksum(copy.get(..HEADER_BYTES - 8)?) != sum
        {
            return None;
        }
        let lens = u32_at(copy, 80)?;
        let (account_len, stream_len) = ((lens & 0xFFFF) as usize, (lens >> 16) as usize);
        let names = copy.get(84..HEADER_BYTES - 8)?;
        Some(Self {
            identity: Identity {
                uid: u64_at(copy, 16)?,
                segment: u32_at(copy, 24)?,
                incarnation: u32_at(copy, 12)?,
            },
            file_len: u64_at(copy, 32)?,
            cipher: *copy.get(10)?,
            key_mark: u64_at(copy, 40)?,
            salt: copy.get(48..80)?.try_into().ok()?,
            account: names.get(..account_len)?.to_vec(),
            stream: names.get(account_len..account_len + stream_len)?.to_vec(),
        })
    }

    /// True when both copies of the block hold.
    #[must_use]
    pub(super) fn is_whole(block: &[u8]) -> bool {
        block.get(..HEADER_BYTES).and_then(Self::decode_copy).is_some()
            && block.get(HEADER_BYTES..2 * HEADER_BYTES).and_then(Self::decode_copy).is_some()
    }
}

/// What a tail slot says beside the bytes of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotHead {
    /// Whose segment.
    pub identity: Identity,
    /// Rises by one with every slot written.
    pub generation: u64,
    /// Position of the unfinished block.
    pub block: u32,
    /// Everything before was flushed before the slot was written.
    pub durable_to: u32,
    /// The end of the last whole record at or before the end.
    pub boundary: u32,
    /// Rises with every recovery.
    pub epoch: u32,
    /// Bytes behind the end may be in their place, as far as the file reaches.
    pub lazy: bool,
}

/// A slot that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// What it says.
    pub head: SlotHead,
    /// The bytes of the block.
    pub bytes: Vec<u8>,
}

impl Slot {
    /// Where the log ended.
    #[must_use]
    pub(super) fn end(&self) -> u32 {
        self.head.block.saturating_add(self.bytes.len() as u32)
    }
}

impl SlotHead {
    /// Bytes that a slot with `len` bytes of a block takes, a multiple of the block size.
    #[must_use]
    pub(super) const fn encoded_len(len: usize) -> usize {
        (SLOT_HEAD_BYTES + len).next_multiple_of(BLOCK_BYTES)
    }

    /// Completes a slot in `out`, where the bytes of the block already stand behind the head.
    pub(super) fn encode(&self, out: &mut [u8], len: usize) {
        put(out, 0, SLOT_MAGIC);
        put(out, 8, &self.identity.uid.to_le_bytes());
        put(out, 16, &self.identity.segment.to_le_bytes());
        put(out, 20, &self.identity.incarnation.to_le_bytes());
        put(out, 24, &self.generation.to_le_bytes());
        put(out, 32, &self.block.to_le_bytes());
        put(out, 36, &(len as u32).to_le_bytes());
        put(out, 40, &self.durable_to.to_le_bytes());
        put(out, 44, &self.epoch.to_le_bytes());
        put(out, 48, &[if self.lazy { SLOT_LAZY } else { 0 }, 0, 0, 0]);
        put(out, 52, &self.boundary.to_le_bytes());
        let sum = slot_checksum(out, len).unwrap_or_default();
        put(out, 56, &sum.to_le_bytes());
    }

    /// Where the bytes of the block stand in a slot.
    pub(super) fn body_mut(out: &mut [u8]) -> &mut [u8] {
        out.get_mut(SLOT_HEAD_BYTES..).unwrap_or_default()
    }
}

/// The checksum over head and bytes, in this order; the head's own checksum is left out.
fn slot_checksum(slot: &[u8], len: usize) -> Option<u64> {
    let head = plain_checksum(slot.get(..56)?);
    let body = plain_checksum(slot.get(SLOT_HEAD_BYTES..SLOT_HEAD_BYTES + len)?);
    Some(head.rotate_left(32) ^ body.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// What a slot's place holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    /// Nothing was ever written.
    Blank,
    /// Something that does not hold.
    Torn,
    /// A slot.
    Valid(Slot),
}

impl SlotState {
    /// Reads the bytes of a slot's place.
    #[must_use]
    pub(super) fn parse(bytes: &[u8]) -> Self {
        match Self::parse_valid(bytes) {
            Some(slot) => Self::Valid(slot),
            None if bytes.iter().all(|byte| *byte == 0) => Self::Blank,
            None => Self::Torn,
        }
    }

    /// The slot that these bytes are when one of their bits is turned. A write that tore does not
    /// come to that: of 2^15 bits to turn, against a checksum of 64.
    #[must_use]
    pub(super) fn mend(bytes: &[u8]) -> Option<Slot> {
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut bytes = bytes.to_vec();
        let bits =
            |range: std::ops::Range<usize>| range.flat_map(|at| (0..8).map(move |b| (at, b)));
        for (at, bit) in bits(0..SLOT_HEAD_BYTES) {
            *bytes.get_mut(at)? ^= 1 << bit;
            if let Some(slot) = Self::parse_valid(&bytes) {
                return Some(slot);
            }
            *bytes.get_mut(at)? ^= 1 << bit;
        }
        let len = u32_at(&bytes, 36)? as usize;
        if bytes.get(..8)? != SLOT_MAGIC || len >= BLOCK_BYTES {
            return None;
        }
        let head = plain_checksum(bytes.get(..56)?).rotate_left(32);
        let wanted = u64_at(&bytes, 56)? ^ head;
        for (at, bit) in bits(SLOT_HEAD_BYTES..SLOT_HEAD_BYTES + len) {
            *bytes.get_mut(at)? ^= 1 << bit;
            let body = bytes.get(SLOT_HEAD_BYTES..SLOT_HEAD_BYTES + len)?;
            if plain_checksum(body).wrapping_mul(FACTOR) == wanted {
                return Self::parse_valid(&bytes);
            }
            *bytes.get_mut(at)? ^= 1 << bit;
        }
        None
    }

    fn parse_valid(bytes: &[u8]) -> Option<Slot> {
        let len = u32_at(bytes, 36)? as usize;
        if bytes.get(..8)? != SLOT_MAGIC
            || len >= BLOCK_BYTES
            || slot_checksum(bytes, len)? != u64_at(bytes, 56)?
        {
            return None;
        }
        Some(Slot {
            head: SlotHead {
                identity: Identity {
                    uid: u64_at(bytes, 8)?,
                    segment: u32_at(bytes, 16)?,
                    incarnation: u32_at(bytes, 20)?,
                },
                generation: u64_at(bytes, 24)?,
                block: u32_at(bytes, 32)?,
                durable_to: u32_at(bytes, 40)?,
                epoch: u32_at(bytes, 44)?,
                lazy: bytes.get(48)? & SLOT_LAZY != 0,
                boundary: u32_at(bytes, 52)?,
            },
            bytes: bytes.get(SLOT_HEAD_BYTES..SLOT_HEAD_BYTES + len)?.to_vec(),
        })
    }

    /// The slot, if it holds and belongs to `identity`.
    #[must_use]
    pub(super) fn of(&self, identity: Identity) -> Option<&Slot> {
        match self {
            Self::Valid(slot) if slot.head.identity == identity => Some(slot),
            _ => None,
        }
    }
}
