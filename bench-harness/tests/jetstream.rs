//! JetStream publishing against a server of a few dozen lines inside the test process: honest,
//! and misbehaving in the ways the harness must notice.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bench_harness::client::handshake::Target;
use bench_harness::error::{HarnessError, Result};
use bench_harness::report::Outcome;
use bench_harness::scenario::{Kind, Params, Subject, run};

/// How the server treats message 50.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Answers with an error.
    Refuses,
    /// Acknowledges under the next number but one.
    Skips,
    /// Says that it knew the message already.
    Repeats,
    /// Acknowledges what is not in the stream at the end.
    Forgets,
}

fn start(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let stored = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let stored = Arc::clone(&stored);
            // A client that goes away ends its thread; nothing else is lost.
            thread::spawn(move || serve(&stream, &stored, manner));
        }
    });
    addr
}

fn serve(mut stream: &TcpStream, stored: &AtomicU64, manner: Manner) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"INFO {\"server_id\":\"fake\",\"max_payload\":1048576}\r\n")?;
    let mut input = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
    let (mut line, mut payload) = (String::new(), Vec::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            ["PING"] => stream.write_all(b"PONG\r\n")?,
            ["PUB", subject, reply, size] => {
                payload.resize(size.parse::<usize>().unwrap() + 2, 0);
                input.read_exact(&mut payload)?;
                let said = answer(subject, stored, manner);
                let head = format!("MSG {reply} 1 {}\r\n{said}\r\n", said.len());
                stream.write_all(head.as_bytes())?;
            }
            _ => {}
        }
    }
}

fn answer(subject: &str, stored: &AtomicU64, manner: Manner) -> String {
    let lost = u64::from(manner == Manner::Forgets);
    let count = stored.load(Ordering::SeqCst).saturating_sub(lost);
    if subject.starts_with("$JS.API.STREAM.DELETE.") {
        let error = "{\"code\":404,\"err_code\":10059,\"description\":\"stream not found\"}";
        return format!("{{\"type\":\"t\",\"error\":{error}}}");
    }
    if subject.starts_with("$JS.API.") {
        return format!("{{\"state\":{{\"messages\":{count},\"last_seq\":{count}}}}}");
    }
    let seq = stored.fetch_add(1, Ordering::SeqCst) + 1;
    match manner {
        Manner::Refuses if seq == 50 => {
            let error = "{\"code\":503,\"err_code\":10077,\"description\":\"maximum bytes\"}";
            format!("{{\"error\":{error},\"stream\":\"BENCH\",\"seq\":0}}")
        }
        Manner::Skips if seq == 50 => "{\"stream\":\"BENCH\",\"seq\":51}".into(),
        Manner::Repeats if seq == 50 => {
            "{\"stream\":\"BENCH\",\"seq\":50,\"duplicate\": true}".into()
        }
        _ => format!("{{\"stream\":\"BENCH\",\"seq\":{seq}}}"),
    }
}

fn publish(manner: Manner, kind: Kind, outstanding: usize) -> Result<Outcome> {
    let target = Target {
        addr: start(manner),
        host: "localhost".into(),
        login: String::new(),
        tls: None,
        no_responders: false,
    };
    let subject = Subject { target, pid: Some(std::process::id()), host: None };
    let mut params = Params {
        duration: Duration::from_millis(100),
        warmup: Duration::from_millis(20),
        rate: 5000.0,
        ..Params::new(kind)
    };
    params.js.as_mut().unwrap().outstanding = outstanding;
    run(&subject, &params)
}

#[test]
fn honest_acknowledgements_are_counted_and_timed() {
    for (kind, outstanding) in
        [(Kind::JsPublish, 1), (Kind::JsPublish, 64), (Kind::JsPublishOpen, 100)]
    {
        let outcome = publish(Manner::Honest, kind, outstanding).unwrap();
        for name in ["msgs_per_s", "p50_us", "p99.9_us", "harness_cpu_percent"] {
            let value = outcome.get(name);
            assert!(value.is_some_and(|v| v > 0.0), "{kind:?} {name} {value:?}");
        }
    }
}

#[test]
fn the_open_loop_has_a_latency_for_every_message_that_was_due() {
    let outcome = publish(Manner::Honest, Kind::JsPublishOpen, 1000).unwrap();
    let count = outcome.latency.unwrap().count as f64;
    assert!(count >= 5000.0 * 0.1 * 0.9, "{count}");
}

#[test]
fn an_error_acknowledgement_fails_the_run() {
    let error = publish(Manner::Refuses, Kind::JsPublish, 16).unwrap_err();
    assert!(matches!(error, HarnessError::Api { .. }), "{error}");
    assert!(error.to_string().contains("10077"), "{error}");
}

#[test]
fn wrong_numbers_duplicates_and_missing_messages_fail_the_run() {
    for manner in [Manner::Skips, Manner::Repeats, Manner::Forgets] {
        let error = publish(manner, Kind::JsPublish, 16).unwrap_err();
        assert!(matches!(error, HarnessError::Count(_)), "{manner:?}: {error}");
    }
}
