//! Whole operations of a piece of input, one after the other. Plain messages that follow each other
//! to one subject are gathered into a run (see [`crate::publish`]) and delivered together.

use std::ops::Range;

use wire::client::op::{Op, Step};
use wire::client::parse::{ParseError, parse};
use wire::client::parse_again;

use super::Phase;
use super::input::{Flow, Stop};
use crate::broker::Broker;
use crate::clock::Now;
use crate::effect::Effects;
use crate::mesh::Origin;
use crate::publish::{PlanKey, Published, Run};

/// Where the pieces of a publish lie in the input.
struct Pieces {
    /// The whole operation.
    op: Range<usize>,
    subject: Range<usize>,
    body_at: usize,
    /// Where the size begins, when it is written as MSG writes it and nothing else follows the
    /// subject.
    plain_tail_at: Option<usize>,
}

impl Pieces {
    fn of(data: &[u8], op: Range<usize>, subject: &[u8], body_len: usize) -> Self {
        let body_at = op.end.saturating_sub(body_len + 2);
        let subject_at = (subject.as_ptr() as usize).saturating_sub(data.as_ptr() as usize);
        let subject = subject_at..subject_at + subject.len();
        let size_at = subject.end + 1;
        // One blank, the digits without leading zeros, CR and LF: nothing else is that long.
        let canonical = size_at + decimal_len(body_len) + 2 == body_at
            && data.get(body_at.saturating_sub(2)) == Some(&b'\r');
        Self { op, subject, body_at, plain_tail_at: canonical.then_some(size_at) }
    }
}

/// Digits of a number.
fn decimal_len(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

impl Broker {
    /// Carries out whole operations; returns the bytes they took.
    pub(super) fn run_operations(
        &mut self,
        slot: u32,
        data: &[u8],
        now: Now,
        fx: &mut Effects,
    ) -> (usize, Stop) {
        let mut run = std::mem::take(&mut self.run);
        let outcome = self.run_all(slot, data, &mut run, now, fx);
        run.clear();
        self.run = run;
        outcome
    }

    fn run_all(
        &mut self,
        slot: u32,
        data: &[u8],
        run: &mut Run,
        now: Now,
        fx: &mut Effects,
    ) -> (usize, Stop) {
        let max_control_line = self.settings.limits.max_control_line;
        let Some(conn) = self.conns.get(slot as usize) else { return (0, Stop::Wait) };
        let mut limits = conn.parse_limits(max_control_line);
        let mut at = 0;
        while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
            if run.count > 0
                && let Some(head) = data.get(run.head.clone())
                && let Some((body_at, len)) = parse_again(rest, head, &limits)
            {
                run.push(at + head.len()..at + len, len - body_at - 2);
                at += len;
                if !run.is_full() {
                    continue;
                }
                if let Some(stop) = self.stop_after(slot, run, data, now, fx) {
                    return (at, stop);
                }
                continue;
            }
            let (op, consumed) = match parse(rest, &limits) {
                Ok(Step::Op { op, consumed }) => (op, consumed),
                Ok(Step::Incomplete { .. }) => break,
                Err(ParseError::NotConnected) if self.bind_without_login(slot, now, fx) => {
                    let Some(conn) = self.conns.get(slot as usize) else { return (at, Stop::Wait) };
                    limits = conn.parse_limits(max_control_line);
                    continue;
                }
                Err(error) => {
                    self.finish_run(slot, run, data, now, fx);
                    self.handle_parse_error(slot, error, fx);
                    return (data.len(), Stop::Wait);
                }
            };
            let place = at..at + consumed;
            at = place.end;
            if let Op::Pub { subject, reply, header_len, body } = op {
                let pieces = Pieces::of(data, place, subject, body.len());
                let plain = reply.is_none() && header_len == 0;
                if plain && self.gather(slot, run, data, &pieces, now, fx) {
                    continue;
                }
                let flow = self.finish_run(slot, run, data, now, fx);
                let body = data.get(pieces.body_at..at).unwrap_or_default();
                let next = self.handle_publish(slot, subject, reply, header_len, body, now, fx);
                if flow.then(next) == Flow::Next
                    && fx.output_bytes <= fx.output_budget(&self.settings.limits)
                {
                    continue;
                }
            } else {
                self.finish_run(slot, run, data, now, fx);
                self.handle_operation(slot, &op, now, fx);
            }
            if let Some(stop) = self.stop_after(slot, run, data, now, fx) {
                return (if stop == Stop::Close { data.len() } else { at }, stop);
            }
            let Some(conn) = self.conns.get(slot as usize) else { return (at, Stop::Wait) };
            limits = conn.parse_limits(max_control_line);
        }
        self.finish_run(slot, run, data, now, fx);
        if self.is_paused(slot) { (at, Stop::Wait) } else { (at, Stop::None) }
    }

    /// Delivers the run, and tells why no further operation may be looked at now.
    fn stop_after(
        &mut self,
        slot: u32,
        run: &mut Run,
        data: &[u8],
        now: Now,
        fx: &mut Effects,
    ) -> Option<Stop> {
        self.finish_run(slot, run, data, now, fx);
        let Some(conn) = self.conns.get(slot as usize) else { return Some(Stop::Close) };
        if conn.phase == Phase::Closing {
            return Some(Stop::Close);
        }
        if conn.paused != 0 {
            return Some(Stop::Wait);
        }
        (fx.output_bytes > fx.output_budget(&self.settings.limits)).then_some(Stop::Budget)
    }

    /// Adds a plain message to the run, if it may be part of one. False when the message must be
    /// handled by itself.
    fn gather(
        &mut self,
        slot: u32,
        run: &mut Run,
        data: &[u8],
        pieces: &Pieces,
        now: Now,
        fx: &mut Effects,
    ) -> bool {
        let Some(tail_at) = pieces.plain_tail_at else { return false };
        self.finish_run(slot, run, data, now, fx);
        let subject = data.get(pieces.subject.clone()).unwrap_or_default();
        if !self.begin_run(slot, run, subject, fx) {
            return false;
        }
        run.subject = pieces.subject.clone();
        run.head = pieces.op.start..tail_at;
        run.push(tail_at..pieces.op.end, pieces.op.end - pieces.body_at - 2);
        true
    }

    /// Begins a run to a subject, unless its messages need more than copies.
    fn begin_run(&mut self, slot: u32, run: &mut Run, subject: &[u8], fx: &Effects) -> bool {
        let Some(conn) = self.conns.get(slot as usize) else { return false };
        let careful = conn.verbose
            || conn.pedantic
            || !conn.rights.is_unrestricted()
            || conn.phase != Phase::Ready
            || conn.paused != 0
            || fx.trace
            || matches!(subject.first(), Some(b'_' | b'$'));
        if careful {
            return false;
        }
        let key = self.plan_of(slot, subject);
        let Some(plan) = self.plans.get(key) else { return false };
        if !plan.queues.is_empty() || !plan.services.is_empty() {
            return false;
        }
        let budget = fx.output_budget(&self.settings.limits).saturating_sub(fx.output_bytes);
        run.begin(key, plan.targets.len() + plan.remote.len(), budget);
        true
    }

    /// Delivers the messages gathered.
    fn finish_run(
        &mut self,
        slot: u32,
        run: &mut Run,
        data: &[u8],
        now: Now,
        fx: &mut Effects,
    ) -> Flow {
        if run.count == 0 {
            return Flow::Next;
        }
        let (count, bytes) = (run.count as u64, run.payload_bytes);
        let Some(conn) = self.conns.get_mut(slot as usize) else { return Flow::Look };
        conn.traffic.in_msgs += count;
        conn.traffic.in_bytes += bytes;
        self.stats.in_msgs += count;
        self.stats.in_bytes += bytes;
        let account = conn.account;
        let m = Published {
            account,
            subject: data.get(run.subject.clone()).unwrap_or_default(),
            shown: &[],
            reply: &[],
            header_len: 0,
            body: &[],
            mute: if conn.echo { None } else { Some(slot) },
            origin: Origin { slot, generation: conn.generation },
            home: self.mesh.me(),
            report: false,
            imported: false,
            now_ns: now.mono_ns,
        };
        if let Some(account) = self.accounts.get_mut(account as usize) {
            account.traffic.in_msgs += count;
            account.traffic.in_bytes += bytes;
        }
        let outcome = self.fan_out_run(run, &m, data, fx);
        run.clear();
        self.settle_publish(slot, &m, &outcome, now, fx)
    }

    /// The plan of the subject that a connection publishes to.
    #[inline]
    pub(super) fn plan_of(&mut self, slot: u32, subject: &[u8]) -> PlanKey {
        let Some(conn) = self.conns.get(slot as usize) else { return PlanKey::default() };
        let account = conn.account;
        let key = conn.last_subject.key;
        if conn.last_subject.subject == subject && self.plans.get(key).is_some() {
            return key;
        }
        let key = self.plan(account, subject);
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.last_subject.key = key;
            conn.last_subject.subject.clear();
            conn.last_subject.subject.extend_from_slice(subject);
        }
        key
    }
}
