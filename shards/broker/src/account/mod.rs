//! Accounts: isolated namespaces. Lives on: every shard; the position in the list is the id.

pub(crate) mod answers;
mod cross;
pub mod share;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::index::Index;
use crate::settings::AccountSettings;

/// The header of a request through a service import that says who asks.
pub const CLIENT_HEADER: &[u8] = b"Nats-Request-Info";

/// One account on one shard.
#[derive(Debug)]
pub struct Account {
    /// Name.
    pub name: String,
    /// Limits and the shared count of connections.
    pub(crate) settings: AccountSettings,
    /// Subjects of this account only.
    pub(crate) index: Index,
    /// Connections on this shard.
    pub(crate) connections: usize,
    /// Connections since the start.
    pub(crate) total_connections: u64,
    /// Subscriptions on this shard.
    pub(crate) subscriptions: usize,
    /// Traffic and slow consumers on this shard.
    pub(crate) traffic: AccountTraffic,
}

/// Counters of one account on one shard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AccountTraffic {
    pub(crate) in_msgs: u64,
    pub(crate) in_bytes: u64,
    pub(crate) out_msgs: u64,
    pub(crate) out_bytes: u64,
    pub(crate) slow_consumers: u64,
}

impl Account {
    pub(crate) fn new(settings: &AccountSettings, seed: u64) -> Self {
        Self {
            name: settings.name.clone(),
            settings: settings.clone(),
            index: Index::new(seed),
            connections: 0,
            total_connections: 0,
            subscriptions: 0,
            traffic: AccountTraffic::default(),
        }
    }

    /// The connections of the account in the whole process.
    pub(crate) fn shared_connections(&self) -> &Arc<AtomicUsize> {
        &self.settings.connections
    }
}
