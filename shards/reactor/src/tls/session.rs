//! One server-side TLS connection as bytes in, bytes out: no socket, no clock of its own.
//!
//! The driver hands in what the socket gave and gets two things back: plain bytes for the
//! protocol parser and cipher bytes for the socket. Nothing is held back inside: all input is
//! consumed and all output is drained in the same call, so memory stays bounded although the
//! TLS library's own buffer limits are lifted.

use std::io::{self, BufRead, Read, Write};

use rustls::pki_types::UnixTime;
use rustls::{HandshakeKind, ServerConnection};
use thiserror::Error;

use super::config::TlsContext;
use super::identity::{CertIdentity, IdentityError, PeerCert, peer_cert};
use super::names;
use super::sniff::HANDSHAKE_BYTE;

/// Plain bytes that may be written before the handshake is done, in bytes.
const EARLY_PLAIN_BYTES_MAX: usize = 64 * 1024;

/// Plain bytes encrypted before the records are drained, in bytes.
const WRITE_SLICE_BYTES: usize = 64 * 1024;

/// Why a TLS connection cannot go on. All of them end the connection.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The peer talks something else; nothing is sent back. The text is nats-server's.
    #[error("tls: first record does not look like a TLS handshake")]
    NotTls,
    /// The peer broke the protocol, or did not authenticate; an alert is in the output.
    #[error("tls: {0}")]
    Protocol(#[from] rustls::Error),
    /// The peer's key is not among `pinned_certs`, or it showed no certificate.
    #[error("tls: the peer's public key is not among the pinned certificates")]
    NotPinned,
    /// The socket ended without a close_notify, so the last bytes may be missing.
    #[error("tls: connection ended without close_notify")]
    Truncated,
    /// More was written before the end of the handshake than is kept.
    #[error("tls: more than {EARLY_PLAIN_BYTES_MAX} bytes written before the handshake is done")]
    EarlyWrite,
    /// The library's buffers refused bytes; a record or handshake message is too large.
    #[error("tls: {0}")]
    Buffer(#[from] io::Error),
    /// The peer's certificate was accepted but its fields cannot be read.
    #[error("tls: peer certificate: {0}")]
    Identity(#[from] IdentityError),
}

/// What one call to [`TlsSession::handle_ciphertext`] brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Plain bytes appended to the output.
    pub plain_bytes: usize,
    /// Cipher bytes appended to the output: send them.
    pub cipher_bytes: usize,
    /// The handshake was completed by this very call.
    pub handshake_completed: bool,
    /// The peer sent close_notify: nothing more will come from it.
    pub peer_closed: bool,
}

/// The server's side of one TLS connection.
///
/// Lives on: the shard that owns the socket.
pub struct TlsSession {
    conn: ServerConnection,
    context: TlsContext,
    seen_bytes: bool,
    handshake_done: bool,
    early_plain_bytes: usize,
}

impl TlsSession {
    /// A session that waits for a ClientHello.
    ///
    /// # Errors
    /// Only when the configuration is inconsistent or the system gives no randomness.
    pub fn new(context: &TlsContext) -> Result<Self, TlsError> {
        let mut conn = ServerConnection::new(context.server_config())?;
        // Everything is drained at once, so the limit would only cause short writes.
        conn.set_buffer_limit(None);
        Ok(Self {
            conn,
            context: context.clone(),
            seen_bytes: false,
            handshake_done: false,
            early_plain_bytes: 0,
        })
    }

    /// Consumes all of `input`; appends plain bytes to `plain_out` and what has to be sent
    /// (handshake, tickets, alerts, early writes) to `cipher_out`.
    ///
    /// No plain byte appears before the peer has passed every check of the configuration.
    /// On an error `cipher_out` still has to be sent, as it carries the alert, and what was
    /// appended to `plain_out` is genuine; after an error the session only fails again.
    ///
    /// # Errors
    /// See [`TlsError`]; each ends the connection.
    pub fn handle_ciphertext(
        &mut self,
        input: &[u8],
        plain_out: &mut Vec<u8>,
        cipher_out: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        let plain_start = plain_out.len();
        let cipher_start = cipher_out.len();
        let was_done = self.handshake_done;
        let outcome = self.consume(input, plain_out);
        self.drain(cipher_out);
        let peer_closed = outcome?;
        Ok(Progress {
            plain_bytes: plain_out.len() - plain_start,
            cipher_bytes: cipher_out.len() - cipher_start,
            handshake_completed: self.handshake_done && !was_done,
            peer_closed,
        })
    }

    /// The socket ended. Many clients just close the socket, so a truncated session is no more
    /// than a plain connection that ends: whole protocol lines received before it count.
    ///
    /// # Errors
    /// [`TlsError::Truncated`] unless the peer had said goodbye.
    pub fn handle_eof(&mut self) -> Result<(), TlsError> {
        self.conn.read_tls(&mut io::empty())?;
        let mut probe = [0; 1];
        match self.conn.reader().read(&mut probe) {
            Ok(0) => Ok(()),
            _ => Err(TlsError::Truncated),
        }
    }

    /// Encrypts `data` and appends the records to `cipher_out`.
    ///
    /// Before the handshake is done up to 64 KiB are kept and go out right behind it.
    ///
    /// # Errors
    /// [`TlsError::EarlyWrite`] above that, [`TlsError::Buffer`] on a failed session.
    pub fn write_plain(&mut self, data: &[u8], cipher_out: &mut Vec<u8>) -> Result<(), TlsError> {
        if !self.handshake_done {
            self.early_plain_bytes = self.early_plain_bytes.saturating_add(data.len());
            if self.early_plain_bytes > EARLY_PLAIN_BYTES_MAX {
                return Err(TlsError::EarlyWrite);
            }
        }
        for slice in data.chunks(WRITE_SLICE_BYTES) {
            self.conn.writer().write_all(slice)?;
            self.drain(cipher_out);
        }
        Ok(())
    }

    /// Says goodbye: appends a close_notify alert to `cipher_out`.
    pub fn close(&mut self, cipher_out: &mut Vec<u8>) {
        self.conn.send_close_notify();
        self.drain(cipher_out);
    }

    /// Whether output is waiting; false after every call, as all of them drain.
    pub fn wants_write(&self) -> bool {
        self.conn.wants_write()
    }

    /// Whether the handshake is done and the peer has passed every check.
    pub fn is_handshake_done(&self) -> bool {
        self.handshake_done
    }

    /// Whether the handshake resumed an earlier session of the same configuration.
    pub fn is_resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// `1.2` or `1.3`, as `/connz` shows it in `tls_version`.
    pub fn version_name(&self) -> Option<&'static str> {
        self.conn.protocol_version().and_then(names::version_name)
    }

    /// The IANA name of the cipher suite, as `/connz` shows it in `tls_cipher_suite`.
    pub fn cipher_suite_name(&self) -> Option<&'static str> {
        let suite = self.conn.negotiated_cipher_suite()?;
        names::suite_name(suite.suite())
    }

    /// The host name the client asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.conn.server_name()
    }

    /// The peer's certificates as `/connz?auth=1` shows them; empty without client
    /// verification. Leaves out what cannot be read.
    pub fn peer_certs(&self) -> Vec<PeerCert> {
        let certs = self.conn.peer_certificates().unwrap_or_default();
        certs.iter().filter_map(|der| peer_cert(der).ok()).collect()
    }

    /// Who the peer's certificate speaks for, for `verify_and_map`; `None` without one.
    ///
    /// # Errors
    /// When the certificate's fields cannot be read.
    pub fn identity(&self) -> Result<Option<CertIdentity>, TlsError> {
        let leaf = self.leaf_der();
        Ok(leaf.map(CertIdentity::parse).transpose()?)
    }

    /// The certificate with which the peer authenticated, in DER.
    pub fn leaf_der(&self) -> Option<&[u8]> {
        Some(self.conn.peer_certificates()?.first()?.as_ref())
    }

    /// Feeds the library piece by piece, as its buffer takes one record at a time, and empties
    /// it after each. Returns whether the peer has said goodbye.
    fn consume(&mut self, input: &[u8], plain_out: &mut Vec<u8>) -> Result<bool, TlsError> {
        if !self.seen_bytes
            && let Some(&first) = input.first()
        {
            if first != HANDSHAKE_BYTE {
                return Err(TlsError::NotTls);
            }
            self.seen_bytes = true;
        }
        let mut rest = input;
        let mut peer_closed = false;
        while !rest.is_empty() {
            let taken = self.conn.read_tls(&mut rest)?;
            let state = self.conn.process_new_packets()?;
            peer_closed |= state.peer_has_closed();
            if !self.handshake_done && !self.conn.is_handshaking() {
                self.check_peer()?;
                self.handshake_done = true;
            }
            self.take_plain(state.plaintext_bytes_to_read(), plain_out)?;
            if taken == 0 {
                // Only after close_notify: what follows it is no longer part of the session.
                return Ok(true);
            }
        }
        Ok(peer_closed)
    }

    /// Moves exactly `wanted` decrypted bytes to `plain_out`.
    fn take_plain(&mut self, wanted: usize, plain_out: &mut Vec<u8>) -> Result<(), TlsError> {
        let mut left = wanted;
        plain_out.reserve(wanted);
        let mut reader = self.conn.reader();
        while left > 0 {
            let chunk = reader.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let len = chunk.len();
            plain_out.extend_from_slice(chunk);
            reader.consume(len);
            left = left.saturating_sub(len);
        }
        Ok(())
    }

    /// The checks that come on top of the library's: a resumed client is verified once more,
    /// because its certificate may have expired since the ticket was made, and then the pins.
    fn check_peer(&mut self) -> Result<(), TlsError> {
        let outcome = self.check_resumed().and_then(|()| self.check_pins());
        if outcome.is_err() {
            self.conn.send_close_notify();
        }
        outcome
    }

    fn check_resumed(&self) -> Result<(), TlsError> {
        let Some(verifier) = self.context.client_verifier() else {
            return Ok(());
        };
        if !self.is_resumed() {
            return Ok(());
        }
        let certs = self.conn.peer_certificates().unwrap_or_default();
        let Some((leaf, intermediates)) = certs.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented.into());
        };
        verifier.verify_client_cert(leaf, intermediates, UnixTime::now())?;
        Ok(())
    }

    fn check_pins(&self) -> Result<(), TlsError> {
        let pins = self.context.pins();
        if pins.is_empty() {
            return Ok(());
        }
        match self.leaf_der() {
            Some(leaf) if pins.allow(leaf)? => Ok(()),
            _ => Err(TlsError::NotPinned),
        }
    }

    /// Appends all waiting records to `cipher_out`.
    fn drain(&mut self, cipher_out: &mut Vec<u8>) {
        while self.conn.wants_write() {
            // A vector takes everything; an error or zero could only repeat for ever.
            match self.conn.write_tls(cipher_out) {
                Ok(written) if written > 0 => {}
                _ => break,
            }
        }
    }
}
