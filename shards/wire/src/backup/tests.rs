//! Archives in both formats: written and read again, damaged in every way, and hostile.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::hash::HashKey;
use super::*;
use crate::s2::{StreamDecoder, StreamEncoder};

mod hostile;

type Bytes<'a> = &'a [u8];

const TIME: i64 = 1_795_521_600_123_456_789;

/// The only record of block 2 of a stream PURGED, after nats-server purged its 50 messages.
const TOMBSTONE: [u8; 30] = [
    0x1e, 0, 0, 0, 0x32, 0, 0, 0, 0, 0, 0, 0x40, 0x1c, 0x16, 0xe8, 0xa0, 0x6f, 0xf9, 0xea, 0x18, 0,
    0, 0x82, 0x6b, 0x5c, 0x16, 0x35, 0x8b, 0x03, 0xb5,
];

/// A message with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    sequence: u64,
    time_ns: i64,
    subject: Vec<u8>,
    headers: Vec<u8>,
    payload: Vec<u8>,
}

impl Stored {
    fn new(sequence: u64, subject: &str, headers: &str, payload: &[u8]) -> Self {
        Self {
            sequence,
            time_ns: TIME.wrapping_add(sequence.cast_signed()),
            subject: subject.into(),
            headers: headers.into(),
            payload: payload.into(),
        }
    }

    fn message(&self) -> Message<'_> {
        let Self { sequence, time_ns, .. } = *self;
        let (subject, headers, payload) = (&*self.subject, &*self.headers, &*self.payload);
        Message { sequence, time_ns, subject, headers, payload }
    }
}

/// Everything that a reader yielded.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    stream: Option<StreamBackup>,
    state: Option<StreamState>,
    consumers: Vec<ConsumerBackup>,
    messages: Vec<Stored>,
    deleted: Vec<(u64, u64)>,
    end: Option<Summary>,
}

/// Reads an archive in pieces; what was yielded before an error is kept.
fn read_with(archive: &[u8], piece: usize, limits: Limits) -> (Seen, Option<ArchiveError>) {
    let mut reader = ArchiveReader::new(limits);
    let mut seen = Seen::default();
    let mut pieces = archive.chunks(piece.max(1));
    let mut has_finished = false;
    loop {
        match reader.next_event() {
            Err(error) => {
                assert_eq!(reader.next_event(), Err(error.clone()), "an error stays");
                return (seen, Some(error));
            }
            Ok(None) if has_finished => return (seen, None),
            Ok(None) => match pieces.next() {
                Some(piece) => reader.push(piece),
                None => {
                    reader.finish();
                    has_finished = true;
                }
            },
            Ok(Some(event)) => match event {
                Event::Stream(stream) => seen.stream = Some(stream),
                Event::State(state) => seen.state = Some(state),
                Event::Consumer(consumer) => seen.consumers.push(consumer),
                Event::Message(m) => seen.messages.push(Stored {
                    sequence: m.sequence,
                    time_ns: m.time_ns,
                    subject: m.subject.into(),
                    headers: m.headers.into(),
                    payload: m.payload.into(),
                }),
                Event::Deleted { first, last } => seen.deleted.push((first, last)),
                Event::End(summary) => seen.end = Some(summary),
            },
        }
    }
}

fn read(archive: &[u8]) -> (Seen, Option<ArchiveError>) {
    read_with(archive, 1000, Limits::default())
}

fn refusal(archive: &[u8]) -> ArchiveError {
    read(archive).1.expect("the archive must be refused")
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn consumer(name: &str) -> ConsumerBackup {
    ConsumerBackup {
        name: name.to_owned(),
        config: object(&json!({"name": name, "ack_policy": "explicit"})),
        state: ConsumerState {
            delivered: SequencePair { consumer: 5, stream: 9 },
            ack_floor: SequencePair { consumer: 2, stream: 3 },
            pending: [(7, Pending { consumer_sequence: 4, time_ns: 1_795_521_000_000_000_000 })]
                .into(),
            redelivered: [(7, 2)].into(),
        },
        created_ns: None,
    }
}

fn messages() -> Vec<Stored> {
    vec![
        Stored::new(3, "ORD.a", "", b"first"),
        Stored::new(4, "ORD.b", "NATS/1.0\r\nK: v\r\n\r\n", b""),
        Stored::new(9, "ORD.a", "NATS/1.0\r\n\r\n", &[0, 255, 10, 13]),
        Stored::new(10, "ORD.\u{f6}", "", &vec![7; 700_000]),
    ]
}

fn state(consumers: u64) -> StreamState {
    StreamState {
        messages: 4,
        bytes: 700_200,
        first_seq: 3,
        first_time_ns: Some(TIME),
        last_seq: 12,
        last_time_ns: None,
        consumer_count: consumers,
        ..StreamState::default()
    }
}

fn second_format(messages: &[Stored], consumers: &[ConsumerBackup]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = ArchiveWriter::new(&state(consumers.len() as u64), TIME, &mut out);
    for consumer in consumers {
        writer.push_consumer(consumer, TIME, &mut out).unwrap();
    }
    for message in messages {
        writer.push_message(&message.message(), &mut out).unwrap();
    }
    writer.finish(&mut out).unwrap();
    out
}

fn stream() -> StreamBackup {
    StreamBackup {
        name: "ORD".to_owned(),
        config: object(&json!({"name": "ORD", "subjects": ["ORD.>"]})),
        created_ns: Some(TIME),
    }
}

fn first_format(messages: &[Stored], consumers: &[ConsumerBackup]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = v1::Writer::new(&stream(), TIME, &mut out).unwrap();
    for message in messages {
        writer.push_message(&message.message(), &mut out).unwrap();
    }
    let last = messages.last().map_or(12, |message| message.sequence.max(12));
    writer.seal(last, TIME, &mut out).unwrap();
    for consumer in consumers {
        writer.push_consumer(consumer, &mut out).unwrap();
    }
    writer.finish(&mut out).unwrap();
    out
}

fn compressed(data: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (StreamEncoder::new(), Vec::new());
    encoder.push(data, &mut out);
    encoder.flush(&mut out);
    out
}

fn decompressed(archive: &[u8]) -> Vec<u8> {
    let (mut decoder, mut out) = (StreamDecoder::new(), Vec::new());
    decoder.push(archive);
    while let Some(block) = decoder.next_block().unwrap() {
        out.extend_from_slice(block);
    }
    out
}

/// An archive of the second format with these bytes behind the magic.
fn entries(parts: &[Vec<u8>]) -> Vec<u8> {
    compressed(&[v2::MAGIC.to_vec(), parts.concat()].concat())
}

fn entry(name: &str, time: i64, sequence: u64, lens: (u64, u64), body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::push(&mut out, name.len() as u64);
    varint::push_signed(&mut out, time);
    for number in [sequence, lens.0, lens.1] {
        varint::push(&mut out, number);
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(body);
    out
}

fn json_entry(name: &str, value: &Value) -> Vec<u8> {
    let text = value.to_string();
    entry(name, 1, 0, (0, text.len() as u64), text.as_bytes())
}

fn state_entry(first: u64, consumers: u64) -> Vec<u8> {
    let mut state = state(consumers);
    state.first_seq = first;
    json_entry("state.json", &serde_json::to_value(state).unwrap())
}

fn message_entry(sequence: u64, subject: &str) -> Vec<u8> {
    entry(subject, 5, sequence, (0, 2), b"hi")
}

/// A tar file compressed as an archive.
fn files(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        tar::push_file(&mut out, name, TIME, bytes);
    }
    tar::push_end(&mut out);
    compressed(&out)
}

const META: &[u8] = br#"{"Created":"2026-11-24T12:00:00Z","name":"ORD","subjects":["ORD.>"]}"#;

#[test]
fn the_second_format_comes_back() {
    let consumers = [consumer("C1"), consumer("C2")];
    let archive = second_format(&messages(), &consumers);
    assert!(archive.len() < 40_000);
    for piece in [1, 7, 4096, archive.len()] {
        let (seen, error) = read_with(&archive, piece, Limits::default());
        assert_eq!(error, None);
        assert_eq!(seen.state, Some(state(2)));
        assert_eq!(seen.consumers, consumers);
        assert_eq!(seen.messages, messages());
        let summary = Summary { messages: 4, consumers: 2, first_sequence: 3, last_sequence: 12 };
        assert_eq!(seen.end, Some(summary));
    }
}

#[test]
fn the_first_format_comes_back() {
    let long = "n".repeat(200);
    let consumers = [consumer("C1"), consumer(&long)];
    let archive = first_format(&messages(), &consumers);
    for piece in [1, 7, 4096, archive.len()] {
        let (seen, error) = read_with(&archive, piece, Limits::default());
        assert_eq!(error, None);
        assert_eq!(seen.stream, Some(stream()));
        let wanted =
            consumers.clone().map(|consumer| ConsumerBackup { created_ns: Some(TIME), ..consumer });
        assert_eq!(seen.consumers, wanted);
        assert_eq!(seen.messages, messages());
        let summary = Summary { messages: 4, consumers: 2, first_sequence: 3, last_sequence: 12 };
        assert_eq!(seen.end, Some(summary));
    }
}

#[test]
fn the_first_format_cuts_many_messages_into_blocks() {
    let many: Vec<Stored> =
        (1..=12).map(|sequence| Stored::new(sequence, "ORD.x", "", &[9; 1_000_000])).collect();
    let archive = first_format(&many, &[]);
    assert_eq!(read(&archive).0.messages, many);
    let tar = decompressed(&archive);
    assert!(memchr::memmem::find(&tar, b"msgs/3.blk").is_some());
}

#[test]
fn empty_streams_keep_their_sequences() {
    let (seen, error) = read(&first_format(&[], &[]));
    assert_eq!(error, None);
    let summary = Summary { first_sequence: 13, last_sequence: 12, ..Summary::default() };
    assert_eq!(seen.end, Some(summary));
    let (seen, error) = read(&second_format(&[], &[]));
    assert_eq!(error, None);
    let summary = Summary { first_sequence: 3, last_sequence: 12, ..Summary::default() };
    assert_eq!(seen.end, Some(summary));
}

#[test]
fn writers_refuse_what_archives_cannot_hold() {
    let mut out = Vec::new();
    let mut writer = ArchiveWriter::new(&state(1), TIME, &mut out);
    let message = Stored::new(3, "ORD.a", "", b"x");
    assert_eq!(writer.push_message(&message.message(), &mut out), Err(WriteError::Consumers));
    assert_eq!(writer.push_consumer(&consumer("a/b"), 0, &mut out), Err(WriteError::BadName));
    writer.push_consumer(&consumer("C"), TIME, &mut out).unwrap();
    assert_eq!(writer.push_consumer(&consumer("D"), 0, &mut out), Err(WriteError::Consumers));
    writer.push_message(&message.message(), &mut out).unwrap();
    let again = writer.push_message(&message.message(), &mut out);
    assert_eq!(again, Err(WriteError::OutOfOrder(3)));
    let low = ArchiveWriter::new(&state(0), TIME, &mut out)
        .push_message(&Stored::new(2, "a", "", b"").message(), &mut out);
    assert_eq!(low, Err(WriteError::OutOfOrder(2)));
    let bad = writer.push_message(&Stored::new(5, "a b", "", b"").message(), &mut out);
    assert_eq!(bad, Err(WriteError::BadName));
    assert_eq!(
        ArchiveWriter::new(&state(1), 0, &mut out).finish(&mut out),
        Err(WriteError::Consumers)
    );
    let mut writer = v1::Writer::new(&stream(), TIME, &mut out).unwrap();
    assert_eq!(writer.push_consumer(&consumer("C"), &mut out), Err(WriteError::Consumers));
    writer.push_message(&message.message(), &mut out).unwrap();
    assert_eq!(writer.seal(2, 0, &mut out), Err(WriteError::OutOfOrder(2)));
    let large = vec![0; RECORD_BYTES_MAX];
    let large = Stored::new(4, "a", "", &large);
    assert_eq!(writer.push_message(&large.message(), &mut out), Err(WriteError::TooLarge));
    assert_eq!(writer.finish(&mut out), Err(WriteError::Consumers));
}

#[test]
fn an_archive_cut_off_anywhere_is_truncated() {
    let short =
        [Stored::new(3, "ORD.a", "NATS/1.0\r\n\r\n", b"x"), Stored::new(5, "ORD.b", "", b"")];
    for archive in [second_format(&short, &[consumer("C")]), first_format(&short, &[consumer("C")])]
    {
        for len in 0..archive.len() {
            let (seen, error) = read(&archive[..len]);
            assert!(error.is_some(), "{len} of {} bytes", archive.len());
            assert_eq!(seen.end, None);
        }
        // The compression is whole, what it holds is not.
        let data = decompressed(&archive);
        for len in (0..data.len()).step_by(if data.len() > 2000 { 97 } else { 1 }) {
            let (seen, error) = read(&compressed(&data[..len]));
            assert!(error.is_some(), "{len} of {} bytes of data", data.len());
            assert_eq!(seen.end, None);
        }
    }
}

#[test]
fn the_files_of_nats_server_are_understood() {
    let meta: &[u8] = br#"{"name":"PURGED"}"#;
    let archive = files(&[
        ("meta.inf", meta),
        ("msgs/2.blk", &TOMBSTONE),
        ("msgs/1.fss", b"of older servers"),
    ]);
    let (seen, error) = read(&archive);
    assert_eq!(error, None);
    let summary = Summary { first_sequence: 51, last_sequence: 50, ..Summary::default() };
    assert_eq!(seen.end, Some(summary));
    // The checksum is bound to the stream and to the block.
    let other = files(&[("meta.inf", meta), ("msgs/1.blk", &TOMBSTONE)]);
    assert_eq!(refusal(&other), ArchiveError::Checksum("record"));
}

#[test]
fn deletions_come_late_in_the_first_format() {
    let key = HashKey::of_block("ORD", 1);
    let mut block = Vec::new();
    for sequence in [1, 3] {
        let stored = Stored::new(sequence, "ORD.a", "", b"x");
        assert!(v1::push_record(&mut block, &key, &stored.message()));
    }
    // An index of version 1: no messages, first 3, last 12, no subjects, one block with 3..=12.
    let mut index = vec![0x0b, 1, 0, 0, 3, 0, 12, 0, 0, 1];
    index.extend_from_slice(&[1, 0, 3, 0, 12, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let sum = HashKey::of_stream("ORD").sum(&[&index]);
    index.extend_from_slice(&sum);
    let archive = files(&[("meta.inf", META), ("msgs/1.blk", &block), ("msgs/index.db", &index)]);
    let (seen, error) = read(&archive);
    assert_eq!(error, None);
    assert_eq!(seen.deleted, [(1, 2)]);
    let summary = Summary { messages: 2, consumers: 0, first_sequence: 3, last_sequence: 12 };
    assert_eq!(seen.end, Some(summary));
    let twice = files(&[("meta.inf", META), ("msgs/1.blk", &block.repeat(2))]);
    assert_eq!(refusal(&twice), ArchiveError::OutOfOrder(1));
}

#[test]
fn blocks_of_old_archives_bring_their_deletions() {
    let records = |number: u32, sequences: &[u64]| {
        let key = HashKey::of_block("ORD", number);
        let mut out = Vec::new();
        for sequence in sequences {
            let stored = Stored::new(*sequence, "ORD.a", "", b"x");
            assert!(v1::push_record(&mut out, &key, &stored.message()));
        }
        out
    };
    // Block 1: of 1 to 6, those from 3 are left but 5. Block 2: of 7 to 9, none is left.
    let first = [0x16, 1, 3, 99, 3, 0, 6, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let second = [0x16, 1, 0, 99, 10, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = files(&[
        ("meta.inf", META),
        ("msgs/1.idx", &first),
        ("msgs/1.fss", b"not needed"),
        ("msgs/1.blk", &records(1, &[1, 2, 3, 4, 5, 6])),
        ("msgs/2.idx", &second),
        ("msgs/2.blk", &records(2, &[7, 8, 9])),
    ]);
    for piece in [1, 4096] {
        let (seen, error) = read_with(&archive, piece, Limits::default());
        assert_eq!(error, None);
        assert_eq!(seen.messages.len(), 9);
        assert_eq!(seen.deleted, [(1, 2), (5, 5), (7, 9)]);
        let summary = Summary { messages: 9, consumers: 0, first_sequence: 3, last_sequence: 9 };
        assert_eq!(seen.end, Some(summary));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_messages_come_back(
        list in proptest::collection::vec(
            (1_u64..1000, "[a-z]{1,8}(\\.[a-z0-9]{1,8}){0,3}", any::<bool>(),
             proptest::collection::vec(any::<u8>(), 0..200)),
            0..20,
        ),
        piece in 1_usize..3000,
    ) {
        let mut sequence = 2;
        let list: Vec<Stored> = list.into_iter().map(|(gap, subject, has_headers, payload)| {
            sequence += gap;
            let headers = if has_headers { "NATS/1.0\r\nA: b\r\n\r\n" } else { "" };
            Stored::new(sequence, &subject, headers, &payload)
        }).collect();
        let (seen, error) = read_with(&second_format(&list, &[]), piece, Limits::default());
        prop_assert_eq!(error, None);
        prop_assert_eq!(&seen.messages, &list);
        let mut out = Vec::new();
        let mut writer = v1::Writer::new(&stream(), TIME, &mut out).unwrap();
        for message in &list {
            writer.push_message(&message.message(), &mut out).unwrap();
        }
        writer.seal(sequence, TIME, &mut out).unwrap();
        writer.finish(&mut out).unwrap();
        let (seen, error) = read_with(&out, piece, Limits::default());
        prop_assert_eq!(error, None);
        prop_assert_eq!(&seen.messages, &list);
    }

    #[test]
    fn damage_behind_the_compression_never_panics(
        is_first: bool,
        at: prop::sample::Index,
        bits in 1_u8..=255,
        piece in 1_usize..500,
    ) {
        let header = "NATS/1.0\r\n\r\n";
        let short =
            [Stored::new(3, "ORD.a", header, b"x"), Stored::new(5, "ORD.b", "", b"")];
        let consumers = [consumer("C")];
        let write = if is_first { first_format } else { second_format };
        let archive = write(&short, &consumers);
        let mut data = decompressed(&archive);
        let at = at.index(data.len());
        data[at] ^= bits;
        let limits = Limits { total_bytes_max: 1 << 20, ..Limits::default() };
        let (seen, _) = read_with(&compressed(&data), piece, limits);
        // Records of the first format carry checksums: what comes through is true.
        if is_first {
            prop_assert!(seen.messages.iter().all(|message| short.contains(message)));
        }
    }

    #[test]
    fn any_data_is_judged_without_a_panic(
        is_second: bool,
        data in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let data = if is_second {
            [v2::MAGIC.to_vec(), state_entry(1, 0), data].concat()
        } else {
            let mut tar = Vec::new();
            tar::push_file(&mut tar, "meta.inf", TIME, META);
            tar::push_file(&mut tar, "msgs/1.blk", TIME, &data);
            tar
        };
        prop_assert!(read(&compressed(&data)).1.is_some());
    }
}
