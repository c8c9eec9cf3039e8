//! What a consumer's configuration means for its work, in the units the work is done in.

/// When a message counts as settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// At delivery.
    #[default]
    None,
    /// When it or a later one is acknowledged.
    All,
    /// When it is acknowledged.
    Explicit,
    /// When the receiver's answer to a flow control message names it or a later one (ADR-60).
    FlowControl,
}

/// Who of several groups of clients is served first (ADR-42).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Everybody alike.
    #[default]
    None,
    /// Requests state from which backlog on they want anything.
    Overflow,
    /// One client gets everything until it is gone.
    Pinned,
    /// Requests with a lower number first.
    Prioritized,
}

/// See the module. Durations are ns.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// When messages count as settled.
    pub ack: Ack,
    /// Time until a message is delivered again.
    pub ack_wait_ns: u64,
    /// The same for the first, second, ... delivery; the last one stays.
    pub backoff_ns: Box<[u64]>,
    /// Most deliveries of a message; 0 is without limit.
    pub deliver_max: u32,
    /// Most unsettled messages; 0 is without limit.
    pub ack_pending_max: usize,
    /// Headers and size instead of payloads.
    pub headers_only: bool,
    /// Messages come with the pauses they were published with.
    pub original_pace: bool,
    /// One settled message in so many percent is reported; 0 is none.
    pub sample_percent: u32,
    /// Without clients for so long the consumer goes; 0 is never.
    pub inactive_ns: u64,
    /// Pull: most requests that wait.
    pub waiting_max: usize,
    /// Pull: most messages a request may ask for; 0 is without limit.
    pub batch_max: u32,
    /// Pull: longest time a request may wait; 0 is without limit.
    pub expires_max_ns: u64,
    /// Pull: most bytes a request may ask for; 0 is without limit.
    pub request_bytes_max: usize,
    /// Pull: groups that requests name.
    pub groups: Box<[Box<str>]>,
    /// Pull: who is served first.
    pub priority: Priority,
    /// Pull: a pinned client without request for so long is no longer pinned.
    pub pinned_ns: u64,
    /// Push: where messages go; empty for pull.
    pub deliver_subject: Box<[u8]>,
    /// Push: idle time after which a heartbeat is sent; 0 is never.
    pub heartbeat_ns: u64,
    /// Push: the receiver confirms what it has got.
    pub flow_control: bool,
    /// Push: bytes a second; 0 is without limit.
    pub rate_bytes: u64,
    /// What has had all its deliveries, or is given up, is stored to this subject.
    pub dead_letter: Option<Box<[u8]>>,
    /// The state is not kept over restarts.
    pub in_memory: bool,
}

impl Settings {
    /// Messages go to a subject of the consumer's own.
    #[must_use]
    pub fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// Deliveries wait for an acknowledgement.
    #[must_use]
    pub fn tracks(&self) -> bool {
        self.ack != Ack::None
    }

    /// Time after which the `count`th delivery of a message is followed by another, ns.
    #[must_use]
    pub fn wait_ns(&self, count: u32) -> u64 {
        let at = (count.max(1) as usize - 1).min(self.backoff_ns.len().saturating_sub(1));
        self.backoff_ns.get(at).copied().unwrap_or(self.ack_wait_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_of_a_backoff_stays() {
        let mut settings = Settings { ack_wait_ns: 7, ..Settings::default() };
        assert_eq!(settings.wait_ns(4), 7);
        settings.backoff_ns = [1, 2, 3].into();
        let waits: Vec<u64> = (0..6).map(|count| settings.wait_ns(count)).collect();
        assert_eq!(waits, [1, 1, 2, 3, 3, 3]);
    }
}
