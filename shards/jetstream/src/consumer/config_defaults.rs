//! What a configuration of a consumer leaves out, and what of it is put right. In pedantic mode
//! putting something right is an error; what nats-server lets pass there passes here too.

use wire::api::config::StreamConfig;
use wire::api::consumer_config::ConsumerConfig;
use wire::api::errors::{self, ApiError};
use wire::api::policy::{AckPolicy, PriorityPolicy};

use super::config::Ceilings;

/// Time for an acknowledgement, ns.
const ACK_WAIT_NS: i64 = 30_000_000_000;
/// Idle time of a consumer without a durable name, ns.
const INACTIVE_NS: i64 = 5_000_000_000;
/// Time that a pinned client may be silent, ns.
const PINNED_NS: i64 = 120_000_000_000;
/// Heartbeat of a consumer whose flow control acknowledges, ns.
const FLOW_ACK_HEARTBEAT_NS: i64 = 1_000_000_000;
/// Requests that may wait.
const WAITING_MAX: i64 = 512;
/// Unsettled messages.
const ACK_PENDING_MAX: i64 = 1000;

/// In pedantic mode a value that would be replaced is an error.
fn replace(pedantic: bool, text: &str) -> Result<(), ApiError> {
    if pedantic { Err(errors::PEDANTIC.with(text)) } else { Ok(()) }
}

/// Fills in what was left out.
///
/// # Errors
/// In pedantic mode, when something that was given would be replaced, or something that the
/// stream limits was not given.
pub fn set_defaults(
    config: &mut ConsumerConfig,
    stream: &StreamConfig,
    ceilings: &Ceilings,
    pedantic: bool,
) -> Result<(), ApiError> {
    if config.name.is_empty() {
        config.name.clone_from(&config.durable_name);
    }
    raise_negatives(config, pedantic)?;
    if config.max_deliver == 0 {
        config.max_deliver = -1;
    }
    set_waits(config, pedantic)?;
    set_flow_ack(config, pedantic)?;
    set_ack_pending(config, stream, ceilings, pedantic)?;
    set_inactive(config, stream, pedantic)?;
    if config.deliver_subject.is_empty() {
        if config.max_waiting == 0 {
            config.max_waiting = WAITING_MAX;
        }
        if config.max_batch == 0 && ceilings.request_batch_max > 0 {
            let text = "max_request_batch must be set if it's JetStream limits are set";
            replace(pedantic, text)?;
            config.max_batch = ceilings.request_batch_max;
        }
    }
    if config.priority_policy == PriorityPolicy::PinnedClient && config.priority_timeout_ns == 0 {
        config.priority_timeout_ns = PINNED_NS;
    }
    Ok(())
}

/// Numbers below zero count as left out, or as without limit.
fn raise_negatives(config: &mut ConsumerConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.max_deliver < -1 {
        replace(pedantic, "max_deliver must be set to -1")?;
        config.max_deliver = -1;
    }
    if config.max_ack_pending < -1 {
        replace(pedantic, "max_ack_pending must be set to -1")?;
        config.max_ack_pending = -1;
    }
    let numbers = [
        (&mut config.max_waiting, "max_waiting must not be negative"),
        (&mut config.max_batch, "max_batch must not be negative"),
        (&mut config.max_expires_ns, "max_expires must not be negative"),
        (&mut config.max_bytes, "max_bytes must not be negative"),
        (&mut config.idle_heartbeat_ns, "idle_heartbeat must not be negative"),
        (&mut config.inactive_threshold_ns, "inactive_threshold must not be negative"),
        (&mut config.priority_timeout_ns, "priority_timeout must not be negative"),
    ];
    for (number, text) in numbers {
        if *number < 0 {
            replace(pedantic, text)?;
            *number = 0;
        }
    }
    Ok(())
}

fn set_waits(config: &mut ConsumerConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.ack_wait_ns == 0 && matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::All)
    {
        config.ack_wait_ns = ACK_WAIT_NS;
    }
    if let Some(first) = config.backoff_ns.first().copied()
        && config.ack_wait_ns != first
    {
        replace(pedantic, "first backoff value has to equal batch AckWait")?;
        config.ack_wait_ns = first;
    }
    Ok(())
}

/// Flow control that acknowledges needs flow control and a heartbeat of one second.
fn set_flow_ack(config: &mut ConsumerConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.ack_policy != AckPolicy::FlowControl || config.deliver_subject.is_empty() {
        return Ok(());
    }
    if pedantic {
        if !config.flow_control {
            return Err(errors::CONSUMER_ACK_FC_REQUIRES_FC);
        }
        if config.idle_heartbeat_ns != FLOW_ACK_HEARTBEAT_NS {
            let text = "flow control ack policy heartbeat needs to be 1s";
            return Err(errors::STREAM_INVALID_CONFIG.with(text));
        }
    }
    config.flow_control = true;
    config.idle_heartbeat_ns = FLOW_ACK_HEARTBEAT_NS;
    Ok(())
}

fn set_ack_pending(
    config: &mut ConsumerConfig,
    stream: &StreamConfig,
    ceilings: &Ceilings,
    pedantic: bool,
) -> Result<(), ApiError> {
    if config.max_ack_pending != 0 {
        return Ok(());
    }
    let stream_max = stream.consumer_limits.max_ack_pending;
    if stream_max != 0 {
        replace(pedantic, "max_ack_pending must be set if it's configured in stream limits")?;
        config.max_ack_pending = stream_max;
    } else if config.ack_policy != AckPolicy::None {
        config.max_ack_pending = ACK_PENDING_MAX;
    } else {
        return Ok(());
    }
    if ceilings.ack_pending_max > 0 {
        config.max_ack_pending = config.max_ack_pending.min(ceilings.ack_pending_max);
    }
    Ok(())
}

fn set_inactive(
    config: &mut ConsumerConfig,
    stream: &StreamConfig,
    pedantic: bool,
) -> Result<(), ApiError> {
    if config.inactive_threshold_ns != 0 {
        return Ok(());
    }
    let stream_max_ns = stream.consumer_limits.inactive_threshold_ns;
    if stream_max_ns > 0 {
        replace(pedantic, "inactive_threshold must be set if it's configured in stream limits")?;
        config.inactive_threshold_ns = stream_max_ns;
    }
    Ok(())
}

/// Gives a consumer without a durable name an idle time. Apart from the other defaults, because
/// nats-server compares a request with the consumer that is there before this. `durable_name` is
/// the one it has so far: an update that makes it durable leaves it the idle time of the others
/// until the next one.
pub fn set_inactive_default(durable_name: &str, config: &mut ConsumerConfig) {
    if durable_name.is_empty() && config.inactive_threshold_ns == 0 {
        config.inactive_threshold_ns = INACTIVE_NS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(
        change: impl FnOnce(&mut ConsumerConfig),
        stream: &StreamConfig,
        pedantic: bool,
    ) -> Result<ConsumerConfig, ApiError> {
        let mut config = ConsumerConfig::default();
        change(&mut config);
        let ceilings = Ceilings { ack_pending_max: 500, request_batch_max: 7 };
        set_defaults(&mut config, stream, &ceilings, pedantic)?;
        set_inactive_default(&config.durable_name.clone(), &mut config);
        Ok(config)
    }

    #[test]
    fn what_is_left_out_depends_on_the_policy() {
        let stream = StreamConfig::default();
        let config = filled(|c| c.ack_policy = AckPolicy::None, &stream, false).unwrap();
        assert_eq!((config.ack_wait_ns, config.max_ack_pending), (0, 0));
        assert_eq!((config.max_waiting, config.max_batch), (WAITING_MAX, 7));
        assert_eq!(config.inactive_threshold_ns, INACTIVE_NS);
        let config = filled(
            |c| {
                c.ack_policy = AckPolicy::Explicit;
                c.durable_name = "d".to_owned();
            },
            &stream,
            false,
        )
        .unwrap();
        assert_eq!((config.ack_wait_ns, config.max_ack_pending), (ACK_WAIT_NS, 500));
        assert_eq!((config.inactive_threshold_ns, config.name.as_str()), (0, "d"));
    }

    #[test]
    fn pedantic_refuses_what_would_be_replaced() {
        let mut stream = StreamConfig::default();
        type Change = fn(&mut ConsumerConfig);
        let text = "max_request_batch must be set if it's JetStream limits are set";
        assert_eq!(filled(|_| {}, &stream, true), Err(errors::PEDANTIC.with(text)));
        let changes: [(Change, &str); 4] = [
            (|c| c.max_deliver = -5, "max_deliver must be set to -1"),
            (|c| c.max_waiting = -1, "max_waiting must not be negative"),
            (|c| c.max_ack_pending = -7, "max_ack_pending must be set to -1"),
            (|c| c.backoff_ns = vec![6], "first backoff value has to equal batch AckWait"),
        ];
        for (change, text) in changes {
            assert_eq!(filled(change, &stream, true), Err(errors::PEDANTIC.with(text)));
            assert!(filled(change, &stream, false).is_ok());
        }
        stream.consumer_limits.max_ack_pending = 10;
        stream.consumer_limits.inactive_threshold_ns = 60;
        let text = "max_ack_pending must be set if it's configured in stream limits";
        assert_eq!(filled(|_| {}, &stream, true), Err(errors::PEDANTIC.with(text)));
        let text = "inactive_threshold must be set if it's configured in stream limits";
        let three = |c: &mut ConsumerConfig| c.max_ack_pending = 3;
        assert_eq!(filled(three, &stream, true), Err(errors::PEDANTIC.with(text)));
        let config = filled(three, &stream, false).unwrap();
        assert_eq!((config.max_ack_pending, config.inactive_threshold_ns), (3, 60));
    }

    #[test]
    fn flow_control_that_acknowledges_brings_its_heartbeat() {
        let stream = StreamConfig::default();
        let flow = |c: &mut ConsumerConfig| {
            c.ack_policy = AckPolicy::FlowControl;
            c.deliver_subject = "d".to_owned();
            c.idle_heartbeat_ns = 2;
        };
        let config = filled(flow, &stream, false).unwrap();
        assert!(config.flow_control);
        assert_eq!(
            (config.idle_heartbeat_ns, config.max_ack_pending),
            (FLOW_ACK_HEARTBEAT_NS, 500)
        );
        assert_eq!(filled(flow, &stream, true), Err(errors::CONSUMER_ACK_FC_REQUIRES_FC));
    }
}
