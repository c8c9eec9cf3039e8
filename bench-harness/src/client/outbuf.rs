//! A small queue of bytes for a connection whose socket may be full.

use super::conn::Conn;
use crate::error::Result;

/// Bytes waiting for one connection.
#[derive(Default)]
pub struct OutBuf {
    bytes: Vec<u8>,
    sent: usize,
}

impl OutBuf {
    /// Where new bytes are appended.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// True when everything was taken by the kernel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Bytes still waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Sends what the socket takes; true when nothing is left.
    ///
    /// # Errors
    /// The connection failed.
    pub fn flush(&mut self, conn: &mut Conn) -> Result<bool> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|r| !r.is_empty()) {
            let sent = conn.try_send(rest)?;
            self.sent += sent.taken;
            if sent.full {
                // Keep the queue short of a front that was sent long ago.
                if self.sent > 1 << 20 {
                    self.bytes.drain(..self.sent);
                    self.sent = 0;
                }
                return Ok(false);
            }
        }
        self.bytes.clear();
        self.sent = 0;
        conn.flush()
    }
}
