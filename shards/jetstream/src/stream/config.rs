//! The rules for the configuration of a stream: what is filled in, and what is refused with which
//! error. The order of the checks decides which error a client sees, and is nats-server's.

use std::collections::BTreeMap;

use wire::api::config::{Placement, StreamConfig};
use wire::api::errors::{self, ApiError};
use wire::api::policy::{Discard, PersistMode, Retention, Storage};
use wire::subject;
use wire::transform::Transform;

use super::config_sources::{check_cycles, check_mirror, check_prefixes, check_sources};
use super::level;

/// Bytes of a stream's name at most.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a description at most.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;
/// Bytes of all keys and values of the metadata at most.
pub const METADATA_BYTES_MAX: usize = 128 * 1024;
/// Replicas at most.
const REPLICAS_MAX: i64 = 5;
/// The duplicate window if none is asked for, ns.
const DUPLICATE_WINDOW_NS: i64 = 120_000_000_000;
/// The shortest age and window, ns.
const SHORTEST_NS: i64 = 100_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// The other streams of the account, as the catalog knows them.
pub trait Catalog {
    /// The configuration of a stream.
    fn config(&self, name: &str) -> Option<&StreamConfig>;
    /// Whether a stream other than `except` has a subject that overlaps one of `subjects`.
    fn overlaps(&self, subjects: &[String], except: Option<&str>) -> bool;
}

/// What the server and the account allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigLimits {
    /// Longest duplicate window, ns; 0 is no limit.
    pub duplicate_window_max_ns: i64,
    /// Every stream must set `max_bytes`.
    pub is_max_bytes_required: bool,
    /// Largest `max_bytes`; 0 or less is no limit. Of the account's limits for this storage.
    pub max_bytes_max: i64,
}

/// What comes of a request to create a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Creation {
    /// A stream to be made from this configuration.
    New(Box<StreamConfig>),
    /// The stream is there already and just as asked for.
    Same,
}

/// Whether a subject of `subjects` and one of `others` can be the same.
#[must_use]
pub fn subjects_overlap(subjects: &[String], others: &[String]) -> bool {
    subjects.iter().any(|a| others.iter().any(|b| subject::overlaps(a.as_bytes(), b.as_bytes())))
}

/// Whether the name of a stream or consumer is allowed.
#[must_use]
pub fn is_valid_asset_name(name: &str) -> bool {
    !name.is_empty()
        && !name.bytes().any(|b| {
            matches!(b, b'.' | b'*' | b'>' | b'\\' | b'/')
                || matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0c)
        })
}

/// The error about a configuration that is not valid.
pub(super) fn invalid(text: impl std::fmt::Display) -> ApiError {
    errors::STREAM_INVALID_CONFIG.with(text)
}

fn pedantic_error(text: &str) -> ApiError {
    errors::PEDANTIC.with(text)
}

/// What is checked about a request to create before anything else: the name in the API subject
/// and what can never be created.
///
/// # Errors
///
/// The error for the client.
pub fn check_create_request(subject_name: &str, config: &StreamConfig) -> Result<(), ApiError> {
    if subject_name != config.name {
        return Err(errors::STREAM_MISMATCH);
    }
    if config.name.contains(['/', '\\']) {
        return Err(errors::STREAM_NAME_CONTAINS_PATH_SEPARATORS);
    }
    if config.sealed {
        return Err(invalid("stream configuration for create can not be sealed"));
    }
    if config.mirror_direct && config.mirror.is_none() {
        return Err(invalid("stream has no mirror but does have mirror direct"));
    }
    Ok(())
}

/// Checks and completes a configuration, compares it with a stream of the same name, and looks
/// for overlaps. `reserve` is called in between, where nats-server checks the account's limits.
///
/// # Errors
///
/// The error for the client.
pub fn check_create(
    config: &StreamConfig,
    is_pedantic: bool,
    limits: &ConfigLimits,
    catalog: &dyn Catalog,
    reserve: impl FnOnce(&StreamConfig) -> Result<(), ApiError>,
) -> Result<Creation, ApiError> {
    // nats-server looks for room first, if the request names the storage, as clients do.
    reserve(config)?;
    let mut config = config.clone();
    level::set_required(&mut config);
    let config = check_config(&config, is_pedantic, limits, catalog)?;
    if config.num_replicas > 1 {
        return Err(errors::STREAM_REPLICAS_NOT_SUPPORTED);
    }
    if let Some(present) = catalog.config(&config.name) {
        return if is_same(&config, present) {
            Ok(Creation::Same)
        } else {
            Err(errors::STREAM_NAME_EXIST)
        };
    }
    check_source_filters(&config)?;
    if catalog.overlaps(&config.subjects, None) {
        return Err(errors::STREAM_SUBJECT_OVERLAP);
    }
    Ok(Creation::New(Box::new(config)))
}

/// Whether two configurations are the same apart from what the server writes into the metadata.
#[must_use]
pub fn is_same(new: &StreamConfig, present: &StreamConfig) -> bool {
    let bare = |config: &StreamConfig| {
        let mut config = config.clone();
        level::strip(&mut config.metadata);
        config
    };
    bare(new) == bare(present)
}

/// Filters that the first pass lets through. nats-server finds them only now.
fn check_source_filters(config: &StreamConfig) -> Result<(), ApiError> {
    let is_bad =
        |filter: &str| !filter.is_empty() && !subject::is_valid_subscribe(filter.as_bytes());
    let refuse = |text: String| Err(errors::STREAM_CREATE.with(text));
    if let Some(mirror) = &config.mirror
        && mirror.subject_transforms.is_empty()
        && is_bad(&mirror.filter_subject)
    {
        let filter = &mirror.filter_subject;
        return refuse(format!("subject filter '{filter}' for the mirror invalid subject"));
    }
    for source in &config.sources {
        if source.subject_transforms.is_empty() && is_bad(&source.filter_subject) {
            let filter = &source.filter_subject;
            return refuse(format!("subject filter '{filter}' for the source: invalid subject"));
        }
    }
    Ok(())
}

/// Checks a configuration and fills in what it leaves open. `is_pedantic` refuses instead what
/// would be changed.
///
/// # Errors
///
/// The error for the client.
pub fn check_config(
    config: &StreamConfig,
    is_pedantic: bool,
    limits: &ConfigLimits,
    catalog: &dyn Catalog,
) -> Result<StreamConfig, ApiError> {
    check_texts(config)?;
    let mut config = config.clone();
    fill_limits(&mut config, is_pedantic)?;
    fill_window(&mut config, is_pedantic, limits)?;
    check_flags(&mut config, is_pedantic)?;
    check_persist_mode(&config)?;
    let mut prefixes = check_mirror(&mut config, is_pedantic, catalog)?;
    check_sources(&config, catalog, &mut prefixes)?;
    check_prefixes(&prefixes)?;
    check_cycles(&config, catalog)?;
    check_subjects(&mut config)?;
    check_byte_limits(&config, limits)?;
    check_transforms(&mut config, is_pedantic)?;
    check_placement(&mut config)?;
    Ok(config)
}

fn check_texts(config: &StreamConfig) -> Result<(), ApiError> {
    if !is_valid_asset_name(&config.name) {
        return Err(invalid(
            "stream name is required and can not contain '.', '*', '>', '\\', '/'",
        ));
    }
    if config.name.len() > NAME_BYTES_MAX {
        return Err(invalid(format_args!(
            "stream name is too long, maximum allowed is {NAME_BYTES_MAX}"
        )));
    }
    if config.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(invalid(format_args!(
            "stream description is too long, maximum allowed is {DESCRIPTION_BYTES_MAX}"
        )));
    }
    if metadata_bytes(&config.metadata) > METADATA_BYTES_MAX {
        return Err(invalid(format_args!(
            "stream metadata exceeds maximum size of {METADATA_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn metadata_bytes(metadata: &BTreeMap<String, String>) -> usize {
    metadata.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum()
}

/// Replicas and the limits that are -1 if they do not limit.
fn fill_limits(config: &mut StreamConfig, is_pedantic: bool) -> Result<(), ApiError> {
    if config.num_replicas == 0 {
        config.num_replicas = 1;
    }
    if config.num_replicas > REPLICAS_MAX {
        return Err(invalid(format_args!("maximum replicas is {REPLICAS_MAX}")));
    }
    if config.num_replicas < 0 {
        return Err(errors::REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
    }
    let mut size = i64::from(config.max_msg_size);
    for (name, limit) in [
        ("max_msgs", &mut config.max_msgs),
        ("max_msgs_per_subject", &mut config.max_msgs_per_subject),
        ("max_bytes", &mut config.max_bytes),
        ("max_msg_size", &mut size),
        ("max_consumers", &mut config.max_consumers),
    ] {
        if is_pedantic && *limit < -1 {
            return Err(pedantic_error(&format!("{name} must be set to -1")));
        }
        if *limit <= 0 {
            *limit = -1;
        }
    }
    config.max_msg_size = i32::try_from(size).unwrap_or(-1);
    if config.max_age_ns < 0 {
        return Err(invalid("max age can not be negative"));
    }
    if config.max_age_ns != 0 && config.max_age_ns < SHORTEST_NS {
        return Err(invalid("max age needs to be >= 100ms"));
    }
    Ok(())
}

fn fill_window(
    config: &mut StreamConfig,
    is_pedantic: bool,
    limits: &ConfigLimits,
) -> Result<(), ApiError> {
    let longest = limits.duplicate_window_max_ns;
    let age = config.max_age_ns;
    if config.duplicate_window_ns == 0 && config.mirror.is_none() && config.sources.is_empty() {
        let mut window = DUPLICATE_WINDOW_NS;
        if longest > 0 && window > longest {
            if is_pedantic {
                return Err(pedantic_error(
                    "duplicate window limits are higher than current limits",
                ));
            }
            window = longest;
        }
        if age != 0 && age < window {
            if is_pedantic {
                return Err(pedantic_error("duplicate window cannot be bigger than max age"));
            }
            window = age;
        }
        config.duplicate_window_ns = window;
    }
    let window = config.duplicate_window_ns;
    if window < 0 {
        return Err(invalid("duplicates window can not be negative"));
    }
    if age != 0 && window > age {
        return Err(invalid("duplicates window can not be larger then max age"));
    }
    if longest > 0 && window > longest {
        return Err(invalid(format_args!(
            "duplicates window can not be larger then server limit of {}",
            wire::time::format_go_duration(longest)
        )));
    }
    if window > 0 && window < SHORTEST_NS {
        return Err(invalid("duplicates window needs to be >= 100ms"));
    }
    Ok(())
}

/// Flags that exclude or imply each other.
fn check_flags(config: &mut StreamConfig, is_pedantic: bool) -> Result<(), ApiError> {
    if config.deny_purge && config.allow_rollup_hdrs {
        return Err(invalid("roll-ups require the purge permission"));
    }
    if config.allow_msg_counter {
        let refusal = if config.discard == Discard::New {
            Some("counter stream cannot use discard new")
        } else if config.allow_msg_ttl {
            Some("counter stream cannot use message TTLs")
        } else if config.allow_msg_schedules {
            Some("counter stream cannot use message schedules")
        } else if config.retention != Retention::Limits {
            Some("counter stream can only use limits retention")
        } else {
            None
        };
        if let Some(text) = refusal {
            return Err(invalid(text));
        }
    }
    check_discard_per_subject(config)?;
    check_marker(config, is_pedantic)?;
    if config.allow_msg_schedules {
        if config.discard == Discard::New {
            return Err(invalid("message scheduling cannot use discard new"));
        }
        if !config.allow_rollup_hdrs {
            if is_pedantic {
                return Err(invalid("message scheduling cannot be set if roll-ups are disabled"));
            }
            (config.allow_rollup_hdrs, config.deny_purge) = (true, false);
        }
    }
    Ok(())
}

fn check_discard_per_subject(config: &StreamConfig) -> Result<(), ApiError> {
    if !config.discard_new_per_subject {
        return Ok(());
    }
    if config.discard != Discard::New {
        return Err(invalid("discard new per subject requires discard new policy to be set"));
    }
    if config.max_msgs_per_subject <= 0 {
        return Err(invalid("discard new per subject requires max msgs per subject > 0"));
    }
    Ok(())
}

/// `subject_delete_marker_ttl` and what it implies.
fn check_marker(config: &mut StreamConfig, is_pedantic: bool) -> Result<(), ApiError> {
    let ttl = config.subject_delete_marker_ttl_ns;
    if ttl < 0 {
        return Err(invalid("subject delete marker TTL must not be negative"));
    }
    if ttl == 0 {
        return Ok(());
    }
    if ttl < SECOND_NS {
        return Err(invalid("subject delete marker TTL must be at least 1 second"));
    }
    if !config.allow_msg_ttl {
        if is_pedantic {
            return Err(invalid(
                "subject delete marker cannot be set if message TTLs are disabled",
            ));
        }
        config.allow_msg_ttl = true;
    }
    if !config.allow_rollup_hdrs {
        if is_pedantic {
            return Err(invalid("subject delete marker cannot be set if roll-ups are disabled"));
        }
        (config.allow_rollup_hdrs, config.deny_purge) = (true, false);
    }
    Ok(())
}

fn check_persist_mode(config: &StreamConfig) -> Result<(), ApiError> {
    if config.persist_mode != PersistMode::Async {
        return Ok(());
    }
    if config.storage != Storage::File {
        return Err(invalid("async persist mode is only supported on file storage"));
    }
    if config.num_replicas > 1 {
        return Err(invalid("async persist mode is not supported on replicated streams"));
    }
    if config.allow_atomic {
        return Err(invalid("async persist mode is not supported with atomic batch publish"));
    }
    Ok(())
}

fn check_subjects(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.subjects.is_empty() {
        if config.mirror.is_none() && config.sources.is_empty() {
            config.subjects.push(config.name.clone());
        }
        return Ok(());
    }
    if config.mirror.is_some() {
        return Err(errors::MIRROR_WITH_SUBJECTS);
    }
    for (at, text) in config.subjects.iter().enumerate() {
        let pattern = text.as_bytes();
        if !subject::is_valid_subscribe(pattern) {
            return Err(invalid("invalid subject"));
        }
        check_reserved(config, pattern)?;
        let rest = config.subjects.get(at.saturating_add(1)..).unwrap_or_default();
        if let Some(other) = rest.iter().find(|other| subject::overlaps(other.as_bytes(), pattern))
        {
            return Err(invalid(format_args!("subject {text:?} overlaps with {other:?}")));
        }
    }
    Ok(())
}

/// Subjects that only a stream without acknowledgements may have: everything, and what the
/// server itself uses, apart from its events.
fn check_reserved(config: &StreamConfig, pattern: &[u8]) -> Result<(), ApiError> {
    if pattern == b">" {
        if !config.no_ack {
            return Err(invalid("capturing all subjects requires no-ack to be true"));
        }
        if config.num_replicas != 1 {
            return Err(invalid("capturing all subjects requires replicas of 1"));
        }
    }
    if config.no_ack {
        return Ok(());
    }
    let is_api =
        [&b"$JS.>"[..], b"$JSC.>", b"$NRG.>"].iter().any(|own| subject::overlaps(pattern, own));
    if is_api && !subject::is_subset(pattern, b"$JS.EVENT.>") {
        return Err(invalid("subjects that overlap with jetstream api require no-ack to be true"));
    }
    if subject::overlaps(pattern, b"$SYS.>") && !subject::is_subset(pattern, b"$SYS.ACCOUNT.>") {
        return Err(invalid("subjects that overlap with system api require no-ack to be true"));
    }
    Ok(())
}

fn check_byte_limits(config: &StreamConfig, limits: &ConfigLimits) -> Result<(), ApiError> {
    if limits.is_max_bytes_required && config.max_bytes <= 0 {
        return Err(errors::STREAM_MAX_BYTES_REQUIRED);
    }
    if limits.max_bytes_max > 0 && config.max_bytes > limits.max_bytes_max {
        return Err(errors::STREAM_MAX_STREAM_BYTES_EXCEEDED);
    }
    Ok(())
}

/// The transform on the way in and the one of republished messages.
fn check_transforms(config: &mut StreamConfig, is_pedantic: bool) -> Result<(), ApiError> {
    if let Some(change) = &config.subject_transform {
        if !change.src.is_empty() && !subject::is_valid_subscribe(change.src.as_bytes()) {
            return Err(errors::STREAM_TRANSFORM_INVALID_SOURCE
                .with(format_args!("invalid subject {}", change.src)));
        }
        Transform::for_stream(change.src.as_bytes(), change.dest.as_bytes())
            .map_err(|error| errors::STREAM_TRANSFORM_INVALID_DESTINATION.with(error))?;
    }
    let Some(republish) = &mut config.republish else {
        return Ok(());
    };
    if republish.src.is_empty() {
        if is_pedantic {
            return Err(pedantic_error("republish source can not be empty"));
        }
        ">".clone_into(&mut republish.src);
    }
    // From everything to everything is a circle, unless the transform on the way in leads away
    // from the only subject: then what it makes is what is published.
    if republish.dest == ">"
        && republish.src == ">"
        && let Some(change) = &config.subject_transform
        && config.subjects.len() == 1
        && config.subjects.first() == Some(&change.src)
    {
        if is_pedantic {
            return Err(pedantic_error("implicit republish based on subject transform"));
        }
        republish.src.clone_from(&change.dest);
        republish.dest.clone_from(&change.dest);
    }
    let dest = republish.dest.as_bytes();
    if config.subjects.iter().any(|own| subject::overlaps(dest, own.as_bytes())) {
        return Err(invalid("stream configuration for republish destination forms a cycle"));
    }
    if Transform::new(republish.src.as_bytes(), dest).is_err() {
        return Err(invalid(format_args!(
            "stream configuration for republish with transform from '{}' to '{}' not valid",
            republish.src, republish.dest
        )));
    }
    Ok(())
}

fn check_placement(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.placement.as_ref() == Some(&Placement::default()) {
        config.placement = None;
    }
    if config.placement.as_ref().is_some_and(|placement| !placement.preferred.is_empty()) {
        return Err(invalid("preferred server not permitted in placement"));
    }
    Ok(())
}
