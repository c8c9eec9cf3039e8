//! Logins, permissions, accounts and reloads through the official client library.

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use futures_util::StreamExt;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::nkeys::UserKey;
use crate::support::{Server, settle, within};

fn user(name: &str, password: &str) -> ConnectOptions {
    ConnectOptions::with_user_and_password(String::from(name), String::from(password))
}

async fn connect(server: &Server, options: ConnectOptions) -> Client {
    within("a connection", options.connect(server.url())).await.unwrap()
}

async fn expect_violation(server: &Server, options: ConnectOptions) {
    let error = within("a refusal", options.connect(server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::AuthorizationViolation);
}

/// A client whose events arrive in a queue.
async fn watched(server: &Server, options: ConnectOptions) -> (Client, UnboundedReceiver<Event>) {
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    let options = options.event_callback(move |event| {
        let sender = sender.clone();
        // The test may have ended already and dropped the other end.
        async move { drop(sender.send(event)) }
    });
    (connect(server, options).await, events)
}

async fn event(events: &mut UnboundedReceiver<Event>, wanted: &str) {
    let found = async {
        while let Some(event) = events.recv().await {
            if event.to_string().contains(wanted) {
                return;
            }
        }
        panic!("no event {wanted:?}");
    };
    within(wanted, found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password() {
    let server = Server::with_config("authorization { user: alice, password: secret }");
    connect(&server, user("alice", "secret")).await;
    expect_violation(&server, user("alice", "wrong")).await;
    expect_violation(&server, ConnectOptions::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token() {
    let server = Server::with_config("authorization { token: t0ken }");
    connect(&server, ConnectOptions::with_token(String::from("t0ken"))).await;
    expect_violation(&server, ConnectOptions::with_token(String::from("other"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bcrypt_passwords_of_many_at_once_do_not_hold_up_others() {
    let hash = bcrypt::hash("secret", 8).unwrap();
    let server = Server::with_config(&format!(
        "authorization {{ users = [ {{ user: slow, password: \"{hash}\" }}, \
         {{ user: fast, password: p }} ] }}"
    ));
    let fast = connect(&server, user("fast", "p")).await;
    let mut subscriber = fast.subscribe("ticks").await.unwrap();
    let logins: Vec<_> = (0..16)
        .map(|_| {
            let url = server.url();
            tokio::spawn(async move { user("slow", "secret").connect(url).await.is_ok() })
        })
        .collect();
    for _ in 0..50 {
        fast.publish("ticks", "x".into()).await.unwrap();
        within("a tick", subscriber.next()).await.unwrap();
    }
    for login in logins {
        assert!(within("a slow login", login).await.unwrap());
    }
    expect_violation(&server, user("slow", &hash)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nkey_by_seed() {
    let key = UserKey::named("alice");
    let server = Server::with_config(&format!(
        "authorization {{ users = [ {{ nkey: {} }} ] }}",
        key.public()
    ));
    connect(&server, ConnectOptions::with_nkey(key.seed())).await;
    let other = UserKey::named("mallory");
    expect_violation(&server, ConnectOptions::with_nkey(other.seed())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permission_errors_reach_the_client_and_keep_the_connection() {
    let server = Server::with_config(
        "authorization { users = [ { user: u, password: p, permissions: \
         { publish: \"ok.>\", subscribe: [\"ok.>\", \"_INBOX.>\"] } } ] }",
    );
    let (client, mut events) = watched(&server, user("u", "p")).await;
    client.publish("no.way", "x".into()).await.unwrap();
    event(&mut events, r#"Permissions Violation for Publish to "no.way""#).await;
    let _denied = client.subscribe("no.>").await.unwrap();
    event(&mut events, r#"Permissions Violation for Subscription to "no.>""#).await;
    let mut allowed = client.subscribe("ok.*").await.unwrap();
    client.publish("ok.go", "x".into()).await.unwrap();
    assert_eq!(within("a message", allowed.next()).await.unwrap().payload, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_do_not_hear_each_other() {
    let server = Server::with_config(
        "accounts { A { users = [ { user: a, password: p } ] }, \
         B { users = [ { user: b, password: p } ] } }",
    );
    let (in_a, in_b) =
        (connect(&server, user("a", "p")).await, connect(&server, user("b", "p")).await);
    let mut from_a = in_a.subscribe(">").await.unwrap();
    let mut from_b = in_b.subscribe(">").await.unwrap();
    in_a.publish("x", "for a".into()).await.unwrap();
    in_b.publish("x", "for b".into()).await.unwrap();
    assert_eq!(within("a's own", from_a.next()).await.unwrap().payload, "for a");
    assert_eq!(within("b's own", from_b.next()).await.unwrap().payload, "for b");
    in_a.publish("x", "again a".into()).await.unwrap();
    assert_eq!(within("a's own", from_a.next()).await.unwrap().payload, "again a");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_adds_and_removes_users_without_touching_others() {
    let both =
        "authorization { users = [ { user: stays, password: p }, { user: goes, password: p } ] }";
    let server = Server::with_config(both);
    let (stays, mut stays_events) = watched(&server, user("stays", "p")).await;
    let (_goes, mut goes_events) = watched(&server, user("goes", "p")).await;
    let mut subscriber = stays.subscribe("still").await.unwrap();
    let line = server.reload(
        "authorization { users = [ { user: stays, password: p }, { user: comes, password: p } ] }",
    );
    assert!(line.contains("Reloaded server configuration"), "{line}");
    event(&mut goes_events, "disconnected").await;
    let comes = connect(&server, user("comes", "p")).await;
    settle(&stays, &comes).await;
    comes.publish("still", "here".into()).await.unwrap();
    assert_eq!(within("a message", subscriber.next()).await.unwrap().payload, "here");
    while let Ok(event) = stays_events.try_recv() {
        assert!(!matches!(event, Event::Disconnected), "an unchanged user was disconnected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_of_a_bad_file_changes_nothing() {
    let server = Server::with_config("authorization { user: u, password: p }");
    let client = connect(&server, user("u", "p")).await;
    for bad in ["authorization { user: u, password: p\n", "no_such_key: 1", "server_name: other"] {
        let line = server.reload(bad);
        assert!(line.contains("Failed to reload server configuration"), "{bad}: {line}");
    }
    client.flush().await.unwrap();
    connect(&server, user("u", "p")).await;
    expect_violation(&server, ConnectOptions::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_limit_is_told_and_kept() {
    let server = Server::with_config("max_payload: 1000");
    let client = connect(&server, ConnectOptions::new()).await;
    assert_eq!(client.max_payload(), 1000);
    let mut subscriber = client.subscribe("p").await.unwrap();
    client.publish("p", vec![7; 1000].into()).await.unwrap();
    assert_eq!(within("a message", subscriber.next()).await.unwrap().payload.len(), 1000);
    assert!(client.publish("p", vec![7; 1001].into()).await.is_err());
}
