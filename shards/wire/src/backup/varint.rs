//! Varints as Go's `encoding/binary` writes them: seven bits a byte, the lowest first; signed
//! numbers in zigzag form.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// The longest form of 64 bits, in bytes.
pub(super) const LEN_MAX: usize = 10;

/// Takes an unsigned number off the start of `rest`. `None` if it is cut off or too long.
pub(super) fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for index in 0..LEN_MAX {
        let byte = *rest.get(index)?;
        let shift = u32::try_from(index).ok()?.checked_mul(7)?;
        let part = u64::from(byte & 0x7f).checked_shl(shift)?;
        if part.checked_shr(shift)? != u64::from(byte & 0x7f) {
            return None;
        }
        value |= part;
        if byte < 0x80 {
            *rest = rest.get(index.checked_add(1)?..)?;
            return Some(value);
        }
    }
    None
}

/// Takes a signed number.
pub(super) fn take_signed(rest: &mut &[u8]) -> Option<i64> {
    let raw = take(rest)?;
    let half = (raw >> 1).cast_signed();
    Some(if raw & 1 == 0 { half } else { !half })
}

/// Whether a number at the start of `rest` may become whole when more bytes follow.
pub(super) fn is_cut_off(rest: &[u8]) -> bool {
    rest.len() < LEN_MAX && rest.iter().all(|&byte| byte >= 0x80)
}

/// Appends an unsigned number.
pub(super) fn push(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a signed number.
pub(super) fn push_signed(out: &mut Vec<u8>, value: i64) {
    push(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_forms() {
        let cases: [(u64, &[u8]); 4] = [
            (0, &[0]),
            (127, &[127]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ];
        for (value, bytes) in cases {
            let mut out = Vec::new();
            push(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(take(&mut &out[..]), Some(value));
        }
        assert_eq!(take(&mut &[0x80, 0x80][..]), None);
        assert_eq!(take(&mut &[0xff; 11][..]), None);
        let too_large = [255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        assert_eq!(take(&mut &too_large[..]), None);
    }

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            push(&mut out, value);
            push_signed(&mut out, signed);
            let mut rest = out.as_slice();
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert_eq!(take_signed(&mut rest), Some(signed));
            prop_assert!(rest.is_empty());
        }
    }
}
