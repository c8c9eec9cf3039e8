//! What a comparison found: every raw outcome, and for each figure medians, ratio and verdict.

use std::path::Path;

use serde::Serialize;

use super::durability::Durability;
use super::plan::{Case, Goal, Row};
use super::server::version;
use crate::measure::histogram::{LatencySummary, median};
use crate::report::Outcome;
use crate::scenario::Kind;

/// A whole comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// What our binary says of itself.
    pub ours: String,
    /// What the other binary says of itself.
    pub theirs: String,
    /// The kernel of the machine.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// CPUs of the machine that this process may use.
    pub cpus: usize,
    /// Rounds asked for.
    pub rounds: usize,
    /// The cases.
    pub cases: Vec<CaseResult>,
}

impl Comparison {
    /// A comparison without cases.
    #[must_use]
    pub fn new(ours: &Path, theirs: &Path, rounds: usize) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let processor = info
            .lines()
            .find_map(|l| l.strip_prefix("model name"))
            .map_or("unknown", |l| l.trim_start_matches([' ', '\t', ':']));
        Self {
            ours: version(ours),
            theirs: version(theirs),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: processor.to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            rounds,
            cases: Vec::new(),
        }
    }
}

/// Median, least and most of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; `None` when there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: median(values)?,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// Whether a figure reaches its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does.
    Met,
    /// It does not.
    Missed,
    /// It has no goal.
    Reported,
    /// It could not be measured.
    Unknown,
}

/// One figure of both servers.
#[derive(Clone, Debug, Serialize)]
pub struct RowResult {
    /// The figure's name.
    pub metric: &'static str,
    /// Its unit.
    pub unit: String,
    /// Ours.
    pub ours: Option<Spread>,
    /// Theirs.
    pub theirs: Option<Spread>,
    /// Our median divided by theirs.
    pub ratio: Option<f64>,
    /// What it must reach.
    pub goal: Goal,
    /// Whether it does.
    pub verdict: Verdict,
}

/// One case with all its rounds.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// What was run.
    pub case: Case,
    /// Every outcome of ours, in order.
    pub ours: Vec<Outcome>,
    /// Every outcome of theirs, in order.
    pub theirs: Vec<Outcome>,
    /// Rounds that failed, in words.
    pub failures: Vec<String>,
    /// The figures.
    pub rows: Vec<RowResult>,
}

impl CaseResult {
    /// A case that has not run yet.
    #[must_use]
    pub fn new(case: Case) -> Self {
        let (ours, theirs) = (Vec::new(), Vec::new());
        Self { case, ours, theirs, failures: Vec::new(), rows: Vec::new() }
    }

    /// Keeps the outcome of a round.
    pub fn add(&mut self, is_ours: bool, outcome: Outcome) {
        if is_ours { &mut self.ours } else { &mut self.theirs }.push(outcome);
    }

    /// Computes the figures from the outcomes.
    pub fn finish(&mut self) {
        self.rows = self.case.rows.iter().map(|row| self.row(row)).collect();
    }

    fn row(&self, row: &Row) -> RowResult {
        let values = |outcomes: &[Outcome]| -> Vec<f64> {
            outcomes.iter().filter_map(|o| o.get(row.metric)).collect()
        };
        let ours = Spread::of(&values(&self.ours));
        let theirs = Spread::of(&values(&self.theirs));
        let ratio = ours.zip(theirs).map(|(o, t)| o.median / t.median).filter(|r| r.is_finite());
        let unit = self
            .ours
            .iter()
            .chain(&self.theirs)
            .flat_map(|o| &o.metrics)
            .find(|m| m.name == row.metric)
            .map_or_else(String::new, |m| m.unit.clone());
        let verdict = verdict(row.goal, ours, ratio);
        RowResult { metric: row.metric, unit, ours, theirs, ratio, goal: row.goal, verdict }
    }

    /// The latency curve of one side: at each quantile the median over the rounds.
    #[must_use]
    pub fn curve(&self, is_ours: bool) -> Vec<(f64, f64)> {
        let outcomes = if is_ours { &self.ours } else { &self.theirs };
        let curves: Vec<&LatencySummary> =
            outcomes.iter().filter_map(|o| o.latency.as_ref()).collect();
        let Some(first) = curves.first() else {
            return Vec::new();
        };
        let at = |index: usize| -> Vec<f64> {
            curves.iter().filter_map(|c| c.curve.get(index)).map(|p| p.1).collect()
        };
        let points = first.curve.iter().enumerate();
        points.filter_map(|(i, (q, _))| Some((*q, median(&at(i))?))).collect()
    }
}

/// From how many messages outstanding our durable publishing is at least as fast as theirs with
/// lazy flushing, in words for each payload size that was compared.
#[must_use]
pub fn crossovers(cases: &[CaseResult]) -> Vec<String> {
    // Payload size, messages outstanding, ratio of the rates.
    let mut points: Vec<(usize, usize, f64)> = cases
        .iter()
        .filter(|c| c.case.durability == Some(Durability::Cross))
        .filter(|c| c.case.params.kind == Kind::JsPublish)
        .filter_map(|c| {
            let ratio = c.rows.iter().find(|r| r.metric == "msgs_per_s")?.ratio?;
            Some((c.case.params.size, c.case.params.js.as_ref()?.outstanding, ratio))
        })
        .collect();
    points.sort_by_key(|p| (p.0, p.1));
    let of_one_size = points.chunk_by(|a, b| a.0 == b.0);
    of_one_size
        .filter_map(|points| {
            let (size, most, _) = points.last()?;
            // A single faster point below a slower one is noise: everything above must hold.
            let from = points.iter().rev().take_while(|p| p.2 >= 1.0).last();
            let text = match from {
                Some((_, from, _)) => format!("from {from} messages outstanding on"),
                None => format!("not up to {most} messages outstanding"),
            };
            Some(format!("{size} B: ours durable is as fast as theirs lazy {text}"))
        })
        .collect()
}

fn verdict(goal: Goal, ours: Option<Spread>, ratio: Option<f64>) -> Verdict {
    let met = match goal {
        Goal::Report => return Verdict::Reported,
        Goal::RatioAtMost(limit) => ratio.map(|r| r <= limit),
        Goal::RatioAtLeast(limit) => ratio.map(|r| r >= limit),
        Goal::AtMost(limit) => ours.map(|o| o.median <= limit),
    };
    match met {
        Some(true) => Verdict::Met,
        Some(false) => Verdict::Missed,
        None => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::plan::cases;

    fn results(ratios: &[(&str, f64)]) -> Vec<CaseResult> {
        let case = |name: &str| cases().into_iter().find(|c| c.name == name).unwrap();
        let made = ratios.iter().map(|(name, ratio)| {
            let mut result = CaseResult::new(case(name));
            for (is_ours, rate) in [(true, 1000.0 * ratio), (false, 1000.0)] {
                let mut outcome = Outcome::new(&result.case.params);
                outcome.put("msgs_per_s", rate, "/s");
                result.add(is_ours, outcome);
            }
            result.finish();
            result
        });
        made.collect()
    }

    #[test]
    fn the_crossover_is_where_ours_stays_ahead() {
        let made = results(&[
            ("js-pub-cross-256-1k", 0.8),
            ("js-pub-cross-256-128", 1.6),
            ("js-pub-cross-64-128", 1.1),
            ("js-pub-cross-16-128", 0.7),
            ("js-pub-cross-1-128", 1.2),
            ("js-pub-lazy-1-128", 9.0),
        ]);
        let said = crossovers(&made);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("128 B") && said[0].contains("from 64 messages"), "{said:?}");
        assert!(said[1].starts_with("1024 B") && said[1].contains("not up to 256"), "{said:?}");
        assert!(crossovers(&results(&[("js-pub-lazy-1-128", 9.0)])).is_empty());
    }

    #[test]
    fn goals_of_each_kind() {
        let ours = Spread::of(&[2.0]);
        assert_eq!(verdict(Goal::RatioAtLeast(2.0), ours, Some(2.0)), Verdict::Met);
        assert_eq!(verdict(Goal::RatioAtLeast(2.0), ours, Some(1.9)), Verdict::Missed);
        assert_eq!(verdict(Goal::RatioAtMost(0.2), ours, Some(0.2)), Verdict::Met);
        assert_eq!(verdict(Goal::RatioAtMost(0.2), ours, Some(0.3)), Verdict::Missed);
        assert_eq!(verdict(Goal::AtMost(1.0), ours, None), Verdict::Missed);
        assert_eq!(verdict(Goal::RatioAtLeast(2.0), None, None), Verdict::Unknown);
        assert_eq!(verdict(Goal::Report, None, None), Verdict::Reported);
    }
}
