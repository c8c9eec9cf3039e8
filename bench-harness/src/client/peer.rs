//! A connection with the bytes it has not read and not sent yet: the usual way to talk where
//! every operation matters by itself.

use super::conn::{Conn, Recv};
use super::op::{self, Op};
use super::outbuf::OutBuf;
use crate::error::{HarnessError, Result};

/// A connection with its unread and unsent bytes.
pub struct Peer {
    /// The connection.
    pub conn: Conn,
    /// What is to be sent.
    pub out: OutBuf,
    unread: Vec<u8>,
}

impl Peer {
    /// A peer with nothing under way.
    #[must_use]
    pub fn new(conn: Conn) -> Self {
        Self { conn, out: OutBuf::default(), unread: Vec::new() }
    }

    /// Sends what the socket takes; true when nothing is left.
    ///
    /// # Errors
    /// The connection failed.
    pub fn flush(&mut self) -> Result<bool> {
        self.out.flush(&mut self.conn)
    }

    /// Reads until the socket is empty; messages and PONGs go to `take`, which may append
    /// bytes to send. PINGs are answered; the caller flushes.
    ///
    /// # Errors
    /// The connection ended, the server said `-ERR` or sent nonsense, or `take` failed.
    pub fn read_ops(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&Op<'_>, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        loop {
            let outcome = self.conn.try_recv(buffer)?;
            let n = match outcome {
                Recv::Data(n) | Recv::Last(n) => n,
                Recv::Empty => return Ok(()),
                Recv::Closed => return Err(HarnessError::Closed("while it was needed".into())),
            };
            let fresh = buffer.get(..n).unwrap_or_default();
            let whole = self.unread.is_empty();
            if !whole {
                self.unread.extend_from_slice(fresh);
            }
            let data: &[u8] = if whole { fresh } else { &self.unread };
            let mut at = 0;
            while let Some((op, used)) = op::parse(data.get(at..).unwrap_or_default())? {
                match &op {
                    Op::Msg { .. } | Op::Pong => take(&op, self.out.tail())?,
                    Op::Ping => self.out.tail().extend_from_slice(b"PONG\r\n"),
                    Op::Err(text) => return Err(HarnessError::Refused((*text).to_owned())),
                    _ => {}
                }
                at += used;
            }
            if whole {
                self.unread.extend_from_slice(fresh.get(at..).unwrap_or_default());
            } else {
                self.unread.drain(..at);
            }
            if matches!(outcome, Recv::Last(_)) {
                return Ok(());
            }
        }
    }
}
