//! Shards with JetStream over one simulated disk: time, sockets, links, and the ends that a
//! server may come to.
//!
//! ```text
//!  play ─► client ══► Shard ◄── link ──► Shard …       kill, power cut, clean stop
//!             │          └─ DiskOp ─► SimDisk ─► DiskDone ─┘        │
//!             └─► model ◄──────────── inspection ◄───────────── restart
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use broker::auth::{AccountSettings as AuthAccount, AuthSettings, AuthTable, UserSettings};
use broker::random::Random;
use broker::settings::{AccountSettings, Settings};
use jetstream::settings as js;
use shard::{Accepted, Effects, Now, Shard};

use super::ask::Ask;
use super::copies::Replica;
use super::disk::SimDisk;
use super::extras::Extras;
use super::model::{Being, Fate, Model};
use crate::client::{Client, Frame, Message};
use crate::net::Link;
use crate::oracle::Failure;

/// The account of every client.
pub(crate) const ACCOUNT: &str = "A";
/// Steps kept for the report of a failure.
const STEPS_KEPT: usize = 60;
/// Virtual time after which something that should have been answered is missing, ns.
const REST_NS_MAX: u64 = 90_000_000_000;
/// Steps of the world without rest.
const REST_STEPS_MAX: usize = 400_000;

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// What was written stays.
    Kill,
    /// What was not flushed is lost, sector by sector.
    PowerCut,
    /// Everything is written.
    Stop,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kills: usize,
    pub(crate) power_cuts: usize,
    pub(crate) stops: usize,
    pub(crate) cut_boots: usize,
    pub(crate) new_shard_counts: usize,
    pub(crate) log_errors: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) shards: Vec<Shard>,
    pub(super) effects: Vec<Effects>,
    pub(super) has_more: Vec<bool>,
    pub(super) links: Vec<Vec<Link>>,
    pub(crate) clients: Vec<Client>,
    pub(crate) disk: SimDisk,
    pub(crate) random: Random,
    /// What the seed has beside what all have, and the dice for it.
    pub(crate) extras: Extras,
    pub(crate) dice: Random,
    pub(super) has_new_key: bool,
    /// Streams that copy others.
    pub(super) copies: Vec<Replica>,
    pub(super) copied: usize,
    pub(super) resets: usize,
    pub(crate) now: Now,
    settings: Arc<Settings>,
    js_settings: Arc<js::Settings>,
    pub(crate) model: Model,
    pub(crate) asks: BTreeMap<u64, (usize, u64, Ask)>,
    pub(crate) next_ask: u64,
    steps: VecDeque<String>,
    pub(crate) step_count: usize,
    cid: u64,
    pub(crate) counts: Counts,
    /// Lines of the log at level error since the last start.
    pub(crate) errors: Vec<String>,
    /// Those of the start before, if nothing was read since.
    pub(super) kept_errors: Vec<String>,
    /// Answers to whoever takes them itself, and whether there may be several.
    pub(crate) raw: Vec<Message>,
    pub(crate) raw_is_many: bool,
    pub(crate) trace: bool,
    pub(crate) inspections: usize,
    pub(crate) set_aside: usize,
    pub(crate) flips: usize,
    pub(crate) hangs: usize,
    /// Streams whose disk has hung since the server began.
    pub(crate) hung: BTreeSet<usize>,
    /// Nothing has been read since the server began.
    pub(crate) is_fresh: bool,
    /// The disk was full since the server began.
    pub(crate) was_full: bool,
    /// Time that passes next, ns.
    pub(crate) skip_ns: u64,
}

fn settings(random: &mut Random) -> Settings {
    let account = |name: &&str| AuthAccount {
        name: (*name).to_owned(),
        users: vec![UserSettings::with_password(name, "p")],
        default_permissions: None,
    };
    let auth =
        AuthSettings { accounts: [ACCOUNT].iter().map(account).collect(), ..Default::default() };
    let mut settings = Settings { auth, ..Settings::default() };
    settings.auth_table =
        Arc::new(AuthTable::new(&settings.auth).unwrap_or_else(|_| AuthTable::open()));
    settings.accounts.push(AccountSettings {
        jetstream: true,
        asks_jetstream: true,
        ..AccountSettings::new(ACCOUNT)
    });
    settings.limits.ping_interval_ns = u64::MAX / 4;
    settings.mesh.batch_bytes_max = 500 + random.below(8000) as usize;
    settings
}

fn js_settings(settings: &Settings) -> js::Settings {
    let accounts = settings
        .accounts
        .iter()
        .map(|account| js::AccountSettings {
            name: account.name.clone(),
            limits: account.jetstream.then(js::AccountLimits::default),
            usage: Arc::default(),
        })
        .collect();
    js::Settings { accounts, server_name: "sim".to_owned(), ..js::Settings::default() }
}

impl World {
    /// The world of a seed, its server running.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd15c);
        random.next_u64();
        let sector = if random.below(2) == 0 { 512 } else { 4096 };
        let (extras, dice) = Extras::draw(seed);
        let settings = Arc::new(settings(&mut random));
        let js_settings = Arc::new(js_settings(&settings));
        let disk = SimDisk::new(sector, Random::new(random.next_u64()));
        Self {
            shards: Vec::new(),
            effects: Vec::new(),
            has_more: Vec::new(),
            links: Vec::new(),
            clients: Vec::new(),
            disk,
            random,
            extras,
            dice,
            has_new_key: false,
            copies: Vec::new(),
            copied: 0,
            resets: 0,
            now: Now { mono_ns: 1, wall_ns: 1_700_000_000_000_000_000 },
            settings,
            js_settings,
            model: Model::default(),
            asks: BTreeMap::new(),
            next_ask: 0,
            steps: VecDeque::new(),
            step_count: 0,
            cid: 0,
            counts: Counts::default(),
            errors: Vec::new(),
            kept_errors: Vec::new(),
            raw: Vec::new(),
            raw_is_many: false,
            trace: std::env::var_os("SIM_TRACE").is_some(),
            inspections: 0,
            set_aside: 0,
            flips: 0,
            hangs: 0,
            hung: BTreeSet::new(),
            is_fresh: true,
            was_full: false,
            skip_ns: 0,
        }
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u32) as usize
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn note(&mut self, step: String) {
        if self.trace {
            eprintln!("[{} {}] {step}", self.step_count, self.now.mono_ns);
        }
        if self.steps.len() == STEPS_KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    pub(crate) fn fail<T>(&self, rule: String) -> Result<T, Failure> {
        Err(Failure { rule, steps: self.steps.iter().cloned().collect() })
    }

    /// A server of so many shards begins, and reads what the disk holds.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(crate) fn start(&mut self, count: usize) -> Result<(), Failure> {
        self.model.count_start();
        self.is_fresh = true;
        self.was_full = false;
        loop {
            let is_whole = self.boot(count);
            if is_whole {
                break;
            }
            self.counts.cut_boots += 1;
            self.note("the power goes during the start".to_owned());
            for me in 0..self.effects.len() {
                self.take_logs(me);
            }
            self.kept_errors.append(&mut self.errors);
            self.disk.boot_writes_left = None;
            self.disk.boot_is_cut = false;
            self.disk.kill();
            self.disk.lose_power();
            self.model.handle_cut_boot();
        }
        for _ in 0..REST_STEPS_MAX {
            if self.shards.iter().all(Shard::is_recovered) && self.is_calm() {
                self.note(format!("{count} shards are ready"));
                return Ok(());
            }
            self.step()?;
        }
        self.fail("the server does not get ready".to_owned())
    }

    /// False when the power went meanwhile.
    fn boot(&mut self, count: usize) -> bool {
        self.shards.clear();
        let seeds: Vec<u64> = (0..count).map(|_| self.random.next_u64()).collect();
        let shard = |(me, seed)| Shard::new(me as u16, count, Arc::clone(&self.settings), seed);
        self.shards = seeds.into_iter().enumerate().map(shard).collect();
        self.effects = (0..count).map(|_| Effects::default()).collect();
        self.has_more = vec![false; count];
        self.links = (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect();
        self.errors.clear();
        let mut settings = js_settings(&self.settings);
        settings.encryption = self.encryption();
        settings.durability = self.extras.durability();
        self.js_settings = Arc::new(settings);
        for me in 0..count {
            let seed = self.random.next_u64();
            let settings = Arc::clone(&self.js_settings);
            let fx = &mut self.effects[me];
            self.shards[me].start_jetstream(settings, seed, &mut self.disk, self.now, fx);
            if self.disk.boot_is_cut {
                return false;
            }
            self.end_turn(me);
        }
        self.disk.boot_writes_left = None;
        true
    }

    /// The server ends, one way or another; nobody is connected any more.
    ///
    /// # Errors
    /// When a clean stop does not come to its end.
    pub(crate) fn end(&mut self, how: End) -> Result<(), Failure> {
        self.note(format!("the server ends: {how:?}"));
        match how {
            End::Kill => self.counts.kills += 1,
            End::PowerCut => self.counts.power_cuts += 1,
            End::Stop => {
                self.counts.stops += 1;
                self.stop()?;
            }
        }
        self.disk.kill();
        if how == End::PowerCut {
            self.disk.lose_power();
        }
        self.clients.clear();
        for (at, stream) in self.model.streams.iter_mut().enumerate() {
            // A log that has failed does not write its end again.
            let has_failed = stream.fenced.is_some();
            stream.has_open_end |= self.hung.contains(&at) || self.was_full || has_failed;
        }
        self.hung.clear();
        self.asks.clear();
        self.model.handle_end(how, self.extras.lazy_ns.is_some());
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Failure> {
        for _ in 0..REST_STEPS_MAX {
            let mut done = true;
            for me in 0..self.shards.len() {
                done &= self.shards[me].stop_jetstream(self.now, &mut self.effects[me]);
                self.take_logs(me);
                let ops = self.shards[me].take_disk_ops();
                self.disk.submit(me, ops, self.now.mono_ns);
            }
            if done {
                return Ok(());
            }
            // The reactor looks at nothing but the disk any more.
            let now_ns = self.now.mono_ns;
            let next = self.disk.next_ns(now_ns).unwrap_or(now_ns + 5_000_000);
            let by = next.max(now_ns + 1) - now_ns;
            self.now.mono_ns += by;
            self.now.wall_ns += by as i64;
            self.model.see_time(self.now);
            self.disk.work(self.now.mono_ns);
            while let Some(landed) = self.disk.take_done(self.now.mono_ns) {
                if let Some(path) = landed.failed {
                    self.model.handle_log_failed(&path);
                }
                self.shards[landed.shard].handle_disk_done(landed.done, self.now);
            }
        }
        self.fail("the server does not stop".to_owned())
    }

    /// A client comes to some shard: its number.
    pub(crate) fn connect(&mut self) -> usize {
        self.cid += 1;
        let shard = self.below(self.shards.len());
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
        let mut client = Client { shard, slot, open: true, headers: true, ..Client::default() };
        let at = self.clients.len();
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1,\
             \"user\":\"{ACCOUNT}\",\"pass\":\"p\"}}\r\nSUB _INBOX.{at}.> 1\r\n"
        );
        client.send(hello.as_bytes());
        self.clients.push(client);
        at
    }

    pub(super) fn read_down(&mut self) -> Result<bool, Failure> {
        let ready: Vec<usize> =
            (0..self.clients.len()).filter(|at| !self.clients[*at].inbox.is_empty()).collect();
        if ready.is_empty() {
            return Ok(false);
        }
        let at = ready[self.below(ready.len())];
        let inbox = std::mem::take(&mut self.clients[at].inbox);
        let mut rest = inbox.as_slice();
        loop {
            match parse_frame(rest) {
                Ok(Some((frame, used))) => {
                    rest = rest.get(used..).unwrap_or_default();
                    self.handle_frame(at, frame)?;
                }
                Ok(None) => break,
                Err(text) => return self.fail(format!("client {at} read {text}")),
            }
        }
        let mut left = rest.to_vec();
        let client = &mut self.clients[at];
        left.append(&mut client.inbox);
        client.inbox = left;
        Ok(true)
    }

    fn handle_frame(&mut self, at: usize, frame: Frame) -> Result<(), Failure> {
        match frame {
            Frame::Msg(message) => {
                let handled = self.handle_message(at, &message);
                handled.or_else(|rule| self.fail(rule))
            }
            Frame::Err(text) => self.fail(format!("client {at} did nothing for -ERR {text}")),
            Frame::Ping => {
                self.clients[at].send(b"PONG\r\n");
                Ok(())
            }
            Frame::Info | Frame::Ok | Frame::Pong => Ok(()),
        }
    }

    /// Publishes bytes from a client.
    pub(crate) fn publish(
        &mut self,
        at: usize,
        subject: &str,
        reply: &str,
        headers: &str,
        payload: &[u8],
    ) {
        let client = &mut self.clients[at];
        let gap = if reply.is_empty() { "" } else { " " };
        let total = headers.len() + payload.len();
        let line = if headers.is_empty() {
            format!("PUB {subject}{gap}{reply} {total}\r\n")
        } else {
            format!("HPUB {subject}{gap}{reply} {} {total}\r\n{headers}", headers.len())
        };
        client.send(line.as_bytes());
        client.send(payload);
        client.send(b"\r\n");
    }

    /// A client that is there.
    pub(crate) fn some_client(&mut self) -> usize {
        let open: Vec<usize> =
            (0..self.clients.len()).filter(|at| self.clients[*at].open).collect();
        open.get(self.below(open.len())).copied().unwrap_or(0)
    }

    /// A consumer that exists.
    pub(crate) fn some_consumer(&mut self, at: usize) -> Option<usize> {
        let consumers = &self.model.streams[at].consumers;
        let present: Vec<usize> =
            (0..consumers.len()).filter(|c| consumers[*c].being == Being::Present).collect();
        present.get(self.below(present.len())).copied()
    }

    /// Something may be on its way to a stream.
    pub(crate) fn has_open(&self, at: usize) -> bool {
        let (era, starts) = (self.model.streams[at].era, self.model.starts);
        self.asks.values().any(|(_, _, ask)| ask.stream(&self.model) == Some(at))
            || self.model.sent.iter().any(|sent| {
                sent.stream == at
                    && sent.era == era
                    && sent.client.0 == starts
                    && matches!(sent.fate, Fate::Open | Fate::Doubt)
            })
    }

    /// Sends a request whose answer is waited for.
    pub(crate) fn ask(&mut self, at: usize, subject: &str, headers: &str, body: &[u8], ask: Ask) {
        self.next_ask += 1;
        let number = self.next_ask;
        self.asks.insert(number, (at, self.now.mono_ns, ask));
        self.publish(at, subject, &format!("_INBOX.{at}.{number}"), headers, body);
    }

    /// Nothing is on its way, but for what waits for time to pass.
    pub(crate) fn is_calm(&self) -> bool {
        self.disk.is_idle()
            && self.links.iter().flatten().all(VecDeque::is_empty)
            && self.clients.iter().all(|c| !c.open || (c.upstream.is_empty() && c.inbox.is_empty()))
            && self.effects.iter().all(|fx| fx.dirty.is_empty() && fx.resumed.is_empty())
            && self.has_more.iter().all(|more| !more)
            && self.shards.iter().all(|shard| !shard.broker.has_service_input())
    }

    /// Steps until everything that was asked has been answered.
    ///
    /// # Errors
    /// A broken rule, or an answer that does not come.
    pub(crate) fn rest(&mut self) -> Result<(), Failure> {
        let from_ns = self.now.mono_ns;
        for _ in 0..REST_STEPS_MAX {
            if self.is_calm() {
                // A stream whose disk has failed or was full confirms nothing, and has no word for
                // that; a consumer that is gone neither.
                let (streams, was_full) = (&self.model.streams, self.was_full);
                self.asks.retain(|_, (_, _, ask)| match ask {
                    Ask::Ack(at, which, ..) => streams.get(*at).is_none_or(|s| {
                        let consumer = s.consumers.get(*which);
                        let may_store = s.fenced.is_none() && !was_full;
                        may_store && consumer.is_some_and(|c| c.being == Being::Present)
                    }),
                    _ => true,
                });
                if self.asks.is_empty() {
                    return Ok(());
                }
            }
            if self.now.mono_ns - from_ns > REST_NS_MAX {
                break;
            }
            self.step()?;
        }
        let waiting: Vec<String> =
            self.asks.values().map(|(at, _, ask)| format!("client {at}: {ask:?}")).collect();
        self.fail(format!("no answer to: {}", waiting.join("; ")))
    }

    /// Lets time pass, with everything that comes in it.
    ///
    /// # Errors
    /// A broken rule.
    pub(crate) fn wait(&mut self, for_ns: u64) -> Result<(), Failure> {
        let until_ns = self.now.mono_ns + for_ns;
        while self.now.mono_ns < until_ns {
            self.step()?;
        }
        Ok(())
    }
}

/// One frame and the bytes that it takes.
fn parse_frame(bytes: &[u8]) -> Result<Option<(Frame, usize)>, String> {
    let mut probe = Client::default();
    let Some(end) = memchr_line(bytes) else { return Ok(None) };
    let line = &bytes[..end];
    let is_message = line.starts_with(b"MSG ") || line.starts_with(b"HMSG ");
    let body = if is_message {
        let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let len: usize = std::str::from_utf8(last)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("no frame: {:?}", String::from_utf8_lossy(line)))?;
        len + 2
    } else {
        0
    };
    let total = end + 2 + body;
    if bytes.len() < total {
        return Ok(None);
    }
    probe.inbox.extend_from_slice(&bytes[..total]);
    Ok(probe.next_frame()?.map(|frame| (frame, total)))
}

fn memchr_line(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n")
}
