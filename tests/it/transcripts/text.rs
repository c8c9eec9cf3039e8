//! Placeholders and escapes in a transcript's lines, and the comparison with what came.

use std::collections::HashMap;

use crate::support::nkeys::UserKey;

/// What placeholders may refer to.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) cid: String,
    pub(crate) server_id: String,
    pub(crate) nonce: String,
    /// What earlier placeholders took, by the name they gave it.
    pub(crate) kept: HashMap<String, String>,
}

/// The texts that placeholders with a name took.
pub(crate) type Captures = Vec<(String, String)>;

/// Which bytes a run may have.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Any,
    Digits,
    /// Letters and digits, as in the names that servers and clients draw.
    Word,
    /// A time in RFC 3339, in UTC, not the zero time.
    Time,
}

impl Kind {
    fn allows(self, run: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Digits => run.iter().all(u8::is_ascii_digit),
            Self::Word => run.iter().all(u8::is_ascii_alphanumeric),
            Self::Time => {
                let known = |byte: &u8| byte.is_ascii_digit() || b"-:.TZ".contains(byte);
                run.len() >= 20 && run.starts_with(b"20") && run.iter().all(known)
            }
        }
    }
}

/// A piece of a line.
#[derive(Debug, PartialEq)]
enum Piece {
    Bytes(Vec<u8>),
    /// Any run of bytes of a kind, at least one, and the name to keep it under.
    Run(Kind, String),
}

/// The bytes to send for `text`.
pub(crate) fn bytes(text: &str, known: &Known) -> Result<Vec<u8>, String> {
    let mut sent = Vec::new();
    for piece in pieces(text, known)? {
        match piece {
            Piece::Bytes(more) => sent.extend_from_slice(&more),
            Piece::Run(..) => return Err(String::from("${any} cannot be sent")),
        }
    }
    Ok(sent)
}

/// Whether `line` is what `text` wants.
pub(crate) fn matches(text: &str, known: &Known, line: &[u8]) -> Result<bool, String> {
    Ok(captured(text, known, line)?.is_some())
}

/// What the placeholders of `text` took, if `line` is what it wants.
pub(crate) fn captured(text: &str, known: &Known, line: &[u8]) -> Result<Option<Captures>, String> {
    let mut captures = Captures::new();
    let fits = matches_pieces(&pieces(text, known)?, line, &mut captures);
    captures.reverse();
    Ok(fits.then_some(captures))
}

fn matches_pieces(pieces: &[Piece], line: &[u8], captures: &mut Captures) -> bool {
    match pieces.split_first() {
        None => line.is_empty(),
        Some((Piece::Bytes(want), rest)) => {
            let line = line.strip_prefix(want.as_slice());
            line.is_some_and(|line| matches_pieces(rest, line, captures))
        }
        Some((Piece::Run(kind, name), rest)) => {
            let fits = (1..=line.len())
                .take_while(|taken| *kind == Kind::Time || kind.allows(&line[..*taken]))
                .filter(|taken| kind.allows(&line[..*taken]))
                .find(|taken| matches_pieces(rest, &line[*taken..], captures));
            if let Some(taken) = fits
                && !name.is_empty()
            {
                let text = String::from_utf8_lossy(&line[..taken]).into_owned();
                captures.push((name.clone(), text));
            }
            fits.is_some()
        }
    }
}

/// These bytes as a transcript writes them.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\r' => out.push_str("\\r"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\\' => out.push_str("\\\\"),
                c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                c => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

/// The text with placeholders for the times of now, for nanoseconds and for drawn identifiers.
pub(crate) fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let time = rest.find(|c: char| !c.is_ascii_digit() && !"-:.TZ".contains(c));
        let time = &rest[..time.unwrap_or(rest.len())];
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let taken = if word == 22 && digits < 22 {
            out.push_str("${id}");
            word
        } else if Kind::Time.allows(time.as_bytes()) && is_now(time) {
            out.push_str("${time}");
            time.len()
        } else if digits == 19 {
            out.push_str("${num}");
            digits
        } else if word > 0 {
            out.push_str(&rest[..word]);
            word
        } else {
            out.push(first);
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    out
}

/// Whether a time is of this year by the clock, as opposed to one that a transcript itself names.
fn is_now(time: &str) -> bool {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let year = 1970 + since.unwrap_or_default().as_secs() / 31_556_952;
    time.starts_with(&format!("{year}-"))
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
            let (kind, kept) = name.split_once('=').unwrap_or((name, ""));
            if let Some(kind) = kind_named(kind) {
                let run = Piece::Run(kind, String::from(kept));
                found.extend([run, Piece::Bytes(Vec::new())]);
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

fn kind_named(name: &str) -> Option<Kind> {
    Some(match name {
        "any" => Kind::Any,
        "num" => Kind::Digits,
        "id" => Kind::Word,
        "time" => Kind::Time,
        _ => return None,
    })
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
    if let Some(text) = known.kept.get(name) {
        return Ok(text.clone());
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
