//! The checks of messages in batches. They run before anything of the batch is stored, so each
//! message is held against the stream and against what the batch has before it.

use std::collections::{BTreeMap, BTreeSet};

use store::Read;
use wire::api::errors;
use wire::api::policy::Discard;
use wire::api::publish::{Ttl, parse_sequence, parse_ttl};
use wire::headers;
use wire::subject;

use super::counter::Counter;
use super::draft::{Draft, Refusal, Rollup};
use super::limits::limit;
use super::{Cx, Stream};

type Verdict = Result<(), Refusal>;

/// What a batch has for one subject so far.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    messages: u64,
    bytes: u64,
    /// The last of them is a schedule.
    is_schedule: bool,
}

/// What a batch would change.
#[derive(Debug, Default)]
pub(super) struct Diff {
    ids: BTreeSet<Box<[u8]>>,
    counters: BTreeMap<Box<[u8]>, Counter>,
    pending: BTreeMap<Box<[u8]>, Pending>,
    expected: BTreeMap<Box<[u8]>, u64>,
    /// Messages that have passed.
    count: u64,
}

impl Stream {
    /// Checks the next message of a batch.
    pub(super) fn check_staged(
        &mut self,
        diff: &mut Diff,
        draft: &mut Draft<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Verdict {
        if draft.block().len() > super::checks::HEADER_BYTES_MAX {
            return Err(errors::STREAM_HEADER_EXCEEDS_MAXIMUM.into());
        }
        self.check_increment(draft)?;
        self.check_expected_stream(draft)?;
        self.check_staged_ttl(draft)?;
        self.check_staged_id(diff, draft)?;
        if draft.found.stream_source.is_some() && !draft.is_sourced {
            return Err(errors::MESSAGE_SOURCE_HDR_NOT_ALLOWED.into());
        }
        if self.config.allow_msg_counter {
            self.count_staged(diff, draft, cx)?;
        }
        self.check_staged_sequence(diff, draft)?;
        self.check_staged_subject(diff, draft)?;
        self.check_schedule(draft, cx)?;
        self.check_staged_scheduler(diff, draft, cx)?;
        self.check_rollup(draft)?;
        if draft.found.rollup.is_some() {
            let fail = |text: &str| Err(errors::STREAM_ROLLUP_FAILED.with(text).into());
            match draft.rollup {
                Some(Rollup::Subject) if diff.pending.contains_key(draft.subject) => {
                    return fail("batch rollup sub invalid");
                }
                Some(Rollup::All) if !diff.pending.is_empty() => {
                    return fail("batch rollup all invalid");
                }
                _ => {}
            }
        }
        self.note_pending(diff, draft);
        diff.count += 1;
        self.check_staged_limits(diff, draft)
    }

    fn check_staged_ttl(&self, draft: &Draft<'_>) -> Verdict {
        let Some(text) = draft.found.ttl else { return Ok(()) };
        let ttl = parse_ttl(text);
        if draft.is_sourced || ttl == Some(Ttl::Seconds(0)) {
            return Ok(());
        }
        if !self.config.allow_msg_ttl {
            return Err(errors::MESSAGE_TTL_DISABLED.into());
        }
        if ttl.is_none() {
            return Err(errors::MESSAGE_TTL_INVALID.into());
        }
        Ok(())
    }

    fn check_staged_id(&self, diff: &mut Diff, draft: &Draft<'_>) -> Verdict {
        let Some(id) = draft.found.msg_id else { return Ok(()) };
        if diff.ids.contains(id) {
            return Err(errors::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE.into());
        }
        if let Some(seq) = self.window.find(id) {
            return Err(Refusal::Duplicate(seq));
        }
        diff.ids.insert(id.into());
        Ok(())
    }

    fn count_staged(
        &mut self,
        diff: &mut Diff,
        draft: &mut Draft<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Verdict {
        let Some(increment) = draft.increment.take() else {
            return Err(errors::MESSAGE_INCR_MISSING.into());
        };
        let counter = match diff.counters.get(draft.subject) {
            Some(counter) => counter.clone(),
            None => self.read_counter(draft.subject, cx)?,
        };
        let counter = self.apply_increment(counter, &increment, draft, cx)?;
        self.check_message_size(draft)?;
        diff.counters.insert(draft.subject.into(), counter);
        Ok(())
    }

    fn check_staged_sequence(&self, diff: &Diff, draft: &Draft<'_>) -> Verdict {
        let Some(expected) = draft.found.expected_last_seq else { return Ok(()) };
        let last = self.store.last_seq() + diff.count;
        if parse_sequence(expected) != last {
            return Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last).into());
        }
        if diff.count > 0 {
            return Err(errors::STREAM_WRONG_LAST_SEQUENCE_CONSTANT.into());
        }
        Ok(())
    }

    fn check_staged_subject(&self, diff: &mut Diff, draft: &Draft<'_>) -> Verdict {
        let found = &draft.found;
        let Some(expected) = found.expected_last_subject_seq else {
            if found.expected_last_subject_seq_subject.is_some() {
                return Err(errors::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID.into());
            }
            return Ok(());
        };
        let pattern = found.expected_last_subject_seq_subject.unwrap_or(draft.subject);
        let is_written = if subject::is_literal(pattern) {
            diff.pending.contains_key(pattern)
        } else {
            diff.pending.keys().any(|written| subject::matches(pattern, written))
        };
        if is_written {
            return Err(errors::STREAM_WRONG_LAST_SEQUENCE_CONSTANT.into());
        }
        let last = match diff.expected.get(pattern) {
            Some(last) => *last,
            None => self.last_seq_for(pattern),
        };
        if parse_sequence(expected) != last {
            return Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last).into());
        }
        diff.expected.insert(pattern.into(), last);
        Ok(())
    }

    fn check_staged_scheduler(
        &mut self,
        diff: &Diff,
        draft: &Draft<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Verdict {
        let scheduler = draft.found.scheduler.unwrap_or_default();
        match diff.pending.get(scheduler) {
            // The batch itself has what is to be ended.
            Some(pending) if draft.found.schedule_next.is_some() && !draft.is_sourced => {
                self.check_scheduler_form(draft)?;
                if pending.is_schedule {
                    Ok(())
                } else {
                    Err(errors::MESSAGE_SCHEDULES_SCHEDULER_INVALID.into())
                }
            }
            _ => self.check_scheduler(draft, cx),
        }
    }

    fn note_pending(&self, diff: &mut Diff, draft: &Draft<'_>) {
        let bytes =
            self.store.cost(draft.subject.len(), draft.block().len(), draft.payload().len());
        let pending = diff.pending.entry(draft.subject.into()).or_default();
        pending.messages += 1;
        pending.bytes += bytes;
        pending.is_schedule = draft.found.schedule.is_some();
    }

    /// `discard: new`: the whole batch must fit.
    fn check_staged_limits(&self, diff: &Diff, draft: &Draft<'_>) -> Verdict {
        if self.config.discard != Discard::New {
            return Ok(());
        }
        let refuse = |text: &str| Err(errors::STREAM_STORE_FAILED.with(text).into());
        let state = self.store.state();
        let (mut messages, mut bytes) = (state.messages, state.bytes);
        for pending in diff.pending.values() {
            messages += pending.messages;
            bytes += pending.bytes;
        }
        if limit(self.config.max_msgs).is_some_and(|most| messages > most) {
            return refuse("maximum messages exceeded");
        }
        if limit(self.config.max_bytes).is_some_and(|most| bytes > most) {
            return refuse("maximum bytes exceeded");
        }
        if self.config.discard_new_per_subject
            && headers::get(draft.block(), b"Nats-Rollup").is_none()
        {
            let more = diff.pending.get(draft.subject).map_or(0, |pending| pending.messages);
            let total = self.store.count_for(draft.subject) + more;
            if limit(self.config.max_msgs_per_subject).is_some_and(|most| total > most) {
                return refuse("maximum messages per subject exceeded");
            }
        }
        Ok(())
    }

    /// Whether the message that a scheduler header names is a schedule, or not there.
    pub(super) fn check_is_schedule(&mut self, scheduler: &[u8], cx: &mut Cx<'_, '_>) -> Verdict {
        let Some(seq) = self.store.last_for(scheduler) else { return Ok(()) };
        match self.store.get(seq, cx.cache, &mut cx.fx.disk) {
            Read::Pending => Err(Refusal::Pending),
            Read::Message(message)
                if headers::get(message.headers, b"Nats-Schedule").is_none_or(<[u8]>::is_empty) =>
            {
                Err(errors::MESSAGE_SCHEDULES_SCHEDULER_INVALID.into())
            }
            _ => Ok(()),
        }
    }
}
