//! SUB and UNSUB: the index, the plans that a change of interest makes stale, and the word to the
//! other shards.

use wire::client::encode::OK;
use wire::client::errors::ClientError;
use wire::subject;

use super::{Phase, Sub};
use crate::auth::SubscribeVerdict;
use crate::broker::Broker;
use crate::effect::Effects;
use crate::index::{Interest, SubId};

/// Cached plans up to this number are checked one by one against a changed pattern; a larger
/// cache is emptied.
const PLANS_CHECKED_MAX: usize = 1024;

impl Broker {
    pub(crate) fn handle_sub(
        &mut self,
        slot: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
        fx: &mut Effects,
    ) {
        let filtered = match self.check_sub(slot, subject, queue) {
            Ok(filtered) => filtered,
            Err(error) => {
                if !matches!(error, ClientError::InvalidSubject) {
                    self.log_violation(slot, "Subscription", subject, fx);
                }
                return self.send_error(slot, &error, fx);
            }
        };
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let sid = conn.intern_sid(sid);
        if !conn.subs.contains_key(&sid) {
            let account = conn.account;
            let id = self.subs.insert(Sub {
                conn: slot,
                account,
                sid,
                max: 0,
                delivered: 0,
                filtered,
                subject: subject.into(),
                queue: queue.map(Into::into),
            }) as SubId;
            conn.subs.insert(sid, id);
            self.add_interest(account, slot, subject, queue, id);
        }
        if self.conns.get(slot as usize).is_some_and(|conn| conn.verbose) {
            self.send(slot, OK, fx);
        }
    }

    /// Whether a subscription may be made, and whether its deliveries must be checked.
    fn check_sub<'a>(
        &self,
        slot: u32,
        subject: &'a [u8],
        queue: Option<&'a [u8]>,
    ) -> Result<bool, ClientError<'a>> {
        let denied = Err(ClientError::SubscriptionDenied { subject, queue });
        let Some(conn) = self.conns.get(slot as usize) else { return Ok(false) };
        let tokens_max = self.settings.limits.max_sub_tokens;
        if tokens_max > 0 && subject::token_count(subject) > tokens_max {
            return Err(ClientError::TooManyTokens { subject });
        }
        let verdict = conn.rights.can_subscribe(subject, queue);
        if verdict == SubscribeVerdict::Denied {
            return denied;
        }
        if conn.max_subscriptions.is_some_and(|max| conn.subs.len() >= max) {
            return Err(ClientError::MaxSubscriptionsExceeded);
        }
        if !subject::is_valid_subscribe(subject) {
            return Err(ClientError::InvalidSubject);
        }
        Ok(verdict == SubscribeVerdict::AllowedButFilter)
    }

    pub(crate) fn add_interest(
        &mut self,
        account_id: u32,
        slot: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        sub: SubId,
    ) {
        let Some(account) = self.accounts.get_mut(account_id as usize) else { return };
        account.subscriptions += 1;
        let change = account.index.insert(subject, queue, sub);
        self.forget_plans(account_id, subject);
        self.tell_interest(account_id, Some(slot), subject, queue, change);
        // Another connection may have made the interest known, and a peer not have heard of it
        // yet: the PONG of this one waits for that, too.
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.last_emit = conn.last_emit.max(self.mesh.interest_seq());
        }
    }

    fn tell_interest(
        &mut self,
        account: u32,
        slot: Option<u32>,
        subject: &[u8],
        queue: Option<&[u8]>,
        change: Interest,
    ) {
        let Interest::Changed { weight } = change else { return };
        let seq = self.mesh.push_interest(account, subject, queue, weight);
        if let Some(conn) = slot.and_then(|slot| self.conns.get_mut(slot as usize)) {
            conn.last_emit = seq;
        }
    }

    /// Drops the plans that a change of interest in `pattern` touches.
    pub(crate) fn forget_plans(&mut self, account: u32, pattern: &[u8]) {
        if self.service.watching {
            self.service.changed.push((account, pattern.into()));
        }
        if let Some(known) = self.accounts.get(account as usize)
            && let Some(shares) = &known.settings.shares
        {
            let shares = std::sync::Arc::clone(shares);
            self.forget_shared_plans(&shares, pattern);
        }
        self.forget_own_plans(account, pattern);
    }

    /// Drops the plans of one account that a change of interest in `pattern` touches.
    pub(crate) fn forget_own_plans(&mut self, account: u32, pattern: &[u8]) {
        if subject::is_literal(pattern) {
            self.plans.forget(account, pattern);
        } else if self.plans.len() <= PLANS_CHECKED_MAX {
            self.plans.forget_matching(account, |subject| subject::matches(pattern, subject));
        } else {
            self.plans.clear();
        }
    }

    pub(crate) fn handle_unsub(
        &mut self,
        slot: u32,
        sid: &[u8],
        max: Option<u64>,
        fx: &mut Effects,
    ) {
        let Some(conn) = self.conns.get(slot as usize) else { return };
        let verbose = conn.verbose;
        let id = conn.find_sid(sid).and_then(|sid| conn.subs.get(&sid)).copied();
        if let Some(id) = id
            && let Some(sub) = self.subs.get_mut(id as usize)
        {
            match max {
                Some(max) if max > sub.delivered => sub.max = max,
                _ => self.remove_sub(id),
            }
        }
        if verbose {
            self.send(slot, OK, fx);
        }
    }

    /// Ends a subscription.
    pub(crate) fn remove_sub(&mut self, id: SubId) {
        let Some(sub) = self.subs.try_remove(id as usize) else { return };
        if let Some(conn) = self.conns.get_mut(sub.conn as usize) {
            conn.subs.remove(&sub.sid);
        }
        let Some(account) = self.accounts.get_mut(sub.account as usize) else { return };
        account.subscriptions = account.subscriptions.saturating_sub(1);
        self.answers.is_doubtful |= !self.answers.is_empty();
        let queue = sub.queue.as_deref();
        let change = account.index.remove(&sub.subject, queue, id);
        self.forget_plans(sub.account, &sub.subject);
        self.tell_interest(sub.account, Some(sub.conn), &sub.subject, queue, change);
    }

    /// Ends every subscription of a connection.
    pub(crate) fn remove_all_subs(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let subs = std::mem::take(&mut conn.subs);
        for id in subs.values() {
            self.remove_sub(*id);
        }
    }

    /// After new permissions or a reload: subscriptions that are no longer allowed end, the
    /// client is told, and the others' need for a check is worked out anew.
    pub(crate) fn recheck_subs(&mut self, slot: u32, fx: &mut Effects) {
        let Some(conn) = self.conns.get(slot as usize) else { return };
        if conn.phase == Phase::Closing {
            return;
        }
        let ids: Vec<SubId> = conn.subs.values().copied().collect();
        for id in ids {
            let Some(conn) = self.conns.get(slot as usize) else { return };
            let Some(sub) = self.subs.get_mut(id as usize) else { continue };
            let verdict = conn.rights.can_subscribe(&sub.subject, sub.queue.as_deref());
            sub.filtered = verdict == SubscribeVerdict::AllowedButFilter;
            if verdict == SubscribeVerdict::Denied {
                let mut sid = Vec::new();
                conn.push_sid(sub.sid, &mut sid);
                let (subject, queue) = (sub.subject.clone(), sub.queue.clone());
                self.remove_sub(id);
                let error = ClientError::SubscriptionRemoved {
                    subject: &subject,
                    queue: queue.as_deref(),
                    sid: &sid,
                };
                self.send_error(slot, &error, fx);
            }
        }
    }
}
