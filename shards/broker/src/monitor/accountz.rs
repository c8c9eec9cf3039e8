//! `/accountz`: the names of all accounts, or the details of one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::{AccountFacts, ExportFacts, ImportFacts, MappingFacts, ServerFacts};
use super::json::{indented, is_zero};
use super::response::Response;
use super::snapshot::ShardSnapshot;
use super::subsz::{SublistStats, account_index};
use super::text::rfc3339;

/// The reply.
#[derive(Serialize)]
struct Accountz<'a> {
    server_id: &'a str,
    now: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    system_account: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<AccountInfo<'a>>,
}

#[derive(Serialize)]
struct AccountInfo<'a> {
    account_name: &'a str,
    update_time: String,
    #[serde(skip_serializing_if = "is_zero")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: u64,
    client_connections: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    mappings: BTreeMap<&'a str, Vec<MapDest<'a>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exports: Vec<Export<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imports: Vec<Import<'a>>,
    name_tag: &'a str,
    sublist_stats: SublistStats,
}

#[derive(Serialize)]
struct MapDest<'a> {
    subject: &'a str,
    weight: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster: &'a str,
}

#[derive(Serialize)]
struct Export<'a> {
    subject: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    response_type: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    approved_accounts: &'a [String],
}

#[derive(Serialize)]
struct Import<'a> {
    subject: &'a str,
    account: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    to: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    local_subject: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    invalid: bool,
    share: bool,
    tracking: bool,
}

const fn kind(is_service: bool) -> &'static str {
    if is_service { "service" } else { "stream" }
}

impl<'a> From<&'a MappingFacts> for MapDest<'a> {
    fn from(mapping: &'a MappingFacts) -> Self {
        Self { subject: &mapping.subject, weight: mapping.weight, cluster: &mapping.cluster }
    }
}

impl<'a> From<&'a ExportFacts> for Export<'a> {
    fn from(export: &'a ExportFacts) -> Self {
        Self {
            subject: &export.subject,
            kind: kind(export.is_service),
            response_type: &export.response_type,
            approved_accounts: &export.approved_accounts,
        }
    }
}

impl<'a> From<&'a ImportFacts> for Import<'a> {
    fn from(import: &'a ImportFacts) -> Self {
        Self {
            subject: &import.subject,
            account: &import.account,
            to: &import.to,
            local_subject: &import.local_subject,
            kind: kind(import.is_service),
            invalid: import.is_invalid,
            share: import.shares_client,
            tracking: false,
        }
    }
}

pub(super) fn render(
    name: Option<&str>,
    facts: &ServerFacts,
    shards: &[ShardSnapshot],
) -> Response {
    let mut reply = Accountz {
        server_id: &facts.server_id,
        now: rfc3339(facts.now_ns),
        system_account: &facts.system_account,
        accounts: Vec::new(),
        account_detail: None,
    };
    match name {
        None => {
            reply.accounts = facts.accounts.iter().map(|account| account.name.as_str()).collect();
            reply.accounts.sort_unstable();
        }
        Some(name) => {
            let Some(account) = facts.account(name) else {
                let text = format!("Account {name} does not exist");
                return Response::bad_request(text.into_bytes());
            };
            reply.account_detail = Some(detail(account, facts, shards));
        }
    }
    Response::json(200, indented(&reply))
}

fn detail<'a>(
    account: &'a AccountFacts,
    facts: &ServerFacts,
    shards: &[ShardSnapshot],
) -> AccountInfo<'a> {
    let index = account_index(&account.name, shards);
    let parts = || {
        let all = shards.iter().flat_map(|shard| &shard.accounts);
        all.filter(|part| part.name == account.name)
    };
    AccountInfo {
        account_name: &account.name,
        update_time: rfc3339(account.updated_ns),
        is_system: account.name == facts.system_account,
        expired: false,
        complete: true,
        jetstream_enabled: account.jetstream,
        leafnode_connections: parts().fold(0, |sum, part| part.leafnodes.saturating_add(sum)),
        client_connections: parts().fold(0, |sum, part| part.connections.saturating_add(sum)),
        subscriptions: index.subs,
        mappings: account
            .mappings
            .iter()
            .map(|(from, to)| (from.as_str(), to.iter().map(MapDest::from).collect()))
            .collect(),
        exports: account.exports.iter().map(Export::from).collect(),
        imports: account.imports.iter().map(Import::from).collect(),
        name_tag: &account.name,
        sublist_stats: SublistStats::from(&index),
    }
}
