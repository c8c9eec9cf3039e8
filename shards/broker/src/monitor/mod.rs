//! Monitoring: from an HTTP request's bytes to a reply, without a socket, a clock or a lock.
//!
//! ```text
//!  socket ──bytes──► http::HttpConn ──path, query──► request::parse_request ──► MonitorRequest
//!                         ▲                                │ error                  │ needs()
//!                         │                                ▼                        ▼
//!                         └──────── Response ◄──────── (shard 0) ◄── GatherNeeds to every shard
//!                                      ▲                                            │
//!                                      └─ render(request, ServerFacts, [ShardSnapshot]) ◄┘
//! ```
//!
//! Every shard answers with a [`ShardSnapshot`] that holds its counters and the few rows the page
//! can use; shard 0 merges them. Names, order, types and texts are those of nats-server's
//! monitoring; `/metrics` is our own. Everything here is owned data, so [`render`] may also run
//! away from the shards when a page is large.

mod accountz;
mod accstatz;
mod connz;
mod expvar;
mod facts;
mod healthz;
mod http;
mod ipqueuesz;
mod jetstream;
mod json;
mod jsz;
mod links;
mod metrics;
mod metrics_jetstream;
mod needs;
mod path;
mod query;
mod raftz;
mod request;
mod response;
mod root;
pub mod settings;
mod snapshot;
mod sort;
mod stacksz;
mod subsz;
mod text;
mod varz;

pub use facts::{
    AccountFacts, ExportFacts, GLOBAL_ACCOUNT, ImportFacts, MappingFacts, ServerFacts,
};
pub use http::{HttpConn, HttpRequest, Step};
pub use jetstream::{
    AccountsNeed, ConsumerSnapshot, DiskSnapshot, FailedStream, JetStreamAccount,
    JetStreamConfigFacts, JetStreamFacts, JetStreamLimitFacts, JetStreamNeed, JetStreamSnapshot,
    ScrubSnapshot, StreamSnapshot, StreamsNeed,
};
pub use needs::{ConnLook, ConnsNeed, GatherNeeds, SubsNeed};
pub use request::{
    ConnState, ConnzOptions, Endpoint, HealthzOptions, JszOptions, MonitorRequest, Page, Parsed,
    RequestCounts, SubsDetail, SubszOptions, parse_request,
};
pub use response::Response;
pub use snapshot::{
    AccountSnapshot, ClientType, ConnFigures, ConnKind, ConnSnapshot, IndexStats, KindCounts,
    PeerCert, PeerQueue, REDACTED_USER, ShardSnapshot, SubSnapshot, TlsSnapshot, Traffic,
    TurnHistogram, TurnStats,
};
pub use sort::{Shortlist, SortKey};

/// Renders the reply to a request from what shard 0 knows and what the shards sent. The order of
/// `shards` decides the order of subscription lists; give it by shard number.
pub fn render(request: &MonitorRequest, facts: &ServerFacts, shards: &[ShardSnapshot]) -> Response {
    match request {
        MonitorRequest::Root => root::render(facts),
        MonitorRequest::Varz => varz::render(facts, shards),
        MonitorRequest::Connz(options) => connz::render(options, facts, shards),
        MonitorRequest::Routez => links::render_routez(facts),
        MonitorRequest::Gatewayz => links::render_gatewayz(facts),
        MonitorRequest::Leafz => links::render_leafz(facts),
        MonitorRequest::Subsz(options) => subsz::render(options, facts, shards),
        MonitorRequest::Accountz(name) => accountz::render(name.as_deref(), facts, shards),
        MonitorRequest::Accstatz(unused) => accstatz::render(*unused, facts, shards),
        MonitorRequest::Jsz(options) => jsz::render(options, facts, shards),
        MonitorRequest::Healthz(options) => healthz::render(options, facts, shards),
        MonitorRequest::Ipqueuesz { all, name } => ipqueuesz::render(*all, name.as_deref(), shards),
        MonitorRequest::Raftz => raftz::render(),
        MonitorRequest::Stacksz => stacksz::render(facts, shards),
        MonitorRequest::Expvar => expvar::render(facts),
        MonitorRequest::Metrics => metrics::render(facts, shards),
    }
}

#[cfg(test)]
mod tests;
