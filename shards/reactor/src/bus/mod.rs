//! temp
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[derive(Clone, Debug)]
pub struct Waker { asleep: Arc<AtomicBool>, fd: Arc<OwnedFd> }
impl Waker { pub fn wake(&self) { if self.asleep.swap(false, Ordering::SeqCst) { let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes()); } } }
#[derive(Debug)]
pub struct Sleeper { asleep: Arc<AtomicBool> }
impl Sleeper { pub fn prepare(&self) { self.asleep.store(true, Ordering::SeqCst); } pub fn rise(&self) { self.asleep.store(false, Ordering::SeqCst); } }
pub fn sleeper(fd: OwnedFd) -> (Sleeper, Waker) { let asleep = Arc::new(AtomicBool::new(false)); (Sleeper { asleep: Arc::clone(&asleep) }, Waker { asleep, fd: Arc::new(fd) }) }
#[derive(Debug)]
pub struct BusEnd<T> { out: Vec<Option<Sender<T>>>, inn: Vec<Option<Receiver<T>>>, wakers: Vec<Waker>, next: usize }
pub fn bus<T>(wakers: &[Waker], capacity: usize) -> Vec<BusEnd<T>> {
  let n = wakers.len();
  let mut ends: Vec<BusEnd<T>> = (0..n).map(|_| BusEnd { out: (0..n).map(|_| None).collect(), inn: (0..n).map(|_| None).collect(), wakers: wakers.to_vec(), next: 0 }).collect();
  for a in 0..n { for b in 0..n { if a != b { let (s, r) = bounded(capacity); ends[a].out[b] = Some(s); ends[b].inn[a] = Some(r); } } }
  ends
}
impl<T> BusEnd<T> {
  pub fn try_send(&self, to: usize, v: T) -> Result<(), T> { match self.out.get(to).and_then(Option::as_ref) { Some(s) => s.try_send(v).map_err(|e| match e { TrySendError::Full(v) | TrySendError::Disconnected(v) => v }), None => Err(v) } }
  pub fn try_recv(&mut self) -> Option<(usize, T)> { let n = self.inn.len(); for _ in 0..n { let at = self.next; self.next = (self.next + 1) % n; if let Some(Some(r)) = self.inn.get(at) && let Ok(v) = r.try_recv() { return Some((at, v)); } } None }
  pub fn is_empty(&self) -> bool { self.inn.iter().flatten().all(Receiver::is_empty) }
  pub fn wake(&self, to: usize) { if let Some(w) = self.wakers.get(to) { w.wake(); } }
}
