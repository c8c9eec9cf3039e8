//! The monitoring pages: names and types of their fields, and what they count.

use serde_json::Value;

use crate::support::server::oracle;
use crate::support::{Conn, Server, http, poll};

/// The type a field must have.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Int,
    Number,
    Time,
    List,
    Map,
}

use Kind::{Int, List, Map, Number, Text, Time};

fn check(page: &Value, fields: &[(&str, Kind)]) {
    for (name, kind) in fields {
        let value = page.get(name).unwrap_or_else(|| panic!("no {name} in {page:#}"));
        let fits = match kind {
            Text => value.is_string(),
            Int => value.is_u64() || value.is_i64(),
            Number => value.is_number(),
            Time => value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
            List => value.is_array(),
            Map => value.is_object(),
        };
        assert!(fits, "{name} is {value}, not {kind:?}");
    }
}

#[test]
fn varz_has_the_fields_and_types_of_nats_server() {
    let server = Server::monitored("server_name: mon\nping_interval: \"30s\"");
    let varz = http::json(&server, "/varz");
    check(
        &varz,
        &[
            ("server_id", Text),
            ("server_name", Text),
            ("version", Text),
            ("proto", Int),
            ("go", Text),
            ("host", Text),
            ("port", Int),
            ("max_connections", Int),
            ("ping_interval", Int),
            ("ping_max", Int),
            ("http_host", Text),
            ("http_port", Int),
            ("http_base_path", Text),
            ("https_port", Int),
            ("auth_timeout", Number),
            ("max_control_line", Int),
            ("max_payload", Int),
            ("max_pending", Int),
            ("cluster", Map),
            ("gateway", Map),
            ("leaf", Map),
            ("mqtt", Map),
            ("websocket", Map),
            ("jetstream", Map),
            ("tls_timeout", Number),
            ("write_deadline", Int),
            ("start", Time),
            ("now", Time),
            ("uptime", Text),
            ("mem", Int),
            ("cores", Int),
            ("gomaxprocs", Int),
            ("cpu", Number),
            ("connections", Int),
            ("total_connections", Int),
            ("routes", Int),
            ("remotes", Int),
            ("leafnodes", Int),
            ("in_msgs", Int),
            ("out_msgs", Int),
            ("in_bytes", Int),
            ("out_bytes", Int),
            ("in_client_msgs", Int),
            ("in_client_bytes", Int),
            ("out_client_msgs", Int),
            ("out_client_bytes", Int),
            ("slow_consumers", Int),
            ("stale_connections", Int),
            ("stalled_clients", Int),
            ("subscriptions", Int),
            ("http_req_stats", Map),
            ("config_load_time", Time),
            ("config_digest", Text),
            ("system_account", Text),
            ("slow_consumer_stats", Map),
        ],
    );
    assert_eq!(varz["server_name"], "mon");
    assert_eq!(varz["version"], "2.15.1");
    assert_eq!(varz["ping_interval"], 30_000_000_000_u64);
    assert_eq!(varz["port"], server.port);
    assert_eq!(varz["max_payload"], 1_048_576);
}

#[test]
fn varz_counts_messages_and_bytes_of_clients() {
    let server = Server::monitored("");
    let mut receiver = Conn::quiet(server.port);
    receiver.send("SUB n 1\r\n");
    receiver.sync();
    let mut publisher = Conn::quiet(server.port);
    publisher.send("PUB n 5\r\nhello\r\nPUB nobody 3\r\nabc\r\n");
    publisher.sync();
    receiver.expect("MSG n 1 5");
    receiver.expect("hello");
    receiver.sync();
    let varz = poll("the counters", || {
        let varz = http::json(&server, "/varz");
        (varz["out_client_msgs"] == 1).then_some(varz)
    });
    assert_eq!((&varz["in_client_msgs"], &varz["in_client_bytes"]), (&2.into(), &8.into()));
    assert_eq!((&varz["out_msgs"], &varz["out_bytes"]), (&1.into(), &5.into()));
    assert_eq!((&varz["connections"], &varz["total_connections"]), (&2.into(), &2.into()));
    let hits = http::json(&server, "/varz")["http_req_stats"]["/varz"].as_u64();
    assert!(hits.is_some_and(|hits| hits >= 2));
}

#[test]
fn connz_tells_of_each_connection() {
    let server = Server::monitored("");
    let mut one =
        Conn::login(server.port, r#"{"verbose":false,"name":"one","lang":"rs","version":"9.1"}"#);
    one.send("SUB a 1\r\nSUB b q 2\r\nPUB a 2\r\nhi\r\n");
    one.expect("MSG a 1 2");
    one.expect("hi");
    one.sync();
    let connz = http::json(&server, "/connz?subs=detail");
    check(
        &connz,
        &[
            ("server_id", Text),
            ("now", Time),
            ("num_connections", Int),
            ("total", Int),
            ("offset", Int),
            ("limit", Int),
            ("connections", List),
        ],
    );
    assert_eq!((&connz["num_connections"], &connz["limit"]), (&1.into(), &1024.into()));
    let info = &connz["connections"][0];
    check(
        info,
        &[
            ("cid", Int),
            ("kind", Text),
            ("type", Text),
            ("ip", Text),
            ("port", Int),
            ("start", Time),
            ("last_activity", Time),
            ("uptime", Text),
            ("idle", Text),
            ("pending_bytes", Int),
            ("in_msgs", Int),
            ("out_msgs", Int),
            ("in_bytes", Int),
            ("out_bytes", Int),
            ("subscriptions", Int),
            ("subscriptions_list_detail", List),
        ],
    );
    assert_eq!(info["cid"], one.info["client_id"]);
    assert_eq!((&info["name"], &info["lang"]), (&"one".into(), &"rs".into()));
    assert_eq!((&info["version"], &info["subscriptions"]), (&"9.1".into(), &2.into()));
    assert_eq!((&info["kind"], &info["type"]), (&"Client".into(), &"nats".into()));
    let detail = info["subscriptions_list_detail"].as_array().unwrap();
    assert!(detail.iter().any(|sub| sub["subject"] == "b" && sub["qgroup"] == "q"), "{info:#}");
}

#[test]
fn connz_sorts_pages_and_filters() {
    let server = Server::monitored(
        "accounts { A { users = [ { user: a, password: p } ] }, B { users = [ { user: b, password: p } ] } }",
    );
    let login = |user: &str| {
        Conn::login(server.port, &format!(r#"{{"verbose":false,"user":"{user}","pass":"p"}}"#))
    };
    let mut conns: Vec<Conn> = ["a", "b", "a", "b"].into_iter().map(login).collect();
    for (index, conn) in conns.iter_mut().enumerate() {
        for sid in 0..index {
            conn.send(format!("SUB s.{sid} {sid}\r\n"));
        }
        conn.sync();
    }
    let cids = |page: &Value| -> Vec<Value> {
        page["connections"].as_array().unwrap().iter().map(|conn| conn["cid"].clone()).collect()
    };
    let all: Vec<Value> = conns.iter().map(|conn| conn.info["client_id"].clone()).collect();
    let mut ascending = all.clone();
    ascending.sort_by_key(Value::as_u64);
    assert_eq!(cids(&http::json(&server, "/connz")), ascending);
    let by_subs = http::json(&server, "/connz?sort=subs");
    assert_eq!(cids(&by_subs)[0], all[3]);
    let page = http::json(&server, "/connz?limit=2&offset=1");
    assert_eq!(cids(&page), ascending[1..3]);
    assert_eq!((&page["num_connections"], &page["total"]), (&2.into(), &4.into()));
    let of_a = http::json(&server, "/connz?acc=A&auth=true");
    assert_eq!(of_a["num_connections"], 2);
    assert!(of_a["connections"].as_array().unwrap().iter().all(|conn| conn["account"] == "A"));
    let of_b = http::json(&server, "/connz?user=b&auth=true");
    assert_eq!(of_b["num_connections"], 2);
    let unknown = http::json(&server, "/connz?acc=NOBODY");
    assert_eq!((&unknown["connections"], &unknown["server_id"]), (&Value::Null, &"".into()));
}

#[test]
fn connz_keeps_the_closed() {
    let server = Server::monitored("");
    let conn = Conn::quiet(server.port);
    let cid = conn.info["client_id"].clone();
    drop(conn);
    let closed = poll("the closed connection", || {
        let page = http::json(&server, "/connz?state=closed");
        (page["num_connections"] == 1).then_some(page)
    });
    let info = &closed["connections"][0];
    check(info, &[("cid", Int), ("stop", Time), ("reason", Text)]);
    assert_eq!((&info["cid"], &info["reason"]), (&cid, &"Client Closed".into()));
}

/// How many of the page's subscriptions belong to the connection; the server has its own too.
fn own(page: &Value, conn: &Conn) -> usize {
    let all = page["subscriptions_list"].as_array().unwrap();
    all.iter().filter(|sub| sub["cid"] == conn.info["client_id"]).count()
}

#[test]
fn subsz_lists_and_tests_subscriptions() {
    let server = Server::monitored("");
    let mut conn = Conn::quiet(server.port);
    conn.send("SUB foo.* 1\r\nSUB foo.bar q 2\r\nSUB other 3\r\n");
    conn.sync();
    let page = http::json(&server, "/subsz?subs=1&acc=$G");
    check(
        &page,
        &[
            ("server_id", Text),
            ("now", Time),
            ("num_subscriptions", Int),
            ("num_cache", Int),
            ("num_inserts", Int),
            ("num_removes", Int),
            ("num_matches", Int),
            ("cache_hit_rate", Number),
            ("max_fanout", Int),
            ("avg_fanout", Number),
            ("total", Int),
            ("offset", Int),
            ("limit", Int),
            ("subscriptions_list", List),
        ],
    );
    assert_eq!(own(&page, &conn), 3);
    let tested = http::json(&server, "/subsz?subs=1&acc=$G&test=foo.bar");
    assert_eq!(own(&tested, &conn), 2);
    assert_eq!(http::json(&server, "/subscriptionsz")["limit"], 1024);
}

#[test]
fn pages_of_what_is_not_served_yet_are_well_formed() {
    let server = Server::monitored("");
    let routez = http::json(&server, "/routez");
    check(&routez, &[("server_id", Text), ("now", Time), ("num_routes", Int), ("routes", List)]);
    let gatewayz = http::json(&server, "/gatewayz");
    check(&gatewayz, &[("server_id", Text), ("outbound_gateways", Map), ("inbound_gateways", Map)]);
    let leafz = http::json(&server, "/leafz");
    check(&leafz, &[("server_id", Text), ("leafnodes", Int), ("leafs", List)]);
    let jsz = http::json(&server, "/jsz");
    assert_eq!(jsz["disabled"], true);
    check(&jsz, &[("server_id", Text), ("streams", Int), ("consumers", Int), ("messages", Int)]);
    let accountz = http::json(&server, "/accountz");
    check(&accountz, &[("server_id", Text), ("system_account", Text), ("accounts", List)]);
    let accstatz = http::json(&server, "/accstatz?unused=1");
    check(&accstatz, &[("server_id", Text), ("account_statz", List)]);
}

#[test]
fn healthz_says_ok() {
    let server = Server::monitored("");
    let page = http::get(&server, "/healthz");
    assert_eq!((page.status, page.body.trim()), (200, r#"{"status":"ok"}"#));
}

#[test]
fn pages_carry_the_headers_of_nats_server() {
    let server = Server::monitored("");
    let page = http::get(&server, "/varz");
    assert!(page.head.contains("content-type: application/json"), "{}", page.head);
    let root = http::get(&server, "/");
    assert_eq!(root.status, 200);
    assert!(root.head.contains("content-type: text/html"), "{}", root.head);
    assert!(root.body.contains("varz") && root.body.contains("connz"));
    assert_eq!(http::get(&server, "/no-such-page").status, 404);
    assert_eq!(http::get(&server, "/connz?auth=perhaps").status, 400);
    assert_eq!(http::get(&server, "/connz?limit=many").status, 400);
}

#[test]
fn a_reload_moves_the_load_time() {
    let server = Server::monitored("max_payload: 1000");
    let before = http::json(&server, "/varz");
    server.reload("max_payload: 2000");
    let after = poll("a new load time", || {
        let varz = http::json(&server, "/varz");
        (varz["config_load_time"] != before["config_load_time"]).then_some(varz)
    });
    assert_ne!(before["config_digest"], after["config_digest"]);
    assert_eq!(after["max_payload"], 2000);
}

#[test]
fn metrics_are_prometheus_text_with_figures_of_each_shard() {
    if oracle().is_some() {
        return; // nats-server has no such page.
    }
    let server = Server::monitored("");
    let mut conns: Vec<Conn> = (0..4).map(|_| Conn::quiet(server.port)).collect();
    for conn in &mut conns {
        conn.send("SUB m 1\r\nPUB m 2\r\nhi\r\n");
    }
    for conn in &mut conns {
        conn.send("PING\r\n");
        conn.lines_until("PONG");
    }
    let page = http::get(&server, "/metrics");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/plain"), "{}", page.head);
    let mut shards = std::collections::BTreeSet::new();
    let mut typed = std::collections::BTreeSet::new();
    for line in page.body.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.insert(rest.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(value.parse::<f64>().is_ok() || value == "+Inf", "{line}");
            let name = series.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|base| typed.contains(base)));
            assert!(typed.contains(base.unwrap_or(name)), "no type of {name}");
            if let Some((_, rest)) = series.split_once("shard=\"") {
                shards.insert(rest.split('"').next().unwrap());
            }
        }
    }
    assert_eq!(shards.len(), 2, "figures of shards {shards:?} in {}", page.body);
}
