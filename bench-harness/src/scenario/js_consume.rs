//! Push consumers: the replay of a stream by an ordered consumer (no acknowledgements, flow
//! control and heartbeats), and a durable one with explicit acknowledgement.
//!
//! Every delivery must have the next number of the consumer and of the stream, and the payload
//! that was published under it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::window::Mark;
use super::{Kind, Params, Subject};
use crate::client::exchange;
use crate::client::op::Op;
use crate::client::peer::Peer;
use crate::client::poll::{Poll, Watch};
use crate::error::{HarnessError, Result};
use crate::js::ack::{self, place};
use crate::js::api::{self, Api, figure};
use crate::js::config::{self, PREFIX, STREAM};
use crate::js::frame::{Names, stamp_of};
use crate::js::publish;
use crate::report::Outcome;

/// How long nothing may come before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Unacknowledged messages of a push consumer, the server's default.
const ACK_PENDING: usize = 1000;
/// Where messages are delivered.
const DELIVER: &str = "_INBOX.bench.push";
/// The consumer's name.
const CONSUMER: &str = "push";

/// What came so far.
pub(super) struct Seen {
    /// Messages of the right order and content.
    pub count: u64,
    acks: bool,
    size: usize,
    /// Flow-control requests that were answered.
    pub flow_requests: u64,
    /// Heartbeats.
    pub heartbeats: u64,
}

impl Seen {
    fn new(acks: bool, size: usize) -> Self {
        Self { count: 0, acks, size, flow_requests: 0, heartbeats: 0 }
    }

    /// Takes one message and appends what must be answered.
    fn take(&mut self, op: &Op<'_>, out: &mut Vec<u8>) -> Result<()> {
        let Op::Msg { reply, headers, payload, .. } = op else {
            return Ok(());
        };
        if !headers.is_empty() && ack::status(headers).is_some() {
            return self.take_status(*reply, headers, out);
        }
        let Some(place) = reply.and_then(place) else {
            return Err(HarnessError::Protocol("a delivery without its place".into()));
        };
        let next = self.count + 1;
        let stamp = stamp_of(payload).is_none_or(|s| s + 1 == place.stream_seq);
        let right = place.stream_seq == next && place.consumer_seq == next && place.delivered == 1;
        if !right || !stamp || payload.len() != self.size {
            return Err(HarnessError::Count(format!("{place:?} came where {next} was due")));
        }
        self.count = next;
        if let (true, Some(reply)) = (self.acks, reply) {
            put_ack(reply, out);
        }
        Ok(())
    }

    fn take_status(
        &mut self,
        reply: Option<&[u8]>,
        headers: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match answer_status(reply, headers, out)? {
            Control::Flow => self.flow_requests += 1,
            Control::Heartbeat => self.heartbeats += 1,
        }
        Ok(())
    }
}

/// What a status message of a push consumer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// A flow-control request.
    Flow,
    /// A heartbeat.
    Heartbeat,
}

/// Answers flow control, also when a heartbeat says that the consumer is stalled.
pub(super) fn answer_status(
    reply: Option<&[u8]>,
    headers: &[u8],
    out: &mut Vec<u8>,
) -> Result<Control> {
    let mut answer = |subject: &[u8]| {
        out.extend_from_slice(b"PUB ");
        out.extend_from_slice(subject);
        out.extend_from_slice(b" 0\r\n\r\n");
    };
    match (ack::status(headers), reply) {
        (Some((100, _)), Some(reply)) => {
            answer(reply);
            Ok(Control::Flow)
        }
        (Some((100, _)), None) => {
            if let Some(subject) = ack::header(headers, "Nats-Consumer-Stalled") {
                answer(subject);
            }
            Ok(Control::Heartbeat)
        }
        (status, _) => {
            let what = "push consumer".into();
            Err(HarnessError::Api { what, text: format!("status {status:?}") })
        }
    }
}

/// Appends an explicit acknowledgement.
pub(super) fn put_ack(reply: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(reply);
    out.extend_from_slice(b" 4\r\n+ACK\r\n");
}

/// Runs the scenario.
///
/// # Errors
/// A lost, doubled, changed or reordered message; acknowledgements that are not applied.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let mut api = Api::connect(&subject.target)?;
    let acks = params.kind == Kind::JsPush;
    let count = params.count();
    prepare(&mut api, subject, params, count)?;
    let mut conn = api::connect(&subject.target)?;
    exchange::apply(&mut conn, format!("SUB {DELIVER} 1\r\n").as_bytes(), PATIENCE)?;
    let mut poll = Poll::new()?;
    poll.add(&conn, 0, Watch::Edges)?;
    let mut peer = Peer::new(conn);
    let mut seen = Seen::new(acks, params.size);

    let from = Mark::now(subject)?;
    let config = if acks {
        config::explicit(CONSUMER, ACK_PENDING, Some(DELIVER))
    } else {
        config::ordered(DELIVER, "all", &format!("{PREFIX}.>"))
    };
    config::make_consumer(&mut api, STREAM, CONSUMER, &config)?;
    drain(&mut peer, &mut poll, params, |op, out, _| {
        seen.take(op, out)?;
        Ok(seen.count == count)
    })?;
    if acks {
        await_acks(&mut api, CONSUMER, count)?;
    }
    let to = Mark::now(subject)?;
    let mut outcome = Outcome::new(params);
    from.put(&to, count, &mut outcome);
    if !acks {
        outcome.put("flow_requests", seen.flow_requests as f64, "");
    }
    outcome.put_memory(subject.memory()?);
    config::drop_stream(&mut api, STREAM)?;
    Ok(outcome)
}

/// Makes the stream and fills it.
pub(super) fn prepare(api: &mut Api, subject: &Subject, params: &Params, count: u64) -> Result<()> {
    config::make_stream(api, &config::stream(params.js()?.storage))?;
    let names = Names::One(format!("{PREFIX}.a"));
    publish::fill(&subject.target, names, params.size, count)?;
    config::check_stream(api, STREAM, count).map(|_| ())
}

/// Reads messages until `take` says that it was the last.
pub(super) fn drain(
    peer: &mut Peer,
    poll: &mut Poll,
    params: &Params,
    mut take: impl FnMut(&Op<'_>, &mut Vec<u8>, Instant) -> Result<bool>,
) -> Result<()> {
    let mut buffer = vec![0; params.read_bytes];
    let (mut done, mut ready, mut heard) = (false, Vec::new(), Instant::now());
    while !done {
        let now = Instant::now();
        peer.read_ops(&mut buffer, |op, out| {
            heard = now;
            done |= take(op, out, now)?;
            Ok(())
        })?;
        peer.flush()?;
        if done {
            break;
        }
        if now.saturating_duration_since(heard) > PATIENCE {
            return Err(HarnessError::Timeout("no message comes any more".into()));
        }
        ready.clear();
        poll.wait(Duration::from_secs(1), &mut ready)?;
    }
    Ok(())
}

/// Waits until the server has applied the acknowledgements of all messages.
pub(super) fn await_acks(api: &mut Api, consumer: &str, count: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let info = api.call(&format!("CONSUMER.INFO.{STREAM}.{consumer}"), &Value::Null)?;
        let floor = figure(&info, "/ack_floor/stream_seq")?;
        if floor == count && figure(&info, "/num_ack_pending")? == 0 {
            let (waiting, again) =
                (figure(&info, "/num_pending")?, figure(&info, "/num_redelivered")?);
            if waiting == 0 && again == 0 {
                return Ok(());
            }
            let why = format!("{waiting} messages pending, {again} redelivered at the end");
            return Err(HarnessError::Count(why));
        }
        if Instant::now() > deadline {
            return Err(HarnessError::Count(format!("acknowledged up to {floor} of {count}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::op::parse;

    fn take(seen: &mut Seen, frame: &str, out: &mut Vec<u8>) -> Result<()> {
        let (op, _) = parse(frame.as_bytes()).unwrap().unwrap();
        seen.take(&op, out)
    }

    #[test]
    fn deliveries_must_follow_each_other() {
        let mut seen = Seen::new(true, 2);
        let mut out = Vec::new();
        let frame =
            |s: u64, c: u64, d: u64| format!("MSG a 1 $JS.ACK.S.c.{d}.{s}.{c}.9.0 2\r\nab\r\n");
        take(&mut seen, &frame(1, 1, 1), &mut out).unwrap();
        assert_eq!(out, b"PUB $JS.ACK.S.c.1.1.1.9.0 4\r\n+ACK\r\n");
        // Lost, doubled, redelivered, and of another size.
        assert!(take(&mut seen, &frame(3, 3, 1), &mut out).is_err());
        assert!(take(&mut seen, &frame(1, 1, 1), &mut out).is_err());
        assert!(take(&mut seen, &frame(2, 2, 2), &mut out).is_err());
        assert!(take(&mut seen, "MSG a 1 $JS.ACK.S.c.1.2.2.9.0 1\r\na\r\n", &mut out).is_err());
        assert!(take(&mut seen, "MSG a 1 2\r\nab\r\n", &mut out).is_err());
        take(&mut seen, &frame(2, 2, 1), &mut out).unwrap();
        assert_eq!(seen.count, 2);
    }

    #[test]
    fn flow_control_is_answered_and_bad_statuses_end_the_run() {
        let mut out = Vec::new();
        let flow = b"NATS/1.0 100 FlowControl Request\r\n\r\n";
        assert_eq!(answer_status(Some(b"$JS.FC.S.c.x"), flow, &mut out).unwrap(), Control::Flow);
        assert_eq!(out, b"PUB $JS.FC.S.c.x 0\r\n\r\n");
        out.clear();
        let beat = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: $JS.FC.y\r\n\r\n";
        assert_eq!(answer_status(None, beat, &mut out).unwrap(), Control::Heartbeat);
        assert_eq!(out, b"PUB $JS.FC.y 0\r\n\r\n");
        let gone = b"NATS/1.0 409 Consumer Deleted\r\n\r\n";
        assert!(answer_status(None, gone, &mut out).is_err());
    }
}
