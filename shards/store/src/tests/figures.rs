//! Figures of the index at full size: run with
//! `cargo test --release -p store figures -- --ignored --nocapture --test-threads 1`.

use super::files::Files;
use crate::disk::{BootDisk, DiskQueue};
use crate::log::{Cache, Options};
use crate::{MemoryOptions, NewMessage, Read, Store};
use std::time::Instant;

/// Time that this thread was on a processor, ns: others may be busy on this machine.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap()
}

fn timed<T>(what: &str, count: u64, f: impl FnOnce() -> T) -> T {
    let (start, cpu) = (Instant::now(), cpu_ns());
    let out = f();
    let (ns, cpu) = (start.elapsed().as_nanos() as f64, cpu_ns() - cpu);
    println!(
        "{what}: {:.1} ms, {:.1} ms of CPU, {:.1} ns each",
        ns / 1e6,
        cpu / 1e6,
        cpu / count as f64
    );
    out
}

fn message<'a>(subject: &'a [u8], payload: &'a [u8], ts_ns: i64) -> NewMessage<'a> {
    NewMessage { subject, payload, ts_ns, ..NewMessage::default() }
}

/// Names without formatting costs: `b.` and seven digits.
fn name(number: u64, buffer: &mut [u8; 9]) -> &[u8] {
    let mut left = number;
    for digit in buffer[2..].iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    buffer
}

const SUBJECTS: u64 = 1_000_000;

#[test]
#[ignore = "takes seconds and 300 MB; for people who measure"]
fn figures_of_ten_million_messages_on_a_million_subjects() {
    let mut store = Store::memory(MemoryOptions { seed: 3, first_seq: 0 });
    let mut buffer = *b"b.0000000";
    let count = 10_000_000;
    let mut random = 1u64;
    timed("append", count, || {
        for i in 0..count {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let subject = name((random >> 33) % SUBJECTS, &mut buffer);
            let ts = 1_700_000_000_000_000_000 + i as i64 * 2900;
            store.append(&message(subject, b"", ts)).unwrap();
        }
    });
    println!("index: {} MB", store.index_bytes() / 1_000_000);
    let filter = store.add_filter(&[b"b.00*", b"b.0001234"]);
    timed("first pending of a filter", 1, || store.pending(filter, 1));
    let half = store.add_filter(&[b"b.*"]);
    timed("first pending of a broad filter", 1, || store.pending(half, 1));
    timed("pending", 1000, || (0..1000).map(|i| store.pending(half, i * 9_999)).sum::<u64>());
    timed("next", 1000, || (0..1000).filter_map(|i| store.next(half, i * 9_999)).sum::<u64>());
    store.remove_filter(half);
    timed("list all subjects", SUBJECTS, || store.subjects(b">").count());
    timed("subjects of a pattern", 1, || store.subjects(b"b.*").count());
    timed("last per subject", 1, || store.last_per_subject(&[b"b.>"], u64::MAX).len());
    timed("last per subject of the first half", 1, || {
        store.last_per_subject(&[b"b.>"], count / 2).len()
    });
    timed("next of a pattern that nothing matches", 1, || store.next_matching(b"b.x.>", 1));
    timed("time", 1000, || {
        (0..1000)
            .map(|i| store.seq_at_time(1_700_000_000_000_000_000 + i * 29_000_000))
            .sum::<u64>()
    });
    timed("remove the first", 1_000_000, || {
        for _ in 0..1_000_000 {
            let first = store.state().first_seq;
            store.remove(first, false);
        }
    });
    println!("index: {} MB", store.index_bytes() / 1_000_000);
}

#[test]
#[ignore = "takes seconds and 300 MB; for people who measure"]
fn figures_of_history_limits() {
    for history in [1, 8] {
        let mut store = Store::memory(MemoryOptions { seed: 3, first_seq: 0 });
        let mut buffer = *b"b.0000000";
        let count = SUBJECTS * (history + 4);
        let mut random = 1u64;
        timed(&format!("append with history of {history}"), count, || {
            for i in 0..count {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let subject = name((random >> 33) % SUBJECTS, &mut buffer);
                store.append(&message(subject, b"", i as i64 * 2900)).unwrap();
                if store.count_for(subject) > history {
                    let first = store.first_for(subject).unwrap();
                    store.remove(first, false);
                }
            }
        });
        println!(
            "{} messages, index: {} MB",
            store.state().messages,
            store.index_bytes() / 1_000_000
        );
    }
}

#[test]
#[ignore = "takes seconds; for people who measure"]
fn figures_of_one_subject() {
    let mut store = Store::memory(MemoryOptions { seed: 3, first_seq: 0 });
    let count = 10_000_000;
    let payload = [7; 128];
    timed("append of 128 bytes, the newest 100,000 kept", count, || {
        for i in 0..count {
            store.append(&message(b"orders", &payload, i as i64 * 1000)).unwrap();
            if i >= 100_000 {
                store.remove(i - 100_000 + 1, false);
            }
        }
    });
    println!("{} KB", store.heap_bytes() / 1000);
    let mut store = Store::memory(MemoryOptions { seed: 3, first_seq: 0 });
    timed("append of nothing", count, || {
        for i in 0..count {
            store.append(&message(b"orders", b"", i as i64 * 1000)).unwrap();
        }
    });
    println!("index: {} KB", store.index_bytes() / 1000);
}

fn resident_mb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096 / 1_000_000
}

#[test]
#[ignore = "takes a minute and 2 GB of disk; for people who measure"]
fn figures_of_a_restart() {
    let mut files = Files::new("store-figures");
    let mut queue = DiskQueue::default();
    let mut cache = Cache::new(1 << 20);
    let options = || Options::new("s", 5);
    let mut store = Store::file(options(), 0, &mut queue);
    let mut buffer = *b"b.0000000";
    let count = 10_000_000;
    let mut random = 1u64;
    let payload = [7; 128];
    let mut now_ns = 0;
    let mut work = |store: &mut Store, queue: &mut DiskQueue, is_end: bool| loop {
        now_ns += 1_000_000;
        let is_settled = is_end && store.stop(now_ns, queue, &mut cache);
        store.commit(now_ns, queue);
        let done = files.carry_out(queue);
        if done.is_empty() && (is_settled || !is_end) {
            return;
        }
        for done in done {
            store.handle_disk_done(done, now_ns, queue, &mut cache);
        }
    };
    timed("append to files", count, || {
        for i in 0..count {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let subject = name((random >> 33) % SUBJECTS, &mut buffer);
            store.append(&message(subject, &payload, i as i64 * 2900)).unwrap();
            if i % 10_000 == 9999 {
                work(&mut store, &mut queue, false);
            }
        }
    });
    println!("{} MB resident, {} MB index", resident_mb(), store.index_bytes() / 1_000_000);
    timed("stop", 1, || work(&mut store, &mut queue, true));
    let state = store.state();
    for is_clean in [true, false] {
        if !is_clean {
            files.remove("s/index.chk").unwrap();
        }
        let found = timed("start", 1, || Store::recover(options(), &mut files).unwrap());
        println!("{:?}, {} records", found.report.checkpoint, found.report.records);
        println!("{} MB resident", resident_mb());
        assert_eq!(found.store.state(), state);
        store = found.store;
    }
    timed("read in order", count / 4, || {
        for seq in 1..=count / 4 {
            loop {
                match store.get(seq, &mut cache, &mut queue) {
                    Read::Message(m) => break assert_eq!(m.payload.len(), 128),
                    Read::Pending => {}
                    other => panic!("{other:?}"),
                }
                for done in files.carry_out(&mut queue) {
                    store.handle_disk_done(done, 0, &mut queue, &mut cache);
                }
            }
        }
    });
}
