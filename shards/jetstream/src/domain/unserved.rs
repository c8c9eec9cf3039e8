//! What the disk holds and is not served: it is named by health probes, and no new stream comes to
//! lie in its directory. A start that cannot read a stream would cost it otherwise, for many
//! clients make their streams anew whenever they connect.

use wire::api::errors::{self, ApiError};

use super::monitor::Failed;

/// Stands for every stream of an account, or every account.
const ALL: &str = "*";

/// What a start left where it was. Kept until the next one.
#[derive(Debug, Default)]
pub(crate) struct Unserved {
    /// Directories, without streams behind a `/` for all of an account.
    dirs: Vec<String>,
    /// Of these, what should have been served.
    failed: Vec<Failed>,
}

impl Unserved {
    /// A directory is left as it is.
    pub(super) fn keep(&mut self, dir: &str) {
        self.dirs.push(dir.to_owned());
    }

    /// The stream in a directory should have been served, and health probes say so.
    pub(super) fn note_failed(&mut self, dir: &str, error: &dyn std::fmt::Display) {
        self.keep(dir);
        let (account, stream) = dir.split_once("/streams/").unwrap_or((dir, ALL));
        let (account, stream) = (account.to_owned(), stream.to_owned());
        let problem = format!("could not be recovered: {error}");
        self.failed.push(Failed { account, stream, problem });
    }

    /// The streams of an account could not be listed; without a name no account could.
    pub(super) fn note_unknown(&mut self, account: Option<&str>, error: &dyn std::fmt::Display) {
        self.note_failed(account.unwrap_or(ALL), error);
    }

    /// Streams that should have been served.
    pub(super) fn failed(&self) -> &[Failed] {
        &self.failed
    }

    /// Whether a new stream may have this directory.
    ///
    /// # Errors
    /// Another stream is there, or may be.
    pub(super) fn admit(&self, dir: &str) -> Result<(), ApiError> {
        let account = dir.split('/').next().unwrap_or(dir);
        let is_taken = |kept: &String| kept == dir || kept == account || kept == ALL;
        if self.dirs.iter().any(is_taken) {
            let text = "the store has a stream of that name, which is not served; see the log";
            return Err(errors::STREAM_STORE_FAILED.with(text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_served_keeps_its_place() {
        let mut unserved = Unserved::default();
        unserved.keep("A/streams/kept");
        unserved.note_failed("A/streams/S", &"no answer");
        unserved.note_unknown(Some("B"), &"no answer");
        for taken in ["A/streams/kept", "A/streams/S", "B/streams/x"] {
            assert!(unserved.admit(taken).is_err(), "{taken}");
        }
        for free in ["A/streams/S2", "A/streams/B", "C/streams/S"] {
            assert!(unserved.admit(free).is_ok(), "{free}");
        }
        let names: Vec<_> = unserved.failed().iter().map(|f| (&*f.account, &*f.stream)).collect();
        assert_eq!(names, [("A", "S"), ("B", "*")]);
        unserved.note_unknown(None, &"no answer");
        assert!(unserved.admit("C/streams/S").is_err());
    }
}
