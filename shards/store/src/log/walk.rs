//! The way through a sealed segment whose bytes come in pieces: every record is verified, and what
//! does not validate is skipped as a start skips it, up to the next record that does.

use super::bind::Binding;
use super::header::DATA_START;
use super::record::{self, Head, Kind, RawRecord, RecordError};

/// Whether a whole record at an offset can be understood, too.
pub(super) type Check<'a> = dyn FnMut(u32, &RawRecord<'_>) -> bool + 'a;

/// What came of the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed, from [`Walk::wants`] on.
    More,
    /// Bytes from, to are not what was written.
    Damage(u32, u32),
    /// The segment is at its end.
    End,
}

/// Damage that has begun and whose end is looked for.
#[derive(Clone, Copy, Debug)]
struct Lost {
    from: u32,
    /// The next place to try; `from` as long as what its head says was not tried.
    next: u32,
}

/// What a place turned out to be.
enum Tried {
    Record(u32, Kind),
    /// Whole, but not to be understood: so many bytes.
    Unreadable(u32),
    Nothing,
    More,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Walk {
    binding: Binding,
    file_len: u32,
    window: Vec<u8>,
    window_at: u32,
    /// Everything before is known.
    at: u32,
    lost: Option<Lost>,
}

impl Walk {
    /// A walk from the first record on, through a file of `file_len` bytes.
    pub(super) const fn new(binding: Binding, file_len: u32) -> Self {
        Self {
            binding,
            file_len,
            window: Vec::new(),
            window_at: DATA_START,
            at: DATA_START,
            lost: None,
        }
    }

    /// The first byte that is not at hand.
    pub(super) const fn wants(&self) -> u32 {
        self.window_at + self.window.len() as u32
    }

    /// Takes bytes of the file that begin at `offset`, which is not behind [`Self::wants`].
    pub(super) fn feed(&mut self, offset: u32, bytes: &[u8]) {
        let keep = self.keep();
        let done = keep.saturating_sub(self.window_at) as usize;
        self.window.drain(..done.min(self.window.len()));
        self.window_at = keep;
        let known = self.wants().saturating_sub(offset) as usize;
        self.window.extend_from_slice(bytes.get(known..).unwrap_or_default());
    }

    /// Takes zeroes up to `to`, which count instead of bytes that cannot be had.
    pub(super) fn feed_zeroes(&mut self, to: u32) {
        let missing = to.saturating_sub(self.wants()) as usize;
        self.window.resize(self.window.len() + missing, 0);
    }

    /// What is at hand counts no more and is to be read again.
    pub(super) fn forget(&mut self) {
        self.at = self.lost.take().map_or(self.at, |lost| lost.from);
        self.window = Vec::new();
        self.window_at = self.at;
    }

    /// The first byte that is still needed. All before the window's end was fed.
    fn keep(&self) -> u32 {
        self.lost.map_or(self.at, |lost| lost.next).min(self.wants())
    }

    /// Goes on as far as the bytes at hand allow.
    pub(super) fn step(&mut self, check: &mut Check<'_>) -> Step {
        loop {
            if let Some(lost) = self.lost {
                let Some(to) = self.find_end(lost, check) else { return Step::More };
                self.lost = None;
                self.at = to;
                return Step::Damage(lost.from, to);
            }
            if self.at >= self.file_len {
                return Step::End;
            }
            match self.try_at(self.at, check) {
                Tried::Record(_, Kind::End) => return Step::End,
                Tried::Record(len, _) => self.at += len,
                Tried::Unreadable(len) => {
                    let from = self.at;
                    self.at += len;
                    return Step::Damage(from, self.at);
                }
                Tried::Nothing => self.lost = Some(Lost { from: self.at, next: self.at }),
                Tried::More => return Step::More,
            }
        }
    }

    /// Where damage ends; none when that takes more bytes.
    fn find_end(&mut self, lost: Lost, check: &mut Check<'_>) -> Option<u32> {
        let mut next = lost.next;
        if next == lost.from {
            // The head may hold where the body does not.
            let after = self.claimed_end(lost.from);
            match after.map(|after| (after, self.try_at(after, check))) {
                Some((after, _)) if after == self.file_len => return Some(after),
                Some((after, Tried::Record(..))) => return Some(after),
                Some((_, Tried::More)) => return None,
                _ => next += 1,
            }
        }
        while next < self.file_len {
            match self.try_at(next, check) {
                Tried::Record(..) => return Some(next),
                Tried::More => {
                    self.lost = Some(Lost { next, ..lost });
                    return None;
                }
                Tried::Unreadable(_) | Tried::Nothing => next += 1,
            }
        }
        Some(self.file_len)
    }

    fn bytes_from(&self, offset: u32) -> &[u8] {
        let start = offset.checked_sub(self.window_at).map(|start| start as usize);
        start.and_then(|start| self.window.get(start..)).unwrap_or_default()
    }

    /// Where the record at `offset` ends according to its head, if that holds.
    fn claimed_end(&self, offset: u32) -> Option<u32> {
        let head = Head::parse(self.bytes_from(offset), self.binding, offset)?;
        let end = offset.checked_add(u32::try_from(head.len).ok()?)?;
        (end <= self.file_len).then_some(end)
    }

    fn try_at(&self, offset: u32, check: &mut Check<'_>) -> Tried {
        match record::verify(self.bytes_from(offset), self.binding, offset) {
            Ok(raw) if check(offset, &raw) => Tried::Record(raw.bytes.len() as u32, raw.kind),
            Ok(raw) => Tried::Unreadable(raw.bytes.len() as u32),
            Err(RecordError::Short(len)) => {
                let fits = u64::from(offset) + len as u64 <= u64::from(self.file_len);
                if fits && self.wants() < self.file_len { Tried::More } else { Tried::Nothing }
            }
            Err(_) => Tried::Nothing,
        }
    }
}
