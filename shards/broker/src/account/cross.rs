//! Messages that cross from one account into another through a service import, and the answers on
//! their way back. Streams need nothing here: who takes them is in the plan of the subject.
//!
//! ```text
//!   shard of the requester                         shard of the responder
//!   PUB in B ─ plan has a service ─ map ─ PUB in A ──parcel──► MSG … _R_.x
//!   reply of B ◄─ Answers["_R_.x"] ◄────parcel, by the shard in _R_.x──── PUB _R_.x in A
//! ```

use std::sync::Arc;

use wire::api::advisory::ClientInfo;

use super::CLIENT_HEADER;
use super::answers::{ANSWER_PREFIX, Answer, Text, shard_of};
use super::share::{AnswerKind, ServiceImport, Shares};
use crate::broker::Broker;
use crate::effect::Effects;
use crate::mesh::Message;
use crate::publish::{Outcome, PlanKey, Published};
use crate::settings::{SECOND_NS, Settings};
use crate::timers::TimerKind;

/// Accounts that one message may come through.
const HOPS_MAX: u32 = 32;
/// Between two looks at the requests that wait, ns.
const LOOK_NS: u64 = SECOND_NS;
/// Acknowledgements go to the stream's account as they are, so that pulling works across accounts.
const ACK_PREFIX: &[u8] = b"$JS.ACK.";

impl Broker {
    /// Publishes a message in the accounts whose services take it.
    #[cold]
    pub(crate) fn use_services(
        &mut self,
        key: PlanKey,
        m: &Published<'_>,
        outcome: &mut Outcome,
        fx: &mut Effects,
    ) {
        let Some(account) = self.accounts.get(m.account as usize) else { return };
        let Some(shares) = account.settings.shares.clone() else { return };
        let Some(plan) = self.plans.get(key) else { return };
        if self.hops >= HOPS_MAX {
            return;
        }
        let services = plan.services.clone();
        self.hops += 1;
        for at in &services {
            let Some(service) = shares.services.get(*at as usize) else { continue };
            let sole = outcome.deliveries == 0 && services.len() == 1;
            let m = Published { report: m.report && sole, ..*m };
            let there = self.use_service(service, &m, fx);
            outcome.join(&there);
        }
        self.hops -= 1;
    }

    fn use_service(
        &mut self,
        service: &ServiceImport,
        m: &Published<'_>,
        fx: &mut Effects,
    ) -> Outcome {
        let mut subject = Vec::with_capacity(m.subject.len() + 32);
        if !service.map.apply(m.subject, &mut subject, 0) {
            return Outcome::default();
        }
        let request = Answer {
            from: service.exporter,
            to: m.account,
            reply: Text::from_slice(m.reply),
            subject: Text::from_slice(m.subject),
            kind: service.kind,
            threshold_ns: service.threshold_ns,
            touched_ns: m.now_ns,
        };
        let reply = self.open_request(request);
        let (block, payload) = m.body.split_at_checked(m.header_len).unwrap_or((&[], m.body));
        let mut body = block.to_vec();
        let client = self.describe_requester(m, block, service.shares_client);
        wire::headers::set(&mut body, CLIENT_HEADER, &client);
        let header_len = body.len();
        body.extend_from_slice(payload);
        let there = Published {
            account: service.exporter,
            subject: &subject,
            reply: &reply,
            header_len,
            body: &body,
            mute: None,
            imported: true,
            ..*m
        };
        let taken = self.offer_request(&there);
        let key = self.plan(there.account, there.subject);
        let mut outcome = self.fan_out(key, &there, fx);
        outcome.deliveries += usize::from(taken);
        if outcome.deliveries == 0 && m.reply != reply.as_slice() {
            self.answers.close(&reply);
        }
        outcome
    }

    /// What the other account sees as reply: a private one, whose answers are passed on.
    fn open_request(&mut self, request: Answer) -> Text {
        if request.reply.is_empty() || request.reply.starts_with(ACK_PREFIX) {
            return request.reply;
        }
        if !self.answers.is_watched {
            self.answers.is_watched = true;
            self.timers.arm(request.touched_ns + LOOK_NS, u32::MAX, 0, TimerKind::Answers);
        }
        Text::from_slice(&self.answers.open(request))
    }

    /// JSON about who asks. A request that has come through an account before keeps what it says.
    fn describe_requester(&self, m: &Published<'_>, block: &[u8], shares_client: bool) -> Vec<u8> {
        let name = |id: u32| {
            self.accounts.get(id as usize).map(|account| account.name.clone()).unwrap_or_default()
        };
        let mut out = Vec::new();
        if m.imported
            && let Some(known) = wire::headers::get(block, CLIENT_HEADER)
            && let Some(told) = with_service(known, &name(m.account))
        {
            return told;
        }
        let is_here = m.home == self.mesh.me();
        let conn = self.conns.get(m.origin.slot as usize);
        let conn = conn.filter(|conn| is_here && conn.generation == m.origin.generation);
        match conn {
            Some(_) if shares_client => self.describe_client(m.origin, &mut out),
            _ => {
                let rtt_ns = conn.map_or(0, |conn| i64::try_from(conn.rtt_ns).unwrap_or(0));
                let info = ClientInfo { acc: name(m.account), rtt_ns, ..ClientInfo::default() };
                wire::json::push(&mut out, &info);
            }
        }
        out
    }

    /// Passes a message on that was published to a private reply.
    #[inline]
    pub(crate) fn answer_across(
        &mut self,
        m: &Published<'_>,
        outcome: &mut Outcome,
        fx: &mut Effects,
    ) {
        if m.subject.starts_with(ANSWER_PREFIX) {
            self.send_answer(m, outcome, fx);
        }
    }

    #[cold]
    fn send_answer(&mut self, m: &Published<'_>, outcome: &mut Outcome, fx: &mut Effects) {
        let Some(shard) = shard_of(m.subject) else { return };
        if shard == self.mesh.me() {
            let there = self.deliver_answer(m, fx);
            return outcome.join(&there);
        }
        if !self.mesh.peer_ids().any(|id| id == shard) {
            return;
        }
        let report = m.report && outcome.deliveries == 0;
        let parcel = Message { report, answer: true, ..m.parcel() };
        let seq = self.mesh.push_message(shard, &parcel);
        outcome.note_emitted(shard, seq, self.mesh.is_backed_up(shard));
    }

    /// An answer that was published on another shard.
    pub(crate) fn handle_answer_parcel(
        &mut self,
        parcel: &Message<'_>,
        now_ns: u64,
        fx: &mut Effects,
    ) -> Outcome {
        let m = Published { report: false, ..Published::of(parcel, now_ns) };
        self.deliver_answer(&m, fx)
    }

    /// Publishes an answer where the request came from.
    fn deliver_answer(&mut self, m: &Published<'_>, fx: &mut Effects) -> Outcome {
        if self.hops >= HOPS_MAX {
            return Outcome::default();
        }
        let is_empty = m.body.len().saturating_sub(2) <= m.header_len;
        let Some(request) = self.answers.take(m.subject, m.account, is_empty, m.now_ns) else {
            return Outcome::default();
        };
        let back = Answer {
            from: request.to,
            to: m.account,
            reply: Text::from_slice(m.reply),
            subject: Text::from_slice(m.subject),
            touched_ns: m.now_ns,
            ..request
        };
        let reply = self.open_request(back);
        let there = Published {
            account: request.to,
            subject: &request.reply,
            reply: &reply,
            mute: None,
            report: false,
            imported: true,
            ..*m
        };
        self.hops += 1;
        let key = self.plan(there.account, there.subject);
        let mut outcome = self.fan_out(key, &there, fx);
        self.answer_across(&there, &mut outcome, fx);
        self.hops -= 1;
        if outcome.deliveries == 0 && m.reply != reply.as_slice() {
            self.answers.close(&reply);
        }
        outcome
    }

    /// Nobody takes the request behind a private reply: its end, and the request of a client that
    /// it began with.
    pub(crate) fn close_request(&mut self, reply: &[u8]) -> Option<Answer> {
        let mut request = self.answers.close(reply)?;
        while let Some(before) = self.answers.close(&request.reply) {
            request = before;
        }
        Some(request)
    }

    /// Whether somebody in another account would get a message.
    #[cold]
    pub(crate) fn has_interest_elsewhere(&mut self, account: u32, subject: &[u8]) -> bool {
        self.is_wanted_elsewhere(account, subject, |importer, mapped| {
            importer.index.has_interest(mapped)
        })
    }

    /// The same for subscriptions to the very subject.
    #[cold]
    pub(crate) fn has_own_interest_elsewhere(
        &mut self,
        account: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> bool {
        self.is_wanted_elsewhere(account, subject, |importer, mapped| {
            importer.index.has_own_interest(mapped, queue)
        })
    }

    fn is_wanted_elsewhere(
        &mut self,
        account: u32,
        subject: &[u8],
        is_wanted: impl Fn(&mut super::Account, &[u8]) -> bool,
    ) -> bool {
        if subject.starts_with(ANSWER_PREFIX) {
            return self.is_answer_wanted(account, subject);
        }
        let Some(known) = self.accounts.get(account as usize) else { return false };
        let Some(shares) = known.settings.shares.clone() else { return false };
        let mut mapped = Vec::new();
        let taken = shares.exported.iter().any(|import| {
            mapped.clear();
            import.map.apply(subject, &mut mapped, 0)
                && self
                    .accounts
                    .get_mut(import.importer as usize)
                    .is_some_and(|account| is_wanted(account, &mapped))
        });
        taken || shares.has_service(subject)
    }

    /// Whether somebody waits for answers to a private reply. Another shard says when nobody does.
    fn is_answer_wanted(&mut self, account: u32, reply: &[u8]) -> bool {
        let Some(shard) = shard_of(reply) else { return false };
        if shard != self.mesh.me() {
            return self.mesh.peer_ids().any(|id| id == shard) && !self.answers.is_ended(reply);
        }
        let Some(request) = self.answers.get(reply).filter(|one| one.from == account) else {
            return false;
        };
        let (to, reply) = (request.to, request.reply.clone());
        self.has_interest(to, &reply)
    }

    /// Ends the requests that got no answer in time, and those whose requester has gone.
    pub(crate) fn handle_answers_due(&mut self, now_ns: u64) {
        let doubtful = std::mem::take(&mut self.answers.is_doubtful);
        let Self { answers, accounts, .. } = self;
        let ended = answers.end_where(|request| {
            let is_late = now_ns.saturating_sub(request.touched_ns) > request.threshold_ns;
            let is_left = doubtful
                && !request.reply.starts_with(ANSWER_PREFIX)
                && accounts
                    .get_mut(request.to as usize)
                    .is_none_or(|account| !account.index.has_interest(&request.reply));
            is_late || is_left
        });
        self.tell_ended(ended);
        self.answers.is_watched = !self.answers.is_empty();
        if self.answers.is_watched {
            self.timers.arm(now_ns + LOOK_NS, u32::MAX, 0, TimerKind::Answers);
        }
    }

    /// Requests that wanted many answers have ended: whoever gives them hears of it.
    fn tell_ended(&mut self, ended: Vec<(super::answers::PrivateReply, Answer)>) {
        for (reply, request) in ended {
            if request.kind != AnswerKind::Single {
                self.mesh.push_interest(request.from, &reply, None, 0);
                self.forget_plans(request.from, &reply);
            }
        }
    }

    /// Drops the plans of other accounts that a change of interest in an importer touches.
    #[cold]
    pub(crate) fn forget_shared_plans(&mut self, shares: &Shares, pattern: &[u8]) {
        let mut mapped = Vec::new();
        for import in &shares.imported {
            mapped.clear();
            let is_literal = wire::subject::is_literal(pattern);
            let back = import.back.as_ref().filter(|_| is_literal);
            let touched = match back {
                Some(back) if !back.apply(pattern, &mut mapped, 0) => continue,
                Some(_) => mapped.as_slice(),
                None => import.map.source(),
            };
            if self.service.watching {
                self.service.changed.push((import.exporter, touched.into()));
            }
            self.forget_own_plans(import.exporter, touched);
        }
    }

    /// New settings: what was shared and is no longer ends at once.
    pub(crate) fn apply_shares(&mut self, old: &Settings) {
        let shares_of = |settings: &Settings, id: usize| -> Option<Arc<Shares>> {
            settings.accounts.get(id).and_then(|account| account.shares.clone())
        };
        let now = &self.settings;
        let changed: Vec<usize> = (0..now.accounts.len())
            .filter(|id| shares_of(old, *id) != shares_of(now, *id))
            .collect();
        if changed.is_empty() {
            return;
        }
        self.plans.clear();
        if self.service.watching {
            for id in changed {
                self.service.changed.push((id as u32, b">"[..].into()));
            }
        }
        let uses = |from: u32, to: u32| {
            shares_of(&self.settings, from as usize)
                .is_some_and(|shares| shares.services.iter().any(|one| one.exporter == to))
        };
        let ended =
            self.answers.end_where(|one| !uses(one.from, one.to) && !uses(one.to, one.from));
        self.tell_ended(ended);
    }
}

/// What is known of a requester, with the account through which the request came.
fn with_service(known: &[u8], account: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(known).ok()?;
    let end = end_of_field(text, "\"acc\":\"")?;
    let (before, mut after) = text.split_at_checked(end)?;
    if after.starts_with(",\"svc\":\"") {
        after = after.get(end_of_field(after, "\"svc\":\"")?..)?;
    }
    let mut out = before.as_bytes().to_vec();
    out.extend_from_slice(b",\"svc\":");
    wire::json::push(&mut out, &account);
    out.extend_from_slice(after.as_bytes());
    Some(out)
}

/// The place behind the string that follows a key.
fn end_of_field(text: &str, key: &str) -> Option<usize> {
    let start = text.find(key)? + key.len();
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_on_the_way_stands_behind_that_of_the_requester() {
        for (known, account, told) in [
            (r#"{"acc":"C","rtt":5}"#, "B", r#"{"acc":"C","svc":"B","rtt":5}"#),
            (r#"{"acc":"C","svc":"B","rtt":5}"#, "A", r#"{"acc":"C","svc":"A","rtt":5}"#),
            (r#"{"host":"h","acc":"a\"b"}"#, "x", r#"{"host":"h","acc":"a\"b","svc":"x"}"#),
        ] {
            let out = with_service(known.as_bytes(), account).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), told);
        }
        assert!(with_service(b"{}", "B").is_none());
        assert!(with_service(b"{\"acc\":\"x", "B").is_none());
    }
}
