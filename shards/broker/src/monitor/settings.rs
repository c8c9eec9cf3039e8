//! The limits of the monitoring endpoints: every bound of this folder, by name.

/// Rows of one page when the request names no `limit` (connections and subscriptions alike).
pub const PAGE_ROWS_DEFAULT: i64 = 1024;

/// Most rows one page may hold. A larger `limit` is lowered to this, and the reply echoes the
/// lowered value, so that a reader who pages by the echoed limit misses nothing.
pub const PAGE_ROWS_MAX: i64 = 65_536;

/// How deep into a list a page may reach (`offset + limit`, in rows). Rows beyond it are not
/// served. It bounds what one shard may have to send for one request.
pub const PAGE_REACH_MAX: usize = 1_048_576;

/// Most accounts that get their own lines in `/metrics`. The busiest are listed, the others are
/// counted in `shearwater_accounts_unlisted`.
pub const METRICS_ACCOUNTS_MAX: usize = 200;

/// Most streams of one shard that `/jsz` lists; beyond that only the sums count them.
pub const JSZ_STREAMS_MAX: usize = 100_000;

/// Most consumers of one shard that `/jsz` lists; beyond that only the sums count them.
pub const JSZ_CONSUMERS_MAX: usize = 200_000;

/// Most streams that get their own lines in `/metrics`. The others are counted in
/// `shearwater_jetstream_streams_unlisted`.
pub const METRICS_STREAMS_MAX: usize = 1000;

/// Most consumers that get their own lines in `/metrics`. The others are counted in
/// `shearwater_jetstream_consumers_unlisted`.
pub const METRICS_CONSUMERS_MAX: usize = 2000;

/// Longest label value in `/metrics`, in bytes of UTF-8. Longer values are cut.
pub const METRICS_LABEL_BYTES_MAX: usize = 128;

/// Buckets of the turn time histogram. Bucket `i` holds turns of at most `2^(10 + i)` ns, the
/// last one everything longer.
pub const TURN_BUCKETS: usize = 22;

/// Upper bound of the first turn bucket, as a power of two of nanoseconds (1.024 us).
pub const TURN_BUCKET_FIRST_LOG2: u32 = 10;

/// Longest head of one HTTP request (request line and headers), in bytes.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Most header fields of one HTTP request.
pub const HEADERS_MAX: usize = 64;

/// Longest request body that is read and thrown away to keep a connection open, in bytes. A
/// request that announces more is answered and its connection closed.
pub const BODY_BYTES_MAX: u64 = 64 * 1024;

/// Most bytes that wait behind the request being answered (pipelining). More closes the
/// connection; a driver that stops reading while `wants_input()` is false never gets there. What
/// came in the same read as the request is not held against the client.
pub const PIPELINE_BYTES_MAX: usize = 16 * 1024;

/// Requests answered on one connection before it is closed, so that no client keeps one forever.
pub const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;

/// How long a connection may take to send a whole request head, in nanoseconds. The driver
/// arms this timer; the machine says with `is_idle()` whether a head has been started.
pub const HEAD_TIMEOUT_NS: u64 = 10_000_000_000;

/// How long a kept-alive connection may stay silent between requests, in nanoseconds.
pub const IDLE_TIMEOUT_NS: u64 = 60_000_000_000;
