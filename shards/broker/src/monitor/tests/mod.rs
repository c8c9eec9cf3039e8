//! Replies as a whole: a small server that all tests ask, and how they read its answers.

use super::*;

mod connz;
mod hostile;
mod jetstream;
mod metrics;
mod pages;

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_795_508_389 * SECOND + 716_000_000;

fn facts() -> ServerFacts {
    ServerFacts {
        server_id: "NID".into(),
        server_name: "orc".into(),
        version: "2.15.1".into(),
        proto: 1,
        runtime: "rustc".into(),
        build_version: "0.1.0".into(),
        host: "127.0.0.1".into(),
        port: 4222,
        auth_required: true,
        max_connections: 65_536,
        ping_interval_ns: 120 * SECOND,
        ping_max: 2,
        auth_timeout_s: 2.0,
        tls_timeout_s: 3.5,
        start_ns: NOW - 90 * SECOND,
        now_ns: NOW,
        cores: 2,
        max_procs: 2,
        config_load_ns: NOW - 90 * SECOND,
        system_account: "SYS".into(),
        accounts: ["SYS", "$G", "A"]
            .map(|name| AccountFacts { name: name.into(), ..Default::default() })
            .into(),
        ..Default::default()
    }
}

fn conn(cid: u64, account: &str) -> ConnSnapshot {
    ConnSnapshot {
        figures: ConnFigures {
            cid,
            start_ns: NOW - 20 * SECOND,
            last_activity_ns: NOW - 3 * SECOND,
            rtt_ns: 506_789,
            subs: 1,
            ..Default::default()
        },
        ip: "127.0.0.1".into(),
        port: 5000,
        user: format!("user{cid}"),
        account: Some(account.into()),
        subs: vec![SubSnapshot {
            account: account.into(),
            subject: "x.>".into(),
            queue: "q".into(),
            sid: "1".into(),
            msgs: 2,
            max: 5,
            cid,
        }],
        ..Default::default()
    }
}

fn closed(cid: u64, account: &str) -> ConnSnapshot {
    let mut conn = conn(cid, account);
    conn.figures.stop_ns = Some(NOW - SECOND);
    conn.figures.reason = "Client Closed";
    conn
}

fn shard(number: u16, conns: Vec<ConnSnapshot>, closed: Vec<ConnSnapshot>) -> ShardSnapshot {
    ShardSnapshot {
        shard: number,
        connections: conns.len() as u64,
        conns_total: conns.len() as u64,
        closed_total: closed.len() as u64,
        conns,
        closed,
        peers: vec![PeerQueue { peer: 1 - number, msgs: 3, bytes: 40, batches: 1 }],
        ..Default::default()
    }
}

fn ask_of(address: &str, facts: &ServerFacts, shards: &[ShardSnapshot]) -> Response {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    match parse_request("", path.as_bytes(), query.as_bytes()).outcome {
        Ok(request) => render(&request, facts, shards),
        Err(response) => response,
    }
}

fn ask(address: &str, shards: &[ShardSnapshot]) -> String {
    let response = ask_of(address, &facts(), shards);
    assert_eq!(response.status, 200, "{address}");
    String::from_utf8(response.body).unwrap()
}

/// The keys of indented JSON in their order, one word each: dots for the depth, then the name,
/// then a letter for the type (string, number, boolean, null, list, object).
fn shape(json: &str) -> String {
    let mut words = Vec::new();
    for line in json.lines() {
        let trimmed = line.trim_start();
        let Some((key, value)) = trimmed.strip_prefix('"').and_then(|rest| rest.split_once("\": "))
        else {
            continue;
        };
        let kind = match value.as_bytes()[0] {
            b'"' => 's',
            b't' | b'f' => 'b',
            b'n' => '0',
            b'[' => 'l',
            b'{' => 'o',
            _ => 'n',
        };
        let depth = ".".repeat((line.len() - trimmed.len()) / 2 - 1);
        words.push(format!("{depth}{key}:{kind}"));
    }
    words.join(" ")
}
