//! The disk of a shard: takes the store's operations, keeps the order of each file, and hands
//! back what came of them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use slab::Slab;
use store::disk::{DiskData, DiskDone, DiskError, DiskOp, FileId, Ticket};

use super::faults::{Fault, FaultKind};
use super::files::{Files, NameOp};
use super::helper::{Helper, NameDone};
use super::jobs::{Job, Kind, Work};
use super::{DirectMode, DiskFigures, DiskSettings, Faults, to_disk_error};
use crate::uring::{Event, Ring};
use stalls::{Held, Stalls};

mod stalls;
mod watch;

use watch::Watch;

/// Most requests in the ring at once. Below the ring's completion queue.
const REQUESTS_MAX: usize = 1024;
/// The longest wait for the ring while the helper may have something, too.
const WAIT_SLICE: Duration = Duration::from_millis(2);

/// A file that is open, or will be.
#[derive(Debug, Default)]
struct OpenFile {
    /// Nothing until the helper has opened it.
    fd: Option<Arc<OwnedFd>>,
    /// Operations on data that have begun.
    in_flight: u32,
    /// One of them is a commit or a flush.
    is_busy: bool,
    /// What waits: for the opening, or for the commit before it.
    waiting: VecDeque<Waiting>,
    /// Its closing is asked for.
    is_closing: bool,
    /// Where it is, for the log and the faults of tests.
    path: String,
}

/// An operation on data that has not begun.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    since_ns: u64,
    work: Option<Work>,
}

/// An operation on names that the helper has.
#[derive(Debug)]
struct Named {
    since_ns: u64,
    /// What it is about; empty for a closing.
    path: String,
    /// The file it opens.
    opens: Option<FileId>,
}

/// The disk of a shard.
#[derive(Debug)]
pub struct Disk {
    files: HashMap<FileId, OpenFile>,
    jobs: Slab<Job>,
    /// May begin as soon as the ring has room.
    backlog: VecDeque<(FileId, Waiting)>,
    names: HashMap<Ticket, Named>,
    helper: Helper,
    done: Vec<DiskDone>,
    /// Requests in the ring at once; more operations wait.
    requests_max: usize,
    faults: Option<Faults>,
    /// Since when operations hang that a test wants to hang.
    hung: Vec<u64>,
    /// What waits because a test wants it to; nothing without faults.
    stalls: Option<Stalls<Held>>,
    watch: Watch,
    /// Number of the shard.
    shard: usize,
    figures: DiskFigures,
}

impl Disk {
    /// Opens the store's directory and starts the helper. `bell` is an eventfd that wakes the
    /// shard. Says in the log how direct access is done.
    ///
    /// # Errors
    /// When the directory cannot be made, opened or written.
    pub fn open(settings: DiskSettings, bell: OwnedFd) -> io::Result<Self> {
        let files = Files::open(&settings)?;
        let dir = settings.store_dir.display();
        match files.mode() {
            DirectMode::Direct { align } => {
                tracing::debug!("store {dir}: direct I/O, aligned to {align} bytes");
            }
            DirectMode::Refused if settings.shard == 0 => tracing::warn!(
                "store {dir}: the file system refuses direct I/O; writes go through the page cache"
            ),
            DirectMode::Refused | DirectMode::Off => {}
        }
        if settings.faults.is_some() {
            tracing::warn!("store {dir}: disk errors are made on purpose, for tests");
        }
        let stalls = match &settings.faults {
            Some(_) => Some(Stalls::new(bell.try_clone()?)),
            None => None,
        };
        Ok(Self {
            files: HashMap::new(),
            jobs: Slab::new(),
            backlog: VecDeque::new(),
            names: HashMap::new(),
            helper: Helper::start(files, settings.shard, bell)?,
            done: Vec::new(),
            requests_max: (settings.requests_max / settings.shards.max(1)).clamp(1, REQUESTS_MAX),
            faults: settings.faults,
            hung: Vec::new(),
            stalls,
            watch: Watch::default(),
            shard: settings.shard,
            figures: DiskFigures::default(),
        })
    }

    /// How files for direct access are opened.
    #[must_use]
    pub const fn mode(&self) -> DirectMode {
        self.helper.mode()
    }

    /// Begins operations, in their order, and submits them to the kernel.
    ///
    /// # Errors
    /// When the ring does not take submissions: the shard cannot go on.
    pub fn submit(
        &mut self,
        ops: impl IntoIterator<Item = (Ticket, DiskOp)>,
        ring: &mut Ring,
        now_ns: u64,
    ) -> io::Result<()> {
        for (ticket, op) in ops {
            self.submit_one(ticket, op, ring, now_ns)?;
        }
        ring.enter()
    }

    /// Takes a completion of the ring. False when it is not of a file: it is for others.
    ///
    /// # Errors
    /// When the ring does not take submissions: the shard cannot go on.
    pub fn land(&mut self, event: Event, ring: &mut Ring, now_ns: u64) -> io::Result<bool> {
        if !event.is_file() {
            return Ok(false);
        }
        let Some(landed) = ring.land(event) else { return Ok(true) };
        let key = landed.owner as usize;
        if let Some(job) = self.jobs.get_mut(key) {
            job.land(landed, ring)?;
            self.end_if_done(key, ring, now_ns)?;
            self.begin_backlog(ring, now_ns)?;
        }
        Ok(true)
    }

    /// Adds what has ended since the last call, and submits what could begin by that.
    ///
    /// # Errors
    /// When the ring does not take submissions: the shard cannot go on.
    pub fn take_done(
        &mut self,
        out: &mut Vec<DiskDone>,
        ring: &mut Ring,
        now_ns: u64,
    ) -> io::Result<()> {
        while let Some(done) = self.helper.next() {
            self.end_name(done, ring, now_ns)?;
        }
        self.release_stalled(ring, now_ns)?;
        self.watch(now_ns);
        out.append(&mut self.done);
        ring.enter()
    }

    /// Whether [`Self::take_done`] has something: a shard that sleeps then would miss it.
    #[must_use]
    pub fn has_done(&self) -> bool {
        let is_released = self.stalls.as_ref().is_some_and(Stalls::has_released);
        !self.done.is_empty() || self.helper.has_results() || is_released
    }

    /// Files that are open, or will be.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.files.len()
    }

    /// Whether nothing is under way and nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0
    }

    /// Counters, and the age of the oldest operation.
    #[must_use]
    pub fn figures(&self, now_ns: u64) -> DiskFigures {
        let mut figures = self.figures.clone();
        figures.in_flight = self.in_flight() as u64;
        figures.oldest_ns = self.oldest_ns(now_ns);
        figures.spare_segments = self.helper.spare_segments() as u64;
        figures.open_files = self.files.len() as u64;
        figures
    }

    /// Waits for everything under way, as long as the limit allows. What comes in besides from the
    /// ring goes to `other`. What has ended may have more to follow: call it until the store wants
    /// nothing more, and then [`Self::finish`].
    ///
    /// # Errors
    /// When the ring fails.
    pub fn wait_idle(
        &mut self,
        ring: &mut Ring,
        limit: Duration,
        mut other: impl FnMut(Event),
    ) -> io::Result<Vec<DiskDone>> {
        let start = Instant::now();
        let mut out = Vec::new();
        self.take_done(&mut out, ring, 0)?;
        while self.in_flight() > self.hung.len() && start.elapsed() < limit {
            let left = limit.saturating_sub(start.elapsed());
            if ring.files_in_flight() > 0 {
                ring.wait(if self.names.is_empty() { left } else { left.min(WAIT_SLICE) })?;
            } else if self.stalls.is_some() {
                std::thread::sleep(left.min(WAIT_SLICE));
            } else if let Some(done) = self.helper.wait(left) {
                self.end_name(done, ring, 0)?;
            }
            let mut events = Vec::new();
            ring.drain(|event| events.push(event));
            for event in events {
                if !self.land(event, ring, 0)? {
                    other(event);
                }
            }
            self.take_done(&mut out, ring, 0)?;
        }
        Ok(out)
    }

    /// Waits for everything under way and ends the helper, both as long as the limit allows.
    /// Buffers of what is still under way then are given up to the kernel.
    ///
    /// # Errors
    /// When the ring fails.
    pub fn finish(
        mut self,
        ring: &mut Ring,
        limit: Duration,
        other: impl FnMut(Event),
    ) -> io::Result<Vec<DiskDone>> {
        let start = Instant::now();
        let out = self.wait_idle(ring, limit, other)?;
        self.helper.stop(limit.saturating_sub(start.elapsed()));
        Ok(out)
    }

    fn in_flight(&self) -> usize {
        let queued: usize = self.files.values().map(|file| file.waiting.len()).sum();
        let begun = self.jobs.len() + self.names.len();
        begun + queued + self.backlog.len() + self.hung.len() + self.stalled().count()
    }

    fn submit_one(
        &mut self,
        ticket: Ticket,
        op: DiskOp,
        ring: &mut Ring,
        now_ns: u64,
    ) -> io::Result<()> {
        let (kind, opens, op) = match op {
            DiskOp::Commit { file, extents, sync } => {
                let work = Work::Commit { extents, sync };
                return self.submit_work(ticket, file, work, ring, now_ns);
            }
            DiskOp::Sync { file } => {
                return self.submit_work(ticket, file, Work::Sync, ring, now_ns);
            }
            DiskOp::Read { file, offset, len } => {
                let work = Work::Read { offset, len };
                return self.submit_work(ticket, file, work, ring, now_ns);
            }
            DiskOp::Close { file } => return self.submit_close(ticket, file, ring, now_ns),
            DiskOp::Create { file, path, len, access } => {
                (FaultKind::Create, Some(file), NameOp::Create { file, path, len, access })
            }
            DiskOp::Open { file, path, access } => {
                (FaultKind::Open, Some(file), NameOp::Open { file, path, access })
            }
            DiskOp::Replace { path, bytes } => {
                (FaultKind::Replace, None, NameOp::Replace { path, bytes })
            }
            DiskOp::Rename { from, to } => (FaultKind::Rename, None, NameOp::Rename { from, to }),
            DiskOp::Remove { path, erase } => {
                (FaultKind::Remove, None, NameOp::Remove { path, erase })
            }
            DiskOp::RemoveTree { path } => (FaultKind::Remove, None, NameOp::RemoveTree { path }),
        };
        let path = op.path().to_owned();
        let struck = self.faults.as_mut().and_then(|faults| faults.strike(kind, &path));
        if let Some(file) = opens {
            self.files.insert(file, OpenFile { path: path.clone(), ..OpenFile::default() });
        }
        self.names.insert(ticket, Named { since_ns: now_ns, path, opens });
        match struck {
            None => self.helper.submit(ticket, op, None),
            Some(Fault::Stall(stall)) => self.helper.submit(ticket, op, Some(stall)),
            Some(Fault::Hang) => {}
            Some(Fault::Fail(error)) => {
                let result = Err(to_disk_error(error));
                self.end_name(NameDone { ticket, result }, ring, now_ns)?;
            }
        }
        Ok(())
    }

    fn submit_work(
        &mut self,
        ticket: Ticket,
        file: FileId,
        work: Work,
        ring: &mut Ring,
        now_ns: u64,
    ) -> io::Result<()> {
        let Some(open) = self.files.get_mut(&file).filter(|open| !open.is_closing) else {
            self.note_done(ticket, Err(to_disk_error(Errno::BADF)));
            return Ok(());
        };
        let must_wait =
            open.fd.is_none() || (work.is_ordered() && (open.is_busy || !open.waiting.is_empty()));
        let waiting = Waiting { ticket, since_ns: now_ns, work: Some(work) };
        if must_wait {
            open.waiting.push_back(waiting);
            return Ok(());
        }
        self.begin(file, waiting, ring, now_ns)
    }

    fn submit_close(
        &mut self,
        ticket: Ticket,
        file: FileId,
        ring: &mut Ring,
        now_ns: u64,
    ) -> io::Result<()> {
        let Some(open) = self.files.get_mut(&file).filter(|open| !open.is_closing) else {
            self.note_done(ticket, Err(to_disk_error(Errno::BADF)));
            return Ok(());
        };
        open.is_closing = true;
        open.waiting.push_back(Waiting { ticket, since_ns: now_ns, work: None });
        self.pump(file, ring, now_ns)
    }

    /// Begins what may begin of a file.
    fn pump(&mut self, file: FileId, ring: &mut Ring, now_ns: u64) -> io::Result<()> {
        loop {
            let Some(open) = self.files.get_mut(&file) else { return Ok(()) };
            let Some(front) = open.waiting.front() else { return Ok(()) };
            let may_begin = match &front.work {
                None => open.in_flight == 0,
                Some(work) => !(work.is_ordered() && open.is_busy),
            };
            if open.fd.is_none() || !may_begin {
                return Ok(());
            }
            let Some(waiting) = open.waiting.pop_front() else { return Ok(()) };
            if waiting.work.is_some() {
                self.begin(file, waiting, ring, now_ns)?;
                continue;
            }
            let fd = self.files.remove(&file).and_then(|open| open.fd);
            // Nothing of the file is under way, so nobody else holds it.
            let fd = fd.and_then(Arc::into_inner);
            let closing = Named { since_ns: waiting.since_ns, path: String::new(), opens: None };
            self.names.insert(waiting.ticket, closing);
            self.helper.submit(waiting.ticket, NameOp::Close { file, fd }, None);
        }
    }

    /// Begins an operation, or notes that it may begin when the ring has room.
    fn begin(
        &mut self,
        file: FileId,
        waiting: Waiting,
        ring: &mut Ring,
        now_ns: u64,
    ) -> io::Result<()> {
        if let Some(open) = self.files.get_mut(&file) {
            open.in_flight += 1;
            open.is_busy |= waiting.work.as_ref().is_some_and(Work::is_ordered);
        }
        if ring.files_in_flight() >= self.requests_max || !self.backlog.is_empty() {
            self.backlog.push_back((file, waiting));
            return Ok(());
        }
        self.start(file, waiting, ring, now_ns)
    }

    fn begin_backlog(&mut self, ring: &mut Ring, now_ns: u64) -> io::Result<()> {
        while ring.files_in_flight() < self.requests_max
            && let Some((file, waiting)) = self.backlog.pop_front()
        {
            self.start(file, waiting, ring, now_ns)?;
        }
        Ok(())
    }

    fn start(
        &mut self,
        file: FileId,
        waiting: Waiting,
        ring: &mut Ring,
        now_ns: u64,
    ) -> io::Result<()> {
        let struck = waiting.work.as_ref().and_then(|work| self.strike_work(file, work));
        if let (Some((kind, Fault::Stall(stall))), Some(stalls)) = (&struck, &mut self.stalls)
            && *kind != FaultKind::Sync
        {
            return stalls.hold(stall.clone(), Held::Work(file, waiting));
        }
        self.start_struck(file, waiting, struck, ring, now_ns)
    }

    fn start_struck(
        &mut self,
        file: FileId,
        waiting: Waiting,
        struck: Option<(FaultKind, Fault)>,
        ring: &mut Ring,
        now_ns: u64,
    ) -> io::Result<()> {
        let Waiting { ticket, since_ns, work } = waiting;
        let fd = self.files.get(&file).and_then(|open| open.fd.clone());
        let (Some(work), Some(fd)) = (work, fd) else { return Ok(()) };
        let mut job = Job::new(ticket, file, since_ns, &work);
        let mut held = None;
        match struck {
            Some((_, Fault::Hang)) => {
                self.hung.push(since_ns);
                return Ok(());
            }
            Some((FaultKind::Sync, Fault::Fail(error))) => job.fail_flush(error),
            Some((_, Fault::Fail(error))) => job.fail(error),
            Some((_, Fault::Stall(stall))) => {
                job.hold_flush();
                held = Some(stall);
            }
            None => {}
        }
        let key = self.jobs.insert(job);
        if let Some(job) = self.jobs.get_mut(key) {
            job.start(key as u64, &fd, work, ring)?;
        }
        if let (Some(stall), Some(stalls)) = (held, &mut self.stalls) {
            stalls.hold(stall, Held::Flush(key, ticket))?;
        }
        self.end_if_done(key, ring, now_ns)
    }

    fn end_if_done(&mut self, key: usize, ring: &mut Ring, now_ns: u64) -> io::Result<()> {
        let Some(result) = self.jobs.get_mut(key).and_then(Job::outcome) else { return Ok(()) };
        let job = self.jobs.remove(key);
        let age_ns = now_ns.saturating_sub(job.since_ns);
        let is_ok = u64::from(result.is_ok());
        match job.kind {
            Kind::Commit => {
                self.figures.commits += is_ok;
                self.figures.written_bytes += if result.is_ok() { job.bytes } else { 0 };
                self.figures.commit_times.record(age_ns);
            }
            Kind::Sync => {
                self.figures.syncs += is_ok;
                self.figures.commit_times.record(age_ns);
            }
            Kind::Read => {
                self.figures.reads += is_ok;
                self.figures.read_bytes += job.bytes;
                self.figures.read_times.record(age_ns);
            }
        }
        if let Err(error) = result
            && let Some(open) = self.files.get(&job.file)
        {
            let what = if job.kind == Kind::Read { "read" } else { "write" };
            self.watch.tell_error(what, &open.path, error, now_ns);
        }
        self.note_done(job.ticket, result);
        if let Some(open) = self.files.get_mut(&job.file) {
            open.in_flight = open.in_flight.saturating_sub(1);
            open.is_busy &= job.kind == Kind::Read;
        }
        self.pump(job.file, ring, now_ns)
    }

    fn end_name(&mut self, done: NameDone, ring: &mut Ring, now_ns: u64) -> io::Result<()> {
        let NameDone { ticket, result } = done;
        let Some(named) = self.names.remove(&ticket) else { return Ok(()) };
        self.figures.name_times.record(now_ns.saturating_sub(named.since_ns));
        self.figures.names += u64::from(result.is_ok());
        if let Err(error) = result {
            self.watch.tell_error("change", &named.path, error, now_ns);
        }
        let Some(file) = named.opens else {
            self.note_done(ticket, result.map(|_| DiskData::None));
            return Ok(());
        };
        match result {
            Ok(fd) => {
                self.note_done(ticket, Ok(DiskData::None));
                if let Some(open) = self.files.get_mut(&file) {
                    open.fd = fd.map(Arc::new);
                }
                self.pump(file, ring, now_ns)
            }
            Err(error) => {
                self.note_done(ticket, Err(error));
                let open = self.files.remove(&file).unwrap_or_default();
                for waiting in open.waiting {
                    self.note_done(waiting.ticket, Err(error));
                }
                Ok(())
            }
        }
    }

    fn note_done(&mut self, ticket: Ticket, result: Result<DiskData, DiskError>) {
        match result {
            Err(DiskError::NoSpace) => self.figures.no_space += 1,
            Err(DiskError::Os(_)) => self.figures.errors += 1,
            Err(DiskError::NotFound) | Ok(_) => {}
        }
        self.done.push(DiskDone { ticket, result });
    }
}
