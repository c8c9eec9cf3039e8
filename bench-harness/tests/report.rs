//! The reports of a made-up comparison, against files that are kept. After a wanted change run
//! the tests with `UPDATE_SNAPSHOTS=1` and look at the difference.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bench_harness::compare::plan::{Case, Cores, Goal, Row};
use bench_harness::compare::result::{CaseResult, Comparison, Verdict};
use bench_harness::measure::histogram::Latencies;
use bench_harness::report::{Outcome, json, svg, table, text};
use bench_harness::scenario::{Kind, Params};

fn check(name: &str, got: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert!(got == want, "{name} differs from its snapshot; it is now:\n{got}");
}

fn outcome(params: &Params, cpu: f64, rate: f64) -> Outcome {
    let mut outcome = Outcome::new(params);
    outcome.put("server_cpu_us_per_msg", cpu, "us");
    outcome.put("msgs_per_s", rate, "/s");
    outcome.put("harness_cpu_percent", 31.4, "%");
    outcome
}

fn timed(params: &Params, factor: u64) -> Outcome {
    let mut latencies = Latencies::new().unwrap();
    for us in 1..=2000 {
        latencies.record(Duration::from_micros(20 + us * factor / 10));
    }
    let mut outcome = Outcome::new(params);
    outcome.put_latency(latencies.summary());
    outcome.notes.push("a made-up run".into());
    outcome
}

fn case(name: &'static str, kind: Kind, rows: Vec<Row>) -> Case {
    let params = Params::new(kind);
    let sets: &[&str] = &["throughput"];
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

fn comparison() -> Comparison {
    let rows = vec![
        Row { metric: "server_cpu_us_per_msg", goal: Goal::RatioAtMost(0.2) },
        Row { metric: "msgs_per_s", goal: Goal::RatioAtLeast(8.0) },
    ];
    let mut first = CaseResult::new(case("1to1-16", Kind::OneToOne, rows));
    for (ours, theirs) in [(0.05, 0.31), (0.04, 0.29), (0.07, 0.3)] {
        let params = first.case.params.clone();
        first.add(true, outcome(&params, ours, 1e6 / ours));
        first.add(false, outcome(&params, theirs, 1e6 / theirs));
    }
    first.finish();
    let rows = vec![
        Row { metric: "p99_us", goal: Goal::RatioAtMost(1.0) },
        Row { metric: "max_us", goal: Goal::Report },
        Row { metric: "nothing", goal: Goal::AtMost(5.0) },
    ];
    let mut second = CaseResult::new(case("reqrep-open", Kind::ReqrepOpen, rows));
    let params = second.case.params.clone();
    second.add(true, timed(&params, 1));
    second.add(false, timed(&params, 20));
    second.failures.push("reqrep-open round 2, ours: count check failed: <made up>".into());
    second.finish();
    Comparison {
        ours: "ours v1".into(),
        theirs: "theirs v2 & more".into(),
        kernel: "6.0".into(),
        processor: "a processor".into(),
        cpus: 2,
        rounds: 3,
        cases: vec![first, second],
    }
}

#[test]
fn medians_ratios_and_verdicts() {
    let made = comparison();
    let cpu = &made.cases[0].rows[0];
    assert_eq!(cpu.ours.map(|s| (s.median, s.min, s.max)), Some((0.05, 0.04, 0.07)));
    assert!((cpu.ratio.unwrap() - 0.05 / 0.3).abs() < 1e-9);
    let verdicts: Vec<Verdict> =
        made.cases.iter().flat_map(|c| &c.rows).map(|r| r.verdict).collect();
    let want = [Verdict::Met, Verdict::Missed, Verdict::Met, Verdict::Reported, Verdict::Unknown];
    assert_eq!(verdicts, want);
}

#[test]
fn tables() {
    let made = comparison();
    check("comparison.txt", &table::text(&made.cases));
    check("comparison.md", &table::markdown(&made));
    check("outcome.txt", &text::outcome(&made.cases[1].theirs[0]));
}

#[test]
fn json_keeps_every_round() {
    let text = json::text(&comparison()).unwrap();
    check("comparison.json", &text);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["cases"][0]["ours"].as_array().map(Vec::len), Some(3));
    assert_eq!(value["cases"][0]["theirs"][1]["metrics"][0]["value"], 0.29);
}

#[test]
fn drawings() {
    let made = comparison();
    let drawing = svg::comparison(&made);
    check("comparison.svg", &drawing);
    assert!(drawing.contains("theirs v2 &amp; more"));
    assert_eq!(drawing.matches("<polyline").count(), 2);
    check("outcome.svg", &svg::outcome(&made.cases[1].ours[0]));
}
