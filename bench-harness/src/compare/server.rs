//! A server under test as a child process: own directory, free port, pinned, stopped cleanly.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::handshake::Target;
use crate::client::tls::{Trust, client_config};
use crate::error::{During, HarnessError, Result};
use crate::measure::affinity;

/// How long a server may take to listen, and to stop.
const PATIENCE: Duration = Duration::from_secs(15);
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
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    dir: TempDir,
    /// Where it listens and how to connect.
    pub target: Target,
}

impl Server {
    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// The binary cannot be run, exits early, or does not listen in time; its log is quoted.
    pub fn start(launch: &Launch) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir().during("make a directory")?;
        let mut config = String::from("host: \"127.0.0.1\"\nport: -1\n");
        config.push_str(&launch.shards);
        let mut trust = None;
        if launch.tls {
            config.push_str(&certificate(dir.path())?);
            trust = Some(Trust::Ca(dir.path().join("cert.pem")));
        }
        let config_path = dir.path().join("server.conf");
        fs::write(&config_path, config).during("write server.conf")?;
        let log = File::create(dir.path().join("server.log")).during("create server.log")?;
        let mut command = Command::new(&launch.binary);
        command.arg("-c").arg(&config_path).current_dir(dir.path());
        let copy = log.try_clone().during("share server.log")?;
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        let mut child = spawn_on(&mut command, &launch.cpus)?;
        let port = match await_port(&mut child, dir.path()) {
            Ok(port) => port,
            Err(error) => {
                // The child is ours; that it is gone already is no further error.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let tls = trust.map(|t| client_config(&t)).transpose()?;
        let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let target = Target { addr, host: "localhost".into(), login: String::new(), tls };
        Ok(Self { child, dir, target })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it with SIGTERM.
    ///
    /// # Errors
    /// It was dead already, or does not stop in time (it is killed then).
    pub fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().during("wait for the server")? {
            return Err(self.failed(&format!("it had ended by itself: {status}")));
        }
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| HarnessError::Server("a strange process id".into()))?;
        kill_process(pid, Signal::TERM).during("stop the server")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().during("wait for the server")?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(5));
        }
        Err(self.failed("it did not stop after SIGTERM"))
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(self.dir.path())
    }

    fn failed(&self, why: &str) -> HarnessError {
        HarnessError::Server(format!("{why}\n{}", self.log_tail()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Nothing more can be done for a child that cannot be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
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

fn await_port(child: &mut Child, dir: &Path) -> Result<u16> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = fs::read_to_string(dir.join("server.log")).during("read server.log")?;
        if let Some(port) = port_in(&log) {
            return Ok(port);
        }
        let ended = child.try_wait().during("wait for the server")?;
        let tail = || log_tail(dir);
        if let Some(status) = ended {
            let why = format!("it ended at once: {status}\n{}", tail());
            return Err(HarnessError::Server(why));
        }
        if Instant::now() >= deadline {
            return Err(HarnessError::Server(format!("it does not listen\n{}", tail())));
        }
        sleep(Duration::from_millis(5));
    }
}

/// The port in the ready line, once that line is complete.
fn port_in(log: &str) -> Option<u16> {
    let rest = log.split_once(READY)?.1;
    let (address, _) = rest.split_once('\n')?;
    address.trim().rsplit_once(':')?.1.parse().ok()
}

fn log_tail(dir: &Path) -> String {
    let log = fs::read_to_string(dir.join("server.log")).unwrap_or_default();
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
    fn a_server_that_ends_at_once_is_an_error_with_its_log() {
        let launch = Launch {
            binary: "/bin/ls".into(),
            cpus: Vec::new(),
            shards: String::new(),
            tls: false,
        };
        let Err(error) = Server::start(&launch) else { panic!("ls became a server") };
        assert!(error.to_string().contains("ended at once"), "{error}");
    }
}
