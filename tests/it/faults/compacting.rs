//! The server is killed while it writes a segment anew, or just after. Writers keep account of
//! what was acknowledged; a folder that is watched tells when a compaction is under way.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::{JETSTREAM, api, number_from_env};
use crate::support::poll;
use crate::support::server::Options;

const WRITERS: u64 = 4;

/// The message with this number of a writer.
fn payload(writer: u64, number: u64) -> Vec<u8> {
    format!("{writer} {number} ").into_bytes().repeat(600)
}

/// Most messages replace each other, so that little of a segment is needed; every eighth stays.
fn subject(stream: &str, writer: u64, number: u64) -> String {
    match number % 8 {
        0 => format!("{stream}.{writer}.keep.{number}"),
        hot => format!("{stream}.{writer}.hot.{hot}"),
    }
}

/// One who writes, and what was promised to them.
struct Writer {
    stream: String,
    me: u64,
    next: u64,
    /// The number of the last acknowledged message of each subject.
    acked: HashMap<String, u64>,
}

impl Writer {
    /// Writes until the server is gone.
    fn write(&mut self, port: u16) {
        let Some(mut client) = Client::try_new(port) else { return };
        loop {
            let number = self.next;
            let subject = subject(&self.stream, self.me, number);
            self.next += 1;
            let answer = client.try_request(&subject, &[], &payload(self.me, number));
            let Some(answer) = answer else { return };
            assert!(answer.json()["seq"].is_u64(), "{answer:?}");
            self.acked.insert(subject, number);
        }
    }

    /// Of each subject there is the message that was acknowledged last, or one after it.
    fn compare(&self, client: &mut Client) {
        for (subject, acked) in &self.acked {
            let call = format!("$JS.API.DIRECT.GET.{}.{subject}", self.stream);
            let answer = client.try_request(&call, &[], b"").unwrap();
            assert_eq!(answer.status(), 0, "{subject}: {acked} was acknowledged: {answer:?}");
            let text = String::from_utf8_lossy(&answer.payload);
            let number: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
            assert!((*acked..self.next).contains(&number), "{subject}: {number} for {acked}");
            assert_eq!(answer.payload, payload(self.me, number), "{subject}");
        }
    }
}

/// The files of a stream, and which file each name has.
fn files(dir: &Path) -> HashMap<PathBuf, u64> {
    let Ok(entries) = std::fs::read_dir(dir) else { return HashMap::new() };
    let entries = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.path(), entry.metadata().ok()?.ino()))
    });
    entries.collect()
}

fn is_compacting(dir: &Path) -> bool {
    files(dir).keys().any(|path| path.extension().is_some_and(|extension| extension == "cmp"))
}

/// Returns when a compaction is under way; or, if it is to end, when a new file has taken the name
/// of a segment.
fn watch(dir: &Path, is_to_end: bool) {
    let mut known = files(dir);
    poll("a compaction", || {
        if !is_to_end {
            return is_compacting(dir).then_some(());
        }
        let now = files(dir);
        let is_other = |(path, file): (&PathBuf, &u64)| {
            let is_segment = path.extension().is_some_and(|extension| extension == "seg");
            is_segment && known.get(path).is_some_and(|known| known != file)
        };
        let has_ended = now.iter().any(is_other);
        known = now;
        has_ended.then_some(())
    });
}

#[test]
fn killed_while_a_segment_is_written_anew() {
    let options = Options::new().config(JETSTREAM).shards(1);
    // While the gate is there, the new file waits for ever to take the place of the old one.
    let options = options.variable("SHEARWATER_DISK_FAULTS", "rename:1+=hang?{dir}/gate");
    let mut server = options.start();
    let gate = server.dir().join("gate");
    for kill in 0..number_from_env("SHEARWATER_KILLS", 6) {
        // Segments grow, and a shard writes one anew at a time: each has a stream of its own.
        let stream = format!("K{kill}");
        let dir = server.dir().join(format!("js/jetstream/$G/streams/{stream}"));
        let mut client = Client::new(server.port);
        let body = format!(
            r#"{{"name":"{stream}","subjects":["{stream}.>"],"max_msgs_per_subject":1,
            "allow_direct":true}}"#
        );
        api(&mut client, &format!("STREAM.CREATE.{stream}"), &body.replace('\n', ""));
        let is_to_end = kill % 3 == 2;
        if !is_to_end {
            std::fs::write(&gate, "").unwrap();
        }
        let mut writers: Vec<Writer> = (0..WRITERS)
            .map(|me| Writer { stream: stream.clone(), me, next: 1, acked: HashMap::new() })
            .collect();
        let (port, place) = (server.port, &dir);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(move || writer.write(port));
            }
            // However the watch ends, the writers must not wait for ever.
            let watched = scope.spawn(move || watch(place, is_to_end)).join();
            server.crash();
            watched.expect("a compaction begins");
        });
        assert!(is_to_end || is_compacting(&dir), "the kill did not come before the rename");
        let _ = std::fs::remove_file(&gate);
        server.start_again();
        let mut client = Client::new(server.port);
        writers.iter().for_each(|writer| writer.compare(&mut client));
        let info = api(&mut client, &format!("STREAM.INFO.{stream}"), "");
        assert!(info["state"]["lost"].is_null(), "{info}");
        api(&mut client, &format!("STREAM.DELETE.{stream}"), "");
    }
}
