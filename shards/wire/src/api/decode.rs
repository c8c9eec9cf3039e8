//! From the bytes of a request to its value, with nats-server's words for every mistake.
//!
//! ```text
//!   bytes ──▶ scan: syntax, depth ──▶ reader: keys and types ──▶ value
//!                    │                        │
//!                    └──── first mistake ─────┴──▶ text for `invalid JSON: {text}`
//! ```
//!
//! A request may hold several documents one after the other; each is read into the same value. An
//! empty request reads as a value with all its defaults.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use thiserror::Error;

use super::reader::Reader;
use super::scan::{SyntaxError, scan_value, skip_blanks};
use super::value::Value;

/// Why a request could not be decoded, in nats-server's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// How strictly requests are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Unknown keys are refused. The default of nats-server since 2.12.
    Strict,
    /// Unknown keys are passed over (`strict: false`).
    Lax,
}

/// Decodes the body of an API request.
///
/// # Errors
///
/// The first mistake, as nats-server words it behind `invalid JSON: `.
pub fn decode_request<T: Value>(body: &[u8], mode: Mode) -> Result<T, DecodeError> {
    match (decode_all(body), mode) {
        (Ok(value), _) => Ok(value),
        (Err(error), Mode::Strict) => Err(error),
        (Err(_), Mode::Lax) => decode_document(body),
    }
}

/// Decodes bytes that hold exactly one document and passes unknown keys over, as is done with the
/// bodies of acknowledgements and with stored metadata.
///
/// # Errors
///
/// The first mistake, in Go's words.
pub fn decode_document<T: Value>(body: &[u8]) -> Result<T, DecodeError> {
    decode_single(body, T::GO_NAME)
}

/// As [`decode_document`], for places where nats-server's errors do not name the type.
///
/// # Errors
///
/// As [`decode_document`].
pub fn decode_unnamed<T: Value>(body: &[u8]) -> Result<T, DecodeError> {
    decode_single(body, "")
}

fn decode_single<T: Value>(body: &[u8], root: &'static str) -> Result<T, DecodeError> {
    let text_of = |error: SyntaxError| DecodeError(error.to_string());
    let end = scan_value(body, 0).map_err(text_of)?;
    let behind = skip_blanks(body, end);
    if let Some(rest) = body.get(behind..).filter(|rest| !rest.is_empty()) {
        let (shown, _) = super::quote::quote_char(rest);
        return Err(DecodeError(format!("invalid character {shown} after top-level value")));
    }
    let mut value = T::default();
    read_into(&mut value, body, false, root)?;
    Ok(value)
}

/// Whether a request says nothing: no bytes, or an object without members.
pub fn is_empty_request(body: &[u8]) -> bool {
    if body.is_empty() {
        return true;
    }
    let open = skip_blanks(body, 0);
    if body.get(open) != Some(&b'{') {
        return false;
    }
    let close = skip_blanks(body, open.saturating_add(1));
    body.get(close) == Some(&b'}') && skip_blanks(body, close.saturating_add(1)) == body.len()
}

/// Whether a request looks like JSON: its first byte that is not blank opens an object or a list.
/// Some requests have a plain form, which is used for everything else.
pub fn looks_like_json(body: &[u8]) -> bool {
    matches!(body.get(skip_blanks(body, 0)), Some(b'{' | b'['))
}

/// Decodes every document of a request into one value.
fn decode_all<T: Value>(body: &[u8]) -> Result<T, DecodeError> {
    let mut value = T::default();
    let mut at = skip_blanks(body, 0);
    while at < body.len() {
        let end = scan_value(body, at).map_err(|error| match error {
            SyntaxError::End => DecodeError("unexpected EOF".to_owned()),
            SyntaxError::At { text, offset } => DecodeError(format!("{text} at offset {offset}")),
        })?;
        read_into(&mut value, body.get(at..end).unwrap_or_default(), true, T::GO_NAME)?;
        at = skip_blanks(body, end);
    }
    Ok(value)
}

fn read_into<T: Value>(
    value: &mut T,
    text: &[u8],
    strict: bool,
    root: &'static str,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(text, strict, root);
    value.read(&mut reader, T::GO_NAME);
    reader.into_error().map_or(Ok(()), |text| Err(DecodeError(text)))
}
