//! The TLS side of the client: a rustls configuration from the command line's options.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::{HarnessError, Result};

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of this PEM file.
    Ca(PathBuf),
    /// Anybody: the traffic is encrypted but the server is not verified.
    Anybody,
}

/// Builds the configuration shared by all connections of a run.
///
/// # Errors
/// The CA file cannot be read or holds no certificate.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| HarnessError::Tls(e.to_string()))?;
    let mut verifier = Verifier { provider, roots: None, known: Vec::new() };
    if let Trust::Ca(path) = trust {
        let mut roots = RootCertStore::empty();
        let bad = |e: String| HarnessError::Tls(format!("{}: {e}", path.display()));
        let certs = CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))?;
        for cert in certs {
            let cert = cert.map_err(|e| bad(e.to_string()))?;
            roots.add(cert.clone()).map_err(|e| bad(e.to_string()))?;
            verifier.known.push(cert);
        }
        if roots.is_empty() {
            return Err(bad("no certificate inside".into()));
        }
        let provider = Arc::clone(&verifier.provider);
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.roots = Some(built.map_err(|e| bad(e.to_string()))?);
    }
    let custom = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(custom.with_no_client_auth()))
}

/// Accepts what the roots vouch for and, since test servers often have a certificate that signs
/// itself as an authority, the given certificates themselves. Without roots it accepts all.
/// Signatures of the handshake are always checked.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<WebPkiServerVerifier>>,
    known: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match &self.roots {
            Some(roots) if !self.known.iter().any(|k| k == end_entity) => {
                roots.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
