//! The CONNECT document: what a client says about itself.
//!
//! Decoded the way Go decodes it, because that is what client authors tested against: keys in any
//! case, `null` changes nothing, the last of several equal keys counts, unknown keys are skipped,
//! a value of the wrong type is an error.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

use crate::secret::Secret;

/// Why a CONNECT document was refused. It closes the connection without `-ERR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// Not one JSON object, or a field of the wrong type. Says no more: the text holds secrets.
    #[error("CONNECT is not a valid JSON object")]
    Invalid,
}

/// The fields of CONNECT. Absent texts are `None`; an empty text counts as absent too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Answer each operation with `+OK`.
    pub verbose: bool,
    /// Check subjects strictly.
    pub pedantic: bool,
    /// Deliver the client's own publishes to it.
    pub echo: bool,
    /// The client wants TLS; informational.
    pub tls_required: bool,
    /// The client understands HPUB and HMSG.
    pub headers: bool,
    /// The client wants a 503 when nobody answers.
    pub no_responders: bool,
    /// Protocol level; 1 takes INFO at any time. Not checked here.
    pub protocol: i64,
    /// Language of the client library.
    pub lang: Option<String>,
    /// Version of the client library.
    pub version: Option<String>,
    /// Name of the connection.
    pub name: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub pass: Option<Secret>,
    /// Token in place of user and password.
    pub auth_token: Option<Secret>,
    /// Public key of the user, `U...`.
    pub nkey: Option<String>,
    /// Signature over the nonce, base64.
    pub sig: Option<Secret>,
    /// The user's JWT.
    pub jwt: Option<Secret>,
    /// Legacy: account to enter. A server must refuse a client that sets it.
    pub account: Option<String>,
    /// Legacy: create that account. A server must refuse a client that sets it.
    pub new_account: bool,
    /// A trusted proxy's signature over the nonce.
    pub proxy_sig: Option<Secret>,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            tls_required: false,
            headers: false,
            no_responders: false,
            protocol: 0,
            lang: None,
            version: None,
            name: None,
            user: None,
            pass: None,
            auth_token: None,
            nkey: None,
            sig: None,
            jwt: None,
            account: None,
            new_account: false,
            proxy_sig: None,
        }
    }
}

impl Connect {
    /// Decodes a first CONNECT: whatever the document leaves out has its default.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Invalid`] if the bytes are not one JSON object with fields of the right
    /// types.
    pub fn parse(json: &[u8]) -> Result<Self, ConnectError> {
        let mut connect = Self::default();
        connect.merge(json)?;
        Ok(connect)
    }

    /// Decodes a further CONNECT on the same connection: whatever it leaves out stays.
    ///
    /// # Errors
    ///
    /// As [`Connect::parse`]. Fields read before the mistake may have changed.
    pub fn merge(&mut self, json: &[u8]) -> Result<(), ConnectError> {
        // Go puts U+FFFD in place of bytes that are not UTF-8; serde_json would refuse them.
        let text = String::from_utf8_lossy(json);
        if has_bare_control(text.as_bytes()) {
            return Err(ConnectError::Invalid);
        }
        let mut reader = serde_json::Deserializer::from_str(&text);
        Fields(self)
            .deserialize(&mut reader)
            .and_then(|()| reader.end())
            .map_err(|_| ConnectError::Invalid)
    }

    /// Whether any kind of credential is present.
    pub fn has_credentials(&self) -> bool {
        let texts = [&self.user, &self.nkey];
        let secrets = [&self.pass, &self.auth_token, &self.sig, &self.jwt];
        texts.into_iter().any(Option::is_some) || secrets.into_iter().any(Option::is_some)
    }
}

/// Reads the object's fields into the `Connect` it holds.
struct Fields<'c>(&'c mut Connect);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        // `null` in place of the object is fine and changes nothing.
        reader.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let connect = self.0;
        while let Some(Text(key)) = map.next_key()? {
            match fold(&key).as_ref() {
                "verbose" => set_flag(&mut connect.verbose, &mut map)?,
                "pedantic" => set_flag(&mut connect.pedantic, &mut map)?,
                "echo" => set_flag(&mut connect.echo, &mut map)?,
                "tls_required" => set_flag(&mut connect.tls_required, &mut map)?,
                "headers" => set_flag(&mut connect.headers, &mut map)?,
                "no_responders" => set_flag(&mut connect.no_responders, &mut map)?,
                "new_account" => set_flag(&mut connect.new_account, &mut map)?,
                "protocol" => {
                    if let Some(level) = map.next_value::<Option<i64>>()? {
                        connect.protocol = level;
                    }
                }
                "lang" => set_text(&mut connect.lang, &mut map)?,
                "version" => set_text(&mut connect.version, &mut map)?,
                "name" => set_text(&mut connect.name, &mut map)?,
                "user" => set_text(&mut connect.user, &mut map)?,
                "nkey" => set_text(&mut connect.nkey, &mut map)?,
                "account" => set_text(&mut connect.account, &mut map)?,
                "pass" => set_text(&mut connect.pass, &mut map)?,
                "auth_token" => set_text(&mut connect.auth_token, &mut map)?,
                "sig" => set_text(&mut connect.sig, &mut map)?,
                "jwt" => set_text(&mut connect.jwt, &mut map)?,
                "proxy_sig" => set_text(&mut connect.proxy_sig, &mut map)?,
                // For links between servers; only the types are looked at.
                "import" | "export" => {
                    map.next_value::<Option<AnyObject>>()?;
                }
                "remote_account" => {
                    map.next_value::<Option<Text>>()?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A flag; `null` leaves it alone.
fn set_flag<'de, A: MapAccess<'de>>(flag: &mut bool, map: &mut A) -> Result<(), A::Error> {
    if let Some(given) = map.next_value::<Option<bool>>()? {
        *flag = given;
    }
    Ok(())
}

/// A text; `null` leaves it alone, an empty one takes it away.
fn set_text<'de, A: MapAccess<'de>, T: From<String>>(
    text: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    if let Some(Text(given)) = map.next_value::<Option<Text>>()? {
        *text = (!given.is_empty()).then(|| given.into());
    }
    Ok(())
}

/// A JSON text in which lone surrogates become U+FFFD as in Go; serde's own `String` would
/// refuse them.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }

        reader.deserialize_bytes(TextVisitor)
    }
}

/// Whether a control character stands in a JSON text without an escape, which JSON forbids but
/// serde_json's reading of bytes lets through.
fn has_bare_control(json: &[u8]) -> bool {
    let (mut in_text, mut escaped) = (false, false);
    json.iter().any(|&byte| {
        let found = in_text && byte < b' ';
        in_text ^= byte == b'"' && !escaped;
        escaped = in_text && byte == b'\\' && !escaped;
        found
    })
}

/// A JSON object whose content does not matter.
pub(super) struct AnyObject;

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = AnyObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyObject, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(AnyObject)
            }
        }

        reader.deserialize_map(ObjectVisitor)
    }
}

/// The key in lower case. Unicode knows two more characters that fold to ASCII letters, the
/// Kelvin sign and the long s, and Go honours them.
fn fold(key: &str) -> Cow<'_, str> {
    if key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Cow::Borrowed(key);
    }
    key.chars()
        .map(|c| match c {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            other => other.to_ascii_lowercase(),
        })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Connect {
        Connect::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn defaults_are_true() {
        let connect = parsed("{}");
        assert!(connect.verbose && connect.pedantic && connect.echo);
        assert!(!connect.headers && !connect.no_responders && !connect.tls_required);
        assert_eq!(connect, Connect::default());
        assert_eq!(parsed("null"), Connect::default());
    }

    #[test]
    fn every_field_is_read() {
        let json = r#"{"verbose":false,"pedantic":false,"echo":false,"tls_required":true,
            "headers":true,"no_responders":true,"protocol":1,"lang":"rust","version":"1.2",
            "name":"n","user":"u","pass":"p","auth_token":"t","nkey":"U1","sig":"s","jwt":"j",
            "account":"a","new_account":true,"proxy_sig":"x"}"#;
        let text = |text: &str| Some(text.to_owned());
        let secret = |text: &str| Some(Secret::from(text));
        let expected = Connect {
            verbose: false,
            pedantic: false,
            echo: false,
            tls_required: true,
            headers: true,
            no_responders: true,
            protocol: 1,
            lang: text("rust"),
            version: text("1.2"),
            name: text("n"),
            user: text("u"),
            pass: secret("p"),
            auth_token: secret("t"),
            nkey: text("U1"),
            sig: secret("s"),
            jwt: secret("j"),
            account: text("a"),
            new_account: true,
            proxy_sig: secret("x"),
        };
        assert_eq!(parsed(json), expected);
    }

    #[test]
    fn reads_like_go() {
        assert!(!parsed(r#"{"VERBOSE":false}"#).verbose);
        assert!(!parsed("{\"verbo\u{17f}e\":false}").verbose);
        assert_eq!(parsed("{\"N\u{212a}ey\":\"x\"}").nkey.as_deref(), Some("x"));
        assert!(parsed(r#"{"verbose":null,"user":null}"#).verbose);
        assert!(!parsed(r#"{"verbose":true,"verbose":false}"#).verbose);
        assert_eq!(parsed(r#"{"x":{"verbose":1},"y":[1e999,null]}"#), Connect::default());
        assert_eq!(parsed(r#"{"user":""}"#).user, None);
        assert_eq!(
            parsed(r#"{"name":"\ud800x"}"#).name.as_deref(),
            Some("\u{fffd}\u{fffd}\u{fffd}x")
        );
        let odd = Connect::parse(b"{\"name\":\"\xff\"}").unwrap();
        assert_eq!(odd.name.as_deref(), Some("\u{fffd}"));
        assert_eq!(parsed("\t{ } \r").protocol, 0);
    }

    #[test]
    fn wrong_documents_are_refused() {
        for json in [
            "",
            "x",
            "[]",
            "1",
            "\"a\"",
            "{",
            "{} x",
            "{}{}",
            r#"{"verbose":"true"}"#,
            r#"{"verbose":1}"#,
            r#"{"protocol":1.0}"#,
            r#"{"protocol":"1"}"#,
            r#"{"user":1}"#,
            r#"{"user":["a"]}"#,
            r#"{"pass":{}}"#,
            r#"{"no_responders":1}"#,
            r#"{"import":3}"#,
            r#"{"export":[]}"#,
            r#"{"remote_account":3}"#,
            "{\"name\":\"\u{1}\"}",
            "{verbose:false}",
            r#"{"protocol":9223372036854775808}"#,
            r#"{"user":"a",}"#,
        ] {
            assert_eq!(Connect::parse(json.as_bytes()), Err(ConnectError::Invalid), "{json}");
        }
        for json in [r#"{"import":{"allow":["a"]}}"#, r#"{"export":null,"cluster":3}"#] {
            assert_eq!(parsed(json), Connect::default());
        }
    }

    #[test]
    fn a_second_connect_keeps_what_it_leaves_out() {
        let mut connect = parsed(r#"{"verbose":false,"user":"u","pass":"p"}"#);
        connect.merge(br#"{"echo":false}"#).unwrap();
        assert!(!connect.verbose && !connect.echo);
        assert!(connect.has_credentials());
        connect.merge(br#"{"verbose":true,"user":""}"#).unwrap();
        assert!(connect.verbose);
        assert_eq!(connect.user, None);
    }
}
