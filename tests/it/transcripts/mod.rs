//! Protocol transcripts: `tests/transcripts/*.txt` played against the server, byte for byte.
//!
//! The same files play against nats-server with `SHEARWATER_ORACLE` set, and must pass there
//! alike. `TRANSCRIPT=name` plays only the files whose names contain `name`.

pub(crate) mod json;
pub(crate) mod messages;
mod play;
mod script;
mod text;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How many transcripts play at the same time.
const PLAYERS: usize = 6;

/// What the names of transcripts about JetStream begin with.
const JETSTREAM: &str = "js_";

fn files(jetstream: bool) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let only = std::env::var("TRANSCRIPT").unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            name.contains(&only) && name.starts_with(JETSTREAM) == jetstream
        })
        .collect();
    files.sort();
    files
}

fn play_all(shards: usize, jetstream: bool) {
    let files = Arc::new(files(jetstream));
    let chosen = std::env::var_os("TRANSCRIPT").is_some();
    assert!(chosen || !files.is_empty(), "no transcripts");
    let next = Arc::new(AtomicUsize::new(0));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| {
            let (files, next, failures) = (files.clone(), next.clone(), failures.clone());
            std::thread::spawn(move || {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = play::play(path, shards) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            })
        })
        .collect();
    players.into_iter().for_each(|player| player.join().unwrap());
    let mut failures = std::mem::take(&mut *failures.lock().unwrap());
    failures.sort();
    let (failed, total) = (failures.len(), files.len());
    println!("{} of {total} transcripts as wanted on {shards} shard(s)", total - failed);
    assert!(failures.is_empty(), "{failed} of {total} differ:\n\n{}", failures.join("\n\n"));
}

#[test]
fn one_shard() {
    play_all(1, false);
}

#[test]
fn two_shards() {
    play_all(2, false);
}

#[test]
fn three_shards() {
    play_all(3, false);
}

#[test]
fn jetstream_on_one_shard() {
    play_all(1, true);
}

#[test]
fn jetstream_on_two_shards() {
    play_all(2, true);
}

#[test]
fn jetstream_on_three_shards() {
    play_all(3, true);
}
