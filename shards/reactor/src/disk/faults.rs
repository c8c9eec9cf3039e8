//! Errors made on purpose, so that tests of the whole server can see what it does about a failing
//! disk. Decided at start by a variable of the environment; off without it.
//!
//! ```text
//!  SHEARWATER_DISK_FAULTS=write:3=eio,sync@/A/:10+=enospc,read:1-4=hang,create:1+=stall?/tmp/gate
//!                         kind  [@part of the path]  from[+|-to]  what    only while that exists
//! ```

use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use store::disk::DiskError;
use thiserror::Error;

use super::to_disk_error;

/// The variable.
pub const FAULTS_VARIABLE: &str = "SHEARWATER_DISK_FAULTS";

/// Between two looks at whether a file has gone.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A text that names no faults.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{FAULTS_VARIABLE}: {0:?} is not <kind>[@<path>]:<n>[+|-<m>]=<what>[?<file>]")]
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
    /// What recovery reads, names too.
    StartRead,
    /// What recovery repairs or moves.
    StartWrite,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Fail(Errno),
    /// It never ends.
    Hang,
    Stall(Stall),
}

/// An operation waits for a file to go, and is then carried out, or fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) gate: PathBuf,
    pub(crate) then: Option<Errno>,
}

impl Stall {
    /// Waits, for a thread that may.
    ///
    /// # Errors
    /// What the operation fails with then.
    pub(crate) fn wait(&self) -> Result<(), DiskError> {
        while self.gate.exists() {
            std::thread::sleep(LOOK_AGAIN);
        }
        self.then.map_or(Ok(()), |error| Err(to_disk_error(error)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    kind: FaultKind,
    /// Only where the path has this in it; empty for all.
    part: String,
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
    pub(crate) fn strike(&mut self, kind: FaultKind, path: &str) -> Option<Fault> {
        let mut struck = None;
        let concerns = |rule: &&mut Rule| rule.kind == kind && path.contains(&rule.part);
        for rule in self.rules.iter_mut().filter(concerns) {
            if rule.gate.as_ref().is_some_and(|file| !file.exists()) {
                continue;
            }
            rule.seen += 1;
            if (rule.first..=rule.last).contains(&rule.seen) {
                struck = struck.or_else(|| Some(rule.fault.clone()));
            }
        }
        struck
    }
}

fn parse_rule(text: &str) -> Option<Rule> {
    let (kind, rest) = text.split_once(':')?;
    let (kind, part) = kind.split_once('@').unwrap_or((kind, ""));
    let (count, rest) = rest.split_once('=')?;
    let (fault, gate) = match rest.split_once('?') {
        Some((fault, file)) => (fault, Some(PathBuf::from(file))),
        None => (rest, None),
    };
    let (first, last) = parse_count(count)?;
    let kind = parse_kind(kind)?;
    let fault = parse_fault(fault, gate.as_ref())?;
    let part = part.to_owned();
    (first >= 1 && last >= first).then_some(Rule { kind, part, first, last, fault, gate, seen: 0 })
}

fn parse_kind(text: &str) -> Option<FaultKind> {
    Some(match text {
        "write" => FaultKind::Write,
        "sync" => FaultKind::Sync,
        "read" => FaultKind::Read,
        "create" => FaultKind::Create,
        "open" => FaultKind::Open,
        "replace" => FaultKind::Replace,
        "rename" => FaultKind::Rename,
        "remove" => FaultKind::Remove,
        "start-read" => FaultKind::StartRead,
        "start-write" => FaultKind::StartWrite,
        _ => return None,
    })
}

fn parse_count(text: &str) -> Option<(u64, u64)> {
    if let Some(first) = text.strip_suffix('+') {
        return Some((first.parse().ok()?, u64::MAX));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn parse_fault(text: &str, gate: Option<&PathBuf>) -> Option<Fault> {
    let stall = |then| gate.map(|gate| Fault::Stall(Stall { gate: gate.clone(), then }));
    match text {
        "eio" => Some(Fault::Fail(Errno::IO)),
        "enospc" => Some(Fault::Fail(Errno::NOSPC)),
        "hang" => Some(Fault::Hang),
        "stall" => stall(None),
        "stall-eio" => stall(Some(Errno::IO)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_strike_the_operations_they_name() {
        let mut faults = Faults::parse("write:2=eio, sync:3+=enospc,write:4-5=hang").unwrap();
        let eio = Some(Fault::Fail(Errno::IO));
        let hang = Some(Fault::Hang);
        let writes: Vec<_> = (0..6).map(|_| faults.strike(FaultKind::Write, "a")).collect();
        assert_eq!(writes, [None, eio, None, hang.clone(), hang, None]);
        let syncs: Vec<_> = (0..5).map(|_| faults.strike(FaultKind::Sync, "a").is_some()).collect();
        assert_eq!(syncs, [false, false, true, true, true]);
        assert_eq!(faults.strike(FaultKind::Read, "a"), None);
    }

    #[test]
    fn rules_strike_the_paths_they_name() {
        let mut faults = Faults::parse("write@/A/:2+=eio,start-read@.seg:1=eio").unwrap();
        let mut struck = |kind, path| faults.strike(kind, path).is_some();
        assert!(!struck(FaultKind::Write, "g/streams/B/1.seg"));
        assert!(!struck(FaultKind::Write, "g/streams/A/1.seg"));
        assert!(!struck(FaultKind::Write, "g/streams/B/1.seg"));
        assert!(struck(FaultKind::Write, "g/streams/A/1.seg"));
        assert!(!struck(FaultKind::StartRead, "g/streams/A/index.chk"));
        assert!(struck(FaultKind::StartRead, "g/streams/A/1.seg"));
    }

    #[test]
    fn a_stalled_operation_waits_for_its_file_to_go() {
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        let text = format!("write:1=stall?{0},sync:1=stall-eio?{0}", gate.display());
        let mut faults = Faults::parse(&text).unwrap();
        assert_eq!(faults.strike(FaultKind::Write, ""), None);
        std::fs::write(&gate, "").unwrap();
        let mut stalls = [FaultKind::Write, FaultKind::Sync].into_iter().map(|kind| {
            let Some(Fault::Stall(stall)) = faults.strike(kind, "") else { panic!("no stall") };
            std::thread::spawn(move || stall.wait())
        });
        let (first, second) = (stalls.next().unwrap(), stalls.next().unwrap());
        assert!(!first.is_finished() && !second.is_finished());
        std::fs::remove_file(&gate).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        assert_eq!(second.join().unwrap(), Err(DiskError::Os(5)));
    }

    #[test]
    fn a_gated_rule_counts_only_while_its_file_exists() {
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        let mut faults = Faults::parse(&format!("read:2+=eio?{}", gate.display())).unwrap();
        assert!((0..5).all(|_| faults.strike(FaultKind::Read, "x").is_none()));
        std::fs::write(&gate, "").unwrap();
        assert!(faults.strike(FaultKind::Read, "x").is_none());
        assert!(faults.strike(FaultKind::Read, "x").is_some());
        std::fs::remove_file(&gate).unwrap();
        assert!(faults.strike(FaultKind::Read, "x").is_none());
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        let bad = ["", "write", "write:1", "write:0=eio", "write:2-1=eio", "x:1=eio", "read:1=x"];
        for bad in bad.into_iter().chain(["read:1=stall", "@x:1=eio"]) {
            assert!(Faults::parse(bad).is_err(), "{bad:?}");
        }
    }
}
