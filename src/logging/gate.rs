//! Which events become lines.

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::LogLevels;

/// The `tracing` target of events that become `FTL` lines.
pub const FATAL_TARGET: &str = "fatal";

/// Crates whose events may be chatty in the log. From others (the runtime, TLS) only
/// warnings and errors are of use to an operator.
const OWN_CRATES: &[&str] = &["shearwater", "reactor", "shard", "broker", "wire", FATAL_TARGET];

/// Lets an event pass by its level and target.
#[derive(Debug)]
pub(super) struct LevelGate {
    levels: LogLevels,
}

impl LevelGate {
    pub(super) fn new(levels: LogLevels) -> Self {
        Self { levels }
    }

    pub(super) fn set(&mut self, levels: LogLevels) {
        self.levels = levels;
    }

    fn passes(&self, metadata: &Metadata<'_>) -> bool {
        match *metadata.level() {
            Level::ERROR | Level::WARN => true,
            Level::INFO => is_own(metadata.target()),
            Level::DEBUG => self.levels.debug && is_own(metadata.target()),
            Level::TRACE => self.levels.trace && is_own(metadata.target()),
        }
    }
}

fn is_own(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    OWN_CRATES.contains(&name)
}

impl<S: Subscriber> Layer<S> for LevelGate {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.passes(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.passes(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.levels {
            LogLevels { trace: true, .. } => LevelFilter::TRACE,
            LogLevels { debug: true, .. } => LevelFilter::DEBUG,
            _ => LevelFilter::INFO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_crates_are_told_from_others() {
        assert!(is_own("shearwater::boot"));
        assert!(is_own("reactor"));
        assert!(is_own(FATAL_TARGET));
        assert!(!is_own("glommio::reactor"));
        assert!(!is_own("wireless"));
    }
}
