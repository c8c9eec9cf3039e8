//! Filters of consumers: which messages each matches, kept up to date from message to message.
//!
//! Equal filters share one set. A set is built when it is first asked for.

use super::subjects::Subjects;
use roaring::{RoaringBitmap, RoaringTreemap};
use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;
use wire::subject;

/// A filter that was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterId(pub(crate) u32);

/// The filter that everything matches; it is always there.
pub const ALL: FilterId = FilterId(u32::MAX);

/// Filters that match more subjects than this are asked about every message.
const NARROW_MAX: u64 = 1024;

type Ids = SmallVec<[u32; 2]>;

#[derive(Debug)]
struct Filter {
    patterns: Box<[Box<[u8]>]>,
    users: u32,
    /// Is in `broad`, not in `by_subject`.
    broad: bool,
    subjects: RoaringBitmap,
    seqs: Option<RoaringTreemap>,
}

impl Filter {
    fn matches(&self, name: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| subject::matches(pattern, name))
    }
}

/// All filters of a stream.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    filters: Slab<Filter>,
    by_patterns: FxHashMap<Box<[Box<[u8]>]>, u32>,
    by_subject: FxHashMap<u32, Ids>,
    by_literal: FxHashMap<Box<[u8]>, Ids>,
    wild: Vec<u32>,
    broad: Vec<u32>,
}

/// Whether some pattern is everything.
pub(crate) fn is_all(patterns: &[&[u8]]) -> bool {
    patterns.is_empty() || patterns.iter().any(|&p| p == b">" || p.is_empty())
}

/// The subjects that match one of the patterns.
pub(crate) fn matching(subjects: &Subjects, patterns: &[&[u8]]) -> RoaringBitmap {
    let mut found = RoaringBitmap::new();
    let mut wild: SmallVec<[&[u8]; 4]> = SmallVec::new();
    for &pattern in patterns {
        if subject::is_literal(pattern) {
            found.extend(subjects.find(pattern));
        } else {
            wild.push(pattern);
        }
    }
    if !wild.is_empty() {
        let any = |&id: &u32| wild.iter().any(|p| subject::matches(p, subjects.name(id)));
        found.extend(subjects.ids().filter(any));
    }
    found
}

impl Filters {
    /// Registers a filter.
    pub(crate) fn add(&mut self, patterns: &[&[u8]], subjects: &Subjects) -> FilterId {
        if is_all(patterns) {
            return ALL;
        }
        let mut sorted: Vec<Box<[u8]>> = patterns.iter().map(|&p| p.into()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let sorted = sorted.into_boxed_slice();
        if let Some(&id) = self.by_patterns.get(&sorted)
            && let Some(filter) = self.filters.get_mut(id as usize)
        {
            filter.users += 1;
            return FilterId(id);
        }
        let matched = matching(subjects, patterns);
        let broad = matched.len() > NARROW_MAX;
        let id = self.filters.vacant_key() as u32;
        for pattern in sorted.iter().filter(|p| subject::is_literal(p)) {
            self.by_literal.entry(pattern.clone()).or_default().push(id);
        }
        if sorted.iter().any(|p| !subject::is_literal(p)) {
            self.wild.push(id);
        }
        if broad {
            self.broad.push(id);
        } else {
            for subject in &matched {
                self.by_subject.entry(subject).or_default().push(id);
            }
        }
        self.by_patterns.insert(sorted.clone(), id);
        let filter = Filter { patterns: sorted, users: 1, broad, subjects: matched, seqs: None };
        self.filters.insert(filter);
        FilterId(id)
    }

    /// One user of the filter less.
    pub(crate) fn remove(&mut self, id: FilterId) {
        let Some(filter) = self.filters.get_mut(id.0 as usize) else { return };
        filter.users -= 1;
        if filter.users > 0 {
            return;
        }
        let filter = self.filters.remove(id.0 as usize);
        self.by_patterns.remove(&filter.patterns);
        for pattern in &filter.patterns {
            forget(&mut self.by_literal, pattern, id.0);
        }
        self.wild.retain(|&other| other != id.0);
        self.broad.retain(|&other| other != id.0);
        if !filter.broad {
            for subject in &filter.subjects {
                forget(&mut self.by_subject, &subject, id.0);
            }
        }
    }

    /// Whether a message to `name` matches.
    pub(crate) fn matches(&self, id: FilterId, name: &[u8]) -> bool {
        id == ALL || self.filters.get(id.0 as usize).is_some_and(|f| f.matches(name))
    }

    /// A subject has its first message.
    pub(crate) fn subject_added(&mut self, subject: u32, name: &[u8]) {
        if self.filters.is_empty() {
            return;
        }
        let mut hits = self.by_literal.get(name).cloned().unwrap_or_default();
        for &id in &self.wild {
            let filter = self.filters.get(id as usize);
            if filter.is_some_and(|f| f.matches(name)) && !hits.contains(&id) {
                hits.push(id);
            }
        }
        for id in hits {
            let Some(filter) = self.filters.get_mut(id as usize) else { continue };
            filter.subjects.insert(subject);
            if filter.broad {
                continue;
            }
            if filter.subjects.len() > NARROW_MAX {
                filter.broad = true;
                self.broad.push(id);
                for other in &filter.subjects {
                    forget(&mut self.by_subject, &other, id);
                }
            } else {
                self.by_subject.entry(subject).or_default().push(id);
            }
        }
    }

    /// A subject has no message any more.
    pub(crate) fn subject_gone(&mut self, subject: u32) {
        if self.filters.is_empty() {
            return;
        }
        for id in self.by_subject.remove(&subject).unwrap_or_default() {
            if let Some(filter) = self.filters.get_mut(id as usize) {
                filter.subjects.remove(subject);
            }
        }
        for &id in &self.broad {
            if let Some(filter) = self.filters.get_mut(id as usize) {
                filter.subjects.remove(subject);
            }
        }
    }

    fn each(&mut self, subject: u32, mut f: impl FnMut(&mut RoaringTreemap)) {
        if self.filters.is_empty() {
            return;
        }
        if let Some(ids) = self.by_subject.get(&subject) {
            for &id in ids {
                if let Some(seqs) = self.filters.get_mut(id as usize).and_then(|x| x.seqs.as_mut())
                {
                    f(seqs);
                }
            }
        }
        for &id in &self.broad {
            let Some(filter) = self.filters.get_mut(id as usize) else { continue };
            if filter.subjects.contains(subject)
                && let Some(seqs) = &mut filter.seqs
            {
                f(seqs);
            }
        }
    }

    /// A message was stored.
    pub(crate) fn message_added(&mut self, subject: u32, seq: u64) {
        self.each(subject, |seqs| {
            seqs.insert(seq);
        });
    }

    /// A message is gone.
    pub(crate) fn message_gone(&mut self, subject: u32, seq: u64) {
        self.each(subject, |seqs| {
            seqs.remove(seq);
        });
    }

    /// Everything is gone.
    pub(crate) fn clear(&mut self) {
        self.by_subject.clear();
        for (_, filter) in &mut self.filters {
            filter.subjects.clear();
            if let Some(seqs) = &mut filter.seqs {
                seqs.clear();
            }
        }
    }

    /// The subjects that a filter matches.
    pub(crate) fn subjects(&self, id: FilterId) -> Option<&RoaringBitmap> {
        self.filters.get(id.0 as usize).map(|f| &f.subjects)
    }

    /// The messages that a filter matches, if they have been gathered.
    pub(crate) fn seqs(&self, id: FilterId) -> Option<&RoaringTreemap> {
        self.filters.get(id.0 as usize)?.seqs.as_ref()
    }

    /// Gives a filter its messages.
    pub(crate) fn set_seqs(&mut self, id: FilterId, seqs: RoaringTreemap) {
        if let Some(filter) = self.filters.get_mut(id.0 as usize) {
            filter.seqs = Some(seqs);
        }
    }
}

fn forget<K, Q>(map: &mut FxHashMap<K, Ids>, key: &Q, id: u32)
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    if let Some(ids) = map.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
