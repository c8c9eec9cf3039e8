//! Workers, each with its own connection, that share a pull consumer: a batch is asked for,
//! every message is acknowledged, and with the last one the next batch is asked for.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::js_consume::{await_acks, prepare, put_ack};
use super::window::Mark;
use super::{Params, Subject};
use crate::client::exchange;
use crate::client::op::Op;
use crate::client::peer::Peer;
use crate::client::poll::{Poll, Watch};
use crate::error::{HarnessError, Result};
use crate::js::ack::{self, place};
use crate::js::api::{self, Api};
use crate::js::config::{self, STREAM};
use crate::js::frame::stamp_of;
use crate::report::Outcome;

/// How long nothing may come before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// The consumer's name.
const CONSUMER: &str = "pull";

/// One client.
struct Worker {
    peer: Peer,
    inbox: String,
    /// Messages of its batch still to come.
    left: usize,
}

impl Worker {
    fn connect(subject: &Subject, index: usize, poll: &Poll) -> Result<Self> {
        let mut conn = api::connect(&subject.target)?;
        let inbox = format!("_INBOX.bench.worker{index}");
        exchange::apply(&mut conn, format!("SUB {inbox} 1\r\n").as_bytes(), PATIENCE)?;
        poll.add(&conn, index, Watch::Edges)?;
        Ok(Self { peer: Peer::new(conn), inbox, left: 0 })
    }

    fn ask(&mut self, batch: usize) {
        let Self { peer, inbox, left } = self;
        put_pull(inbox, batch, peer.out.tail());
        *left = batch;
    }
}

/// Appends the request for a batch.
fn put_pull(inbox: &str, batch: usize, out: &mut Vec<u8>) {
    let body = format!("{{\"batch\":{batch},\"expires\":{}}}", PATIENCE.as_nanos());
    let size = body.len();
    // Writing into a Vec cannot fail.
    let _ = write!(
        out,
        "PUB $JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER} {inbox} {size}\r\n{body}\r\n"
    );
}

/// Which messages were delivered, over all workers.
struct Seen {
    bits: Vec<u64>,
    count: u64,
    size: usize,
}

impl Seen {
    fn new(messages: u64, size: usize) -> Self {
        let words = usize::try_from(messages / 64 + 1).unwrap_or(0);
        Self { bits: vec![0; words], count: 0, size }
    }

    /// Takes one message; its reply subject must be acknowledged.
    fn take(&mut self, reply: Option<&[u8]>, headers: &[u8], payload: &[u8]) -> Result<()> {
        if let Some(status) = ack::status(headers) {
            let text = format!("status {status:?}");
            return Err(HarnessError::Api { what: "pull".into(), text });
        }
        let Some(place) = reply.and_then(place) else {
            return Err(HarnessError::Protocol("a delivery without its place".into()));
        };
        let index = place.stream_seq.saturating_sub(1);
        let word = usize::try_from(index / 64).unwrap_or(usize::MAX);
        let Some(word) = self.bits.get_mut(word) else {
            return Err(HarnessError::Count(format!("{place:?} is beyond the stream")));
        };
        let bit = 1_u64 << (index % 64);
        let stamp = stamp_of(payload).is_none_or(|s| s == index);
        if *word & bit != 0 || place.delivered != 1 || !stamp || payload.len() != self.size {
            return Err(HarnessError::Count(format!("{place:?} came twice or changed")));
        }
        *word |= bit;
        self.count += 1;
        Ok(())
    }
}

/// Runs the scenario.
///
/// # Errors
/// A lost, doubled or changed message, a batch that ends early, acknowledgements that are not
/// applied.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let mut api = Api::connect(&subject.target)?;
    let js = params.js()?;
    let (count, batch) = (params.count(), js.batch.max(1));
    prepare(&mut api, subject, params, count)?;
    let pending = js.workers.max(1) * batch * 4;
    let config = config::explicit(CONSUMER, pending, None);
    config::make_consumer(&mut api, STREAM, CONSUMER, &config)?;
    let mut poll = Poll::new()?;
    let mut workers = Vec::new();
    for index in 0..js.workers.max(1) {
        workers.push(Worker::connect(subject, index, &poll)?);
    }
    let mut seen = Seen::new(count, params.size);
    let from = Mark::now(subject)?;
    for worker in &mut workers {
        worker.ask(batch);
        worker.peer.flush()?;
    }
    consume(&mut workers, &mut poll, &mut seen, batch, count, params.read_bytes)?;
    await_acks(&mut api, CONSUMER, count)?;
    let to = Mark::now(subject)?;
    let mut outcome = Outcome::new(params);
    from.put(&to, count, &mut outcome);
    outcome.put_memory(subject.memory()?);
    config::drop_stream(&mut api, STREAM)?;
    Ok(outcome)
}

fn consume(
    workers: &mut [Worker],
    poll: &mut Poll,
    seen: &mut Seen,
    batch: usize,
    count: u64,
    read_bytes: usize,
) -> Result<()> {
    let (mut buffer, mut ready) = (vec![0; read_bytes], Vec::new());
    let mut progress = (0, Instant::now());
    while seen.count < count {
        ready.clear();
        poll.wait(Duration::from_secs(1), &mut ready)?;
        for event in &ready {
            let Some(worker) = workers.get_mut(event.token) else {
                continue;
            };
            let Worker { peer, inbox, left } = worker;
            peer.read_ops(&mut buffer, |op, out| {
                let Op::Msg { reply, headers, payload, .. } = op else {
                    return Ok(());
                };
                seen.take(*reply, headers, payload)?;
                put_ack(reply.unwrap_or_default(), out);
                *left = left.saturating_sub(1);
                if *left == 0 && seen.count < count {
                    put_pull(inbox, batch, out);
                    *left = batch;
                }
                Ok(())
            })?;
            worker.peer.flush()?;
        }
        let now = Instant::now();
        if seen.count > progress.0 {
            progress = (seen.count, now);
        } else if now - progress.1 > PATIENCE {
            let why = format!("{} of {count} messages came", seen.count);
            return Err(HarnessError::Timeout(why));
        }
    }
    // What a full socket did not take yet are acknowledgements.
    let deadline = Instant::now() + PATIENCE;
    while !workers
        .iter_mut()
        .try_fold(true, |all, w| Ok::<_, HarnessError>(w.peer.flush()? && all))?
    {
        if Instant::now() > deadline {
            return Err(HarnessError::Timeout("acknowledgements are not read".into()));
        }
        ready.clear();
        poll.wait(Duration::from_millis(10), &mut ready)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_batch_and_expiry() {
        let mut out = Vec::new();
        put_pull("_IN", 500, &mut out);
        let text = String::from_utf8(out).unwrap();
        let body = "{\"batch\":500,\"expires\":60000000000}";
        let head = format!("PUB $JS.API.CONSUMER.MSG.NEXT.BENCH.pull _IN {}\r\n", body.len());
        assert_eq!(text, format!("{head}{body}\r\n"));
    }

    #[test]
    fn every_message_comes_once() {
        let mut seen = Seen::new(100, 8);
        let mut take = |seq: u64, delivered: u64, stamp: u64| {
            let reply = format!("$JS.ACK.S.c.{delivered}.{seq}.1.9.0");
            seen.take(Some(reply.as_bytes()), b"", &stamp.to_le_bytes())
        };
        take(70, 1, 69).unwrap();
        take(1, 1, 0).unwrap();
        // Twice, redelivered, changed, beyond the end.
        assert!(take(70, 1, 69).is_err());
        assert!(take(2, 2, 1).is_err());
        assert!(take(3, 1, 3).is_err());
        assert!(take(1000, 1, 999).is_err());
        assert!(seen.take(None, b"NATS/1.0 408 Request Timeout\r\n\r\n", b"").is_err());
        assert_eq!(seen.count, 2);
    }
}
