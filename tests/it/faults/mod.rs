//! What stored messages survive: a process killed at any moment, files cut and flipped, disks
//! that are full, fail or hang, readers that do not read. `docs/TESTING.md` has the table of
//! faults; the simulator covers the ones that cannot be made from outside a process.
//!
//! What was promised is written down outside the server, and compared with what it has afterwards.

mod backups;
mod checkpoints;
mod client;
mod compacting;
mod content;
mod crowds;
mod damage;
mod errors;
mod failing;
mod foreign;
mod full;
mod interrupted;
mod kills;
mod ledger;
mod scrub;
mod segment;
mod stuck;

use serde_json::Value;

use crate::support::server::{Options, Server};
use client::Client;

/// The configuration of a server with JetStream.
const JETSTREAM: &str = "jetstream { store_dir: \"{dir}/js\" }";

/// A server with JetStream on this many shards.
fn server(shards: usize) -> Server {
    Options::new().config(JETSTREAM).shards(shards).start()
}

/// Asks something of the API that must succeed.
fn api(client: &mut Client, call: &str, body: &str) -> Value {
    let answer = client.ask(&format!("$JS.API.{call}"), body);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert!(answer.get("error").is_none(), "{call} {body}: {answer}");
    answer
}

/// A reproducible source of choices (splitmix64).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in `n` times.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A number from the environment, for longer runs than the usual one.
fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
