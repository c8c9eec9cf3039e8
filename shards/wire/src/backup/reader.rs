//! Reads archives of both formats from chunks.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;
use std::ops::Range;

use super::inflow::Inflow;
use super::{ArchiveError, Event, Limits, Message, Summary, is_storable_subject, v1, v2};

/// What a reader of one format did.
pub(super) enum Step {
    /// Nothing: more must be pushed.
    NeedsMore,
    /// Something that nobody has to hear of.
    Progress,
    /// There is an event.
    Event(Event<'static>),
    /// There is a message at the start of the window.
    Message(Place),
}

/// Where the parts of a message stand in the window.
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) time_ns: i64,
    pub(super) subject: Range<usize>,
    pub(super) headers: Range<usize>,
    pub(super) payload: Range<usize>,
    /// What is to be taken off the window with it.
    pub(super) len: usize,
}

/// What is known of the archive so far, and what both formats hold entries to.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) summary: Summary,
    /// The largest sequence of a message that was yielded.
    pub(super) highest_message: u64,
    consumers: HashSet<String>,
}

impl Progress {
    /// Counts a message, which must stand behind all before it.
    pub(super) fn count_message(
        &mut self,
        sequence: u64,
        subject: &[u8],
    ) -> Result<(), ArchiveError> {
        if sequence <= self.highest_message {
            return Err(ArchiveError::OutOfOrder(sequence));
        }
        if !is_storable_subject(subject) {
            return Err(ArchiveError::BadSubject(sequence));
        }
        self.highest_message = sequence;
        self.summary.last_sequence = self.summary.last_sequence.max(sequence);
        self.summary.messages = self.summary.messages.saturating_add(1);
        Ok(())
    }

    /// Counts a consumer, whose name must be new and harmless.
    pub(super) fn count_consumer(&mut self, name: &str) -> Result<(), ArchiveError> {
        if !super::is_asset_name(name) {
            return Err(ArchiveError::BadName(name.to_owned()));
        }
        if !self.consumers.insert(name.to_owned()) {
            return Err(ArchiveError::UnexpectedEntry(name.to_owned()));
        }
        self.summary.consumers = self.summary.consumers.saturating_add(1);
        Ok(())
    }
}

enum Format {
    /// The first eight bytes are not there yet.
    Unknown,
    First(Box<v1::Reader>),
    Second(v2::Reader),
    /// The last event was yielded.
    Ended,
}

/// Reads an archive of either format.
///
/// Push a chunk, then take events until there is none; after the last chunk call
/// [`Self::finish`] and take events until [`Event::End`]. An archive without it is not complete.
pub struct ArchiveReader {
    inflow: Inflow,
    limits: Limits,
    format: Format,
    progress: Progress,
    /// The length of the message that was yielded last, which is still in the window.
    yielded_len: usize,
    failed: Option<ArchiveError>,
}

impl ArchiveReader {
    /// A reader that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            inflow: Inflow::new(limits.total_bytes_max),
            limits,
            format: Format::Unknown,
            progress: Progress::default(),
            yielded_len: 0,
            failed: None,
        }
    }

    /// Takes a chunk of the archive. Chunks may be cut anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        self.inflow.push(chunk);
    }

    /// Says that no chunk will follow.
    pub const fn finish(&mut self) {
        self.inflow.end();
    }

    /// The next event, or `None` until another chunk is pushed, or after [`Event::End`].
    ///
    /// # Errors
    ///
    /// Why the archive is refused; the same is answered from then on.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, ArchiveError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.inflow.take(std::mem::take(&mut self.yielded_len));
        loop {
            match self.step() {
                Ok(Step::NeedsMore) => return Ok(None),
                Ok(Step::Progress) => {}
                Ok(Step::Event(event)) => {
                    if matches!(event, Event::End(_)) {
                        self.format = Format::Ended;
                    }
                    return Ok(Some(event));
                }
                Ok(Step::Message(place)) => {
                    self.yielded_len = place.len;
                    let window = self.inflow.window();
                    let part = |range: Range<usize>| window.get(range).unwrap_or_default();
                    return Ok(Some(Event::Message(Message {
                        sequence: place.sequence,
                        time_ns: place.time_ns,
                        subject: part(place.subject),
                        headers: part(place.headers),
                        payload: part(place.payload),
                    })));
                }
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, ArchiveError> {
        match &mut self.format {
            Format::Unknown => {
                if !self.inflow.ensure(v2::MAGIC.len())? {
                    return Ok(Step::NeedsMore);
                }
                self.format = if self.inflow.window().starts_with(v2::MAGIC) {
                    self.inflow.take(v2::MAGIC.len());
                    Format::Second(v2::Reader::default())
                } else {
                    Format::First(Box::default())
                };
                Ok(Step::Progress)
            }
            Format::First(reader) => {
                reader.step(&mut self.inflow, &self.limits, &mut self.progress)
            }
            Format::Second(reader) => {
                reader.step(&mut self.inflow, &self.limits, &mut self.progress)
            }
            Format::Ended => Ok(Step::NeedsMore),
        }
    }
}
