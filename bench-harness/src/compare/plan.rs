//! The cases of a comparison: each scenario with its sizes, the figures shown of it, and what
//! each figure must reach against nats-server.

use std::time::Duration;

use serde::Serialize;

use super::durability::Durability;
use crate::scenario::{Kind, Params};

/// On which cores a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cores {
    /// The server on its cores, the load on others.
    Apart,
    /// Two shards and the load on all cores of both lists.
    Shared,
}

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Ours at most this many times theirs.
    RatioAtMost(f64),
    /// Ours at least this many times theirs.
    RatioAtLeast(f64),
    /// Ours at most this, in the figure's unit, whatever theirs is.
    AtMost(f64),
    /// Only reported.
    Report,
}

/// One figure of a case.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// The name of the metric in the outcome.
    pub metric: &'static str,
    /// What it must reach.
    pub goal: Goal,
}

/// One scenario of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// The name for `--scenarios`.
    pub name: &'static str,
    /// The sets it belongs to.
    pub sets: &'static [&'static str],
    /// What load is made.
    pub params: Params,
    /// On which cores.
    pub cores: Cores,
    /// Our shards poll before they sleep.
    pub spin: bool,
    /// Connections are encrypted.
    pub tls: bool,
    /// When the servers flush, for cases with JetStream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// The servers are killed at the end.
    #[serde(skip_serializing_if = "is_false")]
    pub kill: bool,
    /// The rate is half of what ours reaches in the same round with 256 outstanding.
    #[serde(skip_serializing_if = "is_false")]
    pub half_peak: bool,
    /// The figures shown.
    pub rows: Vec<Row>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Names of all sets; `all` are those of the core.
pub const SETS: [&str; 10] = [
    "all",
    "throughput",
    "latency",
    "trouble",
    "scale",
    "tls",
    "js-publish",
    "js-consume",
    "js-reads",
    "js-scale",
];

const CPU: &str = "server_cpu_us_per_msg";
const RATE: &str = "msgs_per_s";

/// A figure with its goal.
pub(super) fn row(metric: &'static str, goal: Goal) -> Row {
    Row { metric, goal }
}

/// A case with the defaults of its scenario.
pub(super) fn case(
    name: &'static str,
    sets: &'static [&'static str],
    kind: Kind,
    size: usize,
    rows: Vec<Row>,
) -> Case {
    let params = Params { size, ..Params::new(kind) };
    Case {
        name,
        sets,
        params,
        cores: Cores::Apart,
        spin: false,
        tls: false,
        durability: None,
        kill: false,
        half_peak: false,
        rows,
    }
}

fn cpu(name: &'static str, kind: Kind, size: usize, target: f64) -> Case {
    let rows = vec![row(CPU, Goal::RatioAtMost(1.0 / target)), row(RATE, Goal::Report)];
    case(name, &["throughput"], kind, size, rows)
}

/// All cases, in the order of the report.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = throughput();
    all.extend(latency());
    all.extend(trouble_and_scale());
    all.extend(tls());
    all.extend(super::js_plan::cases());
    all
}

fn throughput() -> Vec<Case> {
    let with_subs = |mut case: Case, subs: usize| {
        case.params.subs = subs;
        case
    };
    let mut n_to_n = cpu("16to16-16", Kind::NToN, 16, 6.0);
    n_to_n.params.connections = 16;
    let rows = vec![row(RATE, Goal::RatioAtLeast(4.0)), row(CPU, Goal::Report)];
    let mut two = case("two-shards-8to8-16", &["throughput"], Kind::NToN, 16, rows);
    two.params.connections = 8;
    two.cores = Cores::Shared;
    let report = |name, kind| {
        let rows = vec![row(CPU, Goal::Report), row(RATE, Goal::Report)];
        case(name, &["throughput"], kind, 16, rows)
    };
    vec![
        cpu("pub-only-16", Kind::PubOnly, 16, 4.5),
        cpu("pub-only-128", Kind::PubOnly, 128, 3.5),
        cpu("1to1-16", Kind::OneToOne, 16, 5.0),
        cpu("1to1-128", Kind::OneToOne, 128, 3.5),
        cpu("1to1-1k", Kind::OneToOne, 1024, 1.7),
        n_to_n,
        with_subs(cpu("fanout-10-16", Kind::Fanout, 16, 7.0), 10),
        with_subs(cpu("fanout-100-16", Kind::Fanout, 16, 7.0), 100),
        with_subs(cpu("fanout-100-1k", Kind::Fanout, 1024, 2.5), 100),
        report("fanin-10-16", Kind::Fanin),
        report("queue-4-16", Kind::Queue),
        two,
    ]
}

fn latency() -> Vec<Case> {
    let closed = |name, ratio, spin| {
        let mut rows = vec![row("p50_us", Goal::RatioAtMost(ratio))];
        rows.extend(
            ["p99_us", "max_us", "server_cpu_us_per_request"].map(|m| row(m, Goal::Report)),
        );
        let mut case = case(name, &["latency"], Kind::Reqrep, 16, rows);
        case.spin = spin;
        case
    };
    let open = |name, spin| {
        let rows = vec![
            row("p50_us", Goal::Report),
            row("p99_us", Goal::RatioAtMost(1.0)),
            row("p99.9_us", Goal::RatioAtMost(1.0)),
            row("max_us", Goal::Report),
            row("server_cpu_us_per_request", Goal::Report),
        ];
        let mut case = case(name, &["latency"], Kind::ReqrepOpen, 16, rows);
        case.params.rate = 20_000.0;
        case.params.duration = Duration::from_secs(4);
        case.spin = spin;
        case
    };
    vec![
        closed("reqrep", 0.6, false),
        closed("reqrep-spin", 0.3, true),
        open("reqrep-open-20k", false),
        open("reqrep-open-20k-spin", true),
    ]
}

fn trouble_and_scale() -> Vec<Case> {
    let rows = vec![
        row("p50_us", Goal::Report),
        row("p99_us", Goal::RatioAtMost(0.05)),
        row("p99.9_us", Goal::Report),
        row("max_us", Goal::Report),
        row("slow_closed", Goal::Report),
        row("rss_peak_mib", Goal::Report),
    ];
    let mut slow = case("slow-subscriber", &["trouble"], Kind::SlowSubscriber, 1024, rows);
    slow.params.rate = 20_000.0;
    slow.params.reader_mib = 2.0;
    slow.params.duration = Duration::from_secs(10);
    let rows = vec![row("reader_kept", Goal::RatioAtLeast(1.0)), row("all_read_s", Goal::Report)];
    let mut burst = case("burst", &["trouble"], Kind::Burst, 1024, rows);
    burst.params.msgs = Some(200_000);
    burst.params.reader_mib = 50.0;
    let rows = vec![
        row("rss_kib_per_connection", Goal::AtMost(5.0)),
        row("idle_cpu_percent", Goal::AtMost(0.2)),
    ];
    let mut idle = case("idle-1000", &["scale"], Kind::Idle, 16, rows);
    idle.params.connections = 1000;
    idle.params.duration = Duration::from_secs(5);
    let rows = vec![
        row("rss_bytes_per_subscription", Goal::RatioAtMost(0.5)),
        row("match_cpu_ns_per_msg", Goal::Report),
        row("subscribe_cpu_us", Goal::Report),
    ];
    let million = case("subs-million", &["scale"], Kind::SubsMillion, 16, rows);
    let rows = vec![row("match_cpu_ns_per_msg", Goal::Report)];
    let mut thousand = case("subs-thousand", &["scale"], Kind::SubsMillion, 16, rows);
    thousand.params.subs = 1000;
    let rows = vec![
        row("server_cpu_us_per_connection", Goal::Report),
        row("connections_per_s", Goal::Report),
        row("rss_growth_mib", Goal::Report),
    ];
    let churn = case("churn", &["scale"], Kind::Churn, 16, rows);
    vec![slow, burst, idle, million, thousand, churn]
}

fn tls() -> Vec<Case> {
    let report = |name, kind, size| {
        let rows = vec![row(CPU, Goal::Report), row(RATE, Goal::Report)];
        let mut case = case(name, &["tls"], kind, size, rows);
        case.tls = true;
        case
    };
    vec![
        report("tls-pub-only-128", Kind::PubOnly, 128),
        report("tls-1to1-128", Kind::OneToOne, 128),
        report("tls-1to1-1k", Kind::OneToOne, 1024),
        report("tls-fanout-10-128", Kind::Fanout, 128),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_sets_known() {
        let mut names: Vec<_> = cases().iter().map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases().len());
        assert!(cases().iter().flat_map(|c| c.sets).all(|s| SETS.contains(s)));
    }
}
