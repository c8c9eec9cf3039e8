//! A client that expects its server to die: every call tells whether the connection still stands.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::DEADLINE;
use crate::support::raw::{Conn, Missing};

/// A message that came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) reply: String,
    /// The lines of its header, with the status line; empty without.
    pub(super) headers: Vec<String>,
    pub(super) payload: Vec<u8>,
}

impl Message {
    /// The payload as JSON.
    pub(super) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.payload);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let line = self.headers.iter().find(|line| line.starts_with(name))?;
        line[name.len()..].strip_prefix(':').map(str::trim)
    }

    /// The code of a status message without payload, 0 for others.
    pub(super) fn status(&self) -> u16 {
        let code = self.headers.first().and_then(|line| line.get(9..12));
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

/// A connection with an inbox of its own for answers.
pub(super) struct Client {
    pub(super) conn: Conn,
    /// Answers come to subjects below.
    pub(super) inbox: String,
    requests: usize,
}

impl Client {
    /// Connects to a server that is there.
    pub(super) fn new(port: u16) -> Self {
        Self::try_new(port).unwrap()
    }

    /// Connects to a server that may be dead by now.
    pub(super) fn try_new(port: u16) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut conn = Conn::try_open(port).ok()?;
        conn.line().ok()?;
        let connect = r#"{"verbose":false,"headers":true,"no_responders":true}"#;
        let inbox = format!("inbox.{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let hello = format!("CONNECT {connect}\r\nSUB {inbox}.> 1\r\nPING\r\n");
        conn.try_send(hello).ok()?;
        (conn.line().ok()? == b"PONG").then_some(Self { conn, inbox, requests: 0 })
    }

    /// Sends a request and gives the payload of its answer.
    pub(super) fn ask(&mut self, subject: &str, body: &str) -> Vec<u8> {
        self.try_ask(subject, body).unwrap_or_else(|| panic!("no answer to {subject} {body}"))
    }

    /// As [`Self::ask`], with JSON in the answer.
    pub(super) fn ask_json(&mut self, subject: &str, body: &str) -> Value {
        serde_json::from_slice(&self.ask(subject, body)).unwrap()
    }

    /// Sends a request; `None` when the connection has ended before an answer came.
    pub(super) fn try_ask(&mut self, subject: &str, body: &str) -> Option<Vec<u8>> {
        self.try_request(subject, &[], body.as_bytes()).map(|answer| answer.payload)
    }

    /// Sends a request with header lines; `None` when the connection has ended before an answer.
    /// What else comes meanwhile is dropped.
    pub(super) fn try_request(
        &mut self,
        subject: &str,
        headers: &[String],
        payload: &[u8],
    ) -> Option<Message> {
        self.requests += 1;
        let reply = format!("{}.r{}", self.inbox, self.requests);
        self.publish(subject, &reply, headers, payload).ok()?;
        loop {
            let message = self.message()?;
            if message.subject == reply {
                return Some(message);
            }
        }
    }

    /// Sends a message and waits for nothing.
    pub(super) fn publish(
        &mut self,
        subject: &str,
        reply: &str,
        headers: &[String],
        payload: &[u8],
    ) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 128);
        if headers.is_empty() {
            bytes.extend_from_slice(
                format!("PUB {subject} {reply} {}\r\n", payload.len()).as_bytes(),
            );
        } else {
            let block = format!("NATS/1.0\r\n{}\r\n\r\n", headers.join("\r\n"));
            let (head, all) = (block.len(), block.len() + payload.len());
            bytes.extend_from_slice(format!("HPUB {subject} {reply} {head} {all}\r\n").as_bytes());
            bytes.extend_from_slice(block.as_bytes());
        }
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.conn.try_send(bytes)
    }

    /// The next message; `None` when the connection has ended. A server that stays silent for
    /// the deadline fails the test.
    pub(super) fn message(&mut self) -> Option<Message> {
        match self.message_within(DEADLINE) {
            Ok(message) => Some(message),
            Err(Missing::Closed) => None,
            Err(Missing::TimedOut) => panic!("the server says nothing for {DEADLINE:?}"),
        }
    }

    /// The next message within `limit`.
    pub(super) fn message_within(&mut self, limit: Duration) -> Result<Message, Missing> {
        let line = loop {
            let line = self.conn.line_within(limit)?;
            let line = String::from_utf8(line).unwrap();
            if line.starts_with("MSG ") || line.starts_with("HMSG ") {
                break line;
            }
            assert!(!line.starts_with("-ERR"), "{line}");
        };
        let fields: Vec<&str> = line.split(' ').collect();
        let sizes = if fields[0] == "HMSG" { 2 } else { 1 };
        let number = |back: usize| fields[fields.len() - back].parse::<usize>().unwrap();
        let (size, head) = (number(1), if sizes == 2 { number(2) } else { 0 });
        let mut bytes = Vec::with_capacity(size + 2);
        while bytes.len() < size + 2 {
            let line = self.conn.line()?;
            bytes.extend_from_slice(&line);
            // A line that does not end in both is kept whole.
            if !line.ends_with(b"\n") {
                bytes.extend_from_slice(b"\r\n");
            }
        }
        assert_eq!(bytes.len(), size + 2, "{line}");
        let head_text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let headers = head_text.split("\r\n").filter(|line| !line.is_empty());
        let reply = if fields.len() == 4 + sizes { fields[3] } else { "" };
        Ok(Message {
            subject: fields[1].to_owned(),
            reply: reply.to_owned(),
            headers: headers.map(str::to_owned).collect(),
            payload: bytes[head..size].to_vec(),
        })
    }
}
