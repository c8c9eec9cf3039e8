//! The command line: nats-server's flags, spelled and parsed as nats-server does.
//!
//! [`parse`] is pure: arguments in, a [`Command`] or a [`CliError`] out. `argv` rewrites
//! Go's flag spellings into long ones, clap reads those into [`Flags`], and what is left
//! decides between serving, checking, signalling and printing.

mod argv;
mod text;
mod values;

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

pub use argv::redacted;
pub use values::{CpuList, Secret, SpinMode};
use values::{cpu_list, go_bool, go_int, path, secret, shard_count, spin_mode};

use crate::error::{EXIT_FAILED, EXIT_OK, fatal_text};

/// The version of nats-server whose behaviour is served. Clients and their tests gate
/// features on it, so it is what INFO, `/varz` and `--version` say first.
pub const NATS_VERSION: &str = "2.15.1";

/// Our own version.
pub const SHEARWATER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The flags that were given. `None` means "not on the command line", so that a value from
/// the configuration file stands; `Some(false)` overrides a file that says `true`.
///
/// Meaning and defaults are nats-server's. Numbers are not range-checked here: the overlay
/// over the configuration does that, with the same texts for both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true,
    rename_all = "snake_case"
)]
pub struct Flags {
    /// `-a`, `--addr`, `--net`: the host to listen on for clients.
    #[arg(long = "addr")]
    pub host: Option<String>,
    /// `-p`, `--port`: the client port; -1 takes a free one.
    #[arg(long, value_parser = go_int)]
    pub port: Option<i64>,
    /// `-n`, `--name`, `--server_name`.
    #[arg(long = "name")]
    pub server_name: Option<String>,
    /// `-P`, `--pid`: where to write the process id.
    #[arg(long = "pid", value_parser = path)]
    pub pid_file: Option<PathBuf>,
    /// `-m`, `--http_port`: the monitoring port; -1 takes a free one.
    #[arg(long, value_parser = go_int)]
    pub http_port: Option<i64>,
    /// `-ms`, `--https_port`: the monitoring port with TLS.
    #[arg(long, value_parser = go_int)]
    pub https_port: Option<i64>,
    /// `-c`, `--config`: the configuration file. May be empty, which is no file.
    #[arg(long)]
    pub config: Option<String>,
    /// `-t`: check the configuration and exit.
    #[arg(long, value_parser = go_bool)]
    pub check: Option<bool>,
    /// `-sl`, `--signal`: the signal to send and to whom.
    #[arg(long)]
    pub signal: Option<String>,
    /// `--client_advertise`: the address told to clients and other servers.
    #[arg(long)]
    pub client_advertise: Option<String>,
    /// `--ports_file_dir`: where to write the ports file.
    #[arg(long, value_parser = path)]
    pub ports_file_dir: Option<PathBuf>,
    /// `-l`, `--log`: the log file.
    #[arg(long = "log", value_parser = path)]
    pub log_file: Option<PathBuf>,
    /// `-T`, `--logtime`: whether log lines carry the time.
    #[arg(long, value_parser = go_bool)]
    pub logtime: Option<bool>,
    /// `--logtime_utc`: whether that time is UTC.
    #[arg(long, value_parser = go_bool)]
    pub logtime_utc: Option<bool>,
    /// `-s`, `--syslog`: log to the local syslog.
    #[arg(long, value_parser = go_bool)]
    pub syslog: Option<bool>,
    /// `-r`, `--remote_syslog`: log to this syslog, `udp://host:514`.
    #[arg(long)]
    pub remote_syslog: Option<String>,
    /// `-D`, `--debug`. See [`Flags::log_levels`].
    #[arg(long, value_parser = go_bool)]
    pub debug: Option<bool>,
    /// `-V`, `--trace`. See [`Flags::log_levels`].
    #[arg(long, value_parser = go_bool)]
    pub trace: Option<bool>,
    /// `-VV`. See [`Flags::log_levels`].
    #[arg(long, value_parser = go_bool)]
    pub trace_verbose: Option<bool>,
    /// `-DV`. See [`Flags::log_levels`].
    #[arg(long, value_parser = go_bool)]
    pub debug_trace: Option<bool>,
    /// `-DVV`. See [`Flags::log_levels`].
    #[arg(long, value_parser = go_bool)]
    pub debug_trace_verbose: Option<bool>,
    /// `--log_size_limit`: bytes after which a log file is rotated; 0 never.
    #[arg(long, value_parser = go_int)]
    pub log_size_limit: Option<i64>,
    /// `--max_traced_msg_len`: payload bytes shown in traces; 0 all.
    #[arg(long, value_parser = go_int)]
    pub max_traced_msg_len: Option<i64>,
    /// `-js`, `--jetstream`.
    #[arg(long, value_parser = go_bool)]
    pub jetstream: Option<bool>,
    /// `-sd`, `--store_dir`: the root of stored data.
    #[arg(long, value_parser = path)]
    pub store_dir: Option<PathBuf>,
    /// `--user`.
    #[arg(long)]
    pub user: Option<String>,
    /// `--pass`: plain or bcrypt.
    #[arg(long, value_parser = secret)]
    pub pass: Option<Secret>,
    /// `--auth`: a token, plain or bcrypt.
    #[arg(long, value_parser = secret)]
    pub auth: Option<Secret>,
    /// `--tls`: TLS without asking clients for certificates.
    #[arg(long, value_parser = go_bool)]
    pub tls: Option<bool>,
    /// `--tlsverify`: TLS with client certificates.
    #[arg(long, value_parser = go_bool)]
    pub tlsverify: Option<bool>,
    /// `--tlscert`: PEM file of the server's certificate.
    #[arg(long, value_parser = path)]
    pub tlscert: Option<PathBuf>,
    /// `--tlskey`: PEM file of the server's key.
    #[arg(long, value_parser = path)]
    pub tlskey: Option<PathBuf>,
    /// `--tlscacert`: PEM file of the authorities that sign clients.
    #[arg(long, value_parser = path)]
    pub tlscacert: Option<PathBuf>,
    /// `--help_tls`.
    #[arg(long, value_parser = go_bool)]
    pub help_tls: Option<bool>,
    /// `--routes`: a comma list of URLs. See [`Flags::route_urls`].
    #[arg(long, value_parser = secret)]
    pub routes: Option<Secret>,
    /// `--cluster`, `--cluster_listen`: URL to listen on for routes; empty turns a
    /// configured cluster off.
    #[arg(long, value_parser = secret)]
    pub cluster: Option<Secret>,
    /// `--cluster_name`.
    #[arg(long)]
    pub cluster_name: Option<String>,
    /// `--no_advertise`: tell clients nothing of other servers.
    #[arg(long, value_parser = go_bool)]
    pub no_advertise: Option<bool>,
    /// `--cluster_advertise`: the address told to other servers.
    #[arg(long)]
    pub cluster_advertise: Option<String>,
    /// `--connect_retries`: attempts for routes learnt from others.
    #[arg(long, value_parser = go_int)]
    pub connect_retries: Option<i64>,
    /// `--profile`: the profiling port.
    #[arg(long, value_parser = go_int)]
    pub profile: Option<i64>,
    /// `-v`, `--version`.
    #[arg(long, value_parser = go_bool)]
    pub version: Option<bool>,
    /// `-h`, `--help`.
    #[arg(long, value_parser = go_bool)]
    pub help: Option<bool>,
    /// `--shards`: how many shards to run, 1 to 1024. Ours.
    #[arg(long, value_parser = shard_count)]
    pub shards: Option<u16>,
    /// `--cpus`: the CPUs to pin shards to. Ours.
    #[arg(long, value_parser = cpu_list)]
    pub cpus: Option<CpuList>,
    /// `--spin`: how an idle shard waits. Ours.
    #[arg(long, value_parser = spin_mode)]
    pub spin: Option<SpinMode>,
}

/// What the flags say about log levels; `None` leaves the configuration's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelFlags {
    /// Debug lines.
    pub debug: Option<bool>,
    /// Protocol traces.
    pub trace: Option<bool>,
    /// Traces of the system account too.
    pub trace_verbose: Option<bool>,
}

impl Flags {
    /// Folds `-D -V -VV -DV -DVV` into three answers. The combined spellings only turn
    /// levels on; `-D=false` and `-V=false` turn a configured level off.
    #[must_use]
    pub fn log_levels(&self) -> LevelFlags {
        let on = |flag: Option<bool>| flag == Some(true);
        let verbose = on(self.trace_verbose) || on(self.debug_trace_verbose);
        let debug = on(self.debug_trace) || on(self.debug_trace_verbose);
        let trace = verbose || on(self.debug_trace);
        LevelFlags {
            debug: if debug { Some(true) } else { self.debug },
            trace: if trace { Some(true) } else { self.trace },
            trace_verbose: if verbose { Some(true) } else { self.trace_verbose },
        }
    }

    /// The URLs of `--routes`, without blanks around them.
    pub fn route_urls(&self) -> impl Iterator<Item = &str> {
        let list = self.routes.as_ref().map_or("", Secret::as_str);
        list.split(',').map(str::trim).filter(|url| !url.is_empty())
    }

    /// The configuration file, when one is named.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        self.config.as_deref().filter(|file| !file.is_empty()).map(PathBuf::from)
    }
}

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Serve(Box<Flags>),
    /// `-t`: read the configuration file named in the flags, say whether it is valid, exit.
    Check(Box<Flags>),
    /// `check DIR [--repair]`: verify a store; the words behind `check`.
    CheckStore(Vec<String>, Box<Flags>),
    /// `--signal`: the text after it, for [`crate::signal_command::run`].
    Signal(String),
    /// Print and exit with code 0.
    Print(Printout),
}

/// Text for the two streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printout {
    /// For standard output, final newline included.
    pub stdout: String,
    /// For standard error, final newline included.
    pub stderr: String,
}

impl Printout {
    /// Prints both texts. A reader that has gone away (`| head -1`) is no fault.
    pub fn show(&self) {
        let _ = std::io::stdout().write_all(self.stdout.as_bytes());
        let _ = std::io::stderr().write_all(self.stderr.as_bytes());
    }
}

/// The arguments cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CliError {
    /// A flag is unknown or its value unreadable. nats-server then prints the fault to
    /// standard error and the usage to standard output, and exits with 0.
    #[error("{0}")]
    Usage(String),
    /// The flags are readable but ask for something impossible: exit code 1.
    #[error("{0}")]
    Refused(String),
}

impl CliError {
    /// The text for the two streams.
    #[must_use]
    pub fn printout(&self) -> Printout {
        match self {
            Self::Usage(fault) => Printout { stdout: text::usage(), stderr: format!("{fault}\n") },
            Self::Refused(fault) => {
                Printout { stdout: String::new(), stderr: format!("{}\n", fatal_text(fault)) }
            }
        }
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_OK,
            Self::Refused(_) => EXIT_FAILED,
        }
    }
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// [`CliError`], which knows its own streams and exit code.
pub fn parse(args: &[String]) -> Result<Command, CliError> {
    let argv = argv::split(args);
    let flags = Flags::try_parse_from(argv.flags.iter().map(argv::Flag::clap_argument))
        .map_err(|error| CliError::Usage(value_fault(&error, &argv.flags)))?;
    if let Some(fault) = argv.fault {
        return Err(CliError::Usage(fault));
    }
    // nats-server asks in this order, whatever the order of the arguments.
    if flags.version == Some(true) {
        return Ok(Command::Print(text::version()));
    }
    if flags.help == Some(true) {
        return Ok(Command::Print(to_stdout(text::usage())));
    }
    if flags.help_tls == Some(true) {
        return Ok(Command::Print(to_stdout(text::tls_help())));
    }
    if let Some(word) = argv.words.first() {
        return match word.to_ascii_lowercase().as_str() {
            "version" => Ok(Command::Print(text::version())),
            "help" => Ok(Command::Print(to_stdout(text::usage()))),
            "check" => {
                let words = argv.words.get(1..).unwrap_or_default();
                crate::check_command::CheckRequest::parse(words).map_err(CliError::Refused)?;
                Ok(Command::CheckStore(words.to_vec(), Box::new(flags)))
            }
            _ => Err(CliError::Refused(format!("unrecognized command: {word:?}"))),
        };
    }
    if let Some(signal) = flags.signal.as_ref().filter(|signal| !signal.is_empty()) {
        return Ok(Command::Signal(signal.clone()));
    }
    if flags.check == Some(true) {
        if flags.config_file().is_none() {
            return Err(CliError::Refused(
                "must specify [-c, --config] option to check configuration file syntax".into(),
            ));
        }
        return Ok(Command::Check(Box::new(flags)));
    }
    Ok(Command::Serve(Box::new(flags)))
}

/// The process's arguments without the program's name, as text.
///
/// # Errors
///
/// [`CliError::Refused`] for an argument that is not UTF-8.
pub fn process_args() -> Result<Vec<String>, CliError> {
    std::env::args_os()
        .skip(1)
        .map(|arg| {
            arg.into_string()
                .map_err(|arg| CliError::Refused(format!("argument is not UTF-8: {arg:?}")))
        })
        .collect()
}

fn to_stdout(stdout: String) -> Printout {
    Printout { stdout, stderr: String::new() }
}

/// clap's refusal in the words Go would use, which name the flag as it was typed.
fn value_fault(error: &clap::Error, flags: &[argv::Flag]) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // clap names the argument as `--port <PORT>`.
    let long = context(ContextKind::InvalidArg).split([' ', '=']).next().unwrap_or_default();
    let long = long.trim_start_matches('-');
    let value = context(ContextKind::InvalidValue);
    let reason = std::error::Error::source(error).map(ToString::to_string);
    match flags.iter().find(|flag| flag.long == long && flag.value == value) {
        Some(flag) if error.kind() == ErrorKind::ValueValidation || value.is_empty() => {
            flag.bad_value(reason.as_deref().unwrap_or("parse error"))
        }
        _ => error.to_string().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests;
