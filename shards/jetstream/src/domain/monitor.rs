//! What monitoring sees of a shard's streams and consumers: copies, made only when asked, of no
//! more than was asked for.

use std::sync::atomic::Ordering;

use store::cache::ScrubFigures;
use wire::api::config::StreamConfig;
use wire::api::info::{ConsumerInfo, SourceInfo, StreamState};
use wire::api::timestamp::Timestamp;

use super::JetStream;
use super::home::Home;
use crate::context::Context;
use crate::effect::Effects;
use crate::settings::{AccountSettings, Usage};
use crate::stream::level;

/// Which streams are wanted, and what of each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Those of these accounts; all without a list.
    pub accounts: Option<&'a [u32]>,
    /// Only this one.
    pub stream: Option<&'a str>,
    /// Only this consumer.
    pub consumer: Option<&'a str>,
    /// With the configurations.
    pub config: bool,
    /// With the consumers of clients.
    pub consumers: bool,
    /// With the consumers that mirrors and sources keep.
    pub direct_consumers: bool,
    /// Most streams. They come in the order of their places, which is mostly that of their age.
    pub streams_max: usize,
    /// Most consumers of all streams together.
    pub consumers_max: usize,
}

/// One stream.
#[derive(Clone, Debug)]
pub struct StreamFigures {
    /// Account id.
    pub account: u32,
    /// Name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its configuration, if wanted.
    pub config: Option<Box<StreamConfig>>,
    /// What it holds.
    pub state: StreamState,
    /// How the copying of its origin goes.
    pub mirror: Option<SourceInfo>,
    /// How the copying of its sources goes.
    pub sources: Vec<SourceInfo>,
    /// Its consumers, if wanted, by name.
    pub consumers: Vec<ConsumerFigures>,
    /// Messages that damage took.
    pub lost: u64,
    /// Why it stores nothing any more.
    pub failed: Option<String>,
}

/// One consumer.
#[derive(Clone, Debug)]
pub struct ConsumerFigures {
    /// What the API says of it.
    pub info: ConsumerInfo,
    /// A mirror or source keeps it.
    pub is_direct: bool,
    /// Messages and clients wait for each other, and nothing has moved for too long.
    pub is_stuck: bool,
}

/// Sums over the streams of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams.
    pub streams: u64,
    /// Consumers of clients.
    pub consumers: u64,
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes from disk that are kept in memory.
    pub cache_bytes: u64,
    /// What the scrub of stored segments did.
    pub scrub: ScrubFigures,
}

/// A stream that stores nothing any more, or is not served at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The account's name.
    pub account: String,
    /// Name.
    pub stream: String,
    /// What is said of it behind its name.
    pub problem: String,
}

/// What an account uses, as all shards together count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountFigures {
    /// Account id.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes in files.
    pub storage: u64,
    /// Bytes promised to its memory streams.
    pub streams_memory: u64,
    /// Bytes promised to its file streams.
    pub streams_storage: u64,
    /// `max_memory`; negative is without limit.
    pub memory_max: i64,
    /// `max_file`; negative is without limit.
    pub storage_max: i64,
    /// Requests to the API.
    pub api_total: u64,
    /// Those answered with an error.
    pub api_errors: u64,
}

impl AccountFigures {
    fn of(id: usize, account: &AccountSettings) -> Option<Self> {
        let limits = account.limits.as_ref()?;
        let usage = &account.usage;
        Some(Self {
            id: id as u32,
            name: account.name.clone(),
            memory: Usage::get(&usage.memory_bytes),
            storage: Usage::get(&usage.file_bytes),
            streams_memory: Usage::get(&usage.memory_reserved),
            streams_storage: Usage::get(&usage.file_reserved),
            memory_max: limits.memory_bytes_max,
            storage_max: limits.file_bytes_max,
            api_total: usage.api_total.load(Ordering::Relaxed),
            api_errors: usage.api_errors.load(Ordering::Relaxed),
        })
    }
}

impl Home {
    fn failed(&self) -> Option<String> {
        self.stream.store.fenced().map(|error| error.to_string())
    }

    /// Consumers of clients.
    fn consumers_shown(&self) -> u64 {
        (self.consumers.len() - self.feeding) as u64
    }

    /// How many messages damage took.
    fn lost_count(&self) -> u64 {
        let count = self.lost.iter().map(|(from, to)| to.saturating_sub(*from).saturating_add(1));
        count.fold(0_u64, u64::saturating_add)
    }

    fn figures(&self, wanted: &Wanted<'_>, ctx: &Context<'_>) -> StreamFigures {
        let info = self.stream.info(&self.facts(), ctx);
        let config = wanted.config.then(|| {
            let mut config = Box::new(self.stream.config().clone());
            config.metadata.remove(level::VERSION_KEY);
            config.metadata.remove(level::LEVEL_KEY);
            config
        });
        let state = StreamState {
            consumer_count: i64::try_from(self.consumers_shown()).unwrap_or(i64::MAX),
            ..info.state
        };
        StreamFigures {
            account: self.stream.id.account,
            name: self.stream.name().to_owned(),
            created: info.created,
            config,
            state,
            mirror: info.mirror,
            sources: info.sources,
            consumers: Vec::new(),
            lost: self.lost_count(),
            failed: self.failed(),
        }
    }

    /// The places of the wanted consumers, by name.
    fn wanted_consumers(&self, wanted: &Wanted<'_>, most: usize) -> Vec<u32> {
        let is_wanted = |direct| if direct { wanted.direct_consumers } else { wanted.consumers };
        let mut found: Vec<(&str, u32)> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| is_wanted(consumer.config.direct))
            .filter(|(_, consumer)| wanted.consumer.is_none_or(|name| *name == *consumer.name))
            .map(|(slot, consumer)| (&*consumer.name, slot as u32))
            .take(most)
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, slot)| slot).collect()
    }
}

impl JetStream {
    /// The accounts that may use JetStream, by name.
    #[must_use]
    pub fn account_figures(&self) -> Vec<AccountFigures> {
        let accounts = self.tools.settings.accounts.iter().enumerate();
        let mut figures: Vec<AccountFigures> =
            accounts.filter_map(|(id, account)| AccountFigures::of(id, account)).collect();
        figures.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        figures
    }

    /// Sums over this shard.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let cache_bytes = self.tools.cache.len() as u64;
        let scrub = self.tools.cache.scrub_figures();
        let mut totals = Totals { cache_bytes, scrub, ..Totals::default() };
        for (_, home) in &self.homes {
            let state = home.stream.store.state();
            totals.streams += 1;
            totals.consumers += home.consumers_shown();
            totals.messages += state.messages;
            totals.bytes += state.bytes;
        }
        totals
    }

    /// The streams of this shard that store nothing, at most so many.
    #[must_use]
    pub fn failed_streams(&self, most: usize) -> Vec<Failed> {
        let failed = self.homes.iter().filter_map(|(_, home)| {
            let (account, stream) = (&home.stream.id.account_name, home.stream.name());
            home.failed().map(|error| Failed {
                account: account.to_string(),
                stream: stream.to_owned(),
                problem: format!("has failed: {error}"),
            })
        });
        self.unserved.failed().iter().cloned().chain(failed).take(most).collect()
    }

    /// The wanted streams of this shard.
    pub fn stream_figures(
        &mut self,
        wanted: &Wanted<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) -> Vec<StreamFigures> {
        let mut left = wanted.consumers_max;
        let mut rows = Vec::new();
        for (_, home) in &mut self.homes {
            let account = home.stream.id.account;
            let is_wanted = wanted.accounts.is_none_or(|accounts| accounts.contains(&account))
                && wanted.stream.is_none_or(|name| name == home.stream.name());
            if !is_wanted {
                continue;
            }
            if rows.len() >= wanted.streams_max {
                break;
            }
            let mut row = home.figures(wanted, ctx);
            let slots = home.wanted_consumers(wanted, left);
            left -= slots.len();
            for slot in slots {
                let mut shop = self.tools.open(ctx, fx);
                let figures = home.with(slot, &mut shop, |consumer, cx| {
                    let mut info = consumer.info(cx);
                    let is_stuck = consumer.is_stuck();
                    let is_direct = consumer.config.direct;
                    if !wanted.config {
                        info.config = None;
                    }
                    ConsumerFigures { info, is_direct, is_stuck }
                });
                row.consumers.extend(figures);
            }
            rows.push(row);
        }
        rows
    }
}
