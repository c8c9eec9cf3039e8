//! Streams and their stores: making one, finding those that the disk holds, and what they use.

use store::disk::BootDisk;
use store::{MemoryOptions, Store};
use wire::api::config::StreamConfig;
use wire::api::policy::Storage;

use super::JetStream;
use super::home::Home;
use super::parcel::Parcel;
use crate::context::Context;
use crate::effect::Effects;
use crate::settings::{Settings, Usage};
use crate::stream::{Identity, Stream};

impl JetStream {
    /// A new stream: its slot.
    pub(super) fn put_stream(
        &mut self,
        account: u32,
        config: StreamConfig,
        ctx: &Context<'_>,
        _fx: &mut Effects,
    ) -> u32 {
        let entry = self.homes.vacant_entry();
        let slot = entry.key() as u32;
        let seed = u64::from(slot) ^ ctx.unix_ns as u64;
        let store = Store::memory(MemoryOptions { seed, first_seq: config.first_seq });
        let id = Identity {
            account,
            account_name: self
                .tools
                .settings
                .account(account)
                .map_or("", |account| account.name.as_str())
                .into(),
            slot,
            domain: self.tools.settings.domain.as_str().into(),
        };
        let name: Box<str> = config.name.as_str().into();
        entry.insert(Box::new(Home::new(Stream::new(id, config, ctx.unix_ns, store))));
        self.names.insert((account, name), slot);
        slot
    }

    /// Finds the streams that the disk holds and that are at home here.
    pub fn recover(&mut self, _boot: &mut dyn BootDisk, ctx: &Context<'_>, fx: &mut Effects) {
        if self.meta.is_some() {
            self.note_recovered(ctx, fx);
        } else {
            self.tools.open(ctx, fx).post(0, &Parcel::Recovered);
        }
    }

    /// Removes what the disk holds of a stream.
    pub(super) fn remove_files(&mut self, home: Home, _fx: &mut Effects) {
        drop(home);
    }
}

impl Home {
    /// Brings the account's use up to date with the stream's.
    pub(super) fn note_usage(&mut self, settings: &Settings) {
        let bytes = i64::try_from(self.stream.store.state().bytes).unwrap_or(i64::MAX);
        let change = bytes - self.counted_bytes;
        if change != 0 {
            self.counted_bytes = bytes;
            self.add_usage(settings, change);
        }
    }

    /// The stream is gone: it uses nothing.
    pub(super) fn note_usage_gone(&self, settings: &Settings) {
        self.add_usage(settings, -self.counted_bytes);
    }

    fn add_usage(&self, settings: &Settings, change: i64) {
        let Some(account) = settings.account(self.stream.id.account) else { return };
        match self.stream.config().storage {
            Storage::File => Usage::add(&account.usage.file_bytes, change),
            Storage::Memory => Usage::add(&account.usage.memory_bytes, change),
        };
    }
}
