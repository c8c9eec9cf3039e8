//! Every stream of every account by name, so that names and subjects are given once. Lives on:
//! shard 0; the home shards report what they have.

use std::collections::BTreeMap;

use wire::api::config::StreamConfig;
use wire::subject;

use crate::stream::config as rules;

/// The streams of one account.
#[derive(Debug, Default)]
pub struct AccountStreams {
    streams: BTreeMap<String, Box<StreamConfig>>,
}

impl AccountStreams {
    /// Streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// No stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Names in order, those with a subject that meets `subject` only, if one is given.
    pub fn names<'a>(&'a self, subject: &'a str) -> impl Iterator<Item = &'a str> {
        let wanted = move |config: &StreamConfig| {
            subject.is_empty()
                || config
                    .subjects
                    .iter()
                    .any(|own| subject::overlaps(own.as_bytes(), subject.as_bytes()))
        };
        self.streams.iter().filter(move |(_, config)| wanted(config)).map(|(name, _)| name.as_str())
    }
}

impl rules::Catalog for AccountStreams {
    fn config(&self, name: &str) -> Option<&StreamConfig> {
        self.streams.get(name).map(|config| &**config)
    }

    fn overlaps(&self, subjects: &[String], except: Option<&str>) -> bool {
        self.streams
            .iter()
            .filter(|(name, _)| Some(name.as_str()) != except)
            .any(|(_, config)| rules::subjects_overlap(&config.subjects, subjects))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Catalog {
    accounts: BTreeMap<u32, AccountStreams>,
    none: AccountStreams,
}

impl Catalog {
    /// The streams of an account.
    #[must_use]
    pub fn account(&self, id: u32) -> &AccountStreams {
        self.accounts.get(&id).unwrap_or(&self.none)
    }

    /// A stream is there, or has another configuration.
    pub fn put(&mut self, account: u32, config: StreamConfig) {
        let streams = &mut self.accounts.entry(account).or_default().streams;
        streams.insert(config.name.clone(), Box::new(config));
    }

    /// A stream is no longer there. False when it was not.
    pub fn remove(&mut self, account: u32, name: &str) -> bool {
        self.accounts
            .get_mut(&account)
            .is_some_and(|account| account.streams.remove(name).is_some())
    }
}

/// For checks at a home shard, where shard 0 has looked at the other streams already.
#[derive(Debug)]
pub struct Elsewhere;

impl rules::Catalog for Elsewhere {
    fn config(&self, _name: &str) -> Option<&StreamConfig> {
        None
    }

    fn overlaps(&self, _subjects: &[String], _except: Option<&str>) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::rules::Catalog as _;
    use super::*;

    fn stream(name: &str, subject: &str) -> StreamConfig {
        StreamConfig {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            ..StreamConfig::default()
        }
    }

    #[test]
    fn accounts_do_not_meet() {
        let mut catalog = Catalog::default();
        catalog.put(1, stream("A", "a.>"));
        catalog.put(1, stream("B", "b"));
        catalog.put(2, stream("C", "a.b"));
        assert_eq!(catalog.account(1).names("").collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(catalog.account(1).names("a.*").collect::<Vec<_>>(), ["A"]);
        assert!(catalog.account(1).overlaps(&["a.x".to_owned()], None));
        assert!(!catalog.account(1).overlaps(&["a.x".to_owned()], Some("A")));
        assert!(!catalog.account(3).overlaps(&["a.x".to_owned()], None));
        assert!(catalog.remove(1, "A"));
        assert!(!catalog.remove(1, "A"));
        assert!(catalog.account(1).config("A").is_none());
    }
}
