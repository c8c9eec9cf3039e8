//! `/metrics`: the same figures for Prometheus, text format 0.0.4, with the detail of each shard
//! that `/varz` adds up. All names begin with `shearwater_`.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write;

use super::accstatz::merged;
use super::facts::ServerFacts;
use super::response::Response;
use super::settings::{METRICS_ACCOUNTS_MAX, METRICS_LABEL_BYTES_MAX};
use super::snapshot::{AccountSnapshot, PeerQueue, ShardSnapshot, TurnHistogram};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a value only grows.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    const fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A figure that every shard has once.
struct ShardFigure {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&ShardSnapshot) -> u64,
}

const SHARD_FIGURES: [ShardFigure; 24] = [
    figure("connections", Kind::Gauge, "Clients connected.", |shard| shard.connections),
    figure("connections_total", Kind::Counter, "Clients ever accepted.", |shard| {
        shard.total_connections
    }),
    figure("subscriptions", Kind::Gauge, "Subscriptions of the shard's connections.", |shard| {
        shard.subscriptions
    }),
    figure("received_messages_total", Kind::Counter, "Messages received.", |shard| {
        shard.traffic.in_msgs
    }),
    figure("received_bytes_total", Kind::Counter, "Payload bytes received.", |shard| {
        shard.traffic.in_bytes
    }),
    figure("sent_messages_total", Kind::Counter, "Messages sent.", |shard| shard.traffic.out_msgs),
    figure("sent_bytes_total", Kind::Counter, "Payload bytes sent.", |shard| {
        shard.traffic.out_bytes
    }),
    figure("client_received_messages_total", Kind::Counter, "Messages from clients.", |shard| {
        shard.client_traffic.in_msgs
    }),
    figure("client_received_bytes_total", Kind::Counter, "Payload bytes from clients.", |shard| {
        shard.client_traffic.in_bytes
    }),
    figure("client_sent_messages_total", Kind::Counter, "Messages to clients.", |shard| {
        shard.client_traffic.out_msgs
    }),
    figure("client_sent_bytes_total", Kind::Counter, "Payload bytes to clients.", |shard| {
        shard.client_traffic.out_bytes
    }),
    figure(
        "stale_connections_total",
        Kind::Counter,
        "Connections closed because they did not answer pings.",
        |shard| shard.stale.total(),
    ),
    figure(
        "stalls_total",
        Kind::Counter,
        "Times a publisher was held up for a receiver.",
        |shard| shard.stalls,
    ),
    figure("index_cache_entries", Kind::Gauge, "Subjects in the match cache.", |shard| {
        shard.index.cache_entries
    }),
    figure("index_matches_total", Kind::Counter, "Lookups in the subject index.", |shard| {
        shard.index.matches
    }),
    figure("index_cache_hits_total", Kind::Counter, "Lookups the cache answered.", |shard| {
        shard.index.cache_hits
    }),
    figure("index_inserts_total", Kind::Counter, "Subscriptions added.", |shard| {
        shard.index.inserts
    }),
    figure("index_removes_total", Kind::Counter, "Subscriptions removed.", |shard| {
        shard.index.removes
    }),
    figure("reads_total", Kind::Counter, "Reads from sockets.", |shard| shard.turns.reads),
    figure("writes_total", Kind::Counter, "Writes to sockets.", |shard| shard.turns.writes),
    figure("wakes_total", Kind::Counter, "Times the shard was woken.", |shard| shard.turns.wakes),
    figure("sleeps_total", Kind::Counter, "Times the shard went to sleep.", |shard| {
        shard.turns.sleeps
    }),
    figure("peers", Kind::Gauge, "Other shards this shard sends to.", |shard| {
        shard.peers.len() as u64
    }),
    figure("index_fanout_max", Kind::Gauge, "Most receivers of a cached subject.", |shard| {
        shard.index.fanout_max
    }),
];

const fn figure(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&ShardSnapshot) -> u64,
) -> ShardFigure {
    ShardFigure { name, kind, help, value }
}

/// The growing text.
pub(super) struct Metrics {
    text: String,
}

impl Metrics {
    /// Begins a family of samples.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP shearwater_{name} {help}");
        let _ = writeln!(self.text, "# TYPE shearwater_{name} {}", kind.text());
    }

    /// Adds a sample of the family begun last. Labels come as name and value.
    pub(super) fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        let _ = write!(self.text, "shearwater_{name}");
        for (at, (label, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            self.push_label_value(value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn push_label_value(&mut self, value: &str) {
        for letter in shortened(value).chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }

    /// Adds the samples of one histogram to the family begun last.
    pub(super) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], times: &TurnHistogram) {
        let mut sum = 0_u64;
        let bucket = format!("{name}_bucket");
        for (bound_ns, count) in times.buckets() {
            sum = sum.wrapping_add(count);
            let bound = bound_ns.map_or_else(|| "+Inf".to_owned(), seconds);
            let labels = [labels, &[("le", &bound)]].concat();
            self.sample(&bucket, &labels, sum);
        }
        self.sample(&format!("{name}_sum"), labels, seconds(times.sum_ns()));
        self.sample(&format!("{name}_count"), labels, sum);
    }

    /// Adds a family with a single sample.
    pub(super) fn single(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        value: impl std::fmt::Display,
    ) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// A label value within its limit, cut between letters.
pub(super) fn shortened(value: &str) -> &str {
    let ends = value.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let end = ends.take_while(|end| *end <= METRICS_LABEL_BYTES_MAX).last().unwrap_or(0);
    value.get(..end).unwrap_or_default()
}

pub(super) fn render(facts: &ServerFacts, shards: &[ShardSnapshot]) -> Response {
    let mut metrics = Metrics { text: String::with_capacity(16 * 1024) };
    push_server(&mut metrics, facts, shards.len());
    push_shards(&mut metrics, shards);
    push_slow_consumers(&mut metrics, shards);
    push_peers(&mut metrics, shards);
    push_turns(&mut metrics, shards);
    push_accounts(&mut metrics, facts, shards);
    super::metrics_jetstream::push(&mut metrics, facts, shards);
    Response::page(CONTENT_TYPE, metrics.text.into_bytes())
}

fn push_server(metrics: &mut Metrics, facts: &ServerFacts, shards: usize) {
    metrics.family("build_info", Kind::Gauge, "The build; always 1.");
    let labels = [
        ("version", facts.build_version.as_str()),
        ("nats_version", &facts.version),
        ("commit", &facts.git_commit),
        ("compiler", &facts.runtime),
    ];
    metrics.sample("build_info", &labels, 1);
    metrics.family("server_info", Kind::Gauge, "The server; always 1.");
    let labels = [("id", facts.server_id.as_str()), ("name", &facts.server_name)];
    metrics.sample("server_info", &labels, 1);
    let start = seconds(facts.start_ns);
    metrics.single("start_time_seconds", Kind::Gauge, "Start of the server, since 1970.", start);
    let loaded = seconds(facts.config_load_ns);
    metrics.single(
        "config_load_time_seconds",
        Kind::Gauge,
        "Last load of the configuration, since 1970.",
        loaded,
    );
    let up = seconds(facts.now_ns.saturating_sub(facts.start_ns));
    metrics.single("uptime_seconds", Kind::Gauge, "Time since the start.", up);
    metrics.single("memory_bytes", Kind::Gauge, "Memory of the process.", facts.mem_bytes);
    metrics.single(
        "cpu_percent",
        Kind::Gauge,
        "Processor time in use, in percent of one processor.",
        facts.cpu_percent,
    );
    metrics.single("cores", Kind::Gauge, "Processors of the machine.", facts.cores);
    metrics.single("shards", Kind::Gauge, "Shards of the server.", shards);
    metrics.single("max_connections", Kind::Gauge, "Most clients.", facts.max_connections);
    metrics.single(
        "ready",
        Kind::Gauge,
        "1 while connections are taken, as /healthz says.",
        u8::from(facts.not_ready.is_none()),
    );
    metrics.family("http_requests_total", Kind::Counter, "Monitoring requests, by path.");
    for (path, count) in facts.http_requests.by_path() {
        metrics.sample("http_requests_total", &[("path", path)], count);
    }
}

/// Nanoseconds as seconds without any loss.
pub(super) fn seconds(ns: u64) -> String {
    let (whole, fraction) = (ns / 1_000_000_000, ns % 1_000_000_000);
    if fraction == 0 { whole.to_string() } else { format!("{whole}.{fraction:09}") }
}

fn push_shards(metrics: &mut Metrics, shards: &[ShardSnapshot]) {
    for ShardFigure { name, kind, help, value } in SHARD_FIGURES {
        metrics.family(name, kind, help);
        for shard in shards {
            let number = shard.shard.to_string();
            metrics.sample(name, &[("shard", &number)], value(shard));
        }
    }
}

fn push_slow_consumers(metrics: &mut Metrics, shards: &[ShardSnapshot]) {
    let name = "slow_consumers_total";
    metrics.family(name, Kind::Counter, "Connections closed as slow consumers, by cause.");
    for shard in shards {
        let number = shard.shard.to_string();
        for (cause, count) in [
            ("pending_bytes", shard.slow_by_pending_bytes),
            ("write_deadline", shard.slow_by_write_deadline),
        ] {
            metrics.sample(name, &[("shard", &number), ("cause", cause)], count);
        }
    }
}

fn push_peers(metrics: &mut Metrics, shards: &[ShardSnapshot]) {
    type Figure = fn(&PeerQueue) -> u64;
    let figures: [(&str, &str, Figure); 3] = [
        ("peer_queue_messages", "Messages waiting for another shard.", |queue| queue.msgs),
        ("peer_queue_bytes", "Bytes waiting for another shard.", |queue| queue.bytes),
        ("peer_queue_batches", "Batches waiting for another shard.", |queue| queue.batches),
    ];
    for (name, help, value) in figures {
        metrics.family(name, Kind::Gauge, help);
        for shard in shards {
            let number = shard.shard.to_string();
            for queue in &shard.peers {
                let peer = queue.peer.to_string();
                metrics.sample(name, &[("shard", &number), ("peer", &peer)], value(queue));
            }
        }
    }
}

fn push_turns(metrics: &mut Metrics, shards: &[ShardSnapshot]) {
    metrics.family("turn_seconds", Kind::Histogram, "How long the turns of a shard took.");
    for shard in shards {
        let number = shard.shard.to_string();
        metrics.histogram("turn_seconds", &[("shard", &number)], &shard.turns.times);
    }
}

/// A figure of an account, over all shards.
type AccountFigure = (&'static str, Kind, &'static str, fn(&AccountSnapshot) -> u64);

const ACCOUNT_FIGURES: [AccountFigure; 8] = [
    ("account_connections", Kind::Gauge, "Clients connected.", |sum| sum.connections),
    ("account_leafnodes", Kind::Gauge, "Leaf nodes connected.", |sum| sum.leafnodes),
    ("account_subscriptions", Kind::Gauge, "Subscriptions.", |sum| sum.index.subs),
    ("account_received_messages_total", Kind::Counter, "Messages received.", |sum| {
        sum.traffic.in_msgs
    }),
    ("account_received_bytes_total", Kind::Counter, "Payload bytes received.", |sum| {
        sum.traffic.in_bytes
    }),
    ("account_sent_messages_total", Kind::Counter, "Messages sent.", |sum| sum.traffic.out_msgs),
    ("account_sent_bytes_total", Kind::Counter, "Payload bytes sent.", |sum| sum.traffic.out_bytes),
    ("account_slow_consumers_total", Kind::Counter, "Slow consumers closed.", |sum| {
        sum.slow_consumers
    }),
];

/// The busiest accounts, by connections and then by messages, within the limit.
fn push_accounts(metrics: &mut Metrics, facts: &ServerFacts, shards: &[ShardSnapshot]) {
    let mut accounts: Vec<(&str, AccountSnapshot)> = merged(facts, shards).into_iter().collect();
    let activity = |sum: &AccountSnapshot| {
        (sum.connections, sum.traffic.in_msgs.saturating_add(sum.traffic.out_msgs))
    };
    // The sort is stable and begins by name, so the choice does not flicker among equals.
    accounts.sort_by_key(|(_, sum)| Reverse(activity(sum)));
    let known = accounts.len();
    accounts.truncate(METRICS_ACCOUNTS_MAX);
    // Names that are equal once shortened would give the same series twice.
    let mut seen = BTreeSet::new();
    accounts.retain(|(name, _)| seen.insert(shortened(name)));
    for (name, kind, help, value) in ACCOUNT_FIGURES {
        metrics.family(name, kind, help);
        for (account, sum) in &accounts {
            metrics.sample(name, &[("account", account)], value(sum));
        }
    }
    metrics.single(
        "accounts_unlisted",
        Kind::Gauge,
        "Accounts without lines of their own here.",
        known.saturating_sub(accounts.len()),
    );
}
