//! `websocket` and `mqtt`: clients that speak another protocol.

use super::auth::read_simple_auth;
use super::options_peers::{MqttOptions, WebsocketOptions};
use super::reader::{Reader, put};
use super::tls::{Side, read_tls};
use super::value::{Node, Value};

/// Reads the `websocket` block.
pub(super) fn read_websocket(r: &mut Reader, node: &Node, out: &mut WebsocketOptions) {
    let Some(map) = r.map(node, "Expected websocket to be a map") else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "listen" => put(&mut out.listen, r.listen(node)),
            "port" => put(&mut out.listen.port, r.port(node)),
            "host" | "net" => put(&mut out.listen.host, r.text(node)),
            "advertise" => put(&mut out.advertise, r.text(node)),
            "no_tls" => put(&mut out.no_tls, r.flag(node)),
            "tls" => out.tls = read_tls(r, node, Side::Client),
            "same_origin" => put(&mut out.same_origin, r.flag(node)),
            "allowed_origins" | "allowed_origin" | "allow_origins" | "allow_origin" | "origins"
            | "origin" => {
                r.place("websocket.allowed_origins", node);
                put(&mut out.allowed_origins, r.texts(node, "allowed origins"));
            }
            "handshake_timeout" => put(&mut out.handshake_timeout, r.timeout(node, "websocket")),
            "compress" | "compression" => put(&mut out.compression, r.flag(node)),
            "authorization" | "authentication" => out.auth = read_simple_auth(r, node),
            "jwt_cookie" => put(&mut out.jwt_cookie, r.text(node)),
            "user_cookie" => put(&mut out.user_cookie, r.text(node)),
            "pass_cookie" => put(&mut out.pass_cookie, r.text(node)),
            "token_cookie" => put(&mut out.token_cookie, r.text(node)),
            "no_auth_user" => {
                r.place("websocket.no_auth_user", node);
                put(&mut out.no_auth_user, r.text(node));
            }
            "headers" => {
                let text = "error parsing headers: unsupported type";
                put(&mut out.headers, r.text_map(node, text));
            }
            "ping_interval" => out.ping_interval = r.duration(node, key),
            _ => r.unknown(key, node),
        }
    }
}

/// Reads the `mqtt` block.
pub(super) fn read_mqtt(r: &mut Reader, node: &Node, out: &mut MqttOptions) {
    let Some(map) = r.map(node, "Expected mqtt to be a map") else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "listen" => put(&mut out.listen, r.listen(node)),
            "port" => put(&mut out.listen.port, r.port(node)),
            "host" | "net" => put(&mut out.listen.host, r.text(node)),
            "tls" => out.tls = read_tls(r, node, Side::Client),
            "authorization" | "authentication" => out.auth = read_simple_auth(r, node),
            "no_auth_user" => {
                r.place("mqtt.no_auth_user", node);
                put(&mut out.no_auth_user, r.text(node));
            }
            "ack_wait" | "ackwait" => out.ack_wait = r.duration(node, "ack_wait"),
            "js_api_timeout" | "api_timeout" => {
                out.js_api_timeout = r.duration(node, "js_api_timeout");
            }
            "max_ack_pending" | "max_pending" | "max_inflight" => {
                out.ack_pending_max = read_ack_pending(r, node);
            }
            "js_domain" => put(&mut out.js_domain, r.text(node)),
            "stream_replicas" => put(&mut out.stream_replicas, r.int(node)),
            "consumer_replicas" => {
                let reason = "consumer replicas setting ignored in this server version";
                r.misuse(node, key, reason);
            }
            "consumer_memory_storage" => put(&mut out.consumer_memory_storage, r.flag(node)),
            "consumer_inactive_threshold" | "consumer_auto_cleanup" => {
                out.consumer_inactive_threshold = r.duration(node, "consumer_inactive_threshold");
            }
            "reject_qos2_publish" => put(&mut out.reject_qos2_publish, r.flag(node)),
            "downgrade_qos2_subscribe" => put(&mut out.downgrade_qos2_subscribe, r.flag(node)),
            _ => r.unknown(key, node),
        }
    }
}

fn read_ack_pending(r: &mut Reader, node: &Node) -> Option<u16> {
    match node.value {
        Value::Int(number) => {
            let pending = u16::try_from(number).ok();
            if pending.is_none() {
                r.error(node, format!("invalid value {number}, should in [0..65535] range"));
            }
            pending.filter(|pending| *pending != 0)
        }
        _ => {
            r.wrong_type(node, "int64");
            None
        }
    }
}
