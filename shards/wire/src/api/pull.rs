//! What clients of a consumer send: pull requests and acknowledgements.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::decode::{decode_document, decode_unnamed};
use super::value::object;
use crate::time::parse_go_duration;

object! {
    /// A pull request.
    PullRequest = "server.JSApiConsumerGetNextRequest" {
        /// How long it may wait, in nanoseconds; 0 is as long as the client is there.
        expires_ns: i64 ["expires", "time.Duration", omitempty],
        /// Messages wanted. nats-server takes 0 as 1.
        batch: i64 ["batch", "int", omitempty],
        /// Bytes at most; 0 is no limit.
        max_bytes: i64 ["max_bytes", "int", omitempty],
        /// End at once if nothing is there.
        no_wait: bool ["no_wait", omitempty],
        /// Distance of heartbeats while it waits, in nanoseconds; 0 is none.
        idle_heartbeat_ns: i64 ["idle_heartbeat", "time.Duration", omitempty],
        /// What matters for groups.
        group: PullGroup [flatten],
    }

    /// The part of a pull request that is about priority groups.
    PullGroup = "server.PriorityGroup" {
        /// Name of the group.
        group: String ["group", omitempty],
        /// Only if so many are waiting to be delivered.
        min_pending: i64 ["min_pending", omitempty],
        /// Only if so many are waiting for an acknowledgement.
        min_ack_pending: i64 ["min_ack_pending", omitempty],
        /// The pin that the client has.
        id: String ["id", omitempty],
        /// 0 to 9, the lowest first.
        priority: i64 ["priority", "int", omitempty],
    }

    /// The options of a refusal for now.
    NakOptions = "server.ConsumerNakOptions" {
        /// When to deliver again, in nanoseconds from now.
        delay_ns: i64 ["delay", "time.Duration"],
    }
}

impl PullRequest {
    /// A request for so many messages without conditions.
    pub fn of_batch(batch: i64) -> Self {
        Self { batch, ..Self::default() }
    }

    /// Reads the body of a pull request: an object, a whole number of messages, or anything else,
    /// which asks for one message.
    ///
    /// # Errors
    ///
    /// What stands behind `400 Bad Request - `.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let body = trim(body);
        if body.first() != Some(&b'{') {
            let number = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
            return Ok(Self::of_batch(number.unwrap_or(1)));
        }
        let request: Self = decode_unnamed(body).map_err(|error| error.0)?;
        let heartbeat = request.idle_heartbeat_ns;
        if heartbeat > 0 && heartbeat.saturating_mul(2) > request.expires_ns {
            return Err("heartbeat value too large".to_owned());
        }
        Ok(request)
    }
}

/// What a client says about a message it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack<'a> {
    /// It is done.
    Ack,
    /// Deliver it again, in so many nanoseconds if given.
    Nak {
        /// `None` leaves the time to the consumer.
        delay_ns: Option<i64>,
    },
    /// It is still in work.
    Progress,
    /// It is done, and the client wants more: the body of a pull request.
    Next {
        /// For [`PullRequest::parse`].
        request: &'a [u8],
    },
    /// Do not deliver it again.
    Term {
        /// Why; empty if nothing is said.
        reason: &'a [u8],
    },
}

impl<'a> Ack<'a> {
    /// Reads the body of an acknowledgement. `None` for anything that is none, which changes
    /// nothing.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        match body {
            b"" | b"+ACK" | b"+OK" => return Some(Self::Ack),
            b"+WPI" => return Some(Self::Progress),
            _ => {}
        }
        if let Some(request) = body.strip_prefix(b"+NXT") {
            return Some(Self::Next { request });
        }
        if let Some(options) = body.strip_prefix(b"-NAK") {
            return Some(Self::Nak { delay_ns: nak_delay(options) });
        }
        let reason = trim(body.strip_prefix(b"+TERM")?);
        Some(Self::Term { reason })
    }
}

/// The delay behind `-NAK`: a Go duration or `{"delay":ns}`. What cannot be read counts as none.
fn nak_delay(options: &[u8]) -> Option<i64> {
    let options = trim(options);
    if options.is_empty() {
        return None;
    }
    if options.first() == Some(&b'{') {
        return decode_document::<NakOptions>(options).ok().map(|options| options.delay_ns);
    }
    parse_go_duration(std::str::from_utf8(options).ok()?).ok()
}

/// Without white space at both ends.
fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let start = text.iter().position(|b| !is_blank(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !is_blank(b)).map_or(start, |at| at.saturating_add(1));
    text.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_requests() {
        let parse = |text: &str| PullRequest::parse(text.as_bytes());
        for (text, batch) in
            [("", 1), ("  ", 1), ("5", 5), (" 7\n", 7), ("+3", 3), ("-2", -2), ("x", 1), ("1.5", 1)]
        {
            assert_eq!(parse(text), Ok(PullRequest::of_batch(batch)), "{text}");
        }
        let text = r#" {"expires":2000000000,"batch":10,"max_bytes":1024,"no_wait":true,
            "idle_heartbeat":1000000000,"group":"g","min_pending":1,"min_ack_pending":2,
            "id":"pin","priority":9,"unknown":1}"#;
        let expected = PullRequest {
            expires_ns: 2_000_000_000,
            batch: 10,
            max_bytes: 1024,
            no_wait: true,
            idle_heartbeat_ns: 1_000_000_000,
            group: PullGroup {
                group: "g".to_owned(),
                min_pending: 1,
                min_ack_pending: 2,
                id: "pin".to_owned(),
                priority: 9,
            },
        };
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse("{}"), Ok(PullRequest::default()));
        let too_large = Err("heartbeat value too large".to_owned());
        assert_eq!(parse(r#"{"idle_heartbeat":2,"expires":3}"#), too_large);
        assert_eq!(parse(r#"{"idle_heartbeat":1}"#), too_large);
        assert!(parse(r#"{"idle_heartbeat":2,"expires":4}"#).is_ok());
        assert_eq!(parse("{"), Err("unexpected end of JSON input".to_owned()));
        let typed = "json: cannot unmarshal string into Go struct field .batch of type int";
        assert_eq!(parse(r#"{"batch":"x"}"#), Err(typed.to_owned()));
    }

    #[test]
    fn acknowledgements() {
        let nak = |delay_ns| Some(Ack::Nak { delay_ns });
        for (text, expected) in [
            ("", Some(Ack::Ack)),
            ("+ACK", Some(Ack::Ack)),
            ("+OK", Some(Ack::Ack)),
            ("+WPI", Some(Ack::Progress)),
            ("-NAK", nak(None)),
            ("-NAK ", nak(None)),
            ("-NAK 1.5s", nak(Some(1_500_000_000))),
            ("-NAK {\"delay\": 2000}", nak(Some(2000))),
            ("-NAK {}", nak(Some(0))),
            ("-NAK {", nak(None)),
            ("-NAK x", nak(None)),
            ("-NAK -5s", nak(Some(-5_000_000_000))),
            ("+NXT", Some(Ack::Next { request: b"" })),
            ("+NXT 5", Some(Ack::Next { request: b" 5" })),
            ("+TERM", Some(Ack::Term { reason: b"" })),
            ("+TERM bad data ", Some(Ack::Term { reason: b"bad data" })),
            ("+ACK ", None),
            ("+WPI x", None),
            ("+ack", None),
            ("x", None),
            (" ", None),
        ] {
            assert_eq!(Ack::parse(text.as_bytes()), expected, "{text}");
        }
    }
}
