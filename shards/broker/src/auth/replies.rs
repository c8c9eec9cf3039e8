//! The replies a client may publish to because it was sent a request: `allow_responses`.
//!
//! A bounded table in order of age. Every permit of a table lives equally long, so the oldest is
//! always the first to expire, and the one to give way when the table is full.

use hashbrown::HashTable;
use slab::Slab;

use crate::index::hash::HashSeed;

use super::permissions::ResponseSettings;

/// Unanswered requests remembered for one connection; the oldest give way to new ones.
pub const REPLY_PERMITS_MAX: usize = 65_536;
/// Expired permits taken out with each new one, so that no single grant pays for many.
const PRUNED_PER_GRANT: usize = 4;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Permit {
    reply: Box<[u8]>,
    granted_ns: u64,
    used: i64,
    older: u32,
    newer: u32,
}

/// See the module. Lives on: the connection's shard.
#[derive(Debug)]
pub struct ReplyPermits {
    settings: ResponseSettings,
    permits: Slab<Permit>,
    by_reply: HashTable<u32>,
    oldest: u32,
    newest: u32,
    max: usize,
    /// Secret of the hash: replies are chosen by other clients.
    seed: HashSeed,
}

impl ReplyPermits {
    /// An empty table; the seed keys its hashing and must not be known to clients.
    #[must_use]
    pub fn new(settings: ResponseSettings, seed: u64) -> Self {
        Self {
            settings,
            permits: Slab::new(),
            by_reply: HashTable::new(),
            oldest: NONE,
            newest: NONE,
            max: REPLY_PERMITS_MAX,
            seed: HashSeed::new(seed),
        }
    }

    /// Permits held, expired ones that were not yet noticed among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.permits.len()
    }

    /// True when nothing may be answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }

    /// Notes that a message with this reply was delivered to the client. Call it only for a reply
    /// that the publish rules refuse.
    ///
    /// As in nats-server, a reply that is still permitted is not granted anew: delivering it again
    /// uses up one of its messages.
    pub fn grant(&mut self, reply: &[u8], now_ns: u64) {
        if self.allows(reply, now_ns) {
            return;
        }
        for _ in 0..PRUNED_PER_GRANT {
            let is_full = self.permits.len() >= self.max;
            match self.permits.get(self.oldest as usize) {
                Some(permit) if is_full || self.is_expired(permit, now_ns) => {
                    self.take_out(self.oldest);
                }
                _ => break,
            }
        }
        let permit = Permit {
            reply: reply.into(),
            granted_ns: now_ns,
            used: 0,
            older: self.newest,
            newer: NONE,
        };
        let id = self.permits.insert(permit) as u32;
        match self.permits.get_mut(self.newest as usize) {
            Some(newest) => newest.newer = id,
            None => self.oldest = id,
        }
        self.newest = id;
        let hash = self.seed.of(reply);
        let (permits, seed) = (&self.permits, &self.seed);
        self.by_reply.insert_unique(hash, id, |&other| {
            permits.get(other as usize).map_or(0, |permit| seed.of(&permit.reply))
        });
    }

    /// Whether the client may publish to `reply` now; counts it as one answer when it may.
    pub fn allows(&mut self, reply: &[u8], now_ns: u64) -> bool {
        let hash = self.seed.of(reply);
        let permits = &self.permits;
        let found = self.by_reply.find(hash, |&id| {
            permits.get(id as usize).is_some_and(|permit| &*permit.reply == reply)
        });
        let Some(&id) = found else { return false };
        let max = self.settings.max;
        let Some(permit) = self.permits.get_mut(id as usize) else {
            return false;
        };
        permit.used = permit.used.saturating_add(1);
        let is_used_up = max > 0 && permit.used >= max;
        let is_expired = self.permits.get(id as usize).is_some_and(|p| self.is_expired(p, now_ns));
        if is_used_up || is_expired {
            self.take_out(id);
        }
        !is_expired
    }

    fn is_expired(&self, permit: &Permit, now_ns: u64) -> bool {
        let expires_ns = self.settings.expires_ns;
        expires_ns > 0 && now_ns.saturating_sub(permit.granted_ns) > expires_ns
    }

    fn take_out(&mut self, id: u32) {
        let Some(permit) = self.permits.try_remove(id as usize) else {
            return;
        };
        match self.permits.get_mut(permit.older as usize) {
            Some(older) => older.newer = permit.newer,
            None => self.oldest = permit.newer,
        }
        match self.permits.get_mut(permit.newer as usize) {
            Some(newer) => newer.older = permit.older,
            None => self.newest = permit.older,
        }
        let hash = self.seed.of(&permit.reply);
        if let Ok(entry) = self.by_reply.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        if self.permits.is_empty() {
            self.permits = Slab::new();
            self.by_reply = HashTable::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn permits(max: i64, expires_ns: u64) -> ReplyPermits {
        ReplyPermits::new(ResponseSettings { max, expires_ns }, 5)
    }

    #[test]
    fn a_permit_ends_with_its_last_message() {
        let mut table = permits(2, 0);
        assert!(!table.allows(b"r", 0));
        table.grant(b"r", 0);
        assert!(table.allows(b"r", 1) && table.allows(b"r", 2) && !table.allows(b"r", 3));
        assert!(table.is_empty());
        table.grant(b"r", 4);
        assert!(table.allows(b"r", 5), "granted anew after it was used up");
    }

    #[test]
    fn a_permit_ends_with_its_time() {
        let mut table = permits(-1, SECOND);
        table.grant(b"r", 0);
        assert!(table.allows(b"r", SECOND) && !table.allows(b"r", SECOND + 1));
        assert!(table.is_empty());
    }

    /// Observed on nats-server 2.15.1: delivering the same reply again before it was answered
    /// takes one answer away.
    #[test]
    fn a_second_delivery_uses_up_an_answer() {
        let answers = |max: i64, deliveries: usize| {
            let mut table = permits(max, 120 * SECOND);
            (0..deliveries).for_each(|_| table.grant(b"r", 0));
            (0..5).filter(|_| table.allows(b"r", 1)).count()
        };
        assert_eq!([answers(1, 1), answers(1, 2), answers(1, 3)], [1, 0, 1]);
        assert_eq!([answers(2, 1), answers(2, 2), answers(2, 3)], [2, 1, 0]);
    }

    #[test]
    fn without_limits_the_table_stays_bounded() {
        let mut table = permits(0, 0);
        table.max = 100;
        for number in 0..1_000u32 {
            table.grant(&number.to_le_bytes(), 0);
        }
        assert_eq!(table.len(), 100);
        assert!(!table.allows(&899u32.to_le_bytes(), 1) && table.allows(&900u32.to_le_bytes(), 1));
    }

    #[test]
    fn expired_permits_leave_with_new_ones() {
        let mut table = permits(1, SECOND);
        for number in 0..100u32 {
            table.grant(&number.to_le_bytes(), 0);
        }
        for number in 100..130u32 {
            table.grant(&number.to_le_bytes(), 2 * SECOND);
        }
        assert_eq!(table.len(), 30);
        // Taking permits out of the middle keeps the order of the others.
        for number in (100..130u32).step_by(2) {
            assert!(table.allows(&number.to_le_bytes(), 2 * SECOND));
        }
        for number in (101..130u32).step_by(2) {
            assert!(table.allows(&number.to_le_bytes(), 2 * SECOND));
        }
        assert!(table.is_empty() && table.oldest == NONE && table.newest == NONE);
    }
}
