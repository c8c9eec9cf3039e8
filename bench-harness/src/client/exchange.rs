//! One step of the set-up: send some lines and wait until the server has applied them.

use std::time::{Duration, Instant};

use super::conn::{Conn, Recv};
use super::outbuf::OutBuf;
use super::poll::{Poll, Watch};
use super::scan::Scanner;
use crate::error::{HarnessError, Result};

/// Sends `lines` and a PING and returns when the PONG is there.
///
/// # Errors
/// The server refuses a line, closes, or stays silent for longer than `patience`.
pub fn apply(conn: &mut Conn, lines: &[u8], patience: Duration) -> Result<()> {
    let mut out = OutBuf::default();
    out.tail().extend_from_slice(lines);
    out.tail().extend_from_slice(b"PING\r\n");
    let mut scanner = Scanner::new(None);
    let mut poll = Poll::new()?;
    poll.add(&*conn, 0, Watch::Edges)?;
    let deadline = Instant::now() + patience;
    let mut buffer = vec![0; 16 * 1024];
    let mut ready = Vec::new();
    while scanner.pongs == 0 {
        out.flush(conn)?;
        drain(conn, &mut scanner, &mut buffer)?;
        if scanner.pongs > 0 {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HarnessError::Timeout("no PONG after the set-up lines".into()));
        }
        ready.clear();
        poll.wait(left, &mut ready)?;
    }
    if scanner.pings_due > 0 {
        out.tail().extend_from_slice(b"PONG\r\n");
        out.flush(conn)?;
    }
    Ok(())
}

/// Reads and counts until the socket is empty.
///
/// # Errors
/// As of the scanner; a closed connection is an error too.
pub fn drain(conn: &mut Conn, scanner: &mut Scanner, buffer: &mut [u8]) -> Result<()> {
    // A socket that keeps filling must not keep us from the others; TLS must be emptied.
    let rounds = if conn.is_tls() { usize::MAX } else { 4 };
    for _ in 0..rounds {
        let kept = scanner.restore(buffer);
        let outcome = conn.try_recv(buffer.get_mut(kept..).unwrap_or_default())?;
        let n = match outcome {
            Recv::Data(n) | Recv::Last(n) => n,
            Recv::Empty => 0,
            Recv::Closed => return Err(HarnessError::Closed("while it was needed".into())),
        };
        scanner.scan(buffer.get(..kept + n).unwrap_or_default())?;
        if !matches!(outcome, Recv::Data(_)) {
            break;
        }
    }
    Ok(())
}
