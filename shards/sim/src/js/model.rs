//! What was published, what was answered, and so what must, may and must not be found in a
//! stream. It knows nothing of the server but its answers.

use std::collections::{BTreeMap, BTreeSet};

use shard::Now;

use super::consumer::ConsumerModel;
use super::world::End;

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not answered.
    Open,
    /// Not answered, or with an error that says nothing: it may be found.
    Doubt,
    /// Stored, as an answer or a reading said.
    Stored,
    /// Refused: it must never be found.
    Refused,
    /// Stored and taken out again, or never stored: it must never be found any more.
    Gone,
    /// Stored and taken out by what nobody was promised to last: a limit, an acknowledgement that
    /// was not confirmed. After a restart it may be there again.
    Loose,
}

/// A message that was published; the number in its payload is its place among all.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) stream: usize,
    pub(crate) era: u32,
    pub(crate) subject: String,
    pub(crate) headers: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) msg_id: Option<String>,
    pub(crate) expected_last: Option<u64>,
    pub(crate) expected_subject_last: Option<u64>,
    /// Start of the server and number of the client that sent it.
    pub(crate) client: (usize, usize),
    pub(crate) tick: u64,
    pub(crate) wall_ns: i64,
    /// It goes at this age; 0 never.
    pub(crate) age_ns: i64,
    pub(crate) batch: Option<usize>,
    pub(crate) seq: Option<u64>,
    pub(crate) fate: Fate,
    /// When it was known to be stored.
    pub(crate) known_tick: u64,
    /// The same, monotonic ns.
    pub(crate) known_ns: u64,
}

/// Which messages a stream keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Retention {
    #[default]
    Limits,
    Interest,
    WorkQueue,
}

/// A stream's configuration, as far as it varies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) retention: Retention,
    pub(crate) in_memory: bool,
    pub(crate) max_msgs: i64,
    pub(crate) max_per_subject: i64,
    pub(crate) max_age_ns: i64,
    pub(crate) window_ns: i64,
    pub(crate) discard_new: bool,
    pub(crate) is_compressed: bool,
    /// Messages may have an age of their own.
    pub(crate) has_ages: bool,
    /// Acknowledged before anything is written.
    pub(crate) is_async: bool,
}

impl Config {
    pub(crate) fn json(&self, name: &str) -> String {
        let retention = match self.retention {
            Retention::Limits => "limits",
            Retention::Interest => "interest",
            Retention::WorkQueue => "workqueue",
        };
        let storage = if self.in_memory { "memory" } else { "file" };
        let discard = if self.discard_new { "new" } else { "old" };
        let low = name.to_lowercase();
        let compression = if self.is_compressed { "s2" } else { "none" };
        let (has_ages, is_atomic) = (self.has_ages, !self.is_async);
        let persist_mode = if self.is_async { "async" } else { "" };
        format!(
            "{{\"name\":\"{name}\",\"subjects\":[\"{low}.>\"],\"retention\":\"{retention}\",\
             \"storage\":\"{storage}\",\"max_msgs\":{},\"max_msgs_per_subject\":{},\
             \"max_age\":{},\"duplicate_window\":{},\"discard\":\"{discard}\",\"max_bytes\":-1,\
             \"max_consumers\":-1,\"max_msg_size\":-1,\"num_replicas\":1,\"allow_direct\":true,\
             \"allow_atomic\":{is_atomic},\"compression\":\"{compression}\",\
             \"allow_msg_ttl\":{has_ages},\"persist_mode\":\"{persist_mode}\"}}",
            self.max_msgs, self.max_per_subject, self.max_age_ns, self.window_ns
        )
    }
}

/// Whether something exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Being {
    #[default]
    Absent,
    /// Asked for, not answered.
    Coming,
    Present,
    /// Its end is asked for, not answered.
    Going,
}

/// A purge.
#[derive(Clone, Debug)]
pub(crate) struct Purge {
    pub(crate) filter: Option<String>,
    pub(crate) below: Option<u64>,
    pub(crate) keep: u64,
    pub(crate) sent: u64,
    pub(crate) answered: Option<u64>,
    /// It was answered with success.
    pub(crate) is_sure: bool,
    pub(crate) refused: bool,
}

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct StreamModel {
    pub(crate) name: String,
    pub(crate) being: Being,
    /// Rises when it is made anew.
    pub(crate) era: u32,
    pub(crate) config: Config,
    /// An update that was asked for and not answered.
    pub(crate) update: Option<Config>,
    /// Configurations that were in force since the last reading.
    pub(crate) past_configs: Vec<Config>,
    /// All configurations that it ever had: damage and lazy disks may bring an old one back.
    pub(crate) old_configs: Vec<Config>,
    /// The last end may have taken what was done last, in the order in which it was done.
    pub(crate) lost_tail: bool,
    /// When its creation was answered, monotonic ns.
    pub(crate) made_ns: u64,
    pub(crate) by_seq: BTreeMap<u64, usize>,
    pub(crate) gone: BTreeSet<u64>,
    pub(crate) maybe_deleted: BTreeSet<u64>,
    /// Deleted, as an answer said.
    pub(crate) deleted: BTreeSet<u64>,
    /// Reads of messages that ended with an error since the last reading of everything.
    pub(crate) get_errors: usize,
    pub(crate) purges: Vec<Purge>,
    pub(crate) last_seq: u64,
    pub(crate) consumers: Vec<ConsumerModel>,
    /// Sequences of duplicates that were reported, and the id.
    pub(crate) claims: Vec<(u64, String)>,
    /// Its log has failed, at this tick.
    pub(crate) fenced: Option<u64>,
    /// Bits of its files were flipped.
    pub(crate) is_damaged: bool,
    /// How many, and how many messages they took.
    pub(crate) flips: usize,
    pub(crate) lost: usize,
    /// Its disk hung when the server ended, so that its end may not have been written twice.
    pub(crate) has_open_end: bool,
    /// It hangs, or its disk fails to read, for now.
    pub(crate) is_stuck: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) sent: Vec<Sent>,
    pub(crate) streams: Vec<StreamModel>,
    /// Counts what happened.
    pub(crate) tick: u64,
    pub(crate) starts: usize,
    /// How the server ended last, and whether its disk is lazy.
    pub(crate) last_end: Option<End>,
    pub(crate) is_lazy: bool,
    pub(crate) batches: usize,
    /// Messages that a purge or a delete may have taken out for a while, before an end undid it.
    pub(crate) taken_out: BTreeSet<usize>,
    /// The latest wall clock so far, and whether it ever jumped.
    pub(crate) wall_max_ns: i64,
    pub(crate) jumps: usize,
    pub(crate) now_ns: u64,
    /// When the server ended last.
    pub(crate) end_ns: u64,
    pub(crate) acked: usize,
    pub(crate) duplicates: usize,
    pub(crate) refused: usize,
    pub(crate) fenced: usize,
    pub(crate) lost_to_damage: usize,
    pub(crate) created: usize,
    pub(crate) confirmed: usize,
    pub(crate) delivered: usize,
    pub(crate) redelivered: usize,
}

impl Purge {
    fn takes(&self, sent: &Sent, seq: Option<u64>) -> bool {
        let fits = self.filter.as_ref().is_none_or(|filter| {
            wire::subject::matches(filter.as_bytes(), sent.subject.as_bytes())
        });
        fits && self.below.is_none_or(|below| seq.is_none_or(|seq| seq < below))
    }

    fn may_take(&self, sent: &Sent) -> bool {
        !self.refused
            && self.answered.is_none_or(|answered| sent.tick < answered)
            && self.takes(sent, sent.seq)
    }

    fn has_taken(&self, sent: &Sent) -> bool {
        !self.refused
            && self.is_sure
            && self.keep == 0
            && sent.fate == Fate::Stored
            && sent.known_tick < self.sent
            && self.takes(sent, sent.seq)
    }
}

impl Model {
    pub(crate) fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub(crate) fn see_time(&mut self, now: Now) {
        self.wall_max_ns = self.wall_max_ns.max(now.wall_ns);
        self.now_ns = now.mono_ns;
    }

    pub(crate) fn count_start(&mut self) {
        self.starts += 1;
    }

    /// Notes what may have been out of a stream since the last reading, though nobody was promised
    /// that it stays out.
    pub(crate) fn note_taken_out(&mut self, place: usize) {
        let stream = &self.streams[place];
        let unsure = stream.maybe_deleted.difference(&stream.deleted);
        self.taken_out.extend(unsure.filter_map(|seq| stream.by_seq.get(seq)));
        let sent = self.sent.iter().enumerate().filter(|(_, sent)| sent.stream == place);
        let unsure = |purge: &Purge, sent: &Sent| !purge.is_sure && purge.may_take(sent);
        let may_take = |sent: &Sent| stream.purges.iter().any(|purge| unsure(purge, sent));
        self.taken_out.extend(sent.filter(|(_, sent)| may_take(sent)).map(|(id, _)| id));
    }

    /// The stream whose files lie at a path.
    pub(crate) fn stream_of_path(&self, path: &str) -> Option<usize> {
        self.streams.iter().position(|s| path.starts_with(&format!("{}/", dir_of(&s.name))))
    }

    /// The disk has told the stream's log that a write or a flush failed.
    pub(crate) fn handle_log_failed(&mut self, path: &str) {
        let tick = self.next_tick();
        // A segment that cannot be written anew stays as it is.
        let at = self.stream_of_path(path).filter(|_| !path.ends_with(".cmp"));
        let Some(at) = at else { return };
        let stream = &mut self.streams[at];
        if stream.fenced.is_none() {
            stream.fenced = Some(tick);
            self.fenced += 1;
        }
    }

    /// The server has ended: what was not answered never will be.
    pub(crate) fn handle_end(&mut self, how: End, is_lazy: bool) {
        self.last_end = Some(how);
        self.is_lazy = is_lazy;
        self.end_ns = self.now_ns;
        for sent in &mut self.sent {
            if sent.fate == Fate::Open {
                sent.fate = Fate::Doubt;
            }
        }
        let tick = self.next_tick();
        for stream in &mut self.streams {
            let is_lost = match how {
                End::Stop => stream.fenced.is_some(),
                End::Kill => stream.config.is_async,
                End::PowerCut => stream.config.is_async || is_lazy,
            };
            if is_lost && (stream.config.is_async || is_lazy) {
                stream.lose_tail();
            }
            stream.fenced = None;
            stream.is_stuck = false;
            for purge in &mut stream.purges {
                purge.answered.get_or_insert(tick);
            }
            for consumer in &mut stream.consumers {
                consumer.handle_end(stream.config.in_memory);
            }
            if stream.config.in_memory && stream.being != Being::Absent {
                stream.being = Being::Absent;
                stream.forget(&mut self.sent);
            }
        }
    }

    /// The power went during a start: what an end had left in the cache of the disk may be lost.
    pub(crate) fn handle_cut_boot(&mut self) {
        let is_lazy = self.is_lazy;
        let was_clean = self.last_end.is_none_or(|how| how == End::Stop);
        for stream in &mut self.streams {
            if !was_clean && (is_lazy || stream.config.is_async) {
                stream.lose_tail();
            }
        }
    }

    /// The answer to a publish.
    pub(crate) fn handle_pub_ack(
        &mut self,
        id: usize,
        stream_name: &str,
        seq: u64,
        is_duplicate: bool,
    ) -> Result<(), String> {
        let tick = self.next_tick();
        let sent = &mut self.sent[id];
        let stream = &mut self.streams[sent.stream];
        let who = format!("message {id} to {}", sent.subject);
        if stream.name != stream_name {
            return Err(format!("{who}: acknowledged by {stream_name}"));
        }
        // What a duplicate repeats may have been safe before.
        if stream.fenced.is_some_and(|fenced| sent.tick > fenced) && !is_duplicate {
            return Err(format!(
                "{who}: acknowledged at {seq}, duplicate {is_duplicate}, by a stream whose disk \
                 has failed before"
            ));
        }
        if is_duplicate {
            self.duplicates += 1;
            sent.fate = Fate::Refused;
            let Some(msg_id) = sent.msg_id.clone() else {
                return Err(format!("{who}: a duplicate without an id"));
            };
            let other = stream.by_seq.get(&seq).copied();
            if other.is_some_and(|at| self.sent[at].msg_id.as_ref() != Some(&msg_id)) {
                return Err(format!("{who}: no duplicate of what is at {seq} ({other:?})"));
            }
            stream.claims.push((seq, msg_id.clone()));
            self.learn_original(id, seq, &msg_id, tick);
            return Ok(());
        }
        if sent.expected_last.is_some_and(|last| last + 1 != seq) {
            return Err(format!("{who}: at {seq} against its expectation"));
        }
        if let Some(other) = stream.by_seq.insert(seq, id)
            && other != id
        {
            return Err(format!("{who}: acknowledged at {seq}, where message {other} is"));
        }
        if sent.seq.is_some_and(|known| known != seq)
            || (stream.gone.contains(&seq) && !stream.is_damaged)
        {
            return Err(format!("{who}: acknowledged at {seq}, known {:?}", sent.seq));
        }
        if let Some(last) = sent.expected_subject_last {
            let subject = sent.subject.clone();
            let (place, newest) = (sent.stream, stream.last_seq.max(seq));
            let between = self.streams[place].by_seq.range(last + 1..seq);
            let mut between = between.filter(|(_, at)| {
                self.sent[**at].subject == subject && self.excuse(**at, newest).is_none()
            });
            if let Some((other, _)) = between.next() {
                return Err(format!("{who}: at {seq}, but {other} came after {last}"));
            }
        }
        let sent = &mut self.sent[id];
        sent.seq = Some(seq);
        sent.fate = Fate::Stored;
        sent.known_tick = tick;
        sent.known_ns = self.now_ns;
        self.acked += 1;
        Ok(())
    }

    /// A duplicate was reported: what it repeats is stored, and as safe as if it had been
    /// acknowledged itself.
    fn learn_original(&mut self, id: usize, seq: u64, msg_id: &str, tick: u64) {
        let (place, era) = (self.sent[id].stream, self.sent[id].era);
        if self.streams[place].by_seq.contains_key(&seq) || self.streams[place].gone.contains(&seq)
        {
            return;
        }
        let mut candidates: Vec<usize> = Vec::new();
        for (other, sent) in self.sent.iter().enumerate() {
            let fits = sent.stream == place
                && sent.era == era
                && sent.seq.is_none()
                && matches!(sent.fate, Fate::Open | Fate::Doubt)
                && sent.msg_id.as_deref() == Some(msg_id);
            if fits {
                candidates.push(other);
            }
        }
        if let [original] = candidates[..] {
            let sent = &mut self.sent[original];
            sent.fate = Fate::Stored;
            sent.seq = Some(seq);
            sent.known_tick = tick;
            sent.known_ns = self.now_ns;
            self.streams[place].by_seq.insert(seq, original);
        }
    }

    /// Why a message that was stored may not be there any more.
    pub(crate) fn excuse(&self, id: usize, last_seq: u64) -> Option<&'static str> {
        let sent = &self.sent[id];
        let stream = &self.streams[sent.stream];
        let seq = sent.seq?;
        if stream.maybe_deleted.contains(&seq) {
            return Some("deleted");
        }
        if stream.purges.iter().any(|purge| purge.may_take(sent)) {
            return Some("purged");
        }
        let old = self.jumps > 0 || self.wall_max_ns - sent.wall_ns >= sent.age_ns;
        if sent.age_ns > 0 && old {
            return Some("too old");
        }
        let may_be_old = stream.is_damaged || stream.lost_tail;
        let old = if may_be_old { stream.old_configs.as_slice() } else { &[] };
        let configs = stream.past_configs.iter().chain([&stream.config]).chain(&stream.update);
        let configs = configs.chain(old);
        for config in configs {
            let max = config.max_msgs;
            if max > 0 && !config.discard_new && last_seq - seq >= max as u64 {
                return Some("max_msgs");
            }
            let age = config.max_age_ns;
            if age > 0 && (self.jumps > 0 || self.wall_max_ns - sent.wall_ns >= age) {
                return Some("max_age");
            }
            if config.max_per_subject > 0 && self.rivals(id, seq) >= config.max_per_subject as usize
            {
                return Some("max_msgs_per_subject");
            }
        }
        match stream.config.retention {
            Retention::Limits => None,
            Retention::WorkQueue => {
                let taken = stream.consumers.iter().any(|c| c.may_have_settled(id, seq));
                taken.then_some("acknowledged")
            }
            Retention::Interest => {
                let wanted = stream.consumers.iter().any(|consumer| {
                    // What one consumer gave up leaves when another one settles it.
                    let gives_up = consumer.deliver_max > 0;
                    let wants = consumer.surely_wants(sent) && !gives_up;
                    wants && !consumer.may_have_settled(id, seq)
                });
                (!wanted).then_some("of no interest")
            }
        }
    }

    /// It was taken out for good: nothing brings it back.
    pub(crate) fn is_out(&self, id: usize) -> bool {
        let sent = &self.sent[id];
        let stream = &self.streams[sent.stream];
        let is_deleted = sent.seq.is_some_and(|seq| stream.deleted.contains(&seq));
        is_deleted || self.must_be_gone(id).is_some()
    }

    /// Messages of the same subject that may be newer.
    fn rivals(&self, id: usize, seq: u64) -> usize {
        let sent = &self.sent[id];
        self.sent
            .iter()
            .filter(|other| {
                other.stream == sent.stream
                    && other.era == sent.era
                    && other.subject == sent.subject
                    && other.seq != Some(seq)
                    && other.seq.is_none_or(|other| other > seq)
                    && other.fate != Fate::Refused
            })
            .count()
    }

    /// Why a message must not be there any more.
    pub(crate) fn must_be_gone(&self, id: usize) -> Option<&'static str> {
        let sent = &self.sent[id];
        let stream = &self.streams[sent.stream];
        let seq = sent.seq?;
        if stream.gone.contains(&seq) {
            return Some("it was gone before");
        }
        if stream.purges.iter().any(|purge| purge.has_taken(sent)) {
            return Some("it was purged");
        }
        let mut possible =
            stream.consumers.iter().filter(|c| c.being != Being::Absent && c.takes(&sent.subject));
        match stream.config.retention {
            Retention::Limits => None,
            Retention::WorkQueue => {
                possible.any(|c| c.has_settled(id, seq)).then_some("it was acknowledged")
            }
            Retention::Interest => {
                let mut all = possible.peekable();
                let any = all.peek().is_some();
                (any && all.all(|c| c.has_settled(id, seq))).then_some("all acknowledged it")
            }
        }
    }
}

impl StreamModel {
    /// What was done last may be undone.
    fn lose_tail(&mut self) {
        self.lost_tail = true;
        for consumer in &mut self.consumers {
            consumer.settled.clear();
            consumer.settled_floor = 0;
        }
    }

    /// Another configuration is in force.
    pub(crate) fn configure(&mut self, config: Config) {
        let old = std::mem::replace(&mut self.config, config);
        self.old_configs.push(old.clone());
        self.past_configs.push(old);
    }

    /// It begins anew, or ends: nothing of what it held may be found.
    pub(crate) fn forget(&mut self, all: &mut [Sent]) {
        let era = self.era;
        let name = self.name.to_lowercase();
        for sent in all {
            if sent.era <= era
                && sent.subject.split('.').next() == Some(name.as_str())
                && sent.fate != Fate::Refused
            {
                sent.fate = Fate::Gone;
            }
        }
        self.by_seq.clear();
        self.gone.clear();
        self.maybe_deleted.clear();
        self.deleted.clear();
        self.purges.clear();
        self.claims.clear();
        self.past_configs.clear();
        self.old_configs.clear();
        self.lost_tail = false;
        self.update = None;
        self.last_seq = 0;
        self.fenced = None;
        self.is_damaged = false;
        (self.flips, self.lost) = (0, 0);
        self.has_open_end = false;
        for consumer in &mut self.consumers {
            consumer.being = Being::Absent;
        }
    }
}

/// The directory of a stream's files.
pub(crate) fn dir_of(name: &str) -> String {
    format!("{}/streams/{name}", super::world::ACCOUNT)
}
