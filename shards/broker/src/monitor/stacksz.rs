//! `/stacksz`: what every shard is doing, as text for people. Where nats-server dumps its
//! goroutines, we show each shard's loop and queues.

use std::fmt::Write;

use super::facts::ServerFacts;
use super::response::Response;
use super::snapshot::ShardSnapshot;
use super::text::{go_duration, rfc3339, uptime};

pub(super) fn render(facts: &ServerFacts, shards: &[ShardSnapshot]) -> Response {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "server {} at {}, up {}, {} shards",
        facts.server_id,
        rfc3339(facts.now_ns),
        uptime(facts.start_ns, facts.now_ns),
        shards.len()
    );
    for shard in shards {
        push_shard(&mut text, shard);
    }
    Response::json(200, text.into_bytes())
}

fn push_shard(text: &mut String, shard: &ShardSnapshot) {
    let turns = &shard.turns;
    let count = turns.times.count();
    let mean_ns = turns.times.sum_ns().checked_div(count).unwrap_or(0);
    let _ = writeln!(text, "\nshard {}", shard.shard);
    let _ = writeln!(
        text,
        "  {} connections, {} subscriptions, {} stalls",
        shard.connections, shard.subscriptions, shard.stalls
    );
    let _ = writeln!(
        text,
        "  {count} turns of {} on average, {} sleeps, {} wakes, {} reads, {} writes",
        go_duration(mean_ns),
        turns.sleeps,
        turns.wakes,
        turns.reads,
        turns.writes
    );
    for (bound_ns, turns) in turns.times.buckets().filter(|(_, turns)| *turns > 0) {
        let _ = match bound_ns {
            Some(bound_ns) => writeln!(text, "    up to {:>12} {turns}", go_duration(bound_ns)),
            None => writeln!(text, "    longer {:>14}", turns),
        };
    }
    for queue in &shard.peers {
        let _ = writeln!(
            text,
            "  to shard {}: {} messages, {} bytes, {} batches waiting",
            queue.peer, queue.msgs, queue.bytes, queue.batches
        );
    }
}
