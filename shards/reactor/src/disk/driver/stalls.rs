//! Operations on data that a test wants to be stuck for a while: held until a file is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use store::disk::{FileId, Ticket};

use super::super::faults::{Fault, FaultKind, LOOK_AGAIN, Stall};
use super::{Disk, Waiting};
use crate::disk::jobs::Work;
use crate::uring::Ring;

/// What a test wants to be stuck for a while.
#[derive(Debug)]
pub(super) enum Held {
    /// An operation that has not begun.
    Work(FileId, Waiting),
    /// The flush of this job.
    Flush(usize, Ticket),
}

/// What is held, of whatever kind.
#[derive(Debug)]
pub(super) struct Stalls<T> {
    held: Vec<(Stall, T)>,
    /// The files that are waited for, and whether each is gone.
    watched: Vec<(PathBuf, Arc<AtomicBool>)>,
    /// Wakes the shard.
    bell: OwnedFd,
}

impl<T> Stalls<T> {
    pub(super) const fn new(bell: OwnedFd) -> Self {
        Self { held: Vec::new(), watched: Vec::new(), bell }
    }

    /// Holds something back.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn hold(&mut self, stall: Stall, what: T) -> io::Result<()> {
        if !self.watched.iter().any(|(gate, _)| *gate == stall.gate) {
            let gone = Arc::new(AtomicBool::new(false));
            watch(stall.gate.clone(), Arc::clone(&gone), self.bell.try_clone()?)?;
            self.watched.push((stall.gate.clone(), gone));
        }
        self.held.push((stall, what));
        Ok(())
    }

    /// What is held.
    pub(super) fn held(&self) -> impl Iterator<Item = &T> {
        self.held.iter().map(|(_, what)| what)
    }

    /// Whether [`Self::take`] has something.
    pub(super) fn has_released(&self) -> bool {
        self.watched.iter().any(|(_, gone)| gone.load(Ordering::Acquire))
    }

    /// What need not wait any longer, in the order in which it came.
    pub(super) fn take(&mut self) -> Vec<(Stall, T)> {
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

impl Disk {
    /// Operations on data that a test holds back.
    pub(super) fn stalled(&self) -> impl Iterator<Item = &Waiting> {
        self.stalls.iter().flat_map(Stalls::held).filter_map(|held| match held {
            Held::Work(_, waiting) => Some(waiting),
            Held::Flush(..) => None,
        })
    }

    /// Lets go on what a test has held long enough.
    pub(super) fn release_stalled(&mut self, ring: &mut Ring, now_ns: u64) -> io::Result<()> {
        let released = self.stalls.as_mut().map(Stalls::take).unwrap_or_default();
        for (stall, held) in released {
            match held {
                Held::Work(file, waiting) => {
                    let struck = stall.then.map(|error| (FaultKind::Write, Fault::Fail(error)));
                    self.start_struck(file, waiting, struck, ring, now_ns)?;
                }
                Held::Flush(key, ticket) => {
                    let job = self.jobs.get_mut(key).filter(|job| job.ticket == ticket);
                    let Some(job) = job else { continue };
                    let fd = self.files.get(&job.file).and_then(|open| open.fd.as_ref());
                    if let Some(fd) = fd {
                        job.release_flush(key as u64, fd, stall.then, ring)?;
                    }
                    self.end_if_done(key, ring, now_ns)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn strike_work(&mut self, file: FileId, work: &Work) -> Option<(FaultKind, Fault)> {
        let faults = self.faults.as_mut()?;
        let path = self.files.get(&file).map_or("", |open| open.path.as_str());
        let mut struck = |kind| faults.strike(kind, path).map(|fault| (kind, fault));
        match work {
            Work::Read { .. } => struck(FaultKind::Read),
            Work::Sync => struck(FaultKind::Sync),
            Work::Commit { sync, .. } => {
                let write = struck(FaultKind::Write);
                if *sync { write.or_else(|| struck(FaultKind::Sync)) } else { write }
            }
        }
    }
}
