//! Names in certificates: texts and matches as nats-server 2.15.1 showed them for the same
//! subjects. The certificates of `certs/` were made for this test and sign nothing else.

use super::*;

fn identity(pem: &str) -> CertIdentity {
    let cert = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    CertIdentity::parse(&cert).unwrap()
}

fn find<'a>(pem: &str, users: &[&'a str]) -> Option<&'a str> {
    identity(pem).find_user(users.iter().copied())
}

const RICH: &str = include_str!("certs/rich.pem");
const DUPLICATES: &str = include_str!("certs/duplicates.pem");
const MULTIVALUED: &str = include_str!("certs/multivalued.pem");
const ESCAPES: &str = include_str!("certs/escapes.pem");
const TITLE: &str = include_str!("certs/title.pem");

#[test]
fn a_peer_certificate_is_shown_as_in_connz() {
    let cert = CertificateDer::from_pem_slice(RICH.as_bytes()).unwrap();
    let shown = peer_cert(&cert).unwrap();
    assert_eq!(
        shown.subject,
        "SERIALNUMBER=42,CN=lead,OU=One+OU=Two,O=Acme\\, Inc.,STREET=Hohe Str. 1,L=Köln,ST=NRW,\
         C=DE,1.2.840.113549.1.9.1=me@x.io,0.9.2342.19200300.100.1.1=u7,\
         0.9.2342.19200300.100.1.25=example,0.9.2342.19200300.100.1.25=com"
    );
    assert_eq!(
        shown.spki_sha256,
        "863b1a1ef54017e57737e1f16a4aadf5e2b6cbd9a94a0baeb6cd6c3c60ecd590"
    );
    assert_eq!(
        shown.cert_sha256,
        "d40833e015d158e50936e57f0d183d17982ae2893e692e65b2837db72ccf499f"
    );
}

#[test]
fn candidates_come_in_the_order_of_the_search() {
    let names = identity(RICH).candidates();
    assert_eq!(
        names,
        [
            "a@x.io",
            "h.x.io",
            "spiffe://x.io/svc",
            "EMAILADDRESS=me@x.io,SERIALNUMBER=42,CN=lead,UID=u7,STREET=Hohe Str. 1,ST=NRW,\
             L=Köln,CN=first+OU=Two,OU=One,O=Acme\\, Inc.,C=DE,DC=example,DC=com",
            "SERIALNUMBER=42,CN=lead,OU=One+OU=Two,O=Acme\\, Inc.,STREET=Hohe Str. 1,L=Köln,\
             ST=NRW,C=DE",
            "DC=com,DC=example,C=DE,O=Acme\\, Inc.,OU=One,CN=first+OU=Two,L=Köln,ST=NRW,\
             STREET=Hohe Str. 1,UID=u7,CN=lead,SERIALNUMBER=42,EMAILADDRESS=me@x.io",
        ]
    );
    let users = ["spiffe://x.io/svc", "h.x.io", "a@x.io"];
    assert_eq!(find(RICH, &users), Some("a@x.io"));
    assert_eq!(find(RICH, &users[..2]), Some("h.x.io"));
    assert_eq!(find(RICH, &users[..1]), Some("spiffe://x.io/svc"));
    assert_eq!(find(RICH, &["A@x.io", "x.io", "CN=lead"]), None);
}

#[test]
fn parts_match_in_any_order_but_all_of_them_and_as_often() {
    for user in [
        "CN=n,OU=b,OU=a,O=o,DC=ex,DC=com",
        "DC=com,DC=ex,O=o,OU=a,OU=b,CN=n",
        "O=o,DC=com,DC=ex,CN=n,OU=a,OU=b",
        "cn=n, ou=b, ou=a, o=o, dc=ex, dc=com",
        "CN=n,OU=a+OU=b,O=o",
        "CN=\\6e,OU=b,OU=a,O=o,DC=ex,DC=com",
    ] {
        assert_eq!(find(DUPLICATES, &[user]), Some(user));
    }
    for user in [
        "CN=n,OU=a,OU=a,O=o,DC=ex,DC=com",
        "CN=N,OU=b,OU=a,O=o,DC=ex,DC=com",
        "CN=n,OU=b,OU=a,O=o",
        "CN=n,OU=b,OU=a,OU=a,O=o,DC=ex,DC=com",
        "CN=n,OU=b,OU=a,O=o,DC=ex+DC=com",
        "CN=n,OU=b,OU=a,O=o,DC=ex,DC=com,",
    ] {
        assert_eq!(find(DUPLICATES, &[user]), None, "{user}");
    }
    let exact = "CN=n,OU=b,OU=a,O=o,DC=ex,DC=com";
    let users = ["O=o,DC=com,DC=ex,CN=n,OU=a,OU=b", exact, "CN=n,OU=a+OU=b,O=o"];
    assert_eq!(find(DUPLICATES, &users), Some(exact));
}

#[test]
fn a_multi_valued_part_is_one_part() {
    for user in ["CN=n+OU=u,O=o", "OU=u+CN=n,O=o", "O=o,CN=n+OU=u"] {
        assert_eq!(find(MULTIVALUED, &[user]), Some(user));
    }
    // This one is the text that Go prints, and nats-server takes it literally.
    assert_eq!(find(MULTIVALUED, &["CN=n,OU=u,O=o"]), Some("CN=n,OU=u,O=o"));
    for user in ["O=o,CN=n,OU=u", "CN=n, OU=u, O=o", "CN=n+O=o,OU=u"] {
        assert_eq!(find(MULTIVALUED, &[user]), None, "{user}");
    }
}

#[test]
fn escaped_values_match_their_meaning() {
    for user in ["CN=\\ x\\ ,O=a\\, b", "CN=\\20x\\20,O=a\\2c b"] {
        assert_eq!(find(ESCAPES, &[user]), Some(user));
    }
    for user in ["CN=x,O=a\\, b", "CN= x ,O=a\\, b", "CN=\\ x\\ ,O=a, b"] {
        assert_eq!(find(ESCAPES, &[user]), None, "{user}");
    }
}

#[test]
fn alternative_names_do_not_hide_the_subject() {
    assert_eq!(find(TITLE, &["CN=n,O=o"]), Some("CN=n,O=o"));
    assert_eq!(find(TITLE, &["CN=n,O=o", "h.io"]), Some("h.io"));
    let cert = CertificateDer::from_pem_slice(TITLE.as_bytes()).unwrap();
    assert_eq!(peer_cert(&cert).unwrap().subject, "CN=n,O=o,2.5.4.12=t\\, x");
}

#[test]
fn damaged_certificates_are_an_error_at_every_length() {
    let cert = CertificateDer::from_pem_slice(RICH.as_bytes()).unwrap();
    for len in 0..cert.len() {
        assert!(CertIdentity::parse(&cert[..len]).is_err(), "{len}");
        assert!(peer_cert(&cert[..len]).is_err());
        assert!(spki_sha256(&cert[..len]).is_err());
    }
    let mut longer = cert.to_vec();
    longer.push(0);
    assert!(identity_candidates(&longer).is_err());
}
