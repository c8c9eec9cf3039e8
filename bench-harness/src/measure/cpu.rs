//! CPU time of a process from the kernel's scheduler, in nanoseconds.
//!
//! `/proc/PID/task/*/schedstat` counts nanoseconds on a CPU for each living thread; where the
//! kernel does not keep it, `utime + stime` of `/proc/PID/stat` serves, in steps of 10 ms.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::error::{During, HarnessError, Result};

/// Nanoseconds in one step of `utime` and `stime` (the kernel's USER_HZ is always 100).
const TICK_NS: u64 = 10_000_000;

/// CPU nanoseconds used so far by all threads of a process.
///
/// # Errors
/// The process does not exist or may not be read.
pub fn process_ns(pid: u32) -> Result<u64> {
    let mut total = 0_u64;
    let tasks = format!("/proc/{pid}/task");
    for entry in fs::read_dir(&tasks).during(tasks.clone())? {
        let path = entry.during(tasks.clone())?.path().join("schedstat");
        // A thread may end between the listing and the read.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        total += first_number(&text).unwrap_or(0);
    }
    if total > 0 {
        return Ok(total);
    }
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).during(path)?;
    stat_ns(&text).ok_or_else(|| HarnessError::Server(format!("/proc/{pid}/stat is strange")))
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
    fn our_own_cpu_grows_with_work() {
        let before = (process_ns(std::process::id()).unwrap(), thread_ns());
        let mut x = 1_u64;
        while thread_ns() < before.1 + 5_000_000 {
            x = std::hint::black_box(x.wrapping_mul(31));
        }
        assert!(process_ns(std::process::id()).unwrap() >= before.0);
    }

    #[test]
    fn a_missing_process_is_an_error() {
        assert!(process_ns(u32::MAX - 1).is_err());
    }
}
