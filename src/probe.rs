//! What the machine allows, asked once before anything starts.
//!
//! [`facts::gather`] asks the kernel, [`judge`] decides. A finding is one line that says what
//! to change. Only what makes serving impossible is fatal; everything else is said and
//! lived with: fewer connections, shards that share CPUs.

pub mod facts;

use crate::cli::CpuList;
use facts::{Facts, RingCheck};

/// The oldest kernel the runtime works on.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// Shorter queues of the kernel for new connections are worth a word.
const SOMAXCONN_MIN: u64 = 1024;

/// Of the descriptors that are left for connections and storage, one in so many is kept for
/// storage when the configuration does not say how many, and likewise one in so many for
/// connections, whatever storage takes.
const SHARE: u64 = 4;

/// At most so many are kept for storage by default.
const STORAGE_FILES_MAX: u64 = 16_384;

/// What the configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Shards, when the configuration says how many.
    pub shards: Option<usize>,
    /// CPUs to pin them to, when the configuration names them.
    pub cpus: Option<CpuList>,
    /// Client connections to be able to hold. `None` is "as many as possible".
    pub connections_max: Option<u64>,
    /// Locked memory without which a shard's rings cannot be set up, in bytes.
    pub memlock_min_bytes: u64,
    /// Locked memory with which a shard can register its buffers, in bytes.
    pub memlock_full_bytes: u64,
    /// Files a shard keeps open for itself.
    pub files_per_shard: u64,
    /// Files the process keeps open beside shards and connections.
    pub files_of_process: u64,
    /// Files kept for storage; `None` without storage, 0 is "as seems right".
    pub files_of_storage: Option<u64>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The server cannot work.
    Fatal,
    /// The server works, but not as configured.
    Warning,
    /// Worth knowing.
    Note,
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What is the case and what to change.
    pub text: String,
}

/// What to start with, and what to say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// In order of importance to the reader: kernel, memory, files, CPUs.
    pub findings: Vec<Finding>,
    /// The CPU of each shard; as long as there are shards. Empty after a fatal finding
    /// about CPUs.
    pub shard_cpus: Vec<usize>,
    /// How the open files are shared.
    pub files: FileShares,
}

/// How open files are shared by connections and storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileShares {
    /// What both have together.
    pub room: u64,
    /// Kept for storage, however many connections want in.
    pub storage: u64,
    /// Kept for connections, however many files storage opens.
    pub connections: u64,
}

impl Verdict {
    /// The first finding that forbids starting.
    #[must_use]
    pub fn fatal(&self) -> Option<&str> {
        let fatal = |finding: &&Finding| finding.severity == Severity::Fatal;
        self.findings.iter().find(fatal).map(|finding| finding.text.as_str())
    }

    /// Logs every finding but the fatal ones, which are the caller's to report as it ends.
    pub fn log(&self) {
        for Finding { severity, text } in &self.findings {
            match severity {
                Severity::Fatal => {}
                Severity::Warning => tracing::warn!("{text}"),
                Severity::Note => tracing::info!("{text}"),
            }
        }
    }

    fn add(&mut self, severity: Severity, text: String) {
        self.findings.push(Finding { severity, text });
    }
}

/// Decides from facts and needs alone.
#[must_use]
pub fn judge(facts: &Facts, needs: &Needs) -> Verdict {
    let mut verdict = Verdict::default();
    judge_kernel(facts, &mut verdict);
    judge_cpus(facts, needs, &mut verdict);
    let shards = verdict.shard_cpus.len().max(1) as u64;
    judge_ring(facts, needs, shards, &mut verdict);
    judge_files(facts, needs, shards, &mut verdict);
    judge_backlog(facts, &mut verdict);
    verdict
}

fn judge_kernel(facts: &Facts, verdict: &mut Verdict) {
    let Some((major, minor)) = facts.kernel else {
        return;
    };
    if (major, minor) < KERNEL_MIN {
        let (least, least_minor) = KERNEL_MIN;
        verdict.add(
            Severity::Fatal,
            format!("Linux {major}.{minor} is too old: Linux {least}.{least_minor} is needed"),
        );
    }
}

fn judge_ring(facts: &Facts, needs: &Needs, shards: u64, verdict: &mut Verdict) {
    match facts.ring {
        RingCheck::Works => judge_memlock(facts, needs, shards, verdict),
        RingCheck::Refused(errno) => {
            verdict.add(Severity::Fatal, ring_refusal(facts, needs, shards, errno));
        }
    }
}

/// Why io_uring does not work, from the error and its usual causes.
fn ring_refusal(facts: &Facts, needs: &Needs, shards: u64, errno: i32) -> String {
    const EPERM: i32 = 1;
    const ENOMEM: i32 = 12;
    const EACCES: i32 = 13;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOSYS: i32 = 38;
    match (errno, facts.io_uring_disabled) {
        (EPERM, Some(2)) => "io_uring is switched off on this machine: set the sysctl \
             kernel.io_uring_disabled to 0"
            .to_owned(),
        (EPERM, Some(1)) => "io_uring is kept for privileged processes on this machine: set the \
             sysctl kernel.io_uring_disabled to 0, or kernel.io_uring_group to a group of this \
             server's user"
            .to_owned(),
        (EPERM | EACCES | ENOSYS, _) if facts.seccomp_filter => {
            "io_uring is forbidden by a seccomp filter, as container runtimes do by default: run \
             the container with the profile configs/seccomp-io_uring.json (docker run \
             --security-opt seccomp=FILE)"
                .to_owned()
        }
        (EPERM | EACCES, _) => "io_uring is forbidden by a security module of this machine: \
             allow this server to use it"
            .to_owned(),
        (ENOSYS, _) => "this kernel is built without io_uring (CONFIG_IO_URING): use one that \
             has it"
            .to_owned(),
        (ENOMEM, _) => format!(
            "io_uring cannot lock memory: raise the limit to {} KiB or more (LimitMEMLOCK= in \
             systemd, ulimit -l, --ulimit memlock= in docker)",
            kib(needs.memlock_full_bytes.saturating_mul(shards))
        ),
        (EMFILE | ENFILE, _) => "io_uring cannot open a file: raise the limit of open files \
             (LimitNOFILE= in systemd, ulimit -n)"
            .to_owned(),
        _ => format!(
            "io_uring does not work here: {}",
            crate::error::os_text(&std::io::Error::from_raw_os_error(errno))
        ),
    }
}

fn judge_memlock(facts: &Facts, needs: &Needs, shards: u64, verdict: &mut Verdict) {
    let Some(limit) = facts.memlock_bytes else {
        return;
    };
    let least = needs.memlock_min_bytes.saturating_mul(shards);
    let full = needs.memlock_full_bytes.saturating_mul(shards);
    let (severity, effect) = if limit < least {
        (Severity::Fatal, "is not enough for")
    } else if limit < full {
        (Severity::Warning, "leaves buffers unregistered in some of")
    } else {
        return;
    };
    verdict.add(
        severity,
        format!(
            "the limit of locked memory, {} KiB, {effect} {shards} shards: raise it to {} KiB \
             (LimitMEMLOCK= in systemd, ulimit -l, --ulimit memlock= in docker)",
            kib(limit),
            kib(full)
        ),
    );
}

fn judge_files(facts: &Facts, needs: &Needs, shards: u64, verdict: &mut Verdict) {
    let own = needs.files_per_shard.saturating_mul(shards).saturating_add(needs.files_of_process);
    let both = facts.files_max.saturating_sub(own);
    let storage = match needs.files_of_storage {
        None => 0,
        Some(0) => (both / SHARE).min(STORAGE_FILES_MAX),
        Some(asked) => asked.min(both - both / SHARE),
    };
    let room = both.saturating_sub(storage);
    let connections = if needs.files_of_storage.is_some() { both / SHARE } else { both };
    verdict.files = FileShares { room: both, storage, connections };
    let wanted = needs.connections_max.unwrap_or(room);
    let kept = if storage > 0 { format!(" beside {storage} for storage") } else { String::new() };
    if room == 0 {
        verdict.add(
            Severity::Fatal,
            format!(
                "the limit of {} open files leaves none for connections: raise it to {} \
                 (LimitNOFILE= in systemd, ulimit -n)",
                facts.files_max,
                own.saturating_add(wanted.max(1))
            ),
        );
    } else if wanted > room {
        verdict.add(
            Severity::Warning,
            format!(
                "the limit of {} open files leaves room for {room} of {wanted} connections{kept}: \
                 raise it to {} (LimitNOFILE= in systemd, ulimit -n) or lower max_connections",
                facts.files_max,
                own.saturating_add(wanted).saturating_add(storage)
            ),
        );
    }
}

fn judge_cpus(facts: &Facts, needs: &Needs, verdict: &mut Verdict) {
    let allowed = facts.cpus.cpus();
    let cpus = match &needs.cpus {
        None => allowed.to_vec(),
        Some(list) => {
            let absent: CpuList =
                list.cpus().iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
            if !absent.cpus().is_empty() {
                return verdict.add(
                    Severity::Fatal,
                    format!(
                        "shards cannot run on CPU {absent}: this process may use {} (cpuset, \
                         taskset or CPUAffinity=); change that or --cpus",
                        facts.cpus
                    ),
                );
            }
            list.cpus().to_vec()
        }
    };
    if cpus.is_empty() {
        return verdict.add(
            Severity::Fatal,
            "the kernel names no CPU for this process: check cpuset and taskset".to_owned(),
        );
    }
    let shards = needs.shards.unwrap_or(cpus.len()).max(1);
    if shards > cpus.len() {
        verdict.add(
            Severity::Warning,
            format!(
                "{shards} shards share {} CPUs and slow each other down: set --shards to {} or \
                 less",
                cpus.len(),
                cpus.len()
            ),
        );
    }
    verdict.shard_cpus = cpus.iter().copied().cycle().take(shards).collect();
    judge_quota(facts, verdict);
    judge_nodes(facts, verdict);
}

fn judge_quota(facts: &Facts, verdict: &mut Verdict) {
    let Some(quota) = facts.cpu_quota_milli else {
        return;
    };
    let shards = verdict.shard_cpus.len() as u64;
    if quota < shards.saturating_mul(1000) {
        let (whole, rest) = (quota / 1000, quota % 1000 / 100);
        let fitting = (quota / 1000).max(1);
        verdict.add(
            Severity::Warning,
            format!(
                "the control group allows {whole}.{rest} CPUs for {shards} shards, which then \
                 stop for milliseconds: set --shards to {fitting} or raise the quota \
                 (CPUQuota= in systemd, --cpus in docker)"
            ),
        );
    }
}

fn judge_nodes(facts: &Facts, verdict: &mut Verdict) {
    let used = |node: &&CpuList| node.cpus().iter().any(|cpu| verdict.shard_cpus.contains(cpu));
    let nodes: Vec<&CpuList> = facts.nodes.iter().filter(used).collect();
    if let (true, Some(first)) = (nodes.len() > 1, nodes.first()) {
        let text = format!(
            "shards run on {} NUMA nodes, between which messages are slower: --cpus {first} \
             would keep them on one",
            nodes.len()
        );
        verdict.add(Severity::Note, text);
    }
}

fn judge_backlog(facts: &Facts, verdict: &mut Verdict) {
    if let Some(backlog) = facts.somaxconn.filter(|backlog| *backlog < SOMAXCONN_MIN) {
        verdict.add(
            Severity::Note,
            format!(
                "at most {backlog} new connections can wait to be accepted: raise the sysctl \
                 net.core.somaxconn to {SOMAXCONN_MIN} or more"
            ),
        );
    }
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

#[cfg(test)]
mod tests;
