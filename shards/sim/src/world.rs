//! The world of some shards: its clock, its clients, what happens next, and what must hold when
//! nothing is left to happen.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use broker::auth::{AccountSettings as AuthAccount, AuthSettings, AuthTable, UserSettings};
use broker::monitor::GatherNeeds;
use broker::random::Random;
use broker::settings::{AccountSettings, MILLI_NS, Settings};
use shard::{Accepted, Effects, Now, Shard};

use crate::Summary;
use crate::client::Client;
use crate::net::Link;
use crate::oracle::{Failure, Oracle};
use crate::workload;

/// Accounts of the world besides `$G` and `$SYS`.
pub(crate) const ACCOUNTS: [&str; 2] = ["A", "B"];
/// Steps kept for the report of a failure.
const STEPS_KEPT: usize = 40;
/// Steps after which a world that does not come to rest is stuck.
const REST_STEPS_MAX: usize = 500_000;

/// Some shards, their links and their clients.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) shards: Vec<Shard>,
    pub(crate) effects: Vec<Effects>,
    /// From, to.
    pub(crate) links: Vec<Vec<Link>>,
    pub(crate) clients: Vec<Client>,
    pub(crate) random: Random,
    pub(crate) now: Now,
    pub(crate) oracle: Oracle,
    /// A rule that was broken inside a step.
    pub(crate) broken: Option<String>,
    steps: VecDeque<String>,
    pub(crate) step_count: usize,
    cid: u64,
    /// The seed's pending limit is within reach.
    pub(crate) has_small_pending: bool,
    /// The seed's server pings often enough to find a stale client.
    pub(crate) has_short_pings: bool,
    pub(crate) refused_writes: usize,
    pub(crate) refused_batches: usize,
    pub(crate) resumes: usize,
    pub(crate) closed: usize,
}

fn auth_settings() -> AuthSettings {
    let account = |name: &&str| AuthAccount {
        name: (*name).to_owned(),
        users: vec![UserSettings::with_password(name, "p")],
        default_permissions: None,
    };
    AuthSettings { accounts: ACCOUNTS.iter().map(account).collect(), ..AuthSettings::default() }
}

/// Small bounds, so that short runs meet all of them.
fn settings(random: &mut Random) -> Settings {
    let mut settings = Settings { auth: auth_settings(), ..Settings::default() };
    // An open table would show: every login would then be put under one account.
    settings.auth_table =
        Arc::new(AuthTable::new(&settings.auth).unwrap_or_else(|_| AuthTable::open()));
    settings.accounts.extend(ACCOUNTS.iter().map(|name| AccountSettings::new(name)));
    settings.mesh.batch_bytes_max = 200 + random.below(4000) as usize;
    settings.mesh.backlog_bytes_max = 500 + random.below(8000) as usize;
    settings.limits.turn_output_bytes_min = 100 + random.below(5000) as usize;
    settings.limits.turn_output_bytes_max = 6000 + random.below(60_000) as usize;
    settings.limits.plans_max = 1 + random.below(8) as usize;
    settings.hold.soft_pending_bytes = 1000 + random.below(20_000) as usize;
    settings.hold.hard_pending_bytes = 2 * settings.hold.soft_pending_bytes;
    settings
}

impl World {
    /// The world of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let count = 1 + random.below(4) as usize;
        let mut settings = settings(&mut random);
        let has_small_pending = random.below(3) == 0;
        if has_small_pending {
            settings.limits.max_pending_bytes = 30_000 + random.below(60_000) as usize;
        }
        if random.below(3) == 0 {
            settings.limits.write_deadline_ns = (20 + u64::from(random.below(40))) * MILLI_NS;
        }
        let has_short_pings = random.below(3) == 0;
        if has_short_pings {
            settings.limits.ping_interval_ns = (10 + u64::from(random.below(40))) * MILLI_NS;
        }
        let settings = Arc::new(settings);
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
            broken: None,
            steps: VecDeque::new(),
            step_count: 0,
            cid: 0,
            has_small_pending,
            has_short_pings,
            refused_writes: 0,
            refused_batches: 0,
            resumes: 0,
            closed: 0,
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

    fn fail<T>(&self, rule: String) -> Result<T, Failure> {
        Err(Failure { rule, steps: self.steps.iter().cloned().collect() })
    }

    /// A new client on some shard, its number. It sends CONNECT first.
    pub(crate) fn connect(&mut self, shard: usize, mut client: Client, password: &str) -> usize {
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
        client.shard = shard;
        client.slot = broker.handle_accept(accepted, self.now, &mut self.effects[shard]);
        client.open = true;
        client.writable = true;
        client.took_ns = self.now.mono_ns;
        let (verbose, echo, headers) = (client.verbose, client.echo, client.headers);
        client.send_operation(
            format!(
                "CONNECT {{\"verbose\":{verbose},\"pedantic\":false,\"echo\":{echo},\"headers\":\
                 {headers},\"no_responders\":{headers},\"protocol\":1,\"user\":\"{}\",\"pass\":\
                 \"{password}\"}}\r\n",
                ACCOUNTS[client.account]
            )
            .as_bytes(),
        );
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// Something happens that the seed chooses.
    ///
    /// # Errors
    /// A broken rule.
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        self.step_count += 1;
        let at = self.some_client();
        match self.random.below(20) {
            0..=7 => self.carry_up(at),
            8..=13 => self.read_down(at)?,
            14..=17 => self.carry_batch(),
            18 => self.pass_time(),
            _ => {
                let shard = self.below(self.shards.len());
                self.end_turn(shard);
            }
        }
        self.broken.take().map_or(Ok(()), |rule| self.fail(rule))
    }

    /// A client that has something before it, more often than one that has not.
    fn some_client(&mut self) -> usize {
        let count = self.clients.len().max(1);
        for _ in 0..8 {
            let at = self.below(count);
            if self.clients.get(at).is_some_and(|client| client.open) {
                return at;
            }
        }
        self.below(count)
    }

    /// A client reads, unless it is stalled, and its frames are judged.
    fn read_down(&mut self, at: usize) -> Result<(), Failure> {
        let now_ns = self.now.mono_ns;
        if self.clients.get(at).is_none_or(|c| c.leaving || c.stalled_until_ns > now_ns) {
            return Ok(());
        }
        self.open_window(at);
        self.read_frames(at)
    }

    fn read_frames(&mut self, at: usize) -> Result<(), Failure> {
        loop {
            match self.clients[at].next_frame() {
                Ok(Some(frame)) => {
                    let judged = self.oracle.judge(&mut self.clients, at, frame);
                    judged.or_else(|rule| self.fail(rule))?;
                }
                Ok(None) => return Ok(()),
                Err(text) => return self.fail(format!("client {at} read {text}")),
            }
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
            .filter(|(_, client)| client.open)
            .map(|(at, client)| {
                let broker = &self.shards[client.shard].broker;
                let pending = broker.outbox(client.slot).map_or(0, |o| o.pending_bytes());
                let paused = broker.conn(client.slot).map_or(0, |conn| conn.paused);
                let up = client.upstream.len();
                format!("client {at}: up {up}, down {pending}, paused {paused}")
            })
            .collect();
        self.fail(format!("does not come to rest: {}", waits.join("; ")))
    }

    fn is_at_rest(&mut self) -> bool {
        let turns = self
            .effects
            .iter()
            .all(|fx| fx.dirty.is_empty() && fx.closes.is_empty() && fx.resumed.is_empty());
        turns
            && self.links.iter().flatten().all(VecDeque::is_empty)
            && self.clients.iter().filter(|client| client.open).all(|client| {
                let broker = &self.shards[client.shard].broker;
                client.upstream.is_empty()
                    && client.inbox.is_empty()
                    && broker.outbox(client.slot).is_some_and(|o| o.pending_bytes() == 0)
                    && !broker.is_paused(client.slot)
            })
            && self.has_no_backlog()
    }

    /// No batch waits, not even one that the end of a turn would bring forth.
    fn has_no_backlog(&mut self) -> bool {
        self.shards.iter_mut().all(|shard| {
            let mesh = shard.broker.mesh();
            mesh.seal();
            !mesh.has_backlog()
        })
    }

    /// Comes to rest, and holds everything against the model.
    ///
    /// # Errors
    /// The first broken rule.
    pub(crate) fn finish(mut self) -> Result<Summary, Failure> {
        self.rest()?;
        // What was sent to clients that the server has closed can still be read.
        for at in 0..self.clients.len() {
            self.read_frames(at)?;
        }
        self.oracle.judge_rest(&self.clients).or_else(|rule| self.fail(rule))?;
        let summary = Summary {
            shards: self.shards.len(),
            published: self.oracle.messages.len(),
            delivered: self.oracle.delivered,
            unheard: self.oracle.unheard.len(),
            closed: self.closed,
            refused_writes: self.refused_writes,
            refused_batches: self.refused_batches,
            resumes: self.resumes,
            holds: self.shards.iter().map(|shard| shard.broker.stats.stalls as usize).sum(),
            steps: self.step_count,
        };
        self.leave_all()?;
        for shard in 0..self.shards.len() {
            for account in 0..ACCOUNTS.len() {
                self.judge_silence(shard, account)?;
            }
        }
        Ok(summary)
    }

    /// When all are gone nothing of them is left.
    fn leave_all(&mut self) -> Result<(), Failure> {
        for at in 0..self.clients.len() {
            self.disconnect(at);
        }
        self.rest()?;
        for shard in 0..self.shards.len() {
            let broker = &mut self.shards[shard].broker;
            let snapshot = broker.snapshot(&GatherNeeds::default(), self.now);
            if snapshot.connections != 0 || snapshot.subscriptions != 0 {
                return self.fail(format!("shard {shard} still holds {snapshot:?}"));
            }
        }
        Ok(())
    }

    /// Nobody is interested any more: requests are answered with 503 and none leaves its shard.
    fn judge_silence(&mut self, shard: usize, account: usize) -> Result<(), Failure> {
        let client = Client { account, echo: true, headers: true, ..Client::default() };
        let at = self.connect(shard, client, "p");
        let before = self.shards[shard].broker.mesh().messages_out;
        let first = self.oracle.messages.len();
        workload::subscribe_to(self, at, "_R.>", None);
        for subject in workload::SUBJECTS {
            workload::publish_to(self, at, subject, 5, true, false);
        }
        self.rest()?;
        if self.shards[shard].broker.mesh().messages_out != before {
            return self.fail(format!("shard {shard} knows interest of others that is gone"));
        }
        let answered =
            (first..self.oracle.messages.len()).all(|number| self.oracle.unheard.contains(&number));
        if self.clients[at].open && !answered {
            return self.fail(format!("shard {shard}: not every request was answered with 503"));
        }
        self.disconnect(at);
        self.rest()
    }
}
