//! The bus with real channels: order, fairness, fullness, and shards that really sleep.

use std::collections::VecDeque;
use std::thread::{self, Thread};
use std::time::Duration;

use super::*;

#[test]
fn every_pair_has_its_own_channel() {
    let mut ends = Bus::new::<(usize, usize)>(4, 3);
    for (from, end) in ends.iter_mut().enumerate() {
        for to in 0..4 {
            let outcome = end.try_send(to, (from, to));
            match from == to {
                true => assert_eq!(outcome, Err(SendRefused::Gone((from, to)))),
                false => assert_eq!(outcome, Ok(())),
            }
        }
        assert_eq!(end.try_send(4, (0, 0)), Err(SendRefused::Gone((0, 0))));
    }
    for (to, end) in ends.iter_mut().enumerate() {
        assert_eq!(end.shard(), to);
        assert_eq!(end.shards(), 4);
        assert_eq!(end.inbox_depth(), 3);
        for _ in 0..3 {
            let (from, batch) = end.try_recv().unwrap();
            assert_eq!(batch, (from, to));
        }
        assert_eq!(end.try_recv(), None);
    }
}

#[test]
fn a_full_channel_gives_the_batch_back_and_keeps_order() {
    let mut ends = Bus::new::<u32>(2, 2);
    ends[0].try_send(1, 1).unwrap();
    ends[0].try_send(1, 2).unwrap();
    assert_eq!(ends[0].depth(1), 2);
    assert_eq!(ends[0].try_send(1, 3), Err(SendRefused::Full(3)));
    assert_eq!(ends[1].try_recv(), Some((0, 1)));
    ends[0].try_send(1, 3).unwrap();
    assert_eq!(ends[1].try_recv(), Some((0, 2)));
    assert_eq!(ends[1].try_recv(), Some((0, 3)));
    assert_eq!(ends[0].depth(1), 0);
}

#[test]
fn peers_take_turns() {
    let mut ends = Bus::new::<u32>(3, 8);
    for n in 0..4 {
        ends[1].try_send(0, n).unwrap();
    }
    ends[2].try_send(0, 9).unwrap();
    let from: Vec<usize> =
        std::iter::from_fn(|| ends[0].try_recv()).map(|(from, _)| from).collect();
    assert_eq!(from, [1, 2, 1, 1, 1]);
}

#[test]
fn a_stopped_peer_is_gone_and_what_it_sent_still_arrives() {
    let mut ends = Bus::new::<u32>(2, 2);
    ends[1].try_send(0, 5).unwrap();
    drop(ends.pop());
    assert_eq!(ends[0].try_recv(), Some((1, 5)));
    assert_eq!(ends[0].try_recv(), None);
    assert_eq!(ends[0].try_send(1, 1), Err(SendRefused::Gone(1)));
    assert!(ends[0].prepare_sleep());
}

#[test]
fn only_a_sleeper_is_woken_and_only_once() {
    let mut ends = Bus::new::<u32>(3, 2);
    let mut woken = 0;
    ends[0].try_send(1, 1).unwrap();
    assert!(!ends[0].wake(1, || woken += 1));
    // A batch is waiting: no sleep, and still nobody wakes.
    assert!(!ends[1].prepare_sleep());
    assert!(!ends[0].wake(1, || woken += 1));
    ends[1].try_recv().unwrap();
    assert!(ends[1].prepare_sleep());
    assert!(ends[0].wake(1, || woken += 1));
    assert!(!ends[2].wake(1, || woken += 1));
    ends[1].finish_sleep();
    assert!(ends[1].prepare_sleep());
    ends[1].finish_sleep();
    assert!(!ends[2].wake(1, || woken += 1));
    assert_eq!(woken, 1);
}

#[test]
fn a_sender_that_sleeps_on_a_full_channel_is_woken_by_room() {
    let mut ends = Bus::new::<u32>(2, 1);
    let mut woken = 0;
    ends[0].try_send(1, 1).unwrap();
    ends[1].try_recv().unwrap();
    // Nobody waits for room: no wake, although the peer sleeps.
    assert!(ends[0].prepare_sleep());
    assert!(!ends[1].wake_starved(0, || woken += 1));
    ends[0].finish_sleep();

    ends[0].try_send(1, 2).unwrap();
    assert_eq!(ends[0].try_send(1, 3), Err(SendRefused::Full(3)));
    assert!(ends[0].prepare_sleep());
    ends[1].try_recv().unwrap();
    assert!(ends[1].wake_starved(0, || woken += 1));
    assert_eq!(woken, 1);
    ends[0].finish_sleep();
    // There is room now for the batch that came back: no sleep before it is sent.
    assert!(!ends[0].prepare_sleep());
    ends[0].try_send(1, 3).unwrap();
    assert!(ends[0].prepare_sleep());
}

/// How long a shard blocks before that counts as a lost wake.
const BLOCK_MAX: Duration = Duration::from_secs(20);

/// A shard that sends `count` numbers to each peer over small channels, receives as many from
/// each, and blocks whenever it is allowed to. Returns how often it was woken.
fn run_shard(mut end: BusEnd<u32>, threads: &[Thread], count: u32) -> usize {
    let shards = end.shards();
    let me = end.shard();
    let mut outgoing: Vec<VecDeque<u32>> = vec![(0..count).collect(); shards];
    outgoing[me].clear();
    let mut expected = vec![0_u32; shards];
    let mut missing = (shards - 1) * count as usize;
    let mut blocked = 0;
    while missing > 0 || outgoing.iter().any(|queue| !queue.is_empty()) {
        for (peer, queue) in outgoing.iter_mut().enumerate() {
            let mut sent = false;
            while let Some(batch) = queue.pop_front() {
                match end.try_send(peer, batch) {
                    Ok(()) => sent = true,
                    Err(SendRefused::Full(batch)) => {
                        queue.push_front(batch);
                        break;
                    }
                    Err(SendRefused::Gone(_)) => panic!("shard {peer} left too early"),
                }
            }
            if sent {
                end.wake(peer, || threads[peer].unpark());
            }
        }
        while let Some((from, batch)) = end.try_recv() {
            assert_eq!(batch, expected[from], "order of {from} at {me}");
            expected[from] += 1;
            missing -= 1;
            end.wake_starved(from, || threads[from].unpark());
        }
        let done = missing == 0 && outgoing.iter().all(VecDeque::is_empty);
        if !done && end.prepare_sleep() {
            let start = std::time::Instant::now();
            // Like an eventfd, a thread's token keeps a wake that comes before the block.
            thread::park_timeout(BLOCK_MAX);
            assert!(start.elapsed() < BLOCK_MAX, "shard {me} lost a wake");
            end.finish_sleep();
            blocked += 1;
        }
    }
    blocked
}

#[test]
fn sleeping_shards_lose_nothing() {
    const SHARDS: usize = 3;
    for capacity in [1, 2, 64] {
        let ends = Bus::new::<u32>(SHARDS, capacity);
        let (started, handles) = crossbeam_channel::unbounded();
        let workers: Vec<_> = ends
            .into_iter()
            .map(|end| {
                let (to_worker, threads) = bounded::<Vec<Thread>>(1);
                let started = started.clone();
                let worker = thread::spawn(move || {
                    started.send((end.shard(), thread::current())).unwrap();
                    let threads = threads.recv().unwrap();
                    run_shard(end, &threads, 5_000)
                });
                (worker, to_worker)
            })
            .collect();
        let mut threads: Vec<(usize, Thread)> = handles.iter().take(SHARDS).collect();
        threads.sort_by_key(|(shard, _)| *shard);
        let threads: Vec<Thread> = threads.into_iter().map(|(_, thread)| thread).collect();
        for (_, to_worker) in &workers {
            to_worker.send(threads.clone()).unwrap();
        }
        for (worker, _) in workers {
            worker.join().unwrap();
        }
    }
}
