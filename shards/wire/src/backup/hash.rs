//! The checksums of a first-format archive: HighwayHash of 64 bits, with the SHA-256 of a name as
//! its key, so that a record that strays into another block or stream is noticed.

use highway::{HighwayHash, HighwayHasher, Key};
use sha2::{Digest, Sha256};

/// A key made of a name.
#[derive(Debug, Clone)]
pub(super) struct HashKey([u64; 4]);

impl HashKey {
    fn of(name: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(name).into();
        let mut words = [0_u64; 4];
        for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte));
        }
        Self(words)
    }

    /// For the configuration and the index of a stream.
    pub(super) fn of_stream(stream: &str) -> Self {
        Self::of(stream.as_bytes())
    }

    /// For the records of the block with this number.
    pub(super) fn of_block(stream: &str, block: u32) -> Self {
        Self::of(format!("{stream}-{block}").as_bytes())
    }

    /// For the configuration of a consumer.
    pub(super) fn of_consumer(stream: &str, consumer: &str) -> Self {
        Self::of(format!("{stream}/{consumer}").as_bytes())
    }

    /// The checksum of the parts, one behind the other.
    pub(super) fn sum(&self, parts: &[&[u8]]) -> [u8; 8] {
        let mut hasher = HighwayHasher::new(Key(self.0));
        for part in parts {
            hasher.append(part);
        }
        hasher.finalize64().to_le_bytes()
    }

    /// The checksum of a configuration as its file has it: in hexadecimal.
    pub(super) fn hex(&self, text: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(&self.sum(&[text]))
    }
}
