//! Client certificates, pins and the choice of the server's identity.

use rcgen::ExtendedKeyUsagePurpose;

use super::*;

fn verifying(ca: &Authority, server: &Issued) -> TlsSettings {
    TlsSettings { ca_file: Some(ca.ca_file()), verify: true, ..settings(server) }
}

/// Runs a handshake with a CONNECT behind it; on failure no byte of it may come through.
fn connect(client: ClientConfig, context: &TlsContext) -> Result<Pair, TlsError> {
    let mut pair = Pair::new(&Arc::new(client), context);
    pair.client_write(b"CONNECT {}\r\n");
    match pair.run() {
        Ok(()) => {
            assert_eq!(pair.plain, b"CONNECT {}\r\n");
            Ok(pair)
        }
        Err(error) => {
            assert!(pair.plain.is_empty());
            assert!(!pair.server.is_handshake_done());
            Err(error)
        }
    }
}

#[test]
fn a_client_certificate_is_required_and_shown() {
    let ca = Authority::new("ca");
    let context = build(&verifying(&ca, &ca.issue("localhost")));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let certified = ca.issue("client");
        let client = ca.client_of(&[version], Some(&certified));
        let pair = connect(client, &context).unwrap();
        let shown = pair.server.peer_certs();
        assert_eq!(shown, [peer_cert(&certified.cert).unwrap()]);
        assert_eq!(shown[0].subject, "CN=client");
        let names = pair.server.identity().unwrap().unwrap().candidates();
        assert_eq!(names, ["client", "CN=client"]);

        let anonymous = ca.client_of(&[version], None);
        let error = connect(anonymous, &context).err().unwrap();
        assert_eq!(error.to_string(), "tls: peer sent no certificates");
    }
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let (ca, other) = (Authority::new("ca"), Authority::new("ca"));
    let context = build(&verifying(&ca, &ca.issue("localhost")));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = ca.client_of(&[version], Some(&other.issue("client")));
        let error = connect(client, &context).err().unwrap();
        assert!(matches!(error, TlsError::Protocol(_)), "{error}");
    }
}

#[test]
fn validity_and_usage_of_the_client_certificate_count() {
    let ca = Authority::new("ca");
    let context = build(&verifying(&ca, &ca.issue("localhost")));
    let params = || CertificateParams::new(vec!["client".to_owned()]).unwrap();

    let mut expired = params();
    expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let mut early = params();
    early.not_before = rcgen::date_time_ymd(2900, 1, 1);
    let mut server_only = params();
    server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for (name, params) in [("expired", expired), ("early", early), ("usage", server_only)] {
        let client = ca.client_with(&ca.issue_params(name, &params));
        assert!(connect(client, &context).is_err(), "{name}");
    }

    let mut both = params();
    both.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let client = ca.client_with(&ca.issue_params("both", &both));
    assert!(connect(client, &context).is_ok());
}

#[test]
fn a_self_signed_client_is_trusted_when_the_ca_file_holds_it() {
    let ca = Authority::new("ca");
    let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let known = self_signed(&ca.dir, "known", &params);
    let unknown = self_signed(&ca.dir, "unknown", &params);
    let mut expired = params.clone();
    expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let expired = self_signed(&ca.dir, "expired", &expired);

    let trusted = ca.dir.path().join("trusted.pem");
    let pems = [&known, &expired].map(|issued| std::fs::read(&issued.cert_file).unwrap());
    std::fs::write(&trusted, pems.concat()).unwrap();
    let context = build(&TlsSettings {
        ca_file: Some(trusted),
        verify: true,
        ..settings(&ca.issue("localhost"))
    });
    assert!(connect(ca.client_with(&known), &context).is_ok());
    assert!(connect(ca.client_with(&unknown), &context).is_err());
    assert!(connect(ca.client_with(&expired), &context).is_err());
    // Another key behind the trusted certificate fails at the handshake's signature.
    let forged = Issued { key: unknown.key.clone_key(), ..self_signed(&ca.dir, "forged", &params) };
    let forged = Arc::new(rustls::sign::CertifiedKey::new(
        vec![known.cert.clone()],
        aws_lc_rs::sign::any_supported_type(&forged.key).unwrap(),
    ));
    let mut client = ca.client();
    client.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(forged));
    assert!(connect(client, &context).is_err());
}

#[test]
fn pins_decide_after_the_authority() {
    let ca = Authority::new("ca");
    let server = ca.issue("localhost");
    let (pinned, other) = (ca.issue("pinned"), ca.issue("other"));
    let pin = data_encoding::HEXLOWER.encode(&spki_sha256(&pinned.cert).unwrap());
    let mut settings = verifying(&ca, &server);
    settings.pinned_certs = vec!["00".repeat(32), pin];
    let context = build(&settings);
    assert!(context.warnings().is_empty());
    assert!(connect(ca.client_with(&pinned), &context).is_ok());
    let refused = connect(ca.client_with(&other), &context).err().unwrap();
    assert!(matches!(refused, TlsError::NotPinned));

    // Without verification nobody shows a certificate, so nobody passes; the log says it.
    settings.verify = false;
    let context = build(&settings);
    assert_eq!(context.warnings().len(), 1);
    let refused = connect(ca.client_with(&pinned), &context).err().unwrap();
    assert!(matches!(refused, TlsError::NotPinned));
}

#[test]
fn the_host_name_chooses_the_identity() {
    let ca = Authority::new("ca");
    let files = |issued: &Issued| IdentityFiles {
        cert_file: issued.cert_file.clone(),
        key_file: issued.key_file.clone(),
    };
    let (a, b, star) = (ca.issue("a.test"), ca.issue("b.test"), ca.issue("*.c.test"));
    let context = build(&TlsSettings {
        certs: vec![files(&a), files(&b), files(&star)],
        ..TlsSettings::default()
    });
    let shown = |host: &str| {
        let mut pair = Pair::named(&Arc::new(ca.client()), &context, host);
        let outcome = pair.run();
        let certs = pair.client.peer_certificates();
        (outcome.is_ok(), certs.map(|certs| certs[0].clone()))
    };
    assert_eq!(shown("a.test"), (true, Some(a.cert.clone())));
    assert_eq!(shown("b.test"), (true, Some(b.cert.clone())));
    assert_eq!(shown("x.c.test"), (true, Some(star.cert.clone())));
    // Nobody's name gets the first identity, which this client then does not accept.
    let (ok, _) = shown("d.test");
    assert!(!ok);
}

#[test]
fn min_version_refuses_older_clients() {
    let ca = Authority::new("ca");
    let context =
        build(&TlsSettings { min_version: TlsVersion::V1_3, ..settings(&ca.issue("localhost")) });
    let old = Arc::new(ca.client_of(&[&rustls::version::TLS12], None));
    let mut pair = Pair::new(&old, &context);
    assert!(matches!(pair.run(), Err(TlsError::Protocol(_))));
    // The alert reached the client: it knows why.
    let verdict = pair.client.process_new_packets().unwrap_err();
    let expected = rustls::AlertDescription::ProtocolVersion;
    assert_eq!(verdict, rustls::Error::AlertReceived(expected));
    let new = ca.client_of(&[&rustls::version::TLS13], None);
    assert!(connect(new, &context).is_ok());
}
