//! Random operations on a stream in memory and on the model: both must say the same.

use super::model::Model;
use crate::disk::DiskQueue;
use crate::log::Cache;
use crate::{ALL, FilterId, MemoryOptions, Message, NewMessage, Read, Store};
use proptest::prelude::*;

/// One operation.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Append { subject: usize, headers: bool, len: usize, ttl: Option<u8> },
    Burst { first_subject: usize, stride: usize, count: usize },
    AppendAt { gap: u64, subject: usize },
    SkipTo { gap: u64 },
    Remove { at: f64 },
    RemoveFirstOf { subject: usize },
    RemoveLastOf { subject: usize },
    RemoveUpTo { at: f64 },
    Purge { pattern: usize, at: Option<f64>, keep: usize },
    PurgeAll,
    Expire { seconds: u8 },
}

pub(super) const PATTERNS: [&[u8]; 7] =
    [b"s.*.a", b"s.1.>", b"s.3.b", b"s.>", b"*.2.*", b"none.>", b">"];

pub(super) fn subject(at: usize) -> Vec<u8> {
    format!("s.{}.{}", at / 3, ["a", "b", "c"][at % 3]).into_bytes()
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let subject = 0..30usize;
    let place = 0.0..1.2f64;
    let op = prop_oneof![
        6 => (subject.clone(), any::<bool>(), 0..60usize, prop::option::weighted(0.3, 0..20u8))
            .prop_map(|(subject, headers, len, ttl)| Op::Append { subject, headers, len, ttl }),
        3 => (subject.clone(), 0..7usize, 1..900usize)
            .prop_map(|(first_subject, stride, count)| Op::Burst { first_subject, stride, count }),
        1 => (prop_oneof![1..300u64, 60_000..200_000u64, Just(1 << 40)], subject.clone())
            .prop_map(|(gap, subject)| Op::AppendAt { gap, subject }),
        1 => (1..1000u64).prop_map(|gap| Op::SkipTo { gap }),
        6 => place.clone().prop_map(|at| Op::Remove { at }),
        4 => subject.clone().prop_map(|subject| Op::RemoveFirstOf { subject }),
        4 => subject.prop_map(|subject| Op::RemoveLastOf { subject }),
        1 => place.clone().prop_map(|at| Op::RemoveUpTo { at }),
        2 => (0..6usize, prop::option::of(place), 0..4usize)
            .prop_map(|(pattern, at, keep)| Op::Purge { pattern, at, keep }),
        1 => Just(Op::PurgeAll),
        1 => (0..10u8).prop_map(|seconds| Op::Expire { seconds }),
    ];
    prop::collection::vec(op, 1..60)
}

/// A store and its model, changed together.
pub(super) struct Pair {
    pub(super) store: Store,
    pub(super) model: Model,
    pub(super) now_ns: i64,
    pub(super) filters: Vec<(FilterId, Vec<&'static [u8]>)>,
}

const SECOND: i64 = 1_000_000_000;

impl Pair {
    pub(super) fn new(store: Store, model: Model) -> Self {
        Self { store, model, now_ns: 1_700_000_000 * SECOND, filters: Vec::new() }
    }

    pub(super) fn add_filters(&mut self) {
        let sets: [&[&'static [u8]]; 6] =
            [&[b"s.*.a"], &[b"s.3.b"], &[b"s.1.a", b"s.1.b", b"s.9.>"], &[b">"], &[], &[b"s.>"]];
        for patterns in sets {
            let id = self.store.add_filter(patterns);
            self.filters.push((id, patterns.to_vec()));
        }
    }

    pub(super) fn place(&self, at: f64) -> u64 {
        let first = self.model.messages.keys().next().copied().unwrap_or(0);
        let gaps = self.model.messages.len() as f64 * at;
        let found = self.model.messages.keys().nth(gaps as usize).copied();
        found.unwrap_or((self.model.last_seq + 5).max(first))
    }

    fn append_at(
        &mut self,
        seq: u64,
        subject_at: usize,
        headers: bool,
        len: usize,
        ttl: Option<u8>,
    ) {
        self.now_ns += 1_000_000;
        let name = subject(subject_at);
        let payload = seq.to_le_bytes().repeat(len / 8 + 1);
        let message = NewMessage {
            subject: &name,
            headers: if headers { b"NATS/1.0\r\nA: b\r\n\r\n" } else { b"" },
            payload: &payload[..len],
            ts_ns: self.now_ns,
            expires_ns: ttl.map(|s| self.now_ns + i64::from(s) * SECOND),
            has_msg_id: false,
        };
        self.store.append_at(seq, &message).unwrap();
        self.model.append_at(seq, &message);
    }

    fn expire(&mut self, seconds: u8) {
        self.now_ns += i64::from(seconds) * SECOND;
        let ended = |m: &super::model::Stored, at: i64| m.expires_ns.is_some_and(|e| e <= at);
        let mut due = Vec::new();
        self.store.take_expired(self.now_ns, &mut due);
        for seq in due {
            assert!(ended(&self.model.messages[&seq], self.now_ns), "{seq} ended early");
            assert!(self.store.remove(seq, false).is_some());
            self.model.remove(seq);
        }
        let late = self.now_ns - SECOND / 4;
        assert!(!self.model.messages.values().any(|m| ended(m, late)), "one did not end");
        assert!(self.store.next_expiry_ns().is_none_or(|at| at > self.now_ns));
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Append { subject, headers, len, ttl } => {
                self.append_at(self.model.last_seq + 1, subject, headers, len, ttl);
            }
            Op::Burst { first_subject, stride, count } => {
                for i in 0..count {
                    let at = (first_subject + i * stride) % 30;
                    self.append_at(self.model.last_seq + 1, at, i % 7 == 0, i % 40, None);
                }
            }
            Op::AppendAt { gap, subject } => {
                self.append_at(self.model.last_seq + gap, subject, false, 3, None);
            }
            Op::SkipTo { gap } => {
                let seq = self.model.last_seq + gap;
                self.store.skip_to(seq).unwrap();
                self.model.skip_to(seq);
            }
            Op::Remove { at } => self.remove(self.place(at)),
            Op::RemoveFirstOf { subject: at } => {
                let first = self.model.matching(&[&subject(at)], 0, u64::MAX).first().copied();
                assert_eq!(self.store.first_for(&subject(at)), first);
                self.remove(first.unwrap_or(0));
            }
            Op::RemoveLastOf { subject: at } => {
                let last = self.model.matching(&[&subject(at)], 0, u64::MAX).last().copied();
                assert_eq!(self.store.last_for(&subject(at)), last);
                self.remove(last.unwrap_or(0));
            }
            Op::RemoveUpTo { at } => {
                let seq = self.place(at);
                assert_eq!(self.store.remove_up_to(seq), self.model.remove_up_to(seq));
            }
            Op::Purge { pattern, at, keep } => {
                let pattern = PATTERNS[pattern];
                let below = at.map(|at| self.place(at));
                let count = self.store.purge(Some(pattern), below, keep as u64);
                let below = below.unwrap_or(u64::MAX);
                assert_eq!(count, self.model.purge_matching(pattern, below, keep));
            }
            Op::PurgeAll => {
                let count = self.store.purge(None, None, 0);
                assert_eq!(count, self.model.remove_up_to(self.model.last_seq));
            }
            Op::Expire { seconds } => self.expire(seconds),
        }
    }

    fn remove(&mut self, seq: u64) {
        let cost = self.model.messages.get(&seq).map(|m| self.model.cost(m));
        assert_eq!(self.store.size_of(seq), cost);
        assert_eq!(self.store.remove(seq, false).map(|r| r.bytes), cost);
        assert_eq!(self.model.remove(seq), cost.is_some());
    }

    /// Both say the same about the whole.
    pub(super) fn compare_state(&self) {
        assert_eq!(self.store.state(), self.model.state());
    }

    /// Both say the same about everything there is to ask but contents.
    pub(super) fn compare_answers(&mut self) {
        let (store, model) = (&mut self.store, &self.model);
        let last = model.last_seq;
        let mid = model.messages.keys().nth(model.messages.len() / 2).copied().unwrap_or(1);
        let places = [0, 1, mid, mid + 1, model.first_seq, last.saturating_sub(1), last, last + 1];
        for (id, patterns) in &self.filters {
            let patterns: &[&[u8]] = if patterns.is_empty() { &[b">"] } else { patterns };
            for place in places {
                let from = model.matching(patterns, place, u64::MAX);
                assert_eq!(store.next(*id, place), from.first().copied());
                assert_eq!(store.pending(*id, place), from.len() as u64);
                let to = model.matching(patterns, 0, place);
                assert_eq!(store.previous(*id, place), to.last().copied());
            }
        }
        for pattern in PATTERNS {
            for place in places {
                let from = model.matching(&[pattern], place, u64::MAX);
                assert_eq!(store.next_matching(pattern, place), from.first().copied());
                let to = model.matching(&[pattern], 0, place);
                assert_eq!(store.last_matching(pattern, place), to.last().copied());
                let lasts = model.last_per_subject(&[pattern], place);
                assert_eq!(store.last_per_subject(&[pattern], place), lasts);
            }
            let mut names: Vec<_> = store.subjects(pattern).collect();
            names.sort_unstable_by_key(|n| n.0);
            for (name, state) in &names {
                let all = model.matching(&[name], 0, u64::MAX);
                assert_eq!(state.count, all.len() as u64);
                assert_eq!((Some(&state.first), Some(&state.last)), (all.first(), all.last()));
            }
            assert_eq!(names.len(), model.last_per_subject(&[pattern], u64::MAX).len());
        }
        let gaps: u64 = store.deleted().map(|(from, to)| to - from + 1).sum();
        assert_eq!(gaps, model.state().deleted);
        for (&seq, m) in &model.messages {
            assert_eq!(store.subject_of(seq), Some(&m.subject[..]));
            assert_eq!(store.time_of(seq), Some(m.ts_ns));
        }
        let middle = model.messages.get(&mid).map_or(0, |m| m.ts_ns);
        let at = model.messages.iter().find(|(_, m)| m.ts_ns >= middle).map_or(last + 1, |x| *x.0);
        assert_eq!(store.seq_at_time(middle), at);
        assert_eq!(store.seq_at_time(i64::MAX), last + 1);
    }

    /// Contents are what was stored.
    pub(super) fn compare_contents(&mut self) {
        let (mut cache, mut disk) = (Cache::new(1 << 20), DiskQueue::default());
        for (&seq, m) in &self.model.messages {
            let expected = Message {
                seq,
                ts_ns: m.ts_ns,
                subject: &m.subject,
                headers: &m.headers,
                payload: &m.payload,
            };
            assert_eq!(self.store.get(seq, &mut cache, &mut disk), Read::Message(expected));
        }
        let missing = self.model.last_seq + 1;
        assert_eq!(self.store.get(missing, &mut cache, &mut disk), Read::Missing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    })]

    #[test]
    fn memory_does_what_the_rules_say(ops in ops(), filters_at in 0..20usize) {
        let store = Store::memory(MemoryOptions { seed: 1, first_seq: 0 });
        let mut pair = Pair::new(store, Model::new(16, 0));
        for (at, op) in ops.iter().enumerate() {
            if at == filters_at {
                pair.add_filters();
            }
            pair.apply(op);
            pair.compare_state();
            if at % 8 == 7 {
                pair.compare_answers();
            }
        }
        pair.compare_answers();
        pair.compare_contents();
        let ids: Vec<_> = pair.filters.drain(..).map(|f| f.0).filter(|&f| f != ALL).collect();
        for id in ids {
            pair.store.remove_filter(id);
        }
    }
}
