//! What one connection may do: its user's permissions, the server's reserved names, and the
//! replies it may answer.

use std::sync::Arc;

use super::permissions::{
    Permissions, SubscribeVerdict, is_reserved_publish, is_reserved_queue, is_reserved_reply,
};
use super::replies::ReplyPermits;

/// Why a publish is refused; each has its own `-ERR` text, none closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishViolation {
    /// The subject is denied or reserved.
    Subject,
    /// The reply is reserved.
    Reply,
}

/// See the module. Lives on: the connection's shard.
#[derive(Debug, Default)]
pub struct Rights {
    permissions: Option<Arc<Permissions>>,
    replies: Option<Box<ReplyPermits>>,
    is_system: bool,
}

impl Rights {
    /// The rights of a connection that was bound to a user with these permissions, or to one
    /// without any. The seed keys the table of replies and must not be known to clients.
    #[must_use]
    pub fn new(permissions: Option<Arc<Permissions>>, is_system: bool, seed: u64) -> Self {
        let responses = permissions.as_ref().and_then(|permissions| permissions.responses());
        let replies = responses.map(|settings| Box::new(ReplyPermits::new(settings, seed)));
        Self { permissions, replies, is_system }
    }

    /// Whether a message may be published. Publishing to a permitted reply counts as an answer,
    /// so ask once for each message.
    ///
    /// # Errors
    ///
    /// What is wrong; the subject is looked at first.
    pub fn check_publish(
        &mut self,
        subject: &[u8],
        reply: Option<&[u8]>,
        now_ns: u64,
    ) -> Result<(), PublishViolation> {
        let allowed = !is_reserved_publish(subject, self.is_system)
            && (self.permissions.as_ref().is_none_or(|rules| rules.can_publish(subject))
                || self.replies.as_mut().is_some_and(|replies| replies.allows(subject, now_ns)));
        if !allowed {
            return Err(PublishViolation::Subject);
        }
        if reply.is_some_and(is_reserved_reply) {
            return Err(PublishViolation::Reply);
        }
        Ok(())
    }

    /// True when no user's permissions apply; the server's reserved names still do.
    #[inline]
    #[must_use]
    pub const fn is_unrestricted(&self) -> bool {
        self.permissions.is_none()
    }

    /// True when the answer of [`Rights::check_publish`] for a subject may be kept: nothing that
    /// it depends on changes with time or traffic.
    #[must_use]
    pub const fn publish_is_static(&self) -> bool {
        self.replies.is_none()
    }

    /// Notes a delivery with a reply, which the client may then answer.
    pub fn note_delivery(&mut self, reply: &[u8], now_ns: u64) {
        if let Some(replies) = &mut self.replies
            && !self.permissions.as_ref().is_none_or(|rules| rules.can_publish(reply))
        {
            replies.grant(reply, now_ns);
        }
    }

    /// True when deliveries with a reply must be noted.
    #[must_use]
    pub const fn tracks_replies(&self) -> bool {
        self.replies.is_some()
    }

    /// Whether a subscription may be made.
    #[must_use]
    pub fn can_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeVerdict {
        if queue.is_some_and(is_reserved_queue) {
            return SubscribeVerdict::Denied;
        }
        self.permissions
            .as_ref()
            .map_or(SubscribeVerdict::Allowed, |rules| rules.can_subscribe(subject, queue))
    }

    /// Whether a message may be delivered to a subscription that is to be filtered.
    #[must_use]
    pub fn can_receive(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.permissions.as_ref().is_none_or(|rules| rules.can_receive(subject, queue))
    }
}
