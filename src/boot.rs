//! Start and stop in order: configuration, log, probe, listeners, shards, ready; then signals
//! until the end.

use std::net::{TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::monitor::ServerFacts;
use broker::settings::Identity;
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use reactor::disk::StoreLock;
use reactor::tls::TlsContext;
use reactor::{Control, FileBudget, HelperSubmit, Plan, Running, Shared};

use crate::cli::Flags;
use crate::config::{self, ConfigErrors, Configured, Finding, Options, System};
use crate::error::{StartError, fatal_text, os_text};
use crate::facts::{self, Facts};
use crate::helpers::HelperPool;
use crate::logging::{LogHandle, Logger};
use crate::portsfile::{self, Ports, PortsFile};
use crate::probe::{self, Needs};
use crate::signals::{ProcessSignal, SignalThread};
use crate::steer::Steering;
use crate::streams::{self, UsageRegistry};
use crate::translate::{self, AccountRegistry, NATS_VERSION};
use crate::{advice, notify, pidfile};

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4096;
/// Longest wait for a port that is taken, and how often it is tried.
const PORT_WAIT_MAX: Duration = Duration::from_millis(1000);
const PORT_POLL: Duration = Duration::from_millis(5);
/// Helper threads for passwords.
const HELPER_THREADS: usize = 2;
/// Passwords that may wait for a helper.
const HELPER_QUEUE_MAX: usize = 1024;
/// How often the start is looked at until every shard serves.
const READY_POLL: Duration = Duration::from_millis(1);

/// Reads and checks the configuration: file, then flags over it.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub(crate) fn load(flags: &Flags) -> Result<Configured, ConfigErrors> {
    let mut configured = config::configure(&translate::flag_overrides(flags), &System)?;
    overlay_shards(&mut configured.options, flags);
    Ok(configured)
}

fn overlay_shards(options: &mut Options, flags: &Flags) {
    let shards = &mut options.shards;
    if let Some(count) = flags.shards {
        shards.count = Some(u32::from(count));
    }
    if let Some(cpus) = &flags.cpus {
        shards.cpus = cpus.cpus().iter().map(|cpu| *cpu as u32).collect();
    }
    if let Some(spin) = flags.spin {
        shards.spin = match spin {
            crate::cli::SpinMode::Off => config::Spin::Off,
            crate::cli::SpinMode::Adaptive => config::Spin::Adaptive,
            crate::cli::SpinMode::Always => config::Spin::Always,
        };
    }
}

/// `-t`: reads and checks the configuration only.
///
/// # Errors
/// What is wrong; warnings count.
pub(crate) fn check(flags: &Flags) -> Result<String, StartError> {
    let path = flags.config_file().unwrap_or_default();
    let shown = path.to_string_lossy();
    let config_error = |errors: ConfigErrors| StartError::Config(errors.to_string());
    config::check_only(&shown, &System).map_err(config_error)?;
    let loaded = load(flags).map_err(config_error)?;
    for warning in &loaded.warnings {
        eprintln!("{}", fatal_text(&warning.to_string()));
    }
    translate::shard_settings(
        &loaded.options,
        Identity::default(),
        &mut AccountRegistry::default(),
    )
    .map_err(StartError::Config)?;
    build_tls(&loaded.options)?;
    Ok(format!("configuration file {shown} is valid ({})", loaded.digest.unwrap_or_default()))
}

/// The client listener's TLS.
///
/// # Errors
/// Everything that is wrong with the `tls` block or its files.
pub(crate) fn build_tls(options: &Options) -> Result<Option<TlsContext>, StartError> {
    let Some(settings) = translate::tls_settings(options) else { return Ok(None) };
    let now_s = i64::try_from(facts::wall_ns() / 1_000_000_000).unwrap_or(i64::MAX);
    TlsContext::build(&settings, now_s).map(Some).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        StartError::Config(lines.join("\n"))
    })
}

/// Everything that lives as long as the server serves.
struct Server {
    running: Running,
    signals: Receiver<ProcessSignal>,
    steering: Steering,
    _signal_thread: SignalThread,
    _ports: Option<PortsFile>,
    _store_lock: Option<StoreLock>,
}

/// Serves until told to stop.
///
/// # Errors
/// Whatever keeps the server from starting, or a shard from going on.
pub(crate) fn serve(flags: &Flags) -> Result<(), StartError> {
    let loaded = load(flags).map_err(|errors| StartError::Config(errors.to_string()))?;
    let log = Logger::start(&translate::log_settings(&loaded.options))?;
    let outcome = start(flags, loaded, log.clone()).and_then(run);
    if let Err(error) = &outcome {
        crate::log_fatal!("{error}");
    }
    log.flush();
    outcome
}

fn start(flags: &Flags, loaded: Configured, log: LogHandle) -> Result<Server, StartError> {
    let (sender, signals) = unbounded();
    let signal_thread = SignalThread::start(sender)
        .map_err(|source| StartError::Os { what: "cannot handle signals", source })?;
    let Configured { mut options, warnings, digest } = loaded;
    let digest = digest.unwrap_or_default();
    let mut identity = new_identity(&options)?;
    tell_start(&options, &warnings, &digest, &identity);
    let tls = build_tls(&options)?;
    for warning in tls.iter().flat_map(TlsContext::warnings) {
        tracing::warn!("{warning}");
    }
    let verdict = look_around(&options)?;
    let monitor = listen_monitor(&options)?;
    let clients = listen(&options.listen.host, options.listen.port)?;
    let port = local_port(clients.as_ref());
    name_listener(&mut identity, &options, port);
    let mut accounts = AccountRegistry::default();
    let settings = translate::shard_settings(&options, identity.clone(), &mut accounts)
        .map_err(StartError::Config)?;
    let mut usage = UsageRegistry::default();
    let begun = Instant::now();
    let planned = options.jetstream.enabled.then(|| {
        let settings = streams::settings(&options, &identity, &settings.accounts, &mut usage);
        streams::plan(&options, settings, verdict.files.storage)
    });
    let (jetstream, store_lock) = planned.transpose()?.unzip();
    let facts = new_facts(&options, &identity, &digest, verdict.shard_cpus.len(), tls.as_ref());
    facts.set_jetstream(&options, jetstream.as_ref().map(|plan| &*plan.settings));
    let pool = HelperPool::new(HELPER_THREADS, HELPER_QUEUE_MAX)
        .map_err(|source| StartError::Os { what: "cannot start helper threads", source })?;
    let link = Arc::new(std::sync::OnceLock::new());
    let ports = bound_ports(clients.as_ref(), monitor.as_ref(), tls.is_some());
    let plan = Plan {
        settings: Arc::new(settings),
        cpus: verdict.shard_cpus.iter().map(|cpu| options.shards.pin.then_some(*cpu)).collect(),
        spin: translate::spin_mode(&options),
        io_memory_bytes: options.shards.io_memory_bytes as usize,
        ring_depth: options.shards.ring_depth as usize,
        ring_batches: options.shards.queue_depth as usize,
        read_buffer_bytes: options.shards.read_buffer_bytes as usize,
        files: file_budget(&verdict.files),
        clients,
        monitor,
        monitor_base_path: options.monitor.base_path.clone(),
        facts: facts.source(),
        tls,
        jetstream,
        helper: helper_submit(pool, Arc::clone(&link)),
        debug: options.log.debug,
        trace: options.log.trace || options.log.trace_verbose,
    };
    let running = reactor::start(plan)
        .map_err(|source| StartError::Os { what: "cannot start the shards", source })?;
    // Set once, here.
    let _ = link.set(Arc::clone(&running.shared));
    let running = wait_ready(running)?;
    tell_serving(&identity, &options, port, begun);
    let ports_file = tell_ready(&mut options, &ports)?;
    let shared = Arc::clone(&running.shared);
    let steering =
        Steering { flags: flags.clone(), options, identity, accounts, usage, facts, log, shared };
    Ok(Server {
        running,
        signals,
        steering,
        _signal_thread: signal_thread,
        _ports: ports_file,
        _store_lock: store_lock,
    })
}

fn run(mut server: Server) -> Result<(), StartError> {
    loop {
        match server.signals.recv_timeout(Duration::from_millis(500)) {
            Ok(ProcessSignal::Interrupt) => {
                server.steering.shut_down();
                break;
            }
            Ok(signal) => {
                if server.steering.handle_signal(signal, &server.signals) {
                    break;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if server.running.shared.is_failed() {
                    break;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let outcome = server.running.join();
    tracing::info!("Server Exiting..");
    outcome.map_err(|source| StartError::Os { what: "a shard has failed", source })
}

/// A shard that cannot start says so when it is joined.
fn wait_ready(running: Running) -> Result<Running, StartError> {
    while !running.shared.is_ready() {
        if running.shared.is_failed() {
            running.shared.send_all(|| Control::Stop);
            let source = match running.join() {
                Err(source) => source,
                Ok(()) => std::io::Error::other("a shard ended at once"),
            };
            return Err(StartError::Os { what: "a shard cannot start", source });
        }
        std::thread::sleep(READY_POLL);
    }
    Ok(running)
}

fn new_identity(options: &Options) -> Result<Identity, StartError> {
    let seed = reactor::entropy::seed_32()
        .map_err(|error| StartError::Probe(format!("no randomness: {error}")))?;
    let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let server_id = wire::nkey::encode_public(wire::nkey::KeyKind::Server, &key);
    let name = if options.server_name.is_empty() {
        server_id.clone()
    } else {
        options.server_name.clone()
    };
    Ok(Identity {
        server_id,
        server_name: name,
        version: NATS_VERSION.to_owned(),
        git_commit: String::new(),
        runtime: concat!("shearwater-", env!("CARGO_PKG_VERSION")).to_owned(),
        host: options.listen.host.clone(),
        port: 0,
        cluster: None,
        jetstream: options.jetstream.enabled,
        domain: options.jetstream.domain.clone(),
        api_level: streams::API_LEVEL,
        xkey: None,
    })
}

fn tell_start(options: &Options, warnings: &[Finding], digest: &str, identity: &Identity) {
    tracing::info!("Starting nats-server");
    tracing::info!("  Version:  {NATS_VERSION} (shearwater {})", env!("CARGO_PKG_VERSION"));
    tracing::info!("  Git:      [not set]");
    tracing::info!("  Name:     {}", identity.server_name);
    tracing::info!("  ID:       {}", identity.server_id);
    if let Some(text) = advice::about_passwords(options) {
        tracing::warn!("{text}");
    }
    if let Some(file) = &options.config_file {
        tracing::info!("Using configuration file: {file} ({digest})");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Some(text) = advice::about_payloads(options) {
        tracing::warn!("{text}");
    }
}

/// What the machine offers, and where the shards go.
fn look_around(options: &Options) -> Result<probe::Verdict, StartError> {
    let shards = &options.shards;
    let cpus: Vec<String> = shards.cpus.iter().map(ToString::to_string).collect();
    let needs = Needs {
        shards: shards.count.map(|count| count as usize),
        cpus: match cpus.is_empty() {
            true => None,
            false => crate::cli::CpuList::parse(&cpus.join(",")).ok(),
        },
        connections_max: u64::try_from(options.limits.connections_max).ok(),
        memlock_min_bytes: 512 << 10,
        memlock_full_bytes: (512 << 10) + 3 * shards.io_memory_bytes,
        files_per_shard: 32,
        files_of_process: 64,
        files_of_storage: options.jetstream.enabled.then_some(options.jetstream.files_reserved),
    };
    let verdict = probe::judge(&probe::facts::gather(&reactor::probe_ring()), &needs);
    verdict.log();
    match verdict.fatal() {
        Some(text) => Err(StartError::Probe(text.to_owned())),
        None => Ok(verdict),
    }
}

fn file_budget(shares: &probe::FileShares) -> FileBudget {
    let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    FileBudget {
        room: size(shares.room),
        storage_min: size(shares.storage),
        connections_min: size(shares.connections),
    }
}

fn listen(host: &str, port: config::Port) -> Result<Option<TcpListener>, StartError> {
    let Some(port) = port.bind() else { return Ok(None) };
    let address =
        format!("{}:{port}", if host.contains(':') { format!("[{host}]") } else { host.into() });
    let refused = |source: &std::io::Error| StartError::Listen {
        address: address.clone(),
        reason: format!("listen tcp {address}: bind: {}", os_text(source)),
    };
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    // Unspecified means both families where the machine has them, as with nats-server.
    let host = match host {
        "0.0.0.0" if std::fs::exists("/proc/net/if_inet6").unwrap_or(false) => "::",
        other => other,
    };
    for target in (host, port).to_socket_addrs().map_err(|source| refused(&source))? {
        match bind_patiently(target) {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) => last = error,
        }
    }
    Err(refused(&last))
}

/// The kernel gives up the sockets of a killed server a moment after its end, since their polls
/// live in rings that are taken down in the background. A server that follows at once on the same
/// port waits for that.
fn bind_patiently(target: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let end = Instant::now() + PORT_WAIT_MAX;
    loop {
        match reactor::bind_listener(target, BACKLOG) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < end => {
                std::thread::sleep(PORT_POLL);
            }
            outcome => return outcome,
        }
    }
}

fn listen_monitor(options: &Options) -> Result<Option<TcpListener>, StartError> {
    let monitor = &options.monitor;
    let host = if monitor.host.is_empty() { &options.listen.host } else { &monitor.host };
    let listener = listen(host, monitor.http)?;
    if let Some(port) = local_port(listener.as_ref()) {
        tracing::info!("Starting http monitor on {host}:{port}");
    }
    Ok(listener)
}

fn local_port(listener: Option<&TcpListener>) -> Option<u16> {
    listener.and_then(|listener| listener.local_addr().ok()).map(|address| address.port())
}

/// What clients are told of where they connect to.
fn name_listener(identity: &mut Identity, options: &Options, port: Option<u16>) {
    let Some(port) = port else { return };
    identity.port = port;
    let advertised = &options.client_advertise;
    if let Some((host, port_text)) = advertised.rsplit_once(':')
        && let Ok(port) = port_text.parse()
    {
        host.trim_matches(['[', ']']).clone_into(&mut identity.host);
        identity.port = port;
    } else if !advertised.is_empty() {
        identity.host.clone_from(advertised);
    }
}

/// Clients are served from now on.
fn tell_serving(identity: &Identity, options: &Options, port: Option<u16>, begun: Instant) {
    if options.jetstream.enabled {
        let took = i64::try_from(begun.elapsed().as_nanos()).unwrap_or(i64::MAX);
        tracing::info!("Took {} to start JetStream", wire::time::format_go_duration(took));
    }
    let Some(port) = port else { return };
    tracing::info!("Listening for client connections on {}:{port}", options.listen.host);
    if options.tls.is_some() {
        tracing::info!("TLS required for client connections");
    }
    tracing::info!("Server id is {}", identity.server_id);
}

fn bound_ports(clients: Option<&TcpListener>, monitor: Option<&TcpListener>, tls: bool) -> Ports {
    let machine = portsfile::machine_addresses();
    let urls = |scheme: &str, listener: Option<&TcpListener>| {
        listener
            .and_then(|listener| listener.local_addr().ok())
            .map(|address| {
                // A listener for both families is reached under the IPv4 addresses too.
                portsfile::urls(scheme, address, &machine)
            })
            .unwrap_or_default()
    };
    Ports {
        nats: urls(if tls { "tls" } else { "nats" }, clients),
        monitoring: urls("http", monitor),
        ..Ports::default()
    }
}

fn tell_ready(options: &mut Options, ports: &Ports) -> Result<Option<PortsFile>, StartError> {
    if let Some(path) = &options.pid_file {
        pidfile::write(Path::new(path))?;
    }
    let file = match &options.ports_file_dir {
        Some(directory) => match PortsFile::write(Path::new(directory), ports) {
            Ok(file) => Some(file),
            Err(text) => {
                tracing::error!("{text}");
                None
            }
        },
        None => None,
    };
    tracing::info!("Server is ready");
    if let Err(error) = notify::tell(notify::Progress::Ready) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
    Ok(file)
}

fn new_facts(
    options: &Options,
    identity: &Identity,
    digest: &str,
    shards: usize,
    tls: Option<&TlsContext>,
) -> Arc<Facts> {
    let monitor = &options.monitor;
    let port_number = |port: config::Port| match port {
        config::Port::Off => 0,
        config::Port::Random => -1,
        config::Port::Fixed(port) => i32::from(port),
    };
    let mut facts = ServerFacts {
        server_id: identity.server_id.clone(),
        server_name: identity.server_name.clone(),
        git_commit: identity.git_commit.clone(),
        runtime: identity.runtime.clone(),
        build_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: identity.host.clone(),
        port: identity.port,
        http_host: if monitor.host.is_empty() { &options.listen.host } else { &monitor.host }
            .clone(),
        http_port: port_number(monitor.http),
        https_port: port_number(monitor.https),
        http_base_path: if monitor.base_path == "/" {
            String::new()
        } else {
            monitor.base_path.clone()
        },
        start_ns: facts::wall_ns(),
        cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        max_procs: shards as u32,
        tls_cert_not_after_s: tls.and_then(|tls| u64::try_from(tls.cert_not_after_s()).ok()),
        command_line: std::env::args().collect(),
        ..ServerFacts::default()
    };
    facts::fill_from_options(&mut facts, options, digest);
    Facts::new(facts)
}

/// Passwords go to the pool; answers go to the shard that asked.
fn helper_submit(pool: HelperPool, link: Arc<std::sync::OnceLock<Arc<Shared>>>) -> HelperSubmit {
    Arc::new(move |shard, job| {
        let (password, hash) = (job.check.given().as_bytes().to_vec(), job.check.hash().to_owned());
        let Some(shared) = link.get().map(Arc::clone) else { return Err(job) };
        let kept = Arc::new(std::sync::Mutex::new(Some(job)));
        let answer = Arc::clone(&kept);
        let take = |kept: &std::sync::Mutex<Option<shard::HelperJob>>| {
            kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        };
        let done = Box::new(move |verified| {
            if let Some(job) = take(&answer) {
                let shard::HelperJob { slot, generation, check } = job;
                shared.send(shard, Control::HelperDone { slot, generation, check, verified });
            }
        });
        match pool.verify_bcrypt(password, hash, done) {
            Ok(()) => Ok(()),
            Err(_) => take(&kept).map_or(Ok(()), Err),
        }
    })
}
