//! What a publish must meet before it is stored. The order decides which error wins, and is that
//! of nats-server for a stream without replicas; batches check in another order.

use num_bigint::BigInt;
use store::Read;
use wire::api::errors;
use wire::api::publish::{Ttl, parse_sequence, parse_ttl};
use wire::headers;
use wire::schedule::{Schedule, ScheduleError};
use wire::subject;

use super::counter::{Counter, parse_increment};
use super::draft::{Draft, Refusal, Rollup};
use super::{Cx, Stream};

/// Bytes of a header block at most.
pub(super) const HEADER_BYTES_MAX: usize = 65_535;

type Verdict = Result<(), Refusal>;

impl Stream {
    /// Checks a publish that is not part of a batch.
    pub(super) fn check_single(&mut self, draft: &mut Draft<'_>, cx: &mut Cx<'_, '_>) -> Verdict {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED.into());
        }
        self.check_message_size(draft)?;
        if draft.found.any {
            self.check_increment(draft)?;
            self.check_expected_stream(draft)?;
            self.check_ttl_allowed(draft)?;
            self.check_subject_sequence(draft)?;
            if let Some(expected) = draft.found.expected_last_seq {
                let last = self.store.last_seq();
                if parse_sequence(expected) != last {
                    return Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last).into());
                }
            }
            self.check_schedule(draft, cx)?;
            self.check_scheduler(draft, cx)?;
            if draft.found.stream_source.is_some() && !draft.is_sourced {
                return Err(errors::MESSAGE_SOURCE_HDR_NOT_ALLOWED.into());
            }
            self.check_window(draft)?;
            if let Some(expected) = draft.found.expected_last_msg_id
                && expected != self.last_msg_id
            {
                let last = String::from_utf8_lossy(&self.last_msg_id);
                return Err(errors::STREAM_WRONG_LAST_MSG_ID.with(last).into());
            }
            self.check_rollup(draft)?;
        }
        if self.config.allow_msg_counter {
            self.count(draft, cx)?;
        }
        self.check_size(draft)
    }

    /// `Nats-Incr` and what may not stand beside it.
    pub(super) fn check_increment(&self, draft: &mut Draft<'_>) -> Verdict {
        let Some(text) = draft.found.incr else { return Ok(()) };
        let Some(increment) = parse_increment(text) else {
            return Err(errors::MESSAGE_INCR_INVALID.into());
        };
        if !draft.is_sourced {
            let found = &draft.found;
            if !self.config.allow_msg_counter {
                return Err(errors::MESSAGE_INCR_DISABLED.into());
            }
            if !draft.payload().is_empty() {
                return Err(errors::MESSAGE_INCR_PAYLOAD.into());
            }
            let is_conditional = [
                found.rollup,
                found.expected_stream,
                found.expected_last_msg_id,
                found.expected_last_subject_seq_subject,
                found.expected_last_seq,
                found.expected_last_subject_seq,
            ]
            .iter()
            .any(Option::is_some);
            if is_conditional {
                return Err(errors::MESSAGE_INCR_INVALID.into());
            }
        }
        draft.increment = Some(increment);
        Ok(())
    }

    /// `Nats-Expected-Stream`
    pub(super) fn check_expected_stream(&self, draft: &Draft<'_>) -> Verdict {
        match draft.found.expected_stream {
            Some(name) if name != self.config.name.as_bytes() => {
                Err(errors::STREAM_NOT_MATCH.into())
            }
            _ => Ok(()),
        }
    }

    /// A life of its own, on a stream that has none to give. One that cannot be read is refused
    /// much later.
    fn check_ttl_allowed(&self, draft: &Draft<'_>) -> Verdict {
        if draft.is_sourced || self.config.allow_msg_ttl {
            return Ok(());
        }
        match draft.found.ttl.and_then(parse_ttl) {
            None | Some(Ttl::Seconds(0)) => Ok(()),
            Some(_) => Err(errors::MESSAGE_TTL_DISABLED.into()),
        }
    }

    /// The last sequence of a subject or pattern.
    pub(super) fn last_seq_for(&self, pattern: &[u8]) -> u64 {
        let last = if subject::is_literal(pattern) {
            self.store.last_for(pattern)
        } else {
            self.store.last_matching(pattern, u64::MAX)
        };
        last.unwrap_or(0)
    }

    /// `Nats-Expected-Last-Subject-Sequence` and its subject
    fn check_subject_sequence(&self, draft: &Draft<'_>) -> Verdict {
        let found = &draft.found;
        let Some(expected) = found.expected_last_subject_seq else {
            if found.expected_last_subject_seq_subject.is_some() {
                return Err(errors::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID.into());
            }
            return Ok(());
        };
        let pattern = found.expected_last_subject_seq_subject.unwrap_or(draft.subject);
        let last = self.last_seq_for(pattern);
        if parse_sequence(expected) != last {
            return Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last).into());
        }
        Ok(())
    }

    /// `Nats-Schedule` and what goes with it
    pub(super) fn check_schedule(&self, draft: &mut Draft<'_>, cx: &Cx<'_, '_>) -> Verdict {
        if draft.is_sourced {
            return Ok(());
        }
        let allowed = self.config.allow_msg_schedules;
        let refuse = |error: errors::ApiError| {
            let disabled = errors::MESSAGE_SCHEDULES_DISABLED;
            Err(Refusal::Error(if allowed { error } else { disabled }))
        };
        let zone = match draft.found.schedule_time_zone.map(std::str::from_utf8) {
            Some(Err(_)) => return refuse(errors::MESSAGE_SCHEDULES_TIME_ZONE_INVALID),
            Some(Ok(zone)) => Some(zone),
            None => None,
        };
        let pattern = draft.found.schedule.map_or(Ok(""), std::str::from_utf8);
        if zone.is_none() && pattern == Ok("") {
            return Ok(());
        }
        let schedule = match pattern.map(|pattern| Schedule::parse(pattern, zone)) {
            Ok(Ok(schedule)) => schedule,
            Ok(Err(ScheduleError::TimeZone)) => {
                return refuse(errors::MESSAGE_SCHEDULES_TIME_ZONE_INVALID);
            }
            _ if pattern == Ok("") => return Ok(()),
            _ => return refuse(errors::MESSAGE_SCHEDULES_PATTERN_INVALID),
        };
        if schedule.next_after(cx.ctx.unix_ns, cx.ctx.unix_ns).is_none() {
            return refuse(errors::MESSAGE_SCHEDULES_PATTERN_INVALID);
        }
        if !allowed {
            return Err(errors::MESSAGE_SCHEDULES_DISABLED.into());
        }
        self.check_schedule_parts(draft)
    }

    fn check_schedule_parts(&self, draft: &mut Draft<'_>) -> Verdict {
        let found = &draft.found;
        if found.schedule_ttl.is_some_and(|ttl| parse_ttl(ttl).is_none()) {
            return Err(errors::MESSAGE_SCHEDULES_TTL_INVALID.into());
        }
        if found.schedule_rollup.is_some_and(|rollup| rollup != b"sub") {
            return Err(errors::MESSAGE_SCHEDULES_ROLLUP_INVALID.into());
        }
        if found.schedule_ttl.is_some() && !self.config.allow_msg_ttl {
            return Err(errors::MESSAGE_TTL_DISABLED.into());
        }
        let target = found.schedule_target.unwrap_or_default();
        let is_valid = |other: &[u8]| subject::is_valid_publish(other) && other != draft.subject;
        if !is_valid(target) {
            return Err(errors::MESSAGE_SCHEDULES_TARGET_INVALID.into());
        }
        let source = found.schedule_source;
        if source.is_some_and(|source| source == target || !is_valid(source)) {
            return Err(errors::MESSAGE_SCHEDULES_SOURCE_INVALID.into());
        }
        let is_ours = |other: &[u8]| {
            self.config.subjects.iter().any(|own| subject::overlaps(own.as_bytes(), other))
        };
        if !is_ours(target) {
            return Err(errors::MESSAGE_SCHEDULES_TARGET_INVALID.into());
        }
        if source.is_some_and(|source| !is_ours(source)) {
            return Err(errors::MESSAGE_SCHEDULES_SOURCE_INVALID.into());
        }
        match found.rollup {
            None => {
                headers::set(draft.block_mut(), b"Nats-Rollup", b"sub");
                draft.rollup = Some(Rollup::Subject);
            }
            Some(rollup) if rollup.eq_ignore_ascii_case(b"sub") => {}
            Some(_) => return Err(errors::MESSAGE_SCHEDULES_ROLLUP_INVALID.into()),
        }
        Ok(())
    }

    /// `Nats-Schedule-Next` and `Nats-Scheduler`, by which a client may end a schedule
    pub(super) fn check_scheduler(&mut self, draft: &Draft<'_>, cx: &mut Cx<'_, '_>) -> Verdict {
        if draft.is_sourced {
            return Ok(());
        }
        if self.check_scheduler_form(draft)? {
            self.check_is_schedule(draft.found.scheduler.unwrap_or_default(), cx)?;
        }
        Ok(())
    }

    /// Whether the message ends a schedule, in the only form that is allowed.
    pub(super) fn check_scheduler_form(&self, draft: &Draft<'_>) -> Result<bool, Refusal> {
        let invalid = || Err(errors::MESSAGE_SCHEDULES_SCHEDULER_INVALID.into());
        let (next, scheduler) = (draft.found.schedule_next, draft.found.scheduler);
        let Some(next) = next else {
            return if scheduler.is_some() { invalid() } else { Ok(false) };
        };
        let scheduler = scheduler.unwrap_or_default();
        if next != b"purge" || scheduler == draft.subject || !subject::is_valid_publish(scheduler) {
            return invalid();
        }
        if !self.config.allow_msg_schedules {
            return Err(errors::MESSAGE_SCHEDULES_DISABLED.into());
        }
        Ok(true)
    }

    /// `Nats-Msg-Id`
    fn check_window(&self, draft: &Draft<'_>) -> Verdict {
        if self.config.mirror.is_some() {
            return Ok(());
        }
        match draft.found.msg_id.and_then(|id| self.window.find(id)) {
            Some(seq) => Err(Refusal::Duplicate(seq)),
            None => Ok(()),
        }
    }

    /// `Nats-Rollup`
    pub(super) fn check_rollup(&self, draft: &mut Draft<'_>) -> Verdict {
        let Some(rollup) = draft.found.rollup else { return Ok(()) };
        let fail = |text: &str| Err(errors::STREAM_ROLLUP_FAILED.with(text).into());
        if !self.allows_rollup() && !draft.is_sourced {
            return fail("rollup not permitted");
        }
        draft.rollup = if rollup.eq_ignore_ascii_case(b"sub") {
            Some(Rollup::Subject)
        } else if rollup.eq_ignore_ascii_case(b"all") {
            Some(Rollup::All)
        } else {
            let shown = String::from_utf8_lossy(rollup).to_lowercase();
            return fail(&format!("rollup value invalid: {shown:?}"));
        };
        Ok(())
    }

    /// Whether messages may take the place of others.
    pub(super) const fn allows_rollup(&self) -> bool {
        self.config.allow_rollup_hdrs && !self.config.deny_purge
    }

    /// Adds to the counter of the subject.
    fn count(&mut self, draft: &mut Draft<'_>, cx: &mut Cx<'_, '_>) -> Verdict {
        let Some(increment) = draft.increment.take() else {
            return Err(errors::MESSAGE_INCR_MISSING.into());
        };
        let counter = self.read_counter(draft.subject, cx)?;
        self.apply_increment(counter, &increment, draft, cx).map(|_| ())
    }

    /// The counter of a subject as it was stored last.
    pub(super) fn read_counter(
        &mut self,
        subject: &[u8],
        cx: &mut Cx<'_, '_>,
    ) -> Result<Counter, Refusal> {
        let Some(seq) = self.store.last_for(subject) else { return Ok(Counter::default()) };
        match self.store.get(seq, cx.cache, &mut cx.fx.disk) {
            Read::Pending => Err(Refusal::Pending),
            Read::Message(message) => Counter::read(message.headers, message.payload)
                .map_err(|_| errors::MESSAGE_COUNTER_BROKEN.into()),
            Read::Missing => Ok(Counter::default()),
            Read::Damaged | Read::Failed => Err(errors::MESSAGE_COUNTER_BROKEN.into()),
        }
    }

    /// Rewrites the message to the counter's new value.
    pub(super) fn apply_increment(
        &self,
        mut counter: Counter,
        increment: &BigInt,
        draft: &mut Draft<'_>,
        cx: &Cx<'_, '_>,
    ) -> Result<Counter, Refusal> {
        let mut block = draft.block().to_vec();
        let mut payload = draft.payload().to_vec();
        counter
            .apply(increment, draft.subject, &mut block, &mut payload)
            .map_err(|_| Refusal::Error(errors::MESSAGE_COUNTER_BROKEN))?;
        let most = cx.room.payload_bytes_max;
        if most > 0 && block.len() + payload.len() > most {
            return Err(errors::STREAM_MESSAGE_EXCEEDS_MAXIMUM.into());
        }
        draft.value = Some(counter.total.to_string());
        (draft.new_block, draft.new_payload) = (Some(block), Some(payload));
        Ok(counter)
    }

    /// `max_msg_size` and the size of the headers
    pub(super) fn check_size(&self, draft: &Draft<'_>) -> Verdict {
        self.check_message_size(draft)?;
        if draft.block().len() > HEADER_BYTES_MAX {
            return Err(errors::STREAM_HEADER_EXCEEDS_MAXIMUM.into());
        }
        Ok(())
    }

    /// `max_msg_size`
    pub(super) fn check_message_size(&self, draft: &Draft<'_>) -> Verdict {
        let most = usize::try_from(self.config.max_msg_size).ok();
        let size = draft.block().len() + draft.payload().len();
        if most.is_some_and(|most| size > most) {
            return Err(errors::STREAM_MESSAGE_EXCEEDS_MAXIMUM.into());
        }
        Ok(())
    }
}
