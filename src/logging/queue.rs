//! The bounded way from any thread to the writer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::LogError;
use super::format::{Label, Line, Stamp};
use super::writer::Sink;

/// What the writer receives, in order.
pub(super) enum Item {
    Line(Line),
    Command(Command),
}

/// What a handle asks of the writer.
pub(super) enum Command {
    /// Open the file again; answers whether the target is a file, or why it failed.
    Reopen(Sender<Result<bool, String>>),
    /// Write what came before to the old sink, then use this one.
    Replace { sink: Box<dyn Sink>, stamp: Stamp, answer: Sender<()> },
    /// Write what came before, then answer.
    Flush(Sender<()>),
}

/// Lines that never reached the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Dropped because the queue was full.
    pub dropped_lines: u64,
    /// Lost because the target could not be written.
    pub lost_lines: u64,
}

/// Shared between the queue's ends. Each is a plain count, so relaxed order is enough.
#[derive(Debug, Default)]
pub(super) struct Counters {
    queued_bytes: AtomicUsize,
    dropped_lines: AtomicU64,
    lost_lines: AtomicU64,
}

impl Counters {
    pub(super) fn stats(&self) -> LogStats {
        LogStats {
            dropped_lines: self.dropped_lines.load(Ordering::Relaxed),
            lost_lines: self.lost_lines.load(Ordering::Relaxed),
        }
    }

    pub(super) fn forget_queued(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_lost(&self, lines: u64) {
        self.lost_lines.fetch_add(lines, Ordering::Relaxed);
    }
}

/// The sending end. Cloned freely; sending a line never blocks.
#[derive(Clone)]
pub(super) struct Queue {
    items: Sender<Item>,
    counters: Arc<Counters>,
    bytes_max: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn bounded(lines_max: usize, bytes_max: usize) -> (Self, Receiver<Item>) {
        let (items, receiver) = crossbeam_channel::bounded(lines_max.max(1));
        (Self { items, counters: Arc::default(), bytes_max }, receiver)
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    fn push(&self, line: Line) {
        let bytes = line.text.len();
        let queued_bytes = self.counters.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = queued_bytes.saturating_add(bytes) <= self.bytes_max;
        if !fits || self.items.try_send(Item::Line(line)).is_err() {
            self.counters.forget_queued(bytes);
            self.counters.dropped_lines.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn send_for_test(&self, item: Item) {
        self.items.send(item).unwrap();
    }

    /// Hands the writer a command behind the lines already queued.
    pub(super) fn command(&self, command: Command, timeout: Duration) -> Result<(), LogError> {
        self.items.send_timeout(Item::Command(command), timeout).map_err(|_| LogError::NoAnswer)
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { queue: self, label: Label::Info }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LineWriter { queue: self, label: Label::of(metadata) }
    }
}

/// Takes the text of one event and queues it.
pub(super) struct LineWriter<'a> {
    queue: &'a Queue,
    label: Label,
}

impl io::Write for LineWriter<'_> {
    /// One call is one line: the formatting layer hands over each event's text whole.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line = Line {
            label: self.label,
            at: SystemTime::now(),
            text: String::from_utf8_lossy(text).into_owned(),
        };
        self.queue.push(line);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
