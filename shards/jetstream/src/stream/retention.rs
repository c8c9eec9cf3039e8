//! Interest and work-queue retention: messages leave when every consumer that wants them has
//! settled them.

use store::Store;
use wire::api::policy::Retention;
use wire::subject;

use super::Stream;

/// What the consumers of a stream want.
#[derive(Debug, Default)]
pub(super) struct InterestTable {
    /// The filters of each consumer by its number; without filters it wants everything.
    consumers: Vec<Option<Filters>>,
}

type Filters = Box<[Box<[u8]>]>;

impl InterestTable {
    fn wants(&self, message: &[u8]) -> bool {
        self.consumers.iter().flatten().any(|filters| {
            filters.is_empty() || filters.iter().any(|filter| subject::matches(filter, message))
        })
    }
}

impl Stream {
    /// A consumer was made, or its filters have changed. `id` is the owner's choice, and small.
    pub fn set_consumer_filters(&mut self, id: u32, filters: &[&[u8]]) {
        let at = id as usize;
        let consumers = &mut self.interest.consumers;
        if consumers.len() <= at {
            consumers.resize_with(at + 1, || None);
        }
        if let Some(place) = consumers.get_mut(at) {
            *place = Some(filters.iter().map(|&filter| filter.into()).collect());
        }
    }

    /// A consumer is gone. What nobody else wants must then be settled: see
    /// [`Self::handle_interest_lost`].
    pub fn remove_consumer_filters(&mut self, id: u32) {
        if let Some(place) = self.interest.consumers.get_mut(id as usize) {
            *place = None;
        }
    }

    /// Whether a message of this subject would be kept for nobody.
    pub(super) fn lacks_interest(&self, message: &[u8]) -> bool {
        self.config.retention == Retention::Interest && !self.interest.wants(message)
    }

    /// Consumers have settled these messages: those that no other consumer needs leave.
    /// `needs` asks all consumers but those that have settled the message.
    pub fn handle_settled(
        &mut self,
        seqs: &[u64],
        mut needs: impl FnMut(&Store, u64) -> bool,
    ) -> u64 {
        if self.config.retention == Retention::Limits {
            return 0;
        }
        let mut count = 0;
        for &seq in seqs {
            let is_free = self.store.contains(seq)
                && (self.config.retention == Retention::WorkQueue || !needs(&self.store, seq));
            if is_free && self.take_out(seq) {
                count += 1;
            }
        }
        count
    }

    /// A consumer was removed, its filters were narrowed, or the stream has come to keep messages
    /// for interest only: every message that no consumer needs leaves. Looks at up to `most`
    /// messages from `from` on and answers where to go on, if there is more.
    pub fn handle_interest_lost(
        &mut self,
        from: u64,
        most: usize,
        mut needs: impl FnMut(&Store, u64) -> bool,
    ) -> Option<u64> {
        if self.config.retention != Retention::Interest {
            return None;
        }
        let mut at = from;
        for _ in 0..most {
            let seq = self.store.next(store::ALL, at)?;
            if !needs(&self.store, seq) {
                self.take_out(seq);
            }
            at = seq.saturating_add(1);
        }
        Some(at)
    }
}
