//! Crashes: for any history and any moment, what was acknowledged is found again, in order and
//! once, and nothing is found that was not appended.

use proptest::prelude::*;

use super::disk::{Disk, Rng};
use super::rig::{Entry, Owner, Rig, lazy, notes_after, options};
use crate::log::{CheckpointUse, Keep, Location, Log, Options};

/// Something that is done to a log.
#[derive(Clone, Debug)]
enum Action {
    Message(usize),
    Group(usize, usize),
    Put(u8, usize),
    Delta(u8, usize),
    Remove(u8),
    Commit,
    Complete(usize),
    Pass(u64),
    Seal,
    Drop,
    Checkpoint,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0_usize..400).prop_map(Action::Message),
        2 => (3000_usize..9000).prop_map(Action::Message),
        1 => (60_000_usize..90_000).prop_map(Action::Message),
        2 => (2_usize..6, 0_usize..3000).prop_map(|(count, len)| Action::Group(count, len)),
        1 => (0_u8..3, 0_usize..300).prop_map(|(key, len)| Action::Put(key, len)),
        2 => (0_u8..3, 0_usize..300).prop_map(|(key, len)| Action::Delta(key, len)),
        1 => (0_u8..3).prop_map(Action::Remove),
        6 => Just(Action::Commit),
        8 => (1_usize..4).prop_map(Action::Complete),
        1 => (1_u64..30_000_000).prop_map(Action::Pass),
        1 => Just(Action::Seal),
        1 => Just(Action::Drop),
        1 => Just(Action::Checkpoint),
    ]
}

/// A history that ends in a crash.
#[derive(Clone, Debug)]
struct Life {
    actions: Vec<Action>,
    seed: u64,
    power: bool,
    /// The first recovery is interrupted after so many changes.
    interrupted_after: Option<usize>,
}

fn life() -> impl Strategy<Value = Life> {
    (
        prop::collection::vec(action(), 1..60),
        any::<u64>(),
        any::<bool>(),
        prop::option::of(0_usize..5),
    )
        .prop_map(|(actions, seed, power, interrupted_after)| Life {
            actions,
            seed,
            power,
            interrupted_after,
        })
}

fn act(rig: &mut Rig, action: &Action, dropped: &mut Vec<u32>) {
    let key = |key: &u8| vec![b'k', *key];
    match action {
        Action::Message(len) => drop(rig.message(*len).unwrap()),
        Action::Group(count, len) => {
            rig.log.reserve(count * (len + 100));
            for at in 1..=*count {
                let mut entry = Entry::message(rig.next_seq, *len);
                if let Entry::Message { more, .. } = &mut entry {
                    *more = at < *count;
                }
                rig.append(entry).unwrap();
            }
        }
        Action::Put(of, len) => {
            rig.append(Entry::Put(key(of), vec![7; *len])).unwrap();
        }
        Action::Delta(of, len) => {
            // A change of nothing is not made.
            if notes_after(rig.entries.iter().map(|(_, entry)| entry)).contains_key(&key(of)) {
                rig.append(Entry::Delta(key(of), vec![8; *len])).unwrap();
            }
        }
        Action::Remove(of) => drop(rig.append(Entry::Remove(key(of))).unwrap()),
        Action::Commit => rig.commit(),
        Action::Complete(count) => {
            for _ in 0..*count {
                rig.step();
            }
        }
        Action::Pass(ns) => rig.pass(*ns),
        Action::Seal => rig.log.seal(),
        Action::Drop => {
            let first = rig.log.segments().find(|segment| segment.2).map(|segment| segment.0);
            let Some(number) = first else { return };
            let Rig { log, cache, driver, .. } = rig;
            if log.drop_segment(number, false, cache, &mut driver.queue) {
                dropped.push(number);
            }
        }
        Action::Checkpoint => {
            let payload = (rig.entries.len() as u64).to_le_bytes();
            rig.log.write_checkpoint(&payload, &mut rig.driver.queue);
        }
    }
}

fn recover_interrupted(options: &Options, disk: &mut Disk, changes: usize, seed: u64) {
    disk.changes_left = Some(changes);
    disk.torn = Some(seed);
    let _ = Log::recover(options.clone(), disk, &mut Owner::default());
    disk.changes_left = None;
}

/// What was found must be what was appended: all of it up to some point not before `acked`,
/// except what lay in segments that were dropped.
fn judge(
    owner: &Owner,
    appended: &[(Location, Entry)],
    acked: usize,
    dropped: &[u32],
    skip: usize,
) -> usize {
    let is_note =
        |entry: &Entry| matches!(entry, Entry::Put(..) | Entry::Delta(..) | Entry::Remove(..));
    let mut found = owner.records.iter().peekable();
    let mut last = skip;
    for (at, expected) in appended.iter().enumerate().skip(skip) {
        if found.peek() == Some(&expected) {
            found.next();
            last = at + 1;
        } else if !dropped.contains(&expected.0.segment) {
            break;
        }
    }
    assert_eq!(found.next(), None, "found something that was not appended there");
    // Entries of dropped segments at the end count as found.
    while last < appended.len() && dropped.contains(&appended[last].0.segment) {
        last += 1;
    }
    assert!(last >= acked, "{acked} were acknowledged, {last} found");
    let notes = notes_after(appended[..last].iter().map(|(_, entry)| entry));
    assert_eq!(owner.notes, notes);
    let in_group = appended[..last].iter().rev().find(|(_, entry)| !is_note(entry));
    if let Some((_, Entry::Message { more, .. })) = in_group {
        assert!(!more, "half of a group was found");
    }
    last
}

/// Lives through all of them on one disk.
fn live(options: &Options, lives: &[Life], flushed: bool) {
    let mut rig = Rig::new(options.clone(), lives[0].seed);
    let mut dropped = Vec::new();
    let mut before: Vec<(Location, Entry)> = Vec::new();
    for life in lives {
        rig.rng = Rng(life.seed);
        rig.entries.clone_from(&before);
        for action in &life.actions {
            act(&mut rig, action, &mut dropped);
        }
        let power = life.power && flushed;
        let (mut disk, entries, acked) = rig.crash(power);
        if let Some(changes) = life.interrupted_after {
            recover_interrupted(options, &mut disk, changes, life.seed);
        }
        let mut owner = Owner::default();
        let (log, report) = match Log::recover(options.clone(), &mut disk, &mut owner) {
            Ok(recovered) => recovered,
            Err(error) => {
                assert_eq!(acked, 0, "{error}");
                return;
            }
        };
        assert!(report.is_clean(), "{report:?}");
        let skip = match report.checkpoint {
            CheckpointUse::Used => {
                let payload = owner.checkpoint.clone().unwrap();
                u64::from_le_bytes(payload.try_into().unwrap()) as usize
            }
            _ => 0,
        };
        let present: Vec<u32> = log.segments().map(|segment| segment.0).collect();
        dropped.retain(|number| !present.contains(number));
        let last = judge(&owner, &entries, acked, &dropped, skip);
        before = entries[..last].to_vec();
        let (next, seed) = (log.next_seq(), life.seed);
        rig = Rig::reopened(log, disk, seed);
        rig.next_seq = next;
        rig.entries = before.clone();
        rig.entries.retain(|(location, _)| present.contains(&location.segment));
        rig.check_reads();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_records_survive_any_crash(lives in prop::collection::vec(life(), 1..4)) {
        live(&options(), &lives, true);
    }

    #[test]
    fn encrypted_logs_survive_any_crash(lives in prop::collection::vec(life(), 1..4)) {
        live(&super::secret::encrypted(lives[0].seed), &lives, true);
    }

    #[test]
    fn lazy_logs_survive_the_death_of_the_process(lives in prop::collection::vec(life(), 1..3)) {
        live(&lazy(), &lives, false);
    }
}

#[test]
fn a_commit_torn_at_every_sector_costs_nothing_that_was_acknowledged() {
    // From one state to the next, with every split of the sectors between them.
    for (first, second) in [(60, 100), (60, 9000), (4000, 4000), (8100, 100)] {
        let mut rig = Rig::new(options(), 1);
        for _ in 0..5 {
            rig.message(first).unwrap();
        }
        rig.quiesce();
        let old = rig.driver.disk.clone();
        let acked = rig.entries.len();
        rig.message(second).unwrap();
        rig.quiesce();
        let path = "jetstream/A/streams/S/00000000000000000001.seg";
        let new = rig.driver.disk.files[path].bytes.clone();
        let was = old.files[path].bytes.clone();
        let changed: Vec<usize> = (0..new.len() / 512)
            .filter(|at| new[at * 512..at * 512 + 512] != was[at * 512..at * 512 + 512])
            .collect();
        assert!(!changed.is_empty());
        for cut in 0..=changed.len() {
            for front in [true, false] {
                let mut disk = old.clone();
                let bytes = &mut disk.files.get_mut(path).unwrap().bytes;
                let part = if front { &changed[..cut] } else { &changed[cut..] };
                for at in part {
                    bytes[at * 512..at * 512 + 512].copy_from_slice(&new[at * 512..][..512]);
                }
                let (_, owner, report) = Rig::recover(options(), disk, 1);
                assert!(report.is_clean(), "{report:?}");
                assert!(owner.records.len() >= acked, "cut at {cut} of {changed:?}");
                assert_eq!(owner.records, rig.entries[..owner.records.len()]);
            }
        }
    }
}

#[test]
fn a_new_log_that_crashes_at_once_is_empty_or_whole() {
    for seed in 0..60 {
        let mut rig = Rig::new(options(), seed);
        for _ in 0..seed % 6 {
            rig.step();
        }
        let (mut disk, ..) = rig.crash(true);
        let mut owner = Owner::default();
        if let Ok((log, report)) = Log::recover(options(), &mut disk, &mut owner) {
            assert!(report.is_clean(), "{report:?}");
            let mut rig = Rig::reopened(log, disk, seed);
            rig.message(100).unwrap();
            rig.settle();
            let (disk, entries, _) = rig.crash(true);
            let (_, owner, report) = Rig::recover(options(), disk, 1);
            assert!(report.is_clean(), "{report:?}");
            assert_eq!(owner.records, entries);
        }
    }
}

#[test]
fn a_note_that_was_put_during_a_compaction_is_there_after_a_kill() {
    // A record behind what the compaction began with decides what is kept; the end comes at any
    // moment, with the record on disk or not.
    for steps in 0..16 {
        let mut rig = Rig::new(options(), 7);
        let (key, value) = (b"config".to_vec(), b"first".to_vec());
        rig.append(Entry::Put(key.clone(), value)).unwrap();
        while rig.log.end().segment == 1 {
            rig.message(900).unwrap();
            rig.quiesce();
        }
        rig.settle();
        let keep = Keep { messages: Vec::new(), removals: true, marks: true };
        assert!(rig.log.compact(1, keep, &mut rig.driver.queue));
        rig.append(Entry::Put(key.clone(), b"second".to_vec())).unwrap();
        for _ in 0..steps {
            rig.complete();
            rig.pass(1);
        }
        let (disk, ..) = rig.crash(true);
        let (_, owner, report) = Rig::recover(options(), disk, 1);
        assert!(report.damaged_notes.is_empty(), "{steps}: {report:?}");
        let known = owner.notes.get(&key).map(|(value, _)| value.as_slice());
        assert!(known == Some(b"first") || known == Some(b"second"), "{steps}: {known:?}");
    }
}

#[test]
fn a_start_that_tears_after_a_commit_that_tore_leaves_no_damage() {
    use Action::*;
    let actions = vec![
        Complete(3),
        Complete(3),
        Put(0, 158),
        Complete(2),
        Complete(3),
        Message(0),
        Seal,
        Message(51),
        Complete(2),
        Message(86),
        Complete(2),
        Message(64295),
        Commit,
        Drop,
        Complete(2),
        Put(0, 227),
        Remove(0),
        Complete(3),
        Complete(3),
        Message(264),
        Message(73089),
        Message(198),
        Message(247),
        Complete(3),
        Commit,
        Complete(1),
    ];
    let lives =
        [Life { actions, seed: 8641242013578259746, power: false, interrupted_after: Some(3) }];
    live(&super::secret::encrypted(lives[0].seed), &lives, true);
}
