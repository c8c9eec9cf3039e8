//! What a run found, and how it is shown: table, JSON, Markdown, SVG.

pub mod json;
pub mod svg;
pub mod table;
pub mod text;

use serde::Serialize;

use crate::measure::histogram::LatencySummary;
use crate::measure::memory::Memory;
use crate::scenario::Params;

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// A stable name such as `server_cpu_us_per_msg`.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit as text, for people.
    pub unit: String,
}

/// Everything one run of a scenario found.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was run.
    pub params: Params,
    /// The figures, in the order they are shown.
    pub metrics: Vec<Metric>,
    /// Latencies, where the scenario has any.
    pub latency: Option<LatencySummary>,
    /// Remarks in words, such as why a reader was closed.
    pub notes: Vec<String>,
}

impl Outcome {
    /// An outcome without figures.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        Self { params: params.clone(), metrics: Vec::new(), latency: None, notes: Vec::new() }
    }

    /// Adds a figure.
    pub fn put(&mut self, name: &str, value: f64, unit: &str) {
        self.metrics.push(Metric { name: name.into(), value, unit: unit.into() });
    }

    /// The value of a figure.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|m| m.name == name).map(|m| m.value)
    }

    /// Adds the server's memory at the end of a run.
    pub fn put_memory(&mut self, memory: Option<Memory>) {
        const MIB: f64 = 1024.0 * 1024.0;
        if let Some(memory) = memory {
            self.put("rss_mib", memory.rss_bytes as f64 / MIB, "MiB");
            self.put("rss_peak_mib", memory.peak_bytes as f64 / MIB, "MiB");
        }
    }

    /// Adds latencies both as figures and as a curve.
    pub fn put_latency(&mut self, latency: LatencySummary) {
        self.put("p50_us", latency.p50_us, "us");
        self.put("p99_us", latency.p99_us, "us");
        self.put("p99.9_us", latency.p999_us, "us");
        self.put("max_us", latency.max_us, "us");
        self.latency = Some(latency);
    }
}
