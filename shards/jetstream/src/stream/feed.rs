//! Messages from another stream: the mirror's origin, or a source. A feed has a push consumer
//! made at the other stream over its API, and takes what that delivers.
//!
//! ```text
//!   waiting ──time──► asking ──answer──► running ──gap, silence──► waiting
//!      ▲                │                   │
//!      └──error, silence┘                   └─► messages, heartbeats, flow control
//! ```

use std::collections::BTreeMap;

use wire::api::config::StreamSource;
use wire::api::errors::ApiError;
use wire::api::info::SourceInfo;
use wire::subject;
use wire::transform::Transform;

use super::index_name::index_name;
use super::{Cx, Stream};
use crate::effect::{Endpoint, Interest};

/// Between two requests for the consumer of one feed, ns.
const REQUEST_DISTANCE_NS: u64 = 2_000_000_000;
/// More for each failure in a row, ns.
const BACKOFF_NS: u64 = 10_000_000_000;
/// But not more than this.
const BACKOFF_MAX_NS: u64 = 120_000_000_000;
/// How long an answer to the request for a consumer is waited for, ns.
const CREATE_WAIT_NS: u64 = 30_000_000_000;
/// The same for a consumer that is there already.
const RESET_WAIT_NS: u64 = 5_000_000_000;
/// A feed that has heard nothing for so long, not even a heartbeat, begins again, ns.
pub(super) const SILENCE_NS: u64 = 10_000_000_000;

/// What a feed is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing until then, monotonic ns.
    Waiting { until_ns: u64 },
    /// Has asked for its consumer; gives up then.
    Asking { until_ns: u64 },
    /// Has a consumer.
    Running,
}

/// A feed. See the module.
#[derive(Debug)]
pub(super) struct Feed {
    /// Its number among the feeds of the stream, for [`Endpoint`]; never used again.
    pub(super) number: u32,
    pub(super) source: StreamSource,
    pub(super) index_name: String,
    pub(super) is_mirror: bool,
    pub(super) transforms: Vec<Transform>,
    pub(super) phase: Phase,
    /// Where answers and messages come in, while subscribed.
    reply: Option<Box<[u8]>>,
    inbox: Option<Box<[u8]>>,
    pub(super) consumer: Box<[u8]>,
    /// Sequence of the last delivery.
    pub(super) consumer_seq: u64,
    /// Sequence in the other stream of the last message.
    pub(super) stream_seq: u64,
    pub(super) lag: u64,
    /// Monotonic ns.
    pub(super) heard_ns: Option<u64>,
    requested_ns: Option<u64>,
    pub(super) fails: u64,
    pub(super) error: Option<ApiError>,
    /// API level that the other side is asked for; 0 is none.
    pub(super) level: u8,
    /// Which incarnation of the other stream this is, as far as its server says.
    pub(super) identity: String,
    /// The other stream was made anew.
    pub(super) is_recreated: bool,
}

/// The feeds of a stream, and how far they were known to be.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    pub(super) all: Vec<Feed>,
    next_number: u32,
    /// Stored messages up to here have been looked at for where feeds go on.
    pub(super) located_down_to: Option<u64>,
    pub(super) is_located: bool,
    /// The feeds of the configuration are there.
    pub(super) is_started: bool,
    /// Messages since the last note.
    pub(super) unnoted: u32,
    /// When the note is due, monotonic ns.
    pub(super) note_due_ns: Option<u64>,
    /// Own sequence of the last note; messages up to it need not be looked at.
    pub(super) noted_seq: u64,
    /// How far sources were at the last note: sequence and identity by name.
    pub(super) recovered: BTreeMap<String, (u64, String)>,
}

impl Feeds {
    pub(super) fn at(&self, number: u32) -> Option<usize> {
        self.all.iter().position(|feed| feed.number == number)
    }
}

impl Feed {
    fn new(number: u32, source: StreamSource, is_mirror: bool, now_ns: u64) -> Self {
        // They have been checked; one that cannot be built changes nothing.
        let transforms = source
            .subject_transforms
            .iter()
            .filter_map(|change| Transform::new(change.src.as_bytes(), change.dest.as_bytes()).ok())
            .collect();
        Self {
            number,
            index_name: index_name(&source),
            source,
            is_mirror,
            transforms,
            phase: Phase::Waiting { until_ns: now_ns },
            reply: None,
            inbox: None,
            consumer: Box::default(),
            consumer_seq: 0,
            stream_seq: 0,
            lag: 0,
            heard_ns: None,
            requested_ns: None,
            fails: 0,
            error: None,
            level: 5,
            identity: String::new(),
            is_recreated: false,
        }
    }

    /// `$JS.API…` as the API of the other stream is reached.
    pub(super) fn api_subject(&self, rest: &str) -> String {
        match &self.source.external {
            Some(external) if !external.api.is_empty() => {
                format!("{}.{rest}", external.api).replace("..", ".")
            }
            _ => format!("$JS.API.{rest}"),
        }
    }

    /// A fresh inbox for messages.
    pub(super) fn new_inbox(&self, id: &str) -> String {
        let kind = if self.is_mirror { 'M' } else { 'S' };
        match &self.source.external {
            Some(external) if !external.deliver.is_empty() => {
                format!("{}.{kind}.{id}", external.deliver).replace("..", ".")
            }
            _ => format!("$JS.{kind}.{id}"),
        }
    }

    /// When something is to be done for want of anything else, monotonic ns.
    fn deadline_ns(&self) -> u64 {
        match self.phase {
            Phase::Waiting { until_ns } | Phase::Asking { until_ns } => until_ns,
            Phase::Running => self.heard_ns.unwrap_or(0).saturating_add(SILENCE_NS),
        }
    }

    fn info(&self, now_ns: u64) -> SourceInfo {
        let active_ns = match self.heard_ns {
            None => -1,
            Some(at_ns) => i64::try_from(now_ns.saturating_sub(at_ns)).unwrap_or(i64::MAX),
        };
        let mut info = SourceInfo {
            name: self.source.name.clone(),
            external: self.source.external.clone(),
            lag: self.lag,
            seq: if self.is_mirror { 0 } else { self.stream_seq },
            active_ns,
            error: self.error.clone(),
            ..SourceInfo::default()
        };
        // A mirror says what it takes once it takes something.
        if !self.is_mirror || self.heard_ns.is_some() {
            info.filter_subject.clone_from(&self.source.filter_subject);
            info.subject_transforms.clone_from(&self.source.subject_transforms);
        }
        info
    }
}

impl Stream {
    /// Makes the feeds those of the configuration: present ones go on, others begin or end.
    pub(super) fn set_feeds(&mut self, cx: &mut Cx<'_, '_>) {
        self.feeds.is_started = true;
        let wanted: Vec<(StreamSource, bool)> = self
            .config
            .mirror
            .iter()
            .map(|mirror| (mirror.clone(), true))
            .chain(self.config.sources.iter().map(|source| (source.clone(), false)))
            .collect();
        let mut present = std::mem::take(&mut self.feeds.all);
        for (source, is_mirror) in wanted {
            let name = index_name(&source);
            let found = present
                .iter()
                .position(|feed| feed.is_mirror == is_mirror && feed.index_name == name);
            let feed = match found {
                Some(at) => present.swap_remove(at),
                None => {
                    self.feeds.next_number += 1;
                    self.feeds.is_located = false;
                    Feed::new(self.feeds.next_number, source, is_mirror, cx.ctx.mono_ns)
                }
            };
            self.feeds.all.push(feed);
        }
        for mut feed in present {
            self.stop_feed(&mut feed, cx);
        }
    }

    /// Ends all feeds, as the stream is removed or stops.
    pub fn stop_feeds(&mut self, cx: &mut Cx<'_, '_>) {
        self.note_feeds();
        for mut feed in std::mem::take(&mut self.feeds.all) {
            self.stop_feed(&mut feed, cx);
        }
    }

    /// Takes a feed's subscriptions and its consumer away.
    pub(super) fn stop_feed(&self, feed: &mut Feed, cx: &mut Cx<'_, '_>) {
        self.drop_reply(feed, cx);
        if let Some(inbox) = feed.inbox.take() {
            let endpoint = Endpoint::Source(self.id.slot, feed.number);
            let account = self.id.account;
            cx.fx.interests.push(Interest::Unsubscribe { account, subject: inbox, endpoint });
            if feed.source.consumer.is_none() && !feed.consumer.is_empty() {
                let name = String::from_utf8_lossy(&feed.consumer);
                let rest = format!("CONSUMER.DELETE.{}.{name}", feed.source.name);
                let to = feed.api_subject(&rest);
                cx.fx.publish(account, to.as_bytes(), b"", b"", b"");
            }
        }
        feed.consumer = Box::default();
    }

    /// Ends the wait for an answer.
    pub(super) fn drop_reply(&self, feed: &mut Feed, cx: &mut Cx<'_, '_>) {
        if let Some(subject) = feed.reply.take() {
            let endpoint = Endpoint::Reply(self.id.slot, feed.number);
            cx.fx.interests.push(Interest::Unsubscribe {
                account: self.id.account,
                subject,
                endpoint,
            });
        }
    }

    /// Begins to wait for an answer; where it goes.
    pub(super) fn await_reply(&self, feed: &mut Feed, cx: &mut Cx<'_, '_>) -> Box<[u8]> {
        self.drop_reply(feed, cx);
        let subject: Box<[u8]> = format!("$JSC.R.{}", cx.ids.next_text()).into_bytes().into();
        cx.fx.interests.push(Interest::Subscribe {
            account: self.id.account,
            subject: subject.clone(),
            endpoint: Endpoint::Reply(self.id.slot, feed.number),
        });
        feed.reply = Some(subject.clone());
        subject
    }

    /// Begins to take messages in.
    pub(super) fn open_inbox(&self, feed: &mut Feed, inbox: &[u8], cx: &mut Cx<'_, '_>) {
        cx.fx.interests.push(Interest::Subscribe {
            account: self.id.account,
            subject: inbox.into(),
            endpoint: Endpoint::Source(self.id.slot, feed.number),
        });
        feed.inbox = Some(inbox.into());
    }

    /// Lets a feed wait before it asks for a consumer again.
    pub(super) fn restart_feed(&mut self, at: usize, is_failure: bool, cx: &mut Cx<'_, '_>) {
        let Some(mut feed) = (at < self.feeds.all.len()).then(|| self.feeds.all.swap_remove(at))
        else {
            return;
        };
        self.stop_feed(&mut feed, cx);
        let now_ns = cx.ctx.mono_ns;
        if is_failure {
            feed.fails += 1;
        }
        let distance_ns = feed.requested_ns.map_or(0, |last_ns| {
            REQUEST_DISTANCE_NS.saturating_sub(now_ns.saturating_sub(last_ns))
        });
        let backoff_ns = feed.fails.saturating_mul(BACKOFF_NS).min(BACKOFF_MAX_NS);
        // A little apart, so that many feeds do not ask at once.
        let jitter_ns = 100_000_000 + u64::from(feed.number) * 7_919_000 % 100_000_000;
        let until_ns = now_ns + distance_ns + backoff_ns + jitter_ns;
        feed.phase = Phase::Waiting { until_ns };
        // The order is that of the configuration.
        self.feeds.all.push(feed);
        let last = self.feeds.all.len() - 1;
        self.feeds.all.swap(at, last);
    }

    /// When a feed has something to do, monotonic ns.
    pub(super) fn next_feed_ns(&self) -> Option<u64> {
        let is_waiting_to_start = !self.feeds.is_started
            && (self.config.mirror.is_some() || !self.config.sources.is_empty());
        if is_waiting_to_start {
            return Some(0);
        }
        if !self.feeds.is_located && !self.feeds.all.is_empty() {
            return if self.is_reading { None } else { Some(0) };
        }
        let feeds = self.feeds.all.iter().map(Feed::deadline_ns).min();
        [feeds, self.feeds.note_due_ns].into_iter().flatten().min()
    }

    /// What is due for the feeds.
    pub(super) fn handle_feed_timers(&mut self, cx: &mut Cx<'_, '_>) {
        if !self.feeds.is_started {
            self.set_feeds(cx);
        }
        if self.feeds.all.is_empty() || !self.locate_feeds(cx) {
            return;
        }
        let now_ns = cx.ctx.mono_ns;
        if self.feeds.note_due_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.note_feeds();
        }
        for at in 0..self.feeds.all.len() {
            let Some(feed) = self.feeds.all.get(at) else { break };
            if feed.deadline_ns() > now_ns {
                continue;
            }
            match feed.phase {
                Phase::Waiting { .. } => self.ask_for_consumer(at, cx),
                Phase::Asking { .. } => self.restart_feed(at, true, cx),
                Phase::Running => self.restart_feed(at, false, cx),
            }
        }
    }

    /// Notes that the request for a consumer has gone.
    pub(super) fn note_asked(feed: &mut Feed, now_ns: u64) {
        feed.requested_ns = Some(now_ns);
        let wait_ns = if feed.source.consumer.is_some() { RESET_WAIT_NS } else { CREATE_WAIT_NS };
        feed.phase = Phase::Asking { until_ns: now_ns.saturating_add(wait_ns) };
    }

    /// How the copying of the origin goes, if the stream is a mirror.
    #[must_use]
    pub fn mirror_info(&self, mono_ns: u64) -> Option<SourceInfo> {
        self.config.mirror.as_ref().map(|mirror| self.feed_info(mirror, true, mono_ns))
    }

    /// How the copying of the sources goes.
    #[must_use]
    pub fn sources_info(&self, mono_ns: u64) -> Vec<SourceInfo> {
        self.config.sources.iter().map(|one| self.feed_info(one, false, mono_ns)).collect()
    }

    fn feed_info(&self, source: &StreamSource, is_mirror: bool, now_ns: u64) -> SourceInfo {
        let name = index_name(source);
        let found = self
            .feeds
            .all
            .iter()
            .find(|feed| feed.is_mirror == is_mirror && feed.index_name == name);
        match found {
            Some(feed) => feed.info(now_ns),
            // It has not begun.
            None => Feed::new(0, source.clone(), is_mirror, now_ns).info(now_ns),
        }
    }

    /// Whether a mirror has come so close to its origin that it may answer direct reads of it.
    #[must_use]
    pub fn is_mirror_caught_up(&self) -> bool {
        const LAG_MAX: u64 = 10;
        self.feeds
            .all
            .iter()
            .any(|feed| feed.is_mirror && feed.heard_ns.is_some() && feed.lag < LAG_MAX)
    }
}

/// What a subject of the other stream becomes here.
pub(super) fn transformed<'a>(
    transforms: &[Transform],
    subject: &'a [u8],
    out: &'a mut Vec<u8>,
    random: u64,
) -> &'a [u8] {
    for transform in transforms {
        out.clear();
        if transform.apply(subject, out, random) && subject::is_valid_publish(out) {
            return out;
        }
    }
    subject
}
