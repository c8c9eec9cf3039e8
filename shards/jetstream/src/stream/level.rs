//! API levels: what a configuration asks of a server, and what this server can do. Written into
//! the metadata of streams.

use std::collections::BTreeMap;

use wire::api::config::StreamConfig;
use wire::api::policy::PersistMode;
use wire::headers;

/// The API level of this server, which is that of nats-server 2.15.
pub const API_LEVEL: i64 = 5;
/// The level that a stream or consumer needs.
pub const REQUIRED_LEVEL_KEY: &str = "_nats.req.level";
/// The version of the server that answers. Never stored.
pub const VERSION_KEY: &str = "_nats.ver";
/// The level of the server that answers. Never stored.
pub const LEVEL_KEY: &str = "_nats.level";
/// The header by which a request asks for a level.
pub const REQUIRED_LEVEL_HEADER: &[u8] = b"Nats-Required-Api-Level";

/// The level that a configuration needs.
#[must_use]
pub const fn required_of(config: &StreamConfig) -> i64 {
    if config.allow_batched {
        return 4;
    }
    if config.allow_msg_counter
        || config.allow_atomic
        || config.allow_msg_schedules
        || matches!(config.persist_mode, PersistMode::Async)
    {
        return 2;
    }
    if config.allow_msg_ttl || config.subject_delete_marker_ttl_ns > 0 { 1 } else { 0 }
}

/// Writes the level that the configuration needs into its metadata, and takes out what only
/// answers carry.
pub fn set_required(config: &mut StreamConfig) {
    config.metadata.remove(VERSION_KEY);
    config.metadata.remove(LEVEL_KEY);
    let level = required_of(config).to_string();
    config.metadata.insert(REQUIRED_LEVEL_KEY.to_owned(), level);
}

/// Takes out of the metadata what servers write into it.
pub fn strip(metadata: &mut BTreeMap<String, String>) {
    for key in [REQUIRED_LEVEL_KEY, VERSION_KEY, LEVEL_KEY] {
        metadata.remove(key);
    }
}

/// The metadata as answers show it.
pub fn show(metadata: &mut BTreeMap<String, String>, version: &str) {
    metadata.insert(VERSION_KEY.to_owned(), version.to_owned());
    metadata.insert(LEVEL_KEY.to_owned(), API_LEVEL.to_string());
}

/// Whether this server can do what the metadata of something stored asks for.
#[must_use]
pub fn is_supported(metadata: &BTreeMap<String, String>) -> bool {
    match metadata.get(REQUIRED_LEVEL_KEY).map(String::as_str) {
        None | Some("") => true,
        Some(level) => level.parse::<i64>().is_ok_and(|level| level <= API_LEVEL),
    }
}

/// Whether a request with these headers asks for more than this server can do, or cannot be
/// understood.
#[must_use]
pub fn is_too_high(block: &[u8]) -> bool {
    match headers::get(block, REQUIRED_LEVEL_HEADER) {
        None | Some(b"") => false,
        Some(level) => std::str::from_utf8(level)
            .ok()
            .and_then(|level| level.parse::<i64>().ok())
            .is_none_or(|level| level > API_LEVEL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let mut config = StreamConfig::default();
        assert_eq!(required_of(&config), 0);
        config.allow_msg_ttl = true;
        assert_eq!(required_of(&config), 1);
        config.persist_mode = PersistMode::Async;
        assert_eq!(required_of(&config), 2);
        config.allow_batched = true;
        config.metadata.insert(VERSION_KEY.to_owned(), "2".to_owned());
        set_required(&mut config);
        assert_eq!(config.metadata.get(REQUIRED_LEVEL_KEY).map(String::as_str), Some("4"));
        assert_eq!(config.metadata.len(), 1);
        assert!(is_supported(&config.metadata));
        config.metadata.insert(REQUIRED_LEVEL_KEY.to_owned(), "6".to_owned());
        assert!(!is_supported(&config.metadata));
    }

    #[test]
    fn requests() {
        let block = |level: &str| {
            format!("NATS/1.0\r\nNats-Required-Api-Level: {level}\r\n\r\n").into_bytes()
        };
        assert!(!is_too_high(b""));
        assert!(!is_too_high(&block("5")));
        assert!(is_too_high(&block("6")));
        assert!(is_too_high(&block("x")));
    }
}
