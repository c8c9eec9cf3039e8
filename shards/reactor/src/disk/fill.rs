//! Making a file of real zeroes, piece by piece, so that its maker can do other things between.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use store::disk::AlignedBuffer;

/// Bytes written by one step.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A file that is being filled.
#[derive(Debug)]
pub(crate) struct Fill {
    file: File,
    path: PathBuf,
    done: u64,
    len: u64,
}

impl Fill {
    /// Makes the file and gives it its space, so that a full disk shows at once.
    ///
    /// # Errors
    /// What the operating system says; the file is gone then.
    pub(crate) fn start(path: PathBuf, len: u64, direct: bool) -> Result<Self, Errno> {
        let file = open_new(&path, direct && len.is_multiple_of(PIECE_BYTES as u64))?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
            // Zeroes follow in any case; without the reservation they take the space.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(Self { file, path, done: 0, len }),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Writes the next piece. True when the file is full, and durable if `sync` asks for it; its
    /// name is not yet.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn step(&mut self, zeroes: &AlignedBuffer, sync: bool) -> Result<bool, Errno> {
        if self.done < self.len {
            let left = (self.len - self.done).min(zeroes.len() as u64) as usize;
            let piece = zeroes.as_slice().get(..left).unwrap_or_default();
            self.done += rustix::io::pwrite(&self.file, piece, self.done)? as u64;
        }
        if self.done < self.len {
            return Ok(false);
        }
        if sync {
            rustix::fs::fsync(self.file.as_fd())?;
        }
        Ok(true)
    }

    /// Where the file is.
    pub(crate) fn into_path(self) -> PathBuf {
        self.path
    }

    /// Removes what there is of it.
    pub(crate) fn abandon(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens a file that must not exist.
fn open_new(path: &std::path::Path, direct: bool) -> Result<File, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_bits_truncate(super::files::FILE_MODE);
    if direct {
        match rustix::fs::open(path, flags | OFlags::DIRECT, mode) {
            Ok(fd) => return Ok(File::from(fd)),
            // The name may have been made before the flag was refused.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => drop(std::fs::remove_file(path)),
            Err(error) => return Err(error),
        }
    }
    rustix::fs::open(path, flags, mode).map(File::from)
}

/// Overwrites the first `len` bytes of a file with zeroes, durably.
///
/// # Errors
/// What the operating system says.
pub(crate) fn overwrite(file: &File, len: u64, zeroes: &AlignedBuffer) -> Result<(), Errno> {
    let mut done = 0;
    while done < len {
        let left = (len - done).min(zeroes.len() as u64) as usize;
        let piece = zeroes.as_slice().get(..left).unwrap_or_default();
        done += rustix::io::pwrite(file, piece, done)? as u64;
    }
    rustix::fs::fdatasync(file)
}
