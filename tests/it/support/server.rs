//! One server process in a temporary folder, on random ports, ended when the value is dropped.
//!
//! `SHEARWATER_BIN` names another build to test. `SHEARWATER_ORACLE` names a nats-server binary:
//! the tests then run against that one, without the settings which only Shearwater knows.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::DEADLINE;

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    let named = oracle().or_else(|| std::env::var_os("SHEARWATER_BIN").map(PathBuf::from));
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_shearwater")))
}

/// The nats-server binary to run against instead of ours, if one was named.
pub(crate) fn oracle() -> Option<PathBuf> {
    std::env::var_os("SHEARWATER_ORACLE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The lines that a server has logged so far, and a bell for the next one.
#[derive(Default)]
struct Log {
    lines: Mutex<LogLines>,
    grown: Condvar,
}

#[derive(Default)]
struct LogLines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Collects a server's standard error until it closes.
    fn follow(self: &Arc<Self>, stderr: ChildStderr) {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lines.lock().unwrap().lines.push(line);
                log.grown.notify_all();
            }
            log.lines.lock().unwrap().ended = true;
            log.grown.notify_all();
        });
    }

    /// The first line, at or after index `from`, that `pick` takes; `None` when the server ended
    /// or the deadline passed before it came.
    fn wait<T>(&self, from: usize, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + DEADLINE;
        let mut lines = self.lines.lock().unwrap();
        let mut next = from;
        loop {
            while let Some(line) = lines.lines.get(next) {
                if let Some(found) = pick(line) {
                    return Some(found);
                }
                next += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.ended || left.is_zero() {
                return None;
            }
            lines = self.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().lines.join("\n")
    }

    fn len(&self) -> usize {
        self.lines.lock().unwrap().lines.len()
    }
}

/// What to start.
#[derive(Clone)]
pub(crate) struct Options {
    config: Option<String>,
    flags: Vec<OsString>,
    shards: usize,
    port: Option<u16>,
    log_to_stderr: bool,
    variables: Vec<(String, String)>,
    files_max: Option<u32>,
}

impl Options {
    /// A server with neither configuration nor flags, on two shards.
    pub(crate) fn new() -> Self {
        Self {
            config: None,
            flags: Vec::new(),
            shards: 2,
            port: None,
            log_to_stderr: true,
            variables: Vec::new(),
            files_max: None,
        }
    }

    /// The text of the configuration file. `{dir}` stands for the server's folder.
    pub(crate) fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// More command-line arguments.
    pub(crate) fn flags<S: Into<OsString>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// How many shards serve; nats-server has none and takes no notice.
    pub(crate) fn shards(mut self, count: usize) -> Self {
        self.shards = count;
        self
    }

    /// A fixed client port, for a server that comes back where another one was.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// A variable of its environment. `{dir}` stands for the server's folder.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How many files the process may have open (`ulimit -n`).
    pub(crate) fn files_max(mut self, count: u32) -> Self {
        self.files_max = Some(count);
        self
    }

    /// The server logs elsewhere, so that readiness is read from its ports file.
    pub(crate) fn log_elsewhere(mut self) -> Self {
        self.log_to_stderr = false;
        self
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn start(self) -> Server {
        let server = self.spawn(tempfile::tempdir().unwrap());
        server.unwrap_or_else(|log| panic!("the server did not become ready:\n{log}"))
    }

    /// Starts a server that must refuse to run; gives its exit status and what it said.
    pub(crate) fn start_refused(self) -> (ExitStatus, String) {
        let dir = tempfile::tempdir().unwrap();
        let output = self.command(dir.path()).output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stdout));
        (output.status, text)
    }

    fn command(&self, dir: &Path) -> Command {
        let mut command = self.program();
        for (name, value) in &self.variables {
            command.env(name, value.replace("{dir}", &dir.display().to_string()));
        }
        command.current_dir(dir).env_remove("NO_COLOR");
        command.args(["-a", "127.0.0.1", "-p"]);
        command.arg(self.port.map_or_else(|| String::from("-1"), |port| port.to_string()));
        let config = with_shards(self.config.as_deref().unwrap_or_default(), dir, self.shards);
        if self.config.is_some() || !config.trim().is_empty() {
            std::fs::write(dir.join("server.conf"), config).unwrap();
            command.arg("-c").arg(dir.join("server.conf"));
        }
        command.args(["--ports_file_dir".as_ref(), dir.as_os_str()]);
        command.args(&self.flags);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The binary, behind a shell that lowers a limit first if one is asked for.
    fn program(&self) -> Command {
        let Some(count) = self.files_max else { return Command::new(binary()) };
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\"")]).arg(binary());
        shell
    }

    fn spawn(self, dir: TempDir) -> Result<Server, String> {
        let options = self.clone();
        let mut child = self.command(dir.path()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Log::default());
        log.follow(child.stderr.take().unwrap());
        let mut server =
            Server { child, log, dir, port: 0, monitor_port: None, shards: self.shards, options };
        let ready = if self.log_to_stderr {
            server.read_ports_from_log()
        } else {
            server.read_ports_file()
        };
        if ready { Ok(server) } else { Err(server.log.text()) }
    }
}

/// The configuration with `{dir}` filled in and, for Shearwater, the number of shards added.
fn with_shards(config: &str, dir: &Path, shards: usize) -> String {
    let text = config.replace("{dir}", &dir.display().to_string());
    if oracle().is_some() || text.contains("shards") {
        return text;
    }
    format!("{text}\nshards {{ count: {shards} }}\n")
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    log: Arc<Log>,
    dir: TempDir,
    shards: usize,
    options: Options,
    /// The client port.
    pub(crate) port: u16,
    /// The port of the monitoring pages, if they are on.
    pub(crate) monitor_port: Option<u16>,
}

impl Server {
    /// A server on two shards with this configuration.
    pub(crate) fn with_config(text: &str) -> Self {
        Options::new().config(text).start()
    }

    /// A server on two shards without configuration.
    pub(crate) fn plain() -> Self {
        Options::new().start()
    }

    /// A server on two shards with monitoring on a random port.
    pub(crate) fn monitored(text: &str) -> Self {
        Options::new().config(text).flags(["-m", "-1"]).start()
    }

    fn read_ports_from_log(&mut self) -> bool {
        let port_in = |line: &str| line.rsplit(':').next()?.trim().parse::<u16>().ok();
        if self.log.wait(0, |line| line.ends_with("Server is ready").then_some(())).is_none() {
            return false;
        }
        for line in self.log.text().lines() {
            if line.contains("Listening for client connections on ") {
                self.port = port_in(line).unwrap_or_default();
            } else if line.contains("Starting http monitor on ") {
                self.monitor_port = port_in(line);
            }
        }
        self.port != 0
    }

    fn read_ports_file(&mut self) -> bool {
        let path = self.ports_file();
        let ports = super::poll("the ports file", || {
            let text = std::fs::read(&path).ok()?;
            serde_json::from_slice::<serde_json::Value>(&text).ok()
        });
        let port_of = |kind: &str| {
            let url = ports[kind][0].as_str()?;
            url.rsplit(':').next()?.parse::<u16>().ok()
        };
        self.port = port_of("nats").unwrap_or_default();
        self.monitor_port = port_of("monitoring");
        self.port != 0
    }

    /// Where the server writes its ports file: named after the program and its process id.
    pub(crate) fn ports_file(&self) -> PathBuf {
        let program = binary().file_name().unwrap().to_string_lossy().into_owned();
        self.dir.path().join(format!("{program}_{}.ports", self.child.id()))
    }

    /// The server's own folder: its configuration, its files, its working directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The URL that client libraries take.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Replaces the configuration file, asks for a reload and waits for the log to tell its end.
    /// Gives the line that told it.
    pub(crate) fn reload(&self, text: &str) -> String {
        let config = with_shards(text, self.dir.path(), self.shards);
        std::fs::write(self.dir.path().join("server.conf"), config).unwrap();
        let seen = self.log.len();
        self.signal(Signal::HUP);
        let ends = ["Reloaded server configuration", "Failed to reload server configuration"];
        let line = self.log.wait(seen, |line| {
            ends.iter().any(|end| line.contains(end)).then(|| String::from(line))
        });
        line.unwrap_or_else(|| panic!("no end of the reload in the log:\n{}", self.log.text()))
    }

    /// Waits for a log line that contains `needle` and gives it.
    pub(crate) fn wait_log(&self, needle: &str) -> String {
        let line = self.log.wait(0, |line| line.contains(needle).then(|| String::from(line)));
        line.unwrap_or_else(|| panic!("no {needle:?} in the log:\n{}", self.log.text()))
    }

    /// Everything logged so far.
    pub(crate) fn log_text(&self) -> String {
        self.log.text()
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        super::poll("the server's exit", || child.try_wait().unwrap())
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends the process by SIGTERM and starts it again in the same folder, with the configuration
    /// it was started with and, unless one was fixed, on another port.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Ends the process by SIGTERM and leaves its folder as it is.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.wait_exit();
    }

    /// Ends the process by SIGKILL and leaves its folder as it is.
    pub(crate) fn crash(&mut self) {
        self.end();
    }

    /// After [`Server::stop`] or [`Server::crash`]: starts it in the same folder, as
    /// [`Server::restart`] does.
    pub(crate) fn start_again(&mut self) {
        let ready = self.try_start_again();
        assert!(ready, "the server did not come back:\n{}", self.log.text());
    }

    /// As [`Server::start_again`], but with other options.
    pub(crate) fn start_with(&mut self, options: Options) {
        self.options = options;
        self.start_again();
    }

    /// As [`Server::start_again`]; false when it ended before it was ready.
    pub(crate) fn try_start_again(&mut self) -> bool {
        self.begin();
        if self.options.log_to_stderr { self.read_ports_from_log() } else { self.read_ports_file() }
    }

    /// Starts the process again and does not wait for anything.
    pub(crate) fn begin(&mut self) {
        let mut child =
            self.options.command(self.dir.path()).stdout(Stdio::null()).spawn().unwrap();
        self.log = Arc::new(Log::default());
        self.log.follow(child.stderr.take().unwrap());
        self.child = child;
    }

    /// Ends the process the hard way and gives its port, on which the next one can start.
    pub(crate) fn kill(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        // The process may be gone already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Resident memory of the process in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let crashed = matches!(self.child.try_wait(), Ok(Some(status)) if !status.success());
        self.end();
        let text = self.log.text();
        if std::thread::panicking() || crashed {
            let skip = text.lines().count().saturating_sub(60);
            eprintln!("--- the server's log ---");
            text.lines().skip(skip).for_each(|line| eprintln!("{line}"));
        }
    }
}
