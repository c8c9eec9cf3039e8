//! The disk as the store sees it: operations that a driver carries out, and what came of them.
//! The reactor drives real files, the simulator a disk that tears, loses and fails.
//!
//! ```text
//!  store ──DiskQueue: (ticket, file or path, operation)──► driver ──handle_disk_done──► store
//! ```
//!
//! Operations of one file are carried out in the order of the queue where one of them is a
//! [`DiskOp::Commit`]; reads may overtake. At start, before anything is served, the store reads
//! with [`BootDisk`] and waits for the answers.

/// Writes and direct reads are aligned to this, in memory, length and position. Bytes.
pub const BLOCK_BYTES: usize = 4096;

/// A file that a store has open. Unique in the life of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// Names one operation; its completion carries the same. Unique in the life of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A zeroed buffer whose bytes begin at a multiple of [`BLOCK_BYTES`] in memory.
#[derive(Debug)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// A buffer of `len` zeroes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, start, len }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// The bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Bytes in the buffer.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True for a buffer without bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Shortens the buffer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache, where the file system allows it; what it takes instead is logged.
    Direct,
    /// Through the page cache: for stores that flush lazily.
    Cached,
}

/// One piece of a commit: aligned in position and length.
#[derive(Debug)]
pub struct Extent {
    /// Position in the file, bytes.
    pub offset: u64,
    /// What is written there.
    pub bytes: AlignedBuffer,
}

/// Something for the driver to do. Paths are relative to the store's directory, with `/`.
#[derive(Debug)]
pub enum DiskOp {
    /// Makes a file of exactly `len` zero bytes that occupy space, with its directory, durable
    /// in name and size, and opens it.
    Create {
        /// The name it has from now on.
        file: FileId,
        /// Where.
        path: String,
        /// Bytes.
        len: u64,
        /// How it is opened.
        access: Access,
    },
    /// Opens a file that exists.
    Open {
        /// The name it has from now on.
        file: FileId,
        /// Where.
        path: String,
        /// How.
        access: Access,
    },
    /// Writes every extent, in any order, and then flushes the file if `sync`. Done when all of
    /// it is done; failed when any of it failed.
    Commit {
        /// Into this file.
        file: FileId,
        /// These bytes.
        extents: Vec<Extent>,
        /// Flush the data to the device before completion.
        sync: bool,
    },
    /// Flushes a file's data to the device.
    Sync {
        /// The file.
        file: FileId,
    },
    /// Reads `len` bytes at `offset`, both aligned. Shorter only at the end of the file.
    Read {
        /// The file.
        file: FileId,
        /// Position, bytes.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// Closes a file; nothing of it is under way.
    Close {
        /// The file.
        file: FileId,
    },
    /// Gives a small file new content, all or nothing, durably.
    Replace {
        /// Where.
        path: String,
        /// The content.
        bytes: Vec<u8>,
    },
    /// Renames a file or directory, durably; the target, if it is a file, is replaced.
    Rename {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// Removes a file. With `erase` its bytes are overwritten first.
    Remove {
        /// Where.
        path: String,
        /// Overwrite with zeroes, flush, then remove.
        erase: bool,
    },
    /// Removes a directory and all in it, durably, all or nothing: after a crash it is there as it
    /// was, or gone.
    RemoveTree {
        /// Where.
        path: String,
    },
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The device or a quota is full.
    #[error("no space left on device")]
    NoSpace,
    /// No such file.
    #[error("no such file")]
    NotFound,
    /// Anything else, as the operating system numbers it.
    #[error("input/output error {0}")]
    Os(i32),
}

/// What an operation brought.
#[derive(Debug)]
pub enum DiskData {
    /// Nothing but success.
    None,
    /// Bytes that were read.
    Bytes(AlignedBuffer),
}

/// An operation has ended.
#[derive(Debug)]
pub struct DiskDone {
    /// Which.
    pub ticket: Ticket,
    /// How.
    pub result: Result<DiskData, DiskError>,
}

/// Operations for the driver, in order. One for each shard.
#[derive(Debug, Default)]
pub struct DiskQueue {
    /// What is to be done.
    pub ops: Vec<(Ticket, DiskOp)>,
    next_ticket: u64,
    next_file: u32,
}

impl DiskQueue {
    /// Adds an operation.
    pub fn push(&mut self, op: DiskOp) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.ops.push((ticket, op));
        ticket
    }

    /// A name for a file to be opened.
    pub fn name_file(&mut self) -> FileId {
        self.next_file += 1;
        FileId(self.next_file)
    }
}

/// The disk at start: every call waits for its answer. Paths as in [`DiskOp`].
pub trait BootDisk {
    /// Names in a directory, sorted, directories with a `/` at the end. A directory that does
    /// not exist is empty.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError>;

    /// Bytes of a file.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&mut self, path: &str) -> Result<u64, DiskError>;

    /// Up to `len` bytes from `offset`; fewer at the end.
    ///
    /// # Errors
    /// What the operating system says.
    fn read(&mut self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError>;

    /// Renames, durably: for quarantine.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Writes a whole file, durably, all or nothing: for repairs.
    ///
    /// # Errors
    /// What the operating system says.
    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Overwrites part of a file, durably: for the end of a log that a crash left torn. A file
    /// that ends before becomes longer, with zeroes between.
    ///
    /// # Errors
    /// What the operating system says.
    fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Removes a file or a directory with all in it.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&mut self, path: &str) -> Result<(), DiskError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_where_they_lie() {
        for len in [1, 4096, 100_000] {
            let buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.as_slice().as_ptr() as usize % BLOCK_BYTES, 0);
            assert_eq!(buffer.as_slice().len(), len);
        }
    }
}
