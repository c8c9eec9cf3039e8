//! How long a message is kept if it says so itself: the `Nats-TTL` header.

use wire::time;

/// Nanoseconds of a second.
pub const SECOND_NS: i64 = 1_000_000_000;

/// What a message says about its own life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageTtl {
    /// Nothing.
    Unset,
    /// It outlives `max_age`.
    Never,
    /// Whole seconds, at least one.
    Seconds(i64),
}

/// The header's value is neither a duration of a second or more, nor a number, nor `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid per-message TTL")]
pub struct BadTtl;

impl MessageTtl {
    /// Reads a header value. Fractions of a second are dropped. A plain `0` is refused, since it
    /// reads as a duration that is too short; `00` is a number and says nothing.
    ///
    /// # Errors
    ///
    /// For anything else.
    pub fn parse(value: Option<&[u8]>) -> Result<Self, BadTtl> {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Ok(Self::Unset);
        };
        let text = std::str::from_utf8(value).map_err(|_| BadTtl)?;
        if text.eq_ignore_ascii_case("never") {
            return Ok(Self::Never);
        }
        if let Ok(nanos) = time::parse_go_duration(text) {
            return if nanos < SECOND_NS {
                Err(BadTtl)
            } else {
                Ok(Self::Seconds(nanos / SECOND_NS))
            };
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadTtl);
        }
        match text.parse::<i64>() {
            Ok(0) => Ok(Self::Unset),
            Ok(seconds) => Ok(Self::Seconds(seconds)),
            Err(_) => Err(BadTtl),
        }
    }

    /// When a message stored at `stored_ns` goes, ns since 1970.
    #[must_use]
    pub const fn expiry_ns(self, stored_ns: i64) -> Option<i64> {
        match self {
            Self::Seconds(seconds) => {
                Some(stored_ns.saturating_add(seconds.saturating_mul(SECOND_NS)))
            }
            Self::Unset | Self::Never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let parse = |text: &str| MessageTtl::parse(Some(text.as_bytes()));
        assert_eq!(MessageTtl::parse(None), Ok(MessageTtl::Unset));
        assert_eq!(parse(""), Ok(MessageTtl::Unset));
        assert_eq!(parse("NEVER"), Ok(MessageTtl::Never));
        assert_eq!(parse("5"), Ok(MessageTtl::Seconds(5)));
        assert_eq!(parse("00"), Ok(MessageTtl::Unset));
        assert_eq!(parse("1m30s"), Ok(MessageTtl::Seconds(90)));
        assert_eq!(parse("1.9s"), Ok(MessageTtl::Seconds(1)));
        for bad in ["0", "999ms", "-1", "-5s", "x", "5 ", "1.5", "99999999999999999999"] {
            assert_eq!(parse(bad), Err(BadTtl), "{bad}");
        }
        assert_eq!(MessageTtl::Seconds(2).expiry_ns(5), Some(2_000_000_005));
        assert_eq!(MessageTtl::Never.expiry_ns(5), None);
    }
}
