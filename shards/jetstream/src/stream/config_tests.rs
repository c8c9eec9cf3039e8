//! Requests to create and update streams against what nats-server 2.15.1 answered to them:
//! `testdata/create.jsonl` and `testdata/update.jsonl`, one request a line.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::api::config::{StreamConfig, StreamConfigRequest};
use wire::api::decode::{Mode, decode_request};
use wire::api::errors::ApiError;

use super::config::{
    Catalog, ConfigLimits, Creation, check_create, check_create_request, subjects_overlap,
};
use super::config_update::{LimitedConsumer, check_update, check_update_request};
use super::level;

#[derive(Default)]
pub(super) struct TestCatalog(pub(super) BTreeMap<String, StreamConfig>);

impl Catalog for TestCatalog {
    fn config(&self, name: &str) -> Option<&StreamConfig> {
        self.0.get(name)
    }

    fn overlaps(&self, subjects: &[String], except: Option<&str>) -> bool {
        self.0
            .values()
            .filter(|config| Some(config.name.as_str()) != except)
            .any(|config| subjects_overlap(&config.subjects, subjects))
    }
}

fn decode(request: &Value) -> StreamConfigRequest {
    decode_request(request.to_string().as_bytes(), Mode::Strict).unwrap()
}

fn create(
    catalog: &TestCatalog,
    subject: &str,
    request: &StreamConfigRequest,
) -> Result<Creation, ApiError> {
    check_create_request(subject, &request.config)?;
    let limits = ConfigLimits::default();
    check_create(&request.config, request.pedantic, &limits, catalog, |_| Ok(()))
}

fn add(catalog: &mut TestCatalog, json: &str) {
    let request = decode(&serde_json::from_str(json).unwrap());
    match create(catalog, &request.config.name, &request).unwrap() {
        Creation::New(config) => catalog.0.insert(config.name.clone(), *config),
        Creation::Same => None,
    };
}

fn shown(config: &StreamConfig) -> String {
    let mut config = config.clone();
    level::show(&mut config.metadata, "2.15.1");
    wire::json::to_go_string(&config)
}

fn text(error: &ApiError) -> String {
    format!("{} {} {}", error.code, error.err_code, error.description)
}

fn lines(text: &str) -> impl Iterator<Item = Value> + '_ {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

#[test]
fn creates_like_nats_server() {
    let mut catalog = TestCatalog::default();
    add(&mut catalog, r#"{"name":"O","subjects":["o.>"]}"#);
    add(&mut catalog, r#"{"name":"OB","subjects":["ob"],"max_msg_size":100}"#);
    add(&mut catalog, r#"{"name":"OD","subjects":["od"],"allow_direct":true}"#);
    for case in lines(include_str!("testdata/create.jsonl")) {
        let name = case["case"].as_str().unwrap();
        let subject = case["subject"].as_str().unwrap();
        match create(&catalog, subject, &decode(&case["request"])) {
            Ok(Creation::New(config)) => {
                assert_eq!(Some(shown(&config).as_str()), case["config"].as_str(), "{name}");
            }
            Ok(Creation::Same) => panic!("{name}: there is no such stream"),
            Err(error) => {
                assert_eq!(Some(text(&error).as_str()), case["error"].as_str(), "{name}");
            }
        }
    }
}

fn update(
    catalog: &TestCatalog,
    present: &StreamConfig,
    request: &StreamConfigRequest,
) -> Result<StreamConfig, ApiError> {
    let limits = ConfigLimits::default();
    let config = check_update_request("S", &request.config, request.pedantic, &limits, catalog)?;
    let mut consumers = std::iter::empty();
    check_update(present, &config, request.pedantic, &limits, catalog, &mut consumers, |_| Ok(()))
}

#[test]
fn updates_like_nats_server() {
    for case in lines(include_str!("testdata/update.jsonl")) {
        let mut catalog = TestCatalog::default();
        add(&mut catalog, r#"{"name":"O","subjects":["o.>"]}"#);
        add(&mut catalog, r#"{"name":"P","subjects":["p.>"]}"#);
        let name = case["case"].as_str().unwrap();
        add(&mut catalog, &case["create"].to_string());
        if case["sealed_first"] == true {
            let seal = decode(&serde_json::json!({"name": "S", "sealed": true}));
            let sealed = update(&catalog, catalog.config("S").unwrap(), &seal).unwrap();
            catalog.0.insert("S".to_owned(), sealed);
        }
        let present = catalog.config("S").unwrap();
        match update(&catalog, present, &decode(&case["request"])) {
            Ok(config) => {
                assert_eq!(Some(shown(&config).as_str()), case["config"].as_str(), "{name}");
            }
            Err(error) => {
                assert_eq!(Some(text(&error).as_str()), case["error"].as_str(), "{name}");
            }
        }
    }
}

#[test]
fn the_same_request_again_makes_nothing_new() {
    let mut catalog = TestCatalog::default();
    let json = r#"{"name":"S","subjects":["a"],"metadata":{"x":"y"}}"#;
    add(&mut catalog, json);
    let request = decode(&serde_json::from_str(json).unwrap());
    assert_eq!(create(&catalog, "S", &request), Ok(Creation::Same));
    let mut other = request.clone();
    other.config.max_msgs = 5;
    assert_eq!(create(&catalog, "S", &other).map_err(|error| error.err_code), Err(10_058));
    let mut other = request;
    other.config.metadata.insert(level::VERSION_KEY.to_owned(), "1".to_owned());
    assert_eq!(create(&catalog, "S", &other), Ok(Creation::Same));
}

#[test]
fn lengths_and_limits_of_the_account() {
    let catalog = TestCatalog::default();
    let check = |config: &StreamConfig, limits: &ConfigLimits| {
        check_create(config, false, limits, &catalog, |_| Ok(()))
            .map(|_| ())
            .map_err(|error| text(&error))
    };
    let config = |name: &str| StreamConfig { name: name.to_owned(), ..StreamConfig::default() };
    let free = ConfigLimits::default();
    assert_eq!(check(&config(&"y".repeat(255)), &free), Ok(()));
    assert_eq!(
        check(&config(&"y".repeat(256)), &free),
        Err("500 10052 stream name is too long, maximum allowed is 255".to_owned())
    );
    let long = StreamConfig { description: "x".repeat(4097), ..config("S") };
    assert_eq!(
        check(&long, &free),
        Err("500 10052 stream description is too long, maximum allowed is 4096".to_owned())
    );
    let mut long = config("S");
    long.metadata.insert("a".to_owned(), "x".repeat(128 * 1024));
    assert_eq!(
        check(&long, &free),
        Err("500 10052 stream metadata exceeds maximum size of 131072 bytes".to_owned())
    );
    let tight = ConfigLimits { is_max_bytes_required: true, max_bytes_max: 100, ..free };
    assert_eq!(check(&config("S"), &tight).unwrap_err().get(..9), Some("400 10113"));
    let big = StreamConfig { max_bytes: 101, ..config("S") };
    assert_eq!(check(&big, &tight).unwrap_err().get(..9), Some("400 10122"));
    let short = ConfigLimits { duplicate_window_max_ns: 60_000_000_000, ..free };
    let window = StreamConfig { duplicate_window_ns: 61_000_000_000, ..config("S") };
    assert_eq!(
        check(&window, &short),
        Err("500 10052 duplicates window can not be larger then server limit of 1m0s".to_owned())
    );
}

#[test]
fn new_ceilings_must_hold_for_consumers() {
    let mut catalog = TestCatalog::default();
    add(&mut catalog, r#"{"name":"S"}"#);
    let request = decode(&serde_json::json!({
        "name": "S", "consumer_limits": {"max_ack_pending": 10}
    }));
    let limits = ConfigLimits::default();
    let consumers = [("a", 5), ("b", 11), ("c", 12)];
    let mut consumers = consumers.iter().map(|&(name, max_ack_pending)| LimitedConsumer {
        name,
        inactive_threshold_ns: 0,
        max_ack_pending,
    });
    let present = catalog.config("S").unwrap();
    let error = check_update(
        present,
        &request.config,
        false,
        &limits,
        &catalog,
        &mut consumers,
        |_| Ok(()),
    )
    .unwrap_err();
    assert_eq!(text(&error), "500 10069 change to limits violates consumers: b, c");
}
