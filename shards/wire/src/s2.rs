//! S2 and Snappy: single blocks for records at rest, and the framed stream that carries backups.
//!
//! ```text
//!   stream = identifier frame*      frame = type u8, length u24 little endian, body
//!   identifier: type ff, "S2sTwO" or "sNaPpY"
//!   00: masked CRC-32C of the data (u32), compressed block     01: the same, data as it is
//!   80..fe: passed over                                         02..7f: refused
//! ```
//!
//! The block codec is a library's; the framing is here so that it works on pushed bytes, one
//! block at a time, whatever the input claims about its size.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use thiserror::Error;

/// The most that one block of a stream may hold after decompression, in bytes.
pub const BLOCK_BYTES_MAX: usize = 4 << 20;
/// The data that [`StreamEncoder`] puts into one block, in bytes.
pub const BLOCK_BYTES: usize = 256 << 10;
/// The most that a block which was compressed for storage may hold, in bytes.
pub const RECORD_BYTES_MAX: usize = 128 << 20;

const IDENTIFIER: &[u8] = b"\xff\x06\x00\x00S2sTwO";
const BODY_S2: &[u8] = b"S2sTwO";
const BODY_SNAPPY: &[u8] = b"sNaPpY";

const FRAME_COMPRESSED: u8 = 0x00;
const FRAME_PLAIN: u8 = 0x01;
const FRAME_IDENTIFIER: u8 = 0xff;
const FRAME_SKIPPABLE_MIN: u8 = 0x80;

const FRAME_HEADER_LEN: usize = 4;
const CHECKSUM_LEN: usize = 4;
/// The longest compressed form of a block: its data, a length of five bytes, and five bytes for
/// each of the literals that cover it.
const COMPRESSED_BYTES_MAX: usize = BLOCK_BYTES_MAX + BLOCK_BYTES_MAX / 6 + 32;

/// Why bytes are not S2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum S2Error {
    /// The stream does not start with an identifier, or with an unknown one.
    #[error("not an s2 stream")]
    NotS2,
    /// A block does not decode, or a frame is too short for what it must hold.
    #[error("corrupt s2 block")]
    Corrupt,
    /// A block claims more than it may hold.
    #[error("s2 block is too large")]
    TooLarge,
    /// The data of a block is not what was compressed.
    #[error("s2 checksum mismatch")]
    Checksum,
    /// A frame of a reserved type.
    #[error("unsupported s2 frame")]
    Unsupported,
    /// The stream ends inside a frame.
    #[error("truncated s2 stream")]
    Truncated,
}

impl From<minlz::Error> for S2Error {
    fn from(error: minlz::Error) -> Self {
        match error {
            minlz::Error::TooLarge | minlz::Error::BufferTooSmall => Self::TooLarge,
            _ => Self::Corrupt,
        }
    }
}

/// Compresses single blocks; keeps its tables between them.
#[derive(Default)]
pub struct BlockEncoder(minlz::Encoder);

impl BlockEncoder {
    /// The compressed form of `data`, which may be longer than `data`; `None` if there is more
    /// than [`RECORD_BYTES_MAX`] of it.
    pub fn compress(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        (data.len() <= RECORD_BYTES_MAX).then(|| self.0.encode(data))
    }
}

/// As [`BlockEncoder::compress`], for a single use.
pub fn compress_block(data: &[u8]) -> Option<Vec<u8>> {
    BlockEncoder::default().compress(data)
}

/// Appends the data of a compressed block to `out` if there is at most `len_max` of it; otherwise,
/// and on any error, leaves `out` as it was.
///
/// # Errors
///
/// [`S2Error::TooLarge`] or [`S2Error::Corrupt`].
pub fn decompress_block(block: &[u8], len_max: usize, out: &mut Vec<u8>) -> Result<(), S2Error> {
    let (len, _) = minlz::decode_len(block)?;
    if len > len_max.min(RECORD_BYTES_MAX) {
        return Err(S2Error::TooLarge);
    }
    let before = out.len();
    out.resize(before.saturating_add(len), 0);
    let target = out.get_mut(before..).unwrap_or_default();
    let decoded = minlz::decode_into(target, block);
    if decoded != Ok(len) {
        out.truncate(before);
        return Err(decoded.err().map_or(S2Error::Corrupt, S2Error::from));
    }
    Ok(())
}

/// Writes an S2 stream, one block at a time.
#[derive(Default)]
pub struct StreamEncoder {
    encoder: BlockEncoder,
    /// Data of the block that is not full yet.
    pending: Vec<u8>,
    has_started: bool,
}

impl StreamEncoder {
    /// A stream of which nothing was written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes data; appends the frames of the blocks that it fills to `out`.
    pub fn push(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            let room = BLOCK_BYTES.saturating_sub(self.pending.len());
            let (head, tail) = data.split_at_checked(room).unwrap_or((data, b""));
            self.pending.extend_from_slice(head);
            data = tail;
            if self.pending.len() >= BLOCK_BYTES {
                self.flush(out);
            }
        }
    }

    /// Writes the data taken so far even if it does not fill a block. A reader can then decode
    /// all of it.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.has_started {
            self.has_started = true;
            out.extend_from_slice(IDENTIFIER);
        }
        if self.pending.is_empty() {
            return;
        }
        let checksum = minlz::crc::crc(&self.pending).to_le_bytes();
        let compressed = self.encoder.compress(&self.pending).unwrap_or_default();
        let (kind, body) = if compressed.is_empty() || compressed.len() >= self.pending.len() {
            (FRAME_PLAIN, self.pending.as_slice())
        } else {
            (FRAME_COMPRESSED, compressed.as_slice())
        };
        // A block is far below the 24 bits of a length.
        let len = u32::try_from(body.len().saturating_add(CHECKSUM_LEN)).unwrap_or_default();
        let [low, middle, high, _] = len.to_le_bytes();
        out.extend_from_slice(&[kind, low, middle, high]);
        out.extend_from_slice(&checksum);
        out.extend_from_slice(body);
        self.pending.clear();
    }

    /// Data that was taken and not written yet, in bytes.
    pub const fn pending_bytes(&self) -> usize {
        self.pending.len()
    }
}

/// Reads an S2 or Snappy stream, one block at a time.
///
/// Push bytes as they come, then take blocks until there is none. Memory is what was pushed and
/// not yet taken, at most one frame more, and one block.
#[derive(Default)]
pub struct StreamDecoder {
    /// Bytes that were pushed; those before `at` are done with.
    pending: Vec<u8>,
    at: usize,
    /// The block that was answered last.
    block: Vec<u8>,
    has_started: bool,
    failed: Option<S2Error>,
}

impl StreamDecoder {
    /// A stream of which nothing was read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.drain(..self.at.min(self.pending.len()));
        self.at = 0;
        self.pending.extend_from_slice(bytes);
    }

    /// The data of the next block, or `None` until more bytes are pushed. Empty blocks are passed
    /// over.
    ///
    /// # Errors
    ///
    /// What is wrong with the stream; the same error is answered from then on.
    pub fn next_block(&mut self) -> Result<Option<&[u8]>, S2Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            match self.next_frame() {
                Ok(Progress::Block) if self.block.is_empty() => {}
                Ok(Progress::Block) => return Ok(Some(&self.block)),
                Ok(Progress::Skipped) => {}
                Ok(Progress::NeedsMore) => return Ok(None),
                Err(error) => {
                    self.failed = Some(error);
                    return Err(error);
                }
            }
        }
    }

    /// To be called at the end of the stream, when [`Self::next_block`] answers `None`.
    ///
    /// # Errors
    ///
    /// [`S2Error::Truncated`] if the stream ends inside a frame or before its identifier.
    pub fn finish(&self) -> Result<(), S2Error> {
        match self.failed {
            Some(error) => Err(error),
            None if self.at < self.pending.len() || !self.has_started => Err(S2Error::Truncated),
            None => Ok(()),
        }
    }

    /// Bytes that were pushed and belong to no block answered so far.
    pub const fn pending_bytes(&self) -> usize {
        self.pending.len().saturating_sub(self.at)
    }

    /// Takes one frame.
    fn next_frame(&mut self) -> Result<Progress, S2Error> {
        let rest = self.pending.get(self.at..).unwrap_or_default();
        let Some((&[kind, low, middle, high], body)) = rest.split_first_chunk::<FRAME_HEADER_LEN>()
        else {
            return Ok(Progress::NeedsMore);
        };
        let len = usize::try_from(u32::from_le_bytes([low, middle, high, 0])).unwrap_or_default();
        // What is too long or misplaced is refused before its body arrives.
        match kind {
            FRAME_IDENTIFIER if len == BODY_S2.len() => {}
            _ if !self.has_started => return Err(S2Error::NotS2),
            FRAME_IDENTIFIER => return Err(S2Error::NotS2),
            FRAME_COMPRESSED if len > COMPRESSED_BYTES_MAX => return Err(S2Error::TooLarge),
            FRAME_PLAIN if len > BLOCK_BYTES_MAX.saturating_add(CHECKSUM_LEN) => {
                return Err(S2Error::TooLarge);
            }
            FRAME_COMPRESSED | FRAME_PLAIN if len < CHECKSUM_LEN => return Err(S2Error::Corrupt),
            FRAME_COMPRESSED | FRAME_PLAIN | FRAME_SKIPPABLE_MIN.. => {}
            _ => return Err(S2Error::Unsupported),
        }
        let Some(body) = body.get(..len) else { return Ok(Progress::NeedsMore) };
        let progress = match kind {
            FRAME_COMPRESSED | FRAME_PLAIN => {
                fill_block(kind, body, &mut self.block)?;
                Progress::Block
            }
            FRAME_IDENTIFIER => {
                if body != BODY_S2 && body != BODY_SNAPPY {
                    return Err(S2Error::NotS2);
                }
                self.has_started = true;
                Progress::Skipped
            }
            _ => Progress::Skipped,
        };
        self.at = self.at.saturating_add(FRAME_HEADER_LEN).saturating_add(len);
        Ok(progress)
    }
}

/// What one step of a decoder did.
enum Progress {
    /// There is a block.
    Block,
    /// A frame without data was passed over.
    Skipped,
    /// The next frame is not there as a whole.
    NeedsMore,
}

/// Puts the data of a frame into `block` and verifies it.
fn fill_block(kind: u8, body: &[u8], block: &mut Vec<u8>) -> Result<(), S2Error> {
    let (checksum, data) = body.split_first_chunk::<CHECKSUM_LEN>().ok_or(S2Error::Corrupt)?;
    block.clear();
    if kind == FRAME_PLAIN {
        block.extend_from_slice(data);
    } else {
        decompress_block(data, BLOCK_BYTES_MAX, block)?;
    }
    if minlz::crc::crc(block) != u32::from_le_bytes(*checksum) {
        return Err(S2Error::Checksum);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(data: &[u8], pieces: usize) -> Vec<u8> {
        let mut encoder = StreamEncoder::new();
        let mut out = Vec::new();
        for piece in data.chunks(pieces.max(1)) {
            encoder.push(piece, &mut out);
        }
        encoder.flush(&mut out);
        out
    }

    fn decoded(stream: &[u8], pieces: usize) -> Result<Vec<u8>, S2Error> {
        let mut decoder = StreamDecoder::new();
        let mut out = Vec::new();
        for piece in stream.chunks(pieces.max(1)) {
            decoder.push(piece);
            while let Some(block) = decoder.next_block()? {
                out.extend_from_slice(block);
            }
        }
        decoder.finish()?;
        Ok(out)
    }

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        let mut out = vec![kind, len[0], len[1], len[2]];
        out.extend_from_slice(body);
        out
    }

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut out = IDENTIFIER.to_vec();
        out.extend(frames.iter().flatten());
        out
    }

    #[test]
    fn several_blocks_come_back() {
        let data: Vec<u8> = (0..BLOCK_BYTES * 2 + 77).map(|n| (n % 251) as u8).collect();
        let stream = encoded(&data, 10_000);
        assert!(stream.len() < data.len() / 4);
        assert_eq!(decoded(&stream, 1_000).unwrap(), data);
        assert_eq!(decoded(&stream, stream.len()).unwrap(), data);
    }

    #[test]
    fn the_empty_stream_is_an_identifier() {
        assert_eq!(encoded(b"", 1), IDENTIFIER);
        assert_eq!(decoded(IDENTIFIER, 1).unwrap(), b"");
        assert_eq!(decoded(b"", 1), Err(S2Error::Truncated));
    }

    #[test]
    fn hostile_frames_are_refused() {
        let sum = |data: &[u8]| minlz::crc::crc(data).to_le_bytes().to_vec();
        let good = frame(FRAME_PLAIN, &[sum(b"abc"), b"abc".to_vec()].concat());
        assert_eq!(decoded(&stream(std::slice::from_ref(&good)), 2).unwrap(), b"abc");
        assert_eq!(decoded(&good, 2), Err(S2Error::NotS2));
        assert_eq!(decoded(&frame(0xff, b"S3sTwO"), 2), Err(S2Error::NotS2));
        let cases = [
            (frame(FRAME_PLAIN, &[sum(b"abd"), b"abc".to_vec()].concat()), S2Error::Checksum),
            (frame(FRAME_PLAIN, b"abc"), S2Error::Corrupt),
            (frame(FRAME_COMPRESSED, &[sum(b""), vec![0xff; 11]].concat()), S2Error::Corrupt),
            (frame(0x02, b"abc"), S2Error::Unsupported),
            (frame(0x7f, b""), S2Error::Unsupported),
            (frame(0xff, b"S2sTw"), S2Error::NotS2),
            // Lengths beyond the limit are refused without their bodies.
            (vec![FRAME_PLAIN, 0xff, 0xff, 0xff], S2Error::TooLarge),
            (vec![FRAME_COMPRESSED, 0xff, 0xff, 0xff], S2Error::TooLarge),
            (good[..good.len() - 1].to_vec(), S2Error::Truncated),
        ];
        for (bytes, error) in cases {
            assert_eq!(decoded(&stream(std::slice::from_ref(&bytes)), 3), Err(error), "{bytes:?}");
        }
        let skipped = stream(&[frame(0x80, b"x"), good, frame(0xfe, &[0; 9]), frame(0x99, b"")]);
        assert_eq!(decoded(&skipped, 4).unwrap(), b"abc");
    }

    #[test]
    fn a_block_never_yields_more_than_its_limit() {
        // Four gigabytes, said the length; the body would fill them with copies.
        let bomb = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x00, 0x61, 0x15, 0x01]].concat();
        let body = [&[0; 4][..], &bomb].concat();
        assert_eq!(decoded(&stream(&[frame(0, &body)]), 9), Err(S2Error::TooLarge));
        let mut out = b"kept".to_vec();
        assert_eq!(decompress_block(&bomb, usize::MAX, &mut out), Err(S2Error::TooLarge));
        let block = compress_block(&[7; 1000]).unwrap();
        assert_eq!(decompress_block(&block, 999, &mut out), Err(S2Error::TooLarge));
        assert_eq!(out, b"kept");
        assert_eq!(decompress_block(&block, 1000, &mut out), Ok(()));
        assert_eq!(out.len(), 1004);
    }

    #[test]
    fn an_error_stays() {
        let mut decoder = StreamDecoder::new();
        decoder.push(b"nonsense");
        assert_eq!(decoder.next_block(), Err(S2Error::NotS2));
        decoder.push(IDENTIFIER);
        assert_eq!(decoder.next_block(), Err(S2Error::NotS2));
        assert_eq!(decoder.finish(), Err(S2Error::NotS2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn blocks_and_streams_come_back(
            data in proptest::collection::vec(0_u8..4, 0..3000),
            pieces in 1_usize..500,
        ) {
            let block = compress_block(&data).unwrap();
            let mut out = Vec::new();
            decompress_block(&block, data.len(), &mut out).unwrap();
            prop_assert_eq!(&out, &data);
            prop_assert_eq!(&decoded(&encoded(&data, pieces), pieces).unwrap(), &data);
        }

        #[test]
        fn any_block_is_judged_without_a_panic(
            head in proptest::collection::vec(any::<u8>(), 0..6),
            body in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = decompress_block(&[head, body].concat(), 1 << 20, &mut Vec::new());
        }

        #[test]
        fn damaged_blocks_are_judged_without_a_panic(
            data in proptest::collection::vec(0_u8..3, 0..400),
            at: prop::sample::Index,
            bits in 1_u8..=255,
            cut: prop::sample::Index,
        ) {
            let mut block = compress_block(&data).unwrap();
            let at = at.index(block.len());
            block[at] ^= bits;
            block.truncate(cut.index(block.len() + 1));
            let mut out = Vec::new();
            if decompress_block(&block, 1 << 16, &mut out).is_ok() {
                prop_assert!(out.len() <= 1 << 16);
            }
        }

        #[test]
        fn damaged_streams_are_refused(
            data in proptest::collection::vec(0_u8..3, 1..400),
            at: prop::sample::Index,
            bits in 1_u8..=255,
        ) {
            let mut stream = encoded(&data, 64);
            let at = at.index(stream.len());
            stream[at] ^= bits;
            // A frame whose type became one to pass over is lost; nothing false is ever answered.
            if let Ok(out) = decoded(&stream, 7) {
                prop_assert!(out.is_empty() || out == data);
            }
        }
    }
}
