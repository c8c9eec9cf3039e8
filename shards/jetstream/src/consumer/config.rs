//! The configuration of a consumer: defaults, checks in the server's order, and what may change.

use std::num::IntErrorKind;

use wire::api::config::StreamConfig;
use wire::api::consumer_config::ConsumerConfig;
use wire::api::errors::{self, ApiError};
use wire::api::policy::{AckPolicy, DeliverPolicy, PriorityPolicy, ReplayPolicy, Retention};
use wire::subject;

use super::settings::{Ack, Priority, Settings};

/// Shortest heartbeat, ns.
const HEARTBEAT_MIN_NS: i64 = 100_000_000;
/// Shortest limit of a request's waiting time, ns.
const EXPIRES_MIN_NS: i64 = 1_000_000;
/// Longest description, bytes.
const DESCRIPTION_MAX: usize = 4 << 10;
/// Longest name, bytes.
pub const NAME_MAX: usize = 255;
/// Keys and values of the metadata together, bytes.
const METADATA_MAX: usize = 128 << 10;
/// Names of priority groups, bytes.
const GROUP_NAME_MAX: usize = 16;
/// Metadata key that names the subject for messages that are given up.
pub const DEAD_LETTER_KEY: &str = "shearwater.dead_letter";

/// Limits from outside the stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ceilings {
    /// `max_ack_pending` at most; 0 or less is without limit.
    pub ack_pending_max: i64,
    /// `max_batch` at most; 0 is without limit.
    pub request_batch_max: i64,
}

fn refuse<T>(error: &ApiError) -> Result<T, ApiError> {
    Err(error.clone())
}

fn invalid<T>(text: &'static str) -> Result<T, ApiError> {
    Err(errors::CONSUMER_INVALID_POLICY.with(text))
}

/// Checks a configuration whose defaults are filled in.
///
/// # Errors
/// What is wrong with it.
pub fn check(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    ceilings: &Ceilings,
) -> Result<(), ApiError> {
    check_copies(config)?;
    check_waits(config)?;
    let is_push = !config.deliver_subject.is_empty();
    if !is_push && config.ack_policy == AckPolicy::FlowControl {
        return refuse(&errors::CONSUMER_ACK_FC_REQUIRES_PUSH);
    }
    check_description(config)?;
    if is_push {
        check_push(config, stream)?;
    } else {
        check_pull(config, stream, ceilings)?;
    }
    check_pending(config, stream, ceilings)?;
    check_filters(config)?;
    check_start(config)?;
    check_sampling(config)?;
    if config.flow_control && config.idle_heartbeat_ns == 0 {
        return refuse(&errors::CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS);
    }
    check_metadata(config)?;
    check_groups(config)?;
    check_flow_ack(config)?;
    check_dead_letter(config, stream)?;
    check_retention(config, stream)
}

fn check_sampling(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.sample_freq.is_empty() {
        return Ok(());
    }
    match parse_percent(sample_text(config)) {
        Ok(0..) => Ok(()),
        // nats-server prints the error it does not have.
        Ok(_) => Err(errors::CONSUMER_INVALID_SAMPLING.with("<nil>")),
        Err(error) => Err(errors::CONSUMER_INVALID_SAMPLING.with(error)),
    }
}

/// Dead letters need a subject to go to, and must not come back to the consumer.
fn check_dead_letter(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let Some(to) = config.metadata.get(DEAD_LETTER_KEY).map(String::as_bytes) else {
        return Ok(());
    };
    let text = |what: &str| errors::CONSUMER_CREATE.with(format!("{DEAD_LETTER_KEY} {what}"));
    if !subject::is_valid_publish(to) || !subject::is_literal(to) || to.starts_with(b"$") {
        return Err(text("is not a subject to publish to"));
    }
    let is_own = stream.subjects.iter().any(|own| subject::matches(own.as_bytes(), to));
    let mut filters = filters_of(config).peekable();
    let takes_all = filters.peek().is_none();
    if is_own && (takes_all || filters.any(|filter| subject::matches(filter.as_bytes(), to))) {
        return Err(text("forms a cycle"));
    }
    Ok(())
}

fn sample_text(config: &ConsumerConfig) -> &str {
    config.sample_freq.strip_suffix('%').unwrap_or(&config.sample_freq)
}

fn parse_percent(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|error| {
        let what = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing \"{text}\": {what}")
    })
}

fn check_copies(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.num_replicas < 0 {
        return refuse(&errors::REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
    }
    if config.num_replicas > 1 {
        return refuse(&errors::STREAM_REPLICAS_NOT_SUPPORTED);
    }
    Ok(())
}

fn check_description(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.description.len() > DESCRIPTION_MAX {
        return Err(errors::CONSUMER_DESCRIPTION_TOO_LONG.with(DESCRIPTION_MAX));
    }
    Ok(())
}

fn check_metadata(config: &ConsumerConfig) -> Result<(), ApiError> {
    let metadata: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata > METADATA_MAX {
        return Err(errors::CONSUMER_METADATA_LENGTH.with("128KB"));
    }
    Ok(())
}

fn check_waits(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.backoff_ns.iter().any(|wait| *wait < 0) {
        return refuse(&errors::CONSUMER_BACK_OFF_NEGATIVE);
    }
    let steps = config.backoff_ns.len() as i64;
    if steps > 0 && config.max_deliver != -1 && config.max_deliver < steps {
        return refuse(&errors::CONSUMER_MAX_DELIVER_BACKOFF);
    }
    if config.ack_wait_ns < 0 {
        return refuse(&errors::CONSUMER_ACK_WAIT_NEGATIVE);
    }
    Ok(())
}

fn check_push(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let to = config.deliver_subject.as_bytes();
    if !subject::is_literal(to) {
        return refuse(&errors::CONSUMER_DELIVER_TO_WILDCARDS);
    }
    if !subject::is_valid_publish(to) {
        return refuse(&errors::CONSUMER_INVALID_DELIVER_SUBJECT);
    }
    let cycles = |own: &String| subject::overlaps(own.as_bytes(), to);
    if stream.subjects.iter().any(cycles) {
        return refuse(&errors::CONSUMER_DELIVER_CYCLE);
    }
    if config.max_waiting != 0 {
        return refuse(&errors::CONSUMER_PUSH_MAX_WAITING);
    }
    if config.max_ack_pending > 0 && config.ack_policy == AckPolicy::None {
        return refuse(&errors::CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED);
    }
    if config.idle_heartbeat_ns > 0 && config.idle_heartbeat_ns < HEARTBEAT_MIN_NS {
        return refuse(&errors::CONSUMER_SMALL_HEARTBEAT);
    }
    if config.direct && !config.durable_name.is_empty() {
        return refuse(&errors::CONSUMER_DIRECT_REQUIRES_EPHEMERAL);
    }
    Ok(())
}

fn check_pull(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    ceilings: &Ceilings,
) -> Result<(), ApiError> {
    if config.ack_policy == AckPolicy::None && stream.retention == Retention::WorkQueue {
        return refuse(&errors::CONSUMER_PULL_REQUIRES_ACK);
    }
    if config.rate_limit_bps > 0 {
        return refuse(&errors::CONSUMER_PULL_WITH_RATE_LIMIT);
    }
    if config.idle_heartbeat_ns > 0 {
        return refuse(&errors::CONSUMER_HB_REQUIRES_PUSH);
    }
    if config.flow_control {
        return refuse(&errors::CONSUMER_FC_REQUIRES_PUSH);
    }
    if config.max_expires_ns != 0 && config.max_expires_ns < EXPIRES_MIN_NS {
        return refuse(&errors::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL);
    }
    let batch_max = ceilings.request_batch_max;
    if batch_max > 0 && config.max_batch > batch_max {
        return Err(errors::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED.with(batch_max));
    }
    if config.direct {
        return refuse(&errors::CONSUMER_DIRECT_REQUIRES_PUSH);
    }
    Ok(())
}

fn check_flow_ack(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.ack_policy != AckPolicy::FlowControl {
        return Ok(());
    }
    if !config.flow_control {
        return refuse(&errors::CONSUMER_ACK_FC_REQUIRES_FC);
    }
    if config.max_ack_pending <= 0 {
        return refuse(&errors::CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING);
    }
    if config.ack_wait_ns != 0 || !config.backoff_ns.is_empty() {
        return refuse(&errors::CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT);
    }
    if config.max_deliver > 0 {
        return refuse(&errors::CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER);
    }
    Ok(())
}

fn check_groups(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.priority_policy == PriorityPolicy::None {
        if !config.priority_groups.is_empty() {
            return refuse(&errors::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE);
        }
        if config.priority_timeout_ns != 0 {
            return refuse(&errors::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE);
        }
        return Ok(());
    }
    if !config.deliver_subject.is_empty() {
        return refuse(&errors::CONSUMER_PUSH_WITH_PRIORITY_GROUP);
    }
    if config.priority_groups.is_empty() {
        return refuse(&errors::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP);
    }
    for group in &config.priority_groups {
        if group.is_empty() {
            return refuse(&errors::CONSUMER_EMPTY_GROUP_NAME);
        }
        if !is_valid_group(group) {
            return refuse(&errors::CONSUMER_INVALID_GROUP_NAME);
        }
    }
    Ok(())
}

/// Whether a priority group may have this name.
#[must_use]
pub fn is_valid_group(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/=)+".contains(&byte);
    name.len() <= GROUP_NAME_MAX && name.bytes().all(known)
}

fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let by_seq = config.opt_start_seq > 0;
    let by_time = config.opt_start_time.is_some();
    let alone = |what: &'static str, seq: &'static str, time: &'static str| {
        let _ = what;
        if by_seq {
            return invalid(seq);
        }
        if by_time {
            return invalid(time);
        }
        Ok(())
    };
    match config.deliver_policy {
        DeliverPolicy::All => alone(
            "all",
            "consumer delivery policy is deliver all, but optional start sequence is also set",
            "consumer delivery policy is deliver all, but optional start time is also set",
        ),
        DeliverPolicy::Last => alone(
            "last",
            "consumer delivery policy is deliver last, but optional start sequence is also set",
            "consumer delivery policy is deliver last, but optional start time is also set",
        ),
        DeliverPolicy::LastPerSubject => {
            alone(
                "last per subject",
                "consumer delivery policy is deliver last per subject, but optional start sequence is also set",
                "consumer delivery policy is deliver last per subject, but optional start time is also set",
            )?;
            if config.filter_subject.is_empty() && config.filter_subjects.is_empty() {
                return invalid(
                    "consumer delivery policy is deliver last per subject, but optional filter subject is not set",
                );
            }
            Ok(())
        }
        DeliverPolicy::New => alone(
            "new",
            "consumer delivery policy is deliver new, but optional start sequence is also set",
            "consumer delivery policy is deliver new, but optional start time is also set",
        ),
        DeliverPolicy::ByStartSequence => {
            if !by_seq {
                return invalid(
                    "consumer delivery policy is deliver by start sequence, but optional start sequence is not set",
                );
            }
            if by_time {
                return invalid(
                    "consumer delivery policy is deliver by start sequence, but optional start time is also set",
                );
            }
            Ok(())
        }
        DeliverPolicy::ByStartTime => {
            if !by_time {
                return invalid(
                    "consumer delivery policy is deliver by start time, but optional start time is not set",
                );
            }
            if by_seq {
                return invalid(
                    "consumer delivery policy is deliver by start time, but optional start start sequence is also set",
                );
            }
            Ok(())
        }
    }
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    if !config.filter_subject.is_empty() && !config.filter_subjects.is_empty() {
        return refuse(&errors::CONSUMER_DUPLICATE_FILTER_SUBJECTS);
    }
    if config.filter_subjects.iter().any(String::is_empty) {
        return refuse(&errors::CONSUMER_EMPTY_FILTER);
    }
    let filters: Vec<&[u8]> = filters_of(config).map(str::as_bytes).collect();
    for (at, filter) in filters.iter().enumerate() {
        let others = filters.get(at + 1..).unwrap_or_default();
        // Patterns that meet and do not contain each other may stand side by side.
        let contains = |one: &[u8], other: &[u8]| subject::matches(one, other);
        if others.iter().any(|other| contains(filter, other) || contains(other, filter)) {
            return refuse(&errors::CONSUMER_OVERLAPPING_SUBJECT_FILTERS);
        }
    }
    for filter in filters {
        // A filter that no message of the stream matches is allowed.
        if !subject::is_valid_subscribe(filter) {
            return Err(errors::STREAM_INVALID_CONFIG.with("invalid subject"));
        }
    }
    Ok(())
}

/// The filters of a configuration.
pub fn filters_of(config: &ConsumerConfig) -> impl Iterator<Item = &str> {
    let one = Some(config.filter_subject.as_str()).filter(|filter| !filter.is_empty());
    let several = config.filter_subjects.iter().map(String::as_str);
    one.into_iter().chain(several.filter(|filter| !filter.is_empty()))
}

fn check_retention(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    if stream.retention == Retention::WorkQueue {
        if !matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::FlowControl) {
            return refuse(&errors::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK);
        }
        if !matches!(config.deliver_policy, DeliverPolicy::All) {
            return refuse(&errors::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL);
        }
    }
    check_idle(config, stream)
}

/// What stream, account and server allow.
fn check_pending(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    ceilings: &Ceilings,
) -> Result<(), ApiError> {
    for max in [stream.consumer_limits.max_ack_pending, ceilings.ack_pending_max] {
        if max > 0 && config.max_ack_pending > max {
            return Err(errors::CONSUMER_MAX_PENDING_ACK_EXCESS.with(max));
        }
    }
    Ok(())
}

fn check_idle(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let idle_ns = stream.consumer_limits.inactive_threshold_ns;
    if idle_ns > 0 && config.inactive_threshold_ns > idle_ns {
        let text = wire::time::format_go_duration(idle_ns);
        return Err(errors::CONSUMER_INACTIVE_THRESHOLD_EXCESS.with(text));
    }
    Ok(())
}

/// Checks that a consumer of a work queue shares no message with its siblings, which are all
/// others of the stream.
///
/// # Errors
/// When it does.
pub fn check_siblings<'a>(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    siblings: impl Iterator<Item = &'a ConsumerConfig>,
) -> Result<(), ApiError> {
    if stream.retention != Retention::WorkQueue {
        return Ok(());
    }
    let mut others = siblings.peekable();
    if others.peek().is_none() {
        return Ok(());
    }
    if filters_of(config).next().is_none() {
        return refuse(&errors::CONSUMER_WQ_MULTIPLE_UNFILTERED);
    }
    for other in others {
        if filters_of(other).next().is_none() {
            return refuse(&errors::CONSUMER_WQ_MULTIPLE_UNFILTERED);
        }
        let meets = |mine: &str| {
            filters_of(other).any(|theirs| subject::overlaps(mine.as_bytes(), theirs.as_bytes()))
        };
        if filters_of(config).any(meets) {
            return refuse(&errors::CONSUMER_WQ_CONSUMER_NOT_UNIQUE);
        }
    }
    Ok(())
}

/// Checks that a consumer may change so.
///
/// # Errors
/// When something changes that must not.
pub fn check_update(old: &ConsumerConfig, new: &ConsumerConfig) -> Result<(), ApiError> {
    let create = |text: &str| Err(errors::CONSUMER_CREATE.with(text));
    if old.deliver_policy != new.deliver_policy {
        return create("deliver policy can not be updated");
    }
    if old.opt_start_seq != new.opt_start_seq {
        return create("start sequence can not be updated");
    }
    if old.opt_start_time != new.opt_start_time {
        return create("start time can not be updated");
    }
    if old.mem_storage != new.mem_storage {
        return create("storage type can not be updated");
    }
    if old.sourcing != new.sourcing {
        return create("sourcing can not be updated");
    }
    if old.ack_policy != new.ack_policy {
        return create("ack policy can not be updated");
    }
    if old.replay_policy != new.replay_policy {
        return create("replay policy can not be updated");
    }
    if old.idle_heartbeat_ns != new.idle_heartbeat_ns {
        return create("heart beats can not be updated");
    }
    if old.flow_control != new.flow_control {
        return create("flow control can not be updated");
    }
    if old.deliver_subject != new.deliver_subject {
        if old.deliver_subject.is_empty() {
            return create("can not update pull consumer to push based");
        }
        if new.deliver_subject.is_empty() {
            return create("can not update push consumer to pull based");
        }
    }
    if old.max_waiting != new.max_waiting {
        return create("max waiting can not be updated");
    }
    Ok(())
}

impl Settings {
    /// What a configuration means.
    #[must_use]
    pub fn of(config: &ConsumerConfig) -> Self {
        let positive = |number: i64| u64::try_from(number).unwrap_or(0);
        let size = |number: i64| usize::try_from(number).unwrap_or(0);
        let count = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
        let percent = parse_percent(sample_text(config)).unwrap_or(0);
        Self {
            ack: match config.ack_policy {
                AckPolicy::None => Ack::None,
                AckPolicy::All => Ack::All,
                AckPolicy::Explicit => Ack::Explicit,
                AckPolicy::FlowControl => Ack::FlowControl,
            },
            ack_wait_ns: positive(config.ack_wait_ns),
            backoff_ns: config.backoff_ns.iter().map(|wait| positive(*wait)).collect(),
            deliver_max: count(config.max_deliver),
            ack_pending_max: size(config.max_ack_pending),
            headers_only: config.headers_only,
            original_pace: config.replay_policy == ReplayPolicy::Original,
            sample_percent: count(percent),
            inactive_ns: positive(config.inactive_threshold_ns),
            waiting_max: size(config.max_waiting).max(1),
            batch_max: count(config.max_batch),
            expires_max_ns: positive(config.max_expires_ns),
            request_bytes_max: size(config.max_bytes),
            groups: config.priority_groups.iter().map(|group| group.as_str().into()).collect(),
            priority: match config.priority_policy {
                PriorityPolicy::None => Priority::None,
                PriorityPolicy::Overflow => Priority::Overflow,
                PriorityPolicy::PinnedClient => Priority::Pinned,
                PriorityPolicy::Prioritized => Priority::Prioritized,
            },
            pinned_ns: positive(config.priority_timeout_ns),
            deliver_subject: config.deliver_subject.as_bytes().into(),
            heartbeat_ns: positive(config.idle_heartbeat_ns),
            flow_control: config.flow_control,
            rate_bytes: config.rate_limit_bps / 8,
            dead_letter: config.metadata.get(DEAD_LETTER_KEY).map(|to| to.as_bytes().into()),
            in_memory: config.mem_storage,
        }
    }
}
