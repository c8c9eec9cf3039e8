//! `/ipqueuesz`: the queues inside the server. Ours are those between shards.

use std::collections::BTreeMap;

use serde::Serialize;

use super::json::indented_by_three;
use super::response::Response;
use super::snapshot::ShardSnapshot;

#[derive(Serialize)]
struct Queue {
    pending: u64,
}

pub(super) fn render(all: bool, name: Option<&str>, shards: &[ShardSnapshot]) -> Response {
    let mut queues = BTreeMap::new();
    for shard in shards {
        for queue in &shard.peers {
            let title = format!("Shard {} to shard {}", shard.shard, queue.peer);
            if (all || queue.msgs > 0) && name.is_none_or(|name| title.contains(name)) {
                queues.insert(title, Queue { pending: queue.msgs });
            }
        }
    }
    Response::json(200, indented_by_three(&queues))
}
