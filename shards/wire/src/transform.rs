//! Subject transforms: a source pattern, and a destination whose tokens may be functions of the
//! tokens that the source's wildcards stood for.
//!
//! ```text
//!   orders.*.*  ->  {{partition(3,2)}}.$1.{{left(2,4)}}     orders.eu.berlin -> 2.eu.berl
//! ```
//!
//! The functions, their edge cases and the error texts are those of nats-server 2.15.1: a subject
//! that it stores under one name must be found under the same name here, so even results that
//! nobody would ask for (an index of zero is the first token, a part before the first delimiter
//! may be empty) are kept.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use thiserror::Error;

use crate::subject::{self, ANY_TAIL, ANY_TOKEN, SEPARATOR};

mod function;
#[cfg(test)]
mod tests;

use function::Function;

/// What nats-server's mapping functions may find wrong with a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// An empty token, a token behind `>`, or a blank in a token.
    #[error("invalid transform")]
    Invalid,
    /// A reversible transform leaves a wildcard of its source out.
    #[error("not using all of the token wildcard(s)")]
    WildcardsUnused,
    /// `{{name(...)}}` with a name that is no function.
    #[error("unknown function")]
    UnknownFunction,
    /// The source has fewer wildcards than the number given.
    #[error("wildcard index out of range")]
    IndexOutOfRange,
    /// Fewer arguments than the function needs.
    #[error("not enough arguments passed to the function")]
    NotEnoughArguments,
    /// An argument that is not a number, too large, or a delimiter with a blank or a dot.
    #[error("function argument is invalid or in the wrong format")]
    InvalidArgument,
    /// More arguments than the function takes.
    #[error("too many arguments passed to the function")]
    TooManyArguments,
    /// A reversible transform uses another function than `wildcard`.
    #[error("the only mapping function allowed for import transforms is {{{{Wildcard()}}}}")]
    NotReversible,
}

/// Why a pair of patterns is no transform. The texts are those that clients see in API errors.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransformError {
    /// One of the two is not a subject, the destination has a wildcard token, or only one of them
    /// ends in `>`.
    #[error("invalid subject")]
    BadSubject,
    /// A token of the destination is wrong.
    #[error("invalid mapping destination: {fault}{}", InToken(.token))]
    Destination {
        /// What is wrong.
        fault: Fault,
        /// Where; empty when the text names no token.
        token: String,
    },
}

impl TransformError {
    /// An error about `token`.
    fn new(fault: Fault, token: &[u8]) -> Self {
        Self::Destination { fault, token: String::from_utf8_lossy(token).into_owned() }
    }
}

/// The end of the text of an error: where the fault was found, if that is known.
struct InToken<'a>(&'a str);

impl std::fmt::Display for InToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " in {}", self.0) }
    }
}

/// One token of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Copied as it is.
    Literal(Box<[u8]>),
    /// Computed from tokens of the subject, which are given by their index.
    Call { function: Function, tokens: Box<[usize]> },
}

/// A checked pair of patterns. Cheap to apply; building one allocates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    source: Box<[u8]>,
    destination: Box<[u8]>,
    /// The tokens of the destination without a last `>`. Empty for the identity.
    parts: Box<[Part]>,
    /// The tokens of the subject that stand before the part matched by `>`, if there is a `>`.
    tail_start: Option<usize>,
    /// Nothing is rewritten.
    is_identity: bool,
}

impl Transform {
    /// A transform as account mappings, republish, mirrors and sources have it: every function,
    /// and wildcards may be left out or used twice. An empty source is `>`; an empty destination
    /// leaves every subject as it is.
    ///
    /// # Errors
    ///
    /// What is wrong with the destination, see [`TransformError`].
    pub fn new(source: &[u8], destination: &[u8]) -> Result<Self, TransformError> {
        Self::build(source, destination, false)
    }

    /// A transform that can be reversed, as imports need it: no function but `wildcard`, and
    /// every wildcard of the source is used.
    ///
    /// # Errors
    ///
    /// What is wrong with the destination, see [`TransformError`].
    pub fn reversible(source: &[u8], destination: &[u8]) -> Result<Self, TransformError> {
        Self::build(source, destination, true)
    }

    /// A transform as the configuration of a stream may hold it: as [`Self::new`], but the
    /// destination is looked at first, which refuses blanks in it and decides which of several
    /// faults is named. A source with blanks is the caller's to refuse (error 10155).
    ///
    /// # Errors
    ///
    /// What is wrong with the destination, see [`TransformError`].
    pub fn for_stream(source: &[u8], destination: &[u8]) -> Result<Self, TransformError> {
        check_destination(destination)?;
        Self::new(source, destination)
    }

    fn build(source: &[u8], destination: &[u8], strict: bool) -> Result<Self, TransformError> {
        let source = if source.is_empty() { ANY_TAIL } else { source };
        let from = Shape::of(source).ok_or(TransformError::BadSubject)?;
        if destination.is_empty() {
            return Ok(Self {
                source: source.into(),
                destination: destination.into(),
                parts: Box::default(),
                tail_start: None,
                is_identity: true,
            });
        }
        let to = Shape::of(destination).ok_or(TransformError::BadSubject)?;
        if !to.wildcards.is_empty() || from.has_tail != to.has_tail {
            return Err(TransformError::BadSubject);
        }
        let mut parts = Vec::new();
        let mut used = 0_usize;
        for token in subject::tokens(destination) {
            let part = part_of(token, &from, strict)?;
            if let Part::Call { tokens, .. } = &part {
                used = used.saturating_add(tokens.len());
            }
            if token != ANY_TAIL {
                parts.push(part);
            }
        }
        if strict && used < from.wildcards.len() {
            return Err(TransformError::new(Fault::WildcardsUnused, destination));
        }
        Ok(Self {
            source: source.into(),
            destination: destination.into(),
            parts: parts.into(),
            tail_start: from.has_tail.then(|| from.count.saturating_sub(1)),
            is_identity: source == ANY_TAIL && destination == ANY_TAIL,
        })
    }

    /// The pattern of the subjects that are rewritten.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The destination as it was given.
    pub fn destination(&self) -> &[u8] {
        &self.destination
    }

    /// Whether `subject` is literal, well formed and covered by the source.
    pub fn matches(&self, subject: &[u8]) -> bool {
        subject::is_literal(subject) && subject::matches(&self.source, subject)
    }

    /// Appends what `subject` becomes and answers true, or leaves `out` alone and answers false
    /// if the source does not match. `random` feeds `{{random(n)}}`: any well mixed number.
    ///
    /// The result need not be a valid subject (a function may yield nothing); the caller judges.
    pub fn apply(&self, subject: &[u8], out: &mut Vec<u8>, random: u64) -> bool {
        if !self.matches(subject) {
            return false;
        }
        if self.is_identity {
            out.extend_from_slice(subject);
            return true;
        }
        let mut first = true;
        for part in &self.parts {
            if !std::mem::take(&mut first) {
                out.push(SEPARATOR);
            }
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Call { function, tokens } => function.push(out, subject, tokens, random),
            }
        }
        if let Some(start) = self.tail_start {
            for token in subject::tokens(subject).skip(start) {
                if !std::mem::take(&mut first) {
                    out.push(SEPARATOR);
                }
                out.extend_from_slice(token);
            }
        }
        true
    }

    /// The transform that leads back from destination to source, where there is one. It undoes
    /// any order of the wildcards (nats-server's does not undo cycles of three).
    pub fn reverse(&self) -> Option<Self> {
        if self.is_identity {
            return Some(self.clone());
        }
        let (pattern, placeholders) = pattern_of(&self.destination);
        let mut destination = Vec::with_capacity(self.source.len());
        let mut wildcards = 0_i64;
        for (index, token) in subject::tokens(&self.source).enumerate() {
            if index > 0 {
                destination.push(SEPARATOR);
            }
            if token == ANY_TOKEN {
                wildcards = wildcards.saturating_add(1);
                let at = placeholders.iter().position(|&number| number == wildcards)?;
                push_placeholder(&mut destination, at.saturating_add(1));
            } else {
                destination.extend_from_slice(token);
            }
        }
        Self::reversible(&pattern, &destination).ok()
    }
}

fn push_placeholder(out: &mut Vec<u8>, number: usize) {
    out.push(b'$');
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A pattern as a destination: its `*` become `$1`, `$2` and so on.
pub fn placeholders_for(pattern: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pattern.len());
    let mut wildcards = 0_usize;
    for (index, token) in subject::tokens(pattern).enumerate() {
        if index > 0 {
            out.push(SEPARATOR);
        }
        if token == ANY_TOKEN {
            wildcards = wildcards.saturating_add(1);
            push_placeholder(&mut out, wildcards);
        } else {
            out.extend_from_slice(token);
        }
    }
    out
}

/// The pattern of the subjects that a destination can yield, and the numbers of its placeholders
/// in order. Only `$n` and `{{wildcard(n)}}` count as placeholders.
pub fn pattern_of(destination: &[u8]) -> (Vec<u8>, Vec<i64>) {
    let mut pattern = Vec::with_capacity(destination.len());
    let mut placeholders = Vec::new();
    for (index, token) in subject::tokens(destination).enumerate() {
        if index > 0 {
            pattern.push(SEPARATOR);
        }
        if let Some(number) = function::placeholder(token) {
            placeholders.push(number);
            pattern.extend_from_slice(ANY_TOKEN);
        } else {
            pattern.extend_from_slice(token);
        }
    }
    (pattern, placeholders)
}

/// What has to be known of a pattern.
struct Shape {
    /// The number of tokens.
    count: usize,
    /// The indexes of the tokens that are `*`.
    wildcards: Vec<usize>,
    /// The last token is `>`.
    has_tail: bool,
}

impl Shape {
    /// `None` if a token is empty or stands behind `>`.
    fn of(pattern: &[u8]) -> Option<Self> {
        let mut shape = Self { count: 0, wildcards: Vec::new(), has_tail: false };
        for token in subject::tokens(pattern) {
            if token.is_empty() || shape.has_tail {
                return None;
            }
            if token == ANY_TOKEN {
                shape.wildcards.push(shape.count);
            }
            shape.has_tail = token == ANY_TAIL;
            shape.count = shape.count.saturating_add(1);
        }
        (shape.count > 0).then_some(shape)
    }
}

/// One token of a destination for a source of the given shape.
fn part_of(token: &[u8], from: &Shape, strict: bool) -> Result<Part, TransformError> {
    let Some((function, indexes)) = function::parse(token)? else {
        return Ok(Part::Literal(token.into()));
    };
    if from.wildcards.is_empty() && !from.has_tail {
        // Without a wildcard only what needs none may be asked for; listed tokens are ignored.
        return match function {
            Function::Random { .. } | Function::Partition { .. } => {
                Ok(Part::Call { function, tokens: Box::default() })
            }
            _ => Err(TransformError::new(Fault::IndexOutOfRange, token)),
        };
    }
    if strict && function != Function::Wildcard {
        return Err(TransformError::new(Fault::NotReversible, token));
    }
    let mut tokens = Vec::with_capacity(indexes.len());
    for index in indexes {
        if usize::try_from(index).is_ok_and(|index| index > from.wildcards.len()) {
            let place = format!("{}: [{index}]", String::from_utf8_lossy(token));
            return Err(TransformError::Destination {
                fault: Fault::IndexOutOfRange,
                token: place,
            });
        }
        // Numbers below one stand for the first token of the subject, wildcard or not.
        let place = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
        tokens.push(place.and_then(|at| from.wildcards.get(at)).copied().unwrap_or_default());
    }
    Ok(Part::Call { function, tokens: tokens.into() })
}

/// The checks that a stream's configuration makes before the transform is built.
fn check_destination(destination: &[u8]) -> Result<(), TransformError> {
    let mut after_tail = false;
    for token in subject::tokens(destination) {
        if token.is_empty() || after_tail {
            return Err(TransformError::new(Fault::Invalid, token));
        }
        if function::looks_like_call(token) {
            if !function::is_known(token) {
                return Err(TransformError::new(Fault::UnknownFunction, token));
            }
            continue;
        }
        after_tail = token == ANY_TAIL;
        if token.iter().any(|byte| matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ')) {
            return Err(TransformError::new(Fault::Invalid, b""));
        }
    }
    Ok(())
}

/// The subject after the transform, or the subject itself where the source does not match.
pub fn apply_or_keep<'a>(transform: &Transform, subject: &'a [u8], random: u64) -> Cow<'a, [u8]> {
    let mut out = Vec::new();
    if transform.apply(subject, &mut out, random) {
        Cow::Owned(out)
    } else {
        Cow::Borrowed(subject)
    }
}
