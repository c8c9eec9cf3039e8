//! Messages that are published later, once or again and again: which are due, and what comes out.
//!
//! When each is due next stands in a note beside the messages, so that a start reads none of
//! them.

use std::collections::{BTreeMap, BTreeSet};

use store::Read;
use wire::api::publish::parse_ttl;
use wire::headers;
use wire::schedule::{Schedule, parse_rfc3339};

use super::draft::{Draft, Refusal, Rollup};
use super::ingest::Publish;
use super::{Cx, Stream};

/// Schedules that one call runs.
const STEP: usize = 512;
/// What the keys of the notes about schedules begin with; the subject follows.
pub const NOTE_PREFIX: &[u8] = b"t/";

/// When a schedule is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    /// Sequence of the message with the schedule.
    seq: u64,
    /// ns since 1970.
    at_ns: i64,
}

/// The schedules of a stream, one for each subject that has one.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    by_subject: BTreeMap<Box<[u8]>, Due>,
    order: BTreeSet<(i64, Box<[u8]>)>,
}

impl Schedules {
    /// When the first is due, ns since 1970.
    pub(super) fn next_ns(&self) -> Option<i64> {
        self.order.first().map(|(at_ns, _)| *at_ns)
    }

    fn set(&mut self, subject: &[u8], due: Due) {
        self.remove(subject);
        self.by_subject.insert(subject.into(), due);
        self.order.insert((due.at_ns, subject.into()));
    }

    fn remove(&mut self, subject: &[u8]) -> bool {
        let Some(due) = self.by_subject.remove(subject) else { return false };
        self.order.remove(&(due.at_ns, subject.into()));
        true
    }

    fn first_due(&self, now_ns: i64) -> Option<(Box<[u8]>, Due)> {
        let (_, subject) = self.order.first().filter(|(at_ns, _)| *at_ns <= now_ns)?;
        Some((subject.clone(), *self.by_subject.get(subject)?))
    }
}

fn note_key(subject: &[u8]) -> Vec<u8> {
    [NOTE_PREFIX, subject].concat()
}

fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default()
}

/// The schedule in a header block.
fn schedule_of(block: &[u8]) -> Option<Schedule> {
    let pattern = headers::get(block, b"Nats-Schedule").filter(|p| !p.is_empty())?;
    let zone = headers::get(block, b"Nats-Schedule-Time-Zone").map(text);
    Schedule::parse(text(pattern), zone).ok()
}

/// What a schedule says about the message that it makes.
struct Plan {
    schedule: Schedule,
    target: Vec<u8>,
    source: Option<Vec<u8>>,
    ttl: Option<Vec<u8>>,
    rollup: Option<Vec<u8>>,
    block: Vec<u8>,
    payload: Vec<u8>,
}

impl Plan {
    /// `None` if the message has no schedule that can be followed.
    fn read(block: &[u8], payload: &[u8]) -> Option<Self> {
        let value = |key: &[u8]| headers::get(block, key).filter(|v| !v.is_empty());
        let owned = |key: &[u8]| value(key).map(<[u8]>::to_vec);
        if value(b"Nats-Schedule-TTL").is_some_and(|ttl| parse_ttl(ttl).is_none()) {
            return None;
        }
        Some(Self {
            schedule: schedule_of(block)?,
            target: owned(b"Nats-Schedule-Target")?,
            source: owned(b"Nats-Schedule-Source"),
            ttl: owned(b"Nats-Schedule-TTL"),
            rollup: owned(b"Nats-Schedule-Rollup"),
            block: block.to_vec(),
            payload: payload.to_vec(),
        })
    }

    /// The header block of the message that comes out.
    fn outgoing_block(&self, scheduler: &[u8], next: &str) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.block.len() + 64);
        for (key, value) in headers::iter(&self.block) {
            let is_dropped = key.starts_with(b"Nats-Schedule")
                || key.starts_with(b"Nats-Expected-")
                || matches!(key, b"Nats-Msg-Id" | b"Nats-TTL" | b"Nats-Rollup");
            if !is_dropped {
                push_header(&mut block, key, value);
            }
        }
        push_header(&mut block, b"Nats-Scheduler", scheduler);
        push_header(&mut block, b"Nats-Schedule-Next", next.as_bytes());
        if let Some(ttl) = &self.ttl {
            push_header(&mut block, b"Nats-TTL", ttl);
        }
        if let Some(rollup) = &self.rollup {
            push_header(&mut block, b"Nats-Rollup", rollup);
        }
        block.extend_from_slice(b"\r\n");
        block
    }
}

fn push_header(block: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if block.is_empty() {
        block.extend_from_slice(b"NATS/1.0\r\n");
    }
    for part in [key, b": ", value, b"\r\n"] {
        block.extend_from_slice(part);
    }
}

impl Stream {
    /// A message was stored: it may bring a schedule, take one away, or say when one is due next.
    pub(super) fn note_schedule(&mut self, draft: &Draft<'_>, seq: u64, cx: &Cx<'_, '_>) {
        if !self.config.allow_msg_schedules {
            return;
        }
        let now_ns = cx.ctx.unix_ns;
        let at_ns = draft
            .found
            .schedule
            .and_then(|_| schedule_of(draft.block())?.next_after(now_ns, now_ns));
        if let Some(at_ns) = at_ns {
            self.set_due(draft.subject, Due { seq, at_ns });
        } else if draft.found.scheduler.is_none() {
            self.forget_schedule(draft.subject);
        }
        if let (Some(next), Some(scheduler)) = (draft.found.schedule_next, draft.found.scheduler)
            && next != b"purge"
            && let Some(at_ns) = parse_rfc3339(text(next))
            && let Some(due) = self.schedules.by_subject.get(scheduler).copied()
        {
            self.set_due(scheduler, Due { seq: due.seq, at_ns });
        }
    }

    /// A message came out of an archive: it may have a schedule.
    pub(super) fn note_restored_schedule(
        &mut self,
        message: &wire::backup::Message<'_>,
        ctx: &crate::context::Context<'_>,
    ) {
        if !self.config.allow_msg_schedules {
            return;
        }
        let due = schedule_of(message.headers)
            .and_then(|schedule| schedule.next_after(message.time_ns, ctx.unix_ns));
        match due {
            Some(at_ns) => self.set_due(message.subject, Due { seq: message.sequence, at_ns }),
            None => self.forget_schedule(message.subject),
        }
    }

    fn set_due(&mut self, subject: &[u8], due: Due) {
        self.schedules.set(subject, due);
        let mut note = due.seq.to_le_bytes().to_vec();
        note.extend_from_slice(&due.at_ns.to_le_bytes());
        self.store.put_note(&note_key(subject), &note);
    }

    fn forget_schedule(&mut self, subject: &[u8]) {
        if self.schedules.remove(subject) {
            self.store.remove_note(&note_key(subject));
        }
    }

    /// A note of the store, at start: true if it was one of the stream's own.
    pub fn handle_recovered_note(&mut self, key: &[u8], note: &[u8]) -> bool {
        if key == super::feed_positions::NOTE_KEY {
            self.recover_feeds(note);
            return true;
        }
        let Some(subject) = key.strip_prefix(NOTE_PREFIX) else { return false };
        if let Some((seq, rest)) = note.split_first_chunk::<8>()
            && let Some(at_ns) = rest.first_chunk::<8>()
        {
            let due = Due { seq: u64::from_le_bytes(*seq), at_ns: i64::from_le_bytes(*at_ns) };
            self.schedules.set(subject, due);
        }
        true
    }

    /// Publishes what is due.
    pub(super) fn run_schedules(&mut self, cx: &mut Cx<'_, '_>) {
        for _ in 0..STEP {
            let Some((subject, due)) = self.schedules.first_due(cx.ctx.unix_ns) else { return };
            match self.run_schedule(&subject, due, cx) {
                Ok(true) => {}
                Ok(false) => self.forget_schedule(&subject),
                Err(Refusal::Pending) => {
                    self.is_reading = true;
                    return;
                }
                // What cannot be stored now is tried again a little later.
                Err(_) => {
                    let at_ns = cx.ctx.unix_ns.saturating_add(RETRY_NS);
                    self.schedules.set(&subject, Due { at_ns, ..due });
                }
            }
        }
    }

    /// Publishes one message; answers whether its schedule goes on.
    fn run_schedule(
        &mut self,
        subject: &[u8],
        due: Due,
        cx: &mut Cx<'_, '_>,
    ) -> Result<bool, Refusal> {
        let mut plan = match self.store.get(due.seq, cx.cache, &mut cx.fx.disk) {
            Read::Pending => return Err(Refusal::Pending),
            Read::Missing | Read::Damaged => return Ok(false),
            Read::Failed => return Err(wire::api::errors::INSUFFICIENT_RESOURCES.into()),
            Read::Message(message) => match Plan::read(message.headers, message.payload) {
                Some(plan) => plan,
                None => return Ok(false),
            },
        };
        if let Some(source) = plan.source.take()
            && let Some(last) = self.store.last_for(&source)
        {
            match self.store.get(last, cx.cache, &mut cx.fx.disk) {
                Read::Pending => return Err(Refusal::Pending),
                Read::Message(message) => {
                    plan.block = message.headers.to_vec();
                    plan.payload = message.payload.to_vec();
                }
                Read::Missing | Read::Damaged => {}
                Read::Failed => return Err(wire::api::errors::INSUFFICIENT_RESOURCES.into()),
            }
        }
        let next = plan
            .schedule
            .next_after(due.at_ns, cx.ctx.unix_ns)
            .filter(|_| plan.schedule.is_repeating());
        let mut shown = String::new();
        match next {
            Some(at_ns) => plan.schedule.push_time(&mut shown, at_ns),
            None => shown.push_str("purge"),
        }
        let block = plan.outgoing_block(subject, &shown);
        let publish = Publish {
            subject: &plan.target,
            headers: &block,
            payload: &plan.payload,
            is_sourced: true,
            ..Publish::default()
        };
        let mut renamed = Vec::new();
        let target = self.rename(&plan.target, &mut renamed, cx);
        let mut draft = Draft::new(&publish, target);
        draft.rollup = plan.rollup.as_deref().filter(|r| *r == b"sub").map(|_| Rollup::Subject);
        self.check_size(&draft)?;
        self.place(&mut draft, cx)?;
        Ok(next.is_some())
    }
}

/// How long a schedule waits whose message could not be stored, ns.
const RETRY_NS: i64 = 250_000_000;
