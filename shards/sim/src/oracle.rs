//! The model: what was published, who must and who may have it, and in which order.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which rule, and how.
    pub rule: String,
    /// The last steps before it was found.
    pub steps: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.rule)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

/// A published message.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) publisher: usize,
    pub(crate) sequence: u64,
    pub(crate) account: usize,
    pub(crate) subject: String,
    pub(crate) reply: String,
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// Subscriptions that were confirmed when it was sent: client and sid.
    pub(crate) due: Vec<(usize, u64)>,
}

/// All that was published and delivered.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Published>,
    /// Deliveries of each message: client and sid.
    pub(crate) deliveries: HashMap<usize, Vec<(usize, u64)>>,
    /// The last sequence that a plain subscription had of a publisher.
    pub(crate) last: HashMap<(usize, usize, u64), u64>,
    /// The queue groups that had a message already.
    pub(crate) groups: HashSet<(usize, String)>,
    pub(crate) delivered: usize,
}

/// The message number that a payload begins with.
pub(crate) fn number_of(payload: &[u8]) -> Option<usize> {
    let text: String =
        payload.iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
    text.parse().ok()
}
