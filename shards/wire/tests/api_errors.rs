//! Mistakes in API requests get nats-server's words. Every text here was taken from nats-server
//! 2.15.1.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use wire::api::config::StreamConfigRequest;
use wire::api::consumer_config::CreateConsumerRequest;
use wire::api::decode::{Mode, decode_document, decode_request, is_empty_request, looks_like_json};
use wire::api::requests::{
    MsgGetRequest, PurgeRequest, ResetRequest, RestoreRequest, SnapshotRequest, StreamInfoRequest,
    UnpinRequest, decode_body, expect_empty,
};
use wire::api::value::Value;

/// The error of a strict request; empty if there is none.
fn strict<T: Value>(json: &str) -> String {
    strict_bytes::<T>(json.as_bytes())
}

fn strict_bytes<T: Value>(json: &[u8]) -> String {
    decode_request::<T>(json, Mode::Strict).err().map_or_else(String::new, |error| error.0)
}

#[test]
fn syntax() {
    for (json, text) in [
        ("{", "unexpected EOF"),
        ("{\"name\"", "unexpected EOF"),
        ("{\"name\":\"A\",", "unexpected EOF"),
        ("tru", "unexpected EOF"),
        ("-", "unexpected EOF"),
        ("\"\\", "unexpected EOF"),
        ("{\"a\":\"\\u00", "unexpected EOF"),
        ("{\"name\":\"A\"}{", "unexpected EOF"),
        (
            "{\"name\":\"A\",}",
            "invalid character '}' looking for beginning of object key string at offset 13",
        ),
        ("x", "invalid character 'x' looking for beginning of value at offset 1"),
        ("{x", "invalid character 'x' looking for beginning of object key string at offset 2"),
        ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e') at offset 9"),
        ("{\"a\":1.}", "invalid character '}' in numeric literal at offset 8"),
        ("{\"a\":-}", "invalid character '}' in numeric literal at offset 7"),
        ("{\"a\":01}", "invalid character '1' after object key:value pair at offset 7"),
        ("{\"a\":1e+x}", "invalid character 'x' in numeric literal at offset 9"),
        ("{\"a\":\"\\x\"}", "invalid escape sequence `\\x` in string at offset 8"),
        ("{\"a\":\"\\u12g4\"}", "invalid escape sequence `\\u12g4` in string at offset 12"),
        ("{\"a\":\"\u{1}\"}", "invalid character '\\x01' in string at offset 7"),
        ("{\"a\":\"\n\"}", "invalid character '\\n' in string at offset 7"),
        ("{} x", "invalid character 'x' looking for beginning of value at offset 4"),
        ("{},", "invalid character ',' looking for beginning of value at offset 3"),
        ("ï{}", "invalid character 'ï' looking for beginning of value at offset 2"),
        ("\0", "invalid character '\\x00' looking for beginning of value at offset 1"),
        ("{\"a\" 1}", "invalid character '1' after object key at offset 6"),
        ("[1,]", "invalid character ']' looking for beginning of value at offset 4"),
        ("{\"a\":[1 2]}", "invalid character '2' after array element at offset 9"),
        ("{\"a\":'x'}", "invalid character '\\'' looking for beginning of value at offset 6"),
        ("nullx", "invalid character 'x' looking for beginning of value at offset 5"),
    ] {
        assert_eq!(strict::<StreamConfigRequest>(json), text, "{json:?}");
    }
}

#[test]
fn depth() {
    let open = "[".repeat(10_001);
    let text = "exceeded max depth at offset 10001";
    assert_eq!(strict::<StreamConfigRequest>(&open), text);
    let fine = format!("{}1{}", "{\"a\":".repeat(9_999), "}".repeat(9_999));
    assert_eq!(strict::<StreamConfigRequest>(&fine), "json: unknown field \"a\"");
    assert_eq!(strict::<StreamConfigRequest>(&"{\"a\":".repeat(1_000_000)).len(), 34);
}

#[test]
fn types_of_stream_fields() {
    let field = "json: cannot unmarshal";
    let into = "into Go struct field StreamConfigRequest";
    for (json, text) in [
        ("[]", format!("{field} array into Go value of type server.StreamConfigRequest")),
        ("5", format!("{field} number into Go value of type server.StreamConfigRequest")),
        (r#"{"name":1}"#, format!("{field} number {into}.name of type string")),
        (r#"{"max_msgs":"1"}"#, format!("{field} string {into}.max_msgs of type int64")),
        (r#"{"MAX_MSGS":"1"}"#, format!("{field} string {into}.MAX_MSGS of type int64")),
        (r#"{"max_msgs":1.5}"#, format!("{field} number 1.5 {into}.max_msgs of type int64")),
        (
            r#"{"max_consumers":1e3}"#,
            format!("{field} number 1e3 {into}.max_consumers of type int"),
        ),
        (r#"{"first_seq":-1}"#, format!("{field} number -1 {into}.first_seq of type uint64")),
        (
            r#"{"max_msg_size":2147483648}"#,
            format!("{field} number 2147483648 {into}.max_msg_size of type int32"),
        ),
        (r#"{"max_age":"1s"}"#, format!("{field} string {into}.max_age of type time.Duration")),
        (r#"{"sealed":1}"#, format!("{field} number {into}.sealed of type bool")),
        (r#"{"subjects":"a"}"#, format!("{field} string {into}.subjects of type []string")),
        (
            r#"{"subjects":["a",2]}"#,
            format!("{field} number into StreamConfigRequest.subjects.1 of type string"),
        ),
        (
            r#"{"sources":{}}"#,
            format!("{field} object {into}.sources of type []*server.StreamSource"),
        ),
        (
            r#"{"sources":[1]}"#,
            format!(
                "{field} number into StreamConfigRequest.sources.0 of type server.StreamSource"
            ),
        ),
        (
            r#"{"sources":[{},{"external":{"api":5}}]}"#,
            format!("{field} number {into}.sources.1.external.api of type string"),
        ),
        (r#"{"placement":3}"#, format!("{field} number {into}.placement of type server.Placement")),
        (
            r#"{"sources":[{"subject_transforms":{}}]}"#,
            format!(
                "{field} object {into}.sources.0.subject_transforms \
                 of type []server.SubjectTransformConfig"
            ),
        ),
        (
            r#"{"consumer_limits":"x"}"#,
            format!("{field} string {into}.consumer_limits of type server.StreamConsumerLimits"),
        ),
        (r#"{"metadata":[]}"#, format!("{field} array {into}.metadata of type map[string]string")),
        (r#"{"metadata":{"a.b":1}}"#, format!("{field} number {into}.metadata.a.b of type string")),
        (
            r#"{"metadata":{"a/b~c":1}}"#,
            format!("{field} number {into}.metadata.a~1b~0c of type string"),
        ),
        (
            r#"{"mirror":{"opt_start_time":5}}"#,
            format!("{field} number {into}.mirror.opt_start_time of type time.Time"),
        ),
    ] {
        assert_eq!(strict::<StreamConfigRequest>(json), text, "{json}");
    }
}

#[test]
fn choices_and_times() {
    for (json, text) in [
        (r#"{"retention":"bad"}"#, r#"can not unmarshal "\"bad\"""#),
        (r#"{"retention":null}"#, r#"can not unmarshal "null""#),
        (r#"{"retention":["limits"]}"#, r#"can not unmarshal "[\"limits\"]""#),
        (r#"{"retention":"li\u006dits"}"#, r#"can not unmarshal "\"li\\u006dits\"""#),
        (r#"{"storage":3}"#, r#"can not unmarshal "3""#),
        (r#"{"persist_mode":""}"#, ""),
        (r#"{"compression":"x"}"#, "unknown compression algorithm"),
        (r#"{"compression":null}"#, "unknown compression algorithm"),
        (r#"{"compression":3}"#, "json: cannot unmarshal number into Go value of type string"),
        (
            r#"{"mirror":{"opt_start_time":"x"}}"#,
            "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"",
        ),
    ] {
        assert_eq!(strict::<StreamConfigRequest>(json), text, "{json}");
    }
    for (json, text) in [
        (r#"{"config":{"ack_policy":"bad"}}"#, r#"can not unmarshal "\"bad\"""#),
        (r#"{"config":{"priority_policy":"bad"}}"#, r#"unknown priority policy: "bad""#),
        (r#"{"config":{"priority_policy":3}}"#, "unknown priority policy: 3"),
        (r#"{"action":null}"#, "unknown consumer action: null"),
        (r#"{"action":"Create"}"#, r#"unknown consumer action: "Create""#),
        (r#"{"config":{"deliver_policy":"undefined"}}"#, ""),
        (
            r#"{"config":{"backoff":["x"]}}"#,
            "json: cannot unmarshal string into CreateConsumerRequest.config.backoff.0 \
             of type time.Duration",
        ),
        (
            r#"{"config":{"rate_limit_bps":-1}}"#,
            "json: cannot unmarshal number -1 into Go struct field \
             CreateConsumerRequest.config.rate_limit_bps of type uint64",
        ),
    ] {
        assert_eq!(strict::<CreateConsumerRequest>(json), text, "{json}");
    }
}

#[test]
fn unknown_fields_and_which_mistake_counts() {
    for (json, text) in [
        (r#"{"bogus":1}"#, "json: unknown field \"bogus\""),
        (r#"{"placement":{"foo":{"a":[1]}}}"#, "json: unknown field \"foo\""),
        (r#"{"maxmsgs":1}"#, "json: unknown field \"maxmsgs\""),
        (r#"{"bog<us":1}"#, "json: unknown field \"bog<us\""),
        (r#"{"bog\u00e9\"us\n":1}"#, "json: unknown field \"bogé\\\"us\\n\""),
        (r#"{"bogus":1,"retention":"bad"}"#, "json: unknown field \"bogus\""),
        (r#"{"retention":"bad","bogus":1}"#, r#"can not unmarshal "\"bad\"""#),
        (r#"{"name":"A","bogus":1}x"#, "json: unknown field \"bogus\""),
        ("{\"name\":\"A\"}\n{\"bogus\":1}", "json: unknown field \"bogus\""),
    ] {
        assert_eq!(strict::<StreamConfigRequest>(json), text, "{json}");
    }
    let odd = strict_bytes::<StreamConfigRequest>(b"{\"\xff\":1}");
    assert_eq!(odd, "json: unknown field \"\u{fffd}\"");
}

#[test]
fn several_documents_are_read_into_one_value() {
    let decode = |json: &str| {
        decode_request::<StreamConfigRequest>(json.as_bytes(), Mode::Strict).unwrap().config
    };
    let both = decode(r#"{"name":"A"}{"description":"x"}null"#);
    assert_eq!((both.name.as_str(), both.description.as_str()), ("A", "x"));
    assert_eq!(decode(" \n"), decode("{}"));
    assert_eq!(decode(r#"{"NAME":"A","Max_M\u017fgs":5}"#).max_msgs, 5);
    assert_eq!(decode(r#"{"name":"A","name":"B"}"#).name, "B");
    assert_eq!(decode(r#"{"subjects":["a","b"],"subjects":[null]}"#).subjects, ["a"]);
    assert!(decode(r#"{"subjects":["a"],"subjects":null}"#).subjects.is_empty());
    let merged = decode(r#"{"metadata":{"a":"1"},"metadata":{"b":"2"}}"#);
    assert_eq!(merged.metadata.len(), 2);
    let merged = decode(r#"{"placement":{"cluster":"x"},"placement":{"tags":["y"]}}"#);
    let placement = merged.placement.unwrap();
    assert_eq!((placement.cluster.as_str(), placement.tags.len()), ("x", 1));
    assert_eq!(decode(r#"{"placement":{"cluster":"x"},"placement":null}"#).placement, None);
}

#[test]
fn lax_mode_reads_again_without_strictness() {
    let lax = |json: &str| {
        decode_request::<StreamConfigRequest>(json.as_bytes(), Mode::Lax).map_err(|error| error.0)
    };
    let read = lax(r#"{"name":"A","bogus":{"a":[]},"placement":{"x":1}}"#).unwrap();
    assert_eq!(read.config.name, "A");
    assert!(read.config.placement.is_some());
    for (json, text) in [
        ("{", "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("{\"bogus\":1}{}", "invalid character '{' after top-level value"),
        (
            r#"{"name":1}"#,
            "json: cannot unmarshal number into Go struct field StreamConfigRequest.name \
             of type string",
        ),
    ] {
        assert_eq!(lax(json), Err(text.to_owned()), "{json}");
    }
}

#[test]
fn which_bodies_are_read() {
    let text = |result: Result<(), wire::api::errors::ApiError>| {
        result.err().map_or_else(String::new, |error| error.description.into_owned())
    };
    fn check<T: wire::api::requests::Request>(
        body: &str,
    ) -> Result<(), wire::api::errors::ApiError> {
        decode_body::<T>(body.as_bytes(), Mode::Strict).map(|_| ())
    }
    assert_eq!(text(check::<StreamInfoRequest>("x")), "");
    assert_eq!(text(check::<PurgeRequest>("x")), "");
    assert_eq!(
        text(check::<PurgeRequest>("{\"bogus\":1}")),
        "invalid JSON: json: unknown field \"bogus\""
    );
    assert_eq!(text(check::<MsgGetRequest>("")), "bad request");
    assert_eq!(text(check::<MsgGetRequest>(" { } ")), "bad request");
    assert_eq!(
        text(check::<MsgGetRequest>("x")),
        "invalid JSON: invalid character 'x' looking for beginning of value at offset 1"
    );
    assert_eq!(
        text(check::<SnapshotRequest>("{\"chunk_size\":\"x\"}")),
        "invalid JSON: json: cannot unmarshal string into Go struct field \
         JSApiStreamSnapshotRequest.chunk_size of type int"
    );
    assert_eq!(
        text(check::<RestoreRequest>("{\"state\":{\"subjects\":{\"a\":\"x\"}}}")),
        "invalid JSON: json: cannot unmarshal string into Go struct field \
         JSApiStreamRestoreRequest.state.subjects.a of type uint64"
    );
    assert_eq!(
        text(check::<RestoreRequest>("{\"state\":{\"lost\":{\"msgs\":[\"x\"]}}}")),
        "invalid JSON: json: cannot unmarshal string into \
         JSApiStreamRestoreRequest.state.lost.msgs.0 of type uint64"
    );
    assert_eq!(text(check::<UnpinRequest>("")), "invalid JSON: unexpected end of JSON input");
    assert_eq!(text(check::<UnpinRequest>("{\"bogus\":1}")), "");
    assert_eq!(text(check::<ResetRequest>("")), "");
    assert_eq!(text(check::<ResetRequest>("{")), "invalid JSON: unexpected end of JSON input");
    assert_eq!(text(expect_empty(b"{}")), "");
    assert_eq!(text(expect_empty(b"{\"a\":1}")), "expected an empty request payload");
}

#[test]
fn empty_bodies_and_bodies_that_look_like_json() {
    for body in ["", "{}", " {\n} "] {
        assert!(is_empty_request(body.as_bytes()), "{body:?}");
    }
    for body in [" ", "[]", "null", "{\"a\":1}", "{} {}", "{}x", "{", "x"] {
        assert!(!is_empty_request(body.as_bytes()), "{body:?}");
    }
    assert!(looks_like_json(b" \t{") && looks_like_json(b"["));
    assert!(!looks_like_json(b"5") && !looks_like_json(b"") && !looks_like_json(b"\"{\""));
    assert!(decode_document::<PurgeRequest>(b"null").is_ok());
}
