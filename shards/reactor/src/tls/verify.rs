//! Verification of client certificates: the library's path building, and certificates that
//! are trusted by being in the CA file themselves.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::identity;

/// A verifier for one CA file.
///
/// Path building refuses a certificate that is its own authority, which small set-ups use and
/// nats-server accepts. So a leaf that is byte for byte in the CA file passes if its validity
/// and usage do; its signature on the handshake is always checked.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ClientVerifier {
    /// `None` when no certificate of `authorities` is usable.
    pub(super) fn new(
        authorities: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Some(Self { inner: builder.build().ok()?, trusted: authorities })
    }

    fn is_trusted_itself(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let invalid = |reason| Err(Error::InvalidCertificate(reason));
        if !self.trusted.iter().any(|cert| cert == leaf) {
            return invalid(CertificateError::UnknownIssuer);
        }
        let Ok(cert) = identity::parse(leaf) else {
            return invalid(CertificateError::BadEncoding);
        };
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now_s > cert.validity().not_after.timestamp() {
            return invalid(CertificateError::Expired);
        }
        if now_s < cert.validity().not_before.timestamp() {
            return invalid(CertificateError::NotValidYet);
        }
        match cert.extended_key_usage() {
            Ok(None) => Ok(()),
            Ok(Some(usage)) if usage.value.client_auth || usage.value.any => Ok(()),
            Ok(Some(_)) => invalid(CertificateError::InvalidPurpose),
            Err(_) => invalid(CertificateError::BadEncoding),
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner.verify_client_cert(end_entity, intermediates, now).or_else(|error| {
            let trusted = self.is_trusted_itself(end_entity, now);
            trusted.map_err(|_| error)?;
            Ok(ClientCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
