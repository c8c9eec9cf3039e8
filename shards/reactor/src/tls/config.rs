//! From the `tls` block to a configuration that sessions are made of.
//!
//! Every call of [`TlsContext::build`] makes its own ticket keys. So a session ticket is worth
//! something only to the listener and the configuration that gave it: another listener with
//! another CA, or the same one after a reload, does a full handshake and verifies again.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use super::files::{self, TlsFileError};
use super::identity;
use super::names::{self, Group, Known};
use super::pins::PinnedCerts;
use super::resolver::Identities;
use super::settings::{IdentityFiles, TlsSettings, TlsVersion};
use super::sniff::FirstBytes;
use super::verify::ClientVerifier;

/// Tickets sent after a handshake. One is what nats-server sends.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// What is wrong with a `tls` block. Texts follow nats-server where it has one.
#[derive(Debug, Error)]
pub enum TlsConfigError {
    /// `cert_file` without `key_file`.
    #[error("missing 'key_file' in TLS configuration")]
    MissingKeyFile,
    /// `key_file` without `cert_file`.
    #[error("missing 'cert_file' in TLS configuration")]
    MissingCertFile,
    /// Both ways to name identities.
    #[error("error parsing tls config, cannot combine 'cert_file' option with 'certs' option")]
    CombinedCerts,
    /// A listener cannot serve TLS without any certificate.
    #[error("TLS needs a certificate: set 'cert_file' and 'key_file', or 'certs'")]
    NoIdentity,
    /// A certificate or key file cannot be used.
    #[error("error parsing X509 certificate/key pair: {0}")]
    Identity(#[from] TlsFileError),
    /// A certificate file holds something else.
    #[error("error parsing X509 certificate/key pair: {file}: {reason}")]
    Certificate {
        /// As configured.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Key and certificate belong to different identities.
    #[error(
        "error parsing X509 certificate/key pair: tls: private key does not match public key \
         ({key_file} is not the key of {cert_file})"
    )]
    KeyMismatch {
        /// As configured.
        cert_file: String,
        /// As configured.
        key_file: String,
    },
    /// The CA file cannot be read.
    #[error("{0}")]
    CaFile(TlsFileError),
    /// The CA file has no usable certificate.
    #[error("failed to parse root ca certificate ({0})")]
    Ca(String),
    /// `verify` without `ca_file` on a system without a certificate store.
    #[error("'verify' without 'ca_file' needs the system's CA certificates, and there are none")]
    NoSystemCa,
    /// A cipher suite nobody knows.
    #[error("unrecognized cipher {0}")]
    UnknownCipher(String),
    /// None of the configured suites is served.
    #[error("no usable cipher suite: {0}")]
    NoCipher(String),
    /// A curve nobody knows.
    #[error("unrecognized curve preference {0}")]
    UnknownCurve(String),
    /// None of the configured curves is served.
    #[error("no usable curve preference: {0}")]
    NoCurve(String),
    /// A pin that is no digest.
    #[error(
        "error parsing tls config, 'pinned_certs' key {0} does not look like hex-encoded sha256 \
         of DER encoded SubjectPublicKeyInfo"
    )]
    Pin(String),
    /// The TLS library refused the whole.
    #[error("error parsing tls config: {0}")]
    Library(#[from] rustls::Error),
}

/// A listener's TLS: built once per start or reload, shared by all shards, never changed.
#[derive(Clone)]
pub struct TlsContext {
    shared: Arc<Shared>,
}

struct Shared {
    server: Arc<ServerConfig>,
    verifier: Option<Arc<ClientVerifier>>,
    pins: PinnedCerts,
    settings: TlsSettings,
    not_after_s: i64,
    warnings: Vec<String>,
}

impl TlsContext {
    /// Reads the files and checks everything; `now_s` is Unix time in seconds.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn build(settings: &TlsSettings, now_s: i64) -> Result<Self, Vec<TlsConfigError>> {
        let mut notes = Notes::default();
        let provider = Arc::new(CryptoProvider {
            cipher_suites: choose_suites(&settings.cipher_suites, &mut notes),
            kx_groups: choose_groups(&settings.curve_preferences, &mut notes),
            ..aws_lc_rs::default_provider()
        });
        let (identities, not_after_s) = load_identities(settings, &provider, now_s, &mut notes);
        let pins = PinnedCerts::parse(&settings.pinned_certs).unwrap_or_else(|text| {
            notes.errors.push(TlsConfigError::Pin(text));
            PinnedCerts::default()
        });
        let verify = settings.verify || settings.verify_and_map;
        if !pins.is_empty() && !verify {
            notes.warn(
                "'pinned_certs' without 'verify' refuses every client: none is asked \
                for a certificate",
            );
        }
        let verifier = if verify {
            load_verifier(settings.ca_file.as_deref(), &provider, &mut notes)
        } else {
            None
        };
        let identities = match identities {
            Some(identities) if notes.errors.is_empty() => identities,
            _ => return Err(notes.errors),
        };
        let server = build_server(settings.min_version, provider, verifier.clone(), identities)
            .map_err(|error| vec![error.into()])?;
        Ok(Self {
            shared: Arc::new(Shared {
                server: Arc::new(server),
                verifier,
                pins,
                settings: settings.clone(),
                not_after_s,
                warnings: notes.warnings,
            }),
        })
    }

    /// The settings it was built from.
    pub fn settings(&self) -> &TlsSettings {
        &self.shared.settings
    }

    /// End of validity of the first certificate, Unix time in seconds, for
    /// `tls_cert_not_after` in `/varz`.
    pub fn cert_not_after_s(&self) -> i64 {
        self.shared.not_after_s
    }

    /// What the log should say once: expired certificates, names that are not served.
    pub fn warnings(&self) -> &[String] {
        &self.shared.warnings
    }

    /// The machine for the first bytes of a connection to this listener.
    pub fn first_bytes(&self) -> FirstBytes {
        let settings = self.settings();
        FirstBytes::tls(settings.handshake_first, settings.allow_non_tls)
    }

    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shared.server)
    }

    pub(super) fn client_verifier(&self) -> Option<&dyn ClientCertVerifier> {
        let verifier = self.shared.verifier.as_deref()?;
        Some(verifier)
    }

    pub(super) fn pins(&self) -> &PinnedCerts {
        &self.shared.pins
    }
}

/// What was found while building.
#[derive(Default)]
struct Notes {
    errors: Vec<TlsConfigError>,
    warnings: Vec<String>,
}

impl Notes {
    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

fn build_server(
    min_version: TlsVersion,
    provider: Arc<CryptoProvider>,
    verifier: Option<Arc<ClientVerifier>>,
    identities: Identities,
) -> Result<ServerConfig, rustls::Error> {
    let versions = match min_version {
        TlsVersion::V1_2 => rustls::ALL_VERSIONS,
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let verifier: Arc<dyn ClientCertVerifier> = match verifier {
        Some(verifier) => verifier,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identities));
    // As Go's server: our order of suites, so that AES-128 is chosen wherever it is offered.
    server.ignore_client_order = true;
    // Tickets need no memory here; a session cache would be a lock between shards.
    server.ticketer = aws_lc_rs::Ticketer::new()?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
    Ok(server)
}

/// The configured suites in the server's order of preference. A list that names no suite of
/// TLS 1.3 restricts TLS 1.2 only, as in nats-server.
fn choose_suites(names: &[String], notes: &mut Notes) -> Vec<SupportedCipherSuite> {
    let mut wanted = Vec::new();
    let mut refused = Vec::new();
    for name in names {
        match names::suite_by_name(name) {
            Some(Known::Served(suite)) => wanted.push(suite),
            Some(Known::Missing(advice)) => refused.push(format!("{name}: {advice}")),
            None => notes.errors.push(TlsConfigError::UnknownCipher(name.clone())),
        }
    }
    let any = wanted.is_empty() && refused.is_empty();
    if !any && wanted.is_empty() {
        notes.errors.push(TlsConfigError::NoCipher(refused.join("; ")));
    } else {
        let ignored = refused.iter();
        notes.warnings.extend(ignored.map(|text| format!("cipher suite ignored: {text}")));
    }
    let names_tls13 = wanted.iter().any(|suite| suite.tls13().is_some());
    let mut suites: Vec<SupportedCipherSuite> = names::SUITES
        .iter()
        .filter_map(|(_, known)| match known {
            Known::Served(suite) => Some(*suite),
            Known::Missing(_) => None,
        })
        .filter(|suite| {
            let unrestricted = suite.tls13().is_some() && !names_tls13;
            any || unrestricted || wanted.contains(suite)
        })
        .collect();
    if !has_aes() {
        let is_chacha = |suite: &SupportedCipherSuite| {
            names::suite_name(suite.suite()).is_some_and(|name| name.contains("CHACHA20"))
        };
        suites.sort_by_key(|suite| !is_chacha(suite));
    }
    suites
}

/// Whether the processor speeds up AES; without that ChaCha20 is far cheaper.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// The configured groups in the configured order.
fn choose_groups(names: &[String], notes: &mut Notes) -> Vec<Group> {
    if names.is_empty() {
        return names::DEFAULT_GROUPS.to_vec();
    }
    let mut groups = Vec::new();
    let mut refused = Vec::new();
    for name in names {
        match names::group_by_name(name) {
            Some(Known::Served(group)) => groups.push(group),
            Some(Known::Missing(advice)) => refused.push(format!("{name}: {advice}")),
            None => notes.errors.push(TlsConfigError::UnknownCurve(name.clone())),
        }
    }
    if groups.is_empty() && !refused.is_empty() {
        notes.errors.push(TlsConfigError::NoCurve(refused.join("; ")));
    } else {
        let ignored = refused.iter();
        notes.warnings.extend(ignored.map(|text| format!("curve ignored: {text}")));
    }
    groups
}

/// All identities and the end of the first one's validity.
fn load_identities(
    settings: &TlsSettings,
    provider: &CryptoProvider,
    now_s: i64,
    notes: &mut Notes,
) -> (Option<Identities>, i64) {
    let mut keys = Vec::new();
    let mut not_after_s = 0;
    let files = identity_files(settings).unwrap_or_else(|error| {
        notes.errors.push(error);
        Vec::new()
    });
    for pair in &files {
        match load_identity(pair, provider, now_s, notes) {
            Ok((key, end_s)) => {
                if keys.is_empty() {
                    not_after_s = end_s;
                }
                keys.push(Arc::new(key));
            }
            Err(error) => notes.errors.push(error),
        }
    }
    (Identities::new(keys), not_after_s)
}

fn identity_files(settings: &TlsSettings) -> Result<Vec<IdentityFiles>, TlsConfigError> {
    let single = settings.cert_file.is_some() || settings.key_file.is_some();
    if single && !settings.certs.is_empty() {
        return Err(TlsConfigError::CombinedCerts);
    }
    match (&settings.cert_file, &settings.key_file) {
        (Some(cert_file), Some(key_file)) => {
            Ok(vec![IdentityFiles { cert_file: cert_file.clone(), key_file: key_file.clone() }])
        }
        (Some(_), None) => Err(TlsConfigError::MissingKeyFile),
        (None, Some(_)) => Err(TlsConfigError::MissingCertFile),
        (None, None) if settings.certs.is_empty() => Err(TlsConfigError::NoIdentity),
        (None, None) => Ok(settings.certs.clone()),
    }
}

fn load_identity(
    pair: &IdentityFiles,
    provider: &CryptoProvider,
    now_s: i64,
    notes: &mut Notes,
) -> Result<(CertifiedKey, i64), TlsConfigError> {
    let chain = files::read_certs(&pair.cert_file)?;
    let key = files::read_key(&pair.key_file)?;
    let bad_cert = |reason: String| TlsConfigError::Certificate {
        file: pair.cert_file.display().to_string(),
        reason,
    };
    let leaf = chain.first().map(CertificateDer::as_ref).unwrap_or_default();
    let leaf = identity::parse(leaf).map_err(|error| bad_cert(error.to_string()))?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| TlsConfigError::Certificate {
        file: pair.key_file.display().to_string(),
        reason: error.to_string(),
    })?;
    if let Some(public) = key.public_key()
        && public.as_ref() != leaf.public_key().raw
    {
        return Err(TlsConfigError::KeyMismatch {
            cert_file: pair.cert_file.display().to_string(),
            key_file: pair.key_file.display().to_string(),
        });
    }
    let validity = leaf.validity();
    let end_s = validity.not_after.timestamp();
    if now_s > end_s {
        let file = pair.cert_file.display();
        notes.warn(format!("certificate {file} expired on {}", validity.not_after));
    } else if now_s < validity.not_before.timestamp() {
        let file = pair.cert_file.display();
        notes.warn(format!("certificate {file} is not valid before {}", validity.not_before));
    }
    drop(leaf);
    Ok((CertifiedKey::new(chain, key), end_s))
}

fn load_verifier(
    ca_file: Option<&Path>,
    provider: &Arc<CryptoProvider>,
    notes: &mut Notes,
) -> Option<Arc<ClientVerifier>> {
    let loaded = match ca_file {
        Some(path) => match files::read_certs(path) {
            Ok(certs) => ClientVerifier::new(certs, Arc::clone(provider))
                .ok_or_else(|| TlsConfigError::Ca(path.display().to_string())),
            Err(TlsFileError::NoCertificate(path)) => {
                Err(TlsConfigError::Ca(path.display().to_string()))
            }
            Err(error) => Err(TlsConfigError::CaFile(error)),
        },
        None => {
            let certs = rustls_native_certs::load_native_certs().certs;
            ClientVerifier::new(certs, Arc::clone(provider)).ok_or(TlsConfigError::NoSystemCa)
        }
    };
    match loaded {
        Ok(verifier) => Some(Arc::new(verifier)),
        Err(error) => {
            notes.errors.push(error);
            None
        }
    }
}
