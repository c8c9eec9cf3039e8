//! Operations on data from submission to completion: the parts of a commit, what short writes and
//! reads leave over, and what decides success.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use store::disk::{AlignedBuffer, BLOCK_BYTES, DiskData, DiskError, Extent, FileId, Ticket};

use super::to_disk_error;
use crate::uring::{Landed, Lent, Ring};

/// What is to be done with a file's data.
#[derive(Debug)]
pub(crate) enum Work {
    Commit { extents: Vec<Extent>, sync: bool },
    Sync,
    Read { offset: u64, len: usize },
}

impl Work {
    /// Commits and flushes of one file run one after the other.
    pub(crate) const fn is_ordered(&self) -> bool {
        !matches!(self, Self::Read { .. })
    }

    /// Whether positions and lengths are what direct requests need.
    fn is_aligned(&self) -> bool {
        let fits = |offset: u64, len: usize| {
            offset.is_multiple_of(BLOCK_BYTES as u64) && len.is_multiple_of(BLOCK_BYTES)
        };
        match self {
            Self::Commit { extents, .. } => extents.iter().all(|e| fits(e.offset, e.bytes.len())),
            Self::Sync => true,
            Self::Read { offset, len } => fits(*offset, *len),
        }
    }
}

/// An operation on data that the kernel has.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) file: FileId,
    pub(crate) since_ns: u64,
    pub(crate) kind: Kind,
    /// Bytes written or read.
    pub(crate) bytes: u64,
    /// Requests under way.
    pending: u32,
    /// A flush is asked for and has not been done behind everything that is written.
    wants_flush: bool,
    /// A flush is under way that does not count: a write has gone on after it.
    flush_is_early: bool,
    /// The flush under way is linked to the one write of the job.
    is_linked: bool,
    error: Option<DiskError>,
    /// Flushes fail with this.
    flush_error: Option<Errno>,
    /// Its flush is not to begin yet.
    holds_flush: bool,
    read: Option<AlignedBuffer>,
}

/// What a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Sync,
    Read,
}

impl Job {
    pub(crate) fn new(ticket: Ticket, file: FileId, since_ns: u64, work: &Work) -> Self {
        let (kind, wants_flush) = match work {
            Work::Commit { sync, .. } => (Kind::Commit, *sync),
            Work::Sync => (Kind::Sync, true),
            Work::Read { .. } => (Kind::Read, false),
        };
        Self {
            ticket,
            file,
            since_ns,
            kind,
            bytes: 0,
            pending: 0,
            wants_flush,
            flush_is_early: false,
            is_linked: false,
            error: None,
            flush_error: None,
            holds_flush: false,
            read: None,
        }
    }

    /// Makes the first requests.
    ///
    /// # Errors
    /// When the ring does not take submissions.
    pub(crate) fn start(
        &mut self,
        owner: u64,
        fd: &Arc<OwnedFd>,
        work: Work,
        ring: &mut Ring,
    ) -> io::Result<()> {
        if !work.is_aligned() {
            self.fail(Errno::INVAL);
        }
        if self.error.is_some() {
            return Ok(());
        }
        match work {
            Work::Commit { mut extents, .. } => {
                if self.wants_flush
                    && self.flush_error.is_none()
                    && !self.holds_flush
                    && extents.len() == 1
                    && let Some(Extent { offset, bytes }) = extents.pop()
                {
                    self.pending = 2;
                    self.is_linked = true;
                    return ring.write_and_sync(fd, Lent { bytes, offset, skip: 0 }, owner);
                }
                for Extent { offset, bytes } in extents {
                    self.pending += 1;
                    ring.write(fd, Lent { bytes, offset, skip: 0 }, owner)?;
                }
                self.flush_if_due(owner, fd, ring)
            }
            Work::Sync => self.flush_if_due(owner, fd, ring),
            Work::Read { offset, len } => {
                self.pending = 1;
                let bytes = AlignedBuffer::new(len);
                ring.read(fd, Lent { bytes, offset, skip: 0 }, owner)
            }
        }
    }

    /// Takes the end of one of its requests, and makes the next one where that is needed.
    ///
    /// # Errors
    /// When the ring does not take submissions.
    pub(crate) fn land(&mut self, landed: Landed, ring: &mut Ring) -> io::Result<()> {
        self.pending = self.pending.saturating_sub(1);
        let Landed { owner, file, bytes, offset, skip, result } = landed;
        match bytes {
            None => self.land_flush(result),
            Some(bytes) if self.kind == Kind::Read => {
                self.land_read(owner, &file, Lent { bytes, offset, skip }, result, ring)?;
            }
            Some(bytes) => {
                self.land_write(owner, &file, Lent { bytes, offset, skip }, result, ring)?;
            }
        }
        self.flush_if_due(owner, &file, ring)
    }

    fn land_flush(&mut self, result: i32) {
        let is_early = std::mem::take(&mut self.flush_is_early);
        self.is_linked = false;
        match errno(result) {
            None => self.wants_flush = is_early,
            // A linked flush whose write did not succeed, or an interruption: tried again when
            // everything is written, unless that fails.
            Some(Errno::CANCELED | Errno::INTR | Errno::AGAIN) => {}
            Some(error) => self.fail(error),
        }
    }

    fn land_write(
        &mut self,
        owner: u64,
        file: &Arc<OwnedFd>,
        mut lent: Lent,
        result: i32,
        ring: &mut Ring,
    ) -> io::Result<()> {
        match errno(result) {
            Some(Errno::INTR | Errno::AGAIN) => {}
            Some(error) => {
                self.fail(error);
                return Ok(());
            }
            // Nothing written and no reason given: the request would never end.
            None if result == 0 && lent.skip < lent.bytes.len() => {
                self.fail(Errno::IO);
                return Ok(());
            }
            None => {
                lent.skip += result.unsigned_abs() as usize;
                self.bytes += u64::from(result.unsigned_abs());
            }
        }
        if lent.skip < lent.bytes.len() {
            // Only a linked flush is under way beside a write. It has not seen the rest.
            self.flush_is_early = self.is_linked;
            self.pending += 1;
            return ring.write(file, lent, owner);
        }
        Ok(())
    }

    fn land_read(
        &mut self,
        owner: u64,
        file: &Arc<OwnedFd>,
        mut lent: Lent,
        result: i32,
        ring: &mut Ring,
    ) -> io::Result<()> {
        let got = match errno(result) {
            Some(Errno::INTR | Errno::AGAIN) => 0,
            Some(error) => {
                self.fail(error);
                return Ok(());
            }
            None => result.unsigned_abs() as usize,
        };
        lent.skip += got;
        let is_end = result == 0 || !got.is_multiple_of(BLOCK_BYTES);
        if is_end || lent.skip >= lent.bytes.len() {
            lent.bytes.truncate(lent.skip);
            self.bytes = lent.skip as u64;
            self.read = Some(lent.bytes);
            return Ok(());
        }
        self.pending += 1;
        ring.read(file, lent, owner)
    }

    /// Flushes when that is wanted and everything has been written.
    fn flush_if_due(&mut self, owner: u64, fd: &Arc<OwnedFd>, ring: &mut Ring) -> io::Result<()> {
        if self.pending > 0 || self.error.is_some() || !self.wants_flush || self.holds_flush {
            return Ok(());
        }
        if let Some(error) = self.flush_error {
            self.fail(error);
            return Ok(());
        }
        self.pending = 1;
        ring.sync(fd, owner)
    }

    /// Lets the flush fail, where there is one, for a test.
    pub(crate) fn fail_flush(&mut self, error: Errno) {
        self.flush_error = Some(error);
    }

    /// Lets the flush wait for [`Self::release_flush`], for a test.
    pub(crate) fn hold_flush(&mut self) {
        self.holds_flush = true;
    }

    /// Begins the flush that was held, or lets it fail.
    ///
    /// # Errors
    /// When the ring does not take submissions.
    pub(crate) fn release_flush(
        &mut self,
        owner: u64,
        fd: &Arc<OwnedFd>,
        error: Option<Errno>,
        ring: &mut Ring,
    ) -> io::Result<()> {
        self.holds_flush = false;
        self.flush_error = error;
        self.flush_if_due(owner, fd, ring)
    }

    /// Lets the job fail; the first reason counts.
    pub(crate) fn fail(&mut self, error: Errno) {
        self.error.get_or_insert(to_disk_error(error));
    }

    /// The result, once nothing of the job is under way.
    pub(crate) fn outcome(&mut self) -> Option<Result<DiskData, DiskError>> {
        let waits = self.holds_flush && self.error.is_none();
        if self.pending > 0 || waits {
            return None;
        }
        Some(match (self.error, self.read.take()) {
            (Some(error), _) => Err(error),
            (None, Some(bytes)) => Ok(DiskData::Bytes(bytes)),
            (None, None) => Ok(DiskData::None),
        })
    }
}

fn errno(result: i32) -> Option<Errno> {
    (result < 0).then(|| Errno::from_raw_os_error(-result))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::uring::Event;

    struct Rig {
        ring: Ring,
        fd: Arc<OwnedFd>,
        job: Job,
        // The kernel counts it up, though nobody here looks.
        _bell: OwnedFd,
    }

    impl Rig {
        fn new(work: Work) -> Self {
            let bell = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            let mut ring = Ring::new(bell.as_fd()).unwrap();
            let mut file = tempfile::tempfile().unwrap();
            let content: Vec<u8> = (0..16384_u32).map(|at| (at / 4096) as u8 + 1).collect();
            io::Write::write_all(&mut file, &content).unwrap();
            let fd = Arc::new(OwnedFd::from(file));
            let mut job = Job::new(Ticket(1), FileId(1), 0, &work);
            job.start(0, &fd, work, &mut ring).unwrap();
            Self { ring, fd, job, _bell: bell }
        }

        /// Waits for everything under way; what the kernel says is replaced by what it might say.
        fn land(&mut self, mut change: impl FnMut(bool, i32) -> i32) {
            let expected = self.ring.files_in_flight();
            let mut events: Vec<Event> = Vec::new();
            while events.len() < expected {
                self.ring.wait(Duration::from_secs(20)).unwrap();
                self.ring.drain(|event| events.push(event));
            }
            for event in events {
                let mut landed = self.ring.land(event).unwrap();
                landed.result = change(landed.bytes.is_some(), landed.result);
                self.job.land(landed, &mut self.ring).unwrap();
            }
        }

        fn land_truly(&mut self) {
            self.land(|_, result| result);
        }

        fn content(&self) -> Vec<u8> {
            let mut bytes = vec![0; 16384];
            let file = File::from(self.fd.try_clone().unwrap());
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
            bytes
        }
    }

    fn write_of(extents: &[(u64, usize)], sync: bool) -> Work {
        let extent = |(offset, len): &(u64, usize)| {
            let mut bytes = AlignedBuffer::new(*len);
            bytes.as_mut_slice().fill(9);
            Extent { offset: *offset, bytes }
        };
        Work::Commit { extents: extents.iter().map(extent).collect(), sync }
    }

    #[test]
    fn a_flush_beside_a_short_write_does_not_count() {
        let mut rig = Rig::new(write_of(&[(4096, 8192)], true));
        rig.land(|is_write, result| if is_write { 4096 } else { result });
        assert!(rig.job.outcome().is_none());
        rig.land_truly();
        assert!(rig.job.outcome().is_none(), "the rest is written, but not flushed");
        rig.land_truly();
        assert!(matches!(rig.job.outcome(), Some(Ok(DiskData::None))));
        assert_eq!(rig.ring.files_in_flight(), 0);
        assert_eq!(rig.job.bytes, 8192);
        assert!(rig.content()[4096..12288].iter().all(|byte| *byte == 9));
    }

    #[test]
    fn an_interrupted_commit_is_done_again_and_flushed() {
        let mut rig = Rig::new(write_of(&[(0, 4096)], true));
        let canceled = -Errno::CANCELED.raw_os_error();
        rig.land(|is_write, _| if is_write { -Errno::INTR.raw_os_error() } else { canceled });
        rig.land_truly();
        assert!(rig.job.outcome().is_none());
        rig.land_truly();
        assert!(matches!(rig.job.outcome(), Some(Ok(DiskData::None))));
    }

    #[test]
    fn a_failed_part_fails_the_commit_when_nothing_is_under_way() {
        let canceled = -Errno::CANCELED.raw_os_error();
        for result in [-Errno::IO.raw_os_error(), 0] {
            let mut rig = Rig::new(write_of(&[(0, 4096)], true));
            rig.land(|is_write, _| if is_write { result } else { canceled });
            assert_eq!(rig.job.outcome().unwrap().unwrap_err(), DiskError::Os(5));
            assert_eq!(rig.ring.files_in_flight(), 0);
        }
        let mut rig = Rig::new(write_of(&[(0, 4096), (8192, 4096)], true));
        assert_eq!(rig.ring.files_in_flight(), 2);
        let mut results = [-Errno::NOSPC.raw_os_error(), 4096].into_iter();
        rig.land(|_, _| results.next().unwrap());
        assert_eq!(rig.job.outcome().unwrap().unwrap_err(), DiskError::NoSpace);
        assert_eq!(rig.ring.files_in_flight(), 0, "no flush after a failed write");
    }

    #[test]
    fn a_failed_flush_fails_and_is_never_tried_again() {
        for work in [write_of(&[(0, 4096)], true), write_of(&[], true), Work::Sync] {
            let mut rig = Rig::new(work);
            let eio = -Errno::IO.raw_os_error();
            rig.land(|is_write, result| if is_write { result } else { eio });
            assert_eq!(rig.job.outcome().unwrap().unwrap_err(), DiskError::Os(5));
            assert_eq!(rig.ring.files_in_flight(), 0);
        }
    }

    #[test]
    fn several_extents_are_flushed_once_all_are_written() {
        let mut rig = Rig::new(write_of(&[(0, 4096), (8192, 4096), (4096, 4096)], true));
        assert_eq!(rig.ring.files_in_flight(), 3);
        rig.land_truly();
        assert!(rig.job.outcome().is_none());
        assert_eq!(rig.ring.files_in_flight(), 1);
        rig.land_truly();
        assert!(matches!(rig.job.outcome(), Some(Ok(DiskData::None))));
    }

    #[test]
    fn a_short_read_goes_on() {
        let mut rig = Rig::new(Work::Read { offset: 4096, len: 12288 });
        rig.land(|_, _| 4096);
        rig.land(|_, _| -Errno::INTR.raw_os_error());
        rig.land_truly();
        let Some(Ok(DiskData::Bytes(bytes))) = rig.job.outcome() else { panic!("no bytes") };
        assert!(bytes.as_slice() == &rig.content()[4096..]);
        assert_eq!(rig.job.bytes, 12288);
    }
}
