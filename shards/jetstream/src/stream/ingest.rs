//! Publishes to the subjects of a stream: from the wire into the store and to the answer.

use store::{AppendError, NewMessage};
use wire::api::errors::{self, ApiError};
use wire::api::publish::{PubAckExtra, PublishHeaders, Ttl, parse_ttl};
use wire::headers;
use wire::subject;

use super::draft::{Draft, Refusal, Rollup};
use super::level::REQUIRED_LEVEL_HEADER;
use super::{Cx, Stream, UNDURABLE_BYTES_MAX};
use crate::effect::Outgoing;

const SECOND_NS: i64 = 1_000_000_000;

/// A message that came for a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// As published.
    pub subject: &'a [u8],
    /// Where the answer goes; may be empty.
    pub reply: &'a [u8],
    /// Header block without a status, or empty.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// It comes from a source, which has checked it.
    pub is_sourced: bool,
}

/// What came of a publish.
#[derive(Clone, Debug, PartialEq)]
pub enum Ingest {
    /// It is stored with this sequence; consumers may look. Limits may have taken it out again.
    Stored(u64),
    /// A batch was stored, up to this sequence.
    Committed(u64),
    /// It has a sequence but is not kept, since no consumer is interested.
    Skipped(u64),
    /// It was stored before, with this sequence.
    Duplicate(u64),
    /// It was refused, and the publisher told.
    Refused(ApiError),
    /// It waits: in a batch, or behind a message that comes from the disk.
    Waiting,
}

/// A publish that waits for the disk.
#[derive(Debug)]
pub(super) struct Parked {
    subject: Box<[u8]>,
    reply: Box<[u8]>,
    headers: Box<[u8]>,
    payload: Box<[u8]>,
    is_sourced: bool,
}

impl Parked {
    fn new(publish: &Publish<'_>) -> Self {
        Self {
            subject: publish.subject.into(),
            reply: publish.reply.into(),
            headers: publish.headers.into(),
            payload: publish.payload.into(),
            is_sourced: publish.is_sourced,
        }
    }

    /// As [`Self::new`], without the header by which a publish asks for an API level.
    pub(super) fn without_level(publish: &Publish<'_>) -> Self {
        let mut parked = Self::new(publish);
        if headers::get(publish.headers, REQUIRED_LEVEL_HEADER).is_some() {
            let mut block = publish.headers.to_vec();
            headers::remove(&mut block, REQUIRED_LEVEL_HEADER);
            parked.headers = block.into();
        }
        parked
    }

    pub(super) fn publish(&self) -> Publish<'_> {
        Publish {
            subject: &self.subject,
            reply: &self.reply,
            headers: &self.headers,
            payload: &self.payload,
            is_sourced: self.is_sourced,
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.subject.len() + self.reply.len() + self.headers.len() + self.payload.len()
    }
}

/// How a message went into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) seq: u64,
    /// Nobody is interested: only the sequence was used up.
    pub(super) is_skipped: bool,
    /// The newest message of the subject before, if republishing needs it.
    pub(super) before: u64,
    /// When it was stored, ns since 1970.
    pub(super) stored_ns: i64,
}

impl Stream {
    /// Takes a publish in, answers it or has it wait.
    pub fn handle_publish(&mut self, publish: &Publish<'_>, cx: &mut Cx<'_, '_>) -> Ingest {
        // A status is for the way, and not stored.
        if publish.headers.starts_with(b"NATS/1.0 ") {
            let block = without_status(publish.headers);
            return self.handle_plain(&Publish { headers: &block, ..*publish }, cx);
        }
        self.handle_plain(publish, cx)
    }

    fn handle_plain(&mut self, publish: &Publish<'_>, cx: &mut Cx<'_, '_>) -> Ingest {
        if self.acks.is_full(self.buffered_messages_max) || self.is_parking_full() {
            self.answer_too_many(publish.reply, cx.fx);
            return Ingest::Refused(errors::STREAM_TOO_MANY_REQUESTS);
        }
        if self.parked.is_empty()
            && let Some(outcome) = self.try_publish(publish, cx)
        {
            return outcome;
        }
        let parked = Parked::new(publish);
        self.parked_bytes += parked.bytes();
        self.parked.push_back(parked);
        Ingest::Waiting
    }

    fn is_parking_full(&self) -> bool {
        self.parked.len() >= self.buffered_messages_max || self.parked_bytes >= UNDURABLE_BYTES_MAX
    }

    /// Reads have come in: publishes that waited for one are tried again, in order, and each
    /// outcome is given to `told`.
    pub fn handle_read_ready(&mut self, cx: &mut Cx<'_, '_>, told: &mut dyn FnMut(Ingest)) {
        while let Some(parked) = self.parked.pop_front() {
            match self.try_publish(&parked.publish(), cx) {
                Some(outcome) => {
                    self.parked_bytes -= parked.bytes();
                    told(outcome);
                }
                None => {
                    self.parked.push_front(parked);
                    break;
                }
            }
        }
        if self.is_reading {
            self.handle_timers(cx);
        }
    }

    /// `None` if a message must be read from the disk first.
    fn try_publish(&mut self, publish: &Publish<'_>, cx: &mut Cx<'_, '_>) -> Option<Ingest> {
        if super::fast::is_fast(publish.reply) && !publish.is_sourced {
            return self.handle_fast(publish, cx);
        }
        let found = if publish.headers.is_empty() {
            PublishHeaders::default()
        } else {
            PublishHeaders::parse(publish.headers)
        };
        if found.msg_id.is_some() {
            self.window.expire(cx.ctx.unix_ns.saturating_sub(self.config.duplicate_window_ns));
        }
        if let Some(id) = found.batch_id.filter(|_| !publish.is_sourced) {
            return self.handle_atomic(id, &found, publish, cx);
        }
        let mut renamed = Vec::new();
        let subject = self.rename(publish.subject, &mut renamed, cx);
        let mut draft = Draft::with_found(publish, subject, found);
        let placed = self.check_single(&mut draft, cx).and_then(|()| self.place(&mut draft, cx));
        match placed {
            Ok(placed) => {
                let extra = PubAckExtra { value: draft.value.as_deref(), ..PubAckExtra::default() };
                self.answer_stored(publish.reply, placed.seq, &extra, cx.fx);
                Some(if placed.is_skipped {
                    Ingest::Skipped(placed.seq)
                } else {
                    Ingest::Stored(placed.seq)
                })
            }
            Err(Refusal::Pending) => None,
            Err(Refusal::Duplicate(seq)) => {
                let extra = PubAckExtra { duplicate: true, ..PubAckExtra::default() };
                self.answer_stored(publish.reply, seq, &extra, cx.fx);
                Some(Ingest::Duplicate(seq))
            }
            Err(Refusal::Error(error)) => {
                self.answer_error(publish.reply, &error, cx.fx);
                Some(Ingest::Refused(error))
            }
        }
    }

    /// The subject under which a message is stored.
    pub(super) fn rename<'a>(
        &self,
        subject: &'a [u8],
        renamed: &'a mut Vec<u8>,
        cx: &Cx<'_, '_>,
    ) -> &'a [u8] {
        let Some(input) = &self.input else { return subject };
        renamed.clear();
        if input.apply(subject, renamed, mixed(self.store.last_seq(), cx.ctx.mono_ns)) {
            renamed
        } else {
            subject
        }
    }

    /// Stores a checked message, with all that follows from it but the answer.
    pub(super) fn place(
        &mut self,
        draft: &mut Draft<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Placed, Refusal> {
        let placed = self.place_only(draft, cx)?;
        self.settle(draft, &placed, cx);
        Ok(placed)
    }

    /// Stores a checked message and nothing else. [`Self::settle`] must follow.
    pub(super) fn place_only(
        &mut self,
        draft: &mut Draft<'_>,
        cx: &Cx<'_, '_>,
    ) -> Result<Placed, Refusal> {
        if cx.room.is_server_full {
            return Err(errors::INSUFFICIENT_RESOURCES.into());
        }
        let next = self.store.last_seq().saturating_add(1);
        let (seq, stored_ns) = draft.at.unwrap_or((next, cx.ctx.unix_ns));
        if self.lacks_interest(draft.subject) {
            self.store.skip_at(seq, stored_ns).map_err(|e| Refusal::Error(append_error(e)))?;
            self.remember_id(draft.found.msg_id, seq, stored_ns);
            return Ok(Placed { seq, is_skipped: true, before: 0, stored_ns });
        }
        let cost = self.store.cost(draft.subject.len(), draft.block().len(), draft.payload().len());
        if cx.room.account_bytes.is_some_and(|room| cost > room) {
            return Err(errors::ACCOUNT_RESOURCES_EXCEEDED.into());
        }
        let expires_ns = self.settle_ttl(draft, stored_ns)?;
        self.check_limits(draft, cost)?;
        let before = self.republish.as_ref().and_then(|_| self.store.last_for(draft.subject));
        let message = NewMessage {
            subject: draft.subject,
            headers: draft.block(),
            payload: draft.payload(),
            ts_ns: stored_ns,
            expires_ns,
            has_msg_id: draft.found.msg_id.is_some(),
        };
        let stored = if draft.more {
            self.store.append_grouped(&message, true).map(|_| ())
        } else {
            self.store.append_at(seq, &message)
        };
        stored.map_err(|error| Refusal::Error(append_error(error)))?;
        self.remember_id(draft.found.msg_id, seq, stored_ns);
        if self.store.durable_seq() < seq {
            self.acks.count(seq, usize::try_from(cost).unwrap_or(usize::MAX));
        }
        Ok(Placed { seq, is_skipped: false, before: before.unwrap_or(0), stored_ns })
    }

    /// What follows from a stored message: it takes the place of others, and goes out again.
    pub(super) fn settle(&mut self, draft: &Draft<'_>, placed: &Placed, cx: &mut Cx<'_, '_>) {
        self.apply_rollup(draft, placed.seq);
        if !placed.is_skipped {
            self.note_schedule(draft, placed.seq, cx);
            self.enforce_limits_for(draft.subject);
            self.send_republish(draft, placed, cx);
        }
    }

    /// When the message goes by itself. A life shorter than that of delete markers is made
    /// longer, or a marker could be missed.
    fn settle_ttl(&self, draft: &mut Draft<'_>, stored_ns: i64) -> Result<Option<i64>, Refusal> {
        let Some(text) = draft.found.ttl else { return Ok(None) };
        let Some(ttl) = parse_ttl(text) else {
            return Err(errors::MESSAGE_TTL_INVALID.into());
        };
        if !self.config.allow_msg_ttl {
            return Ok(None);
        }
        let Ttl::Seconds(seconds) = ttl else { return Ok(None) };
        let mut seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        if seconds == 0 {
            return Ok(None);
        }
        let least = self.config.subject_delete_marker_ttl_ns / SECOND_NS;
        if seconds < least && self.config.max_msgs_per_subject != 1 {
            seconds = least;
            headers::set(draft.block_mut(), b"Nats-TTL", seconds.to_string().as_bytes());
        }
        Ok(Some(stored_ns.saturating_add(seconds.saturating_mul(SECOND_NS))))
    }

    fn remember_id(&mut self, id: Option<&[u8]>, seq: u64, stored_ns: i64) {
        self.last_msg_id.clear();
        let Some(id) = id else { return };
        self.last_msg_id.extend_from_slice(id);
        if self.config.duplicate_window_ns > 0 {
            self.window.insert(id, seq, stored_ns);
        }
    }

    /// Removes what the message takes the place of.
    fn apply_rollup(&mut self, draft: &Draft<'_>, seq: u64) {
        if !self.allows_rollup() {
            return;
        }
        match draft.rollup {
            Some(Rollup::Subject) => self.purge_subject_below(draft.subject, seq),
            Some(Rollup::All) => self.purge_below(seq),
            None => {}
        }
        if draft.found.schedule_next == Some(b"purge")
            && let Some(scheduler) = draft.found.scheduler
        {
            self.purge_subject_below(scheduler, u64::MAX);
        }
    }

    /// Publishes a stored message again, under its other subject.
    fn send_republish(&mut self, draft: &Draft<'_>, placed: &Placed, cx: &mut Cx<'_, '_>) {
        let Some(transform) = &self.republish else { return };
        let (seq, stored_ns) = (placed.seq, placed.stored_ns);
        let mut to = Vec::new();
        if !transform.apply(draft.subject, &mut to, mixed(seq, cx.ctx.mono_ns))
            || !subject::is_valid_publish(&to)
        {
            return;
        }
        let is_bare = self.config.republish.as_ref().is_some_and(|to| to.headers_only);
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        super::answer::push_open_block(&mut block, draft.block());
        super::answer::push_facts(&mut block, &self.config.name, draft.subject, seq, stored_ns);
        super::answer::push_number(&mut block, "Nats-Last-Sequence", placed.before);
        if is_bare {
            super::answer::push_number(&mut block, "Nats-Msg-Size", draft.payload().len() as u64);
        }
        block.extend_from_slice(b"\r\n");
        cx.fx.deliver(&Outgoing {
            account: self.id.account,
            to: &to,
            subject: &to,
            reply: b"",
            headers: &block,
            payload: if is_bare { b"" } else { draft.payload() },
        });
        self.scratch = block;
    }
}

/// The headers of a block that has a status; empty if there are none.
fn without_status(block: &[u8]) -> Vec<u8> {
    let end = memchr::memmem::find(block, b"\r\n").unwrap_or(block.len());
    let rest = block.get(end..).unwrap_or_default();
    if rest.len() <= b"\r\n\r\n".len() {
        return Vec::new();
    }
    [headers::VERSION, rest].concat()
}

/// A number for `{{random}}` in transforms: well mixed, and another for each message.
pub(super) fn mixed(seq: u64, mono_ns: u64) -> u64 {
    let mut z = seq.wrapping_add(mono_ns).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}

/// What a publisher is told when the store does not take a message.
pub(super) fn append_error(error: AppendError) -> ApiError {
    match error {
        AppendError::NoSpace | AppendError::Fenced => errors::INSUFFICIENT_RESOURCES,
        AppendError::Busy => errors::STREAM_TOO_MANY_REQUESTS,
        AppendError::TooLarge | AppendError::SubjectTooLong => {
            errors::STREAM_STORE_FAILED.with("message too large")
        }
        AppendError::Sequence => errors::STREAM_STORE_FAILED.with(error),
    }
}
