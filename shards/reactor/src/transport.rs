//! From the first bytes of a socket to protocol bytes: INFO, TLS or plain, and monitoring.

use broker::monitor::Step;
use wire::client::errors::ClosedReason;

use crate::conn::{HttpSock, Role, TlsLayer};
use crate::tls::{FirstStep, TlsSession};
use crate::turn::Reactor;

/// Response bytes that wait on a monitoring connection before no more requests are read.
const HTTP_OUT_BYTES_MAX: usize = 64 << 20;

impl Reactor {
    /// Carries out what the first-bytes machine wants.
    pub(crate) fn take_first_step(&mut self, at: u32, step: FirstStep) {
        let mut step = step;
        loop {
            match step {
                FirstStep::SendInfo => {
                    self.greet(at, false);
                    self.flush();
                    let Some(sock) = self.socks.get_mut(at as usize) else { return };
                    step = sock.first.after_info();
                }
                FirstStep::StartTls { info_owed } => return self.start_tls(at, info_owed),
                FirstStep::Plain => return self.start_plain(at),
                FirstStep::WaitTimer { delay_ns } => {
                    return self.set_deadline(at, self.now.mono_ns + delay_ns);
                }
                FirstStep::WaitBytes => return,
            }
        }
    }

    fn set_deadline(&mut self, at: u32, deadline_ns: u64) {
        if let Some(sock) = self.socks.get_mut(at as usize) {
            sock.deadline_ns = deadline_ns;
            self.note_sock_deadline(deadline_ns);
        }
    }

    fn start_plain(&mut self, at: u32) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        sock.deadline_ns = 0;
        let early = std::mem::take(&mut sock.early);
        if let Role::Client(slot) = sock.role
            && !early.is_empty()
        {
            self.feed(slot, &early);
        }
    }

    fn start_tls(&mut self, at: u32, info_owed: bool) {
        let Some(context) = self.tls.clone() else { return };
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        let address = match sock.role {
            Role::Opening(address) => address,
            Role::Client(slot) => {
                let Some(conn) = self.shard.broker.conn(slot) else { return };
                std::net::SocketAddr::new(conn.ip, conn.port)
            }
            Role::Http(_) => return,
        };
        let limit = context.settings().connection_rate_limit;
        if !self.shared.allow_tls(limit, self.now.mono_ns) {
            return self.throttle(at);
        }
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        let Ok(session) = TlsSession::new(&context) else {
            return self.handle_hang_up(at);
        };
        let layer = TlsLayer { session, out: Vec::new(), out_sent: 0, info_owed, address };
        sock.tls = Some(Box::new(layer));
        let early = std::mem::take(&mut sock.early);
        self.set_deadline(at, self.now.mono_ns + context.settings().timeout_ns);
        if !early.is_empty() {
            self.handle_cipher(at, &early);
        }
    }

    /// Too many TLS connections in this second: the client is told and closed.
    fn throttle(&mut self, at: u32) {
        let Some(sock) = self.socks.get(at as usize) else { return };
        match sock.role {
            Role::Client(slot) => self.shard.broker.handle_throttled(slot, &mut self.fx),
            _ => self.handle_hang_up(at),
        }
    }

    /// A deadline of a socket's transport has passed.
    pub(crate) fn handle_transport_due(&mut self, at: u32) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        sock.deadline_ns = 0;
        if !sock.first.is_decided() {
            let step = sock.first.on_timer();
            return self.take_first_step(at, step);
        }
        if sock.tls.as_ref().is_some_and(|tls| !tls.session.is_handshake_done()) {
            tracing::error!("TLS handshake error: timeout");
            self.fail_tls(at);
        }
    }

    fn fail_tls(&mut self, at: u32) {
        self.flush_cipher(at);
        let Some(sock) = self.socks.get(at as usize) else { return };
        match sock.role {
            Role::Client(slot) => {
                let reason = ClosedReason::TlsHandshakeError;
                self.shard.broker.handle_disconnect(slot, reason, &mut self.fx);
            }
            _ => self.handle_hang_up(at),
        }
    }

    /// What a socket gave.
    pub(crate) fn handle_bytes(&mut self, at: u32, data: &[u8]) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        if sock.tls.is_some() {
            return self.handle_cipher(at, data);
        }
        if let Role::Http(_) = sock.role {
            return self.handle_http(at, data);
        }
        if sock.first.is_decided() {
            if let Role::Client(slot) = sock.role {
                self.feed(slot, data);
            }
            return;
        }
        sock.early.extend_from_slice(data);
        let early = std::mem::take(&mut sock.early);
        let step = sock.first.on_bytes(&early);
        sock.early = early;
        self.take_first_step(at, step);
    }

    fn handle_cipher(&mut self, at: u32, data: &[u8]) {
        let mut plain = std::mem::take(&mut self.plain_buffer);
        plain.clear();
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        let Some(tls) = sock.tls.as_mut() else { return };
        let outcome = tls.session.handle_ciphertext(data, &mut plain, &mut tls.out);
        let waits = tls.out.len() > tls.out_sent;
        match outcome {
            Ok(progress) => {
                if waits {
                    self.flush_cipher(at);
                }
                if progress.handshake_completed {
                    self.finish_handshake(at);
                }
                if let Some(Role::Client(slot)) = self.socks.get(at as usize).map(|s| &s.role)
                    && !plain.is_empty()
                {
                    let slot = *slot;
                    self.feed(slot, &plain);
                }
                if progress.peer_closed {
                    self.handle_hang_up(at);
                }
            }
            Err(error) => {
                tracing::error!("TLS handshake error: {error}");
                self.fail_tls(at);
            }
        }
        // A burst's buffer is not kept.
        if plain.capacity() > 1 << 20 {
            plain = Vec::new();
        }
        self.plain_buffer = plain;
    }

    fn finish_handshake(&mut self, at: u32) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        sock.deadline_ns = 0;
        let Some(tls) = sock.tls.as_mut() else { return };
        let version = tls.session.version_name().unwrap_or_default();
        let cipher = tls.session.cipher_suite_name().unwrap_or_default();
        let certs = tls.session.peer_certs();
        if std::mem::take(&mut tls.info_owed) {
            self.greet(at, true);
        }
        let Some(sock) = self.socks.get(at as usize) else { return };
        let Role::Client(slot) = sock.role else { return };
        let certs = certs.into_iter().map(|c| [c.subject, c.spki_sha256, c.cert_sha256]).collect();
        self.shard.broker.handle_tls(slot, version, cipher, certs);
        self.flush_slot(slot);
    }

    fn handle_http(&mut self, at: u32, data: &[u8]) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        let Role::Http(sock_http) = &mut sock.role else { return };
        if sock_http.out.len() > HTTP_OUT_BYTES_MAX {
            return self.drop_sock(at);
        }
        let generation = sock.generation;
        let steps = sock_http.http.handle_bytes(data);
        self.handle_http_steps(at, generation, steps);
    }

    /// Carries out what a monitoring connection wants.
    pub(crate) fn handle_http_steps(&mut self, at: u32, generation: u32, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Request(request) => self.handle_monitor_request(at, generation, &request),
                Step::Send(bytes) => {
                    if let Some(http) = self.http_of(at, generation) {
                        http.out.extend_from_slice(&bytes);
                    }
                }
                Step::Close => {
                    if let Some(http) = self.http_of(at, generation) {
                        http.close_after = true;
                    }
                }
            }
        }
        if self.http_of(at, generation).is_some() {
            self.flush_http(at);
        }
    }

    /// A monitoring connection, if it is still the same one.
    pub(crate) fn http_of(&mut self, at: u32, generation: u32) -> Option<&mut HttpSock> {
        let sock = self.socks.get_mut(at as usize).filter(|s| s.generation == generation)?;
        match &mut sock.role {
            Role::Http(http) => Some(http),
            _ => None,
        }
    }
}
