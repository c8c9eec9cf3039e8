//! The shard's own io_uring: readiness of many sockets by multishot poll, a timer, and requests on
//! files. Sockets are read and written by plain non-blocking calls into the shard's one buffer,
//! which the measurements of docs/adr/0002 favour; files by the ring (docs/adr/0011).
//!
//! The ring owns the buffer and the file of every request on files until its completion is here,
//! so nothing the kernel still uses can be freed or changed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::PollFlags;
use rustix::io::Errno;
use slab::Slab;
use store::disk::AlignedBuffer;

/// Entries of the submission queue.
const ENTRIES: u32 = 256;
/// Entries of the completion queue; an overflow is kept by the kernel, so nothing is lost.
const COMPLETIONS: u32 = 4096;
/// `EPOLLEXCLUSIVE`: of several waiters for one listener only one is woken.
const EXCLUSIVE: u32 = 1 << 28;
/// Tokens of requests on files have this bit and not the highest one, which sockets have.
const FILE_BIT: u64 = 1 << 62;
/// The two bits that tell tokens of files from others.
const FILE_MASK: u64 = 3 << 62;
/// Kernel threads that may flush files at once. The kernel's own limit is four for each CPU, and
/// flushes of many streams would wait for each other.
const FLUSHES_MAX: u32 = 64;
/// Bytes of one request; more is asked for when it has completed.
const REQUEST_BYTES_MAX: usize = 1 << 30;

/// A completion.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What was passed when the request was made.
    pub token: u64,
    /// Poll events, or a negative error number.
    pub result: i32,
    /// The request stays armed.
    pub more: bool,
}

impl Event {
    /// True for the completion of a request on a file: it is for [`Ring::land`].
    #[inline]
    #[must_use]
    pub(crate) const fn is_file(&self) -> bool {
        self.token & FILE_MASK == FILE_BIT
    }
}

/// A request on a file as the ring keeps it while the kernel has it.
struct Held {
    file: Arc<OwnedFd>,
    bytes: Option<AlignedBuffer>,
    offset: u64,
    skip: usize,
    owner: u64,
}

/// A request on a file that has ended, with what was lent to it.
#[derive(Debug)]
pub(crate) struct Landed {
    /// Whose request it is, as said when it was made.
    pub owner: u64,
    /// The file.
    pub file: Arc<OwnedFd>,
    /// What was written or read; nothing for a flush.
    pub bytes: Option<AlignedBuffer>,
    /// Where the first byte of the buffer lies in the file.
    pub offset: u64,
    /// Bytes of the buffer that earlier requests have done.
    pub skip: usize,
    /// Bytes done by this one, or a negative error number.
    pub result: i32,
}

/// Which of its bytes a request is about.
pub(crate) struct Lent {
    /// The buffer.
    pub bytes: AlignedBuffer,
    /// Where its first byte lies in the file.
    pub offset: u64,
    /// Bytes at its beginning that are done.
    pub skip: usize,
}

/// The ring.
pub struct Ring {
    ring: IoUring,
    /// The timer's time; the kernel reads it while the entry is submitted.
    timer: Box<Timespec>,
    /// Requests on files that are under way.
    held: Slab<Held>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring whose completions count up `eventfd` while the shard sleeps. Newer kernels
    /// are asked not to interrupt the shard for completions.
    ///
    /// # Errors
    /// When io_uring is not to be had.
    pub fn new(eventfd: BorrowedFd<'_>) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)
            .or_else(|_| IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES))?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        // Kernels before 5.15 keep their limit.
        let _ = ring.submitter().register_iowq_max_workers(&mut [FLUSHES_MAX, 0]);
        let mut ring = Self { ring, timer: Box::new(Timespec::new()), held: Slab::new() };
        ring.ring.completion().disable_eventfd();
        Ok(ring)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: polls and removals carry no pointers; the timer's pointer is to `self.timer`,
            // which lives as long as the ring and is copied by the kernel at submission.
            #[allow(unsafe_code)]
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    /// Watches a socket for input, output and hang-up until [`Self::unwatch`].
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn watch(&mut self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let flags = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP;
        let fd = Fd(fd.as_raw_fd());
        let flags = u32::from(flags.bits());
        self.push(&opcode::PollAdd::new(fd, flags).multi(true).build().user_data(token))
    }

    /// Watches a listener that several shards share.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn watch_listener(&mut self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let fd = Fd(fd.as_raw_fd());
        let flags = u32::from(PollFlags::IN.bits()) | EXCLUSIVE;
        self.push(&opcode::PollAdd::new(fd, flags).multi(true).build().user_data(token))
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn unwatch(&mut self, token: u64, own_token: u64) -> io::Result<()> {
        self.push(&opcode::PollRemove::new(token).build().user_data(own_token))
    }

    /// Completes `token` after `after_ns`.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn arm_timer(&mut self, after_ns: u64, token: u64) -> io::Result<()> {
        let (sec, nsec) = (after_ns / 1_000_000_000, (after_ns % 1_000_000_000) as u32);
        *self.timer = Timespec::new().sec(sec).nsec(nsec);
        let entry = opcode::Timeout::new(&raw const *self.timer).build().user_data(token);
        self.push(&entry)?;
        self.ring.submit().map(|_| ())
    }

    /// Submits what was pushed and lets the kernel post what has completed.
    ///
    /// # Errors
    /// When the kernel refuses; a busy completion queue is not an error.
    #[inline]
    pub fn enter(&mut self) -> io::Result<()> {
        let submission = self.ring.submission();
        let wanted = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if !wanted {
            return Ok(());
        }
        match self.ring.submit() {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the completions that are there.
    pub fn drain(&mut self, mut take: impl FnMut(Event)) {
        for entry in self.ring.completion() {
            take(Event {
                token: entry.user_data(),
                result: entry.result(),
                more: cqueue::more(entry.flags()),
            });
        }
    }

    /// True when completions wait, or the kernel has some to post.
    #[must_use]
    pub fn has_events(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// Whether completions count up the eventfd: on before sleeping, off afterwards.
    pub fn set_wakes(&mut self, on: bool) {
        let completion = self.ring.completion();
        if on {
            completion.enable_eventfd();
        } else {
            completion.disable_eventfd();
        }
    }

    /// Writes a buffer to a file.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn write(&mut self, file: &Arc<OwnedFd>, lent: Lent, owner: u64) -> io::Result<()> {
        let entry = self.hold_write(file, lent, owner);
        self.push_files(&[entry])
    }

    /// Writes a buffer to a file and flushes the file when all of it is written: two requests of
    /// one owner, and two completions. After a failed or short write the flush is cancelled.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn write_and_sync(
        &mut self,
        file: &Arc<OwnedFd>,
        lent: Lent,
        owner: u64,
    ) -> io::Result<()> {
        let write = self.hold_write(file, lent, owner).flags(squeue::Flags::IO_LINK);
        let sync = self.hold_sync(file, owner);
        self.push_files(&[write, sync])
    }

    /// Flushes a file's data to the device.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn sync(&mut self, file: &Arc<OwnedFd>, owner: u64) -> io::Result<()> {
        let entry = self.hold_sync(file, owner);
        self.push_files(&[entry])
    }

    /// Reads from a file into a buffer, as much as fits behind what is done.
    ///
    /// # Errors
    /// When the kernel does not take submissions.
    pub(crate) fn read(
        &mut self,
        file: &Arc<OwnedFd>,
        mut lent: Lent,
        owner: u64,
    ) -> io::Result<()> {
        let part = lent.bytes.as_mut_slice().get_mut(lent.skip..).unwrap_or_default();
        let len = part.len().min(REQUEST_BYTES_MAX) as u32;
        let at = lent.offset + lent.skip as u64;
        let entry = opcode::Read::new(Fd(file.as_raw_fd()), part.as_mut_ptr(), len).offset(at);
        let token = self.hold(file, Some(lent), owner);
        self.push_files(&[entry.build().user_data(token)])
    }

    /// Takes back what was lent to a request on a file. Nothing when the event is of no such.
    pub(crate) fn land(&mut self, event: Event) -> Option<Landed> {
        if !event.is_file() {
            return None;
        }
        let held = self.held.try_remove((event.token & !FILE_MASK) as usize)?;
        let Held { file, bytes, offset, skip, owner } = held;
        Some(Landed { owner, file, bytes, offset, skip, result: event.result })
    }

    /// Requests on files that are under way.
    #[must_use]
    pub(crate) fn files_in_flight(&self) -> usize {
        self.held.len()
    }

    /// Submits, and waits until there is a completion or the time is over.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wait(&mut self, limit: Duration) -> io::Result<()> {
        let time = Timespec::from(limit);
        match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time)) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::TIME | Errno::INTR | Errno::BUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn hold_write(&mut self, file: &Arc<OwnedFd>, lent: Lent, owner: u64) -> squeue::Entry {
        let part = lent.bytes.as_slice().get(lent.skip..).unwrap_or_default();
        let len = part.len().min(REQUEST_BYTES_MAX) as u32;
        let at = lent.offset + lent.skip as u64;
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), part.as_ptr(), len).offset(at);
        let token = self.hold(file, Some(lent), owner);
        entry.build().user_data(token)
    }

    fn hold_sync(&mut self, file: &Arc<OwnedFd>, owner: u64) -> squeue::Entry {
        let token = self.hold(file, None, owner);
        let entry = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC);
        entry.build().user_data(token)
    }

    fn hold(&mut self, file: &Arc<OwnedFd>, lent: Option<Lent>, owner: u64) -> u64 {
        let file = Arc::clone(file);
        let (bytes, offset, skip) = match lent {
            Some(lent) => (Some(lent.bytes), lent.offset, lent.skip),
            None => (None, 0, 0),
        };
        let key = self.held.insert(Held { file, bytes, offset, skip, owner });
        FILE_BIT | key as u64
    }

    /// Pushes entries together: what is linked must not be cut in two submissions.
    fn push_files(&mut self, entries: &[squeue::Entry]) -> io::Result<()> {
        loop {
            // SAFETY: the entries come from `hold_write`, `hold_sync` and `read` alone. Their
            // descriptors and buffers are in `held` until the completion was taken by `land`; the
            // bytes of an `AlignedBuffer` stay where they are when the value moves; a buffer that
            // is read into is owned by `held` alone, and nothing there looks at its bytes. A ring
            // that is dropped before that forgets them.
            #[allow(unsafe_code)]
            let pushed = unsafe { self.ring.submission().push_multiple(entries) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

impl Drop for Ring {
    /// The kernel may still be writing into buffers of requests that are under way: their memory
    /// is given up.
    fn drop(&mut self) {
        for held in self.held.drain() {
            std::mem::forget(held);
        }
    }
}

/// Tries whether io_uring is to be had here.
///
/// # Errors
/// The kernel's refusal.
pub fn probe_ring() -> io::Result<()> {
    IoUring::new(8).map(|_| ())
}
