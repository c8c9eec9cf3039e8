//! What the end of a process, a power cut and time do to the simulated disk.

use std::collections::BTreeSet;

use broker::random::Random;
use store::disk::DiskOp;

use super::disk::{Brief, Job, SimDisk};

impl SimDisk {
    /// The process ends: what is under way happens in part, or not.
    pub(crate) fn kill(&mut self) {
        for job in std::mem::take(&mut self.queue) {
            if self.random.below(3) == 0 {
                continue;
            }
            if self.trace {
                let path = self.path_of(&job).unwrap_or_default();
                eprintln!("[disk half done] {path} {:?}", Brief(&job.op));
            }
            self.leave_half_done(job);
        }
        self.done.clear();
        self.open.clear();
        self.cached.clear();
        self.faults.clear();
        let used: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| used.contains(inode));
    }

    fn leave_half_done(&mut self, job: Job) {
        match job.op {
            DiskOp::Commit { file, extents, .. } => {
                let Ok(inode) = self.inode(job.shard, file) else { return };
                self.counts.torn_writes += 1;
                let is_torn = self.random.below(4) > 0;
                for extent in &extents {
                    self.write_some(inode, extent.offset, extent.bytes.as_slice(), is_torn);
                }
            }
            DiskOp::Create { path, len, .. } => {
                let _ = self.create(&path, len);
            }
            DiskOp::Replace { path, bytes } => self.replace_whole(&path, &bytes),
            DiskOp::Rename { from, to } => {
                let _ = self.rename_path(&from, &to);
            }
            DiskOp::Remove { path, erase } => {
                let Some(inode) = self.names.get(&path).copied() else { return };
                let is_gone = self.random.below(2) == 0;
                if erase {
                    let mut random = Random::new(self.random.next_u64());
                    self.zero(inode, || is_gone || random.below(2) == 0);
                }
                if is_gone {
                    self.names.remove(&path);
                }
            }
            DiskOp::RemoveTree { path } => self.remove_tree(&path),
            DiskOp::Open { .. } | DiskOp::Sync { .. } | DiskOp::Read { .. } => {}
            DiskOp::Close { .. } => {}
        }
    }

    /// The power goes, after the process was ended by it.
    pub(crate) fn lose_power(&mut self) {
        let sector = self.sector;
        let mood = self.random.below(4);
        let random = &mut self.random;
        for inode in self.inodes.values_mut() {
            let lost = inode.lose_power(sector, || match mood {
                0 => false,
                1 => true,
                _ => random.below(2) == 0,
            });
            self.counts.lost_sectors += lost;
        }
    }

    /// Flips one bit at rest in a file below a directory. True when there was one.
    pub(crate) fn flip_bit(&mut self, prefix: &str, near: bool) -> Option<(String, usize)> {
        let files: Vec<(String, u64)> = self
            .names
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, inode)| (name.clone(), *inode))
            .collect();
        if files.is_empty() {
            return None;
        }
        let (name, inode) = &files[self.random.below(files.len() as u32) as usize];
        let inode = self.inodes.get_mut(inode)?;
        let len = inode.current.len();
        // Files are mostly zeroes behind what is used: those bytes prove little.
        let used = inode.current.iter().rposition(|byte| *byte != 0).map_or(len, |at| at + 1);
        let most = if near { used } else { len };
        let at = self.random.below(most as u32) as usize;
        let bit = 1 << self.random.below(8);
        *inode.current.get_mut(at)? ^= bit;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= bit;
        }
        Some((name.clone(), at))
    }
}
