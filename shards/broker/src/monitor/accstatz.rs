//! `/accstatz`: connections and traffic of each account.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::ServerFacts;
use super::json::indented;
use super::response::Response;
use super::snapshot::{AccountSnapshot, ShardSnapshot};
use super::text::rfc3339;

/// The reply.
#[derive(Serialize)]
struct AccountStatz<'a> {
    server_id: &'a str,
    now: String,
    account_statz: Vec<AccountStat<'a>>,
}

#[derive(Serialize)]
struct AccountStat<'a> {
    acc: &'a str,
    name: &'a str,
    conns: u64,
    leafnodes: u64,
    total_conns: u64,
    num_subscriptions: u64,
    sent: DataStats,
    received: DataStats,
    slow_consumers: u64,
}

/// Traffic in one direction; the parts for other servers stay empty without such links.
#[derive(Serialize)]
struct DataStats {
    msgs: u64,
    bytes: u64,
    gateways: MsgBytes,
    routes: MsgBytes,
    leafs: MsgBytes,
}

#[derive(Default, Serialize)]
struct MsgBytes {
    msgs: u64,
    bytes: u64,
}

impl DataStats {
    fn new(msgs: u64, bytes: u64) -> Self {
        let (gateways, routes, leafs) = Default::default();
        Self { msgs, bytes, gateways, routes, leafs }
    }
}

/// The sums of every account over all shards, by name, with the configured accounts that no
/// shard mentions.
pub(super) fn merged<'a>(
    facts: &'a ServerFacts,
    shards: &'a [ShardSnapshot],
) -> BTreeMap<&'a str, AccountSnapshot> {
    let mut sums: BTreeMap<&str, AccountSnapshot> = BTreeMap::new();
    for account in &facts.accounts {
        sums.entry(&account.name).or_default();
    }
    for part in shards.iter().flat_map(|shard| &shard.accounts) {
        let sum = sums.entry(&part.name).or_default();
        sum.connections = sum.connections.saturating_add(part.connections);
        sum.leafnodes = sum.leafnodes.saturating_add(part.leafnodes);
        sum.slow_consumers = sum.slow_consumers.wrapping_add(part.slow_consumers);
        sum.traffic.add(&part.traffic);
        sum.index.add(&part.index);
    }
    sums
}

pub(super) fn render(unused: bool, facts: &ServerFacts, shards: &[ShardSnapshot]) -> Response {
    let reply = AccountStatz {
        server_id: &facts.server_id,
        now: rfc3339(facts.now_ns),
        account_statz: merged(facts, shards)
            .into_iter()
            .map(|(name, sum)| stat(name, &sum))
            .filter(|stat| unused || stat.total_conns > 0)
            .collect(),
    };
    Response::json(200, indented(&reply))
}

fn stat<'a>(name: &'a str, sum: &AccountSnapshot) -> AccountStat<'a> {
    AccountStat {
        acc: name,
        name,
        conns: sum.connections,
        leafnodes: sum.leafnodes,
        total_conns: sum.connections.saturating_add(sum.leafnodes),
        num_subscriptions: sum.index.subs,
        sent: DataStats::new(sum.traffic.out_msgs, sum.traffic.out_bytes),
        received: DataStats::new(sum.traffic.in_msgs, sum.traffic.in_bytes),
        slow_consumers: sum.slow_consumers,
    }
}
