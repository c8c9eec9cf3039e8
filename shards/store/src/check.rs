//! The offline check of a stream: a recovery that reads every record, believes no checkpoint and
//! changes nothing, and then one more with the checkpoints, which must come to the same.
//!
//! ```text
//!  recovery ──reads──► DryRun ──► disk
//!           ──writes─► DryRun keeps them, so that later reads see them
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::State;
use crate::disk::{BootDisk, DiskError};
use crate::log::{CheckpointUse, Options, RecoverError, Report};
use crate::recover::{Recovered, RecoveredNote};
use crate::store::Store;

/// What the checkpoint of the whole is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointVerdict {
    /// There is none; starts read everything.
    Absent,
    /// It says what the records say.
    Good,
    /// It does not validate.
    Damaged,
    /// It belongs to another state of the log; starts do not believe it.
    Stale,
    /// It validates and says something else than the records.
    Wrong,
}

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// Figures of the stream, from its records.
    pub state: State,
    /// What recovery says; its changes were made only in a repair.
    pub report: Report,
    /// Messages that damage took or may have taken: first and last of each range.
    pub lost: Vec<(u64, u64)>,
    /// Facts beside the messages, sorted by key.
    pub notes: Vec<RecoveredNote>,
    /// The checkpoint of the whole.
    pub checkpoint: CheckpointVerdict,
    /// What a start, or this repair, changes: one line each.
    pub changes: Vec<String>,
}

impl Checked {
    /// True when nothing is damaged or missing. An unacknowledged tail is no damage.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let is_checkpoint_bad =
            matches!(self.checkpoint, CheckpointVerdict::Damaged | CheckpointVerdict::Wrong);
        let report = &self.report;
        report.is_clean()
            && self.lost.is_empty()
            && !is_checkpoint_bad
            && report.damaged_headers.is_empty()
            && report.unreadable_blocks == 0
            && !report.quarantined.iter().any(|path| path.ends_with(".seg"))
    }
}

/// Checks the stream in the directory of `options`. With `repair` it is left as a start of the
/// server leaves it: the tail that nobody was promised cut off, unreadable files and copies of
/// damaged bytes in quarantine; and a checkpoint that is of no use is removed. No record that
/// validates is ever removed.
///
/// # Errors
/// When nothing of a stream is there, its key is missing, or the disk does not answer.
pub fn check(
    options: &Options,
    boot: &mut dyn BootDisk,
    repair: bool,
) -> Result<Checked, RecoverError> {
    let has_checkpoint = boot.list(&options.dir)?.iter().any(|name| name == "index.chk");
    let mut dry = DryRun::new(boot, true);
    let whole = Store::recover(options.clone(), &mut dry)?;
    let mut changes = dry.changes();
    let checkpoint =
        if has_checkpoint { judge(options, boot, &whole)? } else { CheckpointVerdict::Absent };
    let is_useless = !matches!(checkpoint, CheckpointVerdict::Absent | CheckpointVerdict::Good);
    if is_useless {
        changes.push(format!("{}/index.chk is removed", options.dir));
    }
    let mut found = whole;
    if repair {
        if is_useless {
            boot.remove(&format!("{}/index.chk", options.dir))?;
        }
        found = Store::recover(options.clone(), &mut Hiding(boot))?;
    }
    let Recovered { store, mut notes, report, lost } = found;
    notes.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Checked { state: store.state(), report, lost, notes, checkpoint, changes })
}

/// Compares what a start with the checkpoint finds with what the records say.
fn judge(
    options: &Options,
    boot: &mut dyn BootDisk,
    whole: &Recovered,
) -> Result<CheckpointVerdict, RecoverError> {
    let quick = Store::recover(options.clone(), &mut DryRun::new(boot, false))?;
    Ok(match quick.report.checkpoint {
        CheckpointUse::Absent => CheckpointVerdict::Absent,
        CheckpointUse::Damaged => CheckpointVerdict::Damaged,
        CheckpointUse::Stale => CheckpointVerdict::Stale,
        CheckpointUse::Used if is_same(&quick, whole) => CheckpointVerdict::Good,
        CheckpointUse::Used => CheckpointVerdict::Wrong,
    })
}

fn is_same(quick: &Recovered, whole: &Recovered) -> bool {
    let sorted = |found: &Recovered| {
        let mut notes = found.notes.clone();
        notes.sort_by(|a, b| a.key.cmp(&b.key));
        notes
    };
    // Damage behind the checkpoint is in it as messages that are there.
    let is_state_same = !whole.lost.is_empty() || quick.store.is_indexed_as(&whole.store);
    is_state_same && sorted(quick) == sorted(whole)
}

/// Recovery without checkpoints, on the disk itself.
struct Hiding<'a>(&'a mut dyn BootDisk);

impl BootDisk for Hiding<'_> {
    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        let names = self.0.list(path)?;
        Ok(names.into_iter().filter(|name| name != "index.chk").collect())
    }

    fn len(&mut self, path: &str) -> Result<u64, DiskError> {
        self.0.len(path)
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.0.read(path, offset, len)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.rename(from, to)
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.replace(path, bytes)
    }

    fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.overwrite(path, offset, bytes)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.0.remove(path)
    }
}

/// A disk whose changes stay in memory.
struct DryRun<'a> {
    boot: &'a mut dyn BootDisk,
    hides_checkpoint: bool,
    removed: BTreeSet<String>,
    /// New name to old name.
    renamed: BTreeMap<String, String>,
    replaced: BTreeMap<String, Vec<u8>>,
    patches: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
}

impl<'a> DryRun<'a> {
    fn new(boot: &'a mut dyn BootDisk, hides_checkpoint: bool) -> Self {
        Self {
            boot,
            hides_checkpoint,
            removed: BTreeSet::new(),
            renamed: BTreeMap::new(),
            replaced: BTreeMap::new(),
            patches: BTreeMap::new(),
        }
    }

    /// What was not done, in words.
    fn changes(&self) -> Vec<String> {
        let renamed = self.renamed.iter().map(|(to, from)| format!("{from} is moved to {to}"));
        let is_moved = |path: &&String| self.renamed.values().any(|from| from == *path);
        let removed = self.removed.iter().filter(|path| !is_moved(path));
        let removed = removed.map(|path| format!("{path} is removed"));
        let replaced = self.replaced.keys().map(|path| format!("{path} is written"));
        let patched = self.patches.iter().map(|(path, patches)| {
            let bytes: usize = patches.iter().map(|(_, bytes)| bytes.len()).sum();
            format!("{path}: {bytes} bytes are written over")
        });
        renamed.chain(removed).chain(replaced).chain(patched).collect()
    }

    /// The name that a file has on the disk.
    fn name_of<'b>(&'b self, path: &'b str) -> Result<&'b str, DiskError> {
        if let Some(from) = self.renamed.get(path) {
            return Ok(from);
        }
        if self.removed.contains(path) { Err(DiskError::NotFound) } else { Ok(path) }
    }
}

impl BootDisk for DryRun<'_> {
    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        let mut names = self.boot.list(path)?;
        let prefix = format!("{path}/");
        let is_hidden =
            |name: &str| self.hides_checkpoint && (name == "index.chk" || name.ends_with(".chk"));
        names.retain(|name| !self.removed.contains(&format!("{prefix}{name}")) && !is_hidden(name));
        let made = self.renamed.keys().chain(self.replaced.keys());
        let here = made.filter_map(|made| made.strip_prefix(&prefix));
        names.extend(here.filter(|name| !name.contains('/')).map(str::to_owned));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn len(&mut self, path: &str) -> Result<u64, DiskError> {
        if let Some(bytes) = self.replaced.get(path) {
            return Ok(bytes.len() as u64);
        }
        let name = self.name_of(path)?.to_owned();
        self.boot.len(&name)
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        if let Some(bytes) = self.replaced.get(path) {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let to = from.saturating_add(len).min(bytes.len());
            return Ok(bytes.get(from..to).unwrap_or_default().to_vec());
        }
        let name = self.name_of(path)?.to_owned();
        let mut bytes = self.boot.read(&name, offset, len)?;
        let end = offset + bytes.len() as u64;
        for (at, patch) in self.patches.get(path).into_iter().flatten() {
            let (from, to) = ((*at).max(offset), (*at + patch.len() as u64).min(end));
            if from >= to {
                continue;
            }
            let count = (to - from) as usize;
            let source = (from - *at) as usize;
            let target = (from - offset) as usize;
            let source = patch.get(source..source + count);
            if let (Some(target), Some(source)) = (bytes.get_mut(target..target + count), source) {
                target.copy_from_slice(source);
            }
        }
        Ok(bytes)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let source = self.name_of(from)?.to_owned();
        self.renamed.insert(to.to_owned(), source);
        self.removed.insert(from.to_owned());
        Ok(())
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.removed.remove(path);
        self.replaced.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.name_of(path)?;
        let patches = self.patches.entry(path.to_owned()).or_default();
        patches.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let name = self.name_of(path)?.to_owned();
        self.boot.len(&name)?;
        self.removed.insert(path.to_owned());
        Ok(())
    }
}

impl Store {
    /// Whether the index of another store says the same of every message.
    fn is_indexed_as(&self, other: &Self) -> bool {
        if self.state() != other.state() {
            return false;
        }
        let (ours, theirs) = (self.index.seqs(), other.index.seqs());
        let mut at = 0;
        loop {
            let next = ours.next(at);
            if next != theirs.next(at) {
                return false;
            }
            let Some(seq) = next else { return true };
            let place = |store: &Self| store.index.seqs().entry(seq).map(|entry| entry.location);
            if place(self) != place(other) || self.subject_of(seq) != other.subject_of(seq) {
                return false;
            }
            let Some(after) = seq.checked_add(1) else { return true };
            at = after;
        }
    }
}

#[cfg(test)]
mod tests;
