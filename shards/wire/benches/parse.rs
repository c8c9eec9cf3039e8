//! Nanoseconds for one look of the parser, one message line and one subject match.
//!
//! `cargo bench -p wire` prints a line for each case: the median of 15 rounds.

use std::hint::black_box;
use std::time::Instant;

use wire::client::{ParseLimits, encode, parse};
use wire::subject;

const ROUNDS: usize = 15;
const LOOKS: u32 = 1_000_000;

/// Runs `look` in rounds and prints the median time of one.
fn measure(name: &str, mut look: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..LOOKS {
                look();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<32} {:>8.1} ns", rounds[ROUNDS / 2]);
}

fn main() {
    let limits = ParseLimits {
        max_control_line: 4096,
        max_payload: 1 << 20,
        headers: true,
        connect_only: false,
    };
    let body = |size: usize| "x".repeat(size);
    let inbox = "_INBOX.4fGh1kLmN0pQrStUvWxYz2.AbCd3FgH";
    let cases = [
        ("PUB 16 B", format!("PUB foo 16\r\n{}\r\n", body(16))),
        ("PUB 16 B, more behind", format!("PUB foo 16\r\n{0}\r\nPUB foo 16\r\n", body(16))),
        ("PUB 128 B", format!("PUB orders.eu.4711 128\r\n{}\r\n", body(128))),
        ("PUB with reply", format!("PUB svc.echo {inbox} 16\r\n{}\r\n", body(16))),
        ("HPUB", format!("HPUB foo 12 28\r\nNATS/1.0\r\n\r\n{}\r\n", body(16))),
        ("pub, lower case", format!("pub foo 16\r\n{}\r\n", body(16))),
        ("PUB, two blanks", format!("PUB  foo  16\r\n{}\r\n", body(16))),
        ("PUB incomplete", "PUB foo 16\r\nxxxx".to_owned()),
        ("PING", "PING\r\n".to_owned()),
        ("SUB", "SUB orders.*.> 17\r\n".to_owned()),
        ("UNSUB", "UNSUB 17 5\r\n".to_owned()),
    ];
    for (name, input) in &cases {
        measure(name, || {
            let step = parse(black_box(input.as_bytes()), black_box(&limits));
            let _ = black_box(step);
        });
    }
    let mut out = Vec::with_capacity(1 << 16);
    measure("push_msg 16 B", || {
        out.clear();
        encode::push_msg(&mut out, black_box(b"foo"), black_box(b"1"), None, None, &[b'x'; 16]);
        black_box(&out);
    });
    measure("matches, literal", || {
        black_box(subject::matches(black_box(b"orders.eu.4711"), black_box(b"orders.eu.4711")));
    });
    measure("matches, wildcards", || {
        black_box(subject::matches(black_box(b"orders.*.>"), black_box(b"orders.eu.4711.new")));
    });
    measure("is_valid_publish", || {
        black_box(subject::is_valid_publish(black_box(b"orders.eu.4711.new")));
    });
}
