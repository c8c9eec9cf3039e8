//! Handshakes in memory: a client of the same library against our session, no sockets.

mod authentication;
mod config;
mod handshake;
mod names;
mod tickets;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::ClientConnection;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::*;

/// A time inside the validity of everything made here: 2026-01-01.
pub(super) const NOW_S: i64 = 1_767_225_600;

/// A certificate authority that issues into a directory of its own.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) dir: TempDir,
    pub(super) cert: CertificateDer<'static>,
}

/// A certificate and its key, in memory and as files.
pub(super) struct Issued {
    pub(super) cert: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), cert.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir, cert: cert.der().clone() }
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(super) fn issue(&self, host: &str) -> Issued {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        self.issue_params(host, &params)
    }

    pub(super) fn issue_params(&self, name: &str, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        write(&self.dir, name, &cert, &key)
    }

    /// A verifying client that trusts this authority.
    pub(super) fn client(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// The same with a certificate of its own.
    pub(super) fn client_with(&self, identity: &Issued) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS, Some(identity))
    }

    pub(super) fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        identity: Option<&Issued>,
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        match identity {
            Some(Issued { cert, key, .. }) => {
                builder.with_client_auth_cert(vec![cert.clone()], key.clone_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        roots
    }
}

/// A certificate that signs itself, written into `dir`.
pub(super) fn self_signed(dir: &TempDir, name: &str, params: &CertificateParams) -> Issued {
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    write(dir, name, &cert, &key)
}

fn write(dir: &TempDir, name: &str, cert: &rcgen::Certificate, key: &KeyPair) -> Issued {
    let cert_file = dir.path().join(format!("{name}-cert.pem"));
    let key_file = dir.path().join(format!("{name}-key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    Issued {
        cert: cert.der().clone(),
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        cert_file,
        key_file,
    }
}

/// Settings of a listener with one identity.
pub(super) fn settings(identity: &Issued) -> TlsSettings {
    TlsSettings {
        cert_file: Some(identity.cert_file.clone()),
        key_file: Some(identity.key_file.clone()),
        ..TlsSettings::default()
    }
}

pub(super) fn build(settings: &TlsSettings) -> TlsContext {
    TlsContext::build(settings, NOW_S).unwrap_or_else(|errors| panic!("{:?}", texts(&errors)))
}

pub(super) fn texts(errors: &[TlsConfigError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// A client and our session, joined by two vectors.
pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) server: TlsSession,
    /// Bytes are handed to the server in pieces of this size.
    pub(super) piece: usize,
    pub(super) to_client: Vec<u8>,
    pub(super) plain: Vec<u8>,
    pub(super) completions: usize,
}

impl Pair {
    pub(super) fn new(client: &Arc<ClientConfig>, server: &TlsContext) -> Self {
        Self::named(client, server, "localhost")
    }

    pub(super) fn named(client: &Arc<ClientConfig>, server: &TlsContext, host: &str) -> Self {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
        client.set_buffer_limit(None);
        Self {
            client,
            server: TlsSession::new(server).unwrap(),
            piece: usize::MAX,
            to_client: Vec::new(),
            plain: Vec::new(),
            completions: 0,
        }
    }

    /// Carries bytes both ways until both are silent, or one side fails.
    pub(super) fn run(&mut self) -> Result<(), TlsError> {
        loop {
            let mut to_server = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut to_server).unwrap();
            }
            if to_server.is_empty() && self.to_client.is_empty() {
                return Ok(());
            }
            let mut outcome = Ok(());
            for piece in to_server.chunks(self.piece) {
                outcome = self
                    .server
                    .handle_ciphertext(piece, &mut self.plain, &mut self.to_client)
                    .map(|progress| self.completions += usize::from(progress.handshake_completed));
                assert!(!self.server.wants_write());
                if outcome.is_err() {
                    break;
                }
            }
            self.feed_client();
            outcome?;
        }
    }

    /// Gives the client what the server sent; its own verdict is not of interest here.
    pub(super) fn feed_client(&mut self) {
        let bytes = std::mem::take(&mut self.to_client);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            if !matches!(self.client.read_tls(&mut rest), Ok(taken) if taken > 0) {
                break;
            }
            if self.client.process_new_packets().is_err() {
                break;
            }
        }
    }

    /// Everything decrypted at the client.
    pub(super) fn client_plain(&mut self) -> Vec<u8> {
        let mut plain = Vec::new();
        // Ends with "would block", as the connection stays open.
        let _open = self.client.reader().read_to_end(&mut plain);
        plain
    }

    pub(super) fn client_write(&mut self, data: &[u8]) {
        self.client.writer().write_all(data).unwrap();
    }
}
