//! Records that are compressed or encrypted: how they are encoded, and how a plain record is made
//! of one. The layout is in `docs/STORAGE.md`.

use super::RECORD_BYTES_MAX;
use super::bind::Binding;
use super::keys::{SegmentKey, TAG_BYTES};
use super::record::{
    FLAG_COMPRESSED, FLAG_ENCRYPTED, FLAG_EXPIRES, FLAG_HEADERS, HEAD_BYTES, Kind, Message,
    OVERHEAD_BYTES, RECORD_CHECKSUM_BYTES, RawRecord, Record, RecordError, u32_at,
};
use wire::s2;

/// Messages with fewer bytes of headers and payload are not compressed.
const COMPRESS_BYTES_MIN: usize = 64;
/// Bytes that sealing a record adds: epoch and tag.
pub(super) const SEAL_BYTES: usize = 4 + TAG_BYTES;
/// Bytes that say how long a message is when unpacked.
const RAW_LEN_BYTES: usize = 4;

/// Compresses headers and payloads, one after the other.
#[derive(Default)]
pub(super) struct Compressor {
    encoder: s2::BlockEncoder,
    raw: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// Headers and payload as one block, when that saves an eighth at least.
    pub(super) fn compress(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let Record::Message(message) = record else { return None };
        let len = message.headers.len() + message.payload.len();
        if len < COMPRESS_BYTES_MIN {
            return None;
        }
        self.raw.clear();
        self.raw.extend_from_slice(message.headers);
        self.raw.extend_from_slice(message.payload);
        let block = self.encoder.compress(&self.raw)?;
        (block.len() + RAW_LEN_BYTES <= len - len / 8).then_some(block)
    }
}

/// How a record is packed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packing<'a> {
    /// Headers and payload of the message.
    pub(super) block: Option<&'a [u8]>,
    /// Key and epoch.
    pub(super) key: Option<(&'a SegmentKey, u32)>,
}

/// Kinds whose content is nobody's business.
const fn is_secret(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Message
            | Kind::NotePut
            | Kind::NoteDelta
            | Kind::NoteRemove
            | Kind::NoteCopy
            | Kind::Mark
    )
}

/// Bytes of the record when encoded.
pub(super) fn packed_len(record: &Record<'_>, block: Option<&[u8]>, is_encrypted: bool) -> usize {
    let mut len = record.encoded_len();
    if let (Record::Message(message), Some(block)) = (record, block) {
        len = len - message.headers.len() - message.payload.len() + block.len() + RAW_LEN_BYTES;
    }
    if is_encrypted && is_secret(record.kind()) {
        len += SEAL_BYTES;
    }
    len
}

/// Appends the record to `out`; it will lie at `offset` of the segment of `binding`.
pub(super) fn encode(
    record: &Record<'_>,
    out: &mut Vec<u8>,
    binding: Binding,
    offset: u32,
    packing: Packing<'_>,
) {
    let key = packing.key.filter(|_| is_secret(record.kind()));
    if key.is_none() && packing.block.is_none() {
        return record.encode(out, binding, offset);
    }
    let start = out.len();
    let len = packed_len(record, packing.block, key.is_some());
    let mut flags = record.flags();
    flags |= if packing.block.is_some() { FLAG_COMPRESSED } else { 0 };
    flags |= if key.is_some() { FLAG_ENCRYPTED } else { 0 };
    record.encode_head(out, binding, offset, len, flags);
    if let Record::Message(message) = record {
        message.encode_prefix(out);
        if packing.block.is_some() {
            let raw_len = message.headers.len() + message.payload.len();
            out.extend_from_slice(&(raw_len as u32).to_le_bytes());
        }
    }
    if let Some((_, epoch)) = key {
        out.extend_from_slice(&epoch.to_le_bytes());
    }
    let from = out.len();
    match (record, packing.block) {
        (Record::Message(message), Some(block)) => {
            out.extend_from_slice(message.subject);
            out.extend_from_slice(block);
        }
        (Record::Message(message), None) => message.encode_content(out),
        (other, _) => other.encode_body(out),
    }
    if let Some((key, epoch)) = key {
        key.seal(out, start, from, epoch, offset);
    }
    let sum = binding.checksum(offset, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Room for a record that is unpacked.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    opened: Vec<u8>,
    plain: Vec<u8>,
}

/// Takes a record apart, packed or not. It lies at `offset`.
///
/// # Errors
/// [`RecordError::Content`] when the structure is not as it should be, or the key does not fit.
pub(super) fn decode<'a>(
    raw: &RawRecord<'a>,
    offset: u32,
    key: Option<&SegmentKey>,
    scratch: &'a mut Scratch,
) -> Result<Record<'a>, RecordError> {
    let is_packed = is_secret(raw.kind) && raw.flags & (FLAG_COMPRESSED | FLAG_ENCRYPTED) != 0;
    if !is_packed {
        return raw.decode();
    }
    unpack(raw, offset, key, scratch).ok_or(RecordError::Content)?;
    let plain = RawRecord {
        kind: raw.kind,
        flags: raw.flags & !(FLAG_COMPRESSED | FLAG_ENCRYPTED),
        number: raw.number,
        bytes: &scratch.plain,
    };
    plain.decode()
}

/// Makes the plain form of a record, but for its checksum.
fn unpack(
    raw: &RawRecord<'_>,
    offset: u32,
    key: Option<&SegmentKey>,
    scratch: &mut Scratch,
) -> Option<()> {
    let is_message = raw.kind == Kind::Message;
    let is_compressed = is_message && raw.flags & FLAG_COMPRESSED != 0;
    let mut prefix = 0;
    let mut subject_len = 0;
    if is_message {
        subject_len = u32_at(raw.bytes, HEAD_BYTES + 8)? as usize & 0xFFFF;
        prefix = 10;
        prefix += if raw.flags & FLAG_HEADERS != 0 { 4 } else { 0 };
        prefix += if raw.flags & FLAG_EXPIRES != 0 { 8 } else { 0 };
    }
    let mut at = HEAD_BYTES + prefix;
    let plain_head = raw.bytes.get(..at)?;
    let mut raw_len = 0;
    if is_compressed {
        raw_len = u32_at(raw.bytes, at)? as usize;
        at += RAW_LEN_BYTES;
    }
    let body_end = raw.bytes.len().checked_sub(RECORD_CHECKSUM_BYTES)?;
    scratch.plain.clear();
    scratch.plain.extend_from_slice(plain_head);
    let target = if is_compressed { &mut scratch.opened } else { &mut scratch.plain };
    if is_compressed {
        target.clear();
    }
    let from = target.len();
    if raw.flags & FLAG_ENCRYPTED != 0 {
        let epoch = u32_at(raw.bytes, at)?;
        at += 4;
        let aad = raw.bytes.get(..at)?;
        target.extend_from_slice(raw.bytes.get(at..body_end)?);
        if !key?.open(target, from, aad, (epoch, offset)) {
            return None;
        }
    } else {
        target.extend_from_slice(raw.bytes.get(at..body_end)?);
    }
    if is_compressed {
        let (subject, block) = scratch.opened.split_at_checked(subject_len)?;
        scratch.plain.extend_from_slice(subject);
        let before = scratch.plain.len();
        let len_max = raw_len.min(RECORD_BYTES_MAX);
        s2::decompress_block(block, len_max, &mut scratch.plain).ok()?;
        if scratch.plain.len() - before != raw_len {
            return None;
        }
    }
    scratch.plain.extend_from_slice(&[0; RECORD_CHECKSUM_BYTES]);
    debug_assert!(scratch.plain.len() >= OVERHEAD_BYTES);
    Some(())
}

impl Message<'_> {
    /// Subject, headers and payload.
    fn encode_content(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.subject);
        out.extend_from_slice(self.headers);
        out.extend_from_slice(self.payload);
    }
}
