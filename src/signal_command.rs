//! `--signal`: finds a running server and sends it a signal.
//!
//! `<signal>` alone goes to the only server on the machine, `<signal>=<pid>` to that
//! process, `<signal>=<file>` to the process whose pid file that is, `<signal>=<digits>*` to
//! every server whose pid begins so. Texts and the order of checks are nats-server's, with
//! one difference: a pid of 0 or below, which would name a process group, is refused.

use std::fs;
use std::io;

use rustix::process::{Pid, Signal};

use crate::error::os_text;

/// Names a server runs under, as the kernel cuts them (15 letters).
const PROCESS_NAMES: [&str; 2] = ["nats-server", "shearwater"];

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerSignal {
    /// `stop`: SIGKILL.
    Stop,
    /// `quit`: SIGINT, immediate shutdown.
    Quit,
    /// `term`: SIGTERM, graceful shutdown.
    Term,
    /// `reopen`: SIGUSR1, open the log file again.
    Reopen,
    /// `reload`: SIGHUP, read the configuration again.
    Reload,
    /// `ldm`: SIGUSR2, lame duck mode.
    LameDuck,
}

impl ServerSignal {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "stop" => Self::Stop,
            "quit" => Self::Quit,
            "term" => Self::Term,
            "reopen" => Self::Reopen,
            "reload" => Self::Reload,
            "ldm" => Self::LameDuck,
            _ => return None,
        })
    }

    fn number(self) -> Signal {
        match self {
            Self::Stop => Signal::KILL,
            Self::Quit => Signal::INT,
            Self::Term => Signal::TERM,
            Self::Reopen => Signal::USR1,
            Self::Reload => Signal::HUP,
            Self::LameDuck => Signal::USR2,
        }
    }
}

/// The signal could not be sent, in nats-server's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// More than one `=`.
    #[error("invalid signal parameters: [{0}]")]
    Parameters(String),
    /// The signal has no such name.
    #[error("unknown signal {0:?}")]
    Unknown(String),
    /// The target is neither a pid nor a file that holds one.
    #[error("invalid pid: {0}")]
    Pid(String),
    /// No target was named and no server runs.
    #[error("no nats-server processes running")]
    NoneRunning,
    /// No target was named and several servers run.
    #[error("multiple nats-server processes running:\n{}", lines(.0))]
    SeveralRunning(Vec<i32>),
    /// The kernel refused, one line per process.
    #[error("\n{}", .0.join("\n"))]
    Refused(Vec<String>),
}

fn lines(pids: &[i32]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The parts of the machine that the command needs. Tests put their own in its place.
trait Machine {
    /// Pids of all servers but this process, in rising order.
    fn server_pids(&self) -> Vec<i32>;
    /// The content of a file, when there is one.
    fn read(&self, path: &str) -> Option<String>;
    /// Sends the signal.
    fn kill(&self, pid: Pid, signal: Signal) -> io::Result<()>;
}

/// Obeys the text after `--signal`.
///
/// # Errors
///
/// [`SignalError`], for standard error and exit code 1.
pub fn run(text: &str) -> Result<(), SignalError> {
    run_on(&Kernel, text)
}

fn run_on(machine: &impl Machine, text: &str) -> Result<(), SignalError> {
    let mut parts = text.split('=');
    let name = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    if !rest.is_empty() {
        return Err(SignalError::Parameters(rest.join(" ")));
    }
    let pids = resolve(machine, target)?;
    let signal =
        ServerSignal::from_name(name).ok_or_else(|| SignalError::Unknown(name.to_owned()))?;
    let mut refused = Vec::new();
    for pid in pids {
        if let Err(error) = send(machine, pid, signal) {
            refused.push(format!("signal {name:?} {pid}: {}", os_text(&error)));
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(SignalError::Refused(refused)) }
}

fn send(machine: &impl Machine, pid: i32, signal: ServerSignal) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    machine.kill(pid, signal.number())
}

fn resolve(machine: &impl Machine, target: &str) -> Result<Vec<i32>, SignalError> {
    let Some(prefix) = target.strip_suffix('*') else {
        return match target {
            "" => only_server(machine),
            _ => Ok(vec![named_pid(machine, target)?]),
        };
    };
    if !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(SignalError::Pid(prefix.to_owned()));
    }
    let running = machine.server_pids();
    if running.is_empty() {
        return Err(SignalError::NoneRunning);
    }
    Ok(running.into_iter().filter(|pid| pid.to_string().starts_with(prefix)).collect())
}

fn only_server(machine: &impl Machine) -> Result<Vec<i32>, SignalError> {
    let running = machine.server_pids();
    match running.len() {
        0 => Err(SignalError::NoneRunning),
        1 => Ok(running),
        _ => Err(SignalError::SeveralRunning(running)),
    }
}

fn named_pid(machine: &impl Machine, target: &str) -> Result<i32, SignalError> {
    let text = machine.read(target).unwrap_or_else(|| target.to_owned());
    let text = text.trim();
    // A process group would take bystanders along.
    match text.parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(SignalError::Pid(text.to_owned())),
    }
}

/// The real machine, through `/proc`.
struct Kernel;

impl Machine for Kernel {
    fn server_pids(&self) -> Vec<i32> {
        let own = std::process::id().to_string();
        // A server installed under a third name is found by the name of this process.
        let own_name = comm(&own).unwrap_or_default();
        let is_server = |pid: &str| {
            comm(pid).is_some_and(|name| PROCESS_NAMES.contains(&name.as_str()) || name == own_name)
        };
        let mut pids: Vec<i32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| *name != own)
            .filter_map(|name| name.parse().ok())
            .filter(|pid: &i32| is_server(&pid.to_string()))
            .collect();
        pids.sort_unstable();
        pids
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn kill(&self, pid: Pid, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

/// The kernel's name of a live process; `None` for one that is gone or only waits to be
/// reaped.
fn comm(pid: &str) -> Option<String> {
    name_of_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in `/proc/<pid>/stat`, `pid (name) state …`, unless the state is `Z` or `X`.
fn name_of_stat(stat: &str) -> Option<String> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let state = tail.trim_start().chars().next()?;
    (!matches!(state, 'Z' | 'X')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    struct Fake {
        running: Vec<i32>,
        /// Processes that exist.
        alive: Vec<i32>,
        sent: RefCell<Vec<(i32, Signal)>>,
    }

    impl Machine for Fake {
        fn server_pids(&self) -> Vec<i32> {
            self.running.clone()
        }

        fn read(&self, path: &str) -> Option<String> {
            (path == "/run/s.pid").then(|| "12\n".to_owned())
        }

        fn kill(&self, pid: Pid, signal: Signal) -> io::Result<()> {
            let pid = pid.as_raw_nonzero().get();
            if !self.alive.contains(&pid) {
                return Err(rustix::io::Errno::SRCH.into());
            }
            self.sent.borrow_mut().push((pid, signal));
            Ok(())
        }
    }

    fn outcome(running: &[i32], text: &str) -> Result<Vec<(i32, Signal)>, String> {
        let alive = [running, &[12]].concat();
        let fake = Fake { running: running.into(), alive, sent: RefCell::default() };
        run_on(&fake, text).map_err(|error| error.to_string())?;
        Ok(fake.sent.into_inner())
    }

    #[test]
    fn every_name_has_its_signal() {
        for (name, signal) in [
            ("stop", Signal::KILL),
            ("quit", Signal::INT),
            ("term", Signal::TERM),
            ("reopen", Signal::USR1),
            ("reload", Signal::HUP),
            ("ldm", Signal::USR2),
        ] {
            assert_eq!(outcome(&[5], name), Ok(vec![(5, signal)]), "{name}");
        }
    }

    #[test]
    fn targets_are_pids_files_and_prefixes() {
        let hup = |pids: &[i32]| Ok(pids.iter().map(|pid| (*pid, Signal::HUP)).collect());
        assert_eq!(outcome(&[5, 6], "reload=12"), hup(&[12]));
        assert_eq!(outcome(&[], "reload=/run/s.pid"), hup(&[12]));
        assert_eq!(outcome(&[5, 51, 6], "reload=5*"), hup(&[5, 51]));
        assert_eq!(outcome(&[5, 6], "reload=*"), hup(&[5, 6]));
        assert_eq!(outcome(&[5, 6], "reload=9*"), hup(&[]));
        assert_eq!(outcome(&[5], "reload="), hup(&[5]));
    }

    #[test]
    fn refusals_read_like_nats_servers() {
        let refusal = |running: &[i32], text: &str| outcome(running, text).unwrap_err();
        let none = "no nats-server processes running";
        assert_eq!(refusal(&[], "reload"), none);
        assert_eq!(refusal(&[], "bogus"), none);
        assert_eq!(refusal(&[], "="), none);
        assert_eq!(refusal(&[], "bogus=99*"), none);
        assert_eq!(refusal(&[5, 6], "bogus"), "multiple nats-server processes running:\n5\n6");
        assert_eq!(refusal(&[5], "bogus"), "unknown signal \"bogus\"");
        assert_eq!(refusal(&[], "=5"), "unknown signal \"\"");
        assert_eq!(refusal(&[], "Reload=1"), "unknown signal \"Reload\"");
        assert_eq!(refusal(&[], "a=b=c=d"), "invalid signal parameters: [c d]");
        assert_eq!(refusal(&[], "=="), "invalid signal parameters: []");
        assert_eq!(refusal(&[], "bogus=abc"), "invalid pid: abc");
        assert_eq!(refusal(&[5], "reload=a/n*"), "invalid pid: a/n");
        assert_eq!(refusal(&[5], "reload=*x"), "invalid pid: *x");
        assert_eq!(refusal(&[], "reload=0"), "invalid pid: 0");
        assert_eq!(refusal(&[], "reload=-5"), "invalid pid: -5");
        assert_eq!(
            refusal(&[], "reload=99999999"),
            "\nsignal \"reload\" 99999999: no such process"
        );
    }

    #[test]
    fn names_are_read_from_the_kernels_line() {
        assert_eq!(name_of_stat("1 (nats-server) S 0").as_deref(), Some("nats-server"));
        assert_eq!(name_of_stat("1 (a) b) R 0").as_deref(), Some("a) b"));
        assert_eq!(name_of_stat("1 (nats-server) Z 0"), None);
        assert_eq!(name_of_stat("nonsense"), None);
        let own = comm(&std::process::id().to_string()).unwrap();
        assert!(!own.is_empty());
    }

    #[test]
    fn a_real_process_gets_its_signal() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        run(&format!("stop={}", child.id())).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
