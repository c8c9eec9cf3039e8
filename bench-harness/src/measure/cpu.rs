//! CPU time of a process from the kernel's scheduler, in nanoseconds.
//!
//! `/proc/PID/task/*/schedstat` counts nanoseconds on a CPU for each living thread. Where the
//! kernel does not keep it, or threads have ended, `utime + stime` of `/proc/PID/stat` serves,
//! in steps of 10 ms.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::error::{During, HarnessError, Result};

/// Nanoseconds in one step of `utime` and `stime` (the kernel's USER_HZ is always 100).
const TICK_NS: u64 = 10_000_000;

/// How much more the coarse clock may show before it is believed: its own steps, twice.
const COARSE_NS: u64 = 5 * TICK_NS;

/// CPU used so far by a process, on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCpu {
    /// Exact, but without threads that have ended.
    living_ns: u64,
    /// In steps of 10 ms, with threads that have ended.
    coarse_ns: u64,
}

impl ProcessCpu {
    /// Nanoseconds used since an earlier reading.
    ///
    /// This is the exact clock, unless threads ended meanwhile and took more time with them
    /// than the coarse clock's steps.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        let exact = self.living_ns.saturating_sub(earlier.living_ns);
        let coarse = self.coarse_ns.saturating_sub(earlier.coarse_ns);
        if self.living_ns == 0 || coarse > exact + COARSE_NS { coarse } else { exact }
    }
}

/// CPU used so far by all threads of a process.
///
/// # Errors
/// The process does not exist or may not be read.
pub fn process(pid: u32) -> Result<ProcessCpu> {
    let mut living_ns = 0_u64;
    let tasks = format!("/proc/{pid}/task");
    for entry in fs::read_dir(&tasks).during(tasks.clone())? {
        let path = entry.during(tasks.clone())?.path().join("schedstat");
        // A thread may end between the listing and the read.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        living_ns += first_number(&text).unwrap_or(0);
    }
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).during(path)?;
    let coarse_ns = stat_ns(&text)
        .ok_or_else(|| HarnessError::Server(format!("/proc/{pid}/stat is strange")))?;
    Ok(ProcessCpu { living_ns, coarse_ns })
}

/// CPU nanoseconds used so far by the calling thread.
#[must_use]
pub fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `utime + stime` of a stat line. The command may hold spaces and brackets, so the fields are
/// counted from the last closing bracket.
fn stat_ns(text: &str) -> Option<u64> {
    let rest = text.get(text.rfind(')')? + 1..)?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_line_with_an_odd_name() {
        let line = "12 (a) b (x)) S 1 1 1 0 -1 4194304 10 0 0 0 7 5 0 0 20 0 1 0 100";
        assert_eq!(stat_ns(line), Some(120_000_000));
        assert_eq!(stat_ns("nonsense"), None);
    }

    #[test]
    fn a_thread_that_ended_is_still_counted() {
        let before = process(std::process::id()).unwrap();
        let burn = || {
            let mut x = 1_u64;
            while thread_ns() < 200_000_000 {
                x = std::hint::black_box(x.wrapping_mul(31));
            }
        };
        std::thread::spawn(burn).join().unwrap();
        let used = process(std::process::id()).unwrap().since(before);
        assert!(used >= 140_000_000, "{used}");
    }

    #[test]
    fn the_exact_clock_is_believed_unless_threads_ended() {
        let at = |living_ns, coarse_ns| ProcessCpu { living_ns, coarse_ns };
        assert_eq!(at(1_500, 10_000_000).since(at(500, 0)), 1_000);
        assert_eq!(at(500, 900_000_000).since(at(700, 100_000_000)), 800_000_000);
        assert_eq!(at(0, 20_000_000).since(at(0, 10_000_000)), 10_000_000);
    }

    #[test]
    fn a_missing_process_is_an_error() {
        assert!(process(u32::MAX - 1).is_err());
    }
}
