//! Monitoring across shards: shard 0 takes a request, asks every shard for its figures, and
//! renders the answer when all have come.

use std::sync::Arc;

use broker::monitor::{
    Endpoint, GatherNeeds, HttpRequest, MonitorRequest, Response, ServerFacts, ShardSnapshot,
    parse_request, render,
};

use crate::control::Control;
use crate::turn::Reactor;

/// Requests that may wait for figures at once.
const WAITING_MAX: usize = 64;

/// What the process tells about itself when it is asked; times and CPU are read then.
pub type FactsSource = Arc<dyn Fn() -> ServerFacts + Send + Sync>;

/// A request that waits.
struct Waiting {
    id: u64,
    sock: u32,
    generation: u32,
    request: MonitorRequest,
    facts: ServerFacts,
    snapshots: Vec<ShardSnapshot>,
}

/// The monitoring state of shard 0.
pub(crate) struct Gathering {
    facts: FactsSource,
    base_path: String,
    waiting: Vec<Waiting>,
    next_id: u64,
    counts: broker::monitor::RequestCounts,
}

impl Gathering {
    pub(crate) fn new(facts: FactsSource, base_path: String) -> Self {
        let counts = broker::monitor::RequestCounts::default();
        Self { facts, base_path, waiting: Vec::new(), next_id: 0, counts }
    }
}

impl Reactor {
    /// This shard's figures.
    pub(crate) fn snapshot(&mut self, needs: &GatherNeeds) -> ShardSnapshot {
        let mut snapshot = self.shard.broker.snapshot(needs, self.now);
        snapshot.turns = self.turns.clone();
        if let Some(need) = &needs.jetstream {
            snapshot.jetstream = self.jetstream_snapshot(need).map(Box::new);
        }
        snapshot
    }

    /// A request came on the monitoring port: the answer follows when every shard has spoken.
    pub(crate) fn handle_monitor_request(&mut self, at: u32, generation: u32, http: &HttpRequest) {
        let parsed = parse_request(&self.gathering.base_path, &http.path, &http.query);
        if let Some(endpoint) = parsed.counted {
            self.count_request(endpoint);
        }
        let request = match parsed.outcome {
            Ok(request) => request,
            Err(response) => return self.respond(at, generation, &response),
        };
        if self.gathering.waiting.len() >= WAITING_MAX {
            return self.drop_sock(at);
        }
        let mut facts = (self.gathering.facts)();
        facts.http_requests = self.gathering.counts.clone();
        facts.now_ns = self.now.wall_ns.max(0) as u64;
        let needs = Arc::new(request.needs(facts.now_ns));
        self.gathering.next_id += 1;
        let id = self.gathering.next_id;
        self.gathering.waiting.push(Waiting {
            id,
            sock: at,
            generation,
            request,
            facts,
            snapshots: Vec::new(),
        });
        for shard in 0..self.shared.shards() {
            if shard != self.id {
                self.shared.send(shard, Control::Gather { id, needs: Arc::clone(&needs) });
            }
        }
        let own = self.snapshot(&needs);
        self.handle_gathered(id, own);
    }

    fn count_request(&mut self, endpoint: Endpoint) {
        self.gathering.counts.record(endpoint);
    }

    /// Figures of a shard: the last one completes the answer.
    pub(crate) fn handle_gathered(&mut self, id: u64, snapshot: ShardSnapshot) {
        let shards = self.shared.shards();
        let waiting = &mut self.gathering.waiting;
        let Some(at) = waiting.iter().position(|waiting| waiting.id == id) else { return };
        let Some(entry) = waiting.get_mut(at) else { return };
        entry.snapshots.push(snapshot);
        if entry.snapshots.len() < shards {
            return;
        }
        let mut done = waiting.swap_remove(at);
        done.snapshots.sort_by_key(|snapshot| snapshot.shard);
        let response = render(&done.request, &done.facts, &done.snapshots);
        self.respond(done.sock, done.generation, &response);
    }

    fn respond(&mut self, at: u32, generation: u32, response: &Response) {
        let Some(http) = self.http_of(at, generation) else { return };
        let steps = http.http.handle_response(response);
        self.handle_http_steps(at, generation, steps);
    }
}
