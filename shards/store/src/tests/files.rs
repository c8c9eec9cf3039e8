//! A disk of real files, at once and without flushes, for measurements.

use crate::disk::{
    AlignedBuffer, BootDisk, DiskData, DiskDone, DiskError, DiskOp, DiskQueue, FileId,
};
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A directory that goes when the value does.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    open: HashMap<FileId, File>,
}

fn failed(error: &std::io::Error) -> DiskError {
    match error.kind() {
        std::io::ErrorKind::NotFound => DiskError::NotFound,
        _ => DiskError::Os(error.raw_os_error().unwrap_or(5)),
    }
}

impl Files {
    pub(super) fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Self { root, open: HashMap::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).unwrap();
        }
        path
    }

    /// Carries out what is queued.
    pub(super) fn carry_out(&mut self, queue: &mut DiskQueue) -> Vec<DiskDone> {
        let ops = std::mem::take(&mut queue.ops);
        ops.into_iter()
            .map(|(ticket, op)| {
                let result = self.one(op).map_err(|error| failed(&error));
                DiskDone { ticket, result }
            })
            .collect()
    }

    fn one(&mut self, op: DiskOp) -> std::io::Result<DiskData> {
        match op {
            DiskOp::Create { file, path, len, .. } => {
                let mut options = File::options();
                let options = options.read(true).write(true).create(true).truncate(true);
                let opened = options.open(self.path(&path))?;
                opened.set_len(len)?;
                self.open.insert(file, opened);
            }
            DiskOp::Open { file, path, .. } => {
                let opened = File::options().read(true).write(true).open(self.path(&path))?;
                self.open.insert(file, opened);
            }
            DiskOp::Commit { file, extents, .. } => {
                for extent in extents {
                    self.open[&file].write_all_at(extent.bytes.as_slice(), extent.offset)?;
                }
            }
            DiskOp::Read { file, offset, len } => {
                let mut buffer = AlignedBuffer::new(len);
                let got = self.open[&file].read_at(buffer.as_mut_slice(), offset)?;
                buffer.truncate(got);
                return Ok(DiskData::Bytes(buffer));
            }
            DiskOp::Close { file } => drop(self.open.remove(&file)),
            DiskOp::Replace { path, bytes } => fs::write(self.path(&path), bytes)?,
            DiskOp::Rename { from, to } => fs::rename(self.path(&from), self.path(&to))?,
            DiskOp::Remove { path, .. } => fs::remove_file(self.path(&path))?,
            DiskOp::RemoveTree { path } => fs::remove_dir_all(self.path(&path))?,
            DiskOp::Sync { .. } => {}
        }
        Ok(DiskData::None)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl BootDisk for Files {
    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        let Ok(entries) = fs::read_dir(self.root.join(path)) else { return Ok(Vec::new()) };
        let mut names: Vec<String> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let slash = if entry.path().is_dir() { "/" } else { "" };
                format!("{}{slash}", entry.file_name().to_string_lossy())
            })
            .collect();
        names.sort();
        Ok(names)
    }

    fn len(&mut self, path: &str) -> Result<u64, DiskError> {
        fs::metadata(self.root.join(path)).map(|m| m.len()).map_err(|error| failed(&error))
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let file = File::open(self.root.join(path)).map_err(|error| failed(&error))?;
        let mut bytes = vec![0; len];
        let mut at = 0;
        while at < len {
            let read = file.read_at(&mut bytes[at..], offset + at as u64);
            match read.map_err(|error| failed(&error))? {
                0 => break,
                got => at += got,
            }
        }
        bytes.truncate(at);
        Ok(bytes)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        fs::rename(self.path(from), self.path(to)).map_err(|error| failed(&error))
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        fs::write(self.path(path), bytes).map_err(|error| failed(&error))
    }

    fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let file = File::options().write(true).open(self.path(path));
        let file = file.map_err(|error| failed(&error))?;
        file.write_all_at(bytes, offset).map_err(|error| failed(&error))
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let path = self.path(path);
        let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        result.map_err(|error| failed(&error))
    }
}
