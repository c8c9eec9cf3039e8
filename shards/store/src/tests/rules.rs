//! Figures of a stream as nats-server 2.15.1 reports them, step by step.

use crate::{AppendError, MemoryOptions, NewMessage, State, Store};

fn publish(store: &mut Store, subject: &[u8], headers: &[u8], ts_ns: i64) -> u64 {
    let message =
        NewMessage { subject, headers, payload: b"12345", ts_ns, ..NewMessage::default() };
    store.append(&message).unwrap()
}

fn figures(state: &State) -> (u64, u64, u64, u64, Option<i64>, Option<i64>) {
    let s = state;
    (s.messages, s.bytes, s.first_seq, s.last_seq, s.first_ts_ns, s.last_ts_ns)
}

/// Recorded from nats-server: publish, delete the last and the first, purge below a number, purge
/// all, delete the only message, purge beyond the end, purge by filter, keep one.
#[test]
fn figures_follow_every_step() {
    let mut store = Store::memory(MemoryOptions::default());
    assert_eq!(figures(&store.state()), (0, 0, 0, 0, None, None));
    for ts in 1..=5 {
        publish(&mut store, b"M.a", b"", ts);
    }
    publish(&mut store, b"M.b", b"NATS/1.0\r\nA: b\r\n\r\n", 6);
    assert_eq!(figures(&store.state()), (6, 162, 1, 6, Some(1), Some(6)));
    assert_eq!(store.state().subjects, 2);
    store.remove(6, false);
    assert_eq!(figures(&store.state()), (5, 120, 1, 6, Some(1), Some(6)));
    assert_eq!(store.state().deleted, 1);
    store.remove(1, false);
    assert_eq!(figures(&store.state()), (4, 96, 2, 6, Some(2), Some(6)));
    assert_eq!(store.purge(None, Some(3), 0), 1);
    assert_eq!(figures(&store.state()), (3, 72, 3, 6, Some(3), Some(6)));
    assert_eq!(store.purge(None, None, 0), 3);
    assert_eq!(figures(&store.state()), (0, 0, 7, 6, None, Some(6)));
    assert_eq!(publish(&mut store, b"M.a", b"", 7), 7);
    store.remove(7, false);
    assert_eq!(figures(&store.state()), (0, 0, 8, 7, None, Some(7)));
    publish(&mut store, b"M.a", b"", 8);
    publish(&mut store, b"M.a", b"", 9);
    assert_eq!(store.purge(None, Some(1007), 0), 2);
    assert_eq!(figures(&store.state()), (0, 0, 1007, 1006, None, Some(9)));
    publish(&mut store, b"M.a", b"", 10);
    publish(&mut store, b"M.b", b"", 11);
    publish(&mut store, b"M.b", b"", 12);
    assert_eq!(store.purge(Some(b"M.a"), None, 0), 1);
    assert_eq!(figures(&store.state()), (2, 48, 1008, 1009, Some(11), Some(12)));
    assert_eq!(store.purge(Some(b"M.b"), None, 1), 1);
    assert_eq!(figures(&store.state()), (1, 24, 1009, 1009, Some(12), Some(12)));
    publish(&mut store, b"M.b", b"", 13);
    publish(&mut store, b"M.c", b"", 14);
    assert_eq!(store.purge(None, None, 1), 2);
    assert_eq!(figures(&store.state()), (1, 24, 1011, 1011, Some(14), Some(14)));
}

#[test]
fn the_first_number_can_be_chosen() {
    let mut store = Store::memory(MemoryOptions { seed: 0, first_seq: 100 });
    assert_eq!(figures(&store.state()), (0, 0, 100, 99, None, None));
    assert_eq!(publish(&mut store, b"a", b"", 1), 100);
}

#[test]
fn numbers_only_rise() {
    let mut store = Store::memory(MemoryOptions::default());
    let message = NewMessage { subject: b"a", ..NewMessage::default() };
    assert_eq!(store.append_at(5, &message), Ok(()));
    assert_eq!(store.append_at(5, &message), Err(AppendError::Sequence));
    assert_eq!(store.append_at(u64::MAX, &message), Err(AppendError::Sequence));
    let long = vec![b'a'; 1 << 16];
    let message = NewMessage { subject: &long, ..NewMessage::default() };
    assert_eq!(store.append(&message), Err(AppendError::SubjectTooLong));
    assert_eq!(store.state().last_seq, 5);
}

/// Recorded from nats-server: a purge that keeps three counts messages, not numbers; a purge of
/// an empty stream makes it begin with 1.
#[test]
fn what_a_purge_keeps_is_counted() {
    let mut store = Store::memory(MemoryOptions::default());
    assert_eq!(store.purge(None, None, 0), 0);
    assert_eq!(figures(&store.state()), (0, 0, 1, 0, None, None));
    for ts in 1..=10 {
        publish(&mut store, b"M.a", b"", ts);
    }
    for seq in [9, 7, 6] {
        store.remove(seq, false);
    }
    assert_eq!(store.purge(None, None, 3), 4);
    assert_eq!(figures(&store.state()), (3, 72, 5, 10, Some(5), Some(10)));
    assert_eq!(store.purge(None, None, 3), 0);
    assert_eq!(store.purge(None, None, 4), 0);
}
