//! Questions to the index: by filter, by subject, by time.

use super::Index;
use super::filters::{self, ALL, FilterId};
use super::subjects::SubjectState;
use roaring::{RoaringBitmap, RoaringTreemap};
use std::ops::ControlFlow;

/// Up to so many messages are looked at before the subjects of a pattern are gathered.
const SCAN_MAX: usize = 512;

/// Up to so many subjects are followed each by itself.
const FOLLOW_MAX: u64 = 256;

impl Index {
    pub(crate) fn add_filter(&mut self, patterns: &[&[u8]]) -> FilterId {
        self.filters.add(patterns, &self.subjects)
    }

    pub(crate) fn remove_filter(&mut self, id: FilterId) {
        self.filters.remove(id);
    }

    /// Gathers the messages of a filter, unless that has been done.
    fn gather(&mut self, id: FilterId) {
        if self.filters.seqs(id).is_some() {
            return;
        }
        let Some(subjects) = self.filters.subjects(id) else { return };
        let seqs = self.seqs_of(subjects);
        self.filters.set_seqs(id, seqs);
    }

    fn seqs_of(&self, subjects: &RoaringBitmap) -> RoaringTreemap {
        let count: u64 =
            subjects.iter().filter_map(|id| self.subjects.state(id)).map(|s| s.count).sum();
        let mut seqs = RoaringTreemap::new();
        if count * 8 < self.seqs.len() {
            for subject in subjects {
                self.walk(subject, 0, |seq| {
                    seqs.insert(seq);
                    ControlFlow::Continue(())
                });
            }
        } else if count == self.seqs.len() {
            self.seqs.scan(0, |seq, _| {
                seqs.insert(seq);
                ControlFlow::Continue(())
            });
        } else {
            self.seqs.scan(0, |seq, subject| {
                if subjects.contains(subject) {
                    seqs.insert(seq);
                }
                ControlFlow::Continue(())
            });
        }
        seqs
    }

    /// Calls `f` with every message of a subject at or after `from`, in order.
    fn walk(&self, subject: u32, from: u64, mut f: impl FnMut(u64) -> ControlFlow<()>) {
        let Some(state) = self.subjects.state(subject) else { return };
        if from > state.last {
            return;
        }
        let mut at = state.first;
        loop {
            if at >= from && self.seqs.contains(at) && f(at).is_break() {
                return;
            }
            match self.seqs.link(at) {
                Some(next) if at < state.last => at = next,
                _ => return,
            }
        }
    }

    /// The first message at or after `from` that the filter matches.
    pub(crate) fn next(&mut self, id: FilterId, from: u64) -> Option<u64> {
        if id == ALL {
            return self.seqs.next(from);
        }
        self.gather(id);
        let mut seqs = self.filters.seqs(id)?.iter();
        seqs.advance_to(from);
        seqs.next()
    }

    /// The last message at or before `to` that the filter matches.
    pub(crate) fn previous(&mut self, id: FilterId, to: u64) -> Option<u64> {
        if id == ALL {
            return self.seqs.previous(to);
        }
        self.gather(id);
        let seqs = self.filters.seqs(id)?;
        let rank = seqs.rank(to);
        seqs.select(rank.checked_sub(1)?)
    }

    /// How many messages at or after `from` the filter matches.
    pub(crate) fn pending(&mut self, id: FilterId, from: u64) -> u64 {
        if id == ALL {
            return self.seqs.count_from(from);
        }
        self.gather(id);
        let Some(seqs) = self.filters.seqs(id) else { return 0 };
        seqs.len() - from.checked_sub(1).map_or(0, |below| seqs.rank(below))
    }

    /// Facts of one subject.
    pub(crate) fn subject(&self, name: &[u8]) -> Option<SubjectState> {
        self.subjects.state(self.subjects.find(name)?)
    }

    /// Subjects that match, with their facts, in no order.
    pub(crate) fn matching_subjects<'a>(
        &'a self,
        pattern: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], SubjectState)> + use<'a> {
        let all = filters::is_all(&[pattern]);
        let some =
            if all { RoaringBitmap::new() } else { filters::matching(&self.subjects, &[pattern]) };
        let every = all.then(|| self.subjects.ids()).into_iter().flatten();
        every.chain(some).filter_map(|id| Some((self.subjects.name(id), self.subjects.state(id)?)))
    }

    /// The first message at or after `from` whose subject matches.
    pub(crate) fn next_matching(&self, pattern: &[u8], from: u64) -> Option<u64> {
        if filters::is_all(&[pattern]) {
            return self.seqs.next(from);
        }
        let mut found = None;
        let mut left = SCAN_MAX;
        let mut resume = None;
        self.seqs.scan(from, |seq, subject| {
            if wire::subject::matches(pattern, self.subjects.name(subject)) {
                found = Some(seq);
                return ControlFlow::Break(());
            }
            left -= 1;
            resume = Some(seq);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if found.is_some() || left > 0 {
            return found;
        }
        let from = resume?.checked_add(1)?;
        let subjects = filters::matching(&self.subjects, &[pattern]);
        self.first_of(&subjects, from)
    }

    /// Messages up to `to` whose subject matches, ascending.
    pub(crate) fn matching_seqs(&self, pattern: &[u8], to: u64) -> Vec<u64> {
        let subjects = filters::matching(&self.subjects, &[pattern]);
        let mut seqs: Vec<u64> = self.seqs_of(&subjects).iter().collect();
        seqs.truncate(seqs.partition_point(|&seq| seq <= to));
        seqs
    }

    fn first_of(&self, subjects: &RoaringBitmap, from: u64) -> Option<u64> {
        let states = || subjects.iter().filter_map(|id| self.subjects.state(id));
        let count: u64 = states().filter(|s| s.last >= from).map(|s| s.count).sum();
        let mut found = None;
        if count * 8 < self.seqs.count_from(from) {
            for subject in subjects {
                self.walk(subject, from, |seq| {
                    found = Some(found.map_or(seq, |best: u64| best.min(seq)));
                    ControlFlow::Break(())
                });
            }
            return found;
        }
        self.seqs.scan(from, |seq, subject| {
            if subjects.contains(subject) {
                found = Some(seq);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// The last message at or before `to` whose subject matches.
    pub(crate) fn last_matching(&self, pattern: &[u8], to: u64) -> Option<u64> {
        if filters::is_all(&[pattern]) {
            return self.seqs.previous(to);
        }
        let mut at = self.seqs.previous(to)?;
        for _ in 0..SCAN_MAX {
            if wire::subject::matches(pattern, self.subject_of(at)?) {
                return Some(at);
            }
            at = self.seqs.previous(at.checked_sub(1)?)?;
        }
        let subjects = filters::matching(&self.subjects, &[pattern]);
        self.lasts_of(&subjects, at).last().copied()
    }

    /// The newest message of every subject that matches one of the patterns, looking only at
    /// messages up to `to`; ascending.
    pub(crate) fn last_per_subject(&self, patterns: &[&[u8]], to: u64) -> Vec<u64> {
        if filters::is_all(patterns) {
            let all: RoaringBitmap = self.subjects.ids().collect();
            return self.lasts_of(&all, to);
        }
        self.lasts_of(&filters::matching(&self.subjects, patterns), to)
    }

    fn lasts_of(&self, subjects: &RoaringBitmap, to: u64) -> Vec<u64> {
        let mut lasts = Vec::new();
        let mut later = RoaringBitmap::new();
        for id in subjects {
            match self.subjects.state(id) {
                Some(state) if state.last <= to => lasts.push(state.last),
                Some(state) if state.first <= to => {
                    later.insert(id);
                }
                _ => {}
            }
        }
        if later.len() <= FOLLOW_MAX {
            for id in &later {
                let mut last = None;
                self.walk(id, 0, |seq| {
                    if seq > to {
                        return ControlFlow::Break(());
                    }
                    last = Some(seq);
                    ControlFlow::Continue(())
                });
                lasts.extend(last);
            }
        } else {
            let mut at = self.seqs.previous(to);
            while let Some(seq) = at.filter(|_| !later.is_empty()) {
                if self.seqs.subject(seq).is_some_and(|id| later.remove(id)) {
                    lasts.push(seq);
                }
                at = seq.checked_sub(1).and_then(|to| self.seqs.previous(to));
            }
        }
        lasts.sort_unstable();
        lasts
    }

    /// The first message at or after `from` with a flag.
    pub(crate) fn next_flagged(&self, flag: u8, from: u64) -> Option<u64> {
        let mut at = self.seqs.next(from)?;
        while self.seqs.entry(at)?.flags & flag == 0 {
            at = self.seqs.next(at.checked_add(1)?)?;
        }
        Some(at)
    }

    /// Ranges of sequence numbers between the first and the last that have no message.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        let end = self.last_seq.saturating_add(1);
        let mut at = self.first_seq.max(1);
        let mut done = self.seqs.len() == 0;
        std::iter::from_fn(move || {
            while !done {
                let live = self.seqs.next(at).unwrap_or(end);
                if live >= end {
                    done = true;
                    return (at < end).then(|| (at, end - 1));
                }
                let gap = (at < live).then(|| (at, live - 1));
                at = live + 1;
                if gap.is_some() {
                    return gap;
                }
            }
            None
        })
    }
}
