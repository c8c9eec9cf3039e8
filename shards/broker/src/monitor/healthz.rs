//! `/healthz`: whether the server can be used, and whether what is stored can be.

use serde::Serialize;

use super::facts::ServerFacts;
use super::jetstream::{accounts, parts};
use super::json::compact;
use super::request::HealthzOptions;
use super::response::Response;
use super::snapshot::ShardSnapshot;

/// The reply.
#[derive(Serialize)]
struct HealthStatus<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[HealthzError<'a>; 1]>,
}

#[derive(Serialize)]
struct HealthzError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<&'a str>,
    error: &'a str,
}

/// What is wrong. The parts are named only among details.
struct Ill<'a> {
    code: u16,
    kind: &'static str,
    account: Option<&'a str>,
    stream: Option<&'a str>,
    consumer: Option<&'a str>,
    text: String,
}

impl Ill<'_> {
    fn new(code: u16, kind: &'static str, text: impl Into<String>) -> Self {
        Self { code, kind, account: None, stream: None, consumer: None, text: text.into() }
    }
}

pub(super) fn render(
    options: &HealthzOptions,
    facts: &ServerFacts,
    shards: &[ShardSnapshot],
) -> Response {
    match find(options, facts, shards) {
        None => {
            Response::json(200, compact(&HealthStatus { status: "ok", error: None, errors: None }))
        }
        Some(ill) => failure(options, &ill),
    }
}

/// The first thing that is wrong.
fn find<'a>(
    options: &'a HealthzOptions,
    facts: &ServerFacts,
    shards: &'a [ShardSnapshot],
) -> Option<Ill<'a>> {
    if let Some(part) = &facts.not_ready {
        let text = format!("failed to be ready for connections after 1ms: {part}");
        return Some(Ill::new(500, "CONNECTION", text));
    }
    // The probes of streams and consumers are judged for form even while JetStream is off;
    // beyond that nats-server then calls every stream healthy.
    if options.account.is_none() && options.stream.is_some() {
        let text = "\"account\" must not be empty when checking stream health";
        return Some(Ill::new(400, "BAD_REQUEST", text));
    }
    if options.stream.is_none() && options.consumer.is_some() {
        let text = "\"stream\" must not be empty when checking consumer health";
        return Some(Ill::new(400, "BAD_REQUEST", text));
    }
    let jetstream = facts.jetstream.as_ref()?;
    if options.enabled_only {
        return None;
    }
    let oldest_ns = parts(shards).filter_map(|part| part.disk.as_ref()).map(|disk| disk.oldest_ns);
    if let Some(oldest_ns) = oldest_ns.max().filter(|age| *age >= jetstream.disk_stuck_ns) {
        let seconds = oldest_ns / 1_000_000_000;
        let text = format!("JetStream disk operation has been under way for {seconds}s");
        return Some(Ill::new(503, "JETSTREAM", text));
    }
    if options.server_only {
        return None;
    }
    find_missing(options, shards).or_else(|| find_failed(options, shards))
}

/// What was named and is not there.
fn find_missing<'a>(options: &'a HealthzOptions, shards: &'a [ShardSnapshot]) -> Option<Ill<'a>> {
    let account = options.account.as_deref()?;
    let ill = |kind, text| Ill { account: Some(account), ..Ill::new(404, kind, text) };
    if !accounts(shards).iter().any(|known| known.name == account) {
        return Some(ill("ACCOUNT", format!("JetStream account \"{account}\" not found")));
    }
    let stream = options.stream.as_deref()?;
    let row = parts(shards).flat_map(|part| &part.rows).find(|row| row.name == stream);
    let Some(row) = row else {
        let text = format!("JetStream stream \"{stream}\" not found on account \"{account}\"");
        return Some(Ill { stream: Some(stream), ..ill("STREAM", text) });
    };
    let consumer = options.consumer.as_deref()?;
    if row.consumers.iter().chain(&row.direct_consumers).any(|row| row.info.name == consumer) {
        return None;
    }
    let text = format!(
        "JetStream consumer \"{consumer}\" not found for stream \"{stream}\" on account \
         \"{account}\""
    );
    Some(Ill { stream: Some(stream), consumer: Some(consumer), ..ill("CONSUMER", text) })
}

/// A stream, of those that are probed, that stores nothing.
fn find_failed<'a>(options: &HealthzOptions, shards: &'a [ShardSnapshot]) -> Option<Ill<'a>> {
    let failed = parts(shards).flat_map(|part| &part.failed).find(|failed| {
        options.account.as_ref().is_none_or(|account| *account == failed.account)
            && options.stream.as_ref().is_none_or(|stream| *stream == failed.stream)
    })?;
    let (account, stream) = (failed.account.as_str(), failed.stream.as_str());
    let text = format!("JetStream stream '{account} > {stream}' {}", failed.problem);
    let ill = Ill::new(503, "STREAM", text);
    Some(Ill { account: Some(account), stream: Some(stream), ..ill })
}

fn failure(options: &HealthzOptions, ill: &Ill<'_>) -> Response {
    // Details make an error of everything that is wrong.
    let is_error = options.details || !matches!(ill.code, 404 | 503);
    let reply = HealthStatus {
        status: if is_error { "error" } else { "unavailable" },
        error: (!options.details).then_some(&ill.text),
        errors: options.details.then_some([HealthzError {
            kind: ill.kind,
            account: ill.account,
            stream: ill.stream,
            consumer: ill.consumer,
            error: &ill.text,
        }]),
    };
    Response::json(ill.code, compact(&reply))
}
