//! Which known keys this server does not serve yet, in one table. A key leaves the table when
//! what it asks for works.

/// What becomes of a known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It works.
    Yes,
    /// It is accepted with a warning and does nothing.
    NoEffect,
    /// Ignoring it would be unsafe, so it is an error; the text says why.
    Refused(&'static str),
}

/// Keys that may be ignored: nobody gets in, or sees something, because of that.
const NO_EFFECT: [&str; 34] = [
    "cluster",
    "gateway",
    "leafnodes",
    "websocket",
    "mqtt",
    "default_js_domain",
    "feature_flags",
    "mappings",
    "ocsp",
    "ocsp_cache",
    "proxies",
    "proxy_protocol",
    "prof_port",
    "prof_block_rate",
    "resolver_tls",
    "account.allow_trace",
    "account.exports.latency",
    "account.mappings",
    "account.msg_trace",
    "https",
    "trace_headers",
    "max_traced_msg_len",
    "write_timeout",
    "disable_sublist_cache",
    "jetstream.extension_hint",
    "jetstream.unique_tag",
    "jetstream.max_outstanding_catchup",
    "jetstream.request_queue_limit",
    "jetstream.info_queue_limit",
    "jetstream.meta_compact",
    "jetstream.meta_compact_size",
    "jetstream.meta_compact_sync",
    "jetstream.limits.max_ha_assets",
    "account.jetstream.cluster_traffic",
];

/// Keys that protect something: without them the server would be more open than it was asked to
/// be.
const REFUSED: [(&str, &str); 10] = [
    ("operator", "clients would be let in without the JWTs that it requires"),
    ("trusted_keys", "clients would be let in without the JWTs that it requires"),
    ("resolver", "it says that accounts are defined by JWTs"),
    ("resolver_preload", "it says that accounts are defined by JWTs"),
    ("resolver_pinned_accounts", "it says that accounts are defined by JWTs"),
    ("auth_callout", "clients would be let in without the service that is to decide"),
    ("tls.verify_and_map", "clients would not be bound to the user of their certificate"),
    ("tls.ocsp_peer", "certificates that were revoked would be accepted"),
    ("jetstream.tpm", "messages would be stored without encryption"),
    ("proxy_required", "clients would be let in that do not come through a trusted proxy"),
];

/// Looks a key up by its path: `cluster`, `tls.pinned_certs`, `account.exports`.
pub(super) fn served(path: &str) -> Served {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == path) {
        return Served::Refused(why);
    }
    if NO_EFFECT.contains(&path) { Served::NoEffect } else { Served::Yes }
}
