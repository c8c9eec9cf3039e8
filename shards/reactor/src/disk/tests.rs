//! The driver on real files in temporary directories.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use store::disk::{
    Access, AlignedBuffer, DiskData, DiskDone, DiskError, DiskOp, DiskQueue, Extent, FileId, Ticket,
};
use tempfile::TempDir;

use super::{DirectMode, Disk, DiskSettings, Faults};
use crate::uring::Ring;

const LIMIT: Duration = Duration::from_secs(20);
const SEGMENT_BYTES: u64 = 2 << 20;

/// A disk with its ring, as a shard has them, in a directory of its own.
struct Rig {
    dir: TempDir,
    queue: DiskQueue,
    disk: Option<Disk>,
    ring: Ring,
    bell: OwnedFd,
    done: Vec<DiskDone>,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut DiskSettings)) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), change)
    }

    fn in_dir(dir: TempDir, change: impl FnOnce(&mut DiskSettings)) -> Self {
        let mut settings = DiskSettings::new(dir.path().join("store"));
        settings.segment_bytes = SEGMENT_BYTES;
        settings.spare_min = 0;
        change(&mut settings);
        let bell = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let mut ring = Ring::new(bell.as_fd()).unwrap();
        ring.set_wakes(true);
        let disk = Disk::open(settings, bell.try_clone().unwrap()).unwrap();
        let queue = DiskQueue::default();
        Self { dir, queue, disk: Some(disk), ring, bell, done: Vec::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("store").join(path)
    }

    fn disk(&mut self) -> &mut Disk {
        self.disk.as_mut().unwrap()
    }

    /// Submits what is queued.
    fn submit(&mut self) {
        let ops = std::mem::take(&mut self.queue.ops);
        self.disk.as_mut().unwrap().submit(ops, &mut self.ring, 0).unwrap();
    }

    /// Submits what is queued and waits until an operation has ended.
    fn wait(&mut self, ticket: Ticket) -> Result<DiskData, DiskError> {
        self.submit();
        let start = Instant::now();
        loop {
            if let Some(at) = self.done.iter().position(|done| done.ticket == ticket) {
                return self.done.remove(at).result;
            }
            assert!(start.elapsed() < LIMIT, "{ticket:?} has not ended");
            self.turn(true);
        }
    }

    /// Takes what there is, after a sleep as a shard sleeps.
    fn turn(&mut self, sleep: bool) {
        let disk = self.disk.as_mut().unwrap();
        self.ring.enter().unwrap();
        if sleep && !disk.has_done() && !self.ring.has_events() {
            let time = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
            let woken = poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&time)).unwrap();
            assert_eq!(woken, 1, "nothing has woken the shard");
            rustix::io::read(&self.bell, &mut [0_u8; 8]).unwrap();
        }
        self.ring.enter().unwrap();
        let mut events = Vec::new();
        self.ring.drain(|event| events.push(event));
        for event in events {
            assert!(disk.land(event, &mut self.ring, 0).unwrap());
        }
        disk.take_done(&mut self.done, &mut self.ring, 0).unwrap();
    }

    fn run(&mut self, op: DiskOp) -> Result<DiskData, DiskError> {
        let ticket = self.queue.push(op);
        self.wait(ticket)
    }

    fn create(&mut self, path: &str, len: u64) -> FileId {
        let file = self.queue.name_file();
        let access = Access::Direct;
        self.run(DiskOp::Create { file, path: path.into(), len, access }).unwrap();
        file
    }

    fn read(&mut self, file: FileId, offset: u64, len: usize) -> Vec<u8> {
        match self.run(DiskOp::Read { file, offset, len }).unwrap() {
            DiskData::Bytes(bytes) => bytes.as_slice().to_vec(),
            DiskData::None => panic!("a read without bytes"),
        }
    }

    /// Whether `seen` is so, after turns until it is or the time is over.
    fn comes_to(&mut self, mut seen: impl FnMut(&Disk) -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if seen(self.disk()) {
                return true;
            }
            self.turn(false);
            std::thread::yield_now();
        }
        false
    }
}

impl Drop for Rig {
    /// The helper ends before its directory does.
    fn drop(&mut self) {
        if let Some(disk) = self.disk.take() {
            let _ = disk.finish(&mut self.ring, LIMIT, |_| {});
        }
    }
}

fn extent(offset: u64, len: usize, byte: u8) -> Extent {
    let mut bytes = AlignedBuffer::new(len);
    bytes.as_mut_slice().fill(byte);
    Extent { offset, bytes }
}

fn commit(file: FileId, extents: Vec<Extent>, sync: bool) -> DiskOp {
    DiskOp::Commit { file, extents, sync }
}

fn remove(path: &str, erase: bool) -> DiskOp {
    DiskOp::Remove { path: path.into(), erase }
}

fn rename(from: &str, to: &str) -> DiskOp {
    DiskOp::Rename { from: from.into(), to: to.into() }
}

const INVALID: DiskError = DiskError::Os(22);
const EXISTS: DiskError = DiskError::Os(17);
const EIO: DiskError = DiskError::Os(5);
const NO_FILE: DiskError = DiskError::Os(9);

#[test]
fn a_created_file_is_all_zeroes_and_has_its_space() {
    let mut rig = Rig::new();
    for (path, len) in [("a/b/c/small", 256 << 10), ("a/full", SEGMENT_BYTES), ("odd", 5 << 12)] {
        let file = rig.create(path, len);
        let meta = std::fs::metadata(rig.path(path)).unwrap();
        assert_eq!(meta.len(), len);
        assert!(meta.blocks() * 512 >= len, "{path} has holes");
        assert_eq!(meta.mode() & 0o777, 0o640);
        assert!(rig.read(file, 0, len as usize).iter().all(|byte| *byte == 0));
    }
    assert_eq!(std::fs::metadata(rig.path("a/b")).unwrap().mode() & 0o777, 0o750);
}

#[test]
fn commits_are_in_the_file_when_they_are_done() {
    for direct in [true, false] {
        let mut rig = Rig::with(|settings| settings.direct = direct);
        let file = rig.create("log", 1 << 20);
        rig.run(commit(file, vec![extent(4096, 8192, 7)], true)).unwrap();
        let several = vec![extent(65536, 4096, 1), extent(0, 4096, 2), extent(131_072, 65536, 3)];
        rig.run(commit(file, several, true)).unwrap();
        rig.run(commit(file, vec![extent(12288, 4096, 8)], false)).unwrap();
        rig.run(commit(file, Vec::new(), true)).unwrap();
        rig.run(commit(file, Vec::new(), false)).unwrap();
        rig.run(DiskOp::Sync { file }).unwrap();
        let mut expected = vec![0; 1 << 20];
        expected[..4096].fill(2);
        expected[4096..12288].fill(7);
        expected[12288..16384].fill(8);
        expected[65536..69632].fill(1);
        expected[131_072..196_608].fill(3);
        assert!(std::fs::read(rig.path("log")).unwrap() == expected);
        assert!(rig.read(file, 0, 1 << 20) == expected);
        let figures = rig.disk().figures(0);
        assert_eq!((figures.commits, figures.syncs, figures.reads), (5, 1, 1));
        assert_eq!(figures.written_bytes, 8192 + 4096 * 2 + 65536 + 4096);
        assert_eq!((figures.read_bytes, figures.errors, figures.in_flight), (1 << 20, 0, 0));
        assert_eq!(figures.commit_times.count(), 6);
    }
}

#[test]
fn operations_of_a_file_wait_for_its_opening_and_keep_their_order() {
    let mut rig = Rig::new();
    let file = rig.queue.name_file();
    let path = String::from("log");
    rig.queue.push(DiskOp::Create { file, path, len: 65536, access: Access::Direct });
    for byte in 1..=50 {
        rig.queue.push(commit(file, vec![extent(0, 4096, byte)], byte % 3 == 0));
    }
    rig.queue.push(DiskOp::Sync { file });
    let close = rig.queue.push(DiskOp::Close { file });
    rig.wait(close).unwrap();
    let commits = rig.done.iter().filter(|done| done.result.is_ok()).count();
    assert_eq!(commits, 52);
    assert!(std::fs::read(rig.path("log")).unwrap()[..4096].iter().all(|byte| *byte == 50));
    let tickets: Vec<_> = rig.done.iter().map(|done| done.ticket).collect();
    assert!(tickets.is_sorted(), "{tickets:?}");
    // Closed is closed.
    assert_eq!(rig.run(DiskOp::Sync { file }).unwrap_err(), NO_FILE);
    assert_eq!(rig.run(DiskOp::Close { file }).unwrap_err(), NO_FILE);
    assert_eq!(rig.disk().figures(0).open_files, 0);
}

#[test]
fn many_files_and_more_requests_than_the_ring_takes() {
    let mut rig = Rig::new();
    let files: Vec<_> = (0..40).map(|n| rig.create(&format!("f{n}"), 256 << 10)).collect();
    for round in 0..60_u64 {
        for file in &files {
            let offset = round * 4096;
            rig.queue.push(commit(*file, vec![extent(offset, 4096, round as u8 + 1)], false));
            rig.queue.push(DiskOp::Read { file: *file, offset: 0, len: 4096 });
        }
    }
    rig.submit();
    assert!(rig.comes_to(Disk::is_idle));
    assert_eq!(rig.done.len(), 2 * 60 * 40);
    assert!(rig.done.iter().all(|done| done.result.is_ok()));
    for n in 0..40 {
        let bytes = std::fs::read(rig.path(&format!("f{n}"))).unwrap();
        let is_right = |at: usize| bytes[at * 4096] == at as u8 + 1;
        assert!((0..60).all(is_right));
    }
}

#[test]
fn no_more_requests_are_in_the_kernel_than_may() {
    let mut rig = Rig::with(|settings| (settings.requests_max, settings.shards) = (8, 2));
    let file = rig.create("d/1.seg", SEGMENT_BYTES);
    let tickets: Vec<Ticket> = (0..50)
        .map(|number| rig.queue.push(DiskOp::Read { file, offset: number * 4096, len: 4096 }))
        .collect();
    rig.submit();
    assert_eq!(rig.ring.files_in_flight(), 4);
    while rig.done.len() < tickets.len() {
        rig.turn(true);
        assert!(rig.ring.files_in_flight() <= 4);
    }
    assert!(rig.done.iter().all(|done| done.result.is_ok()));
}

#[test]
fn what_cannot_be_done_says_why() {
    let mut rig = Rig::new();
    let file = rig.queue.name_file();
    let open = DiskOp::Open { file, path: "none".into(), access: Access::Direct };
    let open = rig.queue.push(open);
    let read = rig.queue.push(DiskOp::Read { file, offset: 0, len: 4096 });
    assert_eq!(rig.wait(open).unwrap_err(), DiskError::NotFound);
    assert_eq!(rig.wait(read).unwrap_err(), DiskError::NotFound);

    let file = rig.create("log", 65536);
    rig.run(commit(file, vec![extent(0, 4096, 9)], true)).unwrap();
    for (offset, len) in [(1, 4096), (4096, 100)] {
        assert_eq!(rig.run(DiskOp::Read { file, offset, len }).unwrap_err(), INVALID);
        assert_eq!(rig.run(commit(file, vec![extent(offset, len, 1)], true)).unwrap_err(), INVALID);
    }
    // A file that exists is never replaced by an empty one.
    let again = rig.queue.name_file();
    let access = Access::Direct;
    let create = DiskOp::Create { file: again, path: "log".into(), len: 65536, access };
    assert_eq!(rig.run(create).unwrap_err(), EXISTS);
    assert_eq!(rig.read(file, 0, 4096), [9; 4096]);
    assert_eq!(std::fs::read_dir(rig.path(".pool/0")).unwrap().count(), 0);

    for path in ["/etc/x", "../x", "a/../../x", "a\0b", "", "a//b"] {
        let path = path.to_owned();
        assert_eq!(rig.run(remove(&path, false)).unwrap_err(), INVALID);
        assert_eq!(rig.run(rename("log", &path)).unwrap_err(), INVALID);
        assert_eq!(rig.run(DiskOp::RemoveTree { path: path.clone() }).unwrap_err(), INVALID);
        assert_eq!(rig.run(DiskOp::Replace { path, bytes: vec![1] }).unwrap_err(), INVALID);
    }
    assert!(rig.disk().figures(0).errors > 0);
}

#[test]
fn only_a_file_that_holds_nothing_or_is_shorter_gives_way_to_a_new_one() {
    let mut rig = Rig::new();
    let create = |rig: &mut Rig, len| {
        let (file, access) = (rig.queue.name_file(), Access::Direct);
        let result = rig.run(DiskOp::Create { file, path: "seg".into(), len, access });
        result.map(|_| file)
    };
    let blank = create(&mut rig, 65536).unwrap();
    let file = create(&mut rig, 65536).unwrap();
    rig.run(commit(file, vec![extent(0, 4096, 1)], true)).unwrap();
    assert_eq!(create(&mut rig, 65536).unwrap_err(), EXISTS);
    assert_eq!(create(&mut rig, 4096).unwrap_err(), EXISTS);
    assert_eq!(rig.read(file, 0, 4096), [1; 4096]);
    let longer = create(&mut rig, 131_072).unwrap();
    assert_eq!(rig.read(longer, 0, 131_072), [0; 131_072]);
    // Whoever has an old one open writes into nothing that has a name.
    rig.run(commit(blank, vec![extent(0, 4096, 2)], true)).unwrap();
    rig.run(commit(file, vec![extent(0, 4096, 2)], true)).unwrap();
    assert!(std::fs::read(rig.path("seg")).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn a_read_ends_where_the_file_does() {
    let mut rig = Rig::new();
    std::fs::write(rig.path("short"), [5; 5000]).unwrap();
    let file = rig.queue.name_file();
    rig.run(DiskOp::Open { file, path: "short".into(), access: Access::Direct }).unwrap();
    assert_eq!(rig.read(file, 0, 16384), [5; 5000]);
    assert_eq!(rig.read(file, 4096, 4096), [5; 904]);
    assert!(rig.read(file, 8192, 4096).is_empty());
}

#[test]
fn names_change_all_or_nothing() {
    let mut rig = Rig::new();
    for bytes in [b"one".to_vec(), b"second".to_vec(), Vec::new()] {
        rig.run(DiskOp::Replace { path: "d/meta".into(), bytes: bytes.clone() }).unwrap();
        assert_eq!(std::fs::read(rig.path("d/meta")).unwrap(), bytes);
    }
    rig.run(rename("d/meta", "q/deep/meta")).unwrap();
    assert!(!rig.path("d/meta").exists() && rig.path("q/deep/meta").exists());
    assert_eq!(rig.run(rename("d/meta", "x")).unwrap_err(), DiskError::NotFound);
    rig.create("d/1", 4096);
    rig.run(DiskOp::RemoveTree { path: "d".into() }).unwrap();
    assert!(!rig.path("d").exists());
    assert_eq!(rig.run(remove("d/1", false)).unwrap_err(), DiskError::NotFound);
    rig.run(remove("q/deep/meta", false)).unwrap();
    assert!(rig.run(remove("q/deep", false)).is_err());
    assert!(rig.path("q/deep").is_dir());
}

#[test]
fn a_link_in_a_removed_tree_is_not_followed() {
    let mut rig = Rig::new();
    std::fs::create_dir_all(rig.path("keep")).unwrap();
    std::fs::write(rig.path("keep/file"), "x").unwrap();
    std::fs::create_dir_all(rig.path("gone")).unwrap();
    std::os::unix::fs::symlink(rig.path("keep"), rig.path("gone/link")).unwrap();
    std::os::unix::fs::symlink(rig.path("keep/file"), rig.path("link")).unwrap();
    rig.run(DiskOp::RemoveTree { path: "gone".into() }).unwrap();
    assert!(rig.run(DiskOp::RemoveTree { path: "link".into() }).is_err());
    rig.run(remove("link", true)).unwrap();
    assert_eq!(std::fs::read(rig.path("keep/file")).unwrap(), b"x");
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[test]
fn a_removed_segment_is_used_again_with_a_clean_head() {
    let mut rig = Rig::new();
    let file = rig.create("old/1.seg", SEGMENT_BYTES);
    let first = inode(&rig.path("old/1.seg"));
    rig.run(commit(file, vec![extent(0, SEGMENT_BYTES as usize, 0xee)], true)).unwrap();
    rig.run(DiskOp::Close { file }).unwrap();
    rig.run(remove("old/1.seg", false)).unwrap();
    assert!(rig.comes_to(|disk| disk.figures(0).spare_segments == 1));
    let file = rig.create("new/9.seg", SEGMENT_BYTES);
    assert_eq!(inode(&rig.path("new/9.seg")), first);
    let bytes = rig.read(file, 0, SEGMENT_BYTES as usize);
    assert!(bytes[..1 << 20].iter().all(|byte| *byte == 0));
    assert!(bytes[1 << 20..].iter().all(|byte| *byte == 0xee));

    // What is open stays what it is: whoever still reads or writes it must not meet the new owner.
    rig.run(remove("new/9.seg", false)).unwrap();
    let next = rig.create("other", SEGMENT_BYTES);
    assert_ne!(inode(&rig.path("other")), first);
    rig.run(commit(file, vec![extent(0, 4096, 1)], true)).unwrap();
    assert_eq!(rig.read(next, 0, 4096), [0; 4096]);
}

#[test]
fn an_erased_segment_keeps_none_of_its_bytes() {
    let mut rig = Rig::new();
    let file = rig.create("secret", SEGMENT_BYTES);
    rig.run(commit(file, vec![extent(0, SEGMENT_BYTES as usize, 0xee)], true)).unwrap();
    rig.run(DiskOp::Close { file }).unwrap();
    rig.run(remove("secret", true)).unwrap();
    assert!(rig.comes_to(|disk| disk.figures(0).spare_segments == 1));
    let file = rig.create("new", SEGMENT_BYTES);
    assert!(rig.read(file, 0, SEGMENT_BYTES as usize).iter().all(|byte| *byte == 0));
}

#[test]
fn a_removed_tree_gives_its_segments_up_to_the_limit() {
    let mut rig = Rig::with(|settings| settings.recycled_max = 2);
    for n in 0..4 {
        let file = rig.create(&format!("s/{n}"), SEGMENT_BYTES);
        rig.run(DiskOp::Close { file }).unwrap();
    }
    rig.run(DiskOp::RemoveTree { path: "s".into() }).unwrap();
    assert!(rig.comes_to(|disk| disk.figures(0).spare_segments == 2));
    assert!(rig.comes_to(|_| true));
    assert_eq!(std::fs::read_dir(rig.path(".pool/0")).unwrap().count(), 2);
}

#[test]
fn a_segment_is_filled_ahead_once_one_was_needed() {
    let mut rig = Rig::with(|settings| settings.spare_min = 1);
    rig.create("small", 4096);
    assert_eq!(rig.disk().figures(0).spare_segments, 0);
    rig.create("first", SEGMENT_BYTES);
    assert!(rig.comes_to(|disk| disk.figures(0).spare_segments == 1));
    let file = rig.create("second", SEGMENT_BYTES);
    assert!(rig.read(file, 0, SEGMENT_BYTES as usize).iter().all(|byte| *byte == 0));
}

#[test]
fn the_pool_survives_a_restart_and_leftovers_do_not() {
    let mut rig = Rig::new();
    let file = rig.create("1", SEGMENT_BYTES);
    let first = inode(&rig.path("1"));
    rig.run(DiskOp::Close { file }).unwrap();
    rig.run(remove("1", false)).unwrap();
    assert!(rig.comes_to(|disk| disk.figures(0).spare_segments == 1));
    let disk = rig.disk.take().unwrap();
    disk.finish(&mut rig.ring, LIMIT, |_| {}).unwrap();
    let pool = rig.path(".pool/0");
    std::fs::write(pool.join("00000000000000000007.new"), "half").unwrap();
    std::fs::write(pool.join("00000000000000000008.old"), "dirty").unwrap();
    std::fs::write(pool.join("00000000000000000009.free"), "wrong size").unwrap();
    std::fs::create_dir_all(pool.join("00000000000000000010.tree/x")).unwrap();
    std::fs::create_dir_all(rig.path(".pool/5")).unwrap();
    let holes = std::fs::File::create(pool.join("00000000000000000011.free")).unwrap();
    holes.set_len(SEGMENT_BYTES).unwrap();

    let dir = std::mem::replace(&mut rig.dir, tempfile::tempdir().unwrap());
    let mut rig = Rig::in_dir(dir, |_| {});
    assert_eq!(std::fs::read_dir(rig.path(".pool/0")).unwrap().count(), 1);
    assert!(!rig.path(".pool/5").exists());
    rig.create("2", SEGMENT_BYTES);
    assert_eq!(inode(&rig.path("2")), first);
}

#[test]
fn the_end_waits_for_what_is_under_way() {
    let mut rig = Rig::new();
    let file = rig.create("log", 1 << 20);
    for n in 0..100_u64 {
        rig.queue.push(commit(file, vec![extent(n * 4096, 4096, 6)], n % 2 == 0));
    }
    rig.queue.push(DiskOp::Replace { path: "meta".into(), bytes: vec![1] });
    rig.submit();
    let disk = rig.disk.take().unwrap();
    let done = disk.finish(&mut rig.ring, LIMIT, |_| {}).unwrap();
    assert_eq!(done.len(), 101);
    assert!(done.iter().all(|done| done.result.is_ok()));
    assert!(std::fs::read(rig.path("log")).unwrap()[..409_600].iter().all(|byte| *byte == 6));
}

fn faulty(text: &str) -> Rig {
    let faults = Faults::parse(text).unwrap();
    Rig::with(|settings| settings.faults = Some(faults))
}

#[test]
fn faults_fail_what_they_name_and_only_that() {
    let mut rig = faulty("write:2=eio,sync:2=eio,read:1=eio,create:2=enospc,rename:1=eio");
    let file = rig.create("log", 65536);
    rig.run(commit(file, vec![extent(0, 4096, 1)], true)).unwrap();
    assert_eq!(rig.run(commit(file, vec![extent(0, 4096, 2)], true)).unwrap_err(), EIO);
    // A write that failed has not reached the flush: the next one is the second.
    assert_eq!(rig.run(commit(file, vec![extent(0, 4096, 3)], true)).unwrap_err(), EIO);
    rig.run(commit(file, vec![extent(4096, 4096, 4)], true)).unwrap();
    let read = DiskOp::Read { file, offset: 0, len: 8192 };
    assert_eq!(rig.run(read).unwrap_err(), EIO);
    let bytes = rig.read(file, 0, 8192);
    assert_eq!((bytes[0], bytes[4096]), (3, 4));
    let full = rig.queue.name_file();
    let access = Access::Direct;
    let create = DiskOp::Create { file: full, path: "x".into(), len: 4096, access };
    assert_eq!(rig.run(create).unwrap_err(), DiskError::NoSpace);
    assert_eq!(rig.run(rename("log", "y")).unwrap_err(), EIO);
    rig.run(rename("log", "y")).unwrap();
    let figures = rig.disk().figures(0);
    assert_eq!((figures.errors, figures.no_space), (4, 1));
}

#[test]
fn a_hanging_operation_shows_its_age_and_ends_nothing_else() {
    let mut rig = faulty("write:1=hang,remove:1=hang");
    let (one, two) = (rig.create("1", 65536), rig.create("2", 65536));
    rig.queue.push(commit(one, vec![extent(0, 4096, 1)], true));
    rig.queue.push(commit(one, vec![extent(0, 4096, 1)], true));
    rig.submit();
    rig.run(commit(two, vec![extent(0, 4096, 1)], true)).unwrap();
    let figures = rig.disk().figures(5_000_000_000);
    assert_eq!((figures.in_flight, figures.oldest_ns), (2, 5_000_000_000));
    // The end does not wait longer than its limit.
    let start = Instant::now();
    let disk = rig.disk.take().unwrap();
    disk.finish(&mut rig.ring, Duration::from_millis(50), |_| {}).unwrap();
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn stalled_operations_go_on_when_the_file_is_gone() {
    let gates = tempfile::tempdir().unwrap();
    let gate = gates.path().join("gate");
    let rules = ["write@one", "sync@two", "read@one", "remove"].map(|rule| {
        let what = if rule == "sync@two" { "stall-eio" } else { "stall" };
        format!("{rule}:1={what}?{}", gate.display())
    });
    let mut rig = faulty(&rules.join(","));
    let (one, two, three) =
        (rig.create("one", 65536), rig.create("two", 65536), rig.create("three", 65536));
    std::fs::write(&gate, "").unwrap();
    let written = rig.queue.push(commit(one, vec![extent(0, 4096, 1)], true));
    let behind = rig.queue.push(commit(one, vec![extent(4096, 4096, 2)], true));
    let flushed = rig.queue.push(commit(two, vec![extent(0, 4096, 3)], true));
    let read = rig.queue.push(DiskOp::Read { file: one, offset: 0, len: 4096 });
    let removed = rig.queue.push(DiskOp::Remove { path: "three".into(), erase: false });
    // Behind what is stuck, and of another kind.
    let renamed = rig.queue.push(rename("two", "four"));
    rig.run(commit(three, vec![extent(0, 4096, 4)], true)).unwrap();
    let figures = rig.disk().figures(5_000_000_000);
    assert_eq!((figures.in_flight, figures.oldest_ns), (6, 5_000_000_000));
    assert_eq!(std::fs::read(rig.path("one")).unwrap()[0], 0);
    assert!(rig.path("three").exists() && rig.path("two").exists() && rig.done.is_empty());
    std::fs::remove_file(&gate).unwrap();
    for ticket in [written, behind, read, removed, renamed] {
        rig.wait(ticket).unwrap();
    }
    assert_eq!(rig.wait(flushed).unwrap_err(), EIO);
    assert_eq!(std::fs::read(rig.path("one")).unwrap()[4096], 2);
    // The write before the flush that failed was done.
    assert_eq!(std::fs::read(rig.path("four")).unwrap()[0], 3);
    assert!(!rig.path("three").exists() && rig.disk().is_idle());
}

#[test]
fn a_file_system_in_memory_serves_too() {
    // It takes or refuses direct access, depending on the kernel.
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    let mut rig = Rig::in_dir(dir, |_| {});
    let file = rig.create("a/log", 65536);
    rig.run(commit(file, vec![extent(4096, 4096, 3)], true)).unwrap();
    rig.run(commit(file, vec![extent(0, 4096, 2), extent(8192, 4096, 4)], true)).unwrap();
    let bytes = rig.read(file, 0, 65536);
    assert_eq!((bytes[0], bytes[4096], bytes[8192], bytes[12288]), (2, 3, 4, 0));
    let mode = rig.disk().mode();
    assert!(matches!(mode, DirectMode::Direct { .. } | DirectMode::Refused), "{mode:?}");
}
