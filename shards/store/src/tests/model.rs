//! The plain list.

use crate::{NewMessage, State};
use std::collections::{BTreeMap, BTreeSet};
use wire::subject;

/// A message, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) subject: Vec<u8>,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) ts_ns: i64,
    pub(super) expires_ns: Option<i64>,
}

/// A stream as the rules describe it.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) messages: BTreeMap<u64, Stored>,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) last_ts_ns: Option<i64>,
    pub(super) message_cost: u64,
    pub(super) headers_cost: u64,
}

impl Model {
    pub(super) fn new(message_cost: u64, headers_cost: u64) -> Self {
        Self {
            messages: BTreeMap::new(),
            first_seq: 0,
            last_seq: 0,
            last_ts_ns: None,
            message_cost,
            headers_cost,
        }
    }

    pub(super) fn append_at(&mut self, seq: u64, message: &NewMessage<'_>) {
        if self.messages.is_empty() {
            self.first_seq = seq;
        }
        self.last_seq = seq;
        self.last_ts_ns = Some(message.ts_ns);
        self.messages.insert(
            seq,
            Stored {
                subject: message.subject.to_vec(),
                headers: message.headers.to_vec(),
                payload: message.payload.to_vec(),
                ts_ns: message.ts_ns,
                expires_ns: message.expires_ns,
            },
        );
    }

    pub(super) fn skip_to(&mut self, seq: u64) {
        if seq > self.last_seq {
            self.last_seq = seq;
            self.settle();
        }
    }

    fn settle(&mut self) {
        let first = self.messages.keys().next().copied();
        if first.is_some() || self.first_seq > 0 || self.last_seq > 0 {
            self.first_seq = first.unwrap_or(self.last_seq + 1);
        }
    }

    pub(super) fn remove(&mut self, seq: u64) -> bool {
        let found = self.messages.remove(&seq).is_some();
        if found {
            self.settle();
        }
        found
    }

    pub(super) fn remove_up_to(&mut self, seq: u64) -> u64 {
        let before = self.messages.len();
        self.messages.retain(|&s, _| s > seq);
        self.last_seq = self.last_seq.max(seq);
        self.first_seq = self.messages.keys().next().copied().unwrap_or(self.last_seq + 1);
        (before - self.messages.len()) as u64
    }

    pub(super) fn purge_matching(&mut self, pattern: &[u8], below: u64, keep: usize) -> u64 {
        let mut doomed = self.matching(&[pattern], 0, below.saturating_sub(1));
        doomed.truncate(doomed.len().saturating_sub(keep));
        for seq in &doomed {
            self.remove(*seq);
        }
        doomed.len() as u64
    }

    pub(super) fn matching(&self, patterns: &[&[u8]], from: u64, to: u64) -> Vec<u64> {
        let hit = |m: &Stored| patterns.iter().any(|p| subject::matches(p, &m.subject));
        let all = self.messages.iter().skip_while(|&(&seq, _)| seq < from);
        all.take_while(|&(&seq, _)| seq <= to).filter(|(_, m)| hit(m)).map(|(&s, _)| s).collect()
    }

    pub(super) fn last_per_subject(&self, patterns: &[&[u8]], to: u64) -> Vec<u64> {
        let mut lasts = BTreeMap::new();
        for seq in self.matching(patterns, 0, to) {
            lasts.insert(self.messages[&seq].subject.clone(), seq);
        }
        let mut lasts: Vec<u64> = lasts.into_values().collect();
        lasts.sort_unstable();
        lasts
    }

    pub(super) fn cost(&self, m: &Stored) -> u64 {
        let headers = if m.headers.is_empty() { 0 } else { self.headers_cost };
        (m.subject.len() + m.headers.len() + m.payload.len()) as u64 + self.message_cost + headers
    }

    pub(super) fn state(&self) -> State {
        let messages = self.messages.len() as u64;
        let subjects: BTreeSet<_> = self.messages.values().map(|m| &m.subject).collect();
        State {
            messages,
            bytes: self.messages.values().map(|m| self.cost(m)).sum(),
            first_seq: self.first_seq,
            first_ts_ns: self.messages.values().next().map(|m| m.ts_ns),
            last_seq: self.last_seq,
            last_ts_ns: self.last_ts_ns,
            subjects: subjects.len() as u64,
            deleted: self.messages.keys().next().map_or(0, |f| self.last_seq + 1 - f - messages),
        }
    }
}
