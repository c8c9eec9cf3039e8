//! The shard's own io_uring for sockets: readiness of many descriptors by multishot poll, and a
//! timer. Reads and writes themselves are plain non-blocking calls into the shard's one buffer,
//! which the measurements of docs/adr/0002 favour.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::{Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::PollFlags;

/// Entries of the submission queue.
const ENTRIES: u32 = 256;
/// Entries of the completion queue; an overflow is kept by the kernel, so nothing is lost.
const COMPLETIONS: u32 = 4096;
/// `EPOLLEXCLUSIVE`: of several waiters for one listener only one is woken.
const EXCLUSIVE: u32 = 1 << 28;

/// A completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// What was passed when the request was made.
    pub token: u64,
    /// Poll events, or a negative error number.
    pub result: i32,
    /// The request stays armed.
    pub more: bool,
}

/// The ring.
pub(crate) struct Ring {
    ring: IoUring,
    /// The timer's time; the kernel reads it while the entry is submitted.
    timer: Box<Timespec>,
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
    pub(crate) fn new(eventfd: BorrowedFd<'_>) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)
            .or_else(|_| IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES))?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        let mut ring = Self { ring, timer: Box::new(Timespec::new()) };
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
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        let submission = self.ring.submission();
        let wanted = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if !wanted {
            return Ok(());
        }
        match self.ring.submit() {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the completions that are there.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(Event)) {
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
    pub(crate) fn has_events(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// Whether completions count up the eventfd: on before sleeping, off afterwards.
    pub(crate) fn set_wakes(&mut self, on: bool) {
        let completion = self.ring.completion();
        if on {
            completion.enable_eventfd();
        } else {
            completion.disable_eventfd();
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
