//! The same shards in a seeded world: virtual time, sockets that cut and stall, links between
//! shards that delay and refuse, random clients, and a model of what they may and must receive.
//!
//! ```text
//!  workload ─► client ══ socket ══► Shard ◄── link (FIFO, delayed, bounded) ──► Shard …
//!                 │                                                               one thread,
//!                 └── oracle: allowed? required? in order? ◄── frames             one seed
//! ```

mod client;
mod oracle;
mod workload;
mod world;

pub use oracle::Failure;
pub use world::World;

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Shards of the run.
    pub shards: usize,
    /// Messages published.
    pub published: usize,
    /// Messages delivered.
    pub delivered: usize,
    /// Steps of the world.
    pub steps: usize,
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
    #[test]
    fn no_seed_breaks_a_rule() {
        let mut delivered = 0;
        for seed in 0..250 {
            match super::run(seed) {
                Ok(summary) => delivered += summary.delivered,
                Err(failure) => panic!("seed {seed}: {failure}"),
            }
        }
        assert!(delivered > 10_000, "the runs hardly did anything: {delivered} deliveries");
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
