//! `/metrics` read by a strict little reader.

use std::collections::{BTreeMap, BTreeSet};

use super::super::settings::METRICS_ACCOUNTS_MAX;
use super::*;

/// Reads Prometheus text strictly enough to notice what a server would reject: the type before
/// the samples, families in one piece, names and labels of legal form, no series twice,
/// cumulative buckets that end in `+Inf` and agree with the count. Gives all series.
pub(super) fn read_metrics(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut family = String::new();
    let mut buckets: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty());
            family = name.to_owned();
            assert!(!families.contains_key(name), "{name} twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            families.insert(name.to_owned(), kind.to_owned());
            continue;
        }
        let (id, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (name, labels) = id.split_once('{').unwrap_or((id, "}"));
        assert!(name.starts_with("shearwater_"));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        match families[&family].as_str() {
            "counter" => assert!(name == family && name.ends_with("_total"), "{name}"),
            "gauge" => assert!(name == family && !name.ends_with("_total"), "{name}"),
            "histogram" => {
                let part = name.strip_prefix(&family).unwrap();
                assert!(["_bucket", "_sum", "_count"].contains(&part));
            }
            other => panic!("{other}"),
        }
        let labels = read_labels(labels);
        if let Some((_, bound)) = labels.iter().find(|(label, _)| label == "le") {
            let bound: f64 = bound.replace("+Inf", "inf").parse().unwrap();
            let last = buckets.entry(bucket_key(&family, &labels)).or_insert((0.0, 0.0));
            assert!(bound > last.0 && value >= last.1, "{line}");
            *last = (bound, value);
        }
        if name.ends_with("_count") {
            assert_eq!(buckets[&bucket_key(&family, &labels)], (f64::INFINITY, value));
        }
        assert!(series.insert(id.to_owned(), value).is_none(), "{id} twice");
    }
    series
}

/// What names one histogram: its family and the labels other than the bound.
fn bucket_key(family: &str, labels: &[(String, String)]) -> String {
    let labels: Vec<_> = labels.iter().filter(|(label, _)| label != "le").collect();
    format!("{family} {labels:?}")
}

fn read_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((label, tail)) = rest.split_once("=\"") {
        let label = label.trim_start_matches(',');
        assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
        let (mut value, mut letters, mut ended) = (String::new(), tail.chars(), false);
        while let Some(letter) = letters.next() {
            match letter {
                '"' => {
                    ended = true;
                    break;
                }
                '\\' => match letters.next().unwrap() {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    other => panic!("\\{other}"),
                },
                other => value.push(other),
            }
        }
        assert!(ended, "{text}");
        labels.push((label.to_owned(), value));
        rest = letters.as_str();
    }
    assert_eq!(rest, "}", "{text}");
    let names: BTreeSet<_> = labels.iter().map(|(label, _)| label).collect();
    assert_eq!(names.len(), labels.len());
    labels
}

#[test]
fn metrics_can_be_read() {
    let mut shards = [shard(0, vec![conn(1, "A")], vec![]), shard(1, vec![], vec![])];
    shards[0].slow_by_write_deadline = 4;
    shards[0].turns.times.record(1_500);
    shards[0].turns.times.record(2 * SECOND);
    shards[0].turns.times.record(20 * SECOND);
    shards[1].turns.times.record(1);
    let account = |name: &str| AccountSnapshot { name: name.into(), ..Default::default() };
    shards[1].accounts = vec![account("q\"\\\n}é"), account("A"), account(&"l".repeat(5000))];
    shards[1].accounts.push(account(&format!("{}x", "l".repeat(4999))));
    let mut facts = facts();
    facts.http_requests.record(Endpoint::Varz);
    facts.cpu_percent = 1.5;
    let response = ask_of("/metrics", &facts, &shards);
    assert_eq!(response.content_type, "text/plain; version=0.0.4; charset=utf-8");
    let series = read_metrics(&String::from_utf8(response.body).unwrap());
    for (id, value) in [
        (
            "build_info{version=\"0.1.0\",nats_version=\"2.15.1\",commit=\"\",compiler=\"rustc\"}",
            1.0,
        ),
        ("connections{shard=\"0\"}", 1.0),
        ("slow_consumers_total{shard=\"0\",cause=\"write_deadline\"}", 4.0),
        ("peer_queue_messages{shard=\"0\",peer=\"1\"}", 3.0),
        ("turn_seconds_bucket{shard=\"0\",le=\"0.000001024\"}", 0.0),
        ("turn_seconds_bucket{shard=\"0\",le=\"0.000002048\"}", 1.0),
        ("turn_seconds_bucket{shard=\"0\",le=\"+Inf\"}", 3.0),
        ("turn_seconds_sum{shard=\"0\"}", 22.000_001_5),
        ("turn_seconds_count{shard=\"1\"}", 1.0),
        ("http_requests_total{path=\"/varz\"}", 1.0),
        ("account_connections{account=\"q\\\"\\\\\\n}é\"}", 0.0),
        ("accounts_unlisted", 1.0),
        ("cpu_percent", 1.5),
        ("ready", 1.0),
        ("uptime_seconds", 90.0),
    ] {
        let found = series.get(&format!("shearwater_{id}")).copied();
        assert!(found.is_some_and(|found| (found - value).abs() < 1e-9), "{id}: {found:?}");
    }
}

#[test]
fn metrics_of_many_accounts_are_bounded() {
    let accounts = |from: usize| -> Vec<AccountSnapshot> {
        let names = from..from + METRICS_ACCOUNTS_MAX;
        names
            .map(|number| AccountSnapshot {
                name: format!("acc{number:04}"),
                connections: number as u64,
                ..Default::default()
            })
            .collect()
    };
    let mut shards = [shard(0, vec![], vec![]), shard(1, vec![], vec![])];
    shards[0].accounts = accounts(0);
    shards[1].accounts = accounts(METRICS_ACCOUNTS_MAX);
    let text = ask("/metrics", &shards);
    read_metrics(&text);
    let listed = text.matches("shearwater_account_connections{").count();
    assert_eq!(listed, METRICS_ACCOUNTS_MAX);
    // The busiest stay; the three configured accounts are idle.
    assert!(text.contains("acc0399") && !text.contains("acc0199"));
    assert!(text.contains("\nshearwater_accounts_unlisted 203\n"));
}
