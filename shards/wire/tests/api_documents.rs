//! Documents of the JetStream API keep nats-server's bytes. Every document here was taken from
//! nats-server 2.15.1 and must come out as it went in; ids and times are part of them.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use wire::api::account::AccountStats;
use wire::api::advisory::{
    AckMetric, ApiAudit, BatchAbandoned, ConsumerActed, ConsumerPaused, Event, GroupPinned,
    GroupUnpinned, MaxDeliveries, MsgNaked, MsgTerminated, RestoreComplete, RestoreCreate,
    SnapshotComplete, SnapshotCreate, StreamActed, encode_event,
};
use wire::api::config::StreamConfig;
use wire::api::consumer_config::{ConsumerConfig, CreateConsumerRequest};
use wire::api::decode::{Mode, decode_document, decode_request};
use wire::api::errors;
use wire::api::info::{ClusterInfo, ConsumerInfo, SourceInfo, StreamInfo};
use wire::api::responses::{
    ConsumerList, ConsumerNames, ConsumerReset, Empty, Message, Paused, Purged, RestoreStarted,
    SnapshotStarted, StreamCreated, StreamInfoPage, StreamList, StreamNames, Success,
};
use wire::api::timestamp::Timestamp;
use wire::api::types::{ResponseType, encode_error, encode_response};
use wire::api::value::{Fields, Value};
use wire::json::to_go_string;

const CONFIG: &str = r#"
    {"name":"X","subjects":["x.\u003e"],"retention":"limits","max_consumers":-1,
    "max_msgs":10,"max_bytes":-1,"max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,
    "discard":"old","storage":"file","num_replicas":1,"duplicate_window":120000000000,
    "compression":"none","allow_direct":true,"mirror_direct":false,"sealed":false,
    "deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"consumer_limits":{},
    "allow_msg_ttl":false,"metadata":{"_nats.level":"5","_nats.req.level":"0",
    "_nats.ver":"2.15.1"}}"#;
const STATE: &str = r#"
    {"messages":2,"bytes":71,"first_seq":1,"first_ts":"2026-11-24T12:01:30.0147634Z",
    "last_seq":2,"last_ts":"2026-11-24T12:01:30.014834005Z","num_subjects":2,
    "subjects":{"x.1":1,"x.2":1},"consumer_count":0}"#;
const EMPTY_STATE: &str = r#"
    {"messages":0,"bytes":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z","last_seq":0,
    "last_ts":"0001-01-01T00:00:00Z","consumer_count":0}"#;
const CONSUMER: &str = r#"
    "stream_name":"X","name":"P","created":"2026-11-24T12:01:30.02583925Z",
    "config":{"name":"P","deliver_policy":"by_start_time",
    "opt_start_time":"2020-01-01T00:00:00Z","ack_policy":"explicit","ack_wait":1000000000,
    "max_deliver":5,"backoff":[1000000000,2000000000],"replay_policy":"instant",
    "max_waiting":512,"max_ack_pending":1000,"inactive_threshold":5000000000,
    "num_replicas":0,"metadata":{"_nats.level":"5","_nats.req.level":"1",
    "_nats.ver":"2.15.1","a":"b"},"priority_groups":["g"],"priority_policy":"pinned_client",
    "priority_timeout":120000000000},"delivered":{"consumer_seq":0,"stream_seq":0},
    "ack_floor":{"consumer_seq":0,"stream_seq":0},"num_ack_pending":0,"num_redelivered":0,
    "num_waiting":0,"num_pending":2,"ts":"2026-11-24T12:01:30.026197054Z",
    "priority_groups":[{"group":"g","pinned_ts":"0001-01-01T00:00:00Z"}]"#;
const CLIENT: &str = r#"
    {"start":"2026-11-24T12:00:49.908024311Z","host":"127.0.0.1","id":5,"acc":"$G",
    "lang":"python3","ver":"2.16.0","rtt":867524,"server":"NB6A","kind":"Client",
    "client_type":"nats"}"#;

/// A document without the line breaks that only keep this file readable.
fn flat(json: &str) -> String {
    json.lines().map(str::trim_start).collect()
}

/// The response comes out as it went in.
fn response<T: Fields>(kind: ResponseType, body: &str) {
    let mut json = format!("{{\"type\":\"{}\"", kind.as_str());
    if !body.is_empty() {
        json.push(',');
        json.push_str(body);
    }
    json.push('}');
    let json = flat(&json);
    let value: T = decode_document(json.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(encode_response(kind, &value)).unwrap(), json);
}

/// The object comes out as it went in.
fn object<T: Value>(json: &str) -> T {
    let json = flat(json);
    let value: T = decode_document(json.as_bytes()).unwrap();
    assert_eq!(to_go_string(&value), json);
    value
}

#[test]
fn stream_responses() {
    let info = format!(
        r#"
    "config":{CONFIG},"created":"2026-11-24T12:01:30.013326255Z","state":{STATE},
    "cluster":{{"leader":"NB6A"}},"ts":"2026-11-24T12:01:30.01414966Z""#
    );
    let fresh = format!(
        r#"
    "config":{CONFIG},"created":"2026-11-24T12:01:30.013326255Z","state":{EMPTY_STATE},
    "ts":"2026-11-24T12:01:30.01414966Z""#
    );
    response::<StreamCreated>(ResponseType::StreamCreate, &format!("{fresh},\"did_create\":true"));
    response::<StreamInfo>(ResponseType::StreamUpdate, &info);
    response::<StreamInfoPage>(
        ResponseType::StreamInfo,
        &format!(r#""total":2,"offset":0,"limit":100000,{info}"#),
    );
    let page = r#""total":1,"offset":0,"limit":"#;
    response::<StreamList>(
        ResponseType::StreamList,
        &format!(r#"{page}256,"streams":[{{{fresh}}}]"#),
    );
    response::<StreamNames>(ResponseType::StreamNames, &format!(r#"{page}1024,"streams":["X"]"#));
    response::<StreamNames>(ResponseType::StreamNames, &format!(r#"{page}1024,"streams":null"#));
    response::<Success>(ResponseType::StreamDelete, r#""success":true"#);
    response::<Purged>(ResponseType::StreamPurge, r#""success":true,"purged":1"#);
    response::<Message>(
        ResponseType::MsgGet,
        r#"
    "message":{"subject":"x.1","seq":1,"data":"aGVsbG8=",
    "time":"2026-11-24T12:01:30.0147634Z"}"#,
    );
    response::<SnapshotStarted>(
        ResponseType::StreamSnapshot,
        &format!(r#""config":{CONFIG},"state":{STATE}"#),
    );
    response::<RestoreStarted>(
        ResponseType::StreamRestore,
        r#""deliver_subject":"$JS.SNAPSHOT.RESTORE.Z.e0a3pLlFFEHqRfmebVAF9b""#,
    );
}

#[test]
fn consumer_responses() {
    response::<ConsumerInfo>(ResponseType::ConsumerCreate, CONSUMER);
    response::<ConsumerInfo>(ResponseType::ConsumerInfo, CONSUMER);
    response::<ConsumerReset>(ResponseType::ConsumerReset, &format!("{CONSUMER},\"reset_seq\":1"));
    let page = r#""total":1,"offset":0,"limit":"#;
    response::<ConsumerNames>(
        ResponseType::ConsumerNames,
        &format!(r#"{page}1024,"consumers":["C"]"#),
    );
    response::<ConsumerList>(
        ResponseType::ConsumerList,
        &format!(r#"{page}256,"consumers":[{{{CONSUMER}}}]"#),
    );
    response::<ConsumerList>(ResponseType::ConsumerList, &format!(r#"{page}256,"consumers":[]"#));
    response::<Paused>(
        ResponseType::ConsumerPause,
        r#""paused":true,"pause_until":"2099-01-01T00:00:00Z",
        "pause_remaining":2275387109977571869"#,
    );
    response::<Paused>(
        ResponseType::ConsumerPause,
        r#""paused":false,"pause_until":"0001-01-01T00:00:00Z""#,
    );
    response::<Empty>(ResponseType::ConsumerUnpin, "");
    response::<AccountStats>(
        ResponseType::AccountInfo,
        r#"
    "memory":0,"storage":0,"reserved_memory":0,"reserved_storage":0,"streams":1,
    "consumers":0,"limits":{"max_memory":-1,"max_storage":-1,"max_streams":-1,
    "max_consumers":-1,"max_ack_pending":-1,"memory_max_stream_bytes":-1,
    "storage_max_stream_bytes":-1,"max_bytes_required":false},"api":{"level":5,"total":210,
    "errors":169}"#,
    );
}

#[test]
fn errors_keep_the_fields_that_are_never_left_out() {
    let error = r#""error":{"code":404,"err_code":10059,"description":"stream not found"}"#;
    for (kind, tail) in [
        (ResponseType::StreamCreate, ""),
        (ResponseType::StreamInfo, r#","total":0,"offset":0,"limit":0"#),
        (ResponseType::StreamPurge, r#","purged":0"#),
        (ResponseType::StreamNames, r#","total":0,"offset":0,"limit":0,"streams":null"#),
        (ResponseType::StreamList, r#","total":0,"offset":0,"limit":0,"streams":[]"#),
        (ResponseType::StreamRestore, r#","deliver_subject":"""#),
        (ResponseType::ConsumerNames, r#","total":0,"offset":0,"limit":0,"consumers":[]"#),
        (ResponseType::ConsumerPause, r#","paused":false,"pause_until":"0001-01-01T00:00:00Z""#),
        (ResponseType::ConsumerUnpin, ""),
        (ResponseType::MsgGet, ""),
    ] {
        let expected = format!("{{\"type\":\"{}\",{error}{tail}}}", kind.as_str());
        let written = encode_error(kind, &errors::STREAM_NOT_FOUND);
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
    let text = errors::INVALID_JSON.with("json: unknown field \"a<b\"");
    let written = encode_error(ResponseType::StreamDelete, &text);
    assert_eq!(
        String::from_utf8(written).unwrap(),
        flat(
            r#"
    {"type":"io.nats.jetstream.api.v1.stream_delete_response","error":{"code":400,
    "err_code":10025,"description":"invalid JSON: json: unknown field \"a\u003cb\""}}"#
        )
    );
    for kind in ResponseType::ALL {
        let written = encode_error(*kind, &errors::BAD_REQUEST);
        assert!(serde_json::from_slice::<serde_json::Value>(&written).is_ok(), "{kind:?}");
    }
}

#[test]
fn every_field_of_a_stream() {
    let json = r#"
    {"name":"A","description":"d","subjects":["a","b.*"],"retention":"workqueue",
    "max_consumers":1,"max_msgs":2,"max_bytes":3,"max_age":4,"max_msgs_per_subject":5,
    "max_msg_size":6,"discard":"new","storage":"memory","num_replicas":7,"no_ack":true,
    "duplicate_window":8,"placement":{"cluster":"c","tags":["t"],"preferred":"p"},
    "mirror":{"name":"m","opt_start_seq":1,"opt_start_time":"2023-01-02T03:04:05.6Z",
    "filter_subject":"f","subject_transforms":[{"src":"a","dest":"b"}],
    "external":{"api":"x","deliver":"y"},"consumer":{"name":"n","deliver_subject":"d"}},
    "sources":[{"name":"s"},{"name":"t","external":{"api":"x","deliver":""}}],
    "compression":"s2","first_seq":9,"subject_transform":{"src":"a","dest":"b"},
    "republish":{"src":"a","dest":"b","headers_only":true},"allow_direct":true,
    "mirror_direct":true,"discard_new_per_subject":true,"sealed":true,"deny_delete":true,
    "deny_purge":true,"allow_rollup_hdrs":true,"consumer_limits":{"inactive_threshold":1,
    "max_ack_pending":2},"allow_msg_ttl":true,"subject_delete_marker_ttl":10,
    "allow_msg_counter":true,"allow_atomic":true,"allow_msg_schedules":true,
    "persist_mode":"async","allow_batched":true,
    "metadata":{"\u003ck\u003e\u0026\u2028":"\u2029\u0007\b\f",
    "a":"b"}}"#;
    let config: StreamConfig = object(json);
    let again = decode_request::<StreamConfig>(json.as_bytes(), Mode::Strict);
    assert_eq!(again.as_ref(), Ok(&config));
    let small = to_go_string(&StreamConfig::default());
    assert_eq!(
        small,
        flat(
            r#"
    {"name":"","retention":"limits","max_consumers":0,"max_msgs":0,"max_bytes":0,
    "max_age":0,"max_msgs_per_subject":0,"discard":"old","storage":"file","num_replicas":0,
    "compression":"none","allow_direct":false,"mirror_direct":false,"sealed":false,
    "deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"consumer_limits":{},
    "allow_msg_ttl":false}"#
        )
    );
}

#[test]
fn every_field_of_a_consumer() {
    let config = r#"
    {"durable_name":"d","name":"d","description":"q","deliver_policy":"last_per_subject",
    "opt_start_seq":1,"opt_start_time":"2023-01-02T03:04:05Z","ack_policy":"flow_control",
    "ack_wait":1,"max_deliver":2,"backoff":[1,2],"filter_subject":"a",
    "filter_subjects":["a","b"],"replay_policy":"original","rate_limit_bps":5,
    "sample_freq":"5%","max_waiting":1,"max_ack_pending":1,"flow_control":true,
    "headers_only":true,"max_batch":1,"max_expires":2,"max_bytes":3,"deliver_subject":"s",
    "deliver_group":"g","idle_heartbeat":4,"inactive_threshold":5,"num_replicas":0,
    "mem_storage":true,"direct":true,"sourcing":true,"metadata":{"a":"b"},
    "pause_until":"2023-01-02T03:04:05Z","priority_groups":["x"],
    "priority_policy":"prioritized","priority_timeout":5}"#;
    let _: ConsumerConfig = object(config);
    let request =
        format!(r#"{{"stream_name":"A","config":{config},"action":"create","pedantic":true}}"#);
    let value: CreateConsumerRequest = object(&request);
    let again = decode_request::<CreateConsumerRequest>(request.as_bytes(), Mode::Strict);
    assert_eq!(again, Ok(value));
    assert_eq!(
        to_go_string(&CreateConsumerRequest::default()),
        flat(
            r#"
    {"stream_name":"","config":{"deliver_policy":"all","ack_policy":"none",
    "replay_policy":"instant","num_replicas":0},"action":""}"#
        )
    );
}

#[test]
fn parts_of_infos() {
    let _: SourceInfo = object(r#"{"name":"X","lag":0,"active":-1,"filter_subject":"x.1"}"#);
    let _: SourceInfo = object(
        r#"
    {"name":"X","external":{"api":"a","deliver":"d"},"lag":1,"active":5,"error":{"code":404,
    "err_code":10059,"description":"stream not found"},"subject_transforms":[{"src":"a",
    "dest":"b"}]}"#,
    );
    let _: ClusterInfo = object(
        r#"
    {"name":"c","raft_group":"g","leader":"l","leader_since":"2023-01-02T03:04:05Z",
    "system_account":true,"traffic_account":"t","replicas":[{"name":"n","current":true,
    "active":5,"peer":"p"}]}"#,
    );
    let stats: AccountStats = object(
        r#"
    {"memory":0,"storage":0,"reserved_memory":0,"reserved_storage":0,"streams":0,
    "consumers":0,"limits":{"max_memory":1,"max_storage":2,"max_streams":3,
    "max_consumers":4,"max_ack_pending":5,"memory_max_stream_bytes":6,
    "storage_max_stream_bytes":7,"max_bytes_required":true},"domain":"hub","api":{"level":5,
    "total":0,"errors":0,"inflight":1},"tiers":{"R1":{"memory":0,"storage":0,
    "reserved_memory":0,"reserved_storage":0,"streams":0,"consumers":0,
    "limits":{"max_memory":0,"max_storage":0,"max_streams":0,"max_consumers":0,
    "max_ack_pending":0,"memory_max_stream_bytes":0,"storage_max_stream_bytes":0,
    "max_bytes_required":false}}}}"#,
    );
    assert_eq!(stats.tiers.len(), 1);
}

/// The advisory comes out as it went in, and goes where it should.
fn event<T: Event>(subject: &str, kind: &str, fields: &str) {
    let id = "e0a3pLlFFEHqRfmebVABrM";
    let time = "2026-11-24T12:00:49.910610188Z";
    let json = format!(r#"{{"type":"{kind}","id":"{id}","timestamp":"{time}",{fields}}}"#);
    let json = flat(&json);
    let value: T = decode_document(json.as_bytes()).unwrap();
    let written = encode_event(id, Timestamp::parse(time).unwrap(), &value);
    assert_eq!(String::from_utf8(written).unwrap(), json);
    assert_eq!(value.subject(), subject);
}

#[test]
fn advisories_of_streams() {
    let v1 = |name: &str| format!("io.nats.jetstream.advisory.v1.{name}");
    let to = |name: &str| format!("$JS.EVENT.ADVISORY.{name}");
    event::<ApiAudit>(
        &to("API"),
        &v1("api_audit"),
        &format!(
            r#"
    "server":"NB6A","client":{CLIENT},"subject":"$JS.API.INFO","request":"x",
    "response":"{{\"type\":\"io\"}}""#
        ),
    );
    for (action, word) in [("create", "CREATED"), ("modify", "UPDATED"), ("delete", "DELETED")] {
        event::<StreamActed>(
            &to(&format!("STREAM.{word}.X")),
            &v1("stream_action"),
            &format!(r#""stream":"X","action":"{action}""#),
        );
    }
    event::<BatchAbandoned>(
        &to("STREAM.BATCH_ABANDONED.X"),
        &v1("stream_batch_abandoned"),
        r#""stream":"X","batch":"b2","reason":"incomplete""#,
    );
    event::<SnapshotCreate>(
        &to("STREAM.SNAPSHOT_CREATE.X"),
        &v1("snapshot_create"),
        &format!(r#""stream":"X","state":{STATE},"client":{CLIENT}"#),
    );
    let span = r#""start":"2026-11-24T12:10:09.130964547Z","end":"2026-11-24T12:10:09.133422641Z""#;
    event::<SnapshotComplete>(
        &to("STREAM.SNAPSHOT_COMPLETE.X"),
        &v1("snapshot_complete"),
        &format!(r#""stream":"X",{span},"client":{CLIENT}"#),
    );
    event::<RestoreCreate>(
        &to("STREAM.RESTORE_CREATE.Z"),
        &v1("restore_create"),
        &format!(r#""stream":"Z","client":{CLIENT}"#),
    );
    event::<RestoreComplete>(
        &to("STREAM.RESTORE_COMPLETE.X"),
        &v1("restore_complete"),
        &format!(r#""stream":"X",{span},"bytes":402,"client":{CLIENT}"#),
    );
}

#[test]
fn advisories_of_consumers() {
    let v1 = |name: &str| format!("io.nats.jetstream.advisory.v1.{name}");
    let to = |name: &str| format!("$JS.EVENT.ADVISORY.CONSUMER.{name}");
    let who = r#""stream":"X","consumer":"C""#;
    event::<ConsumerActed>(
        &to("CREATED.X.C"),
        &v1("consumer_action"),
        &format!(r#"{who},"action":"create""#),
    );
    event::<ConsumerPaused>(
        &to("PAUSE.X.C"),
        &v1("consumer_pause"),
        &format!(r#"{who},"paused":false,"pause_until":"0001-01-01T00:00:00Z""#),
    );
    event::<GroupPinned>(
        &to("PINNED.X.C"),
        &v1("consumer_group_pinned"),
        &format!(r#""account":"$G",{who},"group":"g","pinned_id":"XV3x6fTQ76w8RWMV2jKHr8""#),
    );
    event::<GroupUnpinned>(
        &to("UNPINNED.X.C"),
        &v1("consumer_group_unpinned"),
        &format!(r#""account":"$G",{who},"group":"g","reason":"timeout""#),
    );
    event::<MaxDeliveries>(
        &to("MAX_DELIVERIES.X.C"),
        &v1("max_deliver"),
        &format!(r#"{who},"stream_seq":1,"deliveries":1"#),
    );
    let seqs = r#""consumer_seq":2,"stream_seq":2"#;
    event::<MsgNaked>(&to("MSG_NAKED.X.C"), &v1("nak"), &format!(r#"{who},{seqs},"deliveries":1"#));
    event::<MsgTerminated>(
        &to("MSG_TERMINATED.X.C"),
        &v1("terminated"),
        &format!(r#"{who},{seqs},"deliveries":1,"reason":"because \u003cx\u003e""#),
    );
    event::<AckMetric>(
        "$JS.EVENT.METRIC.CONSUMER.ACK.X.C",
        "io.nats.jetstream.metric.v1.consumer_ack",
        &format!(r#"{who},{seqs},"ack_time":1130620,"deliveries":1"#),
    );
}
