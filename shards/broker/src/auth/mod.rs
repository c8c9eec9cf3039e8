//! Logging in: from a CONNECT to an [`Identity`], and what that identity may do.
//!
//! ```text
//!   CONNECT ──► AuthTable::begin ──┬─► Accept(Identity) ──► Rights of the connection
//!   other verb first ──► no_auth ──┼─► Reject(Reason)   ──► -ERR 'Authorization Violation'
//!                                  └─► VerifyPassword   ──► bcrypt elsewhere ──► finish ──► ...
//! ```
//! The order of methods is nats-server's: nkey users, then users with passwords, or the single
//! token. Whatever the method, `User::bind` alone makes an identity of a configured user.
//!
//! Lives on: every shard (replica of the configuration).

mod nkey;
mod password;
mod permissions;
mod replies;
mod rights;
mod rules;
mod settings;
mod users;

#[cfg(test)]
mod permission_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use thiserror::Error;
use wire::client::connect::Connect;
use wire::secret::Secret;

pub use password::{PasswordCheck, is_bcrypt};
pub use permissions::{
    PermissionSettings, Permissions, ResponseSettings, RuleSettings, SubscribeVerdict,
    is_reserved_publish, is_reserved_queue, is_reserved_reply,
};
pub use replies::{REPLY_PERMITS_MAX, ReplyPermits};
pub use rights::{PublishViolation, Rights};
pub use rules::RuleError;
pub use settings::{
    AccountSettings, AuthSettings, ConnectionKind, ConnectionKinds, Credential, GLOBAL_ACCOUNT,
    SYSTEM_ACCOUNT, UserSettings,
};
pub use users::Identity;

use password::Target;
use users::{Proof, SharedPermissions, User};

/// The name of the user that a server whose only account is the system account lets in.
const IMPLICIT_USER: &str = "nats-default";

/// Where a login stands.
#[derive(Debug)]
pub enum Login {
    /// Done.
    Accept(Identity),
    /// Refused; the client is told `Authorization Violation` whatever the reason.
    Reject(Reason),
    /// A bcrypt hash must be verified off the shard, then [`AuthTable::finish`].
    VerifyPassword(PasswordCheck),
}

/// Why a login was refused. For logs and counters, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Reason {
    /// CONNECT asked for an account.
    #[error("CONNECT names an account")]
    AccountField,
    /// No credentials where some are needed.
    #[error("no credentials")]
    NoCredentials,
    /// No such user or nkey.
    #[error("unknown user")]
    UnknownUser,
    /// The password or token does not fit.
    #[error("wrong password")]
    WrongPassword,
    /// The signature of the nonce is missing or does not verify.
    #[error("wrong signature")]
    Signature,
    /// The user may not connect in this way.
    #[error("connection type not allowed")]
    ConnectionKind,
}

/// Why settings make no table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    /// Two users of one name, in whatever accounts.
    #[error("duplicate user {0:?}")]
    DuplicateUser(String),
    /// Not the public nkey of a user.
    #[error("{0:?} is not a valid public nkey for a user")]
    Nkey(String),
    /// A permission that cannot be compiled.
    #[error("user {user:?}: {error}")]
    Permission {
        /// The user, or the account for default permissions.
        user: String,
        /// What is wrong.
        error: RuleError,
    },
    /// `no_auth_user` names nobody.
    #[error("no_auth_user {0:?} is not a user")]
    NoAuthUser(String),
    /// Two of: single user, token, several users.
    #[error("more than one of user, token and users")]
    Exclusive,
}

/// What a server asks of its clients.
#[derive(Debug)]
enum Mode {
    /// Nothing.
    Open,
    /// The token, which leads to this user.
    Token(Arc<User>),
    /// A user, by password or nkey.
    Users,
}

type Users = HashMap<Arc<str>, Arc<User>, FxBuildHasher>;

/// The users of a server; see the module.
#[derive(Debug)]
pub struct AuthTable {
    mode: Mode,
    users: Users,
    nkeys: Users,
    no_auth: Option<Arc<User>>,
    /// The user of `no_auth` is not configured: clients are still told that a login is required.
    is_implicit: bool,
    /// What unknown users are checked against when some passwords are bcrypt.
    dummy: Option<Secret>,
}

impl AuthTable {
    /// Builds the table.
    ///
    /// # Errors
    ///
    /// The first user, permission or combination that cannot be used.
    pub fn new(settings: &AuthSettings) -> Result<Self, AuthError> {
        let mut table = Self::open();
        table.add_configured_users(settings)?;
        let has_users = !table.users.is_empty() || !table.nkeys.is_empty();
        match (&settings.user, &settings.token, has_users) {
            (None, None, false) => {}
            (None, None, true) => table.mode = Mode::Users,
            (None, Some(token), false) => {
                table.mode = Mode::Token(User::nameless("", Proof::of_password(token)));
            }
            (Some(name), None, false) => {
                let password = settings.password.clone().unwrap_or_default();
                table.add(User::nameless(name, Proof::of_password(&password)))?;
                table.mode = Mode::Users;
            }
            _ => return Err(AuthError::Exclusive),
        }
        table.set_no_auth_user(settings, has_users)?;
        let costs = table.users.values().filter_map(|user| match &user.proof {
            Proof::Bcrypt(hash) => password::bcrypt_cost(hash.expose()),
            _ => None,
        });
        table.dummy = costs.max().map(password::dummy_bcrypt);
        Ok(table)
    }

    fn add_configured_users(&mut self, settings: &AuthSettings) -> Result<(), AuthError> {
        let system = settings.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT);
        let blocks = settings
            .accounts
            .iter()
            .map(|account| (account.name.as_str(), &account.users, &account.default_permissions))
            .chain([(GLOBAL_ACCOUNT, &settings.users, &settings.default_permissions)]);
        for (name, users, defaults) in blocks {
            let defaults = defaults.as_ref();
            let defaults = defaults.map(|rules| SharedPermissions::new(name, rules)).transpose()?;
            let account: Arc<str> = name.into();
            for user in users {
                let user = User::new(user, defaults.as_ref(), &account, name == system)?;
                self.add(Arc::new(user))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, user: Arc<User>) -> Result<(), AuthError> {
        let users = match user.proof {
            Proof::Nkey(_) => &mut self.nkeys,
            _ => &mut self.users,
        };
        let name = user.name.to_string();
        match users.insert(Arc::clone(&user.name), user) {
            Some(_) => Err(AuthError::DuplicateUser(name)),
            None => Ok(()),
        }
    }

    fn set_no_auth_user(
        &mut self,
        settings: &AuthSettings,
        has_users: bool,
    ) -> Result<(), AuthError> {
        let system = settings.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT);
        if let Some(name) = &settings.no_auth_user {
            let found = self.users.get(name.as_str()).or_else(|| self.nkeys.get(name.as_str()));
            let found = found.filter(|_| has_users).cloned();
            self.no_auth = Some(found.ok_or_else(|| AuthError::NoAuthUser(name.clone()))?);
        } else if !settings.has_authorization()
            && !settings.accounts.is_empty()
            && settings.accounts.iter().all(|account| account.name == system)
        {
            // Only the system account is configured, and nothing says that others must log in.
            self.no_auth = Some(User::nameless(IMPLICIT_USER, Proof::Nothing));
            self.is_implicit = true;
            self.mode = Mode::Users;
        }
        Ok(())
    }

    /// A table that lets everybody into the global account.
    #[must_use]
    pub fn open() -> Self {
        Self {
            mode: Mode::Open,
            users: Users::default(),
            nkeys: Users::default(),
            no_auth: None,
            is_implicit: false,
            dummy: None,
        }
    }

    /// Whether nobody has to log in.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.mode, Mode::Open)
    }

    /// Whether INFO says that a login is required.
    #[must_use]
    pub const fn auth_required(&self) -> bool {
        match self.mode {
            Mode::Open => false,
            Mode::Token(_) => true,
            Mode::Users => self.no_auth.is_none() || self.is_implicit,
        }
    }

    /// Whether INFO must carry a nonce.
    #[must_use]
    pub fn nonce_required(&self) -> bool {
        !self.nkeys.is_empty()
    }

    /// Whether a connection may start with a verb other than CONNECT.
    #[must_use]
    pub const fn allows_no_auth(&self) -> bool {
        matches!(self.mode, Mode::Open) || self.no_auth.is_some()
    }

    /// A login by CONNECT. `nonce` is the text of INFO, empty when INFO had none.
    #[must_use]
    pub fn begin(&self, connect: &Connect, kind: ConnectionKind, nonce: &[u8]) -> Login {
        if connect.account.is_some() || connect.new_account {
            return Login::Reject(Reason::AccountField);
        }
        match &self.mode {
            Mode::Open => {
                let name = connect.user.as_deref().unwrap_or_default();
                Login::Accept(Identity::anonymous(name))
            }
            Mode::Token(user) => match &connect.auth_token {
                Some(token) => Self::check_password(user, kind, token),
                None => Login::Reject(Reason::NoCredentials),
            },
            Mode::Users => self.begin_user(connect, kind, nonce),
        }
    }

    fn begin_user(&self, connect: &Connect, kind: ConnectionKind, nonce: &[u8]) -> Login {
        if let Some(text) = connect.nkey.as_deref().filter(|_| !self.nkeys.is_empty()) {
            let Some(user) = self.nkeys.get(text) else {
                return Login::Reject(Reason::UnknownUser);
            };
            let signature = connect.sig.as_ref().map_or("", Secret::expose);
            return match &user.proof {
                Proof::Nkey(key) if nkey::verify(key, nonce, signature) => User::bind(user, kind),
                _ => Login::Reject(Reason::Signature),
            };
        }
        let Some(name) = connect.user.as_deref() else {
            let has_secret = connect.pass.is_some() || connect.auth_token.is_some();
            return if has_secret {
                Login::Reject(Reason::UnknownUser)
            } else {
                self.no_auth_identity(kind)
            };
        };
        let given = connect.pass.clone().unwrap_or_default();
        match (self.users.get(name), &self.dummy) {
            (Some(user), _) => Self::check_password(user, kind, &given),
            (None, Some(dummy)) => {
                let check = PasswordCheck::new(dummy.clone(), given, Target::Nobody);
                Login::VerifyPassword(check)
            }
            (None, None) => {
                std::hint::black_box(password::is_same(given.expose(), given.expose()));
                Login::Reject(Reason::UnknownUser)
            }
        }
    }

    fn check_password(user: &Arc<User>, kind: ConnectionKind, given: &Secret) -> Login {
        match &user.proof {
            Proof::Plain(text) if password::is_same(text.expose(), given.expose()) => {
                User::bind(user, kind)
            }
            Proof::Bcrypt(hash) => {
                let target = Target::User(Arc::clone(user), kind);
                Login::VerifyPassword(PasswordCheck::new(hash.clone(), given.clone(), target))
            }
            Proof::Plain(_) | Proof::Nkey(_) | Proof::Nothing => {
                Login::Reject(Reason::WrongPassword)
            }
        }
    }

    /// Ends a login whose password was verified elsewhere.
    #[must_use]
    pub fn finish(check: PasswordCheck, verified: bool) -> Login {
        check.finish(verified)
    }

    /// The identity of a connection that gives no credentials, or whose first verb is not CONNECT.
    #[must_use]
    pub fn no_auth_identity(&self, kind: ConnectionKind) -> Login {
        let login = match (&self.mode, &self.no_auth) {
            (Mode::Open, _) => Login::Accept(Identity::anonymous("")),
            (_, Some(user)) => User::bind(user, kind),
            _ => Login::Reject(Reason::NoCredentials),
        };
        match login {
            Login::Accept(identity) => Login::Accept(Identity { is_no_auth: true, ..identity }),
            other => other,
        }
    }

    /// The identity under this table of a connection that logged in under an earlier one: the
    /// same user with the same credentials, its permissions as they are now. Nothing when the
    /// connection must be closed with `Authorization Violation`.
    #[must_use]
    pub fn rebind(&self, old: &Identity, kind: ConnectionKind) -> Option<Identity> {
        let login = match (&self.mode, &old.source) {
            (Mode::Open, _) => Login::Accept(Identity::anonymous(&old.user)),
            (_, None) => self.no_auth_identity(kind),
            (_, Some(_)) if old.is_no_auth => self.no_auth_identity(kind),
            (Mode::Token(user), Some(source)) => Self::rebind_user(Some(user), source, kind),
            (Mode::Users, Some(source)) => {
                let named = match source.proof {
                    Proof::Nkey(_) => self.nkeys.get(&source.name),
                    _ => self.users.get(&source.name),
                };
                Self::rebind_user(named, source, kind)
            }
        };
        match login {
            Login::Accept(identity) => Some(identity),
            Login::Reject(_) | Login::VerifyPassword(_) => None,
        }
    }

    fn rebind_user(now: Option<&Arc<User>>, before: &User, kind: ConnectionKind) -> Login {
        match now {
            Some(user) if user.name == before.name && user.proof == before.proof => {
                User::bind(user, kind)
            }
            _ => Login::Reject(Reason::UnknownUser),
        }
    }
}
