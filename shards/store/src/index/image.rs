//! The index as bytes, for a checkpoint, and back. What is read has a checksum that held, but is
//! not trusted to be more than bytes.

use super::chunk::HAS_EXPIRY;
use super::expiry::Expiry;
use super::sequences::Sequences;
use super::subjects::Subjects;
use super::{Index, Overhead};

const VERSION: u8 = 1;

/// Takes numbers and bytes out of an image.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// A count of things that take `each` bytes at least.
    pub(crate) fn count(&mut self, each: usize) -> Option<usize> {
        let count = usize::try_from(self.u64()?).ok()?;
        (count <= self.0.len() / each.max(1)).then_some(count)
    }
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

impl Index {
    /// Writes the index down.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_u64(out, self.first_seq);
        put_u64(out, self.last_seq);
        out.push(u8::from(self.last_ts_ns.is_some()));
        put_u64(out, self.last_ts_ns.unwrap_or(0) as u64);
        put_u64(out, self.bytes);
        self.seqs.seal_newest(self.subjects.len() as u64);
        self.seqs.encode(out);
        self.subjects.encode(out);
        self.expiry.encode(out);
    }

    /// Reads an index.
    pub(crate) fn decode(reader: &mut Reader<'_>, seed: u64, overhead: Overhead) -> Option<Self> {
        if reader.u8()? != VERSION {
            return None;
        }
        let mut index = Self::new(seed, overhead, 0);
        index.first_seq = reader.u64()?;
        index.last_seq = reader.u64()?;
        let has_ts = reader.u8()? == 1;
        let ts_ns = reader.u64()? as i64;
        index.last_ts_ns = has_ts.then_some(ts_ns);
        index.bytes = reader.u64()?;
        index.seqs = Sequences::decode(reader)?;
        index.subjects = Subjects::decode(reader, seed)?;
        index.expiry = Expiry::decode(reader)?;
        let seqs = &index.seqs;
        let expires = |seq| seqs.entry(seq).is_some_and(|e| e.flags & HAS_EXPIRY != 0);
        index.expiry.retain(expires);
        index.expiring = index.expiry.len();
        Some(index)
    }
}
