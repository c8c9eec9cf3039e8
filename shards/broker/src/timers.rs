//! Deadlines of connections in one heap. Entries are never removed: one that comes due is checked
//! against the connection's state and dropped or armed anew.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// A login must have come.
    Auth,
    /// A ping is due.
    Ping,
    /// The socket must have taken something.
    Write,
    /// A held publisher is looked at again.
    Hold,
    /// Lame duck mode closes this connection.
    LameDuck,
    /// Requests across accounts are looked at; of no connection.
    Answers,
}

/// A deadline that came due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When, monotonic ns.
    pub at_ns: u64,
    /// Connection.
    pub slot: u32,
    /// Generation of its slot.
    pub generation: u32,
    /// What for.
    pub kind: TimerKind,
}

/// The heap.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<Due>>,
}

impl Timers {
    /// Arms a deadline.
    pub fn arm(&mut self, at_ns: u64, slot: u32, generation: u32, kind: TimerKind) {
        self.heap.push(Reverse(Due { at_ns, slot, generation, kind }));
    }

    /// Arms the write deadline.
    pub fn arm_write(&mut self, at_ns: u64, slot: u32, generation: u32) {
        self.arm(at_ns, slot, generation, TimerKind::Write);
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|due| due.0.at_ns)
    }

    /// Takes a deadline that is due.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<Due> {
        if self.next_ns()? > now_ns {
            return None;
        }
        self.heap.pop().map(|due| due.0)
    }
}
