//! The header block of a message: a `NATS/1.0` line, `Key: Value` lines, an empty line.
//!
//! The server treats the block as opaque bytes except for the few keys it looks up itself. Keys
//! are compared byte for byte; of several lines with one key the first counts.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use memchr::memmem;

/// What every block starts with.
pub const VERSION: &[u8] = b"NATS/1.0";
/// A block without any header.
pub const EMPTY: &[u8] = b"NATS/1.0\r\n\r\n";

const CR_LF: &[u8] = b"\r\n";

/// One line of a block and where it stands.
struct Line<'a> {
    /// Offset of its first byte.
    start: usize,
    /// Offset behind its CR LF.
    end: usize,
    /// The line without its CR LF.
    text: &'a [u8],
}

/// The lines of a block, the version line first. Bytes behind the last CR LF are not a line.
struct Lines<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self.block.get(self.at..)?;
        let len = memmem::find(rest, CR_LF)?;
        let start = self.at;
        let end = start.checked_add(len)?.checked_add(CR_LF.len())?;
        self.at = end;
        Some(Line { start, end, text: rest.get(..len)? })
    }
}

const fn lines(block: &[u8]) -> Lines<'_> {
    Lines { block, at: 0 }
}

/// The value of the line if its key is `key`.
fn value_of<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(key)?.strip_prefix(b":")?;
    let blanks = value.iter().take_while(|&&b| b == b' ' || b == b'\t').count();
    value.get(blanks..)
}

/// The value of the first line whose key is exactly `key`, without its leading blanks.
pub fn get<'a>(block: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    if key.is_empty() {
        return None;
    }
    lines(block).skip(1).find_map(|line| value_of(line.text, key))
}

/// Every key and value of the block, in order, values without their leading blanks. Lines
/// without a colon are passed over.
pub fn iter(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(block).skip(1).filter_map(|line| {
        let colon = memchr::memchr(b':', line.text)?;
        let key = line.text.get(..colon)?;
        Some((key, value_of(line.text, key)?))
    })
}

/// Takes every line whose key is exactly `key` out of the block. A block that is left without
/// status and headers becomes empty, which is how a message without headers looks.
pub fn remove(block: &mut Vec<u8>, key: &[u8]) {
    if key.is_empty() {
        return;
    }
    while let Some(range) = lines(block)
        .skip(1)
        .find(|line| value_of(line.text, key).is_some())
        .map(|line| line.start..line.end)
    {
        block.drain(range);
    }
    if block.as_slice() == EMPTY {
        block.clear();
    }
}

/// Sets the header to one line `Key: Value` at the end of the block, in place of all earlier
/// lines with that key; an empty block gets its version line first.
///
/// Answers false and changes nothing if the key is not a header key or the value holds a line
/// break: neither may smuggle a line in.
pub fn set(block: &mut Vec<u8>, key: &[u8], value: &[u8]) -> bool {
    if !is_key(key) || memchr::memchr2(b'\r', b'\n', value).is_some() {
        return false;
    }
    remove(block, key);
    if block.is_empty() {
        block.extend_from_slice(EMPTY);
    }
    if block.ends_with(b"\r\n\r\n") {
        block.truncate(block.len().saturating_sub(CR_LF.len()));
    } else if !block.ends_with(CR_LF) {
        block.extend_from_slice(CR_LF);
    }
    for part in [key, b": ", value, CR_LF, CR_LF] {
        block.extend_from_slice(part);
    }
    true
}

/// Gives the first header with this key another value where it stands; without one, the header
/// is set at the end of the block.
///
/// Answers false and changes nothing if the value holds a line break or the key is no key.
pub fn replace(block: &mut Vec<u8>, key: &[u8], value: &[u8]) -> bool {
    if !is_key(key) || memchr::memchr2(b'\r', b'\n', value).is_some() {
        return false;
    }
    let found = lines(block).skip(1).find(|line| value_of(line.text, key).is_some());
    let Some(range) = found.map(|line| line.start..line.end) else {
        return set(block, key, value);
    };
    let line = [key, b": ", value, CR_LF].concat();
    block.splice(range, line);
    true
}

/// The three digits and the description of the status line; `None` for an ordinary block.
pub fn status(block: &[u8]) -> Option<(u16, &[u8])> {
    let rest = lines(block).next()?.text.strip_prefix(VERSION)?;
    let rest = rest.strip_prefix(b" ")?.trim_ascii_start();
    let (digits, description) = rest.split_at_checked(3)?;
    let code = digits.iter().try_fold(0_u16, |code, &byte| {
        byte.is_ascii_digit()
            .then(|| code.wrapping_mul(10).wrapping_add(u16::from(byte.wrapping_sub(b'0'))))
    })?;
    match description.first() {
        None => Some((code, description)),
        Some(b' ') => Some((code, description.trim_ascii())),
        Some(_) => None,
    }
}

/// Whether the block keeps the grammar to the letter: version line with or without a status,
/// lines with a key and a colon, the empty line at its end and nothing behind it.
pub fn is_well_formed(block: &[u8]) -> bool {
    let mut all = lines(block);
    let Some(first) = all.next() else {
        return false;
    };
    let Some(after) = first.text.strip_prefix(VERSION) else {
        return false;
    };
    if !(after.trim_ascii().is_empty() || status(block).is_some()) {
        return false;
    }
    for line in all {
        if line.text.is_empty() {
            return line.end == block.len();
        }
        let key = memchr::memchr(b':', line.text).and_then(|colon| line.text.get(..colon));
        if !key.is_some_and(is_key) || memchr::memchr2(b'\r', b'\n', line.text).is_some() {
            return false;
        }
    }
    false
}

/// Whether the bytes can be a header key: visible ASCII or UTF-8, no colon, no blank.
fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.iter().all(|&b| b > b' ' && b != b':' && b != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &[u8] = b"NATS/1.0\r\nA: 1\r\na:2\r\nAB:   3 \r\nA: 4\r\n\r\n";

    #[test]
    fn finds_the_first_exact_key() {
        assert_eq!(get(BLOCK, b"A"), Some(b"1".as_slice()));
        assert_eq!(get(BLOCK, b"a"), Some(b"2".as_slice()));
        assert_eq!(get(BLOCK, b"AB"), Some(b"3 ".as_slice()));
        assert_eq!(get(BLOCK, b"B"), None);
        assert_eq!(get(BLOCK, b""), None);
        assert_eq!(get(BLOCK, b"NATS/1.0"), None);
        assert_eq!(get(b"", b"A"), None);
        assert_eq!(get(b"NATS/1.0\r\nX: A: 1\r\n\r\n", b"A"), None);
        assert_eq!(get(b"NATS/1.0\r\nA: 1", b"A"), None);
        assert_eq!(iter(BLOCK).count(), 4);
    }

    #[test]
    fn changes_a_block() {
        let mut block = Vec::new();
        assert!(set(&mut block, b"K", b"v"));
        assert_eq!(block, b"NATS/1.0\r\nK: v\r\n\r\n");
        assert!(set(&mut block, b"L", b""));
        assert!(set(&mut block, b"K", b"w"));
        assert_eq!(block, b"NATS/1.0\r\nL: \r\nK: w\r\n\r\n");
        remove(&mut block, b"L");
        assert_eq!(block, b"NATS/1.0\r\nK: w\r\n\r\n");
        remove(&mut block, b"K");
        assert_eq!(block, b"");
        let mut status = b"NATS/1.0 503\r\nK: v\r\n\r\n".to_vec();
        remove(&mut status, b"K");
        assert_eq!(status, b"NATS/1.0 503\r\n\r\n");
        let mut all = BLOCK.to_vec();
        remove(&mut all, b"A");
        assert_eq!(all, b"NATS/1.0\r\na:2\r\nAB:   3 \r\n\r\n");
    }

    #[test]
    fn refuses_to_smuggle() {
        let mut block = BLOCK.to_vec();
        for (key, value) in
            [("K", "a\r\nB: c"), ("K", "a\n"), ("K:", "v"), ("", "v"), ("K\r\n", "")]
        {
            assert!(!set(&mut block, key.as_bytes(), value.as_bytes()));
        }
        assert_eq!(block, BLOCK);
    }

    #[test]
    fn reads_the_status() {
        assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some((503, b"".as_slice())));
        let text = b"NATS/1.0 409 Consumer Deleted\r\n\r\n";
        assert_eq!(status(text), Some((409, b"Consumer Deleted".as_slice())));
        for block in [
            "",
            "NATS/1.0\r\n\r\n",
            "NATS/1.0 \r\n",
            "NATS/1.0 50\r\n",
            "NATS/1.0 5x3\r\n",
            "NATS/1.0 5030\r\n",
            "NATS/1.0503\r\n",
            "HTTP/1.1 503\r\n",
            "NATS/1.0 503",
        ] {
            assert_eq!(status(block.as_bytes()), None, "{block:?}");
        }
    }

    #[test]
    fn knows_a_well_formed_block() {
        for block in [BLOCK, EMPTY, b"NATS/1.0 503 No\r\n\r\n", b"NATS/1.0\r\nA:\r\n\r\n"] {
            assert!(is_well_formed(block));
        }
        for block in [
            "",
            "NATS/1.0\r\n",
            "NATS/1.0\r\n\r\nx",
            "NATS/1.0x\r\n\r\n",
            "NATS/1.0\r\nA\r\n\r\n",
            "NATS/1.0\r\n: v\r\n\r\n",
            "NATS/1.0\r\nA B: v\r\n\r\n",
            "NATS/1.0\r\nA: 1\n\r\n\r\n",
            "NATS/1.0\n\n",
        ] {
            assert!(!is_well_formed(block.as_bytes()), "{block:?}");
        }
    }
}
