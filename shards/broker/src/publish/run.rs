//! A run: consecutive messages of one connection to one subject, delivered target by target, so
//! that what a delivery looks up is looked up once a run. What follows the subject in a plain PUB
//! is, byte for byte, what follows the sid in its MSG, so a tail is a piece of the input.

use std::ops::Range;
use std::rc::Rc;

use super::fanout::{Published, Round};
use super::plan::{BLOCK, Plan, PlanKey, Target};
use crate::broker::mark_dirty;
use crate::conn::Phase;

/// Messages in one run.
const RUN_MESSAGES_MAX: usize = 1024;
/// Bytes of a run from which its frames are shared: below, copies are cheaper.
const SHARED_BYTES_MIN: usize = 4 << 10;
/// Bytes that a frame has beside the tail, roughly.
const PREFIX_BYTES: usize = 16;

/// The messages gathered so far. Ranges are of the input that is being carried out.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Where the messages go.
    pub(crate) key: PlanKey,
    /// The subject's place in the input.
    pub(crate) subject: Range<usize>,
    /// What every message of the run begins with, up to its size.
    pub(crate) head: Range<usize>,
    /// Messages gathered.
    pub(crate) count: usize,
    /// From the size to the end of the payload's line; none are kept when nobody listens.
    pub(crate) tails: Vec<Range<usize>>,
    /// Bytes of all payloads.
    pub(crate) payload_bytes: u64,
    tail_bytes: usize,
    tail_bytes_max: usize,
    keeps_tails: bool,
}

impl Run {
    /// Begins a run for so many receivers, which may put so many bytes into outboxes.
    pub(crate) fn begin(&mut self, key: PlanKey, receivers: usize, output_bytes_max: usize) {
        self.clear();
        self.key = key;
        self.keeps_tails = receivers > 0;
        self.tail_bytes_max = output_bytes_max.checked_div(receivers).unwrap_or(usize::MAX);
    }

    /// Adds a message.
    #[inline]
    pub(crate) fn push(&mut self, tail: Range<usize>, payload: usize) {
        self.count += 1;
        self.payload_bytes += payload as u64;
        self.tail_bytes += tail.len() + PREFIX_BYTES;
        if self.keeps_tails {
            self.tails.push(tail);
        }
    }

    /// Large enough that frames for connections that get the same are worth sharing.
    pub(crate) fn is_worth_sharing(&self) -> bool {
        self.tail_bytes >= SHARED_BYTES_MIN
    }

    /// Enough has been gathered.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.count >= RUN_MESSAGES_MAX || self.tail_bytes >= self.tail_bytes_max
    }

    /// Forgets the messages.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.tails.clear();
        self.tail_bytes = 0;
        self.payload_bytes = 0;
    }
}

/// Appends the first `len` bytes of `piece`; what lies behind them may be read, too.
#[inline]
fn push_piece(out: &mut Vec<u8>, piece: &[u8], len: usize) {
    if len <= BLOCK
        && let Some(block) = piece.first_chunk::<BLOCK>()
    {
        let end = out.len() + len;
        out.extend_from_slice(block);
        out.truncate(end);
    } else {
        out.extend_from_slice(piece.get(..len).unwrap_or(piece));
    }
}

/// Frames of a run that several connections send alike, and the prefix they were made with.
pub(crate) struct Frames {
    prefix: Vec<u8>,
    bytes: Rc<Vec<u8>>,
}

impl Frames {
    fn of(prefix: &[u8], run: &Run, data: &[u8]) -> Self {
        let tails: usize = run.tails.iter().map(ExactSizeIterator::len).sum();
        let mut bytes = Vec::with_capacity(tails + run.tails.len() * prefix.len());
        for tail in &run.tails {
            bytes.extend_from_slice(prefix);
            bytes.extend_from_slice(data.get(tail.clone()).unwrap_or_default());
        }
        Self { prefix: prefix.to_vec(), bytes: Rc::new(bytes) }
    }
}

impl Round<'_> {
    /// Gives a subscription the frames of a run that are made once for all with the same prefix.
    /// False when it needs more than that.
    pub(crate) fn share_run(
        &mut self,
        plan: &Plan,
        target: &Target,
        m: &Published<'_>,
        run: &Run,
        data: &[u8],
        frames: &mut Option<Frames>,
    ) -> bool {
        let Some(conn) = self.conns.get_mut(target.conn as usize) else { return false };
        let Some(sub) = self.subs.get_mut(target.sub as usize) else { return false };
        if conn.phase == Phase::Closing
            || m.mute == Some(target.conn)
            || sub.max != 0
            || sub.filtered
        {
            return false;
        }
        let (prefix, len) = plan.plain_prefix(target);
        let prefix = prefix.get(..len).unwrap_or_default();
        if frames.as_ref().is_none_or(|frames| frames.prefix != prefix) {
            *frames = Some(Frames::of(prefix, run, data));
        }
        let Some(frames) = frames else { return false };
        conn.outbox.push_shared(&frames.bytes, self.pool);
        let count = run.tails.len() as u64;
        sub.delivered += count;
        conn.traffic.out_msgs += count;
        conn.traffic.out_bytes += run.payload_bytes;
        self.copies += count;
        self.copied_bytes += run.payload_bytes;
        self.fx.output_bytes += frames.bytes.len();
        mark_dirty(conn, target.conn, self.fx);
        self.settle_delivery(target.conn);
        true
    }

    /// Copies every message of a run to one subscription.
    pub(crate) fn deliver_run(
        &mut self,
        plan: &Plan,
        target: &Target,
        m: &Published<'_>,
        run: &Run,
        data: &[u8],
    ) {
        let Some(sub) = self.subs.get_mut(target.sub as usize) else { return };
        let Some(conn) = self.conns.get_mut(target.conn as usize) else {
            if target.conn == crate::service::SERVICE_SLOT {
                for tail in &run.tails {
                    let line = data.get(tail.clone()).unwrap_or_default();
                    let head = memchr::memchr(b'\n', line).map_or(0, |at| at + 1);
                    let m = Published { body: line.get(head..).unwrap_or_default(), ..*m };
                    let m = super::find::as_received(plan, target, sub, &m);
                    self.service.push_message(sub.sid, &m);
                    self.kept += 1;
                }
            }
            return;
        };
        if conn.phase == Phase::Closing || m.mute == Some(target.conn) {
            return;
        }
        let mut count = run.tails.len();
        if sub.max != 0 {
            let left = usize::try_from(sub.max.saturating_sub(sub.delivered)).unwrap_or(count);
            if left <= count {
                count = left;
                self.expired.push(target.sub);
            }
        }
        if count == 0
            || (sub.filtered && !super::fanout::may_receive(conn, sub, plan.subject_for(target)))
        {
            return;
        }
        let (prefix, prefix_len) = plan.plain_prefix(target);
        let before = conn.outbox.pending_bytes();
        for tail in run.tails.iter().take(count) {
            let len = tail.len();
            let out = conn.outbox.reserve(prefix_len + len + 2 * BLOCK, self.pool);
            push_piece(out, prefix, prefix_len);
            push_piece(out, data.get(tail.start..).unwrap_or_default(), len);
            conn.outbox.grew(prefix_len + len);
        }
        let total = conn.outbox.pending_bytes() - before;
        let payload =
            if count == run.tails.len() { run.payload_bytes } else { run.payload_of(count, data) };
        sub.delivered += count as u64;
        conn.traffic.out_msgs += count as u64;
        conn.traffic.out_bytes += payload;
        self.copies += count as u64;
        self.copied_bytes += payload;
        self.fx.output_bytes += total;
        mark_dirty(conn, target.conn, self.fx);
        self.settle_delivery(target.conn);
    }
}

impl Run {
    /// Payload bytes of the first messages of the run.
    fn payload_of(&self, count: usize, data: &[u8]) -> u64 {
        let payload = |tail: &Range<usize>| {
            let line = data.get(tail.clone()).unwrap_or_default();
            let head = memchr::memchr(b'\n', line).map_or(0, |at| at + 1);
            line.len().saturating_sub(head + 2) as u64
        };
        self.tails.iter().take(count).map(payload).sum()
    }
}
