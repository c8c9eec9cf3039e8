//! Logging in with an nkey: an ed25519 signature over the nonce of INFO.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signature, VerifyingKey};
use wire::nkey::{KeyKind, decode_public_as};

/// Bytes of an ed25519 signature.
const SIGNATURE_LEN: usize = 64;
/// The longest text that can hold one: padded base64.
const SIGNATURE_TEXT_MAX: usize = 88;

/// The key of a user's public nkey; nothing for any other text.
pub(super) fn user_key(text: &str) -> Option<VerifyingKey> {
    let bytes = decode_public_as(KeyKind::User, text).ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}

/// The signature in a CONNECT: base64url without padding, or standard base64 with it.
fn decode_signature(text: &str) -> Option<Signature> {
    if text.len() > SIGNATURE_TEXT_MAX {
        return None;
    }
    let text = text.as_bytes();
    let bytes = BASE64URL_NOPAD.decode(text).or_else(|_| BASE64.decode(text)).ok()?;
    let bytes: [u8; SIGNATURE_LEN] = bytes.try_into().ok()?;
    Some(Signature::from_bytes(&bytes))
}

/// Whether the text is this key's signature over the nonce. Without a nonce nothing verifies: an
/// empty one would make a signature good for every connection.
pub(super) fn verify(key: &VerifyingKey, nonce: &[u8], signature: &str) -> bool {
    !nonce.is_empty()
        && decode_signature(signature)
            .is_some_and(|signature| key.verify_strict(nonce, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};
    use wire::nkey::encode_public;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    #[test]
    fn the_encodings_that_nats_server_accepts() {
        // A nonce whose signature tells the two alphabets apart.
        let (nonce, signature) = (0..100u8)
            .map(|number| ([number], key().sign(&[number]).to_bytes()))
            .find(|(_, signature)| BASE64.encode(signature).contains(['+', '/']))
            .unwrap();
        let verifies = |text: &str| verify(&key().verifying_key(), &nonce, text);
        assert!(verifies(&BASE64URL_NOPAD.encode(&signature)));
        assert!(verifies(&BASE64.encode(&signature)));
        assert!(!verifies(&data_encoding::BASE64URL.encode(&signature)));
        assert!(!verifies(&data_encoding::BASE64_NOPAD.encode(&signature)));
    }

    #[test]
    fn every_length_of_signature_is_refused_or_verified() {
        let nonce = b"nonce";
        let signature = key().sign(nonce).to_bytes().to_vec();
        for length in 0..=128 {
            let mut bytes = signature.clone();
            bytes.resize(length, 0);
            let text = BASE64URL_NOPAD.encode(&bytes);
            assert_eq!(verify(&key().verifying_key(), nonce, &text), length == SIGNATURE_LEN);
        }
        let good = BASE64URL_NOPAD.encode(&signature);
        assert!(!verify(&key().verifying_key(), b"other", &good));
        let empty = BASE64URL_NOPAD.encode(&key().sign(b"").to_bytes());
        assert!(!verify(&key().verifying_key(), b"", &empty), "no nonce, no login");
    }

    #[test]
    fn keys_of_every_length_and_kind() {
        let public = key().verifying_key().to_bytes();
        let text = encode_public(KeyKind::User, &public);
        assert!(user_key(&text).is_some());
        for kind in [KeyKind::Account, KeyKind::Server, KeyKind::Curve] {
            assert!(user_key(&encode_public(kind, &public)).is_none());
        }
        for length in 0..text.len() {
            assert!(user_key(&text[..length]).is_none());
        }
        assert!(user_key(&format!("{text}A")).is_none());
        assert!(user_key(&text.to_lowercase()).is_none());
        assert!(user_key(&text.replacen('U', "\u{e9}", 1)).is_none());
    }
}
