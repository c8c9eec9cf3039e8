//! The simulated disk at start. A seed may cut the power in the middle of it.

use store::disk::{BootDisk, DiskError};

use super::disk::{EIO, Inode, SimDisk};

/// How much of a write happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Whole,
    Part,
    Nothing,
}

impl SimDisk {
    /// How much of a write of recovery happens.
    fn next_write(&mut self) -> Written {
        match &mut self.boot_writes_left {
            None => Written::Whole,
            Some(0) if self.boot_is_cut => Written::Nothing,
            Some(0) => {
                // The power goes in the middle of this one.
                self.boot_is_cut = true;
                Written::Part
            }
            Some(left) => {
                *left -= 1;
                Written::Whole
            }
        }
    }

    /// A write that happens as a whole or not at all.
    fn write_whole(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        match self.next_write() {
            Written::Whole => write(self),
            Written::Part if self.random.below(2) == 0 => write(self).and(Err(EIO)),
            Written::Part | Written::Nothing => Err(EIO),
        }
    }
}

impl BootDisk for SimDisk {
    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut names: Vec<String> = self
            .names
            .keys()
            .filter_map(|name| name.strip_prefix(&below))
            .map(|rest| match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest.to_owned(),
            })
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn len(&mut self, path: &str) -> Result<u64, DiskError> {
        let inode = self.names.get(path).and_then(|inode| self.inodes.get(inode));
        inode.map(|inode| inode.current.len() as u64).ok_or(DiskError::NotFound)
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        match &mut self.boot_reads_left {
            Some(0) => {
                self.boot_reads_left = None;
                if self.trace {
                    eprintln!("[disk] {path}: {len} bytes at {offset} cannot be read");
                }
                return Err(EIO);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let inode = self.names.get(path).and_then(|inode| self.inodes.get(inode));
        let bytes = &inode.ok_or(DiskError::NotFound)?.current;
        let from = bytes.get(offset as usize..).unwrap_or_default();
        Ok(from[..len.min(from.len())].to_vec())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.write_whole(|disk| disk.rename_path(from, to))
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_whole(|disk| {
            disk.replace_whole(path, bytes);
            Ok(())
        })
    }

    fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let written = self.next_write();
        if written == Written::Nothing {
            return Err(EIO);
        }
        let is_whole = written == Written::Whole;
        if self.trace {
            eprintln!("[disk at start] {path} {offset}+{} {written:?}", bytes.len());
        }
        let sector = self.sector;
        let inode = self.names.get(path).copied().ok_or(DiskError::NotFound)?;
        let random = &mut self.random;
        let inode: &mut Inode = self.inodes.get_mut(&inode).ok_or(DiskError::NotFound)?;
        inode.write(offset, bytes, sector, || is_whole || random.below(2) == 0);
        if !is_whole {
            return Err(EIO);
        }
        inode.sync(sector);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        if self.trace {
            eprintln!("[disk at start] {path} is removed");
        }
        self.write_whole(|disk| {
            if disk.names.remove(path).is_none() {
                disk.remove_tree(path);
            }
            Ok(())
        })
    }
}
