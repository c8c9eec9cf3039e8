//! Segments ready for use: removed ones kept for recycling, and zero-filled ones made ahead.
//!
//! ```text
//!  <store>/.pool/<shard>/<n>.new     being filled with zeroes
//!                        <n>.old     just removed, its head not yet zeroed
//!                        <n>.free    ready: taken by a rename into place
//!                        <n>.tree    a directory on its way out
//! ```
//!
//! All but `.free` is removed at start. The first bytes of a recycled file are zeroes; behind them
//! it holds old bytes, which the store's checksums never take for its own.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use store::disk::AlignedBuffer;

use super::fill::{Fill, PIECE_BYTES, overwrite};

/// Name of the directory below the store's.
const POOL_DIR: &str = ".pool";

/// The pool of a shard.
#[derive(Debug)]
pub(crate) struct Pool {
    dir: PathBuf,
    dir_file: File,
    segment_bytes: u64,
    recycled_max: usize,
    free: VecDeque<PathBuf>,
    next: u64,
}

impl Pool {
    /// Opens the pool's directory, keeps what is ready and removes what is not.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn open(settings: &super::DiskSettings) -> std::io::Result<Self> {
        let root = settings.store_dir.join(POOL_DIR);
        let dir = root.join(settings.shard.to_string());
        super::files::make_dirs(&dir)?;
        if settings.shard == 0 {
            remove_other_shards(&root, settings.shards);
        }
        let mut pool = Self {
            dir_file: File::open(&dir)?,
            dir,
            segment_bytes: settings.segment_bytes,
            recycled_max: settings.recycled_max,
            free: VecDeque::new(),
            next: 0,
        };
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(&pool.dir)?.flatten().map(|entry| entry.path()).collect();
        found.sort();
        for path in found {
            pool.note_number(&path);
            if pool.is_ready(&path) && pool.free.len() < pool.recycled_max {
                pool.free.push_back(path);
            } else if path.is_dir() {
                let _ = std::fs::remove_dir_all(&path);
            } else {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(pool)
    }

    fn note_number(&mut self, path: &Path) {
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        self.next = self.next.max(number.map_or(0, |number| number.saturating_add(1)));
    }

    fn is_ready(&self, path: &Path) -> bool {
        let is_free = path.extension().is_some_and(|kind| kind == "free");
        let fits = |meta: std::fs::Metadata| {
            meta.is_file() && meta.len() == self.segment_bytes && occupies_all(&meta)
        };
        is_free && std::fs::symlink_metadata(path).is_ok_and(fits)
    }

    /// A name in the pool that nothing has.
    pub(crate) fn name(&mut self, kind: &str) -> PathBuf {
        let number = self.next;
        self.next += 1;
        self.dir.join(format!("{number:020}.{kind}"))
    }

    /// Segments that are ready.
    pub(crate) fn len(&self) -> usize {
        self.free.len()
    }

    /// Takes a segment of this size, if there is one.
    pub(crate) fn take(&mut self, len: u64) -> Option<PathBuf> {
        if len == self.segment_bytes { self.free.pop_front() } else { None }
    }

    /// Gives a segment back that could not be used.
    pub(crate) fn put_back(&mut self, path: PathBuf) {
        self.free.push_front(path);
    }

    /// Removes a ready segment to make space. False when there is none.
    pub(crate) fn give_up_one(&mut self) -> bool {
        self.free.pop_back().is_some_and(|path| std::fs::remove_file(path).is_ok())
    }

    /// Adds a file that was filled here.
    pub(crate) fn add_filled(&mut self, fill: Fill) -> Result<(), Errno> {
        let path = self.name("free");
        rustix::fs::rename(fill.into_path(), &path)?;
        rustix::fs::fsync(&self.dir_file)?;
        self.free.push_back(path);
        Ok(())
    }

    /// Whether a file that is to be removed should come here instead, where `coming` others are
    /// already on their way.
    pub(crate) fn wants(&self, meta: &std::fs::Metadata, coming: usize) -> bool {
        self.free.len() + coming < self.recycled_max
            && meta.is_file()
            && meta.len() == self.segment_bytes
            && meta.nlink() == 1
            && occupies_all(meta)
    }

    /// Makes a removed segment, which is in the pool under `old`, ready for use.
    ///
    /// # Errors
    /// What the operating system says; the file is gone then.
    pub(crate) fn recycle(
        &mut self,
        old: &Path,
        zero_bytes: u64,
        zeroes: &AlignedBuffer,
    ) -> Result<(), Errno> {
        let path = self.name("free");
        let clean = || {
            let file = OpenOptions::new()
                .write(true)
                .open(old)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            overwrite(&file, zero_bytes.min(self.segment_bytes), zeroes)?;
            rustix::fs::rename(old, &path)?;
            rustix::fs::fsync(&self.dir_file)
        };
        let cleaned = clean();
        match cleaned {
            Ok(()) => self.free.push_back(path),
            Err(_) => drop(std::fs::remove_file(old)),
        }
        cleaned
    }

    /// The directory, to be flushed.
    pub(crate) const fn dir_file(&self) -> &File {
        &self.dir_file
    }
}

/// Bytes at the head of a recycled segment that are zeroed: its header and what belongs to it.
pub(crate) const HEAD_BYTES: u64 = PIECE_BYTES as u64;

fn occupies_all(meta: &std::fs::Metadata) -> bool {
    meta.blocks().saturating_mul(512) >= meta.len()
}

/// Pools of shards that no longer exist are only space.
fn remove_other_shards(root: &Path, shards: usize) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<usize>().ok());
        if number.is_none_or(|number| number >= shards) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
