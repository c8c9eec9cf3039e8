//! The only file that names glommio: a pinned executor for each shard, which runs its one task.

use std::future::Future;
use std::io;

use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};

/// How a shard's executor is set up.
#[derive(Clone, Debug)]
pub(crate) struct ExecutorOptions {
    /// CPU to pin to; `None` leaves the thread where the kernel puts it.
    pub cpu: Option<usize>,
    /// Thread name.
    pub name: String,
    /// Memory the executor registers for files, bytes.
    pub io_memory_bytes: usize,
    /// Entries of each of the executor's rings.
    pub ring_depth: usize,
}

/// A running shard thread.
#[derive(Debug)]
pub(crate) struct ShardThread<T: Send + 'static>(ExecutorJoinHandle<T>);

impl<T: Send + 'static> ShardThread<T> {
    /// Waits for the shard's end.
    ///
    /// # Errors
    /// When the executor could not be set up (memlock, io_uring) or the shard panicked.
    pub(crate) fn join(self) -> io::Result<T> {
        self.0.join().map_err(to_io)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn to_io(error: GlommioError<()>) -> io::Error {
    io::Error::other(error.to_string())
}

/// Starts a shard on its own pinned executor.
///
/// # Errors
/// When the thread or its rings cannot be made.
pub(crate) fn spawn_shard<G, F, T>(options: &ExecutorOptions, make: G) -> io::Result<ShardThread<T>>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let placement = options.cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(&options.name)
        .io_memory(options.io_memory_bytes)
        .ring_depth(options.ring_depth)
        .spawn(make)
        .map(ShardThread)
        .map_err(to_io)
}
