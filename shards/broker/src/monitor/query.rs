//! The query part of a monitoring address: pairs, percent-decoding, and the typed reads whose
//! error texts are those of nats-server.

use super::text::go_quoted;

/// The pairs of one query, decoded, in the order they were written.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Whether and how subscriptions are listed (`subs=1` or `subs=detail`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubsDetail {
    /// Only their number.
    #[default]
    None,
    /// Their subjects.
    Subjects,
    /// An object for each.
    Detail,
}

impl Query {
    /// Splits and decodes a query. A pair that is not well encoded or holds a semicolon is left
    /// out, as nats-server does; nothing here fails.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let pairs = text
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty() && !pair.contains(&b';'))
            .filter_map(|pair| {
                let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                    Some(at) => (pair.get(..at)?, pair.get(at + 1..)?),
                    None => (pair, &b""[..]),
                };
                Some((percent_decoded(name, true)?, percent_decoded(value, true)?))
            })
            .collect();
        Self { pairs }
    }

    /// The first value of a parameter; empty when it is missing.
    pub(crate) fn raw(&self, name: &str) -> &[u8] {
        self.pairs
            .iter()
            .find(|(key, _)| key == name.as_bytes())
            .map_or(&b""[..], |(_, value)| value.as_slice())
    }

    /// The first value as text, if there is one that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let value = self.raw(name);
        (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    }

    /// A boolean: missing or empty is false, otherwise one of Go's twelve spellings.
    pub(crate) fn boolean(&self, name: &str) -> Result<bool, String> {
        match self.raw(name) {
            b"" | b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok(false),
            b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok(true),
            other => Err(format!(
                "Error decoding boolean for '{name}': strconv.ParseBool: parsing {}: invalid syntax",
                go_quoted(other)
            )),
        }
    }

    /// A signed number: missing or empty is 0.
    pub(crate) fn integer(&self, name: &str) -> Result<i64, String> {
        let value = self.raw(name);
        if value.is_empty() {
            return Ok(0);
        }
        let (negative, digits) = match value.split_first() {
            Some((b'-', rest)) => (true, rest),
            Some((b'+', rest)) => (false, rest),
            _ => (false, value),
        };
        let limit = u64::from(negative) + i64::MAX.unsigned_abs();
        let size = unsigned(digits)
            .and_then(|size| if size > limit { Err(NumberFault::Range) } else { Ok(size) });
        match size {
            Ok(size) if negative => Ok(0_i64.saturating_sub_unsigned(size)),
            Ok(size) => Ok(0_i64.saturating_add_unsigned(size)),
            Err(fault) => Err(format!(
                "Error decoding int for '{name}': strconv.Atoi: parsing {}: {}",
                go_quoted(value),
                fault.text()
            )),
        }
    }

    /// An unsigned number without a sign: missing or empty is 0.
    pub(crate) fn unsigned_integer(&self, name: &str) -> Result<u64, String> {
        let value = self.raw(name);
        if value.is_empty() {
            return Ok(0);
        }
        unsigned(value).map_err(|fault| {
            format!(
                "Error decoding uint64 for '{name}': strconv.ParseUint: parsing {}: {}",
                go_quoted(value),
                fault.text()
            )
        })
    }

    /// The `subs` parameter of the endpoints that know `detail` (in any case of letters).
    pub(crate) fn subs_detail(&self) -> Result<SubsDetail, String> {
        if self.raw("subs").eq_ignore_ascii_case(b"detail") {
            return Ok(SubsDetail::Detail);
        }
        Ok(if self.boolean("subs")? { SubsDetail::Subjects } else { SubsDetail::None })
    }
}

/// Why a number could not be read.
enum NumberFault {
    Syntax,
    Range,
}

impl NumberFault {
    fn text(&self) -> &'static str {
        match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        }
    }
}

/// Reads decimal digits. As in Go the first fault from the left wins, so that a number which is
/// too long before its first wrong letter is out of range and not a syntax error.
fn unsigned(digits: &[u8]) -> Result<u64, NumberFault> {
    if digits.is_empty() {
        return Err(NumberFault::Syntax);
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        if !digit.is_ascii_digit() {
            return Err(NumberFault::Syntax);
        }
        sum.checked_mul(10)
            .and_then(|sum| sum.checked_add(u64::from(digit - b'0')))
            .ok_or(NumberFault::Range)
    })
}

/// Undoes percent-encoding, and `+` for a blank where a query is meant. `None` when a percent
/// sign is not followed by two hexadecimal digits.
pub(crate) fn percent_decoded(text: &[u8], plus_is_blank: bool) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(*bytes.next()?).to_digit(16)?;
                let low = char::from(*bytes.next()?).to_digit(16)?;
                decoded.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus_is_blank => decoded.push(b' '),
            other => decoded.push(*other),
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text.as_bytes())
    }

    #[test]
    fn pairs_decode_and_bad_ones_vanish() {
        assert_eq!(query("lim%69t=%31").integer("limit"), Ok(1));
        assert_eq!(query("limit=1&limit=2").integer("limit"), Ok(1));
        assert_eq!(query("limit=1%2").integer("limit"), Ok(0));
        assert_eq!(query("limit=5&a=%zz").integer("limit"), Ok(5));
        assert_eq!(query("subs=1;auth=1").boolean("subs"), Ok(false));
        assert_eq!(query("user=u+a%2B").text("user").as_deref(), Some("u a+"));
        assert_eq!(query("user=").text("user"), None);
        assert_eq!(query("auth").boolean("auth"), Ok(false));
    }

    #[test]
    fn numbers_fail_with_the_texts_of_nats_server() {
        let atoi = |value: &str| query(&format!("limit={value}")).integer("limit");
        assert_eq!(atoi("%2B3"), Ok(3));
        assert_eq!(atoi("-0"), Ok(0));
        assert_eq!(atoi("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(atoi("-9223372036854775808"), Ok(i64::MIN));
        let syntax = "strconv.Atoi: parsing \"0x10\": invalid syntax";
        assert_eq!(atoi("0x10"), Err(format!("Error decoding int for 'limit': {syntax}")));
        for value in ["9223372036854775808", "-9223372036854775809", "99999999999999999999x"] {
            let fault = atoi(value).unwrap_err();
            assert!(fault.ends_with(&format!("\"{value}\": value out of range")), "{fault}");
        }
        for value in ["1_0", "%201", "-", "+-1", "--1"] {
            assert!(atoi(value).unwrap_err().ends_with("invalid syntax"));
        }
        assert_eq!(
            query("cid=-1").unsigned_integer("cid"),
            Err("Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"-1\": \
                 invalid syntax"
                .to_owned())
        );
        assert_eq!(query("cid=18446744073709551615").unsigned_integer("cid"), Ok(u64::MAX));
        assert!(query("cid=18446744073709551616").unsigned_integer("cid").is_err());
    }

    #[test]
    fn booleans_have_go_spellings() {
        for (value, expected) in [("T", true), ("TRUE", true), ("f", false), ("False", false)] {
            assert_eq!(query(&format!("auth={value}")).boolean("auth"), Ok(expected));
        }
        assert_eq!(
            query("auth=tRUE").boolean("auth").unwrap_err(),
            "Error decoding boolean for 'auth': strconv.ParseBool: parsing \"tRUE\": \
             invalid syntax"
        );
        assert_eq!(query("subs=DETAIL").subs_detail(), Ok(SubsDetail::Detail));
        assert_eq!(query("subs=1").subs_detail(), Ok(SubsDetail::Subjects));
        assert!(query("subs=2").subs_detail().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let query = Query::parse(&text);
            let _ = (query.integer("a"), query.unsigned_integer("a"), query.boolean("a"));
            let _ = percent_decoded(&text, false);
        }

        #[test]
        fn every_integer_survives(value in any::<i64>()) {
            prop_assert_eq!(query(&format!("n={value}")).integer("n"), Ok(value));
        }
    }
}
