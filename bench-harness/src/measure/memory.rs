//! Memory of the server under test, and the file limit of our own process.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{During, HarnessError, Result};

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub rss_bytes: u64,
    /// The most it ever was (`VmHWM`).
    pub peak_bytes: u64,
}

/// Reads the resident memory of a process.
///
/// # Errors
/// The process does not exist or may not be read.
pub fn of(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).during(path)?;
    parse(&text).ok_or_else(|| HarnessError::Server(format!("/proc/{pid}/status has no VmRSS")))
}

fn parse(status: &str) -> Option<Memory> {
    let kib = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory { rss_bytes: kib("VmRSS:")? * 1024, peak_bytes: kib("VmHWM:")? * 1024 })
}

/// Raises the limit of open files to at least `wanted`; also beyond the hard limit where the
/// process may. Children started later inherit it.
///
/// # Errors
/// The limit stays below `wanted`.
pub fn raise_file_limit(wanted: u64) -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|n| n >= wanted) {
        return Ok(());
    }
    let hard = now.maximum.map(|m| m.max(wanted));
    let raised = Rlimit { current: Some(wanted), maximum: hard };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        let have = now.maximum.unwrap_or(0);
        HarnessError::Usage(format!("{wanted} open files needed, the limit is {have}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status_text() {
        let memory = parse("Name:\tx\nVmHWM:\t  20 kB\nVmRSS:\t  10 kB\n").unwrap();
        assert_eq!(memory, Memory { rss_bytes: 10_240, peak_bytes: 20_480 });
        assert!(parse("Name:\tx\n").is_none());
    }

    #[test]
    fn reads_our_own_memory() {
        let memory = of(std::process::id()).unwrap();
        assert!(memory.rss_bytes > 0 && memory.peak_bytes >= memory.rss_bytes);
    }
}
