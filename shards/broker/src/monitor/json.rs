//! JSON text as Go's `encoding/json` writes it: the same escapes, number forms and indentation,
//! so that a reply can be compared byte by byte with nats-server's.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Renders `value` with an indent of two blanks, as most monitoring endpoints do.
pub(crate) fn indented<T: Serialize>(value: &T) -> Vec<u8> {
    written(value, PrettyFormatter::with_indent(b"  "))
}

/// Renders `value` with an indent of three blanks, as `/ipqueuesz` and `/raftz` do.
pub(crate) fn indented_by_three<T: Serialize>(value: &T) -> Vec<u8> {
    written(value, PrettyFormatter::with_indent(b"   "))
}

/// Renders `value` without any white space, as `/healthz` does.
pub(crate) fn compact<T: Serialize>(value: &T) -> Vec<u8> {
    written(value, CompactFormatter)
}

fn written<T: Serialize, F: Formatter>(value: &T, layout: F) -> Vec<u8> {
    let mut text = Vec::with_capacity(1024);
    let mut serializer = Serializer::with_formatter(&mut text, GoText { layout });
    // Writing to a Vec cannot fail and no type of this folder refuses to be serialized (all map
    // keys are strings); should that ever change, a visible `{}` is better than half an object.
    if value.serialize(&mut serializer).is_err() {
        return b"{}".to_vec();
    }
    text
}

/// A serde_json formatter with Go's text rules around any layout.
struct GoText<F> {
    layout: F,
}

impl<F: Formatter> Formatter for GoText<F> {
    /// Go writes whole floats without a fraction (`2`, not `2.0`) and uses an exponent only
    /// below 1e-6 and from 1e21 on.
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size != 0.0 && !(1e-6..1e21).contains(&size) {
            let text = format!("{value:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, places) = match exponent.strip_prefix('-') {
                Some(places) => ('-', places),
                None => ('+', exponent),
            };
            return write!(writer, "{digits}e{sign}{places:0>2}");
        }
        write!(writer, "{value}")
    }

    /// Go also escapes the characters that are dangerous inside HTML and JavaScript.
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (clean, tail) = rest.split_at(at);
            writer.write_all(clean.as_bytes())?;
            let mut letters = tail.chars();
            if let Some(special) = letters.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = letters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.layout.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.layout.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_object_value(writer)
    }
}

/// For `skip_serializing_if`: an integer that Go would leave out.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn text<T: Serialize>(value: &T) -> String {
        String::from_utf8(compact(value)).unwrap()
    }

    #[test]
    fn strings_escape_as_go_does() {
        assert_eq!(text(&"n<1>&é"), r#""n\u003c1\u003e\u0026é""#);
        assert_eq!(text(&"a\"b\\c\n\t\r\u{8}\u{c}\u{1}\u{7f}"), "\"a\\\"b\\\\c\\n\\t\\r\\b\\f\\u0001\u{7f}\"");
        assert_eq!(text(&"\u{2028}x\u{2029}"), r#""\u2028x\u2029""#);
        assert_eq!(text(&"😀/"), r#""😀/""#);
    }

    #[test]
    fn floats_have_go_forms() {
        for (value, expected) in [
            (2.0, "2"),
            (0.0, "0"),
            (1.5, "1.5"),
            (0.40625, "0.40625"),
            (0.888_888_888_888_888_8, "0.8888888888888888"),
            (1e-7, "1e-07"),
            (1e-6, "0.000001"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (-3.25, "-3.25"),
        ] {
            assert_eq!(text(&value), expected);
        }
    }

    #[test]
    fn layout_matches_go() {
        let mut map: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        assert_eq!(indented(&map), b"{}");
        map.insert("a", vec![]);
        map.insert("b", vec![1, 2]);
        let expected = "{\n  \"a\": [],\n  \"b\": [\n    1,\n    2\n  ]\n}";
        assert_eq!(String::from_utf8(indented(&map)).unwrap(), expected);
    }
}
