//! The `tls` block of the configuration as a value.

use std::path::PathBuf;

use super::sniff::HandshakeFirst;

/// Time for a handshake unless configured: 2 s.
pub const TIMEOUT_DEFAULT_NS: u64 = 2_000_000_000;

/// The lowest protocol version that is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3; nats-server's default.
    #[default]
    V1_2,
    /// TLS 1.3 only.
    V1_3,
}

impl TlsVersion {
    /// `1.2` or `1.3`.
    ///
    /// # Errors
    /// nats-server's text for a version that is not served.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::V1_2),
            "1.3" => Ok(Self::V1_3),
            "1.0" | "1.1" => Err(format!("unsupported TLS version: TLS {text}")),
            _ => Err(format!("unknown TLS version: {text}")),
        }
    }
}

/// One certificate chain with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// PEM, the server's own certificate first.
    pub cert_file: PathBuf,
    /// PEM.
    pub key_file: PathBuf,
}

/// Every key of a listener's `tls` block; empty lists mean the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `cert_file`.
    pub cert_file: Option<PathBuf>,
    /// `key_file`.
    pub key_file: Option<PathBuf>,
    /// `ca_file`: who may sign client certificates; without it the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// `certs`: several identities, chosen by host name; not together with `cert_file`.
    pub certs: Vec<IdentityFiles>,
    /// `verify`: a client certificate is required.
    pub verify: bool,
    /// `verify_and_map`: as `verify`, and the certificate names the user.
    pub verify_and_map: bool,
    /// `min_version`.
    pub min_version: TlsVersion,
    /// `cipher_suites`, by their IANA names.
    pub cipher_suites: Vec<String>,
    /// `curve_preferences`, by Go's names.
    pub curve_preferences: Vec<String>,
    /// `insecure`: for connections this server opens; no meaning on a listener.
    pub insecure: bool,
    /// `timeout`: time for the handshake, in nanoseconds.
    pub timeout_ns: u64,
    /// `handshake_first`.
    pub handshake_first: HandshakeFirst,
    /// The top-level `allow_non_tls`: clients may also talk in clear.
    pub allow_non_tls: bool,
    /// `pinned_certs`: hexadecimal SHA-256 of the public keys that may connect.
    pub pinned_certs: Vec<String>,
    /// `connection_rate_limit`: connections per second; 0 is no limit. The acceptor keeps
    /// it with a [`ConnectionRate`](super::ConnectionRate).
    pub connection_rate_limit: u64,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            ca_file: None,
            certs: Vec::new(),
            verify: false,
            verify_and_map: false,
            min_version: TlsVersion::default(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            insecure: false,
            timeout_ns: TIMEOUT_DEFAULT_NS,
            handshake_first: HandshakeFirst::default(),
            allow_non_tls: false,
            pinned_certs: Vec::new(),
            connection_rate_limit: 0,
        }
    }
}
