//! New sockets: which shard takes them, and what the ring's events mean for a socket.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::conn::Accepted;
use broker::monitor::HttpConn;
use rustix::event::PollFlags;
use wire::client::errors::ClosedReason;

use crate::conn::{HttpSock, Role, Sock};
use crate::control::Control;
use crate::entropy;
use crate::socket::{self, Accept};
use crate::tls::FirstBytes;
use crate::turn::Reactor;
use crate::uring::Event;

/// The completion of a removal; nobody waits for it.
pub(crate) const NO_TOKEN: u64 = 0;
/// The timer.
pub(crate) const TIMER_TOKEN: u64 = 1;
/// Listener of clients.
const CLIENTS_TOKEN: u64 = 2;
/// Listener of the monitoring port.
const MONITOR_TOKEN: u64 = 3;
/// Tokens of sockets have this bit.
const SOCK_BIT: u64 = 1 << 63;
/// Time until accepting is tried again after the process ran out of descriptors, ns.
const ACCEPT_RETRY_NS: u64 = 10_000_000;

/// Connections beyond what the descriptors allow that are told so and closed at once; more wait
/// to be accepted.
const REFUSED_MAX: usize = 8;

/// The listeners of a shard.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Clients; every shard has the same socket.
    pub(crate) clients: Option<Arc<TcpListener>>,
    /// Monitoring; shard 0 only.
    pub(crate) monitor: Option<Arc<TcpListener>>,
    /// Accepting failed and is tried again then, 0 when it did not.
    pub(crate) retry_ns: u64,
}

/// The token of a socket's watch.
pub(crate) fn token(at: u32, generation: u32) -> u64 {
    SOCK_BIT | u64::from(generation & 0x7fff_ffff) << 32 | u64::from(at)
}

impl Reactor {
    pub(crate) fn listen(&mut self) -> io::Result<()> {
        if let Some(listener) = &self.listeners.clients {
            self.ring.watch_listener(listener.as_fd(), CLIENTS_TOKEN)?;
            self.shared.accepting.fetch_add(1, Ordering::Release);
        }
        if let Some(listener) = &self.listeners.monitor {
            self.ring.watch_listener(listener.as_fd(), MONITOR_TOKEN)?;
        }
        self.ring.enter()
    }

    pub(crate) fn stop_accepting(&mut self) {
        if self.listeners.clients.take().is_none() {
            return;
        }
        let ended = self.ring.unwatch(CLIENTS_TOKEN, NO_TOKEN).and_then(|()| self.ring.enter());
        if let Err(error) = ended {
            tracing::error!("cannot end the watch of the listener: {error}");
        }
        self.shared.accepting.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn handle_event(&mut self, event: Event) {
        match event.token {
            NO_TOKEN => {}
            TIMER_TOKEN => self.timer_ns = 0,
            CLIENTS_TOKEN | MONITOR_TOKEN => {
                self.accept_from(event.token);
                if !event.more {
                    self.watch_again(event.token);
                }
            }
            token if token & SOCK_BIT != 0 => self.handle_sock_event(event),
            _ => self.handle_file_event(event),
        }
    }

    fn watch_again(&mut self, which: u64) {
        let listener = if which == CLIENTS_TOKEN {
            self.listeners.clients.clone()
        } else {
            self.listeners.monitor.clone()
        };
        if let Some(listener) = listener
            && let Err(error) = self.ring.watch_listener(listener.as_fd(), which)
        {
            tracing::error!("cannot watch a listener: {error}");
        }
    }

    fn accept_from(&mut self, which: u64) {
        let listener = if which == CLIENTS_TOKEN {
            self.listeners.clients.clone()
        } else {
            self.listeners.monitor.clone()
        };
        let Some(listener) = listener else { return };
        loop {
            if which == CLIENTS_TOKEN && self.is_crowded(REFUSED_MAX) {
                return self.accept_later();
            }
            match socket::accept(listener.as_fd()) {
                Accept::Socket(fd, _address) if which == MONITOR_TOKEN => self.open_http(fd),
                Accept::Socket(fd, address) => {
                    let shard = self.shared.least_loaded(self.id);
                    self.shared.add_load(shard);
                    if shard == self.id {
                        self.open_client(fd, address);
                    } else {
                        self.shared.send(shard, Control::Socket(fd, address));
                    }
                }
                Accept::Retry => {}
                Accept::Empty => return,
                Accept::Later => return self.accept_later(),
            }
        }
    }

    fn accept_later(&mut self) {
        self.listeners.retry_ns = self.now.mono_ns + ACCEPT_RETRY_NS;
        self.note_sock_deadline(self.listeners.retry_ns);
    }

    /// Whether there are this many connections more than storage leaves descriptors for.
    fn is_crowded(&self, more: usize) -> bool {
        self.shared.connections() >= self.shared.connections_max().saturating_add(more)
    }

    /// Whether a connection, which counts already, takes a descriptor that is storage's.
    fn takes_from_storage(&self) -> bool {
        let is_short = self.is_crowded(1);
        if is_short && !self.shared.is_short_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "more than {} connections would take open files from storage: they are refused; \
                 raise the limit of open files (LimitNOFILE= in systemd, ulimit -n)",
                self.shared.connections_max()
            );
        } else if !is_short {
            self.shared.is_short_told.store(false, Ordering::Relaxed);
        }
        is_short
    }

    fn insert_sock(&mut self, fd: OwnedFd, role: Role, first: FirstBytes) -> Option<u32> {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let at = self.socks.insert(Sock {
            fd,
            generation,
            role,
            first,
            early: Vec::new(),
            tls: None,
            readable: false,
            hung_up: false,
            writable: true,
            queued: false,
            deadline_ns: 0,
        }) as u32;
        let fd = self.socks.get(at as usize)?.fd.as_fd();
        if let Err(error) = self.ring.watch(fd, token(at, generation)) {
            tracing::error!("cannot watch a socket: {error}");
            self.socks.try_remove(at as usize);
            return None;
        }
        Some(at)
    }

    fn open_http(&mut self, fd: OwnedFd) {
        let http = HttpSock { http: HttpConn::new(), out: Vec::new(), close_after: false };
        self.insert_sock(fd, Role::Http(Box::new(http)), FirstBytes::plain());
    }

    /// Takes over a client's socket.
    pub(crate) fn open_client(&mut self, fd: OwnedFd, address: SocketAddr) {
        let first = self.tls.as_ref().map_or_else(FirstBytes::plain, |tls| tls.first_bytes());
        let Some(at) = self.insert_sock(fd, Role::Opening(address), first) else {
            return self.shared.drop_load(self.id);
        };
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        let step = sock.first.on_accept();
        self.take_first_step(at, step);
    }

    /// Makes the broker's connection for a socket; INFO is sent.
    pub(crate) fn greet(&mut self, at: u32, tls_first: bool) {
        let Some(sock) = self.socks.get(at as usize) else { return };
        let address = match (&sock.role, &sock.tls) {
            (Role::Opening(address), _) => *address,
            (_, Some(tls)) => tls.address,
            _ => return,
        };
        let max = self.shard.broker.settings().limits.max_connections;
        let over_files = self.takes_from_storage();
        let accepted = Accepted {
            cid: self.shared.next_cid(),
            ip: address.ip(),
            port: address.port(),
            nonce: entropy::nonce()
                .map(|text| text.iter().map(|b| char::from(*b)).collect())
                .unwrap_or_default(),
            over_limit: over_files || max.is_some_and(|max| self.shared.connections() > max),
            tls_first,
        };
        let slot = self.shard.broker.handle_accept(accepted, self.now, &mut self.fx);
        let needed = slot as usize + 1;
        if self.sock_of.len() < needed {
            self.sock_of.resize(needed, u32::MAX);
        }
        if let Some(place) = self.sock_of.get_mut(slot as usize) {
            *place = at;
        }
        if let Some(sock) = self.socks.get_mut(at as usize) {
            sock.role = Role::Client(slot);
        }
    }

    fn handle_sock_event(&mut self, event: Event) {
        let at = event.token as u32;
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        if token(at, sock.generation) != event.token {
            return;
        }
        if event.result < 0 {
            return self.handle_hang_up(at);
        }
        let flags = PollFlags::from_bits_retain(event.result as u16);
        sock.hung_up |= flags.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
        let was_full = !sock.writable;
        if flags.contains(PollFlags::OUT) {
            sock.writable = true;
        }
        if flags.intersects(PollFlags::IN | PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            sock.readable = true;
            self.queue_read(at);
        }
        if !event.more {
            self.rewatch(at);
        }
        if was_full && flags.contains(PollFlags::OUT) {
            self.handle_writable(at);
        }
    }

    fn rewatch(&mut self, at: u32) {
        let Some(sock) = self.socks.get(at as usize) else { return };
        if let Err(error) = self.ring.watch(sock.fd.as_fd(), token(at, sock.generation)) {
            tracing::error!("cannot watch a socket: {error}");
            self.handle_hang_up(at);
        }
    }

    fn handle_writable(&mut self, at: u32) {
        let Some(sock) = self.socks.get(at as usize) else { return };
        match sock.role {
            Role::Client(slot) => self.flush_slot(slot),
            Role::Http(_) => self.flush_http(at),
            Role::Opening(_) => self.flush_cipher(at),
        }
    }

    /// The peer is gone, or the socket is broken.
    pub(crate) fn handle_hang_up(&mut self, at: u32) {
        let Some(sock) = self.socks.get(at as usize) else { return };
        match sock.role {
            Role::Client(slot) => {
                let reason = ClosedReason::ClientClosed;
                self.shard.broker.handle_disconnect(slot, reason, &mut self.fx);
            }
            Role::Http(_) => self.drop_sock(at),
            Role::Opening(_) => {
                self.drop_sock(at);
                self.shared.drop_load(self.id);
            }
        }
    }

    /// Remembers that something about sockets is due then.
    pub(crate) fn note_sock_deadline(&mut self, at_ns: u64) {
        self.sock_deadline_ns = self.sock_deadline_ns.min(at_ns);
    }

    /// Handshakes that take too long, waits for a ClientHello that are over, accepting again.
    pub(crate) fn handle_sock_deadlines(&mut self) {
        let now_ns = self.now.mono_ns;
        self.sock_deadline_ns = u64::MAX;
        if self.listeners.retry_ns != 0 {
            if self.listeners.retry_ns <= now_ns {
                self.listeners.retry_ns = 0;
                self.accept_from(CLIENTS_TOKEN);
            } else {
                self.note_sock_deadline(self.listeners.retry_ns);
            }
        }
        let mut due = Vec::new();
        for (at, sock) in &self.socks {
            if sock.deadline_ns == 0 {
                continue;
            }
            if sock.deadline_ns <= now_ns {
                due.push(at as u32);
            } else {
                self.sock_deadline_ns = self.sock_deadline_ns.min(sock.deadline_ns);
            }
        }
        for at in due {
            self.handle_transport_due(at);
        }
    }
}
