//! A watcher of a key-value bucket: first the last value of every key, then puts, one at a time,
//! each timed from when it was sent to when the watcher has it.

use std::time::{Duration, Instant};

use super::js_consume::{answer_status, drain};
use super::js_reads::Keys;
use super::window::Mark;
use super::{Params, Subject, Wait};
use crate::client::exchange;
use crate::client::op::Op;
use crate::client::peer::Peer;
use crate::client::poll::{Poll, Watch};
use crate::error::{HarnessError, Result};
use crate::js::ack::{self, place};
use crate::js::api::{self, Api};
use crate::js::config::{self, BUCKET};
use crate::js::frame::{self, Names};
use crate::js::publish;
use crate::measure::histogram::Latencies;
use crate::report::Outcome;

/// How long nothing may come before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the watcher hears of changes.
const DELIVER: &str = "_INBOX.bench.watch";
/// Where acknowledgements of puts come.
const ACKS: &str = "_INBOX.bench.put";

/// Runs the scenario.
///
/// # Errors
/// A key or a change that does not come, or comes with another number or content.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let mut api = Api::connect(&subject.target)?;
    let (js, stream) = (params.js()?, format!("KV_{BUCKET}"));
    let prefix = format!("$KV.{BUCKET}");
    let keys = js.subjects.max(1);
    config::make_stream(&mut api, &config::bucket(js.storage))?;
    let names = Names::Numbered { prefix: prefix.clone(), count: keys };
    publish::fill(&subject.target, names.clone(), params.size, keys)?;
    config::check_stream(&mut api, &stream, keys)?;

    let mut conn = api::connect(&subject.target)?;
    exchange::apply(&mut conn, format!("SUB {DELIVER} 1\r\n").as_bytes(), PATIENCE)?;
    let mut poll = Poll::new()?;
    poll.add(&conn, 0, Watch::Edges)?;
    let mut watcher = Peer::new(conn);
    let started = Instant::now();
    let config = config::ordered(DELIVER, "last_per_subject", &format!("{prefix}.>"));
    config::make_consumer(&mut api, &stream, "watch", &config)?;
    let mut seen = 0;
    drain(&mut watcher, &mut poll, params, |op, out, _| {
        seen += u64::from(take(op, out, seen + 1)?.is_some());
        Ok(seen == keys)
    })?;
    let initial_s = started.elapsed().as_secs_f64();

    let mut puts = Puts::connect(subject, params, (watcher, poll), names, seen)?;
    puts.run_for(params.warmup)?;
    puts.latencies = Latencies::new()?;
    let (from, before) = (Mark::now(subject)?, puts.last_seq);
    puts.run_for(params.duration)?;
    let to = Mark::now(subject)?;
    let mut outcome = Outcome::new(params);
    outcome.put("initial_keys_per_s", keys as f64 / initial_s, "/s");
    from.put(&to, puts.last_seq - before, &mut outcome);
    outcome.put_latency(puts.latencies.summary());
    outcome.put_memory(subject.memory()?);
    config::drop_stream(&mut api, &stream)?;
    Ok(outcome)
}

/// Takes what the watcher got: the stream sequence of a change, which must be the `next` one.
fn take(op: &Op<'_>, out: &mut Vec<u8>, next: u64) -> Result<Option<u64>> {
    let Op::Msg { reply, headers, .. } = op else {
        return Ok(None);
    };
    if ack::status(headers).is_some() {
        return answer_status(*reply, headers, out).map(|_| None);
    }
    match reply.and_then(place) {
        Some(place) if place.consumer_seq == next && place.stream_seq == next => Ok(Some(next)),
        place => Err(HarnessError::Count(format!("{place:?} came where {next} was due"))),
    }
}

/// The publisher of changes beside the watcher.
struct Puts {
    putter: Peer,
    watcher: Peer,
    poll: Poll,
    names: Names,
    keys: Keys,
    count: u64,
    filling: Vec<u8>,
    buffer: Vec<u8>,
    spin: bool,
    latencies: Latencies,
    last_seq: u64,
}

impl Puts {
    fn connect(
        subject: &Subject,
        params: &Params,
        (watcher, poll): (Peer, Poll),
        names: Names,
        last_seq: u64,
    ) -> Result<Self> {
        let mut conn = api::connect(&subject.target)?;
        exchange::apply(&mut conn, format!("SUB {ACKS}.* 1\r\n").as_bytes(), PATIENCE)?;
        poll.add(&conn, 1, Watch::Edges)?;
        Ok(Self {
            putter: Peer::new(conn),
            watcher,
            poll,
            names,
            keys: Keys::new(params.seed),
            count: params.js()?.subjects,
            filling: vec![b'y'; params.size],
            buffer: vec![0; params.read_bytes],
            spin: params.wait == Wait::Spin,
            latencies: Latencies::new()?,
            last_seq,
        })
    }

    fn run_for(&mut self, span: Duration) -> Result<()> {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.put()?;
        }
        Ok(())
    }

    /// One put: it must be acknowledged and reach the watcher, under the next sequence number.
    fn put(&mut self) -> Result<()> {
        let next = self.last_seq + 1;
        let key = self.keys.next(self.count);
        let token = (next & u64::from(u32::MAX)) as u32;
        let (names, filling) = (&self.names, &self.filling);
        frame::put_plain(names, key, ACKS, token, filling, self.putter.out.tail());
        let sent = Instant::now();
        self.putter.flush()?;
        let (mut acked, mut watched) = (false, None);
        let mut ready = Vec::new();
        while !acked || watched.is_none() {
            self.watcher.read_ops(&mut self.buffer, |op, out| {
                if take(op, out, next)?.is_some() {
                    watched = Some(sent.elapsed());
                }
                Ok(())
            })?;
            self.watcher.flush()?;
            self.putter.read_ops(&mut self.buffer, |op, _| {
                if let Op::Msg { headers, payload, .. } = op {
                    let seq = ack::pub_ack(headers, payload)?.seq;
                    if seq != next {
                        return Err(HarnessError::Count(format!("put {next} got {seq}")));
                    }
                    acked = true;
                }
                Ok(())
            })?;
            if sent.elapsed() > PATIENCE {
                return Err(HarnessError::Timeout("a put did not reach the watcher".into()));
            }
            ready.clear();
            let patience = if self.spin { Duration::ZERO } else { Duration::from_secs(1) };
            if !acked || watched.is_none() {
                self.poll.wait(patience, &mut ready)?;
            }
        }
        self.latencies.record(watched.unwrap_or_default());
        self.last_seq = next;
        Ok(())
    }
}
