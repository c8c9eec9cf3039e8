//! Archives that try to do harm.

use super::*;

#[test]
fn hostile_entries_of_the_second_format_are_refused() {
    use ArchiveError::{BadName, BadSubject, Malformed, OutOfOrder, TooLarge, UnexpectedEntry};
    let (first, end) = (state_entry(1, 0), vec![0; 5]);
    let with_consumer =
        |name: &str, value: &Value| vec![state_entry(1, 1), json_entry(name, value)];
    let good = json!({"config": {}, "state": {}});
    let text = |text: &str| UnexpectedEntry(text.to_owned());
    let cases = [
        (vec![message_entry(1, "a")], text("a")),
        (vec![json_entry("state.json", &json!([]))], Malformed("state")),
        (vec![json_entry("meta.inf", &json!({}))], text("meta.inf")),
        (vec![first.clone(), first.clone()], text("state.json")),
        (vec![first.clone(), message_entry(5, "a"), message_entry(5, "a")], OutOfOrder(5)),
        (vec![first.clone(), message_entry(5, "a"), message_entry(4, "a")], OutOfOrder(4)),
        (vec![state_entry(9, 0), message_entry(8, "a")], OutOfOrder(8)),
        (vec![first.clone(), message_entry(5, "")], BadSubject(5)),
        (vec![first.clone(), message_entry(5, "a\r\nb")], BadSubject(5)),
        (vec![first.clone(), entry("a", 0, 5, (1 << 40, 0), b"")], TooLarge("message")),
        (vec![first.clone(), entry("a", 0, 5, (u64::MAX, 2), b"")], TooLarge("message")),
        (vec![first.clone(), entry("a", 0, 5, (1 << 63, 1 << 63), b"")], TooLarge("message")),
        (vec![entry("state.json", 0, 0, (0, 1 << 40), b"")], TooLarge("state")),
        (vec![first.clone(), vec![0xff; 12]], Malformed("entry")),
        (vec![first.clone(), vec![0xff, 0xff, 0xff, 0xff, 1, 0, 1, 0, 0]], TooLarge("name")),
        (vec![first.clone(), end.clone(), vec![1]], text("behind the end")),
        (with_consumer("consumers/../x", &good), BadName("../x".to_owned())),
        (with_consumer("consumers/", &good), BadName(String::new())),
        (with_consumer("consumers/a b", &good), BadName("a b".to_owned())),
        (with_consumer("consumers/a", &json!({"config": {}})), Malformed("consumer")),
        (with_consumer("consumers/a", &json!({"state": {}})), Malformed("consumer")),
        (with_consumer("a", &good), text("a")),
        (
            vec![
                state_entry(1, 2),
                json_entry("consumers/a", &good),
                json_entry("consumers/a", &good),
            ],
            text("a"),
        ),
        (vec![state_entry(1, 1), message_entry(1, "a")], text("a")),
        (vec![first, json_entry("consumers/a", &good), end], text("consumers/a")),
    ];
    for (parts, error) in cases {
        assert_eq!(refusal(&entries(&parts)), error, "{parts:?}");
    }
}

#[test]
fn hostile_files_of_the_first_format_are_refused() {
    use ArchiveError::{BadName, Checksum, Malformed, NotAnArchive, Reported, UnexpectedEntry};
    const SHORTEST: [u8; 30] = {
        let mut bytes = [0; 30];
        bytes[0] = 30;
        bytes
    };
    let meta = ("meta.inf", META);
    let text = |name: &str| UnexpectedEntry(name.to_owned());
    let name = |name: &str| BadName(name.to_owned());
    let cases: Vec<(Vec<(&str, Bytes<'_>)>, ArchiveError)> = vec![
        (vec![("msgs/1.blk", b"")], text("msgs/1.blk")),
        (vec![], NotAnArchive),
        (vec![meta, meta], text("meta.inf")),
        (vec![("meta.inf", b"[]")], Malformed("configuration")),
        (vec![("meta.inf", b"{\"name\":\"../x\"}")], name("../x")),
        (vec![("meta.inf", b"{}")], name("")),
        (vec![meta, ("meta.sum", b"0123456789abcdef")], Checksum("configuration")),
        (vec![meta, ("../../etc/passwd", b"x")], name("../../etc/passwd")),
        (vec![meta, ("/etc/passwd", b"x")], name("/etc/passwd")),
        (vec![meta, ("msgs/../../x", b"x")], name("msgs/../../x")),
        (vec![meta, ("msgs\\1.blk", b"x")], name("msgs\\1.blk")),
        (vec![meta, ("obs/../meta.inf", b"{}")], name("obs/../meta.inf")),
        (vec![meta, ("obs/a.b/meta.inf", b"{}")], name("obs/a.b/meta.inf")),
        (vec![meta, ("msgs/2.blk", b""), ("msgs/1.blk", b"")], text("msgs/1.blk")),
        (vec![meta, ("msgs/2.blk", b""), ("msgs/2.blk", b"")], text("msgs/2.blk")),
        (vec![meta, ("msgs/1.blk", &[0; 29])], Malformed("record")),
        (vec![meta, ("msgs/1.blk", &[30, 0, 0, 0, 1, 0, 0, 0])], Malformed("record")),
        (vec![meta, ("msgs/1.blk", &[0xff; 64])], ArchiveError::TooLarge("record")),
        (vec![meta, ("msgs/1.blk", &SHORTEST)], Checksum("record")),
        (vec![meta, ("msgs/index.db", &[0; 40])], Checksum("index")),
        (vec![meta, ("obs/C/o.dat", b"\x16\x02\0\0\0\0\0\0")], text("obs/C/o.dat")),
        (vec![meta, ("obs/C/meta.inf", b"1")], Malformed("consumer")),
        (
            vec![meta, ("obs/C/meta.inf", b"{}"), ("obs/C/o.dat", b"\x16\x02\0")],
            Malformed("consumer state"),
        ),
        (vec![meta, ("obs/C/meta.inf", b"{}"), ("obs/C/meta.inf", b"{}")], text("C")),
        (vec![meta, ("errors.txt", b"disk on fire")], Reported("disk on fire".to_owned())),
    ];
    for (list, error) in cases {
        assert_eq!(refusal(&files(&list)), error, "{list:?}");
    }
    assert_eq!(refusal(&compressed(&[b'x'; 2000])), NotAnArchive);
    assert_eq!(refusal(&compressed(b"short")), ArchiveError::Truncated);
    assert_eq!(refusal(b"neither"), ArchiveError::S2(S2Error::NotS2));
}

#[test]
fn links_and_a_second_archive_behind_the_first_are_refused() {
    let mut tar = Vec::new();
    tar::push_file(&mut tar, "meta.inf", TIME, META);
    let at = tar.len();
    tar::push_file(&mut tar, "msgs/1.blk", TIME, b"");
    tar[at + 156] = b'2';
    // The checksum of the header counts the type.
    let sum: u32 = tar[at..at + 512]
        .iter()
        .enumerate()
        .map(|(n, &b)| u32::from(if (148..156).contains(&n) { b' ' } else { b }))
        .sum();
    tar[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let error = ArchiveError::UnexpectedEntry("msgs/1.blk".to_owned());
    assert_eq!(refusal(&compressed(&tar)), error);
    let twice = decompressed(&files(&[("meta.inf", META)])).repeat(2);
    let error = ArchiveError::UnexpectedEntry("behind the end".to_owned());
    assert_eq!(refusal(&compressed(&twice)), error);
}

#[test]
fn bombs_are_refused_at_the_limits() {
    let limits = Limits { message_bytes_max: 1000, total_bytes_max: 100_000 };
    let large = [Stored::new(3, "ORD.a", "", &[0; 1001])];
    for archive in [second_format(&large, &[]), first_format(&large, &[])] {
        let (seen, error) = read_with(&archive, 64, limits);
        assert_eq!(error, Some(ArchiveError::TooLarge("message")));
        assert!(seen.messages.is_empty());
    }
    let many: Vec<Stored> =
        (3..1000).map(|sequence| Stored::new(sequence, "ORD.a", "", &[0; 1000])).collect();
    for archive in [second_format(&many, &[]), first_format(&many, &[])] {
        assert!(archive.len() < 50_000, "zeros compress well");
        let (_, error) = read_with(&archive, 64, limits);
        assert_eq!(error, Some(ArchiveError::TooLarge("archive")));
    }
}
