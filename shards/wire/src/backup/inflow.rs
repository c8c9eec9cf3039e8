//! The decompressed bytes of an archive as a window that moves on.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::ArchiveError;
use crate::s2::StreamDecoder;

/// Bytes that were pushed compressed and can be looked at decompressed. Holds what was asked for
/// and at most one block more.
#[derive(Default)]
pub(super) struct Inflow {
    decoder: StreamDecoder,
    data: Vec<u8>,
    /// What stands before it in `data` was taken.
    at: usize,
    /// Bytes decompressed so far.
    total_bytes: u64,
    total_bytes_max: u64,
    has_ended: bool,
}

impl Inflow {
    pub(super) fn new(total_bytes_max: u64) -> Self {
        Self { total_bytes_max, ..Self::default() }
    }

    /// Takes compressed bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    /// No bytes will follow.
    pub(super) const fn end(&mut self) {
        self.has_ended = true;
    }

    /// The bytes at hand.
    pub(super) fn window(&self) -> &[u8] {
        self.data.get(self.at..).unwrap_or_default()
    }

    /// Moves behind `len` bytes of the window.
    pub(super) fn take(&mut self, len: usize) {
        self.at = self.at.saturating_add(len).min(self.data.len());
    }

    /// Tries to have at least `len` bytes in the window. False if more must be pushed first.
    ///
    /// # Errors
    ///
    /// What is wrong with the compression; [`ArchiveError::Truncated`] if nothing more can be
    /// pushed; [`ArchiveError::TooLarge`] beyond the limit of the whole.
    pub(super) fn ensure(&mut self, len: usize) -> Result<bool, ArchiveError> {
        while self.window().len() < len {
            if !self.fill()? {
                return if self.has_ended { Err(ArchiveError::Truncated) } else { Ok(false) };
            }
        }
        Ok(true)
    }

    /// Whether everything that was pushed is taken, after [`Self::end`]; `None` before it.
    pub(super) fn is_drained(&mut self) -> Result<Option<bool>, ArchiveError> {
        if self.window().is_empty() && !self.fill()? {
            return Ok(self.has_ended.then_some(true));
        }
        Ok(Some(false))
    }

    /// Decompresses one block. False if there is none.
    fn fill(&mut self) -> Result<bool, ArchiveError> {
        let Some(block) = self.decoder.next_block()? else {
            if self.has_ended {
                self.decoder.finish()?;
            }
            return Ok(false);
        };
        let len = u64::try_from(block.len()).unwrap_or(u64::MAX);
        self.total_bytes = self.total_bytes.saturating_add(len);
        if self.total_bytes > self.total_bytes_max {
            return Err(ArchiveError::TooLarge("archive"));
        }
        self.data.drain(..self.at.min(self.data.len()));
        self.at = 0;
        self.data.extend_from_slice(block);
        Ok(true)
    }
}
