//! Handshakes and records: versions, splitting, sizes, damage and goodbye.

use super::*;

#[test]
fn both_versions_complete_and_are_named() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    for (version, name, suite) in [
        (&rustls::version::TLS13, "1.3", "TLS_AES_128_GCM_SHA256"),
        (&rustls::version::TLS12, "1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ] {
        let client = Arc::new(ca.client_of(&[version], None));
        let mut pair = Pair::new(&client, &context);
        pair.client_write(b"CONNECT {}\r\nPING\r\n");
        assert!(!pair.server.is_handshake_done());
        pair.run().unwrap();
        assert!(pair.server.is_handshake_done());
        assert_eq!(pair.completions, 1);
        // What the client sent right behind its Finished is there.
        assert_eq!(pair.plain, b"CONNECT {}\r\nPING\r\n");
        assert_eq!(pair.server.version_name(), Some(name));
        assert_eq!(pair.server.cipher_suite_name(), Some(suite));
        assert_eq!(pair.server.server_name(), Some("localhost"));
        assert!(pair.server.peer_certs().is_empty());

        let mut cipher = Vec::new();
        pair.server.write_plain(b"PONG\r\n", &mut cipher).unwrap();
        pair.to_client = cipher;
        pair.feed_client();
        assert_eq!(pair.client_plain(), b"PONG\r\n");
    }
}

#[test]
fn any_split_of_the_input_gives_the_same() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = Arc::new(ca.client_of(&[version], None));
        for piece in [1, 2, 5, 7, 64, 4095, 4096, 4097] {
            let mut pair = Pair::new(&client, &context);
            pair.piece = piece;
            let text = vec![b'x'; 40_000];
            pair.client_write(&text);
            pair.run().unwrap();
            assert_eq!(pair.completions, 1, "piece {piece}");
            assert!(pair.plain == text, "piece {piece}");
        }
    }
}

#[test]
fn large_data_passes_both_ways_in_one_call() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let mut pair = Pair::new(&Arc::new(ca.client()), &context);
    pair.run().unwrap();
    let data: Vec<u8> =
        (0..3_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    pair.client_write(&data);
    pair.run().unwrap();
    assert!(pair.plain == data);

    let mut cipher = Vec::new();
    pair.server.write_plain(&data, &mut cipher).unwrap();
    assert!(!pair.server.wants_write());
    let mut got = Vec::new();
    for piece in cipher.chunks(10_000) {
        pair.to_client = piece.to_vec();
        pair.feed_client();
        got.extend(pair.client_plain());
    }
    assert!(got == data);
}

#[test]
fn writes_before_the_handshake_go_out_behind_it_and_are_bounded() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let mut pair = Pair::new(&Arc::new(ca.client()), &context);
    let mut cipher = Vec::new();
    pair.server.write_plain(b"INFO {}\r\n", &mut cipher).unwrap();
    assert!(cipher.is_empty());
    pair.run().unwrap();
    assert_eq!(pair.client_plain(), b"INFO {}\r\n");

    let mut pair = Pair::new(&Arc::new(ca.client()), &context);
    let chunk = [0; 32 * 1024];
    pair.server.write_plain(&chunk, &mut cipher).unwrap();
    pair.server.write_plain(&chunk, &mut cipher).unwrap();
    let third = pair.server.write_plain(&chunk, &mut cipher);
    assert!(matches!(third, Err(TlsError::EarlyWrite)));
}

#[test]
fn plain_text_is_refused_without_an_answer() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let mut session = TlsSession::new(&context).unwrap();
    let (mut plain, mut cipher) = (Vec::new(), Vec::new());
    let error = session.handle_ciphertext(b"CONNECT {}\r\n", &mut plain, &mut cipher).unwrap_err();
    assert!(matches!(error, TlsError::NotTls));
    assert_eq!(error.to_string(), "tls: first record does not look like a TLS handshake");
    assert!(plain.is_empty() && cipher.is_empty());
}

#[test]
fn garbage_ends_the_session() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let mut random = 7_u32;
    for round in 0..200_usize {
        let mut input = vec![0x16, 3, 1, 0, 40];
        for _ in 0..round {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            input.push(random.to_be_bytes()[0]);
        }
        let mut session = TlsSession::new(&context).unwrap();
        let (mut plain, mut cipher) = (Vec::new(), Vec::new());
        let outcome = session.handle_ciphertext(&input, &mut plain, &mut cipher);
        assert!(plain.is_empty());
        if round >= 40 {
            assert!(outcome.is_err(), "round {round}");
            // Nothing or an alert (content type 21), as far as there was a record at all.
            assert!(matches!(cipher.first(), None | Some(0x15)), "round {round}");
            // The session stays failed, whatever follows.
            let again = session.handle_ciphertext(&input, &mut plain, &mut cipher);
            assert!(again.is_err());
        }
    }
}

#[test]
fn a_flipped_bit_in_a_record_is_noticed() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let mut pair = Pair::new(&Arc::new(ca.client()), &context);
    pair.run().unwrap();
    pair.client_write(b"PUB a 1\r\nx\r\n");
    let mut record = Vec::new();
    pair.client.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    let (mut plain, mut cipher) = (Vec::new(), Vec::new());
    let outcome = pair.server.handle_ciphertext(&record, &mut plain, &mut cipher);
    assert!(matches!(outcome, Err(TlsError::Protocol(_))));
    assert!(plain.is_empty());
    assert!(!cipher.is_empty());
}

#[test]
fn an_oversized_record_is_refused() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let mut pair = Pair::new(&Arc::new(ca.client()), &context);
    pair.run().unwrap();
    let mut record = vec![0x17, 3, 3, 0xff, 0xff];
    record.resize(5 + 0xffff, 0);
    let (mut plain, mut cipher) = (Vec::new(), Vec::new());
    let outcome = pair.server.handle_ciphertext(&record, &mut plain, &mut cipher);
    assert!(outcome.is_err());
    assert!(plain.is_empty());
}

#[test]
fn end_of_socket_is_clean_only_after_close_notify() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let client = Arc::new(ca.client());

    let mut session = TlsSession::new(&context).unwrap();
    assert!(matches!(session.handle_eof(), Err(TlsError::Truncated)));

    let mut pair = Pair::new(&client, &context);
    pair.run().unwrap();
    assert!(matches!(pair.server.handle_eof(), Err(TlsError::Truncated)));

    let mut pair = Pair::new(&client, &context);
    pair.run().unwrap();
    pair.client_write(b"last");
    pair.client.send_close_notify();
    let mut bytes = Vec::new();
    while pair.client.wants_write() {
        pair.client.write_tls(&mut bytes).unwrap();
    }
    bytes.extend_from_slice(b"trailing bytes behind the goodbye");
    let (mut plain, mut cipher) = (Vec::new(), Vec::new());
    let progress = pair.server.handle_ciphertext(&bytes, &mut plain, &mut cipher).unwrap();
    assert!(progress.peer_closed);
    assert_eq!(plain, b"last");
    pair.server.handle_eof().unwrap();
}

#[test]
fn our_goodbye_reaches_the_client() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let mut pair = Pair::new(&Arc::new(ca.client()), &context);
    pair.run().unwrap();
    let mut cipher = Vec::new();
    pair.server.write_plain(b"-ERR 'bye'\r\n", &mut cipher).unwrap();
    pair.server.close(&mut cipher);
    pair.to_client = cipher;
    pair.feed_client();
    let mut plain = Vec::new();
    // Reads to a clean end: without close_notify this fails.
    pair.client.reader().read_to_end(&mut plain).unwrap();
    assert_eq!(plain, b"-ERR 'bye'\r\n");
}

#[test]
fn a_key_update_of_the_client_is_answered() {
    let ca = Authority::new("ca");
    let context = build(&settings(&ca.issue("localhost")));
    let mut pair = Pair::new(&Arc::new(ca.client()), &context);
    pair.run().unwrap();
    for round in 0..5_u8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client_write(&[round]);
        pair.run().unwrap();
        let mut cipher = Vec::new();
        pair.server.write_plain(&[round], &mut cipher).unwrap();
        pair.to_client = cipher;
        pair.feed_client();
        assert_eq!(pair.client_plain(), [round]);
    }
    assert_eq!(pair.plain, [0, 1, 2, 3, 4]);
}
