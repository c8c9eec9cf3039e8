//! JetStream's part of a turn: recovery before anything is served, completions of the disk, new
//! operations for it, and its end.

use std::io;
use std::time::Duration;

use crate::disk::{BootFs, FINISH_LIMIT};
use crate::turn::Reactor;
use crate::uring::Event;

/// Longest wait for one completion while the shard stops.
const STOP_SLICE: Duration = Duration::from_millis(5);

impl Reactor {
    /// Reads what the disk holds of JetStream. Nobody is served before.
    ///
    /// # Errors
    /// When the ring fails.
    pub(crate) fn recover(&mut self) -> io::Result<()> {
        let Some(plan) = self.jetstream.take() else { return Ok(()) };
        self.now = self.clock.now();
        let mut boot = BootFs::with_faults(plan.disk.store_dir.clone(), plan.disk.faults.clone());
        let seed = self.seed.rotate_left(17);
        self.shard.start_jetstream(plan.settings, seed, &mut boot, self.now, &mut self.fx);
        self.apply();
        self.submit_disk()
    }

    /// Something of the disk can be handled at once.
    pub(crate) fn has_disk_work(&self) -> bool {
        self.has_more || self.disk.as_ref().is_some_and(crate::disk::Disk::has_done)
    }

    /// A completion of the ring that belongs to no socket.
    pub(crate) fn handle_file_event(&mut self, event: Event) {
        if let Some(disk) = &mut self.disk
            && let Err(error) = disk.land(event, &mut self.ring, self.now.mono_ns)
        {
            tracing::error!("the ring takes no disk operations: {error}");
        }
    }

    /// Hands what has ended to the shard.
    ///
    /// # Errors
    /// When the ring fails.
    pub(crate) fn handle_disk(&mut self) -> io::Result<()> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        disk.take_done(&mut self.disk_done, &mut self.ring, self.now.mono_ns)?;
        self.shared.note_storage_files(self.id, disk.open_files());
        for done in self.disk_done.drain(..) {
            self.shard.handle_disk_done(done, self.now);
        }
        Ok(())
    }

    /// Begins what the shard wants of the disk.
    ///
    /// # Errors
    /// When the ring fails.
    pub(crate) fn submit_disk(&mut self) -> io::Result<()> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let ops = self.shard.take_disk_ops();
        if ops.is_empty() {
            return Ok(());
        }
        disk.submit(ops, &mut self.ring, self.now.mono_ns)?;
        self.shared.note_storage_files(self.id, disk.open_files());
        Ok(())
    }

    /// The end: what is kept in memory is written, and everything under way is waited for.
    ///
    /// # Errors
    /// When the ring fails.
    pub(crate) fn finish_disk(&mut self) -> io::Result<()> {
        let until_ns = self.clock.mono_ns() + FINISH_LIMIT.as_nanos() as u64;
        loop {
            self.now = self.clock.now();
            let done = self.shard.stop_jetstream(self.now, &mut self.fx);
            self.write_logs();
            self.submit_disk()?;
            if done || self.disk.is_none() || self.now.mono_ns > until_ns {
                break;
            }
            self.ring.wait(STOP_SLICE)?;
            let mut events = std::mem::take(&mut self.events);
            self.ring.drain(|event| events.push(event));
            for event in events.drain(..) {
                self.handle_event(event);
            }
            self.handle_disk()?;
        }
        let Some(disk) = self.disk.take() else { return Ok(()) };
        let figures = disk.figures(self.now.mono_ns);
        if self.now.mono_ns > until_ns && figures.in_flight > 0 {
            let (count, seconds) = (figures.in_flight, figures.oldest_ns / 1_000_000_000);
            tracing::warn!(
                "JetStream ends without {count} disk operations that are under way, the oldest \
                for {seconds}s; nothing of them was acknowledged"
            );
        }
        let left = Duration::from_nanos(until_ns.saturating_sub(self.clock.mono_ns()));
        disk.finish(&mut self.ring, left, |_| {}).map(|_| ())
    }
}
