//! A log with its disk, and a plain account of what was appended to it.

use std::collections::BTreeMap;
use std::fmt;

use super::disk::{Disk, Driver, Fault, Rng};
use crate::disk::DiskError;
use crate::log::{
    AppendError, Cache, Durability, Location, Log, Message, Options, Progress, Read, Record,
    Recovery, Report,
};

pub(super) const DIR: &str = "jetstream/A/streams/S";
pub(super) const UID: u64 = 0x1234_5678_9ABC_DEF0;

pub(super) fn options() -> Options {
    let mut options = Options::new(DIR, UID);
    options.account = b"A".to_vec();
    options.stream = b"S".to_vec();
    options.segment_bytes_min = 64 << 10;
    options.segment_bytes_max = 256 << 10;
    options.tail_bytes_max = 32 << 10;
    options
}

/// What was appended, so that it can be compared.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Message { seq: u64, subject: Vec<u8>, headers: Vec<u8>, payload: Vec<u8>, more: bool },
    Put(Vec<u8>, Vec<u8>),
    Delta(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Other(Vec<u8>),
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { seq, payload, more, .. } => {
                write!(f, "Message {seq} of {} bytes, more {more}", payload.len())
            }
            Self::Put(key, value) => write!(f, "Put {key:?} {} bytes", value.len()),
            Self::Delta(key, delta) => write!(f, "Delta {key:?} {} bytes", delta.len()),
            Self::Remove(key) => write!(f, "Remove {key:?}"),
            Self::Other(bytes) => write!(f, "Other {} bytes", bytes.len()),
        }
    }
}

impl Entry {
    pub(super) fn message(seq: u64, len: usize) -> Self {
        let mut rng = Rng(seq * 31 + len as u64);
        let payload = (0..len).map(|_| rng.next() as u8).collect();
        let headers =
            if seq.is_multiple_of(3) { b"NATS/1.0\r\na: b\r\n\r\n".to_vec() } else { Vec::new() };
        let subject = format!("s.{}", seq % 7).into_bytes();
        Self::Message { seq, subject, headers, payload, more: false }
    }

    pub(super) fn record(&self) -> Record<'_> {
        match self {
            Self::Message { seq, subject, headers, payload, more } => Record::Message(Message {
                seq: *seq,
                ts_ns: *seq as i64 * 1000,
                expires_ns: (seq % 5 == 0).then_some(7),
                subject,
                headers,
                payload,
                marks: (seq % 4) as u8,
                more: *more,
            }),
            Self::Put(key, value) => Record::NotePut { key, value },
            Self::Delta(key, delta) => Record::NoteDelta { key, delta },
            Self::Remove(key) => Record::NoteRemove { key },
            Self::Other(bytes) => Record::Mark { number: 9, bytes },
        }
    }

    /// The record as an entry; none for what the log adds itself.
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        Some(match record {
            Record::Message(message) => {
                let entry = Self::Message {
                    seq: message.seq,
                    subject: message.subject.to_vec(),
                    headers: message.headers.to_vec(),
                    payload: message.payload.to_vec(),
                    more: message.more,
                };
                assert_eq!(entry.record(), *record);
                entry
            }
            Record::NotePut { key, value } => Self::Put(key.to_vec(), value.to_vec()),
            Record::NoteDelta { key, delta } => Self::Delta(key.to_vec(), delta.to_vec()),
            Record::NoteRemove { key } => Self::Remove(key.to_vec()),
            Record::Mark { number: 9, bytes } => Self::Other(bytes.to_vec()),
            _ => return None,
        })
    }
}

pub(super) type NoteMap = BTreeMap<Vec<u8>, (Vec<u8>, Vec<Vec<u8>>)>;

/// What the notes are after these entries.
pub(super) fn notes_after<'a>(entries: impl Iterator<Item = &'a Entry>) -> NoteMap {
    let mut notes = NoteMap::new();
    for entry in entries {
        match entry {
            Entry::Put(key, value) => {
                notes.insert(key.clone(), (value.clone(), Vec::new()));
            }
            Entry::Delta(key, delta) => {
                if let Some((_, deltas)) = notes.get_mut(key) {
                    deltas.push(delta.clone());
                }
            }
            Entry::Remove(key) => {
                notes.remove(key);
            }
            _ => {}
        }
    }
    notes
}

/// An owner that takes everything down.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) records: Vec<(Location, Entry)>,
    pub(super) covered: Vec<(Location, Entry)>,
    pub(super) notes: NoteMap,
    pub(super) checkpoint: Option<Vec<u8>>,
    pub(super) segments: BTreeMap<u32, Vec<u8>>,
    pub(super) refuses: bool,
}

impl Recovery for Owner {
    fn handle_checkpoint(&mut self, payload: &[u8]) -> bool {
        self.checkpoint = Some(payload.to_vec());
        !self.refuses
    }

    fn handle_segment_checkpoint(&mut self, segment: u32, payload: &[u8]) -> bool {
        self.segments.insert(segment, payload.to_vec());
        true
    }

    fn handle_record(&mut self, location: Location, record: &Record<'_>, is_covered: bool) {
        let Some(entry) = Entry::of(record) else { return };
        let records = if is_covered { &mut self.covered } else { &mut self.records };
        records.push((location, entry));
    }

    fn is_to_be_erased(&self, _: u32) -> bool {
        false
    }

    fn handle_rewritten(&mut self, _: u32) {}

    fn handle_note(&mut self, key: &[u8], value: Option<&[u8]>, deltas: &[Vec<u8>]) {
        if let Some(value) = value {
            let old = self.notes.insert(key.to_vec(), (value.to_vec(), deltas.to_vec()));
            assert_eq!(old, None);
        }
    }
}

/// A log in use.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) log: Log,
    pub(super) driver: Driver,
    pub(super) cache: Cache,
    pub(super) rng: Rng,
    pub(super) now_ns: u64,
    pub(super) entries: Vec<(Location, Entry)>,
    pub(super) next_seq: u64,
}

impl Rig {
    pub(super) fn new(options: Options, seed: u64) -> Self {
        let mut driver = Driver::default();
        let log = Log::create(options, &mut driver.queue);
        Self::with(log, driver, seed)
    }

    fn with(log: Log, driver: Driver, seed: u64) -> Self {
        Self {
            log,
            driver,
            cache: Cache::new(256 << 10),
            rng: Rng(seed),
            now_ns: 1,
            entries: Vec::new(),
            next_seq: 1,
        }
    }

    pub(super) fn append(&mut self, entry: Entry) -> Result<Location, AppendError> {
        let location = self.log.append(&entry.record())?;
        if let Entry::Message { seq, .. } = &entry {
            self.next_seq = seq + 1;
        }
        self.entries.push((location, entry));
        Ok(location)
    }

    pub(super) fn message(&mut self, len: usize) -> Result<Location, AppendError> {
        self.append(Entry::message(self.next_seq, len))
    }

    pub(super) fn commit(&mut self) {
        self.log.commit(self.now_ns, &mut self.driver.queue);
    }

    /// Lets one operation complete.
    pub(super) fn step(&mut self) -> Option<Progress> {
        let progress = self.complete()?;
        self.commit();
        Some(progress)
    }

    /// Lets one operation complete; what was appended meanwhile waits.
    pub(super) fn complete(&mut self) -> Option<Progress> {
        let done = self.driver.complete(&mut self.rng)?;
        let queue = &mut self.driver.queue;
        Some(self.log.handle_disk_done(done, self.now_ns, &mut self.cache, queue))
    }

    /// Lets everything complete that is under way.
    pub(super) fn quiesce(&mut self) {
        self.commit();
        while self.step().is_some() {}
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        self.log.handle_timers(self.now_ns, &mut self.cache, &mut self.driver.queue);
    }

    /// Everything durable and settled.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            self.log.settle(self.now_ns, &mut self.driver.queue);
            while self.step().is_some() {}
            if self.log.is_settled() {
                return;
            }
        }
        panic!("the log does not settle: {:?}", self.log.fenced());
    }

    /// How many entries are durable.
    pub(super) fn acked(&self) -> usize {
        let durable = self.log.durable();
        self.entries.iter().take_while(|(location, _)| location.end() <= durable).count()
    }

    /// Reads until there is an answer.
    pub(super) fn read(&mut self, location: Location) -> Result<Entry, String> {
        for _ in 0..1000 {
            match self.log.read(location, &mut self.cache, &mut self.driver.queue) {
                Read::Record(record) => return Entry::of(&record).ok_or("own".to_owned()),
                Read::Pending => {
                    self.step();
                }
                other => return Err(format!("{other:?}")),
            }
        }
        Err("no answer".to_owned())
    }

    /// Every entry reads as it was written, with and without knowing its length.
    pub(super) fn check_reads(&mut self) {
        for at in 0..self.entries.len() {
            let (location, entry) = self.entries[at].clone();
            assert_eq!(self.read(location).as_ref(), Ok(&entry), "{location:?}");
            let unknown = Location { len: 0, ..location };
            assert_eq!(self.read(unknown).as_ref(), Ok(&entry), "{location:?}");
        }
    }

    pub(super) fn crash(mut self, power: bool) -> (Disk, Vec<(Location, Entry)>, usize) {
        let acked = self.acked();
        let disk = self.driver.crash(&mut self.rng, power);
        (disk, self.entries, acked)
    }

    /// Opens the log again on what is left.
    pub(super) fn recover(options: Options, mut disk: Disk, seed: u64) -> (Self, Owner, Report) {
        let mut owner = Owner::default();
        let (log, report) = Log::recover(options, &mut disk, &mut owner).expect("a log");
        let mut rig = Self::reopened(log, disk, seed);
        rig.entries.clone_from(&owner.records);
        (rig, owner, report)
    }

    /// A log that was recovered from this disk.
    pub(super) fn reopened(log: Log, disk: Disk, seed: u64) -> Self {
        let mut rig = Self::with(log, Driver::on(disk), seed);
        rig.next_seq = rig.log.next_seq();
        rig
    }

    pub(super) fn fail(&mut self, fault: Fault, error: DiskError) {
        self.driver.disk.faults.push((fault, error));
    }
}

/// A log of `count` messages of `len` bytes, settled.
pub(super) fn settled(count: usize, len: usize) -> Rig {
    let mut rig = Rig::new(options(), 1);
    for _ in 0..count {
        rig.message(len).unwrap();
        if rig.next_seq.is_multiple_of(10) {
            rig.quiesce();
        }
    }
    rig.settle();
    rig
}

pub(super) fn lazy() -> Options {
    let mut options = options();
    options.durability = Durability::Lazy { interval_ns: 1_000_000 };
    options
}
