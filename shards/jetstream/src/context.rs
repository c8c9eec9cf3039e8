//! What every decision of JetStream may look at beside its own state.

/// Who listens, as the subject index of this shard knows it.
pub trait Interest {
    /// Whether any client, here or on another shard, would get a message to this subject.
    fn has_interest(&self, account: u32, subject: &[u8]) -> bool;

    /// Whether any client has subscribed to this very subject, without a queue or as a member of
    /// `queue`.
    fn has_own_interest(&self, account: u32, subject: &[u8], _queue: Option<&[u8]>) -> bool {
        self.has_interest(account, subject)
    }
}

/// The moment and the surroundings of a decision.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Monotonic, ns: for waiting times.
    pub mono_ns: u64,
    /// Wall clock, ns since 1970: for time stamps. May jump.
    pub unix_ns: i64,
    /// Who listens.
    pub interest: &'a dyn Interest,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("mono_ns", &self.mono_ns)
            .field("unix_ns", &self.unix_ns)
            .finish_non_exhaustive()
    }
}
