//! Every branch of the verdict.

use super::*;

fn cpus(text: &str) -> CpuList {
    CpuList::parse(text).unwrap()
}

fn good() -> Facts {
    Facts {
        kernel: Some((6, 1)),
        ring: RingCheck::Works,
        io_uring_disabled: Some(0),
        seccomp_filter: false,
        memlock_bytes: None,
        files_max: 100_000,
        cpus: cpus("0-3"),
        cpu_quota_milli: None,
        nodes: vec![cpus("0-3")],
        somaxconn: Some(4096),
    }
}

fn needs() -> Needs {
    Needs {
        shards: None,
        cpus: None,
        connections_max: Some(65_536),
        memlock_min_bytes: 512 * 1024,
        memlock_full_bytes: 10 * 1024 * 1024,
        files_per_shard: 32,
        files_of_process: 64,
        files_of_storage: None,
    }
}

/// The only finding, which must be of this severity and hold these words.
fn expect(facts: &Facts, needs: &Needs, severity: Severity, words: &[&str]) -> Verdict {
    let verdict = judge(facts, needs);
    let [finding] = verdict.findings.as_slice() else { panic!("{:?}", verdict.findings) };
    assert_eq!(finding.severity, severity, "{}", finding.text);
    for word in words {
        assert!(finding.text.contains(word), "{word}: {}", finding.text);
    }
    assert!(!finding.text.contains('\n'), "one line");
    assert_eq!(verdict.fatal().is_some(), severity == Severity::Fatal);
    verdict
}

#[test]
fn a_good_machine_needs_no_words() {
    let verdict = judge(&good(), &needs());
    assert_eq!(verdict.findings, []);
    assert_eq!(verdict.shard_cpus, [0, 1, 2, 3]);
    assert_eq!(verdict.files.room, 99_808);
}

#[test]
fn an_old_kernel_is_fatal() {
    let old = Facts { kernel: Some((5, 4)), ..good() };
    expect(&old, &needs(), Severity::Fatal, &["5.4", "5.8"]);
    // Without a readable version the ring's own check decides.
    assert_eq!(judge(&Facts { kernel: None, ..good() }, &needs()).fatal(), None);
}

#[test]
fn a_refused_ring_says_who_refuses() {
    let refused = |errno, disabled, seccomp_filter, word: &str| {
        let facts = Facts {
            ring: RingCheck::Refused(errno),
            io_uring_disabled: disabled,
            seccomp_filter,
            ..good()
        };
        expect(&facts, &needs(), Severity::Fatal, &["io_uring", word]);
    };
    refused(1, Some(2), true, "kernel.io_uring_disabled to 0");
    refused(1, Some(1), false, "kernel.io_uring_group");
    refused(1, Some(0), true, "seccomp-io_uring.json");
    refused(38, None, true, "seccomp-io_uring.json");
    refused(13, Some(0), false, "security module");
    refused(38, None, false, "CONFIG_IO_URING");
    refused(12, Some(0), false, "40960 KiB");
    refused(24, Some(0), false, "LimitNOFILE");
    refused(5, Some(0), false, "input/output error");
}

#[test]
fn locked_memory_is_weighed_per_shard() {
    let limited = |kib: u64| Facts { memlock_bytes: Some(kib * 1024), ..good() };
    expect(&limited(1024), &needs(), Severity::Fatal, &["1024 KiB", "4 shards", "40960 KiB"]);
    expect(&limited(8192), &needs(), Severity::Warning, &["8192 KiB", "unregistered"]);
    assert_eq!(judge(&limited(40_960), &needs()).findings, []);
    let one = Needs { shards: Some(1), ..needs() };
    assert_eq!(judge(&limited(10_240), &one).findings, []);
}

#[test]
fn open_files_bound_the_connections() {
    let limited = |files_max| Facts { files_max, ..good() };
    let verdict = expect(&limited(1024), &needs(), Severity::Warning, &["832 of 65536", "65728"]);
    assert_eq!(verdict.files, FileShares { room: 832, storage: 0, connections: 832 });
    expect(&limited(192), &needs(), Severity::Fatal, &["192 open files", "65728"]);
    let any = Needs { connections_max: None, ..needs() };
    let verdict = judge(&limited(1024), &any);
    assert_eq!((verdict.findings.len(), verdict.files.room), (0, 832));
}

#[test]
fn storage_has_files_of_its_own() {
    let stored = |files_of_storage| Needs { files_of_storage: Some(files_of_storage), ..needs() };
    let limited = |files_max| Facts { files_max, ..good() };
    let words = ["624 of 65536 connections beside 208 for storage", "65936"];
    let verdict = expect(&limited(1024), &stored(0), Severity::Warning, &words);
    assert_eq!(verdict.files, FileShares { room: 832, storage: 208, connections: 208 });
    let verdict = expect(&limited(1024), &stored(500), Severity::Warning, &["332 of 65536"]);
    assert_eq!(verdict.files.storage, 500);
    // Connections keep a part, whatever is asked for.
    assert_eq!(judge(&limited(1024), &stored(5000)).files.storage, 624);
    // There is no use in more than a store needs.
    assert_eq!(judge(&limited(1_000_000), &stored(0)).files.storage, 16_384);
}

#[test]
fn shards_go_where_they_may() {
    let with = |shards, list: Option<&str>| Needs { shards, cpus: list.map(cpus), ..needs() };
    assert_eq!(judge(&good(), &with(Some(2), None)).shard_cpus, [0, 1]);
    assert_eq!(judge(&good(), &with(None, Some("1,3"))).shard_cpus, [1, 3]);
    let verdict = expect(&good(), &with(Some(3), Some("2-3")), Severity::Warning, &["share 2"]);
    assert_eq!(verdict.shard_cpus, [2, 3, 2]);
    let verdict = expect(&good(), &with(None, Some("2-5")), Severity::Fatal, &["CPU 4-5", "0-3"]);
    assert!(verdict.shard_cpus.is_empty());
    let none = Facts { cpus: CpuList::default(), ..good() };
    expect(&none, &needs(), Severity::Fatal, &["no CPU"]);
}

#[test]
fn a_quota_below_the_shards_is_told() {
    let quota = |milli| Facts { cpu_quota_milli: Some(milli), ..good() };
    expect(&quota(1500), &needs(), Severity::Warning, &["1.5 CPUs for 4", "--shards to 1"]);
    assert_eq!(judge(&quota(4000), &needs()).findings, []);
}

#[test]
fn several_nodes_and_a_short_backlog_are_noted() {
    let nodes = Facts { nodes: vec![cpus("0-1"), cpus("2-3"), cpus("4-7")], ..good() };
    expect(&nodes, &needs(), Severity::Note, &["2 NUMA nodes", "--cpus 0-1"]);
    let one = Needs { cpus: Some(cpus("2-3")), ..needs() };
    assert_eq!(judge(&nodes, &one).findings, []);
    let short = Facts { somaxconn: Some(128), ..good() };
    expect(&short, &needs(), Severity::Note, &["128", "net.core.somaxconn"]);
}

/// The names a rule of the shipped seccomp profile allows without looking at arguments.
fn allowed_calls() -> Vec<String> {
    let text = include_str!("../../configs/seccomp-io_uring.json");
    let profile: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "what is not named is denied");
    let rules = profile["syscalls"].as_array().unwrap();
    rules
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule.get("args").is_none())
        .flat_map(|rule| rule["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_shipped_profile_allows_what_the_probe_misses() {
    let allowed = allowed_calls();
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register", "sched_setaffinity"] {
        assert!(allowed.iter().any(|name| name == call), "{call}");
    }
    for call in ["bpf", "mount", "ptrace", "unshare", "setns", "keyctl", "init_module", "clone3"] {
        assert!(!allowed.iter().any(|name| name == call), "{call}");
    }
    let mut unique = allowed.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), allowed.len(), "a name stands twice");
}
