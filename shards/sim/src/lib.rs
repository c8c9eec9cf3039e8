//! The same shards in a seeded world: virtual time, sockets that cut and stall, links between
//! shards that delay and refuse, random clients, and a model of what they may and must receive.
//!
//! ```text
//!  workload ─► client ══ socket ══► Shard ◄── link (FIFO, delayed, bounded) ──► Shard …
//!                 │                                                               one thread,
//!                 └── oracle: allowed? required? in order? ◄── frames             one seed
//! ```

#[cfg(test)]
mod barrier_tests;
mod client;
pub mod js;
mod net;
mod oracle;
mod workload;
mod world;

use world::World;

pub use oracle::Failure;

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Shards of the run.
    pub shards: usize,
    /// Messages published.
    pub published: usize,
    /// Messages delivered.
    pub delivered: usize,
    /// Requests that were answered with 503.
    pub unheard: usize,
    /// Clients that the server closed.
    pub closed: usize,
    /// Writes that a socket did not take whole.
    pub refused_writes: usize,
    /// Batches that a link refused.
    pub refused_batches: usize,
    /// Connections that waited and went on.
    pub resumes: usize,
    /// Times a publisher was held.
    pub holds: usize,
    /// Steps of the world.
    pub steps: usize,
}

impl Summary {
    /// Adds what another run did. The count of shards becomes the greater one.
    pub fn add(&mut self, other: &Self) {
        self.shards = self.shards.max(other.shards);
        self.published += other.published;
        self.delivered += other.delivered;
        self.unheard += other.unheard;
        self.closed += other.closed;
        self.refused_writes += other.refused_writes;
        self.refused_batches += other.refused_batches;
        self.resumes += other.resumes;
        self.holds += other.holds;
        self.steps += other.steps;
    }
}

/// Runs one seed to its end.
///
/// # Errors
/// The rule that was broken.
pub fn run(seed: u64) -> Result<Summary, Failure> {
    let mut world = World::new(seed);
    workload::play(&mut world)?;
    world.finish()
}

#[cfg(test)]
mod tests {
    /// Runs seeds and tells what they did together.
    fn run_all(seeds: std::ops::Range<u64>) -> super::Summary {
        let mut total = super::Summary::default();
        for seed in seeds {
            match super::run(seed) {
                Ok(summary) => total.add(&summary),
                Err(failure) => panic!("seed {seed}: {failure}"),
            }
        }
        total
    }

    #[test]
    fn no_seed_breaks_a_rule() {
        let total = run_all(0..200);
        // Rules are worth something only where the runs come to what they are about.
        let met = [
            ("shards", total.shards, 4),
            ("deliveries", total.delivered, 30_000),
            ("503 answers", total.unheard, 50),
            ("closed clients", total.closed, 50),
            ("refused writes", total.refused_writes, 1000),
            ("refused batches", total.refused_batches, 1000),
            ("resumed connections", total.resumes, 1000),
            ("held publishers", total.holds, 100),
        ];
        for (what, count, least) in met {
            assert!(count >= least, "the runs hardly met {what}: {count} of {least}: {total:?}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_run_again() {
        for seed in [3, 77] {
            let (one, other) = (super::run(seed).unwrap(), super::run(seed).unwrap());
            assert_eq!(
                (one.steps, one.published, one.delivered),
                (other.steps, other.published, other.delivered)
            );
        }
    }
}
