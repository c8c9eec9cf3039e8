//! Time as the shard sees it: passed in with every input, never read.

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds since the process started.
    pub mono_ns: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub wall_ns: i64,
}
