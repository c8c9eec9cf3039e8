//! Damage: flipped bits, cut and missing files, stale and broken checkpoints. What is not hit stays
//! readable, what is hit is named, nothing is invented.

use super::disk::Disk;
use super::rig::{DIR, Owner, Rig, options, settled};
use crate::log::{CheckpointUse, DATA_START, Location, Log, Read, Report};

fn segment(number: u32) -> String {
    format!("{DIR}/{number:020}.seg")
}

fn recovered(mut disk: Disk) -> (Owner, Report, Log) {
    let mut owner = Owner::default();
    let (log, report) = Log::recover(options(), &mut disk, &mut owner).expect("a log");
    (owner, report, log)
}

fn flip(disk: &Disk, number: u32, at: usize, bit: u8) -> Disk {
    let mut disk = disk.clone();
    disk.files.get_mut(&segment(number)).expect("a segment").bytes[at] ^= 1 << bit;
    disk
}

#[test]
fn every_flipped_byte_is_seen_and_costs_one_record() {
    let rig = settled(40, 90);
    let (disk, entries, _) = rig.crash(true);
    let end = entries.last().unwrap().0.end().offset as usize;
    let block = end - end % 4096;
    for at in DATA_START as usize..end {
        let (owner, report, log) = recovered(flip(&disk, 1, at, (at % 8) as u8));
        if at >= block {
            // The slots have these bytes; what lies in the block's place does not count.
            assert_eq!(owner.records, entries);
            assert!(report.is_clean());
            continue;
        }
        let is_hit = |location: &Location| {
            (location.offset as usize..location.end().offset as usize).contains(&at)
        };
        let kept: Vec<_> =
            entries.iter().filter(|(location, _)| !is_hit(location)).cloned().collect();
        assert_eq!(owner.records, kept, "flip at {at}");
        assert_eq!(report.damage.len(), 1, "flip at {at}: {report:?}");
        assert_eq!(report.truncated_bytes, 0);
        assert_eq!(log.next_seq(), 41);
        if let Some(seq) = entries.iter().position(|(location, _)| is_hit(location)) {
            let seq = seq as u64 + 1;
            let damage = report.damage[0];
            assert_eq!((damage.first_seq, damage.last_seq), (seq, seq), "flip at {at}");
            assert_eq!(damage.offset, entries[seq as usize - 1].0.offset);
            assert_eq!(damage.len, entries[seq as usize - 1].0.len);
        }
        assert_eq!(report.quarantined.len(), 1);
    }
}

#[test]
fn flips_in_header_and_slots_of_a_settled_log_cost_nothing() {
    let rig = settled(20, 90);
    let (disk, entries, _) = rig.crash(true);
    for at in (0..DATA_START as usize).step_by(5) {
        let (owner, report, _) = recovered(flip(&disk, 1, at, (at % 8) as u8));
        assert_eq!(owner.records, entries, "flip at {at}");
        assert!(report.is_clean(), "flip at {at}: {report:?}");
    }
}

/// Three messages, the last commit covered by one slot only.
fn unsettled() -> (Disk, Vec<(Location, super::rig::Entry)>) {
    let mut rig = Rig::new(options(), 1);
    for _ in 0..3 {
        rig.message(9000).unwrap();
        rig.quiesce();
    }
    let (disk, entries, _) = rig.crash(true);
    (disk, entries)
}

#[test]
fn a_flip_in_the_last_commit_is_told_from_a_write_that_tore() {
    let (disk, entries) = unsettled();
    let last = entries[2].0;
    // All of its sectors were written: what does not hold is damage.
    let (owner, report, log) = recovered(flip(&disk, 1, last.offset as usize + 500, 1));
    assert_eq!(owner.records, entries[..2]);
    assert_eq!((report.damage[0].first_seq, report.damage[0].last_seq), (3, 3), "{report:?}");
    assert_eq!(log.next_seq(), 4);
    // A sector as it was before the commit: it tore, and nobody was told that it is kept.
    let mut torn = disk;
    let at = (last.offset as usize + 1000).next_multiple_of(512);
    torn.files.get_mut(&segment(1)).unwrap().bytes[at..at + 512].fill(0);
    let (owner, report, log) = recovered(torn.clone());
    assert_eq!(owner.records, entries[..2]);
    assert!(report.is_clean() && report.truncated_bytes > 0, "{report:?}");
    assert_eq!(log.next_seq(), 3);
    // A later commit had begun, so that this one was complete: it is damage.
    let is_told = [4096, 12_288].into_iter().any(|slot| {
        let mut disk = torn.clone();
        disk.files.get_mut(&segment(1)).unwrap().bytes[slot + 20..slot + 60].fill(0xA5);
        let (owner, report, log) = recovered(disk);
        assert_eq!(owner.records, entries[..2]);
        !report.is_clean() && report.damage[0].first_seq == 3 && log.next_seq() == 4
    });
    assert!(is_told, "neither slot was the older one");
}

#[test]
fn what_lies_behind_a_flip_in_the_last_commit_is_kept() {
    let mut rig = settled(10, 90);
    // One commit over several blocks.
    for _ in 0..40 {
        rig.message(300).unwrap();
    }
    rig.quiesce();
    let (disk, entries, _) = rig.crash(true);
    let end = entries.last().unwrap().0.end().offset as usize;
    for hit in 10..entries.len() {
        let (location, _) = entries[hit];
        if location.end().offset as usize > end - end % 4096 {
            break;
        }
        for at in [3, 100, location.len as usize - 1] {
            let (owner, report, log) = recovered(flip(&disk, 1, location.offset as usize + at, 2));
            let mut kept = entries.clone();
            kept.remove(hit);
            assert_eq!(owner.records, kept, "message {}", hit + 1);
            let seq = hit as u64 + 1;
            let told = (report.damage[0].first_seq, report.damage[0].last_seq);
            assert_eq!((report.damage.len(), told), (1, (seq, seq)), "{report:?}");
            assert_eq!(log.next_seq(), 51);
        }
    }
}

#[test]
fn a_flip_in_the_newest_slot_and_one_in_a_block_cost_one_message() {
    let mut rig = settled(10, 90);
    for _ in 0..40 {
        rig.message(300).unwrap();
    }
    rig.quiesce();
    let (disk, entries, _) = rig.crash(true);
    let hit = entries[12].0.offset as usize + 60;
    let mut told = 0;
    for slot in [4096, 12_288] {
        for at in (0..700).step_by(29) {
            let disk = flip(&flip(&disk, 1, hit, 3), 1, slot + at, (at % 8) as u8);
            let (owner, report, _) = recovered(disk);
            let mut kept = entries.clone();
            kept.remove(12);
            assert_eq!(owner.records, kept, "slot {slot} at {at}");
            let lost = (report.damage[0].first_seq, report.damage[0].last_seq);
            assert_eq!((report.damage.len(), lost), (1, (13, 13)));
            told += report.damaged_slots;
        }
    }
    assert!(told > 25, "only {told} slots were told of");
}

#[test]
fn what_a_disk_does_not_give_is_no_proof_of_an_end() {
    use super::disk::Fault;
    use crate::disk::DiskError;
    use crate::log::RecoverError;
    let (disk, entries) = unsettled();
    let error = DiskError::Os(5);
    // The reads of a start: keys, length, then header, slots and first block, one by one.
    let mut refused = 0;
    for fails in 2..12 {
        let mut disk = disk.clone();
        disk.faults.extend(vec![(Fault::Read, error); fails]);
        let before = disk.files.clone();
        match Log::recover(options(), &mut disk, &mut Owner::default()) {
            Ok((_, report)) => assert!(report.is_clean(), "{fails}: {report:?}"),
            Err(failed) => {
                refused += 1;
                assert_eq!(failed, RecoverError::Disk(error));
                let bytes = |file: &Disk| {
                    file.files.values().map(|file| file.bytes.clone()).collect::<Vec<_>>()
                };
                let same = before.values().map(|file| file.bytes.clone()).collect::<Vec<_>>();
                assert_eq!(bytes(&disk), same, "a start that fails changes nothing");
            }
        }
        disk.faults.clear();
        let (owner, ..) = recovered(disk);
        assert_eq!(owner.records, entries, "{fails} reads failed");
    }
    assert!(refused >= 4, "{refused}");
    let mut disk = disk;
    disk.faults.push((Fault::Read, error));
    assert!(Log::identify(DIR, &mut disk).is_ok(), "the slots tell as well");
    disk.faults.extend(vec![(Fault::Read, error); 9]);
    assert_eq!(Log::identify(DIR, &mut disk), Err(RecoverError::Disk(error)));
}

#[test]
fn the_active_segment_cut_at_every_offset() {
    let rig = settled(30, 200);
    let (disk, entries, _) = rig.crash(true);
    let end = entries.last().unwrap().0.end().offset as usize;
    let block = end - end % 4096;
    for cut in (DATA_START as usize..end).step_by(7) {
        let mut disk = disk.clone();
        disk.files.get_mut(&segment(1)).unwrap().bytes.truncate(cut);
        let (owner, report, _) = recovered(disk);
        let whole = |location: &Location| location.end().offset as usize <= cut;
        let kept = entries.iter().take_while(|(location, _)| whole(location)).count();
        assert!(owner.records.len() >= kept);
        assert_eq!(owner.records[..kept], entries[..kept], "cut at {cut}");
        for record in &owner.records {
            assert!(entries.contains(record), "invented at {cut}");
        }
        if cut < block {
            assert!(!report.is_clean(), "cut at {cut}: {report:?}");
            let lost = report.damage[0];
            assert!(lost.first_seq <= kept as u64 + 1, "{lost:?}");
            // What the slots have of the end is there.
            let is_told = report.damage.last().unwrap().last_seq >= 30;
            assert!(is_told || owner.records.last() == entries.last(), "cut at {cut}: {report:?}");
        }
    }
}

#[test]
fn both_slots_gone_leaves_all_that_is_in_its_place() {
    let rig = settled(40, 200);
    let (mut disk, entries, _) = rig.crash(true);
    let end = entries.last().unwrap().0.end().offset;
    let block = end - end % 4096;
    disk.files.get_mut(&segment(1)).unwrap().bytes[4096..20_480].fill(0xAA);
    let (mut rig, owner, report) = Rig::recover(options(), disk, 1);
    assert!(report.tail_unknown && !report.is_clean());
    let kept = entries.iter().take_while(|(location, _)| location.end().offset <= block).count();
    assert_eq!(owner.records, entries[..kept]);
    // Sequences that may have been acknowledged are not given out again.
    let lost = report.damage[0];
    assert_eq!(lost.first_seq, kept as u64 + 1);
    assert!(lost.last_seq >= 40 && rig.next_seq > lost.last_seq);
    rig.message(100).unwrap();
    rig.settle();
    let (disk, entries, _) = rig.crash(true);
    let (_, owner, report) = Rig::recover(options(), disk, 1);
    assert_eq!(owner.records, entries);
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn flips_in_sealed_segments_are_named() {
    let rig = settled(1200, 200);
    let (disk, entries, _) = rig.crash(true);
    for at in (0..entries.len() - 50).step_by(97) {
        let location = entries[at].0;
        let hit = flip(&disk, location.segment, location.offset as usize + 60, 3);
        let (owner, report, log) = recovered(hit);
        assert_eq!(owner.records.len(), entries.len() - 1);
        assert_eq!(report.damage.len(), 1);
        let seq = at as u64 + 1;
        assert_eq!((report.damage[0].first_seq, report.damage[0].last_seq), (seq, seq));
        assert_eq!(log.next_seq(), 1201);
    }
    // The End record, too, has to be there.
    let end = entries.iter().rposition(|(location, _)| location.segment == 1).unwrap();
    let hit = flip(&disk, 1, entries[end].0.end().offset as usize + 3, 3);
    let (owner, report, _) = recovered(hit);
    assert_eq!(owner.records, entries);
    assert_eq!(report.damage.len(), 1);
    assert!(report.damage[0].last_seq < report.damage[0].first_seq);
}

#[test]
fn a_large_hole_loses_what_it_held_and_no_more() {
    let rig = settled(1200, 200);
    let (mut disk, entries, _) = rig.crash(true);
    let (from, to) = (30_000, 50_000);
    disk.files.get_mut(&segment(2)).unwrap().bytes[from..to].fill(0);
    let (owner, report, log) = recovered(disk);
    let is_hit = |location: &Location| {
        location.segment == 2
            && (location.offset as usize) < to
            && location.end().offset as usize > from
    };
    let kept: Vec<_> = entries.iter().filter(|(at, _)| !is_hit(at)).cloned().collect();
    assert_eq!(owner.records, kept);
    let lost: Vec<u64> =
        (0..entries.len()).filter(|at| is_hit(&entries[*at].0)).map(|at| at as u64 + 1).collect();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].first_seq, lost[0]);
    assert_eq!(report.damage[0].last_seq, *lost.last().unwrap());
    assert_eq!(log.next_seq(), 1201);
}

#[test]
fn a_missing_segment_in_the_middle_is_named() {
    let rig = settled(1200, 200);
    let (mut disk, entries, _) = rig.crash(true);
    disk.files.remove(&segment(2));
    let (owner, report, _) = recovered(disk);
    assert_eq!(report.missing_segments, [2]);
    let lost: Vec<u64> = (0..entries.len())
        .filter(|at| entries[*at].0.segment == 2)
        .map(|at| at as u64 + 1)
        .collect();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].first_seq, lost[0]);
    assert_eq!(report.damage[0].last_seq, *lost.last().unwrap());
    assert_eq!(owner.records.len(), entries.len() - lost.len());
}

#[test]
fn a_file_of_another_stream_goes_to_quarantine() {
    let rig = settled(1200, 200);
    let (mut disk, entries, _) = rig.crash(true);
    let mut other = options();
    other.uid ^= 1;
    let mut foreign = Rig::new(other, 1);
    foreign.message(10).unwrap();
    foreign.settle();
    let (foreign, ..) = foreign.crash(true);
    let file = foreign.files[&segment(1)].clone();
    disk.files.insert(segment(2), file);
    let (owner, report, _) = recovered(disk);
    assert_eq!(report.quarantined, [format!("{DIR}/quarantine/{:020}.seg", 2)]);
    assert_eq!(report.missing_segments, [2]);
    assert!(owner.records.iter().all(|record| entries.contains(record)));
}

#[test]
fn a_checkpoint_with_any_flip_is_not_believed() {
    let mut rig = settled(100, 100);
    let Rig { log, driver, .. } = &mut rig;
    log.put_note(b"key", b"value").unwrap();
    log.write_checkpoint(b"payload", &mut driver.queue);
    rig.settle();
    let (disk, entries, _) = rig.crash(true);
    let path = format!("{DIR}/index.chk");
    let len = disk.files[&path].bytes.len();
    for at in 0..len {
        let mut disk = disk.clone();
        disk.files.get_mut(&path).unwrap().bytes[at] ^= 4;
        let (owner, report, _) = recovered(disk);
        assert_eq!(report.checkpoint, CheckpointUse::Damaged);
        assert_eq!(owner.checkpoint, None);
        assert_eq!(owner.records.len(), entries.len() + 1);
    }
}

#[test]
fn a_checkpoint_of_another_life_is_stale() {
    let mut rig = settled(10, 100);
    let old = rig.driver.disk.clone();
    for _ in 0..10 {
        rig.message(100).unwrap();
    }
    let Rig { log, driver, .. } = &mut rig;
    log.write_checkpoint(b"payload", &mut driver.queue);
    rig.settle();
    let (newer, ..) = rig.crash(true);
    // The segments are those of before, the checkpoint is not.
    let mut disk = old;
    let path = format!("{DIR}/index.chk");
    disk.files.insert(path.clone(), newer.files[&path].clone());
    let (mut rig, owner, report) = Rig::recover(options(), disk, 1);
    assert_eq!(report.checkpoint, CheckpointUse::Stale);
    assert_eq!(owner.records.len(), 10);
    assert!(!rig.driver.disk.files.contains_key(&path));
    for _ in 0..20 {
        rig.message(90).unwrap();
    }
    rig.settle();
    let (disk, entries, _) = rig.crash(true);
    let (_, owner, report) = Rig::recover(options(), disk, 1);
    assert_eq!(report.checkpoint, CheckpointUse::Absent);
    assert_eq!(owner.records, entries);
}

#[test]
fn damage_that_comes_later_is_seen_when_it_is_read() {
    let mut rig = settled(3000, 200);
    let (location, _) = rig.entries[10].clone();
    let file = rig.driver.disk.files.get_mut(&segment(location.segment)).unwrap();
    file.bytes[location.offset as usize + 100] ^= 1;
    assert_eq!(rig.read(location), Err("Damaged".to_owned()));
    assert_eq!(rig.read(Location { len: 0, ..location }), Err("Damaged".to_owned()));
    let others: Vec<_> = rig.entries[11..40].to_vec();
    for (location, entry) in others {
        assert_eq!(rig.read(location), Ok(entry));
    }
    // It is read from disk again, should it have been a passing fault.
    let file = rig.driver.disk.files.get_mut(&segment(location.segment)).unwrap();
    file.bytes[location.offset as usize + 100] ^= 1;
    let entry = rig.entries[10].1.clone();
    assert_eq!(rig.read(location), Err("Damaged".to_owned()));
    assert_eq!(rig.read(location), Ok(entry));
    let nowhere = Location { segment: 99, offset: 20_480, len: 0 };
    let Rig { log, cache, driver, .. } = &mut rig;
    assert_eq!(log.read(nowhere, cache, &mut driver.queue), Read::Missing);
}

#[test]
fn sectors_that_cannot_be_read_count_as_damage() {
    use super::disk::Fault;
    use crate::disk::DiskError;
    let rig = settled(1200, 200);
    let (mut disk, entries, _) = rig.crash(true);
    // The first read of the first segment's start fails as a whole and then in one block.
    disk.faults.push((Fault::Read, DiskError::Os(5)));
    let (owner, report, _) = recovered(disk);
    assert_eq!(owner.records, entries);
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn old_bytes_of_a_recycled_file_are_no_torn_tail_and_are_left_alone() {
    let mut own = options();
    (own.segment_bytes_min, own.segment_bytes_max) = (4 << 20, 4 << 20);
    let mut other = own.clone();
    other.uid ^= 1;
    let mut foreign = Rig::new(other, 1);
    for _ in 0..200 {
        foreign.message(9000).unwrap();
        foreign.quiesce();
    }
    foreign.settle();
    let (foreign, ..) = foreign.crash(true);
    let mut rig = Rig::new(own.clone(), 1);
    for _ in 0..20 {
        rig.message(90).unwrap();
    }
    rig.settle();
    let (mut disk, entries, _) = rig.crash(true);
    // The first MiB was overwritten before the file was used again.
    let from = 1 << 20;
    let old = foreign.files[&segment(1)].bytes[from..].to_vec();
    disk.files.get_mut(&segment(1)).unwrap().bytes[from..].copy_from_slice(&old);
    let mut owner = Owner::default();
    let (_, report) = Log::recover(own.clone(), &mut disk, &mut owner).unwrap();
    assert_eq!(owner.records, entries);
    assert!(report.is_clean() && report.truncated_bytes == 0, "{report:?}");
    assert_eq!(disk.files[&segment(1)].bytes[from..], old);
    // The first start says in the slots that there was one; later ones change nothing.
    disk.changes = 0;
    Log::recover(own, &mut disk, &mut Owner::default()).unwrap();
    assert_eq!(disk.changes, 0);
}
