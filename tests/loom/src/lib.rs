//! The bus's sleep and wake handshakes under every interleaving that loom can find.
//!
//! The file under test is the reactor's own, included by path. The channel is a model, as the
//! real one cannot run under loom: it promises only what any channel promises, that what was
//! pushed before is seen by who sees the push (release and acquire). So nothing but the
//! handshake itself can make the tests pass. A lost wake shows as a deadlock, which loom
//! reports.
#![cfg(test)]

#[allow(dead_code, reason = "the reactor uses all of it")]
#[path = "../../../shards/reactor/src/bus/wake.rs"]
mod wake;

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use wake::{RoomFlag, SleepFlag};

/// An eventfd: writes are counted, a read blocks while there are none and takes them all.
#[derive(Default)]
struct EventFd {
    count: Mutex<usize>,
    written: Condvar,
}

impl EventFd {
    fn write(&self) {
        *self.count.lock().unwrap() += 1;
        self.written.notify_one();
    }

    fn read_blocking(&self) {
        let mut count = self.count.lock().unwrap();
        while *count == 0 {
            count = self.written.wait(count).unwrap();
        }
        *count = 0;
    }
}

/// A channel of one sender and one receiver, as counters of what went in and came out.
#[derive(Default)]
struct Channel {
    pushed: AtomicUsize,
    popped: AtomicUsize,
}

impl Channel {
    /// Only the sender calls this.
    fn try_push(&self, capacity: usize) -> bool {
        // Only the sender writes `pushed`.
        let pushed = self.pushed.load(Ordering::Relaxed);
        if pushed - self.popped.load(Ordering::Acquire) >= capacity {
            return false;
        }
        self.pushed.store(pushed + 1, Ordering::Release);
        true
    }

    /// Only the receiver calls this.
    fn try_pop(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        let popped = self.popped.load(Ordering::Relaxed);
        self.popped.store(popped + 1, Ordering::Release);
        true
    }

    fn is_empty(&self) -> bool {
        self.pushed.load(Ordering::Acquire) == self.popped.load(Ordering::Acquire)
    }

    fn is_full(&self, capacity: usize) -> bool {
        self.pushed.load(Ordering::Acquire) - self.popped.load(Ordering::Acquire) >= capacity
    }
}

/// One shard as its peers see it.
#[derive(Default)]
struct Shard {
    flag: SleepFlag,
    event: EventFd,
    inboxes: [Channel; 2],
    /// How often the flag was raised, and how often a peer took it down.
    prepared: AtomicUsize,
    woken: AtomicUsize,
}

impl Shard {
    fn send(&self, from: usize) {
        assert!(self.inboxes[from].try_push(usize::MAX));
        self.flag.wake(|| {
            self.woken.fetch_add(1, Ordering::Relaxed);
            self.event.write();
        });
    }

    fn receive(&self, wanted: usize) {
        let mut got = 0;
        while got < wanted {
            got += self.inboxes.iter().filter(|inbox| inbox.try_pop()).count();
            if got == wanted {
                break;
            }
            self.prepared.fetch_add(1, Ordering::Relaxed);
            if self
                .flag
                .prepare(|| self.inboxes.iter().all(Channel::is_empty))
            {
                self.event.read_blocking();
                self.flag.finish();
            }
        }
    }
}

/// Runs `senders` threads with `each` batches against one receiver.
fn model(senders: usize, each: usize, preemptions: Option<usize>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let shard = Arc::new(Shard::default());
        let threads: Vec<_> = (0..senders)
            .map(|from| {
                let shard = Arc::clone(&shard);
                thread::spawn(move || (0..each).for_each(|_| shard.send(from)))
            })
            .collect();
        shard.receive(senders * each);
        for thread in threads {
            thread.join().unwrap();
        }
        // Each announcement allows one wake: an awake shard is left alone.
        let woken = shard.woken.load(Ordering::Relaxed);
        assert!(woken <= shard.prepared.load(Ordering::Relaxed));
    });
}

#[test]
fn one_sender_never_loses_a_wake() {
    model(1, 2, None);
}

#[test]
fn two_senders_never_lose_a_wake() {
    model(2, 1, Some(4));
}

#[test]
fn two_busy_senders_never_lose_a_wake() {
    model(2, 2, Some(2));
}

/// Sender and receiver over a channel of one place: the sender sleeps on a full channel, the
/// receiver on an empty one, and both get on.
#[test]
fn a_starved_sender_never_loses_a_wake() {
    const CAPACITY: usize = 1;
    const BATCHES: usize = 3;
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let channel = Arc::new(Channel::default());
        let room = Arc::new(RoomFlag::new());
        let sender = Arc::new((SleepFlag::new(), EventFd::default()));
        let receiver = Arc::new((SleepFlag::new(), EventFd::default()));

        let thread = {
            let (channel, room) = (Arc::clone(&channel), Arc::clone(&room));
            let (sender, receiver) = (Arc::clone(&sender), Arc::clone(&receiver));
            thread::spawn(move || {
                let mut sent = 0;
                while sent < BATCHES {
                    if channel.try_push(CAPACITY) {
                        sent += 1;
                        receiver.0.wake(|| receiver.1.write());
                        continue;
                    }
                    room.want();
                    if sender.0.prepare(|| channel.is_full(CAPACITY)) {
                        sender.1.read_blocking();
                        sender.0.finish();
                    }
                }
            })
        };
        let mut got = 0;
        while got < BATCHES {
            if channel.try_pop() {
                got += 1;
                if room.take() {
                    sender.0.wake(|| sender.1.write());
                }
                continue;
            }
            if receiver.0.prepare(|| channel.is_empty()) {
                receiver.1.read_blocking();
                receiver.0.finish();
            }
        }
        thread.join().unwrap();
    });
}

/// The proof that the model can fail: the same handshake without its fences loses a wake.
#[test]
fn without_fences_the_model_finds_the_lost_wake() {
    use loom::sync::atomic::AtomicBool;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        loom::model(|| {
            let shared = Arc::new((
                AtomicBool::new(false),
                Channel::default(),
                EventFd::default(),
            ));
            let sender = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                let (asleep, channel, event) = &*sender;
                channel.try_push(1);
                if asleep.load(Ordering::Relaxed) && asleep.swap(false, Ordering::Relaxed) {
                    event.write();
                }
            });
            let (asleep, channel, event) = &*shared;
            while !channel.try_pop() {
                asleep.store(true, Ordering::Relaxed);
                if channel.is_empty() {
                    event.read_blocking();
                }
                asleep.store(false, Ordering::Relaxed);
            }
            thread.join().unwrap();
        });
    }));
    assert!(outcome.is_err());
}
