//! Prepared publish bytes: a whole number of equally long PUB frames, written again and again.

use std::io::Write as _;
use std::sync::Arc;

/// Payloads of at least this size carry their place in the cycle and their source.
pub const STAMP_LEN: usize = 8;

/// A ring of prepared PUB frames. Cheap to clone.
#[derive(Clone)]
pub struct Cycle {
    bytes: Arc<[u8]>,
    frame_len: usize,
    count: usize,
}

impl Cycle {
    /// Frames on one subject, together about `target_len` bytes.
    ///
    /// `source` names the publisher inside the payload, so that receivers can check the
    /// order of each publisher's messages.
    #[must_use]
    pub fn fixed(subject: &str, size: usize, source: u32, target_len: usize) -> Self {
        let frame_len = format!("PUB {subject} {size}\r\n").len() + size + 2;
        let count = (target_len / frame_len).max(1);
        let subjects = std::iter::repeat_n(subject, count);
        Self::build(subjects, size, source, frame_len, count)
    }

    /// One frame for each subject; all subjects must have the same length.
    #[must_use]
    pub fn over(subjects: &[String], size: usize) -> Self {
        let first = subjects.first().map_or("", String::as_str);
        let frame_len = format!("PUB {first} {size}\r\n").len() + size + 2;
        let names = subjects.iter().map(String::as_str);
        Self::build(names, size, 0, frame_len, subjects.len())
    }

    fn build<'a>(
        subjects: impl Iterator<Item = &'a str>,
        size: usize,
        source: u32,
        frame_len: usize,
        count: usize,
    ) -> Self {
        let mut bytes = Vec::with_capacity(frame_len * count);
        for (index, subject) in (0_u32..).zip(subjects) {
            // Writing into a Vec cannot fail.
            let _ = write!(bytes, "PUB {subject} {size}\r\n");
            let payload_at = bytes.len();
            bytes.resize(payload_at + size, b'x');
            if size >= STAMP_LEN
                && let Some(stamp) = bytes.get_mut(payload_at..payload_at + STAMP_LEN)
            {
                let (place, from) = stamp.split_at_mut(4);
                place.copy_from_slice(&index.to_le_bytes());
                from.copy_from_slice(&source.to_le_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
        }
        Self { bytes: bytes.into(), frame_len, count }
    }

    /// Length of one PUB frame in bytes.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// Number of frames in the ring.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Length of the whole ring in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when there is nothing to publish.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes from `at`, at most `limit` of them, not past the ring's end.
    #[must_use]
    pub fn slice(&self, at: usize, limit: usize) -> &[u8] {
        let end = at.saturating_add(limit).min(self.bytes.len());
        self.bytes.get(at..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_equal_and_stamped() {
        let cycle = Cycle::fixed("a.b", 16, 3, 1000);
        assert_eq!(cycle.frame_len(), b"PUB a.b 16\r\n".len() + 18);
        assert_eq!(cycle.len(), cycle.frame_len() * cycle.count());
        let second = cycle.slice(cycle.frame_len(), cycle.frame_len());
        assert!(second.starts_with(b"PUB a.b 16\r\n\x01\0\0\0\x03\0\0\0x"));
        assert!(second.ends_with(b"x\r\n"));
    }

    #[test]
    fn slices_stop_at_the_end() {
        let cycle = Cycle::over(&["s.1".into(), "s.2".into()], 2);
        assert_eq!(cycle.count(), 2);
        assert_eq!(cycle.slice(cycle.len() - 4, 100), b"xx\r\n");
        assert_eq!(cycle.slice(cycle.len(), 100), b"");
    }
}
