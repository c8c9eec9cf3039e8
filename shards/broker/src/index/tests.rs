//! The index against a plain list: the same random operations, the same answers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

type Name = (Vec<u8>, Option<Vec<u8>>);
type QueueAnswer = (Vec<SubId>, BTreeMap<ShardId, u32>);

/// The slow and obvious index.
#[derive(Debug, Default)]
struct Model {
    local: BTreeSet<(Vec<u8>, Option<Vec<u8>>, SubId)>,
    remote: BTreeMap<(ShardId, Name), u32>,
}

/// A result in an order that can be compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    plain: Vec<SubId>,
    remote: Vec<ShardId>,
    queues: BTreeMap<Vec<u8>, QueueAnswer>,
}

fn pattern_matches(pattern: &[u8], subject: &[u8]) -> bool {
    let pattern: Vec<&[u8]> = pattern.split(|&byte| byte == b'.').collect();
    let subject: Vec<&[u8]> = subject.split(|&byte| byte == b'.').collect();
    if subject.iter().any(|token| token.is_empty()) {
        return false;
    }
    for (position, token) in pattern.iter().enumerate() {
        if *token == b">" && position + 1 == pattern.len() {
            return subject.len() > position;
        }
        match subject.get(position) {
            Some(other) if *token == b"*" || token == other => {}
            _ => return false,
        }
    }
    pattern.len() == subject.len()
}

impl Model {
    fn weight(&self, subject: &[u8], queue: Option<&[u8]>) -> u32 {
        let members = self
            .local
            .iter()
            .filter(|(other, name, _)| other == subject && name.as_deref() == queue);
        members.count() as u32
    }

    fn change(&mut self, subject: &[u8], queue: Option<&[u8]>, before: u32) -> Interest {
        let weight = self.weight(subject, queue);
        let told = |weight: u32| {
            if queue.is_none() { weight.min(1) } else { weight }
        };
        if told(before) == told(weight) {
            Interest::None
        } else {
            Interest::Changed { weight: told(weight) }
        }
    }

    fn insert(&mut self, subject: &[u8], queue: Option<&[u8]>, sub: SubId) -> Interest {
        let before = self.weight(subject, queue);
        self.local.insert((subject.to_vec(), queue.map(<[u8]>::to_vec), sub));
        self.change(subject, queue, before)
    }

    fn remove(&mut self, subject: &[u8], queue: Option<&[u8]>, sub: SubId) -> Interest {
        let before = self.weight(subject, queue);
        self.local.remove(&(subject.to_vec(), queue.map(<[u8]>::to_vec), sub));
        self.change(subject, queue, before)
    }

    fn set_remote(&mut self, shard: ShardId, subject: &[u8], queue: Option<&[u8]>, weight: u32) {
        let key = (shard, (subject.to_vec(), queue.map(<[u8]>::to_vec)));
        if weight == 0 {
            self.remote.remove(&key);
        } else {
            self.remote.insert(key, weight);
        }
    }

    fn answer(&self, subject: &[u8]) -> Answer {
        let mut answer = Answer::default();
        for (pattern, queue, sub) in &self.local {
            if pattern_matches(pattern, subject) {
                match queue {
                    None => answer.plain.push(*sub),
                    Some(name) => answer.queues.entry(name.clone()).or_default().0.push(*sub),
                }
            }
        }
        for ((shard, (pattern, queue)), weight) in &self.remote {
            if pattern_matches(pattern, subject) {
                match queue {
                    None => answer.remote.push(*shard),
                    Some(name) => {
                        let queue = answer.queues.entry(name.clone()).or_default();
                        *queue.1.entry(*shard).or_default() += weight;
                    }
                }
            }
        }
        answer.plain.sort_unstable();
        answer.remote.sort_unstable();
        answer.remote.dedup();
        for (local, _) in answer.queues.values_mut() {
            local.sort_unstable();
        }
        answer
    }
}

fn answer_of(matches: &Matches) -> Answer {
    let mut answer = Answer {
        plain: matches.plain.clone(),
        remote: matches.remote.clone(),
        queues: BTreeMap::new(),
    };
    answer.plain.sort_unstable();
    for queue in &matches.queues {
        let mut local = queue.local.clone();
        local.sort_unstable();
        let remote: BTreeMap<ShardId, u32> = queue.remote.iter().copied().collect();
        assert_eq!(remote.len(), queue.remote.len(), "each shard once");
        let earlier = answer.queues.insert(queue.name.clone(), (local, remote));
        assert!(earlier.is_none(), "each queue name once");
    }
    answer
}

#[derive(Debug, Clone)]
enum Op {
    Insert(Vec<u8>, Option<Vec<u8>>, SubId),
    Remove(Vec<u8>, Option<Vec<u8>>, SubId),
    SetRemote(ShardId, Vec<u8>, Option<Vec<u8>>, u32),
    ClearRemote(ShardId),
    Match(Vec<u8>),
}

fn pattern() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![Just("a"), Just("b"), Just("*"), Just("a*")];
    (prop::collection::vec(token, 0..4), any::<bool>()).prop_map(|(mut tokens, tail)| {
        if tail || tokens.is_empty() {
            tokens.push(">");
        }
        tokens.join(".").into_bytes()
    })
}

fn published() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 1 => Just("a*"), 1 => Just("*"), 1 => Just(">"),
        1 => Just(""),
    ];
    prop::collection::vec(token, 1..5).prop_map(|tokens| tokens.join(".").into_bytes())
}

fn queue() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![Just(None), Just(Some(b"q".to_vec())), Just(Some(b"r".to_vec()))]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (pattern(), queue(), 0..6u32).prop_map(|(s, q, id)| Op::Insert(s, q, id)),
        4 => (pattern(), queue(), 0..6u32).prop_map(|(s, q, id)| Op::Remove(s, q, id)),
        3 => (0..3u16, pattern(), queue(), 0..4u32)
            .prop_map(|(shard, s, q, weight)| Op::SetRemote(shard, s, q, weight)),
        1 => (0..3u16).prop_map(Op::ClearRemote),
        6 => published().prop_map(Op::Match),
    ]
}

fn apply(index: &mut Index, model: &mut Model, matches: &mut Matches, op: Op) {
    match op {
        Op::Insert(subject, queue, sub) => {
            let told = index.insert(&subject, queue.as_deref(), sub);
            assert_eq!(told, model.insert(&subject, queue.as_deref(), sub));
        }
        Op::Remove(subject, queue, sub) => {
            let told = index.remove(&subject, queue.as_deref(), sub);
            assert_eq!(told, model.remove(&subject, queue.as_deref(), sub));
        }
        Op::SetRemote(shard, subject, queue, weight) => {
            // Plain interest is there or not; its weight says nothing more.
            let weight = if queue.is_none() { weight.min(1) } else { weight };
            index.set_remote(shard, &subject, queue.as_deref(), weight);
            model.set_remote(shard, &subject, queue.as_deref(), weight);
        }
        Op::ClearRemote(shard) => {
            index.clear_remote(shard);
            model.remote.retain(|(other, _), _| *other != shard);
        }
        Op::Match(subject) => {
            index.match_into(&subject, matches);
            let expected = model.answer(&subject);
            assert_eq!(answer_of(matches), expected, "subject {subject:?}");
            assert_eq!(index.has_interest(&subject), expected != Answer::default());
        }
    }
}

fn listed(index: &Index) -> BTreeSet<(Vec<u8>, Option<Vec<u8>>, SubId)> {
    let mut all = BTreeSet::new();
    index.for_each_local(|subject, queue, sub| {
        assert!(all.insert((subject.to_vec(), queue.map(<[u8]>::to_vec), sub)));
    });
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn answers_as_a_plain_list_does(ops in prop::collection::vec(op(), 1..120)) {
        let mut index = Index::new(7);
        let mut model = Model::default();
        let mut matches = Matches::new();
        for op in ops {
            apply(&mut index, &mut model, &mut matches, op);
            prop_assert_eq!(index.len(), model.local.len());
        }
        prop_assert_eq!(&listed(&index), &model.local);
        let mut told = BTreeMap::new();
        index.for_each_interest(|subject, queue, weight| {
            told.insert((subject.to_vec(), queue.map(<[u8]>::to_vec)), weight);
        });
        for ((subject, queue), weight) in &told {
            let members = model.weight(subject, queue.as_deref());
            prop_assert_eq!(*weight, if queue.is_none() { members.min(1) } else { members });
        }
        // Taking everything out again leaves nothing behind.
        for (subject, queue, sub) in std::mem::take(&mut model.local) {
            index.remove(&subject, queue.as_deref(), sub);
        }
        for shard in 0..3 {
            index.clear_remote(shard);
        }
        prop_assert_eq!(index.table.len(), 0);
        prop_assert_eq!(index.trie.nodes(), 1);
        prop_assert_eq!(index.groups.len(), 0);
    }
}

#[test]
fn a_long_random_walk_agrees_through_table_splits() {
    let mut runner = TestRunner::deterministic();
    let mut index = Index::new(11);
    let mut model = Model::default();
    let mut matches = Matches::new();
    for number in 0..6_000u32 {
        index.insert(format!("fill.{number}").as_bytes(), None, number + 100);
        index.insert(format!("fill.{number}.*").as_bytes(), None, number + 10_000);
    }
    let strategy = prop::collection::vec(op(), 2_000);
    let ops = strategy.new_tree(&mut runner).unwrap().current();
    // Nothing below publishes to a filler's subject, so the model need not know them.
    for op in ops {
        apply(&mut index, &mut model, &mut matches, op);
    }
    index.match_into(b"fill.17.x", &mut matches);
    assert!(matches.plain.contains(&10_017));
    index.match_into(b"fill.17", &mut matches);
    assert!(matches.plain.contains(&117));
}

#[test]
fn a_queue_name_is_one_group_across_patterns() {
    let mut index = Index::new(1);
    index.insert(b"foo.bar", Some(b"q"), 1);
    index.insert(b"foo.*", Some(b"q"), 2);
    index.set_remote(4, b"foo.>", Some(b"q"), 3);
    index.set_remote(4, b">", Some(b"q"), 2);
    let mut matches = Matches::new();
    index.match_into(b"foo.bar", &mut matches);
    assert_eq!(matches.queues.len(), 1);
    let group = matches.queues.first().unwrap();
    assert_eq!(group.local, [1, 2]);
    assert_eq!(group.remote, [(4, 5)]);
    assert_eq!(group.weight(), 7);
}

#[test]
fn interest_is_reported_at_its_edges() {
    let mut index = Index::new(1);
    assert_eq!(index.insert(b"a", None, 1), Interest::Changed { weight: 1 });
    assert_eq!(index.insert(b"a", None, 2), Interest::None);
    assert_eq!(index.insert(b"a", Some(b"q"), 3), Interest::Changed { weight: 1 });
    assert_eq!(index.insert(b"a", Some(b"q"), 4), Interest::Changed { weight: 2 });
    assert_eq!(index.remove(b"a", None, 1), Interest::None);
    assert_eq!(index.remove(b"a", None, 2), Interest::Changed { weight: 0 });
    assert_eq!(index.remove(b"a", None, 2), Interest::None);
    assert_eq!(index.remove(b"a", Some(b"q"), 3), Interest::Changed { weight: 1 });
    assert_eq!(index.remove(b"a", Some(b"q"), 4), Interest::Changed { weight: 0 });
    assert!(index.is_empty() && !index.has_interest(b"a"));
}

#[test]
fn thousands_of_tokens_need_no_stack() {
    let mut index = Index::new(1);
    let literal = vec!["x"; 20_000].join(".");
    let stars = vec!["*"; 20_000].join(".");
    let mixed = vec!["*.x"; 10_000].join(".") + ".>";
    for (sub, subject) in [&literal, &stars, &mixed].into_iter().enumerate() {
        index.insert(subject.as_bytes(), None, sub as u32);
    }
    let mut matches = Matches::new();
    index.match_into(literal.as_bytes(), &mut matches);
    matches.plain.sort_unstable();
    assert_eq!(matches.plain, [0, 1]);
    index.match_into((literal.clone() + ".x").as_bytes(), &mut matches);
    assert_eq!(matches.plain, [2]);
    for (sub, subject) in [&literal, &stars, &mixed].into_iter().enumerate() {
        index.remove(subject.as_bytes(), None, sub as u32);
    }
    assert_eq!(index.trie.nodes(), 1);
}

/// A walk visits each node at most once a message, however the patterns overlap: 2^14 patterns
/// that agree on all but the last token must not take 2^14 walks.
#[test]
fn overlapping_wildcards_stay_within_the_trie() {
    let mut index = Index::new(1);
    let depth = 12;
    for bits in 0..1u32 << depth {
        let tokens: Vec<&str> =
            (0..depth).map(|bit| if bits >> bit & 1 == 1 { "*" } else { "a" }).collect();
        index.insert((tokens.join(".") + ".*.end").as_bytes(), None, bits);
    }
    assert!(index.trie.nodes() < 4 << depth);
    let mut matches = Matches::new();
    let subject = vec!["a"; depth as usize].join(".") + ".a.end";
    index.match_into(subject.as_bytes(), &mut matches);
    assert_eq!(matches.plain.len(), 1 << depth);
}

#[test]
fn results_keep_their_buffers() {
    let mut index = Index::new(1);
    for sub in 0..10 {
        index.insert(b"a.b", Some(b"workers"), sub);
    }
    let mut matches = Matches::new();
    index.match_into(b"a.b", &mut matches);
    let buffer = matches.queues.first().unwrap().local.as_ptr();
    index.match_into(b"nobody", &mut matches);
    assert!(matches.is_empty());
    index.match_into(b"a.b", &mut matches);
    assert_eq!(matches.queues.first().unwrap().local.as_ptr(), buffer);
}

/// A subject that one shard wants takes its text and a table entry, here and where it is remote.
#[test]
fn single_subscriptions_stay_small() {
    const SUBJECTS: u32 = 50_000;
    let mut index = Index::new(1);
    for number in 0..SUBJECTS {
        let subject = format!("orders.eu.{number}");
        if number % 2 == 0 {
            index.insert(subject.as_bytes(), None, number);
        } else {
            index.set_remote(1, subject.as_bytes(), None, 1);
        }
    }
    let full = index.stats();
    assert_eq!((full.patterns, full.subscriptions), (SUBJECTS as usize, SUBJECTS as usize / 2));
    assert!(full.bytes / (SUBJECTS as usize) < 64, "{} bytes", full.bytes);
    // A second party makes a group of it; when that leaves, the group goes too.
    for number in 0..SUBJECTS {
        let subject = format!("orders.eu.{number}");
        index.set_remote(2, subject.as_bytes(), None, 1);
        index.insert(subject.as_bytes(), Some(b"q"), number);
        index.remove(subject.as_bytes(), Some(b"q"), number);
    }
    index.clear_remote(2);
    assert_eq!(index.groups.len(), 0);
    assert_eq!(index.stats().patterns, SUBJECTS as usize);
    assert_eq!(index.queues.find(b"q", &index.seed), None, "unused names are forgotten");
}
