//! One consumer of a stream: which messages it delivers to whom, and what has been acknowledged.
//! Lives on: the stream's home shard.
//!
//! ```text
//!  pull request ─► waiting ─┐                     ┌─ redelivery: due again, by deadline
//!  push subject ─► push ────┤◄── deliver ◄── pick ┤
//!                           ▼                     └─ next message that the filter lets through
//!            Effects::deliver, reply $JS.ACK…
//!  $JS.ACK… ─► ack ─► state (pending, floor) ─► journal ─► the stream's log
//! ```

pub mod ack;
pub mod config;
pub mod config_defaults;
pub mod deliver;
pub mod flow;
pub mod group;
pub mod info;
pub mod journal;
mod letters;
pub mod pull;
pub mod push;
pub mod settings;
pub mod start;
pub mod state;
#[cfg(test)]
mod tests;
pub mod timers;
pub mod waiting;
mod watch;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;
use store::cache::Cache;
use store::{FilterId, Store};
use wire::api::consumer_config::ConsumerConfig;
use wire::nuid::Nuid;

use crate::context::Context;
use crate::effect::Effects;
use crate::removed::Removed;
use group::Pin;
use journal::Journal;
use push::Push;
use settings::Settings;
use state::State;
use waiting::Waiting;

/// What a consumer works with beside itself.
#[derive(Debug)]
pub struct Cx<'a, 'c> {
    /// The moment.
    pub ctx: &'a Context<'c>,
    /// What must happen.
    pub fx: &'a mut Effects,
    /// The stream's messages.
    pub store: &'a mut Store,
    /// Blocks of the shard's stores.
    pub cache: &'a mut Cache,
    /// What has left the stream.
    pub removed: &'a Removed,
    /// Sequences that this consumer needs no longer are added here.
    pub settled: &'a mut Vec<u64>,
    /// Source of ids.
    pub ids: &'a mut Nuid,
    /// JetStream domain of the server, may be empty.
    pub domain: &'a str,
    /// Name of the account.
    pub account_name: &'a str,
    /// Time without progress after which a consumer counts as stuck, ns; 0 is never.
    pub watch_ns: u64,
}

/// How much one call may deliver.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Messages.
    pub messages: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    fn spend(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Why a delivery round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to deliver, or nobody to deliver to, or as much as may be out.
    Idle,
    /// A client waits for the next message of the stream.
    Hungry,
    /// A payload comes from the disk first.
    Reading,
    /// The budget is spent.
    More,
}

/// What the owner must do after a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// Nobody has used the consumer for too long: delete it.
    Delete,
}

/// Messages that wait to be delivered, counted up to some sequence.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    count: u64,
    up_to: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Consumer {
    /// Account id.
    pub account: u32,
    /// Name of the stream.
    pub stream: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// As configured, with defaults.
    pub config: Box<ConsumerConfig>,
    /// When it was made, unix ns.
    pub created_unix_ns: i64,
    /// The configuration in the units of the work.
    pub settings: Settings,
    /// The filter in the store.
    pub filter: FilterId,
    /// How far it has come.
    pub state: State,
    /// `$JS.ACK.stream.consumer.`
    ack_prefix: Box<[u8]>,
    /// Due for another delivery, in order.
    due: VecDeque<u64>,
    due_set: HashSet<u64, FxBuildHasher>,
    /// When messages become due: monotonic ns and sequence; stale entries are skipped.
    deadlines: BinaryHeap<Reverse<(u64, u64)>>,
    counted: Counted,
    seen_removed: u64,
    /// Requests.
    pub waiting: Waiting,
    push: Option<Box<Push>>,
    pin: Option<Box<Pin>>,
    journal: Journal,
    /// Nothing is delivered before, unix ns; 0 is not paused.
    paused_until_unix_ns: i64,
    /// For the pace of the original: the last message's time stamp, and when it went.
    pace: Option<(i64, u64)>,
    /// Not before, monotonic ns.
    not_before_ns: u64,
    /// The last message that the disk did not give; 0 for none.
    unread: u64,
    reading: bool,
    /// It is among the owner's consumers that have something to do.
    pub(crate) is_queued: bool,
    /// It is among those that wait for the stream's next message.
    pub(crate) is_hungry: bool,
    last_delivered_unix_ns: i64,
    last_acked_unix_ns: i64,
    /// When a client last showed itself, monotonic ns.
    last_used_ns: u64,
    /// When something was last delivered or settled while somebody waited, monotonic ns.
    progress_ns: u64,
    /// The watchdog's time, ns; 0 is never.
    watch_ns: u64,
    is_stuck: bool,
    letters: Option<Box<letters::Letters>>,
    scratch: Vec<u8>,
    headers: Vec<u8>,
}

impl Consumer {
    /// A message was delivered and waits for its acknowledgement.
    #[must_use]
    pub fn has_pending(&self, seq: u64) -> bool {
        self.state.pending.contains_key(&seq)
    }

    /// Brings the counts up to date with what came into the stream and left it.
    fn sync(&mut self, cx: &mut Cx<'_, '_>) {
        // It may have been configured anew.
        self.watch_ns = cx.watch_ns;
        let total = cx.removed.total();
        let mut next = self.state.looked_at + 1;
        let mut recount = false;
        if self.seen_removed != total {
            let floor = self.state.floor;
            let waiting = self.state.pending.len();
            let removed = cx.removed;
            match removed.since(self.seen_removed) {
                Some(seqs) => {
                    for seq in seqs {
                        self.advise_deleted(seq, cx);
                        recount |= (next..=self.counted.up_to).contains(&seq);
                        self.state.forget(seq);
                    }
                }
                None => {
                    recount = true;
                    self.forget_gone(cx.store);
                    next = self.state.looked_at + 1;
                }
            }
            self.seen_removed = total;
            let is_settled = waiting != self.state.pending.len();
            if is_settled {
                self.last_acked_unix_ns = cx.ctx.unix_ns;
            }
            if is_settled || floor != self.state.floor {
                self.note_progress(cx.ctx.mono_ns);
                self.journal.note_whole(cx.ctx.mono_ns);
            }
        }
        let last = cx.store.last_seq();
        if recount || self.counted.up_to < next.saturating_sub(1) {
            self.counted = self.count_from(next, cx.store);
        } else if self.counted.up_to < last {
            self.counted.count += cx.store.pending(self.filter, self.counted.up_to + 1);
            self.counted.up_to = last;
        }
    }

    /// Forgets what the stream no longer has, after so much has left that nobody tells what.
    fn forget_gone(&mut self, store: &Store) {
        self.state.pass_purged(store.state().first_seq);
        let mut gone: Vec<u64> = self.state.pending.keys().copied().collect();
        gone.retain(|seq| !store.contains(*seq));
        for seq in gone {
            self.state.forget(seq);
        }
    }

    /// Messages from a sequence on. A consumer may start behind the end of the stream.
    fn count_from(&self, next: u64, store: &mut Store) -> Counted {
        let up_to = store.last_seq().max(next.saturating_sub(1));
        Counted { count: store.pending(self.filter, next), up_to }
    }

    /// Counts anew.
    fn recount(&mut self, cx: &mut Cx<'_, '_>) {
        self.counted = self.count_from(self.state.looked_at + 1, cx.store);
        self.seen_removed = cx.removed.total();
    }

    /// Messages that have not been delivered yet.
    pub fn num_pending(&mut self, cx: &mut Cx<'_, '_>) -> u64 {
        self.sync(cx);
        self.counted.count + self.state.ahead.len() as u64
    }

    /// The stream still has to keep a message for this consumer.
    #[must_use]
    pub fn needs(&self, store: &Store, seq: u64) -> bool {
        let open = match self.settings.ack {
            settings::Ack::None => seq > self.state.looked_at,
            _ => seq > self.state.looked_at || self.state.pending.contains_key(&seq),
        } || self.state.ahead.binary_search(&seq).is_ok()
            || self.state.letters.contains_key(&seq);
        open && store.subject_of(seq).is_some_and(|subject| store.matches(self.filter, subject))
    }

    /// Clients can be served: a request waits, or the push subject has a listener.
    #[must_use]
    pub fn is_active(&self) -> bool {
        match &self.push {
            Some(push) => push.active,
            None => !self.waiting.is_empty(),
        }
    }

    /// The first moment at which [`Self::handle_deadline`] has something to do, monotonic ns.
    #[must_use]
    pub fn next_deadline_ns(&self) -> u64 {
        let redelivery = self.deadlines.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        let push = self.push.as_ref().map_or(u64::MAX, |push| push.next_deadline_ns());
        let pace = if self.not_before_ns == 0 { u64::MAX } else { self.not_before_ns };
        let pin = self.pin.as_ref().map_or(u64::MAX, |pin| pin.until_ns);
        let letters = self.letters.as_ref().map_or(0, |letters| letters.due_ns);
        let letters = if letters == 0 { u64::MAX } else { letters };
        let times = [
            self.waiting.next_deadline_ns(),
            self.journal.due_ns(),
            push,
            pace,
            pin,
            self.inactive_at_ns(),
            letters,
            self.watch_at_ns(),
        ];
        times.into_iter().fold(redelivery, u64::min)
    }

    /// When the consumer goes for want of clients, monotonic ns.
    fn inactive_at_ns(&self) -> u64 {
        if self.settings.inactive_ns == 0 || self.is_active() {
            return u64::MAX;
        }
        self.last_used_ns.saturating_add(self.settings.inactive_ns)
    }

    /// The payload that was read from the disk is there.
    pub fn handle_read_ready(&mut self) {
        self.reading = false;
    }

    /// Waits for the disk.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.reading
    }

    fn is_paused(&self, ctx: &Context<'_>) -> bool {
        self.paused_until_unix_ns > ctx.unix_ns
    }
}
