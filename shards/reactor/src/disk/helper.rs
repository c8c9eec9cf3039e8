//! The helper thread of a shard's disk: carries out operations on names one after the other, and
//! rings the shard's bell when one has ended.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use store::disk::{DiskError, Ticket};

use super::DirectMode;
use super::faults::Stall;
use super::files::{Files, NameOp};

/// Operations that may wait in the channel; more wait at the shard.
const QUEUE_MAX: usize = 256;
/// The longest pause after a step of what can wait.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// An operation on names has ended.
#[derive(Debug)]
pub(crate) struct NameDone {
    pub(crate) ticket: Ticket,
    pub(crate) result: Result<Option<OwnedFd>, DiskError>,
}

/// An operation on names for the thread.
#[derive(Debug)]
struct NameJob {
    ticket: Ticket,
    op: NameOp,
    /// A test wants it to be stuck for a while, and what is behind it too.
    stall: Option<Stall>,
}

/// The shard's end.
#[derive(Debug)]
pub(crate) struct Helper {
    jobs: Option<Sender<NameJob>>,
    results: Receiver<NameDone>,
    overflow: VecDeque<NameJob>,
    spare_segments: Arc<AtomicUsize>,
    mode: DirectMode,
}

impl Helper {
    /// Starts the thread. `bell` is counted up for every result.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(files: Files, shard: usize, bell: OwnedFd) -> io::Result<Self> {
        let (jobs, incoming) = bounded(QUEUE_MAX);
        // As many results as operations: the thread never waits for the shard.
        let (outgoing, results) = crossbeam_channel::unbounded();
        let spare_segments = Arc::new(AtomicUsize::new(files.spare_segments()));
        let spare = Arc::clone(&spare_segments);
        let mode = files.mode();
        std::thread::Builder::new().name(format!("disk-{shard}")).spawn(move || {
            leave_the_shards_cpu();
            serve(files, &incoming, &outgoing, &bell, &spare);
        })?;
        Ok(Self { jobs: Some(jobs), results, overflow: VecDeque::new(), spare_segments, mode })
    }

    /// Hands an operation over; it waits here while the thread has too much to do.
    pub(crate) fn submit(&mut self, ticket: Ticket, op: NameOp, stall: Option<Stall>) {
        self.overflow.push_back(NameJob { ticket, op, stall });
        self.feed();
    }

    fn feed(&mut self) {
        let Some(jobs) = self.jobs.as_ref() else { return };
        while let Some(job) = self.overflow.pop_front() {
            match jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    self.overflow.push_front(job);
                    return;
                }
            }
        }
    }

    /// A result, if there is one.
    pub(crate) fn next(&mut self) -> Option<NameDone> {
        let done = self.results.try_recv().ok()?;
        self.feed();
        Some(done)
    }

    /// Whether there is a result.
    pub(crate) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Waits for a result.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<NameDone> {
        let done = self.results.recv_timeout(limit).ok()?;
        self.feed();
        Some(done)
    }

    /// Ends the thread, and waits for that until the time is over.
    pub(crate) fn stop(&mut self, limit: Duration) {
        self.jobs = None;
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.results.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return,
            }
        }
    }

    pub(crate) fn spare_segments(&self) -> usize {
        self.spare_segments.load(Ordering::Relaxed)
    }

    pub(crate) const fn mode(&self) -> DirectMode {
        self.mode
    }
}

fn serve(
    mut files: Files,
    incoming: &Receiver<NameJob>,
    outgoing: &Sender<NameDone>,
    bell: &OwnedFd,
    spare: &AtomicUsize,
) {
    let mut pause = Duration::ZERO;
    let mut has_more = true;
    loop {
        let next = if has_more { incoming.recv_timeout(pause) } else { wait(incoming) };
        let NameJob { ticket, op, stall } = match next {
            Ok(job) => job,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let begun = Instant::now();
                has_more = files.step_idle();
                // Half of the time, so that commits find the disk free.
                pause = begun.elapsed().min(PAUSE_MAX);
                spare.store(files.spare_segments(), Ordering::Relaxed);
                continue;
            }
        };
        (has_more, pause) = (true, Duration::ZERO);
        let result = stall.map_or(Ok(()), |stall| stall.wait()).and_then(|()| files.run(op));
        spare.store(files.spare_segments(), Ordering::Relaxed);
        if outgoing.send(NameDone { ticket, result }).is_err() {
            break;
        }
        // The counter cannot overflow: the shard resets it whenever it sleeps.
        let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
    }
    files.close();
}

fn wait(incoming: &Receiver<NameJob>) -> Result<NameJob, RecvTimeoutError> {
    incoming.recv().map_err(|_| RecvTimeoutError::Disconnected)
}

/// A thread begins on the CPUs of the one that made it, and a shard has only one. The process's
/// first thread has them all. Where that is refused, the helper shares the shard's CPU.
fn leave_the_shards_cpu() {
    let process = rustix::process::getpid();
    if let Ok(cpus) = rustix::thread::sched_getaffinity(Some(process)) {
        let _ = rustix::thread::sched_setaffinity(None, &cpus);
    }
}
