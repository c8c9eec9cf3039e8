//! The orders of `/connz`, and the shortlist that keeps the first rows of an order without
//! sorting everything.

use std::cmp::{Ordering, Reverse};

use super::snapshot::ConnFigures;

/// What `/connz` sorts by. Ties are always broken by the connection id, so that pages taken at
/// the same moment fit together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    /// Connection id, oldest first.
    #[default]
    Cid,
    /// Start time, oldest first.
    Start,
    /// Number of subscriptions, most first.
    Subs,
    /// Bytes waiting to be sent, most first.
    Pending,
    /// Messages to the client, most first.
    MsgsTo,
    /// Messages from the client, most first.
    MsgsFrom,
    /// Bytes to the client, most first.
    BytesTo,
    /// Bytes from the client, most first.
    BytesFrom,
    /// Last activity, newest first.
    Last,
    /// Idle time, longest first.
    Idle,
    /// Time connected, shortest first.
    Uptime,
    /// Time of closing, newest first.
    Stop,
    /// Reason of closing, by its text.
    Reason,
    /// Round trip time, longest first.
    Rtt,
}

impl SortKey {
    /// Every key.
    pub const ALL: [Self; 14] = [
        Self::Cid,
        Self::Start,
        Self::Subs,
        Self::Pending,
        Self::MsgsTo,
        Self::MsgsFrom,
        Self::BytesTo,
        Self::BytesFrom,
        Self::Last,
        Self::Idle,
        Self::Uptime,
        Self::Stop,
        Self::Reason,
        Self::Rtt,
    ];

    /// The name used in requests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cid => "cid",
            Self::Start => "start",
            Self::Subs => "subs",
            Self::Pending => "pending",
            Self::MsgsTo => "msgs_to",
            Self::MsgsFrom => "msgs_from",
            Self::BytesTo => "bytes_to",
            Self::BytesFrom => "bytes_from",
            Self::Last => "last",
            Self::Idle => "idle",
            Self::Uptime => "uptime",
            Self::Stop => "stop",
            Self::Reason => "reason",
            Self::Rtt => "rtt",
        }
    }

    /// The key of a name; the empty name is the default. Names are case sensitive.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::Cid);
        }
        Self::ALL.into_iter().find(|key| key.name().as_bytes() == name)
    }

    /// Whether the order exists only among closed connections.
    pub const fn needs_closed(self) -> bool {
        matches!(self, Self::Stop | Self::Reason)
    }

    /// Which of two connections comes first. `now_ns` is the wall clock of the request.
    pub fn compare(self, now_ns: u64, one: &ConnFigures, other: &ConnFigures) -> Ordering {
        let most = |figure: fn(&ConnFigures) -> u64| figure(other).cmp(&figure(one));
        let uptime =
            |conn: &ConnFigures| conn.stop_ns.unwrap_or(now_ns).saturating_sub(conn.start_ns);
        let order = match self {
            Self::Cid => Ordering::Equal,
            Self::Start => one.start_ns.cmp(&other.start_ns),
            Self::Subs => most(|conn| conn.subs),
            Self::Pending => most(|conn| conn.pending_bytes),
            Self::MsgsTo => most(|conn| conn.out_msgs),
            Self::MsgsFrom => most(|conn| conn.in_msgs),
            Self::BytesTo => most(|conn| conn.out_bytes),
            Self::BytesFrom => most(|conn| conn.in_bytes),
            Self::Last => most(|conn| conn.last_activity_ns),
            Self::Idle => one.last_activity_ns.cmp(&other.last_activity_ns),
            Self::Uptime => uptime(one).cmp(&uptime(other)),
            Self::Stop => Reverse(one.stop_ns).cmp(&Reverse(other.stop_ns)),
            Self::Reason => one.reason.cmp(other.reason),
            Self::Rtt => most(|conn| conn.rtt_ns),
        };
        order.then(one.cid.cmp(&other.cid))
    }
}

/// Keeps the first `rows_max` of all values offered, in any order of offering. Holds at most
/// twice that many; each offer costs amortised constant time.
#[derive(Debug)]
pub struct Shortlist<T> {
    sort: SortKey,
    now_ns: u64,
    rows_max: usize,
    rows: Vec<(ConnFigures, T)>,
}

impl<T> Shortlist<T> {
    /// An empty list for one request.
    pub fn new(sort: SortKey, now_ns: u64, rows_max: usize) -> Self {
        Self { sort, now_ns, rows_max, rows: Vec::new() }
    }

    /// Offers one connection; `value` is whatever finds it again.
    pub fn offer(&mut self, figures: ConnFigures, value: T) {
        if self.rows_max == 0 {
            return;
        }
        self.rows.push((figures, value));
        if self.rows.len() >= self.rows_max.saturating_mul(2) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.rows.len() <= self.rows_max {
            return;
        }
        let (sort, now_ns) = (self.sort, self.now_ns);
        self.rows.select_nth_unstable_by(self.rows_max, |one, other| {
            sort.compare(now_ns, &one.0, &other.0)
        });
        self.rows.truncate(self.rows_max);
    }

    /// The first rows, sorted.
    pub fn into_sorted(mut self) -> Vec<(ConnFigures, T)> {
        self.shrink();
        let (sort, now_ns) = (self.sort, self.now_ns);
        self.rows.sort_unstable_by(|one, other| sort.compare(now_ns, &one.0, &other.0));
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Small ranges, so that ties are common.
    fn figures() -> impl Strategy<Value = Vec<ConnFigures>> {
        let small = || 0_u64..6;
        let one = (small(), small(), prop::option::of(0_u64..12), small(), small(), small());
        prop::collection::vec(one, 0..60).prop_map(|rows| {
            let reasons = ["", "Client Closed", "Read Error", "Slow Consumer (Pending Bytes)"];
            rows.into_iter()
                .zip(1..)
                .map(|((start_ns, last_activity_ns, stop_ns, a, b, c), cid)| ConnFigures {
                    cid,
                    start_ns,
                    last_activity_ns,
                    stop_ns,
                    reason: reasons[usize::try_from(a % 4).unwrap()],
                    rtt_ns: b,
                    pending_bytes: c,
                    in_msgs: a,
                    out_msgs: b,
                    in_bytes: c,
                    out_bytes: a + b,
                    stalls: 0,
                    subs: b + c,
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_shortlist_is_the_head_of_the_sorted_list(
            rows in figures(),
            rows_max in 0_usize..70,
            key in 0_usize..14,
        ) {
            let sort = SortKey::ALL[key];
            let mut list = Shortlist::new(sort, 10, rows_max);
            for row in &rows {
                list.offer(*row, row.cid);
            }
            let kept: Vec<u64> = list.into_sorted().into_iter().map(|(_, cid)| cid).collect();
            let mut naive = rows;
            naive.sort_by(|one, other| sort.compare(10, one, other));
            let naive: Vec<u64> = naive.iter().take(rows_max).map(|row| row.cid).collect();
            prop_assert_eq!(kept, naive);
        }

        #[test]
        fn every_order_is_total(rows in figures(), key in 0_usize..14) {
            let sort = SortKey::ALL[key];
            for one in &rows {
                for other in &rows {
                    let order = sort.compare(10, one, other);
                    prop_assert_eq!(order, sort.compare(10, other, one).reverse());
                    prop_assert_eq!(order == Ordering::Equal, one.cid == other.cid);
                }
            }
        }
    }

    #[test]
    fn directions_are_those_of_nats_server() {
        let old = ConnFigures { cid: 1, start_ns: 1, last_activity_ns: 5, ..Default::default() };
        let new = ConnFigures {
            cid: 2,
            start_ns: 2,
            last_activity_ns: 9,
            rtt_ns: 1,
            pending_bytes: 1,
            in_msgs: 1,
            out_msgs: 1,
            in_bytes: 1,
            out_bytes: 1,
            subs: 1,
            ..Default::default()
        };
        let old_first = [SortKey::Cid, SortKey::Start, SortKey::Idle];
        for key in SortKey::ALL.into_iter().filter(|key| !key.needs_closed()) {
            let expected =
                if old_first.contains(&key) { Ordering::Less } else { Ordering::Greater };
            assert_eq!(key.compare(10, &old, &new), expected, "{key:?}");
        }
        let early = ConnFigures { cid: 1, stop_ns: Some(3), reason: "B", ..Default::default() };
        let late = ConnFigures { cid: 2, stop_ns: Some(4), reason: "A", ..Default::default() };
        assert_eq!(SortKey::Stop.compare(10, &early, &late), Ordering::Greater);
        assert_eq!(SortKey::Reason.compare(10, &early, &late), Ordering::Greater);
        assert_eq!(SortKey::Uptime.compare(10, &early, &late), Ordering::Less);
    }

    #[test]
    fn names_are_exact() {
        for key in SortKey::ALL {
            assert_eq!(SortKey::from_name(key.name().as_bytes()), Some(key));
        }
        assert_eq!(SortKey::from_name(b""), Some(SortKey::Cid));
        assert_eq!(SortKey::from_name(b"CID"), None);
        assert_eq!(SortKey::from_name(b"pending_bytes"), None);
    }
}
