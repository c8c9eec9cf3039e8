//! JetStream publishing: one by one, many outstanding, in batches, at a fixed rate, into a
//! bucket. At the end the stream must hold exactly what was acknowledged.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::window::Mark;
use super::{Kind, Params, Subject, or};
use crate::error::{HarnessError, Result};
use crate::js::api::{Api, figure};
use crate::js::config::{self, BUCKET, PREFIX, STREAM};
use crate::js::frame::Names;
use crate::js::publish::{Flow, Spec, Style};
use crate::report::Outcome;

/// The open loop's rate when none is given, in messages a second.
const RATE_DEFAULT: f64 = 20_000.0;
/// The guess of what a run writes stops here: no disk keeps up with a larger one.
const GUESS_MAX_BYTES: u64 = 8 << 30;

/// Runs the scenario.
///
/// # Errors
/// An error instead of an acknowledgement, wrong sequence numbers, a stream that does not hold
/// what was acknowledged.
pub fn run(subject: &Subject, params: &Params) -> Result<Outcome> {
    let mut api = Api::connect(&subject.target)?;
    let stream = stream_config(params)?;
    let name = stream.get("name").and_then(Value::as_str).unwrap_or(STREAM).to_owned();
    config::make_stream(&mut api, &stream)?;
    let spec = spec(params)?;
    let mut flow = Flow::connect(&subject.target, &spec)?;
    let start = Instant::now();
    flow.begin();
    flow.record_from = start + params.warmup;
    flow.run_until(start + params.warmup)?;
    let (from, before) = (Mark::now(subject)?, flow.acked);
    flow.run_until(Instant::now() + params.duration)?;
    let (to, after) = (Mark::now(subject)?, flow.acked);
    flow.finish()?;
    check(&mut api, params, &name, flow.acked)?;
    let mut outcome = Outcome::new(params);
    if after == before {
        return Err(HarnessError::Timeout("nothing acknowledged within the window".into()));
    }
    from.put(&to, after - before, &mut outcome);
    if params.kind == Kind::JsPublishOpen {
        outcome.put("rate_per_s", spec.rate, "/s");
    }
    outcome.put_latency(flow.latencies.summary());
    outcome.put_memory(subject.memory()?);
    config::drop_stream(&mut api, &name)?;
    Ok(outcome)
}

fn stream_config(params: &Params) -> Result<Value> {
    let storage = params.js()?.storage;
    if params.kind == Kind::KvPut {
        return Ok(config::bucket(storage));
    }
    let mut stream = config::stream(storage);
    let flag = match params.kind {
        Kind::JsBatch => Some("allow_atomic"),
        Kind::JsFast => Some("allow_batched"),
        _ => None,
    };
    if let (Some(flag), Some(members)) = (flag, stream.as_object_mut()) {
        members.insert(flag.into(), true.into());
    }
    Ok(stream)
}

fn spec(params: &Params) -> Result<Spec> {
    let js = params.js()?;
    let rate = if params.rate > 0.0 { params.rate } else { RATE_DEFAULT };
    let names = match params.kind {
        Kind::KvPut => {
            Names::Numbered { prefix: format!("$KV.{BUCKET}"), count: js.subjects.max(1) }
        }
        _ => Names::One(format!("{PREFIX}.a")),
    };
    Ok(Spec {
        names,
        size: params.size,
        outstanding: js.outstanding.max(1),
        // Batches of several connections would be mixed in the stream; one is enough.
        connections: or(params.connections, 1),
        style: match params.kind {
            Kind::JsBatch => Style::Atomic(js.batch.max(1)),
            Kind::JsFast => Style::Ingest,
            _ => Style::Plain,
        },
        rate: if params.kind == Kind::JsPublishOpen { rate } else { 0.0 },
        wait: params.wait,
    })
}

/// The stream must hold what was acknowledged, no more and no less.
fn check(api: &mut Api, params: &Params, name: &str, acked: u64) -> Result<()> {
    if params.kind != Kind::KvPut {
        return config::check_stream(api, name, acked).map(|_| ());
    }
    let info = api.call(&format!("STREAM.INFO.{name}"), &Value::Null)?;
    let (messages, last) = (figure(&info, "/state/messages")?, figure(&info, "/state/last_seq")?);
    let keys = acked.min(params.js()?.subjects);
    if messages != keys || last != acked {
        let why = format!("{messages} of {keys} keys, sequence {last} of {acked}");
        return Err(HarnessError::Count(why));
    }
    Ok(())
}

/// Bytes that a publishing scenario may write at most, from a generous guess of the rate.
#[must_use]
pub fn bytes_needed(params: &Params) -> u64 {
    const RATE_MAX: f64 = 1_500_000.0;
    let rate = if params.rate > 0.0 { params.rate } else { RATE_MAX };
    let span: Duration = params.warmup + params.duration;
    let messages = (rate * span.as_secs_f64()) as u64;
    messages.saturating_mul(params.size as u64 + 64).min(GUESS_MAX_BYTES)
}
