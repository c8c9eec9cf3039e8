//! The log as a whole: events in, lines out.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::format::Line;
use super::queue::Item;
use super::writer::Stream;
use super::*;

/// A stream whose text the test can look at.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines without their `[pid] ` and, as the tests switch it off, without time.
    fn lines(&self) -> Vec<String> {
        let prefix = format!("[{}] ", std::process::id());
        self.text().lines().map(|line| line.strip_prefix(&prefix).unwrap().to_owned()).collect()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn settings() -> LogSettings {
    LogSettings { time: LogTime::Off, ..LogSettings::default() }
}

/// Runs `log` with a log of its own and returns its lines.
fn lines_of(levels: LogLevels, log: impl FnOnce(&LogHandle)) -> Vec<String> {
    let shared = Shared::default();
    let settings = LogSettings { levels, ..settings() };
    let (subscriber, handle) =
        Logger::build_on(Box::new(Stream::new(shared.clone())), &settings).unwrap();
    tracing::subscriber::with_default(subscriber, || log(&handle));
    assert!(handle.flush());
    shared.lines()
}

fn one_of_each() {
    tracing::info!("i");
    tracing::warn!("w");
    tracing::error!("e");
    tracing::debug!("d");
    tracing::trace!("t");
    log_fatal!("f {}", 1);
}

#[test]
fn levels_become_labels() {
    let lines = lines_of(LogLevels { debug: true, trace: true }, |_| one_of_each());
    assert_eq!(lines, ["[INF] i", "[WRN] w", "[ERR] e", "[DBG] d", "[TRC] t", "[FTL] f 1"]);
}

#[test]
fn debug_and_trace_are_switched_apart_and_while_running() {
    let lines = lines_of(LogLevels { debug: false, trace: true }, |handle| {
        tracing::debug!("no");
        tracing::trace!("1");
        handle.set_levels(LogLevels { debug: true, trace: false });
        tracing::debug!("2");
        tracing::trace!("no");
        handle.set_levels(LogLevels::default());
        tracing::debug!("no");
        tracing::info!("3");
    });
    assert_eq!(lines, ["[TRC] 1", "[DBG] 2", "[INF] 3"]);
}

#[test]
fn other_crates_are_heard_only_when_it_matters() {
    let lines = lines_of(LogLevels { debug: true, trace: true }, |_| {
        tracing::info!(target: "glommio::executor", "no");
        tracing::trace!(target: "glommio", "no");
        tracing::warn!(target: "glommio", "heard");
        tracing::trace!(target: "reactor::conn", "<<- [PING]");
    });
    assert_eq!(lines, ["[WRN] heard", "[TRC] <<- [PING]"]);
}

#[test]
fn fields_follow_the_message_and_lines_cannot_be_forged() {
    let lines = lines_of(LogLevels::default(), |_| {
        let name = "x\n[1] [FTL] forged";
        tracing::info!(cid = 5, name, "client");
        tracing::info!("{name}");
    });
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], "[INF] client cid=5 name=x\\n[1] [FTL] forged");
}

#[test]
fn a_full_queue_drops_and_says_how_many() {
    // Nothing takes from the queue yet, so that it fills up.
    let (queue, items) = Queue::bounded(4, 10);
    let log = |text: &str| {
        use tracing_subscriber::fmt::MakeWriter;
        queue.make_writer().write_all(text.as_bytes()).unwrap();
    };
    log("12345");
    log("too many bytes");
    log("123");
    for _ in 0..3 {
        log("x");
    }
    assert_eq!(queue.counters().stats().dropped_lines, 2);
    let shared = Shared::default();
    let sink = Box::new(Stream::new(shared.clone()));
    let writer = Writer::new(items, queue.counters(), sink, stamp(&settings()));
    let counters = queue.counters();
    drop(queue);
    writer.run();
    assert_eq!(
        shared.lines(),
        [
            "[INF] 12345",
            "[INF] 123",
            "[INF] x",
            "[INF] x",
            "[WRN] 2 log lines dropped: they came faster than the log is written",
        ]
    );
    assert_eq!(counters.stats(), LogStats { dropped_lines: 2, lost_lines: 0 });
}

/// Fails while told to.
struct Faulty {
    inner: Stream<Shared>,
    failures_left: u32,
}

impl Sink for Faulty {
    fn append(&mut self, line: &Line, stamp: &mut Stamp) -> io::Result<()> {
        self.inner.append(line, stamp)
    }

    fn commit(&mut self) -> io::Result<()> {
        if self.failures_left > 0 {
            self.failures_left -= 1;
            self.inner = Stream::new(Shared::default());
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.commit()
    }

    fn has_pending(&self) -> bool {
        self.inner.has_pending()
    }

    fn name(&self) -> Option<String> {
        Some("x.log".into())
    }
}

#[test]
fn a_full_disk_is_told_once_on_stderr_and_once_in_the_log() {
    let (queue, items) = Queue::bounded(100, 1000);
    let (shared, complaints) = (Shared::default(), Shared::default());
    let sink = Faulty { inner: Stream::new(Shared::default()), failures_left: 2 };
    let counters = queue.counters();
    let writer = Writer::new(items, queue.counters(), Box::new(sink), stamp(&settings()))
        .complaining_to(Box::new(complaints.clone()));
    let thread = std::thread::spawn(move || writer.run());
    let line = |text: &str| {
        Item::Line(Line { label: Label::Info, at: SystemTime::now(), text: text.into() })
    };
    let flush = || {
        let (answer, answers) = crossbeam_channel::bounded(1);
        queue.command(Command::Flush(answer), ANSWER_TIMEOUT).unwrap();
        answers.recv().unwrap();
    };
    for text in ["lost", "lost too"] {
        queue.send_for_test(line(text));
        flush();
    }
    let said = complaints.text();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("nats-server: cannot write the log to x.log: "), "{said}");
    assert!(said.ends_with("1 lines lost, still serving\n"), "{said}");
    assert_eq!(counters.stats().lost_lines, 2);
    // The disk has room again: the next lines arrive, with one about what is missing.
    let (answer, answers) = crossbeam_channel::bounded(1);
    let sink: Box<dyn Sink> =
        Box::new(Faulty { inner: Stream::new(shared.clone()), failures_left: 0 });
    let stamp = stamp(&settings());
    queue.send_for_test(line("unharmed"));
    flush();
    queue.command(Command::Replace { sink, stamp, answer }, ANSWER_TIMEOUT).unwrap();
    answers.recv().unwrap();
    queue.send_for_test(line("written"));
    flush();
    drop(queue);
    thread.join().unwrap();
    assert_eq!(shared.lines(), ["[INF] written"]);
}

/// A stream that nobody reads: writing ends only when the test lets it.
struct Stuck(crossbeam_channel::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let (release, stuck) = crossbeam_channel::bounded::<()>(0);
    let settings = LogSettings { queue_lines_max: 8, ..settings() };
    let sink = Box::new(Stream::new(Stuck(stuck)));
    let (subscriber, handle) = Logger::build_on(sink, &settings).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        // Far more than fits in queue and batch together.
        for at in 0..1000 {
            tracing::info!("line {at}");
        }
        assert!(handle.stats().dropped_lines > 0);
        assert!(!handle.flush(), "nothing is written");
        drop(release);
        assert!(handle.flush());
    });
}

#[test]
fn recovery_is_told_in_the_log() {
    let (queue, items) = Queue::bounded(100, 1000);
    let dir = tempfile::tempdir().unwrap();
    // A symbolic link to a device that is always full, then to a plain file.
    let path = dir.path().join("x.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let sink = open(&LogTarget::File { path: path.clone(), size_limit_bytes: 0, files_max: 0 });
    let complaints = Shared::default();
    let writer = Writer::new(items, queue.counters(), sink.unwrap(), stamp(&settings()))
        .complaining_to(Box::new(complaints.clone()));
    let thread = std::thread::spawn(move || writer.run());
    let ask = |command: &dyn Fn(Sender<()>) -> Command| {
        let (answer, answers) = crossbeam_channel::bounded(1);
        queue.command(command(answer), ANSWER_TIMEOUT).unwrap();
        answers.recv().unwrap();
    };
    let line = |text: &str| {
        Item::Line(Line { label: Label::Info, at: SystemTime::now(), text: text.into() })
    };
    queue.send_for_test(line("lost"));
    ask(&Command::Flush);
    assert!(complaints.text().contains("no space left on device"), "{}", complaints.text());
    std::fs::remove_file(&path).unwrap();
    let (answer, answers) = crossbeam_channel::bounded(1);
    queue.command(Command::Reopen(answer), ANSWER_TIMEOUT).unwrap();
    assert_eq!(answers.recv().unwrap(), Ok(true));
    queue.send_for_test(line("back"));
    ask(&Command::Flush);
    drop(queue);
    thread.join().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("[INF] back\n"), "{text}");
    assert!(text.ends_with("[WRN] 1 log lines were lost while the log could not be written\n"));
}

#[test]
fn a_moved_file_is_opened_again_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let target = LogTarget::File { path: path.clone(), size_limit_bytes: 0, files_max: 0 };
    let (subscriber, handle) = Logger::build(&LogSettings { target, ..settings() }).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("old");
        assert!(handle.flush());
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        handle.reopen();
        assert!(handle.flush());
    });
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(read("moved").ends_with("[INF] old\n"));
    assert_eq!(read("x.log"), format!("[{}] [INF] File log re-opened\n", std::process::id()));
}

#[test]
fn other_targets_ignore_reopening() {
    let lines = lines_of(LogLevels::default(), LogHandle::reopen);
    assert_eq!(lines, ["[INF] File log re-open ignored, not a file logger"]);
}

#[test]
fn reconfiguring_moves_to_a_new_file_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| LogSettings {
        target: LogTarget::File { path: dir.path().join(name), size_limit_bytes: 0, files_max: 0 },
        ..settings()
    };
    let (subscriber, handle) = Logger::build(&file("a.log")).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("1");
        let refusal = handle.reconfigure(&file("none/b.log")).unwrap_err().to_string();
        assert!(refusal.starts_with("error opening file: open /"), "{refusal}");
        assert!(refusal.ends_with("none/b.log: no such file or directory"), "{refusal}");
        tracing::info!("2");
        let levels = LogLevels { debug: true, trace: false };
        handle.reconfigure(&LogSettings { levels, ..file("b.log") }).unwrap();
        tracing::debug!("3");
        assert!(handle.flush());
    });
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("a.log").lines().count(), 2);
    assert!(read("b.log").ends_with("[DBG] 3\n"));
}

#[test]
fn targets_are_chosen_in_nats_servers_order() {
    let choose = |file: Option<&str>, remote, syslog| {
        LogTarget::choose(file.map(Path::new), 5, 6, remote, syslog)
    };
    assert!(matches!(
        choose(Some("f"), Some("udp://x"), true),
        LogTarget::File { size_limit_bytes: 5, files_max: 6, .. }
    ));
    assert_eq!(choose(None, Some("udp://x"), true), LogTarget::RemoteSyslog("udp://x".into()));
    assert_eq!(choose(Some(""), Some(""), true), LogTarget::Syslog);
    assert_eq!(choose(None, None, false), LogTarget::Stderr);
}
