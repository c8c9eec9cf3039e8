//! The same texts given to nats-server: its digests and its errors were recorded, ours must be
//! the same.

use serde_json::Value as Json;

use super::World;
use crate::config::{Kind, digest, load_text, parse_text};

/// The files and variables that were there when nats-server was asked.
fn world() -> World {
    World::default()
        .file("inc.conf", "debug: true\n")
        .file("inc3.conf", "k: v\n")
        .file("sub/inc2.conf", "include \"inc4.conf\"\ntrace: true\n")
        .file("sub/inc4.conf", "port: 999\nfoo: 1\n")
        .file("bad.conf", "a b c d")
        .variable("EVAR", "5")
        .variable("ESTR", "hello")
        .variable("EQ", "\"quoted str\"")
        .variable("ELIST", "[a,b]")
        .variable("ECYC", "$ECYC")
        .variable("EBAD", "{")
}

fn records(json: &str) -> Vec<Json> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn digests_are_those_of_nats_server() {
    let records = records(include_str!("../testdata/digests.json"));
    assert!(records.len() > 100);
    for record in records {
        let text = record["text"].as_str().unwrap();
        let map = parse_text(text.as_bytes(), "t.conf", &world());
        let map = map.unwrap_or_else(|errors| panic!("{text:?}: {errors}"));
        assert_eq!(digest(&map), record["digest"].as_str().unwrap(), "{text:?}");
    }
}

#[test]
fn errors_and_warnings_are_those_of_nats_server() {
    let records = records(include_str!("../testdata/findings.json"));
    assert!(records.len() > 200);
    for record in records {
        let text = record["text"].as_str().unwrap();
        let wanted: Vec<String> = record["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap().into())
            .collect();
        let findings = match load_text(text.as_bytes(), "t.conf", &world()) {
            Ok(loaded) => loaded.warnings,
            Err(errors) => errors.errors.into_iter().chain(errors.warnings).collect(),
        };
        // What is not served here says so beside it.
        let mut lines: Vec<String> = findings
            .iter()
            .filter(|f| f.kind != Kind::NotServed && !f.text.contains("can not be ignored"))
            .map(|f| if f.placed_last { f.text.clone() } else { f.to_string() })
            // The place of an error in an included file, which nats-server leaves out.
            .map(|line| line.split(" (bad.conf").next().unwrap().to_string())
            .collect();
        lines.sort();
        assert_eq!(lines, wanted, "{text:?}");
    }
}
