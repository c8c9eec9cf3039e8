//! Who gets a message, here and in the accounts that share its subject: from the cache of plans, or
//! from the indexes.

use crate::account::share::Shares;
use crate::broker::Broker;
use crate::conn::{Conn, Sub};
use crate::index::SubId;
use crate::service::SERVICE_SLOT;

use super::fanout::Published;
use super::plan::{Plan, PlanKey, Target};

/// A subscription's connection; its sid is appended.
fn describe(
    subs: &slab::Slab<Sub>,
    conns: &slab::Slab<Conn>,
    id: SubId,
    prefix: &mut Vec<u8>,
) -> Option<u32> {
    let sub = subs.get(id as usize)?;
    if sub.conn == SERVICE_SLOT {
        return Some(SERVICE_SLOT);
    }
    conns.get(sub.conn as usize)?.push_sid(sub.sid, prefix);
    Some(sub.conn)
}

/// A message as a service gets it that may be of another account than the publisher.
pub(super) fn as_received<'a>(
    plan: &'a Plan,
    target: &Target,
    sub: &Sub,
    m: &Published<'a>,
) -> Published<'a> {
    let subject = plan.subject_for(target);
    let shown = if subject == m.subject { m.shown } else { &[] };
    Published { account: sub.account, subject, shown, ..*m }
}

impl Broker {
    /// The plan of a subject, from the cache or freshly matched.
    pub(crate) fn plan(&mut self, account: u32, subject: &[u8]) -> PlanKey {
        if let Some(key) = self.plans.find(account, subject) {
            return key;
        }
        let Self { accounts, matches, subs, conns, plans, .. } = self;
        matches.clear();
        if let Some(account) = accounts.get_mut(account as usize) {
            account.index.match_into(subject, matches);
        }
        let key =
            plans.make(account, subject, matches, |id, prefix| describe(subs, conns, id, prefix));
        let shares = accounts.get(account as usize).and_then(|account| {
            let shares = account.settings.shares.as_ref()?;
            Some(std::sync::Arc::clone(shares))
        });
        if let Some(shares) = shares {
            self.extend_plan(key, subject, &shares);
        }
        key
    }

    /// Adds to a fresh plan who gets the message in other accounts.
    #[cold]
    fn extend_plan(&mut self, key: PlanKey, subject: &[u8], shares: &Shares) {
        let Self { accounts, matches, subs, conns, plans, .. } = self;
        let mut mapped = Vec::new();
        for import in &shares.exported {
            mapped.clear();
            if !import.map.apply(subject, &mut mapped, 0) {
                continue;
            }
            let Some(account) = accounts.get_mut(import.importer as usize) else { continue };
            account.index.match_into(&mapped, matches);
            plans.extend(key, &mapped, matches, |id, prefix| describe(subs, conns, id, prefix));
        }
        for (at, service) in shares.services.iter().enumerate() {
            if service.map.matches(subject) {
                plans.add_service(key, at as u32);
            }
        }
    }
}
