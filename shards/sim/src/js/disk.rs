//! A disk in memory that does what disks do: completions late and out of order, sectors that a
//! power cut tears or forgets, errors, no space, operations that never end.
//!
//! ```text
//!  DiskOp ─► queue ─► carried out ─► done ─► DiskDone
//!                │ kill: partly        current (what is read) ── sync ──► durable
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use broker::random::Random;
use store::disk::{Access, AlignedBuffer, DiskData, DiskDone, DiskError, DiskOp, FileId, Ticket};

/// An input/output error.
pub(crate) const EIO: DiskError = DiskError::Os(5);
/// The file exists.
const EXISTS: DiskError = DiskError::Os(17);
/// The file is not open.
const NOT_OPEN: DiskError = DiskError::Os(9);

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Inode {
    /// What survives a power cut.
    pub(crate) durable: Vec<u8>,
    /// What is read.
    pub(crate) current: Vec<u8>,
    /// Sectors written and not flushed.
    dirty: BTreeSet<usize>,
    /// Sectors whose flush failed: a later flush does not save them.
    doomed: BTreeSet<usize>,
}

impl Inode {
    fn zeroed(len: usize) -> Self {
        Self { durable: vec![0; len], current: vec![0; len], ..Self::default() }
    }

    pub(crate) fn with(bytes: &[u8]) -> Self {
        Self { durable: bytes.to_vec(), current: bytes.to_vec(), ..Self::default() }
    }

    /// Writes one sector's worth of bytes.
    fn put(&mut self, offset: usize, bytes: &[u8], sector: usize) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
            self.durable.resize(end, 0);
        }
        if let Some(place) = self.current.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        for at in offset / sector..end.div_ceil(sector) {
            self.dirty.insert(at);
            self.doomed.remove(&at);
        }
    }

    /// Writes a sector after the other; with `pick` only those that it takes.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        bytes: &[u8],
        sector: usize,
        mut pick: impl FnMut() -> bool,
    ) {
        let mut at = offset as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = (sector - at % sector).min(rest.len());
            let (piece, behind) = rest.split_at(len);
            if pick() {
                self.put(at, piece, sector);
            }
            at += len;
            rest = behind;
        }
    }

    fn keep(&mut self, at: usize, sector: usize) {
        let end = (at * sector + sector).min(self.current.len());
        let range = at * sector..end;
        if let (Some(to), Some(from)) =
            (self.durable.get_mut(range.clone()), self.current.get(range))
        {
            to.copy_from_slice(from);
        }
    }

    /// A sector that was written and is lost.
    fn forget(&mut self, at: usize, sector: usize) {
        let end = (at * sector + sector).min(self.current.len());
        let range = at * sector..end;
        if let (Some(to), Some(from)) =
            (self.current.get_mut(range.clone()), self.durable.get(range))
        {
            to.copy_from_slice(from);
        }
    }

    pub(crate) fn sync(&mut self, sector: usize) {
        for at in std::mem::take(&mut self.dirty) {
            self.keep(at, sector);
        }
    }

    /// The power goes: of the sectors that were not flushed some stay.
    pub(super) fn lose_power(&mut self, sector: usize, mut stays: impl FnMut() -> bool) -> usize {
        let mut lost = self.doomed.len();
        for at in std::mem::take(&mut self.dirty) {
            if stays() {
                self.keep(at, sector);
            } else {
                lost += 1;
            }
        }
        self.doomed.clear();
        if lost > 0 {
            self.current.clone_from(&self.durable);
        }
        lost
    }
}

/// An operation that has not ended.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) shard: usize,
    pub(super) ticket: Ticket,
    pub(super) op: DiskOp,
    pub(super) due_ns: u64,
}

/// What the disk refuses for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Writes of commits fail.
    Write,
    /// Flushes fail.
    Sync,
    /// Reads fail.
    Read,
    /// Nothing ends.
    Hang,
}

/// A fault of the files below one directory.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) prefix: String,
    pub(crate) kind: FaultKind,
    pub(crate) until_ns: u64,
}

/// A completion on its way to a shard.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) shard: usize,
    pub(crate) done: DiskDone,
    /// The directory whose log has failed, when it was a commit or a flush.
    pub(crate) failed: Option<String>,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskCounts {
    pub(crate) commits: usize,
    pub(crate) reads: usize,
    pub(crate) errors: usize,
    pub(crate) no_space: usize,
    pub(crate) lost_sectors: usize,
    pub(crate) torn_writes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SimDisk {
    pub(crate) inodes: BTreeMap<u64, Inode>,
    pub(crate) names: BTreeMap<String, u64>,
    next_inode: u64,
    pub(super) open: HashMap<(usize, FileId), (u64, String)>,
    /// Files that are read and written through a cache.
    pub(super) cached: HashSet<(usize, FileId)>,
    pub(super) queue: Vec<Job>,
    pub(super) done: Vec<(u64, Landed)>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) is_full: bool,
    pub(crate) sector: usize,
    /// Reads of the boot disk that succeed before one fails.
    pub(crate) boot_reads_left: Option<usize>,
    /// Writes of the boot disk that succeed before the power goes again.
    pub(crate) boot_writes_left: Option<usize>,
    /// It has gone: nothing is written any more.
    pub(crate) boot_is_cut: bool,
    pub(crate) random: Random,
    pub(super) trace: bool,
    pub(crate) counts: DiskCounts,
}

impl SimDisk {
    pub(crate) fn new(sector: usize, random: Random) -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            next_inode: 0,
            open: HashMap::new(),
            cached: HashSet::new(),
            queue: Vec::new(),
            done: Vec::new(),
            faults: Vec::new(),
            is_full: false,
            sector,
            boot_reads_left: None,
            boot_writes_left: None,
            boot_is_cut: false,
            random,
            trace: std::env::var_os("SIM_TRACE_DISK").is_some(),
            counts: DiskCounts::default(),
        }
    }

    fn delay(&mut self) -> u64 {
        let most = match self.random.below(12) {
            0 => 20_000_000,
            1..=3 => 2_000_000,
            _ => 150_000,
        };
        u64::from(self.random.below(most))
    }

    /// Takes a shard's operations.
    pub(crate) fn submit(&mut self, shard: usize, ops: Vec<(Ticket, DiskOp)>, now_ns: u64) {
        for (ticket, op) in ops {
            let due_ns = now_ns + self.delay();
            self.queue.push(Job { shard, ticket, op, due_ns });
        }
    }

    /// Nothing is under way, but for what hangs.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.done.is_empty()
    }

    /// When something happens next, if nothing new comes.
    pub(crate) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        let jobs = (0..self.queue.len()).filter(|at| !self.must_wait(*at, now_ns));
        let jobs = jobs.filter_map(|at| self.queue.get(at)).map(|job| job.due_ns);
        let faults = self.faults.iter().map(|fault| fault.until_ns);
        jobs.chain(self.done.iter().map(|(at, _)| *at)).chain(faults).min()
    }

    fn file_of(op: &DiskOp) -> Option<FileId> {
        match op {
            DiskOp::Commit { file, .. }
            | DiskOp::Sync { file }
            | DiskOp::Read { file, .. }
            | DiskOp::Close { file } => Some(*file),
            _ => None,
        }
    }

    pub(super) fn path_of(&self, job: &Job) -> Option<String> {
        match &job.op {
            DiskOp::Create { path, .. }
            | DiskOp::Open { path, .. }
            | DiskOp::Replace { path, .. }
            | DiskOp::Remove { path, .. }
            | DiskOp::RemoveTree { path } => Some(path.clone()),
            DiskOp::Rename { from, .. } => Some(from.clone()),
            op => {
                let file = Self::file_of(op)?;
                self.open.get(&(job.shard, file)).map(|(_, path)| path.clone())
            }
        }
    }

    fn faulty(&self, job: &Job, kind: FaultKind, now_ns: u64) -> bool {
        if self.faults.is_empty() {
            return false;
        }
        let Some(path) = self.path_of(job) else { return false };
        self.faults
            .iter()
            .any(|f| f.kind == kind && now_ns < f.until_ns && path.starts_with(&f.prefix))
    }

    /// Whether an earlier operation must end first.
    fn must_wait(&self, at: usize, now_ns: u64) -> bool {
        let Some(job) = self.queue.get(at) else { return true };
        if self.faulty(job, FaultKind::Hang, now_ns) {
            return true;
        }
        let earlier = self.queue.iter().take(at).filter(|other| other.shard == job.shard);
        let Some(file) = Self::file_of(&job.op) else {
            // One thread carries out what concerns names; what hangs there holds up nobody.
            return earlier
                .filter(|other| Self::file_of(&other.op).is_none())
                .any(|other| !self.faulty(other, FaultKind::Hang, now_ns));
        };
        for other in earlier {
            let opens = opened_file(&other.op) == Some(file);
            let is_same = Self::file_of(&other.op) == Some(file);
            let is_ordered = !matches!(other.op, DiskOp::Read { .. });
            let wants_order = !matches!(job.op, DiskOp::Read { .. });
            let closes = matches!(job.op, DiskOp::Close { .. });
            if opens || (is_same && ((is_ordered && wants_order) || closes)) {
                return true;
            }
        }
        false
    }

    /// Carries out what is due; something may have ended for a shard then.
    pub(crate) fn work(&mut self, now_ns: u64) {
        self.faults.retain(|fault| now_ns < fault.until_ns);
        let ready: Vec<usize> = (0..self.queue.len())
            .filter(|at| self.queue.get(*at).is_some_and(|job| job.due_ns <= now_ns))
            .filter(|at| !self.must_wait(*at, now_ns))
            .collect();
        if ready.is_empty() {
            return;
        }
        let at = ready[self.random.below(ready.len() as u32) as usize];
        let job = self.queue.remove(at);
        let path = self.path_of(&job);
        let (shard, ticket) = (job.shard, job.ticket);
        let is_write = matches!(job.op, DiskOp::Commit { .. } | DiskOp::Sync { .. });
        let result = self.carry_out(job, now_ns);
        if let (true, Err(error)) = (self.trace, &result) {
            eprintln!("[disk {now_ns}] {}: {error}", path.as_deref().unwrap_or_default());
        }
        let is_error = matches!(&result, Err(DiskError::Os(_)));
        self.counts.errors += usize::from(is_error);
        self.counts.no_space += usize::from(matches!(&result, Err(DiskError::NoSpace)));
        let failed = if is_write && is_error { path } else { None };
        let later = if self.random.below(4) == 0 { self.delay() } else { 0 };
        let landed = Landed { shard, done: DiskDone { ticket, result }, failed };
        self.done.push((now_ns + later, landed));
    }

    /// What has ended, in no order.
    pub(crate) fn take_done(&mut self, now_ns: u64) -> Option<Landed> {
        let due: Vec<usize> =
            (0..self.done.len()).filter(|at| self.done[*at].0 <= now_ns).collect();
        if due.is_empty() {
            return None;
        }
        let at = due[self.random.below(due.len() as u32) as usize];
        Some(self.done.remove(at).1)
    }

    fn carry_out(&mut self, job: Job, now_ns: u64) -> Result<DiskData, DiskError> {
        let write_fails = self.faulty(&job, FaultKind::Write, now_ns);
        let sync_fails = self.faulty(&job, FaultKind::Sync, now_ns);
        let read_fails = self.faulty(&job, FaultKind::Read, now_ns);
        let shard = job.shard;
        if self.trace {
            eprintln!(
                "[disk {now_ns}] {} {:?}",
                self.path_of(&job).unwrap_or_default(),
                Brief(&job.op)
            );
        }
        match job.op {
            DiskOp::Commit { file, extents, sync } => {
                self.counts.commits += 1;
                let is_full = self.is_full && self.random.below(4) == 0;
                let inode = self.inode(shard, file)?;
                let is_cached = self.is_cached(shard, file);
                let fails = write_fails || is_full;
                for extent in &extents {
                    self.write_some(inode, extent.offset, extent.bytes.as_slice(), fails);
                }
                if is_full {
                    return Err(DiskError::NoSpace);
                }
                if write_fails {
                    return Err(EIO);
                }
                if sync { self.flush((inode, is_cached), sync_fails) } else { Ok(DiskData::None) }
            }
            DiskOp::Sync { file } => {
                let inode = self.inode(shard, file)?;
                self.flush((inode, self.is_cached(shard, file)), sync_fails)
            }
            DiskOp::Read { .. } if read_fails => Err(EIO),
            DiskOp::Read { file, offset, len } => {
                self.counts.reads += 1;
                let inode = self.inode(shard, file)?;
                let bytes = self.inodes.get(&inode).map_or(&[][..], |inode| &inode.current);
                let from = bytes.get(offset as usize..).unwrap_or_default();
                let from = &from[..len.min(from.len())];
                let mut buffer = AlignedBuffer::new(len);
                buffer.truncate(from.len());
                buffer.as_mut_slice().copy_from_slice(from);
                Ok(DiskData::Bytes(buffer))
            }
            op => self.carry_out_name(shard, op),
        }
    }

    fn carry_out_name(&mut self, shard: usize, op: DiskOp) -> Result<DiskData, DiskError> {
        match op {
            DiskOp::Create { file, path, len, access } => {
                if self.is_full {
                    return Err(DiskError::NoSpace);
                }
                self.create(&path, len)?;
                self.open_file(shard, file, path, access)?;
            }
            DiskOp::Open { file, path, access } => self.open_file(shard, file, path, access)?,
            DiskOp::Close { file } => drop(self.open.remove(&(shard, file))),
            DiskOp::Replace { path, bytes } => {
                if self.is_full {
                    return Err(DiskError::NoSpace);
                }
                self.replace_whole(&path, &bytes);
            }
            DiskOp::Rename { from, to } => self.rename_path(&from, &to)?,
            DiskOp::Remove { path, erase } => {
                if erase && let Some(inode) = self.names.get(&path).copied() {
                    self.zero(inode, || true);
                }
                self.names.remove(&path).ok_or(DiskError::NotFound)?;
            }
            DiskOp::RemoveTree { path } => self.remove_tree(&path),
            DiskOp::Commit { .. } | DiskOp::Sync { .. } | DiskOp::Read { .. } => {}
        }
        Ok(DiskData::None)
    }

    pub(super) fn inode(&self, shard: usize, file: FileId) -> Result<u64, DiskError> {
        self.open.get(&(shard, file)).map(|(inode, _)| *inode).ok_or(NOT_OPEN)
    }

    fn is_cached(&self, shard: usize, file: FileId) -> bool {
        self.cached.contains(&(shard, file))
    }

    pub(super) fn write_some(&mut self, inode: u64, offset: u64, bytes: &[u8], is_torn: bool) {
        let sector = self.sector;
        let random = &mut self.random;
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.write(offset, bytes, sector, || !is_torn || random.below(2) == 0);
        }
    }

    fn flush(&mut self, inode: (u64, bool), fails: bool) -> Result<DiskData, DiskError> {
        let (inode, is_cached) = inode;
        let sector = self.sector;
        let random = &mut self.random;
        let Some(inode) = self.inodes.get_mut(&inode) else { return Err(NOT_OPEN) };
        if !fails {
            inode.sync(sector);
            return Ok(DiskData::None);
        }
        for at in std::mem::take(&mut inode.dirty) {
            match (random.below(3), is_cached) {
                (0, _) => inode.keep(at, sector),
                // The page cache shows what is not on the disk, and thinks that it is.
                (_, true) => drop(inode.doomed.insert(at)),
                (1, false) => drop(inode.dirty.insert(at)),
                (_, false) => inode.forget(at, sector),
            }
        }
        Err(EIO)
    }

    pub(super) fn zero(&mut self, inode: u64, pick: impl FnMut() -> bool) {
        let sector = self.sector;
        if let Some(inode) = self.inodes.get_mut(&inode) {
            let zeroes = vec![0; inode.current.len()];
            inode.write(0, &zeroes, sector, pick);
            inode.sync(sector);
        }
    }

    fn add_inode(&mut self, path: &str, inode: Inode) {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, inode);
        self.names.insert(path.to_owned(), self.next_inode);
    }

    pub(super) fn create(&mut self, path: &str, len: u64) -> Result<(), DiskError> {
        let known = self.names.get(path).and_then(|inode| self.inodes.get(inode));
        if known.is_some_and(|known| known.current.len() as u64 >= len) {
            return Err(EXISTS);
        }
        self.add_inode(path, Inode::zeroed(len as usize));
        Ok(())
    }

    fn open_file(
        &mut self,
        shard: usize,
        file: FileId,
        path: String,
        access: Access,
    ) -> Result<(), DiskError> {
        let inode = *self.names.get(&path).ok_or(DiskError::NotFound)?;
        if access == Access::Cached {
            self.cached.insert((shard, file));
        }
        self.open.insert((shard, file), (inode, path));
        Ok(())
    }

    pub(crate) fn replace_whole(&mut self, path: &str, bytes: &[u8]) {
        self.add_inode(path, Inode::with(bytes));
    }

    pub(crate) fn rename_path(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let below = format!("{from}/");
        let moved: Vec<String> = self
            .names
            .keys()
            .filter(|name| name.as_str() == from || name.starts_with(&below))
            .cloned()
            .collect();
        if moved.is_empty() {
            return Err(DiskError::NotFound);
        }
        for name in moved {
            let Some(inode) = self.names.remove(&name) else { continue };
            let rest = name.get(from.len()..).unwrap_or_default();
            let new = format!("{to}{rest}");
            self.names.insert(new.clone(), inode);
            let open = self.open.values_mut().filter(|(_, path)| *path == name);
            open.for_each(|(_, path)| path.clone_from(&new));
        }
        Ok(())
    }

    pub(crate) fn remove_tree(&mut self, path: &str) {
        let below = format!("{path}/");
        self.names.retain(|name, _| !name.starts_with(&below));
    }
}

/// An operation without its bytes.
pub(super) struct Brief<'a>(pub(super) &'a DiskOp);

impl std::fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            DiskOp::Commit { extents, sync, .. } => {
                write!(f, "Commit sync {sync}")?;
                extents.iter().try_for_each(|e| write!(f, " {}+{}", e.offset, e.bytes.len()))
            }
            DiskOp::Replace { path, bytes } => write!(f, "Replace {path} {}", bytes.len()),
            op => write!(f, "{op:?}"),
        }
    }
}

fn opened_file(op: &DiskOp) -> Option<FileId> {
    match op {
        DiskOp::Create { file, .. } | DiskOp::Open { file, .. } => Some(*file),
        _ => None,
    }
}
