//! `/jsz`: JetStream as a whole, and by account, stream and consumer.

use serde::Serialize;
use wire::api::config::StreamConfig;
use wire::api::info::{ClusterInfo, ConsumerInfo, SourceInfo, StreamState};
use wire::api::timestamp::Timestamp;

use super::facts::ServerFacts;
use super::jetstream::{
    AccountsNeed, JetStreamAccount, JetStreamConfigFacts, JetStreamLimitFacts, Stats,
    StreamSnapshot, accounts, parts,
};
use super::json::{indented, is_zero};
use super::request::JszOptions;
use super::response::Response;
use super::snapshot::ShardSnapshot;
use super::text::rfc3339;

/// The reply; the order of its fields is the order of nats-server's.
#[derive(Serialize)]
struct JsInfo<'a> {
    #[serde(flatten)]
    stats: Stats,
    server_id: &'a str,
    now: String,
    #[serde(skip_serializing_if = "is_zero")]
    disabled: bool,
    config: JetStreamConfigFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<&'a JetStreamLimitFacts>,
    streams: u64,
    #[serde(skip_serializing_if = "is_zero")]
    streams_leader: u64,
    consumers: u64,
    #[serde(skip_serializing_if = "is_zero")]
    consumers_leader: u64,
    messages: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account_details: Vec<AccountDetail<'a>>,
    total: u64,
}

#[derive(Serialize)]
struct AccountDetail<'a> {
    name: &'a str,
    id: &'a str,
    #[serde(flatten)]
    stats: Stats,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stream_detail: Vec<StreamDetail<'a>>,
}

#[derive(Serialize)]
struct StreamDetail<'a> {
    name: &'a str,
    created: Timestamp,
    cluster: ClusterInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a StreamConfig>,
    state: &'a StreamState,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consumer_detail: Vec<&'a ConsumerInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    direct_consumer_detail: Vec<&'a ConsumerInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<&'a SourceInfo>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sources: &'a [SourceInfo],
}

impl JszOptions {
    /// Whether streams are listed: those who ask for consumers ask for streams.
    pub(super) const fn shows_streams(&self) -> bool {
        self.streams || self.consumers
    }

    fn shows_accounts(&self) -> bool {
        self.accounts || self.account.is_some() || self.shows_streams()
    }

    /// The accounts that are listed. One that is named is shown wherever the page begins.
    pub(super) fn accounts_need(&self) -> AccountsNeed {
        match &self.account {
            Some(name) => AccountsNeed::One(name.clone()),
            None => AccountsNeed::Part(self.page),
        }
    }
}

pub(super) fn render(
    options: &JszOptions,
    facts: &ServerFacts,
    shards: &[ShardSnapshot],
) -> Response {
    let Some(jetstream) = &facts.jetstream else { return disabled(options, facts) };
    let accounts = accounts(shards);
    let sum = |figure: fn(&super::jetstream::JetStreamSnapshot) -> u64| {
        parts(shards).map(figure).fold(0, u64::saturating_add)
    };
    let (streams, consumers) = (sum(|part| part.streams), sum(|part| part.consumers));
    // A single server leads everything that it has.
    let leads = |count| if options.raft { count } else { 0 };
    let shown = if options.shows_accounts() {
        options.accounts_need().pick(accounts, |account| &account.name)
    } else {
        Vec::new()
    };
    let mut rows: Vec<&StreamSnapshot> = parts(shards).flat_map(|part| &part.rows).collect();
    rows.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let reply = JsInfo {
        stats: Stats::of(jetstream.api_level, accounts),
        server_id: &facts.server_id,
        now: rfc3339(facts.now_ns),
        disabled: false,
        config: jetstream.config.clone(),
        limits: Some(&jetstream.limits),
        streams,
        streams_leader: leads(streams),
        consumers,
        consumers_leader: leads(consumers),
        messages: sum(|part| part.messages),
        bytes: sum(|part| part.bytes),
        account_details: shown
            .into_iter()
            .map(|account| account_detail(account, &rows, facts))
            .collect(),
        total: accounts.len() as u64,
    };
    Response::json(200, indented(&reply))
}

/// The reply of a server without JetStream, which leads nothing.
fn disabled(options: &JszOptions, facts: &ServerFacts) -> Response {
    if options.leader_only {
        return Response::bad_request(b"filtered response: not leader".to_vec());
    }
    let reply = JsInfo {
        stats: Stats::default(),
        server_id: &facts.server_id,
        now: rfc3339(facts.now_ns),
        disabled: true,
        config: JetStreamConfigFacts::default(),
        limits: None,
        streams: 0,
        streams_leader: 0,
        consumers: 0,
        consumers_leader: 0,
        messages: 0,
        bytes: 0,
        account_details: Vec::new(),
        total: 0,
    };
    Response::json(200, indented(&reply))
}

fn account_detail<'a>(
    account: &'a JetStreamAccount,
    rows: &[&'a StreamSnapshot],
    facts: &ServerFacts,
) -> AccountDetail<'a> {
    AccountDetail {
        name: &account.name,
        id: &account.name,
        stats: Stats::of_account(account),
        stream_detail: rows
            .iter()
            .filter(|row| row.account == account.name)
            .map(|row| stream_detail(row, facts))
            .collect(),
    }
}

fn stream_detail<'a>(row: &'a StreamSnapshot, facts: &ServerFacts) -> StreamDetail<'a> {
    StreamDetail {
        name: &row.name,
        created: row.created,
        cluster: ClusterInfo { leader: facts.server_name.clone(), ..ClusterInfo::default() },
        config: row.config.as_deref(),
        state: &row.state,
        consumer_detail: row.consumers.iter().map(|consumer| &consumer.info).collect(),
        direct_consumer_detail: row
            .direct_consumers
            .iter()
            .map(|consumer| &consumer.info)
            .collect(),
        mirror: row.mirror.as_ref(),
        sources: &row.sources,
    }
}
