//! What only some seeds have: kinds of streams and consumers, encryption, lazy disks. It is drawn
//! apart from everything else, so that a new extra changes no seed that does not have it.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::random::Random;
use jetstream::settings::Durability;
use store::log::{Cipher, Encryption, StoreKey};

use super::inspect::Found;
use super::model::{Config, StreamModel};
use super::world::{End, World};
use crate::oracle::Failure;

/// Time by which a message may outlive its age, ns.
const AGE_SLACK_NS: i64 = 2_000_000_000;
/// How often a stream that is `persist_mode: async` is flushed, ns.
const ASYNC_NS: u64 = 1_000_000_000;
/// Time that a flush may take, ns.
const FLUSH_SLACK_NS: u64 = 1_000_000_000;
/// Letters in a row by which a payload is found on a disk that is encrypted.
const TELLTALE: usize = 26;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras {
    /// Streams may be compressed.
    pub(crate) compression: bool,
    /// Files are encrypted.
    pub(crate) encryption: bool,
    /// Messages may have an age of their own.
    pub(crate) ages: bool,
    /// Consumers may give up.
    pub(crate) max_deliver: bool,
    /// Everything is flushed only so often, ns.
    pub(crate) lazy_ns: Option<u64>,
    /// Streams may be `persist_mode: async`.
    pub(crate) is_async: bool,
    /// Reads may fail during a start.
    pub(crate) boot_errors: bool,
    /// There are a mirror and a stream with sources.
    pub(crate) copies: bool,
    /// Consumers are paused and reset.
    pub(crate) tended: bool,
}

impl Extras {
    /// Those of a seed, and the dice for what they do.
    pub(crate) fn draw(seed: u64) -> (Self, Random) {
        let mut dice = Random::new(seed.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ 0xe8);
        dice.next_u64();
        let mut one_in = |times: u32| dice.below(times) == 0;
        let mut extras = Self {
            compression: one_in(5),
            encryption: one_in(6),
            ages: one_in(6),
            max_deliver: one_in(5),
            lazy_ns: one_in(6).then_some(500_000_000),
            is_async: one_in(8),
            boot_errors: one_in(6),
            copies: one_in(6),
            tended: one_in(5),
        };
        extras.is_async &= extras.lazy_ns.is_none();
        // What a lazy origin may lose its copy may have.
        extras.copies &= extras.lazy_ns.is_none();
        extras.tended &= extras.lazy_ns.is_none() && !extras.is_async;
        (extras, dice)
    }

    /// When acknowledged messages are on disk.
    pub(crate) fn durability(&self) -> Durability {
        match self.lazy_ns {
            Some(interval_ns) => Durability::Lazy { interval_ns },
            None => Durability::Flushed,
        }
    }
}

impl World {
    /// True once in so many times, by the dice of the extras.
    pub(crate) fn extra_in(&mut self, times: u32) -> bool {
        self.dice.below(times) == 0
    }

    /// A start during which the disk fails to read now and then. It may serve less, but it must
    /// leave everything as it was: the next start finds it all.
    ///
    /// # Errors
    /// A broken rule.
    pub(super) fn start_badly(&mut self, shards: usize) -> Result<(), Failure> {
        if !self.extras.boot_errors || self.extra_in(2) {
            return Ok(());
        }
        self.note("a start during which reads fail".to_owned());
        self.disk.boot_reads_left = Some(self.dice.below(12) as usize);
        let outcome = self.start(shards);
        self.disk.boot_reads_left = None;
        outcome?;
        let how = if self.extra_in(2) { End::Kill } else { End::Stop };
        self.end(how)?;
        self.kept_errors = std::mem::take(&mut self.errors);
        // What it did not serve it has not written either.
        self.model.last_end = Some(End::Kill);
        Ok(())
    }

    /// How the files are encrypted in this start.
    pub(super) fn encryption(&mut self) -> Option<Arc<Encryption>> {
        if !self.extras.encryption {
            return None;
        }
        // Once in a run there is a new key; the one before opens what it had sealed.
        self.has_new_key |= self.model.starts > 1 && self.extra_in(3);
        let (old, new) = (StoreKey::new(b"first key"), StoreKey::new(b"second key"));
        let (key, prev_key) = if self.has_new_key { (new, Some(old)) } else { (old, None) };
        let entropy = self.dice.next_u64();
        Some(Arc::new(Encryption { cipher: Cipher::default(), key, prev_key, entropy }))
    }

    /// What a new stream has of the extras.
    pub(super) fn draw_config(&mut self, config: &mut Config) {
        config.is_compressed = self.extras.compression && self.extra_in(2);
        config.has_ages = self.extras.ages && self.extra_in(2);
        config.is_async = self.extras.is_async && !config.in_memory && self.extra_in(2);
    }

    /// The age at which a message is to go, seconds, if it is to have one.
    pub(super) fn draw_age(&mut self, at: usize) -> Option<u64> {
        let has_ages = self.model.streams[at].config.has_ages;
        (has_ages && self.extra_in(3)).then(|| 1 + u64::from(self.dice.below(8)))
    }

    /// A message of a lazy stream may be lost with everything behind it, if it was not flushed.
    pub(super) fn may_be_tail(&self, id: usize, seq: u64, last: u64) -> bool {
        let stream = &self.model.streams[self.model.sent[id].stream];
        stream.lost_tail
            && seq > last
            && self.may_be_unflushed(stream, self.model.sent[id].known_ns)
    }

    /// A lazy stream may be lost that was just made.
    pub(super) fn may_be_unmade(&self, place: usize) -> bool {
        let stream = &self.model.streams[place];
        stream.lost_tail && self.may_be_unflushed(stream, stream.made_ns)
    }

    /// What was done at a time need not have been flushed when the server ended.
    fn may_be_unflushed(&self, stream: &StreamModel, done_ns: u64) -> bool {
        let interval_ns = self.extras.lazy_ns.unwrap_or(ASYNC_NS);
        stream.has_open_end || done_ns + interval_ns + FLUSH_SLACK_NS > self.model.end_ns
    }

    /// What is older than it may be is not served.
    pub(super) fn judge_ages(
        &self,
        place: usize,
        found: &BTreeMap<u64, Found>,
        asked_wall_ns: i64,
    ) -> Result<(), Failure> {
        if self.model.jumps > 0 {
            return Ok(());
        }
        let stream = &self.model.streams[place];
        for (seq, one) in found {
            let id = super::ask::number_of(&one.payload);
            let Some(sent) = id.and_then(|id| self.model.sent.get(id)) else { continue };
            let own = (sent.age_ns > 0).then_some(sent.age_ns);
            let all = (stream.config.max_age_ns > 0).then_some(stream.config.max_age_ns);
            let Some(age_ns) = own.into_iter().chain(all).min() else { continue };
            if asked_wall_ns > one.wall_ns + age_ns + AGE_SLACK_NS {
                let old_ms = (asked_wall_ns - one.wall_ns) / 1_000_000;
                let name = &stream.name;
                return self.fail(format!("{name} at {seq}: there, but {old_ms} ms old"));
            }
        }
        Ok(())
    }

    /// Nothing of a payload is on an encrypted disk.
    pub(super) fn judge_secrecy(&self) -> Result<(), Failure> {
        if !self.extras.encryption {
            return Ok(());
        }
        let letters: Vec<u8> = (0..TELLTALE).map(super::play::letter_at).collect();
        for (name, inode) in &self.disk.names {
            let Some(inode) = self.disk.inodes.get(inode) else { continue };
            let mut rest = inode.current.as_slice();
            while let Some(at) = rest.iter().position(|byte| *byte == letters[0]) {
                rest = &rest[at..];
                if rest.starts_with(&letters) {
                    return self.fail(format!("{name} shows what a message says"));
                }
                rest = &rest[1..];
            }
        }
        Ok(())
    }
}
