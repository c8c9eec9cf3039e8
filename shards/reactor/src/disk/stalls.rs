//! Operations on data that a test wants to be stuck for a while: held until a file is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::faults::{LOOK_AGAIN, Stall};

/// What is held, of whatever kind.
#[derive(Debug)]
pub(crate) struct Stalls<T> {
    held: Vec<(Stall, T)>,
    /// The files that are waited for, and whether each is gone.
    watched: Vec<(PathBuf, Arc<AtomicBool>)>,
    /// Wakes the shard.
    bell: OwnedFd,
}

impl<T> Stalls<T> {
    pub(crate) const fn new(bell: OwnedFd) -> Self {
        Self { held: Vec::new(), watched: Vec::new(), bell }
    }

    /// Holds something back.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn hold(&mut self, stall: Stall, what: T) -> io::Result<()> {
        if !self.watched.iter().any(|(gate, _)| *gate == stall.gate) {
            let gone = Arc::new(AtomicBool::new(false));
            watch(stall.gate.clone(), Arc::clone(&gone), self.bell.try_clone()?)?;
            self.watched.push((stall.gate.clone(), gone));
        }
        self.held.push((stall, what));
        Ok(())
    }

    /// What is held.
    pub(crate) fn held(&self) -> impl Iterator<Item = &T> {
        self.held.iter().map(|(_, what)| what)
    }

    /// Whether [`Self::take`] has something.
    pub(crate) fn has_released(&self) -> bool {
        self.watched.iter().any(|(_, gone)| gone.load(Ordering::Acquire))
    }

    /// What need not wait any longer, in the order in which it came.
    pub(crate) fn take(&mut self) -> Vec<(Stall, T)> {
        if !self.has_released() {
            return Vec::new();
        }
        let is_gone = |(_, gone): &mut (PathBuf, Arc<AtomicBool>)| gone.load(Ordering::Acquire);
        let gates: Vec<PathBuf> = self.watched.extract_if(.., is_gone).map(|w| w.0).collect();
        let is_free = |gate: &Path| gates.iter().any(|gone| gone == gate);
        self.held.extract_if(.., |(stall, _)| is_free(&stall.gate)).collect()
    }
}

fn watch(gate: PathBuf, gone: Arc<AtomicBool>, bell: OwnedFd) -> io::Result<()> {
    std::thread::Builder::new().name("disk-stall".to_owned()).spawn(move || {
        while gate.exists() {
            std::thread::sleep(LOOK_AGAIN);
        }
        gone.store(true, Ordering::Release);
        // The counter cannot overflow: the shard resets it whenever it sleeps.
        let _ = rustix::io::write(&bell, &1_u64.to_ne_bytes());
    })?;
    Ok(())
}
