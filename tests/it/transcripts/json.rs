//! JSON bodies in a transcript: compared token by token, so that the order of keys and the
//! spelling of numbers count, while blanks and the escapes inside strings do not.
//!
//! In a pattern, a string may hold the placeholders of `text.rs`; the string `"${any}"` stands for
//! any value at all, `"${num}"` for a whole number as well.

use super::text::{self, Captures, Known};

/// A piece of JSON.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// One of `{}[],:`.
    Mark(char),
    /// A string, without quotes and escapes.
    Text(String),
    /// A number, `true`, `false` or `null`, as it was spelled.
    Bare(String),
}

/// Whether `found` is what `pattern` wants; gives what the placeholders took.
pub(crate) fn matches(
    pattern: &str,
    known: &Known,
    found: &str,
) -> Result<Option<Captures>, String> {
    let wanted = tokens(pattern).ok_or_else(|| format!("the pattern is no JSON: {pattern}"))?;
    let Some(found) = tokens(found) else {
        return Ok(None);
    };
    let (mut rest, mut captures) = (found.as_slice(), Captures::new());
    for want in &wanted {
        let Some(after) = take(want, known, rest, &mut captures)? else {
            return Ok(None);
        };
        rest = after;
    }
    Ok(rest.is_empty().then_some(captures))
}

/// What is left of `rest` after the token that `want` allows.
fn take<'a>(
    want: &Token,
    known: &Known,
    rest: &'a [Token],
    captures: &mut Captures,
) -> Result<Option<&'a [Token]>, String> {
    let Some((first, after)) = rest.split_first() else {
        return Ok(None);
    };
    let fits = match (want, first) {
        (Token::Text(text), _) if text == "${any}" => return Ok(Some(&rest[value_len(rest)..])),
        (Token::Text(text), Token::Bare(found)) if text.starts_with("${num") => {
            let found = text::captured(text, known, found.as_bytes())?;
            found.is_some_and(|found| {
                captures.extend(found);
                true
            })
        }
        (Token::Text(text), Token::Text(found)) => {
            let text = text.replace('\\', "\\\\");
            let found = text::captured(&text, known, found.as_bytes())?;
            found.is_some_and(|found| {
                captures.extend(found);
                true
            })
        }
        _ => want == first,
    };
    Ok(fits.then_some(after))
}

/// How many tokens the first value has.
fn value_len(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{' | '[') => depth += 1,
            Token::Mark('}' | ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn tokens(json: &str) -> Option<Vec<Token>> {
    let (mut found, mut rest) = (Vec::new(), json.trim_start());
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '{' | '}' | '[' | ']' | ',' | ':' => {
                found.push(Token::Mark(first));
                1
            }
            '"' => {
                let len = string_len(rest)?;
                found.push(Token::Text(serde_json::from_str(&rest[..len]).ok()?));
                len
            }
            _ => {
                let ends = |c: char| "{}[],:\"".contains(c) || c.is_whitespace();
                let len = rest.find(ends).unwrap_or(rest.len());
                found.push(Token::Bare(String::from(&rest[..len])));
                len
            }
        };
        rest = rest[len..].trim_start();
    }
    Some(found)
}

/// The length of the string at the start of `json`, with both quotes.
fn string_len(json: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The members of an object in the order they stand, each value as its own text.
pub(crate) fn members(json: &str) -> Option<Vec<(String, String)>> {
    let tokens = tokens(json)?;
    let mut rest = tokens.strip_prefix(&[Token::Mark('{')])?;
    let mut found = Vec::new();
    while let [Token::Text(key), Token::Mark(':'), after @ ..] = rest {
        let len = value_len(after);
        found.push((key.clone(), text_of(&after[..len])?));
        rest = &after[len..];
        rest = rest.strip_prefix(&[Token::Mark(',')]).unwrap_or(rest);
    }
    (rest == [Token::Mark('}')]).then_some(found)
}

/// The keys of an object in the order they stand.
pub(crate) fn keys(json: &str) -> Option<Vec<String>> {
    Some(members(json)?.into_iter().map(|(key, _)| key).collect())
}

/// The items of a list, each as its own text.
pub(crate) fn items(json: &str) -> Option<Vec<String>> {
    let tokens = tokens(json)?;
    let mut rest = tokens.strip_prefix(&[Token::Mark('[')])?;
    let mut found = Vec::new();
    while rest.len() > 1 {
        let len = value_len(rest);
        found.push(text_of(&rest[..len])?);
        rest = &rest[len..];
        rest = rest.strip_prefix(&[Token::Mark(',')]).unwrap_or(rest);
    }
    (rest == [Token::Mark(']')]).then_some(found)
}

fn text_of(tokens: &[Token]) -> Option<String> {
    let mut out = String::new();
    for token in tokens {
        match token {
            Token::Mark(mark) => out.push(*mark),
            Token::Bare(bare) => out.push_str(bare),
            Token::Text(text) => out.push_str(&serde_json::to_string(text).ok()?),
        }
    }
    Some(out)
}

/// The same JSON with placeholders for what differs from run to run.
pub(crate) fn masked(json: &str) -> Option<String> {
    let tokens = tokens(json)?;
    let (mut out, mut at) = (String::new(), 0);
    while let Some(token) = tokens.get(at) {
        let key = match (tokens.get(at.wrapping_sub(2)), tokens.get(at.wrapping_sub(1))) {
            (Some(Token::Text(key)), Some(Token::Mark(':'))) => key.as_str(),
            _ => "",
        };
        let mask = match (key, token) {
            ("client" | "_nats.ver" | "server" | "server_id", _) => Some("${any}"),
            ("active" | "pause_remaining" | "ack_time", Token::Bare(value)) if value.len() > 3 => {
                Some("${num}")
            }
            ("id", Token::Text(id)) if id.len() == 22 => Some("${id}"),
            ("leader", Token::Text(_)) => Some("${id}"),
            _ => None,
        };
        if let Some(mask) = mask {
            out.push_str(&format!("\"{mask}\""));
            at += value_len(&tokens[at..]);
            continue;
        }
        match token {
            Token::Mark(mark) => out.push(*mark),
            Token::Bare(bare) => out.push_str(bare),
            Token::Text(text) => {
                out.push_str(&serde_json::to_string(&text::masked(text)).ok()?);
            }
        }
        at += 1;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, found: &str) -> bool {
        matches(pattern, &Known::default(), found).unwrap().is_some()
    }

    #[test]
    fn order_counts_and_blanks_and_escapes_do_not() {
        assert!(fits(r#"{"a":1,"b":">"}"#, r#"{ "a": 1, "b":"\u003e"}"#));
        assert!(!fits(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#));
        assert!(!fits(r#"{"a":1}"#, r#"{"a":1,"b":2}"#));
        assert!(!fits(r#"{"a":1}"#, r#"{"a":1.0}"#));
    }

    #[test]
    fn placeholders_stand_for_values() {
        assert!(fits(r#"{"a":"${any}","b":1}"#, r#"{"a":{"x":[1,{}]},"b":1}"#));
        assert!(fits(r#"{"a":"${num}"}"#, r#"{"a":17}"#));
        assert!(!fits(r#"{"a":"${num}"}"#, r#"{"a":true}"#));
        assert!(fits(r#"{"a":"x-${any}"}"#, r#"{"a":"x-y"}"#));
        assert!(fits(r#"{"a":"${time}"}"#, r#"{"a":"2026-01-02T03:04:05.6Z"}"#));
        assert!(!fits(r#"{"a":"${time}"}"#, r#"{"a":"0001-01-01T00:00:00Z"}"#));
    }

    #[test]
    fn masks_keep_everything_else() {
        let json = r#"{"id":"aaaaaaaaaaaaaaaaaaaaaa","client":{"a":[1]},"x":{"active":123456}}"#;
        let mask = r#"{"id":"${id}","client":"${any}","x":{"active":"${num}"}}"#;
        assert_eq!(masked(json).unwrap(), mask);
        assert!(fits(mask, json));
    }
}
