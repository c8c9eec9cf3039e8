//! One batch: the parcels one shard sends another in one turn, written one after the other into
//! a flat buffer so that a message costs one copy and no allocation.

use crate::index::ShardId;

/// What one shard hands to another, at most one a turn unless it grows too large.
#[derive(Debug, Default)]
pub struct Batch {
    /// The sender.
    pub from: ShardId,
    /// Rises by one with every batch that a shard opens, whoever it is for.
    pub seq: u64,
    /// The receiver shall acknowledge `seq` once it has applied this batch.
    pub ack_wanted: bool,
    /// The highest `seq` of the receiver's batches that the sender has applied.
    pub acked: u64,
    /// The encoded parcels.
    pub bytes: Vec<u8>,
    /// Messages in the batch.
    pub messages: u32,
}

/// The connection that published a message, so that it can be held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Slot of the connection on its shard.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// A published message on its way to another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Account id.
    pub account: u32,
    /// Who published it.
    pub origin: Origin,
    /// The shard of the publisher.
    pub home: ShardId,
    /// The receiver's plain subscriptions get it (not only the named queues).
    pub plain: bool,
    /// Nobody else gets it: the publisher's shard wants to know when nobody takes it.
    pub report: bool,
    /// It has come through a service import, and goes no further into other accounts.
    pub imported: bool,
    /// It is for the private reply that is its subject, which only the receiver knows.
    pub answer: bool,
    /// Shards that have refused the queue delivery already, as a bit set.
    pub refused: u64,
    /// Subject.
    pub subject: &'a [u8],
    /// The subject that receivers see, when it is another one; else empty.
    pub shown: &'a [u8],
    /// Reply, may be empty.
    pub reply: &'a [u8],
    /// Queue groups for which the receiver shall choose a member, each preceded by its length as
    /// two bytes.
    pub queues: &'a [u8],
    /// Bytes of the header block at the front of `body`.
    pub header_len: usize,
    /// Headers, payload and the closing CRLF.
    pub body: &'a [u8],
}

/// A receiver's shard asks the publisher's shard to hold or release a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Hold while the receiver is behind and nobody else suffers.
    Soft,
    /// Hold although others may suffer, for one slice.
    Hard,
    /// The receiver has caught up.
    Release,
}

/// One decoded parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A message.
    Message(Message<'a>),
    /// The sender's interest in (account, subject, queue) is now `weight` members; 0 is none.
    Interest {
        /// Account id.
        account: u32,
        /// Subject or pattern.
        subject: &'a [u8],
        /// Queue group.
        queue: Option<&'a [u8]>,
        /// Members.
        weight: u32,
    },
    /// Nobody took the message of one of the receiving shard's publishers.
    Undelivered {
        /// The publisher.
        origin: Origin,
        /// Subject of the message.
        subject: &'a [u8],
        /// Its reply.
        reply: &'a [u8],
    },
    /// From the services of one shard to those of another.
    Service {
        /// As they encode it.
        bytes: &'a [u8],
    },
    /// Hold or release a publisher.
    Hold {
        /// The publisher.
        origin: Origin,
        /// What to do.
        hold: Hold,
    },
}

const MESSAGE: u8 = 1;
const INTEREST: u8 = 2;
const HOLD: u8 = 3;
const UNDELIVERED: u8 = 4;
const SERVICE: u8 = 5;
/// Fixed part of an encoded message.
const MESSAGE_HEAD: usize = 1 + 4 + 8 + 1 + 8 + 4 + 4 + 4 + 4 + 4 + 2 + 4;

impl Batch {
    /// Nothing to say and nothing to acknowledge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.ack_wanted
    }

    /// Appends a message.
    pub fn push_message(&mut self, m: &Message<'_>) {
        let lens = [m.subject.len(), m.reply.len(), m.queues.len(), m.header_len, m.body.len()];
        self.bytes.reserve(MESSAGE_HEAD + lens[0] + m.shown.len() + lens[1] + lens[2] + lens[4]);
        let mut head = [0_u8; MESSAGE_HEAD];
        head[0] = MESSAGE;
        head[1..5].copy_from_slice(&m.account.to_le_bytes());
        head[5..9].copy_from_slice(&m.origin.slot.to_le_bytes());
        head[9..13].copy_from_slice(&m.origin.generation.to_le_bytes());
        head[13] = u8::from(m.plain)
            | u8::from(m.report) << 1
            | u8::from(m.imported) << 2
            | u8::from(m.answer) << 3;
        head[42..44].copy_from_slice(&m.home.to_le_bytes());
        head[44..48].copy_from_slice(&(m.shown.len() as u32).to_le_bytes());
        head[14..22].copy_from_slice(&m.refused.to_le_bytes());
        for (len, place) in lens.iter().zip(head[22..42].chunks_exact_mut(4)) {
            place.copy_from_slice(&(*len as u32).to_le_bytes());
        }
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(m.subject);
        self.bytes.extend_from_slice(m.shown);
        self.bytes.extend_from_slice(m.reply);
        self.bytes.extend_from_slice(m.queues);
        self.bytes.extend_from_slice(m.body);
        self.messages += 1;
    }

    /// Appends a change of interest.
    pub fn push_interest(
        &mut self,
        account: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        weight: u32,
    ) {
        self.bytes.push(INTEREST);
        for word in [account, weight, subject.len() as u32, queue.map_or(0, <[u8]>::len) as u32] {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(subject);
        self.bytes.extend_from_slice(queue.unwrap_or_default());
    }

    /// Appends the news that nobody took a message.
    pub fn push_undelivered(&mut self, origin: Origin, subject: &[u8], reply: &[u8]) {
        self.bytes.push(UNDELIVERED);
        let lens = [subject.len() as u32, reply.len() as u32];
        for word in [origin.slot, origin.generation, lens[0], lens[1]] {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(subject);
        self.bytes.extend_from_slice(reply);
    }

    /// Appends bytes of the services.
    pub fn push_service(&mut self, bytes: &[u8]) {
        self.bytes.push(SERVICE);
        self.bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a hold or release.
    pub fn push_hold(&mut self, origin: Origin, hold: Hold) {
        self.bytes.push(HOLD);
        self.bytes.extend_from_slice(&origin.slot.to_le_bytes());
        self.bytes.extend_from_slice(&origin.generation.to_le_bytes());
        self.bytes.push(hold as u8);
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// The first parcel of `bytes` and its encoded length; `None` at the end. Batches never leave the
/// process, so a parcel that does not decode ends the batch.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
    match *bytes.first()? {
        MESSAGE => decode_message(bytes),
        INTEREST => {
            let (account, weight) = (word(bytes, 1)?, word(bytes, 5)?);
            let (subject_len, queue_len) = (word(bytes, 9)? as usize, word(bytes, 13)? as usize);
            let queue_at = 17 + subject_len;
            let end = queue_at + queue_len;
            let subject = bytes.get(17..queue_at)?;
            let queue = bytes.get(queue_at..end)?;
            let queue = if queue.is_empty() { None } else { Some(queue) };
            Some((Entry::Interest { account, subject, queue, weight }, end))
        }
        UNDELIVERED => {
            let origin = Origin { slot: word(bytes, 1)?, generation: word(bytes, 5)? };
            let reply_at = 17 + word(bytes, 9)? as usize;
            let end = reply_at + word(bytes, 13)? as usize;
            let (subject, reply) = (bytes.get(17..reply_at)?, bytes.get(reply_at..end)?);
            Some((Entry::Undelivered { origin, subject, reply }, end))
        }
        SERVICE => {
            let end = 5 + word(bytes, 1)? as usize;
            Some((Entry::Service { bytes: bytes.get(5..end)? }, end))
        }
        HOLD => {
            let origin = Origin { slot: word(bytes, 1)?, generation: word(bytes, 5)? };
            let hold = match *bytes.get(9)? {
                0 => Hold::Soft,
                1 => Hold::Hard,
                _ => Hold::Release,
            };
            Some((Entry::Hold { origin, hold }, 10))
        }
        _ => None,
    }
}

fn decode_message(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
    let origin = Origin { slot: word(bytes, 5)?, generation: word(bytes, 9)? };
    let refused = u64::from_le_bytes(bytes.get(14..22)?.try_into().ok()?);
    let shown_at = MESSAGE_HEAD + word(bytes, 22)? as usize;
    let reply_at = shown_at + word(bytes, 44)? as usize;
    let queues_at = reply_at + word(bytes, 26)? as usize;
    let body_at = queues_at + word(bytes, 30)? as usize;
    let header_len = word(bytes, 34)? as usize;
    let end = body_at + word(bytes, 38)? as usize;
    let flags = *bytes.get(13)?;
    let message = Message {
        account: word(bytes, 1)?,
        origin,
        home: u16::from_le_bytes(bytes.get(42..44)?.try_into().ok()?),
        plain: flags & 1 != 0,
        report: flags & 2 != 0,
        imported: flags & 4 != 0,
        answer: flags & 8 != 0,
        refused,
        subject: bytes.get(MESSAGE_HEAD..shown_at)?,
        shown: bytes.get(shown_at..reply_at)?,
        reply: bytes.get(reply_at..queues_at)?,
        queues: bytes.get(queues_at..body_at)?,
        header_len,
        body: bytes.get(body_at..end)?,
    };
    Some((Entry::Message(message), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_come_out_as_they_went_in() {
        let origin = Origin { slot: 7, generation: 9 };
        let message = Message {
            account: 3,
            origin,
            home: 6,
            plain: true,
            report: true,
            imported: false,
            answer: true,
            refused: 5,
            subject: b"a.b",
            shown: b"shown",
            reply: b"",
            queues: b"\x01\x00q",
            header_len: 2,
            body: b"hhpayload\r\n",
        };
        let mut batch = Batch::default();
        batch.push_message(&message);
        batch.push_interest(1, b"a.>", Some(b"q"), 4);
        batch.push_interest(1, b"a.>", None, 0);
        batch.push_hold(origin, Hold::Hard);
        batch.push_service(b"xy");
        batch.push_undelivered(origin, b"s.t", b"r");
        let mut rest = batch.bytes.as_slice();
        let mut seen = Vec::new();
        while let Some((entry, len)) = decode(rest) {
            seen.push(entry);
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
        let interest =
            |queue, weight| Entry::Interest { account: 1, subject: b"a.>", queue, weight };
        let hold = Entry::Hold { origin, hold: Hold::Hard };
        let lost = Entry::Undelivered { origin, subject: b"s.t", reply: b"r" };
        assert_eq!(
            seen,
            [
                Entry::Message(message),
                interest(Some(b"q".as_slice()), 4),
                interest(None, 0),
                hold,
                Entry::Service { bytes: b"xy" },
                lost
            ]
        );
    }

    #[test]
    fn a_cut_batch_ends_without_panic() {
        let mut batch = Batch::default();
        batch.push_interest(1, b"subject", Some(b"queue"), 4);
        batch.push_hold(Origin { slot: 1, generation: 1 }, Hold::Soft);
        for cut in 0..batch.bytes.len() {
            let mut rest = &batch.bytes[..cut];
            while let Some((_, len)) = decode(rest) {
                rest = &rest[len..];
            }
        }
    }
}
