//! What is done to consumers before a round, while everything is at rest: they are paused, go on,
//! and begin again at a sequence. Whatever comes then, it is not forgotten.

use wire::api::timestamp::Timestamp;

use super::consumer::Policy;
use super::model::{Being, Retention};
use super::world::World;
use crate::oracle::Failure;

const SECOND_NS: i64 = 1_000_000_000;

impl World {
    /// Pauses and resets some consumers, if the seed has that.
    ///
    /// # Errors
    /// A broken rule.
    pub(super) fn tend_consumers(&mut self) -> Result<(), Failure> {
        if !self.extras.tended {
            return Ok(());
        }
        for place in 0..self.model.streams.len() {
            if self.model.streams[place].being != Being::Present {
                continue;
            }
            for which in 0..self.model.streams[place].consumers.len() {
                let is_there = self.model.streams[place].consumers[which].being == Being::Present;
                if is_there && self.extra_in(3) {
                    self.pause(place, which)?;
                }
                if is_there && self.extra_in(4) {
                    self.reset(place, which)?;
                }
            }
        }
        Ok(())
    }

    /// A request about a consumer, which must be granted.
    fn ask_of(
        &mut self,
        (place, which): (usize, usize),
        word: &str,
        body: &str,
    ) -> Result<serde_json::Value, Failure> {
        let stream = &self.model.streams[place];
        let name = format!("{}.{}", stream.name, stream.consumers[which].name);
        let at = self.some_client();
        self.note(format!("client {at}: {word} {name} {body}"));
        let answer = self.call_json(at, &format!("$JS.API.CONSUMER.{word}.{name}"), body)?;
        if answer.get("error").is_some() && !self.model.streams[place].is_damaged {
            return self.fail(format!("{word} {name}: {answer}"));
        }
        Ok(answer)
    }

    fn pause(&mut self, place: usize, which: usize) -> Result<(), Failure> {
        let for_ns = i64::from(self.dice.below(20)) * SECOND_NS;
        let until_ns = if for_ns > 0 { self.now.wall_ns + for_ns } else { 0 };
        let body = if until_ns > 0 {
            format!("{{\"pause_until\":\"{}\"}}", Timestamp(until_ns))
        } else {
            String::new()
        };
        self.ask_of((place, which), "PAUSE", &body)?;
        self.model.streams[place].consumers[which].paused_until_ns = until_ns;
        Ok(())
    }

    /// A clock that went back may make a pause last for hours.
    ///
    /// # Errors
    /// A broken rule.
    pub(super) fn end_pause(&mut self, place: usize, which: usize) -> Result<(), Failure> {
        let consumer = &mut self.model.streams[place].consumers[which];
        if self.model.jumps == 0 || std::mem::take(&mut consumer.paused_until_ns) == 0 {
            return Ok(());
        }
        self.ask_of((place, which), "PAUSE", "").map(|_| ())
    }

    fn reset(&mut self, place: usize, which: usize) -> Result<(), Failure> {
        let stream = &self.model.streams[place];
        if stream.config.retention != Retention::Limits
            || stream.consumers[which].policy == Policy::None
        {
            return Ok(());
        }
        let last = stream.by_seq.keys().next_back().copied().unwrap_or(0);
        let seq = 1 + u64::from(self.dice.below(last as u32 + 1));
        let answer = self.ask_of((place, which), "RESET", &format!("{{\"seq\":{seq}}}"))?;
        let Some(from) = answer["reset_seq"].as_u64() else { return Ok(()) };
        self.resets += 1;
        let sent = &self.model.sent;
        let consumer = &mut self.model.streams[place].consumers[which];
        consumer.reset_from = from;
        consumer.settled.clear();
        consumer.settled_floor = 0;
        consumer.maybe.retain(|id| sent[*id].seq.is_none_or(|seq| seq < from));
        consumer.maybe_floor = from - 1;
        consumer.delivered.clear();
        consumer.unsettled.clear();
        Ok(())
    }

    /// What a consumer that was paused or reset may deliver.
    pub(super) fn judge_tended(
        &self,
        (place, which): (usize, usize),
        seq: u64,
    ) -> Result<(), String> {
        let stream = &self.model.streams[place];
        let consumer = &stream.consumers[which];
        if consumer.being != Being::Present || stream.is_damaged {
            return Ok(());
        }
        if seq < consumer.reset_from {
            return Err(format!("it begins at {} since it was reset", consumer.reset_from));
        }
        if self.model.jumps == 0 && self.now.wall_ns < consumer.paused_until_ns {
            return Err(format!("it is paused until {}", consumer.paused_until_ns));
        }
        Ok(())
    }

    /// Whether a consumer shows that it is paused.
    pub(super) fn judge_pause(
        &self,
        (place, which): (usize, usize),
        asked_wall_ns: i64,
        info: &serde_json::Value,
    ) -> Result<(), Failure> {
        let stream = &self.model.streams[place];
        let consumer = &stream.consumers[which];
        let until_ns = consumer.paused_until_ns;
        if self.model.jumps > 0 || stream.is_damaged || consumer.being != Being::Present {
            return Ok(());
        }
        let is_paused = info["paused"].as_bool().unwrap_or(false);
        let is_wrong =
            (is_paused && until_ns <= asked_wall_ns) || (!is_paused && until_ns > self.now.wall_ns);
        if is_wrong {
            let name = format!("{} > {}", stream.name, consumer.name);
            return self.fail(format!("{name} was paused until {until_ns}: {info}"));
        }
        Ok(())
    }
}
