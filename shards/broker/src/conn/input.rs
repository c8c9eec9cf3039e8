//! Bytes from a client: cut into operations and carried out until the input ends, the connection
//! must wait, or the turn has gathered enough output.

use memchr::memchr;
use wire::client::errors::{ClientError, ClosedReason};
use wire::client::op::{Op, Step};
use wire::client::parse::{ParseError, ParseLimits, parse};

use super::{Conn, Phase, paused};
use crate::auth::PublishViolation;
use crate::broker::{Broker, mark_dirty};
use crate::clock::Now;
use crate::effect::Effects;
use crate::mesh::Origin;
use crate::publish::Published;

/// Bytes read at once from a connection that has not logged in. With the control line that may be
/// kept from before, 8 KiB are the most it can hold.
const READ_BEFORE_LOGIN_BYTES_MAX: usize = 4096;

/// What became of a piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it was carried out or kept; the caller may forget it.
    Done,
    /// The turn has enough output: flush, then call again with what lies behind these bytes.
    More(usize),
}

/// Whether the next operation may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Yes.
    Next,
    /// The connection waits or closes, or its limits may have changed.
    Look,
}

impl Flow {
    /// Both after each other: one look is enough.
    pub(super) fn then(self, next: Self) -> Self {
        if self == Self::Look { self } else { next }
    }
}

impl Conn {
    pub(super) fn parse_limits(&self, max_control_line: usize) -> ParseLimits {
        ParseLimits {
            max_control_line,
            max_payload: self.max_payload,
            headers: self.headers,
            connect_only: self.phase == Phase::Greeting,
        }
    }
}

impl Broker {
    /// Carries out what a client sent.
    pub fn handle_input(&mut self, slot: u32, data: &[u8], now: Now, fx: &mut Effects) -> Progress {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return Progress::Done };
        if conn.phase == Phase::Closing {
            return Progress::Done;
        }
        conn.last_input_ns = now.mono_ns;
        conn.last_activity_wall_ns = now.wall_ns;
        if conn.paused != 0 {
            conn.partial.extend_from_slice(data);
            return Progress::Done;
        }
        let mut at = 0;
        if !conn.partial.is_empty() {
            match self.finish_partial(slot, data, now, fx) {
                (taken, Stop::None) => at = taken,
                (taken, Stop::Budget) => return Progress::More(taken),
                (taken, Stop::Wait | Stop::Close) => {
                    self.keep(slot, data.get(taken..).unwrap_or_default());
                    return Progress::Done;
                }
            }
        }
        let rest = data.get(at..).unwrap_or_default();
        let (taken, stop) = self.run_operations(slot, rest, now, fx);
        if stop == Stop::Budget {
            return Progress::More(at + taken);
        }
        self.keep(slot, rest.get(taken..).unwrap_or_default());
        Progress::Done
    }

    /// Goes on with input that was kept while the connection waited.
    pub fn handle_resume(&mut self, slot: u32, now: Now, fx: &mut Effects) -> Progress {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return Progress::Done };
        if conn.paused != 0 || conn.phase == Phase::Closing || conn.partial.is_empty() {
            return Progress::Done;
        }
        match self.finish_partial(slot, &[], now, fx) {
            (_, Stop::Budget) => Progress::More(0),
            _ => Progress::Done,
        }
    }

    /// Most bytes to read from a connection at once: before the login only little, so that what
    /// has to wait for a password is little too.
    #[must_use]
    pub fn read_bytes_max(&self, slot: u32) -> usize {
        match self.conns.get(slot as usize).map(|conn| conn.phase) {
            Some(Phase::Greeting | Phase::Verifying) => READ_BEFORE_LOGIN_BYTES_MAX,
            _ => usize::MAX,
        }
    }

    /// True while a connection's input must not be read.
    #[must_use]
    pub fn is_paused(&self, slot: u32) -> bool {
        self.conns
            .get(slot as usize)
            .is_none_or(|conn| conn.paused != 0 || conn.phase == Phase::Closing)
    }

    fn keep(&mut self, slot: u32, rest: &[u8]) {
        if let Some(conn) = self.conns.get_mut(slot as usize)
            && !rest.is_empty()
            && conn.phase != Phase::Closing
        {
            conn.partial.extend_from_slice(rest);
        }
    }

    /// Carries out what was kept from earlier input, taking from `data` only what completes it.
    fn finish_partial(
        &mut self,
        slot: u32,
        data: &[u8],
        now: Now,
        fx: &mut Effects,
    ) -> (usize, Stop) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return (0, Stop::Wait) };
        let mut partial = std::mem::take(&mut conn.partial);
        let mut taken = 0;
        let stop = loop {
            let (used, stop) = self.run_operations(slot, &partial, now, fx);
            partial.drain(..used);
            if stop != Stop::None || partial.is_empty() {
                break stop;
            }
            let rest = data.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                break Stop::Wait;
            }
            let need = self.bytes_missing(slot, &partial);
            let line = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let piece = if memchr(b'\n', &partial).is_some() { need } else { need.max(line) };
            let piece = rest.get(..piece.min(rest.len())).unwrap_or_default();
            partial.extend_from_slice(piece);
            taken += piece.len();
        };
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            // A large buffer is not kept by a connection that has nothing to keep.
            if !partial.is_empty() || partial.capacity() <= 512 {
                conn.partial = partial;
            }
        }
        (taken, stop)
    }

    /// How many more bytes complete the operation that `partial` begins, at least one.
    fn bytes_missing(&self, slot: u32, partial: &[u8]) -> usize {
        let Some(conn) = self.conns.get(slot as usize) else { return 1 };
        let limits = conn.parse_limits(self.settings.limits.max_control_line);
        match parse(partial, &limits) {
            Ok(Step::Incomplete { need }) => need.saturating_sub(partial.len()).max(1),
            _ => 1,
        }
    }

    pub(super) fn handle_operation(&mut self, slot: u32, op: &Op<'_>, now: Now, fx: &mut Effects) {
        if fx.trace {
            self.trace_in(slot, op, fx);
        }
        match *op {
            Op::Connect { json } => self.handle_connect(slot, json, now, fx),
            Op::Ping => self.handle_ping(slot, fx),
            Op::Pong => self.handle_pong(slot, now),
            Op::Sub { subject, queue, sid } => self.handle_sub(slot, subject, queue, sid, fx),
            Op::Unsub { sid, max } => self.handle_unsub(slot, sid, max, fx),
            Op::Err => self.close(slot, ClosedReason::ParseError, false, fx),
            Op::Ok | Op::Info | Op::Pub { .. } => {}
        }
    }

    pub(super) fn handle_parse_error(&mut self, slot: u32, error: ParseError, fx: &mut Effects) {
        self.log_conn(slot, crate::effect::Level::Error, error.reason().as_str(), fx);
        if let Some(text) = error.client_text() {
            self.send_error_text(slot, text, fx);
        }
        self.close(slot, error.reason(), true, fx);
    }

    /// Sends `-ERR` and closes when the error says so.
    pub(crate) fn send_error(&mut self, slot: u32, error: &ClientError<'_>, fx: &mut Effects) {
        let text = error.text();
        self.send_error_text(slot, &text, fx);
        if let Some(reason) = error.reason() {
            self.close(slot, reason, true, fx);
        }
    }

    pub(crate) fn send_error_text(&mut self, slot: u32, text: &str, fx: &mut Effects) {
        let mut line = Vec::with_capacity(text.len() + 10);
        wire::client::encode::push_err(&mut line, text);
        self.send(slot, &line, fx);
    }

    /// One message from a client. `body` ends with its CRLF.
    #[allow(clippy::too_many_arguments, reason = "a copy into a struct costs on the hot path")]
    #[inline]
    pub(super) fn handle_publish(
        &mut self,
        slot: u32,
        subject: &[u8],
        reply: Option<&[u8]>,
        header_len: usize,
        body: &[u8],
        now: Now,
        fx: &mut Effects,
    ) -> Flow {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return Flow::Look };
        let bytes = body.len().saturating_sub(2) as u64;
        conn.traffic.in_msgs += 1;
        conn.traffic.in_bytes += bytes;
        self.stats.in_msgs += 1;
        self.stats.in_bytes += bytes;
        let account = conn.account;
        if let Some(account) = self.accounts.get_mut(account as usize) {
            account.traffic.in_msgs += 1;
            account.traffic.in_bytes += bytes;
        }
        let careful = conn.verbose
            || conn.pedantic
            || !conn.rights.is_unrestricted()
            || fx.trace
            || matches!(subject.first(), Some(b'_' | b'$'))
            || matches!(reply, Some([b'_', b'R' | b'G', ..] | [b'$', ..]));
        if careful && !self.may_publish(slot, subject, reply, header_len, body, now, fx) {
            return Flow::Look;
        }
        let key = self.plan_of(slot, subject);
        let Some(conn) = self.conns.get(slot as usize) else { return Flow::Look };
        let m = Published {
            account,
            subject,
            shown: &[],
            reply: reply.unwrap_or_default(),
            header_len,
            body,
            mute: if conn.echo { None } else { Some(slot) },
            origin: Origin { slot, generation: conn.generation },
            home: self.mesh.me(),
            report: conn.no_responders && reply.is_some(),
            imported: false,
            now_ns: now.mono_ns,
        };
        let taken = careful && self.offer_request(&m);
        let mut outcome = self.fan_out(key, &m, fx);
        if careful {
            outcome.deliveries += usize::from(taken);
            self.answer_across(&m, &mut outcome, fx);
        }
        self.settle_publish(slot, &m, &outcome, now, fx)
    }

    /// What a round of deliveries means for the publisher.
    #[inline]
    pub(super) fn settle_publish(
        &mut self,
        slot: u32,
        m: &Published<'_>,
        outcome: &crate::publish::Outcome,
        now: Now,
        fx: &mut Effects,
    ) -> Flow {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return Flow::Look };
        if outcome.emitted != 0 {
            conn.last_emit = outcome.emitted;
        }
        for receiver in outcome.fed.into_iter().flatten() {
            conn.hold.fed.note(receiver, now.mono_ns);
        }
        if outcome.deliveries == 0 && !m.reply.is_empty() && conn.no_responders {
            self.send_no_responders(slot, m.reply, m.subject, fx);
        }
        if let Some(peer) = outcome.peer_behind {
            self.pause_for_peer(slot, peer);
            return Flow::Look;
        }
        if let Some(receiver) = outcome.behind {
            self.consider_hold(slot, receiver, now);
            return Flow::Look;
        }
        Flow::Next
    }

    /// The checks that most messages do not need: permissions, reserved subjects, pedantic mode;
    /// and the answer of verbose mode.
    #[allow(clippy::too_many_arguments, reason = "mirrors handle_publish")]
    #[cold]
    fn may_publish(
        &mut self,
        slot: u32,
        subject: &[u8],
        reply: Option<&[u8]>,
        header_len: usize,
        body: &[u8],
        now: Now,
        fx: &mut Effects,
    ) -> bool {
        if fx.trace {
            self.trace_publish(slot, subject, reply, header_len, body, fx);
        }
        let Some(conn) = self.conns.get_mut(slot as usize) else { return false };
        let pedantic = conn.pedantic;
        match conn.rights.check_publish(subject, reply, now.mono_ns) {
            Ok(()) => {}
            Err(PublishViolation::Subject) => {
                self.log_violation(slot, "Publish", subject, fx);
                self.send_error(slot, &ClientError::PublishDenied { subject }, fx);
                return false;
            }
            Err(PublishViolation::Reply) => {
                let reply = reply.unwrap_or_default();
                self.log_violation(slot, "Publish with Reply", reply, fx);
                self.send_error(slot, &ClientError::PublishReplyDenied { reply }, fx);
                return false;
            }
        }
        if pedantic && !wire::subject::is_valid_publish(subject) {
            self.send_error(slot, &ClientError::InvalidPublishSubject, fx);
        }
        if self.conns.get(slot as usize).is_some_and(|conn| conn.verbose) {
            self.send(slot, wire::client::encode::OK, fx);
        }
        true
    }

    /// Another shard found nobody who takes a message of this shard's connection.
    #[cold]
    pub(crate) fn handle_undelivered(
        &mut self,
        origin: Origin,
        subject: &[u8],
        reply: &[u8],
        fx: &mut Effects,
    ) {
        let (subject, reply) = match self.close_request(reply) {
            Some(request) => (request.subject, request.reply),
            None => (subject.into(), reply.into()),
        };
        let Some(conn) = self.conns.get(origin.slot as usize) else { return };
        if conn.generation == origin.generation && conn.phase == Phase::Ready {
            self.send_no_responders(origin.slot, &reply, &subject, fx);
        }
    }

    /// Tells a requester that nobody listens, on its own plain subscription to the reply.
    fn send_no_responders(&mut self, slot: u32, reply: &[u8], subject: &[u8], fx: &mut Effects) {
        let Some(account) = self.conns.get(slot as usize).map(|conn| conn.account) else { return };
        let Self { accounts, matches, subs, conns, pool, .. } = self;
        let Some(account) = accounts.get_mut(account as usize) else { return };
        account.index.match_into(reply, matches);
        let sub = matches
            .plain
            .iter()
            .filter_map(|id| subs.get(*id as usize))
            .find(|sub| sub.conn == slot);
        let (Some(sub), Some(conn)) = (sub, conns.get_mut(slot as usize)) else { return };
        let mut sid = Vec::new();
        conn.push_sid(sub.sid, &mut sid);
        let mut frame = Vec::new();
        wire::client::encode::push_no_responders(&mut frame, reply, &sid, subject);
        conn.outbox.push(&frame, pool);
        conn.traffic.out_msgs += 1;
        conn.traffic.out_bytes += 32 + subject.len() as u64;
        self.stats.out_msgs += 1;
        self.stats.out_bytes += 32 + subject.len() as u64;
        mark_dirty(conn, slot, fx);
    }

    fn pause_for_peer(&mut self, slot: u32, peer: crate::index::ShardId) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.paused & paused::PEER == 0 {
            conn.paused |= paused::PEER;
            conn.traffic.stalls += 1;
            self.stats.stalls += 1;
            let origin = Origin { slot, generation: conn.generation };
            self.mesh.wait_for(peer, origin);
        }
    }

    /// Clears a reason to wait; the driver is told when it was the last.
    pub(crate) fn unpause(&mut self, slot: u32, generation: u32, reason: u8, fx: &mut Effects) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.generation != generation || conn.paused & reason == 0 {
            return;
        }
        conn.paused &= !reason;
        if conn.paused == 0 {
            fx.resumed.push(slot);
        }
    }
}

/// Why operations were not carried out further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The input ended.
    None,
    /// The turn has enough output.
    Budget,
    /// The connection waits.
    Wait,
    /// The connection closes.
    Close,
}
