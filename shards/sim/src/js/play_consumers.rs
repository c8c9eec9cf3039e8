//! What simulated clients do with consumers: make and delete them, ask for messages, settle them.

use super::ask::Ask;
use super::consumer::{ConsumerModel, Policy};
use super::model::{Being, Retention};
use super::play::TOKENS;
use super::world::World;

const SECOND_NS: u64 = 1_000_000_000;

pub(super) fn create_consumer(world: &mut World, client: usize, at: usize) {
    let stream = &world.model.streams[at];
    let here = stream.consumers.iter().filter(|consumer| consumer.being != Being::Absent).count();
    if stream.being != Being::Present || here >= 3 {
        return;
    }
    let (name, retention) = (stream.name.clone(), stream.config.retention);
    let low = name.to_lowercase();
    let free: Vec<String> = TOKENS
        .iter()
        .map(|token| format!("{low}.{token}"))
        .filter(|subject| {
            !stream.consumers.iter().any(|c| c.being != Being::Absent && c.takes(subject))
        })
        .collect();
    let is_queue = retention == Retention::WorkQueue;
    if is_queue && free.is_empty() {
        return;
    }
    let policy = match world.below(6) {
        0 => Policy::All,
        1 if retention == Retention::Limits => Policy::None,
        _ => Policy::Explicit,
    };
    let filter = if is_queue {
        Some(free[world.below(free.len())].clone())
    } else if world.one_in(2) {
        Some(format!("{low}.{}", TOKENS[world.below(TOKENS.len())]))
    } else {
        None
    };
    let stream = &world.model.streams[at];
    let consumer = format!("C{}x{}", stream.era, stream.consumers.len());
    let pushes = world.one_in(4);
    let mut parts = vec![
        format!("\"durable_name\":\"{consumer}\",\"name\":\"{consumer}\""),
        "\"deliver_policy\":\"all\",\"replay_policy\":\"instant\"".to_owned(),
        match policy {
            Policy::Explicit => "\"ack_policy\":\"explicit\"".to_owned(),
            Policy::All => "\"ack_policy\":\"all\"".to_owned(),
            Policy::None => "\"ack_policy\":\"none\"".to_owned(),
        },
    ];
    let deliver_max = push_ack_rules(world, policy, &mut parts);
    if let Some(filter) = &filter {
        parts.push(format!("\"filter_subject\":\"{filter}\""));
    }
    if pushes {
        parts.push(format!("\"deliver_subject\":\"push.{name}.{consumer}\""));
    }
    let config = parts.join(",");
    world.note(format!("client {client} creates {name} > {consumer}: {config}"));
    let body =
        format!("{{\"stream_name\":\"{name}\",\"config\":{{{config}}},\"action\":\"create\"}}");
    let stream = &mut world.model.streams[at];
    stream.consumers.push(ConsumerModel {
        name: consumer.clone(),
        being: Being::Coming,
        policy,
        filter,
        deliver_max,
        pushes,
        ..ConsumerModel::default()
    });
    let which = stream.consumers.len() - 1;
    let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{name}.{consumer}");
    world.ask(client, &subject, "", body.as_bytes(), Ask::CreateConsumer(at, which));
}

/// How long and how often a consumer waits for acknowledgements; the most deliveries, 0 is any.
fn push_ack_rules(world: &mut World, policy: Policy, parts: &mut Vec<String>) -> usize {
    if policy == Policy::None {
        return 0;
    }
    parts.push(format!("\"ack_wait\":{}", SECOND_NS * (1 + world.below(5) as u64)));
    let most = if world.one_in(3) { 2 + world.below(6) } else { 1000 };
    parts.push(format!("\"max_ack_pending\":{most}"));
    if !world.extras.max_deliver || !world.extra_in(2) {
        return 0;
    }
    let deliver_max = 1 + world.dice.below(4) as usize;
    parts.push(format!("\"max_deliver\":{deliver_max}"));
    deliver_max
}

pub(super) fn delete_consumer(world: &mut World, client: usize, at: usize) {
    let Some(which) = world.some_consumer(at) else { return };
    let stream = &mut world.model.streams[at];
    let name = stream.name.clone();
    let consumer = &mut stream.consumers[which];
    consumer.being = Being::Going;
    let consumer = consumer.name.clone();
    world.note(format!("client {client} deletes {name} > {consumer}"));
    let subject = format!("$JS.API.CONSUMER.DELETE.{name}.{consumer}");
    world.ask(client, &subject, "", b"", Ask::DeleteConsumer(at, which));
}

pub(super) fn pull(world: &mut World, at: usize) {
    let Some(which) = world.some_consumer(at) else { return };
    let count = 1 + world.below(12);
    let expires = if world.one_in(2) { 0 } else { SECOND_NS };
    pull_from(world, at, which, count, expires);
}

/// Asks a consumer for messages, or begins to listen to what it pushes.
pub(crate) fn pull_from(world: &mut World, at: usize, which: usize, count: usize, expires: u64) {
    let stream = &world.model.streams[at];
    let name = stream.name.clone();
    let consumer = &stream.consumers[which];
    let (consumer_name, pushes, owner) = (consumer.name.clone(), consumer.pushes, consumer.owner);
    let owner = owner.filter(|at| world.clients[*at].open);
    let is_new = owner.is_none();
    let owner = owner.unwrap_or_else(|| world.some_client());
    world.model.streams[at].consumers[which].owner = Some(owner);
    if pushes {
        if is_new {
            world.note(format!("client {owner} listens to {name} > {consumer_name}"));
            let line = format!("SUB push.{name}.{consumer_name} {}\r\n", 100 * at + which + 2);
            world.clients[owner].send(line.as_bytes());
        }
        return;
    }
    let body = if expires > 0 {
        format!("{{\"batch\":{count},\"expires\":{expires}}}")
    } else {
        format!("{{\"batch\":{count},\"no_wait\":true}}")
    };
    world.note(format!("client {owner} pulls {count} from {name} > {consumer_name}"));
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{name}.{consumer_name}");
    world.publish(owner, &subject, &format!("_INBOX.{owner}.pull"), "", body.as_bytes());
}

/// An acknowledgement of some kind for something that was delivered.
pub(super) fn settle(world: &mut World, at: usize) {
    let Some(which) = world.some_consumer(at) else { return };
    let consumer = &world.model.streams[at].consumers[which];
    if consumer.unsettled.is_empty() || consumer.owner.is_none() {
        return;
    }
    let place = world.below(world.model.streams[at].consumers[which].unsettled.len());
    match world.below(10) {
        0 => answer(world, at, which, place, "-NAK"),
        1 => answer(world, at, which, place, "-NAK {\"delay\": 300000000}"),
        2 => answer(world, at, which, place, "+TERM"),
        3 => answer(world, at, which, place, "+WPI"),
        4 | 5 => answer(world, at, which, place, "+ACK"),
        _ => ack_surely(world, at, which, place),
    }
}

fn answer(world: &mut World, at: usize, which: usize, place: usize, word: &str) {
    let consumer = &mut world.model.streams[at].consumers[which];
    let Some(owner) = consumer.owner else { return };
    let (id, seq, reply) = consumer.unsettled[place].clone();
    if word == "+ACK" || word == "+TERM" {
        consumer.note_maybe(id, seq);
    }
    if word != "+WPI" {
        consumer.unsettled.remove(place);
    }
    world.note(format!("client {owner}: {word} {reply}"));
    world.publish(owner, &reply, "", "", word.as_bytes());
}

/// An acknowledgement that is confirmed.
pub(crate) fn ack_surely(world: &mut World, at: usize, which: usize, place: usize) {
    let tick = world.model.next_tick();
    let consumer = &mut world.model.streams[at].consumers[which];
    let Some(owner) = consumer.owner else { return };
    let (id, seq, reply) = consumer.unsettled.remove(place);
    consumer.note_maybe(id, seq);
    world.note(format!("client {owner}: acknowledges {reply}, to be confirmed"));
    world.ask(owner, &reply, "", b"+ACK", Ask::Ack(at, which, id, seq, tick));
}
