//! Certificates, keys and CA bundles from PEM files, with errors that name the file.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// A file of the `tls` block that cannot be used. The texts hold nats-server's words.
#[derive(Debug, Error)]
pub enum TlsFileError {
    /// The file cannot be read.
    #[error("open {}: {}", path.display(), plain_text(error))]
    Open {
        /// As configured.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// No `CERTIFICATE` block.
    #[error("tls: failed to find any PEM data in certificate input ({})", .0.display())]
    NoCertificate(PathBuf),
    /// No private key block.
    #[error("tls: failed to find any PEM data in key input ({})", .0.display())]
    NoKey(PathBuf),
    /// A damaged PEM block.
    #[error("{}: damaged PEM: {reason}", path.display())]
    Pem {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The system's error text in the form Go prints: lower case, without the number.
fn plain_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    std::fs::read(path).map_err(|error| TlsFileError::Open { path: path.to_owned(), error })
}

fn damaged(path: &Path, error: &rustls::pki_types::pem::Error) -> TlsFileError {
    TlsFileError::Pem { path: path.to_owned(), reason: error.to_string() }
}

/// All certificates of a file, the server's own first.
pub(super) fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let pem = read(path)?;
    let certs: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(path, &error))?;
    if certs.is_empty() {
        return Err(TlsFileError::NoCertificate(path.to_owned()));
    }
    Ok(certs)
}

/// The first private key of a file: PKCS#8, PKCS#1 or SEC1.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let pem = read(path)?;
    match PrivateKeyDer::pem_slice_iter(&pem).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(damaged(path, &error)),
        None => Err(TlsFileError::NoKey(path.to_owned())),
    }
}
