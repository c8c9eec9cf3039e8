//! JetStream on one shard: its streams, the way of every request, and on shard 0 the catalog.
//!
//! ```text
//!  client's shard                 shard 0                      home shard of the stream
//!  handle_request ─ names, create ─► catalog: free? allowed? ─ Apply ─► make, change, delete
//!        │                               ▲──────── Present, Absent ──────────┤
//!        └─ everything about one stream, acks, pulls ──── Home ─────────────►│ answer
//!  publish to a stream's subject ── the broker's subscription ──────────────►│ ingest, PubAck
//! ```
//!
//! The home of a stream follows from its account's and its own name, so every shard knows it.

pub mod answer;
pub mod api_account;
pub mod api_consumer;
mod api_consumer_acts;
pub mod api_stream;
pub mod backup;
pub mod catalog;
pub mod clock;
mod configs;
mod damage;
mod dead_letters;
mod early;
mod facts;
#[cfg(test)]
mod flush_tests;
pub mod home;
pub mod meta;
pub mod monitor;
pub mod parcel;
pub mod recovery;
pub mod route;
mod unserved;

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::{FxBuildHasher, FxHashMap};
use slab::Slab;
use store::cache::Cache;
use store::disk::{DiskDone, Ticket};
use wire::nuid::Nuid;

pub use configs::is_vital_note;

use crate::consumer::pull::Ending;
use crate::context::Context;
use crate::effect::{Effects, Endpoint};
use crate::settings::Settings;
use clock::Clock;
use home::Home;
use meta::Meta;
use parcel::{Parcel, Request};

/// What every part works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) settings: Arc<Settings>,
    pub(crate) ids: Nuid,
    pub(crate) cache: Cache,
    /// This shard and how many there are.
    pub(crate) me: u16,
    pub(crate) shards: u16,
    /// Parcels for other shards, in order.
    pub(crate) parcels: Vec<(u16, Vec<u8>)>,
}

/// The tools at one moment.
pub(crate) struct Shop<'a, 'c> {
    pub(crate) settings: &'a Settings,
    pub(crate) ids: &'a mut Nuid,
    pub(crate) cache: &'a mut Cache,
    pub(crate) me: u16,
    pub(crate) shards: u16,
    pub(crate) parcels: &'a mut Vec<(u16, Vec<u8>)>,
    pub(crate) ctx: &'a Context<'c>,
    pub(crate) fx: &'a mut Effects,
}

impl Tools {
    pub(crate) fn open<'a, 'c>(
        &'a mut self,
        ctx: &'a Context<'c>,
        fx: &'a mut Effects,
    ) -> Shop<'a, 'c> {
        Shop {
            settings: &self.settings,
            ids: &mut self.ids,
            cache: &mut self.cache,
            me: self.me,
            shards: self.shards,
            parcels: &mut self.parcels,
            ctx,
            fx,
        }
    }
}

impl Shop<'_, '_> {
    /// Sends a parcel to another shard.
    pub(crate) fn post(&mut self, to: u16, parcel: &Parcel<'_>) {
        let mut bytes = Vec::new();
        parcel.encode(&mut bytes);
        self.parcels.push((to, bytes));
    }

    /// The home shard of a stream.
    pub(crate) fn home_of(&self, account: u32, stream: &str) -> u16 {
        let name = self.settings.account(account).map_or("", |account| account.name.as_str());
        home_of(name, stream, self.shards)
    }
}

/// The home shard of a stream among `shards`.
#[must_use]
pub fn home_of(account: &str, stream: &str, shards: u16) -> u16 {
    // FNV-1a: the same on every shard and in every run.
    let bytes = account.bytes().chain([0]).chain(stream.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Names that differ in their end only must not go to the same shard.
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((hash ^ hash >> 33) % u64::from(shards.max(1))) as u16
}

/// Whether the answer to a request may name its client.
#[must_use]
pub fn wants_client(subject: &[u8]) -> bool {
    let quick = [&b"$JS.ACK."[..], b"$JS.FC.", b"$JS.API.CONSUMER.MSG.NEXT.", b"$JS.API.DIRECT."];
    !quick.iter().any(|prefix| subject.starts_with(prefix))
}

/// JetStream on one shard.
#[derive(Debug)]
pub struct JetStream {
    pub(crate) tools: Tools,
    pub(crate) homes: Slab<Box<Home>>,
    /// Streams that are being made from backups.
    pub(crate) restores: Slab<backup::Job>,
    /// From account and name to the slot.
    pub(crate) names: HashMap<(u32, Box<str>), u32, FxBuildHasher>,
    /// What the disk holds and could not be brought back, until the next start.
    pub(crate) unserved: unserved::Unserved,
    /// On shard 0.
    pub(crate) meta: Option<Box<Meta>>,
    pub(crate) clock: Clock,
    /// Whose operation it is.
    pub(crate) tickets: FxHashMap<Ticket, u32>,
    /// Answers to deletions, by the operation that must have ended.
    pub(crate) deletions: FxHashMap<Ticket, (home::Parked, Vec<u8>)>,
    /// The last operation that has been noted in `tickets`.
    pub(crate) noted: Ticket,
    /// Streams with something to do at the end of the turn.
    pub(crate) touched: Vec<u32>,
    /// Push consumers, who want to hear of changes of interest.
    pub(crate) push_consumers: usize,
}

impl JetStream {
    /// JetStream of shard `me` of `shards`, without streams yet.
    #[must_use]
    pub fn new(me: u16, shards: u16, settings: Arc<Settings>, seed: u64) -> Self {
        let mut bytes = [0; 32];
        for (at, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            let word = seed.wrapping_add(at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let cache = Cache::new(settings.cache_bytes_max);
        Self {
            tools: Tools {
                settings,
                ids: Nuid::new(bytes),
                cache,
                me,
                shards,
                parcels: Vec::new(),
            },
            homes: Slab::new(),
            restores: Slab::new(),
            names: HashMap::default(),
            unserved: unserved::Unserved::default(),
            meta: (me == 0).then(|| Box::new(Meta::new(shards))),
            clock: Clock::default(),
            tickets: FxHashMap::default(),
            deletions: FxHashMap::default(),
            noted: Ticket(0),
            touched: Vec::new(),
            push_consumers: 0,
        }
    }

    /// New settings.
    pub fn handle_reload(&mut self, settings: Arc<Settings>) {
        let shards = self.tools.shards;
        self.tools.cache.set_bytes_max(settings.cache_bytes_max);
        let pace = settings.scrub_pace(shards);
        let is_new_pace = pace != self.tools.settings.scrub_pace(shards);
        self.tools.settings = settings;
        if is_new_pace {
            let slots: Vec<u32> = self.homes.iter().map(|(slot, _)| slot as u32).collect();
            for slot in slots {
                if let Some(home) = self.homes.get_mut(slot as usize) {
                    home.stream.store.set_scrub(pace, None);
                }
                self.touch(slot);
            }
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.tools.settings
    }

    /// The server is about to stop: clients that wait for messages are told.
    pub fn say_farewell(&mut self, ctx: &Context<'_>, fx: &mut Effects) {
        let slots: Vec<u32> = self.homes.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            let mut shop = self.tools.open(ctx, fx);
            let Some(home) = self.homes.get_mut(slot as usize) else { continue };
            let consumers: Vec<u32> = home.consumers.iter().map(|(at, _)| at as u32).collect();
            for consumer in consumers {
                home.with(consumer, &mut shop, |consumer, cx| {
                    consumer.end_all_requests(cx, Ending::Shutdown);
                });
            }
        }
    }

    /// The server stops: what is not written yet is written. To be called again after each
    /// completion of the disk until it is true.
    pub fn handle_stop(&mut self, ctx: &Context<'_>, fx: &mut Effects) -> bool {
        let mut done = true;
        let slots: Vec<u32> = self.homes.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            let mut shop = self.tools.open(ctx, fx);
            if let Some(home) = self.homes.get_mut(slot as usize) {
                done &= home.handle_stop(&mut shop);
                self.note_ops(slot, fx);
            }
        }
        done
    }

    /// Parcels for other shards, in order.
    pub fn take_parcels(&mut self) -> Vec<(u16, Vec<u8>)> {
        std::mem::take(&mut self.tools.parcels)
    }

    /// Whether [`Self::handle_interest_changed`] is wanted.
    #[must_use]
    pub fn watches_interest(&self) -> bool {
        self.push_consumers > 0
    }

    /// The slot of a stream of this shard.
    pub(crate) fn slot_of(&self, account: u32, name: &str) -> Option<u32> {
        self.names.get(&(account, name) as &dyn Key).copied()
    }

    /// Notes that a stream has something to do at the end of the turn.
    pub(crate) fn touch(&mut self, slot: u32) {
        if let Some(home) = self.homes.get_mut(slot as usize)
            && !std::mem::replace(&mut home.touched, true)
        {
            self.touched.push(slot);
        }
    }

    /// A message for one of JetStream's own subscriptions.
    pub fn handle_message(
        &mut self,
        endpoint: Endpoint,
        m: &Request<'_>,
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let slot = match endpoint {
            Endpoint::Stream(slot) | Endpoint::Source(slot, _) | Endpoint::Reply(slot, _) => slot,
            Endpoint::Restore(number) => return self.handle_restore_chunk(number, m, ctx, fx),
        };
        let mut shop = self.tools.open(ctx, fx);
        if let Some(home) = self.homes.get_mut(slot as usize) {
            home.handle_message(endpoint, m, &mut shop);
            self.note_ops(slot, fx);
            self.touch(slot);
        }
    }

    /// Somebody began or ended to listen to a subject or pattern.
    pub fn handle_interest_changed(
        &mut self,
        account: u32,
        pattern: &[u8],
        ctx: &Context<'_>,
        fx: &mut Effects,
    ) {
        let mut changed = Vec::new();
        for (slot, home) in &mut self.homes {
            if home.stream.id.account == account {
                let mut shop = self.tools.open(ctx, fx);
                if home.handle_interest_changed(pattern, &mut shop) {
                    changed.push(slot as u32);
                }
            }
        }
        for slot in changed {
            self.touch(slot);
        }
    }

    /// A disk operation has ended.
    pub fn handle_disk_done(&mut self, done: DiskDone, ctx: &Context<'_>, fx: &mut Effects) {
        let Some(slot) = self.tickets.remove(&done.ticket) else {
            return self.end_deletion(&done, ctx, fx);
        };
        if slot & backup::RESTORE_BIT != 0 {
            return self.handle_restore_done(slot & !backup::RESTORE_BIT, done, ctx, fx);
        }
        let mut shop = self.tools.open(ctx, fx);
        if let Some(home) = self.homes.get_mut(slot as usize) {
            home.handle_disk_done(done, &mut shop);
            self.note_ops(slot, fx);
            self.touch(slot);
        }
    }

    /// Remembers whose the operations are that have been queued since the last call.
    pub(crate) fn note_ops(&mut self, slot: u32, fx: &Effects) {
        let news = fx.disk.ops.iter().rev().take_while(|(ticket, _)| *ticket > self.noted);
        for (ticket, _) in news {
            self.tickets.insert(*ticket, slot);
        }
        self.skip_ops(fx);
    }

    /// Nobody waits for the operations that have been queued since the last call.
    pub(crate) fn skip_ops(&mut self, fx: &Effects) {
        if let Some((ticket, _)) = fx.disk.ops.last() {
            self.noted = *ticket;
        }
    }

    /// The end of a turn: consumers deliver, logs are committed. True when there is more to
    /// deliver than one turn takes.
    pub fn finish(&mut self, ctx: &Context<'_>, fx: &mut Effects) -> bool {
        let mut more = false;
        let touched = std::mem::take(&mut self.touched);
        for slot in touched {
            let Some(home) = self.homes.get_mut(slot as usize) else { continue };
            home.touched = false;
            let mut shop = self.tools.open(ctx, fx);
            let unfinished = home.finish(&mut shop);
            self.clock.arm(slot, home.next_deadline_ns(ctx), &mut home.armed_ns);
            self.note_ops(slot, fx);
            if self.homes.get(slot as usize).is_some_and(|home| home.doomed) {
                self.drop_doomed(slot, ctx, fx);
                continue;
            }
            if unfinished {
                more = true;
                self.touch(slot);
            }
        }
        more
    }
}

/// Looks up without making an owned key.
trait Key {
    fn parts(&self) -> (u32, &str);
}

impl Key for (u32, &str) {
    fn parts(&self) -> (u32, &str) {
        (self.0, self.1)
    }
}

impl Key for (u32, Box<str>) {
    fn parts(&self) -> (u32, &str) {
        (self.0, &self.1)
    }
}

impl std::hash::Hash for dyn Key + '_ {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Key + '_ {}

impl hashbrown::Equivalent<(u32, Box<str>)> for dyn Key + '_ {
    fn equivalent(&self, key: &(u32, Box<str>)) -> bool {
        self.parts() == key.parts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_spread_and_stay() {
        let counts = (0..4000).fold([0; 4], |mut counts, number| {
            let home = home_of("$G", &format!("S{number}"), 4);
            counts[usize::from(home)] += 1;
            counts
        });
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(home_of("A", "S", 4), home_of("A", "S", 4));
        assert_eq!(home_of("A", "S", 1), 0);
    }

    #[test]
    fn acks_and_pulls_need_no_client() {
        assert!(!wants_client(b"$JS.ACK.S.C.1.1.1.1.1"));
        assert!(!wants_client(b"$JS.API.CONSUMER.MSG.NEXT.S.C"));
        assert!(wants_client(b"$JS.API.STREAM.CREATE.S"));
    }
}
