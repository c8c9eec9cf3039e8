//! TLS as bytes in, bytes out: no socket and no runtime is named here.
//!
//! ```text
//!  TlsSettings ── TlsContext::build ──► TlsContext      one per listener and reload
//!                                         │ first_bytes        │ TlsSession::new
//!                                         ▼                    ▼
//!  accept, first bytes, timer ──► FirstBytes ──StartTls──► TlsSession
//!                                  INFO? TLS? plain?        cipher bytes ⇄ plain bytes
//!                                                              │ handshake completed
//!                                                              ▼
//!                                             PeerCert, CertIdentity (verify_and_map)
//! ```

mod config;
mod dn;
mod files;
mod identity;
mod names;
mod pins;
mod resolver;
mod session;
mod settings;
mod sniff;
#[cfg(test)]
mod tests;
mod verify;

pub use config::{TlsConfigError, TlsContext};
pub use dn::{Attribute, DistinguishedName, Value};
pub use files::TlsFileError;
pub use identity::{
    CertIdentity, IdentityError, PeerCert, identity_candidates, peer_cert, spki_sha256,
};
pub use names::{cipher_suite_names, curve_names};
pub use pins::PinnedCerts;
pub use session::{Progress, TlsError, TlsSession};
pub use settings::{IdentityFiles, TIMEOUT_DEFAULT_NS, TlsSettings, TlsVersion};
pub use sniff::{AUTO_DELAY_NS, FirstBytes, FirstStep, HANDSHAKE_BYTE, HandshakeFirst};
