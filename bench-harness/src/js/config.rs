//! Streams and consumers of the scenarios: their settings as JSON, and the steps around a run.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::api::{Api, figure};
use crate::error::{HarnessError, Result};

/// The stream that all scenarios but the key-value ones use.
pub const STREAM: &str = "BENCH";
/// Its subjects begin with this.
pub const PREFIX: &str = "bench.js";
/// The bucket of the key-value scenarios.
pub const BUCKET: &str = "bench";

/// Where a stream keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// In files.
    File,
    /// In memory.
    Memory,
}

impl Storage {
    fn text(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
        }
    }
}

/// The settings of a stream, as a client's own defaults would make them.
#[must_use]
pub fn stream(storage: Storage) -> Value {
    json!({
        "name": STREAM, "subjects": [format!("{PREFIX}.>")], "retention": "limits",
        "storage": storage.text(), "num_replicas": 1, "max_consumers": -1, "max_msgs": -1,
        "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": -1, "discard": "old",
    })
}

/// The stream behind a key-value bucket with a history of one, as the clients make it.
#[must_use]
pub fn bucket(storage: Storage) -> Value {
    json!({
        "name": format!("KV_{BUCKET}"), "subjects": [format!("$KV.{BUCKET}.>")],
        "retention": "limits", "storage": storage.text(), "num_replicas": 1,
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0,
        "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": true,
        "deny_delete": true, "allow_direct": true,
    })
}

/// A consumer as the clients' ordered consumers make it: push, no acknowledgements, flow
/// control and heartbeats.
#[must_use]
pub fn ordered(deliver: &str, policy: &str, filter: &str) -> Value {
    json!({
        "deliver_policy": policy, "ack_policy": "none", "max_deliver": 1,
        "ack_wait": 79_200_000_000_000_u64, "replay_policy": "instant", "flow_control": true,
        "idle_heartbeat": 5_000_000_000_u64, "deliver_subject": deliver, "mem_storage": true,
        "num_replicas": 1, "filter_subject": filter,
    })
}

/// A durable consumer with explicit acknowledgement; with a subject it pushes.
#[must_use]
pub fn explicit(name: &str, max_ack_pending: usize, deliver: Option<&str>) -> Value {
    let mut config = json!({
        "durable_name": name, "name": name, "deliver_policy": "all", "ack_policy": "explicit",
        "ack_wait": 30_000_000_000_u64, "replay_policy": "instant", "num_replicas": 0,
        "max_ack_pending": max_ack_pending,
    });
    if let (Some(deliver), Some(members)) = (deliver, config.as_object_mut()) {
        members.insert("deliver_subject".into(), deliver.into());
    }
    config
}

/// Makes a stream anew: one of the same name from an earlier run is deleted.
///
/// # Errors
/// The server refuses it.
pub fn make_stream(api: &mut Api, config: &Value) -> Result<()> {
    let name = config.get("name").and_then(Value::as_str).unwrap_or_default();
    drop_stream(api, name)?;
    let made = api.call(&format!("STREAM.CREATE.{name}"), config)?;
    match figure(&made, "/state/last_seq")? {
        0 => Ok(()),
        n => Err(HarnessError::Count(format!("the new stream {name} begins behind {n}"))),
    }
}

/// Deletes a stream if it is there.
///
/// # Errors
/// The server refuses for any other reason than that there is none.
pub fn drop_stream(api: &mut Api, name: &str) -> Result<()> {
    match api.call(&format!("STREAM.DELETE.{name}"), &Value::Null) {
        Err(HarnessError::Api { text, .. }) if text.contains("(10059)") => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Makes a consumer; returns its info.
///
/// # Errors
/// The server refuses it.
pub fn make_consumer(api: &mut Api, stream: &str, name: &str, config: &Value) -> Result<Value> {
    let body = json!({ "stream_name": stream, "config": config, "action": "create" });
    api.call(&format!("CONSUMER.CREATE.{stream}.{name}"), &body)
}

/// Checks that the stream holds exactly the messages `1..=count`.
///
/// # Errors
/// It does not.
pub fn check_stream(api: &mut Api, stream: &str, count: u64) -> Result<Value> {
    let info = api.call(&format!("STREAM.INFO.{stream}"), &Value::Null)?;
    let messages = figure(&info, "/state/messages")?;
    let last = figure(&info, "/state/last_seq")?;
    if messages != count || last != count {
        let why = format!("{stream} has {messages} messages, the last {last}, of {count}");
        return Err(HarnessError::Count(why));
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_name_what_the_scenarios_rely_on() {
        let config = stream(Storage::Memory);
        assert_eq!((&config["storage"], &config["name"]), (&json!("memory"), &json!(STREAM)));
        let push = explicit("c", 1000, Some("d"));
        assert_eq!(
            (&push["deliver_subject"], &push["ack_policy"]),
            (&json!("d"), &json!("explicit"))
        );
        assert!(explicit("c", 1000, None).get("deliver_subject").is_none());
        let replay = ordered("d", "all", ">");
        assert_eq!(
            (&replay["flow_control"], &replay["ack_policy"]),
            (&json!(true), &json!("none"))
        );
        assert_eq!(bucket(Storage::File)["max_msgs_per_subject"], json!(1));
    }
}
