//! From configured options to what JetStream is started with, and what the log says about it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::settings::{AccountSettings as BrokerAccount, Identity};
use jetstream::settings::{AccountLimits, AccountSettings, Durability, Settings, Usage};
use reactor::JetStreamPlan;
use reactor::disk::{DiskSettings, Faults, StoreLock};

use store::log::{Cipher, Encryption, StoreKey};

use crate::config::{
    AccountJetStream, AccountOptions, JetStreamOptions, Options, Secret, StoreCipher,
};
use crate::error::StartError;

/// Level of the JetStream API.
pub const API_LEVEL: u64 = jetstream::domain::api_account::API_LEVEL as u64;

/// Share of the memory or free disk that is used when no limit is configured, percent.
const DEFAULT_SHARE: u64 = 75;
/// Directory below `store_dir`.
const SUBDIRECTORY: &str = "jetstream";

/// How long a start waits for a store that another process has.
const STORE_WAIT_MAX: Duration = Duration::from_secs(10);
const STORE_WAIT_STEP: Duration = Duration::from_millis(10);

/// What each account uses, and all together; an account keeps its place for as long as the process
/// lives.
#[derive(Debug, Default)]
pub struct UsageRegistry {
    accounts: Vec<Arc<Usage>>,
    total: Arc<Usage>,
}

impl UsageRegistry {
    fn entry(&mut self, at: usize) -> Arc<Usage> {
        while self.accounts.len() <= at {
            self.accounts.push(Arc::default());
        }
        self.accounts.get(at).map_or_else(Arc::default, Arc::clone)
    }
}

/// The directory of the store.
#[must_use]
pub fn store_dir(options: &Options) -> PathBuf {
    let configured = &options.jetstream.store_dir;
    let base = if configured.is_empty() {
        std::env::temp_dir().join("nats")
    } else {
        PathBuf::from(configured)
    };
    if base.ends_with(SUBDIRECTORY) { base } else { base.join(SUBDIRECTORY) }
}

/// Whether an account may use JetStream, and how much of it.
fn limits_of(options: &Options, name: &str, is_system: bool) -> Option<AccountLimits> {
    if is_system {
        return None;
    }
    match options.accounts.iter().find(|account| account.name == name) {
        Some(account) => account.jetstream.as_ref().map(account_limits),
        // Without accounts in the configuration, everybody's one may do everything.
        None => {
            let system = options.system_account_name().unwrap_or_default();
            let own = |account: &AccountOptions| account.name != system;
            (!options.accounts.iter().any(own)).then(AccountLimits::default)
        }
    }
}

fn account_limits(given: &AccountJetStream) -> AccountLimits {
    AccountLimits {
        memory_bytes_max: given.memory_bytes_max,
        file_bytes_max: given.file_bytes_max,
        streams_max: given.streams_max,
        consumers_max: given.consumers_max,
        ack_pending_max: given.ack_pending_max,
        memory_stream_bytes_max: given.memory_stream_bytes_max,
        file_stream_bytes_max: given.file_stream_bytes_max,
        max_bytes_required: given.max_bytes_required,
    }
}

/// Whether an account may use JetStream.
#[must_use]
pub fn is_enabled_for(options: &Options, name: &str) -> bool {
    let is_system = options.system_account_name() == Some(name);
    options.jetstream.enabled && limits_of(options, name, is_system).is_some()
}

/// Marks the accounts that may use JetStream.
pub fn mark_accounts(options: &Options, accounts: &mut [BrokerAccount]) {
    for account in accounts {
        let enabled = options.jetstream.enabled;
        account.asks_jetstream = enabled && !account.is_system;
        account.jetstream =
            enabled && limits_of(options, &account.name, account.is_system).is_some();
    }
}

/// What JetStream obeys.
#[must_use]
pub fn settings(
    options: &Options,
    identity: &Identity,
    accounts: &[BrokerAccount],
    usage: &mut UsageRegistry,
) -> Settings {
    let given = &options.jetstream;
    let size = |number: i64, default: usize| match usize::try_from(number) {
        Ok(0) | Err(_) => default,
        Ok(number) => number,
    };
    let defaults = Settings::default();
    let durability = if given.lazy {
        Durability::Lazy { interval_ns: given.sync_interval.as_nanos() as u64 }
    } else {
        Durability::Flushed
    };
    let limits = &given.limits;
    Settings {
        encryption: encryption(given).map(Arc::new),
        total: Arc::clone(&usage.total),
        server_name: identity.server_name.clone(),
        server_id: identity.server_id.clone(),
        cluster: identity.cluster.clone().unwrap_or_default(),
        domain: given.domain.clone(),
        strict: given.strict,
        durability,
        restore_idle_ns: u64::try_from(given.restore_timeout.as_nanos()).unwrap_or(u64::MAX),
        stuck_consumer_ns: u64::try_from(given.stuck_consumer.as_nanos()).unwrap_or(u64::MAX),
        scrub_interval_ns: u64::try_from(given.scrub_interval.as_nanos()).unwrap_or(u64::MAX),
        scrub_bytes_per_second: u64::try_from(given.scrub_bytes_per_second).unwrap_or(0),
        cache_bytes_max: size(given.read_cache_bytes_max, defaults.cache_bytes_max),
        memory_bytes_max: memory_limit(given.memory_bytes_max),
        file_bytes_max: file_limit(given.file_bytes_max, &store_dir(options)),
        buffered_bytes_max: size(given.buffered_bytes_max, defaults.buffered_bytes_max),
        buffered_messages_max: size(given.buffered_msgs_max, defaults.buffered_messages_max),
        ack_pending_max: limits.ack_pending_max,
        request_batch_max: limits.request_batch_max,
        duplicate_window_ns: limits.duplicate_window.map_or(0, |window| window.as_nanos() as i64),
        consumers_default_max: limits.default_consumers_max,
        batches_per_stream_max: size(
            limits.batch_inflight_per_stream_max,
            defaults.batches_per_stream_max,
        ),
        batches_total_max: size(limits.batch_inflight_total_max, defaults.batches_total_max),
        batch_messages_max: size(limits.batch_msgs_max, defaults.batch_messages_max),
        batch_timeout_ns: limits.batch_timeout.as_nanos() as u64,
        accounts: accounts
            .iter()
            .enumerate()
            .map(|(at, account)| AccountSettings {
                name: account.name.clone(),
                limits: limits_of(options, &account.name, account.is_system),
                usage: usage.entry(at),
            })
            .collect(),
    }
}

/// How the store's files are encrypted.
pub(crate) fn encryption(given: &JetStreamOptions) -> Option<Encryption> {
    let key =
        |secret: &Secret| (!secret.is_empty()).then(|| StoreKey::new(secret.expose().as_bytes()));
    let cipher = match given.cipher {
        StoreCipher::ChaCha => Cipher::ChaCha20Poly1305,
        StoreCipher::Aes => Cipher::Aes256Gcm,
    };
    let entropy = getrandom::u64().unwrap_or_else(|_| crate::facts::wall_ns());
    let prev_key = key(&given.prev_key);
    key(&given.key).map(|key| Encryption { cipher, key, prev_key, entropy })
}

fn share_of(bytes: u64) -> i64 {
    i64::try_from(bytes / 100 * DEFAULT_SHARE).unwrap_or(i64::MAX)
}

fn memory_limit(configured: i64) -> i64 {
    if configured >= 0 {
        return configured;
    }
    let info = rustix::system::sysinfo();
    share_of(u64::from(info.mem_unit).saturating_mul(info.totalram as u64))
}

fn file_limit(configured: i64, dir: &Path) -> i64 {
    if configured >= 0 {
        return configured;
    }
    let exists = dir.ancestors().find(|dir| dir.exists());
    let free = exists.and_then(|dir| rustix::fs::statvfs(dir).ok());
    free.map_or(i64::MAX, |free| share_of(free.f_bavail.saturating_mul(free.f_frsize)))
}

/// Takes a store's lock. A server that was just told to end is waited for: it no longer accepts
/// connections while it still writes what it has.
fn take_store(dir: &Path, wait_max: Duration) -> std::io::Result<StoreLock> {
    let deadline = Instant::now() + wait_max;
    let mut is_told = false;
    loop {
        match StoreLock::take(dir) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                if !std::mem::replace(&mut is_told, true) {
                    let dir = dir.display();
                    tracing::warn!("another process uses the store {dir:?}: waiting for its end");
                }
                std::thread::sleep(STORE_WAIT_STEP);
            }
            taken => return taken,
        }
    }
}

/// What the shards' JetStream is started with; takes the store's lock. `files_reserved`
/// descriptors are kept for the store, which the log says.
///
/// # Errors
/// When the store's directory cannot be used.
pub fn plan(
    options: &Options,
    settings: Settings,
    files_reserved: u64,
) -> Result<(JetStreamPlan, StoreLock), StartError> {
    let dir = store_dir(options);
    let lock = take_store(&dir, STORE_WAIT_MAX).map_err(|source| {
        let dir = dir.display().to_string();
        match source.kind() {
            ErrorKind::NotADirectory => StartError::NoStoreDirectory(dir),
            ErrorKind::WouldBlock => StartError::StoreInUse(dir),
            _ => StartError::Store { dir, source },
        }
    })?;
    tell(options, &settings, files_reserved);
    let faults = Faults::from_env().map_err(|error| StartError::Config(error.to_string()))?;
    let requests_max = usize::try_from(options.jetstream.concurrent_io_max).unwrap_or(usize::MAX);
    let disk = DiskSettings { faults, requests_max, ..DiskSettings::new(dir) };
    Ok((JetStreamPlan { settings: Arc::new(settings), disk }, lock))
}

/// Bytes in the largest unit that leaves a whole part, as nats-server writes them.
fn shown_bytes(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10) as usize;
    let unit = UNITS.get(power - 1).copied().unwrap_or_default();
    format!("{:.2} {unit}", bytes as f64 / 1024_f64.powi(power as i32))
}

fn tell(options: &Options, settings: &Settings, files_reserved: u64) {
    let dir = store_dir(options);
    tracing::info!("Starting JetStream");
    tracing::info!("---------------- JETSTREAM ----------------");
    if settings.strict {
        tracing::info!("  Strict:          true");
    }
    tracing::info!("  Max Memory:      {}", shown_bytes(settings.memory_bytes_max));
    tracing::info!("  Max Storage:     {}", shown_bytes(settings.file_bytes_max));
    tracing::info!("  Store Directory: \"{}\"", dir.display());
    tracing::info!("  Reserved Files:  {files_reserved}");
    if !settings.domain.is_empty() {
        tracing::info!("  Domain:          {}", settings.domain);
    }
    tracing::info!("  API Level:       {API_LEVEL}");
    if let Some(encryption) = &settings.encryption {
        let cipher = match encryption.cipher {
            Cipher::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Cipher::Aes256Gcm => "AES-256-GCM",
        };
        tracing::info!("  Encryption:      {cipher}");
    }
    match settings.durability {
        Durability::Flushed => {
            tracing::info!("  Durability:      flushed to disk before every acknowledgement");
        }
        Durability::Lazy { interval_ns } => tracing::info!(
            "  Durability:      lazy, flushed every {}; a power failure may lose what was \
             acknowledged since",
            wire::time::format_go_duration(i64::try_from(interval_ns).unwrap_or(i64::MAX))
        ),
    }
    tracing::info!("-------------------------------------------");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_another_process_keeps_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let lock = take_store(dir.path(), Duration::ZERO).unwrap();
        let refused = take_store(dir.path(), Duration::from_millis(30)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        drop(lock);
        drop(take_store(dir.path(), Duration::ZERO).unwrap());
    }

    #[test]
    fn bytes_are_shown_as_nats_server_shows_them() {
        for (bytes, shown) in [
            (1000, "1000 B"),
            (100_000, "97.66 KB"),
            (100 << 20, "100.00 MB"),
            (1 << 30, "1.00 GB"),
            (5_000_000_000_000, "4.55 TB"),
            (i64::MAX, "8.00 EB"),
        ] {
            assert_eq!(shown_bytes(bytes), shown);
        }
    }
}
