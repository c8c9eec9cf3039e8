//! The end of a log in memory: what is not on disk yet, and what was appended last. Pages hold
//! whole records, so that a record is read as one piece; a page is never moved.

use std::collections::VecDeque;

/// Size of the first page; later ones are larger, as long as appends go on.
const PAGE_BYTES_MIN: usize = 4 << 10;
/// Size of a page when many records come.
const PAGE_BYTES_MAX: usize = 512 << 10;

/// Consecutive bytes of one segment.
#[derive(Debug)]
struct Page {
    segment: u32,
    start: u32,
    bytes: Vec<u8>,
}

impl Page {
    fn end(&self) -> u32 {
        self.start + self.bytes.len() as u32
    }
}

/// The pages, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pages: VecDeque<Page>,
    /// An empty buffer that was used before.
    spare: Option<Vec<u8>>,
    bytes: usize,
    next_page_bytes: usize,
}

impl Tail {
    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// A buffer at whose end a record of `len` bytes is to be encoded, for `offset` of `segment`.
    pub(super) fn room(&mut self, segment: u32, offset: u32, len: usize) -> &mut Vec<u8> {
        let fits = self.pages.back().is_some_and(|page| {
            page.segment == segment
                && page.end() == offset
                && page.bytes.len() + len <= page.bytes.capacity()
        });
        if !fits {
            let bytes = self.new_buffer(len);
            self.pages.push_back(Page { segment, start: offset, bytes });
        }
        self.bytes += len;
        // A page was pushed if there was none that fits.
        let last = self.pages.len() - 1;
        &mut self.pages[last].bytes
    }

    fn new_buffer(&mut self, len: usize) -> Vec<u8> {
        let size = self.next_page_bytes.max(PAGE_BYTES_MIN);
        self.next_page_bytes = (size * 4).min(PAGE_BYTES_MAX);
        match self.spare.take() {
            Some(spare) if spare.capacity() >= len.max(size) => spare,
            _ => Vec::with_capacity(len.max(size)),
        }
    }

    /// The bytes from `offset` of `segment` to the end of their page.
    pub(super) fn find(&self, segment: u32, offset: u32) -> Option<&[u8]> {
        let at = self.pages.partition_point(|page| (page.segment, page.end()) <= (segment, offset));
        let page = self.pages.get(at)?;
        if page.segment != segment || offset < page.start {
            return None;
        }
        page.bytes.get((offset - page.start) as usize..)
    }

    /// Copies `[from, from + out.len())` of `segment`; false when not all of it is here.
    pub(super) fn copy(&self, segment: u32, from: u32, out: &mut [u8]) -> bool {
        let mut done = 0;
        while done < out.len() {
            let Some(bytes) = self.find(segment, from + done as u32) else { return false };
            let len = bytes.len().min(out.len() - done);
            out[done..done + len].copy_from_slice(&bytes[..len]);
            done += len;
        }
        true
    }

    /// Drops the oldest pages as long as more than `keep_bytes` are held and the page ends at or
    /// before `offset` of `segment`.
    pub(super) fn trim(&mut self, segment: u32, offset: u32, keep_bytes: usize) {
        while self.bytes > keep_bytes {
            let Some(page) = self.pages.front() else { return };
            if (page.segment, page.end()) > (segment, offset) {
                return;
            }
            self.bytes -= page.bytes.len();
            let Some(mut page) = self.pages.pop_front() else { return };
            page.bytes.clear();
            if self.spare.as_ref().is_none_or(|spare| spare.capacity() < page.bytes.capacity()) {
                self.spare = Some(page.bytes);
            }
        }
    }

    /// Gives back what only serves speed.
    pub(super) fn rest(&mut self) {
        self.spare = None;
        self.next_page_bytes = PAGE_BYTES_MIN;
    }

    /// Forgets everything of a segment.
    pub(super) fn forget(&mut self, segment: u32) {
        self.pages.retain(|page| page.segment != segment);
        self.bytes = self.pages.iter().map(|page| page.bytes.len()).sum();
    }

    /// Changes bytes of a record that is here.
    pub(super) fn overwrite(&mut self, segment: u32, offset: u32, bytes: &[u8]) {
        let at = self.pages.partition_point(|page| (page.segment, page.end()) <= (segment, offset));
        let Some(page) = self.pages.get_mut(at).filter(|page| page.segment == segment) else {
            return;
        };
        let Some(from) = offset.checked_sub(page.start) else { return };
        let from = from as usize;
        if let Some(place) = page.bytes.get_mut(from..from + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Puts bytes that were read from disk at the end.
    pub(super) fn load(&mut self, segment: u32, start: u32, bytes: &[u8]) {
        self.room(segment, start, bytes.len()).extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Tail {
        let mut tail = Tail::default();
        let mut offset = 20_480;
        for at in 0..1000_u32 {
            let record = [at as u8; 100];
            tail.room(1, offset, 100).extend_from_slice(&record);
            offset += 100;
        }
        tail.room(2, 20_480, 10).extend_from_slice(&[7; 10]);
        tail
    }

    #[test]
    fn every_record_is_one_piece() {
        let tail = filled();
        for at in 0..1000_u32 {
            let bytes = tail.find(1, 20_480 + at * 100).unwrap();
            assert_eq!(&bytes[..100], &[at as u8; 100]);
        }
        assert_eq!(tail.find(2, 20_480).unwrap(), &[7; 10]);
        assert_eq!(tail.find(1, 120_480), None);
        assert_eq!(tail.find(1, 20_479), None);
        assert_eq!(tail.find(3, 20_480), None);
    }

    #[test]
    fn trimming_stops_at_what_is_needed() {
        let mut tail = filled();
        tail.trim(1, 70_480, 0);
        assert!(tail.find(1, 70_480).is_some());
        let held = tail.len();
        tail.trim(1, 70_480, 0);
        assert_eq!(tail.len(), held);
        let mut out = vec![0; 30_000];
        assert!(tail.copy(1, 90_480, &mut out));
        assert!(out.iter().enumerate().all(|(at, byte)| *byte == ((at / 100) + 700) as u8));
        assert!(!tail.copy(1, 20_480, &mut out));
        tail.trim(2, 20_490, 0);
        assert_eq!(tail.len(), 0);
    }
}
