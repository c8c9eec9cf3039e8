//! What may change about a stream that is there already.

use wire::api::config::StreamConfig;
use wire::api::errors::{self, ApiError};
use wire::api::policy::{Discard, Retention};

use super::config::{Catalog, ConfigLimits, check_config, invalid};
use super::level;

/// A consumer as far as limits of its stream concern it.
#[derive(Clone, Copy, Debug)]
pub struct LimitedConsumer<'a> {
    /// Name.
    pub name: &'a str,
    /// Its inactive threshold, ns.
    pub inactive_threshold_ns: i64,
    /// Its ceiling of pending acknowledgements.
    pub max_ack_pending: i64,
}

/// Checks and completes the configuration of an update request: what is refused before the stream
/// is even looked for.
///
/// # Errors
///
/// The error for the client.
pub fn check_update_request(
    subject_name: &str,
    config: &StreamConfig,
    is_pedantic: bool,
    limits: &ConfigLimits,
    catalog: &dyn Catalog,
) -> Result<StreamConfig, ApiError> {
    let mut config = check_config(config, is_pedantic, limits, catalog)?;
    if subject_name != config.name {
        return Err(errors::STREAM_MISMATCH);
    }
    level::set_required(&mut config);
    Ok(config)
}

/// Checks a completed configuration against the present one and answers what the stream becomes.
/// `reserve` is called where nats-server checks the account's limits.
///
/// # Errors
///
/// The error for the client.
pub fn check_update(
    present: &StreamConfig,
    config: &StreamConfig,
    is_pedantic: bool,
    limits: &ConfigLimits,
    catalog: &dyn Catalog,
    consumers: &mut dyn Iterator<Item = LimitedConsumer<'_>>,
    reserve: impl FnOnce(&StreamConfig) -> Result<(), ApiError>,
) -> Result<StreamConfig, ApiError> {
    let mut config = check_config(config, is_pedantic, limits, catalog)?;
    check_fixed(present, &config)?;
    if config.sealed {
        config.max_age_ns = 0;
        config.discard = Discard::New;
        (config.deny_delete, config.deny_purge) = (true, true);
        config.allow_rollup_hdrs = false;
    }
    reserve(&config)?;
    check_consumers(present, &config, consumers)?;
    if catalog.overlaps(&config.subjects, Some(&config.name)) {
        return Err(errors::STREAM_SUBJECT_OVERLAP);
    }
    Ok(config)
}

/// What can never change, or only in one direction.
///
/// # Errors
///
/// The error for the client.
pub fn check_fixed(old: &StreamConfig, new: &StreamConfig) -> Result<(), ApiError> {
    if new.name != old.name {
        return Err(invalid("stream configuration name must match original"));
    }
    if new.num_replicas > 1 {
        return Err(errors::STREAM_REPLICAS_NOT_SUPPORTED);
    }
    let is_queue = |config: &StreamConfig| config.retention == Retention::WorkQueue;
    let refusal = if new.storage != old.storage {
        "stream configuration update can not change storage type"
    } else if is_queue(new) != is_queue(old) {
        "stream configuration update can not change retention policy to/from workqueue"
    } else if old.sealed && !new.sealed {
        "stream configuration update can not unseal a sealed stream"
    } else if old.deny_delete && !new.deny_delete {
        "stream configuration update can not cancel deny message deletes"
    } else if old.deny_purge && !new.deny_purge {
        "stream configuration update can not cancel deny purge"
    } else if new.mirror.is_some() && new.mirror != old.mirror {
        return Err(errors::STREAM_MIRROR_NOT_UPDATABLE);
    } else if old.allow_msg_ttl && !new.allow_msg_ttl {
        "message TTL status can not be disabled"
    } else if new.allow_msg_counter != old.allow_msg_counter {
        "stream configuration update can not change message counter setting"
    } else if old.allow_msg_schedules && !new.allow_msg_schedules {
        "message schedules can not be disabled"
    } else if old.persist_mode != new.persist_mode {
        "stream configuration update can not change persist mode"
    } else {
        return Ok(());
    };
    Err(invalid(refusal))
}

/// New ceilings for consumers must hold for those that are there.
fn check_consumers(
    old: &StreamConfig,
    new: &StreamConfig,
    consumers: &mut dyn Iterator<Item = LimitedConsumer<'_>>,
) -> Result<(), ApiError> {
    let (old, new) = (&old.consumer_limits, &new.consumer_limits);
    let has_threshold = new.inactive_threshold_ns > 0;
    let has_pending = new.max_ack_pending > 0;
    let is_changed = (has_threshold && new.inactive_threshold_ns != old.inactive_threshold_ns)
        || (has_pending && new.max_ack_pending != old.max_ack_pending);
    if !is_changed {
        return Ok(());
    }
    let mut over = Vec::new();
    for consumer in consumers {
        if (has_threshold && consumer.inactive_threshold_ns > new.inactive_threshold_ns)
            || (has_pending && consumer.max_ack_pending > new.max_ack_pending)
        {
            over.push(consumer.name.to_owned());
        }
    }
    if over.is_empty() {
        return Ok(());
    }
    let names = over.join(", ");
    Err(errors::STREAM_UPDATE.with(format_args!("change to limits violates consumers: {names}")))
}
