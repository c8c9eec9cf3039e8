//! Whether a text has the form of an nkey: base32 of a kind, 32 bytes and a checksum.

use data_encoding::BASE32_NOPAD;

/// The kinds of keys that a configuration names, by the first byte of their binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Account = 0,
    Operator = 14 << 3,
    User = 20 << 3,
    Curve = 23 << 3,
}

/// All kinds of public keys; a trusted proxy may have any.
const PUBLIC: [u8; 7] = [0, 2 << 3, 13 << 3, 14 << 3, 20 << 3, 23 << 3, 21 << 3];
const SEED: u8 = 18 << 3;

/// The bytes before the checksum, when that is right.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let split = bytes.len().checked_sub(2)?;
    let sum = bytes.split_off(split);
    let stored = u16::from_le_bytes([*sum.first()?, *sum.get(1)?]);
    (crc16(&bytes) == stored).then_some(bytes)
}

/// The checksum of nkeys: CRC-16 with polynomial 0x1021 and no initial value.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// Whether `text` is a public key of this kind.
pub(super) fn is_public(text: &str, kind: KeyKind) -> bool {
    decode(text).is_some_and(|b| b.len() == 33 && b.first() == Some(&(kind as u8)))
}

/// Whether `text` is a public key of any kind.
pub(super) fn is_any_public(text: &str) -> bool {
    decode(text).is_some_and(|b| b.len() == 33 && b.first().is_some_and(|k| PUBLIC.contains(k)))
}

/// Whether `text` is the seed of a user.
pub(super) fn is_user_seed(text: &str) -> bool {
    let Some(bytes) = decode(text) else {
        return false;
    };
    let (Some(first), Some(second)) = (bytes.first(), bytes.get(1)) else {
        return false;
    };
    let kind = ((first & 7) << 5) | ((second & 0xf8) >> 3);
    bytes.len() == 34 && first & 0xf8 == SEED && kind == KeyKind::User as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_keys_by_their_kind() {
        let user = "UCNGL4W5QX66CFX6A6DCBVDH5VOHMI7B2UZZU7TXAUQQSI2JPHULCKBR";
        assert!(is_public(user, KeyKind::User));
        assert!(is_any_public(user));
        assert!(!is_public(user, KeyKind::Account));
        assert!(!is_public(&user.replace('K', "L"), KeyKind::User));
        assert!(!is_public("", KeyKind::User));
        assert!(!is_public("UA", KeyKind::User));
    }

    #[test]
    fn knows_the_seed_of_a_user() {
        assert!(is_user_seed("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"));
        assert!(!is_user_seed("UCNGL4W5QX66CFX6A6DCBVDH5VOHMI7B2UZZU7TXAUQQSI2JPHULCKBR"));
    }
}
