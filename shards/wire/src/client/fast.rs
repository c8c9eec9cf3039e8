//! The fast path of the parser: `PUB` and `HPUB` in the one shape that client libraries write,
//! with all of it in the buffer. Whatever is unusual is left to the general path, so nothing here
//! decides about errors.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::op::{Op, Step};
use super::parse::{ParseLimits, SIZE_DIGITS_MAX, parse_size};

/// A whole publish at the start of `input`, or `None` if the general path has to look.
///
/// Taken are: the verb in upper case, single blanks, CR LF at both ends, sizes within the limits.
#[inline]
pub(super) fn publish<'a>(input: &'a [u8], limits: &ParseLimits) -> Option<Step<'a>> {
    if let Some(args) = input.strip_prefix(b"PUB ") {
        let (fields, count, after) = fields(args, limits.max_control_line)?;
        let (subject, reply, total) = match (fields, count) {
            ([subject, total, ..], 2) => (subject, None, total),
            ([subject, reply, total, _], 3) => (subject, Some(reply), total),
            _ => return None,
        };
        return body(input, after, limits, (subject, reply, 0, parse_size(total)?));
    }
    let args = input.strip_prefix(b"HPUB ")?;
    if !limits.headers {
        return None;
    }
    let (fields, count, after) = fields(args, limits.max_control_line)?;
    let (subject, reply, header, total) = match (fields, count) {
        ([subject, header, total, _], 3) => (subject, None, header, total),
        ([subject, reply, header, total], 4) => (subject, Some(reply), header, total),
        _ => return None,
    };
    let (header_len, total_len) = (parse_size(header)?, parse_size(total)?);
    if header_len > total_len {
        return None;
    }
    body(input, after, limits, (subject, reply, header_len, total_len))
}

/// Fields, how many of them there are, and the bytes behind their line.
type Fields<'a> = ([&'a [u8]; 4], usize, &'a [u8]);

/// Two to four fields parted by single blanks, their number, and the bytes behind the CR LF.
#[inline]
fn fields(args: &[u8], line_max: usize) -> Option<Fields<'_>> {
    let mut fields: [&[u8]; 4] = [&[]; 4];
    let mut rest = args;
    for (at, slot) in fields.iter_mut().enumerate() {
        let end = field_end(rest)?;
        let (field, tail) = rest.split_at_checked(end)?;
        if field.is_empty() {
            return None;
        }
        *slot = field;
        match tail {
            [b' ', tail @ ..] => rest = tail,
            [b'\r', b'\n', after @ ..] => {
                let line_len = args.len().wrapping_sub(tail.len());
                let count = at.wrapping_add(1);
                return (line_len <= line_max).then_some((fields, count, after));
            }
            _ => return None,
        }
    }
    None
}

/// The operation, if the body and its CR LF are there.
#[inline]
fn body<'a>(
    input: &'a [u8],
    after: &'a [u8],
    limits: &ParseLimits,
    (subject, reply, header_len, total_len): (&'a [u8], Option<&'a [u8]>, usize, usize),
) -> Option<Step<'a>> {
    if total_len > limits.max_payload {
        return None;
    }
    let (body, end) = after.split_at_checked(total_len)?;
    let left = end.strip_prefix(b"\r\n")?;
    Some(Step::Op {
        op: Op::Pub { subject, reply, header_len, body },
        consumed: input.len().wrapping_sub(left.len()),
    })
}

/// Offset of the first byte at or below a blank.
///
/// Looks at eight bytes at a time. Subtracting 0x21 from each byte of a word borrows out of its
/// top bit exactly where the byte is smaller; a borrow can only disturb bytes behind the first
/// hit, and only the first hit is asked for.
#[inline]
fn field_end(text: &[u8]) -> Option<usize> {
    const LIMIT: u64 = 0x2121_2121_2121_2121;
    const TOP: u64 = 0x8080_8080_8080_8080;
    let (words, tail) = text.as_chunks::<8>();
    let mut before: usize = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let hits = word.wrapping_sub(LIMIT) & !word & TOP;
        if hits != 0 {
            return Some(before.wrapping_add((hits.trailing_zeros() >> 3) as usize));
        }
        before = before.wrapping_add(8);
    }
    let at = tail.iter().position(|&byte| byte <= b' ')?;
    Some(before.wrapping_add(at))
}

/// A whole plain publish that begins with `head`, which is `PUB`, the subject and a blank as an
/// earlier one had them: where the body begins, and the bytes of the operation. `None` if the
/// general path has to look; then nothing is said about the input.
///
/// The size has no leading zero, so what follows `head` is what an `MSG` carries behind its sid.
#[inline(always)]
#[must_use]
pub fn again(input: &[u8], head: &[u8], limits: &ParseLimits) -> Option<(usize, usize)> {
    let rest = input.strip_prefix(head)?;
    let mut size: usize = 0;
    let mut digits: usize = 0;
    loop {
        match rest.get(digits) {
            Some(digit @ b'0'..=b'9') if digits < SIZE_DIGITS_MAX => {
                size = size.wrapping_mul(10).wrapping_add(usize::from(digit & 15));
                digits = digits.wrapping_add(1);
            }
            Some(b'\r') => break,
            _ => return None,
        }
    }
    let zero_led = digits > 1 && rest.first() == Some(&b'0');
    let body_at = head.len().wrapping_add(digits).wrapping_add(2);
    let body_end = body_at.wrapping_add(size);
    let whole = digits > 0
        && !zero_led
        && size <= limits.max_payload
        && body_at <= limits.max_control_line
        && rest.get(digits.wrapping_add(1)) == Some(&b'\n')
        && input.get(body_end) == Some(&b'\r')
        && input.get(body_end.wrapping_add(1)) == Some(&b'\n');
    whole.then_some((body_at, body_end.wrapping_add(2)))
}
