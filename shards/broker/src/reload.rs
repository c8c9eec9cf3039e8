//! New settings for a running shard: what changes for connections that are open.

use std::sync::Arc;

use wire::client::errors::{ClientError, ClosedReason};

use crate::account::Account;
use crate::auth::{ConnectionKind, Rights};
use crate::broker::Broker;
use crate::clock::Now;
use crate::conn::Phase;
use crate::effect::Effects;
use crate::settings::Settings;

impl Broker {
    /// Puts new settings in force. Connections whose credentials or permissions changed are
    /// closed or lose the subscriptions that they may no longer have.
    pub fn handle_reload(&mut self, settings: Arc<Settings>, _now: Now, fx: &mut Effects) {
        let old = std::mem::replace(&mut self.settings, settings);
        for (position, account) in self.settings.accounts.iter().enumerate() {
            match self.accounts.get_mut(position) {
                Some(known) => known.settings = account.clone(),
                None => self.accounts.push(Account::new(account, self.index_seed)),
            }
        }
        self.apply_shares(&old);
        self.closed.resize(self.settings.limits.closed_connections_max);
        if old.auth != self.settings.auth {
            self.auth = Arc::clone(&self.settings.auth_table);
            self.recheck_logins(fx);
        }
        self.apply_limits(&old);
        if old.identity != self.settings.identity {
            self.broadcast_info(fx);
        }
    }

    /// Every logged-in connection is bound anew; who would be refused now is told and closed.
    fn recheck_logins(&mut self, fx: &mut Effects) {
        let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            let Some(conn) = self.conns.get(slot as usize) else { continue };
            if conn.phase != Phase::Ready {
                continue;
            }
            let anonymous = crate::auth::Identity::anonymous("");
            let identity = conn.identity.as_ref().unwrap_or(&anonymous);
            let account = self.accounts.get(conn.account as usize).map(|a| a.name.clone());
            let fresh = self
                .auth
                .rebind(identity, ConnectionKind::Standard)
                .filter(|fresh| account.as_deref() == Some(&*fresh.account));
            let Some(fresh) = fresh else {
                // As with nats-server, nothing is said.
                self.close(slot, ClosedReason::AuthenticationFailure, false, fx);
                continue;
            };
            let seed = self.random.next_u64();
            if let Some(conn) = self.conns.get_mut(slot as usize) {
                conn.rights = Rights::new(fresh.permissions.clone(), fresh.is_system, seed);
                conn.identity = Some(fresh);
            }
            self.recheck_subs(slot, fx);
        }
    }

    fn apply_limits(&mut self, old: &Settings) {
        let limits = &self.settings.limits;
        if old.limits.max_payload == limits.max_payload {
            return;
        }
        for (_, conn) in &mut self.conns {
            let account = self.accounts.get(conn.account as usize);
            let own = account.and_then(|account| account.settings.max_payload);
            conn.max_payload = own.unwrap_or(limits.max_payload).min(limits.max_payload);
        }
    }

    /// A lowered limit of connections: the youngest are closed until `keep` are left here.
    pub fn close_excess(&mut self, keep: usize, fx: &mut Effects) {
        if self.conns.len() <= keep {
            return;
        }
        let mut slots: Vec<(u64, u32)> =
            self.conns.iter().map(|(slot, conn)| (conn.cid, slot as u32)).collect();
        slots.sort_unstable();
        for (_, slot) in slots.split_off(keep) {
            self.send_error(slot, &ClientError::MaxConnectionsExceeded, fx);
        }
    }
}
