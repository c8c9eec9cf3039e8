//! JetStream in `/metrics`: the server's limits and use, every shard's disk, accounts, and the
//! first streams and consumers one by one.

use std::collections::BTreeSet;

use super::facts::ServerFacts;
use super::jetstream::{
    ConsumerSnapshot, DiskSnapshot, JetStreamAccount, JetStreamSnapshot, ScrubSnapshot, Stats,
    StreamSnapshot, accounts, parts,
};
use super::metrics::{Kind, Metrics, seconds, shortened};
use super::settings::{METRICS_ACCOUNTS_MAX, METRICS_CONSUMERS_MAX, METRICS_STREAMS_MAX};
use super::snapshot::ShardSnapshot;

pub(super) fn push(metrics: &mut Metrics, facts: &ServerFacts, shards: &[ShardSnapshot]) {
    let Some(jetstream) = &facts.jetstream else { return };
    let config = &jetstream.config;
    let gauge = Kind::Gauge;
    metrics.single(
        "jetstream_memory_limit_bytes",
        gauge,
        "Most bytes of messages in memory.",
        config.max_memory,
    );
    metrics.single(
        "jetstream_storage_limit_bytes",
        gauge,
        "Most bytes of messages in files.",
        config.max_storage,
    );
    metrics.single(
        "jetstream_sync_always",
        gauge,
        "1 when acknowledgements wait for the flush to disk.",
        u8::from(config.sync_always),
    );
    push_accounts(metrics, accounts(shards));
    push_shards(metrics, shards);
    push_scrubs(metrics, shards);
    push_disks(metrics, shards);
    let known = |figure: fn(&JetStreamSnapshot) -> u64| {
        parts(shards).map(figure).fold(0, u64::saturating_add)
    };
    let streams = push_streams(metrics, shards);
    let text = "Streams without lines of their own here.";
    let unlisted = known(|part| part.streams).saturating_sub(streams);
    metrics.single("jetstream_streams_unlisted", gauge, text, unlisted);
    let consumers = push_consumers(metrics, shards);
    let text = "Consumers without lines of their own here.";
    let unlisted = known(|part| part.consumers).saturating_sub(consumers);
    metrics.single("jetstream_consumers_unlisted", gauge, text, unlisted);
}

/// A figure of an account.
type AccountFigure = (&'static str, Kind, &'static str, fn(&JetStreamAccount) -> u64);

const ACCOUNT_FIGURES: [AccountFigure; 6] = [
    ("jetstream_account_memory_bytes", Kind::Gauge, "Bytes of messages in memory.", |a| a.memory),
    ("jetstream_account_storage_bytes", Kind::Gauge, "Bytes of messages in files.", |a| a.storage),
    ("jetstream_account_reserved_memory_bytes", Kind::Gauge, "Promised to memory streams.", |a| {
        a.streams_memory
    }),
    ("jetstream_account_reserved_storage_bytes", Kind::Gauge, "Promised to file streams.", |a| {
        a.streams_storage
    }),
    ("jetstream_account_api_requests_total", Kind::Counter, "Requests to the API.", |a| {
        a.api_total
    }),
    ("jetstream_account_api_errors_total", Kind::Counter, "Those answered with an error.", |a| {
        a.api_errors
    }),
];

fn push_accounts(metrics: &mut Metrics, accounts: &[JetStreamAccount]) {
    let stats = Stats::of(0, accounts);
    for (name, kind, help, value) in [
        ("jetstream_memory_bytes", Kind::Gauge, "Bytes of messages in memory.", stats.memory),
        ("jetstream_storage_bytes", Kind::Gauge, "Bytes of messages in files.", stats.storage),
        ("jetstream_api_requests_total", Kind::Counter, "Requests to the API.", stats.api.total),
        ("jetstream_api_errors_total", Kind::Counter, "Those answered with an error.", {
            stats.api.errors
        }),
        ("jetstream_accounts", Kind::Gauge, "Accounts that may use JetStream.", stats.accounts),
    ] {
        metrics.single(name, kind, help, value);
    }
    // Names that are equal once shortened would give the same series twice.
    let mut seen = BTreeSet::new();
    let listed: Vec<&JetStreamAccount> = accounts
        .iter()
        .filter(|account| seen.insert(shortened(&account.name)))
        .take(METRICS_ACCOUNTS_MAX)
        .collect();
    for (name, kind, help, value) in ACCOUNT_FIGURES {
        metrics.family(name, kind, help);
        for account in &listed {
            metrics.sample(name, &[("account", account.name.as_str())], value(account));
        }
    }
}

/// The parts of the shards that have one, with their numbers.
fn numbered(shards: &[ShardSnapshot]) -> impl Iterator<Item = (String, &JetStreamSnapshot)> {
    shards
        .iter()
        .filter_map(|shard| shard.jetstream.as_deref().map(|part| (shard.shard.to_string(), part)))
}

fn push_shards(metrics: &mut Metrics, shards: &[ShardSnapshot]) {
    type Figure = fn(&JetStreamSnapshot) -> u64;
    let figures: [(&str, &str, Figure); 6] = [
        ("jetstream_streams", "Streams of the shard.", |part| part.streams),
        ("jetstream_consumers", "Consumers of the shard's streams.", |part| part.consumers),
        ("jetstream_messages", "Messages in the shard's streams.", |part| part.messages),
        ("jetstream_bytes", "Bytes of those messages.", |part| part.bytes),
        ("jetstream_cache_bytes", "Bytes from disk kept in memory.", |part| part.cache_bytes),
        ("jetstream_failed_streams", "Streams that store nothing.", |part| {
            part.failed.len() as u64
        }),
    ];
    for (name, help, value) in figures {
        metrics.family(name, Kind::Gauge, help);
        for (number, part) in numbered(shards) {
            metrics.sample(name, &[("shard", &number)], value(part));
        }
    }
}

/// A figure of the scrub.
type ScrubFigure = (&'static str, &'static str, fn(&ScrubSnapshot) -> u64);

const SCRUB_FIGURES: [ScrubFigure; 4] = [
    ("jetstream_scrub_bytes_total", "Bytes of stored segments verified.", |scrub| scrub.bytes),
    ("jetstream_scrub_segments_total", "Segments gone through.", |scrub| scrub.segments),
    ("jetstream_scrub_passes_total", "Streams gone through as a whole.", |scrub| scrub.passes),
    ("jetstream_scrub_damaged_total", "Damaged places found since the start.", |scrub| {
        scrub.damaged
    }),
];

fn push_scrubs(metrics: &mut Metrics, shards: &[ShardSnapshot]) {
    for (name, help, value) in SCRUB_FIGURES {
        metrics.family(name, Kind::Counter, help);
        for (number, part) in numbered(shards) {
            metrics.sample(name, &[("shard", &number)], value(&part.scrub));
        }
    }
}

/// A figure of a disk.
type DiskFigure = (&'static str, Kind, &'static str, fn(&DiskSnapshot) -> u64);

const DISK_FIGURES: [DiskFigure; 5] = [
    ("disk_written_bytes_total", Kind::Counter, "Bytes written.", |disk| disk.written_bytes),
    ("disk_read_bytes_total", Kind::Counter, "Bytes read.", |disk| disk.read_bytes),
    ("disk_operations_in_flight", Kind::Gauge, "Operations under way or waiting.", |disk| {
        disk.in_flight
    }),
    ("disk_spare_segments", Kind::Gauge, "Segments ready for use.", |disk| disk.spare_segments),
    ("disk_open_files", Kind::Gauge, "Files that are open.", |disk| disk.open_files),
];

fn push_disks(metrics: &mut Metrics, shards: &[ShardSnapshot]) {
    let disks: Vec<(String, &DiskSnapshot)> = numbered(shards)
        .filter_map(|(number, part)| part.disk.as_deref().map(|disk| (number, disk)))
        .collect();
    for (name, kind, help, value) in DISK_FIGURES {
        metrics.family(name, kind, help);
        for (number, disk) in &disks {
            metrics.sample(name, &[("shard", number)], value(disk));
        }
    }
    let name = "disk_operations_total";
    metrics.family(name, Kind::Counter, "Operations that succeeded, by their kind.");
    for (number, disk) in &disks {
        for (kind, count) in &disk.operations {
            metrics.sample(name, &[("shard", number), ("kind", kind)], count);
        }
    }
    let name = "disk_errors_total";
    metrics.family(name, Kind::Counter, "Operations that failed, by cause.");
    for (number, disk) in &disks {
        for (cause, count) in [("no_space", disk.no_space), ("other", disk.errors)] {
            metrics.sample(name, &[("shard", number), ("cause", cause)], count);
        }
    }
    let name = "disk_oldest_operation_seconds";
    metrics.family(name, Kind::Gauge, "Age of the oldest operation under way; 0 without one.");
    for (number, disk) in &disks {
        metrics.sample(name, &[("shard", number)], seconds(disk.oldest_ns));
    }
    metrics.family("disk_operation_seconds", Kind::Histogram, "How long operations took.");
    for (number, disk) in &disks {
        for (kind, times) in &disk.times {
            let labels = [("shard", number.as_str()), ("kind", kind)];
            metrics.histogram("disk_operation_seconds", &labels, times);
        }
    }
}

/// A figure of a stream.
type StreamFigure = (&'static str, Kind, &'static str, fn(&StreamSnapshot) -> u64);

const STREAM_FIGURES: [StreamFigure; 10] = [
    ("jetstream_stream_messages", Kind::Gauge, "Messages.", |row| row.state.messages),
    ("jetstream_stream_bytes", Kind::Gauge, "Bytes of messages.", |row| row.state.bytes),
    ("jetstream_stream_first_sequence", Kind::Gauge, "Sequence of the first message.", |row| {
        row.state.first_seq
    }),
    ("jetstream_stream_last_sequence", Kind::Gauge, "Last sequence given.", |row| {
        row.state.last_seq
    }),
    ("jetstream_stream_subjects", Kind::Gauge, "Different subjects.", |row| {
        count(row.state.num_subjects)
    }),
    ("jetstream_stream_deleted", Kind::Gauge, "Sequences missing in between.", |row| {
        count(row.state.num_deleted)
    }),
    ("jetstream_stream_consumers", Kind::Gauge, "Consumers.", |row| {
        count(row.state.consumer_count)
    }),
    ("jetstream_stream_lost", Kind::Gauge, "Messages that damage took.", |row| row.lost),
    ("jetstream_stream_failed", Kind::Gauge, "1 when nothing is stored any more.", |row| {
        u64::from(row.is_failed)
    }),
    ("jetstream_stream_source_lag", Kind::Gauge, "Messages still to be copied.", |row| {
        let lags = row.mirror.iter().chain(&row.sources).map(|source| source.lag);
        lags.fold(0, u64::saturating_add)
    }),
];

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The first streams, by shard and place; how many.
fn push_streams(metrics: &mut Metrics, shards: &[ShardSnapshot]) -> u64 {
    let mut seen = BTreeSet::new();
    let rows: Vec<&StreamSnapshot> = parts(shards)
        .flat_map(|part| &part.rows)
        .filter(|row| seen.insert((shortened(&row.account), shortened(&row.name))))
        .take(METRICS_STREAMS_MAX)
        .collect();
    for (name, kind, help, value) in STREAM_FIGURES {
        metrics.family(name, kind, help);
        for row in &rows {
            let labels = [("account", row.account.as_str()), ("stream", row.name.as_str())];
            metrics.sample(name, &labels, value(row));
        }
    }
    rows.len() as u64
}

/// A figure of a consumer.
type ConsumerFigure = (&'static str, Kind, &'static str, fn(&ConsumerSnapshot) -> u64);

const CONSUMER_FIGURES: [ConsumerFigure; 10] = [
    ("jetstream_consumer_pending", Kind::Gauge, "Messages not delivered yet.", |row| {
        row.info.num_pending
    }),
    ("jetstream_consumer_ack_pending", Kind::Gauge, "Messages waiting for an ack.", |row| {
        count(row.info.num_ack_pending)
    }),
    ("jetstream_consumer_redelivered", Kind::Gauge, "Of those, delivered again.", |row| {
        count(row.info.num_redelivered)
    }),
    ("jetstream_consumer_waiting", Kind::Gauge, "Pull requests that wait.", |row| {
        count(row.info.num_waiting)
    }),
    ("jetstream_consumer_delivered_consumer_sequence", Kind::Gauge, "Deliveries.", |row| {
        row.info.delivered.consumer_seq
    }),
    ("jetstream_consumer_delivered_stream_sequence", Kind::Gauge, "Last delivered.", |row| {
        row.info.delivered.stream_seq
    }),
    ("jetstream_consumer_ack_floor_consumer_sequence", Kind::Gauge, "All acked to here.", |row| {
        row.info.ack_floor.consumer_seq
    }),
    ("jetstream_consumer_ack_floor_stream_sequence", Kind::Gauge, "All acked to here.", |row| {
        row.info.ack_floor.stream_seq
    }),
    ("jetstream_consumer_paused", Kind::Gauge, "1 while nothing is to be delivered.", |row| {
        u64::from(row.info.paused)
    }),
    (
        "jetstream_consumer_stuck",
        Kind::Gauge,
        "1 while messages and clients wait and nothing moves.",
        |row| u64::from(row.is_stuck),
    ),
];

/// The first consumers, by shard and stream; how many.
fn push_consumers(metrics: &mut Metrics, shards: &[ShardSnapshot]) -> u64 {
    let mut seen = BTreeSet::new();
    let rows: Vec<(&StreamSnapshot, &ConsumerSnapshot)> = parts(shards)
        .flat_map(|part| &part.rows)
        .flat_map(|stream| stream.consumers.iter().map(move |consumer| (stream, consumer)))
        .filter(|(stream, consumer)| {
            let names = [&stream.account, &stream.name, &consumer.info.name];
            seen.insert(names.map(|name| shortened(name)))
        })
        .take(METRICS_CONSUMERS_MAX)
        .collect();
    for (name, kind, help, value) in CONSUMER_FIGURES {
        metrics.family(name, kind, help);
        for (stream, consumer) in &rows {
            let labels = [
                ("account", stream.account.as_str()),
                ("stream", stream.name.as_str()),
                ("consumer", consumer.info.name.as_str()),
            ];
            metrics.sample(name, &labels, value(consumer));
        }
    }
    rows.len() as u64
}
