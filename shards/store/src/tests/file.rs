//! Random operations on a stream in files over a disk that loses, tears and completes in any
//! order; crashes in between. What is found must be what the first so many records say, and at
//! least those that were safe.

use super::disk::{Driver, Rng};
use super::model::Model;
use super::random::{Op, PATTERNS, Pair, ops, subject};
use crate::log::{Cache, Cipher, Encryption, Options, RecoverError, StoreKey};
use crate::{NewMessage, Position, Read, Store};
use proptest::prelude::*;
use std::sync::Arc;

/// What one record of the log says.
#[derive(Clone, Debug)]
enum Step {
    Append { seq: u64, subject_at: usize, len: usize, ts_ns: i64, has_headers: bool },
    Skip { seq: u64 },
    Remove { seqs: Vec<u64> },
    Purge { seq: u64 },
    Note { key: u8, value: u8 },
}

const HEADERS: &[u8] = b"NATS/1.0\r\nA: b\r\n\r\n";

fn payload(seq: u64, len: usize) -> Vec<u8> {
    let mut bytes = seq.to_le_bytes().repeat(len / 8 + 1);
    bytes.truncate(len);
    bytes
}

fn options(seed: u64) -> Options {
    let mut options = Options::new("js/A/streams/S", 77);
    options.segment_bytes_min = 64 << 10;
    options.segment_bytes_max = 128 << 10;
    options.tail_bytes_max = 32 << 10;
    options.settle_ns = 50;
    options.compress = seed.is_multiple_of(2);
    if seed % 4 < 2 {
        let key = StoreKey::new(b"a key");
        let encryption =
            Encryption { cipher: Cipher::default(), key, prev_key: None, entropy: seed };
        options.encryption = Some(Arc::new(encryption));
    }
    options
}

struct Rig {
    pair: Pair,
    driver: Driver,
    cache: Cache,
    rng: Rng,
    now_ns: u64,
    steps: Vec<(Step, Position)>,
    notes: [Option<u8>; 4],
    seed: u64,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let mut driver = Driver::default();
        let mut store = Store::file(options(seed), 0, &mut driver.queue);
        store.set_checkpoint_bytes(100 << 10);
        Self {
            pair: Pair::new(store, Model::new(30, 4)),
            driver,
            cache: Cache::new(256 << 10),
            rng: Rng(seed),
            now_ns: 0,
            steps: Vec::new(),
            notes: [None; 4],
            seed,
        }
    }

    fn done(&mut self, step: Step) {
        let position = self.pair.store.position();
        assert_ne!(position, Position::NEVER);
        self.steps.push((step, position));
    }

    fn append(&mut self, seq: u64, subject_at: usize, len: usize, has_headers: bool) {
        self.pair.now_ns += 1_000_000;
        let ts_ns = self.pair.now_ns;
        let step = Step::Append { seq, subject_at, len, ts_ns, has_headers };
        with_message(&step, |message| {
            self.pair.store.append_at(seq, message).unwrap();
        });
        apply(&mut self.pair.model, &step);
        self.done(step);
    }

    fn remove(&mut self, seqs: Vec<u64>) {
        let step = Step::Remove { seqs };
        apply(&mut self.pair.model, &step);
        self.done(step);
    }

    fn remove_one(&mut self, seq: Option<u64>) {
        let Some(seq) = seq else { return };
        let is_there = self.pair.model.messages.contains_key(&seq);
        assert_eq!(self.pair.store.remove(seq, seq % 5 == 0).is_some(), is_there);
        if is_there {
            self.remove(vec![seq]);
        }
    }

    fn purge_to(&mut self, seq: u64) {
        let last = self.pair.model.last_seq;
        self.pair.store.remove_up_to(seq);
        if seq > last {
            let skip = Step::Skip { seq };
            apply(&mut self.pair.model, &skip);
            // Both records come before the position behind them.
            self.steps.push((skip, Position::default()));
        }
        let purge = Step::Purge { seq };
        apply(&mut self.pair.model, &purge);
        self.done(purge);
        if seq > last {
            let at = self.steps.len();
            let end = self.steps[at - 1].1;
            self.steps[at - 2].1 = end;
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Append { subject, headers, len, .. } => {
                self.append(self.pair.model.last_seq + 1, subject, len * 40, headers);
            }
            Op::Burst { first_subject, stride, count } => {
                for i in 0..count / 3 {
                    let at = (first_subject + i * stride) % 30;
                    self.append(self.pair.model.last_seq + 1, at, i * 7 % 1100, i % 7 == 0);
                    if i % 50 == 49 {
                        self.turn();
                    }
                }
            }
            Op::AppendAt { gap, subject } => {
                if gap > 1 {
                    let seq = self.pair.model.last_seq + gap - 1;
                    self.pair.store.skip_to(seq).unwrap();
                    let skip = Step::Skip { seq };
                    apply(&mut self.pair.model, &skip);
                    self.done(skip);
                }
                self.append(self.pair.model.last_seq + 1, subject, 30, false);
            }
            Op::SkipTo { gap } => {
                let seq = self.pair.model.last_seq + gap;
                self.pair.store.skip_to(seq).unwrap();
                let skip = Step::Skip { seq };
                apply(&mut self.pair.model, &skip);
                self.done(skip);
            }
            Op::Remove { at } => self.remove_one(Some(self.pair.place(at))),
            Op::RemoveFirstOf { subject: at } => {
                let first = self.pair.model.matching(&[&subject(at)], 0, u64::MAX);
                self.remove_one(first.first().copied());
            }
            Op::RemoveLastOf { subject: at } => {
                let all = self.pair.model.matching(&[&subject(at)], 0, u64::MAX);
                self.remove_one(all.last().copied());
            }
            Op::RemoveUpTo { at } => self.purge_to(self.pair.place(at)),
            Op::Purge { pattern, at, keep } => {
                let below = at.map(|at| self.pair.place(at));
                let to = below.unwrap_or(u64::MAX).saturating_sub(1);
                let mut seqs = self.pair.model.matching(&[PATTERNS[pattern]], 0, to);
                if PATTERNS[pattern] == b">" {
                    return;
                }
                seqs.truncate(seqs.len().saturating_sub(keep));
                let count = self.pair.store.purge(Some(PATTERNS[pattern]), below, keep as u64);
                assert_eq!(count, seqs.len() as u64);
                if !seqs.is_empty() {
                    self.remove(seqs);
                }
            }
            Op::PurgeAll => self.purge_to(self.pair.model.last_seq),
            Op::Expire { seconds } => {
                let (key, value) = (seconds % 4, seconds);
                let position = self.pair.store.put_note(&[key], &[value]);
                assert_ne!(position, Position::NEVER);
                self.notes[usize::from(key)] = Some(value);
                self.done(Step::Note { key, value });
            }
        }
    }

    /// The end of a turn: a commit, and what the disk has done meanwhile.
    fn turn(&mut self) {
        self.now_ns += 10;
        self.pair.store.commit(self.now_ns, &mut self.driver.queue);
        for _ in 0..self.rng.below(6) {
            let Some(done) = self.driver.complete(&mut self.rng) else { break };
            let store = &mut self.pair.store;
            let queue = &mut self.driver.queue;
            let progress = store.handle_disk_done(done, self.now_ns, queue, &mut self.cache);
            assert_eq!(progress.failed, None);
        }
        if self.pair.store.next_deadline_ns().is_some_and(|at| at <= self.now_ns) {
            let queue = &mut self.driver.queue;
            self.pair.store.handle_timers(self.now_ns, queue, &mut self.cache);
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.now_ns += 10;
            let is_settled =
                self.pair.store.stop(self.now_ns, &mut self.driver.queue, &mut self.cache);
            let Some(done) = self.driver.complete(&mut self.rng) else {
                assert!(is_settled, "nothing is under way and not all is safe");
                return;
            };
            let queue = &mut self.driver.queue;
            self.pair.store.handle_disk_done(done, self.now_ns, queue, &mut self.cache);
        }
        panic!("it does not settle");
    }

    /// Reads every message.
    fn compare_contents(&mut self) {
        for (&seq, m) in &self.pair.model.messages {
            for _ in 0..100 {
                let queue = &mut self.driver.queue;
                match self.pair.store.get(seq, &mut self.cache, queue) {
                    Read::Message(found) => {
                        assert_eq!(found.subject, m.subject);
                        assert_eq!(found.headers, m.headers);
                        assert_eq!(found.payload, m.payload);
                        assert_eq!((found.seq, found.ts_ns), (seq, m.ts_ns));
                        break;
                    }
                    Read::Pending => {}
                    other => panic!("{seq} is {other:?}"),
                }
                if let Some(done) = self.driver.complete(&mut self.rng) {
                    let queue = &mut self.driver.queue;
                    self.pair.store.handle_disk_done(done, self.now_ns, queue, &mut self.cache);
                }
            }
        }
    }

    /// A crash and a new start.
    fn crash(&mut self, is_power: bool) {
        let durable = |rig: &Self| {
            rig.steps.iter().filter(|(_, end)| rig.pair.store.is_durable(*end)).count()
        };
        let least = durable(self);
        let driver = std::mem::take(&mut self.driver);
        let mut disk = driver.crash(&mut self.rng, is_power);
        if self.rng.below(3) == 0 {
            disk.files.retain(|path, _| !path.ends_with(".chk"));
        }
        let found = match Store::recover(options(self.seed), &mut disk) {
            Ok(found) => found,
            Err(RecoverError::Empty) => {
                // The crash came before anything was safe.
                assert_eq!(least, 0);
                *self = Self::new(self.rng.next());
                return self.pair.add_filters();
            }
            Err(other) => panic!("{other}"),
        };
        assert!(found.report.is_clean(), "{:?}", found.report);
        assert_eq!(found.lost, []);
        self.driver = Driver::on(disk);
        self.cache = Cache::new(256 << 10);
        let filters = std::mem::take(&mut self.pair.filters);
        let now_ns = self.pair.now_ns;
        self.pair = Pair::new(found.store, Model::new(30, 4));
        self.pair.now_ns = now_ns;
        let end = self.pair.store.position();
        let kept = self.steps.iter().filter(|(_, position)| *position <= end).count();
        assert!(kept >= least, "{kept} steps are left, {least} were safe");
        self.steps.truncate(kept);
        self.notes = [None; 4];
        for (step, _) in &self.steps {
            apply(&mut self.pair.model, step);
            if let Step::Note { key, value } = *step {
                self.notes[usize::from(key)] = Some(value);
            }
        }
        for note in &found.notes {
            let expected = self.notes[usize::from(note.key[0])].map(|value| vec![value]);
            assert_eq!(note.value, expected);
        }
        assert_eq!(found.notes.len(), self.notes.iter().flatten().count());
        for (_, patterns) in filters {
            let id = self.pair.store.add_filter(&patterns);
            self.pair.filters.push((id, patterns));
        }
        self.pair.store.set_checkpoint_bytes(100 << 10);
        self.pair.compare_state();
        assert_eq!(self.pair.store.durable_seq(), self.pair.model.last_seq);
    }
}

fn with_message(step: &Step, f: impl FnOnce(&NewMessage<'_>)) {
    let Step::Append { seq, subject_at, len, ts_ns, has_headers } = *step else { return };
    f(&NewMessage {
        subject: &subject(subject_at),
        headers: if has_headers { HEADERS } else { b"" },
        payload: &payload(seq, len),
        ts_ns,
        expires_ns: (seq % 9 == 0).then_some(ts_ns + 1_000_000_000),
        has_msg_id: seq % 4 == 0,
    });
}

fn apply(model: &mut Model, step: &Step) {
    match step {
        Step::Append { seq, .. } => with_message(step, |m| model.append_at(*seq, m)),
        Step::Skip { seq } => model.skip_to(*seq),
        Step::Remove { seqs } => {
            for seq in seqs {
                assert!(model.remove(*seq));
            }
        }
        Step::Purge { seq } => {
            model.remove_up_to(*seq);
        }
        Step::Note { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_safe_survives(
        lives in prop::collection::vec((ops(), any::<bool>(), any::<bool>()), 1..4),
        seed in any::<u64>(),
    ) {
        let mut rig = Rig::new(seed);
        rig.pair.add_filters();
        for (ops, is_power, is_clean) in &lives {
            for (at, op) in ops.iter().enumerate() {
                rig.apply(op);
                rig.pair.compare_state();
                if at % 3 == 0 {
                    rig.turn();
                }
            }
            rig.pair.compare_answers();
            rig.compare_contents();
            if *is_clean {
                rig.settle();
            }
            rig.crash(*is_power);
            rig.compare_contents();
            rig.pair.compare_answers();
        }
    }
}
