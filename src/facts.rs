//! What the process tells about itself to monitoring: identity, configuration echoes, and figures
//! read from the kernel at the moment they are asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use broker::monitor::{
    AccountFacts, GLOBAL_ACCOUNT, JetStreamConfigFacts, JetStreamFacts, JetStreamLimitFacts,
    ServerFacts,
};
use jetstream::settings::{Durability, Settings};
use reactor::FactsSource;

use crate::config::Options;
use crate::streams;
use crate::translate::NATS_VERSION;

/// CPU use is averaged over at least this long.
const CPU_SPAN_MIN: Duration = Duration::from_millis(500);

/// The facts that change only at start and reload, and the last look at the CPU clock.
#[derive(Debug)]
pub(crate) struct Facts {
    fixed: Mutex<ServerFacts>,
    cpu: Mutex<CpuMeter>,
}

#[derive(Debug)]
struct CpuMeter {
    at: Instant,
    used: Duration,
    percent: f64,
}

/// Wall clock nanoseconds since 1970.
#[must_use]
pub(crate) fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time of the whole process.
fn cpu_used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}

/// Resident memory of the process, bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

impl Facts {
    /// Facts for the first time.
    #[must_use]
    pub(crate) fn new(fixed: ServerFacts) -> Arc<Self> {
        let cpu = CpuMeter { at: Instant::now(), used: cpu_used(), percent: 0.0 };
        Arc::new(Self { fixed: Mutex::new(fixed), cpu: Mutex::new(cpu) })
    }

    /// Replaces what a reload changed.
    pub(crate) fn replace(&self, change: impl FnOnce(&mut ServerFacts)) {
        change(&mut self.fixed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What JetStream obeys has been read.
    pub(crate) fn set_jetstream(&self, options: &Options, settings: Option<&Settings>) {
        self.replace(|fixed| {
            fixed.jetstream = settings.map(|settings| jetstream_facts(options, settings));
        });
    }

    fn cpu_percent(&self) -> f64 {
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, used) = (Instant::now(), cpu_used());
        let span = now.duration_since(cpu.at);
        if span >= CPU_SPAN_MIN {
            let busy = used.saturating_sub(cpu.used).as_secs_f64();
            cpu.percent = (busy / span.as_secs_f64() * 1000.0).round() / 10.0;
            cpu.at = now;
            cpu.used = used;
        }
        cpu.percent
    }

    /// The source that shard 0 asks.
    #[must_use]
    pub(crate) fn source(self: &Arc<Self>) -> FactsSource {
        let facts = Arc::clone(self);
        Arc::new(move || {
            let mut copy = facts.fixed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            copy.mem_bytes = resident_bytes();
            copy.cpu_percent = facts.cpu_percent();
            copy
        })
    }
}

/// What the options and settings say of JetStream.
fn jetstream_facts(options: &Options, settings: &Settings) -> JetStreamFacts {
    let given = &options.jetstream;
    let limits = &given.limits;
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let unless = |number: i64, default: i64| if number == default { 0 } else { number };
    let usual = crate::config::JetStreamOptions::default();
    let defaults = crate::config::JetStreamLimits::default();
    let (sync_interval, sync_always) = match settings.durability {
        Durability::Flushed => (nanos(given.sync_interval), true),
        Durability::Lazy { interval_ns } => (interval_ns, false),
    };
    JetStreamFacts {
        api_level: streams::API_LEVEL,
        config: JetStreamConfigFacts {
            max_memory: settings.memory_bytes_max,
            max_storage: settings.file_bytes_max,
            store_dir: streams::store_dir(options).display().to_string(),
            sync_interval,
            sync_always,
            domain: settings.domain.clone(),
            compress_ok: true,
            unique_tag: given.unique_tag.clone(),
            strict: settings.strict,
        },
        limits: JetStreamLimitFacts {
            max_request_batch: limits.request_batch_max,
            max_ack_pending: limits.ack_pending_max,
            max_ha_assets: limits.ha_assets_max,
            max_duplicate_window: limits.duplicate_window.map_or(0, nanos),
            max_batch_inflight_per_stream: unless(
                limits.batch_inflight_per_stream_max,
                defaults.batch_inflight_per_stream_max,
            ),
            max_batch_inflight_total: unless(
                limits.batch_inflight_total_max,
                defaults.batch_inflight_total_max,
            ),
            max_batch_size: unless(limits.batch_msgs_max, defaults.batch_msgs_max),
            max_batch_timeout: if limits.batch_timeout == defaults.batch_timeout {
                0
            } else {
                nanos(limits.batch_timeout)
            },
            default_max_consumers: limits.default_consumers_max,
            scrub_interval: if given.scrub_interval == usual.scrub_interval {
                0
            } else {
                nanos(given.scrub_interval)
            },
            scrub_rate: unless(given.scrub_bytes_per_second, usual.scrub_bytes_per_second),
            read_cache: unless(given.read_cache_bytes_max, usual.read_cache_bytes_max),
        },
        disk_stuck_ns: reactor::disk::STUCK_NS,
    }
}

/// What the options say of the server.
pub(crate) fn fill_from_options(facts: &mut ServerFacts, options: &Options, digest: &str) {
    let limits = &options.limits;
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    NATS_VERSION.clone_into(&mut facts.version);
    facts.proto = 1;
    facts.auth_required = options.auth_required();
    facts.tls_required = options.tls.is_some() && !options.allow_non_tls;
    facts.tls_verify = options.tls.as_ref().is_some_and(|tls| tls.verify || tls.verify_and_map);
    facts.max_connections = limits.connections_max;
    facts.max_subscriptions = limits.subscriptions_max;
    facts.ping_interval_ns = nanos(limits.ping_interval);
    facts.ping_max = u64::from(limits.pings_out_max);
    facts.auth_timeout_s = options.auth_timeout().as_secs_f64();
    facts.max_control_line = u64::from(limits.control_line_bytes_max);
    facts.max_payload = u64::from(limits.payload_bytes_max);
    facts.max_pending = limits.pending_bytes_max;
    facts.tls_timeout_s = options.tls.as_ref().map_or(0.0, |tls| tls.timeout.as_secs_f64());
    facts.write_deadline_ns = nanos(limits.write_deadline);
    facts.config_load_ns = wall_ns();
    digest.clone_into(&mut facts.config_digest);
    facts.tags.clone_from(&options.server_tags);
    facts.metadata = options.server_metadata.clone();
    facts.feature_flags = options.feature_flags.clone();
    facts.system_account = options.system_account_name().unwrap_or_default().to_owned();
    let now = facts.config_load_ns;
    let options_of = |name: &str| options.accounts.iter().find(|account| account.name == name);
    let account = |name: &str| AccountFacts {
        name: name.to_owned(),
        updated_ns: now,
        jetstream: streams::is_enabled_for(options, name),
        mappings: BTreeMap::new(),
        exports: options_of(name).map(crate::shares::export_facts).unwrap_or_default(),
        imports: options_of(name).map(crate::shares::import_facts).unwrap_or_default(),
    };
    let names = options.accounts.iter().map(|account| account.name.as_str());
    let names = [GLOBAL_ACCOUNT].into_iter().chain(options.system_account_name()).chain(names);
    let mut known: Vec<&str> = Vec::new();
    facts.accounts = names
        .filter(|name| {
            let fresh = !known.contains(name);
            known.push(name);
            fresh
        })
        .map(account)
        .collect();
}
