//! What a stream says about itself.

use std::collections::BTreeMap;

use wire::api::config::StreamConfig;
use wire::api::errors::ApiError;
use wire::api::info::{LostData, StreamInfo, StreamState};
use wire::api::requests::StreamInfoRequest;
use wire::api::responses::{Page, StreamInfoPage};
use wire::api::timestamp::Timestamp;

use super::index_name::short_hash;
use super::{Stream, level};
use crate::context::Context;

/// Subjects of one page of details.
pub const SUBJECTS_PAGE: usize = 100_000;
/// Lost sequences that are named one by one; of more only the first are.
const LOST_MAX: usize = 1000;

/// What the owner of a stream adds to what it says about itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct InfoFacts<'a> {
    /// Version of the server.
    pub version: &'a str,
    /// Consumers.
    pub consumers: usize,
    /// Ranges of sequences that damage took.
    pub lost: &'a [(u64, u64)],
}

fn timestamp(ns: Option<i64>) -> Timestamp {
    ns.map_or(Timestamp::ZERO, Timestamp)
}

/// The messages that damage took. How many bytes they had is not known.
fn lost_data(ranges: &[(u64, u64)]) -> Option<LostData> {
    let all = ranges.iter().flat_map(|(from, to)| *from..=*to);
    let msgs: Vec<u64> = all.take(LOST_MAX).collect();
    (!msgs.is_empty()).then_some(LostData { msgs, bytes: 0 })
}

impl Stream {
    /// What the stream holds, and what damage took of it: ranges of sequences.
    pub(super) fn state_with_lost(&self, consumers: usize, lost: &[(u64, u64)]) -> StreamState {
        StreamState { lost: lost_data(lost), ..self.state(consumers) }
    }

    /// What the stream holds, without details.
    #[must_use]
    pub fn state(&self, consumers: usize) -> StreamState {
        let state = self.store.state();
        StreamState {
            messages: state.messages,
            bytes: state.bytes,
            first_seq: state.first_seq,
            first_ts: timestamp(state.first_ts_ns),
            last_seq: state.last_seq,
            last_ts: timestamp(state.last_ts_ns),
            num_subjects: i64::try_from(state.subjects).unwrap_or(i64::MAX),
            num_deleted: i64::try_from(state.deleted).unwrap_or(i64::MAX),
            consumer_count: i64::try_from(consumers).unwrap_or(i64::MAX),
            ..StreamState::default()
        }
    }

    /// Which incarnation of its name the stream is: a hash of when it was made. The answers to
    /// requests for direct consumers carry it as `Nats-Stream-Identity`, and a request that
    /// names another one is refused with error 10225.
    #[must_use]
    pub fn identity(&self) -> String {
        short_hash(&Timestamp(self.created_unix_ns).to_string())
    }

    /// The configuration as answers show it.
    #[must_use]
    pub fn shown_config(&self, version: &str) -> StreamConfig {
        let mut config = self.config().clone();
        level::show(&mut config.metadata, version);
        config
    }

    /// The stream as the answers to create, update and list show it.
    #[must_use]
    pub fn info(&self, facts: &InfoFacts<'_>, ctx: &Context<'_>) -> StreamInfo {
        StreamInfo {
            config: self.shown_config(facts.version),
            created: Timestamp(self.created_unix_ns),
            state: self.state_with_lost(facts.consumers, facts.lost),
            domain: self.id.domain.to_string(),
            mirror: self.mirror_info(ctx.mono_ns),
            sources: self.sources_info(ctx.mono_ns),
            ts: Timestamp(ctx.unix_ns),
            ..StreamInfo::default()
        }
    }

    /// `STREAM.INFO`, without the facts about cluster and alternates.
    ///
    /// # Errors
    ///
    /// The error for the client.
    pub fn info_page(
        &self,
        request: &StreamInfoRequest,
        facts: &InfoFacts<'_>,
        ctx: &Context<'_>,
    ) -> Result<StreamInfoPage, ApiError> {
        let mut page = StreamInfoPage { page: Page::default(), info: self.info(facts, ctx) };
        if request.deleted_details {
            for (from, to) in self.store.deleted() {
                page.info.state.deleted.extend(from..=to);
            }
        }
        if !request.subjects_filter.is_empty() {
            let offset = usize::try_from(request.offset.max(0)).unwrap_or(usize::MAX);
            let (total, subjects) = self.subjects_page(request.subjects_filter.as_bytes(), offset);
            if total == 0 {
                return Ok(page);
            }
            page.page.total = i64::try_from(total).unwrap_or(i64::MAX);
            page.page.offset = request.offset.max(0);
            page.page.limit = SUBJECTS_PAGE as i64;
            page.info.state.subjects = subjects;
        }
        Ok(page)
    }

    /// How many subjects match, and those behind `offset` in order, with their messages.
    fn subjects_page(&self, pattern: &[u8], offset: usize) -> (usize, BTreeMap<String, u64>) {
        let mut all: Vec<(&[u8], u64)> =
            self.store.subjects(pattern).map(|(name, state)| (name, state.count)).collect();
        let total = all.len();
        if total > SUBJECTS_PAGE || offset > 0 {
            all.sort_unstable();
        }
        let shown = all
            .into_iter()
            .skip(offset)
            .take(SUBJECTS_PAGE)
            .map(|(name, count)| (String::from_utf8_lossy(name).into_owned(), count))
            .collect();
        (total, shown)
    }
}
