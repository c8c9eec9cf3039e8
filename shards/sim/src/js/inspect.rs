//! Everything that a server holds is read and held against the model. What is found is what is
//! known from then on.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::api::timestamp::Timestamp;

use super::ask::{Ask, number_of, without_batch};
use super::model::{Being, Fate, Sent, dir_of};
use super::world::World;
use crate::client::Message;
use crate::oracle::Failure;

/// A message as a stream shows it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) subject: String,
    pub(super) headers: String,
    pub(super) payload: Vec<u8>,
    pub(super) wall_ns: i64,
}

/// Time after which an acknowledged end lies twice on a disk that works, ns.
const SETTLE_NS_MAX: u64 = 1_000_000_000;
/// Messages that one flipped bit may take: a batch is kept or lost as a whole.
const LOST_PER_FLIP_MAX: usize = 12;
/// Messages asked for at once.
const BATCH: usize = 100;

fn header<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// The headers as they were published: without what direct get adds.
fn published_headers(block: &str) -> String {
    let added = ["Nats-Stream:", "Nats-Subject:", "Nats-Sequence:", "Nats-Time-Stamp:"];
    let more = ["Nats-Num-Pending:", "Nats-Last-Sequence:"];
    let own = |line: &&str| !added.iter().chain(&more).any(|key| line.starts_with(key));
    block.lines().filter(own).collect::<Vec<_>>().join("\n")
}

/// `NATS/1.0` alone is no header.
pub(super) fn normal(block: &str) -> String {
    let block = without_batch(block);
    let block = block.trim();
    if block == "NATS/1.0" { String::new() } else { block.to_owned() }
}

fn time_of(text: &str) -> Option<i64> {
    Timestamp::parse(text).ok().map(|time| time.0)
}

impl World {
    /// Asks and waits for the one answer.
    pub(crate) fn call(
        &mut self,
        at: usize,
        subject: &str,
        body: &str,
    ) -> Result<Message, Failure> {
        self.raw.clear();
        self.raw_is_many = false;
        self.ask(at, subject, "", body.as_bytes(), Ask::Raw);
        self.rest()?;
        match self.raw.pop() {
            Some(message) => Ok(message),
            None => self.fail(format!("no answer to {subject}")),
        }
    }

    pub(super) fn call_json(
        &mut self,
        at: usize,
        subject: &str,
        body: &str,
    ) -> Result<Value, Failure> {
        let answer = self.call(at, subject, body)?;
        match serde_json::from_slice(&answer.payload) {
            Ok(value) => Ok(value),
            Err(_) => self.fail(format!("{subject}: no JSON: {answer:?}")),
        }
    }

    /// Reads everything and judges it.
    ///
    /// # Errors
    /// A broken rule.
    pub(crate) fn inspect(&mut self) -> Result<(), Failure> {
        while !self.disk.faults.is_empty() {
            self.step()?;
        }
        self.rest()?;
        self.inspections += 1;
        if self.is_fresh {
            self.judge_reports()?;
        }
        let at = self.connect();
        for stream in 0..self.model.streams.len() {
            let known = &self.model.streams[stream];
            if known.is_stuck || known.fenced.is_some() {
                continue;
            }
            self.inspect_stream(at, stream)?;
        }
        self.is_fresh = false;
        self.kept_errors.clear();
        Ok(())
    }

    /// Damage is told of no stream that has none.
    fn judge_reports(&self) -> Result<(), Failure> {
        for stream in self.model.streams.iter().filter(|stream| !stream.is_damaged) {
            let line = format!("JetStream store {} is damaged", dir_of(&stream.name));
            if let Some(told) = self.errors.iter().find(|told| told.contains(&line)) {
                return self.fail(format!("no bit was flipped, but {told}"));
            }
        }
        Ok(())
    }

    fn inspect_stream(&mut self, at: usize, place: usize) -> Result<(), Failure> {
        let name = self.model.streams[place].name.clone();
        let subject = format!("$JS.API.STREAM.INFO.{name}");
        let asked_wall_ns = self.now.wall_ns;
        let mut info = self.call_json(at, &subject, "{\"deleted_details\":true}")?;
        let exists = info.get("error").is_none();
        let being = self.model.streams[place].being;
        if !self.is_fresh && matches!(being, Being::Coming | Being::Going) {
            // The disk refused that: only a restart tells what is kept.
            return Ok(());
        }
        match (being, exists) {
            (Being::Present, false) if self.is_reported(place) => {
                self.set_aside += 1;
                self.forget_stream(place);
                return Ok(());
            }
            (Being::Present, false) if self.may_be_unmade(place) => {
                self.forget_stream(place);
                return Ok(());
            }
            (Being::Present, false) => return self.fail(format!("stream {name} is lost: {info}")),
            (Being::Absent, true) => return self.fail(format!("stream {name} came back: {info}")),
            (Being::Absent, false) => return Ok(()),
            (Being::Coming | Being::Going, false) => {
                self.forget_stream(place);
                return Ok(());
            }
            (_, true) => self.model.streams[place].being = Being::Present,
        }
        self.judge_config(place, &info)?;
        let mut found = self.read_stream(at, place, &info)?;
        // What was on its way when the first question was asked may have come meanwhile.
        while found.keys().next_back().copied() > info["state"]["last_seq"].as_u64() {
            info = self.call_json(at, &subject, "{\"deleted_details\":true}")?;
            found = self.read_stream(at, place, &info)?;
        }
        self.judge_found(place, &info, &found)?;
        self.judge_ages(place, &found, asked_wall_ns)?;
        let lost_tail = self.model.streams[place].lost_tail;
        self.adopt(place, &found);
        if !self.was_full {
            let last = info["state"]["last_seq"].as_u64().unwrap_or(0);
            self.model.streams[place].last_seq = last;
        }
        self.inspect_consumers(at, place, lost_tail)
    }

    fn forget_stream(&mut self, place: usize) {
        let mut sent = std::mem::take(&mut self.model.sent);
        let stream = &mut self.model.streams[place];
        stream.being = Being::Absent;
        stream.forget(&mut sent);
        self.model.sent = sent;
    }

    /// The log has told of damage to the stream, and there was some.
    fn is_reported(&self, place: usize) -> bool {
        let stream = &self.model.streams[place];
        let dir = dir_of(&stream.name);
        stream.is_damaged
            && self.errors.iter().chain(&self.kept_errors).any(|line| line.contains(&dir))
    }

    fn judge_config(&mut self, place: usize, info: &Value) -> Result<(), Failure> {
        let shown = &info["config"];
        let stream = &self.model.streams[place];
        if stream.update.is_some() && !self.is_fresh {
            // The disk refused the change: only a restart tells what is kept.
            return Ok(());
        }
        let fits = |config: &super::model::Config| {
            shown["max_msgs"].as_i64() == Some(config.max_msgs)
                && shown["max_msgs_per_subject"].as_i64() == Some(config.max_per_subject)
                && (shown["compression"] == "s2") == config.is_compressed
                && shown["max_age"].as_i64().unwrap_or(0) == config.max_age_ns
        };
        let doubtful = stream.update.clone().filter(|update| fits(update));
        if let Some(update) = doubtful {
            self.model.streams[place].configure(update);
            return Ok(());
        }
        if fits(&stream.config) || stream.is_damaged {
            return Ok(());
        }
        let old = stream.old_configs.iter().rev().find(|old| stream.lost_tail && fits(old));
        if let Some(old) = old.cloned() {
            self.model.streams[place].configure(old);
            return Ok(());
        }
        self.fail(format!("stream {place}: configuration {shown}, known {:?}", stream.config))
    }

    fn read_stream(
        &mut self,
        at: usize,
        place: usize,
        info: &Value,
    ) -> Result<BTreeMap<u64, Found>, Failure> {
        let name = self.model.streams[place].name.clone();
        let one_by_one = self.model.streams[place].is_damaged || self.one_in(4);
        let mut errors = 0;
        let found = self.read_named(at, &name, info, one_by_one, &mut errors)?;
        self.model.streams[place].get_errors += errors;
        Ok(found)
    }

    /// Reads the messages of a stream, and counts those that cannot be read.
    pub(super) fn read_named(
        &mut self,
        at: usize,
        name: &str,
        info: &Value,
        one_by_one: bool,
        errors: &mut usize,
    ) -> Result<BTreeMap<u64, Found>, Failure> {
        let mut found = BTreeMap::new();
        let state = &info["state"];
        let (first, last) = (state["first_seq"].as_u64(), state["last_seq"].as_u64());
        let (Some(first), Some(last)) = (first, last) else {
            return self.fail(format!("{name}: no state: {info}"));
        };
        let subject = format!("$JS.API.DIRECT.GET.{name}");
        let mut seq = first.max(1);
        while seq <= last {
            self.raw.clear();
            self.raw_is_many = !one_by_one;
            let body = if one_by_one {
                format!("{{\"seq\":{seq}}}")
            } else {
                format!("{{\"seq\":{seq},\"batch\":{BATCH}}}")
            };
            self.ask(at, &subject, "", body.as_bytes(), Ask::Raw);
            self.rest()?;
            let messages = std::mem::take(&mut self.raw);
            let mut next = if one_by_one { seq + 1 } else { u64::MAX };
            for message in &messages {
                let block = String::from_utf8_lossy(&message.header).into_owned();
                if !block.starts_with("NATS/1.0\r\n") {
                    let is_plain = ["NATS/1.0 404", "NATS/1.0 204"];
                    if !is_plain.iter().any(|status| block.starts_with(status)) {
                        *errors += 1;
                    }
                    continue;
                }
                let got = header(&block, "Nats-Sequence").and_then(|seq| seq.parse().ok());
                let subject = header(&block, "Nats-Subject");
                let time = header(&block, "Nats-Time-Stamp").and_then(time_of);
                let (Some(got), Some(subject), Some(wall_ns)) = (got, subject, time) else {
                    return self.fail(format!("{name}: no message: {block}"));
                };
                let one = Found {
                    subject: subject.to_owned(),
                    headers: published_headers(&block),
                    payload: message.payload.clone(),
                    wall_ns,
                };
                found.insert(got, one);
                if !one_by_one {
                    next = got + 1;
                }
            }
            if !one_by_one && messages.len() <= BATCH {
                break;
            }
            seq = next;
        }
        Ok(found)
    }

    fn judge_found(
        &mut self,
        place: usize,
        info: &Value,
        found: &BTreeMap<u64, Found>,
    ) -> Result<(), Failure> {
        self.judge_each(place, found)?;
        self.judge_state(place, info, found)?;
        self.judge_missing(place, info, found)?;
        self.judge_order(place, found)?;
        self.judge_duplicates(place, found)?;
        self.judge_batches(place, found)
    }

    fn judge_each(&self, place: usize, found: &BTreeMap<u64, Found>) -> Result<(), Failure> {
        let stream = &self.model.streams[place];
        for (seq, one) in found {
            let who = format!("{} at {seq}", stream.name);
            let id = number_of(&one.payload);
            let Some((id, sent)) = id.and_then(|id| Some((id, self.model.sent.get(id)?))) else {
                return self.fail(format!("{who}: nobody published that"));
            };
            let is_intact = sent.stream == place
                && sent.subject == one.subject
                && sent.payload == one.payload
                && normal(&sent.headers) == normal(&one.headers);
            if !is_intact {
                return self.fail(format!(
                    "{who}: message {id} is not as it was published: {:?} {:?}, sent {:?} {:?}",
                    one.subject, one.headers, sent.subject, sent.headers
                ));
            }
            if let Some(other) = stream.by_seq.get(seq).filter(|other| **other != id) {
                return self.fail(format!("{who}: message {id} where {other} was"));
            }
            if sent.seq.is_some_and(|known| known != *seq) {
                return self.fail(format!("{who}: message {id}, known at {:?}", sent.seq));
            }
            // What took it out may have been in the damaged place.
            let is_undone = stream.is_damaged || stream.lost_tail;
            let may_return = is_undone && sent.fate == Fate::Gone && sent.era == stream.era;
            if matches!(sent.fate, Fate::Refused | Fate::Gone) && !may_return {
                return self.fail(format!("{who}: message {id} is there, {:?}", sent.fate));
            }
            if stream.deleted.contains(seq) && !is_undone {
                return self.fail(format!("{who}: message {id} was deleted"));
            }
            let gone = self.model.must_be_gone(id).filter(|_| !is_undone);
            if let Some(why) = gone {
                return self.fail(format!("{who}: message {id} is there, but {why}"));
            }
        }
        Ok(())
    }

    fn judge_state(
        &self,
        place: usize,
        info: &Value,
        found: &BTreeMap<u64, Found>,
    ) -> Result<(), Failure> {
        let stream = &self.model.streams[place];
        let state = &info["state"];
        let last = state["last_seq"].as_u64().unwrap_or(0);
        let known = stream.by_seq.keys().next_back().copied().unwrap_or(0).max(stream.last_seq);
        if last < known && !stream.is_damaged && !stream.lost_tail {
            return self.fail(format!("{}: last sequence {last}, known {known}", stream.name));
        }
        let max = stream.config.max_msgs;
        if stream.is_damaged {
            return Ok(());
        }
        let ages = stream.config.max_age_ns > 0
            || stream.config.has_ages
            || stream.past_configs.iter().any(|config| config.max_age_ns > 0);
        let count = state["messages"].as_u64().unwrap_or(0);
        if count != found.len() as u64 && !ages {
            return self.fail(format!(
                "{}: {count} messages, but {} are read: {state}",
                stream.name,
                found.len()
            ));
        }
        if max > 0 && !stream.config.discard_new && count > max as u64 {
            return self.fail(format!("{}: {count} messages of {max}", stream.name));
        }
        let size = |one: &Found| {
            let sent = number_of(&one.payload).and_then(|id| self.model.sent.get(id));
            let headers = sent.map_or(0, |sent: &Sent| sent.headers.len());
            let more = if headers > 0 { headers + 4 } else { 0 };
            let fixed = if stream.config.in_memory { 16 } else { 30 };
            let more = if stream.config.in_memory { headers } else { more };
            one.subject.len() + one.payload.len() + fixed + more
        };
        let bytes: usize = found.values().map(size).sum();
        if state["bytes"].as_u64() != Some(bytes as u64) && !ages {
            return self.fail(format!("{}: {bytes} bytes are read: {state}", stream.name));
        }
        Ok(())
    }

    /// Everything acknowledged and not taken out is there.
    fn judge_missing(
        &mut self,
        place: usize,
        info: &Value,
        found: &BTreeMap<u64, Found>,
    ) -> Result<(), Failure> {
        let last = info["state"]["last_seq"].as_u64().unwrap_or(0);
        let stream = &self.model.streams[place];
        let missing: Vec<(u64, usize)> = stream
            .by_seq
            .iter()
            .filter(|(seq, _)| !found.contains_key(seq))
            .map(|(seq, id)| (*seq, *id))
            .collect();
        for (seq, id) in missing {
            if self.model.excuse(id, last.max(seq)).is_some() {
                continue;
            }
            if self.may_be_tail(id, seq, last) {
                continue;
            }
            let stream = &self.model.streams[place];
            // An end that was not written twice yet cannot be told from one that tore.
            let known_ns = self.model.sent[id].known_ns;
            let is_young = stream.has_open_end || known_ns + SETTLE_NS_MAX > self.model.end_ns;
            let is_end = is_young && found.keys().all(|other| *other < seq);
            if stream.is_damaged && (self.is_reported(place) || stream.get_errors > 0 || is_end) {
                self.model.lost_to_damage += 1;
                let stream = &mut self.model.streams[place];
                stream.lost += usize::from(!is_end);
                let (flips, lost) = (stream.flips, stream.lost);
                if lost > LOST_PER_FLIP_MAX * flips {
                    let rule = format!("{flips} flipped bits took {lost} messages and more");
                    return self.fail(format!("stream {place} at {seq}: {rule}"));
                }
                continue;
            }
            let name = &stream.name;
            return self.fail(format!(
                "{name} at {seq}: message {id} is lost (damaged: {}; known {:?}; {})",
                stream.is_damaged, self.model.sent[id].fate, info["state"]
            ));
        }
        Ok(())
    }

    /// What one client sent lies in its order.
    fn judge_order(&self, place: usize, found: &BTreeMap<u64, Found>) -> Result<(), Failure> {
        let mut last: BTreeMap<(usize, usize), (usize, u64)> = BTreeMap::new();
        for (seq, one) in found {
            let Some(id) = number_of(&one.payload) else { continue };
            let sent = &self.model.sent[id];
            if sent.batch.is_some() {
                continue;
            }
            if let Some((before, at)) = last.insert(sent.client, (id, *seq))
                && before > id
            {
                return self.fail(format!(
                    "{}: message {id} at {seq} behind message {before} at {at}",
                    self.model.streams[place].name
                ));
            }
        }
        Ok(())
    }

    fn judge_duplicates(&self, place: usize, found: &BTreeMap<u64, Found>) -> Result<(), Failure> {
        let stream = &self.model.streams[place];
        let mut ids: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
        for (seq, one) in found {
            let Some(id) = number_of(&one.payload) else { continue };
            let Some(msg_id) = &self.model.sent[id].msg_id else { continue };
            let before = ids.insert(msg_id, (*seq, one.wall_ns));
            let Some((other, wall_ns)) = before else { continue };
            // What had taken the first one out may have been in the damaged place.
            let is_undone = stream.is_damaged || stream.lost_tail || self.model.jumps > 0;
            if !is_undone && one.wall_ns - wall_ns < stream.config.window_ns {
                return self.fail(format!(
                    "{}: message id {msg_id} is stored twice, at {other} and {seq}",
                    stream.name
                ));
            }
        }
        for (seq, msg_id) in &stream.claims {
            let Some(one) = found.get(seq) else { continue };
            let id = number_of(&one.payload).and_then(|id| self.model.sent[id].msg_id.as_ref());
            if id != Some(msg_id) {
                return self.fail(format!("{}: {seq} is no duplicate of {msg_id}", stream.name));
            }
        }
        Ok(())
    }

    /// A batch is there as a whole or not at all.
    fn judge_batches(&self, place: usize, found: &BTreeMap<u64, Found>) -> Result<(), Failure> {
        let stream = &self.model.streams[place];
        let mut batches: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for (seq, one) in found {
            let Some(id) = number_of(&one.payload) else { continue };
            if let Some(batch) = self.model.sent[id].batch {
                batches.entry(batch).or_default().push(*seq);
            }
        }
        let is_calm = stream.config.max_msgs <= 0
            && stream.config.max_per_subject <= 0
            && stream.config.max_age_ns <= 0
            && !stream.config.has_ages
            && stream.config.retention == super::model::Retention::Limits
            && stream.past_configs.is_empty()
            && stream.purges.is_empty()
            && stream.maybe_deleted.is_empty()
            && stream.gone.is_empty()
            && !stream.is_damaged;
        if !is_calm {
            return Ok(());
        }
        for (batch, seqs) in batches {
            let members = self.model.sent.iter().filter(|sent| sent.batch == Some(batch));
            if members.clone().any(|sent| matches!(sent.fate, Fate::Loose | Fate::Gone)) {
                continue;
            }
            let all = members.count();
            let is_row = seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            if seqs.len() != all || !is_row {
                return self
                    .fail(format!("{}: {seqs:?} of the {all} messages of a batch", stream.name));
            }
        }
        Ok(())
    }

    /// What was found is what is known.
    fn adopt(&mut self, place: usize, found: &BTreeMap<u64, Found>) {
        if self.extras.copies {
            self.model.note_taken_out(place);
        }
        // What a full disk refused may be written yet, and may be shown before it is.
        let is_settled = self.is_fresh || !self.was_full;
        let tick = self.model.next_tick();
        let known = &self.model.streams[place].by_seq;
        let missing = known.iter().filter(|(seq, _)| !found.contains_key(seq));
        let gone: Vec<(u64, bool)> =
            missing.map(|(seq, id)| (*seq, self.model.is_out(*id))).collect();
        let stream = &mut self.model.streams[place];
        let last = found.keys().next_back().copied().unwrap_or(0);
        for (seq, is_out) in gone {
            if (stream.is_damaged || stream.lost_tail) && seq > last {
                // The number may be given again.
                if let Some(id) = stream.by_seq.remove(&seq) {
                    self.model.sent[id].fate = Fate::Gone;
                }
                continue;
            }
            if let Some(id) = stream.by_seq.remove(&seq) {
                self.model.sent[id].fate = if is_out { Fate::Gone } else { Fate::Loose };
                if is_out {
                    stream.gone.insert(seq);
                }
            }
        }
        for (seq, one) in found {
            let Some(id) = number_of(&one.payload) else { continue };
            let sent = &mut self.model.sent[id];
            if sent.fate != Fate::Stored && !is_settled {
                continue;
            }
            if sent.fate != Fate::Stored {
                sent.known_tick = tick;
                sent.known_ns = self.now.mono_ns;
            }
            sent.fate = Fate::Stored;
            sent.seq = Some(*seq);
            stream.by_seq.insert(*seq, id);
            if stream.lost_tail {
                stream.gone.remove(seq);
                stream.deleted.remove(seq);
            }
        }
        stream.has_open_end = false;
        if std::mem::take(&mut stream.lost_tail) {
            // The numbers behind are given again.
            stream.gone.retain(|seq| *seq <= last);
            stream.deleted.retain(|seq| *seq <= last);
        }
        let era = stream.era;
        for sent in &mut self.model.sent {
            let fits = sent.stream == place && sent.era == era;
            if fits && is_settled && sent.fate == Fate::Doubt {
                sent.fate = Fate::Gone;
            }
        }
        stream.purges.clear();
        stream.maybe_deleted.clear();
        stream.claims.clear();
        stream.past_configs.clear();
        stream.update = None;
        stream.get_errors = 0;
    }
}
