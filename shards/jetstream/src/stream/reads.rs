//! Single messages, batches and last messages of subjects, for the API and for direct reads.
//!
//! A read is a job that goes on where it stopped: when a payload must come from the disk first,
//! or when it has sent as much as one turn may send.

use store::disk::DiskQueue;
use store::log::Cache;
use store::{ALL, FilterId, Message, Read, Store};
use wire::api::decode::decode_document;
use wire::api::errors::{self, ApiError};
use wire::api::info::StoredMessage;
use wire::api::requests::MsgGetRequest;
use wire::api::responses;
use wire::api::timestamp::Timestamp;
use wire::api::types::{ResponseType, encode_error, encode_response};
use wire::api::value::Bytes;

use super::answer::{push_facts, push_number, push_open_block};
use super::{Cx, Stream, level};
use crate::effect::{Effects, Outgoing};

/// Bytes that a batch sends at most if the request does not say.
const BATCH_BYTES: usize = 64 << 20;
/// Results of a request for last messages at most.
const LAST_MAX: usize = 1024;
/// Messages that one job sends in one turn.
const TURN_MESSAGES: usize = 512;
/// Bytes that one job sends in one turn.
const TURN_BYTES: usize = 4 << 20;
/// Reads that wait at most.
const JOBS_MAX: usize = 10_000;

/// A read that is under way.
#[derive(Debug)]
pub(super) struct ReadJob {
    reply: Box<[u8]>,
    /// Only what was stored, without the stream's headers or any.
    is_bare: bool,
    /// Bytes that may still be sent.
    bytes_left: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// For the API: the message as JSON.
    Api { seq: u64 },
    /// One message as it is.
    Single { seq: u64 },
    /// Messages one after the other.
    Batch { filter: FilterId, next: u64, left: u64, pending: u64, last: u64, sent: bool },
    /// These messages.
    Last { seqs: Vec<u64>, at: usize, left: u64, last: u64, up_to: u64 },
}

/// How far a job came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Done,
    Reading,
    More,
}

/// What came of a request for a message over the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// It is answered, or will be.
    Answered,
    /// The error for the client.
    Refused(ApiError),
}

fn status(reply: &[u8], account: u32, line: &str, fx: &mut Effects) {
    let block = format!("NATS/1.0 {line}\r\n\r\n");
    fx.publish(account, reply, b"", block.as_bytes(), b"");
}

/// A stored message for a reader. What is not durable may be gone after a crash, and its sequence
/// another message's: nobody sees it before, unless the stream does not wait for the disk.
fn get_durable<'a>(
    store: &'a mut Store,
    is_async: bool,
    seq: u64,
    cache: &'a mut Cache,
    disk: &mut DiskQueue,
) -> Read<'a> {
    if is_async || seq <= store.durable_seq() {
        return store.get(seq, cache, disk);
    }
    // What a store that failed has not kept may be there all the same at the next start.
    if store.fenced().is_some() { Read::Failed } else { Read::Pending }
}

/// Whether a direct request asks for what does not go together.
fn has_conflict(request: &MsgGetRequest) -> bool {
    let has_seq = request.seq > 0;
    let has_time = request.start_time.is_some();
    let has_last = !request.last_by_subj.is_empty();
    let has_next = !request.next_by_subj.is_empty();
    let has_multi = !request.multi_last.is_empty();
    [
        (has_seq, has_last),
        (has_seq, has_time),
        (has_time, has_last),
        (has_last, has_next),
        (has_last, request.batch > 0),
        (has_last, has_multi),
        (has_next, has_multi),
        (request.up_to_seq > 0, request.up_to_time.is_some()),
    ]
    .contains(&(true, true))
}

fn selects_nothing(request: &MsgGetRequest) -> bool {
    request.seq == 0
        && request.last_by_subj.is_empty()
        && request.next_by_subj.is_empty()
        && request.multi_last.is_empty()
        && request.start_time.is_none()
}

/// Whether a `STREAM.MSG.GET` asks for one message in one way.
///
/// # Errors
/// `bad request`.
pub fn check_get(request: &MsgGetRequest) -> Result<(), ApiError> {
    let has_last = !request.last_by_subj.is_empty();
    let has_next = !request.next_by_subj.is_empty();
    let is_bad = request.batch > 0
        || request.max_bytes > 0
        || (request.seq > 0 && has_last)
        || (request.seq == 0 && !has_last && !has_next && request.start_time.is_none())
        || (request.seq > 0 && request.start_time.is_some())
        || (request.start_time.is_some() && has_last)
        || (has_last && has_next);
    if is_bad {
        return Err(errors::BAD_REQUEST);
    }
    Ok(())
}

impl Stream {
    /// `STREAM.MSG.GET`, whose body has been decoded and is not empty.
    pub fn handle_get(
        &mut self,
        request: &MsgGetRequest,
        reply: &[u8],
        cx: &mut Cx<'_, '_>,
    ) -> Got {
        if let Err(error) = check_get(request) {
            return Got::Refused(error);
        }
        let Some(seq) = self.find(request) else {
            return Got::Refused(errors::NO_MESSAGE_FOUND);
        };
        self.begin_read(reply, request, What::Api { seq }, cx);
        Got::Answered
    }

    /// The message that a request for one message means, if it is there.
    fn find(&self, request: &MsgGetRequest) -> Option<u64> {
        let seq = match request.start_time {
            Some(time) => self.store.seq_at_time(time.0),
            None => request.seq,
        };
        if !request.next_by_subj.is_empty() {
            return self.store.next_matching(request.next_by_subj.as_bytes(), seq);
        }
        if seq > 0 {
            let is_known = self.store.contains(seq) || self.store.is_lost(seq);
            return is_known.then_some(seq);
        }
        match self.last_seq_for(request.last_by_subj.as_bytes()) {
            0 => None,
            seq => Some(seq),
        }
    }

    /// `DIRECT.GET.<stream>`, or `DIRECT.GET.<stream>.<subject>` with the subject in `key`.
    pub fn handle_direct_get(
        &mut self,
        key: Option<&[u8]>,
        reply: &[u8],
        headers: &[u8],
        body: &[u8],
        cx: &mut Cx<'_, '_>,
    ) {
        if reply.is_empty() {
            return;
        }
        match self.plan_direct_get(key, headers, body) {
            Ok(request) => self.start_direct_get(&request, reply, cx),
            Err(line) => status(reply, self.id.account, line, cx.fx),
        }
    }

    fn plan_direct_get(
        &self,
        key: Option<&[u8]>,
        headers: &[u8],
        body: &[u8],
    ) -> Result<MsgGetRequest, &'static str> {
        if level::is_too_high(headers) {
            return Err("412 Required Api Level");
        }
        let Some(key) = key else {
            if body.is_empty() {
                return Err("408 Empty Request");
            }
            let request: MsgGetRequest =
                decode_document(body).map_err(|_| "408 Malformed Request")?;
            if selects_nothing(&request) {
                return Err("408 Empty Request");
            }
            if has_conflict(&request) {
                return Err("408 Bad Request");
            }
            return Ok(request);
        };
        let mut request = MsgGetRequest::default();
        if !body.is_empty() {
            request = decode_document(body).map_err(|_| "408 Malformed Request")?;
        }
        let says_more = !selects_nothing(&request)
            || request.batch != 0
            || request.up_to_seq != 0
            || request.up_to_time.is_some();
        let key = std::str::from_utf8(key).map_err(|_| "404 Message Not Found")?;
        if key.is_empty() || says_more {
            return Err("408 Bad Request");
        }
        key.clone_into(&mut request.last_by_subj);
        Ok(request)
    }

    fn start_direct_get(&mut self, request: &MsgGetRequest, reply: &[u8], cx: &mut Cx<'_, '_>) {
        let account = self.id.account;
        let what = if !request.multi_last.is_empty() {
            self.plan_last(request)
        } else if request.batch != 0 {
            self.plan_batch(request)
        } else {
            self.find(request).map(|seq| What::Single { seq }).ok_or("404 Message Not Found")
        };
        match what {
            Ok(what) => self.begin_read(reply, request, what, cx),
            Err(line) => status(reply, account, line, cx.fx),
        }
    }

    fn plan_batch(&mut self, request: &MsgGetRequest) -> Result<What, &'static str> {
        let next = match request.start_time {
            Some(time) => self.store.seq_at_time(time.0),
            None => request.seq,
        };
        let pattern = request.next_by_subj.as_bytes();
        let filter = if pattern.is_empty() { ALL } else { self.store.add_filter(&[pattern]) };
        let pending = self.store.pending(filter, next);
        let left = u64::try_from(request.batch).unwrap_or(0);
        Ok(What::Batch { filter, next, left, pending, last: 0, sent: false })
    }

    fn plan_last(&self, request: &MsgGetRequest) -> Result<What, &'static str> {
        let state = self.store.state();
        let mut up_to = request.up_to_seq;
        if let Some(time) = request.up_to_time {
            let after = self.store.seq_at_time(time.0);
            if after <= state.first_seq {
                return Err("404 No Results");
            }
            up_to = after - 1;
        }
        if up_to == 0 {
            up_to = state.last_seq;
        }
        let patterns: Vec<&[u8]> = request.multi_last.iter().map(String::as_bytes).collect();
        let mut seqs = self.store.last_per_subject(&patterns, up_to);
        seqs.retain(|&seq| seq >= request.seq);
        if seqs.len() > LAST_MAX {
            return Err("413 Too Many Results");
        }
        if seqs.is_empty() {
            return Err("404 No Results");
        }
        let left = u64::try_from(request.batch).ok().filter(|&n| n > 0).unwrap_or(u64::MAX);
        Ok(What::Last { seqs, at: 0, left, last: 0, up_to })
    }

    fn begin_read(
        &mut self,
        reply: &[u8],
        request: &MsgGetRequest,
        what: What,
        cx: &mut Cx<'_, '_>,
    ) {
        if self.reads.len() >= JOBS_MAX {
            status(reply, self.id.account, "500 too many requests", cx.fx);
            self.end_filter(&what);
            return;
        }
        let bytes_left =
            usize::try_from(request.max_bytes).ok().filter(|&n| n > 0).unwrap_or(BATCH_BYTES);
        // Last messages of subjects come with headers even so.
        let is_bare = request.no_hdr && !matches!(what, What::Last { .. });
        let mut job = ReadJob { reply: reply.into(), is_bare, bytes_left, what };
        match self.run_read(&mut job, cx) {
            Step::Done => self.end_filter(&job.what),
            Step::Reading | Step::More => self.reads.push_back(job),
        }
    }

    fn end_filter(&mut self, what: &What) {
        if let What::Batch { filter, .. } = what
            && *filter != ALL
        {
            self.store.remove_filter(*filter);
        }
    }

    /// Whether reads would go on if they were given a turn.
    #[must_use]
    pub fn has_reads(&self) -> bool {
        !self.reads.is_empty() || self.has_snapshots()
    }

    /// Goes on with reads: to be called when reads of the store are ready, and once a turn as
    /// long as [`Self::has_reads`]. Answers whether one of them could go on at once.
    pub fn handle_reads(&mut self, cx: &mut Cx<'_, '_>) -> bool {
        let mut can_go_on = false;
        for _ in 0..self.reads.len() {
            let Some(mut job) = self.reads.pop_front() else { break };
            match self.run_read(&mut job, cx) {
                Step::Done => self.end_filter(&job.what),
                step => {
                    can_go_on |= step == Step::More;
                    self.reads.push_back(job);
                }
            }
        }
        can_go_on | self.run_snapshots(cx)
    }

    fn run_read(&mut self, job: &mut ReadJob, cx: &mut Cx<'_, '_>) -> Step {
        match job.what {
            What::Api { seq } => self.read_for_api(seq, job, cx),
            What::Single { seq } => match self.send_stored(seq, job, None, cx) {
                Sent::Bytes(_) => Step::Done,
                Sent::Reading => Step::Reading,
                Sent::Missing => {
                    status(&job.reply, self.id.account, "404 Message Not Found", cx.fx);
                    Step::Done
                }
                Sent::Unreadable => {
                    status(&job.reply, self.id.account, UNREADABLE, cx.fx);
                    Step::Done
                }
            },
            What::Batch { .. } => self.run_batch(job, cx),
            What::Last { .. } => self.run_last(job, cx),
        }
    }

    fn read_for_api(&mut self, seq: u64, job: &ReadJob, cx: &mut Cx<'_, '_>) -> Step {
        let body = match get_durable(&mut self.store, self.is_async, seq, cx.cache, &mut cx.fx.disk)
        {
            Read::Pending => return Step::Reading,
            Read::Message(message) => {
                let headers = if job.is_bare { &[] } else { message.headers };
                let stored = StoredMessage {
                    subject: String::from_utf8_lossy(message.subject).into_owned(),
                    seq,
                    hdrs: Bytes(headers.to_vec()),
                    data: Bytes(message.payload.to_vec()),
                    time: Timestamp(message.ts_ns),
                };
                let body = responses::Message { message: Some(stored) };
                encode_response(ResponseType::MsgGet, &body)
            }
            Read::Missing => encode_error(ResponseType::MsgGet, &errors::NO_MESSAGE_FOUND),
            // Not "not found": a reader must not take it for a message that never was.
            unreadable => {
                let is_damaged = unreadable == Read::Damaged;
                let why = if is_damaged { "is damaged" } else { "cannot be read" };
                let error = errors::STREAM_STORE_FAILED.with(format!("message {seq} {why}"));
                encode_error(ResponseType::MsgGet, &error)
            }
        };
        cx.fx.publish(self.id.account, &job.reply, b"", b"", &body);
        Step::Done
    }

    fn run_batch(&mut self, job: &mut ReadJob, cx: &mut Cx<'_, '_>) -> Step {
        let mut budget = TURN_BYTES;
        for _ in 0..TURN_MESSAGES {
            let What::Batch { filter, next, left, pending, last, sent } = job.what else { break };
            let found =
                if left == 0 || job.bytes_left == 0 { None } else { self.store.next(filter, next) };
            let Some(seq) = found else {
                let account = self.id.account;
                if sent || left == 0 {
                    send_end(&job.reply, account, pending, last, None, cx.fx);
                } else {
                    status(&job.reply, account, "404 Message Not Found", cx.fx);
                }
                return Step::Done;
            };
            // Without headers nobody sees the count, and nats-server does not keep it then.
            let after = if job.is_bare { pending } else { pending.saturating_sub(1) };
            let bytes = match self.send_stored(seq, job, Some((after, last)), cx) {
                Sent::Bytes(bytes) => bytes,
                Sent::Reading => return Step::Reading,
                Sent::Missing => 0,
                Sent::Unreadable => {
                    status(&job.reply, self.id.account, UNREADABLE, cx.fx);
                    return Step::Done;
                }
            };
            job.bytes_left = job.bytes_left.saturating_sub(bytes);
            job.what = What::Batch {
                filter,
                next: seq.saturating_add(1),
                left: left.saturating_sub(1),
                pending: after,
                last: seq,
                sent: true,
            };
            budget = budget.saturating_sub(bytes);
            if budget == 0 {
                break;
            }
        }
        Step::More
    }

    fn run_last(&mut self, job: &mut ReadJob, cx: &mut Cx<'_, '_>) -> Step {
        let mut budget = TURN_BYTES;
        loop {
            let What::Last { seqs, at, left, last, up_to } = &job.what else { return Step::Done };
            let (at, left, last, up_to) = (*at, *left, *last, *up_to);
            let pending = (seqs.len() - at.min(seqs.len())) as u64;
            let next = seqs.get(at).copied().filter(|_| left > 0 && job.bytes_left > 0);
            let Some(seq) = next else {
                send_end(&job.reply, self.id.account, pending, last, Some(up_to), cx.fx);
                return Step::Done;
            };
            let bytes = match self.send_stored(seq, job, Some((pending - 1, last)), cx) {
                Sent::Bytes(bytes) => bytes,
                Sent::Reading => return Step::Reading,
                Sent::Missing => {
                    status(&job.reply, self.id.account, "404 Message Not Found", cx.fx);
                    return Step::Done;
                }
                Sent::Unreadable => {
                    status(&job.reply, self.id.account, UNREADABLE, cx.fx);
                    return Step::Done;
                }
            };
            job.bytes_left = job.bytes_left.saturating_sub(bytes);
            if let What::Last { at, left, last, .. } = &mut job.what {
                (*at, *left, *last) = (*at + 1, left.saturating_sub(1), seq);
            }
            budget = budget.saturating_sub(bytes);
            if budget == 0 {
                return Step::More;
            }
        }
    }

    /// Sends a stored message to the reply of a read; `batch` is how many follow, and the one
    /// before.
    fn send_stored(
        &mut self,
        seq: u64,
        job: &ReadJob,
        batch: Option<(u64, u64)>,
        cx: &mut Cx<'_, '_>,
    ) -> Sent {
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        let (store, disk) = (&mut self.store, &mut cx.fx.disk);
        let sent = match get_durable(store, self.is_async, seq, cx.cache, disk) {
            Read::Pending => Sent::Reading,
            Read::Missing => Sent::Missing,
            Read::Damaged | Read::Failed => Sent::Unreadable,
            Read::Message(message) => {
                if !job.is_bare {
                    push_reply_block(&mut block, &self.config.name, &message, batch);
                }
                cx.fx.deliver(&Outgoing {
                    account: self.id.account,
                    to: &job.reply,
                    subject: &job.reply,
                    reply: b"",
                    headers: &block,
                    payload: message.payload,
                });
                Sent::Bytes(message.subject.len() + message.headers.len() + message.payload.len())
            }
        };
        self.scratch = block;
        sent
    }
}

/// Says that a message is there and damaged, or that the disk does not give it.
const UNREADABLE: &str = "500 Message Unreadable";

/// What came of sending a message.
enum Sent {
    /// It went, with so many bytes of its own.
    Bytes(usize),
    Reading,
    Missing,
    /// It is damaged, or the disk does not give it.
    Unreadable,
}

fn push_reply_block(
    block: &mut Vec<u8>,
    stream: &str,
    message: &Message<'_>,
    batch: Option<(u64, u64)>,
) {
    push_open_block(block, message.headers);
    push_facts(block, stream, message.subject, message.seq, message.ts_ns);
    if let Some((pending, last)) = batch {
        push_number(block, "Nats-Num-Pending", pending);
        push_number(block, "Nats-Last-Sequence", last);
    }
    block.extend_from_slice(b"\r\n");
}

fn send_end(
    reply: &[u8],
    account: u32,
    pending: u64,
    last: u64,
    up_to: Option<u64>,
    fx: &mut Effects,
) {
    let mut block = b"NATS/1.0 204 EOB\r\n".to_vec();
    push_number(&mut block, "Nats-Num-Pending", pending);
    push_number(&mut block, "Nats-Last-Sequence", last);
    if let Some(up_to) = up_to {
        push_number(&mut block, "Nats-UpTo-Sequence", up_to);
    }
    block.extend_from_slice(b"\r\n");
    fx.publish(account, reply, b"", &block, b"");
}
