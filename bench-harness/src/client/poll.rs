//! A thin epoll: tokens in, ready tokens out, waits in nanoseconds.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::error::{During, Result};

/// How a descriptor is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Reports while bytes are there to read.
    Read,
    /// Reports each change: new bytes, or room to write again.
    Edges,
}

/// What is known about a ready descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token given to [`Poll::add`].
    pub token: usize,
    /// Bytes, an end or an error wait to be read.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
}

/// One epoll descriptor with its event buffer.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// A new epoll descriptor.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).during("epoll_create")?;
        Ok(Self { epoll, events: Vec::with_capacity(1024) })
    }

    /// Watches `fd` under `token`.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    pub fn add(&self, fd: impl AsFd, token: usize, watch: Watch) -> Result<()> {
        let flags = match watch {
            Watch::Read => EventFlags::IN | EventFlags::RDHUP,
            Watch::Edges => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        };
        epoll::add(&self.epoll, fd, EventData::new_u64(token as u64), flags).during("epoll_ctl")
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// The descriptor was not watched.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        epoll::delete(&self.epoll, fd).during("epoll_ctl")
    }

    /// Waits at most `patience`, then appends what is ready to `into`.
    ///
    /// # Errors
    /// The wait itself failed.
    pub fn wait(&mut self, patience: Duration, into: &mut Vec<Ready>) -> Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        self.events.clear();
        let room = spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).during("epoll_wait"),
        }
        into.extend(self.events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            let fault = EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP;
            Ready {
                token: usize::try_from(data.u64()).unwrap_or(usize::MAX),
                readable: flags.intersects(EventFlags::IN | fault),
                writable: flags.intersects(EventFlags::OUT | fault),
            }
        }));
        Ok(())
    }
}
