//! The power fails at every operation of a compaction: what was stored is there, what was removed
//! for good stays away, and what a stream is can be read.

use super::disk::{Driver, Rng};
use super::small_options;
use crate::log::{Cache, Options};
use crate::{NewMessage, Position, Read, Recovered, Store};

/// Messages that are stored; one in five stays.
const MESSAGES: u64 = 200;

fn options() -> Options {
    let mut options = small_options("js/A/streams/S", 78);
    options.is_vital = |key| key == b"stream";
    options
}

fn payload(seq: u64) -> Vec<u8> {
    format!("payload {seq:05} ").repeat(40).into_bytes()
}

const fn stays(seq: u64) -> bool {
    seq.is_multiple_of(5)
}

struct Rig {
    store: Store,
    driver: Driver,
    cache: Cache,
    rng: Rng,
    now_ns: u64,
}

impl Rig {
    fn on(store: Store, driver: Driver, seed: u64) -> Self {
        Self { store, driver, cache: Cache::new(256 << 10), rng: Rng(seed), now_ns: 0 }
    }

    /// Lets one operation end; false when none is under way.
    fn step(&mut self) -> bool {
        self.now_ns += 1_000_000;
        self.store.commit(self.now_ns, &mut self.driver.queue);
        let Some(done) = self.driver.complete(&mut self.rng) else { return false };
        let (queue, cache) = (&mut self.driver.queue, &mut self.cache);
        self.store.handle_disk_done(done, self.now_ns, queue, cache);
        self.store.commit(self.now_ns, queue);
        true
    }

    fn run(&mut self) {
        while self.step() {}
    }

    fn is_compacting(&self) -> bool {
        self.driver.disk.files.keys().any(|path| path.ends_with(".cmp"))
    }

    fn payload_of(&mut self, seq: u64) -> Vec<u8> {
        for _ in 0..100 {
            let queue = &mut self.driver.queue;
            match self.store.get(seq, &mut self.cache, queue) {
                Read::Message(message) => return message.payload.to_vec(),
                Read::Pending => {}
                other => panic!("{seq}: {other:?}"),
            }
            self.run();
        }
        panic!("{seq} stays pending");
    }
}

/// A store with all its messages, and four of five removed just now.
fn sparse(seed: u64) -> (Rig, Position) {
    let mut driver = Driver::default();
    let store = Store::file(options(), 0, &mut driver.queue);
    let mut rig = Rig::on(store, driver, seed);
    rig.store.put_note(b"stream", &[9; 300]);
    for seq in 1..=MESSAGES {
        let payload = payload(seq);
        let subject = format!("s.{}", seq % 7).into_bytes();
        let message = NewMessage { subject: &subject, payload: &payload, ..NewMessage::default() };
        assert_eq!(rig.store.append(&message), Ok(seq));
        if seq % 10 == 0 {
            rig.run();
        }
    }
    rig.run();
    assert_eq!(rig.store.durable_seq(), MESSAGES);
    for seq in (1..=MESSAGES).filter(|seq| !stays(*seq)) {
        assert!(rig.store.remove(seq, false).is_some());
    }
    let removed = rig.store.position();
    (rig, removed)
}

/// Two starts find what has to be there.
fn examine(mut disk: super::disk::Disk, is_removed: bool, text: &str) {
    for start in ["first", "second"] {
        let found = Store::recover(options(), &mut disk).unwrap();
        let Recovered { store, notes, report, lost } = found;
        assert!(report.is_clean() && lost.is_empty(), "{text}, {start}: {report:?}");
        let note = notes.iter().find(|note| note.key == b"stream");
        let value = note.and_then(|note| note.value.as_deref());
        assert_eq!(value, Some(&[9; 300][..]), "{text}, {start}");
        let mut rig = Rig::on(store, Driver::on(disk), 1);
        assert!(!rig.is_compacting(), "{text}, {start}: a file is left over");
        for seq in 1..=MESSAGES {
            let is_there = rig.store.contains(seq);
            assert!(is_there || !stays(seq), "{text}, {start}: {seq} is missing");
            assert!(!is_there || stays(seq) || !is_removed, "{text}, {start}: {seq} is back");
            if is_there {
                assert_eq!(rig.payload_of(seq), payload(seq), "{text}, {start}: {seq}");
            }
        }
        disk = rig.driver.crash(&mut rig.rng, true);
    }
}

#[test]
fn the_power_fails_at_every_operation_of_a_compaction() {
    for seed in 0..4 {
        let (mut compacting, mut steps) = (0, 0);
        loop {
            let (mut rig, removed) = sparse(seed);
            let is_over = (0..steps).any(|_| !rig.step());
            compacting += u32::from(rig.is_compacting());
            let is_removed = rig.store.is_durable(removed);
            let disk = rig.driver.crash(&mut rig.rng, true);
            examine(disk, is_removed, &format!("seed {seed}, operation {steps}"));
            if is_over {
                break;
            }
            steps += 1;
        }
        assert!(compacting > 5, "{compacting} of {steps} cuts fell into a compaction");
    }
}

/// The disk holds everything back and then does it all: every promise is kept in the end, in
/// order, and none before.
#[test]
fn a_disk_that_was_stuck_answers_everything_when_it_comes_back() {
    let (mut rig, _) = sparse(3);
    rig.run();
    let durable = rig.store.durable_seq();
    let mut positions = Vec::new();
    for at in 1..=100 {
        let payload = payload(MESSAGES + at);
        let message = NewMessage { subject: b"s.1", payload: &payload, ..NewMessage::default() };
        assert_eq!(rig.store.append(&message), Ok(MESSAGES + at));
        positions.push(rig.store.position());
        rig.now_ns += 1_000_000_000;
        // The disk takes what it is given and ends nothing of it.
        rig.store.commit(rig.now_ns, &mut rig.driver.queue);
        rig.store.handle_timers(rig.now_ns, &mut rig.driver.queue, &mut rig.cache);
    }
    assert_eq!(rig.store.durable_seq(), durable);
    assert!(positions.iter().all(|position| !rig.store.is_durable(*position)));
    assert_eq!(rig.store.fenced(), None);
    let mut answered = 0;
    while rig.step() {
        let now = positions.iter().take_while(|at| rig.store.is_durable(**at)).count();
        assert!(now >= answered);
        answered = now;
    }
    assert_eq!((answered, rig.store.durable_seq()), (100, MESSAGES + 100));
    let disk = rig.driver.crash(&mut rig.rng, true);
    examine(disk, true, "after the disk was stuck");
}
