//! The subjects of the JetStream API, read into what they ask for, and the rules for names.
//!
//! Names are borrowed from the subject. A subject whose names are not UTF-8 is no API subject:
//! names live in JSON.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::subject;

/// Prefix of all API subjects without a domain.
pub const API_PREFIX: &[u8] = b"$JS.API.";
/// Characters of a stream's or consumer's name at most.
pub const NAME_LEN_MAX: usize = 255;

/// What a subject asks for. `stream`, `consumer` and `account` are names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are what the names say
pub enum Call<'a> {
    /// `INFO`: the account's use and limits.
    AccountInfo,
    /// `STREAM.NAMES`
    StreamNames,
    /// `STREAM.LIST`
    StreamList,
    /// `STREAM.CREATE.<s>`
    StreamCreate { stream: &'a str },
    /// `STREAM.UPDATE.<s>`
    StreamUpdate { stream: &'a str },
    /// `STREAM.INFO.<s>`
    StreamInfo { stream: &'a str },
    /// `STREAM.DELETE.<s>`
    StreamDelete { stream: &'a str },
    /// `STREAM.PURGE.<s>`
    StreamPurge { stream: &'a str },
    /// `STREAM.SNAPSHOT.<s>`
    StreamSnapshot { stream: &'a str },
    /// `STREAM.RESTORE.<s>`
    StreamRestore { stream: &'a str },
    /// `STREAM.MSG.GET.<s>`
    MsgGet { stream: &'a str },
    /// `STREAM.MSG.DELETE.<s>`
    MsgDelete { stream: &'a str },
    /// `STREAM.LEADER.STEPDOWN.<s>`
    StreamLeaderStepdown { stream: &'a str },
    /// `STREAM.PEER.REMOVE.<s>`
    StreamPeerRemove { stream: &'a str },
    /// `STREAM.PEER.EVACUATE.<s>`
    StreamPeerEvacuate { stream: &'a str },
    /// `STREAM.CANCEL_MOVE.<s>`
    StreamCancelMove { stream: &'a str },
    /// `DIRECT.GET.<s>`
    DirectGet { stream: &'a str },
    /// `DIRECT.GET.<s>.<subject>`: the last message of the subject.
    DirectGetLast { stream: &'a str, subject: &'a [u8] },
    /// `CONSUMER.CREATE.<s>`, with the name and the filter if the subject goes on.
    ConsumerCreate { stream: &'a str, consumer: Option<&'a str>, filter: Option<&'a [u8]> },
    /// `CONSUMER.DURABLE.CREATE.<s>.<c>`
    ConsumerDurableCreate { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.NAMES.<s>`
    ConsumerNames { stream: &'a str },
    /// `CONSUMER.LIST.<s>`
    ConsumerList { stream: &'a str },
    /// `CONSUMER.INFO.<s>.<c>`
    ConsumerInfo { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.DELETE.<s>.<c>`
    ConsumerDelete { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.PAUSE.<s>.<c>`
    ConsumerPause { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.UNPIN.<s>.<c>`
    ConsumerUnpin { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.RESET.<s>.<c>`
    ConsumerReset { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.LEADER.STEPDOWN.<s>.<c>`
    ConsumerLeaderStepdown { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.PEER.REMOVE.<s>.<c>`
    ConsumerPeerRemove { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.PEER.EVACUATE.<s>.<c>`
    ConsumerPeerEvacuate { stream: &'a str, consumer: &'a str },
    /// `CONSUMER.MSG.NEXT.<s>.<c>`: a pull request.
    ConsumerNext { stream: &'a str, consumer: &'a str },
    /// `META.LEADER.STEPDOWN`
    MetaLeaderStepdown,
    /// `META.RESCUE`
    MetaRescue,
    /// `SERVER.REMOVE`
    ServerRemove,
    /// `SERVER.EVACUATE`
    ServerEvacuate,
    /// `ACCOUNT.PURGE.<account>`
    AccountPurge { account: &'a str },
    /// `ACCOUNT.STREAM.MOVE.<account>.<s>`
    StreamMove { account: &'a str, stream: &'a str },
    /// `ACCOUNT.STREAM.CANCEL_MOVE.<account>.<s>`
    StreamMoveCancel { account: &'a str, stream: &'a str },
}

impl<'a> Call<'a> {
    /// The stream that is named.
    pub const fn stream(&self) -> Option<&'a str> {
        Some(match *self {
            Call::StreamCreate { stream }
            | Call::StreamUpdate { stream }
            | Call::StreamInfo { stream }
            | Call::StreamDelete { stream }
            | Call::StreamPurge { stream }
            | Call::StreamSnapshot { stream }
            | Call::StreamRestore { stream }
            | Call::MsgGet { stream }
            | Call::MsgDelete { stream }
            | Call::StreamLeaderStepdown { stream }
            | Call::StreamPeerRemove { stream }
            | Call::StreamPeerEvacuate { stream }
            | Call::StreamCancelMove { stream }
            | Call::DirectGet { stream }
            | Call::DirectGetLast { stream, .. }
            | Call::ConsumerCreate { stream, .. }
            | Call::ConsumerDurableCreate { stream, .. }
            | Call::ConsumerNames { stream }
            | Call::ConsumerList { stream }
            | Call::ConsumerInfo { stream, .. }
            | Call::ConsumerDelete { stream, .. }
            | Call::ConsumerPause { stream, .. }
            | Call::ConsumerUnpin { stream, .. }
            | Call::ConsumerReset { stream, .. }
            | Call::ConsumerLeaderStepdown { stream, .. }
            | Call::ConsumerPeerRemove { stream, .. }
            | Call::ConsumerPeerEvacuate { stream, .. }
            | Call::ConsumerNext { stream, .. }
            | Call::StreamMove { stream, .. }
            | Call::StreamMoveCancel { stream, .. } => stream,
            Call::AccountInfo
            | Call::StreamNames
            | Call::StreamList
            | Call::MetaLeaderStepdown
            | Call::MetaRescue
            | Call::ServerRemove
            | Call::ServerEvacuate
            | Call::AccountPurge { .. } => return None,
        })
    }

    /// The consumer that is named.
    pub const fn consumer(&self) -> Option<&'a str> {
        match *self {
            Call::ConsumerCreate { consumer, .. } => consumer,
            Call::ConsumerDurableCreate { consumer, .. }
            | Call::ConsumerInfo { consumer, .. }
            | Call::ConsumerDelete { consumer, .. }
            | Call::ConsumerPause { consumer, .. }
            | Call::ConsumerUnpin { consumer, .. }
            | Call::ConsumerReset { consumer, .. }
            | Call::ConsumerLeaderStepdown { consumer, .. }
            | Call::ConsumerPeerRemove { consumer, .. }
            | Call::ConsumerPeerEvacuate { consumer, .. }
            | Call::ConsumerNext { consumer, .. } => Some(consumer),
            _ => None,
        }
    }
}

/// Splits an API subject into the domain, if one is named, and what stands behind `API.`:
/// `$JS.API.INFO` is `(None, "INFO")`, `$JS.hub.API.INFO` is `(Some("hub"), "INFO")`.
pub fn split_prefix(subject: &[u8]) -> Option<(Option<&str>, &[u8])> {
    if let Some(rest) = subject.strip_prefix(API_PREFIX) {
        return Some((None, rest));
    }
    let rest = subject.strip_prefix(b"$JS.")?;
    let (domain, rest) = split_token(rest)?;
    let rest = rest.strip_prefix(b"API.")?;
    let domain = std::str::from_utf8(domain).ok().filter(|name| !name.is_empty())?;
    Some((Some(domain), rest))
}

/// The domain, if one is named, and what the subject asks for. `None` for everything that is not
/// a request; such a message gets no answer.
pub fn parse(subject: &[u8]) -> Option<(Option<&str>, Call<'_>)> {
    let (domain, rest) = split_prefix(subject)?;
    Some((domain, parse_call(rest)?))
}

/// What stands behind `$JS.API.`.
pub fn parse_call(rest: &[u8]) -> Option<Call<'_>> {
    let Some((group, tail)) = split_token(rest) else {
        return (rest == b"INFO").then_some(Call::AccountInfo);
    };
    match group {
        b"STREAM" => parse_stream(tail),
        b"CONSUMER" => parse_consumer(tail),
        b"DIRECT" => parse_direct(tail.strip_prefix(b"GET.")?),
        b"META" => match tail {
            b"LEADER.STEPDOWN" => Some(Call::MetaLeaderStepdown),
            b"RESCUE" => Some(Call::MetaRescue),
            _ => None,
        },
        b"SERVER" => match tail {
            b"REMOVE" => Some(Call::ServerRemove),
            b"EVACUATE" => Some(Call::ServerEvacuate),
            _ => None,
        },
        b"ACCOUNT" => parse_account(tail),
        _ => None,
    }
}

fn parse_stream(rest: &[u8]) -> Option<Call<'_>> {
    let Some((verb, tail)) = split_token(rest) else {
        return match rest {
            b"NAMES" => Some(Call::StreamNames),
            b"LIST" => Some(Call::StreamList),
            _ => None,
        };
    };
    let stream = |bytes| name(bytes);
    match verb {
        b"CREATE" => Some(Call::StreamCreate { stream: stream(tail)? }),
        b"UPDATE" => Some(Call::StreamUpdate { stream: stream(tail)? }),
        b"INFO" => Some(Call::StreamInfo { stream: stream(tail)? }),
        b"DELETE" => Some(Call::StreamDelete { stream: stream(tail)? }),
        b"PURGE" => Some(Call::StreamPurge { stream: stream(tail)? }),
        b"SNAPSHOT" => Some(Call::StreamSnapshot { stream: stream(tail)? }),
        b"RESTORE" => Some(Call::StreamRestore { stream: stream(tail)? }),
        b"CANCEL_MOVE" => Some(Call::StreamCancelMove { stream: stream(tail)? }),
        b"MSG" => match split_token(tail)? {
            (b"GET", tail) => Some(Call::MsgGet { stream: stream(tail)? }),
            (b"DELETE", tail) => Some(Call::MsgDelete { stream: stream(tail)? }),
            _ => None,
        },
        b"LEADER" => {
            let stream = stream(tail.strip_prefix(b"STEPDOWN.")?)?;
            Some(Call::StreamLeaderStepdown { stream })
        }
        b"PEER" => match split_token(tail)? {
            (b"REMOVE", tail) => Some(Call::StreamPeerRemove { stream: stream(tail)? }),
            (b"EVACUATE", tail) => Some(Call::StreamPeerEvacuate { stream: stream(tail)? }),
            _ => None,
        },
        _ => None,
    }
}

fn parse_consumer(rest: &[u8]) -> Option<Call<'_>> {
    let (verb, tail) = split_token(rest)?;
    match verb {
        b"MSG" => {
            let (stream, consumer) = two_names(tail.strip_prefix(b"NEXT.")?)?;
            Some(Call::ConsumerNext { stream, consumer })
        }
        b"CREATE" => parse_consumer_create(tail),
        b"NAMES" => Some(Call::ConsumerNames { stream: name(tail)? }),
        b"LIST" => Some(Call::ConsumerList { stream: name(tail)? }),
        b"DURABLE" => {
            let (stream, consumer) = two_names(tail.strip_prefix(b"CREATE.")?)?;
            Some(Call::ConsumerDurableCreate { stream, consumer })
        }
        b"LEADER" => {
            let (stream, consumer) = two_names(tail.strip_prefix(b"STEPDOWN.")?)?;
            Some(Call::ConsumerLeaderStepdown { stream, consumer })
        }
        b"PEER" => {
            let (verb, tail) = split_token(tail)?;
            let (stream, consumer) = two_names(tail)?;
            match verb {
                b"REMOVE" => Some(Call::ConsumerPeerRemove { stream, consumer }),
                b"EVACUATE" => Some(Call::ConsumerPeerEvacuate { stream, consumer }),
                _ => None,
            }
        }
        _ => {
            let (stream, consumer) = two_names(tail)?;
            match verb {
                b"INFO" => Some(Call::ConsumerInfo { stream, consumer }),
                b"DELETE" => Some(Call::ConsumerDelete { stream, consumer }),
                b"PAUSE" => Some(Call::ConsumerPause { stream, consumer }),
                b"UNPIN" => Some(Call::ConsumerUnpin { stream, consumer }),
                b"RESET" => Some(Call::ConsumerReset { stream, consumer }),
                _ => None,
            }
        }
    }
}

fn parse_consumer_create(tail: &[u8]) -> Option<Call<'_>> {
    let Some((stream, rest)) = split_token(tail) else {
        let stream = name(tail)?;
        return Some(Call::ConsumerCreate { stream, consumer: None, filter: None });
    };
    let (consumer, filter) = match split_token(rest) {
        Some((consumer, filter)) => (consumer, Some(filter)),
        None => (rest, None),
    };
    // The whole subject matched a pattern, so it has no empty tokens.
    if filter.is_some_and(|filter| subject::tokens(filter).any(<[u8]>::is_empty)) {
        return None;
    }
    if filter.is_some_and(<[u8]>::is_empty) {
        return None;
    }
    Some(Call::ConsumerCreate { stream: name(stream)?, consumer: Some(name(consumer)?), filter })
}

fn parse_direct(rest: &[u8]) -> Option<Call<'_>> {
    let Some((stream, subject)) = split_token(rest) else {
        return Some(Call::DirectGet { stream: name(rest)? });
    };
    if subject.is_empty() || subject::tokens(subject).any(<[u8]>::is_empty) {
        return None;
    }
    Some(Call::DirectGetLast { stream: name(stream)?, subject })
}

fn parse_account(rest: &[u8]) -> Option<Call<'_>> {
    let (verb, tail) = split_token(rest)?;
    match verb {
        b"PURGE" => Some(Call::AccountPurge { account: name(tail)? }),
        b"STREAM" => {
            let (verb, tail) = split_token(tail)?;
            let (account, stream) = two_names(tail)?;
            match verb {
                b"MOVE" => Some(Call::StreamMove { account, stream }),
                b"CANCEL_MOVE" => Some(Call::StreamMoveCancel { account, stream }),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The first token and what stands behind the dot; `None` if there is no dot.
pub(super) fn split_token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = memchr::memchr(subject::SEPARATOR, text)?;
    let (token, rest) = text.split_at_checked(dot)?;
    Some((token, rest.get(1..)?))
}

/// One token as a name.
fn name(token: &[u8]) -> Option<&str> {
    if token.is_empty() || memchr::memchr(subject::SEPARATOR, token).is_some() {
        return None;
    }
    std::str::from_utf8(token).ok()
}

fn two_names(rest: &[u8]) -> Option<(&str, &str)> {
    let (first, second) = split_token(rest)?;
    Some((name(first)?, name(second)?))
}

/// Whether `text` may be the name of a stream, consumer or group as nats-server sees it: not
/// empty, no blanks, no `.`, `*`, `>`. Says nothing about its length.
pub fn is_valid_name(text: &str) -> bool {
    let is_forbidden =
        |b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0c | b'.' | b'*' | b'>' | 0);
    !text.is_empty() && !text.bytes().any(is_forbidden)
}

/// Whether `text` may be the name of something that is kept: a valid name without path
/// separators.
pub fn is_valid_asset_name(text: &str) -> bool {
    is_valid_name(text) && !has_path_separator(text)
}

/// Whether a name would lead out of the folder it is meant for.
pub fn has_path_separator(text: &str) -> bool {
    text.bytes().any(|b| matches!(b, b'/' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> Option<Call<'_>> {
        parse(text.as_bytes()).map(|(_, call)| call)
    }

    #[test]
    fn every_request_is_known() {
        let (stream, consumer, account) = ("S", "C", "A");
        for (text, expected) in [
            ("INFO", Call::AccountInfo),
            ("STREAM.NAMES", Call::StreamNames),
            ("STREAM.LIST", Call::StreamList),
            ("STREAM.CREATE.S", Call::StreamCreate { stream }),
            ("STREAM.UPDATE.S", Call::StreamUpdate { stream }),
            ("STREAM.INFO.S", Call::StreamInfo { stream }),
            ("STREAM.DELETE.S", Call::StreamDelete { stream }),
            ("STREAM.PURGE.S", Call::StreamPurge { stream }),
            ("STREAM.SNAPSHOT.S", Call::StreamSnapshot { stream }),
            ("STREAM.RESTORE.S", Call::StreamRestore { stream }),
            ("STREAM.MSG.GET.S", Call::MsgGet { stream }),
            ("STREAM.MSG.DELETE.S", Call::MsgDelete { stream }),
            ("STREAM.LEADER.STEPDOWN.S", Call::StreamLeaderStepdown { stream }),
            ("STREAM.PEER.REMOVE.S", Call::StreamPeerRemove { stream }),
            ("STREAM.PEER.EVACUATE.S", Call::StreamPeerEvacuate { stream }),
            ("STREAM.CANCEL_MOVE.S", Call::StreamCancelMove { stream }),
            ("DIRECT.GET.S", Call::DirectGet { stream }),
            ("DIRECT.GET.S.a.b", Call::DirectGetLast { stream, subject: b"a.b" }),
            ("CONSUMER.NAMES.S", Call::ConsumerNames { stream }),
            ("CONSUMER.LIST.S", Call::ConsumerList { stream }),
            ("CONSUMER.DURABLE.CREATE.S.C", Call::ConsumerDurableCreate { stream, consumer }),
            ("CONSUMER.INFO.S.C", Call::ConsumerInfo { stream, consumer }),
            ("CONSUMER.DELETE.S.C", Call::ConsumerDelete { stream, consumer }),
            ("CONSUMER.PAUSE.S.C", Call::ConsumerPause { stream, consumer }),
            ("CONSUMER.UNPIN.S.C", Call::ConsumerUnpin { stream, consumer }),
            ("CONSUMER.RESET.S.C", Call::ConsumerReset { stream, consumer }),
            ("CONSUMER.LEADER.STEPDOWN.S.C", Call::ConsumerLeaderStepdown { stream, consumer }),
            ("CONSUMER.PEER.REMOVE.S.C", Call::ConsumerPeerRemove { stream, consumer }),
            ("CONSUMER.PEER.EVACUATE.S.C", Call::ConsumerPeerEvacuate { stream, consumer }),
            ("CONSUMER.MSG.NEXT.S.C", Call::ConsumerNext { stream, consumer }),
            ("META.LEADER.STEPDOWN", Call::MetaLeaderStepdown),
            ("META.RESCUE", Call::MetaRescue),
            ("SERVER.REMOVE", Call::ServerRemove),
            ("SERVER.EVACUATE", Call::ServerEvacuate),
            ("ACCOUNT.PURGE.A", Call::AccountPurge { account }),
            ("ACCOUNT.STREAM.MOVE.A.S", Call::StreamMove { account, stream }),
            ("ACCOUNT.STREAM.CANCEL_MOVE.A.S", Call::StreamMoveCancel { account, stream }),
        ] {
            assert_eq!(call(&format!("$JS.API.{text}")), Some(expected), "{text}");
            let with_domain = format!("$JS.hub.API.{text}");
            assert_eq!(parse(with_domain.as_bytes()), Some((Some("hub"), expected)), "{text}");
            let names = |name: &str| text.split('.').any(|token| token == name);
            assert_eq!(expected.stream().is_some(), names("S"), "{text}");
            assert_eq!(expected.consumer().is_some(), names("C"), "{text}");
        }
    }

    #[test]
    fn consumers_are_made_in_three_forms() {
        let made = |consumer, filter: Option<&'static str>| {
            let filter = filter.map(str::as_bytes);
            Some(Call::ConsumerCreate { stream: "S", consumer, filter })
        };
        assert_eq!(call("$JS.API.CONSUMER.CREATE.S"), made(None, None));
        assert_eq!(call("$JS.API.CONSUMER.CREATE.S.C"), made(Some("C"), None));
        assert_eq!(call("$JS.API.CONSUMER.CREATE.S.C.a.>"), made(Some("C"), Some("a.>")));
    }

    #[test]
    fn everything_else_is_no_request() {
        for text in [
            "$JS.API",
            "$JS.API.",
            "$JS.API.INFO.x",
            "$JS.API.STREAM.BOGUS",
            "$JS.API.STREAM.NAMES.S",
            "$JS.API.STREAM.CREATE",
            "$JS.API.STREAM.CREATE.",
            "$JS.API.STREAM.CREATE.a.b",
            "$JS.API.CONSUMER.INFO.S",
            "$JS.API.CONSUMER.INFO.S.C.x",
            "$JS.API.CONSUMER.CREATE.S..x",
            "$JS.API.CONSUMER.CREATE.S.C.",
            "$JS.API.CONSUMER.CREATE.S.C.a..b",
            "$JS.API.DIRECT.GET.S.",
            "$JS.API.DIRECT.GET.",
            "$JS.API.DIRECT.PUT.S",
            "$JS..API.INFO",
            "$JS.hub.INFO",
            "$JS.a.b.API.INFO",
            "x",
            "",
            "$JS.ACK.a",
        ] {
            assert_eq!(call(text), None, "{text}");
        }
        assert_eq!(parse(b"$JS.API.STREAM.INFO.\xff"), None);
    }

    #[test]
    fn names() {
        for name in ["a", "A-b_c", "é", "a\u{7f}", "$x"] {
            assert!(is_valid_asset_name(name), "{name:?}");
        }
        for name in ["", "a.b", "..", "a b", "a*", ">", "a\t", "a\n", "a\u{c}", "a\0"] {
            assert!(!is_valid_name(name), "{name:?}");
        }
        for name in ["a/b", "/", "\\", "a\\b"] {
            assert!(is_valid_name(name) && !is_valid_asset_name(name), "{name:?}");
        }
    }
}
