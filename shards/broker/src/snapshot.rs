//! What this shard shows of itself to monitoring: plain copies, made only when asked.

use crate::account::Account;
use crate::broker::Broker;
use crate::clock::Now;
use crate::conn::{Conn, Sub};
use crate::monitor::{
    AccountSnapshot, ClientType, ConnFigures, ConnKind, ConnLook, ConnSnapshot, GatherNeeds,
    IndexStats, KindCounts, PeerCert, PeerQueue, ShardSnapshot, SubSnapshot, SubsDetail,
    TlsSnapshot, Traffic,
};

impl Broker {
    /// The figures that a monitoring request needs. The driver adds what it knows of turns.
    #[must_use]
    pub fn snapshot(&self, needs: &GatherNeeds, now: Now) -> ShardSnapshot {
        let stats = &self.stats;
        let traffic = Traffic {
            in_msgs: stats.in_msgs,
            in_bytes: stats.in_bytes,
            out_msgs: stats.out_msgs,
            out_bytes: stats.out_bytes,
        };
        let clients = |clients| KindCounts { clients, ..KindCounts::default() };
        let mut snapshot = ShardSnapshot {
            shard: self.mesh.me(),
            traffic,
            client_traffic: traffic,
            slow_consumers: clients(stats.slow_pending + stats.slow_deadline),
            slow_by_pending_bytes: stats.slow_pending,
            slow_by_write_deadline: stats.slow_deadline,
            stale: clients(stats.stale),
            stalls: stats.stalls,
            total_connections: stats.total_connections,
            connections: self.conns.len() as u64,
            subscriptions: self.subs.len() as u64,
            index: self.index_stats(),
            peers: self.peer_queues(),
            ..ShardSnapshot::default()
        };
        if needs.accounts {
            snapshot.accounts = self.accounts.iter().map(account_snapshot).collect();
        }
        self.snapshot_conns(needs, &mut snapshot, now);
        self.snapshot_subs(needs, &mut snapshot);
        snapshot
    }

    fn index_stats(&self) -> IndexStats {
        let mut sum = IndexStats::default();
        for account in &self.accounts {
            sum.add(&account_index(account));
        }
        sum.cache_entries = self.plans.len() as u64;
        sum.matches = self.plans.hits + self.plans.misses;
        sum.cache_hits = self.plans.hits;
        for fanout in self.plans.fanouts() {
            sum.fanout_max = sum.fanout_max.max(fanout);
            sum.fanout_sum += fanout;
        }
        sum
    }

    fn peer_queues(&self) -> Vec<PeerQueue> {
        let queue = |peer| {
            let (bytes, batches) = self.mesh.depth(peer);
            PeerQueue {
                peer,
                msgs: self.mesh.waiting_messages(peer),
                bytes: bytes as u64,
                batches: batches as u64,
            }
        };
        self.mesh.peer_ids().map(queue).collect()
    }

    fn snapshot_conns(&self, needs: &GatherNeeds, snapshot: &mut ShardSnapshot, now: Now) {
        if let Some(need) = &needs.conns {
            let slots = self.conns.iter().map(|(slot, _)| slot as u32);
            let (total, picked) = need.pick(slots, |slot| self.look(slot));
            snapshot.conns_total = total;
            snapshot.conns = picked
                .into_iter()
                .filter_map(|slot| self.conn_snapshot(slot, &need.subs, now))
                .collect();
        }
        if let Some(need) = &needs.closed {
            let (total, picked) = need.pick(self.closed.iter(), |conn| ConnLook {
                figures: conn.figures,
                account: conn.account.as_deref(),
                user: &conn.user,
                mqtt_client: &conn.mqtt_client,
            });
            snapshot.closed_total = total;
            snapshot.closed = picked.into_iter().cloned().collect();
        }
    }

    fn look(&self, slot: u32) -> ConnLook<'_> {
        let Some(conn) = self.conns.get(slot as usize) else { return ConnLook::default() };
        ConnLook {
            figures: figures(conn),
            account: self.accounts.get(conn.account as usize).map(|a| a.name.as_str()),
            user: &conn.described.user,
            mqtt_client: "",
        }
    }

    fn snapshot_subs(&self, needs: &GatherNeeds, snapshot: &mut ShardSnapshot) {
        let Some(need) = &needs.subs else { return };
        for (_, sub) in &self.subs {
            let subject = String::from_utf8_lossy(&sub.subject);
            let account = self.accounts.get(sub.account as usize).map_or("", |a| &a.name);
            if need.wants(account, &subject) {
                snapshot.subs_total += 1;
                if snapshot.subs.len() < need.rows_max {
                    snapshot.subs.push(self.sub_snapshot(sub));
                }
            }
        }
    }

    fn sub_snapshot(&self, sub: &Sub) -> SubSnapshot {
        let conn = self.conns.get(sub.conn as usize);
        let mut sid = Vec::new();
        if let Some(conn) = conn {
            conn.push_sid(sub.sid, &mut sid);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        SubSnapshot {
            account: self
                .accounts
                .get(sub.account as usize)
                .map_or_else(String::new, |a| a.name.clone()),
            subject: text(&sub.subject),
            queue: text(sub.queue.as_deref().unwrap_or_default()),
            sid: text(&sid),
            msgs: sub.delivered,
            max: sub.max,
            cid: conn.map_or(0, |conn| conn.cid),
        }
    }

    /// One connection as `/connz` shows it.
    pub(crate) fn conn_snapshot(
        &self,
        slot: u32,
        subs: &SubsDetail,
        _now: Now,
    ) -> Option<ConnSnapshot> {
        let conn = self.conns.get(slot as usize)?;
        let described = &conn.described;
        let failed = conn.phase == crate::conn::Phase::Closing && conn.refused_login;
        let account = self.accounts.get(conn.account as usize).map(|a| a.name.clone());
        let listed = if matches!(subs, SubsDetail::None) {
            Vec::new()
        } else {
            let ids = conn.subs.values().filter_map(|id| self.subs.get(*id as usize));
            ids.map(|sub| self.sub_snapshot(sub)).collect()
        };
        Some(ConnSnapshot {
            figures: figures(conn),
            kind: ConnKind::Client,
            client_type: ClientType::Nats,
            ip: conn.ip.to_canonical().to_string(),
            port: conn.port,
            name: described.name.clone(),
            lang: described.lang.clone(),
            version: described.version.clone(),
            tls: tls_snapshot(conn),
            user: described.user.clone(),
            account: if failed { None } else { account },
            subs: listed,
            ..ConnSnapshot::default()
        })
    }
}

fn figures(conn: &Conn) -> ConnFigures {
    ConnFigures {
        cid: conn.cid,
        start_ns: conn.start_wall_ns.max(0) as u64,
        last_activity_ns: conn.last_activity_wall_ns.max(0) as u64,
        stop_ns: None,
        reason: "",
        rtt_ns: conn.rtt_ns,
        pending_bytes: conn.outbox.pending_bytes() as u64,
        in_msgs: conn.traffic.in_msgs,
        out_msgs: conn.traffic.out_msgs,
        in_bytes: conn.traffic.in_bytes,
        out_bytes: conn.traffic.out_bytes,
        stalls: conn.traffic.stalls,
        subs: conn.subs.len() as u64,
    }
}

fn tls_snapshot(conn: &Conn) -> Option<TlsSnapshot> {
    let described = &conn.described;
    if described.tls_version.is_empty() {
        return None;
    }
    let cert = |cert: &[String; 3]| PeerCert {
        subject: cert[0].clone(),
        spki_sha256: cert[1].clone(),
        cert_sha256: cert[2].clone(),
    };
    Some(TlsSnapshot {
        version: described.tls_version,
        cipher_suite: described.tls_cipher.clone(),
        peer_certs: described.tls_peer_certs.iter().map(cert).collect(),
        first: described.tls_first,
    })
}

fn account_index(account: &Account) -> IndexStats {
    let stats = account.index.stats();
    IndexStats {
        subs: account.subscriptions as u64,
        inserts: stats.inserts,
        removes: stats.removes,
        matches: stats.matches,
        ..IndexStats::default()
    }
}

fn account_snapshot(account: &Account) -> AccountSnapshot {
    AccountSnapshot {
        name: account.name.clone(),
        connections: account.connections as u64,
        leafnodes: 0,
        index: account_index(account),
        traffic: Traffic {
            in_msgs: account.traffic.in_msgs,
            in_bytes: account.traffic.in_bytes,
            out_msgs: account.traffic.out_msgs,
            out_bytes: account.traffic.out_bytes,
        },
        slow_consumers: account.traffic.slow_consumers,
    }
}
