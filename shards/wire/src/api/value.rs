//! What can stand in a document: the trait, and how texts, numbers, lists and maps are read the
//! way Go reads them.
//!
//! Reading changes a value in place. `null` leaves texts, numbers and objects alone and empties
//! lists, maps and optional values; a second object or map under the same key is merged into the
//! first. Mistakes are noted in the [`Reader`] and do not stop it.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::reader::{Kind, Reader};

/// A value in a document.
pub trait Value: Default + Serialize {
    /// Go's name of the type in error texts, where the field does not give another.
    const GO_NAME: &'static str;
    /// Go's name of a list of these.
    const GO_LIST: &'static str = "[]any";

    /// Whether a field that may be left out is left out.
    fn is_empty(&self) -> bool;

    /// Reads the next value into this one. `go` is Go's name of the type.
    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str);
}

/// A value that is an object with a fixed set of fields.
pub trait Fields: Value {
    /// Writes the fields in their order.
    ///
    /// # Errors
    ///
    /// What the writer says.
    fn write<S: SerializeStruct>(&self, out: &mut S) -> Result<(), S::Error>;

    /// Reads the value behind `key`, which is in lower case, or answers false if there is no such
    /// field.
    fn read_field(&mut self, key: &str, reader: &mut Reader<'_>) -> bool;
}

/// Reads an object into a value with fields.
pub fn read_fields<T: Fields>(value: &mut T, reader: &mut Reader<'_>, go: &str) {
    match reader.kind() {
        Kind::Null => {
            reader.skip();
        }
        Kind::Object => reader.read_object(|key, reader| value.read_field(&fold(key), reader)),
        _ => reader.mismatch(go),
    }
}

/// The key in lower case. Unicode knows two more characters that fold to ASCII letters, the
/// Kelvin sign and the long s, and Go honours them.
fn fold(key: &str) -> String {
    let folded = key.chars().map(|c| match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    });
    folded.collect()
}

impl Value for String {
    const GO_NAME: &'static str = "string";
    const GO_LIST: &'static str = "[]string";

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
        match reader.kind() {
            Kind::Null => {
                reader.skip();
            }
            Kind::Text => *self = reader.read_text().into_owned(),
            _ => reader.mismatch(go),
        }
    }
}

impl Value for bool {
    const GO_NAME: &'static str = "bool";

    fn is_empty(&self) -> bool {
        !*self
    }

    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
        match reader.kind() {
            Kind::Null => {
                reader.skip();
            }
            Kind::Bool => *self = reader.skip() == b"true",
            _ => reader.mismatch(go),
        }
    }
}

/// Numbers: whole ones without fraction or exponent, in the range of the type.
macro_rules! whole_number {
    ($($rust:ty = $go:literal, $list:literal;)*) => {$(
        impl Value for $rust {
            const GO_NAME: &'static str = $go;
            const GO_LIST: &'static str = $list;

            fn is_empty(&self) -> bool {
                *self == 0
            }

            fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
                match reader.kind() {
                    Kind::Null => {
                        reader.skip();
                    }
                    Kind::Number => {
                        let digits = String::from_utf8_lossy(reader.skip());
                        match digits.parse() {
                            Ok(number) => *self = number,
                            Err(_) => reader.fail_type(&format!("number {digits}"), go),
                        }
                    }
                    _ => reader.mismatch(go),
                }
            }
        }
    )*};
}

whole_number! {
    i64 = "int64", "[]int64";
    u64 = "uint64", "[]uint64";
    i32 = "int32", "[]int32";
    u32 = "uint32", "[]uint32";
    u16 = "uint16", "[]uint16";
}

impl<T: Value> Value for Option<T> {
    const GO_NAME: &'static str = T::GO_NAME;

    fn is_empty(&self) -> bool {
        self.is_none()
    }

    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
        if reader.kind() == Kind::Null {
            reader.skip();
            *self = None;
        } else {
            self.get_or_insert_default().read(reader, go);
        }
    }
}

impl<T: Value> Value for Box<T> {
    const GO_NAME: &'static str = T::GO_NAME;
    const GO_LIST: &'static str = T::GO_LIST;

    fn is_empty(&self) -> bool {
        T::is_empty(self)
    }

    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
        T::read(self, reader, go);
    }
}

impl<T: Value> Value for Vec<T> {
    const GO_NAME: &'static str = T::GO_LIST;

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
        match reader.kind() {
            Kind::Null => {
                reader.skip();
                self.clear();
            }
            Kind::Array => {
                let element = go.strip_prefix("[]").unwrap_or(go);
                let element = element.strip_prefix('*').unwrap_or(element);
                let mut count = 0;
                reader.read_array(|index, reader| {
                    // Elements of an earlier list under the same key are read into, as in Go.
                    if index >= self.len() {
                        self.push(T::default());
                    }
                    if let Some(value) = self.get_mut(index) {
                        value.read(reader, element);
                    }
                    count = index.saturating_add(1);
                });
                self.truncate(count);
            }
            _ => reader.mismatch(go),
        }
    }
}

/// Maps are written in the order of their keys' bytes.
macro_rules! map_of {
    ($($rust:ty = $go:literal;)*) => {$(
        impl Value for BTreeMap<String, $rust> {
            const GO_NAME: &'static str = $go;

            fn is_empty(&self) -> bool {
                self.is_empty()
            }

            fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
                match reader.kind() {
                    Kind::Null => {
                        reader.skip();
                        self.clear();
                    }
                    Kind::Object => reader.read_object(|key, reader| {
                        let mut value = <$rust>::default();
                        value.read(reader, <$rust>::GO_NAME);
                        self.insert(key.to_owned(), value);
                        true
                    }),
                    _ => reader.mismatch(go),
                }
            }
        }
    )*};
}

map_of! {
    String = "map[string]string";
    u64 = "map[string]uint64";
    super::account::Tier = "map[string]server.JetStreamTier";
}

/// Bytes, which JSON holds as base64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&data_encoding::BASE64.encode(&self.0))
    }
}

impl Value for Bytes {
    const GO_NAME: &'static str = "[]uint8";

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
        match reader.kind() {
            Kind::Null => {
                reader.skip();
                self.0.clear();
            }
            Kind::Text => {
                let text = reader.read_text();
                match data_encoding::BASE64.decode(text.as_bytes()) {
                    Ok(bytes) => self.0 = bytes,
                    Err(error) => {
                        let at = error.position;
                        reader.fail(format!("illegal base64 data at input byte {at}"));
                    }
                }
            }
            _ => reader.mismatch(go),
        }
    }
}

/// Declares an object: the type, how it is written and how it is read.
///
/// Behind the type of each field stands its key, then, if needed, Go's name of the field's type,
/// and `omitempty` if an empty value is left out. `[flatten]` puts the fields of another object
/// in place.
macro_rules! object {
    ($(
        $(#[$meta:meta])*
        $name:ident = $go:literal {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty [ $($spec:tt)* ], )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::api::value::Fields for $name {
            fn write<S: serde::ser::SerializeStruct>(&self, out: &mut S) -> Result<(), S::Error> {
                $( $crate::api::value::object_write!(out, &self.$field, [$($spec)*]); )*
                let _ = out;
                Ok(())
            }

            fn read_field(
                &mut self,
                key: &str,
                reader: &mut $crate::api::reader::Reader<'_>,
            ) -> bool {
                $(
                    $crate::api::value::object_read!(
                        key, reader, self.$field, $type, [$($spec)*]
                    );
                )*
                let _ = (key, reader);
                false
            }
        }

        impl $crate::api::value::Value for $name {
            const GO_NAME: &'static str = $go;

            fn is_empty(&self) -> bool {
                false
            }

            fn read(
                &mut self,
                reader: &mut $crate::api::reader::Reader<'_>,
                go: &'static str,
            ) {
                $crate::api::value::read_fields(self, reader, go);
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeStruct as _;
                let mut out = out.serialize_struct(stringify!($name), 1)?;
                $crate::api::value::Fields::write(self, &mut out)?;
                out.end()
            }
        }
    )*};
}

/// Writes one field of an [`object!`].
macro_rules! object_write {
    ($out:ident, $value:expr, [flatten]) => {
        $crate::api::value::Fields::write($value, $out)?
    };
    ($out:ident, $value:expr, [$key:literal $(, $go:literal)?]) => {
        $out.serialize_field($key, $value)?
    };
    ($out:ident, $value:expr, [$key:literal $(, $go:literal)?, omitempty]) => {
        if !$crate::api::value::Value::is_empty($value) {
            $out.serialize_field($key, $value)?;
        }
    };
}

/// Reads one field of an [`object!`] if the key is its key.
macro_rules! object_read {
    ($given:ident, $reader:ident, $place:expr, $type:ty, [flatten]) => {
        if $crate::api::value::Fields::read_field(&mut $place, $given, $reader) {
            return true;
        }
    };
    ($given:ident, $reader:ident, $place:expr, $type:ty, [$key:literal $(, omitempty)?]) => {
        if $given == $key {
            let go = <$type as $crate::api::value::Value>::GO_NAME;
            $crate::api::value::Value::read(&mut $place, $reader, go);
            return true;
        }
    };
    (
        $given:ident, $reader:ident, $place:expr, $type:ty,
        [$key:literal, $go:literal $(, omitempty)?]
    ) => {
        if $given == $key {
            $crate::api::value::Value::read(&mut $place, $reader, $go);
            return true;
        }
    };
}

pub(super) use {object, object_read, object_write};
