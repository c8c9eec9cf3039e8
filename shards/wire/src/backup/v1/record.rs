//! One record of a block file.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use crate::backup::hash::HashKey;
use crate::backup::{ArchiveError, Message, RECORD_BYTES_MAX};

/// The fixed part at the start of a record.
pub(super) const HEADER_LEN: usize = 22;
const CHECKSUM_LEN: usize = 8;
const HEADERS_LEN_LEN: usize = 4;
/// The shortest record.
pub(super) const LEN_MIN: usize = HEADER_LEN + CHECKSUM_LEN;

const HAS_HEADERS: u32 = 1 << 31;
const ERASED: u64 = 1 << 63;
const TOMBSTONE: u64 = 1 << 62;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message.
    Message,
    /// A sequence whose message was overwritten, or never was.
    Erased,
    /// The message with this sequence is deleted; it stands elsewhere, before.
    Tombstone,
}

/// A record whose length is known and whose bytes are at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) sequence: u64,
    pub(super) time_ns: i64,
    pub(super) subject: Range<usize>,
    pub(super) headers: Range<usize>,
    pub(super) payload: Range<usize>,
}

const MALFORMED: ArchiveError = ArchiveError::Malformed("record");

/// The length of the record that starts with these bytes, of which there must be
/// [`HEADER_LEN`], if it is possible with `left` bytes left in its block.
pub(super) fn parse_len(bytes: &[u8], left: u64) -> Result<usize, ArchiveError> {
    let raw = u32::from_le_bytes(*bytes.first_chunk().ok_or(MALFORMED)?);
    let len = usize::try_from(raw & !HAS_HEADERS).map_err(|_| MALFORMED)?;
    if len > RECORD_BYTES_MAX {
        return Err(ArchiveError::TooLarge("record"));
    }
    if len < LEN_MIN || u64::try_from(len).unwrap_or(u64::MAX) > left {
        return Err(MALFORMED);
    }
    Ok(len)
}

/// Reads a record of which all bytes are there, and verifies it.
pub(super) fn parse(bytes: &[u8], key: &HashKey) -> Result<Record, ArchiveError> {
    let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(MALFORMED)?;
    let (body, checksum) = body.split_last_chunk::<CHECKSUM_LEN>().ok_or(MALFORMED)?;
    let [l0, l1, l2, l3, stamp @ .., s0, s1] = header;
    let (sequence, time) = stamp.split_first_chunk::<8>().ok_or(MALFORMED)?;
    let raw_sequence = u64::from_le_bytes(*sequence);
    let time_ns = i64::from_le_bytes(*time.first_chunk().ok_or(MALFORMED)?);
    let subject_len = usize::from(u16::from_le_bytes([*s0, *s1]));
    let (subject, rest) = body.split_at_checked(subject_len).ok_or(MALFORMED)?;
    let has_headers = u32::from_le_bytes([*l0, *l1, *l2, *l3]) & HAS_HEADERS != 0;
    let (headers_len, rest, skipped) = if has_headers {
        let (len, rest) = rest.split_first_chunk::<HEADERS_LEN_LEN>().ok_or(MALFORMED)?;
        (usize::try_from(u32::from_le_bytes(*len)).map_err(|_| MALFORMED)?, rest, HEADERS_LEN_LEN)
    } else {
        (0, rest, 0)
    };
    if key.sum(&[stamp, subject, rest]) != *checksum {
        return Err(ArchiveError::Checksum("record"));
    }
    if headers_len > rest.len() {
        return Err(MALFORMED);
    }
    let kind = if raw_sequence & TOMBSTONE != 0 {
        Kind::Tombstone
    } else if raw_sequence & ERASED != 0 || raw_sequence == 0 {
        Kind::Erased
    } else {
        Kind::Message
    };
    let subject_end = HEADER_LEN.saturating_add(subject_len);
    let headers_start = subject_end.saturating_add(skipped);
    let headers_end = headers_start.saturating_add(headers_len);
    Ok(Record {
        kind,
        sequence: raw_sequence & !(TOMBSTONE | ERASED),
        time_ns,
        subject: HEADER_LEN..subject_end,
        headers: headers_start..headers_end,
        payload: headers_end..headers_start.saturating_add(rest.len()),
    })
}

/// Appends the record of a message. False, and nothing appended, if it would be too long.
pub(in crate::backup) fn push_message(
    out: &mut Vec<u8>,
    key: &HashKey,
    message: &Message<'_>,
) -> bool {
    push(out, key, message, message.sequence)
}

/// Appends a record that says that there is no message with this sequence.
pub(super) fn push_erased(out: &mut Vec<u8>, key: &HashKey, sequence: u64, time_ns: i64) {
    push(out, key, &bare(sequence, time_ns), sequence | ERASED);
}

/// Appends a record that says that all is gone up to this sequence.
pub(super) fn push_tombstone(out: &mut Vec<u8>, key: &HashKey, sequence: u64, time_ns: i64) {
    push(out, key, &bare(sequence, time_ns), sequence | TOMBSTONE);
}

const fn bare(sequence: u64, time_ns: i64) -> Message<'static> {
    Message { sequence, time_ns, subject: b"", headers: b"", payload: b"" }
}

fn push(out: &mut Vec<u8>, key: &HashKey, message: &Message<'_>, raw_sequence: u64) -> bool {
    let Message { subject, headers, payload, .. } = *message;
    let counted = if headers.is_empty() { 0 } else { HEADERS_LEN_LEN };
    let len = [LEN_MIN, subject.len(), counted, headers.len(), payload.len()]
        .iter()
        .fold(0_usize, |sum, len| sum.saturating_add(*len));
    let (Ok(raw_len), Ok(subject_len), Ok(headers_len)) =
        (u32::try_from(len), u16::try_from(subject.len()), u32::try_from(headers.len()))
    else {
        return false;
    };
    if len > RECORD_BYTES_MAX {
        return false;
    }
    let raw_len = if headers.is_empty() { raw_len } else { raw_len | HAS_HEADERS };
    let (sequence, time) = (raw_sequence.to_le_bytes(), message.time_ns.to_le_bytes());
    out.extend_from_slice(&raw_len.to_le_bytes());
    out.extend_from_slice(&sequence);
    out.extend_from_slice(&time);
    out.extend_from_slice(&subject_len.to_le_bytes());
    out.extend_from_slice(subject);
    if !headers.is_empty() {
        out.extend_from_slice(&headers_len.to_le_bytes());
        out.extend_from_slice(headers);
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(&key.sum(&[&sequence, &time, subject, headers, payload]));
    true
}
