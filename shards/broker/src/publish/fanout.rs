//! The copies of one message: into local outboxes, one member of each queue group, and one parcel
//! for each shard with interest. Nothing here allocates for a message once buffers have grown.

use wire::client::encode::push_u64;
use wire::client::errors::ClosedReason;

use super::find::as_received;
use super::plan::{Plan, PlanKey, Target};
use super::run::Run;
use crate::broker::{Broker, mark_dirty};
use crate::conn::outbox::ChunkPool;
use crate::conn::{Conn, Phase, Sub};
use crate::effect::{Close, Effects};
use crate::index::{ShardId, SubId};
use crate::mesh::{Mesh, Message, Origin};
use crate::random::Random;
use crate::service::{SERVICE_SLOT, ServiceInbox};

/// A message on its way to its receivers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published<'a> {
    pub(crate) account: u32,
    pub(crate) subject: &'a [u8],
    /// The subject that receivers see, when it is another one.
    pub(crate) shown: &'a [u8],
    pub(crate) reply: &'a [u8],
    pub(crate) header_len: usize,
    /// Headers, payload and the closing CRLF.
    pub(crate) body: &'a [u8],
    /// The publisher's slot when it must not hear itself.
    pub(crate) mute: Option<u32>,
    /// The publisher, for holding.
    pub(crate) origin: Origin,
    /// The shard of the publisher.
    pub(crate) home: ShardId,
    /// The publisher wants to hear when nobody takes it.
    pub(crate) report: bool,
    /// It has come through a service import, and goes no further into other accounts' streams.
    pub(crate) imported: bool,
    /// Now, for replies that the receiver becomes permitted to send.
    pub(crate) now_ns: u64,
}

impl<'a> Published<'a> {
    /// What another shard sent here.
    pub(crate) const fn of(parcel: &Message<'a>, now_ns: u64) -> Self {
        Self {
            account: parcel.account,
            subject: parcel.subject,
            shown: parcel.shown,
            reply: parcel.reply,
            header_len: parcel.header_len,
            body: parcel.body,
            mute: None,
            origin: parcel.origin,
            home: parcel.home,
            report: parcel.report,
            imported: parcel.imported,
            now_ns,
        }
    }

    /// The parcel for another shard, for nobody there yet.
    pub(crate) const fn parcel(&self) -> Message<'a> {
        Message {
            account: self.account,
            origin: self.origin,
            home: self.home,
            plain: false,
            report: self.report,
            imported: self.imported,
            answer: false,
            refused: 0,
            subject: self.subject,
            shown: self.shown,
            reply: self.reply,
            queues: &[],
            header_len: self.header_len,
            body: self.body,
        }
    }
}

/// What a delivery round found out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Copies made, parcels included.
    pub(crate) deliveries: usize,
    /// A receiver that is behind its soft limit.
    pub(crate) behind: Option<u32>,
    /// Receivers that keep up and got a copy: the first, and another one.
    pub(crate) fed: [Option<u32>; 2],
    /// Sequence of the last batch that took a parcel.
    pub(crate) emitted: u64,
    /// A peer whose ring is backed up got a parcel.
    pub(crate) peer_behind: Option<ShardId>,
}

impl Outcome {
    /// Adds what happened in another account.
    pub(crate) fn join(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.behind = self.behind.or(other.behind);
        other.fed.into_iter().flatten().for_each(|receiver| self.feed(receiver));
        self.emitted = self.emitted.max(other.emitted);
        self.peer_behind = self.peer_behind.or(other.peer_behind);
    }

    /// Notes that a parcel has gone to a shard.
    pub(crate) fn note_emitted(&mut self, shard: ShardId, seq: u64, is_backed_up: bool) {
        self.emitted = seq;
        self.deliveries += 1;
        self.feed(crate::hold::peer_place(shard));
        if is_backed_up {
            self.peer_behind = Some(shard);
        }
    }

    /// Notes a receiver that keeps up.
    #[inline]
    fn feed(&mut self, receiver: u32) {
        if self.fed[0].is_none() {
            self.fed[0] = Some(receiver);
        } else {
            self.fed[1] = Some(receiver);
        }
    }
}

/// The parts of the broker that a round of deliveries needs, borrowed apart from the plan.
pub(crate) struct Round<'b> {
    pub(super) conns: &'b mut slab::Slab<Conn>,
    pub(super) subs: &'b mut slab::Slab<Sub>,
    pub(super) pool: &'b mut ChunkPool,
    pub(super) fx: &'b mut Effects,
    pub(super) expired: &'b mut Vec<SubId>,
    /// `[reply ]hdr total\r\n` then `[reply ]size\r\n`.
    head: &'b [u8],
    head_split: usize,
    pending_bytes_max: usize,
    soft_bytes: usize,
    outcome: Outcome,
    pub(super) service: &'b mut ServiceInbox,
    /// Messages that services of the shard got.
    pub(super) kept: usize,
    pub(super) copies: u64,
    pub(super) copied_bytes: u64,
}

impl Round<'_> {
    /// Copies the message to one subscription. False when it cannot take it.
    #[inline]
    fn deliver(&mut self, plan: &Plan, target: &Target, m: &Published<'_>) -> bool {
        let Some(sub) = self.subs.get_mut(target.sub as usize) else { return false };
        let Some(conn) = self.conns.get_mut(target.conn as usize) else {
            if target.conn == SERVICE_SLOT && !(m.imported && sub.account != m.account) {
                self.service.push_message(sub.sid, &as_received(plan, target, sub, m));
                self.kept += 1;
            }
            return false;
        };
        if m.imported && sub.account != m.account {
            return false;
        }
        if conn.phase == Phase::Closing || m.mute == Some(target.conn) {
            return false;
        }
        if sub.max != 0 {
            if sub.delivered >= sub.max {
                return false;
            }
            if sub.delivered + 1 == sub.max {
                self.expired.push(target.sub);
            }
        }
        if sub.filtered && !may_receive(conn, sub, plan.subject_for(target)) {
            return false;
        }
        if conn.rights.tracks_replies() && !m.reply.is_empty() {
            conn.rights.note_delivery(m.reply, m.now_ns);
        }
        let shown;
        let mut prefix = plan.prefix(target);
        if !m.shown.is_empty() && plan.subject_for(target) == m.subject {
            shown = shown_prefix(prefix, m);
            prefix = &shown;
        }
        let (prefix, head, body) = if m.header_len == 0 {
            (prefix.get(1..).unwrap_or_default(), self.head, m.body)
        } else if conn.headers {
            (prefix, self.head.get(..self.head_split).unwrap_or_default(), m.body)
        } else {
            (
                prefix.get(1..).unwrap_or_default(),
                self.head.get(self.head_split..).unwrap_or_default(),
                m.body.get(m.header_len..).unwrap_or_default(),
            )
        };
        let total = prefix.len() + head.len() + body.len();
        let out = conn.outbox.reserve(total, self.pool);
        out.extend_from_slice(prefix);
        out.extend_from_slice(head);
        out.extend_from_slice(body);
        conn.outbox.grew(total);
        if self.fx.trace {
            self.fx.traced.push((target.conn, [prefix, head].concat()));
        }
        sub.delivered += 1;
        let payload = body.len().saturating_sub(2) as u64;
        conn.traffic.out_msgs += 1;
        conn.traffic.out_bytes += payload;
        self.copies += 1;
        self.copied_bytes += payload;
        self.fx.output_bytes += total;
        mark_dirty(conn, target.conn, self.fx);
        self.settle_delivery(target.conn);
        true
    }

    /// After copies to a connection: whether it keeps up.
    #[inline]
    pub(super) fn settle_delivery(&mut self, slot: u32) {
        let Some(conn) = self.conns.get(slot as usize) else { return };
        if conn.blocked {
            self.note_pending(slot);
        } else {
            self.outcome.feed(slot);
            if conn.outbox.pending_bytes() > self.pending_bytes_max {
                self.note_pending(slot);
            }
        }
    }

    /// A receiver that is not keeping up: note it for holding, or close it at its limit.
    #[cold]
    fn note_pending(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let pending = conn.outbox.pending_bytes();
        if pending > self.pending_bytes_max {
            conn.phase = Phase::Closing;
            conn.close_reason = Some(ClosedReason::SlowConsumerPendingBytes);
            self.fx.closes.push(Close {
                slot,
                reason: ClosedReason::SlowConsumerPendingBytes,
                flush: false,
            });
        } else if pending > self.soft_bytes {
            self.outcome.behind = Some(slot);
        }
    }

    /// One member of a group on this shard, the others tried in turn when it refuses.
    fn deliver_to_member(
        &mut self,
        plan: &Plan,
        members: &[Target],
        first: usize,
        m: &Published<'_>,
    ) -> bool {
        let (before, from) = members.split_at(first.min(members.len()));
        from.iter().chain(before).any(|target| self.deliver(plan, target, m))
    }
}

/// A target's `HMSG subject sid ` with another subject.
fn shown_prefix(prefix: &[u8], m: &Published<'_>) -> smallvec::SmallVec<[u8; 128]> {
    let sid = prefix.get(b"HMSG ".len() + m.subject.len()..).unwrap_or_default();
    let mut shown = smallvec::SmallVec::new();
    shown.extend_from_slice(b"HMSG ");
    shown.extend_from_slice(m.shown);
    shown.extend_from_slice(sid);
    shown
}

#[cold]
pub(super) fn may_receive(conn: &Conn, sub: &Sub, subject: &[u8]) -> bool {
    conn.rights.can_receive(subject, sub.queue.as_deref())
}

/// Writes the two heads of a message and returns where the second starts.
fn write_heads(head: &mut Vec<u8>, m: &Published<'_>) -> usize {
    head.clear();
    let total = m.body.len().saturating_sub(2);
    let mut split = 0;
    if m.header_len > 0 {
        push_reply(head, m.reply);
        push_u64(head, m.header_len as u64);
        head.push(b' ');
        push_u64(head, total as u64);
        head.extend_from_slice(b"\r\n");
        split = head.len();
    }
    push_reply(head, m.reply);
    push_u64(head, total.saturating_sub(m.header_len) as u64);
    head.extend_from_slice(b"\r\n");
    split
}

#[inline]
fn push_reply(head: &mut Vec<u8>, reply: &[u8]) {
    if !reply.is_empty() {
        head.extend_from_slice(reply);
        head.push(b' ');
    }
}

/// Which remote shard serves a queue group: by weight, without those in `refused`.
fn pick_remote(remote: &[(ShardId, u32)], refused: u64, random: &mut Random) -> Option<ShardId> {
    let open = |id: ShardId| id >= 64 || refused & (1 << id) == 0;
    let weight = remote.iter().filter(|(id, _)| open(*id)).map(|(_, w)| *w).sum();
    let mut at = random.below(weight);
    for (id, w) in remote.iter().filter(|(id, _)| open(*id)) {
        if at < *w {
            return Some(*id);
        }
        at -= *w;
    }
    None
}

fn push_queue(queues: &mut Vec<u8>, name: &[u8]) {
    queues.extend_from_slice(&(name.len() as u16).to_le_bytes());
    queues.extend_from_slice(name);
}

/// The names written by [`push_queue`].
fn queue_names(mut queues: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = queues.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_le_bytes(*len));
        let name = rest.get(..len)?;
        queues = rest.get(len..)?;
        Some(name)
    })
}

/// A round over the parts of a broker that it changes; the plans stay free to be read.
macro_rules! open_round {
    ($broker:expr, $fx:expr, $head:expr, $head_split:expr) => {
        Round {
            conns: &mut $broker.conns,
            subs: &mut $broker.subs,
            pool: &mut $broker.pool,
            fx: $fx,
            expired: &mut $broker.expired,
            head: $head,
            head_split: $head_split,
            pending_bytes_max: $broker.settings.limits.max_pending_bytes,
            soft_bytes: $broker.settings.hold.soft_pending_bytes,
            outcome: Outcome::default(),
            service: &mut $broker.service,
            kept: 0,
            copies: 0,
            copied_bytes: 0,
        }
    };
}

impl Broker {
    /// Delivers a message published on this shard to everybody, here and on other shards.
    pub(crate) fn fan_out(&mut self, key: PlanKey, m: &Published<'_>, fx: &mut Effects) -> Outcome {
        let mut head = std::mem::take(&mut self.head);
        let head_split = write_heads(&mut head, m);
        let mut round = open_round!(self, fx, &head, head_split);
        let mut crosses = false;
        if let Some(plan) = self.plans.get(key) {
            crosses = !plan.services.is_empty();
            for target in &plan.targets {
                round.deliver(plan, target, m);
            }
            round.outcome.deliveries = round.copies as usize + round.kept;
            if !plan.queues.is_empty() {
                fan_out_queues(&mut round, plan, m, &mut self.mesh, &mut self.random);
            } else if !plan.remote.is_empty() {
                let sole = round.outcome.deliveries == 0 && plan.remote.len() == 1 && !crosses;
                let m = Published { report: m.report && sole, ..*m };
                for shard in &plan.remote {
                    emit(&mut round.outcome, &mut self.mesh, *shard, &m, true, &[], 0);
                }
            }
        }
        let (mut outcome, copies, bytes) = (round.outcome, round.copies, round.copied_bytes);
        self.head = head;
        self.finish_round(m.account, copies, bytes, fx);
        if crosses {
            self.use_services(key, m, &mut outcome, fx);
        }
        outcome
    }

    /// Delivers a message that another shard sent here.
    pub(crate) fn fan_in(
        &mut self,
        parcel: &Message<'_>,
        now_ns: u64,
        fx: &mut Effects,
    ) -> Outcome {
        let key = self.plan(parcel.account, parcel.subject);
        // A queue delivery that another shard refused may have come back to its publisher's.
        let publisher = parcel.origin;
        let mute = (parcel.home == self.mesh.me())
            .then(|| self.conns.get(publisher.slot as usize))
            .flatten()
            .filter(|conn| conn.generation == publisher.generation && !conn.echo)
            .map(|_| publisher.slot);
        let m = Published { mute, ..Published::of(parcel, now_ns) };
        let mut head = std::mem::take(&mut self.head);
        let head_split = write_heads(&mut head, &m);
        let mut round = open_round!(self, fx, &head, head_split);
        if let Some(plan) = self.plans.get(key) {
            if parcel.plain {
                for target in &plan.targets {
                    round.deliver(plan, target, &m);
                }
            }
            for name in queue_names(parcel.queues) {
                let Some(queue) = plan.queues.iter().find(|q| *q.name == *name) else { continue };
                let first = self.random.below(queue.local.len() as u32) as usize;
                if round.deliver_to_member(plan, &queue.local, first, &m) {
                    continue;
                }
                // Nobody here can take it: another shard of the group shall try.
                let refused = parcel.refused | 1 << self.mesh.me().min(63);
                if let Some(shard) = pick_remote(&queue.remote, refused, &mut self.random) {
                    let mut names = Vec::new();
                    push_queue(&mut names, name);
                    let sole = round.copies == 0 && parcel.queues.len() == names.len();
                    let m = Published { report: m.report && sole, ..m };
                    emit(&mut round.outcome, &mut self.mesh, shard, &m, false, &names, refused);
                }
            }
        }
        round.outcome.deliveries += round.copies as usize + round.kept;
        let (outcome, copies, bytes) = (round.outcome, round.copies, round.copied_bytes);
        self.head = head;
        self.finish_round(m.account, copies, bytes, fx);
        outcome
    }

    /// Delivers a run of messages to everybody. `m` is the last of them.
    pub(crate) fn fan_out_run(
        &mut self,
        run: &Run,
        m: &Published<'_>,
        data: &[u8],
        fx: &mut Effects,
    ) -> Outcome {
        let mut round = Round {
            conns: &mut self.conns,
            subs: &mut self.subs,
            pool: &mut self.pool,
            fx,
            expired: &mut self.expired,
            head: &[],
            head_split: 0,
            pending_bytes_max: self.settings.limits.max_pending_bytes,
            soft_bytes: self.settings.hold.soft_pending_bytes,
            outcome: Outcome::default(),
            service: &mut self.service,
            kept: 0,
            copies: 0,
            copied_bytes: 0,
        };
        if let Some(plan) = self.plans.get(run.key) {
            let mut frames = None;
            let share = plan.alike && run.is_worth_sharing();
            for target in &plan.targets {
                if !share || !round.share_run(plan, target, m, run, data, &mut frames) {
                    round.deliver_run(plan, target, m, run, data);
                }
            }
            round.outcome.deliveries = round.copies as usize + round.kept;
            for tail in run.tails.iter().filter(|_| !plan.remote.is_empty()) {
                let line = data.get(tail.clone()).unwrap_or_default();
                let head = memchr::memchr(b'\n', line).map_or(0, |at| at + 1);
                let m = Published { body: line.get(head..).unwrap_or_default(), ..*m };
                for shard in &plan.remote {
                    emit(&mut round.outcome, &mut self.mesh, *shard, &m, true, &[], 0);
                }
            }
        }
        let (outcome, copies, bytes) = (round.outcome, round.copies, round.copied_bytes);
        self.finish_round(m.account, copies, bytes, fx);
        outcome
    }

    fn finish_round(&mut self, account: u32, copies: u64, bytes: u64, fx: &mut Effects) {
        self.stats.out_msgs += copies;
        self.stats.out_bytes += bytes;
        if let Some(account) = self.accounts.get_mut(account as usize) {
            account.traffic.out_msgs += copies;
            account.traffic.out_bytes += bytes;
        }
        if !self.expired.is_empty() {
            self.drop_expired();
        }
        if !fx.traced.is_empty() {
            self.trace_deliveries(fx);
        }
    }

    #[cold]
    fn drop_expired(&mut self) {
        let expired = std::mem::take(&mut self.expired);
        for sub in &expired {
            self.remove_sub(*sub);
        }
        self.expired = expired;
        self.expired.clear();
    }
}

/// Sends one parcel and notes what that means for the publisher.
fn emit(
    outcome: &mut Outcome,
    mesh: &mut Mesh,
    shard: ShardId,
    m: &Published<'_>,
    plain: bool,
    queues: &[u8],
    refused: u64,
) {
    let parcel = Message { plain, queues, refused, ..m.parcel() };
    let seq = mesh.push_message(shard, &parcel);
    outcome.note_emitted(shard, seq, mesh.is_backed_up(shard));
}

/// Chooses a member of every queue group and sends the parcels, which carry the groups for which
/// the receiving shard was chosen.
fn fan_out_queues(
    round: &mut Round<'_>,
    plan: &Plan,
    m: &Published<'_>,
    mesh: &mut Mesh,
    random: &mut Random,
) {
    let mut chosen: smallvec::SmallVec<[(ShardId, Vec<u8>); 4]> = smallvec::SmallVec::new();
    for queue in &plan.queues {
        let local = queue.local.len() as u32;
        let at = random.below(local + queue.remote_weight);
        let first = if at < local { at } else { random.below(local) } as usize;
        let mut shard = None;
        if at < local || queue.remote.is_empty() {
            if round.deliver_to_member(plan, &queue.local, first, m) {
                round.outcome.deliveries += 1;
                continue;
            }
        } else {
            shard = pick_remote(&queue.remote, 0, random);
        }
        let shard = shard.or_else(|| pick_remote(&queue.remote, 0, random));
        let Some(shard) = shard else { continue };
        match chosen.iter_mut().find(|(id, _)| *id == shard) {
            Some((_, names)) => push_queue(names, &queue.name),
            None => {
                let mut names = Vec::new();
                push_queue(&mut names, &queue.name);
                chosen.push((shard, names));
            }
        }
    }
    let others = chosen.iter().filter(|(id, _)| !plan.remote.contains(id)).count();
    let sole = round.outcome.deliveries == 0 && plan.remote.len() + others == 1;
    let m = &Published { report: m.report && sole, ..*m };
    for shard in &plan.remote {
        let names = chosen.iter().position(|(id, _)| id == shard).map(|at| chosen.swap_remove(at));
        let names = names.map(|(_, names)| names).unwrap_or_default();
        emit(&mut round.outcome, mesh, *shard, m, true, &names, 0);
    }
    for (shard, names) in chosen {
        emit(&mut round.outcome, mesh, shard, m, false, &names, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_shard_is_picked_by_its_members() {
        let mut random = Random::new(3);
        let remote = [(1, 1), (2, 3)];
        let picks = (0..4000).filter(|_| pick_remote(&remote, 0, &mut random) == Some(2)).count();
        assert!((2800..3200).contains(&picks), "{picks}");
        assert_eq!(pick_remote(&remote, 0b100, &mut random), Some(1));
        assert_eq!(pick_remote(&remote, 0b110, &mut random), None);
    }

    #[test]
    fn queue_names_round_trip() {
        let mut queues = Vec::new();
        push_queue(&mut queues, b"a");
        push_queue(&mut queues, b"");
        push_queue(&mut queues, b"workers");
        let names: Vec<_> = queue_names(&queues).collect();
        assert_eq!(names, [&b"a"[..], b"", b"workers"]);
    }
}
