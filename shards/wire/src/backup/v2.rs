//! The second format: the entries of an archive, one behind the other.
//!
//! ```text
//!   entry = varints: name length, time (signed), sequence, headers length, payload length;
//!           name, headers, payload
//!   the end is an entry of five zeros
//! ```

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use super::inflow::Inflow;
use super::reader::{Place, Progress, Step};
use super::{
    ArchiveError, CONFIG_BYTES_MAX, CONSUMER_BYTES_MAX, ConsumerBackup, ConsumerState, Event,
    Limits, Message, NAME_BYTES_MAX, is_asset_name, is_storable_subject, varint,
};
use crate::json;
use crate::s2::StreamEncoder;
use crate::schedule::parse_rfc3339;
use crate::time::format_rfc3339;

/// What an archive of this format starts with.
pub(super) const MAGIC: &[u8] = b"NATSARC1";

const STATE_NAME: &str = "state.json";
const CONSUMER_PREFIX: &str = "consumers/";
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The state of a stream as `state.json` has it. Times are nanoseconds since 1970; `None` is
/// Go's zero time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamState {
    /// The number of messages.
    pub messages: u64,
    /// Their size as nats-server's file storage counts it, which a restore reserves.
    pub bytes: u64,
    /// The sequence of the first message, or one above the last sequence if there is none.
    pub first_seq: u64,
    /// The time of the first message.
    #[serde(rename = "first_ts", default, with = "time_as_text")]
    pub first_time_ns: Option<i64>,
    /// The last sequence that was given.
    pub last_seq: u64,
    /// The time of the last message.
    #[serde(rename = "last_ts", default, with = "time_as_text")]
    pub last_time_ns: Option<i64>,
    /// The number of subjects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_subjects: u64,
    /// The number of sequences between first and last without a message.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_deleted: u64,
    /// The number of consumers in the archive.
    #[serde(default)]
    pub consumer_count: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the form that serde asks for
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Times as RFC 3339.
mod time_as_text {
    use super::{
        Deserialize, Deserializer, NANOS_PER_SECOND, Serializer, format_rfc3339, parse_rfc3339,
    };

    #[allow(clippy::ref_option)] // the form that serde asks for
    pub(super) fn serialize<S: Serializer>(time: &Option<i64>, out: S) -> Result<S::Ok, S::Error> {
        let Some(at) = *time else { return out.serialize_str("0001-01-01T00:00:00Z") };
        let nanos = u32::try_from(at.rem_euclid(NANOS_PER_SECOND)).unwrap_or_default();
        out.serialize_str(&format_rfc3339(at.div_euclid(NANOS_PER_SECOND), nanos))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<i64>, D::Error> {
        let text = String::deserialize(input)?;
        // The zero time lies before what 64 bits of nanoseconds can say.
        Ok(parse_rfc3339(&text).filter(|&at| at != i64::MIN))
    }
}

/// The fixed part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    name_len: usize,
    time_ns: i64,
    sequence: u64,
    headers_len: u64,
    payload_len: u64,
    /// Its own length.
    len: usize,
}

impl Header {
    /// `None` if it is cut off.
    fn parse(window: &[u8]) -> Result<Option<Self>, ArchiveError> {
        const MALFORMED: ArchiveError = ArchiveError::Malformed("entry");
        let mut rest = window;
        let mut numbers = [0_u64; 5];
        for number in &mut numbers {
            if varint::is_cut_off(rest) {
                return Ok(None);
            }
            *number = varint::take(&mut rest).ok_or(MALFORMED)?;
        }
        let [name_len, time, sequence, headers_len, payload_len] = numbers;
        let name_len = usize::try_from(name_len).unwrap_or(usize::MAX);
        if name_len > NAME_BYTES_MAX {
            return Err(ArchiveError::TooLarge("name"));
        }
        // The time is written in zigzag form.
        let half = (time >> 1).cast_signed();
        let time_ns = if time & 1 == 0 { half } else { !half };
        let len = window.len().saturating_sub(rest.len());
        Ok(Some(Self { name_len, time_ns, sequence, headers_len, payload_len, len }))
    }

    /// The length of headers and payload, if it is within `max`.
    fn body_len(&self, max: usize, what: &'static str) -> Result<usize, ArchiveError> {
        let len = self.headers_len.checked_add(self.payload_len);
        let len = len.and_then(|len| usize::try_from(len).ok()).filter(|&len| len <= max);
        len.ok_or(ArchiveError::TooLarge(what))
    }

    const fn is_end(&self) -> bool {
        self.name_len == 0
            && self.time_ns == 0
            && self.sequence == 0
            && self.headers_len == 0
            && self.payload_len == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    State,
    /// So many consumers are to come.
    Consumers(u64),
    Messages,
    /// The end was read.
    Ended,
}

/// Reads the entries behind the magic bytes.
#[derive(Debug, Default)]
pub(super) struct Reader {
    stage: Stage,
}

#[derive(Deserialize)]
struct ConsumerEntry {
    config: Map<String, Value>,
    state: ConsumerState,
}

impl Reader {
    pub(super) fn step(
        &mut self,
        inflow: &mut Inflow,
        limits: &Limits,
        progress: &mut Progress,
    ) -> Result<Step, ArchiveError> {
        if self.stage == Stage::Ended {
            return match inflow.is_drained()? {
                None => Ok(Step::NeedsMore),
                Some(true) => Ok(Step::Event(Event::End(progress.summary))),
                Some(false) => Err(ArchiveError::UnexpectedEntry("behind the end".to_owned())),
            };
        }
        let Some(header) = Header::parse(inflow.window())? else {
            let len = inflow.window().len().saturating_add(1);
            return Ok(if inflow.ensure(len)? { Step::Progress } else { Step::NeedsMore });
        };
        let head_len = header.len.saturating_add(header.name_len);
        let body_max = match self.stage {
            Stage::State | Stage::Ended => header.body_len(CONFIG_BYTES_MAX, "state")?,
            Stage::Consumers(_) => header.body_len(CONSUMER_BYTES_MAX, "consumer")?,
            Stage::Messages => header.body_len(limits.message_bytes_max, "message")?,
        };
        let total_len = head_len.saturating_add(body_max);
        if !inflow.ensure(total_len)? {
            return Ok(Step::NeedsMore);
        }
        let window = inflow.window();
        let name = window.get(header.len..head_len).unwrap_or_default();
        let body = window.get(head_len..total_len).unwrap_or_default();
        let event = match self.stage {
            Stage::State => self.read_state(&header, name, body, progress)?,
            Stage::Consumers(left) => {
                let event = read_consumer(&header, name, body, progress)?;
                let left = left.saturating_sub(1);
                self.stage = if left == 0 { Stage::Messages } else { Stage::Consumers(left) };
                event
            }
            Stage::Messages if header.is_end() => {
                self.stage = Stage::Ended;
                inflow.take(total_len);
                return Ok(Step::Progress);
            }
            Stage::Messages | Stage::Ended => {
                return message_place(&header, name, total_len, progress).map(Step::Message);
            }
        };
        inflow.take(total_len);
        Ok(Step::Event(event))
    }

    fn read_state(
        &mut self,
        header: &Header,
        name: &[u8],
        body: &[u8],
        progress: &mut Progress,
    ) -> Result<Event<'static>, ArchiveError> {
        if name != STATE_NAME.as_bytes() || header.sequence != 0 {
            return Err(unexpected(name));
        }
        let state: StreamState =
            serde_json::from_slice(body).map_err(|_| ArchiveError::Malformed("state"))?;
        progress.summary.first_sequence = state.first_seq;
        progress.summary.last_sequence = state.last_seq;
        // Messages below the first sequence are out of order.
        progress.highest_message = state.first_seq.saturating_sub(1);
        self.stage = match state.consumer_count {
            0 => Stage::Messages,
            count => Stage::Consumers(count),
        };
        Ok(Event::State(state))
    }
}

fn unexpected(name: &[u8]) -> ArchiveError {
    ArchiveError::UnexpectedEntry(String::from_utf8_lossy(name).into_owned())
}

fn read_consumer(
    header: &Header,
    name: &[u8],
    body: &[u8],
    progress: &mut Progress,
) -> Result<Event<'static>, ArchiveError> {
    let consumer = name.strip_prefix(CONSUMER_PREFIX.as_bytes()).filter(|_| header.sequence == 0);
    let consumer = consumer.and_then(|name| std::str::from_utf8(name).ok());
    let consumer = consumer.ok_or_else(|| unexpected(name))?;
    progress.count_consumer(consumer)?;
    let ConsumerEntry { config, state } =
        serde_json::from_slice(body).map_err(|_| ArchiveError::Malformed("consumer"))?;
    let name = consumer.to_owned();
    Ok(Event::Consumer(ConsumerBackup { name, config, state, created_ns: None }))
}

fn message_place(
    header: &Header,
    subject: &[u8],
    total_len: usize,
    progress: &mut Progress,
) -> Result<Place, ArchiveError> {
    if header.sequence == 0 {
        return Err(unexpected(subject));
    }
    progress.count_message(header.sequence, subject)?;
    let subject = header.len..header.len.saturating_add(header.name_len);
    let headers_len = usize::try_from(header.headers_len).unwrap_or(usize::MAX);
    let headers = subject.end..subject.end.saturating_add(headers_len);
    Ok(Place {
        sequence: header.sequence,
        time_ns: header.time_ns,
        payload: headers.end..total_len,
        subject,
        headers,
        len: total_len,
    })
}

/// What a writer of archives cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The sequence is not larger than the one before it, or below the first of the stream.
    #[error("sequence {0} out of order")]
    OutOfOrder(u64),
    /// A subject or name that an archive cannot hold.
    #[error("bad name")]
    BadName,
    /// More or fewer consumers than the state says, or one behind a message.
    #[error("consumers do not fit the state")]
    Consumers,
    /// A message that is too long for the format.
    #[error("message is too large")]
    TooLarge,
}

/// Writes an archive of the second format, which nats-server 2.15 and later restore.
///
/// State first, then the consumers that it counts, then messages in order, then the end. Each
/// call appends compressed bytes to `out` as blocks fill; take them away as they come.
pub struct ArchiveWriter {
    encoder: StreamEncoder,
    consumers_left: u64,
    last_sequence: u64,
    head: Vec<u8>,
}

impl ArchiveWriter {
    /// Starts an archive of a stream in this state, taken at `time_ns`.
    pub fn new(state: &StreamState, time_ns: i64, out: &mut Vec<u8>) -> Self {
        let mut writer = Self {
            encoder: StreamEncoder::new(),
            consumers_left: state.consumer_count,
            last_sequence: state.first_seq.saturating_sub(1),
            head: Vec::new(),
        };
        writer.encoder.push(MAGIC, out);
        let text = json::to_go_string(state);
        writer.push_entry(STATE_NAME.as_bytes(), time_ns, 0, &[b"", text.as_bytes()], out);
        writer
    }

    /// Adds a consumer.
    ///
    /// # Errors
    ///
    /// [`WriteError::Consumers`] or [`WriteError::BadName`]; nothing is written then.
    pub fn push_consumer(
        &mut self,
        consumer: &ConsumerBackup,
        time_ns: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        #[derive(Serialize)]
        struct Entry<'a> {
            config: &'a Map<String, Value>,
            state: &'a ConsumerState,
        }
        if !is_asset_name(&consumer.name) {
            return Err(WriteError::BadName);
        }
        self.consumers_left = self.consumers_left.checked_sub(1).ok_or(WriteError::Consumers)?;
        let entry = Entry { config: &consumer.config, state: &consumer.state };
        let text = json::to_go_string(&entry);
        let name = format!("{CONSUMER_PREFIX}{}", consumer.name);
        self.push_entry(name.as_bytes(), time_ns, 0, &[b"", text.as_bytes()], out);
        Ok(())
    }

    /// Adds a message.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if it cannot stand here; nothing is written then.
    pub fn push_message(
        &mut self,
        message: &Message<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        if self.consumers_left > 0 {
            return Err(WriteError::Consumers);
        }
        if message.sequence <= self.last_sequence {
            return Err(WriteError::OutOfOrder(message.sequence));
        }
        if !is_storable_subject(message.subject) || message.subject.len() > NAME_BYTES_MAX {
            return Err(WriteError::BadName);
        }
        self.last_sequence = message.sequence;
        let body = [message.headers, message.payload];
        self.push_entry(message.subject, message.time_ns, message.sequence, &body, out);
        Ok(())
    }

    /// Writes the end and everything that is held back.
    ///
    /// # Errors
    ///
    /// [`WriteError::Consumers`] if there are fewer than the state says.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        if self.consumers_left > 0 {
            return Err(WriteError::Consumers);
        }
        self.push_entry(b"", 0, 0, &[b"", b""], out);
        self.encoder.flush(out);
        Ok(())
    }

    fn push_entry(
        &mut self,
        name: &[u8],
        time_ns: i64,
        sequence: u64,
        body: &[&[u8]; 2],
        out: &mut Vec<u8>,
    ) {
        let [headers, payload] = body;
        let len = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.head.clear();
        varint::push(&mut self.head, len(name));
        varint::push_signed(&mut self.head, time_ns);
        for number in [sequence, len(headers), len(payload)] {
            varint::push(&mut self.head, number);
        }
        self.head.extend_from_slice(name);
        for part in [&self.head, *headers, *payload] {
            self.encoder.push(part, out);
        }
    }
}
