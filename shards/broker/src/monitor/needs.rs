//! What shards have to send for a request, so that none sends more than the reply can use, and
//! the filters they apply.

use wire::subject::matches;

use super::jetstream::JetStreamNeed;
use super::request::{ConnState, ConnzOptions, MonitorRequest, Page, SubsDetail, SubszOptions};
use super::settings::PAGE_REACH_MAX;
use super::snapshot::ConnFigures;
use super::sort::{Shortlist, SortKey};

/// The parts of a [`ShardSnapshot`](super::ShardSnapshot) beyond the plain counters that a
/// request needs. It travels to every shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatherNeeds {
    /// Figures for each account.
    pub accounts: bool,
    /// Rows of open connections.
    pub conns: Option<ConnsNeed>,
    /// Rows of closed connections.
    pub closed: Option<ConnsNeed>,
    /// Rows of subscriptions.
    pub subs: Option<SubsNeed>,
    /// Figures of JetStream.
    pub jetstream: Option<JetStreamNeed>,
}

/// Which connections are wanted, and how many of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnsNeed {
    /// The wall clock of the request; uptimes are compared as of it.
    pub now_ns: u64,
    /// Which come first.
    pub sort: SortKey,
    /// Most rows a shard sends. With the first so many of every shard, the page is exact.
    pub rows_max: usize,
    /// Whether rows carry their subscriptions.
    pub subs: SubsDetail,
    /// Only this account. The only filter that also applies to the totals.
    pub account: Option<String>,
    /// Only this connection.
    pub cid: Option<u64>,
    /// Only this user.
    pub user: Option<String>,
    /// Only this MQTT client id.
    pub mqtt_client: Option<String>,
}

/// Which subscriptions are wanted, and how many of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubsNeed {
    /// Most rows a shard sends.
    pub rows_max: usize,
    /// Only this account.
    pub account: Option<String>,
    /// Only those that a message on this subject would reach.
    pub test: Option<String>,
}

impl MonitorRequest {
    /// What the shards have to send. `now_ns` is the wall clock, to be used for
    /// [`ServerFacts::now_ns`](super::ServerFacts::now_ns) too.
    pub fn needs(&self, now_ns: u64) -> GatherNeeds {
        let jetstream = JetStreamNeed::of(self);
        GatherNeeds { jetstream, ..self.core_needs(now_ns) }
    }

    fn core_needs(&self, now_ns: u64) -> GatherNeeds {
        match self {
            Self::Connz(options) => {
                let need = ConnsNeed::new(options, now_ns);
                let open = options.state != ConnState::Closed;
                let closed = options.state != ConnState::Open;
                GatherNeeds {
                    conns: open.then(|| need.clone()),
                    closed: closed.then_some(need),
                    ..GatherNeeds::default()
                }
            }
            Self::Subsz(options) => GatherNeeds {
                // The index figures of one account are among its account figures.
                accounts: options.account.is_some(),
                subs: options.subs.then(|| SubsNeed::new(options)),
                ..GatherNeeds::default()
            },
            Self::Accountz(Some(_)) | Self::Accstatz(_) | Self::Metrics => {
                GatherNeeds { accounts: true, ..GatherNeeds::default() }
            }
            _ => GatherNeeds::default(),
        }
    }
}

/// The rows a shard must send so that any page up to here can be cut from the merged list.
fn rows_max(page: Page) -> usize {
    let reach = page.skip().saturating_add(page.take());
    // A page that begins beyond the reach shows nothing, so nothing is sent for it.
    if page.skip() >= PAGE_REACH_MAX { 0 } else { reach.min(PAGE_REACH_MAX) }
}

impl ConnsNeed {
    fn new(options: &ConnzOptions, now_ns: u64) -> Self {
        Self {
            now_ns,
            sort: options.sort,
            rows_max: rows_max(options.page),
            subs: options.subs,
            account: options.account.clone(),
            cid: options.cid,
            user: options.user.clone(),
            mqtt_client: options.mqtt_client.clone(),
        }
    }

    /// Whether a connection counts in the total.
    pub fn counts(&self, account: Option<&str>) -> bool {
        self.account.as_deref().is_none_or(|wanted| account == Some(wanted))
    }

    /// Whether a connection that counts is among the rows.
    pub fn lists(&self, cid: u64, user: &str, mqtt_client: &str) -> bool {
        self.cid.is_none_or(|wanted| wanted == cid)
            && self.user.as_deref().is_none_or(|wanted| wanted == user)
            && self.mqtt_client.as_deref().is_none_or(|wanted| wanted == mqtt_client)
    }

    /// An empty shortlist for the rows.
    pub fn shortlist<T>(&self) -> Shortlist<T> {
        Shortlist::new(self.sort, self.now_ns, self.rows_max)
    }

    /// Picks the rows to send from all connections of a shard, and counts those for the total.
    /// `look` gives what the filters need; full rows are then made only for what is returned,
    /// in order.
    pub fn pick<'a, C: Copy>(
        &self,
        conns: impl Iterator<Item = C>,
        mut look: impl FnMut(C) -> ConnLook<'a>,
    ) -> (u64, Vec<C>) {
        let mut total = 0;
        let mut list = self.shortlist();
        for conn in conns {
            let seen = look(conn);
            if !self.counts(seen.account) {
                continue;
            }
            total += 1;
            if self.lists(seen.figures.cid, seen.user, seen.mqtt_client) {
                list.offer(seen.figures, conn);
            }
        }
        (total, list.into_sorted().into_iter().map(|(_, conn)| conn).collect())
    }
}

/// What the filters look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnLook<'a> {
    /// The numbers.
    pub figures: ConnFigures,
    /// The account, as in [`ConnSnapshot::account`](super::ConnSnapshot::account).
    pub account: Option<&'a str>,
    /// The user, as in [`ConnSnapshot::user`](super::ConnSnapshot::user).
    pub user: &'a str,
    /// The MQTT client id; empty for none.
    pub mqtt_client: &'a str,
}

impl SubsNeed {
    fn new(options: &SubszOptions) -> Self {
        Self {
            rows_max: rows_max(options.page),
            account: options.account.clone(),
            test: options.test.clone(),
        }
    }

    /// Whether a subscription is wanted.
    pub fn wants(&self, account: &str, subject: &str) -> bool {
        self.account.as_deref().is_none_or(|wanted| wanted == account)
            && self.test.as_deref().is_none_or(|test| matches(subject.as_bytes(), test.as_bytes()))
    }

    /// Picks the rows to send from all subscriptions of a shard, in the order given, and counts
    /// those that are wanted. `look` gives account and subject.
    pub fn pick<'a, S: Copy>(
        &self,
        subs: impl Iterator<Item = S>,
        mut look: impl FnMut(S) -> (&'a str, &'a str),
    ) -> (u64, Vec<S>) {
        let mut total = 0;
        let mut rows = Vec::new();
        for sub in subs {
            let (account, subject) = look(sub);
            if self.wants(account, subject) {
                total += 1;
                if rows.len() < self.rows_max {
                    rows.push(sub);
                }
            }
        }
        (total, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(options: ConnzOptions) -> GatherNeeds {
        MonitorRequest::Connz(options).needs(7)
    }

    #[test]
    fn only_what_the_state_shows_is_asked_for() {
        for (state, open, closed) in [
            (ConnState::Open, true, false),
            (ConnState::Closed, false, true),
            (ConnState::All, true, true),
        ] {
            let needs = needs(ConnzOptions { state, ..Default::default() });
            assert_eq!((needs.conns.is_some(), needs.closed.is_some()), (open, closed));
            assert!(needs.subs.is_none() && !needs.accounts);
        }
        assert_eq!(MonitorRequest::Routez.needs(1), GatherNeeds::default());
        assert!(MonitorRequest::Metrics.needs(1).accounts);
    }

    #[test]
    fn rows_are_bounded_at_the_extremes() {
        let rows = |offset, limit| {
            let page = Page { offset, limit };
            needs(ConnzOptions { page, ..Default::default() }).conns.unwrap().rows_max
        };
        assert_eq!(rows(0, 1024), 1024);
        assert_eq!(rows(100, 5), 105);
        assert_eq!(rows(i64::MAX, 65_536), 0);
        assert_eq!(rows(1_048_570, 65_536), PAGE_REACH_MAX);
        assert_eq!(rows(1_048_576, 1), 0);
    }

    #[test]
    fn filters_count_and_list() {
        let need = ConnsNeed {
            account: Some("A".into()),
            user: Some("u".into()),
            rows_max: 10,
            ..Default::default()
        };
        let rows = [(1, Some("A"), "u"), (2, Some("A"), "v"), (3, Some("B"), "u"), (4, None, "u")];
        let (total, picked) = need.pick(0..rows.len(), |at| {
            let (cid, account, user) = rows[at];
            let figures = ConnFigures { cid, ..Default::default() };
            ConnLook { figures, account, user, mqtt_client: "" }
        });
        assert_eq!((total, picked), (2, vec![0]));
    }

    #[test]
    fn subscriptions_are_wanted_by_account_and_test_subject() {
        let need = SubsNeed { account: Some("A".into()), test: Some("x.a".into()), rows_max: 1 };
        assert!(need.wants("A", "x.>") && need.wants("A", "*.a") && need.wants("A", ">"));
        assert!(!need.wants("B", "x.>") && !need.wants("A", "x") && !need.wants("A", "x.b"));
        assert!(SubsNeed::default().wants("any", "x.*"));
        let subs = [("A", "x.>"), ("A", "y"), ("B", "x.a"), ("A", "*.*")];
        assert_eq!(need.pick(0..subs.len(), |at| subs[at]), (2, vec![0]));
    }
}
