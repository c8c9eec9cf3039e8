//! The rules for mirrors and sources in the configuration of a stream.

use std::collections::{BTreeSet, VecDeque};

use wire::api::config::{ExternalStream, SourceConsumer, StreamConfig, StreamSource};
use wire::api::errors::{self, ApiError};
use wire::subject;
use wire::transform::Transform;

use super::config::{Catalog, invalid, is_valid_asset_name};
use super::index_name::{consumer_index_name, index_name};

/// What the checks of mirror and sources leave for the checks of prefixes.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Subjects of the streams of this account that are taken from.
    subjects: Vec<String>,
    /// Prefixes of deliver subjects.
    deliver: Vec<String>,
    /// Prefixes of other APIs.
    api: Vec<String>,
}

impl Prefixes {
    fn add(&mut self, external: &ExternalStream) {
        if !external.deliver.is_empty() {
            self.deliver.push(external.deliver.clone());
        }
        if !external.api.is_empty() {
            self.api.push(external.api.clone());
        }
    }
}

/// Whether a durable consumer may be used for this source.
fn is_valid_consumer(consumer: &SourceConsumer, source: &StreamSource) -> bool {
    let deliver = consumer.deliver_subject.as_bytes();
    is_valid_asset_name(&consumer.name)
        && subject::is_literal(deliver)
        && subject::is_valid_subscribe(deliver)
        && source.opt_start_seq == 0
        && source.opt_start_time.is_none()
        && source.filter_subject.is_empty()
}

/// Whether the smaller of two limits of message sizes is ours.
const fn is_too_small(ours: i32, theirs: i32) -> bool {
    ours > 0 && theirs > 0 && ours < theirs
}

/// Checks the mirror, and takes over whether its origin allows direct reads.
pub(super) fn check_mirror(
    config: &mut StreamConfig,
    is_pedantic: bool,
    catalog: &dyn Catalog,
) -> Result<Prefixes, ApiError> {
    let mut prefixes = Prefixes::default();
    let Some(mirror) = config.mirror.as_ref() else {
        return Ok(prefixes);
    };
    check_exclusions(config)?;
    if let Some(consumer) = &mirror.consumer
        && !is_valid_consumer(consumer, mirror)
    {
        return Err(errors::MIRROR_DURABLE_CONSUMER_CFG_INVALID);
    }
    if !mirror.filter_subject.is_empty() && !mirror.subject_transforms.is_empty() {
        return Err(errors::MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED);
    }
    if config.subject_delete_marker_ttl_ns > 0 {
        return Err(invalid("subject delete markers forbidden on mirrors"));
    }
    check_mirror_transforms(mirror)?;
    if let Some(external) = &mirror.external {
        prefixes.add(external);
        return Ok(prefixes);
    }
    if !is_valid_asset_name(&mirror.name) {
        return Err(errors::MIRROR_INVALID_STREAM_NAME);
    }
    if let Some(origin) = catalog.config(&mirror.name) {
        prefixes.subjects.extend_from_slice(&origin.subjects);
        if is_too_small(config.max_msg_size, origin.max_msg_size) {
            return Err(errors::MIRROR_MAX_MESSAGE_SIZE_TOO_BIG);
        }
        if is_pedantic && config.mirror_direct != origin.allow_direct {
            return Err(
                errors::PEDANTIC.with("origin stream has direct get set, mirror has it disabled")
            );
        }
        config.mirror_direct = origin.allow_direct;
    }
    Ok(prefixes)
}

/// What a mirror cannot have beside it.
fn check_exclusions(config: &StreamConfig) -> Result<(), ApiError> {
    let refusal = if config.first_seq > 0 {
        errors::MIRROR_WITH_FIRST_SEQ
    } else if !config.subjects.is_empty() {
        errors::MIRROR_WITH_SUBJECTS
    } else if !config.sources.is_empty() {
        errors::MIRROR_WITH_SOURCES
    } else if config.allow_msg_counter {
        errors::MIRROR_WITH_COUNTERS
    } else if config.allow_atomic {
        errors::MIRROR_WITH_ATOMIC_PUBLISH
    } else if config.allow_batched {
        errors::MIRROR_WITH_BATCH_PUBLISH
    } else if config.allow_msg_schedules {
        errors::MIRROR_WITH_MSG_SCHEDULES
    } else {
        return Ok(());
    };
    Err(refusal)
}

fn check_mirror_transforms(mirror: &StreamSource) -> Result<(), ApiError> {
    let transforms = &mirror.subject_transforms;
    for (at, change) in transforms.iter().enumerate() {
        let (src, dest) = (change.src.as_bytes(), change.dest.as_bytes());
        if !src.is_empty() && !subject::is_valid_subscribe(src) {
            return Err(errors::MIRROR_INVALID_SUBJECT_FILTER
                .with(format_args!("invalid subject {}", change.src)));
        }
        Transform::for_stream(src, dest)
            .map_err(|error| errors::MIRROR_INVALID_TRANSFORM_DESTINATION.with(error))?;
        let overlaps = |(other_at, other): (usize, &wire::api::config::SubjectTransform)| {
            other_at != at && subject::overlaps(src, other.src.as_bytes())
        };
        if transforms.iter().enumerate().any(overlaps) {
            return Err(errors::MIRROR_OVERLAPPING_SUBJECT_FILTERS);
        }
    }
    Ok(())
}

/// Checks every source by itself and against the others.
pub(super) fn check_sources(
    config: &StreamConfig,
    catalog: &dyn Catalog,
    prefixes: &mut Prefixes,
) -> Result<(), ApiError> {
    if !config.sources.is_empty() && config.allow_msg_schedules {
        return Err(errors::SOURCE_WITH_MSG_SCHEDULES);
    }
    let mut names = BTreeSet::new();
    let mut consumers = BTreeSet::new();
    for source in &config.sources {
        if !is_valid_asset_name(&source.name) {
            return Err(errors::SOURCE_INVALID_STREAM_NAME);
        }
        if !names.insert(index_name(source)) {
            return Err(errors::SOURCE_DUPLICATE_DETECTED);
        }
        if !source.filter_subject.is_empty() && !source.subject_transforms.is_empty() {
            return Err(errors::SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED);
        }
        check_source_transforms(source)?;
        if let Some(consumer) = &source.consumer {
            if !is_valid_consumer(consumer, source) {
                return Err(errors::SOURCE_DURABLE_CONSUMER_CFG_INVALID);
            }
            if !consumers.insert(consumer_index_name(source)) {
                return Err(errors::SOURCE_DURABLE_CONSUMER_DUPLICATE_DETECTED);
            }
        }
        if let Some(external) = &source.external {
            prefixes.add(external);
        } else if let Some(origin) = catalog.config(&source.name) {
            prefixes.subjects.extend_from_slice(&origin.subjects);
            if is_too_small(config.max_msg_size, origin.max_msg_size) {
                return Err(errors::SOURCE_MAX_MESSAGE_SIZE_TOO_BIG);
            }
        }
    }
    Ok(())
}

fn check_source_transforms(source: &StreamSource) -> Result<(), ApiError> {
    let transforms = &source.subject_transforms;
    for change in transforms {
        let (src, dest) = (change.src.as_bytes(), change.dest.as_bytes());
        if !src.is_empty() && !subject::is_valid_subscribe(src) {
            return Err(errors::SOURCE_INVALID_SUBJECT_FILTER
                .with(format_args!("invalid subject {}", change.src)));
        }
        Transform::for_stream(src, dest)
            .map_err(|error| errors::SOURCE_INVALID_TRANSFORM_DESTINATION.with(error))?;
    }
    for (at, change) in transforms.iter().enumerate() {
        let hides = |(other_at, other): (usize, &wire::api::config::SubjectTransform)| {
            other_at != at && subject::is_subset(change.src.as_bytes(), other.src.as_bytes())
        };
        if transforms.iter().enumerate().any(hides) {
            return Err(errors::SOURCE_OVERLAPPING_SUBJECT_FILTERS);
        }
    }
    Ok(())
}

/// Prefixes of other accounts and domains must be literal, and lead neither into our own API nor
/// back into the subjects that are taken.
pub(super) fn check_prefixes(prefixes: &Prefixes) -> Result<(), ApiError> {
    for prefix in &prefixes.deliver {
        if !subject::is_valid_publish(prefix.as_bytes()) {
            return Err(errors::STREAM_INVALID_EXTERNAL_DELIVERY_SUBJ.with(prefix));
        }
        for own in &prefixes.subjects {
            if subject::overlaps(own.as_bytes(), format!("{prefix}.{own}").as_bytes()) {
                return Err(errors::STREAM_EXTERNAL_DEL_PREFIX_OVERLAPS.with_pair(prefix, own));
            }
        }
    }
    for prefix in &prefixes.api {
        if !subject::is_valid_publish(prefix.as_bytes()) {
            return Err(invalid(format_args!(
                "stream external api prefix {prefix:?} must be a valid subject without wildcards"
            )));
        }
        if subject::overlaps(prefix.as_bytes(), b"$JS.API") {
            return Err(errors::STREAM_EXTERNAL_API_OVERLAP.with_pair(prefix, "$JS.API"));
        }
    }
    Ok(())
}

/// Refuses a stream that would get its own messages back, through sources and mirrors of this
/// account.
pub(super) fn check_cycles(config: &StreamConfig, catalog: &dyn Catalog) -> Result<(), ApiError> {
    let mut waiting = VecDeque::from([config]);
    let mut visited = BTreeSet::new();
    while let Some(stream) = waiting.pop_front() {
        visited.insert(stream.name.as_str());
        for source in stream.sources.iter().filter(|source| source.external.is_none()) {
            if visited.contains(source.name.as_str()) {
                let filter = source.filter_subject.as_bytes();
                let meets = filter.is_empty()
                    || stream.subjects.iter().any(|own| subject::overlaps(own.as_bytes(), filter));
                if meets {
                    return Err(invalid("detected cycle"));
                }
            } else if let Some(origin) = catalog.config(&source.name) {
                waiting.push_back(origin);
            }
        }
        if let Some(mirror) = &stream.mirror
            && mirror.external.is_none()
        {
            if visited.contains(mirror.name.as_str()) {
                return Err(invalid("detected cycle"));
            }
            if let Some(origin) = catalog.config(&mirror.name) {
                waiting.push_back(origin);
            }
        }
    }
    Ok(())
}
