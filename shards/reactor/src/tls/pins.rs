//! `pinned_certs`: the SHA-256 of the public keys that may connect.

use super::identity::{IdentityError, spki_sha256};

/// A set of pinned public keys; empty means that no pin is required.
#[derive(Clone, Debug, Default)]
pub struct PinnedCerts {
    /// Sorted.
    digests: Vec<[u8; 32]>,
}

impl PinnedCerts {
    /// From hexadecimal SHA-256 digests of DER-encoded SubjectPublicKeyInfo, in any case.
    ///
    /// # Errors
    /// The first text that is not such a digest.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let mut digests = Vec::with_capacity(texts.len());
        for text in texts {
            let digest = data_encoding::HEXLOWER_PERMISSIVE
                .decode(text.as_bytes())
                .ok()
                .and_then(|raw| raw.try_into().ok())
                .ok_or_else(|| text.clone())?;
            digests.push(digest);
        }
        digests.sort_unstable();
        Ok(Self { digests })
    }

    /// Whether no pin is required.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether the certificate's public key is pinned.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn allow(&self, cert_der: &[u8]) -> Result<bool, IdentityError> {
        Ok(self.digests.binary_search(&spki_sha256(cert_der)?).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_hex_of_32_bytes_only() {
        let good = "Ab".repeat(32);
        assert!(!PinnedCerts::parse(&[good]).unwrap().is_empty());
        for bad in ["", "xx", &"a".repeat(63), &"ab".repeat(33), &"zz".repeat(32)] {
            assert_eq!(PinnedCerts::parse(&[bad.to_owned()]).unwrap_err(), bad);
        }
        assert!(PinnedCerts::parse(&[]).unwrap().is_empty());
    }
}
