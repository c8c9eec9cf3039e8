//! Requests to the JetStream API, one at a time, with replies that are checked.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ack;
use crate::client::exchange;
use crate::client::handshake::Target;
use crate::client::op::{Op, number};
use crate::client::peer::Peer;
use crate::client::poll::{Poll, Watch};
use crate::error::{HarnessError, Result};

/// How long an ordinary request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One reply.
#[derive(Debug)]
pub struct Reply {
    /// The header block, or empty.
    pub headers: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A connection for requests.
pub struct Api {
    peer: Peer,
    poll: Poll,
    buffer: Vec<u8>,
    made: u64,
}

impl Api {
    /// Connects with an inbox of its own.
    ///
    /// # Errors
    /// The server is not reachable or refuses the inbox.
    pub fn connect(target: &Target) -> Result<Self> {
        let mut conn = connect(target)?;
        exchange::apply(&mut conn, b"SUB _INBOX.bench.api.* 1\r\n", PATIENCE)?;
        let poll = Poll::new()?;
        poll.add(&conn, 0, Watch::Edges)?;
        Ok(Self { peer: Peer::new(conn), poll, buffer: vec![0; 64 << 10], made: 0 })
    }

    /// Publishes to `subject` and waits for the reply; `None` when none comes in time.
    ///
    /// # Errors
    /// The connection ended or the server refuses the request.
    pub fn ask(&mut self, subject: &str, body: &[u8], patience: Duration) -> Result<Option<Reply>> {
        self.made += 1;
        let wanted = self.made;
        let out = self.peer.out.tail();
        // Writing into a Vec cannot fail.
        let _ = write!(out, "PUB {subject} _INBOX.bench.api.{wanted} {}\r\n", body.len());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
        let deadline = Instant::now() + patience;
        let mut reply = None;
        let mut ready = Vec::new();
        loop {
            self.peer.flush()?;
            self.peer.read_ops(&mut self.buffer, |op, _| {
                if let Op::Msg { subject, headers, payload, .. } = op {
                    // A late reply to a request that was given up has an older number.
                    let token = subject.rsplit(|b| *b == b'.').next().and_then(number);
                    if token == Some(wanted) {
                        let (headers, payload) = (headers.to_vec(), payload.to_vec());
                        reply = Some(Reply { headers, payload });
                    }
                }
                Ok(())
            })?;
            let left = deadline.saturating_duration_since(Instant::now());
            if reply.is_some() || left.is_zero() {
                self.peer.flush()?;
                return Ok(reply);
            }
            ready.clear();
            self.poll.wait(left, &mut ready)?;
        }
    }

    /// Calls `$JS.API.<call>` and returns the reply, which is no error.
    ///
    /// # Errors
    /// An error reply, a status, no reply.
    pub fn call(&mut self, call: &str, body: &Value) -> Result<Value> {
        let bytes = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.ask(&format!("$JS.API.{call}"), bytes.as_bytes(), PATIENCE)?;
        let Some(reply) = reply else {
            return Err(HarnessError::Timeout(format!("no reply to {call}")));
        };
        checked(call, &reply)
    }

    /// The stream's info, or `None` when the server does not know it or says nothing yet.
    ///
    /// # Errors
    /// The connection ended.
    pub fn stream_info(&mut self, stream: &str, patience: Duration) -> Result<Option<Value>> {
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        let reply = self.ask(&subject, b"", patience)?;
        Ok(reply.and_then(|r| checked(&subject, &r).ok()))
    }
}

/// A connection that hears of requests without responders.
///
/// # Errors
/// As [`Target::connect`].
pub fn connect(target: &Target) -> Result<crate::client::conn::Conn> {
    Target { no_responders: true, ..target.clone() }.connect()
}

fn checked(call: &str, reply: &Reply) -> Result<Value> {
    let refused = |text: String| HarnessError::Api { what: call.into(), text };
    if let Some((code, text)) = ack::status(&reply.headers) {
        return Err(refused(format!("status {code} {text}")));
    }
    if let Some(text) = ack::error_text(&reply.payload) {
        return Err(refused(text));
    }
    serde_json::from_slice(&reply.payload).map_err(|e| refused(format!("no JSON: {e}")))
}

/// A number in a reply, by JSON pointer.
///
/// # Errors
/// There is none.
pub fn figure(value: &Value, pointer: &str) -> Result<u64> {
    value.pointer(pointer).and_then(Value::as_u64).ok_or_else(|| {
        let text: String = value.to_string().chars().take(300).collect();
        HarnessError::Protocol(format!("no number {pointer} in {text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(headers: &str, payload: &str) -> Reply {
        Reply { headers: headers.into(), payload: payload.into() }
    }

    #[test]
    fn errors_and_statuses_are_no_replies() {
        let good = checked("X", &reply("", "{\"state\":{\"messages\":5}}")).unwrap();
        assert_eq!(figure(&good, "/state/messages").unwrap(), 5);
        assert!(figure(&good, "/state/bytes").is_err());
        let bad = reply("", "{\"error\":{\"code\":404,\"err_code\":10059,\"description\":\"d\"}}");
        assert!(checked("X", &bad).unwrap_err().to_string().contains("10059"));
        assert!(checked("X", &reply("NATS/1.0 503\r\n\r\n", "")).is_err());
        assert!(checked("X", &reply("", "no json")).is_err());
    }
}
