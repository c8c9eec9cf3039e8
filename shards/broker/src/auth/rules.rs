//! One list of subject patterns from a permission, compiled for look-up: literals in a hash table,
//! wildcards in a trie when they are many, each with the queue names it is limited to.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use thiserror::Error;
use wire::subject;

use crate::index::hash::HashSeed;
use crate::index::trie::{Trie, Walk};

/// Up to so many wildcard patterns are tried one by one, which needs no buffers.
const WILDCARDS_TRIED_MAX: usize = 16;

/// Why an entry of a permission list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    /// Not a subject pattern, or a blank entry.
    #[error("subject {0:?} is not a valid subject")]
    Subject(String),
    /// More than a subject and a queue.
    #[error("subscribe entry {0:?} has more than a subject and a queue")]
    Fields(String),
}

/// One distinct subject pattern of a list.
#[derive(Debug)]
struct Rule {
    pattern: Box<[u8]>,
    /// The list names the pattern without a queue.
    plain: bool,
    /// Queue names, or patterns of them, for which the list names the pattern.
    queues: Vec<Box<[u8]>>,
}

/// What a list says about one subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// An entry without a queue matches the subject.
    pub(super) plain: bool,
    /// An entry with a queue matches the subject, whatever that queue is.
    pub(super) any_queue: bool,
    /// An entry with a queue matches both the subject and the asker's queue.
    pub(super) queue: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct RuleList {
    rules: Vec<Rule>,
    literals: HashMap<Box<[u8]>, u32, FxBuildHasher>,
    wildcard_rules: Vec<u32>,
    wildcards: Trie,
    seed: HashSeed,
}

/// True when the queue is the named one, or within it where the name is a pattern.
fn queue_matches(named: &[u8], queue: &[u8]) -> bool {
    named == queue || (!subject::is_literal(named) && subject::is_subset(queue, named))
}

impl RuleList {
    /// Compiles a list; only subscribe lists may limit an entry to a queue.
    pub(super) fn compile(entries: &[String], with_queues: bool) -> Result<Self, RuleError> {
        let mut list = Self {
            rules: Vec::new(),
            literals: HashMap::default(),
            wildcard_rules: Vec::new(),
            wildcards: Trie::new(),
            // The patterns come from the configuration, so the hash needs no secret.
            seed: HashSeed::new(0),
        };
        for entry in entries {
            let mut fields = entry.split_ascii_whitespace();
            let pattern = fields.next().unwrap_or_default();
            let queue = fields.next();
            if fields.next().is_some() || (queue.is_some() && !with_queues) {
                return Err(RuleError::Fields(entry.clone()));
            }
            if !subject::is_valid_subscribe(pattern.as_bytes()) {
                return Err(RuleError::Subject(entry.clone()));
            }
            list.add(pattern.as_bytes(), queue.map(str::as_bytes));
        }
        Ok(list)
    }

    fn add(&mut self, pattern: &[u8], queue: Option<&[u8]>) {
        let known = if subject::is_literal(pattern) {
            self.literals.get(pattern).map(|&id| id as usize)
        } else {
            self.rules.iter().position(|rule| &*rule.pattern == pattern)
        };
        if let Some(rule) = known.and_then(|id| self.rules.get_mut(id)) {
            match queue {
                Some(queue) => rule.queues.push(queue.into()),
                None => rule.plain = true,
            }
            return;
        }
        let id = self.rules.len() as u32;
        self.rules.push(Rule {
            pattern: pattern.into(),
            plain: queue.is_none(),
            queues: queue.map(Into::into).into_iter().collect(),
        });
        if subject::is_literal(pattern) {
            self.literals.insert(pattern.into(), id);
        } else {
            self.wildcard_rules.push(id);
            self.wildcards.insert(&self.seed, pattern, id);
        }
    }

    /// Calls `visit` with every rule whose pattern matches the subject, until it returns false.
    /// Wildcard tokens of the subject count as ordinary ones, so that for a subscription this
    /// asks, as nats-server does, which patterns match its text.
    fn visit(&self, subject: &[u8], mut visit: impl FnMut(&Rule) -> bool) {
        let mut check = |id: u32| self.rules.get(id as usize).is_none_or(&mut visit);
        if let Some(&id) = self.literals.get(subject)
            && !check(id)
        {
            return;
        }
        if self.wildcards.len() <= WILDCARDS_TRIED_MAX {
            let _ = self.wildcard_rules.iter().all(|&id| {
                let rule = self.rules.get(id as usize);
                !rule.is_some_and(|rule| subject::matches(&rule.pattern, subject)) || check(id)
            });
        } else if subject::tokens(subject).all(|token| !token.is_empty()) {
            // A subject with an empty token matches no pattern; the trie would not notice.
            self.wildcards.walk(&self.seed, subject, &mut Walk::default(), check);
        }
    }

    /// True when any entry matches the subject, queues apart.
    pub(super) fn matches(&self, subject: &[u8]) -> bool {
        let mut found = false;
        self.visit(subject, |_| {
            found = true;
            false
        });
        found
    }

    /// What the list says about a subject for a subscriber in `queue`.
    pub(super) fn hits(&self, subject: &[u8], queue: Option<&[u8]>) -> Hits {
        let mut hits = Hits::default();
        self.visit(subject, |rule| {
            hits.plain |= rule.plain;
            if let Some(queue) = queue {
                hits.any_queue |= !rule.queues.is_empty();
                hits.queue |= rule.queues.iter().any(|named| queue_matches(named, queue));
            }
            true
        });
        hits
    }

    /// True when some subject is both in `pattern` and in an entry that concerns `queue`.
    pub(super) fn overlaps(&self, pattern: &[u8], queue: Option<&[u8]>) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.concerns(queue) && subject::overlaps(&rule.pattern, pattern))
    }

    /// True when one entry that concerns `queue` holds every subject of `pattern`.
    pub(super) fn covers(&self, pattern: &[u8], queue: Option<&[u8]>) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.concerns(queue) && subject::is_subset(pattern, &rule.pattern))
    }
}

impl Rule {
    fn concerns(&self, queue: Option<&[u8]>) -> bool {
        self.plain
            || queue
                .is_some_and(|queue| self.queues.iter().any(|named| queue_matches(named, queue)))
    }
}
