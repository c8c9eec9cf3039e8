//! What is wrong with a request whatever the stream is: nats-server says so before it looks
//! whether the stream exists.

use wire::api::consumer_config::{ConsumerConfig, CreateConsumerRequest};
use wire::api::decode::{Mode, is_empty_request};
use wire::api::errors::{self, ApiError};
use wire::api::requests::{
    ConsumersRequest, MsgDeleteRequest, MsgGetRequest, PauseRequest, PurgeRequest,
    StreamInfoRequest, UnpinRequest, decode_body, expect_empty,
};
use wire::api::subjects::{Call, has_path_separator, is_valid_name};

use super::Shop;
use super::parcel::Request;
use crate::consumer::config::{NAME_MAX, is_valid_group};
use crate::stream::purge::check_purge;
use crate::stream::reads::check_get;

/// What the subject of a request to make a consumer says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) stream: &'a str,
    pub(super) consumer: Option<&'a str>,
    pub(super) filter: Option<&'a [u8]>,
    /// The old form for consumers with a durable name.
    pub(super) durable: bool,
}

impl<'a> Asked<'a> {
    /// `None` when the request is not to make a consumer.
    pub(super) fn of(call: &Call<'a>) -> Option<Self> {
        Some(match *call {
            Call::ConsumerCreate { stream, consumer, filter } => {
                Self { stream, consumer, filter, durable: false }
            }
            Call::ConsumerDurableCreate { stream, consumer } => {
                Self { stream, consumer: Some(consumer), filter: None, durable: true }
            }
            _ => return None,
        })
    }

    /// The name that the consumer will have; empty if the server gives one.
    fn name<'b>(&self, config: &'b ConsumerConfig) -> &'b str
    where
        'a: 'b,
    {
        match self.consumer {
            Some(name) => name,
            None if config.name.is_empty() => &config.durable_name,
            None => &config.name,
        }
    }
}

/// What is wrong with the names in a request to make a consumer, in the server's order.
pub(super) fn check_names(asked: &Asked<'_>, body: &CreateConsumerRequest) -> Result<(), ApiError> {
    let config = &body.config;
    if body.stream_name != asked.stream {
        return Err(errors::STREAM_MISMATCH);
    }
    if asked.durable {
        if config.durable_name.is_empty() {
            return Err(errors::CONSUMER_DURABLE_NAME_NOT_SET);
        }
        if Some(config.durable_name.as_str()) != asked.consumer {
            return Err(errors::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
        }
    } else if asked.consumer.is_none() && !config.durable_name.is_empty() {
        return Err(errors::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME);
    }
    if has_path_separator(asked.name(config)) {
        return Err(errors::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS);
    }
    if let Some(wanted) = asked.consumer
        && !asked.durable
    {
        if !config.durable_name.is_empty() && wanted != config.durable_name {
            return Err(errors::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
        }
        check_asked_filter(asked, config)?;
    }
    if config.num_replicas > 1 {
        return Err(errors::STREAM_REPLICAS_NOT_SUPPORTED);
    }
    Ok(())
}

fn check_asked_filter(asked: &Asked<'_>, config: &ConsumerConfig) -> Result<(), ApiError> {
    let Some(filter) = asked.filter else {
        return Ok(());
    };
    if !config.filter_subjects.is_empty() {
        return Err(errors::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED);
    }
    if config.filter_subject.as_bytes() == filter {
        Ok(())
    } else {
        Err(errors::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH)
    }
}

/// Whether the name of a consumer of a stream that exists can be one.
pub(super) fn check_name_form(asked: &Asked<'_>, config: &ConsumerConfig) -> Result<(), ApiError> {
    let name = asked.name(config).replace('\0', "");
    if !name.is_empty() && !is_valid_name(&name) {
        let text = r"consumer name can not contain '.', '*', '>', '\', '/'";
        return Err(errors::STREAM_INVALID_CONFIG.with(text));
    }
    Ok(())
}

/// Whether the name of a consumer can be one of a file, which is looked at last.
pub(super) fn check_file_name(config: &ConsumerConfig) -> Result<(), ApiError> {
    let has_nul = config.name.contains('\0');
    if config.name.len() <= NAME_MAX && !has_nul {
        return Ok(());
    }
    // nats-server finds that a name without durable is too long when its file does.
    if config.durable_name.is_empty() || has_nul {
        return Err(errors::CONSUMER_CREATE.with("error creating store for consumer"));
    }
    Err(errors::CONSUMER_NAME_TOO_LONG.with(NAME_MAX))
}

/// Reads a request to let go of a pinned client.
pub(super) fn read_unpin(request: &Request<'_>) -> Result<UnpinRequest, ApiError> {
    let body: UnpinRequest = decode_body(request.body, Mode::Lax)?;
    if body.group.is_empty() {
        return Err(errors::INVALID_JSON.with("consumer group not specified"));
    }
    if !is_valid_group(&body.group) {
        return Err(errors::CONSUMER_INVALID_GROUP_NAME);
    }
    Ok(body)
}

impl Shop<'_, '_> {
    /// What is wrong with a request about a stream that does not exist, beside that.
    pub(super) fn check_early(
        &self,
        call: &Call<'_>,
        request: &Request<'_>,
    ) -> Result<(), ApiError> {
        match call {
            Call::StreamInfo { .. } => self.read::<StreamInfoRequest>(request).map(drop),
            Call::StreamPurge { .. } => check_purge(&self.read::<PurgeRequest>(request)?),
            Call::StreamSnapshot { .. } if is_empty_request(request.body) => {
                Err(errors::BAD_REQUEST)
            }
            Call::MsgGet { .. } => check_get(&self.read::<MsgGetRequest>(request)?),
            Call::MsgDelete { .. } => self.read::<MsgDeleteRequest>(request).map(drop),
            Call::ConsumerNames { .. } | Call::ConsumerList { .. } => {
                self.read::<ConsumersRequest>(request).map(drop)
            }
            Call::ConsumerInfo { .. } | Call::ConsumerDelete { .. } => expect_empty(request.body),
            Call::ConsumerPause { .. } => self.read::<PauseRequest>(request).map(drop),
            Call::ConsumerUnpin { .. } => read_unpin(request).map(drop),
            Call::StreamLeaderStepdown { .. }
            | Call::StreamPeerRemove { .. }
            | Call::StreamPeerEvacuate { .. }
            | Call::StreamCancelMove { .. }
            | Call::ConsumerLeaderStepdown { .. }
            | Call::ConsumerPeerRemove { .. }
            | Call::ConsumerPeerEvacuate { .. } => Err(errors::CLUSTER_REQUIRED),
            _ => Asked::of(call).map_or(Ok(()), |asked| {
                check_names(&asked, &self.read::<CreateConsumerRequest>(request)?)
            }),
        }
    }
}
