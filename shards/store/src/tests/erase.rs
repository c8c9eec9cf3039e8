//! Erased messages of a store: wherever the end comes, the next start goes on with it, and what
//! is half overwritten is no damage.

use super::disk::{Disk, Driver, Fault, Rng};
use super::small_options;
use crate::disk::{DiskError, DiskOp};
use crate::log::{Cache, Durability, Options};
use crate::{NewMessage, Position, Recovered, Store};

const SECRET: &[u8] = b"bytes that must go";

struct Rig {
    store: Store,
    driver: Driver,
    cache: Cache,
    rng: Rng,
    now_ns: u64,
}

impl Rig {
    fn new(options: Options, seed: u64) -> Self {
        let mut driver = Driver::default();
        let store = Store::file(options, 0, &mut driver.queue);
        Self::with(store, driver, seed)
    }

    fn with(store: Store, driver: Driver, seed: u64) -> Self {
        Self { store, driver, cache: Cache::new(256 << 10), rng: Rng(seed), now_ns: 1 }
    }

    fn append(&mut self, len: usize, is_secret: bool) -> u64 {
        let text = if is_secret { SECRET } else { b"bytes that stay on" };
        let payload = &text.repeat(len / text.len() + 1)[..len];
        let message = NewMessage { subject: b"s", payload, ts_ns: 5, ..NewMessage::default() };
        self.store.append(&message).unwrap()
    }

    fn commit(&mut self) {
        self.now_ns += 1000;
        self.store.commit(self.now_ns, &mut self.driver.queue);
    }

    /// Lets one operation end, or time pass when there is none.
    fn step(&mut self) {
        self.commit();
        let Some(done) = self.driver.complete(&mut self.rng) else { return self.pass() };
        self.store.handle_disk_done(done, self.now_ns, &mut self.driver.queue, &mut self.cache);
        self.commit();
    }

    fn pass(&mut self) {
        self.now_ns += 30_000_000;
        self.store.handle_timers(self.now_ns, &mut self.driver.queue, &mut self.cache);
    }

    fn run(&mut self) {
        for _ in 0..300 {
            self.step();
        }
    }

    /// From now on nothing can be written.
    fn fill_disk(&mut self) {
        for fault in [Fault::Commit, Fault::Create] {
            self.driver.disk.faults.extend(vec![(fault, DiskError::NoSpace); 1000]);
        }
    }

    /// A clean stop; how many operations that took.
    fn stop(&mut self) -> usize {
        for steps in 0..500 {
            self.now_ns += 1_000_000;
            let queue = &mut self.driver.queue;
            if self.store.stop(self.now_ns, queue, &mut self.cache) {
                return steps;
            }
            let done = self.driver.complete(&mut self.rng).expect("nothing is waited for");
            let queue = &mut self.driver.queue;
            self.store.handle_disk_done(done, self.now_ns, queue, &mut self.cache);
        }
        panic!("it does not stop");
    }

    fn crash(mut self, power: bool) -> Disk {
        self.driver.crash(&mut self.rng, power)
    }

    fn recover(options: &Options, mut disk: Disk) -> (Self, Recovered) {
        let mut found = Store::recover(options.clone(), &mut disk).unwrap();
        let store =
            std::mem::replace(&mut found.store, Store::memory(crate::MemoryOptions::default()));
        (Self::with(store, Driver::on(disk), 3), found)
    }
}

/// Also where a start gave space back without overwriting it.
fn has_secret(disk: &Disk) -> bool {
    let freed = || disk.freed.iter().flatten().map(|bytes| bytes.windows(SECRET.len()));
    !secrets(disk).is_empty() || freed().any(|mut windows| windows.any(|at| at == SECRET))
}

/// Where the secret lies.
fn secrets(disk: &Disk) -> Vec<(String, usize)> {
    let all = disk.files.iter().flat_map(|(path, file)| {
        let windows = file.bytes.windows(SECRET.len()).enumerate();
        windows.filter(|(_, at)| *at == SECRET).map(|(at, _)| (path.clone(), at))
    });
    all.collect()
}

fn all_options() -> [Options; 2] {
    let flushed = small_options("js/A/streams/S", 79);
    let durability = Durability::Lazy { interval_ns: 100_000_000 };
    [flushed.clone(), Options { durability, ..flushed }]
}

/// A segment goes while a message of it is being erased: so its file is overwritten.
#[test]
fn a_segment_that_is_half_overwritten_is_no_damage() {
    for (options, power) in all_options().iter().flat_map(|of| [(of, false), (of, true)]) {
        let mut is_over = false;
        for steps in 0..60 {
            let mut rig = Rig::new(options.clone(), steps);
            rig.store.put_note(b"a", b"ends in the segment that goes");
            for seq in 1..=40 {
                rig.append(2000, seq == 20);
            }
            rig.store.remove_note(b"a");
            rig.run();
            assert!(rig.store.remove(20, true).is_some());
            rig.store.remove_up_to(35);
            for _ in 0..steps {
                rig.step();
            }
            is_over = !has_secret(&rig.driver.disk);
            rig.driver.disk.freed = Some(Vec::new());
            let (mut rig, found) = Rig::recover(options, rig.crash(power));
            let about = format!("after {steps} steps, power {power}: {:?}", found.report);
            assert!(found.report.is_clean() && found.report.damaged_headers.is_empty(), "{about}");
            assert_eq!(found.lost, [], "{about}");
            assert!(found.notes.is_empty(), "{:?} {about}", found.notes);
            rig.run();
            let is_purged = rig.store.state().messages == 5;
            assert!(is_purged || rig.store.state().messages >= 39, "{about}");
            // What was removed for certain is gone for certain.
            assert!(rig.store.contains(20) || !has_secret(&rig.driver.disk), "{about}");
        }
        assert!(is_over);
    }
}

/// Ten neighbours are being erased: when that is safe, and where they lay. The journals of some
/// may have copies of others.
fn erased_neighbours(
    options: &Options,
    seed: u64,
    after_last: usize,
) -> (Rig, Position, Vec<(String, usize)>) {
    let mut rig = Rig::new(options.clone(), seed);
    for seq in 1..=110 {
        rig.append(250, (100..110).contains(&seq));
    }
    rig.append(after_last, false);
    rig.run();
    let places = secrets(&rig.driver.disk);
    for seq in 100..110 {
        assert!(rig.store.remove(seq, true).is_some());
    }
    let position = rig.store.position();
    (rig, position, places)
}

#[test]
fn a_stop_does_not_wait_for_space_and_the_next_start_goes_on() {
    let mut left = [0, 0];
    for (options, steps) in all_options().iter().flat_map(|of| (0..60).map(move |at| (of, at))) {
        // With and without blocks that commits write no more.
        let (mut rig, position, places) =
            erased_neighbours(options, steps, steps as usize % 3 * 4000);
        for _ in 0..steps {
            rig.step();
        }
        rig.fill_disk();
        for _ in 0..steps % 7 {
            rig.step();
        }
        rig.stop();
        let mut is_removed = rig.store.is_durable(position);
        left[0] += usize::from(rig.store.erasing_count() > 0);
        let mut disk = rig.crash(steps % 2 == 0);
        for is_full in [true, false] {
            let (mut rig, found) = Rig::recover(options, disk);
            assert!(found.report.is_clean(), "after {steps} steps: {:?}", found.report);
            assert_eq!(found.lost, []);
            let is_there = rig.store.contains(100);
            assert!(!is_removed || !is_there, "erased messages came back after {steps} steps");
            is_removed |= !is_there;
            if is_full {
                rig.fill_disk();
            }
            rig.run();
            rig.stop();
            left[1] += usize::from(is_full && rig.store.erasing_count() > 0);
            if !is_full {
                assert_eq!(rig.store.erasing_count(), 0);
                let left = secrets(&rig.driver.disk);
                let is_gone = places.iter().all(|place| !left.contains(place));
                assert!(is_there || is_gone, "after {steps} steps");
            }
            disk = rig.crash(true);
        }
    }
    assert!(left[0] > 20 && left[1] > 20, "{left:?}");
}

#[test]
fn an_erasure_without_space_for_its_journal_does_not_read_again_and_again() {
    let mut rig = Rig::new(all_options()[0].clone(), 1);
    rig.append(250, true);
    for _ in 0..40 {
        rig.append(250, false);
    }
    rig.run();
    rig.driver.disk.faults.extend(vec![(Fault::Create, DiskError::NoSpace); 1000]);
    let value = [7; 250];
    while !rig.store.lacks_space() || rig.store.admits(3000) {
        assert_ne!(rig.store.put_note(b"a", &value), Position::NEVER);
        rig.step();
    }
    assert!(rig.store.remove(1, true).is_some());
    let position = rig.store.position();
    let before = rig.driver.queue.push(DiskOp::Remove { path: "none".into(), erase: false });
    rig.run();
    assert!(rig.store.is_durable(position));
    let after = rig.driver.queue.push(DiskOp::Remove { path: "none".into(), erase: false });
    assert!(after.0 - before.0 < 100, "{} operations", after.0 - before.0);
    rig.stop();
    assert_eq!(rig.store.erasing_count(), 1);
    // As soon as there is space it goes on by itself.
    rig.driver.disk.faults.clear();
    rig.run();
    assert_eq!(rig.store.erasing_count(), 0);
    assert!(!has_secret(&rig.driver.disk));
}
