//! What every black-box test needs: a server process, a raw connection, certificates, keys and
//! an HTTP look-up. Nothing here knows how the server works inside.

pub(crate) mod http;
pub(crate) mod nkeys;
pub(crate) mod raw;
pub(crate) mod server;
pub(crate) mod tls;

use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;

/// How long a test waits for something that must happen before it gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) use raw::Conn;
pub(crate) use server::Server;

/// Awaits `future` for at most [`DEADLINE`] and fails the test with `what` beyond that.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {DEADLINE:?} in vain: {what}"),
    }
}

/// Returns when everything that `earlier` sent, subscriptions too, is in force for what `later`
/// publishes: `later` has heard from `earlier`.
///
/// The library's own `flush` empties its buffer and waits for no answer of the server.
pub(crate) async fn settle(earlier: &Client, later: &Client) {
    let inbox = later.new_inbox();
    let mut heard = later.subscribe(inbox.clone()).await.unwrap();
    let hearing = async {
        loop {
            earlier.publish(inbox.clone(), "settle".into()).await.unwrap();
            if tokio::time::timeout(Duration::from_millis(50), heard.next()).await.is_ok() {
                return;
            }
        }
    };
    within("one client hears the other", hearing).await;
}

/// Calls `probe` until it answers or [`DEADLINE`] has passed.
///
/// For states that a server shows only on request (monitoring pages, files, `/proc`).
pub(crate) fn poll<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
