//! Steering a running server: reload, lame duck, log reopening and shutdown, as signals ask.

use std::sync::Arc;
use std::time::Duration;

use broker::settings::Identity;
use crossbeam_channel::Receiver;
use reactor::{Control, Shared};
use shard::Command;

use crate::boot;
use crate::cli::Flags;
use crate::config::{self, Options};
use crate::facts::{self, Facts};
use crate::logging::LogHandle;
use crate::signals::ProcessSignal;
use crate::streams::UsageRegistry;
use crate::translate::{self, AccountRegistry};

/// Longest wait for the shards to stop accepting.
const STOP_ACCEPTING_MAX: Duration = Duration::from_secs(1);
/// How long shards may take at most to tell clients of consumers of the end.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// What steering needs to know.
pub(crate) struct Steering {
    pub(crate) flags: Flags,
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    pub(crate) accounts: AccountRegistry,
    pub(crate) usage: UsageRegistry,
    pub(crate) facts: Arc<Facts>,
    pub(crate) log: LogHandle,
    pub(crate) shared: Arc<Shared>,
}

impl Steering {
    /// Carries out what a signal asks. True when the server shall end.
    pub(crate) fn handle_signal(
        &mut self,
        signal: ProcessSignal,
        signals: &Receiver<ProcessSignal>,
    ) -> bool {
        match signal {
            ProcessSignal::Reload => self.reload(),
            ProcessSignal::ReopenLog => self.log.reopen(),
            ProcessSignal::LameDuck => {
                self.lame_duck(signals);
                return true;
            }
            ProcessSignal::Terminate | ProcessSignal::Interrupt => {
                self.shut_down();
                return true;
            }
        }
        false
    }

    /// Ends every connection and every shard.
    pub(crate) fn shut_down(&self) {
        tracing::info!("Initiating Shutdown...");
        if let Err(error) = crate::notify::tell(crate::notify::Progress::Stopping) {
            tracing::warn!("cannot tell the service manager: {error}");
        }
        self.shared.send_all(|| Control::StopAccepting);
        // Who waits for messages hears of the end before the connections close.
        self.shared.send_all(|| Control::Farewell);
        let end = std::time::Instant::now() + FAREWELL_MAX;
        while !self.shared.has_said_farewell() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.send_all(|| Control::Stop);
    }

    /// Lame duck mode: clients are told, then closed one after the other, then the server ends.
    /// Meanwhile only an interrupt is obeyed.
    fn lame_duck(&self, signals: &Receiver<ProcessSignal>) {
        tracing::info!("Entering lame duck mode, stop accepting new clients");
        self.shared.send_all(|| Control::StopAccepting);
        // Whoever hears of the lame duck must not be able to come back to it.
        let end = std::time::Instant::now() + STOP_ACCEPTING_MAX;
        while self.shared.is_accepting() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.send_all(|| Control::Command(Command::LameDuck));
        let grace = self.options.lame_duck_grace_period;
        let rest = self.options.lame_duck_duration.saturating_sub(grace);
        if !self.wait(grace, signals) {
            tracing::info!("Closing existing clients");
            let duration_ns = u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX);
            self.shared.send_all(|| Control::Command(Command::LameDuckClose { duration_ns }));
            self.wait(rest, signals);
        }
        self.shut_down();
    }

    /// Waits until the time is over or no client is left. True when an interrupt came.
    fn wait(&self, time: Duration, signals: &Receiver<ProcessSignal>) -> bool {
        let end = std::time::Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() || self.shared.connections() == 0 {
                return false;
            }
            let step = left.min(Duration::from_millis(50));
            if let Ok(ProcessSignal::Interrupt) = signals.recv_timeout(step) {
                return true;
            }
        }
    }

    fn reload(&mut self) {
        if let Err(text) = self.try_reload() {
            tracing::error!("Failed to reload server configuration: {text}");
        }
    }

    fn try_reload(&mut self) -> Result<(), String> {
        if self.options.config_file.is_none() {
            return Err(
                "can only reload config when a file was provided using -c or --config".into()
            );
        }
        let loaded = boot::load(&self.flags).map_err(|errors| errors.to_string())?;
        let changes = config::reload::diff(&self.options, &loaded.options)?;
        let tls = boot::build_tls(&loaded.options).map_err(|error| error.to_string())?;
        let settings =
            translate::shard_settings(&loaded.options, self.identity.clone(), &mut self.accounts)?;
        let log = translate::log_settings(&loaded.options);
        self.log.reconfigure(&log).map_err(|error| error.to_string())?;
        self.log.set_levels(log.levels);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if loaded.options.jetstream.enabled {
            let jetstream = crate::streams::settings(
                &loaded.options,
                &self.identity,
                &settings.accounts,
                &mut self.usage,
            );
            let jetstream = Arc::new(jetstream);
            self.facts.set_jetstream(&loaded.options, Some(&jetstream));
            let command = || Control::Command(Command::ReloadJetStream(Arc::clone(&jetstream)));
            self.shared.send_all(command);
        }
        let settings = Arc::new(settings);
        self.shared.send_all(|| Control::Tls(tls.clone()));
        self.shared.send_all(|| Control::Command(Command::Reload(Arc::clone(&settings))));
        if let Ok(max) = usize::try_from(loaded.options.limits.connections_max) {
            for (shard, keep) in kept(&self.shared.loads(), max).into_iter().enumerate() {
                let command = Command::CloseExcess { keep };
                self.shared.send(shard, Control::Command(command));
            }
        }
        let (debug, trace) = (log.levels.debug, log.levels.trace);
        self.shared.send_all(|| Control::LogLevels { debug, trace });
        let digest = loaded.digest.unwrap_or_default();
        self.options = loaded.options;
        self.facts.replace(|fixed| {
            facts::fill_from_options(fixed, &self.options, &digest);
            fixed.tls_cert_not_after_s =
                tls.as_ref().and_then(|tls| u64::try_from(tls.cert_not_after_s()).ok());
        });
        for change in changes {
            tracing::info!("{}", change.log_line());
        }
        tracing::info!("Reloaded server configuration ({digest})");
        Ok(())
    }
}

/// How many connections each shard keeps so that `max` are left: the fullest shards give up the
/// most.
fn kept(loads: &[usize], max: usize) -> Vec<usize> {
    let mut keep = loads.to_vec();
    let mut excess = loads.iter().sum::<usize>().saturating_sub(max);
    while excess > 0 {
        let Some(most) = keep.iter_mut().max() else { break };
        *most -= 1;
        excess -= 1;
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn the_fullest_shards_give_up_the_most() {
        assert_eq!(kept(&[1, 1], 1), [1, 0]);
        assert_eq!(kept(&[5, 2, 0], 4), [2, 2, 0]);
        assert_eq!(kept(&[3, 3], 9), [3, 3]);
        assert_eq!(kept(&[], 0), [0; 0]);
    }
}
