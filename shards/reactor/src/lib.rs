//! The world of a shard: sockets, TLS, channels between cores, time and threads. The only crate
//! that does I/O; one file in it, `runtime.rs`, names the runtime.
//!
//! ```text
//!  start ─► one thread a shard ─► turn: gather ─► shard decides ─► apply ─► sleep
//!                                   │ uring, socket, tls, bus, control, disk
//! ```

mod accept;
pub mod bus;
mod clock;
mod conn;
mod control;
pub mod disk;
pub mod entropy;
mod flush;
mod gather;
mod gather_jetstream;
mod runtime;
mod socket;
mod spin;
mod start;
mod storage;
pub mod tls;
mod transport;
mod turn;
mod uring;
mod wake;

pub use control::{Control, FileBudget, Shared};
pub use gather::FactsSource;
pub use socket::bind_listener;
pub use spin::SpinMode;
pub use start::{JetStreamPlan, Plan, Running, start};
pub use turn::HelperSubmit;
pub use uring::{Event, Ring, probe_ring};
