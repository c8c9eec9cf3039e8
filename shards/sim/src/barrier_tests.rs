//! A PONG says that every shard knows of the SUBs before its PING, whoever made them known.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use broker::settings::Settings;
use shard::{Accepted, Effects, Now, Shard};

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

fn has_pong(shard: &Shard, slot: u32) -> bool {
    let bytes: Vec<u8> =
        shard.broker.outbox(slot).unwrap().slices(usize::MAX).flatten().copied().collect();
    String::from_utf8(bytes).unwrap().contains("PONG\r\n")
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
