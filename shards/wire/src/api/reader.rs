//! A cursor over JSON whose syntax has been checked, which knows the way from the root and keeps
//! the first mistake in the types of the values.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::fmt::Write;

use super::scan::skip_blanks;

/// One step on the way from the root to a value.
enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

/// What a value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    Text,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
    /// Anything else, since the syntax is right.
    Number,
}

impl Kind {
    /// The word of Go's errors for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::Text => "string",
            Self::Bool => "bool",
            Self::Null => "null",
            Self::Number => "number",
        }
    }
}

/// The cursor. Every `read_*` and `skip` moves it behind one value.
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// Whether keys that nobody knows are mistakes.
    strict: bool,
    /// Go's name of the type that is decoded, `server.` in front.
    root: &'static str,
    path: Vec<Step<'a>>,
    error: Option<String>,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `text`, which must be one value of right syntax.
    pub(super) const fn new(text: &'a [u8], strict: bool, root: &'static str) -> Self {
        Self { text, at: 0, strict, root, path: Vec::new(), error: None }
    }

    /// The first mistake, if there was one.
    pub(super) fn into_error(self) -> Option<String> {
        self.error
    }

    /// What the next value is.
    pub fn kind(&mut self) -> Kind {
        self.skip_blanks();
        match self.text.get(self.at) {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::Text,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Passes the next value over and answers its bytes.
    pub fn skip(&mut self) -> &'a [u8] {
        self.skip_blanks();
        let from = self.at;
        let mut depth = 0_usize;
        loop {
            self.skip_blanks();
            match self.text.get(self.at) {
                None => break,
                Some(b'"') => self.skip_text(),
                Some(b'{' | b'[') => {
                    depth = depth.saturating_add(1);
                    self.step();
                    continue;
                }
                Some(b'}' | b']') => {
                    depth = depth.saturating_sub(1);
                    self.step();
                }
                Some(b',' | b':') => {
                    self.step();
                    continue;
                }
                Some(_) => self.skip_word(),
            }
            if depth == 0 {
                break;
            }
        }
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Notes a mistake unless there is one already.
    pub fn fail(&mut self, text: String) {
        self.error.get_or_insert(text);
    }

    /// Passes the next value over and notes that it does not fit the Go type `wanted`.
    pub fn mismatch(&mut self, wanted: &str) {
        let what = self.kind().word();
        self.skip();
        self.fail_type(what, wanted);
    }

    /// Notes that a value described by `what` does not fit the Go type `wanted`.
    pub fn fail_type(&mut self, what: &str, wanted: &str) {
        if self.error.is_some() {
            return;
        }
        if self.path.is_empty() {
            self.fail(format!("json: cannot unmarshal {what} into Go value of type {wanted}"));
            return;
        }
        let (path, last) = self.path_text();
        let is_index = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
        let into = if is_index { "" } else { "Go struct field " };
        let root = self.root.strip_prefix("server.").unwrap_or(self.root);
        self.fail(format!(
            "json: cannot unmarshal {what} into {into}{root}{path} of type {wanted}"
        ));
    }

    /// The way from the root with a `.` before each step, and what stands behind its last `.`.
    fn path_text(&self) -> (String, String) {
        let mut path = String::new();
        for step in &self.path {
            // Writing to a String cannot fail.
            let _ = match step {
                // The way is kept as a JSON pointer, which has its own escapes.
                Step::Key(key) => write!(path, ".{}", key.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => write!(path, ".{index}"),
            };
        }
        let last = path.rsplit('.').next().unwrap_or_default().to_owned();
        (path, last)
    }

    /// Reads an object: `field` gets each key and must read the value or answer false if it does
    /// not know the key. The caller has seen that an object is next.
    pub fn read_object(&mut self, mut field: impl FnMut(&str, &mut Self) -> bool) {
        self.enter();
        while !self.leaves(b'}') {
            let key = self.read_text();
            self.skip_blanks();
            self.step();
            self.path.push(Step::Key(key.clone()));
            let known = field(&key, self);
            self.path.pop();
            if !known {
                self.skip();
                if self.strict {
                    self.fail(format!("json: unknown field \"{}\"", key.escape_field()));
                }
            }
        }
    }

    /// Reads a list: `element` must read the value with the given index. The caller has seen that
    /// a list is next.
    pub fn read_array(&mut self, mut element: impl FnMut(usize, &mut Self)) {
        self.enter();
        let mut index = 0_usize;
        while !self.leaves(b']') {
            self.path.push(Step::Index(index));
            element(index, self);
            self.path.pop();
            index = index.saturating_add(1);
        }
    }

    /// Reads a text; what is not UTF-8 and lone surrogates become U+FFFD.
    pub fn read_text(&mut self) -> Cow<'a, str> {
        self.skip_blanks();
        let from = self.at.saturating_add(1);
        self.skip_text();
        let raw = self.text.get(from..self.at.saturating_sub(1)).unwrap_or_default();
        if memchr::memchr(b'\\', raw).is_none() {
            return String::from_utf8_lossy(raw);
        }
        Cow::Owned(unescape(raw))
    }

    /// Passes `{` or `[`.
    fn enter(&mut self) {
        self.skip_blanks();
        self.step();
    }

    /// Passes a comma, or the end of the container and then answers true.
    fn leaves(&mut self, end: u8) -> bool {
        self.skip_blanks();
        match self.text.get(self.at) {
            Some(b',') => {
                self.step();
                self.skip_blanks();
                false
            }
            Some(&byte) if byte == end => {
                self.step();
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    fn skip_blanks(&mut self) {
        self.at = skip_blanks(self.text, self.at);
    }

    const fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn skip_text(&mut self) {
        self.step();
        while let Some(&byte) = self.text.get(self.at) {
            self.step();
            match byte {
                b'"' => return,
                b'\\' => self.step(),
                _ => {}
            }
        }
    }

    /// Passes a number or a literal.
    fn skip_word(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_word = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let len = rest.iter().take_while(is_word).count();
        self.at = self.at.saturating_add(len.max(1));
    }
}

/// How Go shows the name of a field that it does not know.
trait EscapeField {
    fn escape_field(&self) -> String;
}

impl EscapeField for Cow<'_, str> {
    fn escape_field(&self) -> String {
        let quoted = super::quote::quote_bytes(self.as_bytes());
        quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
    }
}

/// The text that an escaped JSON text stands for.
fn unescape(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escape.chars();
        match chars.next() {
            Some('b') => out.push('\x08'),
            Some('f') => out.push('\x0c'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let (found, tail) = unescape_unicode(chars.as_str());
                out.push(found);
                rest = tail;
                continue;
            }
            Some(other) => out.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// The character of the four digits behind `\u`, with a second escape if it takes two.
fn unescape_unicode(text: &str) -> (char, &str) {
    let (unit, rest) = hex4(text);
    if let Some(found) = char::from_u32(unit) {
        return (found, rest);
    }
    if let Some(second) = rest.strip_prefix("\\u") {
        let (low, tail) = hex4(second);
        let pair = [unit, low].map(|unit| u16::try_from(unit).unwrap_or_default());
        if let Some(Ok(found)) = char::decode_utf16(pair).next() {
            return (found, tail);
        }
    }
    (char::REPLACEMENT_CHARACTER, rest)
}

fn hex4(text: &str) -> (u32, &str) {
    let (digits, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    (u32::from_str_radix(digits, 16).unwrap_or_default(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping() {
        for (text, rest) in [
            (r#"{"a":[1,{"b":"}]"}]} x"#, 2),
            ("12.5e3,", 1),
            ("\"a\\\"b\"]", 1),
            ("null", 0),
            ("[] ]", 2),
            ("{}}", 1),
        ] {
            let mut reader = Reader::new(text.as_bytes(), true, "x");
            assert_eq!(reader.skip().len(), text.len() - rest, "{text}");
        }
    }

    #[test]
    fn texts() {
        for (json, text) in [
            (r#""a""#, "a"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\x08\x0c\n\r\t"),
            (r#""\u00e9\ud83d\ude00x""#, "é😀x"),
            (r#""\ud800x""#, "\u{fffd}x"),
            (r#""\ud800\u0041""#, "\u{fffd}A"),
            (r#""\udc00\ud800""#, "\u{fffd}\u{fffd}"),
        ] {
            let mut reader = Reader::new(json.as_bytes(), true, "x");
            assert_eq!(reader.read_text(), text, "{json}");
        }
    }
}
