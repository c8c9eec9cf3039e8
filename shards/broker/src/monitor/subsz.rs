//! `/subsz`: the subject index and, if asked for, the subscriptions in it.

use serde::Serialize;

use super::connz::SubDetail;
use super::facts::ServerFacts;
use super::json::indented;
use super::request::SubszOptions;
use super::response::Response;
use super::snapshot::{IndexStats, ShardSnapshot};
use super::text::rfc3339;

/// The reply.
#[derive(Serialize)]
struct Subsz<'a> {
    server_id: &'a str,
    now: String,
    #[serde(flatten)]
    stats: SublistStats,
    total: u64,
    offset: i64,
    limit: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubDetail<'a>>,
}

/// Index figures, in `/subsz` and `/accountz`.
#[derive(Serialize)]
pub(super) struct SublistStats {
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: f64,
    max_fanout: u64,
    avg_fanout: f64,
}

impl From<&IndexStats> for SublistStats {
    fn from(stats: &IndexStats) -> Self {
        Self {
            num_subscriptions: stats.subs,
            num_cache: stats.cache_entries,
            num_inserts: stats.inserts,
            num_removes: stats.removes,
            num_matches: stats.matches,
            cache_hit_rate: ratio(stats.cache_hits, stats.matches),
            max_fanout: stats.fanout_max,
            avg_fanout: ratio(stats.fanout_sum, stats.cache_entries),
        }
    }
}

/// A quotient for display; above 2^53 the counts lose digits that nobody reads.
#[allow(clippy::cast_precision_loss)]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The index figures of one account over all shards.
pub(super) fn account_index(name: &str, shards: &[ShardSnapshot]) -> IndexStats {
    let mut sum = IndexStats::default();
    for shard in shards {
        for account in shard.accounts.iter().filter(|account| account.name == name) {
            sum.add(&account.index);
        }
    }
    sum
}

pub(super) fn render(
    options: &SubszOptions,
    facts: &ServerFacts,
    shards: &[ShardSnapshot],
) -> Response {
    let index = match &options.account {
        Some(name) => account_index(name, shards),
        None => shards.iter().fold(IndexStats::default(), |mut sum, shard| {
            sum.add(&shard.index);
            sum
        }),
    };
    let rows = shards.iter().flat_map(|shard| &shard.subs).filter(|_| options.subs);
    let reply = Subsz {
        server_id: &facts.server_id,
        now: rfc3339(facts.now_ns),
        stats: SublistStats::from(&index),
        total: match options.subs {
            true => shards.iter().fold(0, |sum, shard| shard.subs_total.saturating_add(sum)),
            false => 0,
        },
        offset: options.page.offset,
        limit: options.page.limit,
        subscriptions_list: rows
            .skip(options.page.skip())
            .take(options.page.take())
            .map(|sub| SubDetail::new(sub, &sub.account))
            .collect(),
    };
    Response::json(200, indented(&reply))
}
