//! What can go wrong while load is made, in one enum: every failure ends a run loudly.

use std::io;

/// The one error type of the harness; its text is what the user reads.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A system call failed; `what` says during which step.
    #[error("{what}: {source}")]
    Io {
        /// The step that failed.
        what: String,
        /// The error of the system call.
        source: io::Error,
    },
    /// The server sent bytes that the protocol or the scenario does not allow.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The server answered with `-ERR`.
    #[error("server said -ERR {0}")]
    Refused(String),
    /// The server closed a connection that the scenario needs.
    #[error("closed by the server: {0}")]
    Closed(String),
    /// JetStream answered with an error, or refused a message.
    #[error("JetStream {what}: {text}")]
    Api {
        /// The API call, or what was published.
        what: String,
        /// Code and description as the server gave them.
        text: String,
    },
    /// Something did not happen within its time.
    #[error("timed out: {0}")]
    Timeout(String),
    /// Messages were lost, doubled or out of order.
    #[error("count check failed: {0}")]
    Count(String),
    /// The options make no sense together.
    #[error("usage: {0}")]
    Usage(String),
    /// A server under test could not be started, stopped or read.
    #[error("server: {0}")]
    Server(String),
    /// TLS configuration or handshake failed.
    #[error("tls: {0}")]
    Tls(String),
}

/// Short form used all over the harness.
pub type Result<T> = std::result::Result<T, HarnessError>;

/// Adds the step to an `io::Error`.
pub trait During<T> {
    /// Names the step during which the error came.
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| HarnessError::Io { what: what.into(), source: source.into() })
    }
}
