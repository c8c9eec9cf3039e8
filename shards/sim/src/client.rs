//! A simulated client: what it has asked for, and the frames that it reads.

use std::collections::{BTreeMap, VecDeque};

/// What a PONG confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Sub,
    Unsub,
}

/// One subscription as the client knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientSub {
    pub(crate) pattern: String,
    pub(crate) queue: Option<String>,
    /// A PONG has come for a PING sent after the SUB.
    pub(crate) confirmed: bool,
    /// UNSUB was sent, with or without a maximum.
    pub(crate) ended: bool,
    /// The maximum of UNSUB; 0 without one.
    pub(crate) max: usize,
    /// Most messages it may have in all, once a PONG has confirmed the UNSUB.
    pub(crate) cap: Option<usize>,
    /// Messages received.
    pub(crate) received: usize,
}

impl ClientSub {
    /// It need not get more messages.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && (self.max == 0 || self.received >= self.max)
    }

    /// Its pattern takes the subject.
    pub(crate) fn takes(&self, subject: &str) -> bool {
        wire::subject::matches(self.pattern.as_bytes(), subject.as_bytes())
    }
}

/// What the PONG to one PING confirms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Confirmation {
    pub(crate) subs: Vec<(u64, Verb)>,
    /// Messages published before the PING.
    pub(crate) published: u64,
}

/// What a client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Info,
    Ok,
    Err(String),
    Ping,
    Pong,
    Msg(Message),
}

/// A message as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) sid: u64,
    pub(crate) reply: String,
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// One client and its socket.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) shard: usize,
    pub(crate) slot: u32,
    pub(crate) open: bool,
    /// It has hung up.
    pub(crate) leaving: bool,
    /// The step at which it was closed.
    pub(crate) closed_at: Option<usize>,
    /// Messages it had published when it sent what a server must close it for.
    pub(crate) spoiled: Option<u64>,
    pub(crate) account: usize,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) verbose: bool,
    pub(crate) subs: BTreeMap<u64, ClientSub>,
    pub(crate) next_sid: u64,
    /// Bytes on the way to the shard.
    pub(crate) upstream: VecDeque<u8>,
    /// Bytes received and not yet read as frames.
    pub(crate) inbox: Vec<u8>,
    /// Bytes that its socket takes before it is full.
    pub(crate) window: usize,
    /// The shard has not been refused bytes since the socket was last found to take some.
    pub(crate) writable: bool,
    /// When the socket last took bytes.
    pub(crate) took_ns: u64,
    /// It reads nothing before.
    pub(crate) stalled_until_ns: u64,
    /// PINGs sent, PONGs received.
    pub(crate) pings: usize,
    pub(crate) pongs: usize,
    /// What the n-th PONG confirms.
    pub(crate) confirms: Vec<Confirmation>,
    pub(crate) unconfirmed: Vec<(u64, Verb)>,
    /// `+OK` due and received.
    pub(crate) oks_due: usize,
    pub(crate) oks: usize,
    /// Messages published.
    pub(crate) published: u64,
    /// Those of them that a PONG tells to have been handled.
    pub(crate) sure: u64,
}

impl Client {
    /// Appends protocol bytes to what goes to the shard.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.upstream.extend(bytes);
    }

    /// Sends an operation that verbose mode answers with `+OK`.
    pub(crate) fn send_operation(&mut self, bytes: &[u8]) {
        self.oks_due += usize::from(self.verbose && self.spoiled.is_none());
        self.send(bytes);
    }

    /// A PONG: what it confirms. False when no PING was sent for it.
    pub(crate) fn take_pong(&mut self) -> bool {
        let Some(confirmed) = self.confirms.get(self.pongs).cloned() else { return false };
        self.pongs += 1;
        self.sure = self.sure.max(confirmed.published);
        for (sid, verb) in confirmed.subs {
            if let Some(sub) = self.subs.get_mut(&sid) {
                sub.confirmed = true;
                if verb == Verb::Unsub {
                    sub.cap = Some(sub.max.max(sub.received));
                }
            }
        }
        true
    }

    /// Takes the next whole frame out of the inbox.
    ///
    /// # Errors
    /// Bytes that are no frame.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, String> {
        let Some(end) = self.inbox.windows(2).position(|pair| pair == b"\r\n") else {
            return Ok(None);
        };
        let line = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
        let words: Vec<&str> = line.split(' ').collect();
        let (frame, used) = match words.as_slice() {
            ["PONG"] => (Frame::Pong, end + 2),
            ["PING"] => (Frame::Ping, end + 2),
            ["+OK"] => (Frame::Ok, end + 2),
            ["INFO", ..] => (Frame::Info, end + 2),
            ["-ERR", ..] => (Frame::Err(line[4..].trim().to_owned()), end + 2),
            ["MSG", rest @ ..] => match self.message(end + 2, rest, false)? {
                Some(found) => found,
                None => return Ok(None),
            },
            ["HMSG", rest @ ..] => match self.message(end + 2, rest, true)? {
                Some(found) => found,
                None => return Ok(None),
            },
            _ => return Err(format!("no frame: {line:?}")),
        };
        self.inbox.drain(..used);
        Ok(Some(frame))
    }

    fn message(
        &self,
        at: usize,
        words: &[&str],
        with_header: bool,
    ) -> Result<Option<(Frame, usize)>, String> {
        let bad = || format!("no message line: {words:?}");
        let number = |word: &str| word.parse::<usize>().map_err(|_| bad());
        let sizes_at = words.len().checked_sub(1 + usize::from(with_header)).ok_or_else(bad)?;
        let (fields, sizes) = words.split_at(sizes_at);
        let total = number(sizes.last().ok_or_else(bad)?)?;
        let header_len = if with_header { number(sizes[0])? } else { 0 };
        let (subject, sid, reply) = match fields {
            [subject, sid] => (*subject, *sid, ""),
            [subject, sid, reply] => (*subject, *sid, *reply),
            _ => return Err(bad()),
        };
        let Some(body) = self.inbox.get(at..at + total + 2) else { return Ok(None) };
        if &body[total..] != b"\r\n" || header_len > total {
            return Err(bad());
        }
        let frame = Frame::Msg(Message {
            subject: subject.to_owned(),
            sid: number(sid)? as u64,
            reply: reply.to_owned(),
            header: body[..header_len].to_vec(),
            payload: body[header_len..total].to_vec(),
        });
        Ok(Some((frame, at + total + 2)))
    }
}
