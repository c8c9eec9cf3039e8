//! A log file that rotates by size.
//!
//! Names and order are nats-server's: when a line takes the file over its limit, the file is
//! renamed to `<file>.YYYY.MM.DD.hh.mm.ss.nnnnnnnnn` (local time), a new one is begun, and
//! the oldest copies beyond the allowed number are removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Zoned;

use super::format::{Label, Line, Stamp};
use super::writer::Sink;
use crate::error::{os_text, path_error};

const FILE_MODE: u32 = 0o640;

/// Pending bytes that are written before a commit asks for it.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// The open file and what is waiting for it.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    written_bytes: u64,
    pending: Vec<u8>,
    /// A failed write left half a line: the next one starts on a new line.
    torn: bool,
    size_limit_bytes: u64,
    /// The size at which the next rotation is tried. Above the limit after a failure.
    rotate_at_bytes: u64,
    files_max: usize,
    notes: Vec<(Label, String)>,
}

impl LogFile {
    pub(super) fn open(path: &Path, size_limit_bytes: u64, files_max: usize) -> io::Result<Self> {
        let (file, written_bytes) = open_append(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            written_bytes,
            pending: Vec::new(),
            torn: false,
            size_limit_bytes,
            rotate_at_bytes: size_limit_bytes,
            files_max,
            notes: Vec::new(),
        })
    }

    fn write_pending(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.torn {
            self.pending.insert(0, b'\n');
        }
        let mut rest = self.pending.as_slice();
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            match self.file.write(rest) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        let written = self.pending.len() - rest.len();
        self.written_bytes += written as u64;
        if written > 0 {
            self.torn = self.pending.get(written - 1) != Some(&b'\n');
        }
        self.pending.clear();
        result
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.write_pending()?;
        match self.begin_anew() {
            Ok(copy) => {
                self.rotate_at_bytes = self.size_limit_bytes;
                let text = format!("Rotated log, backup saved as {:?}", copy.display().to_string());
                self.notes.push((Label::Info, text));
                self.purge();
            }
            Err(error) => {
                // Trying again at every line would only repeat the failure.
                self.rotate_at_bytes = self.written_bytes.saturating_mul(2);
                self.notes.push((
                    Label::Error,
                    format!(
                        "Unable to rotate the log: {}; next attempt at {} bytes",
                        os_text(&error),
                        self.rotate_at_bytes
                    ),
                ));
            }
        }
        Ok(())
    }

    fn begin_anew(&mut self) -> io::Result<PathBuf> {
        let copy = copy_name(&self.path, &Zoned::now());
        fs::rename(&self.path, &copy)?;
        match open_append(&self.path) {
            Ok((file, written_bytes)) => {
                (self.file, self.written_bytes) = (file, written_bytes);
                Ok(copy)
            }
            Err(error) => {
                // The open handle still writes to the renamed file: give it its name back.
                fs::rename(&copy, &self.path)?;
                Err(error)
            }
        }
    }

    /// Removes the oldest copies so that `files_max` files stay, this one among them.
    fn purge(&mut self) {
        if self.files_max == 0 {
            return;
        }
        let mut copies = match copies_of(&self.path) {
            Ok(copies) => copies,
            Err(error) => {
                let text = format!("Unable to list old log files: {}", os_text(&error));
                return self.notes.push((Label::Error, text));
            }
        };
        copies.sort_unstable();
        let keep = self.files_max - 1;
        for copy in copies.iter().take(copies.len().saturating_sub(keep)) {
            let name = copy.file_name().unwrap_or_default().to_string_lossy();
            self.notes.push(match fs::remove_file(copy) {
                Ok(()) => (Label::Info, format!("Purged log file {name:?}")),
                Err(error) => (
                    Label::Error,
                    format!("Unable to purge a log file: {}", {
                        path_error("remove", copy, &error)
                    }),
                ),
            });
        }
    }
}

impl Sink for LogFile {
    fn append(&mut self, line: &Line, stamp: &mut Stamp) -> io::Result<()> {
        stamp.dress(line, &mut self.pending);
        let size_bytes = self.written_bytes + self.pending.len() as u64;
        if self.size_limit_bytes > 0 && size_bytes > self.rotate_at_bytes {
            self.rotate()
        } else if self.pending.len() >= PENDING_BYTES_MAX {
            self.write_pending()
        } else {
            Ok(())
        }
    }

    fn commit(&mut self) -> io::Result<()> {
        self.write_pending()
    }

    fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn reopen(&mut self) -> io::Result<bool> {
        let (file, written_bytes) = open_append(&self.path)?;
        (self.file, self.written_bytes, self.torn) = (file, written_bytes, false);
        self.rotate_at_bytes = self.size_limit_bytes;
        Ok(true)
    }

    fn take_notes(&mut self) -> Vec<(Label, String)> {
        std::mem::take(&mut self.notes)
    }

    fn name(&self) -> Option<String> {
        Some(self.path.display().to_string())
    }
}

fn open_append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    let size_bytes = file.metadata()?.len();
    Ok((file, size_bytes))
}

fn copy_name(path: &Path, now: &Zoned) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(
        ".{:04}.{:02}.{:02}.{:02}.{:02}.{:02}.{:09}",
        now.year(),
        now.month(),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.subsec_nanosecond()
    ));
    name.into()
}

/// The rotated copies beside the file, in no order.
fn copies_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let base = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut copies = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.strip_prefix(&base));
        if suffix.is_some_and(is_copy_suffix) {
            copies.push(entry.path());
        }
    }
    Ok(copies)
}

/// `.YYYY.MM.DD.hh.mm.ss.nnnnnnnnn`
fn is_copy_suffix(suffix: &str) -> bool {
    const WIDTHS: [usize; 7] = [4, 2, 2, 2, 2, 2, 9];
    let Some(parts) = suffix.strip_prefix('.') else {
        return false;
    };
    let parts: Vec<&str> = parts.split('.').collect();
    parts.len() == WIDTHS.len()
        && parts.iter().zip(WIDTHS).all(|(part, width)| {
            part.len() == width && part.bytes().all(|digit| digit.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::super::LogTime;
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::time::UNIX_EPOCH;

    fn append(file: &mut LogFile, text: &str) -> io::Result<()> {
        let line = Line { label: Label::Info, at: UNIX_EPOCH, text: text.into() };
        file.append(&line, &mut Stamp::new(1, LogTime::Off, false))
    }

    #[test]
    fn the_file_is_appended_to_and_not_world_readable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(dir.path().join("y.log"), "old\n").unwrap();
        let mut file = LogFile::open(&path, 0, 0).unwrap();
        append(&mut file, "one").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o137, 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "[1] [INF] one\n");
        let mut old = LogFile::open(&dir.path().join("y.log"), 0, 0).unwrap();
        append(&mut old, "new").unwrap();
        old.commit().unwrap();
        let text = fs::read_to_string(dir.path().join("y.log")).unwrap();
        assert_eq!(text, "old\n[1] [INF] new\n");
    }

    #[test]
    fn it_rotates_after_the_line_that_crosses_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        for name in ["x.log.2020.01.01", "x.logfoo", "x.log.2020.01.01.01.01.01.000000001"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let mut file = LogFile::open(&path, 30, 3).unwrap();
        for at in 0..6 {
            append(&mut file, &format!("line {at}")).unwrap();
        }
        file.commit().unwrap();
        // 17 bytes a line: two lines cross 30 bytes, so there were three rotations.
        let notes = file.take_notes();
        let texts: Vec<&str> = notes.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts.iter().filter(|text| text.starts_with("Rotated log")).count(), 3);
        let mut copies = copies_of(&path).unwrap();
        copies.sort_unstable();
        assert_eq!(copies.len(), 2, "{copies:?}");
        assert_eq!(fs::read_to_string(&copies[1]).unwrap(), "[1] [INF] line 4\n[1] [INF] line 5\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert!(texts.contains(&"Purged log file \"x.log.2020.01.01.01.01.01.000000001\""));
        assert!(dir.path().join("x.log.2020.01.01").exists());
        assert!(dir.path().join("x.logfoo").exists());
    }

    #[test]
    fn a_failed_rotation_keeps_the_file_and_backs_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut file = LogFile::open(&path, 10, 0).unwrap();
        // The name is gone, so that it cannot be renamed; the open file can still be written.
        fs::remove_file(&path).unwrap();
        append(&mut file, "first").unwrap();
        let notes = file.take_notes();
        assert_eq!(notes.len(), 1);
        assert!(notes[0].1.starts_with("Unable to rotate the log: no such file"), "{notes:?}");
        append(&mut file, "2").unwrap();
        assert!(file.take_notes().is_empty(), "no second attempt yet");
        assert!(file.reopen().unwrap());
        append(&mut file, "after").unwrap();
        assert!(file.take_notes()[0].1.starts_with("Rotated log"));
    }

    #[test]
    fn a_full_disk_is_an_error_and_not_the_end() {
        let mut file = LogFile::open(Path::new("/dev/full"), 0, 0).unwrap();
        append(&mut file, "x").unwrap();
        assert_eq!(file.commit().unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.commit().unwrap();
        append(&mut file, "y").unwrap();
        assert!(file.commit().is_err());
    }

    #[test]
    fn copies_are_named_by_local_time() {
        let at = "2026-11-24T08:20:17.076340868+05:30[+05:30]".parse::<Zoned>().unwrap();
        assert_eq!(
            copy_name(Path::new("/a/x.log"), &at),
            Path::new("/a/x.log.2026.11.24.08.20.17.076340868")
        );
        assert!(is_copy_suffix(".2026.11.24.08.20.17.076340868"));
        assert!(!is_copy_suffix(".2026.11.24.08.20.17.0763"));
        assert!(!is_copy_suffix("2026.11.24.08.20.17.076340868"));
    }
}
