//! The bodies of answers, without `type` and `error`, which [`types`](super::types) puts in
//! front.

use std::collections::BTreeMap;

use super::config::StreamConfig;
use super::info::{ConsumerInfo, StoredMessage, StreamInfo, StreamState};
use super::timestamp::Timestamp;
use super::value::object;

/// Names on a page of `STREAM.NAMES` and `CONSUMER.NAMES`.
pub const NAMES_PAGE: usize = 1024;
/// Entries on a page of `STREAM.LIST` and `CONSUMER.LIST`.
pub const LIST_PAGE: usize = 256;
/// Subjects on a page of `STREAM.INFO`.
pub const SUBJECTS_PAGE: usize = 100_000;

object! {
    /// Where a page stands.
    Page = "server.ApiPaged" {
        /// Entries in all.
        total: i64 ["total", "int"],
        /// First entry of this page.
        offset: i64 ["offset", "int"],
        /// Entries on a page.
        limit: i64 ["limit", "int"],
    }

    /// Nothing, for `CONSUMER.UNPIN`.
    Empty = "server.ApiResponse" {}

    /// `DELETE` and others that only succeed.
    Success = "server.JSApiStreamDeleteResponse" {
        /// True.
        success: bool ["success", omitempty],
    }

    /// `STREAM.CREATE`
    StreamCreated = "server.JSApiStreamCreateResponse" {
        /// The stream.
        info: StreamInfo [flatten],
        /// True, even if the stream was there before.
        did_create: bool ["did_create", omitempty],
    }

    /// `STREAM.INFO`. The page is about `state.subjects` and all zero without them.
    StreamInfoPage = "server.JSApiStreamInfoResponse" {
        /// Where the page stands.
        page: Page [flatten],
        /// The stream.
        info: StreamInfo [flatten],
    }

    /// `STREAM.NAMES`
    StreamNames = "server.JSApiStreamNamesResponse" {
        /// Where the page stands.
        page: Page [flatten],
        /// The names; `None` is `null`, which is how nats-server says that there are none.
        streams: Option<Vec<String>> ["streams"],
    }

    /// `STREAM.LIST`
    StreamList = "server.JSApiStreamListResponse" {
        /// Where the page stands.
        page: Page [flatten],
        /// The streams.
        streams: Vec<StreamInfo> ["streams", "[]*server.StreamInfo"],
        /// Streams that did not answer.
        missing: Vec<String> ["missing", omitempty],
        /// Streams that are there but not served, and why.
        offline: BTreeMap<String, String> ["offline", omitempty],
    }

    /// `STREAM.PURGE`
    Purged = "server.JSApiStreamPurgeResponse" {
        /// True.
        success: bool ["success", omitempty],
        /// Messages that were removed.
        purged: u64 ["purged"],
    }

    /// `STREAM.MSG.GET`
    Message = "server.JSApiMsgGetResponse" {
        /// The message.
        message: Option<StoredMessage> ["message", omitempty],
    }

    /// `STREAM.SNAPSHOT`
    SnapshotStarted = "server.JSApiStreamSnapshotResponse" {
        /// The stream.
        config: Option<Box<StreamConfig>> ["config", omitempty],
        /// What it holds.
        state: Option<Box<StreamState>> ["state", omitempty],
    }

    /// `STREAM.RESTORE`
    RestoreStarted = "server.JSApiStreamRestoreResponse" {
        /// Where the chunks go.
        deliver_subject: String ["deliver_subject"],
    }

    /// `CONSUMER.NAMES`
    ConsumerNames = "server.JSApiConsumerNamesResponse" {
        /// Where the page stands.
        page: Page [flatten],
        /// The names.
        consumers: Vec<String> ["consumers"],
    }

    /// `CONSUMER.LIST`
    ConsumerList = "server.JSApiConsumerListResponse" {
        /// Where the page stands.
        page: Page [flatten],
        /// The consumers.
        consumers: Vec<ConsumerInfo> ["consumers", "[]*server.ConsumerInfo"],
        /// Consumers that did not answer.
        missing: Vec<String> ["missing", omitempty],
        /// Consumers that are there but not served, and why.
        offline: BTreeMap<String, String> ["offline", omitempty],
    }

    /// `CONSUMER.PAUSE`
    Paused = "server.JSApiConsumerPauseResponse" {
        /// Whether it is paused now.
        paused: bool ["paused"],
        /// Until when.
        pause_until: Timestamp ["pause_until"],
        /// For how long, in nanoseconds.
        pause_remaining_ns: i64 ["pause_remaining", "time.Duration", omitempty],
    }

    /// `CONSUMER.RESET`
    ConsumerReset = "server.JSApiConsumerResetResponse" {
        /// The consumer.
        info: ConsumerInfo [flatten],
        /// Where it starts again.
        reset_seq: u64 ["reset_seq"],
    }

    /// `META.RESCUE`
    MetaRescued = "server.JSApiMetaRescueResponse" {
        /// Name of the server.
        server: String ["server"],
        /// Id of the server.
        server_id: String ["server_id"],
        /// Votes that were needed.
        prev_quorum: i64 ["prev_quorum", "int", omitempty],
        /// Votes that are needed now.
        new_quorum: i64 ["new_quorum", "int", omitempty],
    }

    /// `ACCOUNT.PURGE`
    AccountPurged = "server.JSApiAccountPurgeResponse" {
        /// It has begun.
        initiated: bool ["initiated", omitempty],
    }
}
