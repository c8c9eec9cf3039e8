//! What makes a store safe and keeps it so: facts beside the messages, commits, checkpoints,
//! timers, the end.

use crate::disk::{DiskDone, DiskError, DiskQueue, Ticket};
use crate::log::{Cache, Record};
use crate::notes::Note;
use crate::recover::encode;
use crate::store::{Backing, Position, Progress, Store};

impl Store {
    /// Keeps a small fact under a key, instead of what was there. The position says when it is
    /// safe; what was removed before may be safe later.
    pub fn put_note(&mut self, key: &[u8], bytes: &[u8]) -> Position {
        match &mut self.backing {
            Backing::Memory(_, notes) => {
                notes.put(key, bytes);
                Position::default()
            }
            Backing::File(file) => file.append_note(&Record::NotePut { key, value: bytes }),
        }
    }

    /// Adds a change to a fact. Many changes make starts slow: see [`Self::deltas_of`].
    pub fn add_delta(&mut self, key: &[u8], bytes: &[u8]) -> Position {
        match &mut self.backing {
            Backing::Memory(_, notes) => {
                notes.add_delta(key, bytes);
                Position::default()
            }
            Backing::File(file) => file.append_note(&Record::NoteDelta { key, delta: bytes }),
        }
    }

    /// Forgets a fact.
    pub fn remove_note(&mut self, key: &[u8]) -> Position {
        match &mut self.backing {
            Backing::Memory(_, notes) => {
                notes.remove(key);
                Position::default()
            }
            Backing::File(file) => file.append_note(&Record::NoteRemove { key }),
        }
    }

    /// A fact of a stream in memory. Those of a stream in files are given once, at start.
    #[must_use]
    pub fn note(&self, key: &[u8]) -> Option<&Note> {
        match &self.backing {
            Backing::Memory(_, notes) => notes.get(key),
            Backing::File(_) => None,
        }
    }

    /// How many changes a fact has since its value was put.
    #[must_use]
    pub fn deltas_of(&self, key: &[u8]) -> usize {
        match &self.backing {
            Backing::Memory(_, notes) => notes.get(key).map_or(0, |note| note.deltas.len()),
            Backing::File(file) => file.log.deltas_of(key),
        }
    }

    /// Whether facts and removals of `bytes` in all can be written now. A store whose disk is full
    /// keeps a reserve for them. Who does what it asked about before anything else is appended
    /// does not get [`Position::NEVER`].
    #[must_use]
    pub fn admits(&self, bytes: usize) -> bool {
        match &self.backing {
            Backing::Memory(..) => true,
            Backing::File(file) => file.admits(bytes),
        }
    }

    /// Whether [`Self::purge`] with a filter can be written now.
    #[must_use]
    pub fn admits_purge(&self, filter: &[u8], below_seq: Option<u64>) -> bool {
        // One by one they are counted only when it matters.
        let doomed = if self.lacks_space() {
            let to = below_seq.unwrap_or(u64::MAX).saturating_sub(1);
            self.index.matching_seqs(filter, to).len()
        } else {
            0
        };
        self.admits(doomed * size_of::<(u64, u64)>())
    }

    /// The place behind everything done so far.
    pub fn position(&mut self) -> Position {
        match &mut self.backing {
            Backing::Memory(..) => Position::default(),
            Backing::File(file) => file.position(),
        }
    }

    /// The place behind all facts and messages so far; what was removed may be safe later.
    #[must_use]
    pub fn facts_position(&self) -> Position {
        match &self.backing {
            Backing::Memory(..) => Position::default(),
            Backing::File(file) => file.end(),
        }
    }

    /// Whether everything done before `position` was taken is safe.
    #[must_use]
    pub fn is_durable(&self, position: Position) -> bool {
        match &self.backing {
            Backing::Memory(..) => position != Position::NEVER,
            Backing::File(file) => file.is_durable(position),
        }
    }

    /// Messages up to this number are safe.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        match &self.backing {
            Backing::Memory(..) => self.index.last_seq(),
            Backing::File(file) => file.durable_seq(),
        }
    }

    /// Why nothing is stored any more.
    #[must_use]
    pub fn fenced(&self) -> Option<DiskError> {
        match &self.backing {
            Backing::Memory(..) => None,
            Backing::File(file) => file.fenced(),
        }
    }

    /// True while messages may be refused because the device is full.
    #[must_use]
    pub fn lacks_space(&self) -> bool {
        match &self.backing {
            Backing::Memory(..) => false,
            Backing::File(file) => file.log.lacks_space(),
        }
    }

    /// Begins to make safe what was done since; whether anything was begun. To be called at the
    /// end of every turn in which something was done or the disk had done something.
    pub fn commit(&mut self, mono_ns: u64, disk: &mut DiskQueue) -> bool {
        match &mut self.backing {
            Backing::Memory(..) => false,
            Backing::File(file) => {
                let began = file.commit(mono_ns, disk);
                if file.needs_checkpoint(false) {
                    self.write_checkpoint(disk);
                }
                began
            }
        }
    }

    /// Whether messages are compressed from now on; those of streams in memory never are.
    pub fn set_compression(&mut self, is_on: bool) {
        if let Backing::File(file) = &mut self.backing {
            file.log.set_compression(is_on);
        }
    }

    /// A start is to read no more than about this many bytes of records, or four times the size of
    /// the index if that is more. 128 MiB unless set.
    pub fn set_checkpoint_bytes(&mut self, bytes: u64) {
        if let Backing::File(file) = &mut self.backing {
            file.set_checkpoint_bytes_min(bytes);
        }
    }

    fn write_checkpoint(&mut self, disk: &mut DiskQueue) {
        // What a Journal says has to be read at the next start until it is done.
        if let Backing::File(file) = &mut self.backing
            && !file.log.is_erasing()
            && file.write_removed()
        {
            let image = encode(&mut self.index, file);
            file.write_checkpoint(&image, disk);
        }
    }

    /// An operation of this store has ended.
    pub fn handle_disk_done(
        &mut self,
        done: DiskDone,
        mono_ns: u64,
        disk: &mut DiskQueue,
        cache: &mut Cache,
    ) -> Progress {
        match &mut self.backing {
            Backing::Memory(..) => Progress::default(),
            Backing::File(file) => {
                let progress = file.handle_disk_done(done, mono_ns, cache, disk);
                file.drive_compaction(&mut self.index, mono_ns, cache, disk);
                file.drive_scrub(&self.index, mono_ns, cache, disk);
                file.drop_useless(&self.index, cache, disk);
                progress
            }
        }
    }

    /// When to call [`Self::handle_timers`], monotonic ns.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        match &self.backing {
            Backing::Memory(..) => None,
            Backing::File(file) => {
                let own = [file.compaction_deadline(), file.scrub_deadline()];
                file.log.next_deadline().into_iter().chain(own.into_iter().flatten()).min()
            }
        }
    }

    /// Does what is due.
    pub fn handle_timers(&mut self, mono_ns: u64, disk: &mut DiskQueue, cache: &mut Cache) {
        if let Backing::File(file) = &mut self.backing {
            file.log.handle_timers(mono_ns, cache, disk);
            file.drive_compaction(&mut self.index, mono_ns, cache, disk);
            file.drive_scrub(&self.index, mono_ns, cache, disk);
        }
    }

    /// Before a clean stop: writes what makes the next start fast, and makes all safe. To be
    /// called again after each completion until it is true; then the queue is carried out once
    /// more, and nothing is done with the store after it. Without space it does what can be done:
    /// what is not safe then was promised to nobody, and erasures are left to the next start, see
    /// [`Self::erasing_count`].
    pub fn stop(&mut self, mono_ns: u64, disk: &mut DiskQueue, cache: &mut Cache) -> bool {
        let Backing::File(file) = &mut self.backing else { return true };
        file.stop_scrub();
        if !std::mem::replace(&mut file.is_stopping, true) {
            file.log.begin_stop();
        }
        file.write_removed();
        let is_due = file.needs_checkpoint(true);
        if is_due {
            self.write_checkpoint(disk);
        }
        let Backing::File(file) = &mut self.backing else { return true };
        file.log.go_on_erasing(mono_ns, cache, disk);
        file.log.settle(mono_ns, disk);
        let is_settled = file.log.is_settled() || file.log.waits_for_space();
        (is_settled && file.log.rests_erasing()) || file.fenced().is_some()
    }

    /// How many messages are removed whose bytes are still to be overwritten.
    #[must_use]
    pub fn erasing_count(&self) -> usize {
        match &self.backing {
            Backing::Memory(..) => 0,
            Backing::File(file) => file.log.erasing_count(),
        }
    }

    /// Removes the stream with all its files. The operation after which they are gone; none for a
    /// stream without files.
    pub fn delete(self, disk: &mut DiskQueue, cache: &mut Cache) -> Option<Ticket> {
        let Backing::File(file) = self.backing else { return None };
        cache.release_compaction(file.log.uid());
        cache.scrub_turn.release(file.log.uid(), 0);
        file.log.remove_all(cache, disk)
    }

    /// Bytes of memory that the index takes.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.index.heap_bytes()
    }

    /// Bytes of memory that the store takes, messages of streams in memory included.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let log = match &self.backing {
            Backing::Memory(log, _) => log.heap_bytes(),
            Backing::File(file) => file.log.memory_bytes(),
        };
        self.index.heap_bytes() + log
    }
}
