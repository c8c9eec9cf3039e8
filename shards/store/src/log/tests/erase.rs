//! Erased messages: nothing of them is in the files any more, what lies beside them stays whole,
//! whenever the end comes.

use super::disk::Fault;
use super::rig::{DIR, Entry, Rig, lazy, options};
use super::secret::find;
use crate::disk::DiskError;
use crate::log::{Keep, Location, Options, Ranges, Record};

const SECRET: &[u8] = b"bytes that must go";

/// A message with the secret in subject, headers and payload when it is the one to be erased.
fn message(seq: u64, len: usize, is_secret: bool) -> Entry {
    let text = if is_secret { SECRET } else { b"bytes that stay on" };
    let mut payload = text.repeat(len / text.len() + 1);
    payload.truncate(len);
    Entry::Message { seq, subject: text.to_vec(), headers: text.to_vec(), payload, more: false }
}

/// A log of `count` messages, of which one is to be erased; settled or just appended.
fn filled(options: Options, (count, at): (u64, u64), len: usize, is_settled: bool) -> Rig {
    let mut rig = Rig::new(options, at * 31 + len as u64);
    for seq in 1..=count {
        let len = if seq == at { len } else { 60 };
        rig.append(message(seq, len, seq == at)).unwrap();
        if seq % 3 == 0 {
            rig.quiesce();
        }
    }
    if is_settled {
        rig.settle();
    }
    rig
}

fn erase(rig: &mut Rig, at: u64) -> Location {
    let index = at as usize - 1;
    let place = rig.entries[index].0;
    let ranges = [(at, at)];
    rig.log.append(&Record::Delete { ranges: Ranges::List(&ranges), erased: true }).unwrap();
    rig.log.erase(Location { len: 0, ..place }, at, 7);
    rig.entries.remove(index);
    place
}

/// Lets time and operations pass until nothing is to be erased any more.
fn finish(rig: &mut Rig) {
    for _ in 0..200 {
        rig.quiesce();
        if !rig.log.is_erasing() {
            return;
        }
        rig.pass(30_000_000);
    }
    panic!("it does not come to an end");
}

/// Every case: how many messages, which is erased, its length, settled before.
fn cases() -> Vec<((u64, u64), usize, bool)> {
    let mut cases = Vec::new();
    for (count, at) in [(1, 1), (5, 5), (40, 20), (1500, 700), (1500, 1499)] {
        for len in [50, 3000, 9000, 40_000] {
            cases.extend([((count, at), len, true), ((count, at), len, false)]);
        }
    }
    cases
}

#[test]
fn nothing_is_left_of_an_erased_message() {
    for options in [options(), lazy(), Options { compress: false, ..options() }] {
        for (place, len, is_settled) in cases() {
            let mut rig = filled(options.clone(), place, len, is_settled);
            rig.quiesce();
            if place.0 < 1500 {
                assert_ne!(find(&rig.driver.disk, SECRET), [], "{place:?} {len}");
            }
            erase(&mut rig, place.1);
            finish(&mut rig);
            assert_eq!(find(&rig.driver.disk, SECRET), [], "{place:?} {len} {is_settled}");
            rig.check_reads();
            rig.settle();
            let (disk, entries, _) = rig.crash(true);
            let (_, owner, report) = Rig::recover(options.clone(), disk, 1);
            assert!(report.is_clean(), "{report:?}");
            assert_eq!(owner.records, entries);
        }
    }
}

#[test]
fn neighbours_survive_a_crash_at_every_step_of_an_erasure() {
    for (place, len, is_settled) in [
        ((5, 5), 50, false),
        ((40, 20), 50, true),
        ((40, 20), 9000, true),
        ((700, 300), 40_000, true),
        ((700, 300), 700, false),
    ] {
        for power in [false, true] {
            let mut is_over = false;
            let mut steps = 0;
            while !is_over {
                let mut rig = filled(options(), place, len, is_settled);
                rig.quiesce();
                let acked = rig.entries.len() - 1;
                let erased = erase(&mut rig, place.1);
                rig.commit();
                for _ in 0..steps {
                    if rig.step().is_none() {
                        rig.pass(30_000_000);
                    }
                }
                is_over = !rig.log.is_erasing();
                steps += 1;
                assert!(steps < 200);
                let (disk, entries, _) = rig.crash(power);
                let (mut rig, owner, report) = Rig::recover(options(), disk, 1);
                assert!(report.is_clean(), "{place:?} {len} after {steps}: {report:?}");
                let mut found = owner.records.clone();
                found.retain(|(location, _)| *location != erased);
                assert!(found.len() >= acked, "{place:?} {len} after {steps}");
                assert_eq!(found, entries[..found.len()]);
                if is_over {
                    assert_eq!(find(&rig.driver.disk, SECRET), []);
                    assert_eq!(owner.records.len(), found.len());
                }
                rig.entries.retain(|(location, _)| *location != erased);
                rig.check_reads();
                // And a second start finds the same.
                rig.settle();
                let (disk, ..) = rig.crash(true);
                let (_, mut again, report) = Rig::recover(options(), disk, 1);
                assert!(report.is_clean(), "{report:?}");
                again.records.retain(|(location, _)| *location != erased);
                assert_eq!(again.records, found);
            }
        }
    }
}

#[test]
fn a_segment_that_is_written_anew_takes_no_erased_message_along() {
    for steps in 0..14 {
        let mut rig = filled(options(), (1500, 100), 700, true);
        let segment = rig.entries[99].0.segment;
        let kept: Vec<(u32, u64)> = rig
            .entries
            .iter()
            .filter(|(location, _)| location.segment == segment)
            .map(|(location, entry)| match entry {
                Entry::Message { seq, .. } => (location.offset, *seq),
                _ => panic!("only messages are there"),
            })
            .collect();
        let keep = Keep { messages: kept, removals: true, marks: true };
        assert!(rig.log.compact(segment, keep, &mut rig.driver.queue));
        for _ in 0..steps {
            rig.step();
        }
        follow(&mut rig);
        erase(&mut rig, 100);
        while rig.log.is_erasing() || rig.log.compacting().is_some() {
            rig.commit();
            if rig.step().is_none() {
                rig.pass(30_000_000);
            }
            follow(&mut rig);
        }
        rig.quiesce();
        assert_eq!(find(&rig.driver.disk, SECRET), [], "after {steps}");
        rig.check_reads();
    }
}

/// Takes the new places of messages.
fn follow(rig: &mut Rig) {
    let Some(moved) = rig.log.take_moved() else { return };
    for (seq, old, new) in moved.messages {
        let is_it = |entry: &Entry| matches!(entry, Entry::Message { seq: of, .. } if *of == seq);
        for (location, _) in rig.entries.iter_mut().filter(|(_, entry)| is_it(entry)) {
            assert_eq!(location.offset, old);
            location.offset = new;
        }
    }
}

#[test]
fn neighbours_that_are_erased_at_once_both_go() {
    for seed in 1..=40 {
        let mut rig = Rig::new(options(), seed);
        for seq in 1..=300 {
            let is_secret = (100..110).contains(&seq);
            rig.append(message(seq, 250, is_secret)).unwrap();
        }
        rig.settle();
        let places: Vec<Location> = (100..110).rev().map(|at| erase(&mut rig, at)).collect();
        finish(&mut rig);
        // Where they lay there is nothing; the journal of a neighbour may have a copy.
        let segment = rig.driver.disk.files.get(&format!("{DIR}/{:020}.seg", 1)).unwrap();
        for place in places {
            assert_eq!(place.segment, 1);
            let bytes = &segment.bytes[place.offset as usize..place.end().offset as usize];
            assert!(!bytes.windows(SECRET.len()).any(|at| at == SECRET), "seed {seed}: {place:?}");
        }
        rig.check_reads();
        rig.settle();
        let (disk, entries, _) = rig.crash(true);
        let (_, owner, report) = Rig::recover(options(), disk, 1);
        assert!(report.is_clean(), "seed {seed}: {report:?}");
        assert_eq!(owner.records, entries);
    }
}

#[test]
fn an_erasure_that_finds_no_space_is_done_later() {
    for commits in 0..6 {
        let mut rig = filled(options(), (40, 20), 3000, true);
        erase(&mut rig, 20);
        for _ in 0..commits {
            rig.commit();
            rig.step();
        }
        rig.fail(Fault::Commit, DiskError::NoSpace);
        finish(&mut rig);
        assert_eq!(rig.log.fenced(), None, "after {commits} steps");
        rig.settle();
        rig.check_reads();
        assert_eq!(find(&rig.driver.disk, SECRET), [], "after {commits} steps");
    }
}

/// A note is in the old segment or, safely, behind it: never in neither.
#[test]
fn a_compaction_leaves_out_no_note_before_what_replaced_it_is_safe() {
    let key = b"stream".to_vec();
    for (steps, more) in (0..6).flat_map(|steps| (0..12).map(move |more| (steps, more))) {
        let mut rig = Rig::new(options(), 100 * steps + more);
        rig.append(Entry::Put(key.clone(), b"old".to_vec())).unwrap();
        for seq in 1..=1500 {
            rig.append(message(seq, 60, false)).unwrap();
        }
        rig.settle();
        assert!(rig.log.end().segment > 1);
        let keep = Keep { messages: Vec::new(), removals: true, marks: true };
        assert!(rig.log.compact(1, keep, &mut rig.driver.queue));
        for _ in 0..steps {
            rig.step();
        }
        rig.append(Entry::Put(key.clone(), b"new".to_vec())).unwrap();
        for _ in 0..more {
            rig.step();
        }
        let (disk, ..) = rig.crash(true);
        let (_, owner, _) = Rig::recover(options(), disk, 1);
        assert!(owner.notes.contains_key(&key), "after {steps} and {more} steps");
    }
}
