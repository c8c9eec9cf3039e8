//! `/routez`, `/gatewayz` and `/leafz` of a server that has no links to other servers: empty,
//! with every field that nats-server shows for such a server.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::ServerFacts;
use super::json::indented;
use super::response::Response;
use super::text::rfc3339;

/// A list or map that has no entries as long as there are no links.
type NoRows = [(); 0];
type NoEntries = BTreeMap<&'static str, ()>;

#[derive(Serialize)]
struct Routez<'a> {
    server_id: &'a str,
    server_name: &'a str,
    now: String,
    num_routes: u64,
    routes: NoRows,
}

#[derive(Serialize)]
struct Gatewayz<'a> {
    server_id: &'a str,
    now: String,
    outbound_gateways: NoEntries,
    inbound_gateways: NoEntries,
}

#[derive(Serialize)]
struct Leafz<'a> {
    server_id: &'a str,
    now: String,
    leafnodes: u64,
    leafs: NoRows,
}

pub(super) fn render_routez(facts: &ServerFacts) -> Response {
    let reply = Routez {
        server_id: &facts.server_id,
        server_name: &facts.server_name,
        now: rfc3339(facts.now_ns),
        num_routes: 0,
        routes: [],
    };
    Response::json(200, indented(&reply))
}

pub(super) fn render_gatewayz(facts: &ServerFacts) -> Response {
    let reply = Gatewayz {
        server_id: &facts.server_id,
        now: rfc3339(facts.now_ns),
        outbound_gateways: BTreeMap::new(),
        inbound_gateways: BTreeMap::new(),
    };
    Response::json(200, indented(&reply))
}

pub(super) fn render_leafz(facts: &ServerFacts) -> Response {
    let reply =
        Leafz { server_id: &facts.server_id, now: rfc3339(facts.now_ns), leafnodes: 0, leafs: [] };
    Response::json(200, indented(&reply))
}
