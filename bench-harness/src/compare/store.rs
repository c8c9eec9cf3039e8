//! The store directory of a server under test: fresh for each round, on a disk with room.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use tempfile::TempDir;

use crate::error::{During, HarnessError, Result};

/// Directories of stores begin with this, then the process that made them.
const PREFIX: &str = "bench-store-";
/// Room that must be left beyond what a case needs.
const RESERVE_BYTES: u64 = 512 << 20;

/// A directory that is removed with everything in it when it is dropped.
#[derive(Debug)]
pub struct Store {
    dir: TempDir,
}

impl Store {
    /// Makes a directory inside `parent`, or inside the working directory, if the disk has room
    /// for `needed` bytes.
    ///
    /// # Errors
    /// Too little room, or no directory can be made there.
    pub fn make(parent: Option<&Path>, needed: u64) -> Result<Self> {
        let parent = match parent {
            Some(path) => path.to_owned(),
            None => std::env::current_dir().during("find the working directory")?,
        };
        remove_stale(&parent);
        let what = || format!("look at the disk of {}", parent.display());
        let disk = statvfs(&parent).during(what())?;
        check_room(&parent, disk.f_bavail.saturating_mul(disk.f_frsize), needed)?;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent);
        Ok(Self { dir: dir.during(format!("make a store in {}", parent.display()))? })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn check_room(parent: &Path, free: u64, needed: u64) -> Result<()> {
    let wanted = needed.saturating_add(RESERVE_BYTES);
    if free >= wanted {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(HarnessError::Usage(format!(
        "{} has {} MiB free and the case needs {} MiB; choose another with --store-dir or \
         fewer messages",
        parent.display(),
        mib(free),
        mib(wanted)
    )))
}

/// Removes stores of runs that were interrupted: their process is gone.
fn remove_stale(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()).filter(|p| is_stale(p)) {
        // What cannot be removed is only in the way of the room check.
        let _ = fs::remove_dir_all(path);
    }
}

fn is_stale(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    let pid = pid.and_then(|(pid, _)| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_goes_with_its_owner_and_stale_ones_go_too() {
        let parent = tempfile::tempdir().unwrap();
        let stale = parent.path().join(format!("{PREFIX}{}-x", u32::MAX));
        let other = parent.path().join("something");
        fs::create_dir(&stale).unwrap();
        fs::create_dir(&other).unwrap();
        let store = Store::make(Some(parent.path()), 0).unwrap();
        let path = store.path().to_owned();
        assert!(path.is_dir() && !stale.exists() && other.exists());
        let second = Store::make(Some(parent.path()), 0).unwrap();
        assert!(path.is_dir() && second.path() != path);
        drop(store);
        assert!(!path.exists());
    }

    #[test]
    fn too_little_room_is_said_clearly() {
        let said = check_room(Path::new("/x"), 1 << 30, 1 << 30).unwrap_err().to_string();
        assert!(said.contains("1024 MiB free") && said.contains("1536 MiB"), "{said}");
        check_room(Path::new("/x"), 1 << 30, 512 << 20).unwrap();
        assert!(check_room(Path::new("/x"), 1 << 60, u64::MAX).is_err());
        assert!(Store::make(Some(Path::new("/does/not/exist")), 0).is_err());
    }
}
