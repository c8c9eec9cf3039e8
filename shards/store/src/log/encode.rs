//! Encoding of records. The layout is in `docs/STORAGE.md`.

use super::bind::Binding;
use super::record::{
    FLAG_ERASED, FLAG_EXPIRES, FLAG_HEADERS, FLAG_MORE, FLAG_VALUE, HEAD_BYTES, Kind, MARKS_SHIFT,
    Message, OVERHEAD_BYTES, Record,
};

impl Message<'_> {
    fn flags(&self) -> u8 {
        let mut flags = (self.marks & 3) << MARKS_SHIFT;
        if !self.headers.is_empty() {
            flags |= FLAG_HEADERS;
        }
        if self.expires_ns.is_some() {
            flags |= FLAG_EXPIRES;
        }
        if self.more {
            flags |= FLAG_MORE;
        }
        flags
    }

    fn body_len(&self) -> usize {
        10 + if self.headers.is_empty() { 0 } else { 4 }
            + if self.expires_ns.is_some() { 8 } else { 0 }
            + self.subject.len()
            + self.headers.len()
            + self.payload.len()
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        self.encode_prefix(out);
        out.extend_from_slice(self.subject);
        out.extend_from_slice(self.headers);
        out.extend_from_slice(self.payload);
    }

    /// What comes before the subject.
    pub(super) fn encode_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ts_ns.to_le_bytes());
        out.extend_from_slice(&(self.subject.len() as u16).to_le_bytes());
        if !self.headers.is_empty() {
            out.extend_from_slice(&(self.headers.len() as u32).to_le_bytes());
        }
        if let Some(expires_ns) = self.expires_ns {
            out.extend_from_slice(&expires_ns.to_le_bytes());
        }
    }
}

impl Record<'_> {
    /// Bytes of the record when encoded plainly.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Self::Message(message) => message.body_len(),
                Self::Delete { ranges, .. } => ranges.len() * 16,
                Self::Purge { .. } | Self::Drop { .. } | Self::End { .. } => 0,
                Self::Skip { .. } => 8,
                Self::NotePut { key, value } => key.len() + value.len(),
                Self::NoteDelta { key, delta } => key.len() + delta.len(),
                Self::NoteCopy { key, parts, .. } => key.len() + parts.len(),
                Self::NoteRemove { key } => key.len(),
                Self::Mark { bytes, .. } => bytes.len(),
                Self::Manifest { ranges, .. } => ranges.len(),
                Self::Journal { image, .. } => 8 + image.len(),
                Self::Erased { len, .. } => {
                    (*len as usize).max(OVERHEAD_BYTES + 8) - OVERHEAD_BYTES
                }
            }
    }

    /// What the record is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Message(_) => Kind::Message,
            Self::Delete { .. } => Kind::Delete,
            Self::Purge { .. } => Kind::Purge,
            Self::Skip { .. } => Kind::Skip,
            Self::NotePut { .. } => Kind::NotePut,
            Self::NoteDelta { .. } => Kind::NoteDelta,
            Self::NoteCopy { .. } => Kind::NoteCopy,
            Self::NoteRemove { .. } => Kind::NoteRemove,
            Self::Mark { .. } => Kind::Mark,
            Self::Manifest { .. } => Kind::Manifest,
            Self::Drop { .. } => Kind::Drop,
            Self::End { .. } => Kind::End,
            Self::Journal { .. } => Kind::Journal,
            Self::Erased { .. } => Kind::Erased,
        }
    }

    const fn number(&self) -> u64 {
        match self {
            Self::Message(message) => message.seq,
            Self::Delete { .. } => 0,
            Self::Purge { below_seq } => *below_seq,
            Self::Skip { first_seq, .. } => *first_seq,
            Self::NotePut { key, .. }
            | Self::NoteDelta { key, .. }
            | Self::NoteCopy { key, .. }
            | Self::NoteRemove { key } => key.len() as u64,
            Self::Mark { number, .. } => *number,
            Self::Manifest { next_seq, .. } => *next_seq,
            Self::Drop { segment } => *segment as u64,
            Self::End { last_seq } => *last_seq,
            Self::Erased { seq, .. } => *seq,
            Self::Journal { segment, incarnation, .. } => {
                *segment as u64 | (*incarnation as u64) << 32
            }
        }
    }

    pub(super) fn flags(&self) -> u8 {
        match self {
            Self::Message(message) => message.flags(),
            Self::Delete { erased: true, .. } => FLAG_ERASED,
            Self::NoteCopy { has_value: true, .. } => FLAG_VALUE,
            _ => 0,
        }
    }

    /// Appends the record to `out`; it will lie at `offset` of the segment of `binding`.
    pub fn encode(&self, out: &mut Vec<u8>, binding: Binding, offset: u32) {
        let start = out.len();
        self.encode_head(out, binding, offset, self.encoded_len(), self.flags());
        self.encode_body(out);
        let sum = binding.checksum(offset, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&sum.to_le_bytes());
    }

    /// The first 16 bytes.
    #[inline]
    pub(super) fn encode_head(
        &self,
        out: &mut Vec<u8>,
        binding: Binding,
        offset: u32,
        len: usize,
        flags: u8,
    ) {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&(len as u32).to_le_bytes());
        head[4] = self.kind() as u8;
        head[5] = flags;
        head[8..].copy_from_slice(&self.number().to_le_bytes());
        let check = binding.head_check(offset, &head);
        head[6..8].copy_from_slice(&check.to_le_bytes());
        out.extend_from_slice(&head);
    }

    /// What lies between head and checksum, plainly.
    #[inline]
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message(message) => message.encode_body(out),
            Self::Delete { ranges, .. } => {
                for (first, last) in ranges.iter() {
                    out.extend_from_slice(&first.to_le_bytes());
                    out.extend_from_slice(&last.to_le_bytes());
                }
            }
            Self::Purge { .. } | Self::Drop { .. } | Self::End { .. } => {}
            Self::Skip { last_seq, .. } => out.extend_from_slice(&last_seq.to_le_bytes()),
            Self::NotePut { key, value: bytes }
            | Self::NoteDelta { key, delta: bytes }
            | Self::NoteCopy { key, parts: bytes, .. } => {
                out.extend_from_slice(key);
                out.extend_from_slice(bytes);
            }
            Self::NoteRemove { key: bytes }
            | Self::Mark { bytes, .. }
            | Self::Manifest { ranges: bytes, .. } => out.extend_from_slice(bytes),
            Self::Journal { offset, len, image, .. } => {
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(image);
            }
            Self::Erased { ts_ns, len, .. } => {
                out.extend_from_slice(&ts_ns.to_le_bytes());
                let zeroes = (*len as usize).saturating_sub(OVERHEAD_BYTES + 8);
                out.resize(out.len() + zeroes, 0);
            }
        }
    }
}
