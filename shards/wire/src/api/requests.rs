//! The bodies of requests, and which bodies nats-server reads at all.

use super::config::{Placement, StreamConfig, StreamConfigRequest};
use super::consumer_config::CreateConsumerRequest;
use super::decode::{Mode, decode_document, decode_request, is_empty_request, looks_like_json};
use super::errors::{ApiError, BAD_REQUEST, INVALID_JSON, NOT_EMPTY_REQUEST};
use super::info::StreamState;
use super::timestamp::Timestamp;
use super::value::{Value, object};

/// Which bodies of a request are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// All; an empty one has all defaults.
    Any,
    /// All but empty ones, which are a bad request.
    Needed,
    /// Those that look like an object or a list; everything else counts as empty.
    Optional,
    /// Exactly one document, with unknown keys passed over whatever the mode is.
    Document,
    /// As `Document`, but no bytes at all have all defaults.
    OptionalDocument,
}

/// The body of a request.
pub trait Request: Value {
    /// Which bodies are read.
    const RULE: Rule;
}

/// Decodes the body of a request by its rule.
///
/// # Errors
///
/// `bad request` or `invalid JSON: ...` of the error table.
pub fn decode_body<T: Request>(body: &[u8], mode: Mode) -> Result<T, ApiError> {
    let decoded = match T::RULE {
        Rule::Needed if is_empty_request(body) => return Err(BAD_REQUEST),
        Rule::Any | Rule::Needed => decode_request(body, mode),
        Rule::Optional if looks_like_json(body) => decode_request(body, mode),
        Rule::OptionalDocument if body.is_empty() => Ok(T::default()),
        Rule::Optional => Ok(T::default()),
        Rule::Document | Rule::OptionalDocument => decode_document(body),
    };
    decoded.map_err(|error| INVALID_JSON.with(error))
}

/// Checks the body of a request that takes none.
///
/// # Errors
///
/// `expected an empty request payload` of the error table.
pub fn expect_empty(body: &[u8]) -> Result<(), ApiError> {
    if is_empty_request(body) { Ok(()) } else { Err(NOT_EMPTY_REQUEST) }
}

/// Gives each request its rule.
macro_rules! rules {
    ($($name:ident: $rule:ident;)*) => {
        $(impl Request for $name {
            const RULE: Rule = Rule::$rule;
        })*
    };
}

rules! {
    StreamConfigRequest: Any;
    CreateConsumerRequest: Any;
    StreamInfoRequest: Optional;
    StreamNamesRequest: Optional;
    StreamListRequest: Optional;
    PurgeRequest: Optional;
    MsgGetRequest: Needed;
    MsgDeleteRequest: Needed;
    SnapshotRequest: Needed;
    RestoreRequest: Needed;
    ConsumersRequest: Optional;
    PauseRequest: Optional;
    UnpinRequest: Document;
    ResetRequest: OptionalDocument;
    StepdownRequest: Optional;
    StreamPeerRequest: Needed;
    ServerRemoveRequest: Needed;
    MetaRescueRequest: Needed;
    StreamMoveRequest: Any;
}

object! {
    /// `STREAM.INFO`
    StreamInfoRequest = "server.JSApiStreamInfoRequest" {
        /// First subject of the page.
        offset: i64 ["offset", "int"],
        /// List the deleted sequences.
        deleted_details: bool ["deleted_details", omitempty],
        /// Count messages of the subjects with this pattern.
        subjects_filter: String ["subjects_filter", omitempty],
    }

    /// `STREAM.NAMES`
    StreamNamesRequest = "server.JSApiStreamNamesRequest" {
        /// First name of the page.
        offset: i64 ["offset", "int"],
        /// Only streams whose subjects overlap with this.
        subject: String ["subject", omitempty],
    }

    /// `STREAM.LIST`
    StreamListRequest = "server.JSApiStreamListRequest" {
        /// First stream of the page.
        offset: i64 ["offset", "int"],
        /// Only streams whose subjects overlap with this.
        subject: String ["subject", omitempty],
    }

    /// `STREAM.PURGE`
    PurgeRequest = "server.JSApiStreamPurgeRequest" {
        /// Remove messages before this sequence. Not together with `keep`.
        seq: u64 ["seq", omitempty],
        /// Only messages of the subjects with this pattern.
        filter: String ["filter", omitempty],
        /// Leave so many.
        keep: u64 ["keep", omitempty],
    }

    /// `STREAM.MSG.GET` and `DIRECT.GET`. The latter reads it with
    /// [`decode_document`](super::decode::decode_document) and answers mistakes with a status.
    MsgGetRequest = "server.JSApiMsgGetRequest" {
        /// The message with this sequence, or the first from it on.
        seq: u64 ["seq", omitempty],
        /// The last message of this subject.
        last_by_subj: String ["last_by_subj", omitempty],
        /// The next message of this pattern.
        next_by_subj: String ["next_by_subj", omitempty],
        /// Messages at most.
        batch: i64 ["batch", "int", omitempty],
        /// Bytes at most.
        max_bytes: i64 ["max_bytes", "int", omitempty],
        /// From this time on.
        start_time: Option<Timestamp> ["start_time", omitempty],
        /// The last message of each subject of these patterns.
        multi_last: Vec<String> ["multi_last", omitempty],
        /// Up to this sequence.
        up_to_seq: u64 ["up_to_seq", omitempty],
        /// Up to this time.
        up_to_time: Option<Timestamp> ["up_to_time", omitempty],
        /// Leave the headers out.
        no_hdr: bool ["no_hdr", omitempty],
    }

    /// `STREAM.MSG.DELETE`
    MsgDeleteRequest = "server.JSApiMsgDeleteRequest" {
        /// The message.
        seq: u64 ["seq"],
        /// Its bytes need not be overwritten.
        no_erase: bool ["no_erase", omitempty],
    }

    /// `STREAM.SNAPSHOT`
    SnapshotRequest = "server.JSApiStreamSnapshotRequest" {
        /// Where the chunks go.
        deliver_subject: String ["deliver_subject"],
        /// Leave the consumers out.
        no_consumers: bool ["no_consumers", omitempty],
        /// Bytes of a chunk.
        chunk_size: i64 ["chunk_size", "int", omitempty],
        /// Bytes that may be on the way.
        window_size: i64 ["window_size", "int", omitempty],
        /// Check all messages first.
        jsck: bool ["jsck", omitempty],
    }

    /// `STREAM.RESTORE`
    RestoreRequest = "server.JSApiStreamRestoreRequest" {
        /// The stream.
        config: StreamConfig ["config"],
        /// What it held.
        state: StreamState ["state"],
    }

    /// `CONSUMER.NAMES` and `CONSUMER.LIST`
    ConsumersRequest = "server.JSApiConsumersRequest" {
        /// First consumer of the page.
        offset: i64 ["offset", "int"],
    }

    /// `CONSUMER.PAUSE`
    PauseRequest = "server.JSApiConsumerPauseRequest" {
        /// Until when; none or a time that is past ends the pause.
        pause_until: Timestamp ["pause_until"],
    }

    /// `CONSUMER.UNPIN`
    UnpinRequest = "server.JSApiConsumerUnpinRequest" {
        /// The group.
        group: String ["group"],
    }

    /// `CONSUMER.RESET`
    ResetRequest = "server.JSApiConsumerResetRequest" {
        /// Where to start again; 0 is behind the acknowledgement floor.
        seq: u64 ["seq", omitempty],
    }

    /// `STREAM.LEADER.STEPDOWN`, `CONSUMER.LEADER.STEPDOWN`, `META.LEADER.STEPDOWN`
    StepdownRequest = "server.JSApiLeaderStepdownRequest" {
        /// Who shall lead.
        placement: Option<Placement> ["placement", omitempty],
    }

    /// `STREAM.PEER.*` and `CONSUMER.PEER.*`
    StreamPeerRequest = "server.JSApiStreamRemovePeerRequest" {
        /// Name or id of the server.
        peer: String ["peer"],
    }

    /// `SERVER.REMOVE` and `SERVER.EVACUATE`
    ServerRemoveRequest = "server.JSApiMetaServerRemoveRequest" {
        /// Name of the server.
        peer: String ["peer"],
        /// Id of the server.
        peer_id: String ["peer_id", omitempty],
    }

    /// `META.RESCUE`
    MetaRescueRequest = "server.JSApiMetaRescueRequest" {
        /// Votes that shall be enough.
        quorum_needed: i64 ["quorum_needed", "int"],
    }

    /// `ACCOUNT.STREAM.MOVE`
    StreamMoveRequest = "server.JSApiMetaServerStreamMoveRequest" {
        /// The server to leave.
        server: String ["server", omitempty],
        /// Its cluster.
        cluster: String ["cluster", omitempty],
        /// Its domain.
        domain: String ["domain", omitempty],
        /// Tags of the servers to go to.
        tags: Vec<String> ["tags", omitempty],
    }
}
