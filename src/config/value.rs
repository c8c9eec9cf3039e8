//! The tree that a configuration text becomes: values with the place each one stands at.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Pos;

/// A value, the place to name when it is wrong, and whether it only served as a variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// The place of the key that it belongs to, or its own place inside an array.
    pub pos: Pos,
    /// Set when some `$name` referred to it; such a key may be unknown to the server.
    pub used: bool,
}

/// What can stand on the right side of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// An integer, its suffix already multiplied in.
    Int(i64),
    /// A number with a dot.
    Float(f64),
    /// Quoted, unquoted and block strings.
    Text(String),
    /// A date and time in Zulu form, checked but kept as it was written.
    Date(String),
    /// `[ ... ]`
    List(Vec<Node>),
    /// `{ ... }`
    Map(Map),
    /// Stands for a value that could not be found; the error is already reported, so readers
    /// pass over it silently.
    Missing,
}

impl Value {
    /// The name of the type in messages, as Go's `%T` prints it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Int(_) => "int64",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Date(_) => "time.Time",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Missing => "<nil>",
        }
    }

    /// How many values this one holds, itself included.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(|n| n.value.size()).sum::<usize>(),
            Self::Map(map) => 1 + map.entries.values().map(|n| n.value.size()).sum::<usize>(),
            _ => 1,
        }
    }

    /// How many levels of lists and maps this value has.
    pub(super) fn depth(&self) -> usize {
        let inside = match self {
            Self::List(items) => items.iter().map(|n| n.value.depth()).max(),
            Self::Map(map) => map.entries.values().map(|n| n.value.depth()).max(),
            _ => return 0,
        };
        1 + inside.unwrap_or(0)
    }

    /// How a scalar prints in messages, as Go's `%v` does; compound values print their type.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Int(i) => i.to_string(),
            Self::Float(x) => super::digest::float_text(*x),
            Self::Text(s) | Self::Date(s) => s.clone(),
            other => other.type_name().to_string(),
        }
    }
}

/// A map with unique keys; a key given twice keeps its last value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: BTreeMap<String, Node>,
}

impl Map {
    /// The value of `key`, whose case matters.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key)
    }

    /// The value of `key`, to mark it as used.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.get_mut(key)
    }

    /// Sets `key`; a value it had before is gone.
    pub fn insert(&mut self, key: String, node: Node) {
        self.entries.insert(key, node);
    }

    /// Takes over all keys of `other`.
    pub(super) fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keys and values sorted by key.
    pub fn sorted(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(k, n)| (k.as_str(), n))
    }

    /// Keys and values in the order in which they were written.
    pub fn in_order(&self) -> Vec<(&str, &Node)> {
        let mut all: Vec<_> = self.sorted().collect();
        all.sort_by(|a, b| a.1.pos.cmp(&b.1.pos));
        all
    }
}

impl Node {
    /// A value at a place, not used as a variable.
    pub fn new(value: Value, pos: Pos) -> Self {
        Self { value, pos, used: false }
    }

    /// Rewrites the place of this value and of all in it; for values from the environment.
    pub(super) fn place_all(&mut self, file: &Arc<str>, pos: &Pos) {
        self.pos = Pos::new(file, pos.line, pos.column);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|n| n.place_all(file, pos)),
            Value::Map(map) => map.entries.values_mut().for_each(|n| n.place_all(file, pos)),
            _ => {}
        }
    }
}
