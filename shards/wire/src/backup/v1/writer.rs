//! Writes a first-format archive, which nats-server before 2.15 restores.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::{Map, Value};

use super::record;
use crate::backup::hash::HashKey;
use crate::backup::{
    ConsumerBackup, Message, StreamBackup, WriteError, is_asset_name, is_storable_subject, tar,
};
use crate::json;
use crate::s2::StreamEncoder;
use crate::time::format_rfc3339;

/// A block is written when it has reached this size, in bytes.
const BLOCK_BYTES: usize = 4 << 20;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Writes the configuration, then messages in order, then consumers.
///
/// Each call appends compressed bytes to `out` as they are ready; take them away as they come. A
/// block of messages is held back until it is full.
pub struct Writer {
    encoder: StreamEncoder,
    stream: String,
    time_ns: i64,
    /// The block that is being filled.
    block: Vec<u8>,
    block_number: u32,
    key: HashKey,
    last_sequence: u64,
    has_messages: bool,
    /// Messages are done.
    is_sealed: bool,
    file: Vec<u8>,
}

impl Writer {
    /// Starts an archive of the stream, taken at `time_ns`.
    ///
    /// # Errors
    ///
    /// [`WriteError::BadName`] if the stream's name is none.
    pub fn new(backup: &StreamBackup, time_ns: i64, out: &mut Vec<u8>) -> Result<Self, WriteError> {
        if !is_asset_name(&backup.name) {
            return Err(WriteError::BadName);
        }
        let mut writer = Self {
            encoder: StreamEncoder::new(),
            stream: backup.name.clone(),
            time_ns,
            block: Vec::new(),
            block_number: 1,
            key: HashKey::of_block(&backup.name, 1),
            last_sequence: 0,
            has_messages: false,
            is_sealed: false,
            file: Vec::new(),
        };
        let mut config = backup.config.clone();
        config.insert("name".to_owned(), Value::from(backup.name.clone()));
        let text = with_created(config, backup.created_ns.unwrap_or(time_ns));
        let sum = HashKey::of_stream(&backup.name).hex(text.as_bytes());
        writer.push_file("meta.inf", text.as_bytes(), out);
        writer.push_file("meta.sum", sum.as_bytes(), out);
        Ok(writer)
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
        if self.is_sealed || message.sequence <= self.last_sequence || message.sequence >> 62 != 0 {
            return Err(WriteError::OutOfOrder(message.sequence));
        }
        if !is_storable_subject(message.subject) {
            return Err(WriteError::BadName);
        }
        if !record::push_message(&mut self.block, &self.key, message) {
            return Err(WriteError::TooLarge);
        }
        self.last_sequence = message.sequence;
        self.has_messages = true;
        if self.block.len() >= BLOCK_BYTES {
            self.flush_block(out);
        }
        Ok(())
    }

    /// Ends the messages. `last_sequence` is the last one of the stream, `last_time_ns` the time
    /// of its message, whether that is there or not.
    ///
    /// # Errors
    ///
    /// [`WriteError::OutOfOrder`] if it is below a message's, or if it was called before.
    pub fn seal(
        &mut self,
        last_sequence: u64,
        last_time_ns: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        if self.is_sealed || last_sequence < self.last_sequence || last_sequence >> 62 != 0 {
            return Err(WriteError::OutOfOrder(last_sequence));
        }
        self.is_sealed = true;
        if last_sequence > self.last_sequence {
            let push = if self.has_messages { record::push_erased } else { record::push_tombstone };
            push(&mut self.block, &self.key, last_sequence, last_time_ns);
        }
        if !self.block.is_empty() || self.block_number == 1 {
            self.flush_block(out);
        }
        Ok(())
    }

    /// Adds a consumer, behind [`Self::seal`].
    ///
    /// # Errors
    ///
    /// [`WriteError::Consumers`] or [`WriteError::BadName`].
    pub fn push_consumer(
        &mut self,
        consumer: &ConsumerBackup,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        if !self.is_sealed {
            return Err(WriteError::Consumers);
        }
        if !is_asset_name(&consumer.name) {
            return Err(WriteError::BadName);
        }
        let name = &consumer.name;
        let mut config = consumer.config.clone();
        config.insert("Name".to_owned(), Value::from(name.clone()));
        let text = with_created(config, consumer.created_ns.unwrap_or(self.time_ns));
        let sum = HashKey::of_consumer(&self.stream, name).hex(text.as_bytes());
        self.push_file(&format!("obs/{name}/meta.inf"), text.as_bytes(), out);
        self.push_file(&format!("obs/{name}/meta.sum"), sum.as_bytes(), out);
        self.push_file(&format!("obs/{name}/o.dat"), &consumer.state.encode(), out);
        Ok(())
    }

    /// Writes the end and everything that is held back.
    ///
    /// # Errors
    ///
    /// [`WriteError::Consumers`] without [`Self::seal`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        if !self.is_sealed {
            return Err(WriteError::Consumers);
        }
        self.file.clear();
        tar::push_end(&mut self.file);
        self.encoder.push(&self.file, out);
        self.encoder.flush(out);
        Ok(())
    }

    fn flush_block(&mut self, out: &mut Vec<u8>) {
        let block = std::mem::take(&mut self.block);
        self.push_file(&format!("msgs/{}.blk", self.block_number), &block, out);
        self.block = block;
        self.block.clear();
        self.block_number = self.block_number.saturating_add(1);
        self.key = HashKey::of_block(&self.stream, self.block_number);
    }

    fn push_file(&mut self, name: &str, bytes: &[u8], out: &mut Vec<u8>) {
        self.file.clear();
        tar::push_file(&mut self.file, name, self.time_ns, bytes);
        self.encoder.push(&self.file, out);
    }
}

/// The text of a configuration with the time of creation in it.
fn with_created(mut config: Map<String, Value>, created_ns: i64) -> String {
    let nanos = u32::try_from(created_ns.rem_euclid(NANOS_PER_SECOND)).unwrap_or_default();
    let created = format_rfc3339(created_ns.div_euclid(NANOS_PER_SECOND), nanos);
    config.insert("Created".to_owned(), Value::from(created));
    json::to_go_string(&config)
}
