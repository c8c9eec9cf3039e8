//! JetStream in a seeded world: shards over a disk that tears, forgets, fails and fills up; ends
//! of the server at any moment; and a model, outside the server, of what its answers promise.
//!
//! ```text
//!  play ─► World { clients ══ shards ── SimDisk } ─► Model ◄─ inspect after every start
//! ```

mod ask;
mod boot;
mod consumer;
mod copies;
mod crash;
pub(crate) mod disk;
mod drain;
mod extras;
mod inspect;
mod model;
mod play;
mod play_consumers;
mod tend;
mod turns;
mod world;

use crate::oracle::Failure;
use world::World;

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Ends of the server by a kill, a power cut, and in peace.
    pub kills: usize,
    /// See `kills`.
    pub power_cuts: usize,
    /// See `kills`.
    pub stops: usize,
    /// Starts during which the power went.
    pub cut_boots: usize,
    /// Starts with another number of shards.
    pub new_shard_counts: usize,
    /// Messages sent.
    pub published: usize,
    /// Messages acknowledged.
    pub acked: usize,
    /// Publishes refused.
    pub refused: usize,
    /// Publishes answered as duplicates.
    pub duplicates: usize,
    /// Batches committed.
    pub batches: usize,
    /// Streams made.
    pub streams: usize,
    /// Messages that consumers delivered.
    pub delivered: usize,
    /// Those of them that had been delivered before.
    pub redelivered: usize,
    /// Acknowledgements confirmed.
    pub confirmed: usize,
    /// Messages that mirrors and streams with sources had in the end.
    pub copied: usize,
    /// Consumers that were reset.
    pub resets: usize,
    /// Readings of everything.
    pub inspections: usize,
    /// Streams whose disk failed.
    pub fenced: usize,
    /// Times a stream's disk hung.
    pub hangs: usize,
    /// Operations refused for want of space.
    pub no_space: usize,
    /// Bits flipped.
    pub flips: usize,
    /// Messages that damage took.
    pub lost_to_damage: usize,
    /// Streams set aside for damage.
    pub set_aside: usize,
    /// Sectors that power cuts took.
    pub lost_sectors: usize,
    /// Commits that an end left half done.
    pub torn_writes: usize,
    /// Reads of the disk.
    pub reads: usize,
    /// Commits.
    pub commits: usize,
    /// Steps of the world.
    pub steps: usize,
}

impl Summary {
    fn of(world: &World) -> Self {
        let (counts, model, disk) = (&world.counts, &world.model, &world.disk.counts);
        Self {
            kills: counts.kills,
            power_cuts: counts.power_cuts,
            stops: counts.stops,
            cut_boots: counts.cut_boots,
            new_shard_counts: counts.new_shard_counts,
            published: model.sent.len(),
            acked: model.acked,
            refused: model.refused,
            duplicates: model.duplicates,
            batches: model.batches,
            streams: model.created,
            delivered: model.delivered,
            redelivered: model.redelivered,
            confirmed: model.confirmed,
            copied: world.copied,
            resets: world.resets,
            inspections: world.inspections,
            fenced: model.fenced,
            hangs: world.hangs,
            no_space: disk.no_space,
            flips: world.flips,
            lost_to_damage: model.lost_to_damage,
            set_aside: world.set_aside,
            lost_sectors: disk.lost_sectors,
            torn_writes: disk.torn_writes,
            reads: disk.reads,
            commits: disk.commits,
            steps: world.step_count,
        }
    }

    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        macro_rules! add {
            ($($field:ident)*) => { $(self.$field += other.$field;)* };
        }
        add!(kills power_cuts stops cut_boots new_shard_counts published acked refused duplicates);
        add!(batches streams delivered redelivered confirmed copied inspections fenced hangs);
        add!(resets no_space flips lost_to_damage set_aside lost_sectors torn_writes reads commits steps);
    }
}

/// Runs one seed to its end.
///
/// # Errors
/// The rule that was broken.
pub fn run(seed: u64) -> Result<Summary, Failure> {
    let mut world = World::new(seed);
    play::play(&mut world)?;
    Ok(Summary::of(&world))
}

#[cfg(test)]
mod tests {
    use super::{Summary, run};

    /// Runs seeds and tells what they did together.
    fn run_all(seeds: std::ops::Range<u64>) -> Summary {
        let mut total = Summary::default();
        for seed in seeds {
            match run(seed) {
                Ok(summary) => total.add(&summary),
                Err(failure) => panic!("seed {seed}: {failure}"),
            }
        }
        total
    }

    #[test]
    fn no_seed_breaks_a_promise() {
        let total = run_all(0..300);
        // Rules are worth something only where the runs come to what they are about.
        let met = [
            ("kills", total.kills, 200),
            ("power cuts", total.power_cuts, 300),
            ("clean stops", total.stops, 60),
            ("starts that were cut", total.cut_boots, 40),
            ("other counts of shards", total.new_shard_counts, 100),
            ("acknowledgements", total.acked, 40_000),
            ("duplicates", total.duplicates, 2000),
            ("batches", total.batches, 1000),
            ("deliveries", total.delivered, 15_000),
            ("repeated deliveries", total.redelivered, 1500),
            ("confirmed acknowledgements", total.confirmed, 8000),
            ("copied messages", total.copied, 1000),
            ("consumers that were reset", total.resets, 20),
            ("streams whose disk failed", total.fenced, 40),
            ("disks that hung", total.hangs, 30),
            ("refusals for want of space", total.no_space, 200),
            ("flipped bits", total.flips, 30),
            ("lost sectors", total.lost_sectors, 300),
            ("torn writes", total.torn_writes, 100),
        ];
        for (what, count, least) in met {
            assert!(count >= least, "the runs hardly met {what}: {count} of {least}: {total:?}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_run_again() {
        for seed in [5, 60] {
            let (one, other) = (run(seed).unwrap(), run(seed).unwrap());
            assert_eq!(
                (one.steps, one.published, one.acked, one.commits),
                (other.steps, other.published, other.acked, other.commits)
            );
        }
    }
}
