//! Random work, with crashes, against a model that is too simple to be wrong: lists that are
//! searched from the front. Failures name their seed; `SHEARWATER_SEED` runs only that one.

use std::collections::BTreeMap;

use wire::api::consumer_config::ConsumerConfig;
use wire::api::pull::{Ack, PullRequest};

use super::super::ack::Named;
use super::{Bench, SECOND_NS, Verdict, pulling};

/// Numbers that look random (xorshift).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

#[derive(Clone, Debug)]
struct Out {
    seq: u64,
    deliveries: u64,
    at_ns: u64,
    /// `None` while it is due.
    deadline_ns: Option<u64>,
}

#[derive(Clone, Debug)]
struct Pull {
    reply: String,
    left: u64,
    ends_ns: u64,
}

/// What a crash leaves.
#[derive(Clone, Debug, Default)]
struct Kept {
    next: u64,
    delivered: u64,
    out: Vec<Out>,
    /// Deliveries of what is settled no more and waits no more.
    given_up: Vec<u64>,
}

struct Model {
    /// Messages that match, by sequence.
    stream: BTreeMap<u64, ()>,
    now: Kept,
    written: Kept,
    due: Vec<u64>,
    pulls: Vec<Pull>,
    sent: Vec<(String, String)>,
    ack_wait_ns: u64,
    deliver_max: u64,
    out_max: usize,
}

impl Model {
    fn pending(&self) -> u64 {
        self.stream.range(self.now.next..).count() as u64
    }

    fn out(&mut self, seq: u64) -> Option<&mut Out> {
        self.now.out.iter_mut().find(|out| out.seq == seq)
    }

    fn give_up(&mut self, seq: u64) {
        self.now.out.retain(|out| out.seq != seq);
        self.now.given_up.push(seq);
    }

    /// The next message and its deliveries.
    fn pick(&mut self) -> Option<(u64, u64)> {
        while let Some(seq) = self.due.first().copied() {
            self.due.remove(0);
            let deliver_max = self.deliver_max;
            let Some(out) = self.out(seq).filter(|out| out.deadline_ns.is_none()) else {
                continue;
            };
            if deliver_max > 0 && out.deliveries >= deliver_max {
                self.give_up(seq);
                continue;
            }
            return Some((seq, out.deliveries + 1));
        }
        if self.now.out.len() >= self.out_max {
            return None;
        }
        let seq = *self.stream.range(self.now.next..).next()?.0;
        self.now.next = seq + 1;
        Some((seq, 1))
    }

    fn serve(&mut self, now_ns: u64) {
        while !self.pulls.is_empty() {
            let Some((seq, deliveries)) = self.pick() else { return };
            self.now.delivered += 1;
            let deadline_ns = Some(now_ns + self.ack_wait_ns);
            self.now.out.retain(|out| out.seq != seq);
            self.now.out.push(Out { seq, deliveries, at_ns: now_ns, deadline_ns });
            let mut pull = self.pulls.remove(0);
            self.sent.push((pull.reply.clone(), format!("{seq}/{deliveries}+{}", self.pending())));
            pull.left -= 1;
            if pull.left > 0 {
                self.pulls.push(pull);
            }
        }
    }

    fn end_pulls(&mut self, now_ns: u64) {
        for pull in self.pulls.extract_if(.., |pull| pull.ends_ns <= now_ns) {
            self.sent.push((pull.reply, "408 Request Timeout".to_owned()));
        }
    }

    fn handle_time(&mut self, now_ns: u64) {
        let deliver_max = self.deliver_max;
        let mut late: Vec<Out> = self
            .now
            .out
            .iter()
            .filter(|out| out.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns))
            .cloned()
            .collect();
        late.sort_by_key(|out| out.seq);
        for out in late {
            if deliver_max > 0 && out.deliveries >= deliver_max {
                self.give_up(out.seq);
            } else if let Some(out) = self.out(out.seq) {
                out.deadline_ns = None;
                let seq = out.seq;
                self.due.push(seq);
            }
        }
        self.end_pulls(now_ns);
    }

    fn crash(&mut self, now_ns: u64) {
        self.now = self.written.clone();
        let (stream, wait_ns) = (&self.stream, self.ack_wait_ns);
        self.now.out.retain(|out| stream.contains_key(&out.seq));
        for out in &mut self.now.out {
            out.deadline_ns = Some(now_ns.max(out.at_ns + wait_ns));
        }
        self.due.clear();
        self.pulls.clear();
    }

    fn remove(&mut self, seq: u64) {
        self.stream.remove(&seq);
        self.now.out.retain(|out| out.seq != seq);
    }
}

struct Pair {
    bench: Bench,
    model: Model,
    draws: Draws,
    written: usize,
    replies: u64,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut draws = Draws(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let ack_wait_ns = SECOND_NS * (1 + draws.below(20));
        let deliver_max = draws.below(4);
        let out_max = 1 + draws.below(30);
        let config = ConsumerConfig {
            ack_wait_ns: ack_wait_ns as i64,
            max_deliver: deliver_max as i64,
            max_ack_pending: out_max as i64,
            filter_subjects: vec!["s.a".to_owned(), "s.b.*".to_owned()],
            ..pulling()
        };
        let mut bench = Bench::new(&[], config);
        bench.jump(SECOND_NS);
        bench.keep();
        let kept = Kept { next: 1, ..Kept::default() };
        let model = Model {
            stream: BTreeMap::new(),
            now: kept.clone(),
            written: kept,
            due: Vec::new(),
            pulls: Vec::new(),
            sent: Vec::new(),
            ack_wait_ns,
            deliver_max,
            out_max: out_max as usize,
        };
        let written = bench.written;
        Self { bench, model, draws, written, replies: 0 }
    }

    /// A sequence that is out, or any at all.
    fn some_seq(&mut self) -> u64 {
        let out = &self.model.now.out;
        if out.is_empty() || self.draws.below(8) == 0 {
            return 1 + self.draws.below(self.bench.store.last_seq().max(1));
        }
        out[self.draws.below(out.len() as u64) as usize].seq
    }

    fn step(&mut self) {
        match self.draws.below(100) {
            0..30 => self.publish(),
            30..50 => self.pull(),
            50..72 => self.ack(),
            72..80 => self.refuse(),
            80..86 => {
                let seq = self.some_seq();
                self.bench.remove(seq);
                self.model.remove(seq);
            }
            86..98 => {
                self.bench.jump(self.draws.below(5 * SECOND_NS));
                let verdict = self.bench.with(|consumer, cx| consumer.handle_deadline(cx));
                assert_eq!(verdict, Verdict::Keep);
                self.model.handle_time(self.bench.mono_ns);
            }
            _ => {
                self.bench.crash();
                self.model.crash(self.bench.mono_ns);
            }
        }
        self.note_written();
        self.bench.serve();
        self.model.serve(self.bench.mono_ns);
        self.note_written();
    }

    /// What the consumer has written now is what a crash leaves.
    fn note_written(&mut self) {
        if self.bench.written != self.written {
            self.written = self.bench.written;
            self.model.written = self.model.now.clone();
        }
    }

    fn publish(&mut self) {
        let subject = ["s.a", "s.b.1", "s.b", "s.c.1", "s.b.2"][self.draws.below(5) as usize];
        let seq = self.bench.store(subject);
        if !["s.b", "s.c.1"].contains(&subject) {
            self.model.stream.insert(seq, ());
        }
    }

    fn pull(&mut self) {
        self.replies += 1;
        let (reply, left) = (format!("r{}", self.replies), 1 + self.draws.below(6));
        let wait_ns = SECOND_NS * (1 + self.draws.below(10));
        let body = format!(r#"{{"batch":{left},"expires":{wait_ns}}}"#);
        let parsed = PullRequest::parse(body.as_bytes());
        self.bench.with(|consumer, cx| consumer.handle_pull(reply.as_bytes(), parsed, cx));
        let now_ns = self.bench.mono_ns;
        self.model.end_pulls(now_ns);
        self.model.pulls.push(Pull { reply, left, ends_ns: now_ns + wait_ns });
    }

    fn say(&mut self, seq: u64, body: &Ack<'_>, reply: &[u8]) {
        let named = Named { stream: seq, consumer: 0, count: 1 };
        self.bench.with(|consumer, cx| consumer.handle_ack(named, body, reply, cx));
    }

    fn ack(&mut self) {
        let seq = self.some_seq();
        let confirmed = self.draws.below(3) == 0;
        self.say(seq, &Ack::Ack, if confirmed { b"confirm" } else { b"" });
        self.model.now.out.retain(|out| out.seq != seq);
        if confirmed {
            assert_eq!(self.bench.confirmed.pop().as_deref(), Some("confirm"));
            // Whatever was written: what was confirmed counts after a crash.
            self.model.written = self.model.now.clone();
        }
    }

    fn refuse(&mut self) {
        let seq = self.some_seq();
        let delay_ns = self.draws.below(2) * (1 + self.draws.below(9 * SECOND_NS));
        self.say(seq, &Ack::Nak { delay_ns: Some(delay_ns as i64) }, b"");
        let now_ns = self.bench.mono_ns;
        if let Some(out) = self.model.out(seq) {
            if delay_ns > 0 {
                out.deadline_ns = Some(now_ns + delay_ns);
                self.model.due.retain(|other| *other != seq);
            } else if out.deadline_ns.take().is_some() {
                self.model.due.push(seq);
            }
        }
    }

    /// Both must say the same.
    fn compare(&mut self, step: usize) {
        let sent: Vec<_> =
            self.bench.sent().into_iter().filter(|(to, _)| to != "confirm").collect();
        assert_eq!(sent, std::mem::take(&mut self.model.sent), "step {step}");
        assert_eq!(self.bench.num_pending(), self.model.pending(), "step {step}");
        self.note_written();
        let state = &self.bench.consumer().state;
        let mut out: Vec<u64> = self.model.now.out.iter().map(|out| out.seq).collect();
        out.sort_unstable();
        assert!(state.pending.keys().copied().eq(out.iter().copied()), "step {step}");
        assert_eq!(state.delivered.consumer, self.model.now.delivered, "step {step}");
        if let Some(first) = out.first() {
            assert!(state.floor.stream < *first, "step {step}");
        }
        assert!(state.floor.consumer <= state.delivered.consumer, "step {step}");
        assert!(self.bench.consumer().waiting.len() == self.model.pulls.len(), "step {step}");
        self.bench.settled.clear();
    }

    /// At the end everything is acknowledged: everything that was not given up has been
    /// delivered, and the floor is at the end.
    fn drain(&mut self) {
        for round in 0..2000 {
            let seq = self.model.now.out.first().map(|out| out.seq);
            match seq {
                Some(seq) => {
                    self.say(seq, &Ack::Ack, b"");
                    self.model.now.out.retain(|out| out.seq != seq);
                }
                None if self.model.pending() == 0 => {
                    let state = &self.bench.consumer().state;
                    if !state.pending.is_empty() || self.model.now.given_up.is_empty() {
                        assert_eq!(state.floor, state.delivered);
                    }
                    return;
                }
                None => self.pull(),
            }
            self.note_written();
            self.bench.serve();
            self.model.serve(self.bench.mono_ns);
            self.compare(1_000_000 + round);
        }
        panic!("the stream does not become empty");
    }
}

#[test]
fn random_work_follows_the_model() {
    let only = std::env::var("SHEARWATER_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = only.map_or(0..100, |seed| seed..seed + 1);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut pair = Pair::new(seed);
            for step in 0..600 {
                pair.step();
                pair.compare(step);
            }
            pair.drain();
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}
