//! The sleep of a shard that has nothing to do. The shard is its executor's only task, so it
//! sleeps in the kernel by itself: an executor that finds its time slice over just as a task became
//! ready may go to sleep without running it, and nothing would ever wake it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// The counter that wakes a sleeping shard.
#[derive(Debug)]
pub(crate) struct WakeCounter(OwnedFd);

impl WakeCounter {
    /// Takes over an eventfd that was made in blocking mode.
    #[must_use]
    pub(crate) const fn new(eventfd: OwnedFd) -> Self {
        Self(eventfd)
    }

    /// Sleeps until the counter is above zero, and resets it; a signal ends the sleep, too.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn a_count_ends_the_sleep_and_is_taken() {
        let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let bell = fd.try_clone().unwrap();
        let wake = WakeCounter::new(fd);
        let ringer = std::thread::spawn(move || {
            rustix::io::write(&bell, &3_u64.to_ne_bytes()).unwrap();
            bell
        });
        wake.wait().unwrap();
        let bell = ringer.join().unwrap();
        rustix::fs::fcntl_setfl(&bell, rustix::fs::OFlags::NONBLOCK).unwrap();
        assert_eq!(rustix::io::read(&bell, &mut [0; 8]), Err(Errno::AGAIN));
    }
}
