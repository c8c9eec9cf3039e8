//! Requests across accounts and shards, with the time in the test's hands.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::share::{AnswerKind, ServiceImport, Shares, StreamImport, import_map, service_map};
use crate::auth::AuthTable;
use crate::broker::Broker;
use crate::clock::Now;
use crate::conn::Accepted;
use crate::effect::Effects;
use crate::settings::{AccountSettings, SECOND_NS, Settings};

const A: u32 = 0;
const B: u32 = 1;

/// Two shards, and their connections by account.
struct World {
    shards: Vec<Broker>,
    fx: Effects,
    now: Now,
}

fn settings(kind: AnswerKind) -> Settings {
    let map = import_map(b"pub.>", b"of.pub.>").unwrap();
    let stream = StreamImport { exporter: A, importer: B, back: map.reverse(), map };
    let service = ServiceImport {
        exporter: A,
        map: service_map(b"svc.*", b"use.*").unwrap(),
        kind,
        threshold_ns: 10 * SECOND_NS,
        shares_client: false,
    };
    let a = Shares { exported: vec![stream.clone()], ..Shares::default() };
    let b = Shares { imported: vec![stream], services: vec![service], ..Shares::default() };
    let account = |name: &str, shares| AccountSettings {
        shares: Some(Arc::new(shares)),
        ..AccountSettings::new(name)
    };
    Settings {
        accounts: vec![account("$G", a), account("B", b)],
        auth_table: Arc::new(AuthTable::open()),
        ..Settings::default()
    }
}

impl World {
    fn new(kind: AnswerKind) -> Self {
        let settings = Arc::new(settings(kind));
        let shard = |me| Broker::new(me, 2, Arc::clone(&settings), 7);
        Self { shards: vec![shard(0), shard(1)], fx: Effects::default(), now: Now::default() }
    }

    fn connect(&mut self, shard: usize, account: u32) -> u32 {
        let accepted = Accepted {
            cid: 1,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 1,
            nonce: String::new(),
            over_limit: false,
            tls_first: false,
        };
        let broker = &mut self.shards[shard];
        let slot = broker.handle_accept(accepted, self.now, &mut self.fx);
        broker.conns[slot as usize].account = account;
        let text = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";
        self.feed(shard, slot, text);
        self.shards[shard].conns[slot as usize].account = account;
        self.take(shard, slot);
        slot
    }

    /// Input of a client; everything that follows from it on both shards.
    fn feed(&mut self, shard: usize, slot: u32, text: &str) {
        self.shards[shard].handle_input(slot, text.as_bytes(), self.now, &mut self.fx);
        for _ in 0..6 {
            for from in 0..2 {
                self.shards[from].mesh().seal();
                while let Some(batch) = self.shards[from].mesh().pop(1 - from as u16) {
                    self.shards[1 - from].handle_batch(batch, self.now, &mut self.fx);
                }
            }
        }
    }

    /// What waits for a client.
    fn take(&mut self, shard: usize, slot: u32) -> String {
        let broker = &mut self.shards[shard];
        let outbox = broker.outbox(slot).unwrap();
        let bytes: Vec<u8> = outbox.slices(usize::MAX).flat_map(|slice| slice.to_vec()).collect();
        broker.handle_sent(slot, bytes.len(), false, self.now, &mut self.fx);
        String::from_utf8(bytes).unwrap()
    }

    fn wait(&mut self, seconds: u64) {
        self.now.mono_ns += seconds * SECOND_NS;
        for shard in &mut self.shards {
            shard.handle_timers(self.now, &mut self.fx);
        }
        self.feed(0, u32::MAX - 1, "");
    }

    /// Asks from shard 0; the private reply that the responder on shard 1 sees.
    fn ask(&mut self, requester: u32, responder: u32) -> String {
        self.feed(0, requester, "PUB use.x in 1\r\n?\r\n");
        let request = self.take(1, responder);
        assert!(request.starts_with("HMSG svc.x 1 _R_."), "{request}");
        assert!(request.contains("Nats-Request-Info: {\"acc\":\"B\"}\r\n\r\n?"), "{request}");
        request.split(' ').nth(3).unwrap().to_owned()
    }

    fn pair(&mut self) -> (u32, u32) {
        let (requester, responder) = (self.connect(0, B), self.connect(1, A));
        self.feed(1, responder, "SUB svc.* 1\r\n");
        self.feed(0, requester, "SUB in 1\r\n");
        (requester, responder)
    }
}

#[test]
fn one_answer_crosses_shards_and_accounts_and_no_second() {
    let mut world = World::new(AnswerKind::Single);
    let (requester, responder) = world.pair();
    let reply = world.ask(requester, responder);
    world.feed(1, responder, &format!("PUB {reply} 1\r\na\r\nPUB {reply} 1\r\nb\r\n"));
    assert_eq!(world.take(0, requester), "MSG in 1 1\r\na\r\n");
    assert!(world.shards[0].answers.is_empty());
}

#[test]
fn an_answer_after_its_time_is_lost() {
    let mut world = World::new(AnswerKind::Single);
    let (requester, responder) = world.pair();
    let reply = world.ask(requester, responder);
    world.wait(11);
    assert!(world.shards[0].answers.is_empty());
    assert_eq!(world.take(0, requester), "PING\r\n");
    world.feed(1, responder, &format!("PUB {reply} 1\r\na\r\n"));
    assert_eq!(world.take(0, requester), "");
}

#[test]
fn a_requester_that_has_gone_ends_its_requests() {
    let mut world = World::new(AnswerKind::Stream);
    let (requester, responder) = world.pair();
    let reply = world.ask(requester, responder);
    for shard in 0..2 {
        assert!(world.shards[shard].has_interest(A, reply.as_bytes()), "shard {shard}");
        assert!(!world.shards[0].has_interest(B, reply.as_bytes()), "not for the requester");
    }
    world.feed(0, requester, "UNSUB 1\r\n");
    world.wait(2);
    for shard in 0..2 {
        assert!(!world.shards[shard].has_interest(A, reply.as_bytes()), "shard {shard}");
    }
}

#[test]
fn nobody_to_answer_is_told_across_shards() {
    let mut world = World::new(AnswerKind::Single);
    let (requester, responder) = world.pair();
    world.feed(1, responder, "UNSUB 1\r\nSUB svc.* 1\r\nUNSUB 1 1\r\n");
    world.ask(requester, responder);
    world.feed(0, requester, "PUB use.x in 1\r\n?\r\n");
    let told = world.take(0, requester);
    assert_eq!(told, "HMSG in 1 37 37\r\nNATS/1.0 503\r\nNats-Subject: use.x\r\n\r\n\r\n");
}

#[test]
fn a_stream_follows_the_subscriptions_of_the_importer() {
    let mut world = World::new(AnswerKind::Single);
    let (subscriber, publisher) = (world.connect(0, B), world.connect(1, A));
    let publish = "PUB pub.x 1\r\n1\r\nPUB pub.x 1\r\n2\r\nPUB pub.x 1\r\n3\r\n";
    for (text, wanted) in [
        ("", ""),
        ("SUB of.pub.x 1\r\n", "MSG of.pub.x 1 1\r\n"),
        ("UNSUB 1\r\n", ""),
        ("SUB of.*.x 2\r\n", "MSG of.pub.x 2 1\r\n"),
        ("UNSUB 2\r\n", ""),
        ("SUB pub.x 3\r\n", ""),
    ] {
        world.feed(0, subscriber, text);
        world.feed(1, publisher, publish);
        let came = world.take(0, subscriber);
        let all: String = (1..=3).map(|n| format!("{wanted}{n}\r\n")).collect();
        assert_eq!(came, if wanted.is_empty() { "" } else { &all }, "{text}");
        assert_eq!(world.shards[1].has_interest(A, b"pub.x"), !wanted.is_empty());
    }
}
