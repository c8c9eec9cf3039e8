//! The syntax of JSON as nats-server checks it: where a value ends, or what is wrong and where.
//!
//! Depth is counted, never recursed into, so that a hostile document costs no stack.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use thiserror::Error;

use super::quote::{quote_char, quote_escape};

/// Objects and lists that may stand inside each other, as in Go's decoder.
pub(super) const DEPTH_MAX: usize = 10_000;

/// What is wrong with a document's syntax.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum SyntaxError {
    /// The bytes end inside a value.
    #[error("unexpected end of JSON input")]
    End,
    /// A byte that cannot stand where it stands.
    #[error("{text}")]
    At {
        /// What Go's decoder says about it.
        text: String,
        /// Bytes of the document up to and with the culprit.
        offset: usize,
    },
}

/// Where a value may begin, what may follow it: the state between two tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// Behind `[`: a value or the end.
    FirstElement,
    /// Behind `{`: a key or the end.
    FirstKey,
    /// Behind a comma in an object.
    Key,
    Colon,
    /// Behind a value inside an object or a list.
    CommaOrEnd,
}

/// Walks over one document.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// One entry for each open container: whether it is an object.
    open: Vec<bool>,
}

/// The offset behind white space that starts at `from`.
pub(super) fn skip_blanks(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
    from.saturating_add(blanks)
}

/// The offset behind the value that starts at `from`; white space before it is passed over.
///
/// # Errors
///
/// What is wrong with the value's syntax. Offsets count from the start of `text`.
pub(super) fn scan_value(text: &[u8], from: usize) -> Result<usize, SyntaxError> {
    let mut scanner = Scanner { text, at: from, open: Vec::new() };
    scanner.run()?;
    Ok(scanner.at)
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), SyntaxError> {
        let mut expect = Expect::Value;
        loop {
            self.at = skip_blanks(self.text, self.at);
            let byte = self.peek()?;
            expect = match (expect, byte) {
                (Expect::FirstElement, b']') | (Expect::FirstKey, b'}') => self.close(),
                (Expect::Value | Expect::FirstElement, _) => self.begin_value(byte)?,
                (Expect::FirstKey | Expect::Key, b'"') => {
                    self.scan_string()?;
                    Expect::Colon
                }
                (Expect::FirstKey | Expect::Key, _) => {
                    return Err(self.bad("looking for beginning of object key string"));
                }
                (Expect::Colon, b':') => {
                    self.step();
                    Expect::Value
                }
                (Expect::Colon, _) => return Err(self.bad("after object key")),
                (Expect::CommaOrEnd, _) => self.after_value(byte)?,
            };
            if self.open.is_empty() && expect == Expect::CommaOrEnd {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Result<u8, SyntaxError> {
        self.text.get(self.at).copied().ok_or(SyntaxError::End)
    }

    const fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn close(&mut self) -> Expect {
        self.open.pop();
        self.step();
        Expect::CommaOrEnd
    }

    fn begin_value(&mut self, byte: u8) -> Result<Expect, SyntaxError> {
        match byte {
            b'{' | b'[' => {
                if self.open.len() >= DEPTH_MAX {
                    let offset = self.at.saturating_add(1);
                    return Err(SyntaxError::At { text: "exceeded max depth".to_owned(), offset });
                }
                self.open.push(byte == b'{');
                self.step();
                return Ok(if byte == b'{' { Expect::FirstKey } else { Expect::FirstElement });
            }
            b'"' => self.scan_string()?,
            b't' => self.scan_literal("true")?,
            b'f' => self.scan_literal("false")?,
            b'n' => self.scan_literal("null")?,
            b'-' | b'0'..=b'9' => self.scan_number()?,
            _ => return Err(self.bad("looking for beginning of value")),
        }
        Ok(Expect::CommaOrEnd)
    }

    fn after_value(&mut self, byte: u8) -> Result<Expect, SyntaxError> {
        let in_object = self.open.last().copied().unwrap_or_default();
        match byte {
            b',' => {
                self.step();
                Ok(if in_object { Expect::Key } else { Expect::Value })
            }
            b'}' if in_object => Ok(self.close()),
            b']' if !in_object => Ok(self.close()),
            _ if in_object => Err(self.bad("after object key:value pair")),
            _ => Err(self.bad("after array element")),
        }
    }

    /// The error about the character at the cursor.
    fn bad(&self, context: &str) -> SyntaxError {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let (shown, len) = quote_char(rest);
        SyntaxError::At {
            text: format!("invalid character {shown} {context}"),
            offset: self.at.saturating_add(len),
        }
    }

    fn scan_literal(&mut self, word: &str) -> Result<(), SyntaxError> {
        for letter in word.bytes() {
            if self.peek()? != letter {
                let context = format!("in literal {word} (expecting '{}')", char::from(letter));
                return Err(self.bad(&context));
            }
            self.step();
        }
        Ok(())
    }

    fn skip_digits(&mut self) -> usize {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at = self.at.saturating_add(digits);
        digits
    }

    /// At least one digit.
    fn need_digits(&mut self) -> Result<(), SyntaxError> {
        if self.skip_digits() == 0 {
            self.peek()?;
            return Err(self.bad("in numeric literal"));
        }
        Ok(())
    }

    fn scan_number(&mut self) -> Result<(), SyntaxError> {
        if self.text.get(self.at) == Some(&b'-') {
            self.step();
        }
        if self.text.get(self.at) == Some(&b'0') {
            self.step();
        } else {
            self.need_digits()?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.step();
            self.need_digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.step();
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.step();
            }
            self.need_digits()?;
        }
        Ok(())
    }

    fn scan_string(&mut self) -> Result<(), SyntaxError> {
        self.step();
        loop {
            match self.peek()? {
                b'"' => {
                    self.step();
                    return Ok(());
                }
                b'\\' => self.scan_escape()?,
                0..=0x1f => return Err(self.bad("in string")),
                _ => self.step(),
            }
        }
    }

    fn scan_escape(&mut self) -> Result<(), SyntaxError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let letter = rest.get(1).copied().ok_or(SyntaxError::End)?;
        let len = match letter {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' => {
                let digits = rest.get(2..).unwrap_or_default();
                let digits = digits.get(..4).unwrap_or(digits);
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.bad_escape(rest, 6));
                }
                if digits.len() < 4 {
                    return Err(SyntaxError::End);
                }
                6
            }
            _ => return Err(self.bad_escape(rest, 2)),
        };
        self.at = self.at.saturating_add(len);
        Ok(())
    }

    fn bad_escape(&self, rest: &[u8], len: usize) -> SyntaxError {
        let sequence = rest.get(..len).unwrap_or(rest);
        SyntaxError::At {
            text: format!("invalid escape sequence {} in string", quote_escape(sequence)),
            offset: self.at.saturating_add(sequence.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(text: &str) -> Result<usize, SyntaxError> {
        scan_value(text.as_bytes(), 0)
    }

    #[test]
    fn finds_the_end_of_a_value() {
        for (text, end) in [
            ("{} x", 2),
            (" [1, 2.5e-3 ,\"a\\\"]\"]", 20),
            ("null", 4),
            ("-0", 2),
            ("01", 1),
            ("{\"a\":{\"b\":[]}}", 14),
            ("\"\\u12aF\"", 8),
        ] {
            assert_eq!(end_of(text), Ok(end), "{text}");
        }
    }

    #[test]
    fn depth_is_limited_without_recursion() {
        let deep = "[".repeat(DEPTH_MAX);
        assert_eq!(end_of(&deep), Err(SyntaxError::End));
        let text = "exceeded max depth".to_owned();
        let deeper = "[".repeat(5_000_000);
        assert_eq!(end_of(&deeper), Err(SyntaxError::At { text, offset: 10_001 }));
        let closed = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert_eq!(end_of(&closed), Ok(20_000));
    }
}
