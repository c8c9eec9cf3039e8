//! An error of the JetStream API: what clients see in `error`.

use std::borrow::Cow;
use std::fmt::Display;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

pub use super::error_table::*;
use super::reader::Reader;
use super::value::{Fields, Value, read_fields};

/// One error. Clients compare `err_code` and show the description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiError {
    /// A code in the manner of HTTP.
    pub code: u16,
    /// The code of the table, 10002 and up; left out of the document if zero.
    pub err_code: u16,
    /// The text; left out of the document if empty.
    pub description: Cow<'static, str>,
}

impl ApiError {
    /// An error with a text that never changes.
    pub const fn fixed(code: u16, err_code: u16, description: &'static str) -> Self {
        Self { code, err_code, description: Cow::Borrowed(description) }
    }

    /// The error with the first place of its description filled.
    #[must_use]
    pub fn with(mut self, value: impl Display) -> Self {
        if let Some((head, _, tail)) = split_place(&self.description) {
            self.description = Cow::Owned(format!("{head}{value}{tail}"));
        }
        self
    }

    /// The error with both places of its description filled.
    #[must_use]
    pub fn with_pair(mut self, first: impl Display, second: impl Display) -> Self {
        if let Some((head, _, tail)) = split_place(&self.description)
            && let Some((middle, _, tail)) = split_place(tail)
        {
            self.description = Cow::Owned(format!("{head}{first}{middle}{second}{tail}"));
        }
        self
    }

    /// Whether this is the same error of the table, whatever the text says.
    pub const fn is(&self, other: &Self) -> bool {
        self.err_code == other.err_code
    }

    /// The error of the table with this `err_code`.
    pub fn of_code(err_code: u16) -> Option<&'static Self> {
        let at = ALL.binary_search_by_key(&err_code, |error| error.err_code).ok()?;
        ALL.get(at)
    }
}

/// The text before the first `{...}`, what stands in it, and the text behind it.
fn split_place(text: &str) -> Option<(&str, &str, &str)> {
    let (head, rest) = text.split_once('{')?;
    let (place, tail) = rest.split_once('}')?;
    Some((head, place, tail))
}

impl Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.description, self.err_code)
    }
}

impl std::error::Error for ApiError {}

impl Fields for ApiError {
    fn write<S: SerializeStruct>(&self, out: &mut S) -> Result<(), S::Error> {
        out.serialize_field("code", &self.code)?;
        if self.err_code != 0 {
            out.serialize_field("err_code", &self.err_code)?;
        }
        if !self.description.is_empty() {
            out.serialize_field("description", &self.description)?;
        }
        Ok(())
    }

    fn read_field(&mut self, key: &str, reader: &mut Reader<'_>) -> bool {
        match key {
            "code" => self.code.read(reader, "int"),
            "err_code" => self.err_code.read(reader, "uint16"),
            "description" => {
                let mut text = String::new();
                text.read(reader, "string");
                self.description = Cow::Owned(text);
            }
            _ => return false,
        }
        true
    }
}

impl Value for ApiError {
    const GO_NAME: &'static str = "server.ApiError";

    fn is_empty(&self) -> bool {
        false
    }

    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
        read_fields(self, reader, go);
    }
}

impl Serialize for ApiError {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut out = out.serialize_struct("ApiError", 1)?;
        self.write(&mut out)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_ordered() {
        assert_eq!(ALL.len(), 227);
        assert!(ALL.is_sorted_by(|a, b| a.err_code < b.err_code));
        assert!(ALL.iter().all(|error| matches!(error.code, 400..=599)));
        assert_eq!(ApiError::of_code(10_059), Some(&STREAM_NOT_FOUND));
        assert_eq!(ApiError::of_code(10_000), None);
        assert!(ALL.iter().all(|error| ApiError::of_code(error.err_code) == Some(error)));
    }

    #[test]
    fn places_are_filled() {
        let error = STREAM_WRONG_LAST_SEQUENCE.with(4);
        assert_eq!(error.description, "wrong last sequence: 4");
        assert!(error.is(&STREAM_WRONG_LAST_SEQUENCE));
        assert_eq!(INVALID_JSON.with("{err}").description, "invalid JSON: {err}");
        let error = STREAM_EXTERNAL_API_OVERLAP.with_pair("{subject}", "b");
        assert_eq!(
            error.description,
            "stream external api prefix {subject} must not overlap with b"
        );
        assert_eq!(STREAM_NOT_FOUND.with(1), STREAM_NOT_FOUND);
    }

    #[test]
    fn json() {
        assert_eq!(
            crate::json::to_go_string(&STREAM_NOT_FOUND),
            r#"{"code":404,"err_code":10059,"description":"stream not found"}"#
        );
    }
}
