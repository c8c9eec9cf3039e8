//! Helper threads for work that a shard must not do: bcrypt takes tens of milliseconds.
//!
//! The pool is bounded twice: a fixed number of threads, and a queue of fixed length. A full
//! queue refuses at once, so that a storm of logins can neither block a shard nor fill the
//! memory. Helpers run at a lower priority than shards, with which they may share a CPU.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender};

/// Work for a helper: runs once, on a helper thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// Receives whether a password matched, on a helper thread.
pub type VerifyDone = Box<dyn FnOnce(bool) + Send>;

/// How much nicer than the shards the helpers are.
const NICE: i32 = 5;

/// The queue is full: refuse what would have needed the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all helper threads are busy and their queue is full")]
pub struct Busy;

/// The pool. Dropping it lets the threads finish their current jobs, drops the queued ones
/// and does not wait.
#[derive(Debug)]
pub struct HelperPool {
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    running: Arc<AtomicUsize>,
}

impl HelperPool {
    /// Starts `threads` helpers (at least one) with room for `queue_max` jobs that wait.
    ///
    /// # Errors
    ///
    /// The operating system's refusal of a thread.
    pub fn new(threads: usize, queue_max: usize) -> io::Result<Self> {
        let (jobs, waiting) = crossbeam_channel::bounded::<Job>(queue_max.max(1));
        let running = Arc::new(AtomicUsize::new(0));
        for at in 0..threads.max(1) {
            let (waiting, running) = (waiting.clone(), Arc::clone(&running));
            std::thread::Builder::new().name(format!("helper-{at}")).spawn(move || {
                // Without the right to change it the priority stays: no harm done.
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
                help(&waiting, &running);
            })?;
        }
        Ok(Self { jobs, waiting, running })
    }

    /// Queues a job. Never blocks. A job that panics is lost, its thread is not.
    ///
    /// # Errors
    ///
    /// [`Busy`] when the queue is full; the job is dropped.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.jobs.try_send(Box::new(job)).map_err(|_| Busy)
    }

    /// Compares a password with a bcrypt hash and hands the answer to `done`, which is
    /// called exactly once unless the pool is dropped before. A hash that cannot be read
    /// matches nothing. As with nats-server only the first 72 bytes of a password count.
    ///
    /// # Errors
    ///
    /// [`Busy`] when the queue is full; `done` is dropped without being called.
    pub fn verify_bcrypt(
        &self,
        password: Vec<u8>,
        hash: String,
        done: VerifyDone,
    ) -> Result<(), Busy> {
        self.submit(move || {
            let matched = catch_unwind(|| bcrypt::verify(&password, &hash));
            done(matches!(matched, Ok(Ok(true))));
        })
    }

    /// Jobs that wait and jobs that run, for monitoring.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.load(Ordering::Relaxed))
    }
}

impl Drop for HelperPool {
    fn drop(&mut self) {
        // Nobody waits for what has not begun.
        while self.waiting.try_recv().is_ok() {}
    }
}

fn help(waiting: &Receiver<Job>, running: &AtomicUsize) {
    while let Ok(job) = waiting.recv() {
        running.fetch_add(1, Ordering::Relaxed);
        // A panic is reported by the panic hook; the next job must not suffer for it.
        let _ = catch_unwind(AssertUnwindSafe(job));
        running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{bounded, unbounded};
    use std::time::Duration;

    const WAIT_MAX: Duration = Duration::from_secs(30);

    #[test]
    fn bcrypt_answers_arrive_through_the_callback() {
        let pool = HelperPool::new(2, 8).unwrap();
        let hash = bcrypt::hash("secret", 4).unwrap();
        let (sender, answers) = unbounded();
        for (at, password, hash) in [
            (0, "secret", hash.clone()),
            (1, "Secret", hash.clone()),
            (2, "secret", "$2a$11$broken".to_owned()),
            (3, "secret", hash.replacen("$2b$", "$2a$", 1)),
        ] {
            let sender = sender.clone();
            let done: VerifyDone = Box::new(move |matched| sender.send((at, matched)).unwrap());
            pool.verify_bcrypt(password.into(), hash, done).unwrap();
        }
        let mut got: Vec<(i32, bool)> =
            (0..4).map(|_| answers.recv_timeout(WAIT_MAX).unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, [(0, true), (1, false), (2, false), (3, true)]);
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_recovers() {
        let pool = HelperPool::new(2, 3).unwrap();
        let (gate, gates) = bounded::<()>(0);
        let (started, starts) = unbounded();
        let (done, dones) = unbounded();
        let job = |at: usize| {
            let (gates, started, done) = (gates.clone(), started.clone(), done.clone());
            move || {
                started.send(at).unwrap();
                gates.recv().unwrap();
                done.send(at).unwrap();
            }
        };
        for at in 0..2 {
            pool.submit(job(at)).unwrap();
        }
        for _ in 0..2 {
            starts.recv_timeout(WAIT_MAX).unwrap();
        }
        for at in 2..5 {
            pool.submit(job(at)).unwrap();
        }
        // Two run, three wait, and that is all: never more than two at a time.
        assert_eq!(pool.load(), (3, 2));
        assert_eq!(pool.submit(|| ()), Err(Busy));
        for _ in 0..5 {
            gate.send_timeout((), WAIT_MAX).unwrap();
            dones.recv_timeout(WAIT_MAX).unwrap();
        }
        pool.submit(move || done.send(9).unwrap()).unwrap();
        assert_eq!(dones.recv_timeout(WAIT_MAX), Ok(9));
    }

    #[test]
    fn a_panicking_job_does_not_take_its_thread_along() {
        let pool = HelperPool::new(1, 4).unwrap();
        let (sender, answers) = unbounded();
        pool.submit(|| std::panic::resume_unwind(Box::new("on purpose"))).unwrap();
        pool.submit(move || sender.send(1).unwrap()).unwrap();
        assert_eq!(answers.recv_timeout(WAIT_MAX), Ok(1));
    }

    #[test]
    fn dropping_the_pool_drops_what_waits_and_ends_the_threads() {
        let pool = HelperPool::new(1, 4).unwrap();
        let (gate, gates) = bounded::<()>(0);
        let (started, starts) = unbounded();
        let (done, dones) = unbounded();
        let first = done.clone();
        pool.submit(move || {
            started.send(()).unwrap();
            gates.recv().unwrap();
            first.send(1).unwrap();
        })
        .unwrap();
        starts.recv_timeout(WAIT_MAX).unwrap();
        pool.submit(move || done.send(2).unwrap()).unwrap();
        drop(pool);
        gate.send_timeout((), WAIT_MAX).unwrap();
        assert_eq!(dones.recv_timeout(WAIT_MAX), Ok(1));
        // Every sender is gone: the waiting job was dropped, the running one ended.
        assert!(dones.recv_timeout(WAIT_MAX).is_err());
    }
}
