//! The one table of `-ERR` texts and of the reasons a connection was closed for.
//!
//! Clients match on these texts, some by equality and some by pattern, so every letter and quote
//! counts. What closes and what does not is part of the table.

use std::borrow::Cow;
use std::fmt;

/// Everything a client can be told with `-ERR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError<'a> {
    /// The parser did not know the verb, or the line broke its grammar.
    UnknownOperation,
    /// Missing or wrong credentials, or another verb before CONNECT where a login is needed.
    AuthorizationViolation,
    /// No valid CONNECT within the time allowed.
    AuthenticationTimeout,
    /// The credentials of the user ran out.
    UserAuthenticationExpired,
    /// The user was revoked or removed.
    UserAuthenticationRevoked,
    /// The account's own claims ran out.
    AccountAuthenticationExpired,
    /// The server is full.
    MaxConnectionsExceeded,
    /// The account is full.
    MaxAccountConnectionsExceeded,
    /// The connection or account has all the subscriptions it may have.
    MaxSubscriptionsExceeded,
    /// A publish larger than `max_payload`.
    MaxPayloadViolation,
    /// A control line larger than `max_control_line`.
    MaxControlLineExceeded,
    /// Pedantic only; the message is processed all the same.
    InvalidPublishSubject,
    /// A subscription to something that is not a subject.
    InvalidSubject,
    /// Too many pings without an answer.
    StaleConnection,
    /// Plain bytes where TLS was demanded.
    TlsRequired,
    /// Too many TLS handshakes in this second.
    ConnectionThrottled,
    /// The account could not be registered.
    FailedAccountRegistration,
    /// `protocol` in CONNECT is neither 0 nor 1.
    InvalidClientProtocol,
    /// `no_responders` without `headers` in CONNECT.
    NoRespondersRequiresHeaders,
    /// A publish to a subject that is not allowed.
    PublishDenied {
        /// The subject.
        subject: &'a [u8],
    },
    /// A publish with a reply subject that is not allowed.
    PublishReplyDenied {
        /// The reply subject.
        reply: &'a [u8],
    },
    /// A subscription that is not allowed.
    SubscriptionDenied {
        /// The subject.
        subject: &'a [u8],
        /// The queue group, if there was one.
        queue: Option<&'a [u8]>,
    },
    /// A subscription with more tokens than `max_sub_tokens`.
    TooManyTokens {
        /// The subject.
        subject: &'a [u8],
    },
    /// An existing subscription that a reload took away.
    SubscriptionRemoved {
        /// The subject.
        subject: &'a [u8],
        /// The queue group, if there was one.
        queue: Option<&'a [u8]>,
        /// The client's name for it.
        sid: &'a [u8],
    },
    /// A client on the route port.
    WrongPortRoute,
    /// A client on the gateway port.
    WrongPortGateway,
    /// A client on the leaf node port.
    WrongPortLeaf,
}

impl ClientError<'_> {
    /// The text between the quotes. Bytes that are not UTF-8 are shown as U+FFFD.
    pub fn text(&self) -> Cow<'static, str> {
        match *self {
            Self::PublishDenied { subject } => {
                format!("Permissions Violation for Publish to \"{}\"", show(subject)).into()
            }
            Self::PublishReplyDenied { reply } => {
                let reply = show(reply);
                format!("Permissions Violation for Publish with Reply of \"{reply}\"").into()
            }
            Self::SubscriptionDenied { subject, queue } => denied_sub(subject, queue).into(),
            Self::TooManyTokens { subject } => {
                format!("{}, too many tokens", denied_sub(subject, None)).into()
            }
            Self::SubscriptionRemoved { subject, queue, sid } => {
                format!("{} (sid \"{}\")", denied_sub(subject, queue), show(sid)).into()
            }
            _ => self.fixed_text().into(),
        }
    }

    /// The text where it names no subject; empty for those that do.
    pub const fn fixed_text(&self) -> &'static str {
        match self {
            Self::UnknownOperation => "Unknown Protocol Operation",
            Self::AuthorizationViolation => "Authorization Violation",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::UserAuthenticationExpired => "User Authentication Expired",
            Self::UserAuthenticationRevoked => "User Authentication Revoked",
            Self::AccountAuthenticationExpired => "Account Authentication Expired",
            Self::MaxConnectionsExceeded => "maximum connections exceeded",
            Self::MaxAccountConnectionsExceeded => "maximum account active connections exceeded",
            Self::MaxSubscriptionsExceeded => "maximum subscriptions exceeded",
            Self::MaxPayloadViolation => "Maximum Payload Violation",
            Self::MaxControlLineExceeded => "maximum control line exceeded",
            Self::InvalidPublishSubject => "Invalid Publish Subject",
            Self::InvalidSubject => "Invalid Subject",
            Self::StaleConnection => "Stale Connection",
            Self::TlsRequired => "Secure Connection - TLS Required",
            Self::ConnectionThrottled => "Connection throttling is active. Please try again later.",
            Self::FailedAccountRegistration => "Failed Account Registration",
            Self::InvalidClientProtocol => "invalid client protocol",
            Self::NoRespondersRequiresHeaders => "no responders requires headers support",
            Self::WrongPortRoute => "attempted to connect to route port",
            Self::WrongPortGateway => "attempted to connect to gateway port",
            Self::WrongPortLeaf => "attempted to connect to leaf node port",
            Self::PublishDenied { .. }
            | Self::PublishReplyDenied { .. }
            | Self::SubscriptionDenied { .. }
            | Self::TooManyTokens { .. }
            | Self::SubscriptionRemoved { .. } => "",
        }
    }

    /// Whether the connection ends after this error.
    pub const fn closes(&self) -> bool {
        self.reason().is_some()
    }

    /// Why the connection ends, or `None` where it goes on.
    pub const fn reason(&self) -> Option<ClosedReason> {
        Some(match self {
            Self::UnknownOperation => ClosedReason::ProtocolViolation,
            Self::AuthorizationViolation => ClosedReason::AuthenticationFailure,
            Self::AuthenticationTimeout => ClosedReason::AuthenticationTimeout,
            Self::UserAuthenticationExpired | Self::AccountAuthenticationExpired => {
                ClosedReason::AuthenticationExpired
            }
            Self::UserAuthenticationRevoked => ClosedReason::CredentialsRevoked,
            Self::MaxConnectionsExceeded => ClosedReason::MaxConnectionsExceeded,
            Self::MaxAccountConnectionsExceeded => ClosedReason::MaxAccountConnectionsExceeded,
            Self::MaxPayloadViolation => ClosedReason::MaxPayloadExceeded,
            Self::MaxControlLineExceeded => ClosedReason::MaxControlLineExceeded,
            Self::StaleConnection => ClosedReason::StaleConnection,
            Self::TlsRequired | Self::ConnectionThrottled => ClosedReason::TlsHandshakeError,
            Self::FailedAccountRegistration => ClosedReason::MissingAccount,
            Self::InvalidClientProtocol => ClosedReason::BadClientProtocolVersion,
            Self::NoRespondersRequiresHeaders => ClosedReason::NoRespondersRequiresHeaders,
            Self::WrongPortRoute | Self::WrongPortGateway | Self::WrongPortLeaf => {
                ClosedReason::WrongPort
            }
            Self::MaxSubscriptionsExceeded
            | Self::InvalidPublishSubject
            | Self::InvalidSubject
            | Self::PublishDenied { .. }
            | Self::PublishReplyDenied { .. }
            | Self::SubscriptionDenied { .. }
            | Self::TooManyTokens { .. }
            | Self::SubscriptionRemoved { .. } => return None,
        })
    }
}

/// Bytes of a subject as text for an error message.
fn show(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The common part of the three texts about subscriptions.
fn denied_sub(subject: &[u8], queue: Option<&[u8]>) -> String {
    let subject = show(subject);
    match queue {
        None => format!("Permissions Violation for Subscription to \"{subject}\""),
        Some(queue) => format!(
            "Permissions Violation for Subscription to \"{subject}\" using queue \"{}\"",
            show(queue)
        ),
    }
}

/// Declares [`ClosedReason`] and its texts in one place, so that none can be forgotten.
macro_rules! closed_reasons {
    ($($name:ident => $text:literal,)*) => {
        /// Why a connection was closed, as `/connz` and disconnect events name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ClosedReason {
            $(#[doc = $text] $name,)*
        }

        impl ClosedReason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name of the reason, letter for letter as monitoring tools expect it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

closed_reasons! {
    ClientClosed => "Client Closed",
    AuthenticationTimeout => "Authentication Timeout",
    AuthenticationFailure => "Authentication Failure",
    TlsHandshakeError => "TLS Handshake Failure",
    SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
    SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
    WriteError => "Write Error",
    ReadError => "Read Error",
    ParseError => "Parse Error",
    StaleConnection => "Stale Connection",
    ProtocolViolation => "Protocol Violation",
    BadClientProtocolVersion => "Bad Client Protocol Version",
    WrongPort => "Incorrect Port",
    MaxConnectionsExceeded => "Maximum Connections Exceeded",
    MaxAccountConnectionsExceeded => "Maximum Account Connections Exceeded",
    MaxPayloadExceeded => "Maximum Message Payload Exceeded",
    MaxControlLineExceeded => "Maximum Control Line Exceeded",
    MaxSubscriptionsExceeded => "Maximum Subscriptions Exceeded",
    DuplicateRoute => "Duplicate Route",
    RouteRemoved => "Route Removed",
    ServerShutdown => "Server Shutdown",
    AuthenticationExpired => "Authentication Expired",
    WrongGateway => "Wrong Gateway",
    MissingAccount => "Missing Account",
    CredentialsRevoked => "Credentials Revoked",
    InternalClient => "Internal Client",
    HeaderViolation => "Message Header Violation",
    NoRespondersRequiresHeaders => "No Responders Requires Headers",
    ClusterNameConflict => "Cluster Name Conflict",
    DuplicateRemoteLeafNode => "Duplicate Remote LeafNode Connection",
    DuplicateClientId => "Duplicate Client ID",
    DuplicateServerName => "Duplicate Server Name",
    MinimumVersionRequired => "Minimum Version Required",
    ClusterNamesIdentical => "Cluster Names Identical",
    Kicked => "Kicked",
    ProxyNotTrusted => "Proxy Not Trusted",
    ProxyRequired => "Proxy Required",
    Unknown => "Unknown State",
}

impl fmt::Display for ClosedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_names_are_quoted_exactly() {
        let (subject, queue, sid) = (b"foo.>".as_slice(), Some(b"q".as_slice()), b"7".as_slice());
        let cases = [
            (
                ClientError::PublishDenied { subject },
                "Permissions Violation for Publish to \"foo.>\"",
            ),
            (
                ClientError::PublishReplyDenied { reply: subject },
                "Permissions Violation for Publish with Reply of \"foo.>\"",
            ),
            (
                ClientError::SubscriptionDenied { subject, queue: None },
                "Permissions Violation for Subscription to \"foo.>\"",
            ),
            (
                ClientError::SubscriptionDenied { subject, queue },
                "Permissions Violation for Subscription to \"foo.>\" using queue \"q\"",
            ),
            (
                ClientError::TooManyTokens { subject },
                "Permissions Violation for Subscription to \"foo.>\", too many tokens",
            ),
            (
                ClientError::SubscriptionRemoved { subject, queue: None, sid },
                "Permissions Violation for Subscription to \"foo.>\" (sid \"7\")",
            ),
            (
                ClientError::SubscriptionRemoved { subject, queue, sid },
                "Permissions Violation for Subscription to \"foo.>\" using queue \"q\" (sid \"7\")",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.text(), text);
            assert!(!error.closes() && error.fixed_text().is_empty());
        }
    }

    #[test]
    fn what_closes_and_why() {
        assert!(ClientError::StaleConnection.closes());
        assert!(!ClientError::InvalidSubject.closes());
        assert!(!ClientError::InvalidPublishSubject.closes());
        assert!(!ClientError::MaxSubscriptionsExceeded.closes());
        let reason = ClientError::MaxPayloadViolation.reason().map(ClosedReason::as_str);
        assert_eq!(reason, Some("Maximum Message Payload Exceeded"));
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> =
            ClosedReason::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), ClosedReason::ALL.len());
        assert_eq!(names.len(), 38);
    }
}
