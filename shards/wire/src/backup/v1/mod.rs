//! The first format: a tar file of nats-server's own storage files.
//!
//! A block file is records one behind the other, little endian:
//!
//! ```text
//!   length u32 (top bit: has headers), sequence u64 (top bit: erased, next: tombstone),
//!   time i64, subject length u16, subject, [headers length u32, headers,] payload, checksum u64
//! ```
//!
//! A tombstone says that the message of its sequence is deleted. What limits removed has none;
//! that is known from `index.db` alone, behind all blocks. Before 2.10 there were no tombstones;
//! each block has an index ahead of it, `msgs/<n>.idx`.

mod index;
mod reader;
mod record;
mod writer;

pub(super) use reader::Reader;
#[cfg(test)]
pub(super) use record::push_message as push_record;
pub use writer::Writer;
