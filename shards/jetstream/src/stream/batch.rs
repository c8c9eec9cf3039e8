//! Atomic batches: messages that are put aside until the last one comes, and then stored
//! together or not at all.
//!
//! Until the commit a batch lives in memory alone: nothing was promised but that the message
//! came in. At the commit its messages go into the store as a group, which a crash leaves whole
//! or not at all, and what they replace leaves only behind the last of them.

use std::collections::BTreeMap;

use wire::api::advisory::{AbandonReason, BatchAbandoned, Event, encode_event};
use wire::api::errors::{self, ApiError};
use wire::api::publish::{PubAckExtra, PublishHeaders, parse_digits};
use wire::api::timestamp::Timestamp;
use wire::headers;

use super::draft::{Draft, Refusal};
use super::ingest::{Ingest, Parked, Placed, Publish};
use super::staged::Diff;
use super::{Cx, Stream, level};

/// Bytes of a batch's id at most.
const ID_BYTES_MAX: usize = 64;
/// Bytes of all batches of a stream that wait for their commit, at most.
const STAGED_BYTES_MAX: usize = 512 << 20;

/// How many batches there may be. The defaults are nats-server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Atomic batches of one stream that wait for their commit.
    pub atomic_max: usize,
    /// Fast-ingest batches of one stream.
    pub fast_max: usize,
    /// Messages of an atomic batch.
    pub messages_max: u64,
    /// How long a batch may be quiet, ns.
    pub quiet_ns: u64,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { atomic_max: 50, fast_max: 1000, messages_max: 1000, quiet_ns: 10_000_000_000 }
    }
}

/// A batch that waits for its commit.
#[derive(Debug, Default)]
struct AtomicBatch {
    messages: Vec<Parked>,
    bytes: usize,
    /// When it is given up, monotonic ns.
    deadline_ns: u64,
}

/// The atomic batches of a stream.
#[derive(Debug, Default)]
pub(super) struct AtomicBatches {
    open: BTreeMap<Box<[u8]>, AtomicBatch>,
    bytes: usize,
}

impl AtomicBatches {
    fn take(&mut self, id: &[u8]) -> Option<AtomicBatch> {
        let batch = self.open.remove(id)?;
        self.bytes -= batch.bytes;
        Some(batch)
    }

    fn put(&mut self, id: &[u8], batch: AtomicBatch) {
        self.bytes += batch.bytes;
        self.open.insert(id.into(), batch);
    }

    /// When the first batch is given up, monotonic ns.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        self.open.values().map(|batch| batch.deadline_ns).min()
    }
}

/// How a message of a batch says that it is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    /// It is not.
    No,
    /// It is, and is stored.
    Stored,
    /// It only ends the batch.
    EndOnly,
    /// The header says something else.
    Invalid,
}

impl Commit {
    fn of(found: &PublishHeaders<'_>) -> Self {
        match found.batch_commit {
            None => Self::No,
            Some(b"1") => Self::Stored,
            Some(b"eob") => Self::EndOnly,
            Some(_) => Self::Invalid,
        }
    }
}

/// Why a message of a batch is not taken.
enum Trouble {
    Refused(ApiError),
    /// The batch is given up, and everybody told why if there is a reason for it.
    Abandoned(ApiError, Option<AbandonReason>),
    Pending,
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl Stream {
    /// Atomic batches that wait for their commit.
    #[must_use]
    pub fn atomic_batches(&self) -> usize {
        self.atomic.open.len()
    }

    /// Takes a message of an atomic batch. `None` if a message must come from the disk first;
    /// nothing has changed then.
    pub(super) fn handle_atomic(
        &mut self,
        id: &[u8],
        found: &PublishHeaders<'_>,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Option<Ingest> {
        match self.take_atomic(id, found, publish, cx) {
            Ok(outcome) => Some(outcome),
            Err(Trouble::Pending) => None,
            Err(Trouble::Refused(error)) => {
                self.answer_error(publish.reply, &error, cx.fx);
                Some(Ingest::Refused(error))
            }
            Err(Trouble::Abandoned(error, reason)) => {
                self.atomic.take(id);
                if let Some(reason) = reason {
                    self.tell_abandoned(id, reason, cx);
                }
                self.answer_error(publish.reply, &error, cx.fx);
                Some(Ingest::Refused(error))
            }
        }
    }

    fn take_atomic(
        &mut self,
        id: &[u8],
        found: &PublishHeaders<'_>,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Ingest, Trouble> {
        self.check_room_for(publish, cx)?;
        if !self.config.allow_atomic {
            return Err(errors::ATOMIC_PUBLISH_DISABLED.into());
        }
        if id.len() > ID_BYTES_MAX {
            return Err(errors::ATOMIC_PUBLISH_INVALID_BATCH_ID.into());
        }
        let Some(seq) = found.batch_sequence.and_then(parse_digits) else {
            return Err(errors::ATOMIC_PUBLISH_MISSING_SEQ.into());
        };
        let commit = Commit::of(found);
        let size = if commit == Commit::EndOnly { seq.saturating_sub(1) } else { seq };
        self.check_batch_place(id, seq, size, cx)?;
        if commit == Commit::Invalid {
            return Err(Trouble::Abandoned(errors::ATOMIC_PUBLISH_INVALID_BATCH_COMMIT, None));
        }
        if level::is_too_high(publish.headers) {
            let reason = AbandonReason::Unsupported;
            return Err(Trouble::Abandoned(errors::REQUIRED_API_LEVEL, Some(reason)));
        }
        let present = self.atomic.open.get(id).map_or(0, |batch| batch.messages.len() as u64);
        if present + 1 != seq || (seq == 1 && commit == Commit::EndOnly) {
            let error = errors::ATOMIC_PUBLISH_INCOMPLETE_BATCH;
            return Err(Trouble::Abandoned(error, Some(AbandonReason::Incomplete)));
        }
        let most = self.batch_limits.messages_max;
        if size > most {
            let error = errors::ATOMIC_PUBLISH_TOO_LARGE_BATCH.with(most);
            return Err(Trouble::Abandoned(error, Some(AbandonReason::Large)));
        }
        let staged = Parked::without_level(publish);
        if commit == Commit::No {
            return self.stage(id, staged, publish, cx);
        }
        let mut batch = self.atomic.take(id).unwrap_or_default();
        if commit == Commit::Stored {
            batch.messages.push(staged);
        }
        self.commit_atomic(id, batch, commit, publish.reply, cx)
    }

    /// What every message of a batch must meet before the batch is even looked for.
    pub(super) fn check_room_for(
        &self,
        publish: &Publish<'_>,
        cx: &Cx<'_, '_>,
    ) -> Result<(), ApiError> {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED);
        }
        if cx.room.is_server_full {
            return Err(errors::INSUFFICIENT_RESOURCES);
        }
        let (headers, payload) = (publish.headers.len(), publish.payload.len());
        let cost = self.store.cost(publish.subject.len(), headers, payload);
        if cx.room.account_bytes.is_some_and(|room| cost > room) {
            return Err(errors::ACCOUNT_RESOURCES_EXCEEDED);
        }
        let most = usize::try_from(self.config.max_msg_size).ok();
        if most.is_some_and(|most| headers + payload > most) {
            return Err(errors::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        }
        Ok(())
    }

    /// A batch that is not there yet begins with its first message, if there is room.
    fn check_batch_place(
        &self,
        id: &[u8],
        seq: u64,
        size: u64,
        cx: &Cx<'_, '_>,
    ) -> Result<(), ApiError> {
        if self.atomic.open.contains_key(id) {
            return Ok(());
        }
        if seq != 1 {
            let most = self.batch_limits.messages_max;
            return Err(if size > most {
                errors::ATOMIC_PUBLISH_TOO_LARGE_BATCH.with(most)
            } else {
                errors::ATOMIC_PUBLISH_INCOMPLETE_BATCH
            });
        }
        let is_full = self.atomic.open.len() >= self.batch_limits.atomic_max
            || cx.room.atomic_batches == Some(0);
        if is_full { Err(errors::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT) } else { Ok(()) }
    }

    fn stage(
        &mut self,
        id: &[u8],
        staged: Parked,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Ingest, Trouble> {
        let bytes = staged.bytes();
        if self.atomic.bytes + bytes > STAGED_BYTES_MAX {
            let error = errors::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT;
            return Err(Trouble::Abandoned(error, Some(AbandonReason::Large)));
        }
        let mut batch = self.atomic.take(id).unwrap_or_default();
        batch.messages.push(staged);
        batch.bytes += bytes;
        batch.deadline_ns = cx.ctx.mono_ns.saturating_add(self.batch_limits.quiet_ns);
        self.atomic.put(id, batch);
        if self.answers(publish.reply) {
            cx.fx.publish(self.id.account, publish.reply, b"", b"", b"");
        }
        Ok(Ingest::Waiting)
    }

    fn commit_atomic(
        &mut self,
        id: &[u8],
        mut batch: AtomicBatch,
        commit: Commit,
        reply: &[u8],
        cx: &mut Cx<'_, '_>,
    ) -> Result<Ingest, Trouble> {
        let count = batch.messages.len() as u64;
        let placed = self.place_batch(&batch.messages, commit, cx);
        match placed {
            Ok(last) => {
                let id = String::from_utf8_lossy(id);
                let extra = PubAckExtra { batch: Some((&id, count)), ..PubAckExtra::default() };
                self.answer_stored(reply, last.seq, &extra, cx.fx);
                Ok(Ingest::Committed(last.seq))
            }
            Err(Refusal::Pending) => {
                // As it was before this message, which comes again.
                if commit == Commit::Stored {
                    batch.messages.pop();
                }
                if !batch.messages.is_empty() {
                    self.atomic.put(id, batch);
                }
                Err(Trouble::Pending)
            }
            Err(Refusal::Error(error)) => Err(Trouble::Refused(error)),
            Err(Refusal::Duplicate(_)) => {
                Err(Trouble::Refused(errors::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE))
            }
        }
    }

    /// Checks all messages of a batch, then stores them all.
    fn place_batch(
        &mut self,
        messages: &[Parked],
        commit: Commit,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Placed, Refusal> {
        let mut subjects = Vec::with_capacity(messages.len());
        for message in messages {
            let mut renamed = Vec::new();
            subjects.push(self.rename(message.publish().subject, &mut renamed, cx).to_vec());
        }
        let mut diff = Diff::default();
        let mut drafts = Vec::with_capacity(messages.len());
        for (message, subject) in messages.iter().zip(&subjects) {
            let mut draft = Draft::new(&message.publish(), subject);
            if draft.found.expected_last_msg_id.is_some() {
                return Err(errors::ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH
                    .with("Nats-Expected-Last-Msg-Id")
                    .into());
            }
            self.check_staged(&mut diff, &mut draft, cx)?;
            drafts.push(draft);
        }
        if commit == Commit::EndOnly
            && let Some(last) = drafts.last_mut()
        {
            headers::set(last.block_mut(), b"Nats-Batch-Commit", b"1");
        }
        self.place_all(&mut drafts, cx)
    }

    /// Stores checked messages together.
    fn place_all(
        &mut self,
        drafts: &mut [Draft<'_>],
        cx: &mut Cx<'_, '_>,
    ) -> Result<Placed, Refusal> {
        let first = self.store.last_seq() + 1;
        let mut placed = Vec::with_capacity(drafts.len());
        // Sequences that are only used up cannot stand in a group.
        if drafts.iter().all(|draft| !self.lacks_interest(draft.subject)) {
            let bytes = drafts
                .iter()
                .map(|draft| draft.subject.len() + draft.block().len() + draft.payload().len())
                .sum();
            self.store.reserve_group(bytes, drafts.len());
            let before_last = drafts.len().saturating_sub(1);
            drafts.iter_mut().take(before_last).for_each(|draft| draft.more = true);
        }
        for draft in drafts.iter_mut() {
            match self.place_only(draft, cx) {
                Ok(done) => placed.push(done),
                Err(refusal) => {
                    for seq in first..=self.store.last_seq() {
                        self.take_out(seq);
                    }
                    return Err(refusal);
                }
            }
        }
        let mut last =
            Placed { seq: self.store.last_seq(), is_skipped: true, before: 0, stored_ns: 0 };
        for (draft, done) in drafts.iter().zip(placed) {
            self.settle(draft, &done, cx);
            last = done;
        }
        Ok(last)
    }

    /// Gives up the batches that have been quiet for too long.
    pub(super) fn expire_batches(&mut self, cx: &mut Cx<'_, '_>) {
        let now_ns = cx.ctx.mono_ns;
        let late: Vec<Box<[u8]>> = self
            .atomic
            .open
            .iter()
            .filter(|(_, batch)| batch.deadline_ns <= now_ns)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.atomic.take(&id);
            self.tell_abandoned(&id, AbandonReason::Timeout, cx);
        }
    }

    /// Forgets batches that are no longer allowed.
    pub(super) fn drop_batches(&mut self) {
        if !self.config.allow_atomic {
            self.atomic = AtomicBatches::default();
        }
        if !self.config.allow_batched {
            self.fast = super::fast::FastBatches::default();
        }
    }

    fn tell_abandoned(&self, id: &[u8], reason: AbandonReason, cx: &mut Cx<'_, '_>) {
        let event = BatchAbandoned {
            account: String::new(),
            stream: self.config.name.clone(),
            domain: self.id.domain.to_string(),
            batch: String::from_utf8_lossy(id).into_owned(),
            reason,
        };
        let body = encode_event(&cx.ids.next_text(), Timestamp(cx.ctx.unix_ns), &event);
        cx.fx.publish(self.id.account, event.subject().as_bytes(), b"", b"", &body);
    }
}
