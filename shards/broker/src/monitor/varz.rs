//! `/varz`: the server's identity, limits and general figures.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::ServerFacts;
use super::jetstream::{JetStreamConfigFacts, JetStreamLimitFacts, Stats, accounts};
use super::json::{indented, is_zero};
use super::response::Response;
use super::snapshot::{KindCounts, ShardSnapshot, Traffic};
use super::text::{rfc3339, uptime};

/// The reply; the order of its fields is the order of nats-server's.
#[derive(Serialize)]
struct Varz<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    git_commit: &'a str,
    go: &'a str,
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "is_zero")]
    auth_required: bool,
    #[serde(skip_serializing_if = "is_zero")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_zero")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    connect_urls: &'a [String],
    max_connections: i64,
    #[serde(skip_serializing_if = "is_zero")]
    max_subscriptions: u64,
    ping_interval: u64,
    ping_max: u64,
    http_host: &'a str,
    http_port: i32,
    http_base_path: &'a str,
    https_port: i32,
    auth_timeout: f64,
    max_control_line: u64,
    max_payload: u64,
    max_pending: u64,
    cluster: Unset,
    gateway: Unset,
    leaf: Unset,
    mqtt: Unset,
    websocket: Unset,
    jetstream: JetStreamVarz<'a>,
    tls_timeout: f64,
    write_deadline: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    write_timeout: &'a str,
    start: String,
    now: String,
    uptime: String,
    mem: u64,
    cores: u32,
    gomaxprocs: u32,
    cpu: f64,
    connections: u64,
    total_connections: u64,
    routes: u64,
    remotes: u64,
    leafnodes: u64,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    subscriptions: u64,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: String,
    config_digest: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    feature_flags: &'a BTreeMap<String, bool>,
    #[serde(skip_serializing_if = "str::is_empty")]
    system_account: &'a str,
    slow_consumer_stats: Kinds,
    stale_connection_stats: Kinds,
    disk_io_wait_stats: DiskWaits,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<String>,
}

/// JetStream; empty when it is off.
#[derive(Default, Serialize)]
struct JetStreamVarz<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a JetStreamConfigFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<&'a JetStreamLimitFacts>,
}

impl<'a> JetStreamVarz<'a> {
    fn new(facts: &'a ServerFacts, shards: &[ShardSnapshot]) -> Self {
        facts.jetstream.as_ref().map_or_else(Self::default, |jetstream| Self {
            config: Some(&jetstream.config),
            stats: Some(Stats::of(jetstream.api_level, accounts(shards))),
            limits: Some(&jetstream.limits),
        })
    }
}

/// The block of a part that is not configured.
#[derive(Serialize)]
struct Unset {}

#[derive(Serialize)]
struct Kinds {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl From<KindCounts> for Kinds {
    fn from(counts: KindCounts) -> Self {
        let KindCounts { clients, routes, gateways, leafs } = counts;
        Self { clients, routes, gateways, leafs }
    }
}

/// Waits for a free slot of disk work. The shards have no such gate, so nothing ever waits.
#[derive(Serialize)]
struct DiskWaits {
    waiters: u64,
    waits: u64,
    wait_time: u64,
    max_wait_time: u64,
}

/// The sums over all shards.
#[derive(Default)]
struct Sums {
    all: Traffic,
    clients: Traffic,
    slow: KindCounts,
    stale: KindCounts,
    stalls: u64,
    connections: u64,
    total_connections: u64,
    subscriptions: u64,
}

impl Sums {
    fn of(shards: &[ShardSnapshot]) -> Self {
        let mut sums = Self::default();
        for shard in shards {
            sums.all.add(&shard.traffic);
            sums.clients.add(&shard.client_traffic);
            sums.slow.add(&shard.slow_consumers);
            sums.stale.add(&shard.stale);
            sums.stalls = sums.stalls.wrapping_add(shard.stalls);
            sums.connections = sums.connections.wrapping_add(shard.connections);
            sums.total_connections = sums.total_connections.wrapping_add(shard.total_connections);
            sums.subscriptions = sums.subscriptions.wrapping_add(shard.subscriptions);
        }
        sums
    }
}

pub(super) fn render(facts: &ServerFacts, shards: &[ShardSnapshot]) -> Response {
    Response::json(
        200,
        indented(&varz(facts, &Sums::of(shards), JetStreamVarz::new(facts, shards))),
    )
}

// One line for each field of the reply; cutting it would only scatter the list.
#[allow(clippy::too_many_lines)]
fn varz<'a>(facts: &'a ServerFacts, sums: &Sums, jetstream: JetStreamVarz<'a>) -> Varz<'a> {
    Varz {
        server_id: &facts.server_id,
        server_name: &facts.server_name,
        version: &facts.version,
        proto: facts.proto,
        git_commit: &facts.git_commit,
        go: &facts.runtime,
        host: &facts.host,
        port: facts.port,
        auth_required: facts.auth_required,
        tls_required: facts.tls_required,
        tls_verify: facts.tls_verify,
        connect_urls: &facts.connect_urls,
        max_connections: facts.max_connections,
        max_subscriptions: facts.max_subscriptions,
        ping_interval: facts.ping_interval_ns,
        ping_max: facts.ping_max,
        http_host: &facts.http_host,
        http_port: facts.http_port,
        http_base_path: &facts.http_base_path,
        https_port: facts.https_port,
        auth_timeout: facts.auth_timeout_s,
        max_control_line: facts.max_control_line,
        max_payload: facts.max_payload,
        max_pending: facts.max_pending,
        cluster: Unset {},
        gateway: Unset {},
        leaf: Unset {},
        mqtt: Unset {},
        websocket: Unset {},
        jetstream,
        tls_timeout: facts.tls_timeout_s,
        write_deadline: facts.write_deadline_ns,
        write_timeout: &facts.write_timeout,
        start: rfc3339(facts.start_ns),
        now: rfc3339(facts.now_ns),
        uptime: uptime(facts.start_ns, facts.now_ns),
        mem: facts.mem_bytes,
        cores: facts.cores,
        gomaxprocs: facts.max_procs,
        cpu: facts.cpu_percent,
        connections: sums.connections,
        total_connections: sums.total_connections,
        routes: 0,
        remotes: 0,
        leafnodes: 0,
        in_msgs: sums.all.in_msgs,
        in_bytes: sums.all.in_bytes,
        in_client_msgs: sums.clients.in_msgs,
        in_client_bytes: sums.clients.in_bytes,
        out_msgs: sums.all.out_msgs,
        out_bytes: sums.all.out_bytes,
        out_client_msgs: sums.clients.out_msgs,
        out_client_bytes: sums.clients.out_bytes,
        slow_consumers: sums.slow.total(),
        stale_connections: sums.stale.total(),
        stalled_clients: sums.stalls,
        subscriptions: sums.subscriptions,
        http_req_stats: facts.http_requests.by_path(),
        config_load_time: rfc3339(facts.config_load_ns),
        config_digest: &facts.config_digest,
        tags: &facts.tags,
        metadata: &facts.metadata,
        feature_flags: &facts.feature_flags,
        system_account: &facts.system_account,
        slow_consumer_stats: sums.slow.into(),
        stale_connection_stats: sums.stale.into(),
        disk_io_wait_stats: DiskWaits { waiters: 0, waits: 0, wait_time: 0, max_wait_time: 0 },
        tls_cert_not_after: facts
            .tls_cert_not_after_s
            .map(|seconds| rfc3339(seconds.saturating_mul(1_000_000_000))),
    }
}
