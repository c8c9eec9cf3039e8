//! The first pass over the arguments: nats-server's spellings become clap's.
//!
//! nats-server's flags follow the rules of Go's `flag` package: one or two dashes are the
//! same, a value follows after `=` or as the next argument, a boolean takes a value only
//! after `=`, and parsing stops at the first argument that is not a flag. Several flags have
//! two or three names, some of two letters behind one dash (`-js`, `-DV`). This pass only
//! rewrites each flag to `--<long>=<value>`; what a value means is clap's business.

/// Whether a flag must have a value or is a boolean that may carry one after `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `-D`, `-D=false`.
    Switch,
    /// `-p 4222`, `-p=4222`.
    Value,
}

use Kind::{Switch, Value};

/// Every spelling without its dashes, the name clap knows it by, and its kind.
pub(super) const SPELLINGS: &[(&str, &str, Kind)] = &[
    ("a", "addr", Value),
    ("addr", "addr", Value),
    ("net", "addr", Value),
    ("p", "port", Value),
    ("port", "port", Value),
    ("n", "name", Value),
    ("name", "name", Value),
    ("server_name", "name", Value),
    ("P", "pid", Value),
    ("pid", "pid", Value),
    ("m", "http_port", Value),
    ("http_port", "http_port", Value),
    ("ms", "https_port", Value),
    ("https_port", "https_port", Value),
    ("c", "config", Value),
    ("config", "config", Value),
    ("t", "check", Switch),
    ("sl", "signal", Value),
    ("signal", "signal", Value),
    ("client_advertise", "client_advertise", Value),
    ("ports_file_dir", "ports_file_dir", Value),
    ("l", "log", Value),
    ("log", "log", Value),
    ("T", "logtime", Switch),
    ("logtime", "logtime", Switch),
    ("logtime_utc", "logtime_utc", Switch),
    ("s", "syslog", Switch),
    ("syslog", "syslog", Switch),
    ("r", "remote_syslog", Value),
    ("remote_syslog", "remote_syslog", Value),
    ("D", "debug", Switch),
    ("debug", "debug", Switch),
    ("V", "trace", Switch),
    ("trace", "trace", Switch),
    ("VV", "trace_verbose", Switch),
    ("DV", "debug_trace", Switch),
    ("DVV", "debug_trace_verbose", Switch),
    ("log_size_limit", "log_size_limit", Value),
    ("max_traced_msg_len", "max_traced_msg_len", Value),
    ("js", "jetstream", Switch),
    ("jetstream", "jetstream", Switch),
    ("sd", "store_dir", Value),
    ("store_dir", "store_dir", Value),
    ("user", "user", Value),
    ("pass", "pass", Value),
    ("auth", "auth", Value),
    ("tls", "tls", Switch),
    ("tlsverify", "tlsverify", Switch),
    ("tlscert", "tlscert", Value),
    ("tlskey", "tlskey", Value),
    ("tlscacert", "tlscacert", Value),
    ("help_tls", "help_tls", Switch),
    ("routes", "routes", Value),
    ("cluster", "cluster", Value),
    ("cluster_listen", "cluster", Value),
    ("cluster_name", "cluster_name", Value),
    ("no_advertise", "no_advertise", Switch),
    ("cluster_advertise", "cluster_advertise", Value),
    ("connect_retries", "connect_retries", Value),
    ("profile", "profile", Value),
    ("v", "version", Switch),
    ("version", "version", Switch),
    ("h", "help", Switch),
    ("help", "help", Switch),
    // Ours: the shards.
    ("shards", "shards", Value),
    ("cpus", "cpus", Value),
    ("spin", "spin", Value),
];

/// Flags whose values must not be shown in logs or monitoring.
const SECRET_LONGS: &[&str] = &["user", "pass", "auth", "routes", "cluster"];

/// What stands in the place of a hidden value.
const REDACTED: &str = "[REDACTED]";

/// One flag as it was written and as clap will see it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    /// The name as typed, without dashes.
    pub(super) spelled: String,
    /// clap's long name.
    pub(super) long: &'static str,
    /// The value, `true` for a bare switch.
    pub(super) value: String,
    /// Index of the argument that holds the value.
    value_at: usize,
    /// Whether the value follows `=` in the same argument.
    inline: bool,
    kind: Kind,
}

impl Flag {
    /// The one argument clap gets for this flag.
    pub(super) fn clap_argument(&self) -> String {
        format!("--{}={}", self.long, self.value)
    }

    /// Go words a bad boolean differently from any other bad value.
    pub(super) fn bad_value(&self, reason: &str) -> String {
        match self.kind {
            Switch => {
                format!("invalid boolean value {:?} for -{}: {reason}", self.value, self.spelled)
            }
            Value => format!("invalid value {:?} for flag -{}: {reason}", self.value, self.spelled),
        }
    }
}

/// The arguments, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Argv {
    /// The flags in order, up to the first fault.
    pub(super) flags: Vec<Flag>,
    /// What follows the flags.
    pub(super) words: Vec<String>,
    /// The fault that ended the pass. The flags before it still count: their own faults
    /// come first.
    pub(super) fault: Option<String>,
}

/// Takes the arguments (without the program's name) apart.
pub(super) fn split(args: &[String]) -> Argv {
    let mut argv = Argv::default();
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let Some(body) = flag_body(arg) else {
            // `--` ends the flags and is itself swallowed.
            let first_word = if arg == "--" { at + 1 } else { at };
            argv.words = args.get(first_word..).unwrap_or_default().to_vec();
            return argv;
        };
        match take_flag(arg, body, args, at) {
            Ok(flag) => {
                at = flag.value_at + 1;
                argv.flags.push(flag);
            }
            Err(fault) => {
                argv.fault = Some(fault);
                return argv;
            }
        }
    }
    argv
}

/// The argument without its dashes, or `None` when it is no flag.
fn flag_body(arg: &str) -> Option<&str> {
    let body = arg.strip_prefix('-')?;
    let body = body.strip_prefix('-').unwrap_or(body);
    (!body.is_empty()).then_some(body)
}

fn take_flag(arg: &str, body: &str, args: &[String], at: usize) -> Result<Flag, String> {
    if body.starts_with('-') || body.starts_with('=') {
        return Err(format!("bad flag syntax: {arg}"));
    }
    let (name, inline) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    };
    let Some(&(_, long, kind)) = SPELLINGS.iter().find(|(spelling, ..)| *spelling == name) else {
        return Err(format!("flag provided but not defined: -{name}"));
    };
    let (value, value_at) = match (inline, kind) {
        (Some(value), _) => (value.to_owned(), at),
        (None, Switch) => ("true".to_owned(), at),
        (None, Value) => match args.get(at + 1) {
            Some(value) => (value.clone(), at + 1),
            None => return Err(format!("flag needs an argument: -{name}")),
        },
    };
    Ok(Flag { spelled: name.to_owned(), long, value, value_at, inline: inline.is_some(), kind })
}

/// The arguments with the values of `--user`, `--pass`, `--auth`, `--routes` and `--cluster`
/// hidden, fit for a log line. Takes the arguments without the program's name.
#[must_use]
pub fn redacted(args: &[String]) -> Vec<String> {
    let mut shown = args.to_vec();
    for flag in split(args).flags {
        if !SECRET_LONGS.contains(&flag.long) {
            continue;
        }
        if let Some(slot) = shown.get_mut(flag.value_at) {
            *slot = match slot.split_once('=') {
                Some((name, _)) if flag.inline => format!("{name}={REDACTED}"),
                _ => REDACTED.to_owned(),
            };
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn clap_arguments(text: &str) -> Vec<String> {
        split(&args(text)).flags.iter().map(Flag::clap_argument).collect()
    }

    #[test]
    fn one_dash_and_two_are_equal() {
        assert_eq!(clap_arguments("-p 1 --p 2 -port=3 --port=4").join(" "), {
            "--port=1 --port=2 --port=3 --port=4"
        });
        assert_eq!(clap_arguments("-sd=/x --js -DV").join(" "), {
            "--store_dir=/x --jetstream=true --debug_trace=true"
        });
    }

    #[test]
    fn a_switch_never_takes_the_next_argument() {
        let argv = split(&args("-D false -p 1"));
        assert_eq!(argv.flags.len(), 1);
        assert_eq!(argv.words, args("false -p 1"));
    }

    #[test]
    fn a_value_may_look_like_a_flag() {
        assert_eq!(clap_arguments("-p -1 -c -D").join(" "), "--port=-1 --config=-D");
        assert_eq!(clap_arguments("--cluster=nats://a:b@h:1?x=y").join(" "), {
            "--cluster=nats://a:b@h:1?x=y"
        });
    }

    #[test]
    fn words_end_the_flags() {
        assert_eq!(split(&args("-D version -V")).words, args("version -V"));
        assert_eq!(split(&args("-- -v")).words, args("-v"));
        assert_eq!(split(&args("-")).words, args("-"));
        assert_eq!(split(&[String::new()]).words, vec![String::new()]);
    }

    #[test]
    fn faults_keep_the_flags_before_them() {
        let argv = split(&args("-p x --bogus=1 -D"));
        assert_eq!(argv.flags.len(), 1);
        assert_eq!(argv.fault.as_deref(), Some("flag provided but not defined: -bogus"));
        let fault = |text: &str| split(&args(text)).fault.unwrap_or_default();
        assert_eq!(fault("---p"), "bad flag syntax: ---p");
        assert_eq!(fault("-=x"), "bad flag syntax: -=x");
        assert_eq!(fault("--sl"), "flag needs an argument: -sl");
        assert_eq!(fault("-VERSION"), "flag provided but not defined: -VERSION");
    }

    #[test]
    fn secrets_are_hidden_in_every_spelling() {
        let shown = redacted(&args(
            "--user u -pass=p --auth t -routes=nats://u:p@h:1 --cluster_listen nats://x -n a",
        ));
        assert_eq!(shown.join(" "), {
            "--user [REDACTED] -pass=[REDACTED] --auth [REDACTED] -routes=[REDACTED] \
             --cluster_listen [REDACTED] -n a"
        });
        // A value that itself holds `=` is hidden whole.
        assert_eq!(redacted(&args("--pass pass=word")).join(" "), "--pass [REDACTED]");
    }

    #[test]
    fn spellings_are_unique() {
        for (at, (name, ..)) in SPELLINGS.iter().enumerate() {
            assert!(SPELLINGS.iter().skip(at + 1).all(|(other, ..)| other != name), "{name}");
        }
    }
}
