//! The configuration: from the text of a file to the options of the server.
//!
//! ```text
//!   file, includes, environment
//!        |  lexer, parser
//!        v
//!   tree of values with places ----> digest
//!        |  server, auth, accounts, tls, cluster, ... fill
//!        v
//!   Options <---- overlay: flags over file over defaults
//!        |  check: rules between keys        reload: old and new -> changes
//!        v
//!   the server
//! ```
//!
//! All errors of a file are collected and reported at once, each with file, line and column.

mod accounts;
mod auth;
mod check;
mod cluster;
mod digest;
mod duration;
mod edge;
mod error;
mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gateway;
mod jetstream;
mod leafnodes;
mod lexer;
mod nkey;
mod options;
mod options_peers;
mod options_trust;
mod overlay;
mod parser;
mod permissions;
mod reader;
pub mod reload;
mod secret;
mod served;
mod server;
mod shards;
mod shares;
mod tls;
mod trust;
mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

use sha2::{Digest, Sha256};

pub use check::check;
pub use digest::{digest, json};
pub use duration::go_duration;
pub use error::{ConfigErrors, Finding, Kind, Pos};
pub use exchange::{Export, Import, Latency, MapDestination, MsgTrace, ResponseType, ShareKind};
pub use options::{
    AccountJetStream, AccountLimits, AccountOptions, AuthOptions, ConnectionType, LimitOptions,
    Listen, LogOptions, MonitorOptions, Options, Permissions, Port, ResponseRule, SubjectRule,
    SubjectRules, UserOptions, WriteTimeout,
};
pub use options_peers::{
    ClusterOptions, Compression, GatewayOptions, JetStreamLimits, JetStreamOptions, LeafAuth,
    LeafNodeOptions, LeafUser, MqttOptions, PeerAuth, RemoteGateway, RemoteLeaf, SimpleAuth,
    StoreCipher, TpmOptions, WebsocketOptions,
};
pub use options_trust::{
    CalloutOptions, CertPair, HandshakeFirst, OcspCacheOptions, OcspOptions, OcspPeer, Resolver,
    ResolverDirectory, TlsOptions, TlsVersion, TrustOptions,
};
pub use overlay::{FlagOverrides, overlay};
pub use reader::Places;
pub use secret::Secret;
pub use shards::{ShardOptions, Spin};
pub use shares::{exported, local_subject};
pub use value::{Map, Node, Value};

/// Where files and variables come from; tests give their own.
pub trait Source {
    /// The bytes of a file.
    ///
    /// # Errors
    /// Any I/O error of reading it.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>>;

    /// The text of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The files and the environment of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Source for System {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Parses a text to its tree without looking at what the keys mean.
///
/// # Errors
/// Every grammar error, missing variable and unreadable include.
pub fn parse_text(text: &[u8], file: &str, source: &dyn Source) -> Result<Map, ConfigErrors> {
    let (map, errors) = parser::parse(text, file, source);
    if errors.is_empty() { Ok(map) } else { Err(ConfigErrors { errors, warnings: Vec::new() }) }
}

/// A configuration file that can be used.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What it says, over the defaults.
    pub options: Options,
    /// What was doubtful or is not served yet, in the order of the file.
    pub warnings: Vec<Finding>,
    /// `sha256:<hex>` of what was parsed.
    pub digest: String,
    /// Where keys stand that rules between keys speak about.
    pub places: Places,
}

/// Reads a configuration file.
///
/// # Errors
/// Everything that is wrong with it, at once; only a grammar error ends the reading early. Rules
/// between keys are not checked here but in [`check`], since flags may still change values.
pub fn load(path: &str, source: &dyn Source) -> Result<Loaded, ConfigErrors> {
    load_text(&read(path, source)?, path, source)
}

/// Reads the text of a configuration file called `path`.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &[u8], path: &str, source: &dyn Source) -> Result<Loaded, ConfigErrors> {
    let (loaded, errors) = judge(text, path, source);
    if errors.is_empty() {
        return Ok(loaded);
    }
    Err(ConfigErrors { errors, warnings: loaded.warnings })
}

fn read(path: &str, source: &dyn Source) -> Result<Vec<u8>, ConfigErrors> {
    source
        .read(Path::new(path))
        .map_err(|err| ConfigErrors::one(Finding::bare(error::io_text("open", path, &err))))
}

/// What could be read of a text, and all errors in it.
fn judge(text: &[u8], path: &str, source: &dyn Source) -> (Loaded, Vec<Finding>) {
    let (map, mut findings) = parser::parse(text, path, source);
    let is_readable = findings.is_empty() || !map.is_empty();
    let mut reader = reader::Reader::default();
    let mut options = Options::default();
    if is_readable {
        options = server::fill(&mut reader, &map);
    }
    options.config_file = Some(path.to_string());
    stamp(&mut options, source);
    for (pos, file, before) in std::mem::take(&mut reader.files) {
        if let Err(err) = source.read(Path::new(&file)) {
            let text = format!("{before}{}", error::io_text("open", &file, &err));
            findings.push(Finding::error(&pos, text));
        }
    }
    findings.append(&mut reader.findings);
    if is_readable && map.is_empty() {
        let text = format!("{path}: config has no values or is empty");
        findings.push(Finding { kind: Kind::Warning, ..Finding::bare(text) });
    }
    findings.sort_by(|a, b| a.pos.cmp(&b.pos));
    findings.dedup();
    let is_error = |finding: &Finding| finding.kind == Kind::Error;
    let (errors, warnings) = findings.into_iter().partition(is_error);
    (Loaded { options, warnings, digest: digest(&map), places: reader.places }, errors)
}

/// Notes what the TLS files hold. The first that can not be read is returned with the reason.
fn stamp(options: &mut Options, source: &dyn Source) -> Option<Finding> {
    let tls = options.tls.as_mut()?;
    let mut sha = Sha256::new();
    let mut unreadable = None;
    for file in tls.files() {
        match source.read(Path::new(file)) {
            Ok(bytes) => sha.update(&bytes),
            Err(err) => {
                let text = error::io_text("open", file, &err);
                unreadable.get_or_insert(Finding::bare(text));
            }
        }
    }
    tls.files_digest = data_encoding::HEXLOWER.encode(&sha.finalize());
    unreadable
}

/// Reads a configuration file as `-t` does: what nats-server warns about makes it fail, and so
/// does an empty file. Keys that are only not served yet do not; they are in the warnings of the
/// result.
///
/// # Errors
/// As [`load`], or warnings alone.
pub fn check_only(path: &str, source: &dyn Source) -> Result<Loaded, ConfigErrors> {
    let loaded = load(path, source)?;
    if loaded.warnings.iter().any(|finding| finding.kind == Kind::Warning) {
        return Err(ConfigErrors { errors: Vec::new(), warnings: loaded.warnings });
    }
    Ok(loaded)
}

/// Options that the server can start with.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Flags over file over defaults.
    pub options: Options,
    /// What was doubtful or is not served yet.
    pub warnings: Vec<Finding>,
    /// `sha256:<hex>` of the file, if there was one.
    pub digest: Option<String>,
}

/// Everything from the flags to options that can be used: reads the file that they name, applies
/// them to it, and checks the rules between keys. Also used to reload.
///
/// # Errors
/// Everything that is wrong with the file, the flags, and with what they give together.
pub fn configure(flags: &FlagOverrides, source: &dyn Source) -> Result<Configured, ConfigErrors> {
    let file = flags.config.as_deref().filter(|path| !path.is_empty());
    let (loaded, mut errors) = match file {
        Some(path) => judge(&read(path, source)?, path, source),
        None => (Loaded::default(), Vec::new()),
    };
    let Loaded { mut options, mut warnings, digest, places } = loaded;
    // What the file got wrong may be just what another key refers to.
    let is_partial = !errors.is_empty();
    for finding in overlay(&mut options, flags) {
        if finding.kind == Kind::Error {
            errors.push(finding);
        } else {
            warnings.push(finding);
        }
    }
    if flags.tls_cert.is_some() {
        errors.extend(stamp(&mut options, source));
    }
    errors.extend(check::check_known(&options, &places, is_partial));
    if !errors.is_empty() {
        return Err(ConfigErrors { errors, warnings });
    }
    Ok(Configured { options, warnings, digest: file.map(|_| digest) })
}
