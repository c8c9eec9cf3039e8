//! Files of a stopped server are flipped, cut and zeroed. Whatever was done to them: what is not
//! damaged is served, what is damaged is an error and is named, and nothing is ever wrong.
//!
//! Each case has a stream of its own, so that one restart tries many of them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use super::client::Client;
use super::content::{BRIEF, Origin};
use super::segment::{Record, SLOTS, Segment};
use super::{api, server};
use crate::support::server::Server;

/// Messages of each stream: a few blocks of them.
const MESSAGES: u64 = 24;

/// What is done to a stream's files, and what it may cost.
struct Case {
    name: String,
    edit: Box<dyn Fn(&mut Segment) -> Cost>,
}

/// Messages that may be lost, or that must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cost {
    Nothing,
    AtMost(Vec<u64>),
    Exactly(Vec<u64>),
    /// The configuration is damaged: the whole stream may be put aside, with all its files.
    Aside,
}

fn case(name: impl Into<String>, edit: impl Fn(&mut Segment) -> Cost + 'static) -> Case {
    Case { name: name.into(), edit: Box::new(edit) }
}

/// Streams, one for each case.
struct Patients {
    server: Server,
    cases: Vec<Case>,
    costs: Vec<Cost>,
}

fn dir_of(server: &Server, at: usize) -> PathBuf {
    server.dir().join(format!("js/jetstream/$G/streams/D{at}"))
}

fn message(at: usize, seq: u64) -> Origin {
    Origin { writer: BRIEF + at, number: seq }
}

impl Patients {
    /// Makes the streams, each with a consumer that has settled its first three messages, stops
    /// the server and does to each what its case says.
    fn new(cases: Vec<Case>) -> Self {
        let mut server = server(2);
        let mut client = Client::new(server.port);
        for at in 0..cases.len() {
            let body = format!(r#"{{"name":"D{at}","subjects":["d{at}.*"],"allow_direct":true}}"#);
            api(&mut client, &format!("STREAM.CREATE.D{at}"), &body);
            let config = r#"{"durable_name":"c","ack_policy":"explicit"}"#;
            let body = format!(r#"{{"stream_name":"D{at}","config":{config}}}"#);
            api(&mut client, &format!("CONSUMER.CREATE.D{at}.c"), &body);
            for seq in 1..=MESSAGES {
                let payload = message(at, seq).payload();
                let answer = client.try_request(&format!("d{at}.x"), &[], &payload).unwrap();
                assert_eq!(answer.json()["seq"], seq);
            }
            settle(&mut client, at, 3);
        }
        server.stop();
        let mut costs = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            let mut segment = Segment::all(&dir_of(&server, at)).pop().unwrap();
            let messages = segment.records.iter().filter(|record| record.kind == 1);
            assert_eq!(messages.count() as u64, MESSAGES);
            costs.push((case.edit)(&mut segment));
            segment.write();
        }
        Self { server, cases, costs }
    }

    /// Starts the server and looks at every stream; then kills it and does so once more, for a
    /// second recovery has to find what the first found.
    fn examine(&mut self) {
        self.server.start_again();
        let found: Vec<_> = (0..self.cases.len()).map(|at| self.examine_one(at)).collect();
        self.server.crash();
        self.server.start_again();
        for (at, found) in found.into_iter().enumerate() {
            if self.costs[at] == Cost::Aside {
                continue;
            }
            let mut client = Client::new(self.server.port);
            let (again, _) = missing(&mut client, at, MESSAGES);
            assert_eq!(again, found, "{}: another recovery", self.cases[at].name);
        }
    }

    /// Sequences that are missing.
    fn examine_one(&self, at: usize) -> BTreeSet<u64> {
        let (name, cost) = (&self.cases[at].name, &self.costs[at]);
        let mut client = Client::new(self.server.port);
        if *cost == Cost::Aside {
            self.examine_aside(at);
            return BTreeSet::new();
        }
        let (missing, is_told) = missing(&mut client, at, MESSAGES);
        assert!(is_told, "{name}: damaged messages are called not found");
        let list: Vec<u64> = missing.iter().copied().collect();
        match cost {
            Cost::Nothing => assert!(missing.is_empty(), "{name}: {missing:?} are missing"),
            Cost::AtMost(most) => {
                let is_covered = list.iter().all(|seq| most.contains(seq));
                assert!(is_covered, "{name}: {list:?} are missing, not only of {most:?}");
            }
            Cost::Exactly(wanted) => assert_eq!(&list, wanted, "{name}"),
            Cost::Aside => {}
        }
        if !missing.is_empty() {
            self.examine_report(at, &list, &mut client);
        }
        // The stream takes messages, and none under a number that was acknowledged before.
        let payload = message(at, MESSAGES + 1).payload();
        let answer = client.try_request(&format!("d{at}.x"), &[], &payload).unwrap().json();
        let seq = answer["seq"].as_u64().unwrap_or_else(|| panic!("{name}: {answer}"));
        assert!(seq > MESSAGES, "{name}: {seq} was acknowledged before");
        missing
    }

    /// A stream without its configuration is told of and kept.
    fn examine_aside(&self, at: usize) -> PathBuf {
        let told = format!("/streams/D{at}: its configuration cannot be read; it is kept in ");
        let line = self.server.wait_log(&told);
        let place = line.split(&told).nth(1).unwrap();
        let kept = self.server.dir().join("js/jetstream").join(place);
        assert_eq!(Segment::all(&kept).len(), 1, "{}: {place}", self.cases[at].name);
        kept
    }

    /// What is missing is told: in the log, and in the stream's info.
    fn examine_report(&self, at: usize, missing: &[u64], client: &mut Client) {
        let name = &self.cases[at].name;
        let log = self.server.log_text();
        let told = log.lines().find(|line| line.contains(&format!("/streams/D{at} is damaged")));
        let told = told.unwrap_or_else(|| panic!("{name}: the log says nothing of D{at}"));
        let info = api(client, &format!("STREAM.INFO.D{at}"), "");
        for seq in missing {
            let lost = info["state"]["lost"]["msgs"].as_array();
            let is_shown = lost.is_some_and(|lost| lost.iter().any(|lost| lost == seq));
            assert!(is_shown, "{name}: {seq} is not among the lost: {info}");
            let ranges = told.split("lost: [").nth(1).unwrap();
            let ranges = ranges.split(']').next().unwrap().split(", ");
            let is_named = ranges.map(|range| range.split_once('-').unwrap_or((range, range))).any(
                |(first, last)| (first.parse().unwrap()..=last.parse().unwrap()).contains(seq),
            );
            assert!(is_named, "{name}: the log does not name {seq}: {told}");
        }
    }
}

/// Settles the first messages.
fn settle(client: &mut Client, at: usize, count: u64) {
    let reply = format!("{}.pull", client.inbox);
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.D{at}.c");
    let body = format!("{{\"batch\":{count},\"no_wait\":true}}");
    client.publish(&subject, &reply, &[], body.as_bytes()).unwrap();
    let deliveries: Vec<_> = (0..count).map(|_| client.message().unwrap()).collect();
    for delivery in deliveries {
        assert_eq!(client.ask(&delivery.reply, "+ACK"), b"");
    }
}

/// Reads every message by its number; gives the numbers that brought an error, and whether each
/// error said that the message is damaged, not that it never was.
fn missing(client: &mut Client, at: usize, last: u64) -> (BTreeSet<u64>, bool) {
    let (mut missing, mut is_told) = (BTreeSet::new(), true);
    for seq in 1..=last {
        let body = format!("{{\"seq\":{seq}}}");
        let subject = format!("$JS.API.DIRECT.GET.D{at}");
        let answer = client.try_request(&subject, &[], body.as_bytes()).unwrap();
        if answer.status() == 0 {
            assert_eq!(Origin::of(&answer.payload), message(at, seq), "D{at}: {seq}");
            continue;
        }
        let answer = client.ask_json(&format!("$JS.API.STREAM.MSG.GET.D{at}"), &body);
        assert!(!answer["error"].is_null(), "D{at} {seq}: {answer}");
        missing.insert(seq);
        is_told &= answer["error"]["err_code"] == 10_077;
    }
    (missing, is_told)
}

/// Does all of this to a stream each.
fn examine(cases: Vec<Case>) {
    Patients::new(cases).examine();
}

#[test]
fn flipped_headers_cost_nothing() {
    let fields = [0, 7, 8, 10, 12, 16, 24, 32, 40, 48, 79, 80, 84, 85, 2040, 2047];
    let mut cases: Vec<Case> = Vec::new();
    for field in fields {
        for copy in [0, 2048] {
            cases.push(case(format!("header copy {copy}, byte {field}"), move |segment| {
                segment.flip(copy + field);
                Cost::Nothing
            }));
        }
        cases.push(case(format!("both headers, byte {field}"), move |segment| {
            [0, 2048].into_iter().for_each(|copy| segment.flip(copy + field));
            Cost::Nothing
        }));
    }
    examine(cases);
}

#[test]
fn flips_in_one_slot_cost_nothing() {
    let fields = [0, 7, 8, 16, 20, 24, 31, 32, 36, 40, 44, 48, 49, 52, 56, 63, 64, 65, 80, 100];
    let mut cases: Vec<Case> = Vec::new();
    for field in fields {
        for slot in SLOTS {
            cases.push(case(format!("slot at {slot}, byte {field}"), move |segment| {
                segment.flip(slot + field);
                Cost::Nothing
            }));
        }
    }
    for slot in SLOTS {
        cases.push(case(format!("slot at {slot} zeroed"), move |segment| {
            segment.bytes[slot..slot + 8192].fill(0);
            Cost::Nothing
        }));
    }
    examine(cases);
}

/// What the slots alone had is lost when both are; everything in its place is not.
#[test]
fn flips_in_both_slots_cost_the_unfinished_block() {
    let fields = [0, 8, 16, 20, 24, 32, 36, 40, 52, 56, 64, 70, 90];
    let cases = fields.into_iter().map(|field| {
        case(format!("both slots, byte {field}"), move |segment: &mut Segment| {
            SLOTS.into_iter().for_each(|slot| segment.flip(slot + field));
            Cost::AtMost(segment.messages_in(&(segment.block..segment.end())))
        })
    });
    examine(cases.collect());
}

#[test]
fn a_flip_in_a_record_costs_that_message() {
    let mut cases: Vec<Case> = Vec::new();
    for number in 0..44_usize {
        let seq = 5 + number as u64 % 3;
        cases.push(case(format!("place {number} in record {seq}"), move |segment| {
            let record = segment.message(seq).at.clone();
            // The head, the first fields of the body, somewhere in the middle, the checksum.
            let at = match number {
                0..32 => record.start + number,
                32..36 => record.start + record.len() * (number - 31) / 6,
                _ => record.end + 35 - number,
            };
            if at >= segment.block {
                return Cost::Nothing;
            }
            segment.flip_everywhere(at);
            Cost::Exactly(vec![seq])
        }));
    }
    examine(cases);
}

/// Notes have the configuration and the consumers; messages are served whatever becomes of them.
#[test]
fn flips_in_notes_of_a_consumer_cost_no_message() {
    let mut cases = Vec::new();
    for back in 0..4 {
        for place in [0, 5, 6, 9, 17, 30] {
            cases.push(case(format!("byte {place} of note {back} from the end"), move |segment| {
                let notes = segment.records.iter().filter(|record| [5, 6].contains(&record.kind));
                // The first note is the configuration of the stream itself.
                let notes: Vec<_> = notes.skip(1).collect();
                let note = notes[notes.len().saturating_sub(1 + back)].at.clone();
                if note.start + place < segment.block {
                    segment.flip_everywhere(note.start + place);
                }
                Cost::Nothing
            }));
        }
    }
    examine(cases);
}

/// A torn tail: the file ends at any place of the last two records that lie before the
/// unfinished block. All before is served; what the slots have is, too.
#[test]
fn a_file_cut_anywhere_in_its_last_records() {
    let ends = |segment: &Segment| {
        let whole = segment.records.iter().filter(|record| record.kind == 1);
        let whole: Vec<_> = whole.filter(|record| record.at.end <= segment.block).collect();
        (whole[whole.len() - 2].at.start, segment.end())
    };
    let steps = 60;
    let cases = (0..=steps).map(|step| {
        case(format!("cut at step {step} of {steps}"), move |segment: &mut Segment| {
            let (from, to) = ends(segment);
            let cut = from + (to - from) * step / steps;
            segment.bytes.truncate(cut);
            Cost::AtMost(segment.messages_in(&(cut..segment.block.max(cut))))
        })
    });
    examine(cases.collect());
}

/// The same within the slots: each of them torn at every place of its last two records.
#[test]
fn slots_torn_anywhere_in_the_last_records() {
    let mut cases = Vec::new();
    for step in 0..48_usize {
        for slots in [&SLOTS[..1], &SLOTS[1..], &SLOTS[..]] {
            cases.push(case(format!("slots at {slots:?} torn at step {step}"), move |segment| {
                let (first, end) = segment.last_two();
                let from = first.max(segment.block);
                let cut = from + (end - from) * step / 48;
                for slot in slots {
                    let from = slot + 64 + cut - segment.block;
                    segment.bytes[from..slot + 8192].fill(0);
                }
                if slots.len() == 1 {
                    return Cost::Nothing;
                }
                Cost::AtMost(segment.messages_in(&(segment.block..end)))
            }));
        }
    }
    examine(cases);
}

impl Segment {
    /// What it costs at most when these bytes are gone. Configurations lie in two places.
    fn cost_of(&self, range: &Range<usize>) -> Cost {
        Cost::AtMost(self.messages_in(range))
    }

    /// The two copies of the configuration of the stream and of its consumer, in that order.
    fn copies(&self) -> [[Range<usize>; 2]; 2] {
        [&b"stream"[..], b"c/c"].map(|key| {
            let is_its = |record: &&Record| {
                let body = self.log[record.at.start + 16..record.at.end].starts_with(key);
                [5, 13].contains(&record.kind) && record.number == key.len() as u64 && body
            };
            let found: Vec<_> = self.records.iter().filter(is_its).collect();
            assert_eq!(found.len(), 2, "copies of {:?}", String::from_utf8_lossy(key));
            [found[0].at.clone(), found[1].at.clone()]
        })
    }
}

/// Places in a record: the head, its beginning, all over its body, the checksum.
fn places_in(at: &Range<usize>) -> Vec<usize> {
    let len = at.len();
    (0..24).chain((24..len - 8).step_by(len / 16)).chain(len - 8..len).collect()
}

/// A flip in either copy of a configuration costs nothing, and the log speaks of it.
#[test]
fn a_flip_in_one_copy_of_a_configuration_costs_nothing() {
    let mut cases = Vec::new();
    for (note, name) in ["the stream", "the consumer"].into_iter().enumerate() {
        for copy in [0, 1] {
            for place in 0..48 {
                let name = format!("copy {copy} of the configuration of {name}, place {place}");
                cases.push(case(name, move |segment| {
                    let at = segment.copies()[note][copy].clone();
                    let places = places_in(&at);
                    let hit = segment.places(at.start + places[place % places.len()])[0];
                    segment.flip(hit);
                    Cost::Nothing
                }));
            }
        }
    }
    let mut patients = Patients::new(cases);
    patients.examine();
    let mut client = Client::new(patients.server.port);
    for at in 0..patients.cases.len() {
        let info = api(&mut client, &format!("CONSUMER.INFO.D{at}.c"), "");
        assert_eq!(info["ack_floor"]["stream_seq"], 3, "{}", patients.cases[at].name);
        let info = api(&mut client, &format!("STREAM.INFO.D{at}"), "");
        assert_eq!(info["config"]["allow_direct"], true, "{}", patients.cases[at].name);
    }
}

/// With both copies gone the stream is kept, told and put aside; with the configuration written
/// down beside its files, it is served again with all its messages.
#[test]
fn a_stream_without_any_configuration_is_kept_and_can_be_served_again() {
    let cases = [2, 40, 100].map(|place| {
        case(format!("both copies, byte {place}"), move |segment: &mut Segment| {
            for copy in segment.copies()[0].clone() {
                segment.flip_everywhere(copy.start + place);
            }
            Cost::Aside
        })
    });
    let mut patients = Patients::new(cases.into());
    patients.server.start_again();
    let kept: Vec<PathBuf> = (0..3).map(|at| patients.examine_aside(at)).collect();
    patients.server.stop();
    let root = patients.server.dir().join("js");
    let check = || {
        let mut command = Command::new(crate::support::server::binary());
        let output = command.arg("check").arg(&root).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("24 messages"), "{text}");
    assert!(text.contains("stream.json"), "{text}");
    for (at, kept) in kept.iter().enumerate() {
        let home = dir_of(&patients.server, at);
        std::fs::rename(kept, &home).unwrap();
        let config = format!(r#"{{"name":"D{at}","subjects":["d{at}.*"],"allow_direct":true}}"#);
        std::fs::write(home.join("stream.json"), config).unwrap();
    }
    patients.costs.fill(Cost::Nothing);
    patients.examine();
    patients.server.stop();
    // From now on it has its configuration where it belongs.
    for at in 0..3 {
        std::fs::remove_file(dir_of(&patients.server, at).join("stream.json")).unwrap();
    }
    patients.server.start_again();
    let mut client = Client::new(patients.server.port);
    for at in 0..3 {
        let info = api(&mut client, &format!("CONSUMER.INFO.D{at}.c"), "");
        assert_eq!(info["ack_floor"]["stream_seq"], 3, "{at}");
    }
}

/// Sectors and blocks that come back as zeroes, or as what is written elsewhere.
#[test]
fn lost_sectors_cost_what_lay_there() {
    let mut cases = Vec::new();
    for (size, count) in [(512, 14), (4096, 1)] {
        for at in 0..count {
            let place = move |segment: &Segment| {
                let from = 20_480 + at * size;
                (from + size <= segment.block).then_some(from..from + size)
            };
            cases.push(case(format!("{size} zeroes, {at}"), move |segment| {
                let Some(range) = place(segment) else { return Cost::Nothing };
                segment.bytes[range.clone()].fill(0);
                segment.cost_of(&range)
            }));
            cases.push(case(format!("{size} bytes of another place, {at}"), move |segment| {
                let Some(range) = place(segment) else { return Cost::Nothing };
                let other = 20_480 + (at * size + size) % (segment.block - 20_480);
                let other = segment.bytes[other..other + size].to_vec();
                segment.bytes[range.clone()].copy_from_slice(&other);
                segment.cost_of(&range)
            }));
        }
    }
    examine(cases);
}

/// Of a configuration that may be older than the one that was lost, the limits do not count.
#[test]
fn limits_of_an_older_configuration_remove_nothing() {
    let mut server = server(1);
    let mut client = Client::new(server.port);
    let body = |max: i64| format!(r#"{{"name":"D0","subjects":["d0.*"],"max_msgs":{max}}}"#);
    api(&mut client, "STREAM.CREATE.D0", &body(10));
    api(&mut client, "STREAM.UPDATE.D0", &body(100));
    for seq in 1..=MESSAGES {
        let answer = client.try_request("d0.x", &[], &message(0, seq).payload()).unwrap();
        assert_eq!(answer.json()["seq"], seq);
    }
    server.stop();
    let mut segment = Segment::all(&dir_of(&server, 0)).pop().unwrap();
    let notes = segment.records.iter().filter(|record| [5, 13].contains(&record.kind));
    let starts: Vec<usize> = notes.map(|record| record.at.start).collect();
    assert!(starts.len() >= 3, "two configurations, the newer one twice: {starts:?}");
    starts.iter().rev().take(2).for_each(|start| segment.flip_everywhere(start + 50));
    segment.write();
    server.start_again();
    server.wait_log("may have held a newer version of its configuration");
    let mut client = Client::new(server.port);
    for _ in 0..2 {
        let info = api(&mut client, "STREAM.INFO.D0", "");
        assert_eq!(info["config"]["max_msgs"], -1, "{info}");
        assert_eq!(info["state"]["messages"], MESSAGES, "{info}");
        // What was decided is kept.
        server.crash();
        server.start_again();
        client = Client::new(server.port);
    }
}
