//! The text form of nkeys: a prefix byte, 32 key bytes and a CRC-16, in base32 without padding.
//! The prefix byte is chosen so that the first letter tells the kind: `N` for a server.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use data_encoding::BASE32_NOPAD;
use thiserror::Error;

use crate::secret::Secret;

/// Bytes of a raw key.
pub const KEY_LEN: usize = 32;
/// Characters of a public key in text form.
pub const TEXT_LEN: usize = 56;
/// Characters of a seed in text form.
pub const SEED_TEXT_LEN: usize = 58;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// `A`
    Account,
    /// `C`
    Cluster,
    /// `N`
    Server,
    /// `O`
    Operator,
    /// `U`
    User,
    /// `X`, an x25519 key for encryption
    Curve,
}

/// The prefix byte of a seed, before the kind is mixed in.
const SEED_PREFIX: u8 = 18 << 3;

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Account, Self::Cluster, Self::Server, Self::Operator, Self::User, Self::Curve];

    /// The byte whose upper five bits are the base32 digit of the kind's letter.
    pub const fn prefix(self) -> u8 {
        match self {
            Self::Account => 0,
            Self::Cluster => 2 << 3,
            Self::Server => 13 << 3,
            Self::Operator => 14 << 3,
            Self::User => 20 << 3,
            Self::Curve => 23 << 3,
        }
    }

    fn from_prefix(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.prefix() == byte)
    }
}

/// Why a text is not a key. Never shows the text, which may be a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not the number of characters that a key of this form has.
    #[error("nkey has the wrong length")]
    Length,
    /// A character that is not base32.
    #[error("nkey is not base32")]
    Encoding,
    /// The checksum does not fit.
    #[error("nkey has a wrong checksum")]
    Checksum,
    /// The first byte names no kind, or another than expected.
    #[error("nkey has the wrong prefix")]
    Prefix,
}

/// The text form of a public key. A server's id is its public key of kind [`KeyKind::Server`].
pub fn encode_public(kind: KeyKind, key: &[u8; KEY_LEN]) -> String {
    let mut raw = Vec::with_capacity(KEY_LEN.saturating_add(3));
    raw.push(kind.prefix());
    raw.extend_from_slice(key);
    let sum = crc16(&raw);
    raw.extend_from_slice(&sum.to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

/// The text form of a seed. Secret.
pub fn encode_seed(kind: KeyKind, seed: &[u8; KEY_LEN]) -> Secret {
    let mut raw = Vec::with_capacity(KEY_LEN.saturating_add(4));
    raw.push(SEED_PREFIX | (kind.prefix() >> 5));
    raw.push((kind.prefix() & 0b1_1111) << 3);
    raw.extend_from_slice(seed);
    let sum = crc16(&raw);
    raw.extend_from_slice(&sum.to_le_bytes());
    let text = BASE32_NOPAD.encode(&raw);
    raw.fill(0);
    Secret::new(text)
}

/// Kind and bytes of a public key.
///
/// # Errors
///
/// Whatever is wrong with the text; every length is looked at before any byte is used.
pub fn decode_public(text: &str) -> Result<(KeyKind, [u8; KEY_LEN]), KeyError> {
    if text.len() != TEXT_LEN {
        return Err(KeyError::Length);
    }
    let raw = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| KeyError::Encoding)?;
    let (&prefix, rest) = check_sum(&raw)?.split_first().ok_or(KeyError::Length)?;
    let kind = KeyKind::from_prefix(prefix).ok_or(KeyError::Prefix)?;
    let key = rest.try_into().map_err(|_| KeyError::Length)?;
    Ok((kind, key))
}

/// The bytes of a public key that must be of one kind.
///
/// # Errors
///
/// As [`decode_public`], and [`KeyError::Prefix`] for a key of another kind.
pub fn decode_public_as(kind: KeyKind, text: &str) -> Result<[u8; KEY_LEN], KeyError> {
    match decode_public(text)? {
        (found, key) if found == kind => Ok(key),
        _ => Err(KeyError::Prefix),
    }
}

/// Whether the text is a public key of this kind.
pub fn is_public(kind: KeyKind, text: &str) -> bool {
    decode_public_as(kind, text).is_ok()
}

/// Kind and bytes of a seed.
///
/// # Errors
///
/// As [`decode_public`].
pub fn decode_seed(text: &str) -> Result<(KeyKind, [u8; KEY_LEN]), KeyError> {
    if text.len() != SEED_TEXT_LEN {
        return Err(KeyError::Length);
    }
    let raw = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| KeyError::Encoding)?;
    let [first, second, rest @ ..] = check_sum(&raw)? else {
        return Err(KeyError::Length);
    };
    if first & 0b1111_1000 != SEED_PREFIX || second & 0b111 != 0 {
        return Err(KeyError::Prefix);
    }
    let prefix = ((first & 0b111) << 5) | (second >> 3);
    let kind = KeyKind::from_prefix(prefix).ok_or(KeyError::Prefix)?;
    let seed = rest.try_into().map_err(|_| KeyError::Length)?;
    Ok((kind, seed))
}

/// The bytes before the checksum, if it fits them.
fn check_sum(raw: &[u8]) -> Result<&[u8], KeyError> {
    let (data, sum) = raw.split_last_chunk::<2>().ok_or(KeyError::Length)?;
    if crc16(data) == u16::from_le_bytes(*sum) { Ok(data) } else { Err(KeyError::Checksum) }
}

/// CRC-16 with polynomial 0x1021, start value 0, no reflection (XMODEM).
fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0_u16, |sum, &byte| {
        (0..8).fold(sum ^ (u16::from(byte) << 8), |sum, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for kind in KeyKind::ALL {
            for byte in [0, 1, 0x7f, 0xff] {
                let key = [byte; KEY_LEN];
                let text = encode_public(kind, &key);
                assert_eq!(text.len(), TEXT_LEN);
                assert_eq!(decode_public(&text), Ok((kind, key)));
                let seed = encode_seed(kind, &key);
                assert_eq!(seed.expose().len(), SEED_TEXT_LEN);
                assert_eq!(decode_seed(seed.expose()), Ok((kind, key)));
            }
        }
        assert!(encode_public(KeyKind::Server, &[9; 32]).starts_with('N'));
        assert!(encode_seed(KeyKind::User, &[9; 32]).expose().starts_with("SU"));
    }

    /// Keys that nats-server and the nkeys library made.
    #[test]
    fn knows_keys_of_others() {
        let server = "NCS6BANQEILY2BXAALLEXBMY7MNHL3Q6UBRTFRHOV4F336P3A6BDZUFB";
        assert!(is_public(KeyKind::Server, server));
        let curve = "XCI2TYHLKVJDPS7ATGFKFJVMAEP5GYWAMMAQPUVXEJPMHN42RA7BU4OB";
        assert!(is_public(KeyKind::Curve, curve));
        let user = "UBDSW5S5UT4DCC4T3ZAMZB6YZPV2AAUXM2XF6DGCDATHA2OGD5NJKDXB";
        let (kind, key) = decode_public(user).unwrap();
        assert_eq!((kind, encode_public(kind, &key).as_str()), (KeyKind::User, user));
        let seed = "SUAEULCF4IWPG52XT6FZIAZ4AI65DHR43X6WRBQV2NNTBUE3QCTU2WUX6U";
        let (kind, raw) = decode_seed(seed).unwrap();
        assert_eq!(kind, KeyKind::User);
        assert_eq!(encode_seed(kind, &raw).expose(), seed);
    }

    #[test]
    fn tells_what_is_wrong() {
        let good = encode_public(KeyKind::User, &[3; 32]);
        assert_eq!(decode_public_as(KeyKind::Account, &good), Err(KeyError::Prefix));
        assert_eq!(decode_public(&good.to_lowercase()), Err(KeyError::Encoding));
        assert_eq!(decode_public(&good[1..]), Err(KeyError::Length));
        let mut raw = vec![1 << 3];
        raw.extend_from_slice(&[0; 32]);
        let sum = crc16(&raw);
        raw.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(decode_public(&BASE32_NOPAD.encode(&raw)), Err(KeyError::Prefix));
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
