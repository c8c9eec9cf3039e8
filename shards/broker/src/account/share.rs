//! What an account shares with others, as the configuration says: the same table on every shard,
//! replaced whole on reload. Accounts that share nothing have none.
//!
//! ```text
//!   stream:   publish in the exporter ──map──► subscriptions of the importer
//!   service:  publish in the importer ──map──► subscriptions of the exporter, answers come back
//! ```

use wire::subject::{self, ANY_TOKEN};
use wire::transform::{Transform, TransformError, pattern_of, placeholders_for};

/// How many answers a request across accounts may get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerKind {
    /// One.
    #[default]
    Single,
    /// Any number.
    Stream,
    /// Parts of one; an empty one is the last.
    Chunked,
}

/// A stream that one account takes from another.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamImport {
    /// Account id of who publishes.
    pub exporter: u32,
    /// Account id of who subscribes.
    pub importer: u32,
    /// From the exporter's subjects to the importer's.
    pub map: Transform,
    /// The way back.
    pub back: Option<Transform>,
}

/// A service that one account uses in another.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceImport {
    /// Account id of who answers.
    pub exporter: u32,
    /// From the importer's subjects to the exporter's.
    pub map: Transform,
    /// How many answers a request gets.
    pub kind: AnswerKind,
    /// An answer that comes later than this after the request or the answer before it is lost, ns.
    pub threshold_ns: u64,
    /// The exporter learns who asks.
    pub shares_client: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// Streams that others take from this account.
    pub exported: Vec<StreamImport>,
    /// Streams that this account takes from others.
    pub imported: Vec<StreamImport>,
    /// Services of others that this account uses.
    pub services: Vec<ServiceImport>,
}

impl Shares {
    /// True when nothing is shared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exported.is_empty() && self.imported.is_empty() && self.services.is_empty()
    }

    /// Whether a service of another account takes a subject.
    #[must_use]
    pub fn has_service(&self, subject: &[u8]) -> bool {
        self.services.iter().any(|service| service.map.matches(subject))
    }
}

/// A local subject of an import as a destination: a plain `*` stands for the wildcard in its place.
fn destination_of(to: &[u8]) -> Vec<u8> {
    if subject::tokens(to).any(|token| token == ANY_TOKEN) {
        placeholders_for(to)
    } else {
        to.to_vec()
    }
}

/// The pattern of an import's local subjects: its placeholders become `*`.
#[must_use]
pub fn local_pattern(to: &[u8]) -> Vec<u8> {
    pattern_of(&destination_of(to)).0
}

/// From the subjects of an export to those of an import.
///
/// # Errors
/// The two do not go together.
pub fn import_map(exported: &[u8], to: &[u8]) -> Result<Transform, TransformError> {
    Transform::reversible(exported, &destination_of(to))
}

/// From the local subjects of a service import to those of the export.
///
/// # Errors
/// The two do not go together.
pub fn service_map(exported: &[u8], to: &[u8]) -> Result<Transform, TransformError> {
    import_map(exported, to)?.reverse().ok_or(TransformError::BadSubject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(map: &Transform, subject: &str) -> Option<String> {
        let mut out = Vec::new();
        map.apply(subject.as_bytes(), &mut out, 0).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn services_are_mapped_from_the_local_subject() {
        for (exported, to, local, remote) in [
            ("svc.*", "w.$1.z", "w.foo.z", "svc.foo"),
            ("svc.*", "w.*.z", "w.foo.z", "svc.foo"),
            ("svc.*.*", "w.$2.$1", "w.b.a", "svc.a.b"),
            ("svc.*.*", "w.{{wildcard(2)}}.{{Wildcard(1)}}", "w.b.a", "svc.a.b"),
            ("$JS.API.>", "JS.A.API.>", "JS.A.API.STREAM.LIST", "$JS.API.STREAM.LIST"),
            ("one", "two", "two", "one"),
            ("a.>", "a.>", "a.b.c", "a.b.c"),
        ] {
            let map = service_map(exported.as_bytes(), to.as_bytes()).unwrap();
            assert_eq!(applied(&map, local).as_deref(), Some(remote), "{exported} {to}");
            assert_eq!(applied(&map, "other.thing"), None);
        }
    }

    #[test]
    fn streams_are_mapped_from_the_exported_subject() {
        for (exported, to, remote, local) in [
            ("pub.x.*", "mapped.$1.y", "pub.x.q", "mapped.q.y"),
            ("pub.>", "from.a.pub.>", "pub.x", "from.a.pub.x"),
            ("pub.x", "here", "pub.x", "here"),
        ] {
            let map = import_map(exported.as_bytes(), to.as_bytes()).unwrap();
            assert_eq!(applied(&map, remote).as_deref(), Some(local));
            let back = map.reverse().unwrap();
            assert_eq!(applied(&back, local).as_deref(), Some(remote));
        }
    }

    #[test]
    fn patterns_of_imports() {
        assert_eq!(local_pattern(b"w.$2.$1"), b"w.*.*");
        assert_eq!(local_pattern(b"w.*"), b"w.*");
        assert_eq!(local_pattern(b"w.>"), b"w.>");
        assert!(import_map(b"x.*.*", b"y.$1").is_err());
        assert!(import_map(b"x", b"y.*").is_err());
    }
}
