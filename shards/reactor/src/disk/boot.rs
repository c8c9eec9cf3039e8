//! The disk at start: plain blocking calls for recovery, for the offline check, and the lock that
//! keeps a second server out of a store.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FlockOperation};
use rustix::io::Errno;
use store::disk::{BootDisk, DiskError};

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
}

impl BootFs {
    /// The directory; it need not exist for reading.
    #[must_use]
    pub fn new(store_dir: PathBuf) -> Self {
        Self { root: store_dir, last: None }
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
        std::fs::metadata(self.resolve(path)?).map(|meta| meta.len()).map_err(from_io)
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
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
        rename(&self.resolve(from)?, &self.resolve(to)?)
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.last = None;
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
        let file = OpenOptions::new().write(true).open(self.resolve(path)?).map_err(from_io)?;
        file.write_all_at(bytes, offset).and_then(|()| file.sync_data()).map_err(from_io)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.last = None;
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
