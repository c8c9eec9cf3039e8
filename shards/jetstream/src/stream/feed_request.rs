//! The requests of feeds for their consumers, and the answers.

use serde_json::Value;
use wire::api::consumer_config::{ConsumerConfig, CreateConsumerRequest};
use wire::api::errors::{self, ApiError};
use wire::api::policy::{AckPolicy, DeliverPolicy};
use wire::api::timestamp::Timestamp;
use wire::{headers, json};

use super::feed::{Feed, Phase};
use super::index_name::short_hash;
use super::{Cx, Stream};

const SECOND_NS: i64 = 1_000_000_000;
/// Never, as far as a consumer without acknowledgements is concerned, ns.
const ACK_WAIT_NS: i64 = 22 * 3600 * SECOND_NS;
/// Which incarnation of a stream is meant.
const IDENTITY: &[u8] = b"Nats-Stream-Identity";

/// What the answer to a request says.
struct Answer {
    name: String,
    deliver_subject: String,
    has_flow_acks: bool,
    delivered: u64,
    identity: String,
}

impl Answer {
    fn read(block: &[u8], body: &[u8]) -> Result<Self, ApiError> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| errors::INVALID_JSON.with(error))?;
        if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
            let number = |key: &str| {
                error.get(key).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok())
            };
            let text = error.get("description").and_then(Value::as_str).unwrap_or_default();
            return Err(ApiError {
                code: number("code").unwrap_or(500),
                err_code: number("err_code").unwrap_or_default(),
                description: text.to_owned().into(),
            });
        }
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(config) = body.get("config").filter(|config| config.is_object()) else {
            return Err(
                errors::SOURCE_CONSUMER_SETUP_FAILED.with("invalid consumer create response")
            );
        };
        let delivered = body.pointer("/delivered/stream_seq").and_then(Value::as_u64);
        let identity = headers::get(block, IDENTITY).unwrap_or_default();
        Ok(Self {
            name: text(body.get("name")),
            deliver_subject: text(config.get("deliver_subject")),
            has_flow_acks: config.get("ack_policy").and_then(Value::as_str)
                == Some(AckPolicy::FlowControl.as_str()),
            delivered: delivered.unwrap_or(0),
            identity: String::from_utf8_lossy(identity).into_owned(),
        })
    }
}

impl Stream {
    /// Sends the request for a feed's consumer.
    pub(super) fn ask_for_consumer(&mut self, at: usize, cx: &mut Cx<'_, '_>) {
        if at >= self.feeds.all.len() {
            return;
        }
        let mut feed = self.feeds.all.swap_remove(at);
        self.stop_feed(&mut feed, cx);
        if feed.is_mirror {
            feed.stream_seq = self.store.last_seq();
        }
        self.send_request(&mut feed, cx);
        self.feeds.all.push(feed);
        let last = self.feeds.all.len() - 1;
        self.feeds.all.swap(at, last);
    }

    fn send_request(&self, feed: &mut Feed, cx: &mut Cx<'_, '_>) {
        let reply = self.await_reply(feed, cx);
        let mut block = Vec::new();
        if feed.level > 0 {
            let level = feed.level.to_string();
            headers::set(&mut block, b"Nats-Required-Api-Level", level.as_bytes());
        }
        if feed.level >= 5 && !feed.is_mirror {
            headers::set(&mut block, IDENTITY, feed.identity.as_bytes());
        }
        let (rest, body) = match &feed.source.consumer {
            Some(consumer) => {
                (format!("CONSUMER.RESET.{}.{}", feed.source.name, consumer.name), String::new())
            }
            None => self.create_request(feed, cx),
        };
        let to = feed.api_subject(&rest);
        cx.fx.publish(self.id.account, to.as_bytes(), &reply, &block, body.as_bytes());
        Self::note_asked(feed, cx.ctx.mono_ns);
    }

    /// Subject and body of the request to make a consumer.
    fn create_request(&self, feed: &Feed, cx: &mut Cx<'_, '_>) -> (String, String) {
        let id = cx.ids.next_text();
        let kind = if feed.is_mirror { "JS_MIRROR" } else { "JS_SRC" };
        let hash = short_hash(&format!("{} {}", self.id.account_name, self.config.name));
        let mut config = ConsumerConfig {
            name: format!("{kind}_{hash}_{id}"),
            deliver_subject: feed.new_inbox(&id),
            ack_policy: AckPolicy::None,
            ack_wait_ns: ACK_WAIT_NS,
            max_deliver: 1,
            idle_heartbeat_ns: SECOND_NS,
            flow_control: true,
            direct: true,
            sourcing: feed.level >= 4,
            inactive_threshold_ns: 10 * SECOND_NS,
            ..ConsumerConfig::default()
        };
        let word = if feed.is_mirror { "mirror" } else { "src" };
        let mut note = |key: &str, value: &str| {
            config.metadata.insert(format!("_nats.{word}.{key}"), value.to_owned());
        };
        note("stream", &self.config.name);
        note("acc", &self.id.account_name);
        if !self.id.domain.is_empty() {
            note("domain", &self.id.domain);
        }
        if feed.is_mirror {
            self.start_mirror(feed, &mut config);
        } else {
            self.start_source(feed, &mut config);
        }
        let filters: Vec<String> =
            feed.source.subject_transforms.iter().map(|change| change.src.clone()).collect();
        match filters.as_slice() {
            [] => config.filter_subject.clone_from(&feed.source.filter_subject),
            [filter] => config.filter_subject.clone_from(filter),
            _ => config.filter_subjects = filters,
        }
        let stream = feed.source.name.clone();
        let rest = if config.filter_subject.is_empty() {
            format!("CONSUMER.CREATE.{stream}")
        } else {
            format!("CONSUMER.CREATE.{stream}.{}.{}", config.name, config.filter_subject)
        };
        let request = CreateConsumerRequest {
            stream_name: stream,
            config,
            ..CreateConsumerRequest::default()
        };
        (rest, json::to_go_string(&request))
    }

    /// A mirror goes on behind its own last message; an empty one where it is told to start.
    fn start_mirror(&self, feed: &Feed, config: &mut ConsumerConfig) {
        let state = self.store.state();
        if state.last_seq > 0 {
            config.deliver_policy = DeliverPolicy::ByStartSequence;
            config.opt_start_seq = state.last_seq + 1;
        } else if feed.source.opt_start_seq > 0 {
            config.deliver_policy = DeliverPolicy::ByStartSequence;
            config.opt_start_seq = feed.source.opt_start_seq;
        } else if feed.source.opt_start_time.is_some() {
            config.deliver_policy = DeliverPolicy::ByStartTime;
            config.opt_start_time = feed.source.opt_start_time;
        }
    }

    /// A source goes on behind the last message that came from it. One that is new, or whose
    /// messages have all left without a trace, starts where it is told to, or with what was
    /// stored since this stream last got anything.
    fn start_source(&self, feed: &Feed, config: &mut ConsumerConfig) {
        if feed.stream_seq > 0 {
            config.deliver_policy = DeliverPolicy::ByStartSequence;
            config.opt_start_seq = feed.stream_seq + 1;
            return;
        }
        if feed.source.opt_start_seq > 0 {
            config.deliver_policy = DeliverPolicy::ByStartSequence;
            config.opt_start_seq = feed.source.opt_start_seq;
            return;
        }
        let state = self.store.state();
        let last = state.last_ts_ns.map(Timestamp);
        let start = match (feed.source.opt_start_time, last) {
            (Some(start), Some(last)) => Some(start.max(last)),
            (Some(start), None) => Some(start),
            (None, last) => last.filter(|_| state.first_seq > 1 && !feed.is_recreated),
        };
        if start.is_some() {
            config.deliver_policy = DeliverPolicy::ByStartTime;
            config.opt_start_time = start;
        }
    }

    /// The answer to the request of the feed with this number.
    pub(super) fn handle_feed_reply(
        &mut self,
        number: u32,
        block: &[u8],
        body: &[u8],
        cx: &mut Cx<'_, '_>,
    ) {
        let Some(at) = self.feeds.at(number) else { return };
        let Some(feed) = self.feeds.all.get(at) else { return };
        if !matches!(feed.phase, Phase::Asking { .. }) {
            return;
        }
        // Nobody listens at the API of the other side.
        if headers::status(block).is_some_and(|(code, _)| code == 503) {
            self.restart_feed(at, true, cx);
            return;
        }
        match Answer::read(block, body) {
            Ok(answer) => self.run_feed(at, &answer, cx),
            Err(error) => self.refuse_feed(at, error, cx),
        }
    }

    /// The other side has refused the consumer: it may want a simpler request, or be another
    /// stream of the same name by now.
    fn refuse_feed(&mut self, at: usize, error: ApiError, cx: &mut Cx<'_, '_>) {
        let Some(feed) = self.feeds.all.get_mut(at) else { return };
        if error.is(&errors::CONSUMER_STREAM_IDENTITY_MISMATCH) {
            (feed.stream_seq, feed.consumer_seq) = (0, 0);
            feed.identity.clear();
            feed.is_recreated = true;
            self.restart_feed(at, false, cx);
            return;
        }
        let wants_less = error.is(&errors::REQUIRED_API_LEVEL) || error.is(&errors::INVALID_JSON);
        if wants_less && feed.level > 0 {
            feed.level = if feed.level > 4 { 4 } else { 0 };
            self.ask_for_consumer(at, cx);
            return;
        }
        feed.error = Some(error);
        self.restart_feed(at, true, cx);
    }

    fn run_feed(&mut self, at: usize, answer: &Answer, cx: &mut Cx<'_, '_>) {
        if at >= self.feeds.all.len() {
            return;
        }
        let mut feed = self.feeds.all.swap_remove(at);
        self.drop_reply(&mut feed, cx);
        let durable = feed.source.consumer.clone();
        let lacks_acks = durable.is_some() && !answer.has_flow_acks;
        if lacks_acks {
            feed.error = Some(if feed.is_mirror {
                errors::MIRROR_CONSUMER_REQUIRES_ACK_FC
            } else {
                errors::SOURCE_CONSUMER_REQUIRES_ACK_FC
            });
        } else {
            let inbox = durable.map_or_else(
                || answer.deliver_subject.clone(),
                |consumer| consumer.deliver_subject,
            );
            self.open_inbox(&mut feed, inbox.as_bytes(), cx);
            self.begin_feed(&mut feed, answer, cx.ctx.mono_ns);
        }
        self.feeds.all.push(feed);
        let last = self.feeds.all.len() - 1;
        self.feeds.all.swap(at, last);
        if lacks_acks {
            self.restart_feed(at, true, cx);
        }
    }

    fn begin_feed(&mut self, feed: &mut Feed, answer: &Answer, now_ns: u64) {
        if feed.is_mirror {
            // What the origin no longer has, or was not asked for, has no messages here either.
            let last = self.store.last_seq();
            if answer.delivered > last {
                if self.store.state().messages == 0 {
                    self.store.remove_up_to(answer.delivered);
                } else {
                    // Where that fails, the next message fails as well and begins the feed again.
                    let _ = self.store.skip_to(answer.delivered);
                }
            }
            feed.stream_seq = answer.delivered.max(last);
        } else {
            let is_other = !answer.identity.is_empty()
                && !feed.identity.is_empty()
                && answer.identity != feed.identity;
            if feed.is_recreated || is_other {
                feed.stream_seq = 0;
            }
            feed.identity.clone_from(&answer.identity);
            feed.is_recreated = false;
            feed.stream_seq = feed.stream_seq.max(answer.delivered);
        }
        feed.consumer = answer.name.as_bytes().into();
        feed.consumer_seq = 0;
        feed.heard_ns = Some(now_ns);
        feed.fails = 0;
        feed.error = None;
        feed.phase = Phase::Running;
    }
}
