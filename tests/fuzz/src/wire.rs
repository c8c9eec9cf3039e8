//! What must hold for any bytes whatever: the bodies of the fuzz targets for the wire crate.
//!
//! Each body takes the fuzzer's bytes and panics if a rule is broken. The same functions run with
//! seeded random input in `cargo test -p wire`, so that every change is checked without a fuzzer.

use wire::client::encode;
use wire::client::{Connect, Op, ParseError, ParseLimits, Step, parse};
use wire::{headers, json, nkey, subject, time};

/// An operation with bytes of its own, so that results of different buffers can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owned {
    /// Any verb but the publishes, as its debug text.
    Other(String),
    /// Subject, reply, header length, body.
    Pub(Vec<u8>, Option<Vec<u8>>, usize, Vec<u8>),
}

impl From<&Op<'_>> for Owned {
    fn from(op: &Op<'_>) -> Self {
        match *op {
            Op::Pub { subject, reply, header_len, body } => {
                Self::Pub(subject.to_vec(), reply.map(<[u8]>::to_vec), header_len, body.to_vec())
            }
            other => Self::Other(format!("{other:?}")),
        }
    }
}

/// Parses a stream that arrives in pieces, looking only when the parser said it helps, or one
/// byte earlier, which is when a wrong end of a payload shows. Answers
/// the operations, the error that ended it, and how many bytes were left if none did.
pub fn drive<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &ParseLimits,
) -> (Vec<Owned>, Option<ParseError>, usize) {
    let (mut buffer, mut need, mut ops) = (Vec::new(), 1, Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while !buffer.is_empty() && buffer.len() + 1 >= need {
            match parse(&buffer, limits) {
                Ok(Step::Op { op, consumed }) => {
                    assert!(consumed > 0 && consumed <= buffer.len());
                    ops.push(Owned::from(&op));
                    buffer.drain(..consumed);
                    need = 1;
                }
                Ok(Step::Incomplete { need: more }) => {
                    assert!(more > buffer.len(), "a look that cannot help was asked for");
                    assert!(more <= need_max(limits), "{more} bytes asked for");
                    need = more;
                    break;
                }
                Err(error) => return (ops, Some(error), 0),
            }
        }
    }
    (ops, None, buffer.len())
}

/// The most that `Incomplete` may ever ask for.
pub fn need_max(limits: &ParseLimits) -> usize {
    limits.max_control_line + limits.max_payload + 512
}

/// Limits from one byte, so that the fuzzer reaches all of them.
pub fn limits_from(byte: u8) -> ParseLimits {
    ParseLimits {
        max_control_line: if byte & 1 == 0 { 24 } else { 4096 },
        max_payload: if byte & 2 == 0 { 8 } else { 1 << 20 },
        headers: byte & 4 == 0,
        connect_only: byte & 0x38 == 0x38,
    }
}

/// The parser: any cut of the input gives the same operations, a prefix never promises what the
/// whole does not keep, the spelling of the verb does not matter.
pub fn parser(data: &[u8]) {
    let Some((&first, input)) = data.split_first() else {
        return;
    };
    let limits = limits_from(first);
    let whole = drive([input], &limits);
    assert_eq!(whole, drive(input.chunks(1), &limits), "byte by byte");
    let cut = usize::from(first) % (input.len() + 1);
    assert_eq!(whole, drive([&input[..cut], &input[cut..]], &limits), "cut at {cut}");
    let result = parse(input, &limits);
    check_spelling(input, &limits, &result);
    for len in 0..input.len().min(128) {
        check_prefix(&input[..len], &limits, &result);
    }
    if let Ok(Step::Op { op: Op::Connect { json }, .. }) = result {
        let _ = Connect::parse(json);
    }
    if let Ok(Step::Op { op: Op::Pub { subject, reply, header_len, body }, .. }) = result {
        check_round_trip(&limits, subject, reply, header_len, body);
    }
}

/// A prefix is incomplete, or already what the whole is.
fn check_prefix(prefix: &[u8], limits: &ParseLimits, whole: &Result<Step<'_>, ParseError>) {
    match (parse(prefix, limits), whole) {
        (Ok(Step::Incomplete { need }), Ok(Step::Op { consumed, .. })) => {
            assert!(need <= *consumed, "{need} asked for, {consumed} used");
        }
        (Ok(Step::Incomplete { .. }), _) => {}
        (early, whole) => assert_eq!(&early, whole, "at {}", prefix.len()),
    }
}

/// Another case of the verb's first letter takes the general path and must find the same.
fn check_spelling(input: &[u8], limits: &ParseLimits, result: &Result<Step<'_>, ParseError>) {
    let mut other = input.to_vec();
    if let Some(first) = other.first_mut() {
        first.make_ascii_lowercase();
    }
    let other = parse(&other, limits);
    match (&other, result) {
        (Ok(Step::Op { op: x, consumed: n }), Ok(Step::Op { op: y, consumed: m })) => {
            assert_eq!((Owned::from(x), n), (Owned::from(y), m))
        }
        (Ok(Step::Op { .. }), _) | (_, Ok(Step::Op { .. })) => {
            panic!("{other:?} is not {result:?}");
        }
        _ => assert_eq!(&other, result),
    }
}

/// What the server writes for a publish can be read back as a publish of the same values.
fn check_round_trip(
    limits: &ParseLimits,
    subject: &[u8],
    reply: Option<&[u8]>,
    header_len: usize,
    body: &[u8],
) {
    let header = (header_len > 0).then_some(header_len);
    let mut out = Vec::new();
    encode::push_msg(&mut out, subject, b"1", reply, header, body);
    // `MSG s 1 r n` differs from `PUB s r n` in the verb and the sid only.
    let (verb, skip) = if header.is_some() { ("HPUB ", 5) } else { ("PUB ", 4) };
    let mut publish = verb.as_bytes().to_vec();
    publish.extend_from_slice(subject);
    publish.extend_from_slice(&out[skip + subject.len() + 2..]);
    let limits = ParseLimits { max_control_line: 8192, ..*limits };
    let step = parse(&publish, &limits);
    assert_eq!(
        step,
        Ok(Step::Op { op: Op::Pub { subject, reply, header_len, body }, consumed: publish.len() })
    );
}

/// Header blocks: looking up never panics, setting can be read back and adds exactly one line,
/// removing leaves nothing, other keys are left alone.
pub fn headers(data: &[u8]) {
    let mut parts = data.splitn(3, |&b| b == 0);
    let key = parts.next().unwrap_or_default();
    let value = parts.next().unwrap_or_default();
    let block = parts.next().unwrap_or_default();
    let _ = (headers::status(block), headers::get(block, key), headers::iter(block).count());
    let well_formed = headers::is_well_formed(block);

    let mut changed = block.to_vec();
    if headers::set(&mut changed, key, value) && (well_formed || block.is_empty()) {
        let trimmed = value.iter().take_while(|&&b| b == b' ' || b == b'\t').count();
        assert_eq!(headers::get(&changed, key), Some(&value[trimmed..]));
        assert!(headers::is_well_formed(&changed));
        let count = headers::iter(&changed).filter(|&(found, _)| found == key).count();
        assert_eq!(count, 1);
        let others = |block: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
            headers::iter(block)
                .filter(|&(found, _)| found != key)
                .map(|(key, value)| (key.to_vec(), value.to_vec()))
                .collect()
        };
        assert_eq!(others(block), others(&changed));
    }
    headers::remove(&mut changed, key);
    assert_eq!(headers::get(&changed, key), None);
    if well_formed {
        assert!(changed.is_empty() || headers::is_well_formed(&changed));
    }
}

/// Subjects: the three relations hold together for any pair of byte strings.
pub fn subject(data: &[u8]) {
    let cut = data.iter().position(|&b| b == b' ').unwrap_or(data.len());
    let (a, b) = (&data[..cut], data.get(cut + 1..).unwrap_or_default());
    assert_eq!(subject::overlaps(a, b), subject::overlaps(b, a));
    assert_eq!(subject::token_count(a), subject::tokens(a).count());
    if subject::is_valid_publish(a) {
        assert!(subject::is_literal(a) && subject::is_valid_subscribe(a));
        assert!(subject::matches(a, a) && subject::matches(b">", a));
    }
    if subject::is_valid_subscribe(a) && subject::is_valid_subscribe(b) {
        assert!(subject::is_subset(a, a) && subject::overlaps(a, a));
        if subject::is_subset(a, b) {
            assert!(subject::overlaps(a, b), "a subset without a common subject");
        }
        if subject::is_subset(a, b) && subject::is_subset(b, a) {
            assert_eq!(a, b);
        }
        if subject::is_literal(b) {
            assert_eq!(subject::matches(a, b), subject::overlaps(a, b));
            assert_eq!(subject::matches(a, b), subject::is_subset(b, a));
        }
    }
}

/// CONNECT documents: never a panic, the same answer twice, nothing secret in the debug text.
pub fn connect(data: &[u8]) {
    let Ok(first) = Connect::parse(data) else {
        return;
    };
    let mut second = first.clone();
    assert_eq!(second.merge(data), Ok(()), "what was read once is read again");
    assert_eq!(first, second, "and changes nothing more");
    let shown = format!("{first:?}");
    let hidden = [&first.pass, &first.auth_token, &first.jwt, &first.sig, &first.proxy_sig];
    for secret in hidden.into_iter().flatten() {
        // Short texts occur in the names of the fields.
        assert!(
            secret.expose().len() < 16
                || !shown.contains(secret.expose())
                || is_shown(&first, secret.expose())
        );
    }
}

/// Whether a text also stands in a field that is no secret.
fn is_shown(connect: &Connect, text: &str) -> bool {
    let open = [
        &connect.lang,
        &connect.version,
        &connect.name,
        &connect.user,
        &connect.nkey,
        &connect.account,
    ];
    open.into_iter().flatten().any(|field| format!("{field:?}").contains(text))
}

/// Keys and durations: what can be read is written back the same way.
pub fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok((kind, key)) = nkey::decode_public(&text) {
        assert_eq!(nkey::encode_public(kind, &key), text);
    }
    if let Ok((kind, seed)) = nkey::decode_seed(&text) {
        assert_eq!(nkey::encode_seed(kind, &seed).expose(), text);
    }
    if let Ok(nanos) = time::parse_go_duration(&text) {
        assert_eq!(time::parse_go_duration(&time::format_go_duration(nanos)), Ok(nanos));
    }
    let json = json::to_go_string(text.as_ref());
    assert_eq!(serde_json::from_str::<String>(&json).ok().as_deref(), Some(text.as_ref()));
    let (head, _) = data.split_at(data.len().min(12));
    let mut bytes = [0; 12];
    bytes[..head.len()].copy_from_slice(head);
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    let secs = i64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let shown = time::format_rfc3339(secs, u32::from_le_bytes([i, j, k, l]));
    assert!(shown.len() <= 30 && shown.ends_with('Z'));
}
