//! The options that concern trust: TLS, revocation, and JWTs.

use std::collections::BTreeMap;
use std::time::Duration;

/// Trust in JWTs. None of it is served yet; asking for it is an error, since a server that
/// ignored it would let everybody in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrustOptions {
    /// `operator`: JWTs or files with one.
    pub operators: Vec<String>,
    /// `trusted_keys`
    pub trusted_keys: Vec<String>,
    /// `resolver`
    pub resolver: Option<Resolver>,
    /// `resolver_preload`: account key to JWT.
    pub resolver_preload: BTreeMap<String, String>,
    /// `resolver_pinned_accounts`
    pub resolver_pinned_accounts: Vec<String>,
    /// `resolver_tls`
    pub resolver_tls: Option<TlsOptions>,
    /// `default_sentinel`
    pub default_sentinel: String,
    /// `auth_callout`
    pub callout: Option<CalloutOptions>,
}

/// Where account JWTs come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolver {
    /// `MEMORY`
    Memory,
    /// `URL("...")`
    Url(String),
    /// A directory.
    Directory(ResolverDirectory),
}

/// A resolver that keeps JWTs in a directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolverDirectory {
    /// `type: FULL` rather than `CACHE`
    pub full: bool,
    /// `dir`
    pub dir: String,
    /// `allow_delete`
    pub allow_delete: bool,
    /// `hard_delete`
    pub hard_delete: bool,
    /// `limit` in files
    pub limit: i64,
    /// `ttl` of a cached JWT
    pub ttl: Option<Duration>,
    /// `interval` of synchronisation
    pub interval: Option<Duration>,
    /// `timeout` of a fetch
    pub timeout: Option<Duration>,
}

/// `auth_callout`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalloutOptions {
    /// `issuer`
    pub issuer: String,
    /// `account`
    pub account: String,
    /// `auth_users`
    pub auth_users: Vec<String>,
    /// `xkey`
    pub xkey: String,
    /// `allowed_accounts`
    pub allowed_accounts: Vec<String>,
}

/// A `tls` block.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsOptions {
    /// `cert_file`
    pub cert_file: Option<String>,
    /// `key_file`
    pub key_file: Option<String>,
    /// `ca_file`
    pub ca_file: Option<String>,
    /// `certs`: several identities, chosen by the name that the client asks for.
    pub certs: Vec<CertPair>,
    /// `verify`: clients must show a certificate.
    pub verify: bool,
    /// `verify_and_map`: the certificate names the user.
    pub verify_and_map: bool,
    /// `verify_cert_and_check_known_urls`
    pub check_known_urls: bool,
    /// `insecure`: do not verify the other server.
    pub insecure: bool,
    /// `cipher_suites` by their IANA names; the defaults when empty.
    pub cipher_suites: Vec<String>,
    /// `allow_insecure_cipher_suites`
    pub allow_insecure_cipher_suites: bool,
    /// `curve_preferences`; the defaults when empty.
    pub curve_preferences: Vec<String>,
    /// `min_version`
    pub min_version: TlsVersion,
    /// `timeout` of the handshake, 2 seconds.
    pub timeout: Duration,
    /// `connection_rate_limit` in handshakes a second; 0 means no limit.
    pub rate_max: u64,
    /// `pinned_certs`: lower-case hex of SHA-256 over the public key.
    pub pinned_certs: Vec<String>,
    /// `handshake_first`
    pub handshake_first: HandshakeFirst,
    /// `ocsp_peer`
    pub ocsp_peer: Option<OcspPeer>,
    /// SHA-256 in hex over the named files when they were read last, so that a reload notices
    /// renewed certificates; empty when they were not read.
    pub files_digest: String,
}

impl TlsOptions {
    /// The files that are named: certificates, keys and the CA.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let pairs = self.certs.iter().flat_map(|pair| [&pair.cert_file, &pair.key_file]);
        let single = self.cert_file.iter().chain(&self.key_file).chain(&self.ca_file);
        pairs.chain(single).map(String::as_str)
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            ca_file: None,
            certs: Vec::new(),
            verify: false,
            verify_and_map: false,
            check_known_urls: false,
            insecure: false,
            cipher_suites: Vec::new(),
            allow_insecure_cipher_suites: false,
            curve_preferences: Vec::new(),
            min_version: TlsVersion::V12,
            timeout: Duration::from_secs(2),
            rate_max: 0,
            pinned_certs: Vec::new(),
            handshake_first: HandshakeFirst::No,
            ocsp_peer: None,
            files_digest: String::new(),
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertPair {
    /// `cert_file`
    pub cert_file: String,
    /// `key_file`
    pub key_file: String,
}

/// The oldest TLS version accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    V12,
    /// TLS 1.3
    V13,
}

/// Whether the handshake comes before the server's INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO first.
    #[default]
    No,
    /// The handshake first, always.
    Yes,
    /// The handshake first if it begins within this time (`auto` is 50 ms), else INFO.
    Within(Duration),
}

/// `ocsp_peer`
#[derive(Clone, Debug, PartialEq)]
pub struct OcspPeer {
    /// `verify`
    pub verify: bool,
    /// `ca_timeout`, 2 seconds
    pub ca_timeout: Duration,
    /// `allowed_clockskew`, 30 seconds
    pub allowed_clockskew: Duration,
    /// `warn_only`
    pub warn_only: bool,
    /// `unknown_is_good`
    pub unknown_is_good: bool,
    /// `allow_when_ca_unreachable`
    pub allow_when_ca_unreachable: bool,
    /// `cache_ttl_when_next_update_unset`, an hour
    pub ttl_unset_next_update: Duration,
}

impl Default for OcspPeer {
    fn default() -> Self {
        Self {
            verify: false,
            ca_timeout: Duration::from_secs(2),
            allowed_clockskew: Duration::from_secs(30),
            warn_only: false,
            unknown_is_good: false,
            allow_when_ca_unreachable: false,
            ttl_unset_next_update: Duration::from_secs(3600),
        }
    }
}

/// `ocsp`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspOptions {
    /// `mode`: `auto`, `always`, `must` or `never`.
    pub mode: String,
    /// `url`
    pub url: Option<String>,
}

/// `ocsp_cache`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspCacheOptions {
    /// `type`: `local` or `none`.
    pub kind: String,
    /// `local_store`
    pub local_store: String,
    /// `preserve_revoked`
    pub preserve_revoked: bool,
    /// `save_interval`, 5 minutes
    pub save_interval: Duration,
}

impl Default for OcspCacheOptions {
    fn default() -> Self {
        Self {
            kind: "local".into(),
            local_store: "_rc_".into(),
            preserve_revoked: false,
            save_interval: Duration::from_secs(300),
        }
    }
}
