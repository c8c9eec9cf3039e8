//! Publish: who gets a message, and the copies into their outboxes.
//!
//! ```text
//!  Pub ─► last-subject cache of the connection ─► plan cache of the shard ─► index
//!                                   │ Plan
//!            local targets ─────────┼───────► outboxes (prefix + head + body)
//!            one member a queue ────┤
//!            shards with interest ──┴───────► mesh (one parcel each)
//! ```

mod fanout;
mod find;
mod plan;
mod run;

pub(crate) use fanout::{Outcome, Published};
pub use plan::{Plan, PlanKey, PlanQueue, Plans, Target};
pub(crate) use run::Run;
