//! The JetStream cases: what is run in which durability mode, and what each must reach.

use std::time::Duration;

use clap::Args;

use super::durability::Durability;
use super::plan::{Case, Goal, Row, case, row};
use crate::js::config::Storage;
use crate::scenario::{Kind, Params, js_publish};

const RATE: &str = "msgs_per_s";
const CPU: &str = "server_cpu_us_per_msg";
/// Bytes of a stored message beyond its payload, generously.
const OVERHEAD_BYTES: u64 = 128;

/// With `sync_interval: always` nats-server takes about 0.3 ms to store a message, so streams
/// that are only read afterwards are smaller by this.
const DURABLE_FILL_DIVISOR: u64 = 20;

/// How much the large cases work on.
#[derive(Args, Clone, Debug)]
pub struct Sizes {
    /// Messages replayed by the ordered consumer.
    #[arg(long, value_parser = parse_count, default_value = "10m")]
    replay_msgs: u64,
    /// Messages of the pull and push consumers; a twentieth in durable mode.
    #[arg(long, value_parser = parse_count, default_value = "1m")]
    consume_msgs: u64,
    /// Keys of direct gets and buckets.
    #[arg(long, value_parser = parse_count, default_value = "100k")]
    keys: u64,
    /// Messages of the large stream.
    #[arg(long, value_parser = parse_count, default_value = "10m")]
    big_msgs: u64,
    /// Subjects of the large stream.
    #[arg(long, value_parser = parse_count, default_value = "1m")]
    big_subjects: u64,
    /// Idle consumers.
    #[arg(long, value_parser = parse_count, default_value = "100k")]
    consumers: u64,
}

impl Sizes {
    /// Gives a case its size.
    pub fn apply(&self, case: &mut Case) {
        let Some(js) = &mut case.params.js else {
            return;
        };
        js.subjects = self.keys;
        match case.params.kind {
            Kind::JsOrdered => case.params.msgs = Some(self.replay_msgs),
            Kind::JsPull | Kind::JsPush => {
                let durable = case.durability == Some(Durability::Durable);
                let divisor = if durable { DURABLE_FILL_DIVISOR } else { 1 };
                case.params.msgs = Some((self.consume_msgs / divisor).max(1));
            }
            Kind::JsConsumers => js.consumers = self.consumers,
            Kind::JsBig => {
                js.subjects = self.big_subjects.clamp(1, self.big_msgs.max(1));
                case.params.msgs = Some(self.big_msgs);
            }
            _ => {}
        }
    }
}

/// A count with an optional suffix k or m (thousands, millions).
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match (lower.strip_suffix('k'), lower.strip_suffix('m')) {
        (Some(digits), _) => (digits, 1000),
        (_, Some(digits)) => (digits, 1_000_000),
        _ => (lower.as_str(), 1),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no count"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// Bytes that a run may store at most.
#[must_use]
pub fn bytes_needed(params: &Params) -> u64 {
    let Some(js) = params.js.as_ref().filter(|js| js.storage == Storage::File) else {
        return 0;
    };
    let message = params.size as u64 + OVERHEAD_BYTES;
    match params.kind {
        Kind::JsPublish | Kind::JsPublishOpen | Kind::JsBatch | Kind::JsFast => {
            js_publish::bytes_needed(params)
        }
        // Each consumer may have a directory with a few blocks of 4 KiB.
        Kind::JsConsumers => js.consumers.saturating_mul(24 << 10),
        Kind::KvPut | Kind::KvWatch => js_publish::bytes_needed(params) / 4,
        _ => params.count().saturating_mul(message),
    }
}

fn js(name: &'static str, set: &'static [&'static str], kind: Kind, mode: Durability) -> Case {
    let mut case = case(name, set, kind, 128, Vec::new());
    case.durability = Some(mode);
    if let (Durability::Memory, Some(js)) = (mode, &mut case.params.js) {
        js.storage = Storage::Memory;
    }
    case
}

/// A publishing case with its window; `ratio` 0 only reports.
fn publish(
    name: &'static str,
    kind: Kind,
    mode: Durability,
    (outstanding, size): (usize, usize),
    ratio: f64,
) -> Case {
    let mut case = js(name, &["js-publish"], kind, mode);
    case.params.size = size;
    if let Some(js) = &mut case.params.js {
        js.outstanding = outstanding;
    }
    let goal = if ratio > 0.0 { Goal::RatioAtLeast(ratio) } else { Goal::Report };
    case.rows = vec![row(RATE, goal), row(CPU, Goal::Report), row("p99_us", Goal::Report)];
    case
}

/// All JetStream cases, in the order of the report.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = publishing();
    all.push(half_peak());
    all.extend(consuming());
    all.extend(reading());
    all.extend(scale());
    all
}

fn publishing() -> Vec<Case> {
    use Durability::{Cross, Durable, Lazy, Memory};
    let plain = |name, mode, window, ratio| publish(name, Kind::JsPublish, mode, window, ratio);
    let batch = |name, mode, ratio| publish(name, Kind::JsBatch, mode, (2, 128), ratio);
    let fast = |name, mode, ratio| publish(name, Kind::JsFast, mode, (1000, 128), ratio);
    vec![
        plain("js-pub-durable-1-128", Durable, (1, 128), 2.0),
        plain("js-pub-durable-16-128", Durable, (16, 128), 10.0),
        plain("js-pub-durable-256-128", Durable, (256, 128), 100.0),
        plain("js-pub-durable-256-1k", Durable, (256, 1024), 0.0),
        plain("js-pub-cross-1-128", Cross, (1, 128), 0.0),
        plain("js-pub-cross-16-128", Cross, (16, 128), 0.0),
        plain("js-pub-cross-64-128", Cross, (64, 128), 0.0),
        plain("js-pub-cross-256-128", Cross, (256, 128), 1.5),
        plain("js-pub-cross-256-1k", Cross, (256, 1024), 1.5),
        plain("js-pub-lazy-1-128", Lazy, (1, 128), 1.3),
        plain("js-pub-lazy-16-128", Lazy, (16, 128), 2.0),
        plain("js-pub-lazy-256-128", Lazy, (256, 128), 3.0),
        plain("js-pub-lazy-256-1k", Lazy, (256, 1024), 0.0),
        plain("js-pub-memory-256-128", Memory, (256, 128), 3.0),
        batch("js-batch-durable-100-128", Durable, 0.0),
        batch("js-batch-cross-100-128", Cross, 0.0),
        fast("js-fast-durable-128", Durable, 0.0),
        fast("js-fast-cross-128", Cross, 0.0),
    ]
}

/// Ours durable at half of its own peak, theirs lazy at the same rate.
fn half_peak() -> Case {
    let mut case =
        js("js-pub-half-peak-cross-128", &["js-publish"], Kind::JsPublishOpen, Durability::Cross);
    case.half_peak = true;
    case.params.duration = Duration::from_secs(4);
    case.rows = vec![
        row("rate_per_s", Goal::Report),
        row("p50_us", Goal::Report),
        row("p99_us", Goal::Report),
        row("p99.9_us", Goal::RatioAtMost(1.0)),
        row("max_us", Goal::Report),
        row(CPU, Goal::Report),
    ];
    case
}

fn consuming() -> Vec<Case> {
    let consume = |name, kind, mode, goal| {
        let mut case = js(name, &["js-consume"], kind, mode);
        case.rows =
            vec![row(RATE, goal), row(CPU, Goal::Report), row("rss_peak_mib", Goal::Report)];
        case
    };
    let at_least = Goal::RatioAtLeast;
    use Durability::{Cross, Durable, Lazy};
    vec![
        consume("js-ordered-cross-128", Kind::JsOrdered, Cross, at_least(2.5)),
        consume("js-pull-lazy-500x4-128", Kind::JsPull, Lazy, at_least(2.0)),
        consume("js-pull-cross-500x4-128", Kind::JsPull, Cross, at_least(2.0)),
        consume("js-pull-durable-500x4-128", Kind::JsPull, Durable, Goal::Report),
        consume("js-push-lazy-128", Kind::JsPush, Lazy, Goal::Report),
        consume("js-push-cross-128", Kind::JsPush, Cross, Goal::Report),
    ]
}

fn reading() -> Vec<Case> {
    let latency = |limit: f64| -> Vec<Row> {
        let goal = if limit > 0.0 { Goal::RatioAtMost(limit) } else { Goal::Report };
        vec![
            row("p50_us", goal),
            row("p99_us", goal),
            row("p99.9_us", Goal::Report),
            row(CPU, Goal::Report),
        ]
    };
    let read = |name, kind, mode, limit| {
        let mut case = js(name, &["js-reads"], kind, mode);
        case.rows = latency(limit);
        case
    };
    use Durability::{Cross, Durable, Lazy, Memory};
    let mut watch = read("kv-watch-cross-128", Kind::KvWatch, Cross, 0.0);
    watch.rows.insert(0, row("initial_keys_per_s", Goal::Report));
    vec![
        read("js-direct-cross-128", Kind::JsDirect, Cross, 0.6),
        read("js-direct-memory-128", Kind::JsDirect, Memory, 0.0),
        read("kv-get-cross-128", Kind::KvGet, Cross, 0.6),
        read("kv-put-durable-128", Kind::KvPut, Durable, 0.0),
        read("kv-put-cross-128", Kind::KvPut, Cross, 0.0),
        read("kv-put-lazy-128", Kind::KvPut, Lazy, 0.0),
        watch,
    ]
}

fn scale() -> Vec<Case> {
    let set: &[&str] = &["js-scale"];
    let mut consumers = js("js-consumers-cross", set, Kind::JsConsumers, Durability::Cross);
    consumers.params.duration = Duration::from_secs(10);
    // Stopping takes nats-server 10 ms for each durable consumer.
    consumers.kill = true;
    consumers.rows = vec![
        row("rss_mib", Goal::RatioAtMost(1.0 / 3.0)),
        row("idle_cpu_percent", Goal::RatioAtMost(0.2)),
        row("rss_kib_per_consumer", Goal::Report),
        row("creates_per_s", Goal::Report),
    ];
    let mut big = js("js-big-cross-128", set, Kind::JsBig, Durability::Cross);
    big.rows = vec![
        row("rss_loaded_mib", Goal::RatioAtMost(1.0 / 3.0)),
        row("restart_ready_s", Goal::RatioAtMost(0.2)),
        row("rss_restarted_mib", Goal::RatioAtMost(1.0 / 3.0)),
        row("restart_killed_ready_s", Goal::Report),
        row("rss_restarted_killed_mib", Goal::Report),
        row("stop_s", Goal::Report),
        row("load_msgs_per_s", Goal::Report),
    ];
    vec![consumers, big]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_states_its_mode_and_its_name_agrees() {
        for case in cases() {
            let mode = case.durability.unwrap();
            let word = match mode {
                Durability::Durable => "durable",
                Durability::Lazy => "lazy",
                Durability::Cross => "cross",
                Durability::Memory => "memory",
            };
            assert!(case.name.contains(word), "{} {mode:?}", case.name);
            assert!(case.params.js.is_some() && !case.rows.is_empty(), "{}", case.name);
        }
    }

    #[test]
    fn counts_have_suffixes() {
        assert_eq!(parse_count("10m"), Ok(10_000_000));
        assert_eq!(parse_count("5K"), Ok(5000));
        assert_eq!(parse_count("7"), Ok(7));
        assert!(parse_count("x").is_err() && parse_count("-1").is_err());
        assert!(parse_count("99999999999999999999m").is_err());
    }

    #[test]
    fn sizes_reach_their_cases_and_their_need_of_room() {
        let sizes = Sizes {
            replay_msgs: 1000,
            consume_msgs: 500,
            keys: 50,
            big_msgs: 2000,
            big_subjects: 9000,
            consumers: 10,
        };
        for mut case in cases() {
            sizes.apply(&mut case);
            let (kind, need) = (case.params.kind, bytes_needed(&case.params));
            let js = case.params.js.unwrap();
            match kind {
                Kind::JsOrdered => assert_eq!((case.params.msgs, need), (Some(1000), 256_000)),
                Kind::JsBig => assert_eq!((js.subjects, need), (2000, 512_000)),
                Kind::JsConsumers => assert_eq!(js.consumers, 10),
                Kind::JsPull if case.durability == Some(Durability::Durable) => {
                    assert_eq!(case.params.msgs, Some(25));
                }
                _ => assert_eq!(js.subjects, 50),
            }
            assert!(js.storage == Storage::File || need == 0);
        }
    }

    #[test]
    fn goals_of_the_publishing_cases() {
        let goal = |name: &str| cases().into_iter().find(|c| c.name == name).unwrap().rows[0].goal;
        assert_eq!(goal("js-pub-durable-256-128"), Goal::RatioAtLeast(100.0));
        assert_eq!(goal("js-pub-cross-256-1k"), Goal::RatioAtLeast(1.5));
        assert_eq!(goal("js-pub-lazy-1-128"), Goal::RatioAtLeast(1.3));
        assert_eq!(goal("js-pub-memory-256-128"), Goal::RatioAtLeast(3.0));
        assert_eq!(goal("js-direct-cross-128"), Goal::RatioAtMost(0.6));
    }
}
