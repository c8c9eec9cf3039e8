//! Frames of publishes: plain, in an atomic batch, in a fast-ingest batch.

use std::io::Write as _;

/// Which subjects messages go to.
#[derive(Clone, Debug)]
pub enum Names {
    /// All to one.
    One(String),
    /// Message `n` goes to `prefix.(n mod count)`.
    Numbered {
        /// What stands before the number.
        prefix: String,
        /// How many there are.
        count: u64,
    },
}

impl Names {
    /// Appends the subject of message `n`.
    pub fn put(&self, n: u64, out: &mut Vec<u8>) {
        match self {
            Self::One(subject) => out.extend_from_slice(subject.as_bytes()),
            Self::Numbered { prefix, count } => {
                // Writing into a Vec cannot fail.
                let _ = write!(out, "{prefix}.{}", n % (*count).max(1));
            }
        }
    }
}

/// Appends the payload of message `n`: the number, if there is room, then filling.
fn put_payload(n: u64, filling: &[u8], out: &mut Vec<u8>) {
    let stamp = n.to_le_bytes();
    match filling.get(stamp.len()..) {
        Some(rest) => {
            out.extend_from_slice(&stamp);
            out.extend_from_slice(rest);
        }
        None => out.extend_from_slice(filling),
    }
    out.extend_from_slice(b"\r\n");
}

/// The number that a payload carries.
#[must_use]
pub fn stamp_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk::<8>().map(|c| u64::from_le_bytes(*c))
}

/// Appends message `n` as a plain publish whose reply subject ends in `token`, as the mux
/// inboxes of the clients do.
pub fn put_plain(
    names: &Names,
    n: u64,
    inbox: &str,
    token: u32,
    filling: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"PUB ");
    names.put(n, out);
    out.push(b' ');
    out.extend_from_slice(inbox.as_bytes());
    out.push(b'.');
    put_token(token, out);
    let _ = write!(out, " {}\r\n", filling.len());
    put_payload(n, filling, out);
}

/// Appends eight hexadecimal digits.
fn put_token(token: u32, out: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for place in (0..8).rev() {
        let digit = (token >> (place * 4)) & 15;
        out.push(DIGITS.get(digit as usize).copied().unwrap_or(b'0'));
    }
}

/// The token at the end of a reply subject.
#[must_use]
pub fn token_of(subject: &[u8]) -> Option<u32> {
    let digits = subject.last_chunk::<8>()?;
    digits.iter().try_fold(0_u32, |n, b| {
        let digit = char::from(*b).to_digit(16)?;
        Some((n << 4) | digit)
    })
}

/// Appends message `n` as number `place` (from 1) of the atomic batch `id`; only the message
/// that commits asks for a reply, with the batch's token.
#[allow(clippy::too_many_arguments, reason = "each is a part of the frame")]
pub fn put_atomic(
    names: &Names,
    n: u64,
    id: u32,
    place: usize,
    commit: Option<&str>,
    filling: &[u8],
    headers: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    headers.clear();
    let _ =
        write!(headers, "NATS/1.0\r\nNats-Batch-Id: {id:08x}\r\nNats-Batch-Sequence: {place}\r\n");
    if commit.is_some() {
        headers.extend_from_slice(b"Nats-Batch-Commit: 1\r\n");
    }
    headers.extend_from_slice(b"\r\n");
    out.extend_from_slice(b"HPUB ");
    names.put(n, out);
    if let Some(inbox) = commit {
        let _ = write!(out, " {inbox}.{id:08x}");
    }
    let _ = write!(out, " {} {}\r\n", headers.len(), headers.len() + filling.len());
    out.extend_from_slice(headers);
    put_payload(n, filling, out);
}

/// What a message does to its fast-ingest batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opens it.
    Start = 0,
    /// Belongs to it.
    Append = 1,
    /// Belongs to it and ends it.
    Commit = 2,
}

/// Appends message `n` as number `place` (from 1) of the fast-ingest batch at `inbox`, which
/// asks for a word after every `flow` messages and fails on a gap.
pub fn put_ingest(
    names: &Names,
    n: u64,
    inbox: &str,
    flow: usize,
    (place, operation): (u64, Operation),
    filling: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"PUB ");
    names.put(n, out);
    let (operation, size) = (operation as u8, filling.len());
    let _ = write!(out, " {inbox}.{flow}.fail.{place}.{operation}.$FI {size}\r\n");
    put_payload(n, filling, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::op::{Op, parse};

    const FILLING: [u8; 12] = [b'x'; 12];

    #[test]
    fn plain_frames() {
        let names = Names::Numbered { prefix: "a".into(), count: 3 };
        let mut out = Vec::new();
        put_plain(&names, 4, "_IN", 0x1f, &FILLING, &mut out);
        let want = [&b"PUB a.1 _IN.0000001f 12\r\n"[..], &4_u64.to_le_bytes(), b"xxxx\r\n"];
        assert_eq!(out, want.concat());
        assert_eq!(token_of(b"_IN.0000001f"), Some(0x1f));
        assert_eq!(token_of(b"_IN.0000zz1f"), None);
        assert_eq!(token_of(b"short"), None);
        let (mut small, names) = (Vec::new(), Names::One("s".into()));
        put_plain(&names, 4, "_IN", 1, b"ab", &mut small);
        assert_eq!(small, b"PUB s _IN.00000001 2\r\nab\r\n");
        assert_eq!(stamp_of(&7_u64.to_le_bytes()), Some(7));
        assert_eq!(stamp_of(b"ab"), None);
    }

    #[test]
    fn atomic_frames_have_right_lengths() {
        let names = Names::One("s".into());
        let (mut headers, mut out) = (Vec::new(), Vec::new());
        put_atomic(&names, 0, 9, 1, None, &FILLING, &mut headers, &mut out);
        put_atomic(&names, 1, 9, 2, Some("_IN"), &FILLING, &mut headers, &mut out);
        // What the server sends looks the same but for the verb and the subscription id.
        let text = String::from_utf8_lossy(&out).replace("HPUB s", "HMSG s 1");
        let (op, used) = parse(text.as_bytes()).unwrap().unwrap();
        let Op::Msg { headers, reply, payload, .. } = op else { panic!("{op:?}") };
        assert_eq!((reply, payload.len()), (None, 12));
        assert!(headers.ends_with(b"Nats-Batch-Sequence: 1\r\n\r\n"));
        let (op, _) = parse(&text.as_bytes()[used..]).unwrap().unwrap();
        let Op::Msg { headers, reply, .. } = op else { panic!("{op:?}") };
        assert_eq!(reply, Some(&b"_IN.00000009"[..]));
        assert!(headers.ends_with(b"Nats-Batch-Commit: 1\r\n\r\n"));
    }

    #[test]
    fn ingest_frames() {
        let names = Names::One("s".into());
        let mut out = Vec::new();
        put_ingest(&names, 0, "_IN.u", 50, (7, Operation::Append), b"ab", &mut out);
        assert_eq!(out, b"PUB s _IN.u.50.fail.7.1.$FI 2\r\nab\r\n");
    }
}
