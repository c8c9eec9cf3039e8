//! The pull requests that wait for messages, in the order in which they are served.

use std::collections::VecDeque;

/// A pull request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where its messages go.
    pub reply: Box<[u8]>,
    /// Messages it still wants.
    pub left: u32,
    /// Messages it has got.
    pub delivered: u32,
    /// Bytes it still takes; `None` is without limit.
    pub bytes_left: Option<usize>,
    /// When it ends, monotonic ns; 0 is never.
    pub expires_ns: u64,
    /// It ends when there is nothing more at once.
    pub no_wait: bool,
    /// Idle time after which it gets a heartbeat, ns; 0 is never.
    pub heartbeat_ns: u64,
    /// When the next heartbeat is due, monotonic ns.
    pub heartbeat_at_ns: u64,
    /// When it came, monotonic ns.
    pub received_ns: u64,
    /// When its client was last known to listen, monotonic ns; 0 is not yet.
    pub seen_ns: u64,
    /// When its client is looked for again, monotonic ns; 0 is with the next message.
    pub look_at_ns: u64,
    /// Group it belongs to.
    pub group: Option<Box<str>>,
    /// Served when at least so many messages wait for delivery; 0 does not count.
    pub pending_min: u64,
    /// Served when at least so many messages wait for acknowledgement; 0 does not count.
    pub ack_pending_min: u64,
    /// The pin that the client believes to have.
    pub pin: Option<Box<str>>,
    /// Served before requests with a higher number.
    pub priority: u8,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Waiting {
    requests: VecDeque<Request>,
}

impl Waiting {
    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// None waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Adds a request behind all of its priority.
    pub fn push(&mut self, request: Request) {
        let behind = |other: &Request| other.priority <= request.priority;
        let mut at = self.requests.len();
        while at > 0 && self.requests.get(at - 1).is_some_and(|other| !behind(other)) {
            at -= 1;
        }
        self.requests.insert(at, request);
    }

    /// The request at a position.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&Request> {
        self.requests.get(at)
    }

    /// The request at a position, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Request> {
        self.requests.get_mut(at)
    }

    /// Takes the request at a position out.
    pub fn remove(&mut self, at: usize) -> Option<Request> {
        self.requests.remove(at)
    }

    /// Moves a request behind all others of its priority: the next message is another's.
    pub fn rotate(&mut self, at: usize) {
        if self.requests.len() > 1
            && let Some(request) = self.requests.remove(at)
        {
            self.push(request);
        }
    }

    /// The requests in order.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter()
    }

    /// Takes all of them out.
    pub fn take_all(&mut self) -> VecDeque<Request> {
        std::mem::take(&mut self.requests)
    }

    /// The earliest end or heartbeat of a request, monotonic ns.
    #[must_use]
    pub fn next_deadline_ns(&self) -> u64 {
        let due = |request: &Request| {
            let mut end = if request.expires_ns == 0 { u64::MAX } else { request.expires_ns };
            if request.look_at_ns != 0 {
                end = end.min(request.look_at_ns);
            }
            if request.heartbeat_ns == 0 { end } else { end.min(request.heartbeat_at_ns) }
        };
        self.requests.iter().map(due).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(reply: &str, priority: u8) -> Request {
        Request {
            reply: reply.as_bytes().into(),
            left: 1,
            delivered: 0,
            bytes_left: None,
            expires_ns: 0,
            no_wait: false,
            heartbeat_ns: 0,
            heartbeat_at_ns: 0,
            received_ns: 0,
            seen_ns: 0,
            look_at_ns: 0,
            group: None,
            pending_min: 0,
            ack_pending_min: 0,
            pin: None,
            priority,
        }
    }

    #[test]
    fn lower_numbers_come_first_and_turns_go_round() {
        let mut waiting = Waiting::default();
        for (reply, priority) in [("a", 1), ("b", 0), ("c", 1), ("d", 0)] {
            waiting.push(request(reply, priority));
        }
        let order = |waiting: &Waiting| -> Vec<u8> {
            waiting.iter().filter_map(|request| request.reply.first().copied()).collect()
        };
        assert_eq!(order(&waiting), b"bdac");
        waiting.rotate(0);
        assert_eq!(order(&waiting), b"dbac");
    }

    #[test]
    fn the_next_deadline_is_the_earliest() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.next_deadline_ns(), u64::MAX);
        waiting.push(Request { expires_ns: 50, ..request("a", 0) });
        waiting.push(Request {
            expires_ns: 90,
            heartbeat_ns: 10,
            heartbeat_at_ns: 40,
            ..request("b", 0)
        });
        assert_eq!(waiting.next_deadline_ns(), 40);
    }
}
