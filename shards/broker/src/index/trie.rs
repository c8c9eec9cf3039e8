//! The wildcard patterns of one index, walked token by token.
//!
//! ```text
//!   orders ──► * ──► shipped     node: group that ends here, group of `>` below,
//!          └─► >                       the `*` child; literal children lie in one hash
//!                                      table for the whole trie, keyed (node, token)
//! ```
//! A match keeps the set of nodes reached so far and advances it by one token, without recursion;
//! it visits at most every node once, and at most two for each node of the level before.

use slab::Slab;
use smallvec::SmallVec;

use wire::subject::{self, tokens};

use super::hash::HashSeed;
use super::table::Table;

/// No node, no group.
const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;
/// Bytes of the node number in front of the token in a key of the edge table.
const NODE_BYTES: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The group whose pattern ends here.
    here: u32,
    /// The group whose pattern ends with a `>` below this node.
    tail: u32,
    /// The child reached by any token.
    star: u32,
    /// How many literal children the edge table has for this node.
    literals: u32,
}

impl Node {
    const EMPTY: Self = Self { here: NONE, tail: NONE, star: NONE, literals: 0 };

    const fn is_unused(&self) -> bool {
        self.here == NONE && self.tail == NONE && self.star == NONE && self.literals == 0
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Slab<Node>,
    edges: Table<u32>,
    patterns: usize,
    key: Vec<u8>,
}

/// The buffers of a walk, to be kept between walks.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    frontier: Vec<u32>,
    next: Vec<u32>,
}

/// True when the pattern has a wildcard: a token `*`, or a last token `>`.
pub(crate) fn has_wildcard(pattern: &[u8]) -> bool {
    !subject::is_literal(pattern)
}

/// The hash of an edge from its stored key.
fn stored_hash(seed: &HashSeed, key: &[u8]) -> u64 {
    let (node, token) = key.split_first_chunk::<NODE_BYTES>().unwrap_or((&[0; 4], &[]));
    seed.of_edge(u32::from_le_bytes(*node), token)
}

fn is_edge(key: &[u8], node: u32, token: &[u8]) -> bool {
    key.split_first_chunk::<NODE_BYTES>()
        .is_some_and(|(stored, rest)| *stored == node.to_le_bytes() && rest == token)
}

impl Trie {
    pub(crate) fn new() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::EMPTY);
        Self { nodes, edges: Table::new(), patterns: 0, key: Vec::new() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.patterns
    }

    /// The nodes that exist, the root among them.
    #[cfg(test)]
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        // A place of the slab is a node and a word for the free list.
        let place = size_of::<Node>() + size_of::<usize>();
        self.nodes.capacity() * place + self.edges.allocated_bytes()
    }

    fn node(&self, id: u32) -> Node {
        self.nodes.get(id as usize).copied().unwrap_or(Node::EMPTY)
    }

    fn update(&mut self, id: u32, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(id as usize) {
            change(node);
        }
    }

    fn literal_child(&self, seed: &HashSeed, node: u32, token: &[u8]) -> Option<u32> {
        self.edges.find(seed.of_edge(node, token), |key| is_edge(key, node, token))
    }

    /// The child of a node for one token of a pattern, made when absent.
    fn child_or_new(&mut self, seed: &HashSeed, node: u32, token: &[u8]) -> u32 {
        if token == b"*" {
            let star = self.node(node).star;
            if star != NONE {
                return star;
            }
            let child = self.nodes.insert(Node::EMPTY) as u32;
            self.update(node, |node| node.star = child);
            return child;
        }
        if let Some(child) = self.literal_child(seed, node, token) {
            return child;
        }
        let child = self.nodes.insert(Node::EMPTY) as u32;
        self.key.clear();
        self.key.extend_from_slice(&node.to_le_bytes());
        self.key.extend_from_slice(token);
        let hash = seed.of_edge(node, token);
        self.edges.insert_unique(hash, &self.key, child, |key| stored_hash(seed, key));
        self.update(node, |node| node.literals += 1);
        child
    }

    /// Adds a wildcard pattern that is not in the trie.
    pub(crate) fn insert(&mut self, seed: &HashSeed, pattern: &[u8], group: u32) {
        let (path, has_tail) = split_tail(pattern);
        let mut node = ROOT;
        for token in tokens(path) {
            node = self.child_or_new(seed, node, token);
        }
        self.update(node, |node| if has_tail { node.tail = group } else { node.here = group });
        self.patterns += 1;
    }

    /// Removes a pattern that is in the trie, and every branch left empty by that.
    pub(crate) fn remove(&mut self, seed: &HashSeed, pattern: &[u8]) {
        let (path, has_tail) = split_tail(pattern);
        let mut trail: SmallVec<[u32; 16]> = SmallVec::new();
        let mut node = ROOT;
        for token in tokens(path) {
            trail.push(node);
            let child = if token == b"*" {
                Some(self.node(node).star).filter(|&star| star != NONE)
            } else {
                self.literal_child(seed, node, token)
            };
            let Some(child) = child else { return };
            node = child;
        }
        self.update(node, |node| if has_tail { node.tail = NONE } else { node.here = NONE });
        self.patterns -= 1;
        for token in path.rsplit(|&byte| byte == b'.') {
            let Some(parent) = trail.pop() else { break };
            if !self.node(node).is_unused() {
                break;
            }
            self.nodes.try_remove(node as usize);
            if token == b"*" {
                self.update(parent, |node| node.star = NONE);
            } else {
                self.edges.remove(
                    seed.of_edge(parent, token),
                    |key| is_edge(key, parent, token),
                    |key| stored_hash(seed, key),
                );
                self.update(parent, |node| node.literals -= 1);
            }
            node = parent;
        }
        if self.patterns == 0 {
            *self = Self::new();
        }
    }

    /// Calls `visit` with the group of every pattern that matches the subject, until it says stop
    /// by returning false. The tokens of the subject are taken literally.
    pub(crate) fn walk(
        &self,
        seed: &HashSeed,
        subject: &[u8],
        buffers: &mut Walk,
        mut visit: impl FnMut(u32) -> bool,
    ) {
        if self.patterns == 0 {
            return;
        }
        let Walk { frontier, next } = buffers;
        frontier.clear();
        frontier.push(ROOT);
        for token in tokens(subject) {
            next.clear();
            for &id in frontier.iter() {
                let node = self.node(id);
                if node.tail != NONE && !visit(node.tail) {
                    return;
                }
                if node.star != NONE {
                    next.push(node.star);
                }
                if node.literals > 0 {
                    next.extend(self.literal_child(seed, id, token));
                }
            }
            std::mem::swap(frontier, next);
            if frontier.is_empty() {
                return;
            }
        }
        for &id in frontier.iter() {
            let here = self.node(id).here;
            if here != NONE && !visit(here) {
                return;
            }
        }
    }
}

/// The pattern without its final `>`, and whether it had one.
fn split_tail(pattern: &[u8]) -> (&[u8], bool) {
    if pattern == b">" {
        return (&[], true);
    }
    pattern.strip_suffix(b".>").map_or((pattern, false), |path| (path, true))
}
