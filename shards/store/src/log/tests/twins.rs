//! Notes that are kept twice: whatever one place does, they are read, and become two again.

use super::disk::Disk;
use super::rig::{DIR, Owner, Rig, options};
use crate::log::{Location, Log, Options, Read, RecoverError, Report};

const KEY: &[u8] = b"stream";

fn vital() -> Options {
    Options { is_vital: |key| key == KEY, ..options() }
}

fn recover(mut disk: Disk) -> (Rig, Owner, Report) {
    let mut owner = Owner::default();
    let (log, report) = Log::recover(vital(), &mut disk, &mut owner).unwrap();
    (Rig::reopened(log, disk, 1), owner, report)
}

fn value(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + number * 7) as u8).collect()
}

/// The two places of the note.
fn copies(log: &Log) -> [Location; 2] {
    let note = log.notes.get(KEY).unwrap();
    [note.put.unwrap(), note.twin.unwrap()]
}

fn blocks(place: Location) -> std::ops::Range<u32> {
    place.offset / 4096..place.end().offset.div_ceil(4096)
}

fn lie_apart([one, other]: [Location; 2]) -> bool {
    let (a, b) = (blocks(one), blocks(other));
    one.segment != other.segment || a.end <= b.start || b.end <= a.start
}

fn fill(rig: &mut Rig, messages: usize) {
    for _ in 0..messages {
        rig.message(200).unwrap();
        rig.quiesce();
    }
}

/// A log with a note of `len` bytes and messages behind it, settled.
fn log_with(len: usize, messages: usize) -> Rig {
    let mut rig = Rig::new(vital(), 1);
    rig.log.put_note(KEY, &value(1, len)).unwrap();
    fill(&mut rig, messages);
    rig.settle();
    rig
}

fn path(place: Location) -> String {
    format!("{DIR}/{:020}.seg", place.segment)
}

fn flip(disk: &mut Disk, place: Location, at: u32) {
    disk.files.get_mut(&path(place)).unwrap().bytes[(place.offset + at) as usize] ^= 0x21;
}

fn note_of(owner: &Owner) -> Option<&[u8]> {
    owner.notes.get(KEY).map(|note| &*note.0)
}

/// Reads the note at a place of the log as it runs.
fn reads(rig: &mut Rig, place: Location) -> bool {
    for _ in 0..100 {
        match rig.log.read(place, &mut rig.cache, &mut rig.driver.queue) {
            Read::Record(_) => return true,
            Read::Pending => drop(rig.step()),
            _ => return false,
        }
    }
    false
}

#[test]
fn the_copies_lie_in_blocks_of_their_own() {
    for len in [10, 400, 3000, 4100, 9000, 30_000] {
        let rig = log_with(len, 60);
        let copies = copies(&rig.log);
        assert!(lie_apart(copies), "{len}: {copies:?}");
        let (disk, ..) = rig.crash(true);
        let (rig, owner, report) = recover(disk);
        assert_eq!(note_of(&owner), Some(&*value(1, len)));
        assert!(report.is_clean() && report.damaged_copies.is_empty(), "{report:?}");
        assert_eq!(super::twins::copies(&rig.log), copies);
    }
}

/// Every byte of one copy, then of the other: the note is read, the damage is told, and the next
/// start finds two copies again.
#[test]
fn a_flip_in_either_copy_costs_nothing() {
    for with_checkpoint in [false, true] {
        let mut rig = log_with(150, 60);
        if with_checkpoint {
            rig.log.write_checkpoint(b"payload", &mut rig.driver.queue);
            rig.settle();
        }
        let copies = copies(&rig.log);
        let (disk, ..) = rig.crash(true);
        for place in copies {
            for at in 0..place.len {
                let mut disk = disk.clone();
                flip(&mut disk, place, at);
                let (mut rig, owner, report) = recover(disk);
                let text = format!("byte {at} of {place:?}, checkpoint {with_checkpoint}");
                assert_eq!(note_of(&owner), Some(&*value(1, 150)), "{text}");
                assert_eq!(report.damaged_copies, [KEY], "{text}: {report:?}");
                assert!(report.doubtful_notes.is_empty(), "{text}");
                assert!(report.damaged_notes.is_empty(), "{text}");
                rig.pass(1);
                rig.quiesce();
                rig.settle();
                let healed = super::twins::copies(&rig.log);
                assert!(!healed.contains(&place) && lie_apart(healed), "{text}: {healed:?}");
                assert!(healed.into_iter().all(|place| reads(&mut rig, place)), "{text}");
            }
        }
    }
}

/// Sectors and blocks of zeroes, wherever: never more than one copy lies there.
#[test]
fn no_single_hole_costs_the_note() {
    for len in [150, 5000] {
        let (disk, ..) = log_with(len, 60).crash(true);
        let name = format!("{DIR}/{:020}.seg", 1);
        let end = 20_480 + 60 * 300 + 3 * len;
        for size in [512, 4096] {
            for from in (20_480..end).step_by(size) {
                let mut disk = disk.clone();
                disk.files.get_mut(&name).unwrap().bytes[from..from + size].fill(0);
                let (_, owner, report) = recover(disk);
                assert_eq!(note_of(&owner), Some(&*value(1, len)), "{size} at {from}");
                assert!(report.doubtful_notes.is_empty(), "{size} at {from}");
            }
        }
    }
}

/// With both copies of the newest value gone, an older one is found and doubted.
#[test]
fn an_older_value_is_given_and_doubted() {
    let mut rig = log_with(150, 60);
    rig.log.put_note(KEY, &value(2, 160)).unwrap();
    fill(&mut rig, 60);
    rig.settle();
    let newest = copies(&rig.log);
    let (disk, ..) = rig.crash(true);
    // The head, the body, the checksum.
    for at in [0, 4, 6, 9, 40, 100, newest[1].len - 1] {
        let mut disk = disk.clone();
        newest.into_iter().for_each(|place| flip(&mut disk, place, at));
        let (_, owner, report) = recover(disk);
        assert_eq!(note_of(&owner), Some(&*value(1, 150)), "byte {at}");
        assert_eq!(report.doubtful_notes, [KEY], "byte {at}");
    }
}

#[test]
fn a_note_without_a_whole_copy_is_lost_and_told() {
    let mut rig = log_with(150, 60);
    rig.log.write_checkpoint(b"payload", &mut rig.driver.queue);
    rig.settle();
    let both = copies(&rig.log);
    let (mut disk, ..) = rig.crash(true);
    both.into_iter().for_each(|place| flip(&mut disk, place, 50));
    let (_, owner, report) = recover(disk.clone());
    assert_eq!(note_of(&owner), None);
    assert_eq!(report.damaged_notes, [KEY]);
    disk.files.remove(&format!("{DIR}/index.chk"));
    let (_, owner, report) = recover(disk);
    assert_eq!(note_of(&owner), None);
    assert_eq!(report.damage.len(), 2);
}

/// Crashes at any time: the note is always there, and never takes a value of before.
#[test]
fn a_crash_never_costs_the_note() {
    for seed in 0..150 {
        let mut rig = Rig::new(vital(), seed);
        let mut safe = 0;
        for round in 1..=6 {
            let place = rig.log.put_note(KEY, &value(round, 300)).unwrap();
            rig.commit();
            for _ in 0..rig.rng.below(30) {
                rig.message(200).unwrap();
                rig.commit();
                rig.step();
            }
            if place.end() <= rig.log.durable() {
                safe = round;
            }
            if rig.rng.below(5) == 0 {
                break;
            }
        }
        let (mut disk, ..) = rig.crash(seed % 2 == 0);
        let mut owner = Owner::default();
        let report = match Log::recover(vital(), &mut disk, &mut owner) {
            Ok((_, report)) => report,
            Err(RecoverError::Empty) if safe == 0 => continue,
            Err(error) => panic!("{seed}: {error}"),
        };
        assert!(report.damage.is_empty(), "{seed}: {report:?}");
        let found = note_of(&owner);
        let is_newer = (safe.max(1)..=6).any(|round| found == Some(&*value(round, 300)));
        assert!(is_newer || safe == 0 && found.is_none(), "{seed}");
    }
}
