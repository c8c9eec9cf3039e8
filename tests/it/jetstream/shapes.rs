//! The shape of every reply, advisory and metric of JetStream: which keys, in which order, of
//! which types, and which may be missing. Checked on each message that a transcript receives.
//!
//! One line of [`SHAPES`] is one object: `KEY:TYPE`, with `?` where the key may be missing and
//! `+NAME` where the keys of another object follow. Types are `string`, `int`, `bool`, `time`
//! (RFC 3339), another object, `[TYPE]` for a list and `{TYPE}` for a map, with `|null` where null
//! stands for an empty one. An answer with an `error` needs no other key but its type.
//!
//! Published schemas that have no shape here are of messages that this server never sends:
//! `account_purge_response`, `meta_leader_stepdown_response`, `meta_server_remove_response`;
//! advisories of elections, lost quorums, removed servers and of a full queue of requests; and
//! `server_out_of_space`, for here a full disk fails publishes and takes nothing out of service.

use serde_json::Value;

use crate::transcripts::json;

/// What the types of messages begin with.
const PREFIX: &str = "io.nats.jetstream.";

const SHAPES: &str = "
Error = code:int err_code:int description:string
Transform = src:string dest:string
External = api:string deliver:string
SourceConsumer = name?:string deliver_subject?:string
Source = name:string opt_start_seq?:int opt_start_time?:time filter_subject?:string
  subject_transforms?:[Transform] external?:External consumer?:SourceConsumer
Republish = src?:string dest:string headers_only?:bool
Placement = cluster?:string tags?:[string] preferred?:string
Limits = inactive_threshold?:int max_ack_pending?:int
StreamConfig = name:string description?:string subjects?:[string] retention:string
  max_consumers:int max_msgs:int max_bytes:int max_age:int max_msgs_per_subject:int
  max_msg_size?:int discard:string storage:string num_replicas:int no_ack?:bool
  duplicate_window?:int placement?:Placement mirror?:Source sources?:[Source]
  compression:string first_seq?:int subject_transform?:Transform republish?:Republish
  allow_direct:bool mirror_direct:bool discard_new_per_subject?:bool sealed:bool
  deny_delete:bool deny_purge:bool allow_rollup_hdrs:bool consumer_limits:Limits
  allow_msg_ttl:bool subject_delete_marker_ttl?:int allow_msg_counter?:bool
  allow_atomic?:bool allow_msg_schedules?:bool persist_mode?:string allow_batched?:bool
  metadata?:{string}
Lost = msgs:[int] bytes:int
StreamState = messages:int bytes:int first_seq:int first_ts:time last_seq:int last_ts:time
  num_subjects?:int subjects?:{int} num_deleted?:int deleted?:[int] lost?:Lost
  consumer_count:int
Cluster = name?:string raft_group?:string leader?:string leader_since?:time
SourceInfo = name:string external?:External lag:int seq?:int active:int error?:Error
  filter_subject?:string subject_transforms?:[Transform]
Alternate = name:string domain?:string cluster:string
StreamInfo = config:StreamConfig created:time state:StreamState domain?:string
  cluster?:Cluster mirror?:SourceInfo sources?:[SourceInfo] alternates?:[Alternate] ts:time
ConsumerConfig = durable_name?:string name?:string description?:string deliver_policy:string
  opt_start_seq?:int opt_start_time?:time ack_policy:string ack_wait?:int max_deliver?:int
  backoff?:[int] filter_subject?:string filter_subjects?:[string] replay_policy:string
  rate_limit_bps?:int sample_freq?:string max_waiting?:int max_ack_pending?:int
  flow_control?:bool headers_only?:bool max_batch?:int max_expires?:int max_bytes?:int
  deliver_subject?:string deliver_group?:string idle_heartbeat?:int inactive_threshold?:int
  num_replicas:int mem_storage?:bool direct?:bool sourcing?:bool metadata?:{string}
  pause_until?:time priority_groups?:[string] priority_policy?:string priority_timeout?:int
Sequences = consumer_seq:int stream_seq:int last_active?:time
Group = group:string pinned_client_id?:string pinned_ts?:time
ConsumerInfo = stream_name:string name:string created:time config?:ConsumerConfig
  delivered:Sequences ack_floor:Sequences num_ack_pending:int num_redelivered:int
  num_waiting:int num_pending:int cluster?:Cluster push_bound?:bool paused?:bool
  pause_remaining?:int ts:time priority_groups?:[Group]
AccountLimits = max_memory:int max_storage:int max_streams:int max_consumers:int
  max_ack_pending:int memory_max_stream_bytes:int storage_max_stream_bytes:int
  max_bytes_required:bool
Tier = memory:int storage:int reserved_memory:int reserved_storage:int streams:int
  consumers:int limits:AccountLimits
Calls = level:int total:int errors:int inflight?:int
Page = total:int offset:int limit:int
Stored = subject:string seq:int hdrs?:string data?:string time:time
Client = start?:time host?:string id?:int acc?:string svc?:string user?:string name?:string
  lang?:string ver?:string rtt?:int server?:string cluster?:string alts?:[string] stop?:time
  jwt?:string issuer_key?:string name_tag?:string tags?:[string] kind?:string
  client_type?:string client_id?:string nonce?:string

api.v1.account_info_response = +Tier domain?:string api:Calls tiers?:{Tier}
api.v1.stream_create_response = +StreamInfo did_create?:bool
api.v1.stream_update_response = +StreamInfo
api.v1.stream_info_response = +Page +StreamInfo
api.v1.stream_delete_response = success:bool
api.v1.stream_purge_response = success:bool purged:int
api.v1.stream_names_response = +Page streams:[string]|null
api.v1.stream_list_response = +Page streams:[StreamInfo]|null missing?:[string] offline?:{string}
api.v1.stream_msg_get_response = message:Stored
api.v1.stream_msg_delete_response = success:bool
api.v1.stream_snapshot_response = config:StreamConfig state:StreamState
api.v1.stream_restore_response = deliver_subject:string
api.v1.stream_remove_peer_response = success:bool
api.v1.stream_leader_stepdown_response = success:bool
api.v1.consumer_leader_stepdown_response = success:bool
api.v1.consumer_create_response = +ConsumerInfo
api.v1.consumer_info_response = +ConsumerInfo
api.v1.consumer_delete_response = success:bool
api.v1.consumer_names_response = +Page consumers:[string]|null
api.v1.consumer_list_response = +Page consumers:[ConsumerInfo]|null missing?:[string]
  offline?:{string}
api.v1.consumer_pause_response = paused:bool pause_until:time pause_remaining?:int
api.v1.consumer_unpin_response =
api.v1.consumer_reset_response = +ConsumerInfo reset_seq:int

advisory.v1.api_audit = +Event server:string client:Client subject:string request?:string
  response:string domain?:string
advisory.v1.stream_action = +Event stream:string action:string domain?:string
advisory.v1.consumer_action = +Event stream:string consumer:string action:string
  domain?:string
advisory.v1.consumer_pause = +Event stream:string consumer:string paused:bool
  pause_until?:time domain?:string
advisory.v1.consumer_group_pinned = +Event account?:string stream:string consumer:string
  domain?:string group:string pinned_id:string
advisory.v1.consumer_group_unpinned = +Event account?:string stream:string consumer:string
  domain?:string group:string reason:string
advisory.v1.max_deliver = +Event stream:string consumer:string stream_seq:int deliveries:int
  domain?:string
advisory.v1.nak = +Event stream:string consumer:string consumer_seq:int stream_seq:int
  deliveries:int domain?:string
advisory.v1.terminated = +Event stream:string consumer:string consumer_seq:int
  stream_seq:int deliveries:int reason?:string domain?:string
advisory.v1.snapshot_create = +Event stream:string state:StreamState client:Client
  domain?:string
advisory.v1.snapshot_complete = +Event stream:string start:time end:time client:Client
  domain?:string error?:string
advisory.v1.restore_create = +Event stream:string client:Client domain?:string
advisory.v1.restore_complete = +Event stream:string start:time end:time bytes:int
  client:Client domain?:string
advisory.v1.stream_batch_abandoned = +Event account?:string stream:string domain?:string
  batch:string reason:string
metric.v1.consumer_ack = +Event stream:string consumer:string consumer_seq:int
  stream_seq:int ack_time:int deliveries:int domain?:string

Event = id:string timestamp:time
Ack = error?:Error stream:string domain?:string seq:int duplicate?:bool val?:string
  batch?:string count?:int
";

/// One key of an object.
#[derive(Debug, Clone)]
struct Field {
    key: &'static str,
    optional: bool,
    kind: &'static str,
}

/// The text of the object with this name.
fn definition(name: &str) -> Option<&'static str> {
    let begin = format!("\n{name} =");
    let rest = &SHAPES[SHAPES.find(&begin)? + begin.len()..];
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if end > 0 && !line.starts_with("  ") {
            break;
        }
        end += line.len();
    }
    Some(rest[..end].trim())
}

fn fields(name: &str) -> Result<Vec<Field>, String> {
    let text = definition(name).ok_or_else(|| format!("no shape is known for {name}"))?;
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        if let Some(other) = word.strip_prefix('+') {
            found.extend(fields(other)?);
        } else {
            let (key, kind) = word.split_once(':').ok_or_else(|| format!("{name}: {word}"))?;
            let optional = key.ends_with('?');
            found.push(Field { key: key.trim_end_matches('?'), optional, kind });
        }
    }
    Ok(found)
}

/// Checks a message if it says what it is, or looks like an acknowledgement of a publish.
pub(crate) fn check(body: &[u8]) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Ok(());
    };
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else {
        return Ok(());
    };
    let keys = json::keys(text).unwrap_or_default();
    if let Some(kind) = object.get("type").and_then(Value::as_str) {
        let Some(name) = kind.strip_prefix(PREFIX) else {
            return Ok(());
        };
        return check_typed(name, text).map_err(|error| format!("{kind}: {error} in {text}"));
    }
    let ack = keys.first().is_some_and(|key| key == "stream" || key == "error");
    if ack && object.contains_key("seq") {
        let all = fields("Ack")?;
        return check_object(&all, text, false).map_err(|error| format!("{error} in {text}"));
    }
    Ok(())
}

fn check_typed(name: &str, text: &str) -> Result<(), String> {
    let mut all = vec![Field { key: "type", optional: false, kind: "string" }];
    let errs = name.starts_with("api.") && text.contains("\"error\":");
    if errs {
        all.push(Field { key: "error", optional: true, kind: "Error" });
    }
    all.extend(fields(name)?);
    check_object(&all, text, errs)
}

/// The keys must come in the order of the fields, the required ones all unless `lenient`.
fn check_object(fields: &[Field], text: &str, lenient: bool) -> Result<(), String> {
    let members = json::members(text).ok_or_else(|| format!("no object: {text}"))?;
    let lenient = lenient && members.iter().any(|(key, _)| key == "error");
    let mut rest = fields.iter();
    for (key, value) in &members {
        loop {
            let field = rest.next().ok_or_else(|| format!("{key}: unknown or out of order"))?;
            if field.key == key {
                check_value(field.kind, value).map_err(|error| format!("{key}: {error}"))?;
                break;
            }
            if !field.optional && !lenient {
                return Err(format!("{} is missing or not before {key}", field.key));
            }
        }
    }
    match rest.find(|field| !field.optional && !lenient) {
        Some(field) => Err(format!("{} is missing", field.key)),
        None => Ok(()),
    }
}

fn check_value(kind: &'static str, text: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(kind) = kind.strip_suffix("|null") {
        return if value.is_null() { Ok(()) } else { check_value(kind, text) };
    }
    let fits = match kind {
        "string" => value.is_string(),
        "int" => value.is_i64() || value.is_u64(),
        "bool" => value.is_boolean(),
        "time" => value.as_str().is_some_and(is_time),
        _ => return check_compound(kind, text),
    };
    if fits { Ok(()) } else { Err(format!("not of type {kind}: {text}")) }
}

fn check_compound(kind: &'static str, text: &str) -> Result<(), String> {
    if let Some(inner) = kind.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let items = json::items(text).ok_or_else(|| format!("no list: {text}"))?;
        return items.iter().try_for_each(|item| check_value(inner, item));
    }
    if let Some(inner) = kind.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let members = json::members(text).ok_or_else(|| format!("no map: {text}"))?;
        return members.iter().try_for_each(|(_, value)| check_value(inner, value));
    }
    check_object(&fields(kind)?, text, false)
}

/// Whether this is a time in UTC as RFC 3339 writes it, with at most nine digits of a second.
fn is_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let (whole, fraction) = match shape.strip_suffix('Z').map(|rest| rest.split_once('.')) {
        Some(Some((whole, fraction))) => (String::from(whole), String::from(fraction)),
        Some(None) => (shape[..shape.len() - 1].to_owned(), String::from("0")),
        None => return false,
    };
    whole == "0000-00-00T00:00:00"
        && (1..=9).contains(&fraction.len())
        && fraction.chars().all(|c| c == '0')
}

#[test]
fn every_shape_is_met_in_a_test() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
    let mut all = String::from(include_str!("backup.rs"));
    for entry in std::fs::read_dir(folder).unwrap() {
        all.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let names = SHAPES.lines().filter_map(|line| Some(line.split_once(" =")?.0));
    let missing: Vec<&str> = names
        .filter(|name| name.contains(".v1.") && !all.contains(&format!("{PREFIX}{name}\"")))
        .collect();
    assert!(missing.is_empty(), "no test meets {missing:?}");
}

#[test]
fn shapes_refuse_what_does_not_fit() {
    let good = r#"{"type":"io.nats.jetstream.api.v1.stream_names_response","total":1,"offset":0,
        "limit":1024,"streams":["A"]}"#;
    check(good.as_bytes()).unwrap();
    for (from, to) in [
        (r#""total":1,"#, ""),
        (r#""total":1"#, r#""total":"1""#),
        (r#""total":1,"offset":0"#, r#""offset":0,"total":1"#),
        (r#"["A"]"#, "[1]"),
        (r#"["A"]"#, r#"["A"],"more":1"#),
        ("stream_names_response", "nothing_known"),
    ] {
        assert!(check(good.replace(from, to).as_bytes()).is_err(), "{to} was taken");
    }
    let error = r#"{"type":"io.nats.jetstream.api.v1.stream_info_response",
        "error":{"code":404,"err_code":10059,"description":"stream not found"},
        "total":0,"offset":0,"limit":0}"#;
    check(error.as_bytes()).unwrap();
    check(br#"{"stream":"S","seq":1,"duplicate": true}"#).unwrap();
    check(br#"{"stream":"S","duplicate": true,"seq":1}"#).unwrap_err();
}
