//! The frame counter: learns what a MSG frame of a stream looks like and then jumps from frame
//! to frame, checking header, CRLF and order in a few instructions.

use super::cycle::STAMP_LEN;
use super::op::{self, Op};
use crate::error::{HarnessError, Result};

/// What every message of a stream must look like.
#[derive(Clone, Debug)]
pub struct Expect {
    /// Payload size in bytes.
    pub size: usize,
    /// The subject, when all messages share one.
    pub subject: Option<String>,
    /// Frames in a publisher's cycle, when the order of each publisher can be checked.
    pub order_cycle: Option<u32>,
    /// Number of publishers, for the order check.
    pub sources: usize,
}

/// Sixteen bytes of a frame that must equal a pattern under a mask.
#[derive(Clone, Copy)]
struct Probe {
    at: usize,
    mask: u128,
    want: u128,
}

impl Probe {
    /// Compares the bytes `at..at + len` (at most 16) of frames shaped like `frame`, which
    /// must have at least 16 bytes. The load is moved forward where it would pass the end.
    fn new(frame: &[u8], at: usize, len: usize) -> Self {
        let base = at.min(frame.len().saturating_sub(16));
        let (skip, len) = ((at - base).min(16), len.min(16));
        let ones = if len == 16 { u128::MAX } else { (1_u128 << (len * 8)) - 1 };
        let mask = ones.checked_shl(u32::try_from(skip * 8).unwrap_or(128)).unwrap_or(0);
        Self { at: base, mask, want: load(frame, base).unwrap_or(0) & mask }
    }

    #[inline]
    fn holds(self, frame: &[u8]) -> bool {
        load(frame, self.at).is_some_and(|word| word & self.mask == self.want)
    }
}

#[inline]
fn load(frame: &[u8], at: usize) -> Option<u128> {
    frame.get(at..at + 16)?.first_chunk::<16>().map(|c| u128::from_le_bytes(*c))
}

#[inline]
fn word(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at..at + 4)?.first_chunk::<4>().map(|c| u32::from_le_bytes(*c))
}

/// The learned shape of a frame.
#[derive(Clone, Copy)]
struct Shape {
    frame_len: usize,
    header_len: usize,
    start: Probe,
    end: Probe,
}

/// Counts the messages of one connection.
pub struct Scanner {
    expect: Option<Expect>,
    shape: Option<Shape>,
    next: Vec<u32>,
    carry: Vec<u8>,
    /// Messages seen.
    pub frames: u64,
    /// Payload bytes seen.
    pub payload_bytes: u64,
    /// PONGs seen.
    pub pongs: u64,
    /// PINGs that still want an answer.
    pub pings_due: u64,
}

impl Scanner {
    /// A counter for messages that look as `expect` says; `None` allows no message at all.
    #[must_use]
    pub fn new(expect: Option<Expect>) -> Self {
        let sources = expect.as_ref().map_or(0, |e| e.sources);
        Self {
            expect,
            shape: None,
            next: vec![0; sources],
            carry: Vec::new(),
            frames: 0,
            payload_bytes: 0,
            pongs: 0,
            pings_due: 0,
        }
    }

    /// Bytes of an unfinished frame kept from the last call.
    #[must_use]
    pub fn carried(&self) -> usize {
        self.carry.len()
    }

    /// Puts the carried bytes at the start of `buffer` and returns their number.
    ///
    /// The caller reads behind them and calls [`Scanner::scan`] over both.
    pub fn restore(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.carry.len();
        if let Some(start) = buffer.get_mut(..len) {
            start.copy_from_slice(&self.carry);
        }
        self.carry.clear();
        len
    }

    /// Counts the frames of `data` and keeps an unfinished one for the next call.
    ///
    /// # Errors
    /// Bytes that are no frame of this stream, messages out of order, `-ERR`.
    pub fn scan(&mut self, data: &[u8]) -> Result<()> {
        let mut at = 0;
        loop {
            at += self.jump(data.get(at..).unwrap_or_default())?;
            let rest = data.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            // What is left is the start of a frame, a control line, or the first frame.
            let unfinished =
                self.shape.is_some_and(|s| rest.len() < s.frame_len) && rest.starts_with(b"MSG ");
            let parsed = if unfinished { None } else { op::parse(rest)? };
            let Some((op, used)) = parsed else {
                self.carry.extend_from_slice(rest);
                return Ok(());
            };
            match op {
                Op::Msg { .. } => self.learn(&op, rest.get(..used).unwrap_or_default())?,
                Op::Ping => self.pings_due += 1,
                Op::Pong => self.pongs += 1,
                Op::Ok | Op::Info(_) => {}
                Op::Err(text) => return Err(HarnessError::Refused(text.to_owned())),
            }
            if !matches!(op, Op::Msg { .. }) {
                at += used;
            }
        }
    }

    /// Jumps over the frames of the learned shape; returns the bytes passed.
    #[inline]
    fn jump(&mut self, data: &[u8]) -> Result<usize> {
        let (Some(shape), Some(expect)) = (self.shape, self.expect.as_ref()) else {
            return Ok(0);
        };
        let cycle = expect.order_cycle;
        let mut count = 0_u64;
        let mut used = 0;
        for frame in data.chunks_exact(shape.frame_len) {
            let ends = frame.last_chunk::<2>() == Some(b"\r\n");
            if !(ends && shape.start.holds(frame) && shape.end.holds(frame)) {
                break;
            }
            if let Some(cycle) = cycle {
                in_order(&mut self.next, cycle, frame, shape.header_len)?;
            }
            count += 1;
            used += shape.frame_len;
        }
        self.frames += count;
        self.payload_bytes += count * expect.size as u64;
        Ok(used)
    }

    /// Checks the first message in full and learns the shape from it. Does not count it:
    /// the jump that follows does.
    fn learn(&mut self, op: &Op<'_>, frame: &[u8]) -> Result<()> {
        let Op::Msg { subject, headers, payload, header_len, .. } = op else {
            return Ok(());
        };
        let Some(expect) = &self.expect else {
            return Err(HarnessError::Protocol("a message nobody subscribed to".into()));
        };
        let strange = payload.len() != expect.size
            || !headers.is_empty()
            || expect.subject.as_ref().is_some_and(|s| s.as_bytes() != *subject)
            || self.shape.is_some();
        if strange || frame.len() < 16 {
            let head = frame.get(..*header_len).unwrap_or_default();
            let head = String::from_utf8_lossy(head);
            return Err(HarnessError::Protocol(format!("unexpected message {head:?}")));
        }
        // With one subject the whole line is constant. With many, the verb and the size are.
        let line_end = *header_len;
        let (start_len, end_len) = if expect.subject.is_some() {
            (line_end, line_end)
        } else {
            (4, expect.size.to_string().len() + 3)
        };
        let end_len = end_len.min(16).min(line_end);
        self.shape = Some(Shape {
            frame_len: frame.len(),
            header_len: line_end,
            start: Probe::new(frame, 0, start_len),
            end: Probe::new(frame, line_end - end_len, end_len),
        });
        Ok(())
    }
}

/// Checks that the stamp in the payload follows the last one of its publisher.
#[inline]
fn in_order(next: &mut [u32], cycle: u32, frame: &[u8], header_len: usize) -> Result<()> {
    let stamp = word(frame, header_len).zip(word(frame, header_len + 4));
    let Some((place, source)) = stamp else {
        return Ok(());
    };
    let Some(want) = next.get_mut(source as usize) else {
        return Err(HarnessError::Count(format!("a message of unknown publisher {source}")));
    };
    if *want != place {
        return Err(HarnessError::Count(format!(
            "publisher {source}: message {place} of its cycle came where {want} was due"
        )));
    }
    *want = if place + 1 == cycle { 0 } else { place + 1 };
    Ok(())
}

/// Whether payloads of this size carry the stamp that the order check needs.
#[must_use]
pub fn can_check_order(size: usize) -> bool {
    size >= STAMP_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(count: u32, cycle: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for n in 0..count {
            bytes.extend_from_slice(b"MSG bench.0 1 16\r\n");
            bytes.extend_from_slice(&(n % cycle).to_le_bytes());
            bytes.extend_from_slice(&0_u32.to_le_bytes());
            bytes.extend_from_slice(b"xxxxxxxx\r\n");
            if n == 4 {
                bytes.extend_from_slice(b"PING\r\nINFO {}\r\n");
            }
        }
        bytes.extend_from_slice(b"PONG\r\n");
        bytes
    }

    fn expect() -> Expect {
        Expect { size: 16, subject: Some("bench.0".into()), order_cycle: Some(5), sources: 1 }
    }

    fn feed(scanner: &mut Scanner, bytes: &[u8], piece: usize) -> Result<()> {
        let mut buffer = vec![0; 4096];
        for part in bytes.chunks(piece) {
            let kept = scanner.restore(&mut buffer);
            buffer[kept..kept + part.len()].copy_from_slice(part);
            scanner.scan(&buffer[..kept + part.len()])?;
        }
        Ok(())
    }

    #[test]
    fn counts_the_same_for_every_split() {
        let bytes = stream(12, 5);
        for piece in 1..bytes.len() {
            let mut scanner = Scanner::new(Some(expect()));
            feed(&mut scanner, &bytes, piece).unwrap();
            assert_eq!(scanner.frames, 12, "pieces of {piece}");
            assert_eq!(scanner.payload_bytes, 12 * 16);
            assert_eq!((scanner.pongs, scanner.pings_due, scanner.carried()), (1, 1, 0));
        }
    }

    #[test]
    fn sees_a_lost_a_doubled_and_a_changed_message() {
        let good = stream(12, 5);
        let frame = 36;
        let lost = [&good[..frame], &good[2 * frame..]].concat();
        let doubled = [&good[..2 * frame], &good[frame..]].concat();
        let mut changed = good.clone();
        changed[frame + 5] = b'X';
        let mut cut = good;
        cut[2 * frame - 1] = b'!';
        for bad in [lost, doubled, changed, cut] {
            let mut scanner = Scanner::new(Some(expect()));
            assert!(feed(&mut scanner, &bad, 50).is_err());
        }
    }

    #[test]
    fn counts_messages_on_many_subjects_of_one_length() {
        let mut bytes = Vec::new();
        for n in 0..10 {
            bytes.extend_from_slice(format!("MSG s.{n} 10{n} 2\r\nxx\r\n").as_bytes());
        }
        let many = Expect { size: 2, subject: None, order_cycle: None, sources: 0 };
        for piece in 1..bytes.len() {
            let mut scanner = Scanner::new(Some(many.clone()));
            feed(&mut scanner, &bytes, piece).unwrap();
            assert_eq!(scanner.frames, 10);
        }
    }

    #[test]
    fn refuses_messages_nobody_asked_for_and_errors() {
        let mut scanner = Scanner::new(None);
        assert!(scanner.scan(b"MSG a 1 0\r\n\r\n").is_err());
        let said = Scanner::new(None).scan(b"-ERR 'Stale Connection'\r\n");
        assert!(matches!(said, Err(HarnessError::Refused(t)) if t == "Stale Connection"));
    }
}
