//! Configurations at start: which notes are kept twice, what the log says of damaged copies, and
//! what counts for a stream that has lost all of them.

use store::Recovered;
use store::disk::BootDisk;
use store::log::{Log, Report};
use wire::api::config::StreamConfig;
use wire::api::decode::decode_document;
use wire::api::policy::Storage;

use super::home::STREAM_KEY;
use crate::context::Context;
use crate::effect::{Effects, Level};
use crate::stream::config::{Catalog, ConfigLimits, check_config};

/// The file beside the segments that counts when no configuration can be read.
const GIVEN_CONFIG: &str = "stream.json";
/// Longest such file, in bytes.
const GIVEN_BYTES_MAX: usize = 16 << 20;
/// Notes of one stream that the log speaks of.
const NOTES_TOLD_MAX: usize = 20;

/// Whether a note is kept twice: what a stream and its consumers are.
#[must_use]
pub fn is_vital_note(key: &[u8]) -> bool {
    key == STREAM_KEY || key.starts_with(b"c/")
}

/// The configuration of a stream, as a note has it.
pub(super) fn decode(json: &[u8]) -> Option<StreamConfig> {
    decode_document::<StreamConfig>(json).ok()
}

/// The configuration that someone has written down for a stream that has lost its own.
pub(super) fn given(
    dir: &str,
    boot: &mut dyn BootDisk,
    ctx: &Context<'_>,
    fx: &mut Effects,
) -> Option<(i64, StreamConfig)> {
    let path = format!("{dir}/{GIVEN_CONFIG}");
    let len = usize::try_from(boot.len(&path).ok()?).ok().filter(|len| *len <= GIVEN_BYTES_MAX)?;
    let config = decode(&boot.read(&path, 0, len).ok()?)?;
    let (_, _, stream) = Log::identify(dir, boot).ok()?;
    if config.name.as_bytes() != stream || config.storage != Storage::File {
        let text = format!("JetStream store {path}: it is not about the stream that is there");
        fx.log(Level::Error, text);
        return None;
    }
    match check_config(&config, false, &ConfigLimits::default(), &Nothing) {
        Ok(config) => {
            let text = format!("JetStream store {dir}: it is served as {GIVEN_CONFIG} says");
            fx.log(Level::Warn, text);
            Some((ctx.unix_ns, config))
        }
        Err(error) => {
            let text = format!("JetStream store {path}: {}", error.description);
            fx.log(Level::Error, text);
            None
        }
    }
}

/// Takes the limits off a configuration that may be older than what was lost, for they could
/// remove what the newer one kept. Whether it did.
pub(super) fn lift_limits(config: &mut StreamConfig, report: &Report) -> bool {
    let is_doubtful = report.doubtful_notes.iter().any(|key| key == STREAM_KEY);
    if is_doubtful {
        (config.max_msgs, config.max_bytes, config.max_msgs_per_subject) = (-1, -1, -1);
        config.max_age_ns = 0;
    }
    is_doubtful
}

/// What became of configurations of which a copy was hit.
pub(super) fn tell_notes(dir: &str, recovered: &Recovered, fx: &mut Effects) {
    for key in recovered.report.damaged_copies.iter().take(NOTES_TOLD_MAX) {
        let what = told_name(key);
        let text = format!(
            "JetStream store {dir}: a copy of {what} was damaged; it is written again from the \
            other"
        );
        fx.log(Level::Warn, text);
    }
    for key in recovered.report.doubtful_notes.iter().take(NOTES_TOLD_MAX) {
        let what = told_name(key);
        let text = format!(
            "JetStream store {dir}: what is damaged may have held a newer version of {what}; it \
            is served with the newest that can be read, and a stream without limits, so that \
            nothing is removed: update it"
        );
        fx.log(Level::Error, text);
    }
}

fn told_name(key: &[u8]) -> String {
    match key.strip_prefix(b"c/") {
        Some(name) => {
            format!("the configuration of consumer {:?}", String::from_utf8_lossy(name))
        }
        None => "its configuration".to_owned(),
    }
}

/// No streams to compare with: each stream is brought back on its own.
struct Nothing;

impl Catalog for Nothing {
    fn config(&self, _: &str) -> Option<&StreamConfig> {
        None
    }

    fn overlaps(&self, _: &[String], _: Option<&str>) -> bool {
        false
    }
}
