//! `check DIR [--repair]`: verifies a store directory while no server runs on it. Every record of
//! every stream is read; nothing is changed without `--repair`.
//!
//! Exit codes: 0 all is whole, 1 something is damaged or missing, 2 the directory cannot be read
//! or a server has it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jetstream::domain::is_vital_note;
use reactor::disk::{BootFs, StoreLock};
use store::check::{Checked, CheckpointVerdict, check};
use store::disk::BootDisk;
use store::log::{Encryption, Log, Options, RecoverError};
use wire::api::config::StreamConfig;
use wire::api::decode::decode_document;

use crate::cli::Flags;
use crate::error::fatal_text;

/// Everything is whole.
const EXIT_CLEAN: u8 = 0;
/// Something is damaged or missing.
const EXIT_DAMAGED: u8 = 1;
/// The directory cannot be read.
const EXIT_UNREADABLE: u8 = 2;
/// The fact that holds a stream's configuration: eight bytes of its time, then JSON.
const CONFIG_KEY: &[u8] = b"stream";
/// Places that are listed of one stream.
const LISTED_MAX: usize = 100;

/// What is to be checked.
#[derive(Clone, Debug, Default)]
pub struct CheckRequest {
    /// The store's directory, or the one above it.
    pub dir: PathBuf,
    /// Repair what can be repaired.
    pub repair: bool,
    /// The keys of a store that is encrypted.
    pub encryption: Option<Arc<Encryption>>,
}

impl CheckRequest {
    /// Reads the words behind `check`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let (mut dir, mut repair) = (None, false);
        for word in words {
            match word.as_str() {
                "--repair" | "-repair" => repair = true,
                flag if flag.starts_with('-') => {
                    return Err(format!("flag provided but not defined: {flag}"));
                }
                path if dir.is_none() => dir = Some(PathBuf::from(path)),
                more => return Err(format!("check takes one directory, not {more:?} as well")),
            }
        }
        match dir {
            Some(dir) => Ok(Self { dir, repair, encryption: None }),
            None => Err("check needs the store's directory: check DIR [--repair]".to_owned()),
        }
    }
}

/// Reads the words behind `check` and the configuration in which an encrypted store's keys are,
/// checks and prints; the exit code.
#[must_use]
pub fn run(words: &[String], flags: &Flags) -> u8 {
    let mut text = String::new();
    let code = match request(words, flags) {
        Ok(request) => check_store(&request, &mut text),
        Err(error) => {
            eprintln!("{}", fatal_text(&error));
            EXIT_UNREADABLE
        }
    };
    // A reader that has gone away is no fault.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

fn request(words: &[String], flags: &Flags) -> Result<CheckRequest, String> {
    let mut request = CheckRequest::parse(words)?;
    if flags.config_file().is_some() {
        let loaded = crate::boot::load(flags).map_err(|errors| errors.to_string())?;
        request.encryption = crate::streams::encryption(&loaded.options.jetstream).map(Arc::new);
    }
    Ok(request)
}

/// The directory that has the accounts.
fn root_of(dir: &Path) -> PathBuf {
    let below = dir.join("jetstream");
    if below.is_dir() { below } else { dir.to_owned() }
}

/// Checks a store and writes what was found to `out`; the exit code.
pub fn check_store(request: &CheckRequest, out: &mut String) -> u8 {
    let root = root_of(&request.dir);
    let shown = root.display().to_string();
    if !root.is_dir() {
        let _ = writeln!(out, "{shown}: no such directory");
        return EXIT_UNREADABLE;
    }
    let _lock = match StoreLock::take(&root) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            let _ = writeln!(out, "{shown}: a server has this store; stop it first");
            return EXIT_UNREADABLE;
        }
        Err(error) => {
            let _ = writeln!(out, "{shown}: {error}");
            return EXIT_UNREADABLE;
        }
    };
    let mut boot = BootFs::new(root);
    let mut walk = Walk { request, streams: 0, code: EXIT_CLEAN, out };
    if let Err(error) = walk.accounts(&mut boot) {
        let _ = writeln!(walk.out, "{shown}: {error}");
        return EXIT_UNREADABLE;
    }
    let (streams, code) = (walk.streams, walk.code);
    let verdict = match code {
        EXIT_CLEAN => "all is whole",
        EXIT_DAMAGED => "there is damage",
        _ => "not everything could be read",
    };
    let _ = writeln!(out, "{streams} streams checked: {verdict}");
    code
}

struct Walk<'a> {
    request: &'a CheckRequest,
    streams: usize,
    code: u8,
    out: &'a mut String,
}

impl Walk<'_> {
    fn accounts(&mut self, boot: &mut dyn BootDisk) -> Result<(), store::disk::DiskError> {
        for account in boot.list("")?.iter().filter_map(|name| name.strip_suffix('/')) {
            if account == "quarantine" {
                self.set_aside(account, boot)?;
                continue;
            }
            let streams = boot.list(&format!("{account}/streams"))?;
            for stream in streams.iter().filter_map(|name| name.strip_suffix('/')) {
                self.stream(&format!("{account}/streams/{stream}"), boot)?;
            }
        }
        Ok(())
    }

    fn worsen(&mut self, code: u8) {
        self.code = self.code.max(code);
    }

    /// Streams that a start has put aside.
    fn set_aside(
        &mut self,
        quarantine: &str,
        boot: &mut dyn BootDisk,
    ) -> Result<(), store::disk::DiskError> {
        for name in boot.list(quarantine)?.iter().filter_map(|name| name.strip_suffix('/')) {
            let dir = format!("{quarantine}/{name}");
            if boot.list(&dir)?.iter().any(|name| name.ends_with(".seg")) {
                self.stream(&dir, boot)?;
                let _ = writeln!(
                    self.out,
                    "  put aside by a start; it is served again once it is moved to \
                    <account>/streams/<stream>"
                );
            } else {
                let _ = writeln!(self.out, "{dir}: nothing of a stream");
            }
        }
        Ok(())
    }

    fn stream(&mut self, dir: &str, boot: &mut dyn BootDisk) -> Result<(), store::disk::DiskError> {
        let names = boot.list(dir)?;
        if names.iter().any(|name| name == "meta.inf") {
            let _ = writeln!(self.out, "{dir}: a stream of nats-server, not checked");
            return Ok(());
        }
        let found = Log::identify(dir, boot).and_then(|(uid, account, stream)| {
            let encryption = self.request.encryption.clone();
            let is_vital = is_vital_note;
            let options =
                Options { account, stream, encryption, is_vital, ..Options::new(dir, uid) };
            let checked = check(&options, boot, self.request.repair)?;
            Ok((options, checked))
        });
        self.streams += 1;
        match found {
            Ok((options, checked)) => {
                let config = config_of(&checked);
                let is_clean = checked.is_clean() && config.is_ok();
                self.worsen(if is_clean { EXIT_CLEAN } else { EXIT_DAMAGED });
                let verdict = if is_clean { "whole" } else { "DAMAGED" };
                let name = String::from_utf8_lossy(&options.stream).into_owned();
                let account = String::from_utf8_lossy(&options.account).into_owned();
                let _ = writeln!(self.out, "{dir}: stream {name:?} of {account:?}: {verdict}");
                if let Err(error) = config {
                    let _ = writeln!(self.out, "  configuration: {error}");
                    let _ = writeln!(
                        self.out,
                        "  to serve it: write its configuration, as JSON like that of a request \
                        to create it, to {dir}/stream.json, and start the server"
                    );
                }
                tell(&checked, self.request.repair, self.out);
            }
            Err(RecoverError::Empty) => {
                self.worsen(EXIT_DAMAGED);
                let _ = writeln!(self.out, "{dir}: DAMAGED: no segment of a stream is readable");
            }
            Err(error) => {
                self.worsen(EXIT_UNREADABLE);
                let _ = writeln!(self.out, "{dir}: {error}");
            }
        }
        Ok(())
    }
}

fn config_of(checked: &Checked) -> Result<(), String> {
    let note = checked.notes.iter().find(|note| note.key == CONFIG_KEY);
    let value = note.and_then(|note| note.value.as_deref()).ok_or("it is missing")?;
    let json = value.get(8..).ok_or("it is too short")?;
    match decode_document::<StreamConfig>(json) {
        Ok(_) => Ok(()),
        Err(_) => Err("it cannot be understood".to_owned()),
    }
}

fn tell(checked: &Checked, repair: bool, out: &mut String) {
    let (state, report) = (&checked.state, &checked.report);
    let _ = writeln!(
        out,
        "  {} messages, {} bytes, sequences {} to {}, {} deleted between, {} subjects, {} notes",
        state.messages,
        state.bytes,
        state.first_seq,
        state.last_seq,
        state.deleted,
        state.subjects,
        checked.notes.len()
    );
    let checkpoint = match checked.checkpoint {
        CheckpointVerdict::Absent => "none",
        CheckpointVerdict::Good => "good",
        CheckpointVerdict::Damaged => "DAMAGED",
        CheckpointVerdict::Stale => "stale, not used",
        CheckpointVerdict::Wrong => "WRONG: it disagrees with the records",
    };
    let (records, bytes) = (report.records, report.bytes);
    let _ = writeln!(out, "  {records} records of {bytes} bytes read; checkpoint: {checkpoint}");
    for damage in report.damage.iter().take(LISTED_MAX) {
        let end = damage.offset.saturating_add(damage.len);
        let _ =
            write!(out, "  damage: segment {}, bytes {} to {end}", damage.segment, damage.offset);
        let _ = match (damage.first_seq, damage.last_seq) {
            (first, last) if first > last => writeln!(out, ", no message"),
            (first, last) => writeln!(out, ", may have held sequences {first} to {last}"),
        };
    }
    let lists = [("lost", checked.lost.iter().map(range_text).collect::<Vec<_>>())];
    for (what, lines) in lists {
        for line in lines.iter().take(LISTED_MAX) {
            let _ = writeln!(out, "  {what}: {line}");
        }
    }
    for number in &report.missing_segments {
        let _ = writeln!(out, "  missing: segment {number}");
    }
    for number in &report.damaged_headers {
        let _ = writeln!(out, "  damaged header: segment {number}");
    }
    for key in &report.damaged_copies {
        let _ = writeln!(out, "  damaged copy of note: {:?}", String::from_utf8_lossy(key));
    }
    for key in &report.doubtful_notes {
        let key = String::from_utf8_lossy(key);
        let _ = writeln!(out, "  a newer value may be damaged: note {key:?}");
    }
    for key in &report.damaged_notes {
        let _ = writeln!(out, "  damaged note: {:?}", String::from_utf8_lossy(key));
    }
    if report.tail_unknown {
        let _ = writeln!(out, "  both tail slots are gone: records at the end may be missing");
    }
    if report.truncated_bytes > 0 {
        let bytes = report.truncated_bytes;
        let _ = writeln!(out, "  unacknowledged at the end: {bytes} bytes");
    }
    if report.unreadable_blocks > 0 {
        let _ = writeln!(out, "  unreadable: {} blocks", report.unreadable_blocks);
    }
    for change in &checked.changes {
        let _ = writeln!(out, "  {}: {change}", if repair { "done" } else { "to be done" });
    }
}

fn range_text(range: &(u64, u64)) -> String {
    match *range {
        (first, last) if first == last => format!("sequence {first}"),
        (first, last) => format!("sequences {first} to {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Store;
    use store::disk::DiskQueue;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn words_are_read_in_any_order() {
        for text in ["d --repair", "--repair d"] {
            let request = CheckRequest::parse(&words(text)).unwrap();
            assert_eq!((request.dir, request.repair), (PathBuf::from("d"), true));
        }
        for bad in ["", "--repair", "a b", "a --force"] {
            assert!(CheckRequest::parse(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_store_is_checked_and_exit_codes_say_how_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let run = |repair: bool| {
            let mut out = String::new();
            let request =
                CheckRequest { dir: dir.path().to_owned(), repair, ..CheckRequest::default() };
            (check_store(&request, &mut out), out)
        };
        assert_eq!(run(false), (EXIT_CLEAN, "0 streams checked: all is whole\n".to_owned()));
        // A directory that is no stream at all.
        let stream = dir.path().join("jetstream/A/streams/S");
        std::fs::create_dir_all(&stream).unwrap();
        std::fs::write(stream.join("00000000000000000001.seg"), [7; 40_960]).unwrap();
        let (code, out) = run(false);
        assert_eq!(code, EXIT_DAMAGED, "{out}");
        assert!(out.contains("no segment of a stream is readable"), "{out}");
        let lock = StoreLock::take(&dir.path().join("jetstream")).unwrap();
        assert_eq!(run(false).0, EXIT_UNREADABLE);
        drop(lock);
        let missing = CheckRequest { dir: dir.path().join("none"), ..CheckRequest::default() };
        assert_eq!(check_store(&missing, &mut String::new()), EXIT_UNREADABLE);
        assert!(!dir.path().join("none").exists());
        // A stream whose configuration is missing.
        std::fs::remove_file(stream.join("00000000000000000001.seg")).unwrap();
        let mut queue = DiskQueue::default();
        let _ = Store::file(Options::new("A/streams/S", 7), 0, &mut queue);
        assert_eq!(run(false).0, EXIT_DAMAGED);
    }
}
