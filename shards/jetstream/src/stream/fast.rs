//! Fast-ingest batches: many messages with few answers. The reply subject of each message says
//! where it stands in its batch:
//!
//! ```text
//! <inbox>.<batch id>.<flow>.<ok|fail>.<sequence>.<operation>.$FI
//! ```
//!
//! Every so many messages the client hears how far everything is durable; with `fail` a gap ends
//! the batch, with `ok` it is only reported.

use std::collections::BTreeMap;

use wire::api::errors::{self, ApiError};
use wire::api::publish::{PubAckExtra, parse_digits};
use wire::json;
use wire::subject;

use super::draft::{Draft, Refusal};
use super::ingest::{Ingest, Publish};
use super::staged::Diff;
use super::{Cx, Stream, level};

/// What the reply of every message of a fast batch ends with.
const SUFFIX: &[u8] = b".$FI";
/// Bytes of a batch's id at most.
const ID_BYTES_MAX: usize = 64;
/// Messages between two answers at most, over all batches of a stream.
const FLOW_MAX: u16 = 500;
/// Messages between two answers if the client does not say.
const FLOW_DEFAULT: u16 = 10;

/// What a message does in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Append,
    Commit,
    CommitEnd,
    Ping,
}

/// What a reply subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reply<'a> {
    id: &'a [u8],
    seq: u64,
    flow: u16,
    gap_ok: bool,
    operation: Operation,
}

/// Whether a message belongs to a fast batch.
pub(super) fn is_fast(reply: &[u8]) -> bool {
    reply.len() > SUFFIX.len() && reply.ends_with(SUFFIX)
}

impl<'a> Reply<'a> {
    fn parse(reply: &'a [u8]) -> Option<Self> {
        let rest = reply.strip_suffix(SUFFIX)?;
        let mut tokens = rest.rsplit(|&byte| byte == subject::SEPARATOR);
        let operation = parse_digits(tokens.next()?)?;
        let seq = parse_digits(tokens.next()?).filter(|&seq| seq != 0 && seq != u64::MAX)?;
        let gap_ok = match tokens.next()? {
            b"ok" => true,
            b"fail" => false,
            _ => return None,
        };
        let flow = match parse_digits(tokens.next()?) {
            None | Some(0) => FLOW_DEFAULT,
            Some(flow) => u16::try_from(flow).unwrap_or(u16::MAX),
        };
        let id = tokens.next()?;
        // The inbox.
        tokens.next()?;
        let operation = match operation {
            0 if seq == 1 => Operation::Append,
            1 if seq > 1 => Operation::Append,
            2 => Operation::Commit,
            3 if seq > 1 => Operation::CommitEnd,
            4 => Operation::Ping,
            _ => return None,
        };
        Some(Self { id, seq, flow, gap_ok, operation })
    }
}

/// A batch under way.
#[derive(Clone, Copy, Debug, Default)]
struct FastBatch {
    /// Highest sequence of the batch.
    last: u64,
    /// Up to here all of it is in the stream.
    stored: u64,
    /// Where the last of it is in the stream.
    stream_seq: u64,
    /// Up to here the client has heard.
    told: u64,
    /// Messages between two answers.
    flow: u16,
    /// What the client allows at most.
    flow_max: u16,
    gap_ok: bool,
    /// When it is forgotten, monotonic ns.
    deadline_ns: u64,
}

/// The fast batches of a stream.
#[derive(Debug, Default)]
pub(super) struct FastBatches {
    open: BTreeMap<Box<[u8]>, FastBatch>,
}

impl FastBatches {
    /// When the first batch is forgotten, monotonic ns.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        self.open.values().map(|batch| batch.deadline_ns).min()
    }
}

fn flow_ack(seq: u64, messages: u16) -> Vec<u8> {
    format!(r#"{{"type":"ack","seq":{seq},"msgs":{messages}}}"#).into_bytes()
}

fn flow_gap(expected: u64, seq: u64) -> Vec<u8> {
    format!(r#"{{"type":"gap","last_seq":{expected},"seq":{seq}}}"#).into_bytes()
}

fn flow_error(seq: u64, error: &ApiError) -> Vec<u8> {
    let error = json::to_go_string(error);
    format!(r#"{{"type":"err","seq":{seq},"error":{error}}}"#).into_bytes()
}

impl Stream {
    /// Fast-ingest batches under way.
    #[must_use]
    pub fn fast_batches(&self) -> usize {
        self.fast.open.len()
    }

    /// Takes a message of a fast batch. `None` if a message must come from the disk first;
    /// nothing has changed then.
    pub(super) fn handle_fast(
        &mut self,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Option<Ingest> {
        match self.open_fast(publish, cx) {
            Ok(at) => self.take_fast(&at, publish, cx),
            Err(error) => {
                self.answer_error(publish.reply, &error, cx.fx);
                Some(Ingest::Refused(error))
            }
        }
    }

    /// Checks that the message has a batch, and begins the batch if the message is its first.
    fn open_fast<'a>(
        &mut self,
        publish: &Publish<'a>,
        cx: &Cx<'_, '_>,
    ) -> Result<Reply<'a>, ApiError> {
        self.check_room_for(publish, cx)?;
        if !self.config.allow_batched {
            return Err(errors::BATCH_PUBLISH_DISABLED);
        }
        let at = Reply::parse(publish.reply).ok_or(errors::BATCH_PUBLISH_INVALID_PATTERN)?;
        if at.id.len() > ID_BYTES_MAX {
            return Err(errors::BATCH_PUBLISH_INVALID_BATCH_ID);
        }
        if !self.fast.open.contains_key(at.id) {
            if at.seq != 1 || at.operation == Operation::Ping {
                return Err(errors::BATCH_PUBLISH_UNKNOWN_BATCH_ID);
            }
            let is_full = self.fast.open.len() >= self.batch_limits.fast_max
                || cx.room.fast_batches == Some(0);
            if is_full {
                return Err(errors::BATCH_PUBLISH_TOO_MANY_INFLIGHT);
            }
            let is_alone = self.fast.open.is_empty();
            let batch = FastBatch {
                flow: if is_alone { at.flow.min(FLOW_MAX) } else { 1 },
                flow_max: at.flow,
                gap_ok: at.gap_ok,
                ..FastBatch::default()
            };
            self.fast.open.insert(at.id.into(), batch);
        }
        if level::is_too_high(publish.headers) {
            self.fast.open.remove(at.id);
            return Err(errors::REQUIRED_API_LEVEL);
        }
        if let Some(batch) = self.fast.open.get_mut(at.id) {
            batch.deadline_ns = cx.ctx.mono_ns.saturating_add(self.batch_limits.quiet_ns);
        }
        Ok(at)
    }

    fn take_fast(
        &mut self,
        at: &Reply<'_>,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Option<Ingest> {
        let mut batch = self.fast.open.get(at.id).copied()?;
        if at.operation == Operation::Ping {
            self.answer_ping(at, batch, publish.reply, cx);
            return Some(Ingest::Waiting);
        }
        let mut renamed = Vec::new();
        let stripped = super::ingest::Parked::without_level(publish);
        let publish = Publish { reply: publish.reply, ..stripped.publish() };
        let target = self.rename(publish.subject, &mut renamed, cx);
        let mut draft = Draft::new(&publish, target);
        // Looked at first, since it may have to wait for the disk.
        let mut verdict = Ok(());
        if at.operation != Operation::CommitEnd {
            verdict = self.check_staged(&mut Diff::default(), &mut draft, cx);
            if verdict == Err(Refusal::Pending) {
                return None;
            }
        }
        batch.last += 1;
        if batch.last != at.seq {
            let is_ahead = at.seq > batch.last;
            if is_ahead {
                self.answer_when_durable(publish.reply, &flow_gap(batch.last, at.seq), cx.fx);
            }
            if !(batch.gap_ok && is_ahead) {
                batch.last -= 1;
                self.finish_fast(at.id, batch, publish.reply, cx);
                return Some(Ingest::Waiting);
            }
            batch.last = at.seq;
        }
        if at.operation == Operation::CommitEnd {
            batch.last -= 1;
            batch.stored = batch.last;
            self.finish_fast(at.id, batch, publish.reply, cx);
            return Some(Ingest::Waiting);
        }
        let is_commit = at.operation == Operation::Commit;
        if at.seq == 1 && !is_commit && self.answers(publish.reply) {
            let body = flow_ack(0, batch.flow);
            cx.fx.publish(self.id.account, publish.reply, b"", b"", &body);
        }
        let placed = verdict.and_then(|()| self.place(&mut draft, cx));
        match placed {
            Ok(placed) => {
                batch.stored = batch.last;
                batch.stream_seq = placed.seq;
                if is_commit {
                    self.finish_fast(at.id, batch, publish.reply, cx);
                } else {
                    self.tell_flow(&mut batch, publish.reply, cx);
                    self.fast.open.insert(at.id.into(), batch);
                }
                Some(if placed.is_skipped {
                    Ingest::Skipped(placed.seq)
                } else {
                    Ingest::Stored(placed.seq)
                })
            }
            Err(refusal) => Some(self.refuse_fast(at, batch, refusal, publish.reply, cx)),
        }
    }

    /// A message of a batch was refused: the client hears of it, and the batch may end.
    fn refuse_fast(
        &mut self,
        at: &Reply<'_>,
        mut batch: FastBatch,
        refusal: Refusal,
        reply: &[u8],
        cx: &mut Cx<'_, '_>,
    ) -> Ingest {
        let is_commit = at.operation == Operation::Commit;
        let (error, duplicate) = match refusal {
            Refusal::Error(error) => (error, None),
            Refusal::Duplicate(seq) => {
                (errors::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE, Some(seq))
            }
            Refusal::Pending => (errors::INSUFFICIENT_RESOURCES, None),
        };
        let outcome = duplicate.map_or_else(|| Ingest::Refused(error.clone()), Ingest::Duplicate);
        if duplicate.is_some() {
            batch.stored = at.seq;
            self.tell_flow(&mut batch, reply, cx);
            if !is_commit {
                self.fast.open.insert(at.id.into(), batch);
                return outcome;
            }
        }
        if !batch.gap_ok && batch.last == 1 {
            self.fast.open.remove(at.id);
            match duplicate {
                Some(seq) => {
                    let id = String::from_utf8_lossy(at.id);
                    let extra = PubAckExtra {
                        duplicate: true,
                        batch: Some((&id, at.seq)),
                        ..PubAckExtra::default()
                    };
                    self.answer_stored(reply, seq, &extra, cx.fx);
                }
                None => self.answer_error(reply, &error, cx.fx),
            }
            return outcome;
        }
        if duplicate.is_none() {
            self.answer_when_durable(reply, &flow_error(at.seq, &error), cx.fx);
        }
        if batch.gap_ok && !is_commit {
            self.fast.open.insert(at.id.into(), batch);
            return outcome;
        }
        if duplicate.is_none() {
            batch.last -= 1;
            batch.stored = batch.last;
        }
        self.finish_fast(at.id, batch, reply, cx);
        outcome
    }

    /// Ends a batch: all of it that came is in the stream, and is acknowledged once durable.
    fn finish_fast(&mut self, id: &[u8], batch: FastBatch, reply: &[u8], cx: &mut Cx<'_, '_>) {
        self.fast.open.remove(id);
        let id = String::from_utf8_lossy(id);
        let extra = PubAckExtra { batch: Some((&id, batch.last)), ..PubAckExtra::default() };
        let mut body = Vec::new();
        wire::api::publish::push_pub_ack(&mut body, &self.ack_prefix, batch.stream_seq, &extra);
        self.answer_when_durable(reply, &body, cx.fx);
    }

    /// The client asks how far its batch is.
    fn answer_ping(
        &mut self,
        at: &Reply<'_>,
        mut batch: FastBatch,
        reply: &[u8],
        cx: &mut Cx<'_, '_>,
    ) {
        if at.seq > batch.last {
            let gap = flow_gap(batch.last + 1, at.seq + 1);
            self.answer_when_durable(reply, &gap, cx.fx);
            if !batch.gap_ok {
                self.finish_fast(at.id, batch, reply, cx);
                return;
            }
            batch.last = at.seq;
            batch.stored = at.seq;
            if self.tell_flow(&mut batch, reply, cx) {
                self.fast.open.insert(at.id.into(), batch);
                return;
            }
        }
        self.fast.open.insert(at.id.into(), batch);
        let body = flow_ack(batch.told, batch.flow);
        self.answer_when_durable(reply, &body, cx.fx);
    }

    /// Tells the client how far it is, if it is time, and lets it go faster or slower.
    fn tell_flow(&mut self, batch: &mut FastBatch, reply: &[u8], cx: &mut Cx<'_, '_>) -> bool {
        let every = u64::from(batch.flow.max(1));
        if batch.stored < batch.told + every {
            return false;
        }
        batch.told += (batch.stored - batch.told) / every * every;
        let share = usize::from(FLOW_MAX) / self.fast.open.len().max(1);
        let most = u16::try_from(share).unwrap_or(FLOW_MAX).max(1).min(batch.flow_max);
        batch.flow = if batch.flow < most {
            batch.flow.saturating_mul(2).min(most)
        } else if batch.flow > most {
            (batch.flow / 2).max(most)
        } else {
            batch.flow
        };
        let body = flow_ack(batch.told, batch.flow);
        self.answer_when_durable(reply, &body, cx.fx);
        true
    }

    /// Forgets the batches that have been quiet for too long.
    pub(super) fn expire_fast_batches(&mut self, cx: &Cx<'_, '_>) {
        let now_ns = cx.ctx.mono_ns;
        self.fast.open.retain(|_, batch| batch.deadline_ns > now_ns);
    }
}
