//! What size costs: many consumers that do nothing, and a large stream with its restart.

use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{End, Params, Restarted, Subject};
use crate::client::exchange;
use crate::client::op::{Op, number};
use crate::client::peer::Peer;
use crate::client::poll::{Poll, Watch};
use crate::error::{HarnessError, Result};
use crate::js::ack;
use crate::js::api::{self, Api, figure};
use crate::js::config::{self, PREFIX, STREAM};
use crate::js::frame::Names;
use crate::js::publish;
use crate::report::Outcome;

/// Rest before memory and idle CPU are read, so that work left over from loading is done.
const REST: Duration = Duration::from_secs(5);
/// How long nothing may happen before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a restart may take.
const RESTART_PATIENCE: Duration = Duration::from_secs(180);
/// How long one request may take while the server starts.
const ASK_PATIENCE: Duration = Duration::from_millis(200);
/// Where replies to creations come.
const INBOX: &str = "_INBOX.bench.create";

/// Runs the scenario of idle consumers.
///
/// # Errors
/// A consumer that is refused or missing afterwards.
pub fn run_consumers(subject: &Subject, params: &Params) -> Result<Outcome> {
    let mut api = Api::connect(&subject.target)?;
    let js = params.js()?;
    let mut stream = config::stream(js.storage);
    if let Some(members) = stream.as_object_mut() {
        // Without it nats-server's own limit of 1,000 holds.
        members.insert("max_consumers".into(), js.consumers.into());
    }
    config::make_stream(&mut api, &stream)?;
    sleep(REST / 10);
    let empty = subject.memory()?;
    let started = Instant::now();
    create(subject, js.consumers, js.outstanding.max(1))?;
    let seconds = started.elapsed().as_secs_f64();
    sleep(REST);
    let (cpu_from, from) = (subject.cpu()?, Instant::now());
    sleep(params.duration);
    let (cpu_to, idle_s) = (subject.cpu()?, from.elapsed().as_secs_f64());
    let info = api.call(&format!("STREAM.INFO.{STREAM}"), &Value::Null)?;
    let there = figure(&info, "/state/consumer_count")?;
    if there != js.consumers {
        return Err(HarnessError::Count(format!("{there} of {} consumers", js.consumers)));
    }
    let mut outcome = Outcome::new(params);
    if let (Some(a), Some(b)) = (cpu_from, cpu_to) {
        outcome.put("idle_cpu_percent", b.since(a) as f64 / idle_s / 1e7, "%");
    }
    let memory = subject.memory()?;
    if let (Some(before), Some(after)) = (empty, memory) {
        let grown = after.rss_bytes.saturating_sub(before.rss_bytes) as f64;
        outcome.put("rss_kib_per_consumer", grown / 1024.0 / js.consumers as f64, "KiB");
    }
    outcome.put("creates_per_s", js.consumers as f64 / seconds, "/s");
    outcome.put_memory(memory);
    Ok(outcome)
}

/// Appends the request for durable pull consumer `n`.
fn put_create(n: u64, out: &mut Vec<u8>) {
    let name = format!("c{n}");
    let config = config::explicit(&name, 1000, None);
    let body = serde_json::json!({ "stream_name": STREAM, "config": config, "action": "create" });
    let body = body.to_string();
    let size = body.len();
    // Writing into a Vec cannot fail.
    let _ =
        write!(out, "PUB $JS.API.CONSUMER.CREATE.{STREAM}.{name} {INBOX}.{n} {size}\r\n{body}\r\n");
}

fn create(subject: &Subject, count: u64, outstanding: usize) -> Result<()> {
    let mut conn = api::connect(&subject.target)?;
    exchange::apply(&mut conn, format!("SUB {INBOX}.* 1\r\n").as_bytes(), PATIENCE)?;
    let mut poll = Poll::new()?;
    poll.add(&conn, 0, Watch::Edges)?;
    let mut peer = Peer::new(conn);
    let mut buffer = vec![0; 256 << 10];
    let (mut made, mut answered, mut ready) = (0, 0, Vec::new());
    let mut deadline = Instant::now() + PATIENCE;
    while answered < count {
        while made < count && made - answered < outstanding as u64 {
            put_create(made, peer.out.tail());
            made += 1;
        }
        peer.flush()?;
        ready.clear();
        poll.wait(Duration::from_secs(1), &mut ready)?;
        let before = answered;
        peer.read_ops(&mut buffer, |op, _| {
            let Op::Msg { subject, headers, payload, .. } = op else {
                return Ok(());
            };
            let n = subject.rsplit(|b| *b == b'.').next().and_then(number);
            let what = || format!("creation of consumer {n:?}");
            if let Some((code, text)) = ack::status(headers) {
                let text = format!("status {code} {text}");
                return Err(HarnessError::Api { what: what(), text });
            }
            if let Some(text) = ack::error_text(payload) {
                return Err(HarnessError::Api { what: what(), text });
            }
            answered += 1;
            Ok(())
        })?;
        if answered > before {
            deadline = Instant::now() + PATIENCE;
        } else if Instant::now() > deadline {
            return Err(HarnessError::Timeout(format!("{answered} of {count} consumers")));
        }
    }
    Ok(())
}

/// Runs the scenario of a large stream.
///
/// # Errors
/// Messages missing after loading or after a restart, a restart that fails.
pub fn run_big(subject: &Subject, params: &Params) -> Result<Outcome> {
    let mut outcome = Outcome::new(params);
    let js = params.js()?;
    let (count, subjects) = (params.count(), js.subjects.clamp(1, params.count().max(1)));
    {
        let mut api = Api::connect(&subject.target)?;
        config::make_stream(&mut api, &config::stream(js.storage))?;
        let names = Names::Numbered { prefix: PREFIX.to_owned(), count: subjects };
        let seconds = publish::fill(&subject.target, names, params.size, count)?;
        outcome.put("load_msgs_per_s", count as f64 / seconds, "/s");
        let info = config::check_stream(&mut api, STREAM, count)?;
        check_subjects(&info, subjects)?;
        sleep(REST);
        put_rss(&mut outcome, "rss_loaded_mib", subject)?;
    }
    let Some(host) = &subject.host else {
        outcome.notes.push("not our own server: the restart was not measured".into());
        return Ok(outcome);
    };
    let ends = [
        (End::Asked, "restart_ready_s", "rss_restarted_mib"),
        (End::Killed, "restart_killed_ready_s", "rss_restarted_killed_mib"),
    ];
    for (how, time, memory) in ends {
        let again = host.restart(how)?;
        let (mut api, info) = await_stream(&again)?;
        outcome.put(time, again.exec_at.elapsed().as_secs_f64(), "s");
        if how == End::Asked {
            outcome.put("stop_s", again.stop.as_secs_f64(), "s");
        }
        check_subjects(&info, subjects)?;
        config::check_stream(&mut api, STREAM, count)?;
        sleep(REST);
        let now = Subject { target: again.target, pid: Some(again.pid), host: None };
        put_rss(&mut outcome, memory, &now)?;
    }
    Ok(outcome)
}

fn put_rss(outcome: &mut Outcome, name: &str, subject: &Subject) -> Result<()> {
    if let Some(memory) = subject.memory()? {
        outcome.put(name, memory.rss_bytes as f64 / (1024.0 * 1024.0), "MiB");
    }
    Ok(())
}

fn check_subjects(info: &Value, subjects: u64) -> Result<()> {
    match figure(info, "/state/num_subjects")? {
        n if n == subjects => Ok(()),
        n => Err(HarnessError::Count(format!("{n} of {subjects} subjects"))),
    }
}

/// Asks for the stream's info until the server that was started gives it.
fn await_stream(again: &Restarted) -> Result<(Api, Value)> {
    let deadline = again.exec_at + RESTART_PATIENCE;
    let mut api = Api::connect(&again.target)?;
    loop {
        if let Some(info) = api.stream_info(STREAM, ASK_PATIENCE)? {
            return Ok((api, info));
        }
        if Instant::now() > deadline {
            return Err(HarnessError::Timeout("the stream does not come back".into()));
        }
        // The moment until the next question is part of the figure: keep it short.
        sleep(Duration::from_micros(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn creations_carry_a_config_and_its_length() {
        let mut out = Vec::new();
        put_create(7, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, rest) = text.split_once("\r\n").unwrap();
        let size: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
        let body: Value = serde_json::from_str(&rest[..size]).unwrap();
        assert!(head.starts_with("PUB $JS.API.CONSUMER.CREATE.BENCH.c7 _INBOX.bench.create.7 "));
        assert_eq!(body["config"]["durable_name"], json!("c7"));
        assert_eq!(&rest[size..], "\r\n");
    }

    #[test]
    fn missing_subjects_are_noticed() {
        let info = json!({ "state": { "num_subjects": 5 } });
        check_subjects(&info, 5).unwrap();
        assert!(check_subjects(&info, 6).is_err());
        assert!(check_subjects(&json!({}), 6).is_err());
    }
}
