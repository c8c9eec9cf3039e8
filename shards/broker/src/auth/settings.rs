//! Who may log in, as configured: the input of [`super::AuthTable`].

use wire::secret::Secret;

use super::permissions::PermissionSettings;

/// The account of everybody who is not in another one.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The system account when the configuration names no other.
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// A way to connect, as named by `allowed_connection_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionKind {
    /// A client over TCP or TLS.
    Standard,
    /// A client over WebSocket.
    Websocket,
    /// A leaf node.
    Leafnode,
    /// A leaf node over WebSocket.
    LeafnodeWs,
    /// An MQTT client.
    Mqtt,
    /// An MQTT client over WebSocket.
    MqttWs,
    /// A client inside the server's process.
    InProcess,
}

impl ConnectionKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Standard,
        Self::Websocket,
        Self::Leafnode,
        Self::LeafnodeWs,
        Self::Mqtt,
        Self::MqttWs,
        Self::InProcess,
    ];

    /// The configuration's name of the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Websocket => "WEBSOCKET",
            Self::Leafnode => "LEAFNODE",
            Self::LeafnodeWs => "LEAFNODE_WS",
            Self::Mqtt => "MQTT",
            Self::MqttWs => "MQTT_WS",
            Self::InProcess => "IN_PROCESS",
        }
    }

    /// The kind of a configured name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// A set of connection kinds; empty means every kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionKinds(u8);

impl ConnectionKinds {
    /// The set with one more kind.
    #[must_use]
    pub const fn with(self, kind: ConnectionKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Whether a user limited to this set may connect in that way.
    #[must_use]
    pub const fn allows(self, kind: ConnectionKind) -> bool {
        self.0 == 0 || self.0 & (1 << kind as u8) != 0
    }
}

impl FromIterator<ConnectionKind> for ConnectionKinds {
    fn from_iter<I: IntoIterator<Item = ConnectionKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::default(), Self::with)
    }
}

/// How a configured user proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password, plain or bcrypt; an absent password is the empty one.
    Password {
        /// The name.
        user: String,
        /// The password or its bcrypt hash.
        password: Secret,
    },
    /// The public nkey of the user, `U...`, which signs the nonce.
    Nkey(String),
}

/// One configured user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSettings {
    /// Name and proof.
    pub credential: Credential,
    /// The user's own permissions; when absent, the defaults of its block apply.
    pub permissions: Option<PermissionSettings>,
    /// The ways in which the user may connect.
    pub connection_kinds: ConnectionKinds,
}

impl UserSettings {
    /// A user with a password and nothing else.
    #[must_use]
    pub fn with_password(user: &str, password: &str) -> Self {
        let credential = Credential::Password { user: user.into(), password: password.into() };
        Self { credential, permissions: None, connection_kinds: ConnectionKinds::default() }
    }

    /// A user with an nkey and nothing else.
    #[must_use]
    pub fn with_nkey(nkey: &str) -> Self {
        let credential = Credential::Nkey(nkey.into());
        Self { credential, permissions: None, connection_kinds: ConnectionKinds::default() }
    }
}

/// One configured account, as far as logins go.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AccountSettings {
    /// Its name.
    pub name: String,
    /// Its users.
    pub users: Vec<UserSettings>,
    /// For users of this account without permissions of their own.
    pub default_permissions: Option<PermissionSettings>,
}

/// The `authorization` block and the users of `accounts`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// The configuration has an `authorization` block, even an empty one. Without it, a server
    /// whose only account is the system account lets everybody else into the global account.
    pub authorization_present: bool,
    /// The single user's name.
    pub user: Option<String>,
    /// The single user's password, plain or bcrypt. Alone, without a user, it does nothing, as in
    /// nats-server.
    pub password: Option<Secret>,
    /// The token, plain or bcrypt.
    pub token: Option<Secret>,
    /// Users of the global account.
    pub users: Vec<UserSettings>,
    /// For those of `users` without permissions of their own.
    pub default_permissions: Option<PermissionSettings>,
    /// The declared accounts, whether they have users or not.
    pub accounts: Vec<AccountSettings>,
    /// The system account's name; [`SYSTEM_ACCOUNT`] when absent.
    pub system_account: Option<String>,
    /// The user of connections that give no credentials.
    pub no_auth_user: Option<String>,
    /// Nanoseconds until a connection must have logged in.
    pub timeout_ns: Option<u64>,
}

impl AuthSettings {
    /// Whether anything outside `accounts` says who may log in. A caller that fills in users but
    /// forgets the flag must not open the server.
    pub(super) const fn has_authorization(&self) -> bool {
        self.authorization_present
            || self.user.is_some()
            || self.password.is_some()
            || self.token.is_some()
            || !self.users.is_empty()
            || self.default_permissions.is_some()
    }
}
