//! The table of a comparison, for a terminal and as Markdown.

use super::Outcome;
use super::text::{columns, number};
use crate::compare::plan::Goal;
use crate::compare::result::{CaseResult, Comparison, RowResult, Spread, Verdict, crossovers};
use crate::measure::histogram::median;

/// The head of the table.
const HEAD: [&str; 8] = ["case", "figure", "unit", "ours", "theirs", "ratio", "goal", ""];

fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "-".into(),
        |s| {
            let (min, max) = (number(s.min), number(s.max));
            format!("{} ({min}–{max})", number(s.median))
        },
    )
}

fn goal(goal: Goal) -> String {
    match goal {
        Goal::RatioAtMost(limit) => format!("≤ {}×", number(limit)),
        Goal::RatioAtLeast(limit) => format!("≥ {}×", number(limit)),
        Goal::AtMost(limit) => format!("≤ {}", number(limit)),
        Goal::Report => String::new(),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::Reported => "",
        Verdict::Unknown => "NOT MEASURED",
    }
}

/// The load's own CPU beside ours and theirs: far below 100 for each thread, or waiting by
/// spinning, shows that the load was not what limited the server.
fn load(case: &CaseResult) -> String {
    let of = |outcomes: &[Outcome]| -> Option<String> {
        let values: Vec<f64> =
            outcomes.iter().filter_map(|o| o.get("harness_cpu_percent")).collect();
        Some(number(median(&values)?.round()))
    };
    match (of(&case.ours), of(&case.theirs)) {
        (None, None) => String::new(),
        (ours, theirs) => {
            let text = |v: Option<String>| v.unwrap_or_else(|| "-".into());
            format!("{} / {}", text(ours), text(theirs))
        }
    }
}

fn cells(case: &CaseResult, index: usize, row: &RowResult) -> Vec<String> {
    let name = if index == 0 { case.case.name } else { "" };
    vec![
        name.into(),
        row.metric.into(),
        row.unit.clone(),
        spread(row.ours),
        spread(row.theirs),
        row.ratio.map_or_else(|| "-".into(), |r| format!("{}×", number(r))),
        goal(row.goal),
        verdict(row.verdict).into(),
        if index == 0 { load(case) } else { String::new() },
    ]
}

fn body(cases: &[CaseResult]) -> Vec<Vec<String>> {
    cases
        .iter()
        .flat_map(|case| case.rows.iter().enumerate().map(|(i, row)| cells(case, i, row)))
        .collect()
}

/// The table for a terminal: medians with least and most in brackets.
#[must_use]
pub fn text(cases: &[CaseResult]) -> String {
    let mut rows = vec![HEAD.map(String::from).to_vec()];
    rows.extend(body(cases));
    let mut out = columns(&rows, &[false, false, false, true, true, true, true, false, true]);
    // One point alone is no crossing.
    for line in crossovers(cases).iter().filter(|_| cases.len() > 1) {
        out.push_str(&format!("  {line}\n"));
    }
    for failure in cases.iter().flat_map(|c| &c.failures) {
        out.push_str(&format!("  FAILED {failure}\n"));
    }
    out
}

/// The table as Markdown, with what was compared above it.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = format!(
        "{} against {}, {} rounds in turn, medians (least–most).\n\
         Linux {}, {}, {} CPUs.\n\n",
        comparison.ours,
        comparison.theirs,
        comparison.rounds,
        comparison.kernel,
        comparison.processor,
        comparison.cpus
    );
    out.push_str("| case | figure | unit | ours | theirs | ratio | goal | | load CPU % |\n");
    out.push_str("|---|---|---|---:|---:|---:|---:|---|---:|\n");
    for row in body(&comparison.cases) {
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    for line in crossovers(&comparison.cases) {
        out.push_str(&format!("\n{line}\n"));
    }
    for failure in comparison.cases.iter().flat_map(|c| &c.failures) {
        let line = failure.lines().next().unwrap_or_default();
        out.push_str(&format!("\nFAILED: {line}\n"));
    }
    out
}
