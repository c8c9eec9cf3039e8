//! A publish on its way into the store.

use num_bigint::BigInt;
use wire::api::errors::ApiError;
use wire::api::publish::PublishHeaders;

use super::ingest::Publish;

/// Why a publish is not stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Refusal {
    /// The publisher gets this error.
    Error(ApiError),
    /// The message was stored before, with this sequence.
    Duplicate(u64),
    /// A message that a check needs comes from the disk first.
    Pending,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// The message as it came, what its headers say, and what of it is stored differently.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// After the transform on the way in.
    pub(super) subject: &'a [u8],
    block: &'a [u8],
    payload: &'a [u8],
    pub(super) found: PublishHeaders<'a>,
    /// It comes from a mirror's origin or a source, which have checked it.
    pub(super) is_sourced: bool,
    /// What a counter gets.
    pub(super) increment: Option<BigInt>,
    pub(super) new_block: Option<Vec<u8>>,
    pub(super) new_payload: Option<Vec<u8>>,
    /// The new value of a counter.
    pub(super) value: Option<String>,
    /// The next message is of the same batch, which is kept or lost as a whole.
    pub(super) more: bool,
    /// Sequence and time that it must have, of a mirror: those of the origin.
    pub(super) at: Option<(u64, i64)>,
    /// The stream's `Nats-Rollup`, once it has been checked.
    pub(super) rollup: Option<Rollup>,
}

/// What a message takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rollup {
    /// All older messages of its subject.
    Subject,
    /// All older messages.
    All,
}

impl<'a> Draft<'a> {
    /// The draft of a publish that is stored under `subject`.
    pub(super) fn new(publish: &Publish<'a>, subject: &'a [u8]) -> Self {
        let found = if publish.headers.is_empty() {
            PublishHeaders::default()
        } else {
            PublishHeaders::parse(publish.headers)
        };
        Self::with_found(publish, subject, found)
    }

    /// The draft of a publish whose headers have been read.
    pub(super) const fn with_found(
        publish: &Publish<'a>,
        subject: &'a [u8],
        found: PublishHeaders<'a>,
    ) -> Self {
        Self {
            subject,
            block: publish.headers,
            payload: publish.payload,
            found,
            is_sourced: publish.is_sourced,
            increment: None,
            new_block: None,
            new_payload: None,
            value: None,
            more: false,
            at: None,
            rollup: None,
        }
    }

    /// The header block that is stored.
    pub(super) fn block(&self) -> &[u8] {
        self.new_block.as_deref().unwrap_or(self.block)
    }

    /// The payload that is stored.
    pub(super) fn payload(&self) -> &[u8] {
        self.new_payload.as_deref().unwrap_or(self.payload)
    }

    /// The header block, to be rewritten.
    pub(super) fn block_mut(&mut self) -> &mut Vec<u8> {
        self.new_block.get_or_insert_with(|| self.block.to_vec())
    }
}
