//! The `type` of every answer, and the envelope around its body.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::errors::ApiError;
use super::subjects::Call;
use super::value::Fields;
use crate::json;

/// Declares the types: name, last part of the type string, and the fields that stand behind an
/// error because nats-server never leaves them out.
macro_rules! response_types {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $zero:literal;)*) => {
        /// What an answer is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ResponseType {
            $($(#[$meta])* $name,)*
        }

        impl ResponseType {
            /// All types.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The value of `type`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("io.nats.jetstream.api.v1.", $text),)*
                }
            }

            /// What stands behind an error.
            const fn zero_body(self) -> &'static str {
                match self {
                    $(Self::$name => $zero,)*
                }
            }
        }
    };
}

response_types! {
    /// To a request that nobody knows.
    System = "system_response", "";
    /// To a request for which there was no room.
    Overloaded = "system_overloaded", "";
    /// `INFO`
    AccountInfo = "account_info_response", "";
    /// `STREAM.CREATE`, and the end of a restore.
    StreamCreate = "stream_create_response", "";
    /// `STREAM.UPDATE`, `ACCOUNT.STREAM.*`
    StreamUpdate = "stream_update_response", "";
    /// `STREAM.INFO`
    StreamInfo = "stream_info_response", r#","total":0,"offset":0,"limit":0"#;
    /// `STREAM.DELETE`
    StreamDelete = "stream_delete_response", "";
    /// `STREAM.PURGE`
    StreamPurge = "stream_purge_response", r#","purged":0"#;
    /// `STREAM.NAMES`
    StreamNames = "stream_names_response", r#","total":0,"offset":0,"limit":0,"streams":null"#;
    /// `STREAM.LIST`
    StreamList = "stream_list_response", r#","total":0,"offset":0,"limit":0,"streams":[]"#;
    /// `STREAM.MSG.GET`
    MsgGet = "stream_msg_get_response", "";
    /// `STREAM.MSG.DELETE`
    MsgDelete = "stream_msg_delete_response", "";
    /// `STREAM.SNAPSHOT`
    StreamSnapshot = "stream_snapshot_response", "";
    /// `STREAM.RESTORE`
    StreamRestore = "stream_restore_response", r#","deliver_subject":"""#;
    /// `STREAM.LEADER.STEPDOWN`
    StreamLeaderStepdown = "stream_leader_stepdown_response", "";
    /// `STREAM.PEER.REMOVE`
    StreamPeerRemove = "stream_remove_peer_response", "";
    /// `STREAM.PEER.EVACUATE`
    StreamPeerEvacuate = "stream_evacuate_peer_response", "";
    /// `STREAM.CANCEL_MOVE`
    StreamCancelMove = "stream_cancel_move_response", "";
    /// `CONSUMER.CREATE`
    ConsumerCreate = "consumer_create_response", "";
    /// `CONSUMER.NAMES`
    ConsumerNames = "consumer_names_response",
        r#","total":0,"offset":0,"limit":0,"consumers":[]"#;
    /// `CONSUMER.LIST`
    ConsumerList = "consumer_list_response", r#","total":0,"offset":0,"limit":0,"consumers":[]"#;
    /// `CONSUMER.INFO`
    ConsumerInfo = "consumer_info_response", "";
    /// `CONSUMER.DELETE`
    ConsumerDelete = "consumer_delete_response", "";
    /// `CONSUMER.PAUSE`
    ConsumerPause = "consumer_pause_response",
        r#","paused":false,"pause_until":"0001-01-01T00:00:00Z""#;
    /// `CONSUMER.UNPIN`
    ConsumerUnpin = "consumer_unpin_response", "";
    /// `CONSUMER.RESET`
    ConsumerReset = "consumer_reset_response", r#","reset_seq":0"#;
    /// `CONSUMER.LEADER.STEPDOWN`
    ConsumerLeaderStepdown = "consumer_leader_stepdown_response", "";
    /// `CONSUMER.PEER.REMOVE`
    ConsumerPeerRemove = "consumer_remove_peer_response", "";
    /// `CONSUMER.PEER.EVACUATE`
    ConsumerPeerEvacuate = "consumer_evacuate_peer_response", "";
    /// `META.LEADER.STEPDOWN`
    MetaLeaderStepdown = "meta_leader_stepdown_response", "";
    /// `META.RESCUE`
    MetaRescue = "meta_rescue_response", r#","server":"","server_id":"""#;
    /// `SERVER.REMOVE`
    ServerRemove = "meta_server_remove_response", "";
    /// `SERVER.EVACUATE`
    ServerEvacuate = "meta_server_evacuate_response", "";
    /// `ACCOUNT.PURGE`
    AccountPurge = "account_purge_response", "";
}

impl ResponseType {
    /// The type of the answer to a request. Direct reads and pull requests are answered with
    /// messages and have none.
    pub const fn of(call: &Call<'_>) -> Option<Self> {
        Some(match call {
            Call::AccountInfo => Self::AccountInfo,
            Call::StreamNames => Self::StreamNames,
            Call::StreamList => Self::StreamList,
            Call::StreamCreate { .. } => Self::StreamCreate,
            Call::StreamUpdate { .. } | Call::StreamMove { .. } | Call::StreamMoveCancel { .. } => {
                Self::StreamUpdate
            }
            Call::StreamInfo { .. } => Self::StreamInfo,
            Call::StreamDelete { .. } => Self::StreamDelete,
            Call::StreamPurge { .. } => Self::StreamPurge,
            Call::StreamSnapshot { .. } => Self::StreamSnapshot,
            Call::StreamRestore { .. } => Self::StreamRestore,
            Call::MsgGet { .. } => Self::MsgGet,
            Call::MsgDelete { .. } => Self::MsgDelete,
            Call::StreamLeaderStepdown { .. } => Self::StreamLeaderStepdown,
            Call::StreamPeerRemove { .. } => Self::StreamPeerRemove,
            Call::StreamPeerEvacuate { .. } => Self::StreamPeerEvacuate,
            Call::StreamCancelMove { .. } => Self::StreamCancelMove,
            Call::ConsumerCreate { .. } | Call::ConsumerDurableCreate { .. } => {
                Self::ConsumerCreate
            }
            Call::ConsumerNames { .. } => Self::ConsumerNames,
            Call::ConsumerList { .. } => Self::ConsumerList,
            Call::ConsumerInfo { .. } => Self::ConsumerInfo,
            Call::ConsumerDelete { .. } => Self::ConsumerDelete,
            Call::ConsumerPause { .. } => Self::ConsumerPause,
            Call::ConsumerUnpin { .. } => Self::ConsumerUnpin,
            Call::ConsumerReset { .. } => Self::ConsumerReset,
            Call::ConsumerLeaderStepdown { .. } => Self::ConsumerLeaderStepdown,
            Call::ConsumerPeerRemove { .. } => Self::ConsumerPeerRemove,
            Call::ConsumerPeerEvacuate { .. } => Self::ConsumerPeerEvacuate,
            Call::MetaLeaderStepdown => Self::MetaLeaderStepdown,
            Call::MetaRescue => Self::MetaRescue,
            Call::ServerRemove => Self::ServerRemove,
            Call::ServerEvacuate => Self::ServerEvacuate,
            Call::AccountPurge { .. } => Self::AccountPurge,
            Call::DirectGet { .. } | Call::DirectGetLast { .. } | Call::ConsumerNext { .. } => {
                return None;
            }
        })
    }
}

/// A body with its type in front.
struct Envelope<'a, T> {
    kind: ResponseType,
    body: &'a T,
}

impl<T: Fields> Serialize for Envelope<'_, T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut out = out.serialize_struct("Envelope", 1)?;
        out.serialize_field("type", self.kind.as_str())?;
        self.body.write(&mut out)?;
        out.end()
    }
}

/// The bytes of an answer.
pub fn encode_response<T: Fields>(kind: ResponseType, body: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    json::push(&mut out, &Envelope { kind, body });
    out
}

/// The bytes of an answer that is an error.
pub fn encode_error(kind: ResponseType, error: &ApiError) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"error\":");
    json::push(&mut out, error);
    out.extend_from_slice(kind.zero_body().as_bytes());
    out.push(b'}');
    out
}
