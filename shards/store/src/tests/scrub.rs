//! The scrub of a store over time: its pace, whose turn it is, what it names, and that it finds
//! nothing where nothing is damaged, whatever else the store does meanwhile.

use super::disk::{Disk, Driver, Fault, Rng};
use super::small_options;
use crate::disk::{DiskError, DiskOp};
use crate::log::{Cache, Options};
use crate::store::Backing;
use crate::{Finding, NewMessage, Read, ScrubPace, Store};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
const PACE: ScrubPace = ScrubPace { interval_ns: DAY, bytes_per_second: 1 << 20 };
/// When the tests begin, by both clocks.
const START: (u64, i64) = (77 * SECOND, 1_800_000_000_123_456_789);

fn options(uid: u64) -> Options {
    small_options(&format!("js/A/streams/S{uid}"), uid)
}

struct Rig {
    store: Store,
    driver: Driver,
    rng: Rng,
    now_ns: u64,
    findings: Vec<Finding>,
    /// When reads of a piece were asked for, and of how many bytes.
    reads: Vec<(u64, usize)>,
}

impl Rig {
    fn new(uid: u64) -> Self {
        let mut driver = Driver::default();
        let store = Store::file(options(uid), 0, &mut driver.queue);
        Self {
            store,
            driver,
            rng: Rng(uid),
            now_ns: START.0,
            findings: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// A store of so many messages, at rest.
    fn filled(uid: u64, count: usize, cache: &mut Cache) -> Self {
        let mut rig = Self::new(uid);
        for at in 0..count {
            rig.append(&format!("payload {at:05} ").repeat(40));
            if at % 10 == 0 {
                rig.run(cache);
            }
        }
        rig.rest(cache);
        rig
    }

    fn append(&mut self, payload: &str) {
        let payload = payload.as_bytes();
        let message = NewMessage { subject: b"s", payload, ts_ns: 5, ..NewMessage::default() };
        self.store.append(&message).unwrap();
    }

    /// Lets one operation end; false when none is under way.
    fn one(&mut self, cache: &mut Cache) -> bool {
        self.store.commit(self.now_ns, &mut self.driver.queue);
        for (_, op) in &self.driver.queue.ops {
            if let DiskOp::Read { len, .. } = op {
                self.reads.push((self.now_ns, *len));
            }
        }
        let Some(done) = self.driver.complete(&mut self.rng) else { return false };
        let queue = &mut self.driver.queue;
        self.store.handle_disk_done(done, self.now_ns, queue, cache);
        self.findings.append(&mut self.store.take_findings());
        true
    }

    fn run(&mut self, cache: &mut Cache) {
        while self.one(cache) {}
    }

    /// Goes on to the next thing that is due; false when that is after `until_ns`.
    fn wake(&mut self, until_ns: u64, cache: &mut Cache) -> bool {
        let Some(at_ns) = self.store.next_deadline_ns().filter(|at| *at <= until_ns) else {
            self.now_ns = until_ns;
            return false;
        };
        self.now_ns = self.now_ns.max(at_ns);
        self.store.handle_timers(self.now_ns, &mut self.driver.queue, cache);
        self.run(cache);
        true
    }

    /// Lets everything happen up to a time; how often the store had to be woken.
    fn pass(&mut self, ns: u64, cache: &mut Cache) -> usize {
        let until_ns = self.now_ns + ns;
        let mut wakes = 0;
        while self.wake(until_ns, cache) {
            wakes += 1;
            assert!(wakes < 1_000_000);
        }
        wakes
    }

    fn rest(&mut self, cache: &mut Cache) {
        self.run(cache);
        self.pass(SECOND / 10, cache);
    }

    fn cold(&self) -> u64 {
        let Backing::File(file) = &self.store.backing else { return 0 };
        let numbers = file.log.segments().map(|(number, ..)| number);
        numbers.filter(|number| file.log.is_cold(*number)).count() as u64
    }

    /// Flips a bit of the payload of a message on disk.
    fn flip(&mut self, number: usize) {
        let bytes = format!("payload {number:05} ").into_bytes();
        let files = &mut self.driver.disk.files;
        let mut hits = files.iter_mut().filter(|(path, _)| path.ends_with(".seg"));
        let hit = hits.find_map(|(_, file)| {
            let at = file.bytes.windows(bytes.len()).position(|window| window == bytes)?;
            Some(&mut file.bytes[at + 3])
        });
        *hit.unwrap() ^= 4;
    }

    fn get(&mut self, seq: u64, cache: &mut Cache) -> Result<(), &'static str> {
        for _ in 0..100 {
            match self.store.get(seq, cache, &mut self.driver.queue) {
                Read::Message(_) => return Ok(()),
                Read::Damaged => return Err("damaged"),
                Read::Missing => return Err("missing"),
                Read::Failed => return Err("failed"),
                Read::Pending => {}
            }
            self.run(cache);
        }
        Err("pending")
    }
}

fn cache() -> Cache {
    Cache::new(256 << 10)
}

#[test]
fn every_cold_segment_has_its_turn_once_in_the_interval() {
    let mut cache = cache();
    let mut rig = Rig::filled(1, 600, &mut cache);
    let cold = rig.cold();
    assert!(cold >= 5, "{cold}");
    assert_eq!(rig.store.next_deadline_ns(), None);
    rig.store.set_scrub(PACE, Some(START));
    let mut wakes = 0;
    for day in 1..=4 {
        wakes += rig.pass(DAY, &mut cache);
        let figures = cache.scrub_figures();
        assert_eq!((figures.segments, figures.damaged), (day * cold, 0), "day {day}");
        assert!(figures.bytes >= figures.segments * (40 << 10));
        assert!(figures.passes >= day - 1 && figures.passes <= day, "{figures:?}");
    }
    // A segment of one piece costs one timer.
    assert!(wakes as u64 <= 4 * cold + 4, "{wakes}");
    assert_eq!(rig.findings, []);
    // They are spread over the day.
    let times: Vec<u64> = rig.reads.iter().rev().take(cold as usize).map(|read| read.0).collect();
    assert!(times.first().unwrap() - times.last().unwrap() > DAY / 4, "{times:?}");
    // Off again.
    rig.store.set_scrub(ScrubPace::default(), None);
    assert_eq!(rig.store.next_deadline_ns(), None);
}

#[test]
fn moments_survive_a_restart_and_differ_among_streams() {
    let mut cache = cache();
    let rig = Rig::filled(1, 600, &mut cache);
    let disk = rig.driver.disk.clone();
    let moments = |days: i64, disk: &Disk| {
        let (mut cache, mut disk) = (self::cache(), disk.clone());
        let store = Store::recover(options(1), &mut disk).unwrap().store;
        let (driver, now_ns) = (Driver::on(disk), 5 * SECOND);
        let (findings, reads) = (Vec::new(), Vec::new());
        let mut rig = Rig { store, driver, rng: Rng(1), now_ns, findings, reads };
        // The clocks of this start have nothing to do with those of the one before.
        let clock = (now_ns, START.1 + days * DAY as i64);
        rig.store.set_scrub(PACE, Some(clock));
        rig.pass(DAY, &mut cache);
        let mut times: Vec<u64> = rig.reads.iter().map(|read| read.0 - now_ns).collect();
        times.sort_unstable();
        times
    };
    let first = moments(0, &disk);
    assert!(first.len() >= 5);
    assert_eq!(moments(3, &disk), first);
    let mut cache = self::cache();
    let mut other = Rig::filled(2, 600, &mut cache);
    other.store.set_scrub(PACE, Some((other.now_ns, START.1)));
    let (begin, done) = (other.now_ns, other.reads.len());
    other.pass(DAY, &mut cache);
    let mut times: Vec<u64> = other.reads[done..].iter().map(|read| read.0 - begin).collect();
    times.sort_unstable();
    assert!(times.iter().all(|time| first.iter().all(|other| time.abs_diff(*other) > SECOND)));
}

#[test]
fn the_rate_is_kept_by_all_streams_of_a_shard_together() {
    let mut cache = cache();
    let mut rigs: Vec<Rig> = (1..=3).map(|uid| Rig::filled(uid, 1500, &mut cache)).collect();
    let segments: u64 = rigs.iter().map(Rig::cold).sum();
    // Everything is due at once, again and again: the disk is asked for no more than the rate.
    let pace = ScrubPace { interval_ns: SECOND, bytes_per_second: 256 << 10 };
    let start_ns = rigs.iter().map(|rig| rig.now_ns).max().unwrap();
    for rig in &mut rigs {
        rig.now_ns = start_ns;
        rig.reads.clear();
        rig.store.set_scrub(pace, Some((start_ns, START.1)));
    }
    let until_ns = start_ns + 120 * SECOND;
    loop {
        let next = rigs.iter().enumerate().filter_map(|(at, rig)| {
            rig.store.next_deadline_ns().map(|at_ns| (at_ns.max(rig.now_ns), at))
        });
        let Some((at_ns, which)) = next.min().filter(|(at_ns, _)| *at_ns <= until_ns) else {
            break;
        };
        for rig in &mut rigs {
            rig.now_ns = rig.now_ns.max(at_ns);
        }
        rigs[which].wake(at_ns, &mut cache);
    }
    let bytes: usize = rigs.iter().flat_map(|rig| &rig.reads).map(|read| read.1).sum();
    let most = 120 * (256 << 10) + (1 << 20);
    assert!(bytes <= most, "{bytes} bytes in 120 s");
    assert!(bytes > most / 4, "{bytes} bytes in 120 s");
    let figures = cache.scrub_figures();
    assert!(figures.segments > segments && figures.passes > 0, "{figures:?}");
    // Everybody has a share.
    for rig in &rigs {
        let share: usize = rig.reads.iter().map(|read| read.1).sum();
        assert!(share > bytes / 10, "{share} of {bytes}");
    }
}

#[test]
fn without_a_cold_segment_there_is_nothing_to_do() {
    let mut cache = cache();
    let mut rig = Rig::filled(1, 40, &mut cache);
    rig.store.set_scrub(PACE, Some((rig.now_ns, START.1)));
    assert_eq!(rig.store.next_deadline_ns(), None);
    assert_eq!(rig.pass(10 * DAY, &mut cache), 0);
    assert_eq!(cache.scrub_figures(), crate::cache::ScrubFigures::default());
    // The first segment that is sealed begins it.
    for at in 40..300 {
        rig.append(&format!("payload {at:05} ").repeat(40));
    }
    rig.rest(&mut cache);
    rig.pass(DAY, &mut cache);
    assert!(cache.scrub_figures().segments > 0);
    let mut memory = Store::memory(crate::MemoryOptions::default());
    memory.set_scrub(PACE, Some(START));
    assert_eq!((memory.next_deadline_ns(), memory.take_findings()), (None, Vec::new()));
}

#[test]
fn damage_is_named_once_and_the_rest_stays() {
    let mut cache = cache();
    let mut rig = Rig::filled(1, 600, &mut cache);
    for number in [10, 11, 200] {
        rig.flip(number);
    }
    rig.store.set_scrub(PACE, Some((rig.now_ns, START.1)));
    rig.pass(2 * DAY, &mut cache);
    let mut lost: Vec<(u64, u64)> = rig.findings.iter().flat_map(|f| f.lost.clone()).collect();
    lost.sort_unstable();
    assert_eq!(lost, [(11, 12), (201, 201)]);
    let mut damage: Vec<_> = rig.findings.iter().flat_map(|f| &f.damage).collect();
    damage.sort_unstable_by_key(|damage| damage.first_seq);
    let seqs: Vec<_> = damage.iter().map(|at| (at.first_seq, at.last_seq)).collect();
    assert_eq!(seqs, [(11, 12), (201, 201)]);
    assert!(damage.iter().all(|damage| damage.len > 500 && damage.offset >= 20_480));
    assert_eq!(cache.scrub_figures().damaged, 2);
    for seq in 1..=600 {
        let is_hit = [11, 12, 201].contains(&seq);
        let expected = if is_hit { Err("damaged") } else { Ok(()) };
        assert_eq!(rig.get(seq, &mut cache), expected, "{seq}");
    }
    // What was removed meanwhile is no message that is lost.
    rig.flip(20);
    rig.store.remove(21, false).unwrap();
    rig.findings.clear();
    rig.pass(2 * DAY, &mut cache);
    assert_eq!(rig.findings.len(), 1);
    assert_eq!((rig.findings[0].damage.len(), rig.findings[0].lost.len()), (1, 0));
}

#[test]
fn damage_that_somebody_else_meets_is_named_at_once() {
    // No scrub is configured.
    let mut cache = cache();
    let mut rig = Rig::filled(1, 600, &mut cache);
    for number in [100, 103] {
        rig.flip(number);
    }
    assert_eq!(rig.get(101, &mut cache), Err("damaged"));
    assert_eq!(rig.store.next_deadline_ns(), Some(0));
    rig.pass(SECOND, &mut cache);
    let lost: Vec<_> = rig.findings.drain(..).flat_map(|finding| finding.lost).collect();
    assert_eq!(lost, [(101, 101), (104, 104)]);
    // Reads of the same again are told to the reader alone.
    assert_eq!(rig.get(104, &mut cache), Err("damaged"));
    rig.pass(SECOND, &mut cache);
    assert_eq!(rig.findings, []);
    // A segment that is to be written anew because little of it is left.
    rig.flip(300);
    let seqs = 230..=380;
    for seq in seqs.filter(|seq| seq % 10 != 1) {
        rig.store.remove(seq, false);
    }
    rig.rest(&mut cache);
    rig.pass(10 * SECOND, &mut cache);
    let lost: Vec<_> = rig.findings.drain(..).flat_map(|finding| finding.lost).collect();
    assert_eq!(lost, [(301, 301)]);
    assert_eq!(rig.get(301, &mut cache), Err("damaged"));
    assert_eq!(rig.get(311, &mut cache), Ok(()));
    // A disk that failed for a moment is no damage.
    let before = cache.scrub_figures();
    rig.driver.disk.faults.push((Fault::Read, DiskError::Os(5)));
    rig.store.set_scrub(PACE, Some((rig.now_ns, START.1)));
    rig.pass(DAY, &mut cache);
    assert_eq!((cache.scrub_figures().damaged, rig.findings.len()), (before.damaged, 0));
}

#[test]
fn nothing_is_found_where_nothing_is_damaged() {
    let mut segments = 0;
    for seed in 1..=8 {
        let mut cache = cache();
        let mut rig = Rig::filled(seed, 200, &mut cache);
        let pace = ScrubPace { interval_ns: SECOND / 20, bytes_per_second: 1 << 40 };
        rig.store.set_scrub(pace, Some((rig.now_ns, START.1)));
        let mut dice = Rng(seed);
        for at in 200..900 {
            rig.append(&format!("payload {at:05} ").repeat(40));
            let state = rig.store.state();
            let span = (state.last_seq - state.first_seq + 1) as usize;
            for _ in 0..dice.below(2) {
                let seq = state.first_seq + dice.below(span) as u64;
                let erase = dice.chance();
                rig.store.remove(seq, erase);
            }
            if dice.below(150) == 0 {
                rig.store.purge(None, Some(state.first_seq + span as u64 / 2), 0);
            }
            // Whatever is under way may end in any order, or later.
            for _ in 0..dice.below(12) {
                rig.one(&mut cache);
            }
            rig.now_ns += SECOND / 500;
            rig.store.handle_timers(rig.now_ns, &mut rig.driver.queue, &mut cache);
        }
        rig.rest(&mut cache);
        assert_eq!(rig.findings, [], "seed {seed}");
        let figures = cache.scrub_figures();
        assert_eq!(figures.damaged, 0, "seed {seed}");
        segments += figures.segments;
    }
    assert!(segments > 100, "{segments}");
}

#[test]
fn a_stop_does_not_wait_for_the_scrub() {
    let mut cache = cache();
    let mut rig = Rig::filled(1, 600, &mut cache);
    let pace = ScrubPace { interval_ns: SECOND, ..PACE };
    rig.store.set_scrub(pace, Some((rig.now_ns, START.1)));
    while rig.driver.queue.ops.is_empty() {
        rig.now_ns = rig.store.next_deadline_ns().unwrap();
        rig.store.handle_timers(rig.now_ns, &mut rig.driver.queue, &mut cache);
    }
    assert!(rig.store.stop(rig.now_ns, &mut rig.driver.queue, &mut cache));
    rig.reads.clear();
    rig.run(&mut cache);
    assert_eq!((rig.reads.len(), rig.store.next_deadline_ns()), (1, None));
}
