//! The configured users, and who a connection has become.

use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use wire::secret::Secret;

use super::permissions::{PermissionSettings, Permissions};
use super::settings::{ConnectionKind, ConnectionKinds, Credential, GLOBAL_ACCOUNT, UserSettings};
use super::{AuthError, Login, Reason, nkey, password};

/// How a user proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// A password in the clear.
    Plain(Secret),
    /// A bcrypt hash of one.
    Bcrypt(Secret),
    /// A signature by this key.
    Nkey(Box<VerifyingKey>),
    /// None at all: the user of a server without logins.
    Nothing,
}

impl Proof {
    pub(super) fn of_password(text: &Secret) -> Self {
        match password::bcrypt_cost(text.expose()) {
            Some(_) => Self::Bcrypt(text.clone()),
            None => Self::Plain(text.clone()),
        }
    }
}

/// Permissions as configured and as compiled.
#[derive(Debug, Clone)]
pub(super) struct SharedPermissions {
    settings: Arc<PermissionSettings>,
    compiled: Arc<Permissions>,
}

impl SharedPermissions {
    pub(super) fn new(user: &str, settings: &PermissionSettings) -> Result<Self, AuthError> {
        let compiled = Permissions::compile(settings)
            .map_err(|error| AuthError::Permission { user: user.to_owned(), error })?;
        Ok(Self { settings: Arc::new(settings.clone()), compiled: Arc::new(compiled) })
    }
}

/// A user of the table; shared by its connections.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Arc<str>,
    pub(super) proof: Proof,
    account: Arc<str>,
    permissions: Option<SharedPermissions>,
    kinds: ConnectionKinds,
    is_system: bool,
}

impl User {
    /// A user without proof and permissions in the global account.
    pub(super) fn nameless(name: &str, proof: Proof) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            proof,
            account: GLOBAL_ACCOUNT.into(),
            permissions: None,
            kinds: ConnectionKinds::default(),
            is_system: false,
        })
    }

    /// A configured user; `defaults` are for users without permissions of their own.
    pub(super) fn new(
        settings: &UserSettings,
        defaults: Option<&SharedPermissions>,
        account: &Arc<str>,
        is_system: bool,
    ) -> Result<Self, AuthError> {
        let (name, proof) = match &settings.credential {
            Credential::Password { user, password } => (user, Proof::of_password(password)),
            Credential::Nkey(text) => {
                let key = nkey::user_key(text).ok_or_else(|| AuthError::Nkey(text.clone()))?;
                (text, Proof::Nkey(Box::new(key)))
            }
        };
        let permissions = match &settings.permissions {
            Some(own) => Some(SharedPermissions::new(name, own)?),
            None => defaults.cloned(),
        };
        Ok(Self {
            name: name.as_str().into(),
            proof,
            account: Arc::clone(account),
            permissions,
            kinds: settings.connection_kinds,
            is_system,
        })
    }

    /// Makes a connection this user's. The only way to an identity of a configured user, so that
    /// no path of login can leave a restriction out.
    pub(super) fn bind(user: &Arc<Self>, kind: ConnectionKind) -> Login {
        if !user.kinds.allows(kind) {
            return Login::Reject(Reason::ConnectionKind);
        }
        let permissions = user.permissions.as_ref();
        Login::Accept(Identity {
            account: Arc::clone(&user.account),
            user: Arc::clone(&user.name),
            permissions: permissions.map(|both| Arc::clone(&both.compiled)),
            permission_settings: permissions.map(|both| Arc::clone(&both.settings)),
            connection_kinds: user.kinds,
            is_system: user.is_system,
            is_no_auth: false,
            source: Some(Arc::clone(user)),
        })
    }
}

/// Who a connection has become.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The account it belongs to.
    pub account: Arc<str>,
    /// The user's name or public nkey; what the client called itself where no login is needed;
    /// empty for a login by token.
    pub user: Arc<str>,
    /// Compiled permissions; none restricts nothing.
    pub permissions: Option<Arc<Permissions>>,
    /// The same as configured, for reports.
    pub permission_settings: Option<Arc<PermissionSettings>>,
    /// The ways in which the user may connect.
    pub connection_kinds: ConnectionKinds,
    /// The account is the system account.
    pub is_system: bool,
    /// It gave no credentials; what it became follows from the configuration alone.
    pub is_no_auth: bool,
    /// The configured user, if there is one.
    pub(super) source: Option<Arc<User>>,
}

impl Identity {
    /// Somebody in the global account of a server without logins.
    #[must_use]
    pub fn anonymous(user: &str) -> Self {
        Self {
            account: GLOBAL_ACCOUNT.into(),
            user: user.into(),
            permissions: None,
            permission_settings: None,
            connection_kinds: ConnectionKinds::default(),
            is_system: false,
            is_no_auth: true,
            source: None,
        }
    }
}
