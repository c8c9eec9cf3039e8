//! What a store in files does when the disk is damaged, broken or full.

use super::disk::{Disk, Driver, Fault, Rng};
use super::small_options;
use crate::disk::DiskError;
use crate::log::{Cache, CheckpointUse, Options};
use crate::{AppendError, NewMessage, Position, Progress, Read, Recovered, Store};

fn options() -> Options {
    small_options("js/A/streams/S", 78)
}

struct Rig {
    store: Store,
    driver: Driver,
    cache: Cache,
    rng: Rng,
    now_ns: u64,
}

impl Rig {
    fn new() -> Self {
        let mut driver = Driver::default();
        let store = Store::file(options(), 0, &mut driver.queue);
        Self { store, driver, cache: Cache::new(256 << 10), rng: Rng(9), now_ns: 0 }
    }

    fn on(disk: Disk, store: Store) -> Self {
        let driver = Driver::on(disk);
        Self { store, driver, cache: Cache::new(256 << 10), rng: Rng(9), now_ns: 0 }
    }

    fn append(&mut self, subject: &str, payload: &[u8]) -> Result<u64, AppendError> {
        let subject = subject.as_bytes();
        let message = NewMessage { subject, payload, ts_ns: 5, ..NewMessage::default() };
        self.store.append(&message)
    }

    /// Lets the disk do all there is to do; what happened.
    fn run(&mut self) -> Progress {
        let mut all = Progress::default();
        loop {
            self.now_ns += 1_000_000;
            self.store.commit(self.now_ns, &mut self.driver.queue);
            let Some(done) = self.driver.complete(&mut self.rng) else { return all };
            let queue = &mut self.driver.queue;
            let one = self.store.handle_disk_done(done, self.now_ns, queue, &mut self.cache);
            all.is_more_durable |= one.is_more_durable;
            all.has_space_again |= one.has_space_again;
            all.failed = all.failed.or(one.failed);
        }
    }

    fn stop(&mut self) {
        for _ in 0..1000 {
            self.now_ns += 1_000_000;
            let is_settled = self.store.stop(self.now_ns, &mut self.driver.queue, &mut self.cache);
            let Some(done) = self.driver.complete(&mut self.rng) else {
                return assert!(is_settled);
            };
            let queue = &mut self.driver.queue;
            self.store.handle_disk_done(done, self.now_ns, queue, &mut self.cache);
        }
        panic!("it does not settle");
    }

    fn payload_of(&mut self, seq: u64) -> Option<Vec<u8>> {
        for _ in 0..100 {
            match self.store.get(seq, &mut self.cache, &mut self.driver.queue) {
                Read::Message(m) => return Some(m.payload.to_vec()),
                Read::Damaged | Read::Failed => return None,
                Read::Missing => panic!("{seq} is missing"),
                Read::Pending => {}
            }
            self.run();
        }
        panic!("{seq} stays pending");
    }

    fn crash(mut self) -> (Disk, u64) {
        let durable = self.store.durable_seq();
        (self.driver.crash(&mut self.rng, true), durable)
    }
}

fn recover(disk: &mut Disk) -> Recovered {
    Store::recover(options(), disk).unwrap()
}

/// A file of the disk that holds some bytes, and where in it.
fn find(disk: &Disk, bytes: &[u8]) -> (String, usize) {
    let segments = disk.files.iter().filter(|(path, _)| path.ends_with(".seg"));
    let mut hits = segments.filter_map(|(path, file)| {
        let at = file.bytes.windows(bytes.len()).rposition(|window| window == bytes)?;
        Some((path.clone(), at))
    });
    hits.next().unwrap()
}

fn filled() -> Rig {
    let mut rig = Rig::new();
    rig.store.set_checkpoint_bytes(1 << 30);
    for i in 0..400 {
        rig.append(&format!("s.{}", i % 7), format!("payload {i:05} ").repeat(40).as_bytes())
            .unwrap();
        if i % 10 == 0 {
            rig.run();
        }
    }
    rig.run();
    rig
}

#[test]
fn a_damaged_message_is_named_and_the_rest_stays() {
    let mut rig = filled();
    rig.stop();
    let (mut disk, _) = rig.crash();
    disk.files.retain(|path, _| !path.ends_with(".chk"));
    let (path, at) = find(&disk, b"payload 00123 payload");
    disk.files.get_mut(&path).unwrap().bytes[at] ^= 1;
    let found = recover(&mut disk);
    assert_eq!(found.lost, [(124, 124)]);
    assert!(!found.report.is_clean());
    assert_eq!(found.store.state().messages, 399);
    assert_eq!(found.store.state().deleted, 1);
    let mut rig = Rig::on(disk, found.store);
    assert_eq!(rig.payload_of(124), None);
    assert_eq!(rig.payload_of(123).unwrap(), b"payload 00122 ".repeat(40));
    assert_eq!(rig.payload_of(125).unwrap(), b"payload 00124 ".repeat(40));
    assert_eq!(rig.append("s.1", b"new"), Ok(401));
    // The next start reads a checkpoint and still knows.
    rig.store.set_checkpoint_bytes(0);
    rig.run();
    rig.stop();
    let (mut disk, _) = rig.crash();
    let found = recover(&mut disk);
    assert_eq!(found.report.checkpoint, CheckpointUse::Used);
    assert_eq!(found.lost, [(124, 124)]);
    let mut rig = Rig::on(disk, found.store);
    assert_eq!(rig.payload_of(124), None);
    rig.store.purge(None, None, 0);
    assert_eq!(rig.store.get(124, &mut rig.cache, &mut rig.driver.queue), Read::Missing);
}

#[test]
fn a_lost_tail_is_named_until_the_stream_is_purged_past_it() {
    let mut rig = filled();
    rig.stop();
    let (mut disk, _) = rig.crash();
    disk.files.retain(|path, _| !path.ends_with(".chk"));
    let (path, _) = find(&disk, b"payload 00399 payload");
    // Both slots of the last segment.
    disk.files.get_mut(&path).unwrap().bytes[4096..20_480].fill(0xAA);
    let found = recover(&mut disk);
    assert!(found.report.tail_unknown);
    let lost = found.lost.clone();
    let &[(first, last)] = lost.as_slice() else { panic!("{lost:?}") };
    assert!(first <= 400 && last >= 400, "{lost:?}");
    let mut store = found.store;
    for with_checkpoint in [false, true, false] {
        let mut rig = Rig::on(disk, store);
        assert!(rig.append("s.1", b"new").unwrap() > last);
        if with_checkpoint {
            rig.store.set_checkpoint_bytes(0);
        }
        rig.run();
        rig.stop();
        disk = rig.crash().0;
        if !with_checkpoint {
            disk.files.retain(|path, _| !path.ends_with(".chk"));
        }
        let checked = crate::check::check(&options(), &mut disk, false).unwrap();
        assert!(!checked.is_clean() && checked.notes.is_empty());
        assert_eq!(checked.lost, lost);
        let found = recover(&mut disk);
        assert_eq!(found.lost, lost);
        assert!(found.report.is_clean(), "nothing else tells of it: {:?}", found.report);
        assert!(found.notes.is_empty(), "the fact is the store's own");
        store = found.store;
    }
    let mut rig = Rig::on(disk, store);
    rig.store.purge(None, Some(last), 0);
    rig.stop();
    let mut disk = rig.crash().0;
    let found = recover(&mut disk);
    assert_eq!(found.lost, lost, "the last of them is not below the purge");
    let mut rig = Rig::on(disk, found.store);
    rig.store.purge(None, Some(last + 1), 0);
    rig.stop();
    let mut disk = rig.crash().0;
    disk.files.retain(|path, _| !path.ends_with(".chk"));
    assert_eq!(recover(&mut disk).lost, []);
}

#[test]
fn damage_that_a_checkpoint_hides_is_seen_by_the_reader() {
    let mut rig = filled();
    rig.store.set_checkpoint_bytes(0);
    rig.run();
    rig.stop();
    let (mut disk, _) = rig.crash();
    let (path, at) = find(&disk, b"payload 00050 payload");
    disk.files.get_mut(&path).unwrap().bytes[at] ^= 1;
    let found = recover(&mut disk);
    assert_eq!(found.report.checkpoint, CheckpointUse::Used);
    let mut rig = Rig::on(disk, found.store);
    assert_eq!(rig.payload_of(51), None);
    assert_eq!(rig.payload_of(50).unwrap(), b"payload 00049 ".repeat(40));
}

#[test]
fn a_damaged_checkpoint_costs_time_only() {
    let mut rig = filled();
    rig.store.remove(7, false);
    rig.store.set_checkpoint_bytes(0);
    rig.run();
    rig.stop();
    let state = rig.store.state();
    let (disk, _) = rig.crash();
    let len = disk.files["js/A/streams/S/index.chk"].bytes.len();
    for at in (0..len).step_by(len / 40 + 1) {
        let mut disk = disk.clone();
        disk.files.get_mut("js/A/streams/S/index.chk").unwrap().bytes[at] ^= 0x10;
        let found = recover(&mut disk);
        assert_ne!(found.report.checkpoint, CheckpointUse::Used);
        assert_eq!(found.store.state(), state);
        assert!(found.report.is_clean());
    }
}

#[test]
fn a_failed_flush_fences_the_store() {
    let mut rig = filled();
    let before = rig.store.position();
    rig.run();
    assert!(rig.store.is_durable(before));
    rig.append("s.1", b"never safe").unwrap();
    let after = rig.store.position();
    rig.driver.disk.faults.push((Fault::Commit, DiskError::Os(5)));
    assert_eq!(rig.run().failed, Some(DiskError::Os(5)));
    assert_eq!(rig.append("s.1", b"x"), Err(AppendError::Fenced));
    assert_eq!(rig.store.fenced(), Some(DiskError::Os(5)));
    assert_eq!(rig.store.put_note(b"k", b"v"), Position::NEVER);
    rig.run();
    assert!(rig.store.is_durable(before) && !rig.store.is_durable(after));
    assert_eq!(rig.store.durable_seq(), 400);
    assert_eq!(rig.payload_of(3).unwrap(), b"payload 00002 ".repeat(40));
    let (mut disk, durable) = rig.crash();
    assert!(recover(&mut disk).store.state().last_seq >= durable);
}

/// Its first file could not be made, be it that another log is there: removing it removes none.
#[test]
fn a_store_without_files_removes_nothing() {
    let mut rig = filled();
    rig.stop();
    let (disk, _) = rig.crash();
    for error in [DiskError::Os(5), DiskError::Os(17), DiskError::NoSpace] {
        let mut driver = Driver::on(disk.clone());
        driver.disk.faults.push((Fault::Create, error));
        let store = Store::file(options(), 0, &mut driver.queue);
        let cache = Cache::new(256 << 10);
        let mut rig = Rig { store, driver, cache, rng: Rng(9), now_ns: 0 };
        rig.run();
        let Rig { store, mut driver, mut cache, mut rng, .. } = rig;
        assert_eq!(store.delete(&mut driver.queue, &mut cache), None);
        while driver.complete(&mut rng).is_some() {}
        assert_eq!(recover(&mut driver.disk).store.state().last_seq, 400);
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on() {
    let mut rig = filled();
    rig.append("s.1", b"waits").unwrap();
    rig.driver.disk.faults.push((Fault::Commit, DiskError::NoSpace));
    rig.run();
    assert!(rig.store.lacks_space());
    assert_eq!(rig.store.durable_seq(), 400);
    assert_eq!(rig.append("s.1", b"x"), Err(AppendError::NoSpace));
    assert!(rig.store.remove(9, false).is_some());
    assert_eq!(rig.payload_of(3).unwrap(), b"payload 00002 ".repeat(40));
    let mut has_space = false;
    for _ in 0..3 {
        rig.now_ns = rig.store.next_deadline_ns().unwrap().max(rig.now_ns);
        rig.store.handle_timers(rig.now_ns, &mut rig.driver.queue, &mut rig.cache);
        has_space |= rig.run().has_space_again;
    }
    assert!(has_space && !rig.store.lacks_space());
    assert_eq!(rig.store.durable_seq(), 401);
    assert_eq!(rig.append("s.1", b"goes"), Ok(402));
    rig.stop();
    let (mut disk, _) = rig.crash();
    let found = recover(&mut disk);
    assert_eq!(found.store.state().messages, 401);
    assert!(!found.store.contains(9));
}

#[test]
fn facts_outlive_the_segments_that_held_them() {
    let mut rig = Rig::new();
    rig.store.put_note(b"config", b"{}");
    rig.store.put_note(b"gone", b"1");
    for round in 0..60u32 {
        rig.store.add_delta(b"state", &round.to_le_bytes());
        for _ in 0..20 {
            rig.append("a", &[1; 1000]).unwrap();
        }
        rig.run();
        let last = rig.store.last_seq();
        rig.store.remove_up_to(last - 5);
        rig.run();
        if round == 30 {
            rig.store.put_note(b"state", b"at thirty");
            rig.store.remove_note(b"gone");
        }
    }
    rig.run();
    assert!(rig.driver.disk.files.len() < 8, "{:?}", rig.driver.disk.files.keys());
    let (mut disk, _) = rig.crash();
    let found = recover(&mut disk);
    let mut notes = found.notes;
    notes.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(notes.len(), 2);
    assert_eq!(notes[0].value.as_deref(), Some(&b"{}"[..]));
    assert_eq!(notes[1].value.as_deref(), Some(&b"at thirty"[..]));
    let deltas: Vec<Vec<u8>> = (31..60u32).map(|r| r.to_le_bytes().to_vec()).collect();
    assert_eq!(notes[1].deltas, deltas);
}

/// More facts than a segment holds: dropping segments of them would never end.
#[test]
fn many_facts_do_not_chase_each_other() {
    let mut rig = Rig::new();
    for key in 0..300u32 {
        rig.store.put_note(&key.to_le_bytes(), &[7; 1000]);
        rig.run();
    }
    // 330 KB in segments of 64 KiB, each copied but once.
    let newest = |rig: &Rig| {
        let segments = rig.driver.disk.files.keys().filter(|path| path.ends_with(".seg"));
        segments.max().and_then(|path| path[15..35].parse::<u32>().ok()).unwrap()
    };
    assert!(newest(&rig) <= 8, "{}", newest(&rig));
    for round in 0..100u32 {
        rig.store.add_delta(&round.to_le_bytes(), b"x");
        rig.run();
    }
    assert!(newest(&rig) <= 8, "{}", newest(&rig));
    let (mut disk, _) = rig.crash();
    let found = recover(&mut disk);
    assert_eq!(found.notes.len(), 300);
    assert!(found.notes.iter().all(|note| note.value.as_deref() == Some(&[7; 1000][..])));
    assert_eq!(found.notes.iter().filter(|note| note.deltas.len() == 1).count(), 100);
}

#[test]
fn a_group_is_kept_as_a_whole_or_not_at_all() {
    let message = NewMessage { subject: b"g", payload: &[3; 3000], ..NewMessage::default() };
    for seed in 0..20 {
        let mut rig = filled();
        rig.rng = Rng(seed);
        let last = rig.store.last_seq();
        rig.store.reserve_group(10 * 3001, 10);
        for at in 1..=10 {
            rig.store.append_grouped(&message, at < 10).unwrap();
        }
        assert!(rig.store.commit(rig.now_ns + 1, &mut rig.driver.queue));
        if seed % 4 == 0 {
            rig.run();
        }
        let (mut disk, durable) = rig.crash();
        let state = recover(&mut disk).store.state();
        assert_eq!(durable, if seed % 4 == 0 { last + 10 } else { last });
        assert!(state.last_seq == last || state.last_seq == last + 10, "{}", state.last_seq);
        assert!(state.last_seq >= durable);
    }
}
