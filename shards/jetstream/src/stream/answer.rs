//! Answers to publishers.

use wire::api::errors::{self, ApiError};
use wire::api::publish::{PubAckExtra, push_pub_ack, push_pub_error};
use wire::api::timestamp::Timestamp;

use super::Stream;
use crate::effect::{Effects, Outgoing};

impl Stream {
    /// Whether a publisher with this reply gets any answer.
    pub(super) const fn answers(&self, reply: &[u8]) -> bool {
        !reply.is_empty() && !self.config.no_ack
    }

    /// Whether messages were acknowledged that are not safe and still may be.
    pub(crate) fn owes_acknowledged(&self) -> bool {
        let store = &self.store;
        self.is_async && store.fenced().is_none() && store.durable_seq() < store.last_seq()
    }

    /// Answers once everything up to `seq` is durable, or at once if the stream does not wait.
    pub(super) fn answer_stored(
        &mut self,
        reply: &[u8],
        seq: u64,
        extra: &PubAckExtra<'_>,
        fx: &mut Effects,
    ) {
        if !self.answers(reply) {
            return;
        }
        let Self { acks, ack_prefix, scratch, .. } = self;
        if self.is_async || self.store.durable_seq() >= seq {
            scratch.clear();
            push_pub_ack(scratch, ack_prefix, seq, extra);
            fx.publish(self.id.account, reply, b"", b"", scratch);
        } else {
            acks.push(seq, reply, |out| push_pub_ack(out, ack_prefix, seq, extra));
        }
    }

    /// Sends a body as soon as everything stored so far is durable.
    pub(super) fn answer_when_durable(&mut self, reply: &[u8], body: &[u8], fx: &mut Effects) {
        if reply.is_empty() {
            return;
        }
        let seq = self.store.last_seq();
        if self.is_async || self.store.durable_seq() >= seq {
            fx.publish(self.id.account, reply, b"", b"", body);
        } else {
            self.acks.push(seq, reply, |out| out.extend_from_slice(body));
        }
    }

    /// Sends a header block as soon as everything stored so far is durable.
    pub(super) fn answer_block_when_durable(
        &mut self,
        reply: &[u8],
        block: &[u8],
        fx: &mut Effects,
    ) {
        let seq = self.store.last_seq();
        if self.is_async || self.store.durable_seq() >= seq {
            fx.publish(self.id.account, reply, b"", block, b"");
        } else {
            self.acks.push_with_block(seq, reply, block, |_| {});
        }
    }

    /// Answers with an error.
    pub(super) fn answer_error(&mut self, reply: &[u8], error: &ApiError, fx: &mut Effects) {
        if error.is(&errors::STREAM_TOO_MANY_REQUESTS) {
            self.answer_too_many(reply, fx);
            return;
        }
        if !self.answers(reply) {
            return;
        }
        self.scratch.clear();
        push_pub_error(&mut self.scratch, &self.config.name, error);
        fx.publish(self.id.account, reply, b"", b"", &self.scratch);
    }

    /// Answers that too much is on its way already.
    pub(super) fn answer_too_many(&mut self, reply: &[u8], fx: &mut Effects) {
        if reply.is_empty() {
            return;
        }
        self.scratch.clear();
        let error = errors::STREAM_TOO_MANY_REQUESTS;
        push_pub_error(&mut self.scratch, &self.config.name, &error);
        fx.deliver(&Outgoing {
            account: self.id.account,
            to: reply,
            subject: reply,
            reply: b"",
            headers: b"NATS/1.0 429 Too Many Requests\r\n\r\n",
            payload: &self.scratch,
        });
    }
}

/// Begins a header block with what another one holds; it still lacks its empty line.
pub(super) fn push_open_block(out: &mut Vec<u8>, block: &[u8]) {
    match block.strip_suffix(b"\r\n") {
        Some(open) => out.extend_from_slice(open),
        None => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
}

/// Appends the headers that say which message of which stream this is.
pub(super) fn push_facts(
    out: &mut Vec<u8>,
    stream: &str,
    subject: &[u8],
    seq: u64,
    stored_ns: i64,
) {
    for part in [&b"Nats-Stream: "[..], stream.as_bytes(), b"\r\nNats-Subject: ", subject, b"\r\n"]
    {
        out.extend_from_slice(part);
    }
    push_number(out, "Nats-Sequence", seq);
    let mut time = String::with_capacity(30);
    Timestamp(stored_ns).push(&mut time);
    for part in ["Nats-Time-Stamp: ", &time, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends a header with a number.
pub(super) fn push_number(out: &mut Vec<u8>, key: &str, value: u64) {
    for part in [key, ": ", itoa::Buffer::new().format(value), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}
