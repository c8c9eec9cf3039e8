//! Encryption and compression: nothing of what was stored is readable in the files, everything is
//! with the right key, and nothing is touched with a wrong one.

use std::sync::Arc;

use super::disk::Disk;
use super::rig::{DIR, Entry, Owner, Rig, options};
use crate::log::{Cipher, Encryption, Log, Message, Options, Record, RecoverError, StoreKey};

fn with_keys(cipher: Cipher, key: &str, prev_key: Option<&str>, entropy: u64) -> Options {
    let encryption = Encryption {
        cipher,
        key: StoreKey::new(key.as_bytes()),
        prev_key: prev_key.map(|key| StoreKey::new(key.as_bytes())),
        entropy,
    };
    Options { encryption: Some(Arc::new(encryption)), ..options() }
}

/// An encrypted and compressing log, for the tests of crashes.
pub(super) fn encrypted(entropy: u64) -> Options {
    Options { compress: true, ..with_keys(Cipher::Aes256Gcm, "a key", None, entropy) }
}

/// Occurrences of `text` in the files of the log.
pub(crate) fn find(disk: &Disk, text: &[u8]) -> Vec<(String, usize)> {
    let hits = |bytes: &[u8]| {
        bytes
            .windows(text.len())
            .enumerate()
            .filter(|(_, at)| *at == text)
            .map(|(at, _)| at)
            .collect::<Vec<_>>()
    };
    let files = disk.files.iter();
    files
        .flat_map(|(path, file)| hits(&file.bytes).into_iter().map(|at| (path.clone(), at)))
        .collect()
}

fn secret(seq: u64) -> Entry {
    Entry::Message {
        seq,
        subject: b"secret-subject".to_vec(),
        headers: b"NATS/1.0\r\nsecret: header\r\n\r\n".to_vec(),
        payload: b"secret payload ".repeat(10 + seq as usize % 7),
        more: false,
    }
}

fn filled(options: Options) -> Rig {
    let mut rig = Rig::new(options, 1);
    for seq in 1..=900 {
        rig.append(secret(seq)).unwrap();
        if seq % 10 == 0 {
            let key = format!("secret-key-{}", seq % 50).into_bytes();
            rig.append(Entry::Put(key.clone(), b"secret value".to_vec())).unwrap();
            rig.append(Entry::Delta(key, b"secret delta".to_vec())).unwrap();
            rig.append(Entry::Other(b"secret mark".to_vec())).unwrap();
            rig.quiesce();
        }
    }
    rig.append(Entry::Remove(b"secret-key-10".to_vec())).unwrap();
    rig.settle();
    rig
}

#[test]
fn nothing_is_readable_without_the_key() {
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
        for compress in [false, true] {
            let options = Options { compress, ..with_keys(cipher, "a key", None, 7) };
            let mut rig = filled(options.clone());
            rig.log.write_checkpoint(b"secret checkpoint", &mut rig.driver.queue);
            rig.settle();
            rig.check_reads();
            let (disk, entries, _) = rig.crash(true);
            assert_eq!(find(&disk, b"secret"), []);
            let (mut rig, owner, report) = Rig::recover(options, disk, 2);
            assert!(report.is_clean(), "{report:?}");
            assert_eq!(owner.checkpoint.as_deref(), Some(&b"secret checkpoint"[..]));
            assert_eq!(owner.notes.len(), 4);
            rig.entries = entries;
            rig.check_reads();
        }
    }
}

#[test]
fn a_wrong_key_names_the_stream_and_touches_nothing() {
    let options = with_keys(Cipher::ChaCha20Poly1305, "a key", None, 7);
    let (mut disk, ..) = filled(options).crash(true);
    let before: Vec<_> = disk.files.iter().map(|(p, f)| (p.clone(), f.bytes.clone())).collect();
    let wrong = with_keys(Cipher::ChaCha20Poly1305, "another", Some("older"), 7);
    for options in [wrong, super::rig::options()] {
        let error = Log::recover(options, &mut disk, &mut Owner::default()).unwrap_err();
        let expected = RecoverError::Key { account: "A".to_owned(), stream: "S".to_owned() };
        assert_eq!(error, expected);
        assert!(error.to_string().contains("\"S\""));
    }
    let after: Vec<_> = disk.files.iter().map(|(p, f)| (p.clone(), f.bytes.clone())).collect();
    assert_eq!(after, before);
}

#[test]
fn keys_are_rotated_and_plain_streams_become_encrypted() {
    let first = options();
    let second = with_keys(Cipher::ChaCha20Poly1305, "one", None, 3);
    let third = with_keys(Cipher::Aes256Gcm, "two", Some("one"), 4);
    let mut rig = filled(first);
    let mut entries = Vec::new();
    for next in [second.clone(), third.clone()] {
        let (disk, found, _) = rig.crash(true);
        let (recovered, owner, report) = Rig::recover(next, disk, 2);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(owner.records, found);
        rig = recovered;
        let end = rig.log.end().segment;
        let location = rig.append(secret(rig.next_seq)).unwrap();
        assert!(location.segment >= end);
        rig.settle();
        rig.check_reads();
        entries.clone_from(&rig.entries);
    }
    let (mut disk, ..) = rig.crash(true);
    let last = entries.last().unwrap().0.segment;
    let path = format!("{DIR}/{last:020}.seg");
    assert!(find(&disk, b"secret").iter().all(|(found, _)| *found != path));
    // The key before alone does not open what came after.
    let error = Log::recover(second, &mut disk, &mut Owner::default()).unwrap_err();
    assert!(matches!(error, RecoverError::Key { .. }));
    let (_, owner, _) = Rig::recover(third, disk, 5);
    assert_eq!(owner.records, entries);
}

#[test]
fn no_nonce_is_used_twice_after_a_torn_tail() {
    // The same offset, written before and after a crash: what is stored must not tell what was.
    let options = with_keys(Cipher::ChaCha20Poly1305, "a key", None, 9);
    let mut rig = Rig::new(options.clone(), 1);
    rig.append(secret(1)).unwrap();
    rig.settle();
    let kept = rig.driver.disk.clone();
    let lost = rig.append(secret(2)).unwrap();
    rig.settle();
    let bytes_of = |disk: &Disk| {
        let file = &disk.files[&format!("{DIR}/{:020}.seg", 1)].bytes;
        let slots = [4096_usize, 12_288];
        let newest = slots.iter().max_by_key(|at| file[**at + 24..][0]).unwrap();
        let block = u32::from_le_bytes(file[newest + 32..newest + 36].try_into().unwrap());
        let from = newest + 64 + (lost.offset - block) as usize;
        file[from..from + lost.len as usize].to_vec()
    };
    let before = bytes_of(&rig.driver.disk);
    let (mut rig, ..) = Rig::recover(options, kept, 2);
    let again = rig.append(secret(2)).unwrap();
    assert_eq!(again, lost);
    rig.settle();
    let after = bytes_of(&rig.driver.disk);
    let same = before.iter().zip(&after).skip(60).filter(|(a, b)| a == b).count();
    assert!(same < before.len() / 8, "{same} of {} bytes are the same", before.len());
}

#[test]
fn sealed_records_that_were_changed_are_damage() {
    let options = with_keys(Cipher::Aes256Gcm, "a key", None, 7);
    let (disk, entries, _) = filled(options.clone()).crash(true);
    let (place, hit) = entries[20].clone();
    let Entry::Message { seq, .. } = hit else { panic!("a message is there") };
    let path = format!("{DIR}/{:020}.seg", place.segment);
    let mut changed = disk.clone();
    // With a checksum that holds, as somebody would make it who wants to deceive.
    let bytes = &mut changed.files.get_mut(&path).unwrap().bytes;
    let record = &mut bytes[place.offset as usize..place.end().offset as usize];
    record[80] ^= 1;
    let end = record.len() - 8;
    let binding = crate::log::Binding::new(super::rig::UID, place.segment, 1);
    let sum = binding.checksum(place.offset, &record[..end]);
    record[end..].copy_from_slice(&sum.to_le_bytes());
    let (_, owner, report) = Rig::recover(options, changed, 1);
    assert_eq!(report.damage.len(), 1);
    assert_eq!((report.damage[0].first_seq, report.damage[0].offset), (seq, place.offset));
    assert_eq!(owner.records.len(), entries.len() - 1);
}

#[test]
fn compression_saves_where_it_can_and_gives_back_what_was_stored() {
    let mut plain = Rig::new(options(), 1);
    let mut packed = Rig::new(Options { compress: true, ..options() }, 1);
    for rig in [&mut plain, &mut packed] {
        for seq in 1..=300 {
            rig.append(if seq % 2 == 0 { secret(seq) } else { Entry::message(seq, 300) }).unwrap();
        }
        rig.settle();
        rig.check_reads();
    }
    let bytes = |rig: &Rig| rig.entries.iter().map(|entry| u64::from(entry.0.len)).sum::<u64>();
    assert!(bytes(&packed) * 10 < bytes(&plain) * 9);
    // Noise is kept as it is.
    let lens = |rig: &Rig, at: usize| rig.entries[at].0.len;
    assert_eq!(lens(&packed, 0), lens(&plain, 0));
    let (disk, entries, _) = packed.crash(true);
    // Whether streams compress now says nothing about what is there.
    let (_, owner, report) = Rig::recover(options(), disk, 1);
    assert!(report.is_clean());
    assert_eq!(owner.records, entries);
}

#[test]
fn every_kind_of_record_is_sealed_and_opened_at_any_length() {
    let options = Options { compress: true, ..with_keys(Cipher::Aes256Gcm, "k", None, 1) };
    let mut rig = Rig::new(options, 1);
    for len in (0..200).chain([4096, 70_000]) {
        let payload = vec![7; len];
        let message = Message {
            seq: rig.next_seq,
            expires_ns: (len % 2 == 0).then_some(5),
            payload: &payload,
            ..Message::default()
        };
        let place = rig.log.append(&Record::Message(message)).unwrap();
        rig.next_seq += 1;
        let Rig { log, cache, driver, .. } = &mut rig;
        assert_eq!(
            log.read(place, cache, &mut driver.queue),
            crate::log::Read::Record(Record::Message(message))
        );
    }
}
