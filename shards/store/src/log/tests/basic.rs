//! The log while nothing goes wrong: appends, commits, reads, notes, drops, checkpoints.

use super::disk::Fault;
use super::rig::{DIR, Entry, Rig, lazy, options, settled};
use crate::disk::{DiskError, DiskOp};
use crate::log::{AppendError, CheckpointUse, Record, Recovery};

#[test]
fn one_commit_makes_all_appends_of_a_turn_durable() {
    let mut rig = Rig::new(options(), 1);
    for _ in 0..100 {
        rig.message(128).unwrap();
    }
    assert_eq!(rig.acked(), 0);
    rig.quiesce();
    assert_eq!(rig.acked(), 100);
    rig.check_reads();
    let (rig, owner, report) = {
        let entries = rig.entries.clone();
        let (disk, ..) = rig.crash(true);
        let (rig, owner, report) = Rig::recover(options(), disk, 2);
        assert_eq!(rig.entries, entries);
        (rig, owner, report)
    };
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(owner.records.len(), 100);
    assert_eq!(rig.log.next_seq(), 101);
}

#[test]
fn a_commit_writes_each_block_once() {
    let mut rig = Rig::new(options(), 1);
    rig.quiesce();
    let mut written = Vec::new();
    for _ in 0..200 {
        rig.message(100).unwrap();
        rig.commit();
        for (_, op) in &rig.driver.queue.ops {
            if let DiskOp::Commit { extents, sync, .. } = op {
                assert!(*sync);
                for extent in extents.iter().filter(|extent| extent.offset >= 20_480) {
                    let from = extent.offset;
                    written.extend((from..from + extent.bytes.len() as u64).step_by(4096));
                }
            }
        }
        rig.quiesce();
    }
    let mut unique = written.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique, written);
    assert!(written.len() > 4);
}

#[test]
fn a_long_log_goes_over_many_segments_and_is_read_from_disk() {
    let mut rig = settled(6000, 200);
    assert!(rig.log.segments().count() > 5);
    assert!(rig.log.memory_bytes() < 600 << 10, "{}", rig.log.memory_bytes());
    rig.check_reads();
    assert!(rig.cache.len() <= 256 << 10);
    let (disk, entries, _) = rig.crash(true);
    let (mut rig, _, report) = Rig::recover(options(), disk, 3);
    assert!(report.is_clean());
    assert_eq!(report.truncated_bytes, 0);
    assert_eq!(rig.entries, entries);
    rig.check_reads();
    rig.message(10).unwrap();
    rig.settle();
    rig.check_reads();
}

#[test]
fn a_record_larger_than_a_segment_gets_its_own() {
    let mut rig = Rig::new(options(), 5);
    for len in [10, 3 << 20, 10, 300 << 10, 70_000, 9 << 20, 10] {
        rig.message(len).unwrap();
        rig.commit();
    }
    rig.settle();
    rig.check_reads();
    let (disk, entries, _) = rig.crash(true);
    let (mut rig, _, report) = Rig::recover(options(), disk, 3);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(rig.entries, entries);
    rig.check_reads();
}

#[test]
fn settling_writes_once_more_and_then_rests() {
    let mut rig = Rig::new(options(), 1);
    rig.message(10).unwrap();
    rig.quiesce();
    assert!(!rig.log.is_settled());
    let deadline = rig.log.next_deadline().unwrap();
    assert_eq!(deadline, rig.now_ns + 20_000_000);
    rig.pass(20_000_000);
    rig.quiesce();
    assert!(rig.log.is_settled());
    assert_eq!(rig.log.next_deadline(), None);
    let (mut disk, ..) = rig.crash(true);
    disk.changes = 0;
    let (_, _, report) = Rig::recover(options(), disk.clone(), 1);
    // The first recovery finds the epoch of a new file and writes the slots.
    assert_eq!(report.truncated_bytes, 0);
    assert_eq!(report.records, 2);
}

#[test]
fn lazy_commits_do_not_flush_and_the_interval_does() {
    let mut rig = Rig::new(lazy(), 1);
    rig.quiesce();
    rig.message(100).unwrap();
    rig.commit();
    let is_lazy =
        rig.driver.queue.ops.iter().any(|(_, op)| matches!(op, DiskOp::Commit { sync: false, .. }));
    assert!(is_lazy);
    rig.quiesce();
    assert_eq!(rig.acked(), 1);
    assert_eq!(rig.log.next_deadline(), Some(rig.now_ns + 1_000_000));
    rig.pass(1_000_000);
    assert!(rig.driver.queue.ops.iter().any(|(_, op)| matches!(op, DiskOp::Sync { .. })));
    rig.quiesce();
    assert!(rig.log.is_settled());
    // What was flushed survives a power cut.
    let (disk, entries, _) = rig.crash(true);
    let (rig, _, report) = Rig::recover(lazy(), disk, 1);
    assert!(report.is_clean());
    assert_eq!(rig.entries, entries);
}

#[test]
fn notes_survive_the_segments_they_were_written_in() {
    let mut rig = Rig::new(options(), 9);
    rig.append(Entry::Put(b"config".to_vec(), b"one".to_vec())).unwrap();
    rig.append(Entry::Put(b"consumer".to_vec(), b"state".to_vec())).unwrap();
    rig.append(Entry::Put(b"gone".to_vec(), b"x".to_vec())).unwrap();
    rig.append(Entry::Remove(b"gone".to_vec())).unwrap();
    for at in 0..900 {
        rig.message(1000).unwrap();
        if at % 100 == 0 {
            let delta = format!("delta {at}").into_bytes();
            rig.append(Entry::Delta(b"consumer".to_vec(), delta)).unwrap();
        }
    }
    rig.settle();
    assert_eq!(rig.log.deltas_of(b"consumer"), 9);
    let sealed: Vec<u32> =
        rig.log.segments().filter(|segment| segment.2).map(|segment| segment.0).collect();
    assert!(sealed.len() >= 3);
    for number in &sealed {
        let Rig { log, cache, driver, .. } = &mut rig;
        assert!(log.drop_segment(*number, false, cache, &mut driver.queue));
    }
    rig.quiesce();
    rig.settle();
    rig.quiesce();
    assert!(rig.log.segments().all(|segment| !sealed.contains(&segment.0)));
    let expected = super::rig::notes_after(rig.entries.iter().map(|(_, entry)| entry));
    let (disk, ..) = rig.crash(true);
    let path = |number: &u32| format!("{DIR}/{number:020}.seg");
    assert!(sealed.iter().all(|number| !disk.files.contains_key(&path(number))));
    let (_, owner, report) = Rig::recover(options(), disk, 1);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(owner.notes, expected);
    assert_eq!(owner.notes[&b"consumer".to_vec()].1.len(), 9);
}

#[test]
fn a_checkpoint_saves_reading() {
    let mut rig = settled(1500, 200);
    rig.append(Entry::Put(b"key".to_vec(), b"value".to_vec())).unwrap();
    let Rig { log, driver, .. } = &mut rig;
    log.write_segment_checkpoint(1, b"segment one", &mut driver.queue);
    log.write_checkpoint(b"the index", &mut driver.queue);
    rig.settle();
    let covered = rig.entries.len();
    for _ in 0..50 {
        rig.message(30).unwrap();
    }
    rig.settle();
    let (disk, entries, _) = rig.crash(true);
    let (mut rig, owner, report) = Rig::recover(options(), disk.clone(), 1);
    assert!(report.is_clean());
    assert_eq!(report.checkpoint, CheckpointUse::Used);
    assert_eq!(report.segments_skipped, 1);
    assert_eq!(owner.checkpoint.as_deref(), Some(&b"the index"[..]));
    assert_eq!(owner.segments[&1], b"segment one");
    assert_eq!(owner.records, entries[covered..]);
    assert!(owner.covered.iter().all(|(location, _)| location.segment > 1));
    assert_eq!(owner.notes[&b"key".to_vec()].0, b"value");
    assert_eq!(rig.next_seq, 1551);
    rig.entries = entries.clone();
    rig.check_reads();
    // An owner that does not like it gets everything.
    let mut owner = super::rig::Owner { refuses: true, ..Default::default() };
    let mut disk = disk;
    let (_, report) = crate::log::Log::recover(options(), &mut disk, &mut owner).unwrap();
    assert_eq!(report.checkpoint, CheckpointUse::Stale);
    assert_eq!(owner.records, entries);
    owner.handle_note(b"another", None, &[]);
}

#[test]
fn a_failed_commit_fences() {
    let mut rig = settled(10, 100);
    rig.message(100).unwrap();
    rig.fail(Fault::Commit, DiskError::Os(5));
    rig.quiesce();
    assert_eq!(rig.log.fenced(), Some(DiskError::Os(5)));
    assert_eq!(rig.acked(), 10);
    assert_eq!(rig.message(1), Err(AppendError::Fenced(DiskError::Os(5))));
    rig.pass(10_000_000_000);
    rig.quiesce();
    assert_eq!(rig.acked(), 10);
    rig.entries.truncate(10);
    rig.check_reads();
}

#[test]
fn a_failed_flush_fences() {
    let mut rig = Rig::new(lazy(), 1);
    rig.message(100).unwrap();
    rig.quiesce();
    rig.fail(Fault::Sync, DiskError::NoSpace);
    rig.pass(1_000_000);
    rig.quiesce();
    assert_eq!(rig.log.fenced(), Some(DiskError::NoSpace));
}

#[test]
fn a_full_disk_refuses_messages_and_goes_on_by_itself() {
    let mut rig = Rig::new(options(), 1);
    rig.quiesce();
    for _ in 0..8 {
        rig.fail(Fault::Create, DiskError::NoSpace);
    }
    let mut refused = false;
    for _ in 0..200 {
        match rig.message(1000) {
            Ok(_) => rig.quiesce(),
            Err(error) => {
                assert_eq!(error, AppendError::NoSpace);
                refused = true;
                break;
            }
        }
    }
    assert!(refused && rig.log.lacks_space());
    // Deletes and notes find a place for a while, everything is durable, reading works.
    for _ in 0..20 {
        rig.append(Entry::Put(b"key".to_vec(), b"value".to_vec())).unwrap();
        rig.quiesce();
    }
    rig.append(Entry::Other(b"delete".to_vec())).unwrap();
    rig.quiesce();
    assert_eq!(rig.acked(), rig.entries.len());
    rig.check_reads();
    let mut space = false;
    for _ in 0..20 {
        rig.pass(1_000_000_000);
        while let Some(progress) = rig.step() {
            space |= progress.space;
        }
    }
    assert!(space && !rig.log.lacks_space());
    // The first file is a small one; a longer one follows when there is space for it.
    for _ in 0..100 {
        rig.message(1000).unwrap();
        rig.quiesce();
    }
    for _ in 0..100 {
        rig.message(1000).unwrap();
    }
    rig.settle();
    rig.check_reads();
}

#[test]
fn an_end_that_finds_no_space_is_written_again_in_time() {
    for options in [options(), lazy()] {
        let mut rig = Rig::new(options, 1);
        rig.message(1000).unwrap();
        rig.quiesce();
        // The commits are through; what follows is the second copy of the end.
        for _ in 0..3 {
            rig.fail(Fault::Commit, DiskError::NoSpace);
        }
        let mut turns = 0;
        while !rig.log.is_settled() {
            let deadline = rig.log.next_deadline().expect("it is to be written");
            rig.pass(deadline.saturating_sub(rig.now_ns));
            rig.quiesce();
            turns += 1;
            assert!(turns < 20, "refused again and again: {}", rig.log.lacks_space());
        }
        assert!(turns > 3 && !rig.log.lacks_space());
        assert!(rig.message(1000).is_ok());
        assert!(rig.log.next_deadline().is_none_or(|deadline| deadline > rig.now_ns));
    }
}

#[test]
fn a_commit_without_space_is_tried_again() {
    let mut rig = settled(10, 100);
    rig.message(5000).unwrap();
    rig.fail(Fault::Commit, DiskError::NoSpace);
    rig.fail(Fault::Commit, DiskError::NoSpace);
    rig.quiesce();
    assert_eq!(rig.acked(), 10);
    assert_eq!(rig.message(1), Err(AppendError::NoSpace));
    rig.append(Entry::Other(b"ack".to_vec())).unwrap();
    rig.quiesce();
    assert_eq!(rig.acked(), 10);
    for _ in 0..3 {
        rig.pass(1_000_000_000);
        rig.quiesce();
    }
    assert_eq!(rig.acked(), 12);
    assert!(!rig.log.lacks_space());
    rig.message(1).unwrap();
    rig.settle();
    rig.check_reads();
}

#[test]
fn a_read_that_fails_is_told_and_asked_again() {
    let mut rig = settled(3000, 200);
    let (location, entry) = rig.entries[5].clone();
    rig.fail(Fault::Read, DiskError::Os(5));
    let mut failed = false;
    for _ in 0..3 {
        match rig.read(location) {
            Ok(found) => assert_eq!(found, entry),
            Err(error) => {
                assert_eq!(error, "Failed(Os(5))");
                failed = true;
            }
        }
    }
    assert!(failed);
    assert_eq!(rig.read(location), Ok(entry));
}

#[test]
fn removing_everything_leaves_nothing() {
    let rig = settled(1000, 200);
    let Rig { log, mut driver, mut cache, mut rng, .. } = rig;
    log.remove_all(&mut cache, &mut driver.queue);
    while driver.complete(&mut rng).is_some() {}
    assert!(driver.disk.files.keys().all(|name| !name.starts_with(DIR)));
}

#[test]
fn subjects_and_records_have_a_longest_length() {
    let mut rig = settled(1, 1);
    let subject = vec![b'a'; 70_000];
    let message = crate::log::Message { seq: 2, subject: &subject, ..Default::default() };
    assert_eq!(rig.log.append(&Record::Message(message)), Err(AppendError::TooLarge));
}
