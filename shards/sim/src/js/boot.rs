//! The simulated disk at start. A seed may cut the power in the middle of it.

use store::disk::{BootDisk, DiskError};

use super::disk::{EIO, Inode, SimDisk};

impl SimDisk {
    /// Whether a write of recovery happens as a whole. False once the power is gone.
    fn may_write(&mut self) -> bool {
        match &mut self.boot_writes_left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// The write at which the power goes may happen in part.
    fn is_last_gasp(&mut self) -> bool {
        self.boot_writes_left == Some(0) && self.random.below(2) == 0
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
        let inode = self.names.get(path).and_then(|inode| self.inodes.get(inode));
        let bytes = &inode.ok_or(DiskError::NotFound)?.current;
        let from = bytes.get(offset as usize..).unwrap_or_default();
        Ok(from[..len.min(from.len())].to_vec())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        if !self.may_write() && !self.is_last_gasp() {
            return Err(EIO);
        }
        self.rename_path(from, to)
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        if !self.may_write() && !self.is_last_gasp() {
            return Err(EIO);
        }
        self.replace_whole(path, bytes);
        Ok(())
    }

    fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let is_whole = self.may_write();
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
        if !self.may_write() && !self.is_last_gasp() {
            return Err(EIO);
        }
        if self.names.remove(path).is_none() {
            self.remove_tree(path, |_| true);
        }
        Ok(())
    }
}
