//! Lines for the log about one connection: its label, violations, and the protocol trace.

use wire::client::op::Op;

use crate::broker::Broker;
use crate::effect::{Effects, Level};

/// Fields of CONNECT whose values never appear in a log.
const SECRET_FIELDS: [&str; 6] = ["pass", "auth_token", "jwt", "sig", "nkey", "proxy_sig"];

impl Broker {
    /// `ip:port - cid:n - "v1:lang:name" - "account/user"`, as nats-server labels a client.
    fn label(&self, slot: u32) -> String {
        let Some(conn) = self.conns.get(slot as usize) else { return String::new() };
        let ip = conn.ip.to_canonical();
        let mut label = match ip {
            std::net::IpAddr::V4(ip) => format!("{ip}:{} - cid:{}", conn.port, conn.cid),
            std::net::IpAddr::V6(ip) => format!("[{ip}]:{} - cid:{}", conn.port, conn.cid),
        };
        let described = &conn.described;
        if !described.lang.is_empty() || !described.version.is_empty() {
            label.push_str(&format!(" - \"v{}", described.version));
            for part in [&described.lang, &described.name] {
                if !part.is_empty() {
                    label.push(':');
                    label.push_str(part);
                }
            }
            label.push('"');
        }
        if let Some(account) = self.accounts.get(conn.account as usize)
            && !described.user.is_empty()
        {
            label.push_str(&format!(" - \"{}/{}\"", account.name, described.user));
        }
        label
    }

    /// A line about a connection, when its level is wanted.
    pub(crate) fn log_conn(&self, slot: u32, level: Level, text: &str, fx: &mut Effects) {
        let wanted = match level {
            Level::Trace => fx.trace,
            Level::Debug => fx.debug,
            Level::Error | Level::Warn | Level::Info => true,
        };
        if wanted {
            let line = format!("{} - {text}", self.label(slot));
            fx.log(level, line);
        }
    }

    pub(crate) fn log_violation(&self, slot: u32, what: &str, subject: &[u8], fx: &mut Effects) {
        let subject = String::from_utf8_lossy(subject);
        let text = format!("{what} Violation - Subject \"{subject}\"");
        self.log_conn(slot, Level::Error, &text, fx);
    }

    pub(crate) fn trace_in(&self, slot: u32, op: &Op<'_>, fx: &mut Effects) {
        let show = String::from_utf8_lossy;
        let text = match *op {
            Op::Connect { json } => format!("CONNECT {}", redact(json)),
            Op::Ping => "PING".to_owned(),
            Op::Pong => "PONG".to_owned(),
            Op::Sub { subject, queue, sid } => {
                let queue = queue.map(|q| format!(" {}", show(q))).unwrap_or_default();
                format!("SUB {}{queue} {}", show(subject), show(sid))
            }
            Op::Unsub { sid, max } => {
                let max = max.map(|max| format!(" {max}")).unwrap_or_default();
                format!("UNSUB {}{max}", show(sid))
            }
            Op::Ok => "+OK".to_owned(),
            Op::Err => "-ERR".to_owned(),
            Op::Info => "INFO".to_owned(),
            Op::Pub { .. } => return,
        };
        self.log_conn(slot, Level::Trace, &format!("<<- [{text}]"), fx);
    }

    /// A line of protocol that leaves, without its line end.
    pub(crate) fn trace_out(&self, slot: u32, bytes: &[u8], fx: &mut Effects) {
        let text = String::from_utf8_lossy(bytes.trim_ascii_end());
        self.log_conn(slot, Level::Trace, &format!("->> [{text}]"), fx);
    }

    /// The messages that have just been put into outboxes.
    #[cold]
    pub(crate) fn trace_deliveries(&self, fx: &mut Effects) {
        for (slot, line) in std::mem::take(&mut fx.traced) {
            self.trace_out(slot, &line, fx);
        }
    }

    pub(crate) fn trace_publish(
        &self,
        slot: u32,
        subject: &[u8],
        reply: Option<&[u8]>,
        header_len: usize,
        body: &[u8],
        fx: &mut Effects,
    ) {
        let show = String::from_utf8_lossy;
        let reply = reply.map(|reply| format!(" {}", show(reply))).unwrap_or_default();
        let total = body.len().saturating_sub(2);
        let (verb, sizes) = match header_len {
            0 => ("PUB", total.to_string()),
            len => ("HPUB", format!("{len} {total}")),
        };
        let line = format!("<<- [{verb} {}{reply} {sizes}]", show(subject));
        self.log_conn(slot, Level::Trace, &line, fx);
        let payload = body.get(header_len..total).unwrap_or_default();
        let line = format!("<<- MSG_PAYLOAD: [{:?}]", show(payload));
        self.log_conn(slot, Level::Trace, &line, fx);
    }
}

/// CONNECT's JSON with every secret replaced.
fn redact(json: &[u8]) -> String {
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(json) else {
        return "[not JSON]".to_owned();
    };
    if let Some(fields) = value.as_object_mut() {
        for (name, value) in fields.iter_mut() {
            if SECRET_FIELDS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
                *value = serde_json::Value::from("[REDACTED]");
            }
        }
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn secrets_do_not_reach_the_log() {
        let text = super::redact(br#"{"user":"a","PASS":"hidden","jwt":"hidden","x":1}"#);
        assert!(!text.contains("hidden"), "{text}");
        assert!(text.contains("\"user\":\"a\""));
    }
}
