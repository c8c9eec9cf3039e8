//! The write side: outboxes into sockets, through TLS where there is one, and the end of sockets.

use std::io::IoSlice;
use std::os::fd::AsFd;

use broker::conn::outbox::Outbox;
use wire::client::errors::ClosedReason;

use crate::accept::token;
use crate::conn::{Role, Sock, TlsLayer};
use crate::socket::{self, Read};
use crate::turn::Reactor;

/// Slices in one vectored write.
const SLICES_MAX: usize = 64;
/// Plain bytes encrypted ahead of the socket for one connection.
const CIPHER_AHEAD_BYTES: usize = 256 << 10;
/// Bytes read and dropped before a socket is closed, so that the last words reach the peer.
const DISCARD_BYTES_MAX: usize = 1 << 20;

/// What a write gave.
#[derive(Clone, Copy, Debug)]
struct Sent {
    bytes: usize,
    blocked: bool,
    broken: bool,
}

/// Offers an outbox to a socket once.
fn write_once(sock: &Sock, outbox: &Outbox) -> Sent {
    let (offered, taken) = if let Some(bytes) = outbox.single() {
        (bytes.len(), socket::write(sock.fd.as_fd(), bytes))
    } else {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let mut offered = 0;
        for (place, bytes) in slices.iter_mut().zip(outbox.slices(SLICES_MAX)) {
            *place = IoSlice::new(bytes);
            offered += bytes.len();
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        (offered, socket::write_vectored(sock.fd.as_fd(), slices))
    };
    let bytes = taken.unwrap_or(0);
    Sent { bytes, blocked: taken.is_some() && bytes < offered, broken: taken.is_none() }
}

/// Encrypts some of an outbox and offers it to the socket. `bytes` counts plain bytes taken.
fn write_tls(sock: &mut Sock, outbox: &Outbox) -> Sent {
    let broken = Sent { bytes: 0, blocked: false, broken: true };
    let Some(tls) = sock.tls.as_mut() else { return broken };
    let mut plain = 0;
    if tls.out.len() - tls.out_sent < CIPHER_AHEAD_BYTES && tls.session.is_handshake_done() {
        for slice in outbox.slices(SLICES_MAX) {
            if plain >= CIPHER_AHEAD_BYTES {
                break;
            }
            if tls.session.write_plain(slice, &mut tls.out).is_err() {
                return broken;
            }
            plain += slice.len();
        }
    }
    match write_cipher(&sock.fd, tls) {
        Some(blocked) => Sent { bytes: plain, blocked, broken: false },
        None => broken,
    }
}

/// Offers what is encrypted; tells whether some is left, `None` when the socket is broken.
fn write_cipher(fd: &std::os::fd::OwnedFd, tls: &mut TlsLayer) -> Option<bool> {
    let rest = tls.out.get(tls.out_sent..).unwrap_or_default();
    if rest.is_empty() {
        return Some(false);
    }
    tls.out_sent += socket::write(fd.as_fd(), rest)?;
    let blocked = tls.out_sent < tls.out.len();
    if !blocked {
        tls.out_sent = 0;
        tls.out.clear();
        if tls.out.capacity() > CIPHER_AHEAD_BYTES {
            tls.out = Vec::new();
        }
    }
    Some(blocked)
}

impl Reactor {
    /// Writes what every dirty connection has.
    pub(crate) fn flush(&mut self) {
        self.fx.output_bytes = 0;
        let mut dirty = std::mem::take(&mut self.fx.dirty);
        for slot in dirty.drain(..) {
            self.shard.broker.take_dirty(slot);
            self.flush_slot(slot);
        }
        if self.fx.dirty.is_empty() {
            self.fx.dirty = dirty;
        }
    }

    /// Writes what a connection has, unless its socket is known to be full.
    pub(crate) fn flush_slot(&mut self, slot: u32) {
        let at = self.sock_of.get(slot as usize).copied().unwrap_or(u32::MAX);
        loop {
            let Some(sock) = self.socks.get_mut(at as usize) else { return };
            let Some(outbox) = self.shard.broker.outbox(slot) else { return };
            let tls_rest = sock.tls.as_ref().is_some_and(|tls| tls.out.len() > tls.out_sent);
            if !sock.writable || (outbox.pending_bytes() == 0 && !tls_rest) {
                return;
            }
            self.turns.writes += 1;
            let sent =
                if sock.tls.is_some() { write_tls(sock, outbox) } else { write_once(sock, outbox) };
            if sent.broken {
                let reason = ClosedReason::WriteError;
                return self.shard.broker.handle_disconnect(slot, reason, &mut self.fx);
            }
            sock.writable = !sent.blocked;
            let waits_for_tls = sent.bytes == 0 && !sent.blocked;
            self.shard.broker.handle_sent(slot, sent.bytes, sent.blocked, self.now, &mut self.fx);
            if waits_for_tls {
                return;
            }
        }
    }

    /// Sends what a handshake or an alert has produced.
    pub(crate) fn flush_cipher(&mut self, at: u32) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        let Some(tls) = sock.tls.as_mut() else { return };
        let blocked = write_cipher(&sock.fd, tls);
        sock.writable = blocked == Some(false);
        if blocked.is_none() {
            self.handle_hang_up(at);
        }
    }

    /// Sends what a monitoring connection has.
    pub(crate) fn flush_http(&mut self, at: u32) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        let Role::Http(http) = &mut sock.role else { return };
        let Some(taken) = socket::write(sock.fd.as_fd(), &http.out) else {
            return self.drop_sock(at);
        };
        http.out.drain(..taken);
        sock.writable = http.out.is_empty();
        if http.out.is_empty() && http.close_after {
            self.drop_sock(at);
        }
    }

    /// Closes the connections that the shard wants closed.
    pub(crate) fn close_all(&mut self) {
        while let Some(close) = self.fx.closes.pop() {
            let at = self.sock_of.get(close.slot as usize).copied().unwrap_or(u32::MAX);
            if close.flush {
                self.flush_slot(close.slot);
                self.say_goodbye(at);
            }
            self.drop_sock(at);
            self.shard.broker.handle_closed(close.slot, self.now, &mut self.fx);
            self.shared.drop_load(self.id);
            if let Some(place) = self.sock_of.get_mut(close.slot as usize) {
                *place = u32::MAX;
            }
        }
    }

    /// Ends the write side and takes what the peer is still sending: a socket that is closed with
    /// unread input resets the connection, and the peer may lose the last words.
    fn say_goodbye(&mut self, at: u32) {
        let Some(sock) = self.socks.get_mut(at as usize) else { return };
        if let Some(tls) = sock.tls.as_mut() {
            tls.session.close(&mut tls.out);
            let _ = write_cipher(&sock.fd, tls);
        }
        socket::finish_writing(&sock.fd);
        let mut buffer = [0_u8; 4096];
        let mut discarded = 0;
        while let Read::Bytes(bytes) = socket::read(sock.fd.as_fd(), &mut buffer) {
            discarded += bytes;
            if discarded > DISCARD_BYTES_MAX {
                break;
            }
        }
    }

    /// Closes a socket.
    pub(crate) fn drop_sock(&mut self, at: u32) {
        let Some(sock) = self.socks.try_remove(at as usize) else { return };
        let watch = token(at, sock.generation);
        // Without the removal the kernel would keep the socket open for its poll.
        if let Err(error) = self.ring.unwatch(watch, crate::accept::NO_TOKEN) {
            tracing::error!("cannot end the watch of a socket: {error}");
        }
        socket::hang_up(&sock.fd);
    }
}
