//! What a user may publish, subscribe to and receive.
//!
//! The rules are nats-server's: an absent or empty allow list allows everything, a deny always
//! wins, and entries of subscribe lists may be limited to a queue (`"subject queue"`). A wildcard
//! subscription that merely overlaps a deny is accepted, and each delivery to it is checked.
//!
//! One rule is stricter than nats-server. There, the `*` of an allow entry also accepts a `>` in a
//! subscription, so that `allow: "foo.*"` lets a client subscribe to `foo.>` and receive
//! `foo.a.b`. Here that subscription is accepted too, and its deliveries are held to the list.

use super::rules::{RuleError, RuleList};

/// Subject lists for one direction, as configured.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RuleSettings {
    /// What is allowed; everything when absent or empty.
    pub allow: Option<Vec<String>>,
    /// What is not, whatever `allow` says.
    pub deny: Vec<String>,
}

/// How a user may answer requests that its publish rules would refuse to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseSettings {
    /// Messages for each request; 0 or less is no limit (in the configuration only less).
    pub max: i64,
    /// Nanoseconds from the request's delivery; 0 is no limit.
    pub expires_ns: u64,
}

impl ResponseSettings {
    /// The limits of an `allow_responses` map: absent and 0 mean the default, a negative number
    /// no limit.
    #[must_use]
    pub fn from_config(max: Option<i64>, expires_ns: Option<i64>) -> Self {
        let default = Self::default();
        let max = max.filter(|&max| max != 0).unwrap_or(default.max);
        let expires_ns = match expires_ns {
            None | Some(0) => default.expires_ns,
            // A negative time is no limit, which is 0 here.
            Some(expires_ns) => u64::try_from(expires_ns).unwrap_or(0),
        };
        Self { max, expires_ns }
    }
}

impl Default for ResponseSettings {
    /// What `allow_responses: true` means: one message within two minutes.
    fn default() -> Self {
        Self { max: 1, expires_ns: 120 * 1_000_000_000 }
    }
}

/// A user's permissions, as configured.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PermissionSettings {
    /// Publishing. Entries are subject patterns.
    pub publish: RuleSettings,
    /// Subscribing. Entries are subject patterns, or a pattern and a queue.
    pub subscribe: RuleSettings,
    /// Answering. When set without a publish allow list, all other publishing is denied.
    pub allow_responses: Option<ResponseSettings>,
}

/// The answer to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeVerdict {
    /// Every message on it may be delivered.
    Allowed,
    /// Accepted, but each delivery must pass [`Permissions::can_receive`].
    AllowedButFilter,
    /// Refused.
    Denied,
}

/// What publishing starts from, before the deny list.
#[derive(Debug)]
enum PublishAllow {
    All,
    Nothing,
    Listed(Box<RuleList>),
}

/// Compiled permissions; shared by all connections of a user.
#[derive(Debug)]
pub struct Permissions {
    publish_allow: PublishAllow,
    publish_deny: Option<RuleList>,
    subscribe_allow: Option<RuleList>,
    subscribe_deny: Option<RuleList>,
    responses: Option<ResponseSettings>,
}

/// An empty list is the same as none.
fn compile(entries: &[String], with_queues: bool) -> Result<Option<RuleList>, RuleError> {
    if entries.is_empty() {
        return Ok(None);
    }
    RuleList::compile(entries, with_queues).map(Some)
}

impl Permissions {
    /// Compiles configured permissions.
    ///
    /// # Errors
    ///
    /// The first entry that is no subject pattern, or has more fields than its list may.
    pub fn compile(settings: &PermissionSettings) -> Result<Self, RuleError> {
        let allow = settings.publish.allow.as_deref().unwrap_or_default();
        let publish_allow = match compile(allow, false)? {
            Some(list) => PublishAllow::Listed(Box::new(list)),
            None if settings.allow_responses.is_some() => PublishAllow::Nothing,
            None => PublishAllow::All,
        };
        let subscribe_allow = settings.subscribe.allow.as_deref().unwrap_or_default();
        Ok(Self {
            publish_allow,
            publish_deny: compile(&settings.publish.deny, false)?,
            subscribe_allow: compile(subscribe_allow, true)?,
            subscribe_deny: compile(&settings.subscribe.deny, true)?,
            responses: settings.allow_responses,
        })
    }

    /// Whether the publish rules allow a subject; permits for responses come on top.
    #[must_use]
    pub fn can_publish(&self, subject: &[u8]) -> bool {
        let allowed = match &self.publish_allow {
            PublishAllow::All => true,
            PublishAllow::Nothing => false,
            PublishAllow::Listed(list) => list.matches(subject),
        };
        allowed && self.publish_deny.as_ref().is_none_or(|list| !list.matches(subject))
    }

    /// Whether any subject at all may be refused for publishing.
    #[must_use]
    pub const fn restricts_publishing(&self) -> bool {
        !matches!(self.publish_allow, PublishAllow::All) || self.publish_deny.is_some()
    }

    /// The limits of responses, when deliveries must be noted for them.
    #[must_use]
    pub const fn responses(&self) -> Option<ResponseSettings> {
        self.responses
    }

    /// Whether a subscription may be made.
    #[must_use]
    pub fn can_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeVerdict {
        let mut filter = false;
        if let Some(list) = &self.subscribe_allow {
            let hits = list.hits(subject, queue);
            // Entries with a queue, once any matches the subject, decide alone about queues.
            let allowed = if hits.any_queue { hits.queue } else { hits.plain };
            if !allowed {
                return SubscribeVerdict::Denied;
            }
            filter |= !list.covers(subject, queue);
        }
        if let Some(list) = &self.subscribe_deny {
            let hits = list.hits(subject, queue);
            if hits.plain || hits.queue {
                return SubscribeVerdict::Denied;
            }
            filter |= list.overlaps(subject, queue);
        }
        if filter { SubscribeVerdict::AllowedButFilter } else { SubscribeVerdict::Allowed }
    }

    /// Whether a message may be delivered to a subscription that was accepted with
    /// [`SubscribeVerdict::AllowedButFilter`].
    #[must_use]
    pub fn can_receive(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let allowed = self.subscribe_allow.as_ref().is_none_or(|list| {
            let hits = list.hits(subject, queue);
            hits.plain || hits.queue
        });
        allowed
            && self.subscribe_deny.as_ref().is_none_or(|list| {
                let hits = list.hits(subject, queue);
                !hits.plain && !hits.queue
            })
    }
}

/// Subjects that the server keeps to itself, on every account: nobody's client may publish there.
const RESERVED_PUBLISH: [&[u8]; 2] = [b"_GR_.", b"$GR."];
/// As above, but clients of the system account may.
const RESERVED_PUBLISH_EXCEPT_SYSTEM: &[u8] = b"$NRG.";
/// Subjects that no client may give as the reply of a message.
const RESERVED_REPLY: [&[u8]; 4] = [b"_R_.", b"$JS.ACK.", b"_GR_.", b"$GR."];
/// The queue name that no client may use.
const RESERVED_QUEUE: &[u8] = b"_sys_";

/// Whether a publish is refused whatever the permissions say.
#[must_use]
pub fn is_reserved_publish(subject: &[u8], is_system: bool) -> bool {
    // Nearly every subject differs in its first byte.
    matches!(subject.first(), Some(b'_' | b'$'))
        && (RESERVED_PUBLISH.iter().any(|prefix| subject.starts_with(prefix))
            || (!is_system && subject.starts_with(RESERVED_PUBLISH_EXCEPT_SYSTEM)))
}

/// Whether a publish is refused because of its reply.
#[must_use]
pub fn is_reserved_reply(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'_' | b'$'))
        && RESERVED_REPLY.iter().any(|prefix| reply.starts_with(prefix))
}

/// Whether a subscription is refused because of its queue.
#[must_use]
pub fn is_reserved_queue(queue: &[u8]) -> bool {
    queue == RESERVED_QUEUE
}
