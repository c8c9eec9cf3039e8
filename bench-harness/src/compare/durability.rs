//! When a server under test flushes what it stores, for each side of a case.

use serde::Serialize;

/// The durability of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// An acknowledged message is on disk: our default, `sync_interval: always` for theirs.
    Durable,
    /// Flushed every two minutes: `sync_interval: 2m` on both sides.
    Lazy,
    /// Both servers' defaults: ours durable, theirs lazy.
    Cross,
    /// Memory storage: nothing is flushed.
    Memory,
}

impl Durability {
    /// `sync_interval` of a side; `None` leaves it out of the configuration.
    #[must_use]
    pub fn sync_interval(self, is_ours: bool) -> Option<&'static str> {
        match (self, is_ours) {
            (Self::Durable, false) => Some("always"),
            (Self::Durable | Self::Cross | Self::Memory, true) | (Self::Memory, false) => None,
            (Self::Lazy, _) | (Self::Cross, false) => Some("2m"),
        }
    }

    /// The mode of a side in words, for reports.
    #[must_use]
    pub fn words(self, is_ours: bool) -> &'static str {
        match (self, is_ours) {
            (Self::Durable, true) | (Self::Cross, true) => "durable (default)",
            (Self::Durable, false) => "durable (sync_interval always)",
            (Self::Lazy, _) | (Self::Cross, false) => "lazy (sync_interval 2m)",
            (Self::Memory, _) => "memory",
        }
    }

    /// The column of the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Lazy => "lazy",
            Self::Cross => "ours durable, theirs lazy",
            Self::Memory => "memory",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_durable_by_default_and_theirs_by_setting() {
        assert_eq!(Durability::Durable.sync_interval(true), None);
        assert_eq!(Durability::Durable.sync_interval(false), Some("always"));
        for is_ours in [true, false] {
            assert_eq!(Durability::Lazy.sync_interval(is_ours), Some("2m"));
            assert_eq!(Durability::Memory.sync_interval(is_ours), None);
        }
        assert_eq!(Durability::Cross.sync_interval(true), None);
        assert_eq!(Durability::Cross.sync_interval(false), Some("2m"));
        assert!(Durability::Cross.words(true).starts_with("durable"));
        assert!(Durability::Cross.words(false).starts_with("lazy"));
    }
}
