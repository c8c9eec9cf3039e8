//! Keys for logins by signature, the same ones in every run: the seed is the hash of a name.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

/// First byte of the textual form of a public user key (`U...`).
const USER_PREFIX: u8 = 20 << 3;
/// First byte of the textual form of a seed (`S...`).
const SEED_PREFIX: u8 = 18 << 3;

/// A user's key pair.
pub(crate) struct UserKey(SigningKey);

impl UserKey {
    /// The key pair that belongs to `name`.
    pub(crate) fn named(name: &str) -> Self {
        let seed: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        Self(SigningKey::from_bytes(&seed))
    }

    /// The public key as configurations and CONNECT spell it.
    pub(crate) fn public(&self) -> String {
        let mut raw = vec![USER_PREFIX];
        raw.extend_from_slice(self.0.verifying_key().as_bytes());
        checked_text(raw)
    }

    /// The seed as client libraries take it.
    pub(crate) fn seed(&self) -> String {
        let mut raw = vec![SEED_PREFIX | (USER_PREFIX >> 5), (USER_PREFIX & 31) << 3];
        raw.extend_from_slice(self.0.as_bytes());
        checked_text(raw)
    }

    /// The signature of a nonce as CONNECT carries it.
    pub(crate) fn sign(&self, nonce: &str) -> String {
        BASE64URL_NOPAD.encode(&self.0.sign(nonce.as_bytes()).to_bytes())
    }
}

/// Appends the CRC-16 (XMODEM, little endian) and encodes in base 32.
fn checked_text(mut raw: Vec<u8>) -> String {
    let mut crc = 0_u16;
    for &byte in &raw {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    raw.extend_from_slice(&crc.to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}
