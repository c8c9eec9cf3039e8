//! Reading ahead of a reader who goes forward.

use super::rig::settled;
use crate::disk::DiskOp;
use crate::log::{Cache, Read};

#[test]
fn a_reader_who_goes_forward_waits_at_its_beginning_only() {
    let mut rig = settled(6000, 200);
    assert!(rig.log.segments().count() > 5);
    rig.cache = Cache::new(16 << 20);
    let mut waited = Vec::new();
    for (location, _) in rig.entries.clone() {
        while matches!(rig.log.read(location, &mut rig.cache, &mut rig.driver.queue), Read::Pending)
        {
            waited.push(location);
            rig.quiesce();
        }
        // What was asked for ahead is there before it is needed.
        rig.quiesce();
    }
    assert!(waited.len() <= 2, "{waited:?}");
}

#[test]
fn little_is_read_ahead_into_a_small_cache() {
    let mut rig = settled(6000, 200);
    rig.cache = Cache::new(256 << 10);
    let mut most = 0;
    for (location, _) in rig.entries.clone() {
        let _ = rig.log.read(location, &mut rig.cache, &mut rig.driver.queue);
        let reads = rig.driver.queue.ops.iter();
        most = most.max(reads.filter(|(_, op)| matches!(op, DiskOp::Read { .. })).count());
        rig.quiesce();
    }
    assert!((1..=2).contains(&most), "{most}");
}
