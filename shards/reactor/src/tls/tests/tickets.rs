//! Session tickets: worth something only to the configuration that gave them.

use super::*;

/// Connects, and says whether the earlier session was resumed.
fn resumed(client: &Arc<ClientConfig>, server: &TlsContext) -> Result<bool, TlsError> {
    let mut pair = Pair::new(client, server);
    pair.client_write(b"PING\r\n");
    let outcome = pair.run();
    if outcome.is_err() {
        assert!(pair.plain.is_empty());
    }
    outcome?;
    assert_eq!(pair.plain, b"PING\r\n");
    Ok(pair.server.is_resumed())
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

#[test]
fn a_ticket_resumes_on_the_same_configuration_only() {
    let ca = Authority::new("ca");
    let identity = ca.issue("localhost");
    let (first, second) = (build(&settings(&identity)), build(&settings(&identity)));
    for version in VERSIONS {
        let client = Arc::new(ca.client_of(&[version], None));
        assert!(!resumed(&client, &first).unwrap());
        assert!(resumed(&client, &first).unwrap());
        // The same settings, built for another listener: refused, a full handshake follows.
        assert!(!resumed(&client, &second).unwrap());
        assert!(resumed(&client, &second).unwrap());
    }
}

#[test]
fn after_a_change_of_the_ca_old_tickets_do_not_authenticate() {
    let server_ca = Authority::new("server ca");
    let (old_ca, new_ca) = (Authority::new("old ca"), Authority::new("new ca"));
    let identity = server_ca.issue("localhost");
    let with_ca = |ca: &Authority| {
        build(&TlsSettings { ca_file: Some(ca.ca_file()), verify: true, ..settings(&identity) })
    };
    let (before, after) = (with_ca(&old_ca), with_ca(&new_ca));
    for version in VERSIONS {
        let certified = old_ca.issue("client");
        let client = Arc::new(server_ca.client_of(&[version], Some(&certified)));
        assert!(!resumed(&client, &before).unwrap());
        assert!(resumed(&client, &before).unwrap());
        assert!(resumed(&client, &after).is_err());
    }
}

#[test]
fn a_resumed_client_keeps_its_identity_and_its_pin() {
    let ca = Authority::new("ca");
    let certified = ca.issue("client");
    let pin = data_encoding::HEXUPPER.encode(&spki_sha256(&certified.cert).unwrap());
    let context = build(&TlsSettings {
        ca_file: Some(ca.ca_file()),
        verify: true,
        pinned_certs: vec![pin],
        ..settings(&ca.issue("localhost"))
    });
    let client = Arc::new(ca.client_with(&certified));
    assert!(!resumed(&client, &context).unwrap());
    let mut pair = Pair::new(&client, &context);
    pair.run().unwrap();
    assert!(pair.server.is_resumed());
    assert_eq!(pair.server.leaf_der(), Some(certified.cert.as_ref()));
}
