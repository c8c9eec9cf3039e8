//! Plots as SVG, written by hand: bars of medians with whiskers from least to most, and
//! latency percentiles on logarithmic axes.

use super::Outcome;
use super::text::number;
use crate::compare::result::{CaseResult, Comparison, RowResult, Spread};

const WIDTH: f64 = 900.0;
const OURS: &str = "#1f77b4";
const THEIRS: &str = "#b0b0b0";
const INK: &str = "#222222";
/// Bars begin here, so that the labels have room.
const BARS_X: f64 = 330.0;
const BARS_W: f64 = 420.0;
const ROW_H: f64 = 40.0;
const PLOT_H: f64 = 260.0;

/// A drawing that grows downwards.
struct Canvas {
    body: String,
    y: f64,
}

impl Canvas {
    fn new() -> Self {
        Self { body: String::new(), y: 0.0 }
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: f64, text: &str) {
        let text = escape(text);
        self.body.push_str(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
             fill=\"{INK}\">{text}</text>\n"
        ));
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        self.body.push_str(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{fill}\"/>\n"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.body.push_str(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"{stroke}\"/>\n"
        ));
    }

    fn path(&mut self, points: &[(f64, f64)], stroke: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.body.push_str(&format!(
            "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"{stroke}\" points=\"{}\"/>\n",
            points.join(" ")
        ));
    }

    fn heading(&mut self, text: &str) {
        self.y += 26.0;
        let y = self.y;
        self.text(16.0, y, "start", 15.0, text);
        self.y += 10.0;
    }

    fn legend(&mut self, names: &[(&str, &str)]) {
        let mut x = 16.0;
        self.y += 18.0;
        let y = self.y;
        for (name, colour) in names {
            self.rect(x, y - 10.0, 12.0, 12.0, colour);
            self.text(x + 18.0, y, "start", 12.0, name);
            x += 36.0 + 7.5 * name.chars().count() as f64;
        }
        self.y += 8.0;
    }

    fn finish(self) -> String {
        let height = self.y + 20.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A comparison: for each figure two bars on a scale of their own, then the latency curves.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let mut canvas = Canvas::new();
    let rounds = comparison.rounds;
    canvas.heading(&format!("Medians of {rounds} rounds; whiskers from least to most"));
    let (ours, theirs) = (comparison.ours.as_str(), comparison.theirs.as_str());
    canvas.legend(&[(ours, OURS), (theirs, THEIRS)]);
    for case in &comparison.cases {
        for row in &case.rows {
            bars(&mut canvas, case.case.name, row);
        }
    }
    for case in &comparison.cases {
        curves(&mut canvas, case);
    }
    canvas.finish()
}

fn bars(canvas: &mut Canvas, name: &str, row: &RowResult) {
    let most = |s: Option<Spread>| s.map_or(0.0, |s| s.max);
    let scale = most(row.ours).max(most(row.theirs));
    let y = canvas.y;
    canvas.text(16.0, y + 16.0, "start", 12.0, name);
    let label = format!("{} {}", row.metric, row.unit);
    canvas.text(BARS_X - 8.0, y + 16.0, "end", 11.0, label.trim());
    if let Some(ratio) = row.ratio {
        canvas.text(BARS_X - 8.0, y + 30.0, "end", 11.0, &format!("{}×", number(ratio)));
    }
    for (index, (spread, fill)) in [(row.ours, OURS), (row.theirs, THEIRS)].iter().enumerate() {
        bar(canvas, y + 4.0 + 15.0 * index as f64, *spread, scale, fill);
    }
    canvas.y += ROW_H;
}

fn bar(canvas: &mut Canvas, y: f64, spread: Option<Spread>, scale: f64, fill: &str) {
    let Some(spread) = spread else {
        canvas.text(BARS_X, y + 10.0, "start", 11.0, "not measured");
        return;
    };
    let x = |value: f64| BARS_X + if scale > 0.0 { value / scale * BARS_W } else { 0.0 };
    canvas.rect(BARS_X, y, x(spread.median) - BARS_X, 12.0, fill);
    let middle = y + 6.0;
    canvas.line((x(spread.min), middle), (x(spread.max), middle), INK);
    for end in [spread.min, spread.max] {
        canvas.line((x(end), y + 3.0), (x(end), y + 9.0), INK);
    }
    let text = number(spread.median);
    canvas.text(x(spread.max) + 6.0, y + 10.0, "start", 11.0, &text);
}

fn curves(canvas: &mut Canvas, case: &CaseResult) {
    let (ours, theirs) = (case.curve(true), case.curve(false));
    if case.case.params.kind == crate::scenario::Kind::Churn || ours.len() + theirs.len() == 0 {
        return;
    }
    canvas.heading(&format!("{}: latency, us (median of the rounds)", case.case.name));
    plot(canvas, &[(&ours, OURS), (&theirs, THEIRS)]);
}

/// Curves of `(quantile, value)`; x is the number of nines, y is logarithmic.
fn plot(canvas: &mut Canvas, series: &[(&[(f64, f64)], &str)]) {
    let values = || series.iter().flat_map(|(points, _)| points.iter()).map(|p| p.1.max(0.001));
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(0.001, f64::max).log10().ceil().max(low + 1.0);
    let (left, right) = (70.0, WIDTH - 30.0);
    let (top, bottom) = (canvas.y + 8.0, canvas.y + PLOT_H - 24.0);
    let x = |quantile: f64| left + nines(quantile) / 5.5 * (right - left);
    let y = |value: f64| bottom - (value.max(0.001).log10() - low) / (high - low) * (bottom - top);
    let mut power = low;
    while power <= high {
        let value = 10_f64.powf(power);
        canvas.line((left, y(value)), (right, y(value)), "#dddddd");
        canvas.text(left - 6.0, y(value) + 4.0, "end", 11.0, &number(value));
        power += 1.0;
    }
    let marks = [
        (0.0, "0"),
        (0.5, "50%"),
        (0.9, "90%"),
        (0.99, "99%"),
        (0.999, "99.9%"),
        (0.9999, "99.99%"),
        (1.0, "max"),
    ];
    for (quantile, label) in marks {
        canvas.line((x(quantile), top), (x(quantile), bottom), "#eeeeee");
        canvas.text(x(quantile), bottom + 16.0, "middle", 11.0, label);
    }
    for (points, stroke) in series {
        let points: Vec<(f64, f64)> = points.iter().map(|(q, v)| (x(*q), y(*v))).collect();
        canvas.path(&points, stroke);
    }
    canvas.y += PLOT_H;
}

/// How many nines a quantile has; the maximum stands right of all.
fn nines(quantile: f64) -> f64 {
    if quantile >= 1.0 { 5.5 } else { -(1.0 - quantile).log10() }
}

/// One run: its latency curve when it has one, else its figures as bars.
#[must_use]
pub fn outcome(outcome: &Outcome) -> String {
    let mut canvas = Canvas::new();
    let name = outcome.params.kind.name();
    canvas.heading(&format!("{name}, {} B", outcome.params.size));
    if let Some(latency) = &outcome.latency {
        canvas.heading("latency, us");
        plot(&mut canvas, &[(&latency.curve, OURS)]);
        return canvas.finish();
    }
    for metric in &outcome.metrics {
        let y = canvas.y;
        canvas.text(BARS_X - 8.0, y + 14.0, "end", 12.0, &metric.name);
        let text = format!("{} {}", number(metric.value), metric.unit);
        canvas.text(BARS_X, y + 14.0, "start", 12.0, &text);
        canvas.y += 20.0;
    }
    canvas.finish()
}
