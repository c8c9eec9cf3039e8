//! The disk at start: plain blocking calls for recovery, for the offline check, and the lock that
//! keeps a second server out of a store.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FlockOperation};
use rustix::io::Errno;
use store::disk::{BootDisk, DiskError};

use super::faults::{Fault, FaultKind, Faults};
use super::files::{FILE_MODE, make_dirs, rename, sync_dir, write_new};
use super::{from_io, names, to_disk_error};

/// Name of the lock's file below the store's directory.
const LOCK_FILE: &str = ".lock";

/// A store's directory, read and repaired by blocking calls.
#[derive(Debug)]
pub struct BootFs {
    root: PathBuf,
    /// The file read last: recovery reads one file from front to back.
    last: Option<(String, File)>,
    faults: Option<Faults>,
}

impl BootFs {
    /// The directory; it need not exist for reading.
    #[must_use]
    pub fn new(store_dir: PathBuf) -> Self {
        Self::with_faults(store_dir, None)
    }

    /// The same, with errors that a test asks for.
    pub(crate) const fn with_faults(store_dir: PathBuf, faults: Option<Faults>) -> Self {
        Self { root: store_dir, last: None, faults }
    }

    /// Fails, or waits, where a test asks for it.
    fn strike(&mut self, kind: FaultKind, path: &str) -> Result<(), DiskError> {
        match self.faults.as_mut().and_then(|faults| faults.strike(kind, path)) {
            None => Ok(()),
            Some(Fault::Fail(error)) => Err(to_disk_error(error)),
            Some(Fault::Stall(stall)) => stall.wait(),
            Some(Fault::Hang) => loop {
                std::thread::park();
            },
        }
    }

    fn resolve(&self, path: &str) -> Result<PathBuf, DiskError> {
        names::resolve(&self.root, path)
    }

    fn file(&mut self, path: &str) -> Result<&File, DiskError> {
        if self.last.as_ref().is_none_or(|(name, _)| name != path) {
            let file = File::open(self.resolve(path)?).map_err(from_io)?;
            // Advice: where it is refused, reading is only slower.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
            self.last = Some((path.to_owned(), file));
        }
        match &self.last {
            Some((_, file)) => Ok(file),
            None => Err(DiskError::NotFound),
        }
    }
}

impl BootDisk for BootFs {
    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        self.strike(FaultKind::StartRead, path)?;
        let dir = if path.is_empty() { self.root.clone() } else { self.resolve(path)? };
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(from_io)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(from_io)?;
            // The store's own names are all UTF-8.
            let Ok(mut name) = entry.file_name().into_string() else { continue };
            if entry.path().is_dir() {
                name.push('/');
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    fn len(&mut self, path: &str) -> Result<u64, DiskError> {
        self.strike(FaultKind::StartRead, path)?;
        std::fs::metadata(self.resolve(path)?).map(|meta| meta.len()).map_err(from_io)
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.strike(FaultKind::StartRead, path)?;
        let file = self.file(path)?;
        let size = file.metadata().map_err(from_io)?.len();
        // Never more memory than there is file, whatever a damaged length says.
        let len = (len as u64).min(size.saturating_sub(offset)) as usize;
        let mut bytes = vec![0; len];
        let mut got = 0;
        while let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + got as u64) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io(error)),
            }
        }
        bytes.truncate(got);
        Ok(bytes)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.last = None;
        self.strike(FaultKind::StartWrite, from)?;
        rename(&self.resolve(from)?, &self.resolve(to)?)
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.last = None;
        self.strike(FaultKind::StartWrite, path)?;
        let full = self.resolve(path)?;
        let dir = full.parent().ok_or(DiskError::NotFound)?;
        make_dirs(dir).map_err(from_io)?;
        let name = full.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let temporary = dir.join(format!(".{name}.new"));
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(from_io(error)),
            _ => {}
        }
        write_new(&temporary, bytes)?;
        rustix::fs::rename(&temporary, &full).map_err(to_disk_error)?;
        sync_dir(dir)
    }

    fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.last = None;
        self.strike(FaultKind::StartWrite, path)?;
        let file = OpenOptions::new().write(true).open(self.resolve(path)?).map_err(from_io)?;
        file.write_all_at(bytes, offset).and_then(|()| file.sync_data()).map_err(from_io)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.last = None;
        self.strike(FaultKind::StartWrite, path)?;
        let full = self.resolve(path)?;
        let meta = std::fs::symlink_metadata(&full).map_err(from_io)?;
        let removed = if meta.is_dir() {
            std::fs::remove_dir_all(&full)
        } else {
            std::fs::remove_file(&full)
        };
        removed.map_err(from_io)?;
        sync_dir(full.parent().ok_or(DiskError::NotFound)?)
    }
}

/// Keeps other servers out of a store while it lives; the kernel ends it with the process.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock of a store's directory, which is made when it is missing.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it; else what the operating system says.
    pub fn take(store_dir: &Path) -> io::Result<Self> {
        make_dirs(store_dir)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(store_dir.join(LOCK_FILE))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // A file system without locks cannot keep anybody out.
            Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP) => Ok(Self { _file: file }),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_reads_and_repairs() {
        let dir = tempfile::tempdir().unwrap();
        let mut boot = BootFs::new(dir.path().join("store"));
        assert_eq!(boot.list("").unwrap(), Vec::<String>::new());
        assert_eq!(boot.len("x").unwrap_err(), DiskError::NotFound);
        assert_eq!(boot.read("x", 0, 1).unwrap_err(), DiskError::NotFound);
        boot.replace("s/b", b"0123456789").unwrap();
        boot.replace("s/b", b"abcdefghij").unwrap();
        boot.replace("s/sub/a", b"").unwrap();
        assert_eq!(boot.list("s").unwrap(), ["b", "sub/"]);
        assert_eq!(boot.len("s/b").unwrap(), 10);
        assert_eq!(boot.read("s/b", 2, 3).unwrap(), b"cde");
        // A length from damaged data costs no more memory than there are bytes.
        assert_eq!(boot.read("s/b", 8, usize::MAX >> 1).unwrap(), b"ij");
        assert_eq!(boot.read("s/b", 99, 5).unwrap(), b"");
        boot.overwrite("s/b", 4, b"EF").unwrap();
        assert_eq!(boot.read("s/b", 0, 10).unwrap(), b"abcdEFghij");
        boot.rename("s/b", "quarantine/1/b").unwrap();
        assert_eq!(boot.read("s/b", 0, 1).unwrap_err(), DiskError::NotFound);
        assert_eq!(boot.read("quarantine/1/b", 0, 1).unwrap(), b"a");
        boot.remove("quarantine").unwrap();
        boot.remove("s/sub/a").unwrap();
        assert_eq!(boot.list("").unwrap(), ["s/"]);
        assert_eq!(boot.remove("s/sub/a").unwrap_err(), DiskError::NotFound);
    }

    #[test]
    fn recovery_stays_below_the_store() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("outside"), "x").unwrap();
        let mut boot = BootFs::new(dir.path().join("store"));
        boot.replace("in", b"x").unwrap();
        for bad in ["../outside", "/etc/passwd", "a\0b", "..", "s/../../outside"] {
            assert!(boot.list(bad).is_err());
            assert!(boot.len(bad).is_err() && boot.read(bad, 0, 1).is_err());
            assert!(boot.rename(bad, "y").is_err() && boot.rename("in", bad).is_err());
            assert!(boot.replace(bad, b"y").is_err() && boot.overwrite(bad, 0, b"y").is_err());
            assert!(boot.remove(bad).is_err());
        }
        assert!(boot.remove("").is_err() && boot.remove("/").is_err());
        assert_eq!(std::fs::read(dir.path().join("outside")).unwrap(), b"x");
    }

    #[test]
    fn only_one_server_has_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("a/b");
        let lock = StoreLock::take(&store).unwrap();
        assert_eq!(StoreLock::take(&store).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        StoreLock::take(&store).unwrap();
    }
}
