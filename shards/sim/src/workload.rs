//! What simulated clients do: they come, subscribe, publish, ping, unsubscribe, read slowly and go.

use crate::client::{ClientSub, Verb};
use crate::oracle::{Failure, Published};
use crate::world::{ACCOUNTS, World};

/// Subjects that are published to.
pub(crate) const SUBJECTS: [&str; 6] = ["a", "b", "a.b", "a.c", "a.b.c", "b.c"];
/// Patterns that are subscribed to.
const PATTERNS: [&str; 9] = ["a", "b", "a.b", "a.*", "*.b", "a.>", ">", "*", "b.c"];
/// Queue groups.
const QUEUES: [&str; 2] = ["q", "r"];

/// Plays a random script.
///
/// # Errors
/// A broken rule.
pub(crate) fn play(world: &mut World) -> Result<(), Failure> {
    let clients = 2 + world.below(6);
    for _ in 0..clients {
        connect(world);
    }
    let actions = 50 + world.below(400);
    for _ in 0..actions {
        act(world);
        for _ in 0..world.below(12) {
            world.step()?;
        }
    }
    Ok(())
}

fn connect(world: &mut World) {
    let account = world.below(ACCOUNTS.len());
    let (echo, headers) = (world.below(4) > 0, world.below(3) > 0);
    let at = world.connect(account, echo, headers);
    world.note(format!("client {at} connects, account {account}, echo {echo}"));
}

fn act(world: &mut World) {
    let open: Vec<usize> = (0..world.clients.len()).filter(|at| world.clients[*at].open).collect();
    let choice = world.below(100);
    if open.is_empty() || choice < 2 {
        return connect(world);
    }
    let at = open[world.below(open.len())];
    match choice {
        2 => {
            world.note(format!("client {at} goes"));
            world.disconnect(at);
        }
        3..=24 => subscribe(world, at),
        25..=34 => unsubscribe(world, at),
        35..=49 => ping(world, at),
        _ => publish(world, at),
    }
}

fn subscribe(world: &mut World, at: usize) {
    let pattern = PATTERNS[world.below(PATTERNS.len())];
    let queue = (world.below(3) == 0).then(|| QUEUES[world.below(QUEUES.len())].to_owned());
    let client = &mut world.clients[at];
    client.next_sid += 1;
    let sid = client.next_sid;
    let middle = queue.as_ref().map(|queue| format!(" {queue}")).unwrap_or_default();
    client.send(format!("SUB {pattern}{middle} {sid}\r\n").as_bytes());
    client.unconfirmed.push((sid, Verb::Sub));
    let sub = ClientSub {
        pattern: pattern.to_owned(),
        queue,
        confirmed: false,
        ended: false,
        max: 0,
        cap: None,
        received: 0,
    };
    client.subs.insert(sid, sub);
    world.note(format!("client {at}: SUB {pattern}{middle} {sid}"));
}

fn unsubscribe(world: &mut World, at: usize) {
    let mut sids: Vec<u64> = world.clients[at].subs.keys().copied().collect();
    sids.sort_unstable();
    if sids.is_empty() {
        return;
    }
    let sid = sids[world.below(sids.len())];
    let max = (world.below(2) == 0).then(|| 1 + world.below(20));
    let client = &mut world.clients[at];
    let text = max.map(|max| format!(" {max}")).unwrap_or_default();
    if client.subs.get(&sid).is_none_or(|sub| sub.ended) {
        return;
    }
    client.send(format!("UNSUB {sid}{text}\r\n").as_bytes());
    if let Some(sub) = client.subs.get_mut(&sid)
        && !sub.ended
    {
        sub.ended = true;
        sub.max = max.unwrap_or(0);
        client.unconfirmed.push((sid, Verb::Unsub));
    }
    world.note(format!("client {at}: UNSUB {sid}{text}"));
}

fn ping(world: &mut World, at: usize) {
    let client = &mut world.clients[at];
    client.send(b"PING\r\n");
    client.pings += 1;
    let confirms = std::mem::take(&mut client.unconfirmed);
    client.confirms.push(confirms);
    world.note(format!("client {at}: PING"));
}

fn publish(world: &mut World, at: usize) {
    let subject = SUBJECTS[world.below(SUBJECTS.len())];
    let number = world.oracle.messages.len();
    let size = match world.below(10) {
        0 => world.below(9000),
        1..=3 => world.below(600),
        _ => world.below(30),
    };
    let mut payload = format!("{number}:").into_bytes();
    payload.resize(payload.len() + size, b'x');
    let reply = if world.below(5) == 0 { format!("_R.{number}") } else { String::new() };
    let with_header = world.clients[at].headers && world.below(3) == 0;
    let header = if with_header {
        format!("NATS/1.0\r\nN: {number}\r\n\r\n").into_bytes()
    } else {
        Vec::new()
    };
    let account = world.clients[at].account;
    let due = due(world, at, account, subject);
    let client = &mut world.clients[at];
    client.published += 1;
    let sequence = client.published;
    let gap = if reply.is_empty() { String::new() } else { format!(" {reply}") };
    let line = if with_header {
        let total = header.len() + payload.len();
        format!("HPUB {subject}{gap} {} {total}\r\n", header.len())
    } else {
        format!("PUB {subject}{gap} {}\r\n", payload.len())
    };
    client.send(line.as_bytes());
    client.send(&header);
    client.send(&payload);
    client.send(b"\r\n");
    world.oracle.messages.push(Published {
        publisher: at,
        sequence,
        account,
        subject: subject.to_owned(),
        reply,
        header,
        payload,
        due,
    });
    world.note(format!("client {at}: message {number} to {subject}"));
}

/// Subscriptions that must have a message sent now, if they stay.
fn due(world: &World, publisher: usize, account: usize, subject: &str) -> Vec<(usize, u64)> {
    let mut due = Vec::new();
    for (at, client) in world.clients.iter().enumerate() {
        if !client.open || client.account != account || (at == publisher && !client.echo) {
            continue;
        }
        for (sid, sub) in &client.subs {
            if sub.confirmed
                && !sub.ended
                && wire::subject::matches(sub.pattern.as_bytes(), subject.as_bytes())
            {
                due.push((at, *sid));
            }
        }
    }
    due
}
