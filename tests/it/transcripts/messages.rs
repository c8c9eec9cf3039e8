//! Whole messages instead of lines: what a transcript about JetStream asks, publishes and hears.
//!
//! A message is written as `<SUBJECT REPLY> [STATUS | NAME: VALUE | ...] BODY`. The first part is
//! left out for an answer on the connection's own inbox, the second for a message without headers.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::json;
use super::text::{self, Captures, Known};
use crate::support::raw::Missing;
use crate::support::{Conn, DEADLINE};

/// What the connection's own inboxes begin with; the connection's name follows.
const INBOX: &str = "_INBOX.";
/// The `sid` of the subscription on them.
pub(crate) const ANSWERS: &str = "answers";

/// A message that came.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    subject: String,
    /// Empty when there is none.
    pub(crate) reply: String,
    headers: Option<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

/// A message as a transcript writes it, in its three parts.
struct Written<'a> {
    subjects: Option<&'a str>,
    headers: Option<&'a str>,
    body: &'a str,
}

/// The messages of one connection that were not yet compared.
#[derive(Default)]
pub(crate) struct Mail {
    queues: HashMap<String, VecDeque<Message>>,
    asked: usize,
    used: bool,
}

fn written(text: &str) -> Written<'_> {
    let part = |text: &'static str, rest| -> Option<(&str, &str)> {
        let (open, close) = text.split_at(1);
        let (inner, rest) = str::strip_prefix(rest, open)?.split_once(close)?;
        Some((inner, str::strip_prefix(rest, " ").unwrap_or(rest)))
    };
    let (subjects, rest) = part("<>", text).map_or((None, text), |(s, rest)| (Some(s), rest));
    let (headers, body) = part("[]", rest).map_or((None, rest), |(h, rest)| (Some(h), rest));
    Written { subjects, headers, body }
}

/// What to send first on a connection of messages.
pub(crate) fn greeting(name: &str, more: &str) -> String {
    let more = more.trim().trim_start_matches('{').trim_end_matches('}');
    let comma = if more.is_empty() { "" } else { "," };
    format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
         \"protocol\":1{comma}{more}}}\r\nSUB {INBOX}{name}.* {ANSWERS}\r\n"
    )
}

impl Mail {
    /// The bytes that publish `text`, with an inbox to answer to when `asks`.
    pub(crate) fn publish(
        &mut self,
        name: &str,
        text: &str,
        known: &Known,
        asks: bool,
    ) -> Result<Vec<u8>, String> {
        self.used = true;
        let (subject, rest) = text.split_once(' ').unwrap_or((text, ""));
        let parts = written(rest);
        let subject = text::bytes(subject, known)?;
        let reply = match parts.subjects {
            Some(reply) => text::bytes(reply, known)?,
            None if asks => {
                self.asked += 1;
                format!("{INBOX}{name}.{}", self.asked).into_bytes()
            }
            None => Vec::new(),
        };
        let body = text::bytes(parts.body, known)?;
        let headers = parts.headers.map(|headers| header_block(headers, known)).transpose()?;
        let head = headers.as_ref().map(Vec::len);
        let all = head.unwrap_or_default() + body.len();
        let verb: &[u8] = if head.is_some() { b"HPUB " } else { b"PUB " };
        let mut sent = [verb, &subject, b" ", &reply, b" "].concat();
        sent.extend(head.map(|head| format!("{head} ")).unwrap_or_default().into_bytes());
        sent.extend(format!("{all}\r\n").into_bytes());
        sent.extend(headers.unwrap_or_default());
        sent.extend(body);
        sent.extend(b"\r\n");
        Ok(sent)
    }

    /// The next message of a subscription.
    pub(crate) fn next(
        &mut self,
        conn: &mut Conn,
        sid: &str,
        limit: Duration,
    ) -> Result<Message, String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(message) = self.queues.get_mut(sid).and_then(VecDeque::pop_front) {
                return Ok(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match read(conn, left)? {
                Came::Message(sid, message) => {
                    self.queues.entry(sid).or_default().push_back(message);
                }
                Came::Pong => {}
                Came::Nothing => return Err(String::from("nothing came")),
            }
        }
    }

    /// Whether the connection takes whole messages at all.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// Takes everything that is on its way and gives the messages nobody has compared.
    pub(crate) fn leftovers(&mut self, conn: &mut Conn) -> Result<Vec<String>, String> {
        conn.try_send("PING\r\n").map_err(|error| error.to_string())?;
        loop {
            match read(conn, DEADLINE)? {
                Came::Message(sid, message) => {
                    self.queues.entry(sid).or_default().push_back(message);
                }
                Came::Pong => break,
                Came::Nothing => return Err(String::from("no PONG")),
            }
        }
        let all = self.queues.drain().flat_map(|(_, queue)| queue);
        let brief = |message: Message| message.text(false).chars().take(200).collect();
        Ok(all.take(10).map(brief).collect())
    }
}

enum Came {
    Message(String, Message),
    Pong,
    Nothing,
}

/// Reads up to the next message or PONG; answers PINGs and skips INFOs.
fn read(conn: &mut Conn, limit: Duration) -> Result<Came, String> {
    loop {
        let line = match conn.line_within(limit) {
            Ok(line) => String::from_utf8_lossy(&line).into_owned(),
            Err(Missing::TimedOut) => return Ok(Came::Nothing),
            Err(Missing::Closed) => return Err(String::from("the server closed")),
        };
        let fields: Vec<&str> = line.split(' ').collect();
        let (subject, sid, reply, head, all) = match *fields.as_slice() {
            ["PONG"] => return Ok(Came::Pong),
            ["INFO", ..] => continue,
            ["MSG", subject, sid, all] => (subject, sid, "", "0", all),
            ["MSG", subject, sid, reply, all] => (subject, sid, reply, "0", all),
            ["HMSG", subject, sid, head, all] => (subject, sid, "", head, all),
            ["HMSG", subject, sid, reply, head, all] => (subject, sid, reply, head, all),
            _ => return Err(format!("came {line}")),
        };
        let size = |text: &str| text.parse::<usize>().map_err(|_| format!("bad size: {line}"));
        let (head, all) = (size(head)?, size(all)?);
        let payload = payload(conn, all)?;
        let headers = fields.first().is_some_and(|verb| *verb == "HMSG");
        let message = Message {
            subject: String::from(subject),
            reply: String::from(reply),
            headers: headers.then(|| payload[..head.min(all)].to_vec()),
            body: payload[head.min(all)..].to_vec(),
        };
        return Ok(Came::Message(String::from(sid), message));
    }
}

/// The `size` bytes that come next, and the CR LF after them.
fn payload(conn: &mut Conn, size: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    loop {
        let answers_pings = std::mem::replace(&mut conn.answers_pings, false);
        let line = conn.line().map_err(|missing| format!("{missing:?} inside a payload"));
        conn.answers_pings = answers_pings;
        let line = line?;
        // Only a CR LF at the end is taken off a line.
        let ended = line.ends_with(b"\n");
        bytes.extend_from_slice(&line);
        if !ended && bytes.len() == size {
            return Ok(bytes);
        }
        if !ended {
            bytes.extend_from_slice(b"\r\n");
        }
        if bytes.len() > size {
            return Err(format!("a payload of {} bytes, not {size}", bytes.len()));
        }
    }
}

fn header_block(text: &str, known: &Known) -> Result<Vec<u8>, String> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for line in text.split(" | ") {
        block.extend(text::bytes(line, known)?);
        block.extend_from_slice(b"\r\n");
    }
    block.extend_from_slice(b"\r\n");
    Ok(block)
}

impl Message {
    /// Whether this is what `wanted` says; gives what the placeholders took. With `exact` a JSON
    /// body is compared byte by byte.
    pub(crate) fn matches(
        &self,
        wanted: &str,
        known: &Known,
        exact: bool,
    ) -> Result<Option<Captures>, String> {
        let parts = written(wanted);
        let mut captures = Captures::new();
        let heads = [(parts.subjects, self.subjects()), (parts.headers, self.header_text())];
        for (want, found) in heads {
            match (want, found) {
                (None, None) => {}
                (Some(want), Some(found)) => {
                    let Some(more) = text::captured(want, known, found.as_bytes())? else {
                        return Ok(None);
                    };
                    captures.extend(more);
                }
                _ => return Ok(None),
            }
        }
        let body = String::from_utf8_lossy(&self.body);
        let is_json = !exact && parts.body.starts_with('{') && body.starts_with('{');
        let more = if is_json {
            json::matches(parts.body, known, &body)?
        } else {
            text::captured(parts.body, known, &self.body)?
        };
        Ok(more.map(|more| {
            captures.extend(more);
            captures
        }))
    }

    fn subjects(&self) -> Option<String> {
        if self.reply.is_empty() && self.subject.starts_with(INBOX) {
            return None;
        }
        let subject = if self.subject.starts_with(INBOX) { "-" } else { &self.subject };
        Some(format!("{subject} {}", self.reply).trim_end().to_owned())
    }

    /// The header lines, with a status in front if there is one.
    fn header_text(&self) -> Option<String> {
        let text = String::from_utf8_lossy(self.headers.as_deref()?).into_owned();
        let text = text.strip_suffix("\r\n\r\n").unwrap_or(&text);
        let text = text.strip_prefix("NATS/1.0").unwrap_or(text);
        let text = text.strip_prefix("\r\n").or_else(|| text.strip_prefix(' ')).unwrap_or(text);
        Some(text.replace("\r\n", " | "))
    }

    /// The message as a transcript writes it.
    pub(crate) fn text(&self, masked: bool) -> String {
        let mask = |text: String| if masked { text::masked(&text) } else { text };
        let mut out = String::new();
        if let Some(subjects) = self.subjects() {
            out.push_str(&format!("<{}> ", mask(text::escaped(subjects.as_bytes()))));
        }
        if let Some(headers) = self.header_text() {
            out.push_str(&format!("[{}] ", mask(text::escaped(headers.as_bytes()))));
        }
        let body = String::from_utf8_lossy(&self.body);
        let json = body.starts_with('{').then(|| json::masked(&body)).flatten();
        match json {
            Some(json) if masked => out.push_str(&json),
            _ => out.push_str(&mask(text::escaped(&self.body))),
        }
        out.trim_end().to_owned()
    }
}
