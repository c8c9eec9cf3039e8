//! The fuzz targets' rules under seeded random input: a few thousand cases each, the same ones
//! every time, made of pieces that are likely to mean something.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on has failed

#[path = "../../../tests/fuzz/src/wire.rs"]
#[allow(clippy::indexing_slicing, clippy::panic, unreachable_pub)]
mod bodies;

/// SplitMix64, so that the cases depend on nothing but the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Up to `count` pieces, now and then a random byte between them.
    fn text(&mut self, pieces: &[&[u8]], count: usize) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..=self.below(count) {
            if self.below(12) == 0 {
                text.push(self.next().to_le_bytes()[0]);
            } else {
                text.extend_from_slice(pieces[self.below(pieces.len())]);
            }
        }
        text
    }
}

const CASES: usize = 6_000;

#[test]
fn parser() {
    let pieces: [&[u8]; 34] = [
        b"PUB ",
        b"pub ",
        b"HPUB ",
        b"SUB ",
        b"UNSUB ",
        b"PING",
        b"PONG\r\n",
        b"CONNECT ",
        b"+OK",
        b"-ERR ",
        b"INFO ",
        b"{}",
        b"{\"verbose\":false}",
        b"foo",
        b"foo.bar",
        b"*",
        b">",
        b" ",
        b"\t",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"0",
        b"1",
        b"2",
        b"12",
        b"999999999",
        b"18446744073709551616",
        b"NATS/1.0\r\n\r\n",
        b"x",
        b"xy",
        b"PUB a 2\r\nxy\r\n",
        b"HPUB a b 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
    ];
    let mut random = Random(1);
    for _ in 0..CASES {
        let mut data = vec![random.next().to_le_bytes()[0]];
        data.extend_from_slice(&random.text(&pieces, 14));
        bodies::parser(&data);
    }
}

#[test]
fn headers() {
    let pieces: [&[u8]; 14] = [
        b"\0",
        b"\0",
        b"\0NATS/1.0",
        b"NATS/1.0 503 No",
        b"NATS/1.0\r\n",
        b"\r\n",
        b"\r\n",
        b"Key",
        b"Key: ",
        b"key:",
        b"value",
        b"\r\n\r\n",
        b"Other: x\r\n",
        b" ",
    ];
    let mut random = Random(2);
    for _ in 0..CASES {
        bodies::headers(&random.text(&pieces, 12));
        let mut tidy = b"Key\0value\0NATS/1.0\r\n".to_vec();
        for _ in 0..random.below(4) {
            let lines: [&[u8]; 4] = [b"Key: a\r\n", b"Key:b\r\n", b"key: c\r\n", b"K: Key: d\r\n"];
            tidy.extend_from_slice(lines[random.below(4)]);
        }
        tidy.extend_from_slice(b"\r\n");
        bodies::headers(&tidy);
    }
}

#[test]
fn subject() {
    let pieces: [&[u8]; 9] = [b"a", b"b", b".", b".", b".", b"*", b">", b" ", b"a*"];
    let mut random = Random(3);
    for _ in 0..CASES * 4 {
        bodies::subject(&random.text(&pieces, 12));
    }
}

#[test]
fn connect() {
    let pieces: [&[u8]; 24] = [
        b"{",
        b"}",
        b"\"",
        b"\"",
        b":",
        b",",
        b"\"user\":",
        b"\"verbose\":",
        b"\"pass\":",
        b"null",
        b"true",
        b"1",
        b"-0.5",
        b"\\ud800",
        b"\\",
        b"[",
        b"]",
        b"\"x\":",
        b"\"secretsecretsecret\"",
        b"{\"a\":[]}",
        b"\"jwt\":\"secretsecretsecret\"",
        b"\"name\":\"n\"",
        b" ",
        b"\"echo\":false",
    ];
    let mut random = Random(4);
    for _ in 0..CASES {
        bodies::connect(&random.text(&pieces, 12));
        bodies::connect(&[b"{".as_slice(), &random.text(&pieces, 3), b"}"].concat());
    }
}

#[test]
fn text() {
    let key = "UBDSW5S5UT4DCC4T3ZAMZB6YZPV2AAUXM2XF6DGCDATHA2OGD5NJKDXB";
    let pieces: [&[u8]; 14] = [
        key.as_bytes(),
        b"1",
        b"23",
        b"0.5",
        b".",
        b"h",
        b"m",
        b"s",
        b"ms",
        "\u{b5}s".as_bytes(),
        b"-",
        b"9223372036854775807ns",
        b"<&>\"\\",
        b"\x7f\x00\xff",
    ];
    let mut random = Random(5);
    for _ in 0..CASES {
        bodies::text(&random.text(&pieces, 6));
    }
    bodies::text(key.as_bytes());
}
