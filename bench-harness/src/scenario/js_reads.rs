//! Direct get of the last message of random subjects, also as the get of a key-value bucket:
//! one request outstanding, each answer compared with what was stored.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::window::Mark;
use super::{Kind, Params, Subject, Wait};
use crate::client::exchange;
use crate::client::op::Op;
use crate::client::peer::Peer;
use crate::client::poll::{Poll, Watch};
use crate::error::{HarnessError, Result};
use crate::js::ack;
use crate::js::api::{self, Api};
use crate::js::config::{self, BUCKET, PREFIX, STREAM};
use crate::js::frame::{Names, stamp_of};
use crate::js::publish;
use crate::measure::histogram::Latencies;
use crate::report::Outcome;

/// How long an answer may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where answers come.
const INBOX: &str = "_INBOX.bench.get";

/// A small generator of random keys (xorshift).
pub(super) struct Keys(u64);

impl Keys {
    /// A generator with this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A key below `count`.
    pub(super) fn next(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % count.max(1)
    }
}

/// Runs the scenario.
///
/// # Errors
/// An answer that is missing, an error, or of another subject or content.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let mut api = Api::connect(&subject.target)?;
    let (js, is_bucket) = (params.js()?, params.kind == Kind::KvGet);
    let (stream, prefix) = if is_bucket {
        (config::bucket(js.storage), format!("$KV.{BUCKET}"))
    } else {
        let mut stream = config::stream(js.storage);
        if let Some(members) = stream.as_object_mut() {
            members.insert("allow_direct".into(), true.into());
        }
        (stream, PREFIX.to_owned())
    };
    let name = stream.get("name").and_then(Value::as_str).unwrap_or(STREAM).to_owned();
    config::make_stream(&mut api, &stream)?;
    let names = Names::Numbered { prefix: prefix.clone(), count: js.subjects };
    publish::fill(&subject.target, names, params.size, js.subjects)?;
    config::check_stream(&mut api, &name, js.subjects)?;

    let mut getter = Getter::connect(subject, params, &name, prefix)?;
    getter.run_for(params.warmup)?;
    getter.latencies = Latencies::new()?;
    let (from, before) = (Mark::now(subject)?, getter.answered);
    getter.run_for(params.duration)?;
    let to = Mark::now(subject)?;
    let mut outcome = Outcome::new(params);
    from.put(&to, getter.answered - before, &mut outcome);
    outcome.put_latency(getter.latencies.summary());
    outcome.put_memory(subject.memory()?);
    config::drop_stream(&mut api, &name)?;
    Ok(outcome)
}

struct Getter {
    peer: Peer,
    poll: Poll,
    buffer: Vec<u8>,
    stream: String,
    prefix: String,
    subjects: u64,
    size: usize,
    spin: bool,
    keys: Keys,
    latencies: Latencies,
    answered: u64,
}

impl Getter {
    fn connect(subject: &Subject, params: &Params, stream: &str, prefix: String) -> Result<Self> {
        let mut conn = api::connect(&subject.target)?;
        exchange::apply(&mut conn, format!("SUB {INBOX}.* 1\r\n").as_bytes(), PATIENCE)?;
        let poll = Poll::new()?;
        poll.add(&conn, 0, Watch::Edges)?;
        Ok(Self {
            peer: Peer::new(conn),
            poll,
            buffer: vec![0; params.read_bytes],
            stream: stream.to_owned(),
            prefix,
            subjects: params.js()?.subjects,
            size: params.size,
            spin: params.wait == Wait::Spin,
            keys: Keys::new(params.seed),
            latencies: Latencies::new()?,
            answered: 0,
        })
    }

    fn run_for(&mut self, span: Duration) -> Result<()> {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.get()?;
        }
        Ok(())
    }

    /// One request and its answer.
    fn get(&mut self) -> Result<()> {
        let key = self.keys.next(self.subjects);
        let number = self.answered;
        let (stream, prefix, size) = (&self.stream, &self.prefix, self.size);
        let out = self.peer.out.tail();
        // Writing into a Vec cannot fail.
        let _ = write!(
            out,
            "PUB $JS.API.DIRECT.GET.{stream}.{prefix}.{key} {INBOX}.{number:08x} 0\r\n\r\n"
        );
        let sent = Instant::now();
        self.peer.flush()?;
        let mut found = false;
        let mut ready = Vec::new();
        loop {
            self.peer.read_ops(&mut self.buffer, |op, _| {
                if let Op::Msg { headers, payload, .. } = op {
                    if found {
                        return Err(HarnessError::Count("one get was answered twice".into()));
                    }
                    check_answer(headers, payload, prefix, key, size)?;
                    found = true;
                }
                Ok(())
            })?;
            let waited = sent.elapsed();
            if found {
                self.latencies.record(waited);
                self.answered += 1;
                return Ok(());
            }
            if waited > PATIENCE {
                return Err(HarnessError::Timeout("a get was not answered".into()));
            }
            ready.clear();
            let patience = if self.spin { Duration::ZERO } else { PATIENCE };
            self.poll.wait(patience, &mut ready)?;
        }
    }
}

/// An answer must carry the subject that was asked for and what was stored under it.
fn check_answer(headers: &[u8], payload: &[u8], prefix: &str, key: u64, size: usize) -> Result<()> {
    if let Some(status) = ack::status(headers) {
        let what = format!("direct get of {prefix}.{key}");
        return Err(HarnessError::Api { what, text: format!("status {status:?}") });
    }
    let subject = ack::header(headers, "Nats-Subject").unwrap_or_default();
    let right = subject == format!("{prefix}.{key}").as_bytes();
    if !right || payload.len() != size || stamp_of(payload).is_some_and(|s| s != key) {
        let subject = String::from_utf8_lossy(subject);
        return Err(HarnessError::Count(format!("{prefix}.{key} was answered with {subject}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_must_be_what_was_asked_for() {
        let headers =
            b"NATS/1.0\r\nNats-Stream: S\r\nNats-Subject: p.5\r\nNats-Sequence: 6\r\n\r\n";
        let payload = 5_u64.to_le_bytes();
        check_answer(headers, &payload, "p", 5, 8).unwrap();
        assert!(check_answer(headers, &payload, "p", 6, 8).is_err());
        assert!(check_answer(headers, &4_u64.to_le_bytes(), "p", 5, 8).is_err());
        assert!(check_answer(headers, &payload, "p", 5, 9).is_err());
        let missing = b"NATS/1.0 404 Message Not Found\r\n\r\n";
        let said = check_answer(missing, b"", "p", 5, 8).unwrap_err().to_string();
        assert!(said.contains("404"), "{said}");
    }

    #[test]
    fn keys_are_spread_over_all() {
        let mut keys = Keys::new(1);
        let mut hits = [0; 10];
        for _ in 0..10_000 {
            hits[usize::try_from(keys.next(10)).unwrap()] += 1;
        }
        assert!(hits.iter().all(|&n| (800..1200).contains(&n)), "{hits:?}");
    }
}
