//! What must happen because of an input to JetStream: messages to publish, subscriptions of its
//! own, disk operations, lines for the log. The shard carries them out after each call.

use store::disk::DiskQueue;

/// Where a message of the broker goes inside JetStream; chosen by whoever subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A subject of a stream: ingest. The stream's slot on this shard.
    Stream(u32),
    /// The inbox of a mirror's or source's consumer: stream slot and position of the source.
    Source(u32, u32),
    /// The inbox of a restore under way.
    Restore(u32),
    /// Replies to requests that a stream makes itself: stream slot and a number of its choice.
    Reply(u32, u32),
}

/// One message to be published.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// Account id.
    pub account: u32,
    /// Where it goes.
    to: (u32, u32),
    /// The subject that the receiver sees.
    subject: (u32, u32),
    reply: (u32, u32),
    headers: (u32, u32),
    payload: (u32, u32),
}

/// A [`Send`] with its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Account id.
    pub account: u32,
    /// Subscriptions to this subject get it.
    pub to: &'a [u8],
    /// The subject that they see.
    pub subject: &'a [u8],
    /// May be empty.
    pub reply: &'a [u8],
    /// A header block with `NATS/1.0` line and empty last line, or empty.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// A change of JetStream's own subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// From now on messages to `subject` come to `endpoint`.
    Subscribe {
        /// Account id.
        account: u32,
        /// Subject or pattern.
        subject: Box<[u8]>,
        /// Who gets it.
        endpoint: Endpoint,
    },
    /// No longer.
    Unsubscribe {
        /// Account id.
        account: u32,
        /// As subscribed.
        subject: Box<[u8]>,
        /// As subscribed.
        endpoint: Endpoint,
    },
}

/// How loud a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `[ERR]`
    Error,
    /// `[WRN]`
    Warn,
    /// `[INF]`
    Info,
    /// `[DBG]`
    Debug,
}

/// What waits until every shard knows of the interest announced before it. In order: what needs
/// no wait goes behind what does.
#[derive(Debug)]
pub enum AfterInterest {
    /// An answer that tells of new subjects: whoever has it may publish from any shard.
    Answer {
        /// Account id.
        account: u32,
        /// The shard from which it goes: the client's.
        origin: u16,
        /// Where it goes.
        subject: Box<[u8]>,
        /// The answer.
        payload: Box<[u8]>,
    },
    /// A request on its way to shard 0, which leads to a stream's home. What the home tells of it
    /// has to reach whoever subscribed before the request, on whatever shard.
    Request {
        /// The parcel.
        bytes: Vec<u8>,
        /// Whether it leads on from shard 0; otherwise it only keeps its place.
        leads_on: bool,
    },
}

/// The reusable sink of effects.
#[derive(Debug, Default)]
pub struct Effects {
    /// What waits for the interest before it.
    pub after_interest: Vec<AfterInterest>,
    arena: Vec<u8>,
    sends: Vec<Send>,
    /// Changes of JetStream's own subscriptions, in order, before the messages.
    pub interests: Vec<Interest>,
    /// Operations for the disk.
    pub disk: DiskQueue,
    /// Lines for the log.
    pub logs: Vec<(Level, String)>,
}

impl Effects {
    fn keep(&mut self, bytes: &[u8]) -> (u32, u32) {
        let at = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        (at, bytes.len() as u32)
    }

    /// Publishes a message: subscriptions to `subject` get it.
    pub fn publish(
        &mut self,
        account: u32,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) {
        self.deliver(&Outgoing { account, to: subject, subject, reply, headers, payload });
    }

    /// Publishes a message whose receivers see another subject than they subscribed to.
    pub fn deliver(&mut self, m: &Outgoing<'_>) {
        let to = self.keep(m.to);
        let subject = if m.subject == m.to { to } else { self.keep(m.subject) };
        let send = Send {
            account: m.account,
            to,
            subject,
            reply: self.keep(m.reply),
            headers: self.keep(m.headers),
            payload: self.keep(m.payload),
        };
        self.sends.push(send);
    }

    /// Messages that wait to be published.
    #[must_use]
    pub fn sends(&self) -> usize {
        self.sends.len()
    }

    /// Bytes of the messages that wait to be published.
    #[must_use]
    pub fn send_bytes(&self) -> usize {
        self.arena.len()
    }

    /// The message at a position.
    #[must_use]
    pub fn outgoing(&self, at: usize) -> Option<Outgoing<'_>> {
        let send = self.sends.get(at)?;
        let piece = |(at, len): (u32, u32)| {
            self.arena.get(at as usize..at as usize + len as usize).unwrap_or_default()
        };
        Some(Outgoing {
            account: send.account,
            to: piece(send.to),
            subject: piece(send.subject),
            reply: piece(send.reply),
            headers: piece(send.headers),
            payload: piece(send.payload),
        })
    }

    /// Forgets the messages, which have been published.
    pub fn clear_sends(&mut self) {
        self.sends.clear();
        self.arena.clear();
    }

    /// Notes a line for the log.
    pub fn log(&mut self, level: Level, text: String) {
        self.logs.push((level, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut fx = Effects::default();
        fx.publish(1, b"a", b"", b"", b"x");
        let sent = Outgoing {
            account: 2,
            to: b"inbox",
            subject: b"orders",
            reply: b"r",
            headers: b"NATS/1.0\r\n\r\n",
            payload: b"",
        };
        fx.deliver(&sent);
        assert_eq!(fx.sends(), 2);
        assert_eq!(fx.outgoing(1), Some(sent));
        assert_eq!(
            fx.outgoing(0).map(|m| (m.to, m.subject, m.payload)),
            Some((&b"a"[..], &b"a"[..], &b"x"[..]))
        );
        fx.clear_sends();
        assert_eq!(fx.outgoing(0), None);
    }
}
