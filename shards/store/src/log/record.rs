//! Records as they lie in a segment: encoded at the end of a buffer, decoded in place.
//! The layout is in `docs/STORAGE.md`.

use super::bind::Binding;

/// Length, kind, flags, head check and number.
pub(super) const HEAD_BYTES: usize = 16;
/// A record without body: head and checksum. The shortest there is.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + CHECKSUM_BYTES;
const CHECKSUM_BYTES: usize = 8;
pub(super) const RECORD_CHECKSUM_BYTES: usize = CHECKSUM_BYTES;

pub(super) const FLAG_HEADERS: u8 = 1;
pub(super) const FLAG_EXPIRES: u8 = 2;
pub(super) const FLAG_COMPRESSED: u8 = 4;
pub(super) const FLAG_ENCRYPTED: u8 = 8;
pub(super) const FLAG_MORE: u8 = 16;
pub(super) const FLAG_ERASED: u8 = 1;
pub(super) const FLAG_VALUE: u8 = 1;
/// The owner's two bits of a message begin here.
pub(super) const MARKS_SHIFT: u8 = 5;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message.
    Message = 1,
    /// Sequences that were removed.
    Delete = 2,
    /// Everything below a sequence was removed.
    Purge = 3,
    /// Sequences that were never used.
    Skip = 4,
    /// A note.
    NotePut = 5,
    /// A change of a note.
    NoteDelta = 6,
    /// The end of a note.
    NoteRemove = 7,
    /// Something of the owner.
    Mark = 8,
    /// Which segments there are.
    Manifest = 9,
    /// A segment that is gone.
    Drop = 10,
    /// Nothing follows in this segment.
    End = 11,
    /// New bytes for a place that is being erased.
    Journal = 12,
    /// A note and its changes, copied forward as one.
    NoteCopy = 13,
    /// What is left of a message that was erased.
    Erased = 14,
}

impl Kind {
    /// The kind of this number.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Message,
            2 => Self::Delete,
            3 => Self::Purge,
            4 => Self::Skip,
            5 => Self::NotePut,
            6 => Self::NoteDelta,
            7 => Self::NoteRemove,
            8 => Self::Mark,
            9 => Self::Manifest,
            10 => Self::Drop,
            11 => Self::End,
            12 => Self::Journal,
            13 => Self::NoteCopy,
            14 => Self::Erased,
            _ => return None,
        })
    }
}

/// A message of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its sequence.
    pub seq: u64,
    /// When it was stored, nanoseconds since 1970.
    pub ts_ns: i64,
    /// When it is to be removed, nanoseconds since 1970.
    pub expires_ns: Option<i64>,
    /// At most 65,535 bytes.
    pub subject: &'a [u8],
    /// The header block with its first line; empty when there is none.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// Two bits of the owner, 0 to 3.
    pub marks: u8,
    /// The next record belongs to the same atomic group: either all of a group is found after a
    /// crash, or nothing.
    pub more: bool,
}

/// Ranges of sequences, first and last, both included.
#[derive(Clone, Copy, Debug)]
pub enum Ranges<'a> {
    /// To be encoded.
    List(&'a [(u64, u64)]),
    /// Decoded: pairs of little endian numbers.
    Bytes(&'a [u8]),
}

impl Ranges<'_> {
    /// How many ranges.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Bytes(bytes) => bytes.len() / 16,
        }
    }

    /// True without ranges.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `at`th range.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<(u64, u64)> {
        match self {
            Self::List(list) => list.get(at).copied(),
            Self::Bytes(bytes) => Some((u64_at(bytes, at * 16)?, u64_at(bytes, at * 16 + 8)?)),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

impl PartialEq for Ranges<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Ranges<'_> {}

/// A record. `NoteCopy`, `Manifest`, `Drop`, `End` and `Journal` are the log's
/// own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A message.
    Message(Message<'a>),
    /// These sequences are removed.
    Delete {
        /// Which.
        ranges: Ranges<'a>,
        /// Their bytes were to be overwritten.
        erased: bool,
    },
    /// All sequences below are removed.
    Purge {
        /// The first that stays.
        below_seq: u64,
    },
    /// Sequences that no message will have.
    Skip {
        /// The first.
        first_seq: u64,
        /// The last.
        last_seq: u64,
    },
    /// A note gets a value.
    NotePut {
        /// Its name.
        key: &'a [u8],
        /// All of it.
        value: &'a [u8],
    },
    /// A note changes.
    NoteDelta {
        /// Its name.
        key: &'a [u8],
        /// How; the owner knows.
        delta: &'a [u8],
    },
    /// A note ends.
    NoteRemove {
        /// Its name.
        key: &'a [u8],
    },
    /// A note with its changes, in place of what was there.
    NoteCopy {
        /// Its name.
        key: &'a [u8],
        /// The first part is its value; otherwise all are changes.
        has_value: bool,
        /// Parts, each with its length before it, u32.
        parts: &'a [u8],
    },
    /// Something of the owner.
    Mark {
        /// The owner's.
        number: u64,
        /// The owner's.
        bytes: &'a [u8],
    },
    /// The segments that exist: pairs of first and last number, little endian.
    Manifest {
        /// The sequence that follows.
        next_seq: u64,
        /// Eight bytes for each pair.
        ranges: &'a [u8],
    },
    /// A segment is removed.
    Drop {
        /// Its number.
        segment: u32,
    },
    /// Nothing follows in this segment.
    End {
        /// The last sequence so far.
        last_seq: u64,
    },
    /// Bytes that a place of another segment is to have.
    Journal {
        /// That segment.
        segment: u32,
        /// Its incarnation.
        incarnation: u32,
        /// Where the erased message lies,
        offset: u32,
        /// and its bytes.
        len: u32,
        /// Its blocks as they are to be; of more than four, the first and the last two.
        image: &'a [u8],
    },
    /// A message was here and is erased.
    Erased {
        /// Its sequence.
        seq: u64,
        /// When it was stored, nanoseconds since 1970.
        ts_ns: i64,
        /// Bytes of the whole record, as the message had them.
        len: u32,
    },
}

/// A record whose bytes are whole, not yet taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// What it is.
    pub kind: Kind,
    /// Bits whose meaning depends on the kind.
    pub flags: u8,
    /// Sequence, length of a key, or what the kind says.
    pub number: u64,
    /// All bytes, with head and checksum.
    pub bytes: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More bytes are needed; at least as many as named.
    #[error("{0} bytes needed")]
    Short(usize),
    /// The head does not hold: nothing is known.
    #[error("no record")]
    Head,
    /// The head holds, the rest does not.
    #[error("damaged record")]
    Body,
    /// The bytes hold, but their inner structure does not, or the key for them is missing.
    #[error("unreadable record")]
    Content,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// What the head of a record says, when the head holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the whole record.
    pub len: usize,
    /// What it is.
    pub kind: Kind,
    /// Bits of the kind.
    pub flags: u8,
    /// Number of the kind.
    pub number: u64,
}

impl Head {
    /// Reads and verifies the head at the beginning of `bytes`.
    #[must_use]
    pub fn parse(bytes: &[u8], binding: Binding, offset: u32) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let kind = Kind::from_byte(head[4])?;
        let len = u32_at(head, 0)? as usize;
        let number = u64_at(head, 8)?;
        if len < OVERHEAD_BYTES || u16_at(head, 6)? != binding.head_check(offset, head) {
            return None;
        }
        Some(Self { len, kind, flags: head[5], number })
    }
}

/// Adds a part to those of a `NoteCopy`.
pub(super) fn add_part(parts: &mut Vec<u8>, part: &[u8]) {
    parts.extend_from_slice(&(part.len() as u32).to_le_bytes());
    parts.extend_from_slice(part);
}

/// The parts of a `NoteCopy`.
pub(super) fn parts_of(mut parts: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = u32_at(parts, 0)? as usize;
        let (part, rest) = parts.get(4..)?.split_at_checked(len)?;
        parts = rest;
        Some(part)
    })
}

/// The length that the record at the beginning of `bytes` claims to have.
#[must_use]
pub(super) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    u32_at(bytes, 0).map(|len| len as usize)
}

/// Verifies the record at the beginning of `bytes`, which lies at `offset`.
///
/// # Errors
/// See [`RecordError`]; `Short` only when the head holds or is not there as a whole.
pub(super) fn verify(
    bytes: &[u8],
    binding: Binding,
    offset: u32,
) -> Result<RawRecord<'_>, RecordError> {
    if bytes.len() < HEAD_BYTES {
        return Err(RecordError::Short(HEAD_BYTES));
    }
    let head = Head::parse(bytes, binding, offset).ok_or(RecordError::Head)?;
    let whole = bytes.get(..head.len).ok_or(RecordError::Short(head.len))?;
    let body_end = head.len - CHECKSUM_BYTES;
    let sum = u64_at(whole, body_end).ok_or(RecordError::Body)?;
    if binding.checksum(offset, &whole[..body_end]) != sum {
        return Err(RecordError::Body);
    }
    Ok(RawRecord { kind: head.kind, flags: head.flags, number: head.number, bytes: whole })
}

/// Takes the record at the beginning of `bytes` without looking at its checksum: for bytes that
/// have not left memory.
#[must_use]
pub(super) fn trust(bytes: &[u8]) -> Option<RawRecord<'_>> {
    let head = bytes.get(..HEAD_BYTES)?;
    let whole = bytes.get(..claimed_len(head)?)?;
    Some(RawRecord {
        kind: Kind::from_byte(head[4])?,
        flags: head[5],
        number: u64_at(head, 8)?,
        bytes: whole,
    })
}

impl<'a> RawRecord<'a> {
    /// What lies between head and checksum.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEAD_BYTES..self.bytes.len() - CHECKSUM_BYTES).unwrap_or_default()
    }

    /// True when the following record belongs to the same atomic group.
    #[must_use]
    pub fn more(&self) -> bool {
        self.kind == Kind::Message && self.flags & FLAG_MORE != 0
    }

    /// Takes a plain record apart.
    ///
    /// # Errors
    /// [`RecordError::Content`] when the structure is not as it should be, or when the record is
    /// compressed or encrypted.
    pub fn decode(&self) -> Result<Record<'a>, RecordError> {
        self.decode_plain().ok_or(RecordError::Content)
    }

    fn decode_plain(&self) -> Option<Record<'a>> {
        let body = self.body();
        let key_len = usize::try_from(self.number).ok();
        Some(match self.kind {
            Kind::Message => Record::Message(self.decode_message()?),
            Kind::Delete if body.len().is_multiple_of(16) => Record::Delete {
                ranges: Ranges::Bytes(body),
                erased: self.flags & FLAG_ERASED != 0,
            },
            Kind::Delete => return None,
            Kind::Purge => Record::Purge { below_seq: self.number },
            Kind::Skip => Record::Skip { first_seq: self.number, last_seq: u64_at(body, 0)? },
            Kind::NotePut => {
                let (key, value) = body.split_at_checked(key_len?)?;
                Record::NotePut { key, value }
            }
            Kind::NoteDelta => {
                let (key, delta) = body.split_at_checked(key_len?)?;
                Record::NoteDelta { key, delta }
            }
            Kind::NoteCopy => {
                let (key, parts) = body.split_at_checked(key_len?)?;
                Record::NoteCopy { key, has_value: self.flags & FLAG_VALUE != 0, parts }
            }
            Kind::NoteRemove => Record::NoteRemove { key: body },
            Kind::Mark => Record::Mark { number: self.number, bytes: body },
            Kind::Manifest => Record::Manifest { next_seq: self.number, ranges: body },
            Kind::Drop => Record::Drop { segment: u32::try_from(self.number).ok()? },
            Kind::End => Record::End { last_seq: self.number },
            Kind::Journal => Record::Journal {
                segment: self.number as u32,
                incarnation: (self.number >> 32) as u32,
                offset: u32_at(body, 0)?,
                len: u32_at(body, 4)?,
                image: body.get(8..)?,
            },
            Kind::Erased => Record::Erased {
                seq: self.number,
                ts_ns: u64_at(body, 0)? as i64,
                len: self.bytes.len() as u32,
            },
        })
    }

    fn decode_message(&self) -> Option<Message<'a>> {
        if self.flags & (FLAG_COMPRESSED | FLAG_ENCRYPTED) != 0 {
            return None;
        }
        let body = self.body();
        let ts_ns = u64_at(body, 0)? as i64;
        let subject_len = usize::from(u16_at(body, 8)?);
        let mut at = 10;
        let mut headers_len = 0;
        if self.flags & FLAG_HEADERS != 0 {
            headers_len = u32_at(body, at)? as usize;
            at += 4;
        }
        let mut expires_ns = None;
        if self.flags & FLAG_EXPIRES != 0 {
            expires_ns = Some(u64_at(body, at)? as i64);
            at += 8;
        }
        let (subject, rest) = body.get(at..)?.split_at_checked(subject_len)?;
        let (headers, payload) = rest.split_at_checked(headers_len)?;
        Some(Message {
            seq: self.number,
            ts_ns,
            expires_ns,
            subject,
            headers,
            payload,
            marks: self.flags >> MARKS_SHIFT & 3,
            more: self.more(),
        })
    }
}
