//! `/connz`: connections, open and closed, sorted and in pages.

use serde::Serialize;

use super::facts::{GLOBAL_ACCOUNT, ServerFacts};
use super::json::{indented, is_zero};
use super::request::{ConnState, ConnzOptions, SubsDetail};
use super::response::Response;
use super::snapshot::{ClientType, ConnKind, ConnSnapshot, PeerCert, ShardSnapshot, SubSnapshot};
use super::text::{rfc3339, round_trip, uptime};

/// The reply.
#[derive(Serialize)]
struct Connz<'a> {
    server_id: &'a str,
    now: String,
    num_connections: usize,
    total: u64,
    offset: i64,
    limit: i64,
    /// `null` when the request names an account that does not exist.
    connections: Option<Vec<ConnInfo<'a>>>,
}

/// One connection; the order of its fields is the order of nats-server's.
#[derive(Serialize)]
struct ConnInfo<'a> {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    client_type: Option<&'static str>,
    ip: &'a str,
    port: u16,
    start: String,
    last_activity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    rtt: String,
    uptime: String,
    idle: String,
    pending_bytes: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stalls: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tls_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tls_cipher_suite: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_peer_certs: Vec<TlsPeerCert<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    tls_first: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    authorized_user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    account: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubDetail<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    issuer_key: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name_tag: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    mqtt_client: &'a str,
}

#[derive(Serialize)]
struct TlsPeerCert<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    spki_sha256: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cert_sha256: &'a str,
}

impl<'a> From<&'a PeerCert> for TlsPeerCert<'a> {
    fn from(cert: &'a PeerCert) -> Self {
        Self {
            subject: &cert.subject,
            spki_sha256: &cert.spki_sha256,
            cert_sha256: &cert.cert_sha256,
        }
    }
}

/// One subscription, in `/connz` and `/subsz`.
#[derive(Serialize)]
pub(super) struct SubDetail<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    account: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    account_tag: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    qgroup: &'a str,
    sid: &'a str,
    msgs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    cid: u64,
}

impl<'a> SubDetail<'a> {
    /// The subscription with an account in front; an empty one is left out.
    pub(super) fn new(sub: &'a SubSnapshot, account: &'a str) -> Self {
        Self {
            account,
            account_tag: account,
            subject: &sub.subject,
            qgroup: &sub.queue,
            sid: &sub.sid,
            msgs: sub.msgs,
            max: sub.max,
            cid: sub.cid,
        }
    }
}

pub(super) fn render(
    options: &ConnzOptions,
    facts: &ServerFacts,
    shards: &[ShardSnapshot],
) -> Response {
    let mut reply = Connz {
        server_id: "",
        now: rfc3339(facts.now_ns),
        num_connections: 0,
        total: 0,
        offset: options.page.offset,
        limit: options.page.limit,
        connections: None,
    };
    let is_known = options.account.as_deref().is_none_or(|name| facts.account(name).is_some());
    if is_known {
        let rows = page(options, facts.now_ns, shards);
        reply.server_id = &facts.server_id;
        reply.num_connections = rows.len();
        reply.total = total(options.state, shards);
        let infos = rows.into_iter().map(|row| conn_info(row, options, facts.now_ns));
        reply.connections = Some(infos.collect());
    }
    Response::json(200, indented(&reply))
}

fn total(state: ConnState, shards: &[ShardSnapshot]) -> u64 {
    shards.iter().fold(0, |sum, shard| {
        let rows = match state {
            ConnState::Open => shard.conns_total,
            ConnState::Closed => shard.closed_total,
            ConnState::All => shard.conns_total.saturating_add(shard.closed_total),
        };
        rows.saturating_add(sum)
    })
}

/// Merges the rows of all shards and cuts out the page.
fn page<'a>(
    options: &ConnzOptions,
    now_ns: u64,
    shards: &'a [ShardSnapshot],
) -> Vec<&'a ConnSnapshot> {
    let open = options.state != ConnState::Closed;
    let closed = options.state != ConnState::Open;
    let mut rows: Vec<&ConnSnapshot> = shards
        .iter()
        .flat_map(|shard| {
            let open_rows = shard.conns.iter().filter(move |_| open);
            open_rows.chain(shard.closed.iter().filter(move |_| closed))
        })
        .collect();
    rows.sort_unstable_by(|one, other| options.sort.compare(now_ns, &one.figures, &other.figures));
    rows.into_iter().skip(options.page.skip()).take(options.page.take()).collect()
}

fn conn_info<'a>(conn: &'a ConnSnapshot, options: &ConnzOptions, now_ns: u64) -> ConnInfo<'a> {
    let figures = &conn.figures;
    let until_ns = figures.stop_ns.unwrap_or(now_ns);
    let tls = conn.tls.as_ref();
    let is_client = conn.kind == ConnKind::Client;
    let mut info = ConnInfo {
        cid: figures.cid,
        kind: conn.kind.text(),
        client_type: is_client.then(|| conn.client_type.text()),
        ip: &conn.ip,
        port: conn.port,
        start: rfc3339(figures.start_ns),
        last_activity: rfc3339(figures.last_activity_ns),
        stop: figures.stop_ns.map(rfc3339),
        reason: figures.reason,
        rtt: round_trip(figures.rtt_ns),
        uptime: uptime(figures.start_ns, until_ns),
        idle: uptime(figures.last_activity_ns, until_ns),
        pending_bytes: figures.pending_bytes,
        in_msgs: figures.in_msgs,
        out_msgs: figures.out_msgs,
        in_bytes: figures.in_bytes,
        out_bytes: figures.out_bytes,
        stalls: figures.stalls,
        subscriptions: figures.subs,
        name: &conn.name,
        lang: &conn.lang,
        version: &conn.version,
        tls_version: tls.map_or("", |tls| tls.version),
        tls_cipher_suite: tls.map_or("", |tls| &tls.cipher_suite),
        tls_peer_certs: tls
            .map_or_else(Vec::new, |tls| tls.peer_certs.iter().map(TlsPeerCert::from).collect()),
        tls_first: tls.is_some_and(|tls| tls.first),
        authorized_user: "",
        account: "",
        subscriptions_list: Vec::new(),
        subscriptions_list_detail: Vec::new(),
        issuer_key: "",
        name_tag: "",
        tags: &[],
        mqtt_client: match conn.client_type {
            ClientType::Mqtt => &conn.mqtt_client,
            ClientType::Nats | ClientType::Websocket => "",
        },
    };
    list_subs(&mut info, conn, options.subs);
    if options.auth {
        show_identity(&mut info, conn);
    }
    info
}

/// Only a closed connection's subscriptions name their account, as in nats-server.
fn list_subs<'a>(info: &mut ConnInfo<'a>, conn: &'a ConnSnapshot, subs: SubsDetail) {
    match subs {
        SubsDetail::None => {}
        SubsDetail::Subjects => {
            info.subscriptions_list = conn.subs.iter().map(|sub| sub.subject.as_str()).collect();
        }
        SubsDetail::Detail => {
            let account = match conn.figures.stop_ns {
                Some(_) => conn.account.as_deref().unwrap_or_default(),
                None => "",
            };
            info.subscriptions_list_detail =
                conn.subs.iter().map(|sub| SubDetail::new(sub, account)).collect();
        }
    }
}

/// The account field leaves out the global account; the tag shows it while the connection is
/// open.
fn show_identity<'a>(info: &mut ConnInfo<'a>, conn: &'a ConnSnapshot) {
    info.authorized_user = &conn.user;
    info.issuer_key = &conn.issuer_key;
    info.tags = &conn.tags;
    let Some(account) = conn.account.as_deref() else {
        return;
    };
    let is_global = account == GLOBAL_ACCOUNT;
    if !is_global {
        info.account = account;
    }
    if !is_global || conn.figures.stop_ns.is_none() {
        info.name_tag = account;
    }
}
