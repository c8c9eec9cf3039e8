//! What is known of a consumer: what it delivered, and what was acknowledged to it.

use std::collections::{HashMap, HashSet};

use super::model::{Being, Sent};
use super::world::World;
use crate::oracle::Failure;

/// How its messages are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Policy {
    #[default]
    Explicit,
    All,
    None,
}

/// One consumer.
#[derive(Debug, Default)]
pub(crate) struct ConsumerModel {
    pub(crate) name: String,
    pub(crate) being: Being,
    /// Its creation was answered then.
    pub(crate) created_tick: u64,
    pub(crate) policy: Policy,
    pub(crate) filter: Option<String>,
    /// It gives a message up after so many deliveries; 0 never.
    pub(crate) deliver_max: usize,
    /// It pushes.
    pub(crate) pushes: bool,
    /// The client that receives and acknowledges, of this start of the server.
    pub(crate) owner: Option<usize>,
    pub(crate) delivered: HashMap<usize, usize>,
    /// Messages not settled: id, sequence, reply subject.
    pub(crate) unsettled: Vec<(usize, u64, String)>,
    /// Acknowledged, as an answer said.
    pub(crate) settled: HashSet<usize>,
    pub(crate) settled_floor: u64,
    /// Acknowledged or refused, perhaps.
    pub(crate) maybe: HashSet<usize>,
    pub(crate) maybe_floor: u64,
    /// Delivered since the last call for everything.
    pub(crate) drained: HashSet<usize>,
    /// It delivers nothing before that, wall clock.
    pub(crate) paused_until_ns: i64,
    /// It was reset to begin here.
    pub(crate) reset_from: u64,
    /// A reading of what it delivered in order.
    pub(crate) last_new_seq: u64,
}

impl ConsumerModel {
    pub(crate) fn takes(&self, subject: &str) -> bool {
        let fits = |filter: &String| wire::subject::matches(filter.as_bytes(), subject.as_bytes());
        self.filter.as_ref().is_none_or(fits)
    }

    /// It was there before the message was sent, and wants it.
    pub(crate) fn surely_wants(&self, sent: &Sent) -> bool {
        self.being == Being::Present
            && self.policy != Policy::None
            && self.created_tick < sent.tick
            && self.takes(&sent.subject)
    }

    pub(crate) fn may_have_settled(&self, id: usize, seq: u64) -> bool {
        self.maybe.contains(&id) || seq <= self.maybe_floor
    }

    pub(crate) fn has_settled(&self, id: usize, seq: u64) -> bool {
        self.settled.contains(&id) || seq <= self.settled_floor
    }

    /// Something was sent that may settle a message.
    pub(crate) fn note_maybe(&mut self, id: usize, seq: u64) {
        self.maybe.insert(id);
        if self.policy == Policy::All {
            self.maybe_floor = self.maybe_floor.max(seq);
        }
    }

    /// An answer said that it is settled.
    pub(crate) fn note_settled(&mut self, id: usize, seq: u64) {
        self.settled.insert(id);
        if self.policy == Policy::All {
            self.settled_floor = self.settled_floor.max(seq);
        }
    }

    /// The server has ended.
    pub(crate) fn handle_end(&mut self, in_memory: bool) {
        self.owner = None;
        self.unsettled.clear();
        self.last_new_seq = 0;
        if in_memory {
            self.being = Being::Absent;
        }
    }
}

impl World {
    /// Which consumers of a stream there are. The end may have undone what was done last.
    pub(super) fn inspect_consumers(
        &mut self,
        at: usize,
        place: usize,
        lost_tail: bool,
    ) -> Result<(), Failure> {
        let name = self.model.streams[place].name.clone();
        for which in 0..self.model.streams[place].consumers.len() {
            let known = &self.model.streams[place].consumers[which];
            let (consumer, being) = (known.name.clone(), known.being);
            let subject = format!("$JS.API.CONSUMER.INFO.{name}.{consumer}");
            let asked_wall_ns = self.now.wall_ns;
            let info = self.call_json(at, &subject, "")?;
            let exists = info.get("error").is_none();
            if exists {
                self.judge_pause((place, which), asked_wall_ns, &info)?;
            }
            if !self.is_fresh && matches!(being, Being::Coming | Being::Going) {
                continue;
            }
            let tick = self.model.next_tick();
            let stream = &self.model.streams[place];
            let is_damaged = stream.is_damaged || lost_tail;
            let known = &mut self.model.streams[place].consumers[which];
            match (being, exists) {
                (Being::Present, false) if !is_damaged => {
                    return self.fail(format!("consumer {name} > {consumer} is lost: {info}"));
                }
                (Being::Absent, true) if !is_damaged => {
                    return self.fail(format!("consumer {name} > {consumer} came back: {info}"));
                }
                (Being::Coming, true) => known.created_tick = tick,
                _ => {}
            }
            known.being = if exists { Being::Present } else { Being::Absent };
        }
        Ok(())
    }
}
