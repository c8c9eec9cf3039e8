//! The only file that names glommio: a pinned executor for each shard, and the sleep of a shard
//! that has nothing to do.

use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;

use glommio::io::BufferedFile;
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

/// Lets the executor's other tasks run.
pub(crate) async fn yield_now() {
    glommio::executor().yield_task_queue_now().await;
}

/// The counter that wakes a sleeping shard, as the executor waits for it.
#[derive(Debug)]
pub(crate) struct WakeCounter(Rc<BufferedFile>);

impl WakeCounter {
    /// Takes over an eventfd that was made in blocking mode.
    #[must_use]
    pub(crate) fn new(eventfd: OwnedFd) -> Self {
        // SAFETY: the descriptor is owned and handed over; glommio closes it once, on drop.
        #[allow(unsafe_code)]
        Self(Rc::new(unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) }))
    }

    /// Sleeps until the counter is above zero, and resets it.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.0.read_at(0, 8).await.map(|_| ()).map_err(to_io)
    }
}
