//! A small certificate authority in a temporary folder, and a raw TLS connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_nats::rustls::crypto::ring::default_provider;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use async_nats::rustls::version::TLS12;
use async_nats::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

use super::raw::Stream;

/// One authority with a server's and a client's certificate, as PEM files.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority called `name`, which has signed `server` (127.0.0.1 and localhost) and
    /// `client`.
    pub(crate) fn new(name: &str) -> Self {
        // The client library asks for the process's provider; a second call changes nothing.
        drop(default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        let authority = Self { dir, issuer: Issuer::new(params, key) };
        authority.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
        authority.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
        authority
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate().unwrap();
        let names = vec![String::from("localhost"), String::from("127.0.0.1")];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}-cert.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }

    /// One of `ca.pem`, `server-cert.pem`, `server-key.pem`, `client-cert.pem`, `client-key.pem`.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// A `tls` block for the server's configuration with `more` entries in it.
    pub(crate) fn block(&self, more: &str) -> String {
        let file = |name: &str| self.path(name).display().to_string();
        format!(
            "tls {{\n cert_file: \"{}\"\n key_file: \"{}\"\n ca_file: \"{}\"\n {more}\n}}\n",
            file("server-cert.pem"),
            file("server-key.pem"),
            file("ca.pem"),
        )
    }

    /// A client's TLS settings which trust this authority and speak only TLS 1.2.
    pub(crate) fn client_of_tls12(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(read_certificate(&self.path("ca.pem"))).unwrap();
        roots
    }

    /// A client's TLS settings which trust this authority, with its client certificate or without.
    pub(crate) fn client(&self, with_certificate: bool) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        if !with_certificate {
            return builder.with_no_client_auth();
        }
        let chain = vec![read_certificate(&self.path("client-cert.pem"))];
        let key = PrivateKeyDer::from_pem_file(self.path("client-key.pem")).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    }
}

fn read_certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// A TLS session over a socket; the handshake is made by the first write or read.
pub(crate) struct TlsStream(StreamOwned<ClientConnection, TcpStream>);

impl TlsStream {
    /// A client's session on a connected socket.
    pub(crate) fn new(config: ClientConfig, socket: TcpStream) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        Self(StreamOwned::new(session, socket))
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Stream for TlsStream {
    fn socket(&self) -> &TcpStream {
        self.0.get_ref()
    }
}
