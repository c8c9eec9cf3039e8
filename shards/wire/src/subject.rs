//! Subjects and subject patterns: validity, tokens, matching, overlap and containment.
//!
//! A subject is a run of tokens separated by `.`. In a pattern a token that is exactly `*` stands
//! for one token, and a last token that is exactly `>` stands for one or more. `foo*` and `>x` are
//! ordinary tokens. Everything works on bytes; subjects need not be UTF-8.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// The byte between two tokens.
pub const SEPARATOR: u8 = b'.';
/// A whole token that stands for exactly one token.
pub const ANY_TOKEN: &[u8] = b"*";
/// A whole last token that stands for one or more tokens.
pub const ANY_TAIL: &[u8] = b">";

/// True for the bytes that cannot stand inside a token because they end it on the wire: blank,
/// tab, CR, LF. Everything else is legal in PUB and SUB, even control characters; names from
/// elsewhere are held to [`is_wire_safe`].
#[inline]
const fn is_forbidden(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether `subject` may be published to under `pedantic`: no empty token, none of the forbidden
/// bytes, and no token that is a wildcard.
pub fn is_valid_publish(subject: &[u8]) -> bool {
    !subject.is_empty()
        && subject.split(|&b| b == SEPARATOR).all(|token| {
            !token.is_empty()
                && token != ANY_TOKEN
                && token != ANY_TAIL
                && !token.iter().any(|&b| is_forbidden(b))
        })
}

/// Whether `subject` may be subscribed to: as for publishing, but `*` may be any token and `>`
/// may be the last one.
pub fn is_valid_subscribe(subject: &[u8]) -> bool {
    let mut after_tail = false;
    !subject.is_empty()
        && subject.split(|&b| b == SEPARATOR).all(|token| {
            let well_placed = !after_tail;
            after_tail = token == ANY_TAIL;
            well_placed && !token.is_empty() && !token.iter().any(|&b| is_forbidden(b))
        })
}

/// Whether no token of `subject` is a wildcard. Says nothing about validity.
pub fn is_literal(subject: &[u8]) -> bool {
    // Most subjects hold neither byte at all, which one quick scan shows.
    if memchr::memchr2(b'*', b'>', subject).is_none() {
        return true;
    }
    !subject.split(|&b| b == SEPARATOR).any(|token| token == ANY_TOKEN || token == ANY_TAIL)
}

/// Whether every byte may be written into a control line without changing its meaning: nothing at
/// or below a blank, and no DEL. Used before a name that did not come from the client parser
/// (configuration, another protocol) is put on the wire.
pub fn is_wire_safe(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&b| b > b' ' && b != 0x7f)
}

/// Splits the first token off `rest`; `rest` becomes `None` behind the last one.
#[inline]
fn next_token<'a>(rest: &mut Option<&'a [u8]>) -> Option<&'a [u8]> {
    let text = (*rest)?;
    // Tokens are short: a plain loop beats a vectorised search that has to be set up each time.
    let found =
        text.iter().position(|&byte| byte == SEPARATOR).and_then(|at| text.split_at_checked(at));
    let Some((token, tail)) = found else {
        *rest = None;
        return Some(text);
    };
    *rest = tail.get(1..);
    Some(token)
}

/// The tokens of a subject or pattern, from left to right. An empty subject has none.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        next_token(&mut self.rest)
    }
}

/// The tokens of `subject`, in order. Empty tokens are yielded as empty slices.
#[inline]
pub fn tokens(subject: &[u8]) -> Tokens<'_> {
    Tokens { rest: (!subject.is_empty()).then_some(subject) }
}

/// The number of tokens that [`tokens`] yields.
#[inline]
pub fn token_count(subject: &[u8]) -> usize {
    if subject.is_empty() {
        return 0;
    }
    memchr::memchr_iter(SEPARATOR, subject).count().saturating_add(1)
}

/// Whether `subject` has an empty token: such a subject is delivered to nobody.
fn has_empty_token(subject: &[u8]) -> bool {
    tokens(subject).any(<[u8]>::is_empty)
}

/// Whether a message published to `literal` reaches a subscription on `pattern`.
///
/// Tokens of `literal` are never wildcards here: a publish to `foo.*` reaches `foo.*` and `foo.>`
/// but not `foo.bar`. A literal with an empty token reaches nobody, not even `>`.
pub fn matches(pattern: &[u8], literal: &[u8]) -> bool {
    let (mut wanted, mut given) = (tokens(pattern), tokens(literal));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return !pattern.is_empty(),
            (Some(want), Some(token)) => {
                if token.is_empty() {
                    return false;
                }
                if want == ANY_TAIL && wanted.rest.is_none() {
                    return given
                        .rest
                        .is_none_or(|rest| !rest.is_empty() && !has_empty_token(rest));
                }
                if want != ANY_TOKEN && want != token {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether some subject matches both patterns. Symmetric; literals are patterns too.
pub fn overlaps(a: &[u8], b: &[u8]) -> bool {
    let (mut left, mut right) = (tokens(a), tokens(b));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return !a.is_empty(),
            (Some(x), Some(y)) => {
                let tail_x = x == ANY_TAIL && left.rest.is_none();
                let tail_y = y == ANY_TAIL && right.rest.is_none();
                if tail_x || tail_y {
                    return true;
                }
                if x != y && x != ANY_TOKEN && y != ANY_TOKEN {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether every subject that matches `sub` also matches `of`.
pub fn is_subset(sub: &[u8], of: &[u8]) -> bool {
    let (mut inner, mut outer) = (tokens(sub), tokens(of));
    loop {
        match (inner.next(), outer.next()) {
            (None, None) => return !sub.is_empty(),
            (Some(x), Some(y)) => {
                if y == ANY_TAIL && outer.rest.is_none() {
                    return true;
                }
                if x == ANY_TAIL && inner.rest.is_none() {
                    return false;
                }
                if y != ANY_TOKEN && x != y {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity() {
        for subject in ["a", "a.b", "foo*", ">x", "a.b>.c*d", "$SYS.x", "a/b", "é", "a\u{c}b", "\0"]
        {
            assert!(is_valid_publish(subject.as_bytes()), "{subject:?}");
            assert!(is_valid_subscribe(subject.as_bytes()), "{subject:?}");
            assert!(is_literal(subject.as_bytes()), "{subject:?}");
        }
        for pattern in ["*", ">", "a.*", "*.a", "a.>", "*.*.>"] {
            assert!(!is_valid_publish(pattern.as_bytes()), "{pattern:?}");
            assert!(is_valid_subscribe(pattern.as_bytes()), "{pattern:?}");
            assert!(!is_literal(pattern.as_bytes()), "{pattern:?}");
        }
        for subject in
            ["", ".", "a.", ".a", "a..b", "a b", "a\t", "\ra", "a\n", ">.a", "a.>.b", "a.>."]
        {
            assert!(!is_valid_publish(subject.as_bytes()), "{subject:?}");
            assert!(!is_valid_subscribe(subject.as_bytes()), "{subject:?}");
        }
    }

    #[test]
    fn splitting() {
        let split = |text: &'static str| tokens(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(split("a.bc.d"), [b"a".as_slice(), b"bc", b"d"]);
        assert_eq!(split("a..b"), [b"a".as_slice(), b"", b"b"]);
        assert_eq!(split("a."), [b"a".as_slice(), b""]);
        assert!(split("").is_empty());
        for (text, count) in [("", 0), ("a", 1), ("a.b", 2), ("a.", 2), (".", 2)] {
            assert_eq!(token_count(text.as_bytes()), count);
        }
    }

    #[test]
    fn matching() {
        for (pattern, literal) in [
            ("a", "a"),
            ("*", "a"),
            (">", "a"),
            (">", "a.b.c"),
            ("a.*", "a.b"),
            ("a.>", "a.b.c"),
            ("*.b.*", "a.b.c"),
            ("a*", "a*"),
            ("foo.*", "foo.*"),
            ("a.>", "a.>"),
            ("*.>", "a.b"),
        ] {
            assert!(matches(pattern.as_bytes(), literal.as_bytes()), "{pattern} {literal}");
        }
        for (pattern, literal) in [
            ("a", "b"),
            ("a", "a.b"),
            ("a.b", "a"),
            ("*", "a.b"),
            ("a.>", "a"),
            ("*.>", "a"),
            ("a*", "ab"),
            ("foo.bar", "foo.*"),
            (">", "a..b"),
            (">", "a."),
            (">", ".a"),
            ("", ""),
            ("a.*", "a."),
            ("*", ""),
            (">", ""),
            ("a.>", "a.b."),
            (">", "a.b..c"),
        ] {
            assert!(!matches(pattern.as_bytes(), literal.as_bytes()), "{pattern} {literal}");
        }
    }

    #[test]
    fn names_that_are_safe_on_the_wire() {
        assert!(is_wire_safe(b"a.b-c") && is_wire_safe("é".as_bytes()));
        for name in ["", "a b", "a\r", "\n", "\0", "a\u{7f}"] {
            assert!(!is_wire_safe(name.as_bytes()), "{name:?}");
        }
    }
}
