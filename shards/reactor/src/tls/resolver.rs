//! Which of several identities a client gets: the first whose certificate covers the host
//! name it asked for, else the first.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The server's identities in the order of the configuration; never empty.
#[derive(Debug)]
pub(super) struct Identities {
    first: Arc<CertifiedKey>,
    all: Vec<Arc<CertifiedKey>>,
}

impl Identities {
    /// `None` without any identity.
    pub(super) fn new(all: Vec<Arc<CertifiedKey>>) -> Option<Self> {
        let first = Arc::clone(all.first()?);
        Some(Self { first, all })
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A client may verify only one kind of signature, say ECDSA.
        let usable = |identity: &&Arc<CertifiedKey>| {
            identity.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let named = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            let mut usable = self.all.iter().filter(usable);
            usable.find(|identity| covers(identity, &name))
        });
        let chosen = named.or_else(|| self.all.iter().find(usable));
        Some(Arc::clone(chosen.unwrap_or(&self.first)))
    }
}

fn covers(identity: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Ok(leaf) = identity.end_entity_cert() else {
        return false;
    };
    ParsedCertificate::try_from(leaf).is_ok_and(|cert| verify_server_name(&cert, name).is_ok())
}
