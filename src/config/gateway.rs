//! `gateway`: links between clusters.

use super::auth::read_peer_auth;
use super::cluster::read_name;
use super::options_peers::{GatewayOptions, RemoteGateway};
use super::reader::{Reader, put};
use super::tls::{Side, read_tls};
use super::value::{Node, Value};

/// Reads the `gateway` block.
pub(super) fn read_gateway(r: &mut Reader, node: &Node, out: &mut GatewayOptions) {
    let Some(map) = r.map(node, "Expected gateway to be a map") else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "name" => {
                r.place("gateway.name", node);
                put(&mut out.name, read_name(r, node, "gateway"));
            }
            "listen" => put(&mut out.listen, r.listen(node)),
            "port" => put(&mut out.listen.port, r.port(node)),
            "host" | "net" => put(&mut out.listen.host, r.text(node)),
            "authorization" => {
                put(&mut out.auth, read_peer_auth(r, node, "Gateway").map(|(auth, _)| auth));
            }
            "tls" => out.tls = read_tls(r, node, Side::Peer),
            "advertise" => put(&mut out.advertise, r.text(node)),
            "connect_retries" => put(&mut out.connect_retries, r.int(node)),
            "connect_backoff" => put(&mut out.connect_backoff, r.flag(node)),
            "reject_unknown" | "reject_unknown_cluster" => {
                put(&mut out.reject_unknown, r.flag(node));
            }
            "gateways" => out.gateways = read_remotes(r, node),
            "write_deadline" => out.write_deadline = r.duration(node, key),
            "write_timeout" => put(&mut out.write_timeout, r.write_timeout(node)),
            _ => r.unknown(key, node),
        }
    }
}

fn read_remotes(r: &mut Reader, node: &Node) -> Vec<RemoteGateway> {
    let items = r.list(node, "Expected gateways field to be an array").unwrap_or_default();
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let Value::Map(map) = &item.value else {
            let shown = item.value.shown();
            r.error(item, format!("Expected gateway entry to be a map/struct, got {shown}"));
            continue;
        };
        let mut gateway = RemoteGateway::default();
        for (key, node) in map.in_order() {
            match key.to_ascii_lowercase().as_str() {
                "name" => put(&mut gateway.name, r.text(node)),
                "tls" => gateway.tls = read_tls(r, node, Side::Peer),
                "url" => gateway.urls.extend(r.url(node, "gateway")),
                "urls" => match &node.value {
                    Value::List(items) => gateway.urls = r.urls(items, "gateway"),
                    _ => r.wrong_type(node, "[]interface {}"),
                },
                _ => r.unknown(key, node),
            }
        }
        if gateway.name.is_empty() {
            r.error(item, format!("gateway in the list {} has no name", out.len()));
        } else if gateway.urls.is_empty() {
            r.error(item, format!("gateway {:?} has no URL", gateway.name));
        }
        out.push(gateway);
    }
    out
}
