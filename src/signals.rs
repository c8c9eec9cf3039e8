//! Signals to the running server, turned into values by one thread.
//!
//! | signal | meaning |
//! |---|---|
//! | HUP | read the configuration again |
//! | USR1 | open the log file again |
//! | USR2 | lame duck mode |
//! | TERM | graceful shutdown (the receiver ignores it in lame duck mode) |
//! | INT | immediate shutdown |

use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};

/// What the outside asked of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSignal {
    /// Read the configuration again.
    Reload,
    /// Open the log file again.
    ReopenLog,
    /// Stop accepting, then let clients go one by one.
    LameDuck,
    /// Shut down in order.
    Terminate,
    /// Shut down at once.
    Interrupt,
}

impl ProcessSignal {
    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            SIGHUP => Self::Reload,
            SIGUSR1 => Self::ReopenLog,
            SIGUSR2 => Self::LameDuck,
            SIGTERM => Self::Terminate,
            SIGINT => Self::Interrupt,
            _ => return None,
        })
    }

    /// How nats-server's log calls the signal.
    fn name(self) -> &'static str {
        match self {
            Self::Reload => "hangup",
            Self::ReopenLog => "user defined signal 1",
            Self::LameDuck => "user defined signal 2",
            Self::Terminate => "terminated",
            Self::Interrupt => "interrupt",
        }
    }
}

/// The thread that waits for signals. Ends when dropped.
#[derive(Debug)]
pub struct SignalThread {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    /// Takes over the five signals and sends them to `receiver` in the order of arrival.
    /// Several arrivals of one signal may be merged, as the kernel does. Every one is logged
    /// as `Trapped "…" signal`.
    ///
    /// # Errors
    ///
    /// The kernel's refusal of a handler or of the thread.
    pub fn start(receiver: Sender<ProcessSignal>) -> io::Result<Self> {
        let mut signals = Signals::new([SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGINT])?;
        let handle = signals.handle();
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever().filter_map(ProcessSignal::from_number) {
                tracing::info!("Trapped {:?} signal", signal.name());
                if receiver.send(signal).is_err() {
                    // Nobody is left to obey.
                    return;
                }
            }
        })?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic there has already been reported.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};
    use std::time::Duration;

    /// One test, because handlers belong to the whole process.
    #[test]
    fn signals_arrive_as_values() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let thread = SignalThread::start(sender).unwrap();
        for (signal, expected) in [
            (Signal::HUP, ProcessSignal::Reload),
            (Signal::USR1, ProcessSignal::ReopenLog),
            (Signal::USR2, ProcessSignal::LameDuck),
            (Signal::TERM, ProcessSignal::Terminate),
            (Signal::INT, ProcessSignal::Interrupt),
        ] {
            kill_process(getpid(), signal).unwrap();
            assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(expected));
        }
        drop(thread);
        assert!(receiver.recv().is_err(), "the thread has ended");
    }
}
