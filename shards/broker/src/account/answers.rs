//! Answers across accounts: where what is published to a private reply of a request goes. Lives
//! on: the shard of the requester, which the reply names.
//!
//! ```text
//!   _R_.SSIIIII.TTTTTTTTTTTTTTTT     S shard, I place in the table, T secret
//! ```
//! The secret cannot be guessed, and only the account that was asked may publish to the reply.

use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;
use sha2::{Digest, Sha256};
use slab::Slab;
use smallvec::SmallVec;
use std::collections::VecDeque;

use super::share::AnswerKind;
use crate::index::ShardId;

/// Requests of one account across accounts that wait for answers on one shard; the oldest give
/// way to new ones.
pub(crate) const ANSWERS_MAX: usize = 65_536;
/// Private replies of other shards that are remembered to have ended.
const ENDED_MAX: usize = 4096;
/// What every private reply begins with.
pub(crate) const ANSWER_PREFIX: &[u8] = b"_R_.";
const SHARD_DIGITS: usize = 2;
const PLACE_DIGITS: usize = 5;
const SECRET_DIGITS: usize = 16;
const REPLY_BYTES: usize = 4 + SHARD_DIGITS + PLACE_DIGITS + 1 + SECRET_DIGITS;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const NONE: u32 = u32::MAX;

/// A private reply.
pub(crate) type PrivateReply = [u8; REPLY_BYTES];
/// A subject, usually short.
pub(crate) type Text = SmallVec<[u8; 64]>;

/// A request that waits for answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The account that may answer.
    pub(crate) from: u32,
    /// The account that asked.
    pub(crate) to: u32,
    /// Where its answers go.
    pub(crate) reply: Text,
    /// What it published to.
    pub(crate) subject: Text,
    pub(crate) kind: AnswerKind,
    pub(crate) threshold_ns: u64,
    /// When it was made or last answered, monotonic ns.
    pub(crate) touched_ns: u64,
}

#[derive(Debug)]
struct Place {
    answer: Answer,
    name: PrivateReply,
    older: u32,
    newer: u32,
}

/// The open requests of one account in order of age.
#[derive(Clone, Copy, Debug)]
struct Line {
    oldest: u32,
    newest: u32,
    count: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Answers {
    me: ShardId,
    secret: [u8; 32],
    made: u64,
    places: Slab<Place>,
    lines: HashMap<u32, Line, FxBuildHasher>,
    max: usize,
    ended: HashSet<PrivateReply, FxBuildHasher>,
    ended_order: VecDeque<PrivateReply>,
    /// Somebody stopped listening: requests may have nobody left who waits for them.
    pub(crate) is_doubtful: bool,
    /// The timer is armed.
    pub(crate) is_watched: bool,
}

/// Writes a number with this many digits.
fn push_digits(out: &mut SmallVec<[u8; REPLY_BYTES]>, mut number: usize, digits: usize) {
    let at = out.len();
    for _ in 0..digits {
        out.insert(at, DIGITS.get(number % 62).copied().unwrap_or(b'0'));
        number /= 62;
    }
}

fn number_of(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0_usize, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            b'a'..=b'z' => digit - b'a' + 36,
            _ => return None,
        };
        Some(number * 62 + usize::from(value))
    })
}

/// The shard that knows a private reply.
pub(crate) fn shard_of(reply: &[u8]) -> Option<ShardId> {
    let rest = reply.strip_prefix(ANSWER_PREFIX).filter(|_| reply.len() == REPLY_BYTES)?;
    ShardId::try_from(number_of(rest.get(..SHARD_DIGITS)?)?).ok()
}

impl Answers {
    /// An empty table. Who knows the seed can guess replies.
    pub(crate) fn new(me: ShardId, seed: u64) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"private replies");
        digest.update(seed.to_le_bytes());
        digest.update(me.to_le_bytes());
        Self {
            me,
            secret: digest.finalize().into(),
            made: 0,
            places: Slab::new(),
            lines: HashMap::default(),
            max: ANSWERS_MAX,
            ended: HashSet::default(),
            ended_order: VecDeque::new(),
            is_doubtful: false,
            is_watched: false,
        }
    }

    /// True when no request waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Requests that wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    fn fresh_name(&mut self, place: usize) -> PrivateReply {
        self.made += 1;
        let mut digest = Sha256::new();
        digest.update(self.secret);
        digest.update(self.made.to_le_bytes());
        let random = digest.finalize();
        let mut out = SmallVec::new();
        out.extend_from_slice(ANSWER_PREFIX);
        push_digits(&mut out, usize::from(self.me), SHARD_DIGITS);
        push_digits(&mut out, place, PLACE_DIGITS);
        out.push(b'.');
        for byte in random.iter().take(SECRET_DIGITS) {
            out.push(DIGITS.get(usize::from(*byte) % 62).copied().unwrap_or(b'0'));
        }
        out.into_inner().unwrap_or([b'0'; REPLY_BYTES])
    }

    /// Notes a request and gives it a private reply.
    pub(crate) fn open(&mut self, answer: Answer) -> PrivateReply {
        let to = answer.to;
        if self.lines.get(&to).is_some_and(|line| line.count >= self.max)
            && let Some(oldest) = self.lines.get(&to).map(|line| line.oldest)
        {
            self.take_out(oldest);
        }
        let name = self.fresh_name(self.places.vacant_key());
        let line = self.lines.entry(to).or_insert(Line { oldest: NONE, newest: NONE, count: 0 });
        let older = line.newest;
        let id = self.places.insert(Place { answer, name, older, newer: NONE }) as u32;
        line.newest = id;
        line.count += 1;
        match self.places.get_mut(older as usize) {
            Some(older) => older.newer = id,
            None => line.oldest = id,
        }
        name
    }

    fn find(&self, reply: &[u8]) -> Option<u32> {
        let at = ANSWER_PREFIX.len() + SHARD_DIGITS;
        let place = number_of(reply.get(at..at + PLACE_DIGITS)?)?;
        let known = self.places.get(place)?;
        (known.name == *reply).then_some(place as u32)
    }

    /// The request behind a private reply.
    pub(crate) fn get(&self, reply: &[u8]) -> Option<&Answer> {
        let place = self.places.get(self.find(reply)? as usize)?;
        Some(&place.answer)
    }

    /// An answer of an account, the last one or not: the request, if it still waits.
    pub(crate) fn take(
        &mut self,
        reply: &[u8],
        account: u32,
        is_empty: bool,
        now_ns: u64,
    ) -> Option<Answer> {
        let id = self.find(reply)?;
        let answer = &mut self.places.get_mut(id as usize)?.answer;
        if answer.from != account {
            return None;
        }
        let late = now_ns.saturating_sub(answer.touched_ns) > answer.threshold_ns;
        answer.touched_ns = now_ns;
        let is_last = match answer.kind {
            AnswerKind::Single => true,
            AnswerKind::Chunked => is_empty,
            AnswerKind::Stream => false,
        };
        let answer = if late || is_last { self.take_out(id)? } else { answer.clone() };
        (!late).then_some(answer)
    }

    /// Ends the wait of a request.
    pub(crate) fn close(&mut self, reply: &[u8]) -> Option<Answer> {
        self.take_out(self.find(reply)?)
    }

    fn take_out(&mut self, id: u32) -> Option<Answer> {
        let place = self.places.try_remove(id as usize)?;
        let line = self.lines.get_mut(&place.answer.to)?;
        line.count -= 1;
        match self.places.get_mut(place.older as usize) {
            Some(older) => older.newer = place.newer,
            None => line.oldest = place.newer,
        }
        match self.places.get_mut(place.newer as usize) {
            Some(newer) => newer.older = place.older,
            None => line.newest = place.older,
        }
        if line.count == 0 {
            self.lines.remove(&place.answer.to);
        }
        Some(place.answer)
    }

    /// Ends the wait of every request that `is_over` says; they are returned with their replies.
    pub(crate) fn end_where(
        &mut self,
        mut is_over: impl FnMut(&Answer) -> bool,
    ) -> Vec<(PrivateReply, Answer)> {
        let over: Vec<u32> = self
            .places
            .iter()
            .filter(|(_, place)| is_over(&place.answer))
            .map(|(id, _)| id as u32)
            .collect();
        let mut ended = Vec::with_capacity(over.len());
        for id in over {
            let Some(name) = self.places.get(id as usize).map(|place| place.name) else { continue };
            ended.extend(self.take_out(id).map(|answer| (name, answer)));
        }
        ended
    }

    /// A private reply of another shard leads nowhere any more.
    pub(crate) fn note_ended(&mut self, reply: &[u8]) {
        let Ok(name) = PrivateReply::try_from(reply) else { return };
        if self.ended.insert(name) {
            self.ended_order.push_back(name);
        }
        if self.ended_order.len() > ENDED_MAX
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// Whether a private reply of another shard is known to lead nowhere.
    pub(crate) fn is_ended(&self, reply: &[u8]) -> bool {
        PrivateReply::try_from(reply).is_ok_and(|name| self.ended.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(to: u32, kind: AnswerKind) -> Answer {
        Answer {
            from: 7,
            to,
            reply: Text::from_slice(b"inbox"),
            subject: Text::from_slice(b"svc"),
            kind,
            threshold_ns: 100,
            touched_ns: 0,
        }
    }

    #[test]
    fn a_reply_names_its_shard_and_is_no_other() {
        let mut table = Answers::new(61, 5);
        let one = table.open(answer(1, AnswerKind::Single));
        let two = table.open(answer(1, AnswerKind::Single));
        assert_ne!(one, two);
        assert_eq!((shard_of(&one), shard_of(&two)), (Some(61), Some(61)));
        assert_eq!(shard_of(b"_R_.x"), None);
        let mut forged = one;
        forged[REPLY_BYTES - 1] ^= 1;
        assert!(table.take(&forged, 7, false, 1).is_none());
        assert!(table.take(&one, 8, false, 1).is_none(), "another account");
        assert!(table.take(&one, 7, false, 1).is_some());
        assert!(table.take(&one, 7, false, 1).is_none(), "one answer only");
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn answers_end_by_kind_and_time() {
        let mut table = Answers::new(0, 5);
        let stream = table.open(answer(1, AnswerKind::Stream));
        assert!(table.take(&stream, 7, true, 90).is_some());
        assert!(table.take(&stream, 7, true, 180).is_some(), "the time begins anew");
        assert!(table.take(&stream, 7, true, 281).is_none());
        let chunks = table.open(answer(1, AnswerKind::Chunked));
        assert!(table.take(&chunks, 7, false, 1).is_some());
        assert!(table.take(&chunks, 7, true, 1).is_some());
        assert!(table.take(&chunks, 7, false, 1).is_none());
        assert!(table.is_empty());
    }

    #[test]
    fn one_account_cannot_push_out_the_requests_of_another() {
        let mut table = Answers::new(0, 5);
        table.max = 10;
        let other = table.open(answer(2, AnswerKind::Single));
        let mine: Vec<_> = (0..25).map(|_| table.open(answer(1, AnswerKind::Single))).collect();
        assert_eq!(table.len(), 11);
        assert!(table.get(&other).is_some());
        assert!(table.get(&mine[14]).is_none() && table.get(&mine[15]).is_some());
        let ended = table.end_where(|answer| answer.to == 1);
        assert_eq!((ended.len(), table.len()), (10, 1));
        assert!(table.close(&other).is_some() && table.lines.is_empty());
    }

    #[test]
    fn the_memory_of_ended_replies_is_bounded() {
        let mut table = Answers::new(0, 5);
        let mut other = Answers::new(1, 5);
        let names: Vec<_> =
            (0..ENDED_MAX + 5).map(|_| other.open(answer(1, AnswerKind::Stream))).collect();
        names.iter().for_each(|name| table.note_ended(name));
        assert_eq!(table.ended.len(), ENDED_MAX);
        assert!(!table.is_ended(&names[0]) && table.is_ended(&names[9]));
    }
}
