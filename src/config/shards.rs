//! `shards`, the one block that nats-server does not have: how many cores serve, which, and how
//! they wait.

use std::time::Duration;

use super::duration::parse_ns;
use super::reader::{Reader, put};
use super::value::{Node, Value};

/// The shards of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardOptions {
    /// `count`; one for each of `cpus` when not set.
    pub count: Option<u32>,
    /// `cpus`: cores to pin the shards to, as `"0-3,8"` or a list; those of the process's cpuset
    /// when empty.
    pub cpus: Vec<u32>,
    /// `pin`: bind each shard to its core; true.
    pub pin: bool,
    /// `spin`: what a shard does that has nothing to do.
    pub spin: Spin,
    /// `spin_max`: the longest time that `adaptive` polls before it sleeps, 20 µs.
    pub spin_max: Duration,
    /// `io_memory` in bytes: memory registered with io_uring for a shard, 1 MiB.
    pub io_memory_bytes: u64,
    /// `ring_depth`: entries of a shard's io_uring, 256; a power of two.
    pub ring_depth: u32,
    /// `queue_depth`: batches that wait between two shards, 8.
    pub queue_depth: u32,
    /// `read_buffer` in bytes: what a shard reads from sockets with, 256 KiB.
    pub read_buffer_bytes: u64,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            count: None,
            cpus: Vec::new(),
            pin: true,
            spin: Spin::Adaptive,
            spin_max: Duration::from_micros(20),
            io_memory_bytes: 1024 * 1024,
            ring_depth: 256,
            queue_depth: 8,
            read_buffer_bytes: 256 * 1024,
        }
    }
}

/// What a shard does that has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spin {
    /// Sleep at once: no CPU is used when idle.
    #[default]
    Off,
    /// Poll for as long as polling has paid lately, at most `spin_max`, then sleep.
    Adaptive,
    /// Never sleep: the lowest latency, a full core for each shard.
    Always,
    /// Poll for this long, then sleep.
    For(Duration),
}

/// The most shards there can be.
const COUNT_MAX: i64 = 1024;

/// Reads the `shards` block.
pub(super) fn read_shards(r: &mut Reader, node: &Node, out: &mut ShardOptions) {
    if let Value::Int(_) = node.value {
        out.count = read_ranged(r, node, "shards", 1, COUNT_MAX);
        return;
    }
    let Some(map) = r.map(node, "Expected shards to be a map or a number") else {
        return;
    };
    for (key, node) in map.in_order() {
        match key.to_ascii_lowercase().as_str() {
            "count" => match &node.value {
                Value::Text(text) if text == "auto" => out.count = None,
                _ => {
                    r.place("shards.count", node);
                    out.count = read_ranged(r, node, key, 1, COUNT_MAX);
                }
            },
            "cpus" => {
                r.place("shards.cpus", node);
                put(&mut out.cpus, read_cpus(r, node));
            }
            "pin" => put(&mut out.pin, r.flag(node)),
            "spin" => put(&mut out.spin, read_spin(r, node)),
            "spin_max" => put(&mut out.spin_max, r.duration_text(node, key)),
            "io_memory" => put(&mut out.io_memory_bytes, read_bytes(r, node, key)),
            "ring_depth" => {
                let depth = read_ranged(r, node, key, 8, 32_768);
                if depth.is_some_and(|depth| !depth.is_power_of_two()) {
                    r.error(node, "ring_depth must be a power of two");
                } else {
                    put(&mut out.ring_depth, depth);
                }
            }
            "queue_depth" => put(&mut out.queue_depth, read_ranged(r, node, key, 2, 1 << 20)),
            "read_buffer" => put(&mut out.read_buffer_bytes, read_bytes(r, node, key)),
            _ => r.unknown(key, node),
        }
    }
}

fn read_ranged(r: &mut Reader, node: &Node, key: &str, min: i64, max: i64) -> Option<u32> {
    let number = r.int(node)?;
    if !(min..=max).contains(&number) {
        r.error(node, format!("{key} must be between {min} and {max}, got {number}"));
        return None;
    }
    u32::try_from(number).ok()
}

/// A size of at least a page and at most a GiB.
fn read_bytes(r: &mut Reader, node: &Node, key: &str) -> Option<u64> {
    let bytes = r.int(node)?;
    if !(4096..=1 << 30).contains(&bytes) {
        r.error(node, format!("{key} must be between 4KiB and 1GiB, got {bytes}"));
        return None;
    }
    u64::try_from(bytes).ok()
}

fn read_spin(r: &mut Reader, node: &Node) -> Option<Spin> {
    match &node.value {
        Value::Bool(false) => Some(Spin::Off),
        Value::Bool(true) => Some(Spin::Adaptive),
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "off" => Some(Spin::Off),
            "adaptive" => Some(Spin::Adaptive),
            "always" => Some(Spin::Always),
            _ => {
                let ns = parse_ns(text).ok().and_then(|ns| u64::try_from(ns).ok());
                if ns.is_none() {
                    let want = "spin must be off, adaptive, always or a duration";
                    r.error(node, format!("{want}, got {text:?}"));
                }
                ns.map(|ns| if ns == 0 { Spin::Off } else { Spin::For(Duration::from_nanos(ns)) })
            }
        },
        _ => {
            r.wrong_type(node, "string");
            None
        }
    }
}

/// Cores as a number, a text such as `0-3,8`, or a list of these; each at most once.
fn read_cpus(r: &mut Reader, node: &Node) -> Option<Vec<u32>> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut out = Vec::new();
    for item in items {
        let text = match &item.value {
            Value::Int(cpu) => cpu.to_string(),
            Value::Text(text) => text.clone(),
            _ => {
                r.wrong_type(item, "string");
                return None;
            }
        };
        let Some(cpus) = parse_cpus(&text) else {
            r.error(item, format!("cpus must be like \"0-3,8\", got {text:?}"));
            return None;
        };
        for cpu in cpus {
            if out.contains(&cpu) {
                r.error(item, format!("cpu {cpu} is listed twice"));
                return None;
            }
            out.push(cpu);
        }
    }
    Some(out)
}

fn parse_cpus(text: &str) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u32 = first.trim().parse().ok()?;
        let last: u32 = last.trim().parse().ok()?;
        if first > last || last > 4095 {
            return None;
        }
        out.extend(first..=last);
    }
    Some(out)
}
