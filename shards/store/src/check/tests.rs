//! The check names what is damaged, agrees with a start, and leaves the disk as it was.

use super::*;
use crate::log::Cache;
use crate::tests::disk::{Disk, Driver, Rng};
use crate::{NewMessage, Store};

const DIR: &str = "A/streams/S";

fn options() -> Options {
    let mut options = Options::new(DIR, 5);
    options.segment_bytes_min = 64 << 10;
    options.segment_bytes_max = 128 << 10;
    options
}

/// A settled stream of several segments with a checkpoint in its middle.
fn stopped() -> Disk {
    let mut driver = Driver::default();
    let mut rng = Rng(3);
    let mut cache = Cache::new(1 << 20);
    let mut store = Store::file(options(), 0, &mut driver.queue);
    store.set_checkpoint_bytes(100 << 10);
    store.put_note(b"stream", b"config");
    for seq in 1..=2000_u64 {
        let payload = seq.to_le_bytes().repeat(20);
        let message = NewMessage {
            subject: if seq % 3 == 0 { b"s.a" } else { b"s.b" },
            payload: &payload,
            ts_ns: seq as i64,
            ..NewMessage::default()
        };
        store.append(&message).unwrap();
        if seq % 7 == 0 {
            store.remove(seq - 3, false);
        }
        if seq % 50 == 0 {
            store.commit(seq, &mut driver.queue);
            while let Some(done) = driver.complete(&mut rng) {
                store.handle_disk_done(done, seq, &mut driver.queue, &mut cache);
                store.commit(seq, &mut driver.queue);
            }
        }
    }
    while !store.stop(9999, &mut driver.queue, &mut cache) {
        let done = driver.complete(&mut rng).unwrap();
        store.handle_disk_done(done, 9999, &mut driver.queue, &mut cache);
    }
    while driver.complete(&mut rng).is_some() {}
    driver.crash(&mut rng, true)
}

fn bytes_of(disk: &Disk) -> Vec<(String, Vec<u8>)> {
    disk.files.iter().map(|(path, file)| (path.clone(), file.bytes.clone())).collect()
}

fn segment(number: u32) -> String {
    format!("{DIR}/{number:020}.seg")
}

#[test]
fn a_healthy_stream_is_clean_and_stays_as_it_is() {
    let mut disk = stopped();
    let before = bytes_of(&disk);
    let checked = check(&options(), &mut disk, false).unwrap();
    assert!(checked.is_clean(), "{:?}", checked.report);
    assert_eq!(checked.checkpoint, CheckpointVerdict::Good);
    assert_eq!(checked.state.messages, 2000 - 285);
    assert_eq!(checked.notes.len(), 1);
    // The first start says in the slots that there was one.
    assert!(checked.changes.iter().all(|change| change.ends_with("written over")));
    assert_eq!(bytes_of(&disk), before);
}

#[test]
fn damage_that_the_checkpoint_hides_is_found_and_nothing_changes() {
    let mut disk = stopped();
    disk.files.get_mut(&segment(1)).unwrap().bytes[30_000] ^= 1;
    let before = bytes_of(&disk);
    let checked = check(&options(), &mut disk, false).unwrap();
    assert!(!checked.is_clean());
    assert_eq!(checked.report.damage.len(), 1);
    assert_eq!(checked.lost.len(), 1);
    assert_eq!(checked.lost[0].0, checked.lost[0].1);
    assert!(checked.changes.iter().any(|change| change.contains("quarantine")));
    assert_eq!(bytes_of(&disk), before);
    // A repair keeps a copy of the damaged bytes and every record.
    let repaired = check(&options(), &mut disk, true).unwrap();
    assert_eq!(repaired.lost, checked.lost);
    assert_eq!(repaired.state, checked.state);
    assert!(disk.files.keys().any(|path| path.contains("quarantine/1-")));
}

#[test]
fn foreign_files_missing_segments_and_bad_checkpoints_are_named() {
    let mut disk = stopped();
    let chk = format!("{DIR}/index.chk");
    disk.files.get_mut(&chk).unwrap().bytes[90] ^= 1;
    disk.files.get_mut(&segment(2)).unwrap().bytes[..20_490].fill(0x55);
    let before = bytes_of(&disk);
    let checked = check(&options(), &mut disk, false).unwrap();
    assert_eq!(checked.checkpoint, CheckpointVerdict::Damaged);
    assert_eq!(checked.report.missing_segments, [2]);
    assert_eq!(checked.report.quarantined, [format!("{DIR}/quarantine/{:020}.seg", 2)]);
    assert_eq!(bytes_of(&disk), before);
    check(&options(), &mut disk, true).unwrap();
    assert!(!disk.files.contains_key(&chk));
    assert!(disk.files.contains_key(&format!("{DIR}/quarantine/{:020}.seg", 2)));
    let again = check(&options(), &mut disk, false).unwrap();
    assert_eq!(again.checkpoint, CheckpointVerdict::Absent);
    assert_eq!(again.report.missing_segments, [2]);
    assert_eq!(again.changes, Vec::<String>::new());
}

#[test]
fn a_checkpoint_that_says_something_else_is_found_out() {
    let disk = stopped();
    let chk = format!("{DIR}/index.chk");
    // A checkpoint that validates: one message less than the records have.
    let mut other = disk.clone();
    let found = Store::recover(options(), &mut other).unwrap();
    let mut driver = Driver::on(other);
    let (mut store, mut cache, mut rng) = (found.store, Cache::new(1 << 20), Rng(1));
    store.index.remove(1000);
    store.set_checkpoint_bytes(0);
    store.commit(1, &mut driver.queue);
    while let Some(done) = driver.complete(&mut rng) {
        store.handle_disk_done(done, 1, &mut driver.queue, &mut cache);
    }
    let mut disk = disk;
    disk.files.insert(chk.clone(), driver.disk.files[&chk].clone());
    let checked = check(&options(), &mut disk, false).unwrap();
    assert_eq!(checked.checkpoint, CheckpointVerdict::Wrong);
    assert!(!checked.is_clean() && disk.files.contains_key(&chk));
    let repaired = check(&options(), &mut disk, true).unwrap();
    assert_eq!(repaired.state.messages, 2000 - 285);
    assert!(!disk.files.contains_key(&chk));
}
