//! A disk in memory: operations complete in any order that the driver may choose, writes that are
//! not flushed may be lost sector by sector, and it can be full, broken or hit by flips.

use std::collections::{BTreeMap, HashMap};

use crate::disk::{
    AlignedBuffer, BLOCK_BYTES, BootDisk, DiskData, DiskDone, DiskError, DiskOp, DiskQueue, FileId,
    Ticket,
};

/// What the device writes as a whole.
const SECTOR_BYTES: usize = 512;

/// A small generator of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// What a process sees.
    pub(crate) bytes: Vec<u8>,
    /// What survives a power cut for certain.
    flushed: Vec<u8>,
    /// Ranges that were written and not flushed.
    unflushed: Vec<(usize, usize)>,
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        assert!(end <= self.bytes.len(), "a write behind the end of the file");
        self.bytes[offset..end].copy_from_slice(bytes);
        self.unflushed.push((offset, end));
    }

    fn flush(&mut self) {
        for (start, end) in self.unflushed.drain(..) {
            self.flushed[start..end].copy_from_slice(&self.bytes[start..end]);
        }
    }

    fn whole(bytes: Vec<u8>) -> Self {
        Self { flushed: bytes.clone(), bytes, unflushed: Vec::new() }
    }
}

/// How an operation is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Create,
    Commit,
    Sync,
    Read,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<String, File>,
    open: HashMap<FileId, String>,
    /// What the next operations of a kind fail with.
    pub(crate) faults: Vec<(Fault, DiskError)>,
    /// Changes that recovery may still make before the next crash.
    pub(crate) changes_left: Option<usize>,
    pub(crate) changes: usize,
    pub(crate) torn: Option<u64>,
    orphans: usize,
    /// What was in files that a start removed, if somebody wants to know.
    pub(crate) freed: Option<Vec<Vec<u8>>>,
}

/// A disk with operations that are under way.
#[derive(Debug, Default)]
pub(crate) struct Driver {
    pub(crate) disk: Disk,
    pub(crate) queue: DiskQueue,
    under_way: Vec<(Ticket, DiskOp)>,
}

fn file_of(op: &DiskOp) -> Option<FileId> {
    match op {
        DiskOp::Create { file, .. }
        | DiskOp::Open { file, .. }
        | DiskOp::Commit { file, .. }
        | DiskOp::Sync { file }
        | DiskOp::Read { file, .. }
        | DiskOp::Close { file } => Some(*file),
        _ => None,
    }
}

impl Driver {
    pub(crate) fn on(disk: Disk) -> Self {
        Self { disk, ..Self::default() }
    }

    fn gather(&mut self) {
        self.under_way.append(&mut self.queue.ops);
    }

    /// Completes one operation, whichever the driver likes; none when nothing is under way.
    pub(crate) fn complete(&mut self, rng: &mut Rng) -> Option<DiskDone> {
        self.gather();
        let free: Vec<usize> = (0..self.under_way.len()).filter(|at| self.is_free(*at)).collect();
        let at = *free.get(rng.below(free.len()))?;
        let (ticket, op) = self.under_way.remove(at);
        let result = self.disk.carry_out(&op);
        Some(DiskDone { ticket, result })
    }

    /// Whether nothing that has to come before is under way.
    fn is_free(&self, at: usize) -> bool {
        let (_, op) = &self.under_way[at];
        self.under_way[..at].iter().all(|(_, earlier)| match (file_of(earlier), file_of(op)) {
            (Some(a), Some(b)) => {
                a != b
                    || matches!(op, DiskOp::Read { .. })
                    || matches!(earlier, DiskOp::Read { .. })
            }
            (None, None) => false,
            _ => true,
        })
    }

    /// What is left when the process is killed, or the power fails.
    pub(crate) fn crash(mut self, rng: &mut Rng, power: bool) -> Disk {
        self.gather();
        for (_, op) in std::mem::take(&mut self.under_way) {
            self.disk.tear(&op, rng);
        }
        if power {
            for file in self.disk.files.values_mut() {
                for (start, end) in std::mem::take(&mut file.unflushed) {
                    for at in (start..end).step_by(SECTOR_BYTES) {
                        let to = (at + SECTOR_BYTES).min(end);
                        if rng.chance() {
                            file.flushed[at..to].copy_from_slice(&file.bytes[at..to]);
                        }
                    }
                }
                file.bytes.clone_from(&file.flushed);
            }
        }
        self.disk.files.retain(|path, _| !path.starts_with('#'));
        self.disk.open.clear();
        self.disk.faults.clear();
        self.disk
    }
}

impl Disk {
    fn fault(&mut self, kind: Fault) -> Result<(), DiskError> {
        match self.faults.iter().position(|(fault, _)| *fault == kind) {
            Some(at) => Err(self.faults.remove(at).1),
            None => Ok(()),
        }
    }

    /// What is open under one name is open under another one from now on.
    fn reopen(&mut self, from: &str, to: &str) {
        for path in self.open.values_mut().filter(|path| *path == from) {
            to.clone_into(path);
        }
    }

    /// A file that has lost its name: who has it open keeps it.
    fn orphan(&mut self, path: &str, file: File) {
        if !self.open.values().any(|open| open == path) {
            return;
        }
        self.orphans += 1;
        let orphan = format!("#{}", self.orphans);
        self.reopen(path, &orphan);
        self.files.insert(orphan, file);
    }

    fn opened(&mut self, file: FileId) -> &mut File {
        let path = self.open.get(&file).expect("an open file");
        self.files.get_mut(path).expect("a file that exists")
    }

    fn carry_out(&mut self, op: &DiskOp) -> Result<DiskData, DiskError> {
        match op {
            DiskOp::Create { file, path, len, .. } => {
                self.fault(Fault::Create)?;
                self.files.insert(path.clone(), File::whole(vec![0; *len as usize]));
                self.open.insert(*file, path.clone());
            }
            DiskOp::Open { file, path, .. } => {
                if !self.files.contains_key(path) {
                    return Err(DiskError::NotFound);
                }
                self.open.insert(*file, path.clone());
            }
            DiskOp::Commit { file, extents, sync } => {
                self.fault(Fault::Commit)?;
                let file = self.opened(*file);
                for extent in extents {
                    assert_eq!(extent.offset % BLOCK_BYTES as u64, 0);
                    assert_eq!(extent.bytes.len() % BLOCK_BYTES, 0);
                    file.write(extent.offset as usize, extent.bytes.as_slice());
                }
                if *sync {
                    file.flush();
                }
            }
            DiskOp::Sync { file } => {
                self.fault(Fault::Sync)?;
                self.opened(*file).flush();
            }
            DiskOp::Read { file, offset, len } => {
                self.fault(Fault::Read)?;
                assert_eq!(offset % BLOCK_BYTES as u64, 0);
                let bytes = &self.opened(*file).bytes;
                let start = (*offset as usize).min(bytes.len());
                let end = (start + len).min(bytes.len());
                let mut buffer = AlignedBuffer::new(end - start);
                buffer.as_mut_slice().copy_from_slice(&bytes[start..end]);
                return Ok(DiskData::Bytes(buffer));
            }
            DiskOp::Close { file } => {
                let path = self.open.remove(file).expect("an open file");
                if path.starts_with('#') {
                    self.files.remove(&path);
                }
            }
            DiskOp::Replace { path, bytes } => {
                self.files.insert(path.clone(), File::whole(bytes.clone()));
            }
            DiskOp::Rename { from, to } => {
                let file = self.files.remove(from).ok_or(DiskError::NotFound)?;
                if let Some(replaced) = self.files.insert(to.clone(), file) {
                    self.orphan(to, replaced);
                }
                self.reopen(from, to);
            }
            DiskOp::Remove { path, erase } => {
                let mut removed = self.files.remove(path).ok_or(DiskError::NotFound)?;
                if *erase {
                    removed = File::whole(vec![0; removed.bytes.len()]);
                }
                self.orphan(path, removed);
            }
            DiskOp::RemoveTree { path } => {
                let prefix = format!("{path}/");
                self.files.retain(|name, _| !name.starts_with(&prefix));
            }
        }
        Ok(DiskData::None)
    }

    /// An operation that was under way when the end came: any part of it has happened.
    fn tear(&mut self, op: &DiskOp, rng: &mut Rng) {
        match op {
            DiskOp::Commit { file, extents, .. } => {
                let Some(path) = self.open.get(file).cloned() else { return };
                for extent in extents {
                    self.tear_write(&path, extent.offset as usize, extent.bytes.as_slice(), rng);
                }
            }
            DiskOp::Read { .. } | DiskOp::Open { .. } | DiskOp::Close { .. } => {}
            DiskOp::Create { path, len, .. } if rng.chance() => {
                let len = if rng.chance() { *len } else { len / 2 };
                self.files.insert(path.clone(), File::whole(vec![0; len as usize]));
            }
            DiskOp::Remove { path, erase: true } if rng.chance() => {
                let Some(len) = self.files.get(path).map(|file| file.bytes.len()) else { return };
                self.tear_write(path, 0, &vec![0; len], rng);
            }
            _ if rng.chance() => {
                let _ = self.carry_out(op);
            }
            _ => {}
        }
    }

    fn tear_write(&mut self, path: &str, offset: usize, bytes: &[u8], rng: &mut Rng) {
        let Some(file) = self.files.get_mut(path) else { return };
        let all = rng.below(8) == 0;
        for (at, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if all || rng.chance() {
                let start = offset + at * SECTOR_BYTES;
                file.bytes[start..start + sector.len()].copy_from_slice(sector);
                file.flushed[start..start + sector.len()].copy_from_slice(sector);
            }
        }
    }

    /// Counts a change that recovery makes; false when the end comes instead.
    fn may_change(&mut self) -> Result<(), DiskError> {
        self.changes += 1;
        match &mut self.changes_left {
            Some(0) => Err(DiskError::Os(5)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl BootDisk for Disk {
    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        let prefix = format!("{path}/");
        let mut names: Vec<String> = self
            .files
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix))
            .map(|name| match name.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => name.to_owned(),
            })
            .collect();
        names.dedup();
        Ok(names)
    }

    fn len(&mut self, path: &str) -> Result<u64, DiskError> {
        self.files.get(path).map(|file| file.bytes.len() as u64).ok_or(DiskError::NotFound)
    }

    fn read(&mut self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.fault(Fault::Read)?;
        let file = self.files.get(path).ok_or(DiskError::NotFound)?;
        let start = (offset as usize).min(file.bytes.len());
        let end = (start + len).min(file.bytes.len());
        Ok(file.bytes[start..end].to_vec())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.may_change()?;
        let file = self.files.remove(from).ok_or(DiskError::NotFound)?;
        self.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.may_change()?;
        self.files.insert(path.to_owned(), File::whole(bytes.to_vec()));
        Ok(())
    }

    fn overwrite(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if let Err(error) = self.may_change() {
            if let Some(seed) = self.torn {
                self.tear_write(path, offset as usize, bytes, &mut Rng(seed));
            }
            return Err(error);
        }
        let file = self.files.get_mut(path).ok_or(DiskError::NotFound)?;
        let len = file.bytes.len().max(offset as usize + bytes.len());
        file.bytes.resize(len, 0);
        file.flushed.resize(len, 0);
        file.write(offset as usize, bytes);
        file.flush();
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.may_change()?;
        let file = self.files.remove(path).ok_or(DiskError::NotFound)?;
        if let Some(freed) = &mut self.freed {
            freed.push(file.bytes);
        }
        Ok(())
    }
}
