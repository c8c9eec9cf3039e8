//! What the consumer of a feed delivers: messages, heartbeats, requests for flow control.

use wire::headers;

use super::draft::{Draft, Refusal};
use super::feed::{Phase, transformed};
use super::index_name::{AckReply, push_origin};
use super::ingest::{Ingest, Publish, mixed};
use super::{Cx, Stream};

/// Where a consumer stands, in its messages and in those of flow control.
const LAST_CONSUMER: &[u8] = b"Nats-Last-Consumer";
const LAST_STREAM: &[u8] = b"Nats-Last-Stream";
const STALLED: &[u8] = b"Nats-Consumer-Stalled";

/// What a feed does with a delivery.
enum Turn {
    /// It is the next message.
    Take,
    /// It has been seen, or is not for this feed.
    Ignore,
    /// Something is missing: begin again.
    Restart,
}

fn is_control(block: &[u8], payload: &[u8]) -> bool {
    payload.is_empty() && block.starts_with(b"NATS/1.0 100 ")
}

fn number(block: &[u8], key: &[u8]) -> u64 {
    headers::get(block, key).and_then(wire::api::publish::parse_digits).unwrap_or(0)
}

/// The headers of a message without those that concern its way into the other stream.
fn cleaned(block: &[u8], is_mirror: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + 64);
    for (key, value) in headers::iter(block) {
        let is_dropped = key.starts_with(b"Nats-Expected-")
            || key.starts_with(b"Nats-Batch-")
            || (!is_mirror && key == b"Nats-Stream-Source");
        if is_dropped {
            continue;
        }
        if out.is_empty() {
            out.extend_from_slice(b"NATS/1.0\r\n");
        }
        for part in [key, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}

impl Stream {
    /// A delivery for the feed with this number ([`crate::effect::Endpoint::Source`]). `publish`
    /// has the subject that the message has in the other stream.
    pub fn handle_feed_message(
        &mut self,
        number: u32,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Ingest {
        let Some(at) = self.feeds.at(number) else { return Ingest::Waiting };
        let Some(feed) = self.feeds.all.get_mut(at) else { return Ingest::Waiting };
        if feed.phase != Phase::Running {
            return Ingest::Waiting;
        }
        feed.heard_ns = Some(cx.ctx.mono_ns);
        if is_control(publish.headers, publish.payload) {
            self.handle_control(at, publish, cx);
            return Ingest::Waiting;
        }
        let Some(reply) = AckReply::parse(publish.reply) else { return Ingest::Waiting };
        if *reply.consumer != *feed.consumer || reply.delivered() > 1 {
            return Ingest::Waiting;
        }
        let before = (feed.consumer_seq, feed.stream_seq);
        match self.sequence_delivery(at, &reply) {
            Turn::Ignore => return Ingest::Waiting,
            Turn::Restart => {
                self.restart_feed(at, false, cx);
                return Ingest::Waiting;
            }
            Turn::Take => {}
        }
        let placed = self.place_delivery(at, &reply, publish, cx);
        match placed {
            Ok(outcome) => outcome,
            Err(Refusal::Duplicate(seq)) => Ingest::Duplicate(seq),
            Err(refusal) => {
                // The same message again, from a new consumer.
                if let Some(feed) = self.feeds.all.get_mut(at) {
                    (feed.consumer_seq, feed.stream_seq) = before;
                }
                self.restart_feed(at, false, cx);
                match refusal {
                    Refusal::Error(error) => Ingest::Refused(error),
                    _ => Ingest::Waiting,
                }
            }
        }
    }

    /// Whether a delivery follows on the last one, and notes it if so.
    fn sequence_delivery(&mut self, at: usize, reply: &AckReply<'_>) -> Turn {
        let Some(feed) = self.feeds.all.get_mut(at) else { return Turn::Ignore };
        let (consumer_seq, stream_seq) = (reply.consumer_seq(), reply.stream_seq());
        let follows = consumer_seq == feed.consumer_seq + 1;
        if stream_seq <= feed.stream_seq {
            if follows {
                feed.consumer_seq = consumer_seq;
            }
            return Turn::Ignore;
        }
        let is_next_of_mirror = feed.is_mirror && stream_seq == feed.stream_seq + 1;
        if !follows && !is_next_of_mirror {
            return if consumer_seq > feed.consumer_seq || feed.is_mirror {
                Turn::Restart
            } else {
                Turn::Ignore
            };
        }
        (feed.consumer_seq, feed.stream_seq) = (consumer_seq, stream_seq);
        feed.lag = reply.pending().saturating_sub(1);
        Turn::Take
    }

    fn place_delivery(
        &mut self,
        at: usize,
        reply: &AckReply<'_>,
        publish: &Publish<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Ingest, Refusal> {
        if self.acks.is_full(self.buffered_messages_max) || !self.parked.is_empty() {
            return Err(Refusal::Pending);
        }
        let Some(feed) = self.feeds.all.get(at) else { return Ok(Ingest::Waiting) };
        let is_mirror = feed.is_mirror;
        let mut block = cleaned(publish.headers, is_mirror);
        if !is_mirror {
            let mut origin = Vec::with_capacity(64);
            let seq = reply.stream_seq_text();
            push_origin(&mut origin, &feed.index_name, seq, publish.subject, &feed.identity);
            headers::set(&mut block, b"Nats-Stream-Source", &origin);
        }
        let random = mixed(reply.stream_seq(), cx.ctx.mono_ns);
        let (mut changed, mut renamed) = (Vec::new(), Vec::new());
        let subject = transformed(&feed.transforms, publish.subject, &mut changed, random);
        let subject = self.rename(subject, &mut renamed, cx);
        let message = Publish {
            subject,
            headers: &block,
            payload: publish.payload,
            is_sourced: true,
            reply: b"",
        };
        let mut draft = Draft::new(&message, subject);
        if is_mirror {
            draft.at = Some((reply.stream_seq(), reply.stored_ns()));
        }
        self.check_single(&mut draft, cx)?;
        let placed = self.place(&mut draft, cx)?;
        self.count_fed(cx);
        Ok(if placed.is_skipped { Ingest::Skipped(placed.seq) } else { Ingest::Stored(placed.seq) })
    }

    fn handle_control(&mut self, at: usize, publish: &Publish<'_>, cx: &mut Cx<'_, '_>) {
        let Some(feed) = self.feeds.all.get(at) else { return };
        if !publish.reply.is_empty() {
            // The answer says that everything so far is safe here, so it waits until it is.
            let block = format!(
                "NATS/1.0\r\nNats-Last-Consumer: {}\r\nNats-Last-Stream: {}\r\n\r\n",
                feed.consumer_seq, feed.stream_seq
            );
            self.answer_block_when_durable(publish.reply, block.as_bytes(), cx.fx);
            return;
        }
        let delivered = number(publish.headers, LAST_CONSUMER);
        if delivered > 0 && delivered != feed.consumer_seq {
            self.restart_feed(at, false, cx);
        } else if let Some(stalled) =
            headers::get(publish.headers, STALLED).filter(|reply| !reply.is_empty())
        {
            let block = format!(
                "NATS/1.0\r\nNats-Last-Consumer: {}\r\nNats-Last-Stream: {}\r\n\r\n",
                feed.consumer_seq,
                feed.stream_seq.max(number(publish.headers, LAST_STREAM))
            );
            self.answer_block_when_durable(stalled, block.as_bytes(), cx.fx);
        }
    }
}
