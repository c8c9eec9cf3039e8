//! TLS on client connections: required, verified, first, optional, reloaded.

use async_nats::{ConnectErrorKind, ConnectOptions};
use futures_util::StreamExt;

use crate::support::tls::{Authority, TlsStream};
use crate::support::{Conn, Server, http, poll, within};

fn trusting(authority: &Authority) -> ConnectOptions {
    ConnectOptions::new().add_root_certificates(authority.path("ca.pem"))
}

fn certified(authority: &Authority) -> ConnectOptions {
    let (cert, key) = (authority.path("client-cert.pem"), authority.path("client-key.pem"));
    trusting(authority).add_client_certificate(cert, key)
}

async fn expect_service(server: &Server, options: ConnectOptions) {
    let client = within("a connection", options.connect(server.url())).await.unwrap();
    let mut subscriber = client.subscribe("secret").await.unwrap();
    let payload = vec![b's'; 200_000];
    client.publish("secret", payload.clone().into()).await.unwrap();
    assert!(within("a message", subscriber.next()).await.unwrap().payload == payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_tls_serves_who_trusts_the_authority() {
    let authority = Authority::new("one");
    let server = Server::with_config(&authority.block(""));
    let mut conn = Conn::open(server.port);
    assert_eq!(conn.read_info()["tls_required"], true);
    drop(conn);
    expect_service(&server, trusting(&authority)).await;
    let stranger = Authority::new("two");
    let refused = within("a refusal", trusting(&stranger).connect(server.url())).await;
    assert!(refused.is_err());
}

#[test]
fn plain_bytes_on_a_tls_port_are_refused() {
    let authority = Authority::new("one");
    let server = Server::with_config(&authority.block(""));
    let mut conn = Conn::greeted(server.port);
    conn.send("CONNECT {}\r\nPING\r\n");
    let said = conn.read_to_close();
    assert!(said.is_empty() || said.contains("Secure Connection - TLS Required"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_demands_a_certificate_of_the_client() {
    let authority = Authority::new("one");
    let server = Server::with_config(&authority.block("verify: true"));
    expect_service(&server, certified(&authority)).await;
    let without = within("a refusal", trusting(&authority).connect(server.url())).await;
    assert!(without.is_err(), "a client without a certificate got in");
    let stranger = Authority::new("two");
    let (cert, key) = (stranger.path("client-cert.pem"), stranger.path("client-key.pem"));
    let foreign = trusting(&authority).add_client_certificate(cert, key);
    assert!(within("a refusal", foreign.connect(server.url())).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_first_serves_before_the_greeting() {
    let authority = Authority::new("one");
    let server = Server::with_config(&authority.block("handshake_first: true"));
    expect_service(&server, trusting(&authority).tls_first()).await;
}

#[test]
fn handshake_first_auto_serves_both_kinds() {
    let authority = Authority::new("one");
    let server = Server::with_config(&authority.block("handshake_first: auto"));
    let socket = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut first = Conn::over(Box::new(TlsStream::new(authority.client(false), socket)));
    first.send("");
    assert_eq!(first.read_info()["headers"], true);
    first.send("CONNECT {\"verbose\":false}\r\n");
    first.sync();
    let mut later = Conn::greeted(server.port);
    assert_eq!(later.info["tls_required"], true);
    later = later.start_tls(authority.client(false));
    later.send("CONNECT {\"verbose\":false}\r\n");
    later.sync();
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_tls_serves_plain_clients_too() {
    let authority = Authority::new("one");
    let server = Server::with_config(&format!("allow_non_tls: true\n{}", authority.block("")));
    let info = Conn::greeted(server.port).info;
    assert_eq!(info["tls_available"], true, "{info}");
    expect_service(&server, ConnectOptions::new()).await;
    expect_service(&server, trusting(&authority).require_tls(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_reload_with_the_configuration() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = Server::with_config(&old.block(""));
    let stays = within("a connection", trusting(&old).connect(server.url())).await.unwrap();
    let line = server.reload(&new.block(""));
    assert!(line.contains("Reloaded server configuration"), "{line}");
    expect_service(&server, trusting(&new)).await;
    assert!(within("a refusal", trusting(&old).connect(server.url())).await.is_err());
    within("a flush", stays.flush()).await.unwrap();
}

#[test]
fn a_new_authority_ends_trust_in_certificates_of_the_old_one() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = Server::with_config(&old.block("verify: true"));
    let settings = old.client(true);
    let mut before = Conn::greeted(server.port).start_tls(settings.clone());
    before.send("CONNECT {\"verbose\":false}\r\n");
    before.sync();
    drop(before);
    let file = |name: &str| new.path(name).display().to_string();
    let swapped = old
        .block("verify: true")
        .replace(&old.path("ca.pem").display().to_string(), &file("ca.pem"));
    let line = server.reload(&swapped);
    assert!(line.contains("Reloaded server configuration"), "{line}");
    // The same settings hold the session tickets of the first connection.
    let mut after = Conn::greeted(server.port).start_tls(settings);
    let sent = after.try_send("CONNECT {\"verbose\":false}\r\nPING\r\n");
    let said = if sent.is_ok() { after.read_to_close() } else { String::new() };
    assert!(!said.contains("PONG"), "an old certificate or ticket was taken");
}

#[test]
fn connz_tells_the_version_and_the_cipher() {
    let authority = Authority::new("one");
    let server = Server::monitored(&authority.block(""));
    let mut conn = Conn::greeted(server.port).start_tls(authority.client(false));
    conn.send("CONNECT {\"verbose\":false}\r\n");
    conn.sync();
    let info = poll("the connection", || {
        let page = http::json(&server, "/connz");
        page["connections"].get(0).cloned()
    });
    assert_eq!(info["tls_version"], "1.3", "{info}");
    assert!(info["tls_cipher_suite"].as_str().is_some_and(|suite| suite.starts_with("TLS_")));
}

#[test]
fn a_handshake_that_never_comes_is_closed() {
    let authority = Authority::new("one");
    let server = Server::with_config(&authority.block("timeout: 0.5"));
    let mut conn = Conn::greeted(server.port);
    conn.read_to_close();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_version_is_kept() {
    let authority = Authority::new("one");
    let server = Server::with_config(&authority.block("min_version: \"1.3\""));
    expect_service(&server, trusting(&authority)).await;
    let old_only = authority.client_of_tls12();
    let options = ConnectOptions::new().tls_client_config(old_only).require_tls(true);
    let error = within("a refusal", options.connect(server.url())).await.unwrap_err();
    assert!(matches!(error.kind(), ConnectErrorKind::Tls | ConnectErrorKind::Io), "{error:?}");
}
