//! The little of tar that a first-format archive uses: regular files, and extended headers for
//! long names and sizes.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::ArchiveError;

/// Everything in a tar file is a multiple of it.
pub(super) const BLOCK_LEN: usize = 512;
/// The longest extended header, in bytes.
pub(super) const EXTENDED_BYTES_MAX: usize = 64 << 10;

const NAME_LEN: usize = 100;
const CHECKSUM_AT: usize = 148;
const CHECKSUM_LEN: usize = 8;

/// What stands behind a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The bytes of a file.
    File,
    /// Records about the next file.
    Extended,
}

/// One header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) len: u64,
}

/// What extended records say about the next file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extended {
    pub(super) name: Option<String>,
    pub(super) len: Option<u64>,
}

const MALFORMED: ArchiveError = ArchiveError::Malformed("tar header");

/// The bytes behind `len` bytes that fill up a block.
pub(super) fn padding(len: u64) -> usize {
    let over = usize::try_from(len % 512).unwrap_or_default();
    if over == 0 { 0 } else { BLOCK_LEN.saturating_sub(over) }
}

/// Reads a header; `None` for a block of zeros, of which two end a tar file.
pub(super) fn parse_header(block: &[u8]) -> Result<Option<Header>, ArchiveError> {
    if block.len() != BLOCK_LEN {
        return Err(MALFORMED);
    }
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let field = |at: usize, len: usize| block.get(at..at.saturating_add(len)).unwrap_or_default();
    if number(field(CHECKSUM_AT, CHECKSUM_LEN)) != Some(checksum(block)) {
        return Err(ArchiveError::Checksum("tar header"));
    }
    let mut name = text(field(0, NAME_LEN))?;
    if field(257, 5) == b"ustar" {
        let prefix = text(field(345, 155))?;
        if !prefix.is_empty() {
            name = format!("{prefix}/{name}");
        }
    }
    let kind = match field(156, 1) {
        b"0" | b"\0" => Kind::File,
        b"x" => Kind::Extended,
        _ => return Err(ArchiveError::UnexpectedEntry(name)),
    };
    let len = number(field(124, 12)).ok_or(MALFORMED)?;
    Ok(Some(Header { kind, name, len }))
}

/// The sum of a header's bytes, with blanks in place of the sum itself.
fn checksum(block: &[u8]) -> u64 {
    let own = CHECKSUM_AT..CHECKSUM_AT.saturating_add(CHECKSUM_LEN);
    block.iter().enumerate().fold(0_u64, |sum, (at, &byte)| {
        sum.saturating_add(u64::from(if own.contains(&at) { b' ' } else { byte }))
    })
}

/// The text of a field up to its first NUL.
fn text(field: &[u8]) -> Result<String, ArchiveError> {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    let text = field.get(..end).unwrap_or_default();
    Ok(std::str::from_utf8(text).map_err(|_| MALFORMED)?.to_owned())
}

/// A number in octal digits, or in base 256 if its first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The second bit would make it negative.
        return (first & 0x40 == 0)
            .then_some(rest)?
            .iter()
            .try_fold(u64::from(first & 0x3f), |number, &byte| {
                number.checked_mul(256)?.checked_add(byte.into())
            });
    }
    let digits = field.trim_ascii();
    let end = memchr::memchr(0, digits).unwrap_or(digits.len());
    let digits = digits.get(..end)?.trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = matches!(digit, b'0'..=b'7').then(|| u64::from(digit.wrapping_sub(b'0')))?;
        number.checked_mul(8)?.checked_add(digit)
    })
}

/// Reads extended records: a length in decimal that counts the whole record, a blank, a key, `=`,
/// a value, a line feed.
pub(super) fn parse_extended(mut rest: &[u8]) -> Result<Extended, ArchiveError> {
    const BAD: ArchiveError = ArchiveError::Malformed("extended tar header");
    let mut found = Extended::default();
    while !rest.is_empty() {
        let blank = memchr::memchr(b' ', rest).ok_or(BAD)?;
        let digits = rest.get(..blank).and_then(|digits| std::str::from_utf8(digits).ok());
        let len: usize = digits.and_then(|digits| digits.parse().ok()).ok_or(BAD)?;
        let (record, tail) = rest.split_at_checked(len).ok_or(BAD)?;
        let record = record.get(blank.saturating_add(1)..).ok_or(BAD)?;
        let record = record.strip_suffix(b"\n").ok_or(BAD)?;
        let equals = memchr::memchr(b'=', record).ok_or(BAD)?;
        let (key, value) = record.split_at_checked(equals).ok_or(BAD)?;
        let value = std::str::from_utf8(value.get(1..).unwrap_or_default()).map_err(|_| BAD)?;
        match key {
            b"path" => found.name = Some(value.to_owned()),
            b"size" => found.len = Some(value.parse().map_err(|_| BAD)?),
            _ => {}
        }
        rest = tail;
    }
    Ok(found)
}

/// Appends a whole file: header, with an extended one if the name is long, bytes and padding.
pub(super) fn push_file(out: &mut Vec<u8>, name: &str, time_ns: i64, bytes: &[u8]) {
    let second = u64::try_from(time_ns.div_euclid(1_000_000_000)).unwrap_or_default();
    if name.len() > NAME_LEN {
        let record = extended_record("path", name);
        push_entry(out, b'x', "extended", second, record.as_bytes());
    }
    push_entry(out, b'0', name, second, bytes);
}

/// A record whose length counts its own digits.
fn extended_record(key: &str, value: &str) -> String {
    let bare = key.len().saturating_add(value.len()).saturating_add(3);
    let mut len = bare;
    while len != bare.saturating_add(itoa::Buffer::new().format(len).len()) {
        len = bare.saturating_add(itoa::Buffer::new().format(len).len());
    }
    format!("{len} {key}={value}\n")
}

fn push_entry(out: &mut Vec<u8>, kind: u8, name: &str, second: u64, bytes: &[u8]) {
    let mut block = [0_u8; BLOCK_LEN];
    let mut put = |at: usize, bytes: &[u8]| {
        for (place, byte) in block.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    };
    let short = name.as_bytes().get(..NAME_LEN).unwrap_or(name.as_bytes());
    put(0, short);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", bytes.len()).as_bytes());
    put(136, format!("{second:011o}\0").as_bytes());
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(265, b"nats");
    put(297, b"nats");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum = format!("{:06o}\0 ", checksum(&block));
    for (place, byte) in block.iter_mut().skip(CHECKSUM_AT).zip(sum.bytes()) {
        *place = byte;
    }
    out.extend_from_slice(&block);
    out.extend_from_slice(bytes);
    let len = u64::try_from(bytes.len()).unwrap_or_default();
    out.resize(out.len().saturating_add(padding(len)), 0);
}

/// Appends the end of a tar file.
pub(super) fn push_end(out: &mut Vec<u8>) {
    out.resize(out.len().saturating_add(BLOCK_LEN.saturating_mul(2)), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header_of(bytes: &[u8]) -> Header {
        parse_header(&bytes[..BLOCK_LEN]).unwrap().unwrap()
    }

    #[test]
    fn files_come_back() {
        let mut out = Vec::new();
        push_file(&mut out, "msgs/1.blk", 1_795_521_600_000_000_000, b"abc");
        assert_eq!(out.len(), 2 * BLOCK_LEN);
        let header = Header { kind: Kind::File, name: "msgs/1.blk".to_owned(), len: 3 };
        assert_eq!(header_of(&out), header);
        assert_eq!(&out[BLOCK_LEN..BLOCK_LEN + 3], b"abc");
        push_end(&mut out);
        assert_eq!(parse_header(&out[2 * BLOCK_LEN..3 * BLOCK_LEN]), Ok(None));
    }

    #[test]
    fn long_names_have_an_extended_header() {
        let name = format!("obs/{}/o.dat", "n".repeat(200));
        let mut out = Vec::new();
        push_file(&mut out, &name, 0, b"");
        let header = header_of(&out);
        assert_eq!(header.kind, Kind::Extended);
        let len = usize::try_from(header.len).unwrap();
        let found = parse_extended(&out[BLOCK_LEN..BLOCK_LEN + len]).unwrap();
        assert_eq!(found, Extended { name: Some(name), len: None });
    }

    #[test]
    fn damage_is_refused() {
        let mut out = Vec::new();
        push_file(&mut out, "meta.inf", 0, b"");
        let damaged = |at: usize, byte: u8| {
            let mut block = out[..BLOCK_LEN].to_vec();
            block[at] = byte;
            parse_header(&block)
        };
        assert_eq!(damaged(0, b'M'), Err(ArchiveError::Checksum("tar header")));
        assert_eq!(damaged(130, b'7'), Err(ArchiveError::Checksum("tar header")));
        let mut link = Vec::new();
        push_entry(&mut link, b'2', "meta.inf", 0, b"");
        let error = ArchiveError::UnexpectedEntry("meta.inf".to_owned());
        assert_eq!(parse_header(&link[..BLOCK_LEN]), Err(error));
        for text in ["5 a=b", "99 a=b\n", "x a=b\n", "6 a b\n", "3 a", "10 size=-1\n"] {
            assert!(parse_extended(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"00000000017\0"), Some(15));
        assert_eq!(number(b"  17 \0\0"), Some(15));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(b"8"), None);
    }

    proptest! {
        #[test]
        fn any_block_is_judged_without_a_panic(
            mut block in proptest::collection::vec(any::<u8>(), BLOCK_LEN),
            records in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let sum = format!("{:06o}\0 ", checksum(&block));
            block[CHECKSUM_AT..CHECKSUM_AT + CHECKSUM_LEN].copy_from_slice(sum.as_bytes());
            let _ = parse_header(&block);
            let _ = parse_extended(&records);
        }
    }
}
