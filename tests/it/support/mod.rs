//! What every black-box test needs: a server process, a raw connection, certificates, keys and
//! an HTTP look-up. Nothing here knows how the server works inside.

pub(crate) mod http;
pub(crate) mod nkeys;
pub(crate) mod raw;
pub(crate) mod server;
pub(crate) mod tls;

use std::time::Duration;

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

/// Calls `probe` until it answers or [`DEADLINE`] has passed.
///
/// For states that a server shows only on request (monitoring pages, files, `/proc`).
pub(crate) fn poll<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
