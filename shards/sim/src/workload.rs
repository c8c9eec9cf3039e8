//! What simulated clients do: they come, subscribe, publish, ping, unsubscribe, stall, break the
//! protocol and go.

use crate::client::{Client, ClientSub, Confirmation, Verb};
use crate::oracle::{Failure, Published};
use crate::world::{ACCOUNTS, World};

/// Subjects that are published to.
pub(crate) const SUBJECTS: [&str; 6] = ["a", "b", "a.b", "a.c", "a.b.c", "b.c"];
/// Patterns that are subscribed to.
const PATTERNS: [&str; 10] = ["a", "b", "a.b", "a.*", "*.b", "a.>", ">", "*", "b.c", "_R.>"];
/// Queue groups.
const QUEUES: [&str; 2] = ["q", "r"];

/// Plays a random script.
///
/// # Errors
/// A broken rule.
pub(crate) fn play(world: &mut World) -> Result<(), Failure> {
    for _ in 0..2 + world.below(6) {
        connect(world);
    }
    for _ in 0..50 + world.below(350) {
        act(world);
        for _ in 0..world.below(16) {
            world.step()?;
        }
    }
    Ok(())
}

fn connect(world: &mut World) {
    let account = world.below(ACCOUNTS.len());
    let (echo, headers) = (world.below(4) > 0, world.below(3) > 0);
    let (verbose, refused) = (world.below(4) == 0, world.below(16) == 0);
    let window = 1 + world.below(4000);
    let shard = world.below(world.shards.len());
    let spoiled = refused.then_some(0);
    let client = Client { account, echo, headers, verbose, window, spoiled, ..Client::default() };
    let at = world.connect(shard, client, if refused { "wrong" } else { "p" });
    world.note(format!(
        "client {at} connects to shard {shard}, account {account}, echo {echo}, headers {headers}, \
         verbose {verbose}, refused {refused}"
    ));
}

fn act(world: &mut World) {
    let open: Vec<usize> = (0..world.clients.len())
        .filter(|at| world.clients[*at].open && !world.clients[*at].leaving)
        .collect();
    let choice = world.below(200);
    if open.is_empty() || choice < 4 {
        return connect(world);
    }
    let at = open[world.below(open.len())];
    match choice {
        4 | 5 => {
            world.note(format!("client {at} goes"));
            world.disconnect(at);
        }
        6 => {
            world.note(format!("client {at} breaks the protocol"));
            let client = &mut world.clients[at];
            client.spoiled.get_or_insert(client.published);
            client.send(b"FOO\r\n");
        }
        7..=12 => {
            let for_ns = world.below(60_000_000) as u64;
            world.note(format!("client {at} reads nothing for {for_ns} ns"));
            world.clients[at].stalled_until_ns = world.now.mono_ns + for_ns;
        }
        13..=50 => {
            let pattern = PATTERNS[world.below(PATTERNS.len())];
            let queue = (world.below(3) == 0).then(|| QUEUES[world.below(QUEUES.len())]);
            subscribe_to(world, at, pattern, queue);
        }
        51..=70 => unsubscribe(world, at),
        71..=105 => ping(world, at),
        _ => publish(world, at),
    }
}

pub(crate) fn subscribe_to(world: &mut World, at: usize, pattern: &str, queue: Option<&str>) {
    let client = &mut world.clients[at];
    client.next_sid += 1;
    let sid = client.next_sid;
    let middle = queue.map(|queue| format!(" {queue}")).unwrap_or_default();
    client.send_operation(format!("SUB {pattern}{middle} {sid}\r\n").as_bytes());
    client.unconfirmed.push((sid, Verb::Sub));
    let sub = ClientSub {
        pattern: pattern.to_owned(),
        queue: queue.map(str::to_owned),
        ..ClientSub::default()
    };
    client.subs.insert(sid, sub);
    world.note(format!("client {at}: SUB {pattern}{middle} {sid}"));
}

fn unsubscribe(world: &mut World, at: usize) {
    let client = &world.clients[at];
    let sids: Vec<u64> =
        client.subs.iter().filter(|(_, sub)| !sub.ended).map(|(sid, _)| *sid).collect();
    if sids.is_empty() {
        return;
    }
    let sid = sids[world.below(sids.len())];
    let max = if world.below(2) == 0 { 1 + world.below(20) } else { 0 };
    let text = if max > 0 { format!(" {max}") } else { String::new() };
    let client = &mut world.clients[at];
    client.send_operation(format!("UNSUB {sid}{text}\r\n").as_bytes());
    client.unconfirmed.push((sid, Verb::Unsub));
    if let Some(sub) = client.subs.get_mut(&sid) {
        sub.ended = true;
        sub.max = max;
    }
    world.note(format!("client {at}: UNSUB {sid}{text}"));
}

fn ping(world: &mut World, at: usize) {
    let client = &mut world.clients[at];
    client.send(b"PING\r\n");
    client.pings += 1;
    let subs = std::mem::take(&mut client.unconfirmed);
    client.confirms.push(Confirmation { subs, published: client.published });
    world.note(format!("client {at}: PING"));
}

/// One message or, so that the shard gathers runs, several to one subject.
fn publish(world: &mut World, at: usize) {
    let subject = SUBJECTS[world.below(SUBJECTS.len())];
    let burst = world.below(6) == 0;
    let count = if burst { 2 + world.below(12) } else { 1 };
    let size_max = match world.below(12) {
        0 if !burst => 20_000,
        0..=4 => 700,
        _ => 30,
    };
    for _ in 0..count {
        let size = world.below(size_max + 1);
        let with_reply = !burst && world.below(4) == 0;
        let with_header = !burst && world.clients[at].headers && world.below(3) == 0;
        publish_to(world, at, subject, size, with_reply, with_header);
    }
}

pub(crate) fn publish_to(
    world: &mut World,
    at: usize,
    subject: &str,
    size: usize,
    with_reply: bool,
    with_header: bool,
) {
    let number = world.oracle.messages.len();
    let mut payload = format!("{number}:").into_bytes();
    payload.extend((payload.len()..size).map(|place| b'a' + (place % 26) as u8));
    let reply = if with_reply { format!("_R.{number}") } else { String::new() };
    let header =
        if with_header { format!("NATS/1.0\r\nN: {number}\r\n\r\n") } else { String::new() };
    let account = world.clients[at].account;
    let due = due(world, at, subject);
    let client = &mut world.clients[at];
    client.published += 1;
    let sequence = client.published;
    let gap = if with_reply { format!(" {reply}") } else { String::new() };
    let total = header.len() + payload.len();
    let line = if with_header {
        format!("HPUB {subject}{gap} {} {total}\r\n", header.len())
    } else {
        format!("PUB {subject}{gap} {total}\r\n")
    };
    client.send_operation(&[line.as_bytes(), header.as_bytes(), &payload, b"\r\n"].concat());
    world.oracle.messages.push(Published {
        publisher: at,
        sequence,
        sent_at: world.step_count,
        account,
        subject: subject.to_owned(),
        reply,
        header: header.into_bytes(),
        payload,
        due,
    });
    world.note(format!("client {at}: message {number} to {subject}, {total} bytes"));
}

/// Subscriptions that must have a message sent now, if they stay.
fn due(world: &World, publisher: usize, subject: &str) -> Vec<(usize, u64)> {
    let account = world.clients[publisher].account;
    let mut due = Vec::new();
    for (at, client) in world.clients.iter().enumerate() {
        if !client.open || client.account != account || (at == publisher && !client.echo) {
            continue;
        }
        let subs = client.subs.iter().filter(|(_, sub)| sub.confirmed && sub.takes(subject));
        due.extend(subs.map(|(sid, _)| (at, *sid)));
    }
    due
}
