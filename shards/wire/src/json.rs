//! JSON as Go's encoder writes it, so that documents have nats-server's bytes: `<`, `>` and `&`
//! escaped, whole floats without a point, the indented form of the monitoring pages.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter, Serializer};

/// The value as compact JSON. Empty if the value cannot be written at all, which plain structs,
/// maps with text keys and lists always can.
pub fn to_go_string<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = Vec::new();
    push(&mut out, value);
    String::from_utf8(out).unwrap_or_default()
}

/// The value as JSON indented by two blanks, as the monitoring pages show it.
pub fn to_go_string_pretty<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = Vec::new();
    push_pretty(&mut out, value);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the value as compact JSON; appends nothing if it cannot be written.
pub fn push<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    let mut writer = Serializer::with_formatter(&mut *out, GoCompact);
    if value.serialize(&mut writer).is_err() {
        out.truncate(before);
    }
}

/// Appends the value as indented JSON; appends nothing if it cannot be written.
pub fn push_pretty<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    let mut writer = Serializer::with_formatter(&mut *out, GoPretty::default());
    if value.serialize(&mut writer).is_err() {
        out.truncate(before);
    }
}

/// Compact layout with Go's spelling of text and floats.
struct GoCompact;

/// Indented layout with Go's spelling of text and floats.
#[derive(Default)]
struct GoPretty(PrettyFormatter<'static>);

impl Formatter for GoCompact {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write_float(writer, value)
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, w: &mut W, s: &str) -> io::Result<()> {
        write_fragment(w, s)
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, w: &mut W, e: CharEscape) -> io::Result<()> {
        write_escape(w, &e)
    }
}

impl Formatter for GoPretty {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write_float(writer, value)
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, w: &mut W, s: &str) -> io::Result<()> {
        write_fragment(w, s)
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, w: &mut W, e: CharEscape) -> io::Result<()> {
        write_escape(w, &e)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_array(w)
    }

    fn end_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array(w)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(w, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_array_value(w)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object(w)
    }

    fn end_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object(w)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(w, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.begin_object_value(w)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.0.end_object_value(w)
    }
}

/// Text between escapes; Go also escapes what HTML and JavaScript would misread.
fn write_fragment<W: ?Sized + Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    let mut from = 0;
    for (at, found) in fragment.char_indices() {
        let escaped = match found {
            '<' => "\\u003c",
            '>' => "\\u003e",
            '&' => "\\u0026",
            '\u{2028}' => "\\u2028",
            '\u{2029}' => "\\u2029",
            _ => continue,
        };
        writer.write_all(fragment.get(from..at).unwrap_or_default().as_bytes())?;
        writer.write_all(escaped.as_bytes())?;
        from = at + found.len_utf8();
    }
    writer.write_all(fragment.get(from..).unwrap_or_default().as_bytes())
}

/// Go has short escapes for the same characters; only the rest goes through `\u00xx`.
fn write_escape<W: ?Sized + Write>(writer: &mut W, escape: &CharEscape) -> io::Result<()> {
    let short: &[u8] = match escape {
        CharEscape::Quote => b"\\\"",
        CharEscape::ReverseSolidus => b"\\\\",
        CharEscape::Solidus => b"\\/",
        CharEscape::Backspace => b"\\b",
        CharEscape::FormFeed => b"\\f",
        CharEscape::LineFeed => b"\\n",
        CharEscape::CarriageReturn => b"\\r",
        CharEscape::Tab => b"\\t",
        CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
    };
    writer.write_all(short)
}

/// The shortest digits that read back as the same number; an exponent only below 1e-6 and from
/// 1e21 on.
fn write_float<W: ?Sized + Write>(writer: &mut W, value: f64) -> io::Result<()> {
    let size = value.abs();
    if size != 0.0 && size < 1e-6 {
        return write!(writer, "{value:e}");
    }
    if size < 1e21 {
        return write!(writer, "{value}");
    }
    let text = format!("{value:e}").replace('e', "e+");
    writer.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_text_like_go() {
        assert_eq!(to_go_string("a<b>&c"), r#""a\u003cb\u003e\u0026c""#);
        assert_eq!(
            to_go_string("é\u{2028}\"\\/\n\t\u{1}\u{7f}"),
            "\"é\\u2028\\\"\\\\/\\n\\t\\u0001\u{7f}\""
        );
        assert_eq!(to_go_string("\u{8}\u{c}\r"), r#""\b\f\r""#);
    }

    #[test]
    fn spells_floats_like_go() {
        let cases = [
            (0.0, "0"),
            (2.0, "2"),
            (0.5, "0.5"),
            (-1.25, "-1.25"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (0.000_001, "0.000001"),
        ];
        for (number, text) in cases {
            assert_eq!(to_go_string(&number), text);
        }
    }

    #[test]
    fn indents_by_two_blanks() {
        let value = serde_json::json!({"a": [1, 2], "b": {}, "c": [], "d": "<"});
        let lines = [
            "{",
            "  \"a\": [",
            "    1,",
            "    2",
            "  ],",
            "  \"b\": {},",
            "  \"c\": [],",
            "  \"d\": \"\\u003c\"",
            "}",
        ];
        let text = lines.join("\n");
        assert_eq!(to_go_string_pretty(&value), text);
    }
}
