//! A stream that comes out of an archive. It is made apart, in a store of its own, and nobody
//! sees it before all of the archive has been read and found to be right.

use store::{ALL, AppendError, NewMessage};
use wire::api::errors::{self, ApiError};
use wire::api::publish::{PublishHeaders, Ttl, parse_ttl};
use wire::backup::{ArchiveError, ArchiveReader, ConsumerBackup, Event, Limits, Message};

use super::Stream;
use crate::context::Context;

const SECOND_NS: i64 = 1_000_000_000;

/// What came of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in, and may be acknowledged; the next may come.
    Chunk,
    /// The disk must catch up: [`Restore::go_on`] is to be called then, and the chunk not
    /// acknowledged before it answers otherwise.
    Busy,
    /// That was the last, and the stream is whole.
    All,
}

/// A message that the store could not take yet.
#[derive(Debug)]
struct Held {
    sequence: u64,
    time_ns: i64,
    subject: Box<[u8]>,
    headers: Box<[u8]>,
    payload: Box<[u8]>,
}

/// See the module.
pub struct Restore {
    stream: Stream,
    reader: ArchiveReader,
    consumers: Vec<ConsumerBackup>,
    held: Option<Held>,
    /// Bytes of chunks so far.
    pub bytes: u64,
    messages: u64,
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore")
            .field("stream", &self.stream.name())
            .field("bytes", &self.bytes)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

fn failed(error: impl std::fmt::Display) -> ApiError {
    errors::STREAM_RESTORE.with(error)
}

/// Damaged compression has one text for all its kinds, as from nats-server.
fn unreadable(error: ArchiveError) -> ApiError {
    match error {
        ArchiveError::S2(_) => failed("s2: corrupt input"),
        other => failed(other),
    }
}

impl Restore {
    /// Begins with a stream that has its configuration and no messages.
    #[must_use]
    pub fn new(stream: Stream, limits: Limits) -> Self {
        Self {
            stream,
            reader: ArchiveReader::new(limits),
            consumers: Vec::new(),
            held: None,
            bytes: 0,
            messages: 0,
        }
    }

    /// The stream as far as it is.
    #[must_use]
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The same, to be changed.
    pub const fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The stream and its consumers, once [`Taken::All`] was answered.
    #[must_use]
    pub fn into_parts(self) -> (Stream, Vec<ConsumerBackup>) {
        (self.stream, self.consumers)
    }

    /// Takes the next chunk; an empty one says that there are no more.
    ///
    /// # Errors
    ///
    /// The error for the client; the stream is to be thrown away.
    pub fn handle_chunk(&mut self, chunk: &[u8], ctx: &Context<'_>) -> Result<Taken, ApiError> {
        if chunk.is_empty() {
            self.reader.finish();
        } else {
            self.bytes = self.bytes.saturating_add(chunk.len() as u64);
            self.reader.push(chunk);
        }
        self.go_on(ctx)
    }

    /// Goes on with what has come in.
    ///
    /// # Errors
    ///
    /// The error for the client; the stream is to be thrown away.
    pub fn go_on(&mut self, ctx: &Context<'_>) -> Result<Taken, ApiError> {
        if let Some(held) = self.held.take() {
            let message = Message {
                sequence: held.sequence,
                time_ns: held.time_ns,
                subject: &held.subject,
                headers: &held.headers,
                payload: &held.payload,
            };
            match store_message(&mut self.stream, &message, ctx) {
                Ok(()) => self.messages += 1,
                Err(AppendError::Busy) => {
                    self.held = Some(held);
                    return Ok(Taken::Busy);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let Self { stream, reader, consumers, .. } = self;
        loop {
            match reader.next_event().map_err(unreadable)? {
                None => return Ok(Taken::Chunk),
                Some(Event::Stream(backup)) => {
                    if backup.name != stream.config.name {
                        return Err(failed("stream names do not match"));
                    }
                    if let Some(created_ns) = backup.created_ns {
                        stream.created_unix_ns = created_ns;
                    }
                }
                Some(Event::State(state)) => {
                    if let Some(below) = state.first_seq.checked_sub(1).filter(|&seq| seq > 0) {
                        stream.store.remove_up_to(below);
                    }
                }
                Some(Event::Consumer(consumer)) => consumers.push(consumer),
                Some(Event::Message(message)) => match store_message(stream, &message, ctx) {
                    Ok(()) => self.messages += 1,
                    Err(AppendError::Busy) => {
                        self.held = Some(Held {
                            sequence: message.sequence,
                            time_ns: message.time_ns,
                            subject: message.subject.into(),
                            headers: message.headers.into(),
                            payload: message.payload.into(),
                        });
                        return Ok(Taken::Busy);
                    }
                    Err(error) => return Err(failed(error)),
                },
                Some(Event::Deleted { first, last }) => {
                    let mut at = first;
                    while let Some(seq) = stream.store.next(ALL, at).filter(|&seq| seq <= last) {
                        stream.store.remove(seq, false);
                        at = seq.saturating_add(1);
                    }
                }
                Some(Event::End(summary)) => {
                    if let Some(below) = summary.first_sequence.checked_sub(1) {
                        let state = stream.store.state();
                        if state.messages == 0 || state.first_seq <= below {
                            stream.store.remove_up_to(below);
                        }
                    }
                    stream.store.skip_to(summary.last_sequence).map_err(failed)?;
                    stream.enforce_all_limits();
                    return Ok(Taken::All);
                }
            }
        }
    }
}

/// Stores a message as it was, with what its headers ask for.
fn store_message(
    stream: &mut Stream,
    message: &Message<'_>,
    ctx: &Context<'_>,
) -> Result<(), AppendError> {
    let found = PublishHeaders::parse(message.headers);
    let expires_ns = match found.ttl.and_then(parse_ttl) {
        Some(Ttl::Seconds(seconds)) if seconds > 0 && stream.config.allow_msg_ttl => {
            let life_ns = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND_NS);
            Some(message.time_ns.saturating_add(life_ns))
        }
        _ => None,
    };
    stream.store.append_at(
        message.sequence,
        &NewMessage {
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            ts_ns: message.time_ns,
            expires_ns,
            has_msg_id: found.msg_id.is_some(),
        },
    )?;
    stream.note_restored_schedule(message, ctx);
    Ok(())
}
