//! Operations on names, as plain blocking calls: each is durable when it returns.

use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;
use store::disk::{Access, AlignedBuffer, BLOCK_BYTES, DiskError, FileId};

use super::fill::{Fill, PIECE_BYTES, overwrite};
use super::pool::{HEAD_BYTES, Pool};
use super::{DirectMode, DiskSettings, from_io, names, to_disk_error};

/// Files of the store: the group may read.
pub(crate) const FILE_MODE: u32 = 0o640;
/// Directories of the store.
const DIR_MODE: u32 = 0o750;

/// An operation on names.
#[derive(Debug)]
pub(crate) enum NameOp {
    Create { file: FileId, path: String, len: u64, access: Access },
    Open { file: FileId, path: String, access: Access },
    Close { file: FileId, fd: Option<OwnedFd> },
    Replace { path: String, bytes: Vec<u8> },
    Rename { from: String, to: String },
    Remove { path: String, erase: bool },
    RemoveTree { path: String },
}

impl NameOp {
    /// The path it is about: of a renaming the old one. Empty for a closing.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Create { path, .. }
            | Self::Open { path, .. }
            | Self::Replace { path, .. }
            | Self::Rename { from: path, .. }
            | Self::Remove { path, .. }
            | Self::RemoveTree { path } => path,
            Self::Close { .. } => "",
        }
    }
}

/// The store's directory as the helper works on it.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    pool: Pool,
    mode: DirectMode,
    zeroes: AlignedBuffer,
    segment_bytes: u64,
    spare_min: usize,
    /// A full segment has been asked for, so that another will be.
    spare_wanted: bool,
    /// A full segment in the making.
    fill: Option<Fill>,
    /// Device and inode of every open file: what is open is not recycled.
    open: HashMap<FileId, (u64, u64)>,
    /// Removed segments of the last operation that are to be recycled.
    old: Vec<PathBuf>,
    /// Directories whose names are not durable yet.
    fresh_dirs: HashSet<PathBuf>,
    /// A file that refuses direct access has been named in the log.
    has_warned: bool,
}

impl Files {
    /// Opens the directory and its pool, and finds out what direct access takes here.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn open(settings: &DiskSettings) -> std::io::Result<Self> {
        make_dirs(&settings.store_dir)?;
        let mut pool = Pool::open(settings)?;
        let probe = pool.name("new");
        let mode = if settings.direct { probe_direct(&probe)? } else { DirectMode::Off };
        Ok(Self {
            root: settings.store_dir.clone(),
            pool,
            mode,
            zeroes: AlignedBuffer::new(PIECE_BYTES),
            segment_bytes: settings.segment_bytes,
            spare_min: settings.spare_min,
            spare_wanted: false,
            fill: None,
            open: HashMap::new(),
            old: Vec::new(),
            fresh_dirs: HashSet::new(),
            has_warned: false,
        })
    }

    /// How files are opened for direct access.
    pub(crate) const fn mode(&self) -> DirectMode {
        self.mode
    }

    /// Segments that are ready.
    pub(crate) fn spare_segments(&self) -> usize {
        self.pool.len()
    }

    /// Carries out one operation. A file that it opens comes back.
    ///
    /// # Errors
    /// As the store knows them.
    pub(crate) fn run(&mut self, op: NameOp) -> Result<Option<OwnedFd>, DiskError> {
        match op {
            NameOp::Create { file, path, len, access } => {
                let path = self.resolve(&path)?;
                self.with_space(|files| files.create(&path, len))?;
                self.open_file(file, &path, access).map(Some)
            }
            NameOp::Open { file, path, access } => {
                let path = self.resolve(&path)?;
                self.open_file(file, &path, access).map(Some)
            }
            NameOp::Close { file, fd } => {
                self.open.remove(&file);
                drop(fd);
                Ok(None)
            }
            NameOp::Replace { path, bytes } => {
                let path = self.resolve(&path)?;
                self.with_space(|files| files.replace(&path, &bytes))?;
                Ok(None)
            }
            NameOp::Rename { from, to } => {
                let (from, to) = (self.resolve(&from)?, self.resolve(&to)?);
                rename(&from, &to).map(|()| None)
            }
            NameOp::Remove { path, erase } => {
                let path = self.resolve(&path)?;
                self.remove(&path, erase).map(|()| None)
            }
            NameOp::RemoveTree { path } => {
                let path = self.resolve(&path)?;
                self.remove_tree(&path).map(|()| None)
            }
        }
    }

    /// What can wait until nothing else is to be done: recycling, and filling a segment ahead.
    /// True when there is more of it.
    pub(crate) fn step_idle(&mut self) -> bool {
        if let Some(old) = self.old.pop() {
            if let Err(error) = self.pool.recycle(&old, HEAD_BYTES, &self.zeroes) {
                tracing::warn!("cannot recycle a segment: {error}");
            }
            return true;
        }
        if !self.spare_wanted || self.pool.len() >= self.spare_min {
            return false;
        }
        let stepped = self.step_fill();
        match stepped {
            Ok(Some(fill)) => {
                if let Err(error) = self.pool.add_filled(fill) {
                    tracing::warn!("cannot keep a segment that was filled ahead: {error}");
                    self.spare_wanted = false;
                }
            }
            Ok(None) => {}
            // No space for what nobody needs yet: the next segment that is needed tries again.
            Err(_) => self.spare_wanted = false,
        }
        true
    }

    /// Leaves nothing half done behind.
    pub(crate) fn close(mut self) {
        if let Some(fill) = self.fill.take() {
            fill.abandon();
        }
    }

    /// One piece of the full segment in the making; the segment when it is done.
    fn step_fill(&mut self) -> Result<Option<Fill>, Errno> {
        let mut fill = match self.fill.take() {
            Some(fill) => fill,
            None => self.start_fill(self.segment_bytes)?,
        };
        match fill.step(&self.zeroes, true) {
            Ok(true) => Ok(Some(fill)),
            Ok(false) => {
                self.fill = Some(fill);
                Ok(None)
            }
            Err(error) => {
                fill.abandon();
                Err(error)
            }
        }
    }

    fn start_fill(&mut self, len: u64) -> Result<Fill, Errno> {
        let path = self.pool.name("new");
        Fill::start(path, len, matches!(self.mode, DirectMode::Direct { .. }))
    }

    fn resolve(&self, path: &str) -> Result<PathBuf, DiskError> {
        names::resolve(&self.root, path)
    }

    /// Runs something that takes space. When there is none, spare segments are given up for it.
    fn with_space(
        &mut self,
        mut act: impl FnMut(&mut Self) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        loop {
            let outcome = act(self);
            if outcome != Err(DiskError::NoSpace) {
                return outcome;
            }
            self.spare_wanted = false;
            if let Some(fill) = self.fill.take() {
                fill.abandon();
            } else if !self.pool.give_up_one() {
                return outcome;
            }
        }
    }

    fn create(&mut self, path: &Path, len: u64) -> Result<(), DiskError> {
        let created = self.create_in(path, len);
        if created.is_err()
            && let Some(parent) = path.parent().filter(|parent| self.fresh_dirs.contains(*parent))
            && std::fs::remove_dir(parent).is_ok()
        {
            self.fresh_dirs.remove(parent);
        }
        created
    }

    fn create_in(&mut self, path: &Path, len: u64) -> Result<(), DiskError> {
        let parent = parent_of(path)?;
        let above = parent_of(parent)?;
        make_dirs(above).map_err(from_io)?;
        // The first file of a directory: nobody relies on anything in it before a commit has
        // flushed the file. All names are made first, so that one flush of a journal has them all.
        if make_dir(parent).map_err(from_io)? {
            self.fresh_dirs.insert(parent.to_owned());
        }
        let is_first = self.fresh_dirs.contains(parent);
        let is_full = len == self.segment_bytes;
        let recycled = self.pool.take(len);
        let is_recycled = recycled.is_some();
        let ready = match recycled {
            Some(ready) => ready,
            None if is_full => loop {
                if let Some(fill) = self.step_fill().map_err(to_disk_error)? {
                    break fill.into_path();
                }
            },
            None => self.fill_whole(len, !is_first).map_err(to_disk_error)?,
        };
        self.spare_wanted |= is_full;
        let mut placed = rename_new(&ready, path);
        if placed == Err(Errno::EXIST) && may_give_way(path, len) {
            placed = rustix::fs::rename(&ready, path);
        }
        if let Err(error) = placed {
            if is_full {
                self.pool.put_back(ready);
            } else {
                let _ = std::fs::remove_file(&ready);
            }
            return Err(to_disk_error(error));
        }
        if is_first {
            sync_dirs(parent, above)?;
            self.fresh_dirs.remove(parent);
        } else {
            sync_dir(parent)?;
        }
        // A recycled file must not come back into the pool. What was being made there is removed
        // at the next start, by its name alone.
        if is_recycled {
            rustix::fs::fsync(self.pool.dir_file()).map_err(to_disk_error)?;
        }
        Ok(())
    }

    fn fill_whole(&mut self, len: u64, sync: bool) -> Result<PathBuf, Errno> {
        let mut fill = self.start_fill(len)?;
        loop {
            match fill.step(&self.zeroes, sync) {
                Ok(true) => return Ok(fill.into_path()),
                Ok(false) => {}
                Err(error) => {
                    fill.abandon();
                    return Err(error);
                }
            }
        }
    }

    fn open_file(
        &mut self,
        file: FileId,
        path: &Path,
        access: Access,
    ) -> Result<OwnedFd, DiskError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let is_direct = access == Access::Direct && matches!(self.mode, DirectMode::Direct { .. });
        let mut opened = Err(Errno::INVAL);
        if is_direct {
            opened = rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty());
            if matches!(opened, Err(Errno::INVAL)) && !self.has_warned {
                self.has_warned = true;
                let path = path.display();
                tracing::warn!("{path} refuses direct I/O; writes go through the page cache");
            }
        }
        // One directory of the store may lie on another file system than its root.
        if matches!(opened, Err(Errno::INVAL)) {
            opened = rustix::fs::open(path, flags, Mode::empty());
        }
        let fd = opened.map_err(to_disk_error)?;
        let stat = rustix::fs::fstat(&fd).map_err(to_disk_error)?;
        self.open.insert(file, (stat.st_dev, stat.st_ino));
        Ok(fd)
    }

    fn replace(&mut self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let parent = parent_of(path)?;
        make_dirs(parent).map_err(from_io)?;
        let temporary = self.pool.name("new");
        let replaced = write_new(&temporary, bytes)
            .and_then(|()| rustix::fs::rename(&temporary, path).map_err(to_disk_error))
            .and_then(|()| sync_dir(parent));
        if replaced.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        replaced
    }

    fn remove(&mut self, path: &Path, erase: bool) -> Result<(), DiskError> {
        let meta = std::fs::symlink_metadata(path).map_err(from_io)?;
        if meta.is_dir() {
            return Err(to_disk_error(Errno::ISDIR));
        }
        if erase && meta.is_file() {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(to_disk_error)?;
            overwrite(&File::from(fd), meta.len(), &self.zeroes).map_err(to_disk_error)?;
        }
        if !self.take_for_recycling(path, &meta) {
            std::fs::remove_file(path).map_err(from_io)?;
        }
        sync_dir(parent_of(path)?)
    }

    /// Moves a removed segment to the pool, if it is wanted there.
    fn take_for_recycling(&mut self, path: &Path, meta: &std::fs::Metadata) -> bool {
        let is_open = self.open.values().any(|inode| *inode == (meta.dev(), meta.ino()));
        if is_open || !self.pool.wants(meta, self.old.len()) {
            return false;
        }
        let old = self.pool.name("old");
        let moved = rustix::fs::rename(path, &old).is_ok();
        if moved {
            self.old.push(old);
        }
        moved
    }

    /// The tree vanishes at once; what it holds is removed afterwards, or at the next start.
    fn remove_tree(&mut self, path: &Path) -> Result<(), DiskError> {
        let meta = std::fs::symlink_metadata(path).map_err(from_io)?;
        if !meta.is_dir() {
            return Err(to_disk_error(Errno::NOTDIR));
        }
        let doomed = self.pool.name("tree");
        let doomed = match rustix::fs::rename(path, &doomed) {
            Ok(()) => doomed,
            // A mount point, or on another file system.
            Err(Errno::XDEV | Errno::BUSY) => path.to_path_buf(),
            Err(error) => return Err(to_disk_error(error)),
        };
        sync_dir(parent_of(path)?)?;
        self.recycle_below(&doomed);
        std::fs::remove_dir_all(&doomed).map_err(from_io)
    }

    fn recycle_below(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            if meta.is_dir() {
                self.recycle_below(&path);
            } else {
                self.take_for_recycling(&path, &meta);
            }
        }
    }
}

fn parent_of(path: &Path) -> Result<&Path, DiskError> {
    path.parent().ok_or(DiskError::Os(Errno::INVAL.raw_os_error()))
}

/// Makes a directory and those above it, durably.
///
/// # Errors
/// What the operating system says.
pub(crate) fn make_dirs(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dirs(parent)?;
    }
    // Of two shards one makes it; each waits until the name is durable.
    make_dir(dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a directory. False when there is one.
fn make_dir(dir: &Path) -> std::io::Result<bool> {
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(from_io)
}

/// The same for two directories at once, which a journal flushes together.
fn sync_dirs(one: &Path, other: &Path) -> Result<(), DiskError> {
    std::thread::scope(|scope| {
        let beside = std::thread::Builder::new().spawn_scoped(scope, || sync_dir(one));
        let other = sync_dir(other);
        let one = match beside.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(synced)) => synced,
            // Without a thread for it, or when that has failed.
            Ok(Err(_)) | Err(_) => sync_dir(one),
        };
        other.and(one)
    })
}

/// Renames durably; the target's directory is made when it is missing.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    let (old_dir, new_dir) = (parent_of(from)?, parent_of(to)?);
    make_dirs(new_dir).map_err(from_io)?;
    rustix::fs::rename(from, to).map_err(to_disk_error)?;
    sync_dir(new_dir)?;
    if new_dir == old_dir { Ok(()) } else { sync_dir(old_dir) }
}

/// Writes a file that must not exist, durably but for its name.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_bits_truncate(FILE_MODE);
    let mut file = File::from(rustix::fs::open(path, flags, mode).map_err(to_disk_error)?);
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(from_io)
}

/// Whether a file that is in the way of a new one may be replaced: it holds nothing, or it is
/// shorter, which is what the store does with a segment that it needs longer. Anything else stays.
fn may_give_way(path: &Path, len: u64) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) else { return false };
    let file = File::from(fd);
    let Ok(meta) = file.metadata() else { return false };
    let mut head = Vec::new();
    let read = file.take(BLOCK_BYTES as u64).read_to_end(&mut head);
    let is_blank = read.is_ok() && head.iter().all(|byte| *byte == 0);
    meta.is_file() && (meta.len() < len || is_blank)
}

/// Renames to a name that must not exist.
fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
        // Not every file system knows the flag; a link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::link(from, to)?;
            rustix::fs::unlink(from)
        }
        outcome => outcome,
    }
}

/// Finds out how direct access is done where this file is made; it is removed again.
fn probe_direct(path: &Path) -> std::io::Result<DirectMode> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_bits_truncate(FILE_MODE);
    let opened = rustix::fs::open(path, flags | OFlags::DIRECT, mode);
    let found = match opened {
        Ok(fd) => probe_alignment(&fd),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(DirectMode::Refused),
        // A full disk serves what it holds. A file that refuses falls back when it is opened.
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(DirectMode::Direct { align: BLOCK_BYTES as u32 }),
        Err(error) => Err(error.into()),
    };
    let _ = std::fs::remove_file(path);
    found
}

fn probe_alignment(fd: &OwnedFd) -> std::io::Result<DirectMode> {
    let blocks = BLOCK_BYTES as u32;
    let told = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    let align = match told {
        Ok(told) if told.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            told.stx_dio_mem_align.max(told.stx_dio_offset_align)
        }
        // Older kernels do not tell: a block is what every usual file system takes.
        _ => blocks,
    };
    if align == 0 || align > blocks {
        return Ok(DirectMode::Refused);
    }
    // Some file systems take the flag and refuse the write.
    let block = AlignedBuffer::new(BLOCK_BYTES);
    match rustix::io::pwrite(fd.as_fd(), block.as_slice(), 0) {
        Ok(_) | Err(Errno::NOSPC | Errno::DQUOT) => Ok(DirectMode::Direct { align }),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(DirectMode::Refused),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_segments_are_given_up_for_what_needs_their_space() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = DiskSettings::new(dir.path().to_path_buf());
        settings.segment_bytes = 1 << 20;
        settings.spare_min = 2;
        let mut files = Files::open(&settings).unwrap();
        files.spare_wanted = true;
        while files.step_idle() {}
        assert_eq!(files.spare_segments(), 2);
        // A disk that has no space until both are gone.
        let mut tries = 0;
        let act = |files: &mut Files| {
            tries += 1;
            if files.pool.len() == 0 { Ok(()) } else { Err(DiskError::NoSpace) }
        };
        files.with_space(act).unwrap();
        assert_eq!(tries, 3);
        assert_eq!(std::fs::read_dir(dir.path().join(".pool/0")).unwrap().count(), 0);
        // And one that has none at all: it is not tried for ever.
        let full = files.with_space(|_| Err(DiskError::NoSpace));
        assert_eq!(full.unwrap_err(), DiskError::NoSpace);
        assert!(!files.step_idle());
    }
}
