//! What happens in a run: clients work with streams and consumers, the disk fails, the server ends
//! and begins again, and in the end everything that was promised is asked for.

use super::ask::Ask;
use super::disk::{Fault, FaultKind};
use super::model::{Being, Config, Fate, Purge, Retention, Sent, StreamModel, dir_of};
use super::play_consumers::{create_consumer, delete_consumer, pull, settle};
use super::world::{End, World};
use crate::oracle::Failure;

const SECOND_NS: u64 = 1_000_000_000;
/// Last tokens of the subjects of a stream.
pub(super) const TOKENS: [&str; 3] = ["a", "b", "c.d"];

/// What a seed lets happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mood {
    flips: bool,
    disk_errors: bool,
    full: bool,
    jumps: bool,
    boot_cuts: bool,
    big: bool,
}

/// Plays a seed.
///
/// # Errors
/// A broken rule.
pub(crate) fn play(world: &mut World) -> Result<(), Failure> {
    let mood = Mood {
        flips: world.one_in(6),
        disk_errors: world.one_in(4),
        full: world.one_in(5),
        jumps: world.one_in(5),
        boot_cuts: world.one_in(3),
        big: world.one_in(5),
    };
    for number in 0..1 + world.below(3) {
        let name = format!("S{number}");
        world.model.streams.push(StreamModel { name, ..StreamModel::default() });
    }
    let mut shards = 1 + world.below(3);
    world.start(shards)?;
    for round in 0..2 + world.below(4) {
        if round > 0 {
            world.inspect()?;
        }
        work(world, mood)?;
        finish_round(world, mood)?;
        if world.one_in(3) {
            let count = 1 + world.below(3);
            world.counts.new_shard_counts += usize::from(count != shards);
            shards = count;
        }
        world.start_badly(shards)?;
        if mood.boot_cuts && world.one_in(2) {
            world.disk.boot_writes_left = Some(world.below(6));
        }
        world.start(shards)?;
    }
    world.inspect()?;
    super::drain::drain(world)?;
    world.inspect()?;
    world.judge_copies()?;
    world.judge_secrecy()
}

/// Clients do this and that.
fn work(world: &mut World, mood: Mood) -> Result<(), Failure> {
    world.is_fresh = false;
    for _ in 0..1 + world.below(3) {
        world.connect();
    }
    world.make_copies()?;
    world.tend_consumers()?;
    for _ in 0..20 + world.below(140) {
        act(world, mood);
        if world.skip_ns > 0 {
            let skip_ns = std::mem::take(&mut world.skip_ns);
            world.wait(skip_ns)?;
        }
        for _ in 0..world.below(14) {
            world.step()?;
        }
    }
    Ok(())
}

/// The server ends, in the middle of everything or at rest.
fn finish_round(world: &mut World, mood: Mood) -> Result<(), Failure> {
    if world.one_in(4) {
        world.disk.is_full = false;
        world.inspect()?;
    }
    let how = match world.below(8) {
        0 => End::Stop,
        1..=3 => End::Kill,
        _ => End::PowerCut,
    };
    world.disk.is_full = false;
    world.end(how)?;
    if mood.flips && world.one_in(2) {
        flip(world);
    }
    Ok(())
}

fn flip(world: &mut World) {
    let at = world.below(world.model.streams.len());
    let dir = format!("{}/", dir_of(&world.model.streams[at].name));
    let near = !world.one_in(4);
    if let Some((file, offset)) = world.disk.flip_bit(&dir, near) {
        world.note(format!("a bit flips in {file} at {offset}"));
        world.model.streams[at].is_damaged = true;
        world.model.streams[at].flips += 1;
        world.flips += 1;
    }
}

fn act(world: &mut World, mood: Mood) {
    let at = world.below(world.model.streams.len());
    let client = world.some_client();
    let being = world.model.streams[at].being;
    match being {
        Being::Absent => {
            if !world.has_open(at) {
                create_stream(world, client, at);
            }
            return;
        }
        Being::Coming if !world.one_in(3) => return,
        Being::Going => return,
        _ => {}
    }
    match world.below(100) {
        0..=44 => publish(world, client, at, mood),
        45..=47 => batch(world, client, at),
        48..=50 => resend(world, client, at),
        51..=56 => create_consumer(world, client, at),
        57..=66 => pull(world, at),
        67..=80 => settle(world, at),
        81..=84 => delete_message(world, client, at),
        85..=86 => purge(world, client, at),
        87..=88 => update(world, client, at),
        89 => delete_stream(world, client, at),
        90 => delete_consumer(world, client, at),
        91 => refuse(world, client, at),
        92..=93 => world.skip_ns = 50_000_000 << world.below(6),
        94..=95 if mood.jumps => jump_clock(world),
        96..=97 if mood.disk_errors => break_disk(world, at),
        98 if mood.full => {
            world.disk.is_full = !world.disk.is_full;
            world.was_full = true;
            world.note(format!("the disk is full: {}", world.disk.is_full));
        }
        99 if mood.flips && world.one_in(2) => flip(world),
        _ => {}
    }
}

fn create_stream(world: &mut World, client: usize, at: usize) {
    let retention = match world.below(5) {
        0 => Retention::Interest,
        1 => Retention::WorkQueue,
        _ => Retention::Limits,
    };
    let config = Config {
        retention,
        in_memory: world.one_in(6),
        max_msgs: if world.one_in(3) { 3 + world.below(30) as i64 } else { -1 },
        max_per_subject: if world.one_in(4) { 1 + world.below(9) as i64 } else { -1 },
        max_age_ns: if world.one_in(8) { (5 * SECOND_NS) as i64 } else { 0 },
        window_ns: if world.one_in(4) { SECOND_NS as i64 } else { 120 * SECOND_NS as i64 },
        discard_new: world.one_in(5),
        ..Config::default()
    };
    let mut config = Config {
        window_ns: if config.max_age_ns > 0 { SECOND_NS as i64 } else { config.window_ns },
        ..config
    };
    world.draw_config(&mut config);
    let mut sent = std::mem::take(&mut world.model.sent);
    let stream = &mut world.model.streams[at];
    stream.forget(&mut sent);
    world.model.sent = sent;
    let stream = &mut world.model.streams[at];
    stream.era += 1;
    stream.being = Being::Coming;
    stream.consumers.clear();
    stream.config = config.clone();
    let name = stream.name.clone();
    world.note(format!("client {client} creates {name}: {config:?}"));
    let body = config.json(&name);
    let subject = format!("$JS.API.STREAM.CREATE.{name}");
    world.ask(client, &subject, "", body.as_bytes(), Ask::CreateStream(at));
}

/// A message that will be told by its payload, not sent yet.
fn new_message(world: &mut World, client: usize, at: usize, size: usize) -> usize {
    let id = world.model.sent.len();
    let tick = world.model.next_tick();
    let stream = &world.model.streams[at];
    let (era, low) = (stream.era, stream.name.to_lowercase());
    let token = TOKENS[world.below(TOKENS.len())];
    let mut payload = format!("{id}:").into_bytes();
    payload.extend((payload.len()..size).map(|place| letter_at(place + 15 * id)));
    world.model.sent.push(Sent {
        stream: at,
        era,
        subject: format!("{low}.{token}"),
        headers: String::new(),
        payload,
        msg_id: None,
        expected_last: None,
        expected_subject_last: None,
        client: (world.model.starts, client),
        tick,
        wall_ns: world.now.wall_ns,
        age_ns: 0,
        batch: None,
        seq: None,
        fate: Fate::Open,
        known_tick: 0,
        known_ns: 0,
    });
    id
}

/// The letter at a place of a payload, which goes on like that for ever.
pub(super) const fn letter_at(place: usize) -> u8 {
    b'a' + (place * 7 % 26) as u8
}

fn send(world: &mut World, client: usize, id: usize, with_reply: bool) {
    let sent = world.model.sent[id].clone();
    let len = sent.payload.len();
    let headers = sent.headers.replace("\r\n", "|");
    world.note(format!("client {client}: message {id} to {}, {len} bytes {headers}", sent.subject));
    if with_reply {
        world.ask(client, &sent.subject, &sent.headers, &sent.payload, Ask::Publish(id));
    } else {
        world.publish(client, &sent.subject, "", &sent.headers, &sent.payload);
    }
}

fn publish(world: &mut World, client: usize, at: usize, mood: Mood) {
    let count = if world.one_in(6) { 2 + world.below(12) } else { 1 };
    for _ in 0..count {
        let size = match world.below(12) {
            0 if mood.big => 60_000,
            1..=4 => 2000,
            _ => 60,
        };
        let size = world.below(size);
        let id = new_message(world, client, at, size);
        let mut headers = String::new();
        match world.below(10) {
            0..=2 => {
                let msg_id = format!("m{}", world.below(60));
                headers = format!("Nats-Msg-Id: {msg_id}\r\n");
                world.model.sent[id].msg_id = Some(msg_id);
            }
            3 => {
                let stream = &world.model.streams[at];
                let last = stream.by_seq.keys().next_back().copied().unwrap_or(0);
                headers = format!("Nats-Expected-Last-Sequence: {last}\r\n");
                world.model.sent[id].expected_last = Some(last);
            }
            4 => {
                let last = last_of_subject(world, at, id);
                headers = format!("Nats-Expected-Last-Subject-Sequence: {last}\r\n");
                world.model.sent[id].expected_subject_last = Some(last);
            }
            5 => headers = format!("X: {id}\r\n"),
            _ => {}
        }
        if let Some(age) = world.draw_age(at) {
            headers.push_str(&format!("Nats-TTL: {age}s\r\n"));
            world.model.sent[id].age_ns = (age * SECOND_NS) as i64;
        }
        if !headers.is_empty() {
            world.model.sent[id].headers = format!("NATS/1.0\r\n{headers}\r\n");
        }
        let with_reply = !world.one_in(12);
        if !with_reply {
            world.model.sent[id].fate = Fate::Doubt;
        }
        send(world, client, id, with_reply);
    }
}

impl World {
    /// A plain message to a stream: its number.
    pub(crate) fn probe_message(&mut self, client: usize, at: usize) -> usize {
        let id = new_message(self, client, at, 20);
        send(self, client, id, true);
        id
    }
}

fn last_of_subject(world: &World, at: usize, id: usize) -> u64 {
    let subject = &world.model.sent[id].subject;
    let known = world.model.streams[at].by_seq.iter().rev();
    let mut same = known.filter(|(_, other)| world.model.sent[**other].subject == *subject);
    same.next().map_or(0, |(seq, _)| *seq)
}

/// A message with the id of another one, as clients send it that had no answer.
fn resend(world: &mut World, client: usize, at: usize) {
    let era = world.model.streams[at].era;
    let ids: Vec<String> = world
        .model
        .sent
        .iter()
        .rev()
        .filter(|sent| sent.stream == at && sent.era == era)
        .filter_map(|sent| sent.msg_id.clone())
        .take(6)
        .collect();
    if ids.is_empty() {
        return;
    }
    let msg_id = ids[world.below(ids.len())].clone();
    let id = new_message(world, client, at, 50);
    world.model.sent[id].headers = format!("NATS/1.0\r\nNats-Msg-Id: {msg_id}\r\n\r\n");
    world.model.sent[id].msg_id = Some(msg_id);
    send(world, client, id, true);
}

/// An atomic batch.
fn batch(world: &mut World, client: usize, at: usize) {
    let count = 2 + world.below(8);
    let number = world.model.sent.len();
    for place in 1..=count {
        let id = new_message(world, client, at, 100);
        let commit = if place == count { "Nats-Batch-Commit: 1\r\n" } else { "" };
        let sent = &mut world.model.sent[id];
        sent.batch = Some(number);
        sent.fate = Fate::Doubt;
        sent.headers = format!(
            "NATS/1.0\r\nNats-Batch-Id: b{number}\r\nNats-Batch-Sequence: {place}\r\n{commit}\r\n"
        );
        send(world, client, id, place == count);
    }
}

fn delete_message(world: &mut World, client: usize, at: usize) {
    let stream = &world.model.streams[at];
    let seqs: Vec<u64> = stream.by_seq.keys().copied().collect();
    if seqs.is_empty() {
        return;
    }
    let name = stream.name.clone();
    let seq = seqs[world.below(seqs.len())];
    let no_erase = world.one_in(2);
    let tick = world.model.next_tick();
    world.model.streams[at].maybe_deleted.insert(seq);
    world.note(format!("client {client} deletes {seq} of {name}, no_erase {no_erase}"));
    let body = format!("{{\"seq\":{seq},\"no_erase\":{no_erase}}}");
    let subject = format!("$JS.API.STREAM.MSG.DELETE.{name}");
    world.ask(client, &subject, "", body.as_bytes(), Ask::Delete(at, seq, tick));
}

fn purge(world: &mut World, client: usize, at: usize) {
    let sent = world.model.next_tick();
    let stream = &world.model.streams[at];
    let name = stream.name.clone();
    let last = stream.by_seq.keys().next_back().copied().unwrap_or(0);
    let mut purge = Purge {
        filter: None,
        below: None,
        keep: 0,
        sent,
        answered: None,
        is_sure: false,
        refused: false,
    };
    let mut parts = Vec::new();
    if world.one_in(2) {
        let filter = format!("{}.{}", name.to_lowercase(), TOKENS[world.below(TOKENS.len())]);
        parts.push(format!("\"filter\":\"{filter}\""));
        purge.filter = Some(filter);
    }
    match world.below(3) {
        0 => {
            let below = 1 + world.below(last as usize + 1) as u64;
            parts.push(format!("\"seq\":{below}"));
            purge.below = Some(below);
        }
        1 => {
            purge.keep = 1 + world.below(5) as u64;
            parts.push(format!("\"keep\":{}", purge.keep));
        }
        _ => {}
    }
    let body = format!("{{{}}}", parts.join(","));
    world.note(format!("client {client} purges {name}: {body}"));
    let stream = &mut world.model.streams[at];
    stream.purges.push(purge);
    let which = stream.purges.len() - 1;
    let subject = format!("$JS.API.STREAM.PURGE.{name}");
    world.ask(client, &subject, "", body.as_bytes(), Ask::Purge(at, which));
}

fn update(world: &mut World, client: usize, at: usize) {
    let stream = &world.model.streams[at];
    if stream.update.is_some() || stream.being != Being::Present {
        return;
    }
    let mut config = stream.config.clone();
    let name = stream.name.clone();
    config.max_msgs = if world.one_in(2) { 2 + world.below(40) as i64 } else { -1 };
    config.max_per_subject = if world.one_in(3) { 1 + world.below(9) as i64 } else { -1 };
    config.is_compressed = world.extras.compression && world.extra_in(2);
    world.note(format!("client {client} updates {name}: {config:?}"));
    world.model.streams[at].update = Some(config.clone());
    let body = config.json(&name);
    let subject = format!("$JS.API.STREAM.UPDATE.{name}");
    world.ask(client, &subject, "", body.as_bytes(), Ask::UpdateStream(at, config));
}

fn delete_stream(world: &mut World, client: usize, at: usize) {
    if world.model.streams[at].being != Being::Present || world.has_open(at) || world.one_in(2) {
        return;
    }
    if world.has_copy(at) {
        return;
    }
    let name = world.model.streams[at].name.clone();
    world.note(format!("client {client} deletes {name}"));
    world.model.streams[at].being = Being::Going;
    world.ask(client, &format!("$JS.API.STREAM.DELETE.{name}"), "", b"", Ask::DeleteStream(at));
}

/// A request that must be refused and change nothing.
fn refuse(world: &mut World, client: usize, at: usize) {
    let name = world.model.streams[at].name.clone();
    let (subject, body) = match world.below(4) {
        0 => (format!("$JS.API.STREAM.UPDATE.{name}"), "{\"name\":\"other\"}".to_owned()),
        1 => (format!("$JS.API.STREAM.PURGE.{name}"), "{\"seq\":3,\"keep\":1}".to_owned()),
        2 => (format!("$JS.API.STREAM.MSG.DELETE.{name}"), "{\"seq\":99999}".to_owned()),
        _ => (format!("$JS.API.STREAM.DELETE.{name}"), "{\"nothing\":".to_owned()),
    };
    let must_fail = Ask::Refused(subject.clone());
    world.note(format!("client {client}: {subject} {body} must be refused"));
    world.ask(client, &subject, "", body.as_bytes(), must_fail);
}

fn jump_clock(world: &mut World) {
    let by = (world.below(7_200) as i64 - 3600) * SECOND_NS as i64;
    world.note(format!("the wall clock jumps by {} s", by / SECOND_NS as i64));
    world.now.wall_ns += by;
    world.model.jumps += 1;
    let now = world.now;
    world.model.see_time(now);
}

fn break_disk(world: &mut World, at: usize) {
    let kind = match world.below(4) {
        0 => FaultKind::Write,
        1 => FaultKind::Sync,
        2 => FaultKind::Read,
        _ => FaultKind::Hang,
    };
    let copy = world.draw_copy();
    let is_copy = copy.is_some();
    let name = copy.unwrap_or_else(|| world.model.streams[at].name.clone());
    let until_ns = world.now.mono_ns + (1 + world.below(9) as u64) * SECOND_NS;
    world.note(format!("the disk of {name} has a fault: {kind:?}"));
    if kind == FaultKind::Hang && !is_copy {
        world.hung.insert(at);
        world.hangs += 1;
    }
    let prefix = format!("{}/", dir_of(&name));
    world.disk.faults.push(Fault { prefix, kind, until_ns });
}
