//! Randomness from the kernel: seeds, connection nonces and the server's identity seed.
//!
//! The decision-making crates are given their randomness as values, so this file and the
//! TLS library are the only places that ask the kernel for it.

use thiserror::Error;

/// Random bytes in a nonce; eleven of them make fifteen characters of base64url.
pub const NONCE_RAW_LEN: usize = 11;

/// Characters in the nonce that INFO carries, as nats-server sends it.
pub const NONCE_TEXT_LEN: usize = 15;

/// The kernel gave no randomness.
#[derive(Debug, Error)]
#[error("the kernel's random number generator failed: {0}")]
pub struct EntropyError(getrandom::Error);

/// Fills `out` with random bytes.
///
/// # Errors
/// When the kernel refuses, which happens only on a system without a random device.
pub fn fill(out: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(out).map_err(EntropyError)
}

/// A seed for a pseudo-random generator or a hash table.
///
/// # Errors
/// As [`fill`].
pub fn seed_u64() -> Result<u64, EntropyError> {
    getrandom::u64().map_err(EntropyError)
}

/// 32 bytes: the Ed25519 seed from which the server's identity (`N...`) is made at each start.
///
/// # Errors
/// As [`fill`].
pub fn seed_32() -> Result<[u8; 32], EntropyError> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(seed)
}

/// The nonce a client has to sign: base64url characters without padding.
///
/// # Errors
/// As [`fill`].
pub fn nonce() -> Result<[u8; NONCE_TEXT_LEN], EntropyError> {
    let mut raw = [0; NONCE_RAW_LEN];
    fill(&mut raw)?;
    Ok(encode_nonce(raw))
}

/// Eleven bytes as fifteen characters of base64url.
fn encode_nonce(raw: [u8; NONCE_RAW_LEN]) -> [u8; NONCE_TEXT_LEN] {
    let mut text = [0; NONCE_TEXT_LEN];
    // The lengths are constants that fit: 11 bytes are 88 bits, which 15 characters hold.
    data_encoding::BASE64URL_NOPAD.encode_mut(&raw, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonce_is_base64url_of_eleven_bytes() {
        let text = nonce().unwrap();
        let raw = data_encoding::BASE64URL_NOPAD.decode(&text).unwrap();
        assert_eq!(raw.len(), NONCE_RAW_LEN);
        assert_eq!(&encode_nonce([0xff; NONCE_RAW_LEN]), b"______________8");
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(nonce().unwrap(), nonce().unwrap());
        assert_ne!(seed_32().unwrap(), seed_32().unwrap());
        assert_ne!(seed_u64().unwrap(), seed_u64().unwrap());
    }
}
