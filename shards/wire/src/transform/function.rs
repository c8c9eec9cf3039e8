//! The functions of a transform's destination: how they are written and what they yield.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Fault, TransformError};
use crate::subject::{self, SEPARATOR};

/// The end of a token that is kept, or at which counting starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// A function of a destination. Lengths are bytes; one that is not positive, or not shorter than
/// the token, leaves the token as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Function {
    /// The token itself.
    Wildcard,
    /// FNV-1a of the listed tokens, or of the whole subject if none is listed, modulo `buckets`.
    Partition { buckets: u32 },
    /// A random number below `ceiling`.
    Random { ceiling: u32 },
    /// The token with a dot put in `position` bytes from one side.
    SplitFrom { side: Side, position: i32 },
    /// The token in pieces of `size` bytes, counted from one side.
    SliceFrom { side: Side, size: i32 },
    /// `len` bytes of the token from one side.
    Keep { side: Side, len: i32 },
    /// The token with its delimiters replaced by dots.
    Split { delimiter: Box<[u8]> },
}

/// How functions are written, in the order in which they are looked for. A capital letter stands
/// for both cases.
#[derive(Clone, Copy)]
enum Name {
    Wildcard,
    Partition,
    SplitFromLeft,
    SplitFromRight,
    SliceFromLeft,
    SliceFromRight,
    Right,
    Left,
    Split,
    Random,
}

const NAMES: [(&[u8], Name); 10] = [
    (b"Wildcard", Name::Wildcard),
    (b"Partition", Name::Partition),
    (b"SplitFromLeft", Name::SplitFromLeft),
    (b"SplitFromRight", Name::SplitFromRight),
    (b"SliceFromLeft", Name::SliceFromLeft),
    (b"SliceFromRight", Name::SliceFromRight),
    (b"Right", Name::Right),
    (b"Left", Name::Left),
    (b"Split", Name::Split),
    (b"Random", Name::Random),
];

/// Whether a token has the braces of a function call around it.
pub(super) fn looks_like_call(token: &[u8]) -> bool {
    token.len() > 4 && token.starts_with(b"{{") && token.ends_with(b"}}")
}

/// Whether a token holds a call of a function that exists.
pub(super) fn is_known(token: &[u8]) -> bool {
    NAMES.iter().any(|(spelling, _)| arguments(token, spelling).is_some())
}

/// The number of the wildcard that a token stands for, if it does nothing else.
pub(super) fn placeholder(token: &[u8]) -> Option<i64> {
    match parse(token) {
        Ok(Some((Function::Wildcard, indexes))) => indexes.first().copied(),
        _ => None,
    }
}

/// Reads one token of a destination: the function and the numbers of the wildcards it works on,
/// or `None` for a literal.
pub(super) fn parse(token: &[u8]) -> Result<Option<(Function, Vec<i64>)>, TransformError> {
    if let [b'$', digits @ ..] = token {
        // `$` begins many ordinary subjects.
        return Ok(integer(digits).map(|index| (Function::Wildcard, vec![index])));
    }
    if !looks_like_call(token) {
        return Ok(None);
    }
    let found = NAMES
        .iter()
        .find_map(|(spelling, name)| arguments(token, spelling).map(|text| (*name, text)));
    let Some((name, text)) = found else {
        return Err(TransformError::new(Fault::UnknownFunction, token));
    };
    let list = split_arguments(text);
    call(name, &list).map(Some).map_err(|fault| TransformError::new(fault, token))
}

/// The function `name` with its arguments.
fn call(name: Name, list: &[&[u8]]) -> Result<(Function, Vec<i64>), Fault> {
    let function = match name {
        Name::Wildcard => {
            return match list {
                [b""] => Err(Fault::NotEnoughArguments),
                [index] => Ok((Function::Wildcard, vec![trimmed_integer(index)?])),
                _ => Err(Fault::TooManyArguments),
            };
        }
        Name::Partition => {
            let Some((buckets, indexes)) = list.split_first() else {
                return Err(Fault::NotEnoughArguments);
            };
            let function = Function::Partition { buckets: count(buckets)?.cast_unsigned() };
            let indexes: Result<Vec<i64>, Fault> =
                indexes.iter().map(|index| trimmed_integer(index)).collect();
            return Ok((function, indexes?));
        }
        Name::Random => {
            let [ceiling] = list else { return Err(Fault::NotEnoughArguments) };
            let ceiling = count(ceiling)?.unsigned_abs();
            return Ok((Function::Random { ceiling }, Vec::new()));
        }
        Name::Split => {
            let [index, delimiter] = pair(list)?;
            let index = trimmed_integer(index)?;
            if delimiter.iter().any(|byte| matches!(byte, b' ' | b'.')) {
                return Err(Fault::InvalidArgument);
            }
            return Ok((Function::Split { delimiter: delimiter.into() }, vec![index]));
        }
        Name::SplitFromLeft => |n| Function::SplitFrom { side: Side::Left, position: n },
        Name::SplitFromRight => |n| Function::SplitFrom { side: Side::Right, position: n },
        Name::SliceFromLeft => |n| Function::SliceFrom { side: Side::Left, size: n },
        Name::SliceFromRight => |n| Function::SliceFrom { side: Side::Right, size: n },
        Name::Left => |n| Function::Keep { side: Side::Left, len: n },
        Name::Right => |n| Function::Keep { side: Side::Right, len: n },
    };
    let function: fn(i32) -> Function = function;
    let [index, number] = pair(list)?;
    let index = trimmed_integer(index)?;
    let number = i32::try_from(trimmed_integer(number)?).map_err(|_| Fault::InvalidArgument)?;
    Ok((function(number), vec![index]))
}

/// Exactly two arguments.
fn pair<'a>(list: &[&'a [u8]]) -> Result<[&'a [u8]; 2], Fault> {
    match list {
        [first, second] => Ok([first, second]),
        [] | [_] => Err(Fault::NotEnoughArguments),
        _ => Err(Fault::TooManyArguments),
    }
}

/// A number of buckets: at most 2^31 - 1, and what is below -2^31 wraps.
fn count(text: &[u8]) -> Result<i32, Fault> {
    let number = trimmed_integer(text)?;
    if number > i64::from(i32::MAX) {
        return Err(Fault::InvalidArgument);
    }
    #[allow(clippy::cast_possible_truncation)] // the wrap is what is asked for
    Ok(number as i32)
}

/// A decimal number with an optional sign; blanks around it do not matter.
fn trimmed_integer(text: &[u8]) -> Result<i64, Fault> {
    let mut text = text;
    while let Some(rest) = text.strip_prefix(b" ") {
        text = rest;
    }
    while let Some(rest) = text.strip_suffix(b" ") {
        text = rest;
    }
    integer(text).ok_or(Fault::InvalidArgument)
}

/// A decimal number with an optional sign.
fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The bytes that may stand between the pieces of a call.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0c | b'\r')
}

/// `text` without the blanks at its start.
fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| is_blank(byte)).count();
    text.get(blanks..).unwrap_or_default()
}

/// `text` without `spelling` at its start, in which capitals stand for both cases.
fn skip_name<'a>(text: &'a [u8], spelling: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = text.split_at_checked(spelling.len())?;
    let same = name.iter().zip(spelling).all(|(&given, &wanted)| {
        given == wanted || (wanted.is_ascii_uppercase() && given == wanted.to_ascii_lowercase())
    });
    same.then_some(rest)
}

/// What stands in the round brackets of the first call of `spelling` in the token. The call may
/// stand anywhere in the token and reaches to the last place where it can end.
fn arguments<'a>(token: &'a [u8], spelling: &[u8]) -> Option<&'a [u8]> {
    (0..token.len()).find_map(|start| {
        let rest = token.get(start..)?.strip_prefix(b"{{")?;
        let rest = skip_name(skip_blanks(rest), spelling)?;
        let rest = skip_blanks(rest).strip_prefix(b"(")?;
        let line_len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..line_len)?;
        memchr::memrchr_iter(b')', line).find_map(|close| {
            let (text, behind) = rest.split_at_checked(close)?;
            skip_blanks(behind.get(1..)?).starts_with(b"}}").then_some(text)
        })
    })
}

/// Cuts at every comma; blanks behind a comma belong to it.
fn split_arguments(text: &[u8]) -> Vec<&[u8]> {
    let pieces = text.split(|&byte| byte == b',').enumerate();
    pieces.map(|(at, piece)| if at == 0 { piece } else { skip_blanks(piece) }).collect()
}

impl Function {
    /// Appends the function's value for the given tokens of `subject`.
    pub(super) fn push(&self, out: &mut Vec<u8>, subject: &[u8], tokens: &[usize], random: u64) {
        let token =
            tokens.first().and_then(|&at| subject::tokens(subject).nth(at)).unwrap_or_default();
        match self {
            Self::Wildcard => out.extend_from_slice(token),
            Self::Partition { buckets } => {
                let hash = partition_hash(subject, tokens);
                push_number(out, hash.checked_rem(*buckets).unwrap_or_default());
            }
            Self::Random { ceiling } => {
                // The upper bits are the better ones of simple generators.
                let number = u32::try_from(random >> 33).unwrap_or_default();
                push_number(out, number.checked_rem(*ceiling).unwrap_or_default());
            }
            Self::SplitFrom { side, position } => {
                push_pieces(out, token, usable(*position, token).map(|len| cut(token, *side, len)));
            }
            Self::SliceFrom { side, size } => match usable(*size, token) {
                None => out.extend_from_slice(token),
                Some(size) => push_slices(out, token, *side, size),
            },
            Self::Keep { side, len } => {
                let kept = usable(*len, token).map(|len| match (side, cut(token, *side, len)) {
                    (Side::Left, (left, _)) => left,
                    (Side::Right, (_, right)) => right,
                });
                out.extend_from_slice(kept.unwrap_or(token));
            }
            Self::Split { delimiter } => push_split(out, token, delimiter),
        }
    }
}

/// A length that changes something: positive and shorter than the token.
fn usable(len: i32, token: &[u8]) -> Option<usize> {
    usize::try_from(len).ok().filter(|&len| len > 0 && len < token.len())
}

/// Cuts the token `len` bytes from one side.
fn cut(token: &[u8], side: Side, len: usize) -> (&[u8], &[u8]) {
    let at = match side {
        Side::Left => len,
        Side::Right => token.len().saturating_sub(len),
    };
    token.split_at_checked(at).unwrap_or((token, b""))
}

/// The two pieces with a dot between them, or the whole token.
fn push_pieces(out: &mut Vec<u8>, token: &[u8], pieces: Option<(&[u8], &[u8])>) {
    let Some((left, right)) = pieces else {
        out.extend_from_slice(token);
        return;
    };
    out.extend_from_slice(left);
    out.push(SEPARATOR);
    out.extend_from_slice(right);
}

/// The token in pieces of `size` bytes; what is left over is the last piece if counted from the
/// left, and the first if counted from the right.
fn push_slices(out: &mut Vec<u8>, token: &[u8], side: Side, size: usize) {
    let remainder = match side {
        Side::Left => 0,
        Side::Right => token.len().checked_rem(size).unwrap_or_default(),
    };
    let (head, rest) = token.split_at_checked(remainder).unwrap_or((token, b""));
    out.extend_from_slice(head);
    for (index, piece) in rest.chunks(size.max(1)).enumerate() {
        if index > 0 || !head.is_empty() {
            out.push(SEPARATOR);
        }
        out.extend_from_slice(piece);
    }
}

/// The parts of the token between delimiters, with dots instead. No dot stands before an empty
/// part, nor behind an empty first one. An empty delimiter stands between all characters.
fn push_split(out: &mut Vec<u8>, token: &[u8], delimiter: &[u8]) {
    let mut rest = Some(token);
    let mut previous: Option<&[u8]> = None;
    let mut index = 0_usize;
    while let Some(text) = rest {
        let (part, tail) = split_once(text, delimiter);
        if let Some(previous) = previous
            && !part.is_empty()
            && !(index == 1 && previous.is_empty())
        {
            out.push(SEPARATOR);
        }
        out.extend_from_slice(part);
        previous = Some(part);
        index = index.saturating_add(1);
        rest = tail;
    }
}

/// The text up to the first delimiter and the text behind it.
fn split_once<'a>(text: &'a [u8], delimiter: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    if delimiter.is_empty() {
        let (character, tail) = text.split_at_checked(character_len(text)).unwrap_or((text, b""));
        return (character, (!tail.is_empty()).then_some(tail));
    }
    memchr::memmem::find(text, delimiter)
        .and_then(|at| text.split_at_checked(at))
        .map_or((text, None), |(part, tail)| (part, tail.get(delimiter.len()..)))
}

/// The length of the first UTF-8 character; one for a byte that begins none.
fn character_len(text: &[u8]) -> usize {
    let valid =
        (1..=4).find(|&len| text.get(..len).is_some_and(|head| std::str::from_utf8(head).is_ok()));
    valid.unwrap_or(1)
}

/// FNV-1a of 32 bits over the listed tokens without anything between them, or over the subject.
fn partition_hash(subject: &[u8], tokens: &[usize]) -> u32 {
    const BASIS: u32 = 0x811c_9dc5;
    let add = |hash: u32, bytes: &[u8]| {
        bytes.iter().fold(hash, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    };
    if tokens.is_empty() {
        return add(BASIS, subject);
    }
    tokens
        .iter()
        .fold(BASIS, |hash, &at| add(hash, subject::tokens(subject).nth(at).unwrap_or_default()))
}

fn push_number(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}
