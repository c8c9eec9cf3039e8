//! What a `tls` block may say, and what is said about it.

use super::*;

#[test]
fn every_error_is_reported_and_names_its_file() {
    let ca = Authority::new("ca");
    let identity = ca.issue("localhost");
    let junk = ca.dir.path().join("junk.pem");
    std::fs::write(&junk, "junk").unwrap();
    let missing = ca.dir.path().join("missing.pem");
    let errors = TlsContext::build(
        &TlsSettings {
            cert_file: Some(missing.clone()),
            ca_file: Some(junk.clone()),
            verify: true,
            cipher_suites: vec!["FOO".into()],
            curve_preferences: vec!["BAR".into()],
            pinned_certs: vec!["xx".into()],
            ..settings(&identity)
        },
        NOW_S,
    )
    .err()
    .unwrap();
    let pair = "error parsing X509 certificate/key pair";
    assert_eq!(
        texts(&errors),
        [
            "unrecognized cipher FOO".to_owned(),
            "unrecognized curve preference BAR".to_owned(),
            format!("{pair}: open {}: no such file or directory", missing.display()),
            "error parsing tls config, 'pinned_certs' key xx does not look like hex-encoded \
             sha256 of DER encoded SubjectPublicKeyInfo"
                .to_owned(),
            format!("failed to parse root ca certificate ({})", junk.display()),
        ]
    );
}

#[test]
fn certificate_and_key_have_to_fit() {
    let ca = Authority::new("ca");
    let (one, two) = (ca.issue("one"), ca.issue("two"));
    let junk = ca.dir.path().join("junk.pem");
    std::fs::write(&junk, "junk").unwrap();
    let first_error = |settings: TlsSettings| {
        let errors = TlsContext::build(&settings, NOW_S).err().unwrap();
        assert_eq!(errors.len(), 1);
        errors[0].to_string()
    };
    let mixed = first_error(TlsSettings { key_file: Some(two.key_file.clone()), ..settings(&one) });
    assert!(mixed.contains("tls: private key does not match public key"), "{mixed}");
    assert!(mixed.contains("one-cert.pem") && mixed.contains("two-key.pem"), "{mixed}");
    let no_cert = first_error(TlsSettings { cert_file: Some(junk.clone()), ..settings(&one) });
    assert!(no_cert.contains("failed to find any PEM data in certificate input"), "{no_cert}");
    let no_key =
        first_error(TlsSettings { key_file: Some(one.cert_file.clone()), ..settings(&one) });
    assert!(no_key.contains("failed to find any PEM data in key input"), "{no_key}");
    let half = first_error(TlsSettings { key_file: None, ..settings(&one) });
    assert_eq!(half, "missing 'key_file' in TLS configuration");
    let both = first_error(TlsSettings {
        certs: vec![IdentityFiles {
            cert_file: two.cert_file.clone(),
            key_file: two.key_file.clone(),
        }],
        ..settings(&one)
    });
    assert!(both.contains("cannot combine 'cert_file' option with 'certs' option"), "{both}");
    let none = first_error(TlsSettings::default());
    assert!(none.starts_with("TLS needs a certificate"), "{none}");
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let ca = Authority::new("ca");
    let identity = ca.issue("localhost");
    let context = build(&settings(&identity));
    assert!(context.warnings().is_empty());
    let end_s = context.cert_not_after_s();
    assert!(end_s > NOW_S);
    let late = TlsContext::build(&settings(&identity), end_s + 1).ok().unwrap();
    assert_eq!(late.warnings().len(), 1);
    assert!(late.warnings()[0].contains("expired"), "{:?}", late.warnings());
    assert!(late.warnings()[0].contains("localhost-cert.pem"));
    let early = TlsContext::build(&settings(&identity), 0).ok().unwrap();
    assert!(early.warnings()[0].contains("not valid before"), "{:?}", early.warnings());
}

#[test]
fn configured_suites_are_the_only_ones() {
    let ca = Authority::new("ca");
    let identity = ca.issue("localhost");
    let suite_of = |names: &[&str], version| {
        let context = build(&TlsSettings {
            cipher_suites: names.iter().map(|name| (*name).to_owned()).collect(),
            ..settings(&identity)
        });
        let mut pair = Pair::new(&Arc::new(ca.client_of(&[version], None)), &context);
        let done = pair.run().is_ok();
        let suite = pair.server.cipher_suite_name();
        (done, context.warnings().len(), suite.filter(|_| done))
    };
    let (v12, v13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    let ecdsa_256 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    assert_eq!(suite_of(&[ecdsa_256], v12), (true, 0, Some(ecdsa_256)));
    // A list of TLS 1.2 names leaves TLS 1.3 as it is.
    assert_eq!(suite_of(&[ecdsa_256], v13), (true, 0, Some("TLS_AES_128_GCM_SHA256")));
    let chacha = "TLS_CHACHA20_POLY1305_SHA256";
    assert_eq!(suite_of(&[chacha], v13), (true, 0, Some(chacha)));
    assert_eq!(suite_of(&[chacha], v12), (false, 0, None));
    let cbc = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA";
    assert_eq!(suite_of(&[ecdsa_256, cbc], v12), (true, 1, Some(ecdsa_256)));
}

#[test]
fn names_that_are_not_served_are_refused_with_advice_when_alone() {
    let ca = Authority::new("ca");
    let identity = ca.issue("localhost");
    for name in cipher_suite_names() {
        let built = TlsContext::build(
            &TlsSettings { cipher_suites: vec![name.to_owned()], ..settings(&identity) },
            NOW_S,
        );
        let served = !name.contains("CBC") && !name.contains("RC4") && !name.contains("TLS_RSA");
        match built {
            Ok(_) => assert!(served, "{name}"),
            Err(errors) => {
                let text = errors[0].to_string();
                assert!(!served && text.contains(name) && text.contains("use "), "{text}");
            }
        }
    }
}

#[test]
fn curves_are_restricted_and_ordered() {
    let ca = Authority::new("ca");
    let identity = ca.issue("localhost");
    let with = |names: &[&str]| TlsSettings {
        curve_preferences: names.iter().map(|name| (*name).to_owned()).collect(),
        ..settings(&identity)
    };
    // The list that nats-server's own help shows.
    let context = build(&with(&["CurveP256", "CurveP384", "CurveP521"]));
    assert_eq!(context.warnings().len(), 1);
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    assert!(Pair::new(&Arc::new(client), &context).run().is_err());
    assert!(Pair::new(&Arc::new(ca.client()), &context).run().is_ok());

    let errors = TlsContext::build(&with(&["CurveP521"]), NOW_S).err().unwrap();
    assert!(errors[0].to_string().contains("use CurveP384"));
}
