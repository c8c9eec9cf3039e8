//! The log: nats-server's line format, written by a thread of its own.
//!
//! ```text
//!  shard, process threads          log writer thread
//!  ──────────────────────          ─────────────────
//!  tracing event
//!    │ gate    level and target
//!    │ format  message and fields → text
//!    ▼
//!  bounded queue ── try_send ──►  prefix, colours ──► stderr │ file │ syslog
//!    full: counted, not waited for       │ failed: counted, told on stderr
//! ```
//!
//! A shard never waits for the log: when the queue is full the line is counted as dropped,
//! and the writer says how many were. When a file cannot be written the server goes on, and
//! standard error says so once a minute.

mod file;
mod format;
mod gate;
mod queue;
mod syslog;
mod writer;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use tracing::Subscriber;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload;

pub use format::Label;
pub use gate::FATAL_TARGET;
pub use queue::LogStats;

use crate::error::{os_text, path_error};
use format::{EventText, Stamp};
use gate::LevelGate;
use queue::{Command, Queue};
use writer::{Sink, Writer};

/// Logs one `FTL` line. The caller still ends the process; [`LogHandle::flush`] comes first.
#[macro_export]
macro_rules! log_fatal {
    ($($arg:tt)+) => {
        ::tracing::error!(target: $crate::logging::FATAL_TARGET, $($arg)+)
    };
}

/// The log could not be opened. Texts are nats-server's.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("error opening file: {0}")]
    File(String),
    /// The URL of the remote syslog names no transport that exists.
    #[error("error invalid network type: {0:?}")]
    Network(String),
    /// The syslog cannot be reached.
    #[error("error connecting to syslog: {0:?}")]
    Syslog(String),
    /// The writer's thread could not be started.
    #[error("error starting the log writer: {}", os_text(.0))]
    Thread(io::Error),
    /// Another log is already installed in this process.
    #[error("the log is already started")]
    AlreadyStarted,
    /// The writer is gone or did not answer in time.
    #[error("the log writer does not answer")]
    NoAnswer,
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error, in colours when it is a terminal.
    #[default]
    Stderr,
    /// A file, rotated by size.
    File {
        /// The file's path. Its mode is 0640.
        path: PathBuf,
        /// Bytes after which it is renamed and begun anew; 0 never.
        size_limit_bytes: u64,
        /// Files to keep, the current one among them; 0 all.
        files_max: usize,
    },
    /// The machine's own syslog, through its datagram socket.
    Syslog,
    /// A syslog at `udp://host:port`, `tcp://host:port` or `unix:///path`.
    RemoteSyslog(String),
}

impl LogTarget {
    /// Chooses as nats-server does when several are configured: the file, then the remote
    /// syslog, then the local one, then standard error.
    #[must_use]
    pub fn choose(
        file: Option<&Path>,
        size_limit_bytes: u64,
        files_max: usize,
        remote_syslog: Option<&str>,
        syslog: bool,
    ) -> Self {
        match (file, remote_syslog) {
            (Some(path), _) if !path.as_os_str().is_empty() => {
                Self::File { path: path.to_owned(), size_limit_bytes, files_max }
            }
            (_, Some(url)) if !url.is_empty() => Self::RemoteSyslog(url.to_owned()),
            _ if syslog => Self::Syslog,
            _ => Self::Stderr,
        }
    }
}

/// What time lines carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTime {
    /// The machine's local time.
    #[default]
    Local,
    /// UTC.
    Utc,
    /// None at all.
    Off,
}

impl LogTime {
    /// From the options `logtime` and `logtime_utc`.
    #[must_use]
    pub fn from_options(logtime: bool, utc: bool) -> Self {
        match (logtime, utc) {
            (false, _) => Self::Off,
            (true, true) => Self::Utc,
            (true, false) => Self::Local,
        }
    }
}

/// The two levels that can be switched; the others are always on. As in nats-server they
/// are independent: traces without debug lines are possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLevels {
    /// `DBG` lines.
    pub debug: bool,
    /// `TRC` lines.
    pub trace: bool,
}

/// Everything the log needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Where lines go.
    pub target: LogTarget,
    /// What time they carry.
    pub time: LogTime,
    /// Which levels are on.
    pub levels: LogLevels,
    /// Lines that may wait for the writer. Fixed at start.
    pub queue_lines_max: usize,
    /// Bytes of text that may wait for the writer. Fixed at start.
    pub queue_bytes_max: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            target: LogTarget::default(),
            time: LogTime::default(),
            levels: LogLevels::default(),
            queue_lines_max: 16 * 1024,
            queue_bytes_max: 16 * 1024 * 1024,
        }
    }
}

type Gate = reload::Layer<LevelGate, Registry>;
type Gated = Layered<Gate, Registry>;

/// How long a caller waits for the writer to obey, twice: for room in the queue and for the
/// answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The same for a flush. Short, because a log that nobody reads must not hold up the end of
/// the process: tools give it five seconds.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of this process.
#[derive(Debug)]
pub struct Logger;

impl Logger {
    /// Opens the target, starts the writer's thread and makes this the process's log.
    ///
    /// # Errors
    ///
    /// [`LogError`] when the target cannot be opened, the thread cannot be started or a log
    /// is already installed.
    pub fn start(settings: &LogSettings) -> Result<LogHandle, LogError> {
        let (subscriber, handle) = Self::build(settings)?;
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|_| LogError::AlreadyStarted)?;
        Ok(handle)
    }

    /// Like [`Logger::start`], but leaves it to the caller where the subscriber is installed.
    /// The writer ends when the subscriber and all handles are gone.
    ///
    /// # Errors
    ///
    /// As [`Logger::start`].
    pub fn build(
        settings: &LogSettings,
    ) -> Result<(impl Subscriber + Send + Sync + use<>, LogHandle), LogError> {
        let sink = open(&settings.target)?;
        Self::build_on(sink, settings)
    }

    fn build_on(
        sink: Box<dyn Sink>,
        settings: &LogSettings,
    ) -> Result<(impl Subscriber + Send + Sync + use<>, LogHandle), LogError> {
        let (queue, items) = Queue::bounded(settings.queue_lines_max, settings.queue_bytes_max);
        let writer = Writer::new(items, queue.counters(), sink, stamp(settings));
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run())
            .map_err(LogError::Thread)?;
        let (gate, reload) = reload::Layer::new(LevelGate::new(settings.levels));
        let lines: tracing_subscriber::fmt::Layer<Gated, _, EventText, Queue> =
            tracing_subscriber::fmt::layer().event_format(EventText).with_writer(queue.clone());
        let subscriber = tracing_subscriber::registry().with(gate).with(lines);
        Ok((subscriber, LogHandle { queue, gate: Arc::new(reload) }))
    }
}

/// Steers the running log. Cheap to clone. Every method may block for a few seconds
/// and belongs on a process thread, never on a shard.
#[derive(Clone, Debug)]
pub struct LogHandle {
    queue: Queue,
    gate: Arc<reload::Handle<LevelGate, Registry>>,
}

impl LogHandle {
    /// Opens the log file again under its name, after a tool has moved it away, and says so
    /// in the log. With another target there is nothing to do, which is said too. When the
    /// file cannot be opened the old one stays in use and the log says why.
    pub fn reopen(&self) {
        match self.ask(Command::Reopen) {
            Ok(Ok(true)) => tracing::info!("File log re-opened"),
            Ok(Ok(false)) => tracing::info!("File log re-open ignored, not a file logger"),
            Ok(Err(reason)) => tracing::error!("Unable to re-open the log file: {reason}"),
            Err(error) => tracing::error!("Unable to re-open the log file: {error}"),
        }
    }

    /// Switches debug and trace lines on or off, for all threads at once.
    pub fn set_levels(&self, levels: LogLevels) {
        // The only failure is a subscriber that is already gone: then nothing is logged.
        let _ = self.gate.modify(|gate| gate.set(levels));
    }

    /// Takes over new settings: target, time and levels. Lines logged before this call go to
    /// the old target. The queue keeps its size.
    ///
    /// # Errors
    ///
    /// [`LogError`] when the new target cannot be opened; then nothing has changed.
    pub fn reconfigure(&self, settings: &LogSettings) -> Result<(), LogError> {
        let sink = open(&settings.target)?;
        let stamp = stamp(settings);
        self.ask(|answer| Command::Replace { sink, stamp, answer })?;
        self.set_levels(settings.levels);
        Ok(())
    }

    /// Waits until every line logged before this call is written or given up, or two
    /// seconds. Returns whether the writer answered.
    pub fn flush(&self) -> bool {
        self.ask_within(FLUSH_TIMEOUT, Command::Flush).is_ok()
    }

    /// What was lost so far, for monitoring.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        self.queue.counters().stats()
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, LogError> {
        self.ask_within(ANSWER_TIMEOUT, command)
    }

    fn ask_within<T>(
        &self,
        timeout: Duration,
        command: impl FnOnce(Sender<T>) -> Command,
    ) -> Result<T, LogError> {
        let (answer, answers) = crossbeam_channel::bounded(1);
        self.queue.command(command(answer), timeout)?;
        answers.recv_timeout(timeout).map_err(|_| LogError::NoAnswer)
    }
}

fn open(target: &LogTarget) -> Result<Box<dyn Sink>, LogError> {
    Ok(match target {
        LogTarget::Stderr => Box::new(writer::Stream::new(io::stderr())),
        LogTarget::File { path, size_limit_bytes, files_max } => Box::new(
            file::LogFile::open(path, *size_limit_bytes, *files_max)
                .map_err(|error| LogError::File(path_error("open", path, &error)))?,
        ),
        LogTarget::Syslog => Box::new(syslog::Syslog::local()?),
        LogTarget::RemoteSyslog(url) => Box::new(syslog::Syslog::remote(url)?),
    })
}

fn stamp(settings: &LogSettings) -> Stamp {
    let colours = settings.target == LogTarget::Stderr && io::stderr().is_terminal();
    Stamp::new(std::process::id(), settings.time, colours)
}

#[cfg(test)]
mod tests;
