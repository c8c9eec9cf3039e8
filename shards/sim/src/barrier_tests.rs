//! A PONG says that every shard knows of the SUBs before its PING, whoever made them known; what a
//! request leads to on a third shard reaches the SUBs before the request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use broker::random::Random;
use broker::settings::{AccountSettings, Settings};
use jetstream::settings as js;
use shard::{Accepted, Effects, Now, Shard};

use crate::js::disk::SimDisk;

const NOW: Now = Now { mono_ns: 1, wall_ns: 1 };

fn connect(shard: &mut Shard, fx: &mut Effects) -> u32 {
    let accepted = Accepted {
        cid: 1,
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 1,
        nonce: String::new(),
        over_limit: false,
        tls_first: false,
    };
    let slot = shard.broker.handle_accept(accepted, NOW, fx);
    send(shard, slot, b"CONNECT {\"verbose\":false}\r\n", fx);
    slot
}

fn send(shard: &mut Shard, slot: u32, bytes: &[u8], fx: &mut Effects) {
    shard.broker.handle_input(slot, bytes, NOW, fx);
}

fn has(shard: &Shard, slot: u32, text: &str) -> bool {
    let bytes: Vec<u8> =
        shard.broker.outbox(slot).unwrap().slices(usize::MAX).flatten().copied().collect();
    String::from_utf8(bytes).unwrap().contains(text)
}

fn has_pong(shard: &Shard, slot: u32) -> bool {
    has(shard, slot, "PONG\r\n")
}

/// Everything that one shard has for another.
fn carry(from: &mut Shard, to: &mut Shard, fx: &mut Effects) {
    let mesh = from.broker.mesh();
    mesh.seal();
    while let Some(batch) = mesh.pop(to.broker.mesh().me()) {
        to.broker.handle_batch(batch, NOW, fx);
    }
}

#[test]
fn a_pong_waits_for_interest_that_another_connection_has_announced() {
    let settings = Arc::new(Settings::default());
    let mut here = Shard::new(0, 2, Arc::clone(&settings), 1);
    let mut there = Shard::new(1, 2, settings, 2);
    let (mut fx, mut fx_there) = (Effects::default(), Effects::default());
    let (first, second) = (connect(&mut here, &mut fx), connect(&mut here, &mut fx));
    send(&mut here, first, b"SUB a.> 1\r\n", &mut fx);
    send(&mut here, second, b"SUB a.> 1\r\nPING\r\n", &mut fx);
    assert!(!has_pong(&here, second), "the other shard has not heard of a.> yet");
    carry(&mut here, &mut there, &mut fx_there);
    carry(&mut there, &mut here, &mut fx);
    assert!(has_pong(&here, second));
    // What has been acknowledged is not waited for again.
    let third = connect(&mut here, &mut fx);
    send(&mut here, third, b"SUB a.> 1\r\nPING\r\n", &mut fx);
    assert!(has_pong(&here, third));
}

/// Three shards that serve JetStream to everybody.
fn three_shards(fx: &mut [Effects; 3]) -> [Shard; 3] {
    let account =
        AccountSettings { jetstream: true, asks_jetstream: true, ..AccountSettings::new("$G") };
    let settings = Arc::new(Settings { accounts: vec![account], ..Settings::default() });
    let account = js::AccountSettings {
        name: "$G".to_owned(),
        limits: Some(js::AccountLimits::default()),
        usage: Arc::default(),
    };
    let js_settings = Arc::new(js::Settings { accounts: vec![account], ..Default::default() });
    let mut shards = [0, 1, 2].map(|me| Shard::new(me, 3, Arc::clone(&settings), 1));
    let mut disk = SimDisk::new(512, Random::new(1));
    for (shard, fx) in shards.iter_mut().zip(fx) {
        shard.start_jetstream(Arc::clone(&js_settings), 1, &mut disk, NOW, fx);
    }
    shards
}

/// Carries from one of the shards to another, which works on it.
fn pass(shards: &mut [Shard; 3], fx: &mut [Effects; 3], from: usize, to: usize) {
    let mesh = shards[from].broker.mesh();
    mesh.seal();
    let batches: Vec<_> = std::iter::from_fn(|| mesh.pop(to as u16)).collect();
    for batch in batches {
        shards[to].broker.handle_batch(batch, NOW, &mut fx[to]);
    }
    shards[to].handle_services(NOW, &mut fx[to]);
}

/// Carries everything, but what shard 1 has for shard 2 only when nothing else helps.
fn pass_all(shards: &mut [Shard; 3], fx: &mut [Effects; 3]) {
    for _ in 0..4 {
        for _ in 0..4 {
            for (from, to) in [(1, 0), (0, 2), (2, 0), (0, 1), (2, 1)] {
                pass(shards, fx, from, to);
            }
        }
        pass(shards, fx, 1, 2);
    }
}

#[test]
fn an_advisory_finds_who_subscribed_before_the_request_that_led_to_it() {
    let mut fx: [Effects; 3] = Default::default();
    let mut shards = three_shards(&mut fx);
    pass_all(&mut shards, &mut fx);
    let name = (0..).map(|n| format!("S{n}"));
    let name = name.into_iter().find(|name| jetstream::domain::home_of("$G", name, 3) == 2);
    let name = name.unwrap();
    let client = connect(&mut shards[1], &mut fx[1]);
    let body = format!("{{\"name\":\"{name}\",\"subjects\":[\"a\"],\"storage\":\"memory\"}}");
    let create = format!("PUB $JS.API.STREAM.CREATE.{name} {}\r\n{body}\r\n", body.len());
    send(&mut shards[1], client, create.as_bytes(), &mut fx[1]);
    shards[1].handle_services(NOW, &mut fx[1]);
    pass_all(&mut shards, &mut fx);
    let delete = format!(
        "SUB $JS.EVENT.ADVISORY.> 1\r\nSUB r 2\r\nPUB $JS.API.STREAM.DELETE.{name} r 0\r\n\r\n"
    );
    send(&mut shards[1], client, delete.as_bytes(), &mut fx[1]);
    shards[1].handle_services(NOW, &mut fx[1]);
    pass_all(&mut shards, &mut fx);
    assert!(has(&shards[1], client, "\"success\":true"), "the stream has been deleted");
    assert!(has(&shards[1], client, "\"action\":\"delete\""), "and whoever listens was told");
}
