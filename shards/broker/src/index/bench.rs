//! Measures the index at a million subscriptions; run by hand:
//! `cargo test --release -p broker index_figures -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use super::*;

const SUBSCRIPTIONS: u32 = 1_000_000;

/// Resident bytes of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn subject(number: u32, suffix: &str) -> String {
    format!("orders.eu.{number}{suffix}")
}

/// Prints the mean of `count` steps, and the slowest run of 1,000 of them as a mean as well:
/// the clock would cost more than a step does.
fn report(name: &str, count: u32, mut step: impl FnMut(u32)) {
    const RUN: u32 = 1_000;
    let mut slowest = 0;
    let start = Instant::now();
    for first in (0..count).step_by(RUN as usize) {
        let before = Instant::now();
        for number in first..first + RUN {
            step(number);
        }
        slowest = slowest.max(before.elapsed().as_nanos() / u128::from(RUN));
    }
    let mean = start.elapsed().as_nanos() / u128::from(count);
    println!("  {name}: {mean} ns (slowest 1,000: {slowest} ns each)");
}

fn measure(title: &str, suffix: &str) {
    println!("{title}");
    let subjects: Vec<String> = (0..SUBSCRIPTIONS).map(|number| subject(number, suffix)).collect();
    let published: Vec<String> = subjects.iter().map(|text| text.replace('*', "new")).collect();
    let at = |list: &[String], number: u32| {
        // A stride that visits everything in an order the caches cannot guess.
        list[(u64::from(number) * 7_368_787 % u64::from(SUBSCRIPTIONS)) as usize].clone()
    };
    let before = resident_bytes();
    let mut index = Index::new(42);
    report("insert", SUBSCRIPTIONS, |number| {
        index.insert(subjects[number as usize].as_bytes(), None, number);
    });
    let each = (resident_bytes() - before) as f64 / f64::from(SUBSCRIPTIONS);
    let counted = index.stats().bytes as f64 / f64::from(SUBSCRIPTIONS);
    println!("  memory: {each:.0} bytes a subscription resident, {counted:.0} counted");
    let mut matches = Matches::new();
    let order: Vec<String> = (0..SUBSCRIPTIONS).map(|number| at(&published, number)).collect();
    report("match, any subject", SUBSCRIPTIONS, |number| {
        index.match_into(order[number as usize].as_bytes(), &mut matches);
        assert_eq!(black_box(&matches).plain.len(), 1);
    });
    report("match, one hot subject", SUBSCRIPTIONS, |_| {
        index.match_into(order[0].as_bytes(), &mut matches);
        black_box(&matches);
    });
    report("match, nobody", SUBSCRIPTIONS, |_| {
        index.match_into(b"orders.us.17.new.x", &mut matches);
        black_box(&matches);
    });
    report("remove", SUBSCRIPTIONS, |number| {
        index.remove(subjects[number as usize].as_bytes(), None, number);
    });
    assert!(index.is_empty());
}

#[test]
#[ignore = "a measurement, run by hand in release mode"]
fn index_figures() {
    measure("distinct literal subjects", "");
    measure("distinct wildcard subjects", ".*");
}
