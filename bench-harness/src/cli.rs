//! The command line: `run` for one scenario, `compare` for two servers side by side.

use std::fs;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::client::handshake::Target;
use crate::client::tls::{Trust, client_config};
use crate::compare::CompareArgs;
use crate::compare::js_plan::{self, parse_count};
use crate::compare::server::{JetStream, Launch, Server};

use crate::error::{During, HarnessError, Result};
use crate::js::config::Storage;
use crate::measure::affinity;
use crate::report::Outcome;
use crate::report::{json, svg, text};
use crate::scenario::{self, Host, Js, Kind, Params, Subject, Wait};

/// Makes load for a NATS server and measures what it costs.
#[derive(Debug, Parser)]
#[command(name = "bench-harness", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one scenario against a running server.
    Run(Box<RunArgs>),
    /// Starts two servers in turn, round by round, and compares medians.
    Compare(Box<CompareArgs>),
}

/// Options of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// What load to make.
    scenario: Kind,
    /// The server: nats://[user[:pass]@]host[:port] or tls://...
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    url: String,
    /// User name.
    #[arg(long)]
    user: Option<String>,
    /// Password.
    #[arg(long)]
    pass: Option<String>,
    /// Token.
    #[arg(long, conflicts_with = "user")]
    token: Option<String>,
    /// Encrypt; trusts any certificate unless --tls-ca is given.
    #[arg(long)]
    tls: bool,
    /// Encrypt and trust the certificates of this PEM file.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Process of the server, to measure its CPU and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Pin load threads, one to each of these CPUs, such as 1 or 2-3.
    #[arg(long, value_name = "CPUS")]
    pin: Option<String>,
    #[command(flatten)]
    load: LoadArgs,
    /// Start this server with JetStream for the run instead of using --url.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["url", "pid", "tls", "tls_ca"])]
    start: Option<PathBuf>,
    /// `sync_interval` of the started server, such as always or 2m; its default without.
    #[arg(long, requires = "start")]
    sync_interval: Option<String>,
    /// CPUs of the started server.
    #[arg(long, value_name = "CPUS", requires = "start")]
    server_cpus: Option<String>,
    /// Where the started server's store is made; the working directory by default.
    #[arg(long, value_name = "DIR", requires = "start")]
    store_dir: Option<PathBuf>,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the latency percentiles (or the figures) as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Options that shape the load; each has a default that fits the scenario.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Payload size, such as 16, 1k or 1m.
    #[arg(long, value_parser = parse_size, default_value = "16")]
    size: u64,
    /// Length of the measured window, such as 2s or 500ms.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    duration: Duration,
    /// Load before the measured window.
    #[arg(long, value_parser = parse_duration, default_value = "300ms")]
    warmup: Duration,
    /// Stop after so many messages instead; for JetStream consumers the size of the stream.
    #[arg(long, value_parser = parse_count)]
    msgs: Option<u64>,
    /// Connections: pairs (n-to-n), clients (reqrep), idle ones, at once (churn).
    #[arg(long, default_value_t = 0)]
    connections: usize,
    /// Publishers.
    #[arg(long, default_value_t = 0)]
    pubs: usize,
    /// Subscribers, or subscriptions for subs-million.
    #[arg(long, default_value_t = 0)]
    subs: usize,
    /// Messages or requests a second.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Speed of the slow reader in MiB a second (slow-subscriber 2, burst 50).
    #[arg(long, default_value_t = 0.0)]
    reader_mib: f64,
    /// Bytes under way to one subscriber before publishers wait.
    #[arg(long, value_parser = parse_size, default_value = "8m")]
    window: u64,
    /// Most bytes of one write.
    #[arg(long, value_parser = parse_size, default_value = "128k")]
    write_size: u64,
    /// Most bytes of one read.
    #[arg(long, value_parser = parse_size, default_value = "256k")]
    read_size: u64,
    /// How latency scenarios wait for the server.
    #[arg(long, value_enum, default_value_t = Wait::Block)]
    wait: Wait,
    /// Seed of random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// JetStream: where the stream is kept.
    #[arg(long, value_enum, default_value_t = Storage::File)]
    storage: Storage,
    /// JetStream: messages, batches or creations outstanding.
    #[arg(long, value_parser = parse_count)]
    outstanding: Option<u64>,
    /// JetStream: subjects or keys.
    #[arg(long, value_parser = parse_count)]
    subjects: Option<u64>,
    /// JetStream: messages of an atomic batch or of a pull.
    #[arg(long, value_parser = parse_count)]
    batch: Option<u64>,
    /// JetStream: clients that share the pull consumer.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// JetStream: idle consumers.
    #[arg(long, value_parser = parse_count)]
    consumers: Option<u64>,
}

impl LoadArgs {
    /// The parameters of `kind` with these options.
    #[must_use]
    pub fn params(&self, kind: Kind) -> Params {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Params {
            kind,
            size: size(self.size),
            duration: self.duration,
            warmup: self.warmup,
            msgs: self.msgs,
            connections: self.connections,
            pubs: self.pubs,
            subs: self.subs,
            rate: self.rate,
            reader_mib: self.reader_mib,
            window_bytes: self.window,
            write_bytes: size(self.write_size).max(1024),
            read_bytes: size(self.read_size).max(4096),
            wait: self.wait,
            cpus: Vec::new(),
            seed: self.seed,
            js: kind.is_jetstream().then(|| self.js(kind)),
        }
    }

    fn js(&self, kind: Kind) -> Js {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let usual = Js::new(kind);
        Js {
            storage: self.storage,
            outstanding: self.outstanding.map_or(usual.outstanding, size),
            subjects: self.subjects.unwrap_or(usual.subjects).max(1),
            batch: self.batch.map_or(usual.batch, size),
            workers: self.workers,
            consumers: self.consumers.unwrap_or(usual.consumers),
            durability: usual.durability,
        }
    }
}

impl Cli {
    /// Does what the arguments say; false when a comparison found failed rounds.
    ///
    /// # Errors
    /// Whatever stopped the run.
    pub fn run(self) -> Result<bool> {
        match self.command {
            Command::Run(args) => args.run().map(|()| true),
            Command::Compare(args) => crate::compare::run(&args),
        }
    }
}

impl RunArgs {
    fn run(&self) -> Result<()> {
        let mut params = self.load.params(self.scenario);
        if let Some(list) = &self.pin {
            params.cpus = affinity::parse_cpus(list)?;
        }
        let progress = text::spinner(&format!("{} {} B", self.scenario.name(), params.size));
        let outcome = self.measure(&mut params);
        progress.finish_and_clear();
        let outcome = outcome?;
        print!("{}", text::outcome(&outcome));
        if let Some(path) = &self.json {
            write(path, &json::text(&outcome)?)?;
        }
        if let Some(path) = &self.svg {
            write(path, &svg::outcome(&outcome))?;
        }
        Ok(())
    }

    fn measure(&self, params: &mut Params) -> Result<Outcome> {
        let Some(binary) = &self.start else {
            let subject = Subject { target: self.target()?, pid: self.pid, host: None };
            return scenario::run(&subject, params);
        };
        let cpus = self.server_cpus.as_deref().map(affinity::parse_cpus).transpose()?;
        if let Some(js) = &mut params.js {
            let sync = self.sync_interval.as_deref().unwrap_or("the server's default");
            js.durability = format!("sync_interval {sync}");
        }
        let launch = Launch {
            binary: binary.clone(),
            cpus: cpus.unwrap_or_default(),
            shards: String::new(),
            tls: false,
            jetstream: Some(JetStream {
                sync_interval: self.sync_interval.clone(),
                store_parent: self.store_dir.clone(),
                bytes_needed: js_plan::bytes_needed(params),
            }),
        };
        let server = Arc::new(Server::start(&launch)?);
        let (pid, host) = (Some(server.pid()), Some(Arc::clone(&server) as Arc<dyn Host>));
        let subject = Subject { target: server.target.clone(), pid, host };
        // The server is killed when it is dropped: nothing of its store is kept.
        scenario::run(&subject, params)
            .map_err(|e| HarnessError::Server(format!("{e}\n{}", server.log_tail())))
    }

    fn target(&self) -> Result<Target> {
        let url = Url::parse(&self.url)?;
        let addr = (url.host.as_str(), url.port)
            .to_socket_addrs()
            .during(format!("look up {}", url.host))?
            .next()
            .ok_or_else(|| HarnessError::Usage(format!("{} has no address", url.host)))?;
        let user = self.user.clone().or(url.user);
        let pass = self.pass.clone().or(url.pass);
        let trust = match &self.tls_ca {
            Some(path) => Some(Trust::Ca(path.clone())),
            None => (self.tls || url.tls).then_some(Trust::Anybody),
        };
        let tls = trust.map(|t| client_config(&t)).transpose()?;
        let login = login(user.as_deref(), pass.as_deref(), self.token.as_deref());
        Ok(Target { addr, host: url.host, login, tls, no_responders: false })
    }
}

/// Members of CONNECT for a login, each with a leading comma.
#[must_use]
pub fn login(user: Option<&str>, pass: Option<&str>, token: Option<&str>) -> String {
    let mut members = String::new();
    for (key, value) in [("user", user), ("pass", pass), ("auth_token", token)] {
        if let Some(value) = value {
            let value = serde_json::Value::from(value);
            members.push_str(&format!(",\"{key}\":{value}"));
        }
    }
    members
}

/// Writes a report file.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).during(format!("write {}", path.display()))
}

/// The parts of a server URL.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    tls: bool,
    user: Option<String>,
    pass: Option<String>,
    host: String,
    port: u16,
}

impl Url {
    fn parse(text: &str) -> Result<Self> {
        let bad = || HarnessError::Usage(format!("{text:?} is no URL such as nats://host:4222"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(bad()),
        };
        let rest = rest.trim_end_matches('/');
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (user, pass) = match login.map(|l| l.split_once(':').unwrap_or((l, ""))) {
            Some((user, pass)) => {
                (Some(user.to_owned()), (!pass.is_empty()).then(|| pass.to_owned()))
            }
            None => (None, None),
        };
        let (host, port) = match place.rsplit_once(':') {
            // A bare IPv6 address has colons but no brackets and no port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| bad())?)
            }
            _ => (place, 4222),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() { Err(bad()) } else { Ok(Self { tls, user, pass, host, port }) }
    }
}

/// A size with an optional suffix k, m or g (powers of 1024).
pub(crate) fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match lower.get(digits.len()..).unwrap_or("") {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        other => return Err(format!("unknown size suffix {other:?}")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no size"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// A duration in ms, s or m; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| format!("{text:?} is no duration"))?;
    let factor = match text.get(digits.len()..).unwrap_or("") {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "us" => 0.000_001,
        "m" => 60.0,
        other => return Err(format!("unknown time unit {other:?}")),
    };
    Duration::try_from_secs_f64(number * factor).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        let url = Url::parse("nats://a:b@127.0.0.1:5000").unwrap();
        assert_eq!((url.user.as_deref(), url.pass.as_deref()), (Some("a"), Some("b")));
        assert_eq!((url.host.as_str(), url.port, url.tls), ("127.0.0.1", 5000, false));
        let url = Url::parse("tls://[::1]:1/").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls), ("::1", 1, true));
        assert_eq!(Url::parse("localhost").unwrap().port, 4222);
        assert!(Url::parse("http://x").is_err());
        assert!(Url::parse("nats://h:port").is_err());
    }

    #[test]
    fn reads_sizes_and_durations() {
        assert_eq!(parse_size("16"), Ok(16));
        assert_eq!(parse_size("1k"), Ok(1024));
        assert_eq!(parse_size("8MiB"), Ok(8 << 20));
        assert!(parse_size("x").is_err());
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("5y").is_err());
    }

    #[test]
    fn logins_are_escaped() {
        assert_eq!(login(Some("a\"b"), None, None), ",\"user\":\"a\\\"b\"");
        assert_eq!(login(None, None, Some("t")), ",\"auth_token\":\"t\"");
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
