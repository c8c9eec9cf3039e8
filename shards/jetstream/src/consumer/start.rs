//! A consumer's beginning: where it starts in the stream, or what the log says of it.

use std::collections::{BinaryHeap, VecDeque};

use hashbrown::HashSet;
use store::FilterId;
use wire::api::consumer_config::ConsumerConfig;
use wire::api::errors::{self, ApiError};
use wire::api::policy::DeliverPolicy;

use super::journal::Journal;
use super::push::Push;
use super::settings::{Ack, Settings};
use super::state::{Place, State};
use super::waiting::Waiting;
use super::{Consumer, Counted, Cx};

/// Who a consumer is.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Account id.
    pub account: u32,
    /// Name of the stream.
    pub stream: &'a str,
    /// Its own.
    pub name: &'a str,
}

impl Consumer {
    /// A new consumer. The filter belongs to the store already.
    #[must_use]
    pub fn create(
        named: Named<'_>,
        config: ConsumerConfig,
        filter: FilterId,
        cx: &mut Cx<'_, '_>,
    ) -> Self {
        let mut consumer = Self::blank(named, config, filter, cx);
        let (looked_at, ahead) = consumer.starting_point(cx);
        let before = ahead.front().map_or(looked_at, |seq| seq.saturating_sub(1));
        consumer.state.looked_at = looked_at;
        consumer.state.delivered.stream = before;
        consumer.state.floor.stream = before;
        consumer.state.ahead = ahead;
        consumer.journal.note_whole(cx.ctx.mono_ns);
        consumer.recount(cx);
        consumer.check_interest(cx);
        consumer
    }

    /// A consumer that the log knows. `None` when its state cannot be read: the caller says so
    /// and starts it anew from what it has.
    #[must_use]
    pub fn recover(
        named: Named<'_>,
        config: ConsumerConfig,
        filter: FilterId,
        whole: &[u8],
        events: &[Vec<u8>],
        cx: &mut Cx<'_, '_>,
    ) -> Option<Self> {
        let mut consumer = Self::blank(named, config, filter, cx);
        let mut state = State::decode(whole)?;
        if !events.iter().all(|events| state.replay(events)) {
            return None;
        }
        consumer.state = state;
        consumer.forget_gone(cx.store);
        consumer.rearm(cx);
        consumer.recount(cx);
        consumer.check_interest(cx);
        if !consumer.state.letters.is_empty() {
            consumer.letters.get_or_insert_default().hurry(cx.ctx.mono_ns);
        }
        Some(consumer)
    }

    /// Deadlines of everything that was pending before a restart.
    fn rearm(&mut self, cx: &Cx<'_, '_>) {
        if self.settings.ack == Ack::FlowControl {
            return;
        }
        let ages: Vec<(u64, u64)> = self
            .state
            .pending
            .iter()
            .map(|(seq, pending)| {
                let age = cx.ctx.unix_ns.saturating_sub(pending.at_unix_ns);
                (*seq, u64::try_from(age).unwrap_or(0))
            })
            .collect();
        for (seq, age_ns) in ages {
            let wait_ns = self.settings.wait_ns(self.state.deliveries(seq));
            let left_ns = wait_ns.saturating_sub(age_ns);
            self.arm(seq, cx.ctx.mono_ns.saturating_add(left_ns).max(1));
        }
    }

    fn blank(named: Named<'_>, config: ConsumerConfig, filter: FilterId, cx: &Cx<'_, '_>) -> Self {
        let settings = Settings::of(&config);
        let mut consumer = Self {
            account: named.account,
            stream: named.stream.into(),
            name: named.name.into(),
            created_unix_ns: cx.ctx.unix_ns,
            filter,
            state: State::default(),
            ack_prefix: wire::api::ack::ack_prefix(named.stream, named.name).into(),
            due: VecDeque::new(),
            due_set: HashSet::default(),
            deadlines: BinaryHeap::new(),
            counted: Counted::default(),
            seen_removed: cx.removed.total(),
            waiting: Waiting::default(),
            push: settings.is_push().then(|| Box::new(Push::new(&settings))),
            pin: None,
            journal: Journal::new(settings.in_memory),
            paused_until_unix_ns: 0,
            pace: None,
            not_before_ns: 0,
            unread: 0,
            reading: false,
            is_queued: false,
            is_hungry: false,
            last_delivered_unix_ns: 0,
            last_acked_unix_ns: 0,
            last_used_ns: cx.ctx.mono_ns,
            progress_ns: cx.ctx.mono_ns,
            watch_ns: cx.watch_ns,
            is_stuck: false,
            letters: None,
            scratch: Vec::new(),
            headers: Vec::new(),
            config: Box::new(config),
            settings,
        };
        consumer.apply_pause();
        consumer
    }

    /// The pause that the configuration says.
    pub(super) fn apply_pause(&mut self) {
        self.paused_until_unix_ns = self.config.pause_until.map_or(0, |until| until.0);
    }

    /// The sequence before the first one to deliver, and messages to deliver before.
    fn starting_point(&self, cx: &mut Cx<'_, '_>) -> (u64, VecDeque<u64>) {
        let state = cx.store.state();
        let end = state.last_seq;
        let before_first = state.first_seq.saturating_sub(1);
        let at = match self.config.deliver_policy {
            DeliverPolicy::All => before_first,
            DeliverPolicy::New => end,
            DeliverPolicy::Last => {
                let last = cx.store.previous(self.filter, end);
                last.map_or(end, |seq| seq.saturating_sub(1))
            }
            DeliverPolicy::LastPerSubject => {
                let filters: Vec<&[u8]> =
                    super::config::filters_of(&self.config).map(str::as_bytes).collect();
                return (end, cx.store.last_per_subject(&filters, end).into());
            }
            DeliverPolicy::ByStartSequence => {
                self.config.opt_start_seq.saturating_sub(1).max(before_first)
            }
            DeliverPolicy::ByStartTime => {
                let time = self.config.opt_start_time.map_or(0, |time| time.0);
                cx.store.seq_at_time(time).saturating_sub(1).max(before_first).min(end)
            }
        };
        (at, VecDeque::new())
    }

    /// Starts again: at a sequence, or behind what is settled when `seq` is 0. Returns the
    /// sequence from which it goes on.
    ///
    /// # Errors
    /// When the deliver policy does not allow that sequence.
    pub fn reset(&mut self, seq: u64, cx: &mut Cx<'_, '_>) -> Result<u64, ApiError> {
        let refuse = |text: &str| Err(errors::CONSUMER_INVALID_RESET.with(text));
        if seq > 0 {
            match self.config.deliver_policy {
                DeliverPolicy::All => {}
                DeliverPolicy::ByStartSequence if seq < self.config.opt_start_seq => {
                    return refuse("below start seq");
                }
                DeliverPolicy::ByStartTime if seq < self.starting_point(cx).0 + 1 => {
                    return refuse("below start seq");
                }
                DeliverPolicy::ByStartSequence | DeliverPolicy::ByStartTime => {}
                _ => return refuse("not allowed"),
            }
        }
        let next = if seq == 0 { self.state.floor.stream + 1 } else { seq };
        let at = next - 1;
        self.state = State {
            delivered: Place { consumer: 0, stream: at },
            floor: Place { consumer: 0, stream: at },
            looked_at: at,
            ..State::default()
        };
        self.due.clear();
        self.due_set.clear();
        self.deadlines.clear();
        self.pace = None;
        self.last_delivered_unix_ns = 0;
        self.last_acked_unix_ns = 0;
        self.journal.note_whole(cx.ctx.mono_ns);
        self.recount(cx);
        Ok(next)
    }
}

impl Consumer {
    /// Another configuration, which has been checked.
    pub(crate) fn reconfigure(
        &mut self,
        config: ConsumerConfig,
        filter: FilterId,
        cx: &mut Cx<'_, '_>,
    ) {
        self.settings = Settings::of(&config);
        *self.config = config;
        self.filter = filter;
        self.handle_reconfigured(cx);
    }

    /// After another configuration: what follows from it.
    fn handle_reconfigured(&mut self, cx: &mut Cx<'_, '_>) {
        if self.push.is_some() {
            self.push = Some(Box::new(Push::new(&self.settings)));
            self.check_interest(cx);
        }
        self.pin = None;
        self.apply_pause();
        self.recount(cx);
        self.rearm(cx);
        if !self.state.letters.is_empty() {
            self.letters.get_or_insert_default().hurry(cx.ctx.mono_ns);
        }
    }

    /// Neither configuration nor state is kept over restarts.
    pub(crate) fn keep_nothing(&mut self) {
        self.journal = Journal::new(true);
    }

    /// What is to be kept is written at the next occasion.
    pub(crate) fn write_at_once(&mut self) {
        self.journal.hurry();
    }

    /// Configuration and state are kept over restarts.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.journal.off
    }

    /// Confirmations wait for what was written last.
    #[must_use]
    pub fn has_confirmations(&self) -> bool {
        !self.journal.confirmations.is_empty()
    }
}
