//! Backups: a stream sends itself as an archive, in chunks that the receiver acknowledges.
//!
//! ```text
//!  messages ─► archive ─► chunks ─► deliver subject      (reply $JS.SNAPSHOT.ACK.…)
//!                           ▲ so many bytes on the way        │
//!                           └──────────── acknowledgement ◄───┘
//! ```
//!
//! A message that cannot be read ends the backup with an error, and the archive has no end, so
//! that no restore takes it for whole. What damage had taken before the server started is no part
//! of the stream any more: the answer names it (`state.lost`), and a request with `jsck` is
//! refused.

use store::{ALL, Read};
use thiserror::Error;
use wire::api::advisory::{ClientInfo, Event, SnapshotComplete, SnapshotCreate, encode_event};
use wire::api::errors::{self, ApiError};
use wire::api::requests::SnapshotRequest;
use wire::api::responses::SnapshotStarted;
use wire::api::timestamp::Timestamp;
use wire::backup::{ArchiveWriter, ConsumerBackup, Message, StreamState};
use wire::subject;

use super::{Cx, Stream};
use crate::effect::{Endpoint, Interest, Level, Outgoing};

/// Bytes of a chunk, if the request does not say, at least, and at most.
const CHUNK_BYTES: i64 = 128 << 10;
const CHUNK_BYTES_MIN: i64 = 1 << 10;
const CHUNK_BYTES_MAX: i64 = 1 << 20;
/// Bytes on the way, likewise.
const WINDOW_BYTES: i64 = 8 << 20;
const WINDOW_BYTES_MAX: i64 = 32 << 20;
/// How long an acknowledgement is waited for, ns.
const ACK_WAIT_NS: u64 = 5_000_000_000;
/// How long a receiver is waited for, ns.
const INTEREST_WAIT_NS: u64 = 2_000_000_000;
/// How often it is looked whether there is a receiver, ns.
const INTEREST_STEP_NS: u64 = 100_000_000;
/// Messages that one turn reads.
const TURN_MESSAGES: usize = 1024;
/// Backups of one stream at a time.
const SNAPSHOTS_MAX: usize = 8;
/// Numbers of backups, for [`Endpoint::Reply`], have this bit; those of feeds do not.
pub(super) const NUMBER_BIT: u32 = 1 << 31;

/// A backup under way.
pub(super) struct Snapshot {
    number: u32,
    deliver: Box<[u8]>,
    /// `$JS.SNAPSHOT.ACK.<stream>.<id>`
    ack_prefix: String,
    chunk_bytes: usize,
    chunks_max: usize,
    /// Chunks on the way.
    chunks: usize,
    index: u64,
    /// `None` once the archive is whole.
    writer: Option<ArchiveWriter>,
    out: Vec<u8>,
    next: u64,
    last: u64,
    has_interest: bool,
    /// When it is given up if nothing is heard, monotonic ns.
    deadline_ns: u64,
    started: Timestamp,
    client: Option<Box<ClientInfo>>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Why a backup ended before all was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Failure {
    #[error("no interest")]
    NoInterest,
    #[error("no flow response")]
    NoFlowResponse,
    /// It is damaged, or the disk does not give it.
    #[error("message {0} is unreadable")]
    Unreadable(u64),
    /// Its subject or its size does not fit.
    #[error("message {0} does not fit into an archive")]
    Unfit(u64),
}

impl Failure {
    /// Code and text of the last message, in nats-server's words where it has any.
    fn status(self) -> String {
        match self {
            Self::NoInterest => "408 No Interest".to_owned(),
            Self::NoFlowResponse => "408 No Flow Response".to_owned(),
            Self::Unreadable(_) | Self::Unfit(_) => format!("500 {self}"),
        }
    }
}

/// How far a backup came in a turn.
enum Step {
    /// It waits for an acknowledgement, the disk or a receiver.
    Waits,
    More,
    /// It is over; why, if not because all was sent.
    Over(Option<Failure>),
}

impl Stream {
    /// Begins a backup; the answer for the client. The chunks follow. `consumers` are those that
    /// go into it, `lost` the ranges of sequences that damage took before the start.
    ///
    /// # Errors
    ///
    /// The error for the client.
    pub fn begin_snapshot(
        &mut self,
        request: &SnapshotRequest,
        consumers: &[ConsumerBackup],
        lost: &[(u64, u64)],
        client: Option<Box<ClientInfo>>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<SnapshotStarted, ApiError> {
        let deliver = request.deliver_subject.as_bytes();
        if !subject::is_valid_subscribe(deliver) || !subject::is_literal(deliver) {
            return Err(errors::SNAPSHOT_DELIVER_SUBJECT_INVALID);
        }
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(errors::STREAM_SNAPSHOT.with("too many snapshots"));
        }
        let kept_from = self.store.state().first_seq;
        let missed = lost.iter().find(|(_, last)| *last >= kept_from);
        if let (true, Some((first, last))) = (request.jsck, missed) {
            let text = format!("messages are lost, first {first} to {last}");
            return Err(errors::STREAM_SNAPSHOT.with(text));
        }
        let or = |value: i64, default: i64| if value == 0 { default } else { value };
        let chunk = or(request.chunk_size, CHUNK_BYTES).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let window = or(request.window_size, WINDOW_BYTES)
            .clamp(CHUNK_BYTES_MIN, WINDOW_BYTES_MAX)
            .max(chunk);
        let mut out = Vec::new();
        let state = self.archive_state(consumers.len());
        let mut writer = ArchiveWriter::new(&state, cx.ctx.unix_ns, &mut out);
        for consumer in consumers {
            writer
                .push_consumer(consumer, cx.ctx.unix_ns, &mut out)
                .map_err(|error| errors::STREAM_SNAPSHOT.with(error))?;
        }
        self.snapshot_number = self.snapshot_number.wrapping_add(1) & !NUMBER_BIT;
        let number = self.snapshot_number | NUMBER_BIT;
        let id = cx.ids.next_text();
        let ack_prefix = format!("$JS.SNAPSHOT.ACK.{}.{id}", self.config.name);
        cx.fx.interests.push(Interest::Subscribe {
            account: self.id.account,
            subject: format!("{ack_prefix}.>").into_bytes().into(),
            endpoint: Endpoint::Reply(self.id.slot, number),
        });
        let started = Timestamp(cx.ctx.unix_ns);
        let shown = self.state_with_lost(consumers.len(), lost);
        let event = SnapshotCreate {
            stream: self.config.name.clone(),
            state: shown.clone(),
            client: client.clone(),
            domain: self.id.domain.to_string(),
        };
        self.tell(&event, cx);
        self.snapshots.push(Snapshot {
            number,
            deliver: deliver.into(),
            ack_prefix,
            chunk_bytes: usize::try_from(chunk).unwrap_or(1024),
            chunks_max: usize::try_from(window / chunk).unwrap_or(1).max(1),
            chunks: 0,
            index: 1,
            writer: Some(writer),
            out,
            next: state.first_seq,
            last: state.last_seq,
            has_interest: false,
            deadline_ns: cx.ctx.mono_ns.saturating_add(INTEREST_WAIT_NS),
            started,
            client,
        });
        Ok(SnapshotStarted {
            config: Some(Box::new(self.config().clone())),
            state: Some(Box::new(shown)),
        })
    }

    fn archive_state(&self, consumers: usize) -> StreamState {
        let state = self.store.state();
        StreamState {
            messages: state.messages,
            bytes: state.bytes,
            first_seq: state.first_seq,
            first_time_ns: state.first_ts_ns,
            last_seq: state.last_seq,
            last_time_ns: state.last_ts_ns,
            num_subjects: state.subjects,
            num_deleted: state.deleted,
            consumer_count: consumers as u64,
        }
    }

    fn tell<T: Event>(&self, event: &T, cx: &mut Cx<'_, '_>) {
        let body = encode_event(&cx.ids.next_text(), Timestamp(cx.ctx.unix_ns), event);
        cx.fx.publish(self.id.account, event.subject().as_bytes(), b"", b"", &body);
    }

    /// An acknowledgement of a chunk.
    pub(super) fn handle_snapshot_ack(&mut self, number: u32, cx: &Cx<'_, '_>) {
        let found = self.snapshots.iter_mut().find(|snapshot| snapshot.number == number);
        if let Some(snapshot) = found {
            snapshot.chunks = snapshot.chunks.saturating_sub(1);
            snapshot.deadline_ns = cx.ctx.mono_ns.saturating_add(ACK_WAIT_NS);
        }
    }

    /// Whether a backup could go on at once.
    pub(super) fn has_snapshots(&self) -> bool {
        self.snapshots.iter().any(|one| one.has_interest && one.chunks < one.chunks_max)
    }

    /// When a backup has something to do for want of anything else, monotonic ns.
    pub(super) fn next_snapshot_ns(&self, now_ns: u64) -> Option<u64> {
        let at_ns = self
            .snapshots
            .iter()
            .map(|one| if one.has_interest { one.deadline_ns } else { now_ns + INTEREST_STEP_NS });
        at_ns.min()
    }

    /// Lets the backups go on. Answers whether one could go on at once.
    pub(super) fn run_snapshots(&mut self, cx: &mut Cx<'_, '_>) -> bool {
        let mut can_go_on = false;
        for mut snapshot in std::mem::take(&mut self.snapshots) {
            match self.run_snapshot(&mut snapshot, cx) {
                Step::Waits => self.snapshots.push(snapshot),
                Step::More => {
                    can_go_on = true;
                    self.snapshots.push(snapshot);
                }
                Step::Over(error) => self.end_snapshot(&snapshot, error, cx),
            }
        }
        can_go_on
    }

    fn run_snapshot(&mut self, snapshot: &mut Snapshot, cx: &mut Cx<'_, '_>) -> Step {
        let now_ns = cx.ctx.mono_ns;
        if !cx.ctx.interest.has_interest(self.id.account, &snapshot.deliver) {
            // A receiver may subscribe a little later, but must not go away.
            return if snapshot.has_interest || now_ns >= snapshot.deadline_ns {
                Step::Over(Some(Failure::NoInterest))
            } else {
                Step::Waits
            };
        }
        if !std::mem::replace(&mut snapshot.has_interest, true) {
            snapshot.deadline_ns = now_ns.saturating_add(ACK_WAIT_NS);
        }
        let is_reading = match self.fill_snapshot(snapshot, cx) {
            Ok(is_filled) => !is_filled,
            Err(failure) => return Step::Over(Some(failure)),
        };
        while snapshot.out.len() >= snapshot.chunk_bytes && snapshot.chunks < snapshot.chunks_max {
            let len = snapshot.chunk_bytes;
            let reply = format!("{}.{len}.{}", snapshot.ack_prefix, snapshot.index);
            self.send_chunk(snapshot, len, reply.as_bytes(), cx);
            snapshot.chunks += 1;
            snapshot.index += 1;
            snapshot.deadline_ns = now_ns.saturating_add(ACK_WAIT_NS);
        }
        if snapshot.writer.is_none() && snapshot.out.len() < snapshot.chunk_bytes {
            let len = snapshot.out.len();
            if len > 0 {
                self.send_chunk(snapshot, len, b"", cx);
            }
            return Step::Over(None);
        }
        if snapshot.chunks >= snapshot.chunks_max {
            return if now_ns >= snapshot.deadline_ns {
                Step::Over(Some(Failure::NoFlowResponse))
            } else {
                Step::Waits
            };
        }
        if is_reading { Step::Waits } else { Step::More }
    }

    fn send_chunk(&self, snapshot: &mut Snapshot, len: usize, reply: &[u8], cx: &mut Cx<'_, '_>) {
        cx.fx.deliver(&Outgoing {
            account: self.id.account,
            to: &snapshot.deliver,
            subject: &snapshot.deliver,
            reply,
            headers: b"",
            payload: snapshot.out.get(..len).unwrap_or_default(),
        });
        snapshot.out.drain(..len);
    }

    /// Reads on until there is a chunk, or all is read. False if messages must come from the disk
    /// first.
    fn fill_snapshot(
        &mut self,
        snapshot: &mut Snapshot,
        cx: &mut Cx<'_, '_>,
    ) -> Result<bool, Failure> {
        let Some(writer) = snapshot.writer.as_mut() else { return Ok(true) };
        for _ in 0..TURN_MESSAGES {
            if snapshot.out.len() >= snapshot.chunk_bytes * snapshot.chunks_max {
                return Ok(true);
            }
            let found = self.store.next(ALL, snapshot.next).filter(|&seq| seq <= snapshot.last);
            let Some(seq) = found else {
                if let Some(writer) = snapshot.writer.take() {
                    // It can only complain about consumers, which are all in it.
                    let _ = writer.finish(&mut snapshot.out);
                }
                return Ok(true);
            };
            match self.store.get(seq, cx.cache, &mut cx.fx.disk) {
                Read::Pending => return Ok(false),
                Read::Message(message) => {
                    let message = Message {
                        sequence: seq,
                        time_ns: message.ts_ns,
                        subject: message.subject,
                        headers: message.headers,
                        payload: message.payload,
                    };
                    let pushed = writer.push_message(&message, &mut snapshot.out);
                    pushed.map_err(|_| Failure::Unfit(seq))?;
                }
                Read::Missing => {}
                Read::Damaged | Read::Failed => return Err(Failure::Unreadable(seq)),
            }
            snapshot.next = seq.saturating_add(1);
        }
        Ok(true)
    }

    fn end_snapshot(&self, snapshot: &Snapshot, failure: Option<Failure>, cx: &mut Cx<'_, '_>) {
        // The end says how it went, where there was something to acknowledge before.
        let block = match failure {
            Some(failure) => format!("NATS/1.0 {}\r\n\r\n", failure.status()),
            None if snapshot.index > 1 => "NATS/1.0 204\r\n\r\n".to_owned(),
            None => String::new(),
        };
        let account = self.id.account;
        cx.fx.publish(account, &snapshot.deliver, b"", block.as_bytes(), b"");
        cx.fx.interests.push(Interest::Unsubscribe {
            account,
            subject: format!("{}.>", snapshot.ack_prefix).into_bytes().into(),
            endpoint: Endpoint::Reply(self.id.slot, snapshot.number),
        });
        let error = failure.map_or_else(String::new, |failure| failure.to_string());
        if matches!(failure, Some(Failure::Unreadable(_) | Failure::Unfit(_))) {
            let (account, stream) = (&self.id.account_name, &self.config.name);
            let text = format!("backup of stream '{account} > {stream}' failed: {error}");
            cx.fx.log(Level::Error, text);
        }
        let event = SnapshotComplete {
            stream: self.config.name.clone(),
            start: snapshot.started,
            end: Timestamp(cx.ctx.unix_ns),
            client: snapshot.client.clone(),
            domain: self.id.domain.to_string(),
            error,
        };
        self.tell(&event, cx);
    }

    /// A message to one of the stream's own inboxes ([`Endpoint::Reply`]).
    pub fn handle_reply(&mut self, number: u32, block: &[u8], body: &[u8], cx: &mut Cx<'_, '_>) {
        if number & NUMBER_BIT == 0 {
            self.handle_feed_reply(number, block, body, cx);
        } else {
            self.handle_snapshot_ack(number, cx);
            self.run_snapshots(cx);
        }
    }
}
