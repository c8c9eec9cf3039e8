//! The world of some shards: it does with effects what the reactor does, and everything that the
//! reactor leaves to chance is drawn from the seed.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use broker::auth::{AccountSettings as AuthAccount, AuthSettings, AuthTable, UserSettings};
use broker::mesh::Batch;
use broker::monitor::GatherNeeds;
use broker::random::Random;
use broker::settings::{AccountSettings, Settings};
use shard::{Accepted, Effects, Now, Progress, Shard};

use crate::Summary;
use crate::client::{Client, Frame, Verb};
use crate::oracle::{Failure, Oracle, Published, number_of};

/// Accounts of the world besides `$G` and `$SYS`.
pub(crate) const ACCOUNTS: [&str; 2] = ["A", "B"];
/// Batches that a link holds.
const LINK_BATCHES_MAX: usize = 3;
/// Steps kept for the report of a failure.
const STEPS_KEPT: usize = 40;
/// Steps after which a world that does not come to rest is stuck.
const REST_STEPS_MAX: usize = 2_000_000;

/// Some shards, their links and their clients.
#[derive(Debug)]
pub struct World {
    shards: Vec<Shard>,
    effects: Vec<Effects>,
    /// From, to: batches with the time at which they arrive.
    links: Vec<Vec<VecDeque<(u64, Batch)>>>,
    pub(crate) clients: Vec<Client>,
    pub(crate) random: Random,
    now: Now,
    pub(crate) oracle: Oracle,
    steps: VecDeque<String>,
    step_count: usize,
    cid: u64,
}

fn settings(random: &mut Random) -> Settings {
    let mut settings = Settings::default();
    let user = |name: &str| UserSettings::with_password(name, "p");
    settings.auth = AuthSettings {
        accounts: ACCOUNTS
            .iter()
            .map(|name| AuthAccount {
                name: (*name).to_owned(),
                users: vec![user(name)],
                default_permissions: None,
            })
            .collect(),
        ..AuthSettings::default()
    };
    settings.auth_table = Arc::new(AuthTable::new(&settings.auth).unwrap_or_else(|_| {
        // The settings above are valid; an open table would show as every login's account.
        AuthTable::open()
    }));
    settings.accounts.extend(ACCOUNTS.iter().map(|name| AccountSettings::new(name)));
    // Small bounds, so that short runs meet all of them.
    settings.mesh.batch_bytes_max = 200 + random.below(4000) as usize;
    settings.mesh.backlog_bytes_max = 500 + random.below(8000) as usize;
    settings.limits.turn_output_bytes_min = 100 + random.below(5000) as usize;
    settings.limits.turn_output_bytes_max = 6000 + random.below(60_000) as usize;
    settings.limits.plans_max = 1 + random.below(8) as usize;
    settings.hold.soft_pending_bytes = 1000 + random.below(20_000) as usize;
    settings
}

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let count = 1 + random.below(4) as usize;
        let settings = Arc::new(settings(&mut random));
        let shards = (0..count)
            .map(|me| Shard::new(me as u16, count, Arc::clone(&settings), random.next_u64()))
            .collect();
        Self {
            shards,
            effects: (0..count).map(|_| Effects::default()).collect(),
            links: (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect(),
            clients: Vec::new(),
            random,
            now: Now { mono_ns: 1, wall_ns: 1 },
            oracle: Oracle::default(),
            steps: VecDeque::new(),
            step_count: 0,
            cid: 0,
        }
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u32) as usize
    }

    pub(crate) fn note(&mut self, step: String) {
        if self.steps.len() == STEPS_KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    pub(crate) fn fail<T>(&self, rule: String) -> Result<T, Failure> {
        Err(Failure { rule, steps: self.steps.iter().cloned().collect() })
    }

    /// A new client on some shard, its number.
    pub(crate) fn connect(&mut self, account: usize, echo: bool, headers: bool) -> usize {
        let shard = self.below(self.shards.len());
        self.connect_to(shard, account, echo, headers)
    }

    fn connect_to(&mut self, shard: usize, account: usize, echo: bool, headers: bool) -> usize {
        self.cid += 1;
        let accepted = Accepted {
            cid: self.cid,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 1,
            nonce: String::new(),
            over_limit: false,
            tls_first: false,
        };
        let broker = &mut self.shards[shard].broker;
        let slot = broker.handle_accept(accepted, self.now, &mut self.effects[shard]);
        let window = 1 + self.below(4000);
        let mut client =
            Client { shard, slot, open: true, account, echo, headers, window, ..Client::default() };
        let verbose = self.random.below(4) == 0;
        client.send(
            format!(
                "CONNECT {{\"verbose\":{verbose},\"pedantic\":false,\"echo\":{echo},\"headers\":\
                 {headers},\"no_responders\":{headers},\"protocol\":1,\"user\":\"{}\",\"pass\":\
                 \"p\"}}\r\n",
                ACCOUNTS[account]
            )
            .as_bytes(),
        );
        self.clients.push(client);
        self.apply(shard);
        self.clients.len() - 1
    }

    /// Something happens that the seed chooses. False when nothing was there to happen.
    pub(crate) fn step(&mut self) -> Result<bool, Failure> {
        self.step_count += 1;
        let kind = self.random.below(10);
        let at = self.below(self.clients.len().max(1));
        let done = match kind {
            0..=3 => self.carry_up(at),
            4..=6 => self.read_down(at)?,
            7 | 8 => self.carry_batch(),
            _ => self.pass_time(),
        };
        Ok(done)
    }

    /// Some bytes of a client reach its shard.
    fn carry_up(&mut self, at: usize) -> bool {
        let Some(client) = self.clients.get(at) else { return false };
        let (shard, slot) = (client.shard, client.slot);
        if !client.open || client.upstream.is_empty() || self.shards[shard].broker.is_paused(slot) {
            return false;
        }
        let most = self.clients[at].upstream.len().min(3000);
        let count = 1 + self.below(most);
        let bytes: Vec<u8> = self.clients[at].upstream.drain(..count).collect();
        let mut rest = bytes.as_slice();
        loop {
            let broker = &mut self.shards[shard].broker;
            let progress = broker.handle_input(slot, rest, self.now, &mut self.effects[shard]);
            let Progress::More(taken) = progress else { break };
            rest = &rest[taken..];
            self.flush(shard);
        }
        self.apply(shard);
        true
    }

    /// A client reads: its window opens, its shard may write more, frames are judged.
    fn read_down(&mut self, at: usize) -> Result<bool, Failure> {
        let Some(client) = self.clients.get(at) else { return Ok(false) };
        if !client.open {
            return Ok(false);
        }
        let (shard, slot) = (client.shard, client.slot);
        let before = self.clients[at].window;
        let more = 1 + self.below(6000);
        self.clients[at].window = (before + more).min(20_000);
        let waited = self.shards[shard].broker.outbox(slot).is_some_and(|o| o.pending_bytes() > 0);
        self.flush_slot(shard, slot);
        self.apply(shard);
        let mut any = waited;
        loop {
            match self.clients[at].next_frame() {
                Ok(Some(frame)) => {
                    any = true;
                    self.judge(at, frame)?;
                }
                Ok(None) => return Ok(any),
                Err(text) => return self.fail(format!("client {at} read {text}")),
            }
        }
    }

    /// A batch arrives on a link.
    fn carry_batch(&mut self) -> bool {
        let count = self.shards.len();
        let (from, to) = (self.below(count), self.below(count));
        let link = &mut self.links[from][to];
        if link.front().is_none_or(|(at, _)| *at > self.now.mono_ns) {
            return false;
        }
        let Some((_, batch)) = link.pop_front() else { return false };
        self.shards[to].broker.handle_batch(batch, self.now, &mut self.effects[to]);
        self.apply(to);
        // There is room on the link again.
        self.apply(from);
        true
    }

    fn pass_time(&mut self) -> bool {
        let by = 1 + u64::from(self.random.below(2_000_000));
        self.now.mono_ns += by;
        self.now.wall_ns += by as i64;
        for shard in 0..self.shards.len() {
            let broker = &mut self.shards[shard].broker;
            if broker.next_deadline_ns().is_some_and(|at| at <= self.now.mono_ns) {
                broker.handle_timers(self.now, &mut self.effects[shard]);
                self.apply(shard);
            }
        }
        false
    }

    fn flush(&mut self, shard: usize) {
        self.effects[shard].output_bytes = 0;
        for slot in std::mem::take(&mut self.effects[shard].dirty) {
            self.shards[shard].broker.take_dirty(slot);
            self.flush_slot(shard, slot);
        }
    }

    fn flush_slot(&mut self, shard: usize, slot: u32) {
        let owner = self.clients.iter().position(|c| c.open && c.shard == shard && c.slot == slot);
        let Some(at) = owner else { return };
        let broker = &mut self.shards[shard].broker;
        let Some(outbox) = broker.outbox(slot) else { return };
        let pending = outbox.pending_bytes();
        let take = pending.min(self.clients[at].window);
        let bytes: Vec<u8> = outbox.slices(usize::MAX).flatten().copied().take(take).collect();
        self.clients[at].inbox.extend_from_slice(&bytes);
        self.clients[at].window -= take;
        if pending > 0 {
            broker.handle_sent(slot, take, take < pending, self.now, &mut self.effects[shard]);
        }
    }

    /// Carries out a shard's effects as the reactor does at the end of a turn.
    fn apply(&mut self, shard: usize) {
        loop {
            self.flush(shard);
            while let Some(close) = self.effects[shard].closes.pop() {
                let broker = &mut self.shards[shard].broker;
                broker.handle_closed(close.slot, self.now, &mut self.effects[shard]);
                for client in &mut self.clients {
                    if client.shard == shard && client.slot == close.slot {
                        client.open = false;
                    }
                }
            }
            self.send_batches(shard);
            self.shards[shard].broker.handle_mesh_drained(&mut self.effects[shard]);
            self.effects[shard].logs.clear();
            let Some(slot) = self.effects[shard].resumed.pop() else { return };
            let broker = &mut self.shards[shard].broker;
            while let Progress::More(_) =
                broker.handle_resume(slot, self.now, &mut self.effects[shard])
            {}
        }
    }

    fn send_batches(&mut self, shard: usize) {
        let mesh = self.shards[shard].broker.mesh();
        mesh.seal();
        for peer in mesh.peer_ids() {
            let link = &mut self.links[shard][usize::from(peer)];
            while let Some(batch) = mesh.pop(peer) {
                if link.len() >= LINK_BATCHES_MAX {
                    mesh.unpop(peer, batch);
                    break;
                }
                let delay = u64::from(self.random.below(300_000));
                let after = link.back().map_or(0, |(at, _)| *at);
                link.push_back(((self.now.mono_ns + delay).max(after), batch));
            }
        }
    }

    /// Holds a frame against the model.
    fn judge(&mut self, at: usize, frame: Frame) -> Result<(), Failure> {
        match frame {
            Frame::Other => Ok(()),
            Frame::Ping => {
                self.clients[at].send(b"PONG\r\n");
                Ok(())
            }
            Frame::Pong => {
                let client = &mut self.clients[at];
                let Some(confirmed) = client.confirms.get(client.pongs).cloned() else {
                    return self.fail(format!("client {at} got a PONG that it did not ask for"));
                };
                client.pongs += 1;
                for (sid, verb) in confirmed {
                    if let Some(sub) = client.subs.get_mut(&sid) {
                        sub.confirmed = true;
                        if verb == Verb::Unsub {
                            sub.cap = Some(sub.max.max(sub.received));
                        }
                    }
                }
                Ok(())
            }
            Frame::Msg { subject, sid, reply, header, payload } => {
                if header.starts_with(b"NATS/1.0 503") {
                    return self.judge_no_responders(at, &header);
                }
                self.judge_message(at, &subject, sid, &reply, &header, &payload)
            }
        }
    }

    /// Nobody may have been due a message that is answered with 503.
    fn judge_no_responders(&self, at: usize, header: &[u8]) -> Result<(), Failure> {
        if !self.clients[at].headers {
            return self.fail(format!("client {at} without headers was answered 503"));
        }
        let text = String::from_utf8_lossy(header);
        if text.contains("Nats-Subject: ") {
            return Ok(());
        }
        self.fail(format!("a 503 without its subject: {text:?}"))
    }

    fn judge_message(
        &mut self,
        at: usize,
        subject: &str,
        sid: u64,
        reply: &str,
        header: &[u8],
        payload: &[u8],
    ) -> Result<(), Failure> {
        let Some(number) = number_of(payload) else {
            return self.fail(format!("client {at} got a payload that nobody sent"));
        };
        let Some(message) = self.oracle.messages.get(number).cloned() else {
            return self.fail(format!("client {at} got message {number}, which was not sent"));
        };
        let who = format!("client {at}, sid {sid}, message {number} to {subject}");
        let client = &self.clients[at];
        let Some(sub) = client.subs.get(&sid) else {
            return self.fail(format!("{who}: no such subscription"));
        };
        let expected_header: &[u8] = if client.headers { &message.header } else { b"" };
        let intact = message.subject == subject
            && message.reply == reply
            && message.payload == payload
            && expected_header == header;
        if !intact {
            return self.fail(format!("{who}: not as it was sent"));
        }
        if client.account != message.account
            || !wire::subject::matches(sub.pattern.as_bytes(), subject.as_bytes())
            || (message.publisher == at && !client.echo)
        {
            return self.fail(format!("{who}: is not for it"));
        }
        if sub.cap.is_some_and(|cap| sub.received >= cap) {
            return self.fail(format!("{who}: more than its maximum"));
        }
        let queue = sub.queue.clone();
        if let Some(queue) = queue {
            if !self.oracle.groups.insert((number, queue)) {
                return self.fail(format!("{who}: the queue group had it already"));
            }
        } else {
            let seen = self.oracle.deliveries.entry(number).or_default();
            if seen.contains(&(at, sid)) {
                return self.fail(format!("{who}: twice"));
            }
            let place = (message.publisher, at, sid);
            let last = self.oracle.last.insert(place, message.sequence);
            if last.is_some_and(|last| last >= message.sequence) {
                return self.fail(format!("{who}: out of its publisher's order"));
            }
        }
        self.oracle.deliveries.entry(number).or_default().push((at, sid));
        self.oracle.delivered += 1;
        if let Some(sub) = self.clients[at].subs.get_mut(&sid) {
            sub.received += 1;
        }
        Ok(())
    }

    /// A client goes away without a word.
    pub(crate) fn disconnect(&mut self, at: usize) {
        let (shard, slot) = (self.clients[at].shard, self.clients[at].slot);
        if self.clients[at].open {
            let reason = wire::client::ClosedReason::ClientClosed;
            let broker = &mut self.shards[shard].broker;
            broker.handle_disconnect(slot, reason, &mut self.effects[shard]);
            self.apply(shard);
        }
    }

    /// Steps until nothing is on its way any more.
    ///
    /// # Errors
    /// A broken rule, or a world that does not come to rest.
    pub(crate) fn rest(&mut self) -> Result<(), Failure> {
        for _ in 0..REST_STEPS_MAX {
            if self.is_at_rest() {
                return Ok(());
            }
            self.step()?;
        }
        let waits: Vec<String> = self
            .clients
            .iter()
            .enumerate()
            .filter(|(_, c)| c.open)
            .map(|(at, c)| {
                let broker = &self.shards[c.shard].broker;
                let pending = broker.outbox(c.slot).map_or(0, |o| o.pending_bytes());
                let paused = broker.conn(c.slot).map_or(0, |conn| conn.paused);
                format!("client {at}: up {}, down {pending}, paused {paused}", c.upstream.len())
            })
            .collect();
        self.fail(format!("does not come to rest: {}", waits.join("; ")))
    }

    fn is_at_rest(&mut self) -> bool {
        let links = self.links.iter().flatten().all(VecDeque::is_empty);
        let mesh = self.shards.iter_mut().all(|shard| !shard.broker.mesh().has_backlog());
        links
            && mesh
            && self.clients.iter().filter(|client| client.open).all(|client| {
                let broker = &self.shards[client.shard].broker;
                client.upstream.is_empty()
                    && client.inbox.is_empty()
                    && broker.outbox(client.slot).is_none_or(|o| o.pending_bytes() == 0)
                    && !broker.is_paused(client.slot)
            })
    }

    /// Comes to rest, and holds everything against the model.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn finish(mut self) -> Result<Summary, Failure> {
        self.rest()?;
        self.judge_due()?;
        for at in 0..self.clients.len() {
            if self.clients[at].open && self.clients[at].pongs != self.clients[at].pings {
                return self.fail(format!("client {at} did not get all of its PONGs"));
            }
        }
        let summary = Summary {
            shards: self.shards.len(),
            published: self.oracle.messages.len(),
            delivered: self.oracle.delivered,
            steps: self.step_count,
        };
        self.judge_emptiness()?;
        Ok(summary)
    }

    /// Everybody who was due a message and stayed must have had it.
    fn judge_due(&self) -> Result<(), Failure> {
        for (number, message) in self.oracle.messages.iter().enumerate() {
            if !self.clients[message.publisher].open {
                continue;
            }
            let had = self.oracle.deliveries.get(&number).cloned().unwrap_or_default();
            for (at, sid) in &message.due {
                let client = &self.clients[*at];
                let Some(sub) = client.subs.get(sid) else { continue };
                if !client.open || sub.ended {
                    continue;
                }
                let got = match &sub.queue {
                    None => had.contains(&(*at, *sid)),
                    Some(queue) => {
                        self.oracle.groups.contains(&(number, queue.clone()))
                            || self.was_lost_with_a_member(message, queue)
                    }
                };
                if !got {
                    return self.fail(format!(
                        "message {number} to {} is missing at client {at}, sid {sid} ({} {:?})",
                        message.subject, sub.pattern, sub.queue
                    ));
                }
            }
        }
        Ok(())
    }

    /// A member of the group may have had the message and gone before it read it.
    fn was_lost_with_a_member(&self, message: &Published, queue: &str) -> bool {
        self.clients.iter().any(|client| {
            !client.open
                && client.account == message.account
                && client.subs.values().any(|sub| {
                    sub.queue.as_deref() == Some(queue)
                        && wire::subject::matches(
                            sub.pattern.as_bytes(),
                            message.subject.as_bytes(),
                        )
                })
        })
    }

    /// When all are gone nothing of them is left: no connection, no subscription, no interest.
    fn judge_emptiness(&mut self) -> Result<(), Failure> {
        for at in 0..self.clients.len() {
            self.disconnect(at);
        }
        self.rest()?;
        for shard in 0..self.shards.len() {
            let snapshot = self.shards[shard].broker.snapshot(&GatherNeeds::default(), self.now);
            if snapshot.connections != 0 || snapshot.subscriptions != 0 {
                return self.fail(format!("shard {shard} still holds {snapshot:?}"));
            }
        }
        let subjects: Vec<String> =
            crate::workload::SUBJECTS.iter().map(|subject| (*subject).to_owned()).collect();
        for shard in 0..self.shards.len() {
            for account in 0..ACCOUNTS.len() {
                let at = self.connect_to(shard, account, true, true);
                self.clients[at].send(b"SUB _I.z 1\r\n");
                for subject in &subjects {
                    self.clients[at].send(format!("PUB {subject} _I.z 0\r\n\r\n").as_bytes());
                }
                let wanted = subjects.len();
                let mut answered = 0;
                for _ in 0..100_000 {
                    self.step_quietly(at, &mut answered)?;
                    if answered == wanted {
                        break;
                    }
                }
                if answered != wanted {
                    return self.fail(format!(
                        "shard {shard} knows interest that is gone: {answered} of {wanted} \
                         publishes were answered 503"
                    ));
                }
                self.disconnect(at);
            }
        }
        Ok(())
    }

    /// A step in which only 503 answers to one client count.
    fn step_quietly(&mut self, at: usize, answered: &mut usize) -> Result<(), Failure> {
        self.carry_up(at);
        self.clients[at].window = 20_000;
        let (shard, slot) = (self.clients[at].shard, self.clients[at].slot);
        self.flush_slot(shard, slot);
        self.apply(shard);
        self.carry_batch();
        self.pass_time();
        while let Some(frame) = self.clients[at].next_frame().or_else(|text| self.fail(text))? {
            if let Frame::Msg { header, .. } = frame {
                *answered += usize::from(header.starts_with(b"NATS/1.0 503"));
            }
        }
        Ok(())
    }
}
