//! Who a certificate speaks for: what `/connz` shows of it, and the names under which
//! `verify_and_map` looks for a user.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::ToDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::dn::{DistinguishedName, any_text, push_escaped, short_name};

/// A certificate whose fields cannot be read.
#[derive(Debug, Error)]
#[error("not a readable X.509 certificate: {0}")]
pub struct IdentityError(String);

/// One certificate of a peer as `/connz?auth=1` shows it (`TLSPeerCert`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCert {
    /// The subject as Go prints it.
    pub subject: String,
    /// Hexadecimal SHA-256 of the SubjectPublicKeyInfo.
    pub spki_sha256: String,
    /// Hexadecimal SHA-256 of the certificate.
    pub cert_sha256: String,
}

/// The names in a certificate that can stand for a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertIdentity {
    /// E-mail addresses of the subject's alternative names.
    pub emails: Vec<String>,
    /// Host names of the subject's alternative names.
    pub dns_names: Vec<String>,
    /// URIs of the subject's alternative names.
    pub uris: Vec<String>,
    /// The subject with all its attributes.
    pub subject: DistinguishedName,
    /// The subject's standard attributes as Go prints them.
    pub subject_text: String,
}

impl CertIdentity {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it is malformed, or has the alternative names twice.
    pub fn parse(cert_der: &[u8]) -> Result<Self, IdentityError> {
        let cert = parse(cert_der)?;
        let mut identity = Self {
            subject: DistinguishedName::from_subject(cert.subject()),
            subject_text: go_text(cert.subject(), false),
            ..Self::default()
        };
        let names = cert.subject_alternative_name();
        let names = names.map_err(|error| IdentityError(error.to_string()))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::RFC822Name(email) => identity.emails.push((*email).to_owned()),
                GeneralName::DNSName(host) => identity.dns_names.push((*host).to_owned()),
                GeneralName::URI(uri) => identity.uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        Ok(identity)
    }

    /// User names to look for literally, in order: e-mail addresses, host names, URIs, then
    /// the subject in its text forms.
    pub fn candidates(&self) -> Vec<String> {
        let mut all = self.alternative_names().cloned().collect::<Vec<_>>();
        let texts =
            [self.subject.to_text(), self.subject_text.clone(), self.subject.to_text_as_encoded()];
        for text in texts {
            if !text.is_empty() && !all.contains(&text) {
                all.push(text);
            }
        }
        all
    }

    /// The user this certificate stands for, in nats-server's order: alternative names
    /// literally; the subject part by part; the subject's parts in any order; the subject as
    /// Go prints it. User names that are no distinguished names take part literally only.
    pub fn find_user<'a>(&self, users: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
        for name in self.alternative_names() {
            if let Some(user) = users.clone().find(|user| user == name) {
                return Some(user);
            }
        }
        if self.subject.is_empty() {
            return None;
        }
        let named = users.clone().filter_map(|user| Some((user, DistinguishedName::parse(user)?)));
        let exact = named.clone().find(|(_, name)| *name == self.subject);
        let exact = exact.or_else(|| {
            let mut named = named;
            named.find(|(_, name)| name.has_same_rdns(&self.subject))
        });
        if let Some((user, _)) = exact {
            return Some(user);
        }
        let mut users = users;
        users.find(|user| *user == self.subject_text)
    }

    fn alternative_names(&self) -> impl Iterator<Item = &String> {
        self.emails.iter().chain(&self.dns_names).chain(&self.uris)
    }
}

/// As [`CertIdentity::candidates`] for a certificate in DER.
///
/// # Errors
/// When the certificate cannot be read.
pub fn identity_candidates(cert_der: &[u8]) -> Result<Vec<String>, IdentityError> {
    Ok(CertIdentity::parse(cert_der)?.candidates())
}

/// What `/connz` shows of a certificate in DER.
///
/// # Errors
/// When the certificate cannot be read.
pub fn peer_cert(cert_der: &[u8]) -> Result<PeerCert, IdentityError> {
    let cert = parse(cert_der)?;
    Ok(PeerCert {
        subject: go_text(cert.subject(), true),
        spki_sha256: HEXLOWER.encode(&Sha256::digest(cert.public_key().raw)),
        cert_sha256: HEXLOWER.encode(&Sha256::digest(cert_der)),
    })
}

/// The SHA-256 of a certificate's SubjectPublicKeyInfo, which `pinned_certs` names.
///
/// # Errors
/// When the certificate cannot be read.
pub fn spki_sha256(cert_der: &[u8]) -> Result<[u8; 32], IdentityError> {
    Ok(Sha256::digest(parse(cert_der)?.public_key().raw).into())
}

pub(super) fn parse(cert_der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(cert_der) {
        Ok(([], cert)) => Ok(cert),
        Ok(_) => Err(IdentityError("bytes behind its end".into())),
        Err(error) => Err(IdentityError(error.to_string())),
    }
}

/// The standard attributes in the order in which Go prints them.
const GO_ORDER: [&str; 9] =
    ["SERIALNUMBER", "CN", "OU", "O", "POSTALCODE", "STREET", "L", "ST", "C"];

/// A subject as Go's `pkix.Name` prints it: a fixed order of types whatever the certificate's
/// order is, values of one type joined by `+`, of name and serial number the last value only;
/// other attributes (when wanted) behind them, last first, by their numbers.
fn go_text(subject: &X509Name<'_>, with_others: bool) -> String {
    let mut parts = Vec::new();
    for kind in GO_ORDER {
        let mut values: Vec<String> = subject
            .iter_attributes()
            .filter(|attribute| short_name(&attribute.attr_type().to_id_string()) == kind)
            .filter_map(|attribute| any_text(attribute.attr_value()))
            .collect();
        if matches!(kind, "CN" | "SERIALNUMBER") {
            let single = values.pop().filter(|value| !value.is_empty());
            values = single.into_iter().collect();
        }
        let texts = values.iter().map(|value| {
            let mut text = format!("{kind}=");
            push_escaped(&mut text, value);
            text
        });
        let texts: Vec<String> = texts.collect();
        if !texts.is_empty() {
            parts.push(texts.join("+"));
        }
    }
    if with_others {
        parts.extend(go_other_texts(subject));
    }
    parts.join(",")
}

fn go_other_texts(subject: &X509Name<'_>) -> Vec<String> {
    let mut others = Vec::new();
    for attribute in subject.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        if GO_ORDER.contains(&short_name(&oid).as_str()) {
            continue;
        }
        let mut text = format!("{oid}=");
        match any_text(attribute.attr_value()) {
            Some(value) => push_escaped(&mut text, &value),
            None => {
                let der = attribute.attr_value().to_der_vec().unwrap_or_default();
                text.push('#');
                text.push_str(&HEXLOWER.encode(&der));
            }
        }
        others.push(text);
    }
    others.reverse();
    others
}
