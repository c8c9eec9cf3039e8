//! The kernel's answers, as plain values.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::CpuList;

/// Bit of the effective capabilities that lifts the limit of locked memory.
const CAP_IPC_LOCK: u32 = 14;

/// Highest CPU that the kernel's mask can name.
const CPU_MAX: usize = 1023;

/// Whether a ring could be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingCheck {
    /// It could.
    Works,
    /// The kernel's error number.
    Refused(i32),
}

impl RingCheck {
    /// From the result of setting up (and dropping) a small ring.
    #[must_use]
    pub fn of(result: &io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Works,
            Err(error) => Self::Refused(error.raw_os_error().unwrap_or(0)),
        }
    }
}

/// What is the case on this machine, for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Version of the kernel; `None` when it cannot be read.
    pub kernel: Option<(u32, u32)>,
    /// Whether io_uring works.
    pub ring: RingCheck,
    /// The sysctl `kernel.io_uring_disabled`, where the kernel has it.
    pub io_uring_disabled: Option<u8>,
    /// Whether a seccomp filter is on this process.
    pub seccomp_filter: bool,
    /// Limit of locked memory in bytes; `None` without a limit.
    pub memlock_bytes: Option<u64>,
    /// Limit of open files.
    pub files_max: u64,
    /// CPUs this process may use.
    pub cpus: CpuList,
    /// CPU time the control group allows, in thousandths of a CPU; `None` without a quota.
    pub cpu_quota_milli: Option<u64>,
    /// CPUs of each NUMA node.
    pub nodes: Vec<CpuList>,
    /// The sysctl `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
}

/// Raises the limits of open files and locked memory as far as the process may, then asks
/// the kernel everything. `ring` is the result of setting up a ring.
#[must_use]
pub fn gather(ring: &io::Result<()>) -> Facts {
    let status = read("/proc/self/status");
    let files = raise(Resource::Nofile);
    let locked = raise(Resource::Memlock);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Facts {
        kernel: kernel_version(&release),
        ring: RingCheck::of(ring),
        io_uring_disabled: number_in("/proc/sys/kernel/io_uring_disabled"),
        seccomp_filter: status_field(&status, "Seccomp") == Some("2"),
        memlock_bytes: if may_lock_any(&status) { None } else { locked.current },
        files_max: files.current.unwrap_or(u64::MAX),
        cpus: allowed_cpus(),
        cpu_quota_milli: cpu_quota(&read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")),
        nodes: numa_nodes(Path::new("/sys/devices/system/node")),
        somaxconn: number_in("/proc/sys/net/core/somaxconn"),
    }
}

/// Raises a soft limit to the hard one and returns what is then in force.
fn raise(resource: Resource) -> Rlimit {
    let limit = getrlimit(resource);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(resource, raised) {
        Ok(()) => getrlimit(resource),
        Err(_) => limit,
    }
}

fn read(path: impl AsRef<Path>) -> String {
    // A file that is not there is an old kernel or a narrow container: then nothing is known.
    fs::read_to_string(path).unwrap_or_default()
}

fn number_in<N: std::str::FromStr>(path: &str) -> Option<N> {
    read(path).trim().parse().ok()
}

/// `6.18.44-generic` is (6, 18).
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn may_lock_any(status: &str) -> bool {
    status_field(status, "CapEff")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .is_some_and(|capabilities| capabilities >> CAP_IPC_LOCK & 1 == 1)
}

fn allowed_cpus() -> CpuList {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..=CPU_MAX).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => CpuList::default(),
    }
}

/// The smallest quota on the way up from this process's control group (version 2).
fn cpu_quota(cgroup: &str, root: &Path) -> Option<u64> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = root.join(own);
    group
        .ancestors()
        .take_while(|path| path.starts_with(root))
        .filter_map(|path| quota_milli(&read(path.join("cpu.max"))))
        .min()
}

/// `150000 100000` is 1500; `max 100000` is none.
fn quota_milli(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    quota.saturating_mul(1000).checked_div(period)
}

fn numa_nodes(root: &Path) -> Vec<CpuList> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut nodes: Vec<(u32, CpuList)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
            let cpus = CpuList::parse(&read(entry.path().join("cpulist"))).ok()?;
            (!cpus.cpus().is_empty()).then_some((number, cpus))
        })
        .collect();
    nodes.sort_by_key(|(number, _)| *number);
    nodes.into_iter().map(|(_, cpus)| cpus).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("5.4"), Some((5, 4)));
        assert_eq!(kernel_version("strange"), None);
        assert_eq!(quota_milli("150000 100000\n"), Some(1500));
        assert_eq!(quota_milli("max 100000"), None);
        assert_eq!(quota_milli("1 0"), None);
        let status = "Name:\tx\nCapEff:\t0000000000004000\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(status_field(status, "Seccomp"), Some("2"));
        assert!(may_lock_any(status));
        assert!(!may_lock_any("CapEff:\t0000000000003fff\n"));
        assert!(!may_lock_any(""));
    }

    #[test]
    fn the_smallest_quota_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("a/b");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(root.path().join("a/cpu.max"), "150000 100000\n").unwrap();
        fs::write(leaf.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(cpu_quota("1:name=x:/y\n0::/a/b\n", root.path()), Some(1500));
        fs::write(leaf.join("cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(cpu_quota("0::/a/b\n", root.path()), Some(500));
        assert_eq!(cpu_quota("0::/\n", root.path()), None);
        assert_eq!(cpu_quota("", root.path()), None);
    }

    #[test]
    fn numa_nodes_are_in_order() {
        let root = tempfile::tempdir().unwrap();
        for (name, cpus) in [("node10", "8-11\n"), ("node2", "0-7\n"), ("node3", "\n")] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("cpulist"), cpus).unwrap();
        }
        fs::write(root.path().join("online"), "2,10").unwrap();
        let nodes: Vec<String> = numa_nodes(root.path()).iter().map(ToString::to_string).collect();
        assert_eq!(nodes, ["0-7", "8-11"]);
    }

    #[test]
    fn this_machine_answers() {
        let facts = gather(&Ok(()));
        assert!(facts.kernel.is_some());
        assert!(!facts.cpus.cpus().is_empty());
        assert!(facts.files_max > 0);
        // The soft limit was raised to the hard one.
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
        let refused = Err(io::Error::from_raw_os_error(1));
        assert_eq!(RingCheck::of(&refused), RingCheck::Refused(1));
    }
}
