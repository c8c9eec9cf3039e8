//! The scrub of one segment: any flipped byte is found and placed, wherever pieces are cut, and
//! nothing else is.

use super::disk::{Fault, Rng};
use super::rig::{DIR, Rig, options, settled};
use super::secret::encrypted;
use crate::disk::DiskError;
use crate::log::record::RawRecord;
use crate::log::walk::{Step, Walk};
use crate::log::{DATA_START, Location, Scrubbed};

const FAST: u64 = 1 << 40;

fn path(number: u32) -> String {
    format!("{DIR}/{number:020}.seg")
}

fn flip(rig: &mut Rig, number: u32, at: usize) {
    rig.driver.disk.files.get_mut(&path(number)).expect("a segment").bytes[at] ^= 1 << (at % 8);
}

/// Goes through a segment.
fn scrub(rig: &mut Rig, number: u32) -> Scrubbed {
    assert!(rig.log.scrub(number, FAST, rig.now_ns));
    for _ in 0..1000 {
        rig.now_ns += 1_000_000;
        rig.log.drive_scrub(rig.now_ns, &mut rig.driver.queue);
        if let Some(scrubbed) = rig.log.take_scrubbed() {
            assert!(!rig.log.is_scrubbing());
            return scrubbed;
        }
        rig.step();
    }
    panic!("the scrub does not end")
}

fn in_segment(rig: &Rig, number: u32) -> Vec<Location> {
    let locations = rig.entries.iter().map(|(location, _)| *location);
    locations.filter(|location| location.segment == number).collect()
}

#[test]
fn any_flipped_byte_of_a_cold_segment_is_found_and_placed() {
    let mut rig = settled(600, 200);
    let whole = scrub(&mut rig, 1);
    assert!(whole.is_whole && whole.places.is_empty() && !whole.is_header_damaged, "{whole:?}");
    let records = in_segment(&rig, 1);
    let end = records.last().unwrap().end().offset;
    // Every byte of a record in the middle, of the one that names the segments, and of the last.
    let middle = records[records.len() / 2];
    let all = [DATA_START..records[0].offset, middle.offset..middle.end().offset, end..end + 24];
    let some = (0..end).step_by(211);
    for at in some.chain(all.into_iter().flatten()) {
        flip(&mut rig, 1, at as usize);
        let found = scrub(&mut rig, 1);
        flip(&mut rig, 1, at as usize);
        assert!(found.is_whole, "flip at {at}: {found:?}");
        assert_eq!(found.is_header_damaged, at < 4096, "flip at {at}");
        if at < DATA_START {
            // The slots of a sealed segment count no more.
            assert_eq!(found.places, [], "flip at {at}");
            continue;
        }
        let hit = records.iter().find(|record| (record.offset..record.end().offset).contains(&at));
        let expected = match hit {
            Some(hit) => (hit.offset, hit.end().offset),
            None if at < records[0].offset => (DATA_START, records[0].offset),
            None => (end, found.places[0].1),
        };
        assert_eq!(found.places, [expected], "flip at {at}");
    }
    let whole = scrub(&mut rig, 1);
    assert!(whole.is_whole && whole.places.is_empty(), "{whole:?}");
    assert!(rig.log.damaged_segments.is_empty());
}

#[test]
fn pieces_may_be_cut_anywhere() {
    let rig = settled(600, 200);
    let segment = rig.log.segment(1).unwrap();
    let (binding, file_len) = (segment.binding, segment.file_len);
    let mut bytes = rig.driver.disk.files[&path(1)].bytes.clone();
    let mut rng = Rng(7);
    for round in 0..60 {
        if round % 3 == 0 {
            let at = DATA_START as usize + rng.below(40_000);
            let len = 1 + rng.below(if round % 2 == 0 { 3 } else { 5000 });
            bytes[at..at + len].iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        let mut walks = Vec::new();
        for most in [usize::MAX, 4096, 300, 17] {
            let mut walk = Walk::new(binding, file_len);
            let mut places = Vec::new();
            let mut check = |_: u32, _: &RawRecord<'_>| true;
            loop {
                match walk.step(&mut check) {
                    Step::End => break,
                    Step::Damage(from, to) => places.push((from, to)),
                    Step::More => {
                        let from = walk.wants() as usize;
                        let len = (1 + rng.below(most.min(1 << 20))).min(bytes.len() - from);
                        assert!(len > 0, "it wants more than there is");
                        // Some bytes come twice, as with reads that must be aligned.
                        let early = from - rng.below(3).min(from);
                        walk.feed(early as u32, &bytes[early..from + len]);
                        if rng.below(50) == 0 {
                            walk.forget();
                        }
                    }
                }
            }
            walks.push(places);
        }
        assert!(!walks[0].is_empty());
        assert!(walks.iter().all(|places| *places == walks[0]), "round {round}: {walks:?}");
    }
}

#[test]
fn packed_records_are_verified_too() {
    let mut rig = Rig::new(encrypted(3), 1);
    for _ in 0..600 {
        rig.message(200).unwrap();
        if rig.next_seq.is_multiple_of(10) {
            rig.quiesce();
        }
    }
    rig.settle();
    assert!(scrub(&mut rig, 1).places.is_empty());
    let hit = in_segment(&rig, 1)[20];
    for at in hit.offset..hit.end().offset {
        flip(&mut rig, 1, at as usize);
        assert_eq!(scrub(&mut rig, 1).places, [(hit.offset, hit.end().offset)], "flip at {at}");
        flip(&mut rig, 1, at as usize);
    }
    // Text that the key does not fit is damage, whatever its checksum says.
    rig.log.segment_mut(1).unwrap().key = None;
    assert!(scrub(&mut rig, 1).places.contains(&(hit.offset, hit.end().offset)));
}

#[test]
fn what_the_disk_does_not_give_is_told() {
    let mut rig = settled(600, 200);
    // The first piece, smaller ones, and at last its first block.
    for _ in 0..3 {
        rig.fail(Fault::Read, DiskError::Os(5));
    }
    let found = scrub(&mut rig, 1);
    assert_eq!((found.unreadable_blocks, found.error), (1, Some(DiskError::Os(5))));
    assert!(found.is_whole && found.is_header_damaged && found.places.is_empty(), "{found:?}");
    let found = scrub(&mut rig, 1);
    assert_eq!((found.unreadable_blocks, found.error, found.is_header_damaged), (0, None, false));
    // A file that was cut short.
    let records = in_segment(&rig, 1);
    let cut = records[10];
    rig.driver.disk.files.get_mut(&path(1)).unwrap().bytes.truncate(cut.offset as usize + 30);
    let found = scrub(&mut rig, 1);
    assert_eq!(found.places.first().unwrap().0, cut.offset);
    assert!(found.is_whole && found.unreadable_blocks > 0, "{found:?}");
}

#[test]
fn a_scrub_keeps_no_file_open_and_leaves_the_cache_alone() {
    let rig = settled(1200, 200);
    let (disk, ..) = rig.crash(false);
    let (mut rig, ..) = Rig::recover(options(), disk, 1);
    let cached = rig.cache.len();
    for number in [1, 2] {
        assert!(scrub(&mut rig, number).is_whole);
        while rig.step().is_some() {}
        assert_eq!(rig.log.segment(number).unwrap().open_file(), None);
    }
    assert_eq!(rig.cache.len(), cached);
    // A file that others read stays open.
    let first = in_segment(&rig, 1)[0];
    rig.read(first).unwrap();
    assert!(scrub(&mut rig, 1).is_whole);
    assert!(rig.log.segment(1).unwrap().open_file().is_some());
}

#[test]
fn the_segment_at_hand_may_go() {
    let mut rig = settled(1200, 200);
    assert!(rig.log.scrub(1, FAST, rig.now_ns));
    rig.log.drive_scrub(rig.now_ns, &mut rig.driver.queue);
    assert!(rig.log.drop_segment(1, false, &mut rig.cache, &mut rig.driver.queue));
    rig.quiesce();
    rig.log.drive_scrub(rig.now_ns, &mut rig.driver.queue);
    let found = rig.log.take_scrubbed().expect("an end");
    assert!(found.places.is_empty() && !found.is_header_damaged, "{found:?}");
    assert!(!rig.log.scrub(1, FAST, rig.now_ns));
    rig.settle();
    // The one that is written to is not cold.
    let last = rig.log.end().segment;
    assert!(!rig.log.scrub(last, FAST, rig.now_ns));
}
