//! From the path and query of an HTTP request to a typed monitoring request, or the HTTP error
//! that nats-server would answer with.

use std::collections::BTreeMap;

use super::query::Query;
pub use super::query::SubsDetail;
use super::response::Response;
use super::settings::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use super::sort::SortKey;

/// The endpoints, one for each page there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/`, the index page.
    Root,
    /// `/varz`
    Varz,
    /// `/connz`
    Connz,
    /// `/routez`
    Routez,
    /// `/gatewayz`
    Gatewayz,
    /// `/leafz`
    Leafz,
    /// `/subsz` and `/subscriptionsz`
    Subsz,
    /// `/accountz`
    Accountz,
    /// `/accstatz`
    Accstatz,
    /// `/jsz`
    Jsz,
    /// `/healthz`
    Healthz,
    /// `/ipqueuesz`
    Ipqueuesz,
    /// `/raftz`
    Raftz,
    /// `/stacksz`
    Stacksz,
    /// `/debug/vars`
    Expvar,
    /// `/metrics`, which nats-server does not have.
    Metrics,
}

impl Endpoint {
    /// Every endpoint, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Root,
        Self::Varz,
        Self::Connz,
        Self::Routez,
        Self::Gatewayz,
        Self::Leafz,
        Self::Subsz,
        Self::Accountz,
        Self::Accstatz,
        Self::Jsz,
        Self::Healthz,
        Self::Ipqueuesz,
        Self::Raftz,
        Self::Stacksz,
        Self::Expvar,
        Self::Metrics,
    ];

    /// The path below the base path, as it is written in `http_req_stats`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Varz => "/varz",
            Self::Connz => "/connz",
            Self::Routez => "/routez",
            Self::Gatewayz => "/gatewayz",
            Self::Leafz => "/leafz",
            Self::Subsz => "/subsz",
            Self::Accountz => "/accountz",
            Self::Accstatz => "/accstatz",
            Self::Jsz => "/jsz",
            Self::Healthz => "/healthz",
            Self::Ipqueuesz => "/ipqueuesz",
            Self::Raftz => "/raftz",
            Self::Stacksz => "/stacksz",
            Self::Expvar => "/debug/vars",
            Self::Metrics => "/metrics",
        }
    }

    /// The endpoint that serves a (decoded) path, given the configured base path.
    fn find(base_path: &str, path: &[u8]) -> Option<Self> {
        let base = base_path.trim_matches('/');
        let mut below = path;
        if !base.is_empty() {
            below = path.strip_prefix(b"/")?.strip_prefix(base.as_bytes())?;
            if below.is_empty() {
                return Some(Self::Root);
            }
            // With a base path the index has no trailing slash.
            if below == b"/" {
                return None;
            }
        }
        if below == b"/subscriptionsz" {
            return Some(Self::Subsz);
        }
        Self::ALL.into_iter().find(|endpoint| endpoint.path().as_bytes() == below)
    }

    /// Whether nats-server counts this endpoint in `http_req_stats`.
    const fn is_counted(self) -> bool {
        !matches!(
            self,
            Self::Ipqueuesz | Self::Raftz | Self::Stacksz | Self::Expvar | Self::Metrics
        )
    }
}

/// How often each endpoint was asked (`http_req_stats`). Lives on: shard 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    counts: [u64; Endpoint::ALL.len()],
}

impl RequestCounts {
    /// Counts one request. To be called with [`Parsed::counted`] before the reply is rendered,
    /// so that a reply counts itself.
    pub fn record(&mut self, endpoint: Endpoint) {
        if let Some(count) = self.counts.get_mut(endpoint as usize) {
            *count = count.wrapping_add(1);
        }
    }

    /// The endpoints asked at least once, by path.
    pub fn by_path(&self) -> BTreeMap<&'static str, u64> {
        Endpoint::ALL
            .into_iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
            .map(|(endpoint, count)| (endpoint.path(), count))
            .collect()
    }
}

/// Which connections `/connz` lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnState {
    /// Connected now.
    #[default]
    Open,
    /// Closed, as far as remembered.
    Closed,
    /// Both.
    All,
}

/// A window into a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows skipped, never negative.
    pub offset: i64,
    /// Rows shown, 1 to [`PAGE_ROWS_MAX`].
    pub limit: i64,
}

impl Default for Page {
    fn default() -> Self {
        Self { offset: 0, limit: PAGE_ROWS_DEFAULT }
    }
}

impl Page {
    fn read(query: &Query) -> Result<Self, String> {
        let offset = query.integer("offset")?.max(0);
        let limit = match query.integer("limit")? {
            ..=0 => PAGE_ROWS_DEFAULT,
            limit => limit.min(PAGE_ROWS_MAX),
        };
        Ok(Self { offset, limit })
    }

    /// Rows skipped, for iterators.
    pub fn skip(self) -> usize {
        usize::try_from(self.offset).unwrap_or(usize::MAX)
    }

    /// Rows shown, for iterators.
    pub fn take(self) -> usize {
        usize::try_from(self.limit).unwrap_or(0)
    }
}

/// What `/connz` was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnzOptions {
    /// The order of the rows.
    pub sort: SortKey,
    /// Whether users and accounts are shown.
    pub auth: bool,
    /// Whether subscriptions are listed.
    pub subs: SubsDetail,
    /// The part of the list.
    pub page: Page,
    /// Only this connection.
    pub cid: Option<u64>,
    /// Open, closed or both.
    pub state: ConnState,
    /// Only connections of this user.
    pub user: Option<String>,
    /// Only connections of this account.
    pub account: Option<String>,
    /// Only the connection of this MQTT client id.
    pub mqtt_client: Option<String>,
}

/// What `/subsz` was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubszOptions {
    /// Whether the subscriptions are listed.
    pub subs: bool,
    /// The part of the list.
    pub page: Page,
    /// Only this account.
    pub account: Option<String>,
    /// Only subscriptions that a message on this subject would reach.
    pub test: Option<String>,
}

/// What `/jsz` was asked for. `stream-leader-only` is read and changes nothing: a single server
/// leads all its streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JszOptions {
    /// Only this account.
    pub account: Option<String>,
    /// Whether accounts are listed.
    pub accounts: bool,
    /// Whether streams are listed; their accounts are then too.
    pub streams: bool,
    /// Whether consumers are listed; their streams are then too.
    pub consumers: bool,
    /// Whether consumers of mirrors and sources are listed beside those of clients.
    pub direct_consumers: bool,
    /// Whether configurations are shown.
    pub config: bool,
    /// Whether it is counted what this server leads.
    pub raft: bool,
    /// Answer only if this server leads the meta group.
    pub leader_only: bool,
    /// The part of the accounts.
    pub page: Page,
}

/// What `/healthz` was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthzOptions {
    /// The account whose stream is probed.
    pub account: Option<String>,
    /// The stream to probe.
    pub stream: Option<String>,
    /// The consumer to probe.
    pub consumer: Option<String>,
    /// Errors as a list of objects.
    pub details: bool,
    /// Judge JetStream only by whether it is on (`js-enabled-only`, and the older `js-enabled`).
    pub enabled_only: bool,
    /// Leave accounts, streams and consumers out.
    pub server_only: bool,
}

/// One request, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorRequest {
    /// The index page.
    Root,
    /// General figures.
    Varz,
    /// Connections.
    Connz(ConnzOptions),
    /// Routes.
    Routez,
    /// Gateways.
    Gatewayz,
    /// Leaf nodes.
    Leafz,
    /// Subscriptions.
    Subsz(SubszOptions),
    /// Accounts, or one of them.
    Accountz(Option<String>),
    /// Traffic of accounts; also of those without connections if true.
    Accstatz(bool),
    /// JetStream.
    Jsz(JszOptions),
    /// Health.
    Healthz(HealthzOptions),
    /// Internal queues.
    Ipqueuesz {
        /// Also the empty ones.
        all: bool,
        /// Only queues whose name holds this text.
        name: Option<String>,
    },
    /// Raft groups.
    Raftz,
    /// A text about what the shards are doing.
    Stacksz,
    /// Process variables.
    Expvar,
    /// Prometheus text.
    Metrics,
}

/// The outcome of reading a request.
#[derive(Debug)]
pub struct Parsed {
    /// What to count with [`RequestCounts::record`].
    pub counted: Option<Endpoint>,
    /// The request, or the error response to send as it is.
    pub outcome: Result<MonitorRequest, Response>,
}

/// Reads a request. `base_path` is the configured `http_base_path`, `path` the raw (still
/// encoded) path and `query` the raw text behind the question mark.
pub fn parse_request(base_path: &str, path: &[u8], query: &[u8]) -> Parsed {
    if let Some(clean) = super::path::cleaned(path) {
        return Parsed { counted: None, outcome: Err(Response::redirect(&clean, query)) };
    }
    let decoded = super::query::percent_decoded(path, false);
    let endpoint = decoded.and_then(|path| Endpoint::find(base_path, &path));
    let Some(endpoint) = endpoint else {
        return Parsed { counted: None, outcome: Err(Response::not_found()) };
    };
    let outcome = read_options(endpoint, &Query::parse(query));
    // These two count themselves only after their parameters were read, the others before.
    let late = matches!(endpoint, Endpoint::Connz | Endpoint::Routez);
    let is_counted = endpoint.is_counted() && !(late && outcome.is_err());
    let outcome = outcome
        .map_err(|text| Response::bad_request(text.into_bytes()))
        .and_then(|request| checked(request, query));
    Parsed { counted: is_counted.then_some(endpoint), outcome }
}

fn read_options(endpoint: Endpoint, query: &Query) -> Result<MonitorRequest, String> {
    Ok(match endpoint {
        Endpoint::Root => MonitorRequest::Root,
        Endpoint::Varz => MonitorRequest::Varz,
        Endpoint::Connz => MonitorRequest::Connz(read_connz(query)?),
        Endpoint::Routez => {
            query.subs_detail()?;
            MonitorRequest::Routez
        }
        Endpoint::Gatewayz => {
            query.subs_detail()?;
            query.boolean("accs")?;
            MonitorRequest::Gatewayz
        }
        Endpoint::Leafz => {
            query.boolean("subs")?;
            MonitorRequest::Leafz
        }
        Endpoint::Subsz => MonitorRequest::Subsz(SubszOptions {
            subs: query.boolean("subs")?,
            page: Page::read(query)?,
            account: query.text("acc"),
            test: query.text("test"),
        }),
        Endpoint::Accountz => MonitorRequest::Accountz(query.text("acc")),
        Endpoint::Accstatz => MonitorRequest::Accstatz(query.boolean("unused")?),
        Endpoint::Jsz => MonitorRequest::Jsz(read_jsz(query)?),
        Endpoint::Healthz => MonitorRequest::Healthz(read_healthz(query)?),
        Endpoint::Ipqueuesz => {
            MonitorRequest::Ipqueuesz { all: query.boolean("all")?, name: query.text("queues") }
        }
        Endpoint::Raftz => MonitorRequest::Raftz,
        Endpoint::Stacksz => MonitorRequest::Stacksz,
        Endpoint::Expvar => MonitorRequest::Expvar,
        Endpoint::Metrics => MonitorRequest::Metrics,
    })
}

/// The parameters are read in nats-server's order, because the first wrong one is reported. The
/// sort key is judged later, after the request has been counted.
fn read_connz(query: &Query) -> Result<ConnzOptions, String> {
    let auth = query.boolean("auth")?;
    let subs = query.subs_detail()?;
    let mut page = Page::read(query)?;
    let cid = match query.unsigned_integer("cid")? {
        0 => None,
        cid => Some(cid),
    };
    if cid.is_some() {
        page.limit = 1;
    }
    let state = query.raw("state");
    let state = match state.to_ascii_lowercase().as_slice() {
        b"" | b"open" => ConnState::Open,
        b"closed" => ConnState::Closed,
        b"any" | b"all" => ConnState::All,
        _ => {
            return Err(format!("Error decoding state for {}", String::from_utf8_lossy(state)));
        }
    };
    Ok(ConnzOptions {
        sort: SortKey::from_name(query.raw("sort")).unwrap_or_default(),
        auth,
        subs,
        page,
        cid,
        state,
        user: query.text("user"),
        account: query.text("acc"),
        mqtt_client: query.text("mqtt_client"),
    })
}

fn read_jsz(query: &Query) -> Result<JszOptions, String> {
    let options = JszOptions {
        accounts: query.boolean("accounts")?,
        streams: query.boolean("streams")?,
        consumers: query.boolean("consumers")?,
        direct_consumers: query.boolean("direct-consumers")?,
        config: query.boolean("config")?,
        page: Page::read(query)?,
        leader_only: query.boolean("leader-only")?,
        raft: query.boolean("raft")?,
        account: query.text("acc"),
    };
    query.boolean("stream-leader-only")?;
    Ok(options)
}

fn read_healthz(query: &Query) -> Result<HealthzOptions, String> {
    let enabled = query.boolean("js-enabled")?;
    let enabled_only = query.boolean("js-enabled-only")?;
    let server_only = query.boolean("js-server-only")?;
    // Without a cluster the meta layer is the server itself, and nats-server looks further.
    query.boolean("js-meta-only")?;
    Ok(HealthzOptions {
        enabled_only: enabled || enabled_only,
        server_only,
        details: query.boolean("details")?,
        account: query.text("account"),
        stream: query.text("stream"),
        consumer: query.text("consumer"),
    })
}

/// The checks on values that nats-server makes after counting.
fn checked(request: MonitorRequest, query: &[u8]) -> Result<MonitorRequest, Response> {
    match &request {
        MonitorRequest::Connz(options) => {
            let query = Query::parse(query);
            let name = query.raw("sort");
            let Some(sort) = SortKey::from_name(name) else {
                return Err(Response::bad_request([b"invalid sorting option: ", name].concat()));
            };
            if sort.needs_closed() && options.state != ConnState::Closed {
                let text = format!("sort by {} only valid on closed connections", sort.name());
                return Err(Response::bad_request(text.into_bytes()));
            }
        }
        MonitorRequest::Subsz(SubszOptions { test: Some(subject), .. })
            if !is_publish_subject(subject) =>
        {
            let text = format!("invalid test subject, must be valid publish subject: {subject}");
            return Err(Response::bad_request(text.into_bytes()));
        }
        _ => {}
    }
    Ok(request)
}

/// Whether a message could be published on this subject: no empty token and no wildcard token.
fn is_publish_subject(subject: &str) -> bool {
    subject.split('.').all(|token| !matches!(token, "" | "*" | ">"))
}

#[cfg(test)]
mod tests;
