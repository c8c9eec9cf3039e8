//! Errors made on purpose, so that tests of the whole server can see what it does about a failing
//! disk. Decided at start by a variable of the environment; off without it.
//!
//! ```text
//!  SHEARWATER_DISK_FAULTS=write:3=eio,sync:10+=enospc,read:1-4=hang,create:1+=enospc?/tmp/full
//!                         kind  from[+|-to]  what                          only while that exists
//! ```

use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

/// The variable.
pub const FAULTS_VARIABLE: &str = "SHEARWATER_DISK_FAULTS";

/// A text that names no faults.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{FAULTS_VARIABLE}: {0:?} is not <kind>:<n>[+|-<m>]=eio|enospc|hang[?<file>]")]
pub struct FaultError(String);

/// What an operation counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The writes of a commit.
    Write,
    /// The flush of a commit, behind its writes, or alone.
    Sync,
    Read,
    Create,
    Open,
    Replace,
    Rename,
    Remove,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Fail(Errno),
    /// It never ends.
    Hang,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    kind: FaultKind,
    first: u64,
    last: u64,
    fault: Fault,
    gate: Option<PathBuf>,
    seen: u64,
}

/// The faults of a shard's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    /// What the environment asks for; nothing when the variable is missing or empty.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_env() -> Result<Option<Self>, FaultError> {
        match std::env::var(FAULTS_VARIABLE) {
            Ok(text) if !text.trim().is_empty() => Self::parse(&text).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads rules, separated by commas. Operations of a kind are counted from 1, by each shard
    /// and each rule for itself; with `?<file>` only while that file exists.
    ///
    /// # Errors
    /// When a rule is none.
    pub fn parse(text: &str) -> Result<Self, FaultError> {
        let parse = |rule: &str| parse_rule(rule).ok_or_else(|| FaultError(rule.to_owned()));
        let rules = text.split(',').map(str::trim).map(parse).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Counts an operation, and tells what is to happen to it.
    pub(crate) fn strike(&mut self, kind: FaultKind) -> Option<Fault> {
        let mut struck = None;
        for rule in self.rules.iter_mut().filter(|rule| rule.kind == kind) {
            if rule.gate.as_ref().is_some_and(|file| !file.exists()) {
                continue;
            }
            rule.seen += 1;
            if (rule.first..=rule.last).contains(&rule.seen) {
                struck = struck.or(Some(rule.fault));
            }
        }
        struck
    }
}

fn parse_rule(text: &str) -> Option<Rule> {
    let (kind, rest) = text.split_once(':')?;
    let (count, rest) = rest.split_once('=')?;
    let (fault, gate) = match rest.split_once('?') {
        Some((fault, file)) => (fault, Some(PathBuf::from(file))),
        None => (rest, None),
    };
    let kind = match kind {
        "write" => FaultKind::Write,
        "sync" => FaultKind::Sync,
        "read" => FaultKind::Read,
        "create" => FaultKind::Create,
        "open" => FaultKind::Open,
        "replace" => FaultKind::Replace,
        "rename" => FaultKind::Rename,
        "remove" => FaultKind::Remove,
        _ => return None,
    };
    let (first, last) = if let Some(first) = count.strip_suffix('+') {
        (first.parse().ok()?, u64::MAX)
    } else if let Some((first, last)) = count.split_once('-') {
        (first.parse().ok()?, last.parse().ok()?)
    } else {
        let only = count.parse().ok()?;
        (only, only)
    };
    let fault = match fault {
        "eio" => Fault::Fail(Errno::IO),
        "enospc" => Fault::Fail(Errno::NOSPC),
        "hang" => Fault::Hang,
        _ => return None,
    };
    (first >= 1 && last >= first).then_some(Rule { kind, first, last, fault, gate, seen: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_strike_the_operations_they_name() {
        let mut faults = Faults::parse("write:2=eio, sync:3+=enospc,write:4-5=hang").unwrap();
        let eio = Some(Fault::Fail(Errno::IO));
        let hang = Some(Fault::Hang);
        let writes: Vec<_> = (0..6).map(|_| faults.strike(FaultKind::Write)).collect();
        assert_eq!(writes, [None, eio, None, hang, hang, None]);
        let syncs: Vec<_> = (0..5).map(|_| faults.strike(FaultKind::Sync).is_some()).collect();
        assert_eq!(syncs, [false, false, true, true, true]);
        assert_eq!(faults.strike(FaultKind::Read), None);
    }

    #[test]
    fn a_gated_rule_counts_only_while_its_file_exists() {
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        let mut faults = Faults::parse(&format!("read:2+=eio?{}", gate.display())).unwrap();
        assert!((0..5).all(|_| faults.strike(FaultKind::Read).is_none()));
        std::fs::write(&gate, "").unwrap();
        assert!(faults.strike(FaultKind::Read).is_none());
        assert!(faults.strike(FaultKind::Read).is_some());
        std::fs::remove_file(&gate).unwrap();
        assert!(faults.strike(FaultKind::Read).is_none());
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in ["", "write", "write:1", "write:0=eio", "write:2-1=eio", "x:1=eio", "read:1=x"] {
            assert!(Faults::parse(bad).is_err(), "{bad:?}");
        }
    }
}
