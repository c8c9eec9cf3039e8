//! A server under test as a child process: own directory, free port, pinned, stopped cleanly.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::store::Store;
use crate::client::handshake::Target;
use crate::client::tls::{Trust, client_config};
use crate::error::{During, HarnessError, Result};
use crate::measure::affinity;
use crate::scenario::{End, Host, Restarted};

/// How long a server may take to listen; a large store takes a while to read.
const START_PATIENCE: Duration = Duration::from_secs(180);
/// How long a server may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// What both servers log when they are ready.
const READY: &str = "Listening for client connections on ";

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The binary.
    pub binary: PathBuf,
    /// CPUs it may use.
    pub cpus: Vec<usize>,
    /// Our own `shards` block, or empty for nats-server.
    pub shards: String,
    /// Listen with TLS, with a certificate made for this run.
    pub tls: bool,
    /// With JetStream.
    pub jetstream: Option<JetStream>,
}

/// How to start JetStream.
#[derive(Clone, Debug)]
pub struct JetStream {
    /// `sync_interval` as it stands in the configuration; `None` leaves the server's default.
    pub sync_interval: Option<String>,
    /// Where the store is made.
    pub store_parent: Option<PathBuf>,
    /// Bytes that must be free there.
    pub bytes_needed: u64,
}

impl JetStream {
    fn block(&self, store: &Path) -> String {
        let sync = self.sync_interval.as_ref().map(|s| format!("  sync_interval: \"{s}\"\n"));
        format!(
            "jetstream {{\n  store_dir: \"{}\"\n{}  max_memory_store: 4GB\n  \
             max_file_store: 16GB\n}}\n",
            store.display(),
            sync.unwrap_or_default()
        )
    }
}

/// The process of the moment.
struct Running {
    child: Child,
    starts: usize,
}

/// A running server. Dropping it kills it.
pub struct Server {
    launch: Launch,
    running: Mutex<Running>,
    dir: TempDir,
    /// Kept for its directory, which goes with it.
    _store: Option<Store>,
    /// Where it listens and how to connect, before any restart.
    pub target: Target,
}

impl Server {
    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// The binary cannot be run, exits early, or does not listen in time; its log is quoted.
    /// The store's disk has too little room.
    pub fn start(launch: &Launch) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir().during("make a directory")?;
        let mut config = String::from("host: \"127.0.0.1\"\nport: -1\n");
        config.push_str(&launch.shards);
        let mut store = None;
        if let Some(jetstream) = &launch.jetstream {
            let made = Store::make(jetstream.store_parent.as_deref(), jetstream.bytes_needed)?;
            config.push_str(&jetstream.block(made.path()));
            store = Some(made);
        }
        let mut trust = None;
        if launch.tls {
            config.push_str(&certificate(dir.path())?);
            trust = Some(Trust::Ca(dir.path().join("cert.pem")));
        }
        fs::write(dir.path().join("server.conf"), config).during("write server.conf")?;
        let (child, port) = execute(launch, dir.path(), 1)?;
        let tls = trust.map(|t| client_config(&t)).transpose()?;
        let target = Target {
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            host: "localhost".into(),
            login: String::new(),
            tls,
            no_responders: false,
        };
        let running = Mutex::new(Running { child, starts: 1 });
        Ok(Self { launch: launch.clone(), running, dir, _store: store, target })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// Stops it with SIGTERM.
    ///
    /// # Errors
    /// It was dead already, or does not stop in time.
    pub fn stop(&self) -> Result<()> {
        self.end(&mut self.running())
    }

    /// Kills it, for servers that take minutes to stop.
    ///
    /// # Errors
    /// It was dead already.
    pub fn kill(&self) -> Result<()> {
        self.shoot(&mut self.running())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(self.dir.path(), self.running().starts)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // A panic of another load thread leaves the child as it is.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, running: &mut Running) -> Result<()> {
        self.check_alive(running)?;
        let pid = i32::try_from(running.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| HarnessError::Server("a strange process id".into()))?;
        kill_process(pid, Signal::TERM).during("stop the server")?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if running.child.try_wait().during("wait for the server")?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(1));
        }
        Err(self.failed(running, "it did not stop after SIGTERM"))
    }

    fn shoot(&self, running: &mut Running) -> Result<()> {
        self.check_alive(running)?;
        running.child.kill().during("kill the server")?;
        running.child.wait().during("wait for the server").map(|_| ())
    }

    fn check_alive(&self, running: &mut Running) -> Result<()> {
        match running.child.try_wait().during("wait for the server")? {
            Some(status) => Err(self.failed(running, &format!("it had ended by itself: {status}"))),
            None => Ok(()),
        }
    }

    fn failed(&self, running: &Running, why: &str) -> HarnessError {
        HarnessError::Server(format!("{why}\n{}", log_tail(self.dir.path(), running.starts)))
    }
}

impl Host for Server {
    fn restart(&self, how: End) -> Result<Restarted> {
        let mut running = self.running();
        let asked_at = Instant::now();
        match how {
            End::Asked => self.end(&mut running)?,
            End::Killed => self.shoot(&mut running)?,
        }
        let stop = asked_at.elapsed();
        running.starts += 1;
        let exec_at = Instant::now();
        let (child, port) = execute(&self.launch, self.dir.path(), running.starts)?;
        running.child = child;
        let addr = SocketAddr::new(self.target.addr.ip(), port);
        let target = Target { addr, ..self.target.clone() };
        Ok(Restarted { target, pid: running.child.id(), exec_at, stop })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !matches!(running.child.try_wait(), Ok(Some(_))) {
            // Nothing more can be done for a child that cannot be killed.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// Executes the binary, for the given time in this directory, and waits until it listens.
fn execute(launch: &Launch, dir: &Path, start: usize) -> Result<(Child, u16)> {
    let log = File::create(log_path(dir, start)).during("create the server's log")?;
    let mut command = Command::new(&launch.binary);
    command.arg("-c").arg(dir.join("server.conf")).current_dir(dir);
    let copy = log.try_clone().during("share the server's log")?;
    command.stdin(Stdio::null()).stdout(copy).stderr(log);
    let mut child = spawn_on(&mut command, &launch.cpus)?;
    match await_port(&mut child, dir, start) {
        Ok(port) => Ok((child, port)),
        Err(error) => {
            // The child is ours; that it is gone already is no further error.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn log_path(dir: &Path, start: usize) -> PathBuf {
    dir.join(format!("server-{start}.log"))
}

/// Starts the command from a thread that may use only `cpus`; the child inherits that.
fn spawn_on(command: &mut Command, cpus: &[usize]) -> Result<Child> {
    let what = format!("start {}", command.get_program().to_string_lossy());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if !cpus.is_empty() {
                affinity::restrict_to(cpus)?;
            }
            command.spawn().during(what)
        });
        thread.join().unwrap_or_else(|_| Err(HarnessError::Server("the starter died".into())))
    })
}

fn await_port(child: &mut Child, dir: &Path, start: usize) -> Result<u16> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let log = fs::read_to_string(log_path(dir, start)).during("read the server's log")?;
        if let Some(port) = port_in(&log) {
            return Ok(port);
        }
        let ended = child.try_wait().during("wait for the server")?;
        let tail = || log_tail(dir, start);
        if let Some(status) = ended {
            let why = format!("it ended at once: {status}\n{}", tail());
            return Err(HarnessError::Server(why));
        }
        if Instant::now() >= deadline {
            return Err(HarnessError::Server(format!("it does not listen\n{}", tail())));
        }
        sleep(Duration::from_millis(1));
    }
}

/// The port in the ready line, once that line is complete.
fn port_in(log: &str) -> Option<u16> {
    let rest = log.split_once(READY)?.1;
    let (address, _) = rest.split_once('\n')?;
    address.trim().rsplit_once(':')?.1.parse().ok()
}

fn log_tail(dir: &Path, start: usize) -> String {
    let log = fs::read_to_string(log_path(dir, start)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}

/// Makes a certificate for localhost and returns the `tls` block that uses it.
fn certificate(dir: &Path) -> Result<String> {
    let bad = |e: rcgen::Error| HarnessError::Tls(e.to_string());
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(bad)?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert, made.cert.pem()).during("write cert.pem")?;
    fs::write(&key, made.signing_key.serialize_pem()).during("write key.pem")?;
    Ok(format!(
        "tls {{\n  cert_file: \"{}\"\n  key_file: \"{}\"\n}}\n",
        cert.display(),
        key.display()
    ))
}

/// What the binary says of itself with `--version`.
#[must_use]
pub fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.ok().filter(|t| !t.is_empty()).unwrap_or_else(|| "unknown version".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_port_in_a_whole_line_only() {
        let line = "[7] 2026/11/24 08:40:06.510438 [INF] Listening for client connections on ";
        assert_eq!(port_in(&format!("{line}127.0.0.1:35351\n[7] x")), Some(35351));
        assert_eq!(port_in(&format!("{line}127.0.0.1:353")), None);
        assert_eq!(port_in("nothing\n"), None);
    }

    #[test]
    fn the_jetstream_block_states_the_durability() {
        let block = |sync: Option<&str>| {
            let sync_interval = sync.map(str::to_owned);
            let jetstream = JetStream { sync_interval, store_parent: None, bytes_needed: 0 };
            jetstream.block(Path::new("/s"))
        };
        assert!(block(Some("always")).contains("sync_interval: \"always\""));
        assert!(block(None).contains("store_dir: \"/s\"") && !block(None).contains("sync"));
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_its_log() {
        let launch = Launch {
            binary: "/bin/ls".into(),
            cpus: Vec::new(),
            shards: String::new(),
            tls: false,
            jetstream: None,
        };
        let Err(error) = Server::start(&launch) else { panic!("ls became a server") };
        assert!(error.to_string().contains("ended at once"), "{error}");
    }
}
