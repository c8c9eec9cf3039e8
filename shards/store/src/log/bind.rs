//! Checksums that are bound to their place: stream, segment, incarnation and offset.

use xxhash_rust::xxh3::xxh3_64;

/// What the checksums of one segment are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    base: u64,
}

/// The finaliser of splitmix64.
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Binding {
    /// For segment `segment` of stream `uid`, as it was written for the `incarnation`th time.
    #[must_use]
    pub fn new(uid: u64, segment: u32, incarnation: u32) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&uid.to_le_bytes());
        bytes[8..12].copy_from_slice(&segment.to_le_bytes());
        bytes[12..].copy_from_slice(&incarnation.to_le_bytes());
        Self { base: xxh3_64(&bytes) }
    }

    /// What a checksum at `offset` is combined with.
    const fn at(self, offset: u32) -> u64 {
        mix(self.base.wrapping_add((offset as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// The checksum of `bytes` that begin at `offset`.
    #[must_use]
    pub fn checksum(self, offset: u32, bytes: &[u8]) -> u64 {
        xxh3_64(bytes) ^ self.at(offset)
    }

    /// The check over length, kind, flags and number of a record, whose first 16 bytes are given.
    #[must_use]
    pub fn head_check(self, offset: u32, head: &[u8; 16]) -> u16 {
        let mut bytes = [0; 14];
        bytes[..6].copy_from_slice(&head[..6]);
        bytes[6..].copy_from_slice(&head[8..]);
        self.checksum(offset, &bytes) as u16
    }
}

/// A checksum of what names its own place: headers, slots and checkpoints.
#[must_use]
pub(super) fn plain_checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_holds_in_its_place_only() {
        let sum = Binding::new(1, 2, 3).checksum(20_480, b"bytes");
        assert_eq!(sum, Binding::new(1, 2, 3).checksum(20_480, b"bytes"));
        assert_ne!(sum, Binding::new(1, 2, 3).checksum(20_481, b"bytes"));
        assert_ne!(sum, Binding::new(1, 2, 4).checksum(20_480, b"bytes"));
        assert_ne!(sum, Binding::new(1, 3, 3).checksum(20_480, b"bytes"));
        assert_ne!(sum, Binding::new(2, 2, 3).checksum(20_480, b"bytes"));
        assert_ne!(sum, Binding::new(1, 2, 3).checksum(20_480, b"bytez"));
    }
}
