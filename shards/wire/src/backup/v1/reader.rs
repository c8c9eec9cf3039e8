//! Reads the files of a first-format archive in the order in which nats-server writes them.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::{Map, Value};

use super::index::Index;
use super::record::{self, Kind};
use crate::backup::hash::HashKey;
use crate::backup::inflow::Inflow;
use crate::backup::reader::{Place, Progress, Step};
use crate::backup::{
    ArchiveError, CONFIG_BYTES_MAX, CONSUMER_BYTES_MAX, ConsumerBackup, ConsumerState, Event,
    INDEX_BYTES_MAX, Limits, NAME_BYTES_MAX, StreamBackup, is_asset_name, parse_object, tar,
};
use crate::schedule::parse_rfc3339;

/// The index of one block, in bytes. A block has room for some hundred thousand records.
const BLOCK_INDEX_BYTES_MAX: usize = 2 << 20;

/// What a file is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum File {
    Extended,
    StreamConfig,
    StreamSum,
    Block(u32),
    /// What is deleted of a block, ahead of it, before 2.10.
    BlockIndex(u32),
    /// What is deleted of all blocks, since 2.10.
    Index,
    ConsumerConfig(String),
    ConsumerSum(String),
    ConsumerState(String),
    Errors,
    /// Of an older or newer version, and not needed.
    Ignored,
}

/// Where the reader stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Header,
    /// Inside a file: bytes left, and bytes to pass over behind it.
    Body {
        file: File,
        left: u64,
        padding: usize,
    },
    /// Inside the index: yielding deletions.
    Index(Box<Index>),
    Padding(usize),
    /// The first of two blocks of zeros was read.
    FirstZeros,
    /// Everything was read.
    Trailer,
}

/// Reads a tar file with a stream in it.
#[derive(Debug, Default)]
pub(in crate::backup) struct Reader {
    stage: Stage,
    /// What the extended header said about the next file.
    extended: tar::Extended,
    /// The name of the stream and the text of its configuration, which checksums need.
    stream: Option<(String, Vec<u8>)>,
    /// The block that is read, or was read last, and its key.
    block: Option<(u32, HashKey)>,
    /// The first message that was yielded from that block.
    block_first: Option<u64>,
    /// The index of the block that follows, or is read.
    block_index: Option<(u32, Box<Index>)>,
    /// The first sequence of the stream, as the indexes of blocks say it.
    first_sequence: Option<u64>,
    has_index: bool,
    /// What stands behind the block whose index is yielded.
    index_padding: usize,
    /// A consumer whose state is not read yet, and the text of its configuration.
    consumer: Option<(ConsumerBackup, Vec<u8>)>,
}

impl Reader {
    pub(in crate::backup) fn step(
        &mut self,
        inflow: &mut Inflow,
        limits: &Limits,
        progress: &mut Progress,
    ) -> Result<Step, ArchiveError> {
        match &mut self.stage {
            Stage::Header | Stage::FirstZeros => self.read_header(inflow, progress),
            Stage::Body { file: File::Block(_), left, padding } => {
                let (left, padding) = (*left, *padding);
                if left == 0 {
                    return self.end_block(padding, progress);
                }
                self.read_record(inflow, limits, progress, left)
            }
            Stage::Body { file: File::Ignored, left, padding } => {
                if *left == 0 {
                    self.stage = Stage::Padding(*padding);
                    return Ok(Step::Progress);
                }
                if !inflow.ensure(1)? {
                    return Ok(Step::NeedsMore);
                }
                let len = inflow.window().len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                inflow.take(len);
                *left = left.saturating_sub(u64::try_from(len).unwrap_or(u64::MAX));
                Ok(Step::Progress)
            }
            Stage::Body { .. } => self.read_whole(inflow, progress),
            Stage::Index(index) => {
                let Some((first, last)) = index.next_deleted()? else {
                    self.stage = Stage::Padding(std::mem::take(&mut self.index_padding));
                    return Ok(Step::Progress);
                };
                Ok(deleted(first, last, progress))
            }
            Stage::Padding(len) => {
                if !inflow.ensure(*len)? {
                    return Ok(Step::NeedsMore);
                }
                inflow.take(*len);
                self.stage = Stage::Header;
                Ok(Step::Progress)
            }
            Stage::Trailer => self.read_trailer(inflow, progress),
        }
    }

    fn read_header(
        &mut self,
        inflow: &mut Inflow,
        progress: &mut Progress,
    ) -> Result<Step, ArchiveError> {
        if !inflow.ensure(tar::BLOCK_LEN)? {
            return Ok(Step::NeedsMore);
        }
        let block = inflow.window().get(..tar::BLOCK_LEN).unwrap_or_default();
        let header = match tar::parse_header(block) {
            // Whoever sends something else gets told so.
            Err(_) if self.stream.is_none() && self.extended == tar::Extended::default() => {
                return Err(ArchiveError::NotAnArchive);
            }
            header => header?,
        };
        inflow.take(tar::BLOCK_LEN);
        let Some(header) = header else {
            self.stage = match self.stage {
                Stage::FirstZeros => Stage::Trailer,
                _ => Stage::FirstZeros,
            };
            return Ok(Step::Progress);
        };
        if self.stage == Stage::FirstZeros {
            return Err(ArchiveError::UnexpectedEntry(header.name));
        }
        let extended = std::mem::take(&mut self.extended);
        let (file, len) = if header.kind == tar::Kind::Extended {
            (File::Extended, header.len)
        } else {
            let name = extended.name.unwrap_or(header.name);
            (self.classify(&name)?, extended.len.unwrap_or(header.len))
        };
        let left = len;
        // A consumer without a state ends where the next one starts.
        let complete = match &file {
            File::ConsumerConfig(_) => self.consumer.take(),
            _ => None,
        };
        self.stage = Stage::Body { file, left, padding: tar::padding(len) };
        match complete {
            Some((consumer, _)) => {
                progress.count_consumer(&consumer.name)?;
                Ok(Step::Event(Event::Consumer(consumer)))
            }
            None => Ok(Step::Progress),
        }
    }

    /// What the file is, and whether it may stand here.
    fn classify(&mut self, name: &str) -> Result<File, ArchiveError> {
        let file = file_of(name)?;
        let unexpected = || ArchiveError::UnexpectedEntry(name.to_owned());
        let stream = self.stream.as_ref().map(|(stream, _)| stream.as_str());
        let is_in_place = match (&file, stream) {
            (File::Errors | File::Extended, _) => true,
            (File::StreamConfig, stream) => stream.is_none(),
            (_, None) => false,
            (File::Block(number), Some(stream)) => {
                let is_next = self.block.as_ref().is_none_or(|(last, _)| number > last);
                self.block_first = None;
                self.block = Some((*number, HashKey::of_block(stream, *number)));
                is_next && !self.has_index
            }
            (File::Index, _) => !std::mem::replace(&mut self.has_index, true),
            (File::ConsumerSum(name) | File::ConsumerState(name), _) => {
                self.consumer.as_ref().is_some_and(|(consumer, _)| consumer.name == *name)
            }
            (File::BlockIndex(_), _) => !self.has_index,
            (File::StreamSum | File::ConsumerConfig(_) | File::Ignored, _) => true,
        };
        if is_in_place { Ok(file) } else { Err(unexpected()) }
    }

    /// Reads a file that is looked at as a whole.
    fn read_whole(
        &mut self,
        inflow: &mut Inflow,
        progress: &mut Progress,
    ) -> Result<Step, ArchiveError> {
        let Stage::Body { file, left, padding } = &self.stage else { return Ok(Step::Progress) };
        let (file, padding) = (file.clone(), *padding);
        let (what, len_max) = match file {
            File::Extended => ("extended header", tar::EXTENDED_BYTES_MAX),
            File::ConsumerState(_) | File::ConsumerConfig(_) => ("consumer", CONSUMER_BYTES_MAX),
            File::Index => ("index", INDEX_BYTES_MAX),
            File::BlockIndex(_) => ("index", BLOCK_INDEX_BYTES_MAX),
            _ => ("configuration", CONFIG_BYTES_MAX),
        };
        let len = usize::try_from(*left).ok().filter(|&len| len <= len_max);
        let len = len.ok_or(ArchiveError::TooLarge(what))?;
        let total_len = len.saturating_add(padding);
        if !inflow.ensure(total_len)? {
            return Ok(Step::NeedsMore);
        }
        self.stage = Stage::Header;
        let bytes = inflow.window().get(..len).unwrap_or_default();
        let step = self.read_file(file, bytes, progress)?;
        inflow.take(total_len);
        Ok(step)
    }

    fn read_file(
        &mut self,
        file: File,
        bytes: &[u8],
        progress: &mut Progress,
    ) -> Result<Step, ArchiveError> {
        match file {
            File::Extended => {
                self.extended = tar::parse_extended(bytes)?;
                Ok(Step::Progress)
            }
            File::StreamConfig => {
                let backup = read_stream(bytes)?;
                self.stream = Some((backup.name.clone(), bytes.to_owned()));
                Ok(Step::Event(Event::Stream(backup)))
            }
            File::StreamSum => {
                let (name, text) = self.stream()?;
                verify(&HashKey::of_stream(name), text, bytes)?;
                Ok(Step::Progress)
            }
            File::BlockIndex(number) => {
                let index = Index::parse_block(bytes.to_owned())?;
                self.block_index = index.map(|index| (number, Box::new(index)));
                Ok(Step::Progress)
            }
            File::Index => {
                let (name, _) = self.stream()?;
                let index = Index::parse(bytes.to_owned(), &HashKey::of_stream(name))?;
                let summary = &mut progress.summary;
                summary.first_sequence = index.first_sequence;
                summary.last_sequence = summary.last_sequence.max(index.last_sequence);
                self.stage = Stage::Index(Box::new(index));
                Ok(Step::Progress)
            }
            File::ConsumerConfig(name) => {
                self.consumer = Some((read_consumer(name, bytes)?, bytes.to_owned()));
                Ok(Step::Progress)
            }
            File::ConsumerSum(name) => {
                let (stream, _) = self.stream()?;
                let key = HashKey::of_consumer(stream, &name);
                let text = self.consumer.as_ref().map(|(_, text)| text.as_slice());
                verify(&key, text.unwrap_or_default(), bytes)?;
                Ok(Step::Progress)
            }
            File::ConsumerState(_) => {
                let state = ConsumerState::decode(bytes);
                let state = state.map_err(|_| ArchiveError::Malformed("consumer state"))?;
                let Some((consumer, _)) = self.consumer.take() else { return Ok(Step::Progress) };
                progress.count_consumer(&consumer.name)?;
                Ok(Step::Event(Event::Consumer(ConsumerBackup { state, ..consumer })))
            }
            File::Errors => {
                Err(ArchiveError::Reported(String::from_utf8_lossy(bytes).into_owned()))
            }
            File::Block(_) | File::Ignored => Ok(Step::Progress),
        }
    }

    /// The stream's name and the text of its configuration, which stand before all else.
    fn stream(&self) -> Result<&(String, Vec<u8>), ArchiveError> {
        self.stream.as_ref().ok_or(ArchiveError::NotAnArchive)
    }

    /// Reads one record of the block, of which `left` bytes are left.
    fn read_record(
        &mut self,
        inflow: &mut Inflow,
        limits: &Limits,
        progress: &mut Progress,
        left: u64,
    ) -> Result<Step, ArchiveError> {
        if left < u64::try_from(record::LEN_MIN).unwrap_or(u64::MAX) {
            return Err(ArchiveError::Malformed("record"));
        }
        if !inflow.ensure(record::HEADER_LEN)? {
            return Ok(Step::NeedsMore);
        }
        let len = record::parse_len(inflow.window(), left)?;
        // A record is a message, its subject and little else.
        if len > limits.message_bytes_max.saturating_add(NAME_BYTES_MAX).saturating_add(64) {
            return Err(ArchiveError::TooLarge("message"));
        }
        if !inflow.ensure(len)? {
            return Ok(Step::NeedsMore);
        }
        let Some((_, key)) = &self.block else { return Err(ArchiveError::NotAnArchive) };
        let bytes = inflow.window().get(..len).unwrap_or_default();
        let record = record::parse(bytes, key)?;
        if let Stage::Body { left, .. } = &mut self.stage {
            *left = left.saturating_sub(u64::try_from(len).unwrap_or(u64::MAX));
        }
        let summary = &mut progress.summary;
        summary.last_sequence = summary.last_sequence.max(record.sequence);
        match record.kind {
            Kind::Message => {
                let subject = bytes.get(record.subject.clone()).unwrap_or_default();
                progress.count_message(record.sequence, subject)?;
                if record.headers.len().saturating_add(record.payload.len())
                    > limits.message_bytes_max
                {
                    return Err(ArchiveError::TooLarge("message"));
                }
                if progress.summary.messages == 1 {
                    progress.summary.first_sequence = record.sequence;
                }
                self.block_first.get_or_insert(record.sequence);
                Ok(Step::Message(Place {
                    sequence: record.sequence,
                    time_ns: record.time_ns,
                    subject: record.subject,
                    headers: record.headers,
                    payload: record.payload,
                    len,
                }))
            }
            Kind::Erased => {
                inflow.take(len);
                Ok(Step::Progress)
            }
            Kind::Tombstone => {
                inflow.take(len);
                Ok(deleted(record.sequence, record.sequence, progress))
            }
        }
    }

    /// Goes on behind a block, first to what its own index says is deleted.
    fn end_block(&mut self, padding: usize, progress: &mut Progress) -> Result<Step, ArchiveError> {
        self.stage = Stage::Padding(padding);
        let number = self.block.as_ref().map(|(number, _)| *number);
        let index = self.block_index.take().filter(|(of, _)| Some(*of) == number);
        let Some((_, index)) = index else { return Ok(Step::Progress) };
        let (first, last) = (index.first_sequence, index.last_sequence);
        progress.summary.last_sequence = progress.summary.last_sequence.max(last);
        if first <= last {
            self.first_sequence.get_or_insert(first);
        }
        self.stage = Stage::Index(index);
        self.index_padding = padding;
        Ok(match (self.block_first, first.checked_sub(1)) {
            (Some(from), Some(to)) => deleted(from, to, progress),
            _ => Step::Progress,
        })
    }

    fn read_trailer(
        &mut self,
        inflow: &mut Inflow,
        progress: &mut Progress,
    ) -> Result<Step, ArchiveError> {
        if self.stream.is_none() {
            return Err(ArchiveError::NotAnArchive);
        }
        if let Some((consumer, _)) = self.consumer.take() {
            progress.count_consumer(&consumer.name)?;
            return Ok(Step::Event(Event::Consumer(consumer)));
        }
        // Tar files are filled up with zeros to a multiple of some size.
        let window = inflow.window();
        if window.iter().any(|&byte| byte != 0) {
            return Err(ArchiveError::UnexpectedEntry("behind the end".to_owned()));
        }
        inflow.take(window.len());
        match inflow.is_drained()? {
            None => Ok(Step::NeedsMore),
            Some(false) => Ok(Step::Progress),
            Some(true) => {
                let summary = &mut progress.summary;
                if let Some(first) = self.first_sequence.filter(|_| !self.has_index) {
                    summary.first_sequence = first;
                } else if summary.messages == 0 && summary.last_sequence > 0 && !self.has_index {
                    summary.first_sequence = summary.last_sequence.saturating_add(1);
                }
                Ok(Step::Event(Event::End(*summary)))
            }
        }
    }
}

/// A range that is gone, as far as it was there.
fn deleted(first: u64, last: u64, progress: &Progress) -> Step {
    let last = last.min(progress.highest_message);
    if first == 0 || first > last {
        return Step::Progress;
    }
    Step::Event(Event::Deleted { first, last })
}

/// What a file is, by its name alone. Names that leave the archive are refused.
fn file_of(name: &str) -> Result<File, ArchiveError> {
    let parts: Vec<&str> = name.split('/').collect();
    let is_bad = |part: &&str| {
        matches!(*part, "" | "." | "..")
            || part.bytes().any(|b| b < b' ' || b == b'\\' || b == 0x7f)
    };
    if name.len() > 1024 || parts.iter().any(is_bad) {
        return Err(ArchiveError::BadName(name.to_owned()));
    }
    Ok(match parts.as_slice() {
        ["meta.inf"] => File::StreamConfig,
        ["meta.sum"] => File::StreamSum,
        ["errors.txt"] => File::Errors,
        ["msgs", "index.db"] => File::Index,
        ["msgs", file] => match file.split_once('.').map(|(n, kind)| (n.parse(), kind)) {
            Some((Ok(number), "blk")) => File::Block(number),
            Some((Ok(number), "idx")) => File::BlockIndex(number),
            _ => File::Ignored,
        },
        ["obs", consumer, _] if !is_asset_name(consumer) => {
            return Err(ArchiveError::BadName(name.to_owned()));
        }
        ["obs", consumer, "meta.inf"] => File::ConsumerConfig((*consumer).to_owned()),
        ["obs", consumer, "meta.sum"] => File::ConsumerSum((*consumer).to_owned()),
        ["obs", consumer, "o.dat"] => File::ConsumerState((*consumer).to_owned()),
        _ => File::Ignored,
    })
}

fn verify(key: &HashKey, text: &[u8], sum: &[u8]) -> Result<(), ArchiveError> {
    if key.hex(text).as_bytes() == sum {
        Ok(())
    } else {
        Err(ArchiveError::Checksum("configuration"))
    }
}

/// Takes the time of creation out of a configuration.
fn take_created(config: &mut Map<String, Value>) -> Option<i64> {
    config.remove("Created")?.as_str().and_then(parse_rfc3339).filter(|&at| at != i64::MIN)
}

fn read_stream(text: &[u8]) -> Result<StreamBackup, ArchiveError> {
    let mut config = parse_object(text, "configuration")?;
    let created_ns = take_created(&mut config);
    let name = config.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !is_asset_name(&name) {
        return Err(ArchiveError::BadName(name));
    }
    Ok(StreamBackup { name, config, created_ns })
}

fn read_consumer(name: String, text: &[u8]) -> Result<ConsumerBackup, ArchiveError> {
    let mut config = parse_object(text, "consumer")?;
    let created_ns = take_created(&mut config);
    config.remove("Name");
    Ok(ConsumerBackup { name, config, state: ConsumerState::default(), created_ns })
}
