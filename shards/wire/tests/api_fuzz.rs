//! Whatever arrives as a subject, a header block or a body, reading it never panics, and what is
//! read agrees with a second opinion.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use proptest::prelude::*;
use wire::api::ack::{
    Delivery, ack_prefix, parse_ack_subject, parse_flow_control_subject, parse_restore_subject,
    parse_snapshot_ack_subject, push_ack_subject,
};
use wire::api::config::StreamConfigRequest;
use wire::api::consumer_config::CreateConsumerRequest;
use wire::api::decode::{Mode, decode_document, decode_request, is_empty_request};
use wire::api::ingest::Ingest;
use wire::api::publish::{PublishHeaders, parse_sequence, parse_ttl};
use wire::api::pull::{Ack, PullRequest};
use wire::api::requests::{RestoreRequest, decode_body};
use wire::api::subjects;
use wire::api::timestamp::Timestamp;
use wire::json::to_go_string;

/// Text that looks like JSON now and then.
fn json_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\\"),
        Just("\\u00e9"),
        Just("\\ud800"),
        Just("null"),
        Just("true"),
        Just("fals"),
        Just("0"),
        Just("-1"),
        Just("1.5"),
        Just("2e9"),
        Just(" "),
        Just("\n"),
        Just("\u{1}"),
        Just("é"),
        Just("\"name\":"),
        Just("\"subjects\":"),
        Just("\"metadata\":"),
        Just("\"max_age\":"),
        Just("\"config\":"),
        Just("\"state\":"),
        Just("\"a\""),
        Just("\"x\":1"),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_request::<StreamConfigRequest>(&body, Mode::Strict);
        let _ = decode_request::<CreateConsumerRequest>(&body, Mode::Lax);
        let _ = decode_body::<RestoreRequest>(&body, Mode::Strict);
        let _ = PullRequest::parse(&body);
        let _ = Ack::parse(&body);
        let _ = PublishHeaders::parse(&body);
        let _ = (parse_sequence(&body), parse_ttl(&body), is_empty_request(&body));
    }

    #[test]
    fn syntax_is_judged_as_serde_does(text in json_like()) {
        let ours = decode_document::<StreamConfigRequest>(text.as_bytes());
        let valid = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        match ours {
            Ok(value) => {
                prop_assert!(valid, "{text}");
                // What was read is written as something that reads as the same.
                let again = to_go_string(&value);
                prop_assert_eq!(decode_document(again.as_bytes()), Ok(value));
            }
            Err(error) => {
                let about_types = !error.0.starts_with("invalid ")
                    && !error.0.starts_with("unexpected end")
                    && !error.0.starts_with("exceeded");
                prop_assert_eq!(about_types, valid, "{} {}", text, error);
            }
        }
    }

    #[test]
    fn subjects_never_panic(subject in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut api = subjects::API_PREFIX.to_vec();
        api.extend_from_slice(&subject);
        for text in [&subject, &api] {
            let _ = subjects::parse(text);
            let _ = parse_ack_subject(text);
            let _ = parse_flow_control_subject(text);
            let _ = parse_snapshot_ack_subject(text);
            let _ = parse_restore_subject(text);
            let _ = Ingest::parse(text);
        }
    }

    #[test]
    fn acknowledgements_read_as_they_were_written(
        delivered: u64, stream_seq: u64, consumer_seq: u64,
        timestamp_ns in 0..i64::MAX, pending: u64,
        stream in "[a-zA-Z0-9_-]{1,20}", consumer in "[a-zA-Z0-9_-]{1,20}",
    ) {
        let delivery = Delivery { delivered, stream_seq, consumer_seq, timestamp_ns, pending };
        let mut subject = Vec::new();
        push_ack_subject(&mut subject, &ack_prefix(&stream, &consumer), &delivery);
        let read = parse_ack_subject(&subject).unwrap();
        prop_assert_eq!(read.delivery, delivery);
        prop_assert_eq!((read.stream, read.consumer), (stream.as_bytes(), consumer.as_bytes()));
    }

    #[test]
    fn times_read_as_they_were_written(nanos: i64) {
        let time = Timestamp(nanos);
        prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
    }

    #[test]
    fn times_never_panic(text in "[0-9TZ:.,+-]{0,40}") {
        let _ = Timestamp::parse(&text);
    }
}
