//! What the disk holds and is not served: it is named by health probes, and no new stream comes to
//! lie in its directory. A start that cannot read a stream would cost it otherwise, for many
//! clients make their streams anew whenever they connect.

use store::disk::{BootDisk, DiskOp};
use wire::api::errors::{self, ApiError};

use super::JetStream;
use super::monitor::Failed;
use super::recovery::QUARANTINE;
use crate::context::Context;
use crate::effect::{Effects, Level};

/// What nats-server keeps in each directory of a stream.
const FOREIGN_FILE: &str = "meta.inf";
/// Stands for every stream of an account, or every account.
const ALL: &str = "*";

/// What a start left where it was. Kept until the next one.
#[derive(Debug, Default)]
pub(crate) struct Unserved {
    /// Directories, without streams behind a `/` for all of an account.
    dirs: Vec<String>,
    /// Of these, what should have been served.
    failed: Vec<Failed>,
    /// Directories of nats-server. They do not keep a stream out: its backup comes back here.
    foreign: Vec<String>,
}

impl Unserved {
    /// A directory is left as it is.
    pub(super) fn keep(&mut self, dir: &str) {
        self.dirs.push(dir.to_owned());
    }

    /// Notes a directory if it is one of nats-server.
    pub(super) fn note_foreign(&mut self, dir: &str, boot: &mut dyn BootDisk) {
        let names = boot.list(dir).unwrap_or_default();
        if names.iter().any(|name| name == FOREIGN_FILE) {
            self.foreign.push(dir.to_owned());
        }
    }

    /// Whether a directory is one of nats-server.
    pub(super) fn is_foreign(&self, dir: &str) -> bool {
        self.foreign.iter().any(|foreign| foreign == dir)
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

impl JetStream {
    /// Moves what nats-server has in the directory of a new stream out of the way: the stream's
    /// end must not take it along.
    pub(super) fn clear_place(&mut self, dir: &str, ctx: &Context<'_>, fx: &mut Effects) {
        let Some(at) = self.unserved.foreign.iter().position(|foreign| foreign == dir) else {
            return;
        };
        self.unserved.foreign.swap_remove(at);
        let name = dir.rsplit('/').next().unwrap_or(dir);
        let to = format!("{QUARANTINE}/{name}-{}", ctx.unix_ns);
        fx.log(
            Level::Warn,
            format!("JetStream store {dir} is of nats-server: it moves to {to} for a new stream"),
        );
        fx.disk.push(DiskOp::Rename { from: dir.to_owned(), to });
        self.skip_ops(fx);
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
