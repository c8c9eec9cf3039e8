//! Distinguished names: what a certificate's subject says, what a user name in the
//! configuration says, and when the two are the same.
//!
//! Text follows RFC 2253/4514: the most specific part first, `,` between parts, `+` between the
//! attributes of one part, `\` before special characters or as two hexadecimal digits.
//! Types compare without regard to case, values byte by byte: a user is never found by a
//! spelling that merely resembles the certificate's.

use x509_parser::der_parser::asn1_rs::{Any, FromDer, Tag, ToDer};
use x509_parser::x509::X509Name;

/// Attribute types with a short name in RFC 4514 or common use, as `(name, oid)`.
const TYPES: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("POSTALCODE", "2.5.4.17"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

/// The value of an attribute. What is no text never equals a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Any of the string types, decoded.
    Text(String),
    /// Anything else, in DER.
    Der(Vec<u8>),
}

/// One `type=value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    /// A short name of the table above in capitals, or the dotted number.
    pub kind: String,
    /// Its value.
    pub value: Value,
}

/// A name as a list of relative names, most specific first; each has its attributes sorted,
/// as their order has no meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName {
    rdns: Vec<Vec<Attribute>>,
}

impl DistinguishedName {
    /// The subject of a certificate, with every attribute it has.
    pub fn from_subject(subject: &X509Name<'_>) -> Self {
        let mut rdns: Vec<Vec<Attribute>> = subject
            .iter_rdn()
            .map(|rdn| {
                let attributes = rdn.iter().map(|attribute| Attribute {
                    kind: short_name(&attribute.attr_type().to_id_string()),
                    value: any_value(attribute.attr_value()),
                });
                sorted(attributes.collect())
            })
            .collect();
        rdns.reverse();
        Self { rdns }
    }

    /// A name written as text; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rdns = Vec::new();
        let mut attributes = Vec::new();
        let mut rest = text;
        loop {
            let (attribute, end) = parse_attribute(rest)?;
            attributes.push(attribute);
            let Some((separator, tail)) = end else {
                rdns.push(sorted(attributes));
                return Some(Self { rdns });
            };
            if separator == ',' {
                rdns.push(sorted(std::mem::take(&mut attributes)));
            }
            rest = tail;
        }
    }

    /// Whether there is no attribute at all.
    pub fn is_empty(&self) -> bool {
        self.rdns.is_empty()
    }

    /// Whether both have the same relative names, each as often, in any order.
    pub fn has_same_rdns(&self, other: &Self) -> bool {
        let order = |name: &Self| {
            let mut rdns = name.rdns.clone();
            rdns.sort_unstable();
            rdns
        };
        self.rdns.len() == other.rdns.len() && order(self) == order(other)
    }

    /// The RFC 2253 text, most specific part first.
    pub fn to_text(&self) -> String {
        join(self.rdns.iter())
    }

    /// The same with the certificate's own order, most general part first.
    pub fn to_text_as_encoded(&self) -> String {
        join(self.rdns.iter().rev())
    }
}

fn sorted(mut attributes: Vec<Attribute>) -> Vec<Attribute> {
    attributes.sort_unstable();
    attributes
}

fn join<'a>(rdns: impl Iterator<Item = &'a Vec<Attribute>>) -> String {
    let mut text = String::new();
    for (place, rdn) in rdns.enumerate() {
        if place > 0 {
            text.push(',');
        }
        for (place, attribute) in rdn.iter().enumerate() {
            if place > 0 {
                text.push('+');
            }
            text.push_str(&attribute.kind);
            text.push('=');
            match &attribute.value {
                Value::Text(value) => push_escaped(&mut text, value),
                Value::Der(der) => {
                    text.push('#');
                    text.push_str(&data_encoding::HEXLOWER.encode(der));
                }
            }
        }
    }
    text
}

/// Appends a value with RFC 2253 escapes.
pub(super) fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (place, letter) in value.chars().enumerate() {
        let special = match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => place == 0 || place == last,
            '#' => place == 0,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        text.push(letter);
    }
}

/// The short name of a dotted number, or the number itself.
pub(super) fn short_name(oid: &str) -> String {
    let found = TYPES.iter().find(|(_, known)| *known == oid);
    found.map_or(oid, |(name, _)| *name).to_owned()
}

/// The text of an attribute's value; `None` when it is no string type.
pub(super) fn any_text(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString
        | Tag::T61String => std::str::from_utf8(value.data).ok().map(str::to_owned),
        Tag::BmpString => {
            let units = value.data.as_chunks::<2>().0.iter();
            let units: Vec<u16> = units.map(|pair| u16::from_be_bytes(*pair)).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn any_value(value: &Any<'_>) -> Value {
    any_text(value).map_or_else(|| Value::Der(value.to_der_vec().unwrap_or_default()), Value::Text)
}

type End<'a> = Option<(char, &'a str)>;

/// Takes one `type=value` and the separator behind it.
fn parse_attribute(text: &str) -> Option<(Attribute, End<'_>)> {
    let (kind, rest) = text.split_once('=')?;
    let kind = canonical_kind(kind.trim())?;
    let (raw, end) = split_value(rest);
    let raw = raw.trim_start_matches(' ');
    let value = match raw.strip_prefix('#') {
        Some(hex) => hex_value(hex.trim_end())?,
        None => Value::Text(unescape(raw)?),
    };
    Some((Attribute { kind, value }, end))
}

/// A type by name in any case, or a dotted number; `None` for anything else.
fn canonical_kind(kind: &str) -> Option<String> {
    let kind = kind.strip_prefix("OID.").unwrap_or(kind);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if kind.is_empty() || !kind.chars().all(plain) {
        return None;
    }
    Some(short_name(&kind.to_ascii_uppercase()))
}

/// Cuts at the first separator that is not escaped.
fn split_value(text: &str) -> (&str, End<'_>) {
    let mut escaped = false;
    for (place, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' | '+' => {
                let (value, tail) = text.split_at(place);
                return (value, tail.get(1..).map(|tail| (letter, tail)));
            }
            _ => {}
        }
    }
    (text, None)
}

/// Undoes the escapes and drops blanks at the end that are not escaped.
fn unescape(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut keep = 0;
    let mut letters = raw.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                let next = letters.next()?;
                if let Some(high) = next.to_digit(16) {
                    let low = letters.next()?.to_digit(16)?;
                    bytes.push(u8::try_from(high * 16 + low).ok()?);
                } else if " #,+\"\\<>;=".contains(next) {
                    bytes.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
                } else {
                    return None;
                }
                keep = bytes.len();
            }
            '"' | '<' | '>' | ';' => return None,
            ' ' => bytes.push(b' '),
            _ => {
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                keep = bytes.len();
            }
        }
    }
    bytes.truncate(keep);
    String::from_utf8(bytes).ok()
}

/// The value of `#` and hexadecimal DER.
fn hex_value(hex: &str) -> Option<Value> {
    let der = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?;
    let (rest, value) = Any::from_der(&der).ok()?;
    rest.is_empty().then(|| any_value(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dn(text: &str) -> DistinguishedName {
        DistinguishedName::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn text_forms_of_one_name_are_equal() {
        let plain = dn("CN=a b,OU=x,O=y");
        for same in [
            "cn=a b, ou=x, O=y",
            " CN = a b , OU = x , O=y ",
            "2.5.4.3=a b,OID.2.5.4.11=x,O=y",
            "CN=a\\20b,OU=\\78,O=y",
            "CN=#0c03612062,OU=x,O=y",
        ] {
            assert_eq!(dn(same), plain, "{same}");
        }
        for other in ["CN=A b,OU=x,O=y", "CN=a b,O=y,OU=x", "CN=a b,OU=x"] {
            assert_ne!(dn(other), plain, "{other}");
        }
    }

    #[test]
    fn multi_valued_parts_are_not_lists_of_parts() {
        assert_eq!(dn("CN=a+OU=b,O=c"), dn("OU=b+CN=a,O=c"));
        assert_ne!(dn("CN=a+OU=b,O=c"), dn("CN=a,OU=b,O=c"));
        assert!(!dn("CN=a+OU=b,O=c").has_same_rdns(&dn("CN=a,OU=b,O=c")));
        assert!(!dn("CN=a+OU=b,O=c").has_same_rdns(&dn("CN=a+O=c,OU=b")));
    }

    #[test]
    fn any_order_counts_duplicates() {
        assert!(dn("CN=a,OU=b,OU=c").has_same_rdns(&dn("OU=c,CN=a,OU=b")));
        assert!(!dn("CN=a,OU=b,OU=b").has_same_rdns(&dn("CN=a,OU=b,OU=c")));
        assert!(!dn("CN=a,OU=b,OU=b").has_same_rdns(&dn("CN=a,OU=b")));
        assert!(!dn("DC=a,DC=b").has_same_rdns(&dn("DC=a,DC=a")));
    }

    #[test]
    fn a_text_never_equals_other_types() {
        // A BIT STRING, and a text with the letters of its text form.
        assert_ne!(dn("CN=#0302000f"), dn("CN=\\#0302000f"));
        assert_eq!(dn("CN=#0302000f").to_text(), "CN=#0302000f");
        assert_eq!(dn("CN=\\#0302000f").to_text(), "CN=\\#0302000f");
    }

    #[test]
    fn escapes_survive_a_round_trip() {
        for value in ["a,b", " a ", "#a", "a#b", "a+b=c", "\"<>;\\", "é", " ", "a\\,CN=b"] {
            let name = DistinguishedName {
                rdns: vec![vec![Attribute { kind: "CN".into(), value: Value::Text(value.into()) }]],
            };
            assert_eq!(dn(&name.to_text()), name, "{value:?}");
        }
    }

    #[test]
    fn an_escaped_separator_does_not_make_a_second_part() {
        assert_ne!(dn("CN=a\\,OU=b"), dn("CN=a,OU=b"));
        assert_eq!(dn("CN=a\\,OU=b").rdns.len(), 1);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "a",
            "=a",
            "CN=a,",
            "CN=a,,O=b",
            "CN=a\\",
            "CN=a\\z",
            "CN=a\\4",
            "CN=\"a\"",
            "CN=#zz",
            "CN=#0c05",
            "C N=a",
            "CN=a;O=b",
            "CN=\\ff",
        ] {
            assert_eq!(DistinguishedName::parse(bad), None, "{bad}");
        }
    }
}
