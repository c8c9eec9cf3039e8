//! Placeholders and escapes in a transcript's lines, and the comparison with what came.

use crate::support::nkeys::UserKey;

/// What placeholders may refer to.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) cid: String,
    pub(crate) server_id: String,
    pub(crate) nonce: String,
}

/// A piece of a line.
#[derive(Debug, PartialEq)]
enum Piece {
    Bytes(Vec<u8>),
    /// Any run of bytes, at least one.
    Any,
}

/// The bytes to send for `text`.
pub(crate) fn bytes(text: &str, known: &Known) -> Result<Vec<u8>, String> {
    let mut sent = Vec::new();
    for piece in pieces(text, known)? {
        match piece {
            Piece::Bytes(more) => sent.extend_from_slice(&more),
            Piece::Any => return Err(String::from("${any} cannot be sent")),
        }
    }
    Ok(sent)
}

/// Whether `line` is what `text` wants.
pub(crate) fn matches(text: &str, known: &Known, line: &[u8]) -> Result<bool, String> {
    Ok(matches_pieces(&pieces(text, known)?, line))
}

fn matches_pieces(pieces: &[Piece], line: &[u8]) -> bool {
    match pieces.split_first() {
        None => line.is_empty(),
        Some((Piece::Bytes(want), rest)) => {
            line.strip_prefix(want.as_slice()).is_some_and(|line| matches_pieces(rest, line))
        }
        Some((Piece::Any, rest)) => {
            (1..=line.len()).any(|taken| matches_pieces(rest, &line[taken..]))
        }
    }
}

/// The configuration text with its placeholders filled in.
pub(crate) fn config(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("an open ${ in the configuration")?;
        out.push_str(before);
        out.push_str(&config_value(name)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn config_value(name: &str) -> Result<String, String> {
    if let Some(user) = name.strip_prefix("nkey:") {
        return Ok(UserKey::named(user).public());
    }
    if let Some(password) = name.strip_prefix("bcrypt:") {
        return bcrypt::hash(password, 4).map_err(|error| error.to_string());
    }
    Err(format!("unknown placeholder {name} in the configuration"))
}

fn pieces(text: &str, known: &Known) -> Result<Vec<Piece>, String> {
    let mut found = vec![Piece::Bytes(Vec::new())];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("${") {
            let (name, after) = after.split_once('}').ok_or("an open ${")?;
            rest = after;
            if name == "any" {
                found.extend([Piece::Any, Piece::Bytes(Vec::new())]);
            } else {
                push(&mut found, value(name, known)?.as_bytes());
            }
        } else if first == '\\' {
            let (byte, after) = escape(&rest[1..])?;
            push(&mut found, &[byte]);
            rest = after;
        } else {
            push(&mut found, first.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(found)
}

fn push(found: &mut [Piece], more: &[u8]) {
    if let Some(Piece::Bytes(bytes)) = found.last_mut() {
        bytes.extend_from_slice(more);
    }
}

fn escape(rest: &str) -> Result<(u8, &str), String> {
    let unknown = || format!("unknown escape before {rest:?}");
    let code = rest.chars().next().ok_or_else(unknown)?;
    let byte = match code {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let digits = rest.get(1..3).ok_or_else(unknown)?;
            let byte = u8::from_str_radix(digits, 16).map_err(|_| unknown())?;
            return Ok((byte, &rest[3..]));
        }
        _ => return Err(unknown()),
    };
    Ok((byte, &rest[1..]))
}

fn value(name: &str, known: &Known) -> Result<String, String> {
    if let Some(user) = name.strip_prefix("nkey:") {
        return Ok(UserKey::named(user).public());
    }
    if let Some(user) = name.strip_prefix("sig:") {
        return Ok(UserKey::named(user).sign(&known.nonce));
    }
    if let Some((text, count)) = name.rsplit_once('*') {
        let count: usize = count.parse().map_err(|_| format!("bad count in {name}"))?;
        return Ok(text.repeat(count));
    }
    match name {
        "cid" => Ok(known.cid.clone()),
        "server_id" => Ok(known.server_id.clone()),
        _ => Err(format!("unknown placeholder {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_placeholders_become_bytes() {
        let known = Known { cid: String::from("7"), ..Known::default() };
        assert_eq!(bytes(r"a\t${cid}\x00\\${ab*3}", &known).unwrap(), b"a\t7\0\\ababab");
        assert!(bytes("${any}", &known).is_err());
        assert!(bytes("${nobody}", &known).is_err());
        assert!(bytes(r"\q", &known).is_err());
    }

    #[test]
    fn any_takes_at_least_one_byte_and_the_rest_is_exact() {
        let known = Known::default();
        assert!(matches("MSG ${any} 1", &known, b"MSG abc 1").unwrap());
        assert!(!matches("MSG ${any} 1", &known, b"MSG  1").unwrap());
        assert!(!matches("PONG", &known, b"PONG ").unwrap());
    }

    #[test]
    fn keys_are_spelled_as_nats_spells_them() {
        let key = UserKey::named("alice");
        assert!(key.public().starts_with('U') && key.public().len() == 56);
        assert!(key.seed().starts_with("SU") && key.seed().len() == 58);
    }
}
