//! The log's own thread: takes lines from the queue and writes them in batches.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;

use super::format::{Label, Line, Stamp};
use super::queue::{Command, Counters, Item};
use crate::error::{fatal_text, os_text};

/// Lines taken from the queue before they are written together.
const BATCH_LINES_MAX: usize = 256;

/// Shortest time between two complaints on standard error.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Where dressed lines end up. Used by the writer's thread alone, so it may block.
pub(super) trait Sink: Send {
    /// Takes a line, to be written by the next `commit` at the latest.
    fn append(&mut self, line: &Line, stamp: &mut Stamp) -> io::Result<()>;

    /// Writes everything taken so far. After an error that has been given up.
    fn commit(&mut self) -> io::Result<()>;

    /// Whether lines were taken that only `commit` will write.
    fn has_pending(&self) -> bool;

    /// Opens the file again; `Ok(false)` when this is no file.
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Things the sink wants said in the log, such as a rotation.
    fn take_notes(&mut self) -> Vec<(Label, String)> {
        Vec::new()
    }

    /// How the sink is called in a complaint; `None` when standard error is itself the sink.
    fn name(&self) -> Option<String>;
}

/// Lines on a stream, usually standard error.
pub(super) struct Stream<W> {
    out: W,
    pending: Vec<u8>,
}

impl<W: Write + Send> Stream<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, pending: Vec::new() }
    }
}

impl<W: Write + Send> Sink for Stream<W> {
    fn append(&mut self, line: &Line, stamp: &mut Stamp) -> io::Result<()> {
        stamp.dress(line, &mut self.pending);
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.pending).and_then(|()| self.out.flush());
        self.pending.clear();
        written
    }

    fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn name(&self) -> Option<String> {
        None
    }
}

/// The thread's state.
pub(super) struct Writer {
    items: Receiver<Item>,
    counters: Arc<Counters>,
    sink: Box<dyn Sink>,
    stamp: Stamp,
    /// Lines given to the sink since its last commit.
    uncommitted_lines: u64,
    /// Dropped lines already told of.
    dropped_told: u64,
    trouble: Trouble,
    /// Standard error, except in tests.
    complaints: Box<dyn Write + Send>,
}

/// A target that cannot be written: how long, and what that cost.
#[derive(Default)]
struct Trouble {
    lost_lines: u64,
    complained_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        items: Receiver<Item>,
        counters: Arc<Counters>,
        sink: Box<dyn Sink>,
        stamp: Stamp,
    ) -> Self {
        Self {
            items,
            counters,
            sink,
            stamp,
            uncommitted_lines: 0,
            dropped_told: 0,
            trouble: Trouble::default(),
            complaints: Box::new(io::stderr()),
        }
    }

    #[cfg(test)]
    pub(super) fn complaining_to(mut self, complaints: Box<dyn Write + Send>) -> Self {
        self.complaints = complaints;
        self
    }

    /// Runs until every sender is gone.
    pub(super) fn run(mut self) {
        while let Ok(item) = self.items.recv() {
            self.take(item);
            for _ in 1..BATCH_LINES_MAX {
                let Ok(item) = self.items.try_recv() else {
                    break;
                };
                self.take(item);
            }
            self.finish_batch();
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Line(line) => {
                self.counters.forget_queued(line.text.len());
                self.append(&line);
            }
            Item::Command(command) => self.obey(command),
        }
    }

    fn obey(&mut self, command: Command) {
        self.finish_batch();
        // An asker that no longer listens has given up; nothing is owed to it.
        match command {
            Command::Flush(answer) => {
                let _ = answer.send(());
            }
            Command::Reopen(answer) => {
                let _ = answer.send(self.sink.reopen().map_err(|error| os_text(&error)));
            }
            Command::Replace { sink, stamp, answer } => {
                self.sink = sink;
                self.stamp = stamp;
                self.trouble = Trouble::default();
                let _ = answer.send(());
            }
        }
    }

    fn finish_batch(&mut self) {
        self.tell_dropped();
        self.commit();
        // A commit that succeeded after failures adds a line about them.
        self.commit();
    }

    fn append(&mut self, line: &Line) {
        self.uncommitted_lines += 1;
        match self.sink.append(line, &mut self.stamp) {
            Ok(()) if self.sink.has_pending() => {}
            Ok(()) => self.count_success(),
            Err(error) => self.count_failure(&error),
        }
        for (label, text) in self.sink.take_notes() {
            self.append_own(label, text);
        }
    }

    fn append_own(&mut self, label: Label, text: String) {
        self.append(&Line { label, at: SystemTime::now(), text });
    }

    fn commit(&mut self) {
        if self.uncommitted_lines == 0 {
            return;
        }
        match self.sink.commit() {
            Ok(()) => self.count_success(),
            Err(error) => self.count_failure(&error),
        }
    }

    fn count_success(&mut self) {
        self.uncommitted_lines = 0;
        let lost_lines = std::mem::take(&mut self.trouble.lost_lines);
        if lost_lines > 0 {
            self.append_own(
                Label::Warn,
                format!("{lost_lines} log lines were lost while the log could not be written"),
            );
        }
    }

    /// Counts and tells a failure; what was uncommitted is lost with it.
    fn count_failure(&mut self, error: &io::Error) {
        let lost_lines = std::mem::take(&mut self.uncommitted_lines);
        self.counters.count_lost(lost_lines);
        self.trouble.lost_lines += lost_lines;
        let due = self.trouble.complained_at.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL);
        let Some(name) = self.sink.name().filter(|_| due) else {
            return;
        };
        self.trouble.complained_at = Some(Instant::now());
        let text = fatal_text(&format!(
            "cannot write the log to {name}: {}; {} lines lost, still serving",
            os_text(error),
            self.trouble.lost_lines
        ));
        // When standard error is gone as well there is nowhere left to complain.
        let _ = writeln!(self.complaints, "{text}");
    }

    fn tell_dropped(&mut self) {
        let dropped_lines = self.counters.stats().dropped_lines;
        let news = dropped_lines.saturating_sub(self.dropped_told);
        if news > 0 {
            self.dropped_told = dropped_lines;
            self.append_own(
                Label::Warn,
                format!("{news} log lines dropped: they came faster than the log is written"),
            );
        }
    }
}
