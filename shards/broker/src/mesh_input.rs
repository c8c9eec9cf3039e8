//! Batches from other shards, applied to this one.

use crate::account::answers::ANSWER_PREFIX;
use crate::broker::Broker;
use crate::clock::Now;
use crate::conn::paused;
use crate::effect::Effects;
use crate::mesh::{Batch, Entry, Message, Origin, decode};

impl Broker {
    /// Applies a batch that another shard sent.
    pub fn handle_batch(&mut self, mut batch: Batch, now: Now, fx: &mut Effects) {
        let mut rest = batch.bytes.as_slice();
        while let Some((entry, len)) = decode(rest) {
            rest = rest.get(len..).unwrap_or_default();
            match entry {
                Entry::Message(message) => self.handle_parcel(&message, now, fx),
                Entry::Interest { account, subject, queue, weight } => {
                    if subject.starts_with(ANSWER_PREFIX) && weight == 0 {
                        self.answers.note_ended(subject);
                    }
                    if let Some(account) = self.accounts.get_mut(account as usize) {
                        account.index.set_remote(batch.from, subject, queue, weight);
                    }
                    self.forget_plans(account, subject);
                }
                Entry::Undelivered { origin, subject, reply } => {
                    self.handle_undelivered(origin, subject, reply, fx);
                }
                Entry::Service { bytes } => self.service.push_peer(batch.from, bytes),
                Entry::Hold { origin, hold } => {
                    self.handle_hold(batch.from, origin, hold, now, fx);
                }
            }
        }
        if self.mesh.handle_applied(&batch) {
            self.handle_acknowledged(fx);
        }
        self.mesh.recycle(batch.from, std::mem::take(&mut batch.bytes));
    }

    fn handle_parcel(&mut self, message: &Message<'_>, now: Now, fx: &mut Effects) {
        let outcome = if message.answer {
            self.handle_answer_parcel(message, now.mono_ns, fx)
        } else {
            self.fan_in(message, now.mono_ns, fx)
        };
        if message.report && outcome.deliveries == 0 {
            let Message { home, origin, subject, reply, .. } = *message;
            self.mesh.push_undelivered(home, origin, subject, reply);
        }
        if let Some(receiver) = outcome.behind {
            let contested = outcome.fed.iter().flatten().any(|fed| *fed != receiver);
            self.consider_remote_hold(message.home, message.origin, receiver, contested);
        }
    }

    /// The driver has carried batches away: publishers that waited for room may go on.
    pub fn handle_mesh_drained(&mut self, fx: &mut Effects) {
        for Origin { slot, generation } in self.mesh.take_released() {
            self.unpause(slot, generation, paused::PEER, fx);
        }
    }
}
