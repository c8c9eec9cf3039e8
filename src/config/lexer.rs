//! Reads the words of a configuration text: keys, scalar values, comments and the marks between
//! them, and keeps count of lines and columns.
//!
//! The grammar is nats-server's, with its habits: an unquoted word may hold almost anything, a
//! number that goes on with letters is a word, `1m` is a million. Two habits are not kept: `]`
//! ends a number (there it becomes part of a word), and a size that does not fit 64 bits is an
//! error (there it wraps around).

use std::sync::Arc;

use super::error::{Finding, Pos};
use super::value::Value;

/// What a scalar turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar {
    /// A finished value.
    Value(Value),
    /// `$name`, still to be looked up.
    Variable(String),
}

/// A place in the text with what is needed to name it.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
    /// Offset of the line feed before the current line, 0 on the first line.
    line_start: usize,
    file: Arc<str>,
}

/// A blank inside a line.
pub(super) fn is_blank(c: u8) -> bool {
    c == b' ' || c == b'\t'
}

/// The end of a line.
pub(super) fn is_newline(c: u8) -> bool {
    c == b'\n' || c == b'\r'
}

fn is_separator(c: u8) -> bool {
    c == b'=' || c == b':'
}

/// What ends an unquoted word.
fn ends_word(c: u8) -> bool {
    is_newline(c) || is_blank(c) || matches!(c, b';' | b',' | b']' | b'}')
}

/// Bytes to text; a byte that is not UTF-8 becomes the replacement character.
fn to_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8], file: &Arc<str>) -> Self {
        Self { text, at: 0, line: 1, line_start: 0, file: Arc::clone(file) }
    }

    /// The next byte, without taking it.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// Takes one byte.
    pub(super) fn take(&mut self) -> Option<u8> {
        let c = self.peek()?;
        if c == b'\n' {
            self.line += 1;
            self.line_start = self.at;
        }
        self.at += 1;
        Some(c)
    }

    /// Takes the byte `c` if it is next.
    pub(super) fn take_if(&mut self, c: u8) -> bool {
        let hit = self.peek() == Some(c);
        if hit {
            self.take();
        }
        hit
    }

    /// The place of the next byte.
    pub(super) fn here(&self) -> Pos {
        self.place(self.line, self.at, self.line_start)
    }

    fn place(&self, line: u32, offset: usize, line_start: usize) -> Pos {
        Pos::new(&self.file, line, u32::try_from(offset.saturating_sub(line_start)).unwrap_or(0))
    }

    /// The place of a scalar inside an array that began on the line of `start` and whose text,
    /// escapes resolved, has `length` bytes.
    fn scalar_place(&self, end: usize, line_start: usize, length: usize) -> Pos {
        self.place(self.line, end.saturating_sub(length), line_start)
    }

    /// A grammar error at the next byte.
    pub(super) fn error(&self, text: &str) -> Finding {
        let text = format!("Parse error on line {}: '{text}'", self.line);
        Finding::grammar(&self.here(), text)
    }

    /// A grammar error that complains about the next character.
    pub(super) fn unexpected(&mut self, before: &str, after: &str) -> Finding {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let shown = match to_text(rest.get(..4.min(rest.len())).unwrap_or_default()).chars().next()
        {
            None => "EOF".to_string(),
            Some('\n') => "\\n".to_string(),
            Some(c) => c.to_string(),
        };
        self.take();
        self.error(&format!("{before}{shown}{after}"))
    }

    /// Passes over blanks of a line.
    pub(super) fn skip_blanks(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.take();
        }
    }

    /// Passes over any white space, line ends included.
    pub(super) fn skip_space(&mut self) {
        while let Some(width) = self.space_width() {
            for _ in 0..width {
                self.take();
            }
        }
    }

    /// How many bytes of white space come next, as one character.
    fn space_width(&self) -> Option<usize> {
        match self.peek()? {
            b'\t'..=b'\r' | b' ' => Some(1),
            // The two that Latin-1 has beside those of ASCII.
            0xc2 if matches!(self.peek_at(1), Some(0x85 | 0xa0)) => Some(2),
            0xe1..=0xe3 => {
                let three = self.text.get(self.at..self.at + 3)?;
                let c = std::str::from_utf8(three).ok()?.chars().next()?;
                c.is_whitespace().then_some(3)
            }
            _ => None,
        }
    }

    /// Takes a comment if one begins here, up to the end of its line.
    pub(super) fn comment(&mut self) -> bool {
        let begins = match self.peek() {
            Some(b'#') => true,
            Some(b'/') => self.peek_at(1) == Some(b'/'),
            _ => false,
        };
        while begins && self.peek().is_some_and(|c| !is_newline(c)) {
            self.take();
        }
        begins
    }

    /// Takes a key: its text, its place, and whether it was the word `include` and a blank.
    /// Inside a map some errors read a little differently.
    pub(super) fn key(&mut self, in_map: bool) -> Result<(String, Pos, bool), Finding> {
        match self.peek() {
            Some(c) if is_separator(c) => {
                let after = if in_map { "'." } else { "'" };
                return Err(self.unexpected("Unexpected key separator '", after));
            }
            Some(quote @ (b'"' | b'\'')) => {
                self.take();
                let (start, line_start) = (self.at, self.line_start);
                while self.peek() != Some(quote) {
                    if self.take().is_none() {
                        let text = "Unexpected EOF processing quoted map key.";
                        return Err(self.error(if in_map { text } else { "Unexpected EOF." }));
                    }
                }
                let key = to_text(self.text.get(start..self.at).unwrap_or_default());
                let pos = self.place(self.line, start, line_start);
                self.take();
                return Ok((key, pos, false));
            }
            _ => {}
        }
        let start = self.at;
        let pos = self.here();
        self.take();
        while self.peek().is_some_and(|c| !is_separator(c)) && self.space_width().is_none() {
            self.take();
        }
        let key = to_text(self.text.get(start..self.at).unwrap_or_default());
        let include = self.space_width().is_some() && key.eq_ignore_ascii_case("include");
        Ok((key, pos, include))
    }

    /// Passes over what stands between a key and its value; true when there was a `:` or `=`.
    pub(super) fn key_separator(&mut self) -> bool {
        self.skip_space();
        let found = self.peek().is_some_and(is_separator);
        if found {
            self.take();
        }
        found
    }

    /// Takes the file name of an `include`.
    pub(super) fn include_path(&mut self) -> Result<String, Finding> {
        self.skip_blanks();
        let quote = match self.peek() {
            Some(q @ (b'"' | b'\'')) => Some(q),
            _ => None,
        };
        let refused = match self.peek() {
            Some(b'[') => Some("start of an array"),
            Some(b'{') => Some("start of a map"),
            Some(b'(') => Some("start of a block"),
            Some(b'0'..=b'9' | b'-') => Some("start of a number"),
            Some(b'\\') => Some("escape sequence"),
            Some(c) if is_newline(c) => Some("new line"),
            None => Some("EOF"),
            _ => None,
        };
        if let Some(what) = refused {
            return Err(self.error(&format!("Expected include value but found {what}")));
        }
        if quote.is_some() {
            self.take();
        }
        let start = self.at;
        loop {
            match (self.peek(), quote) {
                (None, Some(_)) => return Err(self.error("Unexpected EOF in quoted include")),
                (None, None) => break,
                (Some(c), Some(q)) if c == q => break,
                (Some(b'\''), None) => break,
                (Some(c), None) if is_newline(c) || is_blank(c) || c == b';' || c == b'}' => break,
                _ => self.take(),
            };
        }
        let path = to_text(self.text.get(start..self.at).unwrap_or_default());
        if quote.is_some() || self.peek() == Some(b'\'') {
            self.take();
        }
        Ok(path)
    }

    /// Takes a scalar value and gives it with the place it has inside an array.
    pub(super) fn scalar(&mut self) -> Result<(Scalar, Pos), Finding> {
        match self.peek() {
            Some(b'\'') => self.raw_string(),
            Some(b'"') => self.quoted_string(),
            Some(b'(') => self.block_string(),
            Some(b'-') => self.negative(),
            Some(b'0'..=b'9') => self.number_or_word(),
            Some(b'.') => Err(self.error("Floats must start with a digit")),
            Some(c) if is_newline(c) => {
                self.take();
                Err(self.error("Expected value but found new line"))
            }
            _ => self.word(self.at),
        }
    }

    /// A finished string of the bytes from `start` to here.
    fn string_from(&self, start: usize, line_start: usize) -> (Scalar, Pos) {
        let bytes = self.text.get(start..self.at).unwrap_or_default();
        let pos = self.scalar_place(self.at, line_start, bytes.len());
        (Scalar::Value(Value::Text(to_text(bytes))), pos)
    }

    fn raw_string(&mut self) -> Result<(Scalar, Pos), Finding> {
        self.take();
        let (start, line_start) = (self.at, self.line_start);
        while self.peek() != Some(b'\'') {
            if self.take().is_none() {
                return Err(self.error("Unexpected EOF."));
            }
        }
        let found = self.string_from(start, line_start);
        self.take();
        Ok(found)
    }

    fn quoted_string(&mut self) -> Result<(Scalar, Pos), Finding> {
        self.take();
        let line_start = self.line_start;
        let mut bytes = Vec::new();
        loop {
            match self.take() {
                Some(b'"') => break,
                Some(b'\\') => bytes.push(self.escape()?),
                Some(c) => bytes.push(c),
                None => return Err(self.error("Unexpected EOF.")),
            }
        }
        let pos = self.scalar_place(self.at - 1, line_start, bytes.len());
        Ok((Scalar::Value(Value::Text(to_text(&bytes))), pos))
    }

    /// A string in parentheses; the closing one stands alone on its line.
    fn block_string(&mut self) -> Result<(Scalar, Pos), Finding> {
        self.take();
        let (start, line_start) = (self.at, self.line_start);
        loop {
            let opens_line = self.at > start && self.text.get(self.at - 1) == Some(&b'\n');
            match (self.peek(), self.peek_at(1)) {
                (None, _) => return Err(self.error("Unexpected EOF processing block.")),
                (Some(b')'), Some(b'\n')) if opens_line => {
                    let found = self.string_from(start, line_start);
                    self.take();
                    return Ok(found);
                }
                // At the very end of the text nats-server keeps the parenthesis.
                (Some(b')'), None) if opens_line => {
                    self.take();
                    return Ok(self.string_from(start, line_start));
                }
                _ => self.take(),
            };
        }
    }

    fn negative(&mut self) -> Result<(Scalar, Pos), Finding> {
        let start = self.at;
        self.take();
        match self.peek() {
            Some(b'0'..=b'9') => {}
            Some(b'.') => return Err(self.error("Floats must start with a digit, not '.'.")),
            _ => return Err(self.unexpected("Expected a digit but got '", "'.")),
        }
        self.take_digits();
        match self.peek() {
            Some(b'.') => self.fraction(start),
            Some(c) if is_suffix(c) => self.suffix(start),
            _ => self.integer(start),
        }
    }

    fn number_or_word(&mut self) -> Result<(Scalar, Pos), Finding> {
        let start = self.at;
        self.take_digits();
        match self.peek() {
            Some(b'-') if self.at - start == 4 => self.date(start),
            Some(b'-') => Err(self.error("All ISO8601 dates must be in full Zulu form.")),
            Some(b'.') => self.fraction(start),
            Some(c) if is_suffix(c) => self.suffix(start),
            Some(c) if !ends_word(c) => {
                // The first byte after the digits is taken as it is, even a backslash.
                self.take();
                self.word(start)
            }
            _ => self.integer(start),
        }
    }

    fn take_digits(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.take();
        }
    }

    /// After the digits: a letter that may be a size suffix, or the middle of a word.
    fn suffix(&mut self, start: usize) -> Result<(Scalar, Pos), Finding> {
        self.take();
        while matches!(self.peek(), Some(b'b' | b'B' | b'i' | b'I')) {
            self.take();
        }
        match self.peek() {
            Some(c) if c == b']' || !ends_word(c) => self.word(start),
            _ => self.integer(start),
        }
    }

    fn integer(&mut self, start: usize) -> Result<(Scalar, Pos), Finding> {
        let bytes = self.text.get(start..self.at).unwrap_or_default();
        let text = to_text(bytes);
        let value = size(&text).map_err(|text| Finding::grammar(&self.here(), text))?;
        let pos = self.scalar_place(self.at, self.line_start, bytes.len());
        Ok((Scalar::Value(Value::Int(value)), pos))
    }

    /// After the digits and before a dot: a float, or an address such as `127.0.0.1:4222`.
    fn fraction(&mut self, start: usize) -> Result<(Scalar, Pos), Finding> {
        self.take();
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return Err(
                self.unexpected("Floats must have a digit after the '.', but got '", "' instead.")
            );
        }
        self.take_digits();
        if self.peek() == Some(b'.') {
            while matches!(self.peek(), Some(b'0'..=b'9' | b'.' | b':' | b'-')) {
                self.take();
            }
            return Ok(self.string_from(start, self.line_start));
        }
        let text = to_text(self.text.get(start..self.at).unwrap_or_default());
        match text.parse::<f64>() {
            Ok(x) if x.is_finite() => {
                let pos = self.scalar_place(self.at, self.line_start, text.len());
                Ok((Scalar::Value(Value::Float(x)), pos))
            }
            _ => {
                let text = format!("float '{text}' is out of the range");
                Err(Finding::grammar(&self.here(), text))
            }
        }
    }

    /// After a year: the rest of a date and time in Zulu form.
    fn date(&mut self, start: usize) -> Result<(Scalar, Pos), Finding> {
        for want in b"-00-00T00:00:00Z" {
            let is_digit = self.peek().is_some_and(|c| c.is_ascii_digit());
            if *want == b'0' && !is_digit {
                return Err(self
                    .unexpected("Expected digit in ISO8601 datetime, but found '", "' instead."));
            }
            if *want != b'0' && self.peek() != Some(*want) {
                let before =
                    format!("Expected '{}' in ISO8601 datetime, but found '", char::from(*want));
                return Err(self.unexpected(&before, "' instead."));
            }
            self.take();
        }
        let text = to_text(self.text.get(start..self.at).unwrap_or_default());
        if !is_date(&text) {
            let text = format!("expected Zulu formatted DateTime, but got '{text}'");
            return Err(Finding::grammar(&self.here(), text));
        }
        let pos = self.scalar_place(self.at, self.line_start, text.len());
        Ok((Scalar::Value(Value::Date(text)), pos))
    }

    /// An unquoted word that began at `start`; what stands before here is already part of it.
    fn word(&mut self, start: usize) -> Result<(Scalar, Pos), Finding> {
        let line_start = self.line_start;
        let mut bytes = self.text.get(start..self.at).unwrap_or_default().to_vec();
        let mut escaped = false;
        while let Some(c) = self.peek() {
            if ends_word(c) || c == b'\'' {
                break;
            }
            self.take();
            if c == b'\\' {
                escaped = true;
                bytes.push(self.escape()?);
            } else {
                bytes.push(c);
            }
        }
        let pos = self.scalar_place(self.at, line_start, bytes.len());
        // A closing quote ends the word too, and such a word is always text.
        if self.take_if(b'\'') || escaped {
            return Ok((Scalar::Value(Value::Text(to_text(&bytes))), pos));
        }
        let text = to_text(&bytes);
        let name_pos = Pos { column: pos.column + 1, ..pos.clone() };
        let scalar = match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Scalar::Value(Value::Bool(true)),
            "false" | "no" | "off" => Scalar::Value(Value::Bool(false)),
            _ => match text.strip_prefix('$') {
                Some(name) => return Ok((Scalar::Variable(name.to_string()), name_pos)),
                None => Scalar::Value(Value::Text(text)),
            },
        };
        Ok((scalar, pos))
    }

    /// After a backslash: the byte that the escape stands for.
    fn escape(&mut self) -> Result<u8, Finding> {
        match self.peek() {
            Some(b't') => self.escaped(b'\t'),
            Some(b'n') => self.escaped(b'\n'),
            Some(b'r') => self.escaped(b'\r'),
            Some(b'"') => self.escaped(b'"'),
            Some(b'\\') => self.escaped(b'\\'),
            Some(b'x') => {
                self.take();
                let digits = self.text.get(self.at..self.at + 2).unwrap_or_default();
                let digits = to_text(digits);
                let is_hex = digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_hexdigit());
                let Some(byte) = u8::from_str_radix(&digits, 16).ok().filter(|_| is_hex) else {
                    return Err(self.error(&format!(
                        "Expected two hexadecimal digits after '\\x', but got '{digits}'"
                    )));
                };
                self.take();
                self.escaped(byte)
            }
            _ => Err(self.unexpected(
                "Invalid escape character '",
                "'. Only the following escape characters are allowed: \\xXX, \\t, \\n, \\r, \
                 \\\", \\\\.",
            )),
        }
    }

    fn escaped(&mut self, byte: u8) -> Result<u8, Finding> {
        self.take();
        Ok(byte)
    }
}

fn is_suffix(c: u8) -> bool {
    matches!(c.to_ascii_lowercase(), b'k' | b'm' | b'g' | b't' | b'p' | b'e')
}

/// An integer with its suffix multiplied in: `k` is 1000, `kb`, `ki` and `kib` are 1024.
fn size(text: &str) -> Result<i64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let out_of_range = || format!("integer '{text}' is out of the range");
    let number: i64 = digits.parse().map_err(|_| out_of_range())?;
    let suffix = suffix.to_ascii_lowercase();
    let power = match suffix.as_bytes().first() {
        None => 0,
        Some(c) => 1 + b"kmgtpe".iter().position(|k| k == c).unwrap_or(0),
    };
    let base: i64 = match suffix.get(1..).unwrap_or_default() {
        "" => 1000,
        "b" | "i" | "ib" => 1024,
        _ => return Err(format!("expected integer, but got '{text}'")),
    };
    let factor = (0..power).try_fold(1i64, |product, _| product.checked_mul(base));
    factor.and_then(|f| number.checked_mul(f)).ok_or_else(out_of_range)
}

/// Whether a text of the form `2016-05-04T18:53:41Z` names a day that exists.
fn is_date(text: &str) -> bool {
    let part = |from: usize, to: usize| text.get(from..to).and_then(|s| s.parse::<u32>().ok());
    let parts = (part(0, 4), part(5, 7), part(8, 10), part(11, 13), part(14, 16), part(17, 19));
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = parts else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60
}
