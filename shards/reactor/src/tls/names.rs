//! Names of versions, cipher suites and key exchange groups: Go's spelling, as nats-server's
//! configuration takes them and `/connz` shows them, against what the TLS library offers.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::{cipher_suite as suite, kx_group};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};

/// What a name in the configuration means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known<T> {
    /// Served.
    Served(T),
    /// nats-server takes it, the TLS library does not have it; the text says what to use.
    Missing(&'static str),
}

const WEAK: &str = "it has no forward secrecy or uses a broken cipher; use \
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS 1.3";
const CBC: &str = "CBC suites are not served; use the AES_128_GCM or AES_256_GCM suite of the \
    same key type, or TLS 1.3";
const NO_P521: &str = "P-521 key exchange is not served; use CurveP384, CurveP256 or X25519";
const NO_P384_MLKEM: &str = "this hybrid is not served; use X25519MLKEM768 or SecP256r1MLKEM768";

/// Every suite name that nats-server knows, with what serves it. The order of the served ones
/// is the server's preference: AES-128 first, as Go's server chooses it.
pub(super) const SUITES: &[(&str, Known<SupportedCipherSuite>)] = &[
    ("TLS_AES_128_GCM_SHA256", Known::Served(suite::TLS13_AES_128_GCM_SHA256)),
    ("TLS_AES_256_GCM_SHA384", Known::Served(suite::TLS13_AES_256_GCM_SHA384)),
    ("TLS_CHACHA20_POLY1305_SHA256", Known::Served(suite::TLS13_CHACHA20_POLY1305_SHA256)),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Known::Served(suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        Known::Served(suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Known::Served(suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        Known::Served(suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Known::Served(suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Known::Served(suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Known::Missing(CBC)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", Known::Missing(CBC)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Known::Missing(CBC)),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Known::Missing(CBC)),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", Known::Missing(CBC)),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Known::Missing(CBC)),
    ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", Known::Missing(WEAK)),
    ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", Known::Missing(WEAK)),
    ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", Known::Missing(WEAK)),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", Known::Missing(WEAK)),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", Known::Missing(WEAK)),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", Known::Missing(WEAK)),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", Known::Missing(WEAK)),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", Known::Missing(WEAK)),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", Known::Missing(WEAK)),
    ("TLS_RSA_WITH_RC4_128_SHA", Known::Missing(WEAK)),
];

/// A group as the library names it.
pub(super) type Group = &'static dyn SupportedKxGroup;

/// The default groups, in the order of nats-server: post-quantum hybrid first.
pub(super) const DEFAULT_GROUPS: &[Group] =
    &[kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

/// Every cipher suite name that nats-server's configuration takes.
pub fn cipher_suite_names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|(name, _)| *name)
}

/// Every curve name that nats-server's configuration takes.
pub fn curve_names() -> impl Iterator<Item = &'static str> {
    const NAMES: [&str; 7] = [
        "CurveP256",
        "CurveP384",
        "CurveP521",
        "SecP256r1MLKEM768",
        "SecP384r1MLKEM1024",
        "X25519",
        "X25519MLKEM768",
    ];
    NAMES.into_iter()
}

/// The suite of a configured name; `None` when nobody knows it.
pub(super) fn suite_by_name(name: &str) -> Option<Known<SupportedCipherSuite>> {
    let found = SUITES.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// The group of a configured name; `None` when nobody knows it.
pub(super) fn group_by_name(name: &str) -> Option<Known<Group>> {
    Some(match name {
        "CurveP256" => Known::Served(kx_group::SECP256R1),
        "CurveP384" => Known::Served(kx_group::SECP384R1),
        "CurveP521" => Known::Missing(NO_P521),
        "SecP256r1MLKEM768" => Known::Served(kx_group::SECP256R1MLKEM768),
        "SecP384r1MLKEM1024" => Known::Missing(NO_P384_MLKEM),
        "X25519" => Known::Served(kx_group::X25519),
        "X25519MLKEM768" => Known::Served(kx_group::X25519MLKEM768),
        _ => return None,
    })
}

/// The IANA name of a negotiated suite.
pub(super) fn suite_name(id: CipherSuite) -> Option<&'static str> {
    SUITES.iter().find_map(|(name, known)| match known {
        Known::Served(suite) if suite.suite() == id => Some(*name),
        _ => None,
    })
}

/// `1.2` or `1.3`.
pub(super) fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("1.2"),
        ProtocolVersion::TLSv1_3 => Some("1.3"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_of_the_library_has_a_name() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            assert!(suite_name(suite.suite()).is_some(), "{suite:?}");
        }
    }

    #[test]
    fn every_listed_curve_is_known() {
        for name in curve_names() {
            assert!(group_by_name(name).is_some(), "{name}");
        }
        assert!(group_by_name("CurveP25").is_none());
    }
}
