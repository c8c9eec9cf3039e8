//! Tests of the log over a disk that loses, tears, flips, fills up and fails.

mod ahead;
mod basic;
mod crash;
mod damage;
mod disk;
mod erase;
mod rig;
mod scrub;
mod secret;
mod twins;
