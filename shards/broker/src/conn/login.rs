//! CONNECT: what the client asks for, who it is, and the account it is put under.

use wire::client::connect::Connect;
use wire::client::encode::OK;
use wire::client::errors::{ClientError, ClosedReason};

use super::{Phase, paused};
use crate::auth::{AuthTable, ConnectionKind, Identity, Login, PasswordCheck, Rights};
use crate::broker::Broker;
use crate::clock::Now;
use crate::effect::{Effects, HelperJob, Level};

impl Broker {
    pub(crate) fn handle_connect(&mut self, slot: u32, json: &[u8], now: Now, fx: &mut Effects) {
        let Ok(connect) = Connect::parse(json) else {
            self.log_conn(slot, Level::Error, "the JSON of CONNECT cannot be read", fx);
            return self.close(slot, ClosedReason::ParseError, true, fx);
        };
        let server_headers = self.settings.headers;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.verbose = connect.verbose;
        conn.pedantic = connect.pedantic;
        conn.echo = connect.echo;
        conn.headers = connect.headers && server_headers;
        conn.no_responders = connect.no_responders && conn.headers;
        conn.described.name = connect.name.clone().unwrap_or_default();
        conn.described.lang = connect.lang.clone().unwrap_or_default();
        conn.described.version = connect.version.clone().unwrap_or_default();
        if !(0..=1).contains(&connect.protocol) {
            return self.send_error(slot, &ClientError::InvalidClientProtocol, fx);
        }
        conn.protocol = connect.protocol as u8;
        if connect.no_responders && !connect.headers {
            return self.send_error(slot, &ClientError::NoRespondersRequiresHeaders, fx);
        }
        let nonce = conn.nonce.clone();
        let login = self.auth.begin(&connect, ConnectionKind::Standard, nonce.as_bytes());
        self.settle_login(slot, login, now, fx);
    }

    /// A helper has verified a password, or found it wrong.
    pub fn handle_helper_done(
        &mut self,
        slot: u32,
        generation: u32,
        check: PasswordCheck,
        verified: bool,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if conn.generation != generation || conn.phase != Phase::Verifying {
            return;
        }
        conn.phase = Phase::Greeting;
        let login = AuthTable::finish(check, verified);
        self.settle_login(slot, login, now, fx);
        self.unpause(slot, generation, paused::LOGIN, fx);
    }

    fn settle_login(&mut self, slot: u32, login: Login, now: Now, fx: &mut Effects) {
        match login {
            Login::Accept(identity) => self.accept_login(slot, &identity, now, fx),
            Login::Reject(reason) => {
                self.log_conn(slot, Level::Debug, &format!("login refused: {reason}"), fx);
                self.reject_login(slot, fx);
            }
            Login::VerifyPassword(check) => {
                let Some(conn) = self.conns.get_mut(slot as usize) else { return };
                conn.phase = Phase::Verifying;
                conn.paused |= paused::LOGIN;
                let generation = conn.generation;
                fx.helpers.push(HelperJob { slot, generation, check });
            }
        }
    }

    fn reject_login(&mut self, slot: u32, fx: &mut Effects) {
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.refused_login = true;
        }
        self.log_conn(slot, Level::Error, "authentication error", fx);
        self.send_error(slot, &ClientError::AuthorizationViolation, fx);
    }

    fn accept_login(&mut self, slot: u32, identity: &Identity, now: Now, fx: &mut Effects) {
        let account = self.accounts.iter().position(|account| account.name == *identity.account);
        let Some(account) = account else { return self.reject_login(slot, fx) };
        let account = account as u32;
        let moved = self
            .conns
            .get(slot as usize)
            .is_some_and(|conn| conn.account != account || !conn.counted);
        if moved {
            self.remove_all_subs(slot);
            if !self.bind_account(slot, account, fx) {
                return;
            }
        }
        let seed = self.random.next_u64();
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.phase = Phase::Ready;
        conn.connected = true;
        conn.described.user = identity.user.to_string();
        conn.identity = Some(identity.clone());
        conn.rights = Rights::new(identity.permissions.clone(), identity.is_system, seed);
        conn.last_activity_wall_ns = now.wall_ns;
        let verbose = conn.verbose;
        self.recheck_subs(slot, fx);
        if verbose {
            self.send(slot, OK, fx);
        }
    }

    /// Another verb than CONNECT came first where a login is needed: `no_auth_user` steps in.
    /// False when there is none.
    pub(crate) fn bind_without_login(&mut self, slot: u32, now: Now, fx: &mut Effects) -> bool {
        let login = self.auth.no_auth_identity(ConnectionKind::Standard);
        let Login::Accept(identity) = login else { return false };
        let connected = self.conns.get(slot as usize).is_some_and(|conn| conn.connected);
        let verbose = self.conns.get_mut(slot as usize).map(|c| std::mem::take(&mut c.verbose));
        self.accept_login(slot, &identity, now, fx);
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.verbose = verbose.unwrap_or(true);
            conn.connected = connected;
        }
        self.conns.get(slot as usize).is_some_and(|conn| conn.phase == Phase::Ready)
    }
}
