//! Latencies: a histogram up to an hour at three digits, and its summary for reports.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::{HarnessError, Result};

/// Longest latency that is told apart; longer ones count as this.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Collects latencies in nanoseconds.
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// An empty histogram.
    ///
    /// # Errors
    /// Never with the fixed bounds; the library's own check is passed on.
    pub fn new() -> Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .map_err(|e| HarnessError::Usage(e.to_string()))?;
        Ok(Self { histogram })
    }

    /// Records one latency.
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(ns.max(1));
    }

    /// Adds all latencies of another histogram.
    ///
    /// # Errors
    /// Never with equal bounds; the library's own check is passed on.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.histogram.add(&other.histogram).map_err(|e| HarnessError::Usage(e.to_string()))
    }

    /// The summary; all zero when nothing was recorded.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |q: f64| us(self.histogram.value_at_quantile(q));
        LatencySummary {
            count: self.histogram.len(),
            mean_us: self.histogram.mean() / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: us(self.histogram.max()),
            curve: CURVE.iter().map(|&q| (q, at(q))).collect(),
        }
    }
}

/// The quantiles drawn in the percentile plot.
const CURVE: [f64; 16] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999,
    1.0,
];

/// What is reported of a histogram, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Number of latencies.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// 99.99th percentile.
    pub p9999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// `(quantile, microseconds)` for the plot.
    pub curve: Vec<(f64, f64)>,
}

/// Median of a list; the mean of the middle two when their number is even.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(&[f64::NAN, 2.0]), Some(2.0));
    }

    #[test]
    fn percentiles_of_a_known_series() {
        let mut latencies = Latencies::new().unwrap();
        for us in 1..=10_000 {
            latencies.record(Duration::from_micros(us));
        }
        let s = latencies.summary();
        let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.002, "{got} {want}");
        assert_eq!(s.count, 10_000);
        near(s.p50_us, 5000.0);
        near(s.p99_us, 9900.0);
        near(s.p999_us, 9990.0);
        near(s.max_us, 10_000.0);
        assert!(s.curve.windows(2).all(|w| w[0].1 <= w[1].1));
    }

    #[test]
    fn longer_than_the_bound_is_kept_as_the_bound() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(Duration::from_secs(1_000_000));
        assert!(latencies.summary().max_us >= 3.5e9);
    }

    #[test]
    fn merging_adds_counts() {
        let (mut a, mut b) = (Latencies::new().unwrap(), Latencies::new().unwrap());
        a.record(Duration::from_micros(1));
        b.record(Duration::from_micros(3));
        a.merge(&b).unwrap();
        assert_eq!(a.summary().count, 2);
    }
}
