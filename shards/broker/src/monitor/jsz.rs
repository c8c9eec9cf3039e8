//! `/jsz` of a server whose JetStream is off.

use serde::Serialize;

use super::facts::ServerFacts;
use super::json::indented;
use super::request::JszOptions;
use super::response::Response;
use super::text::rfc3339;

/// The reply.
#[derive(Serialize)]
struct JsInfo<'a> {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u64,
    ha_assets: u64,
    api: ApiStats,
    server_id: &'a str,
    now: String,
    disabled: bool,
    config: JsConfig,
    streams: u64,
    consumers: u64,
    messages: u64,
    bytes: u64,
    total: u64,
}

#[derive(Default, Serialize)]
struct ApiStats {
    level: u64,
    total: u64,
    errors: u64,
}

#[derive(Default, Serialize)]
struct JsConfig {
    max_memory: u64,
    max_storage: u64,
}

pub(super) fn render(options: &JszOptions, facts: &ServerFacts) -> Response {
    if options.leader_only {
        return Response::bad_request(b"filtered response: not leader".to_vec());
    }
    let reply = JsInfo {
        memory: 0,
        storage: 0,
        reserved_memory: 0,
        reserved_storage: 0,
        accounts: 0,
        ha_assets: 0,
        api: ApiStats::default(),
        server_id: &facts.server_id,
        now: rfc3339(facts.now_ns),
        disabled: true,
        config: JsConfig::default(),
        streams: 0,
        consumers: 0,
        messages: 0,
        bytes: 0,
        total: 0,
    };
    Response::json(200, indented(&reply))
}
