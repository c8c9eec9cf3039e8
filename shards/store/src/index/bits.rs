//! Numbers of few bits, packed one after the other in a byte buffer.

/// Bytes after the packed bits that reads may touch.
pub(crate) const SLACK_BYTES: usize = 16;

/// The bits that are needed to write every number up to `max`.
pub(crate) const fn width_of(max: u64) -> u8 {
    (64 - max.leading_zeros()) as u8
}

/// A buffer for `bits` bits.
pub(crate) fn buffer(bits: usize) -> Box<[u8]> {
    vec![0; bits.div_ceil(8) + SLACK_BYTES].into_boxed_slice()
}

fn word(data: &[u8], byte: usize) -> u64 {
    data.get(byte..byte + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

const fn mask(width: u8) -> u64 {
    if width == 0 { 0 } else { u64::MAX >> (64 - width) }
}

/// The number of `width` bits (0 to 64) that begins at bit `at`.
#[inline]
pub(crate) fn read(data: &[u8], at: usize, width: u8) -> u64 {
    if width == 0 {
        return 0;
    }
    let (byte, shift) = (at >> 3, (at & 7) as u32);
    let low = word(data, byte) >> shift;
    let value = if shift + u32::from(width) <= 64 {
        low
    } else {
        low | word(data, byte + 8) << (64 - shift)
    };
    value & mask(width)
}

/// Writes a number of `width` bits at bit `at`; higher bits of `value` are ignored.
pub(crate) fn write(data: &mut [u8], at: usize, width: u8, value: u64) {
    if width == 0 {
        return;
    }
    let (byte, shift) = (at >> 3, (at & 7) as u32);
    let bits = value & mask(width);
    let low = word(data, byte) & !(mask(width) << shift) | bits << shift;
    if let Some(place) = data.get_mut(byte..byte + 8) {
        place.copy_from_slice(&low.to_le_bytes());
    }
    if shift + u32::from(width) > 64 {
        let keep = word(data, byte + 8) & !(mask(width) >> (64 - shift));
        let high = keep | bits >> (64 - shift);
        if let Some(place) = data.get_mut(byte + 8..byte + 16) {
            place.copy_from_slice(&high.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec((any::<u64>(), 0u8..=64), 0..200)) {
            let total: usize = numbers.iter().map(|n| usize::from(n.1)).sum();
            let mut data = buffer(total);
            for round in 0..2 {
                let mut at = 0;
                for &(value, width) in &numbers {
                    let value = if round == 0 { !value } else { value };
                    write(&mut data, at, width, value);
                    at += usize::from(width);
                }
            }
            let mut at = 0;
            for &(value, width) in &numbers {
                prop_assert_eq!(read(&data, at, width), value & mask(width));
                at += usize::from(width);
            }
        }
    }

    #[test]
    fn widths() {
        assert_eq!(width_of(0), 0);
        assert_eq!(width_of(1), 1);
        assert_eq!(width_of(255), 8);
        assert_eq!(width_of(256), 9);
        assert_eq!(width_of(u64::MAX), 64);
    }
}
