//! JetStream's part of a shard's figures: what the streams, the consumers and the disk show.

use broker::monitor::{
    ConsumerSnapshot, DiskSnapshot, FailedStream, JetStreamAccount, JetStreamNeed,
    JetStreamSnapshot, ScrubSnapshot, StreamSnapshot, StreamsNeed,
};
use jetstream::domain::monitor::{AccountFigures, StreamFigures, Wanted};

use crate::disk::DiskFigures;
use crate::turn::Reactor;

/// Failed streams of a shard that are named one by one.
const FAILED_MAX: usize = 1000;

impl Reactor {
    /// This shard's figures of JetStream; `None` when it is not served.
    pub(crate) fn jetstream_snapshot(&mut self, need: &JetStreamNeed) -> Option<JetStreamSnapshot> {
        let disk = self.disk.as_ref().map(|disk| disk.figures(self.now.mono_ns));
        let jetstream = self.shard.jetstream.as_ref()?;
        let accounts = jetstream.account_figures();
        let failed = jetstream.failed_streams(FAILED_MAX).into_iter();
        let failed = failed.map(|failed| FailedStream {
            account: failed.account,
            stream: failed.stream,
            problem: failed.problem,
        });
        let failed: Vec<FailedStream> = failed.collect();
        let totals = jetstream.totals();
        let rows = match &need.streams {
            Some(streams) => self.stream_rows(streams, &accounts),
            None => Vec::new(),
        };
        Some(JetStreamSnapshot {
            accounts: accounts.into_iter().map(account_snapshot).collect(),
            streams: totals.streams,
            consumers: totals.consumers,
            messages: totals.messages,
            bytes: totals.bytes,
            cache_bytes: totals.cache_bytes,
            scrub: ScrubSnapshot {
                bytes: totals.scrub.bytes,
                segments: totals.scrub.segments,
                passes: totals.scrub.passes,
                damaged: totals.scrub.damaged,
            },
            failed,
            disk: disk.map(|figures| Box::new(disk_snapshot(figures))),
            rows,
        })
    }

    fn stream_rows(
        &mut self,
        need: &StreamsNeed,
        accounts: &[AccountFigures],
    ) -> Vec<StreamSnapshot> {
        let picked = need.accounts.pick(accounts, |account| &account.name);
        let ids: Vec<u32> = picked.iter().map(|account| account.id).collect();
        let wanted = Wanted {
            accounts: Some(&ids),
            stream: need.stream.as_deref(),
            consumer: need.consumer.as_deref(),
            config: need.config,
            consumers: need.consumers,
            direct_consumers: need.direct_consumers,
            streams_max: need.streams_max,
            consumers_max: need.consumers_max,
        };
        let rows = self.shard.stream_figures(&wanted, self.now);
        let row = |row: StreamFigures| {
            let account = picked.iter().find(|account| account.id == row.account);
            stream_snapshot(account.map_or("", |account| &account.name), row)
        };
        rows.into_iter().map(row).collect()
    }
}

fn account_snapshot(account: AccountFigures) -> JetStreamAccount {
    JetStreamAccount {
        name: account.name,
        memory: account.memory,
        storage: account.storage,
        streams_memory: account.streams_memory,
        streams_storage: account.streams_storage,
        memory_max: account.memory_max,
        storage_max: account.storage_max,
        api_total: account.api_total,
        api_errors: account.api_errors,
    }
}

fn stream_snapshot(account: &str, row: StreamFigures) -> StreamSnapshot {
    let (direct, shown): (Vec<_>, Vec<_>) =
        row.consumers.into_iter().partition(|consumer| consumer.is_direct);
    let snapshots = |consumers: Vec<jetstream::domain::monitor::ConsumerFigures>| {
        let snapshot = |consumer: jetstream::domain::monitor::ConsumerFigures| ConsumerSnapshot {
            info: consumer.info,
            is_stuck: consumer.is_stuck,
        };
        consumers.into_iter().map(snapshot).collect()
    };
    StreamSnapshot {
        account: account.to_owned(),
        name: row.name,
        created: row.created,
        config: row.config,
        state: row.state,
        mirror: row.mirror,
        sources: row.sources,
        lost: row.lost,
        is_failed: row.failed.is_some(),
        consumers: snapshots(shown),
        direct_consumers: snapshots(direct),
    }
}

fn disk_snapshot(figures: DiskFigures) -> DiskSnapshot {
    DiskSnapshot {
        operations: vec![
            ("commit", figures.commits),
            ("sync", figures.syncs),
            ("read", figures.reads),
            ("name", figures.names),
        ],
        written_bytes: figures.written_bytes,
        read_bytes: figures.read_bytes,
        no_space: figures.no_space,
        errors: figures.errors,
        in_flight: figures.in_flight,
        oldest_ns: figures.oldest_ns,
        times: vec![
            ("commit", figures.commit_times),
            ("read", figures.read_times),
            ("name", figures.name_times),
        ],
        spare_segments: figures.spare_segments,
        open_files: figures.open_files,
    }
}
