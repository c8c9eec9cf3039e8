//! Pinning: lists of CPUs, our own threads, and the threads that start servers.

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::{During, HarnessError, Result};

/// Reads a CPU list such as `0,2-3`.
///
/// # Errors
/// The text is no such list.
pub fn parse_cpus(text: &str) -> Result<Vec<usize>> {
    let bad = || HarnessError::Usage(format!("{text:?} is no list of CPUs such as 0,2-3"));
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().map_err(|_| bad())?;
        let to: usize = to.trim().parse().map_err(|_| bad())?;
        if from > to || to >= CpuSet::MAX_CPU {
            return Err(bad());
        }
        cpus.extend(from..=to);
    }
    if cpus.is_empty() { Err(bad()) } else { Ok(cpus) }
}

/// Pins the calling thread to one CPU.
///
/// # Errors
/// The CPU is not there or not allowed to this process.
pub fn pin_to(cpu: usize) -> Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(HarnessError::Usage(format!("cannot pin to CPU {cpu}")))
    }
}

/// Allows the calling thread, and all processes it starts, only these CPUs.
///
/// # Errors
/// None of the CPUs is allowed to this process.
pub fn restrict_to(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter().copied().filter(|c| *c < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).during(format!("set affinity to {cpus:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_of_cpus() {
        assert_eq!(parse_cpus("0").unwrap(), [0]);
        assert_eq!(parse_cpus("1, 3-5").unwrap(), [1, 3, 4, 5]);
        for bad in ["", "x", "3-1", "0-99999999", "-1"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }
}
