//! One stream at its home shard: which messages it takes, keeps and gives away.
//!
//! ```text
//!  publish ─► checks ─► store ─► limits ─► ack queue ─► (durable) ─► Effects
//!      │         │         └──► republish
//!      │         └► refused: error to the reply
//!      ├─► atomic and fast batches      requests: get, direct get, purge, delete, info
//!      └─► parked while a message that a check needs comes from the disk
//! ```

mod acks;
mod answer;
#[cfg(test)]
mod backup_tests;
pub mod batch;
mod checks;
pub mod config;
mod config_sources;
#[cfg(test)]
mod config_tests;
pub mod config_update;
pub mod counter;
pub mod dedup;
mod draft;
#[cfg(test)]
mod durable_tests;
mod fast;
mod feed;
mod feed_messages;
pub mod feed_positions;
mod feed_request;
#[cfg(test)]
mod feed_tests;
pub mod index_name;
pub mod info;
mod ingest;
pub mod level;
mod lifecycle;
mod limits;
pub mod purge;
pub mod reads;
#[cfg(test)]
mod replay_tests;
pub mod restore;
mod retention;
pub mod schedule;
mod snapshot;
mod staged;
mod timers;
#[cfg(test)]
mod timers_tests;

use std::collections::VecDeque;

use store::Store;
use store::cache::Cache;
use wire::api::config::StreamConfig;
use wire::api::policy::{Compression, PersistMode};
use wire::api::publish::pub_ack_prefix;
use wire::nuid::Nuid;
use wire::transform::Transform;

use crate::context::Context;
use crate::effect::Effects;
use crate::removed::Removed;

pub use acks::{UNDURABLE_BYTES_MAX, UNDURABLE_MESSAGES_MAX};
pub use ingest::{Ingest, Publish};
pub use purge::Purged;
pub use reads::Got;

/// What the server and the account have left. The owner adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The server takes nothing more into this kind of storage.
    pub is_server_full: bool,
    /// Bytes that the account may still store; `None` is no limit.
    pub account_bytes: Option<u64>,
    /// Atomic batches that may still begin on the server; `None` is no limit.
    pub atomic_batches: Option<usize>,
    /// Fast-ingest batches that may still begin on the server; `None` is no limit.
    pub fast_batches: Option<usize>,
    /// Bytes of headers and payload at most; 0 is no limit.
    pub payload_bytes_max: usize,
}

/// What a stream works with beside itself.
#[derive(Debug)]
pub struct Cx<'a, 'c> {
    /// The moment.
    pub ctx: &'a Context<'c>,
    /// What must happen.
    pub fx: &'a mut Effects,
    /// Blocks of the shard's stores.
    pub cache: &'a mut Cache,
    /// Source of ids.
    pub ids: &'a mut Nuid,
    /// What may still be stored.
    pub room: Room,
}

/// Who a stream is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Account id.
    pub account: u32,
    /// The account's name, for advisories.
    pub account_name: Box<str>,
    /// The stream's slot on its shard, for [`crate::effect::Endpoint`].
    pub slot: u32,
    /// JetStream domain of the server, may be empty.
    pub domain: Box<str>,
}

/// See the module.
#[derive(Debug)]
pub struct Stream {
    /// Who it is.
    pub id: Identity,
    /// As configured, with defaults.
    config: Box<StreamConfig>,
    /// When it was made, ns since 1970.
    pub created_unix_ns: i64,
    /// The messages.
    pub store: Store,
    /// What has left, for the consumers.
    pub removed: Removed,
    /// The beginning of every acknowledgement.
    ack_prefix: Vec<u8>,
    /// Changes subjects on the way in.
    input: Option<Transform>,
    /// Gives the subject of republished messages.
    republish: Option<Transform>,
    /// Acknowledges before anything is written.
    is_async: bool,
    window: dedup::DedupeWindow,
    /// `Nats-Msg-Id` of the message stored last.
    last_msg_id: Vec<u8>,
    acks: acks::AckQueue,
    /// Publishes behind one that waits for the disk.
    parked: VecDeque<ingest::Parked>,
    parked_bytes: usize,
    atomic: batch::AtomicBatches,
    fast: fast::FastBatches,
    feeds: feed::Feeds,
    snapshots: Vec<snapshot::Snapshot>,
    snapshot_number: u32,
    schedules: schedule::Schedules,
    /// Messages whose life has ended, and that are not out yet.
    overdue: VecDeque<u64>,
    /// What is due waits for the disk.
    is_reading: bool,
    /// Messages that may wait for the disk.
    pub buffered_messages_max: usize,
    /// How many batches there may be.
    pub batch_limits: batch::BatchLimits,
    /// Requests for messages that are not done.
    reads: VecDeque<reads::ReadJob>,
    /// Filters of the consumers, for interest retention.
    interest: retention::InterestTable,
    /// Up to here the message ids are known again after a start.
    recovered_to: u64,
    /// The first message whose age has not been looked at.
    age_cursor: u64,
    /// For rewritten subjects, answers and header blocks.
    scratch: Vec<u8>,
}

impl Stream {
    /// A stream without messages, or one whose messages the store knows already. `config` has
    /// passed the checks.
    #[must_use]
    pub fn new(id: Identity, config: StreamConfig, created_unix_ns: i64, store: Store) -> Self {
        let mut stream = Self {
            ack_prefix: pub_ack_prefix(&config.name, &id.domain),
            id,
            config: Box::default(),
            created_unix_ns,
            store,
            removed: Removed::default(),
            input: None,
            republish: None,
            is_async: false,
            window: dedup::DedupeWindow::default(),
            last_msg_id: Vec::new(),
            acks: acks::AckQueue::default(),
            parked: VecDeque::new(),
            parked_bytes: 0,
            atomic: batch::AtomicBatches::default(),
            fast: fast::FastBatches::default(),
            feeds: feed::Feeds::default(),
            snapshots: Vec::new(),
            snapshot_number: 0,
            schedules: schedule::Schedules::default(),
            overdue: VecDeque::new(),
            is_reading: false,
            buffered_messages_max: UNDURABLE_MESSAGES_MAX,
            batch_limits: batch::BatchLimits::default(),
            reads: VecDeque::new(),
            interest: retention::InterestTable::default(),
            recovered_to: 0,
            age_cursor: 0,
            scratch: Vec::new(),
        };
        stream.set_config(config);
        stream
    }

    /// The configuration, with defaults.
    #[must_use]
    pub const fn config(&self) -> &StreamConfig {
        &self.config
    }

    /// Name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Takes a checked configuration on.
    fn set_config(&mut self, config: StreamConfig) {
        self.is_async = config.persist_mode == PersistMode::Async;
        // Both have been checked; one that cannot be built changes nothing.
        self.input = config
            .subject_transform
            .as_ref()
            .and_then(|change| Transform::new(change.src.as_bytes(), change.dest.as_bytes()).ok());
        self.republish = config.republish.as_ref().and_then(|to| {
            let src = if to.src.is_empty() { ">" } else { &to.src };
            Transform::new(src.as_bytes(), to.dest.as_bytes()).ok()
        });
        self.store.set_compression(config.compression == Compression::S2);
        *self.config = config;
    }

    /// Messages up to `Store::durable_seq` are safe: their publishers get their answers.
    pub fn handle_durable(&mut self, fx: &mut Effects) {
        self.acks.send(self.store.durable_seq(), self.id.account, fx);
        // What waits now would wait for ever.
        if self.store.fenced().is_some() && !self.acks.is_empty() {
            self.handle_store_failed(fx);
        }
    }

    /// The store has failed: publishers whose messages are not safe get an error.
    pub fn handle_store_failed(&mut self, fx: &mut Effects) {
        let mut body = Vec::new();
        let error = wire::api::errors::INSUFFICIENT_RESOURCES;
        wire::api::publish::push_pub_error(&mut body, &self.config.name, &error);
        self.acks.refuse(&body, self.id.account, fx);
    }
}
