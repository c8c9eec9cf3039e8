//! Copies that the server makes by itself: a mirror of the first stream, and a stream that gathers
//! what all have. No client writes to them; whatever happened, in the end they hold what their
//! origins hold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ask::number_of;
use super::inspect::{Found, normal};
use super::model::{Being, Retention, dir_of};
use super::world::World;
use crate::oracle::Failure;

/// Virtual time in which a copy must have everything, ns.
const COPY_NS_MAX: u64 = 120_000_000_000;

/// A stream that copies others.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) name: &'static str,
    is_mirror: bool,
    /// The streams it copies.
    origins: Vec<usize>,
}

impl World {
    /// Whether a copy needs the stream to stay.
    pub(crate) fn has_copy(&self, place: usize) -> bool {
        self.copies.iter().any(|copy| copy.origins.contains(&place))
    }

    /// The streams that may be copied: those that outlive the server and whose messages have no
    /// age of their own.
    fn origins(&self) -> Vec<usize> {
        let streams = self.model.streams.iter().enumerate();
        let fit = streams.filter(|(_, stream)| {
            let config = &stream.config;
            stream.being == Being::Present
                && config.retention == Retention::Limits
                && !(config.in_memory || config.has_ages || config.is_async)
        });
        fit.map(|(place, _)| place).collect()
    }

    /// Makes the copies that the seed has and that are not there yet.
    ///
    /// # Errors
    /// A broken rule.
    pub(super) fn make_copies(&mut self) -> Result<(), Failure> {
        if !self.extras.copies {
            return Ok(());
        }
        let all = self.origins();
        for (name, is_mirror) in [("M", true), ("N", false)] {
            let count = if is_mirror { 1 } else { all.len() };
            let origins: Vec<usize> = all.iter().copied().take(count).collect();
            let is_there = self.copies.iter().any(|copy| copy.name == name);
            if origins.is_empty() || is_there || self.extra_in(3) {
                continue;
            }
            let named =
                |place: &usize| format!("{{\"name\":\"{}\"}}", self.model.streams[*place].name);
            let listed = origins.iter().map(named).collect::<Vec<_>>().join(",");
            let from = if is_mirror {
                format!("\"mirror\":{listed}")
            } else {
                format!("\"sources\":[{listed}]")
            };
            self.note(format!("{name} copies {origins:?}"));
            let body = format!(
                "{{\"name\":\"{name}\",\"storage\":\"file\",\"retention\":\"limits\",\
                 \"num_replicas\":1,\"allow_direct\":true,{from}}}"
            );
            let at = self.some_client();
            let answer = self.call_json(at, &format!("$JS.API.STREAM.CREATE.{name}"), &body)?;
            if answer.get("error").is_some() {
                return self.fail(format!("{name} is refused: {answer}"));
            }
            self.copies.push(Replica { name, is_mirror, origins });
        }
        Ok(())
    }

    /// The directory of a stream whose disk is to fail now, if it is to be that of a copy.
    pub(super) fn draw_copy(&mut self) -> Option<String> {
        if self.copies.is_empty() || !self.extra_in(3) {
            return None;
        }
        let at = self.dice.below(self.copies.len() as u32) as usize;
        self.copies.get(at).map(|copy| copy.name.to_owned())
    }

    /// Waits until the copies hold what their origins hold.
    ///
    /// # Errors
    /// A broken rule.
    pub(super) fn judge_copies(&mut self) -> Result<(), Failure> {
        // What damage took from an origin cannot come to a copy, and the other way round.
        if self.flips > 0 {
            return Ok(());
        }
        let at = self.connect();
        for copy in self.copies.clone() {
            let line = format!("JetStream store {} is damaged", dir_of(copy.name));
            if self.errors.iter().any(|told| told.contains(&line)) {
                return self.fail(format!("no bit was flipped, but {line}"));
            }
            let until_ns = self.now.mono_ns + COPY_NS_MAX;
            loop {
                let found = self.read_any(at, copy.name)?;
                let mut origins = Vec::new();
                for place in &copy.origins {
                    let name = self.model.streams[*place].name.clone();
                    origins.push((*place, self.read_any(at, &name)?));
                }
                self.judge_copy(&copy, &found, &origins)?;
                let lacking = self.lacking(&copy, &found.1, &origins);
                let Some(lacking) = lacking else {
                    self.copied += found.1.len();
                    break;
                };
                if self.now.mono_ns > until_ns {
                    let state = &found.0["state"];
                    let there: Vec<u64> = found.1.keys().rev().take(20).copied().collect();
                    let lacks = format!("{} lacks {lacking:?}", copy.name);
                    return self.fail(format!("{lacks}: last are {there:?}, {state}"));
                }
                self.wait(1_000_000_000)?;
            }
        }
        Ok(())
    }

    fn read_any(&mut self, at: usize, name: &str) -> Result<Whole, Failure> {
        let info = self.call_json(at, &format!("$JS.API.STREAM.INFO.{name}"), "")?;
        if info.get("error").is_some() {
            return self.fail(format!("{name} is lost: {info}"));
        }
        let mut errors = 0;
        let found = self.read_named(at, name, &info, false, &mut errors)?;
        Ok((info, found))
    }

    /// Nothing is in a copy that is not its origin's, or twice, or in another order.
    fn judge_copy(
        &self,
        copy: &Replica,
        (info, found): &Whole,
        origins: &[(usize, Whole)],
    ) -> Result<(), Failure> {
        let mut ids = BTreeSet::new();
        let mut last: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for (seq, one) in found {
            let who = format!("{} at {seq}", copy.name);
            let id = number_of(&one.payload);
            let Some((id, sent)) = id.and_then(|id| Some((id, self.model.sent.get(id)?))) else {
                return self.fail(format!("{who}: nobody published that"));
            };
            let is_intact = copy.origins.contains(&sent.stream)
                && sent.subject == one.subject
                && sent.payload == one.payload
                && copied(&sent.headers) == copied(&one.headers);
            if !is_intact {
                return self
                    .fail(format!("{who}: message {id} is not as it was published: {one:?}"));
            }
            if !ids.insert(id) {
                return self.fail(format!("{who}: message {id} is there twice"));
            }
            let Some(known) = sent.seq else { continue };
            if copy.is_mirror && known != *seq {
                return self.fail(format!("{who}: message {id}, in the origin at {known}"));
            }
            if let Some((before, at)) = last.insert(sent.stream, (known, *seq))
                && before > known
            {
                return self.fail(format!("{who}: {known} of the origin behind {before} at {at}"));
            }
        }
        let last_of = |info: &Value| info["state"]["last_seq"].as_u64().unwrap_or(0);
        let ahead = origins.iter().find(|(_, origin)| last_of(info) > last_of(&origin.0));
        match ahead.filter(|_| copy.is_mirror) {
            Some((_, (origin, _))) => {
                let (copied, there) = (last_of(info), last_of(origin));
                self.fail(format!("{} is at {copied}, its origin at {there}", copy.name))
            }
            None => Ok(()),
        }
    }

    /// Whether a stream has, or had, limits for which a new message takes an old one out. An end
    /// may undo both, but a copy has passed the old one over.
    fn displaces(&self, place: usize) -> bool {
        let stream = &self.model.streams[place];
        let all = std::iter::once(&stream.config).chain(&stream.old_configs).chain(&stream.update);
        let mut all = all.map(|config| {
            config.max_msgs > 0 || config.max_per_subject > 0 || config.max_age_ns > 0
        });
        all.any(|displaces| displaces)
    }

    /// A message of the origins that the copy has not: origin and sequence. One that was taken out
    /// may have been passed over before an end undid that.
    fn lacking(
        &self,
        copy: &Replica,
        found: &BTreeMap<u64, Found>,
        origins: &[(usize, Whole)],
    ) -> Option<(usize, u64)> {
        let ids: BTreeSet<usize> =
            found.values().filter_map(|one| number_of(&one.payload)).collect();
        let all = origins.iter().flat_map(|(place, (_, messages))| {
            messages.iter().map(|(seq, one)| (*place, *seq, one))
        });
        let mut lacking = all.filter(|(place, seq, one)| {
            let id = number_of(&one.payload).unwrap_or(usize::MAX);
            let is_there = match found.get(seq) {
                _ if !copy.is_mirror => ids.contains(&id),
                Some(other) => other.payload == one.payload && other.wall_ns == one.wall_ns,
                None => false,
            };
            !is_there && !self.model.taken_out.contains(&id) && !self.displaces(*place)
        });
        lacking.next().map(|(place, seq, _)| (place, seq))
    }
}

/// What a stream says about itself, and its messages.
type Whole = (Value, BTreeMap<u64, Found>);

/// The headers that a copy has of its origin: not what the publisher expected there, nor, on the
/// other side, where a message comes from.
fn copied(block: &str) -> String {
    let left_out = ["Nats-Expected-", "Nats-Stream-Source:"];
    let own = |line: &&str| !left_out.iter().any(|key| line.starts_with(key));
    normal(&block.lines().filter(own).collect::<Vec<_>>().join("\n"))
}
