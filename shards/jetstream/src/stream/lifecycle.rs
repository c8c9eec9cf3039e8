//! Changes of a stream's configuration, and its start from what was stored.

use store::Read;
use wire::api::config::StreamConfig;
use wire::headers;

use super::{Cx, Stream};

impl Stream {
    /// Takes a checked configuration on; stricter limits hold at once.
    pub fn handle_update(&mut self, config: StreamConfig, cx: &mut Cx<'_, '_>) {
        self.set_config(config);
        self.set_feeds(cx);
        self.age_cursor = 0;
        self.drop_batches();
        self.enforce_all_limits();
    }

    /// Learns the message ids of the duplicate window again, after a start: `flagged` are the
    /// sequences of stored messages that have one, ascending. Answers false if messages must
    /// come from the disk first: to be called again then, with the same sequences.
    pub fn handle_recovered(&mut self, flagged: &[u64], cx: &mut Cx<'_, '_>) -> bool {
        let oldest_ns = cx.ctx.unix_ns.saturating_sub(self.config.duplicate_window_ns);
        let last_seq = self.store.last_seq();
        for &seq in flagged {
            let is_last = seq == last_seq;
            let is_young = self.config.duplicate_window_ns > 0
                && self.store.time_of(seq).is_some_and(|stored_ns| stored_ns > oldest_ns);
            if seq <= self.recovered_to || !(is_last || is_young) {
                continue;
            }
            match self.store.get(seq, cx.cache, &mut cx.fx.disk) {
                Read::Pending => return false,
                Read::Message(message) => {
                    if let Some(id) =
                        headers::get(message.headers, b"Nats-Msg-Id").filter(|id| !id.is_empty())
                    {
                        if is_last {
                            self.last_msg_id = id.to_vec();
                        }
                        if is_young {
                            self.window.insert(id, seq, message.ts_ns);
                        }
                    }
                }
                Read::Missing | Read::Damaged | Read::Failed => {}
            }
            self.recovered_to = seq;
        }
        true
    }
}
