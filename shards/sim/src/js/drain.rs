//! The end of a run: no fault any more, and everything that was promised is asked for.

use super::consumer::Policy;
use super::model::{Being, Fate, Sent};
use super::play_consumers::{ack_surely, pull_from};
use super::world::World;
use crate::oracle::Failure;

/// Virtual time in which a consumer must have delivered everything, ns.
const DRAIN_NS_MAX: u64 = 120_000_000_000;
/// Tries until a stream must take messages again.
const PROBES_MAX: usize = 60;

/// Every stream takes messages, every consumer delivers what nobody has settled.
///
/// # Errors
/// A broken rule.
pub(crate) fn drain(world: &mut World) -> Result<(), Failure> {
    world.connect();
    for at in 0..world.model.streams.len() {
        if world.model.streams[at].being != Being::Present || world.model.streams[at].is_damaged {
            continue;
        }
        if world.model.streams[at].fenced.is_some() {
            continue;
        }
        probe(world, at)?;
        for which in 0..world.model.streams[at].consumers.len() {
            let consumer = &world.model.streams[at].consumers[which];
            if consumer.being == Being::Present && consumer.policy != Policy::None {
                world.end_pause(at, which)?;
                drain_consumer(world, at, which)?;
            }
        }
    }
    Ok(())
}

/// A stream takes a message, or says why not.
pub(crate) fn probe(world: &mut World, at: usize) -> Result<(), Failure> {
    let client = world.some_client();
    for _ in 0..PROBES_MAX {
        let id = world.probe_message(client, at);
        world.rest()?;
        let Sent { fate, .. } = world.model.sent[id];
        if matches!(fate, Fate::Stored | Fate::Refused | Fate::Gone) {
            return Ok(());
        }
        world.wait(500_000_000)?;
    }
    let name = world.model.streams[at].name.clone();
    world.fail(format!("stream {name} takes no message any more"))
}

fn drain_consumer(world: &mut World, at: usize, which: usize) -> Result<(), Failure> {
    world.rest()?;
    let stream = &world.model.streams[at];
    let consumer = &stream.consumers[which];
    let mut due: Vec<usize> = stream
        .by_seq
        .iter()
        .filter(|(seq, id)| {
            consumer.takes(&world.model.sent[**id].subject)
                && !consumer.may_have_settled(**id, **seq)
        })
        .map(|(_, id)| *id)
        .collect();
    let until_ns = world.now.mono_ns + DRAIN_NS_MAX;
    world.model.streams[at].consumers[which].drained.clear();
    loop {
        let stream = &world.model.streams[at];
        let last = stream.last_seq.max(stream.by_seq.keys().next_back().copied().unwrap_or(0));
        due.retain(|id| {
            let consumer = &stream.consumers[which];
            let seq = world.model.sent[*id].seq.unwrap_or(0);
            let sent = &world.model.sent[*id];
            // What went to a client that nobody saw counts as a delivery, too.
            let is_given_up = consumer.deliver_max > 0
                && (sent.client.0 != world.model.starts
                    || consumer.delivered.get(id).is_some_and(|n| *n >= consumer.deliver_max));
            !consumer.drained.contains(id)
                && !is_given_up
                && !consumer.may_have_settled(*id, seq)
                && world.model.excuse(*id, last).is_none()
        });
        if due.is_empty() {
            break;
        }
        if world.now.mono_ns > until_ns {
            let seqs: Vec<Option<u64>> = due.iter().map(|id| world.model.sent[*id].seq).collect();
            let name = format!("{} > {}", stream.name, stream.consumers[which].name);
            return world.fail(format!("{name} does not deliver {due:?} at {seqs:?}"));
        }
        pull_from(world, at, which, 20, 1_000_000_000);
        world.wait(200_000_000)?;
        settle_all(world, at, which)?;
    }
    settle_all(world, at, which)
}

fn settle_all(world: &mut World, at: usize, which: usize) -> Result<(), Failure> {
    world.rest()?;
    while !world.model.streams[at].consumers[which].unsettled.is_empty() {
        ack_surely(world, at, which, 0);
    }
    world.rest()
}
