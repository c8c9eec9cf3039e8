//! `/healthz`: whether the server can be used.

use serde::Serialize;

use super::facts::ServerFacts;
use super::json::compact;
use super::request::HealthzOptions;
use super::response::Response;

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
    error: &'a str,
}

pub(super) fn render(options: &HealthzOptions, facts: &ServerFacts) -> Response {
    if let Some(part) = &facts.not_ready {
        let text = format!("failed to be ready for connections after 1ms: {part}");
        return failure(options, 500, "CONNECTION", &text);
    }
    // The probes of streams and consumers are judged for form even while JetStream is off;
    // beyond that nats-server then calls every stream healthy.
    if options.account.is_none() && options.stream.is_some() {
        let text = "\"account\" must not be empty when checking stream health";
        return failure(options, 400, "BAD_REQUEST", text);
    }
    if options.stream.is_none() && options.consumer.is_some() {
        let text = "\"stream\" must not be empty when checking consumer health";
        return failure(options, 400, "BAD_REQUEST", text);
    }
    Response::json(200, compact(&HealthStatus { status: "ok", error: None, errors: None }))
}

fn failure(options: &HealthzOptions, code: u16, kind: &'static str, text: &str) -> Response {
    let reply = HealthStatus {
        status: "error",
        error: (!options.details).then_some(text),
        errors: options.details.then_some([HealthzError { kind, error: text }]),
    };
    Response::json(code, compact(&reply))
}
