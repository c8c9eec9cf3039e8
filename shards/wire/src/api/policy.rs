//! The choices of stream and consumer configurations, with their spelling in JSON.

use serde::{Serialize, Serializer};

use super::quote::quote_bytes;
use super::reader::Reader;
use super::value::Value;

/// Declares a choice. The first variant is the default and counts as empty. Each variant has its
/// spellings, the one that is written first. The text names what the error about another value
/// says: `can not unmarshal` shows the value in quotes, others show it as it came.
macro_rules! choice {
    ($(
        $(#[$meta:meta])*
        $name:ident = $go:literal, $error:literal {
            $(#[$first_meta:meta])* $first:ident = $first_text:literal $(| $first_more:literal)*,
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal $(| $more:literal)*, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[$first_meta])*
            #[default]
            $first,
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $name {
            /// The spelling in JSON.
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_text,
                    $( Self::$variant => $text, )*
                }
            }

            /// The choice with this spelling.
            pub fn from_text(text: &str) -> Option<Self> {
                match text {
                    $first_text $(| $first_more)* => Some(Self::$first),
                    $( $text $(| $more)* => Some(Self::$variant), )*
                    _ => None,
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(self.as_str())
            }
        }

        impl Value for $name {
            const GO_NAME: &'static str = $go;

            fn is_empty(&self) -> bool {
                *self == Self::$first
            }

            fn read(&mut self, reader: &mut Reader<'_>, _go: &'static str) {
                let raw = reader.skip();
                match plain_text(raw).and_then(Self::from_text) {
                    Some(found) => *self = found,
                    None => reader.fail(refusal($error, raw)),
                }
            }
        }
    )*};
}

/// What stands between the quotes. nats-server compares the raw bytes, so that a spelling with
/// escapes is no spelling.
fn plain_text(raw: &[u8]) -> Option<&str> {
    std::str::from_utf8(raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()
}

fn refusal(error: &str, raw: &[u8]) -> String {
    if error == "can not unmarshal" {
        return format!("{error} {}", quote_bytes(raw));
    }
    format!("{error}: {}", String::from_utf8_lossy(raw))
}

choice! {
    /// When messages leave a stream.
    Retention = "server.RetentionPolicy", "can not unmarshal" {
        /// When a limit is reached.
        Limits = "limits",
        /// When every interested consumer has acknowledged them.
        Interest = "interest",
        /// When the one consumer responsible has acknowledged them.
        WorkQueue = "workqueue",
    }

    /// What gives way when a limit is reached.
    Discard = "server.DiscardPolicy", "can not unmarshal" {
        /// The oldest messages.
        Old = "old" | "OLD" | "Old",
        /// The message that is published.
        New = "new" | "NEW" | "New",
    }

    /// Where messages are kept.
    Storage = "server.StorageType", "can not unmarshal" {
        /// On disk.
        File = "file",
        /// In memory.
        Memory = "memory",
    }

    /// When a stream's messages are safe.
    PersistMode = "server.PersistModeType", "can not unmarshal" {
        /// As the server is configured.
        Default = "default" | "",
        /// The acknowledgement does not wait for the disk.
        Async = "async",
    }

    /// What a client must acknowledge.
    AckPolicy = "server.AckPolicy", "can not unmarshal" {
        /// Nothing.
        None = "none",
        /// A message and with it all before it.
        All = "all",
        /// Each message.
        Explicit = "explicit",
        /// Up to where flow control says.
        FlowControl = "flow_control",
    }

    /// How fast stored messages are delivered.
    ReplayPolicy = "server.ReplayPolicy", "can not unmarshal" {
        /// As fast as possible.
        Instant = "instant",
        /// With the distances at which they came in.
        Original = "original",
    }

    /// Where a consumer starts.
    DeliverPolicy = "server.DeliverPolicy", "can not unmarshal" {
        /// With the first message.
        All = "all" | "undefined",
        /// With the last message.
        Last = "last",
        /// With messages that come in later.
        New = "new",
        /// With a sequence.
        ByStartSequence = "by_start_sequence",
        /// With a time.
        ByStartTime = "by_start_time",
        /// With the last message of each subject.
        LastPerSubject = "last_per_subject",
    }

    /// Which of several groups of pulling clients gets messages.
    PriorityPolicy = "server.PriorityPolicy", "unknown priority policy" {
        /// There are no groups.
        None = "none",
        /// A client steps in when enough is waiting.
        Overflow = "overflow",
        /// One client has them all until it goes.
        PinnedClient = "pinned_client",
        /// The request with the lowest priority number.
        Prioritized = "prioritized",
    }

    /// Whether a request may make a consumer, change one, or both.
    ConsumerAction = "server.ConsumerAction", "unknown consumer action" {
        /// Both.
        CreateOrUpdate = "",
        /// Only make one.
        Create = "create",
        /// Only change one.
        Update = "update",
    }

    /// What was done to a stream or consumer, for advisories.
    Action = "server.ActionAdvisoryType", "can not unmarshal" {
        /// It was made.
        Create = "create",
        /// It was deleted.
        Delete = "delete",
        /// It was changed.
        Modify = "modify",
    }

    /// Why an atomic batch was given up, for advisories.
    AbandonReason = "server.BatchAbandonReason", "can not unmarshal" {
        /// Nothing came for too long.
        Timeout = "timeout",
        /// It was too large.
        Large = "large",
        /// A message was missing.
        Incomplete = "incomplete",
        /// It asked for what batches cannot do.
        Unsupported = "unsupported",
    }
}

/// How a stream's messages are compressed on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With S2.
    S2,
}

impl Compression {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::S2 => "s2",
        }
    }
}

impl Serialize for Compression {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

impl Value for Compression {
    const GO_NAME: &'static str = "server.StoreCompression";

    fn is_empty(&self) -> bool {
        *self == Self::None
    }

    fn read(&mut self, reader: &mut Reader<'_>, _go: &'static str) {
        use super::reader::Kind;
        // The value is decoded on its own there, so that errors do not name the field.
        let word = match reader.kind() {
            Kind::Text => reader.read_text(),
            Kind::Null => {
                reader.skip();
                "".into()
            }
            other => {
                reader.skip();
                let what = other.word();
                reader.fail(format!("json: cannot unmarshal {what} into Go value of type string"));
                return;
            }
        };
        match word.as_ref() {
            "none" => *self = Self::None,
            "s2" => *self = Self::S2,
            _ => reader.fail("unknown compression algorithm".to_owned()),
        }
    }
}
