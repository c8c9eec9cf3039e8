//! A simulated client: what it has asked for, and the frames that it reads.

use std::collections::HashMap;

/// What a PONG confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Sub,
    Unsub,
}

/// One subscription as the client knows it.
#[derive(Clone, Debug)]
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

/// What a client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Pong,
    Ping,
    Msg { subject: String, sid: u64, reply: String, header: Vec<u8>, payload: Vec<u8> },
    Other,
}

/// One client.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) shard: usize,
    pub(crate) slot: u32,
    pub(crate) open: bool,
    pub(crate) account: usize,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) subs: HashMap<u64, ClientSub>,
    pub(crate) next_sid: u64,
    /// Bytes on the way to the shard.
    pub(crate) upstream: std::collections::VecDeque<u8>,
    /// Bytes received and not yet read as frames.
    pub(crate) inbox: Vec<u8>,
    /// Bytes that its socket takes before it is full.
    pub(crate) window: usize,
    /// PINGs sent, PONGs received.
    pub(crate) pings: usize,
    pub(crate) pongs: usize,
    /// Subscriptions whose SUB or UNSUB the n-th PONG confirms.
    pub(crate) confirms: Vec<Vec<(u64, Verb)>>,
    pub(crate) unconfirmed: Vec<(u64, Verb)>,
    /// Messages published; those before the last confirmed PING have surely been handled.
    pub(crate) published: u64,
}

impl Client {
    /// Appends protocol text to what goes to the shard.
    pub(crate) fn send(&mut self, text: &[u8]) {
        self.upstream.extend(text);
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
            ["INFO" | "+OK" | "-ERR", ..] => (Frame::Other, end + 2),
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
        let (fields, sizes) = words.split_at(words.len() - if with_header { 2 } else { 1 });
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
        let frame = Frame::Msg {
            subject: subject.to_owned(),
            sid: number(sid)? as u64,
            reply: reply.to_owned(),
            header: body[..header_len].to_vec(),
            payload: body[header_len..total].to_vec(),
        };
        Ok(Some((frame, at + total + 2)))
    }
}
