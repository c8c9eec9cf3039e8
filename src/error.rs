//! Why the process could not start, said the way nats-server says it.
//!
//! Tools that start the server read standard error and the exit code: one line
//! `nats-server: <text>` and the code 1. Texts of the operating system are spelled as
//! nats-server spells them (`open /x: no such file or directory`), because they are grepped.

use std::io;
use std::path::Path;

use thiserror::Error;

/// Exit code of an orderly end: an operator's stop, `--help`, `--version`, a valid `-t`.
pub const EXIT_OK: u8 = 0;

/// Exit code of every start that failed.
pub const EXIT_FAILED: u8 = 1;

/// Whatever keeps the process from serving. `Display` is the text without the prefix.
#[derive(Debug, Error)]
pub enum StartError {
    /// The command line or the configuration is wrong. The text may have several lines,
    /// one per fault, each with its own file, line and column.
    #[error("{0}")]
    Config(String),

    /// A signal sub-command failed.
    #[error(transparent)]
    Signal(#[from] crate::signal_command::SignalError),

    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] crate::logging::LogError),

    /// The pid file could not be written.
    #[error("Could not write pidfile: {0}")]
    PidFile(String),

    /// The start-up probe found something without which nothing can work.
    #[error("{0}")]
    Probe(String),

    /// An address could not be listened on.
    #[error("Error listening on port: {address}, {reason:?}")]
    Listen {
        /// The address as configured.
        address: String,
        /// The operating system's text.
        reason: String,
    },

    /// What should be the directory of JetStream, or above it, is a file.
    #[error("Can't start JetStream: storage directory is not a directory: {0:?}")]
    NoStoreDirectory(String),

    /// Another process has the directory of JetStream, and kept it.
    #[error("Can't start JetStream: another process uses the storage directory {0:?}")]
    StoreInUse(String),

    /// The directory of JetStream cannot be used.
    #[error("Can't start JetStream: could not use storage directory {dir:?}: {}", os_text(.source))]
    Store {
        /// The directory.
        dir: String,
        /// The operating system's text.
        source: io::Error,
    },

    /// A thread or another resource of the operating system was refused.
    #[error("{what}: {}", os_text(.source))]
    Os {
        /// What was being done.
        what: &'static str,
        /// The refusal.
        source: io::Error,
    },
}

impl StartError {
    /// The line (or lines) for standard error, without the final newline.
    #[must_use]
    pub fn report(&self) -> String {
        fatal_text(&self.to_string())
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        EXIT_FAILED
    }
}

/// `nats-server: <text>`, the prefix that tools look for.
#[must_use]
pub fn fatal_text(text: &str) -> String {
    format!("nats-server: {text}")
}

/// The operating system's text in nats-server's spelling: no error number, first letter small.
#[must_use]
pub fn os_text(error: &io::Error) -> String {
    let full = error.to_string();
    let text = match full.rfind(" (os error ") {
        Some(at) => full.get(..at).unwrap_or(&full),
        None => &full,
    };
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// `open /x: no such file or directory`: an operation on a path, as nats-server words it.
#[must_use]
pub fn path_error(operation: &str, path: &Path, error: &io::Error) -> String {
    format!("{operation} {}: {}", path.display(), os_text(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_errors_read_like_nats_server() {
        let missing = std::fs::File::open("/nonexistent/x").unwrap_err();
        let said = path_error("open", Path::new("/nonexistent/x"), &missing);
        assert_eq!(said, "open /nonexistent/x: no such file or directory");
        let directory = std::fs::OpenOptions::new().write(true).open("/").unwrap_err();
        assert_eq!(os_text(&directory), "is a directory");
        assert_eq!(os_text(&io::Error::other("Plain text")), "plain text");
        assert_eq!(os_text(&io::Error::other("")), "");
    }

    #[test]
    fn the_report_carries_the_prefix_once() {
        let error = StartError::Config("a.conf:1:1: unknown field \"x\"\nb".into());
        assert_eq!(error.report(), "nats-server: a.conf:1:1: unknown field \"x\"\nb");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn refused_listeners_name_the_address() {
        let error = StartError::Listen { address: "0.0.0.0:4222".into(), reason: "in use".into() };
        assert_eq!(error.to_string(), "Error listening on port: 0.0.0.0:4222, \"in use\"");
    }
}
