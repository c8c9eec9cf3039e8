//! When the sealed segments of a store are gone through, and what is told of the damage found.
//!
//! Every segment has its moment within the interval: a hash of stream and number. So nothing has
//! to be remembered over a restart, streams do not all begin at once, and a restart costs no more
//! than the segments whose moment fell into it. A segment in which a read or a compaction met
//! damage is gone through at once, whatever the interval is.

use std::collections::BTreeSet;

use crate::disk::{DiskError, DiskQueue};
use crate::file::{FileLog, location};
use crate::index::Index;
use crate::log::{Cache, Damage, PIECE_BYTES, Scrubbed};
use crate::store::{Backing, Store};

/// How long another stream of the shard is waited for at least, ns.
const TURN_WAIT_NS: u64 = 1_000_000_000;

/// How often and how fast sealed segments are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPace {
    /// Each segment once in this time, ns; 0 is never.
    pub interval_ns: u64,
    /// Bytes a second that the streams of a shard read for it together; at least 256 KiB.
    pub bytes_per_second: u64,
}

impl Default for ScrubPace {
    fn default() -> Self {
        Self { interval_ns: 0, bytes_per_second: 16 << 20 }
    }
}

/// Damage in a segment that was not known before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// The segment.
    pub segment: u32,
    /// The damaged places, with the messages of the stream that lie there.
    pub damage: Vec<Damage>,
    /// Those messages: first and last number of each range.
    pub lost: Vec<(u64, u64)>,
    /// One copy of its header, or both, are damaged.
    pub is_header_damaged: bool,
    /// Blocks that the disk did not give.
    pub unreadable_blocks: u64,
    /// Why it did not. Without a damaged place: the segment could not be verified.
    pub error: Option<DiskError>,
}

/// When what is due. Times of the plan are on the monotonic clock, moved by `offset_ns` so that
/// they began as the wall clock: a jump of that one changes nothing.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pace: ScrubPace,
    offset_ns: u64,
    /// All moments up to this one are dealt with.
    cursor_ns: u64,
    /// When the scrub of this stream will have come round.
    pass_ends_ns: u64,
    /// The next segment and its moment.
    next: Option<(u64, u32)>,
    /// The segments before this one are sealed, as far as `next` knows.
    planned_for: u32,
    /// To be gone through at once.
    urgent: Vec<u32>,
    /// Another stream has the turn until then, monotonic ns.
    turn_at_ns: Option<u64>,
    /// Damage that was told: segment, incarnation and bytes from, to.
    told: BTreeSet<(u32, u32, u32, u32)>,
    findings: Vec<Finding>,
    is_stopped: bool,
}

/// The moment of a segment within the interval.
const fn phase(uid: u64, segment: u32, interval_ns: u64) -> u64 {
    let mut x = uid ^ (segment as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 30;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)) % interval_ns
}

impl Plan {
    /// The moment of a segment that comes next.
    const fn moment(&self, uid: u64, segment: u32) -> u64 {
        let (interval, from) = (self.pace.interval_ns, self.cursor_ns + 1);
        let phase = phase(uid, segment, interval);
        from + (phase + interval - from % interval) % interval
    }

    /// When there is something to do, monotonic ns.
    fn deadline(&self) -> Option<u64> {
        if let Some(at) = self.turn_at_ns {
            return Some(at);
        }
        self.next.map(|(moment, _)| moment.saturating_sub(self.offset_ns))
    }
}

impl FileLog {
    pub(crate) fn set_scrub(&mut self, pace: ScrubPace, clock: Option<(u64, i64)>) {
        let plan = &mut self.scrub;
        if let Some((mono_ns, unix_ns)) = clock {
            plan.cursor_ns = u64::try_from(unix_ns).unwrap_or(0).max(mono_ns);
            plan.offset_ns = plan.cursor_ns - mono_ns;
        }
        plan.pace = pace;
        plan.pass_ends_ns = plan.cursor_ns.saturating_add(pace.interval_ns);
        self.plan_scrub();
    }

    pub(crate) const fn stop_scrub(&mut self) {
        self.scrub.is_stopped = true;
    }

    /// Finds the segment whose moment comes next.
    fn plan_scrub(&mut self) {
        let (uid, durable) = (self.log.uid(), self.log.durable().segment);
        let plan = &self.scrub;
        let next = if plan.pace.interval_ns == 0 {
            None
        } else {
            let numbers = self.log.segments().map(|(number, ..)| number);
            let cold = numbers.filter(|number| *number < durable && self.log.is_present(*number));
            cold.map(|number| (plan.moment(uid, number), number)).min()
        };
        self.scrub.next = next;
        self.scrub.planned_for = durable;
    }

    /// When [`Self::drive_scrub`] has something to do, monotonic ns.
    pub(crate) fn scrub_deadline(&self) -> Option<u64> {
        if self.scrub.is_stopped {
            return None;
        }
        if self.log.is_scrubbing() {
            return self.log.scrub_deadline();
        }
        if self.log.has_met_damage() {
            return Some(0);
        }
        self.scrub.deadline()
    }

    /// Goes on with the segment at hand, or begins with the one whose time has come.
    pub(crate) fn drive_scrub(
        &mut self,
        index: &Index,
        now_ns: u64,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) {
        if self.scrub.is_stopped {
            return;
        }
        loop {
            self.log.drive_scrub(now_ns, queue);
            if let Some(scrubbed) = self.log.take_scrubbed() {
                cache.scrub_turn.release(self.log.uid(), scrubbed.paid_ns);
                self.take_scrubbed(scrubbed, index, now_ns, cache);
            }
            if self.log.is_scrubbing() {
                return;
            }
            while let Some(number) = self.log.take_met_damage() {
                self.scrub.urgent.push(number);
            }
            if self.scrub.planned_for != self.log.durable().segment {
                self.plan_scrub();
            }
            if !self.begin_scrub(now_ns, cache) {
                return;
            }
        }
    }

    /// Begins with the segment that is due; false when none is, or none can be begun now.
    fn begin_scrub(&mut self, now_ns: u64, cache: &mut Cache) -> bool {
        let log = &self.log;
        let plan = &mut self.scrub;
        plan.urgent.retain(|number| log.is_present(*number));
        let urgent = plan.urgent.iter().copied().find(|number| log.is_cold(*number));
        let time_ns = now_ns.saturating_add(plan.offset_ns);
        let due = plan.next.filter(|(moment, _)| *moment <= time_ns);
        let Some(number) = urgent.or(due.map(|(_, number)| number)) else {
            plan.turn_at_ns = None;
            return false;
        };
        let uid = log.uid();
        let from_ns = match cache.scrub_turn.claim(uid, now_ns, TURN_WAIT_NS) {
            Ok(from_ns) => from_ns,
            Err(at_ns) => {
                plan.turn_at_ns = Some(at_ns);
                return false;
            }
        };
        plan.turn_at_ns = None;
        plan.urgent.retain(|other| *other != number);
        if let Some((moment, _)) = due.filter(|(_, other)| *other == number) {
            // What could not be kept up with is left out.
            let oldest = time_ns.saturating_sub(plan.pace.interval_ns);
            plan.cursor_ns = moment.max(oldest);
        }
        let rate = plan.pace.bytes_per_second;
        if self.log.scrub(number, rate, from_ns) {
            cache.scrub_turn.expect(from_ns.saturating_add(self.log.scrub_left_ns()));
        } else {
            cache.scrub_turn.release(uid, from_ns);
            self.plan_scrub();
        }
        true
    }

    fn take_scrubbed(&mut self, scrubbed: Scrubbed, index: &Index, now_ns: u64, cache: &mut Cache) {
        self.plan_scrub();
        let figures = &mut cache.scrub_turn.figures;
        figures.bytes += scrubbed.bytes;
        figures.segments += u64::from(scrubbed.is_whole);
        let plan = &mut self.scrub;
        let is_round = plan.next.is_none_or(|(moment, _)| moment > plan.pass_ends_ns);
        if plan.pace.interval_ns > 0 && is_round {
            figures.passes += 1;
            let time_ns = now_ns.saturating_add(plan.offset_ns);
            let ends_ns = plan.pass_ends_ns.saturating_add(plan.pace.interval_ns);
            plan.pass_ends_ns = ends_ns.max(time_ns);
        }
        let (segment, incarnation) = (scrubbed.segment, scrubbed.incarnation);
        let mut is_new = |from, to| plan.told.insert((segment, incarnation, from, to));
        let is_header_damaged = scrubbed.is_header_damaged && is_new(0, 0);
        let mut places = scrubbed.places;
        places.retain(|(from, to)| is_new(*from, *to));
        let is_unverified = !scrubbed.is_whole && scrubbed.error.is_some();
        if places.is_empty() && !is_header_damaged && !is_unverified {
            return;
        }
        figures.damaged += places.len() as u64 + u64::from(is_header_damaged);
        let (damage, lost) = self.name_lost(segment, &places, index);
        self.scrub.findings.push(Finding {
            segment,
            damage,
            lost,
            is_header_damaged,
            unreadable_blocks: scrubbed.unreadable_blocks,
            error: scrubbed.error,
        });
    }

    /// The messages that lie in damaged places of a segment.
    fn name_lost(
        &self,
        segment: u32,
        places: &[(u32, u32)],
        index: &Index,
    ) -> (Vec<Damage>, Vec<(u64, u64)>) {
        let none = |&(from, to): &(u32, u32)| Damage {
            segment,
            offset: from,
            len: to - from,
            first_seq: 1,
            last_seq: 0,
        };
        let mut damage: Vec<Damage> = places.iter().map(none).collect();
        let mut lost: Vec<(u64, u64)> = Vec::new();
        let Some(used) = self.uses.get(&segment) else { return (damage, lost) };
        let (mut at, last) = (used.first_seq, used.last_seq);
        while let Some(seq) = index.seqs().next(at).filter(|&seq| seq <= last) {
            at = seq.saturating_add(1);
            let place = index.seqs().entry(seq).map(|entry| location(entry.location));
            let Some(place) = place.filter(|place| place.segment == segment) else { continue };
            let which = places.partition_point(|&(_, to)| to <= place.offset);
            let Some(hit) = damage.get_mut(which).filter(|hit| hit.offset <= place.offset) else {
                continue;
            };
            if hit.last_seq < hit.first_seq {
                hit.first_seq = seq;
            }
            hit.last_seq = seq;
            match lost.last_mut() {
                Some((_, before)) if *before + 1 == seq => *before = seq,
                _ => lost.push((seq, seq)),
            }
        }
        (damage, lost)
    }
}

impl Store {
    /// Says how often and how fast sealed segments are verified; never unless said. `clock` is
    /// the monotonic and the wall clock, ns, and is given once.
    pub fn set_scrub(&mut self, pace: ScrubPace, clock: Option<(u64, i64)>) {
        if let Backing::File(file) = &mut self.backing {
            file.set_scrub(pace, clock);
        }
    }

    /// Damage that was found since the last call while the store was in use.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        match &mut self.backing {
            Backing::Memory(..) => Vec::new(),
            Backing::File(file) => std::mem::take(&mut file.scrub.findings),
        }
    }
}

const _: () = assert!(PIECE_BYTES == 256 << 10, "as the documents say");
