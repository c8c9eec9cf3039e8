//! `jetstream` at the top level and in an account.

use super::options::AccountJetStream;
use super::options_peers::{JetStreamLimits, JetStreamOptions, StoreCipher, TpmOptions};
use super::reader::{Reader, put};
use super::value::{Map, Node, Value};

/// Reads the `jetstream` block of the server.
pub(super) fn read_jetstream(r: &mut Reader, node: &Node, out: &mut JetStreamOptions) {
    let map = match &node.value {
        Value::Bool(on) => {
            out.enabled = *on;
            return;
        }
        Value::Text(text) => {
            put(&mut out.enabled, read_enabled(r, node, text));
            return;
        }
        Value::Map(map) => map,
        Value::Missing => return,
        other => {
            let is = other.type_name();
            r.error(node, format!("Expected map, bool or string to define JetStream, got {is}"));
            return;
        }
    };
    out.enabled = true;
    for (key, node) in map.in_order() {
        let lower = key.to_ascii_lowercase();
        let known =
            read_store_key(r, &lower, key, node, out) || read_limit_key(r, &lower, key, node, out);
        if !known {
            r.unknown(key, node);
        }
    }
}

fn read_enabled(r: &mut Reader, node: &Node, text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "enabled" | "enable" => Some(true),
        "disabled" | "disable" => Some(false),
        _ => {
            let want = "Expected 'enabled' or 'disabled' for string value";
            r.error(node, format!("{want}, got '{text}'"));
            None
        }
    }
}

/// Keys about what is stored, where and how.
fn read_store_key(
    r: &mut Reader,
    lower: &str,
    key: &str,
    node: &Node,
    out: &mut JetStreamOptions,
) -> bool {
    match lower {
        "enable" | "enabled" => put(&mut out.enabled, r.flag(node)),
        "strict" => match node.value {
            Value::Bool(on) => out.strict = on,
            Value::Missing => {}
            _ => {
                let shown = node.value.shown();
                let want = "Expected 'true' or 'false' for bool value";
                r.error(node, format!("{want}, got '{shown}'"));
            }
        },
        "store" | "store_dir" | "storedir" => {
            if out.store_dir.is_empty() {
                put(&mut out.store_dir, r.text(node));
            } else {
                r.error(node, "Duplicate 'store_dir' configuration");
            }
        }
        "sync" | "sync_interval" => match &node.value {
            Value::Text(text) if text.eq_ignore_ascii_case("always") => out.sync_always = true,
            _ => {
                if let Some(interval) = r.duration(node, key) {
                    (out.sync_interval, out.lazy) = (interval, true);
                }
            }
        },
        "restore_timeout" => put(&mut out.restore_timeout, r.duration(node, key)),
        "reserved_files" => put(&mut out.files_reserved, r.count(node)),
        "stuck_consumer" => put(&mut out.stuck_consumer, r.duration(node, key)),
        "scrub_interval" => put(&mut out.scrub_interval, r.duration(node, key)),
        "read_cache" => put(&mut out.read_cache_bytes_max, r.storage_size(node, lower)),
        "scrub_rate" => put(&mut out.scrub_bytes_per_second, r.storage_size(node, lower)),
        "domain" => {
            r.place("jetstream.domain", node);
            put(&mut out.domain, r.text(node));
        }
        "key" | "ek" | "encryption_key" => {
            r.known("jetstream.key", node, |r| put(&mut out.key, r.secret(node)));
        }
        "prev_key" | "prev_ek" | "prev_encryption_key" => {
            r.known("jetstream.prev_key", node, |r| put(&mut out.prev_key, r.secret(node)));
        }
        "cipher" => r.known("jetstream.cipher", node, |r| {
            put(&mut out.cipher, read_cipher(r, node));
        }),
        "extension_hint" => r.known("jetstream.extension_hint", node, |r| {
            r.place("jetstream.extension_hint", node);
            put(&mut out.extension_hint, r.text(node).map(|hint| hint.to_ascii_lowercase()));
        }),
        "unique_tag" => r.known("jetstream.unique_tag", node, |r| {
            let tag = r.text(node).map(|tag| tag.trim().to_ascii_lowercase());
            put(&mut out.unique_tag, tag);
        }),
        "tpm" => r.known("jetstream.tpm", node, |r| out.tpm = read_tpm(r, node, &mut out.cipher)),
        _ => return false,
    }
    true
}

/// Keys that limit something.
fn read_limit_key(
    r: &mut Reader,
    lower: &str,
    key: &str,
    node: &Node,
    out: &mut JetStreamOptions,
) -> bool {
    match lower {
        "max_memory_store" | "max_mem_store" | "max_mem" => {
            put(&mut out.memory_bytes_max, r.storage_size(node, "max_mem_store"));
        }
        "max_file_store" | "max_file" => {
            put(&mut out.file_bytes_max, r.storage_size(node, "max_file_store"));
        }
        "max_outstanding_catchup" => r.known("jetstream.max_outstanding_catchup", node, |r| {
            put(&mut out.catchup_bytes_max, r.storage_size(node, lower));
            if out.catchup_bytes_max < 0 {
                r.error(node, "jetstream max catchup cannot be negative");
            }
        }),
        "max_buffered_size" => put(&mut out.buffered_bytes_max, r.storage_size(node, lower)),
        "max_buffered_msgs" => put(&mut out.buffered_msgs_max, read_size(r, key, node)),
        "request_queue_limit" => r.known("jetstream.request_queue_limit", node, |r| {
            put(&mut out.request_queue_max, read_size(r, key, node));
        }),
        "info_queue_limit" => r.known("jetstream.info_queue_limit", node, |r| {
            put(&mut out.info_queue_max, read_size(r, key, node));
        }),
        "meta_compact" => r.known("jetstream.meta_compact", node, |r| {
            put(&mut out.meta_compact, read_absolute(r, key, node, Some(node.value.clone())));
        }),
        "meta_compact_size" => r.known("jetstream.meta_compact_size", node, |r| {
            let size = r.storage_size(node, lower).map(Value::Int);
            put(&mut out.meta_compact_bytes, read_absolute(r, key, node, size));
        }),
        "meta_compact_sync" => r.known("jetstream.meta_compact_sync", node, |r| {
            put(&mut out.meta_compact_sync, r.flag(node));
        }),
        "max_concurrent_io" => put(&mut out.concurrent_io_max, read_concurrent_io(r, key, node)),
        "limits" => read_limits(r, node, &mut out.limits),
        _ => return false,
    }
    true
}

fn read_concurrent_io(r: &mut Reader, key: &str, node: &Node) -> Option<i64> {
    match node.value {
        Value::Int(ios @ 4..=8192) => Some(ios),
        Value::Missing => None,
        _ => {
            let shown = node.value.shown();
            let text =
                format!("Expected an absolute size for {key:?} between 4 and 8192, got {shown}");
            r.error(node, text);
            None
        }
    }
}

fn read_size(r: &mut Reader, key: &str, node: &Node) -> Option<i64> {
    match node.value {
        Value::Int(size) => Some(size),
        Value::Missing => None,
        _ => {
            let shown = node.value.shown();
            r.error(node, format!("Expected a parseable size for {key:?}, got {shown}"));
            None
        }
    }
}

fn read_absolute(r: &mut Reader, key: &str, node: &Node, size: Option<Value>) -> Option<u64> {
    let size = size?;
    let number = if let Value::Int(i) = size { u64::try_from(i).ok() } else { None };
    if number.is_none() && size != Value::Missing {
        let shown = size.shown();
        r.error(node, format!("Expected an absolute size for {key:?}, got {shown}"));
    }
    number
}

fn read_cipher(r: &mut Reader, node: &Node) -> Option<StoreCipher> {
    let name = r.text(node)?;
    match name.to_ascii_lowercase().as_str() {
        "chacha" | "chachapoly" => Some(StoreCipher::ChaCha),
        "aes" => Some(StoreCipher::Aes),
        _ => {
            r.error(node, format!("Unknown cipher type: {name:?}"));
            None
        }
    }
}

fn read_limits(r: &mut Reader, node: &Node, out: &mut JetStreamLimits) {
    let Some(map) = r.map(node, "Expected a map to define JetStreamLimits") else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "max_ack_pending" => put(&mut out.ack_pending_max, r.int(node)),
            "max_ha_assets" => r.known("jetstream.limits.max_ha_assets", node, |r| {
                put(&mut out.ha_assets_max, r.int(node));
            }),
            "max_request_batch" => put(&mut out.request_batch_max, r.int(node)),
            "duplicate_window" => out.duplicate_window = r.duration_text(node, key),
            "default_max_consumers" => put(&mut out.default_consumers_max, r.int(node)),
            "batch" => read_batch(r, node, out),
            _ => r.unknown(key, node),
        }
    }
}

fn read_batch(r: &mut Reader, node: &Node, out: &mut JetStreamLimits) {
    let Some(map) = r.map(node, "Expected a map to define batch limits") else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "max_inflight_per_stream" => put(&mut out.batch_inflight_per_stream_max, r.int(node)),
            "max_inflight_total" => {
                r.known("jetstream.limits.batch.max_inflight_total", node, |r| {
                    put(&mut out.batch_inflight_total_max, r.int(node));
                });
            }
            "max_msgs" => put(&mut out.batch_msgs_max, r.int(node)),
            "timeout" => put(&mut out.batch_timeout, r.duration_text(node, key)),
            _ => r.unknown(key, node),
        }
    }
}

fn read_tpm(r: &mut Reader, node: &Node, cipher: &mut StoreCipher) -> Option<TpmOptions> {
    let map: &Map = r.map(node, "Expected a map to define JetStreamLimits")?;
    let mut out = TpmOptions::default();
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "keys_file" => put(&mut out.keys_file, r.text(node)),
            "encryption_password" => put(&mut out.key_password, r.secret(node)),
            "srk_password" => put(&mut out.srk_password, r.secret(node)),
            "pcr" => put(&mut out.pcr, r.int(node)),
            "cipher" => put(cipher, read_cipher(r, node)),
            _ => r.unknown(key, node),
        }
    }
    Some(out)
}

/// Reads `jetstream` of an account; none when it is off.
pub(super) fn read_account_jetstream(r: &mut Reader, node: &Node) -> Option<AccountJetStream> {
    let map = match &node.value {
        Value::Bool(on) => return on.then(AccountJetStream::default),
        Value::Text(text) => {
            return read_enabled(r, node, text)?.then(AccountJetStream::default);
        }
        Value::Map(map) => map,
        Value::Missing => return None,
        other => {
            let is = other.type_name();
            r.error(node, format!("Expected map, bool or string to define JetStream, got {is}"));
            return None;
        }
    };
    let mut out = AccountJetStream::default();
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "max_memory" | "max_mem" | "mem" | "memory" => {
                put(&mut out.memory_bytes_max, read_size(r, key, node));
            }
            "max_store" | "max_file" | "max_disk" | "store" | "disk" => {
                put(&mut out.file_bytes_max, read_size(r, key, node));
            }
            "max_streams" | "streams" => put(&mut out.streams_max, read_size(r, key, node)),
            "max_consumers" | "consumers" => put(&mut out.consumers_max, read_size(r, key, node)),
            "max_bytes_required" | "max_stream_bytes" | "max_bytes" => {
                put(&mut out.max_bytes_required, read_bool(r, key, node));
            }
            "mem_max_stream_bytes" | "memory_max_stream_bytes" => {
                put(&mut out.memory_stream_bytes_max, read_size(r, key, node));
            }
            "disk_max_stream_bytes" | "store_max_stream_bytes" => {
                put(&mut out.file_stream_bytes_max, read_size(r, key, node));
            }
            "max_ack_pending" => put(&mut out.ack_pending_max, read_size(r, key, node)),
            "cluster_traffic" => r.known("account.jetstream.cluster_traffic", node, |r| {
                put(&mut out.owner_traffic, read_traffic(r, key, node));
            }),
            _ => r.unknown(key, node),
        }
    }
    Some(out)
}

fn read_bool(r: &mut Reader, key: &str, node: &Node) -> Option<bool> {
    match node.value {
        Value::Bool(on) => Some(on),
        Value::Missing => None,
        _ => {
            let shown = node.value.shown();
            r.error(node, format!("Expected a parseable bool for {key:?}, got {shown}"));
            None
        }
    }
}

fn read_traffic(r: &mut Reader, key: &str, node: &Node) -> Option<bool> {
    match &node.value {
        Value::Text(text) if text == "owner" => Some(true),
        Value::Text(text) if text == "system" || text.is_empty() => Some(false),
        Value::Missing => None,
        other => {
            let shown = other.shown();
            let want = format!("Expected 'system' or 'owner' string value for {key:?}");
            r.error(node, format!("{want}, got {shown}"));
            None
        }
    }
}
