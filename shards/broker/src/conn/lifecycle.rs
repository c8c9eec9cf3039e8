//! A connection's beginning and end, the deadlines in between, and lame duck mode.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use wire::client::encode::push_info;
use wire::client::errors::{ClientError, ClosedReason};
use wire::client::info::Info;

use super::outbox::Outbox;
use super::{Conn, Described, HoldState, LastSubject, Phase, SidMap, Traffic};
use crate::auth::Rights;
use crate::broker::Broker;
use crate::clock::Now;
use crate::effect::{Effects, Level};
use crate::timers::TimerKind;

/// What the driver knows of a socket that it has accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Unique in the process, rising.
    pub cid: u64,
    /// Client's address.
    pub ip: IpAddr,
    /// Client's port.
    pub port: u16,
    /// Challenge for signatures; used when some login method needs one.
    pub nonce: String,
    /// The process has as many connections as it may have.
    pub over_limit: bool,
    /// The handshake came before INFO.
    pub tls_first: bool,
}

impl Broker {
    /// A new connection: returns its slot. INFO is in its outbox.
    pub fn handle_accept(&mut self, accepted: Accepted, now: Now, fx: &mut Effects) -> u32 {
        let auth_required = self.auth.auth_required();
        let over_limit = accepted.over_limit;
        let conn = self.fresh_conn(accepted, now);
        let generation = conn.generation;
        let open = conn.phase == Phase::Ready;
        let slot = self.conns.insert(conn) as u32;
        self.stats.total_connections += 1;
        self.log_conn(slot, Level::Debug, "Client connection created", fx);
        if over_limit {
            self.send_info(slot, false, fx);
            self.log_conn(slot, Level::Error, "maximum connections exceeded", fx);
            self.send_error(slot, &ClientError::MaxConnectionsExceeded, fx);
            return slot;
        }
        self.send_info(slot, false, fx);
        if open {
            self.bind_account(slot, 0, fx);
        } else if auth_required {
            let at = now.mono_ns + self.settings.limits.auth_timeout_ns;
            self.timers.arm(at, slot, generation, TimerKind::Auth);
        }
        self.arm_first_ping(slot, generation, now);
        slot
    }

    /// The state of a connection that has just been accepted.
    fn fresh_conn(&mut self, accepted: Accepted, now: Now) -> Conn {
        self.generation = self.generation.wrapping_add(1);
        let seed = self.random.next_u64();
        Conn {
            cid: accepted.cid,
            generation: self.generation,
            phase: if self.auth.is_open() { Phase::Ready } else { Phase::Greeting },
            paused: 0,
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            connected: false,
            first_pong_sent: false,
            dirty: false,
            blocked: false,
            account: 0,
            counted: false,
            max_payload: self.settings.limits.max_payload,
            max_subscriptions: self.settings.limits.max_subscriptions,
            outbox: Outbox::default(),
            partial: Vec::new(),
            last_subject: LastSubject::default(),
            traffic: Traffic::default(),
            sent_bytes: 0,
            last_emit: 0,
            barrier: Vec::new(),
            subs: SidMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            odd_sids: Vec::new(),
            rights: Rights::default(),
            hold: HoldState::default(),
            pings_out: 0,
            ping_sent_ns: 0,
            rtt_ns: 0,
            last_input_ns: now.mono_ns,
            blocked_since_ns: now.mono_ns,
            write_timer: false,
            ip: accepted.ip,
            port: accepted.port,
            start_wall_ns: now.wall_ns,
            last_activity_wall_ns: now.wall_ns,
            nonce: if self.auth.nonce_required() { accepted.nonce } else { String::new() },
            described: Box::new(Described {
                tls_first: accepted.tls_first,
                ..Described::default()
            }),
            identity: None,
            refused_login: false,
            close_reason: None,
        }
    }

    /// INFO as this connection gets it; `connect_info` after its first PING.
    pub(crate) fn info(&self, conn: &Conn, connect_info: bool) -> Info {
        let identity = &self.settings.identity;
        let tls = self.settings.tls;
        let account = self.accounts.get(conn.account as usize);
        Info {
            server_id: identity.server_id.clone(),
            server_name: identity.server_name.clone(),
            version: identity.version.clone(),
            proto: 1,
            git_commit: identity.git_commit.clone(),
            go: identity.runtime.clone(),
            host: identity.host.clone(),
            port: identity.port,
            headers: self.settings.headers,
            jetstream: identity.jetstream,
            domain: identity.domain.clone(),
            api_level: identity.api_level,
            auth_required: if connect_info {
                !self.auth.is_open()
            } else {
                self.auth.auth_required()
            },
            tls_required: tls.required,
            tls_verify: tls.verify,
            tls_available: tls.available,
            max_payload: conn.max_payload as i64,
            client_id: conn.cid,
            client_ip: conn.ip.to_canonical().to_string(),
            nonce: conn.nonce.clone(),
            cluster: identity.cluster.clone().unwrap_or_default(),
            lame_duck: self.lame_duck,
            connect_info,
            remote_account: match account {
                Some(account) if connect_info => account.name.clone(),
                _ => String::new(),
            },
            account_is_system: connect_info
                && account.is_some_and(|account| account.settings.is_system),
            xkey: identity.xkey.clone().unwrap_or_default(),
            ..Info::default()
        }
    }

    pub(crate) fn send_info(&mut self, slot: u32, connect_info: bool, fx: &mut Effects) {
        let Some(conn) = self.conns.get(slot as usize) else { return };
        let info = self.info(conn, connect_info);
        let mut line = Vec::with_capacity(512);
        push_info(&mut line, &info);
        self.send(slot, &line, fx);
    }

    /// The TLS handshake of a connection is done: what monitoring shows of it.
    pub fn handle_tls(
        &mut self,
        slot: u32,
        version: &'static str,
        cipher: &str,
        certs: Vec<[String; 3]>,
    ) {
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.described.tls_version = version;
            cipher.clone_into(&mut conn.described.tls_cipher);
            conn.described.tls_peer_certs = certs;
        }
    }

    /// Too many connections began TLS in this second.
    pub fn handle_throttled(&mut self, slot: u32, fx: &mut Effects) {
        self.send_error(slot, &ClientError::ConnectionThrottled, fx);
    }

    /// Puts a connection under an account, unless the account is full.
    pub(crate) fn bind_account(&mut self, slot: u32, account: u32, fx: &mut Effects) -> bool {
        self.leave_account(slot);
        let Some(entry) = self.accounts.get_mut(account as usize) else { return false };
        let before = entry.shared_connections().fetch_add(1, Ordering::Relaxed);
        if entry.settings.max_connections.is_some_and(|max| before >= max) {
            entry.shared_connections().fetch_sub(1, Ordering::Relaxed);
            self.send_error(slot, &ClientError::MaxAccountConnectionsExceeded, fx);
            return false;
        }
        entry.connections += 1;
        entry.total_connections += 1;
        let limits = &self.settings.limits;
        let max_payload = entry.settings.max_payload.unwrap_or(limits.max_payload);
        let subscriptions = match (entry.settings.max_subscriptions, limits.max_subscriptions) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Some(conn) = self.conns.get_mut(slot as usize) {
            conn.account = account;
            conn.counted = true;
            conn.max_payload = max_payload.min(limits.max_payload);
            conn.max_subscriptions = subscriptions;
            conn.last_subject.key = crate::publish::PlanKey::default();
        }
        true
    }

    fn leave_account(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        if !std::mem::take(&mut conn.counted) {
            return;
        }
        if let Some(account) = self.accounts.get_mut(conn.account as usize) {
            account.connections = account.connections.saturating_sub(1);
            account.shared_connections().fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The socket of a connection is gone, or was found closed by the client.
    pub fn handle_disconnect(&mut self, slot: u32, reason: ClosedReason, fx: &mut Effects) {
        self.close(slot, reason, false, fx);
    }

    /// The driver has closed the socket: the slot is free afterwards.
    pub fn handle_closed(&mut self, slot: u32, now: Now, fx: &mut Effects) {
        let Some(conn) = self.conns.get(slot as usize) else { return };
        let reason = conn.close_reason.unwrap_or(ClosedReason::ClientClosed);
        match reason {
            ClosedReason::SlowConsumerPendingBytes => self.stats.slow_pending += 1,
            ClosedReason::SlowConsumerWriteDeadline => self.stats.slow_deadline += 1,
            _ => {}
        }
        if matches!(
            reason,
            ClosedReason::SlowConsumerPendingBytes | ClosedReason::SlowConsumerWriteDeadline
        ) {
            let text = self.slow_consumer_text(slot, reason, now);
            self.log_conn(slot, Level::Info, &text, fx);
            if let Some(account) = self
                .conns
                .get(slot as usize)
                .and_then(|c| self.accounts.get_mut(c.account as usize))
            {
                account.traffic.slow_consumers += 1;
            }
        }
        self.log_conn(slot, Level::Debug, &format!("Client connection closed: {reason}"), fx);
        let subscriptions = self.conns.get(slot as usize).map_or(0, |conn| conn.subs.len());
        let snapshot = self.conn_snapshot(slot, &crate::monitor_ring::SUBS_OF_CLOSED, now);
        self.remove_all_subs(slot);
        self.release_all_waiters(slot, fx);
        self.leave_account(slot);
        if let Some(mut snapshot) = snapshot {
            snapshot.figures.subs = subscriptions as u64;
            self.closed.push(snapshot, reason, now);
        }
        if let Some(mut conn) = self.conns.try_remove(slot as usize) {
            conn.outbox.clear(&mut self.pool);
        }
    }

    /// Which connection was too slow, how far behind and on what.
    fn slow_consumer_text(&self, slot: u32, reason: ClosedReason, now: Now) -> String {
        let Some(conn) = self.conns.get(slot as usize) else { return String::new() };
        let busiest = conn
            .subs
            .values()
            .filter_map(|id| self.subs.get(*id as usize))
            .max_by_key(|sub| sub.delivered)
            .map(|sub| String::from_utf8_lossy(&sub.subject).into_owned())
            .unwrap_or_default();
        let pending = conn.outbox.pending_bytes();
        let stuck_ms = now.mono_ns.saturating_sub(conn.blocked_since_ns) / 1_000_000;
        match reason {
            ClosedReason::SlowConsumerWriteDeadline => format!(
                "Slow Consumer Detected: WriteDeadline of {} exceeded with {pending} total bytes \
                 pending, nothing accepted for {stuck_ms} ms, busiest subscription \"{busiest}\".",
                wire::time::format_go_duration(self.settings.limits.write_deadline_ns as i64),
            ),
            _ => format!(
                "Slow Consumer Detected: MaxPending of {} Exceeded with {pending} total bytes \
                 pending, busiest subscription \"{busiest}\".",
                self.settings.limits.max_pending_bytes
            ),
        }
    }

    /// Carries out every deadline that is due.
    pub fn handle_timers(&mut self, now: Now, fx: &mut Effects) {
        while let Some(due) = self.timers.pop_due(now.mono_ns) {
            if due.kind == TimerKind::Answers {
                self.handle_answers_due(now.mono_ns);
                continue;
            }
            let Some(conn) = self.conns.get_mut(due.slot as usize) else { continue };
            if conn.generation != due.generation || conn.phase == Phase::Closing {
                continue;
            }
            match due.kind {
                TimerKind::Auth => {
                    if matches!(conn.phase, Phase::Greeting | Phase::Verifying) {
                        self.log_conn(due.slot, Level::Error, "Authentication Timeout", fx);
                        self.send_error(due.slot, &ClientError::AuthenticationTimeout, fx);
                    }
                }
                TimerKind::Ping => self.handle_ping_due(due.slot, now, fx),
                TimerKind::Write => self.handle_write_due(due.slot, now, fx),
                TimerKind::Hold => self.handle_hold_due(due.slot, now, fx),
                TimerKind::LameDuck => {
                    self.close(due.slot, ClosedReason::ServerShutdown, true, fx);
                }
                TimerKind::Answers => {}
            }
        }
    }

    fn handle_write_due(&mut self, slot: u32, now: Now, fx: &mut Effects) {
        let deadline_ns = self.settings.limits.write_deadline_ns;
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        conn.write_timer = false;
        if !conn.blocked {
            return;
        }
        let at = conn.blocked_since_ns + deadline_ns;
        if now.mono_ns >= at {
            return self.close(slot, ClosedReason::SlowConsumerWriteDeadline, false, fx);
        }
        conn.write_timer = true;
        let generation = conn.generation;
        self.timers.arm_write(at, slot, generation);
    }

    /// Lame duck mode: every client that understands is told to go elsewhere.
    pub fn handle_lame_duck(&mut self, fx: &mut Effects) {
        self.lame_duck = true;
        self.broadcast_info(fx);
    }

    /// Sends INFO to every client that takes it after the first, as after a reload.
    pub fn broadcast_info(&mut self, fx: &mut Effects) {
        let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            let wants = self.conns.get(slot as usize).is_some_and(|conn| {
                conn.protocol >= 1 && conn.connected && conn.phase == Phase::Ready
            });
            if wants {
                self.send_info(slot, true, fx);
            }
        }
    }

    /// Closes the clients of a lame duck one after the other over `duration_ns`.
    pub fn handle_lame_duck_close(&mut self, duration_ns: u64, now: Now) {
        let slots: Vec<(u32, u32)> =
            self.conns.iter().map(|(slot, conn)| (slot as u32, conn.generation)).collect();
        let step = duration_ns / (slots.len() as u64).max(1);
        for (position, (slot, generation)) in slots.into_iter().enumerate() {
            let jitter = (u64::from(self.random.below(1 << 20)) * step) >> 20;
            let at = now.mono_ns + step * position as u64 + jitter;
            self.timers.arm(at, slot, generation, TimerKind::LameDuck);
        }
    }

    /// Closes everybody, at shutdown.
    pub fn close_all(&mut self, fx: &mut Effects) {
        let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.close(slot, ClosedReason::ServerShutdown, true, fx);
        }
    }
}
